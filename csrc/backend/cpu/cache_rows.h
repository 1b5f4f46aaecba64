/* cache_rows.h -- rows of the cache (kv.h) as f32, by whole vectors: what attention.c reads. Compiled
 * once per level. */
#ifndef NB_BACKEND_CPU_CACHE_ROWS_H
#define NB_BACKEND_CPU_CACHE_ROWS_H

#include "backend/cpu/vec.h"
#include "backend/kv.h"

#define NB_INLINE static inline __attribute__((always_inline))

/* E4M3 by way of f16, whose exponent is 8 greater and whose fraction 7 bits longer. */
NB_INLINE nb_v lanes_from_e4m3(const uint8_t *p)
{
    uint16_t half[NB_LANES];
    for (int i = 0; i < NB_LANES; i++) {
        const uint32_t b = p[i], mag = b & 0x7fu;
        half[i] = (uint16_t)((b & 0x80u) << 8 | (mag == 0x7fu ? 0x7e00u : mag << 7));
    }
    return nb_v_mul(nb_v_set1(256.0f), nb_v_from_f16(half));
}

/* Values `at` .. at + 15, which are of one group of q8; scale: its, nothing else has one. */
NB_INLINE nb_v load_lanes(const nb_kv_type type, const void *cache, int64_t at,
                          const uint16_t *scale)
{
    switch (type) {
    case NB_KV_F16:
        return nb_v_from_f16((const uint16_t *)cache + at);
    case NB_KV_BF16:
        return nb_v_from_bf16((const uint16_t *)cache + at);
    case NB_KV_Q8:
        return nb_v_mul(nb_v_set1(nb_f32_from_f16(*scale)),
                        nb_v_from_s8((const int8_t *)cache + at));
    case NB_KV_FP8:
        return lanes_from_e4m3((const uint8_t *)cache + at);
    default:
        return nb_v_load((const float *)cache + at);
    }
}

/* n rows of dim values, step apart from `at` on, to dst [n][width], the gap up to width 0. dim is a
 * constant where it is a common one. */
NB_INLINE void load_rows_of(const nb_kv_type type, const int64_t dim, const nb_kv *kv,
                            const void *cache, int64_t at, int64_t step, int n, float *dst)
{
    const int64_t width = (dim + NB_LANES - 1) / NB_LANES * NB_LANES;
    for (int k = 0; k < n; k++, dst += width, at += step) {
        const uint16_t *scale = nb_kv_scales(kv, cache, at); /* of q8 */
        int64_t i = 0;
        for (; i + NB_LANES <= dim; i += NB_LANES)
            nb_v_store(dst + i, load_lanes(type, cache, at + i, scale + i / NB_KV_GROUP));
        for (; i < width; i++)
            dst[i] = i < dim ? nb_kv_get(kv, cache, at + i) : 0.0f;
    }
}

NB_INLINE void load_rows(const int64_t dim, const nb_kv *kv, const void *cache, int64_t at,
                         int64_t step, int n, float *dst)
{
    switch (kv->type) {
    case NB_KV_F16:
        load_rows_of(NB_KV_F16, dim, kv, cache, at, step, n, dst);
        break;
    case NB_KV_BF16:
        load_rows_of(NB_KV_BF16, dim, kv, cache, at, step, n, dst);
        break;
    case NB_KV_Q8:
        load_rows_of(NB_KV_Q8, dim, kv, cache, at, step, n, dst);
        break;
    case NB_KV_FP8:
        load_rows_of(NB_KV_FP8, dim, kv, cache, at, step, n, dst);
        break;
    default:
        load_rows_of(NB_KV_F32, dim, kv, cache, at, step, n, dst);
    }
}

/* Those of one head of a cache, whose first value is element `at`. */
static void nb_cache_rows(const nb_kv *kv, const void *cache, int64_t at, int64_t step, int n,
                          float *dst)
{
    if (kv->head_dim == 64)
        load_rows(64, kv, cache, at, step, n, dst);
    else if (kv->head_dim == 128)
        load_rows(128, kv, cache, at, step, n, dst);
    else
        load_rows(kv->head_dim, kv, cache, at, step, n, dst);
}

#endif
