/* layer.c -- one layer's weights on the device: norms and biases (its frame), stacks of linears,
 * experts; and the scratch that its stages need. */
#include "model/model.h"

#include <stdlib.h>
#include <string.h>

/* ---- the frame ---- */

/* The biases of a group, stacked as its linears are. */
static nb_status open_bias(const nb_model *m, nb_group_id g, int layer, float **out, nb_error *err)
{
    static const nb_role bias_of[NB_ROLE_COUNT] = {[NB_ROLE_ATTN_Q] = NB_ROLE_ATTN_Q_BIAS,
                                                   [NB_ROLE_ATTN_K] = NB_ROLE_ATTN_K_BIAS,
                                                   [NB_ROLE_ATTN_V] = NB_ROLE_ATTN_V_BIAS,
                                                   [NB_ROLE_ATTN_O] = NB_ROLE_ATTN_O_BIAS};
    nb_role role[3];
    int64_t N = 0, n = 0, K = 0;
    bool any = false;
    const int n_role = nb_group_roles(g, role);
    for (int i = 0; i < n_role; i++) {
        nb_family_shape(&m->hp, (nb_slot){.role = role[i]}, &n, &K);
        any = any || (bias_of[role[i]] &&
                      nb_model_has(m, (nb_slot){.role = bias_of[role[i]], .layer = layer}));
        N += n;
    }
    if (!any)
        return NB_OK;
    float *host = nb_alloc_zero((size_t)N, sizeof *host, "biases", err);
    nb_status st = host ? NB_OK : NB_NO_ROOM;
    for (int i = 0, at = 0; i < n_role && st == NB_OK; i++, at += (int)n) {
        const nb_slot b = {.role = bias_of[role[i]], .layer = layer};
        nb_family_shape(&m->hp, (nb_slot){.role = role[i]}, &n, &K);
        if (b.role && nb_model_has(m, b))
            st = nb_model_decode_vector(m, b, host + at, err);
    }
    if (st == NB_OK)
        st = m->be->op->alloc(m->be, (size_t)N * sizeof *host, "biases", (void **)out, err);
    if (st == NB_OK)
        st = m->be->op->upload(m->be, *out, host, (size_t)N * sizeof *host, err);
    free(host);
    return st;
}

nb_status nb_frame_open(const nb_model *m, int layer, nb_frame *out, nb_error *err)
{
    *out = (nb_frame){.local = m->hp.local[layer], .unrotated = m->hp.unrotated[layer]};
    const struct {
        nb_role role;
        float **to;
    } vector[] = {{NB_ROLE_ATTN_NORM, &out->attn_norm},
                  {NB_ROLE_FFN_NORM, &out->ffn_norm},
                  {NB_ROLE_ATTN_POST_NORM, &out->attn_post_norm},
                  {NB_ROLE_FFN_POST_NORM, &out->ffn_post_norm},
                  {NB_ROLE_ATTN_Q_NORM, &out->q_norm},
                  {NB_ROLE_ATTN_K_NORM, &out->k_norm}};
    nb_status st = NB_OK;
    for (size_t i = 0; i < sizeof vector / sizeof *vector && st == NB_OK; i++) {
        const nb_slot at = {.role = vector[i].role, .layer = layer};
        if (nb_model_has(m, at))
            st = nb_model_vector(m, at, 1.0f, vector[i].to, err);
    }
    for (int g = 0; g < NB_GROUP_COUNT && st == NB_OK; g++)
        st = open_bias(m, (nb_group_id)g, layer, &out->bias[g], err);
    return st == NB_OK && m->hp.n_expert
               ? nb_model_pack(m, (nb_slot){.role = NB_ROLE_ROUTER, .layer = layer}, &out->router,
                               err)
               : st;
}

void nb_frame_close(nb_backend *be, nb_frame *f)
{
    float *vector[] = {f->attn_norm,     f->ffn_norm, f->attn_post_norm,
                       f->ffn_post_norm, f->q_norm,   f->k_norm};
    for (size_t i = 0; i < sizeof vector / sizeof *vector; i++)
        be->op->release(be, vector[i]);
    for (int g = 0; g < NB_GROUP_COUNT; g++)
        be->op->release(be, f->bias[g]);
    be->op->release_weight(be, f->router);
    memset(f, 0, sizeof *f);
}

/* ---- experts ---- */

static void free_made(void *made[3])
{
    for (int i = 0; i < 3; i++) {
        free(made[i]);
        made[i] = NULL;
    }
}

nb_status nb_experts_load(const nb_model *m, nb_group_id g, int layer, nb_experts *out,
                          nb_error *err)
{
    nb_role role[3];
    nb_matrix part[3] = {0};
    void *made[3] = {NULL};
    const int n = nb_group_roles(g, role), E = m->hp.n_expert;
    nb_status st = NB_OK;
    bool same = true;
    *out = (nb_experts){0};
    for (int e = 0; e < E && st == NB_OK; e++) {
        for (int i = 0; i < n && st == NB_OK; i++) {
            st = nb_model_matrix(m, (nb_slot){.role = role[i], .layer = layer, .expert = e},
                                 &part[i], &made[i], err);
            same = same && st == NB_OK && nb_matrix_alike(&part[i], &part[0]);
        }
        free_made(made);
    }
    const int n_weight = same ? 1 : n;
    for (int i = 0; i < n_weight && st == NB_OK; i++) {
        out->w[i] = nb_alloc_zero((size_t)E, sizeof *out->w[i], "experts", err);
        out->n_weight = i + 1;
        st = out->w[i] ? NB_OK : NB_NO_ROOM;
    }
    for (int e = 0; e < E && st == NB_OK; e++) {
        out->N = 0;
        for (int i = 0; i < n && st == NB_OK; i++) {
            st = nb_model_matrix(m, (nb_slot){.role = role[i], .layer = layer, .expert = e},
                                 &part[i], &made[i], err);
            if (!same)
                out->at[i] = out->N;
            out->N += part[i].N;
            out->K = part[i].K;
        }
        for (int i = 0; i < n_weight && st == NB_OK; i++)
            st = m->be->op->pack_weight(m->be, &part[i], same ? n : 1, &out->w[i][e], err);
        free_made(made);
    }
    return st;
}

void nb_experts_close(const nb_model *m, nb_experts *x)
{
    for (int i = 0; i < x->n_weight; i++) {
        for (int e = 0; x->w[i] && e < m->hp.n_expert; e++)
            m->be->op->release_weight(m->be, x->w[i][e]);
        free(x->w[i]);
    }
    *x = (nb_experts){0};
}

/* ---- the layer ---- */

nb_status nb_layer_open(const nb_model *m, int layer, nb_layer *out, nb_error *err)
{
    nb_status st = nb_frame_open(m, layer, &out->frame, err);
    for (int g = 0; g < (m->hp.n_expert ? NB_GROUP_GATE_UP : NB_GROUP_COUNT) && st == NB_OK; g++)
        st = nb_stack_load(m, (nb_group_id)g, layer, &out->stack[g], err);
    if (st == NB_OK && m->hp.n_expert)
        st = nb_experts_load(m, NB_GROUP_GATE_UP, layer, &out->gate_up, err);
    if (st == NB_OK && m->hp.n_expert)
        st = nb_experts_load(m, NB_GROUP_DOWN, layer, &out->down, err);
    return st;
}

void nb_layer_close(const nb_model *m, nb_layer *y)
{
    nb_frame_close(m->be, &y->frame);
    for (int g = 0; g < NB_GROUP_COUNT; g++)
        nb_stack_close(m->be, &y->stack[g]);
    nb_experts_close(m, &y->gate_up);
    nb_experts_close(m, &y->down);
}

/* ---- scratch ---- */

static size_t max2(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t linear_need(const nb_model *m, const nb_weight *w, int64_t n_token)
{
    const nb_linear_args a = {.M = n_token, .w = w};
    return m->be->op->linear_scratch(m->be, &a);
}

static size_t experts_need(const nb_model *m, const nb_experts *x, int64_t n_token)
{
    size_t need = 0;
    for (int i = 0; i < x->n_weight; i++) {
        const nb_grouped_args a = {.P = n_token * m->hp.n_expert_used,
                                   .n_expert = m->hp.n_expert,
                                   .w = (const nb_weight *const *)x->w[i]};
        need = max2(need, m->be->op->grouped_linear_scratch
                              ? m->be->op->grouped_linear_scratch(m->be, &a)
                              : 0);
    }
    return need;
}

/* What o or down gives before it is normed, scaled or mixed: [M, hidden_size], in a mixture one row
 * an expert more. 0 where they add to x by themselves. */
size_t nb_front_bytes(const nb_model *m, int64_t n_token)
{
    const nb_hparams *hp = &m->hp;
    const bool apart = hp->n_expert || hp->residual_scale != 1.0f ||
                       nb_family_role(m->family, NB_ROLE_ATTN_POST_NORM) ||
                       nb_family_role(m->family, NB_ROLE_FFN_POST_NORM);
    const size_t rows = (size_t)n_token * (size_t)(1 + hp->n_expert_used);
    return apart ? (rows * (size_t)hp->hidden_size * sizeof(float) + 63) / 64 * 64 : 0;
}

void nb_layer_pages(const nb_model *m, int layer,
                    void (*tell)(const nb_container *c, const nb_tensor *t))
{
    char name[NB_TENSOR_NAME];
    for (int r = NB_ROLE_ATTN_NORM; r < NB_ROLE_COUNT && layer < m->hp.n_layer; r++)
        for (int e = 0; e < nb_model_n_slot(m, (nb_role)r); e++) {
            const nb_slot at = {.role = (nb_role)r, .layer = layer, .expert = e};
            const nb_tensor *t = nb_family_tensor(m->family, m->container, at, name);
            if (t)
                tell(m->container, t);
        }
}

size_t nb_layer_scratch(const nb_model *m, const nb_layer *y, int32_t n_token, int32_t ctx_len)
{
    const nb_hparams *hp = &m->hp;
    nb_backend *be = m->be;
    const nb_batch batch = {.n_token = n_token, .max_len = ctx_len};
    const nb_kv kv = {.type = be->kv_type,
                      .n_seq = n_token,
                      .n_kv_head = hp->n_kv_head,
                      .head_dim = hp->head_dim};
    const nb_attention_args attend = {.batch = &batch, .kv = &kv, .n_head = hp->n_head};
    size_t need = max2(64, be->op->attention_scratch ? be->op->attention_scratch(be, &attend) : 0);
    for (int g = 0; y && g < NB_GROUP_COUNT; g++)
        for (int i = 0; i < y->stack[g].n_weight; i++)
            need = max2(need, linear_need(m, y->stack[g].w[i], n_token));
    if (y && y->frame.router) {
        need = max2(need, linear_need(m, y->frame.router, n_token));
        need = max2(need, experts_need(m, &y->gate_up, n_token));
        need = max2(need, experts_need(m, &y->down, n_token));
    }
    return nb_front_bytes(m, n_token) + need;
}
