/* weight.h -- how the CPU keeps a matrix W[N,K]: tiles of 16 outputs, each tile all of K in one
 * run.
 *
 *   F32    [tile][K][16]             f32
 *   F16    [tile][K][16]             f16
 *   BF16   [tile][ceil(K/2)][16][2]  bf16, two neighbours of K in a lane, as vdpbf16ps reads them
 *   U4     [tile][K/32] blocks:      256 bytes of codes | scales | offsets
 *   U8     [tile][K/32] blocks:      512 bytes of codes | scales | offsets
 *   T4     [tile][K/unit] blocks:    unit / 32 times the 256 bytes of codes of U4 | scales
 *
 *   codes of a U4 block: four vectors of 64 bytes; in vector j lane c (an output) holds
 *     bytes 4c .. 4c+3:  low nibbles k = 8j .. 8j+3,  high nibbles k = 8j+4 .. 8j+7
 *   of a U8 block: eight vectors; lane c of vector j holds k = 4j .. 4j+3
 *   scales   [H][16] f16, or f32 when one of them is no f16; H = 2 when groups are of 16: one for
 *            k < 16 of the block, one for the rest; else 1
 *   offsets  none: value = scale * (code - zero), the same zero in the whole matrix
 *            [H][16] u8: value = scale * (code - zero)
 *            [H][16] of the scales' type: value = scale * code + min
 *   of T4    scales [16] f32, one of each output for the unit inputs of the block, a multiple of
 *            32; value = scale * table[code], the matrix's 16 floats. Always f32: a plan, which
 *            has not read the scales, then knows the size
 *
 * Codes are unsigned. Every affine format whose groups are multiples of 16 lies like this,
 * losslessly: 4 bits or fewer as U4, 5 to 8 as U8; and every format with a table of small integers
 * (or halves of them), whose entries become U8 codes with zero 128. Formats with a table of other
 * floats (NF4, FP4) lie as T4 where their groups are multiples of 32 that divide K. Outputs from N
 * on in the last tile have codes and scales 0. Bytes per weight: F32 4; F16, BF16 2; U4 0.5625 (f16
 * scales) to 0.75 (f32 scales and mins), for groups of 16 0.625 to 1; U8 0.5 more; T4 0.5 + 4 /
 * unit, so 0.5625 for groups of 64. */
#ifndef NB_BACKEND_CPU_WEIGHT_H
#define NB_BACKEND_CPU_WEIGHT_H

#include "backend/backend.h"
#include "dtype/grid.h"

enum { NB_TILE = 16, NB_BLOCK = 32, NB_HALF = 16 };

typedef enum nb_cpu_codes {
    NB_CODES_F32,
    NB_CODES_F16,
    NB_CODES_BF16,
    NB_CODES_U4,
    NB_CODES_U8,
    NB_CODES_T4
} nb_cpu_codes;

typedef enum nb_cpu_offset { NB_OFFSET_CONST, NB_OFFSET_ZERO, NB_OFFSET_MIN } nb_cpu_offset;

struct nb_weight {
    int64_t N, K, n_tile;
    nb_cpu_codes codes;
    nb_cpu_offset offset; /* of U4 and U8 */
    bool wide;            /* scales and mins are f32 */
    int32_t zero;         /* of NB_OFFSET_CONST */
    int32_t unit;         /* inputs that share a scale: 32, 16; T4's group */
    int32_t code_bytes, scale_bytes, block_bytes; /* of a block; 0: floats, which have none */
    float table[NB_TABLE_MOST];                   /* of T4 */
    size_t tile_bytes, bytes;
    uint8_t *p; /* [n_tile][tile_bytes], ours, 64-byte aligned */
};

/* Inputs of a block. */
static inline int64_t nb_weight_block(const nb_weight *w)
{
    return w->unit > NB_BLOCK ? w->unit : NB_BLOCK;
}

static inline const uint8_t *nb_weight_tile(const nb_weight *w, int64_t tile)
{
    return w->p + (size_t)tile * w->tile_bytes;
}

/* Row n of the matrix as f32, exactly as the format decodes (embed.c). */
void nb_cpu_weight_row(const nb_weight *w, int64_t n, float *dst);

#endif
