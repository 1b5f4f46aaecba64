/* gram_amx.c -- H += X^T X and C += (X_orig - X)^T X on AMX tiles (split_amx.h).
 *
 * Tokens are what is summed over. X is laid out as B, its tiles turned as A; the difference of the
 * streams (rounded to f32, as gram.c does it) as another A. A block of 32 x 32 of the result is
 * summed over all tokens, in f32 within NB_DEPTH of them and beyond in f64, before it is added to
 * memory: at K = 5632 the matrices are read and written from beyond the caches, 16 KiB a block.
 * Scratch 12 M K bytes, half as much again with C. */
#include "backend/cpu/dv.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/split_amx.h"

enum {
    kBlock = 4 * NB_SPLIT_WIDTH,
    kDepth = NB_DEPTH / NB_AMX_K,
    kParts = 3,
    kStep = kParts * NB_SPLIT_TILE
};

struct gram_job {
    const nb_gram_args *a;
    uint16_t *b, *turned, *diff; /* X; X^T; (X_orig - X)^T */
    int64_t steps, panel;        /* bf16 in a panel */
};

size_t nb_cpu_gram_amx_scratch(const nb_gram_args *a)
{
    return (size_t)nb_split_size(kParts, a->K, a->M) * sizeof(uint16_t) * (a->x_orig ? 3 : 2);
}

/* Token m of 16 columns from k0 on, less those of `less`. */
static inline __m512 load_row(const nb_gram_args *a, const float *x, int64_t ldx, const float *less,
                              int64_t ld_less, int64_t m, int64_t k0, __mmask16 in)
{
    if (m >= a->M)
        return _mm512_setzero_ps();
    const __m512 v = _mm512_maskz_loadu_ps(in, x + m * ldx + k0);
    return less ? _mm512_sub_ps(v, _mm512_maskz_loadu_ps(in, less + m * ld_less + k0)) : v;
}

/* The three tiles of 32 tokens from m on of 16 columns, as B. */
static void step_of(const nb_gram_args *a, const float *x, int64_t ldx, const float *less,
                    int64_t ld_less, int64_t m, int64_t k0, uint16_t *to)
{
    const int64_t left = a->K - k0;
    const __mmask16 in =
        (__mmask16)(left >= NB_AMX_ROWS ? 0xffffu : (1u << (left > 0 ? left : 0)) - 1u);
    for (int p = 0; p < NB_AMX_ROWS; p++) {
        __m512i part[kParts];
        nb_split_32(kParts, load_row(a, x, ldx, less, ld_less, m + 2 * p, k0, in),
                    load_row(a, x, ldx, less, ld_less, m + 2 * p + 1, k0, in), part);
        for (int i = 0; i < kParts; i++)
            _mm512_storeu_si512(to + i * NB_SPLIT_TILE + p * NB_AMX_K, nb_split_pairs(part[i]));
    }
}

static void turn_step(const uint16_t *from, uint16_t *to)
{
    for (int i = 0; i < kParts; i++)
        nb_split_turn(from + i * NB_SPLIT_TILE, to + i * NB_SPLIT_TILE);
}

static void panel_task(const void *arg, int64_t p, int worker)
{
    const struct gram_job *j = arg;
    const nb_gram_args *a = j->a;
    (void)worker;
    for (int64_t s = 0; s < j->steps; s++) {
        const int64_t at = p * j->panel + s * kStep, m = s * NB_AMX_K, k0 = p * NB_AMX_ROWS;
        step_of(a, a->x, a->ldx, NULL, 0, m, k0, j->b + at);
        turn_step(j->b + at, j->turned + at);
        if (a->x_orig) {
            step_of(a, a->x_orig, a->ld_orig, a->x, a->ldx, m, k0, j->diff + at);
            turn_step(j->diff + at, j->diff + at);
        }
    }
}

/* ---- blocks of the result ---- */

enum { kWidth = NB_SPLIT_WIDTH };

/* Rows of a block lie pages apart, which no prefetcher follows: asked for while the tiles work. */
static void ask_for(const double *block, int64_t ld, int64_t rows, int64_t cols)
{
    enum { kLine = 8 };
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c += kLine)
            __builtin_prefetch(block + r * ld + c, 1, 2);
}

/* to [32][32] f64 = or += sums [2][2][16][16]. */
static void keep(const float *sums, bool first, double *to)
{
    for (int t = 0; t < 4; t++) /* t / 2 down, t % 2 to the right */
        for (int r = 0; r < NB_AMX_ROWS; r++) {
            double *row = to + (t / 2 * NB_AMX_ROWS + r) * kWidth + t % 2 * NB_AMX_ROWS;
            for (int c = 0; c < NB_AMX_ROWS; c += NB_DV, sums += NB_DV) {
                const nb_dv v = nb_dv_from_f32(sums);
                nb_dv_store(row + c, first ? v : nb_dv_load(row + c) + v);
            }
        }
}

/* The block of 32 x 32 at (i, k). */
static void add_block(const struct gram_job *j, const uint16_t *turned, int64_t i, int64_t k,
                      double *out)
{
    alignas(64) float sums[NB_SPLIT_SUMS];
    alignas(64) double all[NB_SPLIT_SUMS];
    const int64_t K = j->a->K, rows = K - i < kWidth ? K - i : kWidth,
                  cols = K - k < kWidth ? K - k : kWidth;
    double *to = out + i * K + k;
    ask_for(to, K, rows, cols);
    for (int64_t s = 0; s < j->steps; s += kDepth) {
        const int64_t at = s * kStep;
        nb_split_sums(kParts, turned + i / NB_AMX_ROWS * j->panel + at, j->panel,
                      j->b + k / NB_AMX_ROWS * j->panel + at, j->panel,
                      j->steps - s < kDepth ? j->steps - s : kDepth, sums);
        keep(sums, s == 0, all);
    }
    for (int64_t r = 0; r < rows; r++) {
        const double *row = all + r * kWidth;
        for (int64_t c = 0; c < cols && cols == kWidth; c += NB_DV)
            nb_dv_store(to + r * K + c, nb_dv_load(to + r * K + c) + nb_dv_load(row + c));
        for (int64_t c = 0; c < cols && cols < kWidth; c++)
            to[r * K + c] += row[c];
    }
}

/* Block t of kBlock x kBlock: of H what is on or above its diagonal. */
static void block_task(const void *arg, int64_t t, int worker)
{
    const struct gram_job *j = arg;
    const int64_t K = j->a->K, n = (K + kBlock - 1) / kBlock, i0 = t % n * kBlock,
                  k0 = t / n * kBlock;
    (void)worker;
    if (k0 < i0 && !j->a->x_orig)
        return;
    nb_amx_open();
    for (int64_t i = i0; i < i0 + kBlock && i < K; i += NB_SPLIT_WIDTH)
        for (int64_t k = k0; k < k0 + kBlock && k < K; k += NB_SPLIT_WIDTH) {
            if (k >= i)
                add_block(j, j->turned, i, k, j->a->h);
            if (j->a->x_orig)
                add_block(j, j->diff, i, k, j->a->c);
        }
    nb_amx_close();
}

void nb_cpu_gram_amx(const nb_cpu *cpu, const nb_gram_args *a)
{
    const int64_t one = nb_split_size(kParts, a->K, a->M), n_block = (a->K + kBlock - 1) / kBlock,
                  steps = nb_split_steps(a->M), panel = steps * kStep;
    uint16_t *b = a->scratch;
    const struct gram_job j = {a, b, b + one, b + 2 * one, steps, panel};
    nb_pool_run(cpu->pool, one / panel, panel_task, &j);
    nb_pool_run(cpu->pool, n_block * n_block, block_task, &j);
}
