/* sample.c -- from logits to a token: temperature, top-k, top-p (Holtzman et al. 2020), min-p (Nguyen et al. 2024), one draw.
 *
 * p_i = exp((l_i - max) / temp) / sum. top-k keeps the k likeliest, top-p the shortest prefix whose sum reaches p, min-p those of at least
 * min_p * p_max; the draw walks what is left. Ties are ordered by id, so a seed gives the same text everywhere. Cost O(n) + O(k log k) kept. */
#include "model/model.h"

#include <math.h>
#include <stdlib.h>

static int by_p_then_id(const void *a, const void *b)
{
    const nb_candidate *x = a, *y = b;
    return x->p != y->p ? (x->p < y->p ? 1 : -1) : (x->id > y->id) - (x->id < y->id);
}

nb_status nb_logits_fault(const nb_model *m, int64_t position, nb_error *err)
{
    return nb_fail_at(err, NB_BAD_INPUT, m->container->path, -1,
                      "the logits after %lld tokens are not finite: a weight is NaN or infinite, or the numbers grow beyond their type", (long long)position);
}

int32_t nb_sample_token(const float *logits, int32_t n, const nb_sampling *s, uint64_t draw, nb_candidate *work)
{
    int32_t best = 0;
    bool good = true;
    for (int32_t i = 0; i < n; i++) {
        good = good && logits[i] < HUGE_VALF;
        best = logits[i] > logits[best] ? i : best;
    }
    if (!good)
        return -1;
    if (!(s->temp > 0.0f))
        return best;
    /* exp(-20) = 2e-9 of the likeliest: 49152 such tokens together weigh 1e-4; the sort then sees hundreds, not all */
    const float least = logits[best] - 20.0f * s->temp;
    int32_t kept = 0;
    for (int32_t i = 0; i < n; i++)
        if (logits[i] >= least)
            work[kept++] = (nb_candidate){expf((logits[i] - logits[best]) / s->temp), i};
    qsort(work, (size_t)kept, sizeof *work, by_p_then_id);
    if (s->top_k > 0 && s->top_k < kept)
        kept = s->top_k;
    double sum = 0.0;
    for (int32_t i = 0; i < kept; i++)
        sum += (double)work[i].p;
    if (s->top_p > 0.0f && s->top_p < 1.0f) {
        double run = 0.0;
        int32_t i = 0;
        while (i < kept && run < (double)s->top_p * sum)
            run += (double)work[i++].p;
        kept = i > 1 ? i : 1;
    }
    if (s->min_p > 0.0f)
        while (kept > 1 && work[kept - 1].p < s->min_p * work[0].p)
            kept--;
    sum = 0.0;
    for (int32_t i = 0; i < kept; i++)
        sum += (double)work[i].p;
    double u = (double)(draw >> 11) * 0x1p-53 * sum;
    for (int32_t i = 0; i < kept; i++) {
        u -= (double)work[i].p;
        if (u < 0.0)
            return work[i].id;
    }
    return work[kept - 1].id;
}
