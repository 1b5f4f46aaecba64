/* gguf_vocab.c -- GGUF files whose bytes are in order and whose vocabulary or architecture lies:
 * each is refused by who reads it, with the code and the word of its row. */
#include "hostile/rows.h"
#include "model/family.h"
#include "text/tokenizer.h"

/* A small vocabulary in the manner of SentencePiece; what a row changes of it. */
typedef struct vocabulary {
    const char *model, *last; /* "llama" and "<0x0A>" */
    uint32_t n_score, n_type; /* 3 and 3; kNone: the key is missing */
    uint32_t type_elem, last_type, score_bits;
    const char *id_key; /* one more key of a token id */
    uint32_t id;
    int charsmap_n; /* -1: none */
    uint8_t charsmap[16];
} vocabulary;
enum { kTokens = 3, kNone = UINT16_MAX };
static const vocabulary kSound = {.model = "llama",
                                  .last = "<0x0A>",
                                  .n_score = kTokens,
                                  .n_type = kTokens,
                                  .type_elem = NB_GGUF_I32,
                                  .last_type = 6,
                                  .id_key = "tokenizer.ggml.bos_token_id",
                                  .charsmap_n = -1};

static void put_vocabulary(bytes *b, const vocabulary *v)
{
    put_head(b, 3, 0, 3u + (v->n_score != kNone) + (v->n_type != kNone) + (v->charsmap_n >= 0));
    put_key(b, "tokenizer.ggml.model", NB_GGUF_STRING);
    put_str(b, v->model);
    put_key_array(b, "tokenizer.ggml.tokens", NB_GGUF_STRING, kTokens);
    put_str(b, "<unk>");
    put_str(b, "a");
    put_str(b, v->last);
    if (v->n_score != kNone) {
        put_key_array(b, "tokenizer.ggml.scores", NB_GGUF_F32, v->n_score);
        for (uint32_t i = 0; i < v->n_score; i++)
            put_u32(b, v->score_bits);
    }
    if (v->n_type != kNone) {
        put_key_array(b, "tokenizer.ggml.token_type", v->type_elem, v->n_type);
        for (uint32_t i = 0; i < v->n_type; i++) {
            const uint32_t type = i == 0 ? 2 : i == 2 ? v->last_type : 1;
            if (v->type_elem == NB_GGUF_U8)
                put_u8(b, type);
            else
                put_u32(b, type);
        }
    }
    put_key_u32(b, v->id_key, v->id);
    if (v->charsmap_n >= 0) {
        put_key_array(b, "tokenizer.ggml.precompiled_charsmap", NB_GGUF_U8,
                      (uint64_t)v->charsmap_n);
        put(b, v->charsmap, (size_t)v->charsmap_n);
    }
    put_pad(b, 32);
}

/* ---- the vocabulary ---- */

static void sound(bytes *b)
{
    put_vocabulary(b, &kSound);
}

static void tokens_4mi_and_1(bytes *b) /* their count alone: the strings are empty */
{
    enum { kMany = (4 << 20) + 1 };
    put_head(b, 3, 0, 2);
    put_key(b, "tokenizer.ggml.model", NB_GGUF_STRING);
    put_str(b, "llama");
    put_key_array(b, "tokenizer.ggml.tokens", NB_GGUF_STRING, kMany);
    put_zeros(b, (size_t)kMany * 8);
}

static void tokens_0(bytes *b)
{
    put_head(b, 3, 0, 2);
    put_key(b, "tokenizer.ggml.model", NB_GGUF_STRING);
    put_str(b, "llama");
    put_key_array(b, "tokenizer.ggml.tokens", NB_GGUF_STRING, 0);
    put_zeros(b, 32);
}

#define VOCABULARY(name, ...)                                                                      \
    static void name(bytes *b)                                                                     \
    {                                                                                              \
        vocabulary v = kSound;                                                                     \
        __VA_ARGS__;                                                                               \
        put_vocabulary(b, &v);                                                                     \
    }
VOCABULARY(scores_2, v.n_score = 2)
VOCABULARY(scores_4, v.n_score = 4)
VOCABULARY(scores_absent, v.n_score = kNone)
VOCABULARY(types_4, v.n_type = 4)
VOCABULARY(types_2, v.n_type = 2)
VOCABULARY(types_absent, v.n_type = kNone)
VOCABULARY(types_u8, v.type_elem = NB_GGUF_U8)
VOCABULARY(type_7, v.last_type = 7)
VOCABULARY(type_minus_1, v.last_type = UINT32_MAX)
VOCABULARY(score_nan, v.score_bits = 0x7fc00000)
VOCABULARY(score_inf, v.score_bits = 0x7f800000)
VOCABULARY(bos_3, v.id = 3)
VOCABULARY(bos_2, v.id = 2)
VOCABULARY(bos_minus_1, v.id = UINT32_MAX)
VOCABULARY(eos_minus_1, v.id_key = "tokenizer.ggml.eos_token_id"; v.id = UINT32_MAX)
VOCABULARY(eos_3, v.id_key = "tokenizer.ggml.eos_token_id"; v.id = 3)
VOCABULARY(eot_2_31, v.id_key = "tokenizer.ggml.eot_token_id"; v.id = (uint32_t)1 << 31)
VOCABULARY(eom_3, v.id_key = "tokenizer.ggml.eom_token_id"; v.id = 3)
VOCABULARY(unknown_3, v.id_key = "tokenizer.ggml.unknown_token_id"; v.id = 3)
VOCABULARY(padding_minus_1, v.id_key = "tokenizer.ggml.padding_token_id"; v.id = UINT32_MAX)
VOCABULARY(separator_minus_1, v.id_key = "tokenizer.ggml.seperator_token_id"; v.id = UINT32_MAX)
VOCABULARY(charsmap_0, v.charsmap_n = 0)
VOCABULARY(charsmap_1, v.charsmap_n = 1)
VOCABULARY(charsmap_3, v.charsmap_n = 3)
VOCABULARY(charsmap_past_end, v.charsmap_n = 12; v.charsmap[0] = 12)
VOCABULARY(charsmap_2_32, v.charsmap_n = 12; memset(v.charsmap, 0xff, 4))
VOCABULARY(charsmap_odd, v.charsmap_n = 12; v.charsmap[0] = 7)
VOCABULARY(charsmap_whole, v.charsmap_n = 12; v.charsmap[0] = 8)
VOCABULARY(byte_zz, v.last = "<0xZZ>")
VOCABULARY(byte_minus_1, v.last = "<0x-1>")
VOCABULARY(byte_short, v.last = "<0xA>")
VOCABULARY(byte_long, v.last = "<0x0AA>")
VOCABULARY(byte_empty, v.last = "")
VOCABULARY(byte_open, v.last = "<0x0A")
VOCABULARY(model_bert, v.model = "bert\x1b")
VOCABULARY(model_gpt2, v.model = "gpt2"; v.last_type = 1)

static void charsmap_string(bytes *b)
{
    put_head(b, 3, 0, 5);
    put_key(b, "tokenizer.ggml.model", NB_GGUF_STRING);
    put_str(b, "llama");
    put_key_array(b, "tokenizer.ggml.tokens", NB_GGUF_STRING, 1);
    put_str(b, "<unk>");
    put_key_array(b, "tokenizer.ggml.scores", NB_GGUF_F32, 1);
    put_u32(b, 0);
    put_key_array(b, "tokenizer.ggml.token_type", NB_GGUF_I32, 1);
    put_u32(b, 2);
    put_key(b, "tokenizer.ggml.precompiled_charsmap", NB_GGUF_STRING);
    put_str(b, "abcd");
}

#define BAD NB_BAD_INPUT
#define ROW(sentence, build, want, word)                                                           \
    {                                                                                              \
        sentence, build, NULL, 0, 0, want, word                                                    \
    }
static const hostile_row rows[] = {
    ROW("gg-vocab: nothing wrong is read", sound, NB_OK, NULL),
    ROW("gg-vocab-huge: 4 Mi tokens and one", tokens_4mi_and_1, BAD,
        "a vocabulary of 4194305 tokens, it must have 1 to 4194304"),
    ROW("gg-vocab-huge: none at all", tokens_0, BAD, "a vocabulary of 0 tokens"),
    ROW("gg-vocab-mismatch: too few scores", scores_2, BAD, "2 scores for 3 tokens"),
    ROW("gg-vocab-mismatch: too many scores", scores_4, BAD, "4 scores for 3 tokens"),
    ROW("gg-vocab-mismatch: no scores", scores_absent, BAD, "tokenizer.ggml.scores is missing"),
    ROW("gg-vocab-mismatch: too few types", types_2, BAD, "2 token types for 3 tokens"),
    ROW("gg-vocab-mismatch: too many types", types_4, BAD, "4 token types for 3 tokens"),
    ROW("gg-vocab-mismatch: types of one byte", types_u8, BAD, "token_type is of type array of u8"),
    ROW("gg-vocab-mismatch: no types are read as plain tokens", types_absent, NB_OK, NULL),
    ROW("gg-vocab-type: 7", type_7, BAD, "token 2 has type 7"),
    ROW("gg-vocab-type: -1", type_minus_1, BAD, "token 2 has type -1"),
    ROW("gg-vocab-score: NaN", score_nan, BAD, "the score of token 0 is not finite"),
    ROW("gg-vocab-score: infinite", score_inf, BAD, "the score of token 0 is not finite"),
    ROW("gg-vocab-model: unknown, with ESC", model_bert, NB_UNSUPPORTED, "bert\\x1b"),
    ROW("gg-vocab-model: byte-level without merges", model_gpt2, BAD,
        "tokenizer.ggml.merges is missing"),
    ROW("gg-special-id: the last token is read", bos_2, NB_OK, NULL),
    ROW("gg-special-id: BOS just behind the end", bos_3, BAD,
        "tokenizer.ggml.bos_token_id is 3, the vocabulary has 3 tokens"),
    ROW("gg-special-id: BOS -1", bos_minus_1, BAD, "tokenizer.ggml.bos_token_id is 4294967295"),
    ROW("gg-special-id: EOS behind the end", eos_3, BAD, "tokenizer.ggml.eos_token_id is 3"),
    ROW("gg-special-id: EOS -1", eos_minus_1, BAD, "tokenizer.ggml.eos_token_id is 4294967295"),
    ROW("gg-special-id: EOT 2^31", eot_2_31, BAD, "tokenizer.ggml.eot_token_id is 2147483648"),
    ROW("gg-special-id: EOM behind the end", eom_3, BAD, "tokenizer.ggml.eom_token_id is 3"),
    ROW("gg-special-id: unknown behind the end", unknown_3, BAD,
        "tokenizer.ggml.unknown_token_id is 3"),
    ROW("gg-special-id: padding -1 says none and is read", padding_minus_1, NB_OK, NULL),
    ROW("gg-special-id: separator -1 says none and is read", separator_minus_1, NB_OK, NULL),
    ROW("gg-charsmap: empty is read", charsmap_0, NB_OK, NULL),
    ROW("gg-charsmap: 1 byte", charsmap_1, BAD, "precompiled_charsmap of 1 bytes"),
    ROW("gg-charsmap: 3 bytes", charsmap_3, BAD, "precompiled_charsmap of 3 bytes"),
    ROW("gg-charsmap: a trie past its end", charsmap_past_end, BAD,
        "precompiled_charsmap of 12 bytes"),
    ROW("gg-charsmap: a trie of 2^32-1 bytes", charsmap_2_32, BAD,
        "precompiled_charsmap of 12 bytes"),
    ROW("gg-charsmap: a trie of half words", charsmap_odd, BAD, "precompiled_charsmap of 12 bytes"),
    ROW("gg-charsmap: a trie that fills it is read", charsmap_whole, NB_OK, NULL),
    ROW("gg-charsmap: a string", charsmap_string, BAD, "precompiled_charsmap is no array of bytes"),
    ROW("gg-byte-token: <0x-1>", byte_minus_1, BAD,
        "token 2 is marked as a byte but is not spelled <0xXX>"),
    ROW("gg-byte-token: <0xZZ>", byte_zz, BAD, "not spelled <0xXX>"),
    ROW("gg-byte-token: one digit", byte_short, BAD, "not spelled <0xXX>"),
    ROW("gg-byte-token: three digits", byte_long, BAD, "not spelled <0xXX>"),
    ROW("gg-byte-token: empty", byte_empty, BAD, "not spelled <0xXX>"),
    ROW("gg-byte-token: no end", byte_open, BAD, "not spelled <0xXX>"),
};
enum { kRows = sizeof rows / sizeof *rows };

static void run_row(check *c)
{
    const hostile_row *row = row_of(rows, kRows, c);
    nb_gguf *g = NULL;
    nb_tokenizer *t = NULL;
    nb_error err = {0};
    bytes b = {0};
    row->build(&b);
    uint8_t *p = exactly(&b);
    CHECK_EQ(c, nb_gguf_parse("hostile.file", p, b.n, &g, &err), NB_OK);
    const nb_container made = {.kind = NB_CONTAINER_GGUF, .path = "hostile.file", .gguf = g};
    const nb_status st = g ? nb_tokenizer_open(&made, &t, &err) : NB_INTERNAL;
    check_refusal(c, row, st, &err);
    CHECK(c, (st == NB_OK) == (t != NULL));
    nb_tokenizer_close(t);
    nb_gguf_close(g);
    free(p);
    free(b.p);
}

/* ---- the architecture ---- */

/* What the model's reader says to a file that names this architecture and holds nothing else. */
static void architecture(check *c, const char *name, size_t n, nb_status want, const char *word)
{
    nb_gguf *g = NULL;
    const nb_family *family = NULL;
    nb_hparams hp;
    nb_error err = {0};
    bytes b = {0};
    put_head(&b, 3, 0, 1);
    put_key(&b, "general.architecture", NB_GGUF_STRING);
    put_u64(&b, n);
    put(&b, name, n);
    CHECK_EQ(c, nb_gguf_parse("hostile.file", b.p, b.n, &g, &err), NB_OK);
    const nb_container made = {.kind = NB_CONTAINER_GGUF, .path = "hostile.file", .gguf = g};
    CHECK_EQ(c, g ? nb_hparams_read(&made, &family, &hp, &err) : NB_INTERNAL, want);
    CHECK_HAS(c, err.message, word);
    CHECK_HAS(c, err.message, "hostile.file: ");
    for (const char *p = err.message; *p; p++)
        CHECK(c, (unsigned char)*p >= ' ');
    nb_gguf_close(g);
    free(b.p);
}

static void arch_names(check *c)
{
    static char million[1 << 20];
    char most[65];
    memset(million, 'a', sizeof million);
    memset(most, 'a', sizeof most);
    architecture(c, million, sizeof million, BAD, "is no name of 1 to 64 letters");
    architecture(c, most, 65, BAD, "is no name");
    architecture(c, most, 64, NB_UNSUPPORTED, "unknown architecture \"aaaa");
    architecture(c, "", 0, BAD, "is no name");
    architecture(c, "../../etc/passwd", 16, BAD, "\"../../etc/passwd\" is no name");
    architecture(c, "..", 2, BAD, "is no name");
    architecture(c, "lla\x1b[31mma", 10, BAD, "\"lla\\x1b[31mma\" is no name");
    architecture(c, "llama\0x", 7, BAD, "\"llama\\x00x\" is no name");
    architecture(c, "lla%sma", 7, BAD, "\"lla%sma\" is no name");
    architecture(c, "llama\xff", 6, BAD, "is no name");
    architecture(c, "gpt-oss_2.5", 11, NB_UNSUPPORTED,
                 "unknown architecture \"gpt-oss_2.5\", known: ");
}

static const check_case more[] = {
    {"gg-arch-name: 1 MiB, a path, an escape sequence", arch_names},
};

int main(int argc, char **argv)
{
    return hostile_main(rows, kRows, run_row, more, sizeof more / sizeof *more, argc, argv);
}
