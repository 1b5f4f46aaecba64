/* kernels.h -- the ops of one level (vec.h), as one struct of functions; kernels.c fills in one per
 * level. */
#ifndef NB_BACKEND_CPU_KERNELS_H
#define NB_BACKEND_CPU_KERNELS_H

#include "backend/cpu/cpu.h"

/* C[M,N] -= A[M,K] B[K,N], row major, ld in elements; b_by_rows: b is [N,K], so A B^T. c overlaps
 * neither. One thread. */
typedef struct nb_product_f64 {
    double *c;
    const double *a, *b;
    int64_t ldc, lda, ldb, M, N, K;
    bool b_by_rows;
} nb_product_f64;

/* of K summed in f32; rows of A side by side when it is turned */
enum { NB_DEPTH = 256, NB_TURNED = 12 };

/* The same in f32: within NB_DEPTH of K, sums of f32 products, which are then taken from C in
 * f64. */
typedef struct nb_product_f32 {
    double *c;
    const float *a;      /* [M,K], or turned: [M / NB_TURNED][K][NB_TURNED], whole at the end */
    const double *b;     /* rounded to f32 */
    const float *panels; /* or B as [N / 16][K][16], whole at the end, and b NULL */
    int64_t ldc, lda, ldb, M, N, K;
    bool b_by_rows, turned;
} nb_product_f32;

enum { NB_SOLVE = 64 }; /* columns that a triangular solve takes at once */
/* Rows of N that go together through a K x K matrix: many, so that it is read seldom, and yet some
 * tasks a thread. Bits do not depend on it. */
static inline int64_t nb_cpu_chunk_rows(const nb_backend *be, int64_t N)
{
    enum { kStep = 48, kMost = 4 * kStep };
    const int64_t want = (N / (4 * be->n_thread) + kStep) / kStep * kStep;
    return want < kMost ? want : kMost;
}

/* The row stride of K floats that product_f32 reads side by side: rows a power of two apart would
 * share one set of the first cache. */
static inline int64_t nb_cpu_apart(int64_t K)
{
    return (K + 15) / 16 * 16 + 16;
}

enum { NB_CLIP_ROWS = 8 }; /* rows of W that block_error takes side by side */

typedef struct nb_cpu_kernels {
    void (*rms_norm)(const nb_cpu *cpu, const nb_rms_norm_args *a);
    void (*rope_append_kv)(const nb_cpu *cpu, const nb_rope_args *a);
    size_t (*attention_scratch)(const nb_cpu *cpu, const nb_attention_args *a);
    void (*attention)(const nb_cpu *cpu, const nb_attention_args *a);
    void (*gated_activation)(const nb_cpu *cpu, const nb_gated_args *a);
    void (*logits_soft_cap)(const nb_cpu *cpu, const nb_soft_cap_args *a);
    void (*argmax)(const nb_cpu *cpu, const nb_argmax_args *a);
    void (*product_f64)(const nb_product_f64 *p);
    void (*product_f32)(const nb_product_f32 *p);
    void (*axpy_f64)(double *y, const double *x, double s, int64_t n); /* y += s x, fused */
    /* Codes of n values of one group: nb_grid_round of each. */
    void (*round_group)(const nb_grid *g, const nb_group *p, const float *w, int64_t n,
                        uint8_t *code);
    /* x [M,n] := x R^-T (back: the last column first), or x R^-1 (the first column first); R [n,n]
     * upper, n <= NB_SOLVE. */
    void (*solve_back)(double *x, int64_t ldx, int64_t M, const double *r, int64_t ldr, int64_t n);
    void (*solve_on)(double *x, int64_t ldx, int64_t M, const double *r, int64_t ldr, int64_t n);
    /* e[c] = sum over i of d[i][c] (H[i][i] d[i][c] + 2 sum over j < i of H[i][j] d[j][c]) for
     * NB_CLIP_ROWS rows c; d [n][NB_CLIP_ROWS]. */
    void (*block_error)(const double *d, const double *h, int64_t ldh, int64_t n, double *e);
} nb_cpu_kernels;

extern const nb_cpu_kernels nb_cpu_kernels_scalar;
#if NB_CPU_X86
extern const nb_cpu_kernels nb_cpu_kernels_avx2, nb_cpu_kernels_avx512;
#endif

/* linear: f32 sums over any layout (linear_f32.c) and for few rows over T4 (linear_table.c), int8
 * activations over U4 and U8 (linear_int8.c), bf16 operands over BF16 (linear_bf16.c), and over all
 * but F32 and T4 on AMX tiles (linear_amx.c). */
void nb_cpu_linear_f32_scalar(const nb_cpu *cpu, const nb_linear_args *a);
void nb_cpu_linear_table_scalar(const nb_cpu *cpu, const nb_linear_args *a);
void nb_cpu_linear_int8_scalar(const nb_cpu *cpu, const nb_linear_args *a);
#if NB_CPU_X86
void nb_cpu_linear_f32_avx2(const nb_cpu *cpu, const nb_linear_args *a);
void nb_cpu_linear_f32_avx512(const nb_cpu *cpu, const nb_linear_args *a);
void nb_cpu_linear_table_avx2(const nb_cpu *cpu, const nb_linear_args *a);
void nb_cpu_linear_table_avx512(const nb_cpu *cpu, const nb_linear_args *a);
void nb_cpu_linear_int8_avx2(const nb_cpu *cpu, const nb_linear_args *a);
void nb_cpu_linear_int8_avx512(const nb_cpu *cpu, const nb_linear_args *a);
void nb_cpu_linear_bf16_avx512(const nb_cpu *cpu, const nb_linear_args *a);
void nb_cpu_linear_amx(const nb_cpu *cpu, const nb_linear_args *a);
size_t nb_cpu_linear_amx_scratch(const nb_cpu *cpu, const nb_linear_args *a);
#endif

#if NB_CPU_X86
/* Products of f32 operands in three bf16 parts (split_amx.h). */
static inline bool nb_cpu_splits(const nb_cpu *cpu)
{
    return (cpu->isa & NB_ISA_AMX) && (cpu->isa & NB_ISA_BF16);
}
/* H above its diagonal and on it, and C (gram_amx.c). */
void nb_cpu_gram_amx(const nb_cpu *cpu, const nb_gram_args *a);
size_t nb_cpu_gram_amx_scratch(const nb_gram_args *a);
#endif

size_t nb_cpu_linear_f32_scratch(const nb_cpu *cpu, const nb_linear_args *a);
size_t nb_cpu_linear_int8_scratch(const nb_cpu *cpu, const nb_linear_args *a);
size_t nb_cpu_linear_bf16_scratch(const nb_cpu *cpu, const nb_linear_args *a);

#endif
