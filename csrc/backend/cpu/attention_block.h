/* attention_block.h -- what the keys of one block add to the state of query heads (attention.c): for
 * many tokens from rows that were made f32 once, a query against 16 keys at a time, its values in
 * registers; for one token straight from the cache, a key against all query heads at a time, as the
 * way through memory costs more than so few uses save. The same bits either way. Compiled once per
 * level. */
#ifndef NB_BACKEND_CPU_ATTENTION_BLOCK_H
#define NB_BACKEND_CPU_ATTENTION_BLOCK_H

#include "backend/cpu/cache_rows.h"
#include "backend/cpu/kernels.h"

enum {
    kKeys = NB_KV_PAGE,
    kGroup = 3, /* query heads of a token at once: 3 x 4 accumulators of p v */
    kMost = 4,  /* the same straight from the cache, where they share the reading */
    kWide = 4
};

typedef struct state {
    float *acc;       /* [rows][width] */
    float *top, *sum; /* [rows] */
} state;

typedef struct work {
    float *k, *v; /* [kKeys][width] */
    float *q;     /* [rows][width] */
    state piece, all;
    int64_t dim, width;
} work;

/* Scores of 16 keys from their sums by lane. */
NB_INLINE nb_v finish_scores(const nb_attention_args *a, const nb_v *part)
{
    nb_v v = nb_v_mul(nb_v_set1(a->scale), nb_v_sum16(part));
    if (a->soft_cap > 0.0f) {
        const nb_v cap = nb_v_set1(a->soft_cap);
        v = nb_v_mul(cap, nb_v_tanh(nb_v_div(v, cap)));
    }
    return v;
}

/* s[0 .. kKeys) = scale q . k, soft capped; only keys lo .. hi count, rounded out to 16. */
NB_INLINE void scores(const nb_attention_args *a, const work *t, const int64_t width,
                      const float *q, int lo, int hi, float *s)
{
    for (int i0 = lo / NB_LANES * NB_LANES; i0 < hi; i0 += NB_LANES) {
        nb_v part[NB_LANES];
        const float *k = t->k + i0 * width;
#pragma GCC unroll 16
        for (int i = 0; i < NB_LANES; i++)
            part[i] = nb_v_mul(nb_v_load(q), nb_v_load(k + i * width));
#pragma GCC unroll 4
        for (int64_t d = NB_LANES; d < width; d += NB_LANES) {
            const nb_v qd = nb_v_load(q + d);
#pragma GCC unroll 16
            for (int i = 0; i < NB_LANES; i++)
                part[i] = nb_v_fma(qd, nb_v_load(k + i * width + d), part[i]);
        }
        nb_v_store(s + i0, finish_scores(a, part));
    }
}

/* The softmax of one row over the block: s becomes p, 0 outside lo .. hi; returns f. */
static float weigh(float *top, float *sum, int lo, int hi, float *s)
{
    const int from = lo / NB_LANES * NB_LANES, to = (hi + NB_LANES - 1) / NB_LANES * NB_LANES;
    for (int i = from; i < lo; i++)
        s[i] = -HUGE_VALF;
    for (int i = hi; i < to; i++)
        s[i] = -HUGE_VALF;
    nb_v most = nb_v_set1(*top);
    for (int i = from; i < to; i += NB_LANES)
        most = nb_v_max(nb_v_load(s + i), most);
    const float new_top = nb_v_top(most);
    const nb_v up = nb_v_set1(new_top);
    nb_v total = nb_v_set1(0.0f);
    for (int i = from; i < to; i += NB_LANES) {
        nb_v p = nb_v_exp(nb_v_sub(nb_v_load(s + i), up));
        nb_v_store(s + i, p);
        if (i < lo || hi < i + NB_LANES) { /* e^-inf, which nb_v_exp holds above 0 */
            for (int j = i; j < lo; j++)
                s[j] = 0.0f;
            for (int j = hi > i ? hi : i; j < i + NB_LANES; j++)
                s[j] = 0.0f;
            p = nb_v_load(s + i);
        }
        total = nb_v_add(total, p);
    }
    float lane[NB_LANES];
    nb_v_store(lane, nb_v_exp(nb_v_set1(*top - new_top)));
    const float f = *sum > 0.0f ? lane[0] : 0.0f; /* before the first block top is -inf */
    *sum = *sum * f + nb_v_sum(total);
    *top = new_top;
    return f;
}

/* acc[r] = acc[r] f[r] + sum over lo <= t < hi of p[r][t] v[t], R rows by kWide vectors at a time.
 */
NB_INLINE void add_values(const int R, const work *t, const int64_t width, const float *f,
                          float (*p)[kKeys], int lo, int hi, float *acc)
{
    int64_t d = 0;
    for (; d + kWide * NB_LANES <= width; d += kWide * NB_LANES) {
        nb_v s[kGroup * kWide];
#pragma GCC unroll 16
        for (int i = 0; i < R * kWide; i++)
            s[i] = nb_v_mul(nb_v_set1(f[i / kWide]),
                            nb_v_load(acc + i / kWide * width + d + i % kWide * NB_LANES));
        for (int k = lo; k < hi; k++) {
            nb_v v[kWide];
#pragma GCC unroll 4
            for (int i = 0; i < kWide; i++)
                v[i] = nb_v_load(t->v + k * width + d + i * NB_LANES);
#pragma GCC unroll 16
            for (int i = 0; i < R * kWide; i++)
                s[i] = nb_v_fma(nb_v_set1(p[i / kWide][k]), v[i % kWide], s[i]);
        }
#pragma GCC unroll 16
        for (int i = 0; i < R * kWide; i++)
            nb_v_store(acc + i / kWide * width + d + i % kWide * NB_LANES, s[i]);
    }
    for (; d < width; d += NB_LANES)
        for (int r = 0; r < R; r++) {
            nb_v s = nb_v_mul(nb_v_set1(f[r]), nb_v_load(acc + r * width + d));
            for (int k = lo; k < hi; k++)
                s = nb_v_fma(nb_v_set1(p[r][k]), nb_v_load(t->v + k * width + d), s);
            nb_v_store(acc + r * width + d, s);
        }
}

/* R query heads of one token, rows row .. row + R, over keys lo .. hi of the block in t; width is a
 * constant where it is a common one. */
NB_INLINE void take_rows(const int R, const int64_t width, const nb_attention_args *a,
                         const work *t, int row, int lo, int hi)
{
    float p[kGroup][kKeys], f[kGroup];
#pragma GCC unroll 1
    for (int r = 0; r < R; r++)
        scores(a, t, width, t->q + (row + r) * width, lo, hi, p[r]);
#pragma GCC unroll 1
    for (int r = 0; r < R; r++)
        f[r] = weigh(&t->piece.top[row + r], &t->piece.sum[row + r], lo, hi, p[r]);
    add_values(R, t, width, f, p, lo, hi, t->piece.acc + row * width);
}

NB_INLINE void take_token(const int64_t width, const nb_attention_args *a, const work *t, int row,
                          int n, int lo, int hi)
{
    for (; n >= 3; n -= 3, row += 3)
        take_rows(3, width, a, t, row, lo, hi);
    if (n == 2)
        take_rows(2, width, a, t, row, lo, hi);
    else if (n == 1)
        take_rows(1, width, a, t, row, lo, hi);
}

/* n query heads of one token. */
static void take_block(const nb_attention_args *a, const work *t, int row, int n, int lo, int hi)
{
    if (t->width == 64)
        take_token(64, a, t, row, n, lo, hi);
    else if (t->width == 128)
        take_token(128, a, t, row, n, lo, hi);
    else
        take_token(t->width, a, t, row, n, lo, hi);
}

/* ---- one token, straight from the cache ---- */

typedef struct nb_cache_block {
    const nb_kv *kv;
    int64_t at, step; /* element of the head's first key and value; from one key to the next */
    int64_t next;     /* of the block that will be read next; `at`: none */
    int lo, hi;       /* keys that count */
    /* of the first key and value where the type is q8; so many lie from one key to the next */
    const uint16_t *k_scale, *v_scale;
    int64_t scale_step;
} nb_cache_block;

static bool can_take_direct(const nb_kv *kv)
{
    return kv->head_dim % NB_LANES == 0 && kv->type != NB_KV_FP8;
}

/* Scores as above of R heads; asks for the keys of the next block. */
NB_INLINE void direct_scores(const nb_kv_type type, const int R, const nb_attention_args *a,
                             const work *t, const nb_cache_block *b, const float *q,
                             float (*s)[kKeys])
{
    const nb_kv *kv = b->kv;
    const int64_t size = (int64_t)nb_kv_value_bytes(type), width = t->width;
    for (int i0 = b->lo / NB_LANES * NB_LANES; i0 < b->hi; i0 += NB_LANES) {
        nb_v part[kMost][NB_LANES];
        const int n = b->hi - i0 < NB_LANES ? b->hi - i0 : NB_LANES;
        for (int i = 0; i < n; i++) {
            const int64_t key = (i0 + i) * b->step;
            for (int64_t byte = 0; byte < width * size; byte += 64)
                __builtin_prefetch((const char *)kv->k + (b->next + key) * size + byte, 0, 2);
            const uint16_t *scale = b->k_scale + (i0 + i) * b->scale_step;
            nb_v k = load_lanes(type, kv->k, b->at + key, scale), sum[kMost];
#pragma GCC unroll 4
            for (int r = 0; r < R; r++)
                sum[r] = nb_v_mul(nb_v_load(q + r * width), k);
#pragma GCC unroll 1
            for (int64_t d = NB_LANES; d < width; d += NB_LANES) {
                k = load_lanes(type, kv->k, b->at + key + d, scale + d / NB_KV_GROUP);
#pragma GCC unroll 4
                for (int r = 0; r < R; r++)
                    sum[r] = nb_v_fma(nb_v_load(q + r * width + d), k, sum[r]);
            }
#pragma GCC unroll 4
            for (int r = 0; r < R; r++)
                part[r][i] = sum[r];
        }
#pragma GCC unroll 1
        for (int r = 0; r < R; r++) {
            for (int i = n; i < NB_LANES; i++)
                part[r][i] = nb_v_set1(0.0f);
            nb_v_store(s[r] + i0, finish_scores(a, part[r]));
        }
    }
}

/* add_values of W vectors from d on; asks for those of the next block. */
NB_INLINE void direct_values(const nb_kv_type type, const int R, const int W,
                             const nb_cache_block *b, const int64_t width, const float *f,
                             float (*p)[kKeys], int64_t d, float *acc)
{
    const nb_kv *kv = b->kv;
    const int64_t size = (int64_t)nb_kv_value_bytes(type);
    nb_v s[kMost * kWide];
#pragma GCC unroll 16
    for (int i = 0; i < R * W; i++)
        s[i] = nb_v_mul(nb_v_set1(f[i / W]), nb_v_load(acc + i / W * width + d + i % W * NB_LANES));
    for (int k = b->lo; k < b->hi; k++) {
        const int64_t key = k * b->step;
        nb_v v[kWide];
        for (int64_t byte = 0; byte < W * NB_LANES * size; byte += 64)
            __builtin_prefetch((const char *)kv->v + (b->next + key + d) * size + byte, 0, 2);
#pragma GCC unroll 4
        for (int i = 0; i < W; i++)
            v[i] = load_lanes(type, kv->v, b->at + key + d + i * NB_LANES,
                              b->v_scale + k * b->scale_step + (d + i * NB_LANES) / NB_KV_GROUP);
#pragma GCC unroll 16
        for (int i = 0; i < R * W; i++)
            s[i] = nb_v_fma(nb_v_set1(p[i / W][k]), v[i % W], s[i]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < R * W; i++)
        nb_v_store(acc + i / W * width + d + i % W * NB_LANES, s[i]);
}

NB_INLINE void direct_rows(const nb_kv_type type, const int R, const nb_attention_args *a,
                           const work *t, const nb_cache_block *b, int row)
{
    const int64_t width = t->width;
    float p[kMost][kKeys], f[kMost], *acc = t->piece.acc + row * width;
    int64_t d = 0;
    direct_scores(type, R, a, t, b, t->q + row * width, p);
#pragma GCC unroll 1
    for (int r = 0; r < R; r++)
        f[r] = weigh(&t->piece.top[row + r], &t->piece.sum[row + r], b->lo, b->hi, p[r]);
    for (; d + kWide * NB_LANES <= width; d += kWide * NB_LANES)
        direct_values(type, R, kWide, b, width, f, p, d, acc);
    for (; d < width; d += NB_LANES)
        direct_values(type, R, 1, b, width, f, p, d, acc);
}

NB_INLINE void direct_heads(const nb_kv_type type, const nb_attention_args *a, const work *t,
                            const nb_cache_block *b, int n)
{
    int row = 0;
    for (; n - row >= 4; row += 4)
        direct_rows(type, 4, a, t, b, row);
    if (n - row == 3)
        direct_rows(type, 3, a, t, b, row);
    else if (n - row == 2)
        direct_rows(type, 2, a, t, b, row);
    else if (n - row == 1)
        direct_rows(type, 1, a, t, b, row);
}

/* n query heads of one token. */
static void take_direct(const nb_attention_args *a, const work *t, const nb_cache_block *b, int n)
{
    switch (b->kv->type) {
    case NB_KV_F16:
        direct_heads(NB_KV_F16, a, t, b, n);
        break;
    case NB_KV_BF16:
        direct_heads(NB_KV_BF16, a, t, b, n);
        break;
    case NB_KV_Q8:
        direct_heads(NB_KV_Q8, a, t, b, n);
        break;
    default:
        direct_heads(NB_KV_F32, a, t, b, n);
    }
}

#endif
