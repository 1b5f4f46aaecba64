/* linear_int8.c -- y = x W^T over U4 and U8 blocks with activations rounded to int8; compiled once
 * per level.
 *
 *   x[m][k] ~ d[m][g] q[m][k]    d = amax of 32 inputs / 127, q = rne(x * (127 / amax))   (once a call)
 *   value   = scale (code - zero)            y += (scale d) * (sum code q - zero sum q)
 *   value   = scale code + min               y += (scale d) * (sum code q), then y += min * (d sum q)
 *
 * one fmaf each, groups of 32 in ascending order, one f32 accumulator an output; the sums over 32
 * are integers. So the bits are the same on every level, for any M and any number of threads.
 * A group that holds a NaN or an infinity gets d = NaN and so reaches every output, as it should.
 *
 * Rows of x go over a tile of 16 outputs kRows at a time (registers: kRows f32 and kRows integer
 * accumulators), all K before the next: a tile is 15 KiB for K = 1536 and stays in the first cache.
 * Many rows are cut into slabs whose q fits the second cache.
 *
 * scratch: q [M][K] | d [M][G] | add [M][G] | sum [M][G], G = K / 32: M K 1.375 bytes. */
#include "backend/cpu/dot.h"
#include "backend/cpu/kernels.h"

enum {
    kSlab = 512 << 10, /* bytes of q */
    kAhead = 1536,     /* bytes of weights to prefetch ahead: memory takes about 100 ns, a core reads 15 GB/s */
    kManyRows = 16,    /* from here on two tiles at a time: half the loads of x, but more weights in flight */
    kSmall = 1 << 15,  /* codes below which a second thread costs more than it brings */
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
    kSums = kRows > kPairRows * kTiles ? kRows : kPairRows * kTiles
};

typedef struct activations {
    int8_t *q;
    float *d;
    int32_t *add; /* what the integer sums start from, or, with u8 zeros, -sum q */
    float *sum;   /* d * sum q */
    int64_t ldq, ldg;
} activations;

static activations activations_at(const nb_linear_args *a)
{
    const int64_t K = a->w->K, G = K / NB_BLOCK;
    activations t = {.q = a->scratch, .ldq = K, .ldg = G};
    t.d = (float *)(void *)(t.q + a->M * K);
    t.add = (int32_t *)(void *)(t.d + a->M * G);
    t.sum = (float *)(void *)(t.add + a->M * G);
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

static void quantize_group(const float *x, int8_t *q, float *d, int32_t *sum)
{
    const uint32_t top = amax_bits(x);
    const bool finite = top < 0x7f800000u;
    const float amax = nb_f32_from_bits(finite ? top : 0);
    const float up = amax > 1e-30f ? 127.0f / amax : 0.0f; /* below, 127 / amax nears overflow */
    int32_t total = 0;
    for (int k = 0; k < NB_BLOCK; k++) {
        const float v = finite ? x[k] * up : 0.0f;
        const int32_t n = (int32_t)rintf(v);
        q[k] = (int8_t)n;
        total += n;
    }
    *d = finite ? amax / 127.0f : nb_f32_from_bits(0x7fc00000u);
    *sum = total;
}

static void quantize_row(const nb_weight *w, const float *x, const activations *t, int64_t m)
{
    const int32_t shift = w->codes == NB_CODES_U4 ? NB_SHIFT_U4 : NB_SHIFT_U8;
    for (int64_t g = 0; g < t->ldg; g++) {
        int32_t sum = 0;
        float d = 0;
        quantize_group(x + g * NB_BLOCK, t->q + m * t->ldq + g * NB_BLOCK, &d, &sum);
        t->d[m * t->ldg + g] = d;
        t->sum[m * t->ldg + g] = d * (float)sum;
        t->add[m * t->ldg + g] = w->offset == NB_OFFSET_CONST  ? (shift - w->zero) * sum
                                 : w->offset == NB_OFFSET_ZERO ? -sum
                                                               : shift * sum;
    }
}

/* ---- the product ---- */

NB_INLINE nb_v load_scales(const uint8_t *p, bool wide)
{
    return wide ? nb_v_load((const float *)(const void *)p)
                : nb_v_from_f16((const uint16_t *)(const void *)p);
}

/* R rows from m on over C tiles; R, C and nibbles are constants where this is inlined. */
NB_INLINE void tile_rows(const int R, const int C, const bool nibbles, const bool ahead,
                         const nb_linear_args *a, const activations *t, int64_t tile, int64_t m)
{
    const nb_weight *w = a->w;
    const int32_t shift = nibbles ? NB_SHIFT_U4 : NB_SHIFT_U8;
    const int32_t code_bytes = NB_TILE * NB_BLOCK / (nibbles ? 2 : 1);
    const uint8_t *p[2] = {nb_weight_tile(w, tile), nb_weight_tile(w, tile + C - 1)};
    const int8_t *q = t->q + m * t->ldq;
    const float *d = t->d + m * t->ldg, *sum = t->sum + m * t->ldg;
    const int32_t *add = t->add + m * t->ldg;
    nb_v y[kSums];
#pragma GCC unroll 32
    for (int i = 0; i < R * C; i++)
        y[i] = nb_v_set1(0.0f);
    for (int64_t g = 0; g < t->ldg; g++, q += NB_BLOCK) {
        nb_i s[kSums];
        nb_v scale[2];
        const uint8_t *off[2];
#pragma GCC unroll 2
        for (int c = 0; c < C; c++) {
            if (ahead)
                for (int b = 0; b < code_bytes + 64; b += 64)
                    __builtin_prefetch(p[c] + kAhead + b);
            scale[c] = load_scales(p[c] + code_bytes, w->wide);
            off[c] = p[c] + code_bytes + w->scale_bytes;
        }
        if (w->offset == NB_OFFSET_ZERO) {
#pragma GCC unroll 32
            for (int i = 0; i < R * C; i++)
                s[i] = nb_i_scaled_u8(off[i % C], shift, add[i / C * t->ldg + g]);
        } else {
#pragma GCC unroll 32
            for (int i = 0; i < R * C; i++)
                s[i] = nb_i_set1(add[i / C * t->ldg + g]);
        }
        if (nibbles)
            nb_dot_u4(R, C, p, q, t->ldq, s);
        else
            nb_dot_u8(R, C, p, q, t->ldq, s);
#pragma GCC unroll 32
        for (int i = 0; i < R * C; i++)
            y[i] = nb_v_fma(nb_i_float(s[i]),
                            nb_v_mul(scale[i % C], nb_v_set1(d[i / C * t->ldg + g])), y[i]);
        if (w->offset == NB_OFFSET_MIN) {
            nb_v min[2];
#pragma GCC unroll 2
            for (int c = 0; c < C; c++)
                min[c] = load_scales(off[c], w->wide);
#pragma GCC unroll 32
            for (int i = 0; i < R * C; i++)
                y[i] = nb_v_fma(min[i % C], nb_v_set1(sum[i / C * t->ldg + g]), y[i]);
        }
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
NB_INLINE void single_tiles(const bool nibbles, const nb_linear_args *a, const activations *t,
                            int64_t m, int64_t end, int64_t first, int64_t last)
{
    for (int64_t tile = first; tile < last; tile++) {
        int64_t r = m;
        bool ahead = true; /* the first pass over a tile brings in the next one */
        for (; r + kRows <= end; r += kRows, ahead = false)
            tile_rows(kRows, 1, nibbles, ahead, a, t, tile, r);
#if defined(__AVX512F__)
        for (; r + 4 <= end; r += 4, ahead = false)
            tile_rows(4, 1, nibbles, ahead, a, t, tile, r);
#endif
        for (; r + 2 <= end && kRows > 2; r += 2, ahead = false)
            tile_rows(2, 1, nibbles, ahead, a, t, tile, r);
        for (; r < end; r++, ahead = false)
            tile_rows(1, 1, nibbles, ahead, a, t, tile, r);
    }
}

/* The same, two tiles at a time for the rows that fill the registers. */
NB_INLINE void some_tiles(const bool nibbles, const nb_linear_args *a, const activations *t,
                          int64_t m, int64_t end, int64_t first, int64_t last)
{
    const bool pairs = kTiles > 1 && end - m >= kManyRows;
    const int64_t whole = pairs ? m + (end - m) / kPairRows * kPairRows : m;
    int64_t tile = first;
    for (; tile + kTiles <= last && whole > m; tile += kTiles) {
        for (int64_t r = m; r < whole; r += kPairRows)
            tile_rows(kPairRows, kTiles, nibbles, r == m, a, t, tile, r);
        single_tiles(nibbles, a, t, whole, end, tile, tile + kTiles);
    }
    single_tiles(nibbles, a, t, m, end, tile, last);
}

static void slab(const nb_linear_args *a, const activations *t, int64_t m, int64_t end,
                 int64_t first, int64_t last)
{
    if (a->w->codes == NB_CODES_U4)
        some_tiles(true, a, t, m, end, first, last);
    else
        some_tiles(false, a, t, m, end, first, last);
}

static void one_row(const nb_cpu *cpu, const nb_linear_args *a, const activations *t)
{
    const int64_t n_tile = a->w->n_tile;
    const int32_t n_thread = cpu->base.n_thread;
    quantize_row(a->w, a->x, t, 0);
    if (n_thread == 1 || a->w->N * a->w->K < kSmall) {
        slab(a, t, 0, 1, 0, n_tile);
        return;
    }
#pragma omp parallel for num_threads(n_thread) schedule(static)
    for (int32_t i = 0; i < n_thread; i++)
        slab(a, t, 0, 1, n_tile * i / n_thread, n_tile * (i + 1) / n_thread);
}

void NB_LEVEL_NAME(nb_cpu_linear_int8)(const nb_cpu *cpu, const nb_linear_args *a)
{
    const activations t = activations_at(a);
    const int64_t n_tile = a->w->n_tile;
    const int32_t n_thread = cpu->base.n_thread;
    if (a->M == 1) {
        one_row(cpu, a, &t);
        return;
    }
    int64_t rows = kSlab / t.ldq / kRows * kRows;
    rows = rows < 2 * kRows ? 2 * kRows : rows;
#pragma omp parallel num_threads(n_thread)
    {
#pragma omp for schedule(static)
        for (int64_t m = 0; m < a->M; m++)
            quantize_row(a->w, a->x + m * a->ldx, &t, m);
        for (int64_t m = 0; m < a->M; m += rows) {
            const int64_t end = m + rows < a->M ? m + rows : a->M;
#pragma omp for schedule(static) nowait
            for (int32_t i = 0; i < n_thread; i++)
                slab(a, &t, m, end, n_tile * i / n_thread, n_tile * (i + 1) / n_thread);
        }
    }
}
