/* template_test.c -- the tests behind `is`. */
#include "text/template_run.h"

#include <string.h>

static nb_tpl_value is_defined(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)r;
    (void)a;
    return nb_tpl_bool(on.type != NB_TPL_UNDEFINED);
}

static nb_tpl_value is_undefined(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)r;
    (void)a;
    return nb_tpl_bool(on.type == NB_TPL_UNDEFINED);
}

static nb_tpl_value is_none(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)r;
    (void)a;
    return nb_tpl_bool(on.type == NB_TPL_NONE);
}

static nb_tpl_value is_string(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)r;
    (void)a;
    return nb_tpl_bool(on.type == NB_TPL_STRING);
}

static nb_tpl_value is_mapping(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)r;
    (void)a;
    return nb_tpl_bool(on.type == NB_TPL_DICT);
}

static nb_tpl_value is_sequence(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)r;
    (void)a; /* what has a length and items: Jinja counts str, dict and undefined among them */
    return nb_tpl_bool(on.type == NB_TPL_STRING || on.type == NB_TPL_LIST ||
                       on.type == NB_TPL_TUPLE || on.type == NB_TPL_DICT ||
                       on.type == NB_TPL_UNDEFINED);
}

static nb_tpl_value is_iterable(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    return nb_tpl_bool(nb_tpl_truth(is_sequence(r, on, a)) || on.type == NB_TPL_GENERATOR ||
                       on.type == NB_TPL_LOOP);
}

static nb_tpl_value is_number(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)r;
    (void)a;
    return nb_tpl_bool(nb_tpl_is_number(on));
}

static nb_tpl_value is_integer(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)r;
    (void)a;
    return nb_tpl_bool(on.type == NB_TPL_INT);
}

static nb_tpl_value is_float(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)r;
    (void)a;
    return nb_tpl_bool(on.type == NB_TPL_REAL);
}

static nb_tpl_value is_boolean(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)r;
    (void)a;
    return nb_tpl_bool(on.type == NB_TPL_BOOL);
}

static nb_tpl_value is_true(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)r;
    (void)a;
    return nb_tpl_bool(on.type == NB_TPL_BOOL && on.u.b);
}

static nb_tpl_value is_false(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)r;
    (void)a;
    return nb_tpl_bool(on.type == NB_TPL_BOOL && !on.u.b);
}

static nb_tpl_value is_callable(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)r;
    (void)a;
    return nb_tpl_bool(on.type == NB_TPL_FUNCTION || on.type == NB_TPL_METHOD ||
                       on.type == NB_TPL_MACRO);
}

static nb_tpl_value is_odd(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)a;
    return nb_tpl_compare(r, NB_TPL_OP2('=', '='), nb_tpl_operate(r, '%', on, nb_tpl_int(2)),
                          nb_tpl_int(1))
               ? nb_tpl_bool(true)
               : nb_tpl_bool(false);
}

static nb_tpl_value is_even(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    return nb_tpl_bool(!nb_tpl_truth(is_odd(r, on, a)));
}

static const nb_tpl_value *other(nb_tpl_run *r, const nb_tpl_args *a)
{
    static const nb_tpl_value none = {.type = NB_TPL_NONE};
    if (a->n == 1)
        return &a->at[0];
    NB_TPL_BAD(r, "this test takes one value");
    return &none;
}

static nb_tpl_value is_divisible(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    return nb_tpl_bool(!nb_tpl_truth(nb_tpl_operate(r, '%', on, *other(r, a))));
}

static nb_tpl_value is_lower(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)a;
    const nb_tpl_value s = nb_tpl_str(r, on);
    return nb_tpl_bool(r->st == NB_OK && nb_tpl_same_text(s, nb_tpl_lower(r, s)) &&
                       !nb_tpl_same_text(s, nb_tpl_upper(r, s)));
}

static nb_tpl_value is_upper(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)a;
    const nb_tpl_value s = nb_tpl_str(r, on);
    return nb_tpl_bool(r->st == NB_OK && nb_tpl_same_text(s, nb_tpl_upper(r, s)) &&
                       !nb_tpl_same_text(s, nb_tpl_lower(r, s)));
}

static nb_tpl_value is_eq(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    return nb_tpl_bool(nb_tpl_compare(r, NB_TPL_OP2('=', '='), on, *other(r, a)));
}

static nb_tpl_value is_ne(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    return nb_tpl_bool(nb_tpl_compare(r, NB_TPL_OP2('!', '='), on, *other(r, a)));
}

static nb_tpl_value is_lt(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    return nb_tpl_bool(nb_tpl_compare(r, '<', on, *other(r, a)));
}

static nb_tpl_value is_le(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    return nb_tpl_bool(nb_tpl_compare(r, NB_TPL_OP2('<', '='), on, *other(r, a)));
}

static nb_tpl_value is_gt(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    return nb_tpl_bool(nb_tpl_compare(r, '>', on, *other(r, a)));
}

static nb_tpl_value is_ge(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    return nb_tpl_bool(nb_tpl_compare(r, NB_TPL_OP2('>', '='), on, *other(r, a)));
}

static nb_tpl_value is_in(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    return nb_tpl_bool(nb_tpl_contains(r, *other(r, a), on));
}

static nb_tpl_value is_same(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    const nb_tpl_value with = *other(r, a);
    return nb_tpl_bool(with.type == on.type && nb_tpl_equal(r, on, with));
}

static nb_tpl_value is_filter(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)r;
    (void)a;
    return nb_tpl_bool(on.type == NB_TPL_STRING && nb_tpl_find_row(nb_tpl_filters, on.u.s, on.n));
}

static nb_tpl_value is_test(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)r;
    (void)a;
    return nb_tpl_bool(on.type == NB_TPL_STRING && nb_tpl_find_row(nb_tpl_tests, on.u.s, on.n));
}

const nb_tpl_row nb_tpl_tests[] = {{"defined", is_defined},
                                   {"undefined", is_undefined},
                                   {"none", is_none},
                                   {"string", is_string},
                                   {"mapping", is_mapping},
                                   {"sequence", is_sequence},
                                   {"iterable", is_iterable},
                                   {"number", is_number},
                                   {"integer", is_integer},
                                   {"float", is_float},
                                   {"boolean", is_boolean},
                                   {"true", is_true},
                                   {"false", is_false},
                                   {"callable", is_callable},
                                   {"odd", is_odd},
                                   {"even", is_even},
                                   {"divisibleby", is_divisible},
                                   {"lower", is_lower},
                                   {"upper", is_upper},
                                   {"eq", is_eq},
                                   {"equalto", is_eq},
                                   {"==", is_eq},
                                   {"ne", is_ne},
                                   {"!=", is_ne},
                                   {"lt", is_lt},
                                   {"lessthan", is_lt},
                                   {"<", is_lt},
                                   {"le", is_le},
                                   {"<=", is_le},
                                   {"gt", is_gt},
                                   {"greaterthan", is_gt},
                                   {">", is_gt},
                                   {"ge", is_ge},
                                   {">=", is_ge},
                                   {"in", is_in},
                                   {"sameas", is_same},
                                   {"filter", is_filter},
                                   {"test", is_test},
                                   {NULL, NULL}};
