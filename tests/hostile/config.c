/* config.c -- hostile and unusual config.json files (hardening.md CF): each is one edit of a
 * checkpoint that opens, and is refused with its code and a sentence before any memory is taken for
 * it. */
#include "base/mapfile.h"
#include "check.h"
#include "hostile/folder.h"
#include "nibble.h"

#define MANY "99999999999"

typedef struct edit {
    const char *what, *model; /* tests/data/models/tiny-MODEL */
    const char *find, *put;
    nb_status want;
    const char *word; /* of the sentence */
} edit;

static const edit edits[] = {
    {"cf-zero", "llama", "\"num_attention_heads\": 4", "\"num_attention_heads\": 0", NB_BAD_INPUT,
     "num_attention_heads is 0"},
    {"cf-zero", "llama", "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 0", NB_BAD_INPUT,
     "number of KV heads is 0"},
    {"cf-zero", "llama", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 0", NB_BAD_INPUT,
     "number of layers is 0"},
    {"cf-zero", "llama", "\"hidden_size\": 64", "\"hidden_size\": 0", NB_BAD_INPUT,
     "hidden size is 0"},
    {"cf-zero", "llama", "\"vocab_size\": 272", "\"vocab_size\": 0", NB_BAD_INPUT,
     "vocabulary size is 0"},
    {"cf-zero", "llama", "\"head_dim\": 16", "\"head_dim\": 0", NB_BAD_INPUT,
     "head dimension is 0"},
    {"cf-zero", "llama", "\"intermediate_size\": 128", "\"intermediate_size\": 0", NB_BAD_INPUT,
     "intermediate size is 0"},
    {"cf-huge", "llama", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1025", NB_BAD_INPUT,
     "number of layers is 1025, it must be 1 to 1024"},
    {"cf-huge", "llama", "\"num_attention_heads\": 4", "\"num_attention_heads\": 1028",
     NB_BAD_INPUT, "number of heads is 1028"},
    {"cf-huge", "llama", "\"hidden_size\": 64", "\"hidden_size\": 131073", NB_BAD_INPUT,
     "hidden size is 131073"},
    {"cf-huge", "llama", "\"vocab_size\": 272", "\"vocab_size\": 4194305", NB_BAD_INPUT,
     "vocabulary size is 4194305"},
    {"cf-huge", "llama", "\"max_position_embeddings\": 512", "\"max_position_embeddings\": " MANY,
     NB_BAD_INPUT, "context length is 2147483647"},
    {"cf-huge", "llama", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": -" MANY, NB_BAD_INPUT,
     "number of layers is -2147483648"},
    {"cf-huge", "llama", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1000", NB_BAD_INPUT,
     "model.layers.2.input_layernorm.weight is missing"},
    {"cf-huge", "mixtral", "\"num_local_experts\": 4", "\"num_local_experts\": 4097", NB_BAD_INPUT,
     "number of experts is 4097"},
    {"cf-huge", "mixtral", "\"num_local_experts\": 4", "\"num_local_experts\": 0", NB_BAD_INPUT,
     "number of experts a token uses is 2"},
    {"cf-huge", "mixtral", "\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 5", NB_BAD_INPUT,
     "number of experts a token uses is 5, it must be 1 to 4"},
    {"cf-huge", "mixtral", "\"num_local_experts\": 4", "\"num_local_experts\": 5", NB_BAD_INPUT,
     "experts.4.w1.weight is missing"},
    {"heads", "llama", "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3", NB_BAD_INPUT,
     "4 heads are no multiple of 3 KV heads"},
    {"odd rope", "llama", "\"head_dim\": 16", "\"head_dim\": 17", NB_BAD_INPUT,
     "rotary dimension 17"},
    {"odd rope", "phi3", "\"partial_rotary_factor\": 0.5", "\"partial_rotary_factor\": 1.5",
     NB_BAD_INPUT, "rotary dimension 0"},
    {"head_dim", "llama", "\"head_dim\": 16", "\"head_dim\": 32", NB_BAD_INPUT,
     "q_proj.weight has shape [64,64], the metadata asks for [128,64]"},
    {"head_dim", "phi3", "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 4", NB_BAD_INPUT,
     "qkv_proj.weight has shape"},
    {"cf-rope", "llama", "\"rope_theta\": 500000.0", "\"rope_theta\": 0", NB_BAD_INPUT,
     "rope theta is 0"},
    {"cf-rope", "llama", "\"rope_theta\": 500000.0", "\"rope_theta\": -1", NB_BAD_INPUT,
     "rope theta is -1"},
    {"cf-rope", "llama", "\"rope_theta\": 500000.0", "\"rope_theta\": \"NaN\"", NB_BAD_INPUT,
     "\"rope_theta\" is no number"},
    {"cf-rope", "llama", "\"factor\": 8.0", "\"factor\": 0", NB_BAD_INPUT, "llama3 needs factor"},
    {"cf-rope", "gemma3", "\"factor\": 8.0", "\"factor\": 0", NB_BAD_INPUT,
     "rope scaling factor is 0"},
    {"cf-rope", "llama", "\"rope_type\": \"llama3\"", "\"rope_type\": \"yarn\"", NB_UNSUPPORTED,
     "rope scaling \"yarn\", known: default, linear, llama3"},
    {"cf-rope", "phi3", "\"rope_scaling\": null",
     "\"rope_scaling\": {\"type\": \"longrope\", \"long_factor\": [1]}", NB_UNSUPPORTED,
     "rope scaling \"longrope\""},
    {"cf-rope", "phi3", "\"rope_scaling\": null", "\"rope_scaling\": \"linear\"", NB_BAD_INPUT,
     "names no rope_type"},
    {"cf-rope", "gemma3", "\"rope_local_base_freq\": 10000.0", "\"rope_local_base_freq\": -2",
     NB_BAD_INPUT, "rope theta is -2"},
    {"eps", "llama", "\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": 0", NB_BAD_INPUT,
     "norm epsilon is 0"},
    {"eps", "llama", "\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": -1", NB_BAD_INPUT,
     "norm epsilon is -1"},
    {"types", "llama", "\"hidden_size\": 64", "\"hidden_size\": \"64\"", NB_BAD_INPUT,
     "\"hidden_size\" is no integer"},
    {"types", "llama", "\"hidden_size\": 64", "\"hidden_size\": null", NB_BAD_INPUT,
     "lacks \"hidden_size\""},
    {"types", "llama", "\"attention_bias\": false", "\"attention_bias\": 0", NB_BAD_INPUT,
     "\"attention_bias\" is neither true nor false"},
    {"types", "llama", "\"LlamaForCausalLM\"", "7", NB_BAD_INPUT, "lacks \"architectures\""},
    {"types", "mistral", "\"sliding_window\": 8", "\"sliding_window\": -8", NB_BAD_INPUT,
     "sliding window is -8"},
    {"types", "gemma3", "\"sliding_window_pattern\": 2", "\"sliding_window_pattern\": -2",
     NB_BAD_INPUT, "sliding_window_pattern is -2"},
    {"types", "gemma3", "\"sliding_window_pattern\": 2", "\"layer_types\": [\"full_attention\"]",
     NB_BAD_INPUT, "layer_types has 1 entries for 2 layers"},
    {"types", "gemma3", "\"sliding_window_pattern\": 2", "\"layer_types\": [\"linear_attention\"]",
     NB_UNSUPPORTED, "layer type \"linear_attention\""},
    {"types", "smollm3", "\"no_rope_layers\": [\n  1", "\"no_rope_layers\": [\n  2", NB_BAD_INPUT,
     "no_rope_layers holds something other than 0 and 1"},
    {"types", "smollm3", "\"no_rope_layers\": [\n  1,", "\"no_rope_layers\": [", NB_BAD_INPUT,
     "no_rope_layers has 3 entries for 4 layers"},
    {"types", "smollm3", "\"no_rope_layers\": [\n  1", "\"no_rope_layers\": 7, \"unused\": [\n  1",
     NB_BAD_INPUT, "no_rope_layers has 0 entries for 4 layers"},
    {"types", "smollm3", "\"no_rope_layer_interval\": 4", "\"no_rope_layer_interval\": 0",
     NB_BAD_INPUT, "no_rope_layer_interval is 0"},
    {"scales", "gemma2", "\"query_pre_attn_scalar\": 24", "\"query_pre_attn_scalar\": 0",
     NB_BAD_INPUT, "scale of attention"},
    {"scales", "gemma2", "\"attn_logit_softcapping\": 4.0", "\"attn_logit_softcapping\": -4.0",
     NB_BAD_INPUT, "soft cap of attention is -4"},
    {"scales", "granite", "\"logits_scaling\": 4.0", "\"logits_scaling\": 0", NB_BAD_INPUT,
     "divisor of the logits is 0"},
    {"cf-tied-lie", "qwen2", "\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false",
     NB_BAD_INPUT, "lm_head.weight is missing"},
    {"tokens", "llama", "\"bos_token_id\": 256", "\"bos_token_id\": 272", NB_BAD_INPUT,
     "\"bos_token_id\" is 272, the vocabulary has 272"},
    {"tokens", "llama", "\"eos_token_id\": 257", "\"eos_token_id\": [257, 300]", NB_BAD_INPUT,
     "\"eos_token_id\" is 300"},
    {"tokens", "llama", "\"eos_token_id\": 257", "\"eos_token_id\": \"x\"", NB_BAD_INPUT,
     "\"eos_token_id\" is no integer"},
    {"unknown", "llama", "LlamaForCausalLM", "MambaForCausalLM", NB_UNSUPPORTED,
     "unknown architecture \"MambaForCausalLM\", known: llama, mistral, qwen2, qwen3, gemma2, "
     "gemma3, phi3, granite, smollm3, mixtral, qwen3_moe"},
    {"cf-auto-map", "llama", "\"architectures\"",
     "\"auto_map\": {\"AutoModelForCausalLM\": \"modeling_x.LlamaForCausalLM\"}, \"architectures\"",
     NB_UNSUPPORTED,
     "config.json: auto_map asks for the publisher's own code, modeling_x.LlamaForCausalLM, which "
     "is never run"},
    {"cf-auto-map", "phi3", "\"architectures\"",
     "\"auto_map\": {\"AutoConfig\": \"\\u001b[31m\"}, \"architectures\"", NB_UNSUPPORTED,
     "own code, \\x1b[31m,"},
    {"cf-auto-map", "llama", "LlamaForCausalLM\"\n ]",
     "MambaForCausalLM\"\n ], \"auto_map\": {\"AutoModel\": [\"a--b.C\", null]}", NB_UNSUPPORTED,
     "own code, a--b.C,"},
    {"cf-auto-map", "llama", "\"architectures\"", "\"auto_map\": 7, \"architectures\"",
     NB_UNSUPPORTED, "auto_map asks for"},
    {"activation", "llama", "\"hidden_act\": \"silu\"", "\"hidden_act\": \"relu2\"", NB_UNSUPPORTED,
     "activation \"relu2\""},
    {"biases", "llama", "\"attention_bias\": false", "\"attention_bias\": true", NB_BAD_INPUT,
     "q_proj.bias is missing"},
    {"biases", "llama", "\"mlp_bias\": false", "\"mlp_bias\": true", NB_UNSUPPORTED, "mlp_bias"},
    {"biases", "qwen2", "Qwen2ForCausalLM\"\n ]",
     "LlamaForCausalLM\"\n ], \"attention_bias\": false", NB_UNSUPPORTED,
     "is not part of a llama model whose config denies biases"},
    {"biases", "qwen3", "Qwen3ForCausalLM", "Qwen2ForCausalLM", NB_BAD_INPUT,
     "q_proj.bias is missing"},
    {"norms", "qwen3", "Qwen3ForCausalLM", "LlamaForCausalLM", NB_UNSUPPORTED,
     "norm.weight is not part of a llama model"},
    {"mixtures", "qwen3_moe", "\"mlp_only_layers\": []", "\"mlp_only_layers\": [1]", NB_UNSUPPORTED,
     "some layers are mixtures"},
    {"mixtures", "qwen3_moe", "\"decoder_sparse_step\": 1", "\"decoder_sparse_step\": 2",
     NB_UNSUPPORTED, "some layers are mixtures"},
};

/* The model's folder with the edit (none when find is ""), its weights linked. */
static nb_status open_edited(check *c, const edit *e, nb_error *err)
{
    const nb_model_options o = {.device = "cpu", .exact = true, .n_thread = 1};
    const folder d = folder_new();
    char from[1024], to[1024];
    nb_mapfile *f = NULL;
    nb_model *m = NULL;
    snprintf(from, sizeof from, "%s/tests/data/models/tiny-%s/config.json", NB_SOURCE_DIR,
             e->model);
    CHECK_EQ(c, nb_mapfile_open(from, &f, err), NB_OK);
    if (!f)
        return NB_OK;
    char *text = calloc(f->n + 1 + strlen(e->put), 1);
    memcpy(text, f->p, f->n);
    nb_mapfile_close(f);
    char *at = strstr(text, e->find);
    if (!at)
        check_report(c, __FILE__, __LINE__, "tiny-%s has no %s", e->model, e->find);
    else {
        memmove(at + strlen(e->put), at + strlen(e->find), strlen(at + strlen(e->find)) + 1);
        memcpy(at, e->put, strlen(e->put));
    }
    folder_write(&d, "config.json", text, strlen(text));
    free(text);
    snprintf(from, sizeof from, "%s/tests/data/models/tiny-%s/model.safetensors", NB_SOURCE_DIR,
             e->model);
    char *real = realpath(from, NULL);
    /* a symbolic link out of the folder is refused */
    CHECK(c, real && link(real, folder_in(&d, "model.safetensors", to)) == 0);
    free(real);
    const nb_status st = nb_model_open(d.path, &o, &m, err);
    nb_model_close(m);
    folder_gone(&d);
    return st;
}

static void every_edit(check *c)
{
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        nb_error err = {.message = ""};
        const nb_status st = open_edited(c, &edits[i], &err);
        c->n_check++;
        if (st != edits[i].want || !strstr(err.message, edits[i].word) ||
            !strstr(err.message, "test-"))
            check_report(c, __FILE__, __LINE__,
                         "%s, %s in tiny-%s: status %d, \"%s\"; expected %d, \"%s\"", edits[i].what,
                         edits[i].put, edits[i].model, (int)st, err.message, (int)edits[i].want,
                         edits[i].word);
    }
}

/* What means the same must open. */
static void harmless(check *c)
{
    static const edit same[] = {
        {"", "llama", "", "", NB_OK, ""},
        {"biases by tensor", "qwen2", "Qwen2ForCausalLM", "LlamaForCausalLM", NB_OK, ""},
        {"-1 for none", "llama", "\"bos_token_id\": 256", "\"bos_token_id\": -1", NB_OK, ""},
        {"no code", "llama", "\"architectures\"", "\"auto_map\": {}, \"architectures\"", NB_OK, ""},
        {"none at all", "llama", "\"architectures\"", "\"auto_map\": null, \"architectures\"",
         NB_OK, ""},
        {"several ends", "llama", "\"eos_token_id\": 257", "\"eos_token_id\": [257, 1]", NB_OK, ""},
        {"no window", "mistral", "\"sliding_window\": 8", "\"sliding_window\": null", NB_OK, ""},
        {"layer types", "gemma3", "\"sliding_window_pattern\": 2",
         "\"layer_types\": [\"sliding_attention\", \"full_attention\"]", NB_OK, ""},
        {"the interval alone", "smollm3", "\"no_rope_layers\"", "\"unused\"", NB_OK, ""},
        {"no types", "smollm3", "\"layer_types\"", "\"unused\"", NB_OK, ""},
    };
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        nb_error err = {.message = ""};
        CHECK_EQ(c, open_edited(c, &same[i], &err), NB_OK);
        CHECK_STR(c, err.message, "");
    }
}

static const check_case cases[] = {
    {"every bad config is refused with its code and a sentence that names the file", every_edit},
    {"an unusual config that means the same opens", harmless},
};
CHECK_MAIN(cases)
