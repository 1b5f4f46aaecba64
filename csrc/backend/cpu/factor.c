/* factor.c -- R upper with P (H + diag) P^T = R R^T: Cholesky of the index-reversed matrix, row by row in f64 (quantizers.md 2.2).
 *
 *     M = chol_lower(J H J),  R[i][j] = M[K-1-i][K-1-j]
 *
 * Left-looking by blocks of kBlock columns: the block's columns take the products of all earlier ones (rows are independent, OpenMP over them), then the
 * block itself is factored. Cost K^3 / 3 FLOP. The dot products run along rows, so memory is read in order. */
#include "backend/cpu/clones.h"
#include "backend/cpu/cpu.h"
#include "base/memory.h"

#include <math.h>
#include <stdlib.h>

enum { kBlock = 64 };

NB_CLONES static double dot(const double *a, const double *b, int64_t n)
{
    double s[16] = {0};
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int j = 0; j < 16; j++)
            s[j] += a[i + j] * b[i + j];
    double all = 0.0;
    for (int j = 0; j < 16; j++)
        all += s[j];
    for (; i < n; i++)
        all += a[i] * b[i];
    return all;
}

/* Lower Cholesky in place; returns 0 or the order of the leading minor that fails. */
static int64_t cholesky(double *m, int64_t K, int n_thread)
{
    for (int64_t b = 0; b < K; b += kBlock) {
        const int64_t end = b + kBlock < K ? b + kBlock : K;
        for (int64_t j = b; j < end; j++) { /* the diagonal block, serial: kBlock^2 K */
            for (int64_t k = b; k <= j; k++) {
                const double v = m[j * K + k] - dot(m + j * K, m + k * K, k);
                if (k < j)
                    m[j * K + k] = v / m[k * K + k];
                else if (v > 0.0 && isfinite(v))
                    m[j * K + j] = sqrt(v);
                else
                    return j + 1;
            }
        }
#pragma omp parallel for num_threads(n_thread) schedule(static)
        for (int64_t i = end; i < K; i++)
            for (int64_t k = b; k < end; k++)
                m[i * K + k] = (m[i * K + k] - dot(m + i * K, m + k * K, k)) / m[k * K + k];
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
    *a->failed_minor = cholesky(m, K, be->n_thread);
#pragma omp parallel for num_threads(be->n_thread) schedule(static)
    for (int64_t i = 0; i < K; i++)
        for (int64_t j = 0; j < K; j++)
            a->r[i * K + j] = j >= i ? m[(K - 1 - i) * K + K - 1 - j] : 0.0;
    free(m);
    return NB_OK;
}
