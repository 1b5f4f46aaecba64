/* vec.h -- sixteen f32 lanes, written once for the three levels.
 *
 * Sources that include this are compiled once per level (CMakeLists.txt): with no flags, with
 * -mavx2 -mfma -mf16c, and with the AVX-512 set; NB_LEVEL is `scalar`, `avx2` or `avx512`, and
 * NB_LEVEL_NAME(f) gives the level's own name of f. Each function below does lane by lane the same
 * IEEE operations on every level, and nb_v_sum adds in one fixed tree:
 *
 *   s8[i] = f[i] + f[i + 8],  s4[i] = s8[i] + s8[i + 4],  s2[i] = s4[i] + s4[i + 2],  s2[0] + s2[1]
 *
 * so an op's bits do not depend on the level either. max and min are x86's: a > b ? a : b, which
 * gives b when one is NaN. */
#ifndef NB_BACKEND_CPU_VEC_H
#define NB_BACKEND_CPU_VEC_H

#include "base/scalar.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#define NB_LEVEL_JOIN2(a, b) a##_##b
#define NB_LEVEL_JOIN(a, b) NB_LEVEL_JOIN2(a, b)
#define NB_LEVEL_NAME(f) NB_LEVEL_JOIN(f, NB_LEVEL)

enum { NB_LANES = 16 };

#if defined(__AVX512F__)

#include <immintrin.h>
typedef struct nb_v {
    __m512 f;
} nb_v;

static inline nb_v nb_v_load(const float *p)
{
    return (nb_v){_mm512_loadu_ps(p)};
}
static inline void nb_v_store(float *p, nb_v a)
{
    _mm512_storeu_ps(p, a.f);
}
static inline nb_v nb_v_load_n(const float *p, int n) /* the first n lanes, 0 in the others */
{
    return (nb_v){_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1u), p)};
}
static inline void nb_v_store_n(float *p, nb_v a, int n)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1u), a.f);
}
static inline nb_v nb_v_set1(float x)
{
    return (nb_v){_mm512_set1_ps(x)};
}
static inline nb_v nb_v_add(nb_v a, nb_v b)
{
    return (nb_v){_mm512_add_ps(a.f, b.f)};
}
static inline nb_v nb_v_sub(nb_v a, nb_v b)
{
    return (nb_v){_mm512_sub_ps(a.f, b.f)};
}
static inline nb_v nb_v_mul(nb_v a, nb_v b)
{
    return (nb_v){_mm512_mul_ps(a.f, b.f)};
}
static inline nb_v nb_v_div(nb_v a, nb_v b)
{
    return (nb_v){_mm512_div_ps(a.f, b.f)};
}
static inline nb_v nb_v_fma(nb_v a, nb_v b, nb_v c) /* a b + c */
{
    return (nb_v){_mm512_fmadd_ps(a.f, b.f, c.f)};
}
static inline nb_v nb_v_max(nb_v a, nb_v b)
{
    return (nb_v){_mm512_max_ps(a.f, b.f)};
}
static inline nb_v nb_v_min(nb_v a, nb_v b)
{
    return (nb_v){_mm512_min_ps(a.f, b.f)};
}
static inline nb_v nb_v_round(nb_v a) /* to nearest even; |a| < 2^31 */
{
    return (nb_v){_mm512_roundscale_ps(a.f, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
static inline nb_v nb_v_pow2(nb_v a) /* 2^a, a integer valued in [-126, 127] */
{
    const __m512i n = _mm512_add_epi32(_mm512_cvtps_epi32(a.f), _mm512_set1_epi32(127));
    return (nb_v){_mm512_castsi512_ps(_mm512_slli_epi32(n, 23))};
}
static inline nb_v nb_v_from_f16(const uint16_t *p)
{
    return (nb_v){_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p))};
}
static inline void nb_v_to_f16(uint16_t *p, nb_v a)
{
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtps_ph(a.f, _MM_FROUND_TO_NEAREST_INT));
}
static inline nb_v nb_v_from_bf16(const uint16_t *p)
{
    const __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)p);
    return (nb_v){_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16))};
}
/* Two neighbours of K per lane: p[2 i] and p[2 i + 1] of lane i, as bf16. */
static inline void nb_v_from_bf16_pairs(const uint16_t *p, nb_v *even, nb_v *odd)
{
    const __m512i v = _mm512_loadu_si512(p);
    even->f = _mm512_castsi512_ps(_mm512_slli_epi32(v, 16));
    odd->f = _mm512_castsi512_ps(_mm512_and_si512(v, _mm512_set1_epi32((int)0xffff0000)));
}
/* The bit field (u >> shift) & mask of each of sixteen little-endian u32, as a number. */
static inline nb_v nb_v_from_field(const uint8_t *p, int shift, int mask)
{
    const __m512i v = _mm512_srl_epi32(_mm512_loadu_si512(p), _mm_cvtsi32_si128(shift));
    return (nb_v){_mm512_cvtepi32_ps(_mm512_and_si512(v, _mm512_set1_epi32(mask)))};
}
static inline nb_v nb_v_from_u8(const uint8_t *p)
{
    const __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
    return (nb_v){_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(v))};
}
static inline nb_v nb_v_from_s8(const int8_t *p)
{
    const __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
    return (nb_v){_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(v))};
}
static inline float nb_v_sum(nb_v a)
{
    const __m256 hi = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a.f), 1));
    const __m256 s8 = _mm256_add_ps(_mm512_castps512_ps256(a.f), hi);
    const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
    return _mm_cvtss_f32(_mm_add_ss(s2, _mm_shuffle_ps(s2, s2, 1)));
}

/* Lane i is nb_v_sum(part[i]): the same additions, four vectors' partial sums to a vector. */
static inline __m512 nb_v_half(__m512 a, __m512 b) /* quarters 0+2, 1+3 of a, then of b */
{
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
}
static inline nb_v nb_v_sum16(const nb_v *part)
{
    __m512 q[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const __m512 a = nb_v_half(part[i].f, part[4 + i].f),
                     b = nb_v_half(part[8 + i].f, part[12 + i].f);
        q[i] = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
    }
    const __m512 g = _mm512_add_ps(_mm512_shuffle_ps(q[0], q[1], 0x44),
                                   _mm512_shuffle_ps(q[0], q[1], 0xee)),
                 h = _mm512_add_ps(_mm512_shuffle_ps(q[2], q[3], 0x44),
                                   _mm512_shuffle_ps(q[2], q[3], 0xee));
    return (nb_v){_mm512_add_ps(_mm512_shuffle_ps(g, h, 0x88), _mm512_shuffle_ps(g, h, 0xdd))};
}

#elif defined(__AVX2__)

#include <immintrin.h>
typedef struct nb_v {
    __m256 lo, hi;
} nb_v;

static inline nb_v nb_v_load(const float *p)
{
    return (nb_v){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
static inline void nb_v_store(float *p, nb_v a)
{
    _mm256_storeu_ps(p, a.lo);
    _mm256_storeu_ps(p + 8, a.hi);
}
static inline nb_v nb_v_load_n(const float *p, int n)
{
    float t[NB_LANES] = {0};
    memcpy(t, p, (size_t)n * sizeof *p);
    return nb_v_load(t);
}
static inline void nb_v_store_n(float *p, nb_v a, int n)
{
    float t[NB_LANES];
    nb_v_store(t, a);
    memcpy(p, t, (size_t)n * sizeof *p);
}
static inline nb_v nb_v_set1(float x)
{
    return (nb_v){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}
static inline nb_v nb_v_add(nb_v a, nb_v b)
{
    return (nb_v){_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}
static inline nb_v nb_v_sub(nb_v a, nb_v b)
{
    return (nb_v){_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}
static inline nb_v nb_v_mul(nb_v a, nb_v b)
{
    return (nb_v){_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}
static inline nb_v nb_v_div(nb_v a, nb_v b)
{
    return (nb_v){_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}
static inline nb_v nb_v_fma(nb_v a, nb_v b, nb_v c)
{
    return (nb_v){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
static inline nb_v nb_v_max(nb_v a, nb_v b)
{
    return (nb_v){_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}
static inline nb_v nb_v_min(nb_v a, nb_v b)
{
    return (nb_v){_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)};
}
static inline nb_v nb_v_round(nb_v a)
{
    return (nb_v){_mm256_round_ps(a.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                  _mm256_round_ps(a.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
static inline __m256 nb_v_pow2_half(__m256 a)
{
    const __m256i n = _mm256_add_epi32(_mm256_cvtps_epi32(a), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(n, 23));
}
static inline nb_v nb_v_pow2(nb_v a)
{
    return (nb_v){nb_v_pow2_half(a.lo), nb_v_pow2_half(a.hi)};
}
static inline nb_v nb_v_from_f16(const uint16_t *p)
{
    return (nb_v){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p)),
                  _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(p + 8)))};
}
static inline void nb_v_to_f16(uint16_t *p, nb_v a)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_cvtps_ph(a.lo, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i *)(void *)(p + 8), _mm256_cvtps_ph(a.hi, _MM_FROUND_TO_NEAREST_INT));
}
static inline nb_v nb_v_from_bf16(const uint16_t *p)
{
    const __m128i *q = (const __m128i *)(const void *)p;
    return (nb_v){
        _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(q)), 16)),
        _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(q + 1)), 16))};
}
static inline void nb_v_from_bf16_pairs(const uint16_t *p, nb_v *even, nb_v *odd)
{
    const __m256i *q = (const __m256i *)(const void *)p, high = _mm256_set1_epi32((int)0xffff0000);
    const __m256i a = _mm256_loadu_si256(q), b = _mm256_loadu_si256(q + 1);
    even->lo = _mm256_castsi256_ps(_mm256_slli_epi32(a, 16));
    even->hi = _mm256_castsi256_ps(_mm256_slli_epi32(b, 16));
    odd->lo = _mm256_castsi256_ps(_mm256_and_si256(a, high));
    odd->hi = _mm256_castsi256_ps(_mm256_and_si256(b, high));
}
static inline nb_v nb_v_from_field(const uint8_t *p, int shift, int mask)
{
    const __m256i *q = (const __m256i *)(const void *)p, m = _mm256_set1_epi32(mask);
    const __m128i n = _mm_cvtsi32_si128(shift);
    const __m256i a = _mm256_and_si256(_mm256_srl_epi32(_mm256_loadu_si256(q), n), m);
    const __m256i b = _mm256_and_si256(_mm256_srl_epi32(_mm256_loadu_si256(q + 1), n), m);
    return (nb_v){_mm256_cvtepi32_ps(a), _mm256_cvtepi32_ps(b)};
}
static inline nb_v nb_v_from_u8(const uint8_t *p)
{
    const __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
    return (nb_v){_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(v)),
                  _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(v, 8)))};
}
static inline nb_v nb_v_from_s8(const int8_t *p)
{
    const __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
    return (nb_v){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(v)),
                  _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(v, 8)))};
}
static inline float nb_v_sum(nb_v a)
{
    const __m256 s8 = _mm256_add_ps(a.lo, a.hi);
    const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
    return _mm_cvtss_f32(_mm_add_ss(s2, _mm_shuffle_ps(s2, s2, 1)));
}

#else

typedef struct nb_v {
    float f[NB_LANES];
} nb_v;

static inline nb_v nb_v_load(const float *p)
{
    nb_v r;
    memcpy(r.f, p, sizeof r.f);
    return r;
}
static inline void nb_v_store(float *p, nb_v a)
{
    memcpy(p, a.f, sizeof a.f);
}
static inline nb_v nb_v_load_n(const float *p, int n)
{
    nb_v r = {{0}};
    memcpy(r.f, p, (size_t)n * sizeof *p);
    return r;
}
static inline void nb_v_store_n(float *p, nb_v a, int n)
{
    memcpy(p, a.f, (size_t)n * sizeof *p);
}
static inline nb_v nb_v_set1(float x)
{
    nb_v r;
    for (int i = 0; i < NB_LANES; i++)
        r.f[i] = x;
    return r;
}
static inline nb_v nb_v_add(nb_v a, nb_v b)
{
    for (int i = 0; i < NB_LANES; i++)
        a.f[i] += b.f[i];
    return a;
}
static inline nb_v nb_v_sub(nb_v a, nb_v b)
{
    for (int i = 0; i < NB_LANES; i++)
        a.f[i] -= b.f[i];
    return a;
}
static inline nb_v nb_v_mul(nb_v a, nb_v b)
{
    for (int i = 0; i < NB_LANES; i++)
        a.f[i] *= b.f[i];
    return a;
}
static inline nb_v nb_v_div(nb_v a, nb_v b)
{
    for (int i = 0; i < NB_LANES; i++)
        a.f[i] /= b.f[i];
    return a;
}
static inline nb_v nb_v_fma(nb_v a, nb_v b, nb_v c)
{
    for (int i = 0; i < NB_LANES; i++)
        a.f[i] = fmaf(a.f[i], b.f[i], c.f[i]);
    return a;
}
static inline nb_v nb_v_max(nb_v a, nb_v b)
{
    for (int i = 0; i < NB_LANES; i++)
        a.f[i] = a.f[i] > b.f[i] ? a.f[i] : b.f[i];
    return a;
}
static inline nb_v nb_v_min(nb_v a, nb_v b)
{
    for (int i = 0; i < NB_LANES; i++)
        a.f[i] = a.f[i] < b.f[i] ? a.f[i] : b.f[i];
    return a;
}
static inline nb_v nb_v_round(nb_v a)
{
    for (int i = 0; i < NB_LANES; i++)
        a.f[i] = rintf(a.f[i]);
    return a;
}
static inline nb_v nb_v_pow2(nb_v a)
{
    for (int i = 0; i < NB_LANES;
         i++) /* a NaN takes 0 here and comes back through the polynomial */
        a.f[i] = nb_f32_from_bits((uint32_t)((a.f[i] == a.f[i] ? (int)a.f[i] : 0) + 127) << 23);
    return a;
}
static inline nb_v nb_v_from_f16(const uint16_t *p)
{
    nb_v r;
    for (int i = 0; i < NB_LANES; i++)
        r.f[i] = nb_f32_from_f16(p[i]);
    return r;
}
static inline void nb_v_to_f16(uint16_t *p, nb_v a)
{
    for (int i = 0; i < NB_LANES; i++)
        p[i] = nb_f16_from_f32(a.f[i]);
}
static inline nb_v nb_v_from_bf16(const uint16_t *p)
{
    nb_v r;
    for (int i = 0; i < NB_LANES; i++)
        r.f[i] = nb_f32_from_bf16(p[i]);
    return r;
}
static inline void nb_v_from_bf16_pairs(const uint16_t *p, nb_v *even, nb_v *odd)
{
    for (int i = 0; i < NB_LANES; i++) {
        even->f[i] = nb_f32_from_bf16(p[2 * i]);
        odd->f[i] = nb_f32_from_bf16(p[2 * i + 1]);
    }
}
static inline nb_v nb_v_from_field(const uint8_t *p, int shift, int mask)
{
    nb_v r;
    for (int i = 0; i < NB_LANES; i++)
        r.f[i] = (float)((int)(nb_load_u32(p + 4 * i) >> shift) & mask);
    return r;
}
static inline nb_v nb_v_from_u8(const uint8_t *p)
{
    nb_v r;
    for (int i = 0; i < NB_LANES; i++)
        r.f[i] = (float)p[i];
    return r;
}
static inline nb_v nb_v_from_s8(const int8_t *p)
{
    nb_v r;
    for (int i = 0; i < NB_LANES; i++)
        r.f[i] = (float)p[i];
    return r;
}
static inline float nb_v_sum(nb_v a)
{
    for (int n = NB_LANES / 2; n; n /= 2)
        for (int i = 0; i < n; i++)
            a.f[i] += a.f[i + n];
    return a.f[0];
}

#endif

#if !defined(__AVX512F__)
static inline nb_v nb_v_sum16(const nb_v *part)
{
    float s[NB_LANES];
    for (int i = 0; i < NB_LANES; i++)
        s[i] = nb_v_sum(part[i]);
    return nb_v_load(s);
}
#endif

/* The greatest lane. */
static inline float nb_v_top(nb_v a)
{
    float lane[NB_LANES];
    nb_v_store(lane, a);
    for (int n = NB_LANES / 2; n; n /= 2)
        for (int i = 0; i < n; i++)
            lane[i] = lane[i] > lane[i + n] ? lane[i] : lane[i + n];
    return lane[0];
}

/* e^x to about 1 ulp in [-87.33, 88.37]; below it is held at e^-87.33 = 1.2e-38, above at 2.4e38.
 * NaN stays NaN. n = rne(x log2 e), r = x - n ln 2 in two steps (Cody and Waite 1980: the first
 * constant has 9 significant bits, so n times it is exact), e^r by the degree-7 Taylor polynomial:
 * |r| <= 0.3466, whose rest r^8 / 8! is below 2^-27. */
static inline nb_v nb_v_exp(nb_v x)
{
    x = nb_v_min(nb_v_set1(88.37f), nb_v_max(nb_v_set1(-87.33f), x));
    const nb_v n = nb_v_round(nb_v_mul(x, nb_v_set1(1.44269504f)));
    nb_v r = nb_v_fma(n, nb_v_set1(-0.693359375f), x);
    r = nb_v_fma(n, nb_v_set1(2.12194440e-4f), r);
    nb_v p = nb_v_set1(1.0f / 5040);
    p = nb_v_fma(p, r, nb_v_set1(1.0f / 720));
    p = nb_v_fma(p, r, nb_v_set1(1.0f / 120));
    p = nb_v_fma(p, r, nb_v_set1(1.0f / 24));
    p = nb_v_fma(p, r, nb_v_set1(1.0f / 6));
    p = nb_v_fma(p, r, nb_v_set1(0.5f));
    p = nb_v_fma(p, nb_v_mul(r, r), r); /* r + r^2 (1/2 + ...): the small part first */
    return nb_v_mul(nb_v_add(p, nb_v_set1(1.0f)), nb_v_pow2(n));
}

/* tanh x = 1 - 2 / (e^2x + 1) for |x| >= 0.25; below, where that cancels, the odd Taylor polynomial
 * x - x^3/3 + 2 x^5/15 - 17 x^7/315 + 62 x^9/2835, whose rest is below 2^-26 x. */
static inline nb_v nb_v_tanh(nb_v x)
{
    const nb_v one = nb_v_set1(1.0f), two = nb_v_set1(2.0f), s = nb_v_mul(x, x);
    const nb_v big = nb_v_sub(one, nb_v_div(two, nb_v_add(nb_v_exp(nb_v_mul(two, x)), one)));
    nb_v p = nb_v_set1(62.0f / 2835);
    p = nb_v_fma(p, s, nb_v_set1(-17.0f / 315));
    p = nb_v_fma(p, s, nb_v_set1(2.0f / 15));
    p = nb_v_fma(p, s, nb_v_set1(-1.0f / 3));
    const nb_v small = nb_v_fma(nb_v_mul(x, s), p, x);
    float v[NB_LANES], b[NB_LANES], q[NB_LANES];
    nb_v_store(v, x);
    nb_v_store(b, big);
    nb_v_store(q, small);
    for (int i = 0; i < NB_LANES; i++)
        b[i] = fabsf(v[i]) < 0.25f ? q[i] : b[i];
    return nb_v_load(b);
}

#endif
