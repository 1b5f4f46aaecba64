/* gemma2.c -- Gemma 2 (Gemma Team 2024): four norms a layer, a GELU gate, soft caps on the scores
 * and the logits, a sliding window in every other layer beginning with the first, the embedding
 * scaled by sqrt(hidden_size). The Hub's norm weights lack the 1 that is added to them; GGUF's have
 * it. */
#include "model/family.h"

static const char *const hf_names[] = {"Gemma2ForCausalLM", NULL};
static const char *const hf_keys[] = {"hidden_activation",      "query_pre_attn_scalar",
                                      "attn_logit_softcapping", "final_logit_softcapping",
                                      "sliding_window",         "layer_types",
                                      "attention_bias",         NULL};

static const nb_role_name roles[] = {
    {NB_ROLE_ATTN_POST_NORM, "blk.%d.post_attention_norm.weight",
     "model.layers.%d.post_attention_layernorm.weight", false},
    {NB_ROLE_FFN_NORM, "blk.%d.ffn_norm.weight", "model.layers.%d.pre_feedforward_layernorm.weight",
     false},
    {NB_ROLE_FFN_POST_NORM, "blk.%d.post_ffw_norm.weight",
     "model.layers.%d.post_feedforward_layernorm.weight", false},
    {NB_ROLE_COUNT, NULL, NULL, false},
};

static const nb_hf_default defaults[] = {{"head_dim", 256},
                                         {"query_pre_attn_scalar", 256},
                                         {"sliding_window", 4096},
                                         {"max_position_embeddings", 8192},
                                         {NULL, 0}};

const nb_family nb_family_gemma2 = {
    .name = "gemma2",
    .gguf_name = "gemma2",
    .hf_names = hf_names,
    .hf_keys = hf_keys,
    .roles = roles,
    .hf_defaults = defaults,
    .act = NB_ACT_GELU_TANH,
    .hf_norm_minus_one = true,
    .embed_by_width = true,
    .query_scalar = true,
    .windowed = true,
    .window_pattern = 2,
    .attn_soft_cap = 50.0f,
    .logit_soft_cap = 30.0f,
    .gguf_wide_scale_layers = 46, /* 27B */
};
