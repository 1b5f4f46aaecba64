/* dense.cu -- linear of many tokens by cuBLASLt: the one row that serves every format at once.
 * Weights become bf16 rows in scratch, a chunk of them at a time, and each chunk is multiplied by
 * the library.
 *
 *   scratch   x [M][width] bf16, gathered as the positions want it | rows of w [rows][width] bf16 | the library's workspace
 *
 * width = the weight's positions, whole units of 64; rows of a chunk: a multiple of kChunkRows, at
 * most kMostUnpacked bytes whatever N is.
 *
 * Against the tiles, for b bytes a packed weight, B bytes/s and F flop/s that the library reaches,
 * of which the tiles reach a share e:
 *
 *   tiles   2 M N K / (e F)
 *   here    2 M N K / F + (b + 2) N K / B + a launch for each kernel more         (what is read
 *           again is hidden behind the products)
 *
 * so this row comes from M = ((b + 2) N K / B + launches) / (2 N K (1 / e - 1) / F) on. H200, 8192
 * x 8192 in 4 bits: 2144 beside tiles of wgmma, 953 beside those of mma.sync. */
#include "linear/cublaslt.h"
#include "linear/linear.h"

constexpr int kWarps = 8, kThreads = 32 * kWarps;
constexpr int64_t kChunkRows = 256; /* the library's tiles have 64 to 256 */
#ifdef __CUDACC__
/* 8192 rows of 8192: 4 waves of 128 x 128 on 132 multiprocessors at M = 1024 */
constexpr int64_t kMostUnpacked = (int64_t)128 << 20;
#else
/* the emulator's matrices are small, and shall be cut, too */
constexpr int64_t kMostUnpacked = (int64_t)256 << 10;
#endif

/* B and F of H200, measured there: 4.3 TB/s copied, 788 TFLOP/s at 8192^3. mma.sync reaches 0.75 of
 * the 989 that wgmma has (arXiv 2402.13499); 0.85 of it in a kernel that also waits: e = 0.75 x
 * 0.85 x 989 / 788 = 0.80. Elsewhere the library has no other instruction: e = 0.88; A100's 312
 * TFLOP/s and 2.04 TB/s have the ratio of RTX 4090, too. All predictions. */
struct Card {
    double bytes_per_s, flop_per_s, share;
};
constexpr Card kHopper = {4.3e12, 788e12, 0.80}, kOther = {2.04e12, 312e12, 0.88};
constexpr double kLaunch = 1.3e-6; /* from kernel to kernel, inside a CUDA graph */
/* e of wgmma's tiles: the library's instruction, but sums wait to be scaled */
constexpr double kWgmmaShare = 0.90;

/* Scales cost the tiles an fma for each sum and line: beside the products of a unit a quarter of
 * their time for each line (docs/PERFORMANCE.md). */
static double share_of(const nb_cuda *c, const Card &card, const nb_weight *w)
{
    const double share = c->wgmma && (kUsual >> w->codes & 1) ? kWgmmaShare : card.share;
    return share * 5.0 / (4.0 + (w->packed.line ? nb_lines_a_unit(w->packed) : 1));
}

/* ---- how a weight is cut ---- */

struct Cut {
    int64_t width, rows;   /* positions; rows of a chunk */
    size_t w, work, bytes; /* where the parts of scratch begin, and their end */
};

static Cut cut(const nb_weight *w, int64_t M)
{
    Cut c;
    c.width = (int64_t)w->packed.n_unit * kUnit;
    const int64_t panels = (int64_t)w->packed.n_panel * kPanel,
                  n = nb_ceil_div(panels * c.width * 2, kMostUnpacked);
    c.rows = nb_ceil_div(nb_ceil_div(panels, n), kChunkRows) * kChunkRows;
    c.rows = c.rows < panels ? c.rows : panels;
    c.w = nb_align256((size_t)(M * c.width) * 2);
    c.work = c.w + nb_align256((size_t)(c.rows * c.width) * 2);
    c.bytes = c.work + kLtWorkspace + 256; /* and what aligning takes */
    return c;
}

/* The fewest tokens that come here; 0: none ever do. */
static int64_t from(const nb_cuda *c, const nb_weight *w)
{
    if (c->dense_from >= 0)
        return c->dense_from;
    const Card &card = c->sm == 90 ? kHopper : kOther;
    const Cut k = cut(w, 1);
    const double n = (double)w->N * (double)k.width, chunks = (double)nb_ceil_div(w->N, k.rows);
    const double cost = ((double)w->bytes + 2 * n) / card.bytes_per_s + (2 * chunks - 1) * kLaunch;
    const double a_token = 2 * n * (1 / share_of(c, card, w) - 1) / card.flop_per_s;
    return (int64_t)ceil(cost / a_token);
}

static nb_lt_shape shape_of(const nb_linear_args *a, const Cut &c, int64_t first)
{
    const int64_t left = a->w->N - first;
    return {a->M, left < c.rows ? left : c.rows, c.width, a->ldy ? a->ldy : a->w->N};
}

/* The library is asked last: it has to be opened for that. */
bool nb_cuda_dense_serves(nb_backend *be, const nb_linear_args *a)
{
    const int64_t least = from(nb_cuda_of(be), a->w);
    const Cut c = cut(a->w, a->M);
    const nb_lt_shape whole = shape_of(a, c, 0),
                      last = shape_of(a, c, (a->w->N - 1) / c.rows * c.rows);
    if (!least || a->M < least || (uintptr_t)a->y % 16 || whole.ldy % 4)
        return false;
    nb_lt *lt = nb_lt_of(be);
    return lt && nb_lt_serves(lt, &whole) && nb_lt_serves(lt, &last);
}

size_t nb_cuda_dense_scratch(nb_backend *be, const nb_linear_args *a)
{
    const int64_t least = from(nb_cuda_of(be), a->w);
    return least && a->M >= least && nb_lt_of(be) ? cut(a->w, a->M).bytes : 0;
}

/* ---- kernels ---- */

/* x in rows of positions, two of them a thread: 4 M K bytes read, 2 M K written. */
__global__ void __launch_bounds__(kThreads) rows_of_x_kernel(Packed w, Io io, uint32_t *x)
{
    const int pairs = w.n_unit * (kUnit / 2), i = (int)(blockIdx.x * kThreads + threadIdx.x);
    const bool whole = nb_whole_inputs(w, io);
    if (i < pairs)
        for (int m = (int)blockIdx.y; m < io.M; m += (int)gridDim.y) {
            float v[2];
            nb_inputs(w, io, whole, m, 2 * i, 1.0f, v);
            x[(int64_t)m * pairs + i] = bf2_pack(v[0], v[1]);
        }
}

/* What the product is added to: y = bias (+ y). */
__global__ void __launch_bounds__(kThreads) bias_kernel(Io io, int N)
{
    const int n = (int)(blockIdx.x * kThreads + threadIdx.x);
    if (n < N)
        for (int m = (int)blockIdx.y; m < io.M; m += (int)gridDim.y) {
            float *y = io.y + m * io.ldy + n;
            *y = io.add ? *y + io.bias[n] : io.bias[n];
        }
}

/* Of four lanes t and four words each: lane t has word t of all four. */
DEVI void exchange(int t, uint32_t (&r)[4])
{
#pragma unroll
    for (int bit = 1; bit < 4; bit <<= 1)
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int lo = bit == 1 ? 2 * i : i, hi = lo + bit;
            const uint32_t got = __shfl_xor_sync(0xffffffffu, t & bit ? r[lo] : r[hi], bit);
            if (t & bit)
                r[lo] = got;
            else
                r[hi] = got;
        }
}

/* Scales and offsets of rows g and g + 8 of a block, for one line. */
struct Terms {
    float scale[2], offset[2];
    uint32_t back[2];
};
template <class C>
DEVI void terms_of(const Packed &w, int panel, int line, int unit, int block, int g, Terms &t)
{
    const uint8_t *at = w.lines + ((int64_t)panel * w.n_line + line) * w.line;
    const uint8_t *super =
        w.supers + ((int64_t)panel * w.n_super + (unit >> kSuperShift)) * w.super;
    nb_line_scales<C, C::kLevels != 0>(w, at, super, 8 * g + 2 * block, t.scale);
    if constexpr (C::kAffine) {
        nb_line_back<C>(w, at, 8 * g + 2 * block, t.back);
        if (nb_has_offsets(w.kind))
            nb_line_offsets<C::kLevels != 0>(w, at, super, 8 * g + 2 * block, t.offset);
    }
    for (int h = 0; h < 2; h++) {
        t.scale[h] *= w.gain;
        t.offset[h] *= w.gain;
    }
}
template <class C> DEVI uint32_t value_of(const Terms &t, int h, uint32_t code)
{
    if constexpr (C::kAffine)
        code = bf2_fma(code, 0x3f803f80u, t.back[h]); /* code - zero: exact, as in tile.h */
    return bf2_pack(fmaf(t.scale[h], bf2_lo(code), t.offset[h]),
                    fmaf(t.scale[h], bf2_hi(code), t.offset[h]));
}

/* 16 rows of a unit a warp, from panel `first` on, each value rounded once: b bytes read a weight,
 * 2 written. A lane's fragments are of rows g and g + 8, positions 2t and 2t + 1 of each half step;
 * four lanes exchange them, so that each stores 16 bytes and they store 64 of a row together. */
template <class C>
__global__ void __launch_bounds__(kThreads)
    unpack_kernel(Packed w, int first, int n_panel, uint8_t *to)
{
    const int job = (int)(blockIdx.x * kWarps + (threadIdx.x >> 5)), block = job & 3,
              unit = (job >> 2) % w.n_unit, in = (job >> 2) / w.n_unit;
    const int lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3, panel = first + in;
    if (in >= n_panel)
        return;
    const uint8_t *codes = w.codes + ((int64_t)panel * w.n_unit + unit) * C::kBytes;
    const int lines = nb_lines_a_unit(w);
    typename C::Chunk chunk = {};
    Terms terms = {};
    uint32_t v[4][4]; /* [step][pair] */
#pragma unroll
    for (int i = 0; i < 4; i++) {
        C::load(codes, block, i, lane, chunk);
        C::fragment(w, chunk, i, v[i]);
        if constexpr (C::kScaled) {
            if (lines * i % 4 == 0)
                terms_of<C>(w, panel, w.shift < 0 ? lines * unit + lines * i / 4 : unit >> w.shift,
                            unit, block, g, terms);
#pragma unroll
            for (int j = 0; j < 4; j++)
                v[i][j] = value_of<C>(terms, j & 1, v[i][j]);
        }
    }
#pragma unroll
    for (int h = 0; h < 2; h++)
#pragma unroll
        for (int s = 0; s < 2; s++) {
            uint32_t r[4] = {v[2 * s][h], v[2 * s][h + 2], v[2 * s + 1][h], v[2 * s + 1][h + 2]};
            exchange(t, r);
            const int64_t row = (int64_t)in * kPanel + block * 16 + g + 8 * h;
            st_v4(to + (row * w.n_unit + unit) * (2 * kUnit) + 64 * s + 16 * t,
                  uint4{r[0], r[1], r[2], r[3]});
        }
}

/* ---- a call ---- */

/* A row of blocks for every token, as many as a grid has. */
static dim3 grid_of(int64_t n, int64_t M)
{
    return dim3((unsigned)nb_ceil_div(n, kThreads), (unsigned)(M < 65535 ? M : 65535));
}

static nb_status unpack(nb_backend *be, const nb_weight *w, int64_t first, int64_t rows,
                        uint8_t *to, nb_error *err)
{
    const int64_t n_panel = nb_ceil_div(rows, kPanel),
                  jobs = n_panel * w->packed.n_unit * (kPanel / 16);
    return nb_with_codec(w->codes, [&](auto codec) {
        return nb_launch(be, "unpack", unpack_kernel<decltype(codec)>,
                         dim3((unsigned)nb_ceil_div(jobs, kWarps)), dim3(kThreads), 0, err,
                         w->packed, (int)(first / kPanel), (int)n_panel, to);
    });
}

nb_status nb_cuda_dense(nb_backend *be, const nb_linear_args *a, nb_error *err)
{
    const Cut c = cut(a->w, a->M);
    const Io io = {a->x, a->bias, a->y, a->ldx, a->ldy, (int)a->M, a->add, {}};
    uint8_t *at = (uint8_t *)(((uintptr_t)a->scratch + 255) / 256 * 256);
    nb_status st = nb_launch(be, "rows of x", rows_of_x_kernel, grid_of(c.width / 2, a->M),
                             dim3(kThreads), 0, err, a->w->packed, io, (uint32_t *)(void *)at);
    if (st == NB_OK && a->bias)
        st = nb_launch(be, "bias", bias_kernel, grid_of(a->w->N, a->M), dim3(kThreads), 0, err, io,
                       (int)a->w->N);
    for (int64_t first = 0; first < a->w->N && st == NB_OK; first += c.rows) {
        const nb_lt_shape s = shape_of(a, c, first);
        st = unpack(be, a->w, first, s.N, at + c.w, err);
        if (st == NB_OK)
            st = nb_lt_product(be, nb_lt_of(be), &s, at, at + c.w, a->y + first, a->add || a->bias,
                               at + c.work, err);
    }
    return st;
}
