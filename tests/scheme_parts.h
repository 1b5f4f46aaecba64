/* scheme_parts.h -- a quantized linear and its tensors in memory, for tests of schemes. */
#ifndef NB_TESTS_SCHEME_PARTS_H
#define NB_TESTS_SCHEME_PARTS_H

#include "check.h"
#include "scheme/scheme.h"

typedef struct parts {
    nb_scheme_spec spec;
    int64_t N, K, G;
    uint8_t *codes;   /* [N,K] */
    nb_group *groups; /* [N,G] */
    int32_t *g_idx;   /* [K] */
    int n;
    nb_scheme_tensor want[NB_SCHEME_TENSORS];
    nb_tensor tensor[NB_SCHEME_TENSORS]; /* data: bytes[i] */
    uint8_t *bytes[NB_SCHEME_TENSORS];
} parts;

static inline size_t parts_bytes(const nb_scheme_tensor *t)
{
    return (size_t)t->shape[0] * (size_t)(t->n_dim > 1 ? t->shape[1] : 1) * (size_t)t->dtype->bytes;
}

static inline parts parts_new(nb_scheme_spec spec, int64_t N, int64_t K)
{
    parts p = {.spec = spec, .N = N, .K = K, .G = nb_scheme_groups(&spec, K)};
    p.codes = calloc((size_t)(N * K), 1);
    p.groups = calloc((size_t)(N * p.G), sizeof *p.groups);
    p.g_idx = calloc((size_t)K, sizeof *p.g_idx);
    p.n = spec.scheme->tensors(&spec, N, K, p.want);
    for (int i = 0; i < p.n; i++) {
        const nb_scheme_tensor *w = &p.want[i];
        p.bytes[i] = calloc(parts_bytes(w) ? parts_bytes(w) : 1, 1);
        p.tensor[i] =
            (nb_tensor){.name = w->suffix,
                        .dtype = w->dtype,
                        .n_dim = w->n_dim,
                        .shape = {w->shape[0], w->n_dim > 1 ? w->shape[1] : 1, 1, 1, 1, 1, 1, 1},
                        .data = p.bytes[i],
                        .bytes = parts_bytes(w)};
    }
    return p;
}

static inline void parts_free(parts *p)
{
    for (int i = 0; i < p->n; i++)
        free(p->bytes[i]);
    free(p->codes);
    free(p->groups);
    free(p->g_idx);
}

static inline nb_matrix parts_matrix(const parts *p, bool ordered)
{
    return (nb_matrix){.N = p->N,
                       .K = p->K,
                       .codes = p->codes,
                       .groups = p->groups,
                       .bits = p->spec.bits,
                       .group = p->spec.group,
                       .g_idx = ordered ? p->g_idx : NULL};
}

static inline nb_status parts_pack(const parts *p, bool ordered, nb_error *err)
{
    const nb_matrix m = parts_matrix(p, ordered);
    return p->spec.scheme->pack(&p->spec, "a.linear", &m, p->bytes, 2, err);
}

/* Of the tensors that a writer writes. */
static inline nb_status parts_unpack(parts *p, bool *act_order, nb_error *err)
{
    const nb_tensor *part[NB_SCHEME_TENSORS] = {NULL};
    for (int i = 0; i < p->n; i++)
        part[i] = p->want[i].written && p->tensor[i].data ? &p->tensor[i] : NULL;
    return p->spec.scheme->unpack(&p->spec, "a.file", "a.linear", p->N, p->K, part, p->codes,
                                  p->groups, p->g_idx, act_order, 2, err);
}

#endif
