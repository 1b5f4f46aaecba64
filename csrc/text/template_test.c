/* template_test.c -- the tests behind `is`. */
#include "text/template_run.h"

#include <string.h>

static tpl_value is_defined(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)r;
    (void)a;
    return tpl_bool(on.type != TPL_UNDEFINED);
}

static tpl_value is_undefined(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)r;
    (void)a;
    return tpl_bool(on.type == TPL_UNDEFINED);
}

static tpl_value is_none(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)r;
    (void)a;
    return tpl_bool(on.type == TPL_NONE);
}

static tpl_value is_string(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)r;
    (void)a;
    return tpl_bool(on.type == TPL_STRING);
}

static tpl_value is_mapping(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)r;
    (void)a;
    return tpl_bool(on.type == TPL_DICT);
}

static tpl_value is_sequence(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)r;
    (void)a; /* what has a length and items: Jinja counts str, dict and undefined among them */
    return tpl_bool(on.type == TPL_STRING || on.type == TPL_LIST || on.type == TPL_TUPLE ||
                    on.type == TPL_DICT || on.type == TPL_UNDEFINED);
}

static tpl_value is_iterable(tpl_run *r, tpl_value on, const tpl_args *a)
{
    return tpl_bool(tpl_truth(is_sequence(r, on, a)) || on.type == TPL_GENERATOR ||
                    on.type == TPL_LOOP);
}

static tpl_value is_number(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)r;
    (void)a;
    return tpl_bool(tpl_is_number(on));
}

static tpl_value is_integer(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)r;
    (void)a;
    return tpl_bool(on.type == TPL_INT);
}

static tpl_value is_float(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)r;
    (void)a;
    return tpl_bool(on.type == TPL_REAL);
}

static tpl_value is_boolean(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)r;
    (void)a;
    return tpl_bool(on.type == TPL_BOOL);
}

static tpl_value is_true(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)r;
    (void)a;
    return tpl_bool(on.type == TPL_BOOL && on.u.b);
}

static tpl_value is_false(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)r;
    (void)a;
    return tpl_bool(on.type == TPL_BOOL && !on.u.b);
}

static tpl_value is_callable(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)r;
    (void)a;
    return tpl_bool(on.type == TPL_FUNCTION || on.type == TPL_METHOD || on.type == TPL_MACRO);
}

static tpl_value is_odd(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)a;
    return tpl_compare(r, TPL_OP2('=', '='), tpl_operate(r, '%', on, tpl_int(2)), tpl_int(1))
               ? tpl_bool(true)
               : tpl_bool(false);
}

static tpl_value is_even(tpl_run *r, tpl_value on, const tpl_args *a)
{
    return tpl_bool(!tpl_truth(is_odd(r, on, a)));
}

static const tpl_value *other(tpl_run *r, const tpl_args *a)
{
    static const tpl_value none = {.type = TPL_NONE};
    if (a->n == 1)
        return &a->at[0];
    TPL_BAD(r, "this test takes one value");
    return &none;
}

static tpl_value is_divisible(tpl_run *r, tpl_value on, const tpl_args *a)
{
    return tpl_bool(!tpl_truth(tpl_operate(r, '%', on, *other(r, a))));
}

static tpl_value is_lower(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)a;
    const tpl_value s = tpl_str(r, on);
    return tpl_bool(r->st == NB_OK && tpl_same_text(s, tpl_lower(r, s)) &&
                    !tpl_same_text(s, tpl_upper(r, s)));
}

static tpl_value is_upper(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)a;
    const tpl_value s = tpl_str(r, on);
    return tpl_bool(r->st == NB_OK && tpl_same_text(s, tpl_upper(r, s)) &&
                    !tpl_same_text(s, tpl_lower(r, s)));
}

static tpl_value is_eq(tpl_run *r, tpl_value on, const tpl_args *a)
{
    return tpl_bool(tpl_compare(r, TPL_OP2('=', '='), on, *other(r, a)));
}

static tpl_value is_ne(tpl_run *r, tpl_value on, const tpl_args *a)
{
    return tpl_bool(tpl_compare(r, TPL_OP2('!', '='), on, *other(r, a)));
}

static tpl_value is_lt(tpl_run *r, tpl_value on, const tpl_args *a)
{
    return tpl_bool(tpl_compare(r, '<', on, *other(r, a)));
}

static tpl_value is_le(tpl_run *r, tpl_value on, const tpl_args *a)
{
    return tpl_bool(tpl_compare(r, TPL_OP2('<', '='), on, *other(r, a)));
}

static tpl_value is_gt(tpl_run *r, tpl_value on, const tpl_args *a)
{
    return tpl_bool(tpl_compare(r, '>', on, *other(r, a)));
}

static tpl_value is_ge(tpl_run *r, tpl_value on, const tpl_args *a)
{
    return tpl_bool(tpl_compare(r, TPL_OP2('>', '='), on, *other(r, a)));
}

static tpl_value is_in(tpl_run *r, tpl_value on, const tpl_args *a)
{
    return tpl_bool(tpl_contains(r, *other(r, a), on));
}

static tpl_value is_same(tpl_run *r, tpl_value on, const tpl_args *a)
{
    const tpl_value with = *other(r, a);
    return tpl_bool(with.type == on.type && tpl_equal(r, on, with));
}

static tpl_value is_filter(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)r;
    (void)a;
    return tpl_bool(on.type == TPL_STRING && tpl_find_row(tpl_filters, on.u.s, on.n));
}

static tpl_value is_test(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)r;
    (void)a;
    return tpl_bool(on.type == TPL_STRING && tpl_find_row(tpl_tests, on.u.s, on.n));
}

const tpl_row tpl_tests[] = {{"defined", is_defined},
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
