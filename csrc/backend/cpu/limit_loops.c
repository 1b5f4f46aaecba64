/* limit_loops.c -- the loops behind limits.c; compiled once per level (vec.h).
 *
 *   read   four independent sums of whole vectors: nothing but loads
 *   f32    s = s a + b in kChains independent chains, enough to cover latency x ports: 4 x 2 for
 *          512 bits; 5 x 2 halves for AVX2, where four more of the 16 registers hold a and b
 *   int8   the instruction of the level's int8 rows (dot.h): vpdpbusd, vpmaddubsw (without the
 *          widening that the rows need beside it: an upper bound), or the plain loop
 *
 * Operands are random bytes: products of zeros may cost less energy, so the clock would be higher.
 */
#include "backend/cpu/limits.h"
#include "backend/cpu/dot.h"

static uint64_t limit_read(const uint8_t *p, size_t n);
static double limit_f32(const void *operands, int64_t steps, float *sink);
static double limit_int8(const void *operands, int64_t steps, float *sink);

#if defined(__AVX512F__)
enum { kChains = 12 };
#elif defined(__AVX2__)
enum { kChains = 5 };
#else
enum { kChains = 2 };
#endif

/* Operands as f32 in [0.5, 1): s = s a + b then stays below 2 whatever the bytes were. */
static nb_v between_half_and_one(const uint8_t *bytes)
{
    float f[NB_LANES];
    for (int i = 0; i < NB_LANES; i++)
        f[i] = 0.5f + (float)bytes[i] * 0x1p-10f;
    return nb_v_load(f);
}

static double limit_f32(const void *operands, int64_t steps, float *sink)
{
    const uint8_t *bytes = operands;
    const nb_v a = between_half_and_one(bytes), b = between_half_and_one(bytes + NB_LANES);
    nb_v s[kChains];
#pragma GCC unroll 16
    for (int i = 0; i < kChains; i++)
        s[i] = between_half_and_one(bytes + 2 * NB_LANES + i);
    for (int64_t n = 0; n < steps; n++)
#pragma GCC unroll 16
        for (int i = 0; i < kChains; i++)
            s[i] = nb_v_fma(s[i], a, b);
    for (int i = 0; i < kChains; i++)
        *sink += nb_v_sum(s[i]);
    return 2.0 * kChains * NB_LANES * (double)steps;
}

#if defined(__AVX512F__)

static uint64_t limit_read(const uint8_t *p, size_t n)
{
    __m512i s[4];
    for (int i = 0; i < 4; i++)
        s[i] = _mm512_setzero_si512();
    for (size_t at = 0; at < n; at += 256)
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            s[i] = _mm512_xor_si512(s[i], _mm512_load_si512(p + at + 64 * (size_t)i));
    const __m512i all =
        _mm512_xor_si512(_mm512_xor_si512(s[0], s[1]), _mm512_xor_si512(s[2], s[3]));
    uint64_t part[8], sum = 0;
    memcpy(part, &all, sizeof part);
    for (int i = 0; i < 8; i++)
        sum ^= part[i];
    return sum;
}

static double limit_int8(const void *operands, int64_t steps, float *sink)
{
    const uint8_t *bytes = operands;
    const __m512i u = _mm512_load_si512(bytes), x = _mm512_load_si512(bytes + 64);
    __m512i s[kChains];
#pragma GCC unroll 16
    for (int i = 0; i < kChains; i++)
        s[i] = _mm512_set1_epi32(i);
    for (int64_t n = 0; n < steps; n++)
#pragma GCC unroll 16
        for (int i = 0; i < kChains; i++)
            s[i] = _mm512_dpbusd_epi32(s[i], u, x);
    for (int i = 0; i < kChains; i++)
        *sink += (float)_mm_cvtsi128_si32(_mm512_castsi512_si128(s[i]));
    return 2.0 * kChains * 64 * (double)steps;
}

#elif defined(__AVX2__)

static uint64_t limit_read(const uint8_t *p, size_t n)
{
    __m256i s[4];
    for (int i = 0; i < 4; i++)
        s[i] = _mm256_setzero_si256();
    for (size_t at = 0; at < n; at += 128)
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            s[i] = _mm256_xor_si256(s[i], nb_load_half(p + at + 32 * (size_t)i));
    const __m256i all =
        _mm256_xor_si256(_mm256_xor_si256(s[0], s[1]), _mm256_xor_si256(s[2], s[3]));
    uint64_t part[4];
    memcpy(part, &all, sizeof part);
    return part[0] ^ part[1] ^ part[2] ^ part[3];
}

/* The sums become the next factors, turned by an exclusive or: the product is no loop invariant. */
static double limit_int8(const void *operands, int64_t steps, float *sink)
{
    enum { kSums = 12 };
    const uint8_t *bytes = operands;
    const __m256i turn = nb_load_half(bytes), x = nb_load_half(bytes + 32);
    __m256i s[kSums];
#pragma GCC unroll 16
    for (int i = 0; i < kSums; i++)
        s[i] = nb_load_half(bytes + 64 + 8 * i);
    for (int64_t n = 0; n < steps; n++)
#pragma GCC unroll 16
        for (int i = 0; i < kSums; i++)
            s[i] = _mm256_maddubs_epi16(_mm256_xor_si256(s[i], turn), x);
    for (int i = 0; i < kSums; i++)
        *sink += (float)_mm256_extract_epi32(s[i], 0);
    return 2.0 * kSums * 32 * (double)steps;
}

#else

static uint64_t limit_read(const uint8_t *p, size_t n)
{
    uint64_t s[4] = {0};
    for (size_t at = 0; at < n; at += sizeof s)
        for (int i = 0; i < 4; i++) {
            uint64_t v;
            memcpy(&v, p + at + 8 * (size_t)i, sizeof v);
            s[i] ^= v;
        }
    return s[0] ^ s[1] ^ s[2] ^ s[3];
}

static double limit_int8(const void *operands, int64_t steps, float *sink)
{
    const uint8_t *code = operands;
    int8_t x[64];
    memcpy(x, code + 64, sizeof x);
    int32_t s[64] = {0};
    for (int64_t n = 0; n < steps; n++)
        for (int i = 0; i < 64; i++)
            s[i] = (s[i] & 0xffff) + code[i] * x[(i + (int)n) & 63];
    for (int i = 0; i < 64; i++)
        *sink += (float)s[i];
    return 2.0 * 64 * (double)steps;
}

#endif

const nb_cpu_limit_loops NB_LEVEL_NAME(nb_cpu_limit_loops) = {
    .read = limit_read, .f32 = limit_f32, .int8 = limit_int8};
