/* rms_norm.c -- y[m][k] = x[m][k] * (1 / sqrt(mean_k x^2 + eps)) * weight[k]   (Zhang and Sennrich
 * 2019, eq. 4); compiled once per level.
 *
 * The squares are summed by lane in f32 (k, k + 16, ...), then by the tree of vec.h. In place is
 * fine: the mean is taken before the row is written. Cost: O(M K); one row is 0.1 us, so only
 * batches get threads. */
#include "backend/cpu/level.h"

/* Part i % n_part of row i / n_part. */
static void norm_part(const nb_rms_norm_args *a, int64_t i)
{
    const int64_t n_part = a->n_part ? a->n_part : 1, m = i / n_part, at = i % n_part * a->K;
    const float *x = a->x + m * a->ldx + at;
    float *y = a->y + m * a->ldy + at;
    const int64_t whole = a->K / NB_LANES * NB_LANES;
    const int rest = (int)(a->K - whole);
    nb_v s = nb_v_set1(0.0f);
    for (int64_t k = 0; k < whole; k += NB_LANES)
        s = nb_v_fma(nb_v_load(x + k), nb_v_load(x + k), s);
    const nb_v t = nb_v_load_n(x + whole, rest);
    s = nb_v_fma(t, t, s);
    const nb_v r = nb_v_set1(1.0f / sqrtf(nb_v_sum(s) / (float)a->K + a->eps));
    for (int64_t k = 0; k < whole; k += NB_LANES)
        nb_v_store(y + k, nb_v_mul(nb_v_mul(nb_v_load(x + k), r), nb_v_load(a->weight + k)));
    nb_v_store_n(y + whole, nb_v_mul(nb_v_mul(t, r), nb_v_load_n(a->weight + whole, rest)), rest);
}

static void norm_task(const void *arg, int64_t m, int worker)
{
    (void)worker;
    norm_part(arg, m);
}

void NB_LEVEL_NAME(nb_cpu_rms_norm)(const nb_cpu *cpu, const nb_rms_norm_args *a)
{
    const int64_t n = a->n_part ? a->M * a->n_part : a->M;
    nb_pool_run(n * a->K > 1 << 15 ? cpu->pool : NULL, n, norm_task, a);
}
