/* factor.c -- R upper with P (H + diag) P^T = R R^T: Cholesky of the index-reversed matrix in f64 (quantizers.md 2.2).
 *
 *     M = chol_lower(J H J),  R[i][j] = M[K-1-i][K-1-j]
 *
 * Left-looking by blocks of kBlock columns: first the block's columns take the products with all earlier ones (product_f64, OpenMP over blocks of
 * rows), then the diagonal block is factored, then the rows below are solved against it. Cost K^3 / 3 FLOP. */
#include "backend/cpu/kernels.h"
#include "base/memory.h"

#include <math.h>
#include <stdlib.h>

enum { kBlock = 64 };

/* The diagonal block of n rows, its earlier columns taken out. Returns 0 or the row (from 1) that fails. */
static int64_t factor_block(double *m, int64_t ld, int64_t n)
{
    for (int64_t j = 0; j < n; j++)
        for (int64_t k = 0; k <= j; k++) {
            double v = m[j * ld + k];
            for (int64_t i = 0; i < k; i++)
                v -= m[j * ld + i] * m[k * ld + i];
            if (k < j)
                m[j * ld + k] = v / m[k * ld + k];
            else if (v > 0.0 && isfinite(v))
                m[j * ld + j] = sqrt(v);
            else
                return j + 1;
        }
    return 0;
}

/* Rows x of [n_row, n]: x := x L^-T, L the factored diagonal block. */
static void solve_rows(double *x, const double *l, int64_t ld, int64_t n_row, int64_t n)
{
    for (int64_t r = 0; r < n_row; r++, x += ld)
        for (int64_t k = 0; k < n; k++) {
            double v = x[k];
            for (int64_t i = 0; i < k; i++)
                v -= x[i] * l[k * ld + i];
            x[k] = v / l[k * ld + k];
        }
}

/* Lower Cholesky in place; returns 0 or the order of the leading minor that fails. */
static int64_t cholesky(const nb_cpu *cpu, double *m, int64_t K)
{
    for (int64_t b = 0; b < K; b += kBlock) {
        const int64_t n = K - b < kBlock ? K - b : kBlock, n_block = (K - b + kBlock - 1) / kBlock;
#pragma omp parallel for num_threads(cpu->base.n_thread) schedule(dynamic)
        for (int64_t i = 0; i < n_block; i++) {
            const int64_t row = b + i * kBlock;
            const nb_product_f64 p = {.c = m + row * K + b, .a = m + row * K, .b = m + b * K, .ldc = K, .lda = K, .ldb = K,
                                      .M = K - row < kBlock ? K - row : kBlock, .N = n, .K = b, .b_by_rows = true};
            cpu->run->product_f64(&p);
        }
        const int64_t failed = factor_block(m + b * K + b, K, n);
        if (failed)
            return b + failed;
#pragma omp parallel for num_threads(cpu->base.n_thread) schedule(static)
        for (int64_t i = 1; i < n_block; i++) {
            const int64_t row = b + i * kBlock;
            solve_rows(m + row * K + b, m + b * K + b, K, K - row < kBlock ? K - row : kBlock, n);
        }
    }
    return 0;
}

nb_status nb_cpu_factor(nb_backend *be, const nb_factor_args *a, nb_error *err)
{
    const int64_t K = a->K;
    double *m = nb_alloc_aligned((size_t)(K * K), sizeof *m, "a factor", err); /* waits, so it may allocate */
    if (!m)
        return NB_NO_ROOM;
#pragma omp parallel for num_threads(be->n_thread) schedule(static)
    for (int64_t i = 0; i < K; i++) {
        const int64_t pi = a->perm ? a->perm[K - 1 - i] : K - 1 - i;
        for (int64_t j = 0; j <= i; j++) {
            const int64_t pj = a->perm ? a->perm[K - 1 - j] : K - 1 - j;
            m[i * K + j] = a->h[pi * K + pj] + (i == j ? a->diag_add[pi] : 0.0);
        }
    }
    *a->failed_minor = cholesky(nb_cpu_of(be), m, K);
#pragma omp parallel for num_threads(be->n_thread) schedule(static)
    for (int64_t i = 0; i < K; i++)
        for (int64_t j = 0; j < K; j++)
            a->r[i * K + j] = j >= i ? m[(K - 1 - i) * K + K - 1 - j] : 0.0;
    free(m);
    return NB_OK;
}
