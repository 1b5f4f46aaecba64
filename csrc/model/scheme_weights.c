/* scheme_weights.c -- linears that a scheme packed (scheme/scheme.h): what the config says of them,
 * which tensors they are, and their codes.
 *
 * A module NAME is quantized where NAME.qweight (or what the scheme calls it) is there instead of
 * NAME.weight: the tensors decide. A config that leaves a packed module out, or two configs that
 * differ, are refused. Unpacking takes N K bytes, N G x 12 and K x 4, which live until the device
 * has packed the matrix in its own way. */
#include "base/memory.h"
#include "model/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kName = NB_TENSOR_NAME + 64 };

/* ---- what the config says ---- */

nb_status nb_scheme_read(const nb_container *c, nb_scheme_spec *out, nb_error *err)
{
    nb_scheme_spec beside = {0};
    *out = (nb_scheme_spec){0};
    if (c->kind != NB_CONTAINER_HF)
        return NB_OK;
    nb_status st = nb_scheme_detect(
        c->path, c->config ? nb_json_get(nb_json_root(c->config), "quantization_config") : NULL,
        out, err);
    if (st == NB_OK && c->quantize_config)
        st = nb_scheme_detect(c->path, nb_json_root(c->quantize_config), &beside, err);
    if (st != NB_OK || !beside.scheme)
        return st;
    if (out->scheme && (out->scheme != beside.scheme || out->bits != beside.bits ||
                        out->group != beside.group || out->sym != beside.sym))
        return nb_fail_at(err, NB_BAD_INPUT, c->path, -1,
                          "config.json says %s of %d bits in groups of %d%s, the quantization "
                          "config beside it %s of %d bits in "
                          "groups of %d%s",
                          out->scheme->name, out->bits, out->group, out->sym ? ", symmetric" : "",
                          beside.scheme->name, beside.bits, beside.group,
                          beside.sym ? ", symmetric" : "");
    if (!out->scheme)
        *out = beside;
    return NB_OK;
}

/* ---- tensors ---- */

/* A linear and its parts. */
typedef struct packed {
    nb_scheme_spec spec;
    char name[kName]; /* of the module */
    nb_place at;
    nb_scheme_tensor want[NB_SCHEME_TENSORS];
    const nb_tensor *part[NB_SCHEME_TENSORS];
} packed;

static const char *suffix_of(const nb_tensor *t)
{
    const char *dot = strrchr(t->name, '.');
    return dot ? dot + 1 : t->name;
}

static bool is_codes(const nb_tensor *t)
{
    if (strcmp(suffix_of(t), "weight") == 0) /* bytes are codes, floats are none */
        return t->dtype->st_name &&
               (strcmp(t->dtype->st_name, "I8") == 0 || strcmp(t->dtype->st_name, "U8") == 0);
    for (const nb_scheme *const *s = nb_schemes; *s; s++)
        if (strcmp(suffix_of(t), (*s)->weight) == 0)
            return true;
    return false;
}

bool nb_tensor_is_packed(const nb_container *c, const nb_tensor *t)
{
    return c->kind == NB_CONTAINER_HF && is_codes(t);
}

static const nb_tensor *beside(const nb_container *c, const char *module, const char *suffix)
{
    char name[kName + 32];
    snprintf(name, sizeof name, "%s.%s", module, suffix);
    return nb_container_find(c, name);
}

/* The module of the slot's tensor, its spec and its parts. */
static nb_status find_packed(const nb_model *m, nb_slot at, packed *p, nb_error *err)
{
    char name[NB_TENSOR_NAME];
    const nb_container *c = m->container;
    bool quantized = false;
    *p = (packed){.at = nb_family_place(m->family, &m->hp, c, at, name)};
    const nb_tensor *t = p->at.t;
    if (!t || !is_codes(t))
        return nb_fail_at(err, NB_INTERNAL, c->path, -1, "tensor %s went unchecked", name);
    const int n = (int)(suffix_of(t) - t->name) - 1;
    if (n < 1 || n >= kName)
        return nb_fail_at(err, NB_BAD_INPUT, c->path, (int64_t)t->offset,
                          "tensor %.128s has no module", t->name);
    snprintf(p->name, sizeof p->name, "%.*s", n, t->name);
    if (!m->scheme.scheme)
        return nb_fail_at(err, NB_BAD_INPUT, nb_container_file(c, t), (int64_t)t->offset,
                          "tensor %.128s is packed, but no config says how", t->name);
    nb_status st = nb_scheme_module(&m->scheme, c->path, p->name, &quantized, &p->spec, err);
    p->spec.allow_nonfinite = m->scheme.allow_nonfinite;
    if (st == NB_OK && !quantized)
        st = nb_fail_at(err, NB_BAD_INPUT, nb_container_file(c, t), (int64_t)t->offset,
                        "tensor %.128s is packed, but the config leaves its module out", t->name);
    if (st == NB_OK && (p->at.stacked || !p->at.N))
        st = nb_fail_at(err, NB_UNSUPPORTED, nb_container_file(c, t), (int64_t)t->offset,
                        "tensor %.128s: packed experts in one tensor are not read", t->name);
    if (st != NB_OK)
        return st;
    const int n_part = p->spec.scheme->tensors(&p->spec, p->at.all_rows, p->at.K, p->want);
    for (int i = 0; i < n_part; i++)
        p->part[i] = beside(c, p->name, p->want[i].suffix);
    if (p->part[0] != t) /* another scheme's name for it */
        return nb_fail_at(err, NB_BAD_INPUT, nb_container_file(c, t), (int64_t)t->offset,
                          "tensor %.128s is not how %s packs its linears", t->name,
                          p->spec.scheme->name);
    return NB_OK;
}

nb_status nb_model_check_packed(const nb_model *m, nb_slot at, nb_error *err)
{
    char name[NB_TENSOR_NAME];
    packed p;
    const nb_container *c = m->container;
    const nb_tensor *t = nb_family_tensor(m->family, c, at, name);
    if (t && !is_codes(t)) { /* plain: then not packed as well */
        char module[kName];
        snprintf(module, sizeof module, "%.*s", (int)(suffix_of(t) - t->name) - 1, t->name);
        for (const nb_scheme *const *s = nb_schemes; *s; s++)
            if (strcmp(suffix_of(t), "weight") == 0 && strcmp((*s)->weight, "weight") != 0 &&
                beside(c, module, (*s)->weight))
                return nb_fail_at(err, NB_BAD_INPUT, nb_container_file(c, t), (int64_t)t->offset,
                                  "tensor %.128s is there plain and packed (%s)", t->name,
                                  (*s)->weight);
        return NB_OK;
    }
    nb_status st = find_packed(m, at, &p, err);
    return st == NB_OK ? nb_scheme_check_parts(&p.spec, nb_container_file(c, t), p.name,
                                               p.at.all_rows, p.at.K, p.part, err)
                       : st;
}

nb_status nb_model_unpack(const nb_model *m, nb_slot at, nb_matrix *out, void **made, nb_error *err)
{
    packed p;
    bool act_order = false;
    *made = NULL;
    nb_status st = find_packed(m, at, &p, err);
    if (st != NB_OK)
        return st;
    const int64_t N = p.at.all_rows, K = p.at.K, G = nb_scheme_groups(&p.spec, K);
    const size_t groups = (size_t)(N * G) * sizeof(nb_group), level = NB_TABLE_MOST * sizeof(float),
                 index = (size_t)K * sizeof(int32_t);
    uint8_t *room = nb_alloc_aligned(1, groups + level + index + (size_t)(N * K), p.name, err);
    if (!room)
        return NB_NO_ROOM;
    *made = room;
    nb_group *g = (nb_group *)(void *)room;
    float *table = (float *)(void *)(room + groups);
    int32_t *g_idx = (int32_t *)(void *)(room + groups + level);
    uint8_t *codes = room + groups + level + index;
    st = p.spec.scheme->unpack(&p.spec, nb_container_file(m->container, p.part[0]), p.name, N, K,
                               p.part, codes, g, g_idx, &act_order, m->be ? m->be->n_thread : 1,
                               err);
    if (st == NB_OK && p.spec.scheme->levels)
        st = p.spec.scheme->levels(&p.spec, nb_container_file(m->container, p.part[0]), p.name,
                                   p.part, table, err);
    *out = (nb_matrix){.N = p.at.N,
                       .K = K,
                       .table = p.spec.scheme->levels ? table : NULL,
                       .codes = codes + p.at.row * K,
                       .groups = g + p.at.row * G,
                       .bits = p.spec.bits,
                       .group = p.spec.group,
                       .g_idx = act_order ? g_idx : NULL};
    return st;
}

bool nb_tensor_is_part(const nb_model *m, const nb_tensor *t)
{
    return m->scheme.scheme && !is_codes(t) &&
           nb_tensor_n_weight(m->container, &m->scheme, t) == 0 && t->bytes;
}

/* ---- counting ---- */

int64_t nb_tensor_n_weight(const nb_container *c, const nb_scheme_spec *s, const nb_tensor *t)
{
    nb_scheme_tensor part[NB_SCHEME_TENSORS];
    nb_scheme_spec own = {0};
    char module[kName];
    bool quantized = false;
    int64_t n = 1;
    for (int d = 0; d < t->n_dim; d++)
        n *= t->shape[d];
    const int n_part = s->scheme ? s->scheme->tensors(s, 1, 1, part) : 0;
    const size_t len = strlen(t->name);
    for (int i = 0; i < n_part; i++) {
        /* with its dot; a suffix may have dots itself */
        const size_t tail = strlen(part[i].suffix) + 1;
        if (len <= tail || len - tail >= kName || t->name[len - tail] != '.' ||
            strcmp(t->name + len - tail + 1, part[i].suffix) != 0 || (i == 0 && !is_codes(t)))
            continue;
        snprintf(module, sizeof module, "%.*s", (int)(len - tail), t->name);
        if (nb_scheme_module(s, c->path, module, &quantized, &own, NULL) != NB_OK || !quantized)
            return n;
        const int per = 8 * part[0].dtype->bytes / own.bits; /* codes an element */
        return i > 0                            ? 0
               : n <= INT64_MAX / 32 && per > 1 ? n * 8 * part[0].dtype->bytes / own.bits
                                                : n;
    }
    return n;
}
