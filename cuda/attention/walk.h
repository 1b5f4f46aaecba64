/* walk.h -- the tokens of a block of prefill, sequence by sequence: tokens of several in one block are
 * one walk over the cache for each of them, in which the rows of the others see nothing. */
#ifndef NB_CUDA_ATTENTION_WALK_H
#define NB_CUDA_ATTENTION_WALK_H

#include "attention/attention.h"

/* The rows of a block that one walk serves, the same in every lane. */
struct Walk {
    int seq;
    int lo, hi;           /* positions that some row sees */
    int all_from, all_to; /* those that every row of the block sees; empty when a row is of
                           * another sequence */
};

DEVI int warp_min(int v)
{
#pragma unroll
    for (int o = 16; o; o >>= 1) {
        const int w = __shfl_xor_sync(0xffffffffu, v, o);
        v = w < v ? w : v;
    }
    return v;
}
DEVI int warp_max(int v)
{
    return -warp_min(-v);
}

constexpr int kNone = 0x7fffffff;

/* The next sequence above `last` among kRows rows from m0 on; seq kNone: there is none. */
template <int kRows> DEVI Walk next_walk(const Attention &a, int m0, int last)
{
    constexpr int kEach = kRows / 32; /* rows of a lane */
    const int lane = threadIdx.x & 31;
    int seq[kEach], pos[kEach], next = kNone;
#pragma unroll
    for (int i = 0; i < kEach; i++) {
        const int m = m0 + lane + 32 * i;
        seq[i] = m < a.n_token ? a.seq[m] : kNone;
        pos[i] = m < a.n_token ? a.pos[m] : 0;
        next = seq[i] > last && seq[i] < next ? seq[i] : next;
    }
    Walk w = {warp_min(next), kNone, -1, -1, kNone};
    if (w.seq == kNone)
        return w;
    bool whole = true;
#pragma unroll
    for (int i = 0; i < kEach; i++) {
        if (seq[i] == w.seq) {
            const int first = nb_first_seen(a, pos[i]);
            w.lo = first < w.lo ? first : w.lo;
            w.hi = pos[i] > w.hi ? pos[i] : w.hi;
            w.all_from = first > w.all_from ? first : w.all_from;
            w.all_to = pos[i] < w.all_to ? pos[i] : w.all_to;
        }
        /* rows behind the last token store nothing */
        whole = whole && (seq[i] == w.seq || seq[i] == kNone);
    }
    w.lo = warp_min(w.lo);
    w.hi = warp_max(w.hi);
    w.all_from = warp_max(w.all_from);
    w.all_to = warp_min(w.all_to);
    if (!__all_sync(0xffffffffu, whole))
        w.all_to = -1;
    return w;
}

#endif
