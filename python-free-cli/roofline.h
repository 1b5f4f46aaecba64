/* roofline.h -- measured kernels as a picture: products a second over products a byte, both
 * logarithmic, under the machine's limits (Williams, Waterman, Patterson 2009). A self-contained
 * SVG on stdout. */
#ifndef NB_CLI_ROOFLINE_H
#define NB_CLI_ROOFLINE_H

#include "flags.h"

typedef struct nb_roofline {
    nb_kernel_row *row; /* freed by nb_roofline_write, or free() where it is not called */
    size_t n, room;
    nb_error err; /* of the first row that found no room; nb_roofline_write returns it */
} nb_roofline;

/* Callback of nb_bench_kernels, arg an nb_roofline that began as zeros. Rows that were not timed
 * are left out. */
void nb_roofline_add(void *arg, const nb_kernel_row *r);
/* NB_NO_ROOM; NB_UNSUPPORTED when no row was timed. */
nb_status nb_roofline_write(nb_roofline *p, nb_error *err) NB_CHECKED;

#endif
