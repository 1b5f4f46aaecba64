/* grid.h -- the grids of csrc/dtype/grid.c in device code: the same formulas, in the same f32 operations, so that codes and scales agree with the CPU's
 * to the bit. The host's grid carries function pointers; a kernel gets the rule instead. */
#ifndef NB_CUDA_QUANT_GRID_H
#define NB_CUDA_QUANT_GRID_H

#include "device.h"
#include "half.h"

struct Grid {
    nb_grid_rule rule;
    int code_max, sym;
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

/* Running extremes of a group; add in any order of n, the first of equal magnitudes wins in order. */
struct Range {
    float lo, hi;         /* over the values alone */
    float amax, extreme;  /* the largest magnitude, and the value that has it */
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

DEVI nb_group params_of(const Grid &g, const Range &r)
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

DEVI int round_to(const Grid &g, const nb_group &p, float w)
{
    if (p.scale == 0.0f)
        return (int)p.zero;
    const float q = g.rule == NB_RULE_EXTREME ? mul_rn(w, 1.0f / p.scale) + (p.zero + 0.5f) : rintf((w - p.min) / p.scale) + p.zero;
    return q > 0.0f ? q < (float)g.code_max ? (int)q : g.code_max : 0;
}
DEVI float value_of(const nb_group &p, int code) /* not fused: the host's is not */
{
    const float v = mul_rn(p.scale, (float)code - p.zero);
    return v + p.min;
}

#endif
