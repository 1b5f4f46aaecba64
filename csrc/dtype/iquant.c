/* iquant.c -- the iq formats: lattice codebooks (iq1 iq2 iq3) and a fixed table of 16 uneven levels
 * (iq4). Drawn in docs/FORMATS.md.
 *
 *   iq2 iq3        value = (d * s[group]) * grid[index][j] * +-1      8 or 4 values an index
 *   iq1            value = (d * s[group]) * (grid[index][j] +- 1/8)   grid holds -1, 0, 1
 *   iq4_nl iq4_xs  value = (d * s[group]) * table[q]
 *
 * Seven stored sign bits stand for eight: the last makes their number even. All products are exact
 * in f32. Cost: O(256) a block plus a codebook read (2-8 KB, cached) for 4 or 8 values. */
#include "dtype/rows.h"
#include "dtype/codes.h"
#include "dtype/iq_grids.h"

enum { kBlock = 256, kNlBlock = 32 };

typedef struct iq2_xxs {
    uint8_t d[2], a[8][8];
} iq2_xxs;
typedef struct iq2_xs {
    uint8_t d[2], q[32][2], sc[8];
} iq2_xs;
typedef struct iq2_s {
    uint8_t d[2], qs[32], signs[32], qh[8], sc[8];
} iq2_s;
typedef struct iq3_xxs {
    uint8_t d[2], qs[64], ss[8][4];
} iq3_xxs;
typedef struct iq3_s {
    uint8_t d[2], qs[64], qh[8], signs[32], sc[4];
} iq3_s;
typedef struct iq1_s {
    uint8_t d[2], qs[32], qh[8][2];
} iq1_s;
typedef struct iq1_m {
    uint8_t qs[32], qh[16], sc[4][2];
} iq1_m;
typedef struct iq4_nl {
    uint8_t d[2], qs[16];
} iq4_nl;
typedef struct iq4_xs {
    uint8_t d[2], sh[2], sl[4], qs[128];
} iq4_xs;
_Static_assert(sizeof(iq2_xxs) == 66 && sizeof(iq2_xs) == 74 && sizeof(iq2_s) == 82, "packed");
_Static_assert(sizeof(iq3_xxs) == 98 && sizeof(iq3_s) == 110, "packed");
_Static_assert(sizeof(iq1_s) == 50 && sizeof(iq1_m) == 56, "packed");
_Static_assert(sizeof(iq4_nl) == 18 && sizeof(iq4_xs) == 136, "packed");

/* Seven sign bits and the eighth that makes their number even. */
static inline uint32_t with_parity(uint32_t seven)
{
    return seven | (uint32_t)__builtin_parity(seven) << 7;
}

/* n magnitudes from the bytes of a codebook entry, negated where the bit of `signs` is set. */
static inline void magnitudes(uint64_t entry, uint32_t signs, int n, float scale, float *dst)
{
    for (int j = 0; j < n; j++) {
        const float v = scale * (float)(entry >> 8 * j & 255);
        dst[j] = signs >> j & 1 ? -v : v;
    }
}

/* Scales of iq2: a half-odd multiple of a quarter of d. */
static inline float quarter(float d, uint32_t s)
{
    return d * (0.5f + (float)s) * 0.25f;
}

static void iq2_xxs_decode(const uint8_t *src, float *dst, int64_t n_block)
{
    const iq2_xxs *b = (const iq2_xxs *)src;
    for (int64_t i = 0; i < n_block; i++)
        for (int g = 0; g < 8; g++) {
            const uint32_t signs = nb_load_u32(b[i].a[g] + 4);
            const float scale = quarter(codes_half(b[i].d), signs >> 28);
            for (int l = 0; l < 4; l++, dst += 8)
                magnitudes(nb_iq2_xxs_grid[b[i].a[g][l]], with_parity(signs >> 7 * l & 127), 8,
                           scale, dst);
        }
}

static void iq2_xs_decode(const uint8_t *src, float *dst, int64_t n_block)
{
    const iq2_xs *b = (const iq2_xs *)src;
    for (int64_t i = 0; i < n_block; i++)
        for (int at = 0; at < 32; at++, dst += 8) { /* at / 2 is the half group a nibble scales */
            const uint32_t q = nb_load_u16(b[i].q[at]);
            const float scale =
                quarter(codes_half(b[i].d), b[i].sc[at / 4] >> 4 * (at / 2 % 2) & 15);
            magnitudes(nb_iq2_xs_grid[q & 511], with_parity(q >> 9), 8, scale, dst);
        }
}

static void iq2_s_decode(const uint8_t *src, float *dst, int64_t n_block)
{
    const iq2_s *b = (const iq2_s *)src;
    for (int64_t i = 0; i < n_block; i++)
        for (int at = 0; at < 32; at++, dst += 8) {
            const uint32_t high = b[i].qh[at / 4] >> 2 * (at % 4) & 3;
            const float scale =
                quarter(codes_half(b[i].d), b[i].sc[at / 4] >> 4 * (at / 2 % 2) & 15);
            magnitudes(nb_iq2_s_grid[b[i].qs[at] | high << 8], b[i].signs[at], 8, scale, dst);
        }
}

static void iq3_xxs_decode(const uint8_t *src, float *dst, int64_t n_block)
{
    const iq3_xxs *b = (const iq3_xxs *)src;
    for (int64_t i = 0; i < n_block; i++)
        for (int g = 0; g < 8; g++) {
            const uint32_t ss = nb_load_u32(b[i].ss[g]);
            const float scale = codes_half(b[i].d) * (0.5f + (float)(ss >> 28)) * 0.5f;
            for (int l = 0; l < 4; l++, dst += 8) {
                const uint32_t signs = with_parity(ss >> 7 * l & 127);
                const uint8_t *q = &b[i].qs[8 * g + 2 * l];
                magnitudes(nb_iq3_xxs_grid[q[0]], signs, 4, scale, dst);
                magnitudes(nb_iq3_xxs_grid[q[1]], signs >> 4, 4, scale, dst + 4);
            }
        }
}

static void iq3_s_decode(const uint8_t *src, float *dst, int64_t n_block)
{
    const iq3_s *b = (const iq3_s *)src;
    for (int64_t i = 0; i < n_block; i++)
        for (int g = 0; g < 8; g++) {
            const int nibble = b[i].sc[g / 2] >> 4 * (g % 2) & 15;
            const float scale = codes_half(b[i].d) * (float)(1 + 2 * nibble);
            for (int t = 0; t < 8; t++, dst += 4) { /* the ninth bit of index t is bit t of qh */
                const uint32_t index = b[i].qs[8 * g + t] | (b[i].qh[g] >> t & 1u) << 8;
                magnitudes(nb_iq3_s_grid[index], b[i].signs[4 * g + t / 2] >> 4 * (t % 2) & 15u, 4,
                           scale, dst);
            }
        }
}

/* 8 values of iq1: two bits each, less 1, shifted. */
static inline void shifted(uint32_t entry, float scale, float shift, float *dst)
{
    for (int j = 0; j < 8; j++)
        dst[j] = scale * ((float)((int)(entry >> 2 * j & 3) - 1) + shift);
}

static void iq1_s_decode(const uint8_t *src, float *dst, int64_t n_block)
{
    const iq1_s *b = (const iq1_s *)src;
    for (int64_t i = 0; i < n_block; i++)
        for (int g = 0; g < 8; g++) {
            const uint32_t qh = nb_load_u16(b[i].qh[g]); /* shift sign | scale 3 | 4 x index 3 */
            const float scale = codes_half(b[i].d) * (float)(2 * (qh >> 12 & 7) + 1);
            const float shift = qh & 0x8000u ? -0.125f : 0.125f;
            for (int l = 0; l < 4; l++, dst += 8)
                shifted(nb_iq1_s_grid[b[i].qs[4 * g + l] | (qh >> 3 * l & 7) << 8], scale, shift,
                        dst);
        }
}

static void iq1_m_decode(const uint8_t *src, float *dst, int64_t n_block)
{
    const iq1_m *b = (const iq1_m *)src;
    for (int64_t i = 0; i < n_block; i++) {
        uint32_t d = 0; /* the f16 scale is spread over the top nibbles of sc */
        for (int j = 0; j < 4; j++)
            d |= (uint32_t)(nb_load_u16(b[i].sc[j]) >> 12) << 4 * j;
        for (int g = 0; g < 8; g++) {
            const uint32_t sc = (uint32_t)nb_load_u16(b[i].sc[g / 2]) >> 6 * (g % 2);
            for (int l = 0; l < 4; l++, dst += 8) {
                const uint32_t s = sc >> 3 * (l / 2) & 7; /* a scale for 16 values */
                const uint32_t nibble = b[i].qh[2 * g + l / 2] >> 4 * (l % 2) & 15u;
                shifted(nb_iq1_s_grid[b[i].qs[4 * g + l] | (nibble & 7) << 8],
                        nb_f32_from_f16((uint16_t)d) * (float)(2 * s + 1),
                        nibble & 8 ? -0.125f : 0.125f, dst);
            }
        }
    }
}

/* ---- iq4 ---- */

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

/* Group g of 32: 4 low bits of its scale in a nibble of sl, 2 high bits in sh, less 32. */
static inline float iq4_xs_scale(const iq4_xs *b, int g)
{
    const int low = b->sl[g / 2] >> 4 * (g % 2) & 15, high = nb_load_u16(b->sh) >> 2 * g & 3;
    return codes_half(b->d) * (float)((low | high << 4) - 32);
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

const nb_dtype nb_dtype_iq2_xxs = {.name = "iq2_xxs",
                                   .ggml_id = 16,
                                   .block = kBlock,
                                   .bytes = sizeof(iq2_xxs),
                                   .decode = iq2_xxs_decode};
const nb_dtype nb_dtype_iq2_xs = {.name = "iq2_xs",
                                  .ggml_id = 17,
                                  .block = kBlock,
                                  .bytes = sizeof(iq2_xs),
                                  .decode = iq2_xs_decode};
const nb_dtype nb_dtype_iq2_s = {.name = "iq2_s",
                                 .ggml_id = 22,
                                 .block = kBlock,
                                 .bytes = sizeof(iq2_s),
                                 .decode = iq2_s_decode};
const nb_dtype nb_dtype_iq3_xxs = {.name = "iq3_xxs",
                                   .ggml_id = 18,
                                   .block = kBlock,
                                   .bytes = sizeof(iq3_xxs),
                                   .decode = iq3_xxs_decode};
const nb_dtype nb_dtype_iq3_s = {.name = "iq3_s",
                                 .ggml_id = 21,
                                 .block = kBlock,
                                 .bytes = sizeof(iq3_s),
                                 .decode = iq3_s_decode};
const nb_dtype nb_dtype_iq1_s = {.name = "iq1_s",
                                 .ggml_id = 19,
                                 .block = kBlock,
                                 .bytes = sizeof(iq1_s),
                                 .decode = iq1_s_decode};
const nb_dtype nb_dtype_iq1_m = {.name = "iq1_m",
                                 .ggml_id = 29,
                                 .block = kBlock,
                                 .bytes = sizeof(iq1_m),
                                 .decode = iq1_m_decode};
const nb_dtype nb_dtype_iq4_nl = {.name = "iq4_nl",
                                  .ggml_id = 20,
                                  .block = kNlBlock,
                                  .bytes = sizeof(iq4_nl),
                                  .decode = iq4_nl_decode,
                                  .canon = NB_CANON_TABLE,
                                  .bits = 4,
                                  .group = kNlBlock,
                                  .table = kIq4Table,
                                  .split = iq4_nl_split};
const nb_dtype nb_dtype_iq4_xs = {.name = "iq4_xs",
                                  .ggml_id = 23,
                                  .block = kBlock,
                                  .bytes = sizeof(iq4_xs),
                                  .decode = iq4_xs_decode,
                                  .canon = NB_CANON_TABLE,
                                  .bits = 4,
                                  .group = 32,
                                  .table = kIq4Table,
                                  .split = iq4_xs_split};
