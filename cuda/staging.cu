/* staging.cu -- the two halves of staging.h. 16 MiB take some 650 us over PCIe 4.0 x16 (25 GB/s),
 * against which the 10 us to begin a copy are nothing. The halves
 * begin small and double: a small model takes little. NIBBLE_STAGE_BYTES=N: another most. */
#include "staging.h"

#include <cstdlib>
#include <cstring>
#include <new>

enum { kMost = 16 << 20, kSlice = 256 << 10 /* of a copy, a task */ };

static nb_status open_halves(nb_backend *be, nb_staging *s, size_t bytes, nb_error *err)
{
    nb_status st = NB_OK;
    nb_cuda_here(be);
    for (int i = 0; i < 2 && st == NB_OK; i++) {
        (void)cudaFreeHost(s->half[i]);
        s->half[i] = NULL;
        st = nb_cuda_status(be, cudaMallocHost(&s->half[i], bytes), "pinned memory for uploads",
                            err);
    }
    s->bytes = st == NB_OK ? bytes : 0;
    s->used = 0;
    return st;
}

nb_status nb_staging_of(nb_backend *be, nb_staging **out, nb_error *err)
{
    nb_cuda *c = nb_cuda_of(be);
    nb_status st = NB_OK;
    *out = c->staging;
    if (*out)
        return NB_OK;
    nb_staging *s = new (std::nothrow) nb_staging();
    if (!s)
        return nb_fail(err, NB_NO_ROOM, "%s: out of memory for uploads", be->name);
    nb_cuda_here(be);
    const char *most = getenv("NIBBLE_STAGE_BYTES");
    s->most = most && *most ? (size_t)strtoull(most, NULL, 10) : (size_t)kMost;
    for (int i = 0; i < 2 && st == NB_OK; i++)
        st = nb_cuda_status(be, cudaEventCreateWithFlags(&s->sent[i], cudaEventDisableTiming),
                            "an event for uploads", err);
    if (st == NB_OK && be->n_thread > 1)
        st = nb_pool_open(be->n_thread, &s->pool, err);
    if (st == NB_OK)
        *out = c->staging = s;
    else
        nb_staging_close(s);
    return st;
}

void nb_staging_close(nb_staging *s)
{
    if (!s)
        return;
    nb_pool_close(s->pool);
    for (int i = 0; i < 2; i++) {
        if (s->sent[i])
            (void)cudaEventDestroy(s->sent[i]);
        (void)cudaFreeHost(s->half[i]);
    }
    delete s;
}

nb_status nb_staging_room(nb_backend *be, nb_staging *s, size_t bytes, uint8_t **out, nb_error *err)
{
    const size_t need = nb_align256(bytes);
    nb_status st = NB_OK;
    *out = NULL;
    if (s->used + need > s->bytes && (need > s->bytes || s->bytes < s->most)) {
        const size_t twice = 2 * s->bytes < s->most ? 2 * s->bytes : s->most;
        st = be->op->sync(be, err); /* nothing travels from what is freed */
        if (st == NB_OK)
            st = open_halves(be, s, need > twice ? need : twice, err);
    } else if (s->used + need > s->bytes) {
        st = nb_cuda_status(be, cudaEventRecord(s->sent[s->at], nb_cuda_of(be)->stream),
                            "an upload", err);
        s->at ^= 1;
        s->used = 0;
        if (st == NB_OK) /* one that was never recorded is over */
            st = nb_cuda_status(be, cudaEventSynchronize(s->sent[s->at]), "an upload", err);
    }
    if (st != NB_OK)
        return st;
    *out = s->half[s->at] + s->used;
    s->used += need;
    return NB_OK;
}

nb_status nb_staging_send(nb_backend *be, void *dst, const uint8_t *room, size_t n, nb_error *err)
{
    return n ? nb_cuda_status(
                   be,
                   cudaMemcpyAsync(dst, room, n, cudaMemcpyHostToDevice, nb_cuda_of(be)->stream),
                   "a copy to the device", err)
             : NB_OK;
}

struct Copy {
    uint8_t *to;
    const uint8_t *from;
    size_t n;
};

static void copy_slice(const void *arg, int64_t i, int worker)
{
    const Copy *c = (const Copy *)arg;
    const size_t at = (size_t)i * kSlice;
    (void)worker;
    memcpy(c->to + at, c->from + at, c->n - at < kSlice ? c->n - at : (size_t)kSlice);
}

nb_status nb_staging_copy(nb_backend *be, void *dst, const void *src, size_t n, nb_error *err)
{
    nb_staging *s;
    uint8_t *to = (uint8_t *)dst, *room;
    nb_status st = nb_staging_of(be, &s, err);
    for (size_t at = 0; at < n && st == NB_OK; at += s->most) {
        const size_t piece = n - at < s->most ? n - at : s->most;
        st = nb_staging_room(be, s, piece, &room, err);
        if (st != NB_OK)
            break;
        const Copy c = {room, (const uint8_t *)src + at, piece};
        nb_pool_run(s->pool, nb_ceil_div((int64_t)piece, kSlice), copy_slice, &c);
        st = nb_staging_send(be, to + at, room, piece, err);
    }
    return st;
}
