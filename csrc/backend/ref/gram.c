/* gram.c -- the statistics a layer-wise quantizer needs, and what it minimises.
 *
 *   gram_accumulate   H += X^T X;   C += (X_orig - X)^T X       H: the Hessian of ||X W^T - X Q^T||^2, up to a factor
 *   drift_accumulate  D += ((X_orig diag(1 / scale) - X) W^T)^T X = W C
 *   quant_error       tr(D H D^T) = sum_n d_n H d_n^T           D = W - Q, or W itself when there
 *                     is no Q
 *
 * Cost: 2 M K^2 flops, twice that with C; 4 M N K for D; 2 N K^2 for the error. */
#include "backend/ref/ref_ops.h"

size_t nb_ref_gram_scratch(nb_backend *be, const nb_gram_args *a)
{
    (void)be, (void)a;
    return 0;
}

nb_status nb_ref_gram_accumulate(nb_backend *be, const nb_gram_args *a, nb_error *err)
{
    (void)be, (void)err;
    const int64_t K = a->K;
    for (int64_t m = 0; m < a->M; m++) {
        const float *x = a->x + m * a->ldx;
        const float *orig = a->x_orig ? a->x_orig + m * a->ld_orig : NULL;
        for (int64_t i = 0; i < K; i++)
            for (int64_t j = 0; j < K; j++) {
                a->h[i * K + j] += (double)x[i] * (double)x[j];
                if (orig)
                    a->c[i * K + j] += ((double)orig[i] - (double)x[i]) * (double)x[j];
            }
    }
    return NB_OK;
}

size_t nb_ref_drift_scratch(nb_backend *be, const nb_drift_args *a)
{
    (void)be, (void)a;
    return 0;
}

nb_status nb_ref_drift_accumulate(nb_backend *be, const nb_drift_args *a, nb_error *err)
{
    (void)be, (void)err;
    for (int64_t m = 0; m < a->M; m++) {
        const float *x = a->x + m * a->ldx, *orig = a->x_orig + m * a->ld_orig;
        for (int64_t n = 0; n < a->N; n++) {
            double y = 0;
            for (int64_t k = 0; k < a->K; k++)
                y += (double)a->w[n * a->K + k] *
                     ((double)orig[k] / (a->scale ? (double)a->scale[k] : 1.0) - (double)x[k]);
            for (int64_t k = 0; k < a->K; k++)
                a->d[n * a->K + k] += y * (double)x[k];
        }
    }
    return NB_OK;
}

size_t nb_ref_quant_error_scratch(nb_backend *be, const nb_quant_error_args *a)
{
    (void)be, (void)a;
    return 0;
}

nb_status nb_ref_quant_error(nb_backend *be, const nb_quant_error_args *a, nb_error *err)
{
    (void)be, (void)err;
    const int64_t K = a->K;
    double total = 0;
    for (int64_t n = 0; n < a->N; n++) {
        const float *w = a->w + n * K, *q = a->q ? a->q + n * K : NULL;
        for (int64_t i = 0; i < K; i++) {
            const double di = (double)w[i] - (q ? (double)q[i] : 0.0);
            double row = 0; /* (H d)_i */
            for (int64_t j = 0; j < K; j++)
                row += a->h[i * K + j] * ((double)w[j] - (q ? (double)q[j] : 0.0));
            total += di * row;
        }
    }
    *a->out = total;
    return NB_OK;
}
