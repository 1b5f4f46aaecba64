/* clip_rows.c -- the range of every group with the least error, NB_CLIP_ROWS rows of W at a time so
 * that H of a group is read once for all of them.
 *
 * With H a group costs n_step n^2 / 2 products a row, 128 wide 10 steps: 82,000; eight rows in the
 * lanes of a vector. Scratch a thread: a group of f64 for eight rows, and one of f32. */
#include "backend/cpu/kernels.h"
#include "dtype/clip.h"

#include <string.h>

struct clip {
    const nb_clip_rows_args *a;
    const nb_cpu *cpu;
    int64_t group, G;
};

static struct clip clip_of(nb_backend *be, const nb_clip_rows_args *a)
{
    const int64_t group = nb_grid_group(a->grid, a->K);
    return (struct clip){
        .a = a, .cpu = nb_cpu_of(be), .group = group, .G = (a->K + group - 1) / group};
}

static size_t thread_bytes(const struct clip *s)
{
    return (size_t)s->group * (NB_CLIP_ROWS * sizeof(double) + 2 * sizeof(float));
}

size_t nb_cpu_clip_rows_scratch(nb_backend *be, const nb_clip_rows_args *a)
{
    const struct clip s = clip_of(be, a);
    return (size_t)be->n_thread * thread_bytes(&s);
}

/* Errors e of M rows under the parameters p[m], and d of them left behind. */
static void errors(const struct clip *s, const float *const *w, int M, int n, const nb_group *p,
                   const double *h, double *d, double *e)
{
    const nb_grid *grid = s->a->grid;
    for (int i = 0; i < n; i++)
        for (int m = 0; m < NB_CLIP_ROWS; m++)
            d[i * NB_CLIP_ROWS + m] =
                m < M ? (double)nb_grid_value(grid, &p[m], nb_grid_round(grid, &p[m], w[m][i])) -
                            (double)w[m][i]
                      : 0.0;
    if (h) {
        s->cpu->run->block_error(d, h, s->a->K, n, e);
        return;
    }
    for (int m = 0; m < M; m++) {
        e[m] = 0.0;
        for (int i = 0; i < n; i++)
            e[m] += d[i * NB_CLIP_ROWS + m] * d[i * NB_CLIP_ROWS + m];
    }
}

/* The best parameters of one group of M rows, into best[m]. */
static void clip_group(const struct clip *s, const float *const *w, int M, int n, const double *h,
                       nb_group *best, double *d, float *held)
{
    const nb_clip_rows_args *a = s->a;
    double e[NB_CLIP_ROWS], least[NB_CLIP_ROWS];
    nb_group p[NB_CLIP_ROWS];
    if (a->quantile > 0.0f) {
        for (int m = 0; m < M; m++) {
            nb_clip_quantile(w[m], n, a->quantile, held);
            a->grid->params(a->grid, held, n, &best[m]);
        }
        return;
    }
    for (int i = 0; i < a->n_step; i++) {
        for (int m = 0; m < M; m++) {
            nb_clip_range(w[m], n, 1.0f - (float)i * a->step, held);
            a->grid->params(a->grid, held, n, &p[m]);
        }
        errors(s, w, M, n, p, h, d, e);
        for (int m = 0; m < M; m++)
            if (i == 0 || e[m] < least[m]) {
                least[m] = e[m];
                best[m] = p[m];
            }
    }
}

static void clip_chunk(const void *arg, int64_t chunk, int worker)
{
    const struct clip *s = arg;
    const nb_clip_rows_args *a = s->a;
    double *d = (double *)(void *)((uint8_t *)a->scratch + (size_t)worker * thread_bytes(s));
    float *held = (float *)(void *)(d + NB_CLIP_ROWS * s->group);
    const int64_t n0 = chunk * NB_CLIP_ROWS, K = a->K;
    const int M = (int)(a->N - n0 < NB_CLIP_ROWS ? a->N - n0 : NB_CLIP_ROWS);
    for (int64_t g = 0; g < s->G; g++) {
        const int64_t first = g * s->group, end = first + s->group < K ? first + s->group : K;
        const float *w[NB_CLIP_ROWS];
        nb_group best[NB_CLIP_ROWS];
        for (int m = 0; m < M; m++)
            w[m] = a->w + (n0 + m) * K + first;
        clip_group(s, w, M, (int)(end - first), a->h ? a->h + first * K + first : NULL, best, d,
                   held);
        for (int m = 0; m < M; m++) {
            a->groups[(n0 + m) * s->G + g] = best[m];
            for (int64_t k = first; a->codes && k < end; k++)
                a->codes[(n0 + m) * K + k] =
                    (uint8_t)nb_grid_round(a->grid, &best[m], w[m][k - first]);
        }
    }
}

nb_status nb_cpu_clip_rows(nb_backend *be, const nb_clip_rows_args *a, nb_error *err)
{
    const struct clip s = clip_of(be, a);
    (void)err;
    nb_pool_run(s.cpu->pool, (a->N + NB_CLIP_ROWS - 1) / NB_CLIP_ROWS, clip_chunk, &s);
    return NB_OK;
}
