/* linear.h -- what the rows of linear share: the activations of a call, where a sum goes, and how
 * work lies on the grid.
 *
 * Activations are brought once a call (activations.cu) into the order of mma's B operand, bf16,
 * gathered as the weight's positions want them:
 *
 *   x   [unit][token / 8][half][lane] 16 bytes: steps 2 half and 2 half + 1, two registers each:
 *       token g, positions 16 i + 2t (+ 8) and the next
 *   sum [line within a unit][token] f32: the sum of the rounded x over its positions, where offsets
 *       need it
 *
 * so a lane reads its operands of 64 positions in two loads of 16 bytes, and no ldmatrix is wanted.
 * Or, for rows that multiply by wgmma, as its B operand lies in shared memory with the 128-byte
 * swizzle:
 *
 *   x   [unit][token / 8][token][chunk ^ token % 8] 16 bytes: positions 8 chunk to 8 chunk + 7
 *
 * so the tokens of a tile are one contiguous copy. Tokens are filled up with zeros.
 *
 * Work is cut into units of 64 positions of a tile of outputs; tiles x units lie on one line, and
 * each block of the grid takes a piece of it of equal length (within one). So all blocks end
 * together whatever the shape. A tile that several blocks share is added up by the last of them to
 * come, from the partial sums that each left in scratch, in the order of the blocks: the bits do
 * not depend on who comes last. */
#ifndef NB_CUDA_LINEAR_LINEAR_H
#define NB_CUDA_LINEAR_LINEAR_H

#include "linear/lines.h"
#include "norm/norm.h"
#include "pointwise/gated.h"
#include "turn.h"
#include "vector.h"

struct Io { /* y = through(x) W^T (+ bias) (+ y) */
    const float *x, *bias;
    float *y;
    int64_t ldx, ldy;
    int M;
    int add;
    nb_through through;
};

struct Scratch {        /* of a call */
    uint8_t *x;         /* [n_unit][n_oct][1024] */
    float *sum;         /* [n_unit][lines a unit][8 n_oct] */
    float *part;        /* [2 blocks][tile] partial sums: of a block's first tile, of its last */
    unsigned *count;    /* [tiles] for turn.h; zeroed by activations */
    int n_oct, n_count; /* groups of 8 tokens */
};

/* The input that a position of the weight stands for, or -1 where there is none. */
DEVI int nb_input_at(const Packed &w, int position)
{
    const int k = w.src ? w.src[position] : position;
    return k < w.K ? k : -1;
}
/* What x is multiplied by on its way, a row of a token: the weight of its norm, or what the
 * activation of x gates; NULL: nothing. */
DEVI const float *nb_factors(const Io &io, int token)
{
    return io.through.norm ? io.through.norm
           : io.through.up ? io.through.up + token * io.ldx
                           : NULL;
}
/* r: the norm's own, of the token. */
DEVI float nb_put_through(const Io &io, float x, float factor, float r)
{
    return io.through.norm ? x * r * factor
           : io.through.up ? nb_gated(io.through.act == NB_ACT_GELU_TANH, x, factor)
                           : x;
}
/* x at a position of the weight, through what the call says; or 0 where there is none. */
DEVI float nb_input(const Packed &w, const Io &io, int token, int position, float r)
{
    const int k = token < io.M ? nb_input_at(w, position) : -1;
    const float *factor = nb_factors(io, token);
    return k < 0 ? 0.0f
                 : nb_put_through(io, io.x[token * io.ldx + k], factor ? factor[k] : 1.0f, r);
}
/* Whether inputs lie in the order of the positions, and so that nb_load takes them. */
DEVI bool nb_whole_inputs(const Packed &w, const Io &io)
{
    return !w.src && nb_whole_rows(io.x, io.ldx) && nb_whole_rows(io.through.norm, 0) &&
           nb_whole_rows(io.through.up, 0);
}
/* nb_input of n neighbouring positions, the first a multiple of n; whole: of nb_whole_inputs */
template <int n>
DEVI void nb_inputs(const Packed &w, const Io &io, bool whole, int token, int position, float r,
                    float (&v)[n])
{
    if (!whole || token >= io.M || position + n > w.K) {
#pragma unroll
        for (int i = 0; i < n; i++)
            v[i] = nb_input(w, io, token, position + i, r);
        return;
    }
    nb_load(io.x + token * io.ldx + position, v);
    const float *factor = nb_factors(io, token);
    if (!factor)
        return;
    float f[n];
    nb_load(factor + position, f);
#pragma unroll
    for (int i = 0; i < n; i++)
        v[i] = nb_put_through(io, v[i], f[i], r);
}
DEVI void nb_store(const Io &io, int m, int n, float v)
{
    float *y = io.y + m * io.ldy + n;
    if (io.bias)
        v += io.bias[n];
    *y = io.add ? *y + v : v;
}

/* ---- pieces of the line of units ---- */

DEVI int nb_piece_begin(int64_t total, int block, int n_block)
{
    return (int)(total * block / n_block);
}
/* the block whose piece holds the unit */
DEVI int nb_piece_owner(int64_t total, int unit, int n_block)
{
    return (int)(((int64_t)(unit + 1) * n_block - 1) / total);
}
/* Where a block's partial sums of a tile lie: 0 for the tile its piece begins in, else 1. */
DEVI int nb_piece_slot(int64_t total, int block, int n_block, int tile, int n_unit)
{
    return 2 * block + (nb_piece_begin(total, block, n_block) < tile * n_unit);
}

/* ---- rows ---- */

/* What a row has that does not multiply tiles itself (NULL in those that do). */
struct nb_cuda_linear_own {
    /* for up to a->M tokens; 0: it serves none of them */
    size_t (*scratch)(nb_backend *be, const nb_linear_args *a);
    nb_status (*run)(nb_backend *be, const nb_linear_args *a, nb_error *err);
};

struct nb_cuda_linear_row {
    const char *name;
    int codes;          /* nb_cuda_codes it serves, as a bit set */
    int64_t max_M;      /* 0: any */
    int tile_N, tile_M; /* outputs and tokens of a tile */
    int blocks_a_sm;    /* that it is launched with, at most */
    bool wgmma;         /* only where nb_cuda.wgmma says so; x comes swizzled */
    bool (*serves)(nb_backend *be, const nb_linear_args *a); /* NULL: all of the above */
    nb_status (*run)(nb_backend *be, const nb_weight *w, const Io &io, const Scratch &s,
                     int n_block, nb_error *err);
    const nb_cuda_linear_own *own;
    bool sees_to_x; /* run calls nb_cuda_activations where it needs it; else it comes behind it */
};
extern const nb_cuda_linear_row nb_cuda_linear_rows[]; /* best first; the last serves everything */
const nb_cuda_linear_row *nb_cuda_linear_row_of(nb_backend *be, const nb_linear_args *a);

/* shared memory of a multiprocessor that runs two blocks of up to 80 KiB */
constexpr size_t kRoomForTwo = 160 << 10;

/* Codes that have a kernel for every shape of tile; the others do without the one between. */
constexpr int kUsual = 1 << NB_CUDA_U4 | 1 << NB_CUDA_T4 | 1 << NB_CUDA_U8 | 1 << NB_CUDA_BF16;

nb_status nb_cuda_activations(nb_backend *be, const nb_weight *w, const Io &io, const Scratch &s,
                              bool swizzled, nb_error *err);
nb_status nb_cuda_linear_stream(nb_backend *be, const nb_weight *w, const Io &io, const Scratch &s,
                                int n_block, nb_error *err);
nb_status nb_cuda_linear_tile_32(nb_backend *be, const nb_weight *w, const Io &io, const Scratch &s,
                                 int n_block, nb_error *err);
nb_status nb_cuda_linear_tile_64(nb_backend *be, const nb_weight *w, const Io &io, const Scratch &s,
                                 int n_block, nb_error *err);
nb_status nb_cuda_linear_tile_128(nb_backend *be, const nb_weight *w, const Io &io,
                                  const Scratch &s, int n_block, nb_error *err);
nb_status nb_cuda_linear_wgmma_128(nb_backend *be, const nb_weight *w, const Io &io,
                                   const Scratch &s, int n_block, nb_error *err);
nb_status nb_cuda_linear_wgmma_256(nb_backend *be, const nb_weight *w, const Io &io,
                                   const Scratch &s, int n_block, nb_error *err);
bool nb_cuda_wgmma_256_serves(nb_backend *be, const nb_linear_args *a);
bool nb_cuda_dense_serves(nb_backend *be, const nb_linear_args *a);
size_t nb_cuda_dense_scratch(nb_backend *be, const nb_linear_args *a);
nb_status nb_cuda_dense(nb_backend *be, const nb_linear_args *a, nb_error *err);

#endif
