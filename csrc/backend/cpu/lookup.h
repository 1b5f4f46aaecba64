/* lookup.h -- a table of sixteen floats in registers, read by sixteen 4-bit codes at once.
 *
 * The codes are a nibble of each of sixteen u32, as a vector of a U4 or T4 block holds them
 * (weight.h). What lies above the nibble need not be masked away: vpermps takes the low 4 bits of
 * an index (AVX-512) or the low 3 (AVX2, where bit 3 chooses between the halves of the table). So
 * a vector costs a shift and a permutation, on AVX2 for each half two shifts, two permutations and
 * a blend; a gather would cost sixteen loads. */
#ifndef NB_BACKEND_CPU_LOOKUP_H
#define NB_BACKEND_CPU_LOOKUP_H

#include "backend/cpu/vec.h"

#if defined(__AVX512F__)

/* table[(u >> shift) & 15] of each of sixteen little-endian u32; shift at most 28. */
static inline nb_v nb_v_looked_up(nb_v table, const uint8_t *p, int shift)
{
    const __m512i v = _mm512_srl_epi32(_mm512_loadu_si512(p), _mm_cvtsi32_si128(shift));
    return (nb_v){_mm512_permutexvar_ps(v, table.f)};
}

#elif defined(__AVX2__)

static inline __m256 nb_v_looked_up_half(nb_v table, const uint8_t *p, int shift)
{
    const __m256i u = _mm256_loadu_si256((const __m256i *)(const void *)p);
    const __m256i v = _mm256_srl_epi32(u, _mm_cvtsi32_si128(shift)),
                  top = _mm256_sll_epi32(u, _mm_cvtsi32_si128(28 - shift)); /* bit 3 as the sign */
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(table.lo, v),
                            _mm256_permutevar8x32_ps(table.hi, v), _mm256_castsi256_ps(top));
}
static inline nb_v nb_v_looked_up(nb_v table, const uint8_t *p, int shift)
{
    return (nb_v){nb_v_looked_up_half(table, p, shift), nb_v_looked_up_half(table, p + 32, shift)};
}

#else

static inline nb_v nb_v_looked_up(nb_v table, const uint8_t *p, int shift)
{
    nb_v r;
    for (int i = 0; i < NB_LANES; i++)
        r.f[i] = table.f[nb_load_u32(p + 4 * i) >> shift & 15];
    return r;
}

#endif

#endif
