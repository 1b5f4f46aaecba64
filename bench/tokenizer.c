/* tokenizer.c -- milliseconds of processor time to tokenize a MiB of one class of characters, a row
 * for each file given.
 *
 *   build/release/bench/bench_tokenizer MODEL...       (a GGUF file or a folder of the hub)
 *
 * The classes are those a careless tokenizer is quadratic in: rows of letters, digits, white space,
 * marks that combine. */
#include "text/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct {
    const char *name, *unit;
} classes[] = {{"A", "A"},
               {"digits", "1"},
               {"spaces", " "},
               {"newlines", "\n"},
               {"marks", "\xcc\x81"},
               {"CJK", "\xe4\xb8\xad"},
               {"emoji", "\xf0\x9f\x98\x80"},
               {"control", "\x01"},
               {"words", "word "},
               {"signs", "."}};

enum { kBytes = 1 << 20, kClasses = sizeof classes / sizeof *classes };

static double milliseconds(void)
{
    return 1e3 * (double)clock() / CLOCKS_PER_SEC;
}

static nb_status measure(const char *path, char *text, nb_error *err)
{
    nb_container *c = NULL;
    nb_tokenizer *t = NULL;
    nb_ids ids = {0};
    const char *slash = strrchr(path, '/');
    nb_status st = nb_container_open(path, &c, err);
    if (st == NB_OK)
        st = nb_tokenizer_open(c, &t, err);
    if (st == NB_OK)
        printf("%-36.36s", slash ? slash + 1 : path);
    for (int k = 0; k < kClasses && st == NB_OK; k++) {
        const size_t unit = strlen(classes[k].unit), n = kBytes / unit * unit;
        for (size_t i = 0; i < n; i++)
            text[i] = classes[k].unit[i % unit];
        ids.n = 0;
        const double start = milliseconds();
        st = nb_tokenizer_encode(t, text, n, 0, &ids, err);
        printf(" %8.0f", milliseconds() - start);
    }
    printf("\n");
    nb_ids_free(&ids);
    nb_tokenizer_close(t);
    nb_container_close(c);
    return st;
}

int main(int argc, char **argv)
{
    nb_status st = NB_OK;
    char *text = malloc(kBytes);
    printf("%-36s", "ms for 1 MiB of");
    for (int k = 0; k < kClasses; k++)
        printf(" %8s", classes[k].name);
    printf("\n");
    for (int i = 1; i < argc && text; i++) {
        nb_error err = {.offset = -1};
        const nb_status one = measure(argv[i], text, &err);
        if (one != NB_OK)
            fprintf(stderr, "%s\n", err.message);
        st = one != NB_OK ? one : st;
    }
    free(text);
    return st == NB_OK ? 0 : 1;
}
