/* limit_rows.c -- rows no longer than some medians, on every backend. NUMERICS.md "limit_rows".
 *
 * out: y, then y_orig. */
#include "ops/bounds.h"
#include "ops/ops.h"

typedef struct limit_case {
    int64_t M, K;
    const float *x, *orig; /* orig NULL: there is none */
    float limit;
    bool in_place;
} limit_case;

static bool run_limit(ops *o, const void *args, void *out)
{
    const limit_case *k = args;
    nb_error err = {.message = ""};
    if (!ops_has(o, o->be->op->limit_rows != NULL, "limit_rows"))
        return false;
    const size_t bytes = (size_t)(k->M * k->K) * sizeof(float);
    nb_limit_rows_args a = {.M = k->M,
                            .K = k->K,
                            .limit = k->limit,
                            .scratch = ops_out(o, (size_t)(k->M + 1) * sizeof(double))};
    a.y = k->in_place ? ops_inout(o, k->x, bytes) : ops_out(o, bytes);
    a.x = k->in_place ? a.y : ops_in(o, k->x, bytes);
    if (k->orig) {
        a.y_orig = k->in_place ? ops_inout(o, k->orig, bytes) : ops_out(o, bytes);
        a.x_orig = k->in_place ? a.y_orig : ops_in(o, k->orig, bytes);
    }
    const bool good = ops_ok(o, o->be->op->limit_rows(o->be, &a, &err), &err);
    if (good) {
        ops_get(o, a.y, out);
        if (k->orig)
            ops_get(o, a.y_orig, (float *)out + k->M * k->K);
    }
    return good;
}

/* The factor is rounded to f32, then the product; ref rounds once. */
static void compare_limit(ops *o, const void *args, const void *got, const void *want)
{
    const limit_case *c = args;
    const float *y = got, *ref = want;
    for (int64_t i = 0; i < c->M * c->K * (c->orig ? 2 : 1); i++)
        CHECK_NEAR(o->c, y[i], ref[i], 3 * BOUND_U * fabs((double)ref[i]), o->what);
}

static const ops_test test = {run_limit, compare_limit};

static void each_shape(check *c, ops_set *set)
{
    static const int64_t all_M[] = {1, 2, 7, 64, 300}, all_K[] = {1, 33, 576};
    static const float limits[] = {0.5f, 1.2f, 3.0f};
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < 3; j++) {
            nb_rng r;
            ops_seed(&r, 200 + (uint64_t)(i * 3 + j));
            limit_case k = {.M = all_M[i],
                            .K = all_K[j],
                            .limit = limits[(i + j) % 3],
                            .in_place = (i + j) % 2};
            float *x = ops_normals(&r, k.M * k.K, 1.0f), *orig = ops_normals(&r, k.M * k.K, 1.0f);
            for (int64_t m = 0; m < k.M; m++) { /* some far longer, some equal, one of zeros */
                const float s = m == 3 ? 0.0f : m % 5 == 0 ? 1000.0f : m % 7 == 0 ? 3.0f : 1.0f;
                for (int64_t n = 0; n < k.K; n++)
                    x[m * k.K + n] = m % 11 == 10 ? x[(m - 1) * k.K + n] : s * x[m * k.K + n];
            }
            k.x = x;
            k.orig = (i + j) % 3 ? orig : NULL;
            char what[96];
            snprintf(what, sizeof what, "M %d K %d limit %g%s%s", (int)k.M, (int)k.K,
                     (double)k.limit, k.orig ? " both streams" : "", k.in_place ? " in place" : "");
            const size_t bytes = (size_t)(k.M * k.K) * sizeof(float) * (k.orig ? 2 : 1);
            if (set)
                ops_against_ref(set, &test, &k, bytes, k.M * (k.K + k.M), what);
            else
                ops_same_bits(c, &test, &k, bytes, k.M * (k.K + k.M), what);
            free(x);
            free(orig);
        }
}

static void worked_rows(check *c)
{
    /* lengths 10, 1, 5: the median is 5, so at a limit of 1 the first row is halved in both
     * streams */
    static const float x[] = {6, 8, 0, 1, 3, 4}, orig[] = {2, 4, 1, 1, 1, 1},
                       want[] = {3, 4, 0, 1, 3, 4}, want_orig[] = {1, 2, 1, 1, 1, 1};
    float y[6], y_orig[6];
    double scratch[4];
    nb_error err = {.message = ""};
    nb_backend *be = NULL;
    const nb_backend_options opt = {.exact = true};
    CHECK_EQ(c, nb_backend_open("ref", &opt, &be, &err), NB_OK);
    if (!be)
        return;
    nb_limit_rows_args a = {.x = x,
                            .x_orig = orig,
                            .M = 3,
                            .K = 2,
                            .limit = 1.0f,
                            .y = y,
                            .y_orig = y_orig,
                            .scratch = scratch};
    CHECK_EQ(c, be->op->limit_rows(be, &a, &err), NB_OK);
    for (int i = 0; i < 6; i++) {
        CHECK_NEAR(c, y[i], want[i], 0, "x");
        CHECK_NEAR(c, y_orig[i], want_orig[i], 0, "x_orig");
    }
    a.limit = 2.0f; /* 10 is no longer than twice 5 */
    CHECK_EQ(c, be->op->limit_rows(be, &a, &err), NB_OK);
    CHECK_NEAR(c, y[1], 8, 0, "a row as long as the limit");
    nb_backend_close(be);
}

static void every_shape(check *c)
{
    ops_set set;
    ops_set_open(&set, c);
    each_shape(c, &set);
    ops_set_close(&set);
}

static void same_bits(check *c)
{
    each_shape(c, NULL);
}

static const check_case cases[] = {
    {"ref limits worked rows", worked_rows},
    {"every backend agrees with ref", every_shape},
    {"the bits do not depend on the run or the number of threads", same_bits},
};
CHECK_MAIN(cases)
