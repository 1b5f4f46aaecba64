/* activations.cu -- x into the order of linear.h: gathered, rounded to bf16, summed; and the counters of the call set to zero. A warp 8 tokens of a
 * unit.
 *
 * 4 M K bytes read, 2 M K written; the weight's kernel then reads x from L2. */
#include "linear/linear.h"

constexpr int kWarps = 4;

DEVI float input(const Packed &w, const Io &io, int token, int position)
{
    const int k = w.src ? w.src[position] : position;
    return token < io.M && k >= 0 && k < w.K ? io.x[token * io.ldx + k] : 0.0f;
}

__global__ void __launch_bounds__(32 * kWarps) activations_kernel(Packed w, Io io, Scratch s)
{
    const int lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
    const int64_t job = (int64_t)blockIdx.x * kWarps + (threadIdx.x >> 5);
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < s.n_count; i += (int64_t)gridDim.x * blockDim.x)
        s.count[i] = 0;
    const int unit = (int)(job / s.n_oct), oct = (int)(job % s.n_oct);
    if (unit >= w.n_unit)
        return;
    float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f}; /* of a step */
#pragma unroll
    for (int half = 0; half < 2; half++) {
        uint32_t r[4];
#pragma unroll
        for (int i = 0; i < 4; i++) { /* step 2 half + i / 2, its register i % 2 */
            const int p = unit * kUnit + 32 * half + 16 * (i >> 1) + 8 * (i & 1) + 2 * t;
            r[i] = bf2_pack(input(w, io, 8 * oct + g, p), input(w, io, 8 * oct + g, p + 1));
            sum[2 * half + (i >> 1)] += bf2_lo(r[i]) + bf2_hi(r[i]);
        }
        st_v4(s.x + (job * 2 + half) * 512 + lane * 16, uint4{r[0], r[1], r[2], r[3]});
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int o = 1; o < 4; o <<= 1)
            sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], o);
    if (t == 0) { /* a line's steps in one */
        const int n = nb_lines_a_unit(w);
        const int64_t row = 8 * s.n_oct;
        float *to = s.sum + (int64_t)unit * n * row + 8 * oct + g;
        const float first = sum[0] + sum[1], second = sum[2] + sum[3];
        to[0] = n == 4 ? sum[0] : n == 2 ? first : first + second;
        if (n > 1)
            to[row] = n == 4 ? sum[1] : second;
        if (n == 4) {
            to[2 * row] = sum[2];
            to[3 * row] = sum[3];
        }
    }
}

nb_status nb_cuda_activations(nb_backend *be, const nb_weight *w, const Io &io, const Scratch &s, nb_error *err)
{
    const int64_t jobs = (int64_t)w->packed.n_unit * s.n_oct;
    return nb_launch(be, "activations", activations_kernel, dim3((unsigned)nb_ceil_div(jobs, kWarps)), dim3(32 * kWarps), 0, err, w->packed, io, s);
}
