/* container.c -- opening a checkpoint: a GGUF file, a .safetensors file, or a Hugging Face folder
 * (container.h).
 *
 *   FOLDER/config.json  model.safetensors  [tokenizer.json or tokenizer.model, tokenizer_config.json
 * generation_config.json chat_template.jinja]
 *
 * Tensor files stay mapped; JSON files are parsed and let go. Pickles (.bin, .pt ...) are programs,
 * so they are refused. */
#include "file/container.h"
#include "base/mapfile.h"
#include "file/names.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

typedef struct checkpoint {
    nb_container pub; /* first: what callers hold */
    nb_arena *arena;  /* paths, the warning */
    nb_mapfile *file; /* of the tensors */
    nb_mapfile *chat_template, *tokenizer_model;
    nb_gguf *gguf;
    nb_safetensors *st;
    nb_json *config, *tokenizer, *tokenizer_config, *generation_config;
    nb_names *names;
} checkpoint;

static bool ends_with(const char *s, const char *suffix)
{
    const size_t n = strlen(s), m = strlen(suffix);
    return n >= m && strcasecmp(s + n - m, suffix) == 0;
}

static bool is_pickle(const char *name)
{
    return ends_with(name, ".bin") || ends_with(name, ".pt") || ends_with(name, ".pth") ||
           ends_with(name, ".ckpt") || ends_with(name, ".pkl");
}

static nb_status refuse_pickle(const char *path, nb_error *err)
{
    const nb_status st =
        nb_fail_at(err, NB_UNSUPPORTED, path, -1,
                   "a pickle, which is a program; only safetensors and GGUF are read");
    nb_hint(err, "ask the publisher for a safetensors file");
    return st;
}

/* Does it look like a name on the hub: ORG/REPO of letters, digits, '.', '-' and '_'? */
static bool is_hub_name(const char *path)
{
    int slashes = 0;
    for (const char *p = path; *p; p++)
        if (*p == '/')
            slashes++;
        else if (!isalnum((unsigned char)*p) && !strchr("-_.", *p))
            return false;
    const char *slash = strchr(path, '/');
    return slashes == 1 && slash > path && slash[1] && path[0] != '.' && slash[1] != '.';
}

static nb_status not_there(const char *path, nb_error *err)
{
    const nb_status st = nb_fail_errno_at(err, path, "cannot open");
    if (st == NB_NOT_FOUND && is_hub_name(path))
        nb_hint(err, "nibble pull %s", path);
    return st;
}

static nb_status open_gguf(checkpoint *c, nb_error *err)
{
    const nb_status st = nb_gguf_parse(c->pub.path, c->file->p, c->file->n, &c->gguf, err);
    if (st != NB_OK)
        return st;
    c->pub.kind = NB_CONTAINER_GGUF;
    c->pub.gguf = c->gguf;
    c->pub.tensor = c->gguf->tensor;
    c->pub.n_tensor = c->gguf->n_tensor;
    if (c->gguf->end < c->file->n) {
        char text[160];
        const int n = snprintf(text, sizeof text, "%zu bytes behind the last tensor are ignored",
                               c->file->n - c->gguf->end);
        c->pub.warning = nb_arena_strdup(c->arena, text, (size_t)n, err);
        if (!c->pub.warning)
            return NB_NO_ROOM;
    }
    return NB_OK;
}

static nb_status open_safetensors(checkpoint *c, const char *path, nb_error *err)
{
    const nb_status st = nb_safetensors_parse(path, c->file->p, c->file->n, &c->st, err);
    if (st != NB_OK)
        return st;
    c->pub.kind = NB_CONTAINER_HF;
    c->pub.tensor = c->st->tensor;
    c->pub.n_tensor = c->st->n_tensor;
    return NB_OK;
}

static nb_status open_file(checkpoint *c, nb_error *err)
{
    const char *path = c->pub.path;
    const nb_status st = nb_mapfile_open(path, &c->file, err);
    if (st != NB_OK)
        return st;
    if ((c->file->n >= 4 && memcmp(c->file->p, "GGUF", 4) == 0) || ends_with(path, ".gguf"))
        return open_gguf(c, err);
    if (ends_with(path, ".safetensors"))
        return open_safetensors(c, path, err);
    if (is_pickle(path))
        return refuse_pickle(path, err);
    return nb_fail_at(err, NB_BAD_INPUT, path, -1, "neither GGUF nor safetensors");
}

/* FOLDER/NAME, in the arena. */
static const char *path_in(checkpoint *c, const char *name, nb_error *err)
{
    const size_t n = strlen(c->pub.path), m = strlen(name);
    char *path = nb_arena_alloc(c->arena, n + m + 2, 1, err);
    if (path)
        snprintf(path, n + m + 2, "%s/%s", c->pub.path, name);
    return path;
}

/* Maps FOLDER/NAME; *out stays NULL when it is not there. */
static nb_status map_optional(checkpoint *c, const char *name, nb_mapfile **out, const char **path,
                              nb_error *err)
{
    struct stat sb;
    *out = NULL;
    *path = path_in(c, name, err);
    if (!*path)
        return NB_NO_ROOM;
    if (stat(*path, &sb) != 0 && errno == ENOENT)
        return NB_OK;
    return nb_mapfile_open(*path, out, err);
}

static nb_status read_json(checkpoint *c, const char *name, nb_json **own, const nb_json **shown,
                           nb_error *err)
{
    nb_mapfile *m = NULL;
    const char *path = NULL;
    nb_status st = map_optional(c, name, &m, &path, err);
    if (st != NB_OK || !m)
        return st;
    st = nb_json_parse(path, m->p ? (const char *)m->p : "", m->n, own, err);
    nb_mapfile_close(m);
    if (st == NB_OK && nb_json_typeof(nb_json_root(*own)) != NB_JSON_OBJECT)
        st = nb_fail_at(err, NB_BAD_INPUT, path, 0, "not a JSON object");
    *shown = *own;
    return st;
}

/* Says what the folder holds instead of model.safetensors. */
static nb_status no_weights(const checkpoint *c, nb_error *err)
{
    char pickle[300] = "", gguf[300] = "";
    DIR *dir = opendir(c->pub.path);
    if (!dir)
        return nb_fail_errno_at(err, c->pub.path, "cannot list the folder");
    for (const struct dirent *e;
         (e = readdir(dir));) { /* NOLINT(concurrency-mt-unsafe): our own DIR */
        if (is_pickle(e->d_name))
            snprintf(pickle, sizeof pickle, "%s", e->d_name);
        if (ends_with(e->d_name, ".gguf"))
            snprintf(gguf, sizeof gguf, "%s", e->d_name);
    }
    closedir(dir);
    if (*pickle) {
        char path[1400];
        snprintf(path, sizeof path, "%.1000s/%s", c->pub.path, pickle);
        return refuse_pickle(path, err);
    }
    const nb_status st =
        nb_fail_at(err, NB_NOT_FOUND, c->pub.path, -1, "a folder without model.safetensors");
    if (*gguf)
        nb_hint(err, "name the file itself: %s/%s", c->pub.path, gguf);
    return st;
}

static nb_status open_weights(checkpoint *c, nb_error *err)
{
    struct stat sb;
    const char *path = path_in(c, "model.safetensors.index.json", err);
    if (!path)
        return NB_NO_ROOM;
    if (stat(path, &sb) == 0) /* where there is an index it wins over a stale single file */
        return nb_fail_at(err, NB_UNSUPPORTED, path, -1,
                          "a model in several safetensors files is not read yet");
    const nb_status st = map_optional(c, "model.safetensors", &c->file, &path, err);
    if (st != NB_OK)
        return st;
    return c->file ? open_safetensors(c, path, err) : no_weights(c, err);
}

static nb_status open_folder(checkpoint *c, nb_error *err)
{
    nb_container *pub = &c->pub;
    const char *path = NULL;
    nb_status st = read_json(c, "config.json", &c->config, &pub->config, err);
    if (st == NB_OK && !c->config) {
        st = nb_fail_at(err, NB_NOT_FOUND, pub->path, -1, "a folder without config.json");
        if (is_hub_name(pub->path))
            nb_hint(err, "nibble pull %s", pub->path);
    }
    if (st == NB_OK)
        st = open_weights(c, err);
    if (st == NB_OK)
        st = read_json(c, "tokenizer.json", &c->tokenizer, &pub->tokenizer, err);
    if (st == NB_OK && !c->tokenizer)
        st = map_optional(c, "tokenizer.model", &c->tokenizer_model, &path, err);
    if (st == NB_OK && c->tokenizer_model) {
        pub->tokenizer_model = c->tokenizer_model->p ? c->tokenizer_model->p : (const uint8_t *)"";
        pub->tokenizer_model_bytes = c->tokenizer_model->n;
    }
    if (st == NB_OK)
        st = read_json(c, "tokenizer_config.json", &c->tokenizer_config, &pub->tokenizer_config,
                       err);
    if (st == NB_OK)
        st = read_json(c, "generation_config.json", &c->generation_config, &pub->generation_config,
                       err);
    if (st == NB_OK)
        st = map_optional(c, "chat_template.jinja", &c->chat_template, &path, err);
    if (st == NB_OK && c->chat_template) {
        pub->chat_template = c->chat_template->p ? (const char *)c->chat_template->p : "";
        pub->chat_template_bytes = c->chat_template->n;
    }
    return st;
}

static const char *tensor_name_at(const void *items, size_t i, size_t *n)
{
    const char *name = ((const nb_tensor *)items)[i].name;
    *n = strlen(name);
    return name;
}

/* Both formats refuse duplicates on their own; the index only has to find. */
static nb_status index_names(checkpoint *c, nb_error *err)
{
    nb_hash_key hash;
    nb_hash_key_draw(&hash);
    c->names = nb_names_open((size_t)c->pub.n_tensor, &hash, tensor_name_at, err);
    if (!c->names)
        return NB_NO_ROOM;
    for (int64_t i = 0; i < c->pub.n_tensor; i++)
        (void)nb_names_add(c->names, c->pub.tensor, (size_t)i);
    return NB_OK;
}

nb_status nb_container_open(const char *path, nb_container **out, nb_error *err)
{
    struct stat sb;
    *out = NULL;
    if (stat(path, &sb) != 0)
        return not_there(path, err);
    checkpoint *c = nb_alloc_zero(1, sizeof *c, "a checkpoint", err);
    if (!c)
        return NB_NO_ROOM;
    nb_status st = NB_OK;
    c->arena = nb_arena_open("a checkpoint", err);
    if (!c->arena || !(c->pub.path = nb_arena_strdup(c->arena, path, strlen(path), err)))
        st = NB_NO_ROOM;
    if (st == NB_OK)
        st = S_ISDIR(sb.st_mode) ? open_folder(c, err) : open_file(c, err);
    if (st == NB_OK)
        st = index_names(c, err);
    if (st != NB_OK) {
        nb_container_close(&c->pub);
        return st;
    }
    c->pub.file_bytes = c->file->n;
    *out = &c->pub;
    return NB_OK;
}

void nb_container_close(nb_container *pub)
{
    checkpoint *c = (checkpoint *)pub;
    if (!c)
        return;
    nb_names_close(c->names);
    nb_gguf_close(c->gguf);
    nb_safetensors_close(c->st);
    nb_json_close(c->config);
    nb_json_close(c->tokenizer);
    nb_json_close(c->tokenizer_config);
    nb_json_close(c->generation_config);
    nb_mapfile_close(c->chat_template);
    nb_mapfile_close(c->tokenizer_model);
    nb_mapfile_close(c->file);
    nb_arena_close(c->arena);
    free(c);
}

const nb_tensor *nb_container_find(const nb_container *pub, const char *name)
{
    const checkpoint *c = (const checkpoint *)pub;
    size_t i = 0;
    return nb_names_find(c->names, pub->tensor, name, strlen(name), &i) ? &pub->tensor[i] : NULL;
}

void nb_container_release(const nb_container *pub, const nb_tensor *t)
{
    const checkpoint *c = (const checkpoint *)pub;
    nb_mapfile_release(c->file, t->offset, t->bytes);
}
