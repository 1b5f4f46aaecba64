/* scale_error.cu -- what rounding costs where inputs are scaled (backend.h, scale_error): a warp a
 * row, its groups one after another, each read twice (for its range, and to be rounded; the second
 * time out of L1). Nothing is written but a sum a row, f64: a lane's inputs in order, then the
 * lanes. */
#include "quantize/grid.h"

template <bool kTable>
__global__ void scale_error_kernel(const float *w, const float *scale, const double *cost,
                                   int64_t M, int64_t K, Grid grid, double *error)
{
    const int lane = threadIdx.x & 31, n_warp = blockDim.x >> 5;
    for (int64_t m = (int64_t)blockIdx.x * n_warp + (threadIdx.x >> 5); m < M;
         m += (int64_t)gridDim.x * n_warp) {
        const float *row = w + m * K;
        double sum = 0.0;
        for (int64_t from = 0; from < K; from += grid.group) {
            const int64_t to = from + grid.group < K ? from + grid.group : K;
            const nb_group p = params_of<kTable>(
                grid, range_of(from, to, [&](int64_t k) { return mul_rn(row[k], scale[k]); }));
            for (int64_t k = from + lane; k < to; k += 32) {
                const int code = round_to<kTable>(grid, p, mul_rn(row[k], scale[k]));
                const double d = (double)(value_of<kTable>(grid, p, code) / scale[k] - row[k]);
                sum += cost[k] * d * d;
            }
        }
#pragma unroll
        for (int o = 16; o; o >>= 1)
            sum += __shfl_xor_sync(0xffffffffu, sum, o);
        if (lane == 0)
            error[m] = sum;
    }
}

size_t nb_cuda_scale_error_scratch(nb_backend *, const nb_scale_error_args *)
{
    return 0;
}

nb_status nb_cuda_scale_error(nb_backend *be, const nb_scale_error_args *a, nb_error *err)
{
    Grid grid;
    const nb_status st = nb_cuda_grid(be, a->grid, a->K, &grid, err);
    return st != NB_OK
               ? st
               : nb_launch(be, "scale_error",
                           grid.table ? scale_error_kernel<true> : scale_error_kernel<false>,
                           nb_blocks(32 * a->M), dim3(256), 0, err, a->w, a->scale, a->cost, a->M,
                           a->K, grid, a->error);
}
