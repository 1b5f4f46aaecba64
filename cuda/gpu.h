// gpu.h -- the only GPU header a .cu file includes. Under nvcc: thin functions over CUDA and PTX.
// For the host compiler: the emulator of tests/simt, which has every name here with the same
// meaning. A new instruction needs both bodies and a line in tests/simt/conform.cu.
//
// Launch with launch(kernel, grid, block, smem_bytes, stream, args...), never with <<< >>>; it
// returns the launch's error. Shared memory is SHARED(float, x, [32]), SHARED_ALIGN(128, T, x,
// [n]), DYN_SHARED(T, p). Accesses of 8 and 16 bytes go through ld_v2, ld_v4, ld_stream_v4, st_v4.
#pragma once
#ifndef __CUDACC__
#include "simt.h"
#else
#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <dlfcn.h>
#include <stdint.h>

typedef __nv_bfloat16 bf16;
typedef __half f16;

#define DEVI static __device__ __forceinline__
#define SHARED(T, name, dims) __shared__ T name dims
#define SHARED_ALIGN(A, T, name, dims)                                                             \
    __shared__ __align__(A)                                                                        \
    T name dims
#define DYN_SHARED(T, name)                                                                        \
    extern __shared__ __align__(1024) unsigned char gpu_dsm_[];                                    \
    T *name = reinterpret_cast<T *>(gpu_dsm_)

template <class... P, class... A>
inline cudaError_t launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t smem,
                          cudaStream_t stream, A &&...args)
{
    kernel<<<grid, block, smem, stream>>>(static_cast<P>(args)...);
    return cudaGetLastError();
}

// ---- bfloat16
DEVI float bf2f(bf16 v)
{
    return __bfloat162float(v);
}
DEVI bf16 f2bf(float v)
{
    return __float2bfloat16_rn(v);
}
DEVI uint32_t bf2_pack(float lo, float hi)
{
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
    return r;
}
DEVI float bf2_lo(uint32_t v)
{
    return __uint_as_float(v << 16);
}
DEVI float bf2_hi(uint32_t v)
{
    return __uint_as_float(v & 0xffff0000u);
}
DEVI uint32_t bf2_fma(uint32_t a, uint32_t b, uint32_t c) // a * b + c, each half rounded once
{
    uint32_t d;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}

// 2 to the x in one instruction, 2 ulp; 0 where the result is below 2^-126
DEVI float exp2_small(float x)
{
    float r;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}

// ---- memory: one request of 16 or 8 bytes; never rely on a struct copy being one access
DEVI uint4 ld_v4(const void *p)
{
    return *reinterpret_cast<const uint4 *>(p);
}
DEVI uint2 ld_v2(const void *p)
{
    return *reinterpret_cast<const uint2 *>(p);
}
DEVI uint4 ld_stream_v4(const void *p) // read once: keeps out of L1
{
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p));
    return v;
}
DEVI void st_v4(void *p, uint4 v)
{
    *reinterpret_cast<uint4 *>(p) = v;
}
DEVI unsigned ld_acquire(const unsigned *p)
{
    unsigned v;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
    return v;
}
DEVI void st_release(unsigned *p, unsigned v)
{
    asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}
DEVI uint32_t smem_u32(const void *p) // the address the PTX below wants; kernels have no use for it
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

// ---- integers
template <int LUT> DEVI uint32_t lop3(uint32_t a, uint32_t b, uint32_t c) // bit 4a + 2b + c of LUT
{
    uint32_t d;
    asm("lop3.b32 %0, %1, %2, %3, %4;" : "=r"(d) : "r"(a), "r"(b), "r"(c), "n"(LUT));
    return d;
}
DEVI uint32_t prmt(uint32_t a, uint32_t b, uint32_t sel) // bytes of b:a, picked by nibbles of sel
{
    uint32_t d;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(sel));
    return d;
}

// ---- cp.async: src_bytes below the size fills with zeros
DEVI void cp_async_16(void *s, const void *g, int src_bytes = 16)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(smem_u32(s)), "l"(g),
                 "r"(src_bytes)
                 : "memory");
}
DEVI void cp_async_4(void *s, const void *g, int src_bytes = 4)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(smem_u32(s)), "l"(g),
                 "r"(src_bytes)
                 : "memory");
}
DEVI void cp_async_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int N> DEVI void cp_async_wait() // all groups but the newest N
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// ---- ldmatrix: 8x8 matrices of 16-bit elements; lanes 8i .. 8i + 7 give the rows of matrix i
DEVI void ldmatrix_x1(uint32_t (&r)[1], const void *p)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];"
                 : "=r"(r[0])
                 : "r"(smem_u32(p))
                 : "memory");
}
DEVI void ldmatrix_x2(uint32_t (&r)[2], const void *p)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(smem_u32(p))
                 : "memory");
}
DEVI void ldmatrix_x4(uint32_t (&r)[4], const void *p)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(smem_u32(p))
                 : "memory");
}
DEVI void ldmatrix_x4_trans(uint32_t (&r)[4], const void *p)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(smem_u32(p))
                 : "memory");
}

// ---- mma.sync: D = A B + D; fragments as drawn in tests/simt/matrix.cpp
DEVI void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
DEVI void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                            const float (&c)[4]) // D = A B + C
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"
                 : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]),
                   "f"(c[1]), "f"(c[2]), "f"(c[3]));
}
DEVI void mma_m16n8k16_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
DEVI void mma_m16n8k32_s8(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// ---- named barriers: id 1 to 15, n threads that sync or arrive
DEVI void named_barrier_sync(int id, int n)
{
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(n) : "memory");
}
DEVI void named_barrier_arrive(int id, int n)
{
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(n) : "memory");
}

// ---- sm_90: mbarrier, TMA
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
DEVI void mbarrier_init(uint64_t *b, unsigned n)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(smem_u32(b)), "r"(n) : "memory");
}
DEVI void mbarrier_fence_init()
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
DEVI void fence_proxy_async()
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
DEVI void mbarrier_arrive(uint64_t *b)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(smem_u32(b)) : "memory");
}
DEVI void mbarrier_arrive_expect_tx(uint64_t *b, unsigned n)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(smem_u32(b)), "r"(n)
                 : "memory");
}
DEVI void mbarrier_wait(uint64_t *b, unsigned parity) // until the phase of this parity is complete
{
    asm volatile("{\n.reg .pred p;\n"
                 "W_%=:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
                 "@!p bra W_%=;\n}" ::"r"(smem_u32(b)),
                 "r"(parity)
                 : "memory");
}
DEVI void tma_load_2d(void *s, const CUtensorMap *m, int x, int y, uint64_t *b)
{
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2,%3}], [%4];" ::"r"(smem_u32(s)),
                 "l"(m), "r"(x), "r"(y), "r"(smem_u32(b))
                 : "memory");
}
// Contiguous bytes, a multiple of 16, both ends at multiples of 16
DEVI void bulk_load(void *s, const void *g, unsigned bytes, uint64_t *b)
{
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1], %2, [%3];" ::"r"(smem_u32(s)),
                 "l"(g), "r"(bytes), "r"(smem_u32(b))
                 : "memory");
}
// Of a K-major operand with the 128-byte swizzle, 8-row groups 1024 bytes apart; + 2 steps k16.
DEVI uint64_t wgmma_desc_sw128(const void *s)
{
    return (uint64_t)((smem_u32(s) & 0x3ffff) >> 4) | 1ull << 16 | 64ull << 32 | 1ull << 62;
}
// Of B lying [k][64 columns] with the same swizzle, `next` bytes from 64 columns to the next 64; + 128
// steps k16.
DEVI uint64_t wgmma_desc_sw128_columns(const void *s, unsigned next)
{
    return (uint64_t)((smem_u32(s) & 0x3ffff) >> 4) | (uint64_t)(next >> 4) << 16 | 64ull << 32 |
           1ull << 62;
}
#endif

// ---- sm_90a: wgmma. A kernel that uses it has its body inside #ifdef GPU_WGMMA, and in it static
// shared memory: gpu_has_body
#if defined(__CUDA_ARCH_FEAT_SM90_ALL) || !defined(__CUDA_ARCH__)
#define GPU_WGMMA
DEVI void wgmma_fence()
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
DEVI void wgmma_commit()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int N> DEVI void wgmma_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}
// D = A B (+ D if acc), 64x64, fragments as drawn in tests/simt/wgmma.cpp
DEVI void wgmma_m64n64k16_bf16(float (&d)[32], uint64_t da, uint64_t db, int acc)
{
#define D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
                 "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
                 "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, "
                 "%32, %33, p, 1, 1, 0, 0;\n}"
                 : D4(0), D4(4), D4(8), D4(12), D4(16), D4(20), D4(24), D4(28)
                 : "l"(da), "l"(db), "r"(acc));
}
// The same, 64x128, A in registers as mma_m16n8k16's, warp w of the group its rows 16w on. Neither
// d nor a may be touched until a wait covers it
DEVI void wgmma_m64n128k16_bf16(float (&d)[64], const uint32_t (&a)[4], uint64_t db, int acc)
{
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
                 "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
                 "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
                 "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
                 "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, "
                 "{%64,%65,%66,%67}, %68, p, 1, 1, 0;\n}"
                 : D4(0), D4(4), D4(8), D4(12), D4(16), D4(20), D4(24), D4(28), D4(32), D4(36),
                   D4(40), D4(44), D4(48), D4(52), D4(56), D4(60)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(db), "r"(acc));
}
// The same of f16. kColumns: B lies by columns
template <bool kColumns>
DEVI void wgmma_m64n64k16_f16(float (&d)[32], const uint32_t (&a)[4], uint64_t db, int acc)
{
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 "
                 "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
                 "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, "
                 "{%32,%33,%34,%35}, %36, p, 1, 1, %38;\n}"
                 : D4(0), D4(4), D4(8), D4(12), D4(16), D4(20), D4(24), D4(28)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(db), "r"(acc),
                   "n"((int)kColumns));
}
template <bool kColumns>
DEVI void wgmma_m64n128k16_f16(float (&d)[64], const uint32_t (&a)[4], uint64_t db, int acc)
{
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 "
                 "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
                 "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
                 "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
                 "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, "
                 "{%64,%65,%66,%67}, %68, p, 1, 1, %70;\n}"
                 : D4(0), D4(4), D4(8), D4(12), D4(16), D4(20), D4(24), D4(28), D4(32), D4(36),
                   D4(40), D4(44), D4(48), D4(52), D4(56), D4(60)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(db), "r"(acc),
                   "n"((int)kColumns));
#undef D4
}
// Before a fence, where registers changed; behind a wait, or the compiler takes sums out of registers before it: it does not know that the
// products above go on
template <int N> DEVI void wgmma_settle(float (&d)[N])
{
#pragma unroll
    for (int i = 0; i < N; i++)
        asm volatile("" : "+f"(d[i])::"memory");
}
template <int N> DEVI void wgmma_settle(uint32_t (&a)[N])
{
#pragma unroll
    for (int i = 0; i < N; i++)
        asm volatile("" : "+r"(a[i])::"memory");
}
// Registers of a thread from here on, by all warps of a group of four; the block began with as many
// as __launch_bounds__ leaves
template <int N> DEVI void registers_more()
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N> DEVI void registers_fewer()
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}
#endif
// Whether the code for the device at hand has the body that other architectures leave empty.
template <class... P> inline bool gpu_has_body(void (*kernel)(P...))
{
    cudaFuncAttributes a;
    if (cudaFuncGetAttributes(&a, kernel) == cudaSuccess)
        return a.sharedSizeBytes > 0;
    (void)cudaGetLastError(); // no code at all; the next launch must not find it
    return false;
}

// The vendor's libraries are no part of the driver: opened when asked for, NULL where there is none.
// The emulator has stand-ins for some (tests/simt/cublaslt.cpp). Ask through library.h.
inline void *gpu_library(const char *file)
{
    return dlopen(file, RTLD_NOW | RTLD_LOCAL);
}
inline void *gpu_symbol(void *library, const char *name)
{
    return dlsym(library, name);
}

// The descriptor of a row-major bf16 tensor [rows][cols], pitch in bytes, read in boxes of
// [box_rows][box_cols] with the 128-byte swizzle. 0, or -1 where driver or arguments refuse.
inline int gpu_tensormap_2d(CUtensorMap *m, void *base, uint64_t cols, uint64_t rows,
                            uint64_t pitch, unsigned box_cols, unsigned box_rows)
{
    void *fn = nullptr;
    cudaDriverEntryPointQueryResult found;
    if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &fn, 12000, cudaEnableDefault,
                                         &found) != cudaSuccess ||
        !fn)
        return -1;
    const auto encode = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(fn);
    const cuuint64_t dim[2] = {cols, rows}, stride[1] = {pitch};
    const cuuint32_t box[2] = {box_cols, box_rows}, step[2] = {1, 1};
    const CUresult r =
        encode(m, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, base, dim, stride, box, step,
               CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
               CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    return r == CUDA_SUCCESS ? 0 : -1;
}
#endif
