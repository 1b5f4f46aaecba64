/* grid.c -- the grids a quantizer rounds into, and how a group's scale, zero and min follow from
 * its values alone.
 *
 *   int2..int8   lo = min(0, w), hi = max(0, w); sym: a = max(-lo, hi), lo = -a, hi = a
 *                s = f16((hi - lo) / q), q = 2^bits - 1
 *                zero = sym ? 2^(bits-1) : clamp(rne(-lo / s), 0, q)   (AutoGPTQ's convention)
 *   q4_0         s = f16(signed extreme / -8), zero 8: the extreme itself is met, s may be negative
 *   q4_1         s = f16((max - min) / 15), min rounded to f16, zero 0
 *   q8_0         s = f16(max |w| / 127), zero 128
 *
 * Zero always lies inside an integer grid's range; a group of nothing but zeros takes the range
 * [-1, 1], so that its scale is an ordinary number. Scales are rounded to f16 here, before any code
 * is computed, and held in [2^-24, 65504] in magnitude: neither 0 nor infinite by rounding. A NaN
 * among the values is passed over. Cost: O(n) a group. */
#include "dtype/grid.h"
#include "dtype/rows.h"
#include "base/scalar.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <strings.h>

static const float kLeastHalf = 0x1p-24f, kMostHalf = 65504.0f;

static float half_of(float v)
{
    const float bound = v > kMostHalf ? kMostHalf : v < -kMostHalf ? -kMostHalf : v;
    return nb_f32_from_f16(nb_f16_from_f32(bound));
}

/* v rounded to f16; not to 0, which no code could be told apart on. */
static float scale_of(float v)
{
    const float h = half_of(v);
    return h != 0.0f ? h : copysignf(kLeastHalf, v);
}

typedef struct range {
    float lo, hi;
} range;

static range range_of(const float *w, int n, float lo, float hi)
{
    range r = {lo, hi};
    for (int i = 0; i < n; i++) {
        r.lo = w[i] < r.lo ? w[i] : r.lo;
        r.hi = w[i] > r.hi ? w[i] : r.hi;
    }
    return r;
}

static void int_params(const nb_grid *g, const float *w, int n, nb_group *out)
{
    range r = range_of(w, n, 0.0f, 0.0f);
    const float q = (float)g->code_max;
    if (r.lo == 0.0f && r.hi == 0.0f)
        r = (range){-1.0f, 1.0f};
    if (g->sym) {
        r.hi = -r.lo > r.hi ? -r.lo : r.hi;
        r.lo = -r.hi;
    }
    out->scale = scale_of((r.hi - r.lo) / q);
    out->min = 0.0f;
    if (g->sym) {
        out->zero = (q + 1.0f) * 0.5f;
    } else {
        const float z = rintf(-r.lo / out->scale);
        out->zero = z < q ? z : q;
    }
}

static void q4_0_params(const nb_grid *g, const float *w, int n, nb_group *out)
{
    (void)g;
    float amax = 0.0f, extreme = 0.0f; /* the first of equal magnitudes, as the encoder takes it */
    for (int i = 0; i < n; i++)
        if (fabsf(w[i]) > amax) {
            amax = fabsf(w[i]);
            extreme = w[i];
        }
    *out = (nb_group){.scale = amax > 0.0f ? scale_of(extreme / -8.0f) : 0.0f, .zero = 8.0f};
}

static void q4_1_params(const nb_grid *g, const float *w, int n, nb_group *out)
{
    (void)g;
    range r = range_of(w, n, FLT_MAX, -FLT_MAX);
    if (!(r.lo <= r.hi)) /* no value that compares */
        r = (range){0.0f, 0.0f};
    *out = (nb_group){.scale = r.hi > r.lo ? scale_of((r.hi - r.lo) / 15.0f) : 0.0f,
                      .min = half_of(r.lo)};
}

static void q8_0_params(const nb_grid *g, const float *w, int n, nb_group *out)
{
    (void)g;
    const range r = range_of(w, n, 0.0f, 0.0f);
    const float amax = -r.lo > r.hi ? -r.lo : r.hi;
    *out = (nb_group){.scale = amax > 0.0f ? scale_of(amax / 127.0f) : 0.0f, .zero = 128.0f};
}

static const struct row {
    const char *name;
    int bits;
    const nb_dtype *dtype; /* NULL: an integer grid, its group and symmetry are the caller's */
    bool sym;
    void (*params)(const nb_grid *g, const float *w, int n, nb_group *out);
} rows[] = {
    {"q4_0", 4, &nb_dtype_q4_0, true, q4_0_params}, {"q4_1", 4, &nb_dtype_q4_1, false, q4_1_params},
    {"q8_0", 8, &nb_dtype_q8_0, true, q8_0_params}, {"int2", 2, NULL, false, int_params},
    {"int3", 3, NULL, false, int_params},           {"int4", 4, NULL, false, int_params},
    {"int8", 8, NULL, false, int_params},
};
enum { kRows = sizeof rows / sizeof *rows };

static nb_status unknown(const char *name, nb_error *err)
{
    char names[128] = "", shown[520];
    size_t at = 0;
    for (int i = 0; i < kRows; i++)
        at += (size_t)snprintf(names + at, sizeof names - at, " %s", rows[i].name);
    nb_escape(shown, (int64_t)sizeof shown, name, (int64_t)strlen(name));
    return nb_fail(err, NB_USAGE, "grid \"%s\" is unknown; the grids are%s", shown, names);
}

nb_status nb_grid_find(const char *name, int group, bool sym, nb_grid *out, nb_error *err)
{
    const struct row *r = rows;
    *out = (nb_grid){.group = 0};
    while (r < rows + kRows && strcasecmp(r->name, name) != 0)
        r++;
    if (r == rows + kRows)
        return unknown(name, err);
    if (group < 0)
        return nb_fail(err, NB_USAGE,
                       "grid %s: a group of %d inputs; 0 (the row) or more is needed", r->name,
                       group);
    *out = (nb_grid){.bits = r->bits,
                     .code_max = (1 << r->bits) - 1,
                     .group = r->dtype ? r->dtype->group : group,
                     .sym = r->dtype ? r->sym : sym,
                     .dtype = r->dtype,
                     .params = r->params};
    snprintf(out->name, sizeof out->name, "%s", r->name);
    return NB_OK;
}
