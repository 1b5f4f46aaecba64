/* convert_packed.c -- codes as they are, from one scheme or number format into another. What the
 * target must be able to hold is known before it is begun: every packed linear of the source is
 * unpacked once and looked at (its zeros, its order of inputs), because words like "sym" and
 * "desc_act" in a config are a promise at best. */
#include "api/convert.h"
#include "convert/folder_sink.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the linears of a checkpoint that are codes have in common. */
typedef struct looks {
    int bits, group;         /* group 0: the row */
    bool sym, ordered;       /* every zero is half the range; some linear has groups by index */
    float least;             /* of all zeros */
    char of[NB_TENSOR_NAME]; /* the first one, "": there is none */
    bool coded[NB_GROUP_COUNT];
} looks;

static nb_status unlike(const nb_model *m, const looks *s, const char *name, int bits, int group,
                        nb_error *err)
{
    return nb_fail_at(err, NB_UNSUPPORTED, m->container->path, -1,
                      "tensor %.100s has %d bits in groups of %d, %.100s %d in groups of %d; in a "
                      "folder all have the same",
                      name, bits, group, s->of, s->bits, s->group);
}

static nb_status look_at(const nb_model *m, const char *name, const nb_matrix *a, looks *s,
                         nb_error *err)
{
    const nb_dtype *t = a->dtype;
    const int bits = t ? t->bits : a->bits, group = t ? t->group : a->group;
    const float half = (float)(1 << (bits - 1));
    if (t && (t->canon != NB_CANON_AFFINE || !t->split || t->has_min || (float)t->zero != half))
        return nb_fail_at(err, NB_UNSUPPORTED, m->container->path, -1,
                          "tensor %.128s is in %s, which are no codes of such a folder; nibble "
                          "quantize rounds them",
                          name, t->name);
    if (a->table)
        return nb_fail_at(err, NB_UNSUPPORTED, m->container->path, -1,
                          "tensor %.128s holds levels of a table, which are no whole numbers; "
                          "nibble quantize rounds them",
                          name);
    if (!s->of[0]) {
        s->bits = bits;
        s->group = group;
        s->least = half;
        snprintf(s->of, sizeof s->of, "%s", name);
    }
    if (bits != s->bits || group != s->group)
        return unlike(m, s, name, bits, group, err);
    s->ordered = s->ordered || (!t && a->g_idx);
    if (t)
        return NB_OK;
    const int64_t n = a->N * (group ? (a->K + group - 1) / group : 1);
    for (int64_t i = 0; i < n; i++) {
        s->sym = s->sym && a->groups[i].zero == half;
        s->least = a->groups[i].zero < s->least ? a->groups[i].zero : s->least;
    }
    return NB_OK;
}

static bool is_codes(const nb_container *c, const nb_tensor *t)
{
    return t && (nb_tensor_is_packed(c, t) || t->dtype->block > 1);
}

/* Calls back for every linear that is codes. */
static nb_status each_coded(const nb_model *m,
                            nb_status (*visit)(void *arg, nb_slot at, nb_group_id g,
                                               const nb_tensor *t, nb_error *err),
                            void *arg, nb_error *err)
{
    nb_status st = NB_OK;
    for (int l = 0; l < m->hp.n_layer && st == NB_OK; l++)
        for (int g = 0; g < NB_GROUP_COUNT && st == NB_OK; g++) {
            nb_role role[3];
            const int n_role = nb_group_roles((nb_group_id)g, role);
            for (int i = 0; i < n_role * nb_model_n_slot(m, role[0]) && st == NB_OK; i++) {
                char name[NB_TENSOR_NAME];
                const nb_slot at = {.role = role[i % n_role], .layer = l, .expert = i / n_role};
                const nb_tensor *t = nb_model_has(m, at)
                                         ? nb_family_tensor(m->family, m->container, at, name)
                                         : NULL;
                if (is_codes(m->container, t))
                    st = visit(arg, at, (nb_group_id)g, t, err);
            }
        }
    return st;
}

typedef struct looking {
    const nb_model *m;
    looks s;
} looking;

static nb_status look_at_slot(void *arg, nb_slot at, nb_group_id g, const nb_tensor *t,
                              nb_error *err)
{
    looking *k = arg;
    nb_matrix a;
    void *made = NULL;
    k->s.coded[g] = true;
    nb_status st = nb_model_matrix(k->m, at, &a, &made, err);
    if (st == NB_OK)
        st = look_at(k->m, t->name, &a, &k->s, err);
    free(made);
    nb_container_release(k->m->container, t);
    return st;
}

static nb_status look(const nb_model *m, looks *s, nb_error *err)
{
    looking k = {.m = m, .s = {.sym = true}};
    const nb_status st = each_coded(m, look_at_slot, &k, err);
    *s = k.s;
    return st;
}

/* ---- folders ---- */

/* Codes stay what they are: the model that they came from can be quantized for the scheme. err says
 * what does not fit. */
static void refuse_shape(const nb_convert_job *j, nb_error *err)
{
    char why[sizeof err->message];
    memcpy(why, err->message, sizeof why);
    (void)nb_fail_at(err, NB_UNSUPPORTED, j->m->container->path, -1,
                     "%.300s; quantize the model that it came from", why);
    nb_hint(err, "nibble quantize ORIGINAL -o OUT --format %s", j->kind->name);
}

static nb_status spec_of(nb_convert_job *j, const looks *s, nb_error *err)
{
    const char *path = j->m->container->path;
    const nb_scheme *scheme = nb_scheme_find(j->kind->name);
    nb_status st = NB_OK;
    if (!s->of[0])
        return nb_fail_at(
            err, NB_UNSUPPORTED, path, -1,
            "its linears are floats, which are no codes of %s; nibble quantize rounds them",
            scheme->name);
    j->spec = (nb_scheme_spec){.scheme = scheme,
                               .bits = s->bits,
                               .group = s->group,
                               .sym = s->sym,
                               .act_order = s->ordered,
                               .variant = scheme->variant};
    if (s->ordered && !scheme->orders) {
        st = nb_fail_at(err, NB_UNSUPPORTED, path, -1,
                        "its inputs have an order (desc_act), which %s has no place for",
                        scheme->name);
        nb_hint(err, "--format gptq_v2");
    } else if (s->least < 1.0f && strcmp(scheme->name, "gptq") == 0) {
        st = nb_fail_at(err, NB_UNSUPPORTED, path, -1,
                        "it has zeros of 0, which loaders of gptq read in three ways");
        nb_hint(err, "--format gptq_v2");
    }
    for (int g = 0; g < NB_GROUP_COUNT && st == NB_OK; g++) {
        st = s->coded[g] ? nb_folder_packs(j->m, &j->spec, (nb_group_id)g, err) : NB_OK;
        if (st == NB_UNSUPPORTED && err)
            refuse_shape(j, err);
    }
    return st;
}

/* What is codes stays codes, what is floats stays floats. */
static bool packs(void *arg, nb_slot at)
{
    char name[NB_TENSOR_NAME];
    const nb_convert_job *j = arg;
    return is_codes(j->m->container, nb_family_tensor(j->m->family, j->m->container, at, name));
}

nb_status nb_convert_open_packed(nb_convert_job *j, nb_error *err)
{
    const nb_container *c = j->m->container;
    char name[NB_TENSOR_NAME];
    looks s;
    if (j->grid)
        return nb_fail(err, NB_USAGE, "--grid %s with --format %s, which takes codes as they are",
                       j->grid->name, j->kind->name);
    nb_status st = look(j->m, &s, err);
    if (st == NB_OK)
        st = spec_of(j, &s, err);
    if (st != NB_OK)
        return st;
    for (int64_t i = 0; i < c->n_tensor; i++) /* an embedding in blocks: its values */
        if (j->type[i]->block > 1)
            j->type[i] = nb_dtype_by_name("f32");
    const nb_tensor *e = nb_family_tensor(j->m->family, c, (nb_slot){.role = NB_ROLE_EMBED}, name);
    const bool bf16 = e && strcmp(nb_convert_type(j, e)->name, "bf16") == 0;
    const nb_folder_sink_spec spec = {.model = j->m,
                                      .out = j->o->out,
                                      .work = nb_workdir_path(j->work),
                                      .once = true,
                                      .choose = nb_convert_type,
                                      .arg = j,
                                      .scheme = &j->spec,
                                      .packs = packs,
                                      .torch_dtype = bf16 ? "bfloat16" : "float16",
                                      .shard_bytes = j->o->max_shard_bytes,
                                      .exact = true,
                                      .n_thread = j->m->be->n_thread};
    return nb_folder_sink_open(&spec, &j->sink, err);
}

/* ---- GGUF ---- */

/* code - zero lies within -half .. half - 1 of the block's codes, or of one with a bit more where
 * zeros differ from group to group. */
static const nb_dtype *block_of(const looks *s)
{
    const int bits = s->sym ? s->bits : s->bits + 1;
    if (!s->of[0] || s->ordered || (s->group && s->group % 32))
        return NULL;
    return nb_dtype_by_name(bits <= 4 ? "q4_0" : bits == 5 ? "q5_0" : bits <= 8 ? "q8_0" : "f32");
}

typedef struct choosing {
    nb_convert_job *j;
    const nb_dtype *t;
} choosing;

static nb_status choose_block(void *arg, nb_slot at, nb_group_id g, const nb_tensor *t,
                              nb_error *err)
{
    const choosing *k = arg;
    int64_t N, K;
    (void)g;
    (void)err;
    nb_family_shape(&k->j->m->hp, at, &N, &K);
    if (K % k->t->block == 0)
        k->j->type[t - k->j->m->container->tensor] = k->t;
    return NB_OK;
}

nb_status nb_convert_choose_blocks(nb_convert_job *j, nb_error *err)
{
    looks s;
    const nb_status st = look(j->m, &s, err);
    if (st == NB_UNSUPPORTED) { /* several widths: F32 has all of their values */
        if (err)
            *err = (nb_error){.offset = -1};
        return NB_OK;
    }
    choosing k = {j, st == NB_OK ? block_of(&s) : NULL};
    return k.t ? each_coded(j->m, choose_block, &k, err) : st;
}
