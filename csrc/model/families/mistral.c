/* mistral.c -- Mistral 7B and its kin (Jiang et al. 2023): Llama's decoder, in some versions with a
 * sliding window over all layers. GGUF files of it call themselves "llama" and have no key for the
 * window unless their writer added one. */
#include "model/family.h"

static const char *const hf_names[] = {"MistralForCausalLM", NULL};
static const char *const hf_keys[] = {"sliding_window", NULL};

/* a null in the file is none */
static const nb_hf_default defaults[] = {{"sliding_window", 4096}, {NULL, 0}};

const nb_family nb_family_mistral = {
    .name = "mistral",
    .gguf_name = "llama",
    .hf_names = hf_names,
    .hf_keys = hf_keys,
    .hf_defaults = defaults,
    .gguf_rope_interleaved = true,
    .act = NB_ACT_SILU,
    .windowed = true,
};
