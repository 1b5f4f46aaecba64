/* folder_plan.c -- see folder_plan.h. */
#include "convert/folder_plan.h"
#include "convert/config_out.h"

#include <stdlib.h>
#include <string.h>

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
    free(p->of);
    *p = (nb_folder_plan){0};
}

/* ---- every slot ---- */

typedef nb_status (*visit)(const nb_model *m, nb_slot at, nb_folder_plan *p, nb_error *err);

static nb_status each_slot(const nb_model *m, visit v, nb_folder_plan *p, nb_error *err)
{
    nb_status st = NB_OK;
    for (int l = -1; l < m->hp.n_layer; l++)
        for (int r = l < 0 ? 0 : NB_ROLE_ATTN_NORM; r < (l < 0 ? (int)NB_ROLE_ATTN_NORM : (int)NB_ROLE_COUNT) && st == NB_OK; r++)
            for (int e = 0; e < nb_model_n_slot(m, (nb_role)r) && st == NB_OK; e++) {
                const nb_slot at = {.role = (nb_role)r, .layer = l, .expert = e};
                st = nb_model_has(m, at) ? v(m, at, p, err) : NB_OK;
            }
    return st;
}

static nb_status find_slot(const nb_model *m, nb_slot at, nb_folder_plan *p, nb_error *err)
{
    char name[NB_TENSOR_NAME];
    const nb_tensor *t = nb_family_tensor(m->family, m->container, at, name);
    (void)err;
    *place_of(p, at) = t - m->container->tensor; /* the entries are the tensors */
    p->entry[t - m->container->tensor].is_slot = true;
    return NB_OK;
}

/* A role that shares its tensor with one before it (fused linears) shares its entry. */
static int64_t shared(const nb_folder_plan *p, nb_slot at, const char *name)
{
    for (int r = 0; r < (int)at.role; r++) {
        const nb_slot before = {.role = (nb_role)r, .layer = at.layer, .expert = 0};
        const int64_t i = is_layer_role(r) == is_layer_role((int)at.role) ? *place_of(p, before) : -1;
        if (i >= 0 && strcmp(p->entry[i].name, name) == 0)
            return i;
    }
    return -1;
}

static nb_status add_slot(const nb_model *m, nb_slot at, nb_folder_plan *p, nb_error *err)
{
    const nb_family *f = nb_config_family(m);
    char name[NB_TENSOR_NAME], source[NB_TENSOR_NAME];
    const nb_place place = nb_family_slice(f, &m->hp, NB_CONTAINER_HF, at);
    if (!nb_family_name(f, NB_CONTAINER_HF, at, name))
        return NB_OK;
    *place_of(p, at) = shared(p, at, name);
    if (*place_of(p, at) >= 0)
        return NB_OK;
    nb_folder_entry *e = &p->entry[p->n];
    *e = (nb_folder_entry){.name = nb_arena_strdup(p->names, name, strlen(name), err),
                           .src = nb_family_tensor(m->family, m->container, at, source),
                           .is_slot = true,
                           .n_dim = place.N ? 2 : 1,
                           .shape = {place.N ? place.all_rows : place.K, place.K, 1, 1, 1, 1, 1, 1}};
    *place_of(p, at) = p->n++;
    return e->name ? NB_OK : NB_NO_ROOM;
}

/* ---- what is left ---- */

static nb_status refuse_unnamed(const nb_model *m, nb_error *err)
{
    bool *used = nb_alloc_zero((size_t)m->container->n_tensor + 1, sizeof *used, "a list of tensors", err);
    nb_status st = used ? NB_OK : NB_NO_ROOM;
    for (int l = -1; l < m->hp.n_layer && st == NB_OK; l++)
        for (int r = 0; r < NB_ROLE_COUNT; r++) {
            char name[NB_TENSOR_NAME];
            const nb_tensor *t =
                is_layer_role(r) == (l >= 0) ? nb_family_tensor(m->family, m->container, (nb_slot){.role = (nb_role)r, .layer = l}, name) : NULL;
            if (t)
                used[t - m->container->tensor] = true;
        }
    for (int64_t i = 0; i < m->container->n_tensor && st == NB_OK; i++)
        if (!used[i] && strcmp(m->container->tensor[i].name, "rope_freqs.weight") != 0)
            st = nb_fail_at(err, NB_UNSUPPORTED, m->container->path, -1, "tensor %s has no name in a folder of a %s model",
                            m->container->tensor[i].name, m->family->name);
    free(used);
    return st;
}

static nb_status choose_types(const nb_model *m, nb_type_choice choose, void *arg, nb_folder_plan *p, nb_error *err)
{
    for (int64_t i = 0; i < p->n; i++) {
        nb_folder_entry *e = &p->entry[i];
        e->type = choose(arg, e->src);
        if (e->is_slot && (!e->type->st_name || e->type->block != 1 || !e->type->encode)) {
            const nb_status st = nb_fail_at(err, NB_UNSUPPORTED, m->container->path, -1, "tensor %s in %s has no place in a folder of plain floats",
                                            e->src->name, e->type->name);
            nb_hint(err, "--grid bf16");
            return st;
        }
    }
    return NB_OK;
}

nb_status nb_folder_plan_open(const nb_model *m, nb_type_choice choose, void *arg, nb_folder_plan *p, nb_error *err)
{
    const nb_container *c = m->container;
    *p = (nb_folder_plan){.n_slot = m->hp.n_expert ? m->hp.n_expert : 1};
    const size_t n_of = ((size_t)m->hp.n_layer + 1) * NB_ROLE_COUNT * (size_t)p->n_slot;
    p->names = nb_arena_open("names of tensors", err);
    p->of = p->names ? nb_alloc(n_of, sizeof *p->of, "a list of tensors", err) : NULL;
    p->entry = p->of ? nb_alloc_zero(n_of + (size_t)c->n_tensor, sizeof *p->entry, "a list of tensors", err) : NULL;
    if (!p->entry)
        return NB_NO_ROOM;
    for (size_t i = 0; i < n_of; i++)
        p->of[i] = -1;
    nb_status st = NB_OK;
    if (c->kind == NB_CONTAINER_GGUF) {
        st = each_slot(m, add_slot, p, err);
        if (st == NB_OK)
            st = refuse_unnamed(m, err);
    } else {
        for (; p->n < c->n_tensor; p->n++) {
            const nb_tensor *t = &c->tensor[p->n];
            p->entry[p->n] = (nb_folder_entry){.name = t->name, .n_dim = t->n_dim, .src = t};
            memcpy(p->entry[p->n].shape, t->shape, sizeof t->shape);
        }
        st = each_slot(m, find_slot, p, err);
    }
    return st == NB_OK ? choose_types(m, choose, arg, p, err) : st;
}
