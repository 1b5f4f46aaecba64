/* factor.cu -- R upper with P (H + diag) P^T = R R^T: Cholesky of the index-reversed matrix in f64 (quantizers.md 2.2), right-looking.
 *
 *     M = chol_lower(J H J),  R[i][j] = M[K-1-i][K-1-j]
 *
 * By blocks of 32 columns, three launches each: the diagonal block (one warp), the rows below it (a thread a row), the trailing square (a block a tile
 * of 32 x 32). A minor that fails leaves its order in *failed and the launches behind it do nothing. Cost K^3 / 3 FLOP. */
#include "device.h"

constexpr int kB = 32;

__global__ void gather_kernel(const double *h, const double *add, const int32_t *perm, int64_t K, double *m)
{
    for (int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; at < K * K; at += (int64_t)gridDim.x * blockDim.x) {
        const int64_t i = at / K, j = at % K;
        if (j > i)
            continue;
        const int64_t pi = perm ? perm[K - 1 - i] : K - 1 - i, pj = perm ? perm[K - 1 - j] : K - 1 - j;
        m[at] = h[pi * K + pj] + (i == j ? add[pi] : 0.0);
    }
}

__global__ void scatter_kernel(const double *m, int64_t K, double *r)
{
    for (int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; at < K * K; at += (int64_t)gridDim.x * blockDim.x) {
        const int64_t i = at / K, j = at % K;
        r[at] = j >= i ? m[(K - 1 - i) * K + K - 1 - j] : 0.0;
    }
}

/* The block at (b, b), n <= 32 wide: lane l owns row l. */
__global__ void diagonal_kernel(double *m, int64_t K, int64_t b, int n, long long *failed)
{
    SHARED(double, t, [kB][kB + 1]);
    SHARED(int, bad, [1]);
    const int l = threadIdx.x;
    if (*failed)
        return;
    if (l == 0)
        bad[0] = 0;
    if (l < n)
        for (int j = 0; j <= l; j++)
            t[l][j] = m[(b + l) * K + b + j];
    __syncthreads();
    for (int j = 0; j < n; j++) {
        if (l == j) {
            const double v = t[j][j];
            if (v > 0.0 && v < INFINITY)
                t[j][j] = sqrt(v);
            else
                bad[0] = j + 1;
        }
        __syncthreads();
        if (bad[0])
            break;
        if (l > j && l < n)
            t[l][j] /= t[j][j];
        __syncthreads();
        if (l > j && l < n)
            for (int k = j + 1; k <= l; k++)
                t[l][k] -= t[l][j] * t[k][j];
        __syncthreads();
    }
    if (l < n)
        for (int j = 0; j <= l; j++)
            m[(b + l) * K + b + j] = t[l][j];
    if (l == 0 && bad[0])
        *failed = b + bad[0];
}

/* Rows from b + n on, against the factored block. */
__global__ void panel_kernel(double *m, int64_t K, int64_t b, int n, const long long *failed)
{
    SHARED(double, t, [kB][kB + 1]);
    if (*failed)
        return;
    for (int i = threadIdx.x; i < n * n; i += blockDim.x)
        if (i % n <= i / n)
            t[i / n][i % n] = m[(b + i / n) * K + b + i % n];
    __syncthreads();
    const int64_t row = b + n + (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= K)
        return;
    double *x = m + row * K + b;
    for (int k = 0; k < n; k++) {
        double v = x[k];
        for (int i = 0; i < k; i++)
            v -= x[i] * t[k][i];
        x[k] = v / t[k][k];
    }
}

/* M[i][j] -= sum_k M[i][b + k] M[j][b + k] for i >= j >= b + n; 32 x 8 threads, tile (blockIdx.y, blockIdx.x) of the trailing square. */
__global__ void __launch_bounds__(256) trailing_kernel(double *m, int64_t K, int64_t b, int n, const long long *failed)
{
    SHARED(double, left, [kB][kB + 1]);
    SHARED(double, right, [kB][kB + 1]);
    if (blockIdx.x > blockIdx.y || *failed)
        return;
    const int tx = threadIdx.x & 31, ty = threadIdx.x >> 5;
    const int64_t i0 = b + n + (int64_t)blockIdx.y * kB, j0 = b + n + (int64_t)blockIdx.x * kB;
    for (int r = ty; r < kB; r += 8) {
        left[r][tx] = i0 + r < K && tx < n ? m[(i0 + r) * K + b + tx] : 0.0;
        right[r][tx] = j0 + r < K && tx < n ? m[(j0 + r) * K + b + tx] : 0.0;
    }
    __syncthreads();
    for (int r = ty; r < kB; r += 8) {
        const int64_t i = i0 + r, j = j0 + tx;
        double v = 0.0;
        for (int k = 0; k < n; k++)
            v += left[r][k] * right[tx][k];
        if (i < K && j <= i)
            m[i * K + j] -= v;
    }
}

static nb_status blocks_of(nb_backend *be, double *m, int64_t K, long long *failed, nb_error *err)
{
    nb_status st = NB_OK;
    for (int64_t b = 0; b < K && st == NB_OK; b += kB) {
        const int n = (int)(K - b < kB ? K - b : kB);
        const int64_t rest = K - b - n;
        st = nb_launch(be, "factor.diagonal", diagonal_kernel, dim3(1), dim3(32), 0, err, m, K, b, n, failed);
        if (st == NB_OK && rest > 0)
            st = nb_launch(be, "factor.panel", panel_kernel, dim3((unsigned)nb_ceil_div(rest, 64)), dim3(64), 0, err, m, K, b, n, failed);
        const unsigned tiles = (unsigned)nb_ceil_div(rest, kB);
        if (st == NB_OK && rest > 0)
            st = nb_launch(be, "factor.trailing", trailing_kernel, dim3(tiles, tiles), dim3(256), 0, err, m, K, b, n, failed);
    }
    return st;
}

nb_status nb_cuda_factor(nb_backend *be, const nb_factor_args *a, nb_error *err)
{
    const nb_backend_ops *op = be->op;
    const int64_t K = a->K;
    double *m = NULL, *add = NULL;
    int32_t *perm = NULL;
    long long *failed = NULL, order = 0;
    nb_status st = op->alloc(be, (size_t)(K * K) * sizeof *m, "a factor", (void **)&m, err); /* waits, so it may allocate */
    if (st == NB_OK)
        st = op->alloc(be, (size_t)K * sizeof *add, "a diagonal", (void **)&add, err);
    if (st == NB_OK)
        st = op->alloc(be, sizeof *failed, "a result", (void **)&failed, err);
    if (st == NB_OK && a->perm)
        st = op->alloc(be, (size_t)K * sizeof *perm, "an order of columns", (void **)&perm, err);
    if (st == NB_OK)
        st = op->upload(be, add, a->diag_add, (size_t)K * sizeof *add, err);
    if (st == NB_OK && a->perm)
        st = op->upload(be, perm, a->perm, (size_t)K * sizeof *perm, err);
    if (st == NB_OK)
        st = op->zero(be, failed, sizeof *failed, err);
    if (st == NB_OK)
        st = nb_launch(be, "factor.gather", gather_kernel, nb_blocks(K * K), dim3(256), 0, err, a->h, add, perm, K, m);
    if (st == NB_OK)
        st = blocks_of(be, m, K, failed, err);
    if (st == NB_OK)
        st = nb_launch(be, "factor.scatter", scatter_kernel, nb_blocks(K * K), dim3(256), 0, err, m, K, a->r);
    if (st == NB_OK)
        st = op->download(be, &order, failed, sizeof order, err);
    *a->failed_minor = order;
    op->release(be, m);
    op->release(be, add);
    op->release(be, perm);
    op->release(be, failed);
    return st;
}
