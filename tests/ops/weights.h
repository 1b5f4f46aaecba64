/* weights.h -- random weights of every kind a backend packs: each row of nb_dtypes, and the
 * canonical form in its usual sizes. */
#ifndef NB_TESTS_OPS_WEIGHTS_H
#define NB_TESTS_OPS_WEIGHTS_H

#include "backend/backend.h"
#include "base/random.h"

typedef struct ops_weight {
    nb_matrix m; /* borrows what follows */
    uint8_t *rows, *codes;
    nb_group *groups;
    float *value; /* [N,K] what m means */
    float *part;  /* [N,K] scale * code alone: a kernel may sum these and correct by the minimum
                     afterwards */
} ops_weight;

int ops_kind_count(void);
void ops_kind_name(int kind, char *dst, size_t n);
bool ops_kind_fits(int kind, int64_t K); /* K is a whole number of blocks */
bool ops_kind_float(int kind);           /* f32, f16, bf16: no codes */
/* False when no valid block could be made (a format whose every random block is absurd). */
bool ops_weight_make(int kind, int64_t N, int64_t K, nb_rng *r, ops_weight *out);
void ops_weight_free(ops_weight *w);

#endif
