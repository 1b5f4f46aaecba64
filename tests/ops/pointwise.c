/* pointwise.c -- gated_activation, logits_soft_cap and argmax on every backend. NUMERICS.md
 * "gated_activation", "soft cap", "argmax". */
#include "ops/bounds.h"
#include "ops/ops.h"

/* ---- gated activation ---- */

typedef struct gated_case {
    int64_t M, N, ld, ldo;
    nb_activation act;
    bool in_place; /* out is gate */
    const float *gate, *up;
} gated_case;

static bool run_gated(ops *o, const void *args, void *out)
{
    const gated_case *k = args;
    nb_error err = {.message = ""};
    if (!ops_has(o, o->be->op->gated_activation != NULL, "gated_activation"))
        return false;
    const size_t bytes = (size_t)(k->M * k->ld) * sizeof(float);
    nb_gated_args a = {.up = ops_in(o, k->up, bytes),
                       .M = k->M,
                       .N = k->N,
                       .ld = k->ld,
                       .ldo = k->ldo,
                       .act = k->act};
    a.out = k->in_place ? ops_inout(o, k->gate, bytes)
                        : ops_out(o, (size_t)(k->M * k->ldo) * sizeof(float));
    a.gate = k->in_place ? a.out : ops_in(o, k->gate, bytes);
    const bool good = ops_ok(o, o->be->op->gated_activation(o->be, &a, &err), &err);
    if (good)
        ops_get(o, a.out, out);
    return good;
}

static void compare_gated(ops *o, const void *args, const void *got, const void *want)
{
    const gated_case *c = args;
    const float *y = got, *ref = want;
    ops_gaps(o, got, sizeof(float), c->M, c->N, c->ldo);
    for (int64_t m = 0; m < c->M; m++)
        for (int64_t n = 0; n < c->N; n++) {
            const double g = fabs((double)c->gate[m * c->ld + n]),
                         u = fabs((double)c->up[m * c->ld + n]);
            const double out = fabs((double)ref[m * c->ldo + n]);
            /* exp of a rounded argument is off by |argument| u, and past 104 it is 0; 1 + tanh
             * cancels, so gelu is off by u of its linear part. e^-g is held at e^88.37 on the CPU
             * and infinite past 88.72 on a GPU, where silu itself is below g 2^-127. The last
             * product may be flushed to zero */
            const double tol = BOUND_U * (16 + 2 * fmin(g, 104)) * out +
                               (c->act == NB_ACT_GELU_TANH ? 4 * BOUND_U * g * u : 0) +
                               0x1p-127 * g * u + 0x1p-126 * (1 + u);
            CHECK_NEAR(o->c, y[m * c->ldo + n], ref[m * c->ldo + n], tol, o->what);
        }
}

static const ops_test gated_test = {run_gated, compare_gated};

static void each_gated(check *c, ops_set *set)
{
    static const int64_t all_M[] = {1, 7, 8, 9, 17, 64},
                         all_N[] = {1, 15, 16, 17, 64, 272, 576, 1536};
    static const float scales[] = {1.0f, 8.0f, 0.01f, 60.0f};
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < 8; j++) {
            nb_rng r;
            ops_seed(&r, (uint64_t)(500 + i * 8 + j));
            gated_case k = {.M = all_M[i],
                            .N = all_N[j],
                            .act = (i + j) % 2 ? NB_ACT_SILU : NB_ACT_GELU_TANH,
                            .in_place = j % 3 == 1};
            k.ld = k.N + (i % 3) * 3;
            k.ldo = k.in_place ? k.ld : k.N + (j % 2) * 7;
            float *gate = ops_rows(&r, k.M, k.N, k.ld, scales[j % 4]),
                  *up = ops_rows(&r, k.M, k.N, k.ld, 2.0f);
            static const float edges[] = {0.0f,  -0.0f,  100.0f, -100.0f,
                                          1e30f, 1e-30f, -88.0f, 1e-3f};
            for (int e = 0; e < 8 && e < k.N; e++)
                gate[e] = edges[e];
            k.gate = gate;
            k.up = up;
            char what[128];
            snprintf(what, sizeof what, "%s M %d N %d ld %d ldo %d%s",
                     k.act == NB_ACT_SILU ? "silu" : "gelu", (int)k.M, (int)k.N, (int)k.ld,
                     (int)k.ldo, k.in_place ? " in place" : "");
            const size_t bytes = (size_t)(k.M * k.ldo) * sizeof(float);
            if (set)
                ops_against_ref(set, &gated_test, &k, bytes, k.M * k.N, what);
            else if (i == 4)
                ops_same_bits(c, &gated_test, &k, bytes, k.M * k.N, what);
            free(gate);
            free(up);
        }
}

/* ---- soft cap ---- */

typedef struct cap_case {
    int64_t n;
    float cap;
    const float *x;
} cap_case;

static bool run_cap(ops *o, const void *args, void *out)
{
    const cap_case *k = args;
    nb_error err = {.message = ""};
    if (!ops_has(o, o->be->op->logits_soft_cap != NULL, "logits_soft_cap"))
        return false;
    const nb_soft_cap_args a = {
        .x = ops_inout(o, k->x, (size_t)k->n * sizeof(float)), .n = k->n, .cap = k->cap};
    const bool good = ops_ok(o, o->be->op->logits_soft_cap(o->be, &a, &err), &err);
    if (good)
        ops_get(o, a.x, out);
    return good;
}

static void compare_cap(ops *o, const void *args, const void *got, const void *want)
{
    const cap_case *c = args;
    const float *y = got, *ref = want;
    for (int64_t i = 0; i < c->n; i++)
        CHECK_NEAR(o->c, y[i], ref[i],
                   8 * BOUND_U * fabs((double)ref[i]) + 4 * BOUND_U * (double)c->cap, o->what);
}

static const ops_test cap_test = {run_cap, compare_cap};

static void each_cap(check *c, ops_set *set)
{
    static const int64_t all_n[] = {1, 15, 16, 17, 1000, 49152};
    for (int i = 0; i < 6; i++) {
        nb_rng r;
        ops_seed(&r, (uint64_t)(900 + i));
        float *x = ops_normals(&r, all_n[i], i % 2 ? 20.0f : 200.0f);
        x[0] = 1e30f; /* the cap itself */
        const cap_case k = {.n = all_n[i], .cap = i % 2 ? 30.0f : 50.0f, .x = x};
        char what[64];
        snprintf(what, sizeof what, "n %d cap %g", (int)k.n, (double)k.cap);
        if (set)
            ops_against_ref(set, &cap_test, &k, (size_t)k.n * sizeof(float), k.n, what);
        else
            ops_same_bits(c, &cap_test, &k, (size_t)k.n * sizeof(float), k.n, what);
        free(x);
    }
}

/* ---- argmax ---- */

typedef struct argmax_case {
    int64_t M, N, ldx;
    const float *x;
} argmax_case;

static bool run_argmax(ops *o, const void *args, void *out)
{
    const argmax_case *k = args;
    nb_error err = {.message = ""};
    if (!ops_has(o, o->be->op->argmax != NULL, "argmax"))
        return false;
    const nb_argmax_args a = {.x = ops_in(o, k->x, (size_t)(k->M * k->ldx) * sizeof(float)),
                              .M = k->M,
                              .N = k->N,
                              .ldx = k->ldx,
                              .out = ops_out(o, (size_t)k->M * sizeof(int32_t))};
    const bool good = ops_ok(o, o->be->op->argmax(o->be, &a, &err), &err);
    if (good)
        ops_get(o, a.out, out);
    return good;
}

static void compare_argmax(ops *o, const void *args, const void *got, const void *want)
{
    const argmax_case *c = args;
    const int32_t *y = got, *ref = want;
    for (int64_t m = 0; m < c->M; m++) {
        o->c->n_check++;
        if (y[m] != ref[m])
            check_report(o->c, __FILE__, __LINE__, "%s: row %d: index %d, expected %d", o->what,
                         (int)m, y[m], ref[m]);
    }
}

static const ops_test argmax_test = {run_argmax, compare_argmax};

/* Values from a few levels only, so that the greatest comes many times and the lowest index must
 * win. */
static void each_argmax(check *c, ops_set *set)
{
    static const int64_t all_M[] = {1, 7, 17}, all_N[] = {1, 2, 15, 16, 17, 64, 272, 4097, 49152};
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 9; j++) {
            nb_rng r;
            ops_seed(&r, (uint64_t)(1300 + i * 9 + j));
            argmax_case k = {.M = all_M[i], .N = all_N[j], .ldx = all_N[j] + i * 3};
            float *x = ops_rows(&r, k.M, k.N, k.ldx, 1.0f);
            for (int64_t m = 0; m < k.M; m++)
                for (int64_t n = 0; n < k.N && m % 3; n++)
                    x[m * k.ldx + n] =
                        m % 3 == 1 ? -1.0f - (float)(nb_rng_u64(&r) % 3) : -HUGE_VALF;
            k.x = x;
            char what[64];
            snprintf(what, sizeof what, "M %d N %d ldx %d", (int)k.M, (int)k.N, (int)k.ldx);
            if (set)
                ops_against_ref(set, &argmax_test, &k, (size_t)k.M * sizeof(int32_t), k.M * k.N,
                                what);
            /* a fault anywhere in a row; of every third none */
            for (int64_t m = 0; m < k.M && set; m++)
                if (m % 3 != 1)
                    x[m * k.ldx + (int64_t)(nb_rng_u64(&r) % (uint64_t)k.N)] =
                        m % 2 ? HUGE_VALF : NAN;
            snprintf(what, sizeof what, "M %d N %d with NaN and Inf", (int)k.M, (int)k.N);
            if (set)
                ops_against_ref(set, &argmax_test, &k, (size_t)k.M * sizeof(int32_t), k.M * k.N,
                                what);
            else if (j == 7)
                ops_same_bits(c, &argmax_test, &k, (size_t)k.M * sizeof(int32_t), k.M * k.N, what);
            free(x);
        }
}

/* ---- cases ---- */

static void worked_values(check *c)
{
    nb_error err = {.message = ""};
    nb_backend *be = NULL;
    const nb_backend_options opt = {.exact = true};
    CHECK_EQ(c, nb_backend_open("ref", &opt, &be, &err), NB_OK);
    if (!be)
        return;
    /* silu(1) = 1 / (1 + e^-1) = 0.73105858, silu(-2) = -0.23840584; gelu_tanh(1) = 0.84119199,
     * gelu_tanh(-2) = -0.04540231 */
    static const float gate[] = {1, -2, 0}, up[] = {10, 1, 5};
    static const double want[2][3] = {{7.3105858, -0.23840584, 0}, {8.4119199, -0.04540231, 0}};
    float out[3];
    for (int i = 0; i < 2; i++) {
        const nb_gated_args a = {.gate = gate,
                                 .up = up,
                                 .M = 1,
                                 .N = 3,
                                 .ld = 3,
                                 .ldo = 3,
                                 .act = i ? NB_ACT_GELU_TANH : NB_ACT_SILU,
                                 .out = out};
        CHECK_EQ(c, be->op->gated_activation(be, &a, &err), NB_OK);
        for (int j = 0; j < 3; j++)
            CHECK_NEAR(c, out[j], want[i][j], 1e-6, i ? "gelu" : "silu");
    }
    float x[] = {0, 30, -60, 1e9f}; /* 30 tanh(1) = 22.847825, 30 tanh(-2) = -28.920827 */
    static const double capped[] = {0, 22.847825, -28.920827, 30};
    const nb_soft_cap_args cap = {.x = x, .n = 4, .cap = 30};
    CHECK_EQ(c, be->op->logits_soft_cap(be, &cap, &err), NB_OK);
    for (int j = 0; j < 4; j++)
        CHECK_NEAR(c, x[j], capped[j], 1e-5, "soft cap");
    static const float rows[2][4] = {{1, 3, 3, 2}, {-5, -7, -5, -9}};
    int32_t best[2];
    const nb_argmax_args am = {.x = &rows[0][0], .M = 2, .N = 4, .ldx = 4, .out = best};
    CHECK_EQ(c, be->op->argmax(be, &am, &err), NB_OK);
    CHECK_EQ(c, best[0], 1);
    CHECK_EQ(c, best[1], 0);
    static const float faults[4][4] = {
        {1, 3, 3, NAN}, {-5, HUGE_VALF, -5, -9}, {-HUGE_VALF, -9, -HUGE_VALF, -9}, {NAN, 1, 2, 3}};
    int32_t got[4];
    const nb_argmax_args bad = {.x = &faults[0][0], .M = 4, .N = 4, .ldx = 4, .out = got};
    CHECK_EQ(c, be->op->argmax(be, &bad, &err), NB_OK);
    CHECK_EQ(c, got[0], -1);
    CHECK_EQ(c, got[1], -1);
    CHECK_EQ(c, got[2], 1);
    CHECK_EQ(c, got[3], -1);
    nb_backend_close(be);
}

static void with_set(check *c, void (*each)(check *, ops_set *))
{
    ops_set set;
    ops_set_open(&set, c);
    each(c, &set);
    ops_set_close(&set);
}

static void gated_agrees(check *c)
{
    with_set(c, each_gated);
}

static void cap_agrees(check *c)
{
    with_set(c, each_cap);
}

static void argmax_agrees(check *c)
{
    with_set(c, each_argmax);
}

static void same_bits(check *c)
{
    each_gated(c, NULL);
    each_cap(c, NULL);
    each_argmax(c, NULL);
}

static const check_case cases[] = {
    {"ref gives worked values of silu, gelu, soft cap and argmax", worked_values},
    {"every backend agrees with ref on gated activations, in place and not", gated_agrees},
    {"every backend agrees with ref on soft-capped logits", cap_agrees},
    {"every backend finds the lowest index of the greatest value, and what is not finite",
     argmax_agrees},
    {"the bits do not depend on the run or the number of threads", same_bits},
};
CHECK_MAIN(cases)
