/* argmax.c -- out[m] = the lowest index of the greatest x[m][.], -1 where a NaN or +Inf is among
 * them; compiled once per level.
 *
 * The greatest value first, by vectors, then the first place that equals it. max(-most, x) keeps a
 * NaN (max gives its second argument unless the first is greater) and +Inf, and these times 0 are
 * NaN, which stays in the sum. Cost: O(M N), memory-bound. */
#include "backend/cpu/level.h"

#include <float.h>

static int32_t first_greatest(const float *x, int64_t N)
{
    const nb_v least = nb_v_set1(-FLT_MAX), none = nb_v_set1(0.0f);
    nb_v top = nb_v_set1(-HUGE_VALF), fault = none;
    float lane[NB_LANES], best = -HUGE_VALF;
    int64_t n = 0;
    for (; n + NB_LANES <= N; n += NB_LANES) {
        const nb_v v = nb_v_load(x + n);
        top = nb_v_max(v, top);
        fault = nb_v_add(nb_v_mul(nb_v_max(least, v), none), fault);
    }
    bool good = nb_v_sum(fault) == 0.0f;
    nb_v_store(lane, top);
    for (int i = 0; i < NB_LANES; i++)
        best = lane[i] > best ? lane[i] : best;
    for (; n < N; n++) {
        best = x[n] > best ? x[n] : best;
        good = good && x[n] < HUGE_VALF;
    }
    if (!good)
        return -1;
    for (n = 0; n < N; n++)
        if (x[n] == best)
            return (int32_t)n;
    return 0;
}

static void argmax_row(const void *arg, int64_t m, int worker)
{
    const nb_argmax_args *a = arg;
    (void)worker;
    a->out[m] = first_greatest(a->x + m * a->ldx, a->N);
}

void NB_LEVEL_NAME(nb_cpu_argmax)(const nb_cpu *cpu, const nb_argmax_args *a)
{
    nb_pool_run(a->M * a->N > 1 << 16 ? cpu->pool : NULL, a->M, argmax_row, a);
}
