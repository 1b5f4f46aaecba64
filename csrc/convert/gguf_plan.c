/* gguf_plan.c -- see gguf_plan.h. */
#include "convert/gguf_plan.h"

#include <stdlib.h>
#include <string.h>

static bool is_layer_role(int role)
{
    return role >= NB_ROLE_ATTN_NORM;
}

static int64_t *place_of(const nb_gguf_plan *p, nb_slot at)
{
    return &p->of[(is_layer_role((int)at.role) ? at.layer + 1 : 0) * NB_ROLE_COUNT + (int)at.role];
}

int64_t nb_gguf_plan_find(const nb_gguf_plan *p, nb_slot at)
{
    return *place_of(p, at);
}

void nb_gguf_plan_close(nb_gguf_plan *p)
{
    free(p->entry);
    free(p->of);
    *p = (nb_gguf_plan){0};
}

static void plan_gguf(const nb_model *m, nb_type_choice choose, void *arg, nb_gguf_plan *p)
{
    const nb_container *c = m->container;
    for (int64_t i = 0; i < c->n_tensor; i++) {
        const nb_tensor *t = &c->tensor[i];
        nb_gguf_entry *e = &p->entry[p->n++];
        *e = (nb_gguf_entry){.type = choose(arg, t), .n_dim = t->n_dim, .src = t};
        strncpy(e->name, t->name, sizeof e->name - 1); /* GGUF's names are shorter */
        memcpy(e->shape, t->shape, sizeof e->shape);
    }
    for (int l = -1; l < m->hp.n_layer; l++)
        for (int r = 0; r < NB_ROLE_COUNT; r++) {
            const nb_slot at = {.role = (nb_role)r, .layer = l};
            char name[NB_TENSOR_NAME];
            const nb_tensor *t =
                is_layer_role(r) == (l >= 0) ? nb_family_tensor(m->family, c, at, name) : NULL;
            if (!t)
                continue;
            *place_of(p, at) = t - c->tensor;
            p->entry[t - c->tensor].is_slot = true;
        }
}

static nb_status check_form(const nb_model *m, nb_error *err)
{
    if (m->family->gguf_rope_interleaved && m->hp.rope_dim != m->hp.head_dim)
        return nb_fail_at(err, NB_UNSUPPORTED, m->container->path, -1,
                          "a %s model that rotates %d of %d values of a head has no form in GGUF",
                          m->family->name, m->hp.rope_dim, m->hp.head_dim);
    const int every = m->family->unrotated_every;
    for (int l = 0; l < m->hp.n_layer; l++)
        if (m->hp.unrotated[l] != (every && (l + 1) % every == 0))
            return nb_fail_at(err, NB_UNSUPPORTED, m->container->path, -1,
                              "a %s model whose layer %d does %srotate has no form in GGUF, where "
                              "every layer but each %dth rotates",
                              m->family->name, l, m->hp.unrotated[l] ? "not " : "", every);
    return NB_OK;
}

/* The roles of a layer, -1: of none. Roles that share a tensor (fused linears) share an entry. */
static void plan_roles(const nb_model *m, int layer, nb_type_choice choose, void *arg,
                       nb_gguf_plan *p)
{
    for (int r = 0; r < NB_ROLE_COUNT; r++) {
        const nb_slot at = {.role = (nb_role)r, .layer = layer};
        char name[NB_TENSOR_NAME];
        nb_gguf_entry *e = &p->entry[p->n];
        if (is_layer_role(r) != (layer >= 0) || !nb_model_has(m, at) ||
            !nb_family_name(m->family, NB_CONTAINER_GGUF, at, e->name))
            continue;
        *place_of(p, at) = p->n;
        for (int before = 0; before < r; before++) {
            const int64_t i = *place_of(p, (nb_slot){.role = (nb_role)before, .layer = layer});
            if (is_layer_role(before) == (layer >= 0) && i >= 0 &&
                strcmp(p->entry[i].name, e->name) == 0)
                *place_of(p, at) = i;
        }
        if (*place_of(p, at) != p->n)
            continue;
        const nb_place place = nb_family_slice(m->family, &m->hp, NB_CONTAINER_GGUF, at);
        const int64_t E = m->hp.n_expert;
        e->src = nb_family_tensor(m->family, m->container, at, name);
        e->type = nb_role_stays_f32(at.role) ? nb_dtype_by_name("f32") : choose(arg, e->src);
        e->is_slot = true;
        e->n_dim = place.stacked ? 3 : place.N ? 2 : 1;
        for (int d = 0; d < 8; d++)
            e->shape[d] = 1;
        memcpy(e->shape,
               place.stacked ? (int64_t[]){E, place.all_rows / E, place.K}
               : place.N     ? (int64_t[]){place.all_rows, place.K, 1}
                             : (int64_t[]){place.K, 1, 1},
               3 * sizeof *e->shape);
        p->n++;
    }
}

static void plan_frequencies(const nb_model *m, nb_gguf_plan *p)
{
    if (m->hp.rope.rule == NB_ROPE_LLAMA3)
        p->entry[p->n++] = (nb_gguf_entry){.name = "rope_freqs.weight",
                                           .type = nb_dtype_by_name("f32"),
                                           .n_dim = 1,
                                           .shape = {m->hp.rope_dim / 2, 1, 1, 1, 1, 1, 1, 1}};
}

nb_status nb_gguf_plan_open(const nb_model *m, nb_type_choice choose, void *arg, nb_gguf_plan *p,
                            nb_error *err)
{
    const bool folder = m->container->kind == NB_CONTAINER_HF;
    const size_t n_slot = (size_t)(m->hp.n_layer + 1) * NB_ROLE_COUNT;
    *p = (nb_gguf_plan){0};
    const nb_status st = folder ? check_form(m, err) : NB_OK;
    if (st != NB_OK)
        return st;
    p->entry = nb_alloc_zero(folder ? n_slot + 1 : (size_t)m->container->n_tensor, sizeof *p->entry,
                             "a list of tensors", err);
    p->of = nb_alloc(n_slot, sizeof *p->of, "a list of tensors", err);
    if (!p->entry || !p->of)
        return NB_NO_ROOM;
    for (size_t i = 0; i < n_slot; i++)
        p->of[i] = -1;
    if (!folder) {
        plan_gguf(m, choose, arg, p);
        return NB_OK;
    }
    plan_roles(m, -1, choose, arg, p);
    plan_frequencies(m, p);
    for (int l = 0; l < m->hp.n_layer; l++)
        plan_roles(m, l, choose, arg, p);
    return NB_OK;
}
