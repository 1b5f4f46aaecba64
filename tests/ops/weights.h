/* weights.h -- random weights of every kind a backend packs: each row of nb_dtypes, and the
 * canonical form in its usual sizes. */
#ifndef NB_TESTS_OPS_WEIGHTS_H
#define NB_TESTS_OPS_WEIGHTS_H

#include "backend/backend.h"
#include "base/random.h"
#include "ops/bounds.h"
#include "ops/ops.h"

typedef struct ops_weight {
    nb_matrix m; /* borrows what follows */
    uint8_t *rows, *codes;
    nb_group *groups;
    int32_t *g_idx;
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

/* half[k]: half a step of the int8 scale that covers x[k], if a row shares one over 256 inputs;
 * finer scales do better. */
void ops_int8_half_steps(const float *x, int64_t K, float *half);

/* NUMERICS.md "linear" for one sum over k of w x: adds its terms to `whole` (and the drift of the
 * other orders that are allowed), and to rss the squares of the largest roundings of the operands
 * that o's row may make. w, part: the rows of value and part. */
void ops_product(const ops *o, int kind, const float *w, const float *part, const float *x,
                 const float *half, int64_t K, bound_sum *whole, double *rss);

#endif
