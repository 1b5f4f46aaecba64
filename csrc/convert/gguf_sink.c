/* gguf_sink.c -- slots of a model to places in one GGUF file, in the source's own order and rows. */
#include "convert/gguf_sink.h"
#include "base/crash.h"
#include "file/outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if !defined SEEK_DATA && defined __linux__
#define SEEK_DATA 3 /* lseek(2): the next byte that is in no hole; glibc names it for _GNU_SOURCE only */
#endif

enum { kPath = 4096, kHashSlice = 1 << 20 };

typedef struct gguf_sink {
    nb_sink base;
    nb_gguf_sink_spec spec;
    const nb_container *src;
    nb_gguf_writer *w;
    bool *slot;      /* [n_tensor] a role of the family: the caller's to write; the rest is copied by seal(-1) */
    bool *hole;      /* [n_tensor] reads as zero and is copied: never written */
    uint8_t (*sha)[NB_SHA256_BYTES]; /* [n_tensor] */
    uint8_t *back;   /* what read gave last */
    char *out, *work; /* work NULL: none */
} gguf_sink;

static nb_status in_folder(const char *folder, const char *name, char path[kPath], nb_error *err)
{
    const int n = snprintf(path, kPath, "%s/%s", folder, name);
    return n > 0 && n < kPath ? NB_OK : nb_fail_at(err, NB_IO, folder, -1, "a path of more than %d bytes", kPath - 1);
}

/* Index of the slot's tensor, -1 when the model has none. */
static int64_t index_of(const gguf_sink *s, nb_slot at)
{
    char name[NB_TENSOR_NAME];
    const nb_tensor *t = nb_family_tensor(s->spec.model->family, s->src, at, name);
    return t ? t - s->src->tensor : -1;
}

/* Where the slot lies in that tensor: all of it, or a slice of its rows (fused linears, experts). */
static nb_place place_of(const gguf_sink *s, nb_slot at)
{
    char name[NB_TENSOR_NAME];
    return nb_family_place(s->spec.model->family, &s->spec.model->hp, s->src, at, name);
}

static bool is_layer_role(int role)
{
    return role >= NB_ROLE_ATTN_NORM;
}

static nb_status put(gguf_sink *s, nb_slot at, const nb_matrix *m, nb_error *err)
{
    const int64_t i = index_of(s, at);
    if (i < 0)
        return nb_fail_at(err, NB_INTERNAL, s->out, -1, "role %d of layer %d has no tensor", (int)at.role, at.layer);
    const nb_tensor *t = &s->src->tensor[i];
    const nb_matrix whole = nb_gguf_out_matrix(t);
    const nb_place place = place_of(s, at);
    if (m->K != whole.K || m->N < 1 || place.row + m->N > whole.N)
        return nb_fail_at(err, NB_INTERNAL, s->out, -1, "tensor %s gets a matrix of %lld x %lld", t->name, (long long)m->N, (long long)m->K);
    if (s->hole[i] || s->spec.measure) {
        nb_gguf_writer_mark(s->w, (int)i);
        return NB_OK;
    }
    return nb_gguf_out_rows(nb_container_file(s->src, t), t->name, m, s->spec.choose(s->spec.arg, t), s->w, (int)i, place.row, s->spec.n_thread, err);
}

static nb_status sink_linear(nb_sink *base, nb_slot at, const nb_matrix *m, nb_error *err)
{
    return put((gguf_sink *)base, at, m, err);
}

static nb_status sink_dense(nb_sink *base, nb_slot at, const nb_matrix *m, nb_error *err)
{
    return put((gguf_sink *)base, at, m, err);
}

static nb_status sink_read(nb_sink *base, nb_slot at, nb_matrix *out, nb_error *err)
{
    gguf_sink *s = (gguf_sink *)base;
    const int64_t i = index_of(s, at);
    if (i < 0 || s->spec.measure)
        return nb_fail_at(err, NB_INTERNAL, s->out, -1, "role %d of layer %d cannot be read back", (int)at.role, at.layer);
    const nb_tensor *t = &s->src->tensor[i];
    *out = nb_gguf_out_matrix(t);
    const nb_place place = place_of(s, at);
    out->N = place.N ? place.N : 1;
    out->dtype = s->spec.choose(s->spec.arg, t);
    const size_t bytes = (size_t)(out->N * nb_dtype_row_bytes(out->dtype, out->K));
    free(s->back);
    s->back = nb_alloc_aligned(bytes, 1, t->name, err);
    if (!s->back)
        return NB_NO_ROOM;
    out->rows = s->back;
    return nb_gguf_writer_read(s->w, (int)i, (size_t)(place.row * nb_dtype_row_bytes(out->dtype, out->K)), s->back, bytes, err);
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
static nb_status seal_tensor(gguf_sink *s, int64_t i, uint8_t *slice, nb_sha256_state *digest, nb_error *err)
{
    if (s->spec.resume)
        nb_gguf_writer_mark(s->w, (int)i);
    const nb_status st = s->spec.measure ? NB_OK : hash_tensor(s, i, slice, err);
    nb_sha256_add(digest, s->sha[i], NB_SHA256_BYTES);
    return st;
}

/* What the source holds beyond the slots. */
static nb_status copy_rest(gguf_sink *s, nb_error *err)
{
    nb_status st = NB_OK;
    for (int64_t i = 0; i < s->src->n_tensor && st == NB_OK; i++) {
        const nb_tensor *t = &s->src->tensor[i];
        const nb_matrix m = nb_gguf_out_matrix(t);
        if (s->slot[i])
            continue;
        if (s->hole[i] || s->spec.measure)
            nb_gguf_writer_mark(s->w, (int)i);
        else
            st = nb_gguf_out_rows(nb_container_file(s->src, t), t->name, &m, s->spec.choose(s->spec.arg, t), s->w, (int)i, 0, s->spec.n_thread, err);
        nb_container_release(s->src, t);
    }
    return st;
}

static nb_status seal_slots(gguf_sink *s, int layer, uint8_t *slice, nb_sha256_state *digest, nb_error *err)
{
    nb_status st = NB_OK;
    for (int r = 0; r < NB_ROLE_COUNT && st == NB_OK; r++) {
        const int64_t i = is_layer_role(r) == (layer >= 0) ? index_of(s, (nb_slot){.role = (nb_role)r, .layer = layer}) : -1;
        if (i >= 0)
            st = seal_tensor(s, i, slice, digest, err);
    }
    for (int64_t i = 0; layer < 0 && i < s->src->n_tensor && st == NB_OK; i++)
        if (!s->slot[i])
            st = seal_tensor(s, i, slice, digest, err);
    return st;
}

static nb_status sink_seal(nb_sink *base, int layer, uint8_t out[32], nb_error *err)
{
    gguf_sink *s = (gguf_sink *)base;
    nb_sha256_state digest;
    const int64_t embed = index_of(s, (nb_slot){.role = NB_ROLE_EMBED});
    const bool earlier = s->spec.resume && embed >= 0 && !nb_gguf_writer_touched(s->w, (int)embed); /* sealed by an earlier run, only to be hashed again */
    nb_status st = layer < 0 && !earlier ? copy_rest(s, err) : NB_OK;
    if (st == NB_OK) {
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

static nb_status sink_each(nb_sink *base, nb_status (*tensor)(void *arg, const nb_sink_tensor *t, nb_error *err), void *arg, nb_error *err)
{
    const gguf_sink *s = (const gguf_sink *)base;
    nb_status st = NB_OK;
    for (int64_t i = 0; i < s->src->n_tensor && st == NB_OK; i++) {
        nb_sink_tensor t = {.name = s->src->tensor[i].name, .type = s->spec.choose(s->spec.arg, &s->src->tensor[i])->name,
                            .bytes = (int64_t)nb_gguf_writer_tensor_bytes(s->w, (int)i)};
        memcpy(t.sha256, s->sha[i], sizeof t.sha256);
        st = tensor(arg, &t, err);
    }
    return st;
}

/* ---- the end ---- */

static nb_status beside(const char *out, char path[kPath], nb_error *err)
{
    const int n = snprintf(path, kPath, "%s.manifest.json", out);
    return n > 0 && n < kPath ? NB_OK : nb_fail_at(err, NB_IO, out, -1, "a path of more than %d bytes", kPath - 1);
}

/* partial NULL: a name of its own. */
static nb_status write_text(const char *path, const char *partial, const char *text, size_t n, nb_error *err)
{
    nb_outfile *f = NULL;
    nb_status st = partial ? nb_outfile_open_at(path, partial, false, &f, err) : nb_outfile_open(path, &f, err);
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
        if (unlink(manifest) != 0 && errno != ENOENT) /* an old one must not lie beside the new file */
            return nb_fail_errno_at(err, manifest, "cannot replace it");
        st = nb_outfile_rename(partial, out, err);
    }
    if (st == NB_OK)
        st = nb_outfile_rename(ready, manifest, err);
    *done = st == NB_OK;
    return st;
}

static nb_status sink_commit(nb_sink *base, const char *manifest, size_t n, nb_error *err)
{
    gguf_sink *s = (gguf_sink *)base;
    char path[kPath], partial[kPath];
    bool done = false;
    nb_status st;
    if (!s->work) {
        st = nb_gguf_writer_commit(s->w, err);
        if (st == NB_OK && n)
            st = beside(s->out, path, err);
        return st == NB_OK && n ? write_text(path, NULL, manifest, n, err) : st;
    }
    st = nb_gguf_writer_finish(s->w, err);
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
    free(s->slot);
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

static const nb_sink_ops ops = {.linear = sink_linear, .dense = sink_dense, .read = sink_read, .seal = sink_seal, .commit = sink_commit,
                                .each = sink_each, .close = sink_close};

static void find_slots(gguf_sink *s)
{
    for (int r = 0; r < NB_ROLE_COUNT; r++)
        for (int l = 0; l < (is_layer_role(r) ? s->spec.model->hp.n_layer : 1); l++) {
            const int64_t i = index_of(s, (nb_slot){.role = (nb_role)r, .layer = l});
            if (i >= 0)
                s->slot[i] = true;
        }
}

/* A tensor that is copied and lies wholly in a hole of the source's file stays a hole: nothing is read, nothing takes room. Only the bytes decide what
 * the output reads as, so this is a matter of room alone. */
static size_t find_holes(gguf_sink *s)
{
    size_t bytes = 0;
    (void)s;
#ifdef SEEK_DATA
    const char *path = NULL;
    int fd = -1;
    for (int64_t i = 0; i < s->src->n_tensor; i++) {
        const nb_tensor *t = &s->src->tensor[i];
        const char *file = nb_container_file(s->src, t);
        if (path != file) {
            if (fd >= 0)
                close(fd);
            fd = open(path = file, O_RDONLY | O_CLOEXEC);
        }
        if (fd < 0 || s->spec.choose(s->spec.arg, t) != t->dtype || !t->bytes)
            continue;
        const off_t data = lseek(fd, (off_t)t->offset, SEEK_DATA);
        s->hole[i] = data < 0 ? errno == ENXIO : (uint64_t)data >= t->offset + t->bytes;
        bytes += s->hole[i] ? t->bytes : 0;
    }
    if (fd >= 0)
        close(fd);
#endif
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

nb_status nb_gguf_sink_open(const nb_gguf_sink_spec *spec, nb_sink **out, nb_error *err)
{
    *out = NULL;
    gguf_sink *s = nb_alloc_zero(1, sizeof *s, "an output", err);
    if (!s)
        return NB_NO_ROOM;
    s->base.op = &ops;
    s->spec = *spec;
    s->src = spec->model->container;
    const size_t n = (size_t)s->src->n_tensor;
    s->out = copy_text(spec->out, err);
    s->work = spec->work && s->out ? copy_text(spec->work, err) : NULL;
    s->slot = nb_alloc_zero(n, sizeof *s->slot, "an output", err);
    s->hole = nb_alloc_zero(n, sizeof *s->hole, "an output", err);
    s->sha = nb_alloc_zero(n, sizeof *s->sha, "an output", err);
    nb_status st = s->out && (s->work || !spec->work) && s->slot && s->hole && s->sha ? open_writer(s, err) : NB_NO_ROOM;
    if (st == NB_OK) {
        find_slots(s);
        nb_gguf_writer_set_holes(s->w, find_holes(s));
        st = nb_gguf_out_declare(s->src, spec->file_type, spec->choose, spec->arg, s->w, err);
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
