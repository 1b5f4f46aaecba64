/* matrix.h -- a matrix as a checkpoint holds it: the words in which number formats and schemes describe themselves to the backends. */
#ifndef NB_DTYPE_MATRIX_H
#define NB_DTYPE_MATRIX_H

#include "dtype/dtype.h"
#include "dtype/grid.h"

#ifdef __cplusplus
extern "C" {
#endif

/* W[N,K] in host memory, borrowed. Either rows of a number format ... */
typedef struct nb_matrix {
    int64_t N, K;
    const nb_dtype *dtype; /* rows of blocks; NULL: the canonical form below */
    const uint8_t *rows;   /* [N][nb_dtype_row_bytes(dtype, K)] */
    /* ... or the canonical form: value(n,k) = scale * (code - zero) + min of group g(k), G = ceil(K / group) groups a row */
    const uint8_t *codes;   /* [N,K] */
    const nb_group *groups; /* [N,G] */
    int bits, group;        /* group 0: the row */
    const int32_t *g_idx;   /* [K] the group of each input (act-order), each in [0, G); NULL: k / group */
} nb_matrix;

#ifdef __cplusplus
}
#endif
#endif
