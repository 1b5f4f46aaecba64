/* refuse_input.h -- what is written must not be what is read. */
#ifndef NB_API_REFUSE_INPUT_H
#define NB_API_REFUSE_INPUT_H

#include "nibble.h"

/* NB_USAGE when OUT is the model, by whatever name or link, or lies inside the model's folder. */
nb_status nb_refuse_input(const char *model, const char *out, nb_error *err) NB_CHECKED;

#endif
