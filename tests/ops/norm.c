/* norm.c -- y = x / sqrt(mean(x^2) + eps) * weight on every backend. NUMERICS.md "rms_norm". */
#include "ops/bounds.h"
#include "ops/ops.h"

typedef struct norm_case {
    int64_t M, K, ldx, ldy;
    int32_t n_part; /* 0: one */
    const float *x, *weight;
    float eps;
    bool in_place; /* y is x, ldy is ldx */
} norm_case;

static bool run_norm(ops *o, const void *args, void *out)
{
    const norm_case *k = args;
    nb_error err = {.message = ""};
    if (!ops_has(o, o->be->op->rms_norm != NULL, "rms_norm"))
        return false;
    const size_t x_bytes = (size_t)(k->M * k->ldx) * sizeof(float),
                 y_bytes = (size_t)(k->M * k->ldy) * sizeof(float);
    nb_rms_norm_args a = {.M = k->M,
                          .K = k->K,
                          .ldx = k->ldx,
                          .ldy = k->ldy,
                          .n_part = k->n_part,
                          .eps = k->eps,
                          .weight = ops_in(o, k->weight, (size_t)k->K * sizeof(float))};
    a.y = k->in_place ? ops_inout(o, k->x, x_bytes) : ops_out(o, y_bytes);
    a.x = k->in_place ? a.y : ops_in(o, k->x, x_bytes);
    const bool good = ops_ok(o, o->be->op->rms_norm(o->be, &a, &err), &err);
    if (good)
        ops_get(o, a.y, out);
    return good;
}

static void compare_norm(ops *o, const void *args, const void *got, const void *want)
{
    const norm_case *c = args;
    const float *y = got, *ref = want;
    const int64_t n_part = c->n_part ? c->n_part : 1;
    ops_gaps(o, got, sizeof(float), c->M, n_part * c->K, c->ldy);
    for (int64_t i = 0; i < c->M * n_part; i++) {
        const int64_t at_x = i / n_part * c->ldx + i % n_part * c->K,
                      at_y = i / n_part * c->ldy + i % n_part * c->K;
        bound_sum squares = {0, 0};
        for (int64_t k = 0; k < c->K; k++)
            bound_add(&squares, (double)c->x[at_x + k] * (double)c->x[at_x + k]);
        /* the root halves the relative error of the sum; division, root and product round four
         * times more */
        const double relative =
            4 * BOUND_U + (squares.sum > 0 ? bound_of(&squares) / squares.sum / 2 : 0);
        for (int64_t k = 0; k < c->K; k++)
            CHECK_NEAR(o->c, y[at_y + k], ref[at_y + k], relative * fabs((double)ref[at_y + k]),
                       o->what);
    }
}

static const ops_test test = {run_norm, compare_norm};

static void each_shape(check *c, ops_set *set)
{
    static const int64_t all_M[] = {1, 7, 8, 9, 17, 64},
                         all_K[] = {1, 32, 64, 96, 172, 576, 1536, 5000};
    static const float scales[] = {1.0f, 1e-4f, 3e4f, 0.0f};
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < 8; j++) {
            nb_rng r;
            ops_seed(&r, (uint64_t)(i * 8 + j));
            norm_case k = {.M = all_M[i],
                           .K = all_K[j],
                           .eps = j % 2 ? 1e-5f : 1e-6f,
                           .in_place = (i + j) % 3 == 0};
            k.n_part = k.K <= 172 ? (i + 2 * j) % 5 : 0; /* heads */
            const int64_t row = k.K * (k.n_part ? k.n_part : 1);
            k.ldx = row + (i % 3) * 3;
            k.ldy = k.in_place ? k.ldx : row + (j % 3) * 5;
            float *x = ops_rows(&r, k.M, row, k.ldx, scales[(i + j) % 4]),
                  *w = ops_normals(&r, k.K, 1.0f);
            k.x = x;
            k.weight = w;
            char what[128];
            snprintf(what, sizeof what, "M %d K %d x %d ldx %d ldy %d scale %g%s", (int)k.M,
                     k.n_part, (int)k.K, (int)k.ldx, (int)k.ldy, (double)scales[(i + j) % 4],
                     k.in_place ? " in place" : "");
            const size_t bytes = (size_t)(k.M * k.ldy) * sizeof(float);
            if (set)
                ops_against_ref(set, &test, &k, bytes, k.M * row, what);
            else if (i == 4)
                ops_same_bits(c, &test, &k, bytes, k.M * row, what);
            free(x);
            free(w);
        }
}

static void a_worked_row(check *c)
{
    /* x = [3 4 0 0]: mean of squares 6.25, eps 0: x / 2.5 = [1.2 1.6 0 0], times [1 2 3 4] */
    static const float x[] = {3, 4, 0, 0}, w[] = {1, 2, 3, 4}, want[] = {1.2f, 3.2f, 0, 0};
    nb_error err = {.message = ""};
    nb_backend *be = NULL;
    const nb_backend_options opt = {.exact = true};
    CHECK_EQ(c, nb_backend_open("ref", &opt, &be, &err), NB_OK);
    if (!be)
        return;
    float y[4];
    nb_rms_norm_args a = {
        .x = x, .M = 1, .K = 4, .ldx = 4, .ldy = 4, .weight = w, .eps = 0, .y = y};
    CHECK_EQ(c, be->op->rms_norm(be, &a, &err), NB_OK);
    for (int i = 0; i < 4; i++)
        CHECK_NEAR(c, y[i], want[i], 0, "a worked row");
    a.eps = 93.75f; /* 6.25 + 93.75 = 100 */
    CHECK_EQ(c, be->op->rms_norm(be, &a, &err), NB_OK);
    CHECK_NEAR(c, y[1], 0.8f, 0, "eps stands under the root");
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
    {"ref normalizes a worked row", a_worked_row},
    {"every backend agrees with ref on every shape, in place and not", every_shape},
    {"the bits do not depend on the run or the number of threads", same_bits},
};
CHECK_MAIN(cases)
