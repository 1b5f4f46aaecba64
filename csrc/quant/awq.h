/* awq.h -- scales of the inputs of a group of linears (Lin et al. 2023, AWQ, section 3.2;
 * quantizers.md 3).
 *
 * Rounding hurts most where inputs are large. Multiply input k of the weights by s_k and divide
 * what produces the input by it: the product stays, and large inputs get a finer grid at the cost
 * of small ones. s = x^r / fill^(1-r), x_k the size of input k, fill_k how far the weights of k
 * fill their groups; r is searched. The paper runs the block for every choice; here
 *
 *   E(s) = sum over linears of  (1 / tr(W H W^T))  sum_k a_k sum_n (round(W s) / s - W)_nk^2
 *
 * is the expected error of the outputs: errors of rounding are as good as independent, so of tr(D H
 * D^T) the diagonal remains, a_k = H_kk. Behind it comes error feedback (GPTQ): then only what the
 * inputs rounded later cannot make good remains, a_k = R_kk^2 with H = R R^T in the order of the
 * sweep. */
#ifndef NB_QUANT_AWQ_H
#define NB_QUANT_AWQ_H

#include "backend/backend.h"

enum { NB_AWQ_PARTS = 3 };

typedef struct nb_awq_job {
    nb_backend *be;
    const nb_grid *grid;
    const float *w; /* [N,K] host */
    int64_t N, K;
    int64_t part[NB_AWQ_PARTS]; /* rows of each linear of the stack, N in all; 0: no more */
    const double *h;            /* [K,K] device, sum of x x^T */
    /* [K] inputs with the same number get the same scale (what one row of the producer feeds), each
     * in [0, K); NULL: all are free */
    const int32_t *tie;
    bool feedback; /* GPTQ rounds */
    double damp;   /* its lambda as a share of the mean diagonal */
    int n_thread;
} nb_awq_job;

typedef struct nb_awq_choice {
    double ratio;              /* the chosen r; -1: no scales, rounding as it is was best */
    double error, error_plain; /* E */
} nb_awq_choice;

/* s [K] of the least error; all 1 when none is better. Positive, finite, geometric mean of the
 * extremes 1. At most kRows rows of each linear, evenly spread, decide. Cost: 40 x min(N, 512) K
 * roundings, 2 min(N, 512) K^2 FLOP; with feedback K^3 / 3 more. On a device that only counts
 * (count.h) w is not read and s not written. */
nb_status nb_awq_search(const nb_awq_job *j, float *s, nb_awq_choice *choice,
                        nb_error *err) NB_CHECKED;

#endif
