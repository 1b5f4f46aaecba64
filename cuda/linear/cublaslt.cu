/* cublaslt.cu -- the few functions of cuBLASLt that a product takes. Their types and numbers as
 * cublasLt.h, cublas_api.h and library_types.h of CUDA 12 and 13 have them: descriptors are
 * handles, an algorithm is 64 bytes that only the library reads. */
#include "linear/cublaslt.h"

#include "library.h"

#include "base/status.h"

#include <map>
#include <new>
#include <tuple>

typedef void *Handle;

enum {
    kBf16 = 14 /* CUDA_R_16BF */,
    kF32 = 0 /* CUDA_R_32F */,
    kCompute32F = 68 /* CUBLAS_COMPUTE_32F */,
    kOpT = 1 /* CUBLAS_OP_T */
};
enum { kTransA = 3 /* CUBLASLT_MATMUL_DESC_TRANSA */ };
enum {                    /* CUBLASLT_MATMUL_PREF_ ... */
       kMaxWorkspace = 1, /* MAX_WORKSPACE_BYTES, u64 */
       kReductions = 3,   /* REDUCTION_SCHEME_MASK, u32: 0 is no sum of parts */
       kAlignA = 5,       /* MIN_ALIGNMENT_A_BYTES, u32; B, C, D follow */
};
constexpr int kAlign[4] = {256, 256, 16, 16};

struct Algorithm {
    uint64_t data[8];
};
struct Proposal { /* cublasLtMatmulHeuristicResult_t */
    Algorithm algorithm;
    size_t workspace_bytes;
    int state;
    float waves;
    int reserved[4];
};
static_assert(sizeof(Proposal) == 64 + 8 + 4 + 4 + 16, "as the library writes it");

struct Functions {
    int (*create)(Handle *lt);
    int (*destroy)(Handle lt);
    size_t (*version)(void);
    int (*desc_create)(Handle *desc, int compute, int scale);
    int (*desc_destroy)(Handle desc);
    int (*desc_set)(Handle desc, int attribute, const void *value, size_t bytes);
    int (*layout_create)(Handle *layout, int type, uint64_t rows, uint64_t cols, int64_t ld);
    int (*layout_destroy)(Handle layout);
    int (*preference_create)(Handle *preference);
    int (*preference_destroy)(Handle preference);
    int (*preference_set)(Handle preference, int attribute, const void *value, size_t bytes);
    int (*propose)(Handle lt, Handle desc, Handle a, Handle b, Handle c, Handle d,
                   Handle preference, int n_asked, Proposal *to, int *n);
    int (*multiply)(Handle lt, Handle desc, const void *alpha, const void *a, Handle a_layout,
                    const void *b, Handle b_layout, const void *beta, const void *c,
                    Handle c_layout, void *d, Handle d_layout, const Algorithm *algorithm,
                    void *workspace, size_t workspace_bytes, cudaStream_t stream);
};

/* N, M, K, ldy */
typedef std::tuple<int64_t, int64_t, int64_t, int64_t> Key;

struct Known {
    bool there;
    Algorithm algorithm;
};

struct nb_lt {
    Functions f;
    Handle handle;
    char name[32];
    std::mutex lock; /* of what follows: sessions run in parallel */
    std::map<Key, Known> known;
};

static bool find(Functions *f)
{
    static const char *const file[] = {"libcublasLt.so.13", "libcublasLt.so.12",
                                       "/usr/local/cuda/lib64/libcublasLt.so", NULL};
    const nb_cuda_symbol want[] = {{"cublasLtCreate", &f->create},
                                   {"cublasLtDestroy", &f->destroy},
                                   {"cublasLtGetVersion", &f->version},
                                   {"cublasLtMatmulDescCreate", &f->desc_create},
                                   {"cublasLtMatmulDescDestroy", &f->desc_destroy},
                                   {"cublasLtMatmulDescSetAttribute", &f->desc_set},
                                   {"cublasLtMatrixLayoutCreate", &f->layout_create},
                                   {"cublasLtMatrixLayoutDestroy", &f->layout_destroy},
                                   {"cublasLtMatmulPreferenceCreate", &f->preference_create},
                                   {"cublasLtMatmulPreferenceDestroy", &f->preference_destroy},
                                   {"cublasLtMatmulPreferenceSetAttribute", &f->preference_set},
                                   {"cublasLtMatmulAlgoGetHeuristic", &f->propose},
                                   {"cublasLtMatmul", &f->multiply}};
    return nb_cuda_library(file, want, (int)(sizeof want / sizeof *want));
}

static nb_lt *open_library(void)
{
    nb_lt *lt = new (std::nothrow) nb_lt();
    if (!lt)
        return NULL;
    if (!find(&lt->f) || lt->f.create(&lt->handle) != 0) {
        delete lt;
        return NULL;
    }
    const size_t v = lt->f.version(); /* 120304: 12.3.4 */
    snprintf(lt->name, sizeof lt->name, "%d.%d.%d", (int)(v / 10000), (int)(v / 100 % 100),
             (int)(v % 100));
    return lt;
}

nb_lt *nb_lt_of(nb_backend *be)
{
    nb_cuda *c = nb_cuda_of(be);
    nb_cuda_here(be);
    std::call_once(c->lt_asked, [c] { c->lt = open_library(); });
    return c->lt;
}

void nb_lt_close(nb_lt *lt)
{
    if (!lt)
        return;
    (void)lt->f.destroy(lt->handle);
    delete lt;
}

const char *nb_cuda_product_library(nb_backend *be)
{
    const nb_lt *lt = nb_lt_of(be);
    return lt ? lt->name : NULL;
}

/* What a call describes. The library counts columns first, so its matrices are ours transposed: y^T
 * [N,M] = w [N,K] x^T [K,M], where w^T [K,N] is what lies in memory by columns, and x^T [K,M]
 * too. */
struct Words {
    const Functions *f;
    Handle desc = NULL, w = NULL, x = NULL, y = NULL;
    int e;
    Words(const Functions *functions, const nb_lt_shape *s) : f(functions)
    {
        const int32_t transposed = kOpT;
        e = f->desc_create(&desc, kCompute32F, kF32);
        if (e == 0)
            e = f->desc_set(desc, kTransA, &transposed, sizeof transposed);
        if (e == 0)
            e = f->layout_create(&w, kBf16, (uint64_t)s->K, (uint64_t)s->N, s->K);
        if (e == 0)
            e = f->layout_create(&x, kBf16, (uint64_t)s->K, (uint64_t)s->M, s->K);
        if (e == 0)
            e = f->layout_create(&y, kF32, (uint64_t)s->N, (uint64_t)s->M, s->ldy);
    }
    ~Words()
    {
        if (y)
            (void)f->layout_destroy(y);
        if (x)
            (void)f->layout_destroy(x);
        if (w)
            (void)f->layout_destroy(w);
        if (desc)
            (void)f->desc_destroy(desc);
    }
    Words(const Words &) = delete;
    Words &operator=(const Words &) = delete;
};

static Known ask(const nb_lt *lt, const nb_lt_shape *s)
{
    const Functions *f = &lt->f;
    const Words words(f, s);
    const uint64_t workspace = kLtWorkspace;
    const uint32_t reductions = 0;
    Handle preference = NULL;
    Proposal p = {};
    int n = 0, e = words.e;
    if (e == 0)
        e = f->preference_create(&preference);
    if (e == 0)
        e = f->preference_set(preference, kMaxWorkspace, &workspace, sizeof workspace);
    if (e == 0)
        e = f->preference_set(preference, kReductions, &reductions, sizeof reductions);
    for (int i = 0; i < 4 && e == 0; i++) {
        const uint32_t align = (uint32_t)kAlign[i];
        e = f->preference_set(preference, kAlignA + i, &align, sizeof align);
    }
    if (e == 0)
        e = f->propose(lt->handle, words.desc, words.w, words.x, words.y, words.y, preference, 1,
                       &p, &n);
    if (preference)
        (void)f->preference_destroy(preference);
    return {e == 0 && n == 1 && p.state == 0 && p.workspace_bytes <= kLtWorkspace, p.algorithm};
}

static Known known(nb_lt *lt, const nb_lt_shape *s)
{
    const std::lock_guard<std::mutex> lock(lt->lock);
    const Key key(s->N, s->M, s->K, s->ldy);
    const auto at = lt->known.find(key);
    return at != lt->known.end() ? at->second : lt->known[key] = ask(lt, s);
}

bool nb_lt_serves(nb_lt *lt, const nb_lt_shape *s)
{
    return known(lt, s).there;
}

nb_status nb_lt_product(nb_backend *be, nb_lt *lt, const nb_lt_shape *s, const void *x,
                        const void *w, float *y, bool add, void *workspace, nb_error *err)
{
    const float one = 1.0f, beta = add ? 1.0f : 0.0f; /* 0: y is not read */
    const Known k = known(lt, s);
    const Words words(&lt->f, s);
    int e = k.there ? words.e : -1;
    if (e == 0)
        e = lt->f.multiply(lt->handle, words.desc, &one, w, words.w, x, words.x, &beta, y, words.y,
                           y, words.y, &k.algorithm, workspace, kLtWorkspace,
                           nb_cuda_of(be)->stream);
    return e ? nb_fail(err, NB_DEVICE, "%s: cuBLASLt refuses a product of %lld x %lld x %lld (%d)",
                       be->name, (long long)s->M, (long long)s->N, (long long)s->K, e)
             : NB_OK;
}
