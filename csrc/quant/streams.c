/* streams.c -- the activations of the calibration tokens, stage by stage.
 *
 * A stage handles all sequences before the next begins, so a stream's activations are kept whole: x
 * [T, hidden], and the input of the next linear (mid) [T, max(n_head head_dim, nb_act_width)].
 * Sequence i has the rows [i ctx, (i + 1) ctx). */
#include "backend/kv.h"
#include "base/clock.h"
#include "quant/pipe.h"

#include <stdlib.h>

static int64_t q_width(const nb_pipe *p)
{
    return (int64_t)p->m->hp.n_head * p->m->hp.head_dim;
}

/* ---- stages: x and mid are the rows of one sequence ---- */

static nb_status stage_attention(const nb_pipe *p, const nb_step *s, float *x, float *mid,
                                 nb_error *err)
{
    nb_status st = nb_attn_norm(s, x, p->acts.h, err);
    if (st == NB_OK)
        st = nb_attn_mix(s, p->acts.h, p->acts.qkv, mid, err);
    return st;
}

static nb_status stage_attention_out(const nb_pipe *p, const nb_step *s, float *x, float *mid,
                                     nb_error *err)
{
    (void)p;
    return nb_attn_out(s, mid, x, err);
}

static nb_status stage_ffn(const nb_pipe *p, const nb_step *s, float *x, float *mid, nb_error *err)
{
    nb_status st = nb_ffn_norm(s, x, p->acts.h, err);
    if (st == NB_OK)
        st = nb_ffn_mix(s, p->acts.h, p->acts.gu, mid, err);
    return st;
}

static nb_status stage_ffn_out(const nb_pipe *p, const nb_step *s, float *x, float *mid,
                               nb_error *err)
{
    (void)p;
    return nb_ffn_out(s, mid, x, err);
}

/* What runs behind each group: from x to mid, or with mid into x. */
static const struct {
    nb_status (*run)(const nb_pipe *p, const nb_step *s, float *x, float *mid, nb_error *err);
    bool into_x; /* mid is read and x changes; else x is read and mid written */
} after[NB_GROUP_COUNT] = {
    [NB_GROUP_QKV] = {stage_attention, false},
    [NB_GROUP_O] = {stage_attention_out, true},
    [NB_GROUP_GATE_UP] = {stage_ffn, false},
    [NB_GROUP_DOWN] = {stage_ffn_out, true},
};

static int64_t mid_width(const nb_pipe *p, nb_group_id g)
{
    return g == NB_GROUP_QKV || g == NB_GROUP_O ? q_width(p) : nb_act_width(&p->m->hp);
}

/* Runs a stage over every sequence of a stream. */
static nb_status each_sequence(nb_pipe *p, nb_stream *t, nb_group_id g, nb_error *err)
{
    const int32_t ctx = p->calib->ctx;
    const int64_t d = p->m->hp.hidden_size, width = mid_width(p, g);
    const nb_batch batch = {.n_token = ctx, .seq = p->acts.seq, .pos = p->acts.pos, .max_len = ctx};
    const size_t layer = nb_layer_scratch(p->m, &t->layer, ctx, ctx),
                 need = layer > p->acts.scratch_bytes ? layer : p->acts.scratch_bytes;
    nb_status st = nb_pipe_scratch(p, need, err);
    for (int32_t i = 0; i < p->calib->n_seq && st == NB_OK; i++) {
        float *x = NULL, *mid = NULL;
        const nb_step s = {.m = p->m,
                           .layer = &t->layer,
                           .batch = &batch,
                           .kv = &p->kv,
                           .scratch = p->scratch,
                           .scratch_bytes = p->scratch_bytes};
        st = nb_rows_get(p, &t->x, i, d, true, &x, err);
        if (st == NB_OK)
            st = nb_rows_get(p, &t->mid, i, width, after[g].into_x, &mid, err);
        if (st == NB_OK)
            st = after[g].run(p, &s, x, mid, err);
        if (st == NB_OK)
            st = after[g].into_x ? nb_rows_put(p, &t->x, i, d, err)
                                 : nb_rows_put(p, &t->mid, i, width, err);
    }
    nb_pipe_drop_weights(p, t, g);
    return st;
}

void nb_pipe_drop_weights(nb_pipe *p, nb_stream *t, nb_group_id g)
{
    nb_stack_close(p->be, &t->layer.stack[g]);
    if (g == NB_GROUP_GATE_UP)
        nb_experts_close(p->m, &t->layer.gate_up);
    if (g == NB_GROUP_DOWN)
        nb_experts_close(p->m, &t->layer.down);
}

nb_status nb_pipe_advance(nb_pipe *p, nb_group_id g, nb_error *err)
{
    const int64_t start = nb_clock_ns();
    nb_status st = each_sequence(p, &p->quantized, g, err);
    if (st == NB_OK && p->two)
        st = each_sequence(p, &p->original, g, err);
    p->token_ns += nb_clock_ns() - start;
    return st;
}

/* ---- statistics ---- */

nb_status nb_pipe_input(nb_pipe *p, nb_group_id g, const nb_stream *t, int32_t i, const nb_step *s,
                        float *to, const float **out, nb_error *err)
{
    const bool normed = g == NB_GROUP_QKV || g == NB_GROUP_GATE_UP;
    float *rows = NULL;
    const nb_status st = normed ? nb_rows_get(p, &t->x, i, p->m->hp.hidden_size, true, &rows, err)
                                : nb_rows_get(p, &t->mid, i, mid_width(p, g), true, &rows, err);
    *out = normed ? to : rows;
    if (st != NB_OK || !normed)
        return st;
    return g == NB_GROUP_QKV ? nb_attn_norm(s, rows, to, err) : nb_ffn_norm(s, rows, to, err);
}

/* Sequences whose inputs wait for a call of gram, side by side in `room`: x [n ctx,K], then x_orig;
 * lengths for limit_rows behind. At large K the call reads and writes H and C from memory, so it
 * gets more tokens than a sequence of 512 has. Only limited inputs are kept apart from the
 * activations, which stay what they are; others go a sequence at a time, as they lie. */
struct waiting {
    int32_t n, most;
    float *room;
    size_t bytes;
};

static struct waiting waiting_of(const nb_pipe *p, int64_t K)
{
    enum { kTokens = 1024 };
    const int32_t ctx = p->calib->ctx, n = ctx < kTokens ? kTokens / ctx : 1,
                  most = n < p->calib->n_seq ? n : p->calib->n_seq;
    if (!(p->o->token_limit > 0.0))
        return (struct waiting){.most = 1};
    const int64_t tokens = (int64_t)most * ctx;
    return (struct waiting){.most = most,
                            .bytes = (size_t)(2 * tokens * K) * sizeof(float) +
                                     (size_t)(ctx + 1) * sizeof(double)};
}

/* The inputs of one more sequence, of which no row is longer than the limit. */
static nb_status limited(nb_pipe *p, const nb_token_rows *t, int64_t K, struct waiting *w,
                         nb_error *err)
{
    const int64_t ctx = p->calib->ctx, one = ctx * K, all = w->most * one;
    const nb_limit_rows_args l = {.x = t->x,
                                  .x_orig = t->x_orig,
                                  .M = ctx,
                                  .K = K,
                                  .limit = (float)p->o->token_limit,
                                  .y = w->room + w->n * one,
                                  .y_orig = t->x_orig ? w->room + all + w->n * one : NULL,
                                  .scratch = (double *)(void *)(w->room + 2 * all)};
    w->n++;
    return p->be->op->limit_rows(p->be, &l, err);
}

/* Adds what waits to the moments. */
static nb_status accumulate(nb_pipe *p, const nb_moments *s, nb_token_rows *t, struct waiting *w,
                            nb_error *err)
{
    const int64_t ctx = p->calib->ctx;
    t->M = ctx;
    if (w->bytes) {
        t->M = w->n * ctx;
        t->x = w->room;
        t->x_orig = t->x_orig ? w->room + w->most * ctx * s->K : NULL;
    }
    w->n = 0;
    return nb_moments_add(p, s, t, err);
}

enum { kAlign = 256 }; /* of arrays that share an allocation, on every device */

nb_status nb_pipe_gather(nb_pipe *p, nb_group_id g, nb_moments *out, nb_error *err)
{
    const int64_t start = nb_clock_ns();
    const int32_t ctx = p->calib->ctx, n_seq = p->calib->n_seq;
    const nb_batch batch = {.n_token = ctx, .seq = p->acts.seq, .pos = p->acts.pos, .max_len = ctx};
    const nb_step s = {.m = p->m, .layer = &p->quantized.layer, .batch = &batch};
    struct waiting w = waiting_of(p, out->K);
    nb_token_rows t = {.M = (int64_t)w.most * ctx, .x_orig = p->two ? p->acts.qkv : NULL};
    const size_t aside = (w.bytes + kAlign - 1) / kAlign * kAlign;
    nb_status st = nb_pipe_scratch(p, aside + nb_moments_scratch(p, out, &t), err);
    if (st == NB_OK && w.bytes)
        st = nb_op_check(p->be, p->be->op->limit_rows != NULL, "limit_rows", err);
    if (st == NB_OK)
        st = nb_moments_zero(p, out, 1, err);
    out->n_token = p->T;
    w.room = p->scratch;
    t.scratch = p->scratch ? (char *)p->scratch + aside : NULL; /* a device that counts has none */
    for (int32_t i = 0; i < n_seq && st == NB_OK; i++) {
        t.x_orig = NULL;
        t.more = i + 1 < n_seq;
        st = nb_pipe_input(p, g, &p->quantized, i, &s, p->acts.h, &t.x, err);
        if (st == NB_OK && p->two) /* qkv's buffer is free here and wider than hidden_size */
            st = nb_pipe_input(p, g, &p->original, i, &s, p->acts.qkv, &t.x_orig, err);
        if (st == NB_OK && w.bytes)
            st = limited(p, &t, out->K, &w, err);
        if (st == NB_OK && (w.n == 0 || w.n == w.most || !t.more))
            st = accumulate(p, out, &t, &w, err);
    }
    p->token_ns += nb_clock_ns() - start;
    return st;
}

/* ---- opening ---- */

/* Positions 0 .. ctx - 1 of sequence 0, for every sequence: the cache is overwritten. */
static nb_status upload_positions(nb_pipe *p, nb_error *err)
{
    const int32_t ctx = p->calib->ctx;
    int32_t *host = nb_alloc_zero(2 * (size_t)ctx, sizeof *host, "positions", err);
    if (!host)
        return NB_NO_ROOM;
    for (int32_t i = 0; i < ctx; i++)
        host[ctx + i] = i;
    nb_status st = p->be->op->upload(p->be, p->acts.seq, host, (size_t)ctx * 4, err);
    if (st == NB_OK)
        st = p->be->op->upload(p->be, p->acts.pos, host + ctx, (size_t)ctx * 4, err);
    if (st == NB_OK)
        st = p->be->op->sync(p->be, err);
    free(host);
    return st;
}

/* x = embed_scale * W[id], row by row from the source: the whole matrix is never packed. */
static nb_status embed(nb_pipe *p, nb_error *err)
{
    const nb_hparams *hp = &p->m->hp;
    const int32_t ctx = p->calib->ctx;
    const int64_t d = hp->hidden_size;
    nb_matrix w;
    void *made = NULL;
    float *rows = NULL, *x = NULL;
    nb_status st = nb_model_matrix(p->m, (nb_slot){.role = NB_ROLE_EMBED}, &w, &made, err);
    free(made);
    if (st == NB_OK && made)
        st = nb_fail_at(err, NB_UNSUPPORTED, p->m->container->path, -1,
                        "a packed embedding is not quantized anew");
    if (st == NB_OK)
        st = nb_pipe_host(p, (size_t)(ctx * d), sizeof *rows, "embedded tokens", (void **)&rows,
                          err);
    for (int32_t i = 0; i < p->calib->n_seq && st == NB_OK && !p->dry; i++) {
        for (int32_t t = 0; t < ctx && st == NB_OK; t++) {
            const int32_t id = p->calib->ids[(size_t)i * (size_t)ctx + (size_t)t];
            if (id < 0 || id >= w.N) {
                st = nb_fail(err, NB_BAD_INPUT, "calibration token %d, the model has %lld", id,
                             (long long)w.N);
                break;
            }
            nb_dtype_decode_row(w.dtype, w.rows + id * nb_dtype_row_bytes(w.dtype, d), rows + t * d,
                                d);
            for (int64_t k = 0; k < d; k++)
                rows[t * d + k] *= hp->embed_scale;
        }
        if (st == NB_OK)
            st = nb_rows_get(p, &p->quantized.x, i, d, false, &x, err);
        if (st == NB_OK)
            st = p->be->op->upload(p->be, x, rows, (size_t)(ctx * d) * sizeof *rows, err);
        if (st == NB_OK)
            st = nb_rows_put(p, &p->quantized.x, i, d, err);
        if (st == NB_OK)
            st = p->be->op->sync(p->be, err);
    }
    nb_pipe_host_free(p, rows);
    return st;
}

nb_status nb_pipe_fork(nb_pipe *p, nb_error *err)
{
    const int64_t d = p->m->hp.hidden_size;
    float *from = NULL, *to = NULL;
    nb_status st = nb_op_check(p->be, p->be->op->take_columns != NULL, "take_columns", err);
    for (int32_t i = 0; i < p->calib->n_seq && st == NB_OK; i++) {
        st = nb_rows_get(p, &p->quantized.x, i, d, true, &from, err);
        if (st == NB_OK)
            st = nb_rows_get(p, &p->original.x, i, d, false, &to, err);
        const nb_take_args copy = {.x = from,
                                   .M = p->calib->ctx,
                                   .K = d,
                                   .ldx = d,
                                   .ldy = d,
                                   .size = (int32_t)sizeof *from,
                                   .y = to};
        if (st == NB_OK)
            st = p->be->op->take_columns(p->be, &copy, err);
        if (st == NB_OK)
            st = nb_rows_put(p, &p->original.x, i, d, err);
        if (st == NB_OK)
            st = p->be->op->sync(p->be, err);
    }
    p->two = st == NB_OK;
    return st;
}

int64_t nb_pipeline_row_width(const nb_model *m)
{
    const int64_t q = (int64_t)m->hp.n_head * m->hp.head_dim, act = nb_act_width(&m->hp);
    return m->hp.hidden_size + (q > act ? q : act);
}

nb_status nb_pipe_open_streams(nb_pipe *p, nb_error *err)
{
    const nb_hparams *hp = &p->m->hp;
    const bool both = p->o->correction > 0.0;
    const int64_t d = hp->hidden_size, mid = nb_pipeline_row_width(p->m) - d, K = d > mid ? d : mid;
    const int32_t ctx = p->calib->ctx;
    nb_backend *be = p->be;
    nb_rows *rows[] = {&p->quantized.x, &p->quantized.mid, &p->original.x, &p->original.mid};
    nb_status st = nb_acts_open(p->m, ctx, ctx, &p->acts, err);
    if (st == NB_OK)
        st = nb_kv_open(be, hp, 1, ctx, &p->kv, err);
    if (st == NB_OK)
        st = nb_kv_in_order(be, &p->kv, &p->pages, err);
    if (st == NB_OK)
        st = nb_rows_open_file(p, (both ? 2 : 1) * (d + mid), err);
    if (st == NB_OK && p->o->spill)
        st = nb_pipe_host(p, (size_t)(ctx * K), sizeof *p->stage, "activations of a sequence",
                          (void **)&p->stage, err);
    for (int i = 0; i < (both ? 4 : 2) && st == NB_OK; i++) {
        st = nb_rows_open(p, rows[i], i % 2 ? mid : d, err);
        rows[i]->at = p->T * (int64_t)sizeof(float) * ((i / 2) * (d + mid) + (i % 2) * d);
    }
    if (st == NB_OK)
        st = nb_pipe_open_moments(p, err);
    if (st == NB_OK)
        st = upload_positions(p, err);
    return st == NB_OK ? embed(p, err) : st;
}

void nb_pipe_close_streams(nb_pipe *p)
{
    nb_rows *rows[] = {&p->quantized.x, &p->quantized.mid, &p->original.x, &p->original.mid};
    void *buffer[] = {p->h, p->c, p->scratch, p->pages};
    nb_acts_close(p->be, &p->acts);
    nb_kv_close(p->be, &p->kv);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        nb_rows_close(p, rows[i]);
    for (size_t i = 0; i < sizeof buffer / sizeof *buffer; i++)
        p->be->op->release(p->be, buffer[i]);
    nb_pipe_host_free(p, p->stage);
    nb_rows_close_file(p);
}
