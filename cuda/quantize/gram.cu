/* gram.cu -- H += X^T X and C += (X_orig - X)^T X in f64.
 *
 * A block owns a tile of 32 x 32 of the result; thread (x, y) of 32 x 8 makes rows y, y + 8, y + 16, y + 24 of column x. Tokens come 32 at a time through
 * shared memory; products are summed in f32 over at most kTokens of them, then in f64 (backend.h). Tiles are disjoint: no atomics. */
#include "device.h"

constexpr int kTile = 32, kTokens = 128;

/* y is x, or x_orig - x when orig is given. */
__global__ void __launch_bounds__(256) gram_kernel(const float *x, int64_t ldx, const float *orig, int64_t ld_orig, int M, int K, double *out)
{
    SHARED(float, left, [kTile][kTile + 1]);
    SHARED(float, right, [kTile][kTile + 1]);
    const int tx = threadIdx.x & 31, ty = threadIdx.x >> 5, i0 = blockIdx.y * kTile, j0 = blockIdx.x * kTile;
    float part[4] = {};
    double sum[4] = {};
    for (int t0 = 0; t0 < M; t0 += kTile) {
        __syncthreads();
        for (int r = ty; r < kTile; r += 8) {
            const int t = t0 + r, i = i0 + tx, j = j0 + tx;
            float a = t < M && i < K ? x[t * ldx + i] : 0.0f;
            if (orig && t < M && i < K)
                a = orig[t * ld_orig + i] - a;
            left[r][tx] = a;
            right[r][tx] = t < M && j < K ? x[t * ldx + j] : 0.0f;
        }
        __syncthreads();
        for (int t = 0; t < kTile; t++) {
            const float b = right[t][tx];
#pragma unroll
            for (int r = 0; r < 4; r++)
                part[r] += left[t][ty + 8 * r] * b;
        }
        if ((t0 + kTile) % kTokens == 0 || t0 + kTile >= M)
#pragma unroll
            for (int r = 0; r < 4; r++) {
                sum[r] += (double)part[r];
                part[r] = 0.0f;
            }
    }
#pragma unroll
    for (int r = 0; r < 4; r++) {
        const int i = i0 + ty + 8 * r, j = j0 + tx;
        if (i < K && j < K)
            out[(int64_t)i * K + j] += sum[r];
    }
}

nb_status nb_cuda_gram_accumulate(nb_backend *be, const nb_gram_args *a, nb_error *err)
{
    const unsigned n = (unsigned)nb_ceil_div(a->K, kTile);
    nb_status st = nb_launch(be, "gram", gram_kernel, dim3(n, n), dim3(256), 0, err, a->x, a->ldx, (const float *)NULL, (int64_t)0, (int)a->M, (int)a->K, a->h);
    if (st == NB_OK && a->x_orig)
        st = nb_launch(be, "gram", gram_kernel, dim3(n, n), dim3(256), 0, err, a->x, a->ldx, a->x_orig, a->ld_orig, (int)a->M, (int)a->K, a->c);
    return st;
}
