/* gguf_out.h -- a GGUF file that carries everything a source checkpoint says, with other number formats. */
#ifndef NB_CONVERT_GGUF_OUT_H
#define NB_CONVERT_GGUF_OUT_H

#include "dtype/matrix.h"
#include "file/container.h"

/* The format a tensor gets in the output. */
typedef const nb_dtype *(*nb_type_choice)(void *arg, const nb_tensor *t);

/* Declares all keys and tensors of src (in its order, so tensor i of the output is tensor i of src). The keys general.file_type and
 * general.quantization_version are set anew. NB_UNSUPPORTED for a source that is no GGUF file: its metadata cannot be rebuilt yet. */
nb_status nb_gguf_out_declare(const nb_container *src, uint32_t file_type, nb_type_choice choose, void *arg, nb_gguf_writer *w, nb_error *err) NB_CHECKED;

/* Writes the rows of m in format t from row `row` of tensor i on: copied when m has that format, else decoded and encoded in slices of rows on n_thread
 * threads. m is canonical (joined; t must be a grid of m's groups) or rows of a format. name: of the tensor, for errors. */
nb_status nb_gguf_out_rows(const char *path, const char *name, const nb_matrix *m, const nb_dtype *t, nb_gguf_writer *w, int i, int64_t row, int n_thread,
                           nb_error *err) NB_CHECKED;

/* The tensor as a matrix: all but the last dimension are rows. */
nb_matrix nb_gguf_out_matrix(const nb_tensor *t);

/* GGUF's general.file_type for a file whose matrices are mostly of format t. */
uint32_t nb_gguf_file_type(const nb_dtype *t);

#endif
