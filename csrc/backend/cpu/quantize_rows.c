/* quantize_rows.c -- round to nearest into any grid, and the way back. Rows are independent. */
#include "backend/cpu/cpu.h"

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
