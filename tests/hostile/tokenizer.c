/* tokenizer.c -- tokenizer files that lie, and texts that would blow up a careless tokenizer. A
 * loop that is not linear shows as the test's time limit. */
#include "hostile/bytes.h"
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
    {"a pattern that explodes", SPLIT("((((a{1,999}){1,999}){1,999}){1,999})"), NB_BAD_INPUT,
     "does not compile"},
    {"an added token without content", ADDED("{\"id\":2}"), NB_BAD_INPUT, "content"},
    {"an added token on another's id", ADDED("{\"id\":1,\"content\":\"x\"}"), NB_BAD_INPUT,
     "another token's id"},
    {"an added token known under another id", ADDED("{\"id\":2,\"content\":\"b\"}"), NB_BAD_INPUT,
     "another id"},
    {"an added token of single words", ADDED("{\"id\":2,\"content\":\"x\",\"single_word\":true}"),
     NB_UNSUPPORTED, "single_word"},
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
    {"a tokenizer.json that lies is refused with one sentence", bad_json},
    {"nested normalizers end at the reader's depth", nested},
    {"a Replace that makes too much of a text is refused", replace_grows},
    {"a pattern that backtracks without end is stopped", pattern_backtracks},
    {"a MiB of one character takes linear time", long_runs},
    {"a MiB of one character takes linear time in real vocabularies", long_runs_of_models},
    {"a word of a MiB is joined in n log n", long_word},
    {"a MiB of combining marks in the wrong order is normalized", marks_out_of_order},
    {"many special tokens and a very long one cost no more", many_added_tokens},
    {"a byte without a token is refused where it stands in a text", missing_byte},
    {"a text over the limit is refused", too_much_text},
};
CHECK_MAIN(cases)
