// faults.cu -- one small kernel or host sequence per detector of the emulator, and clean patterns
// that must stay clean: the kind named must be the first one reported. Clean patterns run under
// every schedule. An argument picks the cases whose name contains it.
#include "gpu.h"

#include <stdio.h>
#include <string.h>

static float *g;    // [1024], zeros
static unsigned *u; // [64], zeros at the start of each case
static float *h;    // [2048] on the host's heap
static cudaStream_t s, t;

// ---- memory
__global__ void store_at(float *o, int n)
{
    o[n] = 1.f;
}
__global__ void store_each(float *o)
{
    o[threadIdx.x] = 1.f;
}
__global__ void copy_each(float *o, const float *i)
{
    o[threadIdx.x] = i[threadIdx.x];
}
__global__ void misaligned(float *o)
{
    st_v4(o + 1, make_uint4(0, 0, 0, 0));
}
__constant__ float table[32];
__global__ void read_constant(float *o, int write)
{
    o[threadIdx.x] = table[threadIdx.x & 31];
    if (write)
        const_cast<volatile float *>(table)[0] = 1.f;
}

static void two_blocks_one_element()
{
    launch(store_each, dim3(2), dim3(32), 0, s, g);
}
static void past_the_end()
{
    launch(store_at, dim3(1), dim3(1), 0, s, g, 1024);
}
static void host_memory()
{
    launch(copy_each, dim3(1), dim3(32), 0, s, g, (const float *)h);
}
static void null_pointer()
{
    launch(copy_each, dim3(1), dim3(32), 0, s, g, (const float *)nullptr);
}
static void misaligned_store()
{
    launch(misaligned, dim3(1), dim3(1), 0, s, g);
}
static void too_many_threads()
{
    launch(store_at, dim3(1), dim3(2048), 0, s, g, 0);
}
static void never_written()
{
    float *p;
    cudaMalloc(&p, 128);
    launch(copy_each, dim3(1), dim3(32), 0, s, g, (const float *)p);
}
static void after_free()
{
    float *p;
    cudaMalloc(&p, 128);
    cudaFree(p);
    launch(store_at, dim3(1), dim3(1), 0, s, p, 0);
}
static void constant_memory()
{
    const float values[32] = {3.f};
    cudaMemcpyToSymbol(table, values, sizeof values);
    launch(read_constant, dim3(1), dim3(1024), 0, s, g, 0);
}
static void constant_written()
{
    launch(read_constant, dim3(1), dim3(32), 0, s, g, 1);
}

// ---- warps
__global__ void exchange(float *o, int sync)
{
    SHARED(float, x, [32]);
    x[threadIdx.x] = 1.f;
    if (sync)
        __syncwarp();
    o[threadIdx.x] = x[31 - threadIdx.x];
}
__global__ void shuffle_outside(float *o)
{
    float v = 1.f;
    if (threadIdx.x < 16)
        v = __shfl_sync(0xffffu, v, 20);
    o[threadIdx.x] = v;
}
// What is wrong with a collective: lanes that are not there, a mask without the caller, two of
// them at once under one mask, more masks at once than the emulator keeps.
enum { kHalf, kOutside, kMixed, kMany };
__global__ void collectives(float *o, int wrong)
{
    const unsigned lane = threadIdx.x;
    const uint32_t a[4] = {}, b[2] = {};
    float d[4] = {};
    if (wrong == kHalf && lane < 16)
        mma_m16n8k16_bf16(d, a, b);
    else if (wrong == kOutside)
        __shfl_sync(0xffffu, 1.f, 0);
    else if (wrong == kMixed && lane < 16)
        __ballot_sync(0xffffffffu, (int)lane);
    else if (wrong == kMixed)
        __syncwarp();
    if (wrong == kMany && lane & 1)
        __syncwarp(0xaaaaaaaau);
    if (wrong == kMany)
        __syncwarp(3u << (lane & ~1u));
    o[lane] = d[0];
}

static void collective(int wrong)
{
    launch(collectives, dim3(1), dim3(32), 0, s, g, wrong);
}
static void mma_of_half_a_warp()
{
    collective(kHalf);
}
static void shuffle_outside_its_mask()
{
    collective(kOutside);
}
static void two_collectives()
{
    collective(kMixed);
}
static void collectives_of_many_masks()
{
    collective(kMany);
}
static void exchange_synced()
{
    launch(exchange, dim3(1), dim3(32), 0, s, g, 1);
}
static void exchange_unsynced()
{
    launch(exchange, dim3(1), dim3(32), 0, s, g, 0);
}
static void shuffle_from_outside()
{
    launch(shuffle_outside, dim3(1), dim3(32), 0, s, g);
}

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
    kParity
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
    for (int i = 0; i < n; i++) {
        const int slot = i & 1, round = i >> 1;
        if (wrong != kNoWait)
            mbarrier_wait(&full[slot], (unsigned)round & 1);
        wgmma_fence();
        wgmma_m64n128k16_bf16(d, a, wgmma_desc_sw128(tile[slot]), 1);
        wgmma_commit();
        if (wrong == kEarly)
            mbarrier_arrive(&empty[slot]);
        wgmma_wait<0>();
        if (wrong != kEarly)
            mbarrier_arrive(&empty[slot]);
    }
    o[t] = d[0];
}
__global__ void registers_of_a(float *o, int early)
{
    SHARED_ALIGN(1024, bf16, tile, [128 * 64]);
    float d[64] = {};
    uint32_t a[4] = {0x3f803f80u, 0x3f803f80u, 0x3f803f80u, 0x3f803f80u};
    for (int i = threadIdx.x; i < 128 * 64; i += blockDim.x)
        tile[i] = f2bf(1.f);
    __syncthreads();
    wgmma_fence();
    wgmma_m64n128k16_bf16(d, a, wgmma_desc_sw128(tile), 0);
    wgmma_commit();
    if (early)
        a[1] = threadIdx.x;
    wgmma_wait<0>();
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
    launch(registers_of_a, dim3(1), dim3(128), 0, s, g, 0);
}
static void a_changed_early()
{
    launch(registers_of_a, dim3(1), dim3(128), 0, s, g, 1);
}
static void registers_moved()
{
    launch(move_registers<240, 24>, dim3(1), dim3(384), 0, s, g);
}
static void too_many_registers()
{
    launch(move_registers<240, 40>, dim3(1), dim3(384), 0, s, g);
}

// ---- blocks among each other
// Where fences stand: the writers' before or after the store; with kBoth also the reader's.
enum { kNone, kBefore, kAfter, kBoth };
__global__ void last_block(float *part, float *out, unsigned *n_done, int fence)
{
    SHARED(unsigned, ticket, [1]);
    if (fence == kBefore)
        __threadfence();
    part[blockIdx.x * 32 + threadIdx.x] = (float)blockIdx.x;
    if (fence == kAfter || fence == kBoth)
        __threadfence();
    __syncthreads();
    if (threadIdx.x == 0)
        ticket[0] = atomicAdd(n_done, 1u);
    __syncthreads();
    if (ticket[0] != gridDim.x - 1)
        return;
    if (fence == kBoth)
        __threadfence();
    float sum = 0;
    for (unsigned b = 0; b < gridDim.x; b++)
        sum += part[b * 32 + threadIdx.x];
    out[threadIdx.x] = sum;
}
// Block i waits for block i - 1: blocks must be resident together when they start in reverse.
__global__ void chain(unsigned *turn, unsigned *out)
{
    if (threadIdx.x)
        return;
    while (ld_acquire(turn) != blockIdx.x) {
    }
    out[blockIdx.x] = blockIdx.x;
    st_release(turn, blockIdx.x + 1);
}
__global__ void volatile_flag(volatile unsigned *flag)
{
    if (threadIdx.x == 0) {
        while (*flag == 0) {
        }
    } else if (threadIdx.x == 64) {
        *flag = 1;
    }
}
__global__ void grid_barrier(float *o, unsigned *n_arrived) // all blocks resident
{
    o[blockIdx.x * 32 + threadIdx.x] = (float)blockIdx.x;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        atomicAdd(n_arrived, 1u);
        while (ld_acquire(n_arrived) < gridDim.x) {
        }
    }
    __syncthreads();
    const float v = o[(blockIdx.x + 1) % gridDim.x * 32 + threadIdx.x];
    o[512 + blockIdx.x * 32 + threadIdx.x] = v;
}
__global__ void add_each(float *o)
{
    atomicAdd(o + threadIdx.x, 1.f);
}

static void last_block_fenced()
{
    launch(last_block, dim3(4), dim3(32), 0, s, g, g + 512, u, (int)kBoth);
}
static void last_block_reads_unfenced()
{
    launch(last_block, dim3(4), dim3(32), 0, s, g, g + 512, u, (int)kAfter);
}
static void last_block_unfenced()
{
    launch(last_block, dim3(4), dim3(32), 0, s, g, g + 512, u, (int)kNone);
}
static void last_block_fenced_too_early()
{
    launch(last_block, dim3(4), dim3(32), 0, s, g, g + 512, u, (int)kBefore);
}
static void chain_of_blocks()
{
    simt::cfg.resident = 4;
    launch(chain, dim3(4), dim3(32), 0, s, u, u + 8);
    cudaDeviceSynchronize();
}
static void flag_without_acquire()
{
    launch(volatile_flag, dim3(1), dim3(96), 0, s, u);
}
static void flag_never_set()
{
    simt::cfg.max_yields = 1000;
    launch(volatile_flag, dim3(1), dim3(32), 0, s, u);
    cudaDeviceSynchronize();
}
static void more_threads_than_stacks()
{
    simt::cfg.resident = 64;
    launch(store_at, dim3(64), dim3(1024), 0, s, g, 0);
}
static void grid_wide_barrier()
{
    simt::cfg.resident = 8;
    launch(grid_barrier, dim3(8), dim3(32), 0, s, g, u);
    cudaDeviceSynchronize();
}
static void split_k_atomics()
{
    launch(add_each, dim3(4), dim3(32), 0, s, g);
    launch(copy_each, dim3(1), dim3(32), 0, s, g + 64, (const float *)g);
}

// ---- the host's side
static void copy_past_the_end()
{
    cudaMemcpy(h, g, 4096 + 4, cudaMemcpyDeviceToHost);
}
static void host_dereference()
{
    float *p;
    cudaMalloc(&p, 128);
    const volatile float x = *(volatile float *)p;
    (void)x;
}
static void two_streams(int event)
{
    float *a, *b;
    cudaEvent_t e;
    cudaMalloc(&a, 128);
    cudaMalloc(&b, 128);
    cudaEventCreate(&e);
    cudaMemsetAsync(a, 0, 128, s);
    if (event) {
        cudaEventRecord(e, s);
        cudaStreamWaitEvent(t, e, 0);
    }
    launch(copy_each, dim3(1), dim3(32), 0, t, b, (const float *)a);
    cudaStreamSynchronize(t);
    cudaEventDestroy(e);
}
static void streams_without_event()
{
    two_streams(0);
}
static void streams_with_event()
{
    two_streams(1);
}

struct Product {
    const float *a, *b;
    float *c;
    int n;
};
static void product(void *arg)
{
    const Product &p = *(const Product *)arg;
    for (int i = 0; i < p.n; i++)
        for (int j = 0; j < p.n; j++) {
            double sum = 0;
            for (int k = 0; k < p.n; k++)
                sum += (double)p.a[i * p.n + k] * (double)p.b[k * p.n + j];
            p.c[i * p.n + j] = (float)sum;
        }
}
static void library_then_read(unsigned n)
{
    float *p;
    cudaMalloc(&p, 4096);
    Product arg = {g, g, p, 8};
    const SimtRange reads[1] = {{g, 256}}, writes[1] = {{p, 256}};
    simt_host_op(s, "product", product, &arg, reads, 1, writes, 1);
    launch(copy_each, dim3(1), dim3(n), 0, s, g, (const float *)p);
    cudaDeviceSynchronize();
}
static void library_in_order()
{
    library_then_read(64);
}
static void past_the_library()
{
    library_then_read(65);
}

static const struct {
    const char *what, *want; // "": clean
    void (*run)();
} cases[] = {
    {"last block, fences", "", last_block_fenced},
    {"last block, fence before its reads missing", "RACE", last_block_reads_unfenced},
    {"last block, fence missing", "RACE", last_block_unfenced},
    {"last block, fence before the store", "RACE", last_block_fenced_too_early},
    {"spin across co-resident blocks", "", chain_of_blocks},
    {"volatile flag, no acquire", "RACE", flag_without_acquire},
    {"two blocks write one element", "RACE", two_blocks_one_element},
    {"one element past the end", "OOB", past_the_end},
    {"kernel reads host memory", "WILD", host_memory},
    {"kernel reads null", "WILD", null_pointer},
    {"misaligned 16-byte store", "MISALIGN", misaligned_store},
    {"exchange with __syncwarp", "", exchange_synced},
    {"exchange without __syncwarp", "UNINIT", exchange_unsynced},
    {"shuffle from lane outside the mask", "SHFL", shuffle_from_outside},
    {"mma of half a warp", "DIVERGE", mma_of_half_a_warp},
    {"shuffle by a lane outside its mask", "DIVERGE", shuffle_outside_its_mask},
    {"lanes at two collectives", "DIVERGE", two_collectives},
    {"collectives of 17 masks at once", "LIMIT", collectives_of_many_masks},
    {"cp.async of no bytes: zeros", "", async_of_no_bytes},
    {"cp.async of 20 bytes into 16", "ASYNC", async_of_20_bytes},
    {"cp.async not waited for at the end", "ASYNC", async_at_exit},
    {"barrier of two thread counts", "BARRIER", barrier_of_two_counts},
    {"barrier of one warp and a half", "BARRIER", barrier_of_a_warp_and_a_half},
    {"40000 barriers", "LIMIT", more_barriers_than_clocks},
    {"flag that nobody sets", "LIVELOCK", flag_never_set},
    {"65536 resident threads", "LIMIT", more_threads_than_stacks},
    {"cp.async read before the wait", "INFLIGHT", async_read_before_wait},
    {"cp.async waited, no barrier", "UNINIT", async_without_barrier},
    {"2048 threads", "CONFIG", too_many_threads},
    {"cudaMalloc memory never written", "UNINIT", never_written},
    {"use after cudaFree", "OOB", after_free},
    {"cudaMemcpy past the end", "OOB", copy_past_the_end},
    {"host dereferences device pointer", "HOSTPTR", host_dereference},
    {"streams without an event", "UNINIT", streams_without_event},
    {"streams with an event", "", streams_with_event},
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
    {"bulk copy past the end", "OOB", bulk_past_the_end},
    {"bulk copy on sm_80", "ARCH", bulk_on_sm_80},
    {"registers of A kept until the wait", "", a_kept},
    {"registers of A changed before the wait", "WGMMA", a_changed_early},
    {"registers moved between warps", "", registers_moved},
    {"more registers than there are", "REGS", too_many_registers},
    {"grid barrier, 8 co-resident blocks", "", grid_wide_barrier},
    {"split-K atomics, next launch reads", "", split_k_atomics},
    {"library call in stream order", "", library_in_order},
    {"reads past the library's output", "UNINIT", past_the_library},
    {"constant memory, 1024 threads", "", constant_memory},
    {"kernel writes constant memory", "WILD", constant_written},
};

// The first error of a case under one schedule.
static int check_case(const char *what, const char *want, void (*run)(), int sched)
{
    simt::cfg.sched = sched;
    simt::cfg.resident = 1;
    simt::cfg.max_yields = simt::Config().max_yields;
    cudaMemset(g, 0, 4096);
    cudaMemset(u, 0, 256);
    run();
    cudaDeviceSynchronize();
    const char *got = simt::first_error();
    const int ok = strcmp(got, want) == 0;
    printf("%s  %-42s %-8s %s", ok ? "ok  " : "FAIL", what, simt::sched_names[sched],
           *got ? got : "clean");
    printf(ok ? "\n" : ", expected %s\n", *want ? want : "clean");
    simt::reset_errors();
    return !ok;
}

int main(int argc, char **argv)
{
    int failed = 0, n = 0;
    simt::cfg.quiet = 1;
    simt::cfg.protect = 0; // the host's own fault is to be reported, not to end the test
    cudaMalloc(&g, 4096);
    cudaMalloc(&u, 256);
    h = new float[2048]();
    cudaStreamCreate(&s);
    cudaStreamCreate(&t);
    for (const auto &c : cases) {
        if (argc > 1 && !strstr(c.what, argv[1]))
            continue;
        const int n_sched =
            *c.want ? 1 : simt::N_SCHED; // what a fault shows first depends on the order
        for (int sched = 0; sched < n_sched; sched++, n++)
            failed += check_case(c.what, c.want, c.run, sched);
    }
    printf("%d passed, %d failed\n", n - failed, failed);
    delete[] h;
    return failed ? 1 : n ? 0 : 77;
}
