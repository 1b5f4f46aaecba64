/* gated.c -- the two ops that look at one element at a time; compiled once per level.
 *
 *   gated_activation   out = act(gate) * up    silu(g) = g / (1 + e^-g)
 *                                              gelu(g) = g / 2 (1 + tanh(sqrt(2 / pi) (g + 0.044715
 *                                                  g^3)))   (Hendrycks and Gimpel 2016)
 *   logits_soft_cap    x = cap tanh(x / cap)
 *
 * Cost: about 20 vector instructions for 16 elements. */
#include "backend/cpu/level.h"

enum { kThreadsFrom = 1 << 15 }; /* elements: about 10 us of one core */

static inline nb_v silu(nb_v g)
{
    const nb_v e = nb_v_exp(nb_v_sub(nb_v_set1(0.0f), g));
    return nb_v_div(g, nb_v_add(nb_v_set1(1.0f), e));
}

static inline nb_v gelu_tanh(nb_v g)
{
    const nb_v cube = nb_v_mul(nb_v_mul(g, g), nb_v_mul(g, nb_v_set1(0.044715f)));
    const nb_v t = nb_v_tanh(nb_v_mul(nb_v_set1(0.79788456f), nb_v_add(g, cube)));
    return nb_v_mul(nb_v_mul(nb_v_set1(0.5f), g), nb_v_add(nb_v_set1(1.0f), t));
}

static inline nb_v activate(nb_activation act, nb_v g)
{
    return act == NB_ACT_GELU_TANH ? gelu_tanh(g) : silu(g);
}

static void gated_row(const nb_gated_args *a, int64_t m)
{
    const float *gate = a->gate + m * a->ld, *up = a->up + m * a->ld;
    float *out = a->out + m * a->ldo;
    int64_t n = 0;
    for (; n + NB_LANES <= a->N; n += NB_LANES)
        nb_v_store(out + n, nb_v_mul(activate(a->act, nb_v_load(gate + n)), nb_v_load(up + n)));
    const int rest = (int)(a->N - n);
    const nb_v g = activate(a->act, nb_v_load_n(gate + n, rest));
    nb_v_store_n(out + n, nb_v_mul(g, nb_v_load_n(up + n, rest)), rest);
}

static void gated_task(const void *arg, int64_t m, int worker)
{
    (void)worker;
    gated_row(arg, m);
}

void NB_LEVEL_NAME(nb_cpu_gated_activation)(const nb_cpu *cpu, const nb_gated_args *a)
{
    nb_pool_run(a->M * a->N > kThreadsFrom ? cpu->pool : NULL, a->M, gated_task, a);
}

static void cap_some(const nb_soft_cap_args *a, int64_t n, int64_t end)
{
    const nb_v cap = nb_v_set1(a->cap);
    for (; n < end; n += NB_LANES) {
        const int some = end - n < NB_LANES ? (int)(end - n) : NB_LANES;
        const nb_v t = nb_v_tanh(nb_v_div(nb_v_load_n(a->x + n, some), cap));
        nb_v_store_n(a->x + n, nb_v_mul(cap, t), some);
    }
}

static void cap_task(const void *arg, int64_t i, int worker)
{
    const nb_soft_cap_args *a = arg;
    const int64_t from = i * kThreadsFrom;
    (void)worker;
    cap_some(a, from, a->n - from < kThreadsFrom ? a->n : from + kThreadsFrom);
}

void NB_LEVEL_NAME(nb_cpu_logits_soft_cap)(const nb_cpu *cpu, const nb_soft_cap_args *a)
{
    nb_pool_run(cpu->pool, (a->n + kThreadsFrom - 1) / kThreadsFrom, cap_task, a);
}
