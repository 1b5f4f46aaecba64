/* attention.c -- causal attention over the cache (Vaswani et al. 2017, eq. 1), one query head at a
 * time.
 *
 *   s[t] = scale * q . k[t]       first <= t <= pos,  first = max(0, pos - window + 1), or 0
 *                                 without a window
 *   s[t] = cap tanh(s[t] / cap)   if there is a soft cap
 *   out  = sum_t exp(s[t] - max s) v[t] / sum_t exp(s[t] - max s)
 *
 * scratch: the scores of one query, max_len doubles. Cost: 4 head_dim flops for each query head and
 * visible position. */
#include "backend/kv.h"
#include "backend/ref/ref_ops.h"

#include <math.h>

static double load(const nb_kv *kv, const void *cache, int64_t at)
{
    return (double)nb_kv_get(kv, cache, at);
}

static void attend(const nb_attention_args *a, int64_t m, int32_t head)
{
    const nb_kv *kv = a->kv;
    double *s = a->scratch; /* [max_len] */
    const int64_t dim = kv->head_dim, pos = a->batch->pos[m];
    const int64_t first = a->window > 0 && pos >= a->window ? pos - a->window + 1 : 0;
    const float *q = a->q + m * a->ldq + head * dim;
    float *out = a->out + m * a->ldo + head * dim;
    const int32_t seq = a->batch->seq[m], kv_head = head / (a->n_head / kv->n_kv_head);

    double top = -HUGE_VAL;
    for (int64_t t = first; t <= pos; t++) {
        double dot = 0;
        const int64_t at = (nb_kv_place(kv, seq, t) * kv->n_kv_head + kv_head) * dim;
        for (int64_t i = 0; i < dim; i++)
            dot += (double)q[i] * load(kv, kv->k, at + i);
        s[t] = (double)a->scale * dot;
        if (a->soft_cap > 0)
            s[t] = (double)a->soft_cap * tanh(s[t] / (double)a->soft_cap);
        top = s[t] > top ? s[t] : top;
    }
    double sum = 0;
    for (int64_t t = first; t <= pos; t++)
        sum += s[t] = exp(s[t] - top);
    for (int64_t i = 0; i < dim; i++) {
        double o = 0;
        for (int64_t t = first; t <= pos; t++)
            o += s[t] *
                 load(kv, kv->v, (nb_kv_place(kv, seq, t) * kv->n_kv_head + kv_head) * dim + i);
        out[i] = (float)(o / sum);
    }
}

size_t nb_ref_attention_scratch(nb_backend *be, const nb_attention_args *a)
{
    (void)be;
    return (size_t)a->batch->max_len * sizeof(double);
}

nb_status nb_ref_attention(nb_backend *be, const nb_attention_args *a, nb_error *err)
{
    (void)be, (void)err;
    for (int64_t m = 0; m < a->batch->n_token; m++)
        for (int32_t h = 0; h < a->n_head; h++)
            attend(a, m, h);
    return NB_OK;
}
