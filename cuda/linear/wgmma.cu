/* wgmma.cu -- y = x W^T for more than 64 tokens on sm_90a: as tile.h, but multiplied by wgmma, which
 * alone reaches Hopper's rate (mma.sync 0.75 of it at best, arXiv 2402.13499).
 *
 * wgmma takes A, 64 outputs a group of four warps, from registers: so codes become bf16 in registers
 * as everywhere, and warp i of a group has block i of a panel (weight.h), whose words are the
 * fragments. B, 128 tokens, lies in shared memory as activations.cu brings it (linear.h).
 *
 *   stage   x of 128 tokens, 16 KiB | codes of the tile's panels | their lines | their super-blocks |
 *           the sums of x                                        kStages deep
 *
 * A warp of its own, the producer, fills stages by bulk copies of contiguous bytes: lane i brings
 * piece i. Two groups of four warps multiply, each P panels x 128 tokens. full[stage]: its bytes are
 * there; empty[stage]: all eight warps have read it.
 *
 *   P 2   256 outputs x 128 tokens: 24 KiB of x and codes a unit from L2 for 1024 clocks of products
 *   P 1   128 x 128: 20 KiB for 512 clocks, more than L2 gives; but twice the tiles, for few outputs;
 *         and for four lines a unit, where scaling takes longer than L2
 *
 * A unit is cut into slices of two steps of 16 positions (one where a line has no more). A slice is
 * converted while the one before it is multiplied, into the other of two sets of registers. When a
 * line ends, or the unit, its sums are waited for, scaled and added in f32, and the group's next
 * product begins them anew; meanwhile the other group multiplies. */
#include "linear/linear.h"

constexpr int kGroups = 2, kConsumers = 128 * kGroups, kThreads = kConsumers + 128;
constexpr int kTokens = 128, kX = kTokens * 128, kStages = 4;
constexpr int kMostShared = 227 << 10;

template <class C_, int P_, int Lines_> struct HopperTile {
    using C = C_;
    static constexpr int P = P_, kLines = Lines_; /* panels of a group; lines of a unit: 1, 2, 4 */
    static constexpr int kPanels = kGroups * P, kFloats = kPanels * kPanel * kTokens;
    static constexpr bool kLevels = (C::kLevels & kLines) != 0;
    static constexpr int kSteps = kLines == 4 ? 1 : 2,
                         kSlices = 4 / kSteps;                /* of a slice, of a unit */
    static constexpr int kSum = kTokens * (int)sizeof(float); /* of a line */
    static constexpr int kLargest =
        kX + kPanels * (C::kBytes + kLines * nb_line_most<C>()) + (C::kAffine ? kLines * kSum : 0);
    static_assert(kStages * ((kLargest + 1023) / 1024 * 1024) <= kMostShared - 1024,
                  "shared memory");
    /* where the parts of a stage begin; x wants a multiple of 1024, so does a stage */
    static constexpr int kCodesAt = kX, kLinesAt = kCodesAt + kPanels * C::kBytes;
    static __host__ __device__ int supers_at(const Packed &w)
    {
        return kLinesAt + kPanels * kLines * w.line;
    }
    static __host__ __device__ int sums_at(const Packed &w)
    {
        return supers_at(w) + kPanels * w.super;
    }
    static __host__ __device__ int sums(const Packed &w) /* lines that want them */
    {
        return C::kAffine && nb_has_offsets(w.kind) ? kLines : 0;
    }
    static __host__ __device__ int filled(const Packed &w) /* bytes of a stage that are brought */
    {
        return sums_at(w) + sums(w) * kSum;
    }
    static __host__ __device__ int bytes(const Packed &w)
    {
        return (filled(w) + 1023) / 1024 * 1024;
    }
};

#ifdef GPU_WGMMA
/* registers of a thread: 384 begin with 168, 65536 a multiprocessor in all */
constexpr int kProducerRegisters = 24, kConsumerRegisters = 240;

/* A contiguous part of a unit and its place in a stage; bytes 0: none. */
struct Piece {
    const uint8_t *from;
    int to, bytes;
};

/* Lane i's piece of unit `in` of a tile. Beyond the last panel that one is brought again: what is
 * made of it is not stored. */
template <class T> DEVI Piece piece_of(const Packed &w, const Scratch &s, int i, int tile, int in)
{
    constexpr int kX0 = 3 * T::kPanels; /* behind codes, lines, super-blocks */
    const int row_tiles = (w.n_panel + T::kPanels - 1) / T::kPanels, j = i % T::kPanels,
              token = tile / row_tiles * kTokens;
    const int64_t panel = min(tile % row_tiles * T::kPanels + j, w.n_panel - 1);
    const int line = T::kLines * w.line;
    if (i < T::kPanels)
        return {w.codes + (panel * w.n_unit + in) * T::C::kBytes, T::kCodesAt + j * T::C::kBytes,
                T::C::kBytes};
    if (i < 2 * T::kPanels)
        return {w.lines +
                    (panel * w.n_line + (T::kLines > 1 ? T::kLines * in : in >> w.shift)) * w.line,
                T::kLinesAt + j * line, line};
    if (i < kX0)
        return {w.supers + (panel * w.n_super + (in >> kSuperShift)) * w.super,
                T::supers_at(w) + j * w.super, w.super};
    if (i == kX0)
        return {s.x + ((int64_t)in * s.n_oct + token / 8) * 1024, 0, kX};
    const int l = i - kX0 - 1; /* the sums of a line */
    return {(const uint8_t *)(s.sum + ((int64_t)T::kLines * in + l) * s.n_oct * 8 + token),
            T::sums_at(w) + l * T::kSum, l < T::sums(w) ? T::kSum : 0};
}

/* The producer's warp: units begin to end - 1, a stage each. */
template <class T>
DEVI void produce(const Packed &w, const Scratch &s, uint8_t *ring, uint64_t *full, uint64_t *empty,
                  int begin, int end)
{
    static_assert(3 * T::kPanels + 1 + T::kLines <= 32, "a lane a piece");
    const int lane = threadIdx.x & 31, bytes = T::bytes(w), filled = T::filled(w);
    int tile = begin / w.n_unit, in = begin % w.n_unit, slot = 0;
    unsigned phase = 0;
#pragma unroll 1
    for (int at = begin; at < end; at++) {
        const Piece piece = piece_of<T>(w, s, lane, tile, in);
        mbarrier_wait(&empty[slot], phase ^ 1); /* the first time round all are */
        if (lane == 0)
            mbarrier_arrive_expect_tx(&full[slot], (unsigned)filled);
        __syncwarp(); /* expected before it lands; the phase waits for the arrival either way */
        if (piece.bytes)
            bulk_load(ring + slot * bytes + piece.to, piece.from, (unsigned)piece.bytes,
                      &full[slot]);
        if (++slot == kStages) {
            slot = 0;
            phase ^= 1;
        }
        if (++in == w.n_unit) {
            in = 0;
            tile++;
        }
    }
}

/* What a lane keeps of the panel it converts. */
template <class T> struct Convert {
    typename T::C::Chunk chunk;
    uint32_t back[2];
};

/* The fragments of a slice of a panel, counted within the tile. */
template <class T>
DEVI void convert(const Packed &w, const uint8_t *stage, int panel, int slice, Convert<T> &c,
                  uint32_t (&a)[T::kSteps][4])
{
    using C = typename T::C;
    const int lane = threadIdx.x & 31, block = threadIdx.x >> 5 & 3;
#pragma unroll
    for (int j = 0; j < T::kSteps; j++) {
        const int i = slice * T::kSteps + j;
        if (C::kAffine && T::kLines * i % 4 == 0)
            nb_line_back<C>(w,
                            stage + T::kLinesAt + (panel * T::kLines + T::kLines * i / 4) * w.line,
                            8 * (lane >> 2) + 2 * block, c.back);
        C::load(stage + T::kCodesAt + panel * C::kBytes, block, i, lane, c.chunk);
        C::fragment(w, c.chunk, i, a[j]);
        if constexpr (C::kAffine) {
#pragma unroll
            for (int r = 0; r < 4; r++)
                a[j][r] = bf2_fma(a[j][r], 0x3f803f80u, c.back[r & 1]);
        }
    }
}

/* acc += scale part (+ offset sum of x), of one line. Element e: row g + 8 (e / 2 % 2), token 8 (e /
 * 4) + 2t + e % 2. */
template <class T>
DEVI void close_line(const Packed &w, const uint8_t *stage, int panel, int line, float (&acc)[64],
                     const float (&part)[64])
{
    const int lane = threadIdx.x & 31, at = 8 * (lane >> 2) + 2 * (threadIdx.x >> 5 & 3);
    const uint8_t *from = stage + T::kLinesAt + (panel * T::kLines + line) * w.line,
                  *super = stage + T::supers_at(w) + panel * w.super;
    float scale[2];
    nb_line_scales<typename T::C, T::kLevels>(w, from, super, at, scale);
#pragma unroll
    for (int e = 0; e < 64; e++)
        acc[e] = fmaf(scale[e >> 1 & 1], part[e], acc[e]);
    if constexpr (T::C::kAffine) {
        if (!nb_has_offsets(w.kind))
            return;
        const uint8_t *sum = stage + T::sums_at(w) + line * T::kSum + 8 * (lane & 3);
        float offset[2];
        nb_line_offsets<T::kLevels>(w, from, super, at, offset);
#pragma unroll
        for (int o = 0; o < 16; o++) {
            const uint2 xs = ld_v2(sum + 32 * o);
#pragma unroll
            for (int r = 0; r < 2; r++) {
                acc[4 * o + 2 * r] = fmaf(offset[r], __uint_as_float(xs.x), acc[4 * o + 2 * r]);
                acc[4 * o + 2 * r + 1] =
                    fmaf(offset[r], __uint_as_float(xs.y), acc[4 * o + 2 * r + 1]);
            }
        }
    }
}

/* Partial sums of a tile that is shared; false: other blocks are still to come. Else acc is all of
 * it. */
template <class T>
DEVI bool gather(const Packed &w, const Scratch &s, int tile, int64_t total, float (&acc)[T::P][64],
                 unsigned *flag)
{
    const int n_block = (int)gridDim.x, first = nb_piece_owner(total, tile * w.n_unit, n_block),
              last = nb_piece_owner(total, (tile + 1) * w.n_unit - 1, n_block);
    if (first == last)
        return true;
    float *part = s.part + threadIdx.x;
    const int64_t own =
        (int64_t)nb_piece_slot(total, (int)blockIdx.x, n_block, tile, w.n_unit) * T::kFloats;
#pragma unroll
    for (int i = 0; i < T::P * 64; i++)
        part[own + i * kConsumers] = acc[i / 64][i % 64];
    if (!nb_last_to_come<kConsumers>(&s.count[tile], last - first + 1, flag))
        return false;
#pragma unroll
    for (int i = 0; i < T::P * 64; i++)
        acc[i / 64][i % 64] = 0.0f;
    for (int c = first; c <= last; c++) {
        const int64_t from = (int64_t)nb_piece_slot(total, c, n_block, tile, w.n_unit) * T::kFloats;
#pragma unroll
        for (int i = 0; i < T::P * 64; i++)
            acc[i / 64][i % 64] += part[from + i * kConsumers];
    }
    return true;
}

/* To y, as nb_store does it; a lane has two outputs a panel, so their bias is read once. */
template <class T>
DEVI void store(const Packed &w, const Io &io, int panel, int token, const float (&acc)[T::P][64])
{
    const int lane = threadIdx.x & 31, row = 16 * (threadIdx.x >> 5 & 3) + (lane >> 2),
              m0 = token + 2 * (lane & 3);
#pragma unroll
    for (int p = 0; p < T::P; p++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const int n = (panel + p) * kPanel + row + 8 * r;
            if (n >= w.N)
                continue;
            const float bias = io.bias ? io.bias[n] : 0.0f;
            float *y = io.y + m0 * io.ldy + n;
#pragma unroll
            for (int o = 0; o < 16; o++, y += 8 * io.ldy)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    float *to = y + e * io.ldy;
                    if (m0 + 8 * o + e < io.M) {
                        const float v = w.gain * acc[p][4 * o + 2 * r + e] + bias;
                        *to = io.add ? *to + v : v;
                    }
                }
        }
}

/* One of the groups that multiply: units begin to end - 1. */
template <class T>
DEVI void consume(const Packed &w, const Io &io, const Scratch &s, const uint8_t *ring,
                  uint64_t *full, uint64_t *empty, int begin, int end, unsigned *flag)
{
    using C = typename T::C;
    constexpr int kJobs = T::P * T::kSlices; /* slices of all panels of a unit */
    static_assert(kJobs % 2 == 0, "so that each unit begins with the same registers");
    const int lane = threadIdx.x & 31, panel0 = threadIdx.x / 128 * T::P, bytes = T::bytes(w),
              row_tiles = (w.n_panel + T::kPanels - 1) / T::kPanels;
    float acc[T::P][64], part[64] = {};
    uint32_t a[2][T::kSteps][4];
    Convert<T> c = {};
    int slot = 0;
    unsigned phase = 0;
    mbarrier_wait(&full[0], 0);
    convert<T>(w, ring, panel0, 0, c, a[0]);
    for (int at = begin; at < end;) {
        const int tile = at / w.n_unit, tile_end = min(end, (tile + 1) * w.n_unit);
#pragma unroll
        for (int i = 0; i < T::P * 64; i++)
            acc[i / 64][i % 64] = 0.0f;
#pragma unroll 1
        for (; at < tile_end; at++) {
            const uint8_t *stage = ring + slot * bytes;
            const uint64_t x = wgmma_desc_sw128(stage);
            const int next = slot + 1 == kStages ? 0 : slot + 1;
            const unsigned next_phase = phase ^ (next == 0);
#pragma unroll
            for (int i = 0; i < kJobs; i++) {
                const int p = i / T::kSlices, slice = i % T::kSlices, step = slice * T::kSteps;
                const bool begins = C::kScaled && T::kLines * step % 4 == 0;
                const bool ends =
                    C::kScaled ? T::kLines * (step + T::kSteps) % 4 == 0 : i + 1 == kJobs;
                float(&to)[64] = C::kScaled ? part : acc[p];
                wgmma_fence();
#pragma unroll
                for (int j = 0; j < T::kSteps; j++) /* 16 positions are 32 bytes of a row of x */
                    wgmma_m64n128k16_bf16(to, a[i & 1][j], x + 2 * (step + j), !(begins && j == 0));
                wgmma_commit();
                wgmma_wait<1>(); /* the slice before, whose registers are converted into */
                if (i + 1 < kJobs) {
                    convert<T>(w, stage, panel0 + (i + 1) / T::kSlices, (i + 1) % T::kSlices, c,
                               a[(i + 1) & 1]);
                } else if (at + 1 < end) {
                    mbarrier_wait(&full[next], next_phase);
                    convert<T>(w, ring + next * bytes, panel0, 0, c, a[0]);
                }
                if (ends) {
                    wgmma_wait<0>();
                    if constexpr (C::kScaled) {
                        wgmma_settle(part);
                        close_line<T>(w, stage, panel0 + p, T::kLines * step / 4, acc[p], part);
                    } else {
#pragma unroll
                        for (int q = 0; q < T::P; q++)
                            wgmma_settle(acc[q]);
                    }
                }
            }
            __syncwarp();
            if (lane == 0)
                mbarrier_arrive(&empty[slot]);
            slot = next;
            phase = next_phase;
        }
        const int panel = tile % row_tiles * T::kPanels + panel0,
                  token = tile / row_tiles * kTokens;
        const int64_t total = (int64_t)s.n_count * w.n_unit;
        if (gather<T>(w, s, tile, total, acc, flag))
            store<T>(w, io, panel, token, acc);
    }
}
#endif

template <class T>
__global__ void __launch_bounds__(kThreads, 1) wgmma_kernel(Packed w, Io io, Scratch s)
{
#ifdef GPU_WGMMA
    DYN_SHARED(uint8_t, ring);
    SHARED(uint64_t, full, [kStages]);
    SHARED(uint64_t, empty, [kStages]);
    SHARED(unsigned, flag, [1]);
    const int64_t total = (int64_t)s.n_count * w.n_unit;
    const int begin = nb_piece_begin(total, (int)blockIdx.x, (int)gridDim.x),
              end = nb_piece_begin(total, (int)blockIdx.x + 1, (int)gridDim.x);
    if (threadIdx.x == 0) {
        for (int i = 0; i < kStages; i++) {
            mbarrier_init(&full[i], 1);
            mbarrier_init(&empty[i], kConsumers / 32);
        }
        mbarrier_fence_init();
    }
    __syncthreads();
    if (threadIdx.x >= kConsumers) { /* a whole group gives its registers away, one warp works */
        registers_fewer<kProducerRegisters>();
        if (threadIdx.x < kConsumers + 32)
            produce<T>(w, s, ring, full, empty, begin, end);
        return;
    }
    registers_more<kConsumerRegisters>();
    if (begin < end)
        consume<T>(w, io, s, ring, full, empty, begin, end, flag);
#endif
}

template <int P>
static nb_status wgmma_start(nb_backend *be, const char *name, const nb_weight *w, const Io &io,
                             const Scratch &s, int n_block, nb_error *err)
{
    return nb_with_lines(w, [&](auto codec, auto lines) {
        using C = decltype(codec);
        constexpr int kLines = decltype(lines)::n;
        if constexpr ((kUsual >> C::kCodes & 1) != 0 && P * kLines <= 4) {
            using T = HopperTile<C, P, kLines>;
            return nb_launch_large(be, name, wgmma_kernel<T>, dim3((unsigned)n_block),
                                   dim3(kThreads), (size_t)kStages * (size_t)T::bytes(w->packed),
                                   err, w->packed, io, s);
        } else {
            /* the table of rows knows */
            return nb_fail(err, NB_DEVICE, "%s: %s does not serve this weight", be->name, name);
        }
    });
}

nb_status nb_cuda_linear_wgmma_128(nb_backend *be, const nb_weight *w, const Io &io,
                                   const Scratch &s, int n_block, nb_error *err)
{
    return wgmma_start<1>(be, "wgmma_128x128", w, io, s, n_block, err);
}

nb_status nb_cuda_linear_wgmma_256(nb_backend *be, const nb_weight *w, const Io &io,
                                   const Scratch &s, int n_block, nb_error *err)
{
    return wgmma_start<2>(be, "wgmma_256x128", w, io, s, n_block, err);
}

/* Clocks of a block, by arithmetic: of the tensor cores for the products of a unit and panel of each
 * group; with P 1 L2 takes longer over the unit's 20 KiB: 7 TB/s, which others have seen an H100
 * give, are 36 bytes a clock and multiprocessor at the clock that 788 TFLOP/s stand for. And the last
 * to come at a tile reads what each of its blocks left, at 64 bytes a clock. */
static double clocks(const nb_cuda *c, const nb_linear_args *a, int P)
{
    constexpr double kUnitClocks = 512, kL2Clocks = 20480.0 / 36, kReadClocks = 128 * 128 * 4 / 64;
    const double tiles = (double)(nb_ceil_div(a->w->packed.n_panel, kGroups * P) *
                                  nb_ceil_div(a->M, kTokens)),
                 a_block = tiles / c->n_sm;
    return a_block * a->w->packed.n_unit * (P > 1 ? P * kUnitClocks : kL2Clocks) +
           (1 / a_block + 1) * P * kReadClocks;
}

bool nb_cuda_wgmma_256_serves(nb_backend *be, const nb_linear_args *a)
{
    return nb_lines_a_unit(a->w->packed) < 4 &&
           clocks(nb_cuda_of(be), a, 2) < clocks(nb_cuda_of(be), a, 1);
}

bool nb_cuda_has_wgmma(void)
{
    return gpu_has_body(wgmma_kernel<HopperTile<U4, 2, 1>>);
}
