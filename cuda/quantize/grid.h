/* grid.h -- the grids of csrc/dtype/grid.c in device code: the same formulas, in the same f32
 * operations, so that codes and scales agree with the CPU's to the bit. The host's grid carries
 * function pointers; a kernel gets the rule instead. */
#ifndef NB_CUDA_QUANT_GRID_H
#define NB_CUDA_QUANT_GRID_H

#include "device.h"
#include "half.h"

struct Grid {
    nb_grid_rule rule;
    int code_max, sym;
    int table, two_sided, wide; /* levels that are no whole numbers; scales in f32 */
    int zero;                   /* with a table: the code nearest to 0 */
    float far, level[NB_TABLE_MOST], mid[NB_TABLE_MOST - 1];
    uint8_t order[NB_TABLE_MOST];
    int64_t group, G; /* inputs a group (never 0), groups a row of K */
};

/* NB_UNSUPPORTED with the grid's name when the device does not know its rule. */
nb_status nb_cuda_grid(const nb_backend *be, const nb_grid *g, int64_t K, Grid *out, nb_error *err);

DEVI float half_of(float v)
{
    const float bound = v > 65504.0f ? 65504.0f : v < -65504.0f ? -65504.0f : v;
    const uint16_t h = nb_half_of(bound);
    return nb_half_get(&h);
}
DEVI float scale_of(float v) /* not to 0, which no code could be told apart on */
{
    const float h = half_of(v);
    return h != 0.0f ? h : copysignf(5.9604644775390625e-8f, v); /* 2^-24 */
}

/* Running extremes of a group; add in any order of n, the first of equal magnitudes wins in
 * order. */
struct Range {
    float lo, hi;        /* over the values alone */
    float amax, extreme; /* the largest magnitude, and the value that has it */
};
DEVI Range range_open()
{
    return {INFINITY, -INFINITY, 0.0f, 0.0f};
}
DEVI void range_add(Range *r, float w)
{
    r->lo = w < r->lo ? w : r->lo;
    r->hi = w > r->hi ? w : r->hi;
    if (fabsf(w) > r->amax) {
        r->amax = fabsf(w);
        r->extreme = w;
    }
}

/* Of the warp's group of inputs [from, to), value(k) each, in every lane. Of equal magnitudes the
 * first one's value counts, wherever lanes meet it. */
template <class Value> DEVI Range range_of(int64_t from, int64_t to, const Value &value)
{
    Range r = range_open();
    int first = 0;
    for (int64_t k = from + (threadIdx.x & 31); k < to; k += 32) {
        const float before = r.amax;
        range_add(&r, value(k));
        first = r.amax > before ? (int)(k - from) : first;
    }
#pragma unroll
    for (int o = 16; o; o >>= 1) {
        const float lo = __shfl_xor_sync(0xffffffffu, r.lo, o),
                    hi = __shfl_xor_sync(0xffffffffu, r.hi, o),
                    amax = __shfl_xor_sync(0xffffffffu, r.amax, o),
                    extreme = __shfl_xor_sync(0xffffffffu, r.extreme, o);
        const int at = __shfl_xor_sync(0xffffffffu, first, o);
        r.lo = lo < r.lo ? lo : r.lo;
        r.hi = hi > r.hi ? hi : r.hi;
        if (amax > r.amax || (amax == r.amax && at < first)) {
            r.amax = amax;
            r.extreme = extreme;
            first = at;
        }
    }
    return r;
}

DEVI int nearest_to(const Grid &g, float t)
{
    int rank = 0;
#pragma unroll
    for (int i = 0; i < NB_TABLE_MOST - 1; i++)
        rank += g.mid[i] < t;
    return g.order[rank];
}

DEVI nb_group params_of_table(const Grid &g, const Range &r)
{
    const float s = (g.two_sided ? r.amax : r.extreme) / g.far, most = 3.402823466e+38f;
    return {!(r.amax > 0.0f) ? 0.0f
            : !g.wide        ? scale_of(s)
            : s > most       ? most
            : s < -most      ? -most
                             : s,
            (float)g.zero, 0.0f};
}
DEVI nb_group params_of_numbers(const Grid &g, const Range &r)
{
    nb_group out = {0.0f, 0.0f, 0.0f};
    const float q = (float)g.code_max, half = (q + 1.0f) * 0.5f;
    float lo = r.lo < 0.0f ? r.lo : 0.0f, hi = r.hi > 0.0f ? r.hi : 0.0f;
    if (g.rule == NB_RULE_EXTREME) {
        out.scale = r.amax > 0.0f ? scale_of(r.extreme / -half) : 0.0f;
        out.zero = half;
    } else if (g.rule == NB_RULE_AFFINE) {
        const bool some = r.lo <= r.hi;
        out.scale = some && r.hi > r.lo ? scale_of((r.hi - r.lo) / q) : 0.0f;
        out.min = some ? half_of(r.lo) : 0.0f;
    } else if (g.rule == NB_RULE_ABSMAX) {
        const float amax = -lo > hi ? -lo : hi;
        out.scale = amax > 0.0f ? scale_of(amax / (half - 1.0f)) : 0.0f;
        out.zero = half;
    } else {
        if (lo == 0.0f && hi == 0.0f) {
            lo = -1.0f;
            hi = 1.0f;
        }
        if (g.sym) {
            hi = -lo > hi ? -lo : hi;
            lo = -hi;
        }
        out.scale = scale_of((hi - lo) / q);
        const float z = rintf(-lo / out.scale);
        out.zero = g.sym ? half : z < q ? z : q;
    }
    return out;
}

DEVI int round_to_table(const Grid &g, const nb_group &p, float w)
{
    const float least = 1e-38f, s = fabsf(p.scale) < least ? copysignf(least, p.scale) : p.scale;
    return p.scale == 0.0f ? (int)p.zero : nearest_to(g, mul_rn(w, 1.0f / s));
}
DEVI int round_to_numbers(const Grid &g, const nb_group &p, float w)
{
    if (p.scale == 0.0f)
        return (int)p.zero;
    const float q = g.rule == NB_RULE_EXTREME ? mul_rn(w, 1.0f / p.scale) + (p.zero + 0.5f)
                                              : rintf((w - p.min) / p.scale) + p.zero;
    return q > 0.0f ? q < (float)g.code_max ? (int)q : g.code_max : 0;
}

/* Which of both a kernel is compiled for, so that whole numbers do not pay for levels. */
template <bool kTable> DEVI nb_group params_of(const Grid &g, const Range &r)
{
    return kTable ? params_of_table(g, r) : params_of_numbers(g, r);
}
template <bool kTable> DEVI int round_to(const Grid &g, const nb_group &p, float w)
{
    return kTable ? round_to_table(g, p, w) : round_to_numbers(g, p, w);
}
/* not fused: the host's is not */
template <bool kTable> DEVI float value_of(const Grid &g, const nb_group &p, int code)
{
    const float v = mul_rn(p.scale, kTable ? g.level[code] : (float)code - p.zero);
    return kTable ? v : v + p.min;
}

#endif
