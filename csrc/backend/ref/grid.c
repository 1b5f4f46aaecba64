/* grid.c -- round to nearest and back, group by group; a row has ceil(K / group) groups, the last
 * one may be short.
 *
 *   quantize_rows   groups[n][g] = params(w of the group),  codes = clamp(rne((w - min) / scale) +
 *                   zero)
 *   dequantize      q = scale * (code - zero) + min
 * or, with a table, the code of the level nearest to w / scale, and q = scale * table[code].
 *
 * Both are f32 by definition (grid.h): a code that came out of wider arithmetic would not be the
 * code that the format promises. */
#include "backend/ref/ref_ops.h"

nb_status nb_ref_quantize_rows(nb_backend *be, const nb_quantize_rows_args *a, nb_error *err)
{
    (void)be, (void)err;
    const int64_t K = a->K, group = nb_grid_group(a->grid, K);
    const int64_t G = (K + group - 1) / group;
    for (int64_t n = 0; n < a->N; n++)
        for (int64_t g = 0; g < G; g++) {
            const int64_t first = g * group, end = first + group < K ? first + group : K;
            nb_group *p = &a->groups[n * G + g];
            a->grid->params(a->grid, a->w + n * K + first, (int)(end - first), p);
            for (int64_t k = first; a->codes && k < end; k++)
                a->codes[n * K + k] = (uint8_t)nb_grid_round(a->grid, p, a->w[n * K + k]);
        }
    return NB_OK;
}

nb_status nb_ref_dequantize(nb_backend *be, const nb_dequantize_args *a, nb_error *err)
{
    (void)be, (void)err;
    const int64_t K = a->K, group = nb_grid_group(a->grid, K);
    const int64_t G = (K + group - 1) / group;
    for (int64_t n = 0; n < a->N; n++)
        for (int64_t k = 0; k < K; k++)
            a->q[n * K + k] =
                nb_grid_value(a->grid, &a->groups[n * G + k / group], a->codes[n * K + k]);
    return NB_OK;
}
