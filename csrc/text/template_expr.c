/* template_expr.c -- expressions: recursive descent over Jinja's grammar.
 *
 *   if-else < or < and < not < comparison, in < + - < ~ < * / // % < ** < - + < postfix, filter,
 * test
 *
 * Chains of one level are read in a loop; only brackets, prefixes and else branches nest. */
#include "text/template_run.h"

#include <string.h>

static tpl_node *parse_unary(tpl_parser *p, bool filters);

bool tpl_parse_deeper(tpl_parser *p)
{
    if (++p->depth > NB_TEMPLATE_DEPTH)
        TPL_BAD(p->r, "it is nested deeper than %d levels", NB_TEMPLATE_DEPTH);
    return p->r->st == NB_OK;
}

static tpl_node *pair_of(tpl_parser *p, tpl_kind kind, tpl_node *a, tpl_node *b)
{
    tpl_node *e = tpl_node_new(p, kind);
    if (e) {
        e->a = a;
        e->b = b;
    }
    return e;
}

/* Appends to a list; a failure leaves NULL, which ends it. */
static void append(tpl_node ***tail, tpl_node *e)
{
    if (!e)
        return;
    **tail = e;
    *tail = &e->next;
}

static tpl_node *parse_arguments(tpl_parser *p) /* behind "(" */
{
    tpl_node *list = NULL, **tail = &list;
    while (p->r->st == NB_OK && !tpl_take_op(p, ')')) {
        const tpl_token *ahead = p->now.kind == TPL_T_NAME ? tpl_peek(p) : NULL;
        if (ahead && ahead->kind == TPL_T_OP && ahead->op == '=') {
            tpl_node *e = tpl_node_new(p, TPL_KEYWORD);
            tpl_name *name = tpl_take_identifier(p);
            tpl_advance(p);
            if (e) {
                e->name = name;
                e->a = tpl_parse_expr(p);
            }
            append(&tail, e);
        } else
            append(&tail, tpl_parse_expr(p));
        if (!tpl_is_op(p, ')'))
            tpl_expect_op(p, ',');
    }
    return list;
}

static tpl_node *parse_list(tpl_parser *p) /* behind "[" */
{
    tpl_node *e = tpl_node_new(p, TPL_MAKE_LIST), *list = NULL, **tail = &list;
    while (p->r->st == NB_OK && !tpl_take_op(p, ']')) {
        append(&tail, tpl_parse_expr(p));
        if (!tpl_is_op(p, ']'))
            tpl_expect_op(p, ',');
    }
    if (e)
        e->a = list;
    return e;
}

static tpl_node *parse_dict(tpl_parser *p) /* behind "{" */
{
    tpl_node *e = tpl_node_new(p, TPL_MAKE_DICT), *list = NULL, **tail = &list;
    while (p->r->st == NB_OK && !tpl_take_op(p, '}')) {
        tpl_node *key = tpl_parse_expr(p);
        tpl_expect_op(p, ':');
        append(&tail, pair_of(p, TPL_PAIR, key, tpl_parse_expr(p)));
        if (!tpl_is_op(p, '}'))
            tpl_expect_op(p, ',');
    }
    if (e)
        e->a = list;
    return e;
}

static tpl_node *constant(tpl_parser *p, tpl_value v)
{
    tpl_node *e = tpl_node_new(p, TPL_CONST);
    if (e)
        e->v = v;
    return e;
}

static tpl_node *parse_name(tpl_parser *p)
{
    static const struct {
        const char *name;
        tpl_type type;
        bool b;
    } words[] = {{"true", TPL_BOOL, true},   {"True", TPL_BOOL, true},  {"false", TPL_BOOL, false},
                 {"False", TPL_BOOL, false}, {"none", TPL_NONE, false}, {"None", TPL_NONE, false}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (tpl_is_name(p, words[i].name)) {
            tpl_node *e =
                constant(p, words[i].type == TPL_BOOL ? tpl_bool(words[i].b) : tpl_none());
            tpl_advance(p);
            return e;
        }
    tpl_node *e = tpl_node_new(p, TPL_VAR);
    tpl_name *name = tpl_take_identifier(p);
    if (e)
        e->name = name;
    return e;
}

static tpl_node *parse_primary(tpl_parser *p)
{
    tpl_node *e = NULL;
    if (!tpl_parse_deeper(p))
        return NULL;
    if (p->now.kind == TPL_T_NAME) {
        e = parse_name(p);
    } else if (p->now.kind == TPL_T_CONST) {
        tpl_value v = p->now.v;
        tpl_advance(p);
        while (v.type == TPL_STRING && p->now.kind == TPL_T_CONST && p->now.v.type == TPL_STRING) {
            v = tpl_concat(p->r, v, p->now.v);
            tpl_advance(p);
        }
        e = constant(p, v);
    } else if (tpl_take_op(p, '(')) {
        if (tpl_take_op(p, ')'))
            e = tpl_node_new(p, TPL_MAKE_TUPLE);
        else {
            e = tpl_parse_tuple(p, true);
            tpl_expect_op(p, ')');
        }
    } else if (tpl_take_op(p, '[')) {
        e = parse_list(p);
    } else if (tpl_take_op(p, '{')) {
        e = parse_dict(p);
    } else
        tpl_unexpected(p, "an expression");
    p->depth--;
    return e;
}

static tpl_node *slice_bound(tpl_parser *p)
{
    return tpl_is_op(p, ':') || tpl_is_op(p, ']') ? NULL : tpl_parse_expr(p);
}

static tpl_node *parse_subscript(tpl_parser *p, tpl_node *of) /* behind "[" */
{
    tpl_node *e = tpl_node_new(p, TPL_ITEM);
    tpl_node *first = slice_bound(p);
    if (e) {
        e->a = of;
        e->b = first;
        if (tpl_take_op(p, ':')) {
            e->kind = TPL_SLICE;
            e->c = slice_bound(p);
            if (tpl_take_op(p, ':'))
                e->d = slice_bound(p);
        } else if (!first)
            tpl_unexpected(p, "a subscript");
    }
    tpl_expect_op(p, ']');
    return e;
}

static tpl_node *parse_dot(tpl_parser *p, tpl_node *of) /* behind "." */
{
    tpl_node *e = tpl_node_new(p, TPL_ATTR);
    if (!e)
        return NULL;
    e->a = of;
    if (p->now.kind == TPL_T_CONST && p->now.v.type == TPL_INT) {
        e->kind = TPL_ITEM;
        e->b = constant(p, p->now.v);
        tpl_advance(p);
    } else
        e->name = tpl_take_identifier(p);
    return e;
}

static tpl_node *parse_call(tpl_parser *p, tpl_node *f) /* behind "(" */
{
    tpl_node *e = pair_of(p, TPL_CALL, f, NULL);
    tpl_node *args = parse_arguments(p);
    if (e)
        e->b = args;
    return e;
}

static tpl_node *parse_calls(tpl_parser *p, tpl_node *e)
{
    while (p->r->st == NB_OK) {
        if (tpl_take_op(p, '.'))
            e = parse_dot(p, e);
        else if (tpl_take_op(p, '['))
            e = parse_subscript(p, e);
        else if (tpl_take_op(p, '('))
            e = parse_call(p, e);
        else
            break;
    }
    return e;
}

tpl_node *tpl_parse_postfix(tpl_parser *p)
{
    return parse_calls(p, parse_primary(p));
}

tpl_node *tpl_parse_filter(tpl_parser *p, tpl_node *on)
{
    tpl_node *e = tpl_node_new(p, TPL_FILTER);
    tpl_name *name = tpl_take_identifier(p);
    tpl_node *args = tpl_take_op(p, '(') ? parse_arguments(p) : NULL;
    if (e && name) {
        e->name = name;
        e->row = tpl_find_row(tpl_filters, name->s, name->n);
        e->a = on;
        e->b = args;
    }
    return e;
}

/* "x is test", "x is not test", "x is test(arguments)", "x is test argument". */
static tpl_node *parse_test(tpl_parser *p, tpl_node *on) /* behind "is" */
{
    tpl_node *e = tpl_node_new(p, TPL_TEST), *args = NULL;
    const bool negative = tpl_take_name(p, "not");
    tpl_name *name = tpl_take_identifier(p);
    const bool word = p->now.kind == TPL_T_NAME && !tpl_is_name(p, "else") &&
                      !tpl_is_name(p, "or") && !tpl_is_name(p, "and") && !tpl_is_name(p, "is") &&
                      !tpl_is_name(p, "if") && !tpl_is_name(p, "not") && !tpl_is_name(p, "in");
    if (tpl_take_op(p, '('))
        args = parse_arguments(p);
    else if (word || p->now.kind == TPL_T_CONST || tpl_is_op(p, '[') || tpl_is_op(p, '{'))
        args = tpl_parse_postfix(p);
    if (e && name) {
        e->name = name;
        e->row = tpl_find_row(tpl_tests, name->s, name->n);
        e->a = on;
        e->b = args;
    }
    return negative ? pair_of(p, TPL_NOT, e, NULL) : e;
}

tpl_node *tpl_parse_filters(tpl_parser *p, tpl_node *e)
{
    while (p->r->st == NB_OK && tpl_take_op(p, '|'))
        e = tpl_parse_filter(p, e);
    return e;
}

static tpl_node *parse_filters_and_tests(tpl_parser *p, tpl_node *e)
{
    while (p->r->st == NB_OK) {
        if (tpl_take_op(p, '|'))
            e = tpl_parse_filter(p, e);
        else if (tpl_take_name(p, "is"))
            e = parse_test(p, e);
        else if (tpl_is_op(p, '(') || tpl_is_op(p, '.') || tpl_is_op(p, '['))
            e = parse_calls(p, e);
        else
            break;
    }
    return e;
}

static tpl_node *binary(tpl_parser *p, int op, tpl_node *a, tpl_node *b)
{
    tpl_node *e = pair_of(p, TPL_BINARY, a, b);
    if (e)
        e->op = op;
    return e;
}

static tpl_node *parse_unary(tpl_parser *p, bool filters)
{
    tpl_node *e = NULL;
    if (!tpl_parse_deeper(p))
        return NULL;
    if (tpl_take_op(p, '-'))
        e = pair_of(p, TPL_NEGATE, parse_unary(p, false), NULL);
    else if (tpl_take_op(p, '+'))
        e = pair_of(p, TPL_PLUS, parse_unary(p, false), NULL);
    else
        e = tpl_parse_postfix(p);
    p->depth--;
    return filters ? parse_filters_and_tests(p, e) : e;
}

static tpl_node *parse_power(tpl_parser *p) /* -2 ** 2 is 4 in Jinja, unlike in Python */
{
    tpl_node *e = parse_unary(p, true);
    while (p->r->st == NB_OK && tpl_take_op(p, TPL_OP2('*', '*')))
        e = binary(p, TPL_OP2('*', '*'), e, parse_unary(p, true));
    return e;
}

static tpl_node *parse_product(tpl_parser *p)
{
    static const int ops[] = {'*', '/', TPL_OP2('/', '/'), '%'};
    tpl_node *e = parse_power(p);
    while (p->r->st == NB_OK) {
        int op = 0;
        for (size_t i = 0; i < sizeof ops / sizeof *ops && !op; i++)
            op = tpl_take_op(p, ops[i]) ? ops[i] : 0;
        if (!op)
            break;
        e = binary(p, op, e, parse_power(p));
    }
    return e;
}

static tpl_node *parse_concat(tpl_parser *p)
{
    tpl_node *first = parse_product(p);
    if (!tpl_is_op(p, '~'))
        return first;
    tpl_node *e = pair_of(p, TPL_CONCAT, first, NULL), **tail = first ? &first->next : &first;
    while (p->r->st == NB_OK && tpl_take_op(p, '~'))
        append(&tail, parse_product(p));
    return e;
}

static tpl_node *parse_sum(tpl_parser *p)
{
    tpl_node *e = parse_concat(p);
    while (p->r->st == NB_OK) {
        const int op = tpl_take_op(p, '+') ? '+' : tpl_take_op(p, '-') ? '-' : 0;
        if (!op)
            break;
        e = binary(p, op, e, parse_concat(p));
    }
    return e;
}

static int comparison(tpl_parser *p)
{
    static const int ops[] = {
        TPL_OP2('=', '='), TPL_OP2('!', '='), TPL_OP2('<', '='), TPL_OP2('>', '='), '<', '>'};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        if (tpl_take_op(p, ops[i]))
            return ops[i];
    if (tpl_take_name(p, "in"))
        return TPL_OP_IN;
    const tpl_token *ahead = tpl_is_name(p, "not") ? tpl_peek(p) : NULL;
    if (ahead && ahead->kind == TPL_T_NAME && ahead->n == 2 &&
        memcmp(p->r->src + ahead->at, "in", 2) == 0) {
        tpl_advance(p);
        tpl_advance(p);
        return TPL_OP_NOT_IN;
    }
    return 0;
}

static tpl_node *parse_compare(tpl_parser *p)
{
    tpl_node *first = parse_sum(p), *list = NULL, **tail = &list;
    while (p->r->st == NB_OK) {
        const int op = comparison(p);
        if (!op)
            break;
        tpl_node *e = pair_of(p, TPL_AGAINST, parse_sum(p), NULL);
        if (e)
            e->op = op;
        append(&tail, e);
    }
    return list ? pair_of(p, TPL_COMPARE, first, list) : first;
}

static tpl_node *parse_not(tpl_parser *p)
{
    if (!tpl_is_name(p, "not"))
        return parse_compare(p);
    tpl_node *e = NULL;
    if (tpl_parse_deeper(p)) {
        tpl_advance(p);
        e = pair_of(p, TPL_NOT, parse_not(p), NULL);
    }
    p->depth--;
    return e;
}

static tpl_node *parse_and(tpl_parser *p)
{
    tpl_node *e = parse_not(p);
    while (p->r->st == NB_OK && tpl_take_name(p, "and"))
        e = pair_of(p, TPL_AND, e, parse_not(p));
    return e;
}

tpl_node *tpl_parse_or(tpl_parser *p)
{
    tpl_node *e = parse_and(p);
    while (p->r->st == NB_OK && tpl_take_name(p, "or"))
        e = pair_of(p, TPL_OR, e, parse_and(p));
    return e;
}

tpl_node *tpl_parse_expr(tpl_parser *p)
{
    tpl_node *e = NULL;
    if (tpl_parse_deeper(p))
        e = tpl_parse_or(p);
    while (p->r->st == NB_OK && tpl_take_name(p, "if")) {
        e = pair_of(p, TPL_IF_ELSE, e, tpl_parse_or(p));
        if (tpl_take_name(p, "else")) {
            tpl_node *otherwise = tpl_parse_expr(p);
            if (e)
                e->c = otherwise;
        }
    }
    p->depth--;
    return e;
}

static bool ends_tuple(const tpl_parser *p)
{
    return p->now.kind == TPL_T_BLOCK_END || p->now.kind == TPL_T_PRINT_END || tpl_is_op(p, ')') ||
           tpl_is_op(p, '=') || tpl_is_name(p, "in");
}

tpl_node *tpl_parse_tuple(tpl_parser *p, bool with_condition)
{
    tpl_node *first = with_condition ? tpl_parse_expr(p) : tpl_parse_or(p);
    if (!tpl_is_op(p, ','))
        return first;
    tpl_node *e = pair_of(p, TPL_MAKE_TUPLE, first, NULL), **tail = first ? &first->next : &first;
    while (p->r->st == NB_OK && tpl_take_op(p, ',') && !ends_tuple(p))
        append(&tail, with_condition ? tpl_parse_expr(p) : tpl_parse_or(p));
    return e;
}
