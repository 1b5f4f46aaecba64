/* moe.cu -- mixtures of experts (backend.h): choosing and mixing them (grouped.cu multiplies); and
 * the residual of what was normed or scaled first. */
#include "device.h"
#include "reduce.h"

struct Route {
    const float *logits;
    int32_t *expert;
    float *weight;
    int64_t M, ldl;
    int n_expert, n_used, renormalize;
};

constexpr int kRouteWarps = 4; /* tokens a block; eight blocks a multiprocessor, as in sweep.cu */

/* A warp a token: n_used rounds over the logits, each for the greatest below the last choice (of
 * equals the lower expert). Lane l looks at experts l, l + 32, ...; its best goes against those of
 * the others. NaN is passed over; where expert 0 has it, 0 is taken every time. */
__global__ void __launch_bounds__(32 * kRouteWarps, 8) route_kernel(Route a)
{
    const int lane = threadIdx.x & 31;
    const int64_t m = (int64_t)blockIdx.x * kRouteWarps + (threadIdx.x >> 5);
    if (m >= a.M)
        return;
    const float *l = a.logits + m * a.ldl;
    int last = -1;
    float before = 0.0f, top = 0.0f, picked = 0.0f, all = 0.0f; /* before: l[last] */
    for (int j = 0; j < a.n_used; j++) {
        int best = -1;
        float most = 0.0f; /* l[best] */
        for (int e = lane; e < a.n_expert; e += 32) {
            const float v = l[e];
            const bool below = last < 0 ? v == v : v < before || (v == before && e > last);
            if (below && (best < 0 || v > most)) {
                best = e;
                most = v;
            }
        }
#pragma unroll
        for (int o = 16; o; o >>= 1) {
            const int e = __shfl_xor_sync(0xffffffffu, best, o);
            const float v = __shfl_xor_sync(0xffffffffu, most, o);
            if (e >= 0 && (best < 0 || v > most || (v == most && e < best))) {
                best = e;
                most = v;
            }
        }
        if (best < 0 || (j == 0 && l[0] != l[0])) { /* only among NaN */
            best = 0;
            most = l[0];
        }
        if (lane == (j & 31)) /* which reads it again below */
            a.expert[m * a.n_used + j] = best;
        top = j ? top : most;
        picked += expf(most - top);
        last = best;
        before = most;
    }
    for (int e = lane; e < a.n_expert; e += 32)
        all += expf(l[e] - top);
    all = nb_warp_sum(all);
    for (int j = lane; j < a.n_used; j += 32)
        a.weight[m * a.n_used + j] =
            expf(l[a.expert[m * a.n_used + j]] - top) / (a.renormalize ? picked : all);
}

nb_status nb_cuda_route_experts(nb_backend *be, const nb_route_args *a, nb_error *err)
{
    const Route r = {a->logits, a->expert,   a->weight, a->M,
                     a->ldl,    a->n_expert, a->n_used, a->renormalize};
    return nb_launch(be, "route_experts", route_kernel,
                     dim3((unsigned)nb_ceil_div(a->M, kRouteWarps)), dim3(32 * kRouteWarps), 0, err,
                     r);
}

struct Combine {
    const float *x, *weight;
    float *y;
    int64_t M, N, ldx, ldy;
    int n_used, add;
    float scale;
};

__global__ void combine_kernel(Combine a)
{
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < a.M * a.N;
         i += (int64_t)gridDim.x * blockDim.x) {
        const int64_t m = i / a.N, n = i % a.N;
        float sum = 0.0f;
        for (int j = 0; j < a.n_used; j++)
            sum += a.weight[m * a.n_used + j] * a.x[(m * a.n_used + j) * a.ldx + n];
        float *y = a.y + m * a.ldy + n;
        *y = a.scale * sum + (a.add ? *y : 0.0f);
    }
}

nb_status nb_cuda_combine_experts(nb_backend *be, const nb_combine_args *a, nb_error *err)
{
    const Combine c = {a->x,   a->weight, a->y,      a->M,   a->N,
                       a->ldx, a->ldy,    a->n_used, a->add, a->scale};
    return nb_launch(be, "combine_experts", combine_kernel, nb_blocks(a->M * a->N), dim3(256), 0,
                     err, c);
}

__global__ void gather_kernel(nb_gather_args a)
{
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < a.M * a.K;
         i += (int64_t)gridDim.x * blockDim.x) {
        const int64_t row = a.row[i / a.K], k = i % a.K;
        a.y[i / a.K * a.ldy + k] =
            row >= 0 ? a.x[row * a.ldx + k] : a.other[(-1 - row) * a.ldo + k];
    }
}

nb_status nb_cuda_gather_rows(nb_backend *be, const nb_gather_args *a, nb_error *err)
{
    return nb_launch(be, "gather_rows", gather_kernel, nb_blocks(a->M * a->K), dim3(256), 0, err,
                     *a);
}

__global__ void add_kernel(const float *x, int64_t ldx, float scale, int64_t M, int64_t N, float *y,
                           int64_t ldy)
{
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < M * N;
         i += (int64_t)gridDim.x * blockDim.x)
        y[i / N * ldy + i % N] += scale * x[i / N * ldx + i % N];
}

nb_status nb_cuda_add_scaled(nb_backend *be, const nb_add_args *a, nb_error *err)
{
    return nb_launch(be, "add_scaled", add_kernel, nb_blocks(a->M * a->N), dim3(256), 0, err, a->x,
                     a->ldx, a->scale, a->M, a->N, a->y, a->ldy);
}
