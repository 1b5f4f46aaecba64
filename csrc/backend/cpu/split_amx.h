/* split_amx.h -- f32 products on AMX tiles: an operand x = h + m + l in three bf16,
 *
 *     h = bf16(x),  m = bf16(x - h),  l = bf16(x - h - m)        |x - h - m - l| <= 2^-27 |x|
 *     x y = h h' + (h m' + m h') + m m' + (h l' + l h')          what is left out: 2^-26 |x y|
 *
 * six products of bf16, exact in f32, summed in f32 as tdpbf16ps does it: the accuracy of f32
 * operands at the cost of six sixteenths of their instructions. (Henry, Tang and Heinecke 2019,
 * "Leveraging the bfloat16 artificial intelligence datatype for higher-precision computations".) Of
 * two parts, x = h + m, three products: |x - h - m| <= 2^-18 |x|, m m' left out, which is at most
 * 2^-18 |x y| again; half the cost where 17 bits of an operand do (the figures of the report).
 * Parts below 2^-126 are taken for 0.
 *
 * An operand lies as tiles, zeros where it ends:
 *
 *     [n / 16][k / 32][part: h m l]   A: [16 rows n][32 of k]   B: [16 pairs of k][16 columns n][2]
 *
 * so a tile of B is the transpose of one of A, pairs of k taken as one element. Panels of 16 come
 * in pairs. Needs AMX-BF16 and AVX512-BF16. */
#ifndef NB_BACKEND_CPU_SPLIT_AMX_H
#define NB_BACKEND_CPU_SPLIT_AMX_H

#include "backend/cpu/amx.h"

enum {
    NB_SPLIT_TILE = NB_AMX_ROWS * NB_AMX_K, /* bf16 in a tile; a step of a panel, 32 of k, is one
                                             * of each part */
    NB_SPLIT_WIDTH = 2 * NB_AMX_ROWS,       /* of a pair of panels */
    NB_SPLIT_SUMS = NB_SPLIT_WIDTH * NB_SPLIT_WIDTH, /* of two pairs: [2][2][16][16] */
};

/* Steps of 32 in K. */
static inline int64_t nb_split_steps(int64_t K)
{
    return (K + NB_AMX_K - 1) / NB_AMX_K;
}

/* bf16 in an operand of n rows or columns in `parts` parts. */
static inline int64_t nb_split_size(int parts, int64_t n, int64_t K)
{
    return (n + NB_SPLIT_WIDTH - 1) / NB_SPLIT_WIDTH * 2 * nb_split_steps(K) * parts *
           NB_SPLIT_TILE;
}

/* ---- into parts ---- */

static inline __m512 nb_split_back(__m256i half)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

/* The parts of 32 values, those of `low` before those of `high`. */
static inline void nb_split_32(const int parts, __m512 low, __m512 high, __m512i *part)
{
    for (int i = 0; i < parts; i++) {
        part[i] = (__m512i)_mm512_cvtne2ps_pbh(high, low);
        low = _mm512_sub_ps(low, nb_split_back(_mm512_castsi512_si256(part[i])));
        high = _mm512_sub_ps(high, nb_split_back(_mm512_extracti64x4_epi64(part[i], 1)));
    }
}

/* 16 even values, then 16 odd ones: side by side. */
static inline __m512i nb_split_pairs(__m512i even_odd)
{
    const __m512i order = _mm512_set_epi32(
        0x1f000f, 0x1e000e, 0x1d000d, 0x1c000c, 0x1b000b, 0x1a000a, 0x190009, 0x180008, 0x170007,
        0x160006, 0x150005, 0x140004, 0x130003, 0x120002, 0x110001, 0x100000);
    return _mm512_permutexvar_epi16(order, even_odd);
}

/* A tile of one kind into the other. to may be from. */
static inline void nb_split_turn(const uint16_t *from, uint16_t *to)
{
    __m512i r[16], t[16];
    for (int i = 0; i < 16; i++)
        r[i] = _mm512_loadu_si512(from + i * NB_AMX_K);
    for (int i = 0; i < 16; i += 2) { /* pairs of rows, by elements */
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) { /* fours: r[i + c] has column 4 q + c in its quarter q */
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int c = 0; c < 4; c++) { /* quarters of rows c, c + 4, c + 8, c + 12 */
        const __m512i a = _mm512_shuffle_i32x4(r[c], r[c + 4], 0x44),
                      b = _mm512_shuffle_i32x4(r[c], r[c + 4], 0xee),
                      d = _mm512_shuffle_i32x4(r[c + 8], r[c + 12], 0x44),
                      e = _mm512_shuffle_i32x4(r[c + 8], r[c + 12], 0xee);
        _mm512_storeu_si512(to + c * NB_AMX_K, _mm512_shuffle_i32x4(a, d, 0x88));
        _mm512_storeu_si512(to + (c + 4) * NB_AMX_K, _mm512_shuffle_i32x4(a, d, 0xdd));
        _mm512_storeu_si512(to + (c + 8) * NB_AMX_K, _mm512_shuffle_i32x4(b, e, 0x88));
        _mm512_storeu_si512(to + (c + 12) * NB_AMX_K, _mm512_shuffle_i32x4(b, e, 0xdd));
    }
}

/* ---- products ---- */

#define NB_SPLIT_FOUR                                                                              \
    _tile_dpbf16ps(0, 4, 6);                                                                       \
    _tile_dpbf16ps(1, 4, 7);                                                                       \
    _tile_dpbf16ps(2, 5, 6);                                                                       \
    _tile_dpbf16ps(3, 5, 7)

/* A pair of tiles of A, of B. */
#define NB_SPLIT_A(t)                                                                              \
    _tile_loadd(4, t, NB_AMX_BYTES);                                                               \
    _tile_loadd(5, t + next_a, NB_AMX_BYTES)
#define NB_SPLIT_B(t)                                                                              \
    _tile_loadd(6, t, NB_AMX_BYTES);                                                               \
    _tile_loadd(7, t + next_b, NB_AMX_BYTES)

/* sums [NB_SPLIT_SUMS] of a pair of panels of A with one of B, `steps` steps of `parts` parts, a
 * constant; a panel's second is `next` bf16 behind its first. Tiles are open. */
static inline __attribute__((always_inline)) void nb_split_sums(const int parts, const uint16_t *a,
                                                                int64_t next_a, const uint16_t *b,
                                                                int64_t next_b, int64_t steps,
                                                                float *sums)
{
    enum { kRow = NB_AMX_BYTES, kM = NB_SPLIT_TILE, kL = 2 * NB_SPLIT_TILE };
    nb_amx_fence();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t s = 0; s < steps; s++, a += parts * NB_SPLIT_TILE, b += parts * NB_SPLIT_TILE) {
        NB_SPLIT_A(a);
        if (parts == 3) { /* h l' */
            NB_SPLIT_B(b + kL);
            NB_SPLIT_FOUR;
        }
        NB_SPLIT_B(b + kM); /* h m' */
        NB_SPLIT_FOUR;
        if (parts == 3) { /* m m', m h', l h', h h' */
            NB_SPLIT_A(a + kM);
            NB_SPLIT_FOUR;
            NB_SPLIT_B(b);
            NB_SPLIT_FOUR;
            NB_SPLIT_A(a + kL);
            NB_SPLIT_FOUR;
            NB_SPLIT_A(a);
            NB_SPLIT_FOUR;
        } else { /* h h', m h' */
            NB_SPLIT_B(b);
            NB_SPLIT_FOUR;
            NB_SPLIT_A(a + kM);
            NB_SPLIT_FOUR;
        }
    }
    _tile_stored(0, sums, kRow);
    _tile_stored(1, sums + 256, kRow);
    _tile_stored(2, sums + 512, kRow);
    _tile_stored(3, sums + 768, kRow);
    nb_amx_fence();
}

#endif
