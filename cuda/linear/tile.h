/* tile.h -- y = x W^T for more than 16 tokens: tiles of outputs x tokens, weights and x through
 * shared memory, codes made bf16 in registers.
 *
 * 8 warps, each 32 outputs x 8 Oct tokens; Rows of them lie along the outputs, the others along the
 * tokens:
 *
 *   rows 8, octs 4 or 8   256 outputs x 32 or 64 tokens   a code is converted once
 *   rows 4, octs 8        128 outputs x 128 tokens        twice; half as much x to load for each
 *                                                         product
 *
 *   stage   codes of the tile's panels | their lines | x of its tokens | the sums of x       kStages deep, cp.async by all threads
 *
 * All lie as the lanes read them (weight.h, linear.h): every load is 16 bytes a lane, 512
 * contiguous a warp, no bank conflict, no ldmatrix.
 *
 * Codes less their zero are exact in bf16; scales are multiplied in behind the product, in f32,
 * once a line (with offsets once a unit). The files tile_*.cu have a shape of tile each. */
#ifndef NB_CUDA_LINEAR_TILE_H
#define NB_CUDA_LINEAR_TILE_H

#include "linear/linear.h"

constexpr int kWarps = 8, kThreads = 32 * kWarps;

constexpr int kMostShared = 99 << 10; /* of sm_86, 89 and 120 */

template <class C_, int Oct_, int Rows_, int Lines_> struct Tile {
    using C = C_;
    static constexpr int Oct = Oct_, Rows = Rows_, kLines = Lines_; /* of a unit: 1, 2, 4 */
    static constexpr bool kLevels = (C::kLevels & kLines) != 0;
    static constexpr int kPanels = Rows / 2, kTokens = kWarps / Rows * Oct * 8;
    static constexpr int kX = kTokens * 128, kSum = kLines * kTokens * 4; /* bytes of a stage */
    static constexpr int kLine = nb_line_most<C>(),
                         kLargest =
                             kPanels * (C::kBytes + kLines * kLine) + kX + (C::kAffine ? kSum : 0);
    static constexpr int kStages = kMostShared / kLargest < 4 ? kMostShared / kLargest : 4;
    static_assert(kStages >= 2, "one is filled while one is read");
    static constexpr int kFloats = 32 * Rows * kTokens; /* of a tile */
    static __host__ __device__ int line_bytes(const Packed &w)
    {
        return kPanels * (kLines * w.line + w.super);
    }
    static __host__ __device__ int bytes(const Packed &w) /* of a stage */
    {
        return kPanels * C::kBytes + line_bytes(w) + kX + (C::kAffine ? kSum : 0);
    }
};

/* What a thread copies of each unit: the same places of a stage, so that only pointers move on. */
struct Feed {
    const uint8_t *codes, *line, *super, *x, *sum;
    int tile, in;              /* next to be copied */
    int panel, own, super_own; /* the tile's first; of this thread's lines, of its super-blocks:
                                * beyond the last panel zeros are filled in */
    int lines_end, supers_end; /* bytes of a stage's lines, of its super-blocks */
};

/* The tile's first unit to copy is `in`. */
template <class T> DEVI void turn_to(const Packed &w, const Scratch &s, int tile, int in, Feed &f)
{
    constexpr int kUnitBytes = T::C::kBytes;
    const int row_tiles = (w.n_panel + T::kPanels - 1) / T::kPanels,
              panel = tile % row_tiles * T::kPanels, token = tile / row_tiles * T::kTokens;
    const int at = (int)threadIdx.x * 16, bytes = T::kLines * w.line;
    f.tile = tile;
    f.in = in;
    f.panel = panel;
    f.codes = w.codes + ((int64_t)panel * w.n_unit + in) * kUnitBytes;
    f.lines_end = T::kPanels * bytes;
    f.supers_end = T::kPanels * w.super;
    f.own = panel + (bytes ? at / bytes : 0);
    f.line = w.lines + (int64_t)f.own * w.n_line * w.line + (bytes ? at % bytes : 0);
    f.super_own = panel + (w.super ? at / w.super : 0);
    f.super = w.supers + (int64_t)f.super_own * w.n_super * w.super + (w.super ? at % w.super : 0);
    f.x = s.x + ((int64_t)in * s.n_oct + token / 8) * 1024 + at;
    const int of = at / (T::kTokens * 4); /* the first or second line's sums */
    f.sum = (const uint8_t *)(s.sum + (int64_t)(T::kLines * in + of) * s.n_oct * 8 + token) +
            at % (T::kTokens * 4);
}

/* Copies a unit and goes on to the next. */
template <class T> DEVI void fetch(const Packed &w, const Scratch &s, uint8_t *stage, Feed &f)
{
    constexpr int kPass = kThreads * 16, kUnitBytes = T::C::kBytes;
    const int at = (int)threadIdx.x * 16;
#pragma unroll
    for (int i = 0; i < T::kPanels * kUnitBytes; i += kPass) {
        const int from = i + at, panel = from / kUnitBytes;
        if (T::kPanels * kUnitBytes % kPass == 0 || from < T::kPanels * kUnitBytes)
            cp_async_16(stage + from,
                        f.codes + (int64_t)panel * w.n_unit * kUnitBytes + from % kUnitBytes,
                        f.panel + panel < w.n_panel ? 16 : 0);
    }
    uint8_t *lines = stage + T::kPanels * kUnitBytes, *x = lines + f.lines_end + f.supers_end;
    if (T::C::kScaled && at < f.lines_end) {
        const uint8_t *from =
            f.line + (int64_t)(T::kLines > 1 ? T::kLines * f.in : f.in >> w.shift) * w.line;
        cp_async_16(lines + at, from, f.own < w.n_panel ? 16 : 0);
        /* four lines of F32: of two panels a pass */
        if constexpr (T::kLines * T::kPanels * T::kLine > kPass) {
            constexpr int kPanelsAPass = kPass / (T::kLines * T::kLine);
            if (at + kPass < f.lines_end)
                cp_async_16(lines + at + kPass, from + (int64_t)kPanelsAPass * w.n_line * w.line,
                            f.own + kPanelsAPass < w.n_panel ? 16 : 0);
        }
    }
    if (T::C::kScaled && at < f.supers_end)
        cp_async_16(lines + f.lines_end + at, f.super + (int64_t)(f.in >> kSuperShift) * w.super,
                    f.super_own < w.n_panel ? 16 : 0);
#pragma unroll
    for (int i = 0; i < T::kX; i += kPass)
        if (T::kX % kPass == 0 || i + at < T::kX)
            cp_async_16(x + i + at, f.x + i);
    if (T::C::kAffine && at < T::kSum)
        cp_async_16(x + T::kX + at, f.sum);
    f.codes += kUnitBytes;
    f.x += s.n_oct * 1024;
    f.sum += T::kLines * s.n_oct * 32;
    if (++f.in == w.n_unit)
        turn_to<T>(w, s, f.tile + 1, 0, f);
}

/* The stages of a block, and what it has to copy into them yet. */
struct Ring {
    uint8_t *at;
    int bytes, empty, left; /* of a stage; where it is filled next; units to copy */
    Feed feed;
};
template <class T> DEVI void fetch_next(const Packed &w, const Scratch &s, Ring &r)
{
    if (r.left-- > 0)
        fetch<T>(w, s, r.at + r.empty * r.bytes, r.feed);
    cp_async_commit();
    r.empty = r.empty + 1 == T::kStages ? 0 : r.empty + 1;
}
/* Begins to copy `units` units from unit `in` of a tile on. */
template <class T>
DEVI void ring_open(const Packed &w, const Scratch &s, uint8_t *at, int tile, int in, int units,
                    Ring &r)
{
    r.at = at;
    r.bytes = T::bytes(w);
    r.empty = 0;
    r.left = units;
    turn_to<T>(w, s, tile, in, r.feed);
#pragma unroll 1
    for (int i = 0; i < T::kStages - 1; i++)
        fetch_next<T>(w, s, r);
}

/* A line's last unit has these bits; offsets want each unit's sums of x. */
DEVI int nb_line_mask(const Packed &w)
{
    return nb_has_offsets(w.kind) || w.shift < 0 ? 0 : (1 << w.shift) - 1;
}

/* acc += scale part (+ offset sum of x), part = 0. sum: of this lane's tokens. */
template <class T>
DEVI void close_line(const Packed &w, const uint8_t *line, const uint8_t *super, const uint8_t *sum,
                     float (&acc)[2][T::Oct][4], float (&part)[2][T::Oct][4])
{
    const int lane = threadIdx.x & 31, at = 8 * (lane >> 2) + 4 * ((threadIdx.x >> 5) % 2);
#pragma unroll
    for (int block = 0; block < 2; block++) {
        float scale[2];
        nb_line_scales<typename T::C, T::kLevels>(w, line, super, at + 2 * block, scale);
#pragma unroll
        for (int o = 0; o < T::Oct; o++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                acc[block][o][e] = fmaf(scale[e >> 1], part[block][o][e], acc[block][o][e]);
                part[block][o][e] = 0.0f;
            }
    }
    if constexpr (T::C::kAffine) {
        if (!nb_has_offsets(w.kind))
            return;
#pragma unroll
        for (int block = 0; block < 2; block++) {
            float offset[2];
            nb_line_offsets<T::kLevels>(w, line, super, at + 2 * block, offset);
#pragma unroll
            for (int o = 0; o < T::Oct; o++) {
                const uint2 xs = ld_v2(sum + o * 32);
                acc[block][o][0] = fmaf(offset[0], __uint_as_float(xs.x), acc[block][o][0]);
                acc[block][o][1] = fmaf(offset[0], __uint_as_float(xs.y), acc[block][o][1]);
                acc[block][o][2] = fmaf(offset[1], __uint_as_float(xs.x), acc[block][o][2]);
                acc[block][o][3] = fmaf(offset[1], __uint_as_float(xs.y), acc[block][o][3]);
            }
        }
    }
}

/* acc += a unit; part holds the sums of a line that goes on. closes: the line ends with this unit,
 * or what is done here of it. */
template <class T>
DEVI void multiply(const Packed &w, const uint8_t *stage, bool closes, float (&acc)[2][T::Oct][4],
                   float (&part)[2][T::Oct][4])
{
    using C = typename T::C;
    /* of 32 outputs, of 8 Oct tokens */
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, row = warp % T::Rows,
              column = warp / T::Rows;
    const uint8_t *codes = stage + row / 2 * C::kBytes,
                  *lines = stage + T::kPanels * C::kBytes + row / 2 * T::kLines * w.line;
    const uint8_t *super =
        stage + T::kPanels * (C::kBytes + T::kLines * w.line) + row / 2 * w.super;
    const uint8_t *x = stage + T::kPanels * C::kBytes + T::line_bytes(w) + column * T::Oct * 1024;
    const uint8_t *sum = stage + T::kPanels * C::kBytes + T::line_bytes(w) + T::kX +
                         (column * T::Oct * 8 + (lane & 3) * 2) * 4;
    constexpr int kSteps = T::kLines == 4 ? 1 : 2; /* that are multiplied at once: of one line */
    typename C::Chunk chunk[2] = {};
    uint32_t back[2][2] = {};
#pragma unroll
    for (int i0 = 0; i0 < 4; i0 += kSteps) {
        const int l = T::kLines * i0 / 4; /* the line */
        const uint8_t *line = lines + l * w.line;
        uint32_t a[2][kSteps][4]; /* [block][step] */
#pragma unroll
        for (int block = 0; block < 2; block++) {
            if (C::kAffine && T::kLines * i0 % 4 == 0)
                nb_line_back<C>(w, line, 8 * (lane >> 2) + 2 * (row % 2 * 2 + block), back[block]);
#pragma unroll
            for (int j = 0; j < kSteps; j++) {
                C::load(codes, row % 2 * 2 + block, i0 + j, lane, chunk[block]);
                C::fragment(w, chunk[block], i0 + j, a[block][j]);
                if constexpr (C::kAffine) {
#pragma unroll
                    for (int r = 0; r < 4; r++)
                        a[block][j][r] = bf2_fma(a[block][j][r], 0x3f803f80u, back[block][r & 1]);
                }
            }
        }
#pragma unroll
        for (int o = 0; o < T::Oct; o++) {
            const uint8_t *from = x + (o * 2 + i0 / 2) * 512 + lane * 16;
            const uint4 v = kSteps == 2 ? ld_v4(from) : uint4{};
            const uint2 u = kSteps == 1 ? ld_v2(from + i0 % 2 * 8) : uint2{v.x, v.y};
            const uint32_t b[2][2] = {{u.x, u.y}, {v.z, v.w}};
#pragma unroll
            for (int block = 0; block < 2; block++) {
                float(&to)[4] = C::kScaled ? part[block][o] : acc[block][o];
#pragma unroll
                for (int j = 0; j < kSteps; j++)
                    mma_m16n8k16_bf16(to, a[block][j], b[j]);
            }
        }
        if constexpr (C::kScaled)
            if (T::kLines * (i0 + kSteps) % 4 == 0 && (T::kLines > 1 || closes))
                close_line<T>(w, line, super, sum + l * T::kTokens * 4, acc, part);
    }
}

template <int Oct, int Rows>
DEVI void store(const Packed &w, const Io &io, int panel, int token, const float (&acc)[2][Oct][4])
{
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
#pragma unroll
    for (int block = 0; block < 2; block++)
#pragma unroll
        for (int o = 0; o < Oct; o++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int n =
                    panel * kPanel + warp % Rows * 32 + block * 16 + (lane >> 2) + 8 * (e >> 1);
                const int m = token + (warp / Rows * Oct + o) * 8 + (lane & 3) * 2 + (e & 1);
                if (m < io.M && n < w.N)
                    nb_store(io, m, n, w.gain * acc[block][o][e]);
            }
}

template <class T>
__global__ void __launch_bounds__(kThreads, 1) tile_kernel(Packed w, Io io, Scratch s)
{
    constexpr int Oct = T::Oct, Rows = T::Rows;
    DYN_SHARED(uint8_t, ring);
    SHARED(unsigned, flag, [1]);
    const int row_tiles = (w.n_panel + T::kPanels - 1) / T::kPanels, n_block = (int)gridDim.x;
    const int64_t total = (int64_t)s.n_count * w.n_unit;
    const int begin = nb_piece_begin(total, (int)blockIdx.x, n_block),
              end = nb_piece_begin(total, (int)blockIdx.x + 1, n_block);
    const int in_line = nb_line_mask(w);
    int full = 0;
    Ring stages;
    ring_open<T>(w, s, ring, begin / w.n_unit, begin % w.n_unit, end - begin, stages);
    for (int at = begin; at < end;) {
        const int tile = at / w.n_unit, tile_end = min(end, (tile + 1) * w.n_unit);
        const int panel = tile % row_tiles * T::kPanels, token = tile / row_tiles * T::kTokens;
        float acc[2][Oct][4] = {}, line_sums[2][Oct][4] = {};
        for (int in = at - tile * w.n_unit; at < tile_end; at++, in++) {
            cp_async_wait<T::kStages - 2>();
            /* everyone's copies are there; and the stage that is filled next has been read by
             * all */
            __syncthreads();
            fetch_next<T>(w, s, stages);
            multiply<T>(w, ring + full * stages.bytes, !((in + 1) & in_line) || at + 1 == tile_end,
                        acc, line_sums);
            full = full + 1 == T::kStages ? 0 : full + 1;
        }
        const int first = nb_piece_owner(total, tile * w.n_unit, n_block),
                  last = nb_piece_owner(total, (tile + 1) * w.n_unit - 1, n_block);
        if (first != last) { /* shared with other blocks */
            float *part = s.part + threadIdx.x;
            const int64_t own =
                (int64_t)nb_piece_slot(total, (int)blockIdx.x, n_block, tile, w.n_unit) *
                T::kFloats;
#pragma unroll
            for (int i = 0; i < 8 * Oct; i++)
                part[own + i * kThreads] = acc[i / (4 * Oct)][i / 4 % Oct][i % 4];
            if (!nb_last_to_come(&s.count[tile], last - first + 1, flag))
                continue;
#pragma unroll
            for (int i = 0; i < 8 * Oct; i++)
                acc[i / (4 * Oct)][i / 4 % Oct][i % 4] = 0.0f;
            for (int c = first; c <= last; c++) {
                const int64_t from =
                    (int64_t)nb_piece_slot(total, c, n_block, tile, w.n_unit) * T::kFloats;
#pragma unroll
                for (int i = 0; i < 8 * Oct; i++)
                    acc[i / (4 * Oct)][i / 4 % Oct][i % 4] += part[from + i * kThreads];
            }
        }
        store<Oct, Rows>(w, io, panel, token, acc);
    }
    cp_async_wait<0>();
}

template <class T>
static nb_status tile_start(nb_backend *be, const char *name, const nb_weight *w, const Io &io,
                            const Scratch &s, int n_block, nb_error *err)
{
    const size_t smem = (size_t)T::kStages * (size_t)T::bytes(w->packed);
    return nb_launch_large(be, name, tile_kernel<T>, dim3((unsigned)n_block), dim3(kThreads), smem,
                           err, w->packed, io, s);
}

#endif
