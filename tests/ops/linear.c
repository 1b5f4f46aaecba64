/* linear.c -- y = x W^T (+ bias) (+ y) on every backend, over every kind of weight, against ref.
 * NUMERICS.md "linear". */
#include "backend/limits.h"
#include "ops/bounds.h"
#include "ops/ops.h"
#include "ops/weights.h"

static const int64_t all_M[] = {1, 7, 8, 9, 17, 33, 64},
                     all_K[] = {32, 64, 96, 172, 256, 576, 1536};
static const int64_t all_N[] = {1, 15, 16, 17, 64, 272, 576};
enum { N_M = 7, N_K = 7, N_N = 7, MAX_PART = 3 };
static const int64_t max_steps =
    12000000; /* M N K of a case: ref takes about a nanosecond a step */

/* What x goes through first (nb_through). */
enum { AS_IT_LIES, NORMED, SILU, GELU };
static const char *const through_name[] = {"", " normed", " silu", " gelu"};

typedef struct linear_case {
    int64_t M, N, K, ldx, ldy;
    int through;
    const float *norm, *up; /* [K]; [M, ldx] */
    int kind, n_part;
    const ops_weight *w;
    nb_matrix part[MAX_PART];
    const float *x, *bias,
        *y; /* bias NULL: none; y: what the output holds at first, its gaps 0xff */
    bool add;
} linear_case;

/* Cuts the rows of w into n parts, as q, k and v stacked would be. */
static void cut(const ops_weight *w, int n, nb_matrix *part)
{
    const int64_t N = w->m.N, K = w->m.K, group = w->m.group ? w->m.group : K;
    for (int i = 0; i < n; i++) {
        const int64_t first = N * i / n, end = N * (i + 1) / n;
        part[i] = w->m;
        part[i].N = end - first;
        if (w->m.dtype)
            part[i].rows += first * nb_dtype_row_bytes(w->m.dtype, K);
        else {
            part[i].codes += first * K;
            part[i].groups += first * ((K + group - 1) / group);
        }
    }
}

/* What x of the cases that are made goes through, whether every other run has the op before the
 * linear although that would take it, and how many kernels a device that launches may take for
 * both; 0: any number. */
static int wanted_through, most_launches;
static bool apart_too;
static const float norm_eps = 1e-5f;

/* The row that linears must have (by_library, by_wgmma, on_sm_80), NULL: as a device thinks
 * best. */
static const char *wanted_row;

/* The row that runs is the one that is wanted; but the library's only where y has an address that
 * it takes. Only the library is there on any device, and only where it was found. */
static void check_row(ops *o, const nb_linear_args *a, const char *row)
{
    const bool library = wanted_row && strcmp(wanted_row, "cublaslt") == 0,
               takes = !library || a->ldy % 4 == 0;
    if (wanted_row && o->row->arith == OPS_BF16 && row &&
        (library || strcmp(o->row->device, "simt") == 0)) {
        o->c->n_check++;
        if ((strcmp(row, wanted_row) == 0) != takes)
            check_report(o->c, __FILE__, __LINE__, "%s: served by %s", o->what, row);
    }
}

/* The linear, what x goes through included: by itself where the device has that. */
static nb_status run_through(ops *o, const linear_case *k, nb_linear_args *a, nb_error *err)
{
    static int n_run;
    nb_backend *be = o->be;
    const nb_backend_ops *own = be->op;
    nb_backend_ops apart = *own;
    apart.linear_takes = NULL;
    if (apart_too && n_run++ % 2)
        be->op = &apart;
    float *room = k->through ? ops_out(o, (size_t)(k->M * k->K) * sizeof *room) : NULL;
    const int64_t before = be->n_launch;
    nb_status st = nb_linear_ready(be, a, 1, k->K, room, err);
    if (st == NB_OK)
        st = be->op->linear(be, a, err);
    if (most_launches && be->op == own && be->n_launch != before) {
        o->c->n_check++;
        if (be->n_launch - before > most_launches)
            check_report(o->c, __FILE__, __LINE__, "%s: %d kernels, at most %d are wanted", o->what,
                         (int)(be->n_launch - before), most_launches);
    }
    be->op = own;
    return st;
}

static bool run_linear(ops *o, const void *args, void *out)
{
    const linear_case *k = args;
    nb_error err = {.message = ""};
    nb_weight *w = NULL;
    if (!ops_has(o, o->be->op->linear != NULL, "linear") ||
        !ops_ok(o, o->be->op->pack_weight(o->be, k->part, k->n_part, &w, &err), &err))
        return false;
    nb_linear_args a = {.x = ops_in(o, k->x, (size_t)(k->M * k->ldx) * sizeof(float)),
                        .M = k->M,
                        .ldx = k->ldx,
                        .ldy = k->ldy,
                        .w = w,
                        .bias = k->bias ? ops_in(o, k->bias, (size_t)k->N * sizeof(float)) : NULL,
                        .add = k->add,
                        .y = k->add ? ops_inout(o, k->y, (size_t)(k->M * k->ldy) * sizeof(float))
                                    : ops_out(o, (size_t)(k->M * k->ldy) * sizeof(float))};
    if (k->through == NORMED)
        a.through =
            (nb_through){.norm = ops_in(o, k->norm, (size_t)k->K * sizeof(float)), .eps = norm_eps};
    else if (k->through)
        a.through = (nb_through){.up = ops_in(o, k->up, (size_t)(k->M * k->ldx) * sizeof(float)),
                                 .act = k->through == GELU ? NB_ACT_GELU_TANH : NB_ACT_SILU};
    nb_arith arith;
    const char *row = nb_backend_linear_row(o->be, &a, &arith);
    o->no_int8 = row && arith == NB_ARITH_BF16_TILES;
    check_row(o, &a, row);
    a.scratch = ops_out(o, o->be->op->linear_scratch(o->be, &a));
    const bool good = ops_ok(o, run_through(o, k, &a, &err), &err);
    if (good)
        ops_get(o, a.y, out);
    o->c->n_check++;
    if (o->be->op->weight_bytes(w) == 0)
        check_report(o->c, __FILE__, __LINE__, "%s: a packed weight of no bytes", o->what);
    o->be->op->release_weight(o->be, w);
    return good;
}

/* Token m's x as the product sees it, and how far off each may be. Returns by how much of itself all
 * of it may be off together: the norm's factor. NUMERICS.md "rms_norm", "gated_activation". */
static double x_of(const linear_case *c, int64_t m, float *x, double *off)
{
    const float *from = c->x + m * c->ldx;
    bound_sum squares = {0, 0};
    for (int64_t k = 0; k < c->K; k++)
        bound_add(&squares, (double)from[k] * (double)from[k]);
    const double r = 1 / sqrt(squares.sum / (double)c->K + (double)norm_eps);
    for (int64_t k = 0; k < c->K; k++) {
        const double g = (double)from[k];
        if (c->through == AS_IT_LIES)
            x[k] = from[k];
        else if (c->through == NORMED)
            x[k] = (float)(g * r * (double)c->norm[k]);
        else {
            const double up = (double)c->up[m * c->ldx + k],
                         act = c->through == SILU
                                   ? g / (1 + exp(-g))
                                   : 0.5 * g * (1 + tanh(0.79788456 * (g + 0.044715 * g * g * g)));
            x[k] = (float)(act * up);
            off[k] = BOUND_U * (16 + 2 * fmin(fabs(g), 104)) * fabs(act * up) +
                     4 * BOUND_U * fabs(g * up);
        }
    }
    return c->through == NORMED ? 4 * BOUND_U + bound_of(&squares) / squares.sum / 2 : 0;
}

static void compare_linear(ops *o, const void *args, const void *got, const void *want)
{
    const linear_case *c = args;
    const float *y = got, *ref = want;
    float *half = ops_alloc((size_t)c->K, sizeof *half), *x = ops_alloc((size_t)c->K, sizeof *x);
    double *off = ops_alloc((size_t)c->K, sizeof *off);
    double error = 0, variance = 0; /* over the whole matrix */
    ops_gaps(o, got, sizeof(float), c->M, c->N, c->ldy);
    for (int64_t m = 0; m < c->M; m++) {
        const double together = x_of(c, m, x, off);
        ops_int8_half_steps(x, c->K, half);
        for (int64_t n = 0; n < c->N; n++) {
            bound_sum whole = {0, 0};
            double rss = 0;
            ops_product(o, c->kind, c->w->value + n * c->K, c->w->part + n * c->K, x, half, c->K,
                        &whole, &rss);
            const double factor = together * fabs(whole.sum);
            for (int64_t k = 0; k < c->K && c->through > NORMED; k++)
                rss += off[k] * off[k] * (double)c->w->value[n * c->K + k] *
                       (double)c->w->value[n * c->K + k];
            bound_add(&whole, c->bias ? (double)c->bias[n] : 0);
            bound_add(&whole, c->add ? (double)c->y[m * c->ldy + n] : 0);
            const double tol = bound_of(&whole) + factor + 4 * sqrt(rss),
                         d = (double)y[m * c->ldy + n] - (double)ref[m * c->ldy + n];
            CHECK_NEAR(o->c, y[m * c->ldy + n], ref[m * c->ldy + n], tol, o->what);
            error += d * d;
            variance += rss / 3 + bound_of(&whole) * bound_of(&whole); /* uniform in +-h: h^2 / 3 */
        }
    }
    if (c->M * c->N >= 256) { /* together the errors must be as small as independent roundings are:
                                 a systematic one is not */
        o->c->n_check++;
        if (!(error <= 4 * variance))
            check_report(o->c, __FILE__, __LINE__, "%s: rms error %.3g, roundings explain %.3g",
                         o->what, sqrt(error / (double)(c->M * c->N)),
                         sqrt(variance / (double)(c->M * c->N)));
    }
    free(half);
    free(x);
    free(off);
}

static const ops_test test = {run_linear, compare_linear};

/* Makes the case `seed` of one shape and runs it against ref, or twice where set is NULL. It counts
 * as no more than most_work steps: a case that an emulator must not leave out says 1. */
static void case_of(check *c, ops_set *set, int kind, int64_t M, int64_t N, int64_t K,
                    uint64_t seed, int64_t most_work)
{
    nb_rng r;
    nb_rng_seed(&r, seed * 1000003 + (uint64_t)(kind * 7919 + M * 131 + N * 17 + K));
    ops_weight w;
    char name[64], what[160];
    ops_kind_name(kind, name, sizeof name);
    if (!ops_weight_make(kind, N, K, &r, &w)) {
        check_report(c, __FILE__, __LINE__, "no valid block of %s was found", name);
        ops_weight_free(&w);
        return;
    }
    linear_case k = {.M = M,
                     .N = N,
                     .K = K,
                     .ldx = K + (seed % 3 == 1   ? 3
                                 : seed % 3 == 2 ? 16
                                                 : 0),
                     .ldy = N + (seed % 4 == 1   ? 5
                                 : seed % 4 == 3 ? 16
                                                 : 0),
                     .kind = kind,
                     .w = &w,
                     .through = wanted_through,
                     .add = seed % 2 == 1};
    k.n_part = N >= 15 ? (int)(seed % MAX_PART) + 1 : 1;
    cut(&w, k.n_part, k.part);
    float *x = ops_rows(&r, M, K, k.ldx, 1.0f), *y = ops_rows(&r, M, N, k.ldy, 4.0f),
          *bias = ops_normals(&r, N, 2.0f),
          *norm = wanted_through == NORMED ? ops_normals(&r, K, 1.0f) : NULL,
          *up = wanted_through > NORMED ? ops_rows(&r, M, K, k.ldx, 1.0f) : NULL;
    k.x = x;
    k.y = y;
    k.norm = norm;
    k.up = up;
    k.bias = seed % 5 < 2 ? bias : NULL;
    snprintf(what, sizeof what, "%s M %d N %d K %d parts %d ldx %d ldy %d%s%s%s", name, (int)M,
             (int)N, (int)K, k.n_part, (int)k.ldx, (int)k.ldy, k.bias ? " bias" : "",
             k.add ? " add" : "", through_name[k.through]);
    const size_t out_bytes = (size_t)(M * k.ldy) * sizeof(float);
    const int64_t work = M * N * K < most_work ? M * N * K : most_work;
    if (set)
        ops_against_ref(set, &test, &k, out_bytes, work, what);
    else
        ops_same_bits(c, &test, &k, out_bytes, work, what);
    free(x);
    free(y);
    free(bias);
    free(norm);
    free(up);
    ops_weight_free(&w);
}

static void with_case(check *c, ops_set *set, int kind, int64_t M, int64_t N, int64_t K,
                      uint64_t seed)
{
    case_of(c, set, kind, M, N, K, seed, INT64_MAX);
}

static int kind_named(const char *want)
{
    char name[64];
    for (int kind = 0; kind < ops_kind_count(); kind++) {
        ops_kind_name(kind, name, sizeof name);
        if (strcmp(name, want) == 0)
            return kind;
    }
    return -1;
}

static void a_worked_product(check *c)
{
    /* W = [[1 2] [3 -4] [0.5 0]], x = [10 1]: x W^T = [12 26 5]; bias [1 1 1], y before [0 -27
     * 0.25] */
    static const float w[] = {1, 2, 3, -4, 0.5f, 0}, x[] = {10, 1}, bias[] = {1, 1, 1},
                       y0[] = {0, -27, 0.25f};
    static const double want[] = {13, 0, 6.25};
    nb_error err = {.message = ""};
    nb_backend *be = NULL;
    nb_weight *p = NULL;
    const nb_backend_options opt = {.exact = true};
    const nb_matrix m = {
        .N = 3, .K = 2, .dtype = nb_dtype_by_name("f32"), .rows = (const uint8_t *)w};
    CHECK_EQ(c, nb_backend_open("ref", &opt, &be, &err), NB_OK);
    if (!be)
        return;
    CHECK_EQ(c, be->op->pack_weight(be, &m, 1, &p, &err), NB_OK);
    if (p) {
        float y[3];
        memcpy(y, y0, sizeof y);
        const nb_linear_args a = {
            .x = x, .M = 1, .ldx = 2, .ldy = 3, .w = p, .bias = bias, .add = true, .y = y};
        CHECK_EQ(c, be->op->linear(be, &a, &err), NB_OK);
        for (int i = 0; i < 3; i++)
            CHECK_NEAR(c, y[i], want[i], 0, "a worked product");
        CHECK_EQ(c, be->op->weight_bytes(p), 6 * sizeof(float));
    }
    be->op->release_weight(be, p);
    be->op->release_weight(be, NULL);
    nb_backend_close(be);
}

static void every_kind(check *c)
{
    ops_set set;
    ops_set_open(&set, c);
    for (int kind = 0; kind < ops_kind_count(); kind++)
        for (int s = 0; s < 8; s++) {
            int64_t M = all_M[(s + kind) % N_M], N = all_N[(s * 3 + kind) % N_N];
            int i = (s * 5 + kind) % N_K;
            while (!ops_kind_fits(kind, all_K[i]))
                i = (i + 1) % N_K;
            if (M * N * all_K[i] > max_steps)
                M = 9;
            with_case(c, &set, kind, M, N, all_K[i], (uint64_t)(s * 7 + kind));
        }
    ops_set_close(&set);
}

static void every_shape(check *c)
{
    ops_set set;
    ops_set_open(&set, c);
    static const char *const names[] = {"q4_0", "int4 group 128", "int3 group 64"};
    for (int kind = 0; kind < ops_kind_count(); kind++) {
        char name[64];
        ops_kind_name(kind, name, sizeof name);
        for (int j = 0; j < 3; j++)
            for (int i = 0; strcmp(name, names[j]) == 0 && i < N_M * N_N * N_K; i++) {
                const int64_t M = all_M[i % N_M], N = all_N[i / N_M % N_N],
                              K = all_K[i / N_M / N_N];
                if (ops_kind_fits(kind, K) && M * N * K <= max_steps / 4)
                    with_case(c, &set, kind, M, N, K, (uint64_t)i);
            }
    }
    ops_set_close(&set);
}

/* Deep pipelines, sums cut over blocks, tiles with a part missing, and each tile of tokens: what
 * small shapes do not reach on a GPU. */
static const struct {
    const char *kind;
    int64_t M, N, K;
} deep[] = {
    {"int4 group 128 sym", 1, 640, 5120},
    {"q4_0", 7, 192, 5120},
    {"int4 group 128", 9, 576, 2112},
    {"q4_k", 17, 960, 1024},
    {"int4 group 64", 33, 576, 1600},
    {"q4_1", 65, 320, 576},
    {"iq4_nl", 5, 128, 4096},
    {"mxfp4", 130, 192, 576},
    {"q8_0", 16, 128, 3072},
    {"int8 group 128 act-order", 70, 192, 640},
    {"bf16", 3, 192, 4096},
    {"bf16", 130, 320, 576},
    {"int4 group 64 act-order", 12, 192, 3008},
    {"int4 group 48", 2, 64, 1536},
    {"int4 group 0", 30, 320, 1984},
    {"int4 group 128 sym", 150, 1024, 128},
    {"q2_k", 1, 192, 4096},
    {"q2_k", 140, 320, 512},
    {"q3_k", 11, 128, 2048},
    {"q3_k", 33, 576, 256},
    {"q4_k", 3, 128, 4096},
    {"q5_k", 2, 192, 2048},
    {"q5_k", 35, 320, 512},
    {"q6_k", 1, 192, 4096},
    {"q6_k", 16, 128, 1536},
    {"q6_k", 140, 320, 512},
    {"q5_0", 4, 128, 2048},
    {"q5_1", 40, 320, 576},
    {"iq4_xs", 8, 64, 2048},
    {"iq2_xxs", 1, 128, 2048},
    {"iq2_s", 10, 128, 2048},
    {"iq1_m", 34, 320, 512},
    {"iq3_s", 70, 320, 512},
    {"nvfp4", 6, 128, 2048},
    {"nvfp4", 65, 320, 512},
    {"int2 group 128", 1, 128, 4096},
    {"int3 group 128", 12, 128, 2048},
    {"int4 group 16", 9, 128, 1600},
    {"int8 group 16 min", 20, 320, 320},
    {"int2 group 64 sym act-order", 20, 320, 640},
};

static void deep_shapes(check *c)
{
    ops_set set;
    ops_set_open(&set, c);
    for (size_t i = 0; i < sizeof deep / sizeof *deep; i++) {
        const int kind = kind_named(deep[i].kind);
        CHECK(c, kind >= 0);
        if (kind >= 0)
            case_of(c, &set, kind, deep[i].M, deep[i].N, deep[i].K, i, 1);
    }
    ops_set_close(&set);
}

static void same_bits(check *c)
{
    for (size_t i = 0; i < 4; i++)
        case_of(c, NULL, kind_named(deep[i].kind), deep[i].M, deep[i].N, deep[i].K, i, 1);
    for (int kind = 0; kind < ops_kind_count(); kind++) {
        with_case(c, NULL, kind, 1, 272, 1536, 2);
        with_case(c, NULL, kind, 17, 64, 256, 1);
        with_case(c, NULL, kind, 40, 80, 512, 3);
    }
    /* more of x than a cache holds: outputs go in groups */
    case_of(c, NULL, kind_named("q4_0"), 130, 576, 4096, 1, INT64_MAX);
}

/* The row that gives bf16 to the vendor's library serves all kinds and any number of tokens, if
 * only it is asked to. On simt the library has a stand-in, 256 KiB of unpacked weights are a chunk,
 * and chunks have 256 rows: shapes of one, of several, and with a last one of few rows. */
static const struct {
    int64_t M, N, K;
} by_library_shape[] = {{1, 16, 256},   {7, 64, 576},   {17, 272, 256}, {5, 576, 1536},
                        {130, 64, 256}, {2, 1092, 512}, {33, 60, 64},   {9, 64, 576}};
enum { N_BY_LIBRARY = sizeof by_library_shape / sizeof *by_library_shape };

static int64_t fitting(int kind, int64_t K)
{
    while (!ops_kind_fits(kind, K))
        K += 64;
    return K;
}

static void by_library(check *c)
{
    setenv("NIBBLE_CUBLASLT_FROM", "1", 1);
    wanted_row = "cublaslt";
    ops_set set;
    ops_set_open(&set, c);
    for (int kind = 0; kind < ops_kind_count(); kind++)
        for (int i = 0; i < 4; i++) {
            /* bias, add and strides as the seed says: every combination comes */
            const int s = (kind + i * 2) % N_BY_LIBRARY;
            case_of(c, &set, kind, by_library_shape[s].M, by_library_shape[s].N,
                    fitting(kind, by_library_shape[s].K), (uint64_t)(kind + i * 5), 1);
        }
    for (int i = 0; i < N_BY_LIBRARY; i++)
        for (int j = 0; j < 2; j++)
            case_of(c, &set, kind_named(j ? "bf16" : "q4_0"), by_library_shape[i].M,
                    by_library_shape[i].N, by_library_shape[i].K, (uint64_t)(i * 4 + j), 1);
    ops_set_close(&set);
    for (int i = 0; i < N_BY_LIBRARY; i++)
        case_of(c, NULL, kind_named("q4_k"), by_library_shape[i].M, by_library_shape[i].N,
                fitting(kind_named("q4_k"), by_library_shape[i].K), (uint64_t)i, 1);
    wanted_row = NULL;
    unsetenv("NIBBLE_CUBLASLT_FROM");
}

/* The rows of wgmma, by every number of lines a unit and every kind of line: one panel of the last
 * tile, outputs and tokens missing in it, K that ends within a unit, tiles that blocks share and
 * tiles that they do not, fewer units than stages. */
static const struct {
    const char *kind;
    int64_t M, N, K;
    const char *row; /* by the arithmetic in wgmma.cu, with the emulator's four multiprocessors */
} by_wgmma_shape[] = {
    {"q4_0", 65, 320, 576, "wgmma_128x128"},
    {"q4_0", 192, 500, 1664, "wgmma_256x128"},
    {"q4_1", 200, 576, 704, "wgmma_128x128"},
    {"q4_k", 129, 700, 1280, "wgmma_256x128"},
    {"int4 group 128", 150, 1000, 1100, "wgmma_256x128"},
    {"int4 group 128 sym", 130, 192, 640, "wgmma_128x128"},
    {"int4 group 128 sym", 150, 1024, 128, "wgmma_128x128"},
    {"int4 group 32 sym", 1100, 64, 64, "wgmma_128x128"},
    {"int4 group 0", 129, 300, 172, "wgmma_128x128"},
    {"int4 group 64", 65, 300, 1000, "wgmma_128x128"},
    {"int4 group 64 act-order", 70, 960, 1700, "wgmma_256x128"},
    {"int4 group 32 sym act-order", 66, 130, 600, "wgmma_128x128"},
    {"int4 group 32 min", 140, 320, 416, "wgmma_128x128"},
    {"int4 group 96 min", 66, 192, 600, "wgmma_128x128"},
    {"int4 group 16", 129, 500, 400, "wgmma_128x128"},
    {"iq4_nl", 129, 500, 1824, "wgmma_256x128"},
    {"iq4_xs", 65, 192, 512, "wgmma_128x128"},
    {"mxfp4", 66, 130, 96, "wgmma_128x128"},
    {"nvfp4", 130, 200, 512, "wgmma_128x128"},
    {"q8_0", 150, 1000, 1024, "wgmma_256x128"},
    {"int8 group 64", 65, 960, 1700, "wgmma_256x128"},
    {"int8 group 128 act-order", 70, 192, 640, "wgmma_128x128"},
    {"int8 group 16 min", 65, 200, 320, "wgmma_128x128"},
    {"bf16", 130, 320, 576, "wgmma_128x128"},
    {"bf16", 129, 500, 1700, "wgmma_256x128"},
};
enum { N_BY_WGMMA = sizeof by_wgmma_shape / sizeof *by_wgmma_shape };

static void by_wgmma(check *c)
{
    setenv("NIBBLE_CUBLASLT_FROM", "0", 1);
    ops_set set;
    ops_set_open(&set, c);
    for (int i = 0; i < N_BY_WGMMA; i++) {
        const int kind = kind_named(by_wgmma_shape[i].kind);
        CHECK(c, kind >= 0);
        wanted_row = by_wgmma_shape[i].row;
        if (kind >= 0)
            case_of(c, &set, kind, by_wgmma_shape[i].M, by_wgmma_shape[i].N, by_wgmma_shape[i].K,
                    (uint64_t)i, 1);
    }
    ops_set_close(&set);
    for (int i = 0; i < 4; i++) {
        wanted_row = by_wgmma_shape[i].row;
        case_of(c, NULL, kind_named(by_wgmma_shape[i].kind), by_wgmma_shape[i].M,
                by_wgmma_shape[i].N, by_wgmma_shape[i].K, (uint64_t)i, 1);
    }
    wanted_row = NULL;
    unsetenv("NIBBLE_CUBLASLT_FROM");
}

/* Devices without wgmma, or told to do without, have the tiles of mma.sync for many tokens. */
static void on_sm_80(check *c)
{
    setenv("NIBBLE_SIMT_SM", "80", 1);
    setenv("NIBBLE_CUBLASLT_FROM", "0", 1);
    wanted_row = "tile_128x128";
    ops_set set;
    ops_set_open(&set, c);
    for (size_t i = 0; i < sizeof deep / sizeof *deep; i++)
        if (deep[i].M > 64)
            case_of(c, &set, kind_named(deep[i].kind), deep[i].M, deep[i].N, deep[i].K, i, 1);
    ops_set_close(&set);
    unsetenv("NIBBLE_SIMT_SM");
    setenv("NIBBLE_WGMMA", "0", 1);
    case_of(c, NULL, kind_named("q4_0"), 70, 320, 576, 1, 1);
    wanted_row = NULL;
    unsetenv("NIBBLE_CUBLASLT_FROM");
    unsetenv("NIBBLE_WGMMA");
}

/* x through a norm or an activation. A GPU's row for few tokens brings it by itself, one kernel for
 * all, while a block has little of it to read; with more tokens and longer rows, and for tiles, a
 * kernel before does. Blocks begin in the middle of a tile and end in the next; inputs are in another
 * order; rows are no whole number of 16 bytes. */
static const struct {
    const char *kind;
    int64_t M, N, K;
    int most; /* kernels */
} through_shape[] = {
    {"int4 group 128 sym", 1, 640, 2112, 1},
    {"q4_0", 3, 192, 1600, 1},
    {"q4_1", 8, 128, 576, 1},
    {"int4 group 64 act-order", 2, 192, 1024, 1},
    {"q4_k", 5, 320, 768, 1},
    {"bf16", 1, 192, 1216, 1},
    {"f32", 7, 80, 172, 1},
    {"q4_0", 8, 128, 5120, 2},
    {"int4 group 128", 12, 128, 1088, 2},
    {"int4 group 64 act-order", 33, 80, 640, 2},
    {"q4_0", 70, 64, 576, 2},
    {"q6_k", 130, 64, 512, 2},
};
enum { N_THROUGH = sizeof through_shape / sizeof *through_shape };

static void each_through(check *c, ops_set *set)
{
    for (int i = 0; i < N_THROUGH; i++) {
        const int kind = kind_named(through_shape[i].kind);
        CHECK(c, kind >= 0);
        most_launches = through_shape[i].most;
        for (int j = 0; j < 2 && kind >= 0; j++) { /* each with a norm, and an activation in turn */
            wanted_through = j ? SILU + i % 2 : NORMED;
            case_of(c, set, kind, through_shape[i].M, through_shape[i].N, through_shape[i].K,
                    (uint64_t)(i + j), 1); /* i, so that norms too have rows of every stride */
        }
    }
    wanted_through = AS_IT_LIES;
    most_launches = 0;
}

static void through_ops(check *c)
{
    ops_set set;
    ops_set_open(&set, c);
    each_through(c, &set);
    ops_set_close(&set);
}

static void through_same_bits(check *c)
{
    apart_too = true;
    each_through(c, NULL);
    apart_too = false;
}

static void without_library(check *c)
{
    setenv("NIBBLE_CUBLASLT_FROM", "1", 1);
    setenv("NIBBLE_SIMT_LIBRARIES", "none", 1);
    nb_error err = {.message = ""};
    nb_backend *be = NULL;
    const nb_backend_options opt = {.exact = false};
    if (nb_backend_open("simt", &opt, &be, &err) == NB_OK) {
        const nb_matrix m = {.N = 64, .K = 256, .dtype = nb_dtype_by_name("q4_0")};
        nb_weight *w = NULL;
        nb_arith arith;
        CHECK(c, !be->op->product_library(be));
        CHECK_EQ(c, be->op->measure_weight(be, &m, 1, &w, &err), NB_OK);
        const nb_linear_args a = {.M = 4096, .ldy = 64, .w = w};
        CHECK_STR(c, nb_backend_linear_row(be, &a, &arith), "wgmma_128x128");
        be->op->release_weight(be, w);
    }
    nb_backend_close(be);
    ops_set set;
    ops_set_open(&set, c);
    case_of(c, &set, kind_named("q4_0"), 17, 64, 256, 0, 1);
    ops_set_close(&set);
    unsetenv("NIBBLE_SIMT_LIBRARIES");
    setenv("NIBBLE_CUBLASLT_FROM", "all", 1);
    if (nb_backend_open("simt", &opt, &be, &err) == NB_USAGE)
        CHECK_STR(c, err.message,
                  "NIBBLE_CUBLASLT_FROM=all is no number of tokens; 0 is none, 1 all");
    else
        CHECK_HAS(c, err.message, "libnibble_simt.so"); /* not built */
    CHECK(c, !be);
    unsetenv("NIBBLE_CUBLASLT_FROM");
}

/* Left alone, the library gets large matrices and many tokens: never fewer than a few hundred, and
 * from some number on all. Its scratch does not grow with the outputs, and what is asked for many
 * tokens is enough for fewer. */
static void left_alone(check *c)
{
    static const struct {
        const char *format;
        int64_t N, K;
    } weight[] = {{"q4_0", 8192, 8192},
                  {"q4_k", 57344, 8192},
                  {"nvfp4", 4096, 14336},
                  {"bf16", 28672, 4096},
                  {"q8_0", 1024, 1024}};
    nb_error err = {.message = ""};
    nb_backend *be = NULL;
    const nb_backend_options opt = {.exact = false};
    if (nb_backend_open("simt", &opt, &be, &err) != NB_OK) {
        check_skip(c, "%s", err.message); /* ops/backend says whether it must be there */
        return;
    }
    CHECK(c, be->op->product_library(be) != NULL);
    for (size_t i = 0; i < sizeof weight / sizeof *weight; i++) {
        const nb_matrix m = {
            .N = weight[i].N, .K = weight[i].K, .dtype = nb_dtype_by_name(weight[i].format)};
        nb_weight *w = NULL;
        size_t before = 0;
        bool there = false;
        CHECK_EQ(c, be->op->measure_weight(be, &m, 1, &w, &err), NB_OK);
        for (int64_t M = 1; M <= 65536; M *= 2) {
            nb_arith arith;
            const nb_linear_args a = {.M = M, .ldy = m.N, .w = w};
            const bool library = strcmp(nb_backend_linear_row(be, &a, &arith), "cublaslt") == 0;
            const size_t bytes = be->op->linear_scratch(be, &a);
            CHECK(c, library || !there);
            CHECK(c, !library || M >= 128);
            CHECK(c, M < 65536 || library);
            CHECK(c, bytes >= before);
            CHECK(c, !library || bytes >= (size_t)(2 * M * m.K));
            there = library;
            before = bytes;
        }
        be->op->release_weight(be, w);
    }
    nb_backend_close(be);
}

/* At one token the bytes of the weights decide. A format with codes keeps their bits and no more
 * than one for scales, or what its file has. */
static void packed_bits(check *c)
{
    enum { N = 128, K = 4096 };
    nb_error err = {.message = ""};
    nb_backend *be = NULL;
    const nb_backend_options opt = {.exact = false};
    if (nb_backend_open("simt", &opt, &be, &err) != NB_OK)
        return; /* ops/backend says whether it must be there */
    for (const nb_dtype *const *p = nb_dtypes; *p; p++) {
        const nb_dtype *t = *p;
        nb_weight *w = NULL;
        if (!t->split)
            continue;
        /* the last: what does not grow with the matrix */
        const double file = 8.0 * t->bytes / t->block,
                     most = fmax(t->bits + 1.0, file + 0.25) + 0.01;
        const nb_matrix m = {.N = N, .K = K, .dtype = t};
        CHECK_EQ(c, be->op->measure_weight(be, &m, 1, &w, &err), NB_OK);
        const double bits = w ? 8.0 * (double)be->op->weight_bytes(w) / (N * K) : 0;
        c->n_check++;
        if (!(bits >= t->bits && bits <= most))
            check_report(c, __FILE__, __LINE__,
                         "%s: %.3f bits a weight on the device, %.3f in the file, at most %.3f",
                         t->name, bits, file, most);
        be->op->release_weight(be, w);
    }
    nb_backend_close(be);
}

static const check_case cases[] = {
    {"ref multiplies a worked example", a_worked_product},
    {"every backend agrees with ref on every kind of weight", every_kind},
    {"every backend agrees with ref on every shape of three kinds", every_shape},
    {"every backend agrees with ref where work is cut over a whole device", deep_shapes},
    {"a device with wgmma agrees with ref in its rows", by_wgmma},
    {"a device without wgmma agrees with ref for many tokens", on_sm_80},
    {"the bits do not depend on the run or the number of threads", same_bits},
    {"a norm or an activation on the way into a linear agrees with ref, in few kernels",
     through_ops},
    {"and gives the bits of the op and the linear behind it", through_same_bits},
    {"a packed weight has the bits of its format on a GPU", packed_bits},
    {"every backend with a row over the vendor's library agrees with ref there", by_library},
    {"without the library, or with a setting that is no number, the tiles serve or a sentence says "
     "so",
     without_library},
    {"the library is given large products, and its scratch is planned", left_alone},
};
CHECK_MAIN(cases)
