/* bench_kernels.c -- the speed of single operations on random data: linear by format, shape and
 * number of tokens here, attention in bench_attention.c.
 *
 * Every call reads another copy of the weight, as the layers of a model do: as many copies take
 * turns as four times the last cache holds, and one more (at most kMostCopies; a weight so small
 * that this is not enough is measured in the cache, and rotated_bytes shows it). Twice the cache
 * would do for one that drops what was used longest ago; one that drops at random would still find
 * a fifth of it. A sample is a series of calls (bench_time.c); the median of 21 is reported, of 9
 * where they take long or are timed by the host's clock, and the distance between the quartiles.
 *
 *   bytes = packed weight + 4 M K + 4 M N      flop = 2 M N K
 *   share_of_limit = max(bytes / bandwidth, flop / peak of the row) / time         (limits.h) */
#include "api/bench_kernels.h"
#include "api/samples.h"
#include "base/memory.h"
#include "base/nearest.h"
#include "nibble.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* a list draws few rows of a weight and is told of more: no one reads them */
enum { kMostCopies = 256, kDrawnRows = 32, kListN = 4096, kListK = 4096 };
static const int64_t kMostElements = (int64_t)1 << 34;

/* One kind and shape at work. */
typedef struct job {
    nb_backend *be;
    const nb_limits *limits;
    const nb_bench_kernels_options *o;
    const char *kind;
    int64_t N, K;
    nb_weight *copy[kMostCopies];
    int n_copy, next;
    float *x, *y;
    nb_bench_peer *peer; /* NULL: none */
    void *scratch;
    nb_linear_args a;
} job;

size_t nb_bench_copies(const nb_limits *l, size_t bytes)
{
    const size_t want = 4 * l->cache_bytes / (bytes ? bytes : 1) + 2;
    return want > kMostCopies ? kMostCopies : want;
}

/* Layouts go by the groups of all N rows; fewer rows were drawn: the same again and again. */
static nb_status as_many_groups(nb_matrix *m, int64_t N, nb_group **own, nb_error *err)
{
    const int64_t G = m->group ? (m->K + m->group - 1) / m->group : 1;
    if (!m->groups)
        return NB_OK;
    *own = nb_alloc((size_t)(N * G), sizeof **own, "scales of a random weight", err);
    for (int64_t i = 0; *own && i < N * G; i++)
        (*own)[i] = m->groups[i % (m->N * G)];
    m->groups = *own;
    return *own ? NB_OK : NB_NO_ROOM;
}

static nb_status copies(job *j, const nb_bench_weight *s, bool one, nb_error *err)
{
    nb_matrix m = s->m;
    nb_group *groups = NULL;
    nb_status st = one ? as_many_groups(&m, j->N, &groups, err) : NB_OK;
    m.N = j->N;
    if (st == NB_OK)
        st = (one ? j->be->op->measure_weight : j->be->op->pack_weight)(j->be, &m, 1, &j->copy[0],
                                                                        err);
    free(groups);
    j->n_copy = st == NB_OK;
    if (st != NB_OK || one)
        return st;
    const size_t bytes = j->be->op->weight_bytes(j->copy[0]), room = j->be->memory_bytes / 2;
    const size_t want = nb_bench_copies(j->limits, bytes);
    if (room && want * bytes > room)
        return nb_fail(err, NB_NO_ROOM,
                       "%zu copies of a %s weight of %" PRId64 "x%" PRId64
                       " need %zu bytes, half the memory is %zu",
                       want, j->kind, j->N, j->K, want * bytes, room);
    for (size_t i = 1; i < want && st == NB_OK; i++) {
        st = j->be->op->pack_weight(j->be, &s->m, 1, &j->copy[i], err);
        j->n_copy += st == NB_OK;
    }
    return st;
}

/* On the next copy. */
static nb_status one_linear(void *arg, nb_error *err)
{
    job *j = arg;
    j->a.w = j->copy[j->next];
    j->next = (j->next + 1) % j->n_copy;
    return j->be->op->linear(j->be, &j->a, err);
}

/* x and y for up to most_m tokens, and the vendor's part. */
static nb_status operands(job *j, int64_t most_m, nb_error *err)
{
    const nb_backend_ops *op = j->be->op;
    const size_t n = (size_t)(most_m * j->K);
    float *host = nb_alloc(n, sizeof *host, "random inputs", err);
    nb_status st = host ? NB_OK : NB_NO_ROOM;
    if (st == NB_OK) {
        nb_bench_floats(host, (int64_t)n, 2);
        st = op->alloc(j->be, n * sizeof *host, "random inputs", (void **)&j->x, err);
    }
    if (st == NB_OK)
        st = op->upload(j->be, j->x, host, n * sizeof *host, err);
    if (st == NB_OK)
        st = op->alloc(j->be, (size_t)(most_m * j->N) * sizeof *host, "outputs", (void **)&j->y,
                       err);
    if (st == NB_OK)
        st = op->sync(j->be, err); /* host may go */
    free(host);
    return st == NB_OK ? nb_bench_peer_open(j->be, j->limits, most_m, j->N, j->K, &j->peer, err)
                       : st;
}

static void fill_speed(const job *j, nb_kernel_row *r, double peak, nb_bench_times *t)
{
    const double weight = (double)j->be->op->weight_bytes(j->copy[0]);
    nb_bench_speed(r, weight + 4.0 * (double)r->m * (double)(r->n + r->k),
                   2.0 * (double)r->m * (double)r->n * (double)r->k, j->limits, peak, t);
    r->rotated_bytes = (int64_t)weight * (t->n_call < j->n_copy ? t->n_call : j->n_copy);
}

/* One number of tokens, timed, and the vendor's beside it where both were timed in one way. */
static nb_status measure(job *j, nb_kernel_row *r, double peak, nb_error *err)
{
    nb_bench_times ours, peer;
    j->a.x = j->x;
    j->a.y = j->y;
    nb_status st = j->be->op->alloc(j->be, j->be->op->linear_scratch(j->be, &j->a), "scratch",
                                    &j->scratch, err);
    j->a.scratch = j->scratch;
    if (st == NB_OK)
        st = nb_bench_time(j->be, one_linear, j, j->n_copy, &ours, err);
    j->be->op->release(j->be, j->scratch);
    j->scratch = NULL;
    if (st != NB_OK)
        return st;
    fill_speed(j, r, peak, &ours);
    st = j->peer ? nb_bench_peer_time(j->peer, r->m, &peer, err) : NB_OK;
    if (st == NB_OK && j->peer && peer.recorded == ours.recorded)
        r->ratio_to_cublas_bf16 =
            nb_samples_median(peer.us, peer.n_sample) / (r->us > 0 ? r->us : 1);
    return st;
}

static nb_status one_m(job *j, int64_t M, nb_error *err)
{
    j->a = (nb_linear_args){.M = M, .ldx = j->K, .ldy = j->N, .w = j->copy[0]};
    nb_kernel_row r = {.op = "linear", .m = M, .n = j->N, .k = j->K};
    nb_arith arith;
    const char *row = nb_backend_linear_row(j->be, &j->a, &arith);
    snprintf(r.row, sizeof r.row, "%s", row ? row : j->be->name);
    snprintf(r.kind, sizeof r.kind, "%s", j->kind);
    const nb_status st =
        j->o->list_rows ? NB_OK : measure(j, &r, row ? j->limits->flop_per_s[arith] : 0.0, err);
    if (st == NB_OK)
        j->o->row(j->o->arg, &r);
    return st;
}

static nb_status one_shape(nb_backend *be, const nb_limits *limits,
                           const nb_bench_kernels_options *o, const char *kind, int64_t N,
                           int64_t K, nb_error *err)
{
    static const int32_t usual[] = {1, 16, 256, 0}, list[] = {1, 16, 256, 4096, 0};
    const int32_t *m = o->m ? o->m : o->list_rows ? list : usual, *at;
    int64_t most_m = 0;
    job j = {.be = be, .limits = limits, .o = o, .kind = kind, .N = N, .K = K};
    nb_bench_weight s;
    nb_status st = nb_bench_weight_draw(kind, o->list_rows ? kDrawnRows : N, K, &s, err);
    if (st == NB_OK)
        st = copies(&j, &s, o->list_rows, err);
    nb_bench_weight_free(&s);
    for (at = m; *at; at++)
        most_m = *at > most_m ? *at : most_m;
    if (st == NB_OK && !o->list_rows)
        st = operands(&j, most_m, err);
    for (at = m; *at && st == NB_OK; at++)
        st = one_m(&j, *at, err);
    nb_bench_peer_close(j.peer);
    be->op->release(be, j.x);
    be->op->release(be, j.y);
    for (int i = 0; i < j.n_copy; i++)
        be->op->release_weight(be, j.copy[i]);
    return st;
}

static nb_status one_kind(nb_backend *be, const nb_limits *limits,
                          const nb_bench_kernels_options *o, const char *kind, nb_error *err)
{
    /* attention and feed-forward of an 8B model */
    static const int64_t shapes[][2] = {{4096, 4096}, {14336, 4096}};
    if (o->list_rows)
        return one_shape(be, limits, o, kind, o->n ? o->n : kListN, o->k ? o->k : kListK, err);
    if (o->n)
        return one_shape(be, limits, o, kind, o->n, o->k, err);
    nb_status st = NB_OK;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes && st == NB_OK; i++)
        st = one_shape(be, limits, o, kind, shapes[i][0], shapes[i][1], err);
    return st;
}

static bool is_linear(const nb_bench_kernels_options *o)
{
    return !o->op || strcmp(o->op, "linear") == 0;
}

static nb_status check(const nb_bench_kernels_options *o, nb_error *err)
{
    static const char *const ops[] = {"linear", "attention", "prefill", NULL};
    for (int i = 0; o->op && strcmp(o->op, ops[i]) != 0; i++)
        if (!ops[i + 1]) {
            nb_fail(err, NB_USAGE, "--op %.40s cannot be measured alone", o->op);
            nb_nearest_of(o->op, ops, "--op ", err);
            return NB_USAGE;
        }
    if ((o->n == 0) != (o->k == 0) || o->n < 0 || o->k < 0 || (o->n && o->k > kMostElements / o->n))
        return nb_fail(err, NB_USAGE, "a weight of %" PRId64 "x%" PRId64 " cannot be measured",
                       o->n, o->k);
    for (const int32_t *m = o->m; m && *m; m++)
        if (*m < 1 || *m > 65536)
            return nb_fail(err, NB_USAGE, "%d tokens cannot be measured; 1 to 65536", *m);
    return !is_linear(o) ? nb_bench_attention_check(o, err)
           : o->kind     ? nb_bench_kind_check(o->kind, err)
                         : NB_OK;
}

nb_status nb_bench_kernels(const nb_bench_kernels_options *o, nb_error *err)
{
    static const char *const usual[] = {"q4_0",   "q4_1", "q8_0", "q4_k", "q6_k",
                                        "iq4_nl", "bf16", "f16",  "f32"};
    nb_backend *be = NULL;
    nb_limits limits = {.cache_bytes = 0};
    const nb_backend_options bo = {.exact = o->exact, .n_thread = o->n_thread};
    nb_status st = check(o, err);
    if (st == NB_OK)
        st = nb_backend_open(o->device ? o->device : "auto", &bo, &be, err);
    if (st != NB_OK)
        return st;
    st = is_linear(o) ? nb_op_check(be, be->op->linear != NULL, "linear", err)
                      : nb_op_check(be, be->op->attention != NULL, "attention", err);
    if (st == NB_OK && !o->list_rows)
        st = nb_backend_limits(be, &limits, err);
    if (!is_linear(o))
        st = st == NB_OK ? nb_bench_attention(be, &limits, o, err) : st;
    else if (o->kind)
        st = st == NB_OK ? one_kind(be, &limits, o, o->kind, err) : st;
    else if (o->list_rows)
        for (const nb_dtype *const *t = nb_dtypes; *t && st == NB_OK; t++)
            st = (*t)->decode && (o->k ? o->k : kListK) % (*t)->block == 0
                     ? one_kind(be, &limits, o, (*t)->name, err)
                     : NB_OK;
    else
        for (size_t i = 0; i < sizeof usual / sizeof *usual && st == NB_OK; i++)
            st = one_kind(be, &limits, o, usual[i], err);
    nb_backend_close(be);
    return st;
}
