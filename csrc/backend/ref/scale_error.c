/* scale_error.c -- a row's groups one after another: scaled, rounded, taken back.
 *
 *   p = params(w s of the group),  d = value(round(w s, p)) / s - w,  error = sum cost d^2
 *
 * The grid's steps are f32 by definition (grid.c). scratch: the largest group, scaled. */
#include "backend/ref/ref_ops.h"

size_t nb_ref_scale_error_scratch(nb_backend *be, const nb_scale_error_args *a)
{
    (void)be;
    return (size_t)nb_grid_group(a->grid, a->K) * sizeof(float);
}

nb_status nb_ref_scale_error(nb_backend *be, const nb_scale_error_args *a, nb_error *err)
{
    (void)be, (void)err;
    const int64_t K = a->K, group = nb_grid_group(a->grid, a->K);
    float *v = a->scratch;
    for (int64_t m = 0; m < a->M; m++) {
        double sum = 0.0;
        for (int64_t first = 0; first < K; first += group) {
            const int64_t n = K - first < group ? K - first : group;
            const float *w = a->w + m * K + first, *s = a->scale + first;
            nb_group p;
            for (int64_t k = 0; k < n; k++)
                v[k] = w[k] * s[k];
            a->grid->params(a->grid, v, (int)n, &p);
            for (int64_t k = 0; k < n; k++) {
                const float q = nb_grid_value(a->grid, &p, nb_grid_round(a->grid, &p, v[k]));
                const double d = (double)(q / s[k] - w[k]);
                sum += a->cost[first + k] * d * d;
            }
        }
        a->error[m] = sum;
    }
    return NB_OK;
}
