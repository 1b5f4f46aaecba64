/* hessian.h -- a Hessian like those of real layers: X^T X / T of correlated inputs with a few
 * strong channels, damped by 1 %. */
#ifndef NB_TESTS_OPS_HESSIAN_H
#define NB_TESTS_OPS_HESSIAN_H

#include "ops/ops.h"

/* h [K,K] without the damping, add [K] the damping; 2 K tokens of rank K. The caller frees both. */
static inline void hessian_make(nb_rng *r, int64_t K, double **h, double **add)
{
    const int64_t T = 2 * K;
    float *x = ops_normals(r, T * K, 1.0f);
    for (int64_t t = 0; t < T; t++)
        for (int64_t k = 0; k < K; k++) {
            if (k > 0) /* neighbours correlate */
                x[t * K + k] = 0.6f * x[t * K + k - 1] + 0.8f * x[t * K + k];
            if (k % 37 == 5)
                x[t * K + k] *= 3.0f;
        }
    double *H = ops_alloc((size_t)(K * K), sizeof *H), *d = ops_alloc((size_t)K, sizeof *d),
           trace = 0;
    for (int64_t t = 0; t < T; t++)
        for (int64_t i = 0; i < K; i++)
            for (int64_t j = 0; j < K; j++)
                H[i * K + j] += (double)x[t * K + i] * (double)x[t * K + j] / (double)T;
    for (int64_t k = 0; k < K; k++)
        trace += H[k * K + k];
    for (int64_t k = 0; k < K; k++)
        d[k] = 0.01 * trace / (double)K;
    free(x);
    *h = H;
    *add = d;
}

/* The columns from the largest diagonal element down, equal ones in their order. */
static inline int32_t *hessian_order(const double *h, int64_t K)
{
    int32_t *perm = ops_alloc((size_t)K, sizeof *perm);
    for (int32_t j = 0; j < (int32_t)K; j++) {
        int32_t at = j;
        for (; at > 0 && h[(int64_t)perm[at - 1] * (K + 1)] < h[j * (K + 1)]; at--)
            perm[at] = perm[at - 1];
        perm[at] = j;
    }
    return perm;
}

#endif
