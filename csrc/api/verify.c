/* verify.c -- a checkpoint against its manifest: every tensor is there, has its type and size, and
 * hashes to what was written down; so does every file of a folder, and of a single file its head.
 * What then is left of that, the padding between tensors, is zero. */
#include "api/verify.h"
#include "api/manifest.h"
#include "base/mapfile.h"
#include "base/sha256.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool is_of(const nb_json_node *v, nb_json_type type)
{
    return v && nb_json_typeof(v) == type;
}

static nb_status open_manifest(const nb_container *c, char path[4096], nb_json **out, nb_error *err)
{
    struct stat sb;
    nb_mapfile *f = NULL;
    *out = NULL;
    const bool folder = stat(c->where, &sb) == 0 && S_ISDIR(sb.st_mode);
    const int n = snprintf(path, 4096, folder ? "%s/manifest.json" : "%s.manifest.json", c->where);
    if (n < 0 || n >= 4096 || stat(path, &sb) != 0)
        return NB_OK; /* without a manifest a file has its own promises only */
    nb_status st = nb_mapfile_open(path, &f, err);
    if (st == NB_OK)
        st = nb_json_parse(path, f->p ? (const char *)f->p : "", f->n, out, err);
    nb_mapfile_close(f);
    const nb_json_node *root = *out ? nb_json_root(*out) : NULL, *rest = NULL;
    int64_t version = 0;
    if (st == NB_OK && !is_of(nb_json_get(root, "tensors"), NB_JSON_ARRAY))
        st = nb_fail_at(err, NB_BAD_INPUT, path, 0, "no manifest: it lists no tensors");
    if (st == NB_OK && (!nb_json_int(nb_json_get(root, "manifest"), &version) || version != 1))
        st = nb_fail_at(err, NB_UNSUPPORTED, path, 0, "a manifest of a version other than 1");
    if (st == NB_OK)
        rest = nb_json_get(root, folder ? "files" : "head");
    if (st == NB_OK && !is_of(rest, folder ? NB_JSON_ARRAY : NB_JSON_OBJECT))
        st = nb_fail_at(err, NB_BAD_INPUT, path, 0, "no manifest: it has no %s",
                        folder ? "list of files" : "head");
    return st;
}

static nb_status check_tensor(const nb_container *c, const char *path, const nb_json_node *e,
                              bool *seen, nb_error *err)
{
    const char *name = NULL, *type = NULL, *sha = NULL;
    size_t n = 0;
    int64_t bytes = 0;
    uint8_t sum[NB_SHA256_BYTES];
    char hex[2 * NB_SHA256_BYTES + 1], shown[132];
    if (!nb_json_string(nb_json_get(e, "name"), &name, &n) || strlen(name) != n ||
        !nb_json_string(nb_json_get(e, "type"), &type, NULL) ||
        !nb_json_int(nb_json_get(e, "bytes"), &bytes) ||
        !nb_json_string(nb_json_get(e, "sha256"), &sha, NULL))
        return nb_fail_at(err, NB_BAD_INPUT, path, (int64_t)nb_json_offset(e),
                          "no manifest: an entry without name, type, bytes and sha256");
    const nb_tensor *t = nb_container_find(c, name);
    if (!t)
        return nb_fail_at(err, NB_NEGATIVE, c->path, -1, "tensor %s of the manifest is missing",
                          nb_escape(shown, sizeof shown, name, (int64_t)n));
    if (seen[t - c->tensor])
        return nb_fail_at(err, NB_BAD_INPUT, path, (int64_t)nb_json_offset(e),
                          "no manifest: tensor %s stands in it twice", t->name);
    seen[t - c->tensor] = true;
    if (strcmp(t->dtype->name, type) != 0)
        return nb_fail_at(err, NB_NEGATIVE, c->path, (int64_t)t->offset,
                          "tensor %s is of type %s, the manifest says %s", t->name, t->dtype->name,
                          nb_escape(shown, sizeof shown, type, (int64_t)strlen(type)));
    if (bytes < 0 || (uint64_t)bytes != t->bytes)
        return nb_fail_at(err, NB_NEGATIVE, c->path, (int64_t)t->offset,
                          "tensor %s has %zu bytes, the manifest says %lld", t->name, t->bytes,
                          (long long)bytes);
    nb_sha256(t->data, t->bytes, sum);
    nb_hex(sum, sizeof sum, hex);
    nb_container_release(c, t);
    if (strcmp(hex, sha) != 0)
        return nb_fail_at(err, NB_NEGATIVE, c->path, (int64_t)t->offset,
                          "tensor %s does not have the hash of the manifest", t->name);
    return NB_OK;
}

/* A file of a folder: name, size, bytes. */
static nb_status check_file(const nb_container *c, const char *manifest, const nb_json_node *e,
                            nb_error *err)
{
    const char *name = NULL, *sha = NULL;
    size_t n = 0;
    int64_t bytes = 0;
    uint8_t sum[NB_SHA256_BYTES];
    char path[4096], hex[2 * NB_SHA256_BYTES + 1];
    struct stat sb;
    nb_mapfile *f = NULL;
    if (!nb_json_string(nb_json_get(e, "file"), &name, &n) || strlen(name) != n || !n ||
        strchr(name, '/') || strcmp(name, "..") == 0 ||
        !nb_json_int(nb_json_get(e, "bytes"), &bytes) ||
        !nb_json_string(nb_json_get(e, "sha256"), &sha, NULL))
        return nb_fail_at(err, NB_BAD_INPUT, manifest, (int64_t)nb_json_offset(e),
                          "no manifest: a file without a plain name, bytes and sha256");
    const int len = snprintf(path, sizeof path, "%s/%s", c->path, name);
    if (len < 0 || (size_t)len >= sizeof path || stat(path, &sb) != 0)
        return nb_fail_at(err, NB_NEGATIVE, c->path, -1,
                          "the file %.128s of the manifest is missing",
                          nb_escape(hex, sizeof hex, name, (int64_t)n));
    nb_status st = nb_mapfile_open(path, &f, err);
    if (st != NB_OK)
        return st;
    nb_sha256(f->p, f->n, sum);
    nb_hex(sum, sizeof sum, hex);
    if (bytes < 0 || (uint64_t)bytes != f->n)
        st = nb_fail_at(err, NB_NEGATIVE, path, -1, "has %zu bytes, the manifest says %lld", f->n,
                        (long long)bytes);
    else if (strcmp(hex, sha) != 0)
        st = nb_fail_at(err, NB_NEGATIVE, path, -1, "does not have the hash of the manifest");
    nb_mapfile_close(f);
    return st;
}

/* The padding behind each tensor, as the writer leaves it. */
static nb_status check_padding(const nb_container *c, const nb_mapfile *f, nb_error *err)
{
    for (int64_t i = 0; i < c->n_tensor; i++) {
        const uint64_t end = i + 1 < c->n_tensor ? c->tensor[i + 1].offset : f->n;
        for (uint64_t at = c->tensor[i].offset + c->tensor[i].bytes; at < end; at++)
            if (f->p[at])
                return nb_fail_at(err, NB_NEGATIVE, c->path, (int64_t)at,
                                  "the padding behind tensor %s is not zero", c->tensor[i].name);
    }
    return NB_OK;
}

/* Of a single file what lies outside of its tensors: length, head (keys, list of tensors),
 * padding. */
static nb_status check_head(const nb_container *c, const char *manifest, const nb_json_node *root,
                            nb_error *err)
{
    const char *sha = NULL;
    int64_t bytes = 0, head = 0;
    uint8_t sum[NB_SHA256_BYTES];
    char hex[2 * NB_SHA256_BYTES + 1];
    nb_mapfile *f = NULL;
    const nb_json_node *e = nb_json_get(root, "head");
    if (!nb_json_int(nb_json_get(root, "bytes"), &bytes) ||
        !nb_json_int(nb_json_get(e, "bytes"), &head) ||
        !nb_json_string(nb_json_get(e, "sha256"), &sha, NULL))
        return nb_fail_at(err, NB_BAD_INPUT, manifest, (int64_t)nb_json_offset(e),
                          "no manifest: a head without bytes and sha256, or no bytes of the file");
    nb_status st = nb_mapfile_open(c->where, &f, err);
    if (st != NB_OK)
        return st;
    if (bytes < 0 || (uint64_t)bytes != f->n)
        st = nb_fail_at(err, NB_NEGATIVE, c->path, -1, "has %zu bytes, the manifest says %lld",
                        f->n, (long long)bytes);
    else if (head < 0 || (uint64_t)head > f->n ||
             (c->n_tensor && (uint64_t)head != c->tensor[0].offset))
        st = nb_fail_at(
            err, NB_NEGATIVE, c->path, -1, "its tensors begin at byte %llu, the manifest says %lld",
            (unsigned long long)(c->n_tensor ? c->tensor[0].offset : f->n), (long long)head);
    if (st == NB_OK) {
        nb_sha256(f->p, (size_t)head, sum);
        nb_hex(sum, sizeof sum, hex);
        if (strcmp(hex, sha) != 0)
            st = nb_fail_at(err, NB_NEGATIVE, c->path, 0,
                            "its head, the %lld bytes of keys and the list of tensors, does not "
                            "have the hash of the manifest",
                            (long long)head);
    }
    if (st == NB_OK)
        st = check_padding(c, f, err);
    nb_mapfile_close(f);
    return st;
}

static nb_status check_tensors(const nb_container *c, const char *path, const nb_json_node *list,
                               nb_error *err)
{
    bool *seen = nb_alloc_zero((size_t)c->n_tensor + 1, sizeof *seen, "a list of tensors", err);
    nb_status st = seen ? NB_OK : NB_NO_ROOM;
    for (const nb_json_node *e = nb_json_first(list); e && st == NB_OK; e = nb_json_next(e))
        st = check_tensor(c, path, e, seen, err);
    if (st == NB_OK && nb_json_count(list) != (size_t)c->n_tensor)
        st = nb_fail_at(err, NB_NEGATIVE, c->path, -1, "%lld tensors, the manifest has %zu",
                        (long long)c->n_tensor, nb_json_count(list));
    free(seen);
    return st;
}

static bool lists(const nb_json_node *files, const char *name)
{
    const char *listed = NULL;
    for (const nb_json_node *e = nb_json_first(files); e; e = nb_json_next(e))
        if (nb_json_string(nb_json_get(e, "file"), &listed, NULL) && strcmp(listed, name) == 0)
            return true;
    return false;
}

/* What loaders would read beside the files of the manifest. */
static nb_status check_others(const nb_container *c, const nb_json_node *files, nb_error *err)
{
    char shown[132];
    nb_status st = NB_OK;
    DIR *dir = opendir(c->where);
    for (const struct dirent *e; dir && st == NB_OK && (e = readdir(dir));)
        if (nb_is_model_file(e->d_name) && !lists(files, e->d_name))
            st =
                nb_fail_at(err, NB_NEGATIVE, c->where, -1, "the file %.128s is not in the manifest",
                           nb_escape(shown, sizeof shown, e->d_name, (int64_t)strlen(e->d_name)));
    if (dir)
        closedir(dir);
    return st;
}

nb_status nb_verify_manifest(const nb_container *c, bool *there, nb_error *err)
{
    char path[4096];
    nb_json *doc = NULL;
    nb_status st = open_manifest(c, path, &doc, err);
    *there = doc != NULL;
    if (st != NB_OK || !doc) {
        nb_json_close(doc);
        return st;
    }
    const nb_json_node *root = nb_json_root(doc), *files = nb_json_get(root, "files");
    st = check_tensors(c, path, nb_json_get(root, "tensors"), err);
    for (const nb_json_node *e = nb_json_first(files); e && st == NB_OK; e = nb_json_next(e))
        st = check_file(c, path, e, err);
    if (st == NB_OK && files)
        st = check_others(c, files, err);
    if (st == NB_OK && !files)
        st = check_head(c, path, root, err);
    nb_json_close(doc);
    return st;
}
