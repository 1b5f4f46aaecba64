/* tile.cu -- prefill: 64 queries of a head against tiles of the cache on the tensor cores
 * (FlashAttention-2, Dao 2023, algorithm 1).
 *
 *   block      64 rows (tokens) of one query head; warp w rows 16 w .. 16 w + 15
 *   tile       kTileN positions of K and V at a multiple of kTileN, so of one page; two of them in
 *              shared memory: cp.async brings the next one while this one is multiplied
 *   S = Q K^T  m16n8k16, scores f32 in registers; masked, the running maximum m and sum d of a row
 *       live in the four lanes that share it
 *   O += P V   P rounded to f16 straight from the score registers (C fragments of two n8 tiles are
 *              the A fragment of a k16 step)
 *
 *   shared     Q [64][kRow]   K, V [2][kTileN][kRow]     kRow = kDim + 8 halves: an odd number of
 *                                                        16 bytes, 8 rows of ldmatrix fall into 8
 *                                                        groups of banks
 *
 * Operands are f16: K and V of an f16 cache come as they lie, those of the other types are loaded,
 * made f16 and stored (exact but for the product of scale and code, and for bf16 beyond 65504 and
 * below 2^-14); q scale and P are rounded once (2^-11, finer than bf16). Head sizes are padded with
 * zeros to kDim. Positions behind the last one that the rows see are not read: that one stands in
 * for them, masked.
 *
 * A tile that all rows see whole is not masked. 4 head_dim FLOP a pair of query and position that
 * is computed. */
#include "attention/walk.h"

constexpr int kRows = 64, kThreads = 128;
template <class T> constexpr bool kF16 = false;
template <> constexpr bool kF16<uint16_t> = true;

/* Eight values of another type become f16 in shared memory. */
template <class T> DEVI void convert8(const T *p, const uint16_t *scale, uint16_t *to)
{
    uint4 raw[Kv<T>::kVecs];
    float x[8];
    Kv<T>::load(p, scale, raw);
    Kv<T>::floats(raw, x);
    st_v4(to, make_uint4(nb_half_pack(x[0], x[1]), nb_half_pack(x[2], x[3]),
                         nb_half_pack(x[4], x[5]), nb_half_pack(x[6], x[7])));
}

/* K and V of positions t0 .. t0 + kTileN - 1 of a sequence on their way to shared memory, hi's own
 * behind hi. */
template <class T, int kDim, int kTileN>
DEVI void fetch(const Attention &a, int seq, int kv_head, int t0, int hi, uint16_t *sk,
                uint16_t *sv)
{
    constexpr int kRow = kDim + 8;
    static_assert(NB_KV_PAGE % kTileN == 0, "a tile is of one page");
    const int pieces = a.head_dim / 8;
    const int64_t step = (int64_t)a.n_kv_head * a.head_dim,
                  head_at = nb_place(a.pages, seq, t0) * a.n_kv_head + kv_head;
    const T *k = (const T *)a.k + head_at * a.head_dim, *v = (const T *)a.v + head_at * a.head_dim;
    for (int i = threadIdx.x; i < kTileN * pieces; i += kThreads) {
        const int r = i / pieces, c = i % pieces * 8, t = t0 + r <= hi ? r : hi - t0;
        if constexpr (kF16<T>) {
            cp_async_16(&sk[r * kRow + c], k + t * step + c);
            cp_async_16(&sv[r * kRow + c], v + t * step + c);
        } else {
            const int64_t n = head_at + (int64_t)t * a.n_kv_head;
            convert8(k + t * step + c, nb_scales(a.scales, a.k, n) + c / NB_KV_GROUP,
                     &sk[r * kRow + c]);
            convert8(v + t * step + c, nb_scales(a.scales, a.v, n) + c / NB_KV_GROUP,
                     &sv[r * kRow + c]);
        }
    }
    cp_async_commit();
}

template <int kDim, int kTileN> constexpr size_t tile_bytes()
{
    return (size_t)(kRows + 4 * kTileN) * (kDim + 8) * sizeof(uint16_t);
}

template <class T, int kDim, int kTileN>
__global__ void __launch_bounds__(kThreads, kDim <= 64    ? 3
                                            : kDim <= 128 ? 2
                                                          : 1) tile_kernel(Attention a)
{
    constexpr int kRow = kDim + 8, kStepsD = kDim / 16, kTilesN = kTileN / 8, kTilesD = kDim / 8;
    constexpr bool kKeepQ = kDim <= 128; /* its fragments stay in registers */
    DYN_SHARED(uint16_t, shared);
    uint16_t *sq = shared, *sk = sq + kRows * kRow, *sv = sk + 2 * kTileN * kRow;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3,
              mat = lane >> 3;
    /* long rows first */
    const int m0 = (gridDim.x - 1 - blockIdx.x) * kRows, head = blockIdx.y,
              kv_head = head / (a.n_head / a.n_kv_head);

    for (int i = threadIdx.x; i < kRows * kDim; i += kThreads) { /* q, and zeros up to kDim */
        const int r = i / kDim, c = i % kDim;
        const bool there = m0 + r < a.n_token && c < a.head_dim;
        sq[r * kRow + c] =
            there ? nb_half_of(a.q[(m0 + r) * a.ldq + (int64_t)head * a.head_dim + c] * a.scale)
                  : (uint16_t)0;
    }
    const int pad = kDim - a.head_dim;
    /* of both tiles of K and of V; never written again */
    for (int i = threadIdx.x; i < 4 * kTileN * pad; i += kThreads)
        sk[i / pad * kRow + a.head_dim + i % pad] = 0;
    __syncthreads();
    uint32_t qf[kKeepQ ? kStepsD : 1][4];
    const uint16_t *my_q = sq + (warp * 16 + (lane & 15)) * kRow + (lane >> 4) * 8;
    if (kKeepQ)
#pragma unroll
        for (int s = 0; s < kStepsD; s++)
            ldmatrix_x4(qf[kKeepQ ? s : 0], my_q + 16 * s);

    int row_seq[2], row_pos[2], row_first[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int m = m0 + warp * 16 + g + 8 * i;
        row_seq[i] = m < a.n_token ? a.seq[m] : -1;
        row_pos[i] = m < a.n_token ? a.pos[m] : -1;
        row_first[i] = nb_first_seen(a, row_pos[i]);
    }
    /* sum: of this lane's columns */
    float o[kTilesD][4] = {}, top[2] = {-INFINITY, -INFINITY}, sum[2] = {0.0f, 0.0f};

    for (Walk w = next_walk<kRows>(a, m0, -1); w.seq != kNone; w = next_walk<kRows>(a, m0, w.seq)) {
        const int begin = w.lo / kTileN * kTileN;
        fetch<T, kDim, kTileN>(a, w.seq, kv_head, begin, w.hi, sk, sv);
        for (int t0 = begin, stage = 0; t0 <= w.hi; t0 += kTileN, stage ^= 1) {
            if (t0 + kTileN <= w.hi)
                fetch<T, kDim, kTileN>(a, w.seq, kv_head, t0 + kTileN, w.hi,
                                       sk + (stage ^ 1) * kTileN * kRow,
                                       sv + (stage ^ 1) * kTileN * kRow);
            else
                cp_async_commit(); /* an empty group, so that waiting is the same */
            cp_async_wait<1>();
            __syncthreads();
            const uint16_t *tk = sk + stage * kTileN * kRow, *tv = sv + stage * kTileN * kRow;

            /* S */
            float s[kTilesN][4] = {};
#pragma unroll
            for (int d = 0; d < kStepsD; d++) {
                if (!kKeepQ)
                    ldmatrix_x4(qf[0], my_q + 16 * d);
#pragma unroll
                for (int n = 0; n < kTilesN; n += 2) {
                    uint32_t kf[4];
                    ldmatrix_x4(kf, tk + (n * 8 + (lane & 7) + (mat >> 1) * 8) * kRow + 16 * d +
                                        (mat & 1) * 8);
                    const uint32_t b0[2] = {kf[0], kf[1]}, b1[2] = {kf[2], kf[3]};
                    mma_m16n8k16_f16(s[n], qf[kKeepQ ? d : 0], b0);
                    mma_m16n8k16_f16(s[n + 1], qf[kKeepQ ? d : 0], b1);
                }
            }
            if (a.soft_cap > 0.0f)
#pragma unroll
                for (int n = 0; n < kTilesN; n++)
#pragma unroll
                    for (int i = 0; i < 4; i++)
                        s[n][i] = a.soft_cap * tanhf(s[n][i] / a.soft_cap);
            if (t0 < w.all_from || t0 + kTileN - 1 > w.all_to)
#pragma unroll
                for (int n = 0; n < kTilesN; n++)
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        const int at = t0 + n * 8 + 2 * t + (i & 1), r = i >> 1;
                        if (row_seq[r] != w.seq || at > row_pos[r] || at < row_first[r])
                            s[n][i] = -INFINITY;
                    }

                    /* softmax: rows g (r = 0) and g + 8 */
#pragma unroll
            for (int r = 0; r < 2; r++) {
                float now = top[r];
#pragma unroll
                for (int n = 0; n < kTilesN; n++)
                    now = fmaxf(now, fmaxf(s[n][2 * r], s[n][2 * r + 1]));
                now = fmaxf(now, __shfl_xor_sync(0xffffffffu, now, 1));
                now = fmaxf(now, __shfl_xor_sync(0xffffffffu, now, 2));
                /* keep from the difference, so that it is 1 where the maximum stays: an error in it
                 * would come again with every tile */
                const float at = now == -INFINITY ? 0.0f : now, low = -at * kLog2e,
                            keep = exp2_small((top[r] - at) * kLog2e);
                top[r] = now;
                sum[r] *= keep;
#pragma unroll
                for (int n = 0; n < kTilesN; n++)
#pragma unroll
                    for (int i = 2 * r; i < 2 * r + 2; i++) {
                        s[n][i] = exp2_small(fmaf(s[n][i], kLog2e, low));
                        sum[r] += s[n][i];
                    }
#pragma unroll
                for (int c = 0; c < kTilesD; c++) {
                    o[c][2 * r] *= keep;
                    o[c][2 * r + 1] *= keep;
                }
            }

            /* O */
#pragma unroll
            for (int n = 0; n < kTilesN; n += 2) {
                const uint32_t p[4] = {
                    nb_half_pack(s[n][0], s[n][1]), nb_half_pack(s[n][2], s[n][3]),
                    nb_half_pack(s[n + 1][0], s[n + 1][1]), nb_half_pack(s[n + 1][2], s[n + 1][3])};
#pragma unroll
                for (int c = 0; c < kTilesD; c += 2) {
                    uint32_t vf[4];
                    ldmatrix_x4_trans(vf, tv + (n * 8 + (lane & 7) + (mat & 1) * 8) * kRow + c * 8 +
                                              (mat >> 1) * 8);
                    const uint32_t b0[2] = {vf[0], vf[1]}, b1[2] = {vf[2], vf[3]};
                    mma_m16n8k16_f16(o[c], p, b0);
                    mma_m16n8k16_f16(o[c + 1], p, b1);
                }
            }
            __syncthreads(); /* the next fetch writes this tile */
        }
    }
    cp_async_wait<0>();

#pragma unroll
    for (int r = 0; r < 2; r++) {
        float d = sum[r];
        d += __shfl_xor_sync(0xffffffffu, d, 1);
        d += __shfl_xor_sync(0xffffffffu, d, 2);
        const int m = m0 + warp * 16 + g + 8 * r;
        if (m >= a.n_token)
            continue;
        float *out = a.out + m * a.ldo + (int64_t)head * a.head_dim;
#pragma unroll
        for (int c = 0; c < kTilesD; c++)
#pragma unroll
            for (int i = 0; i < 2; i++)
                if (c * 8 + 2 * t + i < a.head_dim)
                    out[c * 8 + 2 * t + i] = o[c][2 * r + i] / d;
    }
}

template <class T, int kDim, int kTileN>
static nb_status run(nb_backend *be, const nb_attention_args *a, nb_error *err)
{
    constexpr size_t bytes = tile_bytes<kDim, kTileN>();
    static_assert(bytes <= 99 * 1024, "what a block may have on sm_86 and sm_89");
    const dim3 grid((unsigned)nb_ceil_div(a->batch->n_token, kRows), (unsigned)a->n_head);
    return nb_launch_large(be, "attention.tile", tile_kernel<T, kDim, kTileN>, grid, dim3(kThreads),
                           bytes, err, nb_attention_of(a));
}

template <class T>
static nb_status run_dim(nb_backend *be, const nb_attention_args *a, nb_error *err)
{
    const int dim = a->kv->head_dim;
    return dim <= 64    ? run<T, 64, 64>(be, a, err)
           : dim <= 96  ? run<T, 96, 64>(be, a, err)
           : dim <= 128 ? run<T, 128, 64>(be, a, err)
           : dim <= 192 ? run<T, 192, 32>(be, a, err)
                        : run<T, 256, 32>(be, a, err);
}

nb_status nb_cuda_attention_tile(nb_backend *be, const nb_attention_args *a, nb_error *err)
{
    switch (a->kv->type) {
    case NB_KV_BF16:
        return run_dim<Bf16>(be, a, err);
    case NB_KV_Q8:
        return run_dim<Q8>(be, a, err);
    case NB_KV_FP8:
        return run_dim<Fp8>(be, a, err);
    default:
        return run_dim<uint16_t>(be, a, err);
    }
}
