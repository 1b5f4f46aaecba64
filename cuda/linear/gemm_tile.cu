/* gemm_tile.cu -- y = x W^T over every layout and any M: the generic row.
 *
 * A block makes 16 tokens x 64 outputs, 32 of K a step:
 *
 *   shared  A [16][40] bf16   x rounded            B [64][40] bf16   W decoded and rounded
 *           rows of 80 bytes: 8 rows of ldmatrix fall into 8 different groups of banks (80 = 5 x 16, 5 odd)
 *   warp w  outputs 16 w .. 16 w + 15: two m16n8k16 tiles, two steps of 16 in K
 *
 * Operands bf16, sums f32 in the tensor core's order. No pipeline: simple and right; the fast rows come before it in the table. */
#include "linear/linear.h"

constexpr int kTileM = 16, kTileN = 64, kTileK = 32;
constexpr int kRow = kTileK + 8; /* bf16 a shared row */
static_assert(kTileK == kUnit, "a step of K is one unit, so it has one scale");

/* Thread t fills row t / 2, half t % 2 (16 inputs) of B. */
DEVI void load_w(const U4 &w, int n, int k0, int half, uint32_t *out)
{
    const int64_t unit = ((int64_t)n * w.K + k0) / kUnit;
    float s = 0.0f, base = 0.0f;
    uint32_t word[4] = {0, 0, 0, 0};
    if (n < w.N) {
        const uint4 p = ld_stream_v4(w.codes + unit * 16);
        word[0] = p.x;
        word[1] = p.y;
        word[2] = p.z;
        word[3] = p.w;
        nb_u4_pair(w, unit, &s, &base);
    }
#pragma unroll
    for (int j = 0; j < 8; j++) {
        const uint32_t v = word[j / 2] >> (16 * (j % 2) + 4 * half);
        out[j] = bf2_pack(s * (float)(v & 15) + base, s * (float)(v >> 8 & 15) + base);
    }
}
DEVI void load_w(const Bf16 &w, int n, int k0, int half, uint32_t *out)
{
    const int k = k0 + 16 * half;
    const uint16_t *row = w.v + (int64_t)n * w.K;
#pragma unroll
    for (int j = 0; j < 8; j++) {
        const int at = k + 2 * j;
        const uint32_t lo = n < w.N && at < w.K ? row[at] : 0, hi = n < w.N && at + 1 < w.K ? row[at + 1] : 0;
        out[j] = lo | hi << 16;
    }
}

template <class W> __global__ void __launch_bounds__(128) gemm_tile_kernel(W w, Io io)
{
    SHARED_ALIGN(16, uint32_t, a, [kTileM * kRow / 2]);
    SHARED_ALIGN(16, uint32_t, b, [kTileN * kRow / 2]);
    const int t = threadIdx.x, lane = t & 31, warp = t >> 5, m0 = blockIdx.y * kTileM, n0 = blockIdx.x * kTileN;
    float acc[2][4] = {};
    for (int k0 = 0; k0 < w.K; k0 += kTileK) {
        { /* load x: row t / 8, four inputs */
            const int m = m0 + t / 8, k = k0 + t % 8 * 4;
            const float *x = io.x + m * io.ldx + k;
            float v[4];
#pragma unroll
            for (int i = 0; i < 4; i++)
                v[i] = m < io.M && k + i < w.K ? x[i] : 0.0f;
            a[t / 8 * kRow / 2 + t % 8 * 2] = bf2_pack(v[0], v[1]);
            a[t / 8 * kRow / 2 + t % 8 * 2 + 1] = bf2_pack(v[2], v[3]);
        }
        {
            uint32_t v[8];
            load_w(w, n0 + t / 2, k0, t % 2, v);
#pragma unroll
            for (int j = 0; j < 8; j++)
                b[t / 2 * kRow / 2 + t % 2 * 8 + j] = v[j];
        }
        __syncthreads();
#pragma unroll
        for (int ks = 0; ks < kTileK; ks += 16) {
            uint32_t fa[4];
            ldmatrix_x4(fa, &a[(lane & 15) * kRow / 2 + (ks + (lane >> 4) * 8) / 2]);
#pragma unroll
            for (int j = 0; j < 2; j++) {
                uint32_t fb[2];
                ldmatrix_x2(fb, &b[(warp * 16 + j * 8 + (lane & 7)) * kRow / 2 + (ks + (lane >> 3 & 1) * 8) / 2]);
                mma_m16n8k16_bf16(acc[j], fa, fb);
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int j = 0; j < 2; j++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int m = m0 + (lane >> 2) + (i >> 1) * 8, n = n0 + warp * 16 + j * 8 + (lane & 3) * 2 + (i & 1);
            if (m < io.M && n < w.N)
                nb_store(io, m, n, acc[j][i]);
        }
}

nb_status nb_cuda_gemm_tile(nb_backend *be, const nb_weight *w, const Io &io, nb_error *err)
{
    const dim3 grid((unsigned)nb_ceil_div(w->N, kTileN), (unsigned)nb_ceil_div(io.M, kTileM)), block(128);
    if (w->codes == NB_CUDA_U4)
        return nb_launch(be, "gemm_tile<u4>", gemm_tile_kernel<U4>, grid, block, 0, err, nb_u4_of(w), io);
    return nb_launch(be, "gemm_tile<bf16>", gemm_tile_kernel<Bf16>, grid, block, 0, err, nb_bf16_of(w), io);
}
