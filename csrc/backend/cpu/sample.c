/* sample.c -- from logits to a token (backend.h), rows shared out among as many tasks as there are
 * threads.
 *
 * Sums of weights need no order, so candidates are put in order only as far as they are asked for:
 * a heap gives the likeliest one by one, and most draws end within the first few. What top-k, top-p
 * and min-p keep are beginnings of one order, so each only lowers the sum that is drawn from. Cost:
 * O(N) for the weights, O(kept log N) for the order. Scratch: N candidates a task. */
#include "backend/cpu/cpu.h"
#include "backend/sample.h"

enum { kThreadsFrom = 1 << 16 };

typedef struct candidate {
    float p;
    int32_t id;
} candidate;

/* c[0 .. n) is a heap, the likeliest first; behind it lie those that were taken out: number i of
 * the order is c[all - 1 - i]. */
typedef struct heap {
    candidate *c;
    int64_t n, all;
} heap;

static bool comes_before(candidate a, candidate b)
{
    return a.p != b.p ? a.p > b.p : a.id < b.id;
}

static void sink(const heap *h, int64_t i)
{
    const candidate it = h->c[i];
    for (int64_t child = 2 * i + 1; child < h->n; child = 2 * i + 1) {
        child += child + 1 < h->n && comes_before(h->c[child + 1], h->c[child]);
        if (!comes_before(h->c[child], it))
            break;
        h->c[i] = h->c[child];
        i = child;
    }
    h->c[i] = it;
}

/* Number i of the order; i is at most how many were taken out. */
static candidate number(heap *h, int64_t i)
{
    if (i == h->all - h->n) {
        const candidate first = h->c[0];
        h->c[0] = h->c[--h->n];
        sink(h, 0);
        h->c[h->n] = first;
    }
    return h->c[h->all - 1 - i];
}

static int32_t sample_row(const nb_sample_args *a, const float *x, uint64_t draw, candidate *work)
{
    heap h = {.c = work};
    float top = -INFINITY;
    bool good = true;
    uint64_t sum = 0, likely = 0;
    for (int64_t i = 0; i < a->N; i++) {
        good = good && x[i] < INFINITY;
        top = x[i] > top ? x[i] : top;
    }
    if (!good)
        return -1;
    for (int64_t i = 0; i < a->N; i++) {
        const float d = nb_sample_below(x[i], top, a->temp);
        if (!(d >= NB_SAMPLE_LEAST))
            continue;
        const float p = nb_sample_p(d);
        sum += nb_sample_weight(p);
        likely += p >= a->min_p ? nb_sample_weight(p) : 0;
        work[h.all++] = (candidate){p, (int32_t)i};
    }
    h.n = h.all;
    for (int64_t i = h.n / 2 - 1; i >= 0; i--)
        sink(&h, i);
    if (a->top_k > 0 && a->top_k < h.all) {
        sum = 0;
        for (int64_t i = 0; i < a->top_k; i++)
            sum += nb_sample_weight(number(&h, i).p);
    }
    if (a->top_p > 0.0f && a->top_p < 1.0f) {
        const uint64_t need = nb_sample_share(a->top_p, sum);
        sum = 0;
        for (int64_t i = 0; sum < need; i++)
            sum += nb_sample_weight(number(&h, i).p);
    }
    if (a->min_p > 0.0f) {
        likely = likely ? likely : nb_sample_weight(1.0f); /* the first stays */
        sum = likely < sum ? likely : sum;
    }
    uint64_t left = nb_sample_spot(draw, sum);
    for (int64_t i = 0;; i++) {
        const candidate c = number(&h, i);
        if (left < nb_sample_weight(c.p))
            return c.id;
        left -= nb_sample_weight(c.p);
    }
}

typedef struct job {
    const nb_sample_args *a;
    int64_t n_task;
} job;

static void sample_task(const void *arg, int64_t t, int worker)
{
    const job *j = arg;
    const nb_sample_args *a = j->a;
    (void)worker;
    for (int64_t m = t; m < a->M; m += j->n_task)
        a->out[m] =
            sample_row(a, a->x + m * a->ldx, a->draw[m], (candidate *)a->scratch + t * a->N);
}

static int64_t tasks(const nb_backend *be, int64_t M)
{
    return M < be->n_thread ? M : be->n_thread;
}

size_t nb_cpu_sample_scratch(nb_backend *be, const nb_sample_args *a)
{
    return (size_t)(tasks(be, a->M) * a->N) * sizeof(candidate);
}

nb_status nb_cpu_sample(nb_backend *be, const nb_sample_args *a, nb_error *err)
{
    const job j = {a, tasks(be, a->M)};
    const nb_status st = nb_sample_check(be, a, err);
    if (st == NB_OK)
        nb_pool_run(a->M * a->N > kThreadsFrom ? nb_cpu_of(be)->pool : NULL, j.n_task, sample_task,
                    &j);
    return st;
}
