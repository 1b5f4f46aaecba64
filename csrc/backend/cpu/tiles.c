/* tiles.c -- the products under the ops of quantization; compiled once per level.
 *
 * product_f64: C -= A B, row major. B goes in panels of kPanel columns by kDepth of K, copied so that they lie together (16 KiB, half the first
 * cache; a row stride of 12 KiB, K = 1536, would otherwise fall into one set of it), four at a time: 512 contiguous bytes of a row before the next
 * page. All rows of A pass over a panel, kRowsF64 at a time in registers:
 *
 *      a[0][k] | acc acc        AVX-512: 6 rows x 2 vectors of 8     AVX2: 3 rows x 4 vectors of 4
 *      ...     | ...
 *      a[5][k] | acc acc        each accumulator: one product, one sum a step; the depth's sum is then taken from C
 *
 * gram_tile: part = A^T B of two panels of kGramPanel columns, f32 with fma, tokens ascending. An element's operations do not depend on the level,
 * on M, N or the place of the tile, so neither do the bits. */
#include "backend/cpu/level.h"

/* A vector of the level's own width: wider ones are taken apart by way of the stack. */
#if defined(__AVX512F__)
typedef double nb_dv __attribute__((vector_size(64)));
#elif defined(__AVX2__)
typedef double nb_dv __attribute__((vector_size(32)));
#else
typedef double nb_dv __attribute__((vector_size(16)));
#endif

enum {
    kDv = (int)(sizeof(nb_dv) / sizeof(double)),
    kPanel = 16,
    kDepth = 128,
    kWide = 4 * kPanel,
    kGram = NB_GRAM_PANEL,
#if defined(__AVX512F__)
    kRowsF64 = 6,
    kGramRows = 8,
    kGramTiles = 2
#elif defined(__AVX2__)
    kRowsF64 = 3,
    kGramRows = 4,
    kGramTiles = 1
#else
    kRowsF64 = 1,
    kGramRows = 2,
    kGramTiles = 1
#endif
};

/* out[i][k][c] = B[k0 + k][n0 + i kPanel + c], zero beyond width <= kWide; by_rows: B is [N,K]. */
static void pack_panels(const double *b, int64_t ldb, bool by_rows, int64_t k0, int64_t depth, int64_t n0, int64_t width, double *out)
{
    const int64_t whole = width / kPanel * kPanel;
    if (whole < width)
        memset(out + whole * kDepth, 0, sizeof(double) * kDepth * kPanel);
    if (by_rows) {
        for (int64_t c = 0; c < width; c++)
            for (int64_t k = 0; k < depth; k++)
                out[c / kPanel * kPanel * kDepth + k * kPanel + c % kPanel] = b[(n0 + c) * ldb + k0 + k];
        return;
    }
    for (int64_t k = 0; k < depth; k++)
        for (int64_t c = 0; c < width; c += kPanel) {
            const double *from = b + (k0 + k) * ldb + n0 + c;
            double *to = out + c * kDepth + k * kPanel;
            if (c < whole)
                memcpy(to, from, sizeof *to * kPanel);
            else
                memcpy(to, from, sizeof *to * (size_t)(width - c));
        }
}

static inline __attribute__((always_inline)) void rows_f64(const int R, const double *a, int64_t lda, const double *panel, int64_t depth, double *c,
                                                           int64_t ldc, int64_t width)
{
    enum { kVectors = kPanel / kDv };
    nb_dv s[kRowsF64][kVectors];
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
        for (int j = 0; j < kVectors; j++)
            s[r][j] = (nb_dv){0};
    for (int64_t k = 0; k < depth; k++) {
        const nb_dv *v = (const nb_dv *)(const void *)(panel + k * kPanel);
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
            const double x = a[r * lda + k];
#pragma GCC unroll 8
            for (int j = 0; j < kVectors; j++)
                s[r][j] += x * v[j];
        }
    }
    double sum[kPanel];
    for (int r = 0; r < R; r++) {
        memcpy(sum, s[r], sizeof sum);
        for (int64_t i = 0; i < width; i++)
            c[r * ldc + i] -= sum[i];
    }
}

void NB_LEVEL_NAME(nb_cpu_product_f64)(const nb_product_f64 *p)
{
    _Alignas(64) double panel[kDepth * kWide];
    for (int64_t n0 = 0; n0 < p->N; n0 += kWide)
        for (int64_t k0 = 0; k0 < p->K; k0 += kDepth) {
            const int64_t wide = p->N - n0 < kWide ? p->N - n0 : kWide, depth = p->K - k0 < kDepth ? p->K - k0 : kDepth;
            pack_panels(p->b, p->ldb, p->b_by_rows, k0, depth, n0, wide, panel);
            for (int64_t c = 0; c < wide; c += kPanel) {
                const int64_t width = wide - c < kPanel ? wide - c : kPanel;
                const double *a = p->a + k0, *b = panel + c * kDepth;
                double *to = p->c + n0 + c;
                int64_t m = 0;
                for (; m + kRowsF64 <= p->M; m += kRowsF64)
                    rows_f64(kRowsF64, a + m * p->lda, p->lda, b, depth, to + m * p->ldc, p->ldc, width);
                for (; m < p->M; m++)
                    rows_f64(1, a + m * p->lda, p->lda, b, depth, to + m * p->ldc, p->ldc, width);
            }
        }
}

void NB_LEVEL_NAME(nb_cpu_axpy_f64)(double *y, const double *x, double s, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] += s * x[i];
}

void NB_LEVEL_NAME(nb_cpu_gram_tile)(const float *a, const float *b, int64_t n, float *part)
{
    for (int i0 = 0; i0 < kGram; i0 += kGramRows)
        for (int j0 = 0; j0 < kGram; j0 += kGramTiles * NB_LANES) {
            nb_v s[kGramRows][kGramTiles];
#pragma GCC unroll 8
            for (int i = 0; i < kGramRows; i++)
#pragma GCC unroll 2
                for (int j = 0; j < kGramTiles; j++)
                    s[i][j] = nb_v_set1(0.0f);
            for (int64_t t = 0; t < n; t++) {
                const float *at = a + t * kGram + i0, *bt = b + t * kGram + j0;
                nb_v v[kGramTiles];
#pragma GCC unroll 2
                for (int j = 0; j < kGramTiles; j++)
                    v[j] = nb_v_load(bt + j * NB_LANES);
#pragma GCC unroll 8
                for (int i = 0; i < kGramRows; i++) {
                    const nb_v x = nb_v_set1(at[i]);
#pragma GCC unroll 2
                    for (int j = 0; j < kGramTiles; j++)
                        s[i][j] = nb_v_fma(x, v[j], s[i][j]);
                }
            }
#pragma GCC unroll 8
            for (int i = 0; i < kGramRows; i++)
#pragma GCC unroll 2
                for (int j = 0; j < kGramTiles; j++)
                    nb_v_store(part + (i0 + i) * kGram + j0 + j * NB_LANES, s[i][j]);
        }
}
