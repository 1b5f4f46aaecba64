/* ternary.c -- very few bits and one f16 scale a block: tq1_0 tq2_0 (ternary), q2_0 q1_0. Drawn in
 * docs/FORMATS.md.
 *
 *   tq1_0        value = d * (q - 1)   q in 0..2, five base-3 digits a byte
 *   tq2_0 q2_0   value = d * (q - 1)   q of two bits, so that 3 can appear
 *   q1_0         value = +-d           codes 0 and 2, so that it shares zero 1 and 2 bits
 *
 * Cost: O(block) a block. */
#include "dtype/rows.h"
#include "dtype/codes.h"

typedef struct tq1_0 {
    uint8_t qs[48], qh[4], d[2];
} tq1_0;
typedef struct tq2_0 {
    uint8_t qs[64], d[2];
} tq2_0;
typedef struct q2_0 {
    uint8_t d[2], qs[16];
} q2_0;
typedef struct q1_0 {
    uint8_t d[2], qs[16];
} q1_0;
_Static_assert(sizeof(tq1_0) == 54 && sizeof(tq2_0) == 66, "packed");
_Static_assert(sizeof(q2_0) == 18 && sizeof(q1_0) == 18, "packed");
enum { kTernaryBlock = 256, kQ2Block = 64, kQ1Block = 128 };

/* n_digit base-3 digits of n bytes, digit t of byte i to code[t n + i]. A byte b stands for the
 * fraction b / 256; its first digit is floor(3 b / 256), and b 3^t mod 256 is the fraction that
 * remains after t digits. */
static inline uint8_t *digits(const uint8_t *q, int n, int n_digit, uint8_t *code)
{
    uint8_t power = 1;
    for (int t = 0; t < n_digit; t++, power = (uint8_t)(3 * power), code += n)
        for (int i = 0; i < n; i++)
            code[i] = (uint8_t)((uint8_t)(q[i] * power) * 3 >> 8);
    return code;
}

static void tq1_0_codes(const tq1_0 *b, uint8_t *code)
{
    code = digits(b->qs, 32, 5, code);      /* elements 0..159 */
    code = digits(b->qs + 32, 16, 5, code); /* 160..239 */
    digits(b->qh, 4, 4, code);              /* 240..255 */
}

static void tq1_0_decode(const uint8_t *src, float *dst, int64_t n_block)
{
    const tq1_0 *b = (const tq1_0 *)src;
    for (int64_t i = 0; i < n_block; i++, dst += kTernaryBlock) {
        uint8_t code[kTernaryBlock];
        tq1_0_codes(&b[i], code);
        codes_centred(code, kTernaryBlock, codes_half(b[i].d), 1, dst);
    }
}

static void tq1_0_split(const uint8_t *src, int64_t n_block, uint8_t *code, float *scale,
                        float *min)
{
    const tq1_0 *b = (const tq1_0 *)src;
    for (int64_t i = 0; i < n_block; i++) {
        tq1_0_codes(&b[i], code + kTernaryBlock * i);
        scale[i] = codes_half(b[i].d);
        min[i] = -scale[i];
    }
}

/* Two halves of 32 bytes; in a half, element 32 c + l is bits 2c, 2c + 1 of byte l. */
static void tq2_0_codes(const tq2_0 *b, uint8_t *code)
{
    for (int half = 0; half < 2; half++)
        for (int c = 0; c < 4; c++)
            for (int l = 0; l < 32; l++)
                code[128 * half + 32 * c + l] = (uint8_t)(b->qs[32 * half + l] >> 2 * c & 3);
}

static void tq2_0_decode(const uint8_t *src, float *dst, int64_t n_block)
{
    const tq2_0 *b = (const tq2_0 *)src;
    for (int64_t i = 0; i < n_block; i++, dst += kTernaryBlock) {
        uint8_t code[kTernaryBlock];
        tq2_0_codes(&b[i], code);
        codes_centred(code, kTernaryBlock, codes_half(b[i].d), 1, dst);
    }
}

static void tq2_0_split(const uint8_t *src, int64_t n_block, uint8_t *code, float *scale,
                        float *min)
{
    const tq2_0 *b = (const tq2_0 *)src;
    for (int64_t i = 0; i < n_block; i++) {
        tq2_0_codes(&b[i], code + kTernaryBlock * i);
        scale[i] = codes_half(b[i].d);
        min[i] = -scale[i];
    }
}

static void q2_0_codes(const q2_0 *b, uint8_t *code)
{
    for (int i = 0; i < kQ2Block; i++)
        code[i] = (uint8_t)(b->qs[i / 4] >> 2 * (i % 4) & 3);
}

static void q2_0_decode(const uint8_t *src, float *dst, int64_t n_block)
{
    const q2_0 *b = (const q2_0 *)src;
    for (int64_t i = 0; i < n_block; i++, dst += kQ2Block) {
        uint8_t code[kQ2Block];
        q2_0_codes(&b[i], code);
        codes_centred(code, kQ2Block, codes_half(b[i].d), 1, dst);
    }
}

static void q2_0_split(const uint8_t *src, int64_t n_block, uint8_t *code, float *scale, float *min)
{
    const q2_0 *b = (const q2_0 *)src;
    for (int64_t i = 0; i < n_block; i++) {
        q2_0_codes(&b[i], code + kQ2Block * i);
        scale[i] = codes_half(b[i].d);
        min[i] = -scale[i];
    }
}

static void q1_0_codes(const q1_0 *b, uint8_t *code)
{
    for (int i = 0; i < kQ1Block; i++)
        code[i] = (uint8_t)((b->qs[i / 8] >> i % 8 & 1) << 1);
}

static void q1_0_decode(const uint8_t *src, float *dst, int64_t n_block)
{
    const q1_0 *b = (const q1_0 *)src;
    for (int64_t i = 0; i < n_block; i++, dst += kQ1Block) {
        uint8_t code[kQ1Block];
        q1_0_codes(&b[i], code);
        codes_centred(code, kQ1Block, codes_half(b[i].d), 1, dst);
    }
}

static void q1_0_split(const uint8_t *src, int64_t n_block, uint8_t *code, float *scale, float *min)
{
    const q1_0 *b = (const q1_0 *)src;
    for (int64_t i = 0; i < n_block; i++) {
        q1_0_codes(&b[i], code + kQ1Block * i);
        scale[i] = codes_half(b[i].d);
        min[i] = -scale[i];
    }
}

const nb_dtype nb_dtype_tq1_0 = {.name = "tq1_0",
                                 .ggml_id = 34,
                                 .block = kTernaryBlock,
                                 .bytes = sizeof(tq1_0),
                                 .decode = tq1_0_decode,
                                 .canon = NB_CANON_AFFINE,
                                 .bits = 2,
                                 .group = kTernaryBlock,
                                 .zero = 1,
                                 .split = tq1_0_split};
const nb_dtype nb_dtype_tq2_0 = {.name = "tq2_0",
                                 .ggml_id = 35,
                                 .block = kTernaryBlock,
                                 .bytes = sizeof(tq2_0),
                                 .decode = tq2_0_decode,
                                 .canon = NB_CANON_AFFINE,
                                 .bits = 2,
                                 .group = kTernaryBlock,
                                 .zero = 1,
                                 .split = tq2_0_split};
const nb_dtype nb_dtype_q2_0 = {.name = "q2_0",
                                .ggml_id = 42,
                                .block = kQ2Block,
                                .bytes = sizeof(q2_0),
                                .decode = q2_0_decode,
                                .canon = NB_CANON_AFFINE,
                                .bits = 2,
                                .group = kQ2Block,
                                .zero = 1,
                                .split = q2_0_split};
const nb_dtype nb_dtype_q1_0 = {.name = "q1_0",
                                .ggml_id = 41,
                                .block = kQ1Block,
                                .bytes = sizeof(q1_0),
                                .decode = q1_0_decode,
                                .canon = NB_CANON_AFFINE,
                                .bits = 2,
                                .group = kQ1Block,
                                .zero = 1,
                                .split = q1_0_split};
