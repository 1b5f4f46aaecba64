/* family.c -- the table of families; names, shapes and places of their tensors. */
#include "model/family.h"
#include "scheme/scheme.h"

#include <stdio.h>
#include <string.h>

extern const nb_family nb_family_llama, nb_family_mistral, nb_family_qwen2, nb_family_qwen3,
    nb_family_gemma2, nb_family_gemma3, nb_family_phi3, nb_family_granite, nb_family_smollm3,
    nb_family_mixtral, nb_family_qwen3_moe;

const nb_family *const nb_families[] = {
    &nb_family_llama,   &nb_family_mistral, &nb_family_qwen2,     &nb_family_qwen3,
    &nb_family_gemma2,  &nb_family_gemma3,  &nb_family_phi3,      &nb_family_granite,
    &nb_family_smollm3, &nb_family_mixtral, &nb_family_qwen3_moe, NULL,
};

const nb_role_name *nb_family_role(const nb_family *f, nb_role role)
{
    for (const nb_role_name *r = f->roles; r && r->gguf; r++)
        if (r->role == role)
            return r;
    for (const nb_role_name *r = nb_llama_roles; r->gguf; r++)
        if (r->role == role)
            return r;
    return NULL;
}

static const char *pattern_of(const nb_role_name *r, nb_container_kind kind)
{
    return kind == NB_CONTAINER_GGUF ? r->gguf : r->hf;
}

bool nb_family_name(const nb_family *f, nb_container_kind kind, nb_slot at,
                    char name[NB_TENSOR_NAME])
{
    const nb_role_name *r = nb_family_role(f, at.role);
    int n = 0, number = at.layer;
    name[0] = 0;
    if (!r)
        return false;
    for (const char *p = pattern_of(r, kind); *p && n < NB_TENSOR_NAME - 12; p++) {
        if (p[0] == '%' && p[1] == 'd') {
            n += snprintf(name + n, (size_t)(NB_TENSOR_NAME - n), "%d", number);
            number = at.expert;
            p++;
        } else
            name[n++] = *p;
    }
    name[n] = 0;
    return true;
}

/* NAME, or of a quantized linear the tensor of its codes: NAME.qweight for NAME.weight. */
static const nb_tensor *find(const nb_container *c, const char *name)
{
    const nb_tensor *t = nb_container_find(c, name);
    const char *dot = strrchr(name, '.');
    char packed[NB_TENSOR_NAME + 48];
    if (c->kind != NB_CONTAINER_HF || !dot || strcmp(dot, ".weight") != 0)
        return t;
    for (const nb_scheme *const *s = nb_schemes; *s && !t; s++) {
        snprintf(packed, sizeof packed, "%.*s.%s", (int)(dot - name), name, (*s)->weight);
        t = nb_container_find(c, packed);
    }
    return t;
}

const nb_tensor *nb_family_tensor(const nb_family *f, const nb_container *c, nb_slot at,
                                  char name[NB_TENSOR_NAME])
{
    if (!nb_family_name(f, c->kind, at, name))
        return NULL;
    const nb_tensor *t = find(c, name);
    if (t || !f->hf_nested || c->kind != NB_CONTAINER_HF)
        return t;
    /* the text part of a larger model: both ways its publishers wrote it */
    char longer[NB_TENSOR_NAME + 24];
    snprintf(longer, sizeof longer, "language_model.%s", name);
    t = find(c, longer);
    if (!t && strncmp(name, "model.", 6) == 0) {
        snprintf(longer, sizeof longer, "model.language_model.%s", name + 6);
        t = find(c, longer);
    }
    return t;
}

void nb_family_shape(const nb_hparams *hp, nb_slot at, int64_t *N, int64_t *K)
{
    const int64_t q = (int64_t)hp->n_head * hp->head_dim,
                  kv = (int64_t)hp->n_kv_head * hp->head_dim;
    const int64_t d = hp->hidden_size, f = hp->intermediate_size, v = hp->vocab_size,
                  h = hp->head_dim;
    const struct {
        int64_t N, K;
    } shape[NB_ROLE_COUNT] = {
        [NB_ROLE_EMBED] = {v, d},
        [NB_ROLE_OUTPUT_NORM] = {0, d},
        [NB_ROLE_OUTPUT] = {v, d},
        [NB_ROLE_ATTN_NORM] = {0, d},
        [NB_ROLE_ATTN_Q] = {q, d},
        [NB_ROLE_ATTN_K] = {kv, d},
        [NB_ROLE_ATTN_V] = {kv, d},
        [NB_ROLE_ATTN_O] = {d, q},
        [NB_ROLE_FFN_NORM] = {0, d},
        [NB_ROLE_FFN_GATE] = {f, d},
        [NB_ROLE_FFN_UP] = {f, d},
        [NB_ROLE_FFN_DOWN] = {d, f},
        [NB_ROLE_ATTN_Q_BIAS] = {0, q},
        [NB_ROLE_ATTN_K_BIAS] = {0, kv},
        [NB_ROLE_ATTN_V_BIAS] = {0, kv},
        [NB_ROLE_ATTN_O_BIAS] = {0, d},
        [NB_ROLE_ATTN_Q_NORM] = {0, h},
        [NB_ROLE_ATTN_K_NORM] = {0, h},
        [NB_ROLE_ATTN_POST_NORM] = {0, d},
        [NB_ROLE_FFN_POST_NORM] = {0, d},
        [NB_ROLE_ROUTER] = {hp->n_expert, d},
    };
    *N = shape[at.role].N;
    *K = shape[at.role].K;
}

static bool experts_named(const char *pattern)
{
    const char *first = strstr(pattern, "%d");
    return first && strstr(first + 2, "%d");
}

bool nb_role_is_norm(nb_role role)
{
    static const bool norm[NB_ROLE_COUNT] = {
        [NB_ROLE_OUTPUT_NORM] = true,  [NB_ROLE_ATTN_NORM] = true,
        [NB_ROLE_FFN_NORM] = true,     [NB_ROLE_ATTN_Q_NORM] = true,
        [NB_ROLE_ATTN_K_NORM] = true,  [NB_ROLE_ATTN_POST_NORM] = true,
        [NB_ROLE_FFN_POST_NORM] = true};
    return norm[role];
}

bool nb_role_stays_f32(nb_role role)
{
    static const bool bias[NB_ROLE_COUNT] = {[NB_ROLE_ATTN_Q_BIAS] = true,
                                             [NB_ROLE_ATTN_K_BIAS] = true,
                                             [NB_ROLE_ATTN_V_BIAS] = true,
                                             [NB_ROLE_ATTN_O_BIAS] = true};
    return nb_role_is_norm(role) || bias[role] || role == NB_ROLE_ROUTER;
}

float nb_family_norm_offset(const nb_family *f, nb_container_kind kind, nb_role role)
{
    return f->hf_norm_minus_one && kind == NB_CONTAINER_HF && nb_role_is_norm(role) ? 1.0f : 0.0f;
}

bool nb_family_pairs_rows(const nb_family *f, nb_role role)
{
    static const bool rotated[NB_ROLE_COUNT] = {[NB_ROLE_ATTN_Q] = true,
                                                [NB_ROLE_ATTN_K] = true,
                                                [NB_ROLE_ATTN_Q_BIAS] = true,
                                                [NB_ROLE_ATTN_K_BIAS] = true};
    return f->gguf_rope_interleaved && rotated[role];
}

int64_t nb_family_packed_row(const nb_family *f, const nb_hparams *hp, nb_role role, int64_t n)
{
    const int64_t j = n % hp->head_dim;
    if (!hp->rows_paired || !nb_family_pairs_rows(f, role) || j >= hp->rope_dim)
        return n;
    return n - j + (j % 2) * (hp->rope_dim / 2) + j / 2;
}

nb_place nb_family_place(const nb_family *f, const nb_hparams *hp, const nb_container *c,
                         nb_slot at, char name[NB_TENSOR_NAME])
{
    nb_place p = nb_family_slice(f, hp, c->kind, at);
    p.t = nb_family_tensor(f, c, at, name);
    return p;
}

nb_place nb_family_slice(const nb_family *f, const nb_hparams *hp, nb_container_kind kind,
                         nb_slot at)
{
    nb_place p = {.t = NULL};
    nb_family_shape(hp, at, &p.N, &p.K);
    p.all_rows = p.N ? p.N : p.K;
    const nb_role_name *own = nb_family_role(f, at.role);
    if (!own)
        return p;
    const char *pattern = pattern_of(own, kind);
    for (int role = 0; role < NB_ROLE_COUNT; role++) { /* slices of one tensor */
        int64_t N, K;
        const nb_role_name *r = nb_family_role(f, (nb_role)role);
        if (!r || r == own || strcmp(pattern_of(r, kind), pattern) != 0)
            continue;
        nb_family_shape(hp, (nb_slot){.role = (nb_role)role}, &N, &K);
        p.all_rows += N ? N : K;
        p.row += role < (int)at.role ? (N ? N : K) : 0;
    }
    const bool of_expert =
        hp->n_expert &&
        (at.role == NB_ROLE_FFN_GATE || at.role == NB_ROLE_FFN_UP || at.role == NB_ROLE_FFN_DOWN);
    if (of_expert && !experts_named(pattern)) {
        p.stacked = true;
        p.row += at.expert * p.all_rows;
        p.all_rows *= hp->n_expert;
    }
    return p;
}
