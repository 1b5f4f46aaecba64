/* streams.c -- the activations of the calibration tokens, stage by stage.
 *
 * A stage handles all sequences before the next begins, so a stream's activations are kept whole: x [T, hidden], and the input of the next linear
 * (mid) [T, max(n_head head_dim, intermediate)]. */
#include "quant/pipe.h"

#include <stdlib.h>

static int64_t max3(int64_t a, int64_t b, int64_t c)
{
    const int64_t m = a > b ? a : b;
    return m > c ? m : c;
}

nb_status nb_pipe_scratch(nb_pipe *p, size_t bytes, nb_error *err)
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

typedef nb_status (*stage_fn)(const nb_pipe *p, const nb_step *s, const nb_stream *t, int64_t row, nb_error *err);

/* Runs a stage over every sequence of a stream. Sequence i has the rows [i ctx, (i + 1) ctx). */
static nb_status each_sequence(nb_pipe *p, const nb_stream *t, stage_fn stage, nb_error *err)
{
    const int32_t ctx = p->calib->ctx;
    const nb_batch batch = {.n_token = ctx, .seq = p->acts.seq, .pos = p->acts.pos, .max_len = ctx};
    const size_t need = nb_layer_scratch(p->m, &t->layer, ctx, ctx);
    nb_status st = nb_pipe_scratch(p, need, err);
    for (int32_t i = 0; i < p->calib->n_seq && st == NB_OK; i++) {
        const nb_step s = {.m = p->m, .layer = &t->layer, .batch = &batch, .kv = &p->kv, .scratch = p->scratch,
                           .scratch_bytes = p->scratch_bytes};
        st = stage(p, &s, t, (int64_t)i * ctx, err);
    }
    return st;
}

static int64_t q_width(const nb_pipe *p)
{
    return (int64_t)p->m->hp.n_head * p->m->hp.head_dim;
}

static nb_status stage_attention(const nb_pipe *p, const nb_step *s, const nb_stream *t, int64_t row, nb_error *err)
{
    nb_status st = nb_attn_norm(s, t->x + row * p->m->hp.hidden_size, p->acts.h, err);
    if (st == NB_OK)
        st = nb_attn_mix(s, p->acts.h, p->acts.qkv, t->mid + row * q_width(p), err);
    return st;
}

static nb_status stage_attention_out(const nb_pipe *p, const nb_step *s, const nb_stream *t, int64_t row, nb_error *err)
{
    return nb_attn_out(s, t->mid + row * q_width(p), t->x + row * p->m->hp.hidden_size, err);
}

static nb_status stage_ffn(const nb_pipe *p, const nb_step *s, const nb_stream *t, int64_t row, nb_error *err)
{
    nb_status st = nb_ffn_norm(s, t->x + row * p->m->hp.hidden_size, p->acts.h, err);
    if (st == NB_OK)
        st = nb_ffn_mix(s, p->acts.h, p->acts.gu, t->mid + row * p->m->hp.intermediate_size, err);
    return st;
}

static nb_status stage_ffn_out(const nb_pipe *p, const nb_step *s, const nb_stream *t, int64_t row, nb_error *err)
{
    return nb_ffn_out(s, t->mid + row * p->m->hp.intermediate_size, t->x + row * p->m->hp.hidden_size, err);
}

nb_status nb_pipe_advance(nb_pipe *p, nb_group_id g, nb_error *err)
{
    static const stage_fn after[NB_GROUP_COUNT] = {stage_attention, stage_attention_out, stage_ffn, stage_ffn_out};
    const stage_fn stage = after[g];
    nb_status st = each_sequence(p, &p->quantized, stage, err);
    if (st == NB_OK && p->two)
        st = each_sequence(p, &p->original, stage, err);
    return st;
}

/* ---- statistics ---- */

/* The rows of one sequence that enter group g, in t's stream: normed into `to`, or in mid as they are. */
static nb_status group_input(const nb_pipe *p, nb_group_id g, const nb_stream *t, int64_t row, const nb_step *s, float *to,
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

nb_status nb_pipe_gather(nb_pipe *p, nb_group_id g, int64_t K, nb_error *err)
{
    const int32_t ctx = p->calib->ctx;
    const nb_batch batch = {.n_token = ctx, .seq = p->acts.seq, .pos = p->acts.pos, .max_len = ctx};
    const nb_step s = {.m = p->m, .layer = &p->quantized.layer, .batch = &batch};
    nb_gram_args a = {.M = ctx, .K = K, .ldx = K, .ld_orig = K, .h = p->h, .c = p->two ? p->c : NULL, .x_orig = p->two ? p->original.x : NULL};
    nb_status st = nb_pipe_scratch(p, p->be->op->gram_scratch ? p->be->op->gram_scratch(p->be, &a) : 0, err);
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

/* ---- opening ---- */

nb_status nb_pipe_open_streams(nb_pipe *p, nb_error *err)
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

void nb_pipe_close_streams(nb_pipe *p)
{
    void *buffer[] = {p->quantized.x, p->quantized.mid, p->original.x, p->original.mid, p->h, p->c, p->scratch};
    nb_acts_close(p->be, &p->acts);
    nb_kv_close(p->be, &p->kv);
    for (size_t i = 0; i < sizeof buffer / sizeof *buffer; i++)
        p->be->op->release(p->be, buffer[i]);
}
