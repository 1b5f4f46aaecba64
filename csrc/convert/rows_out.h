/* rows_out.h -- rows of a matrix into a tensor of a file in the making: other number formats, other
 * orders of rows. */
#ifndef NB_CONVERT_ROWS_OUT_H
#define NB_CONVERT_ROWS_OUT_H

#include "dtype/matrix.h"
#include "file/container.h"

/* Rows of a head of d in the order of the output: GGUF pairs what a folder halves (row 2 i + s
 * there is row s d / 2 + i here). */
typedef enum nb_row_order { NB_ROWS_SAME, NB_ROWS_TO_PAIRS, NB_ROWS_TO_HALVES } nb_row_order;

/* Where rows go. */
typedef struct nb_rows_out {
    nb_status (*write)(void *file, int index, size_t offset, const void *p, size_t bytes,
                       nb_error *err);
    void *file;
    int index; /* of the tensor */
    const nb_dtype *type;
    int64_t row; /* the first one written */
    nb_row_order order;
    int64_t head; /* rows of a head; for NB_ROWS_SAME nobody reads it */
    bool exact;   /* codes are rewritten only where every value stays what it is, and no number
                 * becomes an infinity */
    const char *path, *name; /* of the tensor, for errors */
    int n_thread;
} nb_rows_out;

/* Writes the rows of m: copied when m has the format, else decoded and encoded in slices of rows on
 * n_thread threads. m is canonical or rows of a format. NB_UNSUPPORTED: there is no such way, or
 * with `exact` a value would change; NB_BAD_INPUT: NaN or Inf where the format has none. */
nb_status nb_write_rows(const nb_rows_out *to, const nb_matrix *m, nb_error *err) NB_CHECKED;

/* The row of the source that becomes row r. */
int64_t nb_row_from(nb_row_order order, int64_t head, int64_t r);

/* The tensor as a matrix: all but the last dimension are rows. */
nb_matrix nb_tensor_matrix(const nb_tensor *t);

#endif
