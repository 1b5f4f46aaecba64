/* part.h -- what the schemes share: the tensors of a linear checked, scales and indices read and
 * written. Private to this folder. */
#ifndef NB_SCHEME_PART_H
#define NB_SCHEME_PART_H

#include "scheme/scheme.h"

typedef struct nb_linear { /* whose tensors they are, for sentences */
    const char *path, *name;
    int64_t N, K, G;
    int n_thread;
    bool allow_nonfinite; /* scales */
    nb_error *err;
} nb_linear;

/* "tensor NAME.suffix: WHAT". */
nb_status nb_part_fault(const nb_linear *l, const nb_tensor *t, const char *suffix,
                        const char *what);
/* Those that are needed are there; those that are there have their shape and type. */
nb_status nb_parts_check(const nb_linear *l, const nb_scheme_spec *s,
                         const nb_tensor *const part[]);

/* Scales of t into groups [N,G]: value (n, g) is element n * n_step + g * g_step. Finite, or
 * allowed not to be, or NB_BAD_INPUT. */
nb_status nb_scales_get(const nb_linear *l, const nb_tensor *t, const char *suffix, int64_t n_step,
                        int64_t g_step, nb_group *groups);
/* The inverse into F16. NB_UNSUPPORTED: a scale that F16 has not, or a matrix with mins. */
nb_status nb_scales_put(const nb_linear *l, const nb_matrix *m, int64_t n_step, int64_t g_step,
                        uint8_t *to);
/* Zeros are integers from `least` to `most`, or NB_UNSUPPORTED with the reason. */
nb_status nb_zeros_check(const nb_linear *l, const nb_matrix *m, int least, int most);

/* The group of each input, [K] of I32, each in [0, G), or NB_BAD_INPUT; t NULL: k / group.
 * *act_order: it is not k / group. */
nb_status nb_g_idx_get(const nb_linear *l, const nb_tensor *t, const char *suffix, int group,
                       int32_t *g_idx, bool *act_order);
void nb_g_idx_put(const nb_matrix *m, uint8_t *to);

/* bits 2, 3, 4 or 8; group 0 or more. */
nb_status nb_spec_check(const char *path, int64_t offset, const char *what, int64_t bits,
                        int64_t group, nb_error *err);

/* ---- values of a config ---- */

typedef struct nb_config {
    const char *path;
    const nb_json_node *object;
    nb_error *err;
} nb_config;

/* The value of the first key that is there and not null; NULL: none is. Two keys that say the same
 * thing: key2 NULL if there is one only. */
const nb_json_node *nb_config_at(const nb_config *c, const char *key, const char *key2);
/* fallback when absent; NB_BAD_INPUT when it is of another type. */
nb_status nb_config_int(const nb_config *c, const char *key, const char *key2, int64_t fallback,
                        int64_t *out);
nb_status nb_config_bool(const nb_config *c, const char *key, bool fallback, bool *out);
nb_status nb_config_word(const nb_config *c, const char *key, const char *key2,
                         const char *fallback, const char **out);

/* ---- names of modules ---- */

/* A pattern against the beginning of a name (Python's re.match). at: the pattern's value, for
 * errors. */
nb_status nb_pattern_matches(const char *path, const nb_json_node *at, const char *pattern,
                             size_t n, const char *name, bool *yes, nb_error *err);
/* The name as a pattern that matches nothing else, in JSON between quotes: "^a\\.b$". prefix goes
 * before it. */
void nb_pattern_of_name(nb_text *t, const char *prefix, const char *name);
/* Whether one of the texts of the list at key (an array, or absent) is part of the name. */
nb_status nb_config_has_part(const nb_config *c, const char *key, const char *name, bool *yes);
/* Names, the last of them NULL, as the JSON list that such a key holds. */
void nb_names_put(nb_text *t, const char *const *names);

#endif
