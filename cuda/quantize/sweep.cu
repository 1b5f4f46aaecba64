/* sweep.cu -- GPTQ over all columns, one warp a row of W (Frantar et al. 2022; without the inverse: csrc/backend/cpu/gptq_sweep.c derives it).
 *
 *     X_j = W_j + S_j / R[j][j],  q_j = round(X_j),  D_j = W_j - q_j,  S_l += D_j R[j][l] for l > j
 *
 * S [N,K] lives in scratch; the lanes share the update, one of them rounds. At the start of a group without fixed parameters lane 0 solves the group's
 * triangle for its current values, y R[g,g] = S_g. f64, the rounding in f32. Cost 2 N K^2 FLOP, N K^2 / 2 reads of R from the L2. */
#include "quantize/grid.h"

constexpr int kRows = 4; /* warps a block */

struct Sweep {
    const float *w;
    int64_t N, K;
    const double *r;
    const int32_t *perm; /* device or NULL */
    int fixed;
    nb_group *groups;
    uint8_t *codes;
    double *sum, *y; /* [N,K] each; y only without fixed groups */
    Grid grid;
};

/* Parameters of the group that begins at column j, from the current values of its columns. */
DEVI nb_group group_now(const Sweep &a, int64_t n, int64_t j)
{
    const int64_t K = a.K, width = K - j < a.grid.group ? K - j : a.grid.group;
    const double *s = a.sum + n * K + j;
    double *y = a.y + n * K + j;
    Range range = range_open();
    for (int64_t l = 0; l < width; l++) {
        double v = s[l];
        for (int64_t i = 0; i < l; i++)
            v -= y[i] * a.r[(j + i) * K + j + l];
        y[l] = v / a.r[(j + l) * K + j + l];
        range_add(&range, (float)((double)a.w[n * K + j + l] + y[l]));
    }
    return params_of(a.grid, range);
}

__global__ void __launch_bounds__(32 * kRows) sweep_kernel(Sweep a)
{
    const int lane = threadIdx.x & 31;
    const int64_t n = (int64_t)blockIdx.x * kRows + (threadIdx.x >> 5), K = a.K;
    if (n >= a.N)
        return;
    double *s = a.sum + n * K;
    for (int64_t l = lane; l < K; l += 32)
        s[l] = 0.0;
    __syncwarp();
    for (int64_t j = 0; j < K; j++) {
        double d = 0.0;
        if (lane == 0) {
            const int64_t k = a.perm ? a.perm[j] : j;
            nb_group *slot = &a.groups[n * a.grid.G + k / a.grid.group];
            nb_group p;
            if (!a.fixed && k % a.grid.group == 0) {
                p = group_now(a, n, j);
                slot->scale = p.scale;
                slot->zero = p.zero;
                slot->min = p.min;
            } else {
                p.scale = slot->scale;
                p.zero = slot->zero;
                p.min = slot->min;
            }
            const double w = (double)a.w[n * K + k];
            const int code = round_to(a.grid, p, (float)(w + s[j] / a.r[j * K + j]));
            a.codes[n * K + k] = (uint8_t)code;
            d = w - (double)value_of(p, code);
        }
        d = __shfl_sync(0xffffffffu, d, 0);
        __syncwarp(); /* a shuffle orders no memory: lane 0 has read the group's sums */
        for (int64_t l = j + 1 + lane; l < K; l += 32)
            s[l] += d * a.r[j * K + l];
        __syncwarp();
    }
}

size_t nb_cuda_gptq_sweep_scratch(nb_backend *, const nb_gptq_sweep_args *a)
{
    const size_t n = nb_align256((size_t)(a->N * a->K) * sizeof(double));
    return n * (a->groups_fixed ? 1 : 2) + nb_align256((size_t)a->K * sizeof(int32_t));
}

nb_status nb_cuda_gptq_sweep(nb_backend *be, const nb_gptq_sweep_args *a, nb_error *err)
{
    if (a->perm && !a->groups_fixed)
        return nb_fail(err, NB_INTERNAL, "gptq_sweep: an order needs fixed groups");
    const size_t n = nb_align256((size_t)(a->N * a->K) * sizeof(double));
    char *at = (char *)a->scratch;
    int32_t *perm = (int32_t *)(void *)at;
    at += nb_align256((size_t)a->K * sizeof *perm);
    Sweep s = {a->w, a->N, a->K, a->r, a->perm ? perm : NULL, a->groups_fixed != NULL, a->groups, a->codes, (double *)(void *)at, (double *)(void *)(at + n), {}};
    nb_status st = nb_cuda_grid(be, a->grid, a->K, &s.grid, err);
    if (st == NB_OK && a->perm)
        st = be->op->upload(be, perm, a->perm, (size_t)a->K * sizeof *perm, err);
    if (st == NB_OK && a->groups_fixed && a->groups_fixed != a->groups)
        st = nb_cuda_status(be, cudaMemcpyAsync(a->groups, a->groups_fixed, (size_t)(a->N * s.grid.G) * sizeof *a->groups, cudaMemcpyDeviceToDevice, nb_cuda_of(be)->stream), "copying groups", err);
    return st == NB_OK ? nb_launch(be, "gptq_sweep", sweep_kernel, dim3((unsigned)nb_ceil_div(a->N, kRows)), dim3(32 * kRows), 0, err, s) : st;
}
