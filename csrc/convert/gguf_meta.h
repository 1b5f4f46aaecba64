/* gguf_meta.h -- the keys of a GGUF file, and what else a GGUF file says in numbers, for a model
 * that lies in a folder. */
#ifndef NB_CONVERT_GGUF_META_H
#define NB_CONVERT_GGUF_META_H

#include "model/model.h"

/* general.*, ARCHITECTURE.* and tokenizer.* of a model, on a writer whose header is not yet
 * written: copied from a GGUF file, made of config.json and the tokenizer's files for a folder.
 * file_type: general.file_type. NB_UNSUPPORTED: something that the decoder needs has no key. */
nb_status nb_gguf_meta(const nb_model *m, uint32_t file_type, nb_gguf_writer *w,
                       nb_error *err) NB_CHECKED;

/* general.file_type of a file whose matrices are mostly of format t. */
uint32_t nb_gguf_file_type(const nb_dtype *t);

/* The divisors of the frequencies, [rope_dim / 2], that stand for the llama3 rule: GGUF's
 * rope_freqs.weight. */
void nb_gguf_rope_factors(const nb_hparams *hp, float *factor);

#endif
