/* gguf_plan.h -- which tensors a GGUF file of a model has, in the order of the file, whatever the
 * model lies in.
 *
 *   from a GGUF file   its tensors, as they are: what belongs to no family is carried along
 *   from a folder      what the family's rows name, layer by layer; experts stacked, norms, biases
 *                      and the router in F32; and rope_freqs.weight where the config has the llama3
 *                      rule. What the rows do not name (vision towers, cached frequencies) stays
 *                      behind */
#ifndef NB_CONVERT_GGUF_PLAN_H
#define NB_CONVERT_GGUF_PLAN_H

#include "model/model.h"

/* The format a tensor gets in the output. */
typedef const nb_dtype *(*nb_type_choice)(void *arg, const nb_tensor *t);

typedef struct nb_gguf_entry {
    char name[NB_TENSOR_NAME];
    const nb_dtype *type;
    int n_dim;
    int64_t shape[8];     /* outermost first */
    const nb_tensor *src; /* of the source: the tensor, or the first of several that make it;
                           * NULL: computed from the numbers of the model */
    bool is_slot; /* one role of the family, or several, has its rows there: the caller writes it */
} nb_gguf_entry;

typedef struct nb_gguf_plan {
    int64_t n;
    nb_gguf_entry *entry; /* [n] */
    int64_t *of;          /* [(n_layer + 1) * NB_ROLE_COUNT] */
} nb_gguf_plan;

/* choose is asked for every matrix of the source that becomes (part of) a tensor. NB_UNSUPPORTED:
 * the model has no form in GGUF. The plan is the caller's to close, also on failure. */
nb_status nb_gguf_plan_open(const nb_model *m, nb_type_choice choose, void *arg, nb_gguf_plan *out,
                            nb_error *err) NB_CHECKED;
void nb_gguf_plan_close(nb_gguf_plan *p);

/* The entry that has the slot's rows, -1: the model lacks it. */
int64_t nb_gguf_plan_find(const nb_gguf_plan *p, nb_slot at);

#endif
