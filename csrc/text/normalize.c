/* normalize.c -- the steps that turn a run of plain text into what the vocabulary is spelled in:
 * guard bytes dropped and broken UTF-8 replaced, then Prepend, Replace and Unicode normal forms.
 *
 * Each step is linear; the result has at most 16 n + 4096 bytes. Normal forms are utf8proc's
 * (Unicode 15.0): it sorts combining marks by insertion, so a row of more than kMarks of them is
 * cut and each part normalized alone (UAX 15 calls text with more than 30 not stream-safe). */
#include "text/broken.h"
#include "text/vocab.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { kMarks = 1024, kGrowth = 16, kSlack = 4096 };

const int nb_form_c = UTF8PROC_STABLE | UTF8PROC_COMPOSE;

static nb_status clean(const char *p, size_t n, nb_buf *out, nb_error *err)
{
    nb_status st = NB_OK;
    size_t from = 0;
    for (size_t i = 0; i < n && st == NB_OK;) {
        bool cut = false;
        const size_t len = nb_utf8_whole(p + i, n - i);
        if (len) {
            i += len;
            continue;
        }
        if (i > from)
            st = nb_buf_add(out, p + from, i - from, err);
        if (p[i] == NB_TOKENIZE_GUARD)
            i++;
        else {
            if (st == NB_OK)
                st = nb_buf_str(out, NB_REPLACEMENT, err);
            i += nb_utf8_broken(p + i, n - i, &cut);
        }
        from = i;
    }
    return st == NB_OK && n > from ? nb_buf_add(out, p + from, n - from, err) : st;
}

size_t nb_white(const char *p, size_t n)
{
    uint32_t c = 0;
    const size_t len = n ? nb_utf8_at((const unsigned char *)p, n, &c) : 0;
    const bool is = (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xa0 || c == 0x1680 ||
                    (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
                    c == 0x205f || c == 0x3000;
    return len && is ? len : 0;
}

size_t nb_strip_end(const char *p, size_t from, size_t end)
{
    while (end > from) {
        size_t back = 1;
        while (back < 4 && end - back > from && ((unsigned char)p[end - back] & 0xc0) == 0x80)
            back++;
        if (nb_white(p + end - back, back) != back)
            break;
        end -= back;
    }
    return end;
}

static bool begins(const nb_buf *b, const char *s, size_t n)
{
    return b->n >= n && memcmp(b->p, s, n) == 0;
}

static nb_status prepend(const nb_step *s, const nb_buf *in, bool first, nb_buf *out, nb_error *err)
{
    const bool there = begins(in, s->to.p, s->to.n) || begins(in, " ", 1);
    const bool wanted =
        s->when == NB_PREPEND_ALWAYS || (s->when == NB_PREPEND_START && first) ||
        (s->when != NB_PREPEND_START && !there && (first || s->when == NB_PREPEND_MISSING));
    nb_status st = wanted ? nb_buf_add(out, s->to.p, s->to.n, err) : NB_OK;
    return st == NB_OK ? nb_buf_add(out, in->p, in->n, err) : st;
}

static nb_status replace(const nb_step *s, const nb_buf *in, nb_buf *out, nb_error *err)
{
    nb_status st = NB_OK;
    size_t from = 0;
    for (size_t i = 0; i + s->from.n <= in->n && st == NB_OK;) {
        const char *at = memchr(in->p + i, s->from.p[0], in->n - i - s->from.n + 1);
        if (!at)
            break;
        i = (size_t)(at - in->p);
        if (memcmp(at, s->from.p, s->from.n) != 0) {
            i++;
            continue;
        }
        if (i > from)
            st = nb_buf_add(out, in->p + from, i - from, err);
        if (st == NB_OK && s->to.n)
            st = nb_buf_add(out, s->to.p, s->to.n, err);
        i += s->from.n;
        from = i;
    }
    return st == NB_OK && in->n > from ? nb_buf_add(out, in->p + from, in->n - from, err) : st;
}

static nb_status strip(const nb_step *s, const nb_buf *in, nb_buf *out, nb_error *err)
{
    size_t from = 0, end = in->n;
    if (s->form & NB_STRIP_LEFT)
        for (size_t w = 1; w; from += w)
            w = nb_white(in->p + from, end - from);
    if (s->form & NB_STRIP_RIGHT)
        end = nb_strip_end(in->p, from, end);
    return nb_buf_add(out, in->p + from, end - from, err);
}

/* Words with one space between; at the end U+2581 goes as well, as SentencePiece has it. */
static nb_status squeeze(const nb_buf *in, nb_buf *out, nb_error *err)
{
    nb_status st = NB_OK;
    size_t i = 0;
    while (i < in->n && st == NB_OK) {
        size_t from = i, end = 0;
        while (from < in->n && in->p[from] == ' ')
            from++;
        for (end = from; end < in->n && in->p[end] != ' ';)
            end++;
        if (out->n && end > from)
            st = nb_buf_add(out, " ", 1, err);
        if (st == NB_OK && end > from)
            st = nb_buf_add(out, in->p + from, end - from, err);
        i = end;
    }
    while (out->n >= 3 && memcmp(out->p + out->n - 3, NB_SPACE_MARK, 3) == 0)
        for (out->n -= 3; out->n && out->p[out->n - 1] == ' ';)
            out->n--;
    return st;
}

static nb_status form_part(const nb_step *s, const char *p, size_t n, nb_buf *out, nb_error *err)
{
    utf8proc_uint8_t *made = NULL;
    const utf8proc_ssize_t m = n ? utf8proc_map((const utf8proc_uint8_t *)p, (utf8proc_ssize_t)n,
                                                &made, (utf8proc_option_t)s->form)
                                 : 0;
    if (m < 0)
        return nb_fail(err, NB_NO_ROOM, "normalizing %zu bytes of text: %s", n, utf8proc_errmsg(m));
    const nb_status st = m ? nb_buf_add(out, made, (size_t)m, err) : NB_OK;
    free(made);
    return st;
}

static nb_status form(const nb_step *s, const nb_buf *in, nb_buf *out, nb_error *err)
{
    nb_status st = NB_OK;
    size_t from = 0, ascii = 0;
    int marks = 0;
    while (ascii < in->n && (unsigned char)in->p[ascii] < 0x80)
        ascii++;
    if (ascii == in->n)
        return nb_buf_add(out, in->p, in->n, err);
    for (size_t i = 0; i < in->n && st == NB_OK;) {
        uint32_t c = 0;
        const size_t len = nb_utf8_at((const unsigned char *)in->p + i, in->n - i, &c);
        const bool mark = c >= 0x300 && utf8proc_get_property((utf8proc_int32_t)c)->combining_class;
        marks = mark ? marks + 1 : 0;
        if (marks == kMarks) {
            st = form_part(s, in->p + from, i - from, out, err);
            from = i;
            marks = 0;
        }
        i += len ? len : 1;
    }
    return st == NB_OK ? form_part(s, in->p + from, in->n - from, out, err) : st;
}

nb_status nb_normalize(const nb_tokenizer *t, const char *p, size_t n, bool first, nb_buf *a,
                       nb_buf *b, const nb_buf **out, nb_error *err)
{
    const size_t max = kGrowth * n + kSlack;
    a->max = b->max = max;
    a->n = b->n = 0;
    nb_buf *in = a, *to = b;
    nb_status st = clean(p, n, in, err);
    for (int i = 0; i < t->n_step && st == NB_OK && in->n; i++) {
        const nb_step *s = &t->step[i];
        to->n = 0;
        if (s->kind == NB_STEP_PREPEND)
            st = prepend(s, in, first, to, err);
        else if (s->kind == NB_STEP_REPLACE)
            st = replace(s, in, to, err);
        else if (s->kind == NB_STEP_CHARSMAP)
            st = nb_charsmap_apply(s->from, in, to, err);
        else if (s->kind == NB_STEP_SQUEEZE)
            st = squeeze(in, to, err);
        else if (s->kind == NB_STEP_STRIP)
            st = strip(s, in, to, err);
        else
            st = form(s, in, to, err);
        nb_buf *swap = in;
        in = to;
        to = swap;
    }
    *out = in;
    if (st == NB_NO_ROOM && (in->n + to->n > max / 2))
        return nb_fail(err, NB_BAD_INPUT,
                       "the tokenizer's normalizer makes more than %zu bytes of a text of %zu", max,
                       n);
    return st;
}
