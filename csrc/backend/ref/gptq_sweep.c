/* gptq_sweep.c -- GPTQ in its textbook form (Frantar et al. 2022, algorithm 1 without the lazy
 * blocks), all in double.
 *
 *   U = R^-1, upper triangular with U^T U = (H + diag(add))^-1 in the order P;  w = a row of W in
 *       that order
 *   for column j:   q = round(w[j]);   e = (w[j] - q) / U[j][j];   w[i] -= e U[j][i] for i > j
 *
 * R is upper, so row j of U needs only the rows of U behind it ... seen by columns: U R = I gives
 *   U[i][j] = -(sum_{i<=k<j} U[i][k] R[k][j]) / R[j][j],  U[j][j] = 1 / R[j][j].
 * Without fixed groups the parameters of a group come from its columns as they stand when the first
 * one is reached, all earlier errors already spread into them. Values meet the grid as f32, as
 * everywhere.
 *
 * scratch: U [K,K] and w [K] as doubles, one group of floats. Cost: K^3 / 3 + N K^2
 * multiplications. */
#include "backend/ref/ref_ops.h"

#include <string.h>

size_t nb_ref_gptq_sweep_scratch(nb_backend *be, const nb_gptq_sweep_args *a)
{
    (void)be;
    const size_t K = (size_t)a->K;
    return (K * K + K) * sizeof(double) + K * sizeof(float);
}

static void invert_upper(const double *R, int64_t K, double *U)
{
    memset(U, 0, (size_t)(K * K) * sizeof *U);
    for (int64_t i = 0; i < K; i++) {
        U[i * K + i] = 1.0 / R[i * K + i];
        for (int64_t j = i + 1; j < K; j++) {
            double s = 0;
            for (int64_t k = i; k < j; k++)
                s += U[i * K + k] * R[k * K + j];
            U[i * K + j] = -s / R[j * K + j];
        }
    }
}

nb_status nb_ref_gptq_sweep(nb_backend *be, const nb_gptq_sweep_args *a, nb_error *err)
{
    (void)be;
    if (a->perm && !a->groups_fixed)
        return nb_fail(err, NB_INTERNAL, "ref: gptq_sweep in another order needs fixed groups");
    const int64_t K = a->K, group = nb_grid_group(a->grid, K);
    const int64_t G = (K + group - 1) / group;
    double *U = a->scratch, *w = U + K * K;
    float *now = (void *)(w + K);
    invert_upper(a->r, K, U);
    for (int64_t n = 0; n < a->N; n++) {
        nb_group *groups = a->groups + n * G;
        if (a->groups_fixed)
            memcpy(groups, a->groups_fixed + n * G, (size_t)G * sizeof *groups);
        for (int64_t j = 0; j < K; j++)
            w[j] = (double)a->w[n * K + (a->perm ? a->perm[j] : j)];
        double error = 0; /* e e^T = D U^-1 U^-T D^T = D (H + diag(add)) D^T, less the last of it */
        for (int64_t j = 0; j < K; j++) {
            const int64_t k = a->perm ? a->perm[j] : j; /* its place in natural order */
            nb_group *p = &groups[k / group];
            if (!a->groups_fixed && j % group == 0) {
                const int64_t count = j + group < K ? group : K - j;
                for (int64_t i = 0; i < count; i++)
                    now[i] = (float)w[j + i];
                a->grid->params(a->grid, now, (int)count, p);
            }
            const int code = nb_grid_round(a->grid, p, (float)w[j]);
            a->codes[n * K + k] = (uint8_t)code;
            const double e = (w[j] - (double)nb_grid_value(a->grid, p, code)) / U[j * K + j],
                         d = (double)a->w[n * K + k] - (double)nb_grid_value(a->grid, p, code);
            error += e * e - (a->error ? a->diag_add[k] * d * d : 0.0);
            for (int64_t i = j + 1; i < K; i++)
                w[i] -= e * U[j * K + i];
        }
        if (a->error)
            a->error[n] = error;
    }
    return NB_OK;
}
