/* vector.h -- neighbouring floats at once: one request of a warp instead of several, of which each
 * would take a part of every sector. */
#ifndef NB_CUDA_VECTOR_H
#define NB_CUDA_VECTOR_H

#include "gpu.h"

/* Neighbours that begin at a multiple of their bytes. */
template <int n> DEVI void nb_load(const float *from, float (&v)[n])
{
    static_assert(n == 2 || n == 4, "8 or 16 bytes");
    if (n == 2) {
        const uint2 u = ld_v2(from);
        v[0] = __uint_as_float(u.x);
        v[1] = __uint_as_float(u.y);
    } else {
        const uint4 u = ld_v4(from);
        v[0] = __uint_as_float(u.x);
        v[1] = __uint_as_float(u.y);
        v[n - 2] = __uint_as_float(u.z);
        v[n - 1] = __uint_as_float(u.w);
    }
}
/* Whether rows with that stride all begin at a multiple of 16 bytes. */
DEVI bool nb_whole_rows(const float *rows, int64_t ld)
{
    return (((uintptr_t)rows | (uintptr_t)ld * 4) & 15) == 0;
}
/* Elements k and k + 1 of a row of K, k even; 0 for those that are not there. */
DEVI void nb_pair(const float *row, int64_t k, int64_t K, float (&v)[2])
{
    if (k + 2 <= K && ((uintptr_t)row & 7) == 0) {
        nb_load(row + k, v);
    } else {
        v[0] = k < K ? row[k] : 0.0f;
        v[1] = k + 1 < K ? row[k + 1] : 0.0f;
    }
}
DEVI void nb_store4(float *to, const float (&v)[4])
{
    if ((uintptr_t)to % 16) {
#pragma unroll
        for (int i = 0; i < 4; i++)
            to[i] = v[i];
    } else {
        st_v4(to, make_uint4(__float_as_uint(v[0]), __float_as_uint(v[1]), __float_as_uint(v[2]),
                             __float_as_uint(v[3])));
    }
}

#endif
