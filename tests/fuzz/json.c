/* json.c -- fuzz target: the JSON reader against jansson.
 *
 * What jansson accepts we accept, except nesting deeper than 128 and raw NUL bytes, which no JSON
 * has and some of which jansson 2.14 passes over behind a value. What we accept jansson accepts,
 * except integers beyond its 64 bits and keys that hold NUL. Where both accept, the values are
 * equal. */
#include "file/json.h"
#include "fuzz/fuzz.h"

#include <string.h>

#ifdef NB_HAVE_JANSSON
#include <jansson.h>

static void same(const nb_json_node *v, const json_t *j)
{
    const char *s = NULL;
    size_t n = 0, i = 0;
    double r = 0;
    int64_t k = 0;
    bool yes = false;
    switch (json_typeof(j)) {
    case JSON_OBJECT:
        FUZZ_PROMISE(nb_json_typeof(v) == NB_JSON_OBJECT, "an object");
        FUZZ_PROMISE(nb_json_count(v) == json_object_size(j), "the members of an object");
        for (const nb_json_node *m = nb_json_first(v); m; m = nb_json_next(m))
            same(m, json_object_get(j, nb_json_key(m, &n)));
        return;
    case JSON_ARRAY:
        FUZZ_PROMISE(nb_json_typeof(v) == NB_JSON_ARRAY, "an array");
        FUZZ_PROMISE(nb_json_count(v) == json_array_size(j), "the elements of an array");
        for (const nb_json_node *m = nb_json_first(v); m; m = nb_json_next(m))
            same(m, json_array_get(j, i++));
        return;
    case JSON_STRING:
        FUZZ_PROMISE(nb_json_string(v, &s, &n) && n == json_string_length(j) &&
                         memcmp(s, json_string_value(j), n) == 0,
                     "a string");
        return;
    case JSON_INTEGER:
        FUZZ_PROMISE(nb_json_int(v, &k) && k == json_integer_value(j), "an integer");
        return;
    case JSON_REAL:
        r = json_real_value(j);
        FUZZ_PROMISE(nb_json_typeof(v) == NB_JSON_REAL, "a real");
        double ours = 0;
        FUZZ_PROMISE(nb_json_real(v, &ours) && memcmp(&ours, &r, sizeof r) == 0, "a real's value");
        return;
    case JSON_TRUE:
    case JSON_FALSE:
        FUZZ_PROMISE(nb_json_bool(v, &yes) && yes == json_is_true(j), "a bool");
        return;
    case JSON_NULL:
        FUZZ_PROMISE(nb_json_typeof(v) == NB_JSON_NULL, "null");
        return;
    }
}

static void compare(const nb_json *doc, const nb_error *err, const uint8_t *data, size_t size)
{
    json_error_t why;
    json_t *j = json_loadb((const char *)data, size,
                           JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
    if (j && !doc)
        FUZZ_PROMISE(strstr(err->message, "deeper than 128") || memchr(data, 0, size),
                     err->message);
    if (!j && doc)
        FUZZ_PROMISE(json_error_code(&why) == json_error_numeric_overflow ||
                         json_error_code(&why) == json_error_null_byte_in_key,
                     why.text);
    if (j && doc)
        same(nb_json_root(doc), j);
    json_decref(j);
}
#else
static void compare(const nb_json *doc, const nb_error *err, const uint8_t *data, size_t size)
{
    (void)doc;
    (void)err;
    (void)data;
    (void)size;
}
#endif

/* Counts, offsets and lookups agree with what iteration finds. Recursion ends at the reader's 128
 * levels. */
static void walk(const nb_json_node *v, size_t size)
{
    size_t n = 0, key_n = 0;
    FUZZ_PROMISE(nb_json_offset(v) < size, "an offset inside the text");
    for (const nb_json_node *m = nb_json_first(v); m; m = nb_json_next(m), n++) {
        const char *key = nb_json_key(m, &key_n);
        FUZZ_PROMISE((key != NULL) == (nb_json_typeof(v) == NB_JSON_OBJECT),
                     "keys in objects only");
        if (key && strlen(key) == key_n)
            FUZZ_PROMISE(nb_json_get(v, key) == m, "a member is found by its key");
        walk(m, size);
    }
    FUZZ_PROMISE(n == nb_json_count(v), "the count of an array or object");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nb_json *doc = NULL;
    nb_error err = {0};
    const nb_status st = nb_json_parse("fuzz", (const char *)data, size, &doc, &err);
    FUZZ_PROMISE((st == NB_OK) == (doc != NULL), "a document or a refusal");
    if (doc)
        walk(nb_json_root(doc), size);
    else
        FUZZ_PROMISE((st == NB_BAD_INPUT || st == NB_UNSUPPORTED) && err.message[0] &&
                         err.offset >= 0 && (size_t)err.offset <= size,
                     "a refusal has a place");
    compare(doc, &err, data, size);
    nb_json_close(doc);
    return 0;
}
