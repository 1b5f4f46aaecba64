/* limit_bf16.c -- the rate of vdpbf16ps, for limits.c. Needs AVX512-BF16. */
#include "backend/cpu/limits.h"

#include <immintrin.h>

double nb_cpu_limit_bf16_avx512(const void *operands, int64_t steps, float *sink)
{
    enum { kChains = 12, kProducts = 32 };
    /* random fractions under one exponent: +-[1, 2), never NaN */
    const __m512i keep = _mm512_set1_epi16((short)0x807f), one = _mm512_set1_epi16(0x3f80);
    const uint8_t *bytes = operands;
    const __m512i a = _mm512_or_si512(_mm512_and_si512(_mm512_load_si512(bytes), keep), one);
    const __m512i b = _mm512_or_si512(_mm512_and_si512(_mm512_load_si512(bytes + 64), keep), one);
    __m512 s[kChains];
#pragma GCC unroll 16
    for (int i = 0; i < kChains; i++)
        s[i] = _mm512_set1_ps((float)i);
    for (int64_t n = 0; n < steps; n++)
#pragma GCC unroll 16
        for (int i = 0; i < kChains; i++)
            s[i] = _mm512_dpbf16_ps(s[i], (__m512bh)a, (__m512bh)b);
    for (int i = 0; i < kChains; i++)
        *sink += _mm512_reduce_add_ps(s[i]);
    return 2.0 * kChains * kProducts * (double)steps;
}
