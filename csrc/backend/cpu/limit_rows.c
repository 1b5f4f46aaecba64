/* limit_rows.c -- rows longer than `limit` times the median row are scaled down to that length
 * (backend.h).
 *
 * Squares are summed in f64, kLanes sums side by side. scratch: the squared lengths, sorted by
 * their places: rank m of row i is how many are less, or equal and before it, so no two have one
 * rank. O(M K + M^2). */
#include "backend/cpu/cpu.h"

#include <math.h>

enum { kLanes = 8 };

static double square(const float *x, int64_t K)
{
    double part[kLanes] = {0.0}, sum = 0.0;
    int64_t k = 0;
    for (; k + kLanes <= K; k += kLanes)
        for (int i = 0; i < kLanes; i++)
            part[i] += (double)x[k + i] * (double)x[k + i];
    for (int i = 0; k < K; k++, i++)
        part[i] += (double)x[k] * (double)x[k];
    for (int i = 0; i < kLanes; i++)
        sum += part[i];
    return sum;
}

static void measure_row(const void *arg, int64_t m, int worker)
{
    const nb_limit_rows_args *a = arg;
    (void)worker;
    a->scratch[m] = square(a->x + m * a->K, a->K);
}

static double median(const double *square, int64_t M)
{
    for (int64_t m = 0; m < M; m++) {
        int64_t rank = 0;
        for (int64_t i = 0; i < M; i++)
            rank += square[i] < square[m] || (i < m && square[i] <= square[m]);
        if (rank == M / 2 && !isnan(square[m]))
            return square[m];
    }
    return (double)INFINITY; /* NaN left no row of that rank: nothing is limited */
}

static void scale_row(const void *arg, int64_t m, int worker)
{
    const nb_limit_rows_args *a = arg;
    const double most = (double)a->limit * (double)a->limit * a->scratch[a->M], own = a->scratch[m];
    const float w = own > most ? (float)sqrt(most / own) : 1.0f;
    (void)worker;
    for (int64_t k = m * a->K; k < (m + 1) * a->K; k++) {
        a->y[k] = w * a->x[k];
        if (a->x_orig)
            a->y_orig[k] = w * a->x_orig[k];
    }
}

nb_status nb_cpu_limit_rows(nb_backend *be, const nb_limit_rows_args *a, nb_error *err)
{
    nb_pool *pool = nb_cpu_of(be)->pool;
    (void)err;
    nb_pool_run(pool, a->M, measure_row, a);
    a->scratch[a->M] = median(a->scratch, a->M);
    nb_pool_run(pool, a->M, scale_row, a);
    return NB_OK;
}
