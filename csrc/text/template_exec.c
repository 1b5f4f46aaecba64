/* template_exec.c -- statements: loops, conditions, assignments, macros, captured text.
 *
 * Scopes as in Jinja 3: a turn of a loop, a macro, a captured block and `with` have their own; `if`
 * has none. What is set in a scope is gone behind it, but for attributes of a namespace. */
#include "text/template_run.h"

#include <string.h>

struct tpl_var {
    struct tpl_var *next;
    tpl_name *name;
    tpl_value v;
};

enum flow { kOn, kBreak, kContinue };
static enum flow exec(tpl_run *r, const tpl_node *list);

/* ---- names ---- */

tpl_value tpl_lookup(tpl_run *r, tpl_name *name)
{
    size_t seen = 0;
    for (const tpl_scope *s = r->scope; s && s->up; s = s->up)
        for (const struct tpl_var *v = s->var; v; v = v->next) {
            if (v->name == name)
                return v->v;
            if (++seen % 32 == 0 && !tpl_step(r, 1))
                return tpl_none();
        }
    return name->global;
}

void tpl_declare(tpl_run *r, tpl_scope *s, tpl_name *name, tpl_value v)
{
    struct tpl_var *var = NULL;
    if (!s->up) {
        name->global = v;
        return;
    }
    size_t seen = 0;
    for (var = s->var; var && var->name != name; var = var->next)
        if (++seen % 32 == 0 && !tpl_step(r, 1))
            return;
    if (!var) {
        var = r->spare ? r->spare : tpl_alloc(r, 1, sizeof *var);
        if (!var)
            return;
        r->spare = r->spare ? r->spare->next : NULL;
        *var = (struct tpl_var){.next = s->var, .name = name};
        s->var = var;
    }
    var->v = v;
}

static void declare_text(tpl_run *r, tpl_scope *s, const char *name, tpl_value v)
{
    tpl_name *known = tpl_intern(r, name, strlen(name));
    if (known)
        tpl_declare(r, s, known, v);
}

/* Scopes are kept in the arena: a macro may hold on to the one it was made in. */
static tpl_scope *open_scope(tpl_run *r, tpl_scope *up)
{
    tpl_scope *s = tpl_alloc(r, 1, sizeof *s);
    if (s)
        *s = (tpl_scope){.up = up};
    return s;
}

/* The scope for the next turn of a loop: the last one emptied, unless a macro may hold on to it. */
static tpl_scope *next_scope(tpl_run *r, tpl_scope *last, tpl_scope *up, uint32_t n_macro)
{
    if (!last || r->n_macro != n_macro)
        return open_scope(r, up);
    for (struct tpl_var *v = last->var, *next = NULL; v; v = next) {
        next = v->next;
        v->next = r->spare;
        r->spare = v;
    }
    last->var = NULL;
    return last;
}

static void assign(tpl_run *r, const tpl_node *target, tpl_value v)
{
    if (r->st != NB_OK)
        return;
    r->at = target->at;
    if (target->kind == TPL_VAR) {
        tpl_declare(r, r->scope, target->name, v);
    } else if (target->kind == TPL_ATTR) {
        const tpl_value space = tpl_eval(r, target->a);
        if (space.type != TPL_NAMESPACE)
            TPL_BAD(r, "only a namespace has attributes that can be set, not %s",
                    tpl_type_name(space));
        else
            tpl_dict_set(r, space.u.dict, tpl_string(target->name->s, target->name->n), v);
    } else {
        const tpl_list *parts = tpl_iterate(r, v);
        uint32_t n = 0;
        for (const tpl_node *t = target->a; t; t = t->next)
            n++;
        if (r->st == NB_OK && n != parts->n)
            TPL_BAD(r, "%u values for %u names", (unsigned)parts->n, (unsigned)n);
        n = 0;
        for (const tpl_node *t = target->a; t && r->st == NB_OK; t = t->next)
            assign(r, t, parts->at[n++]);
    }
}

/* ---- captured text ---- */

/* The text that the body writes, in a scope of its own under `up`. */
static tpl_value capture(tpl_run *r, const tpl_node *body, tpl_scope *scope, enum flow *flow)
{
    tpl_sink text = {0}, *before = r->sink;
    tpl_scope *outer = r->scope;
    if (!scope)
        return tpl_none();
    r->sink = &text;
    r->scope = scope;
    *flow = exec(r, body);
    r->sink = before;
    r->scope = outer;
    return tpl_sunk(&text);
}

static tpl_value through_filters(tpl_run *r, const tpl_node *filters, tpl_value text)
{
    const tpl_value before = r->captured;
    r->captured = text;
    const tpl_value v = filters && r->st == NB_OK ? tpl_eval(r, filters) : text;
    r->captured = before;
    return v;
}

/* ---- macros ---- */

static const tpl_value *given_as(const tpl_args *a, uint32_t place, const tpl_name *name)
{
    if (place < a->n)
        return &a->at[place];
    for (uint32_t i = 0; i < a->n_key; i++)
        if (a->key[i] == name)
            return &a->by_key[i];
    return NULL;
}

static void bind(tpl_run *r, tpl_scope *s, const tpl_node *params, const tpl_args *a)
{
    uint32_t place = 0;
    tpl_scope *outer = r->scope;
    r->scope = s; /* a default may name a parameter before it */
    for (const tpl_node *p = params; p && r->st == NB_OK; p = p->next, place++) {
        const tpl_value *given = given_as(a, place, p->name);
        tpl_value v = given ? *given : tpl_undefined(p->name);
        if (!given && p->a)
            v = tpl_eval(r, p->a);
        tpl_declare(r, s, p->name, v);
    }
    tpl_value rest = tpl_list_new(r, TPL_TUPLE, 0);
    for (; place < a->n && r->st == NB_OK; place++)
        tpl_list_add(r, rest.u.list, a->at[place]);
    declare_text(r, s, "varargs", rest);
    r->scope = outer;
}

static void bind_names(tpl_run *r, tpl_scope *s, const tpl_node *params, const tpl_args *a)
{
    tpl_value rest = tpl_dict_new(r, TPL_DICT);
    for (uint32_t i = 0; i < a->n_key && r->st == NB_OK; i++) {
        const tpl_node *p = params;
        while (p && p->name != a->key[i])
            p = p->next;
        if (p)
            continue;
        const tpl_value name = tpl_string(a->key[i]->s, a->key[i]->n);
        if (a->key[i]->n == 6 && memcmp(a->key[i]->s, "caller", 6) == 0)
            declare_text(r, s, "caller", a->by_key[i]);
        else
            tpl_dict_set(r, rest.u.dict, name, a->by_key[i]);
    }
    declare_text(r, s, "kwargs", rest);
}

tpl_value tpl_call_macro(tpl_run *r, const struct tpl_macro *m, const tpl_args *a)
{
    enum flow flow = kOn;
    if (r->macro_depth >= NB_TEMPLATE_DEPTH)
        return TPL_BAD(r, "macros call each other deeper than %d levels", NB_TEMPLATE_DEPTH);
    tpl_scope *s = open_scope(r, m->scope);
    if (!s)
        return tpl_none();
    bind(r, s, m->node->a, a);
    if (r->st == NB_OK)
        bind_names(r, s, m->node->a, a);
    if (r->st != NB_OK)
        return tpl_none();
    r->macro_depth++;
    const tpl_value text = capture(r, m->node->b, s, &flow);
    r->macro_depth--;
    return text;
}

static tpl_value make_macro(tpl_run *r, const tpl_node *node)
{
    struct tpl_macro *m = tpl_alloc(r, 1, sizeof *m);
    if (!m)
        return tpl_none();
    *m = (struct tpl_macro){node, r->scope};
    r->n_macro++;
    return (tpl_value){.type = TPL_MACRO, .u.macro = m};
}

/* {% call(params) f(args) %}: f gets the body as caller. */
static void call_block(tpl_run *r, const tpl_node *e)
{
    const tpl_value v = tpl_call_with(r, e->a, e->b->name, make_macro(r, e->b));
    if (r->st == NB_OK)
        tpl_put_value(r, r->sink, v);
}

/* ---- loops ---- */

/* The items for which the condition behind `if` holds. */
static tpl_list *chosen(tpl_run *r, const tpl_node *e, const tpl_list *items, tpl_scope *outer)
{
    tpl_value list = tpl_list_new(r, TPL_LIST, 0);
    tpl_scope *own = NULL;
    const uint32_t n_macro = r->n_macro;
    for (uint32_t i = 0; i < items->n && tpl_step(r, 1); i++) {
        const tpl_value v = items->at[i];
        own = next_scope(r, own, outer, n_macro);
        if (!own)
            break;
        r->scope = own;
        assign(r, e->a, v);
        if (r->st == NB_OK && tpl_truth(tpl_eval(r, e->d)))
            tpl_list_add(r, list.u.list, v);
    }
    r->scope = outer;
    return r->st == NB_OK ? list.u.list : NULL;
}

static void loop(tpl_run *r, const tpl_node *e)
{
    tpl_scope *outer = r->scope;
    tpl_name *name = tpl_intern(r, "loop", 4);
    struct tpl_loop *l = tpl_alloc(r, 1, sizeof *l);
    const tpl_value over = tpl_eval(r, e->b);
    uint32_t before = r->n_macro; /* macros made before the last turn */
    if (r->st != NB_OK)
        return;
    r->at = e->at;
    const tpl_list *items = tpl_iterate(r, over);
    tpl_list *own = tpl_alloc(r, 1, sizeof *own); /* a body that appends does not go on forever */
    if (r->st != NB_OK)
        return;
    *own = *items;
    if (e->d) {
        own = chosen(r, e, items, outer);
        if (!own)
            return;
    }
    *l = (struct tpl_loop){.items = own, .changed = tpl_undefined(NULL)};
    tpl_scope *scope = NULL;
    for (enum flow flow = kOn; l->at < own->n && flow != kBreak && tpl_step(r, 1); l->at++) {
        const uint32_t n_macro = r->n_macro;
        scope = next_scope(r, scope, outer, before);
        before = n_macro;
        if (!scope)
            break;
        r->scope = scope;
        tpl_declare(r, scope, name, (tpl_value){.type = TPL_LOOP, .u.loop = l});
        assign(r, e->a, own->at[l->at]);
        flow = exec(r, e->c);
    }
    r->scope = outer;
    if (own->n == 0)
        exec(r, e->e); /* break and continue in it belong to an outer loop: Jinja refuses them */
}

/* ---- statements ---- */

static enum flow in_scope(tpl_run *r, const tpl_node *e) /* with, generation */
{
    tpl_scope *outer = r->scope, *s = open_scope(r, outer);
    enum flow flow = kOn;
    for (const tpl_node *v = e->a; v && s && r->st == NB_OK; v = v->next) {
        const tpl_value x = tpl_eval(r, v->b); /* the names of one `with` do not see each other */
        r->scope = s;
        assign(r, v->a, x);
        r->scope = outer;
    }
    if (r->st == NB_OK) {
        r->scope = s;
        flow = exec(r, e->b);
        r->scope = outer;
    }
    return flow;
}

static enum flow conditions(tpl_run *r, const tpl_node *e)
{
    while (e && e->kind == TPL_IF && r->st == NB_OK) {
        if (tpl_truth(tpl_eval(r, e->a)))
            return exec(r, e->b);
        if (!e->c || e->c->kind != TPL_IF || e->c->next)
            return exec(r, e->c);
        e = e->c; /* elif */
        if (!tpl_step(r, 1))
            break;
    }
    return kOn;
}

static enum flow statement(tpl_run *r, const tpl_node *e)
{
    enum flow flow = kOn;
    tpl_value v;
    switch (e->kind) {
    case TPL_TEXT:
        tpl_put(r, r->sink, e->v.u.s, e->v.n);
        break;
    case TPL_PRINT:
        v = tpl_eval(r, e->a);
        if (r->st == NB_OK)
            tpl_put_value(r, r->sink, v);
        break;
    case TPL_IF:
        return conditions(r, e);
    case TPL_FOR:
        loop(r, e);
        break;
    case TPL_SET:
        assign(r, e->a, tpl_eval(r, e->b));
        break;
    case TPL_SET_BLOCK:
        v = capture(r, e->b, open_scope(r, r->scope), &flow);
        assign(r, e->a, through_filters(r, e->c, v));
        break;
    case TPL_DEF_MACRO:
        tpl_declare(r, r->scope, e->name, make_macro(r, e));
        break;
    case TPL_CALL_BLOCK:
        call_block(r, e);
        break;
    case TPL_FILTER_BLOCK:
        v = through_filters(r, e->a, capture(r, e->b, open_scope(r, r->scope), &flow));
        if (r->st == NB_OK)
            tpl_put_value(r, r->sink, v);
        break;
    case TPL_WITH:
    case TPL_GENERATION:
        return in_scope(r, e);
    case TPL_BREAK:
        return kBreak;
    case TPL_CONTINUE:
        return kContinue;
    default:
        tpl_fail(r, NB_INTERNAL, "an expression where a statement should be");
    }
    return flow;
}

static enum flow exec(tpl_run *r, const tpl_node *list)
{
    enum flow flow = kOn;
    if (!list || !tpl_enter(r))
        return flow;
    for (const tpl_node *e = list; e && flow == kOn && tpl_step(r, 1); e = e->next) {
        r->at = e->at;
        flow = statement(r, e);
    }
    tpl_leave(r);
    return flow;
}

void tpl_exec(tpl_run *r, const tpl_node *list)
{
    exec(r, list);
}
