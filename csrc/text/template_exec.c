/* template_exec.c -- statements: loops, conditions, assignments, macros, captured text.
 *
 * Scopes as in Jinja 3: a turn of a loop, a macro, a captured block and `with` have their own; `if`
 * has none. What is set in a scope is gone behind it, but for attributes of a namespace. */
#include "text/template_run.h"

#include <string.h>

struct nb_tpl_var {
    struct nb_tpl_var *next;
    nb_tpl_name *name;
    nb_tpl_value v;
};

enum flow { kOn, kBreak, kContinue };
static enum flow exec(nb_tpl_run *r, const nb_tpl_node *list);

/* ---- names ---- */

nb_tpl_value nb_tpl_lookup(nb_tpl_run *r, nb_tpl_name *name)
{
    size_t seen = 0;
    for (const nb_tpl_scope *s = r->scope; s && s->up; s = s->up)
        for (const struct nb_tpl_var *v = s->var; v; v = v->next) {
            if (v->name == name)
                return v->v;
            if (++seen % 32 == 0 && !nb_tpl_step(r, 1))
                return nb_tpl_none();
        }
    return name->global;
}

void nb_tpl_declare(nb_tpl_run *r, nb_tpl_scope *s, nb_tpl_name *name, nb_tpl_value v)
{
    struct nb_tpl_var *var = NULL;
    if (!s->up) {
        name->global = v;
        return;
    }
    size_t seen = 0;
    for (var = s->var; var && var->name != name; var = var->next)
        if (++seen % 32 == 0 && !nb_tpl_step(r, 1))
            return;
    if (!var) {
        var = r->spare ? r->spare : nb_tpl_alloc(r, 1, sizeof *var);
        if (!var)
            return;
        r->spare = r->spare ? r->spare->next : NULL;
        *var = (struct nb_tpl_var){.next = s->var, .name = name};
        s->var = var;
    }
    var->v = v;
}

static void declare_text(nb_tpl_run *r, nb_tpl_scope *s, const char *name, nb_tpl_value v)
{
    nb_tpl_name *known = nb_tpl_intern(r, name, strlen(name));
    if (known)
        nb_tpl_declare(r, s, known, v);
}

/* Scopes are kept in the arena: a macro may hold on to the one it was made in. */
static nb_tpl_scope *open_scope(nb_tpl_run *r, nb_tpl_scope *up)
{
    nb_tpl_scope *s = nb_tpl_alloc(r, 1, sizeof *s);
    if (s)
        *s = (nb_tpl_scope){.up = up};
    return s;
}

/* The scope for the next turn of a loop: the last one emptied, unless a macro may hold on to it. */
static nb_tpl_scope *next_scope(nb_tpl_run *r, nb_tpl_scope *last, nb_tpl_scope *up,
                                uint32_t n_macro)
{
    if (!last || r->n_macro != n_macro)
        return open_scope(r, up);
    for (struct nb_tpl_var *v = last->var, *next = NULL; v; v = next) {
        next = v->next;
        v->next = r->spare;
        r->spare = v;
    }
    last->var = NULL;
    return last;
}

static void assign(nb_tpl_run *r, const nb_tpl_node *target, nb_tpl_value v)
{
    if (r->st != NB_OK)
        return;
    r->at = target->at;
    if (target->kind == NB_TPL_VAR) {
        nb_tpl_declare(r, r->scope, target->name, v);
    } else if (target->kind == NB_TPL_ATTR) {
        const nb_tpl_value space = nb_tpl_eval(r, target->a);
        if (space.type != NB_TPL_NAMESPACE)
            NB_TPL_BAD(r, "only a namespace has attributes that can be set, not %s",
                       nb_tpl_type_name(space));
        else
            nb_tpl_dict_set(r, space.u.dict, nb_tpl_string(target->name->s, target->name->n), v);
    } else {
        const nb_tpl_list *parts = nb_tpl_iterate(r, v);
        uint32_t n = 0;
        for (const nb_tpl_node *t = target->a; t; t = t->next)
            n++;
        if (r->st == NB_OK && n != parts->n)
            NB_TPL_BAD(r, "%u values for %u names", (unsigned)parts->n, (unsigned)n);
        n = 0;
        for (const nb_tpl_node *t = target->a; t && r->st == NB_OK; t = t->next)
            assign(r, t, parts->at[n++]);
    }
}

/* ---- captured text ---- */

/* The text that the body writes, in a scope of its own under `up`. */
static nb_tpl_value capture(nb_tpl_run *r, const nb_tpl_node *body, nb_tpl_scope *scope,
                            enum flow *flow)
{
    nb_tpl_sink text = {0}, *before = r->sink;
    nb_tpl_scope *outer = r->scope;
    if (!scope)
        return nb_tpl_none();
    r->sink = &text;
    r->scope = scope;
    *flow = exec(r, body);
    r->sink = before;
    r->scope = outer;
    return nb_tpl_sunk(&text);
}

static nb_tpl_value through_filters(nb_tpl_run *r, const nb_tpl_node *filters, nb_tpl_value text)
{
    const nb_tpl_value before = r->captured;
    r->captured = text;
    const nb_tpl_value v = filters && r->st == NB_OK ? nb_tpl_eval(r, filters) : text;
    r->captured = before;
    return v;
}

/* ---- macros ---- */

static const nb_tpl_value *given_as(const nb_tpl_args *a, uint32_t place, const nb_tpl_name *name)
{
    if (place < a->n)
        return &a->at[place];
    for (uint32_t i = 0; i < a->n_key; i++)
        if (a->key[i] == name)
            return &a->by_key[i];
    return NULL;
}

static void bind(nb_tpl_run *r, nb_tpl_scope *s, const nb_tpl_node *params, const nb_tpl_args *a)
{
    uint32_t place = 0;
    nb_tpl_scope *outer = r->scope;
    r->scope = s; /* a default may name a parameter before it */
    for (const nb_tpl_node *p = params; p && r->st == NB_OK; p = p->next, place++) {
        const nb_tpl_value *given = given_as(a, place, p->name);
        nb_tpl_value v = given ? *given : nb_tpl_undefined(p->name);
        if (!given && p->a)
            v = nb_tpl_eval(r, p->a);
        nb_tpl_declare(r, s, p->name, v);
    }
    nb_tpl_value rest = nb_tpl_list_new(r, NB_TPL_TUPLE, 0);
    for (; place < a->n && r->st == NB_OK; place++)
        nb_tpl_list_add(r, rest.u.list, a->at[place]);
    declare_text(r, s, "varargs", rest);
    r->scope = outer;
}

static void bind_names(nb_tpl_run *r, nb_tpl_scope *s, const nb_tpl_node *params,
                       const nb_tpl_args *a)
{
    nb_tpl_value rest = nb_tpl_dict_new(r, NB_TPL_DICT);
    for (uint32_t i = 0; i < a->n_key && r->st == NB_OK; i++) {
        const nb_tpl_node *p = params;
        while (p && p->name != a->key[i])
            p = p->next;
        if (p)
            continue;
        const nb_tpl_value name = nb_tpl_string(a->key[i]->s, a->key[i]->n);
        if (a->key[i]->n == 6 && memcmp(a->key[i]->s, "caller", 6) == 0)
            declare_text(r, s, "caller", a->by_key[i]);
        else
            nb_tpl_dict_set(r, rest.u.dict, name, a->by_key[i]);
    }
    declare_text(r, s, "kwargs", rest);
}

nb_tpl_value nb_tpl_call_macro(nb_tpl_run *r, const struct nb_tpl_macro *m, const nb_tpl_args *a)
{
    enum flow flow = kOn;
    if (r->macro_depth >= NB_TEMPLATE_DEPTH)
        return NB_TPL_BAD(r, "macros call each other deeper than %d levels", NB_TEMPLATE_DEPTH);
    nb_tpl_scope *s = open_scope(r, m->scope);
    if (!s)
        return nb_tpl_none();
    bind(r, s, m->node->a, a);
    if (r->st == NB_OK)
        bind_names(r, s, m->node->a, a);
    if (r->st != NB_OK)
        return nb_tpl_none();
    r->macro_depth++;
    const nb_tpl_value text = capture(r, m->node->b, s, &flow);
    r->macro_depth--;
    return text;
}

static nb_tpl_value make_macro(nb_tpl_run *r, const nb_tpl_node *node)
{
    struct nb_tpl_macro *m = nb_tpl_alloc(r, 1, sizeof *m);
    if (!m)
        return nb_tpl_none();
    *m = (struct nb_tpl_macro){node, r->scope};
    r->n_macro++;
    return (nb_tpl_value){.type = NB_TPL_MACRO, .u.macro = m};
}

/* {% call(params) f(args) %}: f gets the body as caller. */
static void call_block(nb_tpl_run *r, const nb_tpl_node *e)
{
    const nb_tpl_value v = nb_tpl_call_with(r, e->a, e->b->name, make_macro(r, e->b));
    if (r->st == NB_OK)
        nb_tpl_put_value(r, r->sink, v);
}

/* ---- loops ---- */

/* The items for which the condition behind `if` holds. */
static nb_tpl_list *chosen(nb_tpl_run *r, const nb_tpl_node *e, const nb_tpl_list *items,
                           nb_tpl_scope *outer)
{
    nb_tpl_value list = nb_tpl_list_new(r, NB_TPL_LIST, 0);
    nb_tpl_scope *own = NULL;
    const uint32_t n_macro = r->n_macro;
    for (uint32_t i = 0; i < items->n && nb_tpl_step(r, 1); i++) {
        const nb_tpl_value v = items->at[i];
        own = next_scope(r, own, outer, n_macro);
        if (!own)
            break;
        r->scope = own;
        assign(r, e->a, v);
        if (r->st == NB_OK && nb_tpl_truth(nb_tpl_eval(r, e->d)))
            nb_tpl_list_add(r, list.u.list, v);
    }
    r->scope = outer;
    return r->st == NB_OK ? list.u.list : NULL;
}

static void loop(nb_tpl_run *r, const nb_tpl_node *e)
{
    nb_tpl_scope *outer = r->scope;
    nb_tpl_name *name = nb_tpl_intern(r, "loop", 4);
    struct nb_tpl_loop *l = nb_tpl_alloc(r, 1, sizeof *l);
    const nb_tpl_value over = nb_tpl_eval(r, e->b);
    uint32_t before = r->n_macro; /* macros made before the last turn */
    if (r->st != NB_OK)
        return;
    r->at = e->at;
    const nb_tpl_list *items = nb_tpl_iterate(r, over);
    /* a body that appends does not go on forever */
    nb_tpl_list *own = nb_tpl_alloc(r, 1, sizeof *own);
    if (r->st != NB_OK)
        return;
    *own = *items;
    if (e->d) {
        own = chosen(r, e, items, outer);
        if (!own)
            return;
    }
    *l = (struct nb_tpl_loop){.items = own, .changed = nb_tpl_undefined(NULL)};
    nb_tpl_scope *scope = NULL;
    for (enum flow flow = kOn; l->at < own->n && flow != kBreak && nb_tpl_step(r, 1); l->at++) {
        const uint32_t n_macro = r->n_macro;
        scope = next_scope(r, scope, outer, before);
        before = n_macro;
        if (!scope)
            break;
        r->scope = scope;
        nb_tpl_declare(r, scope, name, (nb_tpl_value){.type = NB_TPL_LOOP, .u.loop = l});
        assign(r, e->a, own->at[l->at]);
        flow = exec(r, e->c);
    }
    r->scope = outer;
    if (own->n == 0)
        exec(r, e->e); /* break and continue in it belong to an outer loop: Jinja refuses them */
}

/* ---- statements ---- */

static enum flow in_scope(nb_tpl_run *r, const nb_tpl_node *e) /* with, generation */
{
    nb_tpl_scope *outer = r->scope, *s = open_scope(r, outer);
    enum flow flow = kOn;
    for (const nb_tpl_node *v = e->a; v && s && r->st == NB_OK; v = v->next) {
        /* the names of one `with` do not see each other */
        const nb_tpl_value x = nb_tpl_eval(r, v->b);
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

static enum flow conditions(nb_tpl_run *r, const nb_tpl_node *e)
{
    while (e && e->kind == NB_TPL_IF && r->st == NB_OK) {
        if (nb_tpl_truth(nb_tpl_eval(r, e->a)))
            return exec(r, e->b);
        if (!e->c || e->c->kind != NB_TPL_IF || e->c->next)
            return exec(r, e->c);
        e = e->c; /* elif */
        if (!nb_tpl_step(r, 1))
            break;
    }
    return kOn;
}

static enum flow statement(nb_tpl_run *r, const nb_tpl_node *e)
{
    enum flow flow = kOn;
    nb_tpl_value v;
    switch (e->kind) {
    case NB_TPL_TEXT:
        nb_tpl_put(r, r->sink, e->v.u.s, e->v.n);
        break;
    case NB_TPL_PRINT:
        v = nb_tpl_eval(r, e->a);
        if (r->st == NB_OK)
            nb_tpl_put_value(r, r->sink, v);
        break;
    case NB_TPL_IF:
        return conditions(r, e);
    case NB_TPL_FOR:
        loop(r, e);
        break;
    case NB_TPL_SET:
        assign(r, e->a, nb_tpl_eval(r, e->b));
        break;
    case NB_TPL_SET_BLOCK:
        v = capture(r, e->b, open_scope(r, r->scope), &flow);
        assign(r, e->a, through_filters(r, e->c, v));
        break;
    case NB_TPL_DEF_MACRO:
        nb_tpl_declare(r, r->scope, e->name, make_macro(r, e));
        break;
    case NB_TPL_CALL_BLOCK:
        call_block(r, e);
        break;
    case NB_TPL_FILTER_BLOCK:
        v = through_filters(r, e->a, capture(r, e->b, open_scope(r, r->scope), &flow));
        if (r->st == NB_OK)
            nb_tpl_put_value(r, r->sink, v);
        break;
    case NB_TPL_WITH:
    case NB_TPL_GENERATION:
        return in_scope(r, e);
    case NB_TPL_BREAK:
        return kBreak;
    case NB_TPL_CONTINUE:
        return kContinue;
    default:
        nb_tpl_fail(r, NB_INTERNAL, "an expression where a statement should be");
    }
    return flow;
}

static enum flow exec(nb_tpl_run *r, const nb_tpl_node *list)
{
    enum flow flow = kOn;
    if (!list || !nb_tpl_enter(r))
        return flow;
    for (const nb_tpl_node *e = list; e && flow == kOn && nb_tpl_step(r, 1); e = e->next) {
        r->at = e->at;
        flow = statement(r, e);
    }
    nb_tpl_leave(r);
    return flow;
}

void nb_tpl_exec(nb_tpl_run *r, const nb_tpl_node *list)
{
    exec(r, list);
}
