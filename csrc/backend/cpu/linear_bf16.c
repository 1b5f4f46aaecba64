/* linear_bf16.c -- y = x W^T over BF16 tiles with activations rounded to bf16 (vdpbf16ps): twice
 * the rate of f32. Needs AVX512-BF16.
 *
 *   y[m][n] = sum over pairs of k of  x[m][k] W[n][k] + x[m][k+1] W[n][k+1]
 *
 * one f32 accumulator an output, pairs in ascending order, as the instruction rounds: each of its
 * two additions to nearest even, subnormals as 0. Then + bias, + y. Bits do not depend on M
 * (from 3 on, where this row starts: below, memory is the limit and f32_avx512 loses nothing) or on
 * the number of threads.
 *
 * Two tiles by kChunk of K: 64 KiB of weights in the second cache, 12 rows x 2 tiles = 24
 * accumulators. scratch: x as bf16 pairs [M][ceil(K/2)] u32 | sums per thread [M][32] f32. */
#include "backend/cpu/finish.h"
#include "backend/cpu/kernels.h"

enum { kChunk = 512 /* pairs */, kRows = 12, kWidth = NB_PAIR * NB_TILE };

static void to_bf16(const float *x, int64_t K, uint32_t *dst)
{
    int64_t k = 0;
    for (; k + 2 * NB_LANES <= K; k += 2 * NB_LANES)
        _mm512_storeu_si512(dst + k / 2,
                            (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + k + NB_LANES),
                                                         _mm512_loadu_ps(x + k)));
    for (; k < K; k += 2) {
        const uint32_t second = k + 1 < K ? nb_bf16_from_f32(x[k + 1]) : 0;
        dst[k / 2] = nb_bf16_from_f32(x[k]) | second << 16;
    }
}

/* sum[r][c] (+)= over n pairs; R and C are constants where this is inlined. */
static inline __attribute__((always_inline)) void tile_rows(const int R, const int C,
                                                            const uint32_t *x, int64_t ldx,
                                                            const uint8_t *const *w, int64_t n,
                                                            bool first, float *sum)
{
    __m512 s[kRows * NB_PAIR];
#pragma GCC unroll 32
    for (int i = 0; i < R * C; i++)
        s[i] =
            first ? _mm512_setzero_ps() : _mm512_loadu_ps(sum + i / C * kWidth + i % C * NB_TILE);
    for (int64_t k = 0; k < n; k++) {
        __m512bh v[NB_PAIR];
#pragma GCC unroll 2
        for (int c = 0; c < C; c++)
            v[c] = (__m512bh)_mm512_loadu_si512(w[c] + k * 64);
#pragma GCC unroll 32
        for (int i = 0; i < R * C; i++)
            s[i] = _mm512_dpbf16_ps(s[i], (__m512bh)_mm512_set1_epi32((int)x[i / C * ldx + k]),
                                    v[i % C]);
    }
#pragma GCC unroll 32
    for (int i = 0; i < R * C; i++)
        _mm512_storeu_ps(sum + i / C * kWidth + i % C * NB_TILE, s[i]);
}

static inline __attribute__((always_inline)) void all_rows(const int C, int64_t M,
                                                           const uint32_t *x, int64_t ldx,
                                                           const uint8_t *const *w, int64_t n,
                                                           bool first, float *sum)
{
    int64_t m = 0;
    for (; m + kRows <= M; m += kRows)
        tile_rows(kRows, C, x + m * ldx, ldx, w, n, first, sum + m * kWidth);
    for (; m + 4 <= M; m += 4)
        tile_rows(4, C, x + m * ldx, ldx, w, n, first, sum + m * kWidth);
    for (; m < M; m++)
        tile_rows(1, C, x + m * ldx, ldx, w, n, first, sum + m * kWidth);
}

static void pair_of_tiles(const nb_linear_args *a, const uint32_t *x, int64_t tile, float *sum)
{
    const nb_weight *w = a->w;
    const int64_t pairs = (w->K + 1) / 2;
    for (int64_t k0 = 0; k0 < pairs; k0 += kChunk) {
        const int64_t n = pairs - k0 < kChunk ? pairs - k0 : kChunk;
        const bool both = tile + 1 < w->n_tile;
        const uint8_t *p[NB_PAIR] = {nb_weight_tile(w, tile) + k0 * 64,
                                     nb_weight_tile(w, both ? tile + 1 : tile) + k0 * 64};
        if (both)
            all_rows(2, a->M, x + k0, pairs, p, n, k0 == 0, sum);
        else
            all_rows(1, a->M, x + k0, pairs, p, n, k0 == 0, sum);
    }
    nb_finish(a, tile, sum);
}

typedef struct bf16_job {
    const nb_linear_args *a;
    uint32_t *x; /* [M][pairs] */
    float *sum;  /* [worker][M][kWidth] */
    int64_t pairs;
} bf16_job;

static void convert_row(const void *arg, int64_t m, int worker)
{
    const bf16_job *j = arg;
    (void)worker;
    to_bf16(j->a->x + m * j->a->ldx, j->a->w->K, j->x + m * j->pairs);
}

static void multiply_pair(const void *arg, int64_t p, int worker)
{
    const bf16_job *j = arg;
    pair_of_tiles(j->a, j->x, p * NB_PAIR, j->sum + worker * j->a->M * kWidth);
}

void nb_cpu_linear_bf16_avx512(const nb_cpu *cpu, const nb_linear_args *a)
{
    const int64_t pairs = (a->w->K + 1) / 2, n_pair = (a->w->n_tile + NB_PAIR - 1) / NB_PAIR;
    uint32_t *x = a->scratch;
    const bf16_job j = {a, x, (float *)(void *)(x + a->M * pairs), pairs};
    nb_pool_run(cpu->pool, a->M, convert_row, &j);
    nb_pool_run(cpu->pool, n_pair, multiply_pair, &j);
}
