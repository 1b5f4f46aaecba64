/* scales.c -- the inputs of a layer's linears, scaled before they are quantized (AWQ; awq.h has the search).
 *
 * One more pass of the layer with its own weights over the quantized stream measures H of every group. Then, with s of a group's inputs,
 *
 *   group      its weights      what divides by s
 *   q,k,v      W[:,k] s_k       the norm before them
 *   o          W[:,k] s_k       the rows of v; heads that share a head of v share its scales
 *   gate,up    W[:,k] s_k       the norm before them
 *   down       W[:,k] s_k       the rows of up: down(act(gate) up) is linear in up
 *
 * and the layer computes what it did. Under the drift correction (gptq) the second stream runs through the source's own weights, whose inputs of o and
 * down are not divided, so there only the norms are scaled; the same where v has a bias. A norm goes to the sink as divided and is read back: the
 * stream sees what the file holds, in this run and in one that goes on. */
#include "quant/awq.h"
#include "quant/pipe.h"

#include <stdlib.h>
#include <string.h>

/* The pass: one sequence at a time, so a copy of its rows is all it needs. */
struct pass {
    nb_layer layer;
    float *x;                  /* [ctx, hidden_size] device */
    float *host;               /* the same, host */
    double *h[NB_GROUP_COUNT]; /* [K,K] device */
    int64_t K[NB_GROUP_COUNT];
};

static bool wanted(const nb_pipe *p, nb_group_id g, int layer)
{
    if (g == NB_GROUP_QKV || g == NB_GROUP_GATE_UP)
        return true;
    return !p->two && (g == NB_GROUP_DOWN || !nb_model_has(p->m, (nb_slot){.role = NB_ROLE_ATTN_V_BIAS, .layer = layer}));
}

static nb_status open_pass(nb_pipe *p, struct pass *a, int layer, nb_error *err)
{
    const size_t bytes = (size_t)p->calib->ctx * (size_t)p->m->hp.hidden_size * sizeof(float);
    nb_status st = nb_pipe_host(p, 1, bytes, "activations of a sequence", (void **)&a->host, err);
    if (st == NB_OK)
        st = p->be->op->alloc(p->be, bytes, "activations of a sequence", (void **)&a->x, err);
    a->layer.frame = p->quantized.layer.frame; /* borrowed */
    for (int g = 0; g < NB_GROUP_COUNT && st == NB_OK; g++) {
        (void)nb_pipe_group_shape(p, (nb_group_id)g, &a->K[g]);
        const size_t square = (size_t)(a->K[g] * a->K[g]) * sizeof(double);
        st = nb_stack_load(p->m, (nb_group_id)g, layer, &a->layer.stack[g], err);
        if (st == NB_OK)
            st = p->be->op->alloc(p->be, square, "second moments of the inputs", (void **)&a->h[g], err);
        if (st == NB_OK)
            st = p->be->op->zero(p->be, a->h[g], square, err);
    }
    return st;
}

static void close_pass(nb_pipe *p, struct pass *a)
{
    for (int g = 0; g < NB_GROUP_COUNT; g++) {
        nb_stack_close(p->be, &a->layer.stack[g]);
        p->be->op->release(p->be, a->h[g]);
    }
    p->be->op->release(p->be, a->x);
    nb_pipe_host_free(p, a->host);
}

static nb_status gather(nb_pipe *p, const struct pass *a, nb_group_id g, const float *x, nb_error *err)
{
    nb_gram_args gram = {.x = x, .M = p->calib->ctx, .K = a->K[g], .ldx = a->K[g], .ld_orig = a->K[g], .h = a->h[g]};
    nb_status st = nb_pipe_scratch(p, p->be->op->gram_scratch ? p->be->op->gram_scratch(p->be, &gram) : 0, err);
    gram.scratch = p->scratch;
    return st == NB_OK ? p->be->op->gram_accumulate(p->be, &gram, err) : st;
}

/* Sequence i through the layer, as it stands in the source. */
static nb_status run_sequence(nb_pipe *p, struct pass *a, int32_t i, nb_error *err)
{
    const int32_t ctx = p->calib->ctx;
    const int64_t d = p->m->hp.hidden_size;
    const size_t bytes = (size_t)(ctx * d) * sizeof(float);
    const nb_batch batch = {.n_token = ctx, .seq = p->acts.seq, .pos = p->acts.pos, .max_len = ctx};
    float *rows = NULL;
    nb_status st = nb_pipe_scratch(p, nb_layer_scratch(p->m, &a->layer, ctx, ctx), err);
    const nb_acts *t = &p->acts;
    if (st == NB_OK)
        st = nb_rows_get(p, &p->quantized.x, i, d, true, &rows, err);
    if (st == NB_OK)
        st = p->be->op->download(p->be, a->host, rows, bytes, err);
    if (st == NB_OK)
        st = p->be->op->upload(p->be, a->x, a->host, bytes, err);
    if (st == NB_OK)
        st = p->be->op->sync(p->be, err); /* before host changes */
    nb_step s = {.m = p->m, .layer = &a->layer, .batch = &batch, .kv = &p->kv};
#define STEP(call)                            \
    do {                                      \
        s.scratch = p->scratch;               \
        s.scratch_bytes = p->scratch_bytes;   \
        if (st == NB_OK)                      \
            st = call;                        \
    } while (0)
    STEP(nb_attn_norm(&s, a->x, t->h, err));
    STEP(gather(p, a, NB_GROUP_QKV, t->h, err));
    STEP(nb_attn_mix(&s, t->h, t->qkv, t->att, err));
    STEP(gather(p, a, NB_GROUP_O, t->att, err));
    STEP(nb_attn_out(&s, t->att, a->x, err));
    STEP(nb_ffn_norm(&s, a->x, t->h, err));
    STEP(gather(p, a, NB_GROUP_GATE_UP, t->h, err));
    STEP(nb_ffn_mix(&s, t->h, t->gu, t->act, err));
    STEP(gather(p, a, NB_GROUP_DOWN, t->act, err));
#undef STEP
    return st;
}

/* Inputs of o that come from one row of v: those of the heads that share it. */
static int32_t *tie_heads(const nb_pipe *p, nb_error *err)
{
    const nb_hparams *hp = &p->m->hp;
    const int32_t share = hp->n_head / hp->n_kv_head;
    int32_t *tie = nb_alloc((size_t)hp->n_head * (size_t)hp->head_dim, sizeof *tie, "tied scales", err);
    for (int32_t k = 0; tie && k < hp->n_head * hp->head_dim; k++)
        tie[k] = k / hp->head_dim / share * hp->head_dim + k % hp->head_dim;
    return tie;
}

static nb_status search(nb_pipe *p, const struct pass *a, nb_group_id g, int layer, nb_error *err)
{
    int64_t K = 0;
    const int64_t N = nb_pipe_group_shape(p, g, &K);
    float *w = NULL;
    int32_t *tie = NULL;
    nb_awq_choice choice;
    nb_status st = nb_pipe_host(p, (size_t)(N * K), sizeof *w, "weights of a layer", (void **)&w, err);
    if (st == NB_OK && g == NB_GROUP_O) {
        tie = tie_heads(p, err);
        st = tie ? NB_OK : NB_NO_ROOM;
    }
    if (st == NB_OK) {
        p->scale[g] = nb_alloc((size_t)K, sizeof *p->scale[g], "scales of inputs", err);
        st = p->scale[g] ? NB_OK : NB_NO_ROOM;
    }
    for (int64_t k = 0; st == NB_OK && k < K; k++)
        p->scale[g][k] = 1.0f;
    const nb_awq_job job = {.be = p->be, .grid = &p->o->grid, .w = w, .N = N, .K = K, .h = a->h[g], .tie = tie};
    if (st == NB_OK && !p->dry) {
        float *s = nb_alloc((size_t)K, sizeof *s, "scales of inputs", err);
        st = s ? nb_pipe_decode(p, (nb_group_at){g, layer, 0}, w, err) : NB_NO_ROOM; /* unscaled: this group's scales are all 1 so far, rows of v and up keep their codes */
        if (st == NB_OK)
            st = nb_awq_search(&job, s, &choice, err);
        if (st == NB_OK)
            memcpy(p->scale[g], s, (size_t)K * sizeof *s);
        free(s);
    }
    free(tie);
    nb_pipe_host_free(p, w);
    return st;
}

/* The norm before a group, divided, through the sink into the frame. */
static nb_status fold_norm(nb_pipe *p, nb_role role, const float *s, int layer, nb_error *err)
{
    const nb_slot at = {.role = role, .layer = layer};
    const int64_t K = p->m->hp.hidden_size;
    float *v = nb_alloc((size_t)K, sizeof *v, "a norm", err);
    nb_status st = v ? nb_model_decode_vector(p->m, at, v, err) : NB_NO_ROOM;
    for (int64_t k = 0; st == NB_OK && k < K; k++)
        v[k] = v[k] / s[k] - nb_family_norm_offset(p->m->family, p->m->container->kind, role); /* as the source would hold it */
    const nb_matrix m = {.N = 1, .K = K, .dtype = nb_dtype_by_name("f32"), .rows = (const uint8_t *)v};
    if (st == NB_OK)
        st = p->sink->op->dense(p->sink, at, &m, err);
    free(v);
    return st;
}

static nb_status read_norm(nb_pipe *p, nb_role role, float *to, int layer, nb_error *err)
{
    nb_matrix m;
    nb_status st = p->dry ? NB_OK : p->sink->op->read(p->sink, (nb_slot){.role = role, .layer = layer}, &m, err);
    if (st != NB_OK || p->dry)
        return st;
    float *v = nb_alloc((size_t)m.K, sizeof *v, "a norm", err);
    if (!v)
        return NB_NO_ROOM;
    nb_dtype_decode_row(m.dtype, m.rows, v, m.K);
    st = p->be->op->upload(p->be, to, v, (size_t)m.K * sizeof *v, err);
    if (st == NB_OK)
        st = p->be->op->sync(p->be, err);
    free(v);
    return st;
}

nb_status nb_pipe_read_norms(nb_pipe *p, int layer, nb_error *err)
{
    nb_frame *f = &p->quantized.layer.frame;
    const nb_status st = read_norm(p, NB_ROLE_ATTN_NORM, f->attn_norm, layer, err);
    return st == NB_OK ? read_norm(p, NB_ROLE_FFN_NORM, f->ffn_norm, layer, err) : st;
}

nb_status nb_pipe_find_scales(nb_pipe *p, int layer, nb_error *err)
{
    struct pass a = {0};
    float *found[NB_GROUP_COUNT] = {0};
    nb_status st = open_pass(p, &a, layer, err);
    for (int32_t i = 0; i < p->calib->n_seq && st == NB_OK; i++)
        st = run_sequence(p, &a, i, err);
    for (int g = 0; g < NB_GROUP_COUNT && st == NB_OK; g++)
        if (wanted(p, (nb_group_id)g, layer)) {
            st = search(p, &a, (nb_group_id)g, layer, err);
            found[g] = p->scale[g]; /* put by until all are found, so that each search sees the source's weights */
            p->scale[g] = NULL;
        }
    memcpy(p->scale, found, sizeof found);
    close_pass(p, &a);
    if (st == NB_OK)
        st = fold_norm(p, NB_ROLE_ATTN_NORM, p->scale[NB_GROUP_QKV], layer, err);
    if (st == NB_OK)
        st = fold_norm(p, NB_ROLE_FFN_NORM, p->scale[NB_GROUP_GATE_UP], layer, err);
    return st == NB_OK ? nb_pipe_read_norms(p, layer, err) : st;
}

void nb_pipe_apply_scales(const nb_pipe *p, nb_group_id g, nb_role role, int64_t N, int64_t K, float *w)
{
    const nb_hparams *hp = &p->m->hp;
    const float *in = p->scale[g], *out = role == NB_ROLE_ATTN_V ? p->scale[NB_GROUP_O] : role == NB_ROLE_FFN_UP ? p->scale[NB_GROUP_DOWN] : NULL;
    const int64_t share = hp->n_head / hp->n_kv_head;
    for (int64_t n = 0; n < N && (in || out); n++) {
        const int64_t k0 = role == NB_ROLE_ATTN_V ? n / hp->head_dim * share * hp->head_dim + n % hp->head_dim : n;
        const float by = out ? 1.0f / out[k0] : 1.0f;
        for (int64_t k = 0; k < K; k++)
            w[n * K + k] *= by * (in ? in[k] : 1.0f);
    }
}

void nb_pipe_drop_scales(nb_pipe *p)
{
    for (int g = 0; g < NB_GROUP_COUNT; g++) {
        free(p->scale[g]);
        p->scale[g] = NULL;
    }
}
