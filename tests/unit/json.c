/* json.c -- values, strings, lookups and positions of well-formed JSON. */
#include "file/json.h"
#include "check.h"

#include <locale.h>

static nb_json *parse(check *c, const char *text)
{
    nb_json *doc = NULL;
    nb_error err = {0};
    if (nb_json_parse("test.json", text, strlen(text), &doc, &err) != NB_OK)
        CHECK_STR(c, err.message, "");
    return doc;
}

static void integers(check *c)
{
    static const struct {
        const char *text;
        bool is_int, is_u64;
        int64_t i;
        uint64_t u;
        double r;
    } rows[] = {
        {"0", true, true, 0, 0, 0},
        {"-0", true, true, 0, 0, 0},
        {"-1", true, false, -1, 0, -1},
        {"9007199254740993", true, true, 9007199254740993, 9007199254740993, 0x1p53},
        {"9223372036854775807", true, true, INT64_MAX, INT64_MAX, 0x1p63},
        {"9223372036854775808", false, true, 0, (uint64_t)1 << 63, 0x1p63},
        {"18446744073709551615", false, true, 0, UINT64_MAX, 0x1p64},
        {"18446744073709551616", false, false, 0, 0, 0x1p64},
        {"-9223372036854775808", true, false, INT64_MIN, 0, -0x1p63},
        {"-9223372036854775809", false, false, 0, 0, -0x1p63},
        {"1000000000000000019884624838656", false, false, 0, 0, 1e30},
        {"1.0", false, false, 0, 0, 1},
        {"-2.5e-3", false, false, 0, 0, -2.5e-3},
        {"1E+2", false, false, 0, 0, 100},
        {"4.9e-324", false, false, 0, 0, 4.9e-324},
        {"1.7976931348623157e308", false, false, 0, 0, 1.7976931348623157e308},
    };
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        nb_json *doc = parse(c, rows[k].text);
        if (!doc)
            continue;
        const nb_json_node *v = nb_json_root(doc);
        int64_t i = 0;
        uint64_t u = 0;
        double r = 0;
        CHECK_EQ(c, nb_json_int(v, &i), rows[k].is_int);
        CHECK_EQ(c, nb_json_u64(v, &u), rows[k].is_u64);
        CHECK(c, nb_json_real(v, &r));
        CHECK_EQ(c, i, rows[k].i);
        CHECK(c, u == rows[k].u);
        CHECK_NEAR(c, r, rows[k].r, 0, rows[k].text);
        CHECK_EQ(c, nb_json_typeof(v) == NB_JSON_INT, rows[k].is_int || rows[k].is_u64);
        nb_json_close(doc);
    }
}

static void strings(check *c)
{
    nb_json *doc = parse(
        c, "[\"\",\"a\\u0000b\",\"\\\"\\\\\\/\\b\\f\\n\\r\\t\",\"\\u00e9\\u20AC\\ud83D\\uDE00"
           "\",\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\",\"\\u007f\\u0080\\u07ff\\u0800\\uffff\"]");
    static const struct {
        const char *s;
        size_t n;
    } want[] = {{"", 0},
                {"a\0b", 3},
                {"\"\\/\b\f\n\r\t", 8},
                {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9},
                {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9},
                {"\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf", 11}};
    size_t i = 0;
    const nb_json_node *v = doc ? nb_json_first(nb_json_root(doc)) : NULL;
    for (; v && i < 6; v = nb_json_next(v), i++) {
        const char *s = NULL;
        size_t n = 0;
        CHECK(c, nb_json_string(v, &s, &n));
        CHECK(c, s && n == want[i].n && memcmp(s, want[i].s, n) == 0 && s[n] == 0);
    }
    CHECK_EQ(c, i, 6);
    CHECK(c, v == NULL);
    nb_json_close(doc);
}

static void structure(check *c)
{
    nb_json *doc = parse(c, " {\"a\": [1, [2, {\"x\": {}}], \"s\"], \"b\": null, \"\": true} ");
    if (!doc)
        return;
    const nb_json_node *root = nb_json_root(doc), *a = nb_json_get(root, "a");
    size_t n = 9;
    bool yes = false;
    int64_t two = 0;
    CHECK_EQ(c, nb_json_typeof(root), NB_JSON_OBJECT);
    CHECK_EQ(c, nb_json_count(root), 3);
    CHECK_EQ(c, nb_json_offset(root), 1);
    CHECK_EQ(c, nb_json_offset(a), 7);
    CHECK_EQ(c, nb_json_count(a), 3);
    CHECK_STR(c, nb_json_key(a, &n), "a");
    CHECK_EQ(c, n, 1);
    CHECK(c, nb_json_key(nb_json_first(a), &n) == NULL && n == 0);
    CHECK(c, nb_json_int(nb_json_at(nb_json_at(a, 1), 0), &two) && two == 2);
    CHECK_EQ(c, nb_json_typeof(nb_json_get(nb_json_at(nb_json_at(a, 1), 1), "x")), NB_JSON_OBJECT);
    CHECK(c, nb_json_at(a, 3) == NULL);
    CHECK_EQ(c, nb_json_typeof(nb_json_get(root, "b")), NB_JSON_NULL);
    CHECK(c, nb_json_bool(nb_json_get(root, ""), &yes) && yes);
    CHECK(c, nb_json_next(nb_json_get(root, "")) == NULL);
    CHECK(c, nb_json_next(root) == NULL);
    CHECK(c, nb_json_get(root, "c") == NULL && nb_json_get(a, "a") == NULL);
    CHECK(c, nb_json_get(NULL, "a") == NULL && nb_json_at(NULL, 0) == NULL);
    CHECK(c, nb_json_first(NULL) == NULL && nb_json_count(NULL) == 0);
    CHECK(c, !nb_json_bool(a, &yes) && !nb_json_string(NULL, NULL, NULL) && !nb_json_int(a, &two));
    nb_json_close(doc);
}

static void wide_objects(check *c)
{
    for (int members = 1; members < 40; members++) { /* the index starts at nine */
        char text[1024] = "{";
        int wrong = 0;
        for (int i = 0; i < members; i++) {
            char m[40];
            snprintf(m, sizeof m, "%s\"key%d\":[{\"v\":%d}]", i ? "," : "", i, i);
            strcat(text, m);
        }
        strcat(text, "}");
        nb_json *doc = parse(c, text);
        if (!doc)
            continue;
        CHECK_EQ(c, nb_json_count(nb_json_root(doc)), members);
        int i = 0;
        for (const nb_json_node *v = nb_json_first(nb_json_root(doc)); v;
             v = nb_json_next(v), i++) {
            char key[16];
            int64_t n = -1;
            snprintf(key, sizeof key, "key%d", i);
            wrong += nb_json_get(nb_json_root(doc), key) != v;
            wrong += !nb_json_int(nb_json_get(nb_json_at(v, 0), "v"), &n) || n != i;
        }
        CHECK_EQ(c, i, members);
        CHECK_EQ(c, wrong, 0);
        CHECK(c, nb_json_get(nb_json_root(doc), "key") == NULL);
        nb_json_close(doc);
    }
}

static void base_offset(check *c)
{
    nb_json *doc = NULL;
    nb_error err = {0};
    CHECK_EQ(c, nb_json_parse_at("f", 1000, "[x]", 3, &doc, &err), NB_BAD_INPUT);
    CHECK_EQ(c, err.offset, 1001);
    CHECK_STR(c, err.message, "f: bad JSON: a value is expected, offset 1001");
    CHECK_EQ(c, nb_json_parse("f", "[", 1, &doc, NULL), NB_BAD_INPUT);
}

static void other_locale(check *c)
{
    static const char *const names[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "de_DE", "fr_FR"};
    bool set = false;
    for (size_t i = 0; i < 4 && !set; i++)
        set = setlocale(LC_NUMERIC, names[i]) != NULL;
    if (!set) {
        check_skip(c, "no locale with a decimal comma is installed");
        return;
    }
    nb_json *doc = parse(c, "1.5");
    double r = 0;
    CHECK(c, doc && nb_json_real(nb_json_root(doc), &r) && r == 1.5);
    nb_json_close(doc);
    setlocale(LC_NUMERIC, "C");
}

static const check_case cases[] = {
    {"integers are exact over 64 bits, signed and unsigned, and real beyond", integers},
    {"strings are unescaped to UTF-8 and may hold NUL", strings},
    {"values are found by key, by place and in order", structure},
    {"members of objects of any width are found, by index from nine on", wide_objects},
    {"offsets count from the start of the file", base_offset},
    {"a locale with a decimal comma changes nothing", other_locale},
};
CHECK_MAIN(cases)
