/* clip.h -- the values of a group held within a narrower range, for grids whose scale follows from
 * the extremes. */
#ifndef NB_DTYPE_CLIP_H
#define NB_DTYPE_CLIP_H

#include <math.h>
#include <stdlib.h>

/* to[i] = w[i] held within share times the extremes of the group; an extreme on the far side of 0
 * stays where it is. */
static inline void nb_clip_range(const float *w, int n, float share, float *to)
{
    float lo = INFINITY, hi = -INFINITY;
    for (int i = 0; i < n; i++) {
        lo = w[i] < lo ? w[i] : lo;
        hi = w[i] > hi ? w[i] : hi;
    }
    lo = lo < 0.0f ? lo * share : lo;
    hi = hi > 0.0f ? hi * share : hi;
    for (int i = 0; i < n; i++)
        to[i] = w[i] < lo ? lo : w[i] > hi ? hi : w[i];
}

static inline int nb_clip_ascending(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* to[i] = w[i] held within the ceil(quantile n)-th smallest magnitude. 0 < quantile <= 1. */
static inline void nb_clip_quantile(const float *w, int n, float quantile, float *to)
{
    for (int i = 0; i < n; i++)
        to[i] = fabsf(w[i]);
    qsort(to, (size_t)n, sizeof *to, nb_clip_ascending);
    const int at = (int)ceilf(quantile * (float)n) - 1;
    const float most = to[at < 0 ? 0 : at >= n ? n - 1 : at];
    for (int i = 0; i < n; i++)
        to[i] = w[i] < -most ? -most : w[i] > most ? most : w[i];
}

#endif
