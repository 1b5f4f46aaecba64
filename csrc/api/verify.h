/* verify.h -- a checkpoint against the manifest beside it. */
#ifndef NB_API_VERIFY_H
#define NB_API_VERIFY_H

#include "file/container.h"

/* NB_OK when there is none (*there false). NB_NEGATIVE names the first tensor that differs,
 * NB_BAD_INPUT a manifest that is none. */
nb_status nb_verify_manifest(const nb_container *c, bool *there, nb_error *err) NB_CHECKED;

#endif
