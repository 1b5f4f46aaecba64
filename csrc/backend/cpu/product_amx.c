/* product_amx.c -- C -= A B with f32 operands and f64 sums on AMX tiles (split_amx.h; left.h says
 * what for): operands of two parts.
 *
 * A is kept as tiles. B, f64, is made into tiles kWide columns and NB_DEPTH of K at a time (64 KiB
 * on the stack), all rows of A pass over them, 32 at a time, and each sum of a depth is taken from
 * C in f64. An element's operations do not depend on M, N or its place. */
#include "backend/cpu/dv.h"
#include "backend/cpu/left.h"
#include "backend/cpu/split_amx.h"

enum {
    kParts = 2,
    kStep = kParts * NB_SPLIT_TILE,
    kWide = 64,
    kSteps = NB_DEPTH / NB_AMX_K,
    kPanel = kSteps * kStep, /* of B */
};
_Static_assert(kWide % NB_SPLIT_WIDTH == 0 && (int)NB_LEFT_STEP == (int)NB_AMX_K, "whole tiles");

size_t nb_cpu_tiles_bytes(int64_t rows, int64_t K)
{
    return (size_t)nb_split_size(kParts, rows, K) * sizeof(uint16_t);
}

static inline __mmask16 first(int64_t n)
{
    return (__mmask16)(n >= 16 ? 0xffffu : n > 0 ? (1u << n) - 1u : 0u);
}

static inline __m512 load_f64(const double *x, int64_t n) /* the first n of 16, zeros behind */
{
    const __mmask16 in = first(n);
    const __m256 low = _mm512_cvtpd_ps(_mm512_maskz_loadu_pd((__mmask8)in, x)),
                 high = _mm512_cvtpd_ps(
                     _mm512_maskz_loadu_pd((__mmask8)(in >> 8), in >> 8 ? x + 8 : x));
    return _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
}

/* ---- A ---- */

void nb_cpu_tiles_put(const nb_left *a, int64_t k, int64_t n, int64_t M, const float *x,
                      int64_t ldx)
{
    const int64_t panel = nb_split_steps(a->K) * kStep,
                  whole = (M + NB_SPLIT_WIDTH - 1) / NB_SPLIT_WIDTH * NB_SPLIT_WIDTH;
    for (int64_t m = 0; m < whole; m++) {
        const float *row = m < M ? x + m * ldx : x;
        uint16_t *to =
            a->tiles + m / NB_AMX_ROWS * panel + k / NB_AMX_K * kStep + m % NB_AMX_ROWS * NB_AMX_K;
        for (int64_t i = 0; i < n; i += NB_AMX_K, to += kStep) {
            const int64_t left = m < M ? n - i : 0;
            __m512i part[kParts];
            nb_split_32(kParts, _mm512_maskz_loadu_ps(first(left), row + i),
                        _mm512_maskz_loadu_ps(first(left - 16), left > 16 ? row + i + 16 : row),
                        part);
            for (int p = 0; p < kParts; p++)
                _mm512_storeu_si512(to + p * NB_SPLIT_TILE, part[p]);
        }
    }
}

/* ---- B ---- */

/* Tiles of 32 of k and 16 columns from B [K,N]; `depth` and `width` are there. */
static void tiles_of_columns(const double *b, int64_t ldb, int64_t depth, int64_t width,
                             uint16_t *to)
{
    for (int r = 0; r < NB_AMX_ROWS; r++) {
        __m512i part[kParts];
        nb_split_32(
            kParts, load_f64(2 * r < depth ? b + 2 * r * ldb : b, 2 * r < depth ? width : 0),
            load_f64(2 * r + 1 < depth ? b + (2 * r + 1) * ldb : b, 2 * r + 1 < depth ? width : 0),
            part);
        for (int p = 0; p < kParts; p++)
            _mm512_storeu_si512(to + p * NB_SPLIT_TILE + r * NB_AMX_K, nb_split_pairs(part[p]));
    }
}

/* The same from B^T [N,K]. */
static void tiles_of_rows(const double *b, int64_t ldb, int64_t depth, int64_t width, uint16_t *to)
{
    for (int r = 0; r < NB_AMX_ROWS; r++) {
        const int64_t n = r < width ? depth : 0;
        const double *row = r < width ? b + r * ldb : b;
        __m512i part[kParts];
        nb_split_32(kParts, load_f64(row, n), load_f64(n > 16 ? row + 16 : row, n - 16), part);
        for (int p = 0; p < kParts; p++)
            _mm512_storeu_si512(to + p * NB_SPLIT_TILE + r * NB_AMX_K, part[p]);
    }
    for (int p = 0; p < kParts; p++)
        nb_split_turn(to + p * NB_SPLIT_TILE, to + p * NB_SPLIT_TILE);
}

/* B's columns [n, n + wide) and [k, k + depth) of K: panels of kSteps steps, in pairs. */
static void make_tiles(const nb_left_product *p, int64_t n, int64_t wide, int64_t k, int64_t depth,
                       uint16_t *to)
{
    const int64_t whole = (wide + NB_SPLIT_WIDTH - 1) / NB_SPLIT_WIDTH * NB_SPLIT_WIDTH;
    for (int64_t c = 0; c < whole; c += NB_AMX_ROWS, to += kPanel)
        for (int64_t s = 0; s < depth; s += NB_AMX_K) {
            const int64_t width = c < wide ? wide - c : 0, left = depth - s,
                          col = width ? n + c : n;
            uint16_t *tile = to + s / NB_AMX_K * kStep;
            if (p->b_by_rows)
                tiles_of_rows(p->b + col * p->ldb + k + s, p->ldb, left,
                              width < NB_AMX_ROWS ? width : NB_AMX_ROWS, tile);
            else
                tiles_of_columns(p->b + (k + s) * p->ldb + col, p->ldb, left, width, tile);
        }
}

/* ---- C ---- */

/* C [rows,cols], at most 32 x 32, -= sums [2][2][16][16]. */
static void take(double *c, int64_t ldc, int64_t rows, int64_t cols, const float *sums)
{
    for (int64_t r = 0; r < rows; r++, c += ldc) {
        const float *row =
            sums + r / NB_AMX_ROWS * 2 * NB_AMX_ROWS * NB_AMX_ROWS + r % NB_AMX_ROWS * NB_AMX_ROWS;
        for (int64_t i = 0; i < cols; i += NB_DV) {
            const float *s = row + i / NB_AMX_ROWS * NB_AMX_ROWS * NB_AMX_ROWS + i % NB_AMX_ROWS;
            const __mmask8 in = (__mmask8)first(cols - i);
            _mm512_mask_storeu_pd(
                c + i, in,
                _mm512_sub_pd(_mm512_maskz_loadu_pd(in, c + i), (__m512d)nb_dv_from_f32(s)));
        }
    }
}

void nb_cpu_tiles_take(const nb_left *a, const nb_left_product *p)
{
    alignas(64) uint16_t b[kWide / NB_AMX_ROWS * kPanel];
    alignas(64) float sums[NB_SPLIT_SUMS];
    const int64_t panel = nb_split_steps(a->K) * kStep;
    if (p->K <= 0)
        return;
    nb_amx_open();
    for (int64_t n = 0; n < p->N; n += kWide)
        for (int64_t k = 0; k < p->K; k += NB_DEPTH) {
            const int64_t wide = p->N - n < kWide ? p->N - n : kWide,
                          depth = p->K - k < NB_DEPTH ? p->K - k : NB_DEPTH;
            make_tiles(p, n, wide, k, depth, b);
            for (int64_t m = 0; m < p->M; m += NB_SPLIT_WIDTH)
                for (int64_t c = 0; c < wide; c += NB_SPLIT_WIDTH) {
                    nb_split_sums(
                        kParts,
                        a->tiles + m / NB_AMX_ROWS * panel + (p->from + k) / NB_AMX_K * kStep,
                        panel, b + c / NB_AMX_ROWS * kPanel, kPanel, nb_split_steps(depth), sums);
                    take(p->c + m * p->ldc + n + c, p->ldc,
                         p->M - m < NB_SPLIT_WIDTH ? p->M - m : NB_SPLIT_WIDTH,
                         wide - c < NB_SPLIT_WIDTH ? wide - c : NB_SPLIT_WIDTH, sums);
                }
        }
    nb_amx_close();
}
