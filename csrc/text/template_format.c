/* template_format.c -- values as text: Python's str and repr, json.dumps, % and str.format, dates.
 */
#include "text/template_run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <utf8proc.h>

/* The shortest digits that read back as x; an exponent below 1e-4 and from 1e16 on. */
static size_t real_text(double x, char out[40])
{
    char digits[32], *e = NULL;
    int precision = 0;
    if (isnan(x) || isinf(x))
        return (size_t)snprintf(out, 40, "%s", isnan(x) ? "nan" : x > 0 ? "inf" : "-inf");
    for (; precision < 17; precision++) {
        snprintf(digits, sizeof digits, "%.*e", precision, x);
        if (strtod(digits, NULL) == x)
            break;
    }
    e = strchr(digits, 'e');
    const int exponent = e ? (int)strtol(e + 1, NULL, 10) : 0;
    if (exponent < -4 || exponent >= 16) {
        if (e)
            *e = 0;
        return (size_t)snprintf(out, 40, "%se%c%02d", digits, exponent < 0 ? '-' : '+',
                                abs(exponent));
    }
    const int after = precision - exponent > 1 ? precision - exponent : 1;
    return (size_t)snprintf(out, 40, "%.*f", after, x);
}

/* ---- repr ---- */

static bool printable(uint32_t c)
{
    const utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return c == ' ' ||
           !(k == UTF8PROC_CATEGORY_CN || k == UTF8PROC_CATEGORY_CC || k == UTF8PROC_CATEGORY_CF ||
             k == UTF8PROC_CATEGORY_CS || k == UTF8PROC_CATEGORY_CO || k == UTF8PROC_CATEGORY_ZL ||
             k == UTF8PROC_CATEGORY_ZP || k == UTF8PROC_CATEGORY_ZS);
}

static void put_quoted(nb_tpl_run *r, nb_tpl_sink *k, nb_tpl_value s)
{
    const bool twice = s.n && memchr(s.u.s, '\'', s.n) && !memchr(s.u.s, '"', s.n);
    const char quote[2] = {twice ? '"' : '\'', 0};
    nb_tpl_puts(r, k, quote);
    for (size_t i = 0; i < s.n && r->st == NB_OK;) {
        uint32_t c = 0;
        char text[16];
        const size_t n = nb_tpl_char(s.u.s + i, s.n - i, &c);
        if (c == '\\' || c == (unsigned char)quote[0])
            snprintf(text, sizeof text, "\\%c", (char)c);
        else if (c == '\n' || c == '\r' || c == '\t')
            snprintf(text, sizeof text, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
        else if (printable(c) || c == 0xfffd)
            text[0] = 0;
        else
            snprintf(text, sizeof text,
                     c < 0x100     ? "\\x%02x"
                     : c < 0x10000 ? "\\u%04x"
                                   : "\\U%08x",
                     (unsigned)c);
        if (text[0])
            nb_tpl_puts(r, k, text);
        else
            nb_tpl_put(r, k, s.u.s + i, n);
        i += n;
    }
    nb_tpl_puts(r, k, quote);
}

static void put_scalar(nb_tpl_run *r, nb_tpl_sink *k, nb_tpl_value v)
{
    char text[48];
    switch (v.type) {
    case NB_TPL_NONE:
        nb_tpl_puts(r, k, "None");
        break;
    case NB_TPL_BOOL:
        nb_tpl_puts(r, k, v.u.b ? "True" : "False");
        break;
    case NB_TPL_INT:
        snprintf(text, sizeof text, "%lld", (long long)v.u.i);
        nb_tpl_puts(r, k, text);
        break;
    case NB_TPL_REAL:
        nb_tpl_put(r, k, text, real_text(v.u.r, text));
        break;
    case NB_TPL_UNDEFINED:
        break;
    default:
        nb_tpl_puts(r, k, "<");
        nb_tpl_puts(r, k, nb_tpl_type_name(v));
        nb_tpl_puts(r, k, ">");
    }
}

static void put_dict(nb_tpl_run *r, nb_tpl_sink *k, const nb_tpl_dict *d)
{
    nb_tpl_puts(r, k, "{");
    for (uint32_t i = 0; i < d->n && nb_tpl_step(r, 1); i++) {
        if (i)
            nb_tpl_puts(r, k, ", ");
        nb_tpl_put_repr(r, k, d->at[i].key);
        nb_tpl_puts(r, k, ": ");
        nb_tpl_put_repr(r, k, d->at[i].value);
    }
    nb_tpl_puts(r, k, "}");
}

static void put_list(nb_tpl_run *r, nb_tpl_sink *k, nb_tpl_value v)
{
    const nb_tpl_list *l = v.u.list;
    nb_tpl_puts(r, k, v.type == NB_TPL_TUPLE ? "(" : "[");
    for (uint32_t i = 0; i < l->n && nb_tpl_step(r, 1); i++) {
        if (i)
            nb_tpl_puts(r, k, ", ");
        nb_tpl_put_repr(r, k, l->at[i]);
    }
    nb_tpl_puts(r, k, v.type == NB_TPL_TUPLE ? l->n == 1 ? ",)" : ")" : "]");
}

void nb_tpl_put_repr(nb_tpl_run *r, nb_tpl_sink *k, nb_tpl_value v)
{
    if (!nb_tpl_enter(r))
        return;
    if (v.type == NB_TPL_STRING)
        put_quoted(r, k, v);
    else if (v.type == NB_TPL_LIST || v.type == NB_TPL_TUPLE)
        put_list(r, k, v);
    else if (v.type == NB_TPL_DICT)
        put_dict(r, k, v.u.dict);
    else if (v.type == NB_TPL_NAMESPACE) {
        nb_tpl_puts(r, k, "<Namespace ");
        put_dict(r, k, v.u.dict);
        nb_tpl_puts(r, k, ">");
    } else if (v.type == NB_TPL_UNDEFINED)
        nb_tpl_puts(r, k, "Undefined");
    else
        put_scalar(r, k, v);
    nb_tpl_leave(r);
}

void nb_tpl_put_value(nb_tpl_run *r, nb_tpl_sink *k, nb_tpl_value v)
{
    if (v.type == NB_TPL_STRING)
        nb_tpl_put(r, k, v.u.s, v.n);
    else if (v.type != NB_TPL_UNDEFINED)
        nb_tpl_put_repr(r, k, v);
}

nb_tpl_value nb_tpl_str(nb_tpl_run *r, nb_tpl_value v)
{
    nb_tpl_sink k = {0};
    if (v.type == NB_TPL_STRING)
        return v;
    nb_tpl_put_value(r, &k, v);
    return nb_tpl_sunk(&k);
}

/* ---- JSON as Python's json.dumps writes it ---- */

static void json_string(nb_tpl_run *r, nb_tpl_sink *k, nb_tpl_value s, bool ascii)
{
    size_t plain = 0, i = 0;
    nb_tpl_puts(r, k, "\"");
    while (i < s.n && r->st == NB_OK) {
        static const char from[] = "\"\\\n\r\t\b\f", to[] = "\"\\nrtbf";
        const char b = s.u.s[i];
        const char *known = b ? strchr(from, b) : NULL;
        const bool wide = ascii && (unsigned char)b >= 0x80 && b != NB_TOKENIZE_GUARD;
        char text[16];
        uint32_t c = (unsigned char)b;
        size_t n = 1;
        if (!known && (unsigned char)b >= 0x20 && !wide) {
            i++;
            continue;
        }
        if (wide) {
            n = nb_utf8_at((const unsigned char *)s.u.s + i, s.n - i, &c);
            c = n ? c : 0xfffd;
            n = n ? n : 1;
        }
        if (known)
            snprintf(text, sizeof text, "\\%c", to[known - from]);
        else if (c < 0x10000)
            snprintf(text, sizeof text, "\\u%04x", (unsigned)c);
        else
            snprintf(text, sizeof text, "\\u%04x\\u%04x", (unsigned)(0xd7c0 + (c >> 10)),
                     (unsigned)(0xdc00 + (c & 0x3ff)));
        nb_tpl_put(r, k, s.u.s + plain, i - plain);
        nb_tpl_puts(r, k, text);
        i += n;
        plain = i;
    }
    nb_tpl_put(r, k, s.u.s + plain, i - plain);
    nb_tpl_puts(r, k, "\"");
}

static void json_break(nb_tpl_run *r, nb_tpl_sink *k, const nb_tpl_json *how, int level)
{
    if (how->indent < 0)
        return;
    nb_tpl_puts(r, k, "\n");
    const nb_tpl_value blanks = nb_tpl_repeat(r, nb_tpl_literal(" "), (int64_t)how->indent * level);
    if (blanks.type == NB_TPL_STRING)
        nb_tpl_put(r, k, blanks.u.s, blanks.n);
}

static void json_value(nb_tpl_run *r, nb_tpl_sink *k, nb_tpl_value v, const nb_tpl_json *how,
                       int level);

static void json_key(nb_tpl_run *r, nb_tpl_sink *k, nb_tpl_value key, const nb_tpl_json *how)
{
    if (key.type == NB_TPL_STRING)
        json_string(r, k, key, how->ascii);
    else if (nb_tpl_is_number(key) || key.type == NB_TPL_NONE) {
        nb_tpl_puts(r, k, "\"");
        json_value(r, k, key, how, 0);
        nb_tpl_puts(r, k, "\"");
    } else
        NB_TPL_BAD(r, "tojson takes no %s as a key", nb_tpl_type_name(key));
}

static void json_dict(nb_tpl_run *r, nb_tpl_sink *k, const nb_tpl_dict *d, const nb_tpl_json *how,
                      int level)
{
    nb_tpl_value items = nb_tpl_items_of(r, d);
    if (items.type == NB_TPL_LIST && how->sort)
        items = nb_tpl_sorted(r, items.u.list, items.u.list, false, false);
    nb_tpl_puts(r, k, "{");
    for (uint32_t i = 0; items.type == NB_TPL_LIST && i < d->n && nb_tpl_step(r, 1); i++) {
        const nb_tpl_value *pair = items.u.list->at[i].u.list->at;
        if (i)
            nb_tpl_put(r, k, how->comma.u.s, how->comma.n);
        json_break(r, k, how, level + 1);
        json_key(r, k, pair[0], how);
        nb_tpl_put(r, k, how->colon.u.s, how->colon.n);
        json_value(r, k, pair[1], how, level + 1);
    }
    if (d->n)
        json_break(r, k, how, level);
    nb_tpl_puts(r, k, "}");
}

static void json_list(nb_tpl_run *r, nb_tpl_sink *k, const nb_tpl_list *l, const nb_tpl_json *how,
                      int level)
{
    nb_tpl_puts(r, k, "[");
    for (uint32_t i = 0; i < l->n && nb_tpl_step(r, 1); i++) {
        if (i)
            nb_tpl_put(r, k, how->comma.u.s, how->comma.n);
        json_break(r, k, how, level + 1);
        json_value(r, k, l->at[i], how, level + 1);
    }
    if (l->n)
        json_break(r, k, how, level);
    nb_tpl_puts(r, k, "]");
}

static void json_value(nb_tpl_run *r, nb_tpl_sink *k, nb_tpl_value v, const nb_tpl_json *how,
                       int level)
{
    if (!nb_tpl_enter(r))
        return;
    if (v.type == NB_TPL_STRING)
        json_string(r, k, v, how->ascii);
    else if (v.type == NB_TPL_LIST || v.type == NB_TPL_TUPLE)
        json_list(r, k, v.u.list, how, level);
    else if (v.type == NB_TPL_DICT)
        json_dict(r, k, v.u.dict, how, level);
    else if (v.type == NB_TPL_NONE)
        nb_tpl_puts(r, k, "null");
    else if (v.type == NB_TPL_BOOL)
        nb_tpl_puts(r, k, v.u.b ? "true" : "false");
    else if (v.type == NB_TPL_REAL && !isfinite(v.u.r))
        nb_tpl_puts(r, k, isnan(v.u.r) ? "NaN" : v.u.r > 0 ? "Infinity" : "-Infinity");
    else if (v.type == NB_TPL_INT || v.type == NB_TPL_REAL)
        put_scalar(r, k, v);
    else
        NB_TPL_BAD(r, "tojson takes no %s", nb_tpl_type_name(v));
    nb_tpl_leave(r);
}

void nb_tpl_put_json(nb_tpl_run *r, nb_tpl_sink *k, nb_tpl_value v, const nb_tpl_json *how)
{
    json_value(r, k, v, how, 0);
}

/* ---- % and str.format ---- */

struct spec { /* [[fill]align][sign][0][width][.precision][type] */
    char fill, align, sign, type;
    bool comma;
    int64_t width, precision;
};

static bool number(const char *s, size_t n, size_t *i, int64_t *v)
{
    const size_t from = *i;
    for (*v = 0; *i < n && s[*i] >= '0' && s[*i] <= '9'; (*i)++)
        *v = *v < 1000000 ? *v * 10 + (s[*i] - '0') : *v;
    return *i > from;
}

static bool read_spec(const char *s, size_t n, size_t *i, struct spec *f)
{
    *f = (struct spec){.fill = ' ', .precision = -1};
    if (*i + 1 < n && strchr("<>^=", s[*i + 1]) && s[*i + 1]) {
        f->fill = s[(*i)++];
        f->align = s[(*i)++];
    } else if (*i < n && strchr("<>^=", s[*i]) && s[*i])
        f->align = s[(*i)++];
    while (*i < n && strchr("+- #", s[*i]) && s[*i]) {
        if (s[*i] == '-' && !f->align)
            f->align = '-';
        f->sign = s[*i] == '+' ? '+' : f->sign;
        (*i)++;
    }
    if (*i < n && s[*i] == '0') {
        f->fill = '0';
        f->align = f->align ? f->align : '=';
        (*i)++;
    }
    number(s, n, i, &f->width);
    if (*i < n && s[*i] == ',') {
        f->comma = true;
        (*i)++;
    }
    if (*i < n && s[*i] == '.') {
        (*i)++;
        if (!number(s, n, i, &f->precision))
            f->precision = 0;
    }
    return f->width <= 100000 && f->precision <= 100;
}

static void put_padded(nb_tpl_run *r, nb_tpl_sink *k, nb_tpl_value text, const struct spec *f,
                       char usual)
{
    const int64_t pad = f->width - nb_tpl_length(text);
    const char align = f->align ? f->align : usual;
    const int64_t left = align == '<' || align == '-' ? 0 : align == '^' ? pad / 2 : pad;
    size_t sign = align == '=' && text.n && (text.u.s[0] == '-' || text.u.s[0] == '+');
    nb_tpl_put(r, k, text.u.s, sign);
    for (int64_t i = 0; i < left; i++)
        nb_tpl_put(r, k, &f->fill, 1);
    nb_tpl_put(r, k, text.u.s + sign, text.n - sign);
    for (int64_t i = left; i < pad; i++)
        nb_tpl_put(r, k, &f->fill, 1);
}

static void put_formatted(nb_tpl_run *r, nb_tpl_sink *k, nb_tpl_value v, const struct spec *f)
{
    char digits[480];
    nb_tpl_sink t = {0};
    int64_t i = 0;
    const char type = f->type                 ? f->type
                      : v.type == NB_TPL_INT  ? 'd'
                      : v.type == NB_TPL_REAL ? 'r'
                                              : 's';
    if (type == 's' || type == 'r') {
        nb_tpl_value text =
            type == 's' ? nb_tpl_str(r, v) : (nb_tpl_put_repr(r, &t, v), nb_tpl_sunk(&t));
        if (f->precision >= 0 && text.type == NB_TPL_STRING)
            text = nb_tpl_slice_text(r, text, 0, f->precision, 1);
        if (text.type == NB_TPL_STRING)
            put_padded(r, k, text, f, nb_tpl_is_number(v) ? '>' : '<');
        return;
    }
    if (!nb_tpl_is_number(v) || (v.type == NB_TPL_REAL && !(fabs(v.u.r) < 1e300))) {
        NB_TPL_BAD(r, "the format %c needs a number, not %s", type, nb_tpl_type_name(v));
        return;
    }
    const int precision = f->precision < 0 ? 6 : (int)f->precision;
    int n = 0;
    if (!nb_tpl_as_int(v, &i) && strchr("dixXo", type))
        i = fabs(v.u.r) < 9e18 ? (int64_t)v.u.r : 0;
    if (type == 'd' || type == 'i' || type == 'u')
        n = snprintf(digits, sizeof digits, f->sign ? "%+lld" : "%lld", (long long)i);
    else if (type == 'x' || type == 'X' || type == 'o')
        n = snprintf(digits, sizeof digits,
                     type == 'x'   ? "%llx"
                     : type == 'X' ? "%llX"
                                   : "%llo",
                     (unsigned long long)i);
    else if (type == 'f' || type == 'F' || type == '%')
        n = snprintf(digits, sizeof digits, f->sign ? "%+.*f" : "%.*f", precision,
                     nb_tpl_as_real(v) * (type == '%' ? 100 : 1));
    else if (type == 'e' || type == 'g')
        n = snprintf(digits, sizeof digits, type == 'e' ? "%.*e" : "%.*g", precision,
                     nb_tpl_as_real(v));
    else {
        NB_TPL_BAD(r, "the format %c is not known", type >= ' ' && type < 127 ? type : '?');
        return;
    }
    if (f->comma && memchr("difF", type, 4)) { /* thousands */
        const char *dot = memchr(digits, '.', (size_t)n);
        const size_t whole = dot ? (size_t)(dot - digits) : (size_t)n;
        const size_t first = digits[0] == '-' || digits[0] == '+';
        for (size_t c = 0; c < (size_t)n; c++) {
            if (c > first && c < whole && (whole - c) % 3 == 0)
                nb_tpl_puts(r, &t, ",");
            nb_tpl_put(r, &t, digits + c, 1);
        }
    } else
        nb_tpl_put(r, &t, digits, (size_t)n);
    if (type == '%')
        nb_tpl_puts(r, &t, "%");
    put_padded(r, k, nb_tpl_sunk(&t), f, '>');
}

nb_tpl_value nb_tpl_percent(nb_tpl_run *r, nb_tpl_value format, nb_tpl_value args)
{
    const bool many = args.type == NB_TPL_TUPLE;
    nb_tpl_sink k = {0};
    uint32_t next = 0;
    const char *s = format.u.s;
    for (size_t i = 0; i < format.n && nb_tpl_step(r, 0);) {
        const char *mark = memchr(s + i, '%', format.n - i);
        const size_t to = mark ? (size_t)(mark - s) : format.n;
        struct spec f;
        nb_tpl_value v = args;
        nb_tpl_put(r, &k, s + i, to - i);
        i = to + 1;
        if (to >= format.n)
            break;
        if (i < format.n && s[i] == '(' && nb_tpl_is_dict(args)) { /* %(name)s */
            const char *close = memchr(s + i, ')', format.n - i);
            const size_t end = close ? (size_t)(close - s) : format.n;
            v = nb_tpl_item(r, args, nb_tpl_string(s + i + 1, end - i - (end > i)));
            i = end + 1;
        } else if (i < format.n && s[i] != '%') {
            if (many ? next >= args.u.list->n : next > 0)
                return NB_TPL_BAD(r, "a format has more places than values");
            v = many ? args.u.list->at[next] : args;
            next++;
        }
        if (i >= format.n || !read_spec(s, format.n, &i, &f) || i >= format.n)
            return NB_TPL_BAD(r, "a format that is not understood");
        f.type = s[i++];
        if (f.align == 0)
            f.align = '>';
        if (f.type == '%')
            nb_tpl_puts(r, &k, "%");
        else
            put_formatted(r, &k, v, &f);
    }
    if (r->st == NB_OK && many && next < args.u.list->n)
        return NB_TPL_BAD(r, "a format has fewer places than values");
    return nb_tpl_sunk(&k);
}

/* "name", "0" or "" with .attributes behind it. */
static nb_tpl_value field(nb_tpl_run *r, const char *s, size_t n, const nb_tpl_args *a,
                          uint32_t *next)
{
    size_t i = 0, end = 0;
    int64_t place = 0;
    while (end < n && s[end] != '.')
        end++;
    const bool numbered = number(s, end, &i, &place) && i == end;
    nb_tpl_value v = nb_tpl_undefined(NULL);
    if (numbered || end == 0) {
        place = numbered ? place : (*next)++;
        if (place >= a->n)
            return NB_TPL_BAD(r, "a format has more places than values");
        v = a->at[place];
    } else {
        bool found = false;
        for (uint32_t k = 0; k < a->n_key && !found; k++) {
            found = a->key[k]->n == end && memcmp(a->key[k]->s, s, end) == 0;
            v = found ? a->by_key[k] : v;
        }
        if (!found)
            return NB_TPL_BAD(r, "a format names a value that is not given");
    }
    while (end < n && r->st == NB_OK) {
        const size_t from = ++end;
        while (end < n && s[end] != '.')
            end++;
        v = nb_tpl_attr(r, v, s + from, end - from);
    }
    return v;
}

nb_tpl_value nb_tpl_brace(nb_tpl_run *r, nb_tpl_value format, const nb_tpl_args *a)
{
    nb_tpl_sink k = {0};
    uint32_t next = 0;
    const char *s = format.u.s;
    for (size_t i = 0; i < format.n && nb_tpl_step(r, 0);) {
        const char c = s[i];
        if ((c == '{' || c == '}') && i + 1 < format.n && s[i + 1] == c) {
            nb_tpl_put(r, &k, &c, 1);
            i += 2;
            continue;
        }
        if (c != '{') {
            nb_tpl_put(r, &k, &c, 1);
            i++;
            continue;
        }
        const char *close = memchr(s + i, '}', format.n - i);
        if (!close)
            return NB_TPL_BAD(r, "a format that is not understood");
        const size_t end = (size_t)(close - s);
        size_t name = i + 1, at = 0;
        while (name < end && s[name] != ':' && s[name] != '!')
            name++;
        const nb_tpl_value v = field(r, s + i + 1, name - i - 1, a, &next);
        const bool repr = name + 1 < end && s[name] == '!' && s[name + 1] == 'r';
        at = name + (name < end && s[name] == '!' ? 2 : 0);
        at += at < end;
        struct spec f;
        if (at > end || !read_spec(s, end, &at, &f))
            return NB_TPL_BAD(r, "a format that is not understood");
        f.type = at < end ? s[at] : repr ? 'r' : 0;
        if (f.align == '-')
            f.align = 0;
        put_formatted(r, &k, v, &f);
        i = end + 1;
    }
    return nb_tpl_sunk(&k);
}

/* ---- dates ---- */

nb_tpl_value nb_tpl_strftime(nb_tpl_run *r, nb_tpl_value format)
{
    static const char *const months[] = {"January",   "February", "March",    "April",
                                         "May",       "June",     "July",     "August",
                                         "September", "October",  "November", "December"};
    static const char *const days[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                       "Thursday", "Friday", "Saturday"};
    const time_t when = (time_t)r->env->now;
    struct tm t = {0};
    nb_tpl_sink k = {0};
    gmtime_r(&when, &t);
    for (size_t i = 0; i < format.n && nb_tpl_step(r, 0); i++) {
        char text[64] = "";
        if (format.u.s[i] != '%' || i + 1 == format.n) {
            nb_tpl_put(r, &k, format.u.s + i, 1);
            continue;
        }
        const bool bare = format.u.s[++i] == '-' && i + 1 < format.n; /* %-d: no leading zero */
        const char c = format.u.s[i += bare];
        const int hour = t.tm_hour % 12 ? t.tm_hour % 12 : 12;
        static const char twos[] = "dmHMSIye";
        const int two[] = {t.tm_mday, t.tm_mon + 1, t.tm_hour,       t.tm_min,
                           t.tm_sec,  hour,         t.tm_year % 100, t.tm_mday};
        const char *which = c ? strchr(twos, c) : NULL;
        if (which)
            snprintf(text, sizeof text, bare ? "%d" : c == 'e' ? "%2d" : "%02d", two[which - twos]);
        else if (c == 'Y')
            snprintf(text, sizeof text, "%d", t.tm_year + 1900);
        else if (c == 'B' || c == 'b' || c == 'h')
            snprintf(text, sizeof text, c == 'B' ? "%s" : "%.3s", months[t.tm_mon % 12]);
        else if (c == 'A' || c == 'a')
            snprintf(text, sizeof text, c == 'A' ? "%s" : "%.3s", days[t.tm_wday % 7]);
        else if (c == 'j')
            snprintf(text, sizeof text, bare ? "%d" : "%03d", t.tm_yday + 1);
        else if (c == 'p')
            snprintf(text, sizeof text, "%s", t.tm_hour < 12 ? "AM" : "PM");
        else if (c == 'F')
            snprintf(text, sizeof text, "%d-%02d-%02d", t.tm_year + 1900, t.tm_mon + 1, t.tm_mday);
        else if (c == 'T' || c == 'X')
            snprintf(text, sizeof text, "%02d:%02d:%02d", t.tm_hour, t.tm_min, t.tm_sec);
        else if (c == 'R')
            snprintf(text, sizeof text, "%02d:%02d", t.tm_hour, t.tm_min);
        else if (c == 'D' || c == 'x')
            snprintf(text, sizeof text, "%02d/%02d/%02d", t.tm_mon + 1, t.tm_mday, t.tm_year % 100);
        else if (c == 'w' || c == 'u')
            snprintf(text, sizeof text, "%d", c == 'u' && t.tm_wday == 0 ? 7 : t.tm_wday);
        else if (c == '%')
            snprintf(text, sizeof text, "%%");
        else if (c != 'Z' && c != 'z') /* no zone: Python's naive time prints nothing */
            return NB_TPL_BAD(r, "strftime_now knows no %%%c", c >= ' ' && c < 127 ? c : '?');
        nb_tpl_puts(r, &k, text);
    }
    return nb_tpl_sunk(&k);
}
