/* open_gguf.c -- a tokenizer from GGUF keys: tokenizer.ggml.{model, pre, tokens, scores,
 * token_type, merges, *_token_id, add_*} and tokenizer.chat_template (GGUF specification of ggml;
 * defaults as llama.cpp has them). */
#include "base/scalar.h"
#include "text/vocab.h"

#include <math.h>
#include <string.h>

#define KEY(name) "tokenizer.ggml." name

static nb_status read_id(const nb_tokenizer *t, const nb_gguf *g, const char *key, int32_t *out,
                         nb_error *err)
{
    uint32_t v = 0;
    *out = -1;
    if (!nb_gguf_find(g, key))
        return NB_OK;
    const nb_status st = nb_gguf_u32(g, key, &v, err);
    if (st != NB_OK)
        return st;
    /* 2^32-1 for "none" is found in padding and separator ids; in others it is a converter's
     * mistake, after which generation would never end. */
    if (v >= (uint32_t)t->n)
        return nb_fail_at(err, NB_BAD_INPUT, g->path, nb_gguf_find(g, key)->offset,
                          "%s is %u, the vocabulary has %d tokens", key, v, t->n);
    *out = (int32_t)v;
    return NB_OK;
}

static nb_status read_padding(nb_tokenizer *t, const nb_gguf *g, nb_error *err)
{
    static const char key[] = KEY("padding_token_id");
    uint32_t v = 0;
    const nb_status st = nb_gguf_find(g, key) ? nb_gguf_u32(g, key, &v, err) : NB_OK;
    if (st != NB_OK || v == UINT32_MAX)
        return st;
    return read_id(t, g, key, &t->padding, err);
}

static nb_status read_flag(const nb_gguf *g, const char *key, bool *inout, nb_error *err)
{
    return nb_gguf_find(g, key) ? nb_gguf_bool(g, key, inout, err) : NB_OK;
}

static nb_status read_tokens(nb_tokenizer *t, const nb_gguf *g, nb_error *err)
{
    const nb_gguf_kv *kv = nb_gguf_find(g, KEY("tokens"));
    nb_str *token = NULL;
    size_t n = 0;
    if (kv && kv->type == NB_GGUF_ARRAY && (kv->count < 1 || kv->count > NB_MAX_TOKENS))
        return nb_fail_at(err, NB_BAD_INPUT, g->path, kv->offset,
                          "a vocabulary of %llu tokens, it must have 1 to %d",
                          (unsigned long long)kv->count, NB_MAX_TOKENS);
    nb_status st = nb_gguf_strings(g, KEY("tokens"), t->arena, &token, &n, err);
    if (st == NB_OK)
        st = nb_vocab_reserve(t, (int32_t)n, err);
    if (st == NB_OK)
        memcpy(t->token, token, n * sizeof *token);
    return st;
}

static nb_status read_types(nb_tokenizer *t, const nb_gguf *g, nb_error *err)
{
    int32_t *type = NULL;
    size_t n = 0;
    const nb_gguf_kv *kv = nb_gguf_find(g, KEY("token_type"));
    memset(t->type, NB_TOKEN_NORMAL, (size_t)t->n);
    if (!kv)
        return NB_OK;
    const nb_status st = nb_gguf_i32s(g, KEY("token_type"), t->arena, &type, &n, err);
    if (st != NB_OK)
        return st;
    if (n != (size_t)t->n)
        return nb_fail_at(err, NB_BAD_INPUT, g->path, kv->offset, "%zu token types for %d tokens",
                          n, t->n);
    for (size_t i = 0; i < n; i++) {
        if (type[i] < 0 || type[i] > NB_TOKEN_BYTE)
            return nb_fail_at(err, NB_BAD_INPUT, g->path, kv->offset,
                              "token %zu has type %d, known are 0 to %d", i, type[i],
                              NB_TOKEN_BYTE);
        t->type[i] = type[i] ? (uint8_t)type[i] : NB_TOKEN_NORMAL; /* 0: undefined */
        if (t->byte_level && t->type[i] == NB_TOKEN_BYTE)
            t->type[i] = NB_TOKEN_NORMAL; /* every token of such a vocabulary spells bytes */
    }
    return NB_OK;
}

static nb_status read_scores(nb_tokenizer *t, const nb_gguf *g, nb_error *err)
{
    size_t n = 0;
    const nb_status st = nb_gguf_f32s(g, KEY("scores"), t->arena, &t->score, &n, err);
    if (st != NB_OK)
        return st;
    const int64_t offset = nb_gguf_find(g, KEY("scores"))->offset;
    if (n != (size_t)t->n)
        return nb_fail_at(err, NB_BAD_INPUT, g->path, offset, "%zu scores for %d tokens", n, t->n);
    for (size_t i = 0; i < n; i++)
        if (!isfinite(t->score[i]))
            return nb_fail_at(err, NB_BAD_INPUT, g->path, offset,
                              "the score of token %zu is not finite", i);
    return NB_OK;
}

static nb_status read_merges(nb_tokenizer *t, const nb_gguf *g, nb_error *err)
{
    nb_str *s = NULL;
    size_t n = 0;
    nb_status st = nb_gguf_strings(g, KEY("merges"), t->arena, &s, &n, err);
    if (st == NB_OK)
        st = nb_vocab_open_merges(t, n, err);
    for (size_t i = 0; i < n && st == NB_OK; i++) {
        /* a half may begin with a space, but does not end with one */
        const char *space = s[i].n > 1 ? memchr(s[i].p + 1, ' ', s[i].n - 1) : NULL;
        const int64_t offset = nb_gguf_find(g, KEY("merges"))->offset;
        if (!space || space + 1 == s[i].p + s[i].n)
            return nb_fail_at(err, NB_BAD_INPUT, g->path, offset,
                              "merge %zu is not two tokens with a space between", i);
        const size_t left = (size_t)(space - s[i].p);
        st = nb_vocab_add_merge(t, g->path, offset, (nb_str){s[i].p, left},
                                (nb_str){space + 1, s[i].n - left - 1}, (int32_t)i, err);
    }
    return st;
}

/* SentencePiece's normalizer, where a file carries one: the bytes of a trie (u32 length, then the
 * trie, then the replacements). No model that is read here uses it, but a file that lies about it
 * lies about more. */
static nb_status check_charsmap(const nb_gguf *g, nb_error *err)
{
    static const char key[] = KEY("precompiled_charsmap");
    const nb_gguf_kv *kv = nb_gguf_find(g, key);
    if (!kv)
        return NB_OK;
    if (kv->type != NB_GGUF_ARRAY || (kv->elem != NB_GGUF_U8 && kv->elem != NB_GGUF_I8))
        return nb_fail_at(err, NB_BAD_INPUT, g->path, kv->offset, "%s is no array of bytes", key);
    const uint32_t trie = kv->count >= 4 ? nb_load_u32(kv->p) : 0;
    if (kv->count > 0 && (kv->count < 4 || trie > kv->count - 4 || trie % 4))
        return nb_fail_at(err, NB_BAD_INPUT, g->path, kv->offset,
                          "%s of %llu bytes cannot hold the table it announces", key,
                          (unsigned long long)kv->count);
    return NB_OK;
}

/* Byte-level: the row of tokenizer.ggml.pre. By score: space before the text, spaces as U+2581.
 * Gemma 4: spaces as U+2581, lines on their own. */
static nb_status read_stages(nb_tokenizer *t, const nb_gguf *g, nb_error *err)
{
    const nb_str lines = {nb_pretokenize_lines, strlen(nb_pretokenize_lines)};
    nb_str pre = {"default", 7};
    bool prefix = t->by_score;
    nb_status st = NB_OK;
    t->adds_bos = t->by_score;
    if (t->byte_level) {
        if (nb_gguf_find(g, KEY("pre")))
            st = nb_gguf_string(g, KEY("pre"), &pre, err);
        if (st == NB_OK)
            st = nb_pretokenize_named(t, g->path, pre, err);
    } else {
        st = read_flag(g, KEY("add_space_prefix"), &prefix, err);
        if (prefix)
            t->step[t->n_step++] =
                (nb_step){NB_STEP_PREPEND, NB_PREPEND_ALWAYS, 0, {"", 0}, {NB_SPACE_MARK, 3}};
        t->step[t->n_step++] =
            (nb_step){NB_STEP_REPLACE, NB_PREPEND_ALWAYS, 0, {" ", 1}, {NB_SPACE_MARK, 3}};
        t->drops_space = prefix;
        t->fuse_unknown = true;
        if (st == NB_OK && !t->by_score)
            st = nb_pretokenize_add(t, g->path, -1, lines, false, err);
    }
    if (st == NB_OK)
        st = read_flag(g, KEY("add_bos_token"), &t->adds_bos, err);
    if (st == NB_OK)
        st = read_flag(g, KEY("add_eos_token"), &t->adds_eos, err);
    return st;
}

static nb_status read_special_ids(nb_tokenizer *t, const nb_gguf *g, nb_error *err)
{
    int32_t id = -1;
    nb_status st = read_id(t, g, KEY("bos_token_id"), &t->bos, err);
    if (st == NB_OK)
        st = read_id(t, g, KEY("eos_token_id"), &t->eos, err);
    if (st == NB_OK)
        st = read_id(t, g, KEY("unknown_token_id"), &t->unknown, err);
    if (st == NB_OK)
        st = read_padding(t, g, err);
    if (st == NB_OK)
        st = read_id(t, g, KEY("eot_token_id"), &id, err);
    if (st == NB_OK && id >= 0)
        t->is_end[id] = true;
    if (st == NB_OK)
        st = read_id(t, g, KEY("eom_token_id"), &id, err);
    if (st == NB_OK && id >= 0)
        t->is_end[id] = true;
    for (int32_t i = 0; i < t->n && t->by_score && t->unknown < 0; i++)
        if (t->type[i] == NB_TOKEN_UNKNOWN)
            t->unknown = i;
    return st;
}

nb_status nb_vocab_from_gguf(nb_tokenizer *t, const nb_container *c, nb_error *err)
{
    const nb_gguf *g = c->gguf;
    nb_str model, chat;
    nb_status st = nb_gguf_string(g, KEY("model"), &model, err);
    if (st != NB_OK)
        return st;
    t->byte_level = model.n == 4 && memcmp(model.p, "gpt2", 4) == 0;
    t->by_score = model.n == 5 && memcmp(model.p, "llama", 5) == 0;
    /* merges of marked text */
    const bool marked = model.n == 6 && memcmp(model.p, "gemma4", 6) == 0;
    if (!t->byte_level && !t->by_score && !marked) {
        char shown[160];
        return nb_fail_at(err, NB_UNSUPPORTED, c->path, nb_gguf_find(g, KEY("model"))->offset,
                          "tokenizer model \"%s\", known: gpt2, llama, gemma4",
                          nb_escape(shown, (int64_t)sizeof shown, model.p, (int64_t)model.n));
    }
    st = read_tokens(t, g, err);
    if (st == NB_OK)
        st = read_types(t, g, err);
    if (st == NB_OK)
        st = read_special_ids(t, g, err);
    if (st == NB_OK && t->by_score)
        st = read_scores(t, g, err);
    if (st == NB_OK)
        st = nb_vocab_index(t, err);
    if (st == NB_OK)
        st = nb_spelling_index(t, c->path, err);
    if (st == NB_OK && !t->by_score)
        st = read_merges(t, g, err);
    if (st == NB_OK)
        st = check_charsmap(g, err);
    if (st == NB_OK)
        st = read_stages(t, g, err);
    if (st == NB_OK && nb_gguf_find(g, "tokenizer.chat_template")) {
        st = nb_gguf_string(g, "tokenizer.chat_template", &chat, err);
        if (st == NB_OK) {
            t->chat_template = chat.p;
            t->chat_template_n = chat.n;
        }
    }
    return st;
}
