/* recode.c -- value = scale (code - zero) + min in both formats, so a code of one is a code of the
 * other when scale and min are the same numbers:
 *
 *   to a format with a constant zero z   code' = code - zero + z      (a min that is a whole
 *                                        multiple of the scale moves into zero)
 *   to a format with a min               code' = code, min' = min - zero scale
 *
 * Q4_0 -> Q5_0, Q8_0; Q5_0 -> Q8_0; Q4_0 -> Q4_1 ... What was made is decoded and compared with the
 * source: that decides, not the formula. */
#include "convert/recode.h"

#include <math.h>
#include <string.h>

static bool is_quantized(const nb_dtype *t)
{
    return !t || t->block > 1;
}

bool nb_recodes(const nb_rows_out *to, const nb_matrix *m)
{
    return to->exact && is_quantized(m->dtype) && m->dtype != to->type && is_quantized(to->type);
}

/* | want K | got K | scale, zero, min of the source's groups 3 K | of the output's 2 K | codes K
 * bytes, twice | */
size_t nb_recode_scratch(int64_t K)
{
    return (size_t)(7 * K + (K + 1) / 2 + 8);
}

typedef struct words {         /* of one row */
    float *scale, *zero, *min; /* by group */
    uint8_t *code;             /* [K] */
    int64_t group;
} words;

static bool split_row(const nb_matrix *m, int64_t n, words *w)
{
    const nb_dtype *t = m->dtype;
    const int64_t K = m->K,
                  group = t          ? t->group
                          : m->group ? m->group
                                     : K,
                  G = group ? (K + group - 1) / group : 0;
    w->group = group;
    if (t && (t->canon != NB_CANON_AFFINE || !t->split))
        return false;
    if (t) {
        t->split(m->rows + n * nb_dtype_row_bytes(t, K), K / t->block, w->code, w->scale, w->min);
        for (int64_t g = 0; g < G; g++) {
            w->zero[g] = t->has_min ? 0.0f : (float)t->zero;
            w->min[g] = t->has_min ? w->min[g] : 0.0f;
        }
        return true;
    }
    memcpy(w->code, m->codes + n * K, (size_t)K);
    for (int64_t g = 0; g < G; g++) {
        w->scale[g] = m->groups[n * G + g].scale;
        w->zero[g] = m->groups[n * G + g].zero;
        w->min[g] = m->groups[n * G + g].min;
    }
    return !m->g_idx && !m->table;
}

/* One group of the output, k0 .. k0 + t->group - 1. */
static bool move_group(const words *w, int64_t k0, const nb_dtype *t, float *scale, float *min,
                       uint8_t *code)
{
    const int64_t g = k0 / w->group;
    float zero = w->zero[g];
    *scale = w->scale[g];
    if (!t->has_min && *scale != 0.0f)
        zero += rintf(-w->min[g] / *scale);
    *min = t->has_min ? w->min[g] - zero * *scale : 0.0f;
    for (int64_t k = k0; k < k0 + t->group; k++) {
        const int64_t of = k / w->group;
        if (w->scale[of] != w->scale[g] || w->zero[of] != w->zero[g] || w->min[of] != w->min[g])
            return false; /* groups of other scales in one */
        const float c = t->has_min       ? (float)w->code[k]
                        : *scale != 0.0f ? (float)w->code[k] - zero + (float)t->zero
                                         : (float)t->zero;
        if (!(c >= 0.0f && c < (float)(1 << t->bits)))
            return false;
        code[k] = (uint8_t)c;
    }
    return true;
}

bool nb_recode_row(const nb_matrix *m, int64_t n, const nb_dtype *t, float *scratch, uint8_t *dst)
{
    const int64_t K = m->K;
    float *want = scratch, *got = want + K, *scale = got + 4 * K, *min = scale + K;
    words w = {
        .scale = got + K, .zero = got + 2 * K, .min = got + 3 * K, .code = (uint8_t *)(min + K)};
    uint8_t *code = w.code + K;
    const bool split = split_row(m, n, &w);
    if (!m->dtype && m->g_idx)
        return false;
    nb_matrix_row(m, n, want);
    bool same = split && t->join && t->canon == NB_CANON_AFFINE;
    for (int64_t k = 0; k < K && same; k += t->group)
        same = move_group(&w, k, t, &scale[k / t->group], &min[k / t->group], code);
    if (same)
        t->join(code, scale, min, K / t->block, dst);
    else if (t->encode)
        t->encode(want, dst, K / t->block);
    else
        return false;
    nb_dtype_decode_row(t, dst, got, K);
    for (int64_t k = 0; k < K; k++)
        if (got[k] != want[k])
            return false;
    return true;
}
