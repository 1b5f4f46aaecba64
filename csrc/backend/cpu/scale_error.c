/* scale_error.c -- what rounding costs where inputs are scaled; a row is a task, its groups stay in
 * the first cache. Scratch a thread: a group of f32, and its codes. */
#include "backend/cpu/kernels.h"

struct scaled {
    const nb_scale_error_args *a;
    const nb_cpu *cpu;
    int64_t group;
};

static struct scaled scaled_of(nb_backend *be, const nb_scale_error_args *a)
{
    return (struct scaled){.a = a, .cpu = nb_cpu_of(be), .group = nb_grid_group(a->grid, a->K)};
}

static size_t thread_bytes(const struct scaled *s) /* whole lines of a cache */
{
    return ((size_t)s->group * (sizeof(float) + 1) + 63) / 64 * 64;
}

size_t nb_cpu_scale_error_scratch(nb_backend *be, const nb_scale_error_args *a)
{
    const struct scaled s = scaled_of(be, a);
    return (size_t)be->n_thread * thread_bytes(&s);
}

static void row_error(const void *arg, int64_t m, int worker)
{
    const struct scaled *s = arg;
    const nb_scale_error_args *a = s->a;
    const int64_t K = a->K;
    float *v = (float *)(void *)((uint8_t *)a->scratch + (size_t)worker * thread_bytes(s));
    uint8_t *code = (uint8_t *)(v + s->group);
    double sum = 0.0;
    for (int64_t first = 0; first < K; first += s->group) {
        const int64_t n = K - first < s->group ? K - first : s->group;
        const float *w = a->w + m * K + first, *by = a->scale + first;
        nb_group p;
        for (int64_t k = 0; k < n; k++)
            v[k] = w[k] * by[k];
        a->grid->params(a->grid, v, (int)n, &p);
        s->cpu->run->round_group(a->grid, &p, v, n, code);
        for (int64_t k = 0; k < n; k++) {
            const double d = (double)(nb_grid_value(a->grid, &p, code[k]) / by[k] - w[k]);
            sum += a->cost[first + k] * d * d;
        }
    }
    a->error[m] = sum;
}

nb_status nb_cpu_scale_error(nb_backend *be, const nb_scale_error_args *a, nb_error *err)
{
    const struct scaled s = scaled_of(be, a);
    (void)err;
    nb_pool_run(s.cpu->pool, a->M, row_error, &s);
    return NB_OK;
}
