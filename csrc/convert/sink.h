/* sink.h -- a checkpoint in the making: what quantization and conversion write into, whatever the
 * container.
 *
 * The caller names slots; the sink knows names, the order of rows (GGUF's llama pairs the rotated
 * rows, the hub halves them), which format each slot gets, and where its bytes lie. Everything has
 * its final place from the start, so a layer may be written in any order and read back.
 *
 * With a work folder (NB_SINK_WORK files below) an unfinished sink survives its process: opened
 * again with `resume` it holds what was sealed. */
#ifndef NB_CONVERT_SINK_H
#define NB_CONVERT_SINK_H

#include "base/sha256.h"
#include "model/model.h"

typedef struct nb_sink nb_sink;

/* One tensor of the output, for the manifest. */
typedef struct nb_sink_tensor {
    const char *name, *type, *file; /* file: its name inside a folder, NULL for a single file */
    int64_t bytes;
    uint8_t sha256[NB_SHA256_BYTES]; /* of its bytes; known once its layer is sealed */
} nb_sink_tensor;

typedef struct nb_sink_file {
    const char *name; /* inside the folder */
    int64_t bytes;
    uint8_t sha256[NB_SHA256_BYTES];
} nb_sink_file;

/* A single file, for the manifest: what lies outside of its tensors' bytes. */
typedef struct nb_sink_head {
    int64_t bytes, file_bytes;       /* up to the data of the tensors; the file's length */
    uint8_t sha256[NB_SHA256_BYTES]; /* of the head */
} nb_sink_head;

typedef struct nb_sink_ops {
    /* A quantized linear: canonical codes in the sink's grid, rows in the order of the source. */
    nb_status (*linear)(nb_sink *s, nb_slot at, const nb_matrix *m, nb_error *err);
    /* Any other matrix or vector (N = 1: a vector of K), or a linear that is kept: encoded as the
     * sink decided for the slot, copied where the formats agree. */
    nb_status (*dense)(nb_sink *s, nb_slot at, const nb_matrix *m, nb_error *err);
    /* What was written at the slot, as a loader would see it, rows in the order of the source;
     * norms with the 1 that a folder leaves out. Borrowed until the next call. For resuming. */
    nb_status (*read)(nb_sink *s, nb_slot at, nb_matrix *out, nb_error *err);
    /* Makes what was written for the layer durable (fdatasync; where nobody goes on with it commit
     * does that, for all of it), reads it back and hashes it.
     * digest: SHA-256 over the SHA-256 of each of its tensors, in the order of slots. Layer -1:
     * what belongs to no layer; what the source holds beyond the slots of its family is copied
     * before.
     * After `resume` it is called for every layer of the journal, without any writing: the same
     * digest, or the files are not what the journal says. */
    nb_status (*seal)(nb_sink *s, int layer, uint8_t digest[32], nb_error *err);
    /* The final names appear; everything was sealed. manifest: text that lies beside a file
     * (OUT.manifest.json) or inside a folder (manifest.json); n 0: none. A process that is killed
     * inside commit leaves the work folder in a state that the sink's own `*_finish` takes to the
     * end (no sink is opened for that). */
    nb_status (*commit)(nb_sink *s, const char *manifest, size_t n, nb_error *err);
    /* Calls back for every tensor of the output, in the order of its file. */
    nb_status (*each)(nb_sink *s,
                      nb_status (*tensor)(void *arg, const nb_sink_tensor *t, nb_error *err),
                      void *arg, nb_error *err);
    /* The same for every file of the output but the manifest, whole, as commit will leave it; NULL:
     * one file, of which `head` says what its tensors do not. Everything was sealed. */
    nb_status (*files)(nb_sink *s,
                       nb_status (*file)(void *arg, const nb_sink_file *f, nb_error *err),
                       void *arg, nb_error *err);
    nb_status (*head)(nb_sink *s, nb_sink_head *out, nb_error *err); /* NULL: a folder */
    void (*close)(nb_sink *s); /* what was not committed stays in the work folder if there is
                                * one, else it goes */
} nb_sink_ops;

struct nb_sink {
    const nb_sink_ops *op;
    int64_t total_bytes; /* of all files but the manifest and the index of shards */
    int64_t hole_bytes;  /* of these, what is never written and takes no room */
    bool broken; /* a sync failed: nothing that is in the work folder can be trusted any more */
};

#endif
