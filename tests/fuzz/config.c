/* config.c -- fuzz target: config.json to the numbers of a model, beside the tensors of a small
 * one. What is accepted keeps the limits that the rest relies on. */
#include "fuzz/fuzz.h"
#include "model/family.h"

#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nb_json *doc = NULL;
    nb_error err = {.offset = -1};
    const nb_family *family = NULL;
    nb_hparams hp;
    if (nb_json_parse("config.json", (const char *)data, size, &doc, &err) != NB_OK)
        return 0;
    static nb_container *c; /* opened once, never closed */
    if (!c)
        FUZZ_PROMISE(nb_container_open(NB_SOURCE_DIR "/tests/data/models/tiny-llama", &c, NULL) ==
                         NB_OK,
                     "the tensors of tiny-llama");
    const nb_json *own = c->config;
    c->config = doc;
    const nb_status st = nb_hparams_read(c, &family, &hp, &err);
    c->config = own;
    FUZZ_PROMISE(st == NB_OK || st == NB_BAD_INPUT || st == NB_UNSUPPORTED,
                 "a config is read, wrong or unsupported");
    FUZZ_PROMISE(st == NB_OK || err.message[0], "a refusal has its sentence");
    if (st == NB_OK) {
        FUZZ_PROMISE(family != NULL, "a family");
        FUZZ_PROMISE(hp.n_head >= 1 && hp.n_kv_head >= 1 && hp.n_head % hp.n_kv_head == 0, "heads");
        FUZZ_PROMISE(hp.head_dim >= 1 && hp.head_dim <= NB_MAX_ROPE_DIM && hp.rope_dim >= 2 &&
                         hp.rope_dim % 2 == 0 && hp.rope_dim <= hp.head_dim,
                     "rope");
        FUZZ_PROMISE(hp.vocab_size >= 1 && hp.hidden_size >= 1 && hp.intermediate_size >= 1 &&
                         hp.n_layer >= 1 && hp.ctx_len >= 1,
                     "sizes");
        FUZZ_PROMISE(hp.norm_eps > 0.0f && hp.norm_eps < 1.0f, "epsilon");
        for (int i = 0; i < hp.rope_dim / 2; i++)
            FUZZ_PROMISE(isfinite(hp.inv_freq[i]) && hp.inv_freq[i] >= 0.0f, "frequencies");
    }
    nb_json_close(doc);
    return 0;
}
