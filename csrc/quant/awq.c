/* awq.c -- the search for input scales. */
#include "quant/awq.h"
#include "backend/count.h"
#include "base/memory.h"
#include "base/pool.h"
#include "quant/quantizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    kRows = 512, /* every choice is tried on the same rows, so what differs is the choice */
    kRatios = 20 /* r = i / 20, with and without the weights */
};

struct awq {
    const nb_awq_job *j;
    int64_t M;              /* rows that are tried */
    double *weight, *error; /* [M] of a row: 1 / tr(W H W^T) of its linear; what rounding costs */
    double *a;              /* [K] a_k */
    float *x, *fill;        /* [K] size of the input; how far its weights fill their groups */
    float *s;               /* [K] the candidate */
    float *w;               /* [M,K] device, those rows of W */
    float *scale;           /* [K] device */
    double *cost, *row;     /* [K], [M] device */
    void *scratch;
    nb_pool *pool; /* NULL: one thread */
};

/* ---- what an input's errors cost ---- */

struct key {
    double h;
    int32_t k;
};
static int falling(const void *a, const void *b)
{
    const struct key *x = a, *y = b;
    return x->h != y->h ? (x->h < y->h ? 1 : -1) : (x->k > y->k) - (x->k < y->k);
}

/* a_k = R_kk^2, inputs by falling H_kk as the sweep takes them. Not positive definite: a stays the
 * diagonal of H. */
static nb_status with_feedback(struct awq *a, nb_error *err)
{
    const nb_awq_job *j = a->j;
    nb_backend *be = j->be;
    const size_t K = (size_t)j->K;
    struct key *key = nb_alloc(K, sizeof *key, "an order of inputs", err);
    int32_t *perm = nb_alloc(K, sizeof *perm, "an order of inputs", err);
    double *add = nb_alloc(2 * K, sizeof *add, "a diagonal", err), *diag = add ? add + K : NULL,
           mean = 0.0, *r = NULL;
    int64_t failed = 0;
    nb_status st = key && perm && add
                       ? be->op->alloc(be, K * K * sizeof *r, "a factor", (void **)&r, err)
                       : NB_NO_ROOM;
    for (size_t k = 0; st == NB_OK && k < K; k++) {
        key[k] = (struct key){a->a[k], (int32_t)k};
        mean += a->a[k] == 0.0 ? 1.0 : a->a[k];
    }
    for (size_t k = 0; st == NB_OK && k < K; k++)
        add[k] = j->damp * mean / (double)K + (a->a[k] == 0.0 ? 1.0 : 0.0);
    if (st == NB_OK) {
        qsort(key, K, sizeof *key, falling);
        for (size_t k = 0; k < K; k++)
            perm[k] = key[k].k;
        const nb_factor_args f = {
            .h = j->h, .diag_add = add, .perm = perm, .K = j->K, .r = r, .failed_minor = &failed};
        st = be->op->factor(be, &f, err);
    }
    if (st == NB_OK && !failed) {
        st = nb_quant_diagonal(be, r, j->K, diag, err);
        for (size_t k = 0; st == NB_OK && k < K; k++)
            a->a[perm[k]] = key[k].h == 0.0 ? 0.0 : diag[k] * diag[k];
    }
    be->op->release(be, r);
    free(key);
    free(perm);
    free(add);
    return st;
}

/* x_k = sqrt(a_k): of H_kk the root mean square of input k, up to a factor that normalising
 * removes. */
static nb_status measure_inputs(struct awq *a, nb_error *err)
{
    nb_status st = nb_quant_diagonal(a->j->be, a->j->h, a->j->K, a->a, err);
    if (st == NB_OK && a->j->feedback)
        st = with_feedback(a, err);
    for (int64_t k = 0; k < a->j->K && st == NB_OK; k++)
        a->x[k] = (float)sqrt(a->a[k]);
    return st;
}

/* Rows [m0, m0 + M) are of one linear. */
static nb_status weigh_rows(struct awq *a, int64_t m0, int64_t M, nb_error *err)
{
    const nb_awq_job *j = a->j;
    double all = 0.0;
    const nb_quant_error_args e = {
        .w = a->w + m0 * j->K, .N = M, .K = j->K, .h = j->h, .out = &all, .scratch = a->scratch};
    const nb_status st = j->be->op->quant_error(j->be, &e, err);
    for (int64_t m = m0; m < m0 + M; m++)
        a->weight[m] = all > 0.0 ? 1.0 / all : 0.0;
    return st;
}

static void fill_group(const void *arg, int64_t g, int worker)
{
    const struct awq *a = arg;
    const nb_awq_job *j = a->j;
    const int64_t K = j->K, group = nb_grid_group(j->grid, K), from = g * group,
                  to = from + group < K ? from + group : K;
    (void)worker;
    for (int64_t k = from; k < to; k++)
        a->fill[k] = 0.0f;
    for (int64_t n = 0; n < j->N; n++) {
        const float *w = j->w + n * K;
        float most = 0.0f;
        for (int64_t k = from; k < to; k++)
            most = fabsf(w[k]) > most ? fabsf(w[k]) : most;
        for (int64_t k = from; k < to; k++)
            a->fill[k] += fabsf(w[k]) / (most + 1e-6f) / (float)j->N;
    }
}

/* fill_k = mean over all rows of |w| / max |w| of its group. */
static void measure_weights(const struct awq *a)
{
    const int64_t group = nb_grid_group(a->j->grid, a->j->K);
    nb_pool_run(a->pool, (a->j->K + group - 1) / group, fill_group, a);
}

/* Inputs that share a scale share the root mean square of their sizes. */
static nb_status tie(const nb_awq_job *j, float *v, nb_error *err)
{
    if (!j->tie)
        return NB_OK;
    double *sum = nb_alloc_zero((size_t)j->K * 2, sizeof *sum, "tied scales", err);
    if (!sum)
        return NB_NO_ROOM;
    double *count = sum + j->K;
    for (int64_t k = 0; k < j->K; k++) {
        sum[j->tie[k]] += (double)v[k] * (double)v[k];
        count[j->tie[k]] += 1.0;
    }
    for (int64_t k = 0; k < j->K; k++)
        v[k] = (float)sqrt(sum[j->tie[k]] / count[j->tie[k]]);
    free(sum);
    return NB_OK;
}

/* s = x^r / (fill^(1-r) + 1e-4), or x^r; at least 1e-4, then divided by sqrt(max min). */
static void candidate(struct awq *a, double r, bool with_weights)
{
    const int64_t K = a->j->K;
    float least = INFINITY, most = 0.0f;
    for (int64_t k = 0; k < K; k++) {
        double s = pow((double)a->x[k], r);
        if (with_weights)
            s /= pow((double)a->fill[k], 1.0 - r) + 1e-4;
        s = isfinite(s) && s > 1e-4 ? s : 1e-4;
        a->s[k] = (float)s;
        least = a->s[k] < least ? a->s[k] : least;
        most = a->s[k] > most ? a->s[k] : most;
    }
    const float mid = sqrtf(least) * sqrtf(most);
    for (int64_t k = 0; k < K; k++)
        a->s[k] = a->x[k] > 0.0f
                      ? a->s[k] / mid
                      : 1.0f; /* an input that never comes must not be scaled out of range */
}

/* E(s) for the candidate. */
static nb_status error_of(const struct awq *a, double *out, nb_error *err)
{
    const nb_awq_job *j = a->j;
    nb_backend *be = j->be;
    const nb_scale_error_args e = {.w = a->w,
                                   .scale = a->scale,
                                   .cost = a->cost,
                                   .M = a->M,
                                   .K = j->K,
                                   .grid = j->grid,
                                   .error = a->row,
                                   .scratch = a->scratch};
    nb_status st = be->op->upload(be, a->scale, a->s, (size_t)j->K * sizeof *a->s, err);
    if (st == NB_OK)
        st = be->op->scale_error(be, &e, err);
    if (st == NB_OK)
        st = be->op->download(be, a->error, a->row, (size_t)a->M * sizeof *a->error, err);
    *out = 0.0;
    for (int64_t m = 0; m < a->M && st == NB_OK; m++)
        *out += a->weight[m] * a->error[m];
    return st;
}

/* Of a linear with `rows` rows these many are tried. */
static int64_t tried(int64_t rows)
{
    return rows < kRows ? rows : kRows;
}

static nb_status pick_rows(struct awq *a, nb_error *err)
{
    const nb_awq_job *j = a->j;
    const size_t row = (size_t)j->K * sizeof(float);
    nb_status st = NB_OK;
    int64_t n0 = 0, m0 = 0;
    for (int p = 0; p < NB_AWQ_PARTS && j->part[p] && st == NB_OK; p++) {
        const int64_t M = tried(j->part[p]);
        for (int64_t m = 0; m < M && st == NB_OK; m++)
            st = j->be->op->upload(j->be, a->w + (m0 + m) * j->K,
                                   j->w + (n0 + m * j->part[p] / M) * j->K, row, err);
        if (st == NB_OK)
            st = weigh_rows(a, m0, M, err);
        n0 += j->part[p];
        m0 += M;
    }
    return st;
}

static nb_status open_buffers(struct awq *a, nb_error *err)
{
    const nb_awq_job *j = a->j;
    nb_backend *be = j->be;
    for (int p = 0; p < NB_AWQ_PARTS; p++)
        a->M += tried(j->part[p]);
    const size_t K = (size_t)j->K, M = (size_t)a->M;
    const nb_quant_error_args whole = {.N = a->M, .K = j->K};
    const nb_scale_error_args one = {.M = a->M, .K = j->K, .grid = j->grid};
    const size_t first = be->op->quant_error_scratch ? be->op->quant_error_scratch(be, &whole) : 0,
                 then = be->op->scale_error_scratch ? be->op->scale_error_scratch(be, &one) : 0;
    if (j->n_thread > 1 && nb_pool_open(j->n_thread, &a->pool, NULL) != NB_OK)
        a->pool = NULL;
    a->x = nb_alloc(3 * K, sizeof *a->x, "scales of inputs", err);
    a->a = nb_alloc(K + 2 * M, sizeof *a->a, "scales of inputs", err);
    if (!a->x || !a->a)
        return NB_NO_ROOM;
    a->fill = a->x + K;
    a->s = a->fill + K;
    a->weight = a->a + K;
    a->error = a->weight + M;
    const struct {
        void **to;
        size_t bytes;
    } device[] = {{(void **)&a->w, M * K * sizeof *a->w},
                  {(void **)&a->scale, K * sizeof *a->scale},
                  {(void **)&a->cost, K * sizeof *a->cost},
                  {(void **)&a->row, M * sizeof *a->row},
                  {&a->scratch, (first > then ? first : then) + 64}};
    nb_status st = NB_OK;
    for (size_t i = 0; i < sizeof device / sizeof *device && st == NB_OK; i++)
        st = be->op->alloc(be, device[i].bytes, "rows of weights", device[i].to, err);
    return st == NB_OK && !nb_backend_counts(be) ? pick_rows(a, err) : st;
}

static void close_buffers(struct awq *a)
{
    void *device[] = {a->w, a->scale, a->cost, a->row, a->scratch};
    for (size_t i = 0; i < sizeof device / sizeof *device; i++)
        a->j->be->op->release(a->j->be, device[i]);
    nb_pool_close(a->pool);
    free(a->x);
    free(a->a);
}

nb_status nb_awq_search(const nb_awq_job *j, float *s, nb_awq_choice *choice, nb_error *err)
{
    struct awq a = {.j = j};
    const nb_backend_ops *op = j->be->op;
    nb_status st =
        nb_op_check(j->be, op->scale_error && op->quant_error && (op->factor || !j->feedback),
                    "scale_error", err);
    if (st == NB_OK)
        st = open_buffers(&a, err);
    if (st == NB_OK)
        st = measure_inputs(&a, err);
    *choice = (nb_awq_choice){.ratio = -1.0};
    /* all buffers were there at once: there is nothing else to count, nor to read */
    if (st != NB_OK || nb_backend_counts(j->be)) {
        close_buffers(&a);
        return st;
    }
    measure_weights(&a);
    st = j->be->op->upload(j->be, a.cost, a.a, (size_t)j->K * sizeof *a.a, err);
    if (st == NB_OK)
        st = tie(j, a.x, err);
    if (st == NB_OK)
        st = tie(j, a.fill, err);
    for (int64_t k = 0; k < j->K && st == NB_OK; k++)
        s[k] = a.s[k] = 1.0f;
    if (st == NB_OK)
        st = error_of(&a, &choice->error_plain, err);
    choice->error = choice->error_plain;
    for (int i = 0; i < 2 * kRatios && st == NB_OK; i++) {
        const bool with_weights = i >= kRatios;
        double e = 0;
        if (i == 0)
            continue; /* x^0: no scales */
        candidate(&a, (double)(i % kRatios) / kRatios, with_weights);
        st = error_of(&a, &e, err);
        if (st == NB_OK && e < choice->error) {
            *choice = (nb_awq_choice){.ratio = (double)(i % kRatios) / kRatios,
                                      .error = e,
                                      .error_plain = choice->error_plain};
            memcpy(s, a.s, (size_t)j->K * sizeof *s);
        }
    }
    close_buffers(&a);
    return st;
}
