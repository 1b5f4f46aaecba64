/* folder_plan.c -- see folder_plan.h. */
#include "convert/folder_plan.h"
#include "convert/config_out.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A plan in the making. */
typedef struct maker {
    const nb_model *m;
    const nb_folder_choice *choice;
    nb_folder_plan *p;
    bool packs[NB_GROUP_COUNT];
    nb_slot *owner;  /* [n_tensor] of a folder: the first slot that the tensor holds; */
    bool *owned;     /* whether there is one */
    int64_t *became; /* [n_tensor] its entry, -1: none */
} maker;

static bool is_layer_role(int role)
{
    return role >= NB_ROLE_ATTN_NORM;
}

static int64_t *place_of(const nb_folder_plan *p, nb_slot at)
{
    const int layer = is_layer_role((int)at.role) ? at.layer + 1 : 0;
    return &p->of[((int64_t)layer * NB_ROLE_COUNT + (int)at.role) * p->n_slot + at.expert];
}

int64_t nb_folder_plan_find(const nb_folder_plan *p, nb_slot at)
{
    return *place_of(p, at);
}

void nb_folder_plan_close(nb_folder_plan *p)
{
    nb_arena_close(p->names);
    free(p->entry);
    free(p->module);
    free(p->of);
    *p = (nb_folder_plan){0};
}

/* ---- what is packed ---- */

nb_status nb_folder_packs(const nb_model *m, const nb_scheme_spec *s, nb_group_id g, nb_error *err)
{
    nb_role role[3];
    char name[NB_TENSOR_NAME];
    const nb_family *f = nb_config_family(m);
    nb_status st = NB_OK;
    for (int i = nb_group_roles(g, role) - 1; i >= 0 && st == NB_OK; i--) {
        const nb_slot at = {.role = role[i]};
        const nb_place p = nb_family_slice(f, &m->hp, NB_CONTAINER_HF, at);
        st = nb_family_name(f, NB_CONTAINER_HF, at, name)
                 ? s->scheme->check(s, name, p.all_rows, p.K, err)
                 : NB_OK;
    }
    return st;
}

/* The group of a linear, or NB_GROUP_COUNT. */
static nb_group_id group_of(nb_role role)
{
    nb_role of[3];
    for (int g = 0; g < NB_GROUP_COUNT; g++)
        for (int i = nb_group_roles((nb_group_id)g, of) - 1; i >= 0; i--)
            if (of[i] == role)
                return (nb_group_id)g;
    return NB_GROUP_COUNT;
}

static bool is_packed(const maker *k, nb_slot at)
{
    const nb_group_id g = group_of(at.role);
    if (!k->choice->scheme || g == NB_GROUP_COUNT || !k->packs[g])
        return false;
    return k->choice->packs ? k->choice->packs(k->choice->arg, at)
                            : at.layer >= k->choice->layer_from && at.layer < k->choice->layer_to;
}

/* ---- entries ---- */

static const char *keep_name(maker *k, const char *name, size_t n, nb_error *err)
{
    return nb_arena_strdup(k->p->names, name, n, err);
}

/* The tensors of the module whose plain tensor is called `name`; *first: its first entry. */
static nb_status add_module(maker *k, const char *name, nb_slot at, const nb_tensor *src,
                            int64_t *first, nb_error *err)
{
    nb_folder_plan *p = k->p;
    nb_scheme_tensor part[NB_SCHEME_TENSORS];
    char full[NB_TENSOR_NAME + 96];
    const nb_place place = nb_family_slice(nb_config_family(k->m), &k->m->hp, NB_CONTAINER_HF, at);
    const char *dot = strrchr(name, '.');
    nb_folder_module *module = &p->module[p->n_module];
    *module = (nb_folder_module){
        .name = keep_name(k, name, dot ? (size_t)(dot - name) : strlen(name), err),
        .N = place.all_rows,
        .K = place.K};
    if (!module->name)
        return NB_NO_ROOM;
    *first = p->n;
    const int n_part = p->scheme->scheme->tensors(p->scheme, module->N, module->K, part);
    for (int i = 0; i < NB_SCHEME_TENSORS; i++)
        module->entry[i] = -1;
    for (int i = 0; i < n_part; i++) {
        if (!part[i].written)
            continue;
        const int n = snprintf(full, sizeof full, "%s.%s", module->name, part[i].suffix);
        nb_folder_entry *e = &p->entry[p->n];
        *e = (nb_folder_entry){
            .name = keep_name(k, full, (size_t)n, err),
            .type = part[i].dtype,
            .n_dim = part[i].n_dim,
            .shape = {part[i].shape[0], part[i].n_dim > 1 ? part[i].shape[1] : 1, 1, 1, 1, 1, 1, 1},
            .src = src,
            .is_slot = true,
            .module = p->n_module};
        if (!e->name)
            return NB_NO_ROOM;
        module->entry[i] = p->n++;
    }
    p->n_module++;
    return NB_OK;
}

static nb_status add_plain(maker *k, const char *name, nb_slot at, const nb_tensor *src,
                           nb_error *err)
{
    const nb_place place = nb_family_slice(nb_config_family(k->m), &k->m->hp, NB_CONTAINER_HF, at);
    nb_folder_entry *e = &k->p->entry[k->p->n++];
    *e = (nb_folder_entry){.name = keep_name(k, name, strlen(name), err),
                           .src = src,
                           .is_slot = true,
                           .n_dim = place.N ? 2 : 1,
                           .shape = {place.N ? place.all_rows : place.K, place.K, 1, 1, 1, 1, 1, 1},
                           .module = -1};
    return e->name ? NB_OK : NB_NO_ROOM;
}

/* ---- every slot ---- */

typedef nb_status (*visit)(maker *k, nb_slot at, nb_error *err);

static nb_status each_slot(maker *k, visit v, nb_error *err)
{
    nb_status st = NB_OK;
    for (int l = -1; l < k->m->hp.n_layer; l++)
        for (int r = l < 0 ? 0 : NB_ROLE_ATTN_NORM;
             r < (l < 0 ? (int)NB_ROLE_ATTN_NORM : (int)NB_ROLE_COUNT) && st == NB_OK; r++)
            for (int e = 0; e < nb_model_n_slot(k->m, (nb_role)r) && st == NB_OK; e++) {
                const nb_slot at = {.role = (nb_role)r, .layer = l, .expert = e};
                st = nb_model_has(k->m, at) ? v(k, at, err) : NB_OK;
            }
    return st;
}

/* ---- from a folder ---- */

static nb_status own_tensor(maker *k, nb_slot at, nb_error *err)
{
    char name[NB_TENSOR_NAME];
    const nb_container *c = k->m->container;
    const int64_t i = nb_family_tensor(k->m->family, c, at, name) - c->tensor;
    (void)err;
    if (!k->owned[i])
        k->owner[i] = at;
    k->owned[i] = true;
    *place_of(k->p, at) = i; /* the tensor; its entry when there is one */
    return NB_OK;
}

static nb_status settle(maker *k, nb_slot at, nb_error *err)
{
    (void)err;
    *place_of(k->p, at) = k->became[*place_of(k->p, at)];
    return NB_OK;
}

/* A tensor of the source: a slot's, a part of a packed one's (which goes), or one that nobody asked
 * for. */
static nb_status add_tensor(maker *k, int64_t i, nb_error *err)
{
    const nb_container *c = k->m->container;
    const nb_tensor *t = &c->tensor[i];
    char name[NB_TENSOR_NAME + 64];
    const char *dot = strrchr(t->name, '.');
    nb_folder_plan *p = k->p;
    const bool packed_there = k->owned[i] && nb_tensor_is_packed(c, t);
    if (!k->owned[i] && nb_tensor_is_part(k->m, t))
        return NB_OK;
    k->became[i] = p->n;
    snprintf(name, sizeof name, "%.*s.weight", packed_there && dot ? (int)(dot - t->name) : 0,
             t->name);
    const char *plain = packed_there ? name : t->name;
    if (k->owned[i] && is_packed(k, k->owner[i]))
        return add_module(k, plain, k->owner[i], t, &k->became[i], err);
    if (packed_there)
        return add_plain(k, plain, k->owner[i], t, err);
    p->entry[p->n] = (nb_folder_entry){
        .name = t->name, .n_dim = t->n_dim, .src = t, .is_slot = k->owned[i], .module = -1};
    memcpy(p->entry[p->n++].shape, t->shape, sizeof t->shape);
    return NB_OK;
}

static nb_status from_folder(maker *k, nb_error *err)
{
    const size_t n = (size_t)k->m->container->n_tensor;
    k->owner = nb_alloc_zero(n + 1, sizeof *k->owner, "a list of tensors", err);
    k->owned = nb_alloc_zero(n + 1, sizeof *k->owned, "a list of tensors", err);
    k->became = nb_alloc_zero(n + 1, sizeof *k->became, "a list of tensors", err);
    nb_status st = k->owner && k->owned && k->became ? each_slot(k, own_tensor, err) : NB_NO_ROOM;
    for (int64_t i = 0; i < (int64_t)n && st == NB_OK; i++)
        st = add_tensor(k, i, err);
    if (st == NB_OK)
        st = each_slot(k, settle, err);
    free(k->owner);
    free(k->owned);
    free(k->became);
    return st;
}

/* ---- from a GGUF file ---- */

/* A role that shares its tensor with one before it (fused linears) shares its entry. */
static int64_t shared(const nb_family *f, const nb_folder_plan *p, nb_slot at, const char *name)
{
    char other[NB_TENSOR_NAME];
    for (int r = 0; r < (int)at.role; r++) {
        const nb_slot before = {.role = (nb_role)r, .layer = at.layer, .expert = 0};
        const int64_t i =
            is_layer_role(r) == is_layer_role((int)at.role) ? *place_of(p, before) : -1;
        if (i >= 0 && nb_family_name(f, NB_CONTAINER_HF, before, other) && strcmp(other, name) == 0)
            return i;
    }
    return -1;
}

static nb_status add_slot(maker *k, nb_slot at, nb_error *err)
{
    const nb_family *f = nb_config_family(k->m);
    nb_folder_plan *p = k->p;
    char name[NB_TENSOR_NAME], source[NB_TENSOR_NAME];
    if (!nb_family_name(f, NB_CONTAINER_HF, at, name))
        return NB_OK;
    *place_of(p, at) = shared(f, p, at, name);
    if (*place_of(p, at) >= 0)
        return NB_OK;
    const nb_tensor *src = nb_family_tensor(k->m->family, k->m->container, at, source);
    *place_of(p, at) = p->n;
    return is_packed(k, at) ? add_module(k, name, at, src, place_of(p, at), err)
                            : add_plain(k, name, at, src, err);
}

static nb_status refuse_unnamed(const nb_model *m, nb_error *err)
{
    bool *used =
        nb_alloc_zero((size_t)m->container->n_tensor + 1, sizeof *used, "a list of tensors", err);
    nb_status st = used ? NB_OK : NB_NO_ROOM;
    for (int l = -1; l < m->hp.n_layer && st == NB_OK; l++)
        for (int r = 0; r < NB_ROLE_COUNT; r++) {
            char name[NB_TENSOR_NAME];
            const nb_tensor *t =
                is_layer_role(r) == (l >= 0)
                    ? nb_family_tensor(m->family, m->container,
                                       (nb_slot){.role = (nb_role)r, .layer = l}, name)
                    : NULL;
            if (t)
                used[t - m->container->tensor] = true;
        }
    for (int64_t i = 0; i < m->container->n_tensor && st == NB_OK; i++)
        if (!used[i] && strcmp(m->container->tensor[i].name, "rope_freqs.weight") != 0)
            st = nb_fail_at(err, NB_UNSUPPORTED, m->container->path, -1,
                            "tensor %s has no name in a folder of a %s model",
                            m->container->tensor[i].name, m->family->name);
    free(used);
    return st;
}

/* ---- the rest ---- */

static nb_status choose_types(const maker *k, nb_error *err)
{
    nb_folder_plan *p = k->p;
    for (int64_t i = 0; i < p->n; i++) {
        nb_folder_entry *e = &p->entry[i];
        if (e->module >= 0)
            continue;
        e->type = k->choice->type(k->choice->arg, e->src);
        if (e->is_slot && (!e->type->st_name || e->type->block != 1 || !e->type->encode)) {
            const nb_status st =
                nb_fail_at(err, NB_UNSUPPORTED, k->m->container->path, -1,
                           "tensor %s in %s has no place in a folder of plain floats", e->src->name,
                           e->type->name);
            nb_hint(err, "--grid bf16");
            return st;
        }
    }
    return NB_OK;
}

nb_status nb_folder_plan_open(const nb_model *m, const nb_folder_choice *choice, nb_folder_plan *p,
                              nb_error *err)
{
    const nb_container *c = m->container;
    maker k = {.m = m, .choice = choice, .p = p};
    *p = (nb_folder_plan){.n_slot = m->hp.n_expert ? m->hp.n_expert : 1, .scheme = choice->scheme};
    const size_t n_of = ((size_t)m->hp.n_layer + 1) * NB_ROLE_COUNT * (size_t)p->n_slot;
    for (int g = 0; g < NB_GROUP_COUNT; g++)
        k.packs[g] =
            choice->scheme && nb_folder_packs(m, choice->scheme, (nb_group_id)g, NULL) == NB_OK;
    p->names = nb_arena_open("names of tensors", err);
    p->of = p->names ? nb_alloc(n_of, sizeof *p->of, "a list of tensors", err) : NULL;
    p->module = p->of ? nb_alloc_zero(choice->scheme ? n_of : 1, sizeof *p->module,
                                      "a list of linears", err)
                      : NULL;
    p->entry =
        p->module
            ? nb_alloc_zero(n_of * (choice->scheme ? NB_SCHEME_TENSORS : 1) + (size_t)c->n_tensor,
                            sizeof *p->entry, "a list of tensors", err)
            : NULL;
    if (!p->entry)
        return NB_NO_ROOM;
    for (size_t i = 0; i < n_of; i++)
        p->of[i] = -1;
    nb_status st =
        c->kind == NB_CONTAINER_GGUF ? each_slot(&k, add_slot, err) : from_folder(&k, err);
    if (st == NB_OK && c->kind == NB_CONTAINER_GGUF)
        st = refuse_unnamed(m, err);
    return st == NB_OK ? choose_types(&k, err) : st;
}

/* ---- exceptions ---- */

nb_status nb_folder_plan_exceptions(nb_folder_plan *p, const char *const **out, nb_error *err)
{
    const char **list = nb_arena_alloc(p->names, (size_t)p->n + 2, sizeof *list, err);
    int64_t n = 0;
    *out = list;
    if (!list)
        return NB_NO_ROOM;
    for (int64_t i = 0; i < p->n; i++) {
        const nb_folder_entry *e = &p->entry[i];
        const char *dot = strrchr(e->name, '.');
        const int64_t embed = nb_folder_plan_find(p, (nb_slot){.role = NB_ROLE_EMBED}),
                      head = nb_folder_plan_find(p, (nb_slot){.role = NB_ROLE_OUTPUT});
        if (e->module >= 0 || e->n_dim != 2 || i == embed || i == head || !dot ||
            strcmp(dot, ".weight") != 0)
            continue;
        list[n] = nb_arena_strdup(p->names, e->name, (size_t)(dot - e->name), err);
        if (!list[n++])
            return NB_NO_ROOM;
    }
    list[n++] = "lm_head"; /* also where it is the embedding: loaders make one */
    list[n] = NULL;
    return NB_OK;
}
