/* drift.cu -- D += Y^T X, Y = (X_orig - X) W^T, on the tensor cores with f64 sums.
 *
 *   d [M,K]   the difference, X_orig divided by the scales where there are some, in f32
 *   Y [M,N]   d W^T: rows of both are scaled by a power of two and split into two f16
 *             (split_tile.h), f32 sums over 64 inputs, those in f64, rounded to f32 once
 *   D [N,K]   Y^T X as gram.cu sums over tokens, whose columns are scaled there
 *
 * Cost 6 M N K multiply-adds of f16 for C's 3 M K^2; scratch d, Y and their scales. */
#include "quantize/gram.h"

constexpr int kRows = 4; /* warps a block */

struct Difference { /* orig NULL: x itself, which stays where it is */
    const float *x, *orig, *scale;
    int64_t ldx, ld_orig;
    float *to; /* [n,K] */
};

struct Drift {
    const float *left, *w; /* [M,K], [N,K] */
    int M, N, K;
    const float *scale_left, *scale; /* [M], [N] */
    float *y;                        /* [M,N] */
};

/* A warp a row of [n,K]: makes it, and its power of two. */
__global__ void __launch_bounds__(32 * kRows) row_kernel(Difference a, int n, int K, float *power)
{
    const int lane = threadIdx.x & 31;
    const int64_t r = (int64_t)blockIdx.x * kRows + (threadIdx.x >> 5);
    if (r >= n)
        return;
    float top = 0.0f;
    for (int k = lane; k < K; k += 32) {
        float v = a.x[r * a.ldx + k];
        if (a.orig) {
            const float o = a.orig[r * a.ld_orig + k];
            /* rounded once: it is small beside both */
            v = a.scale ? fmaf(-a.scale[k], v, o) / a.scale[k] : o - v;
            a.to[r * K + k] = v;
        }
        top = fmaxf(top, fabsf(v));
    }
#pragma unroll
    for (int o = 16; o; o >>= 1)
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, o));
    if (lane == 0)
        power[r] = split_scale(top);
}

/* Columns k and k + 1 of row r of [R,K], times the row's scale; 0 where they are not there. */
DEVI void row_pair(const float *x, const float *scale, int r, int R, int k, int K, float (&v)[2])
{
    v[0] = v[1] = 0.0f;
    if (r >= R)
        return;
    nb_pair(x + (int64_t)r * K, k, K, v);
    v[0] *= scale[r];
    v[1] *= scale[r];
}

__global__ void __launch_bounds__(kSplitThreads) drift_kernel(Drift a)
{
    SHARED_ALIGN(16, Operand<2>, left, [1]);
    SHARED_ALIGN(16, Operand<2>, right, [1]);
    const int i0 = blockIdx.y * kTile, j0 = blockIdx.x * kTile;
    SplitSum s = {};
    for (int k0 = 0; k0 < a.K; k0 += kDepth) {
        split_fill(
            left[0], right[0],
            [&](int r, int c, float(&v)[2]) {
                row_pair(a.left, a.scale_left, i0 + r, a.M, k0 + c, a.K, v);
            },
            [&](int r, int c, float(&v)[2]) {
                row_pair(a.w, a.scale, j0 + r, a.N, k0 + c, a.K, v);
            });
        __syncthreads();
        split_multiply<false, false>(left[0], right[0], &s);
        __syncthreads();
    }
    split_each(s, [&](int in, int jn, double sum) {
        const int64_t i = i0 + in, j = j0 + jn;
        if (i < a.M && j < a.N)
            a.y[i * a.N + j] = (float)(sum / ((double)a.scale_left[i] * (double)a.scale[j]));
    });
}

/* d, Y, then the powers of two of their rows and W's, then those of the columns of Y and of X. */
size_t nb_cuda_drift_scratch(nb_backend *, const nb_drift_args *a)
{
    return (size_t)(a->M * (a->K + a->N + 1) + 2 * a->N + a->K) * sizeof(float);
}

static nb_status rows(nb_backend *be, const Difference &a, int n, int K, float *power,
                      nb_error *err)
{
    return nb_launch(be, "drift.rows", row_kernel, dim3((unsigned)nb_ceil_div(n, kRows)),
                     dim3(32 * kRows), 0, err, a, n, K, power);
}

nb_status nb_cuda_drift_accumulate(nb_backend *be, const nb_drift_args *a, nb_error *err)
{
    const int M = (int)a->M, N = (int)a->N, K = (int)a->K;
    float *left = (float *)a->scratch, *made = left + a->M * a->K, *of_token = made + a->M * a->N,
          *of_output = of_token + M, *of_y = of_output + N, *of_x = of_y + N;
    const Rows y = {made, NULL, N, 0}, x = {a->x, NULL, a->ldx, 0};
    nb_status st =
        rows(be, {a->x, a->x_orig, a->scale, a->ldx, a->ld_orig, left}, M, K, of_token, err);
    if (st == NB_OK)
        st = rows(be, {a->w, NULL, NULL, K, 0, NULL}, N, K, of_output, err);
    if (st == NB_OK)
        st = nb_launch(be, "drift", drift_kernel,
                       dim3((unsigned)nb_ceil_div(N, kTile), (unsigned)nb_ceil_div(M, kTile)),
                       dim3(kSplitThreads), 0, err,
                       Drift{left, a->w, M, N, K, of_token, of_output, made});
    if (st == NB_OK)
        st = nb_gram_scale(be, y, M, N, of_y, err);
    if (st == NB_OK)
        st = nb_gram_scale(be, x, M, K, of_x, err);
    return st == NB_OK
               ? nb_gram_product(be, {y, a->x, a->ldx, M, N, K, false, of_y, of_x, a->d}, err)
               : st;
}
