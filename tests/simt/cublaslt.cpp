// cublaslt.cpp -- a stand-in for libcublasLt: the functions that cuda/linear/cublaslt.cu looks for, so
// that the host code of the product is what runs. Numbers are those of cublasLt.h, cublas_api.h and
// library_types.h; only bf16 times bf16 into f32 is there, with sums in f32 in the order of K.
//
// Stricter than the library: an algorithm serves the one description it was proposed for, wants
// pointers and leading dimensions at multiples of 16 bytes and kNeeded bytes of workspace, all of
// which it overwrites. Whoever allows sums of parts gets one whose order of summation changes from call to call.
#include "simt_runtime.h"

using namespace simt;

namespace
{
enum Status { kOk = 0, kInvalid = 7, kUnsupported = 15 };
enum { kF32 = 0, kBf16 = 14, kCompute32F = 68 };
enum { kColumns = 0, kRows = 1 }; // CUBLASLT_ORDER_COL, CUBLASLT_ORDER_ROW
constexpr u64 kNeeded = 4096, kMagic = 0x6c74616c676fu;
constexpr u64 kMostColumns = 1 << 20;
constexpr size_t kAlign = 16;

struct Handle : Kept {
    u64 magic;
};
struct Desc : Kept {
    int32_t trans[2];
};
struct Layout : Kept {
    int32_t type, order;
    u64 rows, cols;
    int64_t ld;
    size_t element() const
    {
        return type == kF32 ? 4 : 2;
    }
    u64 lines() const // stretches without a gap, ld apart
    {
        return order == kColumns ? cols : rows;
    }
    u64 line() const
    {
        return order == kColumns ? rows : cols;
    }
    size_t at(u64 r, u64 c) const
    {
        return order == kColumns ? c * (u64)ld + r : r * (u64)ld + c;
    }
    std::vector<SimtRange> ranges(const void *p) const
    {
        std::vector<SimtRange> all;
        for (u64 i = 0; i < lines(); i++)
            all.push_back({(char *)p + i * (u64)ld * element(), line() * element()});
        return all;
    }
};
struct Preference : Kept {
    u64 workspace = 0;
    u32 reductions = 7, align[4] = {256, 256, 256, 256};
};
struct Algorithm { // what the 64 bytes hold
    u64 magic, m, n, k, words, promised, workspace, by_arrival;
};
static_assert(sizeof(Algorithm) == 64, "cublasLtMatmulAlgo_t");
struct Proposal {
    Algorithm algorithm;
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
};

// A value of the size that the attribute has.
template <class T> int set(T *to, const void *value, size_t bytes)
{
    if (!value || bytes != sizeof *to)
        return kInvalid;
    memcpy(to, value, sizeof *to);
    return kOk;
}

int create(Handle **h)
{
    *h = new Handle{{}, kMagic};
    return kOk;
}
int destroy(Handle *h)
{
    if (!h || h->magic != kMagic)
        return kInvalid;
    h->magic = 0;
    delete h;
    return kOk;
}
size_t version()
{
    return 0; // of no CUDA
}

int desc_create(Desc **d, int compute, int scale)
{
    if (compute != kCompute32F || scale != kF32)
        return kUnsupported;
    *d = new Desc{};
    return kOk;
}
int desc_destroy(Desc *d)
{
    delete d;
    return kOk;
}
int desc_set(Desc *d, int attribute, const void *value, size_t bytes)
{
    int32_t v = 0;
    if (attribute != 3 && attribute != 4) // CUBLASLT_MATMUL_DESC_TRANSA, TRANSB
        return kInvalid;
    const int e = set(&v, value, bytes);
    if (e != kOk || v < 0 || v > 1)
        return kInvalid;
    d->trans[attribute - 3] = v;
    return kOk;
}

int layout_create(Layout **l, int type, u64 rows, u64 cols, int64_t ld)
{
    if ((type != kBf16 && type != kF32) || !rows || !cols || ld < 1)
        return kInvalid;
    *l = new Layout{{}, type, kColumns, rows, cols, ld};
    return kOk;
}
int layout_destroy(Layout *l)
{
    delete l;
    return kOk;
}
int layout_set(Layout *l, int attribute, const void *value, size_t bytes)
{
    int32_t order = 0;
    if (attribute != 1 || set(&order, value, bytes) != kOk || (order != kColumns && order != kRows))
        return kInvalid; // CUBLASLT_MATRIX_LAYOUT_ORDER alone
    l->order = order;
    return kOk;
}

int preference_create(Preference **p)
{
    *p = new Preference;
    return kOk;
}
int preference_destroy(Preference *p)
{
    delete p;
    return kOk;
}
int preference_set(Preference *p, int attribute, const void *value, size_t bytes)
{
    if (attribute == 1)
        return set(&p->workspace, value, bytes);
    if (attribute == 3)
        return set(&p->reductions, value, bytes);
    return attribute >= 5 && attribute <= 8 ? set(&p->align[attribute - 5], value, bytes)
                                            : (int)kInvalid;
}

// Sizes of the product, 0 where the descriptions do not fit together.
struct Sizes {
    u64 m, n, k;
};
Sizes sizes_of(const Desc *d, const Layout *a, const Layout *b, const Layout *c, const Layout *y)
{
    const u64 m = d->trans[0] ? a->cols : a->rows, k = d->trans[0] ? a->rows : a->cols;
    const u64 n = d->trans[1] ? b->rows : b->cols, in = d->trans[1] ? b->cols : b->rows;
    const bool fit = k == in && y->rows == m && y->cols == n && c->rows == m && c->cols == n &&
                     a->type == kBf16 && b->type == kBf16 && c->type == kF32 && y->type == kF32;
    for (const Layout *l : {a, b, c, y})
        if ((u64)l->ld < l->line())
            return {0, 0, 0};
    return fit ? Sizes{m, n, k} : Sizes{0, 0, 0};
}

// All that an algorithm depends on besides the sizes.
u64 words_of(const Desc *d, const Layout *a, const Layout *b, const Layout *c, const Layout *y)
{
    u64 h = (u64)(d->trans[0] * 2 + d->trans[1]);
    for (const Layout *l : {a, b, c, y})
        h = (h * 1000003 + (u64)l->ld) * 31 + (u64)l->order;
    return h;
}

int propose(Handle *h, Desc *d, Layout *a, Layout *b, Layout *c, Layout *y, Preference *p,
            int asked, Proposal *to, int *n)
{
    *n = 0;
    if (!h || h->magic != kMagic || !d || !a || !b || !c || !y || !p || asked < 1)
        return kInvalid;
    const Sizes s = sizes_of(d, a, b, c, y);
    if (!s.m)
        return kInvalid;
    const Layout *all[] = {a, b, c, y};
    u64 promised = 0;
    for (int i = 0; i < 4; i++) {
        if (p->align[i] < kAlign || (u64)all[i]->ld * all[i]->element() % kAlign)
            return kUnsupported;
        promised |= (u64)p->align[i] << (16 * i);
    }
    if (p->workspace < kNeeded)
        return kUnsupported;
    // too many columns for any: the proposal says so, not the call
    const bool some = s.n <= kMostColumns;
    *to = {{some ? kMagic : 0u, s.m, s.n, s.k, words_of(d, a, b, c, y), promised, kNeeded,
            p->reductions != 0},
           kNeeded,
           some ? kOk : kUnsupported,
           1.0f,
           {}};
    *n = 1;
    return kOk;
}

struct Call {
    Sizes s;
    Layout a, b, c, y;
    bool trans[2], backwards;
    const char *pa, *pb, *pc;
    char *py, *workspace;
    u64 workspace_bytes;
    float alpha, beta;
    static std::vector<float> values(const Layout &l, const char *p,
                                     bool turned) // [n][k]: K without a gap
    {
        const u64 n = turned ? l.rows : l.cols, k = turned ? l.cols : l.rows;
        std::vector<float> v(n * k);
        for (u64 i = 0; i < n; i++)
            for (u64 j = 0; j < k; j++)
                v[i * k + j] =
                    bf16_value(((const u16 *)(const void *)p)[turned ? l.at(i, j) : l.at(j, i)]);
        return v;
    }
    void run() const
    {
        const std::vector<float> va = values(a, pa, !trans[0]), vb = values(b, pb, trans[1]);
        memset(workspace, 0xff, workspace_bytes);
        for (u64 j = 0; j < s.n; j++)
            for (u64 i = 0; i < s.m; i++) {
                float sum = 0;
                for (u64 k = 0; k < s.k; k++) {
                    const u64 at = backwards ? s.k - 1 - k : k;
                    sum += va[i * s.k + at] * vb[j * s.k + at];
                }
                float *to = (float *)(void *)py + y.at(i, j);
                *to = alpha * sum +
                      (beta != 0 ? beta * ((const float *)(const void *)pc)[c.at(i, j)] : 0.0f);
            }
    }
};

int multiply(Handle *h, Desc *d, const void *alpha, const void *pa, Layout *a, const void *pb,
             Layout *b, const void *beta, const void *pc, Layout *c, void *py, Layout *y,
             const Algorithm *g, void *workspace, size_t workspace_bytes, cudaStream_t stream)
{
    static unsigned n_call;
    if (!h || h->magic != kMagic || !d || !alpha || !beta || !a || !b || !c || !y || !pa || !pb ||
        !pc || !py || !g || g->magic != kMagic)
        return kInvalid;
    const Sizes s = sizes_of(d, a, b, c, y);
    if (!s.m || s.m != g->m || s.n != g->n || s.k != g->k || words_of(d, a, b, c, y) != g->words)
        return kInvalid;
    const void *all[] = {pa, pb, pc, py};
    for (int i = 0; i < 4; i++)
        if ((uptr)all[i] % (g->promised >> (16 * i) & 0xffff))
            return kInvalid;
    if (!workspace || workspace_bytes < g->workspace || (uptr)workspace % 256)
        return kInvalid;
    float scale[2];
    memcpy(&scale[0], alpha, sizeof scale[0]);
    memcpy(&scale[1], beta, sizeof scale[1]);
    const Call call = {s,
                       *a,
                       *b,
                       *c,
                       *y,
                       {d->trans[0] != 0, d->trans[1] != 0},
                       g->by_arrival && n_call++ % 2,
                       (const char *)pa,
                       (const char *)pb,
                       (const char *)pc,
                       (char *)py,
                       (char *)workspace,
                       workspace_bytes,
                       scale[0],
                       scale[1]};
    std::vector<SimtRange> in = a->ranges(pa), out = y->ranges(py);
    for (const SimtRange &r : b->ranges(pb))
        in.push_back(r);
    for (const SimtRange &r : scale[1] != 0 ? c->ranges(pc) : std::vector<SimtRange>())
        in.push_back(r);
    out.push_back({workspace, workspace_bytes});
    host_op(
        stream, "cublasLtMatmul", [call] { call.run(); }, in, out);
    return kOk;
}

const struct {
    const char *name;
    void *function;
} functions[] = {
    {"cublasLtCreate", (void *)create},
    {"cublasLtDestroy", (void *)destroy},
    {"cublasLtGetVersion", (void *)version},
    {"cublasLtMatmulDescCreate", (void *)desc_create},
    {"cublasLtMatmulDescDestroy", (void *)desc_destroy},
    {"cublasLtMatmulDescSetAttribute", (void *)desc_set},
    {"cublasLtMatrixLayoutCreate", (void *)layout_create},
    {"cublasLtMatrixLayoutDestroy", (void *)layout_destroy},
    {"cublasLtMatrixLayoutSetAttribute", (void *)layout_set},
    {"cublasLtMatmulPreferenceCreate", (void *)preference_create},
    {"cublasLtMatmulPreferenceDestroy", (void *)preference_destroy},
    {"cublasLtMatmulPreferenceSetAttribute", (void *)preference_set},
    {"cublasLtMatmulAlgoGetHeuristic", (void *)propose},
    {"cublasLtMatmul", (void *)multiply},
};
} // namespace

void *gpu_library(const char *file)
{
    return cfg.libraries && strcmp(file, "libcublasLt.so.13") == 0 ? (void *)functions : nullptr;
}

void *gpu_symbol(void *library, const char *name)
{
    for (const auto &f : functions)
        if (library == (const void *)functions && strcmp(f.name, name) == 0)
            return f.function;
    return nullptr;
}
