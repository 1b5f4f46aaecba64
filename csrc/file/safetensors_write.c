/* safetensors_write.c -- see safetensors_out.h. */
#include "base/memory.h"
#include "base/sha256.h"
#include "base/text.h"
#include "file/names.h"
#include "file/outfile.h"
#include "file/safetensors_out.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { kMaxHeader = 100 * 1000 * 1000, kMaxDim = 8 }; /* what readers take */

typedef struct out_tensor {
    const char *name; /* arena */
    const nb_dtype *dtype;
    int n_dim;
    int64_t shape[kMaxDim];
    size_t bytes, offset; /* offset from the data's start */
    size_t written;
    bool marked;
} out_tensor;

struct nb_st_writer {
    const char *path; /* arena */
    nb_arena *arena;
    nb_outfile *file;
    out_tensor *tensor;
    size_t n_tensor, cap;
    size_t data_at, end; /* data_at 0: not begun; end of the data, then of the file */
    size_t holes;        /* bytes of data that are never written */
};

/* A file of a folder that outlives the process: PATH.partial until it is whole. One that was whole
 * already goes on under that name. */
static nb_status open_kept(const char *path, bool resume, nb_outfile **out, nb_error *err)
{
    const size_t n = strlen(path) + sizeof ".partial";
    char *partial = nb_alloc(n, 1, "a path", err);
    nb_status st = partial ? NB_OK : NB_NO_ROOM;
    if (st == NB_OK) {
        snprintf(partial, n, "%s.partial", path);
        if (resume && access(partial, F_OK) != 0 && access(path, F_OK) == 0)
            st = nb_outfile_rename(path, partial, err);
    }
    if (st == NB_OK)
        st = nb_outfile_open_at(path, partial, resume, out, err);
    free(partial);
    return st;
}

typedef enum mode { FRESH, IN, RESUMED, MEASURE } mode;

static nb_status open_writer(const char *path, mode how, nb_st_writer **out, nb_error *err)
{
    *out = NULL;
    nb_st_writer *w = nb_alloc_zero(1, sizeof *w, "a safetensors writer", err);
    if (!w)
        return NB_NO_ROOM;
    w->arena = nb_arena_open("a safetensors writer", err);
    nb_status st = w->arena && (w->path = nb_arena_strdup(w->arena, path, strlen(path), err))
                       ? NB_OK
                       : NB_NO_ROOM;
    if (st == NB_OK && how != MEASURE)
        st = how == FRESH ? nb_outfile_open(path, &w->file, err)
                          : open_kept(path, how == RESUMED, &w->file, err);
    if (st != NB_OK) {
        nb_st_writer_close(w);
        return st;
    }
    *out = w;
    return NB_OK;
}

nb_status nb_st_writer_open(const char *path, nb_st_writer **out, nb_error *err)
{
    return open_writer(path, FRESH, out, err);
}

nb_status nb_st_writer_open_in(const char *path, bool resume, nb_st_writer **out, nb_error *err)
{
    return open_writer(path, resume ? RESUMED : IN, out, err);
}

nb_status nb_st_writer_open_measure(const char *path, nb_st_writer **out, nb_error *err)
{
    return open_writer(path, MEASURE, out, err);
}

void nb_st_writer_close(nb_st_writer *w)
{
    if (!w)
        return;
    nb_outfile_close(w->file);
    nb_arena_close(w->arena);
    free(w->tensor);
    free(w);
}

static bool measure(const nb_dtype *t, int n_dim, const int64_t *shape, size_t *bytes)
{
    uint64_t n = (uint64_t)t->bytes;
    if (n_dim < 0 || n_dim > kMaxDim)
        return false;
    for (int i = 0; i < n_dim; i++)
        if (shape[i] < 0 || !nb_mul_ok(n, (uint64_t)shape[i], &n))
            return false;
    *bytes = (size_t)n;
    return n <= INT64_MAX;
}

static nb_status grow(nb_st_writer *w, nb_error *err)
{
    const size_t cap = w->cap ? 2 * w->cap : 64;
    out_tensor *more = w->n_tensor == w->cap ? realloc(w->tensor, cap * sizeof *more) : NULL;
    if (w->n_tensor < w->cap)
        return NB_OK;
    if (!more)
        return nb_fail(err, NB_NO_ROOM, "out of memory: %zu tensors to write", cap);
    w->tensor = more;
    w->cap = cap;
    return NB_OK;
}

nb_status nb_st_writer_tensor(nb_st_writer *w, const char *name, const nb_dtype *t, int n_dim,
                              const int64_t *shape, int *index, nb_error *err)
{
    size_t bytes = 0;
    uint64_t end = 0;
    if (w->data_at)
        return nb_fail_at(err, NB_INTERNAL, w->path, -1,
                          "tensor %.128s is declared after the header was written", name);
    if (!t->st_name || t->block != 1)
        return nb_fail_at(err, NB_UNSUPPORTED, w->path, -1,
                          "tensor %.128s as %s: safetensors has no such type", name, t->name);
    if (!nb_name_ok(name, strlen(name)) || !measure(t, n_dim, shape, &bytes) ||
        !nb_add_ok(w->end, bytes, &end) || end > INT64_MAX)
        return nb_fail_at(err, NB_UNSUPPORTED, w->path, -1,
                          "tensor %.128s has a name or a shape that safetensors has no place for",
                          name);
    nb_status st = grow(w, err);
    if (st != NB_OK)
        return st;
    out_tensor *o = &w->tensor[w->n_tensor];
    *o = (out_tensor){.dtype = t, .n_dim = n_dim, .bytes = bytes, .offset = w->end};
    memcpy(o->shape, shape, (size_t)n_dim * sizeof *shape);
    o->name = nb_arena_strdup(w->arena, name, strlen(name), err);
    if (!o->name)
        return NB_NO_ROOM;
    w->end = (size_t)end;
    *index = (int)w->n_tensor++;
    return NB_OK;
}

static const char *name_at(const void *items, size_t i, size_t *n)
{
    const char *name = ((const out_tensor *)items)[i].name;
    *n = strlen(name);
    return name;
}

static nb_status refuse_duplicates(const nb_st_writer *w, nb_error *err)
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

static void put_header(const nb_st_writer *w, nb_text *o)
{
    nb_text_add(o, "\0\0\0\0\0\0\0\0", 8);
    nb_text_puts(o, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = 0; i < w->n_tensor; i++) {
        const out_tensor *t = &w->tensor[i];
        nb_text_puts(o, ",");
        nb_text_json(o, t->name, strlen(t->name));
        nb_text_printf(o, ":{\"dtype\":\"%s\",\"shape\":[", t->dtype->st_name);
        for (int d = 0; d < t->n_dim; d++)
            nb_text_printf(o, "%s%lld", d ? "," : "", (long long)t->shape[d]);
        nb_text_printf(o, "],\"data_offsets\":[%zu,%zu]}", t->offset, t->offset + t->bytes);
    }
    nb_text_puts(o, "}");
    while (!o->failed && o->n % 8)
        nb_text_puts(o, " ");
}

void nb_st_writer_set_holes(nb_st_writer *w, size_t bytes)
{
    w->holes = bytes;
}

nb_status nb_st_writer_begin(nb_st_writer *w, nb_error *err)
{
    nb_text o = {0};
    uint64_t end = 0;
    nb_status st = w->data_at
                       ? nb_fail_at(err, NB_INTERNAL, w->path, -1, "its header is written twice")
                       : refuse_duplicates(w, err);
    if (st != NB_OK)
        return st;
    put_header(w, &o);
    st = nb_text_check(&o, "the header of a safetensors file", err);
    if (st == NB_OK && (o.n - 8 > kMaxHeader || !nb_add_ok(o.n, w->end, &end) || end > INT64_MAX))
        st = nb_fail_at(err, NB_UNSUPPORTED, w->path, -1, "a header of %zu bytes, readers take %d",
                        o.n - 8, kMaxHeader);
    if (st == NB_OK) {
        const uint64_t n = o.n - 8; /* little endian, as everything here */
        memcpy(o.p, &n, sizeof n);
        st = w->file ? nb_outfile_reserve_sparse(w->file, (size_t)end, w->holes, err) : NB_OK;
    }
    if (st == NB_OK && w->file)
        st = nb_outfile_write_at(w->file, 0, o.p, o.n, err);
    if (st == NB_OK) {
        w->data_at = o.n;
        w->end = (size_t)end;
    }
    nb_text_free(&o);
    return st;
}

static nb_status check_range(const nb_st_writer *w, int index, size_t offset, size_t bytes,
                             nb_error *err)
{
    if (w->file && w->data_at && index >= 0 && (size_t)index < w->n_tensor &&
        offset <= w->tensor[index].bytes && bytes <= w->tensor[index].bytes - offset)
        return NB_OK;
    return nb_fail_at(err, NB_INTERNAL, w->path, -1, "tensor %d has no %zu bytes at its byte %zu",
                      index, bytes, offset);
}

nb_status nb_st_writer_data(nb_st_writer *w, int index, size_t offset, const void *p, size_t bytes,
                            nb_error *err)
{
    nb_status st = check_range(w, index, offset, bytes, err);
    if (st == NB_OK)
        st = nb_outfile_write_at(w->file, w->data_at + w->tensor[index].offset + offset, p, bytes,
                                 err);
    if (st == NB_OK)
        w->tensor[index].written += bytes;
    return st;
}

nb_status nb_st_writer_read(const nb_st_writer *w, int index, size_t offset, void *p, size_t bytes,
                            nb_error *err)
{
    const nb_status st = check_range(w, index, offset, bytes, err);
    return st == NB_OK ? nb_outfile_read_at(w->file, w->data_at + w->tensor[index].offset + offset,
                                            p, bytes, err)
                       : st;
}

nb_status nb_st_writer_hash(const nb_st_writer *w, uint8_t sha256[NB_SHA256_BYTES], nb_error *err)
{
    enum { kSlice = 1 << 20 };
    nb_sha256_state h;
    uint8_t *slice = nb_alloc(kSlice, 1, "a slice to hash", err);
    nb_status st = slice ? NB_OK : NB_NO_ROOM;
    nb_sha256_init(&h);
    for (size_t at = 0; at < w->end && st == NB_OK; at += kSlice) {
        const size_t n = w->end - at < kSlice ? w->end - at : kSlice;
        st = nb_outfile_read_at(w->file, at, slice, n, err);
        nb_sha256_add(&h, slice, n);
    }
    nb_sha256_end(&h, sha256);
    free(slice);
    return st;
}

size_t nb_st_writer_tensor_bytes(const nb_st_writer *w, int index)
{
    return w->tensor[index].bytes;
}

size_t nb_st_writer_total_bytes(const nb_st_writer *w)
{
    return w->end;
}

void nb_st_writer_mark(nb_st_writer *w, int index)
{
    out_tensor *t = &w->tensor[index];
    t->written = t->written < t->bytes ? t->bytes : t->written;
    t->marked = true;
}

bool nb_st_writer_touched(const nb_st_writer *w, int index)
{
    return w->tensor[index].written && !w->tensor[index].marked;
}

nb_status nb_st_writer_sync(nb_st_writer *w, nb_error *err)
{
    return w->file ? nb_outfile_sync(w->file, err) : NB_OK;
}

nb_status nb_st_writer_commit(nb_st_writer *w, nb_error *err)
{
    for (size_t i = 0; i < w->n_tensor; i++)
        if (w->tensor[i].written < w->tensor[i].bytes)
            return nb_fail_at(err, NB_INTERNAL, w->path, -1, "tensor %s is not wholly written",
                              w->tensor[i].name);
    return w->data_at && w->file ? nb_outfile_commit(w->file, err)
                                 : nb_fail_at(err, NB_INTERNAL, w->path, -1, "it was never begun");
}
