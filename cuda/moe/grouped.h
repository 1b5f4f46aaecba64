/* grouped.h -- y[p] = x[p / share] W[expert[p]]^T: the pairs of an expert are the tokens of a
 * linear over its packed weight (linear/weight.h), all of them in tensor cores, and the host never
 * learns who chose whom.
 *
 *   order     pairs by expert, those of one in their order, in tiles of kTokens slots: pair[slot],
 *             -1 where an expert's last tile is not full; item[tile] its expert; n_item how many
 *             tiles there are
 *   bring     x of each slot into the order of linear.h
 *   multiply  a block a tile of 256 outputs and a tile of slots; blocks beyond n_item end at once.
 *             The grid has room for every choice: P / kTokens + min(P, experts) tiles
 *
 * Each weight's words are on the device beside it (nb_weight.self); a launch takes the pointers of
 * up to kTable experts as its parameter. Experts of other layouts than the first's get launches of
 * their own.
 *
 * Bytes: the weights of the chosen experts once for each tile of slots, from memory the first time.
 * Of all K a block makes the sum, so none is left to add up, and bits depend on the shape alone. */
#ifndef NB_CUDA_MOE_GROUPED_H
#define NB_CUDA_MOE_GROUPED_H

#include "linear/tile.h"

constexpr int kTable = 256; /* experts of a launch */

struct Experts {
    const Packed *w[kTable]; /* NULL: not of this launch */
    int first, n;            /* the experts they are */
};

struct Grouped {
    const float *x;
    const int32_t *expert;
    float *y;
    int64_t P, ldx, ldy;
    int share, n_expert;
    int32_t *pair, *item, *n_item; /* in scratch */
};

/* The expert's words, or NULL when the tile is none of this launch. */
DEVI const Packed *nb_expert_of(const Experts &t, const Grouped &a, int item)
{
    if (item >= *a.n_item)
        return NULL;
    const int e = a.item[item] - t.first;
    return e >= 0 && e < t.n ? t.w[e] : NULL;
}

template <class T>
__global__ void __launch_bounds__(kThreads, T::Oct == 1 ? 2 : 1)
    grouped_kernel(Experts experts, Grouped a, Scratch s)
{
    constexpr int Oct = T::Oct, Rows = T::Rows;
    DYN_SHARED(uint8_t, ring);
    const int item = (int)blockIdx.y;
    const Packed *its = nb_expert_of(experts, a, item);
    if (!its)
        return;
    const Packed w = *its;
    const int row_tiles = (w.n_panel + T::kPanels - 1) / T::kPanels;
    int full = 0;
    float acc[2][Oct][4] = {};
    float line_sums[2][Oct][4] = {};
    const int in_line = nb_line_mask(w);
    Ring stages;
    ring_open<T>(w, s, ring, item * row_tiles + (int)blockIdx.x, 0, w.n_unit, stages);
    for (int in = 0; in < w.n_unit; in++) {
        cp_async_wait<T::kStages - 2>();
        /* everyone's copies are there; and the stage that is filled next has been read by all */
        __syncthreads();
        fetch_next<T>(w, s, stages);
        multiply<T>(w, ring + full * stages.bytes, !((in + 1) & in_line) || in + 1 == w.n_unit, acc,
                    line_sums);
        full = full + 1 == T::kStages ? 0 : full + 1;
    }
    cp_async_wait<0>();
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
#pragma unroll
    for (int o = 0; o < Oct; o++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int p =
                a.pair[item * T::kTokens + (warp / Rows * Oct + o) * 8 + (lane & 3) * 2 + (e & 1)];
#pragma unroll
            for (int block = 0; block < 2; block++) {
                const int n = (int)blockIdx.x * T::kPanels * kPanel + warp % Rows * 32 +
                              block * 16 + (lane >> 2) + 8 * (e >> 1);
                if (p >= 0 && n < w.N)
                    a.y[p * a.ldy + n] = w.gain * acc[block][o][e];
            }
        }
}

/* Launches it over the experts of a table, all of one codec and number of lines a unit. most: the
 * words of one of them with the longest lines. */
template <int Oct>
static nb_status grouped_run(nb_backend *be, const nb_weight *most, const Experts &t,
                             const Grouped &a, const Scratch &s, int n_item, nb_error *err)
{
    return nb_with_lines(most, [&](auto codec, auto lines) {
        using T = Tile<decltype(codec), Oct, 8, decltype(lines)::n>;
        const dim3 grid((unsigned)nb_ceil_div(most->packed.n_panel, T::kPanels), (unsigned)n_item);
        const size_t smem = (size_t)T::kStages * (size_t)T::bytes(most->packed);
        return nb_launch_large(be, "grouped_linear", grouped_kernel<T>, grid, dim3(kThreads), smem,
                               err, t, a, s);
    });
}

/* 8 and 32 slots a tile. */
nb_status nb_grouped_8(nb_backend *be, const nb_weight *most, const Experts &t, const Grouped &a,
                       const Scratch &s, int n_item, nb_error *err);
nb_status nb_grouped_32(nb_backend *be, const nb_weight *most, const Experts &t, const Grouped &a,
                        const Scratch &s, int n_item, nb_error *err);

#endif
