/* correct.cu -- W += alpha W C (H + lambda I)^-1, with R of factor.cu, in its order.
 *
 * Z = W C, or what is given as that; then Y R R^T = Z by two triangular solves, in blocks of 64
 * columns (as csrc/backend/cpu/correct.c):
 *
 *     U R^T = Z   from the last block back:   Z[:,b] -= U[:,later] R[b,later]^T, then the block
 *                                             against R[b,b]^T
 *     Y R = U     from the first block on:    U[:,b] -= Y[:,earlier] R[earlier,b], then the block
 *                                             against R[b,b]
 *
 * The products are on the tensor cores, both operands as f32 in three bf16 with f64 sums
 * (split_tile.h); Z, U, Y and the triangles are f64. A block of columns is solved by a warp for two
 * rows: its lanes hold two columns each, and take a finished one out of all others.
 *
 * Cost 6 N K^2 multiply-adds of bf16 for both solves, as much for W C; 4 K / 64 launches. Scratch Z
 * and the products' left operand, U or Y as f32. */
#include "quantize/split_tile.h"

constexpr int kWarps = 8, kPair = 2; /* rows of a warp */

struct Correct {
    float *w;
    int64_t N, K;
    const double *c, *wc, *r; /* one of c and wc is NULL */
    const int32_t *perm;      /* device or NULL */
    double alpha, *z;         /* [N,K] */
    float *left;              /* [N,K] */
};

__global__ void take_kernel(Correct a)
{
    for (int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; at < a.N * a.K;
         at += (int64_t)gridDim.x * blockDim.x) {
        const int64_t k = at % a.K;
        a.z[at] = a.wc[at - k + (a.perm ? a.perm[k] : k)];
    }
}

/* Two depths of row i of an [N,K] matrix, whose rows beyond N and depths from `end` on are 0. */
DEVI void left_pair(const Correct &a, const float *x, int64_t i, int64_t k, int64_t end,
                    float (&v)[2])
{
    v[0] = v[1] = 0.0f;
    if (i < a.N)
        nb_pair(x + i * a.K, k, end, v);
}

/* Z = W C, its columns in the factor's order; blockIdx.x: 64 of them. */
__global__ void __launch_bounds__(kSplitThreads) multiply_kernel(Correct a)
{
    DYN_SHARED(Operand<3>, operands);
    const int64_t i0 = (int64_t)blockIdx.y * kTile, j0 = (int64_t)blockIdx.x * kTile, K = a.K;
    const SplitSum s = split_product<true>(
        operands, 0, K, [&](int i, int64_t k, float(&v)[2]) { left_pair(a, a.w, i0 + i, k, K, v); },
        [&](int64_t k, int j, float(&v)[2]) {
#pragma unroll
            for (int p = 0; p < 2; p++) {
                const int64_t l = j0 + j + p;
                v[p] = k < K && l < K ? (float)a.c[k * K + (a.perm ? a.perm[l] : l)] : 0.0f;
            }
        });
    split_each(s, [&](int i, int j, double sum) {
        if (i0 + i < a.N && j0 + j < K)
            a.z[(i0 + i) * K + j0 + j] = sum;
    });
}

/* Takes the columns that are solved out of [b, b + n): the later ones, kBack, or the earlier ones. */
template <bool kBack>
__global__ void __launch_bounds__(kSplitThreads) solved_kernel(Correct a, int64_t b, int n)
{
    DYN_SHARED(Operand<3>, operands);
    const int64_t i0 = (int64_t)blockIdx.x * kTile, K = a.K, end = kBack ? K : b;
    const SplitSum s = split_product<!kBack>(
        operands, kBack ? b + n : 0, end,
        [&](int i, int64_t k, float(&v)[2]) { left_pair(a, a.left, i0 + i, k, end, v); },
        [&](int64_t outer, int64_t inner,
            float(&v)[2]) { /* of R, which lies by rows either way */
#pragma unroll
                            for (int p = 0; p < 2; p++) {
                                const int64_t j = kBack ? outer : inner + p,
                                              k = kBack ? inner + p : outer;
                                v[p] = j < n && k < end ? (float)(kBack ? a.r[(b + j) * K + k]
                                                                        : a.r[k * K + b + j])
                                                        : 0.0f;
                            }
        });
    split_each(s, [&](int i, int j, double sum) {
        if (i0 + i < a.N && j < n)
            a.z[(i0 + i) * K + b + j] -= sum;
    });
}

/* One finished column k = 32 half + kk out of those before it, kBack, or behind it; of the others t
 * is 0. */
template <bool kBack>
DEVI void take_out(const double (*t)[kTile + 1], double (&z)[kPair][2], int half, int kk)
{
    const int lane = threadIdx.x & 31, k = 32 * half + kk;
#pragma unroll
    for (int p = 0; p < kPair; p++) {
        const double u = __shfl_sync(0xffffffffu, z[p][half], kk) * t[k][k];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int l = 32 * h + lane;
            z[p][h] = l == k ? u : z[p][h] - u * (kBack ? t[l][k] : t[k][l]);
        }
    }
}

/* Columns [b, b + n) of two rows a warp against R's block, from the last one back or from the first
 * one on. */
template <bool kBack>
__global__ void __launch_bounds__(32 * kWarps) block_kernel(Correct a, int64_t b, int n)
{
    SHARED(double, t, [kTile][kTile + 1]); /* R's block, its diagonal inverted; beyond n 0 */
    const int lane = threadIdx.x & 31;
    const int64_t row = ((int64_t)blockIdx.x * kWarps + (threadIdx.x >> 5)) * kPair, K = a.K;
    for (int at = threadIdx.x; at < kTile * kTile; at += blockDim.x) {
        const int i = at / kTile, j = at % kTile;
        const double v = i <= j && j < n ? a.r[(b + i) * K + b + j] : 0.0;
        t[i][j] = i == j && j < n ? 1.0 / v : v;
    }
    double z[kPair][2];
#pragma unroll
    for (int p = 0; p < kPair; p++)
#pragma unroll
        for (int h = 0; h < 2; h++)
            z[p][h] =
                row + p < a.N && 32 * h + lane < n ? a.z[(row + p) * K + b + 32 * h + lane] : 0.0;
    __syncthreads();
    if (kBack) {
        for (int k = 31; k >= 0; k--)
            take_out<kBack>(t, z, 1, k);
        for (int k = 31; k >= 0; k--)
            take_out<kBack>(t, z, 0, k);
    } else {
        for (int k = 0; k < 32; k++)
            take_out<kBack>(t, z, 0, k);
        for (int k = 0; k < 32; k++)
            take_out<kBack>(t, z, 1, k);
    }
#pragma unroll
    for (int p = 0; p < kPair; p++)
#pragma unroll
        for (int h = 0; h < 2; h++)
            if (row + p < a.N && 32 * h + lane < n) {
                const int64_t at = (row + p) * K + b + 32 * h + lane;
                a.z[at] = z[p][h];
                a.left[at] = (float)z[p][h];
            }
}

__global__ void add_kernel(Correct a)
{
    for (int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; at < a.N * a.K;
         at += (int64_t)gridDim.x * blockDim.x) {
        const int64_t k = at % a.K;
        float *w = &a.w[at - k + (a.perm ? a.perm[k] : k)];
        *w = (float)((double)*w + a.alpha * a.z[at]);
    }
}

size_t nb_cuda_correct_scratch(nb_backend *, const nb_correct_args *a)
{
    return nb_align256((size_t)a->K * sizeof(int32_t)) +
           (size_t)(a->N * a->K) * (sizeof(double) + sizeof(float));
}

/* Columns [b, b + n): what is solved taken out, then they are. */
template <bool kBack>
static nb_status solve(nb_backend *be, const Correct &k, int64_t b, int n, nb_error *err)
{
    nb_status st = NB_OK;
    if (kBack ? b + n < k.K : b > 0)
        st = nb_launch(be, "correct.solved", solved_kernel<kBack>,
                       dim3((unsigned)nb_ceil_div(k.N, kTile)), dim3(kSplitThreads), kThreeParts,
                       err, k, b, n);
    return st == NB_OK ? nb_launch(be, "correct.block", block_kernel<kBack>,
                                   dim3((unsigned)nb_ceil_div(k.N, kWarps * kPair)),
                                   dim3(32 * kWarps), 0, err, k, b, n)
                       : st;
}

nb_status nb_cuda_correct(nb_backend *be, const nb_correct_args *a, nb_error *err)
{
    const int64_t K = a->K, last = (K - 1) / kTile * kTile;
    int32_t *perm = (int32_t *)a->scratch;
    double *z = (double *)(void *)((char *)a->scratch + nb_align256((size_t)K * sizeof *perm));
    const Correct k = {a->w,
                       a->N,
                       K,
                       a->c,
                       a->wc,
                       a->r,
                       a->perm ? perm : NULL,
                       a->alpha,
                       z,
                       (float *)(void *)(z + a->N * K)};
    static const char shared[] = "shared memory for correct";
    nb_status st = nb_split_shared(be, multiply_kernel, shared, err);
    if (st == NB_OK)
        st = nb_split_shared(be, solved_kernel<true>, shared, err);
    if (st == NB_OK)
        st = nb_split_shared(be, solved_kernel<false>, shared, err);
    if (st == NB_OK && a->perm)
        st = be->op->upload(be, perm, a->perm, (size_t)K * sizeof *perm, err);
    if (st == NB_OK)
        st = a->wc ? nb_launch(be, "correct.take", take_kernel, nb_blocks(a->N * K), dim3(256), 0,
                               err, k)
                   : nb_launch(
                         be, "correct.multiply", multiply_kernel,
                         dim3((unsigned)nb_ceil_div(K, kTile), (unsigned)nb_ceil_div(a->N, kTile)),
                         dim3(kSplitThreads), kThreeParts, err, k);
    for (int64_t b = last; b >= 0 && st == NB_OK; b -= kTile)
        st = solve<true>(be, k, b, (int)(K - b < kTile ? K - b : kTile), err);
    for (int64_t b = 0; b < K && st == NB_OK; b += kTile)
        st = solve<false>(be, k, b, (int)(K - b < kTile ? K - b : kTile), err);
    return st == NB_OK
               ? nb_launch(be, "correct.add", add_kernel, nb_blocks(a->N * K), dim3(256), 0, err, k)
               : st;
}
