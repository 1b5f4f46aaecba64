/* sample.cu -- from logits to a token (backend.h), without sorting: three kernels.
 *
 *   top     the greatest of each slice of a row; counters of the row set to 0
 *   weigh   p of every logit (sample.h) into scratch, and how many and how heavy the candidates of
 *           each coarse bin are
 *   pick    a block a row: a few descents to a place in the order of p, then which index it is
 *
 * The order of p is that of its bits. p >= e^-20 > 2^-29 leaves 28 of them above 2^-29's; a descent
 * finds the p at which the count or the weight of all that come before reaches a target, by 10
 * (coarse), 9 and 9 (fine) bits:
 *
 *     bits(p) - bits(2^-29) = | coarse | fine | finest |      finest bins hold one p: their weight is that of p times the count
 *
 * Counts and weights are integers, so atomic additions give the same bits in any order. Bytes of a
 * row: 4 N read twice by the first two kernels, 4 N written, and 4 N read from L2 by `pick` twice a
 * descent (top-k, top-p and the draw, each where it is asked for) and once or twice more. */
#include "device.h"
#include "reduce.h"

#include "backend/sample.h"

typedef unsigned long long u64; /* what atomicAdd takes */

constexpr int kSlice = 4096, kThreads = 256; /* of a row, a block of the first two kernels */
constexpr int kPickThreads = 1024;
constexpr int kFineBits = 9, kFine = 1 << kFineBits, kCoarse = 1024;
constexpr uint32_t kLeastBits = 0x31000000u; /* 2^-29 */

struct Sample {
    const float *x;
    const uint64_t *draw;
    int32_t *out;
    int64_t ldx;
    int N, n_slice, top_k;
    float temp, top_p, min_p;
    u64 *mass;       /* [M][kCoarse + kFine] */
    unsigned *count; /* [M][kCoarse] */
    float *top;      /* [M][n_slice]; INFINITY: something in the slice is not finite */
    float *p;        /* [M][N]; 0: no candidate */
};

DEVI float max_of_block(float v, float *part)
{
    const int lane = threadIdx.x & 31, n = blockDim.x >> 5;
#pragma unroll
    for (int o = 16; o; o >>= 1)
        v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, o));
    if (lane == 0)
        part[threadIdx.x >> 5] = v;
    __syncthreads();
    for (int w = 0; w < n; w++)
        v = fmaxf(v, part[w]);
    return v;
}

__global__ void __launch_bounds__(kThreads) top_kernel(Sample a)
{
    SHARED(float, part, [kThreads / 32]);
    const int row = blockIdx.y, first = blockIdx.x * kSlice,
              end = first + kSlice < a.N ? first + kSlice : a.N;
    float top = -INFINITY;
    for (int i = first + threadIdx.x; i < end; i += kThreads) {
        const float v = a.x[row * a.ldx + i];
        top = fmaxf(top, v < INFINITY ? v : INFINITY); /* NaN too */
    }
    for (int i = blockIdx.x * kThreads + threadIdx.x; i < kCoarse; i += a.n_slice * kThreads) {
        a.mass[(int64_t)row * (kCoarse + kFine) + i] = 0;
        a.count[(int64_t)row * kCoarse + i] = 0;
    }
    top = max_of_block(top, part);
    if (threadIdx.x == 0)
        a.top[(int64_t)row * a.n_slice + blockIdx.x] = top;
}

/* Of the whole row, in every lane. */
DEVI float top_of(const Sample &a, int row)
{
    float top = -INFINITY;
    for (int i = threadIdx.x & 31; i < a.n_slice; i += 32)
        top = fmaxf(top, a.top[(int64_t)row * a.n_slice + i]);
#pragma unroll
    for (int o = 16; o; o >>= 1)
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, o));
    return top;
}

DEVI uint32_t key_of(float p) /* far beyond the bins for 0 */
{
    return __float_as_uint(p) - kLeastBits;
}

__global__ void __launch_bounds__(kThreads) weigh_kernel(Sample a)
{
    const int row = blockIdx.y, first = blockIdx.x * kSlice,
              end = first + kSlice < a.N ? first + kSlice : a.N;
    const float top = top_of(a, row);
    if (!(top < INFINITY))
        return;
    for (int i = first + threadIdx.x; i < end; i += kThreads) {
        const float d = nb_sample_below(a.x[row * a.ldx + i], top, a.temp),
                    p = d >= NB_SAMPLE_LEAST ? nb_sample_p(d) : 0.0f;
        a.p[(int64_t)row * a.N + i] = p;
        if (p > 0.0f) {
            const uint32_t bin = key_of(p) >> 2 * kFineBits;
            atomicAdd(&a.count[(int64_t)row * kCoarse + bin], 1u);
            atomicAdd(&a.mass[(int64_t)row * (kCoarse + kFine) + bin], (u64)nb_sample_weight(p));
        }
    }
}

/* What comes before a bin, in the order of p. */
struct Found {
    unsigned bin, n, all_n;
    u64 mass, all_mass;
};

/* The first warp finds the bin, from the greatest down, at which the sum of counts (or of weights)
 * reaches the target. bin_of(i) has the bin's n and mass. */
template <int kBins, class F> DEVI void find(F bin_of, bool by_mass, u64 target, Found *out)
{
    constexpr int kEach = kBins / 32;
    const int lane = threadIdx.x & 31;
    u64 mass = 0, m = 0;
    unsigned n = 0, one = 0;
    if (threadIdx.x >= 32)
        return;
#pragma unroll 1 /* few registers; a warp's work either way */
    for (int i = 0; i < kEach; i++) {
        bin_of(kBins - 1 - (lane * kEach + i), &one, &m);
        n += one;
        mass += m;
    }
    unsigned upto_n = n;
    u64 upto_mass = mass;
#pragma unroll
    for (int o = 1; o < 32; o <<= 1) {
        const unsigned other_n = __shfl_up_sync(0xffffffffu, upto_n, o);
        const u64 other_mass = __shfl_up_sync(0xffffffffu, upto_mass, o);
        upto_n += lane >= o ? other_n : 0;
        upto_mass += lane >= o ? other_mass : 0;
    }
    if (lane == 31) {
        out->all_n = upto_n;
        out->all_mass = upto_mass;
    }
    n = upto_n - n;
    mass = upto_mass - mass;
    if ((by_mass ? mass : n) >= target || (by_mass ? upto_mass : upto_n) < target)
        return;
#pragma unroll 1
    for (int i = 0; i < kEach; i++) {
        const unsigned bin = kBins - 1 - (lane * kEach + i);
        bin_of(bin, &one, &m);
        if ((by_mass ? mass + m : n + one) >= target) {
            out->bin = bin;
            out->n = n;
            out->mass = mass;
            return;
        }
        n += one;
        mass += m;
    }
}

/* Where a descent ends: all before `key`, and the first `ties` of those that equal it. */
struct Cut {
    uint32_t key;
    unsigned ties;
    u64 mass; /* of them all */
};

struct Row {
    const float *p;
    u64 *coarse, *fine; /* weights */
    const unsigned *coarse_n;
    unsigned *fine_n; /* shared */
    Found *found;     /* shared */
    int N;
};

DEVI void coarse_bins(const Row &r, bool by_mass, u64 target)
{
    find<kCoarse>([&](int i, unsigned *n, u64 *mass) { *n = r.coarse_n[i], *mass = r.coarse[i]; },
                  by_mass, target, r.found);
}

/* The whole block calls it; target is reached by all candidates together. */
DEVI Cut descend(const Row &r, bool by_mass, u64 target)
{
    coarse_bins(r, by_mass, target);
    for (int i = threadIdx.x; i < kFine; i += kPickThreads) {
        r.fine[i] = 0;
        r.fine_n[i] = 0;
    }
    __syncthreads();
    const Found one = *r.found;
    for (int i = threadIdx.x; i < r.N; i += kPickThreads) {
        const uint32_t key = key_of(r.p[i]);
        if (key >> 2 * kFineBits == one.bin) {
            atomicAdd(&r.fine_n[key >> kFineBits & (kFine - 1)], 1u);
            atomicAdd(&r.fine[key >> kFineBits & (kFine - 1)], (u64)nb_sample_weight(r.p[i]));
        }
    }
    __syncthreads();
    target -= by_mass ? one.mass : one.n;
    find<kFine>([&](int i, unsigned *n, u64 *mass) { *n = r.fine_n[i], *mass = r.fine[i]; },
                by_mass, target, r.found);
    __syncthreads();
    const Found two = *r.found;
    for (int i = threadIdx.x; i < kFine; i += kPickThreads)
        r.fine_n[i] = 0;
    __syncthreads();
    const uint32_t head = one.bin << kFineBits | two.bin;
    for (int i = threadIdx.x; i < r.N; i += kPickThreads) {
        const uint32_t key = key_of(r.p[i]);
        if (key >> kFineBits == head)
            atomicAdd(&r.fine_n[key & (kFine - 1)], 1u);
    }
    __syncthreads();
    target -= by_mass ? two.mass : two.n;
    find<kFine>(
        [&](int i, unsigned *n, u64 *mass) {
            *n = r.fine_n[i];
            *mass = *n * nb_sample_weight(
                             __uint_as_float(kLeastBits + (head << kFineBits | (uint32_t)i)));
        },
        by_mass, target, r.found);
    __syncthreads();
    const Found three = *r.found;
    __syncthreads(); /* everyone has read it */
    Cut c;
    c.key = head << kFineBits | three.bin;
    const u64 each = nb_sample_weight(__uint_as_float(kLeastBits + c.key));
    target -= by_mass ? three.mass : three.n;
    c.ties = (unsigned)(by_mass ? (target + each - 1) / each : target);
    c.mass = one.mass + two.mass + three.mass + c.ties * each;
    return c;
}

/* The index of the ties-th of those whose p has this key: a warp a piece of the row, by index. */
DEVI void index_of(const Row &r, const Cut &c, unsigned *warp_n, int32_t *out)
{
    constexpr int kWarps = kPickThreads / 32;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, each = (r.N + kWarps - 1) / kWarps;
    const int first = warp * each, end = first + each < r.N ? first + each : r.N;
    unsigned n = 0, before = 0;
    for (int i = first; i < end; i += 32)
        n += __popc(__ballot_sync(0xffffffffu, i + lane < end && key_of(r.p[i + lane]) == c.key));
    if (lane == 0)
        warp_n[warp] = n;
    __syncthreads();
    for (int w = 0; w < warp; w++)
        before += warp_n[w];
    if (before >= c.ties || before + n < c.ties)
        return;
    for (int i = first; i < end; i += 32) {
        const bool is = i + lane < end && key_of(r.p[i + lane]) == c.key;
        const unsigned all = __ballot_sync(0xffffffffu, is);
        if (is && before + __popc(all & ((2u << lane) - 1)) == c.ties)
            *out = i + lane;
        before += __popc(all);
    }
}

enum { kTopK, kTopP, kDraw }; /* the descents of a draw */

__global__ void __launch_bounds__(kPickThreads) pick_kernel(Sample a)
{
    SHARED(unsigned, fine_n, [kFine]);
    SHARED(unsigned, warp_n, [kPickThreads / 32]);
    SHARED(u64, part, [kPickThreads / 32]);
    SHARED(Found, found, [1]);
    const int row = blockIdx.x;
    u64 *mass = a.mass + (int64_t)row * (kCoarse + kFine);
    const Row r = {a.p + (int64_t)row * a.N,
                   mass,
                   mass + kCoarse,
                   a.count + (int64_t)row * kCoarse,
                   fine_n,
                   found,
                   a.N};
    if (!(top_of(a, row) < INFINITY)) {
        if (threadIdx.x == 0)
            a.out[row] = -1;
        return;
    }
    coarse_bins(r, false, 1);
    __syncthreads();
    u64 sum = found->all_mass, likely = 0;
    const unsigned n = found->all_n;
    __syncthreads();
    if (a.min_p > 0.0f) { /* a beginning of the order as well, of at least the first candidate */
        for (int i = threadIdx.x; i < a.N; i += kPickThreads)
            likely += r.p[i] >= a.min_p ? nb_sample_weight(r.p[i]) : 0;
        likely = nb_block_sum(likely, part);
        likely = likely ? likely : nb_sample_weight(1.0f);
    }
    Cut c = {0, 0, 0};
#pragma unroll 1 /* one copy of `descend` */
    for (int stage = kTopK; stage <= kDraw; stage++) {
        if (stage == kTopK ? a.top_k <= 0 || (unsigned)a.top_k >= n
                           : stage == kTopP && !(a.top_p > 0.0f && a.top_p < 1.0f))
            continue;
        if (stage == kDraw && a.min_p > 0.0f) /* the shorter of the two beginnings stays */
            sum = likely < sum ? likely : sum;
        c = descend(r, stage != kTopK,
                    stage == kTopK   ? (u64)a.top_k
                    : stage == kTopP ? nb_sample_share(a.top_p, sum)
                                     : nb_sample_spot(a.draw[row], sum) + 1);
        sum = c.mass;
    }
    index_of(r, c, warp_n, &a.out[row]);
}

/* Where the parts of scratch begin. */
struct Room {
    int64_t n_slice;
    size_t count, top, p, bytes;
};

static Room room_of(const nb_sample_args *a)
{
    Room r;
    r.n_slice = nb_ceil_div(a->N, kSlice);
    r.count = nb_align256((size_t)a->M * (kCoarse + kFine) * sizeof(u64));
    r.top = r.count + nb_align256((size_t)a->M * kCoarse * sizeof(unsigned));
    r.p = r.top + nb_align256((size_t)(a->M * r.n_slice) * sizeof(float));
    r.bytes = r.p + nb_align256((size_t)(a->M * a->N) * sizeof(float)) + 256;
    return r;
}

size_t nb_cuda_sample_scratch(nb_backend *, const nb_sample_args *a)
{
    return room_of(a).bytes;
}

nb_status nb_cuda_sample(nb_backend *be, const nb_sample_args *a, nb_error *err)
{
    const Room r = room_of(a);
    uint8_t *at = (uint8_t *)(((uintptr_t)a->scratch + 255) / 256 * 256);
    const Sample s = {a->x,
                      a->draw,
                      a->out,
                      a->ldx,
                      (int)a->N,
                      (int)r.n_slice,
                      a->top_k,
                      a->temp,
                      a->top_p,
                      a->min_p,
                      (u64 *)(void *)at,
                      (unsigned *)(void *)(at + r.count),
                      (float *)(void *)(at + r.top),
                      (float *)(void *)(at + r.p)};
    const dim3 slices((unsigned)r.n_slice, (unsigned)a->M);
    nb_status st = nb_sample_check(be, a, err);
    if (st == NB_OK)
        st = nb_launch(be, "sample.top", top_kernel, slices, dim3(kThreads), 0, err, s);
    if (st == NB_OK)
        st = nb_launch(be, "sample.weigh", weigh_kernel, slices, dim3(kThreads), 0, err, s);
    return st == NB_OK ? nb_launch(be, "sample.pick", pick_kernel, dim3((unsigned)a->M),
                                   dim3(kPickThreads), 0, err, s)
                       : st;
}
