/* norm.h -- 1 / sqrt(mean(x^2) + eps), the factor of rms_norm, summed in one order whoever needs it
 * (rms_norm.cu, linear/activations.cu, linear/stream.h), so that a norm has the same bits wherever
 * it is taken:
 *
 *   part p of a row   elements 128 (p + kNormParts j) + 4 lane .. + 3, j = 0, 1, ...: a lane's one
 *                     after another, the lanes of a warp in a tree
 *   the row           its parts one after another
 *
 * A part is a warp's work; how many warps share a row's parts does not matter. */
#ifndef NB_CUDA_NORM_NORM_H
#define NB_CUDA_NORM_NORM_H

#include "reduce.h"

constexpr int kNormParts = 8, kNormStep = 128; /* of a warp: 16 bytes a lane */

/* All lanes of a warp call it; the sum comes back to all. */
DEVI float nb_norm_part(const float *x, int K, int part)
{
    float sum = 0.0f;
    const bool whole = ((uintptr_t)x & 15) == 0;
    for (int k = part * kNormStep + 4 * (int)(threadIdx.x & 31); k < K;
         k += kNormParts * kNormStep) {
        float v[4];
        if (whole && k + 4 <= K) {
            const uint4 u = ld_v4(x + k);
            v[0] = __uint_as_float(u.x);
            v[1] = __uint_as_float(u.y);
            v[2] = __uint_as_float(u.z);
            v[3] = __uint_as_float(u.w);
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++)
                v[i] = k + i < K ? x[k + i] : 0.0f;
        }
#pragma unroll
        for (int i = 0; i < 4; i++)
            sum = fmaf(v[i], v[i], sum);
    }
    return nb_warp_sum(sum);
}

DEVI float nb_norm_factor(const float *part, int K, float eps)
{
    float sum = part[0];
#pragma unroll
    for (int i = 1; i < kNormParts; i++)
        sum += part[i];
    return 1.0f / sqrtf(sum / (float)K + eps);
}

#endif
