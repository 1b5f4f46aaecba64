/* tiny_gguf.h -- a random Llama as a GGUF file, for tests that need a whole model that nobody has
 * to fetch: F16 matrices, F32 norms, a vocabulary of the 256 bytes and some letters. The same shape
 * gives the same bytes. */
#ifndef NB_TESTS_TINY_GGUF_H
#define NB_TESTS_TINY_GGUF_H

#include "base/status.h"
#include "hostile/folder.h"

typedef struct tiny_shape {
    int n_layer, hidden, ffn, n_head, n_kv_head, ctx;
} tiny_shape;

enum { TINY_VOCAB = 288 }; /* <unk> <s> </s>, <0x00> .. <0xFF>, U+2581, a .. z, two pairs */

nb_status tiny_gguf_write(const char *path, const tiny_shape *s, nb_error *err) NB_CHECKED;

/* The same as `name` in the folder of a test, which ends with a sentence where that fails. */
void tiny_gguf_in(const folder *d, const char *name, const tiny_shape *s);

#endif
