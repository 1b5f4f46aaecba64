/* quant_error.c -- tr(D H D^T), D = W - Q (or W): the objective of GPTQ.
 *
 * H is symmetric, so by blocks b of kBlock columns:  sum_b  2 <D[:,:b] H[:b,b], D[:,b]> + <D[:,b]
 * H[b,b], D[:,b]>.  Rows are independent, a chunk of them together. D and H are rounded to f32 in D
 * H (left.h, sums in f64 every NB_DEPTH columns), the rest is f64. Cost N K^2 FLOP. */
#include "backend/cpu/left.h"

#include <string.h>

enum { kBlock = 128 };

struct error_job {
    const nb_cpu *cpu;
    const nb_quant_error_args *a;
    double *row;  /* [N] */
    char *rooms;  /* of the workers */
    int64_t rows; /* a chunk */
};

/* Of a worker: D as an operand; D H [rows,kBlock] f64, D [rows,kBlock] f32. */
static size_t worker_bytes(const nb_cpu *cpu, int64_t rows, int64_t K)
{
    return nb_left_bytes(cpu, rows, K) + (size_t)(rows * kBlock) * (sizeof(double) + sizeof(float));
}

static size_t row_bytes(int64_t N) /* what follows is aligned */
{
    return ((size_t)N * sizeof(double) + 63) / 64 * 64;
}

size_t nb_cpu_quant_error_scratch(nb_backend *be, const nb_quant_error_args *a)
{
    return row_bytes(a->N) +
           (size_t)be->n_thread * worker_bytes(nb_cpu_of(be), nb_left_rows(be, a->N), a->K);
}

/* row[m] += -weight <t[m], d[m]>; t holds minus the product. */
static void take(const double *t, const float *d, int64_t M, int64_t n, double weight, double *row)
{
    for (int64_t m = 0; m < M; m++) {
        double s = 0.0;
        for (int64_t i = 0; i < n; i++)
            s += t[m * kBlock + i] * (double)d[m * kBlock + i];
        row[m] -= weight * s;
    }
}

/* The products of D with what lies above block b, then with the block itself: D's columns are put
 * as they are reached. */
static void chunk_task(const void *arg, int64_t i, int worker)
{
    const struct error_job *j = arg;
    const nb_quant_error_args *a = j->a;
    const int64_t K = a->K, n0 = i * j->rows, M = a->N - n0 < j->rows ? a->N - n0 : j->rows;
    char *room = j->rooms + (size_t)worker * worker_bytes(j->cpu, j->rows, K);
    const nb_left left = nb_left_at(j->cpu, j->rows, K, room);
    double *t = (double *)(void *)(room + nb_left_bytes(j->cpu, j->rows, K)), *row = j->row + n0;
    float *d = (float *)(void *)(t + j->rows * kBlock);
    memset(row, 0, (size_t)M * sizeof *row);
    for (int64_t b = 0; b < K; b += kBlock) {
        const int64_t n = K - b < kBlock ? K - b : kBlock;
        nb_left_product p = {
            .c = t, .b = a->h + b, .ldc = kBlock, .ldb = K, .M = M, .N = n, .K = b};
        for (int64_t m = 0; m < M; m++)
            for (int64_t k = 0; k < n; k++)
                d[m * kBlock + k] =
                    a->w[(n0 + m) * K + b + k] - (a->q ? a->q[(n0 + m) * K + b + k] : 0.0f);
        nb_left_put(&left, b, n, M, d, kBlock);
        memset(t, 0, sizeof *t * (size_t)(M * kBlock));
        nb_left_take(&left, &p);
        take(t, d, M, n, 2.0, row);
        memset(t, 0, sizeof *t * (size_t)(M * kBlock));
        p.from = b;
        p.b = a->h + b * K + b;
        p.K = n;
        nb_left_take(&left, &p);
        take(t, d, M, n, 1.0, row);
    }
}

nb_status nb_cpu_quant_error(nb_backend *be, const nb_quant_error_args *a, nb_error *err)
{
    (void)err;
    double *row = a->scratch;
    const struct error_job j = {nb_cpu_of(be), a, row, (char *)a->scratch + row_bytes(a->N),
                                nb_left_rows(be, a->N)};
    nb_pool_run(j.cpu->pool, (a->N + j.rows - 1) / j.rows, chunk_task, &j);
    *a->out = 0.0;
    for (int64_t n = 0; n < a->N; n++) /* in the order of the rows, whatever the threads */
        *a->out += row[n];
    return NB_OK;
}
