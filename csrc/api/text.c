/* text.c -- the text half of nibble.h: tokenize, template, and small odds of the API. */
#include "model/model.h"
#include "text/template.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

void nb_free(void *p)
{
    free(p);
}

const char *nb_version(void)
{
    return NIBBLE_VERSION;
}

static nb_status need_tokenizer(const nb_model *m, nb_error *err)
{
    return m->tokenizer ? NB_OK
                        : nb_fail_at(err, NB_NOT_FOUND, m->container->path, -1,
                                     "no tokenizer.json beside the weights; give token ids with --ids");
}

static nb_status give_ids(nb_status st, nb_ids *ids, int32_t **out, size_t *n)
{
    *out = ids->p;
    *n = ids->n;
    if (st != NB_OK) {
        nb_ids_free(ids);
        *out = NULL;
        *n = 0;
    }
    return st;
}

nb_status nb_model_tokenize(const nb_model *m, const char *text, size_t n, unsigned flags, int32_t **ids, size_t *n_id,
                            nb_error *err)
{
    nb_ids v = {0};
    nb_status st = need_tokenizer(m, err);
    const unsigned how = (flags & NB_TEXT_BOS ? NB_TOKENIZE_BOS : 0u) | (flags & NB_TEXT_SPECIAL ? NB_TOKENIZE_SPECIAL : 0u);
    if (st == NB_OK)
        st = nb_tokenizer_encode(m->tokenizer, text, n, how, &v, err);
    return give_ids(st, &v, ids, n_id);
}

const char *nb_model_token(const nb_model *m, int32_t id, size_t *n)
{
    *n = 0;
    return m->tokenizer ? nb_tokenizer_token(m->tokenizer, id, n) : NULL;
}

/* The texts of all control tokens: where a message contains one, the template marks it (tokenizer.h, NB_TOKENIZE_GUARD). */
static nb_status control_texts(const nb_tokenizer *t, nb_arena *a, const char ***out, nb_error *err)
{
    const int32_t n = nb_tokenizer_vocab_size(t);
    size_t n_control = 0, at = 0;
    for (int32_t i = 0; i < n; i++)
        n_control += nb_tokenizer_is_control(t, i);
    *out = nb_arena_alloc(a, n_control + 1, sizeof **out, err);
    if (!*out)
        return NB_NO_ROOM;
    for (int32_t i = 0; i < n; i++) {
        size_t bytes = 0;
        const char *text = nb_tokenizer_is_control(t, i) ? nb_tokenizer_token(t, i, &bytes) : NULL;
        if (!text || bytes < 2)
            continue;
        (*out)[at] = nb_arena_strdup(a, text, bytes, err);
        if (!(*out)[at++])
            return NB_NO_ROOM;
    }
    (*out)[at] = NULL;
    return NB_OK;
}

static const char *token_text(const nb_tokenizer *t, int32_t id, nb_arena *a, nb_error *err)
{
    size_t n = 0;
    const char *p = id >= 0 ? nb_tokenizer_token(t, id, &n) : NULL;
    return nb_arena_strdup(a, p ? p : "", p ? n : 0, err);
}

static nb_status render(const nb_model *m, const char *path, const char *json, size_t n, bool guard, nb_buf *out, nb_error *err)
{
    nb_json *doc = NULL;
    nb_arena *a = NULL;
    const char **control = NULL;
    size_t src_n = 0;
    nb_status st = need_tokenizer(m, err);
    const char *src = st == NB_OK ? nb_tokenizer_chat_template(m->tokenizer, &src_n) : NULL;
    if (st == NB_OK && !src)
        st = nb_fail_at(err, NB_UNSUPPORTED, m->container->path, -1, "the model has no chat template; use --raw");
    if (st == NB_OK)
        st = nb_json_parse(path, json, n, &doc, err);
    if (st == NB_OK && nb_json_typeof(nb_json_root(doc)) != NB_JSON_OBJECT)
        st = nb_fail_at(err, NB_BAD_INPUT, path, 0, "a conversation is an object with \"messages\"");
    if (st == NB_OK) {
        a = nb_arena_open("control tokens", err);
        st = a ? control_texts(m->tokenizer, a, &control, err) : NB_NO_ROOM;
    }
    if (st == NB_OK) {
        struct tm now;
        const time_t t = time(NULL);
        localtime_r(&t, &now);
        const nb_template_env env = {.bos_token = token_text(m->tokenizer, nb_tokenizer_bos(m->tokenizer), a, err),
                                     .eos_token = token_text(m->tokenizer, nb_tokenizer_eos(m->tokenizer), a, err),
                                     .now = (int64_t)t + now.tm_gmtoff,
                                     .control = guard ? control : NULL};
        st = env.bos_token && env.eos_token
                 ? nb_template_render(src, src_n, nb_json_root(doc), &env, out, err)
                 : NB_NO_ROOM;
    }
    nb_arena_close(a);
    nb_json_close(doc);
    return st;
}

enum { kRenderedMax = 8 << 20 }; /* hardening.md JT: output budget */

nb_status nb_model_template(const nb_model *m, const char *path, const char *json, size_t n, char **text, size_t *text_n,
                            nb_error *err)
{
    nb_buf b;
    *text = NULL;
    *text_n = 0;
    nb_buf_init(&b, kRenderedMax);
    nb_status st = nb_buf_add(&b, "", 0, err);
    if (st == NB_OK)
        st = render(m, path, json, n, false, &b, err);
    if (st != NB_OK) {
        nb_buf_free(&b);
        return st;
    }
    *text = b.p;
    *text_n = b.n;
    return NB_OK;
}

nb_status nb_model_template_ids(const nb_model *m, const char *path, const char *json, size_t n, int32_t **ids, size_t *n_id,
                                nb_error *err)
{
    nb_buf b;
    nb_ids v = {0};
    nb_buf_init(&b, kRenderedMax);
    nb_status st = render(m, path, json, n, true, &b, err);
    if (st == NB_OK) { /* a template that writes BOS itself gets no second one */
        size_t bos_n = 0;
        const int32_t bos_id = nb_tokenizer_bos(m->tokenizer);
        const char *bos = bos_id >= 0 ? nb_tokenizer_token(m->tokenizer, bos_id, &bos_n) : NULL;
        const bool has = bos && bos_n && b.n >= bos_n && memcmp(b.p, bos, bos_n) == 0;
        st = nb_tokenizer_encode(m->tokenizer, b.p ? b.p : "", b.n, NB_TOKENIZE_SPECIAL | (has ? 0u : NB_TOKENIZE_BOS), &v, err);
    }
    nb_buf_free(&b);
    return give_ids(st, &v, ids, n_id);
}

void nb_model_get_info(const nb_model *m, nb_model_info *out)
{
    size_t n = 0;
    *out = (nb_model_info){
        .arch = m->family ? m->family->name : "",
        .device = m->be ? m->be->name : "",
        .vocab_size = m->hp.vocab_size,
        .ctx_len = m->hp.ctx_len,
        .n_layer = m->hp.n_layer,
        .hidden_size = m->hp.hidden_size,
        .n_head = m->hp.n_head,
        .n_kv_head = m->hp.n_kv_head,
        .head_dim = m->hp.head_dim,
        .n_param = m->n_param,
        .weights_bytes = m->weights_bytes,
        .file_bytes = (int64_t)m->container->file_bytes,
        .load_s = m->load_s,
        .has_chat_template = m->tokenizer && nb_tokenizer_chat_template(m->tokenizer, &n),
    };
}
