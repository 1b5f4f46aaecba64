/* cublaslt.h -- products of bf16 matrices by cuBLASLt, where it is there: y [M,N] = x [M,K] w^T (+
 * y), w [N,K], sums and y f32.
 *
 * The same bits every time: the algorithm of a shape is the first that the library proposes, asked
 * for once and kept, and none that sums parts of K in the order in which blocks come. */
#ifndef NB_CUDA_LINEAR_CUBLASLT_H
#define NB_CUDA_LINEAR_CUBLASLT_H

#include "device.h"

/* What an algorithm may use of scratch: NVIDIA's advice for sm_90 (cuBLAS, "cublasSetWorkspace": 32
 * MiB); others want less. */
#ifdef __CUDACC__
constexpr size_t kLtWorkspace = (size_t)32 << 20;
#else
constexpr size_t kLtWorkspace = (size_t)16 << 10; /* the emulator's algorithm is simpler */
#endif

/* Rows of x and w lie behind each other, both begin at a multiple of 256 bytes; those of y are ldy
 * apart, and every one begins at a multiple of 16. */
struct nb_lt_shape {
    int64_t M, N, K, ldy;
};

/* The library for this backend, opened at the first call; NULL: it is not there. */
nb_lt *nb_lt_of(nb_backend *be);
void nb_lt_close(nb_lt *lt); /* NULL is fine */

/* Whether it has an algorithm; asks for it when it is not known yet. */
bool nb_lt_serves(nb_lt *lt, const nb_lt_shape *s);

/* workspace: kLtWorkspace bytes of the device, at a multiple of 256. add: to what y holds. */
nb_status nb_lt_product(nb_backend *be, nb_lt *lt, const nb_lt_shape *s, const void *x,
                        const void *w, float *y, bool add, void *workspace, nb_error *err);

#endif
