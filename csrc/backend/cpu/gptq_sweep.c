/* gptq_sweep.c -- GPTQ over all columns of a matrix (Frantar et al. 2022, algorithm 1; U = R^-1),
 * left-looking and without U.
 *
 * The textbook keeps W current:  e_j = (W_j - q_j) / U[j][j];  W_l -= e_j U[j][l] for l > j. With D
 * = W0 - Q the sum of all updates gives D = e U, so
 * e = D R, and column j, when its turn comes, holds
 *
 *     X_j = W0_j + S_j / R[j][j],   S_j = sum over i < j of D_i R[i][j],   e_j = S_j + D_j R[j][j]
 *
 * which needs neither the inverse nor a changing copy of W; e e^T = D (H + diag(add)) D^T is a
 * row's error. The values of a whole group at its start (for its scale) solve the triangle of the
 * group: y R[g,g] = S_g, X_g = W0_g + y. A chunk of rows goes together, by blocks of columns: S of
 * a block is one product with all columns before it, D and R
 * rounded to f32 (product_f32, whose sums are f64 every NB_DEPTH columns); inside the block S grows
 * column by column in f64, kTogether rows side by side,
 * whose chains of dependent steps run beside each other. Cost N K^2 FLOP; scratch n_thread x rows x
 * (K f32 + block f64). */
#include "backend/cpu/kernels.h"

#include <string.h>

enum { kBlock = 128, kTogether = 8 };

struct sweep {
    const nb_gptq_sweep_args *a;
    const nb_cpu *cpu;
    int64_t group, G;
    int64_t rows; /* a chunk */
    int64_t B;    /* columns a block: a multiple of the group, so that none is cut */
};

static struct sweep sweep_of(nb_backend *be, const nb_gptq_sweep_args *a)
{
    const int64_t K = a->K, group = nb_grid_group(a->grid, K);
    struct sweep s = {.a = a,
                      .cpu = nb_cpu_of(be),
                      .group = group,
                      .G = (K + group - 1) / group,
                      .rows = nb_cpu_chunk_rows(be, a->N)};
    s.B = a->groups_fixed || group == K ? kBlock : group > kBlock ? group : kBlock / group * group;
    return s;
}

/* Of a worker. */
struct room {
    double *sum, *y; /* S [rows,B]; a group's y [group] */
    float *d, *now;  /* D [rows,ld]; a group's values [group] */
    int64_t ld;
};

static size_t thread_doubles(const struct sweep *s)
{
    return (size_t)(s->rows * s->B + s->group);
}

static size_t thread_floats(const struct sweep *s)
{
    return (size_t)(s->rows * nb_cpu_apart(s->a->K) + s->group);
}

size_t nb_cpu_gptq_sweep_scratch(nb_backend *be, const nb_gptq_sweep_args *a)
{
    const struct sweep s = sweep_of(be, a);
    return (size_t)be->n_thread *
           (thread_doubles(&s) * sizeof(double) + thread_floats(&s) * sizeof(float));
}

static struct room room_of(const struct sweep *s, int worker)
{
    double *f64 = s->a->scratch;
    float *f32 = (float *)(void *)(f64 + (size_t)s->cpu->base.n_thread * thread_doubles(s));
    const int64_t ld = nb_cpu_apart(s->a->K);
    f64 += (size_t)worker * thread_doubles(s);
    f32 += (size_t)worker * thread_floats(s);
    return (struct room){f64, f64 + s->rows * s->B, f32, f32 + s->rows * ld, ld};
}

/* The current values of n columns from j on, for the parameters of their group; s and w point at
 * column j, y has room for n. */
static void group_now(const double *r, int64_t K, int64_t j, int64_t n, const double *s,
                      const float *w, double *y, float *now)
{
    for (int64_t l = 0; l < n; l++) {
        double v = s[l];
        for (int64_t i = 0; i < l; i++)
            v -= y[i] * r[(j + i) * K + j + l];
        y[l] = v / r[(j + l) * K + j + l];
        now[l] = (float)((double)w[l] + y[l]);
    }
}

/* Column j of row `row` in the block [b, b + n): sum [n] holds S of the block; returns W - Q. */
static double round_one(const struct sweep *s, const struct room *t, int64_t row, int64_t j,
                        int64_t b, int64_t n, const double *sum)
{
    const nb_gptq_sweep_args *a = s->a;
    const int64_t k = a->perm ? a->perm[j] : j;
    const float *w = a->w + row * a->K;
    nb_group *p = &a->groups[row * s->G + k / s->group];
    if (!a->groups_fixed && s->group < a->K && j % s->group == 0) {
        const int64_t width = b + n - j < s->group ? b + n - j : s->group;
        group_now(a->r, a->K, j, width, sum + j - b, w + j, t->y, t->now);
        a->grid->params(a->grid, t->now, (int)width, p);
    }
    const int code =
        nb_grid_round(a->grid, p, (float)((double)w[k] + sum[j - b] / a->r[j * a->K + j]));
    a->codes[row * a->K + k] = (uint8_t)code;
    return (double)w[k] - (double)nb_grid_value(a->grid, p, code);
}

/* Columns [b, b + n) of M rows from n0; row m of the chunk is n0 + m. */
static void round_block(const struct sweep *s, const struct room *t, int64_t n0, int64_t M,
                        int64_t b, int64_t n)
{
    const nb_gptq_sweep_args *a = s->a;
    for (int64_t m0 = 0; m0 < M; m0 += kTogether)
        for (int64_t j = b; j < b + n; j++) {
            const double *r = a->r + j * a->K + j,
                         add = a->error ? a->diag_add[a->perm ? a->perm[j] : j] : 0.0;
            for (int64_t m = m0; m < M && m < m0 + kTogether; m++) {
                double *sum = t->sum + m * s->B;
                const double d = round_one(s, t, n0 + m, j, b, n, sum), e = sum[j - b] + d * r[0];
                t->d[m * t->ld + j] = (float)d;
                if (a->error)
                    a->error[n0 + m] += e * e - add * d * d;
                s->cpu->run->axpy_f64(sum + j - b + 1, r + 1, d, b + n - j - 1);
            }
        }
}

static void sweep_chunk(const void *arg, int64_t i, int worker)
{
    const struct sweep *s = arg;
    const nb_gptq_sweep_args *a = s->a;
    const struct room t = room_of(s, worker);
    const int64_t K = a->K, n0 = i * s->rows, M = a->N - n0 < s->rows ? a->N - n0 : s->rows;
    /* before any update the current values are W's own */
    for (int64_t m = 0; m < M && !a->groups_fixed && s->group == K; m++)
        a->grid->params(a->grid, a->w + (n0 + m) * K, (int)K, &a->groups[n0 + m]);
    for (int64_t m = 0; m < M && a->error; m++)
        a->error[n0 + m] = 0.0;
    for (int64_t b = 0; b < K; b += s->B) {
        const int64_t n = K - b < s->B ? K - b : s->B;
        memset(t.sum, 0, (size_t)(M * s->B) * sizeof *t.sum);
        s->cpu->run->product_f32(&(nb_product_f32){.c = t.sum,
                                                   .a = t.d,
                                                   .b = a->r + b,
                                                   .ldc = s->B,
                                                   .lda = t.ld,
                                                   .ldb = K,
                                                   .M = M,
                                                   .N = n,
                                                   .K = b});
        for (int64_t j = 0; j < M * s->B; j++)
            t.sum[j] = -t.sum[j]; /* the product subtracts */
        round_block(s, &t, n0, M, b, n);
    }
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
