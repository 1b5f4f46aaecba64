/* argmax.cu -- the lowest index of the greatest value of a row. A block a row: lanes, then warps,
 * compare (value, index); ties go to the lower index. A NaN or +Inf counts as +Inf at -1, which
 * nothing beats. */
#include "device.h"

#include <climits>

DEVI void better(float v, int i, float *best, int *at)
{
    if (v > *best || (v == *best && i < *at)) {
        *best = v;
        *at = i;
    }
}

__global__ void argmax_kernel(const float *x, int N, int64_t ldx, int32_t *out)
{
    SHARED(float, share_v, [32]);
    SHARED(int, share_i, [32]);
    const float *row = x + (int64_t)blockIdx.x * ldx;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    float best = -INFINITY;
    int at = INT_MAX;
    for (int n = threadIdx.x; n < N; n += blockDim.x)
        better(row[n] < INFINITY ? row[n] : INFINITY, row[n] < INFINITY ? n : -1, &best, &at);
#pragma unroll
    for (int o = 16; o; o >>= 1) {
        const float v = __shfl_xor_sync(0xffffffffu, best, o);
        const int i = __shfl_xor_sync(0xffffffffu, at, o);
        better(v, i, &best, &at);
    }
    if (lane == 0) {
        share_v[warp] = best;
        share_i[warp] = at;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int w = 1; w < (int)blockDim.x / 32; w++)
            better(share_v[w], share_i[w], &best, &at);
        out[blockIdx.x] = at;
    }
}

nb_status nb_cuda_argmax(nb_backend *be, const nb_argmax_args *a, nb_error *err)
{
    return nb_launch(be, "argmax", argmax_kernel, dim3((unsigned)a->M), dim3(256), 0, err, a->x,
                     (int)a->N, a->ldx, a->out);
}
