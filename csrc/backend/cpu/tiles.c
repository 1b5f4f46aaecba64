/* tiles.c -- the f64 products under the ops of quantization (product_f32.c has those in f32);
 * compiled once per level.
 *
 * product_f64: C -= A B, row major. B goes in panels of kPanel columns by kDepth of K, copied so
 * that they lie together (16 KiB, half the first cache; a row stride of 12 KiB, K = 1536, would
 * otherwise fall into one set of it), kWide columns at a time: 512 contiguous bytes of a row before
 * the next page. All rows of A pass over a panel, kRowsF64 at a time in registers:
 *
 *      a[0][k] | acc acc        AVX-512: 12 rows x 2 vectors of 8     AVX2: 6 rows x 2 vectors of 4
 *      ...     | ...
 *      a[5][k] | acc acc        each accumulator: one fma a step, from 0; the depth's sum is then
 * taken from C. An element's operations do not depend on the level, on M, N or the place of the
 * tile, so neither do the bits. */
#include "backend/cpu/dv.h"
#include "backend/cpu/level.h"

enum {
    kPanel = 2 * NB_DV,
    kDepth = 128,
    kWide = 64,
#if defined(__AVX512F__)
    kRowsF64 = 12
#elif defined(__AVX2__)
    kRowsF64 = 6
#else
    kRowsF64 = 2
#endif
};
_Static_assert(kWide % kPanel == 0, "panels are whole tiles");

/* out[i][k][c] = B[k0 + k][n0 + i kPanel + c], zero beyond width <= kWide. Rows are a page apart or
 * more, which no prefetcher of the machine follows. */
static void pack_columns(const double *b, int64_t ldb, int64_t depth, int64_t width, double *out)
{
    enum { kAhead = 8 };
    for (int64_t k = 0; k < depth; k++, b += ldb) {
        const double *ahead = b + (k + kAhead < depth ? kAhead * ldb : 0);
        for (int64_t c = 0; c < width; c += kPanel) {
            double *to = out + c * kDepth + k * kPanel;
            const int64_t n = width - c < kPanel ? width - c : kPanel;
            __builtin_prefetch(ahead + c);
            if (n == kPanel)
                memcpy(to, b + c, sizeof *to * kPanel);
            else
                for (int64_t i = 0; i < kPanel; i++)
                    to[i] = i < n ? b[c + i] : 0.0;
        }
    }
}

/* The same of B^T: B is [N,K]. */
static void pack_rows(const double *b, int64_t ldb, int64_t depth, int64_t width, double *out)
{
    for (int64_t c0 = 0; c0 < width; c0 += kPanel, out += kPanel * kDepth, b += kPanel * ldb) {
        const int64_t n = width - c0 < kPanel ? width - c0 : kPanel;
        if (n == kPanel)
            for (int64_t k = 0; k < depth; k++)
#pragma GCC unroll 16
                for (int c = 0; c < kPanel; c++)
                    out[k * kPanel + c] = b[c * ldb + k];
        else
            for (int64_t k = 0; k < depth; k++)
                for (int64_t c = 0; c < kPanel; c++)
                    out[k * kPanel + c] = c < n ? b[c * ldb + k] : 0.0;
    }
}

static inline __attribute__((always_inline)) void rows_f64(const int R, const double *a,
                                                           int64_t lda, const double *panel,
                                                           int64_t depth, double *c, int64_t ldc,
                                                           int64_t width)
{
    nb_dv s[kRowsF64][2];
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
        s[r][0] = s[r][1] = (nb_dv){0};
    for (int64_t k = 0; k < depth; k++) {
        const nb_dv v0 = nb_dv_load(panel + k * kPanel),
                    v1 = nb_dv_load(panel + k * kPanel + NB_DV);
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) {
            const double x = a[r * lda + k];
            s[r][0] = nb_dv_fma(x, v0, s[r][0]);
            s[r][1] = nb_dv_fma(x, v1, s[r][1]);
        }
    }
    if (width == kPanel) {
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) {
            nb_dv_store(c + r * ldc, nb_dv_load(c + r * ldc) - s[r][0]);
            nb_dv_store(c + r * ldc + NB_DV, nb_dv_load(c + r * ldc + NB_DV) - s[r][1]);
        }
        return;
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) {
        double sum[kPanel];
        nb_dv_store(sum, s[r][0]);
        nb_dv_store(sum + NB_DV, s[r][1]);
        for (int64_t i = 0; i < width; i++)
            c[r * ldc + i] -= sum[i];
    }
}

void NB_LEVEL_NAME(nb_cpu_product_f64)(const nb_product_f64 *p)
{
    _Alignas(64) double panel[kDepth * kWide];
    for (int64_t n0 = 0; n0 < p->N; n0 += kWide)
        for (int64_t k0 = 0; k0 < p->K; k0 += kDepth) {
            const int64_t wide = p->N - n0 < kWide ? p->N - n0 : kWide,
                          depth = p->K - k0 < kDepth ? p->K - k0 : kDepth;
            if (p->b_by_rows)
                pack_rows(p->b + n0 * p->ldb + k0, p->ldb, depth, wide, panel);
            else
                pack_columns(p->b + k0 * p->ldb + n0, p->ldb, depth, wide, panel);
            for (int64_t c = 0; c < wide; c += kPanel) {
                const int64_t width = wide - c < kPanel ? wide - c : kPanel;
                const double *a = p->a + k0, *b = panel + c * kDepth;
                double *to = p->c + n0 + c;
                int64_t m = 0;
                for (; m + kRowsF64 <= p->M; m += kRowsF64)
                    rows_f64(kRowsF64, a + m * p->lda, p->lda, b, depth, to + m * p->ldc, p->ldc,
                             width);
                for (; m < p->M; m++)
                    rows_f64(1, a + m * p->lda, p->lda, b, depth, to + m * p->ldc, p->ldc, width);
            }
        }
}

void NB_LEVEL_NAME(nb_cpu_axpy_f64)(double *y, const double *x, double s, int64_t n)
{
    int64_t i = 0;
    for (; i + NB_DV <= n; i += NB_DV)
        nb_dv_store(y + i, nb_dv_fma(s, nb_dv_load(x + i), nb_dv_load(y + i)));
    for (; i < n; i++)
        y[i] = fma(s, x[i], y[i]);
}
