/* dot.h -- the integer products of a block: 16 outputs x 32 inputs, R rows of activations at once.
 *
 *   s[r].lane c  +=  sum over k0 <= k < k1 of code'[c][k] * x[r][k]      0 .. 32, or a half of it
 *
 * code' is the code of weight.h, less NB_SHIFT_U4 or NB_SHIFT_U8: AVX2 has no exact product of u8
 * and s8 (vpmaddubsw saturates at 16 bits, and 2 * 255 * 127 does not fit), so there U8 codes are
 * made signed first, |code - 128| * x with the sign moved to x: 2 * 128 * 127 = 32512 fits. Sums of
 * integers: equal on all levels once the shift is added back. */
#ifndef NB_BACKEND_CPU_DOT_H
#define NB_BACKEND_CPU_DOT_H

#include "backend/cpu/vec.h"
#include "backend/cpu/weight.h"

#define NB_INLINE static inline __attribute__((always_inline))

#if defined(__AVX512F__)

enum { NB_SHIFT_U4 = 0, NB_SHIFT_U8 = 0 };
typedef struct nb_i {
    __m512i i;
} nb_i;

NB_INLINE nb_i nb_i_set1(int32_t x)
{
    return (nb_i){_mm512_set1_epi32(x)};
}
/* (z[c] - shift) * x of sixteen u8 z */
NB_INLINE nb_i nb_i_scaled_u8(const uint8_t *z, int32_t shift, int32_t x)
{
    const __m512i v = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)z));
    return (nb_i){
        _mm512_mullo_epi32(_mm512_sub_epi32(v, _mm512_set1_epi32(shift)), _mm512_set1_epi32(x))};
}
NB_INLINE nb_v nb_i_float(nb_i a)
{
    return (nb_v){_mm512_cvtepi32_ps(a.i)};
}
NB_INLINE __m512i nb_x4(const int8_t *x) /* four neighbours of K in every lane */
{
    int32_t v;
    memcpy(&v, x, 4);
    return _mm512_set1_epi32(v);
}
NB_INLINE void nb_dot_u4(const int R, const int C, const int k0, const int k1,
                         const uint8_t *const *code, const int8_t *x, int64_t ldx, nb_i *s)
{
    const __m512i low = _mm512_set1_epi8(15);
#pragma GCC unroll 4
    for (int j = k0 / 8; j < k1 / 8; j++) {
        __m512i a[2], b[2];
#pragma GCC unroll 2
        for (int c = 0; c < C; c++) {
            const __m512i v = _mm512_loadu_si512(code[c] + 64 * j);
            a[c] = _mm512_and_si512(v, low);
            b[c] = _mm512_and_si512(_mm512_srli_epi16(v, 4), low);
        }
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) {
            const __m512i xa = nb_x4(x + r * ldx + 8 * j), xb = nb_x4(x + r * ldx + 8 * j + 4);
#pragma GCC unroll 2
            for (int c = 0; c < C; c++) {
                s[r * C + c].i = _mm512_dpbusd_epi32(s[r * C + c].i, a[c], xa);
                s[r * C + c].i = _mm512_dpbusd_epi32(s[r * C + c].i, b[c], xb);
            }
        }
    }
}
NB_INLINE void nb_dot_u8(const int R, const int C, const int k0, const int k1,
                         const uint8_t *const *code, const int8_t *x, int64_t ldx, nb_i *s)
{
#pragma GCC unroll 8
    for (int j = k0 / 4; j < k1 / 4; j++) {
        __m512i v[2];
#pragma GCC unroll 2
        for (int c = 0; c < C; c++)
            v[c] = _mm512_loadu_si512(code[c] + 64 * j);
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) {
            const __m512i xv = nb_x4(x + r * ldx + 4 * j);
#pragma GCC unroll 2
            for (int c = 0; c < C; c++)
                s[r * C + c].i = _mm512_dpbusd_epi32(s[r * C + c].i, v[c], xv);
        }
    }
}

#elif defined(__AVX2__)

enum { NB_SHIFT_U4 = 0, NB_SHIFT_U8 = 128 };
typedef struct nb_i {
    __m256i lo, hi;
} nb_i;

NB_INLINE nb_i nb_i_set1(int32_t x)
{
    return (nb_i){_mm256_set1_epi32(x), _mm256_set1_epi32(x)};
}
NB_INLINE __m256i nb_scaled_half(__m128i z, int32_t shift, int32_t x)
{
    return _mm256_mullo_epi32(_mm256_sub_epi32(_mm256_cvtepu8_epi32(z), _mm256_set1_epi32(shift)),
                              _mm256_set1_epi32(x));
}
NB_INLINE nb_i nb_i_scaled_u8(const uint8_t *z, int32_t shift, int32_t x)
{
    const __m128i v = _mm_loadu_si128((const __m128i *)(const void *)z);
    return (nb_i){nb_scaled_half(v, shift, x), nb_scaled_half(_mm_srli_si128(v, 8), shift, x)};
}
NB_INLINE nb_v nb_i_float(nb_i a)
{
    return (nb_v){_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)};
}
NB_INLINE __m256i nb_x4(const int8_t *x)
{
    int32_t v;
    memcpy(&v, x, 4);
    return _mm256_set1_epi32(v);
}
NB_INLINE __m256i nb_load_half(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}
/* All 8 products of a lane's k fit 16 bits together (16 * 15 * 127 = 30480), so one widening add a
 * block. */
NB_INLINE __m256i nb_dot_u4_half(const int k0, const int k1, const uint8_t *code, const int8_t *x,
                                 __m256i s)
{
    const __m256i low = _mm256_set1_epi8(15);
    __m256i t = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int j = k0 / 8; j < k1 / 8; j++) {
        const __m256i v = nb_load_half(code + 64 * j), a = _mm256_and_si256(v, low),
                      b = _mm256_and_si256(_mm256_srli_epi16(v, 4), low);
        t = _mm256_add_epi16(t, _mm256_maddubs_epi16(a, nb_x4(x + 8 * j)));
        t = _mm256_add_epi16(t, _mm256_maddubs_epi16(b, nb_x4(x + 8 * j + 4)));
    }
    return _mm256_add_epi32(s, _mm256_madd_epi16(t, _mm256_set1_epi16(1)));
}
NB_INLINE void nb_dot_u4(const int R, const int C, const int k0, const int k1,
                         const uint8_t *const *codes, const int8_t *x, int64_t ldx, nb_i *s)
{
    (void)C; /* 1 */
    const uint8_t *code = codes[0];
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) {
        s[r].lo = nb_dot_u4_half(k0, k1, code, x + r * ldx, s[r].lo);
        s[r].hi = nb_dot_u4_half(k0, k1, code + 32, x + r * ldx, s[r].hi);
    }
}
NB_INLINE __m256i nb_dot_u8_half(const uint8_t *code, __m256i x, __m256i s)
{
    const __m256i v = _mm256_xor_si256(nb_load_half(code), _mm256_set1_epi8(-128)),
                  t = _mm256_maddubs_epi16(_mm256_abs_epi8(v), _mm256_sign_epi8(x, v));
    return _mm256_add_epi32(s, _mm256_madd_epi16(t, _mm256_set1_epi16(1)));
}
NB_INLINE void nb_dot_u8(const int R, const int C, const int k0, const int k1,
                         const uint8_t *const *codes, const int8_t *x, int64_t ldx, nb_i *s)
{
    (void)C; /* 1 */
    const uint8_t *code = codes[0];
#pragma GCC unroll 8
    for (int j = k0 / 4; j < k1 / 4; j++)
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) {
            const __m256i xv = nb_x4(x + r * ldx + 4 * j);
            s[r].lo = nb_dot_u8_half(code + 64 * j, xv, s[r].lo);
            s[r].hi = nb_dot_u8_half(code + 64 * j + 32, xv, s[r].hi);
        }
}

#else

enum { NB_SHIFT_U4 = 0, NB_SHIFT_U8 = 0 };
typedef struct nb_i {
    int32_t i[NB_LANES];
} nb_i;

NB_INLINE nb_i nb_i_set1(int32_t x)
{
    nb_i r;
    for (int c = 0; c < NB_LANES; c++)
        r.i[c] = x;
    return r;
}
NB_INLINE nb_i nb_i_scaled_u8(const uint8_t *z, int32_t shift, int32_t x)
{
    nb_i r;
    for (int c = 0; c < NB_LANES; c++)
        r.i[c] = (z[c] - shift) * x;
    return r;
}
NB_INLINE nb_v nb_i_float(nb_i a)
{
    nb_v r;
    for (int c = 0; c < NB_LANES; c++)
        r.f[c] = (float)a.i[c];
    return r;
}
NB_INLINE void nb_dot_u4(const int R, const int C, const int k0, const int k1,
                         const uint8_t *const *codes, const int8_t *x, int64_t ldx, nb_i *s)
{
    (void)C; /* 1 */
    const uint8_t *code = codes[0];
    for (int r = 0; r < R; r++)
        for (int j = k0 / 8; j < k1 / 8; j++)
            for (int i = 0; i < 64; i++) {
                const int8_t *at = x + r * ldx + 8 * j + i % 4;
                const int v = code[64 * j + i];
                s[r].i[i / 4] += (v & 15) * at[0] + (v >> 4) * at[4];
            }
}
NB_INLINE void nb_dot_u8(const int R, const int C, const int k0, const int k1,
                         const uint8_t *const *codes, const int8_t *x, int64_t ldx, nb_i *s)
{
    (void)C; /* 1 */
    const uint8_t *code = codes[0];
    for (int r = 0; r < R; r++)
        for (int j = k0 / 4; j < k1 / 4; j++)
            for (int i = 0; i < 64; i++)
                s[r].i[i / 4] += code[64 * j + i] * x[r * ldx + 4 * j + i % 4];
}

#endif
#endif
