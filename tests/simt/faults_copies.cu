// faults_copies.cu -- asynchronous copies and what they are waited for with.
#include "faults.h"

// ---- asynchronous copies, named barriers
__global__ void async_no_wait(float *o)
{
    SHARED_ALIGN(16, float, x, [128]);
    cp_async_16(&x[threadIdx.x * 4], o + threadIdx.x * 4);
    cp_async_commit();
    o[threadIdx.x] = x[threadIdx.x * 4];
    cp_async_wait<0>();
}
__global__ void async_no_barrier(float *o)
{
    SHARED_ALIGN(16, float, x, [128]);
    cp_async_16(&x[threadIdx.x * 4], o + threadIdx.x * 4);
    cp_async_commit();
    cp_async_wait<0>();
    o[threadIdx.x] = x[127 - threadIdx.x];
}
__global__ void async_left(float *o)
{
    SHARED_ALIGN(16, float, x, [128]);
    cp_async_16(&x[threadIdx.x * 4], o + threadIdx.x * 4);
    cp_async_commit();
}
__global__ void async_of_bytes(float *o, int n)
{
    SHARED_ALIGN(16, float, x, [128]);
    cp_async_16(&x[threadIdx.x * 4], o + threadIdx.x * 4, n);
    cp_async_commit();
    cp_async_wait<0>();
}
__global__ void barrier_of(int n0, int n1) // as warps 0 and 1 know it
{
    named_barrier_sync(1, threadIdx.x < 32 ? n0 : n1);
}
__global__ void barriers(int n)
{
    for (int i = 0; i < n; i++)
        __syncthreads();
}
// Warps 0-1 produce, warps 2-3 consume through two slots: full = barriers 1, 2, empty = 3, 4.
__global__ void ring(float *o, int early)
{
    SHARED(float, x, [2][64]);
    const int consumer = threadIdx.x >> 6, lane = threadIdx.x & 63;
    float sum = 0;
    for (int i = 0; i < 6; i++) {
        const int slot = i & 1;
        if (!consumer) {
            if (i >= 2)
                named_barrier_sync(3 + slot, 128);
            x[slot][lane] = (float)i;
            named_barrier_arrive(1 + slot, 128);
            continue;
        }
        named_barrier_sync(1 + slot, 128);
        if (early && i < 4)
            named_barrier_arrive(3 + slot, 128);
        sum += x[slot][63 - lane];
        if (!early && i < 4)
            named_barrier_arrive(3 + slot, 128);
    }
    if (consumer)
        o[lane] = sum;
}

static void async_read_before_wait()
{
    launch(async_no_wait, dim3(1), dim3(32), 0, s, g);
}
static void async_without_barrier()
{
    launch(async_no_barrier, dim3(1), dim3(32), 0, s, g);
}
static void async_at_exit()
{
    launch(async_left, dim3(1), dim3(32), 0, s, g);
}
static void async_of_20_bytes()
{
    launch(async_of_bytes, dim3(1), dim3(32), 0, s, g, 20);
}
static void async_of_no_bytes()
{
    launch(async_of_bytes, dim3(1), dim3(32), 0, s, g, 0);
}
static void barrier_of_two_counts()
{
    launch(barrier_of, dim3(1), dim3(64), 0, s, 64, 96);
}
static void barrier_of_a_warp_and_a_half()
{
    launch(barrier_of, dim3(1), dim3(64), 0, s, 48, 48);
}
static void more_barriers_than_clocks()
{
    launch(barriers, dim3(1), dim3(32), 0, s, 40000);
}
static void ring_in_order()
{
    launch(ring, dim3(1), dim3(128), 0, s, g, 0);
}
static void ring_released_early()
{
    launch(ring, dim3(1), dim3(128), 0, s, g, 1);
}

// ---- sm_90: bulk copies, wgmma with A in registers, registers that move between warps
enum {
    kSound,
    kNoFence,
    kNoSync,
    kNoWait,
    kEarly,
    kShort,
    kOdd,
    kParity,
    kOneMore
}; // what is wrong with a ring
// Warp 4 brings tiles of 128 tokens x 64 positions through two stages, a group multiplies them.
constexpr int kTile = 128 * 64;
__global__ void __launch_bounds__(160) bulk_ring(float *o, const bf16 *x, int n, int wrong)
{
    SHARED_ALIGN(1024, bf16, tile, [2][kTile]);
    SHARED(uint64_t, full, [2]);
    SHARED(uint64_t, empty, [2]);
    const int t = threadIdx.x;
    if (t == 0) {
        for (int i = 0; i < 2; i++) {
            mbarrier_init(&full[i], 1);
            mbarrier_init(&empty[i], 128);
        }
        if (wrong != kNoFence)
            mbarrier_fence_init();
    }
    if (wrong != kNoSync)
        __syncthreads();
    if (t >= 128) {
        for (int i = 0; t == 128 && i < n; i++) {
            const int slot = i & 1, round = i >> 1;
            mbarrier_wait(&empty[slot], (unsigned)(round & 1) ^ (wrong == kParity ? 0 : 1));
            mbarrier_arrive_expect_tx(&full[slot], wrong == kShort ? 2 * kTile + 16 : 2 * kTile);
            bulk_load(tile[slot], x + i * kTile + (wrong == kOdd ? 4 : 0), 2 * kTile, &full[slot]);
        }
        return;
    }
    float d[64] = {};
    const uint32_t a[4] = {0x3f803f80u, 0x3f803f80u, 0x3f803f80u, 0x3f803f80u};
    for (int i = 0; i < n - (wrong == kOneMore); i++) {
        const int slot = i & 1, round = i >> 1;
        if (wrong != kNoWait)
            mbarrier_wait(&full[slot], (unsigned)round & 1);
        wgmma_fence();
        wgmma_m64n128k16_bf16(d, a, wgmma_desc_sw128(tile[slot]), 1);
        wgmma_commit();
        if (wrong == kEarly)
            mbarrier_arrive(&empty[slot]);
        wgmma_wait<0>();
        wgmma_settle(d);
        if (wrong != kEarly)
            mbarrier_arrive(&empty[slot]);
    }
    o[t] = d[0];
}
__global__ void registers_of_a(float *o, int early, int fenced)
{
    SHARED_ALIGN(1024, bf16, tile, [128 * 64]);
    float d[64] = {};
    uint32_t a[4] = {0x3f803f80u, 0x3f803f80u, 0x3f803f80u, 0x3f803f80u};
    for (int i = threadIdx.x; i < 128 * 64; i += blockDim.x)
        tile[i] = f2bf(1.f);
    if (fenced)
        fence_proxy_async();
    __syncthreads();
    wgmma_fence();
    wgmma_m64n128k16_bf16(d, a, wgmma_desc_sw128(tile), 0);
    wgmma_commit();
    if (early)
        a[1] = threadIdx.x;
    wgmma_wait<0>();
    wgmma_settle(d);
    o[threadIdx.x] = d[0];
}
__global__ void tile_by_copies(float *o, const bf16 *x, int early)
{
    SHARED_ALIGN(1024, bf16, tile, [kTile]);
    float d[64] = {};
    const uint32_t a[4] = {0x3f803f80u, 0x3f803f80u, 0x3f803f80u, 0x3f803f80u};
    for (int i = threadIdx.x * 8; i < kTile; i += blockDim.x * 8)
        cp_async_16(tile + i, x + i);
    cp_async_commit();
    if (early)
        fence_proxy_async();
    cp_async_wait<0>();
    if (!early)
        fence_proxy_async();
    __syncthreads();
    wgmma_fence();
    wgmma_m64n128k16_bf16(d, a, wgmma_desc_sw128(tile), 0);
    wgmma_commit();
    wgmma_wait<0>();
    wgmma_settle(d);
    o[threadIdx.x] = d[0];
}
template <int More, int Fewer> __global__ void move_registers(float *o)
{
    if (threadIdx.x >= 256)
        registers_fewer<Fewer>();
    else
        registers_more<More>();
    o[threadIdx.x] = 1.f;
}

static bf16 *tokens() // of four tiles
{
    bf16 *x;
    cudaMalloc(&x, 4 * kTile * sizeof *x + 16);
    cudaMemset(x, 0, 4 * kTile * sizeof *x + 16);
    return x;
}
static void bulk(int wrong)
{
    launch(bulk_ring, dim3(1), dim3(160), 0, s, g, (const bf16 *)tokens(), 4, wrong);
}
static void bulk_in_order()
{
    bulk(kSound);
}
static void bulk_unfenced()
{
    bulk(kNoFence);
}
static void bulk_unsynced()
{
    bulk(kNoSync);
}
static void bulk_not_waited()
{
    bulk(kNoWait);
}
static void bulk_released_early()
{
    bulk(kEarly);
}
static void bulk_wrong_count()
{
    bulk(kShort);
}
static void bulk_misaligned()
{
    bulk(kOdd);
}
static void bulk_wrong_parity()
{
    bulk(kParity);
}
static void bulk_at_exit()
{
    bulk(kOneMore);
}
static void bulk_past_the_end()
{
    launch(bulk_ring, dim3(1), dim3(160), 0, s, g, (const bf16 *)tokens() + kTile, 4, (int)kSound);
}
static void bulk_on_sm_80()
{
    simt::cfg.sm = 80;
    bulk(kSound);
    cudaDeviceSynchronize();
    simt::cfg.sm = 90;
}
static void a_kept()
{
    launch(registers_of_a, dim3(1), dim3(128), 0, s, g, 0, 1);
}
static void a_changed_early()
{
    launch(registers_of_a, dim3(1), dim3(128), 0, s, g, 1, 1);
}
static void copies_fenced()
{
    launch(tile_by_copies, dim3(1), dim3(128), 0, s, g, (const bf16 *)tokens(), 0);
}
static void copies_fenced_early()
{
    launch(tile_by_copies, dim3(1), dim3(128), 0, s, g, (const bf16 *)tokens(), 1);
}
static void tile_unfenced()
{
    launch(registers_of_a, dim3(1), dim3(128), 0, s, g, 0, 0);
}
static void registers_moved()
{
    launch(move_registers<240, 24>, dim3(1), dim3(384), 0, s, g);
}
static void too_many_registers()
{
    launch(move_registers<240, 40>, dim3(1), dim3(384), 0, s, g);
}

const Case copy_cases[] = {
    {"cp.async of no bytes: zeros", "", async_of_no_bytes},
    {"cp.async of 20 bytes into 16", "ASYNC", async_of_20_bytes},
    {"cp.async not waited for at the end", "ASYNC", async_at_exit},
    {"barrier of two thread counts", "BARRIER", barrier_of_two_counts},
    {"barrier of one warp and a half", "BARRIER", barrier_of_a_warp_and_a_half},
    {"40000 barriers", "LIMIT", more_barriers_than_clocks},
    {"cp.async read before the wait", "INFLIGHT", async_read_before_wait},
    {"cp.async waited, no barrier", "UNINIT", async_without_barrier},
    {"named barrier ring", "", ring_in_order},
    {"ring slot released before the read", "RACE", ring_released_early},
    {"bulk copies, wgmma with A in registers", "", bulk_in_order},
    {"bulk copy, mbarrier not fenced", "MBAR", bulk_unfenced},
    {"mbarrier used without a barrier behind", "RACE", bulk_unsynced},
    {"bulk copy not waited for", "INFLIGHT", bulk_not_waited},
    {"bulk stage released before the wait", "RACE", bulk_released_early},
    {"bulk copies of fewer bytes than expected", "DEADLOCK", bulk_wrong_count},
    {"bulk copy from 8 bytes off", "MISALIGN", bulk_misaligned},
    {"producer waits for the wrong phase", "DEADLOCK", bulk_wrong_parity},
    {"bulk copy not waited for at the end", "ASYNC", bulk_at_exit},
    {"bulk copy past the end", "OOB", bulk_past_the_end},
    {"bulk copy on sm_80", "ARCH", bulk_on_sm_80},
    {"registers of A kept until the wait", "", a_kept},
    {"registers of A changed before the wait", "WGMMA", a_changed_early},
    {"wgmma of stores without a fence between the proxies", "PROXY", tile_unfenced},
    {"wgmma of copies, a fence between the proxies behind the wait", "", copies_fenced},
    {"wgmma of copies, the fence before the wait", "PROXY", copies_fenced_early},
    {"registers moved between warps", "", registers_moved},
    {"more registers than there are", "REGS", too_many_registers},
    {nullptr, nullptr, nullptr},
};
