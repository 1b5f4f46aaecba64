/* template_filter.c -- the filters behind `|`: Jinja's, and tojson as transformers has it. */
#include "text/template_run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static tpl_value list_of(tpl_run *r, tpl_type type, const tpl_list *v)
{
    tpl_value list = tpl_list_new(r, type, v->n);
    for (uint32_t i = 0; i < v->n && tpl_step(r, i % 16 == 0); i++)
        tpl_list_add(r, list.u.list, v->at[i]);
    return list;
}

/* "a.b.0" of a value, as map and sort take it. */
static tpl_value by_path(tpl_run *r, tpl_value v, tpl_value path)
{
    if (path.type != TPL_STRING)
        return tpl_item(r, v, path);
    for (size_t i = 0; i <= path.n && r->st == NB_OK; i++) {
        const size_t from = i;
        bool number = true;
        int64_t place = 0;
        for (; i < path.n && path.u.s[i] != '.'; i++) {
            number = number && path.u.s[i] >= '0' && path.u.s[i] <= '9' && place < 100000000;
            place = number ? place * 10 + (path.u.s[i] - '0') : place;
        }
        v = tpl_item(r, v,
                     number && i > from ? tpl_int(place) : tpl_string(path.u.s + from, i - from));
    }
    return v;
}

/* ---- text ---- */

static tpl_value trim(tpl_run *r, tpl_value on, const tpl_args *a)
{
    const tpl_value *chars = tpl_arg(a, 0, "chars");
    const tpl_value s = tpl_str(r, on);
    const bool given = chars && chars->type == TPL_STRING;
    return r->st == NB_OK ? tpl_strip(r, s, given ? chars : NULL, true, true) : s;
}

static tpl_value upper(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)a;
    return tpl_upper(r, tpl_str(r, on));
}

static tpl_value lower(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)a;
    return tpl_lower(r, tpl_str(r, on));
}

static tpl_value capitalize(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)a;
    return tpl_capital(r, tpl_str(r, on));
}

static tpl_value title(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)a;
    return tpl_title(r, tpl_str(r, on), false);
}

static tpl_value string(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)a;
    return tpl_str(r, on);
}

static tpl_value replace(tpl_run *r, tpl_value on, const tpl_args *a)
{
    const tpl_value *from = tpl_arg(a, 0, "old"), *to = tpl_arg(a, 1, "new");
    const int64_t most = tpl_int_arg(r, a, 2, "count", -1);
    if (!from || !to)
        return TPL_BAD(r, "replace takes two texts");
    const tpl_value s = tpl_str(r, on), x = tpl_str(r, *from), y = tpl_str(r, *to);
    return r->st == NB_OK ? tpl_replace(r, s, x, y, most) : s;
}

static tpl_value escape(tpl_run *r, tpl_value on, const tpl_args *a)
{
    static const char from[] = "&<>\"'";
    static const char *const to[] = {"&amp;", "&lt;", "&gt;", "&#34;", "&#39;"};
    const tpl_value s = tpl_str(r, on);
    tpl_sink k = {0};
    (void)a;
    for (uint32_t i = 0; i < s.n && r->st == NB_OK; i++) {
        const char *hit = s.u.s[i] ? strchr(from, s.u.s[i]) : NULL;
        if (hit)
            tpl_puts(r, &k, to[hit - from]);
        else
            tpl_put(r, &k, s.u.s + i, 1);
    }
    return tpl_sunk(&k);
}

/* indent(width=4, first=false, blank=false): blanks before every line but the first and empty ones.
 */
static tpl_value indent(tpl_run *r, tpl_value on, const tpl_args *a)
{
    const tpl_value *width = tpl_arg(a, 0, "width"), s = tpl_str(r, on);
    const bool first = tpl_bool_arg(a, 1, "first", false),
               blank = tpl_bool_arg(a, 2, "blank", false);
    const tpl_value pad = width && width->type == TPL_STRING
                              ? *width
                              : tpl_repeat(r, tpl_literal(" "), tpl_int_arg(r, a, 0, "width", 4));
    tpl_sink k = {0};
    if (r->st != NB_OK)
        return s;
    for (size_t at = 0; at <= s.n && tpl_step(r, 1);) {
        const char *nl = s.n ? memchr(s.u.s + at, '\n', s.n - at) : NULL;
        const size_t end = nl ? (size_t)(nl - s.u.s) : s.n;
        if (at == 0 ? first : end > at || blank)
            tpl_put(r, &k, pad.u.s, pad.n);
        tpl_put(r, &k, s.u.s + at, end - at);
        if (!nl)
            break;
        tpl_puts(r, &k, "\n");
        at = end + 1;
    }
    return tpl_sunk(&k);
}

static tpl_value join(tpl_run *r, tpl_value on, const tpl_args *a)
{
    const tpl_value *by = tpl_arg(a, 0, "d"), *attribute = tpl_arg(a, 1, "attribute");
    const tpl_value between = by ? tpl_str(r, *by) : tpl_string("", 0);
    const tpl_list *v = tpl_iterate(r, on);
    tpl_sink k = {0};
    for (uint32_t i = 0; i < v->n && tpl_step(r, i % 16 == 0); i++) {
        const bool path = attribute && attribute->type != TPL_NONE;
        const tpl_value x = path ? by_path(r, v->at[i], *attribute) : v->at[i];
        if (i)
            tpl_put(r, &k, between.u.s, between.n);
        tpl_put_value(r, &k, x);
    }
    return tpl_sunk(&k);
}

static tpl_value format(tpl_run *r, tpl_value on, const tpl_args *a)
{
    tpl_list args = {.at = a->at, .n = a->n, .cap = a->n};
    tpl_value values = {.type = TPL_TUPLE, .u.list = &args};
    const tpl_value s = tpl_str(r, on);
    if (a->n_key) {
        values = tpl_dict_new(r, TPL_DICT);
        for (uint32_t i = 0; i < a->n_key && r->st == NB_OK; i++)
            tpl_dict_set(r, values.u.dict, tpl_string(a->key[i]->s, a->key[i]->n), a->by_key[i]);
    }
    return r->st == NB_OK ? tpl_percent(r, s, values) : s;
}

static tpl_value wordcount(tpl_run *r, tpl_value on, const tpl_args *a)
{
    const tpl_value words = tpl_split(r, tpl_str(r, on), NULL, -1, false);
    (void)a;
    return r->st == NB_OK ? tpl_int(words.u.list->n) : words;
}

static tpl_value tojson(tpl_run *r, tpl_value on, const tpl_args *a)
{
    const tpl_value *separators = tpl_arg(a, 2, "separators"), *wide = tpl_arg(a, 1, "indent");
    tpl_json how = {.ascii = tpl_bool_arg(a, 0, "ensure_ascii", false),
                    .sort = tpl_bool_arg(a, 3, "sort_keys", false),
                    .indent = -1};
    tpl_sink k = {0};
    if (wide && wide->type != TPL_NONE) {
        const int64_t n = tpl_int_arg(r, a, 1, "indent", 0);
        how.indent = n < 0 ? 0 : n > 1000 ? 1000 : (int)n;
    }
    how.comma = tpl_literal(how.indent < 0 ? ", " : ",");
    how.colon = tpl_literal(": ");
    if (separators && tpl_is_row(*separators) && separators->u.list->n == 2) {
        how.comma = tpl_str(r, separators->u.list->at[0]);
        how.colon = tpl_str(r, separators->u.list->at[1]);
    }
    tpl_put_json(r, &k, on, &how);
    return tpl_sunk(&k);
}

/* ---- numbers ---- */

static tpl_value absolute(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)a;
    if (on.type == TPL_REAL)
        return tpl_real(fabs(on.u.r));
    return tpl_compare(r, '<', on, tpl_int(0)) ? tpl_operate(r, '-', tpl_int(0), on) : on;
}

/* A number out of a text, the whole of it. */
static bool read_number(tpl_run *r, tpl_value v, tpl_value *out)
{
    char text[64], *end = text;
    if (tpl_is_number(v)) {
        *out = v;
        return true;
    }
    const tpl_value s =
        v.type == TPL_STRING ? tpl_strip(r, v, NULL, true, true) : tpl_string("", 0);
    if (s.n == 0 || s.n >= sizeof text || !memchr("+-.0123456789", s.u.s[0], 13))
        return false;
    memcpy(text, s.u.s, s.n);
    text[s.n] = 0;
    const long long i = strtoll(text, &end, 10);
    if (!*end && i < INT64_MAX && i > INT64_MIN)
        *out = tpl_int(i);
    else
        *out = tpl_real(strtod(text, &end));
    return !*end && !memchr(text, 'x', s.n) && !memchr(text, 'X', s.n);
}

static tpl_value to_int(tpl_run *r, tpl_value on, const tpl_args *a)
{
    const tpl_value *otherwise = tpl_arg(a, 0, "default");
    tpl_value v = tpl_int(0);
    int64_t i = 0;
    if (!read_number(r, on, &v) || (v.type == TPL_REAL && !(fabs(v.u.r) < 9e18)))
        return otherwise ? *otherwise : tpl_int(0);
    return tpl_int(tpl_as_int(v, &i) ? i : (int64_t)v.u.r);
}

static tpl_value to_float(tpl_run *r, tpl_value on, const tpl_args *a)
{
    const tpl_value *otherwise = tpl_arg(a, 0, "default");
    tpl_value v = tpl_int(0);
    if (!read_number(r, on, &v))
        return otherwise ? *otherwise : tpl_real(0);
    return tpl_real(tpl_as_real(v));
}

static tpl_value rounded(tpl_run *r, tpl_value on, const tpl_args *a)
{
    const int64_t precision = tpl_int_arg(r, a, 0, "precision", 0);
    const tpl_value *method = tpl_arg(a, 1, "method");
    const double scale = pow(10, (double)precision);
    if (!tpl_is_number(on))
        return TPL_BAD(r, "round needs a number, not %s", tpl_type_name(on));
    const double x = tpl_as_real(on) * scale;
    const char how =
        method && method->type == TPL_STRING && method->n ? method->u.s[1 % method->n] : 'o';
    return tpl_real((how == 'e' ? ceil(x) : how == 'l' ? floor(x) : rint(x)) / scale);
}

/* ---- lists ---- */

static tpl_value length(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)a;
    if (on.type == TPL_STRING)
        return tpl_step(r, on.n / 1024) ? tpl_int(tpl_length(on)) : on;
    if (on.type == TPL_DICT)
        return tpl_int(on.u.dict->n);
    if (on.type == TPL_LOOP)
        return tpl_int(on.u.loop->items->n);
    if (on.type == TPL_UNDEFINED)
        return tpl_int(0);
    return tpl_is_row(on) ? tpl_int(on.u.list->n)
                          : TPL_BAD(r, "a %s has no length", tpl_type_name(on));
}

static tpl_value first(tpl_run *r, tpl_value on, const tpl_args *a)
{
    const tpl_list *v = tpl_iterate(r, on);
    (void)a;
    return v->n ? v->at[0] : tpl_undefined(NULL);
}

static tpl_value last(tpl_run *r, tpl_value on, const tpl_args *a)
{
    const tpl_list *v = tpl_iterate(r, on);
    (void)a;
    return v->n ? v->at[v->n - 1] : tpl_undefined(NULL);
}

static tpl_value list(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)a;
    return list_of(r, TPL_LIST, tpl_iterate(r, on));
}

static tpl_value reverse(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)a;
    if (on.type == TPL_STRING)
        return tpl_slice_text(r, on, tpl_length(on) - 1, -1, -1);
    tpl_value v = list_of(r, TPL_GENERATOR, tpl_iterate(r, on));
    if (r->st != NB_OK)
        return v;
    for (uint32_t i = 0, k = v.u.list->n; i + 1 < k; i++) {
        const tpl_value x = v.u.list->at[i];
        v.u.list->at[i] = v.u.list->at[--k];
        v.u.list->at[k] = x;
    }
    return v;
}

static tpl_value sum(tpl_run *r, tpl_value on, const tpl_args *a)
{
    const tpl_value *attribute = tpl_arg(a, 0, "attribute"), *start = tpl_arg(a, 1, "start");
    const tpl_list *v = tpl_iterate(r, on);
    tpl_value s = start ? *start : tpl_int(0);
    for (uint32_t i = 0; i < v->n && tpl_step(r, 1); i++) {
        const bool path = attribute && attribute->type != TPL_NONE;
        s = tpl_add(r, s, path ? by_path(r, v->at[i], *attribute) : v->at[i]);
    }
    return s;
}

/* Stable merge sort of values by keys; fold: case does not count. */
tpl_value tpl_sorted(tpl_run *r, const tpl_list *v, const tpl_list *keys, bool fold, bool reverse_)
{
    const uint32_t n = v->n;
    tpl_value out = list_of(r, TPL_LIST, v), key = list_of(r, TPL_LIST, keys);
    uint32_t *at = tpl_alloc(r, (size_t)n + 1, sizeof *at),
             *to = tpl_alloc(r, (size_t)n + 1, sizeof *to);
    if (r->st != NB_OK)
        return out;
    for (uint32_t i = 0; i < n; i++) {
        at[i] = i;
        if (fold && key.u.list->at[i].type == TPL_STRING)
            key.u.list->at[i] = tpl_lower(r, key.u.list->at[i]);
    }
    for (uint64_t width = 1; width < n; width *= 2) {
        for (uint64_t from = 0; from < n; from += 2 * width) {
            const uint64_t middle = from + width < n ? from + width : n;
            const uint64_t end = from + 2 * width < n ? from + 2 * width : n;
            uint64_t i = from, k = middle;
            for (uint64_t o = from; o < end; o++) {
                bool right = i == middle;
                if (i < middle && k < end && tpl_step(r, 1)) {
                    const int c = tpl_order(r, key.u.list->at[at[i]], key.u.list->at[at[k]]);
                    right = reverse_ ? c < 0 : c == 1;
                }
                to[o] = right ? at[k++] : at[i++];
            }
        }
        uint32_t *swap = at;
        at = to;
        to = swap;
    }
    for (uint32_t i = 0; i < n; i++)
        out.u.list->at[i] = v->at[at[i]];
    return out;
}

static tpl_value keys_of(tpl_run *r, const tpl_list *v, const tpl_value *attribute)
{
    tpl_value keys = tpl_list_new(r, TPL_LIST, v->n);
    for (uint32_t i = 0; i < v->n && tpl_step(r, 1); i++)
        tpl_list_add(r, keys.u.list,
                     attribute && attribute->type != TPL_NONE ? by_path(r, v->at[i], *attribute)
                                                              : v->at[i]);
    return keys;
}

static tpl_value sort(tpl_run *r, tpl_value on, const tpl_args *a)
{
    const bool backwards = tpl_bool_arg(a, 0, "reverse", false);
    const bool fold = !tpl_bool_arg(a, 1, "case_sensitive", false);
    const tpl_list *v = tpl_iterate(r, on);
    const tpl_value keys = keys_of(r, v, tpl_arg(a, 2, "attribute"));
    return r->st == NB_OK ? tpl_sorted(r, v, keys.u.list, fold, backwards) : keys;
}

static tpl_value dictsort(tpl_run *r, tpl_value on, const tpl_args *a)
{
    const bool fold = !tpl_bool_arg(a, 0, "case_sensitive", false);
    const tpl_value *by = tpl_arg(a, 1, "by");
    const bool backwards = tpl_bool_arg(a, 2, "reverse", false);
    const bool values = by && by->type == TPL_STRING && by->n == 5;
    if (on.type != TPL_DICT)
        return TPL_BAD(r, "dictsort needs a dict, not %s", tpl_type_name(on));
    const tpl_value items = tpl_items_of(r, on.u.dict), place = tpl_int(values);
    const tpl_value keys = r->st == NB_OK ? keys_of(r, items.u.list, &place) : items;
    return r->st == NB_OK ? tpl_sorted(r, items.u.list, keys.u.list, fold, backwards) : keys;
}

static tpl_value extreme(tpl_run *r, tpl_value on, const tpl_args *a, bool most)
{
    const bool fold = !tpl_bool_arg(a, 0, "case_sensitive", false);
    const tpl_list *v = tpl_iterate(r, on);
    const tpl_value keys = keys_of(r, v, tpl_arg(a, 1, "attribute"));
    if (r->st != NB_OK || v->n == 0)
        return tpl_undefined(NULL);
    const tpl_value sorted = tpl_sorted(r, v, keys.u.list, fold, most);
    return r->st == NB_OK ? sorted.u.list->at[0] : sorted;
}

static tpl_value minimum(tpl_run *r, tpl_value on, const tpl_args *a)
{
    return extreme(r, on, a, false);
}

static tpl_value maximum(tpl_run *r, tpl_value on, const tpl_args *a)
{
    return extreme(r, on, a, true);
}

static tpl_value unique(tpl_run *r, tpl_value on, const tpl_args *a)
{
    const bool fold = !tpl_bool_arg(a, 0, "case_sensitive", false);
    const tpl_list *v = tpl_iterate(r, on);
    const tpl_value keys = keys_of(r, v, tpl_arg(a, 1, "attribute"));
    tpl_value seen = tpl_dict_new(r, TPL_DICT), out = tpl_list_new(r, TPL_GENERATOR, 0);
    for (uint32_t i = 0; i < v->n && tpl_step(r, 1); i++) {
        tpl_value key = keys.u.list->at[i];
        if (fold && key.type == TPL_STRING)
            key = tpl_lower(r, key);
        if (r->st == NB_OK && !tpl_dict_find(r, seen.u.dict, key)) {
            tpl_dict_set(r, seen.u.dict, key, tpl_none());
            tpl_list_add(r, out.u.list, v->at[i]);
        }
    }
    return out;
}

/* ---- map and choose ---- */

static tpl_args behind(const tpl_args *a, uint32_t skip)
{
    tpl_args rest = *a;
    skip = skip < a->n ? skip : a->n;
    rest.at = a->n ? a->at + skip : a->at;
    rest.n = a->n - skip;
    return rest;
}

static tpl_value map(tpl_run *r, tpl_value on, const tpl_args *a)
{
    const tpl_value *attribute = tpl_arg(a, UINT32_MAX, "attribute");
    const tpl_value *otherwise = tpl_arg(a, UINT32_MAX, "default");
    const tpl_args rest = behind(a, 1);
    const bool named = a->n && a->at[0].type == TPL_STRING;
    const tpl_row *row = named ? tpl_find_row(tpl_filters, a->at[0].u.s, a->at[0].n) : NULL;
    const tpl_list *v = tpl_iterate(r, tpl_truth(on) ? on : tpl_undefined(NULL)); /* none: empty */
    tpl_value out = tpl_list_new(r, TPL_GENERATOR, v->n);
    if (!attribute && !row)
        return TPL_BAD(r, "map takes the name of a filter, or attribute=");
    for (uint32_t i = 0; i < v->n && tpl_step(r, 1) && tpl_enter(r); i++) { /* map("map", ..) */
        tpl_value x = attribute ? by_path(r, v->at[i], *attribute) : row->call(r, v->at[i], &rest);
        tpl_leave(r);
        if (attribute && otherwise && x.type == TPL_UNDEFINED)
            x = *otherwise;
        if (r->st == NB_OK)
            tpl_list_add(r, out.u.list, x);
    }
    return out;
}

/* Those for which the test named at[skip] holds, of the item or of its attribute at[0]. */
static tpl_value choose(tpl_run *r, tpl_value on, const tpl_args *a, bool attribute, bool want)
{
    const uint32_t skip = attribute;
    const bool named = a->n > skip && a->at[skip].type == TPL_STRING;
    const tpl_row *row = named ? tpl_find_row(tpl_tests, a->at[skip].u.s, a->at[skip].n) : NULL;
    const tpl_args rest = behind(a, skip + 1);
    const tpl_list *v = tpl_iterate(r, tpl_truth(on) ? on : tpl_undefined(NULL)); /* none: empty */
    tpl_value out = tpl_list_new(r, TPL_GENERATOR, 0);
    if ((attribute && a->n < 1) || (a->n > skip && !row))
        return TPL_BAD(r, "there is no test of that name");
    for (uint32_t i = 0; i < v->n && tpl_step(r, 1); i++) {
        const tpl_value x = attribute ? by_path(r, v->at[i], a->at[0]) : v->at[i];
        const bool yes = r->st == NB_OK && tpl_truth(row ? row->call(r, x, &rest) : x);
        if (r->st == NB_OK && yes == want)
            tpl_list_add(r, out.u.list, v->at[i]);
    }
    return out;
}

static tpl_value select_(tpl_run *r, tpl_value on, const tpl_args *a)
{
    return choose(r, on, a, false, true);
}

static tpl_value reject(tpl_run *r, tpl_value on, const tpl_args *a)
{
    return choose(r, on, a, false, false);
}

static tpl_value selectattr(tpl_run *r, tpl_value on, const tpl_args *a)
{
    return choose(r, on, a, true, true);
}

static tpl_value rejectattr(tpl_run *r, tpl_value on, const tpl_args *a)
{
    return choose(r, on, a, true, false);
}

/* ---- the rest ---- */

static tpl_value default_(tpl_run *r, tpl_value on, const tpl_args *a)
{
    const tpl_value *v = tpl_arg(a, 0, "default_value");
    const bool falsy = tpl_bool_arg(a, 1, "boolean", false);
    (void)r;
    if (on.type == TPL_UNDEFINED || (falsy && !tpl_truth(on)))
        return v ? *v : tpl_string("", 0);
    return on;
}

static tpl_value items(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)a;
    if (on.type == TPL_UNDEFINED)
        return tpl_list_new(r, TPL_GENERATOR, 0);
    if (on.type != TPL_DICT)
        return TPL_BAD(r, "items needs a dict, not %s", tpl_type_name(on));
    const tpl_value pairs = tpl_items_of(r, on.u.dict);
    return r->st == NB_OK ? list_of(r, TPL_GENERATOR, pairs.u.list) : pairs;
}

static tpl_value attr(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)a; /* no value here has attributes that its items are not */
    if (on.type == TPL_NAMESPACE && a->n == 1 && a->at[0].type == TPL_STRING)
        return tpl_attr(r, on, a->at[0].u.s, a->at[0].n);
    return tpl_undefined(NULL);
}

const tpl_row tpl_filters[] = {{"abs", absolute},
                               {"attr", attr},
                               {"capitalize", capitalize},
                               {"count", length},
                               {"d", default_},
                               {"default", default_},
                               {"dictsort", dictsort},
                               {"e", escape},
                               {"escape", escape},
                               {"first", first},
                               {"float", to_float},
                               {"format", format},
                               {"indent", indent},
                               {"int", to_int},
                               {"items", items},
                               {"join", join},
                               {"last", last},
                               {"length", length},
                               {"list", list},
                               {"lower", lower},
                               {"map", map},
                               {"max", maximum},
                               {"min", minimum},
                               {"reject", reject},
                               {"rejectattr", rejectattr},
                               {"replace", replace},
                               {"reverse", reverse},
                               {"round", rounded},
                               {"safe", string},
                               {"select", select_},
                               {"selectattr", selectattr},
                               {"sort", sort},
                               {"string", string},
                               {"sum", sum},
                               {"title", title},
                               {"tojson", tojson},
                               {"trim", trim},
                               {"unique", unique},
                               {"upper", upper},
                               {"wordcount", wordcount},
                               {NULL, NULL}};
