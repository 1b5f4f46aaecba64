/* pretokenize.c -- classes of characters and cuts of texts against the hub's `tokenizers`
 * (tests/data/text/README.md): every code point through every class, and texts of awkward
 * characters through the patterns behind GGUF's names. */
#include "file/utf8.h"
#include "text/vocab.h"
#include "tokenizers.h"

enum { kCodes = 0x110000, kTextBytes = 4 * kCodes };

struct cuts { /* a tokenizer with cuts and nothing else, and what they make of a text */
    nb_tokenizer t;
    nb_cutter w;
    int64_t piece[512]; /* code points of each piece */
    size_t n;
    unsigned char *in; /* [kCodes] is the code point in a piece? */
};

static nb_status note(void *arg, const char *p, size_t n, nb_error *err)
{
    struct cuts *k = arg;
    int64_t count = 0;
    (void)err;
    for (size_t i = 0; i < n; count++) {
        uint32_t code = 0;
        i += nb_utf8_at((const unsigned char *)p + i, n - i, &code);
        if (k->in)
            k->in[code] = 1;
    }
    if (k->n < sizeof k->piece / sizeof *k->piece)
        k->piece[k->n] = count;
    k->n++;
    return NB_OK;
}

static void cut(check *c, struct cuts *k, const char *text, size_t n)
{
    nb_error err = {.offset = -1};
    k->n = 0;
    CHECK_EQ(c, nb_cutter_open(&k->t, &k->w, &err), NB_OK);
    CHECK_EQ(c, nb_pretokenize(&k->t, &k->w, text, n, note, k, &err), NB_OK);
    CHECK_STR(c, err.message, "");
    nb_cutter_close(&k->w);
}

static void class_is(check *c, struct cuts *k, const char *name, const char *every, size_t every_n,
                     const nb_json_node *ranges)
{
    static unsigned char in[kCodes], want[kCodes];
    int wrong = 0;
    memset(in, 0, sizeof in);
    memset(want, 0, sizeof want);
    for (const nb_json_node *e = nb_json_first(ranges); e; e = nb_json_next(nb_json_next(e))) {
        int64_t first = 0, last = -1;
        CHECK(c, nb_json_int(e, &first) && nb_json_int(nb_json_next(e), &last) && first <= last &&
                     last < kCodes);
        memset(want + first, 1, (size_t)(last - first + 1));
    }
    k->in = in;
    cut(c, k, every, every_n);
    for (int i = 0; i < kCodes; i++)
        if (in[i] != want[i] && ++wrong <= 5)
            fprintf(stderr, "  %s: U+%04X is %s\n", name, (unsigned)i, in[i] ? "in it" : "missing");
    CHECK_EQ(c, wrong, 0);
    nb_pretokenize_close(&k->t);
}

static void every_code_point(check *c)
{
    nb_json *doc = text_data("classes.json");
    char *every = malloc(kTextBytes), *end = every;
    nb_error err = {.offset = -1};
    CHECK(c, doc && every);
    for (uint32_t i = 0; every && i < kCodes; i++)
        if (i < 0xd800 || i > 0xdfff)
            end = nb_utf8_put(end, i);
    const nb_json_node *v = doc ? nb_json_first(nb_json_get(nb_json_root(doc), "patterns")) : NULL;
    for (; v && every; v = nb_json_next(v)) {
        struct cuts k = {.t.unknown = -1};
        nb_str pattern;
        pattern.p = nb_json_key(v, &pattern.n);
        CHECK_EQ(c, nb_pretokenize_add(&k.t, "test", -1, pattern, true, &err), NB_OK);
        class_is(c, &k, pattern.p, every, (size_t)(end - every), v);
    }
    static const char digits[] = "{\"type\":\"Digits\",\"individual_digits\":true}";
    struct cuts k = {.t.unknown = -1};
    nb_json *stage = NULL;
    CHECK_EQ(c, nb_json_parse("test", digits, sizeof digits - 1, &stage, &err), NB_OK);
    CHECK_EQ(
        c, stage ? nb_json_read_pretokenizer(&k.t, "test", nb_json_root(stage), &err) : NB_INTERNAL,
        NB_OK);
    k.t.cut[0].drops_rest = true;
    if (doc && every)
        class_is(c, &k, "Digits", every, (size_t)(end - every),
                 nb_json_get(nb_json_root(doc), "digits"));
    nb_json_close(stage);
    nb_json_close(doc);
    free(every);
}

static void pieces_are(check *c, const struct cuts *k, const char *name, const char *text,
                       const nb_json_node *want)
{
    size_t i = 0;
    bool same = nb_json_count(want) == k->n;
    for (const nb_json_node *e = nb_json_first(want); e && same; e = nb_json_next(e)) {
        int64_t n = -1;
        same = nb_json_int(e, &n) && n == k->piece[i++];
    }
    CHECK(c, same);
    if (!same)
        fprintf(stderr, "  %s cuts \"%s\" otherwise\n", name, text);
}

static void patterns(check *c)
{
    nb_json *doc = text_data("classes.json");
    const nb_json_node *root = doc ? nb_json_root(doc) : NULL,
                       *v = nb_json_first(nb_json_get(root, "pieces"));
    CHECK(c, v != NULL);
    for (; v; v = nb_json_next(v)) {
        struct cuts k = {.t.unknown = -1};
        nb_str name;
        nb_error err = {.offset = -1};
        name.p = nb_json_key(v, &name.n);
        CHECK_EQ(c, nb_pretokenize_named(&k.t, "test", name, &err), NB_OK);
        const nb_json_node *text = nb_json_first(nb_json_get(root, "texts"));
        for (const nb_json_node *e = nb_json_first(v); e && text;
             e = nb_json_next(e), text = nb_json_next(text)) {
            const char *s = "";
            size_t n = 0;
            CHECK(c, nb_json_string(text, &s, &n));
            cut(c, &k, s, n);
            pieces_are(c, &k, name.p, s, e);
        }
        CHECK_STR(c, nb_pretokenize_name(&k.t, k.t.whole_first), name.p);
        nb_pretokenize_close(&k.t);
    }
    for (v = nb_json_first(nb_json_get(root, "lines")); v; v = nb_json_next(v)) {
        struct cuts k = {.t.unknown = -1};
        nb_str pattern = {0}, text = {0};
        nb_error err = {.offset = -1};
        CHECK(c, nb_json_string(nb_json_at(v, 0), &pattern.p, &pattern.n) &&
                     nb_json_string(nb_json_at(v, 1), &text.p, &text.n));
        CHECK_EQ(c, nb_pretokenize_add(&k.t, "test", -1, pattern, false, &err), NB_OK);
        cut(c, &k, text.p, text.n);
        pieces_are(c, &k, pattern.p, text.p, nb_json_at(v, 2));
        nb_pretokenize_close(&k.t);
    }
    nb_json_close(doc);
}

static const check_case cases[] = {
    {"every code point is in the classes it is in for the hub", every_code_point},
    {"the patterns behind GGUF's names cut texts as the hub does", patterns},
};
CHECK_MAIN(cases)
