/* layout.h -- host side of weight.h: which layout a stack of matrices gets, and where its inputs
 * and groups come to lie. */
#ifndef NB_CUDA_LINEAR_LAYOUT_H
#define NB_CUDA_LINEAR_LAYOUT_H

#include "linear/weight.h"

struct Layout {
    nb_cuda_codes codes;
    int64_t N, K, n_unit, n_line;
    int shift;
    int32_t *src, *pos; /* [64 n_unit], [K]; NULL: positions are inputs */
    int32_t *group;     /* [n_line] the source's group of a line, -1: none of its positions is an
                     * input. NULL for BF16 */
};

/* Looks at formats, groups and g_idx of the parts, not at their rows. NB_UNSUPPORTED beyond 2^31
 * rows or columns; BF16 where nothing else fits. */
nb_status nb_layout_open(const nb_backend *be, const nb_matrix *part, int n_part, Layout *out,
                         nb_error *err) NB_CHECKED;
void nb_layout_close(Layout *l);

#endif
