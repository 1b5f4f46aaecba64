/* quantize_rows.c -- round to nearest into any grid, the way back, and tr(D H D^T). Rows are independent. */
#include "backend/cpu/clones.h"
#include "backend/cpu/cpu.h"

#include <stdlib.h>

nb_status nb_cpu_quantize_rows(nb_backend *be, const nb_quantize_rows_args *a, nb_error *err)
{
    (void)err;
    const int64_t K = a->K, group = a->grid->group ? a->grid->group : K, G = (K + group - 1) / group;
#pragma omp parallel for num_threads(be->n_thread) schedule(static)
    for (int64_t n = 0; n < a->N; n++)
        for (int64_t g = 0; g < G; g++) {
            const int64_t from = g * group, to = from + group < K ? from + group : K;
            nb_group *p = &a->groups[n * G + g];
            a->grid->params(a->grid, a->w + n * K + from, (int)(to - from), p);
            for (int64_t k = from; a->codes && k < to; k++)
                a->codes[n * K + k] = (uint8_t)nb_grid_round(a->grid, p, a->w[n * K + k]);
        }
    return NB_OK;
}

nb_status nb_cpu_dequantize(nb_backend *be, const nb_dequantize_args *a, nb_error *err)
{
    (void)err;
    const int64_t K = a->K, group = a->grid->group ? a->grid->group : K, G = (K + group - 1) / group;
#pragma omp parallel for num_threads(be->n_thread) schedule(static)
    for (int64_t n = 0; n < a->N; n++)
        for (int64_t k = 0; k < K; k++)
            a->q[n * K + k] = nb_grid_value(&a->groups[n * G + k / group], a->codes[n * K + k]);
    return NB_OK;
}

size_t nb_cpu_quant_error_scratch(nb_backend *be, const nb_quant_error_args *a)
{
    return ((size_t)be->n_thread * (size_t)a->K + (size_t)a->N) * sizeof(double);
}

/* d H d^T for one row; H is symmetric, so sum_i d_i (d_i H_ii + 2 sum_{j>i} d_j H_ij). */
NB_CLONES static double quadratic(const double *d, const double *h, int64_t K)
{
    double sum = 0.0;
    for (int64_t i = 0; i < K; i++) {
        const double *row = h + i * K;
        double s[8] = {0}, tail = 0.0;
        int64_t j = i + 1;
        if (d[i] == 0.0)
            continue;
        for (; j + 8 <= K; j += 8)
            for (int v = 0; v < 8; v++)
                s[v] += d[j + v] * row[j + v];
        for (; j < K; j++)
            tail += d[j] * row[j];
        tail += ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
        sum += d[i] * (d[i] * row[i] + 2.0 * tail);
    }
    return sum;
}

nb_status nb_cpu_quant_error(nb_backend *be, const nb_quant_error_args *a, nb_error *err)
{
    (void)err;
    const int64_t K = a->K;
    const int nt = be->n_thread;
    double *row = a->scratch, *d0 = row + a->N;
#pragma omp parallel for num_threads(nt) schedule(static)
    for (int t = 0; t < nt; t++) {
        double *d = d0 + (int64_t)t * K;
        for (int64_t n = a->N * t / nt; n < a->N * (t + 1) / nt; n++) {
            for (int64_t k = 0; k < K; k++)
                d[k] = (double)a->w[n * K + k] - (a->q ? (double)a->q[n * K + k] : 0.0);
            row[n] = quadratic(d, a->h, K);
        }
    }
    *a->out = 0.0;
    for (int64_t n = 0; n < a->N; n++) /* in the order of the rows, whatever the threads */
        *a->out += row[n];
    return NB_OK;
}
