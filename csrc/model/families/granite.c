/* granite.c -- Granite 3 (IBM 2024): Llama's decoder with four numbers that scale the embedding, what each block adds to the residual stream, the scores of
 * attention and (as a divisor) the logits. */
#include "model/family.h"

static const char *const hf_names[] = {"GraniteForCausalLM", NULL};

const nb_family nb_family_granite = {
    .name = "granite",
    .gguf_name = "granite",
    .hf_names = hf_names,
    .gguf_rope_interleaved = true, /* converted as Llama is */
    .act = NB_ACT_SILU,
    .multipliers = true,
};
