/* embed.cu -- y[m] = scale * W[ids[m]], straight from the packed layout. A block a token. */
#include "linear/weight.h"

template <class W> __global__ void embed_kernel(W w, const int32_t *ids, float *y, int64_t ldy, float scale)
{
    const int n = ids[blockIdx.x];
    for (int k = threadIdx.x; k < w.K; k += blockDim.x)
        y[(int64_t)blockIdx.x * ldy + k] = scale * nb_value(w, n, k);
}

nb_status nb_cuda_embed(nb_backend *be, const nb_embed_args *a, nb_error *err)
{
    const dim3 grid((unsigned)a->M), block(128);
    if (a->w->codes == NB_CUDA_U4)
        return nb_launch(be, "embed<u4>", embed_kernel<U4>, grid, block, 0, err, nb_u4_of(a->w), a->ids, a->y, a->ldy, a->scale);
    return nb_launch(be, "embed<bf16>", embed_kernel<Bf16>, grid, block, 0, err, nb_bf16_of(a->w), a->ids, a->y, a->ldy, a->scale);
}
