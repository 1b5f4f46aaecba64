/* qwen3_moe.c -- Qwen3 with a mixture of experts for the feed-forward (Yang et al. 2025). The
 * weights of the chosen experts sum to 1 where norm_topk_prob says so; GGUF files are of models
 * where it does. */
#include "model/family.h"

static const char *const hf_names[] = {"Qwen3MoeForCausalLM", NULL};
static const char *const hf_keys[] = {
    "num_experts",    "num_experts_per_tok", "moe_intermediate_size",
    "norm_topk_prob", "decoder_sparse_step", "use_sliding_window",
    "sliding_window", "attention_bias",      NULL};

static const nb_role_name roles[] = {
    {NB_ROLE_ATTN_Q_NORM, "blk.%d.attn_q_norm.weight", "model.layers.%d.self_attn.q_norm.weight",
     false},
    {NB_ROLE_ATTN_K_NORM, "blk.%d.attn_k_norm.weight", "model.layers.%d.self_attn.k_norm.weight",
     false},
    {NB_ROLE_ROUTER, "blk.%d.ffn_gate_inp.weight", "model.layers.%d.mlp.gate.weight", false},
    {NB_ROLE_FFN_GATE, "blk.%d.ffn_gate_exps.weight",
     "model.layers.%d.mlp.experts.%d.gate_proj.weight", false},
    {NB_ROLE_FFN_UP, "blk.%d.ffn_up_exps.weight", "model.layers.%d.mlp.experts.%d.up_proj.weight",
     false},
    {NB_ROLE_FFN_DOWN, "blk.%d.ffn_down_exps.weight",
     "model.layers.%d.mlp.experts.%d.down_proj.weight", false},
    {NB_ROLE_COUNT, NULL, NULL, false},
};

static const nb_hf_default defaults[] = {{"use_sliding_window", 0},      {"sliding_window", 4096},
                                         {"max_window_layers", 28},      {"num_experts_per_tok", 8},
                                         {"norm_topk_prob", 0},          {"num_experts", 128},
                                         {"moe_intermediate_size", 768}, {NULL, 0}};

const nb_family nb_family_qwen3_moe = {
    .name = "qwen3_moe",
    .gguf_name = "qwen3moe",
    .hf_names = hf_names,
    .hf_keys = hf_keys,
    .roles = roles,
    .hf_defaults = defaults,
    .act = NB_ACT_SILU,
    .mixture = true,
    .windowed = true,
};
