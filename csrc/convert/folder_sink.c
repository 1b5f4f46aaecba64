/* folder_sink.c -- slots of a model to a folder. From a GGUF file the rows of q and k that were
 * paired are halved again, and the 1 of Gemma's norms goes. */
#include "convert/folder_sink.h"
#include "convert/config_out.h"
#include "convert/folder_files.h"
#include "convert/folder_packed.h"
#include "convert/holes.h"
#include "file/outfile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { kHashSlice = 1 << 20 };
#define IN_WORK "folder"

typedef struct folder_sink {
    nb_sink base;
    nb_folder_sink_spec spec;
    const nb_container *src;
    nb_folder_plan plan;
    nb_scheme_spec scheme;
    nb_shards_out *w;
    nb_packing packing;
    bool *hole;                      /* [plan.n] reads as zero and is copied: never written */
    uint8_t (*sha)[NB_SHA256_BYTES]; /* [plan.n] */
    void *back;                      /* what read gave last */
    nb_text text[NB_FOLDER_TEXTS];
    char *out, *folder; /* folder: in the making; NULL: it is gone, or was renamed */
    bool kept;          /* it stays when the sink closes */
} folder_sink;

/* ---- slots ---- */

static nb_status write_data(void *file, int index, size_t offset, const void *p, size_t bytes,
                            nb_error *err)
{
    return nb_shards_out_data(file, index, offset, p, bytes, err);
}

static bool from_gguf(const folder_sink *s)
{
    return s->src->kind == NB_CONTAINER_GGUF;
}

static nb_row_order order_of(const folder_sink *s, nb_slot at)
{
    return from_gguf(s) && nb_family_pairs_rows(s->spec.model->family, at.role) ? NB_ROWS_TO_HALVES
                                                                                : NB_ROWS_SAME;
}

static nb_place place_of(const folder_sink *s, nb_slot at)
{
    return nb_family_slice(nb_config_family(s->spec.model), &s->spec.model->hp, NB_CONTAINER_HF,
                           at);
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
static nb_status put_vector(folder_sink *s, nb_slot at, const nb_matrix *m, nb_rows_out *to,
                            nb_error *err)
{
    const nb_row_order order = order_of(s, at);
    const float less = nb_family_norm_offset(s->spec.model->family, NB_CONTAINER_HF, at.role);
    if (!m->dtype || m->dtype->block != 1 || !m->dtype->decode)
        return nb_fail_at(err, NB_UNSUPPORTED, to->path, -1, "tensor %s: a vector of type %s",
                          to->name, m->dtype ? m->dtype->name : "codes");
    if (order == NB_ROWS_SAME && less == 0.0f)
        return nb_write_rows(to, m, err);
    float *f = nb_alloc(2 * (size_t)m->K, sizeof *f, to->name, err);
    if (!f)
        return NB_NO_ROOM;
    nb_dtype_decode_row(m->dtype, m->rows, f + m->K, m->K);
    for (int64_t k = 0; k < m->K; k++)
        f[k] = f[m->K + nb_row_from(order, to->head, k)] - less;
    const nb_matrix made = {
        .N = 1, .K = m->K, .dtype = nb_dtype_by_name("f32"), .rows = (const uint8_t *)f};
    const nb_status st = nb_write_rows(to, &made, err);
    free(f);
    return st;
}

static nb_packing_rows packing_of(const folder_sink *s, nb_slot at, int64_t entry)
{
    return (nb_packing_rows){.module = s->plan.entry[entry].module,
                             .row = place_of(s, at).row,
                             .order = order_of(s, at),
                             .head = s->spec.model->hp.head_dim};
}

static nb_status put(folder_sink *s, nb_slot at, const nb_matrix *m, nb_error *err)
{
    const int64_t i = nb_folder_plan_find(&s->plan, at);
    if (i < 0)
        return nb_fail_at(err, NB_INTERNAL, s->out, -1, "role %d of layer %d has no tensor",
                          (int)at.role, at.layer);
    const nb_folder_entry *e = &s->plan.entry[i];
    const nb_place place = place_of(s, at);
    if (m->K != place.K || m->N != (place.N ? place.N : 1))
        return nb_fail_at(err, NB_INTERNAL, s->out, -1, "tensor %s gets a matrix of %lld x %lld",
                          e->name, (long long)m->N, (long long)m->K);
    if (s->spec.measure)
        return NB_OK;
    if (e->module >= 0)
        return nb_packing_put(&s->packing, packing_of(s, at, i), m, err);
    if (s->hole[i]) {
        nb_shards_out_mark(s->w, (int)i);
        return NB_OK;
    }
    nb_rows_out to = rows_of(s, i);
    to.row = place.row;
    to.order = place.N ? order_of(s, at) : NB_ROWS_SAME;
    return place.N == 0 && from_gguf(s) ? put_vector(s, at, m, &to, err)
                                        : nb_write_rows(&to, m, err);
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
    if (i < 0 || s->spec.measure)
        return nb_fail_at(err, NB_INTERNAL, s->out, -1, "role %d of layer %d cannot be read back",
                          (int)at.role, at.layer);
    free(s->back);
    s->back = NULL;
    if (s->plan.entry[i].module >= 0)
        return nb_packing_read(&s->packing, packing_of(s, at, i), place.N, out, &s->back, err);
    const nb_dtype *t = s->plan.entry[i].type;
    /* elements of a vector, where a matrix has rows */
    const int64_t n = place.N ? place.N : place.K;
    const size_t bytes = place.N ? (size_t)nb_dtype_row_bytes(t, place.K) : (size_t)t->bytes,
                 all = (size_t)n * bytes;
    const nb_row_order order = order_of(s, at);
    const float add = nb_family_norm_offset(s->spec.model->family, NB_CONTAINER_HF, at.role);
    uint8_t *rows = s->back = nb_alloc_aligned(2, all, s->plan.entry[i].name, err);
    const nb_status st =
        rows ? nb_shards_out_read(s->w, (int)i, (size_t)place.row * bytes, rows + all, all, err)
             : NB_NO_ROOM;
    for (int64_t r = 0; r < n && st == NB_OK; r++) /* back into the order of the source */
        memcpy(rows + (size_t)nb_row_from(order, s->spec.model->hp.head_dim, r) * bytes,
               rows + all + (size_t)r * bytes, bytes);
    *out = (nb_matrix){.N = place.N ? place.N : 1, .K = place.K, .dtype = t, .rows = rows};
    if (st != NB_OK || place.N || add == 0.0f)
        return st;
    float *f = nb_alloc(place.K > 0 ? (size_t)place.K : 1, sizeof *f, s->plan.entry[i].name, err);
    if (!f)
        return NB_NO_ROOM;
    nb_dtype_decode_row(t, rows, f, place.K);
    for (int64_t k = 0; k < place.K; k++)
        f[k] += add;
    free(s->back);
    s->back = f;
    *out = (nb_matrix){
        .N = 1, .K = place.K, .dtype = nb_dtype_by_name("f32"), .rows = (const uint8_t *)f};
    return NB_OK;
}

/* ---- sealing ---- */

static nb_status hash_tensor(folder_sink *s, int64_t i, uint8_t *slice, nb_sha256_state *digest,
                             nb_error *err)
{
    nb_sha256_state h;
    nb_status st = NB_OK;
    const size_t bytes = nb_shards_out_tensor_bytes(s->w, (int)i);
    if (s->spec.resume)
        nb_shards_out_mark(s->w, (int)i);
    nb_sha256_init(&h);
    for (size_t at = 0; at < bytes && st == NB_OK && !s->spec.measure; at += kHashSlice) {
        const size_t n = bytes - at < kHashSlice ? bytes - at : kHashSlice;
        st = nb_shards_out_read(s->w, (int)i, at, slice, n, err);
        nb_sha256_add(&h, slice, n);
    }
    nb_sha256_end(&h, s->sha[i]);
    nb_sha256_add(digest, s->sha[i], NB_SHA256_BYTES);
    return st;
}

/* The slot's tensor, or all of its module. */
static nb_status hash_slot(folder_sink *s, nb_slot at, uint8_t *slice, nb_sha256_state *digest,
                           nb_error *err)
{
    const int64_t i = nb_folder_plan_find(&s->plan, at);
    nb_status st = NB_OK;
    if (i < 0)
        return NB_OK;
    if (s->plan.entry[i].module < 0)
        return hash_tensor(s, i, slice, digest, err);
    const nb_folder_module *m = &s->plan.module[s->plan.entry[i].module];
    for (int k = 0; k < NB_SCHEME_TENSORS && st == NB_OK; k++)
        st = m->entry[k] >= 0 ? hash_tensor(s, m->entry[k], slice, digest, err) : NB_OK;
    return st;
}

/* What the folder holds beyond the slots. */
static nb_status copy_rest(folder_sink *s, nb_error *err)
{
    nb_status st = NB_OK;
    for (int64_t i = 0; i < s->plan.n && st == NB_OK; i++) {
        const nb_folder_entry *e = &s->plan.entry[i];
        if (e->is_slot || !e->src->bytes || s->spec.measure)
            continue;
        const nb_rows_out to = rows_of(s, i);
        const nb_matrix m = nb_tensor_matrix(e->src);
        if (s->hole[i])
            nb_shards_out_mark(s->w, (int)i);
        else
            st = nb_write_rows(&to, &m, err);
        nb_container_release(s->src, e->src);
    }
    return st;
}

static nb_status sink_seal(nb_sink *base, int layer, uint8_t out[32], nb_error *err)
{
    folder_sink *s = (folder_sink *)base;
    nb_sha256_state digest;
    const int64_t embed = nb_folder_plan_find(&s->plan, (nb_slot){.role = NB_ROLE_EMBED});
    const bool earlier =
        /* sealed by an earlier run, only to be hashed again */
        s->spec.resume && embed >= 0 && !nb_shards_out_touched(s->w, (int)embed);
    uint8_t *slice = nb_alloc(kHashSlice, 1, "a slice to hash", err);
    nb_status st = slice ? NB_OK : NB_NO_ROOM;
    nb_sha256_init(&digest);
    if (st == NB_OK && layer < 0 && !earlier)
        st = copy_rest(s, err);
    if (st == NB_OK && s->kept && !s->spec.once) {
        st = nb_shards_out_sync(s->w, err);
        s->base.broken = s->base.broken || st != NB_OK;
    }
    for (int r = layer < 0 ? 0 : NB_ROLE_ATTN_NORM;
         r < (layer < 0 ? (int)NB_ROLE_ATTN_NORM : (int)NB_ROLE_COUNT) && st == NB_OK; r++)
        for (int e = 0; e < nb_model_n_slot(s->spec.model, (nb_role)r) && st == NB_OK; e++)
            st = hash_slot(s, (nb_slot){.role = (nb_role)r, .layer = layer, .expert = e}, slice,
                           &digest, err);
    for (int64_t i = 0; layer < 0 && i < s->plan.n && st == NB_OK; i++)
        st = s->plan.entry[i].is_slot ? NB_OK : hash_tensor(s, i, slice, &digest, err);
    nb_sha256_end(&digest, out);
    free(slice);
    return st;
}

static nb_status sink_each(nb_sink *base,
                           nb_status (*tensor)(void *arg, const nb_sink_tensor *t, nb_error *err),
                           void *arg, nb_error *err)
{
    const folder_sink *s = (const folder_sink *)base;
    nb_status st = NB_OK;
    for (int64_t i = 0; i < s->plan.n && st == NB_OK; i++) {
        nb_sink_tensor t = {.name = s->plan.entry[i].name,
                            .type = s->plan.entry[i].type->name,
                            .file = nb_shards_out_file(s->w, (int)i),
                            .bytes = (int64_t)nb_shards_out_tensor_bytes(s->w, (int)i)};
        memcpy(t.sha256, s->sha[i], sizeof t.sha256);
        st = tensor(arg, &t, err);
    }
    return st;
}

/* What sink_files was asked to call. */
typedef struct caller {
    nb_status (*file)(void *arg, const nb_sink_file *f, nb_error *err);
    void *arg;
} caller;

static nb_status weights_file(void *arg, const char *name, size_t bytes,
                              const uint8_t sha256[NB_SHA256_BYTES], nb_error *err)
{
    const caller *c = arg;
    nb_sink_file f = {.name = name, .bytes = (int64_t)bytes};
    memcpy(f.sha256, sha256, sizeof f.sha256);
    return c->file(c->arg, &f, err);
}

static nb_status small_file(void *arg, const char *name, const void *p, size_t n, nb_error *err)
{
    uint8_t sum[NB_SHA256_BYTES];
    nb_sha256(p, n, sum);
    return weights_file(arg, name, n, sum, err);
}

static nb_status sink_files(nb_sink *base,
                            nb_status (*file)(void *arg, const nb_sink_file *f, nb_error *err),
                            void *arg, nb_error *err)
{
    const folder_sink *s = (const folder_sink *)base;
    caller c = {file, arg};
    nb_status st = nb_shards_out_files(s->w, weights_file, &c, err);
    if (st == NB_OK && !from_gguf(s))
        st = nb_folder_carried(s->src, small_file, &c, err);
    return st == NB_OK ? nb_folder_texts(s->text, small_file, &c, err) : st;
}

/* ---- the end ---- */

nb_status nb_folder_sink_finish(const char *out, const char *work, bool *done, nb_error *err)
{
    char folder[NB_FOLDER_PATH], ready[NB_FOLDER_PATH];
    *done = false;
    nb_status st = nb_in_folder(work, IN_WORK, folder, err);
    if (st == NB_OK)
        st = nb_in_folder(folder, "manifest.json", ready, err);
    if (st != NB_OK || access(ready, F_OK) != 0)
        return st;
    st = nb_outfile_rename(folder, out, err);
    *done = st == NB_OK;
    return st;
}

void nb_folder_sink_discard(const char *work)
{
    char folder[NB_FOLDER_PATH];
    if (nb_in_folder(work, IN_WORK, folder, NULL) == NB_OK)
        nb_folder_remove(folder);
}

static nb_status sink_commit(nb_sink *base, const char *manifest, size_t n, nb_error *err)
{
    folder_sink *s = (folder_sink *)base;
    nb_status st = nb_shards_out_finish(s->w, err);
    s->base.broken = s->base.broken || (st == NB_IO && nb_shards_out_lost(s->w));
    nb_text_add(&s->text[NB_TEXT_MANIFEST], manifest ? manifest : "", n);
    if (st == NB_OK)
        st = nb_text_check(&s->text[NB_TEXT_MANIFEST], "the manifest", err);
    if (st == NB_OK && !from_gguf(s))
        st = nb_folder_carry_files(s->src, s->folder, err);
    if (st == NB_OK)
        st = nb_folder_write_texts(s->folder, s->text, err);
    if (st == NB_OK)
        st = nb_outfile_rename(s->folder, s->out, err);
    if (st == NB_OK) {
        free(s->folder);
        s->folder = NULL;
    }
    return st;
}

static void sink_close(nb_sink *base)
{
    folder_sink *s = (folder_sink *)base;
    nb_packing_close(&s->packing);
    nb_shards_out_close(s->w);
    if (s->folder && !s->kept)
        nb_folder_remove(s->folder);
    nb_folder_plan_close(&s->plan);
    for (int i = 0; i < NB_FOLDER_TEXTS; i++)
        nb_text_free(&s->text[i]);
    free(s->hole);
    free(s->sha);
    free(s->back);
    free(s->out);
    free(s->folder);
    free(s);
}

static const nb_sink_ops ops = {.linear = sink_put,
                                .dense = sink_put,
                                .read = sink_read,
                                .seal = sink_seal,
                                .commit = sink_commit,
                                .each = sink_each,
                                .files = sink_files,
                                .close = sink_close};

/* ---- opening ---- */

static nb_status copy_out(folder_sink *s, nb_error *err)
{
    size_t n = strlen(s->spec.out);
    while (n > 1 && s->spec.out[n - 1] == '/')
        n--;
    s->out = nb_alloc(n + 1, 1, "a path", err);
    if (!s->out)
        return NB_NO_ROOM;
    memcpy(s->out, s->spec.out, n);
    s->out[n] = 0;
    return NB_OK;
}

static nb_status make_folder(folder_sink *s, nb_error *err)
{
    char path[NB_FOLDER_PATH];
    nb_status st = copy_out(s, err);
    if (st == NB_OK && !s->spec.measure)
        st = nb_folder_check_new(s->out, err);
    if (st != NB_OK || s->spec.measure)
        return st;
    if (!s->spec.work)
        return nb_folder_make_partial(s->out, &s->folder, err);
    st = nb_in_folder(s->spec.work, IN_WORK, path, err);
    if (st == NB_OK && !s->spec.resume)
        nb_folder_remove(path); /* what a run left that is not gone on with */
    if (st == NB_OK && mkdir(path, 0777) != 0 && errno != EEXIST)
        st = nb_fail_errno_at(err, path, "cannot create it");
    s->folder = st == NB_OK ? nb_alloc(strlen(path) + 1, 1, "a path", err) : NULL;
    if (!s->folder)
        return st == NB_OK ? NB_NO_ROOM : st;
    memcpy(s->folder, path, strlen(path) + 1);
    s->kept = true;
    return NB_OK;
}

/* A tensor that is copied and lies in holes of the source's file stays a hole: nothing is read,
 * nothing takes room. From a GGUF file only a matrix that is one tensor there. */
static void find_holes(folder_sink *s)
{
    nb_holes holes;
    /* a resumed run asks whether it was written */
    const int64_t embed = nb_folder_plan_find(&s->plan, (nb_slot){.role = NB_ROLE_EMBED});
    nb_holes_open(&holes, s->src);
    for (int64_t i = 0; i < s->plan.n; i++) {
        const nb_folder_entry *e = &s->plan.entry[i];
        const bool alone = !from_gguf(s) ||
                           (e->n_dim == 2 && e->src->n_dim == 2 && e->shape[0] == e->src->shape[0]);
        s->hole[i] = i != embed && e->module < 0 && alone && e->type == e->src->dtype &&
                     nb_holes_has(&holes, e->src);
        s->base.hole_bytes += s->hole[i] ? (int64_t)e->src->bytes : 0;
    }
    nb_holes_close(&holes);
}

static nb_status open_weights(folder_sink *s, nb_error *err)
{
    const nb_shards_spec spec = {.folder = s->folder ? s->folder : s->out,
                                 .shard_bytes = s->spec.shard_bytes,
                                 .resume = s->spec.resume,
                                 .measure = s->spec.measure};
    nb_status st = nb_shards_out_open(&spec, &s->w, err);
    for (int64_t i = 0; i < s->plan.n && st == NB_OK; i++) {
        const nb_folder_entry *e = &s->plan.entry[i];
        int index = 0;
        st = nb_shards_out_tensor(s->w, e->name, e->type, e->n_dim, e->shape, &index, err);
        if (st == NB_OK && index != i)
            st = nb_fail(err, NB_INTERNAL, "tensor %s got place %d of the output, not %lld",
                         e->name, index, (long long)i);
        if (st == NB_OK && s->hole[i])
            nb_shards_out_hole(s->w, index);
    }
    if (st == NB_OK)
        st = nb_shards_out_begin(s->w, err);
    nb_packing_open(&s->packing, &s->plan, s->w, s->spec.n_thread);
    return st;
}

static nb_status add_size(void *total, const char *name, const void *p, size_t n, nb_error *err)
{
    (void)name;
    (void)p;
    (void)err;
    *(int64_t *)total += (int64_t)n;
    return NB_OK;
}

static nb_status add_sizes(folder_sink *s, nb_error *err)
{
    int64_t *total = &s->base.total_bytes;
    *total = (int64_t)nb_shards_out_total_bytes(s->w);
    const nb_status st = nb_folder_texts(s->text, add_size, total, err);
    return st == NB_OK && !from_gguf(s) ? nb_folder_carried(s->src, add_size, total, err) : st;
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
    if (spec->scheme)
        s->scheme = *spec->scheme;
    const nb_folder_choice choice = {.type = spec->choose,
                                     .arg = spec->arg,
                                     .scheme = spec->scheme ? &s->scheme : NULL,
                                     .layer_from = spec->layer_from,
                                     .layer_to = spec->layer_to,
                                     .packs = spec->packs};
    nb_status st = nb_folder_plan_open(spec->model, &choice, &s->plan, err);
    if (st == NB_OK)
        st = nb_folder_make_texts(spec->model, &s->plan, spec->torch_dtype, s->text, err);
    if (st == NB_OK) {
        s->sha = nb_alloc_zero((size_t)s->plan.n, sizeof *s->sha, "an output", err);
        s->hole = nb_alloc_zero((size_t)s->plan.n, sizeof *s->hole, "an output", err);
        st = s->sha && s->hole ? make_folder(s, err) : NB_NO_ROOM;
    }
    if (st == NB_OK) {
        find_holes(s);
        st = open_weights(s, err);
    }
    if (st == NB_OK)
        st = add_sizes(s, err);
    if (st != NB_OK) {
        sink_close(&s->base);
        return st;
    }
    *out = &s->base;
    return NB_OK;
}
