/* folder_plan.h -- which tensors a folder has for a model, whatever the model lies in.
 *
 *   from a folder      its tensors, as they are: what the family does not name is carried along
 *   from a GGUF file   what the family's rows name, layer by layer, an expert at a time.
 *                      rope_freqs.weight becomes words of config.json; any other
 * tensor that no row names has no name in a folder, and is refused
 *
 * With a scheme the linears of the layers asked for are modules: a few tensors each
 * (scheme/scheme.h) in the place of one. Linears that share an input are packed together or not at
 * all, as loaders want it; embedding, head and routers never are. */
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
    int64_t module;       /* whose part it is, -1: a tensor of its own */
} nb_folder_entry;

typedef struct nb_folder_module { /* a linear under the scheme */
    const char *name;
    int64_t N, K;                     /* of all roles that share it */
    int64_t entry[NB_SCHEME_TENSORS]; /* of its tensors, -1: not written */
} nb_folder_module;

/* What is asked for. */
typedef struct nb_folder_choice {
    nb_type_choice type; /* the format of each tensor of the source that is not packed */
    void *arg;
    const nb_scheme_spec *scheme;         /* NULL: plain floats everywhere; borrowed until close */
    int layer_from, layer_to;             /* the layers whose linears are packed; */
    bool (*packs)(void *arg, nb_slot at); /* or, where not NULL: whether this one is */
} nb_folder_choice;

typedef struct nb_folder_plan {
    int64_t n, n_module;
    nb_folder_entry *entry;   /* [n] */
    nb_folder_module *module; /* [n_module] */
    const nb_scheme_spec *scheme;
    int64_t *of; /* [(n_layer + 1) * NB_ROLE_COUNT * n_slot] */
    int n_slot;  /* experts of a mixture, else 1 */
    nb_arena *names;
} nb_folder_plan;

/* NB_UNSUPPORTED: a tensor that folders have no name for, or whose chosen format is no float that
 * safetensors has (the sentence says which to ask for). */
nb_status nb_folder_plan_open(const nb_model *m, const nb_folder_choice *choice,
                              nb_folder_plan *out, nb_error *err) NB_CHECKED;
void nb_folder_plan_close(nb_folder_plan *p);

/* The entry that has the slot's rows (of a module the first of its tensors), -1: the model lacks
 * it. */
int64_t nb_folder_plan_find(const nb_folder_plan *p, nb_slot at);

/* Whether the group's linears can be packed, all of them: NB_UNSUPPORTED says what is in the
 * way. */
nb_status nb_folder_packs(const nb_model *m, const nb_scheme_spec *s, nb_group_id g,
                          nb_error *err) NB_CHECKED;

/* Names of the linears that are not packed, the head's among them, for the config's list of
 * exceptions: NULL-terminated, in the plan's arena. */
nb_status nb_folder_plan_exceptions(nb_folder_plan *p, const char *const **out,
                                    nb_error *err) NB_CHECKED;

#endif
