/* gram.cu -- H += X^T X and C += (X_orig - X)^T X on the tensor cores, f64 sums.
 *
 * Every column of X (and of the difference) is scaled by a power of two that brings its largest
 * magnitude to [2^14, 2^15), then split into two f16 (split_tile.h): 22 bits of a value stay, the
 * scales are taken out of the f64 sums again, which is exact. Products are summed in f32 over 64
 * tokens. A block makes 64 x 64 of the result. Of H only tiles from the diagonal on; what lies left
 * of it is written as its mirror, so H is symmetric to the bit. Cost 3 M K^2 multiply-adds of f16
 * for C, half of that for H. */
#include "quantize/gram.h"

constexpr int kColumns = 32, kWarps = 8;

/* A block 32 columns, tokens by warps. */
__global__ void __launch_bounds__(32 * kWarps) scale_kernel(Rows a, int M, int K, float *scale)
{
    SHARED(float, part, [kWarps][kColumns]);
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, k = blockIdx.x * kColumns + lane;
    float top = 0.0f;
    for (int t = warp; t < M && k < K; t += kWarps)
        top = fmaxf(top, fabsf(rows_at(a, t, k)));
    part[warp][lane] = top;
    __syncthreads();
    if (warp || k >= K)
        return;
    for (int w = 1; w < kWarps; w++)
        top = fmaxf(top, part[w][lane]);
    scale[k] = split_scale(top);
}

/* Columns k and k + 1 of K of a token, if it is there, times their scales. */
template <class Read>
DEVI void scaled(const float *scale, int k, int K, float (&v)[2], bool there, Read read)
{
    float by[2];
    v[0] = v[1] = 0.0f;
    if (!there)
        return;
    read(v);
    nb_pair(scale, k, K, by);
    v[0] *= by[0];
    v[1] *= by[1];
}

__global__ void __launch_bounds__(kSplitThreads) gram_kernel(Gram a)
{
    SHARED_ALIGN(16, Operand<2>, left, [1]);
    SHARED_ALIGN(16, Operand<2>, right, [1]);
    const int i0 = blockIdx.y * kTile, j0 = blockIdx.x * kTile;
    if (a.same && j0 < i0)
        return;
    SplitSum s = {};
    for (int t0 = 0; t0 < a.M; t0 += kDepth) {
        split_fill(
            left[0], right[0],
            [&](int r, int c, float(&v)[2]) {
                scaled(a.scale_left, i0 + c, a.I, v, t0 + r < a.M,
                       [&](float(&x)[2]) { rows_pair(a.left, t0 + r, i0 + c, a.I, x); });
            },
            [&](int r, int c, float(&v)[2]) {
                scaled(a.scale, j0 + c, a.J, v, t0 + r < a.M, [&](float(&x)[2]) {
                    nb_pair(a.right + (t0 + r) * a.ld_right, j0 + c, a.J, x);
                });
            });
        __syncthreads();
        split_multiply<true, true>(left[0], right[0], &s);
        __syncthreads();
    }
    split_each(s, [&](int in, int jn, double sum) {
        const int64_t i = i0 + in, j = j0 + jn;
        if (i >= a.I || j >= a.J || (a.same && i > j))
            return;
        const double v = a.out[i * a.J + j] + sum / ((double)a.scale_left[i] * (double)a.scale[j]);
        a.out[i * a.J + j] = v;
        if (a.same && i < j)
            a.out[j * a.J + i] = v;
    });
}

nb_status nb_gram_scale(nb_backend *be, const Rows &a, int M, int K, float *scale, nb_error *err)
{
    return nb_launch(be, "gram.scale", scale_kernel, dim3((unsigned)nb_ceil_div(K, kColumns)),
                     dim3(32 * kWarps), 0, err, a, M, K, scale);
}

nb_status nb_gram_product(nb_backend *be, const Gram &a, nb_error *err)
{
    return nb_launch(be, "gram", gram_kernel,
                     dim3((unsigned)nb_ceil_div(a.J, kTile), (unsigned)nb_ceil_div(a.I, kTile)),
                     dim3(kSplitThreads), 0, err, a);
}

size_t nb_cuda_gram_scratch(nb_backend *, const nb_gram_args *a)
{
    return (size_t)a->K * sizeof(float) * (a->c ? 2 : 1);
}

nb_status nb_cuda_gram_accumulate(nb_backend *be, const nb_gram_args *a, nb_error *err)
{
    const int M = (int)a->M, K = (int)a->K;
    float *scale = (float *)a->scratch, *scale_left = scale + K;
    const Rows x = {a->x, NULL, a->ldx, 0}, moved = {a->x_orig, a->x, a->ld_orig, a->ldx};
    nb_status st = nb_gram_scale(be, x, M, K, scale, err);
    if (st == NB_OK)
        st = nb_gram_product(be, {x, a->x, a->ldx, M, K, K, true, scale, scale, a->h}, err);
    if (st == NB_OK && a->x_orig)
        st = nb_gram_scale(be, moved, M, K, scale_left, err);
    if (st == NB_OK && a->x_orig)
        st = nb_gram_product(be, {moved, a->x, a->ldx, M, K, K, false, scale_left, scale, a->c},
                             err);
    return st;
}
