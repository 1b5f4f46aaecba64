/* stream.cu -- y = x W^T for 1 to 16 tokens: decode. The weights are read once, at the rate that memory gives.
 *
 * A tile is a panel: 64 outputs, all tokens. The warps of a block take the units of its piece in turn; of a unit a warp multiplies all 64 rows, weights as
 * the 16-row operand of mma.m16n8k16, so that up to 8 tokens waste nothing. Warps never wait for each other within a tile:
 *
 *   weights   cp.async into a ring of the warp's own, kStages units deep; a lane copies the 16 bytes that it will read
 *   lines     behind the unit in the ring; all lanes read them, hence the __syncwarp
 *   x         from L2 into registers, one unit ahead
 *
 * Sums: the codes' products in f32 over a line's positions, times scale, plus offset times the sum of x (a product with ones: the same instruction, and
 * it lands where it is wanted); then over the warp's units, over the block's warps in order, over the blocks in order.
 *
 * Bytes: the weights once, x once a panel from L2. Issue slots a unit of 4096 U4 codes and 8 tokens: docs/PERFORMANCE.md. */
#include "linear/linear.h"

constexpr int kSkew = 4; /* f32 behind a token's 64 sums: the warps' stores then fall into 32 banks */
constexpr int kColumn = kPanel + kSkew;

/* A warp's way through its units. */
struct Walk {
    int unit, tile, in; /* on the line; its tile; its unit within the tile */
};
template <int Step> DEVI void advance(Walk &a, int n_unit)
{
    a.unit += Step;
    a.in += Step;
    while (a.in >= n_unit) {
        a.in -= n_unit;
        a.tile++;
    }
}

template <class C, bool Two> DEVI void fetch(const Packed &w, const Walk &at, uint8_t *stage, int lane)
{
    const uint8_t *unit = w.codes + ((int64_t)at.tile * w.n_unit + at.in) * C::kBytes;
#pragma unroll
    for (int i = 0; i < C::kBytes / 512; i++)
        cp_async_16(stage + i * 512 + lane * 16, unit + i * 512 + lane * 16);
    if (!C::kScaled)
        return;
    const int bytes = Two ? 2 * w.line : w.line;
    const uint8_t *line = w.lines + ((int64_t)at.tile * w.n_line + (Two ? 2 * at.in : at.in >> w.shift)) * w.line;
    for (int i = lane * 16; i < bytes; i += 512)
        cp_async_16(stage + C::kBytes + i, line + i);
}

template <int Oct> DEVI void fetch_x(const Scratch &s, int M, int unit, int lane, uint4 (&x)[Oct][2])
{
#pragma unroll
    for (int o = 0; o < Oct; o++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const uint8_t *from = s.x + (((int64_t)unit * s.n_oct + o) * 2 + h) * 512 + lane * 16;
            x[o][h] = 8 * o + (lane >> 2) < M ? ld_v4(from) : uint4{0, 0, 0, 0};
        }
}

DEVI void step_of(const uint4 (&x)[2], int i, uint32_t (&b)[2])
{
    const uint4 &h = x[i >> 1];
    b[0] = i & 1 ? h.z : h.x;
    b[1] = i & 1 ? h.w : h.y;
}

/* acc[block of 16 rows] += unit x; the fragments as mma leaves them. */
template <class C, int Oct, bool Two>
DEVI void multiply(const Packed &w, const uint8_t *stage, int lane, const uint4 (&x)[Oct][2], float (&acc)[4][Oct][4])
{
    constexpr uint32_t kOne = 0x3f803f80;
    const uint32_t ones[4] = {kOne, kOne, kOne, kOne};
    float sum[Two ? 2 : 1][Oct][4] = {};
    uint32_t b[2];
    if (C::kAffine) {
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int o = 0; o < Oct; o++) {
                step_of(x[o], i, b);
                mma_m16n8k16_bf16(sum[Two ? i >> 1 : 0][o], ones, b);
            }
    }
#pragma unroll
    for (int block = 0; block < 4; block++) {
        float part[Oct][4] = {};
        uint4 chunk = {0, 0, 0, 0};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t a[4];
            if (i % C::kSteps == 0)
                chunk = ld_v4(stage + (block * (4 / C::kSteps) + i / C::kSteps) * 512 + lane * 16);
            C::fragment(w, chunk, i % C::kSteps, a);
#pragma unroll
            for (int o = 0; o < Oct; o++) {
                step_of(x[o], i, b);
                mma_m16n8k16_bf16(C::kScaled ? part[o] : acc[block][o], a, b);
            }
            if (C::kScaled && (i == 3 || (Two && i == 1))) {
                const int half = Two ? i >> 1 : 0;
                float scale[2], offset[2] = {0.0f, 0.0f};
                nb_pairs<C>(w, stage + C::kBytes + half * w.line, lane >> 2, block, scale, offset);
#pragma unroll
                for (int o = 0; o < Oct; o++)
#pragma unroll
                    for (int e = 0; e < 4; e++) {
                        acc[block][o][e] += scale[e >> 1] * part[o][e];
                        if (C::kAffine)
                            acc[block][o][e] += offset[e >> 1] * sum[half][o][e & 1];
                        part[o][e] = 0.0f;
                    }
            }
        }
    }
}

/* The block's sum of a tile, out of its warps': to y when it has all of the tile, else left for the last block to come. */
template <class C, int Oct>
DEVI void finish(const Packed &w, const Io &io, const Scratch &s, int tile, int64_t total, float (&acc)[4][Oct][4], float *sums, unsigned *flag)
{
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3, n_block = (int)gridDim.x;
    float *own = sums + warp * 8 * Oct * kColumn;
    __syncthreads(); /* the tile before has been read */
#pragma unroll
    for (int block = 0; block < 4; block++)
#pragma unroll
        for (int o = 0; o < Oct; o++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                own[(8 * o + 2 * t + (e & 1)) * kColumn + block * 16 + g + 8 * (e >> 1)] = acc[block][o][e];
    __syncthreads();
    const int first = nb_piece_owner(total, tile * w.n_unit, n_block), last = nb_piece_owner(total, (tile + 1) * w.n_unit - 1, n_block);
    float *left = s.part + (int64_t)nb_piece_slot(total, (int)blockIdx.x, n_block, tile, w.n_unit) * (kPanel * 8 * Oct);
    for (int i = threadIdx.x; i < kPanel * io.M; i += blockDim.x) {
        const int row = i % kPanel, token = i / kPanel, n = tile * kPanel + row;
        float v = 0.0f;
#pragma unroll
        for (int j = 0; j < C::kWarps; j++)
            v += sums[(j * 8 * Oct + token) * kColumn + row];
        if (first != last)
            left[i] = v;
        else if (n < w.N)
            nb_store(io, token, n, w.gain * v);
    }
    if (first == last || !nb_last_to_come(&s.count[tile], last - first + 1, flag))
        return;
    for (int i = threadIdx.x; i < kPanel * io.M; i += blockDim.x) {
        const int n = tile * kPanel + i % kPanel;
        float v = 0.0f;
        for (int c = first; c <= last; c++)
            v += s.part[(int64_t)nb_piece_slot(total, c, n_block, tile, w.n_unit) * (kPanel * 8 * Oct) + i];
        if (n < w.N)
            nb_store(io, i / kPanel, n, w.gain * v);
    }
}

template <class C, int Oct, bool Two> __global__ void __launch_bounds__(32 * C::kWarps, 2) stream_kernel(Packed w, Io io, Scratch s)
{
    DYN_SHARED(uint8_t, shared);
    SHARED(unsigned, flag, [1]);
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, stage_bytes = C::kBytes + (Two ? 2 : 1) * w.line;
    uint8_t *ring = shared + warp * C::kStages * stage_bytes;
    float *sums = (float *)(void *)(shared + C::kWarps * C::kStages * stage_bytes);
    const int64_t total = (int64_t)w.n_panel * w.n_unit;
    const int begin = nb_piece_begin(total, (int)blockIdx.x, (int)gridDim.x), end = nb_piece_begin(total, (int)blockIdx.x + 1, (int)gridDim.x);
    Walk at = {begin + warp, begin / w.n_unit, begin % w.n_unit + warp};
    advance<0>(at, w.n_unit);
    Walk next = at;
    uint4 x[Oct][2], x_next[Oct][2] = {};
    if (at.unit < end)
        fetch_x<Oct>(s, io.M, at.in, lane, x_next);
#pragma unroll
    for (int i = 0; i < C::kStages - 1; i++) {
        if (next.unit < end)
            fetch<C, Two>(w, next, ring + i * stage_bytes, lane);
        cp_async_commit();
        advance<C::kWarps>(next, w.n_unit);
    }
    int full = 0, empty = C::kStages - 1; /* stages of the ring */
    for (int tile_begin = begin; tile_begin < end;) {
        const int tile = tile_begin / w.n_unit, tile_end = min(end, (tile + 1) * w.n_unit);
        float acc[4][Oct][4] = {};
        while (at.unit < tile_end) {
#pragma unroll
            for (int o = 0; o < Oct; o++) {
                x[o][0] = x_next[o][0];
                x[o][1] = x_next[o][1];
            }
            cp_async_wait<C::kStages - 2>();
            __syncwarp();
            if (next.unit < end)
                fetch<C, Two>(w, next, ring + empty * stage_bytes, lane);
            cp_async_commit();
            advance<C::kWarps>(next, w.n_unit);
            advance<C::kWarps>(at, w.n_unit);
            if (at.unit < end)
                fetch_x<Oct>(s, io.M, at.in, lane, x_next);
            multiply<C, Oct, Two>(w, ring + full * stage_bytes, lane, x, acc);
            empty = full;
            full = full + 1 == C::kStages ? 0 : full + 1;
        }
        finish<C, Oct>(w, io, s, tile, total, acc, sums, flag);
        tile_begin = tile_end;
    }
    cp_async_wait<0>();
}

template <class C, int Oct> static nb_status run(nb_backend *be, const nb_weight *w, const Io &io, const Scratch &s, int n_block, nb_error *err)
{
    const bool two = C::kScaled && w->packed.shift < 0;
    const size_t stage = (size_t)C::kBytes + (size_t)w->packed.line * (two ? 2 : 1);
    const size_t smem = C::kWarps * (C::kStages * stage + 8 * Oct * kColumn * sizeof(float));
    void (*const kernel)(Packed, Io, Scratch) = two ? stream_kernel<C, Oct, C::kScaled> : stream_kernel<C, Oct, false>;
    return nb_launch_large(be, "stream", kernel, dim3((unsigned)n_block), dim3(32 * C::kWarps), smem, err, w->packed, io, s);
}

nb_status nb_cuda_linear_stream(nb_backend *be, const nb_weight *w, const Io &io, const Scratch &s, int n_block, nb_error *err)
{
    return nb_with_codec(w, [&](auto codec) {
        using C = decltype(codec);
        return io.M <= 8 ? run<C, 1>(be, w, io, s, n_block, err) : run<C, 2>(be, w, io, s, n_block, err);
    });
}
