/* gram.c -- H += X^T X and C += (X_orig - X)^T X in f64.
 *
 * Tiles of kTile x kTile of the result are independent (OpenMP over them). A tile takes kTokens tokens at a time: products and sums in f32 within such
 * a block (kTokens terms, relative error about sqrt(128) 2^-24), the block is then added in f64. H is symmetric: tiles above the diagonal are
 * computed, the others mirrored. Cost 2 M K^2 FLOP for H halved, 2 M K^2 for C. */
#include "backend/cpu/clones.h"
#include "backend/cpu/cpu.h"

#include <string.h>

enum { kTile = 48, kTokens = 128 };

size_t nb_cpu_gram_scratch(nb_backend *be, const nb_gram_args *a)
{
    (void)be;
    return a->x_orig ? (size_t)(a->M * a->K) * sizeof(float) : 0; /* the difference of the streams */
}

/* part[i][j] = sum over tokens of a[t][i] b[t][j]; a and b are [n][kTile], zero padded. */
NB_CLONES static void tile_product(const float *a, const float *b, int n, float *part)
{
    memset(part, 0, sizeof(float) * kTile * kTile);
    for (int i0 = 0; i0 < kTile; i0 += 4)
        for (int t = 0; t < n; t++) {
            const float *at = a + t * kTile + i0, *bt = b + t * kTile;
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < kTile; j++)
                    part[(i0 + i) * kTile + j] += at[i] * bt[j];
        }
}

static void load_tile(const float *x, int64_t ld, int64_t t0, int n, int64_t k0, int width, float *out)
{
    for (int t = 0; t < n; t++) {
        memcpy(out + t * kTile, x + (t0 + t) * ld + k0, (size_t)width * sizeof(float));
        memset(out + t * kTile + width, 0, (size_t)(kTile - width) * sizeof(float));
    }
}

/* One tile of the result: rows i0.. from y, columns j0.. from x. */
static void tile(const float *y, int64_t ldy, const float *x, int64_t ldx, int64_t M, int64_t K, int64_t i0, int64_t j0, double *out)
{
    float a[kTokens * kTile], b[kTokens * kTile], part[kTile * kTile];
    const int wi = (int)(K - i0 < kTile ? K - i0 : kTile), wj = (int)(K - j0 < kTile ? K - j0 : kTile);
    for (int64_t t0 = 0; t0 < M; t0 += kTokens) {
        const int n = (int)(M - t0 < kTokens ? M - t0 : kTokens);
        load_tile(y, ldy, t0, n, i0, wi, a);
        load_tile(x, ldx, t0, n, j0, wj, b);
        tile_product(a, b, n, part);
        for (int i = 0; i < wi; i++)
            for (int j = 0; j < wj; j++)
                out[(i0 + i) * K + j0 + j] += (double)part[i * kTile + j];
    }
}

nb_status nb_cpu_gram_accumulate(nb_backend *be, const nb_gram_args *a, nb_error *err)
{
    (void)err;
    const int64_t K = a->K, n = (K + kTile - 1) / kTile;
    float *diff = a->scratch;
    if (a->x_orig) {
#pragma omp parallel for num_threads(be->n_thread) schedule(static)
        for (int64_t m = 0; m < a->M; m++)
            for (int64_t k = 0; k < K; k++)
                diff[m * K + k] = a->x_orig[m * a->ld_orig + k] - a->x[m * a->ldx + k];
    }
#pragma omp parallel for num_threads(be->n_thread) schedule(dynamic)
    for (int64_t t = 0; t < n * n; t++) {
        const int64_t i0 = t / n * kTile, j0 = t % n * kTile;
        if (j0 >= i0)
            tile(a->x, a->ldx, a->x, a->ldx, a->M, K, i0, j0, a->h);
        if (a->x_orig)
            tile(diff, K, a->x, a->ldx, a->M, K, i0, j0, a->c);
    }
#pragma omp parallel for num_threads(be->n_thread) schedule(static)
    for (int64_t i = 0; i < K; i++)
        for (int64_t j = 0; j < i; j++)
            a->h[i * K + j] = a->h[j * K + i];
    return NB_OK;
}
