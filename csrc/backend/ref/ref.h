/* ref.h -- the reference backend: every op of backend.h in its plainest form. */
#ifndef NB_BACKEND_REF_REF_H
#define NB_BACKEND_REF_REF_H

#include "backend/backend.h"

/* Opens it; o may be NULL, nothing in it changes what ref computes. NB_NO_ROOM when there is no
 * memory. */
nb_status nb_backend_ref_open(const nb_backend_options *o, nb_backend **out,
                              nb_error *err) NB_CHECKED;

#endif
