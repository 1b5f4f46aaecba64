/* awq.c -- the search for input scales. */
#include "quant/awq.h"
#include "base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    kAwqRows = 128, /* every choice is tried on the same rows, so what differs is the choice */
    kRatios = 20    /* r = i / 20, with and without w */
};

struct awq {
    const nb_awq_job *j;
    int64_t M;              /* rows that are tried */
    float *rows;            /* [M,K] host, those rows of W */
    float *x, *fill;        /* [K] size of the input; how far its weights fill their groups */
    float *s;               /* [K] the candidate */
    float *host;            /* [M,K] */
    float *w, *scaled, *q;  /* [M,K] device */
    uint8_t *codes;         /* [M,K] device */
    nb_group *groups;       /* device */
    void *scratch;
};

static int64_t group_of(const nb_awq_job *j)
{
    return j->grid->group && j->grid->group < j->K ? j->grid->group : j->K;
}

/* x_k = sqrt(H_kk): the root mean square of input k, up to a factor that normalising removes. */
static nb_status measure_inputs(struct awq *a, nb_error *err)
{
    const nb_awq_job *j = a->j;
    nb_status st = NB_OK;
    for (int64_t k = 0; k < j->K && st == NB_OK; k++) {
        double d = 0;
        st = j->be->op->download(j->be, &d, j->h + k * j->K + k, sizeof d, err);
        if (st == NB_OK && !isfinite(d))
            return nb_fail(err, NB_BAD_INPUT, "the calibration activations of input %lld are not finite", (long long)k);
        a->x[k] = (float)sqrt(d);
    }
    return st;
}

/* fill_k = mean over all rows of |w| / max |w| of its group. */
static void measure_weights(struct awq *a)
{
    const nb_awq_job *j = a->j;
    const int64_t K = j->K, group = group_of(j);
    for (int64_t k = 0; k < K; k++)
        a->fill[k] = 0.0f;
    for (int64_t n = 0; n < j->N; n++)
        for (int64_t from = 0; from < K; from += group) {
            const float *w = j->w + n * K;
            const int64_t to = from + group < K ? from + group : K;
            float most = 0.0f;
            for (int64_t k = from; k < to; k++)
                most = fabsf(w[k]) > most ? fabsf(w[k]) : most;
            for (int64_t k = from; k < to; k++)
                a->fill[k] += fabsf(w[k]) / (most + 1e-6f) / (float)j->N;
        }
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
        a->s[k] = a->x[k] > 0.0f ? a->s[k] / mid : 1.0f; /* an input that never comes must not be scaled out of range */
}

/* tr(D H D^T), D = W - round(W s) / s, of the rows that are tried. */
static nb_status error_of(struct awq *a, double *out, nb_error *err)
{
    const nb_awq_job *j = a->j;
    nb_backend *be = j->be;
    const int64_t K = j->K;
    const size_t bytes = (size_t)(a->M * K) * sizeof(float);
    for (int64_t i = 0; i < a->M * K; i++)
        a->host[i] = a->rows[i] * a->s[i % K];
    nb_status st = be->op->upload(be, a->scaled, a->host, bytes, err);
    const nb_quantize_rows_args rows = {.w = a->scaled, .N = a->M, .K = K, .grid = j->grid, .groups = a->groups, .codes = a->codes};
    const nb_dequantize_args back = {.codes = a->codes, .groups = a->groups, .N = a->M, .K = K, .grid = j->grid, .q = a->q};
    const nb_quant_error_args e = {.w = a->w, .q = a->q, .N = a->M, .K = K, .h = j->h, .out = out, .scratch = a->scratch};
    if (st == NB_OK)
        st = be->op->quantize_rows(be, &rows, err);
    if (st == NB_OK)
        st = be->op->dequantize(be, &back, err);
    if (st == NB_OK)
        st = be->op->download(be, a->host, a->q, bytes, err);
    for (int64_t i = 0; i < a->M * K && st == NB_OK; i++)
        a->host[i] /= a->s[i % K];
    if (st == NB_OK)
        st = be->op->upload(be, a->q, a->host, bytes, err);
    return st == NB_OK ? be->op->quant_error(be, &e, err) : st;
}

static nb_status open_buffers(struct awq *a, nb_error *err)
{
    const nb_awq_job *j = a->j;
    nb_backend *be = j->be;
    const size_t n = (size_t)(a->M * j->K), K = (size_t)j->K;
    const int64_t group = group_of(j);
    const nb_quant_error_args e = {.N = a->M, .K = j->K};
    a->rows = nb_alloc(n, sizeof(float), "rows of weights", err);
    a->host = nb_alloc(n, sizeof(float), "rows of weights", err);
    a->x = nb_alloc(3 * K, sizeof(float), "scales of inputs", err);
    if (!a->rows || !a->host || !a->x)
        return NB_NO_ROOM;
    a->fill = a->x + K;
    a->s = a->fill + K;
    const struct {
        void **to;
        size_t bytes;
    } device[] = {{(void **)&a->w, n * 4},
                  {(void **)&a->scaled, n * 4},
                  {(void **)&a->q, n * 4},
                  {(void **)&a->codes, n},
                  {(void **)&a->groups, (size_t)(a->M * ((j->K + group - 1) / group)) * sizeof(nb_group)},
                  {&a->scratch, be->op->quant_error_scratch ? be->op->quant_error_scratch(be, &e) + 64 : 64}};
    nb_status st = NB_OK;
    for (size_t i = 0; i < sizeof device / sizeof *device && st == NB_OK; i++)
        st = be->op->alloc(be, device[i].bytes, "rows of weights", device[i].to, err);
    for (int64_t m = 0; m < a->M; m++)
        memcpy(a->rows + m * j->K, j->w + m * j->N / a->M * j->K, K * sizeof(float));
    return st == NB_OK ? be->op->upload(be, a->w, a->rows, n * 4, err) : st;
}

static void close_buffers(struct awq *a)
{
    void *device[] = {a->w, a->scaled, a->q, a->codes, a->groups, a->scratch};
    for (size_t i = 0; i < sizeof device / sizeof *device; i++)
        a->j->be->op->release(a->j->be, device[i]);
    free(a->rows);
    free(a->host);
    free(a->x);
}

nb_status nb_awq_search(const nb_awq_job *j, float *s, nb_awq_choice *choice, nb_error *err)
{
    struct awq a = {.j = j, .M = j->N < kAwqRows ? j->N : kAwqRows};
    const nb_backend_ops *op = j->be->op;
    nb_status st = nb_op_check(j->be, op->quantize_rows && op->dequantize && op->quant_error, "quant_error", err);
    if (st == NB_OK)
        st = open_buffers(&a, err);
    if (st == NB_OK)
        st = measure_inputs(&a, err);
    if (st == NB_OK) {
        measure_weights(&a);
        st = tie(j, a.x, err);
    }
    if (st == NB_OK)
        st = tie(j, a.fill, err);
    *choice = (nb_awq_choice){.ratio = -1.0};
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
            *choice = (nb_awq_choice){.ratio = (double)(i % kRatios) / kRatios, .error = e, .error_plain = choice->error_plain};
            memcpy(s, a.s, (size_t)j->K * sizeof *s);
        }
    }
    close_buffers(&a);
    return st;
}
