/* text.c -- the text half of nibble.h: tokenize, template, and small odds of the API. */
#include "model/model.h"
#include "text/conversation.h"
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
                                     "no tokenizer.json or tokenizer.model beside the weights; "
                                     "give token ids with --ids");
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

/* The byte that templates mark text with, which is in no UTF-8: from outside it is as broken as any
 * other. out->p NULL: the text holds none. */
static nb_status replace_guard(const char *text, size_t n, nb_buf *out, nb_error *err)
{
    enum { kGuard = (unsigned char)NB_TOKENIZE_GUARD };
    nb_status st = NB_OK;
    nb_buf_init(out, SIZE_MAX / 2);
    if (!n || !memchr(text, kGuard, n))
        return NB_OK;
    for (size_t at = 0; at < n && st == NB_OK;) {
        const char *guard = memchr(text + at, kGuard, n - at);
        const size_t plain = guard ? (size_t)(guard - text) - at : n - at;
        st = nb_buf_add(out, text + at, plain, err);
        if (st == NB_OK && guard)
            st = nb_buf_str(out, "\xef\xbf\xbd", err);
        at += plain + (guard != NULL);
    }
    return st;
}

nb_status nb_model_tokenize(const nb_model *m, const char *text, size_t n, unsigned flags,
                            int32_t **ids, size_t *n_id, nb_error *err)
{
    nb_ids v = {0};
    nb_status st = need_tokenizer(m, err);
    const unsigned how = (flags & NB_TEXT_BOS ? NB_TOKENIZE_BOS : 0u) |
                         (flags & NB_TEXT_SPECIAL ? NB_TOKENIZE_SPECIAL : 0u);
    nb_buf whole = {0};
    if (st == NB_OK)
        st = replace_guard(text, n, &whole, err);
    if (st == NB_OK)
        st = nb_tokenizer_encode(m->tokenizer, whole.p ? whole.p : text, whole.p ? whole.n : n, how,
                                 &v, err);
    nb_buf_free(&whole);
    return give_ids(st, &v, ids, n_id);
}

const char *nb_model_token(const nb_model *m, int32_t id, size_t *n)
{
    *n = 0;
    return m->tokenizer ? nb_tokenizer_token(m->tokenizer, id, n) : NULL;
}

/* Seconds since 1970 as the local calendar counts them. */
static int64_t local_now(void)
{
    const time_t now = time(NULL);
    struct tm t;
    return (int64_t)now + (localtime_r(&now, &t) ? (int64_t)t.tm_gmtoff : 0);
}

/* guard: the tokenizer whose control tokens stay out of the conversation, NULL for text to be
 * read. */
static nb_status render(const nb_model *m, const char *path, const char *json, size_t n,
                        const nb_tokenizer *guard, nb_buf *out, nb_error *err)
{
    nb_json *doc = NULL;
    size_t src_n = 0;
    const char *src = m->tokenizer ? nb_tokenizer_chat_template(m->tokenizer, &src_n) : NULL;
    nb_status st = need_tokenizer(m, err);
    if (st == NB_OK && !src) {
        st = nb_fail_at(err, NB_UNSUPPORTED, m->container->path, -1,
                        "the model has no chat template");
        nb_hint(err, "nibble run MODEL --raw -p TEXT takes a text as it is");
    }
    if (st == NB_OK)
        st = nb_json_parse(path, json, n, &doc, err);
    const nb_json_node *messages = doc ? nb_json_get(nb_json_root(doc), "messages") : NULL;
    if (st == NB_OK && (!messages || nb_json_typeof(messages) != NB_JSON_ARRAY))
        st = nb_fail_at(err, NB_BAD_INPUT, path, -1,
                        "a conversation is a JSON object like "
                        "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}");
    if (st == NB_OK && nb_json_get(nb_json_root(doc), "chat_template"))
        st = nb_fail_at(err, NB_BAD_INPUT, path,
                        (int64_t)nb_json_offset(nb_json_get(nb_json_root(doc), "chat_template")),
                        "a conversation brings no template of its own; it is the model's");
    if (st == NB_OK) {
        nb_error why = {.offset = -1};
        nb_template_env env = {.now = local_now(), .guard = guard};
        env.bos_token =
            nb_tokenizer_token(m->tokenizer, nb_tokenizer_bos(m->tokenizer), &env.bos_token_n);
        env.eos_token =
            nb_tokenizer_token(m->tokenizer, nb_tokenizer_eos(m->tokenizer), &env.eos_token_n);
        st = nb_template_render(src, src_n, nb_json_root(doc), &env, out, &why);
        if (st != NB_OK && !(st == NB_BAD_INPUT &&
                             nb_conversation_fault(path, nb_json_root(doc), why.message, err)))
            nb_fail_at(err, st, m->container->path, -1, "%s", why.message);
    }
    nb_json_close(doc);
    return st;
}

nb_status nb_model_template(const nb_model *m, const char *path, const char *json, size_t n,
                            char **text, size_t *text_n, nb_error *err)
{
    nb_buf out;
    *text = NULL;
    *text_n = 0;
    nb_buf_init(&out, NB_TEMPLATE_OUTPUT);
    const nb_status st = render(m, path, json, n, NULL, &out, err);
    if (st != NB_OK) {
        nb_buf_free(&out);
        return st;
    }
    *text = out.p;
    *text_n = out.n;
    return NB_OK;
}

nb_status nb_model_template_ids(const nb_model *m, const char *path, const char *json, size_t n,
                                int32_t **ids, size_t *n_id, nb_error *err)
{
    nb_buf out;
    nb_ids v = {0};
    nb_buf_init(&out, NB_TEMPLATE_OUTPUT);
    nb_status st = render(m, path, json, n, m->tokenizer, &out, err);
    if (st == NB_OK) /* no BOS: the template writes it where the model wants it */
        st = nb_tokenizer_encode(m->tokenizer, out.p, out.n, NB_TOKENIZE_SPECIAL, &v, err);
    nb_buf_free(&out);
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
        .n_offload = m->n_front,
        .offload_bytes = m->front ? m->front->weights_bytes : 0,
        .file_bytes = (int64_t)m->container->file_bytes,
        .load_s = m->load_s,
        .n_thread = m->be ? m->be->n_thread : 0,
        .warning = m->container->warning,
        .device_warning = m->be_told[0] ? m->be_told : NULL,
        .has_chat_template = m->tokenizer && nb_tokenizer_chat_template(m->tokenizer, &n),
    };
}
