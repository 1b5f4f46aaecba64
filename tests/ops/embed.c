/* embed.c -- y[m] = scale W[ids[m]] from the packed layout, for every kind of weight. NUMERICS.md
 * "embed". */
#include "ops/bounds.h"
#include "ops/ops.h"
#include "ops/weights.h"

typedef struct embed_case {
    int64_t M, K, ldy;
    int kind;
    const ops_weight *w;
    const int32_t *ids;
    float scale;
} embed_case;

static bool run_embed(ops *o, const void *args, void *out)
{
    const embed_case *k = args;
    nb_error err = {.message = ""};
    nb_weight *w = NULL;
    if (!ops_has(o, o->be->op->embed != NULL, "embed") ||
        !ops_ok(o, o->be->op->pack_weight(o->be, &k->w->m, 1, &w, &err), &err))
        return false;
    const nb_embed_args a = {.w = w,
                             .ids = ops_in(o, k->ids, (size_t)k->M * sizeof(int32_t)),
                             .M = k->M,
                             .ldy = k->ldy,
                             .scale = k->scale,
                             .y = ops_out(o, (size_t)(k->M * k->ldy) * sizeof(float))};
    const bool good = ops_ok(o, o->be->op->embed(o->be, &a, &err), &err);
    if (good)
        ops_get(o, a.y, out);
    o->be->op->release_weight(o->be, w);
    return good;
}

static void compare_embed(ops *o, const void *args, const void *got, const void *want)
{
    const embed_case *c = args;
    const float *y = got, *ref = want;
    ops_gaps(o, got, sizeof(float), c->M, c->K, c->ldy);
    for (int64_t m = 0; m < c->M; m++)
        for (int64_t k = 0; k < c->K; k++) {
            const int64_t at = c->ids[m] * c->K + k;
            const double value = fabs((double)c->w->value[at]), part = fabs((double)c->w->part[at]);
            double tol =
                4 * BOUND_U * (value + part); /* product, minimum, scale: three roundings at most */
            if (o->row->arith == OPS_BF16 || (o->row->arith != OPS_F32 && ops_kind_float(c->kind)))
                tol += BOUND_BF16 * value; /* may be kept as bf16 */
            CHECK_NEAR(o->c, y[m * c->ldy + k], ref[m * c->ldy + k], fabs((double)c->scale) * tol,
                       o->what);
        }
}

static const ops_test test = {run_embed, compare_embed};

static void each_kind(check *c, ops_set *set)
{
    static const int64_t all_K[] = {32, 96, 172, 256, 576, 1536};
    static const int64_t all_M[] = {1, 7, 17, 64};
    for (int kind = 0; kind < ops_kind_count(); kind++)
        for (int s = 0; s < (set ? 6 : 1); s++) {
            nb_rng r;
            ops_seed(&r, (uint64_t)(kind * 100 + s));
            int i = set ? s : 4;
            while (!ops_kind_fits(kind, all_K[i]))
                i = (i + 1) % 6;
            const int64_t K = all_K[i], M = all_M[(s + kind) % 4], N = s % 2 ? 37 : 272;
            ops_weight w;
            char name[64], what[128];
            ops_kind_name(kind, name, sizeof name);
            int32_t *ids = ops_alloc((size_t)M, sizeof *ids);
            for (int64_t m = 0; m < M; m++)
                ids[m] = (int32_t)(nb_rng_u64(&r) % (uint64_t)N);
            ids[0] = (int32_t)N - 1;
            if (ops_weight_make(kind, N, K, &r, &w)) {
                const embed_case k = {.M = M,
                                      .K = K,
                                      .ldy = K + (s % 3) * 3,
                                      .kind = kind,
                                      .w = &w,
                                      .ids = ids,
                                      .scale = s % 2 ? 24.0f : 1.0f};
                snprintf(what, sizeof what, "%s M %d N %d K %d", name, (int)M, (int)N, (int)K);
                if (set)
                    ops_against_ref(set, &test, &k, (size_t)(M * k.ldy) * sizeof(float), M * K,
                                    what);
                else
                    ops_same_bits(c, &test, &k, (size_t)(M * k.ldy) * sizeof(float), M * K, what);
            } else {
                check_report(c, __FILE__, __LINE__, "no valid block of %s was found", name);
            }
            ops_weight_free(&w);
            free(ids);
        }
}

static void a_worked_row(check *c)
{
    /* codes of 4 bits in groups of 2, the last one short: 0.5 (c - 8), 2 (c - 1) + 3, -0.25 (c - 0)
     */
    static const uint8_t codes[] = {0, 15, 0, 15, 4, /* row 1 */ 8, 8, 1, 1, 0};
    static const nb_group groups[] = {{0.5f, 8, 0}, {2, 1, 3}, {-0.25f, 0, 0},
                                      {0.5f, 8, 0}, {2, 1, 3}, {-0.25f, 0, 0}};
    static const double want[2][5] = {{0, 0, 6, 6, 0}, {-8, 7, 2, 62, -2}};
    const nb_matrix m = {.N = 2, .K = 5, .codes = codes, .groups = groups, .bits = 4, .group = 2};
    nb_error err = {.message = ""};
    nb_backend *be = NULL;
    nb_weight *w = NULL;
    const nb_backend_options opt = {.exact = true};
    CHECK_EQ(c, nb_backend_open("ref", &opt, &be, &err), NB_OK);
    if (!be)
        return;
    CHECK_EQ(c, be->op->pack_weight(be, &m, 1, &w, &err), NB_OK);
    if (w) {
        static const int32_t ids[] = {1, 0};
        float y[2][5];
        const nb_embed_args a = {.w = w, .ids = ids, .M = 2, .ldy = 5, .scale = 2, .y = &y[0][0]};
        CHECK_EQ(c, be->op->embed(be, &a, &err), NB_OK);
        for (int m_ = 0; m_ < 2; m_++)
            for (int k = 0; k < 5; k++)
                CHECK_NEAR(c, y[m_][k], want[m_][k], 0, "a worked row");
    }
    be->op->release_weight(be, w);
    nb_backend_close(be);
}

static void every_kind(check *c)
{
    ops_set set;
    ops_set_open(&set, c);
    each_kind(c, &set);
    ops_set_close(&set);
}

static void same_bits(check *c)
{
    each_kind(c, NULL);
}

static const check_case cases[] = {
    {"ref decodes a worked row with a short last group", a_worked_row},
    {"every backend agrees with ref on every kind of weight", every_kind},
    {"the bits do not depend on the run or the number of threads", same_bits},
};
CHECK_MAIN(cases)
