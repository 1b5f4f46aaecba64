/* moe.c -- mixtures of experts (Shazeer et al. 2017, eq. 2; Fedus et al. 2021): choosing,
 * multiplying by, and mixing them; and the residual of what was normed or scaled first.
 *
 *   route_experts    p = softmax(logits of a token); its n_used greatest, one by one, the lower
 *                    expert of equals; divided by their sum if asked
 *   grouped_linear   y[p] = x[p / share] W[expert[p]]^T
 *   combine_experts  y[m] (+)= scale sum_j weight[m][j] x[m n_used + j]
 *   gather_rows      y[i] = x[row[i]], or other[-1 - row[i]]
 *   add_scaled       y += scale x
 *   take_columns     y[m][j] = x[m][col[j]], or 0 */
#include "backend/ref/ref_ops.h"

#include <math.h>
#include <string.h>

static bool chosen(const int32_t *expert, int32_t n, int32_t e)
{
    for (int32_t j = 0; j < n; j++)
        if (expert[j] == e)
            return true;
    return false;
}

nb_status nb_ref_route_experts(nb_backend *be, const nb_route_args *a, nb_error *err)
{
    (void)be, (void)err;
    for (int64_t m = 0; m < a->M; m++) {
        const float *l = a->logits + m * a->ldl;
        int32_t *expert = a->expert + m * a->n_used;
        double all = 0, picked = 0;
        for (int32_t j = 0; j < a->n_used; j++) {
            int32_t best = -1;
            for (int32_t e = 0; e < a->n_expert; e++)
                if (!chosen(expert, j, e) && (best < 0 || l[e] > l[best]))
                    best = e;
            expert[j] = best;
        }
        const double top = (double)l[expert[0]];
        for (int32_t e = 0; e < a->n_expert; e++)
            all += exp((double)l[e] - top);
        for (int32_t j = 0; j < a->n_used; j++)
            picked += exp((double)l[expert[j]] - top);
        for (int32_t j = 0; j < a->n_used; j++)
            a->weight[m * a->n_used + j] =
                (float)(exp((double)l[expert[j]] - top) / (a->renormalize ? picked : all));
    }
    return NB_OK;
}

nb_status nb_ref_grouped_linear(nb_backend *be, const nb_grouped_args *a, nb_error *err)
{
    nb_status st = NB_OK;
    for (int64_t p = 0; p < a->P && st == NB_OK; p++) {
        const nb_linear_args one = {.x = a->x + p / a->share * a->ldx,
                                    .M = 1,
                                    .ldx = a->ldx,
                                    .ldy = a->ldy,
                                    .w = a->w[a->expert[p]],
                                    .y = a->y + p * a->ldy};
        st = nb_ref_linear(be, &one, err);
    }
    return st;
}

nb_status nb_ref_combine_experts(nb_backend *be, const nb_combine_args *a, nb_error *err)
{
    (void)be, (void)err;
    for (int64_t m = 0; m < a->M; m++)
        for (int64_t n = 0; n < a->N; n++) {
            double sum = 0;
            for (int64_t j = 0; j < a->n_used; j++)
                sum += (double)a->weight[m * a->n_used + j] *
                       (double)a->x[(m * a->n_used + j) * a->ldx + n];
            float *y = a->y + m * a->ldy + n;
            *y = (float)((double)a->scale * sum + (a->add ? (double)*y : 0.0));
        }
    return NB_OK;
}

nb_status nb_ref_gather_rows(nb_backend *be, const nb_gather_args *a, nb_error *err)
{
    (void)be, (void)err;
    for (int64_t i = 0; i < a->M; i++)
        for (int64_t k = 0; k < a->K; k++)
            a->y[i * a->ldy + k] = a->row[i] >= 0 ? a->x[a->row[i] * a->ldx + k]
                                                  : a->other[(-1 - a->row[i]) * a->ldo + k];
    return NB_OK;
}

nb_status nb_ref_add_scaled(nb_backend *be, const nb_add_args *a, nb_error *err)
{
    (void)be, (void)err;
    for (int64_t m = 0; m < a->M; m++)
        for (int64_t n = 0; n < a->N; n++) {
            float *y = a->y + m * a->ldy + n;
            *y = (float)((double)*y + (double)a->scale * (double)a->x[m * a->ldx + n]);
        }
    return NB_OK;
}

nb_status nb_ref_take_columns(nb_backend *be, const nb_take_args *a, nb_error *err)
{
    const size_t size = (size_t)a->size;
    (void)be, (void)err;
    for (int64_t m = 0; m < a->M; m++)
        for (int64_t j = 0; j < a->K; j++) {
            const int64_t from = a->col ? a->col[j] : j;
            char *y = (char *)a->y + (size_t)(m * a->ldy + j) * size;
            if (from < 0)
                memset(y, 0, size);
            else
                memmove(y, (const char *)a->x + (size_t)(m * a->ldx + from) * size, size);
        }
    return NB_OK;
}
