/* part.c -- tensors of a linear: shapes, scales, zeros, indices (part.h). */
#include "scheme/part.h"
#include "base/scalar.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

nb_status nb_part_fault(const nb_linear *l, const nb_tensor *t, const char *suffix,
                        const char *what)
{
    return nb_fail_at(l->err, NB_BAD_INPUT, l->path, t ? (int64_t)t->offset : -1,
                      "tensor %.128s.%s: %s", l->name, suffix, what);
}

static bool is_float(const nb_dtype *t)
{
    return t->decode && t->block == 1;
}

static nb_status check_part(const nb_linear *l, const nb_scheme_tensor *want, const nb_tensor *t)
{
    char what[200];
    if (!t && want->needed)
        return nb_part_fault(l, t, want->suffix, "is missing");
    if (!t)
        return NB_OK;
    const bool fits = t->n_dim == want->n_dim &&
                      (want->shape[0] < 0 || t->shape[0] == want->shape[0]) &&
                      (want->n_dim < 2 || t->shape[1] == want->shape[1]);
    /* a scale a matrix may lack its second dimension */
    const bool one = is_float(want->dtype) && t->n_dim == 1 && want->n_dim == 2 &&
                     want->shape[1] == 1 && (t->shape[0] == want->shape[0] || t->shape[0] == 1);
    if (!fits && !one) {
        snprintf(what, sizeof what,
                 "has %d dimensions, the first of %lld and the last of %lld, not [%lld,%lld]",
                 t->n_dim, (long long)t->shape[0], (long long)t->shape[t->n_dim ? t->n_dim - 1 : 0],
                 (long long)want->shape[0], (long long)(want->n_dim < 2 ? 1 : want->shape[1]));
        return nb_part_fault(l, t, want->suffix, what);
    }
    if (is_float(want->dtype) ? is_float(t->dtype) : t->dtype == want->dtype)
        return NB_OK;
    snprintf(what, sizeof what, "is of type %s, not %s", t->dtype->name, want->dtype->name);
    return nb_part_fault(l, t, want->suffix, what);
}

nb_status nb_parts_check(const nb_linear *l, const nb_scheme_spec *s, const nb_tensor *const part[])
{
    nb_scheme_tensor want[NB_SCHEME_TENSORS];
    nb_status st = NB_OK;
    const int n = s->scheme->tensors(s, l->N, l->K, want);
    for (int i = 0; i < n && st == NB_OK; i++)
        st = check_part(l, &want[i], part[i]);
    return st;
}

nb_status nb_scales_get(const nb_linear *l, const nb_tensor *t, const char *suffix, int64_t n_step,
                        int64_t g_step, nb_group *groups)
{
    const bool one = t->n_dim == 1 && t->shape[0] == 1; /* of the whole tensor */
    for (int64_t n = 0; n < l->N; n++)
        for (int64_t g = 0; g < l->G; g++) {
            float v;
            const int64_t at = one ? 0 : n * n_step + g * g_step;
            nb_dtype_decode_row(t->dtype, t->data + at * t->dtype->bytes, &v, 1);
            if (!isfinite(v) && !l->allow_nonfinite) {
                char what[96];
                snprintf(what, sizeof what, "the scale of output %lld, group %lld is %s",
                         (long long)n, (long long)g, isnan(v) ? "NaN" : "infinite");
                return nb_part_fault(l, t, suffix, what);
            }
            groups[n * l->G + g] = (nb_group){.scale = v};
        }
    return NB_OK;
}

static nb_status cannot(const nb_linear *l, const char *what, int64_t n, int64_t g)
{
    return nb_fail(l->err, NB_UNSUPPORTED, "%.128s: %s in output %lld, group %lld", l->name, what,
                   (long long)n, (long long)g);
}

nb_status nb_scales_put(const nb_linear *l, const nb_matrix *m, int64_t n_step, int64_t g_step,
                        uint8_t *to)
{
    for (int64_t n = 0; n < l->N; n++)
        for (int64_t g = 0; g < l->G; g++) {
            const nb_group *v = &m->groups[n * l->G + g];
            const uint16_t h = nb_f16_from_f32(v->scale);
            if (nb_f32_from_f16(h) != v->scale || !isfinite(v->scale))
                return cannot(l, "a scale that F16 does not have", n, g);
            if (v->min != 0.0f)
                return cannot(
                    l, "a least value besides the zero, which the scheme has no place for,", n, g);
            memcpy(to + 2 * (n * n_step + g * g_step), &h, 2);
        }
    return NB_OK;
}

nb_status nb_zeros_check(const nb_linear *l, const nb_matrix *m, int least, int most)
{
    for (int64_t n = 0; n < l->N; n++)
        for (int64_t g = 0; g < l->G; g++) {
            const float z = m->groups[n * l->G + g].zero;
            if (!(z >= (float)least && z <= (float)most) || z != rintf(z)) {
                char what[96];
                snprintf(what, sizeof what, "a zero of %g, where %d to %d have a place,", (double)z,
                         least, most);
                return cannot(l, what, n, g);
            }
        }
    return NB_OK;
}

nb_status nb_g_idx_get(const nb_linear *l, const nb_tensor *t, const char *suffix, int group,
                       int32_t *g_idx, bool *act_order)
{
    bool zeros = true, regular = true;
    char what[128];
    for (int64_t k = 0; k < l->K; k++) {
        const int32_t natural = group ? (int32_t)(k / group) : 0;
        g_idx[k] = t ? (int32_t)nb_load_u32(t->data + 4 * k) : natural;
        if (g_idx[k] < 0 || g_idx[k] >= l->G) {
            snprintf(what, sizeof what, "input %lld is in group %d, there are %lld", (long long)k,
                     g_idx[k], (long long)l->G);
            return nb_part_fault(l, t, suffix, what);
        }
        zeros = zeros && g_idx[k] == 0;
        regular = regular && g_idx[k] == natural;
    }
    /* some writers leave it empty: as if it were not there */
    for (int64_t k = 0; k < l->K && zeros; k++)
        g_idx[k] = group ? (int32_t)(k / group) : 0;
    *act_order = !zeros && !regular;
    return NB_OK;
}

void nb_g_idx_put(const nb_matrix *m, uint8_t *to)
{
    for (int64_t k = 0; k < m->K; k++) {
        const int32_t g = m->g_idx ? m->g_idx[k] : m->group ? (int32_t)(k / m->group) : 0;
        memcpy(to + 4 * k, &g, 4);
    }
}
