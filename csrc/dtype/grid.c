/* grid.c -- the grids a quantizer rounds into, and how a group's scale, zero and min follow from
 * its values alone.
 *
 *   INT       lo = min(0, w), hi = max(0, w); sym: a = max(-lo, hi), lo = -a, hi = a
 *             s = f16((hi - lo) / c), c = 2^bits - 1
 *             zero = sym ? 2^(bits-1) : clamp(rne(-lo / s), 0, c)   (AutoGPTQ's convention)
 *
 *   EXTREME   s = f16(signed extreme / -zero), zero = 2^(bits-1)      (q4_0 q5_0)
 *             the extreme itself is met, s may be negative
 *
 *   AFFINE    s = f16((max - min) / c), min rounded to f16, zero 0    (q4_1 q5_1)
 *
 *   ABSMAX    s = f16(max |w| / (zero - 1)), zero = 2^(bits-1)        (q8_0)
 *
 * Zero always lies inside an integer grid's range; a group of nothing but zeros takes the range
 * [-1, 1], so that its scale is an ordinary number. Scales are rounded to f16 before any code is
 * computed (scale.h). Cost: O(n) a group. */
#include "dtype/grid.h"
#include "base/nearest.h"
#include "dtype/scale.h"

#include <float.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

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

static void extreme_params(const nb_grid *g, const float *w, int n, nb_group *out)
{
    const float zero = (float)(g->code_max + 1) / 2.0f, extreme = extreme_of(w, n);
    *out = (nb_group){.scale = extreme != 0.0f ? scale_of(extreme / -zero) : 0.0f, .zero = zero};
}

static void affine_params(const nb_grid *g, const float *w, int n, nb_group *out)
{
    range r = range_of(w, n, FLT_MAX, -FLT_MAX);
    if (!(r.lo <= r.hi)) /* no value that compares */
        r = (range){0.0f, 0.0f};
    *out = (nb_group){.scale = r.hi > r.lo ? scale_of((r.hi - r.lo) / (float)g->code_max) : 0.0f,
                      .min = half_of(r.lo)};
}

static void absmax_params(const nb_grid *g, const float *w, int n, nb_group *out)
{
    const float zero = (float)(g->code_max + 1) / 2.0f, amax = fabsf(extreme_of(w, n));
    *out = (nb_group){.scale = amax > 0.0f ? scale_of(amax / (zero - 1.0f)) : 0.0f, .zero = zero};
}

static void (*const params[])(const nb_grid *g, const float *w, int n, nb_group *out) = {
    [NB_RULE_INT] = int_params,
    [NB_RULE_EXTREME] = extreme_params,
    [NB_RULE_AFFINE] = affine_params,
    [NB_RULE_ABSMAX] = absmax_params,
};

static const struct row {
    const char *name;
    int bits;
} ints[] = {{"int2", 2}, {"int3", 3}, {"int4", 4}, {"int8", 8}};
enum { kInts = sizeof ints / sizeof *ints };

void nb_grid_list(bool ints_too, char *dst, size_t n)
{
    size_t at = 0;
    *dst = 0;
    for (const nb_dtype *const *t = nb_dtypes; *t; t++)
        if ((*t)->rule && at < n)
            at += (size_t)snprintf(dst + at, n - at, "%s%s", at ? " " : "", (*t)->name);
    for (int i = 0; i < kInts && ints_too && at < n; i++)
        at += (size_t)snprintf(dst + at, n - at, " %s", ints[i].name);
}

static nb_status unknown(const char *name, nb_error *err)
{
    char names[256], shown[520];
    nb_nearest near = {.given = name};
    nb_grid_list(true, names, sizeof names);
    for (const nb_dtype *const *t = nb_dtypes; *t; t++)
        if ((*t)->rule)
            nb_nearest_offer(&near, (*t)->name);
    for (int i = 0; i < kInts; i++)
        nb_nearest_offer(&near, ints[i].name);
    nb_escape(shown, (int64_t)sizeof shown, name, (int64_t)strlen(name));
    const nb_status st = nb_fail(err, NB_USAGE, "grid \"%s\" is unknown; the grids are %s", shown, names);
    nb_nearest_hint(&near, "--grid ", err);
    return st;
}

nb_status nb_grid_find(const char *name, int group, bool sym, nb_grid *out, nb_error *err)
{
    const nb_dtype *t = nb_dtype_by_name(name);
    int i = 0;
    *out = (nb_grid){.group = 0};
    while (i < kInts && strcasecmp(ints[i].name, name) != 0)
        i++;
    if (i == kInts && !(t && t->rule))
        return unknown(name, err);
    if (group < 0)
        return nb_fail(err, NB_USAGE,
                       "grid %s: a group of %d inputs; 0 (the row) or more is needed", name, group);
    if (i < kInts)
        *out = (nb_grid){.bits = ints[i].bits, .group = group, .sym = sym, .rule = NB_RULE_INT};
    else
        *out = (nb_grid){
            .bits = t->bits, .group = t->group, .sym = !t->has_min, .dtype = t, .rule = t->rule};
    out->params = params[out->rule];
    out->code_max = (1 << out->bits) - 1;
    snprintf(out->name, sizeof out->name, "%s", i < kInts ? ints[i].name : t->name);
    return NB_OK;
}

nb_status nb_grid_set_range(nb_grid *g, const char *word, nb_error *err)
{
    const bool absmax = strcmp(word, "absmax") == 0;
    if (!absmax && strcmp(word, "full") != 0) {
        static const char *const words[] = {"absmax", "full", NULL};
        nb_fail(err, NB_USAGE, "range \"%s\" is unknown; absmax and full are there", word);
        nb_nearest_of(word, words, "--range ", err);
        return NB_USAGE;
    }
    if (g->dtype || !g->sym)
        return nb_fail(err, NB_USAGE, "a range of values is chosen for symmetric integer grids; %s %s", g->name,
                       g->dtype ? "has its own" : "is asymmetric");
    g->rule = absmax ? NB_RULE_ABSMAX : NB_RULE_INT;
    g->params = params[g->rule];
    return NB_OK;
}
