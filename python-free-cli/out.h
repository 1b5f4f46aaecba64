/* out.h -- what commands share for output and opening: JSON strings, reading a text file, model
 * options from flags. */
#ifndef NB_CLI_OUT_H
#define NB_CLI_OUT_H

#include "flags.h"
#include <stdio.h>

/* with quotes; broken UTF-8 as U+FFFD; what a terminal would act on as \u001b, \u202e */
void nb_put_json(FILE *f, const char *s, size_t n);
/* A value that is JSON already, with what a terminal would act on escaped. */
void nb_put_json_value(FILE *f, const char *json);
/* Text of a model on stdout: byte for byte, but on a terminal what it would act on as \x1b,
 * \u202e. */
void nb_put_text(const char *s, size_t n);
/* One line on stderr (not with -q) when the text, called `what`, holds bytes that are no UTF-8. */
void nb_warn_of_broken_text(const nb_args *a, const char *what, const char *s, size_t n);
/* The sentence and its hint on stderr. */
void nb_tell_error(const nb_error *err);
/* The member "error":{"code","file","offset","message","hint"} of an object on stdout. A command
 * that fails with its whole result (a gate) puts it into that object; err->code is NB_OK then, so
 * that main prints no second one. */
void nb_put_error(FILE *f, nb_status st, nb_error *err);

/* The whole file ("-": stdin), NUL-terminated, at most 64 MiB (NB_BAD_INPUT); free() it. */
nb_status nb_read_text(const char *path, char **out, size_t *n, nb_error *err) NB_CHECKED;
/* Opens operand 0 with the global flags, for a session of n_seq sequences of at most ctx tokens (0:
 * the model's, also where it has fewer). With --offload it is planned first, and a line on stderr
 * (not with -q) says what is where. */
nb_status nb_open_from_args(const nb_args *a, int32_t ctx, int32_t n_seq, nb_model **out,
                            nb_error *err) NB_CHECKED;
nb_status nb_model_options_from_args(const nb_args *a, nb_model_options *o,
                                     nb_error *err) NB_CHECKED;
/* --offload and --ngl as nb_model_options has them. */
nb_status nb_offload_from_args(const nb_args *a, int32_t *offload, nb_error *err) NB_CHECKED;
/* The flags of sampling; *n_predict, *ctx and *o keep what they held where a flag is not given. */
nb_status nb_sampling_from_args(const nb_args *a, int32_t *n_predict, int32_t *ctx, nb_sampling *o,
                                nb_error *err) NB_CHECKED;
/* A generation as `run --json` prints it. */
void nb_print_generation(const nb_model *m, size_t n_prompt, const nb_generate_result *r);
/* From here on a mapped file that becomes shorter ends the program with NB_IO and a sentence that
 * names it. */
void nb_watch_mapped_files(void);
nb_status nb_need_operand(const nb_args *a, const char *what, nb_error *err) NB_CHECKED;

#endif
