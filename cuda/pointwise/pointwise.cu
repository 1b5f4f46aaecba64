/* pointwise.cu -- the ops that look at one element at a time: gated activation and the soft cap of
 * the logits. */
#include "device.h"
#include "pointwise/gated.h"

__global__ void gated_kernel(const float *gate, const float *up, int64_t M, int64_t N, int64_t ld,
                             int64_t ldo, int gelu, float *out)
{
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < M * N;
         i += (int64_t)gridDim.x * blockDim.x) {
        const int64_t m = i / N, n = i % N;
        out[m * ldo + n] = nb_gated(gelu, gate[m * ld + n], up[m * ld + n]);
    }
}

__global__ void soft_cap_kernel(float *x, int64_t n, float cap)
{
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n;
         i += (int64_t)gridDim.x * blockDim.x)
        x[i] = cap * tanhf(x[i] / cap);
}

nb_status nb_cuda_gated_activation(nb_backend *be, const nb_gated_args *a, nb_error *err)
{
    return nb_launch(be, "gated_activation", gated_kernel, nb_blocks(a->M * a->N), dim3(256), 0,
                     err, a->gate, a->up, a->M, a->N, a->ld, a->ldo, a->act == NB_ACT_GELU_TANH,
                     a->out);
}

nb_status nb_cuda_logits_soft_cap(nb_backend *be, const nb_soft_cap_args *a, nb_error *err)
{
    return nb_launch(be, "logits_soft_cap", soft_cap_kernel, nb_blocks(a->n), dim3(256), 0, err,
                     a->x, a->n, a->cap);
}
