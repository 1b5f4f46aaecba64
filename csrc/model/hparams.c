/* hparams.c -- the numbers of a model and their limits; read by hparams_gguf.c or hparams_hf.c. */
#include "model/hparams.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

nb_status nb_hparams_check(const nb_container *c, const nb_hparams *hp, nb_error *err)
{
    /* hardening.md CF 95: far above every known model, low enough that no product of two overflows
     * 2^53 */
    const struct {
        const char *what;
        int64_t value, least, most;
    } row[] = {
        {"vocabulary size", hp->vocab_size, 1, 1 << 22},
        {"hidden size", hp->hidden_size, 1, 1 << 17},
        {"intermediate size", hp->intermediate_size, 1, 1 << 20},
        {"number of layers", hp->n_layer, 1, NB_MAX_LAYER},
        {"number of heads", hp->n_head, 1, 1024},
        {"number of KV heads", hp->n_kv_head, 1, 1024},
        {"head dimension", hp->head_dim, 1, NB_MAX_ROPE_DIM},
        {"context length", hp->ctx_len, 1, 1 << 24},
        {"number of experts", hp->n_expert, 0, 4096},
        {"number of experts a token uses", hp->n_expert_used, hp->n_expert ? 1 : 0, hp->n_expert},
        {"sliding window", hp->window, 0, 1 << 24},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        if (row[i].value < row[i].least || row[i].value > row[i].most)
            return nb_fail_at(err, NB_BAD_INPUT, c->path, -1, "%s is %lld, it must be %lld to %lld",
                              row[i].what, (long long)row[i].value, (long long)row[i].least,
                              (long long)row[i].most);
    if (hp->n_head % hp->n_kv_head)
        return nb_fail_at(err, NB_BAD_INPUT, c->path, -1, "%d heads are no multiple of %d KV heads",
                          hp->n_head, hp->n_kv_head);
    if (hp->rope_dim < 2 || hp->rope_dim % 2 || hp->rope_dim > hp->head_dim)
        return nb_fail_at(err, NB_BAD_INPUT, c->path, -1,
                          "rotary dimension %d, it must be even and at most the head dimension %d",
                          hp->rope_dim, hp->head_dim);
    if (!(hp->norm_eps > 0.0f && hp->norm_eps < 1.0f))
        return nb_fail_at(err, NB_BAD_INPUT, c->path, -1,
                          "norm epsilon is %g, it must be between 0 and 1", (double)hp->norm_eps);
    const struct {
        const char *what;
        float value;
        bool may_be_zero;
    } scale[] = {{"scale of the embedding", hp->embed_scale, false},
                 {"scale of attention", hp->attn_scale, false},
                 {"scale of the residuals", hp->residual_scale, false},
                 {"divisor of the logits", hp->logit_divisor, false},
                 {"soft cap of attention", hp->attn_soft_cap, true},
                 {"soft cap of the logits", hp->logit_soft_cap, true}};
    for (size_t i = 0; i < sizeof scale / sizeof *scale; i++)
        if (!(scale[i].value > 0.0f || (scale[i].may_be_zero && scale[i].value == 0.0f)) ||
            !isfinite(scale[i].value))
            return nb_fail_at(err, NB_BAD_INPUT, c->path, -1, "%s is %g, it must be positive",
                              scale[i].what, (double)scale[i].value);
    return NB_OK;
}

nb_status nb_hparams_unknown(const nb_container *c, const char *name, size_t n, nb_error *err)
{
    char list[400] = "", shown[160];
    int at = 0;
    for (const nb_family *const *f = nb_families; *f && at < (int)sizeof list - 40; f++)
        at += snprintf(list + at, sizeof list - (size_t)at, "%s%s", at ? ", " : "", (*f)->name);
    return nb_fail_at(err, NB_UNSUPPORTED, c->path, -1, "unknown architecture \"%s\", known: %s",
                      nb_escape(shown, (int64_t)sizeof shown, name, (int64_t)n), list);
}

nb_status nb_hparams_read(const nb_container *c, const nb_family **family, nb_hparams *hp,
                          nb_error *err)
{
    char name[NB_TENSOR_NAME];
    *family = NULL;
    *hp = (nb_hparams){.embed_scale = 1.0f,
                       .residual_scale = 1.0f,
                       .logit_divisor = 1.0f,
                       .expert_renormalize = true};
    const nb_status st = c->kind == NB_CONTAINER_GGUF ? nb_hparams_gguf(c, family, hp, err)
                                                      : nb_hparams_hf(c, family, hp, err);
    if (st != NB_OK)
        return st;
    hp->act = (*family)->act;
    hp->tied = !nb_family_tensor(*family, c, (nb_slot){.role = NB_ROLE_OUTPUT}, name);
    if (hp->tied && c->kind == NB_CONTAINER_HF) {
        bool tied = true;
        const nb_json_node *v = nb_json_get(nb_json_root(c->config), "tie_word_embeddings");
        if (nb_json_bool(v, &tied) && !tied)
            return nb_fail_at(err, NB_BAD_INPUT, c->path, -1,
                              "tie_word_embeddings is false but %s is missing", name);
    }
    return NB_OK;
}
