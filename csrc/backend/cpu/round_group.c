/* round_group.c -- codes of a group; compiled once per level, every step an operation of IEEE, so
 * the bits are grid.h's. */
#include "backend/cpu/level.h"

void NB_LEVEL_NAME(nb_cpu_round_group)(const nb_grid *g, const nb_group *p, const float *w,
                                       int64_t n, uint8_t *code)
{
    nb_grid_round_n(g, p, w, n, code);
}
