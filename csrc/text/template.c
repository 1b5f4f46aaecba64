/* template.c -- one render from end to end; its memory, its budgets, its sentence. */
#include "text/template_run.h"

#include <stdio.h>
#include <string.h>

enum { kChunk = 1 << 18, kNames = 1024, kFrames = 1000 };

nb_tpl_value nb_tpl_fail(nb_tpl_run *r, nb_status st, const char *fmt, ...)
{
    char text[400];
    size_t line = 1;
    if (r->st != NB_OK)
        return nb_tpl_none();
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    for (size_t i = 0; i < r->at && i < r->src_n; i++)
        line += r->src[i] == '\n';
    r->st = nb_fail(r->err, st, "chat template: %s, line %zu", text, line);
    return nb_tpl_none();
}

void *nb_tpl_alloc(nb_tpl_run *r, size_t n, size_t size)
{
    uint64_t bytes = 0;
    if (r->st != NB_OK)
        return NULL;
    if (!nb_mul_ok(n, size, &bytes) || bytes > NB_TEMPLATE_HEAP) {
        NB_TPL_BAD(r, "it needs more than %d MiB of memory", NB_TEMPLATE_HEAP >> 20);
        return NULL;
    }
    bytes = (bytes + 15) & ~(uint64_t)15;
    if ((size_t)(r->end - r->free) < bytes) {
        /* a large string is likely to grow: room behind it lets it grow in place */
        const size_t chunk = bytes + (bytes > kChunk ? bytes / 2 : kChunk);
        if (nb_arena_bytes(r->arena) + chunk > NB_TEMPLATE_HEAP) {
            NB_TPL_BAD(r, "it needs more than %d MiB of memory", NB_TEMPLATE_HEAP >> 20);
            return NULL;
        }
        nb_error err = {0};
        char *p = nb_arena_alloc(r->arena, chunk, 1, &err);
        if (!p) {
            nb_tpl_fail(r, NB_NO_ROOM, "%s", err.message);
            return NULL;
        }
        r->free = p;
        r->end = p + chunk;
    }
    void *p = r->free;
    r->free += bytes;
    r->tail = NULL;
    return p;
}

bool nb_tpl_step(nb_tpl_run *r, size_t cost)
{
    if (r->st != NB_OK)
        return false;
    r->steps += cost < NB_TEMPLATE_STEPS ? (int64_t)cost : NB_TEMPLATE_STEPS;
    if (r->steps <= NB_TEMPLATE_STEPS)
        return true;
    NB_TPL_BAD(r, "it takes more than %d steps", NB_TEMPLATE_STEPS);
    return false;
}

bool nb_tpl_enter(nb_tpl_run *r)
{
    if (r->depth >= kFrames)
        NB_TPL_BAD(r, "it is nested deeper than %d levels", kFrames);
    if (r->st != NB_OK)
        return false;
    r->depth++;
    return true;
}

void nb_tpl_leave(nb_tpl_run *r)
{
    r->depth--;
}

static uint32_t name_place(const char *s, size_t n)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)s[i]) * 16777619u;
    return h % kNames;
}

nb_tpl_name *nb_tpl_known(const nb_tpl_run *r, const char *s, size_t n)
{
    for (nb_tpl_name *v = r->name[name_place(s, n)]; v; v = v->next)
        if (v->n == n && memcmp(v->s, s, n) == 0)
            return v;
    return NULL;
}

nb_tpl_name *nb_tpl_intern(nb_tpl_run *r, const char *s, size_t n)
{
    nb_tpl_name *v = nb_tpl_known(r, s, n);
    if (v)
        return v;
    v = nb_tpl_alloc(r, 1, sizeof *v);
    if (!v)
        return NULL;
    nb_tpl_name **head = &r->name[name_place(s, n)];
    *v = (nb_tpl_name){.next = *head, .s = s, .n = (uint32_t)n};
    v->global = nb_tpl_undefined(v);
    *head = v;
    return v;
}

bool nb_tpl_put(nb_tpl_run *r, nb_tpl_sink *k, const char *p, size_t n)
{
    if (!nb_tpl_step(r, n / 1024))
        return false;
    if (k->out) {
        if (n > (size_t)NB_TEMPLATE_OUTPUT - k->n) {
            NB_TPL_BAD(r, "it writes more than %d MiB", NB_TEMPLATE_OUTPUT >> 20);
            return false;
        }
        nb_error err = {0};
        const nb_status st = nb_buf_add(k->out, p, n, &err);
        if (st != NB_OK)
            nb_tpl_fail(r, st, "%s", err.message);
        k->n += n;
        return st == NB_OK;
    }
    if (n > k->cap - k->n) {
        const size_t cap = 2 * (k->n + n) > 64 ? 2 * (k->n + n) : 64;
        char *q = nb_tpl_alloc(r, cap, 1);
        if (!q)
            return false;
        if (k->n)
            memcpy(q, k->p, k->n);
        k->p = q;
        k->cap = cap;
    }
    if (n)
        memcpy(k->p + k->n, p, n);
    k->n += n;
    return true;
}

bool nb_tpl_puts(nb_tpl_run *r, nb_tpl_sink *k, const char *s)
{
    return nb_tpl_put(r, k, s, strlen(s));
}

nb_tpl_value nb_tpl_sunk(const nb_tpl_sink *k)
{
    return nb_tpl_string(k->p ? k->p : "", k->n);
}

/* The source with '\n' for every kind of line end and without the last one, as Jinja reads it. */
static void take_source(nb_tpl_run *r, const char *src, size_t n)
{
    char *p = nb_tpl_alloc(r, n + 1, 1);
    size_t o = 0;
    if (!p)
        return;
    for (size_t i = 0; i < n; i++) {
        if (src[i] == '\r' && i + 1 < n && src[i + 1] == '\n')
            continue;
        p[o++] = src[i] == '\r' ? '\n' : src[i];
    }
    r->src = p;
    r->src_n = o && p[o - 1] == '\n' ? o - 1 : o;
}

static void define(nb_tpl_run *r, const char *name, nb_tpl_value v)
{
    nb_tpl_name *known = nb_tpl_intern(r, name, strlen(name));
    if (known)
        known->global = v;
}

/* The conversation's members become variables; names the template does not use are left alone. */
static void define_conversation(nb_tpl_run *r, const nb_json_node *conversation)
{
    nb_tpl_define_functions(r);
    define(r, "bos_token", nb_tpl_string(r->env->bos_token, r->env->bos_token_n));
    define(r, "eos_token", nb_tpl_string(r->env->eos_token, r->env->eos_token_n));
    define(r, "tools", nb_tpl_none());
    define(r, "documents", nb_tpl_none());
    define(r, "add_generation_prompt", nb_tpl_bool(false));
    for (const nb_json_node *v = nb_json_first(conversation); v; v = nb_json_next(v)) {
        size_t n = 0;
        const char *key = nb_json_key(v, &n);
        nb_tpl_name *name = nb_tpl_known(r, key, n);
        if (!nb_tpl_step(r, 1))
            return;
        if (name)
            name->global = nb_tpl_from_json(r, v, 0);
    }
}

static void render(nb_tpl_run *r, const char *src, size_t n, const nb_json_node *conversation)
{
    r->name = nb_tpl_alloc(r, kNames, sizeof *r->name);
    if (!r->name)
        return;
    memset(r->name, 0, kNames * sizeof *r->name);
    take_source(r, src, n);
    const nb_tpl_node *tree = r->st == NB_OK ? nb_tpl_parse(r) : NULL;
    r->at = 0;
    if (r->st == NB_OK && nb_tpl_guard_open(r))
        define_conversation(r, conversation);
    r->scope = nb_tpl_alloc(r, 1, sizeof *r->scope);
    if (!r->scope)
        return;
    *r->scope = (nb_tpl_scope){0};
    nb_tpl_exec(r, tree);
}

nb_status nb_template_render(const char *src, size_t n, const nb_json_node *conversation,
                             const nb_template_env *env, nb_buf *out, nb_error *err)
{
    nb_tpl_sink sink = {.out = out};
    nb_tpl_run r = {.env = env, .err = err, .sink = &sink};
    if (n > NB_TEMPLATE_SOURCE)
        return nb_fail(err, NB_BAD_INPUT, "chat template: it has %zu bytes, at most %d are allowed",
                       n, NB_TEMPLATE_SOURCE);
    if (!conversation || nb_json_typeof(conversation) != NB_JSON_OBJECT)
        return nb_fail(err, NB_BAD_INPUT,
                       "a conversation is a JSON object like {\"messages\":[...]}");
    r.arena = nb_arena_open("a chat template", err);
    if (!r.arena)
        return NB_NO_ROOM;
    render(&r, src, n, conversation);
    nb_arena_close(r.arena);
    return r.st == NB_OK ? nb_buf_add(out, "", 0, err) : r.st;
}
