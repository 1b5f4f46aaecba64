/* split.cu -- decode: few queries over a long cache, every KV head read once for all its query
 * heads; each query and head in f32, whatever the type of the cache.
 *
 *   block      one token, one KV head (or 8 of its query heads), one piece of its positions (a
 *              split)
 *   warp       4 a block; in a step it takes kPos x kUnroll positions of one page (a step begins at
 *              a multiple of so many, and which page is next is read a step ahead), kLanes lanes a
 *              position, 8 elements (16 bytes of f16) a lane:
 *
 *                  lane    0 .. kLanes-1 | kLanes .. 2 kLanes-1 | ...        head_dim <= 64: 8 lanes, 4 positions beside each other
 *                  reads   position t    | position t + 1       |                 <= 128: 16, 2;   <= 256: 32, 1
 *
 *   state      of every group of kLanes lanes and query head: m, d, o as in simple.cu, a step's
 *              scores taken up together
 *
 * States merge in a fixed order: groups of a warp in a tree, warps one after another; splits by the
 * last block to come (turn.h), their weights first and then all of them in order, which finds o [token][head][split][head_dim]
 * and (m, d) in scratch. How positions are cut follows from the shape alone, so bits are the same on every run;
 * they may differ with max_len and the number of tokens. 4 head_dim FLOP a query head against 4
 * head_dim bytes a KV head: memory decides. */
#include "attention/attention.h"
#include "reduce.h"
#include "turn.h"
#include "vector.h"

constexpr int kWarps = 4, kElements = 8;
constexpr int kPiece = 64;        /* a split is a multiple of it */
constexpr int kMostSplits = 64;   /* of a token */
constexpr int kWantBlocks = 1024; /* no more splits than give as many blocks */
static_assert(kWantBlocks / 2 <= kTurns, "so many share a sum at most: two splits each");

struct Split {
    int n_split, len; /* positions [first + s len, first + (s + 1) len) of what the query sees */
    int n_chunk;      /* blocks that share a KV head */
    float *o, *md;    /* partial states; not used with one split */
    unsigned *turn;   /* [token][kv head][chunk] */
};

/* e^x, 0 for -inf: what a state that has seen nothing is worth. */
DEVI float exp_of(float x)
{
    return exp2f(x * kLog2e);
}

/* (m, d, o) and (m2, d2, o2) become one state; both may be empty (m = -inf, d = 0). */
DEVI void merge(float *m, float *d, float m2, float d2, float *mine, float *other)
{
    const float top = fmaxf(*m, m2), at = top == -INFINITY ? 0.0f : top;
    *mine = exp_of(*m - at);
    *other = exp_of(m2 - at);
    *d = *d * *mine + d2 * *other;
    *m = top;
}

template <class T, int kLanes, int kHeads>
__global__ void __launch_bounds__(32 * kWarps) split_kernel(Attention a, Split s)
{
    constexpr int kPos = 32 / kLanes, kUnroll = kHeads > 4 ? 2 : 4, kStep = kPos * kUnroll,
                  kVecs = Kv<T>::kVecs;
    static_assert(NB_KV_PAGE % kStep == 0, "a step is of one page");
    SHARED_ALIGN(16, float, share_o, [kWarps][kHeads][kLanes * kElements]);
    SHARED(float, share_m, [kWarps][kHeads]);
    SHARED(float, share_d, [kWarps][kHeads]);
    SHARED(float, share_w, [kHeads][kMostSplits]);
    SHARED(unsigned, flag, [1]);
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, group = lane / kLanes,
              e0 = lane % kLanes * kElements;
    const int token = blockIdx.z, kv_head = blockIdx.y / s.n_chunk, per_kv = a.n_head / a.n_kv_head,
              before = blockIdx.y % s.n_chunk * kHeads;
    const int head0 = kv_head * per_kv + before,
              heads = per_kv - before < kHeads ? per_kv - before : kHeads;
    const int pos = a.pos[token], begin = nb_first_seen(a, pos) + blockIdx.x * s.len,
              end = begin + s.len <= pos ? begin + s.len : pos + 1;
    if (begin > pos)
        return;
    const bool mine = e0 < a.head_dim; /* a multiple of 8 */
    const int64_t step = (int64_t)a.n_kv_head * a.head_dim;
    const T *cache_k = (const T *)a.k + kv_head * a.head_dim + e0,
            *cache_v = (const T *)a.v + kv_head * a.head_dim + e0;
    const int64_t scale_step = (int64_t)a.n_kv_head * a.scales.groups;
    const uint16_t *scale_k = nb_scales(a.scales, a.k, kv_head) + e0 / NB_KV_GROUP,
                   *scale_v = nb_scales(a.scales, a.v, kv_head) + e0 / NB_KV_GROUP;
    const int32_t *pages = a.pages.page + (int64_t)a.seq[token] * a.pages.seq_pages;
    const bool whole = nb_whole_rows(a.q, a.ldq);
    float q[kHeads][kElements], o[kHeads][kElements], m[kHeads], d[kHeads];
#pragma unroll
    for (int h = 0; h < kHeads; h++) {
        m[h] = -INFINITY;
        d[h] = 0.0f;
        const float *from = a.q + token * a.ldq + (int64_t)(head0 + h) * a.head_dim + e0;
#pragma unroll
        for (int i = 0; i < kElements; i += 4) {
            float four[4] = {};
            if (mine && h < heads && whole)
                nb_load(from + i, four);
            else if (mine && h < heads)
#pragma unroll
                for (int j = 0; j < 4; j++)
                    four[j] = from[i + j];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                q[h][i + j] = four[j] * a.scale;
                o[h][i + j] = 0.0f;
            }
        }
    }
    const int first = begin / kStep * kStep + warp * kStep;
    int page = first < end ? pages[first / NB_KV_PAGE] : 0;
    for (int t0 = first; t0 < end; t0 += kWarps * kStep) {
        /* of u = 0; a cache has fewer than 2^31 positions */
        const int row = page * NB_KV_PAGE + t0 % NB_KV_PAGE + group;
        const int next = t0 + kWarps * kStep;
        uint4 kraw[kUnroll][kVecs], vraw[kUnroll][kVecs];
        float score[kUnroll][kHeads];
#pragma unroll
        for (int u = 0; u < kUnroll; u++) { /* all loads of the step first */
            const int t = t0 + u * kPos + group;
            if (mine && t >= begin && t < end) {
                const int at = row + u * kPos;
                Kv<T>::load(cache_k + at * step, scale_k + at * scale_step, kraw[u]);
                Kv<T>::load(cache_v + at * step, scale_v + at * scale_step, vraw[u]);
            } else {
#pragma unroll
                for (int i = 0; i < kVecs; i++)
                    kraw[u][i] = vraw[u][i] = make_uint4(0, 0, 0, 0);
            }
        }
        page = next < end ? pages[next / NB_KV_PAGE] : 0;
#pragma unroll
        for (int u = 0; u < kUnroll; u++) {
            float k[kElements];
            Kv<T>::floats(kraw[u], k);
#pragma unroll
            for (int h = 0; h < kHeads; h++) {
                float dot = 0.0f;
#pragma unroll
                for (int i = 0; i < kElements; i++)
                    dot += q[h][i] * k[i];
#pragma unroll
                for (int x = kLanes / 2; x; x >>= 1)
                    dot += __shfl_xor_sync(0xffffffffu, dot, x);
                if (a.soft_cap > 0.0f)
                    dot = a.soft_cap * tanhf(dot / a.soft_cap);
                const int t = t0 + u * kPos + group;
                score[u][h] = t >= begin && t < end ? dot : -INFINITY;
            }
        }
#pragma unroll
        for (int h = 0; h < kHeads; h++) { /* scores become weights */
            float top = m[h];
#pragma unroll
            for (int u = 0; u < kUnroll; u++)
                top = fmaxf(top, score[u][h]);
            const float at = top == -INFINITY ? 0.0f : top, keep = exp_of(m[h] - at);
            m[h] = top;
            d[h] *= keep;
#pragma unroll
            for (int i = 0; i < kElements; i++)
                o[h][i] *= keep;
#pragma unroll
            for (int u = 0; u < kUnroll; u++) {
                score[u][h] = exp_of(score[u][h] - at);
                d[h] += score[u][h];
            }
        }
#pragma unroll
        for (int u = 0; u < kUnroll; u++) {
            float v[kElements];
            Kv<T>::floats(vraw[u], v);
#pragma unroll
            for (int h = 0; h < kHeads; h++)
#pragma unroll
                for (int i = 0; i < kElements; i++)
                    o[h][i] += score[u][h] * v[i];
        }
    }
#pragma unroll
    for (int h = 0; h < kHeads; h++) { /* the groups of the warp */
#pragma unroll
        for (int x = kLanes; x < 32; x <<= 1) {
            float keep, other;
            const float m2 = __shfl_xor_sync(0xffffffffu, m[h], x),
                        d2 = __shfl_xor_sync(0xffffffffu, d[h], x);
            merge(&m[h], &d[h], m2, d2, &keep, &other);
#pragma unroll
            for (int i = 0; i < kElements; i++)
                o[h][i] = o[h][i] * keep + __shfl_xor_sync(0xffffffffu, o[h][i], x) * other;
        }
        if (group == 0) { /* eight lanes at 32 bytes each: four begin with their second half */
            const bool late = lane & 4;
#pragma unroll
            for (int half = 0; half < 2; half++) {
                uint32_t v[4];
#pragma unroll
                for (int i = 0; i < 4; i++)
                    v[i] = __float_as_uint(late == (half == 0) ? o[h][4 + i] : o[h][i]);
                st_v4(&share_o[warp][h][e0 + 4 * (late == (half == 0))],
                      make_uint4(v[0], v[1], v[2], v[3]));
            }
        }
        if (lane == 0) {
            share_m[warp][h] = m[h];
            share_d[warp][h] = d[h];
        }
    }
    __syncthreads(); /* all states are there */
    /* the warps of the block */
    for (int at = threadIdx.x; at < heads * a.head_dim; at += blockDim.x) {
        const int h = at / a.head_dim, e = at % a.head_dim;
        float top = share_m[0][h], sum = share_d[0][h], v = share_o[0][h][e];
#pragma unroll
        for (int w = 1; w < kWarps; w++) {
            float keep, other;
            merge(&top, &sum, share_m[w][h], share_d[w][h], &keep, &other);
            v = v * keep + share_o[w][h][e] * other;
        }
        const int64_t part = ((int64_t)token * a.n_head + head0 + h) * s.n_split + blockIdx.x;
        if (s.n_split == 1) {
            a.out[token * a.ldo + (int64_t)(head0 + h) * a.head_dim + e] = v / sum;
            continue;
        }
        s.o[part * a.head_dim + e] = v;
        if (e == 0) {
            s.md[2 * part] = top;
            s.md[2 * part + 1] = sum;
        }
    }
    /* the splits: as many as the query's positions have */
    const int n = (pos - nb_first_seen(a, pos)) / s.len + 1;
    if (s.n_split == 1 || !nb_last_to_come(&s.turn[token * gridDim.y + blockIdx.y], n, flag))
        return;
    const int64_t row = (int64_t)token * a.n_head + head0;
    for (int h = warp; h < heads; h += kWarps) { /* what each split weighs */
        const float *md = s.md + 2 * (row + h) * s.n_split;
        float top = -INFINITY, sum = 0.0f, w[kMostSplits / 32];
#pragma unroll
        for (int j = 0; j < kMostSplits / 32; j++) {
            w[j] = lane + 32 * j < n ? md[2 * (lane + 32 * j)] : -INFINITY;
            top = fmaxf(top, w[j]);
        }
#pragma unroll
        for (int x = 16; x; x >>= 1)
            top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, x));
#pragma unroll
        for (int j = 0; j < kMostSplits / 32; j++) {
            w[j] = exp_of(w[j] - top);
            sum += lane + 32 * j < n ? w[j] * md[2 * (lane + 32 * j) + 1] : 0.0f;
        }
        sum = nb_warp_sum(sum);
#pragma unroll
        for (int j = 0; j < kMostSplits / 32; j++)
            if (lane + 32 * j < n)
                share_w[h][lane + 32 * j] = w[j] / sum;
    }
    __syncthreads(); /* all weights are there */
    for (int at = 4 * threadIdx.x; at < heads * a.head_dim; at += 4 * blockDim.x) {
        const int h = at / a.head_dim, e = at % a.head_dim;
        const float *o = s.o + (row + h) * s.n_split * a.head_dim + e;
        float v[4] = {};
#pragma unroll 4
        for (int i = 0; i < n; i++) {
            const uint4 u = ld_v4(o + i * a.head_dim);
            v[0] += share_w[h][i] * __uint_as_float(u.x);
            v[1] += share_w[h][i] * __uint_as_float(u.y);
            v[2] += share_w[h][i] * __uint_as_float(u.z);
            v[3] += share_w[h][i] * __uint_as_float(u.w);
        }
        nb_store4(a.out + token * a.ldo + (int64_t)(head0 + h) * a.head_dim + e, v);
    }
}

/* Query heads a block takes: all of a KV head, at most 8. */
static int heads_of(const nb_attention_args *a)
{
    const int per_kv = a->n_head / a->kv->n_kv_head;
    return per_kv == 1 ? 1 : per_kv <= 4 ? 4 : 8;
}

static Split split_of(nb_backend *be, const nb_attention_args *a)
{
    const int span = a->window > 0 && a->window < a->batch->max_len ? a->window : a->batch->max_len;
    Split s = {0,    0,    (int)nb_ceil_div(a->n_head / a->kv->n_kv_head, heads_of(a)),
               NULL, NULL, nb_cuda_of(be)->turn};
    const int64_t blocks = (int64_t)a->batch->n_token * a->kv->n_kv_head * s.n_chunk,
                  want = kWantBlocks / (blocks > 0 ? blocks : 1);
    s.len = (int)nb_ceil_div(nb_ceil_div(span, want < 1             ? 1
                                               : want < kMostSplits ? want
                                                                    : kMostSplits),
                             kPiece) *
            kPiece;
    s.n_split = (int)nb_ceil_div(span, s.len);
    s.o = (float *)a->scratch;
    s.md = s.o ? s.o + (int64_t)a->batch->n_token * a->n_head * s.n_split * a->kv->head_dim : NULL;
    return s;
}

/* Enough for any number of tokens up to the call's and any shorter context: fewer tokens are cut
 * into more splits, and so may shorter contexts be. */
size_t nb_cuda_attention_split_scratch(const nb_attention_args *a)
{
    const int64_t span = a->window > 0 && a->window < a->batch->max_len ? a->window
                                                                        : a->batch->max_len,
                  pieces = nb_ceil_div(span, kPiece);
    const int64_t chunks = nb_ceil_div(a->n_head / a->kv->n_kv_head, heads_of(a)),
                  a_token = a->kv->n_kv_head * chunks;
    int64_t most = 0;
    /* beyond, a token is one split */
    for (int64_t n = 1; n <= a->batch->n_token && 2 * n * a_token <= kWantBlocks; n++) {
        const int64_t want = kWantBlocks / (n * a_token),
                      some = want < kMostSplits ? want : kMostSplits,
                      splits = some < pieces ? some : pieces;
        most = splits > 1 && n * splits > most ? n * splits : most;
    }
    return (size_t)(most * a->n_head * (a->kv->head_dim + 2)) * sizeof(float);
}

template <class T, int kLanes>
static nb_status run_heads(nb_backend *be, const nb_attention_args *a, const Split &s,
                           nb_error *err)
{
    const int heads = heads_of(a);
    void (*const kernel)(Attention, Split) = heads == 1   ? split_kernel<T, kLanes, 1>
                                             : heads == 4 ? split_kernel<T, kLanes, 4>
                                                          : split_kernel<T, kLanes, 8>;
    const dim3 grid((unsigned)s.n_split, (unsigned)(a->kv->n_kv_head * s.n_chunk),
                    (unsigned)a->batch->n_token);
    return nb_launch(be, "attention.split", kernel, grid, dim3(32 * kWarps), 0, err,
                     nb_attention_of(a), s);
}

template <class T>
static nb_status run_lanes(nb_backend *be, const nb_attention_args *a, const Split &s,
                           nb_error *err)
{
    const int dim = a->kv->head_dim;
    return dim <= 64    ? run_heads<T, 8>(be, a, s, err)
           : dim <= 128 ? run_heads<T, 16>(be, a, s, err)
                        : run_heads<T, 32>(be, a, s, err);
}

nb_status nb_cuda_attention_split(nb_backend *be, const nb_attention_args *a, nb_error *err)
{
    const Split s = split_of(be, a);
    static nb_status (*const run[NB_KV_TYPES])(nb_backend *, const nb_attention_args *,
                                               const Split &, nb_error *) = {
        /* as nb_kv_type numbers them */
        run_lanes<float>, run_lanes<uint16_t>, run_lanes<Bf16>, run_lanes<Q8>, run_lanes<Fp8>};
    return run[a->kv->type](be, a, s, err);
}
