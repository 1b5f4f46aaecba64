/* container.c -- opening a checkpoint: a GGUF file or any part of a split one, a .safetensors file,
 * any shard or the index of several, a Hugging Face folder, or a name of the hub that is in its
 * cache (container.h).
 *
 *   FOLDER/config.json  model.safetensors or model.safetensors.index.json + shards
 *          [tokenizer.json or tokenizer.model, tokenizer_config.json generation_config.json
 *              chat_template.jinja]
 *
 * Where there is an index it wins over a single file, which is stale then. Tensor files stay
 * mapped; JSON files are parsed and let go. Pickles (.bin, .pt ...) are programs, so they are
 * refused. */
#include "file/container.h"
#include "file/hub.h"
#include "file/parts.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define INDEX "model.safetensors.index.json"

typedef struct checkpoint {
    nb_container pub;   /* first: what callers hold */
    nb_arena *arena;    /* paths */
    const char *folder; /* of the files beside the tensors; "": the current one */
    nb_parts parts;
    nb_text warning;
    nb_tensor *tensor; /* of all parts, when there are several */
    nb_shard_index *index;
    const char *index_path;
    nb_mapfile *chat_template, *tokenizer_model;
    nb_json *config, *tokenizer, *tokenizer_config, *generation_config, *quantize_config;
    nb_names *names;
} checkpoint;

/* ---- GGUF, one file or several ---- */

static nb_status open_gguf(checkpoint *c, const char *path, nb_error *err)
{
    nb_status st = nb_parts_begin(&c->parts, 1, err);
    if (st == NB_OK)
        st = nb_part_open_gguf(&c->parts, 0, path, err);
    if (st == NB_OK && c->parts.part[0].gguf->split_count > 1)
        st = nb_split_open(&c->parts, err);
    c->pub.kind = NB_CONTAINER_GGUF;
    if (st == NB_OK)
        c->pub.gguf = c->parts.part[0].gguf;
    return st;
}

/* ---- folders ---- */

static const char *path_in(checkpoint *c, const char *name, nb_error *err)
{
    return nb_path_in(c->arena, c->folder, strlen(c->folder), name, err);
}

static bool is_there(const char *path)
{
    struct stat sb;
    /* a link to nothing is there: opening it says so */
    return lstat(path, &sb) == 0 || errno != ENOENT;
}

/* Maps FOLDER/NAME; *out stays NULL when it is not there. */
static nb_status map_optional(checkpoint *c, const char *name, nb_mapfile **out, const char **path,
                              nb_error *err)
{
    *out = NULL;
    *path = path_in(c, name, err);
    if (!*path)
        return NB_NO_ROOM;
    if (!is_there(*path))
        return NB_OK;
    const nb_status st = nb_link_check(c->folder, *path, err);
    return st == NB_OK ? nb_mapfile_open(*path, out, err) : st;
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

/* What stands beside the tensors. */
static nb_status read_companions(checkpoint *c, nb_error *err)
{
    nb_container *pub = &c->pub;
    const char *path = NULL;
    nb_status st = read_json(c, "tokenizer.json", &c->tokenizer, &pub->tokenizer, err);
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
    if (st == NB_OK)
        st = read_json(c, "quantize_config.json", &c->quantize_config, &pub->quantize_config, err);
    if (st == NB_OK && !c->quantize_config)
        st = read_json(c, "quant_config.json", &c->quantize_config, &pub->quantize_config, err);
    return st;
}

/* What a folder holds instead of weights that are read: the last of each kind by name, how many. */
typedef struct instead {
    char pickle[300], gguf[300], shard[300];
    int n_gguf; /* models: of a split one the first part counts */
} instead;

static nb_status look_around(const checkpoint *c, instead *i, nb_error *err)
{
    *i = (instead){.n_gguf = 0};
    DIR *dir = opendir(*c->folder ? c->folder : ".");
    if (!dir)
        return nb_fail_errno_at(err, c->folder, "cannot list the folder");
    /* NOLINT(concurrency-mt-unsafe): our own DIR */
    for (const struct dirent *e; (e = readdir(dir));) {
        const char *of = strstr(e->d_name, "-of-");
        if (nb_is_pickle(e->d_name) && strcmp(e->d_name, i->pickle) > 0)
            snprintf(i->pickle, sizeof i->pickle, "%s", e->d_name);
        if (nb_ends_with(e->d_name, ".gguf") &&
            !(of && of - e->d_name >= 5 && strncmp(of - 5, "00001", 5) != 0)) {
            snprintf(i->gguf, sizeof i->gguf, "%s", e->d_name);
            i->n_gguf++;
        }
        if (nb_ends_with(e->d_name, ".safetensors") && of)
            snprintf(i->shard, sizeof i->shard, "%s", e->d_name);
    }
    closedir(dir);
    return NB_OK;
}

static nb_status no_weights(checkpoint *c, nb_error *err)
{
    instead i;
    nb_status st = look_around(c, &i, err);
    if (st != NB_OK)
        return st;
    if (*i.pickle) {
        const char *path = path_in(c, i.pickle, err);
        return path ? nb_refuse_pickle(path, err) : NB_NO_ROOM;
    }
    if (*i.shard)
        return nb_fail_at(err, NB_NOT_FOUND, c->folder, -1,
                          "a folder without " INDEX ", which would say what is in %.128s", i.shard);
    st = nb_fail_at(err, NB_NOT_FOUND, c->folder, -1, "a folder without model.safetensors");
    if (*i.gguf)
        nb_hint(err, "name the file itself: %s/%s", c->folder, i.gguf);
    return st;
}

static nb_status open_shards(checkpoint *c, const char *index, nb_error *err)
{
    c->pub.kind = NB_CONTAINER_HF;
    c->index_path = index;
    return nb_shards_open(&c->parts, c->folder, index, &c->index, err);
}

static nb_status open_one(checkpoint *c, const char *path, nb_error *err)
{
    c->pub.kind = NB_CONTAINER_HF;
    const nb_status st = nb_parts_begin(&c->parts, 1, err);
    return st == NB_OK ? nb_part_open_safetensors(&c->parts, 0, path, err) : st;
}

static nb_status open_weights(checkpoint *c, nb_error *err)
{
    const char *index = path_in(c, INDEX, err), *one = path_in(c, "model.safetensors", err);
    if (!index || !one)
        return NB_NO_ROOM;
    if (is_there(index))
        return open_shards(c, index, err);
    if (!is_there(one))
        return no_weights(c, err);
    const nb_status st = nb_link_check(c->folder, one, err);
    return st == NB_OK ? open_one(c, one, err) : st;
}

static nb_status open_folder(checkpoint *c, nb_error *err)
{
    nb_status st = read_json(c, "config.json", &c->config, &c->pub.config, err);
    if (st == NB_OK && !c->config)
        st = nb_fail_at(err, NB_NOT_FOUND, c->folder, -1, "a folder without config.json");
    if (st == NB_OK)
        st = open_weights(c, err);
    return st == NB_OK ? read_companions(c, err) : st;
}

/* The snapshot of a hub repository: a folder like any other, or one with a GGUF model in it. */
static nb_status open_snapshot(checkpoint *c, const nb_hub_name *name, nb_error *err)
{
    instead i;
    nb_status st = look_around(c, &i, err);
    const char *config = path_in(c, "config.json", err), *gguf = path_in(c, i.gguf, err);
    if (!config || !gguf)
        return NB_NO_ROOM;
    if (st == NB_OK && i.n_gguf > 1 && !is_there(config)) {
        st = nb_fail_at(err, NB_UNSUPPORTED, c->pub.path, -1, "the repository holds %d GGUF models",
                        i.n_gguf);
        nb_hint(err, "name the file itself, such as %s", gguf);
        return st;
    }
    const bool file = i.n_gguf == 1 && !is_there(config);
    if (file)
        c->pub.where = gguf;
    if (st == NB_OK)
        st = file ? open_gguf(c, gguf, err) : open_folder(c, err);
    if (st == NB_NOT_FOUND) /* a download that ended half-way */
        nb_hub_hint(name, err);
    return st;
}

/* ---- single files ---- */

/* The index that lists this file: PREFIX.safetensors.index.json beside
 * PREFIX-00001-of-00003.safetensors, else model.safetensors.index.json. *out stays NULL when there
 * is none, or it lists others. */
static nb_status index_of(checkpoint *c, const char *path, const char **out, nb_error *err)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path,
               *of = strstr(name, "-of-");
    char own[300] = "";
    if (of && of - name > 6 && of[-6] == '-')
        snprintf(own, sizeof own, "%.*s.safetensors.index.json", (int)(of - name) - 6, name);
    const char *const names[] = {own, INDEX};
    *out = NULL;
    nb_status st = NB_OK;
    for (int i = 0; i < 2 && st == NB_OK && !*out; i++) {
        nb_mapfile *m = NULL;
        nb_shard_index *x = NULL;
        const char *at = NULL;
        if (!*names[i])
            continue;
        st = map_optional(c, names[i], &m, &at, err);
        if (st == NB_OK && m)
            st = nb_shard_index_parse(at, m->p ? (const char *)m->p : "", m->n, &x, err);
        if (x && nb_shard_index_lists(x, name))
            *out = at;
        nb_shard_index_close(x);
        nb_mapfile_close(m);
    }
    return st;
}

/* The shards of an index, and what a model folder has beside them where this is one. */
static nb_status open_index(checkpoint *c, const char *index, nb_error *err)
{
    nb_status st = read_json(c, "config.json", &c->config, &c->pub.config, err);
    if (st == NB_OK)
        st = open_shards(c, index, err);
    return st == NB_OK ? read_companions(c, err) : st;
}

static nb_status open_safetensors(checkpoint *c, const char *path, nb_error *err)
{
    const char *index = NULL;
    nb_status st = index_of(c, path, &index, err);
    if (st == NB_OK)
        st = index ? open_index(c, index, err) : open_one(c, path, err);
    return st;
}

static nb_status starts_with_gguf(const char *path, bool *yes, nb_error *err)
{
    nb_mapfile *m = NULL;
    const nb_status st = nb_mapfile_open(path, &m, err); /* refuses pipes and devices */
    *yes = st == NB_OK && m->n >= 4 && memcmp(m->p, "GGUF", 4) == 0;
    nb_mapfile_close(m);
    return st;
}

static nb_status open_file(checkpoint *c, nb_error *err)
{
    const char *path = c->pub.path, *slash = strrchr(path, '/');
    bool gguf = false;
    c->folder =
        nb_arena_strdup(c->arena, path, slash ? (size_t)(slash - path) + (slash == path) : 0, err);
    if (!c->folder)
        return NB_NO_ROOM;
    const nb_status st = starts_with_gguf(path, &gguf, err);
    if (st != NB_OK)
        return st;
    if (gguf || nb_ends_with(path, ".gguf"))
        return open_gguf(c, path, err);
    if (nb_ends_with(path, ".safetensors.index.json"))
        return open_index(c, path, err);
    if (nb_ends_with(path, ".safetensors"))
        return open_safetensors(c, path, err);
    if (nb_is_pickle(path))
        return nb_refuse_pickle(path, err);
    return nb_fail_at(err, NB_BAD_INPUT, path, -1, "neither GGUF nor safetensors");
}

/* ---- one list of tensors ---- */

static const char *tensor_name_at(const void *items, size_t i, size_t *n)
{
    const char *name = ((const nb_tensor *)items)[i].name;
    *n = strlen(name);
    return name;
}

static const nb_tensor *tensors_of(const nb_part *p, int64_t *n)
{
    *n = p->gguf ? p->gguf->n_tensor : p->st->n_tensor;
    return p->gguf ? p->gguf->tensor : p->st->tensor;
}

/* The tensors of all parts, in the order of the parts. */
static nb_status join(checkpoint *c, nb_error *err)
{
    int64_t n = 0, total = 0;
    for (int64_t i = 0; i < c->parts.n; i++) {
        c->pub.file_bytes += c->parts.part[i].file->n;
        c->pub.tensor = tensors_of(&c->parts.part[i], &n);
        total += n;
    }
    c->pub.n_tensor = total;
    if (c->parts.n == 1)
        return NB_OK;
    nb_tensor *t = c->tensor =
        nb_alloc((size_t)total, sizeof *t, "the tensors of a checkpoint", err);
    if (!t)
        return NB_NO_ROOM;
    c->pub.tensor = t;
    for (int64_t i = 0; i < c->parts.n; i++) {
        const nb_tensor *from = tensors_of(&c->parts.part[i], &n);
        for (int64_t k = 0; k < n; k++, t++) {
            *t = from[k];
            t->part = (int32_t)i;
        }
    }
    return NB_OK;
}

/* Each file refuses duplicates of its own; between files they are seen here. */
static nb_status index_names(checkpoint *c, nb_error *err)
{
    nb_hash_key hash;
    nb_hash_key_draw(&hash);
    c->names = nb_names_open((size_t)c->pub.n_tensor, &hash, tensor_name_at, err);
    if (!c->names)
        return NB_NO_ROOM;
    for (int64_t i = 0; i < c->pub.n_tensor; i++) {
        const nb_tensor *t = &c->pub.tensor[i];
        if (!nb_names_add(c->names, c->pub.tensor, (size_t)i))
            return nb_fail_at(err, NB_BAD_INPUT, nb_container_file(&c->pub, t), (int64_t)t->offset,
                              "tensor %.128s is in %.128s too", t->name,
                              nb_container_file(&c->pub, nb_container_find(&c->pub, t->name)));
    }
    return NB_OK;
}

/* Opens what the path names into c. */
static nb_status open_path(checkpoint *c, const char *path, nb_error *err)
{
    struct stat sb;
    nb_hub_name name;
    char found[NB_HUB_PATH];
    c->parts = (nb_parts){.arena = c->arena, .warning = &c->warning};
    c->pub.path = nb_arena_strdup(c->arena, path, strlen(path), err);
    if (!c->pub.path)
        return NB_NO_ROOM;
    c->folder = c->pub.where = c->pub.path;
    if (stat(path, &sb) == 0)
        return S_ISDIR(sb.st_mode) ? open_folder(c, err) : open_file(c, err);
    if ((errno != ENOENT && errno != ENOTDIR) || !nb_hub_name_parse(path, &name))
        return nb_fail_errno_at(err, path, "cannot open");
    const nb_status st = nb_hub_find(&name, found, err);
    if (st != NB_OK)
        return st;
    c->folder = c->pub.where = nb_arena_strdup(c->arena, found, strlen(found), err);
    return c->folder ? open_snapshot(c, &name, err) : NB_NO_ROOM;
}

nb_status nb_container_open(const char *path, nb_container **out, nb_error *err)
{
    *out = NULL;
    checkpoint *c = nb_alloc_zero(1, sizeof *c, "a checkpoint", err);
    if (!c)
        return NB_NO_ROOM;
    c->arena = nb_arena_open("a checkpoint", err);
    nb_status st = c->arena ? open_path(c, path, err) : NB_NO_ROOM;
    if (st == NB_OK)
        st = join(c, err);
    if (st == NB_OK)
        st = index_names(c, err);
    if (st == NB_OK && c->index)
        st = nb_shard_index_hold(c->index, c->index_path, c->pub.tensor, c->pub.n_tensor, c->names,
                                 &c->warning, err);
    if (st == NB_OK)
        st = nb_text_check(&c->warning, "a warning", err);
    if (st != NB_OK) {
        nb_container_close(&c->pub);
        return st;
    }
    c->pub.warning = c->warning.p;
    *out = &c->pub;
    return NB_OK;
}

void nb_container_close(nb_container *pub)
{
    checkpoint *c = (checkpoint *)pub;
    if (!c)
        return;
    nb_names_close(c->names);
    nb_shard_index_close(c->index);
    nb_json_close(c->config);
    nb_json_close(c->tokenizer);
    nb_json_close(c->tokenizer_config);
    nb_json_close(c->generation_config);
    nb_json_close(c->quantize_config);
    nb_mapfile_close(c->chat_template);
    nb_mapfile_close(c->tokenizer_model);
    nb_parts_close(&c->parts);
    nb_text_free(&c->warning);
    free(c->tensor);
    nb_arena_close(c->arena);
    free(c);
}

const char *nb_container_file(const nb_container *pub, const nb_tensor *t)
{
    return ((const checkpoint *)pub)->parts.part[t->part].path;
}

const nb_tensor *nb_container_find(const nb_container *pub, const char *name)
{
    const checkpoint *c = (const checkpoint *)pub;
    size_t i = 0;
    return nb_names_find(c->names, pub->tensor, name, strlen(name), &i) ? &pub->tensor[i] : NULL;
}

void nb_container_ask(const nb_container *pub, const nb_tensor *t)
{
    const checkpoint *c = (const checkpoint *)pub;
    nb_mapfile_ask(c->parts.part[t->part].file, t->offset, t->bytes);
}

void nb_container_release(const nb_container *pub, const nb_tensor *t)
{
    const checkpoint *c = (const checkpoint *)pub;
    nb_mapfile_release(c->parts.part[t->part].file, t->offset, t->bytes);
}
