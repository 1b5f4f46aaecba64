/* tokenizer.c -- ids of strings, prompts and a whole book against tokenizers, sentencepiece and
 * llama.cpp (tests/data/text/README.md). */
#include "file/utf8.h"
#include "tokenizers.h"

#define SMOLLM2 "SmolLM2-135M-Instruct.Q4_1.gguf"
#define GEMMA3 "gemma-3-270m-q4_k_m.gguf"

static bool same(const nb_ids *got, const nb_json_node *want)
{
    size_t i = 0;
    int64_t id = 0;
    if (!want || nb_json_count(want) != got->n)
        return false;
    for (const nb_json_node *e = nb_json_first(want); e; e = nb_json_next(e))
        if (!nb_json_int(e, &id) || id != got->p[i++])
            return false;
    return true;
}

static void print_ids(const char *what, const nb_ids *got, const nb_json_node *want)
{
    int64_t id = 0;
    fprintf(stderr, "  \"%s\"\n   got", what);
    for (size_t i = 0; i < got->n; i++)
        fprintf(stderr, " %d", got->p[i]);
    fprintf(stderr, "\n  want");
    for (const nb_json_node *e = nb_json_first(want); e; e = nb_json_next(e))
        fprintf(stderr, " %" PRId64, nb_json_int(e, &id) ? id : -1);
    fprintf(stderr, "\n");
}

/* One text against one answer, or its alternative. */
static void expect(check *c, const nb_tokenizer *t, const nb_json_node *text, unsigned flags,
                   const nb_json_node *want, const nb_json_node *alt)
{
    nb_ids got = {0};
    nb_error err = {.offset = -1};
    const char *s = "";
    size_t n = 0;
    CHECK(c, nb_json_string(text, &s, &n));
    CHECK_EQ(c, nb_tokenizer_encode(t, s, n, flags, &got, &err), NB_OK);
    const bool ok = same(&got, want) || (alt && same(&got, alt));
    CHECK(c, ok);
    if (!ok)
        print_ids(s, &got, want);
    nb_ids_free(&got);
}

/* The text of ids, streamed. */
static void decoded(check *c, const nb_tokenizer *t, const nb_json_node *ids,
                    const nb_json_node *want)
{
    nb_buf out;
    nb_detok d;
    const char *s = "";
    size_t n = 0;
    nb_buf_init(&out, 1 << 20);
    nb_detok_init(&d, t);
    CHECK(c, nb_json_string(want, &s, &n));
    for (const nb_json_node *e = nb_json_first(ids); e; e = nb_json_next(e)) {
        int64_t id = -1;
        CHECK(c, nb_json_int(e, &id) && nb_detok_push(&d, (int32_t)id, &out, NULL) == NB_OK);
    }
    CHECK_EQ(c, nb_detok_flush(&d, &out, NULL), NB_OK);
    CHECK_EQ(c, out.n, n);
    CHECK_STR(c, out.p ? out.p : "", s);
    nb_buf_free(&out);
}

/* All strings of tok.json for one of its tokenizers; plain: also without control tokens. */
static void strings(check *c, tokenizer_of *k, const char *name, bool plain_too)
{
    nb_json *doc = text_data("tok.json");
    CHECK_EQ(c, k->st, NB_OK);
    CHECK_STR(c, k->err.message, "");
    const nb_json_node *v = doc ? nb_json_first(nb_json_get(nb_json_root(doc), "cases")) : NULL;
    CHECK(c, v != NULL);
    for (; v && k->t; v = nb_json_next(v)) {
        const nb_json_node *text = nb_json_get(v, "text"), *of = nb_json_get(v, name);
        const nb_json_node *ids = nb_json_get(of, "ids"), *plain = nb_json_get(of, "ids_plain");
        const nb_json_node *alt = nb_json_get(of, "alt_ids");
        const nb_json_node *alt_plain = nb_json_get(of, "alt_ids_plain");
        expect(c, k->t, text, NB_TOKENIZE_SPECIAL, ids, alt);
        if (plain_too)
            expect(c, k->t, text, 0, plain ? plain : ids, plain ? alt_plain : alt);
    }
    nb_json_close(doc);
    tokenizer_gone(k);
}

static void smollm2_strings(check *c)
{
    tokenizer_of k;
    if (tokenizer_from_model(c, &k, SMOLLM2))
        strings(c, &k, "smollm2", true);
}

static void gemma3_strings(check *c)
{
    tokenizer_of k;
    if (tokenizer_from_model(c, &k, GEMMA3))
        strings(c, &k, "gemma3", true);
}

static void stories_strings(check *c)
{
    tokenizer_of k;
    tokenizer_from_data(&k, "stories260K");
    strings(c, &k, "stories260K", false);
}

/* What all tokens stand for, put together at once: the text the ids came from, U+2581 as a space
 * where the vocabulary says so. */
static void streamed(check *c, const nb_tokenizer *t, const char *text, size_t n, bool marks)
{
    nb_ids v = {0};
    nb_buf out, whole, want;
    nb_detok d;
    nb_buf_init(&out, 1 << 20);
    nb_buf_init(&whole, 1 << 20);
    nb_buf_init(&want, 1 << 20);
    nb_detok_init(&d, t);
    d.special = true;
    CHECK_EQ(c, nb_tokenizer_encode(t, text, n, NB_TOKENIZE_SPECIAL, &v, NULL), NB_OK);
    for (size_t i = 0; i < v.n; i++) {
        size_t m = 0;
        const size_t had = out.n;
        const char *p = nb_tokenizer_is_control(t, v.p[i]) ? nb_tokenizer_token(t, v.p[i], &m)
                                                           : nb_tokenizer_piece(t, v.p[i], &m);
        CHECK_EQ(c, nb_buf_add(&whole, p, m, NULL), NB_OK);
        CHECK_EQ(c, nb_detok_push(&d, v.p[i], &out, NULL), NB_OK);
        for (size_t k = had; k < out.n;) { /* whole characters only */
            uint32_t code = 0;
            const size_t len = nb_utf8_at((const unsigned char *)out.p + k, out.n - k, &code);
            CHECK(c, len > 0);
            k += len ? len : 1;
        }
    }
    CHECK_EQ(c, nb_detok_flush(&d, &out, NULL), NB_OK);
    for (size_t i = 0; i < n; i++)
        if (marks && n - i >= 3 && memcmp(text + i, "\xe2\x96\x81", 3) == 0) {
            CHECK_EQ(c, nb_buf_add(&want, " ", 1, NULL), NB_OK);
            i += 2;
        } else {
            CHECK_EQ(c, nb_buf_add(&want, text + i, 1, NULL), NB_OK);
        }
    CHECK_EQ(c, out.n, want.n);
    CHECK(c, out.n == want.n && (!out.n || memcmp(out.p, want.p, out.n) == 0));
    /* the one that encoding put before the text */
    const size_t space = whole.n > out.n ? whole.n - out.n : 0;
    CHECK(c, space <= 1 && (!out.n || memcmp(whole.p + space, out.p, out.n) == 0));
    nb_ids_free(&v);
    nb_buf_free(&out);
    nb_buf_free(&whole);
    nb_buf_free(&want);
}

static void streams(check *c)
{
    static const char *const names[] = {SMOLLM2, GEMMA3, NULL};
    nb_json *doc = text_data("tok.json");
    for (size_t i = 0; i < 3; i++) {
        tokenizer_of k;
        if (!names[i])
            tokenizer_from_data(&k, "stories260K");
        else if (!tokenizer_from_model(c, &k, names[i]))
            continue;
        CHECK_EQ(c, k.st, NB_OK);
        const nb_json_node *v = doc ? nb_json_first(nb_json_get(nb_json_root(doc), "cases")) : NULL;
        CHECK(c, v != NULL);
        for (; v && k.t; v = nb_json_next(v)) {
            const char *s = "";
            size_t n = 0;
            CHECK(c, nb_json_string(nb_json_get(v, "text"), &s, &n));
            streamed(c, k.t, s, n, i > 0);
        }
        tokenizer_gone(&k);
    }
    nb_json_close(doc);
}

/* llama.cpp's strings: ids with BOS where the model adds one. */
static void llamacpp(check *c, const char *model, const char *name)
{
    tokenizer_of k;
    if (!tokenizer_from_model(c, &k, model))
        return;
    nb_json *doc = text_data("tokenize-llamacpp.json");
    CHECK_EQ(c, k.st, NB_OK);
    const nb_json_node *v = doc ? nb_json_first(nb_json_get(nb_json_root(doc), name)) : NULL;
    CHECK(c, v != NULL);
    for (; v && k.t; v = nb_json_next(v)) {
        const nb_json_node *text = nb_json_get(v, "text");
        expect(c, k.t, text, NB_TOKENIZE_BOS | NB_TOKENIZE_SPECIAL, nb_json_get(v, "ids"), NULL);
        expect(c, k.t, text, NB_TOKENIZE_BOS, nb_json_get(v, "ids_no_special"), NULL);
    }
    nb_json_close(doc);
    tokenizer_gone(&k);
}

static void smollm2_llamacpp(check *c)
{
    llamacpp(c, SMOLLM2, "smollm2");
}

static void gemma3_llamacpp(check *c)
{
    llamacpp(c, GEMMA3, "gemma3");
}

/* The prompts of one model, and wiki.test.raw where it is. */
static void book(check *c, tokenizer_of *k, const char *name)
{
    char path[1024];
    nb_json *doc = text_data("wiki.json");
    nb_mapfile *f = NULL;
    nb_ids got = {0};
    const nb_json_node *of = doc ? nb_json_get(nb_json_root(doc), name) : NULL;
    int64_t n = 0, id = 0;
    CHECK_EQ(c, k->st, NB_OK);
    CHECK(c, nb_json_int(nb_json_get(of, "tokens"), &n));
    for (const nb_json_node *v = nb_json_first(nb_json_get(of, "prompts")); v && k->t;
         v = nb_json_next(v))
        expect(c, k->t, nb_json_get(v, "text"), NB_TOKENIZE_BOS | NB_TOKENIZE_SPECIAL,
               nb_json_get(v, "ids"), NULL);
    if (check_shared("text/wiki.test.raw", path, sizeof path) && k->t &&
        nb_mapfile_open(path, &f, NULL) == NB_OK) {
        CHECK_EQ(c,
                 nb_tokenizer_encode(k->t, (const char *)f->p, f->n, NB_TOKENIZE_BOS, &got, NULL),
                 NB_OK);
        CHECK_EQ(c, got.n, n);
        size_t i = 0;
        for (const nb_json_node *e = nb_json_first(nb_json_get(of, "first")); e && i < got.n;
             e = nb_json_next(e))
            CHECK_EQ(c, got.p[i++], nb_json_int(e, &id) ? id : -1);
    }
    nb_ids_free(&got);
    nb_mapfile_close(f);
    nb_json_close(doc);
    tokenizer_gone(k);
}

static void smollm2_book(check *c)
{
    tokenizer_of k;
    if (tokenizer_from_model(c, &k, SMOLLM2))
        book(c, &k, "smollm2");
}

static void gemma3_book(check *c)
{
    tokenizer_of k;
    if (tokenizer_from_model(c, &k, GEMMA3))
        book(c, &k, "gemma3");
}

static void stories_book(check *c)
{
    tokenizer_of k;
    tokenizer_from_data(&k, "stories260K");
    book(c, &k, "stories260K");
}

/* llama.cpp's own vocabulary files: FILE.inp holds texts between separators, FILE.out a line of ids
 * for each, without BOS. */
static void vocabulary(check *c, const char *name)
{
    static const char separator[] = "\n__ggml_vocab_test__\n";
    char file[256], path[1024];
    tokenizer_of k;
    nb_mapfile *in = NULL, *out = NULL;
    nb_ids got = {0};
    snprintf(file, sizeof file, "vocab/ggml-vocab-%s.gguf", name);
    if (!tokenizer_from_model(c, &k, file))
        return;
    CHECK_EQ(c, k.st, NB_OK);
    CHECK_STR(c, k.err.message, "");
    strcat(file, ".inp");
    CHECK(c, check_model(file, path, sizeof path) && nb_mapfile_open(path, &in, NULL) == NB_OK);
    memcpy(strstr(file, ".inp"), ".out", 4);
    CHECK(c, check_model(file, path, sizeof path) && nb_mapfile_open(path, &out, NULL) == NB_OK);
    if (!k.t || !in || !out)
        return;
    char *texts = strndup((const char *)in->p, in->n), *ids = strndup((const char *)out->p, out->n);
    char *text = texts, *line = ids;
    int n_text = 0, n_same = 0;
    while (text && line && *line) {
        char *end = strstr(text, separator), *stop = strchr(line, '\n');
        const size_t n = end ? (size_t)(end - text) : strlen(text);
        if (stop)
            *stop = 0;
        got.n = 0;
        CHECK_EQ(c, nb_tokenizer_encode(k.t, text, n, 0, &got, NULL), NB_OK);
        bool ok = true;
        size_t i = 0;
        for (char *at = line; *at && ok;) {
            char *next = at;
            const long id = strtol(at, &next, 10);
            if (next == at)
                break;
            ok = i < got.n && got.p[i++] == id;
            at = next;
        }
        ok = ok && i == got.n;
        n_text++;
        n_same += ok;
        if (!ok)
            fprintf(stderr, "%s differs in \"%.*s\"\n", name, (int)n, text);
        text = end ? end + sizeof separator - 1 : NULL;
        line = stop ? stop + 1 : NULL;
    }
    printf("%s: %d of %d texts\n", name, n_same, n_text);
    CHECK(c, n_text > 30);
    CHECK_EQ(c, n_same, n_text);
    free(texts);
    free(ids);
    nb_ids_free(&got);
    nb_mapfile_close(in);
    nb_mapfile_close(out);
    tokenizer_gone(&k);
}

static void vocabularies(check *c)
{
    static const char *const names[] = {"gpt-2",          "mpt",    "starcoder", "refact",
                                        "command-r",      "qwen2",  "qwen35",    "llama-bpe",
                                        "llama-spm",      "phi-3",  "falcon",    "deepseek-llm",
                                        "deepseek-coder", "gemma-4"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        vocabulary(c, names[i]);
}

/* The files that come without texts, and those of models that are no decoders. */
static void other_vocabularies(check *c)
{
    static const struct {
        const char *name;
        nb_status want;
        const char *says;
    } others[] = {{"aquila", NB_OK, ""},
                  {"baichuan", NB_OK, ""},
                  {"gpt-neox", NB_OK, ""},
                  {"bert-bge", NB_UNSUPPORTED, "tokenizer model \"bert\""},
                  {"nomic-bert-moe", NB_UNSUPPORTED, "tokenizer model \"t5\""}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        char file[256];
        tokenizer_of k;
        snprintf(file, sizeof file, "vocab/ggml-vocab-%s.gguf", others[i].name);
        if (!tokenizer_from_model(c, &k, file))
            continue;
        CHECK_EQ(c, k.st, others[i].want);
        CHECK_HAS(c, k.err.message, others[i].says);
        printf("%s: %s\n", others[i].name, k.t ? "opens" : k.err.message);
        tokenizer_gone(&k);
    }
}

/* SentencePiece's own models, ids and texts. */
static void sentencepiece(check *c)
{
    static const char *const names[] = {"bpe", "bpe-rows", "unigram", "unigram-bytes"};
    nb_json *doc = text_data("spm/spm.json");
    const nb_json_node *root = doc ? nb_json_root(doc) : NULL;
    CHECK(c, doc != NULL);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char key[64];
        tokenizer_of k;
        tokenizer_from_spm_file(&k, names[i]);
        CHECK_EQ(c, k.st, NB_OK);
        CHECK_STR(c, k.err.message, "");
        const nb_json_node *v = nb_json_first(nb_json_get(root, "texts")),
                           *ids = nb_json_first(nb_json_get(root, names[i]));
        snprintf(key, sizeof key, "%s decoded", names[i]);
        const nb_json_node *back = nb_json_first(nb_json_get(root, key));
        CHECK(c, v && ids && back);
        for (; v && k.t; v = nb_json_next(v), ids = nb_json_next(ids), back = nb_json_next(back)) {
            expect(c, k.t, v, 0, ids, NULL);
            /* not with unknown characters: it decodes them to a sign of its own */
            if (nb_json_typeof(back) == NB_JSON_STRING)
                decoded(c, k.t, ids, back);
        }
        tokenizer_gone(&k);
    }
    nb_json_close(doc);
}

static const check_case cases[] = {
    {"SentencePiece's models give its ids and texts", sentencepiece},
    {"SmolLM2 gives the ids of 70 strings", smollm2_strings},
    {"Gemma 3 gives the ids of 70 strings", gemma3_strings},
    {"stories260K gives the ids of 70 strings from tokenizer.json", stories_strings},
    {"the tokens of 70 strings stream back to them in whole characters", streams},
    {"SmolLM2 gives llama.cpp's ids", smollm2_llamacpp},
    {"Gemma 3 gives llama.cpp's ids", gemma3_llamacpp},
    {"SmolLM2 reads prompts and a book", smollm2_book},
    {"Gemma 3 reads prompts and a book", gemma3_book},
    {"stories260K reads prompts and a book", stories_book},
    {"llama.cpp's vocabulary files give its ids", vocabularies},
    {"vocabulary files without texts open, those of encoders are refused by name",
     other_vocabularies},
};
CHECK_MAIN(cases)
