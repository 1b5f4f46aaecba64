/* attention.h -- what the rows of attention share: the arguments as a kernel gets them, and the
 * row. */
#ifndef NB_CUDA_ATTENTION_ATTENTION_H
#define NB_CUDA_ATTENTION_ATTENTION_H

#include "device.h"
#include "kv.h"

constexpr float kLog2e = 1.44269504f;

struct Attention {
    const float *q;
    float *out;
    const int32_t *seq, *pos;
    const void *k, *v; /* [n_page][NB_KV_PAGE][n_kv_head][head_dim] of `type` */
    int64_t ldq, ldo;
    int n_token, n_head, n_kv_head, head_dim, window, type;
    float scale, soft_cap;
    KvPages pages;
    KvScales scales;
};

static inline Attention nb_attention_of(const nb_attention_args *a)
{
    const nb_kv *kv = a->kv;
    return {a->q,
            a->out,
            a->batch->seq,
            a->batch->pos,
            kv->k,
            kv->v,
            a->ldq,
            a->ldo,
            a->batch->n_token,
            a->n_head,
            kv->n_kv_head,
            kv->head_dim,
            a->window,
            kv->type,
            a->scale,
            a->soft_cap,
            nb_kv_pages_of(kv),
            nb_kv_scales_of(kv)};
}

/* The first position that a query at `pos` sees. */
DEVI int nb_first_seen(const Attention &a, int pos)
{
    return a.window > 0 && pos >= a.window ? pos - a.window + 1 : 0;
}

struct nb_cuda_attention_row {
    const char *name;
    nb_arith arith;
    int types;     /* nb_kv_type it serves, as a bit set */
    int max_token; /* 0: any; else so many, or as many as the cache has sequences */
    int multiple;  /* of head_dim; the cache then lies on 16 bytes */
    bool (*fits)(nb_backend *be, const nb_attention_args *a); /* NULL: every such call */
    nb_status (*run)(nb_backend *be, const nb_attention_args *a, nb_error *err);
};
/* best first; the last serves everything */
extern const nb_cuda_attention_row nb_cuda_attention_rows[];

size_t nb_cuda_attention_split_scratch(const nb_attention_args *a);
nb_status nb_cuda_attention_split(nb_backend *be, const nb_attention_args *a, nb_error *err);
bool nb_cuda_attention_hopper_fits(nb_backend *be, const nb_attention_args *a);
nb_status nb_cuda_attention_hopper(nb_backend *be, const nb_attention_args *a, nb_error *err);
nb_status nb_cuda_attention_tile(nb_backend *be, const nb_attention_args *a, nb_error *err);
nb_status nb_cuda_attention_simple(nb_backend *be, const nb_attention_args *a, nb_error *err);

#endif
