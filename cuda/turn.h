/* turn.h -- sums that several blocks share: each leaves its part in memory and counts itself, and the
 * last to come adds the parts in the order of the blocks, so that the bits do not depend on who that
 * is.
 *
 * A counter is 0 before a launch, and the last to come sets it back to 0: all n have counted
 * themselves by then, so none of this launch touches it again, and the next kernel of the stream
 * begins when this one has ended, whether it is enqueued or replayed. The device's own counters
 * (nb_cuda.turn) are zeroed once, when it is opened; those of a call's scratch by a kernel before. */
#ifndef NB_CUDA_TURN_H
#define NB_CUDA_TURN_H

#include "gpu.h"

/* nb_cuda.turn: two blocks a multiprocessor, and some */
constexpr int kTurns = 1024;

/* All threads of a block, or its first Threads, after they wrote their part: true in all of them
 * when `n` blocks have come. flag: shared. */
template <int Threads = 0> DEVI bool nb_last_to_come(unsigned *count, int n, unsigned *flag)
{
    constexpr int kBarrier = 1; /* 0 is __syncthreads' */
    __threadfence();
    if constexpr (Threads != 0)
        named_barrier_sync(kBarrier, Threads);
    else
        __syncthreads();
    if (threadIdx.x == 0) {
        *flag = atomicAdd(count, 1u) == (unsigned)n - 1;
        if (*flag)
            atomicExch(count, 0u);
    }
    if constexpr (Threads != 0)
        named_barrier_sync(kBarrier, Threads);
    else
        __syncthreads();
    const bool last = *flag != 0;
    if (last)
        __threadfence();
    return last;
}

#endif
