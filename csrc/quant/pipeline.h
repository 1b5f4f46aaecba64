/* pipeline.h -- the layer stream: one decoder layer at a time is read, measured, quantized and
 * written. */
#ifndef NB_QUANT_PIPELINE_H
#define NB_QUANT_PIPELINE_H

#include "convert/gguf_plan.h"
#include "convert/sink.h"
#include "quant/calib.h"
#include "quant/quantizer.h"

typedef struct nb_linear_report {
    char name[128];
    double error, error_rtn; /* tr(D H D^T) / tr(W H W^T); NAN without calibration */
    double bits_per_weight;
    bool expert; /* of a mixture's expert, with the tokens that it was sent: */
    int64_t n_token;
    bool rounded; /* which were too few for the quantizer: rounded to nearest */
    char note[128];
} nb_linear_report;

typedef struct nb_pipeline_options {
    const nb_quantizer *quantizer;
    nb_grid grid;                 /* with a dtype: the file format of the linears */
    const nb_scheme_spec *scheme; /* a folder's, for grids without a dtype; borrowed */
    const nb_dtype *values; /* the linears are written as what their codes mean, in this float (a
                             * plain folder); NULL: as codes */
    nb_type_choice kept;    /* the format that the sink gives a tensor which gets no codes, for the
                          * report; NULL: f16 */
    void *kept_arg;
    bool act_order; /* groups of inputs by falling H_kk, where the scheme has a place for them */
    double damp, correction;
    double token_limit; /* 0, or what an input of a linear may be long at most in H and C, in
                         * medians of its sequence (op limit_rows); not of experts */
    bool static_groups;
    nb_clip clip;
    int layer_from, layer_to; /* the layers [from, to) are quantized, the others copied as they
                               * are */
    int n_done;        /* the first n_done layers were sealed by an earlier run, their reports are
                 * there: read back, not quantized again */
    bool ends_done;    /* so was what belongs to no layer */
    const char *spill; /* a folder: the activations lie in a file there; NULL: in memory */
    int expert_batch;  /* experts of a mixture that are measured in one pass over the activations;
                       * 0: all. The bytes do not depend on it */
    int n_thread;
    nb_times *times; /* where the time of the layers went; NULL: nobody asks */
    /* After each layer, and within one after each group of linears; layer: so many are done.
     * INFINITY: not known yet. */
    void (*progress)(void *arg, const char *line, int32_t layer, int32_t n_layer, double eta_s);
    void *arg;
    const volatile int *stop;
    /* A layer (-1: what belongs to none) is on disk. r [n_report]: its linears. seconds: it took;
     * token_seconds: the part of it that grows with the calibration tokens. May be NULL. */
    nb_status (*sealed)(void *arg, int layer, const uint8_t digest[32], const nb_linear_report *r,
                        int n_report, double seconds, double token_seconds, nb_error *err);
    void *sealed_arg;
} nb_pipeline_options;

/* Quantizes the linears of m (opened without layers, exact) and writes every slot into the sink.
 * calib NULL: the quantizer needs none. report receives a record per quantized linear, layer by
 * layer, at *n_report on. On a device that only counts (count.h) nothing is read or written: the
 * plan. Memory beyond one group: the activations, n_token x nb_pipeline_row_width x 4 bytes, twice
 * with the correction, unless they are spilled; H, K^2 x 8 bytes of the widest K, and C or W C
 * (moments.c), for each of expert_batch experts of a mixture; and of a mixture one group of all
 * experts as it is packed. NB_INTERRUPTED when *stop was set: what was sealed stays. */
nb_status nb_pipeline_run(nb_model *m, const nb_pipeline_options *o, const nb_calib *calib,
                          nb_sink *sink, nb_linear_report *report, int64_t *n_report,
                          nb_error *err) NB_CHECKED;

/* Records that a run can write at most. */
int64_t nb_pipeline_most_reports(const nb_model *m);
/* Floats a calibration token takes, in one stream. */
int64_t nb_pipeline_row_width(const nb_model *m);

/* Whether the group's tensors can be stored: K a multiple of the grid's block, or as the scheme
 * wants it. */
bool nb_pipeline_fits(const nb_model *m, nb_group_id g, const nb_pipeline_options *o);

#endif
