/* clip.cu -- parameters of every group from the narrower range with the least error (backend.h,
 * clip_rows): a warp a group of a row, a lane a candidate.
 *
 *   candidate i:   p_i = params(w held within 1 - i step of its extremes),  d = value(round(w,
 *                  p_i)) - w
 *   error:         sum d^2,   or   sum_i d_i (H_ii d_i + 2 sum_{j<i} H_ij d_j)
 *
 * All lanes read the same w and H, one request each. A lane adds its errors in the order of the
 * inputs and without fused products, so that groups and codes are the host's to the bit. With H its
 * d stand in scratch, [input][candidate] of every block. Cost N K n_step, with H times half the
 * group. The quantile is found by halving the range of the bits of |w|, 31 counts of the group. */
#include "quantize/grid.h"
#include "reduce.h"

struct Clip {
    const float *w;
    int64_t N, K;
    const double *h;
    int n_step;
    float step, quantile;
    nb_group *groups;
    uint8_t *codes;
    double *d; /* [blocks][group][n_step], with h only */
    Grid grid;
};

DEVI float held(float w, float lo, float hi)
{
    return w < lo ? lo : w > hi ? hi : w;
}

template <bool kTable>
DEVI nb_group params_within(const Clip &a, const float *w, int n, float lo, float hi)
{
    Range r = range_open();
    for (int i = 0; i < n; i++)
        range_add(&r, held(w[i], lo, hi));
    return params_of<kTable>(a.grid, r);
}

/* h at the group's block of H, or NULL; d the lane's column. */
template <bool kTable>
DEVI double error_of(const Clip &a, const nb_group &p, const float *w, int n, const double *h,
                     double *d)
{
    double e = 0.0;
    for (int i = 0; i < n; i++) {
        const double di =
            (double)value_of<kTable>(a.grid, p, round_to<kTable>(a.grid, p, w[i])) - (double)w[i];
        double t = 0.0;
        if (h) {
            d[(int64_t)i * a.n_step] = di;
            for (int j = 0; j < i; j++)
                t += mul_rn(h[i * a.K + j], d[(int64_t)j * a.n_step]);
        }
        e += mul_rn(di, h ? mul_rn(h[i * a.K + i], di) + 2.0 * t : di);
    }
    return e;
}

/* The candidate with the least error, the first of equals; the same in every lane. */
template <bool kTable>
DEVI nb_group search(const Clip &a, const float *w, int n, const double *h, double *d)
{
    const int lane = threadIdx.x;
    float lo = INFINITY, hi = -INFINITY;
    for (int i = lane; i < n; i += 32) {
        lo = w[i] < lo ? w[i] : lo;
        hi = w[i] > hi ? w[i] : hi;
    }
#pragma unroll
    for (int o = 16; o; o >>= 1) {
        const float l = __shfl_xor_sync(0xffffffffu, lo, o),
                    m = __shfl_xor_sync(0xffffffffu, hi, o);
        lo = l < lo ? l : lo;
        hi = m > hi ? m : hi;
    }
    double least = INFINITY;
    int best = a.n_step;
    nb_group p = {0.0f, 0.0f, 0.0f};
    for (int i = lane; i < a.n_step; i += 32) {
        const float share = 1.0f - mul_rn((float)i, a.step);
        const nb_group c = params_within<kTable>(a, w, n, lo < 0.0f ? mul_rn(lo, share) : lo,
                                                 hi > 0.0f ? mul_rn(hi, share) : hi);
        const double e = error_of<kTable>(a, c, w, n, h, d + i);
        if (best == a.n_step || e < least) {
            least = e;
            best = i;
            p = c;
        }
    }
    int from = lane;
#pragma unroll
    for (int o = 16; o; o >>= 1) {
        const double e = __shfl_xor_sync(0xffffffffu, least, o);
        const int b = __shfl_xor_sync(0xffffffffu, best, o),
                  f = __shfl_xor_sync(0xffffffffu, from, o);
        if (e < least || (e == least && b < best)) {
            least = e;
            best = b;
            from = f;
        }
    }
    p.scale = __shfl_sync(0xffffffffu, p.scale, from);
    p.zero = __shfl_sync(0xffffffffu, p.zero, from);
    p.min = __shfl_sync(0xffffffffu, p.min, from);
    return p;
}

/* The ceil(quantile n)-th smallest magnitude: bits of floats that are not negative stand in the
 * floats' order. */
DEVI float magnitude_at(const Clip &a, const float *w, int n)
{
    const int at = (int)ceilf(a.quantile * (float)n), rank = at < 1 ? 1 : at > n ? n : at;
    unsigned lo = 0, hi = 0x7f800000u;
    while (lo < hi) {
        const unsigned mid = lo + (hi - lo) / 2;
        int below = 0;
        for (int i = threadIdx.x; i < n; i += 32)
            below += __float_as_uint(fabsf(w[i])) <= mid;
        if (nb_warp_sum(below) >= rank)
            hi = mid;
        else
            lo = mid + 1;
    }
    return __uint_as_float(lo);
}

template <bool kTable> __global__ void __launch_bounds__(32) clip_kernel(Clip a)
{
    const int64_t K = a.K, group = a.grid.group, G = a.grid.G;
    for (int64_t at = blockIdx.x; at < a.N * G; at += gridDim.x) {
        const int64_t row = at / G, first = at % G * group;
        const int n = (int)(K - first < group ? K - first : group), lane = threadIdx.x;
        const float *w = a.w + row * K + first;
        nb_group p;
        if (a.quantile > 0.0f) {
            const float most = magnitude_at(a, w, n);
            p = params_within<kTable>(a, w, n, -most, most);
        } else {
            p = search<kTable>(a, w, n, a.h ? a.h + first * K + first : NULL,
                               a.d + (int64_t)blockIdx.x * group * a.n_step);
        }
        if (lane == 0) {
            a.groups[at].scale = p.scale;
            a.groups[at].zero = p.zero;
            a.groups[at].min = p.min;
        }
        for (int i = lane; a.codes && i < n; i += 32)
            a.codes[row * K + first + i] = (uint8_t)round_to<kTable>(a.grid, p, w[i]);
    }
}

/* Blocks that run: with H each has n_step columns of scratch, 64 MiB of them at most. */
static int64_t blocks_of(const nb_clip_rows_args *a)
{
    const int64_t group = nb_grid_group(a->grid, a->K), all = a->N * nb_ceil_div(a->K, group);
    const int64_t each = group * a->n_step * (int64_t)sizeof(double),
                  most = a->h ? ((int64_t)64 << 20) / (each ? each : 1) : 65535;
    return all < most ? all : most < 1 ? 1 : most < 65535 ? most : 65535;
}

size_t nb_cuda_clip_rows_scratch(nb_backend *, const nb_clip_rows_args *a)
{
    const int64_t group = nb_grid_group(a->grid, a->K);
    return a->h && !(a->quantile > 0.0f)
               ? (size_t)(blocks_of(a) * group * a->n_step) * sizeof(double)
               : 0;
}

nb_status nb_cuda_clip_rows(nb_backend *be, const nb_clip_rows_args *a, nb_error *err)
{
    Clip c = {a->w,    a->N,        a->K,      a->h,     a->n_step,
              a->step, a->quantile, a->groups, a->codes, (double *)a->scratch,
              {}};
    const nb_status st = nb_cuda_grid(be, a->grid, a->K, &c.grid, err);
    return st != NB_OK
               ? st
               : nb_launch(be, "clip_rows", c.grid.table ? clip_kernel<true> : clip_kernel<false>,
                           dim3((unsigned)blocks_of(a)), dim3(32), 0, err, c);
}
