/* gguf_write.c -- writing GGUF version 3: declared first, so that every offset is known before the
 * first byte of data.
 *
 *   declare   keys are encoded into a buffer, tensors noted with the offset they will have
 *   begin     head | keys | infos | padding to the alignment, after the disk has room for the whole
 * file data      straight to its place, in any order
 *
 * Bytes between tensors are never written: the file is sparse or reserved there, which reads as
 * zero. */
#include "file/gguf.h"
#include "base/scalar.h"
#include "file/names.h"
#include "file/outfile.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { kVersion = 3, kMaxHeader = 1 << 30, kMaxName = 63, kMaxDim = 4, kMaxTensors = 1 << 20 };

typedef struct out_tensor {
    const char *name; /* arena */
    const nb_dtype *dtype;
    int n_dim;
    int64_t shape[kMaxDim]; /* outermost first */
    size_t bytes, offset;   /* offset from the data's start */
    size_t written;
} out_tensor;

struct nb_gguf_writer {
    const char *path; /* arena */
    nb_arena *arena;
    nb_outfile *file;
    nb_buf keys;
    uint64_t n_kv;
    uint32_t alignment;
    out_tensor *tensor;
    size_t n_tensor, cap;
    size_t data_at, end; /* bytes in the file; data_at 0: not begun */
    size_t holes;        /* bytes of data that are never written */
    bool resume;         /* the file is an earlier run's */
};

/* partial NULL: a name of our own. */
static nb_status open_writer(const char *path, const char *partial, bool resume, bool measure,
                             nb_gguf_writer **out, nb_error *err)
{
    *out = NULL;
    nb_gguf_writer *w = nb_alloc_zero(1, sizeof *w, "a GGUF writer", err);
    if (!w)
        return NB_NO_ROOM;
    nb_buf_init(&w->keys, kMaxHeader);
    w->alignment = 32;
    nb_status st = NB_OK;
    w->arena = nb_arena_open("a GGUF writer", err);
    if (!w->arena || !(w->path = nb_arena_strdup(w->arena, path, strlen(path), err)))
        st = NB_NO_ROOM;
    w->resume = resume;
    if (st == NB_OK && !measure)
        st = partial ? nb_outfile_open_at(path, partial, resume, &w->file, err)
                     : nb_outfile_open(path, &w->file, err);
    if (st != NB_OK) {
        nb_gguf_writer_close(w);
        return st;
    }
    *out = w;
    return NB_OK;
}

nb_status nb_gguf_writer_open(const char *path, nb_gguf_writer **out, nb_error *err)
{
    return open_writer(path, NULL, false, false, out, err);
}

nb_status nb_gguf_writer_open_at(const char *path, const char *partial, bool resume,
                                 nb_gguf_writer **out, nb_error *err)
{
    return open_writer(path, partial, resume, false, out, err);
}

nb_status nb_gguf_writer_open_measure(const char *path, nb_gguf_writer **out, nb_error *err)
{
    return open_writer(path, NULL, false, true, out, err);
}

void nb_gguf_writer_close(nb_gguf_writer *w)
{
    if (!w)
        return;
    nb_outfile_close(w->file);
    nb_buf_free(&w->keys);
    nb_arena_close(w->arena);
    free(w->tensor);
    free(w);
}

static nb_status put_u32(nb_buf *b, uint32_t v, nb_error *err)
{
    return nb_buf_add(b, &v, sizeof v, err);
}

static nb_status put_u64(nb_buf *b, uint64_t v, nb_error *err)
{
    return nb_buf_add(b, &v, sizeof v, err);
}

static nb_status put_string(nb_buf *b, const char *s, size_t n, nb_error *err)
{
    const nb_status st = put_u64(b, n, err);
    return st == NB_OK ? nb_buf_add(b, s, n, err) : st;
}

/* One key whose value's bytes are ready. */
static nb_status put_kv(nb_gguf_writer *w, const nb_gguf_kv *kv, nb_error *err)
{
    if (w->data_at)
        return nb_fail_at(err, NB_INTERNAL, w->path, -1,
                          "a key is declared after the header was written");
    if (kv->key.n == strlen("general.alignment") &&
        memcmp(kv->key.p, "general.alignment", kv->key.n) == 0) {
        const uint32_t a = kv->type == NB_GGUF_U32 ? nb_load_u32(kv->p) : 0;
        if (a == 0 || (a & (a - 1)) || w->n_tensor)
            return nb_fail_at(
                err, NB_INTERNAL, w->path, -1,
                "general.alignment is no u32 power of two declared before all tensors");
        w->alignment = a;
    }
    nb_status st = put_string(&w->keys, kv->key.p, kv->key.n, err);
    if (st == NB_OK)
        st = put_u32(&w->keys, kv->type, err);
    if (st == NB_OK && kv->type == NB_GGUF_ARRAY)
        st = put_u32(&w->keys, kv->elem, err);
    if (st == NB_OK && kv->type == NB_GGUF_ARRAY)
        st = put_u64(&w->keys, kv->count, err);
    if (st == NB_OK)
        st = nb_buf_add(&w->keys, kv->p, kv->bytes, err);
    w->n_kv += st == NB_OK;
    return st;
}

nb_status nb_gguf_writer_copy(nb_gguf_writer *w, const nb_gguf_kv *kv, nb_error *err)
{
    return put_kv(w, kv, err);
}

static nb_status put_value(nb_gguf_writer *w, const char *key, nb_gguf_type type, nb_gguf_type elem,
                           uint64_t count, const void *p, size_t bytes, nb_error *err)
{
    const nb_gguf_kv kv = {.key = {key, strlen(key)},
                           .type = type,
                           .elem = elem,
                           .count = count,
                           .p = p,
                           .bytes = bytes};
    return put_kv(w, &kv, err);
}

nb_status nb_gguf_writer_u32(nb_gguf_writer *w, const char *key, uint32_t v, nb_error *err)
{
    return put_value(w, key, NB_GGUF_U32, 0, 1, &v, sizeof v, err);
}

nb_status nb_gguf_writer_f32(nb_gguf_writer *w, const char *key, float v, nb_error *err)
{
    return put_value(w, key, NB_GGUF_F32, 0, 1, &v, sizeof v, err);
}

nb_status nb_gguf_writer_bool(nb_gguf_writer *w, const char *key, bool v, nb_error *err)
{
    const uint8_t b = v;
    return put_value(w, key, NB_GGUF_BOOL, 0, 1, &b, sizeof b, err);
}

nb_status nb_gguf_writer_string(nb_gguf_writer *w, const char *key, const char *s, size_t n,
                                nb_error *err)
{
    nb_buf b;
    nb_buf_init(&b, kMaxHeader);
    nb_status st = put_string(&b, s, n, err);
    if (st == NB_OK)
        st = put_value(w, key, NB_GGUF_STRING, 0, 1, b.p, b.n, err);
    nb_buf_free(&b);
    return st;
}

nb_status nb_gguf_writer_strings(nb_gguf_writer *w, const char *key, const nb_str *s, size_t n,
                                 nb_error *err)
{
    nb_buf b;
    nb_status st = NB_OK;
    nb_buf_init(&b, kMaxHeader);
    for (size_t i = 0; i < n && st == NB_OK; i++)
        st = put_string(&b, s[i].p, s[i].n, err);
    if (st == NB_OK)
        st = put_value(w, key, NB_GGUF_ARRAY, NB_GGUF_STRING, n, b.p, b.n, err);
    nb_buf_free(&b);
    return st;
}

nb_status nb_gguf_writer_i32s(nb_gguf_writer *w, const char *key, const int32_t *v, size_t n,
                              nb_error *err)
{
    return put_value(w, key, NB_GGUF_ARRAY, NB_GGUF_I32, n, v, n * sizeof *v, err);
}

nb_status nb_gguf_writer_f32s(nb_gguf_writer *w, const char *key, const float *v, size_t n,
                              nb_error *err)
{
    return put_value(w, key, NB_GGUF_ARRAY, NB_GGUF_F32, n, v, n * sizeof *v, err);
}

/* Bytes of a shape in a type; NB_UNSUPPORTED when GGUF cannot hold it. */
static nb_status measure(const nb_gguf_writer *w, const char *name, const nb_dtype *t, int n_dim,
                         const int64_t *shape, size_t *bytes, nb_error *err)
{
    const char *what = NULL;
    uint64_t rows = 1, total = 0;
    if (t->ggml_id < 0)
        what = "its type has no place in GGUF";
    else if (n_dim < 1 || n_dim > kMaxDim)
        what = "GGUF holds 1 to 4 dimensions";
    else if (!nb_name_ok(name, strlen(name)) || strlen(name) > kMaxName)
        what = "GGUF holds names of 1 to 63 printable bytes";
    for (int i = 0; !what && i < n_dim; i++)
        if (shape[i] < 1 || (i < n_dim - 1 && !nb_mul_ok(rows, (uint64_t)shape[i], &rows)))
            what = "GGUF holds no empty tensors";
    const int64_t row = what ? -1 : nb_dtype_row_bytes(t, shape[n_dim - 1]);
    if (!what && (row < 0 || !nb_mul_ok(rows, (uint64_t)row, &total) || total > INT64_MAX))
        what = "a row is no whole number of blocks of its type";
    if (what)
        return nb_fail_at(err, NB_UNSUPPORTED, w->path, -1, "tensor %.128s as %s: %s", name,
                          t->name, what);
    *bytes = (size_t)total;
    return NB_OK;
}

static bool padded(size_t at, size_t bytes, uint32_t alignment, size_t *out)
{
    uint64_t end = 0;
    if (!nb_add_ok(at, bytes, &end) || !nb_add_ok(end, alignment - 1, &end))
        return false;
    *out = (size_t)(end & ~(uint64_t)(alignment - 1));
    return *out <= INT64_MAX;
}

nb_status nb_gguf_writer_tensor(nb_gguf_writer *w, const char *name, const nb_dtype *t, int n_dim,
                                const int64_t *shape, int *index, nb_error *err)
{
    size_t bytes = 0;
    if (w->data_at)
        return nb_fail_at(err, NB_INTERNAL, w->path, -1,
                          "tensor %.128s is declared after the header was written", name);
    const nb_status st = measure(w, name, t, n_dim, shape, &bytes, err);
    if (st != NB_OK)
        return st;
    if (w->n_tensor == kMaxTensors)
        return nb_fail_at(err, NB_UNSUPPORTED, w->path, -1, "more than 1048576 tensors");
    if (w->n_tensor == w->cap) {
        const size_t cap = w->cap ? 2 * w->cap : 64;
        out_tensor *more = realloc(w->tensor, cap * sizeof *more);
        if (!more)
            return nb_fail(err, NB_NO_ROOM, "out of memory: %zu tensors to write", cap);
        w->tensor = more;
        w->cap = cap;
    }
    out_tensor *o = &w->tensor[w->n_tensor];
    *o = (out_tensor){.dtype = t, .n_dim = n_dim, .bytes = bytes, .offset = w->end};
    memcpy(o->shape, shape, (size_t)n_dim * sizeof *shape);
    o->name = nb_arena_strdup(w->arena, name, strlen(name), err);
    if (!o->name)
        return NB_NO_ROOM;
    if (!padded(w->end, bytes, w->alignment, &w->end))
        return nb_fail_at(err, NB_UNSUPPORTED, w->path, -1, "more than 2^63 bytes of tensors");
    *index = (int)w->n_tensor++;
    return NB_OK;
}

static const char *name_at(const void *items, size_t i, size_t *n)
{
    const char *name = ((const out_tensor *)items)[i].name;
    *n = strlen(name);
    return name;
}

static nb_status refuse_duplicates(const nb_gguf_writer *w, nb_error *err)
{
    nb_hash_key hash;
    nb_status st = NB_OK;
    nb_hash_key_draw(&hash);
    nb_names *names = nb_names_open(w->n_tensor, &hash, name_at, err);
    if (!names)
        return NB_NO_ROOM;
    for (size_t i = 0; i < w->n_tensor && st == NB_OK; i++)
        if (!nb_names_add(names, w->tensor, i))
            st = nb_fail_at(err, NB_INTERNAL, w->path, -1, "tensor %s is declared twice",
                            w->tensor[i].name);
    nb_names_close(names);
    return st;
}

static nb_status encode_header(const nb_gguf_writer *w, nb_buf *b, nb_error *err)
{
    nb_status st = nb_buf_add(b, "GGUF", 4, err);
    if (st == NB_OK)
        st = put_u32(b, kVersion, err);
    if (st == NB_OK)
        st = put_u64(b, w->n_tensor, err);
    if (st == NB_OK)
        st = put_u64(b, w->n_kv, err);
    if (st == NB_OK)
        st = nb_buf_add(b, w->keys.p, w->keys.n, err);
    for (size_t i = 0; i < w->n_tensor && st == NB_OK; i++) {
        const out_tensor *t = &w->tensor[i];
        st = put_string(b, t->name, strlen(t->name), err);
        if (st == NB_OK)
            st = put_u32(b, (uint32_t)t->n_dim, err);
        for (int k = t->n_dim - 1; k >= 0 && st == NB_OK; k--) /* innermost first */
            st = put_u64(b, (uint64_t)t->shape[k], err);
        if (st == NB_OK)
            st = put_u32(b, (uint32_t)t->dtype->ggml_id, err);
        if (st == NB_OK)
            st = put_u64(b, t->offset, err);
    }
    return st;
}

/* An earlier run's file goes on only if it was to become the same. */
static nb_status same_header(const nb_gguf_writer *w, const nb_buf *b, size_t end, nb_error *err)
{
    uint8_t last = 0;
    char *had = nb_alloc(b->n, 1, "a header", err);
    nb_status st = had ? nb_outfile_read_at(w->file, 0, had, b->n, err) : NB_NO_ROOM;
    if (st == NB_OK && end > b->n)
        st = nb_outfile_read_at(w->file, end - 1, &last, 1, err);
    if (st == NB_OK && memcmp(had, b->p, b->n) != 0)
        st = nb_fail_at(err, NB_BAD_INPUT, w->path, -1,
                        "the partial file of an earlier run has another header");
    free(had);
    return st;
}

void nb_gguf_writer_set_holes(nb_gguf_writer *w, size_t bytes)
{
    w->holes = bytes;
}

nb_status nb_gguf_writer_begin(nb_gguf_writer *w, nb_error *err)
{
    nb_buf b;
    size_t data_at = 0, end = 0;
    if (w->data_at)
        return nb_fail_at(err, NB_INTERNAL, w->path, -1, "its header is written twice");
    nb_buf_init(&b, kMaxHeader);
    nb_status st = refuse_duplicates(w, err);
    if (st == NB_OK)
        st = encode_header(w, &b, err);
    if (st == NB_OK &&
        (!padded(0, b.n, w->alignment, &data_at) || !padded(data_at, w->end, w->alignment, &end)))
        st = nb_fail_at(err, NB_UNSUPPORTED, w->path, -1, "more than 2^63 bytes");
    if (st == NB_OK && w->file && w->resume)
        st = same_header(w, &b, end, err);
    else if (st == NB_OK && w->file) {
        st = nb_outfile_reserve_sparse(w->file, end, w->holes, err);
        if (st == NB_OK)
            st = nb_outfile_write_at(w->file, 0, b.p, b.n, err);
    }
    nb_buf_free(&b);
    if (st == NB_OK) {
        w->data_at = data_at;
        w->end = end;
    }
    return st;
}

nb_status nb_gguf_writer_data(nb_gguf_writer *w, int index, size_t offset, const void *p,
                              size_t bytes, nb_error *err)
{
    if (!w->data_at || index < 0 || (size_t)index >= w->n_tensor)
        return nb_fail_at(err, NB_INTERNAL, w->path, -1,
                          "data for tensor %d, which is not declared", index);
    out_tensor *t = &w->tensor[index];
    if (offset > t->bytes || bytes > t->bytes - offset)
        return nb_fail_at(err, NB_INTERNAL, w->path, -1,
                          "tensor %s of %zu bytes gets %zu bytes at its byte %zu", t->name,
                          t->bytes, bytes, offset);
    const nb_status st =
        w->file ? nb_outfile_write_at(w->file, w->data_at + t->offset + offset, p, bytes, err)
                : NB_OK;
    t->written += st == NB_OK ? bytes : 0;
    return st;
}

nb_status nb_gguf_writer_read(const nb_gguf_writer *w, int index, size_t offset, void *p,
                              size_t bytes, nb_error *err)
{
    if (!w->data_at || !w->file || index < 0 || (size_t)index >= w->n_tensor ||
        offset > w->tensor[index].bytes || bytes > w->tensor[index].bytes - offset)
        return nb_fail_at(err, NB_INTERNAL, w->path, -1, "tensor %d is read where it has no bytes",
                          index);
    return nb_outfile_read_at(w->file, w->data_at + w->tensor[index].offset + offset, p, bytes,
                              err);
}

size_t nb_gguf_writer_head_bytes(const nb_gguf_writer *w)
{
    return w->data_at;
}

nb_status nb_gguf_writer_read_head(const nb_gguf_writer *w, size_t offset, void *p, size_t bytes,
                                   nb_error *err)
{
    if (!w->file || offset > w->data_at || bytes > w->data_at - offset)
        return nb_fail_at(err, NB_INTERNAL, w->path, -1, "its head is read where it has no bytes");
    return nb_outfile_read_at(w->file, offset, p, bytes, err);
}

void nb_gguf_writer_mark(nb_gguf_writer *w, int index)
{
    if (w->tensor[index].written == 0)
        w->tensor[index].written = w->tensor[index].bytes;
}

bool nb_gguf_writer_touched(const nb_gguf_writer *w, int index)
{
    return w->tensor[index].written != 0;
}

size_t nb_gguf_writer_tensor_bytes(const nb_gguf_writer *w, int index)
{
    return w->tensor[index].bytes;
}

nb_status nb_gguf_writer_sync(nb_gguf_writer *w, nb_error *err)
{
    return w->file ? nb_outfile_sync(w->file, err) : NB_OK;
}

size_t nb_gguf_writer_total_bytes(const nb_gguf_writer *w)
{
    return w->data_at ? w->end : 0;
}

static nb_status complete(const nb_gguf_writer *w, nb_error *err)
{
    if (!w->data_at)
        return nb_fail_at(err, NB_INTERNAL, w->path, -1, "committed before its header was written");
    for (size_t i = 0; i < w->n_tensor; i++)
        if (w->tensor[i].written != w->tensor[i].bytes)
            return nb_fail_at(err, NB_INTERNAL, w->path, -1,
                              "tensor %s is not complete: %zu of %zu bytes are written",
                              w->tensor[i].name, w->tensor[i].written, w->tensor[i].bytes);
    return NB_OK;
}

nb_status nb_gguf_writer_commit(nb_gguf_writer *w, nb_error *err)
{
    const nb_status st = complete(w, err);
    return st == NB_OK && w->file ? nb_outfile_commit(w->file, err) : st;
}

nb_status nb_gguf_writer_finish(nb_gguf_writer *w, nb_error *err)
{
    const nb_status st = complete(w, err);
    return st == NB_OK && w->file ? nb_outfile_finish(w->file, err) : st;
}
