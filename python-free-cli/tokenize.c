/* tokenize.c -- `nibble tokenize MODEL -p TEXT`: the ids of a text. */
#include "base/status.h"
#include "out.h"

#include <stdlib.h>
#include <string.h>

static const nb_flag flags[] = {
    {"prompt", 'p', "TEXT", "the text"},
    {"file", 'f', "FILE", "the text from a file (- is stdin), unchanged"},
    {"special", 0, NULL, "control tokens in the text become their ids"},
    {"no-bos", 0, NULL, "no BOS even where the model adds one"},
    {NULL, 0, NULL, NULL},
};

static nb_status run(const nb_args *a, nb_error *err)
{
    nb_model *m = NULL;
    const char *text = nb_flag_text(a, "prompt"), *file = nb_flag_text(a, "file");
    char *read = NULL;
    int32_t *ids = NULL;
    size_t text_n = text ? strlen(text) : 0, n = 0;
    nb_status st = nb_need_operand(a, "MODEL", err);
    static const char *const one[] = {"prompt", "file", NULL};
    if (st == NB_OK)
        st = nb_flag_one_of(a, one, err);
    if (st == NB_OK && !text && !file)
        st = nb_fail(err, NB_USAGE, "a text is missing: -p TEXT or -f FILE");
    if (st == NB_OK && !text) {
        st = nb_read_text(file, &read, &text_n, err);
        text = read;
    }
    if (st == NB_OK)
        st = nb_model_open_text(a->operand[0], &m, err);
    if (st == NB_OK)
        nb_warn_of_broken_text(a, "the text", text, text_n);
    const unsigned how = (nb_flag_on(a, "special") ? NB_TEXT_SPECIAL : 0u) |
                         (nb_flag_on(a, "no-bos") ? 0u : NB_TEXT_BOS);
    if (st == NB_OK)
        st = nb_model_tokenize(m, text, text_n, how, &ids, &n, err);
    if (st == NB_OK && nb_flag_on(a, "json")) {
        printf("{\"ids\":[");
        for (size_t i = 0; i < n; i++)
            printf("%s%d", i ? "," : "", ids[i]);
        printf("],\"pieces\":[");
        for (size_t i = 0; i < n; i++) {
            size_t bytes = 0;
            const char *piece = nb_model_token(m, ids[i], &bytes);
            if (i)
                putchar(',');
            nb_put_json(stdout, piece ? piece : "", bytes);
        }
        printf("]}\n");
    } else if (st == NB_OK)
        for (size_t i = 0; i < n; i++)
            printf("%d%c", ids[i], i + 1 < n ? ' ' : '\n');
    nb_free(ids);
    free(read);
    nb_model_close(m);
    return st;
}

const nb_command nb_command_tokenize = {.name = "tokenize",
                                        .operands = "MODEL -p TEXT",
                                        .summary = "Prints the token ids of a text.",
                                        .flags = flags,
                                        .run = run,
                                        .n_operand = 1};
