/* gemma3.c -- Gemma 3 (Gemma Team 2025), its text part: Gemma 2 without soft caps but with norms
 * over the heads of q and k; five layers with a window and rotary theta 10^4, then one that sees
 * everything with a theta and a linear scaling of its own. GGUF files have keys for neither pattern
 * nor local theta. */
#include "model/family.h"

static const char *const hf_names[] = {"Gemma3ForCausalLM", "Gemma3ForConditionalGeneration", NULL};
static const char *const hf_keys[] = {
    "hidden_activation",       "query_pre_attn_scalar", "attn_logit_softcapping",
    "final_logit_softcapping", "sliding_window",        "layer_types",
    "rope_local_base_freq",    "attention_bias",        NULL};

static const nb_role_name roles[] = {
    {NB_ROLE_ATTN_POST_NORM, "blk.%d.post_attention_norm.weight",
     "model.layers.%d.post_attention_layernorm.weight", false},
    {NB_ROLE_FFN_NORM, "blk.%d.ffn_norm.weight", "model.layers.%d.pre_feedforward_layernorm.weight",
     false},
    {NB_ROLE_FFN_POST_NORM, "blk.%d.post_ffw_norm.weight",
     "model.layers.%d.post_feedforward_layernorm.weight", false},
    {NB_ROLE_ATTN_Q_NORM, "blk.%d.attn_q_norm.weight", "model.layers.%d.self_attn.q_norm.weight",
     false},
    {NB_ROLE_ATTN_K_NORM, "blk.%d.attn_k_norm.weight", "model.layers.%d.self_attn.k_norm.weight",
     false},
    {NB_ROLE_COUNT, NULL, NULL, false},
};

/* the text_config of a larger model names little else than its sizes */
static const nb_hf_default defaults[] = {{"vocab_size", 262208},
                                         {"num_attention_heads", 8},
                                         {"num_key_value_heads", 4},
                                         {"head_dim", 256},
                                         {"query_pre_attn_scalar", 256},
                                         {"sliding_window", 4096},
                                         {"max_position_embeddings", 131072},
                                         {"rope_theta", 1e6},
                                         {NULL, 0}};

const nb_family nb_family_gemma3 = {
    .name = "gemma3",
    .gguf_name = "gemma3",
    .hf_names = hf_names,
    .hf_model_type = "gemma3_text", /* of the text part alone */
    .hf_keys = hf_keys,
    .roles = roles,
    .hf_defaults = defaults,
    .act = NB_ACT_GELU_TANH,
    .hf_norm_minus_one = true,
    .hf_nested = true,
    .embed_by_width = true,
    .query_scalar = true,
    .windowed = true,
    .window_pattern = 6,
    .local_theta = 10000.0f,
    .gguf_wide_scale_layers = 62, /* 27B */
};
