/* layout.c -- which layout of weight.h a stack of matrices gets:
 *
 *   affine, or a table of small integers (or halves of them); groups a multiple of 16 and K one of
 *   32                                                                                 U4 or U8
 *   a table of other floats, the same in all parts; groups a multiple of 32 that divides K   T4
 *   f32, f16, bf16                                                               their own type
 *   all else (fp8, odd K, groups by index ...), decoded: 4 bytes a weight                   F32
 *
 * All of them keep the values as the format defines them, in fast mode too: only activations are
 * rounded there. Parts of several kinds in one stack take the first layout that holds all, F32 at
 * worst. */
#include "backend/cpu/layout.h"

#include <string.h>

int nb_table_factor(const nb_dtype *t)
{
    for (int f = 1; f <= 2; f++) {
        bool good = true;
        for (int i = 0; i < 1 << t->bits; i++) {
            const float v = t->table[i] * (float)f;
            good = good && v >= -128.0f && v <= 127.0f && v == (float)(int)v;
        }
        if (good)
            return f;
    }
    return 0;
}

static bool in_blocks(const nb_matrix *m)
{
    const nb_dtype *t = m->dtype;
    if (m->K % NB_BLOCK)
        return false;
    if (!t)
        return m->bits <= 8 && m->group % NB_HALF == 0 && !m->g_idx && !m->table;
    return t->canon != NB_CANON_NONE && t->split && t->bits <= 8 && t->group % NB_HALF == 0 &&
           (t->canon == NB_CANON_AFFINE || (t->table && nb_table_factor(t)));
}

/* The levels of a part that can lie as T4, NULL of any other; its group to *unit. */
static const float *table_of(const nb_matrix *m, int64_t *unit)
{
    const nb_dtype *t = m->dtype;
    const bool split = t ? t->canon == NB_CANON_TABLE && t->split && t->bits <= 4 : !m->g_idx;
    const float *table = t ? t->table : m->table;
    *unit = t ? t->group : m->group ? m->group : m->K;
    return split && table && (!t || !nb_table_factor(t)) && *unit % NB_BLOCK == 0 &&
                   *unit <= INT32_MAX / NB_TILE && m->K % *unit == 0
               ? table
               : NULL;
}

static bool choose_table(const nb_stack *s, nb_weight *w)
{
    for (int i = 0; i < s->n_part; i++) {
        const nb_matrix *m = &s->part[i];
        float level[NB_TABLE_MOST] = {0};
        int64_t unit = 0;
        const float *table = table_of(m, &unit);
        if (!table)
            return false;
        memcpy(level, table, sizeof *level << (m->dtype ? m->dtype->bits : m->bits));
        if (i > 0 && (unit != w->unit || memcmp(level, w->table, sizeof level) != 0))
            return false;
        memcpy(w->table, level, sizeof level);
        w->unit = (int32_t)unit;
    }
    w->codes = NB_CODES_T4;
    w->wide = true;
    return true;
}

static int code_bits(const nb_matrix *m)
{
    return !m->dtype ? m->bits : m->dtype->canon == NB_CANON_TABLE ? 8 : m->dtype->bits;
}

static bool is_code(float zero)
{
    return zero >= 0.0f && zero <= 255.0f && zero == (float)(int)zero;
}

/* The offsets a canonical part needs: all zeros equal to *zero and no min, or zeros that are codes
 * and no min, or mins. False: both a zero and a min in one group, which only decoding keeps exact.
 */
static bool canonical_offset(const nb_matrix *m, nb_cpu_offset *kind, int32_t *zero)
{
    const int64_t G = m->group ? (m->K + m->group - 1) / m->group : 1;
    bool any_zero = false, any_min = false, same = true, code = true;
    for (int64_t i = 0; i < m->N * G; i++) {
        const nb_group *g = &m->groups[i];
        any_zero = any_zero || g->zero != 0.0f;
        any_min = any_min || g->min != 0.0f;
        same = same && g->zero == m->groups[0].zero;
        code = code && is_code(g->zero);
    }
    if ((any_zero && any_min) || !code)
        return false;
    *kind = any_min ? NB_OFFSET_MIN : same ? NB_OFFSET_CONST : NB_OFFSET_ZERO;
    *zero = m->N ? (int32_t)m->groups[0].zero : 0;
    return true;
}

static bool part_offset(const nb_matrix *m, nb_cpu_offset *kind, int32_t *zero)
{
    if (!m->dtype)
        return canonical_offset(m, kind, zero);
    const bool min = m->dtype->canon == NB_CANON_AFFINE && m->dtype->has_min;
    *kind = min ? NB_OFFSET_MIN : NB_OFFSET_CONST;
    *zero = min ? 0 : m->dtype->canon == NB_CANON_TABLE ? 128 : m->dtype->zero;
    return true;
}

/* The least offset kind that holds both. */
static bool join_offset(nb_cpu_offset *kind, int32_t *zero, nb_cpu_offset k, int32_t z)
{
    if (*kind == NB_OFFSET_CONST && k == NB_OFFSET_CONST && *zero != z)
        k = NB_OFFSET_ZERO;
    if ((*kind == NB_OFFSET_MIN) != (k == NB_OFFSET_MIN))
        return false;
    *kind = k > *kind ? k : *kind;
    return true;
}

static nb_cpu_codes float_codes(const nb_matrix *m)
{
    const char *own = m->dtype ? m->dtype->st_name : NULL;
    if (own && strcmp(own, "F32") == 0)
        return NB_CODES_F32;
    if (own && strcmp(own, "F16") == 0)
        return NB_CODES_F16;
    if (own && strcmp(own, "BF16") == 0)
        return NB_CODES_BF16;
    return NB_CODES_F32;
}

void nb_layout_choose(const nb_stack *s, nb_weight *w)
{
    bool blocks = true;
    int bits = 0;
    if (choose_table(s, w))
        return;
    w->unit = NB_BLOCK;
    for (int i = 0; i < s->n_part; i++) {
        const nb_matrix *m = &s->part[i];
        nb_cpu_offset kind = NB_OFFSET_CONST;
        int32_t zero = 0;
        blocks = blocks && in_blocks(m) && part_offset(m, &kind, &zero);
        if (blocks && i == 0) {
            w->offset = kind;
            w->zero = zero;
        }
        blocks = blocks && join_offset(&w->offset, &w->zero, kind, zero);
        bits = blocks && code_bits(m) > bits ? code_bits(m) : bits;
        if ((m->dtype ? m->dtype->group : m->group) % NB_BLOCK)
            w->unit = NB_HALF;
    }
    if (blocks) {
        w->codes = bits <= 4 ? NB_CODES_U4 : NB_CODES_U8;
        return;
    }
    w->codes = float_codes(&s->part[0]);
    for (int i = 1; i < s->n_part; i++)
        if (float_codes(&s->part[i]) != w->codes)
            w->codes = NB_CODES_F32;
}

void nb_layout_measure(nb_weight *w)
{
    const int32_t block = (int32_t)nb_weight_block(w);
    size_t tile = 0;
    switch (w->codes) {
    case NB_CODES_F32:
        tile = (size_t)w->K * NB_TILE * sizeof(float);
        break;
    case NB_CODES_F16:
        tile = (size_t)w->K * NB_TILE * sizeof(uint16_t);
        break;
    case NB_CODES_BF16:
        tile = (size_t)(w->K + w->K % 2) * NB_TILE * sizeof(uint16_t);
        break;
    case NB_CODES_U4:
    case NB_CODES_U8:
    case NB_CODES_T4:
        w->code_bytes = NB_TILE * block / (w->codes == NB_CODES_U8 ? 1 : 2);
        w->scale_bytes = block / w->unit * NB_TILE * (w->wide ? 4 : 2);
        w->block_bytes = w->code_bytes + w->scale_bytes +
                         (w->offset == NB_OFFSET_MIN    ? w->scale_bytes
                          : w->offset == NB_OFFSET_ZERO ? block / w->unit * NB_TILE
                                                        : 0);
        tile = (size_t)(w->K / block) * (size_t)w->block_bytes;
        break;
    }
    w->tile_bytes = (tile + 63) / 64 * 64;
    w->bytes = w->tile_bytes * (size_t)w->n_tile;
}

/* Two-level scales (a super-scale times a small integer) are rarely f16; scales of a block of its
 * own are. */
bool nb_layout_wide(const nb_stack *s)
{
    for (int i = 0; i < s->n_part; i++) {
        const nb_matrix *m = &s->part[i];
        if (m->dtype && m->dtype->group < m->dtype->block)
            return true;
        const int64_t n = m->dtype ? 0 : m->N * (m->group ? (m->K + m->group - 1) / m->group : 1);
        /* canonical: they are there, as nb_layout_choose() has looked at them */
        for (int64_t g = 0; g < n; g++)
            if (!nb_is_f16(m->groups[g].scale) || !nb_is_f16(m->groups[g].min))
                return true;
    }
    return false;
}
