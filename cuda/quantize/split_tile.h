/* split_tile.h -- products of f32 and f64 matrices on 16-bit tensor cores: each operand is the sum
 * of two or three 16-bit floats, x = x0 + x1 (+ x2), and
 *
 *     x y = x0 y0 + x0 y1 + x1 y0  (+ x0 y2 + x1 y1 + x2 y0)        what is smaller is left out
 *
 * exact products, f32 sums over kDepth terms, f64 from there on. Two f16 keep 22 bits of a value
 * that is scaled into their range; three bf16 keep the 24 of any f32, for twice the products.
 *
 *   block   kTile x kTile of the result by four warps of 32 x 32, kDepth of the sum at a time
 *   shared  every part of an operand is a square of rows of kRow = 72 halves: 9 x 16 bytes, so that
 *       8 rows of ldmatrix fall into 8 groups of banks
 *
 * The left operand lies [rows][depth] or, kLeftByDepth, [depth][rows]; the right one
 * [columns][depth] or, kRightByDepth, [depth][columns]. */
#ifndef NB_CUDA_QUANTIZE_SPLIT_TILE_H
#define NB_CUDA_QUANTIZE_SPLIT_TILE_H

#include "device.h"
#include "half.h"
#include "vector.h"

constexpr int kTile = 64, kDepth = 64, kRow = kTile + 8, kSplitThreads = 128;
static_assert(kTile == kDepth, "an operand's square is the same either way");

/* two values beside each other are a word; two parts are f16, three are bf16 */
template <int kParts> struct Operand {
    uint32_t part[kParts][kTile][kRow / 2];
};

template <int kParts> DEVI void split_put(Operand<kParts> &o, int r, int pair, float a, float b)
{
#pragma unroll
    for (int p = 0; p < kParts; p++) {
        const uint32_t w = kParts == 2 ? nb_half_pack(a, b) : bf2_pack(a, b);
        o.part[p][r][pair] = w;
        a -= kParts == 2 ? nb_half_lo(w) : bf2_lo(w);
        b -= kParts == 2 ? nb_half_hi(w) : bf2_hi(w);
    }
}

/* Dynamic shared memory of a kernel with two operands in three parts: more than a kernel has without
 * asking. Before its first launch. */
constexpr size_t kThreeParts = 2 * sizeof(Operand<3>);
template <class... P>
nb_status nb_split_shared(nb_backend *be, void (*kernel)(P...), const char *name, nb_error *err)
{
    nb_cuda_here(be);
    return nb_cuda_status(
        be,
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)kThreeParts),
        name, err);
}

/* Fills both: left(r, c, v) gives columns c and c + 1 of row r, c even, and right of the other. */
template <int kParts, class Left, class Right>
DEVI void split_fill(Operand<kParts> &left, Operand<kParts> &right, Left l, Right r)
{
    for (int at = threadIdx.x; at < kTile * kTile / 2; at += kSplitThreads) {
        const int row = at / (kTile / 2), pair = at % (kTile / 2);
        float x[2], y[2];
        l(row, 2 * pair, x);
        r(row, 2 * pair, y);
        split_put(left, row, pair, x[0], x[1]);
        split_put(right, row, pair, y[0], y[1]);
    }
}

/* 2^(14 - exponent of top), which brings it to [2^14, 2^15): of what is scaled so two f16 leave out
 * 2^-22, or 2^-39 of top where that is more. An exponent below -113 counts as that. */
DEVI float split_scale(float top)
{
    const unsigned e = __float_as_uint(top) >> 23, least = 127 - 113;
    return __uint_as_float((127 + 14 + 127 - (e < least ? least : e)) << 23);
}

/* A warp's 32 x 32 of the result: two m16 by four n8, element e of lane (g, t) at row g + 8 (e >>
 * 1), column 2 t + (e & 1). */
struct SplitSum {
    double sum[2][4][4];
};

/* Adds the product of what lies in shared memory. The caller has a barrier on both sides. */
template <bool kLeftByDepth, bool kRightByDepth, int kParts>
DEVI void split_multiply(const Operand<kParts> &left, const Operand<kParts> &right, SplitSum *s)
{
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, mat = lane >> 3, i0 = warp / 2 * 32,
              j0 = warp % 2 * 32;
    float sum[2][4][4] = {};
#pragma unroll
    for (int k = 0; k < kDepth; k += 16) {
        uint32_t a[kParts][2][4], b[kParts][4][2];
#pragma unroll
        for (int p = 0; p < kParts; p++) {
            const uint16_t *l = (const uint16_t *)left.part[p],
                           *r = (const uint16_t *)right.part[p];
#pragma unroll
            for (int i = 0; i < 2; i++)
                if (kLeftByDepth)
                    ldmatrix_x4_trans(a[p][i], l + (k + (lane & 7) + (mat >> 1) * 8) * kRow + i0 +
                                                   16 * i + (mat & 1) * 8);
                else
                    ldmatrix_x4(a[p][i],
                                l + (i0 + 16 * i + (lane & 15)) * kRow + k + (lane >> 4) * 8);
#pragma unroll
            for (int j = 0; j < 4; j += 2) {
                uint32_t f[4];
                if (kRightByDepth)
                    ldmatrix_x4_trans(f, r + (k + (lane & 7) + (mat & 1) * 8) * kRow + j0 + 8 * j +
                                             (mat >> 1) * 8);
                else
                    ldmatrix_x4(f, r + (j0 + 8 * j + (lane & 7) + (mat >> 1) * 8) * kRow + k +
                                       (mat & 1) * 8);
                b[p][j][0] = f[0];
                b[p][j][1] = f[1];
                b[p][j + 1][0] = f[2];
                b[p][j + 1][1] = f[3];
            }
        }
#pragma unroll
        for (int p = 0; p < kParts; p++)
#pragma unroll
            for (int q = 0; q < kParts - p; q++)
#pragma unroll
                for (int i = 0; i < 2; i++)
#pragma unroll
                    for (int j = 0; j < 4; j++)
                        if (kParts == 2)
                            mma_m16n8k16_f16(sum[i][j], a[p][i], b[q][j]);
                        else
                            mma_m16n8k16_bf16(sum[i][j], a[p][i], b[q][j]);
    }
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                s->sum[i][j][e] += (double)sum[i][j][e];
}

/* The block's tile of a product over [k0, k1) in three parts: left(i, k, v) gives depths k and k + 1
 * of row i; right(k, j, v) columns j and j + 1 at depth k, kRightByDepth, else right(j, k, v) depths
 * k and k + 1 of column j. All of them 0 where there is nothing. */
template <bool kRightByDepth, class Left, class Right>
DEVI SplitSum split_product(Operand<3> *operands, int64_t k0, int64_t k1, Left left, Right right)
{
    SplitSum s = {};
    for (int64_t k = k0; k < k1; k += kDepth) {
        split_fill(
            operands[0], operands[1], [&](int r, int c, float(&v)[2]) { left(r, k + c, v); },
            [&](int r, int c, float(&v)[2]) {
                if (kRightByDepth)
                    right(k + r, c, v);
                else
                    right(r, k + c, v);
            });
        __syncthreads();
        split_multiply<false, kRightByDepth>(operands[0], operands[1], &s);
        __syncthreads();
    }
    return s;
}

/* Gives every sum away: at(i, j, v), row and column within the block's tile. */
template <class At> DEVI void split_each(const SplitSum &s, At at)
{
    const int warp = threadIdx.x >> 5, i0 = warp / 2 * 32 + (threadIdx.x >> 2 & 7),
              j0 = warp % 2 * 32 + 2 * (threadIdx.x & 3);
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                at(i0 + 16 * i + 8 * (e >> 1), j0 + 8 * j + (e & 1), s.sum[i][j][e]);
}

#endif
