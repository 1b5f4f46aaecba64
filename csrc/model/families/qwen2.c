/* qwen2.c -- Qwen2 and Qwen2.5 (Yang et al. 2024): Llama's decoder with biases on q, k and v. A
 * sliding window is there when use_sliding_window says so, from layer max_window_layers on. */
#include "model/family.h"

static const char *const hf_names[] = {"Qwen2ForCausalLM", NULL};
static const char *const hf_keys[] = {"use_sliding_window", "sliding_window", "layer_types", NULL};

static const nb_role_name roles[] = {
    {NB_ROLE_ATTN_Q_BIAS, "blk.%d.attn_q.bias", "model.layers.%d.self_attn.q_proj.bias", false},
    {NB_ROLE_ATTN_K_BIAS, "blk.%d.attn_k.bias", "model.layers.%d.self_attn.k_proj.bias", false},
    {NB_ROLE_ATTN_V_BIAS, "blk.%d.attn_v.bias", "model.layers.%d.self_attn.v_proj.bias", false},
    {NB_ROLE_COUNT, NULL, NULL, false},
};

static const nb_hf_default defaults[] = {
    {"use_sliding_window", 0}, {"sliding_window", 4096}, {"max_window_layers", 28}, {NULL, 0}};

const nb_family nb_family_qwen2 = {
    .name = "qwen2",
    .gguf_name = "qwen2",
    .hf_names = hf_names,
    .hf_keys = hf_keys,
    .roles = roles,
    .hf_defaults = defaults,
    .act = NB_ACT_SILU,
    .windowed = true,
};
