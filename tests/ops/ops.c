/* ops.c -- opens the backends, guards the buffers, runs a case on all of them. */
#include "ops/ops.h"
#include "backend/kv.h"

#include <dlfcn.h>
#include <limits.h>
#include <time.h>
#include <unistd.h>

static const ops_row rows[] = {
    {"ref", "ref", true, OPS_F32, true, INT64_MAX},
    {"cpu --exact", "cpu", true, OPS_F32, true, INT64_MAX},
    {"cpu", "cpu", false, OPS_INT8, true, INT64_MAX},
    {"simt", "simt", false, OPS_BF16, false, 1 << 18},
    {"cuda:0", "cuda:0", false, OPS_BF16, false, INT64_MAX},
};
enum { N_ROWS = sizeof rows / sizeof *rows, GUARD = 64 };

/* Bytes behind a buffer: none where the device itself knows each allocation's end and tells of what is
 * read beyond. */
static size_t guard_behind(const ops *o)
{
    return strcmp(o->row->device, "simt") == 0 ? 0 : GUARD;
}
_Static_assert((int)N_ROWS <= (int)OPS_MAX_BACKENDS, "a set holds every row");

/* NIBBLE_OPS_ROWS=NAME: ref and that row alone, which must be there (tests/mutate, ops/order). */
static bool wanted(const ops_row *row)
{
    const char *only = getenv("NIBBLE_OPS_ROWS");
    return !only || row == rows || strcmp(only, row->label) == 0;
}

static bool open_row(ops *o, check *c, const ops_row *row, int32_t n_thread)
{
    nb_error err = {.message = ""};
    const nb_backend_options opt = {.exact = row->exact, .n_thread = n_thread};
    *o = (ops){.c = c, .row = row};
    const nb_status st = nb_backend_open(row->device, &opt, &o->be, &err);
    if (st != NB_OK && (row->always || getenv("NIBBLE_OPS_ROWS") || st != NB_DEVICE))
        check_report(c, __FILE__, __LINE__, "%s does not open: %s", row->label, err.message);
    return st == NB_OK;
}

void ops_set_open(ops_set *set, check *c)
{
    set->n = 0;
    for (int i = 0; i < N_ROWS; i++)
        if (wanted(&rows[i]) && open_row(&set->o[set->n], c, &rows[i], 0))
            set->n++;
}

void *ops_simt(const char *name)
{
    const char *folder = getenv("NIBBLE_MODULE_DIR");
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/libnibble_simt.so", folder && *folder ? folder : NB_BINARY_DIR);
    void *module = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
    void *symbol = module ? dlsym(module, name) : NULL;
    if (module)
        dlclose(module); /* the engine holds it */
    return symbol;
}

static void nothing_is_kept(check *c)
{
    const union {
        void *address;
        int (*kept)(void);
    } simt = {.address = ops_simt("simt_kept")};
    if (simt.address)
        CHECK_EQ(c, simt.kept(), 0);
}

void ops_set_close(ops_set *set)
{
    for (int i = 0; i < set->n; i++)
        nb_backend_close(set->o[i].be);
    if (set->n)
        nothing_is_kept(set->o[0].c);
    set->n = 0;
}

void *ops_alloc(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size);
    if (!p) {
        fprintf(stderr, "no memory for a test's %zu x %zu bytes\n", n, size);
        exit(1);
    }
    return p;
}

static uint64_t other_seed(void)
{
    static bool read;
    static uint64_t n;
    const char *text = getenv("NIBBLE_OPS_SEED");
    if (read || !text)
        return n;
    char *end = NULL;
    read = true;
    if (strcmp(text, "random") == 0) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        n = ((uint64_t)now.tv_nsec ^ (uint64_t)now.tv_sec << 12 ^ (uint64_t)getpid() << 20) %
            1000000000;
    } else {
        n = strtoull(text, &end, 10);
    }
    if (end && (end == text || *end)) {
        fprintf(stderr, "NIBBLE_OPS_SEED=%s is neither a number nor random\n", text);
        exit(1);
    }
    printf("NIBBLE_OPS_SEED=%" PRIu64 "\n", n);
    fflush(stdout); /* also when the test does not come to its end */
    return n;
}

void ops_seed(nb_rng *r, uint64_t fixed)
{
    nb_rng_seed(r, fixed + other_seed());
}

float *ops_normals(nb_rng *r, int64_t n, float scale)
{
    float *v = ops_alloc((size_t)n, sizeof *v);
    for (int64_t i = 0; i < n; i++)
        v[i] = scale * nb_rng_normal(r);
    return v;
}

float *ops_rows(nb_rng *r, int64_t n_row, int64_t cols, int64_t ld, float scale)
{
    float *v = ops_alloc((size_t)(n_row * ld), sizeof *v);
    memset(v, 0xff, (size_t)(n_row * ld) * sizeof *v);
    for (int64_t m = 0; m < n_row; m++)
        for (int64_t k = 0; k < cols; k++)
            v[m * ld + k] = scale * nb_rng_normal(r);
    return v;
}

int32_t *ops_pages(nb_rng *r, const int32_t *len, int32_t n_seq, int32_t seq_pages, int32_t *n_page)
{
    int32_t *table = ops_alloc((size_t)(n_seq * seq_pages), sizeof *table), n = 1;
    for (int32_t s = 0; s < n_seq; s++)
        n += nb_kv_pages(len[s]);
    int32_t *order = ops_alloc((size_t)n, sizeof *order);
    for (int32_t i = 0; i < n; i++) { /* Fisher and Yates */
        const int32_t j = (int32_t)(nb_rng_double(r) * (i + 1));
        order[i] = order[j];
        order[j] = i;
    }
    *n_page = n;
    for (int32_t s = 0; s < n_seq; s++)
        for (int32_t i = 0; i < seq_pages; i++)
            table[s * seq_pages + i] = i < nb_kv_pages(len[s]) ? order[--n] : -1;
    free(order);
    return table;
}

/* ---- buffers ---- */

static void *make(ops *o, const void *src, size_t bytes, bool keep)
{
    nb_error err = {.message = ""};
    void *base = NULL;
    const size_t all = GUARD + bytes + guard_behind(o);
    if (o->n_buffer == OPS_MAX_BUFFERS ||
        o->be->op->alloc(o->be, all, "a test buffer", &base, &err) != NB_OK) {
        check_report(o->c, __FILE__, __LINE__, "%s: no buffer of %zu bytes: %s", o->what, bytes,
                     err.message);
        return NULL;
    }
    struct ops_buffer *b = &o->buffer[o->n_buffer++];
    *b = (struct ops_buffer){.base = base, .sent = ops_alloc(all, 1), .bytes = bytes, .keep = keep};
    memset(b->sent, 0xa5, all);
    memset(b->sent + GUARD, 0xff, bytes);
    if (src && bytes)
        memcpy(b->sent + GUARD, src, bytes);
    if (o->be->op->upload(o->be, base, b->sent, all, &err) != NB_OK)
        check_report(o->c, __FILE__, __LINE__, "%s: upload failed: %s", o->what, err.message);
    return b->base + GUARD;
}

void *ops_in(ops *o, const void *src, size_t bytes)
{
    return make(o, src, bytes, true);
}

void *ops_inout(ops *o, const void *src, size_t bytes)
{
    return make(o, src, bytes, false);
}

void *ops_out(ops *o, size_t bytes)
{
    return make(o, NULL, bytes, false);
}

void ops_get(ops *o, const void *device, void *host)
{
    nb_error err = {.message = ""};
    for (int i = 0; i < o->n_buffer; i++)
        if (device == o->buffer[i].base + GUARD) {
            if (o->be->op->download(o->be, host, device, o->buffer[i].bytes, &err) != NB_OK)
                check_report(o->c, __FILE__, __LINE__, "%s: download failed: %s", o->what,
                             err.message);
            return;
        }
    check_report(o->c, __FILE__, __LINE__, "%s: the test asks for a buffer it never made", o->what);
}

bool ops_finish(ops *o)
{
    nb_error err = {.message = ""};
    bool good = o->be->op->sync(o->be, &err) == NB_OK;
    if (!good)
        check_report(o->c, __FILE__, __LINE__, "%s: sync failed: %s", o->what, err.message);
    for (int i = 0; i < o->n_buffer; i++) {
        struct ops_buffer *b = &o->buffer[i];
        const size_t data = GUARD + b->bytes, all = data + guard_behind(o);
        uint8_t *now = ops_alloc(all, 1);
        bool same = o->be->op->download(o->be, now, b->base, all, &err) == NB_OK;
        same = same && memcmp(now, b->sent, GUARD) == 0;
        same = same && memcmp(now + data, b->sent + data, all - data) == 0;
        o->c->n_check++;
        if (!same)
            check_report(o->c, __FILE__, __LINE__, "%s: bytes around buffer %d were written",
                         o->what, i);
        if (b->keep && memcmp(now + GUARD, b->sent + GUARD, b->bytes) != 0) {
            check_report(o->c, __FILE__, __LINE__, "%s: input %d was written", o->what, i);
            same = false;
        }
        good = good && same;
        free(now);
        free(b->sent);
        o->be->op->release(o->be, b->base);
    }
    o->n_buffer = 0;
    return good;
}

void ops_gaps(ops *o, const void *data, size_t element, int64_t n_row, int64_t cols, int64_t ld)
{
    o->c->n_check++;
    for (int64_t m = 0; m < n_row; m++)
        for (size_t i = (size_t)(m * ld + cols) * element; i < (size_t)(m * ld + ld) * element; i++)
            if (((const uint8_t *)data)[i] != 0xff) {
                check_report(o->c, __FILE__, __LINE__, "%s: the gap after row %lld was written",
                             o->what, (long long)m);
                return;
            }
}

/* ---- status ---- */

bool ops_has(ops *o, bool has, const char *op)
{
    if (!has && o->row->always) {
        o->c->n_check++;
        check_report(o->c, __FILE__, __LINE__, "%s has no %s", o->row->label, op);
    }
    return has;
}

bool ops_ok(ops *o, nb_status st, const nb_error *err)
{
    if (st != NB_OK && (o->row->always || st != NB_UNSUPPORTED)) {
        o->c->n_check++;
        check_report(o->c, __FILE__, __LINE__, "%s: status %d: %s", o->what, (int)st, err->message);
    }
    return st == NB_OK;
}

/* ---- drivers ---- */

static bool run_on(ops *o, const ops_test *t, const void *args, void *out, size_t out_bytes,
                   const char *what)
{
    char seed[40] = "";
    if (other_seed())
        snprintf(seed, sizeof seed, ", seed %" PRIu64, other_seed());
    snprintf(o->what, sizeof o->what, "%s, %s%s", o->row->label, what, seed);
    memset(out, 0xee, out_bytes);
    const bool done = t->run(o, args, out);
    return ops_finish(o) && done;
}

void ops_against_ref(ops_set *set, const ops_test *t, const void *args, size_t out_bytes,
                     int64_t work, const char *what)
{
    if (set->n == 0)
        return;
    void *want = ops_alloc(out_bytes, 1), *got = ops_alloc(out_bytes, 1);
    if (run_on(&set->o[0], t, args, want, out_bytes, what))
        for (int i = 1; i < set->n; i++)
            if (work <= set->o[i].row->max_work &&
                run_on(&set->o[i], t, args, got, out_bytes, what))
                t->compare(&set->o[i], args, got, want);
    free(want);
    free(got);
}

void ops_same_bits(check *c, const ops_test *t, const void *args, size_t out_bytes, int64_t work,
                   const char *what)
{
    void *first = ops_alloc(out_bytes, 1), *again = ops_alloc(out_bytes, 1);
    for (int r = 0; r < N_ROWS; r++) {
        if (!wanted(&rows[r]))
            continue;
        const int n_run = strcmp(rows[r].device, "cpu") == 0
                              ? 6
                              : 2; /* thread counts 1 2 3 1 2 3, or just twice */
        bool have = false;
        for (int i = 0; i < n_run && work <= rows[r].max_work; i++) {
            ops o;
            if (!open_row(&o, c, &rows[r], n_run == 6 ? i % 3 + 1 : 0))
                break;
            const bool done = run_on(&o, t, args, have ? again : first, out_bytes, what);
            nb_backend_close(o.be);
            if (!done)
                break;
            if (have) {
                c->n_check++;
                if (memcmp(first, again, out_bytes) != 0)
                    check_report(c, __FILE__, __LINE__, "%s: other bits in run %d", o.what, i + 1);
            }
            have = true;
        }
    }
    free(first);
    free(again);
}
