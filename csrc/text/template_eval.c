/* template_eval.c -- the value of an expression: names, attributes, operators. One step a node. */
#include "text/template_run.h"

#include <math.h>
#include <string.h>

static tpl_value not_defined(tpl_run *r, tpl_value v)
{
    char name[100];
    return TPL_BAD(r, "%s is undefined",
                   v.n ? nb_escape(name, (int64_t)sizeof name, v.u.s, v.n) : "a value");
}

static tpl_value method(tpl_run *r, tpl_value self, const tpl_row *row)
{
    struct tpl_method *m = tpl_alloc(r, 1, sizeof *m);
    if (!m)
        return tpl_none();
    *m = (struct tpl_method){row, self};
    return (tpl_value){.type = TPL_METHOD, .u.method = m};
}

/* ---- attributes and items ---- */

static tpl_value loop_attr(tpl_run *r, tpl_value v, const char *name, size_t n)
{
    const struct tpl_loop *l = v.u.loop;
    const uint32_t count = l->items->n;
    const struct {
        const char *name;
        tpl_value v;
    } rows[] = {
        {"index", tpl_int((int64_t)l->at + 1)},
        {"index0", tpl_int(l->at)},
        {"revindex", tpl_int((int64_t)count - l->at)},
        {"revindex0", tpl_int((int64_t)count - l->at - 1)},
        {"first", tpl_bool(l->at == 0)},
        {"last", tpl_bool(l->at + 1 >= count)},
        {"length", tpl_int(count)},
        {"depth", tpl_int(1)}, /* counts recursive loops only */
        {"depth0", tpl_int(0)},
        {"previtem", l->at > 0 ? l->items->at[l->at - 1] : tpl_undefined(NULL)},
        {"nextitem", l->at + 1 < count ? l->items->at[l->at + 1] : tpl_undefined(NULL)},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strlen(rows[i].name) == n && memcmp(rows[i].name, name, n) == 0)
            return rows[i].v;
    const tpl_row *row = tpl_find_method(v, name, n);
    return row ? method(r, v, row)
               : (tpl_value){.type = TPL_UNDEFINED, .n = (uint32_t)n, .u.s = name};
}

tpl_value tpl_attr(tpl_run *r, tpl_value of, const char *name, size_t n)
{
    const tpl_value absent = {.type = TPL_UNDEFINED, .n = (uint32_t)n, .u.s = name};
    if (of.type == TPL_UNDEFINED)
        return not_defined(r, of);
    if (of.type == TPL_LOOP)
        return loop_attr(r, of, name, n);
    const tpl_row *row = tpl_find_method(of, name, n);
    if (row)
        return method(r, of, row);
    const tpl_entry *e = tpl_is_dict(of) ? tpl_dict_find(r, of.u.dict, tpl_string(name, n)) : NULL;
    if (e)
        return e->value;
    if (of.type == TPL_MACRO && n == 4 && memcmp(name, "name", 4) == 0)
        return tpl_string(of.u.macro->node->name->s, of.u.macro->node->name->n);
    return absent;
}

tpl_value tpl_item(tpl_run *r, tpl_value of, tpl_value key)
{
    int64_t i = 0;
    if (of.type == TPL_UNDEFINED)
        return not_defined(r, of);
    if (of.type == TPL_DICT) {
        const tpl_entry *e = tpl_dict_find(r, of.u.dict, key);
        if (e)
            return e->value;
    }
    if ((of.type == TPL_LIST || of.type == TPL_TUPLE) && tpl_as_int(key, &i)) {
        const int64_t n = of.u.list->n;
        i += i < 0 ? n : 0;
        return i >= 0 && i < n ? of.u.list->at[i] : tpl_undefined(NULL);
    }
    if (of.type == TPL_STRING && tpl_as_int(key, &i)) {
        if (i < 0)
            i = i < -(int64_t)of.n ? -1 : i + tpl_length(of);
        const tpl_value c = i >= 0 ? tpl_slice_text(r, of, i, i + (i < INT64_MAX), 1) : of;
        return i >= 0 && c.type == TPL_STRING && c.n ? c : tpl_undefined(NULL);
    }
    if (key.type == TPL_STRING)
        return tpl_attr(r, of, key.u.s, key.n);
    return tpl_undefined(NULL);
}

static const int64_t *bound(tpl_run *r, const tpl_node *e, int64_t *v)
{
    const tpl_value x = e ? tpl_eval(r, e) : tpl_none();
    if (x.type == TPL_NONE)
        return NULL;
    if (!tpl_as_int(x, v))
        TPL_BAD(r, "a slice takes integers, not %s", tpl_type_name(x));
    return v;
}

static tpl_value slice(tpl_run *r, const tpl_node *e)
{
    const tpl_value of = tpl_eval(r, e->a);
    int64_t from = 0, to = 0, step = 1, first = 0, last = 0;
    const int64_t *low = bound(r, e->b, &from), *high = bound(r, e->c, &to);
    const int64_t limit = (int64_t)1 << 32;
    if (bound(r, e->d, &step) && step == 0)
        return TPL_BAD(r, "a slice goes in steps of 0");
    step = step > limit ? limit : step < -limit ? -limit : step;
    if (of.type == TPL_UNDEFINED)
        return not_defined(r, of);
    if (of.type != TPL_STRING && of.type != TPL_LIST && of.type != TPL_TUPLE)
        return TPL_BAD(r, "a %s has no slices", tpl_type_name(of));
    const bool text = of.type == TPL_STRING;
    tpl_slice_range(text ? tpl_length(of) : of.u.list->n, low, high, step, &first, &last);
    if (text)
        return tpl_slice_text(r, of, first, last, step);
    tpl_value list = tpl_list_new(r, of.type, 0);
    for (int64_t i = first; (step > 0 ? i < last : i > last) && list.type == of.type; i += step)
        if (!tpl_step(r, i % 16 == 0) || !tpl_list_add(r, list.u.list, of.u.list->at[i]))
            break;
    return list;
}

/* ---- operators ---- */

bool tpl_contains(tpl_run *r, tpl_value in, tpl_value what)
{
    size_t n = 0;
    if (in.type == TPL_STRING) {
        if (what.type != TPL_STRING) {
            TPL_BAD(r, "in a str only a str can be, not %s", tpl_type_name(what));
            return false;
        }
        return tpl_find(r, in, what, 0, &n) != SIZE_MAX;
    }
    if (in.type == TPL_DICT)
        return tpl_dict_find(r, in.u.dict, what) != NULL;
    const tpl_list *v = tpl_iterate(r, in);
    for (uint32_t i = 0; i < v->n && tpl_step(r, i % 16 == 0); i++)
        if (tpl_equal(r, v->at[i], what))
            return true;
    return false;
}

bool tpl_compare(tpl_run *r, int op, tpl_value a, tpl_value b)
{
    if (op == TPL_OP2('=', '=') || op == TPL_OP2('!', '='))
        return tpl_equal(r, a, b) == (op == TPL_OP2('=', '='));
    if (op == TPL_OP_IN || op == TPL_OP_NOT_IN)
        return tpl_contains(r, b, a) == (op == TPL_OP_IN);
    if (a.type == TPL_UNDEFINED || b.type == TPL_UNDEFINED) {
        not_defined(r, a.type == TPL_UNDEFINED ? a : b);
        return false;
    }
    const int o = tpl_order(r, a, b);
    if (o == 2)
        return false;
    return op == '<' ? o < 0 : op == '>' ? o > 0 : op == TPL_OP2('<', '=') ? o <= 0 : o >= 0;
}

static tpl_value join_lists(tpl_run *r, tpl_value a, tpl_value b)
{
    tpl_value list = tpl_list_new(r, a.type, a.u.list->n + b.u.list->n);
    const tpl_list *const parts[] = {a.u.list, b.u.list};
    for (int k = 0; k < 2 && list.type == a.type; k++)
        for (uint32_t i = 0; i < parts[k]->n && tpl_step(r, i % 64 == 0); i++)
            tpl_list_add(r, list.u.list, parts[k]->at[i]);
    return list;
}

static tpl_value too_large(tpl_run *r)
{
    return TPL_BAD(r, "an integer beyond 64 bits");
}

static tpl_value whole_numbers(tpl_run *r, int op, int64_t a, int64_t b)
{
    int64_t v = 0;
    if (op == '+')
        return __builtin_add_overflow(a, b, &v) ? too_large(r) : tpl_int(v);
    if (op == '-')
        return __builtin_sub_overflow(a, b, &v) ? too_large(r) : tpl_int(v);
    if (op == '*')
        return __builtin_mul_overflow(a, b, &v) ? too_large(r) : tpl_int(v);
    if (op == TPL_OP2('*', '*')) {
        if (b < 0)
            return tpl_real(pow((double)a, (double)b));
        if (a >= -1 && a <= 1) /* all others are beyond 64 bits after 63 factors */
            return tpl_int(b == 0 ? 1 : a == -1 && b % 2 == 0 ? 1 : a);
        for (v = 1; b > 0; b--)
            if (__builtin_mul_overflow(v, a, &v))
                return too_large(r);
        return tpl_int(v);
    }
    if (b == 0)
        return TPL_BAD(r, "a division by zero");
    if (op == '/')
        return tpl_real((double)a / (double)b);
    if (b == -1) /* INT64_MIN / -1 traps */
        return op == '%' ? tpl_int(0) : whole_numbers(r, '-', 0, a);
    const int64_t rest = a % b, down = rest != 0 && (rest < 0) != (b < 0);
    return tpl_int(op == '%' ? rest + (down ? b : 0) : a / b - down);
}

static tpl_value real_numbers(tpl_run *r, int op, double a, double b)
{
    if (op == '+' || op == '-')
        return tpl_real(op == '+' ? a + b : a - b);
    if (op == '*')
        return tpl_real(a * b);
    if (op == TPL_OP2('*', '*'))
        return tpl_real(pow(a, b));
    if (b == 0)
        return TPL_BAD(r, "a division by zero");
    if (op == '/')
        return tpl_real(a / b);
    const double down = floor(a / b);
    if (op != '%')
        return tpl_real(down);
    const double rest = fmod(a, b);
    return tpl_real(rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest);
}

tpl_value tpl_add(tpl_run *r, tpl_value a, tpl_value b)
{
    return tpl_operate(r, '+', a, b);
}

tpl_value tpl_operate(tpl_run *r, int op, tpl_value a, tpl_value b)
{
    int64_t i = 0, k = 0;
    if (a.type == TPL_UNDEFINED || b.type == TPL_UNDEFINED)
        return not_defined(r, a.type == TPL_UNDEFINED ? a : b);
    if (tpl_as_int(a, &i) && tpl_as_int(b, &k))
        return whole_numbers(r, op, i, k);
    if (tpl_is_number(a) && tpl_is_number(b))
        return real_numbers(r, op, tpl_as_real(a), tpl_as_real(b));
    if (op == '+' && a.type == TPL_STRING && b.type == TPL_STRING)
        return tpl_concat(r, a, b);
    if (op == '+' && a.type == b.type && (a.type == TPL_LIST || a.type == TPL_TUPLE))
        return join_lists(r, a, b);
    if (op == '*' && a.type == TPL_STRING && tpl_as_int(b, &k))
        return tpl_repeat(r, a, k);
    if (op == '*' && b.type == TPL_STRING && tpl_as_int(a, &i))
        return tpl_repeat(r, b, i);
    if (op == '*' && a.type == TPL_LIST && tpl_as_int(b, &k)) {
        tpl_value list = tpl_list_new(r, TPL_LIST, 0);
        for (int64_t t = 0; t < k && a.u.list->n && list.type == TPL_LIST && tpl_step(r, 1); t++)
            for (uint32_t e = 0; e < a.u.list->n && r->st == NB_OK; e++)
                tpl_list_add(r, list.u.list, a.u.list->at[e]);
        return list;
    }
    if (op == '%' && a.type == TPL_STRING)
        return tpl_percent(r, a, b);
    const char text[3] = {(char)(op > 255 ? op >> 8 : op), (char)(op > 255 ? op & 255 : 0), 0};
    return TPL_BAD(r, "%s does not work on %s and %s", text, tpl_type_name(a), tpl_type_name(b));
}

static tpl_value compare_chain(tpl_run *r, const tpl_node *e)
{
    tpl_value a = tpl_eval(r, e->a);
    for (const tpl_node *v = e->b; v; v = v->next) {
        const tpl_value b = tpl_eval(r, v->a);
        r->at = v->at;
        if (r->st != NB_OK || !tpl_compare(r, v->op, a, b))
            return tpl_bool(false);
        a = b;
    }
    return tpl_bool(true);
}

static tpl_value concat(tpl_run *r, const tpl_node *e)
{
    tpl_value s = tpl_string("", 0);
    for (const tpl_node *v = e->a; v && r->st == NB_OK; v = v->next) {
        const tpl_value t = tpl_str(r, tpl_eval(r, v));
        if (r->st == NB_OK)
            s = tpl_concat(r, s, t);
    }
    return s;
}

static tpl_value negate(tpl_run *r, tpl_value v, bool minus)
{
    int64_t i = 0;
    if (tpl_as_int(v, &i))
        return minus ? whole_numbers(r, '-', 0, i) : tpl_int(i);
    if (v.type == TPL_REAL)
        return tpl_real(minus ? -v.u.r : v.u.r);
    return v.type == TPL_UNDEFINED ? not_defined(r, v)
                                   : TPL_BAD(r, "a %s has no sign", tpl_type_name(v));
}

/* ---- calls ---- */

static bool read_args(tpl_run *r, const tpl_node *list, tpl_args *a)
{
    uint32_t n = 0, n_key = 0;
    for (const tpl_node *v = list; v; v = v->next)
        *(v->kind == TPL_KEYWORD ? &n_key : &n) += 1;
    *a = (tpl_args){0};
    a->at = n ? tpl_alloc(r, n, sizeof *a->at) : NULL;
    a->key = n_key ? tpl_alloc(r, n_key, sizeof *a->key) : NULL;
    a->by_key = n_key ? tpl_alloc(r, n_key, sizeof *a->by_key) : NULL;
    for (const tpl_node *v = list; v && r->st == NB_OK; v = v->next) {
        if (v->kind == TPL_KEYWORD) {
            a->key[a->n_key] = v->name;
            a->by_key[a->n_key] = tpl_eval(r, v->a);
            a->n_key++;
        } else {
            a->at[a->n] = tpl_eval(r, v);
            a->n++;
        }
    }
    return r->st == NB_OK;
}

tpl_value tpl_call_with(tpl_run *r, const tpl_node *e, const tpl_name *key, tpl_value v)
{
    tpl_args a;
    const tpl_value f = tpl_eval(r, e->a);
    if (!read_args(r, e->b, &a))
        return tpl_none();
    r->at = e->at;
    if (key) {
        const tpl_name **keys = tpl_alloc(r, (size_t)a.n_key + 1, sizeof *keys);
        tpl_value *values = tpl_alloc(r, (size_t)a.n_key + 1, sizeof *values);
        if (!keys || !values)
            return tpl_none();
        for (uint32_t i = 0; i < a.n_key; i++) {
            keys[i] = a.key[i];
            values[i] = a.by_key[i];
        }
        keys[a.n_key] = key;
        values[a.n_key++] = v;
        a.key = keys;
        a.by_key = values;
    }
    return tpl_call_value(r, f, &a);
}

static tpl_value filter_or_test(tpl_run *r, const tpl_node *e)
{
    tpl_args a;
    const tpl_value on = e->a ? tpl_eval(r, e->a) : r->captured;
    if (!read_args(r, e->b, &a))
        return tpl_none();
    char name[64];
    r->at = e->at;
    if (!e->row)
        return TPL_BAD(r, "there is no %s named %s", e->kind == TPL_FILTER ? "filter" : "test",
                       nb_escape(name, (int64_t)sizeof name, e->name->s, e->name->n));
    return e->row->call(r, on, &a);
}

/* ---- nodes ---- */

static tpl_value make_list(tpl_run *r, const tpl_node *e)
{
    tpl_value list = tpl_list_new(r, e->kind == TPL_MAKE_LIST ? TPL_LIST : TPL_TUPLE, 0);
    for (const tpl_node *v = e->a; v && r->st == NB_OK; v = v->next) {
        const tpl_value x = tpl_eval(r, v);
        if (r->st == NB_OK)
            tpl_list_add(r, list.u.list, x);
    }
    return list;
}

static tpl_value make_dict(tpl_run *r, const tpl_node *e)
{
    tpl_value dict = tpl_dict_new(r, TPL_DICT);
    for (const tpl_node *v = e->a; v && r->st == NB_OK; v = v->next) {
        const tpl_value key = tpl_eval(r, v->a), value = tpl_eval(r, v->b);
        if (r->st == NB_OK)
            tpl_dict_set(r, dict.u.dict, key, value);
    }
    return dict;
}

static tpl_value if_else(tpl_run *r, const tpl_node *e)
{
    if (tpl_truth(tpl_eval(r, e->b)))
        return tpl_eval(r, e->a);
    return e->c ? tpl_eval(r, e->c) : tpl_undefined(NULL);
}

static tpl_value operate(tpl_run *r, const tpl_node *e)
{
    const tpl_value a = tpl_eval(r, e->a), b = tpl_eval(r, e->b);
    r->at = e->at;
    return r->st == NB_OK ? tpl_operate(r, e->op, a, b) : tpl_none();
}

static tpl_value eval(tpl_run *r, const tpl_node *e)
{
    tpl_value v;
    switch (e->kind) {
    case TPL_CONST:
        return e->v;
    case TPL_VAR:
        return tpl_lookup(r, e->name);
    case TPL_MAKE_LIST:
    case TPL_MAKE_TUPLE:
        return make_list(r, e);
    case TPL_MAKE_DICT:
        return make_dict(r, e);
    case TPL_ATTR:
        v = tpl_eval(r, e->a);
        r->at = e->at;
        return r->st == NB_OK ? tpl_attr(r, v, e->name->s, e->name->n) : v;
    case TPL_ITEM: {
        v = tpl_eval(r, e->a);
        const tpl_value key = tpl_eval(r, e->b);
        r->at = e->at;
        return r->st == NB_OK ? tpl_item(r, v, key) : v;
    }
    case TPL_SLICE:
        return slice(r, e);
    case TPL_CALL:
        return tpl_call_with(r, e, NULL, tpl_none());
    case TPL_FILTER:
    case TPL_TEST:
        return filter_or_test(r, e);
    case TPL_NOT:
        return tpl_bool(!tpl_truth(tpl_eval(r, e->a)));
    case TPL_NEGATE:
    case TPL_PLUS:
        return negate(r, tpl_eval(r, e->a), e->kind == TPL_NEGATE);
    case TPL_BINARY:
        return operate(r, e);
    case TPL_CONCAT:
        return concat(r, e);
    case TPL_AND:
    case TPL_OR:
        v = tpl_eval(r, e->a);
        return tpl_truth(v) == (e->kind == TPL_OR) ? v : tpl_eval(r, e->b);
    case TPL_COMPARE:
        return compare_chain(r, e);
    case TPL_IF_ELSE:
        return if_else(r, e);
    default:
        return tpl_fail(r, NB_INTERNAL, "a statement where an expression should be");
    }
}

tpl_value tpl_eval(tpl_run *r, const tpl_node *e)
{
    if (!e || !tpl_step(r, 1) || !tpl_enter(r))
        return tpl_none();
    r->at = e->at;
    const tpl_value v = eval(r, e);
    tpl_leave(r);
    return r->st == NB_OK ? v : tpl_none();
}
