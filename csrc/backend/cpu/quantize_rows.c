/* quantize_rows.c -- round to nearest into any grid, and the way back. Rows are independent. */
#include "backend/cpu/kernels.h"

struct rows_job {
    const nb_cpu *cpu;
    const nb_quantize_rows_args *a;
};

static void round_row(const void *arg, int64_t n, int worker)
{
    const struct rows_job *j = arg;
    const nb_quantize_rows_args *a = j->a;
    const int64_t K = a->K, group = nb_grid_group(a->grid, K), G = (K + group - 1) / group;
    (void)worker;
    for (int64_t g = 0; g < G; g++) {
        const int64_t from = g * group, to = from + group < K ? from + group : K;
        nb_group *p = &a->groups[n * G + g];
        a->grid->params(a->grid, a->w + n * K + from, (int)(to - from), p);
        if (a->codes)
            j->cpu->run->round_group(a->grid, p, a->w + n * K + from, to - from,
                                     a->codes + n * K + from);
    }
}

static void value_row(const void *arg, int64_t n, int worker)
{
    const nb_dequantize_args *a = arg;
    const int64_t K = a->K, group = nb_grid_group(a->grid, K), G = (K + group - 1) / group;
    (void)worker;
    for (int64_t k = 0; k < K; k++)
        a->q[n * K + k] =
            nb_grid_value(a->grid, &a->groups[n * G + k / group], a->codes[n * K + k]);
}

nb_status nb_cpu_quantize_rows(nb_backend *be, const nb_quantize_rows_args *a, nb_error *err)
{
    (void)err;
    const struct rows_job j = {nb_cpu_of(be), a};
    nb_pool_run(j.cpu->pool, a->N, round_row, &j);
    return NB_OK;
}

nb_status nb_cpu_dequantize(nb_backend *be, const nb_dequantize_args *a, nb_error *err)
{
    (void)err;
    nb_pool_run(nb_cpu_of(be)->pool, a->N, value_row, a);
    return NB_OK;
}
