// simt_numeric.h -- types and pure functions of the device API: bit casts, bfloat16, logic and
// byte instructions. Nothing here touches memory, so nothing here is observed.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) alignas(n)
#define DEVI static inline __attribute__((always_inline, unused))

struct uint2 {
    unsigned x, y;
};
struct uint3 {
    unsigned x, y, z;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c)
    {
    }
};
inline uint4 make_uint4(unsigned a, unsigned b, unsigned c, unsigned d)
{
    return {a, b, c, d};
}
struct bf16 {
    uint16_t b;
};
struct f16 {
    uint16_t b;
};

// Bit casts by __builtin_bit_cast: a memcpy would pass through the hooks, 7.5 times as many of
// them in one kernel.
template <int N> struct SimtU;
template <> struct SimtU<1> {
    typedef uint8_t t;
};
template <> struct SimtU<2> {
    typedef uint16_t t;
};
template <> struct SimtU<4> {
    typedef uint32_t t;
};
template <> struct SimtU<8> {
    typedef uint64_t t;
};
template <class To, class From> DEVI To simt_bits(From f)
{
    typedef typename SimtU<sizeof(From)>::t FromBits;
    typedef typename SimtU<sizeof(To)>::t ToBits;
    return __builtin_bit_cast(To, (ToBits) __builtin_bit_cast(FromBits, f));
}
DEVI unsigned __float_as_uint(float f)
{
    return simt_bits<unsigned>(f);
}
DEVI int __float_as_int(float f)
{
    return simt_bits<int>(f);
}
DEVI float __uint_as_float(unsigned u)
{
    return simt_bits<float>(u);
}

DEVI int __popc(unsigned v)
{
    return __builtin_popcount(v);
}
DEVI int __ffs(int v)
{
    return __builtin_ffs(v);
}
DEVI int __clz(int v)
{
    return v ? __builtin_clz((unsigned)v) : 32;
}
DEVI int min(int a, int b)
{
    return a < b ? a : b;
}
DEVI int max(int a, int b)
{
    return a > b ? a : b;
}
// libm in place of the GPU's approximations: allow a few ulp between the two.
DEVI float rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}
DEVI float simt_expf(float x)
{
    return expf(x);
}
#define __expf simt_expf

// bfloat16, round to nearest even; every NaN becomes 0x7fff, as cvt.rn does
DEVI float bf2f(bf16 v)
{
    return __uint_as_float((unsigned)v.b << 16);
}
DEVI uint16_t simt_f2bf(float f)
{
    const unsigned u = __float_as_uint(f);
    if ((u & 0x7fffffff) > 0x7f800000)
        return 0x7fff;
    return (uint16_t)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}
// One rounding from double: to float towards odd, then to bfloat16.
DEVI uint16_t simt_d2bf(double d)
{
    float f = (float)d;
    unsigned u = __float_as_uint(f);
    if ((double)f != d && !(u & 1)) {
        u = fabs((double)f) > fabs(d) ? u - 1 : u + 1;
        f = __uint_as_float(u);
    }
    return simt_f2bf(f);
}
DEVI bf16 f2bf(float f)
{
    return {simt_f2bf(f)};
}
DEVI uint32_t bf2_pack(float lo, float hi)
{
    return simt_f2bf(lo) | (uint32_t)simt_f2bf(hi) << 16;
}
DEVI float bf2_lo(uint32_t v)
{
    return __uint_as_float(v << 16);
}
DEVI float bf2_hi(uint32_t v)
{
    return __uint_as_float(v & 0xffff0000u);
}
DEVI uint32_t bf2_fma(uint32_t a, uint32_t b, uint32_t c)
{
    const uint32_t lo = simt_d2bf((double)bf2_lo(a) * bf2_lo(b) + bf2_lo(c));
    return lo | (uint32_t)simt_d2bf((double)bf2_hi(a) * bf2_hi(b) + bf2_hi(c)) << 16;
}

// lop3.b32: any function of three bits; bit 4a + 2b + c of LUT is its value
template <int LUT> DEVI uint32_t lop3(uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t r = 0;
    for (int i = 0; i < 8; i++)
        if (LUT >> i & 1)
            r |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
    return r;
}
// prmt.b32: nibble i of `sel` picks byte i of the result from the 8 bytes b:a; its bit 3 spreads
// the byte's sign instead
DEVI uint32_t prmt(uint32_t a, uint32_t b, uint32_t sel)
{
    const uint64_t v = (uint64_t)b << 32 | a;
    uint32_t r = 0;
    for (int i = 0; i < 4; i++) {
        const unsigned k = sel >> (4 * i) & 15;
        uint32_t byte = v >> (8 * (k & 7)) & 255;
        if (k & 8)
            byte = byte & 128 ? 255 : 0;
        r |= byte << (8 * i);
    }
    return r;
}
