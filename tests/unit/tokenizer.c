/* tokenizer.c -- tokenizers written down in the test: what each stage does, the guard byte, special
 * tokens' flags, streaming back to text. */
#include "tokenizers.h"

/* A byte-level vocabulary of all bytes cannot be written shortly, so these have letters only. */
#define BYTE_FALLBACK                                                                              \
    "\"added_tokens\":[{\"id\":0,\"content\":\"<unk>\",\"special\":true},"                         \
    "{\"id\":1,\"content\":\"<s>\",\"special\":true},"                                             \
    "{\"id\":8,\"content\":\"<tool>\",\"special\":false},"                                         \
    "{\"id\":9,\"content\":\"<tool>x\",\"special\":true,\"lstrip\":true,\"rstrip\":true}],"
#define LETTERS                                                                                    \
    "\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"fuse_unk\":true,\"vocab\":{"            \
    "\"<unk>\":0,\"<s>\":1,\"a\":2,\"b\":3,\"ab\":4,\"\\u2581\":5,\"\\u2581ab\":6,\"x\":7},"       \
    "\"merges\":[\"a b\",[\"\\u2581\",\"ab\"]]}"

static void ids_are(check *c, const nb_tokenizer *t, const char *text, size_t n, unsigned flags,
                    const char *want)
{
    char got[1024] = "";
    nb_ids v = {0};
    nb_error err = {.offset = -1};
    size_t at = 0;
    CHECK_EQ(c, nb_tokenizer_encode(t, text, n, flags, &v, &err), NB_OK);
    CHECK_STR(c, err.message, "");
    for (size_t i = 0; i < v.n && at < sizeof got - 16; i++)
        at += (size_t)snprintf(got + at, sizeof got - at, "%s%d", i ? " " : "", v.p[i]);
    CHECK_STR(c, got, want);
    nb_ids_free(&v);
}

static void open_with(check *c, tokenizer_of *k, const char *normalizer, const char *pre,
                      const char *rest)
{
    char json[4096];
    snprintf(json, sizeof json,
             "{\"normalizer\":%s,\"pre_tokenizer\":%s,%s" BYTE_FALLBACK LETTERS "}", normalizer,
             pre, rest);
    tokenizer_from_text(k, json, strlen(json), "{\"bos_token\":\"<s>\"}");
    CHECK_EQ(c, k->st, NB_OK);
    CHECK_STR(c, k->err.message, "");
}

static void special_tokens(check *c)
{
    tokenizer_of k;
    open_with(c, &k, "null", "null", "");
    if (!k.t)
        return;
    ids_are(c, k.t, "ab<s>ab", 7, NB_TOKENIZE_SPECIAL, "4 1 4");
    ids_are(c, k.t, "a<tool>b", 8, 0, "2 8 3");
    ids_are(c, k.t, "a <tool>x b", 11, NB_TOKENIZE_SPECIAL, "2 9 3");
    ids_are(c, k.t, "a<tool>xb", 9, 0, "2 8 7 3");
    ids_are(c, k.t, "ab<s", 4, NB_TOKENIZE_SPECIAL, "4 0");
    CHECK(c, nb_tokenizer_is_control(k.t, 1));
    CHECK(c, !nb_tokenizer_is_control(k.t, 8));
    CHECK_EQ(c, nb_tokenizer_bos(k.t), 1);
    CHECK_EQ(c, nb_tokenizer_eos(k.t), -1);
    tokenizer_gone(&k);
}

static void guard(check *c)
{
    tokenizer_of k;
    open_with(c, &k, "null", "null", "");
    if (!k.t)
        return;
    ids_are(c, k.t, "a<\xffs>", 5, NB_TOKENIZE_SPECIAL, "2 0"); /* < s > are unknown, fused */
    ids_are(c, k.t,
            "a\xff"
            "b",
            3, NB_TOKENIZE_SPECIAL, "4");
    ids_are(c, k.t, "\xff", 1, NB_TOKENIZE_SPECIAL, "");
    tokenizer_gone(&k);
}

static void normalizers(check *c)
{
    static const char prepend[] = "{\"type\":\"Sequence\",\"normalizers\":["
                                  "{\"type\":\"Prepend\",\"prepend\":\"\\u2581\"},"
                                  "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},"
                                  "\"content\":\"\\u2581\"}]}";
    tokenizer_of k;
    open_with(c, &k, prepend, "null", "");
    if (k.t) {
        ids_are(c, k.t, "ab ab", 5, 0, "6 6");
        ids_are(c, k.t, "", 0, 0, "");
        ids_are(c, k.t, "<s>ab", 5, NB_TOKENIZE_SPECIAL, "1 6");
        tokenizer_gone(&k);
    }
    open_with(c, &k, "null",
              "{\"type\":\"Metaspace\",\"replacement\":\"\\u2581\",\"prepend_scheme\":\"first\","
              "\"split\":false}",
              "");
    if (k.t) {
        ids_are(c, k.t, "ab ab", 5, 0, "6 6");
        ids_are(c, k.t, " ab", 3, 0, "6");
        ids_are(c, k.t, "<s>ab", 5, NB_TOKENIZE_SPECIAL, "1 4");
        tokenizer_gone(&k);
    }
    open_with(c, &k, "{\"type\":\"NFKC\"}", "null", "");
    if (k.t) {
        ids_are(c, k.t,
                "\xef\xbd\x81"
                "b",
                4, 0, "4"); /* full-width a */
        tokenizer_gone(&k);
    }
}

/* ids by tokenizers 0.23.3 */
static void strip(check *c)
{
    static const struct {
        const char *flags, *want[3];
    } rows[] = {{"", {"1", "1 2 1", ""}},
                {",\"strip_right\":false", {"1 2 2", "1 2 1 0", ""}},
                {",\"strip_left\":false", {"2 1", "3 1 2 1", ""}}};
    static const char *const texts[] = {" a  ", "\xe3\x80\x80\x61 a\n", "   "};
    for (size_t i = 0; i < 3; i++) {
        char json[512];
        tokenizer_of k;
        snprintf(json, sizeof json,
                 "{\"normalizer\":{\"type\":\"Strip\"%s},\"model\":{\"unk_token\":\"u\",\"vocab\":{"
                 "\"u\":0,\"a\":1,\" \":2,"
                 "\"\\u3000\":3},\"merges\":[]}}",
                 rows[i].flags);
        tokenizer_from_text(&k, json, strlen(json), NULL);
        CHECK_EQ(c, k.st, NB_OK);
        for (size_t j = 0; j < 3 && k.t; j++)
            ids_are(c, k.t, texts[j], strlen(texts[j]), 0, rows[i].want[j]);
        tokenizer_gone(&k);
    }
}

/* ids by tokenizers 0.23.3 */
static void single_words(check *c)
{
    static const char json[] = "{\"model\":{\"unk_token\":\"u\",\"vocab\":{\"u\":0,\"a\":1,\"b\":2,"
                               "\"_\":3,\" \":4,\"-\":5},\"merges\":[]},"
                               "\"added_tokens\":[{\"id\":6,\"content\":\"x\",\"single_word\":true}"
                               ",{\"id\":7,\"content\":\"xa\"}]}";
    static const char *const rows[][2] = {{"x", "6"},
                                          {"ax", "1 0"},
                                          {"xb", "0 2"},
                                          {"a x b", "1 4 6 4 2"},
                                          {"-x-", "5 6 5"},
                                          {"_x", "3 0"},
                                          {"x_", "0 3"},
                                          {"x x", "6 4 6"},
                                          {"\xc3\xa9 x", "0 4 6"},
                                          {"\xc3\xa9x", "0 0"},
                                          {"x\xcc\x81", "0 0"},
                                          {"xx", "0 0"},
                                          {"axa", "1 7"},
                                          {"x1", "0 0"},
                                          {"x\xc2\xb2", "6 0"},
                                          {"x\xe2\x85\xa0", "0 0"}};
    tokenizer_of k;
    tokenizer_from_text(&k, json, sizeof json - 1, NULL);
    CHECK_EQ(c, k.st, NB_OK);
    for (size_t i = 0; i < sizeof rows / sizeof *rows && k.t; i++)
        ids_are(c, k.t, rows[i][0], strlen(rows[i][0]), 0, rows[i][1]);
    tokenizer_gone(&k);
}

static void splits(check *c)
{
    tokenizer_of k;
    open_with(c, &k, "null",
              "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Isolated\"}", "");
    if (k.t) {
        ids_are(c, k.t, "abab", 4, 0, "2 3 2 3");
        tokenizer_gone(&k);
    }
    open_with(c, &k, "null",
              "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"ab|\"},\"behavior\":\"Removed\","
              "\"invert\":true}",
              "");
    if (k.t) { /* what lies between the matches is dropped; the empty match cuts nothing */
        ids_are(c, k.t, "xabxxab", 7, 0, "4 4");
        tokenizer_gone(&k);
    }
    open_with(c, &k, "null",
              "{\"type\":\"Split\",\"pattern\":{\"String\":\"b\"},"
              "\"behavior\":\"Isolated\"}",
              "");
    if (k.t) {
        ids_are(c, k.t, "aab", 3, 0, "2 2 3");
        tokenizer_gone(&k);
    }
}

static void tokens_across_spaces(check *c)
{
    static const char json[] =
        "{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":"
        "\"\\u2581\"},\"model\":{\"vocab\":{\"a\":0,\"b\":1,\"\\u2581\":2,\"a\\u2581\":3,"
        "\"a\\u2581b\":4},\"merges\":[\"a \\u2581\",\"a\\u2581 b\"]}}";
    tokenizer_of k;
    tokenizer_from_text(&k, json, sizeof json - 1, NULL);
    CHECK_EQ(c, k.st, NB_OK);
    if (k.t)
        ids_are(c, k.t, "a b b", 5, 0, "4 2 1");
    tokenizer_gone(&k);
}

static void broken_utf8(check *c)
{
    tokenizer_of k;
    tokenizer_from_data(&k, "bytes");
    CHECK_EQ(c, k.st, NB_OK);
    if (!k.t)
        return;
    nb_ids a = {0}, b = {0};
    static const char broken[] = "x\xe2\x82y\xc0\x80z\xed\xa0\x80";
    static const char fixed[] =
        "x\xef\xbf\xbdy\xef\xbf\xbd\xef\xbf\xbdz\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd";
    CHECK_EQ(c, nb_tokenizer_encode(k.t, broken, sizeof broken - 1, 0, &a, NULL), NB_OK);
    CHECK_EQ(c, nb_tokenizer_encode(k.t, fixed, sizeof fixed - 1, 0, &b, NULL), NB_OK);
    CHECK_EQ(c, a.n, b.n);
    CHECK(c, a.n == b.n && memcmp(a.p, b.p, a.n * sizeof *a.p) == 0);
    nb_ids_free(&a);
    nb_ids_free(&b);
    tokenizer_gone(&k);
}

/* Text through encode, push and flush comes back, whole characters at every step. */
static void round_trip(check *c, const char *folder, const char *text, size_t n)
{
    tokenizer_of k;
    nb_ids v = {0};
    nb_buf out;
    nb_detok d;
    tokenizer_from_data(&k, folder);
    CHECK_EQ(c, k.st, NB_OK);
    if (!k.t)
        return;
    nb_buf_init(&out, 1 << 20);
    nb_detok_init(&d, k.t);
    CHECK_EQ(c, nb_tokenizer_encode(k.t, text, n, NB_TOKENIZE_BOS, &v, NULL), NB_OK);
    for (size_t i = 0; i < v.n; i++) {
        CHECK_EQ(c, nb_detok_push(&d, v.p[i], &out, NULL), NB_OK);
        CHECK(c, out.n == 0 ||
                     ((unsigned char)out.p[out.n - 1] < 0xc0 && memcmp(out.p, text, out.n) == 0));
    }
    CHECK_EQ(c, nb_detok_flush(&d, &out, NULL), NB_OK);
    CHECK_EQ(c, out.n, n);
    CHECK(c, out.n == n && memcmp(out.p, text, n) == 0);
    nb_buf_free(&out);
    nb_ids_free(&v);
    tokenizer_gone(&k);
}

static void detokenizing(check *c)
{
    static const char text[] = " two  spaces, na\xc3\xafve \xf0\x9f\x98\x80 \xe6\x97\xa5\n\0end";
    round_trip(c, "bytes", text, sizeof text - 1);
    round_trip(c, "stories260K", text, sizeof text - 1);
}

static void broken_stream(check *c)
{
    tokenizer_of k;
    nb_buf out;
    nb_detok d;
    tokenizer_from_data(&k, "bytes");
    CHECK_EQ(c, k.st, NB_OK);
    if (!k.t)
        return;
    nb_buf_init(&out, 1000);
    nb_detok_init(&d, k.t);
    /* the test's vocabulary spells byte b with id b */
    static const int32_t ids[] = {'a', 0xf0, 0x9f, 'b', 0xe2, 256, 0x82, 0xac, 0xe2, 0x82};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        CHECK_EQ(c, nb_detok_push(&d, ids[i], &out, NULL), NB_OK);
    CHECK_STR(c, out.p,
              "a\xef\xbf\xbd"
              "b\xe2\x82\xac");
    CHECK_EQ(c, nb_detok_flush(&d, &out, NULL), NB_OK);
    CHECK_STR(c, out.p,
              "a\xef\xbf\xbd"
              "b\xe2\x82\xac\xef\xbf\xbd");
    CHECK_EQ(c, nb_detok_push(&d, 1 << 30, &out, NULL), NB_OK); /* a padding row of the model */
    CHECK_EQ(c, nb_detok_push(&d, -1, &out, NULL), NB_BAD_INPUT);
    nb_buf_free(&out);
    tokenizer_gone(&k);
}

static void ends(check *c)
{
    tokenizer_of k;
    tokenizer_from_data(&k, "bytes");
    CHECK_EQ(c, k.st, NB_OK);
    if (k.t) {
        CHECK_EQ(c, nb_tokenizer_bos(k.t), 256);
        CHECK_EQ(c, nb_tokenizer_eos(k.t), 257);
        CHECK(c, nb_tokenizer_is_end(k.t, 257));
        CHECK(c, !nb_tokenizer_is_end(k.t, 256));
        CHECK(c, !nb_tokenizer_is_end(k.t, -1) && !nb_tokenizer_is_end(k.t, 1 << 30));
        CHECK(c, !nb_tokenizer_adds_bos(k.t));
    }
    tokenizer_gone(&k);
    tokenizer_from_data(&k, "stories260K");
    if (k.t) {
        CHECK(c, nb_tokenizer_adds_bos(k.t));
        CHECK(c, nb_tokenizer_is_end(k.t, 2));
        ids_are(c, k.t, "", 0, NB_TOKENIZE_BOS, "1");
    }
    tokenizer_gone(&k);
}

static const check_case cases[] = {
    {"special tokens match longest first and take white space where they say so", special_tokens},
    {"the guard byte keeps a control token plain and then is gone", guard},
    {"normalizers prepend, replace and fold", normalizers},
    {"a Strip takes white space from the ends it names", strip},
    {"a token for single words is none inside of a word", single_words},
    {"a Split isolates its matches or drops what lies between", splits},
    {"a token may go on behind a space where the vocabulary has such", tokens_across_spaces},
    {"broken UTF-8 becomes U+FFFD as Unicode recommends", broken_utf8},
    {"text comes back from its tokens character by character", detokenizing},
    {"bytes that become no character are replaced once it is certain", broken_stream},
    {"the ends of generation are known", ends},
};
CHECK_MAIN(cases)
