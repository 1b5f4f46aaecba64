/* tokens.h -- what the fuzz targets of tokenizers promise of one that opened: every text becomes
 * ids or a sentence, twice the same; every id is in range and decodes; what comes out is UTF-8
 * whatever went in. */
#ifndef NB_TESTS_FUZZ_TOKENS_H
#define NB_TESTS_FUZZ_TOKENS_H

#include "file/utf8.h"
#include "fuzz/fuzz.h"
#include "text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

static inline void fuzz_decode(const nb_tokenizer *t, const nb_ids *v)
{
    nb_buf out;
    nb_detok d;
    nb_status st = NB_OK;
    nb_buf_init(&out, 1 << 20);
    nb_detok_init(&d, t);
    for (size_t i = 0; i < v->n && st == NB_OK; i++) {
        FUZZ_PROMISE(v->p[i] >= 0 && v->p[i] < nb_tokenizer_vocab_size(t), "an id in range");
        st = nb_detok_push(&d, v->p[i], &out, NULL);
    }
    if (st == NB_OK)
        st = nb_detok_flush(&d, &out, NULL);
    FUZZ_PROMISE(st == NB_OK || st == NB_NO_ROOM, "every id decodes");
    for (size_t i = 0; i < out.n;) {
        uint32_t c = 0;
        const size_t n = nb_utf8_at((const unsigned char *)out.p + i, out.n - i, &c);
        FUZZ_PROMISE(n > 0, "what is decoded is UTF-8");
        i += n;
    }
    nb_buf_free(&out);
}

static inline void fuzz_encode(const nb_tokenizer *t, const char *text, size_t n, unsigned flags)
{
    nb_ids a = {0}, b = {0};
    nb_error err = {0};
    const nb_status st = nb_tokenizer_encode(t, text, n, flags, &a, &err);
    FUZZ_PROMISE(st == NB_OK || (st == NB_BAD_INPUT && err.message[0]), "ids or a refusal");
    FUZZ_PROMISE(nb_tokenizer_encode(t, text, n, flags, &b, NULL) == st, "twice the same status");
    FUZZ_PROMISE(st != NB_OK || (a.n == b.n && (!a.n || !memcmp(a.p, b.p, a.n * sizeof *a.p))),
                 "twice the same ids");
    fuzz_decode(t, &a);
    nb_ids_free(&a);
    nb_ids_free(&b);
}

#endif
