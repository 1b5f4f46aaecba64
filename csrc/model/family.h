/* family.h -- model families as rows: what a family is called, how its tensors are named, which
 * features it has.
 *
 * A family is one file in families/ and one line in the table; the decoder (forward.c) reads the
 * flags and never asks for a name. */
#ifndef NB_MODEL_FAMILY_H
#define NB_MODEL_FAMILY_H

#include "backend/backend.h"
#include "file/container.h"

enum {
    NB_MAX_ROPE_DIM = 512, /* the largest head of the known families is 256 */
    NB_MAX_LAYER = 1024,
    NB_TENSOR_NAME = 128 /* room for a tensor's name */
};

/* What a tensor is for. Roles up to NB_ROLE_OUTPUT are one a model, the rest one a layer (or one an
 * expert of it). Not every family has all. */
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
    NB_ROLE_FFN_GATE, /* these three of every expert in a mixture */
    NB_ROLE_FFN_UP,
    NB_ROLE_FFN_DOWN,
    NB_ROLE_ATTN_Q_BIAS, /* vectors */
    NB_ROLE_ATTN_K_BIAS,
    NB_ROLE_ATTN_V_BIAS,
    NB_ROLE_ATTN_O_BIAS,
    NB_ROLE_ATTN_Q_NORM, /* [head_dim], every head alike, before the rotation */
    NB_ROLE_ATTN_K_NORM,
    NB_ROLE_ATTN_POST_NORM, /* of what attention adds to the residual stream */
    NB_ROLE_FFN_POST_NORM,
    NB_ROLE_ROUTER, /* [n_expert, hidden_size] */
    NB_ROLE_COUNT
} nb_role;

/* One matrix or vector of a model. */
typedef struct nb_slot {
    nb_role role;
    int layer;  /* ignored for model-wide roles */
    int expert; /* of a mixture; 0 otherwise */
} nb_slot;

/* Roles with the same name are row slices of one tensor, in the order of nb_role. */
typedef struct nb_role_name {
    nb_role role;
    const char *gguf, *hf; /* the first %d stands for the layer, a second one for the expert; a
                            * GGUF name without it stacks the experts in 3-D */
    bool optional;         /* a checkpoint may lack it (biases) */
} nb_role_name;

/* A key of config.json that the publisher's code fills in when it is absent. */
typedef struct nb_hf_default {
    const char *key; /* NULL ends */
    double value;
} nb_hf_default;

/* How far a config vouches for biases. */
typedef enum nb_bias_rule { NB_BIAS_BY_TENSOR, NB_BIAS_NONE, NB_BIAS_REQUIRED } nb_bias_rule;

/* How rotary frequencies follow from theta: freq[i] = theta^(-i / n), then a rule. */
typedef enum nb_rope_rule {
    NB_ROPE_PLAIN,
    NB_ROPE_LINEAR,  /* all divided by `factor` */
    NB_ROPE_LLAMA3,  /* long waves slowed, short ones kept */
    NB_ROPE_DIVIDED, /* one by one, by a tensor (GGUF's rope_freqs.weight), which says no rule */
} nb_rope_rule;

/* Long waves are slowed by the factor, short ones kept, those between blended (Llama 3.1; config
 * keys of rope_type llama3). */
typedef struct nb_rope_llama3 {
    double factor, low, high, old; /* low < high: waves longer than old / low are slowed, shorter
                                    * than old / high kept */
} nb_rope_llama3;

/* As the checkpoint says it; what the decoder reads are the frequencies made of it. */
typedef struct nb_rope {
    double theta, local_theta; /* local: of the layers within the window, to which no rule
                                * applies where it differs */
    nb_rope_rule rule;
    double factor; /* NB_ROPE_LINEAR */
    nb_rope_llama3 llama3;
} nb_rope;

/* Everything the decoder needs to know about a model, checked against limits when read
 * (hardening.md CF). */
typedef struct nb_hparams {
    /* intermediate_size: of an expert in a mixture */
    int32_t vocab_size, hidden_size, intermediate_size, n_layer, n_head, n_kv_head, head_dim,
        ctx_len;
    int32_t n_expert, n_expert_used; /* 0: no mixture */
    bool expert_renormalize;         /* the weights of the chosen experts are made to sum to 1 */
    float norm_eps;
    float embed_scale;    /* Gemma: sqrt(hidden_size); else 1 */
    float attn_scale;     /* of q.k: 1/sqrt(head_dim) unless the family says otherwise */
    float residual_scale; /* of what attention and the feed-forward add; 1 unless the family says
                           * otherwise */
    float logit_divisor;  /* 1 unless the family says otherwise */
    float attn_soft_cap, logit_soft_cap; /* 0: none */
    int32_t window;                      /* of the local layers; 0: none */
    bool local[NB_MAX_LAYER];            /* layers that attend within the window */
    bool unrotated[NB_MAX_LAYER];        /* layers whose q and k are not rotated */
    nb_activation act;
    int32_t rope_dim;
    nb_rope rope;
    bool rows_paired; /* rows of q and k lie in pairs (nb_family_pairs_rows); they are halved
                       * where they are packed */
    float inv_freq[NB_MAX_ROPE_DIM / 2];       /* scaling applied */
    float inv_freq_local[NB_MAX_ROPE_DIM / 2]; /* of the local layers, where the family gives
                                                * them their own */
    bool tied;                                 /* the output layer is the embedding */
    nb_bias_rule bias;
} nb_hparams;

typedef struct nb_family {
    const char *name;      /* for people */
    const char *gguf_name; /* general.architecture; the first row of that name (and kind, mixture
                            * or not) reads it */
    const char *const *hf_names; /* config.json "architectures" it serves, NULL-terminated */
    const char *hf_model_type;   /* config.json "model_type"; NULL: the name */
    const char *const *hf_keys;  /* of config.json beyond those that every family has,
                                 * NULL-terminated; NULL: none. How they are written:
                                 * convert/config_out.c */
    const nb_role_name *roles;   /* where it departs from nb_llama_roles; ended by a row with gguf
                                * NULL; NULL: nowhere */
    const nb_hf_default *hf_defaults; /* NULL: none */
    nb_activation act;
    bool gguf_rope_interleaved;
    bool hf_norm_minus_one; /* the Hub's norm weights lack the 1 that GGUF's include */
    bool hf_nested;         /* also the text part of a larger model: text_config, names under
                     * language_model */
    bool embed_by_width;    /* the embedding is multiplied by sqrt(hidden_size) */
    bool query_scalar;      /* query_pre_attn_scalar^-1/2 scales q.k */
    bool multipliers;   /* embedding, residual, attention multipliers and a divisor of the logits */
    bool mixture;       /* experts; renormalized weights unless the config says otherwise */
    bool windowed;      /* config.json's sliding_window counts */
    int window_pattern; /* every n-th layer sees everything; 0: none does. Both containers may
                         * say otherwise */
    float local_theta;  /* rope of the local layers; 0: like all others */
    int unrotated_every; /* every n-th layer does not rotate; 0: all do. config.json may say
                          * otherwise, GGUF has no key */
    float attn_soft_cap, logit_soft_cap; /* where the file is silent; 0: none */
    int gguf_wide_scale_layers; /* GGUF models of this many layers divide q.k by sqrt(hidden_size
                                 * / n_head), which no key says; 0: none */
} nb_family;

extern const nb_family *const nb_families[]; /* NULL-terminated; the table */
/* families/llama.c: what most decoders are called like */
extern const nb_role_name nb_llama_roles[];

/* Finds the family and reads the numbers. NB_UNSUPPORTED for an unknown architecture (with the
 * list) or rope scaling, NB_BAD_INPUT for a missing or impossible value. */
nb_status nb_hparams_read(const nb_container *c, const nb_family **family, nb_hparams *hp,
                          nb_error *err) NB_CHECKED;

/* The row of a role, or NULL: the family has none. */
const nb_role_name *nb_family_role(const nb_family *f, nb_role role);

/* What a slot's tensor is called in a container of that kind; false (and "") when the family has no
 * such role. */
bool nb_family_name(const nb_family *f, nb_container_kind kind, nb_slot at,
                    char name[NB_TENSOR_NAME]);

/* The tensor that holds a slot (all of it or as a slice; of a quantized linear the tensor of its
 * codes), or NULL. name receives the name looked for. */
const nb_tensor *nb_family_tensor(const nb_family *f, const nb_container *c, nb_slot at,
                                  char name[NB_TENSOR_NAME]);

/* Norms, of which Gemma's folders store the weight less 1. */
bool nb_role_is_norm(nb_role role);
/* Norms, biases and the router: F32 in every GGUF file. */
bool nb_role_stays_f32(nb_role role);
/* What is to be added to a container's norm weights: 1 where they lack it, else 0. */
float nb_family_norm_offset(const nb_family *f, nb_container_kind kind, nb_role role);
/* Whether GGUF has the role's rows in another order than a folder: of a head of d rows, row 2 i + s
 * there is row s d / 2 + i here (neighbours rotate there, halves here). */
bool nb_family_pairs_rows(const nb_family *f, nb_role role);

/* The row that row n of a slot becomes when it is packed: with hp->rows_paired the rotated rows of
 * q and k are halved, so that the decoder computes the same bits from either container. For vectors
 * the same of elements. */
int64_t nb_family_packed_row(const nb_family *f, const nb_hparams *hp, nb_role role, int64_t n);

/* The shape a slot must have: rows N and columns K (N = 0: a vector of K). */
void nb_family_shape(const nb_hparams *hp, nb_slot at, int64_t *N, int64_t *K);

/* Where a slot lies: rows [row, row + N) of its tensor, whose rows are all its dimensions but the
 * last. */
typedef struct nb_place {
    const nb_tensor *t; /* NULL: not there */
    int64_t row, N, K;  /* N = 0: a vector of K, from element `row` on */
    int64_t all_rows;   /* the tensor must have this many (elements, of a vector) */
    bool stacked;       /* as experts in three dimensions */
} nb_place;
nb_place nb_family_place(const nb_family *f, const nb_hparams *hp, const nb_container *c,
                         nb_slot at, char name[NB_TENSOR_NAME]);
/* The same for a container of that kind that is not there: t is NULL. */
nb_place nb_family_slice(const nb_family *f, const nb_hparams *hp, nb_container_kind kind,
                         nb_slot at);

#endif
