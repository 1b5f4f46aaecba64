/* template_parse.c -- tokens into the tree of statements; the token helpers of both parsers. */
#include "text/template_run.h"

#include <string.h>

void nb_tpl_advance(nb_tpl_parser *p)
{
    if (p->has_ahead)
        p->now = p->ahead;
    else
        nb_tpl_lex(p, &p->now);
    p->has_ahead = false;
    p->r->at = p->now.at;
}

const nb_tpl_token *nb_tpl_peek(nb_tpl_parser *p)
{
    if (!p->has_ahead)
        nb_tpl_lex(p, &p->ahead);
    p->has_ahead = true;
    return &p->ahead;
}

bool nb_tpl_is_op(const nb_tpl_parser *p, int op)
{
    return p->now.kind == NB_TPL_T_OP && p->now.op == op;
}

bool nb_tpl_is_name(const nb_tpl_parser *p, const char *name)
{
    const size_t n = strlen(name);
    return p->now.kind == NB_TPL_T_NAME && p->now.n == n &&
           memcmp(p->r->src + p->now.at, name, n) == 0;
}

bool nb_tpl_take_op(nb_tpl_parser *p, int op)
{
    const bool yes = nb_tpl_is_op(p, op);
    if (yes)
        nb_tpl_advance(p);
    return yes;
}

bool nb_tpl_take_name(nb_tpl_parser *p, const char *name)
{
    const bool yes = nb_tpl_is_name(p, name);
    if (yes)
        nb_tpl_advance(p);
    return yes;
}

void nb_tpl_unexpected(nb_tpl_parser *p, const char *wanted)
{
    static const char *const kinds[] = {"the end", "text", "{%",      "%}", "{{",
                                        "}}",      "",     "a value", ""};
    const nb_tpl_token *t = &p->now;
    char shown[100];
    const int op[2] = {t->op > 255 ? t->op >> 8 : t->op, t->op > 255 ? t->op & 255 : 0};
    const char text[3] = {(char)op[0], (char)op[1], 0};
    p->r->at = t->at;
    if (t->kind == NB_TPL_T_NAME)
        nb_escape(shown, (int64_t)sizeof shown, p->r->src + t->at, t->n);
    NB_TPL_BAD(p->r, "%s is expected, not %s", wanted,
               t->kind == NB_TPL_T_NAME ? shown
               : t->kind == NB_TPL_T_OP ? text
                                        : kinds[t->kind]);
}

bool nb_tpl_expect_op(nb_tpl_parser *p, int op)
{
    const char wanted[2] = {(char)op, 0};
    if (nb_tpl_take_op(p, op))
        return true;
    nb_tpl_unexpected(p, wanted);
    return false;
}

nb_tpl_name *nb_tpl_take_identifier(nb_tpl_parser *p)
{
    const nb_tpl_token t = p->now;
    if (t.kind != NB_TPL_T_NAME || (p->r->src[t.at] >= '0' && p->r->src[t.at] <= '9')) {
        nb_tpl_unexpected(p, "a name");
        return NULL;
    }
    nb_tpl_advance(p);
    return nb_tpl_intern(p->r, p->r->src + t.at, t.n);
}

nb_tpl_node *nb_tpl_node_new(nb_tpl_parser *p, nb_tpl_kind kind)
{
    nb_tpl_node *e = nb_tpl_alloc(p->r, 1, sizeof *e);
    if (e)
        *e = (nb_tpl_node){.kind = kind, .at = p->now.at};
    return e;
}

static void expect_end(nb_tpl_parser *p)
{
    if (p->now.kind == NB_TPL_T_BLOCK_END)
        nb_tpl_advance(p);
    else
        nb_tpl_unexpected(p, "%}");
}

/* Statements until a block whose name is one of `ends` (NULL: the end of the source); that name is
 * then the token. */
static nb_tpl_node *parse_body(nb_tpl_parser *p, const char *const *ends);

static bool at_end(nb_tpl_parser *p, const char *const *ends)
{
    for (; ends && *ends; ends++)
        if (nb_tpl_is_name(p, *ends))
            return true;
    return false;
}

static nb_tpl_node *parse_until(nb_tpl_parser *p, const char *end) /* "%} body {% end %}" */
{
    const char *const ends[] = {end, NULL};
    expect_end(p);
    nb_tpl_node *body = parse_body(p, ends);
    nb_tpl_take_name(p, end);
    expect_end(p);
    return body;
}

/* A name, a.name (of a namespace), or a tuple of them. */
static bool is_target(const nb_tpl_node *e)
{
    if (e->kind == NB_TPL_VAR || (e->kind == NB_TPL_ATTR && e->a && e->a->kind == NB_TPL_VAR))
        return true;
    bool all = e->kind == NB_TPL_MAKE_TUPLE && e->a;
    for (const nb_tpl_node *v = all ? e->a : NULL; v && all; v = v->next)
        all = v->kind == NB_TPL_VAR || v->kind == NB_TPL_MAKE_TUPLE ? is_target(v) : false;
    return all;
}

static nb_tpl_node *parse_one_target(nb_tpl_parser *p)
{
    nb_tpl_node *e = NULL;
    if (nb_tpl_take_op(p, '(')) {
        if (nb_tpl_parse_deeper(p)) {
            e = nb_tpl_parse_tuple(p, false);
            nb_tpl_expect_op(p, ')');
        }
        p->depth--;
    } else
        e = nb_tpl_parse_postfix(p);
    return e;
}

static nb_tpl_node *parse_target(nb_tpl_parser *p)
{
    nb_tpl_node *first = parse_one_target(p), *e = first;
    if (first && nb_tpl_is_op(p, ',')) {
        e = nb_tpl_node_new(p, NB_TPL_MAKE_TUPLE);
        nb_tpl_node **tail = &first->next;
        if (e)
            e->a = first;
        while (p->r->st == NB_OK && nb_tpl_take_op(p, ',') && !nb_tpl_is_op(p, '=') &&
               !nb_tpl_is_name(p, "in")) {
            nb_tpl_node *next = parse_one_target(p);
            if (next) {
                *tail = next;
                tail = &next->next;
            }
        }
    }
    if (e && !is_target(e))
        NB_TPL_BAD(p->r, "this cannot be assigned to");
    return e;
}

static nb_tpl_node *parse_if(nb_tpl_parser *p)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    static const char *const last[] = {"endif", NULL};
    nb_tpl_node *first = NULL, **place = &first;
    do { /* "if" or "elif" was taken */
        nb_tpl_node *e = nb_tpl_node_new(p, NB_TPL_IF);
        if (!e)
            return NULL;
        *place = e;
        place = &e->c;
        e->a = nb_tpl_parse_tuple(p, true);
        expect_end(p);
        e->b = parse_body(p, ends);
    } while (p->r->st == NB_OK && nb_tpl_take_name(p, "elif"));
    if (nb_tpl_take_name(p, "else")) {
        expect_end(p);
        *place = parse_body(p, last);
    }
    nb_tpl_take_name(p, "endif");
    expect_end(p);
    return first;
}

static nb_tpl_node *parse_for(nb_tpl_parser *p)
{
    static const char *const ends[] = {"else", "endfor", NULL}, *const last[] = {"endfor", NULL};
    nb_tpl_node *e = nb_tpl_node_new(p, NB_TPL_FOR);
    if (!e)
        return NULL;
    e->a = parse_target(p);
    if (!nb_tpl_take_name(p, "in"))
        nb_tpl_unexpected(p, "in");
    e->b = nb_tpl_parse_tuple(p, false);
    if (nb_tpl_take_name(p, "if"))
        e->d = nb_tpl_parse_expr(p);
    if (nb_tpl_is_name(p, "recursive"))
        nb_tpl_fail(p->r, NB_UNSUPPORTED, "recursive loops are not supported");
    expect_end(p);
    p->loops++;
    e->c = parse_body(p, ends);
    p->loops--;
    if (nb_tpl_take_name(p, "else")) {
        expect_end(p);
        e->e = parse_body(p, last);
    }
    nb_tpl_take_name(p, "endfor");
    expect_end(p);
    return e;
}

static nb_tpl_node *parse_set(nb_tpl_parser *p)
{
    nb_tpl_node *e = nb_tpl_node_new(p, NB_TPL_SET);
    if (!e)
        return NULL;
    e->a = parse_target(p);
    if (nb_tpl_take_op(p, '=')) {
        e->b = nb_tpl_parse_tuple(p, true);
        expect_end(p);
        return e;
    }
    e->kind = NB_TPL_SET_BLOCK;
    e->c = nb_tpl_parse_filters(p, NULL);
    e->b = parse_until(p, "endset");
    return e;
}

static nb_tpl_node *parse_params(nb_tpl_parser *p) /* behind "(" */
{
    nb_tpl_node *list = NULL, **tail = &list;
    while (p->r->st == NB_OK && !nb_tpl_take_op(p, ')')) {
        nb_tpl_node *e = nb_tpl_node_new(p, NB_TPL_PARAM);
        nb_tpl_name *name = nb_tpl_take_identifier(p);
        nb_tpl_node *otherwise = nb_tpl_take_op(p, '=') ? nb_tpl_parse_expr(p) : NULL;
        if (!nb_tpl_is_op(p, ')'))
            nb_tpl_expect_op(p, ',');
        if (!e)
            break;
        e->name = name;
        e->a = otherwise;
        *tail = e;
        tail = &e->next;
    }
    return list;
}

static nb_tpl_node *parse_macro(nb_tpl_parser *p)
{
    nb_tpl_node *e = nb_tpl_node_new(p, NB_TPL_DEF_MACRO);
    if (!e)
        return NULL;
    const int loops = p->loops;
    e->name = nb_tpl_take_identifier(p);
    if (nb_tpl_expect_op(p, '('))
        e->a = parse_params(p);
    p->loops = 0; /* break inside a macro does not leave the loop around it */
    e->b = parse_until(p, "endmacro");
    p->loops = loops;
    return e;
}

static nb_tpl_node *parse_call_block(nb_tpl_parser *p)
{
    nb_tpl_node *e = nb_tpl_node_new(p, NB_TPL_CALL_BLOCK),
                *body = nb_tpl_node_new(p, NB_TPL_DEF_MACRO);
    if (!e || !body)
        return NULL;
    const int loops = p->loops;
    body->name = nb_tpl_intern(p->r, "caller", 6);
    if (nb_tpl_take_op(p, '('))
        body->a = parse_params(p);
    e->a = nb_tpl_parse_expr(p);
    e->b = body;
    if (e->a && e->a->kind != NB_TPL_CALL)
        nb_tpl_unexpected(p, "a call");
    p->loops = 0;
    body->b = parse_until(p, "endcall");
    p->loops = loops;
    return e;
}

static nb_tpl_node *parse_filter_block(nb_tpl_parser *p)
{
    nb_tpl_node *e = nb_tpl_node_new(p, NB_TPL_FILTER_BLOCK);
    if (!e)
        return NULL;
    e->a = nb_tpl_parse_filters(p, nb_tpl_parse_filter(p, NULL));
    e->b = parse_until(p, "endfilter");
    return e;
}

static nb_tpl_node *parse_with(nb_tpl_parser *p)
{
    nb_tpl_node *e = nb_tpl_node_new(p, NB_TPL_WITH);
    if (!e)
        return NULL;
    nb_tpl_node **tail = &e->a;
    while (p->r->st == NB_OK && p->now.kind != NB_TPL_T_BLOCK_END) {
        nb_tpl_node *s = nb_tpl_node_new(p, NB_TPL_SET);
        if (!s)
            break;
        s->a = parse_one_target(p);
        if (s->a && !is_target(s->a))
            NB_TPL_BAD(p->r, "this cannot be assigned to");
        nb_tpl_expect_op(p, '=');
        s->b = nb_tpl_parse_expr(p);
        if (p->now.kind != NB_TPL_T_BLOCK_END)
            nb_tpl_expect_op(p, ',');
        *tail = s;
        tail = &s->next;
    }
    e->b = parse_until(p, "endwith");
    return e;
}

static nb_tpl_node *parse_generation(nb_tpl_parser *p)
{
    nb_tpl_node *e = nb_tpl_node_new(p, NB_TPL_GENERATION);
    nb_tpl_node *body = parse_until(p, "endgeneration");
    if (e)
        e->b = body;
    return e;
}

static nb_tpl_node *parse_jump(nb_tpl_parser *p, nb_tpl_kind kind)
{
    nb_tpl_node *e = nb_tpl_node_new(p, kind);
    if (p->loops == 0)
        NB_TPL_BAD(p->r, "break and continue stand in loops only");
    expect_end(p);
    return e;
}

static nb_tpl_node *parse_break(nb_tpl_parser *p)
{
    return parse_jump(p, NB_TPL_BREAK);
}

static nb_tpl_node *parse_continue(nb_tpl_parser *p)
{
    return parse_jump(p, NB_TPL_CONTINUE);
}

static const struct {
    const char *name;
    nb_tpl_node *(*parse)(nb_tpl_parser *p);
} statements[] = {{"if", parse_if},           {"for", parse_for},
                  {"set", parse_set},         {"macro", parse_macro},
                  {"call", parse_call_block}, {"filter", parse_filter_block},
                  {"with", parse_with},       {"generation", parse_generation},
                  {"break", parse_break},     {"continue", parse_continue}};

static nb_tpl_node *parse_statement(nb_tpl_parser *p)
{
    static const char *const other_files[] = {"include", "import", "from", "extends", "block"};
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
        if (nb_tpl_take_name(p, statements[i].name))
            return statements[i].parse(p);
    for (size_t i = 0; i < sizeof other_files / sizeof *other_files; i++)
        if (nb_tpl_is_name(p, other_files[i]))
            nb_tpl_fail(p->r, NB_UNSUPPORTED, "%s is not supported: a chat template is one file",
                        other_files[i]);
    nb_tpl_unexpected(p, "a statement");
    return NULL;
}

/* What the token begins; NULL for text of no bytes. */
static nb_tpl_node *parse_piece(nb_tpl_parser *p)
{
    nb_tpl_node *e = NULL;
    if (p->now.kind == NB_TPL_T_DATA) {
        e = nb_tpl_node_new(p, NB_TPL_TEXT);
        if (e)
            e->v = p->now.v;
        nb_tpl_advance(p);
    } else if (p->now.kind == NB_TPL_T_PRINT) {
        e = nb_tpl_node_new(p, NB_TPL_PRINT);
        nb_tpl_advance(p);
        nb_tpl_node *what = nb_tpl_parse_tuple(p, true);
        if (e)
            e->a = what;
        if (p->now.kind == NB_TPL_T_PRINT_END)
            nb_tpl_advance(p);
        else
            nb_tpl_unexpected(p, "}}");
    } else
        nb_tpl_unexpected(p, "text or a tag");
    return e;
}

static nb_tpl_node *parse_body(nb_tpl_parser *p, const char *const *ends)
{
    nb_tpl_node *list = NULL, **tail = &list;
    bool closed = false;
    if (nb_tpl_parse_deeper(p))
        while (p->r->st == NB_OK && p->now.kind != NB_TPL_T_END) {
            nb_tpl_node *e = NULL;
            if (p->now.kind == NB_TPL_T_BLOCK) {
                nb_tpl_advance(p);
                closed = at_end(p, ends);
                if (closed)
                    break;
                e = parse_statement(p);
            } else
                e = parse_piece(p);
            if (e) {
                *tail = e;
                tail = &e->next;
            }
        }
    p->depth--;
    while (ends && ends[1]) /* the last one closes */
        ends++;
    if (ends && !closed && p->r->st == NB_OK)
        NB_TPL_BAD(p->r, "{%% %s %%} is missing at the end", ends[0]);
    return list;
}

nb_tpl_node *nb_tpl_parse(nb_tpl_run *r)
{
    nb_tpl_parser p = {.r = r, .line_start = true};
    nb_tpl_advance(&p);
    return r->st == NB_OK ? parse_body(&p, NULL) : NULL;
}
