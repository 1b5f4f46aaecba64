/* tokenizer_json.c -- fuzz target: a tokenizer.json, a NUL byte, and a text for it (tokens.h says
 * what is promised). */
#include "fuzz/tokens.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nb_json *doc = NULL;
    nb_tokenizer *t = NULL;
    nb_error err = {0};
    const uint8_t *end = size ? memchr(data, 0, size) : NULL;
    const size_t n = end ? (size_t)(end - data) : size;
    const char *text = end ? (const char *)end + 1 : "a b";
    const size_t text_n = end ? size - n - 1 : 3;
    if (nb_json_parse("fuzz", (const char *)data, n, &doc, &err) != NB_OK)
        return 0;
    const nb_container made = {.kind = NB_CONTAINER_HF, .path = "fuzz", .tokenizer = doc};
    const nb_status st = nb_tokenizer_open(&made, &t, &err);
    FUZZ_PROMISE((st == NB_OK) == (t != NULL), "a tokenizer or a refusal");
    FUZZ_PROMISE(t || ((st == NB_BAD_INPUT || st == NB_UNSUPPORTED) && err.message[0]),
                 "a refusal has a sentence");
    if (t) {
        fuzz_encode(t, text, text_n, 0);
        fuzz_encode(t, text, text_n, NB_TOKENIZE_SPECIAL | NB_TOKENIZE_BOS);
    }
    nb_tokenizer_close(t);
    nb_json_close(doc);
    return 0;
}
