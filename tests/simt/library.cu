// library.cu -- the stand-in for cuBLASLt (cublaslt.cpp): a product worked by hand, in both orders of memory, and everything it must refuse.
#include "gpu.h"

#include <stdio.h>
#include <string.h>

typedef void *H;
enum {
    kBf16 = 14,
    kF32 = 0,
    kCompute32F = 68,
    kTransA = 3,
    kOrder = 1,
    kWorkspace = 1,
    kReductions = 3,
    kAlignA = 5
};
enum { kOk = 0, kInvalid = 7, kUnsupported = 15 };

static void *lt;
template <class F> static F *get(const char *name, F *)
{
    return reinterpret_cast<F *>(gpu_symbol(lt, name));
}
#define TYPE(name, ...)                                                                            \
    typedef int name##_type(__VA_ARGS__);                                                          \
    static name##_type *name;
TYPE(create, H *)
TYPE(desc_create, H *, int, int)
TYPE(desc_set, H, int, const void *, size_t)
TYPE(layout_create, H *, int, uint64_t, uint64_t, int64_t)
TYPE(layout_set, H, int, const void *, size_t)
TYPE(preference_create, H *)
TYPE(preference_set, H, int, const void *, size_t)
TYPE(propose, H, H, H, H, H, H, H, int, void *, int *)
TYPE(multiply, H, H, const void *, const void *, H, const void *, H, const void *, const void *, H,
     void *, H, const void *, void *, size_t, cudaStream_t)

static int failed;
static void expect(const char *what, long long got, long long want)
{
    if (got != want) {
        printf("FAIL  %s: %lld, expected %lld\n", what, got, want);
        failed++;
    }
}

/* y^T [8,8] = w [8,8] x^T [8,8] with w[n][k] = n + 1 where k = n, x[m][k] = m: y[m][n] = (n + 1)
 * m. */
enum {
    kN = 8,
    kMost = 1 << 20,
    kStateAt = 72
}; // columns; behind 64 bytes of algorithm and the workspace's size
struct Problem {
    uint16_t *w, *x; // device
    float *y;
    char *workspace;
    H handle, desc, layout, sums, preference;
    char proposal[96];
};
static const uint16_t bf16_of[] = {0,      0x3f80, 0x4000, 0x4040, 0x4080,
                                   0x40a0, 0x40c0, 0x40e0, 0x4100};

static int ask(Problem &p, int *n)
{
    return propose(p.handle, p.desc, p.layout, p.layout, p.sums, p.sums, p.preference, 1,
                   p.proposal, n);
}
static int product(Problem &p, float *y, char *workspace, size_t bytes, float beta, cudaStream_t s)
{
    const float one = 1.0f;
    return multiply(p.handle, p.desc, &one, p.w, p.layout, p.x, p.layout, &beta, y, p.sums, y,
                    p.sums, p.proposal, workspace, bytes, s);
}

static void described(Problem &p, cudaStream_t s)
{
    uint16_t w[kN][kN] = {}, x[kN][kN];
    for (int i = 0; i < kN; i++) {
        w[i][i] = bf16_of[i + 1];
        for (int k = 0; k < kN; k++)
            x[i][k] = bf16_of[i];
    }
    cudaMalloc(&p.w, sizeof w);
    cudaMalloc(&p.x, sizeof x);
    cudaMalloc(&p.y, 2 * kN * kN * sizeof(float));
    cudaMalloc(&p.workspace, 8192);
    cudaMemcpyAsync(p.w, w, sizeof w, cudaMemcpyHostToDevice, s);
    cudaMemcpyAsync(p.x, x, sizeof x, cudaMemcpyHostToDevice, s);
    const int32_t on = 1;
    const uint64_t room = 8192;
    const uint32_t none = 0, align = 16;
    expect("create", create(&p.handle), kOk);
    expect("description", desc_create(&p.desc, kCompute32F, kF32), kOk);
    expect("transposition", desc_set(p.desc, kTransA, &on, sizeof on), kOk);
    expect("layout", layout_create(&p.layout, kBf16, kN, kN, kN), kOk);
    expect("layout", layout_create(&p.sums, kF32, kN, kN, kN), kOk);
    expect("preference", preference_create(&p.preference), kOk);
    expect("room", preference_set(p.preference, kWorkspace, &room, sizeof room), kOk);
    expect("reductions", preference_set(p.preference, kReductions, &none, sizeof none), kOk);
    for (int i = 0; i < 4; i++)
        expect("alignment", preference_set(p.preference, kAlignA + i, &align, sizeof align), kOk);
}

static void works(Problem &p, cudaStream_t s)
{
    float y[kN][kN];
    int n = 0;
    expect("a proposal", ask(p, &n), kOk);
    expect("one algorithm", n, 1);
    for (int add = 0; add < 2; add++) {
        expect("a product", product(p, p.y, p.workspace, 8192, (float)add, s), kOk);
        cudaMemcpyAsync(y, p.y, sizeof y, cudaMemcpyDeviceToHost, s);
        for (int m = 0; m < kN; m++)
            for (int c = 0; c < kN; c++)
                expect("a sum", (long long)y[m][c], (add + 1) * (c + 1) * m);
    }
    const int32_t rows = 1, off = 0; // w by rows needs no transposition
    H by_rows = p.layout, columns;
    layout_create(&columns, kBf16, kN, kN, kN);
    expect("an order", layout_set(by_rows, kOrder, &rows, sizeof rows), kOk);
    desc_set(p.desc, kTransA, &off, sizeof off);
    expect("a proposal by rows",
           propose(p.handle, p.desc, by_rows, columns, p.sums, p.sums, p.preference, 1, p.proposal,
                   &n),
           kOk);
    const float one = 1.0f, zero = 0.0f;
    expect("a product by rows",
           multiply(p.handle, p.desc, &one, p.w, by_rows, p.x, columns, &zero, p.y, p.sums, p.y,
                    p.sums, p.proposal, p.workspace, 8192, s),
           kOk);
    cudaMemcpyAsync(y, p.y, sizeof y, cudaMemcpyDeviceToHost, s);
    expect("a sum by rows", (long long)y[5][6], 7 * 5);
    const int32_t on = 1, by_columns = 0;
    desc_set(p.desc, kTransA, &on, sizeof on);
    layout_set(p.layout, kOrder, &by_columns, sizeof by_columns);
    ask(p, &n);
}

static void refuses(Problem &p, cudaStream_t s)
{
    H other, wide;
    int n = 0;
    const int32_t three = 3;
    const uint64_t little = 64, room = 8192;
    const uint32_t byte = 1, align = 16;
    char kept[sizeof p.proposal];
    int state;
    expect("another type of sums", desc_create(&other, kCompute32F + 1, kF32), kUnsupported);
    expect("an unknown attribute of a product", desc_set(p.desc, 99, &three, sizeof three),
           kInvalid);
    expect("an attribute of another size", desc_set(p.desc, kTransA, &three, 8), kInvalid);
    expect("an unknown transposition", desc_set(p.desc, kTransA, &three, sizeof three), kInvalid);
    expect("an unknown order", layout_set(p.layout, kOrder, &three, sizeof three), kInvalid);
    expect("an unknown attribute of a layout", layout_set(p.layout, 42, &three, sizeof three),
           kInvalid);
    expect("an unknown preference", preference_set(p.preference, 77, &three, sizeof three),
           kInvalid);
    expect("an unknown type", layout_create(&other, 99, kN, kN, kN), kInvalid);
    layout_create(&other, kBf16, 2 * kN, kN, 2 * kN);
    expect(
        "sizes that do not fit",
        propose(p.handle, p.desc, p.layout, other, p.sums, p.sums, p.preference, 1, p.proposal, &n),
        kInvalid);
    layout_create(&wide, kBf16, kN, kN, kN - 1);
    expect(
        "columns that overlap",
        propose(p.handle, p.desc, wide, p.layout, p.sums, p.sums, p.preference, 1, p.proposal, &n),
        kInvalid);
    layout_create(&wide, kBf16, kN, kN, kN + 1);
    expect(
        "columns at odd addresses",
        propose(p.handle, p.desc, wide, p.layout, p.sums, p.sums, p.preference, 1, p.proposal, &n),
        kUnsupported);
    layout_create(&other, kBf16, kN, kMost + 1, kN);
    layout_create(&wide, kF32, kN, kMost + 1, kN);
    expect("more columns than any algorithm has",
           propose(p.handle, p.desc, p.layout, other, wide, wide, p.preference, 1, p.proposal, &n),
           kOk);
    memcpy(&state, p.proposal + kStateAt, sizeof state);
    expect("the proposal says so", state, kUnsupported);
    preference_set(p.preference, kWorkspace, &little, sizeof little);
    expect("too little room", ask(p, &n), kUnsupported);
    preference_set(p.preference, kWorkspace, &room, sizeof room);
    preference_set(p.preference, kAlignA, &byte, sizeof byte);
    expect("bytes at any address", ask(p, &n), kUnsupported);
    preference_set(p.preference, kAlignA, &align, sizeof align);
    expect("a proposal", ask(p, &n), kOk);
    expect("workspace at an odd address", product(p, p.y, p.workspace + 16, 4096, 0, s), kInvalid);
    expect("less workspace than was said", product(p, p.y, p.workspace, 1024, 0, s), kInvalid);
    expect("sums at an odd address", product(p, p.y + 1, p.workspace, 8192, 0, s), kInvalid);
    memcpy(kept, p.proposal, sizeof kept);
    layout_create(&wide, kF32, kN, kN, 2 * kN);
    propose(p.handle, p.desc, p.layout, p.layout, wide, wide, p.preference, 1, p.proposal, &n);
    expect("the algorithm of other strides", product(p, p.y, p.workspace, 8192, 0, s), kInvalid);
    memcpy(p.proposal, kept, sizeof kept);
    expect("no fault so far", simt::errors(), 0);
}

static void sees(Problem &p, cudaStream_t s)
{
    float *unwritten;
    cudaMalloc(&unwritten, kN * kN * sizeof(float));
    expect("a product", product(p, unwritten, p.workspace, 8192, 1.0f, s), kOk);
    cudaStreamSynchronize(s);
    expect("adding to what was never written", strcmp(simt::first_error(), "UNINIT"), 0);
    simt::reset_errors();
    expect("a product", product(p, p.y + 2 * kN * kN - 8, p.workspace, 8192, 0.0f, s), kOk);
    cudaStreamSynchronize(s);
    expect("writing past the end", strcmp(simt::first_error(), "OOB"), 0);
    simt::reset_errors();
}

int main()
{
    static Problem p;
    cudaStream_t s;
    simt::cfg.quiet = 1;
    cudaStreamCreate(&s);
    expect("another library", gpu_library("libcublas.so.13") != nullptr, 0);
    lt = gpu_library("libcublasLt.so.13");
    create = get("cublasLtCreate", create);
    desc_create = get("cublasLtMatmulDescCreate", desc_create);
    desc_set = get("cublasLtMatmulDescSetAttribute", desc_set);
    layout_create = get("cublasLtMatrixLayoutCreate", layout_create);
    layout_set = get("cublasLtMatrixLayoutSetAttribute", layout_set);
    preference_create = get("cublasLtMatmulPreferenceCreate", preference_create);
    preference_set = get("cublasLtMatmulPreferenceSetAttribute", preference_set);
    propose = get("cublasLtMatmulAlgoGetHeuristic", propose);
    multiply = get("cublasLtMatmul", multiply);
    expect("a function that is not there", gpu_symbol(lt, "cublasLtNothing") != nullptr, 0);
    described(p, s);
    works(p, s);
    refuses(p, s);
    sees(p, s);
    simt::cfg.libraries = 0;
    expect("a machine without libraries", gpu_library("libcublasLt.so.13") != nullptr, 0);
    printf(failed ? "%d failed\n" : "ok\n", failed);
    return failed != 0;
}
