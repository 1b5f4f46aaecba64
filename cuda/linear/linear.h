/* linear.h -- what the rows of linear share: the activations of a call, and where a sum goes. */
#ifndef NB_CUDA_LINEAR_LINEAR_H
#define NB_CUDA_LINEAR_LINEAR_H

#include "linear/weight.h"

struct Io { /* y = x W^T (+ bias) (+ y) */
    const float *x, *bias;
    float *y;
    int64_t ldx, ldy;
    int M;
    int add;
};

DEVI void nb_store(const Io &io, int m, int n, float v)
{
    float *y = io.y + m * io.ldy + n;
    if (io.bias)
        v += io.bias[n];
    *y = io.add ? *y + v : v;
}

struct nb_cuda_linear_row {
    const char *name;
    int codes;      /* nb_cuda_codes it serves, as a bit set */
    int64_t max_M;  /* 0: any */
    bool aligned_x; /* reads x 16 bytes at a time: x and its rows must lie so */
    nb_status (*run)(nb_backend *be, const nb_weight *w, const Io &io, nb_error *err);
};
extern const nb_cuda_linear_row nb_cuda_linear_rows[]; /* best first; the last serves everything */

nb_status nb_cuda_gemv_u4(nb_backend *be, const nb_weight *w, const Io &io, nb_error *err);
nb_status nb_cuda_gemm_tile(nb_backend *be, const nb_weight *w, const Io &io, nb_error *err);

#endif
