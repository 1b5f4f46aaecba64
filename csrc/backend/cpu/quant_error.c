/* quant_error.c -- tr(D H D^T), D = W - Q (or W): the objective of GPTQ, in f64.
 *
 * H is symmetric, so by blocks b of kBlock columns:  sum_b  2 <D[:,:b] H[:b,b], D[:,b]> + <D[:,b] H[b,b], D[:,b]>.  Rows are independent, a chunk of them together.
 * Cost N K^2 FLOP. */
#include "backend/cpu/kernels.h"

#include <string.h>

enum { kBlock = 128 };

size_t nb_cpu_quant_error_scratch(nb_backend *be, const nb_quant_error_args *a)
{
    return ((size_t)be->n_thread * (size_t)nb_cpu_chunk_rows(be, a->N) * ((size_t)a->K + kBlock) + (size_t)a->N) * sizeof(double);
}

/* row[m] += -weight <t[m], d[m]>; t holds minus the product. */
static void take(const double *t, const double *d, int64_t ldd, int64_t M, int64_t n, double weight, double *row)
{
    for (int64_t m = 0; m < M; m++) {
        double s = 0.0;
        for (int64_t i = 0; i < n; i++)
            s += t[m * kBlock + i] * d[m * ldd + i];
        row[m] -= weight * s;
    }
}

static void rows_error(const nb_cpu *cpu, const nb_quant_error_args *a, int64_t n0, int64_t M, double *d, double *t, double *row)
{
    const int64_t K = a->K;
    for (int64_t i = 0; i < M * K; i++)
        d[i] = (double)a->w[n0 * K + i] - (a->q ? (double)a->q[n0 * K + i] : 0.0);
    memset(row, 0, (size_t)M * sizeof *row);
    for (int64_t b = 0; b < K; b += kBlock) {
        const int64_t n = K - b < kBlock ? K - b : kBlock;
        nb_product_f64 p = {.c = t, .a = d, .b = a->h + b, .ldc = kBlock, .lda = K, .ldb = K, .M = M, .N = n, .K = b};
        memset(t, 0, sizeof *t * (size_t)(M * kBlock));
        cpu->run->product_f64(&p);
        take(t, d + b, K, M, n, 2.0, row);
        memset(t, 0, sizeof *t * (size_t)(M * kBlock));
        p.a = d + b;
        p.b = a->h + b * K + b;
        p.K = n;
        cpu->run->product_f64(&p);
        take(t, d + b, K, M, n, 1.0, row);
    }
}

struct error_job {
    const nb_cpu *cpu;
    const nb_quant_error_args *a;
    double *row, *work; /* [N]; a worker's D and its product */
    int64_t rows;       /* a chunk */
};

static void error_chunk(const void *arg, int64_t i, int worker)
{
    const struct error_job *j = arg;
    const int64_t n0 = i * j->rows, left = j->a->N - n0;
    double *d = j->work + worker * j->rows * (j->a->K + kBlock);
    rows_error(j->cpu, j->a, n0, left < j->rows ? left : j->rows, d, d + j->rows * j->a->K, j->row + n0);
}

nb_status nb_cpu_quant_error(nb_backend *be, const nb_quant_error_args *a, nb_error *err)
{
    (void)err;
    double *row = a->scratch;
    const struct error_job j = {nb_cpu_of(be), a, row, row + a->N, nb_cpu_chunk_rows(be, a->N)};
    nb_pool_run(j.cpu->pool, (a->N + j.rows - 1) / j.rows, error_chunk, &j);
    *a->out = 0.0;
    for (int64_t n = 0; n < a->N; n++) /* in the order of the rows, whatever the threads */
        *a->out += row[n];
    return NB_OK;
}
