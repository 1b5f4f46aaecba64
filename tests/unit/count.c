/* count.c -- the counting backend: every op of the device it wraps is there, sizes add up, and a
 * plan is what loading really takes. */
#include "backend/count.h"
#include "check.h"
#include "hostile/folder.h"
#include "model/model.h"
#include "tiny_gguf.h"

/* The table as a list of addresses: a slot that the device fills and the counter leaves empty is an
 * op that was forgotten in count.c. */
static void table(check *c)
{
    static const char *const devices[] = {"cpu", "ref"};
    for (int d = 0; d < 2; d++) {
        nb_backend *be = NULL, *count = NULL;
        nb_error err = {.offset = -1};
        void *a[sizeof(nb_backend_ops) / sizeof(void *)],
            *b[sizeof(nb_backend_ops) / sizeof(void *)];
        CHECK_EQ(c, nb_backend_open(devices[d], NULL, &be, &err), NB_OK);
        CHECK_EQ(c, nb_backend_count_open(be, false, &count, &err), NB_OK);
        memcpy(a, be->op, sizeof a);
        memcpy(b, count->op, sizeof b);
        /* nobody plans from there on: what measures */
        for (size_t i = 0; i < offsetof(nb_backend_ops, limits) / sizeof *a; i++) {
            c->n_check++;
            if (a[i] && !b[i])
                check_report(c, __FILE__, __LINE__,
                             "%s has slot %zu of nb_backend_ops, count.c has not", devices[d], i);
            if (a[i] && a[i] == b[i])
                check_report(c, __FILE__, __LINE__, "slot %zu of nb_backend_ops still computes", i);
        }
        nb_backend_close(count);
        nb_backend_close(be);
    }
}

static void sums(check *c)
{
    nb_backend *be = NULL;
    nb_error err = {.offset = -1};
    void *p = NULL, *q = NULL, *h = NULL;
    double there[2] = {0, 0};
    CHECK_EQ(c, nb_backend_open("plan:cpu", NULL, &be, &err), NB_OK);
    CHECK(c, nb_backend_counts(be));
    CHECK_EQ(c, be->op->alloc(be, 1000, "x", &p, &err), NB_OK);
    CHECK_EQ(c, be->op->alloc(be, (size_t)1 << 40, "x", &q, &err), NB_OK); /* more than there is */
    CHECK_EQ(c, nb_count_host(be, 64, &h, &err), NB_OK);
    CHECK(c, p != q && q != h);
    CHECK_EQ(c, nb_backend_count(be)->device, 1024 + ((size_t)1 << 40));
    CHECK_EQ(c, nb_backend_count(be)->peak, 1024 + 64 + ((size_t)1 << 40));
    CHECK_EQ(c, be->op->zero(be, q, (size_t)1 << 40, &err), NB_OK);
    CHECK_EQ(c, be->op->download(be, there, q, sizeof there, &err), NB_OK);
    CHECK(c, there[1] > 0.0 && there[1] < 1.0);
    CHECK_EQ(c, be->op->download(be, h, q, (size_t)1 << 40, &err), NB_OK);
    be->op->release(be, q);
    be->op->release(be, p);
    nb_count_host_free(be, h);
    CHECK_EQ(c, nb_backend_count(be)->device + nb_backend_count(be)->host, 0);
    CHECK_EQ(c, nb_backend_count(be)->host_peak, 64);
    nb_backend_close(be);
    CHECK_EQ(c, nb_backend_open("plan:abacus", NULL, &be, &err), NB_USAGE);
    CHECK_EQ(c, nb_backend_open("plan:plan:cpu", NULL, &be, &err), NB_USAGE);
}

/* A weight that is measured has the size of one that is packed, in every format. */
static void weights(check *c)
{
    enum { N = 40, K = 512 };
    static const char *const devices[] = {"cpu", "ref"};
    for (int d = 0; d < 2; d++) {
        nb_backend *be = NULL;
        nb_error err = {.offset = -1};
        CHECK_EQ(c, nb_backend_open(devices[d], NULL, &be, &err), NB_OK);
        for (const nb_dtype *const *t = nb_dtypes; *t; t++) {
            if (!(*t)->decode || !(*t)->encode)
                continue;
            float row[K];
            uint8_t *rows = calloc(N, (size_t)nb_dtype_row_bytes(*t, K));
            for (int n = 0; n < N && rows; n++) {
                for (int k = 0; k < K; k++)
                    row[k] = (float)((n * 31 + k * 17) % 97 - 48) * 0.01f;
                (*t)->encode(row, rows + n * nb_dtype_row_bytes(*t, K), K / (*t)->block);
            }
            const nb_matrix m = {.N = N, .K = K, .dtype = *t, .rows = rows},
                            unread = {.N = N, .K = K, .dtype = *t};
            nb_weight *packed = NULL, *measured = NULL;
            CHECK_EQ(c, be->op->pack_weight(be, &m, 1, &packed, &err), NB_OK);
            CHECK_EQ(c, be->op->measure_weight(be, &unread, 1, &measured, &err), NB_OK);
            c->n_check++;
            if (packed && measured &&
                be->op->weight_bytes(packed) != be->op->weight_bytes(measured))
                check_report(c, __FILE__, __LINE__, "%s, %s: %zu bytes packed, %zu measured",
                             devices[d], (*t)->name, be->op->weight_bytes(packed),
                             be->op->weight_bytes(measured));
            be->op->release_weight(be, packed);
            be->op->release_weight(be, measured);
            free(rows);
        }
        nb_backend_close(be);
    }
}

static void plan_of_a_model(check *c)
{
    static const tiny_shape shape = {
        .n_layer = 3, .hidden = 64, .ffn = 128, .n_head = 2, .n_kv_head = 1, .ctx = 64};
    char path[1024];
    nb_error err = {.offset = -1};
    nb_plan plan;
    nb_model *m = NULL;
    nb_model_info info;
    folder d = folder_new();
    CHECK_EQ(c, tiny_gguf_write(folder_in(&d, "tiny.gguf", path), &shape, &err), NB_OK);
    for (int exact = 0; exact < 2; exact++) {
        const nb_plan_options po = {
            .model = path, .device = "cpu", .ctx = 48, .n_seq = 3, .exact = exact};
        const nb_model_options mo = {.device = "cpu", .exact = exact};
        CHECK_EQ(c, nb_plan_model(&po, &plan, &err), NB_OK);
        /* k and v, layers, sequences, a page of tokens, one head of 32 */
        CHECK_EQ(c, plan.kv_bytes, 2 * 3 * 3 * 64 * 32 * (exact ? 4 : 2));
        CHECK_EQ(c, plan.total_bytes, plan.weights_bytes + plan.kv_bytes + plan.scratch_bytes);
        CHECK(c, plan.fits && plan.scratch_bytes > 0);
        CHECK_EQ(c, nb_model_open(path, &mo, &m, &err), NB_OK);
        nb_model_get_info(m, &info);
        /* norms, and sixteen frequencies twice (local layers) */
        const int64_t vectors = (2 * 3 + 1) * 64 * 4 + 2 * 64;
        CHECK_EQ(c, plan.weights_bytes, info.weights_bytes + vectors);
        nb_model_close(m);
    }
    folder_gone(&d);
}

static const check_case cases[] = {
    {"the counting backend has every op that its device has", table},
    {"sizes are added up and nothing is followed", sums},
    {"a measured weight has the size of a packed one, in every format", weights},
    {"the plan of a model is what loading it takes", plan_of_a_model},
};
CHECK_MAIN(cases)
