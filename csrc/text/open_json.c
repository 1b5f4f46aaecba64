/* open_json.c -- a tokenizer from the Hub's tokenizer.json: model type BPE, byte-level or with byte fallback. */
#include "text/vocab.h"

#include <string.h>

enum { kMaxTokens = 4 << 20 };

static bool is_type(const nb_json_node *v, const char *type)
{
    const char *s = NULL;
    size_t n = 0;
    return nb_json_string(nb_json_get(v, "type"), &s, &n) && strcmp(s, type) == 0;
}

static nb_status bad(const nb_container *c, const nb_json_node *at, const char *what, nb_error *err)
{
    return nb_fail_at(err, NB_BAD_INPUT, c->path, (int64_t)nb_json_offset(at), "tokenizer.json: %s", what);
}

static nb_status read_id(const nb_container *c, const nb_json_node *v, int32_t *out, nb_error *err)
{
    int64_t id = -1;
    if (!nb_json_int(v, &id) || id < 0 || id >= kMaxTokens)
        return bad(c, v, "a token id is no number from 0 to 4194303", err);
    *out = (int32_t)id;
    return NB_OK;
}

/* The tokens of model.vocab and added_tokens; a gap in the ids is an unused token. */
static nb_status read_tokens(nb_tokenizer *t, const nb_container *c, const nb_json_node *vocab, const nb_json_node *added, nb_error *err)
{
    nb_status st = NB_OK;
    int32_t id = 0, most = -1;
    for (const nb_json_node *v = nb_json_first(vocab); v && st == NB_OK; v = nb_json_next(v)) {
        st = read_id(c, v, &id, err);
        most = id > most ? id : most;
    }
    for (const nb_json_node *v = nb_json_first(added); v && st == NB_OK; v = nb_json_next(v)) {
        st = read_id(c, nb_json_get(v, "id"), &id, err);
        most = id > most ? id : most;
    }
    if (st != NB_OK || most < 0)
        return st != NB_OK ? st : bad(c, vocab, "the vocabulary is empty", err);
    t->n = most + 1;
    t->token = nb_arena_alloc(t->arena, (size_t)t->n, sizeof *t->token, err);
    t->type = nb_arena_alloc(t->arena, (size_t)t->n, 1, err);
    if (!t->token || !t->type)
        return NB_NO_ROOM;
    memset(t->type, NB_TOKEN_UNUSED, (size_t)t->n);
    for (int32_t i = 0; i < t->n; i++)
        t->token[i] = (nb_str){"", 0};
    for (const nb_json_node *v = nb_json_first(vocab); v && st == NB_OK; v = nb_json_next(v)) {
        size_t n = 0;
        const char *s = nb_json_key(v, &n);
        st = read_id(c, v, &id, err);
        if (st == NB_OK && t->type[id] != NB_TOKEN_UNUSED)
            st = bad(c, v, "two tokens have one id", err);
        if (st == NB_OK) {
            const bool byte = !t->byte_level && n == 6 && memcmp(s, "<0x", 3) == 0;
            t->token[id] = (nb_str){s, n};
            t->type[id] = byte ? NB_TOKEN_BYTE : NB_TOKEN_NORMAL;
        }
    }
    for (const nb_json_node *v = nb_json_first(added); v && st == NB_OK; v = nb_json_next(v)) {
        const char *s = NULL;
        size_t n = 0;
        bool special = false;
        st = read_id(c, nb_json_get(v, "id"), &id, err);
        if (st == NB_OK && !nb_json_string(nb_json_get(v, "content"), &s, &n))
            st = bad(c, v, "an added token has no content", err);
        if (st == NB_OK && t->token[id].n && (t->token[id].n != n || memcmp(t->token[id].p, s, n) != 0))
            st = bad(c, v, "an added token has another token's id", err);
        (void)nb_json_bool(nb_json_get(v, "special"), &special);
        if (st == NB_OK) {
            t->token[id] = (nb_str){s, n};
            t->type[id] = special ? NB_TOKEN_CONTROL : NB_TOKEN_USER;
        }
    }
    return st;
}

static nb_status read_merges(nb_tokenizer *t, const nb_container *c, const nb_json_node *merges, nb_error *err)
{
    nb_status st = nb_vocab_open_merges(t, nb_json_count(merges), err);
    int32_t rank = 0;
    for (const nb_json_node *v = nb_json_first(merges); v && st == NB_OK; v = nb_json_next(v), rank++) {
        nb_str a, b;
        const char *s = NULL;
        size_t n = 0;
        if (nb_json_string(v, &s, &n)) {
            const char *space = n > 1 ? memchr(s + 1, ' ', n - 1) : NULL;
            if (!space || space + 1 == s + n || memchr(space + 1, ' ', (size_t)(s + n - space - 1)))
                return bad(c, v, "a merge is not two tokens with a space between", err);
            a = (nb_str){s, (size_t)(space - s)};
            b = (nb_str){space + 1, n - a.n - 1};
        } else if (nb_json_count(v) != 2 || !nb_json_string(nb_json_first(v), &a.p, &a.n) ||
                   !nb_json_string(nb_json_next(nb_json_first(v)), &b.p, &b.n))
            return bad(c, v, "a merge is not two tokens", err);
        st = nb_vocab_add_merge(t, c->path, a, b, rank, err);
    }
    return st;
}

/* Which row of pretokenize.c the pre_tokenizer object is. Only what is certain is taken. */
static nb_status read_pretokenizer(nb_tokenizer *t, const nb_container *c, const nb_json_node *pre, nb_str *row, nb_error *err)
{
    bool regex = true, digits = false;
    *row = (nb_str){"none", 4};
    if (!pre || nb_json_typeof(pre) == NB_JSON_NULL)
        return NB_OK;
    const nb_json_node *byte_level = is_type(pre, "ByteLevel") ? pre : NULL;
    const nb_json_node *list = is_type(pre, "Sequence") ? nb_json_get(pre, "pretokenizers") : NULL;
    bool known = byte_level != NULL || list != NULL;
    for (const nb_json_node *v = nb_json_first(list); v; v = nb_json_next(v)) {
        const bool d = is_type(v, "Digits");
        known = known && (d || is_type(v, "ByteLevel"));
        byte_level = d ? byte_level : v;
        digits = digits || (d && nb_json_bool(nb_json_get(v, "individual_digits"), &digits) && digits);
    }
    if (!known || !byte_level)
        return nb_fail_at(err, NB_UNSUPPORTED, c->path, (int64_t)nb_json_offset(pre),
                          "tokenizer.json: this pre_tokenizer is not there yet; known: ByteLevel, Digits with ByteLevel");
    t->byte_level = true;
    (void)nb_json_bool(nb_json_get(byte_level, "use_regex"), &regex);
    if (regex)
        *row = digits ? (nb_str){"smollm", 6} : (nb_str){"gpt-2", 5};
    return NB_OK;
}

/* Without byte-level: the normalizer must be "prepend and replace the space by U+2581", as Llama's is. */
static nb_status read_normalizer(nb_tokenizer *t, const nb_container *c, const nb_json_node *v, nb_error *err)
{
    bool replaces = false;
    const nb_json_node *list = is_type(v, "Sequence") ? nb_json_get(v, "normalizers") : NULL;
    bool known = t->byte_level ? !v || nb_json_typeof(v) == NB_JSON_NULL : list != NULL;
    for (const nb_json_node *e = nb_json_first(list); e && known; e = nb_json_next(e)) {
        const char *s = NULL, *to = NULL;
        size_t n = 0;
        if (is_type(e, "Prepend") && nb_json_string(nb_json_get(e, "prepend"), &s, &n) && strcmp(s, "\xe2\x96\x81") == 0)
            t->space_prefix = true;
        else if (is_type(e, "Replace") && nb_json_string(nb_json_get(nb_json_get(e, "pattern"), "String"), &s, &n) && strcmp(s, " ") == 0 &&
                 nb_json_string(nb_json_get(e, "content"), &to, &n) && strcmp(to, "\xe2\x96\x81") == 0)
            replaces = true;
        else
            known = false;
    }
    if (!known || (!t->byte_level && !replaces))
        return nb_fail_at(err, NB_UNSUPPORTED, c->path, v ? (int64_t)nb_json_offset(v) : -1, "tokenizer.json: this normalizer is not there yet");
    return NB_OK;
}

/* The id of a token named in tokenizer_config.json (a string or an object with content), or -1. */
static int32_t named(const nb_tokenizer *t, const nb_container *c, const char *key)
{
    const char *s = NULL;
    size_t n = 0;
    const nb_json_node *v = c->tokenizer_config ? nb_json_get(nb_json_root(c->tokenizer_config), key) : NULL;
    if (!nb_json_string(v, &s, &n) && !nb_json_string(nb_json_get(v, "content"), &s, &n))
        return -1;
    for (int32_t i = 0; i < t->n; i++)
        if (t->token[i].n == n && memcmp(t->token[i].p, s, n) == 0)
            return i;
    return -1;
}

static int32_t config_id(const nb_tokenizer *t, const nb_container *c, const char *key)
{
    int64_t id = -1;
    const nb_json_node *v = c->config ? nb_json_get(nb_json_root(c->config), key) : NULL;
    return nb_json_int(v, &id) && id >= 0 && id < t->n ? (int32_t)id : -1;
}

nb_status nb_vocab_from_json(nb_tokenizer *t, const nb_container *c, nb_error *err)
{
    const nb_json_node *root = nb_json_root(c->tokenizer), *model = nb_json_get(root, "model");
    nb_str row;
    if (!is_type(model, "BPE"))
        return nb_fail_at(err, NB_UNSUPPORTED, c->path, model ? (int64_t)nb_json_offset(model) : -1, "tokenizer.json: only model type BPE is there");
    nb_status st = read_pretokenizer(t, c, nb_json_get(root, "pre_tokenizer"), &row, err);
    if (st == NB_OK)
        st = read_normalizer(t, c, nb_json_get(root, "normalizer"), err);
    if (st == NB_OK)
        st = read_tokens(t, c, nb_json_get(model, "vocab"), nb_json_get(root, "added_tokens"), err);
    if (st != NB_OK)
        return st;
    t->bos = named(t, c, "bos_token");
    t->eos = named(t, c, "eos_token");
    t->bos = t->bos >= 0 ? t->bos : config_id(t, c, "bos_token_id");
    t->eos = t->eos >= 0 ? t->eos : config_id(t, c, "eos_token_id");
    const char *s = NULL;
    size_t n = 0;
    st = nb_vocab_index(t, c->path, err);
    if (st == NB_OK && nb_json_string(nb_json_get(model, "unk_token"), &s, &n))
        t->unknown = nb_vocab_find(t, s, n);
    if (st == NB_OK)
        st = read_merges(t, c, nb_json_get(model, "merges"), err);
    if (st == NB_OK)
        st = nb_pretokenize_open(t, c->path, row, err);
    /* BOS is added where the template of single sequences begins with a special token. */
    const nb_json_node *post = nb_json_get(root, "post_processor");
    if (is_type(post, "TemplateProcessing"))
        t->adds_bos = t->bos >= 0 && nb_json_get(nb_json_first(nb_json_get(post, "single")), "SpecialToken") != NULL;
    const nb_json_node *chat = c->tokenizer_config ? nb_json_get(nb_json_root(c->tokenizer_config), "chat_template") : NULL;
    t->chat_template = c->chat_template;
    t->chat_template_n = c->chat_template_bytes;
    if (!t->chat_template && nb_json_string(chat, &s, &n)) {
        t->chat_template = s;
        t->chat_template_n = n;
    }
    return st;
}
