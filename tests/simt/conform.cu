// conform.cu -- what each primitive of gpu.h computes, a line per primitive: name, 64-bit FNV-1a
// hash of the 1,024 result words, three of them. Inputs are integers or bit patterns, so results
// are exact whatever the order of summation; lines that start with '~' depend on rounding and are
// compared with a tolerance.
//
//   conform              prints the lines
//   conform FILE.golden  compares them with a file, exit 1 names the lines that differ
//
// nvcc builds the same program for a GPU: nvcc -std=c++17 -gencode arch=compute_90a,code=sm_90a
// -I cuda conform.cu
#include "gpu.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

constexpr int kThreads = 128;
constexpr int kWords = 8; // result words of a thread
constexpr int kResults = kThreads * kWords;
constexpr int kBuffer = 4096; // words in global memory: results, and input behind them
constexpr int kShared = 1024;

DEVI uint32_t hash2(uint32_t a, uint32_t b)
{
    uint32_t x = a * 2654435761u ^ (b + 0x9e3779b9u) * 2246822519u;
    x ^= x >> 15;
    x *= 2654435761u;
    return x ^ x >> 13;
}

DEVI float small_int(uint32_t a, uint32_t b)
{
    return (float)(int)(hash2(a, b) % 17) - 8.f;
}

DEVI uint32_t small_bf2(uint32_t a, uint32_t b)
{
    return bf2_pack(small_int(a, b), small_int(b, a + 77));
}

// What a primitive works with: its lane, the block's shared words, the global words, its results.
struct Bench {
    int lane;
    uint32_t *sm;       // [kShared]
    const uint32_t *in; // [kBuffer - kResults]
    uint32_t (&r)[kWords];
};

// ---- warp
struct shfl_idx {
    static __device__ void run(const Bench &b)
    {
        for (int i = 0; i < kWords; i++)
            b.r[i] = __shfl_sync(~0u, hash2(b.lane, i), b.lane * 7 + i, i < 4 ? 32 : 8);
    }
};
struct shfl_up {
    static __device__ void run(const Bench &b)
    {
        for (int i = 0; i < kWords; i++)
            b.r[i] = __shfl_up_sync(~0u, hash2(b.lane, i), i, i < 4 ? 32 : 16);
    }
};
struct shfl_down {
    static __device__ void run(const Bench &b)
    {
        for (int i = 0; i < kWords; i++)
            b.r[i] = __shfl_down_sync(~0u, hash2(b.lane, i), i + 1, i < 4 ? 32 : 16);
    }
};
struct shfl_xor {
    static __device__ void run(const Bench &b)
    {
        for (int i = 0; i < kWords; i++)
            b.r[i] = __shfl_xor_sync(~0u, hash2(b.lane, i), 1 << (i % 5));
    }
};
struct vote {
    static __device__ void run(const Bench &b)
    {
        b.r[0] = __ballot_sync(~0u, hash2(b.lane, 1) & 1);
        b.r[1] = __any_sync(~0u, b.lane == 9);
        b.r[2] = __all_sync(~0u, b.lane < 31);
        b.r[3] = __match_any_sync(~0u, hash2(b.lane, 2) % 5);
        b.r[4] = __reduce_add_sync(~0u, hash2(b.lane, 3));
        if (b.lane < 16)
            b.r[5] = __ballot_sync(0xffffu, b.lane & 2);
    }
};

// ---- integer and bfloat16 arithmetic
struct lop3_words {
    static __device__ void run(const Bench &b)
    {
        const uint32_t x = hash2(b.lane, 1), y = hash2(b.lane, 2), z = hash2(b.lane, 3);
        b.r[0] = lop3<0xEA>(x, y, z);
        b.r[1] = lop3<0x96>(x, y, z);
        b.r[2] = lop3<0x1B>(x, y, z);
    }
};
struct prmt_words {
    static __device__ void run(const Bench &b)
    {
        for (int i = 0; i < kWords; i++)
            b.r[i] = prmt(hash2(b.lane, 1), hash2(b.lane, 2), hash2(b.lane, i) & 0xffff);
    }
};
struct cvt_bf16 { // any bits, NaN, overflow to infinity, ties, denormals, minus zero
    static __device__ void run(const Bench &b)
    {
        for (int i = 0; i < 4; i++) {
            const uint32_t h = hash2(b.lane, i);
            b.r[i] = bf2_pack(__uint_as_float(h), __uint_as_float(h ^ 0x8000u));
        }
        b.r[4] = bf2_pack(__uint_as_float(0x7f800001u + b.lane), __uint_as_float(0x7f7fffffu));
        b.r[5] =
            bf2_pack(__uint_as_float(0x3f808000u + b.lane % 3 - 1), __uint_as_float(0x3f818000u));
        b.r[6] = bf2_pack(__uint_as_float(b.lane), -0.f);
    }
};
struct fma_bf16x2 {
    static __device__ void run(const Bench &b)
    {
        for (int i = 0; i < kWords; i++) {
            const float x = (float)(hash2(b.lane, i) % 4096) / 512.f - 4.f;
            const float y = (float)(hash2(i, b.lane) % 4096) / 1024.f;
            b.r[i] =
                bf2_fma(bf2_pack(x, 1.5f), bf2_pack(y, (float)b.lane), bf2_pack(0.37f * i, -3.f));
        }
    }
};

// ---- shared memory
struct named_barrier {
    static __device__ void run(const Bench &b)
    {
        if (threadIdx.x < 64) {
            b.sm[threadIdx.x] = hash2(threadIdx.x, 9);
            named_barrier_arrive(1, kThreads);
        } else {
            named_barrier_sync(1, kThreads);
            b.r[0] = b.sm[127 - threadIdx.x];
        }
    }
};
struct atomics {
    static __device__ void run(const Bench &b)
    {
        if (threadIdx.x < 4)
            b.sm[threadIdx.x] = 0;
        __syncthreads();
        atomicAdd(&b.sm[0], hash2(threadIdx.x, 1));
        atomicMax((int *)&b.sm[1], (int)(hash2(threadIdx.x, 2) & 0xffff));
        atomicOr(&b.sm[2], 1u << b.lane);
        atomicAdd((float *)&b.sm[3], (float)threadIdx.x);
        __syncthreads();
        for (int i = 0; i < 4; i++)
            b.r[i] = b.sm[i];
    }
};
struct cp_async { // source sizes 0, 4, 8, 12, 16
    static __device__ void run(const Bench &b)
    {
        SHARED_ALIGN(16, uint32_t, d, [512]);
        cp_async_16(&d[threadIdx.x * 4], b.in + threadIdx.x * 4, threadIdx.x % 5 * 4);
        cp_async_commit();
        cp_async_wait<0>();
        __syncthreads();
        for (int i = 0; i < 4; i++)
            b.r[i] = d[(127 - threadIdx.x) * 4 + i];
    }
};
struct ldmatrix_1 {
    static __device__ void run(const Bench &b)
    {
        uint32_t m[1];
        ldmatrix_x1(m, &b.sm[(b.lane & 7) * 4 * 3]);
        b.r[0] = m[0];
    }
};
struct ldmatrix_2 {
    static __device__ void run(const Bench &b)
    {
        uint32_t m[2];
        ldmatrix_x2(m, &b.sm[(b.lane & 15) * 4 * 5]);
        b.r[0] = m[0];
        b.r[1] = m[1];
    }
};
struct ldmatrix_4 {
    static __device__ void run(const Bench &b)
    {
        uint32_t m[4];
        ldmatrix_x4(m, &b.sm[b.lane * 13 % 32 * 4 * 7]);
        for (int i = 0; i < 4; i++)
            b.r[i] = m[i];
    }
};
struct ldmatrix_4_trans {
    static __device__ void run(const Bench &b)
    {
        uint32_t m[4];
        ldmatrix_x4_trans(m, &b.sm[b.lane * 5 % 32 * 4 * 3]);
        for (int i = 0; i < 4; i++)
            b.r[i] = m[i];
    }
};

// ---- matrix units
DEVI void keep(const Bench &b, const float (&d)[4])
{
    for (int i = 0; i < 4; i++)
        b.r[i] = __float_as_uint(d[i]);
}
struct mma_bf16 {
    static __device__ void run(const Bench &b)
    {
        float d[4];
        uint32_t x[4], y[2];
        for (int i = 0; i < 4; i++) {
            x[i] = small_bf2(b.lane, i);
            d[i] = (float)(b.lane * 4 + i);
        }
        for (int i = 0; i < 2; i++)
            y[i] = small_bf2(b.lane + 100, i);
        mma_m16n8k16_bf16(d, x, y);
        keep(b, d);
    }
};
struct mma_bf16_from { // the same, C in other registers than D
    static __device__ void run(const Bench &b)
    {
        float d[4], c[4];
        uint32_t x[4], y[2];
        for (int i = 0; i < 4; i++) {
            x[i] = small_bf2(b.lane, i);
            c[i] = (float)(b.lane * 4 + i);
        }
        for (int i = 0; i < 2; i++)
            y[i] = small_bf2(b.lane + 100, i);
        mma_m16n8k16_bf16(d, x, y, c);
        keep(b, d);
    }
};
struct mma_f16 { // values 1 to 1.75 against 1 and -1
    static __device__ void run(const Bench &b)
    {
        float d[4];
        uint32_t x[4], y[2];
        for (int i = 0; i < 4; i++) {
            x[i] = 0x3c003c00u + (hash2(b.lane, i) & 0x03000300u);
            d[i] = (float)i;
        }
        for (int i = 0; i < 2; i++)
            y[i] = 0x3c003c00u ^ (hash2(b.lane, i + 8) & 0x80008000u);
        mma_m16n8k16_f16(d, x, y);
        keep(b, d);
    }
};
struct mma_s8 {
    static __device__ void run(const Bench &b)
    {
        int d[4];
        uint32_t x[4], y[2];
        for (int i = 0; i < 4; i++) {
            x[i] = hash2(b.lane, i);
            d[i] = b.lane - i;
        }
        for (int i = 0; i < 2; i++)
            y[i] = hash2(b.lane, i + 50);
        mma_m16n8k32_s8(d, x, y);
        for (int i = 0; i < 4; i++)
            b.r[i] = (uint32_t)d[i];
    }
};
struct round_mma_bf16 {
    static __device__ void run(const Bench &b)
    {
        float d[4];
        uint32_t x[4], y[2];
        for (int i = 0; i < 4; i++) {
            x[i] = bf2_pack((float)(hash2(b.lane, i) % 1000) / 333.f, 1.f / (1 + b.lane));
            d[i] = 0.1f * i;
        }
        for (int i = 0; i < 2; i++)
            y[i] = bf2_pack((float)(hash2(b.lane, i + 3) % 1000) / 777.f, -0.3f * i);
        mma_m16n8k16_bf16(d, x, y);
        keep(b, d);
    }
};

template <class Primitive> __global__ void conform(uint32_t *out)
{
    SHARED_ALIGN(128, uint32_t, sm, [kShared]);
    uint32_t r[kWords] = {};
    for (int i = threadIdx.x; i < kShared; i += blockDim.x)
        sm[i] = hash2(i, 5);
    __syncthreads();
    Primitive::run(Bench{(int)(threadIdx.x & 31), sm, out + kResults, r});
    for (int i = 0; i < kWords; i++)
        out[threadIdx.x * kWords + i] = r[i];
}

// A swizzled tensor copy with a corner outside the tensor, read back raw; then wgmma on integers.
__global__ void conform_tma_wgmma(uint32_t *out, const __grid_constant__ CUtensorMap m)
{
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
    SHARED_ALIGN(1024, bf16, tile, [64 * 64]);
    SHARED_ALIGN(8, uint64_t, bar, [1]);
    if (threadIdx.x == 0) {
        mbarrier_init(bar, 1);
        mbarrier_fence_init();
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        mbarrier_arrive_expect_tx(bar, 64 * 64 * 2);
        tma_load_2d(tile, &m, 8, 4, bar);
    }
    mbarrier_wait(bar, 0);
    const uint32_t *words = (const uint32_t *)tile;
    uint32_t raw = 0, product = 0;
    for (int i = 0; i < 16; i++)
        raw = hash2(raw, words[threadIdx.x * 16 + i]);
    float d[32];
    const uint64_t desc = wgmma_desc_sw128(tile);
    wgmma_fence();
    for (int k = 0; k < 4; k++)
        wgmma_m64n64k16_bf16(d, desc + 2 * k, desc + 2 * k, k > 0);
    wgmma_commit();
    wgmma_wait<0>();
    wgmma_settle(d);
    for (int i = 0; i < 32; i++)
        product = hash2(product, __float_as_uint(d[i]));
    const uint32_t r[kWords] = {raw, product, __float_as_uint(d[5])};
    for (int i = 0; i < kWords; i++)
        out[threadIdx.x * kWords + i] = r[i];
#endif
}

// Swizzled tokens by one bulk copy, A in registers, sums begun anew and gone on with, two commits in
// flight.
__global__ void conform_bulk_wgmma(uint32_t *out)
{
#ifdef GPU_WGMMA
    SHARED_ALIGN(1024, bf16, tile, [128 * 64]);
    SHARED_ALIGN(8, uint64_t, bar, [1]);
    if (threadIdx.x == 0) {
        mbarrier_init(bar, 1);
        mbarrier_fence_init();
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        mbarrier_arrive_expect_tx(bar, 128 * 64 * 2);
        bulk_load(tile, out + kBuffer, 128 * 64 * 2, bar);
    }
    mbarrier_wait(bar, 0);
    float d[64];
    uint32_t a[4][4];
    for (int i = 0; i < 64; i++)
        d[i] = (float)(threadIdx.x + i);
    for (int k = 0; k < 4; k++)
        for (int i = 0; i < 4; i++)
            a[k][i] = small_bf2(threadIdx.x, 4 * k + i);
    const uint64_t desc = wgmma_desc_sw128(tile);
    wgmma_fence();
    wgmma_m64n128k16_bf16(d, a[0], desc, 0);
    wgmma_m64n128k16_bf16(d, a[1], desc + 2, 1);
    wgmma_commit();
    wgmma_m64n128k16_bf16(d, a[2], desc + 4, 1);
    wgmma_m64n128k16_bf16(d, a[3], desc + 6, 1);
    wgmma_commit();
    wgmma_wait<1>();
    wgmma_wait<0>();
    wgmma_settle(d);
    uint32_t product = 0;
    for (int i = 0; i < 64; i++)
        product = hash2(product, __float_as_uint(d[i]));
    const uint32_t r[kWords] = {product, __float_as_uint(d[1]), __float_as_uint(d[62])};
    for (int i = 0; i < kWords; i++)
        out[threadIdx.x * kWords + i] = r[i];
#endif
}

// Two f16, whole numbers from -4 to 4.
DEVI uint32_t small_half2(int a, int b)
{
    const uint32_t value[5] = {0u, 0x3c00u, 0x4000u, 0x4200u, 0x4400u};
    uint32_t r = 0;
    for (int h = 0; h < 2; h++) {
        const int v = (a * 29 + b * 7 + a / 5 + 3 * h) % 9 - 4;
        r |= (value[v < 0 ? -v : v] | (v < 0 ? 0x8000u : 0u)) << 16 * h;
    }
    return r;
}

// f16, B by columns and by rows, written by the threads themselves.
__global__ void conform_f16_wgmma(uint32_t *out)
{
#ifdef GPU_WGMMA
    SHARED_ALIGN(1024, uint32_t, tile, [2 * 64 * 32]);
    for (int i = threadIdx.x; i < 2 * 64 * 32; i += blockDim.x)
        tile[i] = small_half2(i, 1);
    fence_proxy_async();
    __syncthreads();
    uint32_t a[4][4];
    for (int k = 0; k < 4; k++)
        for (int i = 0; i < 4; i++)
            a[k][i] = small_half2(threadIdx.x, 4 * k + i);
    float columns[64], half[32], rows[64];
    const uint64_t by_columns = wgmma_desc_sw128_columns(tile, 8192);
    const uint64_t by_rows = wgmma_desc_sw128(tile);
    wgmma_fence();
    for (int k = 0; k < 4; k++) {
        wgmma_m64n128k16_f16<true>(columns, a[k], by_columns + 128 * k, k > 0);
        wgmma_m64n64k16_f16<true>(half, a[k], by_columns + 128 * k, k > 0);
        wgmma_m64n128k16_f16<false>(rows, a[k], by_rows + 2 * k, k > 0);
    }
    wgmma_commit();
    wgmma_wait<0>();
    wgmma_settle(columns);
    wgmma_settle(half);
    wgmma_settle(rows);
    uint32_t r[kWords] = {};
    for (int i = 0; i < 64; i++) {
        r[0] = hash2(r[0], __float_as_uint(columns[i]));
        r[1] = hash2(r[1], __float_as_uint(half[i / 2]));
        r[2] = hash2(r[2], __float_as_uint(rows[i]));
    }
    for (int i = 0; i < kWords; i++)
        out[threadIdx.x * kWords + i] = r[i];
#endif
}

// A group of warps gives registers away, two take them: what they hold stays.
__global__ void __launch_bounds__(3 * kThreads, 1) conform_registers(uint32_t *out)
{
#ifdef GPU_WGMMA
    uint32_t r[kWords];
    for (int i = 0; i < kWords; i++)
        r[i] = hash2(threadIdx.x, i);
    if (threadIdx.x >= 2 * kThreads) {
        registers_fewer<24>();
        return;
    }
    registers_more<240>();
    for (int i = 0; i < kWords && threadIdx.x < kThreads; i++)
        out[threadIdx.x * kWords + i] = r[i];
#endif
}

static const struct {
    const char *name; // "~": depends on rounding
    void (*kernel)(uint32_t *out);
} primitives[] = {
    {"shfl_idx", conform<shfl_idx>},
    {"shfl_up", conform<shfl_up>},
    {"shfl_down", conform<shfl_down>},
    {"shfl_xor", conform<shfl_xor>},
    {"vote", conform<vote>},
    {"lop3", conform<lop3_words>},
    {"prmt", conform<prmt_words>},
    {"cvt_bf16", conform<cvt_bf16>},
    {"fma_bf16x2", conform<fma_bf16x2>},
    {"named_barrier", conform<named_barrier>},
    {"atomics", conform<atomics>},
    {"cp_async", conform<cp_async>},
    {"ldmatrix_x1", conform<ldmatrix_1>},
    {"ldmatrix_x2", conform<ldmatrix_2>},
    {"ldmatrix_x4", conform<ldmatrix_4>},
    {"ldmatrix_x4_trans", conform<ldmatrix_4_trans>},
    {"mma_bf16", conform<mma_bf16>},
    {"mma_bf16_from", conform<mma_bf16_from>},
    {"mma_f16", conform<mma_f16>},
    {"mma_s8", conform<mma_s8>},
    {"~round_mma_bf16", conform<round_mma_bf16>},
};

static void print_exact(char *line, size_t n, const char *name, const uint32_t *r)
{
    unsigned long long hash = 1469598103934665603ull;
    for (int i = 0; i < kResults; i++)
        hash = (hash ^ r[i]) * 1099511628211ull;
    snprintf(line, n, "%-18s %016llx %08x %08x %08x", name, hash, r[0], r[8 * 13 + 1], r[8 * 31]);
}

static void print_rounded(char *line, size_t n, const char *name, const uint32_t *r)
{
    float v[4];
    memcpy(v, &r[8 * 5], sizeof v);
    snprintf(line, n, "%-18s %.7g %.7g %.7g %.7g", name, (double)v[0], (double)v[1], (double)v[2],
             (double)v[3]);
}

// Equal, or for a '~' line each number within 1e-5 of it: sums of 16 products in any order.
static int same_line(const char *got, const char *want)
{
    if (got[0] != '~' || strncmp(got, want, 18) != 0)
        return strcmp(got, want) == 0;
    char *g = (char *)got + 18, *w = (char *)want + 18;
    for (int i = 0; i < 4; i++) {
        const double a = strtod(g, &g), b = strtod(w, &w);
        if (!(fabs(a - b) <= 1e-5 * fabs(b)))
            return 0;
    }
    return 1;
}

static FILE *golden;
static int n_differ;

static void show(const char *line)
{
    char want[200] = "";
    puts(line);
    if (!golden)
        return;
    if (!fgets(want, sizeof want, golden))
        want[0] = 0;
    want[strcspn(want, "\n")] = 0;
    if (same_line(line, want))
        return;
    printf("FAIL, expected:\n%s\n", want);
    n_differ++;
}

// The results of a kernel whose launch has the status given.
static int fetch(uint32_t *r, const uint32_t *d, cudaError_t launched, const char *name)
{
    const cudaError_t e = launched == cudaSuccess ? cudaDeviceSynchronize() : launched;
    if (e == cudaSuccess)
        return cudaMemcpy(r, d, kResults * 4, cudaMemcpyDeviceToHost) == cudaSuccess;
    printf("FAIL  %s: %s\n", name, cudaGetErrorString(e));
    return 0;
}

static int run_primitives(uint32_t *d)
{
    static uint32_t start[kBuffer], r[kResults];
    for (int i = 0; i < kBuffer; i++)
        start[i] = (uint32_t)i * 2654435761u;
    for (const auto &p : primitives) {
        char line[200];
        cudaMemcpy(d, start, sizeof start, cudaMemcpyHostToDevice);
        const cudaError_t e = launch(p.kernel, dim3(1), dim3(kThreads), 0, (cudaStream_t)0, d);
        if (!fetch(r, d, e, p.name))
            return 0;
        (p.name[0] == '~' ? print_rounded : print_exact)(line, sizeof line, p.name, r);
        show(line);
    }
    return 1;
}

static int run_tma_wgmma(uint32_t *d)
{
    constexpr int kPitch = 72, kRows = 64; // elements
    static uint16_t host[kPitch * kRows];
    static uint32_t r[kResults];
    bf16 *tensor = nullptr;
    CUtensorMap m;
    char line[200];
    for (int i = 0; i < kPitch * kRows; i++) {
        const float v = (float)((i * 37 + i / 7) % 9 - 4);
        uint32_t bits;
        memcpy(&bits, &v, 4);
        host[i] = (uint16_t)(bits >> 16);
    }
    if (cudaMalloc(&tensor, sizeof host) != cudaSuccess)
        return 0;
    cudaMemcpy(tensor, host, sizeof host, cudaMemcpyHostToDevice);
    if (gpu_tensormap_2d(&m, tensor, 64, 64, kPitch * 2, 64, 64))
        return 0;
    const cudaError_t e =
        launch(conform_tma_wgmma, dim3(1), dim3(kThreads), 0, (cudaStream_t)0, d, m);
    if (!fetch(r, d, e, "tma_wgmma"))
        return 0;
    print_exact(line, sizeof line, "tma_wgmma", r);
    show(line);
    return 1;
}

// The tokens lie behind the words.
static int run_bulk_wgmma()
{
    constexpr int kTokens = 128 * 64 / 2; // words
    static uint32_t host[kBuffer + kTokens], r[kResults];
    char line[200];
    uint32_t *both = nullptr;
    for (int i = 0; i < kTokens; i++) // bf16 of -4 to 4
        for (int h = 0; h < 2; h++) {
            const float v = (float)((i * 29 + i / 5 + 3 * h) % 9 - 4);
            uint32_t bits;
            memcpy(&bits, &v, 4);
            host[kBuffer + i] |= bits >> 16 << 16 * h;
        }
    if (cudaMalloc(&both, sizeof host) != cudaSuccess)
        return 0;
    cudaMemcpy(both, host, sizeof host, cudaMemcpyHostToDevice);
    const cudaError_t e =
        launch(conform_bulk_wgmma, dim3(1), dim3(kThreads), 0, (cudaStream_t)0, both);
    if (!fetch(r, both, e, "bulk_wgmma"))
        return 0;
    print_exact(line, sizeof line, "bulk_wgmma", r);
    show(line);
    return 1;
}

static int run_f16_wgmma(uint32_t *d)
{
    static uint32_t r[kResults];
    char line[200];
    const cudaError_t e = launch(conform_f16_wgmma, dim3(1), dim3(kThreads), 0, (cudaStream_t)0, d);
    if (!fetch(r, d, e, "f16_wgmma"))
        return 0;
    print_exact(line, sizeof line, "f16_wgmma", r);
    show(line);
    return 1;
}

static int run_registers(uint32_t *d)
{
    static uint32_t r[kResults];
    char line[200];
    const cudaError_t e =
        launch(conform_registers, dim3(1), dim3(3 * kThreads), 0, (cudaStream_t)0, d);
    if (!fetch(r, d, e, "registers"))
        return 0;
    print_exact(line, sizeof line, "registers", r);
    show(line);
    return 1;
}

int main(int argc, char **argv)
{
    uint32_t *d = nullptr;
    cudaDeviceProp device;
    if (argc > 1 && !(golden = fopen(argv[1], "r"))) {
        printf("%s: cannot open\n", argv[1]);
        return 2;
    }
    if (cudaGetDeviceProperties(&device, 0) != cudaSuccess ||
        cudaMalloc(&d, kBuffer * sizeof *d) != cudaSuccess) {
        printf("skipped: no CUDA device\n");
        return 77;
    }
    int ok = run_primitives(d);
    if (ok && device.major == 9)
        ok = run_tma_wgmma(d) && run_bulk_wgmma() && run_f16_wgmma(d) && run_registers(d);
    if (golden)
        fclose(golden);
    return ok && !n_differ ? 0 : 1;
}
