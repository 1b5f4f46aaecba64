/* gram.c -- H += X^T X and C += (X_orig - X)^T X in f64.
 *
 * X, and the difference of the streams, are first laid out in panels of 48 columns [panel][M][48], so a tile of the result reads two contiguous
 * pieces. Tiles of 48 x 48 are independent (the tasks of the pool) and take NB_GRAM_TOKENS at a time: products and sums in f32 within such a block
 * (128 terms, relative error about sqrt(128) 2^-24), the block is then added in f64, to a copy of the tile that stays in the cache. H is symmetric:
 * tiles from the diagonal on are computed, the others are their mirror. Cost M K^2 FLOP for H, 2 M K^2 for C; scratch 4 M K bytes, twice with C. */
#include "backend/cpu/kernels.h"

#include <string.h>

enum { kPanel = NB_GRAM_PANEL };

static int64_t panels(int64_t K)
{
    return (K + kPanel - 1) / kPanel;
}

size_t nb_cpu_gram_scratch(nb_backend *be, const nb_gram_args *a)
{
    (void)be;
    return (size_t)(panels(a->K) * kPanel * a->M) * sizeof(float) * (a->c ? 2 : 1);
}

/* Panel p of x (minus `less` when given); columns beyond K are zero. */
static void load_panel(const float *x, int64_t ldx, const float *less, int64_t ld_less, int64_t M, int64_t K, int64_t p, float *out)
{
    const int64_t k0 = p * kPanel, width = K - k0 < kPanel ? K - k0 : kPanel;
    for (int64_t m = 0; m < M; m++, out += kPanel) {
        for (int64_t k = 0; k < width; k++)
            out[k] = x[m * ldx + k0 + k] - (less ? less[m * ld_less + k0 + k] : 0.0f);
        memset(out + width, 0, (size_t)(kPanel - width) * sizeof *out);
    }
}

/* out[i0 + i][j0 + j] += sum over the tokens; y and x are whole panels [M][kPanel]. mirror: out[j0 + j][i0 + i] becomes the same. */
static void add_tile(const nb_cpu *cpu, const float *y, const float *x, int64_t M, int64_t K, int64_t i0, int64_t j0, bool mirror, double *out)
{
    _Alignas(64) double sum[kPanel * kPanel] = {0};
    const int64_t wi = K - i0 < kPanel ? K - i0 : kPanel, wj = K - j0 < kPanel ? K - j0 : kPanel;
    for (int64_t i = 0; i < wi; i++)
        memcpy(sum + i * kPanel, out + (i0 + i) * K + j0, (size_t)wj * sizeof *sum);
    cpu->run->gram_tile(y, x, M, sum);
    for (int64_t i = 0; i < wi; i++)
        memcpy(out + (i0 + i) * K + j0, sum + i * kPanel, (size_t)wj * sizeof *sum);
    for (int64_t j = 0; mirror && j < wj; j++)
        for (int64_t i = 0; i < wi; i++)
            out[(j0 + j) * K + i0 + i] = sum[i * kPanel + j];
}

struct gram_job {
    const nb_cpu *cpu;
    const nb_gram_args *a;
    int64_t n, one; /* panels; elements of one */
    float *x, *diff;
};

static void panel_task(const void *arg, int64_t p, int worker)
{
    const struct gram_job *j = arg;
    const nb_gram_args *a = j->a;
    (void)worker;
    load_panel(a->x, a->ldx, NULL, 0, a->M, a->K, p, j->x + p * j->one);
    if (a->x_orig)
        load_panel(a->x_orig, a->ld_orig, a->x, a->ldx, a->M, a->K, p, j->diff + p * j->one);
}

/* Tile t: a column of tiles shares the panel of x. */
static void tile_task(const void *arg, int64_t t, int worker)
{
    const struct gram_job *j = arg;
    const nb_gram_args *a = j->a;
    const int64_t row = t % j->n, col = t / j->n;
    (void)worker;
    if (col >= row)
        add_tile(j->cpu, j->x + row * j->one, j->x + col * j->one, a->M, a->K, row * kPanel, col * kPanel, col > row, a->h);
    if (a->x_orig)
        add_tile(j->cpu, j->diff + row * j->one, j->x + col * j->one, a->M, a->K, row * kPanel, col * kPanel, false, a->c);
}

nb_status nb_cpu_gram_accumulate(nb_backend *be, const nb_gram_args *a, nb_error *err)
{
    (void)err;
    const int64_t n = panels(a->K), one = kPanel * a->M;
    float *x = a->scratch;
    const struct gram_job j = {nb_cpu_of(be), a, n, one, x, x + n * one};
    nb_pool_run(j.cpu->pool, n, panel_task, &j);
    nb_pool_run(j.cpu->pool, n * n, tile_task, &j);
    return NB_OK;
}
