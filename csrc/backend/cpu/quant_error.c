/* quant_error.c -- tr(D H D^T), D = W - Q (or W): the objective of GPTQ.
 *
 * H is symmetric, so by blocks b of kBlock columns:  sum_b  2 <D[:,:b] H[:b,b], D[:,b]> + <D[:,b] H[b,b], D[:,b]>.  Rows are independent, a chunk of them together.
 * D and H are rounded to f32 in D H (product_f32, sums in f64 every NB_DEPTH columns), the rest is f64. Cost N K^2 FLOP. */
#include "backend/cpu/kernels.h"

#include <string.h>

enum { kBlock = 128 };

/* Of a worker: D H [rows,kBlock] f64, D [rows,ld] f32. */
static size_t worker_doubles(int64_t rows)
{
    return (size_t)(rows * kBlock);
}
static size_t worker_floats(int64_t rows, int64_t K)
{
    return (size_t)(rows * nb_cpu_apart(K));
}

size_t nb_cpu_quant_error_scratch(nb_backend *be, const nb_quant_error_args *a)
{
    const int64_t rows = nb_cpu_chunk_rows(be, a->N);
    return (size_t)a->N * sizeof(double) + (size_t)be->n_thread * (worker_doubles(rows) * sizeof(double) + worker_floats(rows, a->K) * sizeof(float));
}

/* row[m] += -weight <t[m], d[m]>; t holds minus the product. */
static void take(const double *t, const float *d, int64_t ldd, int64_t M, int64_t n, double weight, double *row)
{
    for (int64_t m = 0; m < M; m++) {
        double s = 0.0;
        for (int64_t i = 0; i < n; i++)
            s += t[m * kBlock + i] * (double)d[m * ldd + i];
        row[m] -= weight * s;
    }
}

static void rows_error(const nb_cpu *cpu, const nb_quant_error_args *a, int64_t n0, int64_t M, float *d, double *t, double *row)
{
    const int64_t K = a->K, ld = nb_cpu_apart(K);
    for (int64_t m = 0; m < M; m++)
        for (int64_t k = 0; k < K; k++)
            d[m * ld + k] = a->w[(n0 + m) * K + k] - (a->q ? a->q[(n0 + m) * K + k] : 0.0f);
    memset(row, 0, (size_t)M * sizeof *row);
    for (int64_t b = 0; b < K; b += kBlock) {
        const int64_t n = K - b < kBlock ? K - b : kBlock;
        nb_product_f32 p = {.c = t, .a = d, .b = a->h + b, .ldc = kBlock, .lda = ld, .ldb = K, .M = M, .N = n, .K = b};
        memset(t, 0, sizeof *t * (size_t)(M * kBlock));
        cpu->run->product_f32(&p);
        take(t, d + b, ld, M, n, 2.0, row);
        memset(t, 0, sizeof *t * (size_t)(M * kBlock));
        p.a = d + b;
        p.b = a->h + b * K + b;
        p.K = n;
        cpu->run->product_f32(&p);
        take(t, d + b, ld, M, n, 1.0, row);
    }
}

struct error_job {
    const nb_cpu *cpu;
    const nb_quant_error_args *a;
    double *row, *t; /* [N]; the workers' products */
    float *d;        /* the workers' D */
    int64_t rows;       /* a chunk */
};

static void error_chunk(const void *arg, int64_t i, int worker)
{
    const struct error_job *j = arg;
    const int64_t n0 = i * j->rows, left = j->a->N - n0;
    float *d = j->d + (size_t)worker * worker_floats(j->rows, j->a->K);
    rows_error(j->cpu, j->a, n0, left < j->rows ? left : j->rows, d, j->t + (size_t)worker * worker_doubles(j->rows), j->row + n0);
}

nb_status nb_cpu_quant_error(nb_backend *be, const nb_quant_error_args *a, nb_error *err)
{
    (void)err;
    double *row = a->scratch, *t = row + a->N;
    const int64_t rows = nb_cpu_chunk_rows(be, a->N);
    const struct error_job j = {nb_cpu_of(be), a, row, t, (float *)(void *)(t + (size_t)be->n_thread * worker_doubles(rows)), rows};
    nb_pool_run(j.cpu->pool, (a->N + j.rows - 1) / j.rows, error_chunk, &j);
    *a->out = 0.0;
    for (int64_t n = 0; n < a->N; n++) /* in the order of the rows, whatever the threads */
        *a->out += row[n];
    return NB_OK;
}
