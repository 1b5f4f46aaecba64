/* layout.h -- from matrices to one of the layouts of weight.h: which one (layout.c), and how it is
 * filled in (pack.c). */
#ifndef NB_BACKEND_CPU_LAYOUT_H
#define NB_BACKEND_CPU_LAYOUT_H

#include "backend/cpu/weight.h"
#include "base/scalar.h"

/* Parts below each other, as one matrix. */
typedef struct nb_stack {
    const nb_matrix *part;
    int n_part;
    int64_t N, K;
} nb_stack;

/* Codes, offset, zero, unit and table of w; N and K are there. */
void nb_layout_choose(const nb_stack *s, nb_weight *w);
/* The bytes of w, once the layout and the width of its scales are known. */
void nb_layout_measure(nb_weight *w);
/* Whether scales will have to be f32: a guess that need not read any rows. */
bool nb_layout_wide(const nb_stack *s);

/* 1 or 2 when that many times every entry of the table is an integer from -128 to 127; else 0. */
int nb_table_factor(const nb_dtype *t);

static inline bool nb_is_f16(float x)
{
    return nb_f32_bits(nb_f32_from_f16(nb_f16_from_f32(x))) == nb_f32_bits(x);
}

#endif
