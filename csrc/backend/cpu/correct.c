/* correct.c -- W += alpha W C (H + lambda I)^-1, with P (H + lambda I) P^T = R R^T (quantizers.md
 * 2.3, "least-squares correction").
 *
 * Rows of W are independent; a chunk of them goes together, so that C and R are read once for all.
 * With Z = W C, permuted, Y R R^T = Z is two triangular solves by blocks of kBlock columns:
 *     U R^T = Z  from the last block back (R^T is lower):  Z[:,b] -= U[:,later] R[b,later]^T, then
 *         the block itself against R[b,b]^T
 *     Y R = U    from the first block on (R is upper):     U[:,b] -= Y[:,:b] R[:b,b],         then
 *                the block itself against R[b,b]
 * The products take f32 operands (product_f32: sums of at most NB_DEPTH products in f32, those in
 * f64); Z, U and Y stay in f64, and the triangles are solved in f64. So a block's rounding is that
 * of its operands. Cost 4 N K^2 FLOP,
 * half of it where W C is given. */
#include "backend/cpu/kernels.h"

#include <string.h>

enum { kBlock = NB_SOLVE };

/* Of a worker: Z, U and Y in turn [rows,K]; a row of it [K]; the left operand of the products in
 * f32 [rows,ld]. */
struct room {
    double *z, *row;
    float *a;
    int64_t ld;
};

static size_t worker_bytes(int64_t rows, int64_t K)
{
    return (size_t)((rows + 1) * K) * sizeof(double) +
           (size_t)(rows * nb_cpu_apart(K)) * sizeof(float);
}

size_t nb_cpu_correct_scratch(nb_backend *be, const nb_correct_args *a)
{
    return (size_t)be->n_thread * worker_bytes(nb_cpu_chunk_rows(be, a->N), a->K);
}

/* Columns [b, b + n) of M rows in f32. */
static void round_columns(const struct room *s, int64_t K, int64_t M, int64_t b, int64_t n)
{
    for (int64_t m = 0; m < M; m++)
        for (int64_t k = b; k < b + n; k++)
            s->a[m * s->ld + k] = (float)s->z[m * K + k];
}

/* Z = W C. */
static void multiply(const nb_cpu *cpu, const nb_correct_args *a, const float *w, int64_t M,
                     const struct room *s)
{
    const int64_t K = a->K;
    for (int64_t m = 0; m < M; m++)
        for (int64_t k = 0; k < K; k++)
            s->a[m * s->ld + k] = -w[m * K + k]; /* the product subtracts */
    memset(s->z, 0, (size_t)(M * K) * sizeof *s->z);
    cpu->run->product_f32(&(nb_product_f32){
        .c = s->z, .a = s->a, .b = a->c, .ldc = K, .lda = s->ld, .ldb = K, .M = M, .N = K, .K = K});
}

/* M rows of W from `row` on. */
static void correct_rows(const nb_cpu *cpu, const nb_correct_args *a, int64_t row, int64_t M,
                         const struct room *s)
{
    const int64_t K = a->K, ld = s->ld;
    float *w = a->w + row * K;
    double *z = s->z;
    void (*const product)(const nb_product_f32 *) = cpu->run->product_f32;
    if (a->wc)
        memcpy(z, a->wc + row * K, (size_t)(M * K) * sizeof *z);
    else
        multiply(cpu, a, w, M, s);
    for (int64_t m = 0; a->perm && m < M; m++) { /* into the factor's order */
        memcpy(s->row, z + m * K, (size_t)K * sizeof *z);
        for (int64_t k = 0; k < K; k++)
            z[m * K + k] = s->row[a->perm[k]];
    }
    for (int64_t b = (K - 1) / kBlock * kBlock; b >= 0; b -= kBlock) {
        const int64_t n = K - b < kBlock ? K - b : kBlock, end = b + n;
        product(&(nb_product_f32){.c = z + b,
                                  .a = s->a + end,
                                  .b = a->r + b * K + end,
                                  .ldc = K,
                                  .lda = ld,
                                  .ldb = K,
                                  .M = M,
                                  .N = n,
                                  .K = K - end,
                                  .b_by_rows = true});
        cpu->run->solve_back(z + b, K, M, a->r + b * K + b, K, n);
        round_columns(s, K, M, b, n);
    }
    for (int64_t b = 0; b < K; b += kBlock) {
        const int64_t n = K - b < kBlock ? K - b : kBlock;
        product(&(nb_product_f32){.c = z + b,
                                  .a = s->a,
                                  .b = a->r + b,
                                  .ldc = K,
                                  .lda = ld,
                                  .ldb = K,
                                  .M = M,
                                  .N = n,
                                  .K = b});
        cpu->run->solve_on(z + b, K, M, a->r + b * K + b, K, n);
        round_columns(s, K, M, b, n);
    }
    for (int64_t m = 0; m < M; m++)
        for (int64_t k = 0; k < K; k++) {
            float *to = &w[m * K + (a->perm ? a->perm[k] : k)];
            *to = (float)((double)*to + a->alpha * z[m * K + k]);
        }
}

struct correct_job {
    const nb_cpu *cpu;
    const nb_correct_args *a;
    int64_t rows; /* a chunk */
};

static void correct_chunk(const void *arg, int64_t i, int worker)
{
    const struct correct_job *j = arg;
    const nb_correct_args *a = j->a;
    const int64_t row = i * j->rows;
    const int64_t n_thread = j->cpu->base.n_thread, ld = nb_cpu_apart(a->K),
                  one = (j->rows + 1) * a->K;
    double *z = (double *)a->scratch + worker * one;
    float *f32 = (float *)(void *)((double *)a->scratch + n_thread * one);
    const struct room s = {z, z + j->rows * a->K, f32 + worker * j->rows * ld, ld};
    correct_rows(j->cpu, a, row, a->N - row < j->rows ? a->N - row : j->rows, &s);
}

nb_status nb_cpu_correct(nb_backend *be, const nb_correct_args *a, nb_error *err)
{
    (void)err;
    const struct correct_job j = {nb_cpu_of(be), a, nb_cpu_chunk_rows(be, a->N)};
    nb_pool_run(j.cpu->pool, (a->N + j.rows - 1) / j.rows, correct_chunk, &j);
    return NB_OK;
}
