/* pipeline.h -- the layer stream: one decoder layer at a time is read, measured, quantized and written. */
#ifndef NB_QUANT_PIPELINE_H
#define NB_QUANT_PIPELINE_H

#include "convert/gguf_out.h"
#include "quant/calib.h"
#include "quant/quantizer.h"

typedef struct nb_linear_report {
    char name[128];
    double error, error_rtn; /* tr(D H D^T) / tr(W H W^T); NAN without calibration */
    double bits_per_weight;
    char note[128];
} nb_linear_report;

typedef struct nb_pipeline_options {
    const nb_quantizer *quantizer;
    nb_grid grid; /* with a dtype: the file format of the linears */
    double damp, correction;
    bool static_groups;
    int n_thread;
    void (*progress)(void *arg, const char *line, int32_t layer, int32_t n_layer, double eta_s);
    void *arg;
    const volatile int *stop;
} nb_pipeline_options;

/* Quantizes all linears of m (opened without layers, exact) and writes them into w, whose tensors are m's container's. calib NULL: the quantizer needs none.
 * report [n_report] receives a record per linear, layer by layer. Memory beyond one layer: the activations, n_token x (hidden + n_head head_dim +
 * intermediate) x 4 bytes, twice with the correction. NB_INTERRUPTED when *stop was set. */
nb_status nb_pipeline_run(nb_model *m, const nb_pipeline_options *o, const nb_calib *calib, nb_gguf_writer *w,
                          nb_linear_report *report, int64_t *n_report, nb_error *err) NB_CHECKED;

/* Whether the group's tensors can be stored in the grid (K a multiple of its block). */
bool nb_pipeline_fits(const nb_model *m, nb_group_id g, const nb_grid *grid);

/* The index of a role's tensor in the container. */
int64_t nb_pipeline_index(const nb_model *m, nb_role role, int layer);

#endif
