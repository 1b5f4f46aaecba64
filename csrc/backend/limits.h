/* limits.h -- what a device can do at most, measured here and now, and which row of it serves a
 * linear or attention: asked by `bench` and `doctor` alone, never on the path of other commands.
 *
 * A kernel that moves B bytes and does F multiply-adds takes at least
 * max(B / bandwidth, 2 F / peak): the roofline of Williams, Waterman, Patterson 2009. */
#ifndef NB_BACKEND_LIMITS_H
#define NB_BACKEND_LIMITS_H

#include "backend/backend.h"

/* Takes about a second on the CPU. Devices that cannot say leave zeros, which is no error.
 * NB_NO_ROOM when the buffer cannot be had. */
nb_status nb_backend_limits(nb_backend *be, nb_limits *out, nb_error *err) NB_CHECKED;

/* The name of the row that serves these arguments (M and w are read) and what it multiplies; NULL
 * when the device does not say. */
const char *nb_backend_linear_row(nb_backend *be, const nb_linear_args *a, nb_arith *arith);

/* The same of attention, by kinds and shapes alone: its pointers to values may be NULL. NULL as well
 * where it would be refused. */
const char *nb_backend_attention_row(nb_backend *be, const nb_attention_args *a, nb_arith *arith);

#endif
