/* forward.c -- the decoder, as the Llama paper (Touvron et al. 2023) describes it, in six stages a layer:
 *
 *     h = rms_norm(x)                     attn_norm
 *     q, k, v = h Wq^T, h Wk^T, h Wv^T    attn_mix: rotate q and k by position, append k and v to the cache,
 *     a = attention(q, cache)                       attend
 *     x = x + a Wo^T                      attn_out
 *     h = rms_norm(x)                     ffn_norm
 *     f = act(h Wg^T) * (h Wu^T)          ffn_mix
 *     x = x + f Wd^T                      ffn_out
 *
 * then logits = rms_norm(x) Wout^T. All shapes [M tokens, width]; what is read and written is device memory. */
#include "model/model.h"

#include <string.h>

static int64_t q_width(const nb_hparams *hp)
{
    return (int64_t)hp->n_head * hp->head_dim;
}
static int64_t kv_width(const nb_hparams *hp)
{
    return (int64_t)hp->n_kv_head * hp->head_dim;
}

static nb_status norm(nb_backend *be, const float *x, int64_t M, const nb_hparams *hp, const float *weight, float *y,
                      nb_error *err)
{
    const nb_rms_norm_args a = {.x = x, .M = M, .K = hp->hidden_size, .ldx = hp->hidden_size, .ldy = hp->hidden_size,
                                .weight = weight, .eps = hp->norm_eps, .y = y};
    return be->op->rms_norm(be, &a, err);
}

/* y (+)= x W^T for every weight of the stack. */
static nb_status multiply(const nb_step *s, nb_group_id g, const float *x, bool add, float *y, nb_error *err)
{
    const nb_stack *t = &s->layer->stack[g];
    nb_backend *be = s->m->be;
    nb_status st = NB_OK;
    for (int i = 0; i < t->n_weight && st == NB_OK; i++) {
        const nb_linear_args a = {.x = x, .M = s->batch->n_token, .ldx = t->K, .ldy = t->N, .w = t->w[i], .add = add,
                                  .y = y + t->at[i], .scratch = s->scratch};
        if (be->op->linear_scratch(be, &a) > s->scratch_bytes)
            return nb_fail(err, NB_INTERNAL, "a linear of %lld x %lld needs more scratch than was planned",
                           (long long)t->N, (long long)t->K);
        st = be->op->linear(be, &a, err);
    }
    return st;
}

nb_status nb_attn_norm(const nb_step *s, const float *x, float *h, nb_error *err)
{
    return norm(s->m->be, x, s->batch->n_token, &s->m->hp, s->layer->attn_norm, h, err);
}

nb_status nb_attn_mix(const nb_step *s, const float *h, float *qkv, float *att, nb_error *err)
{
    const nb_hparams *hp = &s->m->hp;
    nb_backend *be = s->m->be;
    const int64_t ld = q_width(hp) + 2 * kv_width(hp);
    float *q = qkv, *k = q + q_width(hp), *v = k + kv_width(hp);
    const nb_rope_args rope = {.q = q, .k = k, .v = v, .ldq = ld, .ldk = ld, .ldv = ld, .n_head = hp->n_head,
                               .rope_dim = hp->rope_dim, .interleaved = hp->rope_interleaved, .inv_freq = s->m->inv_freq,
                               .batch = s->batch, .kv = s->kv};
    const nb_attention_args attend = {.q = q, .ldq = ld, .ldo = q_width(hp), .batch = s->batch, .kv = s->kv,
                                      .n_head = hp->n_head, .scale = hp->attn_scale, .window = hp->window,
                                      .soft_cap = hp->attn_soft_cap, .out = att, .scratch = s->scratch};
    nb_status st = multiply(s, NB_GROUP_QKV, h, false, qkv, err);
    if (st == NB_OK)
        st = be->op->rope_append_kv(be, &rope, err);
    if (st == NB_OK)
        st = be->op->attention(be, &attend, err);
    return st;
}

nb_status nb_attn_out(const nb_step *s, const float *att, float *x, nb_error *err)
{
    return multiply(s, NB_GROUP_O, att, true, x, err);
}

nb_status nb_ffn_norm(const nb_step *s, const float *x, float *h, nb_error *err)
{
    return norm(s->m->be, x, s->batch->n_token, &s->m->hp, s->layer->ffn_norm, h, err);
}

nb_status nb_ffn_mix(const nb_step *s, const float *h, float *gu, float *act, nb_error *err)
{
    const int64_t n = s->m->hp.intermediate_size;
    const nb_gated_args gated = {.gate = gu, .up = gu + n, .M = s->batch->n_token, .N = n, .ld = 2 * n, .ldo = n,
                                 .act = s->m->hp.act, .out = act};
    nb_status st = multiply(s, NB_GROUP_GATE_UP, h, false, gu, err);
    if (st == NB_OK)
        st = s->m->be->op->gated_activation(s->m->be, &gated, err);
    return st;
}

nb_status nb_ffn_out(const nb_step *s, const float *act, float *x, nb_error *err)
{
    return multiply(s, NB_GROUP_DOWN, act, true, x, err);
}

nb_status nb_embed_tokens(const nb_model *m, const int32_t *ids, int64_t M, float *x, nb_error *err)
{
    const nb_embed_args a = {.w = m->embed, .ids = ids, .M = M, .ldy = m->hp.hidden_size, .scale = m->hp.embed_scale, .y = x};
    return m->be->op->embed(m->be, &a, err);
}

nb_status nb_output_logits(const nb_model *m, const float *x, int64_t n_row, float *h, float *logits, void *scratch,
                           nb_error *err)
{
    const nb_linear_args a = {.x = h, .M = n_row, .ldx = m->hp.hidden_size, .ldy = m->hp.vocab_size, .w = m->output,
                              .y = logits, .scratch = scratch};
    nb_status st = norm(m->be, x, n_row, &m->hp, m->output_norm, h, err);
    if (st == NB_OK)
        st = m->be->op->linear(m->be, &a, err);
    if (st == NB_OK && m->hp.logit_soft_cap > 0.0f) {
        const nb_soft_cap_args cap = {.x = logits, .n = n_row * m->hp.vocab_size, .cap = m->hp.logit_soft_cap};
        st = m->be->op->logits_soft_cap(m->be, &cap, err);
    }
    return st;
}

nb_status nb_decoder(const nb_model *m, nb_acts *a, const nb_batch *batch, const nb_kv *kv, nb_error *err)
{
    nb_status st = nb_embed_tokens(m, a->ids, batch->n_token, a->x, err);
    for (int l = 0; l < m->hp.n_layer && st == NB_OK; l++) {
        const nb_step s = {.m = m, .layer = &m->layer[l], .batch = batch, .kv = &kv[l], .scratch = a->scratch,
                           .scratch_bytes = a->scratch_bytes};
        st = nb_attn_norm(&s, a->x, a->h, err);
        if (st == NB_OK)
            st = nb_attn_mix(&s, a->h, a->qkv, a->att, err);
        if (st == NB_OK)
            st = nb_attn_out(&s, a->att, a->x, err);
        if (st == NB_OK)
            st = nb_ffn_norm(&s, a->x, a->h, err);
        if (st == NB_OK)
            st = nb_ffn_mix(&s, a->h, a->gu, a->act, err);
        if (st == NB_OK)
            st = nb_ffn_out(&s, a->act, a->x, err);
    }
    return st;
}

/* Scratch is shared by all ops of a step, so the largest of them decides. A linear's need depends on its weight only through N and K; the widest input and the
 * output layer bound it. */
static size_t scratch_need(const nb_model *m, int32_t max_token, int32_t ctx_len)
{
    size_t need = 64;
    nb_backend *be = m->be;
    const nb_hparams *hp = &m->hp;
    const nb_batch batch = {.n_token = max_token, .max_len = ctx_len};
    const nb_kv kv = {.type = be->kv_type, .n_seq = max_token, .ctx_len = ctx_len, .n_kv_head = hp->n_kv_head, .head_dim = hp->head_dim};
    const nb_attention_args attend = {.batch = &batch, .kv = &kv, .n_head = hp->n_head};
    const size_t att = be->op->attention_scratch ? be->op->attention_scratch(be, &attend) : 0;
    need = att > need ? att : need;
    for (int l = 0; m->layer && l < hp->n_layer; l++)
        for (int g = 0; g < NB_GROUP_COUNT; g++)
            for (int i = 0; i < m->layer[l].stack[g].n_weight; i++) {
                const nb_linear_args a = {.M = max_token, .w = m->layer[l].stack[g].w[i]};
                const size_t n = be->op->linear_scratch(be, &a);
                need = n > need ? n : need;
            }
    const nb_linear_args head = {.M = max_token, .w = m->output};
    const size_t n = m->output ? be->op->linear_scratch(be, &head) : 0;
    return n > need ? n : need;
}

nb_status nb_acts_open(const nb_model *m, int32_t max_token, int32_t ctx_len, nb_acts *a, nb_error *err)
{
    const nb_hparams *hp = &m->hp;
    nb_backend *be = m->be;
    const size_t M = (size_t)max_token;
    memset(a, 0, sizeof *a);
    a->max_token = max_token;
    a->scratch_bytes = scratch_need(m, max_token, ctx_len);
    const struct {
        void **to;
        size_t bytes;
    } buffer[] = {
        {(void **)&a->x, M * (size_t)hp->hidden_size * sizeof(float)},
        {(void **)&a->h, M * (size_t)hp->hidden_size * sizeof(float)},
        {(void **)&a->qkv, M * (size_t)(q_width(hp) + 2 * kv_width(hp)) * sizeof(float)},
        {(void **)&a->att, M * (size_t)q_width(hp) * sizeof(float)},
        {(void **)&a->gu, M * 2 * (size_t)hp->intermediate_size * sizeof(float)},
        {(void **)&a->act, M * (size_t)hp->intermediate_size * sizeof(float)},
        {(void **)&a->ids, M * sizeof(int32_t)},
        {(void **)&a->seq, M * sizeof(int32_t)},
        {(void **)&a->pos, M * sizeof(int32_t)},
        {&a->scratch, a->scratch_bytes},
    };
    nb_status st = NB_OK;
    for (size_t i = 0; i < sizeof buffer / sizeof *buffer && st == NB_OK; i++)
        st = be->op->alloc(be, buffer[i].bytes, "activations", buffer[i].to, err);
    if (st != NB_OK)
        nb_acts_close(be, a);
    return st;
}

void nb_acts_close(nb_backend *be, nb_acts *a)
{
    void *buffer[] = {a->x, a->h, a->qkv, a->att, a->gu, a->act, a->ids, a->seq, a->pos, a->scratch};
    for (size_t i = 0; i < sizeof buffer / sizeof *buffer; i++)
        be->op->release(be, buffer[i]);
    memset(a, 0, sizeof *a);
}

nb_status nb_kv_open(nb_backend *be, const nb_hparams *hp, int32_t n_seq, int32_t ctx_len, nb_kv *kv, nb_error *err)
{
    *kv = (nb_kv){.type = be->kv_type, .n_seq = n_seq, .ctx_len = ctx_len, .n_kv_head = hp->n_kv_head, .head_dim = hp->head_dim};
    const size_t bytes = (size_t)n_seq * (size_t)ctx_len * (size_t)kv_width(hp) * (kv->type == NB_KV_F32 ? 4 : 2);
    nb_status st = be->op->alloc(be, bytes, "keys of the cache", &kv->k, err);
    if (st == NB_OK)
        st = be->op->alloc(be, bytes, "values of the cache", &kv->v, err);
    if (st != NB_OK)
        nb_kv_close(be, kv);
    return st;
}

void nb_kv_close(nb_backend *be, nb_kv *kv)
{
    be->op->release(be, kv->k);
    be->op->release(be, kv->v);
    kv->k = kv->v = NULL;
}
