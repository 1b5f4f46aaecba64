/* open_json.c -- a tokenizer from the Hub's tokenizer.json (model type BPE, byte-level or with byte
 * fallback) and the names in tokenizer_config.json. The stages around it: json_stages.c. */
#include "text/vocab.h"

#include <string.h>

struct source {
    const nb_container *c;
    const nb_json_node *model, *vocab, *merges, *added;
    bool byte_fallback;
};

static nb_status bad(const struct source *s, const nb_json_node *at, const char *what,
                     nb_error *err)
{
    return nb_fail_at(err, NB_BAD_INPUT, s->c->path, at ? (int64_t)nb_json_offset(at) : -1,
                      "tokenizer.json: %s", what);
}

/* The most ids are given by how many tokens there are: some gaps, but no arrays out of nothing. */
static nb_status read_id(const struct source *s, const nb_json_node *v, int32_t *out, nb_error *err)
{
    int64_t id = -1;
    const int64_t n = (int64_t)(nb_json_count(s->vocab) + nb_json_count(s->added));
    const int64_t most = 4 * n + (1 << 16) < NB_MAX_TOKENS ? 4 * n + (1 << 16) : NB_MAX_TOKENS;
    if (!nb_json_int(v, &id) || id < 0 || id >= most) {
        return nb_fail_at(err, NB_BAD_INPUT, s->c->path, v ? (int64_t)nb_json_offset(v) : -1,
                          "tokenizer.json: a token id is no number from 0 to %lld",
                          (long long)most - 1);
    }
    *out = (int32_t)id;
    return NB_OK;
}

static bool flag(const nb_json_node *object, const char *key)
{
    bool v = false;
    return nb_json_bool(nb_json_get(object, key), &v) && v;
}

static nb_status read_vocab(nb_tokenizer *t, const struct source *s, nb_error *err)
{
    nb_status st = NB_OK;
    int32_t id = 0, most = -1;
    for (const nb_json_node *v = nb_json_first(s->vocab); v && st == NB_OK; v = nb_json_next(v)) {
        st = read_id(s, v, &id, err);
        most = id > most ? id : most;
    }
    for (const nb_json_node *v = nb_json_first(s->added); v && st == NB_OK; v = nb_json_next(v)) {
        st = read_id(s, nb_json_get(v, "id"), &id, err);
        most = id > most ? id : most;
    }
    if (st == NB_OK && most < 0)
        st = bad(s, s->vocab, "the vocabulary is empty", err);
    if (st == NB_OK)
        st = nb_vocab_reserve(t, most + 1, err);
    for (const nb_json_node *v = nb_json_first(s->vocab); v && st == NB_OK; v = nb_json_next(v)) {
        nb_str text = {0};
        text.p = nb_json_key(v, &text.n);
        st = read_id(s, v, &id, err);
        if (st == NB_OK && t->type[id] != NB_TOKEN_UNUSED)
            st = bad(s, v, "two tokens have one id", err);
        if (st != NB_OK)
            break;
        t->token[id] = text;
        t->type[id] =
            s->byte_fallback && nb_spelling_byte(text) >= 0 ? NB_TOKEN_BYTE : NB_TOKEN_NORMAL;
    }
    return st;
}

/* One element of added_tokens. Its text may be in the vocabulary already, under the same id only.
 */
static nb_status read_added(nb_tokenizer *t, const struct source *s, const nb_json_node *v,
                            nb_error *err)
{
    int32_t id = 0;
    nb_str text = {0};
    nb_status st = read_id(s, nb_json_get(v, "id"), &id, err);
    if (st != NB_OK)
        return st;
    if (!nb_json_string(nb_json_get(v, "content"), &text.p, &text.n))
        return bad(s, v, "an added token has no content", err);
    if (text.n == 0)
        return NB_OK; /* matches nowhere */
    const int32_t known = nb_vocab_find(t, text.p, text.n);
    if (known >= 0 && known != id)
        return bad(s, v, "an added token is in the vocabulary under another id", err);
    if (known < 0 && t->token[id].n)
        return bad(s, v, "an added token has another token's id", err);
    t->token[id] = text;
    t->type[id] = flag(v, "special") ? NB_TOKEN_CONTROL : NB_TOKEN_USER;
    t->strip[id] =
        (uint8_t)((flag(v, "lstrip") ? NB_STRIP_LEFT : 0) |
                  (flag(v, "rstrip") ? NB_STRIP_RIGHT : 0) |
                  (flag(v, "single_word") ? NB_SINGLE_WORD : 0) | (known < 0 ? NB_ADDED_ONLY : 0));
    return NB_OK;
}

static nb_status read_merge(nb_tokenizer *t, const struct source *s, const nb_json_node *v,
                            int32_t rank, nb_error *err)
{
    nb_str text = {0}, left = {0}, right = {0};
    if (nb_json_string(v, &text.p, &text.n)) { /* "left right" */
        const char *space = text.n > 1 ? memchr(text.p + 1, ' ', text.n - 1) : NULL;
        if (!space)
            return bad(s, v, "a merge is not two tokens with a space between", err);
        left = (nb_str){text.p, (size_t)(space - text.p)};
        right = (nb_str){space + 1, text.n - left.n - 1};
        if (right.n == 0 || memchr(right.p, ' ', right.n))
            return bad(s, v, "a merge is not two tokens with one space between", err);
    } else if (nb_json_count(v) != 2 || !nb_json_string(nb_json_at(v, 0), &left.p, &left.n) ||
               !nb_json_string(nb_json_at(v, 1), &right.p, &right.n) || !left.n || !right.n) {
        return bad(s, v, "a merge is not a pair of tokens", err);
    }
    return nb_vocab_add_merge(t, s->c->path, (int64_t)nb_json_offset(v), left, right, rank, err);
}

static void read_special_ids(nb_tokenizer *t, const struct source *s)
{
    int64_t id = -1;
    nb_str text = {0};
    const nb_json_node *v =
        s->c->config ? nb_json_get(nb_json_root(s->c->config), "bos_token_id") : NULL;
    t->bos = nb_hub_token(t, s->c, "bos_token");
    if (t->bos < 0 && nb_json_int(v, &id) && id >= 0 && id < t->n)
        t->bos = (int32_t)id;
    t->eos = nb_hub_token(t, s->c, "eos_token");
    t->padding = nb_hub_token(t, s->c, "pad_token");
    nb_hub_read_ends(t, s->c);
    if (nb_json_string(nb_json_get(s->model, "unk_token"), &text.p, &text.n))
        t->unknown = nb_vocab_find(t, text.p, text.n);
}

/* The id of the special token that this element of a template is; -1: it is the text. */
static int32_t template_id(const nb_tokenizer *t, const nb_json_node *post, const nb_json_node *e)
{
    nb_str name = {0};
    int64_t id = -1;
    const nb_json_node *special = nb_json_get(e, "SpecialToken");
    if (!nb_json_string(nb_json_get(special, "id"), &name.p, &name.n))
        return -1;
    const nb_json_node *ids =
        nb_json_get(nb_json_get(nb_json_get(post, "special_tokens"), name.p), "ids");
    return nb_json_int(nb_json_first(ids), &id) && id >= 0 && id < t->n ? (int32_t)id : -1;
}

/* What the post-processor puts around a single text: at most one token on each side. Without a
 * template, tokenizer_config.json's add_bos_token and add_eos_token. */
static nb_status read_frame(nb_tokenizer *t, const struct source *s, nb_error *err)
{
    const nb_json_node *post = nb_json_get(nb_json_root(s->c->tokenizer), "post_processor");
    const nb_json_node *e = nb_json_first(nb_json_get(post, "processors")), *found = NULL;
    for (post = e ? e : post; post; post = e ? nb_json_next(post) : NULL) {
        const char *type = "";
        (void)nb_json_string(nb_json_get(post, "type"), &type, NULL);
        if (strcmp(type, "TemplateProcessing") == 0)
            found = post;
    }
    if (!found) {
        const nb_json_node *config =
            s->c->tokenizer_config ? nb_json_root(s->c->tokenizer_config) : NULL;
        t->adds_bos = flag(config, "add_bos_token");
        t->adds_eos = flag(config, "add_eos_token");
        return NB_OK;
    }
    bool text = false;
    for (e = nb_json_first(nb_json_get(found, "single")); e; e = nb_json_next(e)) {
        if (nb_json_get(e, "Sequence")) {
            text = true;
            continue;
        }
        const int32_t id = template_id(t, found, e);
        if (id < 0 || (text ? t->adds_eos : t->adds_bos))
            return nb_fail_at(err, NB_UNSUPPORTED, s->c->path, (int64_t)nb_json_offset(e),
                              "tokenizer.json: a post_processor of more than one token before and "
                              "one behind the text is not supported");
        if (text) {
            t->eos = t->eos < 0 ? id : t->eos;
            t->adds_eos = true;
        } else {
            t->bos = id;
            t->adds_bos = true;
        }
    }
    return NB_OK;
}

/* What of the model object is not BPE as it is done here. */
static nb_status check_model(const struct source *s, nb_error *err)
{
    static const char *const empty[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    const char *type = s->merges ? "BPE" : "";
    nb_str affix = {0};
    (void)nb_json_string(nb_json_get(s->model, "type"), &type, NULL);
    bool known = strcmp(type, "BPE") == 0;
    for (size_t i = 0; i < sizeof empty / sizeof *empty; i++)
        if (nb_json_string(nb_json_get(s->model, empty[i]), &affix.p, &affix.n) && affix.n)
            known = false;
    if (!known)
        return nb_fail_at(err, NB_UNSUPPORTED, s->c->path,
                          s->model ? (int64_t)nb_json_offset(s->model) : -1,
                          "tokenizer.json: only model type BPE without affixes is supported");
    if (!s->vocab || nb_json_typeof(s->vocab) != NB_JSON_OBJECT || !s->merges ||
        nb_json_typeof(s->merges) != NB_JSON_ARRAY)
        return bad(s, s->model, "the model has no vocab and merges", err);
    return NB_OK;
}

nb_status nb_vocab_from_json(nb_tokenizer *t, const nb_container *c, nb_error *err)
{
    const nb_json_node *root = nb_json_root(c->tokenizer), *model = nb_json_get(root, "model");
    struct source s = {c,
                       model,
                       nb_json_get(model, "vocab"),
                       nb_json_get(model, "merges"),
                       nb_json_get(root, "added_tokens"),
                       flag(model, "byte_fallback")};
    int32_t rank = 0;
    nb_status st = check_model(&s, err);
    if (st == NB_OK)
        st = nb_json_read_normalizer(t, c->path, nb_json_get(root, "normalizer"), err);
    if (st == NB_OK)
        st = nb_json_read_pretokenizer(t, c->path, nb_json_get(root, "pre_tokenizer"), err);
    if (st != NB_OK)
        return st;
    s.byte_fallback = s.byte_fallback && !t->byte_level;
    t->whole_first = flag(model, "ignore_merges");
    t->fuse_unknown = flag(model, "fuse_unk");
    nb_json_read_decoder(t, nb_json_get(root, "decoder"));
    st = read_vocab(t, &s, err);
    if (st == NB_OK)
        st = nb_vocab_index(t, err);
    for (const nb_json_node *v = nb_json_first(s.added); v && st == NB_OK; v = nb_json_next(v))
        st = read_added(t, &s, v, err);
    if (st == NB_OK)
        st = nb_vocab_index(t, err); /* again, with the added ones */
    if (st != NB_OK)
        return st;
    read_special_ids(t, &s);
    st = nb_spelling_index(t, c->path, err);
    for (const nb_json_node *v = nb_json_first(s.merges); v && st == NB_OK; v = nb_json_next(v)) {
        if (rank == 0)
            st = nb_vocab_open_merges(t, nb_json_count(s.merges), err);
        if (st == NB_OK)
            st = read_merge(t, &s, v, rank++, err);
    }
    if (st == NB_OK)
        st = read_frame(t, &s, err);
    nb_hub_read_chat_template(t, c);
    return st;
}
