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
 *                    w0[k] w1[k]              AVX-512: 12 rows x 2 vectors = 24 accumulators,
 *      x[0][k]        acc   acc                24 fma for 14 loads
 *      ...                                    AVX2: 6 rows x 1 tile (2 vectors) = 12 of 16 registers
 *      x[11][k]       acc   acc
 *
 * Between chunks the sums wait in the thread's slice of scratch, [M][32] f32.
 * Cost: 2 M N K flop; decoding N K once per call; scratch n_thread * M * 128 bytes. */
#include "backend/cpu/kernels.h"
#include "backend/cpu/vec.h"
#include "backend/cpu/weight.h"

enum {
    kChunk = 256, /* of K; a multiple of NB_BLOCK */
    kPair = 2,    /* tiles */
    kWidth = kPair * NB_TILE,
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

static void decode_block(const nb_weight *w, const uint8_t *block, float *dst)
{
    const uint8_t *scales = block + w->code_bytes, *off = scales + w->scale_bytes;
    const nb_v scale = w->wide ? nb_v_load((const float *)(const void *)scales)
                               : nb_v_from_f16((const uint16_t *)(const void *)scales);
    nb_v zero = nb_v_set1((float)w->zero), min = nb_v_set1(0.0f);
    if (w->offset == NB_OFFSET_ZERO)
        zero = nb_v_from_u8(off);
    else if (w->offset == NB_OFFSET_MIN)
        min = w->wide ? nb_v_load((const float *)(const void *)off)
                      : nb_v_from_f16((const uint16_t *)(const void *)off);
    const bool nibbles = w->codes == NB_CODES_U4;
    for (int k = 0; k < NB_BLOCK; k++) {
        /* U4: vector k/8, byte k%4, the high nibble when k%8 >= 4.  U8: vector k/4, byte k%4. */
        const nb_v code = nibbles ? nb_v_from_field(block + k / 8 * 64, k % 4 * 8 + k % 8 / 4 * 4, 15)
                                  : nb_v_from_field(block + k / 4 * 64, k % 4 * 8, 255);
        nb_v v = nb_v_mul(scale, nb_v_sub(code, zero));
        if (w->offset == NB_OFFSET_MIN) /* not fused: the formats round here */
            v = nb_v_add(v, min);
        nb_v_store(dst + k * NB_TILE, v);
    }
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
    case NB_CODES_BF16: /* an odd K ends in a pair whose second half is 0: kChunk is even, it fits */
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
    }
    return buf;
}

/* ---- the register tile ---- */

/* sum[r][c] (+)= over n of x[r][k] w[c][k]; R and C are constants where this is inlined. */
static inline __attribute__((always_inline)) void
tile_rows(const int R, const int C, const float *x, int64_t ldx, const float *const *w, int64_t n,
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
static inline __attribute__((always_inline)) void
all_rows(const int C, const nb_linear_args *a, int64_t k0, int64_t n, const float *const *w,
         float *sum)
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

static void finish(const nb_linear_args *a, int64_t n0, const float *sum)
{
    for (int c = 0; c < kPair; c++) {
        const int64_t at = n0 + c * NB_TILE, left = a->w->N - at;
        const int n = left >= NB_TILE ? NB_TILE : (int)left;
        for (int64_t m = 0; n > 0 && m < a->M; m++) {
            float *y = a->y + m * a->ldy + at;
            nb_v s = nb_v_load(sum + m * kWidth + c * NB_TILE);
            if (a->bias)
                s = nb_v_add(s, nb_v_load_n(a->bias + at, n));
            if (a->add)
                s = nb_v_add(s, nb_v_load_n(y, n));
            nb_v_store_n(y, s, n);
        }
    }
}

static void pair_of_tiles(const nb_linear_args *a, int64_t tile, float *sum)
{
    const nb_weight *w = a->w;
    _Alignas(64) float buf[kPair][kChunk * NB_TILE];
    const int n_tile = tile + 1 < w->n_tile ? 2 : 1;
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
    finish(a, tile * NB_TILE, sum);
}

void NB_LEVEL_NAME(nb_cpu_linear_f32)(const nb_cpu *cpu, const nb_linear_args *a)
{
    const int32_t n_thread = cpu->base.n_thread;
    const int64_t n_pair = (a->w->n_tile + kPair - 1) / kPair;
    float *scratch = a->scratch;
#pragma omp parallel for num_threads(n_thread) schedule(static)
    for (int32_t i = 0; i < n_thread; i++)
        for (int64_t p = n_pair * i / n_thread; p < n_pair * (i + 1) / n_thread; p++)
            pair_of_tiles(a, p * kPair, scratch + (int64_t)i * a->M * kWidth);
}
