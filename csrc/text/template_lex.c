/* template_lex.c -- Jinja's text into tokens: data, {% blocks %}, {{ prints }}, {# comments #},
 * raw.
 *
 * White space as Jinja does it under trim_blocks and lstrip_blocks (jinja2/lexer.py of 3.1): a
 * block or comment takes the newline behind it, and the blanks before it when it stands first on
 * its line; '-' takes all white space on its side, '+' keeps it. */
#include "text/template_run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { kData, kBlock, kPrint, kExpectBlock, kExpectPrint }; /* kExpect: "{%" or "{{" is next */

static size_t skip_white(const nb_tpl_run *r, size_t at)
{
    uint32_t c = 0;
    while (at < r->src_n) {
        const size_t n = nb_tpl_char(r->src + at, r->src_n - at, &c);
        if (!nb_tpl_white(c))
            break;
        at += n;
    }
    return at;
}

static bool has(const nb_tpl_run *r, size_t at, const char *s)
{
    const size_t n = strlen(s);
    return at <= r->src_n && n <= r->src_n - at && memcmp(r->src + at, s, n) == 0;
}

static bool sign(const nb_tpl_run *r, size_t at)
{
    return at < r->src_n && (r->src[at] == '-' || r->src[at] == '+');
}

/* The end of [from, to) once the tag at `to` has taken its white space. */
static size_t trim_before(const nb_tpl_parser *p, size_t from, size_t to, bool block)
{
    const nb_tpl_run *r = p->r;
    const char mark = to + 2 < r->src_n ? r->src[to + 2] : 0;
    if (mark == '-') {
        const nb_tpl_value s =
            nb_tpl_strip(p->r, nb_tpl_string(r->src + from, to - from), NULL, false, true);
        return from + s.n;
    }
    if (mark == '+' || !block)
        return to;
    size_t line = to;
    while (line > from && r->src[line - 1] != '\n')
        line--;
    if (line == from && !p->line_start)
        return to;
    return skip_white(r, line) >= to ? line : to;
}

/* Behind a closing delimiter of two characters at `at`, its sign at at - 1. */
static void after_tag(nb_tpl_parser *p, size_t at, char mark, bool block)
{
    const nb_tpl_run *r = p->r;
    p->at = at + 2;
    p->line_start = false;
    if (mark == '-') {
        p->at = skip_white(r, p->at);
        p->line_start = r->src[p->at - 1] == '\n';
    } else if (block && mark != '+' && p->at < r->src_n && r->src[p->at] == '\n') {
        p->at++;
        p->line_start = true;
    }
}

static void skip_comment(nb_tpl_parser *p, size_t open)
{
    const nb_tpl_run *r = p->r;
    size_t at = open + 2;
    while (at < r->src_n && !has(r, at, "#}"))
        at++;
    if (at >= r->src_n) {
        p->r->at = (uint32_t)open;
        NB_TPL_BAD(p->r, "a comment does not end");
        return;
    }
    after_tag(p, at, at > open + 2 ? r->src[at - 1] : 0, true);
}

/* Behind "{% word %}" at `at`, 0 if it is not that tag. *mark: the sign before "%}". */
static size_t bare_tag(const nb_tpl_run *r, size_t at, const char *word, char *mark)
{
    size_t i = at + 2;
    i = skip_white(r, sign(r, i) ? i + 1 : i);
    if (!has(r, i, word))
        return 0;
    i = skip_white(r, i + strlen(word));
    *mark = sign(r, i) ? r->src[i] : 0;
    i += *mark != 0;
    return has(r, i, "%}") ? i + 2 : 0;
}

/* {% raw %} at `open`: its text is the token. */
static bool take_raw(nb_tpl_parser *p, size_t open, nb_tpl_token *out)
{
    nb_tpl_run *r = p->r;
    char mark = 0;
    size_t from = bare_tag(r, open, "raw", &mark);
    if (!from)
        return false;
    p->line_start = false;
    if (mark == '-')
        from = skip_white(r, from);
    for (size_t at = from; at < r->src_n; at++) {
        const size_t end = has(r, at, "{%") ? bare_tag(r, at, "endraw", &mark) : 0;
        if (!end)
            continue;
        const size_t to = trim_before(p, from, at, true);
        *out = (nb_tpl_token){.kind = NB_TPL_T_DATA, .at = (uint32_t)from};
        out->v = nb_tpl_string(r->src + from, to - from);
        after_tag(p, end - 2, mark, true);
        return true;
    }
    r->at = (uint32_t)open;
    NB_TPL_BAD(r, "a raw block does not end");
    return true;
}

static void lex_data(nb_tpl_parser *p, nb_tpl_token *out)
{
    nb_tpl_run *r = p->r;
    while (r->st == NB_OK) {
        const size_t from = p->at;
        size_t to = from;
        while (to < r->src_n && !(r->src[to] == '{' && to + 1 < r->src_n &&
                                  strchr("%{#", r->src[to + 1]) && r->src[to + 1]))
            to++;
        const bool tag = to < r->src_n;
        const char kind = tag ? r->src[to + 1] : 0;
        const size_t end = tag ? trim_before(p, from, to, kind != '{') : to;
        *out =
            (nb_tpl_token){.kind = end > from ? NB_TPL_T_DATA : NB_TPL_T_END, .at = (uint32_t)from};
        out->v = nb_tpl_string(r->src + from, end - from);
        p->at = to;
        if (kind == '#') {
            skip_comment(p, to);
        } else if (kind == '{') {
            p->mode = kExpectPrint;
        } else if (kind == '%') {
            if (end > from) { /* the block is the next token */
                p->mode = kExpectBlock;
                return;
            }
            if (take_raw(p, to, out)) {
                if (out->v.n)
                    return;
                continue;
            }
            p->mode = kExpectBlock;
        }
        if (end > from || !tag || kind != '#')
            return;
    }
}

static const char two_chars[][3] = {"==", "!=", ">=", "<=", "//", "**"};

static bool word_char(char c)
{
    return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (unsigned char)c >= 0x80;
}

static bool digit(const nb_tpl_run *r, size_t at)
{
    return at < r->src_n && r->src[at] >= '0' && r->src[at] <= '9';
}

static size_t digits(const nb_tpl_run *r, size_t at)
{
    while (digit(r, at) || (at < r->src_n && r->src[at] == '_' && digit(r, at + 1)))
        at++;
    return at;
}

static void lex_number(nb_tpl_parser *p, nb_tpl_token *out)
{
    nb_tpl_run *r = p->r;
    char text[64];
    size_t n = 0, end = digits(r, p->at);
    bool real = false;
    const bool place = r->src[p->at - 1] == '.'; /* a.0.1: two places, not a real number */
    const bool hex = has(r, p->at, "0x") || has(r, p->at, "0X");
    if (hex) {
        end = p->at + 2;
        while (end < r->src_n && word_char(r->src[end]))
            end++;
    } else if (end < r->src_n && r->src[end] == '.' && digit(r, end + 1) && !place) {
        end = digits(r, end + 1);
        real = true;
    }
    if (!hex && end < r->src_n && (r->src[end] == 'e' || r->src[end] == 'E')) {
        const size_t e = end + 1 + sign(r, end + 1);
        if (digit(r, e)) {
            end = digits(r, e);
            real = true;
        }
    }
    for (size_t i = p->at; i < end && n < sizeof text - 1; i++)
        if (r->src[i] != '_')
            text[n++] = r->src[i];
    text[n] = 0;
    char *stop = text;
    errno = 0;
    if (real)
        out->v = nb_tpl_real(strtod(text, &stop));
    else
        out->v = nb_tpl_int((int64_t)strtoll(text, &stop, hex ? 16 : 10));
    if (*stop || (errno && !real) || n == sizeof text - 1)
        NB_TPL_BAD(r, "a number that is not understood");
    out->kind = NB_TPL_T_CONST;
    p->at = end;
}

/* The value of n hexadecimal digits (at most 8), -1 if they are not. */
static int64_t hex_digits(const char *s, size_t n, size_t want)
{
    int64_t v = 0;
    if (n < want)
        return -1;
    for (size_t i = 0; i < want; i++) {
        const char c = s[i];
        const int d = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
        if (d < 0)
            return -1;
        v = v << 4 | d;
    }
    return v;
}

/* One escape behind a backslash: Python's. Returns the bytes it took. */
static size_t unescape(nb_tpl_run *r, const char *s, size_t n, char *to, size_t *o)
{
    static const char from[] = "nrtabfv0\\'\"", into[] = "\n\r\t\a\b\f\v\0\\'\"";
    const char *known = s[0] ? strchr(from, s[0]) : NULL;
    if (s[0] == '\n')
        return 1;
    if (s[0] >= '0' && s[0] <= '7') {
        size_t k = 0;
        uint32_t c = 0;
        while (k < 3 && k < n && s[k] >= '0' && s[k] <= '7')
            c = c * 8 + (uint32_t)(s[k++] - '0');
        *o = (size_t)(nb_utf8_put(to + *o, c) - to);
        return k;
    }
    if (known) {
        to[(*o)++] = into[known - from];
        return 1;
    }
    const size_t want = s[0] == 'x' ? 2 : s[0] == 'u' ? 4 : s[0] == 'U' ? 8 : 0;
    const int64_t c = want ? hex_digits(s + 1, n - 1, want) : -1;
    if (want && (c < 0 || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))) {
        NB_TPL_BAD(r, "an escape in a string that names no character");
        return n;
    }
    if (want) {
        *o = (size_t)(nb_utf8_put(to + *o, (uint32_t)c) - to);
        return want + 1;
    }
    to[(*o)++] = '\\'; /* unknown: both stay */
    to[(*o)++] = s[0];
    return 1;
}

static void lex_string(nb_tpl_parser *p, nb_tpl_token *out)
{
    nb_tpl_run *r = p->r;
    const char quote = r->src[p->at];
    const size_t from = p->at + 1;
    size_t to = from, o = 0;
    while (to < r->src_n && r->src[to] != quote)
        to += r->src[to] == '\\' ? 2 : 1;
    if (to >= r->src_n) {
        NB_TPL_BAD(r, "a string does not end");
        return;
    }
    const char *s = r->src + from;
    const size_t n = to - from;
    p->at = to + 1;
    out->kind = NB_TPL_T_CONST;
    out->v = nb_tpl_string(s, n);
    if (!memchr(s, '\\', n))
        return;
    char *text = nb_tpl_alloc(r, n + 8, 1); /* an escape never takes less room than its character */
    for (size_t i = 0; text && i < n && r->st == NB_OK;) {
        if (s[i] != '\\' || i + 1 == n)
            text[o++] = s[i++];
        else
            i += 1 + unescape(r, s + i + 1, n - i - 1, text, &o);
    }
    out->v = nb_tpl_string(text ? text : "", o);
}

static bool lex_end(nb_tpl_parser *p, nb_tpl_token *out)
{
    const bool block = p->mode == kBlock;
    const char *close = block ? "%}" : "}}";
    const size_t at = p->at + sign(p->r, p->at);
    if (p->open || !has(p->r, at, close) || (!block && at > p->at && p->r->src[p->at] == '+'))
        return false;
    out->kind = block ? NB_TPL_T_BLOCK_END : NB_TPL_T_PRINT_END;
    after_tag(p, at, at > p->at ? p->r->src[p->at] : 0, block);
    p->mode = kData;
    return true;
}

static void lex_code(nb_tpl_parser *p, nb_tpl_token *out)
{
    nb_tpl_run *r = p->r;
    p->at = skip_white(r, p->at);
    *out = (nb_tpl_token){.kind = NB_TPL_T_END, .at = (uint32_t)p->at};
    r->at = (uint32_t)p->at;
    if (p->at >= r->src_n) {
        NB_TPL_BAD(r, "it ends inside a tag");
        return;
    }
    if (lex_end(p, out))
        return;
    const char c = r->src[p->at];
    if (c == '"' || c == '\'') {
        lex_string(p, out);
        return;
    }
    if (c >= '0' && c <= '9') {
        lex_number(p, out);
        return;
    }
    size_t n = 0;
    while (p->at + n < r->src_n && word_char(r->src[p->at + n]))
        n++;
    if (n) {
        out->kind = NB_TPL_T_NAME;
        out->n = (uint32_t)n;
        p->at += n;
        return;
    }
    out->kind = NB_TPL_T_OP;
    for (size_t i = 0; i < sizeof two_chars / sizeof *two_chars; i++)
        if (has(r, p->at, two_chars[i])) {
            out->op = NB_TPL_OP2(two_chars[i][0], two_chars[i][1]);
            p->at += 2;
            return;
        }
    if (!c || !strchr("+-/*%~[](){}<>=.:|,", c)) {
        char shown[32];
        NB_TPL_BAD(r, "a character that means nothing there: %s",
                   nb_escape(shown, (int64_t)sizeof shown, &c, 1));
        return;
    }
    out->op = c;
    p->open += strchr("([{", c) ? 1 : 0;
    p->open -= strchr(")]}", c) && p->open ? 1 : 0;
    p->at++;
}

void nb_tpl_lex(nb_tpl_parser *p, nb_tpl_token *out)
{
    *out = (nb_tpl_token){.kind = NB_TPL_T_END, .at = (uint32_t)p->at};
    if (p->r->st != NB_OK)
        return;
    if (p->mode == kData) {
        lex_data(p, out);
        if (out->kind == NB_TPL_T_DATA || p->mode == kData || p->r->st != NB_OK)
            return;
    }
    if (p->mode == kExpectBlock && take_raw(p, p->at, out)) {
        p->mode = kData;
        if (out->v.n == 0 && p->r->st == NB_OK)
            nb_tpl_lex(p, out);
        return;
    }
    if (p->mode == kExpectBlock || p->mode == kExpectPrint) {
        const bool block = p->mode == kExpectBlock;
        *out =
            (nb_tpl_token){.kind = block ? NB_TPL_T_BLOCK : NB_TPL_T_PRINT, .at = (uint32_t)p->at};
        p->at += 2;
        p->at += sign(p->r, p->at);
        p->mode = block ? kBlock : kPrint;
        p->open = 0;
        return;
    }
    lex_code(p, out);
}
