/* bench_attention.c -- the speed of attention alone, on random data: a token of each of m sequences
 * over a full cache (op attention), or a prompt of m tokens in an empty one (op prefill).
 *
 * As with linears so many caches take turns that none is found in the last cache; they are filled
 * by the device's own op. One layer is measured:
 *
 *   attention   bytes = the caches of m sequences + 4 m H D twice   flop = 4 m L H D
 *   prefill     bytes = the cache of m positions + 4 m H D twice    flop = 2 m (m + 1) H D
 *
 * H heads of D, L positions a sequence; q and the result are f32. The peak is that of what the row
 * multiplies. */
#include "api/bench_kernels.h"
#include "backend/kv.h"
#include "base/memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kMostCaches = 64, kChunk = 256 }; /* kChunk: positions that are filled at once */
enum { kMostHeads = 1024, kMostDim = 256 };
enum { kHeads = 32, kKvHeads = 8, kHeadDim = 128, kContext = 4096 }; /* of an 8B model */

typedef struct job {
    nb_backend *be;
    nb_kv cache[kMostCaches];
    int n_cache, next;
    nb_attention_args a;
    nb_batch batch;
    int32_t *pages; /* the table that the caches share */
    void *held[8];  /* device memory besides the caches */
    int n_held;
} job;

static nb_status hold(job *j, const void *from, size_t bytes, const char *what, void **to,
                      nb_error *err)
{
    nb_status st = j->be->op->alloc(j->be, bytes, what, to, err);
    if (st != NB_OK)
        return st;
    j->held[j->n_held++] = *to;
    return from ? j->be->op->upload(j->be, *to, from, bytes, err) : NB_OK;
}

static nb_status one_attention(void *arg, nb_error *err)
{
    job *j = arg;
    j->a.kv = &j->cache[j->next];
    j->next = (j->next + 1) % j->n_cache;
    return j->be->op->attention(j->be, &j->a, err);
}

/* Writes the same random keys and values to every position of a cache. */
static nb_status fill(job *j, const nb_rope_args *a, const nb_kv *kv, int32_t *place, void *seq,
                      void *pos, nb_error *err)
{
    nb_status st = NB_OK;
    const int32_t len = kv->seq_pages * NB_KV_PAGE;
    for (int32_t s = 0; s < kv->n_seq && st == NB_OK; s++)
        for (int32_t at = 0; at < len && st == NB_OK; at += kChunk) {
            const int32_t n = len - at < kChunk ? len - at : kChunk;
            const size_t bytes = (size_t)n * sizeof *place;
            for (int32_t i = 0; i < n; i++) {
                place[i] = s;
                place[kChunk + i] = at + i;
            }
            const nb_batch batch = {.n_token = n, .seq = seq, .pos = pos, .max_len = at + n};
            nb_rope_args r = *a;
            r.batch = &batch;
            r.kv = kv;
            st = j->be->op->upload(j->be, seq, place, bytes, err);
            if (st == NB_OK)
                st = j->be->op->upload(j->be, pos, place + kChunk, bytes, err);
            if (st == NB_OK)
                st = j->be->op->rope_append_kv(j->be, &r, err);
            if (st == NB_OK)
                st = j->be->op->sync(j->be, err); /* place is written again */
        }
    return st;
}

/* as: their shape; it gets its table. */
static nb_status caches(job *j, const nb_limits *limits, nb_kv *as, int32_t n_head, nb_error *err)
{
    const size_t bytes = nb_kv_bytes(as), room = j->be->memory_bytes / 2;
    size_t want = nb_bench_copies(limits, 2 * bytes);
    want = want > kMostCaches ? kMostCaches : want;
    if (room && 2 * want * bytes > room)
        return nb_fail(err, NB_NO_ROOM,
                       "%zu caches of %d sequences of %d need %zu bytes, half the memory is %zu",
                       want, as->n_seq, as->seq_pages * NB_KV_PAGE, 2 * want * bytes, room);
    const int64_t q = (int64_t)n_head * as->head_dim, row = (int64_t)as->n_kv_head * as->head_dim;
    float *host = nb_alloc((size_t)kChunk, (size_t)q * sizeof *host, "random keys", err);
    int32_t *place = nb_alloc(2 * (size_t)kChunk, sizeof *place, "positions", err);
    float *angles = nb_alloc_zero((size_t)as->head_dim, sizeof *angles, "angles", err);
    nb_rope_args a = {.ldq = q, .ldk = row, .ldv = row, .n_head = n_head, .rope_dim = as->head_dim};
    void *seq = NULL, *pos = NULL, *to[4] = {NULL};
    nb_status st = host && place && angles ? NB_OK : NB_NO_ROOM;
    if (st == NB_OK) {
        nb_bench_floats(host, kChunk * q, 3);
        st = hold(j, host, (size_t)(kChunk * q) * sizeof *host, "queries", &to[0], err);
    }
    for (int i = 1; i < 3 && st == NB_OK; i++)
        st = hold(j, host, (size_t)(kChunk * row) * sizeof *host, "keys", &to[i], err);
    if (st == NB_OK)
        st = hold(j, angles, (size_t)as->head_dim * sizeof *angles, "angles", &to[3], err);
    if (st == NB_OK)
        st = hold(j, NULL, kChunk * sizeof *place, "sequences", &seq, err);
    if (st == NB_OK)
        st = hold(j, NULL, kChunk * sizeof *place, "positions", &pos, err);
    a.q = to[0];
    a.k = to[1];
    a.v = to[2];
    a.inv_freq = to[3];
    if (st == NB_OK)
        st = nb_kv_in_order(j->be, as, &j->pages, err);
    for (size_t i = 0; i < want && st == NB_OK; i++) {
        nb_kv *kv = &j->cache[j->n_cache++];
        *kv = *as;
        st = j->be->op->alloc(j->be, bytes, "the keys of a cache", &kv->k, err);
        if (st == NB_OK)
            st = j->be->op->alloc(j->be, bytes, "the values of a cache", &kv->v, err);
        if (st == NB_OK)
            st = fill(j, &a, kv, place, seq, pos, err);
    }
    const nb_status end = j->be->op->sync(j->be, st == NB_OK ? err : NULL);
    free(angles);
    free(place);
    free(host);
    for (int i = 0; i < j->n_held; i++)
        j->be->op->release(j->be, j->held[i]);
    j->n_held = 0;
    return st == NB_OK ? end : st;
}

/* The queries, the batch and room for what comes out. */
static nb_status operands(job *j, bool prefill, int32_t m, int32_t len, const nb_kv *as,
                          int32_t n_head, nb_error *err)
{
    const int64_t row = (int64_t)n_head * as->head_dim;
    const size_t n = (size_t)(m * row);
    float *host = nb_alloc(n, sizeof *host, "random queries", err);
    int32_t *place = nb_alloc(2 * (size_t)m, sizeof *place, "positions", err);
    void *q = NULL, *out = NULL, *seq = NULL, *pos = NULL;
    nb_status st = host && place ? NB_OK : NB_NO_ROOM;
    if (st == NB_OK) {
        nb_bench_floats(host, (int64_t)n, 4);
        for (int32_t i = 0; i < m; i++) {
            place[i] = prefill ? 0 : i;
            place[m + i] = prefill ? i : len - 1;
        }
        st = hold(j, host, n * sizeof *host, "random queries", &q, err);
    }
    if (st == NB_OK)
        st = hold(j, NULL, n * sizeof *host, "outputs", &out, err);
    if (st == NB_OK)
        st = hold(j, place, (size_t)m * sizeof *place, "sequences", &seq, err);
    if (st == NB_OK)
        st = hold(j, place + m, (size_t)m * sizeof *place, "positions", &pos, err);
    if (st == NB_OK)
        st = j->be->op->sync(j->be, err); /* host may go */
    j->batch = (nb_batch){.n_token = m, .seq = seq, .pos = pos, .max_len = len};
    j->a = (nb_attention_args){.q = q,
                               .ldq = row,
                               .ldo = row,
                               .batch = &j->batch,
                               .kv = &j->cache[0],
                               .n_head = n_head,
                               .scale = 0.088f, /* 1 / sqrt(128); no speed depends on it */
                               .out = out};
    if (st == NB_OK)
        st = hold(j, NULL, j->be->op->attention_scratch(j->be, &j->a), "scratch", &j->a.scratch,
                  err);
    free(place);
    free(host);
    return st;
}

static bool is_prompt(const nb_bench_kernels_options *o)
{
    return strcmp(o->op, "prefill") == 0;
}

/* The cache of a call of m tokens, and how many positions it holds of a sequence. */
static nb_kv cache_of(const nb_bench_kernels_options *o, nb_kv_type type, int32_t m, int32_t *len)
{
    *len = is_prompt(o) ? m : o->ctx_len > 0 ? o->ctx_len : kContext;
    const int32_t n_seq = is_prompt(o) ? 1 : m, pages = nb_kv_pages(*len);
    return (nb_kv){.type = type,
                   .n_page = n_seq * pages,
                   .n_seq = n_seq,
                   .seq_pages = pages,
                   .n_kv_head = o->n_head ? o->n_kv_head : kKvHeads,
                   .head_dim = o->n_head ? o->head_dim : kHeadDim};
}

/* What is known of a call without making it; the peak's kind. */
static nb_kernel_row named(nb_backend *be, const nb_bench_kernels_options *o,
                           const nb_attention_args *a, nb_arith *arith)
{
    nb_kernel_row r = {
        .m = a->batch->n_token, .n = a->batch->max_len, .k = (int64_t)a->n_head * a->kv->head_dim};
    const char *row = nb_backend_attention_row(be, a, arith);
    snprintf(r.op, sizeof r.op, "%s", o->op);
    snprintf(r.row, sizeof r.row, "%s", row ? row : be->name);
    snprintf(r.kind, sizeof r.kind, "%s", nb_kv_type_name(a->kv->type));
    return r;
}

static nb_status one_m(nb_backend *be, const nb_limits *limits, const nb_bench_kernels_options *o,
                       nb_kv_type type, int32_t m, nb_error *err)
{
    const int32_t n_head = o->n_head ? o->n_head : kHeads;
    int32_t len;
    nb_kv as = cache_of(o, type, m, &len);
    job j = {.be = be};
    nb_bench_times t;
    nb_status st = caches(&j, limits, &as, n_head, err);
    if (st == NB_OK)
        st = operands(&j, is_prompt(o), m, len, &as, n_head, err);
    if (st == NB_OK)
        st = nb_bench_time(be, one_attention, &j, j.n_cache, &t, err);
    if (st == NB_OK) {
        nb_arith arith;
        nb_kernel_row r = named(be, o, &j.a, &arith);
        const double row = (double)r.k,
                     cache = 2.0 * (double)nb_kv_bytes(&as) * len / (as.seq_pages * NB_KV_PAGE);
        nb_bench_speed(&r, cache + 8.0 * m * row,
                       is_prompt(o) ? 2.0 * m * (m + 1.0) * row : 4.0 * m * len * row, limits,
                       limits->flop_per_s[arith], &t);
        r.rotated_bytes = (int64_t)cache * (t.n_call < j.n_cache ? t.n_call : j.n_cache);
        o->row(o->arg, &r);
    }
    for (int i = 0; i < j.n_cache; i++) {
        be->op->release(be, j.cache[i].k);
        be->op->release(be, j.cache[i].v);
    }
    for (int i = 0; i < j.n_held; i++)
        be->op->release(be, j.held[i]);
    be->op->release(be, j.pages);
    return st;
}

static void only_named(nb_backend *be, const nb_bench_kernels_options *o, nb_kv_type type,
                       int32_t m)
{
    int32_t len;
    nb_arith arith;
    const nb_kv as = cache_of(o, type, m, &len);
    const nb_batch batch = {.n_token = m, .max_len = len};
    const nb_attention_args a = {
        .kv = &as, .batch = &batch, .n_head = o->n_head ? o->n_head : kHeads};
    const nb_kernel_row r = named(be, o, &a, &arith);
    o->row(o->arg, &r);
}

nb_status nb_bench_attention_check(const nb_bench_kernels_options *o, nb_error *err)
{
    nb_kv_type type;
    if (o->n_head && (o->n_head > kMostHeads || o->n_kv_head < 1 || o->n_head % o->n_kv_head ||
                      o->head_dim < 2 || o->head_dim % 2 || o->head_dim > kMostDim))
        return nb_fail(err, NB_USAGE,
                       "%d heads over %d of the cache, %d values each: heads must be a multiple, "
                       "%d at most, values even and %d at most",
                       o->n_head, o->n_kv_head, o->head_dim, kMostHeads, kMostDim);
    return o->kind ? nb_kv_type_named(o->kind, &type, err) : NB_OK;
}

nb_status nb_bench_attention(nb_backend *be, const nb_limits *limits,
                             const nb_bench_kernels_options *o, nb_error *err)
{
    static const int32_t decode[] = {1, 32, 0}, prompt[] = {512, 0}, prompts[] = {16, 512, 0};
    const int32_t *m = o->m ? o->m : !is_prompt(o) ? decode : o->list_rows ? prompts : prompt;
    nb_kv_type type = be->kv_type;
    nb_status st = o->kind ? nb_kv_type_named(o->kind, &type, err) : NB_OK;
    for (; *m && st == NB_OK; m++)
        if (!o->list_rows)
            st = one_m(be, limits, o, type, *m, err);
        else if (o->kind)
            only_named(be, o, type, *m);
        else
            for (int t = 0; t < NB_KV_TYPES; t++)
                only_named(be, o, (nb_kv_type)t, *m);
    return st;
}
