/* linear_amx.c -- y = x W^T on AMX tiles, for prompts: weights of any codes but F32 and activations
 * rounded to bf16, products and sums in f32. Needs AMX-BF16 and AVX512-BF16.
 *
 *   value = code * scale + offset   (offset: -zero * scale, or the minimum), one fmaf, then to bf16
 *   y[m][n] = sum over pairs of k of x[m][k] W[n][k] + x[m][k+1] W[n][k+1], then + bias, + y
 *
 * one f32 accumulator an output, pairs in ascending order, as tdpbf16ps rounds: each addition to
 * nearest even, subnormals as 0. A sum that waits in memory between two runs of K loses nothing, so
 * bits do not depend on M (from the row's first on) or on the number of threads.
 *
 * Rows of x go in slabs of kSlab. A slab is rounded once, into tiles that lie as they are loaded,
 *
 *   A [K/kDepth][M/16][kDepth/32] tiles:  [16 rows of x][32 of K]           bf16, 1 KiB
 *   B [2][kDepth/32] tiles:               [16 pairs of K][16 outputs][2]    bf16, 1 KiB
 *
 * and then panels of 32 outputs pass over it: of kDepth of K a panel makes B, 16 KiB in the first
 * cache, and takes all rows of the slab, whose A of that depth comes from the second:
 *
 *            B0  B1        four products of 16 cycles for four tile loads, of 8 cycles from the
 *       A0    s   s        first cache, and some 20 from the second
 *       A1    s   s
 *
 * A task has kGroup panels, which take turns at each run of K, when A of all K is more than stays
 * in the second cache (kKept): one reading of it from beyond serves all of them. Measured on a
 * Xeon with 2 MiB: one panel a task 585 GFLOP/s a core at K = 2048, eight 1220.
 *
 * What does not fill a tile is 0 in A and B: rows of the last block, K up to a multiple of 32.
 * Cost: 2 M N K flop, N K values made once a slab. scratch: A of a slab | per thread: B, and sums
 * [kSlab][32] f32 a panel of the task. */
#include "backend/cpu/amx.h"
#include "backend/cpu/finish.h"
#include "backend/cpu/kernels.h"

enum {
    kSlab = 512,  /* rows: A of kDepth is 256 KiB */
    kDepth = 256, /* of K */
    kGroup = 8,
    kKept = 768 << 10, /* bytes of A */
    kParts = 2,        /* tasks a thread at least: a slower core takes fewer */
    kWidth = NB_PAIR * NB_TILE,
    kStep = 2 * NB_AMX_ROWS,        /* rows of a block */
    kTile = NB_AMX_ROWS * NB_AMX_K, /* bf16 in a tile */
    kPanel = NB_PAIR * (kDepth / NB_AMX_K) * kTile
};

static int64_t up(int64_t n, int64_t step)
{
    return (n + step - 1) / step * step;
}

/* ---- operands as bf16 ---- */

/* even[i], odd[i] side by side in lane i */
static inline __m512i pairs_of(__m512 even, __m512 odd)
{
    const __m512i order = _mm512_set_epi32(
        0x1f000f, 0x1e000e, 0x1d000d, 0x1c000c, 0x1b000b, 0x1a000a, 0x190009, 0x180008, 0x170007,
        0x160006, 0x150005, 0x140004, 0x130003, 0x120002, 0x110001, 0x100000);
    return _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(odd, even));
}

/* n values of a row as row r of tiles that follow one another, with zeros up to a whole tile. */
static void round_row(const float *x, int64_t n, int r, uint16_t *dst)
{
    for (int64_t k = 0; k < n; k += NB_AMX_K, dst += kTile) {
        const uint32_t in = n - k >= NB_AMX_K ? 0xffffffffu : (1u << (n - k)) - 1u;
        const __m512 low = _mm512_maskz_loadu_ps((__mmask16)in, x + k),
                     high = _mm512_maskz_loadu_ps((__mmask16)(in >> 16), x + k + NB_LANES);
        _mm512_storeu_si512(dst + r * NB_AMX_K, (__m512i)_mm512_cvtne2ps_pbh(high, low));
    }
}

static nb_v load_16(const uint8_t *p, bool wide)
{
    return wide ? nb_v_load((const float *)(const void *)p)
                : nb_v_from_f16((const uint16_t *)(const void *)p);
}

/* A block of U4 or U8 codes as the tile dst; nibbles is a constant where this is inlined. */
static inline __attribute__((always_inline)) void block_tile(const bool nibbles, const nb_weight *w,
                                                             const uint8_t *p, uint16_t *dst)
{
    const uint8_t *scales = p + w->code_bytes, *off = scales + w->scale_bytes;
    const int line = NB_TILE * (w->wide ? 4 : 2), step = nibbles ? 8 : 4;
    const __m512i mask = _mm512_set1_epi32(nibbles ? 15 : 255);
    nb_v scale = nb_v_set1(0.0f), offset = scale;
    for (int k = 0; k < NB_BLOCK; k += step) {
        const int h = k / w->unit;
        const __m512i v = _mm512_loadu_si512(p + k / step * NB_AMX_BYTES);
        if (k % w->unit == 0) {
            scale = load_16(scales + h * line, w->wide);
            offset =
                w->offset == NB_OFFSET_MIN ? load_16(off + h * line, w->wide)
                : w->offset == NB_OFFSET_ZERO
                    ? nb_v_mul(scale, nb_v_sub(nb_v_set1(0.0f), nb_v_from_u8(off + h * NB_TILE)))
                    : nb_v_mul(scale, nb_v_set1(-(float)w->zero));
        }
#pragma GCC unroll 8
        for (int i = 0; i < step;
             i += 2) { /* byte i % 4 of a lane; of U4 its high half from 4 on */
            const unsigned at = (unsigned)(i % 4 * 8 + i / 4 * 4);
            const nb_v even = {_mm512_cvtepi32_ps(
                           _mm512_and_si512(_mm512_srli_epi32(v, at), mask))},
                       odd = {_mm512_cvtepi32_ps(
                           _mm512_and_si512(_mm512_srli_epi32(v, at + 8), mask))};
            _mm512_storeu_si512(dst + (k + i) * NB_TILE, pairs_of(nb_v_fma(even, scale, offset).f,
                                                                  nb_v_fma(odd, scale, offset).f));
        }
    }
}

/* Inputs k0 .. k0 + 32 of an F16 tile. */
static void f16_tile(const nb_weight *w, const uint8_t *p, int64_t k0, uint16_t *dst)
{
    const uint16_t *h = (const uint16_t *)(const void *)p;
    for (int64_t k = k0; k < k0 + NB_AMX_K; k += 2) {
        const nb_v none = nb_v_set1(0.0f), even = k < w->K ? nb_v_from_f16(h + k * NB_TILE) : none,
                   odd = k + 1 < w->K ? nb_v_from_f16(h + (k + 1) * NB_TILE) : none;
        _mm512_storeu_si512(dst + (k - k0) * NB_TILE, pairs_of(even.f, odd.f));
    }
}

/* The same of a BF16 tile, which lies as it is wanted. */
static void bf16_tile(const nb_weight *w, const uint8_t *p, int64_t k0, uint16_t *dst)
{
    for (int64_t k = k0; k < k0 + NB_AMX_K; k += 2)
        _mm512_storeu_si512(dst + (k - k0) * NB_TILE,
                            k < w->K ? _mm512_loadu_si512(p + k / 2 * NB_AMX_BYTES)
                                     : _mm512_setzero_si512());
}

/* Inputs k0 .. k0 + n of tile `tile`; n is a multiple of 32. */
static void make_tiles(const nb_weight *w, int64_t tile, int64_t k0, int64_t n, uint16_t *dst)
{
    const uint8_t *p = nb_weight_tile(w, tile), *block = p + k0 / NB_BLOCK * w->block_bytes;
    for (int64_t k = 0; k < n; k += NB_AMX_K, block += w->block_bytes, dst += kTile)
        switch (w->codes) {
        case NB_CODES_U4:
            block_tile(true, w, block, dst);
            break;
        case NB_CODES_U8:
            block_tile(false, w, block, dst);
            break;
        case NB_CODES_F16:
            f16_tile(w, p, k0 + k, dst);
            break;
        case NB_CODES_BF16:
            bf16_tile(w, p, k0 + k, dst);
            break;
        case NB_CODES_F32:
        case NB_CODES_T4: /* neither is this row's */
            break;
        }
}

/* ---- the product ---- */

/* sum [R][16][C * 16 of kWidth] (+)= A [R][n] B [C][n]^T, tiles; R and C are constants where this
 * is inlined. */
static inline __attribute__((always_inline)) void tiles(const int R, const int C, const uint16_t *a,
                                                        const uint16_t *b, int64_t n, bool first,
                                                        float *sum)
{
    enum { kLine = kWidth * sizeof(float), kDown = NB_AMX_ROWS * kWidth };
    const int64_t second = n * kTile;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    if (!first) {
        _tile_loadd(0, sum, kLine);
        if (C > 1)
            _tile_loadd(1, sum + NB_TILE, kLine);
        if (R > 1)
            _tile_loadd(2, sum + kDown, kLine);
        if (R > 1 && C > 1)
            _tile_loadd(3, sum + kDown + NB_TILE, kLine);
    }
    for (int64_t i = 0; i < n; i++, a += kTile, b += kTile) {
        _tile_loadd(6, b, NB_AMX_BYTES);
        _tile_loadd(4, a, NB_AMX_BYTES);
        _tile_dpbf16ps(0, 4, 6);
        if (C > 1) {
            _tile_loadd(7, b + second, NB_AMX_BYTES);
            _tile_dpbf16ps(1, 4, 7);
        }
        if (R > 1) {
            _tile_loadd(5, a + second, NB_AMX_BYTES);
            _tile_dpbf16ps(2, 5, 6);
        }
        if (R > 1 && C > 1)
            _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, sum, kLine);
    if (C > 1)
        _tile_stored(1, sum + NB_TILE, kLine);
    if (R > 1)
        _tile_stored(2, sum + kDown, kLine);
    if (R > 1 && C > 1)
        _tile_stored(3, sum + kDown + NB_TILE, kLine);
}

/* A block's two lines a row, on their way to the first cache; ld in floats. */
static void fetch(const float *p, int64_t ld)
{
    for (int r = 0; r < kStep; r++, p += ld) {
        __builtin_prefetch(p, 1);
        __builtin_prefetch(p + NB_TILE, 1);
    }
}

/* All rows over one run of K of a panel. After the last run the sums of a block go to y while they
 * are in the first cache. */
static inline __attribute__((always_inline)) void all_rows(const int C, const nb_linear_args *a,
                                                           int64_t tile, const uint16_t *x,
                                                           const uint16_t *b, int64_t n, bool first,
                                                           bool last, float *sum)
{
    nb_linear_args block = *a;
    for (int64_t m = 0; m < a->M; m += kStep, sum += kStep * kWidth, x += 2 * n * kTile) {
        const int64_t left = a->M - m;
        block.y = a->y + m * a->ldy;
        block.M = left < kStep ? left : kStep;
        if (!first && left >= 2 * kStep)
            fetch(sum + kStep * kWidth, kWidth);
        if (last && C > 1 && left >= kStep)
            fetch(block.y + tile * NB_TILE, a->ldy);
        if (left > NB_AMX_ROWS)
            tiles(2, C, x, b, n, first, sum);
        else
            tiles(1, C, x, b, n, first, sum);
        if (last)
            nb_finish(&block, tile, sum);
    }
}

typedef struct amx_job {
    nb_linear_args a; /* of the slab */
    uint16_t *x;      /* its A */
    uint8_t *room;    /* of the workers: B, sums */
    size_t room_bytes;
    int64_t K, n_block;     /* a multiple of 32; blocks of 16 rows */
    int64_t n_panel, group; /* panels, and how many a task takes */
} amx_job;

/* Inputs of the run of K that begins at k0. */
static int64_t depth_at(const amx_job *j, int64_t k0)
{
    return j->K - k0 < kDepth ? j->K - k0 : kDepth;
}

/* A of that run: [n_block][depth / 32] tiles. */
static uint16_t *a_at(const amx_job *j, int64_t k0)
{
    return j->x + k0 * NB_AMX_ROWS * j->n_block;
}

static void round_block(const void *arg, int64_t i, int worker)
{
    const amx_job *j = arg;
    const int64_t first = i * NB_AMX_ROWS, K = j->a.w->K;
    (void)worker;
    for (int64_t k0 = 0; k0 < j->K; k0 += kDepth) {
        const int64_t depth = depth_at(j, k0), left = K - k0;
        uint16_t *block = a_at(j, k0) + i * depth * NB_AMX_ROWS;
        if (first + NB_AMX_ROWS > j->a.M)
            memset(block, 0, (size_t)depth * NB_AMX_ROWS * sizeof *block);
        for (int r = 0; r < NB_AMX_ROWS && first + r < j->a.M; r++)
            round_row(j->a.x + (first + r) * j->a.ldx + k0, left < depth ? left : depth, r, block);
    }
}

/* One run of K of a panel: its B, and all rows over it. */
static void panel_run(const amx_job *j, int64_t tile, int64_t k0, uint16_t *b, float *sum)
{
    const nb_weight *w = j->a.w;
    const int64_t depth = depth_at(j, k0), n = depth / NB_AMX_K;
    const bool both = tile + 1 < w->n_tile;
    const bool first = k0 == 0, last = k0 + depth == j->K;
    make_tiles(w, tile, k0, depth, b);
    if (both)
        make_tiles(w, tile + 1, k0, depth, b + n * kTile);
    nb_amx_fence();
    if (both)
        all_rows(2, &j->a, tile, a_at(j, k0), b, n, first, last, sum);
    else
        all_rows(1, &j->a, tile, a_at(j, k0), b, n, first, last, sum);
}

static void multiply_group(const void *arg, int64_t i, int worker)
{
    const amx_job *j = arg;
    uint16_t *b = (uint16_t *)(void *)(j->room + (size_t)worker * j->room_bytes);
    float *sum = (float *)(void *)(b + kPanel);
    const int64_t first = i * j->group, left = j->n_panel - first,
                  ld = j->n_block * NB_AMX_ROWS * kWidth;
    const int64_t n = left < j->group ? left : j->group;
    nb_amx_open();
    for (int64_t k0 = 0; k0 < j->K; k0 += kDepth)
        for (int64_t p = 0; p < n; p++)
            panel_run(j, (first + p) * NB_PAIR, k0, b, sum + p * ld);
    nb_amx_close();
}

/* ---- the row ---- */

static int64_t slab_rows(const nb_linear_args *a)
{
    return up(a->M < kSlab ? a->M : kSlab, NB_AMX_ROWS);
}

static size_t x_bytes(const nb_linear_args *a)
{
    return (size_t)slab_rows(a) * (size_t)up(a->w->K, NB_AMX_K) * sizeof(uint16_t);
}

static int64_t panels(const nb_weight *w)
{
    return (w->n_tile + NB_PAIR - 1) / NB_PAIR;
}

/* Panels a task takes: one where all of A stays in the second cache anyway. */
static int64_t group_of(const nb_cpu *cpu, const nb_linear_args *a)
{
    const int64_t most = panels(a->w) / (kParts * cpu->base.n_thread);
    return x_bytes(a) <= kKept || most < 1 ? 1 : most < kGroup ? most : kGroup;
}

static size_t room_bytes(const nb_cpu *cpu, const nb_linear_args *a)
{
    const size_t sums = (size_t)slab_rows(a) * kWidth * sizeof(float);
    return kPanel * sizeof(uint16_t) + (size_t)group_of(cpu, a) * sums;
}

size_t nb_cpu_linear_amx_scratch(const nb_cpu *cpu, const nb_linear_args *a)
{
    return x_bytes(a) + (size_t)cpu->base.n_thread * room_bytes(cpu, a);
}

void nb_cpu_linear_amx(const nb_cpu *cpu, const nb_linear_args *a)
{
    amx_job j = {.a = *a,
                 .x = a->scratch,
                 .room = (uint8_t *)a->scratch + x_bytes(a),
                 .room_bytes = room_bytes(cpu, a),
                 .K = up(a->w->K, NB_AMX_K),
                 .n_panel = panels(a->w),
                 .group = group_of(cpu, a)};
    for (int64_t m = 0; m < a->M; m += kSlab) {
        j.a.M = a->M - m < kSlab ? a->M - m : kSlab;
        j.a.x = a->x + m * a->ldx;
        j.a.y = a->y + m * a->ldy;
        j.n_block = up(j.a.M, NB_AMX_ROWS) / NB_AMX_ROWS;
        nb_pool_run(cpu->pool, j.n_block, round_block, &j);
        nb_pool_run(cpu->pool, (j.n_panel + j.group - 1) / j.group, multiply_group, &j);
    }
}
