/* pipe.h -- what the files of the layer pipeline share: the streams of activations (streams.c), one group of linears (group.c), the walk over
 * the layers (pipeline.c). */
#ifndef NB_QUANT_PIPE_H
#define NB_QUANT_PIPE_H

#include "quant/pipeline.h"

typedef struct nb_stream { /* activations of all calibration tokens through one set of weights */
    float *x;              /* [T, hidden_size] */
    float *mid;            /* [T, n_head head_dim] after attention, [T, intermediate_size] after the gate */
    nb_layer layer;        /* the weights it runs through; the frame is shared */
} nb_stream;

typedef struct nb_pipe {
    nb_model *m;
    nb_backend *be;
    const nb_pipeline_options *o;
    const nb_calib *calib;
    nb_gguf_writer *w;
    int64_t T;
    nb_stream quantized, original;
    bool two; /* the original stream runs */
    nb_acts acts;
    nb_kv kv;
    double *h, *c; /* [K,K] device, of the widest K */
    void *scratch;
    size_t scratch_bytes;
    nb_linear_report *report;
    int64_t n_report;
} nb_pipe;

/* Scratch grows to the largest request; ops run in order, so they share it. */
nb_status nb_pipe_scratch(nb_pipe *p, size_t bytes, nb_error *err) NB_CHECKED;

/* Embeds the calibration tokens into both streams. Close frees what a failed open left. */
nb_status nb_pipe_open_streams(nb_pipe *p, nb_error *err) NB_CHECKED;
void nb_pipe_close_streams(nb_pipe *p);

/* H of group g's input [K,K] over the quantized stream into p->h, and the cross term of both streams into p->c. */
nb_status nb_pipe_gather(nb_pipe *p, nb_group_id g, int64_t K, nb_error *err) NB_CHECKED;

/* Runs the layer's part behind group g over all sequences of every stream. */
nb_status nb_pipe_advance(nb_pipe *p, nb_group_id g, nb_error *err) NB_CHECKED;

/* Quantizes group g of a layer into the file, reports its linears, and leaves the stack of the quantized stream. */
nb_status nb_pipe_quantize_group(nb_pipe *p, nb_group_id g, int layer, nb_error *err) NB_CHECKED;

#endif
