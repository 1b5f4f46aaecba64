/* factor.c -- R upper with P (H + diag) P^T = R R^T: Cholesky of the index-reversed matrix in f64 (quantizers.md 2.2).
 *
 *     M = chol_lower(J H J),  R[i][j] = M[K-1-i][K-1-j]
 *
 * Left-looking by blocks of kBlock columns: first the block's columns take the products with all earlier ones (product_f64, a task a block of
 * rows), then the diagonal block is factored, then the rows below are solved against it. All in R's own memory. Cost K^3 / 3 FLOP. */
#include "backend/cpu/kernels.h"

#include <math.h>

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

struct factor_job {
    const nb_cpu *cpu;
    const nb_factor_args *a;
    double *m;
    int64_t b, n; /* the block of columns */
};

static int64_t rows_of(const struct factor_job *j, int64_t row)
{
    return j->a->K - row < kBlock ? j->a->K - row : kBlock;
}

/* Block i of rows from the diagonal on: takes out all earlier columns. */
static void update_task(const void *arg, int64_t i, int worker)
{
    const struct factor_job *j = arg;
    const int64_t K = j->a->K, row = j->b + i * kBlock;
    (void)worker;
    j->cpu->run->product_f64(&(nb_product_f64){.c = j->m + row * K + j->b, .a = j->m + row * K, .b = j->m + j->b * K, .ldc = K, .lda = K, .ldb = K,
                                               .M = rows_of(j, row), .N = j->n, .K = j->b, .b_by_rows = true});
}

/* Block i of rows below the diagonal block, against it. */
static void solve_task(const void *arg, int64_t i, int worker)
{
    const struct factor_job *j = arg;
    const int64_t K = j->a->K, row = j->b + (i + 1) * kBlock;
    (void)worker;
    solve_rows(j->m + row * K + j->b, j->m + j->b * K + j->b, K, rows_of(j, row), j->n);
}

/* Lower Cholesky in place; returns 0 or the order of the leading minor that fails. */
static int64_t cholesky(struct factor_job *j)
{
    const int64_t K = j->a->K;
    for (j->b = 0; j->b < K; j->b += kBlock) {
        const int64_t n_block = (K - j->b + kBlock - 1) / kBlock;
        j->n = rows_of(j, j->b);
        nb_pool_run(j->cpu->pool, n_block, update_task, j);
        const int64_t failed = factor_block(j->m + j->b * K + j->b, K, j->n);
        if (failed)
            return j->b + failed;
        nb_pool_run(j->cpu->pool, n_block - 1, solve_task, j);
    }
    return 0;
}

static void gather_row(const void *arg, int64_t i, int worker)
{
    const struct factor_job *j = arg;
    const nb_factor_args *a = j->a;
    const int64_t K = a->K, pi = a->perm ? a->perm[K - 1 - i] : K - 1 - i;
    (void)worker;
    for (int64_t k = 0; k <= i; k++) {
        const int64_t pk = a->perm ? a->perm[K - 1 - k] : K - 1 - k;
        j->m[i * K + k] = a->h[pi * K + pk] + (i == k ? a->diag_add[pi] : 0.0);
    }
    for (int64_t k = i + 1; k < K; k++)
        j->m[i * K + k] = 0.0;
}

/* R[i][j] = M[K-1-i][K-1-j]: row i changes places with row K-1-i, both turned round. What the updates left beyond M's diagonal goes. */
static void turn_row(const void *arg, int64_t i, int worker)
{
    const struct factor_job *j = arg;
    const int64_t K = j->a->K;
    double *p = j->m + i * K, *q = j->m + (K - 1 - i) * K + K - 1;
    (void)worker;
    for (int64_t k = 0; k < (2 * i + 1 == K ? K / 2 : K); k++) {
        const double t = p[k];
        p[k] = q[-k];
        q[-k] = t;
    }
    for (int64_t k = 0; k < i; k++)
        p[k] = 0.0;
    for (int64_t k = 0; k < K - 1 - i; k++)
        (q - K + 1)[k] = 0.0;
}

nb_status nb_cpu_factor(nb_backend *be, const nb_factor_args *a, nb_error *err)
{
    struct factor_job j = {.cpu = nb_cpu_of(be), .a = a, .m = a->r}; /* M lies where R will: K^2 doubles fewer */
    (void)err;
    nb_pool_run(j.cpu->pool, a->K, gather_row, &j);
    *a->failed_minor = cholesky(&j);
    nb_pool_run(j.cpu->pool, (a->K + 1) / 2, turn_row, &j);
    return NB_OK;
}
