/* half.h -- f16 in device code: the compiler's under nvcc, the library's own scalars in the
 * emulator. */
#ifndef NB_CUDA_HALF_H
#define NB_CUDA_HALF_H

#include "gpu.h"

#ifdef __CUDACC__
DEVI float mul_rn(float a, float b) /* a product the compiler may not fuse with a sum */
{
    return __fmul_rn(a, b);
}
DEVI double mul_rn(double a, double b)
{
    return __dmul_rn(a, b);
}
DEVI float nb_half_get(const uint16_t *p)
{
    return __half2float(__ushort_as_half(*p));
}
DEVI uint16_t nb_half_of(float v)
{
    return __half_as_ushort(__float2half_rn(v));
}
DEVI float nb_half_lo(uint32_t v) /* of two in a word */
{
    return __half2float(__ushort_as_half((unsigned short)v));
}
DEVI float nb_half_hi(uint32_t v)
{
    return __half2float(__ushort_as_half((unsigned short)(v >> 16)));
}
DEVI uint32_t nb_half_pack(float lo, float hi)
{
    uint32_t r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
    return r;
}
#else
#include "base/scalar.h"
DEVI float mul_rn(float a, float b)
{
    return a * b;
}
DEVI double mul_rn(double a, double b)
{
    return a * b;
}
DEVI float nb_half_get(const uint16_t *p)
{
    return nb_f32_from_f16(*p);
}
DEVI uint16_t nb_half_of(float v)
{
    return nb_f16_from_f32(v);
}
DEVI float nb_half_lo(uint32_t v)
{
    return nb_f32_from_f16((uint16_t)v);
}
DEVI float nb_half_hi(uint32_t v)
{
    return nb_f32_from_f16((uint16_t)(v >> 16));
}
DEVI uint32_t nb_half_pack(float lo, float hi)
{
    return nb_f16_from_f32(lo) | (uint32_t)nb_f16_from_f32(hi) << 16;
}
#endif

#endif
