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

/* The range of w and of [lo, hi]. Side by side in eight lanes; where an end is 0 its sign is that
 * of the first such value, so it is looked up in order. */
static inline range range_of(const float *w, int n, float lo, float hi)
{
    enum { kLanes = 8 };
    float l[kLanes], h[kLanes];
    range r = {lo, hi};
    int i = 0;
    for (int c = 0; c < kLanes; c++) {
        l[c] = lo;
        h[c] = hi;
    }
    for (; i + kLanes <= n; i += kLanes)
        for (int c = 0; c < kLanes; c++) {
            l[c] = w[i + c] < l[c] ? w[i + c] : l[c];
            h[c] = w[i + c] > h[c] ? w[i + c] : h[c];
        }
    for (int c = 0; c < kLanes; c++) {
        r.lo = l[c] < r.lo ? l[c] : r.lo;
        r.hi = h[c] > r.hi ? h[c] : r.hi;
    }
    if (r.lo == 0.0f || r.hi == 0.0f) {
        r = (range){lo, hi};
        i = 0;
    }
    for (; i < n; i++) {
        r.lo = w[i] < r.lo ? w[i] : r.lo;
        r.hi = w[i] > r.hi ? w[i] : r.hi;
    }
    return r;
}

/* The greatest magnitude, a NaN passed over. Its bits as integers are ordered as the numbers are,
 * and their maximum vectorises. */
static inline float absmax_of(const float *x, int n)
{
    int32_t most = 0;
    for (int j = 0; j < n; j++) {
        const int32_t bits = (int32_t)(nb_f32_bits(x[j]) & 0x7fffffffu),
                      number = bits > 0x7f800000 ? 0 : bits;
        most = number > most ? number : most;
    }
    return nb_f32_from_bits((uint32_t)most);
}

/* The signed value of greatest magnitude, the first of equals; 0 if no value compares. */
static inline float extreme_of(const float *x, int n)
{
    const float most = absmax_of(x, n);
    int above = 0, below = 0, i = 0; /* loops without a way out become vectors */
    for (int k = 0; k < n; k++) {
        above |= x[k] == most;
        below |= x[k] == -most;
    }
    if (!(most > 0.0f) || !(above | below))
        return 0.0f;
    while (above & below && fabsf(x[i]) != most)
        i++;
    return above & below ? x[i] : above ? most : -most;
}

#endif
