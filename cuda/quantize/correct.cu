/* correct.cu -- W += alpha W C (H + lambda I)^-1 and tr(D H D^T), in f64, simple forms.
 *
 * correct: one warp a row. z = w C, or what is given as that, in the factor's order, then y R R^T =
 * z by two substitutions that take a finished component out of the others:
 *     u R^T = z   u_k = z_k / R_kk from the last back,  z_l -= u_k R[l][k] for l < k
 *     y R = u     y_j = u_j / R_jj from the first on,   u_l -= y_j R[j][l] for l > j
 * quant_error: one block a row, d H d^T; the rows' terms are added on the host in their order. */
#include "device.h"
#include "reduce.h"

#include "base/memory.h"

#include <cstdlib>

constexpr int kRows = 4;

struct Correct {
    float *w;
    int64_t N, K;
    const double *c, *wc, *r; /* one of c and wc is NULL */
    const int32_t *perm;      /* device or NULL */
    double alpha, *z;         /* [N,K] */
};

__global__ void __launch_bounds__(32 * kRows) correct_kernel(Correct a)
{
    const int lane = threadIdx.x & 31;
    const int64_t n = (int64_t)blockIdx.x * kRows + (threadIdx.x >> 5), K = a.K;
    if (n >= a.N)
        return;
    double *z = a.z + n * K;
    float *w = a.w + n * K;
    for (int64_t l = lane; l < K; l += 32) {
        const int64_t k = a.perm ? a.perm[l] : l;
        double v = a.wc ? a.wc[n * K + k] : 0.0;
        for (int64_t i = 0; a.c && i < K; i++)
            v += (double)w[i] * a.c[i * K + k];
        z[l] = v;
    }
    __syncwarp();
    for (int64_t k = K - 1; k >= 0; k--) {
        const double u = z[k] / a.r[k * K + k];
        for (int64_t l = lane; l < k; l += 32)
            z[l] -= u * a.r[l * K + k];
        __syncwarp(); /* every lane has read z[k] */
        if (lane == 0)
            z[k] = u;
        __syncwarp();
    }
    for (int64_t j = 0; j < K; j++) {
        const double y = z[j] / a.r[j * K + j];
        for (int64_t l = j + 1 + lane; l < K; l += 32)
            z[l] -= y * a.r[j * K + l];
        __syncwarp();
        if (lane == 0)
            z[j] = y;
        __syncwarp();
    }
    for (int64_t l = lane; l < K; l += 32) {
        const int64_t k = a.perm ? a.perm[l] : l;
        w[k] = (float)((double)w[k] + a.alpha * z[l]);
    }
}

size_t nb_cuda_correct_scratch(nb_backend *, const nb_correct_args *a)
{
    return nb_align256((size_t)a->K * sizeof(int32_t)) + (size_t)(a->N * a->K) * sizeof(double);
}

nb_status nb_cuda_correct(nb_backend *be, const nb_correct_args *a, nb_error *err)
{
    int32_t *perm = (int32_t *)a->scratch;
    double *z = (double *)(void *)((char *)a->scratch + nb_align256((size_t)a->K * sizeof *perm));
    const Correct k = {a->w, a->N, a->K, a->c, a->wc, a->r, a->perm ? perm : NULL, a->alpha, z};
    nb_status st =
        a->perm ? be->op->upload(be, perm, a->perm, (size_t)a->K * sizeof *perm, err) : NB_OK;
    return st == NB_OK
               ? nb_launch(be, "correct", correct_kernel, dim3((unsigned)nb_ceil_div(a->N, kRows)),
                           dim3(32 * kRows), 0, err, k)
               : st;
}

__global__ void __launch_bounds__(128)
    quant_error_kernel(const float *w, const float *q, int64_t K, const double *h, double *row)
{
    SHARED(double, part, [32]);
    const int64_t n = blockIdx.x;
    double sum = 0.0;
    for (int64_t j = threadIdx.x; j < K; j += blockDim.x) {
        double v = 0.0;
        for (int64_t i = 0; i < K; i++)
            v += ((double)w[n * K + i] - (q ? (double)q[n * K + i] : 0.0)) * h[i * K + j];
        sum += v * ((double)w[n * K + j] - (q ? (double)q[n * K + j] : 0.0));
    }
    sum = nb_block_sum(sum, part);
    if (threadIdx.x == 0)
        row[n] = sum;
}

size_t nb_cuda_quant_error_scratch(nb_backend *, const nb_quant_error_args *a)
{
    return (size_t)a->N * sizeof(double);
}

nb_status nb_cuda_quant_error(nb_backend *be, const nb_quant_error_args *a, nb_error *err)
{
    double *row = (double *)nb_alloc((size_t)a->N, sizeof *row, "errors of rows", err),
           *device = (double *)a->scratch;
    nb_status st = row ? NB_OK : NB_NO_ROOM;
    if (st == NB_OK)
        st = nb_launch(be, "quant_error", quant_error_kernel, dim3((unsigned)a->N), dim3(128), 0,
                       err, a->w, a->q, a->K, a->h, device);
    if (st == NB_OK)
        st = be->op->download(be, row, device, (size_t)a->N * sizeof *row, err);
    *a->out = 0.0;
    for (int64_t n = 0; n < a->N && st == NB_OK; n++)
        *a->out += row[n];
    free(row);
    return st;
}
