/* left.h -- the left operand of the products under quant_error: some rows of K values that come a
 * block of columns at a time, and are multiplied with blocks of a K x K matrix.
 *
 *     C[M,N] -= A[:, from .. from + K) B        A and B rounded to f32 or less; sums of NB_DEPTH
 *                                               products in f32, those in f64
 *
 * A lies as f32 rows for product_f32, where there are AMX tiles as tiles of two bf16 parts
 * (split_amx.h): 17 bits of an operand do for a figure. The correction and the sweep, which decide
 * codes, want three parts, and with those tiles are no faster than vectors (docs/PERFORMANCE.md).
 * One worker's. */
#ifndef NB_BACKEND_CPU_LEFT_H
#define NB_BACKEND_CPU_LEFT_H

#include "backend/cpu/kernels.h"

enum { NB_LEFT_STEP = 32 }; /* blocks of columns begin at a multiple of it */

typedef struct nb_left {
    const nb_cpu *cpu;
    int64_t rows, K;
    float *f32;      /* [rows, nb_cpu_apart(K)], or NULL: */
    uint16_t *tiles; /* split_amx.h's A */
} nb_left;

typedef struct nb_left_product {
    double *c;
    const double *b;
    int64_t ldc, ldb, M, N, from, K; /* from: a multiple of NB_LEFT_STEP */
    bool b_by_rows;                  /* b is [N,K] */
} nb_left_product;

/* Rows of N that go together: many, so that the K x K matrix is read seldom, and yet some tasks a
 * thread. Bits do not depend on it. */
int64_t nb_left_rows(const nb_backend *be, int64_t N);

/* Bytes of one, a multiple of 64. */
size_t nb_left_bytes(const nb_cpu *cpu, int64_t rows, int64_t K);
/* In memory of that many, aligned to 64. */
nb_left nb_left_at(const nb_cpu *cpu, int64_t rows, int64_t K, void *memory);

/* Columns [k, k + n) of the first M rows; k a multiple of NB_LEFT_STEP, n too but at the end of
 * K. */
void nb_left_put(const nb_left *a, int64_t k, int64_t n, int64_t M, const float *x, int64_t ldx);
void nb_left_take(const nb_left *a, const nb_left_product *p);

#if NB_CPU_X86
/* Of the tiles (product_amx.c). */
size_t nb_cpu_tiles_bytes(int64_t rows, int64_t K);
void nb_cpu_tiles_put(const nb_left *a, int64_t k, int64_t n, int64_t M, const float *x,
                      int64_t ldx);
void nb_cpu_tiles_take(const nb_left *a, const nb_left_product *p);
#endif

#endif
