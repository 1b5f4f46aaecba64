/* tokenizer.c -- tokenizer files that lie, and texts that would blow up a careless tokenizer. A
 * loop that is not linear shows as the test's time limit. */
#include "hostile/bytes.h"
#include "text/vocab.h"
#include "tokenizers.h"

/* ---- tokenizer.json ---- */

#define MODEL(vocab, merges)                                                                       \
    "{\"model\":{\"type\":\"BPE\",\"vocab\":{" vocab "},\"merges\":[" merges "]}}"
#define WITH(stage, value)                                                                         \
    "{\"" stage "\":" value ",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}"
#define ADDED(token)                                                                               \
    "{\"added_tokens\":[" token "],"                                                               \
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[]}}"
#define SPLIT(regex)                                                                               \
    WITH("pre_tokenizer",                                                                          \
         "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" regex "\"},\"behavior\":\"Isolated\"}")

static const struct {
    const char *name, *json;
    nb_status want;
    const char *says;
} rows[] = {
    {"a merge of an unknown half", MODEL("\"a\":0,\"b\":1,\"ab\":2", "\"a c\""), NB_BAD_INPUT,
     "\"c\", which is no token"},
    {"a merge that makes no token", MODEL("\"a\":0,\"b\":1", "\"a b\""), NB_BAD_INPUT,
     "makes no token"},
    {"a merge of one part", MODEL("\"a\":0", "\"a\""), NB_BAD_INPUT, "not two tokens"},
    {"a merge of three parts", MODEL("\"a\":0", "\"a b c\""), NB_BAD_INPUT, "one space"},
    {"a merge that is a number", MODEL("\"a\":0", "7"), NB_BAD_INPUT, "not a pair"},
    {"a merge that is a list of one", MODEL("\"a\":0", "[\"a\"]"), NB_BAD_INPUT, "not a pair"},
    {"two tokens of one id", MODEL("\"a\":0,\"b\":0", ""), NB_BAD_INPUT, "one id"},
    {"an id of 2^31", MODEL("\"a\":2147483648", ""), NB_BAD_INPUT, "token id"},
    {"a negative id", MODEL("\"a\":-1", ""), NB_BAD_INPUT, "token id"},
    {"an id far beyond the number of tokens", MODEL("\"a\":4000000", ""), NB_BAD_INPUT, "token id"},
    {"an id that is a string", MODEL("\"a\":\"0\"", ""), NB_BAD_INPUT, "token id"},
    {"an empty vocabulary", MODEL("", ""), NB_BAD_INPUT, "empty"},
    {"no merges", "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0}}}", NB_BAD_INPUT, "merges"},
    {"no model", "{}", NB_UNSUPPORTED, "BPE"},
    {"a list", "[]", NB_UNSUPPORTED, "BPE"},
    {"another model", "{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}", NB_UNSUPPORTED, "BPE"},
    {"an unknown normalizer", WITH("normalizer", "{\"type\":\"Lowercase\"}"), NB_UNSUPPORTED,
     "normalizer of type \"Lowercase\""},
    {"a normalizer that is a number", WITH("normalizer", "3"), NB_UNSUPPORTED, "normalizer"},
    {"a Replace of nothing",
     WITH("normalizer", "{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"a\"}"),
     NB_UNSUPPORTED, "normalizer"},
    {"an unknown pre-tokenizer", WITH("pre_tokenizer", "{\"type\":\"Whitespace\\u001b\"}"),
     NB_UNSUPPORTED, "Whitespace\\x1b"},
    {"a pattern that does not compile", SPLIT("(a"), NB_BAD_INPUT, "does not compile"},
    {"a pattern of raw bytes", SPLIT("\\\\C"), NB_BAD_INPUT, "does not compile"},
    {"a pattern with a class in a class", SPLIT("[a[bc]]"), NB_UNSUPPORTED,
     "a class inside a class"},
    {"a pattern with an intersection", SPLIT("[a-z&&b]"), NB_UNSUPPORTED, "&& inside a class"},
    {"a pattern that explodes", SPLIT("((((a{1,999}){1,999}){1,999}){1,999})"), NB_BAD_INPUT,
     "does not compile"},
    {"an added token without content", ADDED("{\"id\":2}"), NB_BAD_INPUT, "content"},
    {"an added token on another's id", ADDED("{\"id\":1,\"content\":\"x\"}"), NB_BAD_INPUT,
     "another token's id"},
    {"an added token known under another id", ADDED("{\"id\":2,\"content\":\"b\"}"), NB_BAD_INPUT,
     "another id"},
    {"an empty added token is passed over", ADDED("{\"id\":2,\"content\":\"\"}"), NB_OK, ""},
    {"a gap in the ids is valid", MODEL("\"a\":0,\"b\":100", ""), NB_OK, ""},
};

static void bad_json(check *c)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        tokenizer_of k;
        tokenizer_from_text(&k, rows[i].json, strlen(rows[i].json), NULL);
        if (k.st != rows[i].want)
            fprintf(stderr, "%s: %s\n", rows[i].name, k.err.message);
        CHECK_EQ(c, k.st, rows[i].want);
        CHECK_HAS(c, k.err.message, rows[i].says);
        CHECK_EQ(c, k.t != NULL, rows[i].want == NB_OK);
        tokenizer_gone(&k);
    }
}

static void nested(check *c)
{
    for (int depth = 20; depth <= 10000; depth *= 500) {
        bytes b = {0};
        tokenizer_of k;
        put_text(&b, "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[]},\"normalizer\":");
        for (int i = 0; i < depth; i++)
            put_text(&b, "{\"type\":\"Sequence\",\"normalizers\":[");
        for (int i = 0; i < depth; i++)
            put_text(&b, "]}");
        put_text(&b, "}");
        tokenizer_from_text(&k, (const char *)b.p, b.n, NULL);
        CHECK_EQ(c, k.st, depth == 20 ? NB_OK : NB_BAD_INPUT);
        tokenizer_gone(&k);
        free(b.p);
    }
}

/* ---- texts ---- */

enum { kMiB = 1 << 20 };

static void replace_grows(check *c)
{
    bytes b = {0};
    tokenizer_of k;
    nb_ids v = {0};
    nb_error err = {.offset = -1};
    char *text = malloc(kMiB);
    put_text(&b,
             "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[]},\"normalizer\":{\"type\":\"Replace\","
             "\"pattern\":{\"String\":\"a\"},\"content\":\"");
    for (int i = 0; i < 10000; i++)
        put_text(&b, "a");
    put_text(&b, "\"}}");
    tokenizer_from_text(&k, (const char *)b.p, b.n, NULL);
    CHECK_EQ(c, k.st, NB_OK);
    if (text && k.t) {
        memset(text, 'a', kMiB);
        CHECK_EQ(c, nb_tokenizer_encode(k.t, text, kMiB, 0, &v, &err), NB_BAD_INPUT);
        CHECK_HAS(c, err.message, "normalizer makes more than");
    }
    nb_ids_free(&v);
    tokenizer_gone(&k);
    free(text);
    free(b.p);
}

static void pattern_backtracks(check *c)
{
    tokenizer_of k;
    nb_ids v = {0};
    nb_error err = {.offset = -1};
    tokenizer_from_text(&k, SPLIT("(a|aa)+$"), strlen(SPLIT("(a|aa)+$")), NULL);
    CHECK_EQ(c, k.st, NB_OK);
    char text[4097];
    memset(text, 'a', sizeof text);
    text[4096] = 'b';
    if (k.t) {
        CHECK_EQ(c, nb_tokenizer_encode(k.t, text, sizeof text, 0, &v, &err), NB_BAD_INPUT);
        CHECK_HAS(c, err.message, "steps");
    }
    nb_ids_free(&v);
    tokenizer_gone(&k);
}

/* A MiB of s, again and again, through a tokenizer; gives the number of ids. */
static size_t run_of(check *c, const nb_tokenizer *t, const char *s)
{
    const size_t n = strlen(s), times = kMiB / n;
    char *text = malloc(n * times);
    nb_ids v = {0};
    for (size_t i = 0; text && i < times; i++)
        memcpy(text + i * n, s, n);
    CHECK_EQ(c, nb_tokenizer_encode(t, text, n * times, NB_TOKENIZE_SPECIAL, &v, NULL), NB_OK);
    const size_t got = v.n;
    nb_ids_free(&v);
    free(text);
    return got;
}

static const char *const runs[] = {
    "A",           " ",    "\n", "\xcc\x81", "\xcc\x81\xcc\xa3", "a ", "\xff", "\xf0\x9f\x98\x80",
    "<|im_start|", "  \n", "'",  "1"};

static void long_runs(check *c)
{
    static const char *const names[] = {"bytes", "stories260K"};
    for (size_t m = 0; m < 2; m++) {
        tokenizer_of k;
        tokenizer_from_data(&k, names[m]);
        CHECK_EQ(c, k.st, NB_OK);
        for (size_t i = 0; k.t && i < sizeof runs / sizeof *runs; i++)
            CHECK_EQ(c, run_of(c, k.t, runs[i]) > 0, runs[i][0] != '\xff');
        tokenizer_gone(&k);
    }
}

static void long_runs_of_models(check *c)
{
    static const char *const names[] = {"SmolLM2-135M-Instruct.Q4_1.gguf",
                                        "gemma-3-270m-q4_k_m.gguf"};
    for (size_t m = 0; m < 2; m++) {
        tokenizer_of k;
        if (!tokenizer_from_model(c, &k, names[m]))
            continue;
        CHECK_EQ(c, k.st, NB_OK);
        for (size_t i = 0; k.t && i < sizeof runs / sizeof *runs; i++)
            CHECK_EQ(c, run_of(c, k.t, runs[i]) > 0, runs[i][0] != '\xff');
        tokenizer_gone(&k);
    }
}

/* A MiB of any class under every pre-tokenizer that GGUF names: matches tried and pieces are
 * bounded by the bytes (each match has its own bound, which fails the call). No clock: steps are
 * counted. */
static nb_status count_piece(void *arg, const char *p, size_t n, nb_error *err)
{
    (void)p;
    (void)n;
    (void)err;
    ++*(size_t *)arg;
    return NB_OK;
}

static const char *const classes[] = {"A",
                                      "a",
                                      "1",
                                      " ",
                                      "\n",
                                      "\t",
                                      "\r\n",
                                      "\xcc\x81",
                                      "\xe4\xb8\xad",
                                      "\xf0\x9f\x98\x80",
                                      "\x01",
                                      "'",
                                      ".",
                                      " a",
                                      "A1",
                                      "\xe3\x80\x80",
                                      "\xf0\xb0\x80\x80",
                                      " \n",
                                      "aA"};

static void steps_of_patterns(check *c)
{
    static const char *const names[] = {
        "gpt-2",  "smollm",       "llama-bpe",      "qwen2",       "qwen35", "gpt-4o",
        "tekken", "deepseek-llm", "deepseek-coder", "deepseek-v3", "falcon", "default"};
    char *text = malloc(kMiB);
    for (size_t k = 0; k < sizeof classes / sizeof *classes && text; k++) {
        const size_t unit = strlen(classes[k]), n = kMiB / unit * unit;
        for (size_t i = 0; i < n; i++)
            text[i] = classes[k][i % unit];
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            nb_tokenizer t = {.unknown = -1};
            nb_cutter w;
            nb_error err = {.offset = -1};
            size_t pieces = 0;
            CHECK_EQ(c,
                     nb_pretokenize_named(&t, "test", (nb_str){names[i], strlen(names[i])}, &err),
                     NB_OK);
            CHECK_EQ(c, nb_cutter_open(&t, &w, &err), NB_OK);
            CHECK_EQ(c, nb_pretokenize(&t, &w, text, n, count_piece, &pieces, &err), NB_OK);
            CHECK_STR(c, err.message, "");
            const bool few =
                pieces >= 1 && pieces <= n && w.steps <= (size_t)(2 * t.n_cut) * n + 16;
            CHECK(c, few);
            if (!few)
                fprintf(stderr, "  %s, class %zu: %zu pieces, %zu matches of %zu bytes\n", names[i],
                        k, pieces, w.steps, n);
            nb_cutter_close(&w);
            nb_pretokenize_close(&t);
        }
    }
    free(text);
}

/* One word of a MiB, joined without any cut. */
static void steps_of_joins(check *c)
{
    static const char *const names[] = {"stories260K", "bytes"};
    for (size_t m = 0; m < 2; m++) {
        tokenizer_of k;
        char *text = malloc(kMiB);
        tokenizer_from_data(&k, names[m]);
        CHECK_EQ(c, k.st, NB_OK);
        for (size_t i = 0; k.t && text && i < sizeof classes / sizeof *classes; i++) {
            const size_t unit = strlen(classes[i]), n = kMiB / unit * unit;
            nb_bpe w = {0};
            nb_ids v = {0};
            for (size_t at = 0; at < n; at++)
                text[at] = classes[i][at % unit];
            CHECK_EQ(c, nb_bpe_encode(k.t, &w, text, n, &v, NULL), NB_OK);
            CHECK(c, w.steps <= 3 * n);
            nb_bpe_close(&w);
            nb_ids_free(&v);
        }
        free(text);
        tokenizer_gone(&k);
    }
}

static void long_pattern(check *c)
{
    bytes b = {0};
    tokenizer_of k;
    put_text(&b, "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"");
    for (int i = 0; i < kMiB; i++)
        put_u8(&b, 'a');
    put_text(&b, "\"},\"behavior\":\"Isolated\"},\"model\":{\"vocab\":{\"a\":0},\"merges\":[]}}");
    tokenizer_from_text(&k, (const char *)b.p, b.n, NULL);
    CHECK_EQ(c, k.st, NB_BAD_INPUT);
    CHECK_HAS(c, k.err.message, "at most 65536 are allowed");
    tokenizer_gone(&k);
    free(b.p);
}

static void ids_beyond(check *c)
{
    tokenizer_of k;
    nb_detok d;
    nb_buf out;
    nb_error err = {.offset = -1};
    size_t n = 7;
    tokenizer_from_data(&k, "bytes");
    CHECK_EQ(c, k.st, NB_OK);
    nb_buf_init(&out, 1 << 10);
    nb_detok_init(&d, k.t);
    const int32_t size = nb_tokenizer_vocab_size(k.t);
    CHECK(c, !nb_tokenizer_piece(k.t, size, &n) && n == 0);
    CHECK(c, !nb_tokenizer_token(k.t, INT32_MAX, &n) && !nb_tokenizer_token(k.t, -1, &n));
    /* a padding row of the embedding stands for nothing */
    CHECK_EQ(c, nb_detok_push(&d, size, &out, &err), NB_OK);
    CHECK_EQ(c, nb_detok_push(&d, INT32_MAX, &out, &err), NB_OK);
    CHECK_EQ(c, out.n, 0);
    CHECK_EQ(c, nb_detok_push(&d, -1, &out, &err), NB_BAD_INPUT);
    CHECK_HAS(c, err.message, "negative");
    nb_buf_free(&out);
    tokenizer_gone(&k);
}

static void long_word(check *c)
{
    static const char json[] = MODEL("\"a\":0,\"aa\":1,\"aaaa\":2,\"aaaaaaaa\":3,\"b\":4",
                                     "\"a a\",\"aa aa\",\"aaaa aaaa\"");
    tokenizer_of k;
    tokenizer_from_text(&k, json, sizeof json - 1, NULL);
    CHECK_EQ(c, k.st, NB_OK);
    if (k.t) {
        CHECK_EQ(c, run_of(c, k.t, "a"), kMiB / 8);
        CHECK_EQ(c, run_of(c, k.t, "aaab"), kMiB / 4 * 3); /* aa a b */
    }
    tokenizer_gone(&k);
}

static void marks_out_of_order(check *c)
{
    static const char unk[] = "{\"normalizer\":{\"type\":\"NFC\"},\"model\":{\"unk_token\":\"u\","
                              "\"vocab\":{\"u\":0},\"merges\":[]}}";
    tokenizer_of k;
    tokenizer_from_text(&k, unk, sizeof unk - 1, NULL);
    CHECK_EQ(c, k.st, NB_OK);
    if (k.t) /* above and below in turn: sorting them all at once is quadratic */
        CHECK_EQ(c, run_of(c, k.t, "\xcc\x81\xcc\xa3"), kMiB / 2);
    tokenizer_gone(&k);
}

static void many_added_tokens(check *c)
{
    enum { kTokens = 100000 };
    bytes b = {0};
    tokenizer_of k;
    char one[128];
    put_text(
        &b,
        "{\"model\":{\"unk_token\":\"u\",\"vocab\":{\"u\":0},\"merges\":[]},\"added_tokens\":[");
    for (int i = 1; i <= kTokens; i++) {
        snprintf(one, sizeof one, "{\"id\":%d,\"content\":\"<t%d>\",\"special\":true},", i, i);
        put_text(&b, one);
    }
    snprintf(one, sizeof one, "{\"id\":%d,\"content\":\"", kTokens + 1);
    put_text(&b, one);
    for (int i = 0; i < kMiB; i++)
        put_u8(&b, 'A');
    put_text(&b, "B\",\"special\":true}]}");
    tokenizer_from_text(&k, (const char *)b.p, b.n, NULL);
    CHECK_EQ(c, k.st, NB_OK);
    if (k.t) {
        CHECK_EQ(c, nb_tokenizer_vocab_size(k.t), kTokens + 2);
        CHECK_EQ(c, run_of(c, k.t, "A"), kMiB);                      /* the long token never ends */
        CHECK_EQ(c, run_of(c, k.t, "<t99><t100000"), kMiB / 13 * 9); /* 1 + 8 unknown */
    }
    tokenizer_gone(&k);
    free(b.p);
}

static void missing_byte(check *c)
{
    static const char json[] = WITH(
        "pre_tokenizer", "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}");
    tokenizer_of k;
    nb_ids v = {0};
    nb_error err = {.offset = -1};
    tokenizer_from_text(&k, json, sizeof json - 1, NULL);
    CHECK_EQ(c, k.st, NB_OK);
    if (k.t) {
        CHECK_EQ(c, nb_tokenizer_encode(k.t, "aa", 2, 0, &v, &err), NB_OK);
        CHECK_EQ(c, nb_tokenizer_encode(k.t, "ab", 2, 0, &v, &err), NB_BAD_INPUT);
        CHECK_HAS(c, err.message, "0x62");
    }
    nb_ids_free(&v);
    tokenizer_gone(&k);
}

static void too_much_text(check *c)
{
    tokenizer_of k;
    nb_ids v = {0};
    tokenizer_from_data(&k, "bytes");
    CHECK_EQ(c, k.st, NB_OK);
    if (k.t) /* refused by its length, before a byte is read */
        CHECK_EQ(c, nb_tokenizer_encode(k.t, "a", ((size_t)64 << 20) + 1, 0, &v, NULL), NB_NO_ROOM);
    nb_ids_free(&v);
    tokenizer_gone(&k);
}

static const check_case cases[] = {
    {"tk-merge-unknown, tk-merge-shape, tk-id: a tokenizer.json that lies is refused with one "
     "sentence",
     bad_json},
    {"tk-normalizer-cycle: nested normalizers end at the reader's depth", nested},
    {"tk-replace-grow: a Replace that makes too much of a text is refused", replace_grows},
    {"tk-regex: a pattern that backtracks without end is stopped", pattern_backtracks},
    {"tk-regex: a pattern of a MiB is refused", long_pattern},
    {"tk-long-run: a MiB of one character takes linear time", long_runs},
    {"tk-long-run: a MiB of one character takes linear time in real vocabularies",
     long_runs_of_models},
    {"tk-long-run: a MiB of any class takes a bounded number of matches under every pre-tokenizer",
     steps_of_patterns},
    {"tk-bpe-quadratic: a word of a MiB looks at a bounded number of pairs", steps_of_joins},
    {"tk-bpe-quadratic: a word of a MiB is joined in n log n", long_word},
    {"tk-long-run: a MiB of combining marks in the wrong order is normalized", marks_out_of_order},
    {"tk-added: many special tokens and a very long one cost no more", many_added_tokens},
    {"tk-bytelevel-missing: a byte without a token is refused where it stands in a text",
     missing_byte},
    {"tk-decode-id: ids beyond the vocabulary stand for nothing, negative ones are refused",
     ids_beyond},
    {"a text over the limit is refused", too_much_text},
};
CHECK_MAIN(cases)
