/* awq.h -- scales of the inputs of a group of linears (Lin et al. 2023, AWQ, section 3.2; quantizers.md 3).
 *
 * Rounding hurts most where inputs are large. Multiply input k of the weights by s_k and divide what produces the input by it: the product stays, and
 * large inputs get a finer grid at the cost of small ones. s = x^r / w^(1-r), x_k the size of input k, w_k how far the weights of k fill their groups;
 * r is searched. The error of a choice is tr(D H D^T), exactly what the linear's output loses: no forward pass is needed. */
#ifndef NB_QUANT_AWQ_H
#define NB_QUANT_AWQ_H

#include "backend/backend.h"

typedef struct nb_awq_job {
    nb_backend *be;
    const nb_grid *grid;
    const float *w; /* [N,K] host */
    int64_t N, K;
    const double *h; /* [K,K] device, sum of x x^T */
    /* [K] inputs with the same number get the same scale (what one row of the producer feeds), each in [0, K); NULL: all are free */
    const int32_t *tie;
} nb_awq_job;

typedef struct nb_awq_choice {
    double ratio; /* the chosen r; -1: no scales, rounding as it is was best */
    double error, error_plain; /* tr(D H D^T) on the rows that were tried */
} nb_awq_choice;

/* s [K] of the least error; all 1 when none is better. Positive, finite, geometric mean of the extremes 1. At most kAwqRows rows of W, evenly spread,
 * decide. Cost: 41 x 2 min(N, 128) K^2 FLOP. */
nb_status nb_awq_search(const nb_awq_job *j, float *s, nb_awq_choice *choice, nb_error *err) NB_CHECKED;

#endif
