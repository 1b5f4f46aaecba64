/* limit_rows.c -- rows longer than `limit` times the median row are scaled down to that length
 * (backend.h). */
#include "backend/ref/ref_ops.h"

#include <math.h>
#include <stdlib.h>

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double length(const float *x, int64_t K)
{
    double sum = 0.0;
    for (int64_t k = 0; k < K; k++)
        sum += (double)x[k] * (double)x[k];
    return sqrt(sum);
}

nb_status nb_ref_limit_rows(nb_backend *be, const nb_limit_rows_args *a, nb_error *err)
{
    (void)be, (void)err;
    for (int64_t m = 0; m < a->M; m++)
        a->scratch[m] = length(a->x + m * a->K, a->K);
    qsort(a->scratch, (size_t)a->M, sizeof *a->scratch, ascending);
    const double most = (double)a->limit * a->scratch[a->M / 2];
    for (int64_t m = 0; m < a->M; m++) {
        const double own = length(a->x + m * a->K, a->K), w = own > most ? most / own : 1.0;
        for (int64_t k = m * a->K; k < (m + 1) * a->K; k++) {
            a->y[k] = (float)(w * (double)a->x[k]);
            if (a->x_orig)
                a->y_orig[k] = (float)(w * (double)a->x_orig[k]);
        }
    }
    return NB_OK;
}
