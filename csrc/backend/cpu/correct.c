/* correct.c -- W += alpha W C (H + lambda I)^-1, with P (H + lambda I) P^T = R R^T (quantizers.md 2.3, "least-squares correction").
 *
 * Rows of W are independent; a chunk of them goes together, so that C and R are read once for all. With Z = W C, permuted, Y R R^T = Z is two triangular
 * solves by blocks of kBlock columns:
 *     U R^T = Z  from the last block back (R^T is lower):  Z[:,b] -= U[:,later] R[b,later]^T, then the block itself against R[b,b]^T
 *     Y R = U    from the first block on (R is upper):     U[:,b] -= Y[:,:b] R[:b,b],         then the block itself against R[b,b]
 * Cost 4 N K^2 FLOP; everything in f64. */
#include "backend/cpu/kernels.h"

#include <string.h>

enum { kBlock = NB_SOLVE };

size_t nb_cpu_correct_scratch(nb_backend *be, const nb_correct_args *a)
{
    return (size_t)be->n_thread * 2 * (size_t)nb_cpu_chunk_rows(be, a->N) * (size_t)a->K * sizeof(double);
}

/* M rows of W; w64 and z are [M,K] scratch. */
static void correct_rows(const nb_cpu *cpu, const nb_correct_args *a, float *w, int64_t M, double *w64, double *z)
{
    const int64_t K = a->K;
    void (*const product)(const nb_product_f64 *) = cpu->run->product_f64;
    for (int64_t i = 0; i < M * K; i++)
        w64[i] = -(double)w[i]; /* the product subtracts */
    memset(z, 0, (size_t)(M * K) * sizeof *z);
    product(&(nb_product_f64){.c = z, .a = w64, .b = a->c, .ldc = K, .lda = K, .ldb = K, .M = M, .N = K, .K = K});
    double *u = w64; /* Z in the factor's order */
    for (int64_t m = 0; m < M; m++)
        for (int64_t k = 0; k < K; k++)
            u[m * K + k] = z[m * K + (a->perm ? a->perm[k] : k)];
    for (int64_t b = (K - 1) / kBlock * kBlock; b >= 0; b -= kBlock) {
        const int64_t n = K - b < kBlock ? K - b : kBlock, end = b + n;
        product(&(nb_product_f64){.c = u + b, .a = u + end, .b = a->r + b * K + end, .ldc = K, .lda = K, .ldb = K, .M = M, .N = n, .K = K - end, .b_by_rows = true});
        cpu->run->solve_back(u + b, K, M, a->r + b * K + b, K, n);
    }
    for (int64_t b = 0; b < K; b += kBlock) {
        const int64_t n = K - b < kBlock ? K - b : kBlock;
        product(&(nb_product_f64){.c = u + b, .a = u, .b = a->r + b, .ldc = K, .lda = K, .ldb = K, .M = M, .N = n, .K = b});
        cpu->run->solve_on(u + b, K, M, a->r + b * K + b, K, n);
    }
    for (int64_t m = 0; m < M; m++)
        for (int64_t k = 0; k < K; k++) {
            float *to = &w[m * K + (a->perm ? a->perm[k] : k)];
            *to = (float)((double)*to + a->alpha * u[m * K + k]);
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
    double *w64 = (double *)a->scratch + worker * 2 * j->rows * a->K;
    correct_rows(j->cpu, a, a->w + row * a->K, a->N - row < j->rows ? a->N - row : j->rows, w64, w64 + j->rows * a->K);
}

nb_status nb_cpu_correct(nb_backend *be, const nb_correct_args *a, nb_error *err)
{
    (void)err;
    const struct correct_job j = {nb_cpu_of(be), a, nb_cpu_chunk_rows(be, a->N)};
    nb_pool_run(j.cpu->pool, (a->N + j.rows - 1) / j.rows, correct_chunk, &j);
    return NB_OK;
}
