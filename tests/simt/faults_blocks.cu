// faults_blocks.cu -- blocks that wait for each other, or should.
#include "faults.h"

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

const Case block_cases[] = {
    {"last block, fences", "", last_block_fenced},
    {"last block, fence before its reads missing", "RACE", last_block_reads_unfenced},
    {"last block, fence missing", "RACE", last_block_unfenced},
    {"last block, fence before the store", "RACE", last_block_fenced_too_early},
    {"spin across co-resident blocks", "", chain_of_blocks},
    {"volatile flag, no acquire", "RACE", flag_without_acquire},
    {"flag that nobody sets", "LIVELOCK", flag_never_set},
    {"65536 resident threads", "LIMIT", more_threads_than_stacks},
    {"grid barrier, 8 co-resident blocks", "", grid_wide_barrier},
    {"split-K atomics, next launch reads", "", split_k_atomics},
    {nullptr, nullptr, nullptr},
};
