/* linear_int8.c -- y = x W^T over U4 and U8 blocks with activations rounded to int8; compiled once
 * per level.
 *
 *   x[m][k] ~ d[m][g] q[m][k]       d = amax of 32 inputs / 127, q = rne(x * (127 / amax)), once a
 *                                   call
 *   value = scale (code - zero)     y += (scale d) * (sum code q - zero sum q)
 *   value = scale code + min        y += (scale d) * (sum code q), then y += min * (d sum q)
 *
 * one fmaf each, groups of 32 (or halves of them, where scales are per 16) in ascending order, one
 * f32 accumulator an output; the sums within a group are integers. So the bits are the same on
 * every level, for any M and any number of threads. A group that holds a NaN or an infinity gets d
 * = NaN and so reaches every output, as it should.
 *
 * Rows of x go over a tile of 16 outputs kRows at a time (registers: kRows f32 and kRows integer
 * accumulators), all K before the next: a tile is 15 KiB for K = 1536 and stays in the first cache.
 * Many rows are cut into slabs whose q fits the second cache.
 *
 * scratch: q [M][K] | d [M][G] | add [M][U] | sum [M][U], G = K / 32, U = K / unit: at most M K
 * 1.625 bytes. */
#include "backend/cpu/dot.h"
#include "backend/cpu/kernels.h"

enum {
    kSlab = 512 << 10, /* bytes of q */
    kAhead = 1536, /* bytes of weights to prefetch ahead: memory takes about 100 ns, a core reads 15
                      GB/s */
    kManyRows =
        16, /* from here on two tiles at a time: half the loads of x, but more weights in flight */
    kSmall = 1 << 15, /* codes below which a second thread costs more than it brings */
    kParts = 2,       /* parts a thread: a slower core takes fewer */
#if defined(__AVX512F__)
    kRows = 8, /* with one tile */
    kPairRows = 4,
    kTiles = 2,
#elif defined(__AVX2__)
    kRows = 4,
    kPairRows = 4,
    kTiles = 1,
#else
    kRows = 2,
    kPairRows = 2,
    kTiles = 1,
#endif
    kSums = kRows > kPairRows *kTiles ? kRows : kPairRows *kTiles
};

typedef struct activations {
    int8_t *q;
    float *d;
    int32_t *add; /* what the integer sums start from, or, with u8 zeros, -sum q */
    float *sum;   /* d * sum q */
    int64_t ldq, ldg, ldu;
} activations;

static activations activations_at(const nb_linear_args *a)
{
    const int64_t K = a->w->K, G = K / NB_BLOCK, U = K / a->w->unit;
    activations t = {.q = a->scratch, .ldq = K, .ldg = G, .ldu = U};
    t.d = (float *)(void *)(t.q + a->M * K);
    t.add = (int32_t *)(void *)(t.d + a->M * G);
    t.sum = (float *)(void *)(t.add + a->M * U);
    return t;
}

/* ---- x to int8 ---- */

/* Greatest |x| of 32, as bits: an order that puts infinities and NaN on top. */
static uint32_t amax_bits(const float *x)
{
    uint32_t top = 0;
    for (int k = 0; k < NB_BLOCK; k++) {
        const uint32_t u = nb_f32_bits(x[k]) & 0x7fffffffu;
        top = u > top ? u : top;
    }
    return top;
}

/* sum: of q of the two halves */
static void quantize_group(const float *x, int8_t *q, float *d, int32_t *sum)
{
    const uint32_t top = amax_bits(x);
    const bool finite = top < 0x7f800000u;
    const float amax = nb_f32_from_bits(finite ? top : 0);
    const float up = amax > 1e-30f ? 127.0f / amax : 0.0f; /* below, 127 / amax nears overflow */
    int32_t n[NB_BLOCK];
    for (int k = 0; k < NB_BLOCK; k++)
        n[k] = (int32_t)rintf(finite ? x[k] * up : 0.0f);
    sum[0] = sum[1] = 0;
    for (int k = 0; k < NB_HALF; k++) {
        sum[0] += n[k];
        sum[1] += n[NB_HALF + k];
    }
    for (int k = 0; k < NB_BLOCK; k++)
        q[k] = (int8_t)n[k];
    *d = finite ? amax / 127.0f : nb_f32_from_bits(0x7fc00000u);
}

static void quantize_row(const nb_weight *w, const float *x, const activations *t, int64_t m)
{
    const int32_t shift = w->codes == NB_CODES_U4 ? NB_SHIFT_U4 : NB_SHIFT_U8;
    const int32_t factor = w->offset == NB_OFFSET_CONST  ? shift - w->zero
                           : w->offset == NB_OFFSET_ZERO ? -1
                                                         : shift;
    const int H = NB_BLOCK / w->unit;
    for (int64_t g = 0; g < t->ldg; g++) {
        int32_t sum[2];
        float d = 0;
        quantize_group(x + g * NB_BLOCK, t->q + m * t->ldq + g * NB_BLOCK, &d, sum);
        if (H == 1)
            sum[0] += sum[1];
        t->d[m * t->ldg + g] = d;
        for (int h = 0; h < H; h++) {
            t->sum[m * t->ldu + g * H + h] = d * (float)sum[h];
            t->add[m * t->ldu + g * H + h] = factor * sum[h];
        }
    }
}

/* ---- the product ---- */

NB_INLINE nb_v load_scales(const uint8_t *p, bool wide)
{
    return wide ? nb_v_load((const float *)(const void *)p)
                : nb_v_from_f16((const uint16_t *)(const void *)p);
}

/* One group of a block: k0 .. k0 + unit of C tiles at p, y += scale d (code' q + add) (+ min sum).
 */
NB_INLINE void one_group(const int R, const int C, const bool nibbles, const int unit, const int k0,
                         const nb_weight *w, const uint8_t *const *p, const activations *t,
                         const int8_t *q, const float *d, const int32_t *add, const float *sum,
                         nb_v *y)
{
    const int32_t shift = nibbles ? NB_SHIFT_U4 : NB_SHIFT_U8;
    const int32_t code_bytes = NB_TILE * NB_BLOCK / (nibbles ? 2 : 1);
    const int32_t line = w->wide ? 4 * NB_TILE : 2 * NB_TILE, h = k0 / unit;
    nb_i s[kSums];
    nb_v scale[2];
    const uint8_t *off[2];
#pragma GCC unroll 2
    for (int c = 0; c < C; c++) {
        scale[c] = load_scales(p[c] + code_bytes + h * line, w->wide);
        off[c] = p[c] + code_bytes + w->scale_bytes;
    }
    if (w->offset == NB_OFFSET_ZERO) {
#pragma GCC unroll 32
        for (int i = 0; i < R * C; i++)
            s[i] = nb_i_scaled_u8(off[i % C] + h * NB_TILE, shift, add[i / C * t->ldu]);
    } else {
#pragma GCC unroll 32
        for (int i = 0; i < R * C; i++)
            s[i] = nb_i_set1(add[i / C * t->ldu]);
    }
    if (nibbles)
        nb_dot_u4(R, C, k0, k0 + unit, p, q, t->ldq, s);
    else
        nb_dot_u8(R, C, k0, k0 + unit, p, q, t->ldq, s);
#pragma GCC unroll 32
    for (int i = 0; i < R * C; i++)
        y[i] =
            nb_v_fma(nb_i_float(s[i]), nb_v_mul(scale[i % C], nb_v_set1(d[i / C * t->ldg])), y[i]);
    if (w->offset == NB_OFFSET_MIN) {
        nb_v min[2];
#pragma GCC unroll 2
        for (int c = 0; c < C; c++)
            min[c] = load_scales(off[c] + h * line, w->wide);
#pragma GCC unroll 32
        for (int i = 0; i < R * C; i++)
            y[i] = nb_v_fma(min[i % C], nb_v_set1(sum[i / C * t->ldu]), y[i]);
    }
}

/* R rows from m on over C tiles; R, C, nibbles and unit are constants where this is inlined. */
NB_INLINE void tile_rows(const int R, const int C, const bool nibbles, const int unit,
                         const bool ahead, const nb_linear_args *a, const activations *t,
                         int64_t tile, int64_t m)
{
    const nb_weight *w = a->w;
    const int H = NB_BLOCK / unit;
    const uint8_t *p[2] = {nb_weight_tile(w, tile), nb_weight_tile(w, tile + C - 1)};
    const int8_t *q = t->q + m * t->ldq;
    const float *d = t->d + m * t->ldg, *sum = t->sum + m * t->ldu;
    const int32_t *add = t->add + m * t->ldu;
    nb_v y[kSums];
#pragma GCC unroll 32
    for (int i = 0; i < R * C; i++)
        y[i] = nb_v_set1(0.0f);
    for (int64_t g = 0; g < t->ldg; g++) {
#pragma GCC unroll 2
        for (int c = 0; c < C; c++)
            for (int b = 0; b < NB_TILE * NB_BLOCK / (nibbles ? 2 : 1) + 64 && ahead; b += 64)
                __builtin_prefetch(p[c] + kAhead + b);
#pragma GCC unroll 2
        for (int h = 0; h < H; h++)
            one_group(R, C, nibbles, unit, h * unit, w, p, t, q + g * NB_BLOCK, d + g,
                      add + g * H + h, sum + g * H + h, y);
#pragma GCC unroll 2
        for (int c = 0; c < C; c++)
            p[c] += w->block_bytes;
    }
#pragma GCC unroll 32
    for (int i = 0; i < R * C; i++) {
        const int64_t at = (tile + i % C) * NB_TILE, left = w->N - at;
        const int n = left >= NB_TILE ? NB_TILE : (int)left;
        float *dst = a->y + (m + i / C) * a->ldy + at;
        if (a->bias)
            y[i] = nb_v_add(y[i], nb_v_load_n(a->bias + at, n));
        if (a->add)
            y[i] = nb_v_add(y[i], nb_v_load_n(dst, n));
        nb_v_store_n(dst, y[i], n);
    }
}

/* Rows m .. end over tiles first .. last, one tile at a time. */
NB_INLINE void single_tiles(const bool nibbles, const int unit, const nb_linear_args *a,
                            const activations *t, int64_t m, int64_t end, int64_t first,
                            int64_t last)
{
    for (int64_t tile = first; tile < last; tile++) {
        int64_t r = m;
        bool ahead = true; /* the first pass over a tile brings in the next one */
        for (; r + kRows <= end; r += kRows, ahead = false)
            tile_rows(kRows, 1, nibbles, unit, ahead, a, t, tile, r);
#if defined(__AVX512F__)
        for (; r + 4 <= end; r += 4, ahead = false)
            tile_rows(4, 1, nibbles, unit, ahead, a, t, tile, r);
#endif
        for (; r + 2 <= end && kRows > 2; r += 2, ahead = false)
            tile_rows(2, 1, nibbles, unit, ahead, a, t, tile, r);
        for (; r < end; r++, ahead = false)
            tile_rows(1, 1, nibbles, unit, ahead, a, t, tile, r);
    }
}

/* The same, two tiles at a time for the rows that fill the registers. */
NB_INLINE void some_tiles(const bool nibbles, const int unit, const nb_linear_args *a,
                          const activations *t, int64_t m, int64_t end, int64_t first, int64_t last)
{
    const bool pairs = kTiles > 1 && end - m >= kManyRows;
    const int64_t whole = pairs ? m + (end - m) / kPairRows * kPairRows : m;
    int64_t tile = first;
    for (; tile + kTiles <= last && whole > m; tile += kTiles) {
        for (int64_t r = m; r < whole; r += kPairRows)
            tile_rows(kPairRows, kTiles, nibbles, unit, r == m, a, t, tile, r);
        single_tiles(nibbles, unit, a, t, whole, end, tile, tile + kTiles);
    }
    single_tiles(nibbles, unit, a, t, m, end, tile, last);
}

static void slab(const nb_linear_args *a, const activations *t, int64_t m, int64_t end,
                 int64_t first, int64_t last)
{
    const bool nibbles = a->w->codes == NB_CODES_U4;
    if (nibbles && a->w->unit == NB_BLOCK)
        some_tiles(true, NB_BLOCK, a, t, m, end, first, last);
    else if (nibbles)
        some_tiles(true, NB_HALF, a, t, m, end, first, last);
    else if (a->w->unit == NB_BLOCK)
        some_tiles(false, NB_BLOCK, a, t, m, end, first, last);
    else
        some_tiles(false, NB_HALF, a, t, m, end, first, last);
}

typedef struct int8_job {
    const nb_linear_args *a;
    activations t;
    int64_t m, end, n_part; /* rows of this pass; parts the tiles are cut into */
} int8_job;

static void quantize_task(const void *arg, int64_t m, int worker)
{
    const int8_job *j = arg;
    (void)worker;
    quantize_row(j->a->w, j->a->x + m * j->a->ldx, &j->t, m);
}

static void multiply_part(const void *arg, int64_t i, int worker)
{
    const int8_job *j = arg;
    const int64_t n_tile = j->a->w->n_tile;
    (void)worker;
    slab(j->a, &j->t, j->m, j->end, n_tile * i / j->n_part, n_tile * (i + 1) / j->n_part);
}

void NB_LEVEL_NAME(nb_cpu_linear_int8)(const nb_cpu *cpu, const nb_linear_args *a)
{
    int8_job j = {.a = a, .t = activations_at(a)};
    const int64_t n_tile = a->w->n_tile;
    nb_pool *pool = a->M > 1 || a->w->N * a->w->K >= kSmall ? cpu->pool : NULL;
    const int64_t parts = kParts * cpu->base.n_thread;
    int64_t rows = kSlab / j.t.ldq / kRows * kRows;
    rows = rows < 2 * kRows ? 2 * kRows : rows;
    j.n_part = !pool ? 1 : n_tile < parts ? n_tile : parts;
    nb_pool_run(pool, a->M, quantize_task, &j);
    for (j.m = 0; j.m < a->M; j.m = j.end) {
        j.end = j.m + rows < a->M ? j.m + rows : a->M;
        nb_pool_run(pool, j.n_part, multiply_part, &j);
    }
}
