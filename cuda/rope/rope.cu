/* rope.cu -- rotates q and k in place and appends k, v to the cache (Su et al. 2021, eq. 34). A
 * block a token.
 *
 * The angle is the f32 product of position and frequency, part of the op's definition; its sine and
 * cosine are the accurate ones, not the fast ones: angles reach 10^5. */
#include "device.h"
#include "kv.h"

struct Rope {
    float *q, *k;
    const float *v, *inv_freq;
    const int32_t *seq, *pos;
    void *cache_k, *cache_v;
    int64_t ldq, ldk, ldv;
    int n_head, n_kv_head, head_dim, rope_dim, interleaved, type;
    KvPages pages;
    KvScales scales;
};

DEVI void put(const Rope &a, void *cache, int64_t at, float v)
{
    nb_kv_store(a.type, cache, at, v);
}

/* Pair i of the head at p; returns where its two elements lie in the head. */
DEVI void rotate(const Rope &a, float *p, int i, int pos, int *first, int *second)
{
    const float angle = (float)pos * a.inv_freq[i], c = cosf(angle), s = sinf(angle);
    *first = a.interleaved ? 2 * i : i;
    *second = a.interleaved ? 2 * i + 1 : i + a.rope_dim / 2;
    const float x = p[*first], y = p[*second];
    p[*first] = x * c - y * s;
    p[*second] = y * c + x * s;
}

/* The groups of token m's heads, a warp each; first: the head-vector of its first head in the
 * cache. */
DEVI void append_q8(const Rope &a, int m, int64_t first)
{
    const int groups = a.n_kv_head * a.scales.groups;
    for (int i = threadIdx.x >> 5; i < 2 * groups; i += blockDim.x >> 5) {
        const bool of_k = i < groups;
        const int head = i % groups / a.scales.groups, g = i % groups % a.scales.groups,
                  e = g * NB_KV_GROUP;
        const float *x = (of_k ? a.k + m * a.ldk : a.v + m * a.ldv) + head * a.head_dim + e;
        void *cache = of_k ? a.cache_k : a.cache_v;
        uint16_t *scale =
            (uint16_t *)((char *)cache + a.scales.at) + (first + head) * a.scales.groups + g;
        nb_kv_quantize_warp(x, a.head_dim - e < NB_KV_GROUP ? a.head_dim - e : NB_KV_GROUP,
                            (int8_t *)cache + (first + head) * a.head_dim + e, scale);
    }
}

__global__ void rope_kernel(Rope a)
{
    const int m = blockIdx.x, half = a.rope_dim / 2, pos = a.pos[m], tail = a.head_dim - a.rope_dim;
    const int row = a.n_kv_head * a.head_dim;
    const int64_t at = nb_place(a.pages, a.seq[m], pos) * row;
    int first, second;
    for (int i = threadIdx.x; i < a.n_head * half; i += blockDim.x)
        rotate(a, a.q + m * a.ldq + i / half * a.head_dim, i % half, pos, &first, &second);
    for (int i = threadIdx.x; i < a.n_kv_head * half; i += blockDim.x) {
        const int head = i / half * a.head_dim;
        float *k = a.k + m * a.ldk + head;
        rotate(a, k, i % half, pos, &first, &second);
        put(a, a.cache_k, at + head + first, k[first]);
        put(a, a.cache_k, at + head + second, k[second]);
    }
    for (int i = threadIdx.x; i < a.n_kv_head * tail; i += blockDim.x) { /* what is not rotated */
        const int e = i / tail * a.head_dim + a.rope_dim + i % tail;
        put(a, a.cache_k, at + e, a.k[m * a.ldk + e]);
    }
    for (int i = threadIdx.x; i < row; i += blockDim.x)
        put(a, a.cache_v, at + i, a.v[m * a.ldv + i]);
    if (a.type == NB_KV_Q8) {
        __syncthreads(); /* k is rotated */
        append_q8(a, m, at / a.head_dim);
    }
}

nb_status nb_cuda_rope_append_kv(nb_backend *be, const nb_rope_args *a, nb_error *err)
{
    const nb_kv *kv = a->kv;
    const Rope r = {a->q,
                    a->k,
                    a->v,
                    a->inv_freq,
                    a->batch->seq,
                    a->batch->pos,
                    kv->k,
                    kv->v,
                    a->ldq,
                    a->ldk,
                    a->ldv,
                    a->n_head,
                    kv->n_kv_head,
                    kv->head_dim,
                    a->rope_dim,
                    a->interleaved,
                    kv->type,
                    nb_kv_pages_of(kv),
                    nb_kv_scales_of(kv)};
    return nb_launch(be, "rope_append_kv", rope_kernel, dim3((unsigned)a->batch->n_token),
                     dim3(128), 0, err, r);
}
