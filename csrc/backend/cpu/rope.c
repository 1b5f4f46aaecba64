/* rope.c -- rotary positions (Su et al. 2021, eq. 34) on q and k, and the append to the cache;
 * compiled once per level.
 *
 *   angle = pos * inv_freq[i], rounded to f32: part of the op's definition
 *   (a, b) -> (a cos - b sin, b cos + a sin)   pair i: elements (2i, 2i+1) interleaved, else
 *                                              (i, i + rope_dim/2)
 *
 * cos and sin of a token are computed once for all its heads, kPairs at a time. The cache takes the
 * k just rotated and v as it is, rounded as kv.h says. Cost: rope_dim / 2 sines and cosines a
 * token, then O((n_head + 2 n_kv_head) head_dim). */
#include "backend/cpu/level.h"
#include "backend/kv.h"

enum { kPairs = 64 };

typedef struct turn {
    float c[kPairs], s[kPairs];
} turn;

/* Pairs i0 .. i0 + n of one head. */
static void rotate(float *head, const nb_rope_args *a, const turn *t, int i0, int n)
{
    if (a->interleaved) {
        float *p = head + 2 * i0;
        for (int i = 0; i < n; i++) {
            const float x = p[2 * i], y = p[2 * i + 1];
            p[2 * i] = fmaf(x, t->c[i], -(y * t->s[i]));
            p[2 * i + 1] = fmaf(y, t->c[i], x * t->s[i]);
        }
        return;
    }
    float *restrict p = head + i0, *restrict q = head + i0 + a->rope_dim / 2;
    for (int i = 0; i < n; i++) {
        const float x = p[i], y = q[i];
        p[i] = fmaf(x, t->c[i], -(y * t->s[i]));
        q[i] = fmaf(y, t->c[i], x * t->s[i]);
    }
}

static void store_row(const nb_kv *kv, void *cache, int64_t at, const float *src, int64_t n)
{
    if (kv->type != NB_KV_F32 && kv->type != NB_KV_F16) {
        for (int64_t i = 0; i < n; i += kv->head_dim)
            nb_kv_put(kv, cache, at + i, src + i);
        return;
    }
    if (kv->type == NB_KV_F32) {
        memcpy((float *)cache + at, src, (size_t)n * sizeof(float));
        return;
    }
    uint16_t *dst = (uint16_t *)cache + at;
    int64_t i = 0;
    for (; i + NB_LANES <= n; i += NB_LANES)
        nb_v_to_f16(dst + i, nb_v_load(src + i));
    for (; i < n; i++)
        dst[i] = nb_f16_from_f32(src[i]);
}

static void rope_token(const nb_rope_args *a, int64_t m)
{
    const nb_kv *kv = a->kv;
    const int64_t dim = kv->head_dim, row = (int64_t)kv->n_kv_head * dim;
    const int32_t pos = a->batch->pos[m], half = a->rope_dim / 2;
    float *q = a->q + m * a->ldq, *k = a->k + m * a->ldk;
    for (int i0 = 0; i0 < half; i0 += kPairs) {
        const int n = half - i0 < kPairs ? half - i0 : kPairs;
        turn t;
        for (int i = 0; i < n; i++) {
            const float angle = (float)pos * a->inv_freq[i0 + i];
            t.c[i] = cosf(angle);
            t.s[i] = sinf(angle);
        }
        for (int32_t h = 0; h < a->n_head; h++)
            rotate(q + h * dim, a, &t, i0, n);
        for (int32_t h = 0; h < kv->n_kv_head; h++)
            rotate(k + h * dim, a, &t, i0, n);
    }
    const int64_t at = nb_kv_place(kv, a->batch->seq[m], pos) * row;
    store_row(kv, kv->k, at, k, row);
    store_row(kv, kv->v, at, a->v + m * a->ldv, row);
}

static void rope_task(const void *arg, int64_t m, int worker)
{
    (void)worker;
    rope_token(arg, (int32_t)m);
}

void NB_LEVEL_NAME(nb_cpu_rope_append_kv)(const nb_cpu *cpu, const nb_rope_args *a)
{
    const int32_t n_token = a->batch->n_token;
    nb_pool_run(n_token > 8 ? cpu->pool : NULL, n_token, rope_task, a);
}
