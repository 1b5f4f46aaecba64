/* pointwise.c -- the ops that look at one element at a time, and the one that only compares.
 *
 *   gated_activation   out = act(gate) * up    silu(g) = g / (1 + e^-g)
 *                                              gelu(g) = g / 2 (1 + tanh(sqrt(2 / pi) (g + 0.044715
 *                                                  g^3)))   (Hendrycks and Gimpel 2016)
 *   logits_soft_cap    x = cap tanh(x / cap)
 *   argmax             the lowest index of the greatest value of a row */
#include "backend/ref/ref_ops.h"

#include <math.h>

static double silu(double g)
{
    return g / (1.0 + exp(-g));
}

static double gelu_tanh(double g)
{
    const double root_2_pi = 0.79788456080286535588; /* sqrt(2 / pi) */
    return 0.5 * g * (1.0 + tanh(root_2_pi * (g + 0.044715 * g * g * g)));
}

nb_status nb_ref_gated_activation(nb_backend *be, const nb_gated_args *a, nb_error *err)
{
    (void)be, (void)err;
    for (int64_t m = 0; m < a->M; m++)
        for (int64_t n = 0; n < a->N; n++) {
            const double g = (double)a->gate[m * a->ld + n];
            const double act = a->act == NB_ACT_GELU_TANH ? gelu_tanh(g) : silu(g);
            a->out[m * a->ldo + n] = (float)(act * (double)a->up[m * a->ld + n]);
        }
    return NB_OK;
}

nb_status nb_ref_logits_soft_cap(nb_backend *be, const nb_soft_cap_args *a, nb_error *err)
{
    (void)be, (void)err;
    for (int64_t i = 0; i < a->n; i++)
        a->x[i] = (float)((double)a->cap * tanh((double)a->x[i] / (double)a->cap));
    return NB_OK;
}

nb_status nb_ref_argmax(nb_backend *be, const nb_argmax_args *a, nb_error *err)
{
    (void)be, (void)err;
    for (int64_t m = 0; m < a->M; m++) {
        const float *x = a->x + m * a->ldx;
        int64_t best = 0;
        for (int64_t n = 0; n < a->N && best >= 0; n++)
            best = !(x[n] < INFINITY) ? -1 : x[n] > x[best] ? n : best;
        a->out[m] = (int32_t)best;
    }
    return NB_OK;
}
