/* hparams_gguf.c -- the numbers of a model from GGUF keys, ARCHITECTURE.KEY (GGUF specification;
 * what families leave unsaid is in their rows). */
#include "model/hparams.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct reader {
    const nb_container *c;
    const nb_family *f;
    char name[160]; /* the key looked for */
} reader;

static const nb_gguf_kv *find(reader *r, const char *key)
{
    snprintf(r->name, sizeof r->name, "%s.%s", r->f->gguf_name, key);
    return nb_gguf_find(r->c->gguf, r->name);
}

/* Absent: stays as it is when `otherwise` is given, else refused. */
static nb_status read_int(reader *r, const char *key, const int32_t *otherwise, int32_t *out,
                          nb_error *err)
{
    uint32_t v = 0;
    if (!find(r, key) && otherwise) {
        *out = *otherwise;
        return NB_OK;
    }
    const nb_status st = nb_gguf_u32(r->c->gguf, r->name, &v, err);
    if (st == NB_OK)
        *out = v > INT32_MAX ? INT32_MAX : (int32_t)v; /* over every limit; the check names it */
    return st;
}

/* A name that could be one: it becomes part of keys and sentences. */
static nb_status check_arch_name(const nb_container *c, nb_str name, nb_error *err)
{
    enum { kMost = 64 };
    bool plain = name.n >= 1 && name.n <= kMost;
    for (size_t i = 0; i < name.n && plain; i++) {
        const char ch = name.p[i];
        plain = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
                ch == '-' || ch == '_' || ch == '.';
    }
    if (plain && name.p[0] != '.')
        return NB_OK;
    char shown[160];
    return nb_fail_at(err, NB_BAD_INPUT, c->path,
                      nb_gguf_find(c->gguf, "general.architecture")->offset,
                      "general.architecture \"%s\" is no name of 1 to %d letters, digits, - _ .",
                      nb_escape(shown, (int64_t)sizeof shown, name.p, (int64_t)name.n), kMost);
}

static nb_status read_real(reader *r, const char *key, const float *otherwise, float *out,
                           nb_error *err)
{
    if (!find(r, key) && otherwise) {
        *out = *otherwise;
        return NB_OK;
    }
    return nb_gguf_f32(r->c->gguf, r->name, out, err);
}

static nb_status find_family(const nb_container *c, const nb_family **family, nb_error *err)
{
    nb_str arch;
    nb_status st = nb_gguf_string(c->gguf, "general.architecture", &arch, err);
    if (st == NB_OK)
        st = check_arch_name(c, arch, err);
    if (st != NB_OK)
        return st;
    for (const nb_family *const *f = nb_families; *f && !*family; f++) {
        reader r = {.c = c, .f = *f};
        if (strlen((*f)->gguf_name) != arch.n || memcmp((*f)->gguf_name, arch.p, arch.n) != 0)
            continue;
        int32_t n_expert = 0;
        const int32_t none = 0;
        st = read_int(&r, "expert_count", &none, &n_expert, err);
        if (st != NB_OK)
            return st;
        if ((*f)->mixture == (n_expert > 0))
            *family = *f;
    }
    return *family ? NB_OK : nb_hparams_unknown(c, arch.p, arch.n, err);
}

/* rope_freqs.weight divides the frequencies one by one (how GGUF carries the llama3 rule). */
static nb_status divide_by_tensor(const nb_container *c, int n, float *freq, nb_error *err)
{
    float factor[NB_MAX_ROPE_DIM / 2];
    const nb_tensor *t = nb_container_find(c, "rope_freqs.weight");
    if (!t)
        return NB_OK;
    if (t->n_dim != 1 || t->shape[0] != n || !t->dtype->decode || t->dtype->block != 1)
        return nb_fail_at(err, NB_BAD_INPUT, nb_container_file(c, t), (int64_t)t->offset,
                          "rope_freqs.weight must hold %d numbers", n);
    nb_dtype_decode_row(t->dtype, t->data, factor, n);
    for (int i = 0; i < n; i++) {
        if (!(factor[i] > 0.0f))
            return nb_fail_at(err, NB_BAD_INPUT, nb_container_file(c, t), (int64_t)t->offset,
                              "rope_freqs.weight holds %g", (double)factor[i]);
        freq[i] /= factor[i];
    }
    return NB_OK;
}

static nb_status read_rope(reader *r, nb_hparams *hp, nb_error *err)
{
    const nb_container *c = r->c;
    const int n = hp->rope_dim / 2;
    const float usual = 10000.0f;
    float theta = 0.0f, local = 0.0f, factor = 1.0f;
    nb_status st = read_real(r, "rope.freq_base", &usual, &theta, err);
    if (st == NB_OK)
        st = read_real(r, "rope.freq_base_swa",
                       r->f->local_theta > 0.0f ? &r->f->local_theta : &theta, &local, err);
    if (st == NB_OK)
        st = nb_rope_plain(c, (double)theta, n, hp->inv_freq, err);
    if (st == NB_OK)
        st = divide_by_tensor(c, n, hp->inv_freq, err);
    if (st != NB_OK)
        return st;
    if (nb_container_find(c, "rope_factors_long.weight"))
        return nb_fail_at(
            err, NB_UNSUPPORTED, c->path, -1,
            "rope scaling \"longrope\" (rope_factors_long.weight), known: none, linear, llama3");
    bool scaled = find(r, "rope.scaling.type") != NULL;
    if (scaled) {
        nb_str type;
        st = nb_gguf_string(c->gguf, r->name, &type, err);
        if (st != NB_OK)
            return st;
        scaled = type.n == 6 && memcmp(type.p, "linear", 6) == 0;
        char shown[160];
        if (!scaled && !(type.n == 4 && memcmp(type.p, "none", 4) == 0))
            return nb_fail_at(err, NB_UNSUPPORTED, c->path, -1,
                              "rope scaling \"%s\", known: none, linear",
                              nb_escape(shown, (int64_t)sizeof shown, type.p, (int64_t)type.n));
    }
    if (scaled)
        st = read_real(r, "rope.scaling.factor", NULL, &factor, err);
    else if (find(r, "rope.scale_linear")) /* its name in the first files */
        st = nb_gguf_f32(c->gguf, r->name, &factor, err);
    if (st == NB_OK)
        st = nb_rope_linear(c, (double)factor, n, hp->inv_freq, err);
    if (st != NB_OK)
        return st;
    hp->rope = (nb_rope){.theta = (double)theta,
                         .local_theta = (double)local,
                         .factor = (double)factor,
                         .rule = nb_container_find(c, "rope_freqs.weight") ? NB_ROPE_DIVIDED
                                 : factor != 1.0f                          ? NB_ROPE_LINEAR
                                                                           : NB_ROPE_PLAIN};
    if (r->f->local_theta > 0.0f || local != theta)
        return nb_rope_plain(c, (double)local, n, hp->inv_freq_local, err); /* not scaled */
    memcpy(hp->inv_freq_local, hp->inv_freq, sizeof hp->inv_freq);
    return NB_OK;
}

static nb_status read_window(reader *r, nb_hparams *hp, nb_error *err)
{
    const int32_t none = 0, usual = r->f->window_pattern;
    int32_t pattern = 0;
    nb_status st = read_int(r, "attention.sliding_window", &none, &hp->window, err);
    if (st == NB_OK)
        st = read_int(r, "attention.sliding_window_pattern", &usual, &pattern, err);
    for (int l = 0; l < NB_MAX_LAYER && st == NB_OK; l++)
        hp->local[l] = hp->window > 0 && (pattern == 0 || (l + 1) % pattern != 0);
    return st;
}

static nb_status read_scales(reader *r, nb_hparams *hp, nb_error *err)
{
    const nb_family *f = r->f;
    const float one = 1.0f, wide = (float)(1.0 / sqrt((double)hp->hidden_size / hp->n_head)),
                narrow = (float)(1.0 / sqrt((double)hp->head_dim));
    nb_status st =
        read_real(r, "attention.scale", f->gguf_wide_scale_layers == hp->n_layer ? &wide : &narrow,
                  &hp->attn_scale, err);
    if (st == NB_OK)
        st = read_real(r, "attn_logit_softcapping", &f->attn_soft_cap, &hp->attn_soft_cap, err);
    if (st == NB_OK)
        st = read_real(r, "final_logit_softcapping", &f->logit_soft_cap, &hp->logit_soft_cap, err);
    if (f->embed_by_width)
        hp->embed_scale = sqrtf((float)hp->hidden_size);
    if (!f->multipliers)
        return st;
    if (st == NB_OK)
        st = read_real(r, "embedding_scale", &one, &hp->embed_scale, err);
    if (st == NB_OK)
        st = read_real(r, "residual_scale", &one, &hp->residual_scale, err);
    if (st == NB_OK)
        st = read_real(r, "logit_scale", &one, &hp->logit_divisor, err);
    return st;
}

static nb_status read_experts(reader *r, nb_hparams *hp, nb_error *err)
{
    nb_status st = read_int(r, "expert_count", NULL, &hp->n_expert, err);
    if (st == NB_OK)
        st = read_int(r, "expert_used_count", NULL, &hp->n_expert_used, err);
    if (st == NB_OK)
        st = read_int(r, "expert_feed_forward_length", &hp->intermediate_size,
                      &hp->intermediate_size, err);
    if (st == NB_OK && find(r, "expert_weights_norm"))
        st = nb_gguf_bool(r->c->gguf, r->name, &hp->expert_renormalize, err);
    return st;
}

nb_status nb_hparams_gguf(const nb_container *c, const nb_family **family, nb_hparams *hp,
                          nb_error *err)
{
    nb_status st = find_family(c, family, err);
    if (st != NB_OK)
        return st;
    reader r = {.c = c, .f = *family};
    const nb_gguf_kv *tokens = nb_gguf_find(c->gguf, "tokenizer.ggml.tokens");
    const nb_tensor *embed = nb_container_find(c, "token_embd.weight");
    const int64_t vocab = embed && embed->n_dim == 2 ? embed->shape[0]
                          : tokens && tokens->type == NB_GGUF_ARRAY && tokens->count < INT32_MAX
                              ? (int64_t)tokens->count
                              : 0;
    const struct {
        const char *key;
        int32_t *to;
    } sizes[] = {{"embedding_length", &hp->hidden_size},
                 {"block_count", &hp->n_layer},
                 {"context_length", &hp->ctx_len},
                 {"feed_forward_length", &hp->intermediate_size},
                 {"attention.head_count", &hp->n_head}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes && st == NB_OK; i++)
        st = read_int(&r, sizes[i].key, NULL, sizes[i].to, err);
    if (st == NB_OK)
        st = read_int(&r, "attention.head_count_kv", &hp->n_head, &hp->n_kv_head, err);
    if (st == NB_OK && hp->n_head < 1)
        st = nb_fail_at(err, NB_BAD_INPUT, c->path, -1, "%s.attention.head_count is 0",
                        r.f->gguf_name);
    const int32_t head_dim = hp->n_head > 0 ? hp->hidden_size / hp->n_head : 0;
    if (st == NB_OK)
        st = read_int(&r, "attention.key_length", &head_dim, &hp->head_dim, err);
    if (st == NB_OK)
        st = read_int(&r, "rope.dimension_count", &hp->head_dim, &hp->rope_dim, err);
    if (st == NB_OK)
        st = read_real(&r, "attention.layer_norm_rms_epsilon", NULL, &hp->norm_eps, err);
    if (st == NB_OK && r.f->mixture)
        st = read_experts(&r, hp, err);
    if (st == NB_OK)
        st = read_window(&r, hp, err);
    for (int l = 0; l < NB_MAX_LAYER; l++)
        hp->unrotated[l] = r.f->unrotated_every && (l + 1) % r.f->unrotated_every == 0;
    if (st == NB_OK && tokens && tokens->type == NB_GGUF_ARRAY && embed &&
        (int64_t)tokens->count > vocab)
        st = nb_fail_at(err, NB_BAD_INPUT, c->path, tokens->offset,
                        "the vocabulary has %llu tokens, the embedding %lld rows",
                        (unsigned long long)tokens->count, (long long)vocab);
    hp->vocab_size = (int32_t)(vocab > INT32_MAX ? INT32_MAX : vocab);
    hp->rows_paired = r.f->gguf_rope_interleaved;
    if (st == NB_OK)
        st = read_scales(&r, hp, err);
    if (st == NB_OK)
        st = nb_hparams_check(c, hp, err);
    return st == NB_OK ? read_rope(&r, hp, err) : st;
}
