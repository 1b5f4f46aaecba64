/* scales.c -- the inputs of a layer's linears, scaled before they are quantized (AWQ; awq.h has the
 * search).
 *
 * One more pass of the layer with its own weights over the quantized stream measures H of every
 * group. Then, with s of a group's inputs,
 *
 *   group      its weights      what divides by s
 *   q,k,v      W[:,k] s_k       the norm before them
 *   o          W[:,k] s_k       the rows of v and its bias; heads that share a head of v share its
 *                               scales
 *   gate,up    W[:,k] s_k       the norm before them
 *   down       W[:,k] s_k       the rows of up: down(act(gate) up) is linear in up
 *
 * and the layer computes what it did. What is divided goes to the sink and is read back: the stream
 * sees what the file holds, in this run and in one that goes on. A norm may be rounded there
 * (BF16), so s becomes the quotient of the two norms: the fold is exact whatever the file's type. A
 * group that is kept is not searched: its inputs stay.
 *
 * Under the drift correction (gptq) the second stream runs through the source's own weights. Its
 * inputs of q,k,v and gate,up go through the divided norm; of o and down they come undivided, and
 * the cross term follows: with A = sum x_orig x^T = C + H,  C' = diag(1/s) A - H. Where W C is
 * summed (moments.c), the op divides them.
 *
 * Mixtures: the norm before the experts is also the router's, whose columns take s as those of
 * every expert's gate and up do; s is searched on rows of all of them, with H of all tokens. Inputs
 * of down have scales of their own in every expert, from the tokens that it is sent; they are
 * measured for as many experts at once as there is room (nb_pipe.batch), each time with another
 * pass of the layer. An expert that saw too little keeps its inputs. */
#include "quant/awq.h"
#include "quant/pipe.h"

#include <stdlib.h>
#include <string.h>

enum { kShared = 512 }; /* rows of all experts' gates, and of their ups, that decide */

/* The pass: one sequence at a time, so a copy of its rows is all it needs. */
struct pass {
    nb_layer layer;
    nb_routing *experts;       /* of a mixture: those whose down is measured */
    bool again;                /* nothing but them */
    float *x;                  /* [ctx, hidden_size] device */
    float *host;               /* the same, host */
    double *h[NB_GROUP_COUNT]; /* [K,K] device; of a mixture's down as many as there are in the
                                * batch */
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
        const size_t n = p->m->hp.n_expert && g == NB_GROUP_DOWN ? (size_t)p->batch : 1,
                     square = n * (size_t)(a->K[g] * a->K[g]) * sizeof(double);
        if (nb_pipe_is_mixed(p, (nb_group_id)g))
            st = nb_experts_load(p->m, (nb_group_id)g, layer,
                                 g == NB_GROUP_DOWN ? &a->layer.down : &a->layer.gate_up, err);
        else
            st = nb_stack_load(p->m, (nb_group_id)g, layer, &a->layer.stack[g], err);
        if (st == NB_OK)
            st = p->be->op->alloc(p->be, square, "second moments of the inputs", (void **)&a->h[g],
                                  err);
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
    nb_experts_close(p->m, &a->layer.gate_up);
    nb_experts_close(p->m, &a->layer.down);
    p->be->op->release(p->be, a->x);
    nb_pipe_host_free(p, a->host);
}

static nb_status gather(nb_pipe *p, const struct pass *a, nb_group_id g, const float *x,
                        nb_error *err)
{
    if (a->experts && g == NB_GROUP_DOWN)
        return nb_routing_add(a->experts, x, err);
    if (a->again)
        return NB_OK;
    nb_gram_args gram = {
        .x = x, .M = p->calib->ctx, .K = a->K[g], .ldx = a->K[g], .ld_orig = a->K[g], .h = a->h[g]};
    nb_status st = nb_pipe_scratch(
        p, p->be->op->gram_scratch ? p->be->op->gram_scratch(p->be, &gram) : 0, err);
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
#define STEP(call)                                                                                 \
    do {                                                                                           \
        s.scratch = p->scratch;                                                                    \
        s.scratch_bytes = p->scratch_bytes;                                                        \
        if (st == NB_OK)                                                                           \
            st = call;                                                                             \
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
    int32_t *tie =
        nb_alloc((size_t)hp->n_head * (size_t)hp->head_dim, sizeof *tie, "tied scales", err);
    for (int32_t k = 0; tie && k < hp->n_head * hp->head_dim; k++)
        tie[k] = k / hp->head_dim / share * hp->head_dim + k % hp->head_dim;
    return tie;
}

/* Scales [K] of the inputs of w [N,K], host, parts of n_part[i] rows each, into s. */
static nb_status search(nb_pipe *p, const float *w, const int64_t *n_part, int64_t K,
                        const double *h, const int32_t *tie, float *s, nb_error *err)
{
    nb_awq_choice choice;
    nb_awq_job job = {.be = p->be,
                      .grid = &p->o->grid,
                      .w = w,
                      .K = K,
                      .h = h,
                      .tie = tie,
                      .feedback = p->o->quantizer->corrects,
                      .damp = p->o->damp,
                      .n_thread = p->o->n_thread};
    for (int i = 0; i < NB_AWQ_PARTS && n_part[i]; i++) {
        job.part[i] = n_part[i];
        job.N += n_part[i];
    }
    return nb_awq_search(&job, s, &choice, err);
}

/* Room for the scales of a group, all 1: put by until all are found, so that each search sees the
 * source's weights. */
static nb_status open_scales(const nb_pipe *p, nb_group_id g, int64_t K, float **out, nb_error *err)
{
    const int64_t n = p->m->hp.n_expert && g == NB_GROUP_DOWN ? p->m->hp.n_expert * K : K;
    *out = nb_alloc((size_t)n, sizeof **out, "scales of inputs", err);
    for (int64_t k = 0; *out && k < n; k++)
        (*out)[k] = 1.0f;
    return *out ? NB_OK : NB_NO_ROOM;
}

/* Of one group, or one expert's. */
static nb_status search_group(nb_pipe *p, nb_group_at at, const double *h, float *s, nb_error *err)
{
    nb_role role[3];
    int64_t K = 0, part[NB_AWQ_PARTS] = {0};
    const int64_t N = nb_pipe_group_shape(p, at.g, &K);
    float *w = NULL;
    int32_t *tie = at.g == NB_GROUP_O ? tie_heads(p, err) : NULL;
    nb_status st = tie || at.g != NB_GROUP_O ? nb_pipe_host(p, (size_t)(N * K), sizeof *w,
                                                            "weights of a layer", (void **)&w, err)
                                             : NB_NO_ROOM;
    for (int i = nb_group_roles(at.g, role) - 1; i >= 0; i--)
        nb_family_shape(&p->m->hp, (nb_slot){.role = role[i]}, &part[i], &K);
    if (st == NB_OK)
        st = nb_pipe_decode(p, at, w, err);
    if (st == NB_OK)
        st = search(p, w, part, K, h, tie, s, err);
    free(tie);
    nb_pipe_host_free(p, w);
    return st;
}

/* Of the input that all experts' gates and ups read: on some rows of each. */
static nb_status search_shared(nb_pipe *p, int layer, const double *h, float *s, nb_error *err)
{
    const int64_t I = p->m->hp.intermediate_size, E = p->m->hp.n_expert,
                  some = kShared / E < 1   ? 1
                         : kShared / E < I ? kShared / E
                                           : I;
    const int64_t part[NB_AWQ_PARTS] = {E * some, E * some};
    int64_t K = 0;
    const int64_t N = nb_pipe_group_shape(p, NB_GROUP_GATE_UP, &K);
    float *w = NULL, *rows = NULL;
    nb_status st =
        nb_pipe_host(p, (size_t)(N * K), sizeof *w, "weights of a layer", (void **)&w, err);
    if (st == NB_OK)
        st = nb_pipe_host(p, (size_t)(2 * E * some * K), sizeof *rows, "rows of experts",
                          (void **)&rows, err);
    for (int e = 0; e < E && st == NB_OK && !p->dry; e++) {
        st = nb_pipe_decode(p, (nb_group_at){NB_GROUP_GATE_UP, layer, e}, w, err);
        for (int64_t i = 0; i < 2 * some && st == NB_OK; i++) {
            const int64_t up = i / some, n = i % some;
            memcpy(rows + (up * E * some + e * some + n) * K, w + (up * I + n * I / some) * K,
                   (size_t)K * sizeof *w);
        }
    }
    if (st == NB_OK)
        st = search(p, rows, part, K, h, NULL, s, err);
    nb_pipe_host_free(p, rows);
    nb_pipe_host_free(p, w);
    return st;
}

/* ---- what is divided ---- */

/* The vector of a role that was written, as the decoder uses it, to `to` [K] host. */
static nb_status read_vector(nb_pipe *p, nb_role role, int layer, float *to, nb_error *err)
{
    nb_matrix m;
    const nb_status st =
        p->sink->op->read(p->sink, (nb_slot){.role = role, .layer = layer}, &m, err);
    if (st == NB_OK)
        nb_dtype_decode_row(m.dtype, m.rows, to, m.K);
    return st;
}

/* v [K] of a role, as the source would hold it, into the sink. */
static nb_status write_vector(nb_pipe *p, nb_role role, int layer, float *v, int64_t K,
                              nb_error *err)
{
    const float offset = nb_family_norm_offset(p->m->family, p->m->container->kind, role);
    const nb_matrix m = {
        .N = 1, .K = K, .dtype = nb_dtype_by_name("f32"), .rows = (const uint8_t *)v};
    for (int64_t k = 0; k < K; k++)
        v[k] -= offset;
    return p->sink->op->dense(p->sink, (nb_slot){.role = role, .layer = layer}, &m, err);
}

/* s := v / what the file holds of v / s. false: somewhere that is no scale any more (the file
 * rounds to 0, say); s is 1 there. */
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
    float *v = nb_alloc(2 * (size_t)K, sizeof *v, "a norm", err), *held = v ? v + K : NULL;
    nb_status st = v ? nb_model_decode_vector(p->m, (nb_slot){.role = role, .layer = layer}, v, err)
                     : NB_NO_ROOM;
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

/* The router reads the norm of gate and up: its columns take their scales. */
static nb_status fold_router(nb_pipe *p, int layer, nb_error *err)
{
    const nb_slot at = {.role = NB_ROLE_ROUTER, .layer = layer};
    const float *s = p->scale[NB_GROUP_GATE_UP];
    nb_matrix a;
    void *made = NULL;
    if (!p->m->hp.n_expert)
        return NB_OK;
    nb_status st = nb_model_matrix(p->m, at, &a, &made, err);
    float *w = st == NB_OK ? nb_alloc((size_t)a.N, (size_t)a.K * sizeof *w, "a router", err) : NULL;
    if (st == NB_OK && !w)
        st = NB_NO_ROOM;
    for (int64_t n = 0; n < a.N && st == NB_OK; n++) {
        nb_dtype_decode_row(a.dtype, a.rows + n * nb_dtype_row_bytes(a.dtype, a.K), w + n * a.K,
                            a.K);
        for (int64_t k = 0; s && k < a.K; k++)
            w[n * a.K + k] *= s[k];
    }
    const nb_matrix scaled = {.N = p->m->hp.n_expert,
                              .K = p->m->hp.hidden_size,
                              .dtype = nb_dtype_by_name("f32"),
                              .rows = (const uint8_t *)w};
    if (st == NB_OK)
        st = p->sink->op->dense(p->sink, at, &scaled, err);
    free(w);
    free(made);
    return st;
}

/* As it was written, into the quantized stream. */
static nb_status read_router(nb_pipe *p, int layer, nb_error *err)
{
    nb_weight **to = &p->quantized.layer.frame.router;
    nb_matrix a;
    if (!p->m->hp.n_expert || p->dry)
        return NB_OK;
    const nb_status st =
        p->sink->op->read(p->sink, (nb_slot){.role = NB_ROLE_ROUTER, .layer = layer}, &a, err);
    if (st != NB_OK)
        return st;
    p->be->op->release_weight(p->be, *to);
    *to = NULL;
    return p->be->op->pack_weight(p->be, &a, 1, to, err);
}

bool nb_pipe_is_folded(const nb_pipe *p, nb_role role)
{
    static const bool folded[NB_ROLE_COUNT] = {[NB_ROLE_ATTN_NORM] = true,
                                               [NB_ROLE_FFN_NORM] = true,
                                               [NB_ROLE_ATTN_V_BIAS] = true,
                                               [NB_ROLE_ROUTER] = true};
    return p->o->quantizer->input_scales && folded[role];
}

nb_status nb_pipe_read_folded(nb_pipe *p, int layer, nb_error *err)
{
    nb_frame *f = &p->quantized.layer.frame;
    const nb_hparams *hp = &p->m->hp;
    const int64_t rest = ((int64_t)hp->n_head + hp->n_kv_head) * hp->head_dim,
                  V = (int64_t)hp->n_kv_head * hp->head_dim, d = hp->hidden_size;
    const struct {
        nb_role role;
        float *to;
        int64_t K;
    } row[] = {
        {NB_ROLE_ATTN_NORM, f->attn_norm, d},
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
    return st == NB_OK ? read_router(p, layer, err) : st;
}

const float *nb_pipe_scales_of(const nb_pipe *p, nb_group_at at)
{
    const bool own = nb_pipe_is_mixed(p, at.g) && at.g == NB_GROUP_DOWN; /* each expert's */
    return p->scale[at.g]
               ? p->scale[at.g] + (own ? (int64_t)at.expert * p->m->hp.intermediate_size : 0)
               : NULL;
}

bool nb_pipe_divides_one_stream(const nb_pipe *p, nb_group_id g)
{
    return p->scale[g] && (g == NB_GROUP_O || g == NB_GROUP_DOWN);
}

nb_status nb_pipe_scale_drift(nb_pipe *p, nb_group_at at, const nb_moments *m, nb_error *err)
{
    const int64_t K = m->K;
    const float *s = nb_pipe_scales_of(p, at);
    const size_t n = (size_t)(K * K);
    double *c = NULL;
    if (!m->c || !nb_pipe_divides_one_stream(p, at.g))
        return NB_OK;
    nb_status st =
        nb_pipe_host(p, 2 * n, sizeof *c, "second moments of the drift", (void **)&c, err);
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

static nb_status run_sequences(nb_pipe *p, struct pass *a, nb_error *err)
{
    nb_status st = NB_OK;
    for (int32_t i = 0; i < p->calib->n_seq && st == NB_OK; i++)
        st = run_sequence(p, a, i, err);
    return st == NB_OK && a->experts ? nb_routing_finish(a->experts, err) : st;
}

/* Passes over the layer, as many as a mixture's down takes; s [NB_GROUP_COUNT]: what was found. */
static nb_status search_experts(nb_pipe *p, struct pass *a, int layer, float *const s[],
                                nb_error *err)
{
    const int E = p->m->hp.n_expert;
    const int64_t K = a->K[NB_GROUP_DOWN];
    int64_t *n_token = nb_alloc_zero((size_t)p->batch, sizeof *n_token, "a routing", err);
    nb_status st = n_token ? NB_OK : NB_NO_ROOM;
    for (int e = 0; e < E && st == NB_OK; e += p->batch) {
        const int n = E - e < p->batch ? E - e : p->batch;
        double *h = a->h[NB_GROUP_DOWN];
        a->again = e > 0;
        st = p->be->op->zero(p->be, h, (size_t)n * (size_t)(K * K) * sizeof *h, err);
        if (st == NB_OK)
            st = nb_routing_open(p, e, n, K, h, n_token, &a->experts, err);
        if (st == NB_OK)
            st = run_sequences(p, a, err);
        for (int i = 0; i < n && st == NB_OK && s[NB_GROUP_DOWN]; i++)
            if (p->dry || !nb_pipe_saw_little(n_token[i], K))
                st = search_group(p, (nb_group_at){NB_GROUP_DOWN, layer, e + i}, h + i * K * K,
                                  s[NB_GROUP_DOWN] + (e + i) * K, err);
        nb_routing_close(a->experts);
        a->experts = NULL;
    }
    free(n_token);
    return st;
}

static nb_status search_all(nb_pipe *p, struct pass *a, int layer, float *const s[], nb_error *err)
{
    const bool mixture = p->m->hp.n_expert != 0;
    nb_status st = mixture ? search_experts(p, a, layer, s, err) : run_sequences(p, a, err);
    for (int g = 0; g < NB_GROUP_COUNT && st == NB_OK; g++)
        if (s[g] && mixture && g == NB_GROUP_GATE_UP)
            st = search_shared(p, layer, a->h[g], s[g], err);
        else if (s[g] && !nb_pipe_is_mixed(p, (nb_group_id)g))
            st = search_group(p, (nb_group_at){(nb_group_id)g, layer, 0}, a->h[g], s[g], err);
    return st;
}

nb_status nb_pipe_find_scales(nb_pipe *p, int layer, nb_error *err)
{
    struct pass a = {0};
    float *found[NB_GROUP_COUNT] = {0};
    nb_status st = open_pass(p, &a, layer, err);
    for (int g = 0; g < NB_GROUP_COUNT && st == NB_OK; g++)
        if (wanted(p, (nb_group_id)g))
            st = open_scales(p, (nb_group_id)g, a.K[g], &found[g], err);
    if (st == NB_OK)
        st = search_all(p, &a, layer, found, err);
    memcpy(p->scale, found, sizeof found);
    close_pass(p, &a);
    if (st == NB_OK)
        st = fold_norm(p, NB_ROLE_ATTN_NORM, p->scale[NB_GROUP_QKV], layer, err);
    if (st == NB_OK)
        st = fold_norm(p, NB_ROLE_FFN_NORM, p->scale[NB_GROUP_GATE_UP], layer, err);
    if (st == NB_OK)
        st = fold_value_bias(p, layer, err);
    if (st == NB_OK)
        st = fold_router(p, layer, err);
    return st == NB_OK ? nb_pipe_read_folded(p, layer, err) : st;
}

bool nb_pipe_is_scaled(const nb_pipe *p, nb_group_id g)
{
    return p->scale[g] || (g == NB_GROUP_QKV && p->scale[NB_GROUP_O]) ||
           (g == NB_GROUP_GATE_UP && p->scale[NB_GROUP_DOWN]);
}

void nb_pipe_apply_scales(const nb_pipe *p, nb_group_at at, nb_role role, int64_t N, int64_t K,
                          float *w)
{
    const float *in = nb_pipe_scales_of(p, at),
                *out = role == NB_ROLE_ATTN_V ? p->scale[NB_GROUP_O]
                       : role == NB_ROLE_FFN_UP
                           ? nb_pipe_scales_of(p, (nb_group_at){NB_GROUP_DOWN, at.layer, at.expert})
                           : NULL;
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
