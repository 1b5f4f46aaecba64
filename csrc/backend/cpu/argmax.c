/* argmax.c -- out[m] = the lowest index of the greatest x[m][.]; compiled once per level.
 *
 * The greatest value first, by vectors, then the first place that equals it. A NaN is never greater
 * than anything, and nothing is greater than a NaN in place 0. Cost: O(M N), memory-bound. */
#include "backend/cpu/level.h"

static int32_t first_greatest(const float *x, int64_t N)
{
    nb_v top = nb_v_set1(-HUGE_VALF);
    float lane[NB_LANES], best = -HUGE_VALF;
    int64_t n = 0;
    for (; n + NB_LANES <= N; n += NB_LANES)
        top = nb_v_max(nb_v_load(x + n), top);
    nb_v_store(lane, top);
    for (int i = 0; i < NB_LANES; i++)
        best = lane[i] > best ? lane[i] : best;
    for (; n < N; n++)
        best = x[n] > best ? x[n] : best;
    if (x[0] != x[0])
        return 0;
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
