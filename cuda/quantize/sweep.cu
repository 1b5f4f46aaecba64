/* sweep.cu -- GPTQ over all columns (Frantar et al. 2022; without the inverse:
 * csrc/backend/cpu/gptq_sweep.c derives it), by blocks of columns.
 *
 *     X_j = W_j + S_j / R[j][j],  q_j = round(X_j),  D_j = W_j - q_j,  S_l = sum over i < l of D_i
 *         R[i][l]
 *
 * For a block of about 128 columns: S of it from all columns before it is one product on the tensor
 * cores (D and R as f32, split into three bf16 each, split_tile.h), then one warp a row goes
 * through the block, in which the lanes share the update of S and one
 * of them rounds. Where groups are not fixed, the parameters of one come from the current values of
 * its columns when the first of them is reached: y R[g,g] = S_g. f64 but for D in the product, the
 * rounding in f32. Cost 3 N K^2 multiply-adds of bf16, 2 K / 128 launches. */
#include "quantize/grid.h"
#include "quantize/split_tile.h"

/* Warps a block. Four blocks a multiprocessor are asked for: left alone, ptxas spills for sixteen. */
constexpr int kRows = 4;
constexpr int kBlock = 128;
/* S of a block of columns and the group's values in shared memory: 48 KB is what a block has without asking */
constexpr int64_t kMostColumns = (48 << 10) / (2 * kRows * (int64_t)sizeof(double));

struct Sweep {
    const float *w;
    int64_t N, K, B; /* B: columns of a block at most */
    const double *r;
    const int32_t *perm; /* device or NULL */
    int fixed;
    nb_group *groups;
    uint8_t *codes;
    float *d;          /* [N,K] in the order of the sweep */
    double *sum;       /* [N,B] S of the block */
    const double *add; /* [K] what was added to H's diagonal, for: */
    double *error;     /* [N] sum of e^2 - add D^2, e = D R; NULL: not asked for */
    Grid grid;
};

/* S of columns [b, b + n) from all before b. */
__global__ void __launch_bounds__(kSplitThreads) before_kernel(Sweep a, int64_t b, int n)
{
    DYN_SHARED(Operand<3>, operands);
    const int64_t i0 = (int64_t)blockIdx.y * kTile;
    const int j0 = blockIdx.x * kTile;
    const SplitSum s = split_product<true>(
        operands, 0, b,
        [&](int i, int64_t k, float(&v)[2]) {
            v[0] = v[1] = 0.0f;
            if (i0 + i < a.N)
                nb_pair(a.d + (i0 + i) * a.K, k, b, v);
        },
        [&](int64_t k, int j, float(&v)[2]) {
#pragma unroll
            for (int p = 0; p < 2; p++)
                v[p] = k < b && j0 + j + p < n ? (float)a.r[k * a.K + b + j0 + j + p] : 0.0f;
        });
    split_each(s, [&](int in, int jn, double sum) {
        if (i0 + in < a.N && j0 + jn < n)
            a.sum[(i0 + in) * a.B + j0 + jn] = sum;
    });
}

/* Parameters of the group of `width` columns from column j on, whose S is s, from their
 * current values; in lane 0. */
template <bool kTable>
DEVI nb_group group_now(const Sweep &a, const double *s, double *y, int64_t row, int64_t j,
                        int width)
{
    const int lane = threadIdx.x & 31;
    const int64_t K = a.K;
    for (int l = lane; l < width; l += 32)
        y[l] = s[l];
    __syncwarp();
    for (int i = 0; i < width; i++) { /* a finished component is taken out of the others */
        const double v = y[i] / a.r[(j + i) * K + j + i];
        __syncwarp(); /* every lane has read y[i] */
        for (int l = i + lane; l < width; l += 32)
            y[l] = l == i ? v : y[l] - v * a.r[(j + i) * K + j + l];
        __syncwarp();
    }
    Range range = range_open();
    for (int l = 0; l < width && lane == 0; l++)
        range_add(&range, (float)((double)a.w[row * K + j + l] + y[l]));
    return params_of<kTable>(a.grid, range);
}

/* Columns [b, b + n), a warp a row. */
template <bool kTable>
__global__ void __launch_bounds__(32 * kRows, 4) block_kernel(Sweep a, int64_t b, int n)
{
    DYN_SHARED(double, shared);
    const int lane = threadIdx.x & 31;
    const int64_t row = (int64_t)blockIdx.x * kRows + (threadIdx.x >> 5), K = a.K;
    if (row >= a.N)
        return;
    double *s = shared + (int)(threadIdx.x >> 5) * 2 * n, *y = s + n, error = 0.0;
    for (int l = lane; l < n; l += 32)
        s[l] = a.sum[row * a.B + l];
    __syncwarp();
    for (int in = 0; in < n; in++) {
        const int64_t j = b + in, k = a.perm ? a.perm[j] : j;
        nb_group *slot = &a.groups[row * a.grid.G + k / a.grid.group];
        double d = 0.0;
        if (!a.fixed && j % a.grid.group == 0) {
            const nb_group now = group_now<kTable>(
                a, s + in, y, row, j, n - in < a.grid.group ? n - in : (int)a.grid.group);
            if (lane == 0) {
                slot->scale = now.scale;
                slot->zero = now.zero;
                slot->min = now.min;
            }
        }
        if (lane == 0) {
            nb_group p;
            p.scale = slot->scale;
            p.zero = slot->zero;
            p.min = slot->min;
            const double w = (double)a.w[row * K + k];
            const int code = round_to<kTable>(a.grid, p, (float)(w + s[in] / a.r[j * K + j]));
            a.codes[row * K + k] = (uint8_t)code;
            d = w - (double)value_of<kTable>(a.grid, p, code);
            a.d[row * K + j] = (float)d;
            if (a.error) {
                const double e = s[in] + d * a.r[j * K + j];
                error += e * e - a.add[k] * d * d;
            }
        }
        d = __shfl_sync(0xffffffffu, d, 0);
        for (int l = in + 1 + lane; l < n; l += 32)
            s[l] += d * a.r[j * K + b + l];
        __syncwarp();
    }
    if (a.error && lane == 0)
        a.error[row] = b ? a.error[row] + error : error; /* blocks ascending */
}

/* Columns a block: no group is cut. */
static int64_t block_of(const nb_gptq_sweep_args *a)
{
    const int64_t group = nb_grid_group(a->grid, a->K);
    return a->groups_fixed || group == a->K ? kBlock
           : group > kBlock                 ? group
                                            : kBlock / group * group;
}

size_t nb_cuda_gptq_sweep_scratch(nb_backend *, const nb_gptq_sweep_args *a)
{
    return nb_align256((size_t)a->K * sizeof(int32_t)) +
           nb_align256((size_t)(a->N * a->K) * sizeof(float)) +
           nb_align256((size_t)a->K * sizeof(double)) + nb_align256((size_t)a->N * sizeof(double)) +
           (size_t)(a->N * block_of(a)) * sizeof(double);
}

static nb_status blocks_of(nb_backend *be, const Sweep &s, nb_error *err)
{
    const unsigned tiles = (unsigned)nb_ceil_div(s.N, kTile),
                   rows = (unsigned)nb_ceil_div(s.N, kRows);
    nb_status st = nb_split_shared(be, before_kernel, "shared memory for gptq_sweep", err);
    for (int64_t b = 0; b < s.K && st == NB_OK; b += s.B) {
        const int n = (int)(s.K - b < s.B ? s.K - b : s.B);
        st = nb_launch(be, "gptq_sweep.before", before_kernel,
                       dim3((unsigned)nb_ceil_div(n, kTile), tiles), dim3(kSplitThreads),
                       kThreeParts, err, s, b, n);
        if (st == NB_OK)
            st = nb_launch(be, "gptq_sweep.block",
                           s.grid.table ? block_kernel<true> : block_kernel<false>, dim3(rows),
                           dim3(32 * kRows), 2 * kRows * (size_t)n * sizeof(double), err, s, b, n);
    }
    return st;
}

nb_status nb_cuda_gptq_sweep(nb_backend *be, const nb_gptq_sweep_args *a, nb_error *err)
{
    if (a->perm && !a->groups_fixed)
        return nb_fail(err, NB_INTERNAL, "gptq_sweep: an order needs fixed groups");
    const int64_t B = block_of(a);
    if (B > kMostColumns)
        return nb_fail(err, NB_UNSUPPORTED,
                       "gptq_sweep: groups of %lld inputs whose parameters are not fixed, at most "
                       "%lld are done here",
                       (long long)B, (long long)kMostColumns);
    char *at = (char *)a->scratch;
    int32_t *perm = (int32_t *)(void *)at;
    at += nb_align256((size_t)a->K * sizeof *perm);
    float *d = (float *)(void *)at;
    at += nb_align256((size_t)(a->N * a->K) * sizeof *d);
    double *add = (double *)(void *)at;
    at += nb_align256((size_t)a->K * sizeof *add);
    double *error = (double *)(void *)at;
    at += nb_align256((size_t)a->N * sizeof *error);
    Sweep s = {a->w,
               a->N,
               a->K,
               B,
               a->r,
               a->perm ? perm : NULL,
               a->groups_fixed != NULL,
               a->groups,
               a->codes,
               d,
               (double *)(void *)at,
               add,
               a->error ? error : NULL,
               {}};
    nb_status st = nb_cuda_grid(be, a->grid, a->K, &s.grid, err);
    if (st == NB_OK && a->perm)
        st = be->op->upload(be, perm, a->perm, (size_t)a->K * sizeof *perm, err);
    if (st == NB_OK && a->error)
        st = be->op->upload(be, add, a->diag_add, (size_t)a->K * sizeof *add, err);
    if (st == NB_OK && a->groups_fixed && a->groups_fixed != a->groups)
        st = nb_cuda_status(be,
                            cudaMemcpyAsync(a->groups, a->groups_fixed,
                                            (size_t)(a->N * s.grid.G) * sizeof *a->groups,
                                            cudaMemcpyDeviceToDevice, nb_cuda_of(be)->stream),
                            "copying groups", err);
    /* before any update the current values are W's own */
    if (st == NB_OK && !s.fixed && s.grid.group >= a->K) {
        const nb_quantize_rows_args whole = {a->w, a->N, a->K, a->grid, a->groups, NULL};
        st = nb_cuda_quantize_rows(be, &whole, err);
        s.fixed = 1;
    }
    if (st == NB_OK)
        st = blocks_of(be, s, err);
    return st == NB_OK && a->error
               ? be->op->download(be, a->error, error, (size_t)a->N * sizeof *error, err)
               : st;
}
