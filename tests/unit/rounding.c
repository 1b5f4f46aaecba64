/* rounding.c -- what rounding to nearest must give: the worked example of int8 absmax, errors of
 * whole grids on normal values against a table that another program measured (relative error
 * sqrt(sum (q - w)^2 / sum w^2), at least 2^22 samples, within 2 %), and what clipping does to
 * them. */
#include "base/random.h"
#include "check.h"
#include "quant/quantizer.h"

enum { kSamples = 1 << 22, kRow = 4096 };

static void worked(check *c)
{
    static const float w[8] = {1.6f, -0.7f, -3.4f, 1.7f, -2.9f, 0.5f, 2.3f, 6.2f};
    static const int code[8] = {33, -14, -70, 35, -59, 10, 47, 127};
    static const float value[8] = {1.61102f,  -0.68346f, -3.41732f, 1.70866f,
                                   -2.88031f, 0.48819f,  2.29449f,  6.2f};
    nb_error err = {.message = ""};
    nb_grid g;
    nb_group p;
    CHECK_EQ(c, nb_grid_find("int8", 0, true, &g, &err), NB_OK);
    CHECK_EQ(c, nb_grid_set_range(&g, "absmax", &err), NB_OK);
    CHECK_STR(c, err.message, "");
    g.params(&g, w, 8, &p);
    CHECK_NEAR(c, p.zero, 128.0, 0.0, "codes are stored from 0 on");
    for (int i = 0; i < 8; i++) {
        const int q = nb_grid_round(&g, &p, w[i]);
        CHECK_EQ(c, q - 128, code[i]);
        CHECK_NEAR(c, nb_grid_value(&g, &p, q), value[i], 0.0015,
                   "the scale is stored as f16"); /* 2^-11 of 6.2 at 127 steps, half a unit */
    }
}

/* N(0,1) with its tails, which decide the range of a long group (nb_rng_normal sums uniforms and
 * has none); once for all. */
static const float *normals(void)
{
    static float w[kSamples];
    if (w[0] != 0.0f)
        return w;
    nb_rng r;
    nb_rng_seed(&r, 11);
    for (int i = 0; i < kSamples; i += 2) { /* Box and Muller 1958 */
        const double u = 1.0 - nb_rng_double(&r), v = nb_rng_double(&r);
        w[i] = (float)(sqrt(-2.0 * log(u)) * cos(2.0 * 3.14159265358979323846 * v));
        w[i + 1] = (float)(sqrt(-2.0 * log(u)) * sin(2.0 * 3.14159265358979323846 * v));
    }
    return w;
}

/* Relative error of a job's rounding on rows of N(0,1). */
static double error_of(check *c, const char *name, int group, bool sym, const char *range,
                       nb_clip clip)
{
    nb_error err = {.message = ""};
    nb_grid grid;
    nb_backend *be = NULL;
    const nb_backend_options o = {.n_thread = 1};
    const int64_t N = kSamples / kRow;
    const size_t n = kSamples, n_group = n / (size_t)(group ? group : kRow);
    float *w = malloc(n * sizeof *w),
          *q = malloc(n * sizeof *q); /* w: a quantizer may change its own */
    uint8_t *codes = malloc(n);
    nb_group *groups = malloc(n_group * sizeof *groups);
    nb_quant_stats stats = {0};
    double e = 0, all = 0;
    if (w)
        memcpy(w, normals(), n * sizeof *w);
    nb_status st = nb_grid_find(name, group, sym, &grid, &err);
    if (st == NB_OK && range)
        st = nb_grid_set_range(&grid, range, &err);
    if (st == NB_OK)
        st = nb_backend_open("cpu", &o, &be, &err);
    const nb_quant_job j = {.be = be,
                            .grid = &grid,
                            .w = w,
                            .N = N,
                            .K = kRow,
                            .clip = clip,
                            .codes = codes,
                            .groups = groups,
                            .q = q,
                            .stats = &stats};
    if (st == NB_OK)
        st = nb_quantizer_find("rtn")->layer(&j, &err); /* memory of the CPU is the host's */
    CHECK_STR(c, err.message, "");
    for (size_t i = 0; st == NB_OK && i < n; i++) {
        e += ((double)q[i] - (double)w[i]) * ((double)q[i] - (double)w[i]);
        all += (double)w[i] * (double)w[i];
    }
    nb_backend_close(be);
    free(w);
    free(q);
    free(codes);
    free(groups);
    return all > 0.0 ? sqrt(e / all) : -1.0;
}

static void table(check *c)
{
    static const struct {
        const char *grid;
        bool sym;
        const char *range;
        int group;
        double error;
    } rows[] = {
        {"int4", true, "absmax", 32, .0970},  {"int4", true, "absmax", 64, .1076},
        {"int4", true, "absmax", 128, .1173}, {"int4", true, "absmax", 0, .1578},
        {"int4", false, NULL, 32, .0808},     {"int4", false, NULL, 64, .0911},
        {"int4", false, NULL, 128, .1006},    {"int8", true, "absmax", 32, .00535},
        {"int8", true, "absmax", 64, .00593}, {"int8", true, "absmax", 128, .00647},
        {"int8", true, "absmax", 0, .00870},  {"int3", true, "absmax", 32, .2265},
        {"int3", true, "absmax", 64, .2513},  {"int3", true, "absmax", 128, .2739},
        {"int3", false, NULL, 32, .1730},     {"int3", false, NULL, 64, .1951},
        {"int3", false, NULL, 128, .2156},    {"int2", false, NULL, 32, .406},
        {"int2", false, NULL, 64, .457},      {"int2", false, NULL, 128, .503},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const double e =
            error_of(c, rows[i].grid, rows[i].group, rows[i].sym, rows[i].range, NB_CLIP_NONE);
        printf("      %s %s group %d: %.5f, the table has %.5f\n", rows[i].grid,
               rows[i].sym ? rows[i].range : "asym", rows[i].group, e, rows[i].error);
        CHECK_NEAR(c, e, rows[i].error, 0.02 * rows[i].error, rows[i].grid);
    }
}

/* All codes are used: less error than with the extremes met, for bits where that matters. */
static void full_range(check *c)
{
    CHECK(c, error_of(c, "int4", 64, true, "full", NB_CLIP_NONE) <
                 error_of(c, "int4", 64, true, "absmax", NB_CLIP_NONE));
    CHECK(c, error_of(c, "int3", 64, true, "full", NB_CLIP_NONE) <
                 0.95 * error_of(c, "int3", 64, true, "absmax", NB_CLIP_NONE));
}

/* The table has codes from -7 to 7 (-127 to 127); what is clipped may also take -8 here, so less is
 * lost: up to 5 %. */
static void clipped(check *c)
{
    static const struct {
        const char *grid;
        nb_clip clip;
        double error;
    } rows[] = {{"int4", NB_CLIP_QUANTILE, .1350},
                {"int4", NB_CLIP_MSE, .1134},
                {"int8", NB_CLIP_QUANTILE, .0138},
                {"int8", NB_CLIP_MSE, .00857}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const double e = error_of(c, rows[i].grid, 0, true, "absmax", rows[i].clip);
        printf("      %s rows of 4096, clip %d: %.5f, the table has %.5f\n", rows[i].grid,
               (int)rows[i].clip, e, rows[i].error);
        CHECK(c, e < 1.02 * rows[i].error);
        CHECK(c, e > 0.95 * rows[i].error);
    }
}

static const check_case cases[] = {
    {"int8 absmax has the codes of the worked example", worked},
    {"grids have the errors of the table on normal values", table},
    {"the full range of codes has less error than the restricted one", full_range},
    {"clipping has the errors of the table: it helps 4 bits, a quantile hurts 8", clipped},
};
CHECK_MAIN(cases)
