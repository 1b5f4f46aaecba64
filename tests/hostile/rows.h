/* rows.h -- named hostile files as a table: what each is, how it is made, which code and which word
 * it must be refused with. The parser sees an allocation of exactly the file's size, so that the
 * address sanitizer sees a read behind it. */
#ifndef NB_TESTS_HOSTILE_ROWS_H
#define NB_TESTS_HOSTILE_ROWS_H

#include "check.h"
#include "hostile/bytes.h"

typedef struct hostile_row {
    const char *sentence; /* the case's name */
    void (*build)(bytes *b);
    const char *text; /* the file, or for safetensors its header, when build is NULL */
    size_t text_n;    /* 0: up to its NUL */
    size_t data_n;    /* safetensors: bytes of data */
    nb_status want;
    const char *word; /* in the sentence of the refusal */
} hostile_row;

/* An exact copy; the caller frees it. */
static inline uint8_t *exactly(const bytes *b)
{
    uint8_t *p = malloc(b->n ? b->n : 1);
    if (!p)
        exit(1);
    if (b->n)
        memcpy(p, b->p, b->n);
    return p;
}

static inline const hostile_row *row_of(const hostile_row *rows, size_t n, const check *c)
{
    for (size_t i = 0; i < n; i++)
        if (rows[i].sentence == c->sentence)
            return &rows[i];
    return NULL;
}

/* Holds what a parser said to the row. */
static inline void check_refusal(check *c, const hostile_row *row, nb_status got,
                                 const nb_error *err)
{
    CHECK_EQ(c, got, row->want);
    if (row->want == NB_OK) {
        if (got != NB_OK)
            CHECK_STR(c, err->message, "");
        return;
    }
    CHECK_HAS(c, err->message, row->word);
    CHECK_HAS(c, err->message, "hostile.file: ");
    CHECK_EQ(c, err->code, got);
}

/* The cases of a table, then the others, to check_main. */
static inline int hostile_main(const hostile_row *rows, size_t n_row, void (*run)(check *c),
                               const check_case *more, size_t n_more, int argc, char **argv)
{
    check_case *cases = calloc(n_row + n_more, sizeof *cases);
    if (!cases)
        return 1;
    for (size_t i = 0; i < n_row; i++)
        cases[i] = (check_case){rows[i].sentence, run};
    memcpy(cases + n_row, more, n_more * sizeof *more);
    const int rc = check_main(cases, n_row + n_more, argc, argv);
    free(cases);
    return rc;
}

#endif
