/* forward.c -- the decoder, as the Llama paper (Touvron et al. 2023) describes it, in six stages a
 * layer:
 *
 *     h = rms_norm(x)                     attn_norm
 *     q, k, v = h Wq^T, h Wk^T, h Wv^T    attn_mix: rotate q and k by position, append k and v to
 *                                         the cache,
 *     a = attention(q, cache)                       attend
 *     x = x + a Wo^T                      attn_out
 *     h = rms_norm(x)                     ffn_norm
 *     f = act(h Wg^T) * (h Wu^T)          ffn_mix
 *     x = x + f Wd^T                      ffn_out
 *
 * then logits = rms_norm(x) Wout^T. h and f are written only where the device's linears do not take
 * them in (nb_linear_ready). What a model has more than that is a field that is set: biases,
 * norms of q's and k's heads before they are rotated, norms or a factor on what is added to x,
 * windows and frequencies of some layers, soft caps, experts (h Wr^T chooses n of them for each
 * token; f and f Wd^T are one row a choice, and x gets their weighted sum). All shapes [M tokens,
 * width]; what is read and written is device memory. */
#include "backend/kv.h"
#include "model/model.h"

static int64_t q_width(const nb_hparams *hp)
{
    return (int64_t)hp->n_head * hp->head_dim;
}
static int64_t kv_width(const nb_hparams *hp)
{
    return (int64_t)hp->n_kv_head * hp->head_dim;
}

static nb_status norm(nb_backend *be, const float *x, int64_t M, const nb_hparams *hp,
                      const float *weight, float *y, nb_error *err)
{
    const nb_rms_norm_args a = {.x = x,
                                .M = M,
                                .K = hp->hidden_size,
                                .ldx = hp->hidden_size,
                                .ldy = hp->hidden_size,
                                .weight = weight,
                                .eps = hp->norm_eps,
                                .y = y};
    return be->op->rms_norm(be, &a, err);
}

/* What linears read: rows as they lie, or through an op first; `room` [M,K] is for its result. */
typedef struct input {
    const float *x;
    int64_t ld;
    nb_through through;
    float *room;
} input;

static input as_is(const float *x, int64_t K)
{
    return (input){.x = x, .ld = K};
}
static input normed(const nb_hparams *hp, const float *x, const float *weight, float *h)
{
    return (input){
        .x = x, .ld = hp->hidden_size, .through = {.norm = weight, .eps = hp->norm_eps}, .room = h};
}
static input gated(const nb_hparams *hp, const float *gu, float *act)
{
    const int64_t n = hp->intermediate_size;
    return (input){.x = gu, .ld = 2 * n, .through = {.up = gu + n, .act = hp->act}, .room = act};
}

/* y (+)= in W^T (+ bias) for every weight of the stack; the first `front` bytes of scratch are
 * taken. */
static nb_status multiply(const nb_step *s, nb_group_id g, input in, bool add, float *y,
                          size_t front, nb_error *err)
{
    const nb_stack *t = &s->layer->stack[g];
    const float *bias = s->layer->frame.bias[g];
    nb_backend *be = s->m->be;
    nb_linear_args a[3];
    for (int i = 0; i < t->n_weight; i++)
        a[i] = (nb_linear_args){.x = in.x,
                                .through = in.through,
                                .M = s->batch->n_token,
                                .ldx = in.ld,
                                .ldy = t->N,
                                .w = t->w[i],
                                .add = add,
                                .bias = bias ? bias + t->at[i] : NULL,
                                .y = y + t->at[i],
                                .scratch = (char *)s->scratch + front};
    nb_status st = nb_linear_ready(be, a, t->n_weight, t->K, in.room, err);
    for (int i = 0; i < t->n_weight && st == NB_OK; i++) {
        if (be->op->linear_scratch(be, &a[i]) + front > s->scratch_bytes)
            return nb_fail(err, NB_INTERNAL,
                           "a linear of %lld x %lld needs more scratch than was planned",
                           (long long)t->N, (long long)t->K);
        st = be->op->linear(be, &a[i], err);
    }
    return st;
}

/* y[p] = x[p / share] W^T of pair p's expert, for every weight of the experts. */
static nb_status multiply_experts(const nb_step *s, const nb_experts *t, const float *x,
                                  int32_t share, const int32_t *expert, float *y, size_t front,
                                  nb_error *err)
{
    nb_backend *be = s->m->be;
    nb_status st = nb_op_check(be, be->op->grouped_linear != NULL, "grouped_linear", err);
    for (int i = 0; i < t->n_weight && st == NB_OK; i++) {
        const nb_grouped_args a = {.x = x,
                                   .P = (int64_t)s->batch->n_token * s->m->hp.n_expert_used,
                                   .ldx = t->K,
                                   .ldy = t->N,
                                   .share = share,
                                   .n_expert = s->m->hp.n_expert,
                                   .expert = expert,
                                   .w = (const nb_weight *const *)t->w[i],
                                   .y = y + t->at[i],
                                   .scratch = (char *)s->scratch + front};
        if (be->op->grouped_linear_scratch &&
            be->op->grouped_linear_scratch(be, &a) + front > s->scratch_bytes)
            return nb_fail(err, NB_INTERNAL,
                           "experts of %lld x %lld need more scratch than was planned",
                           (long long)t->N, (long long)t->K);
        st = be->op->grouped_linear(be, &a, err);
    }
    return st;
}

/* x += residual_scale * (post_norm of) t, both [M, hidden_size]. */
static nb_status add_residual(const nb_step *s, float *t, const float *post_norm, float *x,
                              nb_error *err)
{
    const nb_hparams *hp = &s->m->hp;
    nb_backend *be = s->m->be;
    const int64_t M = s->batch->n_token, d = hp->hidden_size;
    const nb_add_args a = {
        .x = t, .M = M, .N = d, .ldx = d, .ldy = d, .scale = hp->residual_scale, .y = x};
    nb_status st = nb_op_check(be, be->op->add_scaled != NULL, "add_scaled", err);
    if (st == NB_OK && post_norm)
        st = norm(be, t, M, hp, post_norm, t, err);
    return st == NB_OK ? be->op->add_scaled(be, &a, err) : st;
}

/* x += in W^T of a group that returns to the residual stream. */
static nb_status project(const nb_step *s, nb_group_id g, input in, const float *post_norm,
                         float *x, nb_error *err)
{
    if (!post_norm && s->m->hp.residual_scale == 1.0f)
        return multiply(s, g, in, true, x, 0, err);
    float *t = s->scratch; /* [M, hidden_size] */
    const nb_status st = multiply(s, g, in, false, t, nb_front_bytes(s->m, s->batch->n_token), err);
    return st == NB_OK ? add_residual(s, t, post_norm, x, err) : st;
}

nb_status nb_attn_norm(const nb_step *s, const float *x, float *h, nb_error *err)
{
    return norm(s->m->be, x, s->batch->n_token, &s->m->hp, s->layer->frame.attn_norm, h, err);
}

/* Each of n_head heads beside each other in a row of x [M, ld], in place. */
static nb_status norm_heads(const nb_step *s, float *x, int64_t ld, int32_t n_head,
                            const float *weight, nb_error *err)
{
    const nb_rms_norm_args a = {.x = x,
                                .M = s->batch->n_token,
                                .K = s->m->hp.head_dim,
                                .ldx = ld,
                                .ldy = ld,
                                .n_part = n_head,
                                .weight = weight,
                                .eps = s->m->hp.norm_eps,
                                .y = x};
    return weight ? s->m->be->op->rms_norm(s->m->be, &a, err) : NB_OK;
}

static nb_status attn_mix(const nb_step *s, input in, float *qkv, float *att, nb_error *err)
{
    const nb_hparams *hp = &s->m->hp;
    const nb_frame *f = &s->layer->frame;
    nb_backend *be = s->m->be;
    const int64_t ld = q_width(hp) + 2 * kv_width(hp);
    float *q = qkv, *k = q + q_width(hp), *v = k + kv_width(hp);
    const nb_rope_args rope = {.q = q,
                               .k = k,
                               .v = v,
                               .ldq = ld,
                               .ldk = ld,
                               .ldv = ld,
                               .n_head = hp->n_head,
                               .rope_dim = hp->rope_dim,
                               .inv_freq = f->unrotated ? s->m->inv_freq_none
                                           : f->local   ? s->m->inv_freq_local
                                                        : s->m->inv_freq,
                               .batch = s->batch,
                               .kv = s->kv};
    const nb_attention_args attend = {.q = q,
                                      .ldq = ld,
                                      .ldo = q_width(hp),
                                      .batch = s->batch,
                                      .kv = s->kv,
                                      .n_head = hp->n_head,
                                      .scale = hp->attn_scale,
                                      .window = f->local ? hp->window : 0,
                                      .soft_cap = hp->attn_soft_cap,
                                      .out = att,
                                      .scratch = s->scratch};
    nb_status st = multiply(s, NB_GROUP_QKV, in, false, qkv, 0, err);
    if (st == NB_OK)
        st = norm_heads(s, q, ld, hp->n_head, f->q_norm, err);
    if (st == NB_OK)
        st = norm_heads(s, k, ld, hp->n_kv_head, f->k_norm, err);
    if (st == NB_OK)
        st = be->op->rope_append_kv(be, &rope, err);
    if (st == NB_OK)
        st = be->op->attention(be, &attend, err);
    return st;
}

nb_status nb_attn_mix(const nb_step *s, const float *h, float *qkv, float *att, nb_error *err)
{
    return attn_mix(s, as_is(h, s->m->hp.hidden_size), qkv, att, err);
}

nb_status nb_attn_out(const nb_step *s, const float *att, float *x, nb_error *err)
{
    return project(s, NB_GROUP_O, as_is(att, q_width(&s->m->hp)), s->layer->frame.attn_post_norm, x,
                   err);
}

nb_status nb_ffn_norm(const nb_step *s, const float *x, float *h, nb_error *err)
{
    return norm(s->m->be, x, s->batch->n_token, &s->m->hp, s->layer->frame.ffn_norm, h, err);
}

int64_t nb_gu_width(const nb_hparams *hp)
{
    return hp->n_expert ? 2 * (int64_t)hp->intermediate_size * hp->n_expert_used + hp->n_expert
                        : 2 * (int64_t)hp->intermediate_size;
}

int64_t nb_act_width(const nb_hparams *hp)
{
    return hp->n_expert ? ((int64_t)hp->intermediate_size + 2) * hp->n_expert_used
                        : hp->intermediate_size;
}

/* Where a mixture's stages keep the choice of experts, behind the activations of P pairs (model.h):
 * first the weights [P], then the experts [P]. */
static int64_t choice_at(const nb_step *s)
{
    return (int64_t)s->batch->n_token * s->m->hp.n_expert_used * s->m->hp.intermediate_size;
}

nb_status nb_ffn_choose(const nb_step *s, const float *h, float *logits, float *weight,
                        int32_t *expert, nb_error *err)
{
    const nb_hparams *hp = &s->m->hp;
    nb_backend *be = s->m->be;
    const int64_t M = s->batch->n_token;
    const nb_linear_args a = {.x = h,
                              .M = M,
                              .ldx = hp->hidden_size,
                              .ldy = hp->n_expert,
                              .w = s->layer->frame.router,
                              .y = logits,
                              .scratch = s->scratch};
    const nb_route_args route = {.logits = logits,
                                 .M = M,
                                 .ldl = hp->n_expert,
                                 .n_expert = hp->n_expert,
                                 .n_used = hp->n_expert_used,
                                 .renormalize = hp->expert_renormalize,
                                 .expert = expert,
                                 .weight = weight};
    nb_status st = nb_op_check(be, be->op->route_experts != NULL, "route_experts", err);
    if (st == NB_OK)
        st = be->op->linear(be, &a, err);
    return st == NB_OK ? be->op->route_experts(be, &route, err) : st;
}

nb_status nb_ffn_mix(const nb_step *s, const float *h, float *gu, float *act, nb_error *err)
{
    const nb_hparams *hp = &s->m->hp;
    const int64_t n = hp->intermediate_size,
                  rows = (int64_t)s->batch->n_token * (hp->n_expert ? hp->n_expert_used : 1);
    const nb_gated_args gate = {.gate = gu,
                                .up = gu + n,
                                .M = rows,
                                .N = n,
                                .ld = 2 * n,
                                .ldo = n,
                                .act = hp->act,
                                .out = act};
    nb_status st = NB_OK;
    if (hp->n_expert) {
        float *weight = act + choice_at(s);
        int32_t *expert = (int32_t *)(weight + rows);
        st = nb_ffn_choose(s, h, gu + rows * 2 * n, weight, expert, err);
        if (st == NB_OK)
            st = multiply_experts(s, &s->layer->gate_up, h, hp->n_expert_used, expert, gu, 0, err);
    } else
        st = multiply(s, NB_GROUP_GATE_UP, as_is(h, hp->hidden_size), false, gu, 0, err);
    if (st == NB_OK)
        st = s->m->be->op->gated_activation(s->m->be, &gate, err);
    return st;
}

/* x += the weighted sum of the experts' f Wd^T. */
static nb_status mix_experts(const nb_step *s, const float *act, float *x, nb_error *err)
{
    const nb_hparams *hp = &s->m->hp;
    const nb_frame *f = &s->layer->frame;
    nb_backend *be = s->m->be;
    const int64_t M = s->batch->n_token, d = hp->hidden_size;
    float *sum = s->scratch, *each = sum + M * d; /* [M, hidden_size], [P, hidden_size] */
    const float *weight = act + choice_at(s);
    const int32_t *expert = (const int32_t *)(weight + M * hp->n_expert_used);
    const bool direct = !f->ffn_post_norm;
    const nb_combine_args a = {.x = each,
                               .weight = weight,
                               .M = M,
                               .N = d,
                               .ldx = d,
                               .ldy = d,
                               .n_used = hp->n_expert_used,
                               .scale = direct ? hp->residual_scale : 1.0f,
                               .add = direct,
                               .y = direct ? x : sum};
    nb_status st = nb_op_check(be, be->op->combine_experts != NULL, "combine_experts", err);
    if (st == NB_OK)
        st = multiply_experts(s, &s->layer->down, act, 1, expert, each, nb_front_bytes(s->m, M),
                              err);
    if (st == NB_OK)
        st = be->op->combine_experts(be, &a, err);
    return st == NB_OK && !direct ? add_residual(s, sum, f->ffn_post_norm, x, err) : st;
}

nb_status nb_ffn_out(const nb_step *s, const float *act, float *x, nb_error *err)
{
    const nb_hparams *hp = &s->m->hp;
    return hp->n_expert ? mix_experts(s, act, x, err)
                        : project(s, NB_GROUP_DOWN, as_is(act, hp->intermediate_size),
                                  s->layer->frame.ffn_post_norm, x, err);
}

nb_status nb_embed_tokens(const nb_model *m, const int32_t *ids, int64_t M, float *x, nb_error *err)
{
    const nb_embed_args a = {.w = m->embed,
                             .ids = ids,
                             .M = M,
                             .ldy = m->hp.hidden_size,
                             .scale = m->hp.embed_scale,
                             .y = x};
    return m->be->op->embed(m->be, &a, err);
}

nb_status nb_output_logits(const nb_model *m, const float *x, int64_t n_row, float *h,
                           float *logits, void *scratch, nb_error *err)
{
    nb_linear_args a = {.x = x,
                        .through = {.norm = m->output_norm, .eps = m->hp.norm_eps},
                        .M = n_row,
                        .ldx = m->hp.hidden_size,
                        .ldy = m->hp.vocab_size,
                        .w = m->output,
                        .y = logits,
                        .scratch = scratch};
    nb_status st = nb_linear_ready(m->be, &a, 1, m->hp.hidden_size, h, err);
    if (st == NB_OK)
        st = m->be->op->linear(m->be, &a, err);
    if (st == NB_OK && m->hp.logit_soft_cap > 0.0f) {
        const nb_soft_cap_args cap = {
            .x = logits, .n = n_row * m->hp.vocab_size, .cap = m->hp.logit_soft_cap};
        st = m->be->op->logits_soft_cap(m->be, &cap, err);
    }
    return st;
}

/* A layer of the decoder: its stages, norms and the gated activation left to the linears that read
 * them. Experts and the router read one h, which is written. */
static nb_status run_layer(const nb_step *s, const nb_acts *a, nb_error *err)
{
    const nb_hparams *hp = &s->m->hp;
    const nb_frame *f = &s->layer->frame;
    nb_status st = attn_mix(s, normed(hp, a->x, f->attn_norm, a->h), a->qkv, a->att, err);
    if (st == NB_OK)
        st = nb_attn_out(s, a->att, a->x, err);
    if (st == NB_OK && hp->n_expert) {
        st = nb_ffn_norm(s, a->x, a->h, err);
        if (st == NB_OK)
            st = nb_ffn_mix(s, a->h, a->gu, a->act, err);
        return st == NB_OK ? nb_ffn_out(s, a->act, a->x, err) : st;
    }
    if (st == NB_OK)
        st = multiply(s, NB_GROUP_GATE_UP, normed(hp, a->x, f->ffn_norm, a->h), false, a->gu, 0,
                      err);
    return st == NB_OK
               ? project(s, NB_GROUP_DOWN, gated(hp, a->gu, a->act), f->ffn_post_norm, a->x, err)
               : st;
}

/* The layers [from, to), all of them m's own. */
static nb_status run_layers(const nb_model *m, int from, int to, nb_acts *a, const nb_batch *batch,
                            const nb_kv *kv, nb_error *err)
{
    nb_status st = NB_OK;
    for (int l = from; l < to && st == NB_OK; l++) {
        const nb_step s = {.m = m,
                           .layer = &m->layer[l],
                           .batch = batch,
                           .kv = &kv[l],
                           .scratch = a->scratch,
                           .scratch_bytes = a->scratch_bytes};
        st = run_layer(&s, a, err);
    }
    return st;
}

/* Embedding and first layers on the CPU; then the residual stream crosses over, once a step. */
static nb_status run_front(const nb_model *m, nb_acts *a, const nb_batch *batch, const nb_kv *kv,
                           nb_error *err)
{
    nb_acts *f = a->front;
    nb_batch own = *batch;
    own.seq = f->seq;
    own.pos = f->pos;
    nb_status st = nb_embed_tokens(m->front, f->ids, own.n_token, f->x, err);
    if (st == NB_OK)
        st = run_layers(m->front, 0, m->n_front, f, &own, kv, err);
    return st == NB_OK
               ? m->be->op->upload(m->be, a->x, f->x,
                                   (size_t)own.n_token * (size_t)m->hp.hidden_size * sizeof *f->x,
                                   err)
               : st;
}

nb_status nb_decoder_front(const nb_model *m, nb_acts *a, const nb_batch *batch, const nb_kv *kv,
                           nb_error *err)
{
    return m->front ? run_front(m, a, batch, kv, err) : NB_OK;
}

nb_status nb_decoder_rest(const nb_model *m, nb_acts *a, const nb_batch *batch, const nb_kv *kv,
                          nb_error *err)
{
    const nb_status st = m->front ? NB_OK : nb_embed_tokens(m, a->ids, batch->n_token, a->x, err);
    return st == NB_OK ? run_layers(m, m->n_front, m->hp.n_layer, a, batch, kv, err) : st;
}

nb_status nb_decoder(const nb_model *m, nb_acts *a, const nb_batch *batch, const nb_kv *kv,
                     nb_error *err)
{
    const nb_status st = nb_decoder_front(m, a, batch, kv, err);
    return st == NB_OK ? nb_decoder_rest(m, a, batch, kv, err) : st;
}
