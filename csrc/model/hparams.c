/* hparams.c -- the numbers of a model from GGUF keys or config.json, and their limits. */
#include "model/family.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Limits of hardening.md CF 95: far above every known model, low enough that no product of two overflows 2^53. */
static const struct {
    const char *what;
    int64_t most;
} limits[] = {{"vocabulary size", 1 << 22}, {"hidden size", 1 << 17}, {"intermediate size", 1 << 20},
              {"number of layers", 1024},   {"number of heads", 1024}, {"number of KV heads", 1024},
              {"head dimension", NB_MAX_ROPE_DIM}, {"context length", 1 << 24}};

static nb_status check(const nb_container *c, const nb_hparams *hp, nb_error *err)
{
    const int64_t value[] = {hp->vocab_size, hp->hidden_size, hp->intermediate_size, hp->n_layer,
                             hp->n_head,     hp->n_kv_head,   hp->head_dim,          hp->ctx_len};
    for (size_t i = 0; i < sizeof value / sizeof *value; i++)
        if (value[i] < 1 || value[i] > limits[i].most)
            return nb_fail_at(err, NB_BAD_INPUT, c->path, -1, "%s is %lld, it must be 1 to %lld", limits[i].what,
                              (long long)value[i], (long long)limits[i].most);
    if (hp->n_head % hp->n_kv_head)
        return nb_fail_at(err, NB_BAD_INPUT, c->path, -1, "%d heads are no multiple of %d KV heads", hp->n_head,
                          hp->n_kv_head);
    if (hp->rope_dim < 2 || hp->rope_dim % 2 || hp->rope_dim > hp->head_dim)
        return nb_fail_at(err, NB_BAD_INPUT, c->path, -1,
                          "rotary dimension %d, it must be even and at most the head dimension %d", hp->rope_dim,
                          hp->head_dim);
    if (!(hp->norm_eps > 0.0f && hp->norm_eps < 1.0f))
        return nb_fail_at(err, NB_BAD_INPUT, c->path, -1, "norm epsilon is %g, it must be between 0 and 1",
                          (double)hp->norm_eps);
    return NB_OK;
}

/* inv_freq[i] = theta^(-2i / rope_dim) (Su et al. 2021, section 3.2.2). */
static nb_status plain_rope(const nb_container *c, nb_hparams *hp, double theta, nb_error *err)
{
    if (!(theta > 0.0 && theta < 1e12))
        return nb_fail_at(err, NB_BAD_INPUT, c->path, -1, "rope theta is %g, it must be positive", theta);
    for (int i = 0; i < hp->rope_dim / 2; i++)
        hp->inv_freq[i] = (float)pow(theta, -2.0 * i / hp->rope_dim);
    return NB_OK;
}

/* The llama3 rule: long waves are slowed by `factor`, short ones kept, those between blended (Llama 3.1 release notes; config key rope_scaling). */
static nb_status llama3_rope(const nb_container *c, const nb_json_node *s, nb_hparams *hp, nb_error *err)
{
    double factor = 0, low = 0, high = 0, old = 0;
    if (!nb_json_real(nb_json_get(s, "factor"), &factor) || !nb_json_real(nb_json_get(s, "low_freq_factor"), &low) ||
        !nb_json_real(nb_json_get(s, "high_freq_factor"), &high) ||
        !nb_json_real(nb_json_get(s, "original_max_position_embeddings"), &old) || !(factor >= 1.0) || !(low > 0.0) ||
        !(high > low) || !(old >= 1.0))
        return nb_fail_at(err, NB_BAD_INPUT, c->path, (int64_t)nb_json_offset(s),
                          "rope_scaling of type llama3 needs factor, low_freq_factor < high_freq_factor and "
                          "original_max_position_embeddings");
    for (int i = 0; i < hp->rope_dim / 2; i++) {
        const double f = (double)hp->inv_freq[i], wave = 2.0 * 3.14159265358979323846 / f;
        const double smooth = (old / wave - low) / (high - low);
        if (wave > old / low)
            hp->inv_freq[i] = (float)(f / factor);
        else if (wave > old / high)
            hp->inv_freq[i] = (float)((1.0 - smooth) * f / factor + smooth * f);
    }
    return NB_OK;
}

static nb_status linear_rope(const nb_container *c, double factor, nb_hparams *hp, nb_error *err)
{
    if (!(factor > 0.0 && factor < 1e6))
        return nb_fail_at(err, NB_BAD_INPUT, c->path, -1, "rope scaling factor is %g, it must be positive", factor);
    for (int i = 0; i < hp->rope_dim / 2; i++)
        hp->inv_freq[i] = (float)((double)hp->inv_freq[i] / factor);
    return NB_OK;
}

static nb_status unknown_arch(const nb_container *c, const char *name, size_t n, nb_error *err)
{
    char list[256] = "", shown[160];
    int at = 0;
    for (const nb_family *const *f = nb_families; *f; f++)
        at += snprintf(list + at, sizeof list - (size_t)at, "%s%s", at ? ", " : "", (*f)->name);
    return nb_fail_at(err, NB_UNSUPPORTED, c->path, -1, "unknown architecture \"%s\", known: %s",
                      nb_escape(shown, (int64_t)sizeof shown, name, (int64_t)n), list);
}

/* ---- GGUF ---- */

/* A name that could be one: it becomes part of keys and sentences. */
static nb_status check_arch_name(const nb_container *c, nb_str name, nb_error *err)
{
    enum { kMost = 64 };
    bool plain = name.n >= 1 && name.n <= kMost;
    for (size_t i = 0; i < name.n && plain; i++) {
        const char ch = name.p[i];
        plain = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') || ch == '-' || ch == '_' || ch == '.';
    }
    if (plain && name.p[0] != '.')
        return NB_OK;
    char shown[160];
    return nb_fail_at(err, NB_BAD_INPUT, c->path, nb_gguf_find(c->gguf, "general.architecture")->offset,
                      "general.architecture \"%s\" is no name of 1 to %d letters, digits, - _ .",
                      nb_escape(shown, (int64_t)sizeof shown, name.p, (int64_t)name.n), kMost);
}

static nb_status gguf_int(const nb_gguf *g, const char *arch, const char *key, int64_t otherwise, int32_t *out,
                          nb_error *err)
{
    char name[160];
    uint32_t v = 0;
    snprintf(name, sizeof name, "%s.%s", arch, key);
    if (otherwise >= 0 && !nb_gguf_find(g, name)) {
        *out = (int32_t)otherwise;
        return NB_OK;
    }
    const nb_status st = nb_gguf_u32(g, name, &v, err);
    if (st == NB_OK)
        *out = v > INT32_MAX ? INT32_MAX : (int32_t)v; /* over every limit below; check() names it */
    return st;
}

static nb_status gguf_real(const nb_gguf *g, const char *arch, const char *key, float otherwise, float *out,
                           nb_error *err)
{
    char name[160];
    snprintf(name, sizeof name, "%s.%s", arch, key);
    if (otherwise > 0.0f && !nb_gguf_find(g, name)) {
        *out = otherwise;
        return NB_OK;
    }
    return nb_gguf_f32(g, name, out, err);
}

/* rope_freqs.weight divides the frequencies one by one (how GGUF carries the llama3 rule). */
static nb_status gguf_rope(const nb_container *c, const char *arch, nb_hparams *hp, nb_error *err)
{
    char name[160];
    float theta = 0.0f;
    nb_status st = gguf_real(c->gguf, arch, "rope.freq_base", 10000.0f, &theta, err);
    if (st == NB_OK)
        st = plain_rope(c, hp, (double)theta, err);
    if (st != NB_OK)
        return st;
    const nb_tensor *t = nb_container_find(c, "rope_freqs.weight");
    if (t) {
        float factor[NB_MAX_ROPE_DIM / 2];
        const int64_t n = hp->rope_dim / 2;
        if (t->n_dim != 1 || t->shape[0] != n || !t->dtype->decode || t->dtype->block != 1)
            return nb_fail_at(err, NB_BAD_INPUT, c->path, (int64_t)t->offset, "rope_freqs.weight must hold %lld numbers",
                              (long long)n);
        nb_dtype_decode_row(t->dtype, t->data, factor, n);
        for (int64_t i = 0; i < n; i++) {
            if (!(factor[i] > 0.0f))
                return nb_fail_at(err, NB_BAD_INPUT, c->path, (int64_t)t->offset, "rope_freqs.weight holds %g",
                                  (double)factor[i]);
            hp->inv_freq[i] /= factor[i];
        }
    }
    snprintf(name, sizeof name, "%s.rope.scaling.type", arch);
    if (!nb_gguf_find(c->gguf, name))
        return NB_OK;
    nb_str type;
    float factor = 1.0f;
    st = nb_gguf_string(c->gguf, name, &type, err);
    if (st != NB_OK || (type.n == 4 && memcmp(type.p, "none", 4) == 0))
        return st;
    if (type.n != 6 || memcmp(type.p, "linear", 6) != 0) {
        char shown[160];
        return nb_fail_at(err, NB_UNSUPPORTED, c->path, -1, "rope scaling \"%s\", known: none, linear",
                          nb_escape(shown, (int64_t)sizeof shown, type.p, (int64_t)type.n));
    }
    st = gguf_real(c->gguf, arch, "rope.scaling.factor", 0.0f, &factor, err);
    return st == NB_OK ? linear_rope(c, (double)factor, hp, err) : st;
}

static nb_status read_gguf(const nb_container *c, const nb_family **family, nb_hparams *hp, nb_error *err)
{
    const nb_gguf *g = c->gguf;
    nb_str arch;
    nb_status st = nb_gguf_string(g, "general.architecture", &arch, err);
    if (st == NB_OK)
        st = check_arch_name(c, arch, err);
    if (st != NB_OK)
        return st;
    for (const nb_family *const *f = nb_families; *f && !*family; f++)
        if (strlen((*f)->name) == arch.n && memcmp((*f)->name, arch.p, arch.n) == 0)
            *family = *f;
    if (!*family)
        return unknown_arch(c, arch.p, arch.n, err);
    const char *a = (*family)->name;
    const nb_gguf_kv *tokens = nb_gguf_find(g, "tokenizer.ggml.tokens");
    const nb_tensor *embed = nb_container_find(c, "token_embd.weight");
    const int64_t vocab = embed && embed->n_dim == 2 ? embed->shape[0]
                          : tokens && tokens->type == NB_GGUF_ARRAY && tokens->count < INT32_MAX ? (int64_t)tokens->count
                                                                                                 : 0;
    st = gguf_int(g, a, "embedding_length", -1, &hp->hidden_size, err);
    if (st == NB_OK)
        st = gguf_int(g, a, "block_count", -1, &hp->n_layer, err);
    if (st == NB_OK)
        st = gguf_int(g, a, "context_length", -1, &hp->ctx_len, err);
    if (st == NB_OK)
        st = gguf_int(g, a, "feed_forward_length", -1, &hp->intermediate_size, err);
    if (st == NB_OK)
        st = gguf_int(g, a, "attention.head_count", -1, &hp->n_head, err);
    if (st == NB_OK)
        st = gguf_int(g, a, "attention.head_count_kv", hp->n_head, &hp->n_kv_head, err);
    if (st == NB_OK && hp->n_head < 1)
        st = nb_fail_at(err, NB_BAD_INPUT, c->path, -1, "%s.attention.head_count is 0", a);
    if (st == NB_OK)
        st = gguf_int(g, a, "attention.key_length", hp->hidden_size / hp->n_head, &hp->head_dim, err);
    if (st == NB_OK)
        st = gguf_int(g, a, "rope.dimension_count", hp->head_dim, &hp->rope_dim, err);
    if (st == NB_OK)
        st = gguf_real(g, a, "attention.layer_norm_rms_epsilon", 0.0f, &hp->norm_eps, err);
    if (st == NB_OK && tokens && tokens->type == NB_GGUF_ARRAY && embed && (int64_t)tokens->count > vocab)
        st = nb_fail_at(err, NB_BAD_INPUT, c->path, tokens->offset,
                        "the vocabulary has %llu tokens, the embedding %lld rows", (unsigned long long)tokens->count,
                        (long long)vocab);
    if (st != NB_OK)
        return st;
    hp->vocab_size = (int32_t)(vocab > INT32_MAX ? INT32_MAX : vocab);
    hp->rope_interleaved = (*family)->gguf_rope_interleaved;
    st = check(c, hp, err);
    return st == NB_OK ? gguf_rope(c, a, hp, err) : st;
}

/* ---- config.json ---- */

static nb_status hf_int(const nb_container *c, const char *key, int64_t otherwise, int32_t *out, nb_error *err)
{
    const nb_json_node *v = nb_json_get(nb_json_root(c->config), key);
    int64_t n = otherwise;
    if (!v || nb_json_typeof(v) == NB_JSON_NULL) {
        if (otherwise < 0)
            return nb_fail_at(err, NB_BAD_INPUT, c->path, -1, "config.json lacks \"%s\"", key);
    } else if (!nb_json_int(v, &n))
        return nb_fail_at(err, NB_BAD_INPUT, c->path, (int64_t)nb_json_offset(v), "config.json: \"%s\" is no integer", key);
    *out = n > INT32_MAX ? INT32_MAX : n < INT32_MIN ? INT32_MIN : (int32_t)n;
    return NB_OK;
}

static nb_status hf_real(const nb_container *c, const char *key, double otherwise, double *out, nb_error *err)
{
    const nb_json_node *v = nb_json_get(nb_json_root(c->config), key);
    *out = otherwise;
    if (!v || nb_json_typeof(v) == NB_JSON_NULL)
        return NB_OK;
    if (!nb_json_real(v, out))
        return nb_fail_at(err, NB_BAD_INPUT, c->path, (int64_t)nb_json_offset(v), "config.json: \"%s\" is no number", key);
    return NB_OK;
}

static nb_status hf_rope(const nb_container *c, nb_hparams *hp, nb_error *err)
{
    double theta = 0;
    nb_status st = hf_real(c, "rope_theta", 10000.0, &theta, err);
    if (st == NB_OK)
        st = plain_rope(c, hp, theta, err);
    if (st != NB_OK)
        return st;
    const nb_json_node *s = nb_json_get(nb_json_root(c->config), "rope_scaling");
    if (!s || nb_json_typeof(s) == NB_JSON_NULL)
        return NB_OK;
    const char *type = "";
    size_t n = 0;
    const nb_json_node *t = nb_json_get(s, "rope_type");
    if (!nb_json_string(t ? t : nb_json_get(s, "type"), &type, &n))
        return nb_fail_at(err, NB_BAD_INPUT, c->path, (int64_t)nb_json_offset(s), "config.json: rope_scaling names no rope_type");
    if (strcmp(type, "default") == 0)
        return NB_OK;
    if (strcmp(type, "llama3") == 0)
        return llama3_rope(c, s, hp, err);
    double factor = 0;
    if (strcmp(type, "linear") == 0) {
        (void)nb_json_real(nb_json_get(s, "factor"), &factor); /* absent stays 0, which linear_rope refuses */
        return linear_rope(c, factor, hp, err);
    }
    char shown[160];
    return nb_fail_at(err, NB_UNSUPPORTED, c->path, (int64_t)nb_json_offset(s),
                      "rope scaling \"%s\", known: default, linear, llama3",
                      nb_escape(shown, (int64_t)sizeof shown, type, (int64_t)n));
}

static nb_status read_hf(const nb_container *c, const nb_family **family, nb_hparams *hp, nb_error *err)
{
    const nb_json_node *root = c->config ? nb_json_root(c->config) : NULL;
    const char *arch = "";
    size_t n = 0;
    if (!root)
        return nb_fail_at(err, NB_UNSUPPORTED, c->path, -1,
                          "a bare safetensors file names no architecture; give the folder with config.json");
    if (!nb_json_string(nb_json_first(nb_json_get(root, "architectures")), &arch, &n))
        return nb_fail_at(err, NB_BAD_INPUT, c->path, -1, "config.json lacks \"architectures\"");
    for (const nb_family *const *f = nb_families; *f && !*family; f++)
        for (const char *const *h = (*f)->hf_names; *h; h++)
            if (strcmp(*h, arch) == 0)
                *family = *f;
    if (!*family)
        return unknown_arch(c, arch, n, err);
    if (nb_json_get(root, "quantization_config"))
        return nb_fail_at(err, NB_UNSUPPORTED, c->path, -1,
                          "a quantized safetensors checkpoint; only F32, F16 and BF16 folders are read so far");
    static const char *const biases[] = {"attention_bias", "mlp_bias"};
    for (int i = 0; i < 2; i++) {
        bool on = false;
        if (nb_json_bool(nb_json_get(root, biases[i]), &on) && on)
            return nb_fail_at(err, NB_UNSUPPORTED, c->path, -1, "config.json asks for %s, which this family has not yet", biases[i]);
    }
    double eps = 0;
    nb_status st = hf_int(c, "vocab_size", -1, &hp->vocab_size, err);
    if (st == NB_OK)
        st = hf_int(c, "hidden_size", -1, &hp->hidden_size, err);
    if (st == NB_OK)
        st = hf_int(c, "intermediate_size", -1, &hp->intermediate_size, err);
    if (st == NB_OK)
        st = hf_int(c, "num_hidden_layers", -1, &hp->n_layer, err);
    if (st == NB_OK)
        st = hf_int(c, "num_attention_heads", -1, &hp->n_head, err);
    if (st == NB_OK && hp->n_head < 1)
        st = nb_fail_at(err, NB_BAD_INPUT, c->path, -1, "config.json: num_attention_heads is %d", hp->n_head);
    if (st == NB_OK)
        st = hf_int(c, "num_key_value_heads", hp->n_head, &hp->n_kv_head, err);
    if (st == NB_OK)
        st = hf_int(c, "head_dim", hp->hidden_size / hp->n_head, &hp->head_dim, err);
    if (st == NB_OK)
        st = hf_int(c, "max_position_embeddings", -1, &hp->ctx_len, err);
    if (st == NB_OK)
        st = hf_real(c, "rms_norm_eps", 1e-6, &eps, err);
    if (st != NB_OK)
        return st;
    hp->norm_eps = (float)eps;
    hp->rope_dim = hp->head_dim;
    hp->rope_interleaved = false;
    st = check(c, hp, err);
    return st == NB_OK ? hf_rope(c, hp, err) : st;
}

nb_status nb_hparams_read(const nb_container *c, const nb_family **family, nb_hparams *hp, nb_error *err)
{
    char name[128];
    *family = NULL;
    memset(hp, 0, sizeof *hp);
    const nb_status st = c->kind == NB_CONTAINER_GGUF ? read_gguf(c, family, hp, err) : read_hf(c, family, hp, err);
    if (st != NB_OK)
        return st;
    hp->embed_scale = 1.0f;
    hp->attn_scale = 1.0f / sqrtf((float)hp->head_dim);
    hp->act = (*family)->act;
    hp->tied = !nb_family_tensor(*family, c, NB_ROLE_OUTPUT, 0, name);
    if (hp->tied && c->kind == NB_CONTAINER_HF) {
        bool tied = true;
        const nb_json_node *v = nb_json_get(nb_json_root(c->config), "tie_word_embeddings");
        if (nb_json_bool(v, &tied) && !tied)
            return nb_fail_at(err, NB_BAD_INPUT, c->path, -1, "tie_word_embeddings is false but %s is missing", name);
    }
    return NB_OK;
}
