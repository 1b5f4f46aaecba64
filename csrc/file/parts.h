/* parts.h -- the files of an open container: one, or the shards of a safetensors index, or the
 * parts of a split GGUF.
 *
 * What opens several files (shards.c, split.c) fills a list of parts; container.c makes one list of
 * tensors of it. */
#ifndef NB_FILE_PARTS_H
#define NB_FILE_PARTS_H

#include "base/mapfile.h"
#include "base/text.h"
#include "file/container.h"
#include "file/names.h"

typedef struct nb_part {
    const char *path; /* in the list's arena */
    nb_mapfile *file;
    nb_gguf *gguf; /* or */
    nb_safetensors *st;
} nb_part;

typedef struct nb_parts {
    nb_arena *arena; /* borrowed: paths */
    int64_t n;
    nb_part *part;
    nb_text *warning; /* borrowed: sentences worth showing */
} nb_parts;

/* Room for n parts, none of them open yet. */
nb_status nb_parts_begin(nb_parts *p, int64_t n, nb_error *err) NB_CHECKED;
/* Maps and parses part i. path is copied. */
nb_status nb_part_open_gguf(nb_parts *p, int64_t i, const char *path, nb_error *err) NB_CHECKED;
nb_status nb_part_open_safetensors(nb_parts *p, int64_t i, const char *path,
                                   nb_error *err) NB_CHECKED;
void nb_parts_close(nb_parts *p);
/* Adds "PATH: ..." to the sentences worth showing. */
void nb_warn_of(nb_text *warning, const char *path, const char *format, ...) NB_PRINTF(3, 4);

/* "FOLDER/NAME" in the arena; folder of n bytes, "" for the current one. NULL: no memory, the
 * sentence is set. */
const char *nb_path_in(nb_arena *a, const char *folder, size_t n, const char *name, nb_error *err);

/* NB_BAD_INPUT when path, a file of the folder, is a link that leads out of it. A link of the hub's
 * cache into the blobs of its own repository is none. A path that is not there, or no link, is
 * fine. */
nb_status nb_link_check(const char *folder, const char *path, nb_error *err) NB_CHECKED;

/* Sentences that name several files: adds `name` unless the text is long already; *n counts.
 * nb_list_end adds " and N more". */
typedef struct nb_list {
    char text[300];
    size_t at;
    int64_t n, shown;
} nb_list;
void nb_list_add(nb_list *l, const char *name);
const char *nb_list_end(nb_list *l);

/* ---- split GGUF: PREFIX-00001-of-00003.gguf (split.c) ---- */

/* Part p->part[0] is open and says that it is one of several; opens the others, in order, so that p
 * holds all of them. NB_NOT_FOUND names the missing ones; NB_BAD_INPUT: names and keys disagree, or
 * the parts among themselves. */
nb_status nb_split_open(nb_parts *p, nb_error *err) NB_CHECKED;

/* ---- shards of safetensors: model.safetensors.index.json (shards.c) ---- */

typedef struct nb_shard_index {
    nb_json *doc;            /* owns the names */
    const nb_json_node *map; /* tensor -> file */
    int64_t n_file;
    const char **file;   /* each once, sorted: plain names in the index's own folder, ending in
                        * .safetensors */
    uint64_t total_size; /* bytes of all tensors, as the index says; UINT64_MAX: it does not */
} nb_shard_index;
/* NB_BAD_INPUT: no such index, or a file name that could lead elsewhere. NB_UNSUPPORTED: it names
 * pickles. path is borrowed for sentences. */
nb_status nb_shard_index_parse(const char *path, const char *text, size_t n, nb_shard_index **out,
                               nb_error *err) NB_CHECKED;
void nb_shard_index_close(nb_shard_index *x); /* NULL is fine */
bool nb_shard_index_lists(const nb_shard_index *x, const char *file);
/* Holds the tensors that the files do hold (t[i].part numbers x->file) to what the index says.
 * names: their index.
 * NB_BAD_INPUT: a listed tensor is not where the index says. Warns of tensors that the index does
 * not list, of buffers that nobody reads and that old indexes list (rotary_emb.inv_freq), of
 * another total. */
nb_status nb_shard_index_hold(const nb_shard_index *x, const char *path, const nb_tensor *t,
                              int64_t n, const nb_names *names, nb_text *warning,
                              nb_error *err) NB_CHECKED;
/* Opens every shard of the index, path being FOLDER/NAME.index.json; NB_NOT_FOUND names all missing
 * ones. *out is kept for nb_shard_index_hold. */
nb_status nb_shards_open(nb_parts *p, const char *folder, const char *path, nb_shard_index **out,
                         nb_error *err) NB_CHECKED;

bool nb_is_pickle(const char *name); /* by its ending */
nb_status nb_refuse_pickle(const char *path, nb_error *err) NB_CHECKED;
bool nb_ends_with(const char *s, const char *suffix); /* whatever the case */

#endif
