/* template_parse.c -- tokens into the tree of statements; the token helpers of both parsers. */
#include "text/template_run.h"

#include <string.h>

void tpl_advance(tpl_parser *p)
{
    if (p->has_ahead)
        p->now = p->ahead;
    else
        tpl_lex(p, &p->now);
    p->has_ahead = false;
    p->r->at = p->now.at;
}

const tpl_token *tpl_peek(tpl_parser *p)
{
    if (!p->has_ahead)
        tpl_lex(p, &p->ahead);
    p->has_ahead = true;
    return &p->ahead;
}

bool tpl_is_op(const tpl_parser *p, int op)
{
    return p->now.kind == TPL_T_OP && p->now.op == op;
}

bool tpl_is_name(const tpl_parser *p, const char *name)
{
    const size_t n = strlen(name);
    return p->now.kind == TPL_T_NAME && p->now.n == n &&
           memcmp(p->r->src + p->now.at, name, n) == 0;
}

bool tpl_take_op(tpl_parser *p, int op)
{
    const bool yes = tpl_is_op(p, op);
    if (yes)
        tpl_advance(p);
    return yes;
}

bool tpl_take_name(tpl_parser *p, const char *name)
{
    const bool yes = tpl_is_name(p, name);
    if (yes)
        tpl_advance(p);
    return yes;
}

void tpl_unexpected(tpl_parser *p, const char *wanted)
{
    static const char *const kinds[] = {"the end", "text", "{%",      "%}", "{{",
                                        "}}",      "",     "a value", ""};
    const tpl_token *t = &p->now;
    char shown[100];
    const int op[2] = {t->op > 255 ? t->op >> 8 : t->op, t->op > 255 ? t->op & 255 : 0};
    const char text[3] = {(char)op[0], (char)op[1], 0};
    p->r->at = t->at;
    if (t->kind == TPL_T_NAME)
        nb_escape(shown, (int64_t)sizeof shown, p->r->src + t->at, t->n);
    TPL_BAD(p->r, "%s is expected, not %s", wanted,
            t->kind == TPL_T_NAME ? shown
            : t->kind == TPL_T_OP ? text
                                  : kinds[t->kind]);
}

bool tpl_expect_op(tpl_parser *p, int op)
{
    const char wanted[2] = {(char)op, 0};
    if (tpl_take_op(p, op))
        return true;
    tpl_unexpected(p, wanted);
    return false;
}

tpl_name *tpl_take_identifier(tpl_parser *p)
{
    const tpl_token t = p->now;
    if (t.kind != TPL_T_NAME || (p->r->src[t.at] >= '0' && p->r->src[t.at] <= '9')) {
        tpl_unexpected(p, "a name");
        return NULL;
    }
    tpl_advance(p);
    return tpl_intern(p->r, p->r->src + t.at, t.n);
}

tpl_node *tpl_node_new(tpl_parser *p, tpl_kind kind)
{
    tpl_node *e = tpl_alloc(p->r, 1, sizeof *e);
    if (e)
        *e = (tpl_node){.kind = kind, .at = p->now.at};
    return e;
}

static void expect_end(tpl_parser *p)
{
    if (p->now.kind == TPL_T_BLOCK_END)
        tpl_advance(p);
    else
        tpl_unexpected(p, "%}");
}

/* Statements until a block whose name is one of `ends` (NULL: the end of the source); that name is
 * then the token. */
static tpl_node *parse_body(tpl_parser *p, const char *const *ends);

static bool at_end(tpl_parser *p, const char *const *ends)
{
    for (; ends && *ends; ends++)
        if (tpl_is_name(p, *ends))
            return true;
    return false;
}

static tpl_node *parse_until(tpl_parser *p, const char *end) /* "%} body {% end %}" */
{
    const char *const ends[] = {end, NULL};
    expect_end(p);
    tpl_node *body = parse_body(p, ends);
    tpl_take_name(p, end);
    expect_end(p);
    return body;
}

/* A name, a.name (of a namespace), or a tuple of them. */
static bool is_target(const tpl_node *e)
{
    if (e->kind == TPL_VAR || (e->kind == TPL_ATTR && e->a && e->a->kind == TPL_VAR))
        return true;
    bool all = e->kind == TPL_MAKE_TUPLE && e->a;
    for (const tpl_node *v = all ? e->a : NULL; v && all; v = v->next)
        all = v->kind == TPL_VAR || v->kind == TPL_MAKE_TUPLE ? is_target(v) : false;
    return all;
}

static tpl_node *parse_one_target(tpl_parser *p)
{
    tpl_node *e = NULL;
    if (tpl_take_op(p, '(')) {
        if (tpl_parse_deeper(p)) {
            e = tpl_parse_tuple(p, false);
            tpl_expect_op(p, ')');
        }
        p->depth--;
    } else
        e = tpl_parse_postfix(p);
    return e;
}

static tpl_node *parse_target(tpl_parser *p)
{
    tpl_node *first = parse_one_target(p), *e = first;
    if (first && tpl_is_op(p, ',')) {
        e = tpl_node_new(p, TPL_MAKE_TUPLE);
        tpl_node **tail = &first->next;
        if (e)
            e->a = first;
        while (p->r->st == NB_OK && tpl_take_op(p, ',') && !tpl_is_op(p, '=') &&
               !tpl_is_name(p, "in")) {
            tpl_node *next = parse_one_target(p);
            if (next) {
                *tail = next;
                tail = &next->next;
            }
        }
    }
    if (e && !is_target(e))
        TPL_BAD(p->r, "this cannot be assigned to");
    return e;
}

static tpl_node *parse_if(tpl_parser *p)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    static const char *const last[] = {"endif", NULL};
    tpl_node *first = NULL, **place = &first;
    do { /* "if" or "elif" was taken */
        tpl_node *e = tpl_node_new(p, TPL_IF);
        if (!e)
            return NULL;
        *place = e;
        place = &e->c;
        e->a = tpl_parse_tuple(p, true);
        expect_end(p);
        e->b = parse_body(p, ends);
    } while (p->r->st == NB_OK && tpl_take_name(p, "elif"));
    if (tpl_take_name(p, "else")) {
        expect_end(p);
        *place = parse_body(p, last);
    }
    tpl_take_name(p, "endif");
    expect_end(p);
    return first;
}

static tpl_node *parse_for(tpl_parser *p)
{
    static const char *const ends[] = {"else", "endfor", NULL}, *const last[] = {"endfor", NULL};
    tpl_node *e = tpl_node_new(p, TPL_FOR);
    if (!e)
        return NULL;
    e->a = parse_target(p);
    if (!tpl_take_name(p, "in"))
        tpl_unexpected(p, "in");
    e->b = tpl_parse_tuple(p, false);
    if (tpl_take_name(p, "if"))
        e->d = tpl_parse_expr(p);
    if (tpl_is_name(p, "recursive"))
        tpl_fail(p->r, NB_UNSUPPORTED, "recursive loops are not supported");
    expect_end(p);
    p->loops++;
    e->c = parse_body(p, ends);
    p->loops--;
    if (tpl_take_name(p, "else")) {
        expect_end(p);
        e->e = parse_body(p, last);
    }
    tpl_take_name(p, "endfor");
    expect_end(p);
    return e;
}

static tpl_node *parse_set(tpl_parser *p)
{
    tpl_node *e = tpl_node_new(p, TPL_SET);
    if (!e)
        return NULL;
    e->a = parse_target(p);
    if (tpl_take_op(p, '=')) {
        e->b = tpl_parse_tuple(p, true);
        expect_end(p);
        return e;
    }
    e->kind = TPL_SET_BLOCK;
    e->c = tpl_parse_filters(p, NULL);
    e->b = parse_until(p, "endset");
    return e;
}

static tpl_node *parse_params(tpl_parser *p) /* behind "(" */
{
    tpl_node *list = NULL, **tail = &list;
    while (p->r->st == NB_OK && !tpl_take_op(p, ')')) {
        tpl_node *e = tpl_node_new(p, TPL_PARAM);
        tpl_name *name = tpl_take_identifier(p);
        tpl_node *otherwise = tpl_take_op(p, '=') ? tpl_parse_expr(p) : NULL;
        if (!tpl_is_op(p, ')'))
            tpl_expect_op(p, ',');
        if (!e)
            break;
        e->name = name;
        e->a = otherwise;
        *tail = e;
        tail = &e->next;
    }
    return list;
}

static tpl_node *parse_macro(tpl_parser *p)
{
    tpl_node *e = tpl_node_new(p, TPL_DEF_MACRO);
    if (!e)
        return NULL;
    const int loops = p->loops;
    e->name = tpl_take_identifier(p);
    if (tpl_expect_op(p, '('))
        e->a = parse_params(p);
    p->loops = 0; /* break inside a macro does not leave the loop around it */
    e->b = parse_until(p, "endmacro");
    p->loops = loops;
    return e;
}

static tpl_node *parse_call_block(tpl_parser *p)
{
    tpl_node *e = tpl_node_new(p, TPL_CALL_BLOCK), *body = tpl_node_new(p, TPL_DEF_MACRO);
    if (!e || !body)
        return NULL;
    const int loops = p->loops;
    body->name = tpl_intern(p->r, "caller", 6);
    if (tpl_take_op(p, '('))
        body->a = parse_params(p);
    e->a = tpl_parse_expr(p);
    e->b = body;
    if (e->a && e->a->kind != TPL_CALL)
        tpl_unexpected(p, "a call");
    p->loops = 0;
    body->b = parse_until(p, "endcall");
    p->loops = loops;
    return e;
}

static tpl_node *parse_filter_block(tpl_parser *p)
{
    tpl_node *e = tpl_node_new(p, TPL_FILTER_BLOCK);
    if (!e)
        return NULL;
    e->a = tpl_parse_filters(p, tpl_parse_filter(p, NULL));
    e->b = parse_until(p, "endfilter");
    return e;
}

static tpl_node *parse_with(tpl_parser *p)
{
    tpl_node *e = tpl_node_new(p, TPL_WITH);
    if (!e)
        return NULL;
    tpl_node **tail = &e->a;
    while (p->r->st == NB_OK && p->now.kind != TPL_T_BLOCK_END) {
        tpl_node *s = tpl_node_new(p, TPL_SET);
        if (!s)
            break;
        s->a = parse_one_target(p);
        if (s->a && !is_target(s->a))
            TPL_BAD(p->r, "this cannot be assigned to");
        tpl_expect_op(p, '=');
        s->b = tpl_parse_expr(p);
        if (p->now.kind != TPL_T_BLOCK_END)
            tpl_expect_op(p, ',');
        *tail = s;
        tail = &s->next;
    }
    e->b = parse_until(p, "endwith");
    return e;
}

static tpl_node *parse_generation(tpl_parser *p)
{
    tpl_node *e = tpl_node_new(p, TPL_GENERATION);
    tpl_node *body = parse_until(p, "endgeneration");
    if (e)
        e->b = body;
    return e;
}

static tpl_node *parse_jump(tpl_parser *p, tpl_kind kind)
{
    tpl_node *e = tpl_node_new(p, kind);
    if (p->loops == 0)
        TPL_BAD(p->r, "break and continue stand in loops only");
    expect_end(p);
    return e;
}

static tpl_node *parse_break(tpl_parser *p)
{
    return parse_jump(p, TPL_BREAK);
}

static tpl_node *parse_continue(tpl_parser *p)
{
    return parse_jump(p, TPL_CONTINUE);
}

static const struct {
    const char *name;
    tpl_node *(*parse)(tpl_parser *p);
} statements[] = {{"if", parse_if},           {"for", parse_for},
                  {"set", parse_set},         {"macro", parse_macro},
                  {"call", parse_call_block}, {"filter", parse_filter_block},
                  {"with", parse_with},       {"generation", parse_generation},
                  {"break", parse_break},     {"continue", parse_continue}};

static tpl_node *parse_statement(tpl_parser *p)
{
    static const char *const other_files[] = {"include", "import", "from", "extends", "block"};
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
        if (tpl_take_name(p, statements[i].name))
            return statements[i].parse(p);
    for (size_t i = 0; i < sizeof other_files / sizeof *other_files; i++)
        if (tpl_is_name(p, other_files[i]))
            tpl_fail(p->r, NB_UNSUPPORTED, "%s is not supported: a chat template is one file",
                     other_files[i]);
    tpl_unexpected(p, "a statement");
    return NULL;
}

/* What the token begins; NULL for text of no bytes. */
static tpl_node *parse_piece(tpl_parser *p)
{
    tpl_node *e = NULL;
    if (p->now.kind == TPL_T_DATA) {
        e = tpl_node_new(p, TPL_TEXT);
        if (e)
            e->v = p->now.v;
        tpl_advance(p);
    } else if (p->now.kind == TPL_T_PRINT) {
        e = tpl_node_new(p, TPL_PRINT);
        tpl_advance(p);
        tpl_node *what = tpl_parse_tuple(p, true);
        if (e)
            e->a = what;
        if (p->now.kind == TPL_T_PRINT_END)
            tpl_advance(p);
        else
            tpl_unexpected(p, "}}");
    } else
        tpl_unexpected(p, "text or a tag");
    return e;
}

static tpl_node *parse_body(tpl_parser *p, const char *const *ends)
{
    tpl_node *list = NULL, **tail = &list;
    bool closed = false;
    if (tpl_parse_deeper(p))
        while (p->r->st == NB_OK && p->now.kind != TPL_T_END) {
            tpl_node *e = NULL;
            if (p->now.kind == TPL_T_BLOCK) {
                tpl_advance(p);
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
        TPL_BAD(p->r, "{%% %s %%} is missing at the end", ends[0]);
    return list;
}

tpl_node *tpl_parse(tpl_run *r)
{
    tpl_parser p = {.r = r, .line_start = true};
    tpl_advance(&p);
    return r->st == NB_OK ? parse_body(&p, NULL) : NULL;
}
