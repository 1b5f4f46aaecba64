/* lines.h -- scales and offsets out of the lines of weight.h: what a lane of the tiles takes for
 * its two rows, and what one value has.
 *
 * A byte u of two-level scales becomes a scale by two instructions: 0x4700uu00 is 2^15 + u, and fma
 * with d takes the 2^15 (and the 128 that signs need) back: (2^15 + 128) d has 9 + 11 bits, the
 * result 8 + 11, so nothing is rounded. */
#ifndef NB_CUDA_LINEAR_LINES_H
#define NB_CUDA_LINEAR_LINES_H

#include "linear/codec.h"

constexpr float kLevelBase = 32768.0f + 128.0f, kNibbleBase = 32768.0f;

/* d (u - bias), u byte k of a word; less = -base d. */
DEVI float nb_level(uint32_t word, int k, float d, float less)
{
    return fmaf(__uint_as_float(prmt(word, 0x47000000u, 0x7504u | (uint32_t)k << 4)), d, less);
}
DEVI void nb_halves(const uint8_t *p, float (&v)[2])
{
    const uint32_t h = nb_word(p);
    v[0] = nb_half_lo(h);
    v[1] = nb_half_hi(h);
}
DEVI uint32_t nb_short(const uint8_t *p)
{
    return *(const uint16_t *)(const void *)p;
}

/* ---- rows g (0) and g + 8 (1) of a block: at = 8 g + 2 block. The kind is known at run time,
 * whether it may have two levels when compiled; stream.h has its own for each ---- */

template <class C, bool Levels>
DEVI void nb_line_scales(const Packed &w, const uint8_t *line, const uint8_t *super, int at,
                         float (&s)[2])
{
    if (w.kind == (C::kAffine ? NB_LINE_F32 : NB_LINE_SCALE)) {
        const uint2 v = ld_v2(line + 4 * at);
        s[0] = __uint_as_float(v.x);
        s[1] = __uint_as_float(v.y);
    } else if (Levels && nb_super_bytes(w.kind)) {
        const bool nibbles = w.kind == NB_LINE_NIBBLES;
        const uint32_t u = nb_short(line + at) & (nibbles ? 0x0f0fu : 0xffffu);
        float d[2];
        nb_halves(super + 2 * at, d);
        const float base = nibbles ? kNibbleBase : kLevelBase;
        s[0] = nb_level(u, 0, d[0], -base * d[0]);
        s[1] = nb_level(u, 1, d[1], -base * d[1]);
    } else {
        nb_halves(line + 2 * at, s);
    }
}
template <bool Levels>
/* of kinds that have offsets */
DEVI void nb_line_offsets(const Packed &w, const uint8_t *line, const uint8_t *super, int at,
                          float (&b)[2])
{
    if (w.kind == NB_LINE_F32) {
        const uint2 v = ld_v2(line + 4 * (kPanel + at));
        b[0] = __uint_as_float(v.x);
        b[1] = __uint_as_float(v.y);
    } else if (!Levels || w.kind == NB_LINE_OFFSET) {
        nb_halves(line + 2 * (kPanel + at), b);
    } else {
        const bool nibbles = w.kind == NB_LINE_NIBBLES;
        const uint32_t u =
            nibbles ? nb_short(line + at) >> 4 & 0x0f0fu : nb_short(line + kPanel + at);
        float d[2];
        nb_halves(super + 2 * (kPanel + at), d);
        const float base = nibbles ? kNibbleBase : kLevelBase;
        b[0] = nb_level(u, 0, -d[0], base * d[0]);
        b[1] = nb_level(u, 1, -d[1], base * d[1]);
    }
}
/* What makes a fragment the code less its zero: -(bias + zero) twice as bf16, which holds it and
 * the difference exactly (pack.cu sees to that). */
template <class C>
DEVI void nb_line_back(const Packed &w, const uint8_t *line, int at, uint32_t (&back)[2])
{
    float z[2] = {w.zero, w.zero};
    if (w.kind == NB_LINE_ZERO) {
        const uint32_t v = nb_short(line + 2 * kPanel + at);
        /* 2^23 + u, as in U8: no conversion by the slow unit */
        z[0] = __uint_as_float(prmt(v, 0x4b000000u, 0x7440)) - 8388608.0f;
        z[1] = __uint_as_float(prmt(v, 0x4b000000u, 0x7441)) - 8388608.0f;
    }
    back[0] = bf2_pack(-(C::kBias + z[0]), -(C::kBias + z[0]));
    back[1] = bf2_pack(-(C::kBias + z[1]), -(C::kBias + z[1]));
}

/* ---- one value ---- */

/* Scale and offset of a row for one line, value = gain (scale code + offset): `at` is [g][block][h]
 * = 8 g + 2 block + h, 0 to 63. */
template <class C>
DEVI void nb_line_pair(const Packed &w, const uint8_t *line, const uint8_t *super, int at,
                       float *scale, float *offset)
{
    float s[2], o[2] = {0.0f, 0.0f};
    nb_line_scales<C, true>(w, line, super, at & ~1, s);
    *scale = s[at & 1];
    if (nb_has_offsets(w.kind)) {
        nb_line_offsets<true>(w, line, super, at & ~1, o);
        *offset = o[at & 1];
    } else {
        *offset = -*scale * (w.kind == NB_LINE_ZERO ? (float)line[2 * kPanel + at] : w.zero);
    }
}

/* W[n][k], for the ops that look at single values. C: a codec of codec.h, or what it is based
 * on. */
template <class C> DEVI float nb_value(const Packed &w, int n, int k)
{
    const int p = w.pos ? w.pos[k] : k, r = n % kPanel,
              at = 8 * (r & 7) + 2 * (r >> 4) + (r >> 3 & 1), unit = p / kUnit;
    const int64_t panel = n / kPanel;
    const float code = C::value(w, w.codes + (panel * w.n_unit + unit) * C::kBytes, r, p % kUnit);
    if (!C::kScaled)
        return code;
    const int64_t line =
        panel * w.n_line + (w.shift < 0 ? p / (kUnit >> -w.shift) : unit >> w.shift);
    const int64_t super = panel * w.n_super + (unit >> kSuperShift);
    float s, base;
    nb_line_pair<C>(w, w.lines + line * w.line, w.supers + super * w.super, at, &s, &base);
    return w.gain * (s * code + (C::kAffine ? base : 0.0f));
}

#endif
