/* hub_config.c -- what the JSON files beside a tokenizer of the hub say about it: the names of its
 * special tokens, the ids that end a text, the chat template. */
#include "text/vocab.h"

#include <string.h>

/* The id of a token named in tokenizer_config.json (a string, or an object with content); -1. */
int32_t nb_hub_token(const nb_tokenizer *t, const nb_container *c, const char *key)
{
    nb_str text = {0};
    const nb_json_node *v =
        c->tokenizer_config ? nb_json_get(nb_json_root(c->tokenizer_config), key) : NULL;
    if (!nb_json_string(v, &text.p, &text.n) &&
        !nb_json_string(nb_json_get(v, "content"), &text.p, &text.n))
        return -1;
    return nb_vocab_find(t, text.p, text.n);
}

/* eos_token_id of config.json or generation_config.json: an id or a list of them. */
static void read_ends(nb_tokenizer *t, const nb_json *doc)
{
    int64_t id = -1;
    const nb_json_node *v = doc ? nb_json_get(nb_json_root(doc), "eos_token_id") : NULL;
    const nb_json_node *e = v && nb_json_typeof(v) == NB_JSON_ARRAY ? nb_json_first(v) : v;
    const bool list = e != v;
    for (; e; e = list ? nb_json_next(e) : NULL) {
        if (!nb_json_int(e, &id) || id < 0 || id >= t->n)
            continue;
        t->is_end[id] = true;
        if (t->eos < 0)
            t->eos = (int32_t)id;
    }
}

void nb_hub_read_ends(nb_tokenizer *t, const nb_container *c)
{
    read_ends(t, c->generation_config);
    read_ends(t, c->config);
}

void nb_hub_read_chat_template(nb_tokenizer *t, const nb_container *c)
{
    nb_str text = {0};
    t->chat_template = c->chat_template;
    t->chat_template_n = c->chat_template_bytes;
    if (t->chat_template || !c->tokenizer_config)
        return;
    const nb_json_node *v = nb_json_get(nb_json_root(c->tokenizer_config), "chat_template");
    for (const nb_json_node *e = nb_json_first(v); e; e = nb_json_next(e)) { /* named templates */
        nb_str name = {0};
        if (nb_json_string(nb_json_get(e, "name"), &name.p, &name.n) &&
            strcmp(name.p, "default") == 0)
            v = nb_json_get(e, "template");
        if (v && nb_json_typeof(v) == NB_JSON_STRING)
            break;
    }
    if (nb_json_string(v, &text.p, &text.n)) {
        t->chat_template = text.p;
        t->chat_template_n = text.n;
    }
}
