/* kquant.c -- super-blocks of 256 values with two levels of scales: q2_k q3_k q4_k q5_k q6_k. Drawn
 * in docs/FORMATS.md.
 *
 *   q2_k q4_k q5_k   value = (d * sc[j]) * q - dmin * m[j]     j = i / 16 (q2_k) or i / 32
 *   q3_k q6_k        value = (d * sc[j]) * (q - zero)          j = i / 16, zero 4 and 32
 *
 * Each format is two steps, shared by decode and split: the codes of a block, and the scales of its
 * groups. d * sc[j] has at most 18 bits, times a code at most 24: exact in f32, so the canonical
 * form gives the same bits. Cost: O(256) a block. */
#include "dtype/rows.h"
#include "dtype/codes.h"

enum { kBlock = 256 };

typedef struct q2_k {
    uint8_t sc[16], qs[64], d[2], dmin[2];
} q2_k;
typedef struct q3_k {
    uint8_t hmask[32], qs[64], sc[12], d[2];
} q3_k;
typedef struct q4_k {
    uint8_t d[2], dmin[2], sc[12], qs[128];
} q4_k;
typedef struct q5_k {
    uint8_t d[2], dmin[2], sc[12], qh[32], qs[128];
} q5_k;
typedef struct q6_k {
    uint8_t ql[128], qh[64], sc[16], d[2];
} q6_k;
_Static_assert(sizeof(q2_k) == 84 && sizeof(q3_k) == 110 && sizeof(q4_k) == 144, "packed");
_Static_assert(sizeof(q5_k) == 176 && sizeof(q6_k) == 210, "packed");

/* 256 codes of 2 bits in two halves of 32 bytes; in a half, element 32 c + l is bits 2c, 2c + 1 of
 * byte l. */
static inline void two_bits(const uint8_t *qs, uint8_t *code)
{
    for (int half = 0; half < 2; half++)
        for (int c = 0; c < 4; c++)
            for (int l = 0; l < 32; l++)
                code[128 * half + 32 * c + l] = (uint8_t)(qs[32 * half + l] >> 2 * c & 3);
}

/* ---- q2_k ---- */

static void q2_k_scales(const q2_k *b, float *scale, float *min)
{
    const float d = codes_half(b->d), dmin = codes_half(b->dmin);
    for (int j = 0; j < 16; j++) {
        scale[j] = d * (float)(b->sc[j] & 15);
        min[j] = -(dmin * (float)(b->sc[j] >> 4));
    }
}

static void q2_k_decode(const uint8_t *src, float *dst, int64_t n_block)
{
    const q2_k *b = (const q2_k *)src;
    for (int64_t i = 0; i < n_block; i++, dst += kBlock) {
        uint8_t code[kBlock];
        float scale[16], min[16];
        two_bits(b[i].qs, code);
        q2_k_scales(&b[i], scale, min);
        for (int j = 0; j < 16; j++)
            codes_affine(code + 16 * j, 16, scale[j], min[j], dst + 16 * j);
    }
}

static void q2_k_split(const uint8_t *src, int64_t n_block, uint8_t *code, float *scale, float *min)
{
    const q2_k *b = (const q2_k *)src;
    for (int64_t i = 0; i < n_block; i++) {
        two_bits(b[i].qs, code + kBlock * i);
        q2_k_scales(&b[i], scale + 16 * i, min + 16 * i);
    }
}

static void q2_k_levels(const uint8_t *src, int64_t n_block, uint16_t *d, int8_t *level)
{
    const q2_k *b = (const q2_k *)src;
    for (int64_t i = 0; i < n_block; i++) {
        d[i] = nb_load_u16(b[i].d);
        d[n_block + i] = nb_load_u16(b[i].dmin);
        for (int j = 0; j < 16; j++) {
            level[16 * i + j] = (int8_t)(b[i].sc[j] & 15);
            level[16 * (n_block + i) + j] = (int8_t)(b[i].sc[j] >> 4);
        }
    }
}

/* ---- q3_k: the low two bits as in q2_k, the third of element i is bit i / 32 of hmask[i % 32]
 * ---- */

static void q3_k_codes(const q3_k *b, uint8_t *code)
{
    two_bits(b->qs, code);
    for (int c = 0; c < 8; c++)
        for (int l = 0; l < 32; l++)
            code[32 * c + l] = (uint8_t)(code[32 * c + l] | (b->hmask[l] >> c & 1) << 2);
}

/* 16 scales of 6 bits, less 32: low nibbles of j, j + 8 in byte j; the upper two bits of j in byte
 * 8 + j % 4. */
static inline int q3_k_level(const q3_k *b, int j)
{
    const int low = j < 8 ? b->sc[j] & 15 : b->sc[j - 8] >> 4;
    const int high = b->sc[8 + j % 4] >> 2 * (j / 4) & 3;
    return (low | high << 4) - 32;
}

static void q3_k_scales(const q3_k *b, float *scale)
{
    const float d = codes_half(b->d);
    for (int j = 0; j < 16; j++)
        scale[j] = d * (float)q3_k_level(b, j);
}

static void q3_k_decode(const uint8_t *src, float *dst, int64_t n_block)
{
    const q3_k *b = (const q3_k *)src;
    for (int64_t i = 0; i < n_block; i++, dst += kBlock) {
        uint8_t code[kBlock];
        float scale[16];
        q3_k_codes(&b[i], code);
        q3_k_scales(&b[i], scale);
        for (int j = 0; j < 16; j++)
            codes_centred(code + 16 * j, 16, scale[j], 4, dst + 16 * j);
    }
}

static void q3_k_split(const uint8_t *src, int64_t n_block, uint8_t *code, float *scale, float *min)
{
    const q3_k *b = (const q3_k *)src;
    for (int64_t i = 0; i < n_block; i++) {
        q3_k_codes(&b[i], code + kBlock * i);
        q3_k_scales(&b[i], scale + 16 * i);
        for (int64_t j = 16 * i; j < 16 * i + 16; j++)
            min[j] = -4.0f * scale[j];
    }
}

static void q3_k_levels(const uint8_t *src, int64_t n_block, uint16_t *d, int8_t *level)
{
    const q3_k *b = (const q3_k *)src;
    for (int64_t i = 0; i < n_block; i++) {
        d[i] = nb_load_u16(b[i].d);
        for (int j = 0; j < 16; j++)
            level[16 * i + j] = (int8_t)q3_k_level(&b[i], j);
    }
}

/* ---- q4_k, q5_k: 8 scales and 8 minima of 6 bits in 12 bytes ----
 *
 *   byte j      s[j] in bits 0-5, upper 2 bits of s[j + 4] in 6-7       j = 0..3
 *   byte 4 + j  m[j] in bits 0-5, upper 2 bits of m[j + 4] in 6-7
 *   byte 8 + j  low nibble s[j + 4], high nibble m[j + 4] */
static void k_levels(const uint8_t *sc, int8_t *scale, int8_t *min)
{
    for (int j = 0; j < 4; j++) {
        scale[j] = (int8_t)(sc[j] & 63);
        min[j] = (int8_t)(sc[4 + j] & 63);
        scale[4 + j] = (int8_t)((sc[8 + j] & 15) | sc[j] >> 6 << 4);
        min[4 + j] = (int8_t)(sc[8 + j] >> 4 | sc[4 + j] >> 6 << 4);
    }
}

static void k_scales(const uint8_t *d, const uint8_t *dmin, const uint8_t *sc, float *scale,
                     float *min)
{
    const float ds = codes_half(d), dm = codes_half(dmin);
    int8_t s[8], m[8];
    k_levels(sc, s, m);
    for (int j = 0; j < 8; j++) {
        scale[j] = ds * (float)s[j];
        min[j] = -(dm * (float)m[j]);
    }
}

/* Pair p of groups (64 values) lies in 32 bytes: group 2p in the low nibbles, 2p + 1 in the high
 * ones. */
static inline void q4_k_codes(const q4_k *b, uint8_t *code)
{
    for (int p = 0; p < 4; p++)
        codes_nibbles(b->qs + 32 * p, 32, code + 64 * p);
}

static void q4_k_decode(const uint8_t *src, float *dst, int64_t n_block)
{
    const q4_k *b = (const q4_k *)src;
    for (int64_t i = 0; i < n_block; i++, dst += kBlock) {
        uint8_t code[kBlock];
        float scale[8], min[8];
        q4_k_codes(&b[i], code);
        k_scales(b[i].d, b[i].dmin, b[i].sc, scale, min);
        for (int j = 0; j < 8; j++)
            codes_affine(code + 32 * j, 32, scale[j], min[j], dst + 32 * j);
    }
}

static void q4_k_levels(const uint8_t *src, int64_t n_block, uint16_t *d, int8_t *level)
{
    const q4_k *b = (const q4_k *)src;
    for (int64_t i = 0; i < n_block; i++) {
        d[i] = nb_load_u16(b[i].d);
        d[n_block + i] = nb_load_u16(b[i].dmin);
        k_levels(b[i].sc, level + 8 * i, level + 8 * (n_block + i));
    }
}

static void q4_k_split(const uint8_t *src, int64_t n_block, uint8_t *code, float *scale, float *min)
{
    const q4_k *b = (const q4_k *)src;
    for (int64_t i = 0; i < n_block; i++) {
        q4_k_codes(&b[i], code + kBlock * i);
        k_scales(b[i].d, b[i].dmin, b[i].sc, scale + 8 * i, min + 8 * i);
    }
}

/* The fifth bit of element i is bit i / 32 of qh[i % 32]. */
static inline void q5_k_codes(const q5_k *b, uint8_t *code)
{
    for (int p = 0; p < 4; p++)
        codes_nibbles(b->qs + 32 * p, 32, code + 64 * p);
    for (int c = 0; c < 8; c++)
        for (int l = 0; l < 32; l++)
            code[32 * c + l] = (uint8_t)(code[32 * c + l] | (b->qh[l] >> c & 1) << 4);
}

static void q5_k_decode(const uint8_t *src, float *dst, int64_t n_block)
{
    const q5_k *b = (const q5_k *)src;
    for (int64_t i = 0; i < n_block; i++, dst += kBlock) {
        uint8_t code[kBlock];
        float scale[8], min[8];
        q5_k_codes(&b[i], code);
        k_scales(b[i].d, b[i].dmin, b[i].sc, scale, min);
        for (int j = 0; j < 8; j++)
            codes_affine(code + 32 * j, 32, scale[j], min[j], dst + 32 * j);
    }
}

static void q5_k_levels(const uint8_t *src, int64_t n_block, uint16_t *d, int8_t *level)
{
    const q5_k *b = (const q5_k *)src;
    for (int64_t i = 0; i < n_block; i++) {
        d[i] = nb_load_u16(b[i].d);
        d[n_block + i] = nb_load_u16(b[i].dmin);
        k_levels(b[i].sc, level + 8 * i, level + 8 * (n_block + i));
    }
}

static void q5_k_split(const uint8_t *src, int64_t n_block, uint8_t *code, float *scale, float *min)
{
    const q5_k *b = (const q5_k *)src;
    for (int64_t i = 0; i < n_block; i++) {
        q5_k_codes(&b[i], code + kBlock * i);
        k_scales(b[i].d, b[i].dmin, b[i].sc, scale + 8 * i, min + 8 * i);
    }
}

/* ---- q6_k ----
 *
 * Element 128 n + 32 c + l: low nibble of 4 bits in ql[64 n + 32 (c & 1) + l], the low one for c <
 * 2, else the high one; upper two bits at 2c of qh[32 n + l]. */
static inline void q6_k_codes(const q6_k *b, uint8_t *code)
{
    for (int n = 0; n < 2; n++) {
        codes_nibbles(b->ql + 64 * n, 64, code + 128 * n);
        for (int c = 0; c < 4; c++)
            for (int l = 0; l < 32; l++) {
                uint8_t *q = &code[128 * n + 32 * c + l];
                *q = (uint8_t)(*q | (b->qh[32 * n + l] >> 2 * c & 3) << 4);
            }
    }
}

static void q6_k_scales(const q6_k *b, float *scale)
{
    const float d = codes_half(b->d);
    for (int j = 0; j < 16; j++)
        scale[j] = d * (float)(int8_t)b->sc[j];
}

static void q6_k_decode(const uint8_t *src, float *dst, int64_t n_block)
{
    const q6_k *b = (const q6_k *)src;
    for (int64_t i = 0; i < n_block; i++, dst += kBlock) {
        uint8_t code[kBlock];
        float scale[16];
        q6_k_codes(&b[i], code);
        q6_k_scales(&b[i], scale);
        for (int j = 0; j < 16; j++)
            codes_centred(code + 16 * j, 16, scale[j], 32, dst + 16 * j);
    }
}

static void q6_k_split(const uint8_t *src, int64_t n_block, uint8_t *code, float *scale, float *min)
{
    const q6_k *b = (const q6_k *)src;
    for (int64_t i = 0; i < n_block; i++) {
        q6_k_codes(&b[i], code + kBlock * i);
        q6_k_scales(&b[i], scale + 16 * i);
        for (int64_t j = 16 * i; j < 16 * i + 16; j++)
            min[j] = -32.0f * scale[j];
    }
}

static void q6_k_levels(const uint8_t *src, int64_t n_block, uint16_t *d, int8_t *level)
{
    const q6_k *b = (const q6_k *)src;
    for (int64_t i = 0; i < n_block; i++) {
        d[i] = nb_load_u16(b[i].d);
        memcpy(level + 16 * i, b[i].sc, sizeof b[i].sc);
    }
}

const nb_dtype nb_dtype_q2_k = {.name = "q2_k",
                                .ggml_id = 10,
                                .block = kBlock,
                                .bytes = sizeof(q2_k),
                                .decode = q2_k_decode,
                                .canon = NB_CANON_AFFINE,
                                .bits = 2,
                                .group = 16,
                                .has_min = true,
                                .split = q2_k_split,
                                .levels = q2_k_levels,
                                .level_gain = 1.0f};
const nb_dtype nb_dtype_q3_k = {.name = "q3_k",
                                .ggml_id = 11,
                                .block = kBlock,
                                .bytes = sizeof(q3_k),
                                .decode = q3_k_decode,
                                .canon = NB_CANON_AFFINE,
                                .bits = 3,
                                .group = 16,
                                .zero = 4,
                                .split = q3_k_split,
                                .levels = q3_k_levels,
                                .level_gain = 1.0f};
const nb_dtype nb_dtype_q4_k = {.name = "q4_k",
                                .ggml_id = 12,
                                .block = kBlock,
                                .bytes = sizeof(q4_k),
                                .decode = q4_k_decode,
                                .canon = NB_CANON_AFFINE,
                                .bits = 4,
                                .group = 32,
                                .has_min = true,
                                .split = q4_k_split,
                                .levels = q4_k_levels,
                                .level_gain = 1.0f};
const nb_dtype nb_dtype_q5_k = {.name = "q5_k",
                                .ggml_id = 13,
                                .block = kBlock,
                                .bytes = sizeof(q5_k),
                                .decode = q5_k_decode,
                                .canon = NB_CANON_AFFINE,
                                .bits = 5,
                                .group = 32,
                                .has_min = true,
                                .split = q5_k_split,
                                .levels = q5_k_levels,
                                .level_gain = 1.0f};
const nb_dtype nb_dtype_q6_k = {.name = "q6_k",
                                .ggml_id = 14,
                                .block = kBlock,
                                .bytes = sizeof(q6_k),
                                .decode = q6_k_decode,
                                .canon = NB_CANON_AFFINE,
                                .bits = 6,
                                .group = 16,
                                .zero = 32,
                                .split = q6_k_split,
                                .levels = q6_k_levels,
                                .level_gain = 1.0f};
