/* vocab.h -- what the files of this room share: the tokenizer's tables.
 *
 * Two kinds of byte-pair encoding share one merge loop (bpe.c). A byte-level vocabulary (GPT-2) spells bytes with printable characters; its tokens are
 * turned into the bytes themselves when it is opened. A SentencePiece-style one spells a space as U+2581 and falls back to <0xXX> tokens. */
#ifndef NB_TEXT_VOCAB_H
#define NB_TEXT_VOCAB_H

#include "text/tokenizer.h"

enum { NB_TOKEN_NORMAL = 1, NB_TOKEN_UNKNOWN, NB_TOKEN_CONTROL, NB_TOKEN_USER, NB_TOKEN_UNUSED, NB_TOKEN_BYTE }; /* GGUF's numbers */

typedef struct nb_merge { /* left + right -> id, done in order of rank */
    int32_t left, right, rank, id;
} nb_merge;

enum { NB_MAX_PATTERNS = 2 };

struct nb_tokenizer {
    nb_arena *arena;
    bool byte_level;
    bool by_score;     /* SentencePiece: the pair whose joined token scores best; else the merge list */
    bool space_prefix; /* a space before each run of plain text */
    bool adds_bos, adds_eos;
    int32_t n, bos, eos, unknown;
    nb_str *token;   /* [n] as the vocabulary spells it */
    nb_str *bytes;   /* [n] what it stands for in the text that is encoded (U+2581 still in it) */
    nb_str *piece;   /* [n] what it stands for when text is put together again */
    float *score;    /* [n], by_score only */
    uint8_t *type;   /* [n] NB_TOKEN_* */
    bool *is_end;    /* [n] */
    int32_t byte_id[256]; /* token of a single byte, -1 */
    int32_t *slot;   /* hash of bytes -> id, open addressing, [n_slot], -1 empty */
    uint32_t n_slot;
    nb_merge *merge; /* hash of (left, right), [n_merge_slot], left -1 empty */
    uint32_t n_merge_slot;
    int32_t *special[256]; /* control and user tokens by first byte, longest first */
    int32_t n_special[256];
    void *pattern[NB_MAX_PATTERNS]; /* pcre2_code, applied one inside the other */
    int n_pattern;
    const char *chat_template;
    size_t chat_template_n;
};

int32_t nb_vocab_find(const nb_tokenizer *t, const char *p, size_t n); /* -1 if absent */
const nb_merge *nb_vocab_merge(const nb_tokenizer *t, int32_t left, int32_t right);

/* After token, type and the flags are set: bytes, pieces, hashes, specials. */
nb_status nb_vocab_index(nb_tokenizer *t, const char *path, nb_error *err) NB_CHECKED;
/* Adds merge number `rank` of the two spelled halves. NB_BAD_INPUT when a half or the result is no token. */
nb_status nb_vocab_open_merges(nb_tokenizer *t, size_t n, nb_error *err) NB_CHECKED;
nb_status nb_vocab_add_merge(nb_tokenizer *t, const char *path, nb_str left, nb_str right, int32_t rank, nb_error *err) NB_CHECKED;

nb_status nb_vocab_from_gguf(nb_tokenizer *t, const nb_container *c, nb_error *err) NB_CHECKED;
nb_status nb_vocab_from_json(nb_tokenizer *t, const nb_container *c, nb_error *err) NB_CHECKED;

/* Pre-tokenizer patterns by the name GGUF gives them; NB_UNSUPPORTED with the list for another. */
nb_status nb_pretokenize_open(nb_tokenizer *t, const char *path, nb_str name, nb_error *err) NB_CHECKED;
void nb_pretokenize_close(nb_tokenizer *t);
/* Calls give for each piece of the text, in order. */
typedef nb_status (*nb_piece_fn)(void *arg, const char *p, size_t n, nb_error *err);
nb_status nb_pretokenize(const nb_tokenizer *t, const char *p, size_t n, nb_piece_fn give, void *arg, nb_error *err) NB_CHECKED;

/* Appends the ids of one piece (no control tokens in it). Cost O(n log n). */
nb_status nb_bpe_encode(const nb_tokenizer *t, const char *p, size_t n, nb_ids *out, nb_error *err) NB_CHECKED;
nb_status nb_ids_add(nb_ids *v, int32_t id, nb_error *err) NB_CHECKED;

/* Length of the UTF-8 character at p (n > 0 bytes left), 0 when it is broken. */
static inline int nb_utf8_length(const char *p, size_t n)
{
    const unsigned char *s = (const unsigned char *)p;
    const int len = s[0] < 0x80 ? 1 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : s[0] >= 0xe0 && s[0] < 0xf0 ? 3 : s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : 0;
    if (len == 0 || (size_t)len > n)
        return 0;
    for (int i = 1; i < len; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    const bool low = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
    const bool high = (s[0] == 0xed && s[1] >= 0xa0) || (s[0] == 0xf4 && s[1] >= 0x90);
    return low || high ? 0 : len;
}

#endif
