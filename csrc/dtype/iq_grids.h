/* iq_grids.h -- the lattice codebooks of the iq formats, generated into iq_grids.c. Private to this
 * folder.
 *
 * iq2, iq3: element j of an entry is its byte j, counted from the least significant (iq2: 8, 25 or
 * 43; iq3: 1..62). iq1: element j is bits 2j, 2j + 1 of the entry, less 1 (-1, 0 or 1). */
#ifndef NB_DTYPE_IQ_GRIDS_H
#define NB_DTYPE_IQ_GRIDS_H

#include <stdint.h>

extern const uint64_t nb_iq2_xxs_grid[256];
extern const uint64_t nb_iq2_xs_grid[512];
extern const uint64_t nb_iq2_s_grid[1024];
extern const uint32_t nb_iq3_xxs_grid[256];
extern const uint32_t nb_iq3_s_grid[512];
extern const uint16_t nb_iq1_s_grid[2048];

#endif
