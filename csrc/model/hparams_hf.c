/* hparams_hf.c -- the numbers of a model from config.json, with the defaults of the publisher's
 * code where a key is absent (family rows). A null is not absent: it turns the feature off. */
#include "model/hparams.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct reader {
    const nb_container *c;
    const nb_family *f;
    const nb_json_node *root; /* config.json, or its text_config */
} reader;

static const nb_json_node *find(const reader *r, const char *key)
{
    return nb_json_get(r->root, key);
}

static bool is_null(const nb_json_node *v)
{
    return v && nb_json_typeof(v) == NB_JSON_NULL;
}

static bool default_of(const reader *r, const char *key, double *out)
{
    for (const nb_hf_default *d = r->f->hf_defaults; d && d->key; d++)
        if (strcmp(d->key, key) == 0) {
            *out = d->value;
            return true;
        }
    return false;
}

/* *out is what stands there for null, and when the key is absent and the family has no default. */
static nb_status read_real(const reader *r, const char *key, double *out, nb_error *err)
{
    const nb_json_node *v = find(r, key);
    if (!v)
        (void)default_of(r, key, out);
    else if (!is_null(v) && !nb_json_real(v, out))
        return nb_fail_at(err, NB_BAD_INPUT, r->c->path, (int64_t)nb_json_offset(v),
                          "config.json: \"%s\" is no number", key);
    return NB_OK;
}

static nb_status read_int(const reader *r, const char *key, int32_t *out, nb_error *err)
{
    const nb_json_node *v = find(r, key);
    int64_t n = *out;
    double d = 0;
    if (!v && default_of(r, key, &d))
        n = (int64_t)d;
    else if (v && !is_null(v) && !nb_json_int(v, &n))
        return nb_fail_at(err, NB_BAD_INPUT, r->c->path, (int64_t)nb_json_offset(v),
                          "config.json: \"%s\" is no integer", key);
    /* over every limit; the check names it */
    *out = n > INT32_MAX ? INT32_MAX : n < INT32_MIN ? INT32_MIN : (int32_t)n;
    return NB_OK;
}

static nb_status read_required(const reader *r, const char *key, int32_t *out, nb_error *err)
{
    const nb_json_node *v = find(r, key);
    double d;
    if (is_null(v) || (!v && !default_of(r, key, &d)))
        return nb_fail_at(err, NB_BAD_INPUT, r->c->path, -1, "config.json lacks \"%s\"", key);
    return read_int(r, key, out, err);
}

static nb_status read_bool(const reader *r, const char *key, bool *out, nb_error *err)
{
    const nb_json_node *v = find(r, key);
    double d = 0;
    if (!v && default_of(r, key, &d))
        *out = d != 0;
    else if (v && !is_null(v) && !nb_json_bool(v, out))
        return nb_fail_at(err, NB_BAD_INPUT, r->c->path, (int64_t)nb_json_offset(v),
                          "config.json: \"%s\" is neither true nor false", key);
    return NB_OK;
}

/* ---- rotary frequencies ---- */

/* s: rope_scaling, or rope_parameters as newer files have it; NULL or null: none. */
static nb_status scale_rope(const reader *r, const nb_json_node *s, int n, nb_hparams *hp,
                            nb_error *err)
{
    if (!s || is_null(s))
        return NB_OK;
    const char *type = "";
    size_t type_n = 0;
    const nb_json_node *t = nb_json_get(s, "rope_type");
    if (!nb_json_string(t ? t : nb_json_get(s, "type"), &type, &type_n))
        return nb_fail_at(err, NB_BAD_INPUT, r->c->path, (int64_t)nb_json_offset(s),
                          "config.json: rope_scaling names no rope_type");
    if (strcmp(type, "default") == 0)
        return NB_OK;
    double factor = 0; /* absent stays 0, which is refused */
    (void)nb_json_real(nb_json_get(s, "factor"), &factor);
    hp->rope.factor = factor;
    if (strcmp(type, "linear") == 0) {
        hp->rope.rule = NB_ROPE_LINEAR;
        return nb_rope_linear(r->c, factor, n, hp->inv_freq, err);
    }
    if (strcmp(type, "llama3") == 0) {
        nb_rope_llama3 a = {.factor = factor};
        (void)nb_json_real(nb_json_get(s, "low_freq_factor"), &a.low);
        (void)nb_json_real(nb_json_get(s, "high_freq_factor"), &a.high);
        (void)nb_json_real(nb_json_get(s, "original_max_position_embeddings"), &a.old);
        hp->rope.rule = NB_ROPE_LLAMA3;
        hp->rope.llama3 = a;
        return nb_rope_slow_long(r->c, &a, n, hp->inv_freq, err);
    }
    char shown[160];
    return nb_fail_at(err, NB_UNSUPPORTED, r->c->path, (int64_t)nb_json_offset(s),
                      "rope scaling \"%s\", known: default, linear, llama3",
                      nb_escape(shown, (int64_t)sizeof shown, type, (int64_t)type_n));
}

static nb_status read_rope(const reader *r, nb_hparams *hp, nb_error *err)
{
    const nb_json_node *params = find(r, "rope_parameters"),
                       *near = nb_json_get(params, "sliding_attention");
    const nb_json_node *all =
        nb_json_get(params, "full_attention") ? nb_json_get(params, "full_attention") : params;
    const int n = hp->rope_dim / 2;
    double theta = 10000.0, local = (double)r->f->local_theta;
    nb_status st = read_real(r, "rope_theta", &theta, err);
    if (st == NB_OK)
        st = read_real(r, "rope_local_base_freq", &local, err);
    (void)nb_json_real(nb_json_get(all, "rope_theta"), &theta);
    (void)nb_json_real(nb_json_get(near, "rope_theta"), &local);
    hp->rope = (nb_rope){
        .theta = theta, .local_theta = r->f->local_theta > 0.0f ? local : theta, .factor = 1.0};
    if (st == NB_OK)
        st = nb_rope_plain(r->c, theta, n, hp->inv_freq, err);
    if (st == NB_OK)
        st = scale_rope(r, params && !is_null(params) ? all : find(r, "rope_scaling"), n, hp, err);
    if (st != NB_OK)
        return st;
    if (r->f->local_theta > 0.0f)
        return nb_rope_plain(r->c, local, n, hp->inv_freq_local, err); /* not scaled */
    memcpy(hp->inv_freq_local, hp->inv_freq, sizeof hp->inv_freq);
    return NB_OK;
}

/* ---- windows, layers without rotation, scales, experts ---- */

/* layer_types names each layer; older files say every n-th layer is global, or from which layer on
 * the window holds. */
static nb_status read_window(const reader *r, nb_hparams *hp, nb_error *err)
{
    bool use = true;
    int32_t pattern = r->f->window_pattern, from = 0;
    const nb_json_node *types = find(r, "layer_types");
    nb_status st = read_bool(r, "use_sliding_window", &use, err);
    if (st == NB_OK)
        st = read_int(r, "sliding_window", &hp->window, err);
    if (st == NB_OK)
        st = read_int(r,
                      find(r, "_sliding_window_pattern") ? "_sliding_window_pattern"
                                                         : "sliding_window_pattern",
                      &pattern, err);
    if (st == NB_OK)
        st = read_int(r, "max_window_layers", &from, err);
    if (st != NB_OK)
        return st;
    if (!use)
        hp->window = 0;
    if (pattern < 0)
        return nb_fail_at(err, NB_BAD_INPUT, r->c->path, -1,
                          "config.json: sliding_window_pattern is %d", pattern);
    for (int l = 0; l < NB_MAX_LAYER; l++)
        hp->local[l] = hp->window > 0 && l >= from && (pattern == 0 || (l + 1) % pattern != 0);
    if (!types || is_null(types))
        return NB_OK;
    int l = 0;
    for (const nb_json_node *v = nb_json_first(types); v; v = nb_json_next(v), l++) {
        const char *type = "";
        size_t type_n = 0;
        char shown[160];
        const bool text = nb_json_string(v, &type, &type_n),
                   local = strcmp(type, "sliding_attention") == 0;
        if (!text || (!local && strcmp(type, "full_attention") != 0))
            return nb_fail_at(
                err, text ? NB_UNSUPPORTED : NB_BAD_INPUT, r->c->path, (int64_t)nb_json_offset(v),
                "config.json: layer type \"%s\", known: full_attention, sliding_attention",
                nb_escape(shown, (int64_t)sizeof shown, type, (int64_t)type_n));
        if (l < NB_MAX_LAYER)
            hp->local[l] = local && hp->window > 0;
    }
    if (l != hp->n_layer)
        return nb_fail_at(err, NB_BAD_INPUT, r->c->path, (int64_t)nb_json_offset(types),
                          "config.json: layer_types has %d entries for %d layers", l, hp->n_layer);
    return NB_OK;
}

/* no_rope_layers has a 0 for each layer that does not rotate; without it the interval says which.
 * Where no layer_types name them, those layers are the ones with a window. */
static nb_status read_unrotated(const reader *r, nb_hparams *hp, nb_error *err)
{
    int32_t every = r->f->unrotated_every;
    const nb_json_node *list = find(r, "no_rope_layers"), *types = find(r, "layer_types");
    nb_status st = read_int(r, "no_rope_layer_interval", &every, err);
    if (st != NB_OK)
        return st;
    if (every < 1)
        return nb_fail_at(err, NB_BAD_INPUT, r->c->path, -1,
                          "config.json: no_rope_layer_interval is %d", every);
    for (int l = 0; l < NB_MAX_LAYER; l++)
        hp->unrotated[l] = (l + 1) % every == 0;
    int l = 0;
    for (const nb_json_node *v = is_null(list) ? NULL : nb_json_first(list); v;
         v = nb_json_next(v), l++) {
        int64_t rotates = 0;
        if (!nb_json_int(v, &rotates) || (rotates != 0 && rotates != 1))
            return nb_fail_at(err, NB_BAD_INPUT, r->c->path, (int64_t)nb_json_offset(v),
                              "config.json: no_rope_layers holds something other than 0 and 1");
        if (l < NB_MAX_LAYER)
            hp->unrotated[l] = !rotates;
    }
    if (list && !is_null(list) && l != hp->n_layer)
        return nb_fail_at(err, NB_BAD_INPUT, r->c->path, (int64_t)nb_json_offset(list),
                          "config.json: no_rope_layers has %d entries for %d layers", l,
                          hp->n_layer);
    for (l = 0; l < NB_MAX_LAYER && (!types || is_null(types)); l++)
        hp->local[l] = hp->window > 0 && hp->unrotated[l];
    return NB_OK;
}

static nb_status read_scales(const reader *r, nb_hparams *hp, nb_error *err)
{
    const nb_family *f = r->f;
    double query = hp->head_dim, cap = 0, final_cap = 0, embed = 1, residual = 1, attention = 1,
           logits = 1;
    nb_status st = NB_OK;
    if (!find(r, "attn_logit_softcapping"))
        cap = (double)f->attn_soft_cap;
    if (!find(r, "final_logit_softcapping"))
        final_cap = (double)f->logit_soft_cap;
    const struct {
        bool wanted;
        const char *key;
        double *to;
    } row[] = {{f->query_scalar, "query_pre_attn_scalar", &query},
               {f->query_scalar, "attn_logit_softcapping", &cap},
               {f->query_scalar, "final_logit_softcapping", &final_cap},
               {f->multipliers, "embedding_multiplier", &embed},
               {f->multipliers, "residual_multiplier", &residual},
               {f->multipliers, "attention_multiplier", &attention},
               {f->multipliers, "logits_scaling", &logits}};
    for (size_t i = 0; i < sizeof row / sizeof *row && st == NB_OK; i++)
        if (row[i].wanted)
            st = read_real(r, row[i].key, row[i].to, err);
    hp->attn_scale = f->multipliers ? (float)attention : (float)(1.0 / sqrt(query));
    hp->embed_scale = f->embed_by_width ? sqrtf((float)hp->hidden_size) : (float)embed;
    hp->residual_scale = (float)residual;
    hp->logit_divisor = (float)logits;
    hp->attn_soft_cap = (float)cap;
    hp->logit_soft_cap = (float)final_cap;
    return st;
}

static nb_status read_experts(const reader *r, nb_hparams *hp, nb_error *err)
{
    int32_t step = 1;
    bool renormalize = true;
    nb_status st = read_required(
        r, find(r, "num_local_experts") ? "num_local_experts" : "num_experts", &hp->n_expert, err);
    if (st == NB_OK)
        st = read_required(r, "num_experts_per_tok", &hp->n_expert_used, err);
    if (st == NB_OK)
        st = read_int(r, "moe_intermediate_size", &hp->intermediate_size, err);
    if (st == NB_OK)
        st = read_bool(r, "norm_topk_prob", &renormalize, err);
    if (st == NB_OK)
        st = read_int(r, "decoder_sparse_step", &step, err);
    hp->expert_renormalize = renormalize;
    if (st == NB_OK && (step != 1 || nb_json_count(find(r, "mlp_only_layers"))))
        st = nb_fail_at(
            err, NB_UNSUPPORTED, r->c->path, -1,
            "some layers are mixtures and some are not (decoder_sparse_step, mlp_only_layers)");
    return st;
}

/* ---- what must not be passed over ---- */

static nb_status check_activation(const reader *r, nb_error *err)
{
    const nb_json_node *v = find(r, "hidden_activation");
    const char *name = "";
    size_t n = 0;
    if ((!v || is_null(v)) && r->f->act == NB_ACT_SILU)
        v = find(r, "hidden_act"); /* Gemma's own code passes it over */
    if (!v || is_null(v))
        return NB_OK;
    const bool text = nb_json_string(v, &name, &n);
    if (text && strcmp(name, r->f->act == NB_ACT_SILU ? "silu" : "gelu_pytorch_tanh") == 0)
        return NB_OK;
    char shown[160];
    return nb_fail_at(err, text ? NB_UNSUPPORTED : NB_BAD_INPUT, r->c->path,
                      (int64_t)nb_json_offset(v), "activation \"%s\" in %s",
                      nb_escape(shown, (int64_t)sizeof shown, name, (int64_t)n), r->f->name);
}

static nb_status check_biases(const reader *r, nb_hparams *hp, nb_error *err)
{
    bool attention = false, mlp = false;
    nb_status st = read_bool(r, "attention_bias", &attention, err);
    if (st == NB_OK)
        st = read_bool(r, "mlp_bias", &mlp, err);
    if (st == NB_OK && mlp)
        st = nb_fail_at(err, NB_UNSUPPORTED, r->c->path, -1,
                        "config.json asks for mlp_bias, which no family has yet");
    hp->bias = !find(r, "attention_bias") ? NB_BIAS_BY_TENSOR
               : attention                ? NB_BIAS_REQUIRED
                                          : NB_BIAS_NONE;
    return st;
}

/* bos_token_id and eos_token_id: a number, or several. */
static nb_status check_token(const reader *r, const char *key, const nb_hparams *hp, nb_error *err)
{
    const nb_json_node *v = find(r, key);
    const bool several = v && nb_json_typeof(v) == NB_JSON_ARRAY;
    for (const nb_json_node *e = several ? nb_json_first(v) : v; e && !is_null(e);
         e = several ? nb_json_next(e) : NULL) {
        int64_t id = 0;
        if (!nb_json_int(e, &id))
            return nb_fail_at(err, NB_BAD_INPUT, r->c->path, (int64_t)nb_json_offset(e),
                              "config.json: \"%s\" is no integer", key);
        if (id < -1 || id >= hp->vocab_size) /* some write -1 for none */
            return nb_fail_at(err, NB_BAD_INPUT, r->c->path, (int64_t)nb_json_offset(e),
                              "config.json: \"%s\" is %lld, the vocabulary has %d", key,
                              (long long)id, hp->vocab_size);
    }
    return NB_OK;
}

static nb_status find_family(reader *r, const nb_family **family, nb_error *err)
{
    const char *arch = "";
    size_t n = 0;
    if (!r->root)
        return nb_fail_at(
            err, NB_UNSUPPORTED, r->c->path, -1,
            "a bare safetensors file names no architecture; give the folder with config.json");
    if (!nb_json_string(nb_json_first(nb_json_get(r->root, "architectures")), &arch, &n))
        return nb_fail_at(err, NB_BAD_INPUT, r->c->path, -1, "config.json lacks \"architectures\"");
    for (const nb_family *const *f = nb_families; *f && !*family; f++)
        for (const char *const *h = (*f)->hf_names; *h; h++)
            if (strcmp(*h, arch) == 0)
                *family = *f;
    if (!*family)
        return nb_hparams_unknown(r->c, arch, n, err);
    r->f = *family;
    return NB_OK;
}

nb_status nb_hparams_hf(const nb_container *c, const nb_family **family, nb_hparams *hp,
                        nb_error *err)
{
    reader r = {.c = c, .root = c->config ? nb_json_root(c->config) : NULL};
    nb_status st = find_family(&r, family, err);
    if (st != NB_OK)
        return st;
    if (r.f->hf_nested && nb_json_get(r.root, "text_config"))
        r.root = nb_json_get(r.root, "text_config");
    const struct {
        const char *key;
        int32_t *to;
    } sizes[] = {{"vocab_size", &hp->vocab_size},
                 {"hidden_size", &hp->hidden_size},
                 {"intermediate_size", &hp->intermediate_size},
                 {"num_hidden_layers", &hp->n_layer},
                 {"num_attention_heads", &hp->n_head},
                 {"max_position_embeddings", &hp->ctx_len}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes && st == NB_OK; i++)
        st = read_required(&r, sizes[i].key, sizes[i].to, err);
    if (st == NB_OK && hp->n_head < 1)
        st = nb_fail_at(err, NB_BAD_INPUT, c->path, -1, "config.json: num_attention_heads is %d",
                        hp->n_head);
    if (st != NB_OK)
        return st;
    double eps = 1e-6, rotary = 1.0;
    hp->n_kv_head = hp->n_head;
    hp->head_dim = hp->hidden_size / hp->n_head;
    st = read_int(&r, "num_key_value_heads", &hp->n_kv_head, err);
    if (st == NB_OK)
        st = read_int(&r, "head_dim", &hp->head_dim, err);
    if (st == NB_OK)
        st = read_real(&r, "rms_norm_eps", &eps, err);
    if (st == NB_OK)
        st = read_real(&r, "partial_rotary_factor", &rotary, err);
    (void)nb_json_real(nb_json_get(find(&r, "rope_parameters"), "partial_rotary_factor"), &rotary);
    hp->norm_eps = (float)eps;
    /* 0 is refused */
    hp->rope_dim = rotary > 0.0 && rotary <= 1.0 ? (int32_t)((double)hp->head_dim * rotary) : 0;
    hp->rows_paired = false;
    if (st == NB_OK && r.f->mixture)
        st = read_experts(&r, hp, err);
    if (st == NB_OK && r.f->windowed)
        st = read_window(&r, hp, err);
    if (st == NB_OK && r.f->unrotated_every)
        st = read_unrotated(&r, hp, err);
    if (st == NB_OK)
        st = read_scales(&r, hp, err);
    if (st == NB_OK)
        st = check_activation(&r, err);
    if (st == NB_OK)
        st = check_biases(&r, hp, err);
    if (st == NB_OK)
        st = nb_hparams_check(c, hp, err);
    if (st == NB_OK)
        st = check_token(&r, "bos_token_id", hp, err);
    if (st == NB_OK)
        st = check_token(&r, "eos_token_id", hp, err);
    return st == NB_OK ? read_rope(&r, hp, err) : st;
}
