/* clip_rows.c -- the search for a narrower range, on every grid and backend: ref's groups and codes
 * to the last bit. NUMERICS.md "clip_rows".
 *
 * out of a run: groups, then codes. */
#include "ops/ops.h"

typedef struct clip_case {
    int64_t N, K;
    const float *w;
    const double *h;
    nb_grid grid;
    int n_step;
    float step, quantile;
} clip_case;

static int64_t groups_a_row(const clip_case *c)
{
    const int64_t group = c->grid.group ? c->grid.group : c->K;
    return (c->K + group - 1) / group;
}

static bool run_clip(ops *o, const void *args, void *out)
{
    const clip_case *k = args;
    nb_error err = {.message = ""};
    if (!ops_has(o, o->be->op->clip_rows != NULL, "clip_rows"))
        return false;
    const size_t n = (size_t)(k->N * k->K), g = (size_t)(k->N * groups_a_row(k)) * sizeof(nb_group);
    nb_clip_rows_args a = {.w = ops_in(o, k->w, n * sizeof(float)),
                           .N = k->N,
                           .K = k->K,
                           .grid = &k->grid,
                           .n_step = k->n_step,
                           .step = k->step,
                           .quantile = k->quantile,
                           .groups = ops_out(o, g),
                           .codes = ops_out(o, n)};
    if (k->h)
        a.h = ops_in(o, k->h, (size_t)(k->K * k->K) * sizeof(double));
    a.scratch = ops_out(o, o->be->op->clip_rows_scratch(o->be, &a));
    const bool good = ops_ok(o, o->be->op->clip_rows(o->be, &a, &err), &err);
    if (good) {
        ops_get(o, a.groups, out);
        ops_get(o, a.codes, (uint8_t *)out + g);
    }
    return good;
}

static void compare_clip(ops *o, const void *args, const void *got, const void *want)
{
    const clip_case *c = args;
    const size_t g = (size_t)(c->N * groups_a_row(c)) * sizeof(nb_group);
    o->c->n_check += 2;
    if (memcmp(got, want, g) != 0)
        check_report(o->c, __FILE__, __LINE__, "%s: other groups than ref", o->what);
    if (memcmp((const uint8_t *)got + g, (const uint8_t *)want + g, (size_t)(c->N * c->K)) != 0)
        check_report(o->c, __FILE__, __LINE__, "%s: other codes than ref", o->what);
}

static const ops_test test = {run_clip, compare_clip};

static const struct {
    const char *grid;
    int group;
    bool sym;
    int64_t N, K;
} shapes[] = {{"int4", 128, true, 17, 576}, {"int3", 64, false, 9, 172}, {"int2", 32, false, 1, 96},
              {"int4", 0, true, 33, 160},   {"int8", 32, true, 8, 40},   {"q4_0", 0, true, 16, 96},
              {"q4_1", 0, true, 7, 64},     {"int4", 64, false, 3, 150}, {"q4_0", 0, true, 5, 96},
              {"int3", 0, true, 2, 70},     {"iq4_nl", 0, true, 6, 96}};

/* X^T X of 2 K tokens whose inputs differ in size, as activations do. */
static double *hessian(nb_rng *r, int64_t K)
{
    double *h = ops_alloc((size_t)(K * K), sizeof *h);
    memset(h, 0, (size_t)(K * K) * sizeof *h);
    for (int64_t t = 0; t < 2 * K; t++) {
        float *x = ops_normals(r, K, 1.0f);
        for (int64_t i = 0; i < K; i++)
            /* a group of dead inputs: all its candidates are equal */
            x[i] *= i < 32 && K > 64 ? 0.0f : i % 7 == 3 ? 5.0f : 1.0f;
        for (int64_t i = 0; i < K; i++)
            for (int64_t j = 0; j < K; j++)
                h[i * K + j] += (double)x[i] * (double)x[j];
        free(x);
    }
    return h;
}

static void each_shape(check *c, ops_set *set)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int mode = 0; mode < 3; mode++) { /* squares, H, quantile */
            nb_rng r;
            ops_seed(&r, 900 + i);
            clip_case k = {.N = shapes[i].N,
                           .K = shapes[i].K,
                           .n_step = mode ? 10 : 80,
                           .step = mode ? 0.05f : 0.01f,
                           .quantile = mode == 2 ? 0.97f : 0.0f};
            nb_error err = {.message = ""};
            CHECK_EQ(c, nb_grid_find(shapes[i].grid, shapes[i].group, shapes[i].sym, &k.grid, &err),
                     NB_OK);
            float *w = ops_normals(&r, k.N * k.K, 0.05f);
            w[k.K - 1] = 3.0f; /* an outlier in the last, maybe short, group */
            if (k.N > 1) {     /* extremes of the same magnitude */
                w[k.K] = 0.7f;
                w[k.K + 1] = -0.7f;
            }
            k.w = w;
            double *h = mode == 1 ? hessian(&r, k.K) : NULL;
            k.h = h;
            char what[96];
            snprintf(what, sizeof what, "%s N %d K %d %s", k.grid.name, (int)k.N, (int)k.K,
                     mode == 0   ? "squares"
                     : mode == 1 ? "H"
                                 : "quantile");
            const size_t bytes =
                (size_t)(k.N * groups_a_row(&k)) * sizeof(nb_group) + (size_t)(k.N * k.K);
            if (set)
                ops_against_ref(set, &test, &k, bytes, k.N * k.K * 200, what);
            else
                ops_same_bits(c, &test, &k, bytes, k.N * k.K * 200, what);
            free(w);
            free(h);
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

/* 31 values of 0.5 and an outlier of 6. Squares keep the outlier (the rest can lose 31 x 0.25 at
 * most, the outlier 36); when its input is never seen the range shrinks until the others are met;
 * the quantile leaves it out. */
static void a_worked_group(check *c)
{
    nb_error err = {.message = ""};
    nb_backend *be = NULL;
    nb_grid grid;
    const nb_backend_options opt = {.exact = true};
    CHECK_EQ(c, nb_backend_open("ref", &opt, &be, &err), NB_OK);
    CHECK_EQ(c, nb_grid_find("int4", 32, true, &grid, &err), NB_OK);
    if (!be)
        return;
    float w[32];
    double h[32 * 32] = {0}, room[64];
    uint8_t codes[32];
    nb_group p;
    for (int i = 0; i < 32; i++)
        w[i] = i % 2 ? 0.5f : -0.5f;
    w[31] = 6.0f;
    nb_clip_rows_args a = {.w = w,
                           .N = 1,
                           .K = 32,
                           .grid = &grid,
                           .n_step = 20,
                           .step = 0.045f,
                           .groups = &p,
                           .codes = codes,
                           .scratch = room};
    CHECK_EQ(c, be->op->clip_rows(be, &a, &err), NB_OK);
    CHECK(c, p.scale > 0.7f); /* the step 12 / 15 = 0.8, or little less */
    for (int i = 0; i < 31; i++)
        h[i * 33] = 1.0;
    a.h = h;
    CHECK_EQ(c, be->op->clip_rows(be, &a, &err), NB_OK);
    CHECK_NEAR(c, nb_grid_value(&grid, &p, codes[0]), -0.5, 0.05, "the values that matter are met");
    CHECK_EQ(c, codes[31], 15); /* the outlier gave way */
    a.h = NULL;
    a.quantile = 0.9f;
    CHECK_EQ(c, be->op->clip_rows(be, &a, &err), NB_OK);
    CHECK_NEAR(c, p.scale, 1.0 / 15.0, 1e-4, "held within the 29th of 32 magnitudes, 0.5");
    nb_backend_close(be);
}

static const check_case cases[] = {
    {"ref shrinks the range of a worked group as its error asks", a_worked_group},
    {"every backend gives ref's groups and codes to the last bit", every_shape},
    {"the bits do not depend on the run or the number of threads", same_bits},
};
CHECK_MAIN(cases)
