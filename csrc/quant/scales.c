/* scales.c -- the inputs of a layer's linears, scaled before they are quantized (AWQ; awq.h has the search).
 *
 * One more pass of the layer with its own weights over the quantized stream measures H of every group. Then, with s of a group's inputs,
 *
 *   group      its weights      what divides by s
 *   q,k,v      W[:,k] s_k       the norm before them
 *   o          W[:,k] s_k       the rows of v and its bias; heads that share a head of v share its scales
 *   gate,up    W[:,k] s_k       the norm before them
 *   down       W[:,k] s_k       the rows of up: down(act(gate) up) is linear in up
 *
 * and the layer computes what it did. What is divided goes to the sink and is read back: the stream sees what the file holds, in this run and in one that
 * goes on. A norm may be rounded there (BF16), so s becomes the quotient of the two norms: the fold is exact whatever the file's type. A group that is
 * kept is not searched: its inputs stay.
 *
 * Under the drift correction (gptq) the second stream runs through the source's own weights. Its inputs of q,k,v and gate,up go through the divided norm;
 * of o and down they come undivided, and the cross term follows: with A = sum x_orig x^T = C + H,  C' = diag(1/s) A - H.
 *
 * Mixtures: the norm before the experts is also the router's, whose columns must take s as those of gate and up do; fold_norm is the place. */
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

static bool wanted(const nb_pipe *p, nb_group_id g)
{
    return !p->o->quantizer->layer || nb_pipeline_fits(p->m, g, p->o);
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
    nb_role role[3];
    nb_awq_job job = {.be = p->be, .grid = &p->o->grid, .w = w, .N = N, .K = K, .h = a->h[g], .tie = tie, .feedback = p->o->quantizer->corrects,
                      .damp = p->o->damp, .n_thread = p->o->n_thread};
    for (int i = nb_group_roles(g, role) - 1; i >= 0; i--)
        nb_family_shape(&p->m->hp, (nb_slot){.role = role[i]}, &job.part[i], &K);
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

/* ---- what is divided ---- */

/* The vector of a role that was written, as the decoder uses it, to `to` [K] host. */
static nb_status read_vector(nb_pipe *p, nb_role role, int layer, float *to, nb_error *err)
{
    nb_matrix m;
    const nb_status st = p->sink->op->read(p->sink, (nb_slot){.role = role, .layer = layer}, &m, err);
    if (st == NB_OK)
        nb_dtype_decode_row(m.dtype, m.rows, to, m.K);
    return st;
}

/* v [K] of a role, as the source would hold it, into the sink. */
static nb_status write_vector(nb_pipe *p, nb_role role, int layer, float *v, int64_t K, nb_error *err)
{
    const float offset = nb_family_norm_offset(p->m->family, p->m->container->kind, role);
    const nb_matrix m = {.N = 1, .K = K, .dtype = nb_dtype_by_name("f32"), .rows = (const uint8_t *)v};
    for (int64_t k = 0; k < K; k++)
        v[k] -= offset;
    return p->sink->op->dense(p->sink, (nb_slot){.role = role, .layer = layer}, &m, err);
}

/* s := v / what the file holds of v / s. false: somewhere that is no scale any more (the file rounds to 0, say); s is 1 there. */
static bool settle(float *s, const float *v, const float *held, int64_t K)
{
    bool all = true;
    for (int64_t k = 0; k < K; k++) {
        const float got = v[k] / held[k];
        if (v[k] == 0.0f && held[k] == 0.0f)
            continue;
        const bool good = got > 0.5f * s[k] && got < 2.0f * s[k];
        s[k] = good ? got : 1.0f;
        all = all && good;
    }
    return all;
}

/* The norm before a group, divided. */
static nb_status fold_norm(nb_pipe *p, nb_role role, float *s, int layer, nb_error *err)
{
    const int64_t K = p->m->hp.hidden_size;
    float *v = nb_alloc(2 * (size_t)K, sizeof *v, "a norm", err), *held = v + K;
    nb_status st = v ? nb_model_decode_vector(p->m, (nb_slot){.role = role, .layer = layer}, v, err) : NB_NO_ROOM;
    bool settled = false;
    for (int i = 0; i < 2 && st == NB_OK && !settled; i++) { /* again where an element became 1 */
        for (int64_t k = 0; k < K; k++)
            held[k] = s ? v[k] / s[k] : v[k];
        st = write_vector(p, role, layer, held, K, err);
        if (st == NB_OK && s && !p->dry)
            st = read_vector(p, role, layer, held, err);
        settled = st != NB_OK || !s || p->dry || settle(s, v, held, K);
    }
    free(v);
    return st;
}

/* The input of o that is row n of v (the first of those that share it). */
static int64_t input_of_value(const nb_pipe *p, int64_t n)
{
    const nb_hparams *hp = &p->m->hp;
    return n / hp->head_dim * (hp->n_head / hp->n_kv_head) * hp->head_dim + n % hp->head_dim;
}

static bool has_value_bias(const nb_pipe *p, int layer)
{
    return nb_model_has(p->m, (nb_slot){.role = NB_ROLE_ATTN_V_BIAS, .layer = layer});
}

static nb_status fold_value_bias(nb_pipe *p, int layer, nb_error *err)
{
    const nb_slot at = {.role = NB_ROLE_ATTN_V_BIAS, .layer = layer};
    const int64_t K = (int64_t)p->m->hp.n_kv_head * p->m->hp.head_dim;
    const float *s = p->scale[NB_GROUP_O];
    if (!has_value_bias(p, layer))
        return NB_OK;
    float *v = nb_alloc((size_t)K, sizeof *v, "a bias", err);
    nb_status st = v ? nb_model_decode_vector(p->m, at, v, err) : NB_NO_ROOM;
    for (int64_t k = 0; st == NB_OK && s && k < K; k++)
        v[k] /= s[input_of_value(p, k)];
    if (st == NB_OK)
        st = write_vector(p, at.role, layer, v, K, err);
    free(v);
    return st;
}

bool nb_pipe_is_folded(const nb_pipe *p, nb_role role)
{
    return p->o->quantizer->input_scales && (role == NB_ROLE_ATTN_NORM || role == NB_ROLE_FFN_NORM || role == NB_ROLE_ATTN_V_BIAS);
}

nb_status nb_pipe_read_folded(nb_pipe *p, int layer, nb_error *err)
{
    nb_frame *f = &p->quantized.layer.frame;
    const nb_hparams *hp = &p->m->hp;
    const int64_t rest = ((int64_t)hp->n_head + hp->n_kv_head) * hp->head_dim, V = (int64_t)hp->n_kv_head * hp->head_dim, d = hp->hidden_size;
    const struct {
        nb_role role;
        float *to;
        int64_t K;
    } row[] = {{NB_ROLE_ATTN_NORM, f->attn_norm, d},
               {NB_ROLE_FFN_NORM, f->ffn_norm, d},
               {NB_ROLE_ATTN_V_BIAS, has_value_bias(p, layer) ? f->bias[NB_GROUP_QKV] + rest : NULL, V}};
    float *v = nb_alloc((size_t)(V > d ? V : d), sizeof *v, "a norm", err);
    nb_status st = v ? NB_OK : NB_NO_ROOM;
    for (size_t i = 0; i < sizeof row / sizeof *row && st == NB_OK && !p->dry; i++) {
        if (!row[i].to)
            continue;
        st = read_vector(p, row[i].role, layer, v, err);
        if (st == NB_OK)
            st = p->be->op->upload(p->be, row[i].to, v, (size_t)row[i].K * sizeof *v, err);
        if (st == NB_OK)
            st = p->be->op->sync(p->be, err);
    }
    free(v);
    return st;
}

nb_status nb_pipe_scale_drift(nb_pipe *p, nb_group_at at, int64_t K, const nb_moments *m, nb_error *err)
{
    const float *s = p->scale[at.g];
    const size_t n = (size_t)(K * K);
    double *c = NULL;
    if (!m->c || !s || at.g == NB_GROUP_QKV || at.g == NB_GROUP_GATE_UP)
        return NB_OK;
    nb_status st = nb_pipe_host(p, 2 * n, sizeof *c, "second moments of the drift", (void **)&c, err);
    if (st == NB_OK)
        st = p->be->op->download(p->be, c, m->c, n * sizeof *c, err);
    if (st == NB_OK)
        st = p->be->op->download(p->be, c + n, m->h, n * sizeof *c, err);
    for (int64_t i = 0; i < K && st == NB_OK && !p->dry; i++)
        for (int64_t j = 0; j < K; j++) {
            const double h = c[n + (size_t)(i * K + j)];
            c[i * K + j] = (c[i * K + j] + h) / (double)s[i] - h;
        }
    if (st == NB_OK)
        st = p->be->op->upload(p->be, m->c, c, n * sizeof *c, err);
    if (st == NB_OK)
        st = p->be->op->sync(p->be, err); /* before c goes */
    nb_pipe_host_free(p, c);
    return st;
}

nb_status nb_pipe_find_scales(nb_pipe *p, int layer, nb_error *err)
{
    struct pass a = {0};
    float *found[NB_GROUP_COUNT] = {0};
    nb_status st = open_pass(p, &a, layer, err);
    for (int32_t i = 0; i < p->calib->n_seq && st == NB_OK; i++)
        st = run_sequence(p, &a, i, err);
    for (int g = 0; g < NB_GROUP_COUNT && st == NB_OK; g++)
        if (wanted(p, (nb_group_id)g)) {
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
    if (st == NB_OK)
        st = fold_value_bias(p, layer, err);
    return st == NB_OK ? nb_pipe_read_folded(p, layer, err) : st;
}

bool nb_pipe_is_scaled(const nb_pipe *p, nb_group_id g)
{
    return p->scale[g] || (g == NB_GROUP_QKV && p->scale[NB_GROUP_O]) || (g == NB_GROUP_GATE_UP && p->scale[NB_GROUP_DOWN]);
}

void nb_pipe_apply_scales(const nb_pipe *p, nb_group_at at, nb_role role, int64_t N, int64_t K, float *w)
{
    const float *in = p->scale[at.g], *out = role == NB_ROLE_ATTN_V ? p->scale[NB_GROUP_O] : role == NB_ROLE_FFN_UP ? p->scale[NB_GROUP_DOWN] : NULL;
    for (int64_t n = 0; n < N && (in || out); n++) {
        const float by = out ? out[role == NB_ROLE_ATTN_V ? input_of_value(p, n) : n] : 1.0f;
        for (int64_t k = 0; k < K; k++)
            w[n * K + k] = w[n * K + k] * (in ? in[k] : 1.0f) / by;
    }
}

void nb_pipe_drop_scales(nb_pipe *p)
{
    for (int g = 0; g < NB_GROUP_COUNT; g++) {
        free(p->scale[g]);
        p->scale[g] = NULL;
    }
}
