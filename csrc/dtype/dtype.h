/* dtype.h -- number formats: how a run of values lies in bytes. One row per format, one file per
 * family.
 *
 * A format cuts a row of K values into blocks of `block` values, `bytes` bytes each. Everything
 * above asks the row; a `switch` over formats anywhere else is a design fault. Layouts:
 * docs/FORMATS.md (facts of the GGUF and safetensors specifications).
 *
 * Canonical description: value = scale * code + min, or scale * table[code], one scale (and min)
 * per `group` values. A format whose values are not of that kind (floats) says
 * NB_CANON_NONE and is served by decode alone. */
#ifndef NB_DTYPE_DTYPE_H
#define NB_DTYPE_DTYPE_H

#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum nb_canon_kind {
    NB_CANON_NONE, /* decode only */
    /* scale * code + min. Without a min of its own a format has min = -zero * scale, and both forms
     * are exact in f32: a scale of at most 18 bits times a code of at most 6, or 11 times 8. */
    NB_CANON_AFFINE,
    NB_CANON_TABLE /* scale * table[code]; split sets min to 0 */
} nb_canon_kind;

/* How the scale, zero and min of a group follow from its values w, c = code_max; scale and min are
 * rounded to what the format stores (grid.c; the CUDA backend has the same formulas). */
typedef enum nb_grid_rule {
    NB_RULE_NONE,    /* not a grid */
    NB_RULE_INT,     /* integer grids: from lo = min(0, w) to hi = max(0, w) */
    NB_RULE_EXTREME, /* scale = signed extreme / -zero, zero = (c + 1) / 2: the extreme has code 0
                      */
    NB_RULE_AFFINE,  /* scale = (max - min) / c, min; zero 0 */
    NB_RULE_ABSMAX,  /* scale = max |w| / (zero - 1), zero = (c + 1) / 2 */
    NB_RULE_TABLE    /* with a table: its farthest level meets the extreme */
} nb_grid_rule;

/* What scale and min are stored as. */
typedef enum nb_scale_kind { NB_SCALE_F16, NB_SCALE_F32 } nb_scale_kind;

typedef struct nb_dtype {
    const char *name; /* lower case: "f32", "q4_0"; the GGUF name in lower case */
    int ggml_id;      /* GGUF tensor type id, -1 if GGUF has none */
    int file_type;    /* general.file_type of a GGUF file of this format; 0 is F32's, and in other
                         rows means that there is none */
    const char *st_name; /* safetensors dtype ("F32"), NULL if none */
    int block;           /* values a block */
    int bytes;           /* bytes a block */
    /* Decodes n_block blocks into n_block * block floats, exactly as the format defines (IEEE f32
     * arithmetic in the documented order). src is unaligned. NULL: whole numbers, no weights (i8,
     * bool ...); readers check. */
    void (*decode)(const uint8_t *src, float *dst, int64_t n_block);
    /* Encodes n_block * block floats, round to nearest as the format's reference encoder does.
     * Values beyond the format's range, infinities and NaN give blocks that mean nothing, nothing
     * worse. NULL: nibble does not write this format. */
    void (*encode)(const float *src, uint8_t *dst, int64_t n_block);

    /* Canonical form; zeros when canon is NB_CANON_NONE. */
    nb_canon_kind canon;
    int bits;           /* of a code: 2 3 4 5 6 8 */
    int group;          /* values that share scale and min; divides block */
    const float *table; /* [1 << bits], finite, bits at most 4; or NULL */
    bool has_min;       /* false: min is the constant multiple -zero * scale */
    int zero;           /* the constant integer zero when !has_min (Q4_0: 8, Q8_0: 128 because codes
                           are unsigned here) */
    /* Splits blocks: code [n_block * block] unsigned, scale and min [n_block * block / group] f32.
     * NULL when NB_CANON_NONE. */
    void (*split)(const uint8_t *src, int64_t n_block, uint8_t *code, float *scale, float *min);
    /* Two levels of scales, for kernels that keep them so: scale = level_gain d level[g], min =
     * -dmin level[G + g], all exact in f32; G groups in n_block blocks of 256. d, dmin: f16, one a
     * block, dmin [n_block] behind d. Levels lie in -128 .. 127; those of minima, and with 2 bits
     * all of them, fit 4 bits there. NULL: one level. */
    void (*levels)(const uint8_t *src, int64_t n_block, uint16_t *d, int8_t *level);
    float level_gain; /* a power of two */
    /* The inverse for formats that are quantization grids: codes and already rounded scales to
     * blocks. NULL if not a grid. */
    void (*join)(const uint8_t *code, const float *scale, const float *min, int64_t n_block,
                 uint8_t *dst);
    /* As a quantization grid, with join: how a group's scale, zero and min follow from its values.
     */
    nb_grid_rule rule;
    nb_scale_kind scale;
} nb_dtype;

extern const nb_dtype *const nb_dtypes[]; /* NULL-terminated; the table */

const nb_dtype *nb_dtype_by_name(const char *name);  /* case-insensitive; NULL if unknown */
const nb_dtype *nb_dtype_by_ggml_id(int id);         /* NULL if unknown or removed */
const nb_dtype *nb_dtype_by_st_name(const char *st); /* NULL if unknown */

/* Bytes of a row of k values, or -1 when k is negative, no multiple of the block or the product
 * overflows. */
int64_t nb_dtype_row_bytes(const nb_dtype *t, int64_t k);
/* Decodes one row of k values (k a multiple of the block) of a format that has a decode. */
void nb_dtype_decode_row(const nb_dtype *t, const uint8_t *src, float *dst, int64_t k);

#ifdef __cplusplus
}
#endif
#endif
