/* kv.h -- how the cache holds keys and values, one at a time: the definition that every device's
 * rows are held to (docs/FORMATS.md, "The cache").
 *
 *   f32 f16 bf16 fp8   [n_page][64][n_kv_head][head_dim], each value rounded to nearest even; fp8
 *                      is E4M3 and ends at 448
 *   q8                 codes s8 in the same places; behind them, from a multiple of 64 bytes on,
 *                      scales f16 [n_page][64][n_kv_head][groups] group g of a head: its values
 *                      32 g .. 32 g + 31 (the last may be short); value = scale code
 *
 * q8: scale = f16(max |x| / 127), code = round(x / scale) within +-127; 0 where the scale is 0 or
 * not finite, so that what was not finite stays so. */
#ifndef NB_BACKEND_KV_H
#define NB_BACKEND_KV_H

#include "backend/backend.h"
#include "base/scalar.h"

#include <math.h>

enum { NB_KV_GROUP = 32 };

const char *nb_kv_type_name(nb_kv_type type); /* "f16" */
/* NB_USAGE with the nearest name where it is none; *out is then as it was. */
nb_status nb_kv_type_named(const char *name, nb_kv_type *out, nb_error *err) NB_CHECKED;

/* For a cache whose sequences hold their pages from the first to the last, one behind the other
 * (page i seq_pages + j is the j-th of sequence i): puts that table on the device, *table, the
 * caller's to release, and kv->page. */
nb_status nb_kv_in_order(nb_backend *be, nb_kv *kv, int32_t **table, nb_error *err) NB_CHECKED;

static inline int32_t nb_kv_pages(int64_t n_position) /* that hold so many */
{
    return (int32_t)((n_position + NB_KV_PAGE - 1) / NB_KV_PAGE);
}

/* Where position `pos` of a sequence lies, counted over [n_page][NB_KV_PAGE]; for tables that the
 * host can read. */
static inline int64_t nb_kv_place(const nb_kv *kv, int32_t seq, int64_t pos)
{
    return (int64_t)kv->page[(int64_t)seq * kv->seq_pages + pos / NB_KV_PAGE] * NB_KV_PAGE +
           pos % NB_KV_PAGE;
}

static inline int32_t nb_kv_groups(int32_t head_dim) /* of a head of q8 */
{
    return (head_dim + NB_KV_GROUP - 1) / NB_KV_GROUP;
}

static inline size_t nb_kv_value_bytes(nb_kv_type type) /* without scales */
{
    return type == NB_KV_F32 ? 4 : type == NB_KV_F16 || type == NB_KV_BF16 ? 2 : 1;
}

/* Where the scales of q8 begin; of the other types the end. */
static inline size_t nb_kv_scales_at(const nb_kv *kv)
{
    const size_t n = (size_t)kv->n_page * NB_KV_PAGE * (size_t)kv->n_kv_head *
                     (size_t)kv->head_dim * nb_kv_value_bytes(kv->type);
    return kv->type == NB_KV_Q8 ? (n + 63) / 64 * 64 : n;
}

/* Bytes of the keys, and of the values. */
static inline size_t nb_kv_bytes(const nb_kv *kv)
{
    const size_t heads = (size_t)kv->n_page * NB_KV_PAGE * (size_t)kv->n_kv_head;
    return nb_kv_scales_at(kv) +
           (kv->type == NB_KV_Q8 ? heads * (size_t)nb_kv_groups(kv->head_dim) * sizeof(uint16_t)
                                 : 0);
}

/* The scales of the head that holds element `at`. */
static inline const uint16_t *nb_kv_scales(const nb_kv *kv, const void *cache, int64_t at)
{
    return (const uint16_t *)(const void *)((const char *)cache + nb_kv_scales_at(kv)) +
           at / kv->head_dim * nb_kv_groups(kv->head_dim);
}

/* Element `at` of [n_page][NB_KV_PAGE][n_kv_head][head_dim]. */
static inline float nb_kv_get(const nb_kv *kv, const void *cache, int64_t at)
{
    switch (kv->type) {
    case NB_KV_F16:
        return nb_f32_from_f16(((const uint16_t *)cache)[at]);
    case NB_KV_BF16:
        return nb_f32_from_bf16(((const uint16_t *)cache)[at]);
    case NB_KV_Q8:
        return nb_f32_from_f16(nb_kv_scales(kv, cache, at)[at % kv->head_dim / NB_KV_GROUP]) *
               (float)((const int8_t *)cache)[at];
    case NB_KV_FP8:
        return nb_f32_from_e4m3(((const uint8_t *)cache)[at]);
    default:
        return ((const float *)cache)[at];
    }
}

/* The scale and the codes of n <= 32 values. */
static inline uint16_t nb_kv_quantize(const float *x, int32_t n, int8_t *code)
{
    float top = 0.0f;
    for (int32_t i = 0; i < n; i++) { /* NaN stays */
        const float v = fabsf(x[i]);
        top = v > top || v != v ? v : top;
    }
    const uint16_t scale = nb_f16_from_f32(top / 127.0f);
    const float s = nb_f32_from_f16(scale);
    for (int32_t i = 0; i < n; i++) {
        const float c = s > 0.0f && s <= 65504.0f ? rintf(x[i] / s) : 0.0f;
        code[i] = (int8_t)(c > 127.0f ? 127.0f : c < -127.0f ? -127.0f : c);
    }
    return scale;
}

/* One head's values, to element `at` on. */
static inline void nb_kv_put(const nb_kv *kv, void *cache, int64_t at, const float *x)
{
    const int32_t n = kv->head_dim;
    switch (kv->type) {
    case NB_KV_F16:
        for (int32_t i = 0; i < n; i++)
            ((uint16_t *)cache)[at + i] = nb_f16_from_f32(x[i]);
        break;
    case NB_KV_BF16:
        for (int32_t i = 0; i < n; i++)
            ((uint16_t *)cache)[at + i] = nb_bf16_from_f32(x[i]);
        break;
    case NB_KV_Q8: {
        uint16_t *scale =
            (uint16_t *)(void *)((char *)cache + nb_kv_scales_at(kv)) + at / n * nb_kv_groups(n);
        for (int32_t i = 0; i < n; i += NB_KV_GROUP)
            *scale++ = nb_kv_quantize(x + i, n - i < NB_KV_GROUP ? n - i : NB_KV_GROUP,
                                      (int8_t *)cache + at + i);
        break;
    }
    case NB_KV_FP8:
        for (int32_t i = 0; i < n; i++)
            ((uint8_t *)cache)[at + i] = nb_e4m3_from_f32(x[i]);
        break;
    default:
        memcpy((float *)cache + at, x, (size_t)n * sizeof *x);
    }
}

#endif
