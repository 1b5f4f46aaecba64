/* clip_rows.c -- group by group: try every candidate range, keep the one with the least error.
 *
 *   candidate i:   p_i = params(w held within 1 - i step of its extremes),  d = value(round(w,
 *                  p_i)) - w
 *   error:         sum d^2,   or   sum_i d_i (H_ii d_i + 2 sum_{j<i} H_ij d_j)
 *
 * Cost: N K n_step, with H times the group. scratch: a group of f32 and f64. */
#include "backend/ref/ref_ops.h"
#include "dtype/clip.h"

size_t nb_ref_clip_rows_scratch(nb_backend *be, const nb_clip_rows_args *a)
{
    (void)be;
    return (size_t)nb_grid_group(a->grid, a->K) * (sizeof(double) + sizeof(float));
}

/* h points at the group's block of H, or is NULL. */
static double group_error(const nb_clip_rows_args *a, const nb_group *p, const float *w, int n,
                          const double *h, double *d)
{
    double e = 0;
    for (int i = 0; i < n; i++) {
        d[i] = (double)nb_grid_value(a->grid, p, nb_grid_round(a->grid, p, w[i])) - (double)w[i];
        double t = 0;
        for (int j = 0; h && j < i; j++)
            t += h[i * a->K + j] * d[j];
        e += d[i] * (h ? h[i * a->K + i] * d[i] + 2.0 * t : d[i]);
    }
    return e;
}

static void clip_group(const nb_clip_rows_args *a, const float *w, int n, const double *h,
                       nb_group *best, double *d, float *held)
{
    if (a->quantile > 0.0f) {
        nb_clip_quantile(w, n, a->quantile, held);
        a->grid->params(a->grid, held, n, best);
        return;
    }
    double least = (double)INFINITY;
    for (int i = 0; i < a->n_step; i++) {
        nb_group p;
        nb_clip_range(w, n, 1.0f - (float)i * a->step, held);
        a->grid->params(a->grid, held, n, &p);
        const double e = group_error(a, &p, w, n, h, d);
        if (i == 0 || e < least) {
            least = e;
            *best = p;
        }
    }
}

nb_status nb_ref_clip_rows(nb_backend *be, const nb_clip_rows_args *a, nb_error *err)
{
    (void)be, (void)err;
    const int64_t K = a->K, group = nb_grid_group(a->grid, a->K), G = (K + group - 1) / group;
    double *d = a->scratch;
    float *held = (void *)(d + group);
    for (int64_t n = 0; n < a->N; n++)
        for (int64_t g = 0; g < G; g++) {
            const int64_t first = g * group, end = first + group < K ? first + group : K;
            const float *w = a->w + n * K;
            nb_group *p = &a->groups[n * G + g];
            clip_group(a, w + first, (int)(end - first), a->h ? a->h + first * K + first : NULL, p,
                       d, held);
            for (int64_t k = first; a->codes && k < end; k++)
                a->codes[n * K + k] = (uint8_t)nb_grid_round(a->grid, p, w[k]);
        }
    return NB_OK;
}
