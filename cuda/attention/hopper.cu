/* hopper.cu -- prefill on sm_90a: as tile.cu, but multiplied by wgmma and with warps that only copy
 * (FlashAttention-3, Shah et al. 2024, section 3.1). Caches of f16, heads of 64 or 128.
 *
 *   block      128 rows (tokens) of one query head, 64 for each of two groups of four warps that
 *              multiply; four more warps bring K (two of them) and V (two)
 *   tile       128 positions of K and V at a multiple of 128, so of two pages; three of each in
 *              shared memory. full[stage]: it is there; empty[stage]: all eight warps have read it
 *   S = Q K^T  m64n128k16, Q f16 in registers, K as it lies: [position][64 of the head] is B by rows
 *   O += P V   P from the score registers (tile.cu); V as it lies: [position][64 of the head] is B by
 *              columns
 *
 *   shared     K [3][kDim / 64][128][64], V the same, f16: lines of 128 bytes whose sixteenths are
 *              swizzled as wgmma wants it
 *
 * A group waits for its own products and meets the other nowhere: while one is at its softmax the
 * other has the tensor cores. A tile is 2 x 128 x 128 x 128 products for kDim 128, 2048 clocks at
 * full rate; the exponentials of both groups are 128 x 128 / 16 = 1024 of the special units, and
 * some 530 slots x 8 warps / 4 = 1060 of a scheduler where nothing is masked (nvcc 13.0). */
#include "attention/walk.h"

constexpr int kRows = 128, kTileN = 128, kStages = 3;
constexpr int kConsumers = 256, kThreads = kConsumers + 128;

/* Of a tile of K or V. */
template <int kDim> struct Lines {
    static constexpr int kHalf = kTileN * 128; /* bytes of 64 elements of its heads */
    static constexpr int kBytes = kDim / 64 * kHalf;
};

#ifdef GPU_WGMMA
constexpr int kProducers = 64; /* of K, and of V */

/* registers of a thread: 384 begin with 168, 65536 a multiprocessor in all */
constexpr int kProducerRegisters = 56, kConsumerRegisters = 224;

/* The rings' barriers. */
struct Ring {
    uint8_t *at;
    uint64_t *full, *empty;
};

/* A page of K or V, 64 positions of a head, to their lines of a tile. Behind `last` its own position
 * stands in: masked, and no NaN of memory never written. */
template <int kDim> DEVI void fetch_page(const uint16_t *page, unsigned step, int last, uint8_t *to)
{
    constexpr int kPieces = kDim / 8, /* of 16 bytes, of a position */
        kAtOnce = kProducers / kPieces;
    const int thread = threadIdx.x % kProducers, c = thread % kPieces;
    to += c / 8 * Lines<kDim>::kHalf;
    page += c * 8;
#pragma unroll 4
    for (int r = thread / kPieces; r < NB_KV_PAGE; r += kAtOnce)
        cp_async_16(to + r * 128 + ((c ^ r) & 7) * 16,
                    page + (unsigned)(r < last ? r : last) * step);
}

/* A stage whose copies have come is full. wgmma reads by another way than these writes went. */
DEVI void hand_over(uint64_t *full)
{
    fence_proxy_async();
    mbarrier_arrive(full);
}

/* All tiles of K, or of V, that the block's rows see, by two warps: one is on its way while the next
 * is asked for. */
template <int kDim>
DEVI void produce(const Attention &a, const void *cache, int m0, int kv_head, const Ring &ring)
{
    const unsigned step = (unsigned)(a.n_kv_head * kDim); /* between positions of a page */
    const uint16_t *from = (const uint16_t *)cache + kv_head * kDim;
    int slot = 0, before = -1; /* before: the stage that is on its way */
    unsigned phase = 0;
    for (Walk w = next_walk<kRows>(a, m0, -1); w.seq != kNone; w = next_walk<kRows>(a, m0, w.seq))
#pragma unroll 1
        for (int t0 = w.lo / kTileN * kTileN; t0 <= w.hi; t0 += kTileN) {
            mbarrier_wait(&ring.empty[slot], phase ^ 1); /* the first time round all are */
#pragma unroll 1
            for (int i = 0; i < kTileN; i += NB_KV_PAGE) {
                /* of a page that no row sees, before the window or behind hi, the other stands in */
                const int other = t0 + (NB_KV_PAGE ^ i), first = t0 + i,
                          t = first > w.hi || first + NB_KV_PAGE <= w.lo ? other : first;
                fetch_page<kDim>(from + nb_place(a.pages, w.seq, t) * step, step, w.hi - t,
                                 ring.at + slot * Lines<kDim>::kBytes + i * 128);
            }
            cp_async_commit();
            if (before >= 0) {
                cp_async_wait<1>();
                hand_over(&ring.full[before]);
            }
            before = slot;
            if (++slot == kStages) {
                slot = 0;
                phase ^= 1;
            }
        }
    cp_async_wait<0>();
    if (before >= 0)
        hand_over(&ring.full[before]);
}

/* What a lane holds of its group's 64 rows: rows g and g + 8 of its warp's 16. */
template <int kDim> struct Rows {
    uint32_t q[kDim / 16][4];
    int seq[2], pos[2], first[2];
    float o[kDim / 2];    /* element e: row e / 2 % 2, column 8 (e / 4) + 2t + e % 2 */
    float top[2], sum[2]; /* sum: of this lane's columns */
};

template <int kDim> DEVI void open_rows(const Attention &a, int m0, int head, Rows<kDim> &r)
{
    const int lane = threadIdx.x & 31, t = lane & 3;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int m = m0 + (int)(threadIdx.x >> 5) * 16 + (lane >> 2) + 8 * i;
        const bool there = m < a.n_token;
        const float *q = a.q + m * a.ldq + (int64_t)head * kDim + 2 * t;
#pragma unroll
        for (int s = 0; s < kDim / 16; s++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int c = 16 * s + 8 * half;
                r.q[s][i + 2 * half] =
                    there ? nb_half_pack(q[c] * a.scale, q[c + 1] * a.scale) : 0u;
            }
        r.seq[i] = there ? a.seq[m] : -1;
        r.pos[i] = there ? a.pos[m] : -1;
        r.first[i] = nb_first_seen(a, r.pos[i]);
        r.top[i] = -INFINITY;
        r.sum[i] = 0.0f;
    }
#pragma unroll
    for (int e = 0; e < kDim / 2; e++)
        r.o[e] = 0.0f;
}

/* Scores of positions t0 .. t0 + 127 become shares of the running maximum; o and sum follow it. */
template <int kDim>
DEVI void softmax(const Attention &a, const Walk &w, int t0, Rows<kDim> &r, float (&s)[kTileN / 2])
{
    const int t = threadIdx.x & 3;
    const float part = 1.0f / a.soft_cap;
    if (a.soft_cap > 0.0f)
#pragma unroll
        for (int e = 0; e < kTileN / 2; e++)
            s[e] = a.soft_cap * tanhf(s[e] * part);
    if (t0 < w.all_from || t0 + kTileN - 1 > w.all_to)
#pragma unroll
        for (int e = 0; e < kTileN / 2; e++) {
            const int at = t0 + 8 * (e >> 2) + 2 * t + (e & 1), i = e >> 1 & 1;
            if (r.seq[i] != w.seq || at > r.pos[i] || at < r.first[i])
                s[e] = -INFINITY;
        }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float now = r.top[i];
#pragma unroll
        for (int e = 2 * i; e < kTileN / 2; e += 4)
            now = fmaxf(now, fmaxf(s[e], s[e + 1]));
        now = fmaxf(now, __shfl_xor_sync(0xffffffffu, now, 1));
        now = fmaxf(now, __shfl_xor_sync(0xffffffffu, now, 2));
        /* keep: as in tile.cu */
        const float at = now == -INFINITY ? 0.0f : now, low = -at * kLog2e,
                    keep = exp2_small((r.top[i] - at) * kLog2e);
        r.top[i] = now;
        r.sum[i] *= keep;
#pragma unroll
        for (int e = 2 * i; e < kTileN / 2; e += 4)
#pragma unroll
            for (int c = 0; c < 2; c++) {
                s[e + c] = exp2_small(fmaf(s[e + c], kLog2e, low));
                r.sum[i] += s[e + c];
            }
#pragma unroll
        for (int e = 2 * i; e < kDim / 2; e += 4) {
            r.o[e] *= keep;
            r.o[e + 1] *= keep;
        }
    }
}

template <int kDim> DEVI void add_values(Rows<kDim> &r, const uint32_t (&p)[4], uint64_t v)
{
    if constexpr (kDim == 64)
        wgmma_m64n64k16_f16<true>(r.o, p, v, 1);
    else
        wgmma_m64n128k16_f16<true>(r.o, p, v, 1);
}

/* A group that multiplies: its 64 rows, from m0 on those of the block. */
template <int kDim>
DEVI void consume(const Attention &a, int m0, int head, const Ring &k, const Ring &v)
{
    constexpr int kHalf = Lines<kDim>::kHalf, kBytes = Lines<kDim>::kBytes;
    const int lane = threadIdx.x & 31;
    Rows<kDim> r;
    open_rows<kDim>(a, m0, head, r);
    int slot = 0;
    unsigned phase = 0;
    for (Walk w = next_walk<kRows>(a, m0, -1); w.seq != kNone; w = next_walk<kRows>(a, m0, w.seq))
#pragma unroll 1
        for (int t0 = w.lo / kTileN * kTileN; t0 <= w.hi; t0 += kTileN) {
            float s[kTileN / 2];
            mbarrier_wait(&k.full[slot], phase);
            const uint64_t keys = wgmma_desc_sw128(k.at + slot * kBytes);
            wgmma_fence();
#pragma unroll
            for (int d = 0; d < kDim / 16; d++) /* 16 elements are 32 bytes of a line */
                wgmma_m64n128k16_f16<false>(s, r.q[d], keys + (d / 4 * kHalf >> 4) + d % 4 * 2,
                                            d > 0);
            wgmma_commit();
            wgmma_wait<0>();
            wgmma_settle(s);
            if (lane == 0)
                mbarrier_arrive(&k.empty[slot]);

            softmax<kDim>(a, w, t0, r, s);
            uint32_t p[kTileN / 16][4];
#pragma unroll
            for (int n = 0; n < kTileN / 16; n++)
#pragma unroll
                for (int i = 0; i < 4; i++)
                    p[n][i] = nb_half_pack(s[8 * n + 2 * i], s[8 * n + 2 * i + 1]);

            mbarrier_wait(&v.full[slot], phase);
            const uint64_t values = wgmma_desc_sw128_columns(v.at + slot * kBytes, kHalf);
            wgmma_settle(r.o); /* what was done to it stands before the fence */
#pragma unroll
            for (int n = 0; n < kTileN / 16; n++)
                wgmma_settle(p[n]);
            wgmma_fence();
#pragma unroll
            for (int n = 0; n < kTileN / 16; n++) /* 16 positions are 16 lines */
                add_values<kDim>(r, p[n], values + n * 128);
            wgmma_commit();
            wgmma_wait<0>();
            wgmma_settle(r.o);
            if (lane == 0)
                mbarrier_arrive(&v.empty[slot]);
            if (++slot == kStages) {
                slot = 0;
                phase ^= 1;
            }
        }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float d = r.sum[i];
        d += __shfl_xor_sync(0xffffffffu, d, 1);
        d += __shfl_xor_sync(0xffffffffu, d, 2);
        const float part = 1.0f / d;
        const int m = m0 + (int)(threadIdx.x >> 5) * 16 + (lane >> 2) + 8 * i;
        if (m >= a.n_token)
            continue;
        float *out = a.out + m * a.ldo + (int64_t)head * kDim + 2 * (lane & 3);
#pragma unroll
        for (int e = 2 * i; e < kDim / 2; e += 4)
#pragma unroll
            for (int c = 0; c < 2; c++)
                out[8 * (e / 4) + c] = r.o[e + c] * part;
    }
}
#endif

template <int kDim> __global__ void __launch_bounds__(kThreads, 1) hopper_kernel(Attention a)
{
#ifdef GPU_WGMMA
    DYN_SHARED(uint8_t, ring);
    SHARED(uint64_t, full, [2][kStages]); /* of K, of V */
    SHARED(uint64_t, empty, [2][kStages]);
    /* long rows first */
    const int m0 = (int)(gridDim.x - 1 - blockIdx.x) * kRows, head = blockIdx.y,
              kv_head = head / (a.n_head / a.n_kv_head);
    const auto of = [&](int which) {
        return Ring{ring + which * kStages * Lines<kDim>::kBytes, full[which], empty[which]};
    };
    if (threadIdx.x == 0) {
        for (int i = 0; i < 2 * kStages; i++) {
            mbarrier_init(&full[i / kStages][i % kStages], kProducers);
            mbarrier_init(&empty[i / kStages][i % kStages], kConsumers / 32);
        }
        mbarrier_fence_init();
    }
    __syncthreads();
    if (threadIdx.x >= kConsumers) {
        registers_fewer<kProducerRegisters>();
        const int which = (int)(threadIdx.x - kConsumers) / kProducers; /* 0: K, 1: V */
        produce<kDim>(a, which == 0 ? a.k : a.v, m0, kv_head, of(which));
        return;
    }
    registers_more<kConsumerRegisters>();
    consume<kDim>(a, m0, head, of(0), of(1));
#endif
}

template <int kDim>
static nb_status start(nb_backend *be, const nb_attention_args *a, nb_error *err)
{
    const dim3 grid((unsigned)nb_ceil_div(a->batch->n_token, kRows), (unsigned)a->n_head);
    return nb_launch_large(be, "attention.hopper", hopper_kernel<kDim>, grid, dim3(kThreads),
                           2 * kStages * (size_t)Lines<kDim>::kBytes, err, nb_attention_of(a));
}

/* With fewer tokens half of a block or more stands idle. */
bool nb_cuda_attention_hopper_fits(nb_backend *be, const nb_attention_args *a)
{
    const int dim = a->kv->head_dim;
    return nb_cuda_of(be)->wgmma && a->batch->n_token > kRows / 2 && (dim == 64 || dim == 128);
}

nb_status nb_cuda_attention_hopper(nb_backend *be, const nb_attention_args *a, nb_error *err)
{
    return a->kv->head_dim == 64 ? start<64>(be, a, err) : start<128>(be, a, err);
}
