/* limit_rows.cu -- rows longer than `limit` times the median row are scaled down to that length
 * (backend.h).
 *
 * Three launches: the squared length of a row (a block each), the one of rank M / 2 (a thread a row
 * counts the rows before it; equal ones by their places, so no two have one rank), the rows. M K is
 * read twice, M^2 lengths from the second cache; M is a sequence, some 2048. */
#include "device.h"
#include "reduce.h"

__global__ void square_kernel(const float *x, int64_t M, int64_t K, double *square)
{
    SHARED(double, part, [32]);
    const int64_t m = blockIdx.x;
    double sum = 0.0;
    for (int64_t k = threadIdx.x; k < K; k += blockDim.x)
        sum += (double)x[m * K + k] * (double)x[m * K + k];
    sum = nb_block_sum(sum, part);
    if (threadIdx.x == 0) {
        square[m] = sum;
        if (m == 0)
            square[M] = INFINITY; /* where NaN leave no row of that rank nothing is limited */
    }
}

__global__ void median_kernel(int64_t M, double *square)
{
    const int64_t m = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    const double own = m < M ? square[m] : NAN; /* none of it has a rank */
    if (own != own)
        return;
    int64_t rank = 0;
    for (int64_t i = 0; i < M; i++)
        rank += square[i] < own || (i < m && square[i] <= own);
    if (rank == M / 2)
        square[M] = own;
}

__global__ void limit_kernel(const float *x, const float *x_orig, int64_t M, int64_t K, float limit,
                             const double *square, float *y, float *y_orig)
{
    const int64_t m = blockIdx.x;
    const double most = (double)limit * (double)limit * square[M], own = square[m];
    const float w = own > most ? (float)sqrt(most / own) : 1.0f;
    for (int64_t k = m * K + threadIdx.x; k < (m + 1) * K; k += blockDim.x) {
        y[k] = w * x[k];
        if (x_orig)
            y_orig[k] = w * x_orig[k];
    }
}

nb_status nb_cuda_limit_rows(nb_backend *be, const nb_limit_rows_args *a, nb_error *err)
{
    const dim3 rows((unsigned)a->M), threads(256);
    nb_status st = nb_launch(be, "limit_rows", square_kernel, rows, threads, 0, err, a->x, a->M,
                             a->K, a->scratch);
    if (st == NB_OK)
        st = nb_launch(be, "limit_rows", median_kernel, dim3((unsigned)nb_ceil_div(a->M, 256)),
                       threads, 0, err, a->M, a->scratch);
    if (st == NB_OK)
        st = nb_launch(be, "limit_rows", limit_kernel, rows, threads, 0, err, a->x, a->x_orig, a->M,
                       a->K, a->limit, a->scratch, a->y, a->y_orig);
    return st;
}
