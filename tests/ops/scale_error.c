/* scale_error.c -- what rounding costs where inputs are scaled, on every grid's rule and backend.
 * NUMERICS.md "scale_error". */
#include "ops/ops.h"

#include <math.h>

typedef struct scale_case {
    int64_t M, K;
    const float *w, *scale;
    const double *cost;
    nb_grid grid;
} scale_case;

static bool run_scaled(ops *o, const void *args, void *out)
{
    const scale_case *k = args;
    nb_error err = {.message = ""};
    if (!ops_has(o, o->be->op->scale_error != NULL, "scale_error"))
        return false;
    nb_scale_error_args a = {.w = ops_in(o, k->w, (size_t)(k->M * k->K) * sizeof(float)),
                             .scale = ops_in(o, k->scale, (size_t)k->K * sizeof(float)),
                             .cost = ops_in(o, k->cost, (size_t)k->K * sizeof(double)),
                             .M = k->M,
                             .K = k->K,
                             .grid = &k->grid,
                             .error = ops_out(o, (size_t)k->M * sizeof(double))};
    a.scratch = ops_out(o, o->be->op->scale_error_scratch(o->be, &a));
    const bool good = ops_ok(o, o->be->op->scale_error(o->be, &a, &err), &err);
    if (good)
        ops_get(o, a.error, out);
    return good;
}

static void compare_scaled(ops *o, const void *args, const void *got, const void *want)
{
    const scale_case *c = args;
    const double *a = got, *b = want;
    for (int64_t m = 0; m < c->M; m++)
        CHECK_NEAR(o->c, a[m], b[m], (double)(c->K + 2) * 0x1p-52 * b[m], o->what);
}

static const ops_test test = {run_scaled, compare_scaled};

static const struct {
    const char *grid;
    int group;
    bool sym;
    int64_t M, K;
} shapes[] = {{"int4", 128, true, 17, 576}, {"int3", 64, false, 9, 172}, {"int2", 32, false, 1, 96},
              {"int4", 0, true, 33, 160},   {"int8", 32, true, 8, 40},   {"q4_0", 0, true, 16, 96},
              {"q4_1", 0, true, 7, 64},     {"int4", 64, false, 3, 150}, {"iq4_nl", 0, true, 6, 96},
              {"nf4", 0, true, 5, 192},     {"int4", 128, false, 2, 70}};

static void each_shape(check *c, ops_set *set)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        nb_rng r;
        ops_seed(&r, 950 + i);
        scale_case k = {.M = shapes[i].M, .K = shapes[i].K};
        nb_error err = {.message = ""};
        CHECK_EQ(c, nb_grid_find(shapes[i].grid, shapes[i].group, shapes[i].sym, &k.grid, &err),
                 NB_OK);
        float *w = ops_normals(&r, k.M * k.K, 0.05f), *scale = ops_normals(&r, k.K, 1.0f);
        double *cost = ops_alloc((size_t)k.K, sizeof *cost);
        w[k.K - 1] = 3.0f; /* an outlier in the last, maybe short, group */
        for (int64_t j = 0; j < k.K; j++) {
            scale[j] = exp2f(scale[j]);
            cost[j] = j % 11 == 5 ? 0.0 : (double)(j % 7 + 1); /* an input that never comes */
        }
        if (k.M > 1) { /* of equal magnitudes the first decides which end is exact */
            w[k.K] = 0.75f;
            w[k.K + 1] = -0.75f;
            scale[1] = scale[0];
        }
        k.w = w;
        k.scale = scale;
        k.cost = cost;
        char what[96];
        snprintf(what, sizeof what, "%s M %d K %d", k.grid.name, (int)k.M, (int)k.K);
        const size_t bytes = (size_t)k.M * sizeof(double);
        if (set)
            ops_against_ref(set, &test, &k, bytes, k.M * k.K * 10, what);
        else
            ops_same_bits(c, &test, &k, bytes, k.M * k.K * 10, what);
        free(w);
        free(scale);
        free(cost);
    }
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

/* int4 in one group of 4: {-7, 8, 2.4, 0.2} scaled by {1, 1, 1, 4} spans [-7, 8] in steps of 1, so
 * 2.4 becomes 2 and 0.8 / 4 becomes 1 / 4: costs 1, 1, 10, 100 of 0.4 and 0.05. */
static void a_worked_row(check *c)
{
    nb_error err = {.message = ""};
    nb_backend *be = NULL;
    const nb_backend_options opt = {.exact = true};
    const float w[] = {-7.0f, 8.0f, 2.4f, 0.2f}, scale[] = {1.0f, 1.0f, 1.0f, 4.0f};
    const double cost[] = {1.0, 1.0, 10.0, 100.0};
    float room[4];
    double got = 0.0;
    nb_scale_error_args a = {
        .w = w, .scale = scale, .cost = cost, .M = 1, .K = 4, .error = &got, .scratch = room};
    nb_grid grid;
    CHECK_EQ(c, nb_backend_open("ref", &opt, &be, &err), NB_OK);
    CHECK_EQ(c, nb_grid_find("int4", 32, false, &grid, &err), NB_OK);
    if (!be)
        return;
    a.grid = &grid;
    CHECK_EQ(c, be->op->scale_error(be, &a, &err), NB_OK);
    CHECK_NEAR(c, got, 10.0 * 0.16 + 100.0 * 0.0025, 1e-5, "two values are off");
    nb_backend_close(be);
}

static const check_case cases[] = {
    {"ref counts what a worked row costs", a_worked_row},
    {"every backend gives ref's errors", every_shape},
    {"the bits do not depend on the run or the number of threads", same_bits},
};
CHECK_MAIN(cases)
