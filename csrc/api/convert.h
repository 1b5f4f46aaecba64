/* convert.h -- what the files of nb_convert share: the forms and the walk (convert.c), folders
 * whose linears a scheme packs (convert_packed.c). */
#ifndef NB_API_CONVERT_H
#define NB_API_CONVERT_H

#include "convert/sink.h"
#include "file/workdir.h"

struct nb_convert_job;

typedef struct nb_convert_form { /* what --format names */
    const char *name;
    nb_status (*open)(struct nb_convert_job *j, nb_error *err);
} nb_convert_form;

typedef struct nb_convert_job {
    const nb_convert_options *o;
    const nb_convert_form *kind;
    nb_scheme_spec spec; /* of a folder with packed linears */
    nb_model *m;
    const nb_dtype *grid;  /* NULL: as they are */
    const nb_dtype **type; /* [n_tensor] of the source: what it becomes */
    nb_workdir *work;      /* the lock, and what is not finished; for nobody to go on with */
    nb_sink *sink;
} nb_convert_job;

/* job->type of a tensor of the source. */
const nb_dtype *nb_convert_type(void *job, const nb_tensor *t);
/* Opens the sink of a folder whose linears have the codes of the source in the scheme called like
 * the form. NB_UNSUPPORTED names what has no place. */
nb_status nb_convert_open_packed(nb_convert_job *j, nb_error *err) NB_CHECKED;
/* GGUF from a folder with packed linears when no format is asked for: the smallest blocks that have
 * a place for every code, else F32. */
nb_status nb_convert_choose_blocks(nb_convert_job *j, nb_error *err) NB_CHECKED;

#endif
