/* tokenizer.c -- opening, and text to ids: special tokens are found first, the runs of plain text
 * between them are normalized, cut and encoded. Linear in the text but for the merge loop's log. */
#include "file/utf8.h"
#include "text/vocab.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

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
    t->bos = t->eos = t->unknown = t->padding = -1;
    t->arena = nb_arena_open("a tokenizer", err);
    nb_status st = t->arena ? NB_OK : NB_NO_ROOM;
    if (st == NB_OK && c->gguf)
        st = nb_vocab_from_gguf(t, c, err);
    else if (st == NB_OK && c->tokenizer)
        st = nb_vocab_from_json(t, c, err);
    else if (st == NB_OK && c->tokenizer_model)
        st = nb_vocab_from_spm(t, c, err);
    else if (st == NB_OK)
        st = nb_fail_at(err, NB_NOT_FOUND, c->path, -1,
                        "no tokenizer.json or tokenizer.model beside the weights");
    if (st == NB_OK)
        st = nb_special_open(t, err);
    if (st != NB_OK) {
        nb_tokenizer_close(t);
        return st;
    }
    t->adds_bos = t->adds_bos && t->bos >= 0;
    t->adds_eos = t->adds_eos && t->eos >= 0;
    *out = t;
    return NB_OK;
}

void nb_tokenizer_close(nb_tokenizer *t)
{
    if (!t)
        return;
    nb_special_close(t->special);
    nb_pretokenize_close(t);
    nb_arena_close(t->arena);
    free(t);
}

/* ---- encoding ---- */

struct job { /* one call's scratch */
    const nb_tokenizer *t;
    nb_ids *out;
    nb_buf a, b, spaced;
    nb_cutter cutter;
    nb_bpe bpe;
    nb_hits hits;
};

static nb_status encode_piece(void *arg, const char *p, size_t n, nb_error *err)
{
    struct job *j = arg;
    return j->t->unigram ? nb_unigram_encode(j->t, &j->bpe, p, n, j->out, err)
                         : nb_bpe_encode(j->t, &j->bpe, p, n, j->out, err);
}

static nb_status encode_plain(struct job *j, const char *p, size_t n, bool first, nb_error *err)
{
    const nb_buf *text = NULL;
    if (n == 0)
        return NB_OK;
    const nb_status st = nb_normalize(j->t, p, n, first, &j->a, &j->b, &text, err);
    if (st != NB_OK || text->n == 0)
        return st;
    return nb_pretokenize(j->t, &j->cutter, text->p, text->n, encode_piece, j, err);
}

/* Is the character at p one of a word (\w of Rust's regex: letters, marks, digits, connectors)? */
static bool of_word(const char *p, size_t n)
{
    uint32_t c = 0;
    if (!n || !nb_utf8_at((const unsigned char *)p, n, &c))
        return false;
    const utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_NL) || k == UTF8PROC_CATEGORY_PC ||
           c == 0x200c || c == 0x200d;
}

/* Does a word begin before `at` and go on there, or go on behind `end`? */
static bool inside_word(const char *p, size_t n, size_t at, size_t end)
{
    size_t back = 1;
    while (back < 4 && back < at && ((unsigned char)p[at - back] & 0xc0) == 0x80)
        back++;
    return (at && of_word(p + at - back, back)) || of_word(p + end, n - end);
}

static nb_status encode(struct job *j, const char *p, size_t n, bool control, nb_error *err)
{
    size_t from = 0;
    nb_status st = nb_special_find(j->t, p, n, control, &j->hits, err);
    if (j->t->space_first && j->hits.n) {
        const nb_hit first = j->hits.p[j->hits.n - 1];
        /* a control token needs no space before it */
        from = first.at == 1 && j->t->type[first.id] != NB_TOKEN_USER;
    }
    for (size_t k = j->hits.n; k-- > 0 && st == NB_OK;) { /* the first in the text is last */
        const nb_hit hit = j->hits.p[k];
        if (hit.at < from)
            continue; /* inside the token before */
        const uint8_t strip = j->t->strip[hit.id];
        if (strip & NB_SINGLE_WORD && inside_word(p, n, hit.at, hit.at + j->t->token[hit.id].n))
            continue;
        const size_t end = strip & NB_STRIP_LEFT ? nb_strip_end(p, from, hit.at) : hit.at;
        st = encode_plain(j, p + from, end > from ? end - from : 0, from == 0, err);
        if (st == NB_OK)
            st = nb_ids_add(j->out, hit.id, err);
        from = hit.at + j->t->token[hit.id].n;
        for (size_t w = 1; w && strip & NB_STRIP_RIGHT; from += w)
            w = nb_white(p + from, n - from);
    }
    return st == NB_OK ? encode_plain(j, p + from, n - from, from == 0, err) : st;
}

nb_status nb_tokenizer_encode(const nb_tokenizer *t, const char *text, size_t n, unsigned flags,
                              nb_ids *out, nb_error *err)
{
    struct job j = {.t = t, .out = out};
    if (n > NB_MAX_TEXT_BYTES)
        return nb_fail(err, NB_NO_ROOM, "a text of %zu bytes, at most %d are taken at once", n,
                       NB_MAX_TEXT_BYTES);
    nb_status st = nb_cutter_open(t, &j.cutter, err);
    if (st == NB_OK && (flags & NB_TOKENIZE_BOS) && t->adds_bos)
        st = nb_ids_add(out, t->bos, err);
    nb_buf_init(&j.spaced, n + 1);
    if (st == NB_OK && t->space_first && n) {
        st = nb_buf_add(&j.spaced, " ", 1, err);
        st = st == NB_OK ? nb_buf_add(&j.spaced, text, n, err) : st;
        text = j.spaced.p;
        n = j.spaced.n;
    }
    if (st == NB_OK)
        st = encode(&j, text, n, flags & NB_TOKENIZE_SPECIAL, err);
    if (st == NB_OK && (flags & NB_TOKENIZE_BOS) && t->adds_eos)
        st = nb_ids_add(out, t->eos, err);
    nb_cutter_close(&j.cutter);
    nb_bpe_close(&j.bpe);
    nb_buf_free(&j.a);
    nb_buf_free(&j.b);
    nb_buf_free(&j.spaced);
    free(j.hits.p);
    return st;
}

/* ---- questions ---- */

static const char *text_of(const nb_tokenizer *t, const nb_str *of, int32_t id, size_t *n)
{
    const bool there = id >= 0 && id < t->n;
    *n = there ? of[id].n : 0;
    return there ? of[id].p : NULL;
}

const char *nb_tokenizer_piece(const nb_tokenizer *t, int32_t id, size_t *n)
{
    return text_of(t, t->piece, id, n);
}

const char *nb_tokenizer_token(const nb_tokenizer *t, int32_t id, size_t *n)
{
    return text_of(t, t->token, id, n);
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

int32_t nb_tokenizer_padding(const nb_tokenizer *t)
{
    return t->padding;
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
    return id >= 0 && id < t->n &&
           (t->type[id] == NB_TOKEN_CONTROL || t->type[id] == NB_TOKEN_UNKNOWN);
}

const char *nb_tokenizer_chat_template(const nb_tokenizer *t, size_t *n)
{
    *n = t->chat_template_n;
    return t->chat_template;
}
