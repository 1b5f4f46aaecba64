/* factor.c -- R upper with P (H + diag) P^T = A = R R^T: Cholesky of the index-reversed matrix in
 * f64 (quantizers.md 2.2).
 *
 * In R's own upper triangle, by blocks of kBlock columns from the last one on:
 *   the block's columns take out the products with all later ones, A[:end, b] -= R[:end, later]
 *       R[b, later]^T (product_f64, a task some rows)
 *   the diagonal block is factored
 *   the rows above it are solved against it (solve_back)
 * The lower triangle is never written, so it may hold H (r is h).
 * Cost K^3 / 3 FLOP. */
#include "backend/cpu/kernels.h"

#include <math.h>

enum { kBlock = NB_SOLVE, kRows = 48, kRowsMost = 8 * kRows };

struct factor_job {
    const nb_cpu *cpu;
    const nb_factor_args *a;
    int64_t b, n, rows; /* the block of columns [b, b + n); rows a task */
};

/* ---- the diagonal block ---- */

/* A's block minus what later columns take, its upper triangle alone: the products go into a square
 * of their own. */
static void update_block(const struct factor_job *j)
{
    const nb_factor_args *a = j->a;
    const int64_t K = a->K, end = j->b + j->n;
    double t[kBlock * kBlock];
    double *r = a->r + j->b * K;
    for (int64_t i = 0; i < j->n * kBlock; i++)
        t[i] = 0.0;
    j->cpu->run->product_f64(&(nb_product_f64){.c = t,
                                               .a = r + end,
                                               .b = r + end,
                                               .ldc = kBlock,
                                               .lda = K,
                                               .ldb = K,
                                               .M = j->n,
                                               .N = j->n,
                                               .K = K - end,
                                               .b_by_rows = true});
    for (int64_t i = 0; i < j->n; i++)
        for (int64_t k = i; k < j->n; k++)
            r[i * K + j->b + k] += t[i * kBlock + k];
}

/* R R^T = A of n rows, from the last column back. Returns 0, or how many columns (from 1) were
 * reached when it failed. */
static int64_t factor_block(double *r, int64_t ld, int64_t n)
{
    for (int64_t k = n - 1; k >= 0; k--) {
        const double *rk = r + k * ld;
        double d = rk[k];
        for (int64_t j = n - 1; j > k; j--)
            d -= rk[j] * rk[j];
        if (!(d > 0.0) || !isfinite(d))
            return n - k;
        r[k * ld + k] = d = sqrt(d);
        for (int64_t i = 0; i < k; i++) {
            double v = r[i * ld + k];
            for (int64_t j = n - 1; j > k; j--)
                v -= r[i * ld + j] * rk[j];
            r[i * ld + k] = v / d;
        }
    }
    return 0;
}

/* ---- tasks ---- */

/* Rows of task i above the block, all earlier-factored columns taken out. The last task is the
 * block itself. */
static void update_task(const void *arg, int64_t i, int worker)
{
    const struct factor_job *j = arg;
    const int64_t K = j->a->K, end = j->b + j->n, row = i * j->rows,
                  M = j->b - row < j->rows ? j->b - row : j->rows;
    double *r = j->a->r;
    (void)worker;
    if (M <= 0)
        update_block(j);
    else
        j->cpu->run->product_f64(&(nb_product_f64){.c = r + row * K + j->b,
                                                   .a = r + row * K + end,
                                                   .b = r + j->b * K + end,
                                                   .ldc = K,
                                                   .lda = K,
                                                   .ldb = K,
                                                   .M = M,
                                                   .N = j->n,
                                                   .K = K - end,
                                                   .b_by_rows = true});
}

static void solve_task(const void *arg, int64_t i, int worker)
{
    const struct factor_job *j = arg;
    const int64_t K = j->a->K, row = i * j->rows, M = j->b - row < j->rows ? j->b - row : j->rows;
    double *r = j->a->r;
    (void)worker;
    j->cpu->run->solve_back(r + row * K + j->b, K, M, r + j->b * K + j->b, K, j->n);
}

/* Returns 0 or the order of the minor (of the last rows) that fails. */
static int64_t cholesky(struct factor_job *j)
{
    const nb_factor_args *a = j->a;
    const int64_t K = a->K;
    for (int64_t end = K; end > 0; end = j->b) {
        j->b = end > kBlock ? end - kBlock : 0;
        j->n = end - j->b;
        j->rows = (j->b / 32 + kRows) / kRows *
                  kRows; /* the panel of later columns is copied once a task */
        j->rows = j->rows < kRowsMost ? j->rows : kRowsMost;
        const int64_t n_task = (j->b + j->rows - 1) / j->rows;
        nb_pool_run(j->cpu->pool, n_task + 1, update_task, j);
        const int64_t failed = factor_block(a->r + j->b * K + j->b, K, j->n);
        if (failed)
            return K - end + failed;
        nb_pool_run(j->cpu->pool, n_task, solve_task, j);
    }
    return 0;
}

/* Row i of A's upper triangle, from the diagonal and the lower triangle of H. */
static void gather_row(const void *arg, int64_t i, int worker)
{
    const nb_factor_args *a = ((const struct factor_job *)arg)->a;
    const int64_t K = a->K, pi = a->perm ? a->perm[i] : i;
    double *r = a->r + i * K;
    (void)worker;
    r[i] = (a->diag ? a->diag[pi] : a->h[pi * K + pi]) + a->diag_add[pi];
    for (int64_t k = i + 1; k < K; k++) {
        const int64_t pk = a->perm ? a->perm[k] : k;
        r[k] = pk < pi ? a->h[pi * K + pk] : a->h[pk * K + pi];
    }
    for (int64_t k = 0; k < i && a->r != a->h; k++)
        r[k] = 0.0;
}

nb_status nb_cpu_factor(nb_backend *be, const nb_factor_args *a, nb_error *err)
{
    struct factor_job j = {.cpu = nb_cpu_of(be), .a = a};
    (void)err;
    nb_pool_run(j.cpu->pool, a->K, gather_row, &j);
    *a->failed_minor = cholesky(&j);
    return NB_OK;
}

/* ---- H again ---- */

enum { kTile = 32 };

/* Rows of tile i: what lies above the diagonal is read from below it, by tiles, so that both sides
 * stay in the cache. */
static void unfactor_task(const void *arg, int64_t i, int worker)
{
    const nb_unfactor_args *a = arg;
    const int64_t K = a->K;
    (void)worker;
    for (int64_t r = i * kTile; r < K && r < (i + 1) * kTile; r++)
        a->h[r * K + r] = a->diag[r];
    for (int64_t j = i * kTile; j < K; j += kTile)
        for (int64_t r = i * kTile; r < K && r < (i + 1) * kTile; r++)
            for (int64_t c = j > r ? j : r + 1; c < K && c < j + kTile; c++)
                a->h[r * K + c] = a->h[c * K + r];
}

nb_status nb_cpu_unfactor(nb_backend *be, const nb_unfactor_args *a, nb_error *err)
{
    (void)err;
    nb_pool_run(nb_cpu_of(be)->pool, (a->K + kTile - 1) / kTile, unfactor_task, a);
    return NB_OK;
}
