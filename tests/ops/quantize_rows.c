/* quantize_rows.c -- round to nearest and back, on every grid and backend: equal to the last bit.
 * NUMERICS.md "quantize_rows", "dequantize".
 *
 * out of a run: groups, then codes, then the dequantized values, behind one another. */
#include "ops/ops.h"

typedef struct rows_case {
    int64_t N, K;
    const float *w;
    nb_grid grid;
} rows_case;

static int64_t groups_a_row(const rows_case *c)
{
    const int64_t group = c->grid.group ? c->grid.group : c->K;
    return (c->K + group - 1) / group;
}

static bool run_rows(ops *o, const void *args, void *out)
{
    const rows_case *k = args;
    nb_error err = {.message = ""};
    if (!ops_has(o, o->be->op->quantize_rows != NULL, "quantize_rows") ||
        !ops_has(o, o->be->op->dequantize != NULL, "dequantize"))
        return false;
    const size_t n = (size_t)(k->N * k->K), g = (size_t)(k->N * groups_a_row(k));
    nb_quantize_rows_args a = {.w = ops_in(o, k->w, n * sizeof(float)),
                               .N = k->N,
                               .K = k->K,
                               .grid = &k->grid,
                               .groups = ops_out(o, g * sizeof(nb_group))};
    bool good =
        ops_ok(o, o->be->op->quantize_rows(o->be, &a, &err), &err); /* parameters only ... */
    nb_group *alone = ops_alloc(g, sizeof *alone);
    if (good)
        ops_get(o, a.groups, alone);
    a.groups = ops_out(o, g * sizeof(nb_group));
    a.codes = ops_out(o, n);
    good =
        good && ops_ok(o, o->be->op->quantize_rows(o->be, &a, &err), &err); /* ... and with codes */
    const nb_dequantize_args d = {.codes = a.codes,
                                  .groups = a.groups,
                                  .N = k->N,
                                  .K = k->K,
                                  .grid = &k->grid,
                                  .q = ops_out(o, n * sizeof(float))};
    good = good && ops_ok(o, o->be->op->dequantize(o->be, &d, &err), &err);
    if (good) {
        uint8_t *to = out;
        ops_get(o, a.groups, to);
        o->c->n_check++;
        if (memcmp(to, alone, g * sizeof *alone) != 0)
            check_report(o->c, __FILE__, __LINE__,
                         "%s: parameters depend on whether codes are asked for", o->what);
        ops_get(o, a.codes, to += g * sizeof *alone);
        ops_get(o, d.q, to + n);
    }
    free(alone);
    return good;
}

static void compare_rows(ops *o, const void *args, const void *got, const void *want)
{
    const rows_case *c = args;
    const size_t n = (size_t)(c->N * c->K), g = (size_t)(c->N * groups_a_row(c)) * sizeof(nb_group);
    const uint8_t *a = got, *b = want;
    o->c->n_check += 3;
    if (memcmp(a, b, g) != 0)
        check_report(o->c, __FILE__, __LINE__, "%s: other groups than ref", o->what);
    if (memcmp(a + g, b + g, n) != 0)
        check_report(o->c, __FILE__, __LINE__, "%s: other codes than ref", o->what);
    if (memcmp(a + g + n, b + g + n, n * sizeof(float)) != 0)
        check_report(o->c, __FILE__, __LINE__, "%s: other values than ref", o->what);
}

static const ops_test test = {run_rows, compare_rows};

typedef struct grid_row {
    const char *name;
    int group;
    bool sym;
} grid_row;

static const grid_row ints[] = {{"int2", 32, false}, {"int2", 64, true},  {"int3", 64, false},
                                {"int3", 128, true}, {"int4", 32, true},  {"int4", 128, false},
                                {"int4", 0, false},  {"int8", 128, true}, {"int8", 0, false}};
enum { kInts = sizeof ints / sizeof *ints };

/* Row i: the integer grids above, then every number format that is a grid. */
static bool grid_at(int i, grid_row *out)
{
    if (i < kInts) {
        *out = ints[i];
        return true;
    }
    i -= kInts;
    for (const nb_dtype *const *t = nb_dtypes; *t; t++)
        if ((*t)->rule && i-- == 0) {
            *out = (grid_row){(*t)->name, (*t)->group, !(*t)->has_min};
            return true;
        }
    return false;
}

static void each_grid(check *c, ops_set *set)
{
    static const int64_t all_N[] = {1, 15, 16, 17, 64, 272}, all_K[] = {32, 64, 96, 172, 576, 1536};
    grid_row grid;
    for (int i = 0; grid_at(i, &grid); i++)
        for (int s = 0; s < 6; s++) {
            nb_rng r;
            ops_seed(&r, (uint64_t)(700 + i * 6 + s));
            rows_case k = {.N = all_N[(s + i) % 6], .K = all_K[s]};
            nb_error err = {.message = ""};
            if (nb_grid_find(grid.name, grid.group, grid.sym, &k.grid, &err) != NB_OK) {
                check_report(c, __FILE__, __LINE__, "%s: %s", grid.name, err.message);
                continue;
            }
            if (k.grid.dtype && k.K % k.grid.group != 0) /* blocks of a format are whole */
                k.K = 96;
            float *w = ops_normals(&r, k.N * k.K, 0.05f);
            memset(w, 0, (size_t)(k.K / 2) * sizeof *w); /* a group of zeros */
            for (int64_t j = k.K / 2; j < k.K; j++)
                w[j] = fabsf(w[j]);  /* one of one sign */
            w[k.N * k.K - 1] = 3.0f; /* an outlier in the last, maybe short, group */
            if (k.N > 1) {           /* extremes of the same magnitude */
                w[k.K] = 0.7f;
                w[k.K + 1] = -0.7f;
            }
            /* steps of 1/2 and 1/4 in q4_0 and q5_0, values at their halves */
            for (int64_t j = 0; k.N > 2 && j < k.K; j++)
                w[2 * k.K + j] = j % 32 ? (float)(j % 32 - 16) * 0.125f : -4.0f;
            k.w = w;
            char what[96];
            snprintf(what, sizeof what, "%s group %d%s N %d K %d", grid.name, grid.group,
                     grid.sym ? " sym" : "", (int)k.N, (int)k.K);
            const size_t bytes =
                (size_t)(k.N * groups_a_row(&k)) * sizeof(nb_group) + (size_t)(k.N * k.K) * 5;
            if (set)
                ops_against_ref(set, &test, &k, bytes, k.N * k.K, what);
            else if (s > 3)
                ops_same_bits(c, &test, &k, bytes, k.N * k.K, what);
            free(w);
        }
}

/* int4 in groups of 32 of a row of 40: the first group spans [-7.5, 7.5], the last (8 values) [0,
 * 15] in steps of 1. */
static void a_worked_row(check *c)
{
    nb_error err = {.message = ""};
    nb_backend *be = NULL;
    nb_grid grid;
    const nb_backend_options opt = {.exact = true};
    CHECK_EQ(c, nb_backend_open("ref", &opt, &be, &err), NB_OK);
    CHECK_EQ(c, nb_grid_find("int4", 32, false, &grid, &err), NB_OK);
    if (!be)
        return;
    float w[40] = {0}, q[40];
    uint8_t codes[40];
    nb_group groups[2];
    w[0] = -7;
    w[1] = 8;
    w[2] = 2.4f;
    w[3] = -1.6f;
    w[32] = 15;
    w[33] = 7.4f;
    const nb_quantize_rows_args a = {
        .w = w, .N = 1, .K = 40, .grid = &grid, .groups = groups, .codes = codes};
    CHECK_EQ(c, be->op->quantize_rows(be, &a, &err), NB_OK);
    CHECK_NEAR(c, groups[0].scale, 1, 0, "scale of the first group");
    CHECK_NEAR(c, groups[0].zero, 7, 0, "zero of the first group");
    CHECK_NEAR(c, groups[1].scale, 1, 0, "scale of the short group");
    CHECK_NEAR(c, groups[1].zero, 0, 0, "zero of the short group");
    static const int want[] = {0, 15, 9, 5, 7};
    for (int i = 0; i < 5; i++)
        CHECK_EQ(c, codes[i], want[i]);
    CHECK_EQ(c, codes[32], 15);
    CHECK_EQ(c, codes[33], 7);
    const nb_dequantize_args d = {
        .codes = codes, .groups = groups, .N = 1, .K = 40, .grid = &grid, .q = q};
    CHECK_EQ(c, be->op->dequantize(be, &d, &err), NB_OK);
    CHECK_NEAR(c, q[2], 2, 0, "2.4 rounds to 2");
    CHECK_NEAR(c, q[3], -2, 0, "-1.6 rounds to -2");
    CHECK_NEAR(c, q[33], 7, 0, "7.4 rounds to 7");
    nb_backend_close(be);
}

static void every_grid(check *c)
{
    ops_set set;
    ops_set_open(&set, c);
    each_grid(c, &set);
    ops_set_close(&set);
}

static void same_bits(check *c)
{
    each_grid(c, NULL);
}

static const check_case cases[] = {
    {"ref rounds a worked row with a short last group", a_worked_row},
    {"every backend gives ref's groups, codes and values to the last bit", every_grid},
    {"the bits do not depend on the run or the number of threads", same_bits},
};
CHECK_MAIN(cases)
