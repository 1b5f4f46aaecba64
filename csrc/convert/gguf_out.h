/* gguf_out.h -- a GGUF file that carries everything a source checkpoint says, with other number formats. */
#ifndef NB_CONVERT_GGUF_OUT_H
#define NB_CONVERT_GGUF_OUT_H

#include "file/container.h"

/* The format a tensor gets in the output. */
typedef const nb_dtype *(*nb_type_choice)(void *arg, const nb_tensor *t);

/* Declares all keys and tensors of src (in its order, so tensor i of the output is tensor i of src) and begins the file. The keys
 * general.file_type and general.quantization_version are set anew.
 * NB_UNSUPPORTED for a source that is no GGUF file: its metadata cannot be rebuilt yet. NB_NO_ROOM: the disk lacks the bytes named. */
nb_status nb_gguf_out_begin(const nb_container *src, const char *path, uint32_t file_type, nb_type_choice choose, void *arg,
                            nb_gguf_writer **out, nb_error *err) NB_CHECKED;

/* Writes tensor i in format t: copied when src has that format, else decoded and encoded in slices of rows on n_thread threads. */
nb_status nb_gguf_out_convert(const nb_container *src, int64_t i, const nb_dtype *t, nb_gguf_writer *w, int n_thread, nb_error *err) NB_CHECKED;

/* GGUF's general.file_type for a file whose matrices are mostly of format t. */
uint32_t nb_gguf_file_type(const nb_dtype *t);

#endif
