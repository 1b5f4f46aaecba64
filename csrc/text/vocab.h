/* vocab.h -- what the files of this room share: the tokenizer's tables and its stages.
 *
 *   text -> special.c (control and user tokens cut out) -> normalize.c -> pretokenize.c -> bpe.c
 *
 * A byte-level vocabulary (GPT-2) spells bytes with printable characters; a SentencePiece-style one
 * spells a space as U+2581 and falls back to <0xXX> tokens. Strings are borrowed from the container
 * or lie in the arena; all is constant once open, so threads share a tokenizer. */
#ifndef NB_TEXT_VOCAB_H
#define NB_TEXT_VOCAB_H

#include "file/names.h"
#include "text/tokenizer.h"

enum { /* GGUF's numbers */
       NB_TOKEN_NORMAL = 1,
       NB_TOKEN_UNKNOWN,
       NB_TOKEN_CONTROL,
       NB_TOKEN_USER,
       NB_TOKEN_UNUSED,
       NB_TOKEN_BYTE
};
/* a special token takes the white space there; or counts only where no letter, digit or mark stands
 * beside it */
enum {
    NB_STRIP_LEFT = 1,
    NB_STRIP_RIGHT = 2,
    NB_SINGLE_WORD = 4,
    NB_ADDED_ONLY = 8 /* not in the model's own vocabulary: found whole in the text, never put
                          * together */
};
enum { NB_MAX_TOKENS = 4 << 20, NB_MAX_CUTS = 8, NB_MAX_STEPS = 16 };
enum { NB_MAX_TEXT_BYTES = 64 << 20 };

#define NB_SPACE_MARK "\xe2\x96\x81" /* U+2581 */

typedef struct nb_merge { /* left + right -> id, done in order of rank */
    int32_t left, right, rank, id;
} nb_merge;

typedef enum nb_step_kind {
    NB_STEP_PREPEND,
    NB_STEP_REPLACE,
    NB_STEP_FORM,     /* a Unicode normal form */
    NB_STEP_CHARSMAP, /* SentencePiece's table of replacements: from is its bytes */
    NB_STEP_SQUEEZE,  /* no spaces at the ends, one between words */
    NB_STEP_STRIP     /* no white space at the ends that form names: NB_STRIP_* */
} nb_step_kind;
typedef enum nb_prepend {                     /* what a run of plain text gets put before it */
                          NB_PREPEND_ALWAYS,  /* the text `to` */
                          NB_PREPEND_MISSING, /* unless the run begins with it or with a space */
                          NB_PREPEND_FIRST, /* the same, and only at the start of the whole text */
                          NB_PREPEND_START /* only at the start of the whole text, whatever it is */
} nb_prepend;

typedef struct nb_step { /* one step of normalization */
    nb_step_kind kind;
    nb_prepend when;
    int form; /* utf8proc options of a Unicode normal form */
    nb_str from, to;
} nb_step;

typedef struct nb_cut { /* one step of pre-tokenization */
    void *pattern;      /* pcre2_code */
    nb_str source;      /* the pattern as the tokenizer's file spells it; borrowed */
    bool drops_rest;    /* what lies between the matches is left out */
} nb_cut;

typedef struct nb_special nb_special; /* special.c */
typedef struct nb_unigram nb_unigram; /* unigram.c */

struct nb_tokenizer {
    nb_arena *arena;
    uint64_t seed; /* of the hashes below */
    bool byte_level;
    bool by_score;     /* join the pair whose token scores best; else the merge list */
    bool unigram;      /* by_score too, but the most probable spelling: unigram.c */
    bool whole_first;  /* a piece that is a token becomes it, whatever the merges say */
    bool fuse_unknown; /* a row of unknown characters is one unknown token */
    bool space_first;  /* a space before the whole text, unless it begins with a control token */
    bool drops_space;  /* decoding drops the space that encoding put before the text */
    bool cuts_at_mark; /* no token goes on behind a character with U+2581: cutting is exact */
    bool adds_bos, adds_eos;
    int32_t n, bos, eos, unknown, padding; /* -1: none */
    nb_str *token;                         /* [n] as the vocabulary spells it */
    nb_str *piece;        /* [n] what it stands for when text is put together again */
    float *score;         /* [n], by_score only */
    uint8_t *type;        /* [n] NB_TOKEN_* */
    uint8_t *strip;       /* [n] NB_STRIP_*, NB_SINGLE_WORD, NB_ADDED_ONLY */
    bool *is_end;         /* [n] */
    size_t longest;       /* bytes of the longest token that text is joined to */
    int32_t byte_id[256]; /* token of a single byte, -1 */
    int32_t *slot;        /* hash of spellings -> id, open addressing, [n_slot], -1 empty */
    uint32_t n_slot;
    nb_merge *merge; /* hash of (left, right), [n_merge_slot], left -1 empty */
    uint32_t n_merge_slot;
    nb_special *special;
    nb_unigram *unigram_list;
    nb_step step[NB_MAX_STEPS];
    int n_step;
    nb_cut cut[NB_MAX_CUTS]; /* applied one inside the other */
    int n_cut;
    const char *chat_template;
    size_t chat_template_n;
};

/* ---- vocab.c: spellings and merges ---- */

/* The token spelled so, -1 if absent. Control and byte tokens are found too, but not where text is
 * joined by score (SentencePiece keeps them apart). */
int32_t nb_vocab_find(const nb_tokenizer *t, const char *p, size_t n);
const nb_merge *nb_vocab_merge(const nb_tokenizer *t, int32_t left, int32_t right);
/* Allocates the arrays of n tokens: no text, type unused. */
nb_status nb_vocab_reserve(nb_tokenizer *t, int32_t n, nb_error *err) NB_CHECKED;
/* Once token, type and the flags are set: the hash of spellings. */
nb_status nb_vocab_index(nb_tokenizer *t, nb_error *err) NB_CHECKED;
nb_status nb_vocab_open_merges(nb_tokenizer *t, size_t n, nb_error *err) NB_CHECKED;
/* Adds merge number `rank`. offset: in the file, -1 unknown. NB_BAD_INPUT when a half or the result
 * is no token. */
nb_status nb_vocab_add_merge(nb_tokenizer *t, const char *path, int64_t offset, nb_str left,
                             nb_str right, int32_t rank, nb_error *err) NB_CHECKED;

/* All merges in order of rank, in the arena a. */
nb_status nb_vocab_merges(const nb_tokenizer *t, nb_arena *a, nb_merge **out, size_t *n,
                          nb_error *err) NB_CHECKED;

/* ---- spelling.c: what a token's spelling stands for ---- */

/* Fills piece, byte_id, is_end, longest and cuts_at_mark once the hash of spellings is there. */
nb_status nb_spelling_index(nb_tokenizer *t, const char *path, nb_error *err) NB_CHECKED;
/* Writes the byte-level spelling of n bytes, at most 2 n bytes long; returns its length. */
size_t nb_spelling_of_bytes(const char *p, size_t n, char *out);
/* The text with U+2581 as spaces to d (at most s.n bytes); returns its length. */
size_t nb_spelling_unmark(nb_str s, char *d);
/* "<0xAB>" to 0xAB, -1 for anything else. */
int nb_spelling_byte(nb_str s);

/* ---- opening ---- */

nb_status nb_vocab_from_gguf(nb_tokenizer *t, const nb_container *c, nb_error *err) NB_CHECKED;
nb_status nb_vocab_from_json(nb_tokenizer *t, const nb_container *c, nb_error *err) NB_CHECKED;
nb_status nb_vocab_from_spm(nb_tokenizer *t, const nb_container *c, nb_error *err) NB_CHECKED;

/* hub_config.c: the token that tokenizer_config.json names under a key (a string, or an object with
 * content), -1; the ids that end a text by generation_config.json and config.json (and eos, if it
 * is not known yet); the chat template. */
int32_t nb_hub_token(const nb_tokenizer *t, const nb_container *c, const char *key);
void nb_hub_read_ends(nb_tokenizer *t, const nb_container *c);
void nb_hub_read_chat_template(nb_tokenizer *t, const nb_container *c);

/* The parts of tokenizer.json around the vocabulary; a missing part is NULL. */
nb_status nb_json_read_normalizer(nb_tokenizer *t, const char *path, const nb_json_node *v,
                                  nb_error *err) NB_CHECKED;
nb_status nb_json_read_pretokenizer(nb_tokenizer *t, const char *path, const nb_json_node *v,
                                    nb_error *err) NB_CHECKED;
void nb_json_read_decoder(nb_tokenizer *t, const nb_json_node *v);

/* ---- special.c ---- */

typedef struct nb_hit { /* a special token in the text */
    size_t at;
    int32_t id;
} nb_hit;
typedef struct nb_hits { /* last in the text first */
    nb_hit *p;
    size_t n, cap;
} nb_hits;
nb_status nb_special_open(nb_tokenizer *t, nb_error *err) NB_CHECKED;
void nb_special_close(nb_special *s);
/* The longest token at every place that has one; they may overlap. Linear in n. */
nb_status nb_special_find(const nb_tokenizer *t, const char *p, size_t n, bool control,
                          nb_hits *out, nb_error *err) NB_CHECKED;

/* ---- normalize.c ---- */

extern const int nb_form_c; /* the step that is Unicode's normal form C */
/* charsmap.c: replaces the longest match of the table at every place. At most 64 steps a byte:
 * NB_BAD_INPUT for a table that is none. */
nb_status nb_charsmap_check(const char *path, nb_str table, nb_error *err) NB_CHECKED;
nb_status nb_charsmap_apply(nb_str table, const nb_buf *in, nb_buf *out, nb_error *err) NB_CHECKED;

/* Bytes of the white space character at p (Unicode White_Space), 0 if it is none. */
size_t nb_white(const char *p, size_t n);
/* The end of [from, end) without the white space at its end. */
size_t nb_strip_end(const char *p, size_t from, size_t end);
/* A run of plain text: guard bytes dropped, broken UTF-8 replaced, then the steps. a, b: scratch,
 * reused from run to run; *out is the one that holds the result. */
nb_status nb_normalize(const nb_tokenizer *t, const char *p, size_t n, bool first, nb_buf *a,
                       nb_buf *b, const nb_buf **out, nb_error *err) NB_CHECKED;

/* ---- pretokenize_names.c ---- */

/* Sets the cuts, whole_first and adds_bos by the name GGUF gives them; NB_UNSUPPORTED with the list
 * of names for another. */
nb_status nb_pretokenize_named(nb_tokenizer *t, const char *path, nb_str name,
                               nb_error *err) NB_CHECKED;
/* The name GGUF has for the cuts of t (a line feed written as itself or as \n is the same), NULL if
 * it has none. whole_first: which of the names that differ in this alone. */
const char *nb_pretokenize_name(const nb_tokenizer *t, bool whole_first);
/* GPT-2's words; lines and rows of line feeds */
extern const char nb_pretokenize_gpt2[], nb_pretokenize_lines[];

/* ---- pattern.c ---- */

/* The pattern as PCRE2 has to read it for the classes of Unicode 16; out is set up here, the
 * caller's to free. NB_UNSUPPORTED: a class inside a class. */
nb_status nb_pattern_rewrite(const char *path, int64_t offset, nb_str pattern, nb_buf *out,
                             nb_error *err) NB_CHECKED;

/* ---- pretokenize.c ---- */

/* pattern: borrowed as long as t lives. */
nb_status nb_pretokenize_add(nb_tokenizer *t, const char *path, int64_t offset, nb_str pattern,
                             bool drops_rest, nb_error *err) NB_CHECKED;
void nb_pretokenize_close(nb_tokenizer *t);

typedef struct nb_cutter { /* what matching needs, for one thread */
    void *match[NB_MAX_CUTS], *context;
    size_t steps; /* matches tried so far: what the tests bound */
} nb_cutter;
nb_status nb_cutter_open(const nb_tokenizer *t, nb_cutter *w, nb_error *err) NB_CHECKED;
void nb_cutter_close(nb_cutter *w);
/* Calls give for each piece of the text, in order. */
typedef nb_status (*nb_piece_fn)(void *arg, const char *p, size_t n, nb_error *err);
nb_status nb_pretokenize(const nb_tokenizer *t, nb_cutter *w, const char *p, size_t n,
                         nb_piece_fn give, void *arg, nb_error *err) NB_CHECKED;

/* ---- bpe.c ---- */

typedef struct nb_bpe { /* scratch of one thread, reused from piece to piece; zero it */
    struct nb_bpe_symbol *symbol;
    struct nb_bpe_head *heap;
    struct nb_bpe_pair *pair;
    char *spelling;
    size_t cap;
    struct nb_unigram_step *step; /* unigram.c */
    size_t n_step;
    size_t steps; /* pairs looked at so far: what the tests bound */
} nb_bpe;
void nb_bpe_close(nb_bpe *w);
/* Appends the ids of one piece (no special tokens in it). Cost O(n log n). */
nb_status nb_bpe_encode(const nb_tokenizer *t, nb_bpe *w, const char *p, size_t n, nb_ids *out,
                        nb_error *err) NB_CHECKED;
/* What became no token: its bytes as byte tokens, else the unknown token. *row: what came before
 * was unknown too. */
nb_status nb_bpe_fall_back(const nb_tokenizer *t, const char *p, size_t n, bool *row, nb_ids *out,
                           nb_error *err) NB_CHECKED;
nb_status nb_ids_add(nb_ids *v, int32_t id, nb_error *err) NB_CHECKED;

/* ---- unigram.c: the other way to spell a piece, where t->unigram ---- */

/* once scores and the hash of spellings are there */
nb_status nb_unigram_open(nb_tokenizer *t, nb_error *err) NB_CHECKED;
nb_status nb_unigram_encode(const nb_tokenizer *t, nb_bpe *w, const char *p, size_t n, nb_ids *out,
                            nb_error *err) NB_CHECKED;

#endif
