/* codec.h -- from packed codes to the A registers of mma.m16n8k16, a struct a layout of weight.h.
 *
 *   kBytes    of a unit                    kSteps   steps of 16 positions that 16 bytes of a lane hold
 *   kScaled   lines beside the codes       kAffine  with offsets, so the sum of x is wanted too
 *   kBias     a fragment holds code + kBias: exact in bf16, and taken back before or after the product
 *   fragment  step `in` of a chunk as a[4]
 *   value     the code (T4, BF16: the value) of one element, for embed and experts
 *
 * Instructions for 8 codes: U4 7, T4 21, U8 20, BF16 none. */
#ifndef NB_CUDA_LINEAR_CODEC_H
#define NB_CUDA_LINEAR_CODEC_H

#include "linear/weight.h"

/* Where an element lies within a block of 16 rows: the lane, its step, its pair, and which of the pair. */
struct Place {
    int block, lane, step, pair, odd;
};
DEVI Place nb_place(int row, int in)
{
    return {row >> 4, (row & 7) * 4 + (in >> 1 & 3), in >> 4, (row >> 3 & 1) + (in >> 3 & 1) * 2, in & 1};
}

/* 128 + q is 0x4300 | q in bf16: its seven bits of fraction hold whole numbers. */
struct U4 {
    static constexpr int kBytes = 2048, kSteps = 4, kStages = 3, kWarps = 8;
    static constexpr bool kScaled = true, kAffine = true;
    static constexpr float kBias = 128.0f;
    DEVI void fragment(const Packed &, const uint4 &chunk, int in, uint32_t (&a)[4])
    {
        const uint32_t w = in == 0 ? chunk.x : in == 1 ? chunk.y : in == 2 ? chunk.z : chunk.w;
#pragma unroll
        for (int j = 0; j < 4; j++)
            a[j] = lop3<0xEA>(w >> (4 * j), 0x000f000fu, 0x43004300u); /* (w & mask) | magic */
    }
    DEVI float value(const Packed &, const uint8_t *unit, int row, int in)
    {
        const Place p = nb_place(row, in);
        const int bit = 16 * p.odd + 4 * p.pair;
        return (float)(unit[p.block * 512 + p.lane * 16 + p.step * 4 + bit / 8] >> (bit % 8) & 15);
    }
};

/* Sixteen values by their bytes: prmt picks 4 at a time of the lower and of the upper half of the table, a second one between the two. */
struct T4 {
    static constexpr int kBytes = 2048, kSteps = 4, kStages = 3, kWarps = 8;
    static constexpr bool kScaled = true, kAffine = false;
    static constexpr float kBias = 0.0f;
    DEVI void fragment(const Packed &w, const uint4 &chunk, int in, uint32_t (&a)[4])
    {
        const uint32_t q = in == 0 ? chunk.x : in == 1 ? chunk.y : in == 2 ? chunk.z : chunk.w;
        const uint32_t pick = q & 0x77777777u, half = (q >> 1 & 0x44444444u) | 0x32103210u;
#pragma unroll
        for (int i = 0; i < 2; i++) { /* nibbles 4i .. 4i + 3 are pairs 2i, 2i + 1 */
            const uint32_t s = pick >> (16 * i), h = half >> (16 * i);
            const uint32_t lo = prmt(prmt(w.low[0], w.low[1], s), prmt(w.low[2], w.low[3], s), h);
            const uint32_t hi = prmt(prmt(w.high[0], w.high[1], s), prmt(w.high[2], w.high[3], s), h);
            a[2 * i] = prmt(lo, hi, 0x5140);
            a[2 * i + 1] = prmt(lo, hi, 0x7362);
        }
    }
    DEVI float value(const Packed &w, const uint8_t *unit, int row, int in)
    {
        const Place p = nb_place(row, in);
        const int q = unit[p.block * 512 + p.lane * 16 + p.step * 4 + p.pair] >> (4 * p.odd) & 15, at = q % 4 * 8;
        return __uint_as_float((w.high[q / 4] >> at & 255) << 24 | (w.low[q / 4] >> at & 255) << 16);
    }
};

/* 0x4b0000uu is 2^23 + u; less 2^23 + 128 it is u - 128, whose upper half is all of it. */
struct U8 {
    static constexpr int kBytes = 4096, kSteps = 2, kStages = 2, kWarps = 8;
    static constexpr bool kScaled = true, kAffine = true;
    static constexpr float kBias = -128.0f;
    DEVI void fragment(const Packed &, const uint4 &chunk, int in, uint32_t (&a)[4])
    {
        const uint32_t q[2] = {in ? chunk.z : chunk.x, in ? chunk.w : chunk.y};
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const float lo = __uint_as_float(prmt(q[j / 2], 0x4b000000u, j % 2 ? 0x7442 : 0x7440)) - 8388736.0f;
            const float hi = __uint_as_float(prmt(q[j / 2], 0x4b000000u, j % 2 ? 0x7443 : 0x7441)) - 8388736.0f;
            a[j] = prmt(__float_as_uint(lo), __float_as_uint(hi), 0x7632);
        }
    }
    DEVI float value(const Packed &, const uint8_t *unit, int row, int in)
    {
        const Place p = nb_place(row, in);
        return (float)unit[p.block * 1024 + p.step / 2 * 512 + p.lane * 16 + p.step % 2 * 8 + 2 * p.pair + p.odd];
    }
};

struct Bf16 {
    static constexpr int kBytes = 8192, kSteps = 1, kStages = 2, kWarps = 4;
    static constexpr bool kScaled = false, kAffine = false;
    static constexpr float kBias = 0.0f;
    DEVI void fragment(const Packed &, const uint4 &chunk, int, uint32_t (&a)[4])
    {
        a[0] = chunk.x;
        a[1] = chunk.y;
        a[2] = chunk.z;
        a[3] = chunk.w;
    }
    DEVI float value(const Packed &, const uint8_t *unit, int row, int in)
    {
        const Place p = nb_place(row, in);
        const uint16_t *v = (const uint16_t *)(const void *)(unit + p.block * 2048 + p.step * 512 + p.lane * 16);
        return __uint_as_float((uint32_t)v[2 * p.pair + p.odd] << 16);
    }
};

/* ---- what a lane takes from a line in shared memory, for rows g (0) and g + 8 (1) of a block: at = 8 g + 2 block ---- */

DEVI void nb_line_scales(const Packed &w, const uint8_t *line, int at, float (&s)[2])
{
    if (w.kind == NB_LINE_F32) {
        const uint2 v = ld_v2(line + 4 * at);
        s[0] = __uint_as_float(v.x);
        s[1] = __uint_as_float(v.y);
    } else {
        const uint32_t v = *(const uint32_t *)(const void *)(line + 2 * at);
        s[0] = nb_half_lo(v);
        s[1] = nb_half_hi(v);
    }
}
DEVI void nb_line_offsets(const Packed &w, const uint8_t *line, int at, float (&b)[2]) /* kinds OFFSET and F32 */
{
    if (w.kind == NB_LINE_F32) {
        const uint2 v = ld_v2(line + 4 * (kPanel + at));
        b[0] = __uint_as_float(v.x);
        b[1] = __uint_as_float(v.y);
    } else {
        const uint32_t v = *(const uint32_t *)(const void *)(line + 2 * (kPanel + at));
        b[0] = nb_half_lo(v);
        b[1] = nb_half_hi(v);
    }
}
/* What makes a fragment the code less its zero: -(bias + zero) twice as bf16, which holds it and the difference exactly (pack.cu sees to that). */
template <class C> DEVI void nb_line_back(const Packed &w, const uint8_t *line, int at, uint32_t (&back)[2])
{
    float z[2] = {w.zero, w.zero};
    if (w.kind == NB_LINE_ZERO) {
        const uint32_t v = *(const uint16_t *)(const void *)(line + 2 * kPanel + at);
        z[0] = __uint_as_float(prmt(v, 0x4b000000u, 0x7440)) - 8388608.0f; /* 2^23 + u, as in U8: no conversion by the slow unit */
        z[1] = __uint_as_float(prmt(v, 0x4b000000u, 0x7441)) - 8388608.0f;
    }
    back[0] = bf2_pack(-(C::kBias + z[0]), -(C::kBias + z[0]));
    back[1] = bf2_pack(-(C::kBias + z[1]), -(C::kBias + z[1]));
}

/* Calls f with the codec of a weight: f(U4()), f(T4()) ... */
template <class F> static inline nb_status nb_with_codec(const nb_weight *w, F f)
{
    switch (w->codes) {
    case NB_CUDA_U4:
        return f(U4());
    case NB_CUDA_T4:
        return f(T4());
    case NB_CUDA_U8:
        return f(U8());
    default:
        return f(Bf16());
    }
}

#endif
