/* correct.c -- W += alpha W C (H + lambda I)^-1, with P (H + lambda I) P^T = R R^T (quantizers.md 2.3, "least-squares correction").
 *
 * Rows of W are independent; a chunk of them goes together, so that C and R are read once for all. With Z = -W C, permuted, Y R R^T = Z is two triangular
 * solves by blocks of kSolve columns, which lie in wide ones of kWide so that the other columns are read seldom:
 *     U R^T = Z  from the last block back (R^T is lower):  Z[:,b] -= U[:,later] R[b,later]^T, then the block itself against R[b,b]^T
 *     Y R = U    from the first block on (R is upper):     U[:,b] -= Y[:,:b] R[:b,b],         then the block itself against R[b,b]
 * The products take f32 operands (left.h: sums of at most NB_DEPTH products in f32, those in f64); Z, U and Y stay in f64, and the triangles are
 * solved in f64. So a block's rounding is that of its operands. Cost 4 N K^2 FLOP. */
#include "backend/cpu/left.h"

#include <string.h>

enum { kSolve = NB_SOLVE, kWide = NB_DEPTH, kParts = 3 /* where tiles are */ };

/* Of a worker: Z, U and Y in turn [rows,K]; a row of it [K]; columns of it in f32 [rows,kSolve]; the left operand of the products. */
struct room {
    double *z, *row;
    float *block;
    nb_left left;
};

static size_t aligned(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static size_t doubles(int64_t rows, int64_t K)
{
    return aligned((size_t)((rows + 1) * K) * sizeof(double));
}

static size_t worker_bytes(const nb_cpu *cpu, int64_t rows, int64_t K)
{
    return nb_left_bytes(cpu, kParts, rows, K) + doubles(rows, K) + aligned((size_t)(rows * kSolve) * sizeof(float));
}

size_t nb_cpu_correct_scratch(nb_backend *be, const nb_correct_args *a)
{
    return (size_t)be->n_thread * worker_bytes(nb_cpu_of(be), nb_left_rows(be, a->N), a->K);
}

/* Columns [b, b + n) of M rows become those of the operand. */
static void put_columns(const struct room *s, int64_t K, int64_t M, int64_t b, int64_t n)
{
    for (int64_t m = 0; m < M; m++)
        for (int64_t k = 0; k < n; k++)
            s->block[m * kSolve + k] = (float)s->z[m * K + b + k];
    nb_left_put(&s->left, b, n, M, s->block, kSolve);
}

/* Z[:, b .. b + n) -= operand[:, from .. end) R[b, from .. end)^T, or R[from .. end, b). */
static void take_columns(const nb_correct_args *a, const struct room *s, int64_t M, int64_t b, int64_t n, int64_t from, int64_t end, bool back)
{
    const int64_t K = a->K;
    nb_left_take(&s->left, &(nb_left_product){.c = s->z + b, .b = back ? a->r + b * K + from : a->r + from * K + b, .ldc = K, .ldb = K, .M = M, .N = n,
                                             .from = from, .K = end - from, .b_by_rows = back});
}

/* U R^T = Z. */
static void solve_back(const nb_cpu *cpu, const nb_correct_args *a, const struct room *s, int64_t M)
{
    const int64_t K = a->K;
    for (int64_t w = (K - 1) / kWide * kWide; w >= 0; w -= kWide) {
        const int64_t wide = K - w < kWide ? K - w : kWide, end = w + wide;
        take_columns(a, s, M, w, wide, end, K, true);
        for (int64_t b = w + (wide - 1) / kSolve * kSolve; b >= w; b -= kSolve) {
            const int64_t n = end - b < kSolve ? end - b : kSolve;
            take_columns(a, s, M, b, n, b + n, end, true);
            cpu->run->solve_back(s->z + b, K, M, a->r + b * K + b, K, n);
            put_columns(s, K, M, b, n);
        }
    }
}

/* Y R = U. */
static void solve_on(const nb_cpu *cpu, const nb_correct_args *a, const struct room *s, int64_t M)
{
    const int64_t K = a->K;
    for (int64_t w = 0; w < K; w += kWide) {
        const int64_t wide = K - w < kWide ? K - w : kWide, end = w + wide;
        take_columns(a, s, M, w, wide, 0, w, false);
        for (int64_t b = w; b < end; b += kSolve) {
            const int64_t n = end - b < kSolve ? end - b : kSolve;
            take_columns(a, s, M, b, n, w, b, false);
            cpu->run->solve_on(s->z + b, K, M, a->r + b * K + b, K, n);
            put_columns(s, K, M, b, n);
        }
    }
}

/* M rows of W. */
static void correct_rows(const nb_cpu *cpu, const nb_correct_args *a, float *w, int64_t M, const struct room *s)
{
    const int64_t K = a->K;
    double *z = s->z;
    nb_left_put(&s->left, 0, K, M, w, K);
    memset(z, 0, (size_t)(M * K) * sizeof *z);
    nb_left_take(&s->left, &(nb_left_product){.c = z, .b = a->c, .ldc = K, .ldb = K, .M = M, .N = K, .K = K});
    for (int64_t m = 0; a->perm && m < M; m++) { /* into the factor's order */
        memcpy(s->row, z + m * K, (size_t)K * sizeof *z);
        for (int64_t k = 0; k < K; k++)
            z[m * K + k] = s->row[a->perm[k]];
    }
    solve_back(cpu, a, s, M);
    solve_on(cpu, a, s, M);
    for (int64_t m = 0; m < M; m++)
        for (int64_t k = 0; k < K; k++) {
            float *to = &w[m * K + (a->perm ? a->perm[k] : k)];
            *to = (float)((double)*to - a->alpha * z[m * K + k]);
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
    const int64_t row = i * j->rows, K = a->K;
    char *room = (char *)a->scratch + (size_t)worker * worker_bytes(j->cpu, j->rows, K), *f64 = room + nb_left_bytes(j->cpu, kParts, j->rows, K);
    double *z = (double *)(void *)f64;
    const struct room s = {z, z + j->rows * K, (float *)(void *)(f64 + doubles(j->rows, K)), nb_left_at(j->cpu, kParts, j->rows, K, room)};
    correct_rows(j->cpu, a, a->w + row * K, a->N - row < j->rows ? a->N - row : j->rows, &s);
}

nb_status nb_cpu_correct(nb_backend *be, const nb_correct_args *a, nb_error *err)
{
    (void)err;
    const struct correct_job j = {nb_cpu_of(be), a, nb_left_rows(be, a->N)};
    nb_pool_run(j.cpu->pool, (a->N + j.rows - 1) / j.rows, correct_chunk, &j);
    return NB_OK;
}
