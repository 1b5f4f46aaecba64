/* gram.cu -- H += X^T X and C += (X_orig - X)^T X on the tensor cores, f64 sums.
 *
 * Every column of X (and of the difference) is scaled by a power of two that brings its largest
 * magnitude to [2^14, 2^15), then split into two f16 (split_tile.h): 22 bits of a value stay, the
 * scales are taken out of the f64 sums again, which is exact. Products are summed in f32 over 64
 * tokens. A block makes 64 x 64 of the result. Of H only tiles from the diagonal on; what lies left
 * of it is written as its mirror, so H is symmetric to the bit. Cost 3 M K^2 multiply-adds of f16
 * for C, half of that for H. */
#include "quantize/split_tile.h"

constexpr int kColumns = 32, kWarps = 8;

struct Gram {
    const float *x, *orig; /* orig NULL: the left operand is x, else orig - x */
    int64_t ldx, ld_orig;
    int M, K;
    const float *scale_left, *scale; /* [K] each */
    double *out;
};

DEVI float left_of(const Gram &a, int64_t t, int64_t i)
{
    const float v = a.x[t * a.ldx + i];
    return a.orig ? a.orig[t * a.ld_orig + i] - v : v;
}

/* 2^(14 - exponent of the column's largest magnitude); an exponent below -113 counts as that. A
 * block 32 columns, tokens by warps. */
__global__ void __launch_bounds__(32 * kWarps) scale_kernel(Gram a, float *scale)
{
    SHARED(float, part, [kWarps][kColumns]);
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, i = blockIdx.x * kColumns + lane;
    float top = 0.0f;
    for (int t = warp; t < a.M && i < a.K; t += kWarps)
        top = fmaxf(top, fabsf(left_of(a, t, i)));
    part[warp][lane] = top;
    __syncthreads();
    if (warp || i >= a.K)
        return;
    for (int w = 1; w < kWarps; w++)
        top = fmaxf(top, part[w][lane]);
    const unsigned e = __float_as_uint(top) >> 23, least = 127 - 113;
    scale[i] = __uint_as_float((127 + 14 + 127 - (e < least ? least : e)) << 23);
}

__global__ void __launch_bounds__(kSplitThreads) gram_kernel(Gram a)
{
    SHARED_ALIGN(16, Operand<2>, left, [1]);
    SHARED_ALIGN(16, Operand<2>, right, [1]);
    const int i0 = blockIdx.y * kTile, j0 = blockIdx.x * kTile;
    if (!a.orig && j0 < i0)
        return;
    SplitSum s = {};
    for (int t0 = 0; t0 < a.M; t0 += kDepth) {
        for (int at = threadIdx.x; at < kDepth * kTile / 2; at += kSplitThreads) {
            const int r = at / (kTile / 2), c = at % (kTile / 2), t = t0 + r;
            float x[2], y[2];
#pragma unroll
            for (int p = 0; p < 2; p++) {
                const int i = i0 + 2 * c + p, j = j0 + 2 * c + p;
                x[p] = t < a.M && i < a.K ? left_of(a, t, i) * a.scale_left[i] : 0.0f;
                y[p] = t < a.M && j < a.K ? a.x[t * a.ldx + j] * a.scale[j] : 0.0f;
            }
            split_put(left[0], r, c, x[0], x[1]);
            split_put(right[0], r, c, y[0], y[1]);
        }
        __syncthreads();
        split_multiply<true>(left[0], right[0], &s);
        __syncthreads();
    }
#pragma unroll
    for (int p = 0; p < 2; p++)
#pragma unroll
        for (int q = 0; q < 4; q++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int64_t i = i0 + split_row(p, e), j = j0 + split_column(q, e);
                if (i >= a.K || j >= a.K || (!a.orig && i > j))
                    continue;
                const double v = a.out[i * a.K + j] +
                                 s.sum[p][q][e] / ((double)a.scale_left[i] * (double)a.scale[j]);
                a.out[i * a.K + j] = v;
                if (!a.orig && i < j)
                    a.out[j * a.K + i] = v;
            }
}

size_t nb_cuda_gram_scratch(nb_backend *, const nb_gram_args *a)
{
    return (size_t)a->K * sizeof(float) * (a->c ? 2 : 1);
}

static nb_status accumulate(nb_backend *be, const Gram &a, float *scale_left, nb_error *err)
{
    const unsigned n = (unsigned)nb_ceil_div(a.K, kTile);
    const nb_status st =
        nb_launch(be, "gram.scale", scale_kernel, dim3((unsigned)nb_ceil_div(a.K, kColumns)),
                  dim3(32 * kWarps), 0, err, a, scale_left);
    return st == NB_OK
               ? nb_launch(be, "gram", gram_kernel, dim3(n, n), dim3(kSplitThreads), 0, err, a)
               : st;
}

nb_status nb_cuda_gram_accumulate(nb_backend *be, const nb_gram_args *a, nb_error *err)
{
    float *scale = (float *)a->scratch, *scale_left = scale + a->K;
    nb_status st = accumulate(be, {a->x, NULL, a->ldx, 0, (int)a->M, (int)a->K, scale, scale, a->h},
                              scale, err);
    if (st == NB_OK && a->x_orig)
        st = accumulate(
            be,
            {a->x, a->x_orig, a->ldx, a->ld_orig, (int)a->M, (int)a->K, scale_left, scale, a->c},
            scale_left, err);
    return st;
}
