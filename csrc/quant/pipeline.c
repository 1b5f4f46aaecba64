/* pipeline.c -- one-pass true-sequential quantization (quantizers.md 2.3): every linear is evaluated once on the calibration tokens, behind
 * predecessors that are already quantized.
 *
 *   for each layer:   attn_norm -> H of q,k,v -> quantize them -> attention with them -> H of o -> quantize o -> residual
 *                     ffn_norm  -> H of gate,up -> quantize -> gated activation -> H of down -> quantize down -> residual
 *
 * With the drift correction a second stream runs beside it through the original weights; the Hessian comes from the quantized stream (X), the cross
 * term C = (X_orig - X)^T X from both. Each stage below handles all sequences before the next begins, so a stream's activations are kept whole:
 * x [T, hidden], and the input of the next linear (mid) [T, max(n_head head_dim, intermediate)]. */
#include "quant/pipeline.h"
#include "base/clock.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct stream {      /* activations of all calibration tokens through one set of weights */
    float *x;        /* [T, hidden_size] */
    float *mid;      /* [T, n_head head_dim] after attention, [T, intermediate_size] after the gate */
    nb_layer layer;  /* the weights it runs through; norms are shared */
};

struct pipe {
    nb_model *m;
    nb_backend *be;
    const nb_pipeline_options *o;
    const nb_calib *calib;
    nb_gguf_writer *w;
    int64_t T;
    struct stream quantized, original;
    bool two; /* the original stream runs */
    nb_acts acts;
    nb_kv kv;
    double *h, *c; /* [K,K] device, of the widest K */
    void *scratch;
    size_t scratch_bytes;
    nb_linear_report *report;
    int64_t n_report;
};

int64_t nb_pipeline_index(const nb_model *m, nb_role role, int layer)
{
    char name[128];
    const nb_tensor *t = nb_family_tensor(m->family, m->container, role, layer, name);
    return t ? t - m->container->tensor : -1;
}

bool nb_pipeline_fits(const nb_model *m, nb_group_id g, const nb_grid *grid)
{
    nb_role role[3];
    int64_t N, K;
    nb_group_roles(g, role);
    nb_family_shape(&m->hp, role[0], &N, &K);
    return grid->dtype && K % grid->dtype->block == 0;
}

static int64_t max3(int64_t a, int64_t b, int64_t c)
{
    const int64_t m = a > b ? a : b;
    return m > c ? m : c;
}

/* Scratch grows to the largest request; ops run in order, so they share it. */
static nb_status need_scratch(struct pipe *p, size_t bytes, nb_error *err)
{
    if (bytes <= p->scratch_bytes)
        return NB_OK;
    p->be->op->release(p->be, p->scratch);
    p->scratch = NULL;
    p->scratch_bytes = 0;
    const nb_status st = p->be->op->alloc(p->be, bytes, "scratch of the quantizer", &p->scratch, err);
    if (st == NB_OK)
        p->scratch_bytes = bytes;
    return st;
}

/* ---- walking the sequences ---- */

typedef nb_status (*stage_fn)(const struct pipe *p, const nb_step *s, const struct stream *t, int64_t row, nb_error *err);

/* Runs a stage over every sequence of a stream. Sequence i has the rows [i ctx, (i + 1) ctx). */
static nb_status each_sequence(struct pipe *p, const struct stream *t, stage_fn stage, nb_error *err)
{
    const int32_t ctx = p->calib->ctx;
    const nb_batch batch = {.n_token = ctx, .seq = p->acts.seq, .pos = p->acts.pos, .max_len = ctx};
    nb_status st = NB_OK;
    size_t need = p->acts.scratch_bytes;
    for (int g = 0; g < NB_GROUP_COUNT; g++)
        for (int i = 0; i < t->layer.stack[g].n_weight; i++) {
            const nb_linear_args a = {.M = ctx, .w = t->layer.stack[g].w[i]};
            const size_t n = p->be->op->linear_scratch(p->be, &a);
            need = n > need ? n : need;
        }
    st = need_scratch(p, need, err);
    for (int32_t i = 0; i < p->calib->n_seq && st == NB_OK; i++) {
        const nb_step s = {.m = p->m, .layer = &t->layer, .batch = &batch, .kv = &p->kv, .scratch = p->scratch,
                           .scratch_bytes = p->scratch_bytes};
        st = stage(p, &s, t, (int64_t)i * ctx, err);
    }
    return st;
}

static int64_t q_width(const struct pipe *p)
{
    return (int64_t)p->m->hp.n_head * p->m->hp.head_dim;
}

static nb_status stage_attention(const struct pipe *p, const nb_step *s, const struct stream *t, int64_t row, nb_error *err)
{
    nb_status st = nb_attn_norm(s, t->x + row * p->m->hp.hidden_size, p->acts.h, err);
    if (st == NB_OK)
        st = nb_attn_mix(s, p->acts.h, p->acts.qkv, t->mid + row * q_width(p), err);
    return st;
}

static nb_status stage_attention_out(const struct pipe *p, const nb_step *s, const struct stream *t, int64_t row, nb_error *err)
{
    return nb_attn_out(s, t->mid + row * q_width(p), t->x + row * p->m->hp.hidden_size, err);
}

static nb_status stage_ffn(const struct pipe *p, const nb_step *s, const struct stream *t, int64_t row, nb_error *err)
{
    nb_status st = nb_ffn_norm(s, t->x + row * p->m->hp.hidden_size, p->acts.h, err);
    if (st == NB_OK)
        st = nb_ffn_mix(s, p->acts.h, p->acts.gu, t->mid + row * p->m->hp.intermediate_size, err);
    return st;
}

static nb_status stage_ffn_out(const struct pipe *p, const nb_step *s, const struct stream *t, int64_t row, nb_error *err)
{
    return nb_ffn_out(s, t->mid + row * p->m->hp.intermediate_size, t->x + row * p->m->hp.hidden_size, err);
}

/* ---- statistics ---- */

/* The rows of one sequence that enter group g, in t's stream: normed into `to`, or in mid as they are. */
static nb_status group_input(const struct pipe *p, nb_group_id g, const struct stream *t, int64_t row, const nb_step *s, float *to,
                             const float **out, nb_error *err)
{
    const float *x = t->x + row * p->m->hp.hidden_size;
    *out = to;
    switch (g) {
    case NB_GROUP_QKV:
        return nb_attn_norm(s, x, to, err);
    case NB_GROUP_GATE_UP:
        return nb_ffn_norm(s, x, to, err);
    case NB_GROUP_O:
        *out = t->mid + row * q_width(p);
        return NB_OK;
    default:
        *out = t->mid + row * p->m->hp.intermediate_size;
        return NB_OK;
    }
}

static nb_status gather(struct pipe *p, nb_group_id g, int64_t K, nb_error *err)
{
    const int32_t ctx = p->calib->ctx;
    const nb_batch batch = {.n_token = ctx, .seq = p->acts.seq, .pos = p->acts.pos, .max_len = ctx};
    const nb_step s = {.m = p->m, .layer = &p->quantized.layer, .batch = &batch};
    nb_gram_args a = {.M = ctx, .K = K, .ldx = K, .ld_orig = K, .h = p->h, .c = p->two ? p->c : NULL, .x_orig = p->two ? p->original.x : NULL};
    nb_status st = need_scratch(p, p->be->op->gram_scratch ? p->be->op->gram_scratch(p->be, &a) : 0, err);
    if (st == NB_OK)
        st = p->be->op->zero(p->be, p->h, (size_t)(K * K) * sizeof(double), err);
    if (st == NB_OK && p->two)
        st = p->be->op->zero(p->be, p->c, (size_t)(K * K) * sizeof(double), err);
    a.scratch = p->scratch;
    for (int32_t i = 0; i < p->calib->n_seq && st == NB_OK; i++) {
        const int64_t row = (int64_t)i * ctx;
        a.x_orig = NULL;
        st = group_input(p, g, &p->quantized, row, &s, p->acts.h, &a.x, err);
        if (st == NB_OK && p->two) /* qkv's buffer is free here and wider than hidden_size */
            st = group_input(p, g, &p->original, row, &s, p->acts.qkv, &a.x_orig, err);
        if (st == NB_OK)
            st = p->be->op->gram_accumulate(p->be, &a, err);
    }
    return st;
}

/* ---- one group of linears ---- */

/* Host and device buffers of a group's job. */
struct work {
    int64_t N, K, G;
    float *host;        /* [N,K] the original weights, then the dequantized ones */
    uint8_t *codes;     /* [N,K] host */
    nb_group *groups;   /* [N,G] host */
    float *w, *q, *rtn; /* [N,K] device */
    uint8_t *d_codes;
    nb_group *d_groups;
};

static void work_close(struct pipe *p, struct work *k)
{
    free(k->host);
    free(k->codes);
    free(k->groups);
    void *device[] = {k->w, k->q, k->rtn, k->d_codes, k->d_groups};
    for (size_t i = 0; i < sizeof device / sizeof *device; i++)
        p->be->op->release(p->be, device[i]);
}

static nb_status work_open(struct pipe *p, struct work *k, nb_error *err)
{
    const size_t n = (size_t)(k->N * k->K), n_group = (size_t)(k->N * k->G);
    k->host = nb_alloc_aligned(n, sizeof(float), "weights of a layer", err);
    k->codes = nb_alloc(n, 1, "codes of a layer", err);
    k->groups = nb_alloc(n_group, sizeof(nb_group), "scales of a layer", err);
    if (!k->host || !k->codes || !k->groups)
        return NB_NO_ROOM;
    const struct {
        void **to;
        size_t bytes;
    } device[] = {{(void **)&k->w, n * 4},
                  {(void **)&k->q, n * 4},
                  {(void **)&k->rtn, n * 4},
                  {(void **)&k->d_codes, n},
                  {(void **)&k->d_groups, n_group * sizeof(nb_group)}};
    nb_status st = NB_OK;
    for (size_t i = 0; i < sizeof device / sizeof *device && st == NB_OK; i++)
        st = p->be->op->alloc(p->be, device[i].bytes, "weights of a layer", device[i].to, err);
    return st;
}

/* Decodes the group's matrices, stacked. A value that is not finite names its tensor: a checkpoint like that must not be quantized silently. */
static nb_status decode_group(struct pipe *p, const nb_role *role, int n_role, int layer, float *to, nb_error *err)
{
    nb_status st = NB_OK;
    int64_t bad = -1;
    for (int i = 0; i < n_role && st == NB_OK; i++) {
        nb_matrix a;
        st = nb_model_matrix(p->m, role[i], layer, &a, err);
        if (st != NB_OK)
            break;
        const int64_t row_bytes = nb_dtype_row_bytes(a.dtype, a.K);
#pragma omp parallel for num_threads(p->o->n_thread) schedule(static) reduction(max : bad)
        for (int64_t n = 0; n < a.N; n++) {
            nb_dtype_decode_row(a.dtype, a.rows + n * row_bytes, to + n * a.K, a.K);
            for (int64_t k = 0; k < a.K; k++)
                if (!isfinite(to[n * a.K + k]))
                    bad = n;
        }
        if (bad >= 0) {
            char name[128];
            (void)nb_family_tensor(p->m->family, p->m->container, role[i], layer, name);
            st = nb_fail_at(err, NB_BAD_INPUT, p->m->container->path, -1, "tensor %s holds NaN or Inf in row %lld", name, (long long)bad);
        }
        to += a.N * a.K;
    }
    return st;
}

/* The error of rows [n0, n0 + N) of the job, for the report: both measured against the weights the sweep was given. */
static nb_status linear_error(struct pipe *p, const struct work *k, int64_t n0, int64_t N, nb_linear_report *r, nb_error *err)
{
    double base = 0, rtn = 0, got = 0;
    nb_quant_error_args a = {.w = k->w + n0 * k->K, .N = N, .K = k->K, .h = p->h, .out = &base};
    nb_status st = nb_op_check(p->be, p->be->op->quant_error != NULL, "quant_error", err);
    if (st == NB_OK)
        st = need_scratch(p, p->be->op->quant_error_scratch ? p->be->op->quant_error_scratch(p->be, &a) : 0, err);
    a.scratch = p->scratch;
    if (st == NB_OK)
        st = p->be->op->quant_error(p->be, &a, err);
    a.q = k->q + n0 * k->K;
    a.out = &got;
    if (st == NB_OK)
        st = p->be->op->quant_error(p->be, &a, err);
    a.q = k->rtn + n0 * k->K;
    a.out = &rtn;
    if (st == NB_OK)
        st = p->be->op->quant_error(p->be, &a, err);
    r->error = base > 0.0 ? got / base : 0.0;
    r->error_rtn = base > 0.0 ? rtn / base : 0.0;
    return st;
}

/* Codes and groups of rows [n0, n0 + N) as blocks of the grid's format, into the file. */
static nb_status write_linear(struct pipe *p, const struct work *k, int64_t n0, int64_t N, int64_t index, nb_error *err)
{
    const nb_dtype *t = p->o->grid.dtype;
    const int64_t row_bytes = nb_dtype_row_bytes(t, k->K);
    uint8_t *out = nb_alloc((size_t)N, (size_t)row_bytes, "a packed tensor", err);
    float *scale = nb_alloc((size_t)(2 * k->G), sizeof *scale, "scales of a row", err), *min = scale ? scale + k->G : NULL;
    nb_status st = out && scale ? NB_OK : NB_NO_ROOM;
    for (int64_t n = 0; n < N && st == NB_OK; n++) {
        const nb_group *g = k->groups + (n0 + n) * k->G;
        for (int64_t i = 0; i < k->G; i++) {
            scale[i] = g[i].scale;
            min[i] = g[i].min;
        }
        t->join(k->codes + (n0 + n) * k->K, scale, min, k->K / t->block, out + n * row_bytes);
    }
    if (st == NB_OK)
        st = nb_gguf_writer_data(p->w, (int)index, 0, out, (size_t)(N * row_bytes), err);
    free(out);
    free(scale);
    return st;
}

static nb_status report_group(struct pipe *p, const struct work *k, const nb_role *role, int n_role, int layer, bool calibrated,
                              const char *note, nb_error *err)
{
    const nb_quantize_rows_args rtn = {.w = k->w, .N = k->N, .K = k->K, .grid = &p->o->grid, .groups = k->d_groups, .codes = k->d_codes};
    const nb_dequantize_args deq = {.codes = k->d_codes, .groups = k->d_groups, .N = k->N, .K = k->K, .grid = &p->o->grid, .q = k->rtn};
    nb_status st = NB_OK;
    if (calibrated) { /* the job's own codes are on the host by now */
        st = p->be->op->quantize_rows(p->be, &rtn, err);
        if (st == NB_OK)
            st = p->be->op->dequantize(p->be, &deq, err);
    }
    int64_t n0 = 0;
    for (int i = 0; i < n_role && st == NB_OK; i++) {
        int64_t N, K;
        nb_linear_report *r = &p->report[p->n_report++];
        nb_family_shape(&p->m->hp, role[i], &N, &K);
        (void)nb_family_tensor(p->m->family, p->m->container, role[i], layer, r->name);
        r->bits_per_weight = 8.0 * (double)p->o->grid.dtype->bytes / (double)p->o->grid.dtype->block;
        r->error = r->error_rtn = (double)NAN;
        snprintf(r->note, sizeof r->note, "%s", note);
        if (calibrated)
            st = linear_error(p, k, n0, N, r, err);
        if (st == NB_OK)
            st = write_linear(p, k, n0, N, nb_pipeline_index(p->m, role[i], layer), err);
        n0 += N;
    }
    return st;
}

/* A group whose K is no multiple of the block stays F16, by name: llama.cpp's fallback. */
static nb_status keep_group(struct pipe *p, const nb_role *role, int n_role, int layer, nb_group_id g, nb_error *err)
{
    const nb_dtype *f16 = nb_dtype_by_name("f16");
    nb_status st = NB_OK;
    for (int i = 0; i < n_role && st == NB_OK; i++) {
        nb_linear_report *r = &p->report[p->n_report++];
        (void)nb_family_tensor(p->m->family, p->m->container, role[i], layer, r->name);
        r->bits_per_weight = 16.0;
        r->error = r->error_rtn = (double)NAN;
        snprintf(r->note, sizeof r->note, "kept f16: its width is no multiple of %d", p->o->grid.dtype->block);
        st = nb_gguf_out_convert(p->m->container, nb_pipeline_index(p->m, role[i], layer), f16, p->w, p->o->n_thread, err);
    }
    if (st == NB_OK && p->calib)
        st = nb_stack_load(p->m, g, layer, &p->quantized.layer.stack[g], err);
    return st;
}

static nb_status quantize_group(struct pipe *p, nb_group_id g, int layer, nb_error *err)
{
    nb_role role[3];
    const int n_role = nb_group_roles(g, role);
    struct work k = {0};
    for (int i = 0; i < n_role; i++) {
        int64_t N;
        nb_family_shape(&p->m->hp, role[i], &N, &k.K);
        k.N += N;
    }
    nb_status st = p->two ? nb_stack_load(p->m, g, layer, &p->original.layer.stack[g], err) : NB_OK;
    if (st != NB_OK)
        return st;
    if (!nb_pipeline_fits(p->m, g, &p->o->grid))
        return keep_group(p, role, n_role, layer, g, err);
    const int64_t group = p->o->grid.group ? p->o->grid.group : k.K;
    k.G = (k.K + group - 1) / group;
    nb_quant_stats stats = {0};
    nb_quant_job job = {.be = p->be, .grid = &p->o->grid, .N = k.N, .K = k.K, .n_token = p->T, .damp = p->o->damp,
                        .correction = p->o->correction, .static_groups = p->o->static_groups, .stats = &stats};
    st = work_open(p, &k, err);
    if (st == NB_OK)
        st = decode_group(p, role, n_role, layer, k.host, err);
    if (st == NB_OK)
        st = p->be->op->upload(p->be, k.w, k.host, (size_t)(k.N * k.K) * sizeof(float), err);
    if (st == NB_OK && p->calib)
        st = gather(p, g, k.K, err);
    if (st == NB_OK) {
        job.w = k.w;
        job.q = k.q;
        job.codes = k.d_codes;
        job.groups = k.d_groups;
        job.h = p->calib ? p->h : NULL;
        job.c = p->two ? p->c : NULL;
        st = p->o->quantizer->layer(&job, err);
    }
    if (st == NB_OK)
        st = p->be->op->download(p->be, k.codes, k.d_codes, (size_t)(k.N * k.K), err);
    if (st == NB_OK)
        st = p->be->op->download(p->be, k.groups, k.d_groups, (size_t)(k.N * k.G) * sizeof(nb_group), err);
    if (st == NB_OK && p->calib) {
        st = p->be->op->download(p->be, k.host, k.q, (size_t)(k.N * k.K) * sizeof(float), err);
        if (st == NB_OK)
            st = nb_stack_from_f32(p->be, k.host, k.N, k.K, &p->quantized.layer.stack[g], err);
    }
    if (st == NB_OK)
        st = report_group(p, &k, role, n_role, layer, p->calib != NULL, stats.note, err);
    work_close(p, &k);
    return st;
}

/* ---- a layer ---- */

static nb_status both_streams(struct pipe *p, stage_fn stage, nb_error *err)
{
    nb_status st = each_sequence(p, &p->quantized, stage, err);
    if (st == NB_OK && p->two)
        st = each_sequence(p, &p->original, stage, err);
    return st;
}

static void close_layer(struct pipe *p)
{
    p->be->op->release(p->be, p->quantized.layer.attn_norm);
    p->be->op->release(p->be, p->quantized.layer.ffn_norm);
    for (int g = 0; g < NB_GROUP_COUNT; g++) {
        nb_stack_close(p->be, &p->quantized.layer.stack[g]);
        nb_stack_close(p->be, &p->original.layer.stack[g]);
    }
    memset(&p->quantized.layer, 0, sizeof p->quantized.layer);
    memset(&p->original.layer, 0, sizeof p->original.layer);
}

static nb_status run_layer(struct pipe *p, int layer, nb_error *err)
{
    static const stage_fn after[NB_GROUP_COUNT] = {stage_attention, stage_attention_out, stage_ffn, stage_ffn_out};
    nb_layer *y = &p->quantized.layer;
    nb_status st = nb_model_vector(p->m, NB_ROLE_ATTN_NORM, layer, &y->attn_norm, err);
    if (st == NB_OK)
        st = nb_model_vector(p->m, NB_ROLE_FFN_NORM, layer, &y->ffn_norm, err);
    p->original.layer.attn_norm = y->attn_norm;
    p->original.layer.ffn_norm = y->ffn_norm;
    for (int g = 0; g < NB_GROUP_COUNT && st == NB_OK; g++) {
        st = quantize_group(p, (nb_group_id)g, layer, err);
        if (st == NB_OK && p->o->stop && *p->o->stop)
            st = nb_fail(err, NB_INTERRUPTED, "stopped in layer %d, nothing was written under the final name", layer);
        if (st == NB_OK && p->calib)
            st = both_streams(p, after[g], err);
    }
    close_layer(p);
    return st;
}

/* ---- the whole ---- */

static nb_status open_streams(struct pipe *p, nb_error *err)
{
    const nb_hparams *hp = &p->m->hp;
    const size_t T = (size_t)p->T, mid = (size_t)max3(q_width(p), hp->intermediate_size, 0);
    const size_t K = (size_t)max3(hp->hidden_size, q_width(p), hp->intermediate_size);
    const int32_t ctx = p->calib->ctx;
    nb_backend *be = p->be;
    nb_status st = nb_acts_open(p->m, ctx, ctx, &p->acts, err);
    if (st == NB_OK)
        st = nb_kv_open(be, hp, 1, ctx, &p->kv, err);
    const struct {
        void **to;
        size_t bytes;
        bool wanted;
    } buffer[] = {{(void **)&p->quantized.x, T * (size_t)hp->hidden_size * 4, true},
                  {(void **)&p->quantized.mid, T * mid * 4, true},
                  {(void **)&p->original.x, T * (size_t)hp->hidden_size * 4, p->two},
                  {(void **)&p->original.mid, T * mid * 4, p->two},
                  {(void **)&p->h, K * K * 8, true},
                  {(void **)&p->c, K * K * 8, p->two}};
    for (size_t i = 0; i < sizeof buffer / sizeof *buffer && st == NB_OK; i++)
        if (buffer[i].wanted)
            st = be->op->alloc(be, buffer[i].bytes, "calibration activations", buffer[i].to, err);
    int32_t *host = nb_alloc_zero(2 * (size_t)ctx, sizeof *host, "positions", err);
    if (!host)
        st = NB_NO_ROOM;
    for (int32_t i = 0; i < ctx && st == NB_OK; i++)
        host[ctx + i] = i;
    if (st == NB_OK)
        st = be->op->upload(be, p->acts.seq, host, (size_t)ctx * 4, err);
    if (st == NB_OK)
        st = be->op->upload(be, p->acts.pos, host + ctx, (size_t)ctx * 4, err);
    free(host);
    for (int32_t i = 0; i < p->calib->n_seq && st == NB_OK; i++) {
        const int64_t row = (int64_t)i * ctx;
        st = be->op->upload(be, p->acts.ids, p->calib->ids + row, (size_t)ctx * 4, err);
        if (st == NB_OK)
            st = nb_embed_tokens(p->m, p->acts.ids, ctx, p->quantized.x + row * hp->hidden_size, err);
        if (st == NB_OK && p->two)
            st = nb_embed_tokens(p->m, p->acts.ids, ctx, p->original.x + row * hp->hidden_size, err);
    }
    return st;
}

static void say(struct pipe *p, int layer, int64_t start_ns)
{
    char line[256];
    double worst = 0.0, ratio = 0.0;
    int n = 0;
    for (int64_t i = p->n_report - 7 > 0 ? p->n_report - 7 : 0; i < p->n_report; i++)
        if (isfinite(p->report[i].error)) {
            worst = p->report[i].error > worst ? p->report[i].error : worst;
            ratio += p->report[i].error_rtn > 0.0 ? p->report[i].error / p->report[i].error_rtn : 1.0;
            n++;
        }
    const double spent = (double)(nb_clock_ns() - start_ns) * 1e-9;
    const double eta = spent / (layer + 1) * (p->m->hp.n_layer - layer - 1);
    if (n)
        snprintf(line, sizeof line, "layer %d: worst error %.2e, %.2f of rounding's", layer, worst, ratio / n);
    else
        snprintf(line, sizeof line, "layer %d", layer);
    p->o->progress(p->o->arg, line, layer + 1, p->m->hp.n_layer, eta);
}

nb_status nb_pipeline_run(nb_model *m, const nb_pipeline_options *o, const nb_calib *calib, nb_gguf_writer *w,
                          nb_linear_report *report, int64_t *n_report, nb_error *err)
{
    struct pipe p = {.m = m, .be = m->be, .o = o, .calib = calib, .w = w, .report = report};
    p.T = calib ? (int64_t)calib->n_seq * calib->ctx : 0;
    p.two = calib && o->correction > 0.0;
    nb_status st = calib ? open_streams(&p, err) : NB_OK;
    const int64_t start = nb_clock_ns();
    for (int l = 0; l < m->hp.n_layer && st == NB_OK; l++) {
        st = run_layer(&p, l, err);
        if (st == NB_OK && o->progress)
            say(&p, l, start);
    }
    nb_acts_close(p.be, &p.acts);
    nb_kv_close(p.be, &p.kv);
    void *buffer[] = {p.quantized.x, p.quantized.mid, p.original.x, p.original.mid, p.h, p.c, p.scratch};
    for (size_t i = 0; i < sizeof buffer / sizeof *buffer; i++)
        p.be->op->release(p.be, buffer[i]);
    *n_report = p.n_report;
    return st;
}
