/* rows.cu -- round to nearest into a grid, and the way back. One warp a group when rounding, one
 * thread a value on the way back. */
#include "quantize/grid.h"

#include <cstring>

nb_status nb_cuda_grid(const nb_backend *be, const nb_grid *g, int64_t K, Grid *out, nb_error *err)
{
    *out = {};
    out->rule = g->rule;
    out->code_max = g->code_max;
    out->sym = g->sym;
    out->group = nb_grid_group(g, K);
    out->G = nb_ceil_div(K, out->group);
    if (g->table) {
        out->table = 1;
        out->two_sided = g->two_sided;
        out->wide = g->dtype->scale == NB_SCALE_F32;
        out->zero = nb_grid_nearest(g, 0.0f);
        out->far = g->far;
        memcpy(out->level, g->table, (size_t)(g->code_max + 1) * sizeof *out->level);
        memcpy(out->mid, g->mid, sizeof out->mid);
        memcpy(out->order, g->order, sizeof out->order);
    }
    if (g->rule >= NB_RULE_INT && g->rule <= NB_RULE_TABLE)
        return NB_OK;
    return nb_fail(err, NB_UNSUPPORTED,
                   "%s: the grid %s is not there yet; quantize with --device cpu", be->name,
                   g->name);
}

template <bool kTable>
__global__ void rows_kernel(const float *w, int64_t N, int64_t K, Grid grid, nb_group *groups,
                            uint8_t *codes)
{
    const int lane = threadIdx.x & 31, n_warp = blockDim.x >> 5;
    for (int64_t at = (int64_t)blockIdx.x * n_warp + (threadIdx.x >> 5); at < N * grid.G;
         at += (int64_t)gridDim.x * n_warp) {
        const int64_t n = at / grid.G, from = at % grid.G * grid.group,
                      to = from + grid.group < K ? from + grid.group : K;
        const float *row = w + n * K;
        const nb_group p =
            params_of<kTable>(grid, range_of(from, to, [&](int64_t k) { return row[k]; }));
        if (lane == 0) {
            groups[at].scale = p.scale;
            groups[at].zero = p.zero;
            groups[at].min = p.min;
        }
        for (int64_t k = from + lane; k < to && codes; k += 32)
            codes[n * K + k] = (uint8_t)round_to<kTable>(grid, p, row[k]);
    }
}

template <bool kTable>
__global__ void back_kernel(const uint8_t *codes, const nb_group *groups, int64_t N, int64_t K,
                            Grid grid, float *q)
{
    for (int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; at < N * K;
         at += (int64_t)gridDim.x * blockDim.x)
        q[at] = value_of<kTable>(grid, groups[at / K * grid.G + at % K / grid.group], codes[at]);
}

nb_status nb_cuda_quantize_rows(nb_backend *be, const nb_quantize_rows_args *a, nb_error *err)
{
    Grid grid;
    const nb_status st = nb_cuda_grid(be, a->grid, a->K, &grid, err);
    return st != NB_OK
               ? st
               : nb_launch(be, "quantize_rows", grid.table ? rows_kernel<true> : rows_kernel<false>,
                           nb_blocks(32 * a->N * grid.G), dim3(256), 0, err, a->w, a->N, a->K, grid,
                           a->groups, a->codes);
}

nb_status nb_cuda_dequantize(nb_backend *be, const nb_dequantize_args *a, nb_error *err)
{
    Grid grid;
    const nb_status st = nb_cuda_grid(be, a->grid, a->K, &grid, err);
    return st != NB_OK
               ? st
               : nb_launch(be, "dequantize", grid.table ? back_kernel<true> : back_kernel<false>,
                           nb_blocks(a->N * a->K), dim3(256), 0, err, a->codes, a->groups, a->N,
                           a->K, grid, a->q);
}
