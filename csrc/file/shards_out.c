/* shards_out.c -- see shards_out.h. A tensor goes into the shard that is being filled unless it
 * would pass the limit; then a new one begins. */
#include "file/shards_out.h"
#include "base/memory.h"
#include "base/sha256.h"
#include "base/text.h"
#include "file/outfile.h"
#include "file/safetensors_out.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INDEX "model.safetensors.index.json"
enum { kPath = 4096, kMaxDim = 8, kMaxShards = 99999 };

typedef struct declared {
    const char *name;
    const nb_dtype *dtype;
    int n_dim, shard, at; /* at: its place in the shard's writer */
    int64_t shape[kMaxDim];
    size_t bytes;
    bool hole;
} declared;

typedef struct shard {
    char name[40];
    nb_st_writer *w;
    size_t holes; /* bytes */
} shard;

struct nb_shards_out {
    nb_shards_spec spec;
    char *folder;
    declared *tensor;
    size_t n_tensor, cap, data_bytes, index_bytes;
    shard *shard;
    int n_shard;
};

nb_status nb_shards_out_open(const nb_shards_spec *spec, nb_shards_out **out, nb_error *err)
{
    *out = NULL;
    nb_shards_out *w = nb_alloc_zero(1, sizeof *w, "a folder of tensors", err);
    if (!w)
        return NB_NO_ROOM;
    w->spec = *spec;
    w->spec.shard_bytes = spec->shard_bytes > 0 ? spec->shard_bytes : (int64_t)5000000000;
    w->folder = nb_alloc(strlen(spec->folder) + 1, 1, "a path", err);
    if (!w->folder) {
        nb_shards_out_close(w);
        return NB_NO_ROOM;
    }
    memcpy(w->folder, spec->folder, strlen(spec->folder) + 1);
    *out = w;
    return NB_OK;
}

void nb_shards_out_close(nb_shards_out *w)
{
    if (!w)
        return;
    for (int i = 0; i < w->n_shard; i++)
        nb_st_writer_close(w->shard[i].w);
    free(w->shard);
    free(w->tensor);
    free(w->folder);
    free(w);
}

nb_status nb_shards_out_tensor(nb_shards_out *w, const char *name, const nb_dtype *t, int n_dim,
                               const int64_t *shape, int *index, nb_error *err)
{
    if (w->n_shard || n_dim < 0 || n_dim > kMaxDim)
        return nb_fail_at(err, NB_INTERNAL, w->folder, -1, "tensor %.128s cannot be declared",
                          name);
    if (w->n_tensor == w->cap) {
        const size_t cap = w->cap ? 2 * w->cap : 256;
        declared *more = realloc(w->tensor, cap * sizeof *more);
        if (!more)
            return nb_fail(err, NB_NO_ROOM, "out of memory: %zu tensors to write", cap);
        w->tensor = more;
        w->cap = cap;
    }
    declared *d = &w->tensor[w->n_tensor];
    *d = (declared){.name = name, .dtype = t, .n_dim = n_dim};
    uint64_t bytes = (uint64_t)t->bytes;
    for (int i = 0; i < n_dim; i++) {
        d->shape[i] = shape[i];
        if (shape[i] < 0 || !nb_mul_ok(bytes, (uint64_t)shape[i], &bytes) || bytes > INT64_MAX)
            return nb_fail_at(err, NB_UNSUPPORTED, w->folder, -1,
                              "tensor %.128s is larger than can be counted", name);
    }
    d->bytes = (size_t)bytes;
    *index = (int)w->n_tensor++;
    return NB_OK;
}

void nb_shards_out_hole(nb_shards_out *w, int index)
{
    w->tensor[index].hole = true;
}

/* Which tensor goes where. */
static void assign(nb_shards_out *w)
{
    uint64_t filled = 0;
    int at = 0;
    w->n_shard = 0;
    for (size_t i = 0; i < w->n_tensor; i++) {
        if (at && filled + w->tensor[i].bytes > (uint64_t)w->spec.shard_bytes) {
            w->n_shard++;
            filled = 0;
            at = 0;
        }
        filled += w->tensor[i].bytes;
        w->tensor[i].shard = w->n_shard;
        w->tensor[i].at = at++;
        w->data_bytes += w->tensor[i].bytes;
    }
    w->n_shard++;
}

static nb_status open_shard(nb_shards_out *w, int i, nb_error *err)
{
    char path[kPath];
    shard *s = &w->shard[i];
    if (w->n_shard == 1)
        snprintf(s->name, sizeof s->name, "model.safetensors");
    else
        snprintf(s->name, sizeof s->name, "model-%05d-of-%05d.safetensors", i + 1, w->n_shard);
    const int n = snprintf(path, sizeof path, "%s/%s", w->folder, s->name);
    if (n < 0 || n >= kPath)
        return nb_fail_at(err, NB_IO, w->folder, -1, "a path of more than %d bytes", kPath - 1);
    return w->spec.measure ? nb_st_writer_open_measure(path, &s->w, err)
                           : nb_st_writer_open_in(path, w->spec.resume, &s->w, err);
}

static void put_index(const nb_shards_out *w, nb_text *o)
{
    nb_text_printf(o, "{\n  \"metadata\": {\n    \"total_size\": %zu\n  },\n  \"weight_map\": {",
                   w->data_bytes);
    for (size_t i = 0; i < w->n_tensor; i++) {
        nb_text_puts(o, i ? ",\n    " : "\n    ");
        nb_text_json(o, w->tensor[i].name, strlen(w->tensor[i].name));
        nb_text_printf(o, ": \"%s\"", w->shard[w->tensor[i].shard].name);
    }
    nb_text_puts(o, "\n  }\n}\n");
}

nb_status nb_shards_out_begin(nb_shards_out *w, nb_error *err)
{
    assign(w);
    if (w->n_shard > kMaxShards) {
        w->n_shard = 0;
        return nb_fail_at(err, NB_UNSUPPORTED, w->folder, -1, "more than %d files", kMaxShards);
    }
    w->shard = nb_alloc_zero((size_t)w->n_shard, sizeof *w->shard, "a list of files", err);
    if (!w->shard) {
        w->n_shard = 0;
        return NB_NO_ROOM;
    }
    nb_status st = NB_OK;
    for (int i = 0; i < w->n_shard && st == NB_OK; i++)
        st = open_shard(w, i, err);
    for (size_t i = 0; i < w->n_tensor && st == NB_OK; i++) {
        const declared *d = &w->tensor[i];
        int at = 0;
        st = nb_st_writer_tensor(w->shard[d->shard].w, d->name, d->dtype, d->n_dim, d->shape, &at,
                                 err);
        if (st == NB_OK && at != d->at)
            st = nb_fail(err, NB_INTERNAL, "tensor %s got place %d of its file, not %d", d->name,
                         at, d->at);
        w->shard[d->shard].holes += d->hole ? d->bytes : 0;
    }
    for (int i = 0; i < w->n_shard && st == NB_OK; i++) {
        nb_st_writer_set_holes(w->shard[i].w, w->shard[i].holes);
        st = nb_st_writer_begin(w->shard[i].w, err);
    }
    nb_text index = {0};
    if (st == NB_OK && w->n_shard > 1) {
        put_index(w, &index);
        st = nb_text_check(&index, INDEX, err);
        w->index_bytes = index.n;
    }
    nb_text_free(&index);
    return st;
}

static nb_st_writer *writer(const nb_shards_out *w, int index)
{
    return w->shard[w->tensor[index].shard].w;
}

nb_status nb_shards_out_data(nb_shards_out *w, int index, size_t offset, const void *p,
                             size_t bytes, nb_error *err)
{
    return nb_st_writer_data(writer(w, index), w->tensor[index].at, offset, p, bytes, err);
}

nb_status nb_shards_out_read(const nb_shards_out *w, int index, size_t offset, void *p,
                             size_t bytes, nb_error *err)
{
    return nb_st_writer_read(writer(w, index), w->tensor[index].at, offset, p, bytes, err);
}

void nb_shards_out_mark(nb_shards_out *w, int index)
{
    nb_st_writer_mark(writer(w, index), w->tensor[index].at);
}

bool nb_shards_out_touched(const nb_shards_out *w, int index)
{
    return nb_st_writer_touched(writer(w, index), w->tensor[index].at);
}

size_t nb_shards_out_tensor_bytes(const nb_shards_out *w, int index)
{
    return w->tensor[index].bytes;
}

const char *nb_shards_out_file(const nb_shards_out *w, int index)
{
    return w->shard[w->tensor[index].shard].name;
}

size_t nb_shards_out_total_bytes(const nb_shards_out *w)
{
    size_t n = w->index_bytes;
    for (int i = 0; i < w->n_shard; i++)
        n += nb_st_writer_total_bytes(w->shard[i].w);
    return n;
}

nb_status nb_shards_out_sync(nb_shards_out *w, nb_error *err)
{
    nb_status st = NB_OK;
    for (int i = 0; i < w->n_shard && st == NB_OK; i++)
        st = nb_st_writer_sync(w->shard[i].w, err);
    return st;
}

bool nb_shards_out_lost(const nb_shards_out *w)
{
    char path[kPath];
    bool lost = false;
    for (int i = 0; i < w->n_shard; i++) {
        const int n = snprintf(path, sizeof path, "%s/%s", w->folder, w->shard[i].name);
        if (n < 0 || n + (int)sizeof ".partial" >= kPath || access(path, F_OK) == 0)
            continue;
        memcpy(path + n, ".partial", sizeof ".partial");
        lost = lost || access(path, F_OK) != 0;
    }
    return lost;
}

nb_status nb_shards_out_files(const nb_shards_out *w,
                              nb_status (*file)(void *arg, const char *name, size_t bytes,
                                                const uint8_t sha256[32], nb_error *err),
                              void *arg, nb_error *err)
{
    nb_status st = NB_OK;
    uint8_t sum[NB_SHA256_BYTES];
    for (int i = 0; i < w->n_shard && st == NB_OK; i++) {
        st = nb_st_writer_hash(w->shard[i].w, sum, err);
        if (st == NB_OK)
            st = file(arg, w->shard[i].name, nb_st_writer_total_bytes(w->shard[i].w), sum, err);
    }
    if (st != NB_OK || w->n_shard < 2)
        return st;
    nb_text index = {0};
    put_index(w, &index);
    st = nb_text_check(&index, INDEX, err);
    nb_sha256(index.p, index.n, sum);
    if (st == NB_OK)
        st = file(arg, INDEX, index.n, sum, err);
    nb_text_free(&index);
    return st;
}

nb_status nb_shards_out_finish(nb_shards_out *w, nb_error *err)
{
    char path[kPath], partial[kPath];
    nb_text index = {0};
    nb_outfile *f = NULL;
    nb_status st = NB_OK;
    for (int i = 0; i < w->n_shard && st == NB_OK; i++)
        st = nb_st_writer_commit(w->shard[i].w, err);
    if (st != NB_OK || w->n_shard < 2)
        return st;
    put_index(w, &index);
    st = nb_text_check(&index, INDEX, err);
    const int n = snprintf(path, sizeof path, "%s/%s", w->folder, INDEX),
              m = snprintf(partial, sizeof partial, "%s/%s.partial", w->folder, INDEX);
    if (st == NB_OK && (n < 0 || m < 0 || m >= kPath))
        st = nb_fail_at(err, NB_IO, w->folder, -1, "a path of more than %d bytes", kPath - 1);
    if (st == NB_OK)
        st = nb_outfile_open_at(path, partial, false, &f, err);
    if (st == NB_OK)
        st = nb_outfile_write_at(f, 0, index.p, index.n, err);
    if (st == NB_OK)
        st = nb_outfile_commit(f, err);
    nb_outfile_close(f);
    nb_text_free(&index);
    return st;
}
