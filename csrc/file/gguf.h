/* gguf.h -- the GGUF container, v2 and v3: keys, tensor directory; data stays mapped. Layout:
 * docs/FORMATS.md. */
#ifndef NB_FILE_GGUF_H
#define NB_FILE_GGUF_H

#include "base/memory.h"
#include "dtype/dtype.h"

typedef enum nb_gguf_type {
    NB_GGUF_U8,
    NB_GGUF_I8,
    NB_GGUF_U16,
    NB_GGUF_I16,
    NB_GGUF_U32,
    NB_GGUF_I32,
    NB_GGUF_F32,
    NB_GGUF_BOOL,
    NB_GGUF_STRING,
    NB_GGUF_ARRAY,
    NB_GGUF_U64,
    NB_GGUF_I64,
    NB_GGUF_F64
} nb_gguf_type;

typedef struct nb_str { /* borrowed, not NUL-terminated */
    const char *p;
    size_t n;
} nb_str;

typedef struct nb_gguf_kv {
    nb_str key;
    nb_gguf_type type; /* NB_GGUF_ARRAY: of `elem` */
    nb_gguf_type elem;
    uint64_t count; /* elements of an array; 1 otherwise */
    const uint8_t *
        p; /* the value's bytes as in the file (an array's elements, a string's u64 length first) */
    size_t bytes;
    int64_t offset; /* of p in the file */
} nb_gguf_kv;

typedef struct nb_tensor { /* one tensor of a container; everything is borrowed from it */
    const char
        *name; /* NUL-terminated, escaped text never needed: names hold no control characters */
    const nb_dtype *dtype;
    int n_dim;
    int64_t shape[8];    /* outermost first ([N,K] as in torch), 1 beyond n_dim */
    const uint8_t *data; /* unaligned */
    size_t bytes;
    uint64_t offset; /* of data in its file */
    int32_t part;    /* which of the container's files that is, from 0 */
} nb_tensor;

typedef struct nb_gguf {
    const char *path;
    uint32_t version, alignment;
    int64_t n_kv, n_tensor;
    const nb_gguf_kv *kv;
    const nb_tensor *tensor;        /* in file order, which is the order of their data */
    uint32_t split_no, split_count; /* part no (from 0) of count files; 0 of 1: the file is whole */
    int64_t split_n_tensor;         /* of all parts, as this one says; -1: it does not say */
    size_t end; /* bytes up to the end of the last tensor and its padding; what lies beyond is
                   nobody's */
} nb_gguf;

/* Parses n bytes. The result borrows p and path. All of it is validated before it returns: every
 * count, length and range, names (unique, printable), the data's order (each tensor directly behind
 * the padding of the one before). One part of a split model is parsed like a whole file:
 * container.c looks for the others. NB_UNSUPPORTED: another version, big-endian, an unknown tensor
 * type. */
nb_status nb_gguf_parse(const char *path, const uint8_t *p, size_t n, nb_gguf **out,
                        nb_error *err) NB_CHECKED;
void nb_gguf_close(nb_gguf *g);

const nb_gguf_kv *nb_gguf_find(const nb_gguf *g, const char *key); /* NULL if absent */

/* Typed reads of a required key: NB_BAD_INPUT naming the key when it is absent or of another type.
 * Integers accept any integer type whose value fits. */
nb_status nb_gguf_u32(const nb_gguf *g, const char *key, uint32_t *out, nb_error *err) NB_CHECKED;
nb_status nb_gguf_f32(const nb_gguf *g, const char *key, float *out,
                      nb_error *err) NB_CHECKED; /* f32 or f64 */
nb_status nb_gguf_bool(const nb_gguf *g, const char *key, bool *out, nb_error *err) NB_CHECKED;
nb_status nb_gguf_string(const nb_gguf *g, const char *key, nb_str *out, nb_error *err) NB_CHECKED;
/* Arrays, converted into the arena: n elements. i32s: of i32, or u32 that fits; f32s: of f32, or
 * f64. */
nb_status nb_gguf_strings(const nb_gguf *g, const char *key, nb_arena *a, nb_str **out, size_t *n,
                          nb_error *err) NB_CHECKED;
nb_status nb_gguf_i32s(const nb_gguf *g, const char *key, nb_arena *a, int32_t **out, size_t *n,
                       nb_error *err) NB_CHECKED;
nb_status nb_gguf_f32s(const nb_gguf *g, const char *key, nb_arena *a, float **out, size_t *n,
                       nb_error *err) NB_CHECKED;

/* ---- writing (one thread): declare keys and tensors, begin, stream the data in any order, commit
 * ---- The file has a partial name beside its final one until nb_gguf_writer_commit, which syncs,
 * renames and syncs the folder. */
typedef struct nb_gguf_writer nb_gguf_writer;
nb_status nb_gguf_writer_open(const char *path, nb_gguf_writer **out, nb_error *err) NB_CHECKED;
/* The same with a partial file of the caller's that outlives the process (outfile.h). resume: what
 * an earlier run declared must be declared again, in the same order; begin then compares the header
 * (NB_BAD_INPUT) in place of writing it. */
nb_status nb_gguf_writer_open_at(const char *path, const char *partial, bool resume,
                                 nb_gguf_writer **out, nb_error *err) NB_CHECKED;
/* No file at all: sizes are counted, data is thrown away. */
nb_status nb_gguf_writer_open_measure(const char *path, nb_gguf_writer **out,
                                      nb_error *err) NB_CHECKED;
nb_status nb_gguf_writer_copy(nb_gguf_writer *w, const nb_gguf_kv *kv,
                              nb_error *err) NB_CHECKED; /* a key as another file has it */
nb_status nb_gguf_writer_u32(nb_gguf_writer *w, const char *key, uint32_t v,
                             nb_error *err) NB_CHECKED;
nb_status nb_gguf_writer_f32(nb_gguf_writer *w, const char *key, float v, nb_error *err) NB_CHECKED;
nb_status nb_gguf_writer_bool(nb_gguf_writer *w, const char *key, bool v, nb_error *err) NB_CHECKED;
nb_status nb_gguf_writer_string(nb_gguf_writer *w, const char *key, const char *s, size_t n,
                                nb_error *err) NB_CHECKED;
nb_status nb_gguf_writer_strings(nb_gguf_writer *w, const char *key, const nb_str *s, size_t n,
                                 nb_error *err) NB_CHECKED;
nb_status nb_gguf_writer_i32s(nb_gguf_writer *w, const char *key, const int32_t *v, size_t n,
                              nb_error *err) NB_CHECKED;
nb_status nb_gguf_writer_f32s(nb_gguf_writer *w, const char *key, const float *v, size_t n,
                              nb_error *err) NB_CHECKED;
/* shape outermost first. Returns the tensor's index through *index. */
nb_status nb_gguf_writer_tensor(nb_gguf_writer *w, const char *name, const nb_dtype *t, int n_dim,
                                const int64_t *shape, int *index, nb_error *err) NB_CHECKED;
/* Checks free disk for the whole file (NB_NO_ROOM with the missing bytes), writes the header. */
nb_status nb_gguf_writer_begin(nb_gguf_writer *w, nb_error *err) NB_CHECKED;
nb_status nb_gguf_writer_data(nb_gguf_writer *w, int index, size_t offset, const void *p,
                              size_t bytes, nb_error *err) NB_CHECKED;
/* Before begin: so many bytes of data will stay holes, because they are holes in the source. */
void nb_gguf_writer_set_holes(nb_gguf_writer *w, size_t bytes);
nb_status nb_gguf_writer_read(const nb_gguf_writer *w, int index, size_t offset, void *p,
                              size_t bytes, nb_error *err) NB_CHECKED;
/* The head: all before the first tensor's data; valid after begin. */
size_t nb_gguf_writer_head_bytes(const nb_gguf_writer *w);
nb_status nb_gguf_writer_read_head(const nb_gguf_writer *w, size_t offset, void *p, size_t bytes,
                                   nb_error *err) NB_CHECKED;
/* All of the tensor is there, an earlier run's or a hole: nothing to do when this run wrote to
 * it. */
void nb_gguf_writer_mark(nb_gguf_writer *w, int index);
/* data was written in this run, or marked */
bool nb_gguf_writer_touched(const nb_gguf_writer *w, int index);
size_t nb_gguf_writer_tensor_bytes(const nb_gguf_writer *w, int index);
nb_status nb_gguf_writer_sync(nb_gguf_writer *w, nb_error *err) NB_CHECKED;
size_t
nb_gguf_writer_total_bytes(const nb_gguf_writer *w); /* of the finished file; valid after begin */
nb_status nb_gguf_writer_commit(nb_gguf_writer *w, nb_error *err)
    NB_CHECKED; /* fails when a tensor is not wholly written */
/* The half of commit before the rename: complete, synced, closed (nb_gguf_writer_open_at). */
nb_status nb_gguf_writer_finish(nb_gguf_writer *w, nb_error *err) NB_CHECKED;
void nb_gguf_writer_close(
    nb_gguf_writer *w); /* removes the partial file unless committed; NULL is fine */

#endif
