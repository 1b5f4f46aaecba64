/* gptq_sweep.c -- GPTQ over all columns, on every grid and backend, against the textbook form of
 * ref. NUMERICS.md "gptq_sweep".
 *
 * out of a run: groups, codes, and the sum of the rows' errors, NaN from a device that does not
 * know it. */
#include "ops/hessian.h"
#include "ops/ops.h"

typedef struct sweep_case {
    int64_t N, K;
    const float *w;
    const double *r, *h, *add; /* h + add: what r is the factor of, in natural order */
    const int32_t *perm;
    const nb_group *fixed;
    nb_grid grid;
} sweep_case;

static int64_t groups_a_row(const sweep_case *c)
{
    const int64_t group = c->grid.group ? c->grid.group : c->K;
    return (c->K + group - 1) / group;
}

enum { MANY_CODES = 1 << 13 };

/* The same codes where no error is asked for. */
static void sweep_unasked(ops *o, nb_gptq_sweep_args a, size_t n, const uint8_t *want)
{
    nb_error err = {.message = ""};
    uint8_t *codes = ops_alloc(n, 1);
    a.codes = ops_out(o, n);
    a.diag_add = NULL;
    a.error = NULL;
    CHECK_EQ(o->c, o->be->op->gptq_sweep(o->be, &a, &err), NB_OK);
    ops_get(o, a.codes, codes);
    CHECK(o->c, memcmp(codes, want, n) == 0);
    free(codes);
}

static bool run_sweep(ops *o, const void *args, void *out)
{
    const sweep_case *k = args;
    nb_error err = {.message = ""};
    if (!ops_has(o, o->be->op->gptq_sweep != NULL, "gptq_sweep"))
        return false;
    const size_t n = (size_t)(k->N * k->K), g = (size_t)(k->N * groups_a_row(k)) * sizeof(nb_group);
    nb_gptq_sweep_args a = {.w = ops_in(o, k->w, n * sizeof(float)),
                            .N = k->N,
                            .K = k->K,
                            .r = ops_in(o, k->r, (size_t)(k->K * k->K) * sizeof(double)),
                            .perm = k->perm,
                            .grid = &k->grid,
                            .groups_fixed = k->fixed ? ops_in(o, k->fixed, g) : NULL,
                            .groups = ops_out(o, g),
                            .codes = ops_out(o, n),
                            .diag_add = k->add,
                            .error = ops_alloc((size_t)k->N, sizeof *a.error)};
    double error = 0;
    for (int64_t i = 0; i < k->N; i++)
        a.error[i] = (double)NAN;
    a.scratch = ops_out(o, o->be->op->gptq_sweep_scratch(o->be, &a));
    const bool good = ops_ok(o, o->be->op->gptq_sweep(o->be, &a, &err), &err);
    for (int64_t i = 0; i < k->N; i++)
        error += a.error[i];
    free(a.error);
    if (good) {
        ops_get(o, a.groups, out);
        ops_get(o, a.codes, (uint8_t *)out + g);
        if (n <= MANY_CODES)
            sweep_unasked(o, a, n, (uint8_t *)out + g);
        memcpy((uint8_t *)out + g + n, &error, sizeof error);
    }
    return good;
}

/* tr(D (H + add) D^T) of groups and codes as a run leaves them; *added: what add is of it, or
 * NULL. */
static double objective(const sweep_case *c, const void *result, double *added)
{
    const int64_t K = c->K, G = groups_a_row(c), group = c->grid.group ? c->grid.group : K;
    const nb_group *groups = result;
    const uint8_t *codes = (const uint8_t *)result + (size_t)(c->N * G) * sizeof *groups;
    double total = 0, diagonal = 0, *d = ops_alloc((size_t)K, sizeof *d);
    for (int64_t n = 0; n < c->N; n++) {
        for (int64_t k = 0; k < K; k++)
            d[k] = (double)c->w[n * K + k] -
                   (double)nb_grid_value(&c->grid, &groups[n * G + k / group], codes[n * K + k]);
        for (int64_t i = 0; i < K; i++) {
            diagonal += c->add[i] * d[i] * d[i];
            for (int64_t j = 0; j < K; j++)
                total += d[i] * c->h[i * K + j] * d[j];
        }
    }
    free(d);
    if (added)
        *added = diagonal;
    return total + diagonal;
}

static void compare_sweep(ops *o, const void *args, const void *got, const void *want)
{
    const sweep_case *c = args;
    const size_t n = (size_t)(c->N * c->K), n_group = (size_t)(c->N * groups_a_row(c)),
                 g = n_group * sizeof(nb_group);
    const uint8_t *a = (const uint8_t *)got + g, *b = (const uint8_t *)want + g;
    const nb_group *pa = got, *pb = want;
    size_t codes = 0, groups = 0;
    /* f16 swallows what f32 rounds; a scale kept in f32 shows it, some 2^-22 of sums of K terms */
    const float room =
        !c->fixed && c->grid.dtype && c->grid.dtype->scale == NB_SCALE_F32 ? 0x1p-18f : 0.0f;
    for (size_t i = 0; i < n; i++) {
        codes += a[i] != b[i];
        CHECK(o->c, a[i] <= c->grid.code_max);
    }
    for (size_t i = 0; i < n_group; i++)
        groups += fabsf(pa[i].scale - pb[i].scale) > room * fabsf(pb[i].scale) ||
                  pa[i].zero != pb[i].zero || pa[i].min != pb[i].min;
    o->c->n_check += 2;
    if (codes * 1000 > n + 999) /* ties, and what follows in their rows: at most 0.1 % and one */
        check_report(o->c, __FILE__, __LINE__, "%s: %zu of %zu codes differ", o->what, codes, n);
    if (groups * 100 > n_group + 99 ||
        (c->fixed && groups)) /* a scale that stood at a tie of its f16 rounding */
        check_report(o->c, __FILE__, __LINE__, "%s: %zu of %zu groups differ", o->what, groups,
                     n_group);
    double added, error;
    const double ours = objective(c, got, &added), ref = objective(c, want, NULL);
    CHECK_NEAR(o->c, ours, ref, 1e-3 * ref, o->what);
    memcpy(&error, (const uint8_t *)got + g + n, sizeof error);
    /* sums of f32 products: what is left of a difference is as good as the whole. NaN: the device
     * did not say, and all but ref can */
    if (strcmp(o->be->name, "ref") != 0)
        CHECK_NEAR(o->c, error, ours - added, 0x1p-20 * ours, o->what);
}

static const ops_test test = {run_sweep, compare_sweep};

typedef struct sweep_row {
    const char *grid;
    int group;
    bool sym, fixed, order;
    int64_t N, K;
} sweep_row;

static const sweep_row shapes[] = {
    {"int4", 128, false, false, false, 64, 172}, {"int4", 128, true, true, false, 16, 172},
    {"int4", 128, false, true, true, 64, 300},   {"int3", 64, false, false, false, 33, 172},
    {"int2", 32, false, false, false, 17, 129},  {"int2", 64, true, true, true, 15, 127},
    {"int4", 0, false, false, false, 16, 96},    {"int8", 0, true, true, true, 7, 64},
    {"int4", 0, false, false, false, 5, 200}, /* wider than the columns of a block */
    {"int4", 32, false, false, false, 1, 32},    {"int4", 64, true, false, false, 272, 64},
    {"q4_0", 32, true, true, true, 64, 288},     {"int3", 128, true, false, false, 8, 300},
};

enum { kShapes = sizeof shapes / sizeof *shapes };

/* Row i: the shapes above, then one of every number format that is a grid. */
static bool shape_at(int i, sweep_row *out)
{
    if (i < kShapes) {
        *out = shapes[i];
        return true;
    }
    i -= kShapes;
    for (const nb_dtype *const *t = nb_dtypes; *t; t++)
        if ((*t)->rule && i-- == 0) {
            *out = (sweep_row){.grid = (*t)->name,
                               .group = (*t)->group,
                               .sym = !(*t)->has_min,
                               .N = 17,
                               .K = 3 * (*t)->block};
            return true;
        }
    return false;
}

static void each_shape(check *c, ops_set *set, nb_backend *ref)
{
    sweep_row row;
    for (int i = 0; shape_at(i, &row); i++) {
        const sweep_row *s = &row;
        nb_rng r;
        ops_seed(&r, (uint64_t)(1700 + i));
        const int64_t K = s->K, N = s->N;
        sweep_case k = {.N = N, .K = K};
        nb_error err = {.message = ""};
        if (nb_grid_find(s->grid, s->group, s->sym, &k.grid, &err) != NB_OK) {
            check_report(c, __FILE__, __LINE__, "%s: %s", s->grid, err.message);
            continue;
        }
        double *h, *add, *R = ops_alloc((size_t)(K * K), sizeof *R);
        hessian_make(&r, K, &h, &add);
        for (int64_t j = 0; j < K; j++) /* another one each, as scaled inputs have it */
            add[j] *= 1.0 + (double)(j % 7);
        int32_t *perm = s->order ? hessian_order(h, K) : NULL;
        float *w = ops_normals(&r, N * K, 0.05f);
        for (int64_t n = 0; n < N; n++)
            w[n * K + K / 2] = 0; /* a dead column */
        int64_t failed = -1;
        const nb_factor_args f = {
            .h = h, .diag_add = add, .perm = perm, .K = K, .r = R, .failed_minor = &failed};
        CHECK_EQ(c, ref->op->factor(ref, &f, &err), NB_OK);
        CHECK_EQ(c, failed, 0);
        k.w = w;
        k.r = R;
        k.h = h;
        k.add = add;
        k.perm = perm;
        nb_group *fixed = ops_alloc((size_t)(N * groups_a_row(&k)), sizeof *fixed);
        const nb_quantize_rows_args q = {.w = w, .N = N, .K = K, .grid = &k.grid, .groups = fixed};
        CHECK_EQ(c, ref->op->quantize_rows(ref, &q, &err), NB_OK);
        k.fixed = s->fixed ? fixed : NULL;
        char what[128];
        snprintf(what, sizeof what, "%s group %d%s N %d K %d%s%s", s->grid, s->group,
                 s->sym ? " sym" : "", (int)N, (int)K, s->fixed ? " fixed" : "",
                 s->order ? " ordered" : "");
        const size_t bytes =
            (size_t)(N * groups_a_row(&k)) * sizeof(nb_group) + (size_t)(N * K) + sizeof(double);
        if (set)
            /* a lane an update, or matrix instructions */
            ops_against_ref(set, &test, &k, bytes, N * K * K / 8, what);
        else
            ops_same_bits(c, &test, &k, bytes, N * K * K / 8, what);
        free(h);
        free(add);
        free(R);
        free(perm);
        free(w);
        free(fixed);
    }
}

static nb_backend *open_ref(check *c)
{
    nb_backend *be = NULL;
    const nb_backend_options opt = {.exact = true};
    CHECK_EQ(c, nb_backend_open("ref", &opt, &be, NULL), NB_OK);
    return be;
}

/* Two columns on a grid of whole numbers. H = [[1 .5] [.5 1]]; inverse = 4/3 [[1 -.5] [-.5 1]]; its
 * upper factor U has U[0][1] / U[0][0] = -.5. w = [0.4 0.6]: q0 = 0, error 0.4 moves w1 to 0.6 +
 * 0.4 / 2 = 0.8 -> 1. w = [1.4 0.4]: w1 = 0.6 -> 1, where rounding alone gives 0. */
static void a_worked_row(check *c)
{
    nb_backend *be = open_ref(c);
    nb_grid grid;
    CHECK_EQ(c, nb_grid_find("int4", 0, true, &grid, NULL), NB_OK);
    if (!be)
        return;
    static const double h[] = {1, 0.5, 0.5, 1}, none[] = {0, 0};
    static const float w[] = {0.4f, 0.6f, 1.4f, 0.4f};
    static const nb_group fixed[] = {{1, 8, 0}, {1, 8, 0}};
    double r[4], scratch[8];
    int64_t failed = -1;
    const nb_factor_args f = {.h = h, .diag_add = none, .K = 2, .r = r, .failed_minor = &failed};
    CHECK_EQ(c, be->op->factor(be, &f, NULL), NB_OK);
    uint8_t codes[4];
    nb_group groups[2];
    nb_gptq_sweep_args a = {.w = w,
                            .N = 2,
                            .K = 2,
                            .r = r,
                            .grid = &grid,
                            .groups_fixed = fixed,
                            .groups = groups,
                            .codes = codes,
                            .scratch = scratch};
    CHECK(c, be->op->gptq_sweep_scratch(be, &a) <= sizeof scratch);
    CHECK_EQ(c, be->op->gptq_sweep(be, &a, NULL), NB_OK);
    static const int want[] = {8, 9, 9, 9};
    for (int i = 0; i < 4; i++)
        CHECK_EQ(c, codes[i], want[i]);
    /* the other way round (H is the same): w1 first. [0.6 -> 1, error -0.4 moves w0 to 0.2 -> 0];
     * [0.4 -> 0, 0.4 moves 1.4 to 1.6 -> 2] */
    static const int32_t perm[] = {1, 0};
    static const int want_back[] = {8, 9, 10, 8};
    a.perm = perm;
    CHECK_EQ(c, be->op->gptq_sweep(be, &a, NULL), NB_OK);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(c, codes[i], want_back[i]);
    a.groups_fixed = NULL; /* another order without fixed groups is no op of ours */
    CHECK_EQ(c, be->op->gptq_sweep(be, &a, NULL), NB_INTERNAL);
    nb_backend_close(be);
}

/* What the sweep is for: its objective is below that of rounding each weight by itself. */
static void sweep_beats_rounding(check *c)
{
    nb_backend *be = open_ref(c);
    if (!be)
        return;
    nb_rng r;
    ops_seed(&r, 5);
    sweep_case k = {.N = 8, .K = 96};
    CHECK_EQ(c, nb_grid_find("int3", 32, false, &k.grid, NULL), NB_OK);
    double *h, *add, *R = ops_alloc(96 * 96, sizeof *R);
    hessian_make(&r, 96, &h, &add);
    float *w = ops_normals(&r, 8 * 96, 0.05f);
    k.w = w;
    k.h = h;
    k.add = add;
    const size_t groups = (size_t)(8 * groups_a_row(&k)) * sizeof(nb_group);
    uint8_t *rtn = ops_alloc(groups + 8 * 96, 1), *gptq = ops_alloc(groups + 8 * 96, 1);
    int64_t failed = -1;
    const nb_factor_args f = {.h = h, .diag_add = add, .K = 96, .r = R, .failed_minor = &failed};
    CHECK_EQ(c, be->op->factor(be, &f, NULL), NB_OK);
    const nb_quantize_rows_args q = {.w = w,
                                     .N = 8,
                                     .K = 96,
                                     .grid = &k.grid,
                                     .groups = (nb_group *)(void *)rtn,
                                     .codes = rtn + groups};
    CHECK_EQ(c, be->op->quantize_rows(be, &q, NULL), NB_OK);
    nb_gptq_sweep_args a = {.w = w,
                            .N = 8,
                            .K = 96,
                            .r = R,
                            .grid = &k.grid,
                            .groups = (nb_group *)(void *)gptq,
                            .codes = gptq + groups};
    a.scratch = ops_alloc(be->op->gptq_sweep_scratch(be, &a), 1);
    CHECK_EQ(c, be->op->gptq_sweep(be, &a, NULL), NB_OK);
    const double alone = objective(&k, rtn, NULL), swept = objective(&k, gptq, NULL);
    CHECK(c, swept < 0.8 * alone);
    free(a.scratch);
    free(rtn);
    free(gptq);
    free(w);
    free(h);
    free(add);
    free(R);
    nb_backend_close(be);
}

static void every_shape(check *c)
{
    ops_set set;
    ops_set_open(&set, c);
    if (set.n)
        each_shape(c, &set, set.o[0].be);
    ops_set_close(&set);
}

static void same_bits(check *c)
{
    nb_backend *ref = open_ref(c);
    if (ref)
        each_shape(c, NULL, ref);
    nb_backend_close(ref);
}

static const check_case cases[] = {
    {"ref spreads the error of worked rows, forwards and backwards", a_worked_row},
    {"the sweep leaves a smaller error than rounding alone", sweep_beats_rounding},
    {"every backend gives ref's codes but for ties", every_shape},
    {"the bits do not depend on the run or the number of threads", same_bits},
};
CHECK_MAIN(cases)
