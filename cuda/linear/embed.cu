/* embed.cu -- y[m] = scale * W[ids[m]], straight from the packed layout. A block a token. */
#include "linear/lines.h"

template <class C>
__global__ void embed_kernel(Packed w, const int32_t *ids, float *y, int64_t ldy, float scale)
{
    const int n = ids[blockIdx.x];
    for (int k = threadIdx.x; k < w.K; k += blockDim.x)
        y[(int64_t)blockIdx.x * ldy + k] = scale * nb_value<C>(w, n, k);
}

nb_status nb_cuda_embed(nb_backend *be, const nb_embed_args *a, nb_error *err)
{
    return nb_with_codec(a->w->codes, [&](auto codec) {
        return nb_launch(be, "embed", embed_kernel<decltype(codec)>, dim3((unsigned)a->M),
                         dim3(128), 0, err, a->w->packed, a->ids, a->y, a->ldy, a->scale);
    });
}
