/* linear_f32.c -- y = x W^T in f32, over every layout of weight.h; compiled once per level.
 *
 *   y[m][n] = sum_k x[m][k] W[n][k]     one accumulator an output, k ascending, each step one fmaf;
 *                                       then + bias[n], then + y[m][n]
 *
 * so the bits are the same on every level, for any M and any number of threads.
 *
 * Two tiles (32 outputs) by kChunk of K at a time: the weights are decoded to f32 [kChunk][16] (F32
 * lies like that already), 32 KiB that stay in the first cache while all rows of x go over them,
 * kRows at a time in registers:
 *
 *                    w0[k] w1[k]
 *      x[0][k]        acc   acc                AVX-512: 12 rows x 2 vectors = 24 accumulators, 24
 *                                              fma for 14 loads
 *      ...                                     AVX2: 6 rows x 1 tile (2 vectors) = 12 of 16
 *                                              registers
 *      x[11][k]       acc   acc
 *
 * Between chunks the sums wait in the thread's slice of scratch, [M][32] f32.
 * Cost: 2 M N K flop; decoding N K once per call; scratch n_thread * M * 128 bytes. */
#include "backend/cpu/finish.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/lookup.h"

enum {
    kChunk = 256, /* of K; a multiple of NB_BLOCK */
    kPair = NB_PAIR,
    kWidth = NB_PAIR * NB_TILE,
    kFew = 2,      /* rows for which 16-bit weights skip the buffer */
    kAhead = 2048, /* bytes to prefetch ahead there */
#if defined(__AVX512F__)
    kRows = 12,
    kTiles = 2
#elif defined(__AVX2__)
    kRows = 6,
    kTiles = 1
#else
    kRows = 4,
    kTiles = 1
#endif
};

/* ---- a chunk of one tile as f32 [n][16] ---- */

static nb_v load_16(const uint8_t *p, bool wide)
{
    return wide ? nb_v_load((const float *)(const void *)p)
                : nb_v_from_f16((const uint16_t *)(const void *)p);
}

static void decode_block(const nb_weight *w, const uint8_t *block, float *dst)
{
    const uint8_t *scales = block + w->code_bytes, *off = scales + w->scale_bytes;
    const bool nibbles = w->codes == NB_CODES_U4;
    const int line = NB_TILE * (w->wide ? 4 : 2);
    for (int k0 = 0; k0 < NB_BLOCK; k0 += w->unit, scales += line) {
        const nb_v scale = load_16(scales, w->wide);
        nb_v zero = nb_v_set1((float)w->zero), min = nb_v_set1(0.0f);
        if (w->offset == NB_OFFSET_ZERO)
            zero = nb_v_from_u8(off + k0 / w->unit * NB_TILE);
        else if (w->offset == NB_OFFSET_MIN)
            min = load_16(off + k0 / w->unit * line, w->wide);
        for (int k = k0; k < k0 + w->unit; k++) {
            /* U4: vector k/8, byte k%4, the high nibble when k%8 >= 4.  U8: vector k/4, byte k%4.
             */
            const nb_v code =
                nibbles ? nb_v_from_field(block + k / 8 * 64, k % 4 * 8 + k % 8 / 4 * 4, 15)
                        : nb_v_from_field(block + k / 4 * 64, k % 4 * 8, 255);
            nb_v v = nb_v_mul(scale, nb_v_sub(code, zero));
            if (w->offset == NB_OFFSET_MIN) /* not fused: the formats round here */
                v = nb_v_add(v, min);
            nb_v_store(dst + k * NB_TILE, v);
        }
    }
}

/* 32 inputs from k of a tile of T4. */
static void decode_table(const nb_weight *w, const uint8_t *tile, int64_t k, float *dst)
{
    const uint8_t *block = tile + k / w->unit * w->block_bytes, *code = block + k % w->unit * 8;
    const nb_v table = nb_v_load(w->table), scale = load_16(block + w->code_bytes, w->wide);
    for (int i = 0; i < NB_BLOCK; i++)
        nb_v_store(dst + i * NB_TILE, nb_v_mul(scale, nb_v_looked_up(table, code + i / 8 * 64,
                                                                     i % 4 * 8 + i % 8 / 4 * 4)));
}

/* Inputs k0 .. k0 + n of a tile; buf holds kChunk * 16. k0 is a multiple of kChunk. */
static const float *chunk_of(const nb_weight *w, int64_t tile, int64_t k0, int64_t n, float *buf)
{
    const uint8_t *p = nb_weight_tile(w, tile);
    const uint16_t *h = (const uint16_t *)(const void *)p;
    switch (w->codes) {
    case NB_CODES_F32:
        return (const float *)(const void *)p + k0 * NB_TILE;
    case NB_CODES_F16:
        for (int64_t k = 0; k < n; k++)
            nb_v_store(buf + k * NB_TILE, nb_v_from_f16(h + (k0 + k) * NB_TILE));
        break;
    case NB_CODES_BF16: /* an odd K ends in a pair whose second half is 0: kChunk is even, it fits
                         */
        for (int64_t k = 0; k < n; k += 2) {
            nb_v even, odd;
            nb_v_from_bf16_pairs(h + (k0 + k) * NB_TILE, &even, &odd);
            nb_v_store(buf + k * NB_TILE, even);
            nb_v_store(buf + (k + 1) * NB_TILE, odd);
        }
        break;
    case NB_CODES_U4:
    case NB_CODES_U8:
        for (int64_t k = 0; k < n; k += NB_BLOCK)
            decode_block(w, p + (k0 + k) / NB_BLOCK * w->block_bytes, buf + k * NB_TILE);
        break;
    case NB_CODES_T4:
        for (int64_t k = 0; k < n; k += NB_BLOCK)
            decode_table(w, p, k0 + k, buf + k * NB_TILE);
        break;
    }
    return buf;
}

/* ---- the register tile ---- */

/* sum[r][c] (+)= over n of x[r][k] w[c][k]; R and C are constants where this is inlined. */
static inline __attribute__((always_inline)) void tile_rows(const int R, const int C,
                                                            const float *x, int64_t ldx,
                                                            const float *const *w, int64_t n,
                                                            bool first, float *sum)
{
    nb_v s[kRows][kTiles];
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int c = 0; c < C; c++)
            s[r][c] = first ? nb_v_set1(0.0f) : nb_v_load(sum + r * kWidth + c * NB_TILE);
    for (int64_t k = 0; k < n; k++) {
        nb_v v[kTiles];
#pragma GCC unroll 2
        for (int c = 0; c < C; c++)
            v[c] = nb_v_load(w[c] + k * NB_TILE);
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) {
            const nb_v xk = nb_v_set1(x[r * ldx + k]);
#pragma GCC unroll 2
            for (int c = 0; c < C; c++)
                s[r][c] = nb_v_fma(xk, v[c], s[r][c]);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int c = 0; c < C; c++)
            nb_v_store(sum + r * kWidth + c * NB_TILE, s[r][c]);
}

/* All M rows over one chunk of C tiles. */
static inline __attribute__((always_inline)) void all_rows(const int C, const nb_linear_args *a,
                                                           int64_t k0, int64_t n,
                                                           const float *const *w, float *sum)
{
    const float *x = a->x + k0;
    const bool first = k0 == 0;
    int64_t m = 0;
    for (; m + kRows <= a->M; m += kRows)
        tile_rows(kRows, C, x + m * a->ldx, a->ldx, w, n, first, sum + m * kWidth);
#if defined(__AVX2__)
    for (; m + kRows / 2 <= a->M; m += kRows / 2)
        tile_rows(kRows / 2, C, x + m * a->ldx, a->ldx, w, n, first, sum + m * kWidth);
    for (; m + 2 <= a->M; m += 2)
        tile_rows(2, C, x + m * a->ldx, a->ldx, w, n, first, sum + m * kWidth);
#endif
    for (; m < a->M; m++)
        tile_rows(1, C, x + m * a->ldx, a->ldx, w, n, first, sum + m * kWidth);
}

/* ---- few rows over 16-bit floats: read once, converted in registers, no buffer between ---- */

/* sum[r][c] of R rows over all of K; bf16 a constant where this is inlined. The same fmaf in the
 * same order as tile_rows. */
static inline __attribute__((always_inline)) void few_rows(const int R, const int C,
                                                           const bool bf16, const nb_linear_args *a,
                                                           int64_t tile, float *sum)
{
    const nb_weight *w = a->w;
    const uint16_t *p[kPair];
    const float *x = a->x;
    const int64_t even = w->K / 2 * 2;
    nb_v s[kFew * kPair];
    for (int c = 0; c < C; c++)
        p[c] = (const uint16_t *)(const void *)nb_weight_tile(w, tile + c);
#pragma GCC unroll 8
    for (int i = 0; i < R * C; i++)
        s[i] = nb_v_set1(0.0f);
    for (int64_t k = 0; k < even; k += 2)
#pragma GCC unroll 2
        for (int c = 0; c < C; c++) {
            const uint16_t *at = p[c] + k * NB_TILE;
            nb_v v[2];
            __builtin_prefetch((const char *)at + kAhead);
            if (bf16) {
                nb_v_from_bf16_pairs(at, &v[0], &v[1]);
            } else {
                v[0] = nb_v_from_f16(at);
                v[1] = nb_v_from_f16(at + NB_TILE);
            }
#pragma GCC unroll 4
            for (int r = 0; r < R; r++) {
                const float *xr = x + r * a->ldx + k;
                s[r * C + c] = nb_v_fma(nb_v_set1(xr[0]), v[0], s[r * C + c]);
                s[r * C + c] = nb_v_fma(nb_v_set1(xr[1]), v[1], s[r * C + c]);
            }
        }
    for (int c = 0; c < C && even < w->K; c++) { /* the last of an odd K */
        nb_v v[2];
        if (bf16)
            nb_v_from_bf16_pairs(p[c] + even * NB_TILE, &v[0], &v[1]);
        else
            v[0] = nb_v_from_f16(p[c] + even * NB_TILE);
        for (int r = 0; r < R; r++)
            s[r * C + c] = nb_v_fma(nb_v_set1(x[r * a->ldx + even]), v[0], s[r * C + c]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < R * C; i++)
        nb_v_store(sum + i / C * kWidth + i % C * NB_TILE, s[i]);
}

static inline __attribute__((always_inline)) void few(const bool bf16, const nb_linear_args *a,
                                                      int64_t tile, int n_tile, float *sum)
{
    if (a->M == 2 && n_tile == 2)
        few_rows(2, 2, bf16, a, tile, sum);
    else if (a->M == 2)
        few_rows(2, 1, bf16, a, tile, sum);
    else if (n_tile == 2)
        few_rows(1, 2, bf16, a, tile, sum);
    else
        few_rows(1, 1, bf16, a, tile, sum);
}

/* ---- tiles ---- */

static void pair_of_tiles(const nb_linear_args *a, int64_t tile, float *sum)
{
    const nb_weight *w = a->w;
    _Alignas(64) float buf[kPair][kChunk * NB_TILE];
    const int n_tile = tile + 1 < w->n_tile ? 2 : 1;
    if (a->M <= kFew && (w->codes == NB_CODES_F16 || w->codes == NB_CODES_BF16)) {
        if (w->codes == NB_CODES_BF16)
            few(true, a, tile, n_tile, sum);
        else
            few(false, a, tile, n_tile, sum);
        nb_finish(a, tile, sum);
        return;
    }
    for (int64_t k0 = 0; k0 < w->K; k0 += kChunk) {
        const int64_t n = w->K - k0 < kChunk ? w->K - k0 : kChunk;
        const float *p[kPair];
        for (int c = 0; c < n_tile; c++)
            p[c] = chunk_of(w, tile + c, k0, n, buf[c]);
        if (kTiles == 2 && n_tile == 2) {
            all_rows(kTiles, a, k0, n, p, sum);
        } else {
            for (int c = 0; c < n_tile; c++)
                all_rows(1, a, k0, n, p + c, sum + c * NB_TILE);
        }
    }
    nb_finish(a, tile, sum);
}

static void multiply_pair(const void *arg, int64_t p, int worker)
{
    const nb_linear_args *a = arg;
    pair_of_tiles(a, p * kPair, (float *)a->scratch + worker * a->M * kWidth);
}

void NB_LEVEL_NAME(nb_cpu_linear_f32)(const nb_cpu *cpu, const nb_linear_args *a)
{
    nb_pool_run(cpu->pool, (a->w->n_tile + kPair - 1) / kPair, multiply_pair, a);
}
