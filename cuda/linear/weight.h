/* weight.h -- how the GPU keeps a matrix W[N,K].
 *
 *   U4    codes [N][K/32][16 bytes]: byte j holds k = j (low nibble) and k = j + 16 (high) of its 32
 *         scale [N][K/32] f16,  offset [N][K/32] f16 or none
 *         value = scale * (code - zero) or scale * code + offset
 *   BF16  [N][K]: every other format, decoded and rounded once while packing
 *
 * U4 holds the values exactly as Q4_0 and Q4_1 define them: 4.5 or 5 bits a weight. */
#ifndef NB_CUDA_LINEAR_WEIGHT_H
#define NB_CUDA_LINEAR_WEIGHT_H

#include "device.h"
#include "half.h"

constexpr int kUnit = 32; /* inputs that share a scale */

enum nb_cuda_codes { NB_CUDA_U4, NB_CUDA_BF16 };

struct nb_weight {
    int64_t N, K;
    nb_cuda_codes codes;
    bool has_offset;
    int zero;
    size_t bytes;
    void *p; /* device, the only allocation: codes first */
    const uint16_t *scale, *offset;
};

/* What a kernel gets: plain pointers. */
struct U4 {
    const uint8_t *codes;
    const uint16_t *scale, *offset;
    int zero;
    int N, K;
};
struct Bf16 {
    const uint16_t *v;
    int N, K;
};

/* The affine pair of a unit: value = s * code + base. */
DEVI void nb_u4_pair(const U4 &w, int64_t unit, float *s, float *base)
{
    *s = nb_half_get(w.scale + unit);
    *base = w.offset ? nb_half_get(w.offset + unit) : -*s * (float)w.zero;
}

/* W[n][k] for the ops that look at single values. */
DEVI float nb_value(const U4 &w, int n, int k)
{
    const int64_t unit = ((int64_t)n * w.K + k) / kUnit;
    const int in = k % kUnit;
    const uint8_t b = w.codes[unit * 16 + in % 16];
    float s, base;
    nb_u4_pair(w, unit, &s, &base);
    return s * (float)(in < 16 ? b & 15 : b >> 4) + base;
}
DEVI float nb_value(const Bf16 &w, int n, int k)
{
    return __uint_as_float((uint32_t)w.v[(int64_t)n * w.K + k] << 16);
}

static inline U4 nb_u4_of(const nb_weight *w)
{
    return {(const uint8_t *)w->p, w->scale, w->has_offset ? w->offset : NULL, w->zero, (int)w->N, (int)w->K};
}
static inline Bf16 nb_bf16_of(const nb_weight *w)
{
    return {(const uint16_t *)w->p, (int)w->N, (int)w->K};
}

#endif
