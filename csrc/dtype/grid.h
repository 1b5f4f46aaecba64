/* grid.h -- what values can be: the number format a quantizer rounds into, as two callbacks, so
 * that RTN, GPTQ and every other quantizer works with every grid.
 *
 * value = scale * (code - zero) + min, 0 <= code <= code_max, one {scale, zero, min} per group of
 * `group` inputs of a row. Integer grids have min = 0; Q4_1 has zero = 0. Or, of a format with a
 * table of up to 16 uneven levels, value = scale * table[code]. Scales are rounded to their storage
 * type (f16 or f32) before any code is computed. */
#ifndef NB_DTYPE_GRID_H
#define NB_DTYPE_GRID_H

#include "dtype/dtype.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { NB_TABLE_MOST = 16 }; /* levels of a table */

typedef struct nb_group {
    /* Finite, and not 0 unless the group needs no codes: all values zero (q4_0, q5_0, q8_0, tables)
     * or all equal (q4_1, q5_1), where the format stores 0 and every code is `zero`. */
    float scale;
    float zero; /* integer valued; with a table the code nearest to 0, which no value depends on */
    float min;
} nb_group;

typedef struct nb_grid {
    char name[32]; /* "q4_0", "int4" ... */
    int bits;
    int code_max;          /* (1 << bits) - 1 */
    int group;             /* inputs a group; 0: the whole row */
    bool sym;              /* the range is symmetric: the zero is the same in every group */
    nb_grid_rule rule;     /* what params computes, for devices that cannot call it */
    const nb_dtype *dtype; /* the format its groups are stored in, NULL for int grids */
    /* Levels that are no whole numbers: code c stands for table[c] steps. In ascending order they
     * have the codes order[0], order[1] ..., the bounds mid[i] between them: (lower + upper) / 2,
     * infinite behind the last. NULL: value = scale * (code - zero) + min. */
    const float *table;
    float mid[NB_TABLE_MOST - 1];
    uint8_t order[NB_TABLE_MOST];
    float far;      /* the level of greatest magnitude, sign included, the first of equals ... */
    bool two_sided; /* ... and the table reaches as far on the other side: far is positive then */
    /* Scale, zero and min of one group from its n current values (0 < n <= group; the last group of
     * a row may be short). Values are finite and |w| below 65504 times the steps of the format: a
     * scale beyond f16 is held at 65504, one beyond f32 at the largest number. */
    void (*params)(const struct nb_grid *g, const float *w, int n, nb_group *out);
} nb_grid;

/* Builds a grid by name: a number format that has a rule ("q4_0" ...), or "int2" "int3" "int4"
 * "int8", in any case. group and sym matter for int grids only (group 0: row). NB_USAGE with the
 * list of names when unknown, or when group is negative. */
nb_status nb_grid_find(const char *name, int group, bool sym, nb_grid *out,
                       nb_error *err) NB_CHECKED;

/* The grid of a number format that has a rule. */
void nb_grid_of(const nb_dtype *t, nb_grid *out);

/* Blocks of such a format by its own rule: the encoder of formats that round as their grid does. */
void nb_grid_encode(const nb_dtype *t, const float *src, uint8_t *dst, int64_t n_block);

/* Their names with spaces between them: the number formats, of which without `all` only those of
 * GGUF, then the whole numbers of folders. */
void nb_grid_list(bool all, char *dst, size_t n);

/* Which values a symmetric integer grid reaches: "full", scale = 2 max|w| / c, the default
 * (GPTQ's), all c + 1 codes, the extreme on the positive side is clipped; "absmax", scale = max|w|
 * / ((c - 1) / 2), codes 1 .. c, both extremes are met. NB_USAGE for another word or another kind
 * of grid. */
nb_status nb_grid_set_range(nb_grid *g, const char *word, nb_error *err) NB_CHECKED;

/* Inputs of a group in rows of K. */
static inline int64_t nb_grid_group(const nb_grid *g, int64_t K)
{
    return g->group && g->group < K ? g->group : K;
}
/* 1 / scale, which levels are looked for with; bitsandbytes' floor keeps it finite. */
static inline float nb_grid_inverse(float scale)
{
    const float least = 1e-38f, s = __builtin_fabsf(scale);
    return s < least ? __builtin_copysignf(1.0f / least, scale) : 1.0f / scale;
}
/* The code of the level nearest to t, halfway between two the lower one: as many bounds as lie
 * below t lie below its level. */
static inline int nb_grid_nearest(const nb_grid *g, float t)
{
    int rank = 0;
    for (int i = 0; i < NB_TABLE_MOST - 1; i++)
        rank += g->mid[i] < t;
    return g->order[rank];
}
/* code = clamp(rne((w - min) / scale) + zero, 0, code_max), or the nearest level of the table.
 * Inline: the sweep's inner loop. scale 0 gives zero, a NaN 0 (the lowest level).
 *
 * NB_RULE_EXTREME (q4_0 q5_0): clamp(trunc(w * (1 / scale) + (zero + 1/2)), 0, code_max), each step
 * rounded to f32, as the reference encoders compute it (legacy.c). It is the nearest code as well,
 * but for values within some 2^-20 of a step from a tie, and every twentieth block of a BF16 model
 * holds a tie: the extreme over 8 or 16 is exact in f16 then, so are the halves of steps, and the
 * bytes are the encoder's. Where the scale had to be rounded (F32 sources, other formats) the
 * nearest value to the scale that is stored is the better one, and the encoders, which go by the
 * scale before, give other bytes. */
static inline int nb_grid_round(const nb_grid *g, const nb_group *p, float w)
{
    if (p->scale == 0.0f)
        return (int)p->zero;
    if (g->table)
        return nb_grid_nearest(g, w * nb_grid_inverse(p->scale));
    const float q = g->rule == NB_RULE_EXTREME ? w * (1.0f / p->scale) + (p->zero + 0.5f)
                                               : __builtin_rintf((w - p->min) / p->scale) + p->zero;
    return q > 0.0f ? q < (float)g->code_max ? (int)q : g->code_max : 0;
}
/* The same of n values of one group, in a form that vectorises. */
static inline void nb_grid_round_n(const nb_grid *g, const nb_group *p, const float *w, int64_t n,
                                   uint8_t *code)
{
    const float scale = p->scale, zero = p->zero, min = p->min, most = (float)g->code_max;
    if (scale == 0.0f) {
        for (int64_t i = 0; i < n; i++)
            code[i] = (uint8_t)zero;
        return;
    }
    if (g->table) {
        const float inverse = nb_grid_inverse(scale);
        for (int64_t i = 0; i < n; i++)
            code[i] = (uint8_t)nb_grid_nearest(g, w[i] * inverse);
        return;
    }
    if (g->rule == NB_RULE_EXTREME) {
        const float inverse = 1.0f / scale;
        for (int64_t i = 0; i < n; i++) {
            const float q = w[i] * inverse + (zero + 0.5f), low = q > 0.0f ? q : 0.0f;
            code[i] = (uint8_t)(int)(low < most ? low : most);
        }
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        const float q = __builtin_rintf((w[i] - min) / scale) + zero, low = q > 0.0f ? q : 0.0f;
        code[i] = (uint8_t)(int)(low < most ? low : most);
    }
}
/* table NULL: whole numbers. */
static inline float nb_group_value(const nb_group *p, const float *table, int code)
{
    return table ? p->scale * table[code] : p->scale * ((float)code - p->zero) + p->min;
}
static inline float nb_grid_value(const nb_grid *g, const nb_group *p, int code)
{
    return nb_group_value(p, g->table, code);
}

#ifdef __cplusplus
}
#endif
#endif
