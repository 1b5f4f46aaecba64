/* gguf_meta.c -- numbers of a model as GGUF keys (GGUF specification; names and meaning as
 * llama.cpp reads them).
 *
 * A row is a key, its type and where the number is; it is written when its condition holds. What a
 * reader assumes where a key is absent is what our own reader assumes (hparams_gguf.c): the
 * conditions are its defaults. */
#include "convert/gguf_meta.h"
#include "convert/tokenizer_out.h"
#include "file/hub.h"
#include "file/parts.h"

#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint32_t nb_gguf_file_type(const nb_dtype *t)
{
    if (t->file_type || t->ggml_id == 0) /* F32 is 0 in both */
        return (uint32_t)t->file_type;
    return 1024; /* none of its own: "guessed" */
}

typedef struct source {
    const nb_model *m;
    const nb_hparams *hp;
    const nb_family *reader;    /* the row that a reader of the file finds */
    const nb_json_node *config; /* config.json, or the part of it about the text */
} source;

/* ---- values that are no field ---- */

static const nb_json_node *config_of(const nb_model *m)
{
    const nb_json_node *root = nb_json_root(m->container->config);
    const nb_json_node *text = m->family->hf_nested ? nb_json_get(root, "text_config") : NULL;
    return text ? text : root;
}

/* Mistral calls itself "llama": the first row of the name and kind is whose defaults hold. */
static const nb_family *reader_of(const nb_family *f)
{
    for (const nb_family *const *r = nb_families; *r; r++)
        if (strcmp((*r)->gguf_name, f->gguf_name) == 0 && (*r)->mixture == f->mixture)
            return *r;
    return f;
}

static int64_t config_int(const source *s, const char *key, int64_t otherwise)
{
    int64_t v = otherwise;
    (void)nb_json_int(nb_json_get(s->config, key), &v);
    return v;
}

/* Of the feed-forward where there is no mixture; files of mixtures have it as well. */
static double dense_length(const source *s)
{
    return (double)config_int(s, "intermediate_size", s->hp->intermediate_size);
}

static double original_context(const source *s)
{
    return (double)config_int(s, "original_max_position_embeddings", 0);
}

static bool has_window(const source *s)
{
    bool any = false;
    for (int l = 0; l < s->hp->n_layer; l++)
        any = any || s->hp->local[l];
    return any && s->hp->window > 0;
}

static bool follows(const nb_hparams *hp, int pattern)
{
    for (int l = 0; l < hp->n_layer; l++)
        if (hp->local[l] != (pattern == 0 || (l + 1) % pattern != 0))
            return false;
    return true;
}

/* n: every n-th layer sees everything; 0: none does; -1: no such n. */
static int pattern_of(const source *s)
{
    if (follows(s->hp, s->reader->window_pattern))
        return s->reader->window_pattern;
    for (int n = 0; n <= s->hp->n_layer + 1; n++)
        if (follows(s->hp, n))
            return n;
    return -1;
}

static double window_pattern(const source *s)
{
    return (double)pattern_of(s);
}

/* ---- when a key is written ---- */

static bool own_head_dim(const source *s)
{
    return s->hp->head_dim != s->hp->hidden_size / s->hp->n_head;
}

static bool is_mixture(const source *s)
{
    return s->hp->n_expert > 0;
}

static bool no_renormalizing(const source *s)
{
    return is_mixture(s) && !s->hp->expert_renormalize;
}

static bool own_pattern(const source *s)
{
    return has_window(s) && pattern_of(s) != s->reader->window_pattern;
}

static bool has_local_theta(const source *s)
{
    return s->reader->local_theta > 0.0f;
}

static bool is_linear(const source *s)
{
    return s->hp->rope.rule == NB_ROPE_LINEAR;
}

static bool has_original_context(const source *s)
{
    return original_context(s) >= 1.0;
}

static bool has_score_cap(const source *s)
{
    return s->hp->attn_soft_cap != s->reader->attn_soft_cap || s->reader->attn_soft_cap > 0.0f;
}

static bool has_logit_cap(const source *s)
{
    return s->hp->logit_soft_cap != s->reader->logit_soft_cap || s->reader->logit_soft_cap > 0.0f;
}

static bool own_score_scale(const source *s)
{
    const nb_hparams *hp = s->hp;
    const double width = s->reader->gguf_wide_scale_layers == hp->n_layer
                             ? (double)hp->hidden_size / hp->n_head
                             : (double)hp->head_dim;
    return s->reader->multipliers || hp->attn_scale != (float)(1.0 / sqrt(width));
}

static bool has_multipliers(const source *s)
{
    return s->reader->multipliers;
}

/* ---- the rows ---- */

typedef struct row {
    const char *key; /* behind ARCHITECTURE. */
    nb_gguf_type type;
    size_t at; /* in nb_hparams: int32_t for U32, float for F32, bool for BOOL */
    double (*value)(const source *s); /* in place of a field */
    bool (*when)(const source *s);    /* NULL: always */
} row;

#define FIELD(name) offsetof(nb_hparams, name)

static double theta(const source *s)
{
    return s->hp->rope.theta;
}

static double local_theta(const source *s)
{
    return s->hp->rope.local_theta;
}

static double linear_factor(const source *s)
{
    return s->hp->rope.factor;
}

static const row rows[] = {
    {"vocab_size", NB_GGUF_U32, FIELD(vocab_size), NULL, NULL},
    {"context_length", NB_GGUF_U32, FIELD(ctx_len), NULL, NULL},
    {"embedding_length", NB_GGUF_U32, FIELD(hidden_size), NULL, NULL},
    {"block_count", NB_GGUF_U32, FIELD(n_layer), NULL, NULL},
    {"feed_forward_length", NB_GGUF_U32, 0, dense_length, NULL},
    {"attention.head_count", NB_GGUF_U32, FIELD(n_head), NULL, NULL},
    {"attention.head_count_kv", NB_GGUF_U32, FIELD(n_kv_head), NULL, NULL},
    {"attention.key_length", NB_GGUF_U32, FIELD(head_dim), NULL, own_head_dim},
    {"attention.value_length", NB_GGUF_U32, FIELD(head_dim), NULL, own_head_dim},
    {"attention.layer_norm_rms_epsilon", NB_GGUF_F32, FIELD(norm_eps), NULL, NULL},
    {"attention.sliding_window", NB_GGUF_U32, FIELD(window), NULL, has_window},
    {"attention.sliding_window_pattern", NB_GGUF_U32, 0, window_pattern, own_pattern},
    {"attention.scale", NB_GGUF_F32, FIELD(attn_scale), NULL, own_score_scale},
    {"attn_logit_softcapping", NB_GGUF_F32, FIELD(attn_soft_cap), NULL, has_score_cap},
    {"final_logit_softcapping", NB_GGUF_F32, FIELD(logit_soft_cap), NULL, has_logit_cap},
    {"embedding_scale", NB_GGUF_F32, FIELD(embed_scale), NULL, has_multipliers},
    {"residual_scale", NB_GGUF_F32, FIELD(residual_scale), NULL, has_multipliers},
    {"logit_scale", NB_GGUF_F32, FIELD(logit_divisor), NULL, has_multipliers},
    {"expert_count", NB_GGUF_U32, FIELD(n_expert), NULL, is_mixture},
    {"expert_used_count", NB_GGUF_U32, FIELD(n_expert_used), NULL, is_mixture},
    {"expert_feed_forward_length", NB_GGUF_U32, FIELD(intermediate_size), NULL, is_mixture},
    {"expert_weights_norm", NB_GGUF_BOOL, FIELD(expert_renormalize), NULL, no_renormalizing},
    {"rope.dimension_count", NB_GGUF_U32, FIELD(rope_dim), NULL, NULL},
    {"rope.freq_base", NB_GGUF_F32, 0, theta, NULL},
    {"rope.freq_base_swa", NB_GGUF_F32, 0, local_theta, has_local_theta},
    {"rope.scaling.factor", NB_GGUF_F32, 0, linear_factor, is_linear},
    {"rope.scaling.original_context_length", NB_GGUF_U32, 0, original_context,
     has_original_context},
};

static nb_status put_row(const source *s, const row *r, nb_gguf_writer *w, nb_error *err)
{
    char key[160];
    const char *field = (const char *)s->hp + r->at;
    int32_t i = 0;
    float f = 0.0f;
    bool b = false;
    snprintf(key, sizeof key, "%s.%s", s->m->family->gguf_name, r->key);
    if (r->value)
        f = (float)r->value(s), i = (int32_t)r->value(s);
    else if (r->type == NB_GGUF_U32)
        memcpy(&i, field, sizeof i);
    else if (r->type == NB_GGUF_F32)
        memcpy(&f, field, sizeof f);
    else
        memcpy(&b, field, sizeof b);
    return r->type == NB_GGUF_U32   ? nb_gguf_writer_u32(w, key, (uint32_t)i, err)
           : r->type == NB_GGUF_F32 ? nb_gguf_writer_f32(w, key, f, err)
                                    : nb_gguf_writer_bool(w, key, b, err);
}

/* The last part of the first n bytes of a path: where it begins. */
static size_t last_part(const char *path, size_t n)
{
    while (n > 0 && path[n - 1] != '/')
        n--;
    return n;
}

/* The folder's own name, which is how people call the model, whatever way led to it; of the hub's
 * cache, .../models--ORG--NAME/snapshots/COMMIT, NAME. */
static nb_status name_of(const nb_container *c, char name[NB_HUB_NAME], nb_error *err)
{
    static const char models[] = "models--";
    char path[PATH_MAX];
    if (!realpath(*c->where ? c->where : ".", path))
        return nb_fail_errno_at(err, c->path, "cannot be found");
    /* its folder is the model */
    if (nb_ends_with(path, ".json") || nb_ends_with(path, ".safetensors"))
        path[last_part(path, strlen(path)) ? last_part(path, strlen(path)) - 1 : 0] = 0;
    size_t end = strlen(path), start = last_part(path, end);
    const size_t above = start ? last_part(path, start - 1) : 0,
                 repo = above ? last_part(path, above - 1) : 0;
    const char *dashes = repo ? strstr(path + repo + sizeof models - 1, "--") : NULL;
    const bool cached = dashes && strncmp(path + above, "snapshots/", 10) == 0 &&
                        strncmp(path + repo, models, sizeof models - 1) == 0;
    if (cached && dashes < path + above) {
        start = (size_t)(dashes - path) + 2;
        end = above - 1;
    }
    snprintf(name, NB_HUB_NAME, "%.*s", (int)(end - start), path + start);
    return NB_OK;
}

static nb_status put_tokenizer(const nb_model *m, nb_gguf_writer *w, nb_error *err)
{
    return m->tokenizer ? nb_tokenizer_to_gguf(m->container, w, err)
                        : nb_gguf_writer_string(w, "tokenizer.ggml.model", "none", 4, err);
}

static nb_status from_folder(const nb_model *m, uint32_t file_type, nb_gguf_writer *w,
                             nb_error *err)
{
    const source s = {.m = m, .hp = &m->hp, .reader = reader_of(m->family), .config = config_of(m)};
    const char *arch = m->family->gguf_name;
    char name[NB_HUB_NAME];
    if (has_window(&s) && pattern_of(&s) < 0)
        return nb_fail_at(err, NB_UNSUPPORTED, m->container->path, -1,
                          "which of its layers attend within the window follows no pattern that "
                          "GGUF has a key for");
    nb_status st = name_of(m->container, name, err);
    if (st == NB_OK)
        st = nb_gguf_writer_string(w, "general.architecture", arch, strlen(arch), err);
    if (st == NB_OK)
        st = nb_gguf_writer_string(w, "general.name", name, strlen(name), err);
    for (size_t i = 0; i < sizeof rows / sizeof *rows && st == NB_OK; i++)
        if (!rows[i].when || rows[i].when(&s))
            st = put_row(&s, &rows[i], w, err);
    if (st == NB_OK && is_linear(&s)) {
        char key[160];
        snprintf(key, sizeof key, "%s.rope.scaling.type", arch);
        st = nb_gguf_writer_string(w, key, "linear", 6, err);
    }
    if (st == NB_OK)
        st = nb_gguf_writer_u32(w, "general.file_type", file_type, err);
    if (st == NB_OK)
        st = nb_gguf_writer_u32(w, "general.quantization_version", 2, err);
    return st == NB_OK ? put_tokenizer(m, w, err) : st;
}

/* ---- a GGUF file's keys ---- */

static bool key_is(const nb_gguf_kv *kv, const char *key)
{
    return kv->key.n == strlen(key) && memcmp(kv->key.p, key, kv->key.n) == 0;
}

/* In the file's own order. What it says of its formats is said anew, in the same place. */
static nb_status from_gguf(const nb_gguf *g, uint32_t file_type, nb_gguf_writer *w, nb_error *err)
{
    const struct {
        const char *key;
        uint32_t value;
    } own[] = {{"general.file_type", file_type}, {"general.quantization_version", 2}};
    enum { kOwn = sizeof own / sizeof *own };
    bool said[kOwn] = {false};
    nb_status st = NB_OK;
    for (int64_t i = 0; i < g->n_kv && st == NB_OK; i++) {
        const nb_gguf_kv *kv = &g->kv[i];
        int k = 0;
        while (k < kOwn && !key_is(kv, own[k].key))
            k++;
        if (k < kOwn) {
            said[k] = true;
            st = nb_gguf_writer_u32(w, own[k].key, own[k].value, err);
        } else if (!key_is(kv, "general.alignment") &&
                   !(kv->key.n > 6 &&
                     memcmp(kv->key.p, "split.", 6) == 0)) /* all parts become one file */
            st = nb_gguf_writer_copy(w, kv, err);
    }
    for (int k = 0; k < kOwn && st == NB_OK; k++)
        if (!said[k])
            st = nb_gguf_writer_u32(w, own[k].key, own[k].value, err);
    return st;
}

nb_status nb_gguf_meta(const nb_model *m, uint32_t file_type, nb_gguf_writer *w, nb_error *err)
{
    return m->container->gguf ? from_gguf(m->container->gguf, file_type, w, err)
                              : from_folder(m, file_type, w, err);
}

/* ---- rope_freqs.weight ---- */

void nb_gguf_rope_factors(const nb_hparams *hp, float *factor)
{
    const int n = hp->rope_dim / 2;
    for (int i = 0; i < n; i++) {
        const float plain = (float)pow(hp->rope.theta, -(double)i / n), want = hp->inv_freq[i];
        const float near = (float)((double)plain / (double)want);
        factor[i] = near;
        /* a reader divides in f32: the neighbour that gives the same bits */
        for (int step = -2; step <= 2 && plain / factor[i] != want; step++) {
            float f = near;
            for (int k = 0; k < (step < 0 ? -step : step); k++)
                f = nextafterf(f, step < 0 ? 0.0f : INFINITY);
            if (plain / f == want)
                factor[i] = f;
        }
    }
}
