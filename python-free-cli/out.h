/* out.h -- what commands share for output and opening: JSON strings, reading a text file, model options from flags. */
#ifndef NB_CLI_OUT_H
#define NB_CLI_OUT_H

#include "flags.h"
#include <stdio.h>

void nb_put_json(FILE *f, const char *s, size_t n); /* with quotes; broken UTF-8 as U+FFFD */
/* The whole file ("-": stdin), NUL-terminated, at most 64 MiB; free() it. */
nb_status nb_read_text(const char *path, char **out, size_t *n, nb_error *err) NB_CHECKED;
/* Opens operand 0 with the global flags. */
nb_status nb_open_from_args(const nb_args *a, nb_model **out, nb_error *err) NB_CHECKED;
nb_status nb_model_options_from_args(const nb_args *a, nb_model_options *o, nb_error *err) NB_CHECKED;
nb_status nb_need_operand(const nb_args *a, const char *what, nb_error *err) NB_CHECKED;

#endif
