/* family.c -- the table of families; names and shapes of their tensors. */
#include "model/family.h"

#include <stdio.h>

extern const nb_family nb_family_llama;

const nb_family *const nb_families[] = {
    &nb_family_llama,
    NULL,
};

const nb_tensor *nb_family_tensor(const nb_family *f, const nb_container *c, nb_role role, int layer,
                                  char name[128])
{
    name[0] = 0;
    for (const nb_role_name *r = f->roles; r->gguf; r++) {
        if (r->role != role)
            continue;
        const char *pattern = c->kind == NB_CONTAINER_GGUF ? r->gguf : r->hf;
        int n = 0;
        for (const char *p = pattern; *p && n < 120; p++) {
            if (p[0] == '%' && p[1] == 'd') {
                n += snprintf(name + n, (size_t)(128 - n), "%d", layer);
                p++;
            } else
                name[n++] = *p;
        }
        name[n] = 0;
        return nb_container_find(c, name);
    }
    return NULL;
}

void nb_family_shape(const nb_hparams *hp, nb_role role, int64_t *N, int64_t *K)
{
    const int64_t q = (int64_t)hp->n_head * hp->head_dim, kv = (int64_t)hp->n_kv_head * hp->head_dim;
    const int64_t d = hp->hidden_size, f = hp->intermediate_size, v = hp->vocab_size;
    const struct {
        int64_t N, K;
    } shape[NB_ROLE_COUNT] = {
        [NB_ROLE_EMBED] = {v, d},     [NB_ROLE_OUTPUT_NORM] = {0, d}, [NB_ROLE_OUTPUT] = {v, d},
        [NB_ROLE_ATTN_NORM] = {0, d}, [NB_ROLE_ATTN_Q] = {q, d},      [NB_ROLE_ATTN_K] = {kv, d},
        [NB_ROLE_ATTN_V] = {kv, d},   [NB_ROLE_ATTN_O] = {d, q},      [NB_ROLE_FFN_NORM] = {0, d},
        [NB_ROLE_FFN_GATE] = {f, d},  [NB_ROLE_FFN_UP] = {f, d},      [NB_ROLE_FFN_DOWN] = {d, f},
    };
    *N = shape[role].N;
    *K = shape[role].K;
}
