/* shards.c -- hostile indexes of safetensors shards: what an index may name, and what it must not
 * be believed. */
#include "check.h"
#include "file/container.h"
#include "hostile/bytes.h"
#include "hostile/folder.h"

#define INDEX "model.safetensors.index.json"
#define ONE "model-00001-of-00002.safetensors"
#define TWO "model-00002-of-00002.safetensors"

static void text(const folder *d, const char *name, const char *s)
{
    folder_write(d, name, s, strlen(s));
}

/* A file with F32 tensors of one value each, named by the letters, plus an empty one and a scalar
 * when `odd`. */
static void shard(const folder *d, const char *name, const char *letters, bool odd)
{
    char header[1024];
    size_t at = 1, data = 0;
    bytes b = {0};
    header[0] = '{';
    for (; *letters; letters++, data += 4)
        at += (size_t)snprintf(
            header + at, sizeof header - at,
            "%s\"%c\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[%zu,%zu]}",
            at > 1 ? "," : "", *letters, data, data + 4);
    if (odd) {
        at += (size_t)snprintf(
            header + at, sizeof header - at,
            ",\"none\":{\"dtype\":\"F32\",\"shape\":[0,5],\"data_offsets\":[%zu,%zu]},"
            "\"scalar\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[%zu,%zu]}",
            data, data, data, data + 4);
        data += 4;
    }
    at += (size_t)snprintf(header + at, sizeof header - at, "}");
    put_safetensors(&b, header, at, data);
    folder_write(d, name, b.p, b.n);
    free(b.p);
}

/* config.json, two shards with tensors a b, c; the index given, or the right one. */
static folder model(const char *index)
{
    const folder d = folder_new();
    text(&d, "config.json", "{}");
    shard(&d, ONE, "ab", false);
    shard(&d, TWO, "c", false);
    text(&d, INDEX,
         index ? index
               : "{\"metadata\":{\"total_size\":12},\"weight_map\":{\"a\":\"" ONE "\",\"b\":\"" ONE
                 "\",\"c\":\"" TWO "\"}}");
    return d;
}

static void refused(check *c, const char *path, nb_status want, const char *word)
{
    nb_container *m = NULL;
    nb_error err = {0};
    CHECK_EQ(c, nb_container_open(path, &m, &err), want);
    CHECK(c, m == NULL);
    CHECK_HAS(c, err.message, word);
    nb_container_close(m);
}

static void opens(check *c, const char *path, int64_t n_tensor, const char *warning)
{
    nb_container *m = NULL;
    nb_error err = {0};
    CHECK_EQ(c, nb_container_open(path, &m, &err), NB_OK);
    CHECK_STR(c, err.message, "");
    if (!m)
        return;
    CHECK_EQ(c, m->n_tensor, n_tensor);
    for (int64_t i = 0; i < m->n_tensor; i++) {
        const nb_tensor *t = &m->tensor[i];
        CHECK(c, nb_container_find(m, t->name) == t);
        CHECK_HAS(c, nb_container_file(m, t), t->part == 0 ? ONE : TWO);
        if (t->bytes == 4) /* put_safetensors counts upward through the data */
            CHECK_EQ(c, t->data[1] - t->data[0], 1);
        nb_container_release(m, t);
    }
    if (warning)
        CHECK_HAS(c, m->warning, warning);
    else
        CHECK(c, m->warning == NULL);
    nb_container_close(m);
}

static void whole(check *c)
{
    const folder d = model(NULL);
    char path[1024];
    opens(c, d.path, 3, NULL);
    opens(c, folder_in(&d, INDEX, path), 3, NULL);
    opens(c, folder_in(&d, ONE, path), 3, NULL);
    opens(c, folder_in(&d, TWO, path), 3, NULL);
    shard(&d, "model.safetensors", "xyzw", false); /* stale */
    opens(c, d.path, 3, NULL);
    unlink(folder_in(&d, "config.json", path)); /* tensors alone can still be looked at */
    opens(c, folder_in(&d, TWO, path), 3, NULL);
    folder_gone(&d);
}

static void another_prefix(check *c)
{
    const folder d = folder_new();
    char path[1024];
    nb_container *m = NULL;
    shard(&d, "part-00001-of-00002.safetensors", "a", false);
    shard(&d, "part-00002-of-00002.safetensors", "b", false);
    text(&d, "part.safetensors.index.json",
         "{\"weight_map\":{\"a\":\"part-00001-of-00002.safetensors\",\"b\":\"part-00002-of-00002."
         "safetensors\"}}");
    CHECK_EQ(c, nb_container_open(folder_in(&d, "part-00002-of-00002.safetensors", path), &m, NULL),
             NB_OK);
    CHECK_EQ(c, m ? m->n_tensor : 0, 2);
    nb_container_close(m);
    shard(&d, "alone.safetensors", "q", false); /* no index lists it */
    CHECK_EQ(c, nb_container_open(folder_in(&d, "alone.safetensors", path), &m, NULL), NB_OK);
    CHECK_EQ(c, m ? m->n_tensor : 0, 1);
    nb_container_close(m);
    folder_gone(&d);
}

static void odd_shapes(check *c)
{
    const folder d = model("{\"weight_map\":{\"a\":\"" ONE "\",\"b\":\"" ONE "\",\"c\":\"" TWO
                           "\",\"none\":\"" TWO "\",\"scalar\":\"" TWO "\"}}");
    shard(&d, TWO, "c", true);
    opens(c, d.path, 5, NULL);
    folder_gone(&d);
}

static void traversal(check *c)
{
    static const char *const names[] = {"../m.safetensors",
                                        "/etc/passwd",
                                        "a\\\\b.safetensors",
                                        "",
                                        "a\\u0000.safetensors",
                                        "sub/a.safetensors",
                                        "..",
                                        ".safetensors",
                                        "a\\u001b.safetensors",
                                        "a\\u202e.safetensors"};
    char index[1024], long_name[400];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(index, sizeof index, "{\"weight_map\":{\"a\":\"%s\"}}", names[i]);
        const folder d = model(index);
        refused(c, d.path, NB_BAD_INPUT, "is no plain file name, offset 19");
        folder_gone(&d);
    }
    memset(long_name, 'n', sizeof long_name);
    /* 256 */
    snprintf(index, sizeof index, "{\"weight_map\":{\"a\":\"%.244s.safetensors\"}}", long_name);
    folder d = model(index);
    refused(c, d.path, NB_BAD_INPUT, "is no plain file name");
    /* 255 is allowed, and not there */
    snprintf(index, sizeof index, "{\"weight_map\":{\"a\":\"%.243s.safetensors\"}}", long_name);
    text(&d, INDEX, index);
    refused(c, d.path, NB_NOT_FOUND, "not there: nnn");
    text(&d, INDEX, "{\"weight_map\":{\"a\":\"config.json\"}}");
    refused(c, d.path, NB_BAD_INPUT, "is no .safetensors file");
    text(&d, INDEX, "{\"weight_map\":{\"a\":\"pytorch_model-00001-of-00002.bin\"}}");
    refused(c, d.path, NB_UNSUPPORTED, "a pickle, which is a program");
    text(&d, INDEX, "{\"weight_map\":{\"a\":7}}");
    refused(c, d.path, NB_BAD_INPUT, "a file name that is no string");
    folder_gone(&d);
}

static void no_index(check *c)
{
    static const char *const texts[] = {"{}", "{\"weight_map\":{}}", "{\"weight_map\":[]}", "[]"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const folder d = model(texts[i]);
        refused(c, d.path, NB_BAD_INPUT, "no index of shards");
        folder_gone(&d);
    }
    const folder d = model("{\"weight_map\":{\"a\":");
    refused(c, d.path, NB_BAD_INPUT, INDEX ": bad JSON");
    folder_gone(&d);
}

static void symlinks(check *c)
{
    const folder d = model(NULL), other = folder_new();
    char path[1024], target[1024];
    shard(&other, "c.safetensors", "c", false);
    unlink(folder_in(&d, TWO, path));
    CHECK_EQ(c, symlink(folder_in(&other, "c.safetensors", target), path), 0);
    refused(c, d.path, NB_BAD_INPUT, TWO ": a link that leads out of its folder");
    unlink(path);
    CHECK_EQ(c, symlink(ONE "/../" TWO, path), 0); /* a link to nothing */
    refused(c, d.path, NB_NOT_FOUND, TWO);
    unlink(path);
    shard(&d, "elsewhere.safetensors", "c", false);
    CHECK_EQ(c, symlink("elsewhere.safetensors", path), 0); /* in the folder: fine */
    opens(c, d.path, 3, NULL);
    unlink(folder_in(&d, "config.json", path));
    text(&other, "config.json", "{}");
    CHECK_EQ(c, symlink(folder_in(&other, "config.json", target), path), 0);
    refused(c, d.path, NB_BAD_INPUT, "config.json: a link that leads out of its folder");
    folder_gone(&other);
    folder_gone(&d);
    /* the hub's cache: links into the blobs of the same repository */
    const folder cache = folder_new();
    static const char *const folders[] = {"models--o--n",           "models--o--n/blobs",
                                          "models--o--n/snapshots", "models--o--n/snapshots/c0",
                                          "models--o--x",           "models--o--x/blobs"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        CHECK_EQ(c, mkdir(folder_in(&cache, folders[i], path), 0700), 0);
    shard(&cache, "models--o--n/blobs/aa", "ab", false);
    shard(&cache, "models--o--n/blobs/cc", "c", false);
    shard(&cache, "models--o--x/blobs/cc", "c", false);
    text(&cache, "models--o--n/snapshots/c0/config.json", "{}");
    text(&cache, "models--o--n/snapshots/c0/" INDEX,
         "{\"weight_map\":{\"a\":\"" ONE "\",\"b\":\"" ONE "\",\"c\":\"" TWO "\"}}");
    CHECK_EQ(
        c, symlink("../../blobs/aa", folder_in(&cache, "models--o--n/snapshots/c0/" ONE, path)), 0);
    CHECK_EQ(
        c, symlink("../../blobs/cc", folder_in(&cache, "models--o--n/snapshots/c0/" TWO, path)), 0);
    opens(c, folder_in(&cache, "models--o--n/snapshots/c0", target), 3, NULL);
    unlink(path);
    CHECK_EQ(c, symlink("../../../models--o--x/blobs/cc", path), 0); /* of another repository */
    refused(c, target, NB_BAD_INPUT, TWO ": a link that leads out of its folder");
    folder_gone(&cache);
}

static void missing(check *c)
{
    const folder d = model(NULL);
    char path[1024], index[8192];
    size_t at = 0;
    unlink(folder_in(&d, ONE, path));
    refused(c, d.path, NB_NOT_FOUND, INDEX ": 1 of the model's 2 files is not there: " ONE);
    unlink(folder_in(&d, TWO, path));
    refused(c, d.path, NB_NOT_FOUND,
            INDEX ": 2 of the model's 2 files are not there: " ONE ", " TWO);
    at += (size_t)snprintf(index, sizeof index, "{\"weight_map\":{");
    for (int i = 0; i < 40; i++)
        at += (size_t)snprintf(index + at, sizeof index - at,
                               "%s\"t%d\":\"model-%05d-of-00040.safetensors\"", i ? "," : "", i,
                               i + 1);
    snprintf(index + at, sizeof index - at, "}}");
    text(&d, INDEX, index);
    refused(c, d.path, NB_NOT_FOUND,
            "40 of the model's 40 files are not there: model-00001-of-00040.safetensors, ");
    refused(c, d.path, NB_NOT_FOUND, " more");
    folder_gone(&d);
}

static void not_in_shard(check *c)
{
    folder d = model("{\"weight_map\":{\"a\":\"" ONE "\",\"b\":\"" TWO "\",\"c\":\"" TWO "\"}}");
    refused(c, d.path, NB_BAD_INPUT, "tensor b is in " ONE ", the index says " TWO);
    text(&d, INDEX,
         "{\"weight_map\":{\"a\":\"" ONE "\",\"b\":\"" ONE "\",\"c\":\"" TWO "\",\"d\":\"" TWO
         "\"}}");
    refused(c, d.path, NB_BAD_INPUT, "tensor d is not in " TWO ", where the index has it");
    text(&d, INDEX,
         "{\"weight_map\":{\"a\":\"" ONE "\",\"b\":\"" ONE "\",\"c\":\"" TWO "\","
         "\"model.layers.0.self_attn.rotary_emb.inv_freq\":\"" TWO "\"}}");
    /* what old indexes do */
    opens(c, d.path, 3, "1 buffers that nobody reads are listed and not there");
    folder_gone(&d);
}

static void in_two(check *c)
{
    const folder d = model(NULL);
    shard(&d, TWO, "ca", false);
    refused(c, d.path, NB_BAD_INPUT, "tensor a is in ");
    folder_gone(&d);
}

static void unindexed(check *c)
{
    const folder d = model("{\"weight_map\":{\"a\":\"" ONE "\",\"c\":\"" TWO "\"}}");
    opens(c, d.path, 3, "1 tensors of the shards are not listed");
    folder_gone(&d);
}

static void total_size(check *c)
{
    folder d = model("{\"metadata\":{\"total_size\":13},\"weight_map\":{\"a\":\"" ONE
                     "\",\"b\":\"" ONE "\",\"c\":\"" TWO "\"}}");
    opens(c, d.path, 3, INDEX ": total_size is 13, the tensors have 12 bytes");
    text(&d, INDEX,
         "{\"metadata\":{\"total_size\":1.2e1},\"weight_map\":{\"a\":\"" ONE "\",\"b\":\"" ONE
         "\",\"c\":\"" TWO "\"}}");
    opens(c, d.path, 3, NULL);
    text(&d, INDEX,
         "{\"metadata\":{\"total_size\":\"12\"},\"weight_map\":{\"a\":\"" ONE "\",\"b\":\"" ONE
         "\",\"c\":\"" TWO "\"}}");
    opens(c, d.path, 3, NULL);
    folder_gone(&d);
}

static void special(check *c)
{
    const folder d = model(NULL);
    char path[1024];
    unlink(folder_in(&d, TWO, path));
    CHECK_EQ(c, mkfifo(path, 0600), 0);
    refused(c, d.path, NB_BAD_INPUT, TWO ": not a regular file");
    unlink(path);
    CHECK_EQ(c, mkdir(path, 0700), 0);
    refused(c, d.path, NB_BAD_INPUT, TWO ": not a regular file");
    rmdir(path);
    CHECK_EQ(c, symlink("/dev/zero", path), 0);
    refused(c, d.path, NB_BAD_INPUT, TWO ": a link that leads out of its folder");
    unlink(path);
    shard(&d, TWO, "c", false);
    unlink(folder_in(&d, INDEX, path));
    CHECK_EQ(c, mkfifo(path, 0600), 0);
    refused(c, d.path, NB_BAD_INPUT, INDEX ": not a regular file");
    folder_gone(&d);
}

static void cut_shard(check *c)
{
    const folder d = model(NULL);
    char path[1024];
    struct stat sb;
    if (stat(folder_in(&d, TWO, path), &sb) == 0)
        CHECK_EQ(c, truncate(path, sb.st_size - 1), 0);
    refused(c, d.path, NB_BAD_INPUT,
            TWO ": tensor c ends at byte 4 of 3 bytes of data; is the download complete?");
    folder_gone(&d);
}

static const check_case cases[] = {
    {"a folder, its index and each of its shards open the whole model, whatever single file is "
     "beside them",
     whole},
    {"shards and index may have another prefix", another_prefix},
    {"st-zero-dim: empty and scalar tensors in a shard", odd_shapes},
    {"si-traversal: a shard is a plain file name", traversal},
    {"an index without a map of weights is none", no_index},
    {"si-symlink-out: a link out of the folder is refused, one into the same repository's blobs is "
     "not",
     symlinks},
    {"si-missing: all missing shards are named", missing},
    {"si-not-in-shard: a tensor is where the index says", not_in_shard},
    {"si-in-two: a tensor is in one shard", in_two},
    {"si-unindexed: a tensor that is not listed is warned of", unindexed},
    {"si-total-size: another total is warned of", total_size},
    {"si-special: pipes, folders and devices named like shards are refused at once", special},
    {"a shard that is cut names itself", cut_shard},
};
CHECK_MAIN(cases)
