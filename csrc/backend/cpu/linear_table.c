/* linear_table.c -- y = x W^T in f32 for few rows, over T4 (codes of a table of floats: weight.h);
 * compiled once per level.
 *
 *   y[m][n] = sum_k x[m][k] (scale[n][k / unit] * table[code[n][k]])
 *
 * one accumulator an output, k ascending, the value rounded as its format says and each step one
 * fmaf; then + bias[n], then + y[m][n]: the order of linear_f32.c, so the bits are those of its
 * rows, on every level, for any M and any number of threads.
 *
 * 64 bytes of codes are eight inputs of 16 outputs. Codes become values in registers and are used
 * by R rows of x before they are gone:
 *
 *      u32 of 8 codes  -- shift, vpermps -->  table[code]  -- * scale -->  fmaf with R of x
 *
 * One token (R = 1) takes a shift, a permutation, a product and an fma for 16 weights. They are 8
 * bytes and, in groups of 64, a 64th of 64 bytes of scales: 9 bytes, where f32 has 64. Beside
 * memory the chain of fmas bounds a core: 4 cycles a step, with two tiles 8 weights a cycle.
 *
 * Rows of x go kFew at a time, and each time codes are looked up again: on AVX2 8 rows take 0.80
 * of the time of linear_f32.c, which unpacks 256 inputs of two tiles into the first cache for all
 * rows, 16 rows 1.07. So from 9 rows on that one runs (linear.c).
 * Cost: 2 M N K flop; N K lookups for every kFew rows; scratch that of linear_f32.c. */
#include "backend/cpu/finish.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/lookup.h"

#define NB_INLINE static inline __attribute__((always_inline))

enum {
    kFew = 4, /* rows at once */
    kPair = NB_PAIR,
    kWidth = NB_PAIR * NB_TILE,
    kAhead = 2048 /* bytes to prefetch ahead */
};

/* Eight inputs of C tiles: s[r][c] += x[r][k] w[c][k], k = 0 .. 7. */
NB_INLINE void eight(const int R, const int C, const uint8_t *const *p, nb_v table,
                     const nb_v *scale, const float *const *x, int64_t k0, nb_v *s)
{
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++)
#pragma GCC unroll 2
        for (int c = 0; c < C; c++) {
            const nb_v w = nb_v_mul(scale[c], nb_v_looked_up(table, p[c], k % 4 * 8 + k / 4 * 4));
#pragma GCC unroll 4
            for (int r = 0; r < R; r++)
                s[r * C + c] = nb_v_fma(nb_v_set1(x[r][k0 + k]), w, s[r * C + c]);
        }
}

/* sum[r][c] of R rows at x over all of K; R and C are constants where this is inlined. */
NB_INLINE void few_rows(const int R, const int C, const nb_linear_args *a, const float *x,
                        int64_t tile, float *sum)
{
    const nb_weight *w = a->w;
    const nb_v table = nb_v_load(w->table);
    const uint8_t *p[kPair];
    const float *row[kFew];
    nb_v s[kFew * kPair];
#pragma GCC unroll 4
    for (int r = 0; r < R; r++)
        row[r] = x + r * a->ldx;
#pragma GCC unroll 2
    for (int c = 0; c < C; c++)
        p[c] = nb_weight_tile(w, tile + c);
#pragma GCC unroll 8
    for (int i = 0; i < R * C; i++)
        s[i] = nb_v_set1(0.0f);
    for (int64_t k0 = 0; k0 < w->K; k0 += w->unit) {
        nb_v scale[kPair];
#pragma GCC unroll 2
        for (int c = 0; c < C; c++)
            scale[c] = nb_v_load((const float *)(const void *)(p[c] + w->code_bytes));
        for (int k = 0; k < w->unit; k += 8) {
            eight(R, C, p, table, scale, row, k0 + k, s);
#pragma GCC unroll 2
            for (int c = 0; c < C; c++) {
                __builtin_prefetch(p[c] + kAhead);
                p[c] += 64;
            }
        }
#pragma GCC unroll 2
        for (int c = 0; c < C; c++)
            p[c] += w->scale_bytes;
    }
#pragma GCC unroll 8
    for (int i = 0; i < R * C; i++)
        nb_v_store(sum + i / C * kWidth + i % C * NB_TILE, s[i]);
}

NB_INLINE void all_rows(const int C, const nb_linear_args *a, int64_t tile, float *sum)
{
    int64_t m = 0;
    for (; m + kFew <= a->M; m += kFew)
        few_rows(kFew, C, a, a->x + m * a->ldx, tile, sum + m * kWidth);
    for (; m + 2 <= a->M; m += 2)
        few_rows(2, C, a, a->x + m * a->ldx, tile, sum + m * kWidth);
    for (; m < a->M; m++)
        few_rows(1, C, a, a->x + m * a->ldx, tile, sum + m * kWidth);
}

static void multiply_pair(const void *arg, int64_t i, int worker)
{
    const nb_linear_args *a = arg;
    const int64_t tile = i * kPair;
    float *sum = (float *)a->scratch + worker * a->M * kWidth;
    if (tile + 1 < a->w->n_tile)
        all_rows(kPair, a, tile, sum);
    else
        all_rows(1, a, tile, sum);
    nb_finish(a, tile, sum);
}

void NB_LEVEL_NAME(nb_cpu_linear_table)(const nb_cpu *cpu, const nb_linear_args *a)
{
    nb_pool_run(cpu->pool, (a->w->n_tile + kPair - 1) / kPair, multiply_pair, a);
}
