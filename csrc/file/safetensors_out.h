/* safetensors_out.h -- one safetensors file in the making: declared first, so that every offset is
 * known before the first byte of data.
 *
 *   | u64 bytes of the header | header (JSON, padded with spaces so that data begins at a multiple of 8) | tensors without gaps, in the order declared |
 *
 * Its metadata is {"format":"pt"}, without which some readers refuse a file. One thread. */
#ifndef NB_FILE_SAFETENSORS_OUT_H
#define NB_FILE_SAFETENSORS_OUT_H

#include "dtype/dtype.h"

typedef struct nb_st_writer nb_st_writer;

nb_status nb_st_writer_open(const char *path, nb_st_writer **out, nb_error *err) NB_CHECKED;
/* The same in a folder of the caller's own, as PATH.partial until commit, which stays when the
 * process ends. resume: it is there from an earlier run, under either name; what that run wrote
 * counts when it is marked. */
nb_status nb_st_writer_open_in(const char *path, bool resume, nb_st_writer **out,
                               nb_error *err) NB_CHECKED;
/* No file: sizes only. */
nb_status nb_st_writer_open_measure(const char *path, nb_st_writer **out, nb_error *err) NB_CHECKED;
/* shape outermost first, n_dim at most 8. Returns the tensor's place through *index.
 * NB_UNSUPPORTED: a type or a shape that safetensors has no place for. */
nb_status nb_st_writer_tensor(nb_st_writer *w, const char *name, const nb_dtype *t, int n_dim,
                              const int64_t *shape, int *index, nb_error *err) NB_CHECKED;
/* So many bytes of tensors are never written, but marked: they read as zero and take no room.
 * Before begin. */
void nb_st_writer_set_holes(nb_st_writer *w, size_t bytes);
/* Checks free disk for the whole file (NB_NO_ROOM with the missing bytes), writes the header. */
nb_status nb_st_writer_begin(nb_st_writer *w, nb_error *err) NB_CHECKED;
nb_status nb_st_writer_data(nb_st_writer *w, int index, size_t offset, const void *p, size_t bytes,
                            nb_error *err) NB_CHECKED;
nb_status nb_st_writer_read(const nb_st_writer *w, int index, size_t offset, void *p, size_t bytes,
                            nb_error *err) NB_CHECKED;
/* Of the file as commit will leave it. */
nb_status nb_st_writer_hash(const nb_st_writer *w, uint8_t sha256[32], nb_error *err) NB_CHECKED;
void nb_st_writer_mark(nb_st_writer *w, int index);          /* as wholly written */
bool nb_st_writer_touched(const nb_st_writer *w, int index); /* by this process */
size_t nb_st_writer_tensor_bytes(const nb_st_writer *w, int index);
size_t nb_st_writer_total_bytes(const nb_st_writer *w); /* valid after begin */
nb_status nb_st_writer_sync(nb_st_writer *w, nb_error *err) NB_CHECKED;
/* NB_INTERNAL when a tensor is not wholly written */
nb_status nb_st_writer_commit(nb_st_writer *w, nb_error *err) NB_CHECKED;
/* removes the partial file unless committed or opened `in`; NULL is fine */
void nb_st_writer_close(nb_st_writer *w);

#endif
