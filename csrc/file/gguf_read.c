/* gguf_read.c -- parsing a GGUF file (versions 2 and 3; the layout is drawn in docs/FORMATS.md).
 *
 *   "GGUF" | u32 version | i64 n_tensor | i64 n_kv | n_kv keys | n_tensor infos | pad | data
 *   key   string name | u32 type | value                            string: u64 length | bytes
 *   info  string name | u32 n_dim | i64 ne[n_dim] | u32 type | u64 offset       ne[0] is the
 * innermost dimension
 *
 * Every length is held against what is left of the file before it is used, every count against the
 * least that its elements take. A tensor's offset must be where the one before it ends, rounded up
 * to the alignment, as llama.cpp demands. Cost: one pass over keys and infos, O(1) a name. */
#include "file/gguf.h"
#include "base/scalar.h"
#include "file/names.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    kHead = 24,
    kMinKv = 8 + 1 + 4 + 1,           /* a name of one byte, a type, a value of one byte */
    kMinInfo = 8 + 1 + 4 + 8 + 4 + 8, /* a name of one byte, one dimension */
    kMaxCount = 1 << 24,              /* of keys, of tensors */
    kMaxKey = 65535,
    kMaxName = 63, /* llama.cpp's 64 with the NUL */
    kMaxDim = 4,
    kMaxNesting = 4, /* arrays of arrays: nobody writes them */
    kMaxAlignment = 1 << 20,
    kDefaultAlignment = 32
};

/* Bytes of a scalar, by type; 0 for strings and arrays. */
static const uint8_t kSize[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
enum { kTypes = sizeof kSize };

typedef struct document {
    nb_gguf pub; /* first: what callers hold */
    nb_gguf_kv *kv;
    nb_tensor *tensor;
    nb_names *keys, *names;
    nb_arena *arena; /* tensor names */
} document;

typedef struct reader {
    const char *path;
    const uint8_t *p;
    size_t n, at;
    nb_error *err;
} reader;

static nb_status need(reader *r, uint64_t bytes, const char *what)
{
    if (bytes <= r->n - r->at)
        return NB_OK;
    return nb_fail_at(r->err, NB_BAD_INPUT, r->path, (int64_t)r->at,
                      "ends inside %s; is the download complete?", what);
}

static nb_status read_u32(reader *r, uint32_t *out, const char *what)
{
    const nb_status st = need(r, 4, what);
    if (st == NB_OK) {
        *out = nb_load_u32(r->p + r->at);
        r->at += 4;
    }
    return st;
}

static nb_status read_u64(reader *r, uint64_t *out, const char *what)
{
    const nb_status st = need(r, 8, what);
    if (st == NB_OK) {
        *out = nb_load_u64(r->p + r->at);
        r->at += 8;
    }
    return st;
}

/* A key's or tensor's name of 1 to max bytes. */
static nb_status read_name(reader *r, size_t max, nb_str *out, const char *what)
{
    const size_t at = r->at;
    uint64_t n = 0;
    nb_status st = read_u64(r, &n, what);
    if (st != NB_OK)
        return st;
    if (n == 0 || n > max)
        return nb_fail_at(r->err, NB_BAD_INPUT, r->path, (int64_t)at,
                          "%s of %" PRIu64 " bytes, 1 to %zu are allowed", what, n, max);
    if ((st = need(r, n, what)) != NB_OK)
        return st;
    *out = (nb_str){(const char *)r->p + r->at, (size_t)n};
    if (!nb_name_ok(out->p, out->n)) {
        char shown[160];
        nb_escape(shown, (int64_t)sizeof shown, out->p, (int64_t)out->n);
        return nb_fail_at(r->err, NB_BAD_INPUT, r->path, (int64_t)r->at,
                          "%s is unprintable: \"%s\"", what, shown);
    }
    r->at += out->n;
    return NB_OK;
}

static nb_status key_fault(const reader *r, nb_str key, size_t at, const char *what)
{
    return nb_fail_at(r->err, NB_BAD_INPUT, r->path, (int64_t)at, "key %.*s: %s",
                      key.n < 128 ? (int)key.n : 128, key.p, what);
}

static nb_status read_array_head(reader *r, nb_str key, uint32_t *elem, uint64_t *count)
{
    const size_t at = r->at;
    nb_status st = read_u32(r, elem, "an array's element type");
    if (st == NB_OK && *elem >= kTypes)
        st = key_fault(r, key, at, "unknown element type");
    if (st == NB_OK)
        st = read_u64(r, count, "an array's count");
    return st;
}

/* Walks over `count` values of a type; depth counts the arrays around them. */
static nb_status skip_values(reader *r, nb_str key, uint32_t type, uint64_t count, int depth)
{
    const size_t left = r->n - r->at, start = r->at;
    const size_t least = kSize[type] ? kSize[type] : type == NB_GGUF_STRING ? 8 : 12;
    nb_status st = NB_OK;
    if (depth > kMaxNesting)
        return key_fault(r, key, start, "arrays nested deeper than 4");
    if (count > left / least)
        return key_fault(r, key, start,
                         depth ? "an array of more elements than the file has room for"
                               : "the file ends inside its value");
    if (kSize[type]) {
        r->at += (size_t)count * kSize[type];
        for (size_t i = start; type == NB_GGUF_BOOL && i < r->at; i++)
            if (r->p[i] > 1)
                return key_fault(r, key, i, "a bool that is neither 0 nor 1");
        return NB_OK;
    }
    for (uint64_t i = 0; i < count && st == NB_OK; i++) {
        uint32_t elem = 0;
        uint64_t n = 0;
        if (type == NB_GGUF_STRING) {
            st = read_u64(r, &n, "a string's length");
            if (st == NB_OK && n > r->n - r->at)
                return key_fault(r, key, r->at - 8, "a string longer than the file");
            if (st == NB_OK)
                r->at += (size_t)n;
        } else {
            st = read_array_head(r, key, &elem, &n);
            if (st == NB_OK)
                st = skip_values(r, key, elem, n, depth + 1);
        }
    }
    return st;
}

static nb_status read_kv(reader *r, nb_gguf_kv *kv)
{
    uint32_t type = 0, elem = 0;
    uint64_t count = 1;
    nb_status st = read_name(r, kMaxKey, &kv->key, "a key");
    const size_t at = r->at;
    if (st == NB_OK)
        st = read_u32(r, &type, "a key's type");
    if (st == NB_OK && type >= kTypes)
        return key_fault(r, kv->key, at, "unknown value type");
    if (st == NB_OK && type == NB_GGUF_ARRAY)
        st = read_array_head(r, kv->key, &elem, &count);
    const size_t start = r->at;
    if (st == NB_OK)
        st = skip_values(r, kv->key, type == NB_GGUF_ARRAY ? elem : type, count,
                         type == NB_GGUF_ARRAY);
    kv->type = (nb_gguf_type)type;
    kv->elem = (nb_gguf_type)elem;
    kv->count = count;
    kv->p = r->p + start;
    kv->bytes = r->at - start;
    kv->offset = (int64_t)start;
    return st;
}

static const char *key_at(const void *items, size_t i, size_t *n)
{
    const nb_gguf_kv *kv = (const nb_gguf_kv *)items + i;
    *n = kv->key.n;
    return kv->key.p;
}

static const char *tensor_name_at(const void *items, size_t i, size_t *n)
{
    const nb_tensor *t = (const nb_tensor *)items + i;
    *n = strlen(t->name);
    return t->name;
}

static nb_status read_keys(reader *r, document *d, const nb_hash_key *hash)
{
    const size_t n = (size_t)d->pub.n_kv;
    d->kv = nb_alloc_zero(n, sizeof *d->kv, "the keys of a GGUF file", r->err);
    d->keys = nb_names_open(n, hash, key_at, r->err);
    if (!d->kv || !d->keys)
        return NB_NO_ROOM;
    d->pub.kv = d->kv;
    for (size_t i = 0; i < n; i++) {
        const size_t at = r->at;
        const nb_status st = read_kv(r, &d->kv[i]);
        if (st != NB_OK)
            return st;
        if (!nb_names_add(d->keys, d->kv, i))
            return key_fault(r, d->kv[i].key, at, "a duplicate");
    }
    return NB_OK;
}

static nb_status read_alignment(const reader *r, nb_gguf *g)
{
    const nb_gguf_kv *kv = nb_gguf_find(g, "general.alignment");
    g->alignment = kDefaultAlignment;
    if (!kv)
        return NB_OK;
    if (kv->type != NB_GGUF_U32)
        return key_fault(r, kv->key, (size_t)kv->offset, "not of type u32");
    const uint32_t a = g->alignment = nb_load_u32(kv->p);
    if (a == 0 || a > kMaxAlignment || (a & (a - 1)))
        return key_fault(r, kv->key, (size_t)kv->offset, "no power of two up to 1048576");
    return NB_OK;
}

/* Which part of a split model this is; whether the others are there is container.c's to see. */
static nb_status read_split(const reader *r, nb_gguf *g)
{
    uint32_t no = 0, count = 1, n_tensor = 0;
    nb_status st = NB_OK;
    const nb_gguf_kv *kv = nb_gguf_find(g, "split.count");
    g->split_count = 1;
    g->split_n_tensor = -1;
    if (!kv)
        return NB_OK;
    st = nb_gguf_u32(g, "split.count", &count, r->err);
    if (st == NB_OK && nb_gguf_find(g, "split.no"))
        st = nb_gguf_u32(g, "split.no", &no, r->err);
    if (st == NB_OK && nb_gguf_find(g, "split.tensors.count")) {
        st = nb_gguf_u32(g, "split.tensors.count", &n_tensor, r->err);
        g->split_n_tensor = n_tensor;
    }
    if (st != NB_OK)
        return st;
    if (count == 0 || count > 65535 || no >= count)
        return nb_fail_at(r->err, NB_BAD_INPUT, r->path, kv->offset,
                          "split.no %u of split.count %u: no part of a split model", no, count);
    g->split_no = no;
    g->split_count = count;
    return NB_OK;
}

static nb_status tensor_fault(const reader *r, const nb_tensor *t, size_t at, nb_status code,
                              const char *what)
{
    return nb_fail_at(r->err, code, r->path, (int64_t)at, "tensor %s: %s", t->name, what);
}

/* ne[n_dim] at r->at, innermost first, to t->shape, outermost first; its bytes. */
static nb_status read_shape(reader *r, uint32_t n_dim, nb_tensor *t)
{
    const size_t at = r->at;
    uint64_t values = 1, bytes = 0;
    uint32_t type = 0;
    if (n_dim == 0 || n_dim > kMaxDim)
        return tensor_fault(r, t, at - 4, NB_BAD_INPUT, "not of 1 to 4 dimensions");
    nb_status st = need(r, 8 * (uint64_t)n_dim, "a tensor's shape");
    if (st != NB_OK)
        return st;
    t->n_dim = (int)n_dim;
    for (int i = 0; i < 8; i++)
        t->shape[i] = 1;
    for (uint32_t i = 0; i < n_dim; i++, r->at += 8) {
        const uint64_t ne = nb_load_u64(r->p + r->at);
        if (ne == 0 || ne > INT64_MAX)
            return tensor_fault(r, t, r->at, NB_BAD_INPUT, "a dimension below 1");
        if (!nb_mul_ok(values, ne, &values) || values > INT64_MAX)
            return tensor_fault(r, t, r->at, NB_BAD_INPUT, "its shape overflows 63 bits");
        t->shape[n_dim - 1 - i] = (int64_t)ne;
    }
    if ((st = read_u32(r, &type, "a tensor's type")) != NB_OK)
        return st;
    t->dtype = type <= INT32_MAX ? nb_dtype_by_ggml_id((int)type) : NULL;
    if (!t->dtype)
        return nb_fail_at(r->err, NB_UNSUPPORTED, r->path, (int64_t)r->at - 4,
                          "tensor %s: unknown type %" PRIu32, t->name, type);
    if (t->shape[n_dim - 1] % t->dtype->block)
        return tensor_fault(r, t, at, NB_BAD_INPUT,
                            "a row is no whole number of blocks of its type");
    if (!nb_mul_ok(values / (uint64_t)t->dtype->block, (uint64_t)t->dtype->bytes, &bytes) ||
        bytes > INT64_MAX)
        return tensor_fault(r, t, at, NB_BAD_INPUT, "its size overflows 63 bits");
    t->bytes = (size_t)bytes;
    return NB_OK;
}

/* The start of what follows `bytes` bytes at an aligned `at`; false when it overflows. */
static bool align_up(uint64_t at, uint64_t bytes, uint64_t alignment, uint64_t *out)
{
    uint64_t end = 0, up = 0;
    if (!nb_add_ok(at, bytes, &end) || !nb_add_ok(end, alignment - 1, &up))
        return false;
    *out = up & ~(alignment - 1);
    return true;
}

/* One info; *at is where its data must start, and then where the next one's must. */
static nb_status read_info(reader *r, document *d, nb_tensor *t, uint64_t *at)
{
    nb_str name = {0};
    uint32_t n_dim = 0;
    const uint64_t alignment = d->pub.alignment;
    nb_status st = read_name(r, kMaxName, &name, "a tensor's name");
    if (st != NB_OK)
        return st;
    t->name = nb_arena_strdup(d->arena, name.p, name.n, r->err);
    if (!t->name)
        return NB_NO_ROOM;
    if ((st = read_u32(r, &n_dim, "a tensor's dimensions")) != NB_OK ||
        (st = read_shape(r, n_dim, t)) != NB_OK ||
        (st = read_u64(r, &t->offset, "a tensor's offset")) != NB_OK)
        return st;
    const size_t here = r->at - 8;
    if (t->offset % alignment)
        return tensor_fault(r, t, here, NB_BAD_INPUT, "its offset is not aligned");
    if (t->offset < *at)
        return tensor_fault(r, t, here, NB_BAD_INPUT, "its offset makes it overlap the one before");
    if (t->offset > *at)
        return tensor_fault(r, t, here, NB_BAD_INPUT, "its offset leaves a gap before it");
    if (!align_up(*at, t->bytes, alignment, at))
        return tensor_fault(r, t, here, NB_BAD_INPUT, "its end overflows 64 bits");
    return NB_OK;
}

static nb_status read_tensors(reader *r, document *d, const nb_hash_key *hash)
{
    const size_t n = (size_t)d->pub.n_tensor;
    uint64_t end = 0, start = 0;
    d->tensor = nb_alloc_zero(n, sizeof *d->tensor, "the tensors of a GGUF file", r->err);
    d->names = nb_names_open(n, hash, tensor_name_at, r->err);
    d->arena = nb_arena_open("the names of a GGUF file", r->err);
    if (!d->tensor || !d->names || !d->arena)
        return NB_NO_ROOM;
    d->pub.tensor = d->tensor;
    for (size_t i = 0; i < n; i++) {
        const size_t at = r->at;
        const nb_status st = read_info(r, d, &d->tensor[i], &end);
        if (st != NB_OK)
            return st;
        if (!nb_names_add(d->names, d->tensor, i))
            return tensor_fault(r, &d->tensor[i], at, NB_BAD_INPUT, "a duplicate");
    }
    d->pub.end = r->at;
    if (n == 0)
        return NB_OK;
    if (!align_up(r->at, 0, d->pub.alignment, &start))
        return nb_fail_at(r->err, NB_BAD_INPUT, r->path, (int64_t)r->at, "no room for its data");
    for (size_t i = 0; i < n; i++) {
        nb_tensor *t = &d->tensor[i];
        const uint64_t left = start < r->n ? r->n - start : 0;
        if (t->offset > left || t->bytes > left - t->offset)
            return nb_fail_at(r->err, NB_BAD_INPUT, r->path, (int64_t)r->n,
                              "ends inside tensor %s, which needs bytes %" PRIu64 " to %" PRIu64
                              "; is the download complete?",
                              t->name, start + t->offset, start + t->offset + t->bytes);
        t->offset += start;
        t->data = r->p + t->offset;
    }
    d->pub.end = start + end < r->n ? (size_t)(start + end) : r->n;
    return NB_OK;
}

static nb_status read_head(reader *r, nb_gguf *g)
{
    uint64_t n_tensor = 0, n_kv = 0;
    if (r->n < 4 || memcmp(r->p, "GGUF", 4) != 0)
        return nb_fail_at(r->err, NB_BAD_INPUT, r->path, 0,
                          "not a GGUF file: the magic is missing");
    if (r->n < kHead)
        return nb_fail_at(r->err, NB_BAD_INPUT, r->path, 0,
                          "ends inside its head of 24 bytes; is the download complete?");
    g->version = nb_load_u32(r->p + 4);
    if (g->version && (g->version & 0xffff) == 0)
        return nb_fail_at(r->err, NB_UNSUPPORTED, r->path, 4, "a big-endian GGUF file");
    if (g->version != 2 && g->version != 3)
        return nb_fail_at(r->err, NB_UNSUPPORTED, r->path, 4,
                          "GGUF version %u; versions 2 and 3 are known", g->version);
    n_tensor = nb_load_u64(r->p + 8);
    n_kv = nb_load_u64(r->p + 16);
    r->at = kHead;
    if (n_tensor > kMaxCount || n_tensor > (r->n - kHead) / kMinInfo)
        return nb_fail_at(r->err, NB_BAD_INPUT, r->path, 8,
                          "%" PRIu64 " tensors do not fit into the file", n_tensor);
    if (n_kv > kMaxCount || n_kv > (r->n - kHead) / kMinKv)
        return nb_fail_at(r->err, NB_BAD_INPUT, r->path, 16,
                          "%" PRIu64 " keys do not fit into the file", n_kv);
    g->n_tensor = (int64_t)n_tensor;
    g->n_kv = (int64_t)n_kv;
    return NB_OK;
}

nb_status nb_gguf_parse(const char *path, const uint8_t *p, size_t n, nb_gguf **out, nb_error *err)
{
    reader r = {.path = path, .p = p, .n = n, .err = err};
    nb_hash_key hash;
    *out = NULL;
    document *d = nb_alloc_zero(1, sizeof *d, "a GGUF directory", err);
    if (!d)
        return NB_NO_ROOM;
    nb_hash_key_draw(&hash);
    d->pub.path = path;
    nb_status st = read_head(&r, &d->pub);
    if (st == NB_OK)
        st = read_keys(&r, d, &hash);
    if (st == NB_OK)
        st = read_alignment(&r, &d->pub);
    if (st == NB_OK)
        st = read_tensors(&r, d, &hash);
    if (st == NB_OK)
        st = read_split(&r, &d->pub);
    if (st != NB_OK) {
        nb_gguf_close(&d->pub);
        return st;
    }
    *out = &d->pub;
    return NB_OK;
}

void nb_gguf_close(nb_gguf *g)
{
    document *d = (document *)g;
    if (!d)
        return;
    nb_names_close(d->keys);
    nb_names_close(d->names);
    nb_arena_close(d->arena);
    free(d->kv);
    free(d->tensor);
    free(d);
}

const nb_gguf_kv *nb_gguf_find(const nb_gguf *g, const char *key)
{
    const document *d = (const document *)g;
    size_t i = 0;
    return nb_names_find(d->keys, d->kv, key, strlen(key), &i) ? &d->kv[i] : NULL;
}
