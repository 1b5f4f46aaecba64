/* kv.h -- the types of the cache in device code, as csrc/backend/kv.h defines them: eight
 * neighbours of a head at once, one value, one group of q8. */
#ifndef NB_CUDA_KV_H
#define NB_CUDA_KV_H

#include "half.h"

#include "backend/kv.h"

/* Elements of a cache; f32 is float, f16 uint16_t. */
struct Bf16 {
    uint16_t bits;
};
struct Q8 {
    int8_t code;
};
struct Fp8 {
    uint8_t bits;
};

/* Where a q8 cache keeps its scales, and how many a head has. */
struct KvScales {
    int64_t at; /* bytes behind the first code */
    int groups;
};
static inline KvScales nb_kv_scales_of(const nb_kv *kv)
{
    return {(int64_t)nb_kv_scales_at(kv), nb_kv_groups(kv->head_dim)};
}
/* The scales of the head-vector `n`, counted over [n_page][NB_KV_PAGE][n_kv_head]. */
DEVI const uint16_t *nb_scales(const KvScales &s, const void *cache, int64_t n)
{
    return (const uint16_t *)((const char *)cache + s.at) + n * s.groups;
}

/* Where positions lie: the table of nb_kv. */
struct KvPages {
    const int32_t *page;
    int seq_pages;
};
static inline KvPages nb_kv_pages_of(const nb_kv *kv)
{
    return {kv->page, kv->seq_pages};
}
/* Position pos of a sequence, counted over [n_page][NB_KV_PAGE]. */
DEVI int64_t nb_place(const KvPages &p, int seq, int pos)
{
    return (int64_t)p.page[(int64_t)seq * p.seq_pages + pos / NB_KV_PAGE] * NB_KV_PAGE +
           pos % NB_KV_PAGE;
}

/* E4M3 by way of f16, whose exponent is 8 greater and whose fraction 7 bits longer. */
DEVI float nb_e4m3_value(uint32_t b)
{
    const uint32_t mag = b & 0x7fu;
    return mag == 0x7fu ? __uint_as_float(0x7fc00000u)
                        : nb_half_lo((b & 0x80u) << 8 | mag << 7) * 256.0f;
}
/* As nb_e4m3_from_f32 of base/scalar.h. */
DEVI uint8_t nb_e4m3_of(float f)
{
    const uint32_t u = __float_as_uint(f), sign = u >> 24 & 0x80u, mag = u & 0x7fffffffu;
    const uint32_t normal = ((mag + 0x7ffffu + (mag >> 20 & 1u)) >> 20) - 960u;
    const uint32_t small = __float_as_uint(__uint_as_float(mag) + 16384.0f) - 0x46800000u;
    return (uint8_t)(sign | (mag >= 0x7f800000u  ? 0x7fu
                             : mag > 0x43e00000u ? 0x7eu
                             : mag < 0x3c800000u ? small
                                                 : normal));
}

/* Eight neighbours: their bits (kVecs loads of 16 bytes), then floats. scale: of their group, q8
 * only. */
template <class T> struct Kv;
template <> struct Kv<uint16_t> {
    static constexpr int kVecs = 1;
    static __device__ __forceinline__ void load(const uint16_t *p, const uint16_t *, uint4 (&v)[1])
    {
        v[0] = ld_v4(p);
    }
    static __device__ __forceinline__ void floats(const uint4 (&v)[1], float (&x)[8])
    {
        const uint32_t w[4] = {v[0].x, v[0].y, v[0].z, v[0].w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            x[2 * i] = nb_half_lo(w[i]);
            x[2 * i + 1] = nb_half_hi(w[i]);
        }
    }
};
template <> struct Kv<float> {
    static constexpr int kVecs = 2;
    static __device__ __forceinline__ void load(const float *p, const uint16_t *, uint4 (&v)[2])
    {
        v[0] = ld_v4(p);
        v[1] = ld_v4(p + 4);
    }
    static __device__ __forceinline__ void floats(const uint4 (&v)[2], float (&x)[8])
    {
        const uint32_t w[8] = {v[0].x, v[0].y, v[0].z, v[0].w, v[1].x, v[1].y, v[1].z, v[1].w};
#pragma unroll
        for (int i = 0; i < 8; i++)
            x[i] = __uint_as_float(w[i]);
    }
};
template <> struct Kv<Bf16> {
    static constexpr int kVecs = 1;
    static __device__ __forceinline__ void load(const Bf16 *p, const uint16_t *, uint4 (&v)[1])
    {
        v[0] = ld_v4(p);
    }
    static __device__ __forceinline__ void floats(const uint4 (&v)[1], float (&x)[8])
    {
        const uint32_t w[4] = {v[0].x, v[0].y, v[0].z, v[0].w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            x[2 * i] = bf2_lo(w[i]);
            x[2 * i + 1] = bf2_hi(w[i]);
        }
    }
};
template <> struct Kv<Q8> {
    static constexpr int kVecs = 1;
    static __device__ __forceinline__ void load(const Q8 *p, const uint16_t *scale, uint4 (&v)[1])
    {
        const uint2 c = ld_v2(p);
        v[0] = make_uint4(c.x, c.y, *scale, 0);
    }
    static __device__ __forceinline__ void floats(const uint4 (&v)[1], float (&x)[8])
    {
        const float s = nb_half_lo(v[0].z);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            x[i] = s * (float)(int8_t)(v[0].x >> 8 * i);
            x[4 + i] = s * (float)(int8_t)(v[0].y >> 8 * i);
        }
    }
};
template <> struct Kv<Fp8> {
    static constexpr int kVecs = 1;
    static __device__ __forceinline__ void load(const Fp8 *p, const uint16_t *, uint4 (&v)[1])
    {
        const uint2 c = ld_v2(p);
        v[0] = make_uint4(c.x, c.y, 0, 0);
    }
    static __device__ __forceinline__ void floats(const uint4 (&v)[1], float (&x)[8])
    {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            x[i] = nb_e4m3_value(v[0].x >> 8 * i & 0xffu);
            x[4 + i] = nb_e4m3_value(v[0].y >> 8 * i & 0xffu);
        }
    }
};

/* Value e of the head-vector n. */
DEVI float nb_kv_value(int type, const KvScales &s, const void *cache, int64_t n, int head_dim,
                       int e)
{
    const int64_t at = n * head_dim + e;
    switch (type) {
    case NB_KV_F16:
        return nb_half_get((const uint16_t *)cache + at);
    case NB_KV_BF16:
        return bf2_lo(((const uint16_t *)cache)[at]);
    case NB_KV_Q8:
        return nb_half_get(nb_scales(s, cache, n) + e / NB_KV_GROUP) *
               (float)((const int8_t *)cache)[at];
    case NB_KV_FP8:
        return nb_e4m3_value(((const uint8_t *)cache)[at]);
    default:
        return ((const float *)cache)[at];
    }
}

/* One value into a cache of any type but q8, whose values come in groups. */
DEVI void nb_kv_store(int type, void *cache, int64_t at, float v)
{
    if (type == NB_KV_F16)
        ((uint16_t *)cache)[at] = nb_half_of(v);
    else if (type == NB_KV_BF16)
        ((uint16_t *)cache)[at] = (uint16_t)bf2_pack(v, 0.0f);
    else if (type == NB_KV_FP8)
        ((uint8_t *)cache)[at] = nb_e4m3_of(v);
    else if (type == NB_KV_F32)
        ((float *)cache)[at] = v;
}

/* A warp quantizes group g of n values x: a lane a value, as nb_kv_quantize does. code: the group's
 * first; scale: its own. */
DEVI void nb_kv_quantize_warp(const float *x, int n, int8_t *code, uint16_t *scale)
{
    const int lane = threadIdx.x & 31;
    const float v = lane < n ? x[lane] : 0.0f;
    float top = fabsf(v);
#pragma unroll
    for (int o = 16; o; o >>= 1) { /* NaN stays */
        const float other = __shfl_xor_sync(0xffffffffu, top, o);
        top = other > top || other != other ? other : top;
    }
    const uint16_t half = nb_half_of(top / 127.0f);
    const float s = nb_half_get(&half), c = s > 0.0f && s <= 65504.0f ? rintf(v / s) : 0.0f;
    if (lane < n)
        code[lane] = (int8_t)(c > 127.0f ? 127.0f : c < -127.0f ? -127.0f : c);
    if (lane == 0)
        *scale = half;
}

#endif
