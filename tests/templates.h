/* templates.h -- rendering in tests: a template's text and a conversation's JSON in, text out. */
#ifndef NB_TESTS_TEMPLATES_H
#define NB_TESTS_TEMPLATES_H

#include "text/template.h"
#include "tokenizers.h"

enum {
    TEMPLATES_NOW = 1751632496
}; /* 2025-07-04 12:34:56, what strftime_now sees in the goldens */

typedef struct rendered {
    nb_status st;
    nb_error err;
    nb_buf out;
} rendered;

static inline rendered render_node(const char *src, size_t n, const nb_json_node *conversation,
                                   const nb_tokenizer *guard)
{
    const nb_template_env env = {.bos_token = "<s>",
                                 .bos_token_n = 3,
                                 .eos_token = "</s>",
                                 .eos_token_n = 4,
                                 .now = TEMPLATES_NOW,
                                 .guard = guard};
    rendered r = {.err.offset = -1};
    nb_buf_init(&r.out, 16 << 20);
    r.st = nb_template_render(src, n, conversation, &env, &r.out, &r.err);
    return r;
}

static inline rendered render_text(check *c, const char *src, const char *json)
{
    nb_json *doc = NULL;
    nb_error err = {.offset = -1};
    CHECK_EQ(c, nb_json_parse("conversation", json, strlen(json), &doc, &err), NB_OK);
    const rendered r = render_node(src, strlen(src), doc ? nb_json_root(doc) : NULL, NULL);
    nb_json_close(doc);
    return r;
}

/* The text without guard bytes, in place. */
static inline void unguard(nb_buf *b)
{
    size_t o = 0;
    for (size_t i = 0; i < b->n; i++)
        if (b->p[i] != NB_TOKENIZE_GUARD)
            b->p[o++] = b->p[i];
    b->n = o;
    if (b->p)
        b->p[o] = 0;
}

#endif
