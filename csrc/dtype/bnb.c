/* bnb.c -- the 4-bit formats of bitsandbytes: nf4 fp4. Drawn in docs/FORMATS.md.
 *
 *   value = absmax * table[q]     64 values a block, absmax their greatest magnitude in f32
 *
 * nf4's levels are quantiles of a normal distribution (Dettmers et al. 2023, QLoRA, section 3),
 * fp4's a float of sign, 2 and 1 bits in an order of its own: twelfths, so that the greatest is 1.
 * In a checkpoint codes and scales are two tensors (csrc/scheme); here, as in all formats, a
 * block's lie together. Both encode as their grid rounds. The product rounds once. Cost: O(1) a
 * value, 15 comparisons when encoding. */
#include "dtype/codes.h"
#include "dtype/grid.h"
#include "dtype/rows.h"

typedef struct bnb4 {
    uint8_t absmax[4], qs[32];
} bnb4;
_Static_assert(sizeof(bnb4) == 36, "packed");
enum { kBlock = 64 };

static const float kNf4Table[16] = {-1.0f,
                                    -0.6961928009986877f,
                                    -0.5250730514526367f,
                                    -0.39491748809814453f,
                                    -0.28444138169288635f,
                                    -0.18477343022823334f,
                                    -0.09105003625154495f,
                                    0.0f,
                                    0.07958029955625534f,
                                    0.16093020141124725f,
                                    0.24611230194568634f,
                                    0.33791524171829224f,
                                    0.44070982933044434f,
                                    0.5626170039176941f,
                                    0.7229568362236023f,
                                    1.0f};
static const float kFp4Table[16] = {
    0.0f,  0.0625f / 12,  8.0f / 12,  1.0f,  4.0f / 12,  0.5f,  2.0f / 12,  0.25f,
    -0.0f, -0.0625f / 12, -8.0f / 12, -1.0f, -4.0f / 12, -0.5f, -2.0f / 12, -0.25f};

/* The first of two values is the high nibble. */
static void codes_of(const bnb4 *b, uint8_t *code)
{
    for (int i = 0; i < kBlock; i++)
        code[i] = (uint8_t)(i % 2 ? b->qs[i / 2] & 15 : b->qs[i / 2] >> 4);
}

static float absmax_in(const bnb4 *b)
{
    return nb_f32_from_bits(nb_load_u32(b->absmax));
}

static void decode(const float *table, const uint8_t *src, float *dst, int64_t n_block)
{
    const bnb4 *b = (const bnb4 *)src;
    for (int64_t i = 0; i < n_block; i++, dst += kBlock) {
        uint8_t code[kBlock];
        codes_of(&b[i], code);
        codes_looked_up(code, kBlock, absmax_in(&b[i]), table, dst);
    }
}
static void nf4_decode(const uint8_t *src, float *dst, int64_t n_block)
{
    decode(kNf4Table, src, dst, n_block);
}
static void fp4_decode(const uint8_t *src, float *dst, int64_t n_block)
{
    decode(kFp4Table, src, dst, n_block);
}

static void split(const uint8_t *src, int64_t n_block, uint8_t *code, float *scale, float *min)
{
    const bnb4 *b = (const bnb4 *)src;
    for (int64_t i = 0; i < n_block; i++) {
        codes_of(&b[i], code + kBlock * i);
        scale[i] = absmax_in(&b[i]);
        min[i] = 0.0f;
    }
}

static void join(const uint8_t *code, const float *scale, const float *min, int64_t n_block,
                 uint8_t *dst)
{
    bnb4 *b = (bnb4 *)dst;
    (void)min;
    for (int64_t i = 0; i < n_block; i++, code += kBlock) {
        memcpy(b[i].absmax, &scale[i], sizeof b[i].absmax);
        for (int j = 0; j < kBlock / 2; j++)
            b[i].qs[j] = (uint8_t)(code[2 * j] << 4 | code[2 * j + 1]);
    }
}

static void nf4_encode(const float *src, uint8_t *dst, int64_t n_block)
{
    nb_grid_encode(&nb_dtype_nf4, src, dst, n_block);
}
static void fp4_encode(const float *src, uint8_t *dst, int64_t n_block)
{
    nb_grid_encode(&nb_dtype_fp4, src, dst, n_block);
}

const nb_dtype nb_dtype_nf4 = {.name = "nf4",
                               .ggml_id = -1,
                               .block = kBlock,
                               .bytes = sizeof(bnb4),
                               .decode = nf4_decode,
                               .encode = nf4_encode,
                               .canon = NB_CANON_TABLE,
                               .bits = 4,
                               .group = kBlock,
                               .table = kNf4Table,
                               .split = split,
                               .join = join,
                               .rule = NB_RULE_TABLE,
                               .scale = NB_SCALE_F32};
const nb_dtype nb_dtype_fp4 = {.name = "fp4",
                               .ggml_id = -1,
                               .block = kBlock,
                               .bytes = sizeof(bnb4),
                               .decode = fp4_decode,
                               .encode = fp4_encode,
                               .canon = NB_CANON_TABLE,
                               .bits = 4,
                               .group = kBlock,
                               .table = kFp4Table,
                               .split = split,
                               .join = join,
                               .rule = NB_RULE_TABLE,
                               .scale = NB_SCALE_F32};
