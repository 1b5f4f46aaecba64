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

/* Whether two matrices may be packed as one: both of one number format, or both codes of the same width in the same groups. */
static inline bool nb_matrix_alike(const nb_matrix *a, const nb_matrix *b)
{
    return a->dtype == b->dtype && (a->dtype || (a->bits == b->bits && a->group == b->group && !a->g_idx == !b->g_idx));
}

#ifdef __cplusplus
}
#endif
#endif
