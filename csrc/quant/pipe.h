/* pipe.h -- what the files of the layer pipeline share: the streams of activations (streams.c), where they lie (rows.c), one group of linears
 * (group.c), the walk over the layers (pipeline.c). */
#ifndef NB_QUANT_PIPE_H
#define NB_QUANT_PIPE_H

#include "quant/pipeline.h"

/* Rows of all calibration tokens, kept whole on the device, or in a file with room for one sequence on the device. */
typedef struct nb_rows {
    float *p;      /* [T, width], or [ctx, width] when spilled */
    int64_t width; /* floats a row at most */
    int64_t at;    /* first byte in the file when spilled */
} nb_rows;

typedef struct nb_stream { /* activations of all calibration tokens through one set of weights */
    nb_rows x;             /* [T, hidden_size] */
    nb_rows mid;           /* [T, n_head head_dim] after attention, [T, intermediate_size] after the gate */
    nb_layer layer;        /* the weights it runs through; the frame is shared */
} nb_stream;

typedef struct nb_pipe {
    nb_model *m;
    nb_backend *be;
    const nb_pipeline_options *o;
    const nb_calib *calib;
    nb_sink *sink;
    bool dry; /* the device only counts */
    int64_t T;
    nb_stream quantized, original;
    bool two; /* the original stream runs: the correction is on and the streams differ */
    nb_acts acts;
    nb_kv kv;
    double *h, *c; /* [K,K] device, of the widest K */
    float *scale[NB_GROUP_COUNT]; /* [K] host, of the inputs of this layer's groups; NULL: not scaled */
    void *scratch;
    size_t scratch_bytes;
    int spill;     /* file descriptor of the spilled rows, -1: none */
    float *stage;  /* host: rows of one sequence on their way to or from the file */
    int64_t token_ns; /* spent on tokens in this layer: statistics, forward */
    nb_linear_report *report;
    int64_t n_report;
} nb_pipe;

/* ---- memory (rows.c) ---- */

/* Buffers of the host that a plan must know of. Free with nb_pipe_host_free. */
nb_status nb_pipe_host(nb_pipe *p, size_t n, size_t size, const char *what, void **out, nb_error *err) NB_CHECKED;
void nb_pipe_host_free(nb_pipe *p, void *buffer);

/* Scratch grows to the largest request; ops run in order, so they share it. */
nb_status nb_pipe_scratch(nb_pipe *p, size_t bytes, nb_error *err) NB_CHECKED;

nb_status nb_rows_open(nb_pipe *p, nb_rows *r, int64_t width, nb_error *err) NB_CHECKED;
void nb_rows_close(nb_pipe *p, nb_rows *r);
/* Opens the file when there is to be one, for n_float values a token in all. NB_NO_ROOM: the disk lacks the bytes named. */
nb_status nb_rows_open_file(nb_pipe *p, int64_t n_float, nb_error *err) NB_CHECKED;
void nb_rows_close_file(nb_pipe *p);
/* Where the rows of sequence i are, `width` floats a row (at most the rows' own); read: with what they hold. */
nb_status nb_rows_get(nb_pipe *p, const nb_rows *r, int32_t i, int64_t width, bool read, float **out, nb_error *err) NB_CHECKED;
/* Keeps what was written where nb_rows_get said. */
nb_status nb_rows_put(nb_pipe *p, const nb_rows *r, int32_t i, int64_t width, nb_error *err) NB_CHECKED;

/* ---- streams (streams.c) ---- */

/* Embeds the calibration tokens into the quantized stream. Close frees what a failed open left. */
nb_status nb_pipe_open_streams(nb_pipe *p, nb_error *err) NB_CHECKED;
void nb_pipe_close_streams(nb_pipe *p);
/* From here on the original weights run beside the quantized ones: the original stream begins as a copy. */
nb_status nb_pipe_fork(nb_pipe *p, nb_error *err) NB_CHECKED;

/* H of group g's input [K,K] over the quantized stream into p->h, and the cross term of both streams into p->c. */
nb_status nb_pipe_gather(nb_pipe *p, nb_group_id g, int64_t K, nb_error *err) NB_CHECKED;

/* Runs the layer's part behind group g over all sequences of every stream. Its weights are released: no later part needs them. */
nb_status nb_pipe_advance(nb_pipe *p, nb_group_id g, nb_error *err) NB_CHECKED;

/* ---- groups (group.c) ---- */

/* Quantizes group g of a layer into the sink, reports its linears, and leaves the stacks of both streams. */
nb_status nb_pipe_quantize_group(nb_pipe *p, nb_group_id g, int layer, nb_error *err) NB_CHECKED;
/* The group's matrices, stacked [N,K], from the source, with the layer's scales. NB_BAD_INPUT names a tensor that is not finite. */
nb_status nb_pipe_decode(nb_pipe *p, nb_group_id g, int layer, float *to, nb_error *err) NB_CHECKED;
/* Leaves the stacks of a group that an earlier run wrote. */
nb_status nb_pipe_read_group(nb_pipe *p, nb_group_id g, int layer, nb_error *err) NB_CHECKED;
/* Leaves the source's own stack in the quantized stream (and the original one, when it runs). */
nb_status nb_pipe_source_group(nb_pipe *p, nb_group_id g, int layer, nb_error *err) NB_CHECKED;
/* Writes a role's tensor as the sink decided for it, if the model has it; its pages of the source may go. */
nb_status nb_pipe_copy(nb_pipe *p, nb_role role, int layer, nb_error *err) NB_CHECKED;

/* ---- scales of inputs (scales.c) ---- */

/* Finds the scales of the layer, writes what is divided by them (its two norms, the bias of v), and leaves these in the quantized stream's frame. */
nb_status nb_pipe_find_scales(nb_pipe *p, int layer, nb_error *err) NB_CHECKED;
/* The same vectors as an earlier run wrote them. */
nb_status nb_pipe_read_folded(nb_pipe *p, int layer, nb_error *err) NB_CHECKED;
/* Whether the role is one of these vectors. */
bool nb_pipe_is_folded(const nb_pipe *p, nb_role role);
/* The cross term of group g, gathered with inputs of the original stream that are not divided, as if they were. */
nb_status nb_pipe_scale_drift(nb_pipe *p, nb_group_id g, int64_t K, nb_error *err) NB_CHECKED;
/* Whether the group's matrices are not those of the source. */
bool nb_pipe_is_scaled(const nb_pipe *p, nb_group_id g);
/* w [N,K] of a role of group g, multiplied by the scales of its inputs and divided by those of what reads it. */
void nb_pipe_apply_scales(const nb_pipe *p, nb_group_id g, nb_role role, int64_t N, int64_t K, float *w);
void nb_pipe_drop_scales(nb_pipe *p);

#endif
