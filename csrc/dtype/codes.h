/* codes.h -- from unsigned codes to values, and the nibble order that most formats share. Private
 * to this folder.
 *
 * The formats here compute a value with exactly one of three formulas; products of an f16 scale (11
 * bits) with at most 13 bits of sub-scale and code are exact in f32's 24, so only the addition of a
 * minimum rounds, and no order of evaluation matters. */
#ifndef NB_DTYPE_CODES_H
#define NB_DTYPE_CODES_H

#include "base/scalar.h"

static inline float codes_half(const uint8_t *p)
{
    return nb_f32_from_f16(nb_load_u16(p));
}
static inline void codes_put_half(uint8_t *p, float v)
{
    const uint16_t h = nb_f16_from_f32(v);
    memcpy(p, &h, sizeof h);
}

/* value = scale * (code - zero): not scale * code - scale * zero, which would turn -0 into 0. */
static inline void codes_centred(const uint8_t *code, int n, float scale, int zero, float *dst)
{
    for (int i = 0; i < n; i++)
        dst[i] = scale * (float)(code[i] - zero);
}
/* value = scale * code + min */
static inline void codes_affine(const uint8_t *code, int n, float scale, float min, float *dst)
{
    for (int i = 0; i < n; i++)
        dst[i] = scale * (float)code[i] + min;
}
/* value = scale * table[code] */
static inline void codes_looked_up(const uint8_t *code, int n, float scale, const float *table,
                                   float *dst)
{
    for (int i = 0; i < n; i++)
        dst[i] = scale * table[code[i]];
}

/* 2 n codes of 4 bits: element i < n is the low nibble of q[i], element n + i its high nibble. */
static inline void codes_nibbles(const uint8_t *q, int n, uint8_t *code)
{
    for (int i = 0; i < n; i++) {
        code[i] = q[i] & 15;
        code[n + i] = q[i] >> 4;
    }
}
static inline void codes_put_nibbles(const uint8_t *code, int n, uint8_t *q)
{
    for (int i = 0; i < n; i++)
        q[i] = (uint8_t)((code[i] & 15) | (code[n + i] & 15) << 4);
}

#endif
