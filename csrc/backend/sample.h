/* sample.h -- the arithmetic of the op `sample` (backend.h): the same bits on every device, so that
 * a seed gives the same tokens from the same logits.
 *
 * p = e^d is one fixed sequence of f32 operations, each rounded to nearest, none fused. Its weight
 * is the integer p 2^44, cut off: 2^18 candidates of at most 2^44 stay within 2^62, sums are exact
 * and have no order. A p of at least e^-20 > 2^-29 keeps 15 bits or more; what is cut off of 2^18
 * of them is 2^-26 of the likeliest. */
#ifndef NB_BACKEND_SAMPLE_H
#define NB_BACKEND_SAMPLE_H

#include "backend/backend.h"

#include <math.h>
#include <string.h>

#ifdef __CUDACC__
#define NB_SAMPLE_FN static inline __host__ __device__
#else
#define NB_SAMPLE_FN static inline
#endif

/* candidates have d of at least this: 49152 others of 2e-9 weigh 1e-4 of the likeliest */
#define NB_SAMPLE_LEAST (-20.0f)
#define NB_SAMPLE_MOST_N ((int64_t)1 << 19) /* sums of 2^63 at most */

/* a b + c with two roundings; nvcc would fuse them. */
NB_SAMPLE_FN float nb_sample_mul_add(float a, float b, float c)
{
#ifdef __CUDA_ARCH__
    return __fadd_rn(__fmul_rn(a, b), c);
#else
    return a * b + c;
#endif
}

/* How far a logit is below the greatest, in units of the temperature; 0 for the greatest itself,
 * infinite or not. */
NB_SAMPLE_FN float nb_sample_below(float logit, float top, float temp)
{
    return logit == top ? 0.0f : (logit - top) / temp;
}

/* e^d for d in [-20, 0], off by 2^-22 of itself at most; 1 at 0.
 * d = n log 2 + r, |r| <= log(2) / 2: n to nearest by adding 1.5 2^23, log 2 in two parts of which
 * the first has 12 bits (n times it is exact), e^r by its series to r^7 / 5040 (the next term is
 * below 2^-27), 2^n into the exponent. */
NB_SAMPLE_FN float nb_sample_p(float d)
{
    const float round = 12582912.0f, up = nb_sample_mul_add(d, 1.44269504f, round), n = up - round;
    const float r = nb_sample_mul_add(n, -1.42860677e-6f, nb_sample_mul_add(n, -0.693145752f, d));
    float y = 1.0f / 5040.0f;
    uint32_t bits;
    y = nb_sample_mul_add(y, r, 1.0f / 720.0f);
    y = nb_sample_mul_add(y, r, 1.0f / 120.0f);
    y = nb_sample_mul_add(y, r, 1.0f / 24.0f);
    y = nb_sample_mul_add(y, r, 1.0f / 6.0f);
    y = nb_sample_mul_add(y, r, 0.5f);
    y = nb_sample_mul_add(y, r, 1.0f);
    y = nb_sample_mul_add(y, r, 1.0f);
    memcpy(&bits, &y, sizeof bits);
    bits += (uint32_t)(int32_t)n << 23;
    memcpy(&y, &bits, sizeof y);
    return y;
}

static inline nb_status nb_sample_check(const nb_backend *be, const nb_sample_args *a,
                                        nb_error *err)
{
    return a->N <= NB_SAMPLE_MOST_N
               ? NB_OK
               : nb_fail(err, NB_UNSUPPORTED, "%s: sample from %lld tokens, at most %lld", be->name,
                         (long long)a->N, (long long)NB_SAMPLE_MOST_N);
}

NB_SAMPLE_FN uint64_t nb_sample_weight(float p)
{
    return (uint64_t)(p * 17592186044416.0f); /* 2^44 */
}

/* The least sum that is at least share x sum; 1 at least. */
NB_SAMPLE_FN uint64_t nb_sample_share(float share, uint64_t sum)
{
    const double want = (double)share * (double)sum;
    const uint64_t whole = (uint64_t)want;
    return whole < 1 ? 1 : whole + ((double)whole < want);
}

/* floor(draw sum / 2^64): where in [0, sum) a draw of 64 random bits falls. By halves: no type of
 * 128 bits. */
NB_SAMPLE_FN uint64_t nb_sample_spot(uint64_t draw, uint64_t sum)
{
    const uint64_t a = draw >> 32, b = draw & 0xffffffffu, c = sum >> 32, d = sum & 0xffffffffu;
    const uint64_t one = a * d + (b * d >> 32), two = b * c + (one & 0xffffffffu);
    return a * c + (one >> 32) + (two >> 32);
}

#endif
