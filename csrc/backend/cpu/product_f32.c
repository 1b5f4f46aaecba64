/* product_f32.c -- C -= A B with f32 operands and f64 sums: the products of quantization at the
 * speed of `linear`; compiled once per level.
 *
 * Within NB_DEPTH of K an element's products are summed in f32, one fma a step, k ascending from 0;
 * that sum is then taken from C in f64. So the rounding is that of f32 operands and of f32 sums of
 * at most 256 terms (relative error some 2^-21 of the largest partial sum), however long K is.
 *
 * B goes in panels of NB_LANES columns, [k][16], converted from f64 kWide columns at a time (64 KiB
 * on the stack) or packed by the caller; a panel's depth is 16 KiB, half the first cache. All rows
 * of A pass over it, kRows at a time in registers:
 *
 *      a[0][k] | acc acc        AVX-512: 12 rows x 2 panels       AVX2: 6 rows x 1 panel (2 vectors)
 *      ...     | ...
 *
 * A is [M,K], or turned: [M / NB_TURNED][K][NB_TURNED], what X^T is when it comes from rows of X.
 * The tile of C is asked for before the sums begin: its rows are pages apart, which no prefetcher
 * follows. An element's operations do not depend on the level, on M, N or its place in a tile. */
#include "backend/cpu/dv.h"
#include "backend/cpu/level.h"

enum {
    kPanel = NB_LANES,
    kWide = 4 * kPanel,
    kTurned = NB_TURNED,
#if defined(__AVX512F__)
    kRows = 12,
    kPanels = 2
#elif defined(__AVX2__)
    kRows = 6,
    kPanels = 1
#else
    kRows = 4,
    kPanels = 1
#endif
};
_Static_assert(kTurned % kRows == 0 && kWide % (kPanels * kPanel) == 0,
               "tiles fill what holds them");

/* ---- panels of B ---- */

/* out[i][k][c] = B[k][16 i + c], zero beyond width <= kWide; panels are depth * 16 apart. Rows are
 * a page apart or more, which no prefetcher follows. */
static void pack_columns(const double *b, int64_t ldb, int64_t depth, int64_t width, float *out)
{
    enum { kAhead = 8 };
    for (int64_t k = 0; k < depth; k++, b += ldb, out += kPanel) {
        const double *ahead = b + (k + kAhead < depth ? kAhead * ldb : 0);
        for (int64_t c = 0; c < width; c += kPanel) {
            float *to = out + c * depth;
            const int64_t n = width - c < kPanel ? width - c : kPanel;
            __builtin_prefetch(ahead + c);
            __builtin_prefetch(ahead + c + kPanel / 2);
            if (n == kPanel)
                for (int i = 0; i < kPanel; i += NB_DV)
                    nb_dv_to_f32(to + i, nb_dv_load(b + c + i));
            else
                for (int64_t i = 0; i < kPanel; i++)
                    to[i] = i < n ? (float)b[c + i] : 0.0f;
        }
    }
}

/* Four rows of B^T's columns: out[k][0..4) = B[0..4)[k]. */
static inline void turn_four(const double *b, int64_t ldb, int64_t depth, float *out)
{
    int64_t k = 0;
#if defined(__AVX2__)
    for (; k + 4 <= depth; k += 4) {
        __m128 r0 = _mm256_cvtpd_ps(_mm256_loadu_pd(b + k)),
               r1 = _mm256_cvtpd_ps(_mm256_loadu_pd(b + ldb + k)),
               r2 = _mm256_cvtpd_ps(_mm256_loadu_pd(b + 2 * ldb + k)),
               r3 = _mm256_cvtpd_ps(_mm256_loadu_pd(b + 3 * ldb + k));
        _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
        _mm_storeu_ps(out + k * kPanel, r0);
        _mm_storeu_ps(out + (k + 1) * kPanel, r1);
        _mm_storeu_ps(out + (k + 2) * kPanel, r2);
        _mm_storeu_ps(out + (k + 3) * kPanel, r3);
    }
#endif
    for (; k < depth; k++)
        for (int c = 0; c < 4; c++)
            out[k * kPanel + c] = (float)b[c * ldb + k];
}

/* The same of B^T: B is [N,K]. */
static void pack_rows(const double *b, int64_t ldb, int64_t depth, int64_t width, float *out)
{
    for (int64_t c0 = 0; c0 < width; c0 += kPanel, out += kPanel * depth, b += kPanel * ldb) {
        const int64_t n = width - c0 < kPanel ? width - c0 : kPanel;
        if (n == kPanel)
            for (int c = 0; c < kPanel; c += 4)
                turn_four(b + c * ldb, ldb, depth, out + c);
        else
            for (int64_t k = 0; k < depth; k++)
                for (int64_t c = 0; c < kPanel; c++)
                    out[k * kPanel + c] = c < n ? (float)b[c * ldb + k] : 0.0f;
    }
}

/* ---- the register tile ---- */

/* A tile's row of C, `width` columns of it, minus the sums. */
static inline void take(double *c, const nb_v *s, const int P, int64_t width)
{
    _Alignas(64) float sum[kPanels * kPanel];
    for (int p = 0; p < P; p++)
        nb_v_store(sum + p * kPanel, s[p]);
    if (width == P * kPanel)
        for (int i = 0; i < P * kPanel; i += NB_DV)
            nb_dv_store(c + i, nb_dv_load(c + i) - nb_dv_from_f32(sum + i));
    else
        for (int64_t i = 0; i < width; i++)
            c[i] -= (double)sum[i];
}

/* R rows over P panels, `apart` from each other; element (r, k) of A is a[r lda + k step]. */
static inline __attribute__((always_inline)) void
rows_f32(const int R, const int P, const float *a, int64_t lda, int64_t step, const float *panel,
         int64_t apart, int64_t depth, double *c, int64_t ldc, int64_t width)
{
    nb_v s[kRows][kPanels];
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int p = 0; p < P; p++) {
            s[r][p] = nb_v_set1(0.0f);
            __builtin_prefetch(c + r * ldc + p * kPanel, 1);
            __builtin_prefetch(c + r * ldc + p * kPanel + kPanel / 2, 1);
        }
    for (int64_t k = 0; k < depth; k++, a += step, panel += kPanel) {
        nb_v v[kPanels];
#pragma GCC unroll 2
        for (int p = 0; p < P; p++)
            v[p] = nb_v_load(panel + p * apart);
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) {
            const nb_v x = nb_v_set1(a[r * lda]);
#pragma GCC unroll 2
            for (int p = 0; p < P; p++)
                s[r][p] = nb_v_fma(x, v[p], s[r][p]);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
        take(c + r * ldc, s[r], P, width);
}

static inline __attribute__((always_inline)) const float *
row_of(const bool turned, const nb_product_f32 *p, int64_t m, int64_t k0)
{
    return p->a + (turned ? (m / kTurned * p->K + k0) * kTurned + m % kTurned : m * p->lda + k0);
}

/* One depth of all rows over P panels. */
static inline __attribute__((always_inline)) void all_rows(const int P, const bool turned,
                                                           const nb_product_f32 *p, int64_t k0,
                                                           const float *panel, int64_t apart,
                                                           int64_t depth, double *c, int64_t width)
{
    const int64_t lda = turned ? 1 : p->lda, step = turned ? kTurned : 1;
    int64_t m = 0;
    for (; m + kRows <= p->M; m += kRows)
        rows_f32(kRows, P, row_of(turned, p, m, k0), lda, step, panel, apart, depth, c + m * p->ldc,
                 p->ldc, width);
    for (; m + kRows / 2 <= p->M; m += kRows / 2)
        rows_f32(kRows / 2, P, row_of(turned, p, m, k0), lda, step, panel, apart, depth,
                 c + m * p->ldc, p->ldc, width);
    for (; m < p->M; m++)
        rows_f32(1, P, row_of(turned, p, m, k0), lda, step, panel, apart, depth, c + m * p->ldc,
                 p->ldc, width);
}

static void one_depth(const nb_product_f32 *p, int64_t k0, int64_t depth, int64_t n0, int64_t wide,
                      const float *panel, int64_t apart)
{
    int64_t n = 0;
    for (; kPanels == 2 && n + kPanel < wide; n += 2 * kPanel) {
        const int64_t width = wide - n < 2 * kPanel ? wide - n : 2 * kPanel;
        if (p->turned)
            all_rows(kPanels, true, p, k0, panel + n / kPanel * apart, apart, depth, p->c + n0 + n,
                     width);
        else
            all_rows(kPanels, false, p, k0, panel + n / kPanel * apart, apart, depth, p->c + n0 + n,
                     width);
    }
    for (; n < wide; n += kPanel) {
        const int64_t width = wide - n < kPanel ? wide - n : kPanel;
        if (p->turned)
            all_rows(1, true, p, k0, panel + n / kPanel * apart, apart, depth, p->c + n0 + n,
                     width);
        else
            all_rows(1, false, p, k0, panel + n / kPanel * apart, apart, depth, p->c + n0 + n,
                     width);
    }
}

void NB_LEVEL_NAME(nb_cpu_product_f32)(const nb_product_f32 *p)
{
    _Alignas(64) float packed[NB_DEPTH * kWide];
    if (p->panels) {
        for (int64_t k0 = 0; k0 < p->K; k0 += NB_DEPTH)
            one_depth(p, k0, p->K - k0 < NB_DEPTH ? p->K - k0 : NB_DEPTH, 0, p->N,
                      p->panels + k0 * kPanel, p->K * kPanel);
        return;
    }
    for (int64_t n0 = 0; n0 < p->N; n0 += kWide)
        for (int64_t k0 = 0; k0 < p->K; k0 += NB_DEPTH) {
            const int64_t wide = p->N - n0 < kWide ? p->N - n0 : kWide,
                          depth = p->K - k0 < NB_DEPTH ? p->K - k0 : NB_DEPTH;
            if (p->b_by_rows)
                pack_rows(p->b + n0 * p->ldb + k0, p->ldb, depth, wide, packed);
            else
                pack_columns(p->b + k0 * p->ldb + n0, p->ldb, depth, wide, packed);
            one_depth(p, k0, depth, n0, wide, packed, depth * kPanel);
        }
}
