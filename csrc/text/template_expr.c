/* template_expr.c -- expressions: recursive descent over Jinja's grammar.
 *
 *   if-else < or < and < not < comparison, in < + - < ~ < * / // % < ** < - + < postfix, filter,
 * test
 *
 * Chains of one level are read in a loop; only brackets, prefixes and else branches nest. */
#include "text/template_run.h"

#include <string.h>

static nb_tpl_node *parse_unary(nb_tpl_parser *p, bool filters);

bool nb_tpl_parse_deeper(nb_tpl_parser *p)
{
    if (++p->depth > NB_TEMPLATE_DEPTH)
        NB_TPL_BAD(p->r, "it is nested deeper than %d levels", NB_TEMPLATE_DEPTH);
    return p->r->st == NB_OK;
}

static nb_tpl_node *pair_of(nb_tpl_parser *p, nb_tpl_kind kind, nb_tpl_node *a, nb_tpl_node *b)
{
    nb_tpl_node *e = nb_tpl_node_new(p, kind);
    if (e) {
        e->a = a;
        e->b = b;
    }
    return e;
}

/* Appends to a list; a failure leaves NULL, which ends it. */
static void append(nb_tpl_node ***tail, nb_tpl_node *e)
{
    if (!e)
        return;
    **tail = e;
    *tail = &e->next;
}

static nb_tpl_node *parse_arguments(nb_tpl_parser *p) /* behind "(" */
{
    nb_tpl_node *list = NULL, **tail = &list;
    while (p->r->st == NB_OK && !nb_tpl_take_op(p, ')')) {
        const nb_tpl_token *ahead = p->now.kind == NB_TPL_T_NAME ? nb_tpl_peek(p) : NULL;
        if (ahead && ahead->kind == NB_TPL_T_OP && ahead->op == '=') {
            nb_tpl_node *e = nb_tpl_node_new(p, NB_TPL_KEYWORD);
            nb_tpl_name *name = nb_tpl_take_identifier(p);
            nb_tpl_advance(p);
            if (e) {
                e->name = name;
                e->a = nb_tpl_parse_expr(p);
            }
            append(&tail, e);
        } else
            append(&tail, nb_tpl_parse_expr(p));
        if (!nb_tpl_is_op(p, ')'))
            nb_tpl_expect_op(p, ',');
    }
    return list;
}

static nb_tpl_node *parse_list(nb_tpl_parser *p) /* behind "[" */
{
    nb_tpl_node *e = nb_tpl_node_new(p, NB_TPL_MAKE_LIST), *list = NULL, **tail = &list;
    while (p->r->st == NB_OK && !nb_tpl_take_op(p, ']')) {
        append(&tail, nb_tpl_parse_expr(p));
        if (!nb_tpl_is_op(p, ']'))
            nb_tpl_expect_op(p, ',');
    }
    if (e)
        e->a = list;
    return e;
}

static nb_tpl_node *parse_dict(nb_tpl_parser *p) /* behind "{" */
{
    nb_tpl_node *e = nb_tpl_node_new(p, NB_TPL_MAKE_DICT), *list = NULL, **tail = &list;
    while (p->r->st == NB_OK && !nb_tpl_take_op(p, '}')) {
        nb_tpl_node *key = nb_tpl_parse_expr(p);
        nb_tpl_expect_op(p, ':');
        append(&tail, pair_of(p, NB_TPL_PAIR, key, nb_tpl_parse_expr(p)));
        if (!nb_tpl_is_op(p, '}'))
            nb_tpl_expect_op(p, ',');
    }
    if (e)
        e->a = list;
    return e;
}

static nb_tpl_node *constant(nb_tpl_parser *p, nb_tpl_value v)
{
    nb_tpl_node *e = nb_tpl_node_new(p, NB_TPL_CONST);
    if (e)
        e->v = v;
    return e;
}

static nb_tpl_node *parse_name(nb_tpl_parser *p)
{
    static const struct {
        const char *name;
        nb_tpl_type type;
        bool b;
    } words[] = {{"true", NB_TPL_BOOL, true},   {"True", NB_TPL_BOOL, true},
                 {"false", NB_TPL_BOOL, false}, {"False", NB_TPL_BOOL, false},
                 {"none", NB_TPL_NONE, false},  {"None", NB_TPL_NONE, false}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (nb_tpl_is_name(p, words[i].name)) {
            nb_tpl_node *e =
                constant(p, words[i].type == NB_TPL_BOOL ? nb_tpl_bool(words[i].b) : nb_tpl_none());
            nb_tpl_advance(p);
            return e;
        }
    nb_tpl_node *e = nb_tpl_node_new(p, NB_TPL_VAR);
    nb_tpl_name *name = nb_tpl_take_identifier(p);
    if (e)
        e->name = name;
    return e;
}

static nb_tpl_node *parse_primary(nb_tpl_parser *p)
{
    nb_tpl_node *e = NULL;
    if (!nb_tpl_parse_deeper(p))
        return NULL;
    if (p->now.kind == NB_TPL_T_NAME) {
        e = parse_name(p);
    } else if (p->now.kind == NB_TPL_T_CONST) {
        nb_tpl_value v = p->now.v;
        nb_tpl_advance(p);
        while (v.type == NB_TPL_STRING && p->now.kind == NB_TPL_T_CONST &&
               p->now.v.type == NB_TPL_STRING) {
            v = nb_tpl_concat(p->r, v, p->now.v);
            nb_tpl_advance(p);
        }
        e = constant(p, v);
    } else if (nb_tpl_take_op(p, '(')) {
        if (nb_tpl_take_op(p, ')'))
            e = nb_tpl_node_new(p, NB_TPL_MAKE_TUPLE);
        else {
            e = nb_tpl_parse_tuple(p, true);
            nb_tpl_expect_op(p, ')');
        }
    } else if (nb_tpl_take_op(p, '[')) {
        e = parse_list(p);
    } else if (nb_tpl_take_op(p, '{')) {
        e = parse_dict(p);
    } else
        nb_tpl_unexpected(p, "an expression");
    p->depth--;
    return e;
}

static nb_tpl_node *slice_bound(nb_tpl_parser *p)
{
    return nb_tpl_is_op(p, ':') || nb_tpl_is_op(p, ']') ? NULL : nb_tpl_parse_expr(p);
}

static nb_tpl_node *parse_subscript(nb_tpl_parser *p, nb_tpl_node *of) /* behind "[" */
{
    nb_tpl_node *e = nb_tpl_node_new(p, NB_TPL_ITEM);
    nb_tpl_node *first = slice_bound(p);
    if (e) {
        e->a = of;
        e->b = first;
        if (nb_tpl_take_op(p, ':')) {
            e->kind = NB_TPL_SLICE;
            e->c = slice_bound(p);
            if (nb_tpl_take_op(p, ':'))
                e->d = slice_bound(p);
        } else if (!first)
            nb_tpl_unexpected(p, "a subscript");
    }
    nb_tpl_expect_op(p, ']');
    return e;
}

static nb_tpl_node *parse_dot(nb_tpl_parser *p, nb_tpl_node *of) /* behind "." */
{
    nb_tpl_node *e = nb_tpl_node_new(p, NB_TPL_ATTR);
    if (!e)
        return NULL;
    e->a = of;
    if (p->now.kind == NB_TPL_T_CONST && p->now.v.type == NB_TPL_INT) {
        e->kind = NB_TPL_ITEM;
        e->b = constant(p, p->now.v);
        nb_tpl_advance(p);
    } else
        e->name = nb_tpl_take_identifier(p);
    return e;
}

static nb_tpl_node *parse_call(nb_tpl_parser *p, nb_tpl_node *f) /* behind "(" */
{
    nb_tpl_node *e = pair_of(p, NB_TPL_CALL, f, NULL);
    nb_tpl_node *args = parse_arguments(p);
    if (e)
        e->b = args;
    return e;
}

static nb_tpl_node *parse_calls(nb_tpl_parser *p, nb_tpl_node *e)
{
    while (p->r->st == NB_OK) {
        if (nb_tpl_take_op(p, '.'))
            e = parse_dot(p, e);
        else if (nb_tpl_take_op(p, '['))
            e = parse_subscript(p, e);
        else if (nb_tpl_take_op(p, '('))
            e = parse_call(p, e);
        else
            break;
    }
    return e;
}

nb_tpl_node *nb_tpl_parse_postfix(nb_tpl_parser *p)
{
    return parse_calls(p, parse_primary(p));
}

nb_tpl_node *nb_tpl_parse_filter(nb_tpl_parser *p, nb_tpl_node *on)
{
    nb_tpl_node *e = nb_tpl_node_new(p, NB_TPL_FILTER);
    nb_tpl_name *name = nb_tpl_take_identifier(p);
    nb_tpl_node *args = nb_tpl_take_op(p, '(') ? parse_arguments(p) : NULL;
    if (e && name) {
        e->name = name;
        e->row = nb_tpl_find_row(nb_tpl_filters, name->s, name->n);
        e->a = on;
        e->b = args;
    }
    return e;
}

/* "x is test", "x is not test", "x is test(arguments)", "x is test argument". */
static nb_tpl_node *parse_test(nb_tpl_parser *p, nb_tpl_node *on) /* behind "is" */
{
    nb_tpl_node *e = nb_tpl_node_new(p, NB_TPL_TEST), *args = NULL;
    const bool negative = nb_tpl_take_name(p, "not");
    nb_tpl_name *name = nb_tpl_take_identifier(p);
    const bool word = p->now.kind == NB_TPL_T_NAME && !nb_tpl_is_name(p, "else") &&
                      !nb_tpl_is_name(p, "or") && !nb_tpl_is_name(p, "and") &&
                      !nb_tpl_is_name(p, "is") && !nb_tpl_is_name(p, "if") &&
                      !nb_tpl_is_name(p, "not") && !nb_tpl_is_name(p, "in");
    if (nb_tpl_take_op(p, '('))
        args = parse_arguments(p);
    else if (word || p->now.kind == NB_TPL_T_CONST || nb_tpl_is_op(p, '[') || nb_tpl_is_op(p, '{'))
        args = nb_tpl_parse_postfix(p);
    if (e && name) {
        e->name = name;
        e->row = nb_tpl_find_row(nb_tpl_tests, name->s, name->n);
        e->a = on;
        e->b = args;
    }
    return negative ? pair_of(p, NB_TPL_NOT, e, NULL) : e;
}

nb_tpl_node *nb_tpl_parse_filters(nb_tpl_parser *p, nb_tpl_node *e)
{
    while (p->r->st == NB_OK && nb_tpl_take_op(p, '|'))
        e = nb_tpl_parse_filter(p, e);
    return e;
}

static nb_tpl_node *parse_filters_and_tests(nb_tpl_parser *p, nb_tpl_node *e)
{
    while (p->r->st == NB_OK) {
        if (nb_tpl_take_op(p, '|'))
            e = nb_tpl_parse_filter(p, e);
        else if (nb_tpl_take_name(p, "is"))
            e = parse_test(p, e);
        else if (nb_tpl_is_op(p, '(') || nb_tpl_is_op(p, '.') || nb_tpl_is_op(p, '['))
            e = parse_calls(p, e);
        else
            break;
    }
    return e;
}

static nb_tpl_node *binary(nb_tpl_parser *p, int op, nb_tpl_node *a, nb_tpl_node *b)
{
    nb_tpl_node *e = pair_of(p, NB_TPL_BINARY, a, b);
    if (e)
        e->op = op;
    return e;
}

static nb_tpl_node *parse_unary(nb_tpl_parser *p, bool filters)
{
    nb_tpl_node *e = NULL;
    if (!nb_tpl_parse_deeper(p))
        return NULL;
    if (nb_tpl_take_op(p, '-'))
        e = pair_of(p, NB_TPL_NEGATE, parse_unary(p, false), NULL);
    else if (nb_tpl_take_op(p, '+'))
        e = pair_of(p, NB_TPL_PLUS, parse_unary(p, false), NULL);
    else
        e = nb_tpl_parse_postfix(p);
    p->depth--;
    return filters ? parse_filters_and_tests(p, e) : e;
}

static nb_tpl_node *parse_power(nb_tpl_parser *p) /* -2 ** 2 is 4 in Jinja, unlike in Python */
{
    nb_tpl_node *e = parse_unary(p, true);
    while (p->r->st == NB_OK && nb_tpl_take_op(p, NB_TPL_OP2('*', '*')))
        e = binary(p, NB_TPL_OP2('*', '*'), e, parse_unary(p, true));
    return e;
}

static nb_tpl_node *parse_product(nb_tpl_parser *p)
{
    static const int ops[] = {'*', '/', NB_TPL_OP2('/', '/'), '%'};
    nb_tpl_node *e = parse_power(p);
    while (p->r->st == NB_OK) {
        int op = 0;
        for (size_t i = 0; i < sizeof ops / sizeof *ops && !op; i++)
            op = nb_tpl_take_op(p, ops[i]) ? ops[i] : 0;
        if (!op)
            break;
        e = binary(p, op, e, parse_power(p));
    }
    return e;
}

static nb_tpl_node *parse_concat(nb_tpl_parser *p)
{
    nb_tpl_node *first = parse_product(p);
    if (!nb_tpl_is_op(p, '~'))
        return first;
    nb_tpl_node *e = pair_of(p, NB_TPL_CONCAT, first, NULL), **tail = first ? &first->next : &first;
    while (p->r->st == NB_OK && nb_tpl_take_op(p, '~'))
        append(&tail, parse_product(p));
    return e;
}

static nb_tpl_node *parse_sum(nb_tpl_parser *p)
{
    nb_tpl_node *e = parse_concat(p);
    while (p->r->st == NB_OK) {
        const int op = nb_tpl_take_op(p, '+') ? '+' : nb_tpl_take_op(p, '-') ? '-' : 0;
        if (!op)
            break;
        e = binary(p, op, e, parse_concat(p));
    }
    return e;
}

static int comparison(nb_tpl_parser *p)
{
    static const int ops[] = {NB_TPL_OP2('=', '='),
                              NB_TPL_OP2('!', '='),
                              NB_TPL_OP2('<', '='),
                              NB_TPL_OP2('>', '='),
                              '<',
                              '>'};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        if (nb_tpl_take_op(p, ops[i]))
            return ops[i];
    if (nb_tpl_take_name(p, "in"))
        return NB_TPL_OP_IN;
    const nb_tpl_token *ahead = nb_tpl_is_name(p, "not") ? nb_tpl_peek(p) : NULL;
    if (ahead && ahead->kind == NB_TPL_T_NAME && ahead->n == 2 &&
        memcmp(p->r->src + ahead->at, "in", 2) == 0) {
        nb_tpl_advance(p);
        nb_tpl_advance(p);
        return NB_TPL_OP_NOT_IN;
    }
    return 0;
}

static nb_tpl_node *parse_compare(nb_tpl_parser *p)
{
    nb_tpl_node *first = parse_sum(p), *list = NULL, **tail = &list;
    while (p->r->st == NB_OK) {
        const int op = comparison(p);
        if (!op)
            break;
        nb_tpl_node *e = pair_of(p, NB_TPL_AGAINST, parse_sum(p), NULL);
        if (e)
            e->op = op;
        append(&tail, e);
    }
    return list ? pair_of(p, NB_TPL_COMPARE, first, list) : first;
}

static nb_tpl_node *parse_not(nb_tpl_parser *p)
{
    if (!nb_tpl_is_name(p, "not"))
        return parse_compare(p);
    nb_tpl_node *e = NULL;
    if (nb_tpl_parse_deeper(p)) {
        nb_tpl_advance(p);
        e = pair_of(p, NB_TPL_NOT, parse_not(p), NULL);
    }
    p->depth--;
    return e;
}

static nb_tpl_node *parse_and(nb_tpl_parser *p)
{
    nb_tpl_node *e = parse_not(p);
    while (p->r->st == NB_OK && nb_tpl_take_name(p, "and"))
        e = pair_of(p, NB_TPL_AND, e, parse_not(p));
    return e;
}

nb_tpl_node *nb_tpl_parse_or(nb_tpl_parser *p)
{
    nb_tpl_node *e = parse_and(p);
    while (p->r->st == NB_OK && nb_tpl_take_name(p, "or"))
        e = pair_of(p, NB_TPL_OR, e, parse_and(p));
    return e;
}

nb_tpl_node *nb_tpl_parse_expr(nb_tpl_parser *p)
{
    nb_tpl_node *e = NULL;
    if (nb_tpl_parse_deeper(p))
        e = nb_tpl_parse_or(p);
    while (p->r->st == NB_OK && nb_tpl_take_name(p, "if")) {
        e = pair_of(p, NB_TPL_IF_ELSE, e, nb_tpl_parse_or(p));
        if (nb_tpl_take_name(p, "else")) {
            nb_tpl_node *otherwise = nb_tpl_parse_expr(p);
            if (e)
                e->c = otherwise;
        }
    }
    p->depth--;
    return e;
}

static bool ends_tuple(const nb_tpl_parser *p)
{
    return p->now.kind == NB_TPL_T_BLOCK_END || p->now.kind == NB_TPL_T_PRINT_END ||
           nb_tpl_is_op(p, ')') || nb_tpl_is_op(p, '=') || nb_tpl_is_name(p, "in");
}

nb_tpl_node *nb_tpl_parse_tuple(nb_tpl_parser *p, bool with_condition)
{
    nb_tpl_node *first = with_condition ? nb_tpl_parse_expr(p) : nb_tpl_parse_or(p);
    if (!nb_tpl_is_op(p, ','))
        return first;
    nb_tpl_node *e = pair_of(p, NB_TPL_MAKE_TUPLE, first, NULL),
                **tail = first ? &first->next : &first;
    while (p->r->st == NB_OK && nb_tpl_take_op(p, ',') && !ends_tuple(p))
        append(&tail, with_condition ? nb_tpl_parse_expr(p) : nb_tpl_parse_or(p));
    return e;
}
