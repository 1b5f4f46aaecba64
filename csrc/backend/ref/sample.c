/* sample.c -- from logits to a token (backend.h): temperature, top-k, top-p (Holtzman et al. 2020),
 * min-p (Nguyen et al. 2024), one draw. All candidates in their order, then what is kept of them,
 * one after the other; weights are integers (sample.h), so the sums are exact. */
#include "backend/ref/ref_ops.h"
#include "backend/sample.h"

#include <stdlib.h>

typedef struct candidate {
    float p;
    int32_t id;
} candidate;

static int by_p_then_id(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    return x->p != y->p ? (x->p < y->p ? 1 : -1) : (x->id > y->id) - (x->id < y->id);
}

static uint64_t sum_of(const candidate *c, int64_t n)
{
    uint64_t sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += nb_sample_weight(c[i].p);
    return sum;
}

static int32_t sample_row(const nb_sample_args *a, const float *x, uint64_t draw)
{
    candidate *c = a->scratch;
    float top = -INFINITY;
    int64_t n = 0, i = 0;
    for (int64_t j = 0; j < a->N; j++) {
        if (!(x[j] < INFINITY))
            return -1;
        top = x[j] > top ? x[j] : top;
    }
    for (int64_t j = 0; j < a->N; j++) {
        const float d = nb_sample_below(x[j], top, a->temp);
        if (d >= NB_SAMPLE_LEAST)
            c[n++] = (candidate){nb_sample_p(d), (int32_t)j};
    }
    qsort(c, (size_t)n, sizeof *c, by_p_then_id);
    if (a->top_k > 0 && a->top_k < n)
        n = a->top_k;
    if (a->top_p > 0.0f && a->top_p < 1.0f) {
        const uint64_t need = nb_sample_share(a->top_p, sum_of(c, n));
        for (uint64_t run = 0; run < need; i++)
            run += nb_sample_weight(c[i].p);
        n = i;
    }
    while (a->min_p > 0.0f && n > 1 && c[n - 1].p < a->min_p)
        n--;
    uint64_t left = nb_sample_spot(draw, sum_of(c, n));
    for (i = 0; left >= nb_sample_weight(c[i].p); i++)
        left -= nb_sample_weight(c[i].p);
    return c[i].id;
}

size_t nb_ref_sample_scratch(nb_backend *be, const nb_sample_args *a)
{
    (void)be;
    return (size_t)a->N * sizeof(candidate);
}

nb_status nb_ref_sample(nb_backend *be, const nb_sample_args *a, nb_error *err)
{
    const nb_status st = nb_sample_check(be, a, err);
    for (int64_t m = 0; m < a->M && st == NB_OK; m++)
        a->out[m] = sample_row(a, a->x + m * a->ldx, a->draw[m]);
    return st;
}
