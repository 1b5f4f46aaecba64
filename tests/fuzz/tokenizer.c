/* tokenizer.c -- fuzz target: a tokenizer.json, a NUL byte, and a text for it.
 *
 * What opens encodes the text or refuses it with a sentence, twice the same; every id is in range
 * and decodes; what comes out is UTF-8 whatever went in. */
#include "text/tokenizer.h"
#include "file/utf8.h"
#include "fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

static void decode(const nb_tokenizer *t, const nb_ids *v)
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

static void encode(const nb_tokenizer *t, const char *text, size_t n, unsigned flags)
{
    nb_ids a = {0}, b = {0};
    nb_error err = {0};
    const nb_status st = nb_tokenizer_encode(t, text, n, flags, &a, &err);
    FUZZ_PROMISE(st == NB_OK || (st == NB_BAD_INPUT && err.message[0]), "ids or a refusal");
    FUZZ_PROMISE(nb_tokenizer_encode(t, text, n, flags, &b, NULL) == st, "twice the same status");
    FUZZ_PROMISE(st != NB_OK || (a.n == b.n && (!a.n || !memcmp(a.p, b.p, a.n * sizeof *a.p))),
                 "twice the same ids");
    decode(t, &a);
    nb_ids_free(&a);
    nb_ids_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nb_json *doc = NULL;
    nb_tokenizer *t = NULL;
    nb_error err = {0};
    const uint8_t *end = size ? memchr(data, 0, size) : NULL;
    const size_t n = end ? (size_t)(end - data) : size;
    const char *text = end ? (const char *)end + 1 : "a b";
    const size_t text_n = end ? size - n - 1 : 3;
    if (nb_json_parse("fuzz", (const char *)data, n, &doc, &err) != NB_OK)
        return 0;
    const nb_container made = {.kind = NB_CONTAINER_HF, .path = "fuzz", .tokenizer = doc};
    const nb_status st = nb_tokenizer_open(&made, &t, &err);
    FUZZ_PROMISE((st == NB_OK) == (t != NULL), "a tokenizer or a refusal");
    FUZZ_PROMISE(t || ((st == NB_BAD_INPUT || st == NB_UNSUPPORTED) && err.message[0]),
                 "a refusal has a sentence");
    if (t) {
        encode(t, text, text_n, 0);
        encode(t, text, text_n, NB_TOKENIZE_SPECIAL | NB_TOKENIZE_BOS);
    }
    nb_tokenizer_close(t);
    nb_json_close(doc);
    return 0;
}
