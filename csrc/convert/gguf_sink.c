/* gguf_sink.c -- slots of a model to places in one GGUF file. From a GGUF file the rows stay in
 * their order; from a folder those of q and k are paired where the family rotates neighbours, and
 * norms get the 1 that a folder leaves out. */
#include "convert/gguf_sink.h"
#include "base/crash.h"
#include "convert/gguf_meta.h"
#include "convert/holes.h"
#include "convert/rows_out.h"
#include "file/outfile.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { kPath = 4096, kHashSlice = 1 << 20 };

typedef struct gguf_sink {
    nb_sink base;
    nb_gguf_sink_spec spec;
    const nb_container *src;
    nb_gguf_writer *w;
    nb_gguf_plan plan;
    bool *hole;                      /* [plan.n] reads as zero and is copied: never written */
    uint8_t (*sha)[NB_SHA256_BYTES]; /* [plan.n] */
    uint8_t *back;                   /* what read gave last */
    char *out, *work;                /* work NULL: none */
} gguf_sink;

static nb_status in_folder(const char *folder, const char *name, char path[kPath], nb_error *err)
{
    const int n = snprintf(path, kPath, "%s/%s", folder, name);
    return n > 0 && n < kPath
               ? NB_OK
               : nb_fail_at(err, NB_IO, folder, -1, "a path of more than %d bytes", kPath - 1);
}

static bool is_layer_role(int role)
{
    return role >= NB_ROLE_ATTN_NORM;
}

/* Where the slot lies in its tensor: all of it, or a slice of its rows (fused linears, experts). */
static nb_place place_of(const gguf_sink *s, nb_slot at)
{
    return nb_family_slice(s->spec.model->family, &s->spec.model->hp, NB_CONTAINER_GGUF, at);
}

static nb_row_order order_of(const gguf_sink *s, nb_slot at)
{
    return s->src->kind == NB_CONTAINER_HF && nb_family_pairs_rows(s->spec.model->family, at.role)
               ? NB_ROWS_TO_PAIRS
               : NB_ROWS_SAME;
}

static nb_status write_data(void *file, int index, size_t offset, const void *p, size_t bytes,
                            nb_error *err)
{
    return nb_gguf_writer_data(file, index, offset, p, bytes, err);
}

static nb_rows_out rows_of(const gguf_sink *s, int64_t i)
{
    const nb_gguf_entry *e = &s->plan.entry[i];
    return (nb_rows_out){.write = write_data,
                         .file = s->w,
                         .index = (int)i,
                         .type = e->type,
                         .exact = s->spec.exact,
                         .n_thread = s->spec.n_thread,
                         .head = s->spec.model->hp.head_dim,
                         .path = e->src ? nb_container_file(s->src, e->src) : s->src->path,
                         .name = e->src ? e->src->name : e->name};
}

/* A vector of a folder: with its 1, its elements in GGUF's order. */
static nb_status put_vector(gguf_sink *s, nb_slot at, const nb_matrix *m, nb_rows_out *to,
                            nb_error *err)
{
    const nb_row_order order = order_of(s, at);
    const float add = nb_family_norm_offset(s->spec.model->family, s->src->kind, at.role);
    if (!m->dtype || m->dtype->block != 1 || !m->dtype->decode)
        return nb_fail_at(err, NB_UNSUPPORTED, to->path, -1, "tensor %s: a vector of type %s",
                          to->name, m->dtype ? m->dtype->name : "codes");
    float *f = nb_alloc(2 * (size_t)m->K, sizeof *f, to->name, err);
    if (!f)
        return NB_NO_ROOM;
    nb_dtype_decode_row(m->dtype, m->rows, f + m->K, m->K);
    for (int64_t k = 0; k < m->K; k++)
        f[k] = f[m->K + nb_row_from(order, to->head, k)] + add;
    const nb_matrix made = {
        .N = 1, .K = m->K, .dtype = nb_dtype_by_name("f32"), .rows = (const uint8_t *)f};
    const nb_status st = nb_write_rows(to, &made, err);
    free(f);
    return st;
}

static nb_status put(gguf_sink *s, nb_slot at, const nb_matrix *m, nb_error *err)
{
    const int64_t i = nb_gguf_plan_find(&s->plan, at);
    if (i < 0)
        return nb_fail_at(err, NB_INTERNAL, s->out, -1, "role %d of layer %d has no tensor",
                          (int)at.role, at.layer);
    const nb_gguf_entry *e = &s->plan.entry[i];
    const nb_place place = place_of(s, at);
    int64_t N = 1;
    for (int d = 0; d + 1 < e->n_dim; d++)
        N *= e->shape[d];
    if (m->K != e->shape[e->n_dim - 1] || m->N < 1 || place.row + m->N > N)
        return nb_fail_at(err, NB_INTERNAL, s->out, -1, "tensor %s gets a matrix of %lld x %lld",
                          e->name, (long long)m->N, (long long)m->K);
    if (s->hole[i] || s->spec.measure) {
        nb_gguf_writer_mark(s->w, (int)i);
        return NB_OK;
    }
    nb_rows_out to = rows_of(s, i);
    to.row = place.row;
    to.order = place.N ? order_of(s, at) : NB_ROWS_SAME;
    return place.N == 0 && s->src->kind == NB_CONTAINER_HF ? put_vector(s, at, m, &to, err)
                                                           : nb_write_rows(&to, m, err);
}

static nb_status sink_linear(nb_sink *base, nb_slot at, const nb_matrix *m, nb_error *err)
{
    return put((gguf_sink *)base, at, m, err);
}

static nb_status sink_dense(nb_sink *base, nb_slot at, const nb_matrix *m, nb_error *err)
{
    return put((gguf_sink *)base, at, m, err);
}

/* Rows in pairs back into halves. */
static nb_status unpair(gguf_sink *s, int64_t n, size_t bytes, nb_error *err)
{
    uint8_t *halves = nb_alloc_aligned((size_t)n, bytes, "rows of a tensor", err);
    if (!halves)
        return NB_NO_ROOM;
    for (int64_t r = 0; r < n; r++)
        memcpy(halves +
                   (size_t)nb_row_from(NB_ROWS_TO_PAIRS, s->spec.model->hp.head_dim, r) * bytes,
               s->back + (size_t)r * bytes, bytes);
    free(s->back);
    s->back = halves;
    return NB_OK;
}

static nb_status sink_read(nb_sink *base, nb_slot at, nb_matrix *out, nb_error *err)
{
    gguf_sink *s = (gguf_sink *)base;
    const int64_t i = nb_gguf_plan_find(&s->plan, at);
    const nb_place place = place_of(s, at);
    if (i < 0 || s->spec.measure)
        return nb_fail_at(err, NB_INTERNAL, s->out, -1, "role %d of layer %d cannot be read back",
                          (int)at.role, at.layer);
    const nb_gguf_entry *e = &s->plan.entry[i];
    /* elements of a vector, where a matrix has rows */
    const int64_t n = place.N ? place.N : place.K;
    const size_t bytes =
        place.N ? (size_t)nb_dtype_row_bytes(e->type, place.K) : (size_t)e->type->bytes;
    *out = (nb_matrix){.N = place.N ? place.N : 1, .K = place.K, .dtype = e->type};
    free(s->back);
    s->back = nb_alloc_aligned((size_t)n, bytes, e->name, err);
    nb_status st = s->back ? nb_gguf_writer_read(s->w, (int)i, (size_t)place.row * bytes, s->back,
                                                 (size_t)n * bytes, err)
                           : NB_NO_ROOM;
    if (st == NB_OK && order_of(s, at) != NB_ROWS_SAME)
        st = unpair(s, n, bytes, err);
    out->rows = s->back;
    return st;
}

/* ---- sealing ---- */

static nb_status hash_tensor(gguf_sink *s, int64_t i, uint8_t *slice, nb_error *err)
{
    nb_sha256_state h;
    nb_status st = NB_OK;
    const size_t bytes = nb_gguf_writer_tensor_bytes(s->w, (int)i);
    nb_sha256_init(&h);
    for (size_t at = 0; at < bytes && st == NB_OK; at += kHashSlice) {
        const size_t n = bytes - at < kHashSlice ? bytes - at : kHashSlice;
        st = nb_gguf_writer_read(s->w, (int)i, at, slice, n, err);
        nb_sha256_add(&h, slice, n);
    }
    nb_sha256_end(&h, s->sha[i]);
    return st;
}

/* Hashes a tensor that is durable and adds it to the layer's digest. */
static nb_status seal_tensor(gguf_sink *s, int64_t i, uint8_t *slice, nb_sha256_state *digest,
                             nb_error *err)
{
    if (s->spec.resume)
        nb_gguf_writer_mark(s->w, (int)i);
    const nb_status st = s->spec.measure ? NB_OK : hash_tensor(s, i, slice, err);
    nb_sha256_add(digest, s->sha[i], NB_SHA256_BYTES);
    return st;
}

static nb_status put_frequencies(gguf_sink *s, int64_t i, nb_error *err)
{
    float factor[NB_MAX_ROPE_DIM / 2];
    const nb_rows_out to = rows_of(s, i);
    const nb_matrix m = {.N = 1,
                         .K = s->plan.entry[i].shape[0],
                         .dtype = s->plan.entry[i].type,
                         .rows = (const uint8_t *)factor};
    nb_gguf_rope_factors(&s->spec.model->hp, factor);
    return nb_write_rows(&to, &m, err);
}

/* What the file holds beyond the slots. */
static nb_status copy_rest(gguf_sink *s, nb_error *err)
{
    nb_status st = NB_OK;
    for (int64_t i = 0; i < s->plan.n && st == NB_OK; i++) {
        const nb_gguf_entry *e = &s->plan.entry[i];
        if (e->is_slot)
            continue;
        if (s->hole[i] || s->spec.measure)
            nb_gguf_writer_mark(s->w, (int)i);
        else if (!e->src)
            st = put_frequencies(s, i, err);
        else {
            const nb_rows_out to = rows_of(s, i);
            const nb_matrix m = nb_tensor_matrix(e->src);
            st = nb_write_rows(&to, &m, err);
        }
        if (e->src)
            nb_container_release(s->src, e->src);
    }
    return st;
}

static nb_status seal_slots(gguf_sink *s, int layer, uint8_t *slice, nb_sha256_state *digest,
                            nb_error *err)
{
    nb_status st = NB_OK;
    for (int r = 0; r < NB_ROLE_COUNT && st == NB_OK; r++) {
        const int64_t i =
            is_layer_role(r) == (layer >= 0)
                ? nb_gguf_plan_find(&s->plan, (nb_slot){.role = (nb_role)r, .layer = layer})
                : -1;
        if (i >= 0)
            st = seal_tensor(s, i, slice, digest, err);
    }
    for (int64_t i = 0; layer < 0 && i < s->plan.n && st == NB_OK; i++)
        if (!s->plan.entry[i].is_slot)
            st = seal_tensor(s, i, slice, digest, err);
    return st;
}

static nb_status sink_seal(nb_sink *base, int layer, uint8_t out[32], nb_error *err)
{
    gguf_sink *s = (gguf_sink *)base;
    nb_sha256_state digest;
    const int64_t embed = nb_gguf_plan_find(&s->plan, (nb_slot){.role = NB_ROLE_EMBED});
    /* sealed by an earlier run, only to be hashed again */
    const bool earlier = s->spec.resume && embed >= 0 && !nb_gguf_writer_touched(s->w, (int)embed);
    nb_status st = layer < 0 && !earlier ? copy_rest(s, err) : NB_OK;
    if (st == NB_OK && s->work && !s->spec.once) {
        st = nb_gguf_writer_sync(s->w, err);
        s->base.broken = s->base.broken || st != NB_OK;
    }
    uint8_t *slice = st == NB_OK ? nb_alloc(kHashSlice, 1, "a slice to hash", err) : NULL;
    if (st == NB_OK && !slice)
        st = NB_NO_ROOM;
    nb_sha256_init(&digest);
    if (st == NB_OK)
        st = seal_slots(s, layer, slice, &digest, err);
    nb_sha256_end(&digest, out);
    free(slice);
    return st;
}

static nb_status sink_each(nb_sink *base,
                           nb_status (*tensor)(void *arg, const nb_sink_tensor *t, nb_error *err),
                           void *arg, nb_error *err)
{
    const gguf_sink *s = (const gguf_sink *)base;
    nb_status st = NB_OK;
    for (int64_t i = 0; i < s->plan.n && st == NB_OK; i++) {
        nb_sink_tensor t = {.name = s->plan.entry[i].name,
                            .type = s->plan.entry[i].type->name,
                            .bytes = (int64_t)nb_gguf_writer_tensor_bytes(s->w, (int)i)};
        memcpy(t.sha256, s->sha[i], sizeof t.sha256);
        st = tensor(arg, &t, err);
    }
    return st;
}

/* As it lies in the file, not as it was meant to be. */
static nb_status sink_head(nb_sink *base, nb_sink_head *out, nb_error *err)
{
    gguf_sink *s = (gguf_sink *)base;
    nb_sha256_state h;
    nb_status st = NB_OK;
    const size_t bytes = nb_gguf_writer_head_bytes(s->w);
    uint8_t *slice = nb_alloc(kHashSlice, 1, "a slice to hash", err);
    if (!slice)
        return NB_NO_ROOM;
    nb_sha256_init(&h);
    for (size_t at = 0; at < bytes && st == NB_OK; at += kHashSlice) {
        const size_t n = bytes - at < kHashSlice ? bytes - at : kHashSlice;
        st = nb_gguf_writer_read_head(s->w, at, slice, n, err);
        nb_sha256_add(&h, slice, n);
    }
    nb_sha256_end(&h, out->sha256);
    out->bytes = (int64_t)bytes;
    out->file_bytes = (int64_t)nb_gguf_writer_total_bytes(s->w);
    free(slice);
    return st;
}

/* ---- the end ---- */

static nb_status beside(const char *out, char path[kPath], nb_error *err)
{
    const int n = snprintf(path, kPath, "%s.manifest.json", out);
    return n > 0 && n < kPath
               ? NB_OK
               : nb_fail_at(err, NB_IO, out, -1, "a path of more than %d bytes", kPath - 1);
}

static nb_status write_text(const char *path, const char *partial, const char *text, size_t n,
                            nb_error *err)
{
    nb_outfile *f = NULL;
    nb_status st = nb_outfile_open_at(path, partial, false, &f, err);
    if (st == NB_OK)
        st = nb_outfile_write_at(f, 0, text, n, err);
    if (st == NB_OK)
        st = nb_outfile_commit(f, err);
    nb_outfile_close(f);
    return st;
}

nb_status nb_gguf_sink_finish(const char *out, const char *work, bool *done, nb_error *err)
{
    char partial[kPath], ready[kPath], manifest[kPath];
    *done = false;
    nb_status st = in_folder(work, "partial.gguf", partial, err);
    if (st == NB_OK)
        st = in_folder(work, "manifest.json", ready, err);
    if (st == NB_OK)
        st = beside(out, manifest, err);
    if (st != NB_OK || access(ready, F_OK) != 0)
        return st;
    if (access(partial, F_OK) == 0) {
        /* an old one must not lie beside the new file */
        if (unlink(manifest) != 0 && errno != ENOENT)
            return nb_fail_errno_at(err, manifest, "cannot replace it");
        st = nb_outfile_rename(partial, out, err);
    }
    if (st == NB_OK)
        st = nb_outfile_rename(ready, manifest, err);
    *done = st == NB_OK;
    return st;
}

/* By one process alone. The manifest is on disk before the file has its name; what is left to fail
 * then takes the file along. */
static nb_status commit_at_once(gguf_sink *s, const char *manifest, size_t n, nb_error *err)
{
    char path[kPath], partial[kPath];
    nb_outfile *f = NULL;
    nb_status st = beside(s->out, path, err);
    if (st == NB_OK && s->work)
        st = in_folder(s->work, "manifest.partial", partial, err);
    if (st == NB_OK && n)
        st = s->work ? nb_outfile_open_at(path, partial, false, &f, err)
                     : nb_outfile_open(path, &f, err);
    if (st == NB_OK && n)
        st = nb_outfile_write_at(f, 0, manifest, n, err);
    if (st == NB_OK && n)
        st = nb_outfile_sync(f, err);
    /* of the file that is replaced */
    if (st == NB_OK && unlink(path) != 0 && errno != ENOENT)
        st = nb_fail_errno_at(err, path, "cannot replace it");
    if (st == NB_OK)
        st = nb_gguf_writer_commit(s->w, err);
    if (st == NB_OK && n) {
        st = nb_outfile_commit(f, err);
        if (st != NB_OK) {
            (void)unlink(path);
            (void)unlink(s->out);
        }
    }
    nb_outfile_close(f);
    return st;
}

static nb_status sink_commit(nb_sink *base, const char *manifest, size_t n, nb_error *err)
{
    gguf_sink *s = (gguf_sink *)base;
    char path[kPath], partial[kPath];
    bool done = false;
    if (!s->work || s->spec.once)
        return commit_at_once(s, manifest, n, err);
    nb_status st = nb_gguf_writer_finish(s->w, err);
    s->base.broken = s->base.broken || st == NB_IO;
    if (st == NB_OK)
        st = in_folder(s->work, "manifest.json", path, err);
    if (st == NB_OK)
        st = in_folder(s->work, "manifest.partial", partial, err);
    if (st == NB_OK)
        st = write_text(path, partial, manifest, n, err);
    if (st == NB_OK)
        st = nb_gguf_sink_finish(s->out, s->work, &done, err);
    return st;
}

static void sink_close(nb_sink *base)
{
    gguf_sink *s = (gguf_sink *)base;
    nb_gguf_writer_close(s->w);
    nb_gguf_plan_close(&s->plan);
    free(s->hole);
    free(s->sha);
    free(s->back);
    free(s->out);
    free(s->work);
    free(s);
}

void nb_gguf_sink_discard(const char *work)
{
    static const char *const names[] = {"partial.gguf", "manifest.json", "manifest.partial"};
    char path[kPath];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (in_folder(work, names[i], path, NULL) == NB_OK)
            unlink(path);
}

/* ---- opening ---- */

static const nb_sink_ops ops = {.linear = sink_linear,
                                .dense = sink_dense,
                                .read = sink_read,
                                .seal = sink_seal,
                                .commit = sink_commit,
                                .each = sink_each,
                                .head = sink_head,
                                .close = sink_close};

/* A tensor that is copied and lies in holes of the source's file stays a hole: nothing is read,
 * nothing takes room. From a folder only a matrix that is one tensor there: norms may get a 1. */
static size_t find_holes(gguf_sink *s)
{
    size_t bytes = 0;
    nb_holes holes;
    /* a resumed run asks whether it was written */
    const int64_t embed = nb_gguf_plan_find(&s->plan, (nb_slot){.role = NB_ROLE_EMBED});
    nb_holes_open(&holes, s->src);
    for (int64_t i = 0; i < s->plan.n; i++) {
        const nb_gguf_entry *e = &s->plan.entry[i];
        const bool alone =
            e->src && (s->src->kind == NB_CONTAINER_GGUF ||
                       (e->n_dim == 2 && e->src->n_dim == 2 && e->shape[0] == e->src->shape[0]));
        if (!alone || i == embed || e->type != e->src->dtype || !e->src->bytes)
            continue;
        s->hole[i] = nb_holes_has(&holes, e->src);
        bytes += s->hole[i] ? e->src->bytes : 0;
    }
    nb_holes_close(&holes);
    return bytes;
}

static char *copy_text(const char *text, nb_error *err)
{
    char *p = nb_alloc(strlen(text) + 1, 1, "a path", err);
    if (p)
        memcpy(p, text, strlen(text) + 1);
    return p;
}

static nb_status open_writer(gguf_sink *s, nb_error *err)
{
    char partial[kPath];
    if (s->spec.measure)
        return nb_gguf_writer_open_measure(s->out, &s->w, err);
    if (!s->work)
        return nb_gguf_writer_open(s->out, &s->w, err);
    const nb_status st = in_folder(s->work, "partial.gguf", partial, err);
    return st == NB_OK ? nb_gguf_writer_open_at(s->out, partial, s->spec.resume, &s->w, err) : st;
}

static nb_status declare(gguf_sink *s, nb_error *err)
{
    nb_status st = nb_gguf_meta(s->spec.model, s->spec.file_type, s->w, err);
    for (int64_t i = 0; i < s->plan.n && st == NB_OK; i++) {
        const nb_gguf_entry *e = &s->plan.entry[i];
        int index = 0;
        st = nb_gguf_writer_tensor(s->w, e->name, e->type, e->n_dim, e->shape, &index, err);
        if (st == NB_OK && index != i)
            st = nb_fail(err, NB_INTERNAL, "tensor %s got place %d of the output, not %lld",
                         e->name, index, (long long)i);
    }
    return st;
}

nb_status nb_gguf_sink_open(const nb_gguf_sink_spec *spec, nb_sink **out, nb_error *err)
{
    *out = NULL;
    gguf_sink *s = nb_alloc_zero(1, sizeof *s, "an output", err);
    if (!s)
        return NB_NO_ROOM;
    s->base.op = &ops;
    s->spec = *spec;
    s->src = spec->model->container;
    s->out = copy_text(spec->out, err);
    s->work = spec->work && s->out ? copy_text(spec->work, err) : NULL;
    nb_status st = s->out && (s->work || !spec->work)
                       ? nb_gguf_plan_open(spec->model, spec->choose, spec->arg, &s->plan, err)
                       : NB_NO_ROOM;
    if (st == NB_OK) {
        s->hole = nb_alloc_zero((size_t)s->plan.n, sizeof *s->hole, "an output", err);
        s->sha = nb_alloc_zero((size_t)s->plan.n, sizeof *s->sha, "an output", err);
        st = s->hole && s->sha ? open_writer(s, err) : NB_NO_ROOM;
    }
    if (st == NB_OK) {
        s->base.hole_bytes = (int64_t)find_holes(s);
        nb_gguf_writer_set_holes(s->w, (size_t)s->base.hole_bytes);
        st = declare(s, err);
    }
    if (st == NB_OK)
        st = nb_gguf_writer_begin(s->w, err);
    if (st != NB_OK) {
        sink_close(&s->base);
        return st;
    }
    s->base.total_bytes = (int64_t)nb_gguf_writer_total_bytes(s->w);
    *out = &s->base;
    return NB_OK;
}
