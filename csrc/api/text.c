/* text.c -- the text half of nibble.h: tokenize, template, and small odds of the API. */
#include "model/model.h"

#include <stdlib.h>

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

/* The interpreter of chat templates is not there yet (docs/ROADMAP.md); its contract is text/template.h. */
static nb_status no_templates(const nb_model *m, nb_error *err)
{
    const nb_status st = nb_fail_at(err, NB_UNSUPPORTED, m->container->path, -1, "chat templates are not there yet");
    nb_hint(err, "--raw takes the prompt as it is");
    return st;
}

nb_status nb_model_template(const nb_model *m, const char *path, const char *json, size_t n, char **text, size_t *text_n,
                            nb_error *err)
{
    (void)path;
    (void)json;
    (void)n;
    *text = NULL;
    *text_n = 0;
    return no_templates(m, err);
}

nb_status nb_model_template_ids(const nb_model *m, const char *path, const char *json, size_t n, int32_t **ids, size_t *n_id,
                                nb_error *err)
{
    (void)path;
    (void)json;
    (void)n;
    *ids = NULL;
    *n_id = 0;
    return no_templates(m, err);
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
        .n_thread = m->be ? m->be->n_thread : 0,
        .has_chat_template = m->tokenizer && nb_tokenizer_chat_template(m->tokenizer, &n),
    };
}
