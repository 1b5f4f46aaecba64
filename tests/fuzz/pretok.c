/* pretok.c -- fuzz target: how text is cut into words (hardening.md TK): a byte of flags, a
 * pattern, a NUL byte, and a text.
 *
 *   flags: 1 what lies between the matches is dropped, 2 the pattern is a name of GGUF's
 * (tokenizer.ggml.pre), 4 the pattern twice, one inside the other
 *
 * A pattern is taken or refused with a sentence; the pieces lie in the text one behind the other
 * and, if nothing is dropped, cover it; the same again. */
#include "fuzz/fuzz.h"
#include "text/broken.h"
#include "text/vocab.h"

#include <stdlib.h>
#include <string.h>

enum { kMostText = 256 }; /* each of its matches may take a million steps */

typedef struct seen {
    const char *text, *at, *end;
    bool drops;
    uint64_t hash;
} seen;

static nb_status piece(void *arg, const char *p, size_t n, nb_error *err)
{
    seen *s = arg;
    (void)err;
    FUZZ_PROMISE(n > 0 && p >= s->at && p + n <= s->end,
                 "pieces lie in the text, one behind the other");
    FUZZ_PROMISE(s->drops || p == s->at, "they cover the text");
    for (size_t i = 0; i < n;) {
        const size_t len = nb_utf8_whole(p + i, n - i);
        FUZZ_PROMISE(len > 0, "no character is cut");
        i += len;
    }
    s->at = p + n;
    s->hash = (s->hash ^ (uint64_t)(p - s->text)) * 0x100000001b3u;
    return NB_OK;
}

static nb_status cut(const nb_tokenizer *t, const char *text, size_t n, bool drops, uint64_t *hash,
                     nb_error *err)
{
    nb_cutter w;
    seen s = {text, text, text + n, drops, 14695981039346656037u};
    nb_status st = nb_cutter_open(t, &w, err);
    if (st == NB_OK)
        st = nb_pretokenize(t, &w, text, n, piece, &s, err);
    FUZZ_PROMISE(st != NB_OK || drops || s.at == s.end, "they cover the whole text");
    nb_cutter_close(&w);
    *hash = s.hash;
    return st;
}

/* Characters only, as normalization hands them on. */
static size_t whole(const uint8_t *p, size_t n, char *out)
{
    size_t m = 0;
    for (size_t i = 0; i < n && m + 4 <= kMostText;) {
        const size_t len = nb_utf8_whole((const char *)p + i, n - i);
        if (len)
            memcpy(out + m, p + i, len);
        m += len;
        i += len ? len : 1;
    }
    return m;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    const unsigned flags = data[0];
    const uint8_t *const end = memchr(data + 1, 0, size - 1);
    const nb_str pattern = {(const char *)data + 1, end ? (size_t)(end - data - 1) : size - 1};
    char text[kMostText];
    const size_t n = end ? whole(end + 1, size - 1 - (size_t)(end - data), text) : 0;
    nb_tokenizer t;
    nb_error err = {.offset = -1};
    memset(&t, 0, sizeof t);
    nb_status st = flags & 2 ? nb_pretokenize_named(&t, "fuzz", pattern, &err)
                             : nb_pretokenize_add(&t, "fuzz", 7, pattern, flags & 1, &err);
    if (st == NB_OK && (flags & 6) == 4)
        st = nb_pretokenize_add(&t, "fuzz", 7, pattern, flags & 1, &err);
    FUZZ_PROMISE(st == NB_OK || ((st == NB_BAD_INPUT || st == NB_UNSUPPORTED) && err.message[0]),
                 "a pattern or a refusal");
    if (st == NB_OK) {
        uint64_t a = 0, b = 0;
        st = cut(&t, text, n, (flags & 3) == 1, &a, &err);
        FUZZ_PROMISE(st == NB_OK || (st == NB_BAD_INPUT && err.message[0]), "pieces or a refusal");
        FUZZ_PROMISE(cut(&t, text, n, (flags & 3) == 1, &b, NULL) == st && (st != NB_OK || a == b),
                     "twice the same");
    }
    nb_pretokenize_close(&t);
    return 0;
}
