/* folder_plan.h -- which tensors a folder of plain floats has for a model, whatever the model lies in.
 *
 *   from a folder      its tensors, as they are: what the family does not name is carried along
 *   from a GGUF file   what the family's rows name, layer by layer, an expert at a time. rope_freqs.weight becomes words of config.json; any other
 * tensor that no row names has no name in a folder, and is refused */
#ifndef NB_CONVERT_FOLDER_PLAN_H
#define NB_CONVERT_FOLDER_PLAN_H

#include "convert/gguf_plan.h"

typedef struct nb_folder_entry {
    const char *name; /* the plan's */
    const nb_dtype *type;
    int n_dim;
    int64_t shape[8];     /* outermost first */
    const nb_tensor *src; /* of the source: the tensor, or the first of several roles' */
    bool is_slot;         /* the caller writes it */
} nb_folder_entry;

typedef struct nb_folder_plan {
    int64_t n;
    nb_folder_entry *entry; /* [n] */
    int64_t *of;            /* [(n_layer + 1) * NB_ROLE_COUNT * n_slot] */
    int n_slot;             /* experts of a mixture, else 1 */
    nb_arena *names;
} nb_folder_plan;

/* NB_UNSUPPORTED: a tensor that folders have no name for, or whose chosen format is no float that safetensors has (the sentence says which to ask
 * for). */
nb_status nb_folder_plan_open(const nb_model *m, nb_type_choice choose, void *arg, nb_folder_plan *out, nb_error *err) NB_CHECKED;
void nb_folder_plan_close(nb_folder_plan *p);

/* The entry that has the slot's rows, -1: the model lacks it. */
int64_t nb_folder_plan_find(const nb_folder_plan *p, nb_slot at);

#endif
