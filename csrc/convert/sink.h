/* sink.h -- a checkpoint in the making: what quantization and conversion write into, whatever the container.
 *
 * The caller names slots; the sink knows names, the order of rows (GGUF's llama pairs the rotated rows, the hub halves them), which format each
 * slot gets, and where its bytes lie. Everything has its final place from the start, so a layer may be written in any order and read back. */
#ifndef NB_CONVERT_SINK_H
#define NB_CONVERT_SINK_H

#include "model/model.h"

typedef struct nb_sink nb_sink;

typedef struct nb_sink_ops {
    /* A quantized linear: canonical codes in the sink's grid, rows in the order of the source. */
    nb_status (*linear)(nb_sink *s, nb_slot at, const nb_matrix *m, nb_error *err);
    /* Any other matrix or vector (N = 1: a vector of K), or a linear that is kept: encoded as the sink decided for the slot, copied where the formats agree. */
    nb_status (*dense)(nb_sink *s, nb_slot at, const nb_matrix *m, nb_error *err);
    /* What was written at the slot, as a loader would see it, rows in the order of the source; borrowed until the next call. For resuming. */
    nb_status (*read)(nb_sink *s, nb_slot at, nb_matrix *out, nb_error *err);
    /* Makes what was written for the layer durable; digest: SHA-256 over it, in the order of slots. Layer -1: what belongs to no layer. */
    nb_status (*seal)(nb_sink *s, int layer, uint8_t digest[32], nb_error *err);
    /* The final names appear. */
    nb_status (*commit)(nb_sink *s, nb_error *err);
    void (*close)(nb_sink *s); /* what was not committed stays in the work folder if there is one, else it goes */
} nb_sink_ops;

struct nb_sink {
    const nb_sink_ops *op;
    int64_t total_bytes; /* of all files */
};

#endif
