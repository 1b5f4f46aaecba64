/* norm.h -- 1 / sqrt(mean(x^2) + eps), the factor of rms_norm, summed in one order whoever needs it
 * (rms_norm.cu, linear/activations.cu, linear/stream.h), so that a norm has the same bits wherever
 * it is taken:
 *
 *   part p of a row   elements 128 (p + kNormParts j) + 4 lane .. + 3, j = 0, 1, ...: a lane's one
 *                     after another, the lanes of a warp in a tree
 *   the row           its parts one after another
 *
 * A part is a warp's work; how many warps share a row's parts, and in which order, does not matter. */
#ifndef NB_CUDA_NORM_NORM_H
#define NB_CUDA_NORM_NORM_H

#include "reduce.h"

constexpr int kNormParts = 8, kNormStep = 128; /* of a warp: 16 bytes a lane */

/* Parts at, at + step, ... of the kNormParts that each of M rows has, their sums to out. All lanes of
 * a warp call it. N parts at once and 4 rounds of them: 4 N loads are on their way. */
template <int N>
DEVI void nb_norm_parts(const float *x, int64_t ldx, int M, int K, int at, int step, float *out)
{
    const bool whole = ((uintptr_t)x & 15) == 0 && ldx % 4 == 0 && K % 4 == 0;
    const int lane = threadIdx.x & 31;
    for (; at < M * kNormParts; at += N * step) {
        float sum[N] = {};
#pragma unroll 4
        for (int k0 = 4 * lane; k0 < K; k0 += kNormParts * kNormStep) {
            float v[N][4];
#pragma unroll
            for (int j = 0; j < N; j++) {
                const int i = at + j * step, k = k0 + i % kNormParts * kNormStep;
                const float *row = x + i / kNormParts * ldx;
                const bool there = i < M * kNormParts;
                if (whole) {
                    const uint4 u = there && k < K ? ld_v4(row + k) : make_uint4(0, 0, 0, 0);
                    v[j][0] = __uint_as_float(u.x);
                    v[j][1] = __uint_as_float(u.y);
                    v[j][2] = __uint_as_float(u.z);
                    v[j][3] = __uint_as_float(u.w);
                } else {
#pragma unroll
                    for (int e = 0; e < 4; e++)
                        v[j][e] = there && k + e < K ? row[k + e] : 0.0f;
                }
            }
#pragma unroll
            for (int j = 0; j < N; j++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    sum[j] = fmaf(v[j][e], v[j][e], sum[j]);
        }
#pragma unroll
        for (int j = 0; j < N; j++) {
            sum[j] = nb_warp_sum(sum[j]);
            if (lane == 0 && at + j * step < M * kNormParts)
                out[at + j * step] = sum[j];
        }
    }
}

/* part: the sums of the row. */
DEVI float nb_norm_factor(const float *part, int K, float eps)
{
    float sum = part[0];
#pragma unroll
    for (int i = 1; i < kNormParts; i++)
        sum += part[i];
    return 1.0f / sqrtf(sum / (float)K + eps);
}

#endif
