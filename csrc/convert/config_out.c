/* config_out.c -- config.json from the numbers of a model: a row for each key, written for every
 * family or for those that list it (nb_family.hf_keys). Keys and their meaning: the publishers'
 * code as transformers has it; every one is written even at its default, so that nothing depends on
 * whose defaults are read. */
#include "convert/config_out.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct source {
    const nb_model *m;
    const nb_hparams *hp;
    const nb_family *f;
    const char *torch_dtype;
    nb_rope_llama3 llama3; /* when the rule is that one */
} source;

const nb_family *nb_config_family(const nb_model *m)
{
    if (m->container->kind == NB_CONTAINER_HF)
        return m->family;
    for (const nb_family *const *f = nb_families; *f; f++)
        if (strcmp((*f)->gguf_name, m->family->gguf_name) == 0 &&
            (*f)->mixture == m->family->mixture && ((*f)->windowed || m->hp.window == 0))
            return *f;
    return m->family;
}

/* ---- values ---- */

static void put_text(nb_text *o, const char *s)
{
    nb_text_json(o, s, strlen(s));
}

/* The shortest decimal number that reads back to the same f32: 1e-05, not 9.99999974737875e-06. */
static void put_f32(nb_text *o, float x)
{
    char s[40];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(s, sizeof s, "%.*g", digits, (double)x);
        if (strtof(s, NULL) == x)
            break;
    }
    nb_text_puts(o, s);
    if (!strpbrk(s, ".e"))
        nb_text_puts(o, ".0");
}

static void put_bool(nb_text *o, bool b)
{
    nb_text_puts(o, b ? "true" : "false");
}

static void put_id(nb_text *o, int32_t id)
{
    if (id >= 0)
        nb_text_printf(o, "%d", id);
    else
        nb_text_puts(o, "null");
}

static void architectures(const source *s, nb_text *o)
{
    nb_text_puts(o, "[");
    put_text(o, s->f->hf_names[0]);
    nb_text_puts(o, "]");
}

static void model_type(const source *s, nb_text *o)
{
    put_text(o, s->f->hf_model_type ? s->f->hf_model_type : s->f->name);
}

static void activation(const source *s, nb_text *o)
{
    put_text(o, s->f->act == NB_ACT_SILU ? "silu" : "gelu_pytorch_tanh");
}

static void torch_dtype(const source *s, nb_text *o)
{
    put_text(o, s->torch_dtype);
}

/* of a mixture: what the file has beside the experts' */
static void dense_size(const source *s, nb_text *o)
{
    char key[96];
    uint32_t v = 0;
    snprintf(key, sizeof key, "%s.feed_forward_length", s->f->gguf_name);
    if (!s->m->container->gguf || nb_gguf_u32(s->m->container->gguf, key, &v, NULL) != NB_OK ||
        v > INT32_MAX)
        v = (uint32_t)s->hp->intermediate_size;
    nb_text_printf(o, "%u", v);
}

static void rope_theta(const source *s, nb_text *o)
{
    put_f32(o, (float)s->hp->rope.theta);
}

static void local_theta(const source *s, nb_text *o)
{
    put_f32(o, (float)s->hp->rope.local_theta);
}

static void rope_scaling(const source *s, nb_text *o)
{
    const nb_rope *r = &s->hp->rope;
    if (r->rule == NB_ROPE_PLAIN)
        nb_text_puts(o, "null");
    else if (r->rule == NB_ROPE_LINEAR) {
        nb_text_puts(o, "{\"rope_type\": \"linear\", \"factor\": ");
        put_f32(o, (float)r->factor);
        nb_text_puts(o, "}");
    } else {
        nb_text_puts(o, "{\"rope_type\": \"llama3\", \"factor\": ");
        put_f32(o, (float)s->llama3.factor);
        nb_text_puts(o, ", \"low_freq_factor\": ");
        put_f32(o, (float)s->llama3.low);
        nb_text_puts(o, ", \"high_freq_factor\": ");
        put_f32(o, (float)s->llama3.high);
        nb_text_printf(o, ", \"original_max_position_embeddings\": %lld}",
                       (long long)s->llama3.old);
    }
}

static void partial_rotary(const source *s, nb_text *o)
{
    nb_text_number(o, (double)s->hp->rope_dim / s->hp->head_dim);
}

static void original_context(const source *s, nb_text *o)
{
    char key[96];
    uint32_t v = 0;
    snprintf(key, sizeof key, "%s.rope.scaling.original_context_length", s->f->gguf_name);
    if (!s->m->container->gguf || nb_gguf_u32(s->m->container->gguf, key, &v, NULL) != NB_OK || !v)
        v = (uint32_t)s->hp->ctx_len;
    nb_text_printf(o, "%u", v);
}

/* The width whose -1/2 scales q.k: a whole number in every published model. */
static void query_scalar(const source *s, nb_text *o)
{
    const double x = 1.0 / ((double)s->hp->attn_scale * (double)s->hp->attn_scale);
    if (fabs(x - rint(x)) < 1e-5 * x)
        nb_text_printf(o, "%lld", (long long)rint(x));
    else
        nb_text_number(o, x);
}

static void put_cap(nb_text *o, float cap)
{
    if (cap > 0.0f)
        put_f32(o, cap);
    else
        nb_text_puts(o, "null");
}

static void score_cap(const source *s, nb_text *o)
{
    put_cap(o, s->hp->attn_soft_cap);
}

static void logit_cap(const source *s, nb_text *o)
{
    put_cap(o, s->hp->logit_soft_cap);
}

static bool has_window(const source *s)
{
    bool any = false;
    for (int l = 0; l < s->hp->n_layer; l++)
        any = any || s->hp->local[l];
    return any && s->hp->window > 0;
}

static void use_window(const source *s, nb_text *o)
{
    put_bool(o, has_window(s));
}

static void window(const source *s, nb_text *o)
{
    if (has_window(s))
        nb_text_printf(o, "%d", s->hp->window);
    else
        nb_text_puts(o, "null");
}

static void layer_types(const source *s, nb_text *o)
{
    nb_text_puts(o, "[");
    for (int l = 0; l < s->hp->n_layer; l++)
        nb_text_printf(o, "%s\"%s\"", l ? ", " : "",
                       has_window(s) && s->hp->local[l] ? "sliding_attention" : "full_attention");
    nb_text_puts(o, "]");
}

static void no_rope_layers(const source *s, nb_text *o)
{
    nb_text_puts(o, "[");
    for (int l = 0; l < s->hp->n_layer; l++)
        nb_text_printf(o, "%s%d", l ? ", " : "", s->hp->unrotated[l] ? 0 : 1);
    nb_text_puts(o, "]");
}

static void attention_bias(const source *s, nb_text *o)
{
    bool any = false;
    for (int r = NB_ROLE_ATTN_Q_BIAS; r <= NB_ROLE_ATTN_O_BIAS; r++)
        any = any || nb_model_has(s->m, (nb_slot){.role = (nb_role)r});
    put_bool(o, any);
}

static void tied(const source *s, nb_text *o)
{
    put_bool(o, s->hp->tied);
}

static void renormalize(const source *s, nb_text *o)
{
    put_bool(o, s->hp->expert_renormalize);
}

static void one(const source *s, nb_text *o)
{
    (void)s;
    nb_text_puts(o, "1");
}

static void bos(const source *s, nb_text *o)
{
    put_id(o, s->m->tokenizer ? nb_tokenizer_bos(s->m->tokenizer) : -1);
}

static void eos(const source *s, nb_text *o)
{
    put_id(o, s->m->tokenizer ? nb_tokenizer_eos(s->m->tokenizer) : -1);
}

static void padding(const source *s, nb_text *o)
{
    put_id(o, s->m->tokenizer ? nb_tokenizer_padding(s->m->tokenizer) : -1);
}

/* ---- the rows ---- */

typedef enum number { NO_FIELD, INT, F32 } number;

typedef struct row {
    const char *key;
    bool listed;                                  /* only for families that list it */
    void (*value)(const source *s, nb_text *out); /* NULL: a field */
    number is;
    size_t at; /* in nb_hparams */
} row;

#define FIELD(name) offsetof(nb_hparams, name)

static const row rows[] = {
    {"architectures", false, architectures, 0, 0},
    {"model_type", false, model_type, 0, 0},
    {"vocab_size", false, NULL, INT, FIELD(vocab_size)},
    {"hidden_size", false, NULL, INT, FIELD(hidden_size)},
    {"intermediate_size", false, dense_size, 0, 0},
    {"num_hidden_layers", false, NULL, INT, FIELD(n_layer)},
    {"num_attention_heads", false, NULL, INT, FIELD(n_head)},
    {"num_key_value_heads", false, NULL, INT, FIELD(n_kv_head)},
    {"head_dim", false, NULL, INT, FIELD(head_dim)},
    {"hidden_act", false, activation, 0, 0},
    {"hidden_activation", true, activation, 0, 0},
    {"max_position_embeddings", false, NULL, INT, FIELD(ctx_len)},
    {"original_max_position_embeddings", true, original_context, 0, 0},
    {"rms_norm_eps", false, NULL, F32, FIELD(norm_eps)},
    {"rope_theta", false, rope_theta, 0, 0},
    {"rope_local_base_freq", true, local_theta, 0, 0},
    {"rope_scaling", false, rope_scaling, 0, 0},
    {"partial_rotary_factor", true, partial_rotary, 0, 0},
    {"attention_bias", true, attention_bias, 0, 0},
    {"query_pre_attn_scalar", true, query_scalar, 0, 0},
    {"attn_logit_softcapping", true, score_cap, 0, 0},
    {"final_logit_softcapping", true, logit_cap, 0, 0},
    {"use_sliding_window", true, use_window, 0, 0},
    {"sliding_window", true, window, 0, 0},
    {"layer_types", true, layer_types, 0, 0},
    {"no_rope_layers", true, no_rope_layers, 0, 0},
    {"embedding_multiplier", true, NULL, F32, FIELD(embed_scale)},
    {"residual_multiplier", true, NULL, F32, FIELD(residual_scale)},
    {"attention_multiplier", true, NULL, F32, FIELD(attn_scale)},
    {"logits_scaling", true, NULL, F32, FIELD(logit_divisor)},
    {"num_local_experts", true, NULL, INT, FIELD(n_expert)},
    {"num_experts", true, NULL, INT, FIELD(n_expert)},
    {"num_experts_per_tok", true, NULL, INT, FIELD(n_expert_used)},
    {"moe_intermediate_size", true, NULL, INT, FIELD(intermediate_size)},
    {"norm_topk_prob", true, renormalize, 0, 0},
    {"decoder_sparse_step", true, one, 0, 0},
    {"tie_word_embeddings", false, tied, 0, 0},
    {"bos_token_id", false, bos, 0, 0},
    {"eos_token_id", false, eos, 0, 0},
    {"pad_token_id", false, padding, 0, 0},
    {"torch_dtype", false, torch_dtype, 0, 0},
};

static bool lists(const nb_family *f, const char *key)
{
    for (const char *const *k = f->hf_keys; k && *k; k++)
        if (strcmp(*k, key) == 0)
            return true;
    return false;
}

static void put_row(const source *s, const row *r, nb_text *o)
{
    const char *field = (const char *)s->hp + r->at;
    int32_t i = 0;
    float f = 0.0f;
    if (r->value)
        r->value(s, o);
    else if (r->is == INT) {
        memcpy(&i, field, sizeof i);
        nb_text_printf(o, "%d", i);
    } else {
        memcpy(&f, field, sizeof f);
        put_f32(o, f);
    }
}

/* What a number of the model can be and no key of the family says. */
static nb_status check_words(source *s, nb_error *err)
{
    const nb_hparams *hp = s->hp;
    const char *what = NULL;
    if (hp->rope.rule == NB_ROPE_DIVIDED &&
        (hp->rope.factor != 1.0 || !nb_config_find_llama3(hp, &s->llama3)))
        what = "rotary frequencies that follow no rule of config.json (rope_freqs.weight)";
    else if (hp->rope.rule == NB_ROPE_LLAMA3)
        s->llama3 = hp->rope.llama3;
    if (has_window(s) && !lists(s->f, "sliding_window"))
        what = "a sliding window";
    for (int l = 0; l < hp->n_layer && has_window(s) && !lists(s->f, "layer_types"); l++)
        if (!hp->local[l])
            what = "layers with and without a sliding window";
    if (hp->attn_scale != (float)(1.0 / sqrt((double)hp->head_dim)) &&
        !lists(s->f, "query_pre_attn_scalar") && !lists(s->f, "attention_multiplier"))
        what = "a scale of attention of its own";
    if ((hp->attn_soft_cap > 0.0f && !lists(s->f, "attn_logit_softcapping")) ||
        (hp->logit_soft_cap > 0.0f && !lists(s->f, "final_logit_softcapping")))
        what = "a soft cap";
    if (hp->rope_dim != hp->head_dim && !lists(s->f, "partial_rotary_factor"))
        what = "heads that are rotated in part";
    if (hp->rope.local_theta != hp->rope.theta && !lists(s->f, "rope_local_base_freq"))
        what = "rotary frequencies of its own in the layers within the window";
    if (!what)
        return NB_OK;
    return nb_fail_at(err, NB_UNSUPPORTED, s->m->container->path, -1,
                      "the config.json of a %s model has no word for what it has: %s", s->f->name,
                      what);
}

/* ---- a folder's own ---- */

static void copy_value(const nb_json_node *v, nb_text *o)
{
    const char *text = NULL;
    size_t n = 0;
    int64_t i = 0;
    uint64_t u = 0;
    double d = 0;
    bool b = false;
    const bool object = nb_json_typeof(v) == NB_JSON_OBJECT;
    if (object || nb_json_typeof(v) == NB_JSON_ARRAY) {
        nb_text_puts(o, object ? "{" : "[");
        for (const nb_json_node *e = nb_json_first(v); e; e = nb_json_next(e)) {
            const char *key = object ? nb_json_key(e, &n) : NULL;
            nb_text_puts(o, e == nb_json_first(v) ? "" : ", ");
            if (key) {
                nb_text_json(o, key, n);
                nb_text_puts(o, ": ");
            }
            copy_value(e, o); /* as deep as the reader allows: 128 */
        }
        nb_text_puts(o, object ? "}" : "]");
    } else if (nb_json_string(v, &text, &n))
        nb_text_json(o, text, n);
    else if (nb_json_int(v, &i))
        nb_text_printf(o, "%lld", (long long)i);
    else if (nb_json_u64(v, &u))
        nb_text_printf(o, "%llu", (unsigned long long)u);
    else if (nb_json_real(v, &d))
        nb_text_number(o, d);
    else if (nb_json_bool(v, &b))
        put_bool(o, b);
    else
        nb_text_puts(o, "null");
}

static void copy_config(const nb_json_node *root, const char *dtype, nb_text *o)
{
    nb_text_puts(o, "{\n");
    for (const nb_json_node *e = nb_json_first(root); e; e = nb_json_next(e)) {
        size_t n = 0;
        const char *key = nb_json_key(e, &n);
        if (strcmp(key, "torch_dtype") == 0 || strcmp(key, "dtype") == 0 ||
            strcmp(key, "quantization_config") == 0)
            continue;
        nb_text_puts(o, "  ");
        nb_text_json(o, key, n);
        nb_text_puts(o, ": ");
        copy_value(e, o);
        nb_text_puts(o, ",\n");
    }
    nb_text_puts(o, "  \"torch_dtype\": ");
    put_text(o, dtype);
    nb_text_puts(o, "\n}\n");
}

nb_status nb_config_to_json(const nb_model *m, const char *dtype, nb_text *out, nb_error *err)
{
    source s = {.m = m, .hp = &m->hp, .f = nb_config_family(m), .torch_dtype = dtype};
    if (m->container->config) {
        copy_config(nb_json_root(m->container->config), dtype, out);
        return nb_text_check(out, "config.json", err);
    }
    const nb_status st = check_words(&s, err);
    if (st != NB_OK)
        return st;
    const char *comma = "{\n";
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].listed && !lists(s.f, rows[i].key))
            continue;
        nb_text_printf(out, "%s  \"%s\": ", comma, rows[i].key);
        put_row(&s, &rows[i], out);
        comma = ",\n";
    }
    nb_text_puts(out, "\n}\n");
    return nb_text_check(out, "config.json", err);
}

nb_status nb_generation_config_to_json(const nb_model *m, nb_text *out, nb_error *err)
{
    const nb_tokenizer *t = m->tokenizer;
    const char *comma = "";
    if (m->container->kind == NB_CONTAINER_HF) {
        if (!m->container->generation_config)
            return NB_OK;
        copy_value(nb_json_root(m->container->generation_config), out);
        nb_text_puts(out, "\n");
        return nb_text_check(out, "generation_config.json", err);
    }
    if (!t)
        return NB_OK;
    nb_text_puts(out, "{\n  \"bos_token_id\": ");
    put_id(out, nb_tokenizer_bos(t));
    nb_text_puts(out, ",\n  \"eos_token_id\": [");
    for (int32_t id = 0; id < nb_tokenizer_vocab_size(t); id++)
        if (nb_tokenizer_is_end(t, id)) {
            nb_text_printf(out, "%s%d", comma, id);
            comma = ", ";
        }
    nb_text_puts(out, "],\n  \"pad_token_id\": ");
    put_id(out, nb_tokenizer_padding(t));
    nb_text_puts(out, "\n}\n");
    return nb_text_check(out, "generation_config.json", err);
}

const char *nb_torch_dtype(const nb_dtype *t)
{
    static const char *const names[][2] = {
        {"f32", "float32"}, {"f16", "float16"}, {"bf16", "bfloat16"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i][0], t->name) == 0)
            return names[i][1];
    return NULL;
}
