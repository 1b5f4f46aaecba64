/* activations.cu -- x of a call into the order of linear.h, gathered as the weight's positions want
 * it; and the counters of the call set to zero.
 *
 * 4 M K bytes read, 2 M K written; the weight's kernel then reads x from L2. */
#include "linear/activations.h"

constexpr int kWarps = 4;

template <bool Swizzled>
__global__ void __launch_bounds__(32 * kWarps) activations_kernel(Packed w, Io io, Scratch s)
{
    const int64_t job = (int64_t)blockIdx.x * kWarps + (threadIdx.x >> 5);
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < s.n_count;
         i += (int64_t)gridDim.x * blockDim.x)
        s.count[i] = 0;
    const int unit = (int)(job / s.n_oct), oct = (int)(job % s.n_oct);
    if (unit >= w.n_unit)
        return;
    nb_bring<Swizzled>(w, s, unit, oct,
                       [&](int token, int position) { return nb_input(w, io, token, position); });
}

nb_status nb_cuda_activations(nb_backend *be, const nb_weight *w, const Io &io, const Scratch &s,
                              bool swizzled, nb_error *err)
{
    const int64_t jobs = (int64_t)w->packed.n_unit * s.n_oct;
    return nb_launch(
        be, "activations", swizzled ? activations_kernel<true> : activations_kernel<false>,
        dim3((unsigned)nb_ceil_div(jobs, kWarps)), dim3(32 * kWarps), 0, err, w->packed, io, s);
}
