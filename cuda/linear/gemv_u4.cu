/* gemv_u4.cu -- y[m][n] = sum_k W[n][k] x[m][k] for 1 to 8 tokens over U4 (weight.h): decode.
 *
 * One warp owns output n; lane l takes the units l, l + 32, ... of its row: 16 bytes of codes, one scale, and 32 inputs of every token.
 *
 *   sum over a unit:  s * sum c x  +  base * sum x          s and base once a unit, c x in f32
 *
 * K/2 + 2 K/32 bytes a row for 2 M K FLOP: memory decides for small M. The lanes' sums meet in a fixed tree. */
#include "linear/linear.h"

#include "reduce.h"

constexpr int kWarps = 4; /* outputs a block: 128 threads */

template <int M> __global__ void __launch_bounds__(128) gemv_u4_kernel(U4 w, Io io)
{
    const int lane = threadIdx.x & 31, n = blockIdx.x * kWarps + (threadIdx.x >> 5);
    if (n >= w.N)
        return;
    const int units = w.K / kUnit;
    float acc[M];
#pragma unroll
    for (int m = 0; m < M; m++)
        acc[m] = 0.0f;
    for (int u = lane; u < units; u += 32) {
        const int64_t unit = (int64_t)n * units + u;
        const uint4 packed = ld_stream_v4(w.codes + unit * 16);
        const uint32_t word[4] = {packed.x, packed.y, packed.z, packed.w};
        float s, base;
        nb_u4_pair(w, unit, &s, &base);
#pragma unroll
        for (int m = 0; m < M; m++) {
            if (m >= io.M)
                break;
            const float *x = io.x + m * io.ldx + u * kUnit;
            float dot = 0.0f, sum = 0.0f;
#pragma unroll
            for (int i = 0; i < 4; i++) { /* bytes 4i .. 4i+3: k = 4i + b low, 16 + 4i + b high */
                const uint4 lo = ld_v4(x + 4 * i), hi = ld_v4(x + 16 + 4 * i);
                const uint32_t a[4] = {lo.x, lo.y, lo.z, lo.w}, b[4] = {hi.x, hi.y, hi.z, hi.w};
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    const float p = __uint_as_float(a[j]), q = __uint_as_float(b[j]);
                    dot += p * (float)(word[i] >> (8 * j) & 15) + q * (float)(word[i] >> (8 * j + 4) & 15);
                    sum += p + q;
                }
            }
            acc[m] += s * dot + base * sum;
        }
    }
#pragma unroll
    for (int m = 0; m < M; m++) {
        if (m >= io.M)
            break;
        const float v = nb_warp_sum(acc[m]);
        if (lane == 0)
            nb_store(io, m, n, v);
    }
}

nb_status nb_cuda_gemv_u4(nb_backend *be, const nb_weight *w, const Io &io, nb_error *err)
{
    const dim3 grid((unsigned)nb_ceil_div(w->N, kWarps)), block(32 * kWarps);
    void (*const kernel)(U4, Io) = io.M == 1 ? gemv_u4_kernel<1> : io.M == 2 ? gemv_u4_kernel<2> : io.M <= 4 ? gemv_u4_kernel<4> : gemv_u4_kernel<8>;
    return nb_launch(be, "gemv_u4", kernel, grid, block, 0, err, nb_u4_of(w), io);
}
