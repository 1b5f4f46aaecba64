/* tile.cu -- y = x W^T for more than 16 tokens: tiles of outputs x tokens, weights and x through shared memory, codes made bf16 in registers.
 *
 * 8 warps, each 32 outputs x 8 Oct tokens; Rows of them lie along the outputs, the others along the tokens:
 *
 *   rows 8, octs 4 or 8   256 outputs x 32 or 64 tokens   a code is converted once
 *   rows 4, octs 8        128 outputs x 128 tokens        twice; half as much x to load for each product
 *
 *   stage   codes of the tile's panels | their lines | x of its tokens | the sums of x       kStages deep, cp.async by all threads
 *
 * All lie as the lanes read them (weight.h, linear.h): every load is 16 bytes a lane, 512 contiguous a warp, no bank conflict, no ldmatrix.
 *
 * Sums as in stream.cu: exact codes in the tensor core, scales in f32 behind it once a unit (a half with lines of 32). */
#include "linear/linear.h"

constexpr int kWarps = 8, kThreads = 32 * kWarps;

template <class C, int Oct, int Rows, bool Two> struct Tile {
    static constexpr int kPanels = Rows / 2, kTokens = kWarps / Rows * Oct * 8;
    static constexpr int kX = kTokens * 128, kSum = (Two ? 2 : 1) * kTokens * 4; /* bytes of a stage */
    static constexpr int kStages = C::kBytes == 2048 ? 4 : C::kBytes == 4096 ? 3 : Rows == 8 ? 2 : 3;
    static constexpr int kFloats = 32 * Rows * kTokens; /* of a tile */
    static __host__ __device__ int line_bytes(const Packed &w)
    {
        return kPanels * (Two ? 2 : 1) * w.line;
    }
    static __host__ __device__ int bytes(const Packed &w) /* of a stage */
    {
        return kPanels * C::kBytes + line_bytes(w) + kX + (C::kAffine ? kSum : 0);
    }
};

DEVI void copy(uint8_t *to, const uint8_t *from, int bytes)
{
    for (int i = threadIdx.x * 16; i < bytes; i += kThreads * 16)
        cp_async_16(to + i, from + i);
}

/* Unit `in` of the tile at (panel, token). Panels beyond the last are the last once more: their sums are not stored. */
template <class C, int Oct, int Rows, bool Two> DEVI void fetch(const Packed &w, const Scratch &s, int panel, int token, int in, uint8_t *stage)
{
    using T = Tile<C, Oct, Rows, Two>;
    uint8_t *lines = stage + T::kPanels * C::kBytes, *x = lines + T::line_bytes(w);
#pragma unroll
    for (int i = 0; i < T::kPanels; i++) {
        const int64_t p = min(panel + i, w.n_panel - 1);
        copy(stage + i * C::kBytes, w.codes + (p * w.n_unit + in) * C::kBytes, C::kBytes);
        if (C::kScaled) {
            const int bytes = Two ? 2 * w.line : w.line;
            copy(lines + i * bytes, w.lines + (p * w.n_line + (Two ? 2 * in : in >> w.shift)) * w.line, bytes);
        }
    }
    copy(x, s.x + ((int64_t)in * s.n_oct + token / 8) * 1024, T::kX);
    if (C::kAffine)
        for (int h = 0; h < (Two ? 2 : 1); h++)
            copy(x + T::kX + h * T::kTokens * 4, (const uint8_t *)(s.sum + ((int64_t)(Two ? 2 * in + h : in) * s.n_oct * 8 + token)), T::kTokens * 4);
}

template <class C, int Oct, int Rows, bool Two> DEVI void multiply(const Packed &w, const uint8_t *stage, float (&acc)[2][Oct][4])
{
    using T = Tile<C, Oct, Rows, Two>;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, row = warp % Rows, column = warp / Rows; /* of 32 outputs, of 8 Oct tokens */
    const uint8_t *codes = stage + row / 2 * C::kBytes, *line = stage + T::kPanels * C::kBytes + row / 2 * (Two ? 2 : 1) * w.line;
    const uint8_t *x = stage + T::kPanels * C::kBytes + T::line_bytes(w) + column * Oct * 1024;
    const uint8_t *sum = stage + T::kPanels * C::kBytes + T::line_bytes(w) + T::kX + (column * Oct * 8 + (lane & 3) * 2) * 4;
    float part[2][Oct][4] = {};
    uint4 chunk[2] = {};
#pragma unroll
    for (int h = 0; h < 2; h++) {
        uint32_t a[2][2][4]; /* [block][step] */
#pragma unroll
        for (int block = 0; block < 2; block++)
#pragma unroll
            for (int j = 0; j < 2; j++) {
                const int i = 2 * h + j;
                if (i % C::kSteps == 0)
                    chunk[block] = ld_v4(codes + ((row % 2 * 2 + block) * (4 / C::kSteps) + i / C::kSteps) * 512 + lane * 16);
                C::fragment(w, chunk[block], i % C::kSteps, a[block][j]);
            }
#pragma unroll
        for (int o = 0; o < Oct; o++) {
            const uint4 v = ld_v4(x + (o * 2 + h) * 512 + lane * 16);
            const uint32_t b0[2] = {v.x, v.y}, b1[2] = {v.z, v.w};
#pragma unroll
            for (int block = 0; block < 2; block++) {
                float(&to)[4] = C::kScaled ? part[block][o] : acc[block][o];
                mma_m16n8k16_bf16(to, a[block][0], b0);
                mma_m16n8k16_bf16(to, a[block][1], b1);
            }
        }
        if (!C::kScaled || (!Two && h == 0))
            continue;
        float scale[2][2], offset[2][2] = {};
#pragma unroll
        for (int block = 0; block < 2; block++)
            nb_pairs<C>(w, line + (Two ? h : 0) * w.line, lane >> 2, row % 2 * 2 + block, scale[block], offset[block]);
#pragma unroll
        for (int o = 0; o < Oct; o++) {
            const uint2 xs = C::kAffine ? ld_v2(sum + (Two ? h : 0) * T::kTokens * 4 + o * 32) : uint2{0, 0};
            const float sums[2] = {__uint_as_float(xs.x), __uint_as_float(xs.y)};
#pragma unroll
            for (int block = 0; block < 2; block++)
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    acc[block][o][e] += scale[block][e >> 1] * part[block][o][e];
                    if (C::kAffine)
                        acc[block][o][e] += offset[block][e >> 1] * sums[e & 1];
                    part[block][o][e] = 0.0f;
                }
        }
    }
}

template <int Oct, int Rows> DEVI void store(const Packed &w, const Io &io, int panel, int token, const float (&acc)[2][Oct][4])
{
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
#pragma unroll
    for (int block = 0; block < 2; block++)
#pragma unroll
        for (int o = 0; o < Oct; o++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int n = panel * kPanel + warp % Rows * 32 + block * 16 + (lane >> 2) + 8 * (e >> 1);
                const int m = token + (warp / Rows * Oct + o) * 8 + (lane & 3) * 2 + (e & 1);
                if (m < io.M && n < w.N)
                    nb_store(io, m, n, w.gain * acc[block][o][e]);
            }
}

template <class C, int Oct, int Rows, bool Two> __global__ void __launch_bounds__(kThreads, 1) tile_kernel(Packed w, Io io, Scratch s)
{
    using T = Tile<C, Oct, Rows, Two>;
    DYN_SHARED(uint8_t, ring);
    SHARED(unsigned, flag, [1]);
    const int stage_bytes = T::bytes(w), row_tiles = (w.n_panel + T::kPanels - 1) / T::kPanels, n_block = (int)gridDim.x;
    const int64_t total = (int64_t)s.n_count * w.n_unit;
    const int begin = nb_piece_begin(total, (int)blockIdx.x, n_block), end = nb_piece_begin(total, (int)blockIdx.x + 1, n_block);
    int next = begin, next_tile = begin / w.n_unit, next_in = begin % w.n_unit, empty = 0, full = 0;
    const auto fetch_next = [&] {
        if (next < end)
            fetch<C, Oct, Rows, Two>(w, s, next_tile % row_tiles * T::kPanels, next_tile / row_tiles * T::kTokens, next_in, ring + empty * stage_bytes);
        cp_async_commit();
        next++;
        if (++next_in == w.n_unit) {
            next_in = 0;
            next_tile++;
        }
        empty = empty + 1 == T::kStages ? 0 : empty + 1;
    };
    for (int i = 0; i < T::kStages - 1; i++)
        fetch_next();
    for (int at = begin; at < end;) {
        const int tile = at / w.n_unit, tile_end = min(end, (tile + 1) * w.n_unit);
        const int panel = tile % row_tiles * T::kPanels, token = tile / row_tiles * T::kTokens;
        float acc[2][Oct][4] = {};
        for (; at < tile_end; at++) {
            cp_async_wait<T::kStages - 2>();
            __syncthreads(); /* everyone's copies are there; and the stage that is filled next has been read by all */
            fetch_next();
            multiply<C, Oct, Rows, Two>(w, ring + full * stage_bytes, acc);
            full = full + 1 == T::kStages ? 0 : full + 1;
        }
        const int first = nb_piece_owner(total, tile * w.n_unit, n_block), last = nb_piece_owner(total, (tile + 1) * w.n_unit - 1, n_block);
        if (first != last) { /* shared with other blocks */
            float *part = s.part + threadIdx.x;
            const int64_t own = (int64_t)nb_piece_slot(total, (int)blockIdx.x, n_block, tile, w.n_unit) * T::kFloats;
#pragma unroll
            for (int i = 0; i < 8 * Oct; i++)
                part[own + i * kThreads] = acc[i / (4 * Oct)][i / 4 % Oct][i % 4];
            if (!nb_last_to_come(&s.count[tile], last - first + 1, flag))
                continue;
#pragma unroll
            for (int i = 0; i < 8 * Oct; i++)
                acc[i / (4 * Oct)][i / 4 % Oct][i % 4] = 0.0f;
            for (int c = first; c <= last; c++) {
                const int64_t from = (int64_t)nb_piece_slot(total, c, n_block, tile, w.n_unit) * T::kFloats;
#pragma unroll
                for (int i = 0; i < 8 * Oct; i++)
                    acc[i / (4 * Oct)][i / 4 % Oct][i % 4] += part[from + i * kThreads];
            }
        }
        store<Oct, Rows>(w, io, panel, token, acc);
    }
    cp_async_wait<0>();
}

template <class C, int Oct, int Rows, bool Two>
static nb_status start(nb_backend *be, const char *name, const nb_weight *w, const Io &io, const Scratch &s, int n_block, nb_error *err)
{
    using T = Tile<C, Oct, Rows, Two>;
    const size_t smem = (size_t)T::kStages * (size_t)T::bytes(w->packed);
    return nb_launch_large(be, name, tile_kernel<C, Oct, Rows, Two>, dim3((unsigned)n_block), dim3(kThreads), smem, err, w->packed, io, s);
}

template <int Oct, int Rows> static nb_status run(nb_backend *be, const char *name, const nb_weight *w, const Io &io, const Scratch &s, int n_block, nb_error *err)
{
    return nb_with_codec(w, [&](auto codec) {
        using C = decltype(codec);
        if (C::kScaled && w->packed.shift < 0)
            return start<C, Oct, Rows, C::kScaled>(be, name, w, io, s, n_block, err);
        return start<C, Oct, Rows, false>(be, name, w, io, s, n_block, err);
    });
}

nb_status nb_cuda_linear_tile_32(nb_backend *be, const nb_weight *w, const Io &io, const Scratch &s, int n_block, nb_error *err)
{
    return run<4, 8>(be, "tile_256x32", w, io, s, n_block, err);
}
nb_status nb_cuda_linear_tile_64(nb_backend *be, const nb_weight *w, const Io &io, const Scratch &s, int n_block, nb_error *err)
{
    return run<8, 8>(be, "tile_256x64", w, io, s, n_block, err);
}
nb_status nb_cuda_linear_tile_128(nb_backend *be, const nb_weight *w, const Io &io, const Scratch &s, int n_block, nb_error *err)
{
    return run<8, 4>(be, "tile_128x128", w, io, s, n_block, err);
}
