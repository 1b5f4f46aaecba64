/* moe.c -- mixtures of experts (backend.h): choosing, multiplying by, and mixing them; and the
 * residual of what was normed or scaled first.
 *
 * grouped_linear gathers the rows of each expert that has any, runs the linear of its weight over
 * them, and scatters the results. The rows of an expert keep the order of the pairs, and each is
 * multiplied by itself, so nothing depends on threads. Scratch: the pairs by expert, the gathered
 * rows, their results, and a linear's own. Cost: that of the linears, and 2 P (K + N) floats moved.
 * The loops over rows are as the compiler makes them: they move bytes. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/weight.h"

#include <math.h>
#include <string.h>

enum { kThreadsFrom = 1 << 15 }; /* elements: about 10 us of one core */

/* ---- route_experts ---- */

static void route_row(const void *arg, int64_t m, int worker)
{
    const nb_route_args *a = arg;
    const float *l = a->logits + m * a->ldl;
    int32_t *expert = a->expert + m * a->n_used;
    float *weight = a->weight + m * a->n_used;
    double all = 0, picked = 0;
    (void)worker;
    for (int32_t j = 0; j < a->n_used; j++)
        expert[j] = -1;
    /* insertion keeps the greatest so far in order: O(n_expert n_used) */
    for (int32_t e = 0; e < a->n_expert; e++) {
        int32_t j = a->n_used;
        while (j > 0 && (expert[j - 1] < 0 || l[e] > l[expert[j - 1]]))
            j--;
        if (j == a->n_used)
            continue;
        memmove(expert + j + 1, expert + j, (size_t)(a->n_used - 1 - j) * sizeof *expert);
        expert[j] = e;
    }
    const double top = (double)l[expert[0]];
    for (int32_t e = 0; !a->renormalize && e < a->n_expert; e++)
        all += exp((double)l[e] - top);
    for (int32_t j = 0; j < a->n_used; j++)
        picked += exp((double)l[expert[j]] - top);
    for (int32_t j = 0; j < a->n_used; j++)
        weight[j] = (float)(exp((double)l[expert[j]] - top) / (a->renormalize ? picked : all));
}

nb_status nb_cpu_route_experts(nb_backend *be, const nb_route_args *a, nb_error *err)
{
    (void)err;
    nb_pool_run(a->M * a->n_expert > kThreadsFrom ? nb_cpu_of(be)->pool : NULL, a->M, route_row, a);
    return NB_OK;
}

/* ---- grouped_linear ---- */

static size_t whole(size_t bytes) /* parts of scratch begin at cache lines */
{
    return (bytes + 63) / 64 * 64;
}

/* The parts of the scratch. */
typedef struct room {
    int32_t *pair; /* [P] the pairs by expert, ascending within one */
    float *x, *y;  /* [P,K], [P,N]: of the pairs of one expert */
    void *linear;
} room;

static size_t room_of(const nb_grouped_args *a, room *r)
{
    const size_t P = (size_t)a->P, K = (size_t)a->w[0]->K, N = (size_t)a->w[0]->N;
    const size_t at_x = whole(P * sizeof(int32_t)), at_y = at_x + whole(P * K * sizeof(float)),
                 at_linear = at_y + whole(P * N * sizeof(float));
    if (r) {
        char *base = a->scratch;
        *r = (room){(int32_t *)base, (float *)(base + at_x), (float *)(base + at_y),
                    base + at_linear};
    }
    return at_linear;
}

size_t nb_cpu_grouped_linear_scratch(nb_backend *be, const nb_grouped_args *a)
{
    size_t most = 0;
    for (int32_t e = 0; e < a->n_expert; e++) {
        const nb_linear_args one = {.M = a->P, .w = a->w[e]};
        const size_t n = nb_cpu_linear_scratch(be, &one);
        most = n > most ? n : most;
    }
    return room_of(a, NULL) + most;
}

typedef struct move {
    const nb_grouped_args *a;
    const int32_t *pair;
    float *x, *y;
} move;

static void gather_row(const void *arg, int64_t i, int worker)
{
    const move *v = arg;
    const int64_t K = v->a->w[0]->K;
    (void)worker;
    memcpy(v->x + i * K, v->a->x + v->pair[i] / v->a->share * v->a->ldx, (size_t)K * sizeof(float));
}

static void scatter_row(const void *arg, int64_t i, int worker)
{
    const move *v = arg;
    const int64_t N = v->a->w[0]->N;
    (void)worker;
    memcpy(v->a->y + v->pair[i] * v->a->ldy, v->y + i * N, (size_t)N * sizeof(float));
}

nb_status nb_cpu_grouped_linear(nb_backend *be, const nb_grouped_args *a, nb_error *err)
{
    const nb_cpu *cpu = nb_cpu_of(be);
    nb_status st = NB_OK;
    room r;
    room_of(a, &r);
    const int64_t K = a->w[0]->K, N = a->w[0]->N;
    for (int32_t e = 0; e < a->n_expert && st == NB_OK; e++) {
        int64_t n = 0;
        for (int64_t p = 0; p < a->P; p++)
            if (a->expert[p] == e)
                r.pair[n++] = (int32_t)p;
        if (!n)
            continue;
        const move v = {.a = a, .pair = r.pair, .x = r.x, .y = r.y};
        const nb_linear_args one = {
            .x = r.x, .M = n, .ldx = K, .ldy = N, .w = a->w[e], .y = r.y, .scratch = r.linear};
        nb_pool_run(n * K > kThreadsFrom ? cpu->pool : NULL, n, gather_row, &v);
        st = nb_cpu_linear(be, &one, err);
        nb_pool_run(n * N > kThreadsFrom ? cpu->pool : NULL, n, scatter_row, &v);
    }
    return st;
}

/* ---- gather_rows ---- */

static void copy_row(const void *arg, int64_t i, int worker)
{
    const nb_gather_args *a = arg;
    const int64_t row = a->row[i];
    (void)worker;
    memcpy(a->y + i * a->ldy, row >= 0 ? a->x + row * a->ldx : a->other + (-1 - row) * a->ldo,
           (size_t)a->K * sizeof(float));
}

nb_status nb_cpu_gather_rows(nb_backend *be, const nb_gather_args *a, nb_error *err)
{
    (void)err;
    nb_pool_run(a->M * a->K > kThreadsFrom ? nb_cpu_of(be)->pool : NULL, a->M, copy_row, a);
    return NB_OK;
}

/* ---- take_columns ---- */

static void take_row(const void *arg, int64_t m, int worker)
{
    const nb_take_args *a = arg;
    const size_t size = (size_t)a->size, from = (size_t)(m * a->ldx) * size,
                 to = (size_t)(m * a->ldy) * size;
    (void)worker;
    if (!a->col) {
        memmove((char *)a->y + to, (const char *)a->x + from, (size_t)a->K * size);
        return;
    }
    for (int64_t j = 0; j < a->K; j++) {
        const int64_t k = a->col[j];
        if (size == 4)
            ((uint32_t *)a->y)[m * a->ldy + j] =
                k < 0 ? 0 : ((const uint32_t *)a->x)[m * a->ldx + k];
        else if (size == 1)
            ((uint8_t *)a->y)[m * a->ldy + j] = k < 0 ? 0 : ((const uint8_t *)a->x)[m * a->ldx + k];
        else
            ((uint64_t *)a->y)[m * a->ldy + j] =
                k < 0 ? 0 : ((const uint64_t *)a->x)[m * a->ldx + k];
    }
}

nb_status nb_cpu_take_columns(nb_backend *be, const nb_take_args *a, nb_error *err)
{
    (void)err;
    nb_pool_run(a->M * a->K > kThreadsFrom ? nb_cpu_of(be)->pool : NULL, a->M, take_row, a);
    return NB_OK;
}

/* ---- sums ---- */

static void combine_row(const void *arg, int64_t m, int worker)
{
    const nb_combine_args *a = arg;
    const float *x = a->x + m * a->n_used * a->ldx, *weight = a->weight + m * a->n_used;
    float *y = a->y + m * a->ldy;
    (void)worker;
    for (int64_t n = 0; n < a->N; n++) {
        float sum = 0.0f;
        for (int64_t j = 0; j < a->n_used; j++)
            sum += weight[j] * x[j * a->ldx + n];
        y[n] = a->scale * sum + (a->add ? y[n] : 0.0f);
    }
}

nb_status nb_cpu_combine_experts(nb_backend *be, const nb_combine_args *a, nb_error *err)
{
    (void)err;
    nb_pool_run(a->M * a->N > kThreadsFrom ? nb_cpu_of(be)->pool : NULL, a->M, combine_row, a);
    return NB_OK;
}

static void add_row(const void *arg, int64_t m, int worker)
{
    const nb_add_args *a = arg;
    const float *x = a->x + m * a->ldx;
    float *y = a->y + m * a->ldy;
    (void)worker;
    for (int64_t n = 0; n < a->N; n++)
        y[n] += a->scale * x[n];
}

nb_status nb_cpu_add_scaled(nb_backend *be, const nb_add_args *a, nb_error *err)
{
    (void)err;
    nb_pool_run(a->M * a->N > kThreadsFrom ? nb_cpu_of(be)->pool : NULL, a->M, add_row, a);
    return NB_OK;
}
