/* gptq_sweep.c -- GPTQ over all columns of a matrix (Frantar et al. 2022, algorithm 1; U = R^-1, quantizers.md 2.2).
 *
 *     for each column j in order:  q_j = round(w_j);  e = (w_j - q_j) / U[j][j];  w_l -= e U[j][l] for l > j
 *
 * Rows of W are independent and share U, so a thread takes kRows of them through the columns together: U's row is read once for all. U is f64 when it
 * is inverted and f32 in the updates (0 to 0.05 % of the codes differ from f64). Cost N K^2 FLOP, and K^3 / 3 for the inverse. */
#include "backend/cpu/clones.h"
#include "backend/cpu/cpu.h"

#include <stdlib.h>
#include <string.h>

enum { kRows = 8 };

static size_t align64(size_t n)
{
    return (n + 63) / 64 * 64;
}

size_t nb_cpu_gptq_sweep_scratch(nb_backend *be, const nb_gptq_sweep_args *a)
{
    const size_t K = (size_t)a->K;
    return align64(K * K * sizeof(double)) + align64(K * K * sizeof(float)) + (size_t)be->n_thread * align64(kRows * K * sizeof(float));
}

NB_CLONES static void axpy(double *y, const double *x, double s, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] += s * x[i];
}

/* U = R^-1, row by row from the last: U[i][:] = (e_i - sum_{k>i} R[i][k] U[k][:]) / R[i][i]. Columns are independent: threads take ranges of them. */
static void invert_upper(const double *r, double *u, float *f, int64_t K, int n_thread)
{
#pragma omp parallel for num_threads(n_thread) schedule(static)
    for (int t = 0; t < n_thread; t++) {
        const int64_t c0 = K * t / n_thread, c1 = K * (t + 1) / n_thread;
        for (int64_t i = c1 - 1; i >= 0; i--) {
            double *to = u + i * K;
            for (int64_t c = c0; c < c1; c++)
                to[c] = c == i ? 1.0 : 0.0;
            for (int64_t k = i + 1; k < c1; k++) {
                const int64_t from = k > c0 ? k : c0; /* U[k] is zero left of its diagonal */
                axpy(to + from, u + k * K + from, -r[i * K + k], c1 - from);
            }
            for (int64_t c = c0; c < c1; c++) {
                to[c] /= r[i * K + i];
                f[i * K + c] = (float)to[c];
            }
        }
        for (int64_t i = c1; i < K; i++)
            memset(f + i * K + c0, 0, (size_t)(c1 - c0) * sizeof *f);
    }
}

NB_CLONES static void spread(float *w, const float *u, float e, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        w[i] -= e * u[i];
}

struct sweep {
    const nb_gptq_sweep_args *a;
    const float *u;
    int64_t group, G;
};

/* Rows [n0, n0 + n) in processing order in w [n][K]. */
static void sweep_rows(const struct sweep *s, int64_t n0, int n, float *w)
{
    const nb_gptq_sweep_args *a = s->a;
    const int64_t K = a->K;
    for (int64_t j = 0; j < K; j++) {
        const int64_t k = a->perm ? a->perm[j] : j, g = k / s->group;
        const float *u = s->u + j * K;
        for (int i = 0; i < n; i++) {
            nb_group *p = &a->groups[(n0 + i) * s->G + g];
            float *row = w + i * K;
            if (!a->groups_fixed && k % s->group == 0)
                a->grid->params(a->grid, row + j, (int)(K - j < s->group ? K - j : s->group), p);
            const int code = nb_grid_round(a->grid, p, row[j]);
            a->codes[(n0 + i) * K + k] = (uint8_t)code;
            const float e = (row[j] - nb_grid_value(p, code)) / u[j];
            spread(row + j + 1, u + j + 1, e, K - j - 1);
        }
    }
}

nb_status nb_cpu_gptq_sweep(nb_backend *be, const nb_gptq_sweep_args *a, nb_error *err)
{
    const int64_t K = a->K, tiles = (a->N + kRows - 1) / kRows;
    const int nt = be->n_thread;
    if (a->perm && !a->groups_fixed)
        return nb_fail(err, NB_INTERNAL, "gptq_sweep: an order needs fixed groups");
    char *at = a->scratch;
    double *u = (double *)(void *)at;
    float *f = (float *)(void *)(at += align64((size_t)(K * K) * sizeof(double)));
    char *rows = at + align64((size_t)(K * K) * sizeof(float));
    struct sweep s = {.a = a, .u = f, .group = a->grid->group ? a->grid->group : K};
    s.G = (K + s.group - 1) / s.group;
    invert_upper(a->r, u, f, K, nt);
    if (a->groups_fixed && a->groups != a->groups_fixed)
        memcpy(a->groups, a->groups_fixed, (size_t)(a->N * s.G) * sizeof *a->groups);
#pragma omp parallel for num_threads(nt) schedule(static)
    for (int t = 0; t < nt; t++) {
        float *w = (float *)(void *)(rows + (size_t)t * align64(kRows * (size_t)K * sizeof(float)));
        for (int64_t b = tiles * t / nt; b < tiles * (t + 1) / nt; b++) {
            const int64_t n0 = b * kRows;
            const int n = (int)(a->N - n0 < kRows ? a->N - n0 : kRows);
            for (int i = 0; i < n; i++)
                for (int64_t j = 0; j < K; j++)
                    w[i * K + j] = a->w[(n0 + i) * K + (a->perm ? a->perm[j] : j)];
            sweep_rows(&s, n0, n, w);
        }
    }
    return NB_OK;
}
