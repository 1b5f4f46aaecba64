/* weight.h -- how the GPU keeps a matrix W[N,K]: in the order in which tensor cores want it,
 * whatever the number of tokens.
 *
 * Panels of 64 rows, cut along K into units of 64 positions; N and the positions are filled up with
 * zeros. A unit is contiguous, a panel's units follow each other. In it lie 4 blocks of 16 rows,
 * and in a block what each lane of a warp feeds to mma.m16n8k16 as its A operand. With g = lane /
 * 4, t = lane % 4, step i = 0..3 of 16 positions and pair j = 0..3 (register j of A):
 *
 *   row 16 block + g + 8 (j & 1),   positions 16 i + 2t + 8 (j >> 1) and the next
 *
 *   U4    2 KiB    [block][lane] 16 bytes: word i; bits 4j of it the first of pair j, bits 16 + 4j
 *                  the second
 *   T4    2 KiB    the same, but pair j in byte j, first code low: codes of a table of 16 values
 *   U8    4 KiB    [block][i / 2][lane] 16 bytes: 8 bytes a step, pair j in bytes 2j, 2j + 1
 *   BF16  8 KiB    [block][i][lane] 16 bytes: register j of A as it is
 *   U2    1 KiB    a plane of 2 bits        U3    1.5 KiB  that, then a plane of 1 bit: bit 2 of
 *                                                 the codes
 *   U5    2.5 KiB  U4, then a plane of 1 bit: bit 4         U6    3 KiB  U4, then a plane of 2
 *         bits: bits 4 and 5
 *   T3    1.5 KiB  as U3: codes of a table of 8 values
 *
 *   plane of 2 bits   1 KiB      [block][lane] 8 bytes: word i / 2
 *   plane of 1 bit    0.5 KiB    [block][lane] 4 bytes
 *
 * with the bits of a code where codec.h wants to find them (nb_in_two, nb_in_one). Beside the codes
 * stand lines: what the 64 rows of a panel have for one group of positions, a group being 16 or 32
 * positions or 64 << shift. A line begins with the rows' scales in the order [g][block][row g, row
 * g + 8], so a lane's lie together:
 *
 *   F16     scale f16                        value = gain scale (code - zero), one zero for the
 *                                            matrix;  T3, T4: gain scale table[code]
 *   ZERO    scale f16, then zero u8          value = gain scale (code - zero)
 *   LEVEL   scale 128 + s, a byte            value as F16, with scale = d s
 *   SCALE   scale f32                        T4: value = scale table[code]
 *   OFFSET  scale f16, then offset f16       value = gain (scale code + offset)
 *   F32     scale f32, then offset f32       value = scale code + offset: what no f16 holds exactly
 *   LEVELS  scale 128 + s, then 128 + m      value as OFFSET, with scale = d s, offset = -dmin m
 *   NIBBLES a byte s + 16 m                  the same
 *
 * The last two and LEVEL are k-quants and their like: small integers, times an f16 a row and
 * super-block of 256 positions. Those stand in lines of their own, d f16 and then, with offsets,
 * dmin f16.
 *
 * gain is a power of two that brings bf16's and MXFP4's scales into f16's range. So every code and
 * scale is exact; only formats that no row above describes are rounded, to bf16.
 *
 * Positions are inputs in their order, unless groups are irregular (act-order): then src[position]
 * is the input, -1 none, and pos[input] its position; each group begins at a multiple of 32 (16
 * where a codec has four lines a unit and not two). Activations are gathered once a call
 * (activations.cu). */
#ifndef NB_CUDA_LINEAR_WEIGHT_H
#define NB_CUDA_LINEAR_WEIGHT_H

#include "device.h"
#include "half.h"

constexpr int kPanel = 64, kUnit = 64; /* rows of a panel, positions of a unit */
constexpr int kSuperShift = 2;         /* unit >> 2 is its super-block */

enum nb_cuda_codes {
    NB_CUDA_U2,
    NB_CUDA_U3,
    NB_CUDA_U4,
    NB_CUDA_U5,
    NB_CUDA_U6,
    NB_CUDA_U8,
    NB_CUDA_T3,
    NB_CUDA_T4,
    NB_CUDA_BF16
};
enum nb_cuda_lines {
    NB_LINE_NONE,
    NB_LINE_F16,
    NB_LINE_ZERO,
    NB_LINE_LEVEL,
    NB_LINE_SCALE,
    NB_LINE_OFFSET,
    NB_LINE_F32,
    NB_LINE_LEVELS,
    NB_LINE_NIBBLES
};

/* What a kind of line has; all constant where the kind is. */
static constexpr __host__ __device__ int nb_line_bytes(int kind)
{
    constexpr int a_row[] = {0, 2, 3, 1, 4, 4, 8, 2, 1};
    return kPanel * a_row[kind];
}
static constexpr __host__ __device__ int nb_super_bytes(int kind)
{
    return kind == NB_LINE_LEVEL ? 2 * kPanel : kind >= NB_LINE_LEVELS ? 4 * kPanel : 0;
}
static constexpr __host__ __device__ bool nb_has_offsets(int kind)
{
    return kind >= NB_LINE_OFFSET;
}
static constexpr __host__ __device__ bool nb_one_zero(int kind) /* for the whole matrix */
{
    return kind == NB_LINE_F16 || kind == NB_LINE_LEVEL;
}

/* What a kernel gets. */
struct Packed {
    const uint8_t *codes, *lines, *supers;
    const int32_t *src, *pos;  /* NULL: positions are inputs */
    int N, K, n_panel, n_unit; /* units a panel */
    int kind;                  /* nb_cuda_lines */
    int line, n_line;          /* bytes of a line, lines a panel */
    int super, n_super;        /* the same of super-blocks */
    int shift;                 /* unit >> shift is its line; -1: two lines a unit, -2: four */
    float zero, gain;
    uint32_t low[4], high[4]; /* T3, T4: low and high bytes of the table's bf16 values */
};

static __host__ __device__ inline int nb_lines_a_unit(const Packed &w)
{
    return w.shift < 0 ? 1 << -w.shift : 1;
}

struct nb_weight {
    int64_t N, K;
    nb_cuda_codes codes;
    size_t bytes;
    void *p; /* device, the only allocation */
    Packed packed;
    const Packed *self; /* device: the same, for kernels that choose among weights */
};

#endif
