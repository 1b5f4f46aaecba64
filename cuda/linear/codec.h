/* codec.h -- from packed codes to the A registers of mma.m16n8k16, a struct a layout of weight.h.
 *
 *   kCodes    its number in weight.h
 *   kBytes    of a unit                    kScaled  lines beside the codes
 *   kLines    1, 2 or 4 lines a unit: those that formats ask for and kernels exist for, as a bit
 *             set
 *   kLevels   those of them that two-level scales come in
 *   kAffine   with offsets, so the sum of x is wanted too
 *   kBias     a fragment holds code + kBias: exact in bf16, and taken back before or after the
 *             product
 *   Chunk     what a lane keeps of a block; load: its part for step i, when that is the first of
 *             several
 *   fragment  step i of a block as a[4]
 *   value     the code (T3, T4, BF16: the value) of one element, for embed and experts
 *   put       packing, on the host: codes q[0], q[1] of pair hi and q[8], q[9] of pair hi + 2 of a
 *             lane's step i, into zeros
 *
 * Instructions for 8 codes, shared loads not counted: U2 7.5, U3 10.5, U4 7, U5 11, U6 10.5, U8 20,
 * T3 11, T4 21, BF16 none. */
#ifndef NB_CUDA_LINEAR_CODEC_H
#define NB_CUDA_LINEAR_CODEC_H

#include "linear/weight.h"

#include <cstring>

/* Where an element lies within a block of 16 rows: the lane, its step, its pair, and which of the
 * pair. */
struct Place {
    int block, lane, step, pair, odd;
};
DEVI Place nb_place(int row, int in)
{
    return {row >> 4, (row & 7) * 4 + (in >> 1 & 3), in >> 4, (row >> 3 & 1) + (in >> 3 & 1) * 2,
            in & 1};
}
DEVI uint32_t nb_word(const uint8_t *p)
{
    return *(const uint32_t *)(const void *)p;
}
static inline void nb_or(uint8_t *p, uint32_t bits)
{
    *(uint32_t *)(void *)p |= bits;
}

/* 128 + q is 0x4300 | q in bf16: its seven bits of fraction hold whole numbers. */
struct U4 {
    typedef uint4 Chunk;
    static constexpr nb_cuda_codes kCodes = NB_CUDA_U4;
    static constexpr int kBytes = 2048, kStages = 3, kWarps = 8, kLines = 1 | 2 | 4, kLevels = 2;
    static constexpr bool kScaled = true, kAffine = true;
    static constexpr float kBias = 128.0f;
    DEVI void load(const uint8_t *unit, int block, int i, int lane, Chunk &c)
    {
        if (i == 0)
            c = ld_v4(unit + block * 512 + lane * 16);
    }
    DEVI void fragment(const Packed &, const Chunk &c, int i, uint32_t (&a)[4])
    {
        const uint32_t w = i == 0 ? c.x : i == 1 ? c.y : i == 2 ? c.z : c.w;
#pragma unroll
        for (int j = 0; j < 4; j++)
            a[j] = lop3<0xEA>(w >> (4 * j), 0x000f000fu, 0x43004300u); /* (w & mask) | magic */
    }
    static __host__ __device__ int bit(int pair, int odd)
    {
        return 16 * odd + 4 * pair;
    }
    DEVI float value(const Packed &, const uint8_t *unit, int row, int in)
    {
        const Place p = nb_place(row, in);
        return (float)(nb_word(unit + p.block * 512 + p.lane * 16 + p.step * 4) >>
                           bit(p.pair, p.odd) &
                       15);
    }
    static void put(uint8_t *unit, int block, int lane, int i, int hi, const uint8_t *q)
    {
        nb_or(unit + block * 512 + lane * 16 + i * 4,
              ((uint32_t)(q[0] & 15) | (uint32_t)(q[8] & 15) << 8 | (uint32_t)(q[1] & 15) << 16 |
               (uint32_t)(q[9] & 15) << 24)
                  << (4 * hi));
    }
};

/* ---- planes: the bits of codes that are no whole number of nibbles ----
 *
 * The codes of pairs 0 and 2 meet in the bytes of one word, first of 0, first of 2, second of 0,
 * second of 2, those of pairs 1 and 3 in another: so one shift brings four bits to their place, and
 * prmt sets 0x43 above two bytes at once. Hence byte `at` and which word, y, of a code: */
struct InPlane {
    int at, y;
};
static __host__ __device__ inline InPlane nb_in_plane(int pair, int odd)
{
    return {(pair >> 1) + 2 * odd, pair & 1};
}
/* The lowest bit of a code in word i / 2 of a plane of 2 bits, and its bit in the word of a plane
 * of 1 bit. */
static __host__ __device__ inline int nb_in_two(InPlane p, int i)
{
    return 8 * p.at + 4 * (i & 1) + 2 * p.y;
}
static __host__ __device__ inline int nb_in_one(InPlane p, int i)
{
    return 8 * p.at + 2 * i + p.y;
}

DEVI uint32_t nb_shift(uint32_t w, int right) /* right: constant, may be negative */
{
    return right > 0 ? w >> right : w << -right;
}
/* Step i's bits of word y, in bits `to` on of the bytes; what else is there wants to be masked. */
DEVI uint32_t nb_two(const uint2 &plane, int i, int y, int to)
{
    return nb_shift(i & 2 ? plane.y : plane.x, 4 * (i & 1) + 2 * y - to);
}
DEVI uint32_t nb_one(uint32_t plane, int i, int y, int to)
{
    return nb_shift(plane, 2 * i + y - to);
}
/* (bits & mask) | rest */
DEVI uint32_t nb_join(uint32_t bits, uint32_t mask, uint32_t rest)
{
    return lop3<0xEA>(bits, mask, rest);
}
/* Codes in bytes to pairs of 128 + code. */
DEVI void nb_from_bytes(uint32_t even, uint32_t odd, uint32_t (&a)[4])
{
    a[0] = prmt(even, 0x43434343u, 0x4240);
    a[1] = prmt(odd, 0x43434343u, 0x4240);
    a[2] = prmt(even, 0x43434343u, 0x4341);
    a[3] = prmt(odd, 0x43434343u, 0x4341);
}

/* A plane of 2 bits at `unit`, one of 1 bit: one element, and packing. */
DEVI int nb_value_two(const uint8_t *plane, const Place &p)
{
    return (int)(nb_word(plane + p.block * 256 + p.lane * 8 + p.step / 2 * 4) >>
                     nb_in_two(nb_in_plane(p.pair, p.odd), p.step) &
                 3);
}
DEVI int nb_value_one(const uint8_t *plane, const Place &p)
{
    return (int)(nb_word(plane + p.block * 128 + p.lane * 4) >>
                     nb_in_one(nb_in_plane(p.pair, p.odd), p.step) &
                 1);
}
static inline void nb_put_two(uint8_t *plane, int block, int lane, int i, int hi, const uint8_t *q,
                              int bit)
{
    uint32_t bits = 0;
    for (int k = 0; k < 4; k++) /* first and second of pair hi, then of pair hi + 2 */
        bits |= (uint32_t)(q[k / 2 * 8 + k % 2] >> bit & 3)
                << nb_in_two(nb_in_plane(hi + k / 2 * 2, k % 2), i);
    nb_or(plane + block * 256 + lane * 8 + i / 2 * 4, bits);
}
static inline void nb_put_one(uint8_t *plane, int block, int lane, int i, int hi, const uint8_t *q,
                              int bit)
{
    uint32_t bits = 0;
    for (int k = 0; k < 4; k++)
        bits |= (uint32_t)(q[k / 2 * 8 + k % 2] >> bit & 1)
                << nb_in_one(nb_in_plane(hi + k / 2 * 2, k % 2), i);
    nb_or(plane + block * 128 + lane * 4, bits);
}

struct U2 {
    typedef uint2 Chunk;
    static constexpr nb_cuda_codes kCodes = NB_CUDA_U2;
    static constexpr int kBytes = 1024, kStages = 3, kWarps = 8, kLines = 1 | 4, kLevels = 4;
    static constexpr bool kScaled = true, kAffine = true;
    static constexpr float kBias = 128.0f;
    DEVI void load(const uint8_t *unit, int block, int i, int lane, Chunk &c)
    {
        if (i == 0)
            c = ld_v2(unit + block * 256 + lane * 8);
    }
    DEVI void fragment(const Packed &, const Chunk &c, int i, uint32_t (&a)[4])
    {
        nb_from_bytes(nb_two(c, i, 0, 0) & 0x03030303u, nb_two(c, i, 1, 0) & 0x03030303u, a);
    }
    DEVI float value(const Packed &, const uint8_t *unit, int row, int in)
    {
        return (float)nb_value_two(unit, nb_place(row, in));
    }
    static void put(uint8_t *unit, int block, int lane, int i, int hi, const uint8_t *q)
    {
        nb_put_two(unit, block, lane, i, hi, q, 0);
    }
};

/* What U3 and T3 keep of a block. */
struct Chunk3 {
    uint2 two;
    uint32_t one;
};
DEVI void nb_load3(const uint8_t *unit, int block, int i, int lane, Chunk3 &c)
{
    if (i == 0) {
        c.two = ld_v2(unit + block * 256 + lane * 8);
        c.one = nb_word(unit + 1024 + block * 128 + lane * 4);
    }
}
DEVI int nb_value3(const uint8_t *unit, int row, int in)
{
    const Place p = nb_place(row, in);
    return nb_value_two(unit, p) | nb_value_one(unit + 1024, p) << 2;
}

struct U3 {
    typedef Chunk3 Chunk;
    static constexpr nb_cuda_codes kCodes = NB_CUDA_U3;
    static constexpr int kBytes = 1536, kStages = 3, kWarps = 8, kLines = 1 | 4, kLevels = 4;
    static constexpr bool kScaled = true, kAffine = true;
    static constexpr float kBias = 128.0f;
    DEVI void load(const uint8_t *unit, int block, int i, int lane, Chunk &c)
    {
        nb_load3(unit, block, i, lane, c);
    }
    DEVI void fragment(const Packed &, const Chunk &c, int i, uint32_t (&a)[4])
    {
        uint32_t word[2];
#pragma unroll
        for (int y = 0; y < 2; y++)
            word[y] =
                nb_join(nb_one(c.one, i, y, 2), 0x04040404u, nb_two(c.two, i, y, 0) & 0x03030303u);
        nb_from_bytes(word[0], word[1], a);
    }
    DEVI float value(const Packed &, const uint8_t *unit, int row, int in)
    {
        return (float)nb_value3(unit, row, in);
    }
    static void put(uint8_t *unit, int block, int lane, int i, int hi, const uint8_t *q)
    {
        nb_put_two(unit, block, lane, i, hi, q, 0);
        nb_put_one(unit + 1024, block, lane, i, hi, q, 2);
    }
};

struct U5 {
    struct Chunk {
        uint4 four;
        uint32_t one;
    };
    static constexpr nb_cuda_codes kCodes = NB_CUDA_U5;
    static constexpr int kBytes = 2560, kStages = 3, kWarps = 8, kLines = 2, kLevels = 2;
    static constexpr bool kScaled = true, kAffine = true;
    static constexpr float kBias = 128.0f;
    DEVI void load(const uint8_t *unit, int block, int i, int lane, Chunk &c)
    {
        U4::load(unit, block, i, lane, c.four);
        if (i == 0)
            c.one = nb_word(unit + 2048 + block * 128 + lane * 4);
    }
    DEVI void fragment(const Packed &, const Chunk &c, int i, uint32_t (&a)[4])
    {
        const uint32_t w = i == 0 ? c.four.x : i == 1 ? c.four.y : i == 2 ? c.four.z : c.four.w;
        nb_from_bytes(nb_join(nb_one(c.one, i, 0, 4), 0x10101010u, w & 0x0f0f0f0fu),
                      nb_join(nb_one(c.one, i, 1, 4), 0x10101010u, w >> 4 & 0x0f0f0f0fu), a);
    }
    DEVI float value(const Packed &w, const uint8_t *unit, int row, int in)
    {
        return U4::value(w, unit, row, in) +
               16.0f * (float)nb_value_one(unit + 2048, nb_place(row, in));
    }
    static void put(uint8_t *unit, int block, int lane, int i, int hi, const uint8_t *q)
    {
        U4::put(unit, block, lane, i, hi, q);
        nb_put_one(unit + 2048, block, lane, i, hi, q, 4);
    }
};

struct U6 {
    struct Chunk {
        uint4 four;
        uint2 two;
    };
    static constexpr nb_cuda_codes kCodes = NB_CUDA_U6;
    static constexpr int kBytes = 3072, kStages = 2, kWarps = 8, kLines = 4, kLevels = 4;
    static constexpr bool kScaled = true, kAffine = true;
    static constexpr float kBias = 128.0f;
    DEVI void load(const uint8_t *unit, int block, int i, int lane, Chunk &c)
    {
        U4::load(unit, block, i, lane, c.four);
        if (i == 0)
            c.two = ld_v2(unit + 2048 + block * 256 + lane * 8);
    }
    DEVI void fragment(const Packed &, const Chunk &c, int i, uint32_t (&a)[4])
    {
        const uint32_t w = i == 0 ? c.four.x : i == 1 ? c.four.y : i == 2 ? c.four.z : c.four.w;
        nb_from_bytes(nb_join(nb_two(c.two, i, 0, 4), 0x30303030u, w & 0x0f0f0f0fu),
                      nb_join(nb_two(c.two, i, 1, 4), 0x30303030u, w >> 4 & 0x0f0f0f0fu), a);
    }
    DEVI float value(const Packed &w, const uint8_t *unit, int row, int in)
    {
        return U4::value(w, unit, row, in) +
               16.0f * (float)nb_value_two(unit + 2048, nb_place(row, in));
    }
    static void put(uint8_t *unit, int block, int lane, int i, int hi, const uint8_t *q)
    {
        U4::put(unit, block, lane, i, hi, q);
        nb_put_two(unit + 2048, block, lane, i, hi, q, 4);
    }
};

/* ---- tables of values, by their bytes ---- */

DEVI float nb_table(const Packed &w, int q)
{
    const int at = q % 4 * 8;
    return __uint_as_float((w.high[q / 4] >> at & 255) << 24 | (w.low[q / 4] >> at & 255) << 16);
}

/* Eight values: their bytes are what prmt picks from, by codes in nibbles. Pair j in byte j, first
 * code low, as in T4: so the planes hold a code at other places than U3's, nibble 2 pair + odd. */
struct T3 {
    typedef Chunk3 Chunk;
    static constexpr nb_cuda_codes kCodes = NB_CUDA_T3;
    static constexpr int kBytes = 1536, kStages = 3, kWarps = 8, kLines = 2 | 4, kLevels = 2 | 4;
    static constexpr bool kScaled = true, kAffine = false;
    static constexpr float kBias = 0.0f;
    DEVI void load(const uint8_t *unit, int block, int i, int lane, Chunk &c)
    {
        nb_load3(unit, block, i, lane, c);
    }
    DEVI void fragment(const Packed &w, const Chunk &c, int i, uint32_t (&a)[4])
    {
        const uint32_t pick =
            nb_join(nb_shift(c.one, i - 2), 0x44444444u,
                    nb_shift(i & 2 ? c.two.y : c.two.x, 2 * (i & 1)) & 0x33333333u);
#pragma unroll
        for (int j = 0; j < 2; j++) { /* pairs 2j, 2j + 1 */
            const uint32_t s = pick >> (16 * j), lo = prmt(w.low[0], w.low[1], s),
                           hi = prmt(w.high[0], w.high[1], s);
            a[2 * j] = prmt(lo, hi, 0x5140);
            a[2 * j + 1] = prmt(lo, hi, 0x7362);
        }
    }
    DEVI float value(const Packed &w, const uint8_t *unit, int row, int in)
    {
        const Place p = nb_place(row, in);
        const int nibble = 4 * (2 * p.pair + p.odd);
        const uint32_t two = nb_word(unit + p.block * 256 + p.lane * 8 + p.step / 2 * 4) >>
                                 (nibble + 2 * (p.step & 1)) &
                             3;
        const uint32_t one =
            nb_word(unit + 1024 + p.block * 128 + p.lane * 4) >> (nibble + p.step) & 1;
        return nb_table(w, (int)(two | one << 2));
    }
    static void put(uint8_t *unit, int block, int lane, int i, int hi, const uint8_t *q)
    {
        uint32_t two = 0, one = 0;
        for (int k = 0; k < 4; k++) {
            const uint32_t code = q[k / 2 * 8 + k % 2];
            const int nibble = 4 * (2 * (hi + k / 2 * 2) + k % 2);
            two |= (code & 3) << (nibble + 2 * (i & 1));
            one |= (code >> 2 & 1) << (nibble + i);
        }
        nb_or(unit + block * 256 + lane * 8 + i / 2 * 4, two);
        nb_or(unit + 1024 + block * 128 + lane * 4, one);
    }
};

/* Sixteen values: prmt picks 4 at a time of the lower and of the upper half of the table, a second
 * one between the two. */
struct T4 {
    typedef uint4 Chunk;
    static constexpr nb_cuda_codes kCodes = NB_CUDA_T4;
    static constexpr int kBytes = 2048, kStages = 3, kWarps = 8, kLines = 1 | 2 | 4, kLevels = 2;
    static constexpr bool kScaled = true, kAffine = false;
    static constexpr float kBias = 0.0f;
    DEVI void load(const uint8_t *unit, int block, int i, int lane, Chunk &c)
    {
        U4::load(unit, block, i, lane, c);
    }
    DEVI void fragment(const Packed &w, const Chunk &c, int i, uint32_t (&a)[4])
    {
        const uint32_t q = i == 0 ? c.x : i == 1 ? c.y : i == 2 ? c.z : c.w;
        const uint32_t pick = q & 0x77777777u, half = (q >> 1 & 0x44444444u) | 0x32103210u;
#pragma unroll
        for (int j = 0; j < 2; j++) { /* nibbles 4j .. 4j + 3 are pairs 2j, 2j + 1 */
            const uint32_t s = pick >> (16 * j), h = half >> (16 * j);
            const uint32_t lo = prmt(prmt(w.low[0], w.low[1], s), prmt(w.low[2], w.low[3], s), h);
            const uint32_t hi =
                prmt(prmt(w.high[0], w.high[1], s), prmt(w.high[2], w.high[3], s), h);
            a[2 * j] = prmt(lo, hi, 0x5140);
            a[2 * j + 1] = prmt(lo, hi, 0x7362);
        }
    }
    DEVI float value(const Packed &w, const uint8_t *unit, int row, int in)
    {
        const Place p = nb_place(row, in);
        return nb_table(w, unit[p.block * 512 + p.lane * 16 + p.step * 4 + p.pair] >> (4 * p.odd) &
                               15);
    }
    static void put(uint8_t *unit, int block, int lane, int i, int hi, const uint8_t *q)
    {
        uint8_t *to = unit + block * 512 + lane * 16 + i * 4 + hi;
        to[0] = (uint8_t)(q[0] | q[1] << 4);
        to[2] = (uint8_t)(q[8] | q[9] << 4);
    }
};

/* ---- bytes and values ---- */

/* 0x4b0000uu is 2^23 + u; less 2^23 + 128 it is u - 128, whose upper half is all of it. */
struct U8 {
    typedef uint4 Chunk; /* of two steps */
    static constexpr nb_cuda_codes kCodes = NB_CUDA_U8;
    static constexpr int kBytes = 4096, kStages = 2, kWarps = 8, kLines = 1 | 2 | 4, kLevels = 0;
    static constexpr bool kScaled = true, kAffine = true;
    static constexpr float kBias = -128.0f;
    DEVI void load(const uint8_t *unit, int block, int i, int lane, Chunk &c)
    {
        if (i % 2 == 0)
            c = ld_v4(unit + block * 1024 + i / 2 * 512 + lane * 16);
    }
    DEVI void fragment(const Packed &, const Chunk &c, int i, uint32_t (&a)[4])
    {
        const uint32_t q[2] = {i % 2 ? c.z : c.x, i % 2 ? c.w : c.y};
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const float lo =
                __uint_as_float(prmt(q[j / 2], 0x4b000000u, j % 2 ? 0x7442 : 0x7440)) - 8388736.0f;
            const float hi =
                __uint_as_float(prmt(q[j / 2], 0x4b000000u, j % 2 ? 0x7443 : 0x7441)) - 8388736.0f;
            a[j] = prmt(__float_as_uint(lo), __float_as_uint(hi), 0x7632);
        }
    }
    DEVI float value(const Packed &, const uint8_t *unit, int row, int in)
    {
        const Place p = nb_place(row, in);
        return (float)unit[p.block * 1024 + p.step / 2 * 512 + p.lane * 16 + p.step % 2 * 8 +
                           2 * p.pair + p.odd];
    }
    static void put(uint8_t *unit, int block, int lane, int i, int hi, const uint8_t *q)
    {
        uint8_t *to = unit + block * 1024 + i / 2 * 512 + lane * 16 + i % 2 * 8 + 2 * hi;
        to[0] = q[0];
        to[1] = q[1];
        to[4] = q[8];
        to[5] = q[9];
    }
};

struct Bf16 {
    typedef uint4 Chunk; /* of one step */
    static constexpr nb_cuda_codes kCodes = NB_CUDA_BF16;
    static constexpr int kBytes = 8192, kStages = 2, kWarps = 4, kLines = 1, kLevels = 0;
    static constexpr bool kScaled = false, kAffine = false;
    static constexpr float kBias = 0.0f;
    DEVI void load(const uint8_t *unit, int block, int i, int lane, Chunk &c)
    {
        c = ld_v4(unit + block * 2048 + i * 512 + lane * 16);
    }
    DEVI void fragment(const Packed &, const Chunk &c, int, uint32_t (&a)[4])
    {
        a[0] = c.x;
        a[1] = c.y;
        a[2] = c.z;
        a[3] = c.w;
    }
    DEVI float value(const Packed &, const uint8_t *unit, int row, int in)
    {
        const Place p = nb_place(row, in);
        const uint16_t *v =
            (const uint16_t *)(const void *)(unit + p.block * 2048 + p.step * 512 + p.lane * 16);
        return __uint_as_float((uint32_t)v[2 * p.pair + p.odd] << 16);
    }
    /* values, not codes */
    static void put(uint8_t *unit, int block, int lane, int i, int hi, const uint16_t *v)
    {
        uint8_t *to = unit + block * 2048 + i * 512 + lane * 16 + 4 * hi;
        memcpy(to, v, 4);
        memcpy(to + 8, v + 8, 4);
    }
};

/* Bytes of the longest line that a codec's weights may have. */
template <class C> static constexpr int nb_line_most()
{
    return nb_line_bytes(!C::kScaled ? NB_LINE_NONE : C::kAffine ? NB_LINE_F32 : NB_LINE_SCALE);
}

/* Calls f with the codec of some codes: f(U4()), f(T4()) ... */
template <class F> static inline auto nb_with_codec(nb_cuda_codes codes, F f)
{
    switch (codes) {
    case NB_CUDA_U2:
        return f(U2());
    case NB_CUDA_U3:
        return f(U3());
    case NB_CUDA_U4:
        return f(U4());
    case NB_CUDA_U5:
        return f(U5());
    case NB_CUDA_U6:
        return f(U6());
    case NB_CUDA_U8:
        return f(U8());
    case NB_CUDA_T3:
        return f(T3());
    case NB_CUDA_T4:
        return f(T4());
    default:
        return f(Bf16());
    }
}

/* Calls f(codec, LinesOf<n>()) for a weight. */
template <int N> struct LinesOf {
    static constexpr int n = N;
};
template <class F> static nb_status nb_with_lines(const nb_weight *w, F f)
{
    const int lines = nb_lines_a_unit(w->packed);
    return nb_with_codec(w->codes, [&](auto codec) {
        constexpr int kLines = decltype(codec)::kLines;
        if constexpr ((kLines & 1) != 0)
            if (lines == 1)
                return f(codec, LinesOf<1>());
        if constexpr ((kLines & 2) != 0)
            if (lines == 2)
                return f(codec, LinesOf<2>());
        return f(codec, LinesOf < (kLines & 4) ? 4 : (kLines & 2) ? 2 : 1 > ());
    });
}

static inline size_t nb_unit_bytes(nb_cuda_codes codes)
{
    return nb_with_codec(codes, [](auto codec) { return (size_t) decltype(codec)::kBytes; });
}

#endif
