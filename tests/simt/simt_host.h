// simt_host.h -- the subset of the CUDA runtime API that launch code uses. Numbers of errors and
// attributes are CUDA's. Streams are lazy: work runs when something waits for it (host.cpp).
#pragma once
#include "simt_device.h"

typedef int cudaError_t;
typedef struct SimtStream *cudaStream_t;
typedef struct SimtEvent *cudaEvent_t;
typedef struct SimtGraph *cudaGraph_t;
typedef struct SimtGraph *cudaGraphExec_t;
enum {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorNoDevice = 100,
    cudaErrorInvalidDevice = 101,
    cudaErrorInvalidResourceHandle = 400, // a stream of another device than the thread's
    cudaErrorStreamCaptureUnsupported = 900,
    cudaErrorStreamCaptureInvalidated = 901,
    cudaErrorStreamCaptureImplicit = 906,
    cudaErrorIllegalAddress = 700 // here: a check failed, simt::first_message() says which
};
enum cudaMemcpyKind {
    cudaMemcpyHostToHost,
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice,
    cudaMemcpyDefault
};
enum {
    cudaStreamCaptureModeGlobal,
    cudaStreamCaptureModeThreadLocal,
    cudaStreamCaptureModeRelaxed
};
enum { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum { cudaStreamDefault = 0, cudaStreamNonBlocking = 1 };
enum { cudaEventDefault = 0, cudaEventBlockingSync = 1, cudaEventDisableTiming = 2 };

struct cudaDeviceProp {
    char name[256];
    size_t totalGlobalMem;
    size_t sharedMemPerBlock, sharedMemPerBlockOptin, sharedMemPerMultiprocessor;
    int major, minor, multiProcessorCount, warpSize, maxThreadsPerBlock, l2CacheSize;
};

// ---- device
cudaError_t cudaGetDeviceCount(int *n);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDevice(int *device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device);
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();
const char *cudaGetErrorString(cudaError_t e);

// ---- memory: pageable sources are copied at the call, pinned ones are read when the copy runs
cudaError_t cudaMalloc(void **p, size_t n);
cudaError_t cudaFree(void *p);
cudaError_t cudaMallocHost(void **p, size_t n);
cudaError_t cudaFreeHost(void *p);
cudaError_t cudaMemcpyAsync(void *d, const void *s, size_t n, cudaMemcpyKind k, cudaStream_t st);
cudaError_t cudaMemcpy(void *d, const void *s, size_t n, cudaMemcpyKind k);
cudaError_t cudaMemsetAsync(void *d, int v, size_t n, cudaStream_t st);
cudaError_t cudaMemset(void *d, int v, size_t n);
template <class T> cudaError_t cudaMalloc(T **p, size_t n)
{
    return cudaMalloc((void **)p, n);
}
template <class T> cudaError_t cudaMallocHost(T **p, size_t n)
{
    return cudaMallocHost((void **)p, n);
}
cudaError_t simt_to_symbol(void *d, const void *s, size_t n);
template <class T> cudaError_t cudaMemcpyToSymbol(T &symbol, const void *s, size_t n)
{
    return simt_to_symbol((void *)&symbol, s, n);
}

// ---- streams, events, graphs
cudaError_t cudaStreamCreate(cudaStream_t *s);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t s);
cudaError_t cudaStreamSynchronize(cudaStream_t s);
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned flags = 0);
cudaError_t cudaEventCreate(cudaEvent_t *e);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t e);
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s = nullptr);
cudaError_t cudaEventSynchronize(cudaEvent_t e);
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to); // 0: no clock here
cudaError_t cudaStreamBeginCapture(cudaStream_t s, int mode);
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *e, cudaGraph_t g, unsigned long long flags = 0);
cudaError_t cudaGraphLaunch(cudaGraphExec_t e, cudaStream_t s);
cudaError_t cudaGraphDestroy(cudaGraph_t g);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t e);

// ---- kernels and libraries
cudaError_t simt_func_smem(const void *f, int bytes);
template <class F> cudaError_t cudaFuncSetAttribute(F *f, int, int v)
{
    return simt_func_smem((const void *)f, v);
}

template <class... P> bool gpu_has_body(void (*)(P...))
{
    return true;
}

// A call of a vendor library: a host function in stream order with declared device ranges.
struct SimtRange {
    void *p;
    size_t n;
};
void simt_host_op(cudaStream_t s, const char *name, void (*fn)(void *), void *arg,
                  const SimtRange *reads, int n_read, const SimtRange *writes, int n_write);

// A vendor's library by its file name, NULL when there is no stand-in; a function of it (cublaslt.cpp).
void *gpu_library(const char *file);
void *gpu_symbol(void *library, const char *name);

// Row-major bf16 [rows][cols], pitch in bytes, boxes of [box_rows][box_cols]; 0 or -1.
int gpu_tensormap_2d(CUtensorMap *m, void *base, uint64_t cols, uint64_t rows, uint64_t pitch,
                     unsigned box_cols, unsigned box_rows);
