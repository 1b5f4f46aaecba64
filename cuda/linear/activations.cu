/* activations.cu -- x of a call into the order of linear.h, through what the call says, gathered as
 * the weight's positions want it; and the counters of the call set to zero.
 *
 * A block has 8 tokens and some of the units; where x is normed each block sums the squares of its
 * tokens itself, so there are no more blocks a token then than fill the device.
 *
 * 4 M K bytes read (8 M K gated; normed 4 M K a block of the token, from L2), 2 M K written; the
 * weight's kernel then reads x from L2. */
#include "linear/activations.h"

/* Of a block. Where it sums 8 tokens' squares it reads 128 KB of rows of 4096, and what its warps have
 * on their way at once decides: 16 with 8 loads of 512 bytes each, 64 KB. */
constexpr int kWarps = 4, kNormWarps = 16;

template <bool Swizzled>
__global__ void __launch_bounds__(32 * kNormWarps) activations_kernel(Packed w, Io io, Scratch s)
{
    SHARED(float, part, [8 * kNormParts]);
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n_warp = blockDim.x >> 5,
              oct = (int)blockIdx.x;
    const int64_t block = (int64_t)blockIdx.y * gridDim.x + blockIdx.x;
    for (int64_t i = block * blockDim.x + threadIdx.x; i < s.n_count;
         i += (int64_t)gridDim.x * gridDim.y * blockDim.x)
        s.count[i] = 0;
    const bool whole = nb_whole_inputs(w, io);
    float r = 1.0f; /* of the token that this lane brings */
    if (io.through.norm) {
        const int tokens = io.M - 8 * oct < 8 ? io.M - 8 * oct : 8;
        nb_norm_parts<2>(io.x + 8 * oct * io.ldx, io.ldx, tokens, w.K, warp, n_warp, part);
        __syncthreads();
        if (lane >> 2 < tokens)
            r = nb_norm_factor(part + (lane >> 2) * kNormParts, w.K, io.through.eps);
    }
    for (int unit = (int)blockIdx.y * n_warp + warp; unit < w.n_unit;
         unit += (int)gridDim.y * n_warp)
        nb_bring<Swizzled>(w, s, unit, oct, [&](int token, int position, auto &v) {
            nb_inputs(w, io, whole, token, position, r, v);
        });
}

nb_status nb_cuda_activations(nb_backend *be, const nb_weight *w, const Io &io, const Scratch &s,
                              bool swizzled, nb_error *err)
{
    const int n_warp = io.through.norm ? kNormWarps : kWarps;
    const int64_t most = nb_ceil_div(w->packed.n_unit, n_warp),
                  fill = nb_ceil_div(nb_cuda_of(be)->n_sm, s.n_oct),
                  blocks = io.through.norm && fill < most ? fill : most;
    return nb_launch(
        be, "activations", swizzled ? activations_kernel<true> : activations_kernel<false>,
        dim3((unsigned)s.n_oct, (unsigned)blocks), dim3(32 * n_warp), 0, err, w->packed, io, s);
}
