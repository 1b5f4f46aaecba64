/* open.h -- what --device auto chose, for those who can say why. */
#ifndef NB_BACKEND_OPEN_H
#define NB_BACKEND_OPEN_H

#include "backend/backend.h"

/* nb_backend_open("auto"). told [n >= 1]: "", or why it is the CPU although a GPU's driver is
 * there. */
nb_status nb_backend_auto_open(const nb_backend_options *o, nb_backend **out, char *told, size_t n,
                               nb_error *err) NB_CHECKED;

#endif
