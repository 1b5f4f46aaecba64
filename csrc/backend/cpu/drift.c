/* drift.c -- D += Y^T X, Y = (X_orig - X) W^T, with f32 operands and f64 sums; X_orig divided by
 * the scales where there are some.
 *
 * Rows of D are independent: a chunk of rows of W makes its rows of Y^T [rows,M], which at once
 * become the left operand of Y^T X and are forgotten. Both right operands are laid out as
 * product_f32 reads them, once a call:
 *
 *     X - X_orig, turned   [K / 256][M / 16][256][16]   16 tokens a panel, NB_DEPTH inputs of all
 *                                                       tokens together: W is read in strips of
 *                                                       that depth
 *     X                    [K / 16][M][16]              16 inputs a panel
 *
 * The product subtracts, so the first one is given X - X_orig as B and leaves W (X_orig - X)^T; it
 * is negated as it is rounded to f32. Sums of at most NB_DEPTH products are f32, of inputs there
 * and of tokens here, those are added in f64. Cost 4 M N K FLOP; scratch 8 M K bytes, and of each
 * worker 12 M a row of its chunk. */
#include "backend/cpu/kernels.h"

#include <math.h>
#include <string.h>

/* columns laid out by one task: whole panels, and a part of a depth */
enum { kPanel = 16, kStrip = 64 };
_Static_assert(NB_DEPTH % kStrip == 0 && kStrip % kPanel == 0, "a task's columns lie in one depth");

struct drift_job {
    const nb_cpu *cpu;
    const nb_drift_args *a;
    float *turned, *x; /* the operands above */
    char *rooms;
    int64_t rows; /* a chunk */
};

static int64_t panels(int64_t n)
{
    return (n + kPanel - 1) / kPanel;
}

static size_t operand_bytes(const nb_drift_args *a)
{
    return (size_t)(panels(a->M) * kPanel * a->K + panels(a->K) * kPanel * a->M) * sizeof(float);
}

/* Rows of Y^T in f64, and in f32. */
static size_t worker_bytes(int64_t rows, int64_t M)
{
    return (size_t)(rows * nb_cpu_apart(M)) * (sizeof(double) + sizeof(float));
}

size_t nb_cpu_drift_scratch(nb_backend *be, const nb_drift_args *a)
{
    return operand_bytes(a) +
           (size_t)be->n_thread * worker_bytes(nb_cpu_chunk_rows(be, a->N), a->M);
}

/* The difference, negated; s: the scale. The numerator is rounded once: it is small beside x. */
static float moved(float x, float orig, float s)
{
    return s == 1.0f ? x - orig : fmaf(s, x, -orig) / s;
}

/* 16 tokens from m on of columns [k, end): to[k][token], zero beyond M. */
static void turn(const nb_drift_args *a, int64_t m, int64_t k, int64_t end, float *to)
{
    for (int64_t t = 0; t < kPanel; t++) {
        const bool in = m + t < a->M;
        const float *x = a->x + (in ? m + t : 0) * a->ldx,
                    *orig = a->x_orig + (in ? m + t : 0) * a->ld_orig;
        for (int64_t i = k; i < end; i++)
            to[(i - k) * kPanel + t] =
                in ? moved(x[i], orig[i], a->scale ? a->scale[i] : 1.0f) : 0.0f;
    }
}

static void strip_task(const void *arg, int64_t i, int worker)
{
    const struct drift_job *j = arg;
    const nb_drift_args *a = j->a;
    const int64_t k = i * kStrip, end = k + kStrip < a->K ? k + kStrip : a->K,
                  k0 = k / NB_DEPTH * NB_DEPTH, depth = a->K - k0 < NB_DEPTH ? a->K - k0 : NB_DEPTH;
    (void)worker;
    for (int64_t p = 0; p < panels(a->M); p++)
        turn(a, p * kPanel, k, end,
             j->turned + k0 * panels(a->M) * kPanel + (p * depth + k - k0) * kPanel);
    for (int64_t c0 = k; c0 < end; c0 += kPanel) {
        float *to = j->x + c0 * a->M;
        for (int64_t m = 0; m < a->M; m++, to += kPanel)
            for (int64_t c = 0; c < kPanel; c++)
                to[c] = c0 + c < a->K ? a->x[m * a->ldx + c0 + c] : 0.0f;
    }
}

static void chunk_task(const void *arg, int64_t i, int worker)
{
    const struct drift_job *j = arg;
    const nb_drift_args *a = j->a;
    const int64_t M = a->M, K = a->K, ld = nb_cpu_apart(M), row = i * j->rows,
                  rows = a->N - row < j->rows ? a->N - row : j->rows;
    double *y = (double *)(void *)(j->rooms + (size_t)worker * worker_bytes(j->rows, M));
    float *left = (float *)(void *)(y + j->rows * ld);
    memset(y, 0, (size_t)(rows * ld) * sizeof *y);
    for (int64_t k = 0; k < K; k += NB_DEPTH)
        j->cpu->run->product_f32(&(nb_product_f32){.c = y,
                                                   .a = a->w + row * K + k,
                                                   .panels = j->turned + k * panels(M) * kPanel,
                                                   .ldc = ld,
                                                   .lda = K,
                                                   .M = rows,
                                                   .N = M,
                                                   .K = K - k < NB_DEPTH ? K - k : NB_DEPTH});
    for (int64_t r = 0; r < rows; r++)
        for (int64_t m = 0; m < M; m++)
            left[r * ld + m] = -(float)y[r * ld + m];
    j->cpu->run->product_f32(&(nb_product_f32){.c = a->d + row * K,
                                               .a = left,
                                               .panels = j->x,
                                               .ldc = K,
                                               .lda = ld,
                                               .M = rows,
                                               .N = K,
                                               .K = M});
}

nb_status nb_cpu_drift_accumulate(nb_backend *be, const nb_drift_args *a, nb_error *err)
{
    float *turned = a->scratch;
    const struct drift_job j = {.cpu = nb_cpu_of(be),
                                .a = a,
                                .turned = turned,
                                .x = turned + panels(a->M) * kPanel * a->K,
                                .rooms = (char *)a->scratch + operand_bytes(a),
                                .rows = nb_cpu_chunk_rows(be, a->N)};
    (void)err;
    nb_pool_run(j.cpu->pool, (a->K + kStrip - 1) / kStrip, strip_task, &j);
    nb_pool_run(j.cpu->pool, (a->N + j.rows - 1) / j.rows, chunk_task, &j);
    return NB_OK;
}
