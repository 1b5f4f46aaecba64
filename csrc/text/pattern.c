/* pattern.c -- a pre-tokenizer's pattern as PCRE2 has to read it to mean what it means to the hub's
 * `tokenizers`.
 *
 *   \p{L} \p{N} \p{Lu} ...   Unicode 16 there (measured over all code points); PCRE2 10.42 has
 *                            Unicode 14, so the code points that changed are added to the class, or
 *                            taken from it
 *   \d                       \p{Nd}, likewise
 *   \s                       the 25 code points of White_Space; PCRE2's has U+180E too
 *
 * Set operations inside a class ([a[bc]], [a&&b]) mean other things to the two and are refused.
 * Linear in the pattern. */
#include "text/unicode_classes.h"
#include "text/vocab.h"

#include <string.h>

#define WHITE                                                                                      \
    "\\x09-\\x0d\\x20\\x85\\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}"   \
    "\\x{3000}"

enum { kMaxRewritten = 1 << 20 };

struct reader {
    const char *path; /* of the file the pattern is from, with its offset there */
    int64_t offset;
    const char *p;
    size_t n, at;
    nb_buf *out;
    nb_error *err;
    nb_status st;
};

static void put(struct reader *r, const char *s, size_t n)
{
    if (r->st == NB_OK && n)
        r->st = nb_buf_add(r->out, s, n, r->err);
}

static void puts_to(struct reader *r, const char *s)
{
    put(r, s, strlen(s));
}

/* The categories a name stands for as bits: "L" all that begin so, "Lu" one, "L&" those with case;
 * 0 for others (scripts, Any). */
static uint32_t categories(const char *name, size_t n)
{
    uint32_t set = 0;
    for (int i = 0; i < NB_UNICODE_CATEGORIES; i++) {
        const char *c = nb_unicode_category[i];
        const bool cased = n == 2 && memcmp(name, "L&", 2) == 0 && c[0] == 'L' &&
                           (c[1] == 'l' || c[1] == 't' || c[1] == 'u');
        if (cased || ((n == 1 || n == 2) && memcmp(name, c, n) == 0))
            set |= 1u << i;
    }
    return set;
}

/* A property behind \p or \P at `at`: {Name}, {^Name} or a letter. *used: bytes of it. */
static uint32_t property(const struct reader *r, size_t at, bool negated, size_t *used)
{
    const uint32_t all = (1u << NB_UNICODE_CATEGORIES) - 1;
    size_t from = at, n = 1;
    *used = at < r->n ? 1 : 0;
    if (at < r->n && r->p[at] == '{') {
        const char *end = memchr(r->p + at, '}', r->n - at);
        if (!end)
            return 0;
        from = at + 1;
        n = (size_t)(end - r->p) - from;
        *used = n + 2;
        if (n && r->p[from] == '^') {
            negated = !negated;
            from++;
            n--;
        }
    }
    const uint32_t set = from < r->n ? categories(r->p + from, n) : 0;
    return set && negated ? all & ~set : set;
}

/* The code points that came to the set (gone: that left it), as the inside of a class; false if
 * there are none. */
static bool put_changes(struct reader *r, uint32_t set, bool gone)
{
    bool any = false;
    for (int i = 0; i < nb_unicode_n_change; i++) {
        const nb_unicode_change *c = &nb_unicode_changes[i];
        const bool was = set >> c->from & 1, is = set >> c->to & 1;
        if (was == is || was != gone)
            continue;
        any = true;
        if (r->out && r->st == NB_OK)
            r->st = nb_buf_printf(r->out, r->err, "\\x{%x}-\\x{%x}", (unsigned)c->first,
                                  (unsigned)c->last);
    }
    return any;
}

static bool leaves(uint32_t set)
{
    struct reader none = {0};
    return put_changes(&none, set, true);
}

/* [inside] or [^inside], which holds the categories of set, with what changed. */
static void put_class(struct reader *r, bool negated, const char *inside, size_t n, uint32_t set)
{
    const bool gone = leaves(set);
    if (gone && negated) {
        puts_to(r, "(?:[");
        (void)put_changes(r, set, true);
        puts_to(r, "]|");
    } else if (gone) {
        puts_to(r, "(?:(?![");
        (void)put_changes(r, set, true);
        puts_to(r, "])");
    }
    puts_to(r, negated ? "[^" : "[");
    put(r, inside, n);
    (void)put_changes(r, set, false);
    puts_to(r, gone ? "])" : "]");
}

static nb_status refuse(const struct reader *r, const char *what)
{
    return nb_fail_at(r->err, NB_UNSUPPORTED, r->path, r->offset,
                      "a pattern with %s inside a class is not supported", what);
}

/* A class from its '[' on. */
static void read_class(struct reader *r)
{
    const uint32_t digit = categories("Nd", 2);
    uint32_t set = 0;
    nb_buf inside;
    struct reader in = {.out = &inside, .err = r->err, .st = r->st};
    nb_buf_init(&inside, kMaxRewritten);
    size_t i = r->at + 1;
    const bool negated = i < r->n && r->p[i] == '^';
    i += negated;
    const size_t first = i;
    for (size_t step = 1; i < r->n && !(r->p[i] == ']' && i > first) && in.st == NB_OK; i += step) {
        const char c = r->p[i], next = i + 1 < r->n ? r->p[i + 1] : '\0';
        step = 1;
        if (c == '[' && next == ':') { /* [:name:] */
            const char *end = memchr(r->p + i + 2, ']', r->n - i - 2);
            step = end ? (size_t)(end - r->p) - i + 1 : 1;
        } else if (c == '[') {
            in.st = refuse(r, "a class");
        } else if (c == '&' && next == '&') {
            in.st = refuse(r, "&&");
        } else if (c == '\\' && next == 's') {
            puts_to(&in, WHITE);
            step = 2;
            continue;
        } else if (c == '\\' && (next == 'p' || next == 'P')) {
            size_t used = 0;
            set |= property(r, i + 2, next == 'P', &used);
            step = 2 + used;
        } else if (c == '\\' && next) {
            set |= next == 'd' ? digit : 0;
            step = 2;
        }
        put(&in, r->p + i, step);
    }
    if (i >= r->n) { /* never closed: PCRE2 says so */
        put(r, r->p + r->at, r->n - r->at);
        r->at = r->n;
    } else {
        put_class(r, negated, inside.p ? inside.p : "", inside.n, set);
        r->at = i + 1;
    }
    r->st = r->st == NB_OK ? in.st : r->st;
    nb_buf_free(&inside);
}

/* A backslash outside of classes. */
static void read_escape(struct reader *r)
{
    const char next = r->at + 1 < r->n ? r->p[r->at + 1] : '\0';
    size_t used = 0, step = next ? 2 : 1;
    uint32_t set = next == 'd' ? categories("Nd", 2) : 0;
    if (next == 's' || next == 'S') {
        puts_to(r, next == 's' ? "[" WHITE "]" : "[^" WHITE "]");
    } else if (next == 'Q') { /* up to \E as it is */
        const size_t from = r->at;
        while (r->at + step < r->n &&
               !(r->p[r->at + step - 2] == '\\' && r->p[r->at + step - 1] == 'E'))
            step++;
        put(r, r->p + from, step);
    } else {
        if (next == 'p' || next == 'P')
            set = property(r, r->at + 2, next == 'P', &used);
        step += used;
        if (set)
            put_class(r, false, r->p + r->at, step, set);
        else
            put(r, r->p + r->at, step);
    }
    r->at += step;
}

nb_status nb_pattern_rewrite(const char *path, int64_t offset, nb_str pattern, nb_buf *out,
                             nb_error *err)
{
    struct reader r = {
        .path = path, .offset = offset, .p = pattern.p, .n = pattern.n, .out = out, .err = err};
    nb_buf_init(out, kMaxRewritten);
    while (r.at < r.n && r.st == NB_OK) {
        if (r.p[r.at] == '\\')
            read_escape(&r);
        else if (r.p[r.at] == '[')
            read_class(&r);
        else
            put(&r, r.p + r.at++, 1);
    }
    return r.st;
}
