/* template_string.c -- text in characters, as Python's str does it.
 *
 * A guard byte (tokenizer.h) belongs to the character before it: it has no length, is passed over
 * in every comparison and search, and goes where its character goes. Searches cost a step for each
 * 256 bytes they compare. */
#include "text/template_run.h"

#include <string.h>
#include <utf8proc.h>

static bool is_tail(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80 || c == NB_TOKENIZE_GUARD;
}

static size_t next_char(const char *p, size_t n)
{
    size_t i = 1;
    while (i < n && is_tail(p[i]))
        i++;
    return i;
}

size_t nb_tpl_char(const char *p, size_t n, uint32_t *c)
{
    if (nb_utf8_at((const unsigned char *)p, n, c) == 0)
        *c = 0xfffd;
    return next_char(p, n);
}

bool nb_tpl_white(uint32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}

int64_t nb_tpl_length(nb_tpl_value s)
{
    int64_t n = s.n > 0;
    for (uint32_t i = 1; i < s.n; i++)
        n += !is_tail(s.u.s[i]);
    return n;
}

/* Bytes of `in` at p that spell `what` (with the guards behind them), *yes whether they do. */
static size_t match(const char *p, size_t n, nb_tpl_value what, bool *yes, size_t *work)
{
    size_t i = 0;
    uint32_t k = 0;
    *yes = true;
    for (;; i++, k++) {
        while (k < what.n && what.u.s[k] == NB_TOKENIZE_GUARD)
            k++;
        while (i < n && p[i] == NB_TOKENIZE_GUARD)
            i++;
        if (k == what.n)
            break;
        if (i == n || p[i] != what.u.s[k]) {
            *yes = false;
            break;
        }
    }
    *work += i + 1;
    return i;
}

bool nb_tpl_same_text(nb_tpl_value a, nb_tpl_value b)
{
    size_t work = 0;
    bool yes = a.n == b.n && (a.n == 0 || memcmp(a.u.s, b.u.s, a.n) == 0);
    return yes || (match(a.u.s, a.n, b, &yes, &work) == a.n && yes);
}

size_t nb_tpl_find(nb_tpl_run *r, nb_tpl_value in, nb_tpl_value what, size_t from, size_t *found_n)
{
    *found_n = 0;
    if (from > in.n || !nb_tpl_step(r, (in.n - from) / 1024))
        return SIZE_MAX;
    size_t work = 0;
    uint32_t lead = 0;
    while (lead < what.n && what.u.s[lead] == NB_TOKENIZE_GUARD)
        lead++;
    if (lead == what.n)
        return from;
    for (size_t i = from; i < in.n; i++) {
        bool yes = false;
        const char *p = memchr(in.u.s + i, (unsigned char)what.u.s[lead], in.n - i);
        if (!p)
            break;
        i = (size_t)(p - in.u.s);
        *found_n = match(p, in.n - i, what, &yes, &work);
        if (yes)
            return i;
        if (work >= 256) {
            if (!nb_tpl_step(r, work / 256))
                break;
            work = 0;
        }
    }
    return SIZE_MAX;
}

size_t nb_tpl_begins(nb_tpl_value s, nb_tpl_value with, bool *yes)
{
    size_t work = 0;
    return match(s.u.s, s.n, with, yes, &work);
}

size_t nb_tpl_ends(nb_tpl_value s, nb_tpl_value with, bool *yes)
{
    uint32_t i = s.n, k = with.n;
    for (;; i--, k--) {
        while (k > 0 && with.u.s[k - 1] == NB_TOKENIZE_GUARD)
            k--;
        while (i > 0 && k > 0 && s.u.s[i - 1] == NB_TOKENIZE_GUARD)
            i--;
        *yes = k == 0;
        if (k == 0 || i == 0 || s.u.s[i - 1] != with.u.s[k - 1])
            return i;
    }
}

static bool in_set(const char *p, size_t n, const nb_tpl_value *chars)
{
    uint32_t c = 0, d = 0;
    nb_tpl_char(p, n, &c);
    if (!chars)
        return nb_tpl_white(c);
    for (size_t i = 0; i < chars->n;) {
        i += nb_tpl_char(chars->u.s + i, chars->n - i, &d);
        if (c == d)
            return true;
    }
    return false;
}

nb_tpl_value nb_tpl_strip(nb_tpl_run *r, nb_tpl_value s, const nb_tpl_value *chars, bool left,
                          bool right)
{
    size_t from = 0, to = s.n;
    const size_t cost = chars ? 1 + chars->n / 16 : 0;
    while (left && from < to && in_set(s.u.s + from, to - from, chars) && nb_tpl_step(r, cost))
        from += next_char(s.u.s + from, to - from);
    while (right && to > from && nb_tpl_step(r, cost)) {
        size_t at = to - 1;
        while (at > from && is_tail(s.u.s[at]))
            at--;
        if (!in_set(s.u.s + at, to - at, chars))
            break;
        to = at;
    }
    return nb_tpl_string(s.u.s + from, to - from);
}

nb_tpl_value nb_tpl_concat(nb_tpl_run *r, nb_tpl_value a, nb_tpl_value b)
{
    if (!nb_tpl_step(r, (a.n + (size_t)b.n) / 4096) || (size_t)a.n + b.n > NB_TEMPLATE_HEAP)
        return NB_TPL_BAD(r, "it needs more than %d MiB of memory", NB_TEMPLATE_HEAP >> 20);
    if (a.n == 0 || b.n == 0)
        return a.n ? a : b;
    char *p = NULL;
    if (r->tail && a.u.s + a.n == r->tail && (size_t)(r->end - r->tail) >= b.n) {
        p = r->tail; /* a was made last: it grows where it is */
        memcpy(p, b.u.s, b.n);
        p += b.n;
        r->free = p + (-(uintptr_t)p & 15u);
        r->free = r->free < r->end ? r->free : r->end;
        r->tail = p;
        return nb_tpl_string(a.u.s, (size_t)a.n + b.n);
    }
    p = nb_tpl_alloc(r, (size_t)a.n + b.n, 1);
    if (!p)
        return nb_tpl_none();
    memcpy(p, a.u.s, a.n);
    memcpy(p + a.n, b.u.s, b.n);
    r->tail = p + a.n + b.n;
    return nb_tpl_string(p, (size_t)a.n + b.n);
}

nb_tpl_value nb_tpl_repeat(nb_tpl_run *r, nb_tpl_value s, int64_t times)
{
    if (times <= 0 || s.n == 0)
        return nb_tpl_string("", 0);
    if (times > NB_TEMPLATE_HEAP / (int64_t)s.n)
        return NB_TPL_BAD(r, "it needs more than %d MiB of memory", NB_TEMPLATE_HEAP >> 20);
    char *p =
        nb_tpl_step(r, (size_t)times * s.n / 1024) ? nb_tpl_alloc(r, (size_t)times, s.n) : NULL;
    for (int64_t i = 0; p && i < times; i++)
        memcpy(p + i * s.n, s.u.s, s.n);
    return p ? nb_tpl_string(p, (size_t)times * s.n) : nb_tpl_none();
}

/* ---- letters ---- */

enum fold { kUpper, kLower, kCapital, kTitle, kWords };

static bool letter(uint32_t c)
{
    const utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LT;
}

static nb_tpl_value fold_text(nb_tpl_run *r, nb_tpl_value s, enum fold how)
{
    nb_tpl_sink k = {0};
    bool start = true;
    for (size_t i = 0; i < s.n && r->st == NB_OK;) {
        uint32_t c = 0;
        const size_t n = nb_tpl_char(s.u.s + i, s.n - i, &c);
        const bool up = how == kUpper || (how != kLower && start);
        const bool broken = c == 0xfffd;
        char text[8];
        if (up && c == 0xdf) /* the one common letter whose capital is two */
            nb_tpl_puts(r, &k, how == kUpper ? "SS" : "Ss");
        else if (broken)
            nb_tpl_put(r, &k, s.u.s + i, n);
        else {
            const utf8proc_int32_t d =
                up ? utf8proc_toupper((utf8proc_int32_t)c) : utf8proc_tolower((utf8proc_int32_t)c);
            nb_tpl_put(r, &k, text, (size_t)(nb_utf8_put(text, (uint32_t)d) - text));
        }
        for (size_t g = 1; g < n && !broken; g++) /* the guards go along */
            if (s.u.s[i + g] == NB_TOKENIZE_GUARD)
                nb_tpl_put(r, &k, s.u.s + i + g, 1);
        start = how == kTitle   ? !letter(c)
                : how == kWords ? nb_tpl_white(c) || (c < 0x80 && strchr("-({[<", (int)c) && c)
                                : false;
        i += n;
    }
    return nb_tpl_sunk(&k);
}

nb_tpl_value nb_tpl_upper(nb_tpl_run *r, nb_tpl_value s)
{
    return fold_text(r, s, kUpper);
}

nb_tpl_value nb_tpl_lower(nb_tpl_run *r, nb_tpl_value s)
{
    return fold_text(r, s, kLower);
}

nb_tpl_value nb_tpl_capital(nb_tpl_run *r, nb_tpl_value s)
{
    return fold_text(r, s, kCapital);
}

nb_tpl_value nb_tpl_title(nb_tpl_run *r, nb_tpl_value s, bool python)
{
    return fold_text(r, s, python ? kTitle : kWords);
}

/* ---- replace, split, slice ---- */

nb_tpl_value nb_tpl_replace(nb_tpl_run *r, nb_tpl_value s, nb_tpl_value from, nb_tpl_value to,
                            int64_t most)
{
    nb_tpl_sink k = {0};
    size_t at = 0, n = 0;
    while (most != 0 && r->st == NB_OK) {
        size_t hit = nb_tpl_find(r, s, from, at, &n);
        if (hit == SIZE_MAX)
            break;
        nb_tpl_put(r, &k, s.u.s + at, hit - at);
        nb_tpl_put(r, &k, to.u.s, to.n);
        most -= most > 0;
        at = hit + n;
        if (from.n == 0) { /* between all characters */
            if (at >= s.n || !nb_tpl_step(r, 1))
                break;
            n = next_char(s.u.s + at, s.n - at);
            nb_tpl_put(r, &k, s.u.s + at, n);
            at += n;
        }
    }
    nb_tpl_put(r, &k, s.u.s + at, s.n - at);
    return nb_tpl_sunk(&k);
}

static void split_white(nb_tpl_run *r, nb_tpl_list *v, nb_tpl_value s, int64_t most)
{
    while (r->st == NB_OK) {
        s = nb_tpl_strip(r, s, NULL, true, false);
        size_t n = 0;
        if (s.n == 0)
            return;
        if (most == 0) {
            nb_tpl_list_add(r, v, nb_tpl_strip(r, s, NULL, false, true));
            return;
        }
        while (n < s.n && !in_set(s.u.s + n, s.n - n, NULL))
            n += next_char(s.u.s + n, s.n - n);
        nb_tpl_list_add(r, v, nb_tpl_string(s.u.s, n));
        s = nb_tpl_string(s.u.s + n, s.n - n);
        most--;
        nb_tpl_step(r, 1);
    }
}

/* All parts; from the end with a limit, the first ones are put together again. */
static void split_by(nb_tpl_run *r, nb_tpl_list *v, nb_tpl_value s, nb_tpl_value by, int64_t most)
{
    size_t at = 0, n = 0;
    for (; most != 0 && nb_tpl_step(r, 1); most--) {
        const size_t hit = nb_tpl_find(r, s, by, at, &n);
        if (hit == SIZE_MAX)
            break;
        nb_tpl_list_add(r, v, nb_tpl_string(s.u.s + at, hit - at));
        at = hit + n;
    }
    nb_tpl_list_add(r, v, nb_tpl_string(s.u.s + at, s.n - at));
}

nb_tpl_value nb_tpl_split(nb_tpl_run *r, nb_tpl_value s, const nb_tpl_value *by, int64_t most,
                          bool from_end)
{
    nb_tpl_value list = nb_tpl_list_new(r, NB_TPL_LIST, 0);
    if (list.type != NB_TPL_LIST)
        return list;
    nb_tpl_list *v = list.u.list;
    if (by && by->n == 0)
        return NB_TPL_BAD(r, "split needs a separator of at least one character");
    const bool join = from_end && most >= 0;
    if (by)
        split_by(r, v, s, *by, join ? -1 : most);
    else
        split_white(r, v, s, join ? -1 : most);
    if (join && r->st == NB_OK && (int64_t)v->n > most + 1) {
        const uint32_t first = v->n - (uint32_t)most - 1; /* parts 0..first are one text */
        const char *end = v->at[first].u.s + v->at[first].n;
        v->at[0] = nb_tpl_string(v->at[0].u.s, (size_t)(end - v->at[0].u.s));
        memmove(v->at + 1, v->at + first + 1, (size_t)most * sizeof *v->at);
        v->n = (uint32_t)most + 1;
    }
    return list;
}

nb_tpl_value nb_tpl_lines(nb_tpl_run *r, nb_tpl_value s, bool keep_ends)
{
    nb_tpl_value list = nb_tpl_list_new(r, NB_TPL_LIST, 0);
    for (size_t from = 0; from < s.n && list.type == NB_TPL_LIST && r->st == NB_OK;) {
        size_t to = from, n = 0;
        uint32_t c = 0;
        for (; to < s.n; to += n) {
            n = nb_tpl_char(s.u.s + to, s.n - to, &c);
            if ((c >= 10 && c <= 13) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 ||
                c == 0x2029)
                break;
        }
        size_t end = to + (to < s.n ? n : 0);
        if (to < s.n && c == '\r' && end < s.n && s.u.s[end] == '\n')
            end++;
        nb_tpl_list_add(r, list.u.list, nb_tpl_string(s.u.s + from, (keep_ends ? end : to) - from));
        from = end;
    }
    return list;
}

void nb_tpl_slice_range(int64_t n, const int64_t *from, const int64_t *to, int64_t step,
                        int64_t *first, int64_t *last)
{
    const int64_t low = step > 0 ? 0 : -1, high = step > 0 ? n : n - 1;
    int64_t bound[2] = {step > 0 ? low : high, step > 0 ? high : low};
    const int64_t *const given[2] = {from, to};
    for (int i = 0; i < 2; i++) {
        if (!given[i])
            continue;
        int64_t v = *given[i];
        if (v < 0)
            v = v < -n ? low : v + n;
        bound[i] = v < low ? low : v > high ? high : v;
    }
    *first = bound[0];
    *last = bound[1];
}

nb_tpl_value nb_tpl_slice_text(nb_tpl_run *r, nb_tpl_value s, int64_t from, int64_t to,
                               int64_t step)
{
    nb_tpl_sink k = {0};
    int64_t at = 0;
    size_t i = 0;
    if (!nb_tpl_step(r, s.n / 1024))
        return nb_tpl_none();
    if (step == 1) {
        for (; at < from && i < s.n; at++)
            i += next_char(s.u.s + i, s.n - i);
        const size_t begin = i;
        for (; at < to && i < s.n; at++)
            i += next_char(s.u.s + i, s.n - i);
        return nb_tpl_string(s.u.s + begin, i - begin);
    }
    const nb_tpl_list *chars = nb_tpl_iterate(r, s);
    for (at = from; (step > 0 ? at < to : at > to) && r->st == NB_OK; at += step)
        if (at >= 0 && at < chars->n)
            nb_tpl_put(r, &k, chars->at[at].u.s, chars->at[at].n);
    return nb_tpl_sunk(&k);
}
