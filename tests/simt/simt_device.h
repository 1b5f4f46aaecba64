// simt_device.h -- the device API that has to do with threads or memory: thin functions over the
// entry points of the runtime, named as CUDA or as cuda/gpu.h names them.
//
// Rules for portable .cu code: 8- and 16-byte accesses only through ld_v2, ld_v4, st_v4 (a struct
// copy becomes four accesses or a memcpy); spin loops read by ld_acquire or volatile (both yield);
// shuffles and votes do not order memory, __syncwarp does; one writer per word.
#pragma once
#include "simt_numeric.h"

// A 2-D tensor in global memory: dim, box in elements; pitch in bytes; sw: 128-byte swizzle.
struct alignas(64) CUtensorMap {
    char *base;
    uint64_t dim[2], pitch;
    uint32_t box[2];
    uint32_t elem, sw;
    uint64_t pad[9];
};

// Entry points of the runtime. The first four never change for a thread: const, so that the
// compiler keeps their values.
#define SIMT_CONST __attribute__((const))
enum {
    SC_SYNC,
    SC_SHFL,
    SC_SHFL_UP,
    SC_SHFL_DN,
    SC_SHFL_XOR,
    SC_BALLOT,
    SC_MATCH,
    SC_RADD,
    SC_LDM,
    SC_MMA_BF16,
    SC_MMA_F16,
    SC_MMA_S8,
    SC_WGMMA
};
enum { SA_ADD, SA_MAX, SA_MIN, SA_EXCH, SA_CAS, SA_OR, SA_FADD, SA_LOAD, SA_STORE, SA_AND };
extern "C" {
SIMT_CONST uint3 simt_tid();
SIMT_CONST uint3 simt_bid();
SIMT_CONST uint3 simt_bdim();
SIMT_CONST uint3 simt_gdim();
void *simt_smem_static(const void *key, size_t n, size_t align);
void *simt_smem_dyn();
void simt_bar(int id, int n, int arrive_only); // n = 0: the whole block
uint64_t simt_coll(int op, unsigned mask, uint64_t a, int b, int c);
void simt_ldmatrix(uint32_t *r, const void *p, int n, int trans);
void simt_mma(int op, void *d, const uint32_t *a, const uint32_t *b);
void simt_cp_async(void *s, const void *g, int n, int src);
void simt_cp_commit();
void simt_cp_wait(int n);
void simt_fence();
void simt_yield();
void simt_access(const void *p, int n, int wr);
void simt_fence_proxy();
void simt_mb_init(uint64_t *b, unsigned n);
void simt_mb_fence();
void simt_mb_arrive(uint64_t *b, unsigned tx);
void simt_mb_wait(uint64_t *b, unsigned parity);
void simt_tma_2d(void *s, const CUtensorMap *m, int x, int y, uint64_t *b);
void simt_bulk(void *s, const void *g, unsigned n, uint64_t *b);
uint64_t simt_wg_desc(const void *s);
uint64_t simt_wg_desc_columns(const void *s, unsigned next);
enum { SIMT_WG_F16 = 1, SIMT_WG_COLUMNS = 2 }; // f16 for bf16; B by columns (wgmma.cpp)
void simt_wg_settle(float *d);
void simt_wgmma(float *d, int n, const uint32_t *a, uint64_t da, uint64_t db, int acc, int how);
void simt_wg_fence();
void simt_wg_commit();
void simt_wg_wait(int n);
void simt_registers(int n);
uint64_t simt_atomic(void *p, int bytes, int op, uint64_t v, uint64_t cmp);
}
uint4 simt_ld16(const void *p);
uint2 simt_ld8(const void *p);
void simt_st16(void *p, uint4 v);

#define threadIdx (simt_tid())
#define blockIdx (simt_bid())
#define blockDim (simt_bdim())
#define gridDim (simt_gdim())
constexpr int warpSize = 32; // no macro: cudaDeviceProp has a member of that name

// Shared variables: the address of a static per variable is the key under which the block's
// threads find the same memory.
#define SHARED_ALIGN(A, T, name, dims)                                                             \
    using name##_ty_ = T dims;                                                                     \
    static const char name##_k_ = 0;                                                               \
    name##_ty_ &name =                                                                             \
        *static_cast<name##_ty_ *>(simt_smem_static(&name##_k_, sizeof(name##_ty_), A))
#define SHARED(T, name, dims) SHARED_ALIGN(alignof(T), T, name, dims)
#define DYN_SHARED(T, name) T *name = static_cast<T *>(simt_smem_dyn())

// ---- block and warp
DEVI void __syncthreads()
{
    simt_bar(0, 0, 0);
}
DEVI void named_barrier_sync(int id, int n)
{
    simt_bar(id, n, 0);
}
DEVI void named_barrier_arrive(int id, int n)
{
    simt_bar(id, n, 1);
}
DEVI void __syncwarp(unsigned m = ~0u)
{
    simt_coll(SC_SYNC, m, 0, 0, 0);
}
template <class T> DEVI T simt_shfl(int op, unsigned m, T v, int l, int w)
{
    return simt_bits<T>(simt_coll(op, m, simt_bits<uint64_t>(v), l, w));
}
template <class T> DEVI T __shfl_sync(unsigned m, T v, int l, int w = 32)
{
    return simt_shfl(SC_SHFL, m, v, l, w);
}
template <class T> DEVI T __shfl_up_sync(unsigned m, T v, int l, int w = 32)
{
    return simt_shfl(SC_SHFL_UP, m, v, l, w);
}
template <class T> DEVI T __shfl_down_sync(unsigned m, T v, int l, int w = 32)
{
    return simt_shfl(SC_SHFL_DN, m, v, l, w);
}
template <class T> DEVI T __shfl_xor_sync(unsigned m, T v, int l, int w = 32)
{
    return simt_shfl(SC_SHFL_XOR, m, v, l, w);
}
DEVI unsigned __ballot_sync(unsigned m, int p)
{
    return (unsigned)simt_coll(SC_BALLOT, m, p != 0, 0, 0);
}
DEVI int __any_sync(unsigned m, int p)
{
    return __ballot_sync(m, p) != 0;
}
DEVI int __all_sync(unsigned m, int p)
{
    return __ballot_sync(m, !p) == 0;
}
template <class T> DEVI unsigned __match_any_sync(unsigned m, T v)
{
    return (unsigned)simt_coll(SC_MATCH, m, simt_bits<uint64_t>(v), 0, 0);
}
DEVI unsigned __reduce_add_sync(unsigned m, unsigned v)
{
    return (unsigned)simt_coll(SC_RADD, m, v, 0, 0);
}

// ---- memory: vector accesses of one request, fences, atomics
template <class T> DEVI T __ldg(const T *p)
{
    return *p;
}
DEVI uint4 ld_v4(const void *p)
{
    return simt_ld16(p);
}
DEVI uint2 ld_v2(const void *p)
{
    return simt_ld8(p);
}
DEVI uint4 ld_stream_v4(const void *p)
{
    return simt_ld16(p);
}
DEVI void st_v4(void *p, uint4 v)
{
    simt_st16(p, v);
}
DEVI void __threadfence()
{
    simt_fence();
}
DEVI void __threadfence_block()
{
}
DEVI unsigned atomicAdd(unsigned *p, unsigned v)
{
    return (unsigned)simt_atomic(p, 4, SA_ADD, v, 0);
}
DEVI unsigned long long atomicAdd(unsigned long long *p, unsigned long long v)
{
    return simt_atomic(p, 8, SA_ADD, v, 0);
}
DEVI int atomicAdd(int *p, int v)
{
    return (int)simt_atomic(p, 4, SA_ADD, (unsigned)v, 0);
}
DEVI float atomicAdd(float *p, float v)
{
    return simt_bits<float>((unsigned)simt_atomic(p, 4, SA_FADD, simt_bits<unsigned>(v), 0));
}
DEVI int atomicMax(int *p, int v)
{
    return (int)simt_atomic(p, 4, SA_MAX, (unsigned)v, 0);
}
DEVI unsigned atomicExch(unsigned *p, unsigned v)
{
    return (unsigned)simt_atomic(p, 4, SA_EXCH, v, 0);
}
DEVI unsigned atomicCAS(unsigned *p, unsigned c, unsigned v)
{
    return (unsigned)simt_atomic(p, 4, SA_CAS, v, c);
}
DEVI unsigned atomicOr(unsigned *p, unsigned v)
{
    return (unsigned)simt_atomic(p, 4, SA_OR, v, 0);
}
DEVI unsigned ld_acquire(const unsigned *p)
{
    simt_yield();
    return (unsigned)simt_atomic(const_cast<unsigned *>(p), 4, SA_LOAD, 0, 0);
}
DEVI void st_release(unsigned *p, unsigned v)
{
    simt_atomic(p, 4, SA_STORE, v, 0);
}

// ---- asynchronous copies and matrix units
DEVI void cp_async_16(void *s, const void *g, int src_bytes = 16)
{
    simt_cp_async(s, g, 16, src_bytes);
}
DEVI void cp_async_4(void *s, const void *g, int src_bytes = 4)
{
    simt_cp_async(s, g, 4, src_bytes);
}
DEVI void cp_async_commit()
{
    simt_cp_commit();
}
template <int N> DEVI void cp_async_wait()
{
    simt_cp_wait(N);
}
DEVI float exp2_small(float x)
{
    const float r = exp2f(x);
    return r < 0x1p-126f ? 0.0f : r;
}
DEVI void ldmatrix_x1(uint32_t (&r)[1], const void *p)
{
    simt_ldmatrix(r, p, 1, 0);
}
DEVI void ldmatrix_x2(uint32_t (&r)[2], const void *p)
{
    simt_ldmatrix(r, p, 2, 0);
}
DEVI void ldmatrix_x4(uint32_t (&r)[4], const void *p)
{
    simt_ldmatrix(r, p, 4, 0);
}
DEVI void ldmatrix_x4_trans(uint32_t (&r)[4], const void *p)
{
    simt_ldmatrix(r, p, 4, 1);
}
DEVI void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
    simt_mma(SC_MMA_BF16, d, a, b);
}
DEVI void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                            const float (&c)[4])
{
    for (int i = 0; i < 4; i++)
        d[i] = c[i];
    simt_mma(SC_MMA_BF16, d, a, b);
}
DEVI void mma_m16n8k16_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
    simt_mma(SC_MMA_F16, d, a, b);
}
DEVI void mma_m16n8k32_s8(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
    simt_mma(SC_MMA_S8, d, a, b);
}

// ---- sm_90: mbarrier, TMA, wgmma. Proxy fences: of mbarriers, and of what wgmma reads (race.cpp).
#define GPU_WGMMA
DEVI void mbarrier_init(uint64_t *b, unsigned n)
{
    simt_mb_init(b, n);
}
DEVI void mbarrier_fence_init()
{
    simt_mb_fence();
}
DEVI void fence_proxy_async()
{
    simt_fence_proxy();
}
DEVI void mbarrier_arrive(uint64_t *b)
{
    simt_mb_arrive(b, 0);
}
DEVI void mbarrier_arrive_expect_tx(uint64_t *b, unsigned n)
{
    simt_mb_arrive(b, n);
}
DEVI void mbarrier_wait(uint64_t *b, unsigned parity)
{
    simt_mb_wait(b, parity);
}
DEVI void tma_load_2d(void *s, const CUtensorMap *m, int x, int y, uint64_t *b)
{
    simt_tma_2d(s, m, x, y, b);
}
DEVI void bulk_load(void *s, const void *g, unsigned bytes, uint64_t *b)
{
    simt_bulk(s, g, bytes, b);
}
DEVI uint64_t wgmma_desc_sw128(const void *s)
{
    return simt_wg_desc(s);
}
DEVI uint64_t wgmma_desc_sw128_columns(const void *s, unsigned next)
{
    return simt_wg_desc_columns(s, next);
}
DEVI void wgmma_fence()
{
    simt_wg_fence();
}
DEVI void wgmma_commit()
{
    simt_wg_commit();
}
template <int N> DEVI void wgmma_wait()
{
    simt_wg_wait(N);
}
DEVI void wgmma_m64n64k16_bf16(float (&d)[32], uint64_t da, uint64_t db, int acc)
{
    simt_wgmma(d, 64, nullptr, da, db, acc, 0);
}
// `a` stands for registers: it must live until the wait, as it is read again there
DEVI void wgmma_m64n128k16_bf16(float (&d)[64], const uint32_t (&a)[4], uint64_t db, int acc)
{
    simt_wgmma(d, 128, a, 0, db, acc, 0);
}
template <bool kColumns>
DEVI void wgmma_m64n64k16_f16(float (&d)[32], const uint32_t (&a)[4], uint64_t db, int acc)
{
    simt_wgmma(d, 64, a, 0, db, acc, SIMT_WG_F16 | (kColumns ? SIMT_WG_COLUMNS : 0));
}
template <bool kColumns>
DEVI void wgmma_m64n128k16_f16(float (&d)[64], const uint32_t (&a)[4], uint64_t db, int acc)
{
    simt_wgmma(d, 128, a, 0, db, acc, SIMT_WG_F16 | (kColumns ? SIMT_WG_COLUMNS : 0));
}
template <int N> DEVI void wgmma_settle(float (&d)[N])
{
    simt_wg_settle(d);
}
template <int N> DEVI void wgmma_settle(uint32_t (&)[N])
{
}
template <int N> DEVI void registers_more()
{
    simt_registers(N);
}
template <int N> DEVI void registers_fewer()
{
    simt_registers(N);
}
