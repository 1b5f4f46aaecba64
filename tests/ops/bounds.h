/* bounds.h -- the error bounds of docs/NUMERICS.md as code, so that every op's test allows the same
 * for the same reason. */
#ifndef NB_TESTS_OPS_BOUNDS_H
#define NB_TESTS_OPS_BOUNDS_H

#include <math.h>

#define BOUND_U 0x1p-24   /* half an ulp of f32 */
#define BOUND_BF16 0x1p-8 /* half an ulp of bf16 (8 bits), relative, at worst */

/* "sums": terms added one by one; each rounding is off by u |partial sum| at random. */
typedef struct bound_sum {
    double sum, drift;
} bound_sum;

static inline void bound_add(bound_sum *b, double term)
{
    b->sum += term;
    b->drift += b->sum * b->sum + term * term;
}
static inline double bound_of(const bound_sum *b)
{
    return BOUND_U * (8.0 * sqrt(b->drift) + fabs(b->sum));
}

#endif
