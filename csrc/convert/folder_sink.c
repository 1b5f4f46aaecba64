/* folder_sink.c -- slots of a model to a folder. From a GGUF file the rows of q and k that were paired are halved again, and the 1 of Gemma's norms
 * goes. */
#include "convert/folder_sink.h"
#include "base/mapfile.h"
#include "convert/config_out.h"
#include "convert/rows_out.h"
#include "convert/tokenizer_out.h"
#include "file/outfile.h"
#include "file/safetensors_out.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { kPath = 4096, kHashSlice = 1 << 20, kTries = 100 };

/* The texts of a folder that are made, and the files of a folder that are taken as they are. */
enum { CONFIG, GENERATION, TOKENIZER, TOKENIZER_CONFIG, MANIFEST, N_TEXT };
static const char *const text_name[N_TEXT] = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "manifest.json"};
static const char *const carried[] = {
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model",    "special_tokens_map.json",  "added_tokens.json",    "vocab.json",
    "merges.txt",     "chat_template.jinja",   "chat_template.json", "preprocessor_config.json", "processor_config.json"};
enum { kCarried = sizeof carried / sizeof *carried };

typedef struct folder_sink {
    nb_sink base;
    nb_folder_sink_spec spec;
    const nb_container *src;
    nb_folder_plan plan;
    nb_st_writer *w;
    uint8_t (*sha)[NB_SHA256_BYTES]; /* [plan.n] */
    uint8_t *back;                   /* what read gave last */
    nb_text text[N_TEXT];
    char *out, *partial; /* partial NULL: the folder is gone, or was renamed */
} folder_sink;

static nb_status in_folder(const char *folder, const char *name, char path[kPath], nb_error *err)
{
    const int n = snprintf(path, kPath, "%s/%s", folder, name);
    return n > 0 && n < kPath ? NB_OK : nb_fail_at(err, NB_IO, folder, -1, "a path of more than %d bytes", kPath - 1);
}

/* ---- slots ---- */

static nb_status write_data(void *file, int index, size_t offset, const void *p, size_t bytes, nb_error *err)
{
    return nb_st_writer_data(file, index, offset, p, bytes, err);
}

static bool from_gguf(const folder_sink *s)
{
    return s->src->kind == NB_CONTAINER_GGUF;
}

static nb_row_order order_of(const folder_sink *s, nb_slot at)
{
    return from_gguf(s) && nb_family_pairs_rows(s->spec.model->family, at.role) ? NB_ROWS_TO_HALVES : NB_ROWS_SAME;
}

static nb_place place_of(const folder_sink *s, nb_slot at)
{
    return nb_family_slice(nb_config_family(s->spec.model), &s->spec.model->hp, NB_CONTAINER_HF, at);
}

static nb_rows_out rows_of(const folder_sink *s, int64_t i)
{
    const nb_folder_entry *e = &s->plan.entry[i];
    return (nb_rows_out){.write = write_data,
                         .file = s->w,
                         .index = (int)i,
                         .type = e->type,
                         .exact = s->spec.exact,
                         .n_thread = s->spec.n_thread,
                         .head = s->spec.model->hp.head_dim,
                         .path = nb_container_file(s->src, e->src),
                         .name = e->src->name};
}

/* A vector of a GGUF file: without its 1, its elements in the hub's order. */
static nb_status put_vector(folder_sink *s, nb_slot at, const nb_matrix *m, nb_rows_out *to, nb_error *err)
{
    const nb_row_order order = order_of(s, at);
    const float less = nb_family_norm_offset(s->spec.model->family, NB_CONTAINER_HF, at.role);
    if (!m->dtype || m->dtype->block != 1 || !m->dtype->decode)
        return nb_fail_at(err, NB_UNSUPPORTED, to->path, -1, "tensor %s: a vector of type %s", to->name, m->dtype ? m->dtype->name : "codes");
    if (order == NB_ROWS_SAME && less == 0.0f)
        return nb_write_rows(to, m, err);
    float *f = nb_alloc(2 * (size_t)m->K, sizeof *f, to->name, err);
    if (!f)
        return NB_NO_ROOM;
    nb_dtype_decode_row(m->dtype, m->rows, f + m->K, m->K);
    for (int64_t k = 0; k < m->K; k++)
        f[k] = f[m->K + nb_row_from(order, to->head, k)] - less;
    const nb_matrix made = {.N = 1, .K = m->K, .dtype = nb_dtype_by_name("f32"), .rows = (const uint8_t *)f};
    const nb_status st = nb_write_rows(to, &made, err);
    free(f);
    return st;
}

static nb_status put(folder_sink *s, nb_slot at, const nb_matrix *m, nb_error *err)
{
    const int64_t i = nb_folder_plan_find(&s->plan, at);
    if (i < 0)
        return nb_fail_at(err, NB_INTERNAL, s->out, -1, "role %d of layer %d has no tensor", (int)at.role, at.layer);
    const nb_folder_entry *e = &s->plan.entry[i];
    const nb_place place = place_of(s, at);
    if (m->K != place.K || m->N != (place.N ? place.N : 1))
        return nb_fail_at(err, NB_INTERNAL, s->out, -1, "tensor %s gets a matrix of %lld x %lld", e->name, (long long)m->N, (long long)m->K);
    nb_rows_out to = rows_of(s, i);
    to.row = place.row;
    to.order = place.N ? order_of(s, at) : NB_ROWS_SAME;
    return place.N == 0 && from_gguf(s) ? put_vector(s, at, m, &to, err) : nb_write_rows(&to, m, err);
}

static nb_status sink_put(nb_sink *base, nb_slot at, const nb_matrix *m, nb_error *err)
{
    return put((folder_sink *)base, at, m, err);
}

static nb_status sink_read(nb_sink *base, nb_slot at, nb_matrix *out, nb_error *err)
{
    folder_sink *s = (folder_sink *)base;
    const int64_t i = nb_folder_plan_find(&s->plan, at);
    const nb_place place = place_of(s, at);
    if (i < 0)
        return nb_fail_at(err, NB_INTERNAL, s->out, -1, "role %d of layer %d cannot be read back", (int)at.role, at.layer);
    const nb_dtype *t = s->plan.entry[i].type;
    const int64_t n = place.N ? place.N : place.K; /* elements of a vector, where a matrix has rows */
    const size_t bytes = place.N ? (size_t)nb_dtype_row_bytes(t, place.K) : (size_t)t->bytes, all = (size_t)n * bytes;
    const nb_row_order order = order_of(s, at);
    const float add = nb_family_norm_offset(s->spec.model->family, NB_CONTAINER_HF, at.role);
    free(s->back);
    s->back = nb_alloc_aligned(2, all, s->plan.entry[i].name, err);
    const nb_status st = s->back ? nb_st_writer_read(s->w, (int)i, (size_t)place.row * bytes, s->back + all, all, err) : NB_NO_ROOM;
    for (int64_t r = 0; r < n && st == NB_OK; r++) /* back into the order of the source */
        memcpy(s->back + (size_t)nb_row_from(order, s->spec.model->hp.head_dim, r) * bytes, s->back + all + (size_t)r * bytes, bytes);
    *out = (nb_matrix){.N = place.N ? place.N : 1, .K = place.K, .dtype = t, .rows = s->back};
    if (st != NB_OK || place.N || add == 0.0f)
        return st;
    float *f = nb_alloc(place.K > 0 ? (size_t)place.K : 1, sizeof *f, s->plan.entry[i].name, err);
    if (!f)
        return NB_NO_ROOM;
    nb_dtype_decode_row(t, s->back, f, place.K);
    for (int64_t k = 0; k < place.K; k++)
        f[k] += add;
    free(s->back);
    s->back = (uint8_t *)f;
    *out = (nb_matrix){.N = 1, .K = place.K, .dtype = nb_dtype_by_name("f32"), .rows = s->back};
    return NB_OK;
}

/* ---- sealing ---- */

static nb_status hash_tensor(folder_sink *s, int64_t i, uint8_t *slice, nb_sha256_state *digest, nb_error *err)
{
    nb_sha256_state h;
    nb_status st = NB_OK;
    const size_t bytes = nb_st_writer_tensor_bytes(s->w, (int)i);
    nb_sha256_init(&h);
    for (size_t at = 0; at < bytes && st == NB_OK; at += kHashSlice) {
        const size_t n = bytes - at < kHashSlice ? bytes - at : kHashSlice;
        st = nb_st_writer_read(s->w, (int)i, at, slice, n, err);
        nb_sha256_add(&h, slice, n);
    }
    nb_sha256_end(&h, s->sha[i]);
    nb_sha256_add(digest, s->sha[i], NB_SHA256_BYTES);
    return st;
}

/* What the folder holds beyond the slots. */
static nb_status copy_rest(folder_sink *s, nb_error *err)
{
    nb_status st = NB_OK;
    for (int64_t i = 0; i < s->plan.n && st == NB_OK; i++) {
        const nb_folder_entry *e = &s->plan.entry[i];
        if (e->is_slot || !e->src->bytes)
            continue;
        const nb_rows_out to = rows_of(s, i);
        const nb_matrix m = nb_tensor_matrix(e->src);
        st = nb_write_rows(&to, &m, err);
        nb_container_release(s->src, e->src);
    }
    return st;
}

static nb_status sink_seal(nb_sink *base, int layer, uint8_t out[32], nb_error *err)
{
    folder_sink *s = (folder_sink *)base;
    nb_sha256_state digest;
    uint8_t *slice = nb_alloc(kHashSlice, 1, "a slice to hash", err);
    nb_status st = slice ? NB_OK : NB_NO_ROOM;
    nb_sha256_init(&digest);
    if (st == NB_OK && layer < 0)
        st = copy_rest(s, err);
    if (st == NB_OK) {
        st = nb_st_writer_sync(s->w, err);
        s->base.broken = s->base.broken || st != NB_OK;
    }
    for (int r = layer < 0 ? 0 : NB_ROLE_ATTN_NORM; r < (layer < 0 ? (int)NB_ROLE_ATTN_NORM : (int)NB_ROLE_COUNT) && st == NB_OK; r++)
        for (int e = 0; e < nb_model_n_slot(s->spec.model, (nb_role)r) && st == NB_OK; e++) {
            const int64_t i = nb_folder_plan_find(&s->plan, (nb_slot){.role = (nb_role)r, .layer = layer, .expert = e});
            st = i >= 0 ? hash_tensor(s, i, slice, &digest, err) : NB_OK;
        }
    for (int64_t i = 0; layer < 0 && i < s->plan.n && st == NB_OK; i++)
        st = s->plan.entry[i].is_slot ? NB_OK : hash_tensor(s, i, slice, &digest, err);
    nb_sha256_end(&digest, out);
    free(slice);
    return st;
}

static nb_status sink_each(nb_sink *base, nb_status (*tensor)(void *arg, const nb_sink_tensor *t, nb_error *err), void *arg, nb_error *err)
{
    const folder_sink *s = (const folder_sink *)base;
    nb_status st = NB_OK;
    for (int64_t i = 0; i < s->plan.n && st == NB_OK; i++) {
        nb_sink_tensor t = {.name = s->plan.entry[i].name,
                            .type = s->plan.entry[i].type->name,
                            .file = "model.safetensors",
                            .bytes = (int64_t)nb_st_writer_tensor_bytes(s->w, (int)i)};
        memcpy(t.sha256, s->sha[i], sizeof t.sha256);
        st = tensor(arg, &t, err);
    }
    return st;
}

/* ---- the other files ---- */

static nb_status write_file(const char *folder, const char *name, const void *p, size_t n, nb_error *err)
{
    char path[kPath];
    nb_outfile *f = NULL;
    nb_status st = in_folder(folder, name, path, err);
    if (st == NB_OK)
        st = nb_outfile_open(path, &f, err);
    if (st == NB_OK)
        st = nb_outfile_write_at(f, 0, p, n, err);
    if (st == NB_OK)
        st = nb_outfile_commit(f, err);
    nb_outfile_close(f);
    return st;
}

/* The tokenizer's files of a folder. */
static nb_status carry_files(folder_sink *s, nb_error *err)
{
    char path[kPath], folder[kPath];
    nb_status st = NB_OK;
    const char *file = s->src->n_tensor ? nb_container_file(s->src, &s->src->tensor[0]) : "";
    const char *slash = strrchr(file, '/');
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - file) : 1, slash ? file : ".");
    for (int i = 0; i < kCarried && st == NB_OK; i++) {
        nb_mapfile *f = NULL;
        st = in_folder(folder, carried[i], path, err);
        if (st != NB_OK || access(path, F_OK) != 0)
            continue;
        st = nb_mapfile_open(path, &f, err);
        if (st == NB_OK)
            st = write_file(s->partial, carried[i], f->p ? f->p : (const void *)"", f->n, err);
        nb_mapfile_close(f);
    }
    return st;
}

static nb_status make_texts(folder_sink *s, nb_error *err)
{
    const nb_model *m = s->spec.model;
    nb_status st = nb_config_to_json(m, s->spec.torch_dtype, &s->text[CONFIG], err);
    if (st == NB_OK)
        st = nb_generation_config_to_json(m, &s->text[GENERATION], err);
    if (st == NB_OK && from_gguf(s) && m->tokenizer)
        st = nb_tokenizer_to_json(s->src, &s->text[TOKENIZER], &s->text[TOKENIZER_CONFIG], err);
    return st;
}

/* ---- the folder ---- */

/* OUT is not there, or is an empty folder. */
static nb_status check_out(const char *out, nb_error *err)
{
    struct stat sb;
    if (lstat(out, &sb) != 0)
        return errno == ENOENT ? NB_OK : nb_fail_errno_at(err, out, "cannot create it");
    DIR *dir = S_ISDIR(sb.st_mode) ? opendir(out) : NULL;
    int n = 0;
    while (dir && readdir(dir))
        n++;
    const bool empty = dir && n == 2; /* . and .. */
    if (dir)
        closedir(dir);
    return empty ? NB_OK : nb_fail_at(err, NB_IO, out, -1, "exists; a folder that is written must be new");
}

static nb_status make_folder(folder_sink *s, nb_error *err)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz234567";
    size_t n = strlen(s->spec.out);
    while (n > 1 && s->spec.out[n - 1] == '/')
        n--;
    s->out = nb_alloc(n + 1, 1, "a path", err);
    char *partial = s->out ? nb_alloc(n + sizeof ".partial-123456", 1, "a path", err) : NULL;
    if (!partial)
        return NB_NO_ROOM;
    memcpy(s->out, s->spec.out, n);
    s->out[n] = 0;
    nb_status st = check_out(s->out, err);
    int rc = -1;
    errno = EEXIST;
    for (int i = 0; i < kTries && st == NB_OK && rc != 0 && errno == EEXIST; i++) {
        unsigned char noise[6];
        char suffix[7] = "";
        if (getentropy(noise, sizeof noise) != 0)
            memset(noise, i, sizeof noise); /* mkdir makes sure that it is new */
        for (int k = 0; k < 6; k++)
            suffix[k] = letters[noise[k] % 32];
        snprintf(partial, n + sizeof ".partial-123456", "%s.partial-%s", s->out, suffix);
        rc = mkdir(partial, 0777);
    }
    if (st == NB_OK && rc != 0)
        st = nb_fail_errno_at(err, s->out, "cannot create it");
    if (st == NB_OK)
        s->partial = partial;
    else
        free(partial);
    return st;
}

static void remove_folder(const char *folder)
{
    char path[kPath];
    DIR *dir = opendir(folder);
    for (const struct dirent *e; dir && (e = readdir(dir));)
        if (in_folder(folder, e->d_name, path, NULL) == NB_OK)
            (void)unlink(path); /* . and .. stay */
    if (dir)
        closedir(dir);
    (void)rmdir(folder);
}

static nb_status sink_commit(nb_sink *base, const char *manifest, size_t n, nb_error *err)
{
    folder_sink *s = (folder_sink *)base;
    nb_status st = nb_st_writer_commit(s->w, err);
    nb_text_add(&s->text[MANIFEST], manifest ? manifest : "", n);
    if (st == NB_OK)
        st = nb_text_check(&s->text[MANIFEST], "the manifest", err);
    if (st == NB_OK && !from_gguf(s))
        st = carry_files(s, err);
    for (int i = 0; i < N_TEXT && st == NB_OK; i++)
        if (s->text[i].n)
            st = write_file(s->partial, text_name[i], s->text[i].p, s->text[i].n, err);
    if (st == NB_OK)
        st = nb_outfile_rename(s->partial, s->out, err);
    if (st == NB_OK) {
        free(s->partial);
        s->partial = NULL;
    }
    return st;
}

static void sink_close(nb_sink *base)
{
    folder_sink *s = (folder_sink *)base;
    nb_st_writer_close(s->w);
    if (s->partial)
        remove_folder(s->partial);
    nb_folder_plan_close(&s->plan);
    for (int i = 0; i < N_TEXT; i++)
        nb_text_free(&s->text[i]);
    free(s->sha);
    free(s->back);
    free(s->out);
    free(s->partial);
    free(s);
}

static const nb_sink_ops ops = {
    .linear = sink_put, .dense = sink_put, .read = sink_read, .seal = sink_seal, .commit = sink_commit, .each = sink_each, .close = sink_close};

static nb_status open_weights(folder_sink *s, nb_error *err)
{
    char path[kPath];
    nb_status st = in_folder(s->partial, "model.safetensors", path, err);
    if (st == NB_OK)
        st = nb_st_writer_open(path, &s->w, err);
    for (int64_t i = 0; i < s->plan.n && st == NB_OK; i++) {
        const nb_folder_entry *e = &s->plan.entry[i];
        int index = 0;
        st = nb_st_writer_tensor(s->w, e->name, e->type, e->n_dim, e->shape, &index, err);
        if (st == NB_OK && index != i)
            st = nb_fail(err, NB_INTERNAL, "tensor %s got place %d of the output, not %lld", e->name, index, (long long)i);
    }
    return st == NB_OK ? nb_st_writer_begin(s->w, err) : st;
}

nb_status nb_folder_sink_open(const nb_folder_sink_spec *spec, nb_sink **out, nb_error *err)
{
    *out = NULL;
    folder_sink *s = nb_alloc_zero(1, sizeof *s, "an output", err);
    if (!s)
        return NB_NO_ROOM;
    s->base.op = &ops;
    s->spec = *spec;
    s->src = spec->model->container;
    nb_status st = nb_folder_plan_open(spec->model, spec->choose, spec->arg, &s->plan, err);
    if (st == NB_OK)
        st = make_texts(s, err);
    if (st == NB_OK) {
        s->sha = nb_alloc_zero((size_t)s->plan.n, sizeof *s->sha, "an output", err);
        st = s->sha ? make_folder(s, err) : NB_NO_ROOM;
    }
    if (st == NB_OK)
        st = open_weights(s, err);
    if (st != NB_OK) {
        sink_close(&s->base);
        return st;
    }
    s->base.total_bytes = (int64_t)nb_st_writer_total_bytes(s->w);
    for (int i = 0; i < N_TEXT; i++)
        s->base.total_bytes += (int64_t)s->text[i].n;
    *out = &s->base;
    return NB_OK;
}
