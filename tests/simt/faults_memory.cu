// faults_memory.cu -- memory, warps, and the host's side: streams, copies, libraries.
#include "faults.h"

// ---- memory
__global__ void store_each(float *o)
{
    o[threadIdx.x] = 1.f;
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

const Case memory_cases[] = {
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
    {"2048 threads", "CONFIG", too_many_threads},
    {"cudaMalloc memory never written", "UNINIT", never_written},
    {"use after cudaFree", "OOB", after_free},
    {"cudaMemcpy past the end", "OOB", copy_past_the_end},
    {"host dereferences device pointer", "HOSTPTR", host_dereference},
    {"streams without an event", "UNINIT", streams_without_event},
    {"streams with an event", "", streams_with_event},
    {"library call in stream order", "", library_in_order},
    {"reads past the library's output", "UNINIT", past_the_library},
    {"constant memory, 1024 threads", "", constant_memory},
    {"kernel writes constant memory", "WILD", constant_written},
    {nullptr, nullptr, nullptr},
};
