/* safetensors.c -- fuzz target: what is accepted covers its file exactly, every tensor can be read,
 * no name comes twice. */
#include "file/container.h"
#include "fuzz/fuzz.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nb_safetensors *s = NULL;
    nb_error err = {0};
    const nb_status st = nb_safetensors_parse("fuzz", data, size, &s, &err);
    FUZZ_PROMISE((st == NB_OK) == (s != NULL), "a directory or a refusal");
    if (!s) {
        FUZZ_PROMISE((st == NB_BAD_INPUT || st == NB_UNSUPPORTED) && err.message[0],
                     "a refusal is the file's fault");
        return 0;
    }
    uint64_t at = 0;
    memcpy(&at, data, sizeof at);
    at += 8;
    volatile uint8_t sum = 0;
    for (int64_t i = 0; i < s->n_tensor; i++) {
        const nb_tensor *t = &s->tensor[i];
        FUZZ_PROMISE(t->offset == at && t->data == data + at && t->bytes <= size - at, "a range");
        for (size_t k = 0; k < t->bytes; k++)
            sum = (uint8_t)(sum + t->data[k]);
        at += t->bytes;
        for (int64_t k = 0; k < i && i < 64; k++)
            FUZZ_PROMISE(strcmp(s->tensor[k].name, t->name) != 0, "names are unique");
    }
    FUZZ_PROMISE(at == size, "the data are covered");
    nb_safetensors_close(s);
    return 0;
}

#ifdef NB_FUZZ_ENGINE
/* Plain mutations die at the header's length: half of them get it repaired, to the last brace. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    size = LLVMFuzzerMutate(data, size, max_size);
    if (size > 8 && seed % 2) {
        uint64_t n = size;
        while (n > 8 && data[n - 1] != '}')
            n--;
        n -= 8;
        memcpy(data, &n, sizeof n);
    }
    return size;
}
#endif
