/* qwen3.c -- Qwen3, dense (Yang et al. 2025): Llama's decoder with an RMS norm over each head of q
 * and k before the rotation, and a head dimension that is not hidden / heads. */
#include "model/family.h"

static const char *const hf_names[] = {"Qwen3ForCausalLM", NULL};
static const char *const hf_keys[] = {"use_sliding_window", "sliding_window", "layer_types",
                                      "attention_bias", NULL};

static const nb_role_name roles[] = {
    {NB_ROLE_ATTN_Q_NORM, "blk.%d.attn_q_norm.weight", "model.layers.%d.self_attn.q_norm.weight",
     false},
    {NB_ROLE_ATTN_K_NORM, "blk.%d.attn_k_norm.weight", "model.layers.%d.self_attn.k_norm.weight",
     false},
    {NB_ROLE_COUNT, NULL, NULL, false},
};

static const nb_hf_default defaults[] = {{"use_sliding_window", 0},
                                         {"sliding_window", 4096},
                                         {"max_window_layers", 28},
                                         {"head_dim", 128},
                                         {NULL, 0}};

const nb_family nb_family_qwen3 = {
    .name = "qwen3",
    .gguf_name = "qwen3",
    .hf_names = hf_names,
    .hf_keys = hf_keys,
    .roles = roles,
    .hf_defaults = defaults,
    .act = NB_ACT_SILU,
    .windowed = true,
};
