/* rms_norm.cu -- y = x / sqrt(mean(x^2) + eps) * weight, f32. A block a row, or a part of it
 * (heads); the squares meet in the order of norm.h. */
#include "device.h"
#include "norm/norm.h"

__global__ void rms_norm_kernel(const float *x, int64_t ldx, const float *weight, float eps, int K,
                                int n_part, float *y, int64_t ldy)
{
    SHARED(float, part, [kNormParts]);
    const int64_t m = blockIdx.x / (unsigned)n_part,
                  at = (int64_t)(blockIdx.x % (unsigned)n_part) * K;
    const float *in = x + m * ldx + at;
    float *out = y + m * ldy + at;
    nb_norm_parts<1>(in, 0, 1, K, threadIdx.x >> 5, blockDim.x >> 5, part);
    __syncthreads();
    const float r = nb_norm_factor(part, K, eps);
    for (int k = threadIdx.x; k < K; k += blockDim.x)
        out[k] = in[k] * r * weight[k];
}

nb_status nb_cuda_rms_norm(nb_backend *be, const nb_rms_norm_args *a, nb_error *err)
{
    const int n_part = a->n_part ? a->n_part : 1;
    const int64_t warps = nb_ceil_div(a->K, kNormStep); /* that have something to do */
    return nb_launch(be, "rms_norm", rms_norm_kernel, dim3((unsigned)(a->M * n_part)),
                     dim3(32 * (unsigned)(warps < kNormParts ? warps : kNormParts)), 0, err, a->x,
                     a->ldx, a->weight, a->eps, (int)a->K, n_part, a->y, a->ldy);
}
