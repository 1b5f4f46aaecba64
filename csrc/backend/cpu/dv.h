/* dv.h -- a vector of f64 of the level's own width (vec.h has f32): wider ones would be taken apart
 * by way of the stack. Every step is one fused multiply and add on every level, so bits do not
 * depend on the level. */
#ifndef NB_BACKEND_CPU_DV_H
#define NB_BACKEND_CPU_DV_H

#include <math.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
typedef double nb_dv __attribute__((vector_size(64)));
#elif defined(__AVX2__)
#include <immintrin.h>
typedef double nb_dv __attribute__((vector_size(32)));
#else
typedef double nb_dv __attribute__((vector_size(16)));
#endif

enum { NB_DV = (int)(sizeof(nb_dv) / sizeof(double)) };

static inline nb_dv nb_dv_load(const double *p)
{
    nb_dv v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void nb_dv_store(double *p, nb_dv v)
{
    memcpy(p, &v, sizeof v);
}

static inline nb_dv nb_dv_fma(double x, nb_dv v, nb_dv s) /* x v + s */
{
#if defined(__AVX512F__)
    return (nb_dv)_mm512_fmadd_pd(_mm512_set1_pd(x), (__m512d)v, (__m512d)s);
#elif defined(__AVX2__)
    return (nb_dv)_mm256_fmadd_pd(_mm256_set1_pd(x), (__m256d)v, (__m256d)s);
#else
    for (int i = 0; i < NB_DV; i++)
        s[i] = fma(x, v[i], s[i]);
    return s;
#endif
}

static inline nb_dv nb_dv_from_f32(const float *p)
{
#if defined(__AVX512F__)
    return (nb_dv)_mm512_cvtps_pd(_mm256_loadu_ps(p));
#elif defined(__AVX2__)
    return (nb_dv)_mm256_cvtps_pd(_mm_loadu_ps(p));
#else
    return (nb_dv){(double)p[0], (double)p[1]};
#endif
}

static inline void nb_dv_to_f32(float *p, nb_dv v)
{
#if defined(__AVX512F__)
    _mm256_storeu_ps(p, _mm512_cvtpd_ps((__m512d)v));
#elif defined(__AVX2__)
    _mm_storeu_ps(p, _mm256_cvtpd_ps((__m256d)v));
#else
    p[0] = (float)v[0];
    p[1] = (float)v[1];
#endif
}

#endif
