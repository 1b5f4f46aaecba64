/* gguf_sink.h -- the sink (sink.h) whose container is one GGUF file: the tensors of gguf_plan.h
 * with the keys of gguf_meta.h.
 *
 *   WORK/partial.gguf    the file in the making, named OUT by commit
 *   WORK/manifest.json   only between the last sync and the last rename: a work folder that has it
 *                        is finished but for its names */
#ifndef NB_CONVERT_GGUF_SINK_H
#define NB_CONVERT_GGUF_SINK_H

#include "convert/gguf_plan.h"
#include "convert/sink.h"

typedef struct nb_gguf_sink_spec {
    const nb_model *model; /* the source: container, family, shapes; borrowed until close */
    const char *out;
    const char *work;   /* an existing folder on OUT's file system, or NULL: a partial file beside
                       * OUT that goes with close */
    bool resume;        /* what an earlier run sealed in `work` is there */
    bool once;          /* nobody goes on with `work`: seal does not sync, and a commit that fails
                         * leaves neither file */
    bool measure;       /* no file: sizes only; read is refused, digests are of nothing */
    uint32_t file_type; /* general.file_type */
    nb_type_choice choose; /* the format of each tensor of the source; asked when the sink opens */
    void *arg;
    bool exact; /* a format in place of another quantized one only where every value stays what
                 * it is (rows_out.h) */
    int n_thread;
} nb_gguf_sink_spec;

/* NB_NO_ROOM: the disk lacks the bytes named; seen here, before the first minute of work. */
nb_status nb_gguf_sink_open(const nb_gguf_sink_spec *spec, nb_sink **out, nb_error *err) NB_CHECKED;

/* Gives a finished file its names when the process that would have was killed. *done false: it had
 * not come so far. */
nb_status nb_gguf_sink_finish(const char *path, const char *work, bool *done,
                              nb_error *err) NB_CHECKED;

/* Removes what the sink left in the work folder. */
void nb_gguf_sink_discard(const char *work);

#endif
