/* factor.c -- the triangular factor behind GPTQ, and the correction that reuses it.
 *
 *   A = P (H + diag(add)) P^T,  A[i][j] = H[p_i][p_j] + (i == j) add[p_i]
 *   R upper with A = R R^T:   A[i][j] = sum over k >= max(i, j) of R[i][k] R[j][k],  so column j
 *     from the last to the first: R[j][j] = sqrt(A[j][j] - sum_{k>j} R[j][k]^2)
 *     R[i][j] = (A[i][j] - sum_{k>j} R[i][k] R[j][k]) / R[j][j]       i < j
 * which is Cholesky of A read backwards; step j finishes the minor of order K - j of that reversed
 * matrix.
 *
 *   correct:  W += alpha T A'^-1,  T = W C (or given),  A' = H + diag(add) = P^T R R^T P:  for
 *     every row t of T, in the order P, v R^T = t (from the last element),  z R = v (from the
 *     first),  w[p_j] += alpha z[j]
 *
 * Cost: K^3 / 3 flops; 2 N K^2 for T and 2 N K^2 for the two solves. scratch of correct: two rows
 * of doubles. */
#include "backend/ref/ref_ops.h"

#include <math.h>

/* H from its lower triangle: in place the upper one is R's already. */
static double element(const nb_factor_args *a, int64_t i, int64_t j)
{
    if (i == j && a->diag)
        return a->diag[i];
    return i > j ? a->h[i * a->K + j] : a->h[j * a->K + i];
}

nb_status nb_ref_factor(nb_backend *be, const nb_factor_args *a, nb_error *err)
{
    (void)be, (void)err;
    const int64_t K = a->K;
    double *R = a->r;
    *a->failed_minor = 0;
    for (int64_t j = K - 1; j >= 0; j--) {
        const int64_t pj = a->perm ? a->perm[j] : j;
        double d = element(a, pj, pj) + a->diag_add[pj];
        for (int64_t k = j + 1; k < K; k++)
            d -= R[j * K + k] * R[j * K + k];
        if (!(d > 0) || isinf(d)) { /* also a NaN */
            *a->failed_minor = K - j;
            return NB_OK;
        }
        R[j * K + j] = sqrt(d);
        for (int64_t i = 0; i < j; i++) {
            const int64_t pi = a->perm ? a->perm[i] : i;
            double s = element(a, pi, pj);
            for (int64_t k = j + 1; k < K; k++)
                s -= R[i * K + k] * R[j * K + k];
            R[i * K + j] = s / R[j * K + j];
        }
        for (int64_t i = j + 1; i < K && R != a->h; i++)
            R[i * K + j] = 0;
    }
    return NB_OK;
}

nb_status nb_ref_unfactor(nb_backend *be, const nb_unfactor_args *a, nb_error *err)
{
    (void)be, (void)err;
    for (int64_t i = 0; i < a->K; i++) {
        a->h[i * a->K + i] = a->diag[i];
        for (int64_t j = i + 1; j < a->K; j++)
            a->h[i * a->K + j] = a->h[j * a->K + i];
    }
    return NB_OK;
}

size_t nb_ref_correct_scratch(nb_backend *be, const nb_correct_args *a)
{
    (void)be;
    return 2 * (size_t)a->K * sizeof(double);
}

nb_status nb_ref_correct(nb_backend *be, const nb_correct_args *a, nb_error *err)
{
    (void)be, (void)err;
    const int64_t K = a->K;
    double *t = a->scratch, *v = t + K; /* v becomes z in place */
    for (int64_t n = 0; n < a->N; n++) {
        float *w = a->w + n * K;
        for (int64_t j = 0; j < K; j++) {
            const int64_t pj = a->perm ? a->perm[j] : j;
            t[j] = a->wc ? a->wc[n * K + pj] : 0;
            for (int64_t k = 0; a->c && k < K; k++)
                t[j] += (double)w[k] * a->c[k * K + pj];
        }
        for (int64_t j = K - 1; j >= 0; j--) {
            v[j] = t[j];
            for (int64_t k = j + 1; k < K; k++)
                v[j] -= v[k] * a->r[j * K + k];
            v[j] /= a->r[j * K + j];
        }
        for (int64_t j = 0; j < K; j++) {
            for (int64_t k = 0; k < j; k++)
                v[j] -= v[k] * a->r[k * K + j];
            v[j] /= a->r[j * K + j];
        }
        for (int64_t j = 0; j < K; j++) {
            float *to = &w[a->perm ? a->perm[j] : j];
            *to = (float)((double)*to + a->alpha * v[j]);
        }
    }
    return NB_OK;
}
