/* folder_sink.h -- the sink (sink.h) whose container is a folder in the hub's layout, of plain
 * floats or with linears that a scheme packs:
 *
 *   OUT/model.safetensors          the tensors of folder_plan.h; in several files where they would
 *                                  pass shard_bytes (file/shards_out.h)
 *       config.json                with the scheme's quantization_config; generation_config.json
 *       tokenizer.json             tokenizer_config.json (with the chat template); from a folder
 *                                  its own files, byte for byte
 *       LICENSE README.md ...      from a folder: what belongs to the model and is no weights, no
 *                                  program
 *       manifest.json              when commit is given one
 *
 * Made under the name OUT.partial-XXXXXX, which goes with close unless it was committed; or as
 * WORK/folder, which stays. */
#ifndef NB_CONVERT_FOLDER_SINK_H
#define NB_CONVERT_FOLDER_SINK_H

#include "convert/folder_plan.h"
#include "convert/sink.h"

typedef struct nb_folder_sink_spec {
    const nb_model *model; /* the source; borrowed until close */
    const char *out;       /* not there, or an empty folder */
    const char *work;      /* an existing folder on OUT's file system, or NULL */
    bool resume;           /* what an earlier run sealed in `work` is there */
    bool once;             /* nobody goes on with `work`: seal does not sync */
    bool measure; /* nothing is made: sizes only; read is refused, digests are of nothing */
    nb_type_choice choose; /* the format of each tensor of the source that is not packed; asked
                            * when the sink opens */
    void *arg;
    const nb_scheme_spec *scheme;         /* NULL: plain floats */
    int layer_from, layer_to;             /* the layers whose linears are packed; */
    bool (*packs)(void *arg, nb_slot at); /* or, where not NULL: whether this one is */
    int64_t shard_bytes;                  /* 0: 5 GB */
    const char *torch_dtype;              /* "bfloat16" "float16" "float32" */
    bool exact;                           /* no number becomes an infinity */
    int n_thread;
} nb_folder_sink_spec;

/* NB_UNSUPPORTED: the model has no form in such a folder; NB_IO: OUT is there; NB_NO_ROOM: the disk
 * lacks the bytes named. */
nb_status nb_folder_sink_open(const nb_folder_sink_spec *spec, nb_sink **out,
                              nb_error *err) NB_CHECKED;

/* Gives a finished folder its name when the process that would have was killed. *done false: it had
 * not come so far. */
nb_status nb_folder_sink_finish(const char *out, const char *work, bool *done,
                                nb_error *err) NB_CHECKED;

/* Removes what the sink left in the work folder. */
void nb_folder_sink_discard(const char *work);

#endif
