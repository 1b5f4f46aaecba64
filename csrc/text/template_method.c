/* template_method.c -- the methods of str. */
#include "text/template_run.h"

#include <string.h>
#include <utf8proc.h>

static tpl_value need_text(tpl_run *r, const tpl_args *a, uint32_t place)
{
    if (place < a->n && a->at[place].type == TPL_STRING)
        return a->at[place];
    TPL_BAD(r, "a method of str needs a str%s%s", place < a->n ? ", not " : "",
            place < a->n ? tpl_type_name(a->at[place]) : "");
    return tpl_string("", 0);
}

static tpl_value strip(tpl_run *r, tpl_value on, const tpl_args *a, bool left, bool right)
{
    if (a->n == 0 || a->at[0].type == TPL_NONE)
        return tpl_strip(r, on, NULL, left, right);
    const tpl_value chars = need_text(r, a, 0);
    return tpl_strip(r, on, &chars, left, right);
}

static tpl_value str_strip(tpl_run *r, tpl_value on, const tpl_args *a)
{
    return strip(r, on, a, true, true);
}

static tpl_value str_lstrip(tpl_run *r, tpl_value on, const tpl_args *a)
{
    return strip(r, on, a, true, false);
}

static tpl_value str_rstrip(tpl_run *r, tpl_value on, const tpl_args *a)
{
    return strip(r, on, a, false, true);
}

static tpl_value split(tpl_run *r, tpl_value on, const tpl_args *a, bool from_end)
{
    const tpl_value *by = tpl_arg(a, 0, "sep");
    const int64_t most = tpl_int_arg(r, a, 1, "maxsplit", -1);
    if (by && by->type != TPL_NONE && by->type != TPL_STRING)
        return TPL_BAD(r, "split needs a str, not %s", tpl_type_name(*by));
    return tpl_split(r, on, by && by->type == TPL_STRING ? by : NULL, most, from_end);
}

static tpl_value str_split(tpl_run *r, tpl_value on, const tpl_args *a)
{
    return split(r, on, a, false);
}

static tpl_value str_rsplit(tpl_run *r, tpl_value on, const tpl_args *a)
{
    return split(r, on, a, true);
}

static tpl_value str_splitlines(tpl_run *r, tpl_value on, const tpl_args *a)
{
    return tpl_lines(r, on, tpl_bool_arg(a, 0, "keepends", false));
}

/* str or a tuple of them. */
static tpl_value any_side(tpl_run *r, tpl_value on, const tpl_args *a,
                          size_t (*side)(tpl_value, tpl_value, bool *))
{
    bool yes = false;
    if (a->n && a->at[0].type == TPL_TUPLE) {
        const tpl_list *v = a->at[0].u.list;
        for (uint32_t i = 0; i < v->n && !yes && tpl_step(r, 1); i++)
            if (v->at[i].type == TPL_STRING)
                side(on, v->at[i], &yes);
    } else {
        const tpl_value with = need_text(r, a, 0);
        if (tpl_step(r, with.n / 1024))
            side(on, with, &yes);
    }
    return tpl_bool(yes);
}

static tpl_value str_startswith(tpl_run *r, tpl_value on, const tpl_args *a)
{
    return any_side(r, on, a, tpl_begins);
}

static tpl_value str_endswith(tpl_run *r, tpl_value on, const tpl_args *a)
{
    return any_side(r, on, a, tpl_ends);
}

static tpl_value str_removeprefix(tpl_run *r, tpl_value on, const tpl_args *a)
{
    bool yes = false;
    const size_t n = tpl_begins(on, need_text(r, a, 0), &yes);
    return yes ? tpl_string(on.u.s + n, on.n - n) : on;
}

static tpl_value str_removesuffix(tpl_run *r, tpl_value on, const tpl_args *a)
{
    bool yes = false;
    const size_t n = tpl_ends(on, need_text(r, a, 0), &yes);
    return yes ? tpl_string(on.u.s, n) : on;
}

static tpl_value str_replace(tpl_run *r, tpl_value on, const tpl_args *a)
{
    const tpl_value from = need_text(r, a, 0), to = need_text(r, a, 1);
    const int64_t most = tpl_int_arg(r, a, 2, "count", -1);
    return r->st == NB_OK ? tpl_replace(r, on, from, to, most) : on;
}

static tpl_value str_upper(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)a;
    return tpl_upper(r, on);
}

static tpl_value str_lower(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)a;
    return tpl_lower(r, on);
}

static tpl_value str_title(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)a;
    return tpl_title(r, on, true);
}

static tpl_value str_capitalize(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)a;
    return tpl_capital(r, on);
}

static tpl_value str_join(tpl_run *r, tpl_value on, const tpl_args *a)
{
    tpl_sink k = {0};
    if (a->n != 1)
        return TPL_BAD(r, "join takes one list");
    const tpl_list *v = tpl_iterate(r, a->at[0]);
    for (uint32_t i = 0; i < v->n && tpl_step(r, i % 16 == 0); i++) {
        if (v->at[i].type != TPL_STRING)
            return TPL_BAD(r, "join needs a list of str, not of %s", tpl_type_name(v->at[i]));
        if (i)
            tpl_put(r, &k, on.u.s, on.n);
        tpl_put(r, &k, v->at[i].u.s, v->at[i].n);
    }
    return tpl_sunk(&k);
}

static tpl_value str_format(tpl_run *r, tpl_value on, const tpl_args *a)
{
    return tpl_brace(r, on, a);
}

/* The place in characters of the first, or last, occurrence; -1. */
static int64_t place(tpl_run *r, tpl_value on, const tpl_args *a, bool last)
{
    const tpl_value what = need_text(r, a, 0);
    size_t n = 0, found = SIZE_MAX;
    size_t at = r->st == NB_OK ? tpl_find(r, on, what, 0, &n) : SIZE_MAX;
    while (at != SIZE_MAX && tpl_step(r, 1)) {
        found = at;
        at = last ? tpl_find(r, on, what, at + 1, &n) : SIZE_MAX;
    }
    return found == SIZE_MAX ? -1 : tpl_length(tpl_string(on.u.s, found));
}

static tpl_value str_find(tpl_run *r, tpl_value on, const tpl_args *a)
{
    return tpl_int(place(r, on, a, false));
}

static tpl_value str_rfind(tpl_run *r, tpl_value on, const tpl_args *a)
{
    return tpl_int(place(r, on, a, true));
}

static tpl_value str_index(tpl_run *r, tpl_value on, const tpl_args *a)
{
    const int64_t i = place(r, on, a, false);
    return i < 0 ? TPL_BAD(r, "index of a text that is not there") : tpl_int(i);
}

static tpl_value str_count(tpl_run *r, tpl_value on, const tpl_args *a)
{
    const tpl_value what = need_text(r, a, 0);
    int64_t count = 0;
    size_t n = 0;
    if (what.n == 0)
        return tpl_int(tpl_length(on) + 1);
    for (size_t at = 0; tpl_step(r, 1); at += n, count++) {
        at = tpl_find(r, on, what, at, &n);
        if (at == SIZE_MAX)
            break;
    }
    return tpl_int(count);
}

static bool is_digit(uint32_t c)
{
    return utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_ND;
}

static bool is_alpha(uint32_t c)
{
    const utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

static bool is_alnum(uint32_t c)
{
    const utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return is_alpha(c) || (k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO);
}

static tpl_value all_are(tpl_run *r, tpl_value on, bool (*is)(uint32_t))
{
    bool all = on.n > 0 && tpl_step(r, on.n / 256);
    for (size_t i = 0; i < on.n && all;) {
        uint32_t c = 0;
        i += tpl_char(on.u.s + i, on.n - i, &c);
        all = is(c);
    }
    return tpl_bool(all);
}

static tpl_value str_isdigit(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)a;
    return all_are(r, on, is_digit);
}

static tpl_value str_isalpha(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)a;
    return all_are(r, on, is_alpha);
}

static tpl_value str_isalnum(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)a;
    return all_are(r, on, is_alnum);
}

static tpl_value str_isspace(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)a;
    return all_are(r, on, tpl_white);
}

/* A text of cased letters that is its own upper (lower) form. */
static tpl_value one_case(tpl_run *r, tpl_value on, tpl_value folded, tpl_value other)
{
    return tpl_bool(r->st == NB_OK && tpl_same_text(on, folded) && !tpl_same_text(on, other));
}

static tpl_value str_isupper(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)a;
    return one_case(r, on, tpl_upper(r, on), tpl_lower(r, on));
}

static tpl_value str_islower(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)a;
    return one_case(r, on, tpl_lower(r, on), tpl_upper(r, on));
}

static tpl_value padded(tpl_run *r, tpl_value on, const tpl_args *a, char align)
{
    const int64_t pad = tpl_int_arg(r, a, 0, "width", 0) - tpl_length(on);
    const tpl_value fill = a->n > 1 ? need_text(r, a, 1) : tpl_literal(align == '0' ? "0" : " ");
    if (pad <= 0 || r->st != NB_OK)
        return on;
    const int64_t left = align == '<' ? 0 : align == '^' ? pad / 2 : pad;
    const tpl_value before = tpl_repeat(r, fill, left), after = tpl_repeat(r, fill, pad - left);
    if (r->st != NB_OK)
        return on;
    const size_t sign = align == '0' && on.n && (on.u.s[0] == '-' || on.u.s[0] == '+');
    const tpl_value head = tpl_concat(r, tpl_string(on.u.s, sign), before);
    const tpl_value tail = tpl_concat(r, tpl_string(on.u.s + sign, on.n - sign), after);
    return r->st == NB_OK ? tpl_concat(r, head, tail) : on;
}

static tpl_value str_ljust(tpl_run *r, tpl_value on, const tpl_args *a)
{
    return padded(r, on, a, '<');
}

static tpl_value str_rjust(tpl_run *r, tpl_value on, const tpl_args *a)
{
    return padded(r, on, a, '>');
}

static tpl_value str_center(tpl_run *r, tpl_value on, const tpl_args *a)
{
    return padded(r, on, a, '^');
}

static tpl_value str_zfill(tpl_run *r, tpl_value on, const tpl_args *a)
{
    return padded(r, on, a, '0');
}

static tpl_value str_partition(tpl_run *r, tpl_value on, const tpl_args *a)
{
    const tpl_value by = need_text(r, a, 0);
    size_t n = 0;
    tpl_value list = tpl_list_new(r, TPL_TUPLE, 3);
    const size_t at = r->st == NB_OK ? tpl_find(r, on, by, 0, &n) : SIZE_MAX;
    const bool found = at != SIZE_MAX && by.n;
    if (r->st != NB_OK)
        return on;
    tpl_list_add(r, list.u.list, found ? tpl_string(on.u.s, at) : on);
    tpl_list_add(r, list.u.list, found ? tpl_string(on.u.s + at, n) : tpl_string("", 0));
    tpl_list_add(r, list.u.list,
                 found ? tpl_string(on.u.s + at + n, on.n - at - n) : tpl_string("", 0));
    return list;
}

const tpl_row tpl_string_methods[] = {{"strip", str_strip},
                                      {"lstrip", str_lstrip},
                                      {"rstrip", str_rstrip},
                                      {"split", str_split},
                                      {"rsplit", str_rsplit},
                                      {"splitlines", str_splitlines},
                                      {"startswith", str_startswith},
                                      {"endswith", str_endswith},
                                      {"removeprefix", str_removeprefix},
                                      {"removesuffix", str_removesuffix},
                                      {"replace", str_replace},
                                      {"upper", str_upper},
                                      {"lower", str_lower},
                                      {"title", str_title},
                                      {"capitalize", str_capitalize},
                                      {"join", str_join},
                                      {"format", str_format},
                                      {"find", str_find},
                                      {"rfind", str_rfind},
                                      {"index", str_index},
                                      {"count", str_count},
                                      {"isdigit", str_isdigit},
                                      {"isdecimal", str_isdigit},
                                      {"isnumeric", str_isdigit},
                                      {"isalpha", str_isalpha},
                                      {"isalnum", str_isalnum},
                                      {"isspace", str_isspace},
                                      {"isupper", str_isupper},
                                      {"islower", str_islower},
                                      {"ljust", str_ljust},
                                      {"rjust", str_rjust},
                                      {"center", str_center},
                                      {"zfill", str_zfill},
                                      {"partition", str_partition},
                                      {NULL, NULL}};
