/* folder_sink.h -- the sink (sink.h) whose container is a folder of plain floats in the hub's layout:
 *
 *   OUT/model.safetensors          the tensors of folder_plan.h
 *       config.json                generation_config.json
 *       tokenizer.json             tokenizer_config.json (with the chat template); from a folder its own files, byte for byte
 *
 * Made under the name OUT.partial-XXXXXX, which goes with close unless it was committed. */
#ifndef NB_CONVERT_FOLDER_SINK_H
#define NB_CONVERT_FOLDER_SINK_H

#include "convert/folder_plan.h"
#include "convert/sink.h"

typedef struct nb_folder_sink_spec {
    const nb_model *model; /* the source; borrowed until close */
    const char *out;       /* not there, or an empty folder */
    nb_type_choice choose; /* the format of each tensor of the source; asked when the sink opens */
    void *arg;
    const char *torch_dtype; /* "bfloat16" "float16" "float32" */
    bool exact;              /* no number becomes an infinity */
    int n_thread;
} nb_folder_sink_spec;

/* NB_UNSUPPORTED: the model has no form in such a folder; NB_IO: OUT is there; NB_NO_ROOM: the disk lacks the bytes named. */
nb_status nb_folder_sink_open(const nb_folder_sink_spec *spec, nb_sink **out, nb_error *err) NB_CHECKED;

#endif
