/* limits.cu -- what the device reads and multiplies at most (backend/limits.h): loops that do
 * nothing else, timed in the run that is measured against them. Registers and memory hold random
 * bits: zeros would not heat the chip, and its clock would stay higher than in any real work. */
#include "device.h"
#include "linear/linear.h"

#include "base/clock.h"

#include <algorithm>

/* loads in flight a thread: 256 x 8 x 16 B x 8 blocks, 256 KiB a multiprocessor */
constexpr int kThreads = 256, kAhead = 8;
constexpr int kBlocksASm = 8, kRepeats = 5;
constexpr int64_t kLeastNs = 10000000;
#ifdef __CUDACC__
constexpr size_t kMostBytes = (size_t)1 << 30; /* no L2 is a tenth of it */
#else
constexpr size_t kMostBytes = (size_t)1 << 18; /* the emulator has no cache to get beyond */
#endif

DEVI uint32_t hash(uint32_t v)
{
    v = (v ^ v >> 16) * 0x7feb352du;
    v = (v ^ v >> 15) * 0x846ca68bu;
    return v ^ v >> 16;
}
DEVI uint32_t random_pair(uint32_t v) /* two bf16 of size 1 to 2, either sign */
{
    return (hash(v) & 0x807f807fu) | 0x3f803f80u;
}

__global__ void fill_kernel(uint32_t *p, int64_t n)
{
    for (int64_t i = (int64_t)blockIdx.x * kThreads + threadIdx.x; i < n;
         i += (int64_t)gridDim.x * kThreads)
        p[i] = hash((uint32_t)i);
}

/* Every 16 bytes of p once a round; n a multiple of kAhead x all threads. */
__global__ void __launch_bounds__(kThreads)
    read_kernel(const uint4 *p, int64_t n, int rounds, uint32_t *sink)
{
    const int64_t stride = (int64_t)gridDim.x * kThreads;
    uint32_t all = 0;
    for (int r = 0; r < rounds; r++)
        for (int64_t i = (int64_t)blockIdx.x * kThreads + threadIdx.x; i < n;
             i += kAhead * stride) {
            uint4 v[kAhead];
#pragma unroll
            for (int a = 0; a < kAhead; a++)
                v[a] = ld_stream_v4(p + i + a * stride);
#pragma unroll
            for (int a = 0; a < kAhead; a++)
                all ^= v[a].x ^ v[a].y ^ v[a].z ^ v[a].w;
        }
    sink[blockIdx.x * kThreads + threadIdx.x] = all;
}

constexpr int kSums = 8; /* products that do not wait for each other */

__global__ void __launch_bounds__(kThreads) mma_kernel(int steps, float *sink)
{
    const uint32_t seed = (blockIdx.x * kThreads + threadIdx.x) * 8;
    uint32_t a[4], b[2];
    float sum[kSums][4]; /* that differ, or a compiler would make one of them */
    for (int k = 0; k < kSums; k++)
        sum[k][0] = sum[k][1] = sum[k][2] = sum[k][3] = (float)k;
    for (int i = 0; i < 4; i++)
        a[i] = random_pair(seed + i);
    for (int i = 0; i < 2; i++)
        b[i] = random_pair(seed + 4 + i);
    for (int s = 0; s < steps; s++)
#pragma unroll
        for (int k = 0; k < kSums; k++)
            mma_m16n8k16_bf16(sum[k], a, b);
    float all = 0;
    for (int k = 0; k < kSums; k++)
        all += sum[k][0] + sum[k][1] + sum[k][2] + sum[k][3];
    sink[blockIdx.x * kThreads + threadIdx.x] = all;
}

/* The same by groups of four warps, A in registers as linear/wgmma.cu has it. */
constexpr int kGroup = 128;
__global__ void __launch_bounds__(kGroup) wgmma_rate_kernel(int steps, float *sink)
{
#ifdef GPU_WGMMA
    SHARED_ALIGN(1024, uint32_t, b, [128 * 32]); /* 128 columns of 64 values */
    const uint32_t seed = (blockIdx.x * kGroup + threadIdx.x) * 4;
    uint32_t a[4];
    float sum[64] = {};
    for (int i = threadIdx.x; i < 128 * 32; i += kGroup)
        b[i] = random_pair((uint32_t)i);
    for (int i = 0; i < 4; i++)
        a[i] = random_pair(seed + i);
    fence_proxy_async();
    __syncthreads();
    const uint64_t at = wgmma_desc_sw128(b);
    for (int s = 0; s < steps; s++) {
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < 4; k++)
            wgmma_m64n128k16_bf16(sum, a, at + 2 * k, 1);
        wgmma_commit();
        wgmma_wait<0>();
    }
    wgmma_settle(sum);
    float all = 0;
    for (int k = 0; k < 64; k++)
        all += sum[k];
    sink[blockIdx.x * kGroup + threadIdx.x] = all;
#endif
}

__global__ void __launch_bounds__(kThreads) fma_kernel(int steps, float *sink)
{
    const uint32_t seed = (blockIdx.x * kThreads + threadIdx.x) * 2;
    /* |a| < 1: sums stay finite */
    const float a = bf2_lo(random_pair(seed)) * 0.5f, b = bf2_lo(random_pair(seed + 1));
    float sum[kSums];
    for (int k = 0; k < kSums; k++)
        sum[k] = (float)k;
    for (int s = 0; s < steps; s++)
#pragma unroll
        for (int k = 0; k < kSums; k++)
            sum[k] = fmaf(sum[k], a, b);
    float all = 0;
    for (int k = 0; k < kSums; k++)
        all += sum[k];
    sink[blockIdx.x * kThreads + threadIdx.x] = all;
}

/* Work a second of run(steps), which does steps x work: the median of kRepeats runs long enough to
 * hide a launch. */
template <class Run>
static nb_status rate(nb_backend *be, double work, double *out, nb_error *err, Run run)
{
    double per_s[kRepeats];
    int steps = 1;
    nb_status st = run(1); /* clocks rise, the code is loaded */
    const auto timed = [&](double *seconds) {
        if (st == NB_OK)
            st = be->op->sync(be, err);
        const int64_t start = nb_clock_ns();
        if (st == NB_OK)
            st = run(steps);
        if (st == NB_OK)
            st = be->op->sync(be, err);
        *seconds = (double)(nb_clock_ns() - start) * 1e-9;
    };
    for (double s = 0;; steps *= 2) {
        timed(&s);
        if (st != NB_OK || s * 1e9 >= (double)kLeastNs || steps > 1 << 28)
            break;
    }
    for (double &r : per_s) {
        double s = 1;
        timed(&s);
        r = steps * work / s;
    }
    std::sort(per_s, per_s + kRepeats);
    *out = per_s[kRepeats / 2];
    return st;
}

nb_status nb_cuda_limits(nb_backend *be, nb_limits *out, nb_error *err)
{
    const int n_block = nb_cuda_of(be)->n_sm * kBlocksASm;
    const size_t threads = (size_t)n_block * kThreads, round = threads * kAhead * sizeof(uint4);
    const size_t bytes =
        std::max(std::min(kMostBytes, be->memory_bytes / 8) / round, (size_t)1) * round;
    void *buffer = NULL, *sink = NULL;
    nb_status st = be->op->alloc(be, bytes, "the buffer that measures bandwidth", &buffer, err);
    if (st == NB_OK)
        st = be->op->alloc(be, threads * sizeof(float), "sums of the loops that measure", &sink,
                           err);
    if (st == NB_OK)
        st = nb_launch(be, "fill", fill_kernel, dim3(n_block), dim3(kThreads), 0, err,
                       (uint32_t *)buffer, (int64_t)(bytes / 4));
    if (st == NB_OK)
        st = rate(be, (double)bytes, &out->read_bytes_per_s, err, [&](int steps) {
            return nb_launch(be, "read", read_kernel, dim3(n_block), dim3(kThreads), 0, err,
                             (const uint4 *)buffer, (int64_t)(bytes / 16), steps, (uint32_t *)sink);
        });
    if (st == NB_OK)
        st = rate(be, (double)threads / 32 * kSums * 16 * 8 * 16 * 2,
                  &out->flop_per_s[NB_ARITH_BF16_TILES], err, [&](int steps) {
                      return nb_launch(be, "mma", mma_kernel, dim3(n_block), dim3(kThreads), 0, err,
                                       steps, (float *)sink);
                  });
    double by_wgmma = 0;
    if (st == NB_OK && nb_cuda_of(be)->wgmma)
        st = rate(be, (double)n_block * 4 * 64 * 128 * 16 * 2, &by_wgmma, err, [&](int steps) {
            return nb_launch(be, "wgmma", wgmma_rate_kernel, dim3(n_block), dim3(kGroup), 0, err,
                             steps, (float *)sink);
        });
    double &tiles = out->flop_per_s[NB_ARITH_BF16_TILES];
    tiles = std::max(tiles, by_wgmma);
    if (st == NB_OK)
        st = rate(be, (double)threads * kSums * 2, &out->flop_per_s[NB_ARITH_F32], err,
                  [&](int steps) {
                      return nb_launch(be, "fma", fma_kernel, dim3(n_block), dim3(kThreads), 0, err,
                                       steps, (float *)sink);
                  });
    out->cache_bytes = nb_cuda_of(be)->l2_bytes;
    be->op->release(be, buffer);
    be->op->release(be, sink);
    return st;
}

/* All rows multiply on tensor cores. */
const char *nb_cuda_limits_row(nb_backend *be, const nb_linear_args *a, nb_arith *arith)
{
    *arith = NB_ARITH_BF16_TILES;
    return nb_cuda_linear_row_of(be, a)->name;
}
