/* matrix.h -- a matrix as a checkpoint holds it: the words in which number formats and schemes
 * describe themselves to the backends. */
#ifndef NB_DTYPE_MATRIX_H
#define NB_DTYPE_MATRIX_H

#include "dtype/dtype.h"
#include "dtype/grid.h"

#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* W[N,K] in host memory, borrowed. Either rows of a number format ... */
typedef struct nb_matrix {
    int64_t N, K;
    const nb_dtype *dtype; /* rows of blocks; NULL: the canonical form below */
    const uint8_t *rows;   /* [N][nb_dtype_row_bytes(dtype, K)] */
    /* ... or the canonical form: value(n,k) = scale * (code - zero) + min of group g(k), G = ceil(K
     * / group) groups a row; with a table scale * table[code] */
    const uint8_t *codes;   /* [N,K] */
    const nb_group *groups; /* [N,G] */
    const float *table;     /* [1 << bits], bits at most 4; NULL: whole numbers */
    int bits, group;        /* group 0: the row */
    const int32_t *g_idx;   /* [K] the group of each input (act-order), each in [0, G); NULL: k /
                           * group */
} nb_matrix;

/* Row n as a loader sees it, [K]. */
static inline void nb_matrix_row(const nb_matrix *m, int64_t n, float *to)
{
    if (m->dtype) {
        nb_dtype_decode_row(m->dtype, m->rows + n * nb_dtype_row_bytes(m->dtype, m->K), to, m->K);
        return;
    }
    const int64_t group = m->group ? m->group : m->K, G = (m->K + group - 1) / group;
    for (int64_t k = 0; k < m->K; k++)
        to[k] = nb_group_value(&m->groups[n * G + (m->g_idx ? m->g_idx[k] : k / group)], m->table,
                               m->codes[n * m->K + k]);
}

/* Rows [n0, n0 + n) of it. */
static inline nb_matrix nb_matrix_rows(const nb_matrix *m, int64_t n0, int64_t n)
{
    const int64_t group = m->group ? m->group : m->K, G = (m->K + group - 1) / group;
    nb_matrix part = *m;
    part.N = n;
    if (m->dtype)
        part.rows += n0 * nb_dtype_row_bytes(m->dtype, m->K);
    else {
        part.codes += n0 * m->K;
        part.groups += n0 * G;
    }
    return part;
}

/* Whether the codes of both stand for the same levels. */
static inline bool nb_matrix_same_table(const nb_matrix *a, const nb_matrix *b)
{
    return a->table == b->table || (a->table && b->table && a->bits == b->bits &&
                                    memcmp(a->table, b->table, sizeof(float) << a->bits) == 0);
}

/* Whether two matrices may be packed as one: both of one number format, or both codes of the same
 * width in the same groups. */
static inline bool nb_matrix_alike(const nb_matrix *a, const nb_matrix *b)
{
    return a->dtype == b->dtype &&
           (a->dtype || (a->bits == b->bits && a->group == b->group && !a->g_idx == !b->g_idx &&
                         nb_matrix_same_table(a, b)));
}

#ifdef __cplusplus
}
#endif
#endif
