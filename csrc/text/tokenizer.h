/* tokenizer.h -- text to token ids and back: byte-level BPE (GPT-2 style), SentencePiece-style BPE
 * and unigram models, from GGUF keys, tokenizer.json or tokenizer.model. */
#ifndef NB_TEXT_TOKENIZER_H
#define NB_TEXT_TOKENIZER_H

#include "base/memory.h"
#include "file/container.h"

typedef struct nb_tokenizer nb_tokenizer;

typedef struct nb_ids { /* a growing list of ids; zero it, free with nb_ids_free */
    int32_t *p;
    size_t n, cap;
} nb_ids;
void nb_ids_free(nb_ids *v);

enum {
    NB_TOKENIZE_BOS = 1,     /* add BOS (and EOS) where the model asks for it */
    NB_TOKENIZE_SPECIAL = 2, /* control tokens in the text become their ids; without it they are
                                plain text (user-defined tokens always match) */
};

/* A byte that is in no UTF-8 text. Inside a piece of text it keeps a control token from being
 * recognised and is then dropped: the chat template marks user text with it, so that "<|im_end|>"
 * typed by a user never ends his turn. */
#define NB_TOKENIZE_GUARD '\xff'

nb_status nb_tokenizer_open(const nb_container *c, nb_tokenizer **out, nb_error *err) NB_CHECKED;
void nb_tokenizer_close(nb_tokenizer *t);

/* Appends the ids of n bytes. Broken UTF-8 is replaced by U+FFFD (but for the guard byte). Linear
 * in n but for the log of the longest word. NB_NO_ROOM over 64 MiB of text; NB_BAD_INPUT where the
 * tokenizer itself fails: a pattern over its budget, a character it has no token for. */
nb_status nb_tokenizer_encode(const nb_tokenizer *t, const char *text, size_t n, unsigned flags,
                              nb_ids *out, nb_error *err) NB_CHECKED;

/* The bytes token id stands for when text is put together again: "" for control tokens, raw bytes
 * for byte tokens (may be part of a character). NULL when id is out of range. */
const char *nb_tokenizer_piece(const nb_tokenizer *t, int32_t id, size_t *n);
/* The token as the vocabulary spells it (for `nibble tokenize`), NULL when out of range. */
const char *nb_tokenizer_token(const nb_tokenizer *t, int32_t id, size_t *n);

int32_t nb_tokenizer_vocab_size(const nb_tokenizer *t);
int32_t nb_tokenizer_bos(const nb_tokenizer *t);     /* -1 if none */
int32_t nb_tokenizer_eos(const nb_tokenizer *t);     /* -1 if none */
int32_t nb_tokenizer_padding(const nb_tokenizer *t); /* -1 if none */
bool nb_tokenizer_adds_bos(const nb_tokenizer *t);
bool nb_tokenizer_is_end(const nb_tokenizer *t,
                         int32_t id); /* end of generation: EOS, end of turn */
bool nb_tokenizer_is_control(const nb_tokenizer *t, int32_t id);
/* The chat template's Jinja source, NULL if the model has none. */
const char *nb_tokenizer_chat_template(const nb_tokenizer *t, size_t *n);

/* Streaming detokenizer: holds back bytes until they are whole UTF-8 characters; the space that
 * encoding put before a text is dropped from the first token. An id beyond the vocabulary stands
 * for nothing (models have padding rows); a negative one is NB_BAD_INPUT. */
typedef struct nb_detok {
    const nb_tokenizer *t;
    char pending[8];
    int n_pending;
    bool started;
    bool special; /* control tokens as the vocabulary spells them; otherwise they stand for
                   * nothing */
} nb_detok;
void nb_detok_init(nb_detok *d, const nb_tokenizer *t);
nb_status nb_detok_push(nb_detok *d, int32_t id, nb_buf *out,
                        nb_error *err) NB_CHECKED; /* appends whole characters */
nb_status nb_detok_flush(nb_detok *d, nb_buf *out,
                         nb_error *err) NB_CHECKED; /* broken rest becomes U+FFFD */

#endif
