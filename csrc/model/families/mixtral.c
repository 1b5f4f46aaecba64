/* mixtral.c -- Mixtral (Jiang et al. 2024): Mistral's decoder with a mixture of experts for the
 * feed-forward, the weights of the chosen ones made to sum to 1. GGUF files of it call themselves
 * "llama" and say how many experts there are. */
#include "model/family.h"

static const char *const hf_names[] = {"MixtralForCausalLM", NULL};
static const char *const hf_keys[] = {"num_local_experts", "num_experts_per_tok", "sliding_window",
                                      NULL};

static const nb_role_name roles[] = {
    {NB_ROLE_ROUTER, "blk.%d.ffn_gate_inp.weight", "model.layers.%d.block_sparse_moe.gate.weight",
     false},
    {NB_ROLE_FFN_GATE, "blk.%d.ffn_gate_exps.weight",
     "model.layers.%d.block_sparse_moe.experts.%d.w1.weight", false},
    {NB_ROLE_FFN_UP, "blk.%d.ffn_up_exps.weight",
     "model.layers.%d.block_sparse_moe.experts.%d.w3.weight", false},
    {NB_ROLE_FFN_DOWN, "blk.%d.ffn_down_exps.weight",
     "model.layers.%d.block_sparse_moe.experts.%d.w2.weight", false},
    {NB_ROLE_COUNT, NULL, NULL, false},
};

const nb_family nb_family_mixtral = {
    .name = "mixtral",
    .gguf_name = "llama",
    .hf_names = hf_names,
    .hf_keys = hf_keys,
    .roles = roles,
    .gguf_rope_interleaved = true,
    .act = NB_ACT_SILU,
    .mixture = true,
    .windowed = true,
};
