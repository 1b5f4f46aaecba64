/* template_filter.c -- the filters behind `|`: Jinja's, and tojson as transformers has it. */
#include "text/template_run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static nb_tpl_value list_of(nb_tpl_run *r, nb_tpl_type type, const nb_tpl_list *v)
{
    nb_tpl_value list = nb_tpl_list_new(r, type, v->n);
    for (uint32_t i = 0; i < v->n && nb_tpl_step(r, i % 16 == 0); i++)
        nb_tpl_list_add(r, list.u.list, v->at[i]);
    return list;
}

/* "a.b.0" of a value, as map and sort take it. */
static nb_tpl_value by_path(nb_tpl_run *r, nb_tpl_value v, nb_tpl_value path)
{
    if (path.type != NB_TPL_STRING)
        return nb_tpl_item(r, v, path);
    for (size_t i = 0; i <= path.n && r->st == NB_OK; i++) {
        const size_t from = i;
        bool number = true;
        int64_t place = 0;
        for (; i < path.n && path.u.s[i] != '.'; i++) {
            number = number && path.u.s[i] >= '0' && path.u.s[i] <= '9' && place < 100000000;
            place = number ? place * 10 + (path.u.s[i] - '0') : place;
        }
        v = nb_tpl_item(r, v,
                        number && i > from ? nb_tpl_int(place)
                                           : nb_tpl_string(path.u.s + from, i - from));
    }
    return v;
}

/* ---- text ---- */

static nb_tpl_value trim(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    const nb_tpl_value *chars = nb_tpl_arg(a, 0, "chars");
    const nb_tpl_value s = nb_tpl_str(r, on);
    const bool given = chars && chars->type == NB_TPL_STRING;
    return r->st == NB_OK ? nb_tpl_strip(r, s, given ? chars : NULL, true, true) : s;
}

static nb_tpl_value upper(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)a;
    return nb_tpl_upper(r, nb_tpl_str(r, on));
}

static nb_tpl_value lower(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)a;
    return nb_tpl_lower(r, nb_tpl_str(r, on));
}

static nb_tpl_value capitalize(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)a;
    return nb_tpl_capital(r, nb_tpl_str(r, on));
}

static nb_tpl_value title(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)a;
    return nb_tpl_title(r, nb_tpl_str(r, on), false);
}

static nb_tpl_value string(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)a;
    return nb_tpl_str(r, on);
}

static nb_tpl_value replace(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    const nb_tpl_value *from = nb_tpl_arg(a, 0, "old"), *to = nb_tpl_arg(a, 1, "new");
    const int64_t most = nb_tpl_int_arg(r, a, 2, "count", -1);
    if (!from || !to)
        return NB_TPL_BAD(r, "replace takes two texts");
    const nb_tpl_value s = nb_tpl_str(r, on), x = nb_tpl_str(r, *from), y = nb_tpl_str(r, *to);
    return r->st == NB_OK ? nb_tpl_replace(r, s, x, y, most) : s;
}

static nb_tpl_value escape(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    static const char from[] = "&<>\"'";
    static const char *const to[] = {"&amp;", "&lt;", "&gt;", "&#34;", "&#39;"};
    const nb_tpl_value s = nb_tpl_str(r, on);
    nb_tpl_sink k = {0};
    (void)a;
    for (uint32_t i = 0; i < s.n && r->st == NB_OK; i++) {
        const char *hit = s.u.s[i] ? strchr(from, s.u.s[i]) : NULL;
        if (hit)
            nb_tpl_puts(r, &k, to[hit - from]);
        else
            nb_tpl_put(r, &k, s.u.s + i, 1);
    }
    return nb_tpl_sunk(&k);
}

/* indent(width=4, first=false, blank=false): blanks before every line but the first and empty ones.
 */
static nb_tpl_value indent(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    const nb_tpl_value *width = nb_tpl_arg(a, 0, "width"), s = nb_tpl_str(r, on);
    const bool first = nb_tpl_bool_arg(a, 1, "first", false),
               blank = nb_tpl_bool_arg(a, 2, "blank", false);
    const nb_tpl_value pad =
        width && width->type == NB_TPL_STRING
            ? *width
            : nb_tpl_repeat(r, nb_tpl_literal(" "), nb_tpl_int_arg(r, a, 0, "width", 4));
    nb_tpl_sink k = {0};
    if (r->st != NB_OK)
        return s;
    for (size_t at = 0; at <= s.n && nb_tpl_step(r, 1);) {
        const char *nl = s.n ? memchr(s.u.s + at, '\n', s.n - at) : NULL;
        const size_t end = nl ? (size_t)(nl - s.u.s) : s.n;
        if (at == 0 ? first : end > at || blank)
            nb_tpl_put(r, &k, pad.u.s, pad.n);
        nb_tpl_put(r, &k, s.u.s + at, end - at);
        if (!nl)
            break;
        nb_tpl_puts(r, &k, "\n");
        at = end + 1;
    }
    return nb_tpl_sunk(&k);
}

static nb_tpl_value join(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    const nb_tpl_value *by = nb_tpl_arg(a, 0, "d"), *attribute = nb_tpl_arg(a, 1, "attribute");
    const nb_tpl_value between = by ? nb_tpl_str(r, *by) : nb_tpl_string("", 0);
    const nb_tpl_list *v = nb_tpl_iterate(r, on);
    nb_tpl_sink k = {0};
    for (uint32_t i = 0; i < v->n && nb_tpl_step(r, i % 16 == 0); i++) {
        const bool path = attribute && attribute->type != NB_TPL_NONE;
        const nb_tpl_value x = path ? by_path(r, v->at[i], *attribute) : v->at[i];
        if (i)
            nb_tpl_put(r, &k, between.u.s, between.n);
        nb_tpl_put_value(r, &k, x);
    }
    return nb_tpl_sunk(&k);
}

static nb_tpl_value format(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    nb_tpl_list args = {.at = a->at, .n = a->n, .cap = a->n};
    nb_tpl_value values = {.type = NB_TPL_TUPLE, .u.list = &args};
    const nb_tpl_value s = nb_tpl_str(r, on);
    if (a->n_key) {
        values = nb_tpl_dict_new(r, NB_TPL_DICT);
        for (uint32_t i = 0; i < a->n_key && r->st == NB_OK; i++)
            nb_tpl_dict_set(r, values.u.dict, nb_tpl_string(a->key[i]->s, a->key[i]->n),
                            a->by_key[i]);
    }
    return r->st == NB_OK ? nb_tpl_percent(r, s, values) : s;
}

static nb_tpl_value wordcount(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    const nb_tpl_value words = nb_tpl_split(r, nb_tpl_str(r, on), NULL, -1, false);
    (void)a;
    return r->st == NB_OK ? nb_tpl_int(words.u.list->n) : words;
}

static nb_tpl_value tojson(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    const nb_tpl_value *separators = nb_tpl_arg(a, 2, "separators"),
                       *wide = nb_tpl_arg(a, 1, "indent");
    nb_tpl_json how = {.ascii = nb_tpl_bool_arg(a, 0, "ensure_ascii", false),
                       .sort = nb_tpl_bool_arg(a, 3, "sort_keys", false),
                       .indent = -1};
    nb_tpl_sink k = {0};
    if (wide && wide->type != NB_TPL_NONE) {
        const int64_t n = nb_tpl_int_arg(r, a, 1, "indent", 0);
        how.indent = n < 0 ? 0 : n > 1000 ? 1000 : (int)n;
    }
    how.comma = nb_tpl_literal(how.indent < 0 ? ", " : ",");
    how.colon = nb_tpl_literal(": ");
    if (separators && nb_tpl_is_row(*separators) && separators->u.list->n == 2) {
        how.comma = nb_tpl_str(r, separators->u.list->at[0]);
        how.colon = nb_tpl_str(r, separators->u.list->at[1]);
    }
    nb_tpl_put_json(r, &k, on, &how);
    return nb_tpl_sunk(&k);
}

/* ---- numbers ---- */

static nb_tpl_value absolute(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)a;
    if (on.type == NB_TPL_REAL)
        return nb_tpl_real(fabs(on.u.r));
    return nb_tpl_compare(r, '<', on, nb_tpl_int(0)) ? nb_tpl_operate(r, '-', nb_tpl_int(0), on)
                                                     : on;
}

/* A number out of a text, the whole of it. */
static bool read_number(nb_tpl_run *r, nb_tpl_value v, nb_tpl_value *out)
{
    char text[64], *end = text;
    if (nb_tpl_is_number(v)) {
        *out = v;
        return true;
    }
    const nb_tpl_value s =
        v.type == NB_TPL_STRING ? nb_tpl_strip(r, v, NULL, true, true) : nb_tpl_string("", 0);
    if (s.n == 0 || s.n >= sizeof text || !memchr("+-.0123456789", s.u.s[0], 13))
        return false;
    memcpy(text, s.u.s, s.n);
    text[s.n] = 0;
    const long long i = strtoll(text, &end, 10);
    if (!*end && i < INT64_MAX && i > INT64_MIN)
        *out = nb_tpl_int(i);
    else
        *out = nb_tpl_real(strtod(text, &end));
    return !*end && !memchr(text, 'x', s.n) && !memchr(text, 'X', s.n);
}

static nb_tpl_value to_int(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    const nb_tpl_value *otherwise = nb_tpl_arg(a, 0, "default");
    nb_tpl_value v = nb_tpl_int(0);
    int64_t i = 0;
    if (!read_number(r, on, &v) || (v.type == NB_TPL_REAL && !(fabs(v.u.r) < 9e18)))
        return otherwise ? *otherwise : nb_tpl_int(0);
    return nb_tpl_int(nb_tpl_as_int(v, &i) ? i : (int64_t)v.u.r);
}

static nb_tpl_value to_float(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    const nb_tpl_value *otherwise = nb_tpl_arg(a, 0, "default");
    nb_tpl_value v = nb_tpl_int(0);
    if (!read_number(r, on, &v))
        return otherwise ? *otherwise : nb_tpl_real(0);
    return nb_tpl_real(nb_tpl_as_real(v));
}

static nb_tpl_value rounded(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    const int64_t precision = nb_tpl_int_arg(r, a, 0, "precision", 0);
    const nb_tpl_value *method = nb_tpl_arg(a, 1, "method");
    const double scale = pow(10, (double)precision);
    if (!nb_tpl_is_number(on))
        return NB_TPL_BAD(r, "round needs a number, not %s", nb_tpl_type_name(on));
    const double x = nb_tpl_as_real(on) * scale;
    const char how =
        method && method->type == NB_TPL_STRING && method->n ? method->u.s[1 % method->n] : 'o';
    return nb_tpl_real((how == 'e' ? ceil(x) : how == 'l' ? floor(x) : rint(x)) / scale);
}

/* ---- lists ---- */

static nb_tpl_value length(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)a;
    if (on.type == NB_TPL_STRING)
        return nb_tpl_step(r, on.n / 1024) ? nb_tpl_int(nb_tpl_length(on)) : on;
    if (on.type == NB_TPL_DICT)
        return nb_tpl_int(on.u.dict->n);
    if (on.type == NB_TPL_LOOP)
        return nb_tpl_int(on.u.loop->items->n);
    if (on.type == NB_TPL_UNDEFINED)
        return nb_tpl_int(0);
    return nb_tpl_is_row(on) ? nb_tpl_int(on.u.list->n)
                             : NB_TPL_BAD(r, "a %s has no length", nb_tpl_type_name(on));
}

static nb_tpl_value first(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    const nb_tpl_list *v = nb_tpl_iterate(r, on);
    (void)a;
    return v->n ? v->at[0] : nb_tpl_undefined(NULL);
}

static nb_tpl_value last(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    const nb_tpl_list *v = nb_tpl_iterate(r, on);
    (void)a;
    return v->n ? v->at[v->n - 1] : nb_tpl_undefined(NULL);
}

static nb_tpl_value list(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)a;
    return list_of(r, NB_TPL_LIST, nb_tpl_iterate(r, on));
}

static nb_tpl_value reverse(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)a;
    if (on.type == NB_TPL_STRING)
        return nb_tpl_slice_text(r, on, nb_tpl_length(on) - 1, -1, -1);
    nb_tpl_value v = list_of(r, NB_TPL_GENERATOR, nb_tpl_iterate(r, on));
    if (r->st != NB_OK)
        return v;
    for (uint32_t i = 0, k = v.u.list->n; i + 1 < k; i++) {
        const nb_tpl_value x = v.u.list->at[i];
        v.u.list->at[i] = v.u.list->at[--k];
        v.u.list->at[k] = x;
    }
    return v;
}

static nb_tpl_value sum(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    const nb_tpl_value *attribute = nb_tpl_arg(a, 0, "attribute"),
                       *start = nb_tpl_arg(a, 1, "start");
    const nb_tpl_list *v = nb_tpl_iterate(r, on);
    nb_tpl_value s = start ? *start : nb_tpl_int(0);
    for (uint32_t i = 0; i < v->n && nb_tpl_step(r, 1); i++) {
        const bool path = attribute && attribute->type != NB_TPL_NONE;
        s = nb_tpl_add(r, s, path ? by_path(r, v->at[i], *attribute) : v->at[i]);
    }
    return s;
}

/* Stable merge sort of values by keys; fold: case does not count. */
nb_tpl_value nb_tpl_sorted(nb_tpl_run *r, const nb_tpl_list *v, const nb_tpl_list *keys, bool fold,
                           bool reverse_)
{
    const uint32_t n = v->n;
    nb_tpl_value out = list_of(r, NB_TPL_LIST, v), key = list_of(r, NB_TPL_LIST, keys);
    uint32_t *at = nb_tpl_alloc(r, (size_t)n + 1, sizeof *at),
             *to = nb_tpl_alloc(r, (size_t)n + 1, sizeof *to);
    if (r->st != NB_OK)
        return out;
    for (uint32_t i = 0; i < n; i++) {
        at[i] = i;
        if (fold && key.u.list->at[i].type == NB_TPL_STRING)
            key.u.list->at[i] = nb_tpl_lower(r, key.u.list->at[i]);
    }
    for (uint64_t width = 1; width < n; width *= 2) {
        for (uint64_t from = 0; from < n; from += 2 * width) {
            const uint64_t middle = from + width < n ? from + width : n;
            const uint64_t end = from + 2 * width < n ? from + 2 * width : n;
            uint64_t i = from, k = middle;
            for (uint64_t o = from; o < end; o++) {
                bool right = i == middle;
                if (i < middle && k < end && nb_tpl_step(r, 1)) {
                    const int c = nb_tpl_order(r, key.u.list->at[at[i]], key.u.list->at[at[k]]);
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

static nb_tpl_value keys_of(nb_tpl_run *r, const nb_tpl_list *v, const nb_tpl_value *attribute)
{
    nb_tpl_value keys = nb_tpl_list_new(r, NB_TPL_LIST, v->n);
    for (uint32_t i = 0; i < v->n && nb_tpl_step(r, 1); i++)
        nb_tpl_list_add(r, keys.u.list,
                        attribute && attribute->type != NB_TPL_NONE
                            ? by_path(r, v->at[i], *attribute)
                            : v->at[i]);
    return keys;
}

static nb_tpl_value sort(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    const bool backwards = nb_tpl_bool_arg(a, 0, "reverse", false);
    const bool fold = !nb_tpl_bool_arg(a, 1, "case_sensitive", false);
    const nb_tpl_list *v = nb_tpl_iterate(r, on);
    const nb_tpl_value keys = keys_of(r, v, nb_tpl_arg(a, 2, "attribute"));
    return r->st == NB_OK ? nb_tpl_sorted(r, v, keys.u.list, fold, backwards) : keys;
}

static nb_tpl_value dictsort(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    const bool fold = !nb_tpl_bool_arg(a, 0, "case_sensitive", false);
    const nb_tpl_value *by = nb_tpl_arg(a, 1, "by");
    const bool backwards = nb_tpl_bool_arg(a, 2, "reverse", false);
    const bool values = by && by->type == NB_TPL_STRING && by->n == 5;
    if (on.type != NB_TPL_DICT)
        return NB_TPL_BAD(r, "dictsort needs a dict, not %s", nb_tpl_type_name(on));
    const nb_tpl_value items = nb_tpl_items_of(r, on.u.dict), place = nb_tpl_int(values);
    const nb_tpl_value keys = r->st == NB_OK ? keys_of(r, items.u.list, &place) : items;
    return r->st == NB_OK ? nb_tpl_sorted(r, items.u.list, keys.u.list, fold, backwards) : keys;
}

static nb_tpl_value extreme(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a, bool most)
{
    const bool fold = !nb_tpl_bool_arg(a, 0, "case_sensitive", false);
    const nb_tpl_list *v = nb_tpl_iterate(r, on);
    const nb_tpl_value keys = keys_of(r, v, nb_tpl_arg(a, 1, "attribute"));
    if (r->st != NB_OK || v->n == 0)
        return nb_tpl_undefined(NULL);
    const nb_tpl_value sorted = nb_tpl_sorted(r, v, keys.u.list, fold, most);
    return r->st == NB_OK ? sorted.u.list->at[0] : sorted;
}

static nb_tpl_value minimum(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    return extreme(r, on, a, false);
}

static nb_tpl_value maximum(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    return extreme(r, on, a, true);
}

static nb_tpl_value unique(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    const bool fold = !nb_tpl_bool_arg(a, 0, "case_sensitive", false);
    const nb_tpl_list *v = nb_tpl_iterate(r, on);
    const nb_tpl_value keys = keys_of(r, v, nb_tpl_arg(a, 1, "attribute"));
    nb_tpl_value seen = nb_tpl_dict_new(r, NB_TPL_DICT),
                 out = nb_tpl_list_new(r, NB_TPL_GENERATOR, 0);
    for (uint32_t i = 0; i < v->n && nb_tpl_step(r, 1); i++) {
        nb_tpl_value key = keys.u.list->at[i];
        if (fold && key.type == NB_TPL_STRING)
            key = nb_tpl_lower(r, key);
        if (r->st == NB_OK && !nb_tpl_dict_find(r, seen.u.dict, key)) {
            nb_tpl_dict_set(r, seen.u.dict, key, nb_tpl_none());
            nb_tpl_list_add(r, out.u.list, v->at[i]);
        }
    }
    return out;
}

/* ---- map and choose ---- */

static nb_tpl_args behind(const nb_tpl_args *a, uint32_t skip)
{
    nb_tpl_args rest = *a;
    skip = skip < a->n ? skip : a->n;
    rest.at = a->n ? a->at + skip : a->at;
    rest.n = a->n - skip;
    return rest;
}

static nb_tpl_value map(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    const nb_tpl_value *attribute = nb_tpl_arg(a, UINT32_MAX, "attribute");
    const nb_tpl_value *otherwise = nb_tpl_arg(a, UINT32_MAX, "default");
    const nb_tpl_args rest = behind(a, 1);
    const bool named = a->n && a->at[0].type == NB_TPL_STRING;
    const nb_tpl_row *row =
        named ? nb_tpl_find_row(nb_tpl_filters, a->at[0].u.s, a->at[0].n) : NULL;
    /* none: empty */
    const nb_tpl_list *v = nb_tpl_iterate(r, nb_tpl_truth(on) ? on : nb_tpl_undefined(NULL));
    nb_tpl_value out = nb_tpl_list_new(r, NB_TPL_GENERATOR, v->n);
    if (!attribute && !row)
        return NB_TPL_BAD(r, "map takes the name of a filter, or attribute=");
    /* map("map", ..) */
    for (uint32_t i = 0; i < v->n && nb_tpl_step(r, 1) && nb_tpl_enter(r); i++) {
        nb_tpl_value x =
            attribute ? by_path(r, v->at[i], *attribute) : row->call(r, v->at[i], &rest);
        nb_tpl_leave(r);
        if (attribute && otherwise && x.type == NB_TPL_UNDEFINED)
            x = *otherwise;
        if (r->st == NB_OK)
            nb_tpl_list_add(r, out.u.list, x);
    }
    return out;
}

/* Those for which the test named at[skip] holds, of the item or of its attribute at[0]. */
static nb_tpl_value choose(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a, bool attribute,
                           bool want)
{
    const uint32_t skip = attribute;
    const bool named = a->n > skip && a->at[skip].type == NB_TPL_STRING;
    const nb_tpl_row *row =
        named ? nb_tpl_find_row(nb_tpl_tests, a->at[skip].u.s, a->at[skip].n) : NULL;
    const nb_tpl_args rest = behind(a, skip + 1);
    /* none: empty */
    const nb_tpl_list *v = nb_tpl_iterate(r, nb_tpl_truth(on) ? on : nb_tpl_undefined(NULL));
    nb_tpl_value out = nb_tpl_list_new(r, NB_TPL_GENERATOR, 0);
    if ((attribute && a->n < 1) || (a->n > skip && !row))
        return NB_TPL_BAD(r, "there is no test of that name");
    for (uint32_t i = 0; i < v->n && nb_tpl_step(r, 1); i++) {
        const nb_tpl_value x = attribute ? by_path(r, v->at[i], a->at[0]) : v->at[i];
        const bool yes = r->st == NB_OK && nb_tpl_truth(row ? row->call(r, x, &rest) : x);
        if (r->st == NB_OK && yes == want)
            nb_tpl_list_add(r, out.u.list, v->at[i]);
    }
    return out;
}

static nb_tpl_value select_(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    return choose(r, on, a, false, true);
}

static nb_tpl_value reject(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    return choose(r, on, a, false, false);
}

static nb_tpl_value selectattr(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    return choose(r, on, a, true, true);
}

static nb_tpl_value rejectattr(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    return choose(r, on, a, true, false);
}

/* ---- the rest ---- */

static nb_tpl_value default_(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    const nb_tpl_value *v = nb_tpl_arg(a, 0, "default_value");
    const bool falsy = nb_tpl_bool_arg(a, 1, "boolean", false);
    (void)r;
    if (on.type == NB_TPL_UNDEFINED || (falsy && !nb_tpl_truth(on)))
        return v ? *v : nb_tpl_string("", 0);
    return on;
}

static nb_tpl_value items(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)a;
    if (on.type == NB_TPL_UNDEFINED)
        return nb_tpl_list_new(r, NB_TPL_GENERATOR, 0);
    if (on.type != NB_TPL_DICT)
        return NB_TPL_BAD(r, "items needs a dict, not %s", nb_tpl_type_name(on));
    const nb_tpl_value pairs = nb_tpl_items_of(r, on.u.dict);
    return r->st == NB_OK ? list_of(r, NB_TPL_GENERATOR, pairs.u.list) : pairs;
}

static nb_tpl_value attr(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)a; /* no value here has attributes that its items are not */
    if (on.type == NB_TPL_NAMESPACE && a->n == 1 && a->at[0].type == NB_TPL_STRING)
        return nb_tpl_attr(r, on, a->at[0].u.s, a->at[0].n);
    return nb_tpl_undefined(NULL);
}

const nb_tpl_row nb_tpl_filters[] = {{"abs", absolute},
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
