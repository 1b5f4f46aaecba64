/* rms_norm.cu -- y = x / sqrt(mean(x^2) + eps) * weight, f32. A block a row, or a part of it
 * (heads); the squares meet in a fixed tree. */
#include "device.h"
#include "reduce.h"

__global__ void rms_norm_kernel(const float *x, int64_t ldx, const float *weight, float eps, int K,
                                int n_part, float *y, int64_t ldy)
{
    SHARED(float, part, [32]);
    const int64_t m = blockIdx.x / (unsigned)n_part,
                  at = (int64_t)(blockIdx.x % (unsigned)n_part) * K;
    const float *in = x + m * ldx + at;
    float *out = y + m * ldy + at;
    float sum = 0.0f;
    for (int k = threadIdx.x; k < K; k += blockDim.x)
        sum += in[k] * in[k];
    sum = nb_block_sum(sum, part);
    const float r = 1.0f / sqrtf(sum / (float)K + eps);
    for (int k = threadIdx.x; k < K; k += blockDim.x)
        out[k] = in[k] * r * weight[k];
}

nb_status nb_cuda_rms_norm(nb_backend *be, const nb_rms_norm_args *a, nb_error *err)
{
    const int n_part = a->n_part ? a->n_part : 1;
    return nb_launch(be, "rms_norm", rms_norm_kernel, dim3((unsigned)(a->M * n_part)), dim3(128), 0,
                     err, a->x, a->ldx, a->weight, a->eps, (int)a->K, n_part, a->y, a->ldy);
}
