/* json.c -- hostile JSON: every text is read or refused as RFC 8259 says, with the place of the
 * fault. */
#include "file/json.h"
#include "hostile/rows.h"

static void depth_bomb(bytes *b)
{
    for (int i = 0; i < 100000; i++)
        put_u8(b, '[');
}

static void depth(bytes *b, int n)
{
    for (int i = 0; i < n; i++)
        put_text(b, i % 2 ? "{\"a\":" : "[");
    put_text(b, "1");
    for (int i = n - 1; i >= 0; i--)
        put_u8(b, i % 2 ? '}' : ']');
}

static void depth_128(bytes *b)
{
    depth(b, 128);
}

static void depth_129(bytes *b)
{
    depth(b, 129);
}

static void long_number(bytes *b)
{
    put_text(b, "0.");
    for (int i = 0; i < 1100; i++)
        put_u8(b, '0' + (unsigned)i % 10);
}

static void long_integer(bytes *b)
{
    for (int i = 0; i < 1101; i++)
        put_u8(b, '7');
}

static void dense(bytes *b)
{
    put_text(b, "[0");
    for (int i = 0; i < 1000000; i++)
        put_text(b, ",0");
    put_text(b, "]");
}

static void too_long(bytes *b)
{
    put_text(b, "\"");
    b->p = realloc(b->p, b->cap = 100000001);
    if (!b->p)
        exit(1);
    memset(b->p + 1, 'a', 100000000);
    b->n = 100000001;
}

#define BAD NB_BAD_INPUT
static const hostile_row rows[] = {
    {"js-empty: nothing at all", NULL, "", 0, 0, BAD, "a value is expected, offset 0"},
    {"js-space: only spaces", NULL, " \n", 0, 0, BAD, "a value is expected, offset 2"},
    {"js-depth: 100000 open brackets", depth_bomb, NULL, 0, 0, BAD, "deeper than 128"},
    {"js-depth: 128 levels are read", depth_128, NULL, 0, 0, NB_OK, NULL},
    {"js-depth: 129 levels are refused", depth_129, NULL, 0, 0, BAD, "deeper than 128"},
    {"js-num: 01", NULL, "01", 0, 0, BAD, "leading zero"},
    {"js-num: -01", NULL, "-01", 0, 0, BAD, "leading zero"},
    {"js-num: +1", NULL, "+1", 0, 0, BAD, "value is expected"},
    {"js-num: .5", NULL, ".5", 0, 0, BAD, "value is expected"},
    {"js-num: 1.", NULL, "[1.]", 0, 0, BAD, "digits"},
    {"js-num: -", NULL, "-", 0, 0, BAD, "digits"},
    {"js-num: 1e", NULL, "1e", 0, 0, BAD, "exponent"},
    {"js-num: 1e+", NULL, "1e+", 0, 0, BAD, "exponent"},
    {"js-num: NaN", NULL, "NaN", 0, 0, BAD, "value is expected"},
    {"js-num: nan", NULL, "nan", 0, 0, BAD, "value is expected"},
    {"js-num: Infinity", NULL, "-Infinity", 0, 0, BAD, "digits"},
    {"js-num: 0x10", NULL, "0x10", 0, 0, BAD, "behind the value"},
    {"js-num: 1e400", NULL, "1e400", 0, 0, BAD, "range of double"},
    {"js-num: -1e400", NULL, "-1e400", 0, 0, BAD, "range of double"},
    {"js-num: 1e-400 is zero", NULL, "1e-400", 0, 0, NB_OK, NULL},
    {"js-num: 1100 digits behind the point are read", long_number, NULL, 0, 0, NB_OK, NULL},
    {"js-num: an integer of 1101 digits", long_integer, NULL, 0, 0, BAD, "range of double"},
    {"js-surrogate: a lone high one", NULL, "\"\\ud800\"", 0, 0, BAD, "surrogate"},
    {"js-surrogate: a lone low one", NULL, "\"\\udc00\"", 0, 0, BAD, "surrogate"},
    {"js-surrogate: two high ones", NULL, "\"\\ud800\\ud800\"", 0, 0, BAD, "surrogate"},
    {"js-surrogate: a high one, then text", NULL, "\"\\ud800abcdef\"", 0, 0, BAD, "surrogate"},
    {"js-surrogate: a pair is read", NULL, "\"\\ud83d\\ude00\"", 0, 0, NB_OK, NULL},
    {"js-escape: \\x", NULL, "\"\\x41\"", 0, 0, BAD, "unknown escape"},
    {"js-escape: \\u12g4", NULL, "\"\\u12g4\"", 0, 0, BAD, "4 hex digits"},
    {"js-escape: NUL behind a backslash", NULL, "\"\\\0\"", 4, 0, BAD, "unknown escape"},
    {"js-control: a newline in a string", NULL, "\"a\nb\"", 0, 0, BAD, "control character"},
    {"js-control: NUL in a string", NULL, "\"a\0b\"", 5, 0, BAD, "control character"},
    {"js-dup: two equal keys", NULL, "{\"a\":1,\"a\":1}", 0, 0, BAD, "duplicate key \"a\""},
    {"js-dup: equal after unescaping", NULL, "{\"a\":1,\"\\u0061\":2}", 0, 0, BAD, "duplicate"},
    {"js-dup: among more than eight", NULL,
     "{\"a\":1,\"b\":1,\"c\":1,\"d\":1,\"e\":1,\"f\":1,\"g\":1,\"h\":1,\"i\":1,\"c\":1}", 0, 0, BAD,
     "duplicate key \"c\""},
    {"js-dup: ESC in the key is shown escaped", NULL, "{\"\\u001b\":1,\"\\u001b\":1}", 0, 0, BAD,
     "\\x1b"},
    {"js-utf8: a lone continuation byte", NULL, "\"\x80\"", 0, 0, BAD, "UTF-8"},
    {"js-utf8: an overlong slash", NULL, "\"\xc0\xaf\"", 0, 0, BAD, "UTF-8"},
    {"js-utf8: an encoded surrogate", NULL, "\"\xed\xa0\x80\"", 0, 0, BAD, "UTF-8"},
    {"js-utf8: beyond U+10FFFF", NULL, "\"\xf4\x90\x80\x80\"", 0, 0, BAD, "UTF-8"},
    {"js-utf8: cut inside a character", NULL, "\"\xe2\x82", 0, 0, BAD, "UTF-8"},
    {"js-utf8: U+10FFFF is read", NULL, "\"\xf4\x8f\xbf\xbf\"", 0, 0, NB_OK, NULL},
    {"js-bom: a byte order mark", NULL, "\xef\xbb\xbf{}", 0, 0, BAD, "BOM"},
    {"js-tail: a second value", NULL, "{} {}", 0, 0, BAD, "behind the value, offset 3"},
    {"js-tail: NUL", NULL, "{}\0", 3, 0, BAD, "behind the value"},
    {"js-comma: behind the last element", NULL, "[1,]", 0, 0, BAD, "value is expected"},
    {"js-comma: behind the last member", NULL, "{\"a\":1,}", 0, 0, BAD, "key in quotes"},
    {"js-comma: missing", NULL, "[1 2]", 0, 0, BAD, "comma"},
    {"js-comma: before the first element", NULL, "[,1]", 0, 0, BAD, "value is expected"},
    {"js-colon: missing", NULL, "{\"a\" 1}", 0, 0, BAD, "colon"},
    {"js-brace: closed by a bracket", NULL, "{\"a\":1]", 0, 0, BAD, "comma or }"},
    {"js-comment: // and /* are refused", NULL, "[1 // x\n]", 0, 0, BAD, "comma or ]"},
    {"js-key: without quotes", NULL, "{a:1}", 0, 0, BAD, "key in quotes"},
    {"js-quote: single quotes", NULL, "'a'", 0, 0, BAD, "value is expected"},
    {"js-word: True", NULL, "True", 0, 0, BAD, "value is expected"},
    {"js-dense: a million values in two bytes each", dense, NULL, 0, 0, NB_UNSUPPORTED, "values"},
    {"js-long: more than 100 MB", too_long, NULL, 0, 0, BAD, "at most 100000000"},
};
enum { kRows = sizeof rows / sizeof *rows };

static void run_row(check *c)
{
    const hostile_row *row = row_of(rows, kRows, c);
    nb_json *doc = NULL;
    nb_error err = {0};
    bytes b = {0};
    if (row->build)
        row->build(&b);
    else
        put(&b, row->text, row->text_n ? row->text_n : strlen(row->text));
    uint8_t *p = exactly(&b);
    const nb_status st = nb_json_parse("hostile.file", (const char *)p, b.n, &doc, &err);
    check_refusal(c, row, st, &err);
    CHECK(c, (st == NB_OK) == (doc != NULL));
    nb_json_close(doc);
    free(p);
    free(b.p);
}

static void every_prefix(check *c)
{
    static const char text[] =
        "{\"a\":[1,-2.5e3,true,null,\"x\\u20ac\\\"\xc3\xa4\"],\"b\":{\"c\":[]}}";
    for (size_t n = 0; n < sizeof text; n++) {
        nb_json *doc = NULL;
        nb_error err = {0};
        bytes b = {0};
        put(&b, text, n);
        uint8_t *p = exactly(&b);
        const nb_status st = nb_json_parse("hostile.file", (const char *)p, n, &doc, &err);
        CHECK_EQ(c, st, n == sizeof text - 1 ? NB_OK : NB_BAD_INPUT);
        CHECK(c, st == NB_OK || (err.offset >= 0 && err.offset <= (int64_t)n));
        nb_json_close(doc);
        free(p);
        free(b.p);
    }
}

/* Quadratic work on as many keys would not end within the test's time limit. */
static void hash_flood(check *c)
{
    enum { kKeys = 200000 };
    nb_json *doc = NULL;
    nb_error err = {0};
    bytes b = {0};
    int64_t wrong = 0;
    for (int i = 0; i < kKeys; i++) {
        char member[48];
        snprintf(member, sizeof member, "%c\"%dAaBB\":%d", i ? ',' : '{', i, i);
        put_text(&b, member);
    }
    put_text(&b, "}");
    CHECK_EQ(c, nb_json_parse("flood", (const char *)b.p, b.n, &doc, &err), NB_OK);
    if (doc) {
        CHECK_EQ(c, nb_json_count(nb_json_root(doc)), kKeys);
        for (int i = 0; i < kKeys; i++) {
            char key[32];
            int64_t v = -1;
            snprintf(key, sizeof key, "%dAaBB", i);
            wrong += !nb_json_int(nb_json_get(nb_json_root(doc), key), &v) || v != i;
        }
        CHECK_EQ(c, wrong, 0);
    }
    nb_json_close(doc);
    free(b.p);
}

static const check_case more[] = {
    {"js-cut: every prefix of a valid text is refused inside it", every_prefix},
    {"js-hash-flood: 200000 keys are all found", hash_flood},
};

int main(int argc, char **argv)
{
    return hostile_main(rows, kRows, run_row, more, sizeof more / sizeof *more, argc, argv);
}
