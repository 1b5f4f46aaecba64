/* finish.h -- the end of a product whose sums lie in a buffer: y = sum (+ bias) (+ y), in this
 * order, for two tiles. */
#ifndef NB_BACKEND_CPU_FINISH_H
#define NB_BACKEND_CPU_FINISH_H

#include "backend/cpu/vec.h"
#include "backend/cpu/weight.h"

enum { NB_PAIR = 2 }; /* tiles */

/* sum [M][NB_PAIR * 16]: outputs of tiles `tile` and, if there is one, tile + 1. */
static inline void nb_finish(const nb_linear_args *a, int64_t tile, const float *sum)
{
    for (int c = 0; c < NB_PAIR; c++) {
        const int64_t at = (tile + c) * NB_TILE, left = a->w->N - at;
        const int n = left >= NB_TILE ? NB_TILE : (int)left;
        for (int64_t m = 0; n > 0 && m < a->M; m++) {
            float *y = a->y + m * a->ldy + at;
            nb_v s = nb_v_load(sum + (m * NB_PAIR + c) * NB_TILE);
            if (a->bias)
                s = nb_v_add(s, nb_v_load_n(a->bias + at, n));
            if (a->add)
                s = nb_v_add(s, nb_v_load_n(y, n));
            nb_v_store_n(y, s, n);
        }
    }
}

#endif
