/* scalar.h -- unaligned little-endian loads and stores, and the 16-bit floats, one value at a time.
 *
 * The vector kernels have their own; these are the definition. f32 -> f16/bf16 round to nearest
 * even; NaN stays NaN. */
#ifndef NB_BASE_SCALAR_H
#define NB_BASE_SCALAR_H

#include <stdint.h>
#include <string.h>

static inline uint16_t nb_load_u16(const void *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline uint32_t nb_load_u32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline uint64_t nb_load_u64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline float nb_f32_from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}
static inline uint32_t nb_f32_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}
static inline float nb_f32_from_bf16(uint16_t b)
{
    return nb_f32_from_bits((uint32_t)b << 16);
}
static inline uint16_t nb_bf16_from_f32(float f)
{
    const uint32_t u = nb_f32_bits(f), nan = (u >> 16) | 0x40u; /* quiet, its sign kept */
    return (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? nan
                                                      : (u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}
/* IEEE half: 1 sign, 5 exponent (bias 15), 10 fraction bits. */
static inline float nb_f32_from_f16(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    const uint32_t exp = (h >> 10) & 0x1fu, frac = h & 0x3ffu;
    if (exp == 0) /* zero or subnormal: frac * 2^-24 is exact in f32 */
        return nb_f32_from_bits(nb_f32_bits((float)frac * 0x1p-24f) | sign);
    if (exp == 31)
        return nb_f32_from_bits(sign | 0x7f800000u | (frac << 13));
    return nb_f32_from_bits(sign | ((exp + 112u) << 23) | (frac << 13)); /* 127 - 15 = 112 */
}
static inline uint16_t nb_f16_from_f32(float f)
{
    const uint32_t u = nb_f32_bits(f), sign = (u >> 16) & 0x8000u, mag = u & 0x7fffffffu;
    /* every case, then the right one: loops over this become vectors */
    /* 112 << 23 */
    const uint32_t rounded = mag + 0xfffu + ((mag >> 13) & 1u),
                   normal = (rounded - 0x38000000u) >> 13;
    /* below 2^-14 the adder rounds to multiples of 2^-24, the ulp of [0.5, 1) */
    const uint32_t small =
        nb_f32_bits(nb_f32_from_bits(mag < 0x38800000u ? mag : 0) + 0.5f) - 0x3f000000u;
    const uint32_t finite = mag < 0x38800000u ? small : normal;
    /* 65520 and above round to infinity */
    const uint32_t infinite = mag >= 0x477ff000u ? 0x7c00u : finite;
    return (uint16_t)(sign | (mag > 0x7f800000u ? 0x7e00u : infinite));
}
/* E4M3: 1 sign, 4 exponent (bias 7), 3 fraction bits; no infinity, s1111111 is NaN. */
static inline float nb_f32_from_e4m3(uint8_t b)
{
    const uint32_t sign = (uint32_t)(b & 0x80u) << 24, mag = b & 0x7fu;
    /* the magnitude in place reads as the value times 2^-120 (127 - 7) */
    const uint32_t bits = nb_f32_bits(nb_f32_from_bits(mag << 20) * 0x1p120f);
    return nb_f32_from_bits(sign | bits | (mag == 0x7fu ? 0x7fc00000u : 0u));
}
/* What is beyond 448 and finite becomes 448, what is not finite NaN. */
static inline uint8_t nb_e4m3_from_f32(float f)
{
    const uint32_t u = nb_f32_bits(f), sign = (u >> 24) & 0x80u, mag = u & 0x7fffffffu;
    const uint32_t normal = ((mag + 0x7ffffu + ((mag >> 20) & 1u)) >> 20) - 960u; /* 120 << 3 */
    /* below 2^-6 the adder rounds to multiples of 2^-9, the ulp of [2^14, 2^15) */
    const uint32_t small =
        nb_f32_bits(nb_f32_from_bits(mag < 0x3c800000u ? mag : 0) + 16384.0f) - 0x46800000u;
    const uint32_t finite = mag < 0x3c800000u ? small : mag > 0x43e00000u ? 0x7eu : normal;
    return (uint8_t)(sign | (mag >= 0x7f800000u ? 0x7fu : finite));
}

#endif
