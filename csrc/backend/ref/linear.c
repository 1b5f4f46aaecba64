/* linear.c -- the two ops that read a packed weight.
 *
 *   embed    y[m][k] = scale * W[ids[m]][k]
 *   linear   y[m][n] = sum_k x[m][k] W[n][k] (+ bias[n]) (+ y[m][n])      k ascending, in double,
 *            rounded once
 *
 * Cost: M K and M N K multiplications. */
#include "backend/ref/ref_ops.h"

nb_status nb_ref_embed(nb_backend *be, const nb_embed_args *a, nb_error *err)
{
    (void)be, (void)err;
    const int64_t K = a->w->K;
    for (int64_t m = 0; m < a->M; m++)
        for (int64_t k = 0; k < K; k++)
            a->y[m * a->ldy + k] = (float)((double)a->scale * (double)a->w->w[a->ids[m] * K + k]);
    return NB_OK;
}

size_t nb_ref_linear_scratch(nb_backend *be, const nb_linear_args *a)
{
    (void)be, (void)a;
    return 0;
}

nb_status nb_ref_linear(nb_backend *be, const nb_linear_args *a, nb_error *err)
{
    (void)be, (void)err;
    const int64_t N = a->w->N, K = a->w->K;
    for (int64_t m = 0; m < a->M; m++) {
        const float *x = a->x + m * a->ldx; /* [K] */
        float *y = a->y + m * a->ldy;       /* [N] */
        for (int64_t n = 0; n < N; n++) {
            const float *w = a->w->w + n * K; /* [K] */
            double sum = 0;
            for (int64_t k = 0; k < K; k++)
                sum += (double)x[k] * (double)w[k];
            if (a->bias)
                sum += (double)a->bias[n];
            if (a->add)
                sum += (double)y[n];
            y[n] = (float)sum;
        }
    }
    return NB_OK;
}
