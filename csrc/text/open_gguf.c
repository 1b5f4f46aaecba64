/* open_gguf.c -- a tokenizer from GGUF keys: tokenizer.ggml.{model, pre, tokens, scores, token_type, merges, ..._token_id, add_...}. */
#include "text/vocab.h"

#include <math.h>
#include <string.h>

enum { kMaxTokens = 4 << 20 }; /* hardening.md GG 52 */

static nb_status special_id(const nb_gguf *g, const char *key, int32_t n, int32_t *out, nb_error *err)
{
    uint32_t v = 0;
    *out = -1;
    if (!nb_gguf_find(g, key))
        return NB_OK;
    const nb_status st = nb_gguf_u32(g, key, &v, err);
    if (st != NB_OK)
        return st;
    if (v == UINT32_MAX) /* how some writers say "none" */
        return NB_OK;
    if (v >= (uint32_t)n)
        return nb_fail_at(err, NB_BAD_INPUT, g->path, -1, "%s is %u, the vocabulary has %d tokens", key, v, n);
    *out = (int32_t)v;
    return NB_OK;
}

static nb_status flag(const nb_gguf *g, const char *key, bool otherwise, bool *out, nb_error *err)
{
    *out = otherwise;
    return nb_gguf_find(g, key) ? nb_gguf_bool(g, key, out, err) : NB_OK;
}

static nb_status read_types(nb_tokenizer *t, const nb_gguf *g, nb_error *err)
{
    int32_t *type = NULL;
    size_t n = 0;
    t->type = nb_arena_alloc(t->arena, (size_t)t->n, 1, err);
    if (!t->type)
        return NB_NO_ROOM;
    memset(t->type, NB_TOKEN_NORMAL, (size_t)t->n);
    if (!nb_gguf_find(g, "tokenizer.ggml.token_type"))
        return NB_OK;
    const nb_status st = nb_gguf_i32s(g, "tokenizer.ggml.token_type", t->arena, &type, &n, err);
    if (st != NB_OK)
        return st;
    if (n != (size_t)t->n)
        return nb_fail_at(err, NB_BAD_INPUT, g->path, -1, "%zu token types for %d tokens", n, t->n);
    for (size_t i = 0; i < n; i++) {
        if (type[i] < 0 || type[i] > NB_TOKEN_BYTE)
            return nb_fail_at(err, NB_BAD_INPUT, g->path, -1, "token %zu has type %d, known are 0 to 6", i, type[i]);
        t->type[i] = (uint8_t)type[i];
    }
    return NB_OK;
}

static nb_status read_scores(nb_tokenizer *t, const nb_gguf *g, nb_error *err)
{
    size_t n = 0;
    const nb_status st = nb_gguf_f32s(g, "tokenizer.ggml.scores", t->arena, &t->score, &n, err);
    if (st != NB_OK)
        return st;
    if (n != (size_t)t->n)
        return nb_fail_at(err, NB_BAD_INPUT, g->path, -1, "%zu scores for %d tokens", n, t->n);
    for (size_t i = 0; i < n; i++)
        if (!isfinite(t->score[i]))
            return nb_fail_at(err, NB_BAD_INPUT, g->path, -1, "the score of token %zu is not finite", i);
    return NB_OK;
}

static nb_status read_merges(nb_tokenizer *t, const nb_gguf *g, nb_error *err)
{
    nb_str *s = NULL;
    size_t n = 0;
    nb_status st = nb_gguf_strings(g, "tokenizer.ggml.merges", t->arena, &s, &n, err);
    if (st == NB_OK)
        st = nb_vocab_open_merges(t, n, err);
    for (size_t i = 0; i < n && st == NB_OK; i++) {
        const char *space = s[i].n > 1 ? memchr(s[i].p + 1, ' ', s[i].n - 1) : NULL; /* a half may begin with a space, not end with one */
        if (!space || space + 1 == s[i].p + s[i].n)
            return nb_fail_at(err, NB_BAD_INPUT, g->path, -1, "merge %zu is not two tokens with a space between", i);
        const size_t left = (size_t)(space - s[i].p);
        st = nb_vocab_add_merge(t, g->path, (nb_str){s[i].p, left}, (nb_str){space + 1, s[i].n - left - 1}, (int32_t)i, err);
    }
    return st;
}

nb_status nb_vocab_from_gguf(nb_tokenizer *t, const nb_container *c, nb_error *err)
{
    const nb_gguf *g = c->gguf;
    nb_str model, pre = {"none", 4}, chat;
    size_t n = 0;
    char shown[160];
    nb_status st = nb_gguf_string(g, "tokenizer.ggml.model", &model, err);
    if (st != NB_OK)
        return st;
    t->byte_level = model.n == 4 && memcmp(model.p, "gpt2", 4) == 0;
    t->by_score = model.n == 5 && memcmp(model.p, "llama", 5) == 0;
    if (!t->byte_level && !t->by_score)
        return nb_fail_at(err, NB_UNSUPPORTED, c->path, -1, "tokenizer model \"%s\", known: gpt2, llama",
                          nb_escape(shown, (int64_t)sizeof shown, model.p, (int64_t)model.n));
    st = nb_gguf_strings(g, "tokenizer.ggml.tokens", t->arena, &t->token, &n, err);
    if (st == NB_OK && (n < 1 || n > kMaxTokens))
        st = nb_fail_at(err, NB_BAD_INPUT, c->path, -1, "a vocabulary of %zu tokens, it must be 1 to %d", n, kMaxTokens);
    if (st != NB_OK)
        return st;
    t->n = (int32_t)n;
    st = read_types(t, g, err);
    if (st == NB_OK)
        st = special_id(g, "tokenizer.ggml.bos_token_id", t->n, &t->bos, err);
    if (st == NB_OK)
        st = special_id(g, "tokenizer.ggml.eos_token_id", t->n, &t->eos, err);
    if (st == NB_OK)
        st = special_id(g, "tokenizer.ggml.unknown_token_id", t->n, &t->unknown, err);
    if (st == NB_OK)
        st = flag(g, "tokenizer.ggml.add_bos_token", t->by_score, &t->adds_bos, err);
    if (st == NB_OK)
        st = flag(g, "tokenizer.ggml.add_eos_token", false, &t->adds_eos, err);
    if (st == NB_OK)
        st = flag(g, "tokenizer.ggml.add_space_prefix", t->by_score, &t->space_prefix, err);
    if (st == NB_OK && t->by_score)
        st = read_scores(t, g, err);
    if (st == NB_OK)
        st = nb_vocab_index(t, c->path, err);
    if (st == NB_OK && t->byte_level)
        st = read_merges(t, g, err);
    if (st == NB_OK && t->byte_level && nb_gguf_find(g, "tokenizer.ggml.pre"))
        st = nb_gguf_string(g, "tokenizer.ggml.pre", &pre, err);
    else if (t->byte_level)
        pre = (nb_str){"gpt-2", 5};
    if (st == NB_OK)
        st = nb_pretokenize_open(t, c->path, pre, err);
    if (st == NB_OK && nb_gguf_find(g, "tokenizer.chat_template")) {
        st = nb_gguf_string(g, "tokenizer.chat_template", &chat, err);
        t->chat_template = chat.p;
        t->chat_template_n = chat.n;
    }
    t->adds_bos = t->adds_bos && t->bos >= 0;
    t->adds_eos = t->adds_eos && t->eos >= 0;
    return st;
}
