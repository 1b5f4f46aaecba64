// module.cu -- a module as libnibble_simt.so is one: kernels and launch code behind a C API,
// opened by a plain C program (module.c). Each function returns a cudaError_t.
#include "gpu.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

__global__ void scale(float *y, const float *x, float by, int n)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        y[i] = by * x[i];
}
__global__ void store_past(float *y, int n)
{
    y[n] = 1.f; // the line that the report names
}

struct Job {
    cudaStream_t stream;
    float *x, *y;
    int n;
};
static Job job;

EXPORT int module_open(int n)
{
    job.n = n;
    cudaError_t e = cudaStreamCreate(&job.stream);
    if (e == cudaSuccess)
        e = cudaMalloc(&job.x, n * sizeof(float));
    if (e == cudaSuccess)
        e = cudaMalloc(&job.y, n * sizeof(float));
    return e;
}

EXPORT int module_upload(const float *x)
{
    return cudaMemcpyAsync(job.x, x, job.n * sizeof(float), cudaMemcpyHostToDevice, job.stream);
}

EXPORT int module_scale(float by)
{
    return launch(scale, dim3((job.n + 63) / 64), dim3(64), 0, job.stream, job.y, job.x, by, job.n);
}

EXPORT int module_clear()
{
    return cudaMemsetAsync(job.y, 0, job.n * sizeof(float), job.stream);
}

EXPORT int module_download(float *y)
{
    return cudaMemcpyAsync(y, job.y, job.n * sizeof(float), cudaMemcpyDeviceToHost, job.stream);
}

// Launches a kernel that stores behind the output, waits, gives the sentence.
EXPORT int module_fault(char *message, size_t n)
{
    launch(store_past, dim3(1), dim3(1), 0, job.stream, job.y, job.n);
    const cudaError_t e = cudaStreamSynchronize(job.stream);
    snprintf(message, n, "%s", cudaGetErrorString(e));
    simt::reset_errors();
    return e;
}

EXPORT int module_bad_launch()
{
    simt::cfg.quiet = 1;
    const cudaError_t e =
        launch(scale, dim3(1), dim3(1025), 0, job.stream, job.y, job.x, 1.f, job.n);
    simt::cfg.quiet = 0;
    simt::reset_errors();
    return e;
}

// Allocates `bytes` under a limit that leaves `room` beside x and y; *free_bytes as told before,
// *last_error as CUDA keeps it.
EXPORT int module_allocate(size_t bytes, size_t room, size_t *free_bytes, int *last_error)
{
    void *p = nullptr;
    size_t total_bytes;
    cudaGetLastError();
    simt::cfg.memory_limit = 2 * job.n * sizeof(float) + room;
    cudaMemGetInfo(free_bytes, &total_bytes);
    const cudaError_t e = cudaMalloc(&p, bytes);
    *last_error = cudaGetLastError();
    cudaFree(p);
    simt::cfg.memory_limit = 0;
    return e;
}

EXPORT int module_device(char *name, size_t n, int *major, int *n_sm, size_t *bytes)
{
    cudaDeviceProp p;
    int n_device = 0;
    if (cudaGetDeviceCount(&n_device) != cudaSuccess || n_device != 2)
        return cudaErrorNoDevice;
    const cudaError_t e = cudaGetDeviceProperties(&p, 0);
    snprintf(name, n, "%s", p.name);
    *major = p.major;
    *n_sm = p.multiProcessorCount;
    *bytes = p.totalGlobalMem;
    return e;
}

EXPORT int module_elapsed(float *ms)
{
    cudaEvent_t from, to;
    cudaEventCreate(&from);
    cudaEventCreate(&to);
    cudaEventRecord(from, job.stream);
    cudaEventRecord(to, job.stream);
    cudaEventSynchronize(to);
    const cudaError_t e = cudaEventElapsedTime(ms, from, to);
    cudaEventDestroy(from);
    cudaEventDestroy(to);
    return e;
}

// A capture that does what is not allowed in one: the call's error, the next launch's, the end's.
EXPORT int module_refused(int what, int *call, int *next)
{
    cudaGraph_t graph = nullptr;
    float *p = nullptr;
    float host = 0;
    cudaStreamBeginCapture(job.stream, cudaStreamCaptureModeThreadLocal);
    module_scale(1.f);
    switch (what) {
    case 0:
        *call = cudaMalloc(&p, 64);
        break;
    case 1:
        *call = cudaStreamSynchronize(job.stream);
        break;
    case 2:
        *call = cudaMemcpy(job.x, &host, sizeof host, cudaMemcpyHostToDevice);
        break;
    case 3:
        *call = cudaFree(job.x);
        break;
    default:
        *call = cudaDeviceSynchronize();
    }
    *next = module_scale(1.f);
    const cudaError_t e = cudaStreamEndCapture(job.stream, &graph);
    cudaGetLastError();
    return graph ? cudaSuccess : e;
}

// One of each thing that a program has to give back, and that it does.
EXPORT int module_keeps(int give_back)
{
    cudaGraph_t graph;
    cudaStream_t stream;
    cudaEvent_t event;
    void *device, *pinned;
    cudaMalloc(&device, 64);
    cudaMallocHost(&pinned, 64);
    cudaStreamCreate(&stream);
    cudaEventCreate(&event);
    cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
    const cudaError_t e = cudaStreamEndCapture(stream, &graph);
    if (!give_back)
        return e;
    cudaGraphDestroy(graph);
    cudaEventDestroy(event);
    cudaStreamDestroy(stream);
    cudaFreeHost(pinned);
    return cudaFree(device);
}

// Two launches captured once, launched twice: y = x by the second time as by the first.
EXPORT int module_graph(float by)
{
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaStreamBeginCapture(job.stream, cudaStreamCaptureModeThreadLocal);
    module_scale(by);
    launch(scale, dim3(1), dim3(64), 0, job.stream, job.x, job.y, 1.f, job.n);
    cudaStreamEndCapture(job.stream, &graph);
    cudaGraphInstantiate(&exec, graph, 0);
    cudaGraphLaunch(exec, job.stream);
    cudaGraphLaunch(exec, job.stream);
    const cudaError_t e = cudaStreamSynchronize(job.stream);
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
    return e;
}
