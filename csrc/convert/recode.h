/* recode.h -- codes of one format in the words of another, without rounding: only where every value
 * stays what it is. */
#ifndef NB_CONVERT_RECODE_H
#define NB_CONVERT_RECODE_H

#include "convert/rows_out.h"

/* Whether rows of m go into to->type that way: both are quantized, they differ, and the caller
 * asked for no rounding. */
bool nb_recodes(const nb_rows_out *to, const nb_matrix *m);

/* Row n of m as blocks of t. false: a value has no place there (dst then means nothing). scratch
 * [nb_recode_scratch(K)] floats. */
bool nb_recode_row(const nb_matrix *m, int64_t n, const nb_dtype *t, float *scratch, uint8_t *dst);
size_t nb_recode_scratch(int64_t K);

#endif
