/* template_method.c -- the methods of str. */
#include "text/template_run.h"

#include <string.h>
#include <utf8proc.h>

static nb_tpl_value need_text(nb_tpl_run *r, const nb_tpl_args *a, uint32_t place)
{
    if (place < a->n && a->at[place].type == NB_TPL_STRING)
        return a->at[place];
    NB_TPL_BAD(r, "a method of str needs a str%s%s", place < a->n ? ", not " : "",
               place < a->n ? nb_tpl_type_name(a->at[place]) : "");
    return nb_tpl_string("", 0);
}

static nb_tpl_value strip(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a, bool left,
                          bool right)
{
    if (a->n == 0 || a->at[0].type == NB_TPL_NONE)
        return nb_tpl_strip(r, on, NULL, left, right);
    const nb_tpl_value chars = need_text(r, a, 0);
    return nb_tpl_strip(r, on, &chars, left, right);
}

static nb_tpl_value str_strip(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    return strip(r, on, a, true, true);
}

static nb_tpl_value str_lstrip(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    return strip(r, on, a, true, false);
}

static nb_tpl_value str_rstrip(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    return strip(r, on, a, false, true);
}

static nb_tpl_value split(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a, bool from_end)
{
    const nb_tpl_value *by = nb_tpl_arg(a, 0, "sep");
    const int64_t most = nb_tpl_int_arg(r, a, 1, "maxsplit", -1);
    if (by && by->type != NB_TPL_NONE && by->type != NB_TPL_STRING)
        return NB_TPL_BAD(r, "split needs a str, not %s", nb_tpl_type_name(*by));
    return nb_tpl_split(r, on, by && by->type == NB_TPL_STRING ? by : NULL, most, from_end);
}

static nb_tpl_value str_split(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    return split(r, on, a, false);
}

static nb_tpl_value str_rsplit(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    return split(r, on, a, true);
}

static nb_tpl_value str_splitlines(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    return nb_tpl_lines(r, on, nb_tpl_bool_arg(a, 0, "keepends", false));
}

/* str or a tuple of them. */
static nb_tpl_value any_side(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a,
                             size_t (*side)(nb_tpl_value, nb_tpl_value, bool *))
{
    bool yes = false;
    if (a->n && a->at[0].type == NB_TPL_TUPLE) {
        const nb_tpl_list *v = a->at[0].u.list;
        for (uint32_t i = 0; i < v->n && !yes && nb_tpl_step(r, 1); i++)
            if (v->at[i].type == NB_TPL_STRING)
                side(on, v->at[i], &yes);
    } else {
        const nb_tpl_value with = need_text(r, a, 0);
        if (nb_tpl_step(r, with.n / 1024))
            side(on, with, &yes);
    }
    return nb_tpl_bool(yes);
}

static nb_tpl_value str_startswith(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    return any_side(r, on, a, nb_tpl_begins);
}

static nb_tpl_value str_endswith(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    return any_side(r, on, a, nb_tpl_ends);
}

static nb_tpl_value str_removeprefix(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    bool yes = false;
    const size_t n = nb_tpl_begins(on, need_text(r, a, 0), &yes);
    return yes ? nb_tpl_string(on.u.s + n, on.n - n) : on;
}

static nb_tpl_value str_removesuffix(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    bool yes = false;
    const size_t n = nb_tpl_ends(on, need_text(r, a, 0), &yes);
    return yes ? nb_tpl_string(on.u.s, n) : on;
}

static nb_tpl_value str_replace(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    const nb_tpl_value from = need_text(r, a, 0), to = need_text(r, a, 1);
    const int64_t most = nb_tpl_int_arg(r, a, 2, "count", -1);
    return r->st == NB_OK ? nb_tpl_replace(r, on, from, to, most) : on;
}

static nb_tpl_value str_upper(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)a;
    return nb_tpl_upper(r, on);
}

static nb_tpl_value str_lower(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)a;
    return nb_tpl_lower(r, on);
}

static nb_tpl_value str_title(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)a;
    return nb_tpl_title(r, on, true);
}

static nb_tpl_value str_capitalize(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)a;
    return nb_tpl_capital(r, on);
}

static nb_tpl_value str_join(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    nb_tpl_sink k = {0};
    if (a->n != 1)
        return NB_TPL_BAD(r, "join takes one list");
    const nb_tpl_list *v = nb_tpl_iterate(r, a->at[0]);
    for (uint32_t i = 0; i < v->n && nb_tpl_step(r, i % 16 == 0); i++) {
        if (v->at[i].type != NB_TPL_STRING)
            return NB_TPL_BAD(r, "join needs a list of str, not of %s", nb_tpl_type_name(v->at[i]));
        if (i)
            nb_tpl_put(r, &k, on.u.s, on.n);
        nb_tpl_put(r, &k, v->at[i].u.s, v->at[i].n);
    }
    return nb_tpl_sunk(&k);
}

static nb_tpl_value str_format(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    return nb_tpl_brace(r, on, a);
}

/* The place in characters of the first, or last, occurrence; -1. */
static int64_t place(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a, bool last)
{
    const nb_tpl_value what = need_text(r, a, 0);
    size_t n = 0, found = SIZE_MAX;
    size_t at = r->st == NB_OK ? nb_tpl_find(r, on, what, 0, &n) : SIZE_MAX;
    while (at != SIZE_MAX && nb_tpl_step(r, 1)) {
        found = at;
        at = last ? nb_tpl_find(r, on, what, at + 1, &n) : SIZE_MAX;
    }
    return found == SIZE_MAX ? -1 : nb_tpl_length(nb_tpl_string(on.u.s, found));
}

static nb_tpl_value str_find(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    return nb_tpl_int(place(r, on, a, false));
}

static nb_tpl_value str_rfind(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    return nb_tpl_int(place(r, on, a, true));
}

static nb_tpl_value str_index(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    const int64_t i = place(r, on, a, false);
    return i < 0 ? NB_TPL_BAD(r, "index of a text that is not there") : nb_tpl_int(i);
}

static nb_tpl_value str_count(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    const nb_tpl_value what = need_text(r, a, 0);
    int64_t count = 0;
    size_t n = 0;
    if (what.n == 0)
        return nb_tpl_int(nb_tpl_length(on) + 1);
    for (size_t at = 0; nb_tpl_step(r, 1); at += n, count++) {
        at = nb_tpl_find(r, on, what, at, &n);
        if (at == SIZE_MAX)
            break;
    }
    return nb_tpl_int(count);
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

static nb_tpl_value all_are(nb_tpl_run *r, nb_tpl_value on, bool (*is)(uint32_t))
{
    bool all = on.n > 0 && nb_tpl_step(r, on.n / 256);
    for (size_t i = 0; i < on.n && all;) {
        uint32_t c = 0;
        i += nb_tpl_char(on.u.s + i, on.n - i, &c);
        all = is(c);
    }
    return nb_tpl_bool(all);
}

static nb_tpl_value str_isdigit(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)a;
    return all_are(r, on, is_digit);
}

static nb_tpl_value str_isalpha(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)a;
    return all_are(r, on, is_alpha);
}

static nb_tpl_value str_isalnum(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)a;
    return all_are(r, on, is_alnum);
}

static nb_tpl_value str_isspace(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)a;
    return all_are(r, on, nb_tpl_white);
}

/* A text of cased letters that is its own upper (lower) form. */
static nb_tpl_value one_case(nb_tpl_run *r, nb_tpl_value on, nb_tpl_value folded,
                             nb_tpl_value other)
{
    return nb_tpl_bool(r->st == NB_OK && nb_tpl_same_text(on, folded) &&
                       !nb_tpl_same_text(on, other));
}

static nb_tpl_value str_isupper(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)a;
    return one_case(r, on, nb_tpl_upper(r, on), nb_tpl_lower(r, on));
}

static nb_tpl_value str_islower(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)a;
    return one_case(r, on, nb_tpl_lower(r, on), nb_tpl_upper(r, on));
}

static nb_tpl_value padded(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a, char align)
{
    const int64_t pad = nb_tpl_int_arg(r, a, 0, "width", 0) - nb_tpl_length(on);
    const nb_tpl_value fill =
        a->n > 1 ? need_text(r, a, 1) : nb_tpl_literal(align == '0' ? "0" : " ");
    if (pad <= 0 || r->st != NB_OK)
        return on;
    const int64_t left = align == '<' ? 0 : align == '^' ? pad / 2 : pad;
    const nb_tpl_value before = nb_tpl_repeat(r, fill, left),
                       after = nb_tpl_repeat(r, fill, pad - left);
    if (r->st != NB_OK)
        return on;
    const size_t sign = align == '0' && on.n && (on.u.s[0] == '-' || on.u.s[0] == '+');
    const nb_tpl_value head = nb_tpl_concat(r, nb_tpl_string(on.u.s, sign), before);
    const nb_tpl_value tail = nb_tpl_concat(r, nb_tpl_string(on.u.s + sign, on.n - sign), after);
    return r->st == NB_OK ? nb_tpl_concat(r, head, tail) : on;
}

static nb_tpl_value str_ljust(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    return padded(r, on, a, '<');
}

static nb_tpl_value str_rjust(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    return padded(r, on, a, '>');
}

static nb_tpl_value str_center(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    return padded(r, on, a, '^');
}

static nb_tpl_value str_zfill(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    return padded(r, on, a, '0');
}

static nb_tpl_value str_partition(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    const nb_tpl_value by = need_text(r, a, 0);
    size_t n = 0;
    nb_tpl_value list = nb_tpl_list_new(r, NB_TPL_TUPLE, 3);
    const size_t at = r->st == NB_OK ? nb_tpl_find(r, on, by, 0, &n) : SIZE_MAX;
    const bool found = at != SIZE_MAX && by.n;
    if (r->st != NB_OK)
        return on;
    nb_tpl_list_add(r, list.u.list, found ? nb_tpl_string(on.u.s, at) : on);
    nb_tpl_list_add(r, list.u.list, found ? nb_tpl_string(on.u.s + at, n) : nb_tpl_string("", 0));
    nb_tpl_list_add(r, list.u.list,
                    found ? nb_tpl_string(on.u.s + at + n, on.n - at - n) : nb_tpl_string("", 0));
    return list;
}

const nb_tpl_row nb_tpl_string_methods[] = {{"strip", str_strip},
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
