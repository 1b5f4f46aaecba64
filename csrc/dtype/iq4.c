/* iq4.c -- the iq formats of a fixed table of 16 uneven levels: iq4_nl iq4_xs. Drawn in
 * docs/FORMATS.md.
 *
 *   iq4_nl   value = d * table[q]                32 values a block
 *   iq4_xs   value = (d * s[group]) * table[q]   256, groups of 32
 *
 * Exact in f32. Cost: O(1) a value.
 *
 * iq4_nl encodes as ggml does: for 16 factors f = 127 / m and (t - 127) / m, t in -7 .. 7, m the
 * signed extreme, the codes nearest to f x, and d the least squares fit of x to their levels, each
 * value weighted by its square; the best of them, then codes nearest to x / d. */
#include "dtype/codes.h"
#include "dtype/grid.h"
#include "dtype/rows.h"
#include "dtype/scale.h"

enum { kBlock = 256, kNlBlock = 32 };

typedef struct iq4_nl {
    uint8_t d[2], qs[16];
} iq4_nl;
typedef struct iq4_xs {
    uint8_t d[2], sh[2], sl[4], qs[128];
} iq4_xs;
_Static_assert(sizeof(iq4_nl) == 18 && sizeof(iq4_xs) == 136, "packed");

static const float kIq4Table[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                    1,    13,   25,  38,  53,  69,  89,  113};

static void iq4_nl_decode(const uint8_t *src, float *dst, int64_t n_block)
{
    const iq4_nl *b = (const iq4_nl *)src;
    for (int64_t i = 0; i < n_block; i++, dst += kNlBlock) {
        uint8_t code[kNlBlock];
        codes_nibbles(b[i].qs, 16, code);
        codes_looked_up(code, kNlBlock, codes_half(b[i].d), kIq4Table, dst);
    }
}

static void iq4_nl_split(const uint8_t *src, int64_t n_block, uint8_t *code, float *scale,
                         float *min)
{
    const iq4_nl *b = (const iq4_nl *)src;
    for (int64_t i = 0; i < n_block; i++) {
        codes_nibbles(b[i].qs, 16, code + kNlBlock * i);
        scale[i] = codes_half(b[i].d);
        min[i] = 0.0f;
    }
}

/* The scale that fits x best when its codes are those nearest to x * inverse; *gain: how much of
 * the weighted sum of squares it takes away. */
static float fitted(const nb_grid *g, const float *x, float inverse, float *gain)
{
    float qx = 0.0f, qq = 0.0f;
    for (int i = 0; i < kNlBlock; i++) {
        const float q = kIq4Table[nb_grid_nearest(g, x[i] * inverse)], w = x[i] * x[i];
        qx += w * q * x[i];
        qq += w * q * q;
    }
    *gain = qq > 0.0f ? qx * qx / qq : 0.0f;
    return qq > 0.0f ? qx / qq : 0.0f;
}

static void iq4_nl_encode(const float *src, uint8_t *dst, int64_t n_block)
{
    iq4_nl *b = (iq4_nl *)dst;
    nb_grid g;
    nb_grid_of(&nb_dtype_iq4_nl, &g);
    for (int64_t i = 0; i < n_block; i++, src += kNlBlock) {
        const float m = extreme_of(src, kNlBlock);
        float best = 0.0f, d = 0.0f;
        uint8_t code[kNlBlock];
        for (int t = -8; t <= 7 && fabsf(m) >= 1e-15f; t++) {
            float gain = 0.0f;
            const float fit = fitted(&g, src, (t < -7 ? 127.0f : (float)t - 127.0f) / m, &gain);
            if (gain > best) {
                best = gain;
                d = fit;
            }
        }
        const float inverse = d != 0.0f ? 1.0f / d : 0.0f;
        for (int k = 0; k < kNlBlock; k++)
            code[k] = (uint8_t)nb_grid_nearest(&g, src[k] * inverse);
        codes_put_half(b[i].d, d);
        codes_put_nibbles(code, 16, b[i].qs);
    }
}

static void iq4_nl_join(const uint8_t *code, const float *scale, const float *min, int64_t n_block,
                        uint8_t *dst)
{
    iq4_nl *b = (iq4_nl *)dst;
    (void)min;
    for (int64_t i = 0; i < n_block; i++) {
        codes_put_half(b[i].d, scale[i]);
        codes_put_nibbles(code + kNlBlock * i, 16, b[i].qs);
    }
}

/* Group g of 32: 4 low bits of its scale in a nibble of sl, 2 high bits in sh, less 32. */
static inline int iq4_xs_level(const iq4_xs *b, int g)
{
    const int low = b->sl[g / 2] >> 4 * (g % 2) & 15, high = nb_load_u16(b->sh) >> 2 * g & 3;
    return (low | high << 4) - 32;
}
static inline float iq4_xs_scale(const iq4_xs *b, int g)
{
    return codes_half(b->d) * (float)iq4_xs_level(b, g);
}

static void iq4_xs_decode(const uint8_t *src, float *dst, int64_t n_block)
{
    const iq4_xs *b = (const iq4_xs *)src;
    for (int64_t i = 0; i < n_block; i++)
        for (int g = 0; g < 8; g++, dst += 32) {
            uint8_t code[32];
            codes_nibbles(b[i].qs + 16 * g, 16, code);
            codes_looked_up(code, 32, iq4_xs_scale(&b[i], g), kIq4Table, dst);
        }
}

static void iq4_xs_split(const uint8_t *src, int64_t n_block, uint8_t *code, float *scale,
                         float *min)
{
    const iq4_xs *b = (const iq4_xs *)src;
    for (int64_t i = 0; i < n_block; i++)
        for (int g = 0; g < 8; g++, code += 32) {
            codes_nibbles(b[i].qs + 16 * g, 16, code);
            scale[8 * i + g] = iq4_xs_scale(&b[i], g);
            min[8 * i + g] = 0.0f;
        }
}

static void iq4_xs_levels(const uint8_t *src, int64_t n_block, uint16_t *d, int8_t *level)
{
    const iq4_xs *b = (const iq4_xs *)src;
    for (int64_t i = 0; i < n_block; i++) {
        d[i] = nb_load_u16(b[i].d);
        for (int g = 0; g < 8; g++)
            level[8 * i + g] = (int8_t)iq4_xs_level(&b[i], g);
    }
}

const nb_dtype nb_dtype_iq4_nl = {.name = "iq4_nl",
                                  .ggml_id = 20,
                                  .file_type = 25,
                                  .block = kNlBlock,
                                  .bytes = sizeof(iq4_nl),
                                  .decode = iq4_nl_decode,
                                  .encode = iq4_nl_encode,
                                  .canon = NB_CANON_TABLE,
                                  .bits = 4,
                                  .group = kNlBlock,
                                  .table = kIq4Table,
                                  .split = iq4_nl_split,
                                  .join = iq4_nl_join,
                                  .rule = NB_RULE_TABLE};
const nb_dtype nb_dtype_iq4_xs = {.name = "iq4_xs",
                                  .ggml_id = 23,
                                  .block = kBlock,
                                  .bytes = sizeof(iq4_xs),
                                  .decode = iq4_xs_decode,
                                  .canon = NB_CANON_TABLE,
                                  .bits = 4,
                                  .group = 32,
                                  .table = kIq4Table,
                                  .split = iq4_xs_split,
                                  .levels = iq4_xs_levels,
                                  .level_gain = 1.0f};
