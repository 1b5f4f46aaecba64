/* phi3.c -- Phi-3 and Phi-4 (Abdin et al. 2024): Llama's decoder with q, k, v in one tensor and
 * gate, up in another, rotation of a part of each head, and a sliding window in some versions. The
 * long-context versions (longrope) are refused when their numbers are read. */
#include "model/family.h"

static const char *const hf_names[] = {"Phi3ForCausalLM", NULL};
static const char *const hf_keys[] = {"sliding_window", "partial_rotary_factor",
                                      "original_max_position_embeddings", NULL};

static const nb_role_name roles[] = {
    /* q above k above v */
    {NB_ROLE_ATTN_Q, "blk.%d.attn_qkv.weight", "model.layers.%d.self_attn.qkv_proj.weight", false},
    {NB_ROLE_ATTN_K, "blk.%d.attn_qkv.weight", "model.layers.%d.self_attn.qkv_proj.weight", false},
    {NB_ROLE_ATTN_V, "blk.%d.attn_qkv.weight", "model.layers.%d.self_attn.qkv_proj.weight", false},
    /* gate above up */
    {NB_ROLE_FFN_GATE, "blk.%d.ffn_up.weight", "model.layers.%d.mlp.gate_up_proj.weight", false},
    {NB_ROLE_FFN_UP, "blk.%d.ffn_up.weight", "model.layers.%d.mlp.gate_up_proj.weight", false},
    {NB_ROLE_COUNT, NULL, NULL, false},
};

const nb_family nb_family_phi3 = {
    .name = "phi3",
    .gguf_name = "phi3",
    .hf_names = hf_names,
    .hf_keys = hf_keys,
    .roles = roles,
    .act = NB_ACT_SILU,
    .windowed = true,
};
