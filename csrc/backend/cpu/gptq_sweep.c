/* gptq_sweep.c -- GPTQ over all columns of a matrix (Frantar et al. 2022, algorithm 1; U = R^-1), left-looking and without U.
 *
 * The textbook keeps W current:  e_j = (W_j - q_j) / U[j][j];  W_l -= e_j U[j][l] for l > j. With D = W0 - Q the sum of all updates gives D = e U, so
 * e = D R, and column j, when its turn comes, holds
 *
 *     X_j = W0_j + S_j / R[j][j],   S_j = sum over i < j of D_i R[i][j]
 *
 * which needs neither the inverse nor a changing copy of W. The values of a whole group at its start (for its scale) solve the triangle of the group:
 * y R[g,g] = S_g, X_g = W0_g + y. A chunk of rows goes together, by blocks of columns: S of a block is one product with all columns before it, inside the
 * block S grows column by column. Everything in f64, the rounding in f32. Cost 2 N K^2 FLOP; scratch n_thread x rows x (2 K + block + group) f64. */
#include "backend/cpu/kernels.h"

#include <string.h>

enum { kBlock = 128 };

struct sweep {
    const nb_gptq_sweep_args *a;
    const nb_cpu *cpu;
    int64_t group, G;
    int64_t rows; /* a chunk */
    int64_t B; /* columns a block: a multiple of the group, so that none is cut */
};

static struct sweep sweep_of(nb_backend *be, const nb_gptq_sweep_args *a)
{
    const int64_t K = a->K, group = a->grid->group && a->grid->group < K ? a->grid->group : K;
    struct sweep s = {.a = a, .cpu = nb_cpu_of(be), .group = group, .G = (K + group - 1) / group, .rows = nb_cpu_chunk_rows(be, a->N)};
    s.B = a->groups_fixed || group == K ? kBlock : group > kBlock ? group : kBlock / group * group;
    return s;
}

static size_t thread_doubles(const struct sweep *s) /* W and D [rows,K], S [rows,B], a group's y */
{
    return (size_t)s->rows * (size_t)(2 * s->a->K + s->B) + (size_t)s->group;
}

size_t nb_cpu_gptq_sweep_scratch(nb_backend *be, const nb_gptq_sweep_args *a)
{
    const struct sweep s = sweep_of(be, a);
    return (size_t)be->n_thread * thread_doubles(&s) * sizeof(double) + (size_t)be->n_thread * (size_t)s.group * sizeof(float);
}

/* The current values of n columns from j on, for the parameters of their group; s and w point at column j, y has room for n. */
static void group_now(const double *r, int64_t K, int64_t j, int64_t n, const double *s, const double *w, double *y, float *now)
{
    for (int64_t l = 0; l < n; l++) {
        double v = s[l];
        for (int64_t i = 0; i < l; i++)
            v -= y[i] * r[(j + i) * K + j + l];
        y[l] = v / r[(j + l) * K + j + l];
        now[l] = (float)(w[l] + y[l]);
    }
}

/* Columns [b, b + n) of row `row`: sum [n] holds S of the block; d gets W - Q. */
static void round_row(const struct sweep *s, int64_t row, int64_t b, int64_t n, double *sum, const double *w, double *d, double *y, float *now)
{
    const nb_gptq_sweep_args *a = s->a;
    for (int64_t j = b; j < b + n; j++) {
        const int64_t k = a->perm ? a->perm[j] : j;
        const double *r = a->r + j * a->K;
        nb_group *p = &a->groups[row * s->G + k / s->group];
        if (!a->groups_fixed && s->group < a->K && j % s->group == 0) {
            const int64_t width = b + n - j < s->group ? b + n - j : s->group;
            group_now(a->r, a->K, j, width, sum + j - b, w + j, y, now);
            a->grid->params(a->grid, now, (int)width, p);
        }
        const int code = nb_grid_round(a->grid, p, (float)(w[j] + sum[j - b] / r[j]));
        a->codes[row * a->K + k] = (uint8_t)code;
        d[j] = w[j] - (double)nb_grid_value(p, code);
        s->cpu->run->axpy_f64(sum + j - b + 1, r + j + 1, d[j], b + n - j - 1);
    }
}

/* M rows from n0; work as thread_doubles counts it, then [group] f32. */
static void sweep_rows(const struct sweep *s, int64_t n0, int64_t M, double *work, float *now)
{
    const nb_gptq_sweep_args *a = s->a;
    const int64_t K = a->K;
    double *w = work, *d = w + s->rows * K, *sum = d + s->rows * K, *y = sum + s->rows * s->B;
    for (int64_t m = 0; m < M; m++) {
        for (int64_t j = 0; j < K; j++)
            w[m * K + j] = (double)a->w[(n0 + m) * K + (a->perm ? a->perm[j] : j)];
        if (!a->groups_fixed && s->group == K) /* before any update the current values are W's own */
            a->grid->params(a->grid, a->w + (n0 + m) * K, (int)K, &a->groups[n0 + m]);
    }
    for (int64_t b = 0; b < K; b += s->B) {
        const int64_t n = K - b < s->B ? K - b : s->B;
        memset(sum, 0, (size_t)(M * s->B) * sizeof *sum);
        s->cpu->run->product_f64(&(nb_product_f64){.c = sum, .a = d, .b = a->r + b, .ldc = s->B, .lda = K, .ldb = K, .M = M, .N = n, .K = b});
        for (int64_t m = 0; m < M; m++) {
            for (int64_t j = 0; j < n; j++)
                sum[m * s->B + j] = -sum[m * s->B + j]; /* the product subtracts */
            round_row(s, n0 + m, b, n, sum + m * s->B, w + m * K, d + m * K, y, now);
        }
    }
}

static void sweep_chunk(const void *arg, int64_t i, int worker)
{
    const struct sweep *s = arg;
    const nb_gptq_sweep_args *a = s->a;
    double *work = a->scratch;
    float *now = (float *)(void *)(work + (size_t)s->cpu->base.n_thread * thread_doubles(s));
    sweep_rows(s, i * s->rows, a->N - i * s->rows < s->rows ? a->N - i * s->rows : s->rows, work + (size_t)worker * thread_doubles(s), now + worker * s->group);
}

nb_status nb_cpu_gptq_sweep(nb_backend *be, const nb_gptq_sweep_args *a, nb_error *err)
{
    const struct sweep s = sweep_of(be, a);
    if (a->perm && !a->groups_fixed)
        return nb_fail(err, NB_INTERNAL, "gptq_sweep: an order needs fixed groups");
    if (a->groups_fixed && a->groups != a->groups_fixed)
        memcpy(a->groups, a->groups_fixed, (size_t)(a->N * s.G) * sizeof *a->groups);
    nb_pool_run(s.cpu->pool, (a->N + s.rows - 1) / s.rows, sweep_chunk, &s);
    return NB_OK;
}
