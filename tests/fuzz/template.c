/* template.c -- fuzz target: a chat template, a NUL byte, and a conversation for it.
 *
 * It renders, or is refused with a sentence, twice the same; the text stays within its budget. */
#include "text/template.h"
#include "fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

static nb_status render(const char *src, size_t n, const nb_json_node *talk, nb_buf *out,
                        nb_error *err)
{
    const nb_template_env env = {.bos_token = "<s>", .bos_token_n = 3, .now = 1751632496};
    nb_buf_init(out, NB_TEMPLATE_OUTPUT);
    return nb_template_render(src, n, talk, &env, out, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char usual[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi \\u00e9\"}],\"tools\":[{\"a\":1.5}]}";
    nb_json *doc = NULL;
    nb_error err = {0};
    const uint8_t *end = size ? memchr(data, 0, size) : NULL;
    const size_t n = end ? (size_t)(end - data) : size;
    const char *json = end ? (const char *)end + 1 : usual;
    if (nb_json_parse("fuzz", json, end ? size - n - 1 : strlen(usual), &doc, &err) != NB_OK &&
        nb_json_parse("fuzz", usual, strlen(usual), &doc, &err) != NB_OK)
        return 0;
    nb_buf a, b;
    nb_error first = {0}, second = {0};
    const nb_status st = render((const char *)data, n, nb_json_root(doc), &a, &first);
    FUZZ_PROMISE(st == NB_OK || st == NB_BAD_INPUT || st == NB_UNSUPPORTED, "text or a refusal");
    FUZZ_PROMISE(st == NB_OK || first.message[0], "a refusal has a sentence");
    FUZZ_PROMISE(a.n <= NB_TEMPLATE_OUTPUT, "the output is within its budget");
    FUZZ_PROMISE(render((const char *)data, n, nb_json_root(doc), &b, &second) == st,
                 "twice the same status");
    FUZZ_PROMISE(strcmp(first.message, second.message) == 0, "twice the same sentence");
    FUZZ_PROMISE(st != NB_OK || (a.n == b.n && (!a.n || !memcmp(a.p, b.p, a.n))),
                 "twice the same text");
    nb_buf_free(&a);
    nb_buf_free(&b);
    nb_json_close(doc);
    return 0;
}
