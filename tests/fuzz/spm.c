/* spm.c -- fuzz target: a byte n, n bytes of text, and a tokenizer.model (tokens.h says what is
 * promised). */
#include "fuzz/tokens.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nb_tokenizer *t = NULL;
    nb_error err = {0};
    const size_t n = size ? data[0] < size - 1 ? data[0] : size - 1 : 0;
    const char *text = size ? (const char *)data + 1 : "";
    const uint8_t *model = size ? data + 1 + n : data;
    const nb_container made = {.kind = NB_CONTAINER_HF,
                               .path = "fuzz",
                               .tokenizer_model = model ? model : (const uint8_t *)"",
                               .tokenizer_model_bytes = size ? size - 1 - n : 0};
    const nb_status st = nb_tokenizer_open(&made, &t, &err);
    FUZZ_PROMISE((st == NB_OK) == (t != NULL), "a tokenizer or a refusal");
    FUZZ_PROMISE(t || ((st == NB_BAD_INPUT || st == NB_UNSUPPORTED) && err.message[0]),
                 "a refusal has a sentence");
    if (t) {
        fuzz_encode(t, text, n, 0);
        fuzz_encode(t, text, n, NB_TOKENIZE_SPECIAL | NB_TOKENIZE_BOS);
    }
    nb_tokenizer_close(t);
    return 0;
}
