/* bench_kernels.c -- the speed of linear by format, shape and number of tokens, on random data.
 *
 * Every call reads another copy of the weight, as the layers of a model do: as many copies take turns
 * as twice the last cache holds, and one more (at most kMostCopies; a weight so small that this is
 * not enough is measured in the cache, and rotated_bytes shows it). A sample is as many calls as take
 * kSampleNs; the median of kSamples is reported, and the distance between the quartiles.
 *
 *   bytes = packed weight + 4 M K + 4 M N      flop = 2 M N K
 *   share_of_limit = max(bytes / bandwidth, flop / peak of the row) / time         (limits.h) */
#include "api/samples.h"
#include "backend/limits.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/random.h"
#include "nibble.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kMostCopies = 256, kSamples = 9, kPool = 256, kListRows = 32, kListK = 4096 };
static const int64_t kSampleNs = 5000000;
static const int64_t kMostElements = (int64_t)1 << 34;

/* A random matrix of one kind. */
typedef struct source {
    nb_matrix m; /* borrows what follows */
    uint8_t *rows, *codes;
    nb_group *groups;
} source;

static void source_free(source *s)
{
    free(s->rows);
    free(s->codes);
    free(s->groups);
}

/* Blocks of random bytes, drawn until every value is a plain number: not NaN, not huge, not all 0. */
static nb_status draw_pool(const nb_dtype *t, nb_rng *g, uint8_t *pool, nb_error *err)
{
    enum { kMostDraws = 100000, kMostBlock = 1024 };
    float value[kMostBlock];
    int draws = 0;
    if (t->block > kMostBlock)
        return nb_fail(err, NB_UNSUPPORTED, "%s has blocks of %d values, too long for random ones", t->name, t->block);
    for (int i = 0; i < kPool; i++) {
        uint8_t *block = pool + (size_t)i * (size_t)t->bytes;
        for (bool good = false; !good;) {
            if (++draws > kMostDraws)
                return nb_fail(err, NB_UNSUPPORTED, "%s: no plain block among %d random ones", t->name, kMostDraws);
            for (int b = 0; b < t->bytes; b++)
                block[b] = (uint8_t)nb_rng_u64(g);
            t->decode(block, value, 1);
            float most = 0;
            good = true;
            for (int v = 0; v < t->block && good; v++) {
                good = fabsf(value[v]) < 1e3f; /* false for NaN */
                most = fabsf(value[v]) > most ? fabsf(value[v]) : most;
            }
            good = good && most > 1e-3f;
        }
    }
    return NB_OK;
}

static nb_status draw_rows(const nb_dtype *t, int64_t N, int64_t K, source *s, nb_error *err)
{
    nb_rng g;
    const int64_t row_bytes = nb_dtype_row_bytes(t, K), n_block = N * (K / t->block);
    if (row_bytes < 0)
        return nb_fail(err, NB_USAGE, "rows of %" PRId64 " values are no whole number of %s blocks of %d", K, t->name, t->block);
    uint8_t *pool = nb_alloc(kPool, (size_t)t->bytes, "random blocks", err);
    s->rows = nb_alloc((size_t)N, (size_t)row_bytes, "a random weight", err);
    nb_status st = pool && s->rows ? NB_OK : NB_NO_ROOM;
    nb_rng_seed(&g, 1);
    if (st == NB_OK)
        st = draw_pool(t, &g, pool, err);
    for (int64_t i = 0; i < n_block && st == NB_OK; i++)
        memcpy(s->rows + (size_t)(i * t->bytes), pool + (size_t)(nb_rng_u64(&g) % kPool) * (size_t)t->bytes, (size_t)t->bytes);
    free(pool);
    s->m = (nb_matrix){.N = N, .K = K, .dtype = t, .rows = s->rows};
    return st;
}

/* "int4", "int4g128": codes of so many bits in groups of so many inputs (none: the row). */
static bool integer_kind(const char *kind, int *bits, int *group)
{
    int read = 0;
    *group = 0;
    if (sscanf(kind, "int%1d%n", bits, &read) != 1 || read == 0 || *bits < 2)
        return false;
    if (!kind[read])
        return true;
    char *end = NULL;
    const long g = kind[read] == 'g' && kind[read + 1] >= '1' && kind[read + 1] <= '9' ? strtol(kind + read + 1, &end, 10) : 0;
    *group = (int)g;
    return g >= 1 && g <= 65536 && !*end;
}

static nb_status draw_codes(int bits, int group, int64_t N, int64_t K, source *s, nb_error *err)
{
    nb_rng g;
    const int64_t width = group ? group : K, G = (K + width - 1) / width;
    s->codes = nb_alloc((size_t)N, (size_t)K, "random codes", err);
    s->groups = nb_alloc((size_t)(N * G), sizeof *s->groups, "random groups", err);
    if (!s->codes || !s->groups)
        return NB_NO_ROOM;
    nb_rng_seed(&g, 1);
    for (int64_t i = 0; i < N * K; i++)
        s->codes[i] = (uint8_t)(nb_rng_u64(&g) >> (64 - bits));
    for (int64_t i = 0; i < N * G; i++) /* steps of 2^-14: exact in f16 */
        s->groups[i] =
            (nb_group){.scale = (float)(1 + nb_rng_u64(&g) % 1000) * 0x1p-14f, .zero = (float)(nb_rng_u64(&g) >> (64 - bits))};
    s->m = (nb_matrix){.N = N, .K = K, .codes = s->codes, .groups = s->groups, .bits = bits, .group = group};
    return NB_OK;
}

/* Kinds that the command line knows and no row of dtype serves yet: 5, not "unknown". */
static bool reserved(const char *kind)
{
    static const char *const names[] = {"nf4", "fp4", "mxfp4", "fp8", "ternary"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], kind) == 0)
            return true;
    return false;
}

/* Asked before anything is measured. */
static nb_status check_kind(const char *kind, nb_error *err)
{
    int bits = 0, group = 0;
    const nb_dtype *t = nb_dtype_by_name(kind);
    if (t ? t->decode != NULL : integer_kind(kind, &bits, &group))
        return NB_OK;
    const nb_status st = t                ? nb_fail(err, NB_UNSUPPORTED, "--kind %s holds whole numbers, not weights", t->name)
                         : reserved(kind) ? nb_fail(err, NB_UNSUPPORTED, "--kind %s is not there yet", kind)
                                          : nb_fail(err, NB_USAGE, "--kind %.40s is no number format", kind);
    nb_hint(err, "q4_0, q4_k, bf16, int4g128, ...; nibble doctor --features lists them");
    return st;
}

static nb_status draw(const char *kind, int64_t N, int64_t K, source *s, nb_error *err)
{
    int bits = 0, group = 0;
    const nb_dtype *t = nb_dtype_by_name(kind);
    *s = (source){.rows = NULL};
    const nb_status st = check_kind(kind, err);
    if (st != NB_OK)
        return st;
    if (t)
        return draw_rows(t, N, K, s, err);
    (void)integer_kind(kind, &bits, &group);
    return draw_codes(bits, group, N, K, s, err);
}

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
    void *scratch;
} job;

static nb_status copies(job *j, const source *s, bool one, nb_error *err)
{
    nb_status st = j->be->op->pack_weight(j->be, &s->m, 1, &j->copy[0], err);
    j->n_copy = st == NB_OK;
    if (st != NB_OK || one)
        return st;
    const size_t bytes = j->be->op->weight_bytes(j->copy[0]), room = j->be->memory_bytes / 2;
    size_t want = 2 * j->limits->cache_bytes / (bytes ? bytes : 1) + 2;
    want = want > kMostCopies ? kMostCopies : want;
    if (room && want * bytes > room)
        return nb_fail(err, NB_NO_ROOM,
                       "%zu copies of a %s weight of %" PRId64 "x%" PRId64 " need %zu bytes, half the memory is %zu", want,
                       j->kind, j->N, j->K, want * bytes, room);
    for (size_t i = 1; i < want && st == NB_OK; i++) {
        st = j->be->op->pack_weight(j->be, &s->m, 1, &j->copy[i], err);
        j->n_copy += st == NB_OK;
    }
    return st;
}

/* ns of n calls, each on the next copy. */
static nb_status calls(job *j, nb_linear_args *a, int64_t n, double *ns, nb_error *err)
{
    nb_status st = NB_OK;
    const int64_t start = nb_clock_ns();
    for (int64_t i = 0; i < n && st == NB_OK; i++) {
        a->w = j->copy[j->next];
        j->next = (j->next + 1) % j->n_copy;
        st = j->be->op->linear(j->be, a, err);
    }
    if (st == NB_OK)
        st = j->be->op->sync(j->be, err);
    *ns = (double)(nb_clock_ns() - start);
    return st;
}

static nb_status time_it(job *j, nb_linear_args *a, double us[kSamples], nb_error *err)
{
    int64_t n = 1;
    double ns = 0, again = 0;
    nb_status st = calls(j, a, 1, &ns, err); /* touches everything once */
    for (bool enough = false; st == NB_OK && !enough; n *= enough ? 1 : 2) {
        st = calls(j, a, n, &ns, err);
        if (st == NB_OK)
            st = calls(j, a, n, &again, err); /* twice: one may have waited for another process */
        enough = (ns < again ? ns : again) >= (double)kSampleNs || n >= 1 << 20;
    }
    for (int i = 0; i < kSamples && st == NB_OK; i++) {
        st = calls(j, a, n, &ns, err);
        us[i] = ns * 1e-3 / (double)n;
    }
    return st;
}

static nb_status buffers(job *j, nb_linear_args *a, nb_error *err)
{
    nb_rng g;
    const size_t x_bytes = (size_t)(a->M * j->K) * sizeof(float), y_bytes = (size_t)(a->M * j->N) * sizeof(float);
    float *host = nb_alloc((size_t)(a->M * j->K), sizeof *host, "random inputs", err);
    nb_status st = host ? NB_OK : NB_NO_ROOM;
    nb_rng_seed(&g, 2);
    for (int64_t i = 0; i < a->M * j->K && st == NB_OK; i++)
        host[i] = nb_rng_normal(&g);
    if (st == NB_OK)
        st = j->be->op->alloc(j->be, x_bytes, "random inputs", (void **)&j->x, err);
    if (st == NB_OK)
        st = j->be->op->upload(j->be, j->x, host, x_bytes, err);
    if (st == NB_OK)
        st = j->be->op->alloc(j->be, y_bytes, "outputs", (void **)&j->y, err);
    if (st == NB_OK)
        st = j->be->op->alloc(j->be, j->be->op->linear_scratch(j->be, a), "scratch", &j->scratch, err);
    a->x = j->x;
    a->y = j->y;
    a->scratch = j->scratch;
    free(host);
    return st;
}

static void release_buffers(job *j)
{
    j->be->op->release(j->be, j->x);
    j->be->op->release(j->be, j->y);
    j->be->op->release(j->be, j->scratch);
    j->x = j->y = NULL;
    j->scratch = NULL;
}

static void fill_speed(const job *j, nb_kernel_row *r, double peak, double us[kSamples])
{
    const double bytes = (double)j->be->op->weight_bytes(j->copy[0]) + 4.0 * (double)r->m * (double)(r->n + r->k);
    const double flop = 2.0 * (double)r->m * (double)r->n * (double)r->k;
    const double bandwidth = j->limits->read_bytes_per_s;
    r->us = nb_samples_median(us, kSamples);
    r->us_spread = nb_samples_quantile(us, kSamples, 0.75) - nb_samples_quantile(us, kSamples, 0.25);
    r->gb_per_s = bytes / r->us * 1e-3;
    r->tflop_per_s = flop / r->us * 1e-6;
    r->limit_gb_per_s = bandwidth * 1e-9;
    r->limit_tflop_per_s = peak * 1e-12;
    r->rotated_bytes = (int64_t)j->be->op->weight_bytes(j->copy[0]) * j->n_copy;
    if (bandwidth > 0 && peak > 0) {
        const double by_memory = bytes / bandwidth, by_products = flop / peak;
        r->share_of_limit = (by_memory > by_products ? by_memory : by_products) / (r->us * 1e-6);
    }
}

static nb_status one_m(job *j, int64_t M, nb_error *err)
{
    nb_linear_args a = {.M = M, .ldx = j->K, .ldy = j->N, .w = j->copy[0]};
    nb_kernel_row r = {.op = "linear", .m = M, .n = j->N, .k = j->K};
    nb_arith arith;
    double us[kSamples];
    const char *row = nb_backend_linear_row(j->be, &a, &arith);
    snprintf(r.row, sizeof r.row, "%s", row ? row : j->be->name);
    snprintf(r.kind, sizeof r.kind, "%s", j->kind);
    nb_status st = NB_OK;
    if (!j->o->list_rows) {
        st = buffers(j, &a, err);
        if (st == NB_OK)
            st = time_it(j, &a, us, err);
        if (st == NB_OK)
            fill_speed(j, &r, row ? j->limits->flop_per_s[arith] : 0.0, us);
        release_buffers(j);
    }
    if (st == NB_OK)
        j->o->row(j->o->arg, &r);
    return st;
}

static nb_status one_shape(nb_backend *be, const nb_limits *limits, const nb_bench_kernels_options *o, const char *kind,
                           int64_t N, int64_t K, nb_error *err)
{
    static const int32_t usual[] = {1, 16, 256, 0};
    job j = {.be = be, .limits = limits, .o = o, .kind = kind, .N = N, .K = K};
    source s;
    nb_status st = draw(kind, N, K, &s, err);
    if (st == NB_OK)
        st = copies(&j, &s, o->list_rows, err);
    source_free(&s);
    for (const int32_t *m = o->m ? o->m : usual; *m && st == NB_OK; m++)
        st = one_m(&j, *m, err);
    for (int i = 0; i < j.n_copy; i++)
        be->op->release_weight(be, j.copy[i]);
    return st;
}

static nb_status one_kind(nb_backend *be, const nb_limits *limits, const nb_bench_kernels_options *o, const char *kind,
                          nb_error *err)
{
    static const int64_t shapes[][2] = {{4096, 4096}, {14336, 4096}}; /* attention and feed-forward of an 8B model */
    if (o->list_rows)
        return one_shape(be, limits, o, kind, kListRows, o->k ? o->k : kListK, err);
    if (o->n)
        return one_shape(be, limits, o, kind, o->n, o->k, err);
    nb_status st = NB_OK;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes && st == NB_OK; i++)
        st = one_shape(be, limits, o, kind, shapes[i][0], shapes[i][1], err);
    return st;
}

static nb_status check(const nb_bench_kernels_options *o, nb_error *err)
{
    if (o->op && strcmp(o->op, "linear") != 0) {
        const nb_status st = nb_fail(err, NB_UNSUPPORTED, "--op %.40s cannot be measured alone yet", o->op);
        nb_hint(err, "--op linear");
        return st;
    }
    if ((o->n == 0) != (o->k == 0) || o->n < 0 || o->k < 0 || (o->n && o->k > kMostElements / o->n))
        return nb_fail(err, NB_USAGE, "a weight of %" PRId64 "x%" PRId64 " cannot be measured", o->n, o->k);
    for (const int32_t *m = o->m; m && *m; m++)
        if (*m < 1 || *m > 65536)
            return nb_fail(err, NB_USAGE, "%d tokens cannot be measured; 1 to 65536", *m);
    return o->kind ? check_kind(o->kind, err) : NB_OK;
}

nb_status nb_bench_kernels(const nb_bench_kernels_options *o, nb_error *err)
{
    static const char *const usual[] = {"q4_0", "q4_1", "q8_0", "q4_k", "q6_k", "iq4_nl", "bf16", "f16", "f32"};
    nb_backend *be = NULL;
    nb_limits limits = {.cache_bytes = 0};
    const nb_backend_options bo = {.exact = o->exact, .n_thread = o->n_thread};
    nb_status st = check(o, err);
    if (st == NB_OK)
        st = nb_backend_open(o->device ? o->device : "auto", &bo, &be, err);
    if (st != NB_OK)
        return st;
    st = nb_op_check(be, be->op->linear != NULL, "linear", err);
    if (st == NB_OK && !o->list_rows)
        st = nb_backend_limits(be, &limits, err);
    if (o->kind)
        st = st == NB_OK ? one_kind(be, &limits, o, o->kind, err) : st;
    else if (o->list_rows)
        for (const nb_dtype *const *t = nb_dtypes; *t && st == NB_OK; t++)
            st = (*t)->decode && (o->k ? o->k : kListK) % (*t)->block == 0 ? one_kind(be, &limits, o, (*t)->name, err) : NB_OK;
    else
        for (size_t i = 0; i < sizeof usual / sizeof *usual && st == NB_OK; i++)
            st = one_kind(be, &limits, o, usual[i], err);
    nb_backend_close(be);
    return st;
}
