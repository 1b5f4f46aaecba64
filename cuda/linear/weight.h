/* weight.h -- how the GPU keeps a matrix W[N,K]: in the order in which tensor cores want it, whatever the number of tokens.
 *
 * Panels of 64 rows, cut along K into units of 64 positions; N and the positions are filled up with zeros. A unit is contiguous, a panel's units
 * follow each other. In it lie 4 blocks of 16 rows, and in a block what each lane of a warp feeds to mma.m16n8k16 as its A operand. With g = lane /
 * 4, t = lane % 4, step i = 0..3 of 16 positions and pair j = 0..3 (register j of A):
 *
 *   row 16 block + g + 8 (j & 1),   positions 16 i + 2t + 8 (j >> 1) and the next
 *
 *   U4    2 KiB  [block][lane] 16 bytes: word i; bits 4j of it the first of pair j, bits 16 + 4j the second
 *   T4    2 KiB  the same, but pair j in byte j, first code low: codes of a table of 16 values
 *   U8    4 KiB  [block][i / 2][lane] 16 bytes: 8 bytes a step, pair j in bytes 2j, 2j + 1
 *   BF16  8 KiB  [block][i][lane] 16 bytes: register j of A as it is
 *
 * Codes of 2 and 3 bits lie as U4, of 5 and 6 as U8. Beside the codes stand lines: what the 64 rows of a panel have for one group of positions, a
 * group being 32 positions or 64 << shift. A line begins with the rows' scales in the order [g][block][row g, row g + 8], so a lane's lie together:
 *
 *   F16     scale f16                        value = gain scale (code - zero), one zero for the matrix;  T4: gain scale table[code]
 *   ZERO    scale f16, then zero u8          value = gain scale (code - zero)
 *   OFFSET  scale f16, then offset f16       value = gain (scale code + offset)
 *   F32     scale f32, then offset f32       value = scale code + offset: what no f16 holds exactly (k-quants)
 *
 * gain is a power of two that brings bf16's and MXFP4's scales into f16's range. So every code and scale is exact; only formats that no row above
 * describes are rounded, to bf16.
 *
 * Positions are inputs in their order, unless groups are irregular (act-order): then src[position] is the input, -1 none, and pos[input] its
 * position; each group begins at a multiple of 32. Activations are gathered once a call (activations.cu). */
#ifndef NB_CUDA_LINEAR_WEIGHT_H
#define NB_CUDA_LINEAR_WEIGHT_H

#include "device.h"
#include "half.h"

constexpr int kPanel = 64, kUnit = 64; /* rows of a panel, positions of a unit */

enum nb_cuda_codes { NB_CUDA_U4, NB_CUDA_T4, NB_CUDA_U8, NB_CUDA_BF16 };
enum nb_cuda_lines { NB_LINE_NONE, NB_LINE_F16, NB_LINE_ZERO, NB_LINE_OFFSET, NB_LINE_F32 };

/* What a kernel gets. */
struct Packed {
    const uint8_t *codes, *lines;
    const int32_t *src, *pos;  /* NULL: positions are inputs */
    int N, K, n_panel, n_unit; /* units a panel */
    int kind;                  /* nb_cuda_lines */
    int line, n_line;          /* bytes of a line, lines a panel */
    int shift;                 /* unit >> shift is its line; -1: two lines a unit */
    float zero, gain;
    uint32_t low[4], high[4]; /* T4: low and high bytes of the table's bf16 values */
};

struct nb_weight {
    int64_t N, K;
    nb_cuda_codes codes;
    size_t bytes;
    void *p; /* device, the only allocation */
    Packed packed;
};

static inline size_t nb_unit_bytes(nb_cuda_codes c)
{
    return c == NB_CUDA_BF16 ? 8192 : c == NB_CUDA_U8 ? 4096 : 2048;
}

/* Scale and offset of a row for one line, value = gain (scale code + offset): `at` is [g][block][h] = 8 g + 2 block + h, 0 to 63. */
DEVI void nb_line_pair(const Packed &w, const uint8_t *line, int at, float *scale, float *offset)
{
    if (w.kind == NB_LINE_F32) {
        const float *f = (const float *)(const void *)line;
        *scale = f[at];
        *offset = f[kPanel + at];
        return;
    }
    const uint16_t *h = (const uint16_t *)(const void *)line;
    const float s = nb_half_get(h + at);
    *scale = s;
    *offset = w.kind == NB_LINE_OFFSET ? nb_half_get(h + kPanel + at) : w.kind == NB_LINE_ZERO ? -s * (float)line[2 * kPanel + at] : -s * w.zero;
}

/* W[n][k], for the ops that look at single values. C: a codec of codec.h, or what it is based on. */
template <class C> DEVI float nb_value(const Packed &w, int n, int k)
{
    const int p = w.pos ? w.pos[k] : k, r = n % kPanel, at = 8 * (r & 7) + 2 * (r >> 4) + (r >> 3 & 1);
    const int64_t panel = n / kPanel;
    const float code = C::value(w, w.codes + (panel * w.n_unit + p / kUnit) * C::kBytes, r, p % kUnit);
    if (!C::kScaled)
        return code;
    const int64_t line = panel * w.n_line + (w.shift < 0 ? p / 32 : p / kUnit >> w.shift);
    float s, base;
    nb_line_pair(w, w.lines + line * w.line, at, &s, &base);
    return w.gain * (s * code + (C::kAffine ? base : 0.0f));
}

#endif
