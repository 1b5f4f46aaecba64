/* iquant.c -- the iq formats with lattice codebooks: iq1 iq2 iq3. Drawn in docs/FORMATS.md.
 *
 *   iq2 iq3        value = (d * s[group]) * grid[index][j] * +-1      8 or 4 values an index
 *   iq1            value = (d * s[group]) * (grid[index][j] +- 1/8)   grid holds -1, 0, 1
 *
 * Seven stored sign bits stand for eight: the last makes their number even. A codebook's values are
 * few, so a lattice is a table too: code = magnitude with the sign above it (iq1: digit, with the
 * shift's sign above). A format is one function that reads a block's codes and levels; the rest is
 * shared. All products are exact in f32. Cost: O(256) a block plus a codebook read (2-8 KB, cached)
 * for 4 or 8 values. */
#include "dtype/rows.h"
#include "dtype/codes.h"
#include "dtype/iq_grids.h"

enum { kBlock = 256 };

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
_Static_assert(sizeof(iq2_xxs) == 66 && sizeof(iq2_xs) == 74 && sizeof(iq2_s) == 82, "packed");
_Static_assert(sizeof(iq3_xxs) == 98 && sizeof(iq3_s) == 110, "packed");
_Static_assert(sizeof(iq1_s) == 50 && sizeof(iq1_m) == 56, "packed");

/* Seven sign bits and the eighth that makes their number even. */
static inline uint32_t with_parity(uint32_t seven)
{
    return seven | (uint32_t)__builtin_parity(seven) << 7;
}

/* n codes of a codebook entry: a byte >> `shift` is the number of its magnitude, the sign is bit
 * `top`. */
static inline void signed_codes(uint64_t entry, uint32_t signs, int n, int shift, int top,
                                uint8_t *code)
{
    for (int j = 0; j < n; j++)
        code[j] = (uint8_t)((entry >> 8 * j & 255) >> shift | (signs >> j & 1) << top);
}

/* ---- a block at a time: its f16 factor d, 256 codes, and a level a group: scale = gain d level
 * ---- */

typedef struct block_view {
    uint16_t d;
    uint8_t code[kBlock];
    int8_t level[16];
} block_view;

typedef struct lattice {
    void (*read)(const uint8_t *block, block_view *v);
    int bytes, group;
    float gain;
    const float *table;
} lattice;

static void lattice_decode(const lattice *l, const uint8_t *src, float *dst, int64_t n_block)
{
    for (int64_t i = 0; i < n_block; i++, src += l->bytes) {
        block_view v;
        l->read(src, &v);
        for (int g = 0; g < kBlock / l->group; g++, dst += l->group)
            codes_looked_up(v.code + g * l->group, l->group,
                            nb_f32_from_f16(v.d) * ((float)v.level[g] * l->gain), l->table, dst);
    }
}

static void lattice_split(const lattice *l, const uint8_t *src, int64_t n_block, uint8_t *code,
                          float *scale, float *min)
{
    for (int64_t i = 0; i < n_block; i++, src += l->bytes, code += kBlock) {
        block_view v;
        l->read(src, &v);
        memcpy(code, v.code, sizeof v.code);
        for (int g = 0; g < kBlock / l->group; g++) {
            *scale++ = nb_f32_from_f16(v.d) * ((float)v.level[g] * l->gain);
            *min++ = 0.0f;
        }
    }
}

static void lattice_levels(const lattice *l, const uint8_t *src, int64_t n_block, uint16_t *d,
                           int8_t *level)
{
    for (int64_t i = 0; i < n_block; i++, src += l->bytes, level += kBlock / l->group) {
        block_view v;
        l->read(src, &v);
        d[i] = v.d;
        memcpy(level, v.level, (size_t)(kBlock / l->group));
    }
}

/* ---- iq2: levels are half-odd multiples of a quarter of d, twice that here ---- */

static const float kIq2Table[8] = {8, 25, 43, 0, -8, -25, -43, 0};
enum { kIq2Shift = 4, kIq2Top = 2 }; /* 8, 25 and 43 are 0, 1 and 2 in sixteens */

static void iq2_xxs_read(const uint8_t *block, block_view *v)
{
    const iq2_xxs *b = (const iq2_xxs *)block;
    v->d = nb_load_u16(b->d);
    for (int g = 0; g < 8; g++) {
        const uint32_t signs = nb_load_u32(b->a[g] + 4);
        v->level[g] = (int8_t)(2 * (signs >> 28) + 1);
        for (int l = 0; l < 4; l++)
            signed_codes(nb_iq2_xxs_grid[b->a[g][l]], with_parity(signs >> 7 * l & 127), 8,
                         kIq2Shift, kIq2Top, v->code + 32 * g + 8 * l);
    }
}

/* The half group at / 2 of 16 values is scaled by a nibble. */
static inline int8_t iq2_level(const uint8_t *sc, int half)
{
    return (int8_t)(2 * (sc[half / 2] >> 4 * (half % 2) & 15) + 1);
}

static void iq2_xs_read(const uint8_t *block, block_view *v)
{
    const iq2_xs *b = (const iq2_xs *)block;
    v->d = nb_load_u16(b->d);
    for (int half = 0; half < 16; half++)
        v->level[half] = iq2_level(b->sc, half);
    for (int at = 0; at < 32; at++) {
        const uint32_t q = nb_load_u16(b->q[at]);
        signed_codes(nb_iq2_xs_grid[q & 511], with_parity(q >> 9), 8, kIq2Shift, kIq2Top,
                     v->code + 8 * at);
    }
}

static void iq2_s_read(const uint8_t *block, block_view *v)
{
    const iq2_s *b = (const iq2_s *)block;
    v->d = nb_load_u16(b->d);
    for (int half = 0; half < 16; half++)
        v->level[half] = iq2_level(b->sc, half);
    for (int at = 0; at < 32; at++) {
        const uint32_t high = b->qh[at / 4] >> 2 * (at % 4) & 3;
        signed_codes(nb_iq2_s_grid[b->qs[at] | high << 8], b->signs[at], 8, kIq2Shift, kIq2Top,
                     v->code + 8 * at);
    }
}

/* ---- iq3 ---- */

static const float kIq3XxsTable[16] = {4,  12,  20,  28,  36,  44,  52,  62,
                                       -4, -12, -20, -28, -36, -44, -52, -62};
static const float kIq3STable[16] = {1, 3, 5, 7, 9, 11, 13, 15, -1, -3, -5, -7, -9, -11, -13, -15};
enum { kIq3XxsShift = 3, kIq3SShift = 1, kIq3Top = 3 };

static void iq3_xxs_read(const uint8_t *block, block_view *v)
{
    const iq3_xxs *b = (const iq3_xxs *)block;
    v->d = nb_load_u16(b->d);
    for (int g = 0; g < 8; g++) {
        const uint32_t ss = nb_load_u32(b->ss[g]);
        v->level[g] = (int8_t)(2 * (ss >> 28) + 1);
        for (int l = 0; l < 4; l++) {
            const uint32_t signs = with_parity(ss >> 7 * l & 127);
            const uint8_t *q = &b->qs[8 * g + 2 * l];
            uint8_t *code = v->code + 32 * g + 8 * l;
            signed_codes(nb_iq3_xxs_grid[q[0]], signs, 4, kIq3XxsShift, kIq3Top, code);
            signed_codes(nb_iq3_xxs_grid[q[1]], signs >> 4, 4, kIq3XxsShift, kIq3Top, code + 4);
        }
    }
}

static void iq3_s_read(const uint8_t *block, block_view *v)
{
    const iq3_s *b = (const iq3_s *)block;
    v->d = nb_load_u16(b->d);
    for (int g = 0; g < 8; g++) {
        v->level[g] = (int8_t)(2 * (b->sc[g / 2] >> 4 * (g % 2) & 15) + 1);
        for (int t = 0; t < 8; t++) { /* the ninth bit of index t is bit t of qh */
            const uint32_t index = b->qs[8 * g + t] | (b->qh[g] >> t & 1u) << 8;
            signed_codes(nb_iq3_s_grid[index], b->signs[4 * g + t / 2] >> 4 * (t % 2) & 15u, 4,
                         kIq3SShift, kIq3Top, v->code + 32 * g + 4 * t);
        }
    }
}

/* ---- iq1: the table is in eighths ---- */

static const float kIq1Table[8] = {-9, -1, 7, 0, -7, 1, 9, 0};

/* 8 codes: digits of two bits, 4 more where the shift is up. */
static inline void shifted_codes(uint32_t entry, bool up, uint8_t *code)
{
    for (int j = 0; j < 8; j++)
        code[j] = (uint8_t)((entry >> 2 * j & 3) | (up ? 4u : 0u));
}

static void iq1_s_read(const uint8_t *block, block_view *v)
{
    const iq1_s *b = (const iq1_s *)block;
    v->d = nb_load_u16(b->d);
    for (int g = 0; g < 8; g++) {
        const uint32_t qh = nb_load_u16(b->qh[g]); /* shift sign | scale 3 | 4 x index 3 */
        v->level[g] = (int8_t)(2 * (qh >> 12 & 7) + 1);
        for (int l = 0; l < 4; l++)
            shifted_codes(nb_iq1_s_grid[b->qs[4 * g + l] | (qh >> 3 * l & 7) << 8], !(qh & 0x8000u),
                          v->code + 32 * g + 8 * l);
    }
}

static void iq1_m_read(const uint8_t *block, block_view *v)
{
    const iq1_m *b = (const iq1_m *)block;
    uint32_t d = 0; /* spread over the top nibbles of sc */
    for (int j = 0; j < 4; j++)
        d |= (uint32_t)(nb_load_u16(b->sc[j]) >> 12) << 4 * j;
    v->d = (uint16_t)d;
    for (int g = 0; g < 8; g++) {
        const uint32_t sc = (uint32_t)nb_load_u16(b->sc[g / 2]) >> 6 * (g % 2);
        for (int l = 0; l < 4; l++) {
            const uint32_t nibble = b->qh[2 * g + l / 2] >> 4 * (l % 2) & 15u;
            /* a scale for 16 values */
            v->level[2 * g + l / 2] = (int8_t)(2 * (sc >> 3 * (l / 2) & 7) + 1);
            shifted_codes(nb_iq1_s_grid[b->qs[4 * g + l] | (nibble & 7) << 8], !(nibble & 8),
                          v->code + 32 * g + 8 * l);
        }
    }
}

/* ---- rows ---- */

/* A format: its name, ggml's number, bits of a code, positions that share a level, the factor of d,
 * its values. The table of formats calls functions without an argument of their own, so each gets
 * three. */
#define ROW(type, id, n_bit, n_group, gain, values)                                                \
    static const lattice type##_lattice = {type##_read, sizeof(type), n_group, gain, values};      \
    static void type##_decode(const uint8_t *src, float *dst, int64_t n_block)                     \
    {                                                                                              \
        lattice_decode(&type##_lattice, src, dst, n_block);                                        \
    }                                                                                              \
    static void type##_split(const uint8_t *src, int64_t n_block, uint8_t *code, float *scale,     \
                             float *min)                                                           \
    {                                                                                              \
        lattice_split(&type##_lattice, src, n_block, code, scale, min);                            \
    }                                                                                              \
    static void type##_levels(const uint8_t *src, int64_t n_block, uint16_t *d, int8_t *level)     \
    {                                                                                              \
        lattice_levels(&type##_lattice, src, n_block, d, level);                                   \
    }                                                                                              \
    const nb_dtype nb_dtype_##type = {.name = #type,                                               \
                                      .ggml_id = id,                                               \
                                      .block = kBlock,                                             \
                                      .bytes = sizeof(type),                                       \
                                      .decode = type##_decode,                                     \
                                      .canon = NB_CANON_TABLE,                                     \
                                      .bits = n_bit,                                               \
                                      .group = n_group,                                            \
                                      .table = values,                                             \
                                      .split = type##_split,                                       \
                                      .levels = type##_levels,                                     \
                                      .level_gain = gain}

ROW(iq2_xxs, 16, 3, 32, 0.125f, kIq2Table);
ROW(iq2_xs, 17, 3, 16, 0.125f, kIq2Table);
ROW(iq2_s, 22, 3, 16, 0.125f, kIq2Table);
ROW(iq3_xxs, 18, 4, 32, 0.25f, kIq3XxsTable);
ROW(iq3_s, 21, 4, 32, 1.0f, kIq3STable);
ROW(iq1_s, 19, 3, 32, 0.125f, kIq1Table);
ROW(iq1_m, 29, 3, 16, 0.125f, kIq1Table);
