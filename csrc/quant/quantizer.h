/* quantizer.h -- a quantizer decides which codes a matrix gets; it knows neither the model nor the
 * file. One file and one table line each. */
#ifndef NB_QUANT_QUANTIZER_H
#define NB_QUANT_QUANTIZER_H

#include "backend/backend.h"
#include "quant/times.h"

typedef enum nb_needs {
    NB_NEEDS_NOTHING, /* every row on its own: it gets a few rows of a linear at a time */
    NB_NEEDS_HESSIAN
} nb_needs;

/* Whether the range of a group may be narrower than its values (backend.h, clip_rows). */
typedef enum nb_clip {
    NB_CLIP_NONE,
    NB_CLIP_MSE,      /* least squared error of the weights: 80 steps of 1 % */
    NB_CLIP_QUANTILE, /* the 99.9 % quantile of the magnitudes */
    NB_CLIP_OUTPUT    /* least output error of the group alone, from H: 10 steps of 5 % (AWQ) */
} nb_clip;

typedef struct nb_quant_stats {
    double damp;    /* lambda / mean of the diagonal that was used */
    int64_t n_dead; /* inputs that were always zero */
    char note[128]; /* "" or what was unusual, for the report */
} nb_quant_stats;

/* One group of linears that share an input, stacked along N. Matrices are device memory. */
typedef struct nb_quant_job {
    nb_backend *be;
    const nb_grid *grid;
    float *w; /* [N,K] natural column order; holds the corrected target afterwards */
    int64_t N, K;
    double *h;       /* [K,K] sum of x x^T over the tokens; NULL when nothing is needed, or what was
                * seen does not suffice to decide by. May be worked in, and is given back as it
                * was */
    const double *c; /* [K,K] sum of (x_orig - x) x^T, or NULL; or */
    const double *wc;   /* [N,K] W C, or NULL. Neither: no correction */
    const float *scale; /* [K] host, what the inputs were divided by (awq.h), or NULL */
    int64_t n_token;    /* that H was summed over, 0: as good as any number */
    double damp;        /* lambda as a share of the mean diagonal */
    double correction;  /* alpha of the drift correction, 0..1 */
    bool static_groups;
    bool act_order; /* groups of inputs by falling H_kk: g_idx is written */
    nb_clip clip;
    int64_t clip_from; /* the first row that may be clipped: AWQ leaves q and k alone, whose
                        * product hides the error of either */
    int32_t *g_idx;    /* [K] host, out under act_order */
    uint8_t *codes;    /* [N,K] out */
    nb_group *groups;  /* [N,G] out */
    float *q; /* [N,K] out, dequantized; NULL: nobody reads it (a quantizer without needs) */
    double *row_error; /* [N] host, or NULL. out: D H D^T of every row, D = w - q, where the
                        * quantizer knows it; else as it was */
    nb_quant_stats *stats;
    nb_times *times; /* or NULL */
} nb_quant_job;

typedef struct nb_quantizer {
    const char *name, *summary, *cost;
    nb_needs needs;
    bool orders;       /* may take the inputs in an order of its own: act-order */
    bool corrects;     /* makes use of the drift correction */
    bool input_scales; /* the layer's weights are scaled before (awq.h, scales.h) */
    nb_clip clip;      /* when none is asked for */
    /* NULL: nothing is rounded, every linear is written as a float, scaled or not */
    nb_status (*layer)(const nb_quant_job *job, nb_error *err);
} nb_quantizer;

/* to [K] host: the diagonal of square [K,K] device, of a sum over activations; NB_BAD_INPUT when
 * one of it is not finite. */
nb_status nb_quant_diagonal(nb_backend *be, const double *square, int64_t K, double *to,
                            nb_error *err) NB_CHECKED;
/* Parameters of all groups of the job's w as its clip asks, and the codes when codes is not NULL:
 * rounding to nearest. groups [N,G] device. */
nb_status nb_quant_round(const nb_quant_job *j, nb_group *groups, uint8_t *codes,
                         nb_error *err) NB_CHECKED;
/* q from codes and groups. */
nb_status nb_quant_values(const nb_quant_job *j, nb_error *err) NB_CHECKED;

extern const nb_quantizer *const nb_quantizers[];        /* NULL-terminated */
const nb_quantizer *nb_quantizer_find(const char *name); /* NULL if unknown */

#endif
