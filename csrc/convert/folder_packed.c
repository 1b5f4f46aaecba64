/* folder_packed.c -- see folder_packed.h. */
#include "convert/folder_packed.h"

#include <stdlib.h>
#include <string.h>

void nb_packing_open(nb_packing *p, const nb_folder_plan *plan, nb_shards_out *out, int n_thread)
{
    *p = (nb_packing){.plan = plan, .out = out, .n_thread = n_thread, .module = -1};
}

static void drop(nb_packing *p)
{
    free(p->codes);
    free(p->groups);
    free(p->g_idx);
    nb_packing_open(p, p->plan, p->out, p->n_thread);
}

void nb_packing_close(nb_packing *p)
{
    drop(p);
}

/* ---- gathering ---- */

static nb_status begin(nb_packing *p, int64_t module, nb_error *err)
{
    const nb_folder_module *m = &p->plan->module[module];
    if (p->rows)
        return nb_fail(err, NB_INTERNAL, "%s is begun before %s is whole", m->name,
                       p->plan->module[p->module].name);
    drop(p);
    p->module = module;
    p->codes = nb_alloc_aligned((size_t)m->N, (size_t)m->K, m->name, err);
    p->groups = nb_alloc((size_t)(m->N * nb_scheme_groups(p->plan->scheme, m->K)),
                         sizeof *p->groups, m->name, err);
    p->g_idx = nb_alloc_zero((size_t)m->K, sizeof *p->g_idx, m->name, err);
    return p->codes && p->groups && p->g_idx ? NB_OK : NB_NO_ROOM;
}

static nb_status no_place(const nb_packing *p, const nb_matrix *m, nb_error *err)
{
    const nb_scheme_spec *s = p->plan->scheme;
    return nb_fail(err, NB_UNSUPPORTED,
                   "%s: values in %s have no place in codes of %d bits in groups of %d; nibble "
                   "quantize rounds them anew",
                   p->plan->module[p->module].name,
                   m->dtype ? m->dtype->name : "codes of another width, or in other groups,",
                   s->bits, s->group);
}

/* Row `from` of m as row `to` of the module. scale, min [G] are scratch. */
static void put_row(nb_packing *p, const nb_matrix *m, int64_t from, int64_t to, float *scale,
                    float *min)
{
    const nb_dtype *t = m->dtype;
    const int64_t K = m->K, G = nb_scheme_groups(p->plan->scheme, K);
    if (!t) {
        memcpy(p->codes + to * K, m->codes + from * K, (size_t)K);
        memcpy(p->groups + to * G, m->groups + from * G, (size_t)G * sizeof *p->groups);
        return;
    }
    t->split(m->rows + from * nb_dtype_row_bytes(t, K), K / t->block, p->codes + to * K, scale,
             min);
    for (int64_t g = 0; g < G; g++)
        p->groups[to * G + g] = (nb_group){.scale = scale[g], .zero = (float)t->zero};
}

static bool fits(const nb_scheme_spec *s, const nb_matrix *m)
{
    const nb_dtype *t = m->dtype;
    const int64_t group = s->group ? s->group : m->K;
    if (s->grid &&
        (t || !m->table || memcmp(m->table, s->grid->table, sizeof(float) << s->bits) != 0))
        return t && t == s->grid;
    if (!s->grid && m->table)
        return false;
    if (!t)
        return m->bits == s->bits && (m->group ? m->group : m->K) == group;
    return t->canon == NB_CANON_AFFINE && t->split && !t->has_min && t->bits == s->bits &&
           t->group == group && m->K % t->block == 0;
}

static nb_status take_order(nb_packing *p, const nb_matrix *m, nb_error *err)
{
    const bool first = p->rows == 0;
    if (first && m->g_idx)
        memcpy(p->g_idx, m->g_idx, (size_t)m->K * sizeof *p->g_idx);
    if (first)
        p->ordered = m->g_idx != NULL;
    if (p->ordered == (m->g_idx != NULL) &&
        (!m->g_idx || memcmp(p->g_idx, m->g_idx, (size_t)m->K * sizeof *p->g_idx) == 0))
        return NB_OK;
    return nb_fail(err, NB_UNSUPPORTED, "%s: its rows have different orders of inputs",
                   p->plan->module[p->module].name);
}

/* ---- packing ---- */

static nb_status flush(nb_packing *p, nb_error *err)
{
    const nb_scheme_spec *s = p->plan->scheme;
    const nb_folder_module *m = &p->plan->module[p->module];
    const nb_matrix a = {.N = m->N,
                         .K = m->K,
                         .codes = p->codes,
                         .groups = p->groups,
                         .table = s->grid ? s->grid->table : NULL,
                         .bits = s->bits,
                         .group = s->group,
                         .g_idx = p->ordered ? p->g_idx : NULL};
    uint8_t *bytes[NB_SCHEME_TENSORS] = {NULL};
    nb_status st = NB_OK;
    for (int i = 0; i < NB_SCHEME_TENSORS && st == NB_OK; i++)
        if (m->entry[i] >= 0) {
            bytes[i] = nb_alloc_aligned(nb_shards_out_tensor_bytes(p->out, (int)m->entry[i]), 1,
                                        m->name, err);
            st = bytes[i] ? NB_OK : NB_NO_ROOM;
        }
    if (st == NB_OK)
        st = s->scheme->pack(s, m->name, &a, bytes, p->n_thread, err);
    for (int i = 0; i < NB_SCHEME_TENSORS && st == NB_OK; i++)
        if (m->entry[i] >= 0)
            st = nb_shards_out_data(p->out, (int)m->entry[i], 0, bytes[i],
                                    nb_shards_out_tensor_bytes(p->out, (int)m->entry[i]), err);
    for (int i = 0; i < NB_SCHEME_TENSORS; i++)
        free(bytes[i]);
    return st;
}

nb_status nb_packing_put(nb_packing *p, nb_packing_rows at, const nb_matrix *m, nb_error *err)
{
    const nb_folder_module *module = &p->plan->module[at.module];
    nb_status st = p->module == at.module && p->rows ? NB_OK : begin(p, at.module, err);
    if (st != NB_OK)
        return st;
    if (m->K != module->K || at.row + m->N > module->N)
        return nb_fail(err, NB_INTERNAL, "%s gets %lld rows of %lld", module->name, (long long)m->N,
                       (long long)m->K);
    if (!fits(p->plan->scheme, m))
        return no_place(p, m, err);
    st = take_order(p, m, err);
    float *scale =
        st == NB_OK ? nb_alloc(2 * (size_t)m->K, sizeof *scale, module->name, err) : NULL;
    if (st == NB_OK && !scale)
        st = NB_NO_ROOM;
    for (int64_t r = 0; r < m->N && st == NB_OK; r++)
        put_row(p, m, nb_row_from(at.order, at.head, r), at.row + r, scale, scale + m->K);
    free(scale);
    if (st == NB_OK)
        p->rows += m->N;
    if (st != NB_OK || p->rows < module->N)
        return st;
    st = flush(p, err);
    drop(p);
    return st;
}

/* ---- reading back ---- */

/* The module's tensors into buffers. */
static nb_status read_parts(const nb_packing *p, const nb_folder_module *m, nb_tensor part[],
                            const nb_tensor *at[], uint8_t *bytes[], nb_error *err)
{
    nb_status st = NB_OK;
    for (int i = 0; i < NB_SCHEME_TENSORS && st == NB_OK; i++) {
        if (m->entry[i] < 0)
            continue;
        const nb_folder_entry *e = &p->plan->entry[m->entry[i]];
        const size_t n = nb_shards_out_tensor_bytes(p->out, (int)m->entry[i]);
        bytes[i] = nb_alloc_aligned(n, 1, m->name, err);
        st = bytes[i] ? nb_shards_out_read(p->out, (int)m->entry[i], 0, bytes[i], n, err)
                      : NB_NO_ROOM;
        part[i] = (nb_tensor){
            .name = e->name, .dtype = e->type, .n_dim = e->n_dim, .data = bytes[i], .bytes = n};
        memcpy(part[i].shape, e->shape, sizeof part[i].shape);
        at[i] = &part[i];
    }
    return st;
}

nb_status nb_packing_read(const nb_packing *p, nb_packing_rows at, int64_t N, nb_matrix *out,
                          void **made, nb_error *err)
{
    const nb_scheme_spec *s = p->plan->scheme;
    const nb_folder_module *m = &p->plan->module[at.module];
    const int64_t K = m->K, G = nb_scheme_groups(s, K);
    const size_t groups = (size_t)(m->N * G) * sizeof(nb_group),
                 index = (size_t)K * sizeof(int32_t), codes = (size_t)(m->N * K);
    nb_tensor part[NB_SCHEME_TENSORS];
    const nb_tensor *there[NB_SCHEME_TENSORS] = {NULL};
    uint8_t *bytes[NB_SCHEME_TENSORS] = {NULL};
    bool act_order = false;
    /* as the folder has it */
    uint8_t *room = nb_alloc_aligned(1, groups + index + codes, m->name, err);
    const size_t own_groups = (size_t)(N * G) * sizeof(nb_group);
    /* the slot's, in the order of the source */
    uint8_t *own = nb_alloc_aligned(1, own_groups + index + (size_t)(N * K), m->name, err);
    *made = own;
    nb_status st = room && own ? read_parts(p, m, part, there, bytes, err) : NB_NO_ROOM;
    if (st == NB_OK)
        st = s->scheme->unpack(s, m->name, m->name, m->N, K, there, room + groups + index,
                               (nb_group *)(void *)room, (int32_t *)(void *)(room + groups),
                               &act_order, p->n_thread, err);
    for (int64_t r = 0; r < N && st == NB_OK; r++) {
        const int64_t to = nb_row_from(at.order, at.head, r);
        memcpy(own + own_groups + index + to * K, room + groups + index + (at.row + r) * K,
               (size_t)K);
        memcpy(own + (size_t)(to * G) * sizeof(nb_group),
               room + (size_t)((at.row + r) * G) * sizeof(nb_group), (size_t)G * sizeof(nb_group));
    }
    if (st == NB_OK)
        memcpy(own + own_groups, room + groups, index);
    for (int i = 0; i < NB_SCHEME_TENSORS; i++)
        free(bytes[i]);
    free(room);
    if (st == NB_OK)
        *out = (nb_matrix){.N = N,
                           .K = K,
                           .codes = own + own_groups + index,
                           .groups = (const nb_group *)(const void *)own,
                           .table = s->grid ? s->grid->table : NULL,
                           .bits = s->bits,
                           .group = s->group,
                           .g_idx = act_order ? (const int32_t *)(const void *)(own + own_groups)
                                              : NULL};
    return st;
}
