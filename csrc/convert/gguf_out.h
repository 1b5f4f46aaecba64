/* gguf_out.h -- rows of a matrix into a tensor of a GGUF file in the making: other number formats, other orders of rows. */
#ifndef NB_CONVERT_GGUF_OUT_H
#define NB_CONVERT_GGUF_OUT_H

#include "dtype/matrix.h"
#include "file/container.h"

/* Where rows go. */
typedef struct nb_gguf_rows {
    nb_gguf_writer *w;
    int index;         /* of the tensor */
    const nb_dtype *type;
    int64_t row;       /* the first one written */
    int64_t pair;      /* row 2 i + s of every so many is row s pair / 2 + i of the matrix (halves become neighbours); 0: the same order */
    bool exact;        /* codes are rewritten only where every value stays what it is */
    const char *path, *name; /* of the tensor, for errors */
    int n_thread;
} nb_gguf_rows;

/* Writes the rows of m: copied when m has the format, else decoded and encoded in slices of rows on n_thread threads. m is canonical (joined; the type must
 * be a grid of m's groups) or rows of a format. NB_UNSUPPORTED: there is no such way, or with `exact` a value would change. */
nb_status nb_gguf_out_rows(const nb_gguf_rows *to, const nb_matrix *m, nb_error *err) NB_CHECKED;

/* The row of a matrix in halves that is row r of it in pairs. */
static inline int64_t nb_gguf_paired(int64_t r, int64_t pair)
{
    const int64_t j = r % pair;
    return r - j + (j % 2) * (pair / 2) + j / 2;
}

/* The tensor as a matrix: all but the last dimension are rows. */
nb_matrix nb_gguf_out_matrix(const nb_tensor *t);

/* GGUF's general.file_type for a file whose matrices are mostly of format t. */
uint32_t nb_gguf_file_type(const nb_dtype *t);

#endif
