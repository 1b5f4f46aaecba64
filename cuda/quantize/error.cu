/* error.cu -- tr(D H D^T), D = W - Q: the product D H on the tensor cores, operands as f32 in three
 * bf16 with f64 sums (split_tile.h), each of its tiles times D's, f64.
 *
 * Every sum has its place: a lane's columns, its four lanes, the two warps of a row, then the tiles
 * of a row in order, and on the host the rows. Cost 6 N K^2 multiply-adds of bf16; scratch a double
 * a row and tile of 64 columns. */
#include "quantize/split_tile.h"

#include "base/memory.h"

#include <cstdlib>

struct Error {
    const float *w, *q; /* q NULL: D = w */
    int64_t N, K;
    const double *h;
    double *part, *row; /* [K / 64][N], [N] */
};

/* Of row n < N, columns k and k + 1; 0 beyond K. */
DEVI void difference(const Error &a, int64_t n, int64_t k, float (&v)[2])
{
    v[0] = v[1] = 0.0f;
    if (n >= a.N)
        return;
    nb_pair(a.w + n * a.K, k, a.K, v);
    if (a.q) {
        float q[2];
        nb_pair(a.q + n * a.K, k, a.K, q);
        v[0] -= q[0];
        v[1] -= q[1];
    }
}

__global__ void __launch_bounds__(kSplitThreads) tile_kernel(Error a)
{
    DYN_SHARED(Operand<3>, operands);
    SHARED(double, half, [2][kTile]); /* of the columns of the left and right warps */
    const int64_t i0 = (int64_t)blockIdx.y * kTile, j0 = (int64_t)blockIdx.x * kTile, K = a.K;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const SplitSum s = split_product<true>(
        operands, 0, K, [&](int i, int64_t k, float(&v)[2]) { difference(a, i0 + i, k, v); },
        [&](int64_t k, int j, float(&v)[2]) {
#pragma unroll
            for (int p = 0; p < 2; p++)
                v[p] = k < K && j0 + j + p < K ? (float)a.h[k * K + j0 + j + p] : 0.0f;
        });
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int e = 0; e < 2; e++) { /* rows of this lane: 32 (warp / 2) + 16 i + 8 e + lane / 4 */
            const int r = warp / 2 * 32 + 16 * i + 8 * e + lane / 4;
            double sum = 0.0;
#pragma unroll
            for (int j = 0; j < 4; j++) {
                float d[2];
                difference(a, i0 + r, j0 + warp % 2 * 32 + 8 * j + 2 * (lane & 3), d);
                sum += s.sum[i][j][2 * e] * (double)d[0] + s.sum[i][j][2 * e + 1] * (double)d[1];
            }
            sum += __shfl_xor_sync(0xffffffffu, sum, 1);
            sum += __shfl_xor_sync(0xffffffffu, sum, 2);
            if ((lane & 3) == 0)
                half[warp % 2][r] = sum;
        }
    __syncthreads();
    if (threadIdx.x < kTile && i0 + threadIdx.x < a.N)
        a.part[blockIdx.x * a.N + i0 + threadIdx.x] = half[0][threadIdx.x] + half[1][threadIdx.x];
}

__global__ void row_kernel(Error a, int n_tile)
{
    const int64_t n = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= a.N)
        return;
    double sum = 0.0;
    for (int t = 0; t < n_tile; t++)
        sum += a.part[t * a.N + n];
    a.row[n] = sum;
}

size_t nb_cuda_quant_error_scratch(nb_backend *, const nb_quant_error_args *a)
{
    return (size_t)(a->N * (nb_ceil_div(a->K, kTile) + 1)) * sizeof(double);
}

nb_status nb_cuda_quant_error(nb_backend *be, const nb_quant_error_args *a, nb_error *err)
{
    const int n_tile = (int)nb_ceil_div(a->K, kTile);
    double *row = (double *)nb_alloc((size_t)a->N, sizeof *row, "errors of rows", err),
           *part = (double *)a->scratch;
    const Error k = {a->w, a->q, a->N, a->K, a->h, part, part + a->N * n_tile};
    nb_status st =
        row ? nb_split_shared(be, tile_kernel, "shared memory for quant_error", err) : NB_NO_ROOM;
    if (st == NB_OK)
        st = nb_launch(be, "quant_error", tile_kernel,
                       dim3((unsigned)n_tile, (unsigned)nb_ceil_div(a->N, kTile)),
                       dim3(kSplitThreads), kThreeParts, err, k);
    if (st == NB_OK)
        st = nb_launch(be, "quant_error.rows", row_kernel, dim3((unsigned)nb_ceil_div(a->N, 128)),
                       dim3(128), 0, err, k, n_tile);
    if (st == NB_OK)
        st = be->op->download(be, row, k.row, (size_t)a->N * sizeof *row, err);
    *a->out = 0.0;
    for (int64_t n = 0; n < a->N && st == NB_OK; n++)
        *a->out += row[n];
    free(row);
    return st;
}
