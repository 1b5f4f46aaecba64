/* smollm3.c -- SmolLM3 (Hugging Face 2025): Llama's decoder without rotation in every fourth layer
 * (Yang et al. 2025, "Rope to Nope and Back Again"). config.json names those layers by a 0 in
 * no_rope_layers; GGUF files have no key for them. */
#include "model/family.h"

static const char *const hf_names[] = {"SmolLM3ForCausalLM", NULL};
static const char *const hf_keys[] = {"no_rope_layers", "use_sliding_window", "sliding_window",
                                      "layer_types",    "attention_bias",     NULL};

static const nb_hf_default defaults[] = {{"use_sliding_window", 0},
                                         {"num_key_value_heads", 4},
                                         {"max_position_embeddings", 32768},
                                         {"rope_theta", 2e6},
                                         {NULL, 0}};

const nb_family nb_family_smollm3 = {
    .name = "smollm3",
    .gguf_name = "smollm3",
    .hf_names = hf_names,
    .hf_keys = hf_keys,
    .hf_defaults = defaults,
    .gguf_rope_interleaved = true, /* converted as Llama is */
    .act = NB_ACT_SILU,
    .windowed = true,
    .unrotated_every = 4,
};
