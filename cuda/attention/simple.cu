/* simple.cu -- causal attention over the cache, one block a (token, query head): simple and right
 * for any shape.
 *
 * Four warps take the positions in turn; a warp computes q.k over its lanes, then keeps the running
 * softmax (Milakov and Gimelshein 2018)
 *
 *     m' = max(m, s),  d' = d e^(m - m') + e^(s - m'),  o' = o e^(m - m') + v e^(s - m')
 *
 * with its share of o in registers (head_dim / 32 elements a lane). At the end the four states
 * merge in the order of the warps. */
#include "attention/attention.h"
#include "reduce.h"

constexpr int kWarps = 4, kDims = 8; /* head_dim up to 256 */

__global__ void __launch_bounds__(128) simple_kernel(Attention a)
{
    SHARED(float, share_o, [kWarps][kDims * 32]);
    SHARED(float, share_m, [kWarps]);
    SHARED(float, share_d, [kWarps]);
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, token = blockIdx.x,
              head = blockIdx.y;
    const int pos = a.pos[token], first = nb_first_seen(a, pos);
    const int seq = a.seq[token], kv_head = head / (a.n_head / a.n_kv_head);
    float q[kDims], o[kDims], top = -INFINITY, sum = 0.0f;
#pragma unroll
    for (int i = 0; i < kDims; i++) {
        const int e = i * 32 + lane;
        q[i] =
            e < a.head_dim ? a.q[token * a.ldq + (int64_t)head * a.head_dim + e] * a.scale : 0.0f;
        o[i] = 0.0f;
    }
    for (int t = first + warp; t <= pos; t += kWarps) {
        const int64_t at = nb_place(a.pages, seq, t) * a.n_kv_head + kv_head;
        float s = 0.0f;
#pragma unroll
        for (int i = 0; i < kDims; i++)
            if (i * 32 + lane < a.head_dim)
                s += q[i] * nb_kv_value(a.type, a.scales, a.k, at, a.head_dim, i * 32 + lane);
        s = nb_warp_sum(s);
        if (a.soft_cap > 0.0f)
            s = a.soft_cap * tanhf(s / a.soft_cap);
        /* top = -inf: keep is 0 */
        const float now = fmaxf(top, s), keep = expf(top - now), p = expf(s - now);
        sum = sum * keep + p;
        top = now;
#pragma unroll
        for (int i = 0; i < kDims; i++)
            if (i * 32 + lane < a.head_dim)
                o[i] = o[i] * keep +
                       p * nb_kv_value(a.type, a.scales, a.v, at, a.head_dim, i * 32 + lane);
    }
#pragma unroll
    for (int i = 0; i < kDims; i++)
        share_o[warp][i * 32 + lane] = o[i];
    if (lane == 0) {
        share_m[warp] = top;
        share_d[warp] = sum;
    }
    __syncthreads();
    float all = -INFINITY, d = 0.0f;
    for (int w = 0; w < kWarps; w++)
        all = fmaxf(all, share_m[w]);
    for (int w = 0; w < kWarps; w++)
        d += share_d[w] * expf(share_m[w] - all); /* a warp without positions has d = 0 */
    for (int e = threadIdx.x; e < a.head_dim; e += blockDim.x) {
        float v = 0.0f;
        for (int w = 0; w < kWarps; w++)
            v += share_o[w][e] * expf(share_m[w] - all);
        a.out[token * a.ldo + (int64_t)head * a.head_dim + e] = v / d;
    }
}

nb_status nb_cuda_attention_simple(nb_backend *be, const nb_attention_args *a, nb_error *err)
{
    return nb_launch(be, "attention.simple", simple_kernel,
                     dim3((unsigned)a->batch->n_token, (unsigned)a->n_head), dim3(32 * kWarps), 0,
                     err, nb_attention_of(a));
}
