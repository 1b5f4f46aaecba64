/* shards.c -- safetensors in several files, found through their index (docs/FORMATS.md).
 *
 *   model.safetensors.index.json   {"metadata": {"total_size": BYTES}, "weight_map": {TENSOR: FILE,
 *                                  ...}}
 *   model-00001-of-00003.safetensors ...
 *
 * The index decides which files belong to the model: a single file beside it is stale. FILE is a
 * plain name, so that an index cannot name what lies elsewhere; which tensors are in it, its own
 * header says, and both must agree. */
#include "file/parts.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { kMaxFileName = 255 };

static const char *file_at(const void *items, size_t i, size_t *n)
{
    const char *s = ((const char *const *)items)[i];
    *n = strlen(s);
    return s;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A name that can only mean a file in the index's folder. */
static bool plain(const char *s, size_t n)
{
    return n > 0 && n <= kMaxFileName && nb_name_ok(s, n) && !memchr(s, '/', n) &&
           !memchr(s, '\\', n) && s[0] != '.';
}

static nb_status read_file_name(const char *path, const nb_json_node *v, const char **out,
                                nb_error *err)
{
    const char *s = NULL;
    size_t n = 0;
    char shown[160];
    if (!nb_json_string(v, &s, &n))
        return nb_fail_at(err, NB_BAD_INPUT, path, (int64_t)nb_json_offset(v),
                          "weight_map holds a file name that is no string");
    nb_escape(shown, (int64_t)sizeof shown, s, (int64_t)n);
    if (!plain(s, n))
        return nb_fail_at(err, NB_BAD_INPUT, path, (int64_t)nb_json_offset(v),
                          "\"%s\" is no plain file name", shown);
    if (nb_is_pickle(s))
        return nb_refuse_pickle(shown, err);
    if (!nb_ends_with(s, ".safetensors"))
        return nb_fail_at(err, NB_BAD_INPUT, path, (int64_t)nb_json_offset(v),
                          "\"%s\" is no .safetensors file", shown);
    *out = s;
    return NB_OK;
}

/* Every file once. */
static nb_status collect(const char *path, nb_shard_index *x, nb_error *err)
{
    const size_t n = nb_json_count(x->map);
    nb_hash_key key;
    nb_hash_key_draw(&key);
    x->file = nb_alloc(n, sizeof *x->file, "the files of an index", err);
    nb_names *seen = x->file ? nb_names_open(n, &key, file_at, err) : NULL;
    if (!seen)
        return NB_NO_ROOM;
    nb_status st = NB_OK;
    for (const nb_json_node *v = nb_json_first(x->map); v && st == NB_OK; v = nb_json_next(v)) {
        st = read_file_name(path, v, &x->file[x->n_file], err);
        if (st == NB_OK && nb_names_add(seen, x->file, (size_t)x->n_file))
            x->n_file++;
    }
    nb_names_close(seen);
    qsort(x->file, (size_t)x->n_file, sizeof *x->file, by_name);
    return st;
}

nb_status nb_shard_index_parse(const char *path, const char *text, size_t n, nb_shard_index **out,
                               nb_error *err)
{
    *out = NULL;
    nb_shard_index *x = nb_alloc_zero(1, sizeof *x, "an index of shards", err);
    if (!x)
        return NB_NO_ROOM;
    nb_status st = nb_json_parse(path, text, n, &x->doc, err);
    if (st == NB_OK) {
        const nb_json_node *root = nb_json_root(x->doc);
        const nb_json_node *total = nb_json_get(nb_json_get(root, "metadata"), "total_size");
        double real = 0;
        x->map = nb_json_get(root, "weight_map");
        x->total_size = UINT64_MAX;
        if (!nb_json_u64(total, &x->total_size) && nb_json_real(total, &real) && real >= 0 &&
            real < 0x1p63 && real == floor(real))
            x->total_size = (uint64_t)real; /* some writers' JSON has 1.0e9 */
        if (!x->map || nb_json_typeof(x->map) != NB_JSON_OBJECT || nb_json_count(x->map) == 0)
            st = nb_fail_at(err, NB_BAD_INPUT, path, 0,
                            "no index of shards: weight_map is no object with entries");
    }
    if (st == NB_OK)
        st = collect(path, x, err);
    if (st != NB_OK) {
        nb_shard_index_close(x);
        return st;
    }
    *out = x;
    return NB_OK;
}

void nb_shard_index_close(nb_shard_index *x)
{
    if (!x)
        return;
    nb_json_close(x->doc);
    free(x->file);
    free(x);
}

/* Its number among the files, -1 if it is none. */
static int64_t place(const nb_shard_index *x, const char *file)
{
    const char *const *at = bsearch(&file, x->file, (size_t)x->n_file, sizeof *x->file, by_name);
    return at ? at - x->file : -1;
}

bool nb_shard_index_lists(const nb_shard_index *x, const char *file)
{
    return place(x, file) >= 0;
}

/* Buffers that old indexes list, that newer writers leave out, and that no decoder reads: they are
 * computed. */
static bool is_buffer(const char *tensor)
{
    static const char *const ends[] = {".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias",
                                       ".attention.bias", ".attention.masked_bias"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (nb_ends_with(tensor, ends[i]))
            return true;
    return false;
}

nb_status nb_shard_index_hold(const nb_shard_index *x, const char *path, const nb_tensor *t,
                              int64_t n, const nb_names *names, nb_text *warning, nb_error *err)
{
    int64_t found = 0, buffers = 0;
    uint64_t bytes = 0;
    char shown[160];
    for (const nb_json_node *v = nb_json_first(x->map); v; v = nb_json_next(v)) {
        size_t key_n = 0, i = 0;
        const char *key = nb_json_key(v, &key_n), *file = NULL;
        (void)nb_json_string(v, &file, NULL);
        const bool there = nb_names_find(names, t, key, key_n, &i);
        nb_escape(shown, (int64_t)sizeof shown, key, (int64_t)key_n);
        if (there && t[i].part != place(x, file))
            return nb_fail_at(err, NB_BAD_INPUT, path, (int64_t)nb_json_offset(v),
                              "tensor %s is in %s, the index says %s", shown, x->file[t[i].part],
                              file);
        if (!there && !is_buffer(key))
            return nb_fail_at(err, NB_BAD_INPUT, path, (int64_t)nb_json_offset(v),
                              "tensor %s is not in %s, where the index has it", shown, file);
        found += there;
        buffers += !there;
    }
    for (int64_t i = 0; i < n; i++)
        bytes += t[i].bytes;
    if (buffers)
        nb_warn_of(warning, path, "%lld buffers that nobody reads are listed and not there",
                   (long long)buffers);
    if (found < n)
        nb_warn_of(warning, path, "%lld tensors of the shards are not listed",
                   (long long)(n - found));
    if (x->total_size != UINT64_MAX && x->total_size != bytes)
        nb_warn_of(warning, path, "total_size is %" PRIu64 ", the tensors have %" PRIu64 " bytes",
                   x->total_size, bytes);
    return NB_OK;
}

static nb_status all_there(const nb_shard_index *x, const char *const *path, const char *index,
                           nb_error *err)
{
    nb_list missing = {.n = 0};
    struct stat sb;
    for (int64_t i = 0; i < x->n_file; i++)
        if (stat(path[i], &sb) != 0)
            nb_list_add(&missing, x->file[i]);
    if (!missing.n)
        return NB_OK;
    return nb_fail_at(err, NB_NOT_FOUND, index, -1,
                      "%lld of the model's %lld files %s not there: %s", (long long)missing.n,
                      (long long)x->n_file, missing.n == 1 ? "is" : "are", nb_list_end(&missing));
}

static nb_status open_all(nb_parts *p, const nb_shard_index *x, const char *folder,
                          const char *index, nb_error *err)
{
    const char **path = nb_alloc_zero((size_t)x->n_file, sizeof *path, "the names of shards", err);
    nb_status st = path ? NB_OK : NB_NO_ROOM;
    for (int64_t i = 0; i < x->n_file && st == NB_OK; i++)
        if (!(path[i] = nb_path_in(p->arena, folder, strlen(folder), x->file[i], err)))
            st = NB_NO_ROOM;
    for (int64_t i = 0; i < x->n_file && st == NB_OK; i++)
        st = nb_link_check(folder, path[i], err);
    if (st == NB_OK)
        st = all_there(x, path, index, err);
    if (st == NB_OK)
        st = nb_parts_begin(p, x->n_file, err);
    for (int64_t i = 0; i < x->n_file && st == NB_OK; i++)
        st = nb_part_open_safetensors(p, i, path[i], err);
    free(path);
    return st;
}

nb_status nb_shards_open(nb_parts *p, const char *folder, const char *path, nb_shard_index **out,
                         nb_error *err)
{
    nb_mapfile *m = NULL;
    *out = NULL;
    nb_status st = nb_link_check(folder, path, err);
    if (st == NB_OK)
        st = nb_mapfile_open(path, &m, err);
    if (st == NB_OK)
        st = nb_shard_index_parse(path, m->p ? (const char *)m->p : "", m->n, out, err);
    nb_mapfile_close(m);
    return st == NB_OK ? open_all(p, *out, folder, path, err) : st;
}
