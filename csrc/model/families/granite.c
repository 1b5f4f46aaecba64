/* granite.c -- Granite 3 (IBM 2024): Llama's decoder with four numbers that scale the embedding,
 * what each block adds to the residual stream, the scores of attention and (as a divisor) the
 * logits. */
#include "model/family.h"

static const char *const hf_names[] = {"GraniteForCausalLM", NULL};
static const char *const hf_keys[] = {"embedding_multiplier", "residual_multiplier",
                                      "attention_multiplier", "logits_scaling",
                                      "attention_bias",       NULL};

const nb_family nb_family_granite = {
    .name = "granite",
    .gguf_name = "granite",
    .hf_names = hf_names,
    .hf_keys = hf_keys,
    .gguf_rope_interleaved = true, /* converted as Llama is */
    .act = NB_ACT_SILU,
    .multipliers = true,
};
