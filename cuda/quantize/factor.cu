/* factor.cu -- R upper with P (H + diag) P^T = A = R R^T in f64 (quantizers.md 2.2), in R's own
 * upper triangle, right-looking from the last column back.
 *
 * By blocks of 32 columns [b, b + n), three launches each:
 *
 *     diagonal  the block itself, one warp:   R_kk = sqrt(A_kk),  R_ik = A_ik / R_kk,  A_ij -= R_ik
 *                                             R_jk        i <= j < k
 *     panel     the rows above it, a thread a row: x R_block^T = A[i, block]
 *     trailing  what is left:  A[i][j] -= sum over the block of R[i][k] R[j][k],  i <= j < b; tiles
 *         of 64 x 64, 4 x 4 a thread
 *
 * The strict lower triangle is never written behind `gather`, so r may be h (backend.h). A minor
 * that fails leaves its order in *failed and the launches behind it do nothing. Cost K^3 / 3 FLOP,
 * K / 32 x 3 launches, no memory but R's. */
#include "device.h"

constexpr int kB = 32, kTile = 64;

/* A into r, from h's lower triangle; diag NULL: h's own diagonal. zero: the lower triangle of r,
 * which is not h, becomes 0. */
__global__ void gather_kernel(const double *h, const double *diag, const double *add,
                              const int32_t *perm, int64_t K, double *r, int zero)
{
    for (int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; at < K * K;
         at += (int64_t)gridDim.x * blockDim.x) {
        const int64_t i = at / K, j = at % K;
        const int64_t pi = perm ? perm[i] : i, pj = perm ? perm[j] : j;
        if (i < j)
            r[at] = pi > pj ? h[pi * K + pj] : h[pj * K + pi];
        else if (i == j)
            r[at] = (diag ? diag[pi] : h[pi * K + pi]) + add[pi];
        else if (zero)
            r[at] = 0.0;
    }
}

/* The block at (b, b), n <= 32 wide: lane l owns row l. */
__global__ void diagonal_kernel(double *r, int64_t K, int64_t b, int n, long long *failed)
{
    SHARED(double, t, [kB][kB + 1]);
    SHARED(int, bad, [1]);
    const int l = threadIdx.x;
    if (*failed)
        return;
    if (l == 0)
        bad[0] = 0;
    if (l < n)
        for (int j = l; j < n; j++)
            t[l][j] = r[(b + l) * K + b + j];
    __syncthreads();
    for (int k = n - 1; k >= 0; k--) {
        if (l == k) {
            const double v = t[k][k];
            if (v > 0.0 && v < INFINITY)
                t[k][k] = sqrt(v);
            else
                bad[0] = n - k;
        }
        __syncthreads();
        if (bad[0])
            break;
        if (l < k)
            t[l][k] /= t[k][k];
        __syncthreads();
        if (l < k)
            for (int j = l; j < k; j++)
                t[l][j] -= t[l][k] * t[j][k];
        __syncthreads();
    }
    if (l < n)
        for (int j = l; j < n; j++)
            r[(b + l) * K + b + j] = t[l][j];
    if (l == 0 && bad[0])
        *failed = K - b - n + bad[0]; /* columns reached, from the last one */
}

/* Rows above b, against the factored block. */
__global__ void __launch_bounds__(64)
    panel_kernel(double *r, int64_t K, int64_t b, int n, const long long *failed)
{
    SHARED(double, t, [kB][kB + 1]);
    if (*failed)
        return;
    for (int i = threadIdx.x; i < n * n; i += blockDim.x)
        if (i % n >= i / n)
            t[i / n][i % n] = r[(b + i / n) * K + b + i % n];
    __syncthreads();
    const int64_t row = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= b)
        return;
    double *x = r + row * K + b;
    for (int k = n - 1; k >= 0; k--) {
        double v = x[k];
        for (int j = n - 1; j > k; j--)
            v -= x[j] * t[k][j];
        x[k] = v / t[k][k];
    }
}

/* Tile (blockIdx.y, blockIdx.x) of the rows and columns before b; thread (tx, ty) of 16 x 16 owns
 * rows ty + 16 p, columns tx + 16 q. */
__global__ void __launch_bounds__(256)
    trailing_kernel(double *r, int64_t K, int64_t b, int n, const long long *failed)
{
    SHARED(double, left, [kB][kTile + 2]);
    SHARED(double, right, [kB][kTile + 2]);
    if (blockIdx.x < blockIdx.y || *failed)
        return;
    const int tx = threadIdx.x & 15, ty = threadIdx.x >> 4;
    const int64_t i0 = (int64_t)blockIdx.y * kTile, j0 = (int64_t)blockIdx.x * kTile;
    for (int at = threadIdx.x; at < kTile * kB; at += 256) { /* a warp reads a row's piece */
        const int row = at / kB, k = at % kB;
        left[k][row] = i0 + row < b && k < n ? r[(i0 + row) * K + b + k] : 0.0;
        right[k][row] = j0 + row < b && k < n ? r[(j0 + row) * K + b + k] : 0.0;
    }
    __syncthreads();
    double sum[4][4] = {};
    for (int k = 0; k < n; k++) {
        double x[4], y[4];
#pragma unroll
        for (int p = 0; p < 4; p++) {
            x[p] = left[k][ty + 16 * p];
            y[p] = right[k][tx + 16 * p];
        }
#pragma unroll
        for (int p = 0; p < 4; p++)
#pragma unroll
            for (int q = 0; q < 4; q++)
                sum[p][q] += x[p] * y[q];
    }
#pragma unroll
    for (int p = 0; p < 4; p++)
#pragma unroll
        for (int q = 0; q < 4; q++) {
            const int64_t i = i0 + ty + 16 * p, j = j0 + tx + 16 * q;
            if (i <= j && j < b)
                r[i * K + j] -= sum[p][q];
        }
}

static nb_status blocks_of(nb_backend *be, double *r, int64_t K, long long *failed, nb_error *err)
{
    nb_status st = NB_OK;
    for (int64_t b = K, n; b > 0 && st == NB_OK;) {
        n = b < kB ? b : kB;
        b -= n;
        const unsigned tiles = (unsigned)nb_ceil_div(b, kTile);
        st = nb_launch(be, "factor.diagonal", diagonal_kernel, dim3(1), dim3(32), 0, err, r, K, b,
                       (int)n, failed);
        if (st == NB_OK)
            st = nb_launch(be, "factor.panel", panel_kernel, dim3((unsigned)nb_ceil_div(b, 64)),
                           dim3(64), 0, err, r, K, b, (int)n, failed);
        if (st == NB_OK)
            st = nb_launch(be, "factor.trailing", trailing_kernel, dim3(tiles, tiles), dim3(256), 0,
                           err, r, K, b, (int)n, failed);
    }
    return st;
}

nb_status nb_cuda_factor(nb_backend *be, const nb_factor_args *a, nb_error *err)
{
    const nb_backend_ops *op = be->op;
    const int64_t K = a->K;
    const size_t column = (size_t)K * sizeof(double);
    double *add = NULL; /* [K] add, [K] diag, one result, [K] perm */
    long long order = 0;
    /* waits, so it may */
    nb_status st = op->alloc(be, 2 * column + sizeof order + (size_t)K * sizeof(int32_t),
                             "the diagonal of a factor", (void **)&add, err);
    double *diag = add + K;
    long long *failed = (long long *)(void *)(diag + K);
    int32_t *perm = (int32_t *)(void *)(failed + 1);
    if (st == NB_OK)
        st = op->upload(be, add, a->diag_add, column, err);
    if (st == NB_OK && a->diag)
        st = op->upload(be, diag, a->diag, column, err);
    if (st == NB_OK && a->perm)
        st = op->upload(be, perm, a->perm, (size_t)K * sizeof *perm, err);
    if (st == NB_OK)
        st = op->zero(be, failed, sizeof *failed, err);
    if (st == NB_OK)
        st = nb_launch(be, "factor.gather", gather_kernel, nb_blocks(K * K), dim3(256), 0, err,
                       a->h, a->diag ? diag : (const double *)NULL, add,
                       a->perm ? perm : (const int32_t *)NULL, K, a->r, a->r != a->h);
    if (st == NB_OK)
        st = blocks_of(be, a->r, K, failed, err);
    if (st == NB_OK)
        st = op->download(be, &order, failed, sizeof order, err);
    *a->failed_minor = order;
    op->release(be, add);
    return st;
}

/* ---- H again ---- */

__global__ void unfactor_kernel(double *h, const double *diag, int64_t K)
{
    SHARED(double, tile, [kB][kB + 1]);
    if (blockIdx.x < blockIdx.y)
        return;
    const int tx = threadIdx.x & 31, ty = threadIdx.x >> 5;
    /* of the upper triangle; its source is (j0, i0) */
    const int64_t i0 = (int64_t)blockIdx.y * kB, j0 = (int64_t)blockIdx.x * kB;
    for (int r = ty; r < kB; r += 8)
        if (j0 + r < K && i0 + tx < j0 + r)
            tile[r][tx] = h[(j0 + r) * K + i0 + tx];
    __syncthreads();
    for (int r = ty; r < kB; r += 8) {
        const int64_t i = i0 + r, j = j0 + tx;
        if (j < K && i < j)
            h[i * K + j] = tile[tx][r];
        else if (j < K && i == j)
            h[i * K + j] = diag[i];
    }
}

nb_status nb_cuda_unfactor(nb_backend *be, const nb_unfactor_args *a, nb_error *err)
{
    double *diag = NULL;
    const size_t bytes = (size_t)a->K * sizeof *diag;
    const unsigned n = (unsigned)nb_ceil_div(a->K, kB);
    nb_status st = be->op->alloc(be, bytes, "a diagonal", (void **)&diag, err);
    if (st == NB_OK)
        st = be->op->upload(be, diag, a->diag, bytes, err);
    if (st == NB_OK)
        st = nb_launch(be, "unfactor", unfactor_kernel, dim3(n, n), dim3(256), 0, err, a->h, diag,
                       a->K);
    st = st == NB_OK ? be->op->sync(be, err) : st; /* diag is freed next */
    be->op->release(be, diag);
    return st;
}
