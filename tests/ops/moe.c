/* moe.c -- route_experts, grouped_linear, combine_experts, gather_rows and add_scaled on every
 * backend. NUMERICS.md, entries of these names. */
#include "ops/bounds.h"
#include "ops/ops.h"
#include "ops/weights.h"

enum { MOST_EXPERTS = 258 };

/* ---- route_experts ---- */

typedef struct route_case {
    int64_t M, ldl;
    int32_t n_expert, n_used;
    bool renormalize;
    const float *logits;
} route_case;

static bool run_route(ops *o, const void *args, void *out)
{
    const route_case *k = args;
    nb_error err = {.message = ""};
    if (!ops_has(o, o->be->op->route_experts != NULL, "route_experts"))
        return false;
    const size_t n = (size_t)(k->M * k->n_used);
    const nb_route_args a = {.logits =
                                 ops_in(o, k->logits, (size_t)(k->M * k->ldl) * sizeof(float)),
                             .M = k->M,
                             .ldl = k->ldl,
                             .n_expert = k->n_expert,
                             .n_used = k->n_used,
                             .renormalize = k->renormalize,
                             .expert = ops_out(o, n * sizeof(int32_t)),
                             .weight = ops_out(o, n * sizeof(float))};
    const bool good = ops_ok(o, o->be->op->route_experts(o->be, &a, &err), &err);
    if (good) {
        ops_get(o, a.weight, out);
        ops_get(o, a.expert, (float *)out + n);
    }
    return good;
}

static void compare_route(ops *o, const void *args, const void *got, const void *want)
{
    const route_case *c = args;
    const int64_t n = c->M * c->n_used;
    const float *w = got, *ref = want;
    const int32_t *expert = (const int32_t *)(w + n), *right = (const int32_t *)(ref + n);
    for (int64_t i = 0; i < n; i++) {
        const float *l = c->logits + i / c->n_used * c->ldl;
        CHECK_EQ(o->c, expert[i], right[i]);
        const double below = (double)l[right[i / c->n_used * c->n_used]] - (double)l[right[i]];
        CHECK_NEAR(o->c, w[i], ref[i],
                   BOUND_U * (16 + 4 * fmin(below, 104)) * fabs((double)ref[i]) + 0x1p-120,
                   o->what);
    }
}

static void each_route(check *c, ops_set *set)
{
    static const ops_test test = {run_route, compare_route};
    static const int32_t all_E[] = {1, 2, 4, 8, 60, 128}, all_used[] = {1, 2, 2, 8, 4, 8};
    static const int64_t all_M[] = {1, 7, 64, 300};
    for (int i = 0; i < 24; i++) {
        nb_rng r;
        ops_seed(&r, (uint64_t)(9000 + i));
        route_case k = {.M = all_M[i % 4],
                        .n_expert = all_E[i % 6],
                        .n_used = all_used[i % 6],
                        .renormalize = i / 6 % 2};
        k.n_used = k.n_used < k.n_expert ? k.n_used : k.n_expert;
        k.ldl = k.n_expert + (i % 3);
        float *l = ops_rows(&r, k.M, k.n_expert, k.ldl, i % 5 == 4 ? 40.0f : 2.0f);
        for (int64_t m = 0; i % 2 && m < k.M; m++) /* ties: the lower expert */
            for (int32_t e = 0; e < k.n_expert; e++)
                l[m * k.ldl + e] = floorf(l[m * k.ldl + e]);
        k.logits = l;
        char what[128];
        snprintf(what, sizeof what, "route M %d, %d of %d%s", (int)k.M, k.n_used, k.n_expert,
                 k.renormalize ? " renormalized" : "");
        const size_t bytes = (size_t)(k.M * k.n_used) * 8;
        if (set)
            ops_against_ref(set, &test, &k, bytes, k.M * k.n_expert * k.n_used, what);
        else if (i % 7 == 3)
            ops_same_bits(c, &test, &k, bytes, k.M * k.n_expert * k.n_used, what);
        free(l);
    }
}

/* ---- grouped_linear ---- */

typedef struct grouped_case {
    int64_t P, N, K, ldx, ldy;
    int32_t share, n_expert;
    const int *kind;     /* [n_expert] */
    const ops_weight *w; /* [n_expert] */
    const float *x;
    const int32_t *expert;
} grouped_case;

static bool run_grouped(ops *o, const void *args, void *out)
{
    const grouped_case *k = args;
    nb_error err = {.message = ""};
    nb_weight *w[MOST_EXPERTS] = {NULL};
    bool good = ops_has(o, o->be->op->grouped_linear != NULL, "grouped_linear");
    for (int e = 0; e < k->n_expert && good; e++)
        good = ops_ok(o, o->be->op->pack_weight(o->be, &k->w[e].m, 1, &w[e], &err), &err);
    if (good) {
        nb_grouped_args a = {
            .x = ops_in(o, k->x, (size_t)(k->P / k->share * k->ldx) * sizeof(float)),
            .P = k->P,
            .ldx = k->ldx,
            .ldy = k->ldy,
            .share = k->share,
            .n_expert = k->n_expert,
            .expert = ops_in(o, k->expert, (size_t)k->P * sizeof(int32_t)),
            .w = (const nb_weight *const *)w,
            .y = ops_out(o, (size_t)(k->P * k->ldy) * sizeof(float))};
        a.scratch = ops_out(o, o->be->op->grouped_linear_scratch
                                   ? o->be->op->grouped_linear_scratch(o->be, &a)
                                   : 0);
        good = ops_ok(o, o->be->op->grouped_linear(o->be, &a, &err), &err);
        if (good)
            ops_get(o, a.y, out);
    }
    for (int e = 0; e < k->n_expert; e++)
        o->be->op->release_weight(o->be, w[e]);
    return good;
}

static void compare_grouped(ops *o, const void *args, const void *got, const void *want)
{
    const grouped_case *c = args;
    const float *y = got, *ref = want;
    float *half = ops_alloc((size_t)c->K, sizeof *half);
    ops_gaps(o, got, sizeof(float), c->P, c->N, c->ldy);
    for (int64_t p = 0; p < c->P; p++) {
        const float *x = c->x + p / c->share * c->ldx;
        const ops_weight *w = &c->w[c->expert[p]];
        ops_int8_half_steps(x, c->K, half);
        for (int64_t n = 0; n < c->N; n++) {
            bound_sum whole = {0, 0};
            double rss = 0;
            ops_product(o, c->kind[c->expert[p]], w->value + n * c->K, w->part + n * c->K, x, half,
                        c->K, &whole, &rss);
            CHECK_NEAR(o->c, y[p * c->ldy + n], ref[p * c->ldy + n],
                       bound_of(&whole) + 4 * sqrt(rss), o->what);
        }
    }
    free(half);
}

/* Experts of one kind and another by turns; n_expert 0: some. */
static void with_grouped(check *c, ops_set *set, int kind, int other, int32_t n_expert,
                         uint64_t seed)
{
    static const ops_test test = {run_grouped, compare_grouped};
    static const int64_t all_P[] = {2, 6, 16, 64}, all_N[] = {16, 1, 48, 64};
    static const int32_t all_E[] = {4, 8, 1, 16};
    const int i = (int)(seed % 4);
    int kinds[MOST_EXPERTS];
    ops_weight w[MOST_EXPERTS];
    nb_rng r;
    ops_seed(&r, 77000 + seed * 101 + (uint64_t)kind);
    grouped_case k = {.P = all_P[i],
                      .N = all_N[(i + kind) % 4],
                      .K = ops_kind_fits(kind, 96) && ops_kind_fits(other, 96) ? 96 : 256,
                      .n_expert = n_expert ? n_expert : all_E[(i + kind / 4) % 4],
                      .share = seed / 4 % 2 ? 1 : 2,
                      .kind = kinds,
                      .w = w};
    k.ldx = k.K + (int64_t)(seed % 3) * 4;
    k.ldy = k.N + (int64_t)(seed % 2) * 5;
    bool made = true;
    for (int e = 0; e < k.n_expert; e++) {
        kinds[e] = e % 2 ? other : kind;
        made = ops_weight_make(kinds[e], k.N, k.K, &r, &w[e]) && made;
    }
    float *x = ops_rows(&r, k.P / k.share, k.K, k.ldx, 1.0f);
    int32_t *expert = ops_alloc((size_t)k.P, sizeof *expert);
    for (int64_t p = 0; p < k.P; p++) /* some experts get nothing */
        expert[p] = (int32_t)(nb_rng_u64(&r) % (uint64_t)k.n_expert) / (seed % 2 ? 2 : 1);
    expert[k.P / 2] = k.n_expert - 1;
    k.x = x;
    k.expert = expert;
    char name[64], second[64], what[224];
    ops_kind_name(kind, name, sizeof name);
    ops_kind_name(other, second, sizeof second);
    snprintf(what, sizeof what, "grouped %s%s%s P %d N %d K %d of %d experts, share %d", name,
             other == kind ? "" : " and ", other == kind ? "" : second, (int)k.P, (int)k.N,
             (int)k.K, k.n_expert, k.share);
    const size_t bytes = (size_t)(k.P * k.ldy) * sizeof(float);
    const int64_t work = k.P * k.N * k.K / 4; /* the emulator's limit is meant for slower cases */
    if (!made)
        check_report(c, __FILE__, __LINE__, "no valid block of %s was found", name);
    else if (set)
        ops_against_ref(set, &test, &k, bytes, work, what);
    else
        ops_same_bits(c, &test, &k, bytes, work, what);
    for (int e = 0; e < k.n_expert; e++)
        ops_weight_free(&w[e]);
    free(x);
    free(expert);
}

static int kind_of(check *c, const char *name)
{
    char have[64];
    for (int kind = 0; kind < ops_kind_count(); kind++) {
        ops_kind_name(kind, have, sizeof have);
        if (strcmp(have, name) == 0)
            return kind;
    }
    check_report(c, __FILE__, __LINE__, "there is no kind %s", name);
    return 0;
}

static void each_grouped(check *c, ops_set *set)
{
    for (int kind = 0; kind < ops_kind_count(); kind++)
        for (uint64_t seed = 0; seed < (set ? 3 : 1); seed++)
            with_grouped(c, set, kind, kind, 0, seed * 3 + (uint64_t)kind % 5);
    /* the same codes in lines of other lengths, the longer ones first and last; other codes */
    static const char *const mixed[][2] = {{"q4_0", "q4_k"}, {"q4_k", "q4_0"}, {"q8_0", "q4_k"}};
    for (size_t i = 0; i < sizeof mixed / sizeof *mixed; i++)
        for (uint64_t seed = 0; seed < 4; seed++)
            with_grouped(c, set, kind_of(c, mixed[i][0]), kind_of(c, mixed[i][1]), 0, seed);
    /* more than a launch's table holds */
    with_grouped(c, set, kind_of(c, "q4_0"), kind_of(c, "q8_0"), MOST_EXPERTS, 3);
}

/* ---- combine_experts and add_scaled ---- */

typedef struct sum_case {
    int64_t M, N, ldx, ldy;
    int32_t n_used; /* 0: add_scaled */
    bool add;
    float scale;
    const float *x, *weight, *y;
} sum_case;

static bool run_sum(ops *o, const void *args, void *out)
{
    const sum_case *k = args;
    nb_error err = {.message = ""};
    const size_t rows = (size_t)k->M * (size_t)(k->n_used ? k->n_used : 1),
                 y_bytes = (size_t)(k->M * k->ldy) * sizeof(float);
    if (!ops_has(o, k->n_used ? o->be->op->combine_experts != NULL : o->be->op->add_scaled != NULL,
                 k->n_used ? "combine_experts" : "add_scaled"))
        return false;
    const float *x = ops_in(o, k->x, rows * (size_t)k->ldx * sizeof(float));
    float *y = k->add ? ops_inout(o, k->y, y_bytes) : ops_out(o, y_bytes);
    const nb_add_args add = {
        .x = x, .M = k->M, .N = k->N, .ldx = k->ldx, .ldy = k->ldy, .scale = k->scale, .y = y};
    nb_combine_args mix = {.x = x,
                           .M = k->M,
                           .N = k->N,
                           .ldx = k->ldx,
                           .ldy = k->ldy,
                           .n_used = k->n_used,
                           .scale = k->scale,
                           .add = k->add,
                           .y = y};
    if (k->n_used)
        mix.weight = ops_in(o, k->weight, rows * sizeof(float));
    const bool good = ops_ok(o,
                             k->n_used ? o->be->op->combine_experts(o->be, &mix, &err)
                                       : o->be->op->add_scaled(o->be, &add, &err),
                             &err);
    if (good)
        ops_get(o, y, out);
    return good;
}

static void compare_sum(ops *o, const void *args, const void *got, const void *want)
{
    const sum_case *c = args;
    const float *y = got, *ref = want;
    ops_gaps(o, got, sizeof(float), c->M, c->N, c->ldy);
    for (int64_t m = 0; m < c->M; m++)
        for (int64_t n = 0; n < c->N; n++) {
            bound_sum s = {0, 0};
            for (int64_t j = 0; j < c->n_used; j++)
                bound_add(&s, (double)c->scale * (double)c->weight[m * c->n_used + j] *
                                  (double)c->x[(m * c->n_used + j) * c->ldx + n]);
            if (!c->n_used)
                bound_add(&s, (double)c->scale * (double)c->x[m * c->ldx + n]);
            const double product = fabs(s.sum); /* times the scale: one rounding more */
            bound_add(&s, c->add ? (double)c->y[m * c->ldy + n] : 0);
            CHECK_NEAR(o->c, y[m * c->ldy + n], ref[m * c->ldy + n],
                       bound_of(&s) + 2 * BOUND_U * product, o->what);
        }
}

static void each_sum(check *c, ops_set *set)
{
    static const ops_test test = {run_sum, compare_sum};
    static const int64_t all_M[] = {1, 7, 8, 65}, all_N[] = {1, 16, 17, 576, 1000};
    static const int32_t all_used[] = {0, 1, 2, 8};
    for (int i = 0; i < 40; i++) {
        nb_rng r;
        ops_seed(&r, (uint64_t)(31000 + i));
        sum_case k = {.M = all_M[i % 4],
                      .N = all_N[i % 5],
                      .n_used = all_used[i / 4 % 4],
                      .scale = i % 3 ? 1.0f : 0.22f};
        k.add = !k.n_used || i % 2;
        k.ldx = k.N + i % 3;
        k.ldy = k.N + i % 2 * 3;
        const int64_t rows = k.M * (k.n_used ? k.n_used : 1);
        float *x = ops_rows(&r, rows, k.N, k.ldx, 1.0f), *w = ops_normals(&r, rows, 0.5f),
              *y = ops_rows(&r, k.M, k.N, k.ldy, 3.0f);
        k.x = x;
        k.weight = w;
        k.y = y;
        char what[128];
        snprintf(what, sizeof what, "sum of %d, M %d N %d scale %g%s", k.n_used, (int)k.M, (int)k.N,
                 (double)k.scale, k.add ? " add" : "");
        const size_t bytes = (size_t)(k.M * k.ldy) * sizeof(float);
        if (set)
            ops_against_ref(set, &test, &k, bytes, rows * k.N, what);
        else if (i % 9 == 4)
            ops_same_bits(c, &test, &k, bytes, rows * k.N, what);
        free(x);
        free(w);
        free(y);
    }
}

/* ---- gather_rows ---- */

typedef struct gather_case {
    int64_t M, K, ldx, ldo, ldy, rows, others;
    const float *x, *other;
    const int32_t *row;
} gather_case;

static bool run_gather(ops *o, const void *args, void *out)
{
    const gather_case *k = args;
    nb_error err = {.message = ""};
    if (!ops_has(o, o->be->op->gather_rows != NULL, "gather_rows"))
        return false;
    const nb_gather_args a = {
        .x = ops_in(o, k->x, (size_t)(k->rows * k->ldx) * sizeof(float)),
        .other =
            k->others ? ops_in(o, k->other, (size_t)(k->others * k->ldo) * sizeof(float)) : NULL,
        .row = ops_in(o, k->row, (size_t)k->M * sizeof(int32_t)),
        .M = k->M,
        .K = k->K,
        .ldx = k->ldx,
        .ldo = k->ldo,
        .ldy = k->ldy,
        .y = ops_out(o, (size_t)(k->M * k->ldy) * sizeof(float))};
    const bool good = ops_ok(o, o->be->op->gather_rows(o->be, &a, &err), &err);
    if (good)
        ops_get(o, a.y, out);
    return good;
}

static void compare_gather(ops *o, const void *args, const void *got, const void *want)
{
    const gather_case *c = args;
    const float *y = got, *ref = want;
    ops_gaps(o, got, sizeof(float), c->M, c->K, c->ldy);
    for (int64_t i = 0; i < c->M; i++)
        for (int64_t k = 0; k < c->K; k++)
            CHECK_NEAR(o->c, y[i * c->ldy + k], ref[i * c->ldy + k], 0, o->what);
}

static void each_gather(check *c, ops_set *set)
{
    static const ops_test test = {run_gather, compare_gather};
    static const int64_t all_M[] = {1, 7, 64, 200}, all_K[] = {1, 17, 576, 1000};
    for (int i = 0; i < 16; i++) {
        nb_rng r;
        ops_seed(&r, (uint64_t)(52000 + i));
        gather_case k = {.M = all_M[i % 4], .K = all_K[i / 4], .rows = 40, .others = i % 2 ? 9 : 0};
        k.ldx = k.K + i % 3;
        k.ldo = k.K + i % 2;
        k.ldy = k.K + i % 5;
        float *x = ops_rows(&r, k.rows, k.K, k.ldx, 1.0f),
              *other = ops_rows(&r, 9, k.K, k.ldo, 1.0f);
        int32_t *row = calloc((size_t)k.M, sizeof *row);
        for (int64_t m = 0; row && m < k.M; m++)
            row[m] = (int32_t)(nb_rng_u64(&r) % (uint64_t)(k.rows + k.others)) - (int32_t)k.others;
        k.x = x;
        k.other = other;
        k.row = row;
        char what[128];
        snprintf(what, sizeof what, "gather M %d K %d%s", (int)k.M, (int)k.K,
                 k.others ? " of two" : "");
        const size_t bytes = (size_t)(k.M * k.ldy) * sizeof(float);
        if (set)
            ops_against_ref(set, &test, &k, bytes, k.M * k.K, what);
        else if (i % 5 == 3)
            ops_same_bits(c, &test, &k, bytes, k.M * k.K, what);
        free(x);
        free(other);
        free(row);
    }
}

/* ---- worked values ---- */

static void worked_values(check *c)
{
    nb_error err = {.message = ""};
    nb_backend *be = NULL;
    const nb_backend_options opt = {.exact = true};
    CHECK_EQ(c, nb_backend_open("ref", &opt, &be, &err), NB_OK);
    if (!be)
        return;
    /* logits ln 1, ln 4, ln 1, ln 2: softmax 1/8, 4/8, 1/8, 2/8; two of them 4/8, 2/8, or 2/3, 1/3;
     * the third choice is the lower of equals */
    const float logits[] = {0, 1.3862944f, 0, 0.6931472f};
    int32_t expert[3];
    float weight[3];
    nb_route_args a = {.logits = logits,
                       .M = 1,
                       .ldl = 4,
                       .n_expert = 4,
                       .n_used = 3,
                       .expert = expert,
                       .weight = weight};
    CHECK_EQ(c, be->op->route_experts(be, &a, &err), NB_OK);
    CHECK(c, expert[0] == 1 && expert[1] == 3 && expert[2] == 0);
    CHECK_NEAR(c, weight[0], 0.5, 1e-6, "weight");
    CHECK_NEAR(c, weight[2], 0.125, 1e-6, "weight");
    a.n_used = 2;
    a.renormalize = true;
    CHECK_EQ(c, be->op->route_experts(be, &a, &err), NB_OK);
    CHECK_NEAR(c, weight[0], 2.0 / 3, 1e-6, "renormalized weight");
    /* two pairs of one token: W0 = [[1 2]], W1 = [[10 0]], x = [3 4]: the first choice is expert
     * 1 */
    static const float w0[] = {1, 2}, w1[] = {10, 0}, x[] = {3, 4};
    const nb_dtype *f32 = nb_dtype_by_name("f32");
    const nb_matrix m0 = {.N = 1, .K = 2, .dtype = f32, .rows = (const uint8_t *)w0},
                    m1 = {.N = 1, .K = 2, .dtype = f32, .rows = (const uint8_t *)w1};
    nb_weight *w[2] = {NULL, NULL};
    CHECK_EQ(c, be->op->pack_weight(be, &m0, 1, &w[0], &err), NB_OK);
    CHECK_EQ(c, be->op->pack_weight(be, &m1, 1, &w[1], &err), NB_OK);
    static const int32_t choice[] = {1, 0};
    float y[2] = {0, 0}, sum = 100;
    const nb_grouped_args g = {.x = x,
                               .P = 2,
                               .ldx = 2,
                               .ldy = 1,
                               .share = 2,
                               .n_expert = 2,
                               .expert = choice,
                               .w = (const nb_weight *const *)w,
                               .y = y};
    CHECK_EQ(c, be->op->grouped_linear(be, &g, &err), NB_OK);
    CHECK_NEAR(c, y[0], 30, 0, "the first choice");
    CHECK_NEAR(c, y[1], 11, 0, "the second choice");
    static const float quarter[] = {0.25f, 0.75f};
    nb_combine_args mix = {.x = y,
                           .weight = quarter,
                           .M = 1,
                           .N = 1,
                           .ldx = 1,
                           .ldy = 1,
                           .n_used = 2,
                           .scale = 2,
                           .add = true,
                           .y = &sum};
    CHECK_EQ(c, be->op->combine_experts(be, &mix, &err), NB_OK);
    CHECK_NEAR(c, sum, 100 + 2 * (7.5 + 8.25), 0, "combined");
    const nb_add_args add = {.x = y, .M = 1, .N = 1, .ldx = 1, .ldy = 1, .scale = 0.5f, .y = &sum};
    CHECK_EQ(c, be->op->add_scaled(be, &add, &err), NB_OK);
    CHECK_NEAR(c, sum, 146.5, 0, "added");
    static const float rows[] = {1, 2, 3}, others[] = {10, 20};
    static const int32_t from[] = {2, -2, 0};
    float taken[3];
    const nb_gather_args take = {.x = rows,
                                 .other = others,
                                 .row = from,
                                 .M = 3,
                                 .K = 1,
                                 .ldx = 1,
                                 .ldo = 1,
                                 .ldy = 1,
                                 .y = taken};
    CHECK_EQ(c, be->op->gather_rows(be, &take, &err), NB_OK);
    CHECK(c, taken[0] == 3.0f && taken[1] == 20.0f && taken[2] == 1.0f);
    be->op->release_weight(be, w[0]);
    be->op->release_weight(be, w[1]);
    nb_backend_close(be);
}

static void with_set(check *c, void (*each)(check *, ops_set *))
{
    ops_set set;
    ops_set_open(&set, c);
    each(c, &set);
    ops_set_close(&set);
}

static void route_agrees(check *c)
{
    with_set(c, each_route);
}
static void grouped_agrees(check *c)
{
    with_set(c, each_grouped);
}
static void sums_agree(check *c)
{
    with_set(c, each_sum);
}
static void gathers_agree(check *c)
{
    with_set(c, each_gather);
}
static void same_bits(check *c)
{
    each_gather(c, NULL);
    each_route(c, NULL);
    each_grouped(c, NULL);
    each_sum(c, NULL);
}

static const check_case cases[] = {
    {"ref gives worked values of routing, grouped products and sums", worked_values},
    {"every backend chooses ref's experts with its weights", route_agrees},
    {"every backend agrees with ref on grouped products of every kind of weight", grouped_agrees},
    {"every backend agrees with ref on weighted sums", sums_agree},
    {"every backend gathers the same rows", gathers_agree},
    {"the bits do not depend on the run or the number of threads", same_bits},
};
CHECK_MAIN(cases)
