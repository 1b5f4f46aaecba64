/* reduce.h -- sums over a warp and a block in a fixed order: the same bits on every run. */
#ifndef NB_CUDA_REDUCE_H
#define NB_CUDA_REDUCE_H

#include "gpu.h"

template <class T> DEVI T nb_warp_sum(T v)
{
#pragma unroll
    for (int o = 16; o; o >>= 1)
        v += __shfl_xor_sync(0xffffffffu, v, o);
    return v; /* in every lane */
}

/* part: shared, one T a warp. All threads of the block call it; the sum comes back to all. A second
 * call needs a barrier before it. */
template <class T> DEVI T nb_block_sum(T v, T *part)
{
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n = blockDim.x >> 5;
    v = nb_warp_sum(v);
    if (lane == 0)
        part[warp] = v;
    __syncthreads();
    return nb_warp_sum(lane < n ? part[lane] : (T)0);
}

#endif
