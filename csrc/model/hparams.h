/* hparams.h -- what the readers of GGUF keys (hparams_gguf.c) and of config.json (hparams_hf.c)
 * share: limits and the rules of rotary frequencies. */
#ifndef NB_MODEL_HPARAMS_H
#define NB_MODEL_HPARAMS_H

#include "model/family.h"

/* Fills what the container says; *family is found first. What neither says keeps the value
 * nb_hparams_read gave it. */
nb_status nb_hparams_gguf(const nb_container *c, const nb_family **family, nb_hparams *hp,
                          nb_error *err) NB_CHECKED;
nb_status nb_hparams_hf(const nb_container *c, const nb_family **family, nb_hparams *hp,
                        nb_error *err) NB_CHECKED;

/* The sizes against their limits (hardening.md CF 94-99), before anything is computed from them. */
nb_status nb_hparams_check(const nb_container *c, const nb_hparams *hp, nb_error *err) NB_CHECKED;

/* NB_UNSUPPORTED with the list of families. */
nb_status nb_hparams_unknown(const nb_container *c, const char *name, size_t n,
                             nb_error *err) NB_CHECKED;

/* ---- rotary frequencies (rope.c); n = rope_dim / 2 of them ---- */

/* freq[i] = theta^(-i / n) (Su et al. 2021, section 3.2.2). */
nb_status nb_rope_plain(const nb_container *c, double theta, int n, float *freq,
                        nb_error *err) NB_CHECKED;
/* All of them divided by the factor. */
nb_status nb_rope_linear(const nb_container *c, double factor, int n, float *freq,
                         nb_error *err) NB_CHECKED;
nb_status nb_rope_slow_long(const nb_container *c, const nb_rope_llama3 *r, int n, float *freq,
                            nb_error *err) NB_CHECKED;

#endif
