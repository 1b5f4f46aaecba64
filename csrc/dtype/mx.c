/* mx.c -- 4-bit floats (E2M1) under a shared 8-bit float scale: mxfp4 nvfp4. Drawn in
 * docs/FORMATS.md.
 *
 *   mxfp4   value = table[q] * 2^(e - 128)      32 values, scale E8M0 (OCP Microscaling 1.0)
 *   nvfp4   value = table[q] * ue4m3(s) / 2     4 groups of 16, scale E4M3 without sign
 *
 * table holds E2M1 times two, so that it is whole numbers; the halves go into the scales. nvfp4's
 * second, per-tensor scale is a tensor of its own ("NAME.scale") and not applied here. Cost:
 * O(block) a block. */
#include "dtype/rows.h"
#include "dtype/codes.h"

typedef struct mxfp4 {
    uint8_t e, qs[16];
} mxfp4;
typedef struct nvfp4 {
    uint8_t s[4], qs[32];
} nvfp4;
_Static_assert(sizeof(mxfp4) == 17 && sizeof(nvfp4) == 36, "packed");
enum { kMxBlock = 32, kNvBlock = 64, kNvGroup = 16 };

static const float kE2m1Twice[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/* 2^(e - 128); 2^-128 and 2^-127 are subnormal, and products with codes of e = 254, 255 may
 * overflow to infinity. */
static inline float exponent_scale(uint8_t e)
{
    return nb_f32_from_bits(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23);
}

static void mxfp4_decode(const uint8_t *src, float *dst, int64_t n_block)
{
    const mxfp4 *b = (const mxfp4 *)src;
    for (int64_t i = 0; i < n_block; i++, dst += kMxBlock) {
        uint8_t code[kMxBlock];
        codes_nibbles(b[i].qs, 16, code);
        codes_looked_up(code, kMxBlock, exponent_scale(b[i].e), kE2m1Twice, dst);
    }
}

static void mxfp4_split(const uint8_t *src, int64_t n_block, uint8_t *code, float *scale,
                        float *min)
{
    const mxfp4 *b = (const mxfp4 *)src;
    for (int64_t i = 0; i < n_block; i++) {
        codes_nibbles(b[i].qs, 16, code + kMxBlock * i);
        scale[i] = exponent_scale(b[i].e);
        min[i] = 0.0f;
    }
}

/* E4M3 with bias 7 in the low seven bits, halved; 0x7f, which is NaN elsewhere, counts as 0. */
static inline float unsigned_e4m3_half(uint8_t s)
{
    return s == 0x7f ? 0.0f : nb_f32_from_bits((uint32_t)(s & 0x7f) << 20) * 0x1p119f;
}

/* Group g lies in 8 bytes: its first 8 values in the low nibbles, the others in the high ones. */
static void nvfp4_codes(const nvfp4 *b, uint8_t *code)
{
    for (int g = 0; g < 4; g++)
        codes_nibbles(b->qs + 8 * g, 8, code + kNvGroup * g);
}

static void nvfp4_decode(const uint8_t *src, float *dst, int64_t n_block)
{
    const nvfp4 *b = (const nvfp4 *)src;
    for (int64_t i = 0; i < n_block; i++) {
        uint8_t code[kNvBlock];
        nvfp4_codes(&b[i], code);
        for (int g = 0; g < 4; g++, dst += kNvGroup)
            codes_looked_up(code + kNvGroup * g, kNvGroup, unsigned_e4m3_half(b[i].s[g]),
                            kE2m1Twice, dst);
    }
}

static void nvfp4_split(const uint8_t *src, int64_t n_block, uint8_t *code, float *scale,
                        float *min)
{
    const nvfp4 *b = (const nvfp4 *)src;
    for (int64_t i = 0; i < n_block; i++) {
        nvfp4_codes(&b[i], code + kNvBlock * i);
        for (int g = 0; g < 4; g++) {
            scale[4 * i + g] = unsigned_e4m3_half(b[i].s[g]);
            min[4 * i + g] = 0.0f;
        }
    }
}

const nb_dtype nb_dtype_mxfp4 = {.name = "mxfp4",
                                 .ggml_id = 39,
                                 .block = kMxBlock,
                                 .bytes = sizeof(mxfp4),
                                 .decode = mxfp4_decode,
                                 .canon = NB_CANON_TABLE,
                                 .bits = 4,
                                 .group = kMxBlock,
                                 .table = kE2m1Twice,
                                 .split = mxfp4_split};
const nb_dtype nb_dtype_nvfp4 = {.name = "nvfp4",
                                 .ggml_id = 40,
                                 .block = kNvBlock,
                                 .bytes = sizeof(nvfp4),
                                 .decode = nvfp4_decode,
                                 .canon = NB_CANON_TABLE,
                                 .bits = 4,
                                 .group = kNvGroup,
                                 .table = kE2m1Twice,
                                 .split = nvfp4_split};
