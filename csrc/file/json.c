/* json.c -- the strict JSON reader of json.h: text to the nodes and strings of json_node.h.
 *
 * One pass, a stack of at most 128 open values, no recursion. Duplicate keys are seen when an
 * object closes: pair by pair up to kFew members, by the index that nb_json_get will use beyond.
 *
 * Cost: O(n) time; at most n / 3 + 65536 values, so at most 8 + 2 bytes of memory a byte of text
 * (the limit is below what any checkpoint holds: the densest real text, ["a","b"], has 3 values in
 * 10 bytes). */
#include "file/json_node.h"
#include "base/memory.h"
#include "file/utf8.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>

enum { kMaxText = 100000000, kDepth = 128, kFew = 8, kFreeNodes = 65536 };
_Static_assert(kMaxText / 3 + kFreeNodes < NB_JSON_MAX_SKIP, "skip holds any document");

typedef struct level { /* an open array or object */
    uint32_t node, child, count;
} level;

typedef struct parser {
    const char *path;
    size_t base; /* of the text in its file */
    const unsigned char *s;
    size_t n, i;
    nb_json *doc;
    size_t cap, pool_n;
    int depth;
    level open[kDepth];
    nb_hash_key hash_key;
    locale_t c_locale; /* strtod obeys the thread's locale, JSON does not */
    nb_error *err;
} parser;

static nb_status bad(parser *p, size_t at, const char *what)
{
    return nb_fail_at(p->err, NB_BAD_INPUT, p->path, (int64_t)(p->base + at), "bad JSON: %s", what);
}

static void space(parser *p)
{
    while (p->i < p->n &&
           (p->s[p->i] == ' ' || p->s[p->i] == '\n' || p->s[p->i] == '\r' || p->s[p->i] == '\t'))
        p->i++;
}

static int peek(const parser *p)
{
    return p->i < p->n ? p->s[p->i] : -1;
}

/* The 4 hex digits at p->i; false when they are not. */
static bool hex4(parser *p, uint32_t *out)
{
    uint32_t v = 0;
    if (p->n - p->i < 4)
        return false;
    for (int k = 0; k < 4; k++) {
        const unsigned c = p->s[p->i + (size_t)k];
        const unsigned lower = c | 0x20;
        if (c >= '0' && c <= '9')
            v = v * 16 + (c - '0');
        else if (lower >= 'a' && lower <= 'f')
            v = v * 16 + (lower - 'a' + 10);
        else
            return false;
    }
    p->i += 4;
    *out = v;
    return true;
}

/* What follows a backslash, p->i behind it. */
static nb_status escape(parser *p, char **d)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const size_t at = p->i - 1;
    const int c = peek(p);
    uint32_t high = 0, low = 0;
    const char *f = c > 0 ? strchr(from, c) : NULL;
    p->i++;
    if (f) {
        *(*d)++ = to[f - from];
        return NB_OK;
    }
    if (c != 'u')
        return bad(p, at, "unknown escape");
    if (!hex4(p, &high))
        return bad(p, at, "\\u needs 4 hex digits");
    if (high >= 0xd800 && high < 0xe000) { /* UTF-16 halves come in pairs only, high first */
        if (high >= 0xdc00 || p->n - p->i < 6 || p->s[p->i] != '\\' || p->s[p->i + 1] != 'u')
            return bad(p, at, "a lone surrogate");
        p->i += 2;
        if (!hex4(p, &low) || low < 0xdc00 || low >= 0xe000)
            return bad(p, at, "a lone surrogate");
        high = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
    }
    *d = nb_utf8_put(*d, high);
    return NB_OK;
}

/* The string whose opening quote is at p->i, into the pool. */
static nb_status string(parser *p, const char **out)
{
    const size_t start = p->i++;
    char *const text = p->doc->pool + p->pool_n + sizeof(uint32_t);
    char *d = text;
    for (;;) {
        const size_t run = p->i;
        while (p->i < p->n && p->s[p->i] >= 0x20 && p->s[p->i] < 0x80 && p->s[p->i] != '"' &&
               p->s[p->i] != '\\')
            p->i++;
        memcpy(d, p->s + run, p->i - run);
        d += p->i - run;
        const int c = peek(p);
        uint32_t point = 0;
        size_t len = 0;
        if (c < 0)
            return bad(p, start, "a string without end");
        if (c == '"')
            break;
        if (c < 0x20)
            return bad(p, p->i, "a control character in a string");
        if (c == '\\') {
            p->i++;
            const nb_status st = escape(p, &d);
            if (st != NB_OK)
                return st;
            continue;
        }
        len = nb_utf8_at(p->s + p->i, p->n - p->i, &point);
        if (len == 0)
            return bad(p, p->i, "not UTF-8");
        memcpy(d, p->s + p->i, len);
        d += len;
        p->i += len;
    }
    p->i++;
    const uint32_t length = (uint32_t)(d - text);
    memcpy(text - sizeof length, &length, sizeof length);
    *d = 0;
    p->pool_n += sizeof length + length + 1;
    *out = text;
    return NB_OK;
}

static size_t digits(parser *p)
{
    const size_t start = p->i;
    while (p->i < p->n && p->s[p->i] >= '0' && p->s[p->i] <= '9')
        p->i++;
    return p->i - start;
}

static nb_status real(parser *p, size_t start, nb_json_node *v)
{
    char *text = p->doc->pool + p->pool_n; /* scratch: the pool has room for the rest of the text */
    memcpy(text, p->s + start, p->i - start);
    text[p->i - start] = 0;
    if (!p->c_locale)
        p->c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!p->c_locale)
        return nb_fail(p->err, NB_NO_ROOM, "out of memory: a locale");
    const locale_t old = uselocale(p->c_locale);
    v->type = NB_JSON_REAL;
    v->v.r = strtod(text, NULL);
    uselocale(old);
    if (v->v.r - v->v.r != 0.0) /* infinite */
        return bad(p, start, "a number beyond the range of double");
    return NB_OK;
}

static nb_status number(parser *p, nb_json_node *v)
{
    const size_t start = p->i;
    const bool minus = peek(p) == '-';
    bool whole = true;
    uint64_t m = 0;
    p->i += minus;
    const size_t first = p->i, n = digits(p);
    if (n == 0)
        return bad(p, start, "a number without digits");
    if (n > 1 && p->s[first] == '0')
        return bad(p, start, "a number with a leading zero");
    const size_t end = p->i;
    if (peek(p) == '.') {
        whole = false;
        p->i++;
        if (digits(p) == 0)
            return bad(p, start, "a number without digits behind its point");
    }
    if (peek(p) == 'e' || peek(p) == 'E') {
        whole = false;
        p->i++;
        p->i += peek(p) == '+' || peek(p) == '-';
        if (digits(p) == 0)
            return bad(p, start, "a number without digits in its exponent");
    }
    for (size_t k = first; k < end && whole; k++)
        whole = nb_mul_ok(m, 10, &m) && nb_add_ok(m, (uint64_t)(p->s[k] - '0'), &m);
    if (!whole || (minus && m > (uint64_t)1 << 63))
        return real(p, start, v); /* also integers beyond 64 bits, which real configurations hold */
    v->type = NB_JSON_INT;
    v->wide = m > INT64_MAX && !minus;
    v->v.u = minus ? 0 - m : m;
    return NB_OK;
}

static nb_status literal(parser *p, const char *word, nb_json_node *v, nb_json_type type)
{
    const size_t n = strlen(word);
    if (p->n - p->i < n || memcmp(p->s + p->i, word, n) != 0)
        return bad(p, p->i, "a value is expected");
    p->i += n;
    v->type = (unsigned)type & 7u;
    v->v.u = word[0] == 't';
    return NB_OK;
}

static nb_status node_new(parser *p, const char *key, nb_json_node **out)
{
    nb_json *doc = p->doc;
    if (doc->n_node >= p->n / 3 + kFreeNodes)
        return nb_fail_at(p->err, NB_UNSUPPORTED, p->path, (int64_t)(p->base + p->i),
                          "JSON of more than %zu values in %zu bytes", doc->n_node, p->n);
    if (doc->n_node == p->cap) {
        const size_t cap = p->cap ? p->cap * 2 : 64;
        nb_json_node *more = realloc(doc->node, cap * sizeof *more);
        if (!more)
            return nb_fail(p->err, NB_NO_ROOM, "out of memory: %zu JSON values", cap);
        doc->node = more;
        p->cap = cap;
    }
    if (p->depth) {
        p->open[p->depth - 1].child = (uint32_t)doc->n_node;
        p->open[p->depth - 1].count++;
    }
    *out = &doc->node[doc->n_node++];
    **out = (nb_json_node){.key = key, .offset = (uint32_t)p->i, .skip = 1};
    return NB_OK;
}

/* One value; an array or object is only opened. */
static nb_status value(parser *p, const char *key)
{
    nb_json_node *v = NULL;
    const nb_status st = node_new(p, key, &v);
    const int c = peek(p);
    if (!v)
        return st;
    switch (c) {
    case '{':
    case '[':
        if (p->depth == kDepth)
            return bad(p, p->i, "nested deeper than 128 levels");
        v->type = c == '{' ? NB_JSON_OBJECT : NB_JSON_ARRAY;
        p->open[p->depth++] = (level){.node = (uint32_t)(v - p->doc->node)};
        p->i++;
        return NB_OK;
    case '"':
        v->type = NB_JSON_STRING;
        return string(p, &v->v.s);
    case 't':
        return literal(p, "true", v, NB_JSON_BOOL);
    case 'f':
        return literal(p, "false", v, NB_JSON_BOOL);
    case 'n':
        return literal(p, "null", v, NB_JSON_NULL);
    default:
        if (c == '-' || (c >= '0' && c <= '9'))
            return number(p, v);
        return bad(p, p->i, c < 0 ? "ends where a value is expected" : "a value is expected");
    }
}

static nb_status duplicate(parser *p, const nb_json_node *v)
{
    char name[160];
    nb_escape(name, (int64_t)sizeof name, v->key, nb_json_pool_length(v->key));
    return nb_fail_at(p->err, NB_BAD_INPUT, p->path, (int64_t)(p->base + v->offset),
                      "bad JSON: duplicate key \"%s\"", name);
}

/* Completes the innermost open value. */
static nb_status shut(parser *p)
{
    const level l = p->open[--p->depth];
    nb_json_node *v = &p->doc->node[l.node];
    p->i++;
    v->skip = (unsigned)(p->doc->n_node - l.node) & NB_JSON_MAX_SKIP;
    v->v.u = l.count;
    if (l.count)
        p->doc->node[l.child].last = 1;
    if (v->type != NB_JSON_OBJECT || l.count < 2)
        return NB_OK;
    if (l.count > kFew) {
        nb_names *names = nb_names_open(l.count, &p->hash_key, nb_json_member_name, p->err);
        if (!names)
            return NB_NO_ROOM;
        v->wide = 1;
        v->v.names = names;
        for (const nb_json_node *m = v + 1; m; m = nb_json_next(m))
            if (!nb_names_add(names, v, (size_t)(m - v)))
                return duplicate(p, m);
        return NB_OK;
    }
    for (const nb_json_node *a = v + 1; a; a = nb_json_next(a))
        for (const nb_json_node *b = nb_json_next(a); b; b = nb_json_next(b))
            if (nb_json_pool_length(a->key) == nb_json_pool_length(b->key) &&
                memcmp(a->key, b->key, nb_json_pool_length(a->key)) == 0)
                return duplicate(p, b);
    return NB_OK;
}

/* From behind a value to the next one: closes what ends here, reads the comma and the member's key.
 * *done: the text is over. */
static nb_status advance(parser *p, const char **key, bool *done)
{
    nb_status st = NB_OK;
    *key = NULL;
    for (;;) {
        space(p);
        const int c = peek(p);
        if (p->depth == 0) {
            *done = true;
            return c < 0 ? NB_OK : bad(p, p->i, "bytes behind the value");
        }
        const level *l = &p->open[p->depth - 1];
        const bool object = p->doc->node[l->node].type == NB_JSON_OBJECT;
        if (c == (object ? '}' : ']')) {
            if ((st = shut(p)) != NB_OK)
                return st;
            continue;
        }
        if (l->count) {
            if (c != ',')
                return bad(p, p->i,
                           object ? "a comma or } is expected" : "a comma or ] is expected");
            p->i++;
            space(p);
        }
        if (!object)
            return NB_OK;
        if (peek(p) != '"')
            return bad(p, p->i, "a key in quotes is expected");
        if ((st = string(p, key)) != NB_OK)
            return st;
        space(p);
        if (peek(p) != ':')
            return bad(p, p->i, "a colon is expected");
        p->i++;
        space(p);
        return NB_OK;
    }
}

nb_status nb_json_parse_at(const char *path, size_t base, const char *text, size_t n, nb_json **out,
                           nb_error *err)
{
    parser p = {.path = path, .base = base, .s = (const unsigned char *)text, .n = n, .err = err};
    const char *key = NULL;
    bool done = false;
    nb_status st = NB_OK;
    *out = NULL;
    if (n > kMaxText)
        return nb_fail_at(err, NB_BAD_INPUT, path, (int64_t)base,
                          "JSON of %zu bytes, at most %d are allowed", n, (int)kMaxText);
    if (n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        return bad(&p, 0, "starts with a byte order mark (BOM)");
    nb_json *doc = p.doc = nb_alloc_zero(1, sizeof *doc, "a JSON document", err);
    if (!doc)
        return NB_NO_ROOM;
    doc->pool = nb_alloc(2 * n + 16, 1, "the strings of a JSON document", err);
    if (!doc->pool)
        st = NB_NO_ROOM;
    nb_hash_key_draw(&p.hash_key);
    space(&p);
    while (st == NB_OK && !done) {
        st = value(&p, key);
        if (st == NB_OK)
            st = advance(&p, &key, &done);
    }
    if (p.c_locale)
        freelocale(p.c_locale);
    if (st != NB_OK) {
        nb_json_close(doc);
        return st;
    }
    doc->node[0].last = 1;
    nb_json_node *fit = realloc(doc->node, doc->n_node * sizeof *fit);
    doc->node = fit ? fit : doc->node;
    *out = doc;
    return NB_OK;
}
