/* stream.h -- y = x W^T for 1 to 16 tokens: decode. The weights are read once, at the rate that
 * memory gives.
 *
 * A tile is a panel: 64 outputs, all tokens. The warps of a block take the units of its piece in
 * turn; of a unit a warp multiplies all 64 rows, weights as the 16-row operand of mma.m16n8k16, so
 * that up to 8 tokens waste nothing. Warps never wait for each other within a tile:
 *
 *   weights   cp.async into a ring of the warp's own, kStages units deep; a lane copies the 16
 *             bytes that it will read
 *   lines     behind the unit in the ring; all lanes read them, hence the __syncwarp
 *   x         into registers, up to 8 tokens one unit ahead (for more there is no room, and more to
 *             do meanwhile): from L2, where activations.cu left it, or from shared memory, where the
 *             block brought it itself (stream.cu says when)
 *
 * Sums: the codes' products in f32 over a line's positions, times scale, less or plus the part of
 * zeros and offsets, which is a multiple of the sum of x (a product with ones: the same
 * instruction, and it lands where it is wanted); then over the warp's units, over the block's warps
 * in order, over the blocks in order.
 *
 * A block that brings x itself has its first weights on their way before, reads the f32 rows of its
 * own units (through a norm: all of a row for its factor, too) and rounds them as activations.cu
 * does: the same bits. [unit][half][token][t] 16 bytes, as in linear.h but for tokens that are not
 * there.
 *
 * Bytes: the weights once, x once a panel from L2 or once a block. Issue slots: docs/PERFORMANCE.md. A kernel for
 * each kind of line, so that none asks in its loop; the files stream_*.cu share them out, as nvcc
 * takes a second for two. */
#ifndef NB_CUDA_LINEAR_STREAM_H
#define NB_CUDA_LINEAR_STREAM_H

#include "linear/linear.h"

/* f32 behind a token's 64 sums: the warps' stores then fall into 32 banks */
constexpr int kSkew = 4;
constexpr int kColumn = kPanel + kSkew;

template <class C_, int Oct_, int Lines_, int Kind_> struct Stream {
    using C = C_;
    static constexpr int Oct = Oct_, Kind = Kind_, kLines = Lines_; /* of a unit: 1, 2, 4 */
    static constexpr int kLine = nb_line_bytes(Kind), kSuper = nb_super_bytes(Kind);
    static constexpr int kStage = C::kBytes + kLines * kLine + kSuper;
    /* four lines with zeros or minima leave no registers for x of the next unit */
    static constexpr bool kAhead =
        Oct == 1 && !(kLines == 4 && (Kind == NB_LINE_ZERO || Kind == NB_LINE_NIBBLES));
    static constexpr int kSums = 8 * Oct * kColumn; /* f32 a warp */
    static constexpr int kMost = 98 << 10;          /* a block of sm_86, 89 and 120 has 99 KiB */
    static constexpr int kFewer = Oct > 1 && kLines == 4                            ? 4
                                  : Oct > 1 || (kLines == 4 && Kind == NB_LINE_F32) ? 6
                                                                                    : 8;
    /* more tokens and lines want more registers and shared memory a warp */
    static constexpr int kWanted = C::kWarps < kFewer ? C::kWarps : kFewer;
    /* four lines of f32 are large */
    static constexpr int kStages =
        kWanted * (C::kStages * kStage + kSums * 4) <= kMost ? C::kStages : 2;
    static constexpr int kRing = kStages * kStage;
    static constexpr int kWarps = kWanted * (kRing + kSums * 4) <= kMost ? kWanted : 6;
    static constexpr int kBytes = kWarps * (kRing + kSums * 4);
    static_assert(kBytes <= kMost, "shared memory of a block");
};

/* A warp's way through its units. */
struct Walk {
    int unit, in, line, super; /* on the line of units; within the tile; the tile's first line,
                                * its first super-block */
};
template <int Step> DEVI void advance(Walk &a, const Packed &w)
{
    a.unit += Step;
    a.in += Step;
    while (a.in >= w.n_unit) {
        a.in -= w.n_unit;
        a.line += w.n_line;
        a.super += w.n_super;
    }
}

template <class S> DEVI void fetch(const Packed &w, const Walk &at, uint8_t *stage, int lane)
{
    const uint8_t *unit = w.codes + (int64_t)at.unit * S::C::kBytes + lane * 16;
#pragma unroll
    for (int i = 0; i < S::C::kBytes / 512; i++)
        cp_async_16(stage + i * 512 + lane * 16, unit + i * 512);
    const uint8_t *line =
        w.lines +
        (int64_t)(at.line + (S::kLines > 1 ? S::kLines * at.in : at.in >> w.shift)) * S::kLine +
        lane * 16;
#pragma unroll
    for (int i = 0; i < S::kLines * S::kLine; i += 512)
        if (i + lane * 16 < S::kLines * S::kLine)
            cp_async_16(stage + S::C::kBytes + i + lane * 16, line + i);
    if (S::kSuper && lane * 16 < S::kSuper)
        cp_async_16(stage + S::C::kBytes + S::kLines * S::kLine + lane * 16,
                    w.supers + (int64_t)(at.super + (at.in >> kSuperShift)) * S::kSuper +
                        lane * 16);
}

/* What a block shares with others, and whether it brings x itself. */
struct Own {
    unsigned *turn; /* by the first block of a tile */
    int n_unit;     /* of x that a block brings, at most; 0: none */
};

/* Tokens that are not there keep the zeros they began with. brought: where a block that brings x has
 * it, from unit `first` of a tile on, and around its end. */
template <int Oct>
DEVI void fetch_x(const Packed &w, const Scratch &s, const Own &own, const uint8_t *brought,
                  int first, int M, int in, int lane, uint4 (&x)[Oct][2])
{
    if (Oct == 1 && own.n_unit) {
        const int slot = in < first ? in - first + w.n_unit : in - first;
        const uint8_t *at = brought + slot * M * 128 + lane * 16;
        if (lane >> 2 < M) {
            x[0][0] = ld_v4(at);
            x[0][1] = ld_v4(at + M * 64);
        }
        return;
    }
    const uint8_t *from = s.x + (int64_t)in * s.n_oct * 1024 + lane * 16;
#pragma unroll
    for (int o = 0; o < Oct; o++)
        if (8 * o + (lane >> 2) < M) {
            x[o][0] = ld_v4(from + o * 1024);
            x[o][1] = ld_v4(from + o * 1024 + 512);
        }
}

/* Word i of a token's x, 32 a unit, from unit `first` on: the position that it begins with. */
DEVI int word_at(const Packed &w, int first, int i)
{
    const int in = first + (i >> 5), unit = in < w.n_unit ? in : in - w.n_unit;
    return unit * kUnit + (i & 16) * 2 + (i & 2) * 8 + (i & 1) * 8 + (i >> 2 & 3) * 2;
}

/* n units of x from `first` on, up to 8 tokens of them: every half of a unit token by token, 16 words
 * each, which is the order of the threads too. All of it is asked for at once, as far as kAtOnce
 * reaches: a trip to L2 for each token would be as many times 0.6 us. part: shared, [kBroughtParts]. */
constexpr int kBroughtParts = 8 * kNormParts + 8;
DEVI void bring_x(const Packed &w, const Io &io, int first, int n, uint32_t *to, float *part)
{
    constexpr int kAtOnce = 4; /* words a thread has on their way */
    const int n_thread = blockDim.x, n_word = n * 32 * io.M;
    const bool whole = nb_whole_inputs(w, io);
    float *r = part + 8 * kNormParts; /* of each token */
    if (io.through.norm) {
        nb_norm_parts<1>(io.x, io.ldx, io.M, w.K, threadIdx.x >> 5, n_thread >> 5, part);
        __syncthreads();
        if ((int)threadIdx.x < io.M)
            r[threadIdx.x] = nb_norm_factor(part + threadIdx.x * kNormParts, w.K, io.through.eps);
        __syncthreads();
    }
    for (int i0 = threadIdx.x; i0 < n_word; i0 += kAtOnce * n_thread) {
        float v[kAtOnce][2], f[kAtOnce][2];
        bool there[kAtOnce][2];
#pragma unroll
        for (int j = 0; j < kAtOnce; j++) {
            const int i = i0 + j * n_thread, half = (i >> 4) / io.M, m = (i >> 4) - half * io.M,
                      p = i < n_word ? word_at(w, first, half * 16 + (i & 15)) : w.K;
            const float *x = io.x + m * io.ldx, *factor = nb_factors(io, m);
            if (whole && p + 2 <= w.K) {
                there[j][0] = there[j][1] = true;
                nb_load(x + p, v[j]);
                if (factor)
                    nb_load(factor + p, f[j]);
                continue;
            }
#pragma unroll
            for (int b = 0; b < 2; b++) {
                const int k = i < n_word ? nb_input_at(w, p + b) : -1;
                there[j][b] = k >= 0;
                v[j][b] = k >= 0 ? x[k] : 0.0f;
                f[j][b] = k >= 0 && factor ? factor[k] : 0.0f;
            }
        }
#pragma unroll
        for (int j = 0; j < kAtOnce; j++) {
            const int i = i0 + j * n_thread;
            if (i >= n_word)
                break;
            const float by = io.through.norm ? r[(i >> 4) % io.M] : 1.0f,
                        lo = there[j][0] ? nb_put_through(io, v[j][0], f[j][0], by) : 0.0f,
                        hi = there[j][1] ? nb_put_through(io, v[j][1], f[j][1], by) : 0.0f;
            to[i] = bf2_pack(lo, hi);
        }
    }
}

DEVI void step_of(const uint4 (&x)[2], int i, uint32_t (&b)[2])
{
    const uint4 &h = x[i >> 1];
    b[0] = i & 1 ? h.z : h.x;
    b[1] = i & 1 ? h.w : h.y;
}

/* What a block of 16 rows has for a unit: the factors of two-level scales (nb_level), of rows g and
 * g + 8. */
template <class S> struct Factors {
    float d[2], less[2], min[2], plus[2];
};
template <class S> DEVI void read_factors(const uint8_t *super, int at, Factors<S> &f)
{
    constexpr float kBase = S::Kind == NB_LINE_NIBBLES ? kNibbleBase : kLevelBase;
    if (!S::kSuper)
        return;
    nb_halves(super + 2 * at, f.d);
#pragma unroll
    for (int r = 0; r < 2; r++)
        f.less[r] = -kBase * f.d[r];
    if (!nb_has_offsets(S::Kind))
        return;
    nb_halves(super + 2 * (kPanel + at), f.min);
#pragma unroll
    for (int r = 0; r < 2; r++) {
        f.plus[r] = kBase * f.min[r];
        f.min[r] = -f.min[r];
    }
}

/* acc += a line's sums. levels: its bytes for this lane's g, block after block. sum: of x; with one
 * zero for all it comes multiplied by what is to be taken back, and `part` began with that. */
template <class S>
DEVI void close_line(const uint8_t *line, const uint2 (&levels)[2], const Factors<S> &f, int block,
                     const float (&part)[S::Oct][4], const float (&sum)[S::Oct][4],
                     float (&acc)[S::Oct][4])
{
    using C = typename S::C;
    const int at = 8 * ((threadIdx.x & 31) >> 2) + 2 * block;
    float scale[2], back[2] = {0.0f, 0.0f}; /* of rows g and g + 8 */
    if (S::Kind == NB_LINE_F32 || S::Kind == NB_LINE_SCALE) {
        const uint2 v = ld_v2(line + 4 * at);
        scale[0] = __uint_as_float(v.x);
        scale[1] = __uint_as_float(v.y);
    } else if (S::kSuper) {
        const uint32_t u = block < 2 ? levels[0].x : levels[0].y,
                       v = block < 2 ? levels[1].x : levels[1].y;
#pragma unroll
        for (int r = 0; r < 2; r++) {
            scale[r] = nb_level(u, block % 2 * 2 + r, f.d[r], f.less[r]);
            if (nb_has_offsets(S::Kind))
                back[r] =
                    fmaf(-C::kBias, scale[r], nb_level(v, block % 2 * 2 + r, f.min[r], f.plus[r]));
        }
    } else {
        nb_halves(line + 2 * at, scale);
    }
    /* 2^23 + zero by its bits; what is taken off leaves the code's bias in */
    if (S::Kind == NB_LINE_ZERO) {
        const uint32_t v = nb_short(line + 2 * kPanel + at);
        back[0] = __uint_as_float(prmt(v, 0x4b000000u, 0x7440)) - (8388608.0f - C::kBias);
        back[1] = __uint_as_float(prmt(v, 0x4b000000u, 0x7441)) - (8388608.0f - C::kBias);
    } else if (S::Kind == NB_LINE_OFFSET) {
        nb_halves(line + 2 * (kPanel + at), back);
        back[0] -= C::kBias * scale[0];
        back[1] -= C::kBias * scale[1];
    } else if (S::Kind == NB_LINE_F32) {
        const uint2 v = ld_v2(line + 4 * (kPanel + at));
        back[0] = __uint_as_float(v.x) - C::kBias * scale[0];
        back[1] = __uint_as_float(v.y) - C::kBias * scale[1];
    }
#pragma unroll
    for (int o = 0; o < S::Oct; o++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int r = e >> 1, t = e & 1;
            if (!C::kAffine || nb_one_zero(S::Kind))
                acc[o][e] += scale[r] * part[o][e];
            else if (S::Kind == NB_LINE_ZERO)
                acc[o][e] += scale[r] * (part[o][e] - back[r] * sum[o][t]);
            else
                acc[o][e] = back[r] * sum[o][t] + (scale[r] * part[o][e] + acc[o][e]);
        }
}

/* acc[block of 16 rows] += unit x, a line after another; the fragments as mma leaves them. */
template <class S>
DEVI void multiply(const Packed &w, const uint8_t *stage, int lane, const uint4 (&x)[S::Oct][2],
                   float (&acc)[4][S::Oct][4])
{
    using C = typename S::C;
    constexpr int kSteps = 4 / S::kLines; /* of a line */
    constexpr bool kOneZero = C::kAffine && nb_one_zero(S::Kind);
    constexpr uint32_t kOne = 0x3f803f80;
    const uint32_t ones[4] = {kOne, kOne, kOne, kOne};
    const uint8_t *lines = stage + C::kBytes, *super = lines + S::kLines * S::kLine;
    float sum[S::kLines][S::Oct][4] = {};
    uint2 levels[S::kLines][2] = {}; /* of scales, of minima */
    uint32_t b[2];
#pragma unroll
    for (int l = 0; l < S::kLines; l++) {
#pragma unroll
        for (int o = 0; o < S::Oct && C::kAffine; o++) {
#pragma unroll
            for (int i = 0; i < kSteps; i++) {
                step_of(x[o], l * kSteps + i, b);
                mma_m16n8k16_bf16(sum[l][o], ones, b);
            }
#pragma unroll
            for (int e = 0; e < 4 && kOneZero; e++)
                sum[l][o][e] *= -(C::kBias + w.zero);
        }
        if (S::kSuper) {
            const uint8_t *from = lines + l * S::kLine + 8 * (lane >> 2);
            levels[l][0] = ld_v2(from);
            if (S::Kind == NB_LINE_LEVELS)
                levels[l][1] = ld_v2(from + kPanel);
            if (S::Kind == NB_LINE_NIBBLES) {
                levels[l][1] = {levels[l][0].x >> 4 & 0x0f0f0f0fu,
                                levels[l][0].y >> 4 & 0x0f0f0f0fu};
                levels[l][0] = {levels[l][0].x & 0x0f0f0f0fu, levels[l][0].y & 0x0f0f0f0fu};
            }
        }
    }
#pragma unroll
    for (int block = 0; block < 4; block++) {
        typename C::Chunk chunk = {};
        Factors<S> factors = {};
        read_factors<S>(super, 8 * (lane >> 2) + 2 * block, factors);
#pragma unroll
        for (int l = 0; l < S::kLines; l++) {
            float part[S::Oct][4] = {};
#pragma unroll
            for (int j = 0; j < kSteps; j++) {
                const int i = l * kSteps + j;
                uint32_t a[4];
                C::load(stage, block, i, lane, chunk);
                C::fragment(w, chunk, i, a);
#pragma unroll
                for (int o = 0; o < S::Oct; o++) {
                    step_of(x[o], i, b);
                    if (!C::kScaled)
                        mma_m16n8k16_bf16(acc[block][o], a, b);
                    else if (kOneZero && j == 0)
                        mma_m16n8k16_bf16(part[o], a, b, sum[l][o]);
                    else
                        mma_m16n8k16_bf16(part[o], a, b);
                }
            }
            if (C::kScaled)
                close_line<S>(lines + l * S::kLine, levels[l], factors, block, part, sum[l],
                              acc[block]);
        }
    }
}

/* The block's sum of a tile, out of its warps': to y when it has all of the tile, else left for the
 * last block to come. */
template <class S>
DEVI void finish(const Packed &w, const Io &io, const Scratch &s, unsigned *turn, int tile,
                 int64_t total, float (&acc)[4][S::Oct][4], float *sums, unsigned *flag)
{
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3,
              n_block = (int)gridDim.x;
    float *own = sums + warp * S::kSums;
    __syncthreads(); /* the tile before has been read */
#pragma unroll
    for (int block = 0; block < 4; block++)
#pragma unroll
        for (int o = 0; o < S::Oct; o++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                own[(8 * o + 2 * t + (e & 1)) * kColumn + block * 16 + g + 8 * (e >> 1)] =
                    acc[block][o][e];
    __syncthreads();
    const int first = nb_piece_owner(total, tile * w.n_unit, n_block),
              last = nb_piece_owner(total, (tile + 1) * w.n_unit - 1, n_block);
    float *left = s.part + (int64_t)nb_piece_slot(total, (int)blockIdx.x, n_block, tile, w.n_unit) *
                               (kPanel * 8 * S::Oct);
    for (int i = threadIdx.x; i < kPanel * io.M; i += blockDim.x) {
        const int row = i % kPanel, token = i / kPanel, n = tile * kPanel + row;
        float v = 0.0f;
#pragma unroll
        for (int j = 0; j < S::kWarps; j++)
            v += sums[j * S::kSums + token * kColumn + row];
        if (first != last)
            left[i] = v;
        else if (n < w.N)
            nb_store(io, token, n, w.gain * v);
    }
    /* no block is the first of two tiles that it shares */
    if (first == last || !nb_last_to_come(&turn[first], last - first + 1, flag))
        return;
    for (int i = threadIdx.x; i < kPanel * io.M; i += blockDim.x) {
        const int n = tile * kPanel + i % kPanel;
        float v = 0.0f;
        for (int c = first; c <= last; c++)
            v += s.part[(int64_t)nb_piece_slot(total, c, n_block, tile, w.n_unit) *
                            (kPanel * 8 * S::Oct) +
                        i];
        if (n < w.N)
            nb_store(io, i / kPanel, n, w.gain * v);
    }
}

template <class S>
__global__ void __launch_bounds__(32 * S::kWarps, 2)
    stream_kernel(Packed w, Io io, Scratch s, Own own)
{
    constexpr int kWarps = S::kWarps, kStages = S::kStages;
    DYN_SHARED(uint8_t, shared);
    SHARED(unsigned, flag, [1]);
    SHARED(float, part, [kBroughtParts]);
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    uint8_t *ring = shared + warp * S::kRing;
    float *sums = (float *)(void *)(shared + kWarps * S::kRing);
    const int64_t total = (int64_t)w.n_panel * w.n_unit;
    const int begin = nb_piece_begin(total, (int)blockIdx.x, (int)gridDim.x),
              end = nb_piece_begin(total, (int)blockIdx.x + 1, (int)gridDim.x);
    Walk at = {begin + warp, begin % w.n_unit + warp, begin / w.n_unit * w.n_line,
               begin / w.n_unit * w.n_super};
    advance<0>(at, w);
    Walk next = at;
    uint4 x[S::Oct][2] = {}, x_next[S::Oct][2] = {};
#pragma unroll
    for (int i = 0; i < kStages - 1; i++) {
        if (next.unit < end)
            fetch<S>(w, next, ring + i * S::kStage, lane);
        cp_async_commit();
        advance<kWarps>(next, w);
    }
    uint8_t *brought = shared + S::kBytes;
    const int first = begin % w.n_unit;
    if (S::Oct == 1 && own.n_unit) {
        bring_x(w, io, first, min(own.n_unit, end - begin), (uint32_t *)(void *)brought, part);
        __syncthreads(); /* all of x is there */
    }
    if (S::kAhead && at.unit < end)
        fetch_x<S::Oct>(w, s, own, brought, first, io.M, at.in, lane, x_next);
    int full = 0, empty = (kStages - 1) * S::kStage; /* where in the ring */
    for (int tile_begin = begin; tile_begin < end;) {
        const int tile = tile_begin / w.n_unit, tile_end = min(end, (tile + 1) * w.n_unit);
        float acc[4][S::Oct][4] = {};
        while (at.unit < tile_end) {
            if (S::kAhead) {
                x[0][0] = x_next[0][0];
                x[0][1] = x_next[0][1];
            } else {
                fetch_x<S::Oct>(w, s, own, brought, first, io.M, at.in, lane, x);
            }
            cp_async_wait<kStages - 2>();
            __syncwarp();
            if (next.unit < end)
                fetch<S>(w, next, ring + empty, lane);
            cp_async_commit();
            advance<kWarps>(next, w);
            advance<kWarps>(at, w);
            if (S::kAhead && at.unit < end)
                fetch_x<S::Oct>(w, s, own, brought, first, io.M, at.in, lane, x_next);
            multiply<S>(w, ring + full, lane, x, acc);
            empty = full;
            full = full + S::kStage == S::kRing ? 0 : full + S::kStage;
        }
        finish<S>(w, io, s, own.turn, tile, total, acc, sums, flag);
        tile_begin = tile_end;
    }
    cp_async_wait<0>();
}

/* ---- launching ---- */

struct StreamCall {
    nb_backend *be;
    const nb_weight *w;
    const Io *io;
    const Scratch *s;
    int n_block;
    nb_error *err;
};

/* Shared memory that a block of these kernels may have beside another. */
int nb_stream_room(nb_backend *be);
/* The units of x that a block brings itself, whose kernel takes `bytes` of shared memory without
 * them; 0: where activations.cu is the better way. */
int nb_stream_own(nb_backend *be, const nb_weight *w, const Io &io, int n_block, int bytes);

/* Allowed is always the same, whatever a launch takes: recordings hold launches of several. */
template <class S> static nb_status stream_launch(const StreamCall &c, int n_unit)
{
    const Own own = {nb_cuda_of(c.be)->turn, n_unit};
    const int room = nb_stream_room(c.be);
    const nb_status st = n_unit ? NB_OK : nb_cuda_activations(c.be, c.w, *c.io, *c.s, false, c.err);
    if (st != NB_OK)
        return st;
    nb_cuda_here(c.be);
    const cudaError_t e =
        cudaFuncSetAttribute(stream_kernel<S>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             room > S::kBytes ? room : S::kBytes);
    if (e != cudaSuccess)
        return nb_cuda_status(c.be, e, "stream", c.err);
    return nb_launch(c.be, "stream", stream_kernel<S>, dim3((unsigned)c.n_block),
                     dim3(32 * S::kWarps), (size_t)(S::kBytes + n_unit * c.io->M * 128), c.err,
                     c.w->packed, *c.io, *c.s, own);
}

template <class C, int Lines, int Kind> static nb_status stream_start(const StreamCall &c)
{
    using One = Stream<C, 1, Lines, Kind>;
    return c.io->M <= 8
               ? stream_launch<One>(c, nb_stream_own(c.be, c.w, *c.io, c.n_block, One::kBytes))
               : stream_launch<Stream<C, 2, Lines, Kind>>(c, 0);
}

/* Kernels by the kind of line, nb_cuda_lines; NULL: no layout has it (layout.cu, pack.cu). */
typedef nb_status (*StreamStart)(const StreamCall &c);
typedef StreamStart StreamKinds[9];

nb_status nb_cuda_stream_u2(const StreamCall &c);
nb_status nb_cuda_stream_u3(const StreamCall &c);
nb_status nb_cuda_stream_u4(const StreamCall &c);
nb_status nb_cuda_stream_u5(const StreamCall &c);
nb_status nb_cuda_stream_u6(const StreamCall &c);
nb_status nb_cuda_stream_u8(const StreamCall &c);

#endif
