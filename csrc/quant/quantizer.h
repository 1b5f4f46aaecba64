/* quantizer.h -- a quantizer decides which codes a matrix gets; it knows neither the model nor the file. One file and one table line each. */
#ifndef NB_QUANT_QUANTIZER_H
#define NB_QUANT_QUANTIZER_H

#include "backend/backend.h"

typedef enum nb_needs { NB_NEEDS_NOTHING, NB_NEEDS_HESSIAN } nb_needs;

typedef struct nb_quant_stats {
    double damp;        /* lambda / mean of the diagonal that was used */
    int64_t n_dead;     /* inputs that were always zero */
    char note[128];     /* "" or what was unusual, for the report */
} nb_quant_stats;

/* One group of linears that share an input, stacked along N. Matrices are device memory. */
typedef struct nb_quant_job {
    nb_backend *be;
    const nb_grid *grid;
    float *w;        /* [N,K] natural column order; holds the corrected target afterwards */
    int64_t N, K;
    const double *h; /* [K,K] sum of x x^T over the tokens; NULL when nothing is needed */
    const double *c; /* [K,K] sum of (x_orig - x) x^T, or NULL: no correction */
    int64_t n_token;
    double damp;       /* lambda as a share of the mean diagonal, 0.01 */
    double correction; /* alpha of the drift correction, 0..1 */
    bool static_groups;
    uint8_t *codes;    /* [N,K] out */
    nb_group *groups;  /* [N,G] out */
    float *q;          /* [N,K] out, dequantized */
    nb_quant_stats *stats;
} nb_quant_job;

typedef struct nb_quantizer {
    const char *name, *summary, *cost;
    nb_needs needs;
    nb_status (*layer)(const nb_quant_job *job, nb_error *err);
} nb_quantizer;

extern const nb_quantizer *const nb_quantizers[]; /* NULL-terminated */
const nb_quantizer *nb_quantizer_find(const char *name); /* NULL if unknown */

#endif
