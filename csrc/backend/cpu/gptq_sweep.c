/* gptq_sweep.c -- GPTQ over all columns of a matrix (Frantar et al. 2022, algorithm 1), left-looking in the R-form (quantizers.md 2.2; U = R^-1).
 *
 *   for block [a,b) of kBlock columns, kRows rows together:
 *     X = W[:,a:b] + (D[:,:a] R[:a,a:b]) U[a:b,a:b]             D = W - Q of the columns that are done
 *     for j in the block:  q_j = round(X_j);  e = (X_j - q_j) / U[j][j];  X_l -= e U[j][l] for l > j in the block;  D_j = W_j - q_j
 *
 * Only the diagonal blocks of R are inverted, and W itself is never touched: no drift of updated weights. Everything in f64, the rounding in f32.
 * Cost 2 N K^2 FLOP in products; scratch K x (kBlock + n_thread 2 kRows) f64. */
#include "backend/cpu/kernels.h"

#include <string.h>

enum { kRows = 48, kBlock = 128, kGroupMax = 1024 };

struct sweep {
    const nb_gptq_sweep_args *a;
    const nb_cpu *cpu;
    int64_t group, G;
    int64_t B;       /* columns a block: a multiple of the group, so that none is cut */
    const double *u; /* [n_block][B][B] inverses of the diagonal blocks */
};

static int64_t group_of(const nb_gptq_sweep_args *a)
{
    return a->grid->group ? a->grid->group : a->K;
}

/* A group that is the whole row is parametrised before the first update, whatever the block. */
static int64_t block_of(const nb_gptq_sweep_args *a)
{
    const int64_t group = group_of(a);
    return group >= a->K ? kBlock : group > kBlock ? group : kBlock / group * group;
}

static size_t rows_scratch(const nb_gptq_sweep_args *a) /* of one thread: W and D [kRows,K], X and its product [kRows,B] */
{
    return 2 * kRows * (size_t)(a->K + block_of(a)) * sizeof(double);
}

size_t nb_cpu_gptq_sweep_scratch(nb_backend *be, const nb_gptq_sweep_args *a)
{
    const size_t B = (size_t)block_of(a), n_block = ((size_t)a->K + B - 1) / B;
    return n_block * B * B * sizeof(double) + (size_t)be->n_thread * rows_scratch(a);
}

/* U = inverse of the upper triangular n x n block at r, row by row from the last: U[i] = (e_i - sum_{k>i} R[i][k] U[k]) / R[i][i]. */
static void invert_upper(const nb_cpu *cpu, const double *r, int64_t ldr, int64_t n, double *u, int64_t ldu)
{
    for (int64_t i = n - 1; i >= 0; i--) {
        double *to = u + i * ldu;
        memset(to, 0, (size_t)n * sizeof *to);
        to[i] = 1.0;
        for (int64_t k = i + 1; k < n; k++)
            cpu->run->axpy_f64(to + k, u + k * ldu + k, -r[i * ldr + k], n - k);
        for (int64_t k = i; k < n; k++)
            to[k] /= r[i * ldr + i];
    }
}

/* Columns [b, b + n) of M rows from n0: x [M][B] holds the current values and goes through the block; d gets W - Q. */
static void round_block(const struct sweep *s, int64_t n0, int64_t M, int64_t b, int64_t n, double *x, const double *w, double *d)
{
    const nb_gptq_sweep_args *a = s->a;
    const double *u = s->u + b / s->B * s->B * s->B;
    float now[kGroupMax];
    for (int64_t m = 0; m < M; m++) {
        double *row = x + m * s->B;
        for (int64_t j = 0; j < n; j++) {
            const int64_t k = a->perm ? a->perm[b + j] : b + j;
            nb_group *p = &a->groups[(n0 + m) * s->G + k / s->group];
            if (!a->groups_fixed && s->group < a->K && k % s->group == 0) {
                const int64_t width = n - j < s->group ? n - j : s->group;
                for (int64_t i = 0; i < width; i++)
                    now[i] = (float)row[j + i];
                a->grid->params(a->grid, now, (int)width, p);
            }
            const int code = nb_grid_round(a->grid, p, (float)row[j]);
            const double q = (double)nb_grid_value(p, code);
            a->codes[(n0 + m) * a->K + k] = (uint8_t)code;
            d[m * a->K + b + j] = w[m * a->K + b + j] - q;
            s->cpu->run->axpy_f64(row + j + 1, u + j * s->B + j + 1, -(row[j] - q) / u[j * s->B + j], n - j - 1);
        }
    }
}

static void sweep_rows(const struct sweep *s, int64_t n0, int64_t M, double *work)
{
    const nb_gptq_sweep_args *a = s->a;
    const int64_t K = a->K;
    double *w = work, *d = w + kRows * K, *x = d + kRows * K, *t = x + kRows * s->B;
    for (int64_t m = 0; m < M; m++) {
        for (int64_t j = 0; j < K; j++)
            w[m * K + j] = (double)a->w[(n0 + m) * K + (a->perm ? a->perm[j] : j)];
        if (!a->groups_fixed && s->group >= K)
            a->grid->params(a->grid, a->w + (n0 + m) * K, (int)K, &a->groups[n0 + m]);
    }
    for (int64_t b = 0; b < K; b += s->B) {
        const int64_t n = K - b < s->B ? K - b : s->B;
        for (int64_t m = 0; m < M; m++)
            memcpy(x + m * s->B, w + m * K + b, (size_t)n * sizeof *x);
        if (b > 0) {
            memset(t, 0, (size_t)(M * s->B) * sizeof *t);
            s->cpu->run->product_f64(&(nb_product_f64){.c = t, .a = d, .b = a->r + b, .ldc = s->B, .lda = K, .ldb = K, .M = M, .N = n, .K = b});
            s->cpu->run->product_f64(&(nb_product_f64){.c = x, .a = t, .b = s->u + b / s->B * s->B * s->B, .ldc = s->B, .lda = s->B, .ldb = s->B, .M = M, .N = n, .K = n});
        }
        round_block(s, n0, M, b, n, x, w, d);
    }
}

nb_status nb_cpu_gptq_sweep(nb_backend *be, const nb_gptq_sweep_args *a, nb_error *err)
{
    const int64_t K = a->K, chunks = (a->N + kRows - 1) / kRows;
    const int nt = be->n_thread;
    struct sweep s = {.a = a, .cpu = nb_cpu_of(be), .group = group_of(a), .B = block_of(a)};
    s.G = (K + s.group - 1) / s.group;
    if (a->perm && !a->groups_fixed)
        return nb_fail(err, NB_INTERNAL, "gptq_sweep: an order needs fixed groups");
    if (s.group < K && s.group > kGroupMax)
        return nb_fail(err, NB_UNSUPPORTED, "gptq_sweep: groups of %lld inputs, at most %d or the whole row", (long long)s.group, kGroupMax);
    const int64_t n_block = (K + s.B - 1) / s.B;
    double *u = a->scratch;
    s.u = u;
#pragma omp parallel for num_threads(nt) schedule(dynamic)
    for (int64_t i = 0; i < n_block; i++)
        invert_upper(s.cpu, a->r + i * s.B * (K + 1), K, K - i * s.B < s.B ? K - i * s.B : s.B, u + i * s.B * s.B, s.B);
    if (a->groups_fixed && a->groups != a->groups_fixed)
        memcpy(a->groups, a->groups_fixed, (size_t)(a->N * s.G) * sizeof *a->groups);
#pragma omp parallel for num_threads(nt) schedule(static)
    for (int t = 0; t < nt; t++) {
        double *work = (double *)(void *)((char *)(u + n_block * s.B * s.B) + (size_t)t * rows_scratch(a));
        for (int64_t c = chunks * t / nt; c < chunks * (t + 1) / nt; c++)
            sweep_rows(&s, c * kRows, a->N - c * kRows < kRows ? a->N - c * kRows : kRows, work);
    }
    return NB_OK;
}
