/* args.c -- fuzz target: a command line, its words ended by NUL bytes, the first a command's name:
 * parsed by the command's table, then every value read as a number, a list and ids. What is
 * accepted is in the range that was asked for; the rest is a usage error with a sentence. */
#include "flags.h"
#include "fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

enum { kWords = 64 };

static const nb_flag flags[] = {{"samples", 0, "N", "a number"}, {"ctx", 'c', "N", "a number"},
                                {"temp", 0, "T", "a real"},      {"batch", 'b', "LIST", "a list"},
                                {"raw", 0, NULL, "a switch"},    {NULL, 0, NULL, NULL}};

static nb_status never(const nb_args *a, nb_error *err)
{
    (void)a;
    (void)err;
    return NB_OK;
}

const nb_command nb_fuzz_command = {.name = "quantize",
                                    .operands = "MODEL",
                                    .summary = "for the fuzzer",
                                    .flags = flags,
                                    .run = never,
                                    .n_operand = 2};
const nb_command *const nb_commands[] = {&nb_fuzz_command, NULL};

static void values(const nb_args *a)
{
    int32_t list[5] = {0}, n = 7, *ids = NULL;
    double v = 0.5;
    size_t n_id = 0;
    nb_error err = {.offset = -1};
    for (int i = 0; i < a->n; i++) {
        const char *name = a->flag[i]->name;
        nb_status st = nb_flag_int(a, name, -1, 1 << 20, &n, &err);
        FUZZ_PROMISE(st == NB_OK ? n >= -1 && n <= 1 << 20 : st == NB_USAGE && err.message[0],
                     "a number in its range");
        st = nb_flag_real(a, name, 0.0, 2.0, &v, &err);
        FUZZ_PROMISE(st == NB_OK ? v >= 0.0 && v <= 2.0 : st == NB_USAGE && err.message[0],
                     "a real in its range");
        st = nb_flag_list(a, name, 1, 4096, list, 4, &err);
        FUZZ_PROMISE(st == NB_OK || (st == NB_USAGE && err.message[0]), "a list or a refusal");
        for (int k = 0; st == NB_OK && k < 4 && list[k]; k++)
            FUZZ_PROMISE(list[k] >= 1 && list[k] <= 4096, "a list in its range");
        st = nb_parse_ids(a->value[i], &ids, &n_id, &err);
        FUZZ_PROMISE((st == NB_OK) == (ids != NULL), "ids or a refusal");
        for (size_t k = 0; st == NB_OK && k < n_id; k++)
            FUZZ_PROMISE(ids[k] >= 0, "ids are not negative");
        free(ids);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = malloc(size + 1), *word[kWords];
    int n = 0;
    nb_args a;
    nb_error err = {.offset = -1};
    if (!copy)
        return 0;
    if (size)
        memcpy(copy, data, size);
    copy[size] = 0;
    for (size_t at = 0; at < size && n < kWords; at += strlen(copy + at) + 1)
        word[n++] = copy + at;
    if (n) {
        (void)nb_global_flag(word[0]);
        const nb_status st = nb_args_parse(&nb_fuzz_command, n, word, &a, &err);
        FUZZ_PROMISE(st == NB_OK || ((st == NB_USAGE || st == NB_UNSUPPORTED) && err.message[0]),
                     "flags or a usage error");
        if (st == NB_OK)
            values(&a);
    }
    free(copy);
    return 0;
}
