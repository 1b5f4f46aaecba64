/* norm.c -- y[m][k] = x[m][k] / sqrt(mean_k(x[m][k]^2) + eps) * weight[k]   (Zhang and Sennrich
 * 2019, eq. 4). In place is fine: the mean is taken before the row is written. Cost: O(M K). */
#include "backend/ref/ref_ops.h"

#include <math.h>

nb_status nb_ref_rms_norm(nb_backend *be, const nb_rms_norm_args *a, nb_error *err)
{
    (void)be, (void)err;
    const int64_t n_part = a->n_part ? a->n_part : 1;
    for (int64_t i = 0; i < a->M * n_part; i++) {
        const int64_t m = i / n_part, at = i % n_part * a->K;
        const float *x = a->x + m * a->ldx + at;
        float *y = a->y + m * a->ldy + at;
        double sum = 0;
        for (int64_t k = 0; k < a->K; k++)
            sum += (double)x[k] * (double)x[k];
        const double root = sqrt(sum / (double)a->K + (double)a->eps);
        for (int64_t k = 0; k < a->K; k++)
            y[k] = (float)((double)x[k] / root * (double)a->weight[k]);
    }
    return NB_OK;
}
