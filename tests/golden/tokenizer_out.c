/* tokenizer_out.c -- a tokenizer carried to the other container gives the same ids: GGUF to
 * tokenizer.json and the hub's files to GGUF, read again by our own reader. The files stay in
 * BUILD/tests/golden/carried, where outside programs (transformers' AutoTokenizer, llama.cpp's
 * llama-tokenize) may read them too. */
#include "convert/tokenizer_out.h"
#include "tokenizers.h"

#include <sys/stat.h>

#define CARRIED NB_BINARY_DIR "/tests/golden/carried"

static bool save(const char *path, const nb_text *t)
{
    FILE *f = fopen(path, "wb");
    const bool whole = f && fwrite(t->p, 1, t->n, f) == t->n;
    return f && fclose(f) == 0 && whole;
}

/* Texts of all kinds: the strings of tok.json, and the texts between separators of a vocabulary's
 * .inp file. */
static void same_text(check *c, const tokenizer_of *a, const tokenizer_of *b, const char *text,
                      size_t n)
{
    static const unsigned flags[] = {0, NB_TOKENIZE_SPECIAL, NB_TOKENIZE_BOS | NB_TOKENIZE_SPECIAL};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        nb_ids x = {0}, y = {0};
        CHECK_EQ(c, nb_tokenizer_encode(a->t, text, n, flags[i], &x, NULL),
                 nb_tokenizer_encode(b->t, text, n, flags[i], &y, NULL));
        const bool same = x.n == y.n && (!x.n || memcmp(x.p, y.p, x.n * sizeof *x.p) == 0);
        CHECK(c, same);
        if (!same)
            fprintf(stderr, "  \"%.*s\"\n", (int)n, text);
        nb_ids_free(&x);
        nb_ids_free(&y);
    }
}

static void same_ids(check *c, const tokenizer_of *a, const tokenizer_of *b)
{
    nb_json *doc = text_data("tok.json");
    const nb_json_node *v = doc ? nb_json_first(nb_json_get(nb_json_root(doc), "cases")) : NULL;
    CHECK(c, v != NULL);
    for (; v; v = nb_json_next(v)) {
        const char *s = "";
        size_t n = 0;
        CHECK(c, nb_json_string(nb_json_get(v, "text"), &s, &n));
        same_text(c, a, b, s, n);
    }
    nb_json_close(doc);
    CHECK_EQ(c, nb_tokenizer_bos(a->t), nb_tokenizer_bos(b->t));
    CHECK_EQ(c, nb_tokenizer_eos(a->t), nb_tokenizer_eos(b->t));
    for (int32_t id = 0; id < nb_tokenizer_vocab_size(a->t); id++) {
        size_t n = 0, m = 0;
        const char *p = nb_tokenizer_piece(a->t, id, &n), *q = nb_tokenizer_piece(b->t, id, &m);
        if (n == m && (!n || memcmp(p, q, n) == 0))
            continue;
        CHECK_EQ(c, m, n);
        fprintf(stderr, "  token %d\n", id);
    }
}

/* GGUF to the hub. */
static void to_json(check *c, const char *model, const char *name)
{
    tokenizer_of from, to;
    nb_text json = {0}, config = {0};
    nb_error err = {.offset = -1};
    char path[1200];
    if (!tokenizer_from_model(c, &from, model))
        return;
    CHECK_EQ(c, from.st, NB_OK);
    CHECK_EQ(c, from.model ? nb_tokenizer_to_json(from.model, &json, &config, &err) : NB_INTERNAL,
             NB_OK);
    CHECK_STR(c, err.message, "");
    tokenizer_from_text(&to, json.p ? json.p : "", json.n, config.p);
    CHECK_STR(c, to.err.message, "");
    if (from.t && to.t)
        same_ids(c, &from, &to);
    mkdir(CARRIED, 0777);
    snprintf(path, sizeof path, CARRIED "/%s", name);
    mkdir(path, 0777);
    snprintf(path, sizeof path, CARRIED "/%s/tokenizer.json", name);
    CHECK(c, save(path, &json));
    snprintf(path, sizeof path, CARRIED "/%s/tokenizer_config.json", name);
    CHECK(c, save(path, &config));
    nb_text_free(&json);
    nb_text_free(&config);
    tokenizer_gone(&from);
    tokenizer_gone(&to);
}

static void models_to_json(check *c)
{
    to_json(c, "SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2");
    to_json(c, "gemma-3-270m-q4_k_m.gguf", "gemma3");
}

static void vocabularies_to_json(check *c)
{
    static const char *const names[] = {"llama-bpe", "llama-spm",    "qwen2",          "gpt-2",
                                        "phi-3",     "deepseek-llm", "deepseek-coder", "gemma-4"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char file[256];
        snprintf(file, sizeof file, "vocab/ggml-vocab-%s.gguf", names[i]);
        to_json(c, file, names[i]);
    }
}

/* The hub's files to GGUF. */
static void write_gguf(check *c, const nb_container *from, const char *path)
{
    nb_gguf_writer *w = NULL;
    nb_error err = {.offset = -1};
    mkdir(CARRIED, 0777);
    remove(path);
    nb_status st = nb_gguf_writer_open(path, &w, &err);
    if (st == NB_OK)
        st = nb_gguf_writer_string(w, "general.architecture", "llama", 5, &err);
    if (st == NB_OK)
        st = nb_tokenizer_to_gguf(from, w, &err);
    if (st == NB_OK)
        st = nb_gguf_writer_begin(w, &err);
    if (st == NB_OK)
        st = nb_gguf_writer_commit(w, &err);
    nb_gguf_writer_close(w);
    CHECK_EQ(c, st, NB_OK);
    CHECK_STR(c, err.message, "");
}

static void to_gguf(check *c, tokenizer_of *from, const char *name)
{
    tokenizer_of to = {.err.offset = -1};
    char path[1200];
    CHECK_EQ(c, from->st, NB_OK);
    CHECK_STR(c, from->err.message, "");
    snprintf(path, sizeof path, CARRIED "/%s.gguf", name);
    write_gguf(c, &from->made, path);
    to.st = nb_container_open(path, &to.model, &to.err);
    if (to.st == NB_OK)
        to.st = nb_tokenizer_open(to.model, &to.t, &to.err);
    CHECK_STR(c, to.err.message, "");
    if (from->t && to.t)
        same_ids(c, from, &to);
    tokenizer_gone(&to);
}

static void folders_to_gguf(check *c)
{
    static const char *const names[] = {"stories260K", "bytes"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        tokenizer_of from;
        tokenizer_from_data(&from, names[i]);
        to_gguf(c, &from, names[i]);
        tokenizer_gone(&from);
    }
}

static void sentencepiece_to_gguf(check *c)
{
    static const char *const names[] = {"bpe", "bpe-rows"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char name[64];
        tokenizer_of from;
        tokenizer_from_spm_file(&from, names[i]);
        snprintf(name, sizeof name, "spm-%s", names[i]);
        to_gguf(c, &from, name);
        tokenizer_gone(&from);
    }
}

/* What GGUF has no words for. */
static void refused(check *c, tokenizer_of *from, const char *says)
{
    nb_gguf_writer *w = NULL;
    nb_error err = {.offset = -1};
    mkdir(CARRIED, 0777);
    CHECK_STR(c, from->err.message, "");
    CHECK_EQ(c, nb_gguf_writer_open(CARRIED "/refused.gguf", &w, &err), NB_OK);
    CHECK_EQ(c, nb_tokenizer_to_gguf(&from->made, w, &err), NB_UNSUPPORTED);
    CHECK_HAS(c, err.message, says);
    nb_gguf_writer_close(w);
    tokenizer_gone(from);
}

static void not_in_gguf(check *c)
{
#define BPE(stages, vocab, merges)                                                                 \
    "{" stages "\"model\":{\"type\":\"BPE\",\"vocab\":{" vocab "},\"merges\":[" merges "]}}"
#define BYTES(split)                                                                               \
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[" split                           \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]},"
#define MARKS                                                                                      \
    "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":"    \
    "\"\xe2\x96\x81\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\" "                          \
    "\"},\"content\":\"\xe2\x96\x81\"}]},"
    static const struct {
        const char *json, *says;
    } rows[] = {
        {BPE(BYTES(
                 "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"x+\"},\"behavior\":\"Isolated\"},"),
             "\"a\":0,\"b\":1,\"ab\":2", "\"a b\""),
         "no name of tokenizer.ggml.pre"},
        {BPE("\"normalizer\":{\"type\":\"NFKC\"}," BYTES(""), "\"a\":0", ""),
         "normalizer changes the text"},
        {BPE(MARKS, "\"a\":0,\"b\":1,\"c\":2,\"ab\":3,\"bc\":4,\"abc\":5",
             "\"a b\",\"b c\",\"ab c\""),
         "in more ways"},
        {BPE(MARKS, "\"a\":0,\"b\":1,\"c\":2,\"ab\":3,\"bc\":4,\"abc\":5",
             "\"ab c\",\"a b\",\"a bc\",\"b c\""),
         "at several ranks"},
        {BPE("", "\"a\":0", ""), "not written as U+2581"},
    };
    tokenizer_of from;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        tokenizer_from_text(&from, rows[i].json, strlen(rows[i].json), NULL);
        refused(c, &from, rows[i].says);
    }
    tokenizer_from_spm_file(&from, "unigram");
    refused(c, &from, "unigram");
}

/* What was carried to the hub, carried back. */
static void there_and_back(check *c)
{
    static const char *const names[] = {"smollm2", "gemma3", "llama-bpe",    "llama-spm",
                                        "qwen2",   "phi-3",  "deepseek-llm", "gemma-4"};
    int found = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[1200];
        tokenizer_of from = {.err.offset = -1};
        snprintf(path, sizeof path, CARRIED "/%s/tokenizer.json", names[i]);
        if (!(from.json = json_file(path)))
            continue;
        snprintf(path, sizeof path, CARRIED "/%s/tokenizer_config.json", names[i]);
        from.config = json_file(path);
        tokenizer_open_parsed(&from);
        to_gguf(c, &from, names[i]);
        tokenizer_gone(&from);
        found++;
    }
    if (!found)
        check_skip(c, "no model was carried to the hub");
}

static const check_case cases[] = {
    {"models' tokenizers become files of the hub with the same ids", models_to_json},
    {"llama.cpp's vocabularies become files of the hub with the same ids", vocabularies_to_json},
    {"tokenizers of the hub become GGUF keys with the same ids", folders_to_gguf},
    {"SentencePiece's models become GGUF keys with the same ids", sentencepiece_to_gguf},
    {"what GGUF has no words for is refused with the reason", not_in_gguf},
    {"what was carried to the hub is carried back with the same ids", there_and_back},
};
CHECK_MAIN(cases)
