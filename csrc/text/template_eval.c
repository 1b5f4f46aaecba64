/* template_eval.c -- the value of an expression: names, attributes, operators. One step a node. */
#include "text/template_run.h"

#include <math.h>
#include <string.h>

static nb_tpl_value not_defined(nb_tpl_run *r, nb_tpl_value v)
{
    char name[100];
    return NB_TPL_BAD(r, "%s is undefined",
                      v.n ? nb_escape(name, (int64_t)sizeof name, v.u.s, v.n) : "a value");
}

static nb_tpl_value method(nb_tpl_run *r, nb_tpl_value self, const nb_tpl_row *row)
{
    struct nb_tpl_method *m = nb_tpl_alloc(r, 1, sizeof *m);
    if (!m)
        return nb_tpl_none();
    *m = (struct nb_tpl_method){row, self};
    return (nb_tpl_value){.type = NB_TPL_METHOD, .u.method = m};
}

/* ---- attributes and items ---- */

static nb_tpl_value loop_attr(nb_tpl_run *r, nb_tpl_value v, const char *name, size_t n)
{
    const struct nb_tpl_loop *l = v.u.loop;
    const uint32_t count = l->items->n;
    const struct {
        const char *name;
        nb_tpl_value v;
    } rows[] = {
        {"index", nb_tpl_int((int64_t)l->at + 1)},
        {"index0", nb_tpl_int(l->at)},
        {"revindex", nb_tpl_int((int64_t)count - l->at)},
        {"revindex0", nb_tpl_int((int64_t)count - l->at - 1)},
        {"first", nb_tpl_bool(l->at == 0)},
        {"last", nb_tpl_bool(l->at + 1 >= count)},
        {"length", nb_tpl_int(count)},
        {"depth", nb_tpl_int(1)}, /* counts recursive loops only */
        {"depth0", nb_tpl_int(0)},
        {"previtem", l->at > 0 ? l->items->at[l->at - 1] : nb_tpl_undefined(NULL)},
        {"nextitem", l->at + 1 < count ? l->items->at[l->at + 1] : nb_tpl_undefined(NULL)},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strlen(rows[i].name) == n && memcmp(rows[i].name, name, n) == 0)
            return rows[i].v;
    const nb_tpl_row *row = nb_tpl_find_method(v, name, n);
    return row ? method(r, v, row)
               : (nb_tpl_value){.type = NB_TPL_UNDEFINED, .n = (uint32_t)n, .u.s = name};
}

nb_tpl_value nb_tpl_attr(nb_tpl_run *r, nb_tpl_value of, const char *name, size_t n)
{
    const nb_tpl_value absent = {.type = NB_TPL_UNDEFINED, .n = (uint32_t)n, .u.s = name};
    if (of.type == NB_TPL_UNDEFINED)
        return not_defined(r, of);
    if (of.type == NB_TPL_LOOP)
        return loop_attr(r, of, name, n);
    const nb_tpl_row *row = nb_tpl_find_method(of, name, n);
    if (row)
        return method(r, of, row);
    const nb_tpl_entry *e =
        nb_tpl_is_dict(of) ? nb_tpl_dict_find(r, of.u.dict, nb_tpl_string(name, n)) : NULL;
    if (e)
        return e->value;
    if (of.type == NB_TPL_MACRO && n == 4 && memcmp(name, "name", 4) == 0)
        return nb_tpl_string(of.u.macro->node->name->s, of.u.macro->node->name->n);
    return absent;
}

nb_tpl_value nb_tpl_item(nb_tpl_run *r, nb_tpl_value of, nb_tpl_value key)
{
    int64_t i = 0;
    if (of.type == NB_TPL_UNDEFINED)
        return not_defined(r, of);
    if (of.type == NB_TPL_DICT) {
        const nb_tpl_entry *e = nb_tpl_dict_find(r, of.u.dict, key);
        if (e)
            return e->value;
    }
    if ((of.type == NB_TPL_LIST || of.type == NB_TPL_TUPLE) && nb_tpl_as_int(key, &i)) {
        const int64_t n = of.u.list->n;
        i += i < 0 ? n : 0;
        return i >= 0 && i < n ? of.u.list->at[i] : nb_tpl_undefined(NULL);
    }
    if (of.type == NB_TPL_STRING && nb_tpl_as_int(key, &i)) {
        if (i < 0)
            i = i < -(int64_t)of.n ? -1 : i + nb_tpl_length(of);
        const nb_tpl_value c = i >= 0 ? nb_tpl_slice_text(r, of, i, i + (i < INT64_MAX), 1) : of;
        return i >= 0 && c.type == NB_TPL_STRING && c.n ? c : nb_tpl_undefined(NULL);
    }
    if (key.type == NB_TPL_STRING)
        return nb_tpl_attr(r, of, key.u.s, key.n);
    return nb_tpl_undefined(NULL);
}

static const int64_t *bound(nb_tpl_run *r, const nb_tpl_node *e, int64_t *v)
{
    const nb_tpl_value x = e ? nb_tpl_eval(r, e) : nb_tpl_none();
    if (x.type == NB_TPL_NONE)
        return NULL;
    if (!nb_tpl_as_int(x, v))
        NB_TPL_BAD(r, "a slice takes integers, not %s", nb_tpl_type_name(x));
    return v;
}

static nb_tpl_value slice(nb_tpl_run *r, const nb_tpl_node *e)
{
    const nb_tpl_value of = nb_tpl_eval(r, e->a);
    int64_t from = 0, to = 0, step = 1, first = 0, last = 0;
    const int64_t *low = bound(r, e->b, &from), *high = bound(r, e->c, &to);
    const int64_t limit = (int64_t)1 << 32;
    if (bound(r, e->d, &step) && step == 0)
        return NB_TPL_BAD(r, "a slice goes in steps of 0");
    step = step > limit ? limit : step < -limit ? -limit : step;
    if (of.type == NB_TPL_UNDEFINED)
        return not_defined(r, of);
    if (of.type != NB_TPL_STRING && of.type != NB_TPL_LIST && of.type != NB_TPL_TUPLE)
        return NB_TPL_BAD(r, "a %s has no slices", nb_tpl_type_name(of));
    const bool text = of.type == NB_TPL_STRING;
    nb_tpl_slice_range(text ? nb_tpl_length(of) : of.u.list->n, low, high, step, &first, &last);
    if (text)
        return nb_tpl_slice_text(r, of, first, last, step);
    nb_tpl_value list = nb_tpl_list_new(r, of.type, 0);
    for (int64_t i = first; (step > 0 ? i < last : i > last) && list.type == of.type; i += step)
        if (!nb_tpl_step(r, i % 16 == 0) || !nb_tpl_list_add(r, list.u.list, of.u.list->at[i]))
            break;
    return list;
}

/* ---- operators ---- */

bool nb_tpl_contains(nb_tpl_run *r, nb_tpl_value in, nb_tpl_value what)
{
    size_t n = 0;
    if (in.type == NB_TPL_STRING) {
        if (what.type != NB_TPL_STRING) {
            NB_TPL_BAD(r, "in a str only a str can be, not %s", nb_tpl_type_name(what));
            return false;
        }
        return nb_tpl_find(r, in, what, 0, &n) != SIZE_MAX;
    }
    if (in.type == NB_TPL_DICT)
        return nb_tpl_dict_find(r, in.u.dict, what) != NULL;
    const nb_tpl_list *v = nb_tpl_iterate(r, in);
    for (uint32_t i = 0; i < v->n && nb_tpl_step(r, i % 16 == 0); i++)
        if (nb_tpl_equal(r, v->at[i], what))
            return true;
    return false;
}

bool nb_tpl_compare(nb_tpl_run *r, int op, nb_tpl_value a, nb_tpl_value b)
{
    if (op == NB_TPL_OP2('=', '=') || op == NB_TPL_OP2('!', '='))
        return nb_tpl_equal(r, a, b) == (op == NB_TPL_OP2('=', '='));
    if (op == NB_TPL_OP_IN || op == NB_TPL_OP_NOT_IN)
        return nb_tpl_contains(r, b, a) == (op == NB_TPL_OP_IN);
    if (a.type == NB_TPL_UNDEFINED || b.type == NB_TPL_UNDEFINED) {
        not_defined(r, a.type == NB_TPL_UNDEFINED ? a : b);
        return false;
    }
    const int o = nb_tpl_order(r, a, b);
    if (o == 2)
        return false;
    return op == '<' ? o < 0 : op == '>' ? o > 0 : op == NB_TPL_OP2('<', '=') ? o <= 0 : o >= 0;
}

static nb_tpl_value join_lists(nb_tpl_run *r, nb_tpl_value a, nb_tpl_value b)
{
    nb_tpl_value list = nb_tpl_list_new(r, a.type, a.u.list->n + b.u.list->n);
    const nb_tpl_list *const parts[] = {a.u.list, b.u.list};
    for (int k = 0; k < 2 && list.type == a.type; k++)
        for (uint32_t i = 0; i < parts[k]->n && nb_tpl_step(r, i % 64 == 0); i++)
            nb_tpl_list_add(r, list.u.list, parts[k]->at[i]);
    return list;
}

static nb_tpl_value too_large(nb_tpl_run *r)
{
    return NB_TPL_BAD(r, "an integer beyond 64 bits");
}

static nb_tpl_value whole_numbers(nb_tpl_run *r, int op, int64_t a, int64_t b)
{
    int64_t v = 0;
    if (op == '+')
        return __builtin_add_overflow(a, b, &v) ? too_large(r) : nb_tpl_int(v);
    if (op == '-')
        return __builtin_sub_overflow(a, b, &v) ? too_large(r) : nb_tpl_int(v);
    if (op == '*')
        return __builtin_mul_overflow(a, b, &v) ? too_large(r) : nb_tpl_int(v);
    if (op == NB_TPL_OP2('*', '*')) {
        if (b < 0)
            return nb_tpl_real(pow((double)a, (double)b));
        if (a >= -1 && a <= 1) /* all others are beyond 64 bits after 63 factors */
            return nb_tpl_int(b == 0 ? 1 : a == -1 && b % 2 == 0 ? 1 : a);
        for (v = 1; b > 0; b--)
            if (__builtin_mul_overflow(v, a, &v))
                return too_large(r);
        return nb_tpl_int(v);
    }
    if (b == 0)
        return NB_TPL_BAD(r, "a division by zero");
    if (op == '/')
        return nb_tpl_real((double)a / (double)b);
    if (b == -1) /* INT64_MIN / -1 traps */
        return op == '%' ? nb_tpl_int(0) : whole_numbers(r, '-', 0, a);
    const int64_t rest = a % b, down = rest != 0 && (rest < 0) != (b < 0);
    return nb_tpl_int(op == '%' ? rest + (down ? b : 0) : a / b - down);
}

static nb_tpl_value real_numbers(nb_tpl_run *r, int op, double a, double b)
{
    if (op == '+' || op == '-')
        return nb_tpl_real(op == '+' ? a + b : a - b);
    if (op == '*')
        return nb_tpl_real(a * b);
    if (op == NB_TPL_OP2('*', '*'))
        return nb_tpl_real(pow(a, b));
    if (b == 0)
        return NB_TPL_BAD(r, "a division by zero");
    if (op == '/')
        return nb_tpl_real(a / b);
    const double down = floor(a / b);
    if (op != '%')
        return nb_tpl_real(down);
    const double rest = fmod(a, b);
    return nb_tpl_real(rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest);
}

nb_tpl_value nb_tpl_add(nb_tpl_run *r, nb_tpl_value a, nb_tpl_value b)
{
    return nb_tpl_operate(r, '+', a, b);
}

nb_tpl_value nb_tpl_operate(nb_tpl_run *r, int op, nb_tpl_value a, nb_tpl_value b)
{
    int64_t i = 0, k = 0;
    if (a.type == NB_TPL_UNDEFINED || b.type == NB_TPL_UNDEFINED)
        return not_defined(r, a.type == NB_TPL_UNDEFINED ? a : b);
    if (nb_tpl_as_int(a, &i) && nb_tpl_as_int(b, &k))
        return whole_numbers(r, op, i, k);
    if (nb_tpl_is_number(a) && nb_tpl_is_number(b))
        return real_numbers(r, op, nb_tpl_as_real(a), nb_tpl_as_real(b));
    if (op == '+' && a.type == NB_TPL_STRING && b.type == NB_TPL_STRING)
        return nb_tpl_concat(r, a, b);
    if (op == '+' && a.type == b.type && (a.type == NB_TPL_LIST || a.type == NB_TPL_TUPLE))
        return join_lists(r, a, b);
    if (op == '*' && a.type == NB_TPL_STRING && nb_tpl_as_int(b, &k))
        return nb_tpl_repeat(r, a, k);
    if (op == '*' && b.type == NB_TPL_STRING && nb_tpl_as_int(a, &i))
        return nb_tpl_repeat(r, b, i);
    if (op == '*' && a.type == NB_TPL_LIST && nb_tpl_as_int(b, &k)) {
        nb_tpl_value list = nb_tpl_list_new(r, NB_TPL_LIST, 0);
        for (int64_t t = 0; t < k && a.u.list->n && list.type == NB_TPL_LIST && nb_tpl_step(r, 1);
             t++)
            for (uint32_t e = 0; e < a.u.list->n && r->st == NB_OK; e++)
                nb_tpl_list_add(r, list.u.list, a.u.list->at[e]);
        return list;
    }
    if (op == '%' && a.type == NB_TPL_STRING)
        return nb_tpl_percent(r, a, b);
    const char text[3] = {(char)(op > 255 ? op >> 8 : op), (char)(op > 255 ? op & 255 : 0), 0};
    return NB_TPL_BAD(r, "%s does not work on %s and %s", text, nb_tpl_type_name(a),
                      nb_tpl_type_name(b));
}

static nb_tpl_value compare_chain(nb_tpl_run *r, const nb_tpl_node *e)
{
    nb_tpl_value a = nb_tpl_eval(r, e->a);
    for (const nb_tpl_node *v = e->b; v; v = v->next) {
        const nb_tpl_value b = nb_tpl_eval(r, v->a);
        r->at = v->at;
        if (r->st != NB_OK || !nb_tpl_compare(r, v->op, a, b))
            return nb_tpl_bool(false);
        a = b;
    }
    return nb_tpl_bool(true);
}

static nb_tpl_value concat(nb_tpl_run *r, const nb_tpl_node *e)
{
    nb_tpl_value s = nb_tpl_string("", 0);
    for (const nb_tpl_node *v = e->a; v && r->st == NB_OK; v = v->next) {
        const nb_tpl_value t = nb_tpl_str(r, nb_tpl_eval(r, v));
        if (r->st == NB_OK)
            s = nb_tpl_concat(r, s, t);
    }
    return s;
}

static nb_tpl_value negate(nb_tpl_run *r, nb_tpl_value v, bool minus)
{
    int64_t i = 0;
    if (nb_tpl_as_int(v, &i))
        return minus ? whole_numbers(r, '-', 0, i) : nb_tpl_int(i);
    if (v.type == NB_TPL_REAL)
        return nb_tpl_real(minus ? -v.u.r : v.u.r);
    return v.type == NB_TPL_UNDEFINED ? not_defined(r, v)
                                      : NB_TPL_BAD(r, "a %s has no sign", nb_tpl_type_name(v));
}

/* ---- calls ---- */

static bool read_args(nb_tpl_run *r, const nb_tpl_node *list, nb_tpl_args *a)
{
    uint32_t n = 0, n_key = 0;
    for (const nb_tpl_node *v = list; v; v = v->next)
        *(v->kind == NB_TPL_KEYWORD ? &n_key : &n) += 1;
    *a = (nb_tpl_args){0};
    a->at = n ? nb_tpl_alloc(r, n, sizeof *a->at) : NULL;
    a->key = n_key ? nb_tpl_alloc(r, n_key, sizeof *a->key) : NULL;
    a->by_key = n_key ? nb_tpl_alloc(r, n_key, sizeof *a->by_key) : NULL;
    for (const nb_tpl_node *v = list; v && r->st == NB_OK; v = v->next) {
        if (v->kind == NB_TPL_KEYWORD) {
            a->key[a->n_key] = v->name;
            a->by_key[a->n_key] = nb_tpl_eval(r, v->a);
            a->n_key++;
        } else {
            a->at[a->n] = nb_tpl_eval(r, v);
            a->n++;
        }
    }
    return r->st == NB_OK;
}

nb_tpl_value nb_tpl_call_with(nb_tpl_run *r, const nb_tpl_node *e, const nb_tpl_name *key,
                              nb_tpl_value v)
{
    nb_tpl_args a;
    const nb_tpl_value f = nb_tpl_eval(r, e->a);
    if (!read_args(r, e->b, &a))
        return nb_tpl_none();
    r->at = e->at;
    if (key) {
        const nb_tpl_name **keys = nb_tpl_alloc(r, (size_t)a.n_key + 1, sizeof *keys);
        nb_tpl_value *values = nb_tpl_alloc(r, (size_t)a.n_key + 1, sizeof *values);
        if (!keys || !values)
            return nb_tpl_none();
        for (uint32_t i = 0; i < a.n_key; i++) {
            keys[i] = a.key[i];
            values[i] = a.by_key[i];
        }
        keys[a.n_key] = key;
        values[a.n_key++] = v;
        a.key = keys;
        a.by_key = values;
    }
    return nb_tpl_call_value(r, f, &a);
}

static nb_tpl_value filter_or_test(nb_tpl_run *r, const nb_tpl_node *e)
{
    nb_tpl_args a;
    const nb_tpl_value on = e->a ? nb_tpl_eval(r, e->a) : r->captured;
    if (!read_args(r, e->b, &a))
        return nb_tpl_none();
    char name[64];
    r->at = e->at;
    if (!e->row)
        return NB_TPL_BAD(r, "there is no %s named %s",
                          e->kind == NB_TPL_FILTER ? "filter" : "test",
                          nb_escape(name, (int64_t)sizeof name, e->name->s, e->name->n));
    /* cppcheck-suppress returnDanglingLifetime; a value never points into its arguments */
    return e->row->call(r, on, &a);
}

/* ---- nodes ---- */

static nb_tpl_value make_list(nb_tpl_run *r, const nb_tpl_node *e)
{
    nb_tpl_value list =
        nb_tpl_list_new(r, e->kind == NB_TPL_MAKE_LIST ? NB_TPL_LIST : NB_TPL_TUPLE, 0);
    for (const nb_tpl_node *v = e->a; v && r->st == NB_OK; v = v->next) {
        const nb_tpl_value x = nb_tpl_eval(r, v);
        if (r->st == NB_OK)
            nb_tpl_list_add(r, list.u.list, x);
    }
    return list;
}

static nb_tpl_value make_dict(nb_tpl_run *r, const nb_tpl_node *e)
{
    nb_tpl_value dict = nb_tpl_dict_new(r, NB_TPL_DICT);
    for (const nb_tpl_node *v = e->a; v && r->st == NB_OK; v = v->next) {
        const nb_tpl_value key = nb_tpl_eval(r, v->a), value = nb_tpl_eval(r, v->b);
        if (r->st == NB_OK)
            nb_tpl_dict_set(r, dict.u.dict, key, value);
    }
    return dict;
}

static nb_tpl_value if_else(nb_tpl_run *r, const nb_tpl_node *e)
{
    if (nb_tpl_truth(nb_tpl_eval(r, e->b)))
        return nb_tpl_eval(r, e->a);
    return e->c ? nb_tpl_eval(r, e->c) : nb_tpl_undefined(NULL);
}

static nb_tpl_value operate(nb_tpl_run *r, const nb_tpl_node *e)
{
    const nb_tpl_value a = nb_tpl_eval(r, e->a), b = nb_tpl_eval(r, e->b);
    r->at = e->at;
    return r->st == NB_OK ? nb_tpl_operate(r, e->op, a, b) : nb_tpl_none();
}

static nb_tpl_value eval(nb_tpl_run *r, const nb_tpl_node *e)
{
    nb_tpl_value v;
    switch (e->kind) {
    case NB_TPL_CONST:
        return e->v;
    case NB_TPL_VAR:
        return nb_tpl_lookup(r, e->name);
    case NB_TPL_MAKE_LIST:
    case NB_TPL_MAKE_TUPLE:
        return make_list(r, e);
    case NB_TPL_MAKE_DICT:
        return make_dict(r, e);
    case NB_TPL_ATTR:
        v = nb_tpl_eval(r, e->a);
        r->at = e->at;
        return r->st == NB_OK ? nb_tpl_attr(r, v, e->name->s, e->name->n) : v;
    case NB_TPL_ITEM: {
        v = nb_tpl_eval(r, e->a);
        const nb_tpl_value key = nb_tpl_eval(r, e->b);
        r->at = e->at;
        return r->st == NB_OK ? nb_tpl_item(r, v, key) : v;
    }
    case NB_TPL_SLICE:
        return slice(r, e);
    case NB_TPL_CALL:
        return nb_tpl_call_with(r, e, NULL, nb_tpl_none());
    case NB_TPL_FILTER:
    case NB_TPL_TEST:
        return filter_or_test(r, e);
    case NB_TPL_NOT:
        return nb_tpl_bool(!nb_tpl_truth(nb_tpl_eval(r, e->a)));
    case NB_TPL_NEGATE:
    case NB_TPL_PLUS:
        return negate(r, nb_tpl_eval(r, e->a), e->kind == NB_TPL_NEGATE);
    case NB_TPL_BINARY:
        return operate(r, e);
    case NB_TPL_CONCAT:
        return concat(r, e);
    case NB_TPL_AND:
    case NB_TPL_OR:
        v = nb_tpl_eval(r, e->a);
        return nb_tpl_truth(v) == (e->kind == NB_TPL_OR) ? v : nb_tpl_eval(r, e->b);
    case NB_TPL_COMPARE:
        return compare_chain(r, e);
    case NB_TPL_IF_ELSE:
        return if_else(r, e);
    default:
        return nb_tpl_fail(r, NB_INTERNAL, "a statement where an expression should be");
    }
}

nb_tpl_value nb_tpl_eval(nb_tpl_run *r, const nb_tpl_node *e)
{
    if (!e || !nb_tpl_step(r, 1) || !nb_tpl_enter(r))
        return nb_tpl_none();
    r->at = e->at;
    const nb_tpl_value v = eval(r, e);
    nb_tpl_leave(r);
    return r->st == NB_OK ? v : nb_tpl_none();
}
