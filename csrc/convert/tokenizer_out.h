/* tokenizer_out.h -- a checkpoint's tokenizer in the other container's words, with the same ids for
 * the same text.
 *
 * Both directions read the source with the program's own reader (text/), so that what is written is
 * what was understood; a tokenizer that the reader refuses, or that the other container has no
 * words for, is refused here (NB_UNSUPPORTED). */
#ifndef NB_CONVERT_TOKENIZER_OUT_H
#define NB_CONVERT_TOKENIZER_OUT_H

#include "base/text.h"
#include "file/container.h"

/* GGUF to the hub: the texts of tokenizer.json and tokenizer_config.json (which carries the chat
 * template), as transformers' AutoTokenizer loads them. A vocabulary joined by scores becomes BPE
 * with the merges that the scores mean. The texts are the caller's to free, also on failure. */
nb_status nb_tokenizer_to_json(const nb_container *src, nb_text *tokenizer_json,
                               nb_text *tokenizer_config_json, nb_error *err) NB_CHECKED;

/* The hub to GGUF: declares tokenizer.ggml.{model, pre, tokens, scores, token_type, merges,
 * *_token_id, add_bos_token, add_eos_token, add_space_prefix} and tokenizer.chat_template on a
 * writer whose header is not yet written. Ids without a token up to config.json's vocab_size become
 * unused tokens "[PAD7]": llama.cpp wants as many tokens as the embedding has rows.
 *
 * Two things GGUF cannot say are left out, as other converters do: Unicode normal form C (Qwen),
 * and that a special token takes the white space beside it. NB_UNSUPPORTED, with the reason: a
 * pattern that tokenizer.ggml.pre has no name for, a normalizer it has no key for, merges that no
 * scores stand for. */
nb_status nb_tokenizer_to_gguf(const nb_container *src, nb_gguf_writer *w,
                               nb_error *err) NB_CHECKED;

#endif
