/* rows.c -- which kernel rows serve a model's linears: a walk over its packed weights. */
#include "api/rows.h"

#include <string.h>

/* The weights of a group in the order of its stack: one for all roles, or one each (weights.c). */
static void walk_group(const nb_model *m, int layer, nb_group_id g, nb_weight_visit visit,
                       void *arg)
{
    const nb_stack *t = &m->layer[layer].stack[g];
    nb_role role[3];
    char name[128];
    const int n_role = nb_group_roles(g, role);
    for (int i = 0; i < t->n_weight; i++) {
        const nb_tensor *s =
            nb_family_tensor(m->family, m->container,
                             (nb_slot){.role = role[i < n_role ? i : 0], .layer = layer}, name);
        const nb_packed p = {.w = t->w[i],
                             .be = m->be,
                             .format = s ? s->dtype->name : "",
                             .N = (i + 1 < t->n_weight ? t->at[i + 1] : t->N) - t->at[i],
                             .K = t->K,
                             .used = 1.0};
        visit(arg, &p);
    }
}

static void walk_experts(const nb_model *m, int layer, nb_group_id g, const nb_experts *t,
                         nb_weight_visit visit, void *arg)
{
    nb_role role[3];
    char name[NB_TENSOR_NAME];
    nb_group_roles(g, role);
    for (int i = 0; i < t->n_weight; i++)
        for (int e = 0; e < m->hp.n_expert; e++) {
            const nb_tensor *s =
                nb_family_tensor(m->family, m->container,
                                 (nb_slot){.role = role[i], .layer = layer, .expert = e}, name);
            const nb_packed p = {.w = t->w[i][e],
                                 .be = m->be,
                                 .format = s ? s->dtype->name : "",
                                 .N = (i + 1 < t->n_weight ? t->at[i + 1] : t->N) - t->at[i],
                                 .K = t->K,
                                 .used = (double)m->hp.n_expert_used / m->hp.n_expert};
            visit(arg, &p);
        }
}

static void walk_mixture(const nb_model *m, int layer, nb_weight_visit visit, void *arg)
{
    char name[NB_TENSOR_NAME];
    const nb_layer *y = &m->layer[layer];
    const nb_tensor *s = nb_family_tensor(m->family, m->container,
                                          (nb_slot){.role = NB_ROLE_ROUTER, .layer = layer}, name);
    const nb_packed router = {.w = y->frame.router,
                              .be = m->be,
                              .format = s ? s->dtype->name : "",
                              .N = m->hp.n_expert,
                              .K = m->hp.hidden_size,
                              .used = 1.0};
    visit(arg, &router);
    walk_experts(m, layer, NB_GROUP_GATE_UP, &y->gate_up, visit, arg);
    walk_experts(m, layer, NB_GROUP_DOWN, &y->down, visit, arg);
}

void nb_model_walk_weights(const nb_model *m, nb_weight_visit visit, void *arg)
{
    char name[128];
    for (int l = 0; m->layer && l < m->hp.n_layer; l++) {
        const nb_model *part = nb_model_at(m, l);
        for (int g = 0; g < NB_GROUP_COUNT; g++) /* empty where experts stand instead */
            walk_group(part, l, (nb_group_id)g, visit, arg);
        if (m->hp.n_expert)
            walk_mixture(part, l, visit, arg);
    }
    const nb_tensor *s =
        nb_family_tensor(m->family, m->container,
                         (nb_slot){.role = m->hp.tied ? NB_ROLE_EMBED : NB_ROLE_OUTPUT}, name);
    const nb_packed p = {.w = m->output,
                         .be = m->be,
                         .format = s ? s->dtype->name : "",
                         .N = m->hp.vocab_size,
                         .K = m->hp.hidden_size,
                         .output = true,
                         .used = 1.0};
    if (m->output)
        visit(arg, &p);
}

enum { kMostPairs = 64 };
typedef struct tally {
    int32_t n_token;
    int n;
    struct {
        const char *format, *row;
        int64_t n_weight, bytes;
    } pair[kMostPairs];
} tally;

static void count(void *arg, const nb_packed *p)
{
    tally *t = arg;
    nb_arith arith;
    const nb_linear_args a = {.M = p->output ? 1 : t->n_token, .w = p->w};
    const char *row = nb_backend_linear_row(p->be, &a, &arith);
    int i = 0;
    row = row ? row : "";
    while (i < t->n &&
           (strcmp(t->pair[i].format, p->format) != 0 || strcmp(t->pair[i].row, row) != 0))
        i++;
    if (i == kMostPairs)
        return;
    if (i == t->n) {
        t->n++;
        t->pair[i].format = p->format;
        t->pair[i].row = row;
    }
    t->pair[i].n_weight++;
    t->pair[i].bytes += (int64_t)p->be->op->weight_bytes(p->w);
}

void nb_model_list_rows(const nb_model *m, int32_t n_token,
                        void (*row)(void *arg, const char *format, const char *row,
                                    int64_t n_weight, int64_t bytes),
                        void *arg)
{
    tally t = {.n_token = n_token};
    if (m->be)
        nb_model_walk_weights(m, count, &t);
    for (int i = 0; i < t.n; i++)
        row(arg, t.pair[i].format, t.pair[i].row, t.pair[i].n_weight, t.pair[i].bytes);
}
