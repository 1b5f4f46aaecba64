/* llama.c -- Llama 2/3, SmolLM2, TinyLlama and everything else that has their decoder: RMS norm,
 * grouped-query attention, SwiGLU. (Touvron et al. 2023; names: GGUF specification and the Hub's
 * LlamaForCausalLM.) */
#include "model/family.h"

static const char *const hf_names[] = {"LlamaForCausalLM", NULL};
static const char *const hf_keys[] = {"attention_bias", NULL};

const nb_role_name nb_llama_roles[] = {
    {NB_ROLE_EMBED, "token_embd.weight", "model.embed_tokens.weight", false},
    {NB_ROLE_OUTPUT_NORM, "output_norm.weight", "model.norm.weight", false},
    {NB_ROLE_OUTPUT, "output.weight", "lm_head.weight", false},
    {NB_ROLE_ATTN_NORM, "blk.%d.attn_norm.weight", "model.layers.%d.input_layernorm.weight", false},
    {NB_ROLE_ATTN_Q, "blk.%d.attn_q.weight", "model.layers.%d.self_attn.q_proj.weight", false},
    {NB_ROLE_ATTN_K, "blk.%d.attn_k.weight", "model.layers.%d.self_attn.k_proj.weight", false},
    {NB_ROLE_ATTN_V, "blk.%d.attn_v.weight", "model.layers.%d.self_attn.v_proj.weight", false},
    {NB_ROLE_ATTN_O, "blk.%d.attn_output.weight", "model.layers.%d.self_attn.o_proj.weight", false},
    {NB_ROLE_FFN_NORM, "blk.%d.ffn_norm.weight", "model.layers.%d.post_attention_layernorm.weight",
     false},
    {NB_ROLE_FFN_GATE, "blk.%d.ffn_gate.weight", "model.layers.%d.mlp.gate_proj.weight", false},
    {NB_ROLE_FFN_UP, "blk.%d.ffn_up.weight", "model.layers.%d.mlp.up_proj.weight", false},
    {NB_ROLE_FFN_DOWN, "blk.%d.ffn_down.weight", "model.layers.%d.mlp.down_proj.weight", false},
    /* "attention_bias" */
    {NB_ROLE_ATTN_Q_BIAS, "blk.%d.attn_q.bias", "model.layers.%d.self_attn.q_proj.bias", true},
    {NB_ROLE_ATTN_K_BIAS, "blk.%d.attn_k.bias", "model.layers.%d.self_attn.k_proj.bias", true},
    {NB_ROLE_ATTN_V_BIAS, "blk.%d.attn_v.bias", "model.layers.%d.self_attn.v_proj.bias", true},
    {NB_ROLE_ATTN_O_BIAS, "blk.%d.attn_output.bias", "model.layers.%d.self_attn.o_proj.bias", true},
    {NB_ROLE_COUNT, NULL, NULL, false},
};

const nb_family nb_family_llama = {
    .name = "llama",
    .gguf_name = "llama",
    .hf_names = hf_names,
    .hf_keys = hf_keys,
    /* q and k rows are permuted at conversion so that pairs are neighbours */
    .gguf_rope_interleaved = true,
    .act = NB_ACT_SILU,
};
