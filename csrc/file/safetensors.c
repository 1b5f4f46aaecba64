/* safetensors.c -- the directory of one .safetensors file.
 *
 *   | u64 N | N bytes of JSON, starting with { | data |
 *   {"NAME": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ..., "__metadata__":
 * {"key": "text"}}
 *
 * Offsets count from the data's first byte, 8 + N. The tensors cover the data exactly: no hole, no
 * overlap, nothing behind the last one, as the reference reader demands. Fields we do not know are
 * ignored. Data may lie at any alignment.
 *
 * Stricter than the reference reader: the first byte is {, no duplicate key, no empty or
 * unprintable name, at most 8 dimensions. Cost: one pass over the header and a sort of the tensors
 * by offset. */
#include "file/container.h"
#include "base/memory.h"
#include "base/scalar.h"
#include "file/names.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { kPrefix = 8, kMaxHeader = 100000000, kMaxName = 65535, kMaxDim = 8 };

typedef struct entry { /* where sentences about a tensor point to */
    const char *path, *name;
    nb_error *err;
} entry;

static nb_status fault(const entry *e, nb_status code, const nb_json_node *at, const char *what)
{
    return nb_fail_at(e->err, code, e->path, kPrefix + (int64_t)nb_json_offset(at),
                      "tensor %.128s: %s", e->name, what);
}

static nb_status read_dtype(const entry *e, const nb_json_node *object, nb_tensor *t)
{
    const nb_json_node *v = nb_json_get(object, "dtype");
    const char *s = NULL;
    size_t n = 0;
    if (!nb_json_string(v, &s, &n))
        return fault(e, NB_BAD_INPUT, v ? v : object, "dtype is no string");
    t->dtype = strlen(s) == n ? nb_dtype_by_st_name(s) : NULL;
    if (!t->dtype) {
        char shown[160];
        nb_escape(shown, (int64_t)sizeof shown, s, (int64_t)n);
        return nb_fail_at(e->err, NB_UNSUPPORTED, e->path, kPrefix + (int64_t)nb_json_offset(v),
                          "tensor %.128s: unknown dtype \"%s\"", e->name, shown);
    }
    return NB_OK;
}

/* Also the bytes the tensor needs. */
static nb_status read_shape(const entry *e, const nb_json_node *object, nb_tensor *t)
{
    const nb_json_node *v = nb_json_get(object, "shape");
    if (!v || nb_json_typeof(v) != NB_JSON_ARRAY)
        return fault(e, NB_BAD_INPUT, v ? v : object, "shape is no array");
    if (nb_json_count(v) > kMaxDim)
        return fault(e, NB_UNSUPPORTED, v, "shape of more than 8 dimensions");
    uint64_t values = 1, bytes = 0;
    for (int i = 0; i < kMaxDim; i++)
        t->shape[i] = 1;
    for (const nb_json_node *d = nb_json_first(v); d; d = nb_json_next(d)) {
        int64_t n = 0;
        if (!nb_json_int(d, &n) || n < 0)
            return fault(e, NB_BAD_INPUT, d, "a dimension of its shape is no count below 2^63");
        if (!nb_mul_ok(values, (uint64_t)n, &values))
            return fault(e, NB_BAD_INPUT, d, "its shape overflows 64 bits");
        t->shape[t->n_dim++] = n;
    }
    if (values % (uint64_t)t->dtype->block)
        return fault(e, NB_BAD_INPUT, v, "its shape is no whole number of blocks of its dtype");
    if (!nb_mul_ok(values / (uint64_t)t->dtype->block, (uint64_t)t->dtype->bytes, &bytes) ||
        bytes > INT64_MAX)
        return fault(e, NB_BAD_INPUT, v, "its size overflows 64 bits");
    t->bytes = (size_t)bytes;
    return NB_OK;
}

static nb_status read_offsets(const entry *e, const nb_json_node *object, uint64_t data_n,
                              nb_tensor *t)
{
    const nb_json_node *v = nb_json_get(object, "data_offsets");
    uint64_t begin = 0, end = 0;
    if (!v || nb_json_typeof(v) != NB_JSON_ARRAY || nb_json_count(v) != 2)
        return fault(e, NB_BAD_INPUT, v ? v : object, "data_offsets is no array of two");
    if (!nb_json_u64(nb_json_at(v, 0), &begin) || !nb_json_u64(nb_json_at(v, 1), &end))
        return fault(e, NB_BAD_INPUT, v, "data_offsets are no whole numbers from 0 to 2^64-1");
    if (begin > end)
        return fault(e, NB_BAD_INPUT, v, "data_offsets begin behind their end");
    if (end > data_n)
        return nb_fail_at(e->err, NB_BAD_INPUT, e->path, kPrefix + (int64_t)nb_json_offset(v),
                          "tensor %.128s ends at byte %" PRIu64 " of %" PRIu64
                          " bytes of data; is the download complete?",
                          e->name, end, data_n);
    if (end - begin != t->bytes)
        return nb_fail_at(e->err, NB_BAD_INPUT, e->path, kPrefix + (int64_t)nb_json_offset(v),
                          "tensor %.128s has %" PRIu64 " bytes, its dtype and shape need %zu",
                          e->name, end - begin, t->bytes);
    t->offset = begin; /* of the data; the file's later */
    return NB_OK;
}

static nb_status read_metadata(const char *path, const nb_json_node *v, nb_error *err)
{
    if (nb_json_typeof(v) == NB_JSON_NULL)
        return NB_OK;
    if (nb_json_typeof(v) != NB_JSON_OBJECT)
        return nb_fail_at(err, NB_BAD_INPUT, path, kPrefix + (int64_t)nb_json_offset(v),
                          "__metadata__ is no object");
    for (const nb_json_node *m = nb_json_first(v); m; m = nb_json_next(m))
        if (nb_json_typeof(m) != NB_JSON_STRING)
            return nb_fail_at(err, NB_BAD_INPUT, path, kPrefix + (int64_t)nb_json_offset(m),
                              "__metadata__ holds a value that is no string");
    return NB_OK;
}

static nb_status read_tensor(const char *path, const nb_json_node *v, uint64_t data_n, nb_tensor *t,
                             nb_error *err)
{
    size_t n = 0;
    const entry e = {.path = path, .name = nb_json_key(v, &n), .err = err};
    if (n > kMaxName || !nb_name_ok(e.name, n)) {
        char shown[160];
        nb_escape(shown, (int64_t)sizeof shown, e.name, (int64_t)n);
        return nb_fail_at(err, NB_BAD_INPUT, path, kPrefix + (int64_t)nb_json_offset(v),
                          "a tensor's name is empty, too long or unprintable: \"%s\"", shown);
    }
    t->name = e.name;
    if (nb_json_typeof(v) != NB_JSON_OBJECT)
        return fault(&e, NB_BAD_INPUT, v, "its entry is no object");
    nb_status st = read_dtype(&e, v, t);
    if (st == NB_OK)
        st = read_shape(&e, v, t);
    if (st == NB_OK)
        st = read_offsets(&e, v, data_n, t);
    return st;
}

/* By begin, then end (empty tensors first), then place in the header, which is the order of the
 * names in memory. */
static int by_offset(const void *a, const void *b)
{
    const nb_tensor *x = a, *y = b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? -1 : 1;
    return (x->name > y->name) - (x->name < y->name);
}

/* Sorts the tensors and holds them to covering [0, data_n) exactly. */
static nb_status cover(const char *path, nb_safetensors *s, uint64_t data_at, uint64_t data_n,
                       nb_error *err)
{
    uint64_t at = 0;
    qsort(s->tensor, (size_t)s->n_tensor, sizeof *s->tensor, by_offset);
    for (int64_t i = 0; i < s->n_tensor; i++) {
        const nb_tensor *t = &s->tensor[i];
        if (t->offset < at)
            return nb_fail_at(err, NB_BAD_INPUT, path, (int64_t)(data_at + t->offset),
                              "tensors %.128s and %.128s overlap", s->tensor[i - 1].name, t->name);
        if (t->offset > at)
            return nb_fail_at(err, NB_BAD_INPUT, path, (int64_t)(data_at + at),
                              "a gap of %" PRIu64 " bytes before tensor %.128s", t->offset - at,
                              t->name);
        at += t->bytes;
    }
    if (at != data_n)
        return nb_fail_at(err, NB_BAD_INPUT, path, (int64_t)(data_at + at),
                          "%" PRIu64 " bytes behind the last tensor", data_n - at);
    return NB_OK;
}

static nb_status read_header(const char *path, const uint8_t *p, size_t n, uint64_t *header_n,
                             nb_json **out, nb_error *err)
{
    if (n < kPrefix)
        return nb_fail_at(err, NB_BAD_INPUT, path, 0, "shorter than its 8-byte header length");
    const uint64_t N = *header_n = nb_load_u64(p);
    if (N > kMaxHeader)
        return nb_fail_at(err, NB_BAD_INPUT, path, 0,
                          "header of %" PRIu64 " bytes, at most %d are allowed", N, kMaxHeader);
    if (N > n - kPrefix)
        return nb_fail_at(err, NB_BAD_INPUT, path, kPrefix,
                          "ends inside its header of %" PRIu64 " bytes; is the download complete?",
                          N);
    if (N == 0 || p[kPrefix] != '{')
        return nb_fail_at(err, NB_BAD_INPUT, path, kPrefix, "the header does not start with {");
    return nb_json_parse_at(path, kPrefix, (const char *)p + kPrefix, (size_t)N, out, err);
}

nb_status nb_safetensors_parse(const char *path, const uint8_t *p, size_t n, nb_safetensors **out,
                               nb_error *err)
{
    uint64_t header_n = 0;
    *out = NULL;
    nb_safetensors *s = nb_alloc_zero(1, sizeof *s, "a safetensors directory", err);
    if (!s)
        return NB_NO_ROOM;
    nb_status st = read_header(path, p, n, &header_n, &s->header, err);
    if (st != NB_OK)
        goto fail;
    const nb_json_node *root = nb_json_root(s->header);
    const uint64_t data_at = kPrefix + header_n, data_n = n - data_at;
    s->tensor = nb_alloc_zero(nb_json_count(root), sizeof *s->tensor, "a tensor directory", err);
    if (!s->tensor) {
        st = NB_NO_ROOM;
        goto fail;
    }
    const nb_json_node *metadata = nb_json_get(root, "__metadata__");
    for (const nb_json_node *v = nb_json_first(root); v && st == NB_OK; v = nb_json_next(v))
        if (v == metadata)
            st = read_metadata(path, v, err);
        else
            st = read_tensor(path, v, data_n, &s->tensor[s->n_tensor++], err);
    if (st == NB_OK)
        st = cover(path, s, data_at, data_n, err);
    if (st != NB_OK)
        goto fail;
    for (int64_t i = 0; i < s->n_tensor; i++) {
        s->tensor[i].offset += data_at;
        s->tensor[i].data = p + s->tensor[i].offset;
    }
    *out = s;
    return NB_OK;
fail:
    nb_safetensors_close(s);
    return st;
}

void nb_safetensors_close(nb_safetensors *s)
{
    if (!s)
        return;
    nb_json_close(s->header);
    free(s->tensor);
    free(s);
}
