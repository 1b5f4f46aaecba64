/* scale.h -- from the values of a group to a scale that its format can store: what encoders and the
 * rules of grids are made of. Private to this folder.
 *
 * Scales are rounded to f16 here, before any code is computed, and held in [2^-24, 65504] in
 * magnitude: neither 0 nor infinite by rounding. A NaN among the values is passed over. */
#ifndef NB_DTYPE_SCALE_H
#define NB_DTYPE_SCALE_H

#include "base/scalar.h"

#include <math.h>

static inline float half_of(float v)
{
    const float most = 65504.0f, bound = v > most ? most : v < -most ? -most : v;
    return nb_f32_from_f16(nb_f16_from_f32(bound));
}

/* v rounded to f16; not to 0, which no code could be told apart on. */
static inline float scale_of(float v)
{
    const float h = half_of(v);
    return h != 0.0f ? h : copysignf(0x1p-24f, v);
}

typedef struct range {
    float lo, hi;
} range;

/* The range of w and of [lo, hi]. */
static inline range range_of(const float *w, int n, float lo, float hi)
{
    range r = {lo, hi};
    for (int i = 0; i < n; i++) {
        r.lo = w[i] < r.lo ? w[i] : r.lo;
        r.hi = w[i] > r.hi ? w[i] : r.hi;
    }
    return r;
}

/* The signed value of greatest magnitude, the first of equals; 0 if no value compares. */
static inline float extreme_of(const float *x, int n)
{
    float amax = 0.0f, extreme = 0.0f;
    for (int i = 0; i < n; i++)
        if (amax < fabsf(x[i])) {
            amax = fabsf(x[i]);
            extreme = x[i];
        }
    return extreme;
}

#endif
