/* sample.c -- drawing a token: worked by hand, and every backend against ref. The op is defined to
 * the bit (csrc/backend/sample.h), so tokens are compared, not distributions; that the weights are
 * those of e^x is held to libm here. */
#include "backend/sample.h"
#include "ops/ops.h"

typedef struct sample_case {
    int64_t M, N, ldx;
    const float *x;
    const uint64_t *draw;
    float temp, top_p, min_p;
    int32_t top_k;
} sample_case;

static bool run_sample(ops *o, const void *args, void *out)
{
    const sample_case *k = args;
    nb_error err = {.message = ""};
    if (!ops_has(o, o->be->op->sample != NULL, "sample"))
        return false;
    nb_sample_args a = {.x = ops_in(o, k->x, (size_t)(k->M * k->ldx) * sizeof(float)),
                        .M = k->M,
                        .N = k->N,
                        .ldx = k->ldx,
                        .temp = k->temp,
                        .top_k = k->top_k,
                        .top_p = k->top_p,
                        .min_p = k->min_p,
                        .draw = ops_in(o, k->draw, (size_t)k->M * sizeof *k->draw)};
    a.out = ops_out(o, (size_t)k->M * sizeof(int32_t));
    a.scratch = ops_out(o, o->be->op->sample_scratch(o->be, &a));
    const bool good = ops_ok(o, o->be->op->sample(o->be, &a, &err), &err);
    if (good)
        ops_get(o, a.out, out);
    return good;
}

static void compare_sample(ops *o, const void *args, const void *got, const void *want)
{
    const sample_case *c = args;
    const int32_t *y = got, *ref = want;
    for (int64_t m = 0; m < c->M; m++) {
        o->c->n_check++;
        if (y[m] != ref[m])
            check_report(o->c, __FILE__, __LINE__, "%s: row %d: token %d, expected %d", o->what,
                         (int)m, y[m], ref[m]);
    }
}

static const ops_test sample_test = {run_sample, compare_sample};

/* What each row is like: normal; few levels, so that many tie; all equal; a third -infinite; one
 * far above the others. */
static void fill(nb_rng *r, float *x, int64_t N, int kind)
{
    for (int64_t n = 0; n < N; n++)
        x[n] = kind == 0   ? 3.0f * nb_rng_normal(r)
               : kind == 1 ? (float)(nb_rng_u64(r) % 5) - 7.0f
               : kind == 2 ? 1.5f
               : kind == 3 ? (nb_rng_u64(r) % 3 ? 2.0f * nb_rng_normal(r) : -HUGE_VALF)
                           : -30.0f + nb_rng_normal(r);
    if (kind == 4)
        x[nb_rng_u64(r) % (uint64_t)N] = 4.0f;
}

static const struct {
    float temp, top_p, min_p;
    int32_t top_k;
} settings[] = {
    {1.0f, 1.0f, 0.0f, 0},   {0.8f, 0.95f, 0.05f, 40}, {0.01f, 1.0f, 0.0f, 0},
    {50.0f, 1.0f, 0.0f, 0},  {1.0f, 0.5f, 0.0f, 0},    {1.3f, 1.0f, 0.1f, 0},
    {1.0f, 1.0f, 0.0f, 1},   {2.0f, 0.999f, 0.0f, 17}, {1.0f, 0.0f, 2.0f, 0},
    {1.0f, 1e-9f, 0.0f, 0},  {3.0f, 0.9f, 1e-4f, 300}, {1.0f, 1.0f, 1.0f, 1 << 30},
    {1e-30f, 1.0f, 0.0f, 0},
};
enum { N_SETTINGS = sizeof settings / sizeof *settings };

static void one_case(check *c, ops_set *set, int64_t M, int64_t N, int64_t ldx, int s,
                     uint64_t seed)
{
    nb_rng r;
    ops_seed(&r, seed);
    float *x = ops_rows(&r, M, N, ldx, 1.0f);
    uint64_t *draw = ops_alloc((size_t)M, sizeof *draw);
    for (int64_t m = 0; m < M; m++) {
        fill(&r, x + m * ldx, N, (int)((m + (int64_t)seed) % 5));
        /* both ends of what is kept */
        draw[m] = m % 7 == 5 ? 0 : m % 7 == 6 ? UINT64_MAX : nb_rng_u64(&r);
    }
    sample_case k = {.M = M,
                     .N = N,
                     .ldx = ldx,
                     .x = x,
                     .draw = draw,
                     .temp = settings[s].temp,
                     .top_p = settings[s].top_p,
                     .min_p = settings[s].min_p,
                     .top_k = settings[s].top_k};
    char what[128];
    snprintf(what, sizeof what, "M %d N %d ldx %d temp %g top-k %d top-p %g min-p %g", (int)M,
             (int)N, (int)ldx, (double)k.temp, k.top_k, (double)k.top_p, (double)k.min_p);
    if (set)
        ops_against_ref(set, &sample_test, &k, (size_t)M * sizeof(int32_t), M * N, what);
    else
        ops_same_bits(c, &sample_test, &k, (size_t)M * sizeof(int32_t), M * N, what);
    if (set && s == 1) { /* a fault anywhere in a row, not in all rows */
        for (int64_t m = 0; m < M; m += 2)
            x[m * ldx + (int64_t)(nb_rng_u64(&r) % (uint64_t)N)] = m % 4 ? HUGE_VALF : NAN;
        snprintf(what, sizeof what, "M %d N %d with NaN and Inf", (int)M, (int)N);
        ops_against_ref(set, &sample_test, &k, (size_t)M * sizeof(int32_t), M * N, what);
    }
    free(x);
    free(draw);
}

static void agrees(check *c)
{
    static const int64_t all_M[] = {1, 3, 8}, all_N[] = {1, 2, 31, 33, 272, 1025, 4097, 12288};
    ops_set set;
    ops_set_open(&set, c);
    uint64_t seed = 2100;
    for (int s = 0; s < N_SETTINGS; s++)
        for (int j = 0; j < 8; j++)
            one_case(c, &set, all_M[(s + j) % 3], all_N[j], all_N[j] + j % 3, s, seed++);
    for (int i = 0; i < 5; i++)
        one_case(c, &set, 1, 49152, 49152, i, 1000 + (uint64_t)i); /* one of each kind of row */
    one_case(c, &set, 1, 262144, 262144, 1, 5);
    /* not on the emulator: gemma3's images have tokens of their own */
    one_case(c, &set, 3, 262208, 262208, 10, 6);
    ops_set_close(&set);
}

static int32_t draw_on(check *c, nb_backend *be, const float *x, int64_t N, const sample_case *k,
                       double where)
{
    nb_error err = {.message = ""};
    const uint64_t draw = (uint64_t)(where * 0x1p32) << 32;
    int32_t out = -7;
    nb_sample_args a = {.x = x,
                        .M = 1,
                        .N = N,
                        .ldx = N,
                        .temp = k->temp,
                        .top_k = k->top_k,
                        .top_p = k->top_p,
                        .min_p = k->min_p,
                        .draw = &draw,
                        .out = &out};
    a.scratch = ops_alloc(be->op->sample_scratch(be, &a), 1);
    CHECK_EQ(c, be->op->sample(be, &a, &err), NB_OK);
    free(a.scratch);
    return out;
}

static void worked_values(check *c)
{
    /* e^x is 4, 2, 2, 1, 1 of 10, in the order 2, 1, 3, 0, 4: places 0 .4 .6 .8 .9 1 */
    static const float x[] = {0.0f, 0.69314718f, 1.38629436f, 0.69314718f, 0.0f};
    static const struct {
        sample_case k;
        double where;
        int32_t want;
    } rows[] = {
        {{.temp = 1.0f}, 0.0, 2},
        {{.temp = 1.0f}, 0.39, 2},
        {{.temp = 1.0f}, 0.41, 1},
        {{.temp = 1.0f}, 0.61, 3},
        {{.temp = 1.0f}, 0.81, 0},
        {{.temp = 1.0f}, 0.91, 4},
        {{.temp = 1.0f, .top_k = 2}, 0.65, 2}, /* 4 and 2 of 6 */
        {{.temp = 1.0f, .top_k = 2}, 0.68, 1},
        {{.temp = 1.0f, .top_k = 9}, 0.91, 4},
        {{.temp = 1.0f, .top_p = 0.3f}, 0.99, 2},
        {{.temp = 1.0f, .top_p = 0.5f}, 0.99, 1}, /* 4 do not reach 5, 6 do */
        {{.temp = 1.0f, .top_p = 0.7f}, 0.99, 3},
        {{.temp = 1.0f, .top_p = 0.5f, .top_k = 1}, 0.99, 2},
        {{.temp = 1.0f, .min_p = 0.3f}, 0.99, 3}, /* 1 of 4 is less than 0.3, 2 are not */
        {{.temp = 1.0f, .min_p = 0.6f}, 0.99, 2},
        {{.temp = 1.0f, .min_p = 5.0f}, 0.99, 2},
        {{.temp = 0.5f}, 0.6, 2}, /* 16, 4, 4, 1, 1 of 26: .615 .769 .923 */
        {{.temp = 0.5f}, 0.63, 1},
        {{.temp = 0.5f}, 0.93, 0},
    };
    static const char *const devices[] = {"ref", "cpu"};
    const nb_backend_options opt = {.exact = true, .n_thread = 1};
    for (int d = 0; d < 2; d++) {
        nb_error err = {.message = ""};
        nb_backend *be = NULL;
        CHECK_EQ(c, nb_backend_open(devices[d], &opt, &be, &err), NB_OK);
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            const int32_t got = draw_on(c, be, x, 5, &rows[i].k, rows[i].where);
            c->n_check++;
            if (got != rows[i].want)
                check_report(c, __FILE__, __LINE__, "%s, row %zu: token %d, expected %d",
                             devices[d], i, got, rows[i].want);
        }
        const float none[] = {-HUGE_VALF, -HUGE_VALF}, edge[] = {0.0f, -19.9f, -20.1f};
        /* none is likelier than another */
        CHECK_EQ(c, draw_on(c, be, none, 2, &rows[0].k, 0.7), 1);
        /* the third is no candidate */
        CHECK_EQ(c, draw_on(c, be, edge, 3, &rows[0].k, 1 - 0x1p-32), 1);
        nb_backend_close(be);
    }
}

static void weights(check *c)
{
    double worst = 0;
    float last = 0;
    for (int i = 0; i <= 2000000; i++) {
        const float d = NB_SAMPLE_LEAST + 1e-5f * (float)i > 0 ? 0
                                                               : NB_SAMPLE_LEAST + 1e-5f * (float)i,
                    p = nb_sample_p(d);
        const double off = fabs((double)p / exp((double)d) - 1);
        worst = off > worst ? off : worst;
        last = p;
    }
    CHECK_NEAR(c, worst, 0, 0x1p-22, "relative error of p");
    CHECK(c, nb_sample_p(0.0f) == 1.0f && last <= 1.0f && nb_sample_p(NB_SAMPLE_LEAST) > 0x1p-29f);
    CHECK(c, nb_sample_weight(1.0f) == (uint64_t)1 << 44);
    CHECK(c, nb_sample_spot(0, 12345) == 0 && nb_sample_spot(UINT64_MAX, 12345) == 12344);
    CHECK(c, nb_sample_spot((uint64_t)1 << 63, ((uint64_t)1 << 62) + 2) == ((uint64_t)1 << 61) + 1);
    /* the upper half of the product, by Python */
    CHECK(c, nb_sample_spot(0xfedcba9876543210u, 0x0123456789abcdefu) == 0x0121fa00ad77d742u);
    CHECK(c, nb_sample_share(0.5f, 9) == 5 && nb_sample_share(0.5f, 10) == 5 &&
                 nb_sample_share(1e-9f, 10) == 1);
}

static void same_bits(check *c)
{
    one_case(c, NULL, 8, 1025, 1030, 1, 77);
    one_case(c, NULL, 3, 12288, 12288, 0, 78);
}

static void too_many(check *c)
{
    nb_error err = {.message = ""};
    nb_backend *be = NULL;
    const nb_backend_options opt = {.n_thread = 1};
    const nb_sample_args a = {.M = 1, .N = NB_SAMPLE_MOST_N + 1};
    CHECK_EQ(c, nb_backend_open("cpu", &opt, &be, &err), NB_OK);
    CHECK_EQ(c, be->op->sample(be, &a, &err), NB_UNSUPPORTED);
    CHECK_STR(c, err.message, "cpu: sample from 524289 tokens, at most 524288");
    nb_backend_close(be);
}

static const check_case cases[] = {
    {"ref and cpu draw what was worked out by hand", worked_values},
    {"p is e^d, its weights and places in a sum are exact", weights},
    {"every backend draws ref's tokens, at every setting, from ties and infinities too", agrees},
    {"the tokens do not depend on the run or the number of threads", same_bits},
    {"more tokens than the sums hold are refused", too_many},
};
CHECK_MAIN(cases)
