/* family.h -- model families as rows: what a family is called, how its tensors are named, which features it has.
 *
 * A family is one file in families/ and one line in the table; the decoder (forward.c) reads the flags and never asks for a name. */
#ifndef NB_MODEL_FAMILY_H
#define NB_MODEL_FAMILY_H

#include "backend/backend.h"
#include "file/container.h"

enum { NB_MAX_ROPE_DIM = 512 }; /* the largest head of the known families is 256 */

/* What a tensor is for. Roles up to NB_ROLE_OUTPUT are one a model, the rest one a layer. */
typedef enum nb_role {
    NB_ROLE_EMBED,
    NB_ROLE_OUTPUT_NORM,
    NB_ROLE_OUTPUT, /* absent when tied to the embedding */
    NB_ROLE_ATTN_NORM,
    NB_ROLE_ATTN_Q,
    NB_ROLE_ATTN_K,
    NB_ROLE_ATTN_V,
    NB_ROLE_ATTN_O,
    NB_ROLE_FFN_NORM,
    NB_ROLE_FFN_GATE,
    NB_ROLE_FFN_UP,
    NB_ROLE_FFN_DOWN,
    NB_ROLE_COUNT
} nb_role;

/* One matrix or vector of a model. */
typedef struct nb_slot {
    nb_role role;
    int layer;  /* ignored for model-wide roles */
    int expert; /* of a mixture; 0 otherwise */
} nb_slot;

typedef struct nb_role_name {
    nb_role role;
    const char *gguf, *hf; /* %d stands for the layer */
} nb_role_name;

/* Everything the decoder needs to know about a model, checked against limits when read (hardening.md CF). */
typedef struct nb_hparams {
    int32_t vocab_size, hidden_size, intermediate_size, n_layer, n_head, n_kv_head, head_dim, ctx_len;
    float norm_eps;
    float embed_scale; /* Gemma: sqrt(hidden_size); else 1 */
    float attn_scale;  /* of q.k: 1/sqrt(head_dim) unless the family says otherwise */
    float attn_soft_cap, logit_soft_cap; /* 0: none */
    int32_t window;    /* 0: none */
    nb_activation act;
    int32_t rope_dim;
    bool rope_interleaved;                   /* GGUF llama rotates neighbours, the Hub's order rotates halves */
    float inv_freq[NB_MAX_ROPE_DIM / 2];     /* scaling applied */
    bool tied;                               /* the output layer is the embedding */
} nb_hparams;

typedef struct nb_family {
    const char *name;               /* general.architecture in GGUF */
    const char *const *hf_names;    /* config.json "architectures" it serves, NULL-terminated */
    const nb_role_name *roles;      /* ended by a row with gguf NULL */
    bool gguf_rope_interleaved;
    nb_activation act;
} nb_family;

extern const nb_family *const nb_families[]; /* NULL-terminated; the table */

/* Finds the family and reads the numbers. NB_UNSUPPORTED for an unknown architecture (with the list) or rope scaling, NB_BAD_INPUT for a
 * missing or impossible value. */
nb_status nb_hparams_read(const nb_container *c, const nb_family **family, nb_hparams *hp, nb_error *err) NB_CHECKED;

/* The tensor of a role (layer ignored for model-wide roles), or NULL. name [128] receives the name looked for. */
const nb_tensor *nb_family_tensor(const nb_family *f, const nb_container *c, nb_role role, int layer, char name[128]);

/* The shape a role must have: rows N and columns K (N = 0: a vector of K). */
void nb_family_shape(const nb_hparams *hp, nb_role role, int64_t *N, int64_t *K);

#endif
