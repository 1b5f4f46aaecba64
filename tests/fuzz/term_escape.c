/* term_escape.c -- fuzz target: text of others on a terminal (nb_escape), as JSON (nb_text_json)
 * and on the report's page.
 *
 * What comes out is valid UTF-8 and ends within its room; no control character, no C1, nothing that
 * turns the direction of writing is in it; printable ASCII stays as it is. The JSON reads back; the
 * page's text holds no markup. */
#include "base/text.h"
#include "file/json.h"
#include "file/utf8.h"
#include "fuzz/fuzz.h"
#include "quant/report_page.h"

#include <stdlib.h>
#include <string.h>

static void harmless(const char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        uint32_t c = 0;
        const size_t len = nb_utf8_at((const unsigned char *)s + i, n - i, &c);
        FUZZ_PROMISE(len > 0, "escaped text is UTF-8");
        FUZZ_PROMISE(c >= 0x20 && (c < 0x7f || c > 0x9f), "no control characters");
        FUZZ_PROMISE(!(c >= 0x202a && c <= 0x202e) && !(c >= 0x2066 && c <= 0x2069),
                     "no turns of direction");
        i += len;
    }
}

static void terminal(const char *text, size_t n, size_t room)
{
    char dst[700];
    memset(dst, 0x55, sizeof dst);
    FUZZ_PROMISE(nb_escape(dst, (int64_t)room, text, (int64_t)n) == dst,
                 "nb_escape returns its room");
    const char *end = memchr(dst, 0, room);
    FUZZ_PROMISE(end != NULL, "escaped text ends within its room");
    for (size_t i = room; i < sizeof dst; i++)
        FUZZ_PROMISE(dst[i] == 0x55, "nothing is written behind the room");
    harmless(dst, (size_t)(end - dst));
    bool plain = n <= 128 && n + 4 < room;
    for (size_t i = 0; i < n && plain; i++)
        plain = text[i] >= ' ' && text[i] <= '~';
    FUZZ_PROMISE(!plain || ((size_t)(end - dst) == n && memcmp(dst, text, n) == 0),
                 "printable text stays");
}

static void json(const char *text, size_t n)
{
    nb_text t = {0};
    nb_json *doc = NULL;
    nb_error err;
    nb_text_json(&t, text, n);
    if (nb_text_check(&t, "a string", &err) == NB_OK) {
        FUZZ_PROMISE(nb_json_parse("text", t.p, t.n, &doc, &err) == NB_OK,
                     "the JSON of a text is read");
        FUZZ_PROMISE(nb_json_typeof(nb_json_root(doc)) == NB_JSON_STRING, "as a string");
    }
    nb_json_close(doc);
    nb_text_free(&t);
}

static void page(const char *text, size_t n)
{
    nb_text t = {0};
    char *s = malloc(n + 1);
    if (!s)
        return;
    memcpy(s, text, n);
    s[n] = 0;
    nb_page_text(&t, s);
    if (!t.failed && t.n) {
        harmless(t.p, t.n);
        FUZZ_PROMISE(!strpbrk(t.p, "<>\"'"), "no markup");
    }
    nb_text_free(&t);
    free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    const char *text = (const char *)data + 1;
    terminal(text, size - 1, 4 + data[0]);
    terminal(text, size - 1, 600);
    json(text, size - 1);
    page(text, size - 1);
    return 0;
}
