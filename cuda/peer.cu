/* peer.cu -- cuBLAS, opened when `bench kernels` asks for it, to know what bf16 weights cost on
 * this device. Functions and numbers as cublas_v2.h and library_types.h have them. */
#include "device.h"
#include "library.h"

#include "base/status.h"

typedef void *Handle;

struct Cublas {
    int (*create)(Handle *h);
    int (*set_stream)(Handle h, cudaStream_t s);
    int (*set_workspace)(Handle h, void *p, size_t bytes);
    int (*gemm_ex)(Handle h, int op_a, int op_b, int m, int n, int k, const void *alpha,
                   const void *a, int type_a, int lda, const void *b, int type_b, int ldb,
                   const void *beta, void *c, int type_c, int ldc, int compute, int algorithm);
    Handle handle;
    void *workspace; /* of our own: the library's default one is allocated within a recording */
};
constexpr size_t kWorkspace = (size_t)32 << 20; /* what the vendor advises for Hopper */
enum { kOpN = 0, kOpT = 1, kBf16 = 14 /* CUDA_R_16BF */, kCompute32F = 68, kDefault = -1 };

/* One a process; it stays open. */
static const Cublas *cublas(void)
{
    static Cublas c;
    static bool there;
    static std::once_flag once;
    std::call_once(once, [] {
        static const char *const file[] = {"libcublas.so.13", "libcublas.so.12",
                                           "/usr/local/cuda/lib64/libcublas.so", NULL};
        const nb_cuda_symbol want[] = {{"cublasCreate_v2", &c.create},
                                       {"cublasSetStream_v2", &c.set_stream},
                                       {"cublasSetWorkspace_v2", &c.set_workspace},
                                       {"cublasGemmEx", &c.gemm_ex}};
        there = nb_cuda_library(file, want, 4) && c.create(&c.handle) == 0 &&
                cudaMalloc(&c.workspace, kWorkspace) == cudaSuccess;
    });
    return there ? &c : NULL;
}

/* cuBLAS counts columns first: its matrices are ours transposed, y^T [N, M] = w [N, K] x^T [K,
 * M]. */
nb_status nb_cuda_peer_bf16(nb_backend *be, int64_t M, int64_t N, int64_t K, const void *x,
                            const void *w, void *y, nb_error *err)
{
    const float one = 1.0f, zero = 0.0f;
    const Cublas *c = cublas();
    if (!c)
        return nb_fail(err, NB_UNSUPPORTED, "%s: cuBLAS is not there", be->name);
    int e = c->set_stream(c->handle, nb_cuda_of(be)->stream);
    if (e == 0) /* another stream is another workspace */
        e = c->set_workspace(c->handle, c->workspace, kWorkspace);
    if (e == 0)
        e = c->gemm_ex(c->handle, kOpT, kOpN, (int)N, (int)M, (int)K, &one, w, kBf16, (int)K, x,
                       kBf16, (int)K, &zero, y, kBf16, (int)N, kCompute32F, kDefault);
    return e ? nb_fail(err, NB_DEVICE, "%s: cuBLAS refuses a product of %lld x %lld x %lld (%d)",
                       be->name, (long long)M, (long long)N, (long long)K, e)
             : NB_OK;
}
