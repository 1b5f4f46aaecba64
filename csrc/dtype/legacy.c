/* legacy.c -- blocks of 32 values with one f16 scale: q4_0 q4_1 q5_0 q5_1 q8_0. Drawn in
 * docs/FORMATS.md.
 *
 *   q4_0 q5_0 q8_0   value = d * (q - zero), zero 8, 16 and (q8_0 stores q - 128 as int8) 128
 *   q4_1 q5_1        value = d * q + m
 *
 * The encoders give the bytes of ggml's reference encoders (no importance weights): the scale used
 * for the codes is the one before its rounding to f16. Cost: one pass each, O(32) a block. */
#include "dtype/rows.h"
#include "dtype/codes.h"
#include "dtype/scale.h"

#include <float.h>
#include <math.h>

enum { kBlock = 32 };

typedef struct q4_0 {
    uint8_t d[2], qs[16];
} q4_0;
typedef struct q4_1 {
    uint8_t d[2], m[2], qs[16];
} q4_1;
typedef struct q5_0 {
    uint8_t d[2], qh[4], qs[16];
} q5_0;
typedef struct q5_1 {
    uint8_t d[2], m[2], qh[4], qs[16];
} q5_1;
typedef struct q8_0 {
    uint8_t d[2], qs[32];
} q8_0;
_Static_assert(sizeof(q4_0) == 18 && sizeof(q4_1) == 20, "packed");
_Static_assert(sizeof(q5_0) == 22 && sizeof(q5_1) == 24 && sizeof(q8_0) == 34, "packed");

/* The fifth bit of code i is bit i of qh. */
static inline void five_bits(const uint8_t *qs, const uint8_t *qh, uint8_t *code)
{
    const uint32_t high = nb_load_u32(qh);
    codes_nibbles(qs, 16, code);
    for (uint32_t i = 0; i < kBlock; i++)
        code[i] = (uint8_t)(code[i] | (high >> i & 1u) << 4);
}

static inline void put_five_bits(const uint8_t *code, uint8_t *qs, uint8_t *qh)
{
    uint32_t high = 0;
    for (uint32_t i = 0; i < kBlock; i++)
        high |= (uint32_t)(code[i] >> 4 & 1) << i;
    codes_put_nibbles(code, 16, qs);
    memcpy(qh, &high, sizeof high);
}

/* int8 q becomes the unsigned code q + 128: the top bit flipped. */
static inline void flip(const uint8_t *from, uint8_t *to)
{
    for (int i = 0; i < kBlock; i++)
        to[i] = from[i] ^ 0x80u;
}

/* ---- decode ---- */

static void q4_0_decode(const uint8_t *src, float *dst, int64_t n_block)
{
    const q4_0 *b = (const q4_0 *)src;
    for (int64_t i = 0; i < n_block; i++, dst += kBlock) {
        uint8_t code[kBlock];
        codes_nibbles(b[i].qs, 16, code);
        codes_centred(code, kBlock, codes_half(b[i].d), 8, dst);
    }
}

static void q4_1_decode(const uint8_t *src, float *dst, int64_t n_block)
{
    const q4_1 *b = (const q4_1 *)src;
    for (int64_t i = 0; i < n_block; i++, dst += kBlock) {
        uint8_t code[kBlock];
        codes_nibbles(b[i].qs, 16, code);
        codes_affine(code, kBlock, codes_half(b[i].d), codes_half(b[i].m), dst);
    }
}

static void q5_0_decode(const uint8_t *src, float *dst, int64_t n_block)
{
    const q5_0 *b = (const q5_0 *)src;
    for (int64_t i = 0; i < n_block; i++, dst += kBlock) {
        uint8_t code[kBlock];
        five_bits(b[i].qs, b[i].qh, code);
        codes_centred(code, kBlock, codes_half(b[i].d), 16, dst);
    }
}

static void q5_1_decode(const uint8_t *src, float *dst, int64_t n_block)
{
    const q5_1 *b = (const q5_1 *)src;
    for (int64_t i = 0; i < n_block; i++, dst += kBlock) {
        uint8_t code[kBlock];
        five_bits(b[i].qs, b[i].qh, code);
        codes_affine(code, kBlock, codes_half(b[i].d), codes_half(b[i].m), dst);
    }
}

static void q8_0_decode(const uint8_t *src, float *dst, int64_t n_block)
{
    const q8_0 *b = (const q8_0 *)src;
    for (int64_t i = 0; i < n_block; i++, dst += kBlock) {
        const float d = codes_half(b[i].d);
        for (int j = 0; j < kBlock; j++)
            dst[j] = d * (float)(int8_t)b[i].qs[j];
    }
}

/* ---- encode ---- */

/* 0 for 0: a block without a scale has the code of zero (q4_0 q5_0 q8_0) or 0 (q4_1 q5_1), whatever
 * its values. */
static inline float inverse(float d)
{
    return d != 0.0f ? 1.0f / d : 0.0f;
}

/* (int)t held in [0, most]; NaN, which only infinite input can bring, gives the most. */
static inline uint8_t code_of(float t, float most)
{
    const float top = t < most ? t : most;
    return (uint8_t)(int)(top > 0.0f ? top : 0.0f);
}

/* q4_0 and q5_0: codes around `zero`, whose scale is returned, the extreme value at code 0. */
static inline float centred_codes(const float *x, int zero, uint8_t *code)
{
    const float d = extreme_of(x, kBlock) / (float)-zero, id = inverse(d);
    for (int j = 0; j < kBlock; j++)
        code[j] = code_of(x[j] * id + ((float)zero + 0.5f), (float)(2 * zero - 1));
    return d;
}

/* q4_1 and q5_1: codes 0 to `most` from the least value to the greatest. */
static inline float affine_codes(const float *x, int most, uint8_t *code, float *min)
{
    const range r = range_of(x, kBlock, FLT_MAX, -FLT_MAX);
    const float d = (r.hi - r.lo) / (float)most, id = inverse(d);
    for (int j = 0; j < kBlock; j++)
        code[j] = code_of((x[j] - r.lo) * id + 0.5f, (float)most);
    *min = r.lo;
    return d;
}

static void q4_0_encode(const float *src, uint8_t *dst, int64_t n_block)
{
    q4_0 *b = (q4_0 *)dst;
    for (int64_t i = 0; i < n_block; i++, src += kBlock) {
        uint8_t code[kBlock];
        codes_put_half(b[i].d, centred_codes(src, 8, code));
        codes_put_nibbles(code, 16, b[i].qs);
    }
}

static void q4_1_encode(const float *src, uint8_t *dst, int64_t n_block)
{
    q4_1 *b = (q4_1 *)dst;
    for (int64_t i = 0; i < n_block; i++, src += kBlock) {
        uint8_t code[kBlock];
        float min;
        codes_put_half(b[i].d, affine_codes(src, 15, code, &min));
        codes_put_half(b[i].m, min);
        codes_put_nibbles(code, 16, b[i].qs);
    }
}

static void q5_0_encode(const float *src, uint8_t *dst, int64_t n_block)
{
    q5_0 *b = (q5_0 *)dst;
    for (int64_t i = 0; i < n_block; i++, src += kBlock) {
        uint8_t code[kBlock];
        codes_put_half(b[i].d, centred_codes(src, 16, code));
        put_five_bits(code, b[i].qs, b[i].qh);
    }
}

static void q5_1_encode(const float *src, uint8_t *dst, int64_t n_block)
{
    q5_1 *b = (q5_1 *)dst;
    for (int64_t i = 0; i < n_block; i++, src += kBlock) {
        uint8_t code[kBlock];
        float min;
        codes_put_half(b[i].d, affine_codes(src, 31, code, &min));
        codes_put_half(b[i].m, min);
        put_five_bits(code, b[i].qs, b[i].qh);
    }
}

/* roundf (half away from zero) held in [-127, 127]; written so that it vectorises: x - trunc(x) is
 * exact. */
static inline int8_t byte_of(float x)
{
    const float low = x < 127.0f ? x : 127.0f, v = low > -127.0f ? low : -127.0f;
    const int q = (int)v;
    const float rest = v - (float)q;
    return (int8_t)(q + (rest >= 0.5f) - (rest <= -0.5f));
}

static void q8_0_encode(const float *src, uint8_t *dst, int64_t n_block)
{
    q8_0 *b = (q8_0 *)dst;
    for (int64_t i = 0; i < n_block; i++, src += kBlock) {
        const float d = absmax_of(src, kBlock) / 127.0f, id = inverse(d);
        codes_put_half(b[i].d, d);
        for (int j = 0; j < kBlock; j++)
            b[i].qs[j] = (uint8_t)byte_of(src[j] * id);
    }
}

/* ---- canonical form ---- */

static void q4_0_split(const uint8_t *src, int64_t n_block, uint8_t *code, float *scale, float *min)
{
    const q4_0 *b = (const q4_0 *)src;
    for (int64_t i = 0; i < n_block; i++) {
        codes_nibbles(b[i].qs, 16, code + i * kBlock);
        scale[i] = codes_half(b[i].d);
        min[i] = -8.0f * scale[i];
    }
}

static void q4_0_join(const uint8_t *code, const float *scale, const float *min, int64_t n_block,
                      uint8_t *dst)
{
    (void)min;
    q4_0 *b = (q4_0 *)dst;
    for (int64_t i = 0; i < n_block; i++) {
        codes_put_half(b[i].d, scale[i]);
        codes_put_nibbles(code + i * kBlock, 16, b[i].qs);
    }
}

static void q4_1_split(const uint8_t *src, int64_t n_block, uint8_t *code, float *scale, float *min)
{
    const q4_1 *b = (const q4_1 *)src;
    for (int64_t i = 0; i < n_block; i++) {
        codes_nibbles(b[i].qs, 16, code + i * kBlock);
        scale[i] = codes_half(b[i].d);
        min[i] = codes_half(b[i].m);
    }
}

static void q4_1_join(const uint8_t *code, const float *scale, const float *min, int64_t n_block,
                      uint8_t *dst)
{
    q4_1 *b = (q4_1 *)dst;
    for (int64_t i = 0; i < n_block; i++) {
        codes_put_half(b[i].d, scale[i]);
        codes_put_half(b[i].m, min[i]);
        codes_put_nibbles(code + i * kBlock, 16, b[i].qs);
    }
}

static void q5_0_split(const uint8_t *src, int64_t n_block, uint8_t *code, float *scale, float *min)
{
    const q5_0 *b = (const q5_0 *)src;
    for (int64_t i = 0; i < n_block; i++) {
        five_bits(b[i].qs, b[i].qh, code + i * kBlock);
        scale[i] = codes_half(b[i].d);
        min[i] = -16.0f * scale[i];
    }
}

static void q5_0_join(const uint8_t *code, const float *scale, const float *min, int64_t n_block,
                      uint8_t *dst)
{
    (void)min;
    q5_0 *b = (q5_0 *)dst;
    for (int64_t i = 0; i < n_block; i++) {
        codes_put_half(b[i].d, scale[i]);
        put_five_bits(code + i * kBlock, b[i].qs, b[i].qh);
    }
}

static void q5_1_split(const uint8_t *src, int64_t n_block, uint8_t *code, float *scale, float *min)
{
    const q5_1 *b = (const q5_1 *)src;
    for (int64_t i = 0; i < n_block; i++) {
        five_bits(b[i].qs, b[i].qh, code + i * kBlock);
        scale[i] = codes_half(b[i].d);
        min[i] = codes_half(b[i].m);
    }
}

static void q5_1_join(const uint8_t *code, const float *scale, const float *min, int64_t n_block,
                      uint8_t *dst)
{
    q5_1 *b = (q5_1 *)dst;
    for (int64_t i = 0; i < n_block; i++) {
        codes_put_half(b[i].d, scale[i]);
        codes_put_half(b[i].m, min[i]);
        put_five_bits(code + i * kBlock, b[i].qs, b[i].qh);
    }
}

static void q8_0_split(const uint8_t *src, int64_t n_block, uint8_t *code, float *scale, float *min)
{
    const q8_0 *b = (const q8_0 *)src;
    for (int64_t i = 0; i < n_block; i++) {
        flip(b[i].qs, code + i * kBlock);
        scale[i] = codes_half(b[i].d);
        min[i] = -128.0f * scale[i];
    }
}

static void q8_0_join(const uint8_t *code, const float *scale, const float *min, int64_t n_block,
                      uint8_t *dst)
{
    (void)min;
    q8_0 *b = (q8_0 *)dst;
    for (int64_t i = 0; i < n_block; i++) {
        codes_put_half(b[i].d, scale[i]);
        flip(code + i * kBlock, b[i].qs);
    }
}

const nb_dtype nb_dtype_q4_0 = {.name = "q4_0",
                                .ggml_id = 2,
                                .file_type = 2,
                                .block = kBlock,
                                .bytes = sizeof(q4_0),
                                .decode = q4_0_decode,
                                .encode = q4_0_encode,
                                .canon = NB_CANON_AFFINE,
                                .bits = 4,
                                .group = kBlock,
                                .zero = 8,
                                .split = q4_0_split,
                                .join = q4_0_join,
                                .rule = NB_RULE_EXTREME};
const nb_dtype nb_dtype_q4_1 = {.name = "q4_1",
                                .ggml_id = 3,
                                .file_type = 3,
                                .block = kBlock,
                                .bytes = sizeof(q4_1),
                                .decode = q4_1_decode,
                                .encode = q4_1_encode,
                                .canon = NB_CANON_AFFINE,
                                .bits = 4,
                                .group = kBlock,
                                .has_min = true,
                                .split = q4_1_split,
                                .join = q4_1_join,
                                .rule = NB_RULE_AFFINE};
const nb_dtype nb_dtype_q5_0 = {.name = "q5_0",
                                .ggml_id = 6,
                                .file_type = 8,
                                .block = kBlock,
                                .bytes = sizeof(q5_0),
                                .decode = q5_0_decode,
                                .encode = q5_0_encode,
                                .canon = NB_CANON_AFFINE,
                                .bits = 5,
                                .group = kBlock,
                                .zero = 16,
                                .split = q5_0_split,
                                .join = q5_0_join,
                                .rule = NB_RULE_EXTREME};
const nb_dtype nb_dtype_q5_1 = {.name = "q5_1",
                                .ggml_id = 7,
                                .file_type = 9,
                                .block = kBlock,
                                .bytes = sizeof(q5_1),
                                .decode = q5_1_decode,
                                .encode = q5_1_encode,
                                .canon = NB_CANON_AFFINE,
                                .bits = 5,
                                .group = kBlock,
                                .has_min = true,
                                .split = q5_1_split,
                                .join = q5_1_join,
                                .rule = NB_RULE_AFFINE};
const nb_dtype nb_dtype_q8_0 = {.name = "q8_0",
                                .ggml_id = 8,
                                .file_type = 7,
                                .block = kBlock,
                                .bytes = sizeof(q8_0),
                                .decode = q8_0_decode,
                                .encode = q8_0_encode,
                                .canon = NB_CANON_AFFINE,
                                .bits = 8,
                                .group = kBlock,
                                .zero = 128,
                                .split = q8_0_split,
                                .join = q8_0_join,
                                .rule = NB_RULE_ABSMAX};
