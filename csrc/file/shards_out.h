/* shards_out.h -- the tensors of a folder in the making, as one safetensors file or as several of a
 * size that can be handled:
 *
 *   model.safetensors    or    model-00001-of-00003.safetensors ... and
 *                              model.safetensors.index.json, which is written last
 *
 * Declared first, as in safetensors_out.h; a tensor keeps the place it was given whatever shard it
 * comes to lie in. */
#ifndef NB_FILE_SHARDS_OUT_H
#define NB_FILE_SHARDS_OUT_H

#include "dtype/dtype.h"

typedef struct nb_shards_out nb_shards_out;

typedef struct nb_shards_spec {
    const char *folder;  /* there, the caller's own; NAME.partial in it until finish */
    int64_t shard_bytes; /* of data, at most, unless a single tensor is larger; 0: 5 GB */
    bool resume;         /* the files are there from an earlier run */
    bool measure;        /* no files: sizes only */
} nb_shards_spec;

nb_status nb_shards_out_open(const nb_shards_spec *spec, nb_shards_out **out,
                             nb_error *err) NB_CHECKED;
/* name is borrowed until close. */
nb_status nb_shards_out_tensor(nb_shards_out *w, const char *name, const nb_dtype *t, int n_dim,
                               const int64_t *shape, int *index, nb_error *err) NB_CHECKED;
/* The tensor will be marked, not written: it reads as zero and takes no room. Before begin. */
void nb_shards_out_hole(nb_shards_out *w, int index);
/* Makes the files, checks free disk, writes the headers. */
nb_status nb_shards_out_begin(nb_shards_out *w, nb_error *err) NB_CHECKED;
nb_status nb_shards_out_data(nb_shards_out *w, int index, size_t offset, const void *p,
                             size_t bytes, nb_error *err) NB_CHECKED;
nb_status nb_shards_out_read(const nb_shards_out *w, int index, size_t offset, void *p,
                             size_t bytes, nb_error *err) NB_CHECKED;
void nb_shards_out_mark(nb_shards_out *w, int index);
bool nb_shards_out_touched(const nb_shards_out *w, int index);
size_t nb_shards_out_tensor_bytes(const nb_shards_out *w, int index);
const char *nb_shards_out_file(const nb_shards_out *w, int index); /* its name in the folder */
/* of all files; valid after begin */
size_t nb_shards_out_total_bytes(const nb_shards_out *w);
/* Calls back for every file that finish leaves, its index last, with the SHA-256 of its bytes. */
nb_status nb_shards_out_files(const nb_shards_out *w,
                              nb_status (*file)(void *arg, const char *name, size_t bytes,
                                                const uint8_t sha256[32], nb_error *err),
                              void *arg, nb_error *err) NB_CHECKED;
nb_status nb_shards_out_sync(nb_shards_out *w, nb_error *err) NB_CHECKED;
/* Closes the files, synced; NB_INTERNAL when a tensor is not wholly written. Then the index. */
nb_status nb_shards_out_finish(nb_shards_out *w, nb_error *err) NB_CHECKED;
/* After a finish that failed: a file is gone, because what is on disk of it is not known (a failed
 * sync). */
bool nb_shards_out_lost(const nb_shards_out *w);
void nb_shards_out_close(nb_shards_out *w); /* the files stay; NULL is fine */

#endif
