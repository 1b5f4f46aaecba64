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
 *   TABLE     s = max |w| / far where the table reaches as far on both sides, else signed extreme / far, far the level of greatest magnitude;
 *             rounded to f16, or f32 as it is
 *
 * Zero always lies inside an integer grid's range; a group of nothing but zeros takes the range
 * [-1, 1], so that its scale is an ordinary number. Scales are rounded to f16 before any code is
 * computed (scale.h). Cost: O(n) a group, 15 comparisons a value with a table. */
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
    const float zero = (float)(g->code_max + 1) / 2.0f, amax = absmax_of(w, n);
    *out = (nb_group){.scale = amax > 0.0f ? scale_of(amax / (zero - 1.0f)) : 0.0f, .zero = zero};
}

static void table_params(const nb_grid *g, const float *w, int n, nb_group *out)
{
    const float extreme = extreme_of(w, n),
                scale = (g->two_sided ? fabsf(extreme) : extreme) / g->far;
    *out = (nb_group){.zero = (float)nb_grid_nearest(g, 0.0f)};
    if (extreme != 0.0f && g->dtype->scale == NB_SCALE_F32)
        out->scale = scale > FLT_MAX ? FLT_MAX : scale < -FLT_MAX ? -FLT_MAX : scale;
    else if (extreme != 0.0f)
        out->scale = scale_of(scale);
}

static void (*const params[])(const nb_grid *g, const float *w, int n, nb_group *out) = {
    [NB_RULE_INT] = int_params,       [NB_RULE_EXTREME] = extreme_params,
    [NB_RULE_AFFINE] = affine_params, [NB_RULE_ABSMAX] = absmax_params,
    [NB_RULE_TABLE] = table_params,
};

static const struct row {
    const char *name;
    int bits;
} ints[] = {{"int2", 2}, {"int3", 3}, {"int4", 4}, {"int8", 8}};
enum { kInts = sizeof ints / sizeof *ints };

void nb_grid_list(bool all, char *dst, size_t n)
{
    size_t at = 0;
    *dst = 0;
    for (const nb_dtype *const *t = nb_dtypes; *t; t++)
        if ((*t)->rule && (all || (*t)->ggml_id >= 0) && at < n)
            at += (size_t)snprintf(dst + at, n - at, "%s%s", at ? " " : "", (*t)->name);
    for (int i = 0; i < kInts && all && at < n; i++)
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
    const nb_status st =
        nb_fail(err, NB_USAGE, "grid \"%s\" is unknown; the grids are %s", shown, names);
    nb_nearest_hint(&near, "--grid ", err);
    return st;
}

/* The levels in ascending order and the bounds between them. Of equal levels the lower code comes
 * first. */
static void order_levels(nb_grid *g)
{
    const int n = g->code_max + 1;
    for (int c = 0; c < n; c++) {
        int at = c;
        for (; at > 0 && g->table[g->order[at - 1]] > g->table[c]; at--)
            g->order[at] = g->order[at - 1];
        g->order[at] = (uint8_t)c;
    }
    for (int i = 0; i < NB_TABLE_MOST - 1; i++)
        g->mid[i] =
            i + 1 < n ? (g->table[g->order[i]] + g->table[g->order[i + 1]]) / 2.0f : INFINITY;
    const float lo = g->table[g->order[0]], hi = g->table[g->order[n - 1]];
    g->far = -lo > hi ? lo : hi;
    g->two_sided = -lo == hi;
}

void nb_grid_of(const nb_dtype *t, nb_grid *out)
{
    *out = (nb_grid){.bits = t->bits,
                     .code_max = (1 << t->bits) - 1,
                     .group = t->group,
                     .sym = !t->has_min,
                     .dtype = t,
                     .rule = t->rule,
                     .table = t->table,
                     .params = params[t->rule]};
    snprintf(out->name, sizeof out->name, "%s", t->name);
    if (out->table)
        order_levels(out);
}

void nb_grid_encode(const nb_dtype *t, const float *src, uint8_t *dst, int64_t n_block)
{
    nb_grid g;
    nb_grid_of(t, &g);
    for (int64_t i = 0; i < n_block; i++, src += t->block, dst += t->bytes) {
        uint8_t code[256];
        float scale[256], min[256];
        for (int k = 0; k < t->block; k += t->group) {
            nb_group p;
            g.params(&g, src + k, t->group, &p);
            nb_grid_round_n(&g, &p, src + k, t->group, code + k);
            scale[k / t->group] = p.scale;
            min[k / t->group] = p.min;
        }
        t->join(code, scale, min, 1, dst);
    }
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
    if (i == kInts) {
        nb_grid_of(t, out);
        return NB_OK;
    }
    *out = (nb_grid){.bits = ints[i].bits,
                     .code_max = (1 << ints[i].bits) - 1,
                     .group = group,
                     .sym = sym,
                     .rule = NB_RULE_INT,
                     .params = int_params};
    snprintf(out->name, sizeof out->name, "%s", ints[i].name);
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
        return nb_fail(err, NB_USAGE,
                       "a range of values is chosen for symmetric integer grids; %s %s", g->name,
                       g->dtype ? "has its own" : "is asymmetric");
    g->rule = absmax ? NB_RULE_ABSMAX : NB_RULE_INT;
    g->params = params[g->rule];
    return NB_OK;
}
