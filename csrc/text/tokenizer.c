/* tokenizer.c -- opening, and text to ids: control tokens are found first, the runs between them are cut and encoded. */
#include "text/vocab.h"

#include <stdlib.h>
#include <string.h>

void nb_ids_free(nb_ids *v)
{
    free(v->p);
    *v = (nb_ids){0};
}

nb_status nb_tokenizer_open(const nb_container *c, nb_tokenizer **out, nb_error *err)
{
    *out = NULL;
    nb_tokenizer *t = nb_alloc_zero(1, sizeof *t, "a tokenizer", err);
    if (!t)
        return NB_NO_ROOM;
    t->bos = t->eos = t->unknown = -1;
    t->arena = nb_arena_open("a tokenizer", err);
    nb_status st = t->arena ? NB_OK : NB_NO_ROOM;
    if (st == NB_OK && c->gguf)
        st = nb_vocab_from_gguf(t, c, err);
    else if (st == NB_OK && c->tokenizer)
        st = nb_vocab_from_json(t, c, err);
    else if (st == NB_OK)
        st = nb_fail_at(err, NB_NOT_FOUND, c->path, -1, "no tokenizer.json beside the weights");
    if (st != NB_OK) {
        nb_tokenizer_close(t);
        return st;
    }
    *out = t;
    return NB_OK;
}

void nb_tokenizer_close(nb_tokenizer *t)
{
    if (!t)
        return;
    nb_pretokenize_close(t);
    nb_arena_close(t->arena);
    free(t);
}

/* ---- encoding ---- */

struct target {
    const nb_tokenizer *t;
    nb_ids *out;
};

static nb_status encode_piece(void *arg, const char *p, size_t n, nb_error *err)
{
    const struct target *to = arg;
    return nb_bpe_encode(to->t, p, n, to->out, err);
}

/* Plain text [p, p + n): guard bytes dropped, broken UTF-8 replaced, spaces spelled U+2581 where the vocabulary does; then cut and encoded. */
static nb_status encode_plain(const nb_tokenizer *t, const char *p, size_t n, nb_ids *out, nb_error *err)
{
    if (n == 0)
        return NB_OK;
    char *clean = nb_alloc(n + 1, 3, "a text", err); /* a byte becomes at most 3: U+FFFD or U+2581; one more for the prefix */
    size_t m = 0;
    if (!clean)
        return NB_NO_ROOM;
    if (t->space_prefix) {
        memcpy(clean, "\xe2\x96\x81", 3);
        m = 3;
    }
    for (size_t i = 0; i < n;) {
        const int len = nb_utf8_length(p + i, n - i);
        if (len == 0 && p[i] == NB_TOKENIZE_GUARD) {
            i++;
        } else if (len == 0 || (p[i] == ' ' && !t->byte_level)) {
            memcpy(clean + m, len ? "\xe2\x96\x81" : "\xef\xbf\xbd", 3);
            m += 3;
            i++;
        } else {
            memcpy(clean + m, p + i, (size_t)len);
            m += (size_t)len;
            i += (size_t)len;
        }
    }
    struct target to = {t, out};
    const nb_status st = nb_pretokenize(t, clean, m, encode_piece, &to, err);
    free(clean);
    return st;
}

/* The longest control or user token that begins at p; -1 if none. */
static int32_t special_at(const nb_tokenizer *t, const char *p, size_t n, bool control)
{
    const unsigned char c = (unsigned char)p[0];
    for (int32_t i = 0; i < t->n_special[c]; i++) {
        const int32_t id = t->special[c][i];
        const nb_str s = t->token[id];
        if (s.n <= n && memcmp(s.p, p, s.n) == 0 && (control || t->type[id] == NB_TOKEN_USER))
            return id;
    }
    return -1;
}

nb_status nb_tokenizer_encode(const nb_tokenizer *t, const char *text, size_t n, unsigned flags, nb_ids *out, nb_error *err)
{
    enum { kMostText = 64 << 20 };
    const bool control = flags & NB_TOKENIZE_SPECIAL;
    size_t from = 0;
    nb_status st = NB_OK;
    if (n > kMostText)
        return nb_fail(err, NB_NO_ROOM, "a text of %zu bytes, at most %d are taken at once", n, kMostText);
    if ((flags & NB_TOKENIZE_BOS) && t->adds_bos)
        st = nb_ids_add(out, t->bos, err);
    for (size_t i = 0; i < n && st == NB_OK;) {
        const int32_t id = special_at(t, text + i, n - i, control);
        if (id < 0) {
            i++;
            continue;
        }
        st = encode_plain(t, text + from, i - from, out, err);
        if (st == NB_OK)
            st = nb_ids_add(out, id, err);
        i += t->token[id].n;
        from = i;
    }
    if (st == NB_OK)
        st = encode_plain(t, text + from, n - from, out, err);
    if (st == NB_OK && (flags & NB_TOKENIZE_BOS) && t->adds_eos)
        st = nb_ids_add(out, t->eos, err);
    return st;
}

/* ---- questions ---- */

const char *nb_tokenizer_piece(const nb_tokenizer *t, int32_t id, size_t *n)
{
    *n = id >= 0 && id < t->n ? t->piece[id].n : 0;
    return id >= 0 && id < t->n ? t->piece[id].p : NULL;
}

const char *nb_tokenizer_token(const nb_tokenizer *t, int32_t id, size_t *n)
{
    *n = id >= 0 && id < t->n ? t->token[id].n : 0;
    return id >= 0 && id < t->n ? t->token[id].p : NULL;
}

int32_t nb_tokenizer_vocab_size(const nb_tokenizer *t)
{
    return t->n;
}

int32_t nb_tokenizer_bos(const nb_tokenizer *t)
{
    return t->bos;
}

int32_t nb_tokenizer_eos(const nb_tokenizer *t)
{
    return t->eos;
}

bool nb_tokenizer_adds_bos(const nb_tokenizer *t)
{
    return t->adds_bos;
}

bool nb_tokenizer_is_end(const nb_tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->n && t->is_end[id];
}

bool nb_tokenizer_is_control(const nb_tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->n && t->type[id] == NB_TOKEN_CONTROL;
}

const char *nb_tokenizer_chat_template(const nb_tokenizer *t, size_t *n)
{
    *n = t->chat_template_n;
    return t->chat_template;
}

/* ---- back to text ---- */

void nb_detok_init(nb_detok *d, const nb_tokenizer *t)
{
    *d = (nb_detok){.t = t};
}

/* How many bytes the character that begins with c should have; 1 for what cannot begin one. */
static int announced(unsigned char c)
{
    return c >= 0xf0 && c < 0xf5 ? 4 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xc2 && c < 0xe0 ? 2 : 1;
}

static nb_status drain(nb_detok *d, bool all, nb_buf *out, nb_error *err)
{
    nb_status st = NB_OK;
    int at = 0;
    while (at < d->n_pending && st == NB_OK) {
        const int left = d->n_pending - at, len = nb_utf8_length(d->pending + at, (size_t)left);
        if (len == 0 && !all && left < announced((unsigned char)d->pending[at]))
            break; /* the rest may still come */
        st = len ? nb_buf_add(out, d->pending + at, (size_t)len, err) : nb_buf_add(out, "\xef\xbf\xbd", 3, err);
        at += len ? len : 1;
    }
    memmove(d->pending, d->pending + at, (size_t)(d->n_pending - at));
    d->n_pending -= at;
    return st;
}

nb_status nb_detok_push(nb_detok *d, int32_t id, nb_buf *out, nb_error *err)
{
    size_t n = 0;
    const char *p = nb_tokenizer_piece(d->t, id, &n);
    nb_status st = NB_OK;
    if (!p)
        return NB_OK; /* a gap in the vocabulary stands for nothing */
    if (n && !d->started && d->t->space_prefix && p[0] == ' ') {
        p++;
        n--;
    }
    d->started = true;
    for (size_t i = 0; i < n && st == NB_OK; i++) {
        d->pending[d->n_pending++] = p[i];
        st = drain(d, false, out, err); /* never holds more than 3 bytes afterwards */
    }
    return st;
}

nb_status nb_detok_flush(nb_detok *d, nb_buf *out, nb_error *err)
{
    return drain(d, true, out, err);
}
