/* correct.c -- W += alpha W C (H + lambda I)^-1, with P (H + lambda I) P^T = R R^T (quantizers.md 2.3, "least-squares correction").
 *
 * Rows of W are independent. For a row: z = w C, permuted; y R R^T = z is two triangular solves, y R = ... by columns:
 *     u R^T = z  ->  u from the last column back (R^T is lower);   y R = u  ->  y from the first column on (R is upper).
 * Cost 4 N K^2 FLOP; everything in f64. */
#include "backend/cpu/clones.h"
#include "backend/cpu/cpu.h"

size_t nb_cpu_correct_scratch(nb_backend *be, const nb_correct_args *a)
{
    return (size_t)be->n_thread * 2 * (size_t)a->K * sizeof(double);
}

NB_CLONES static void axpy(double *y, const double *x, double s, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] += s * x[i];
}

NB_CLONES static double dot(const double *a, const double *b, int64_t n)
{
    double s[8] = {0};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; j++)
            s[j] += a[i + j] * b[i + j];
    double all = ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
    for (; i < n; i++)
        all += a[i] * b[i];
    return all;
}

static void correct_row(const nb_correct_args *a, float *w, double *z, double *p)
{
    const int64_t K = a->K;
    for (int64_t k = 0; k < K; k++)
        z[k] = 0.0;
    for (int64_t i = 0; i < K; i++)
        if (w[i] != 0.0f)
            axpy(z, a->c + i * K, (double)w[i], K);
    for (int64_t k = 0; k < K; k++)
        p[k] = z[a->perm ? a->perm[k] : k];
    /* u R^T = p: component k is sum over j >= k of u[j] R[k][j], so from the last back */
    for (int64_t k = K - 1; k >= 0; k--) {
        const double *r = a->r + k * K;
        p[k] = (p[k] - dot(p + k + 1, r + k + 1, K - 1 - k)) / r[k];
    }
    /* y R = u: component k is sum over j <= k of y[j] R[j][k], so from the first on, taking row j out of all later ones */
    for (int64_t j = 0; j < K; j++) {
        const double *r = a->r + j * K;
        p[j] /= r[j];
        axpy(p + j + 1, r + j + 1, -p[j], K - 1 - j);
    }
    for (int64_t k = 0; k < K; k++) {
        float *to = &w[a->perm ? a->perm[k] : k];
        *to = (float)((double)*to + a->alpha * p[k]);
    }
}

nb_status nb_cpu_correct(nb_backend *be, const nb_correct_args *a, nb_error *err)
{
    (void)err;
    const int n = be->n_thread;
    const int64_t K = a->K;
#pragma omp parallel for num_threads(n) schedule(static)
    for (int t = 0; t < n; t++) { /* a thread's rows: which thread does a row does not change it */
        double *z = (double *)a->scratch + (int64_t)t * 2 * K;
        for (int64_t r = a->N * t / n; r < a->N * (t + 1) / n; r++)
            correct_row(a, a->w + r * K, z, z + K);
    }
    return NB_OK;
}
