/* drift.c -- drift_accumulate on every backend: against ref, and against W times gram's own C.
 * NUMERICS.md "drift_accumulate". */
#include "ops/bounds.h"
#include "ops/ops.h"

enum { BLOCK = 256 }; /* products that may be summed in f32 */

typedef struct drift_case {
    int64_t M, K, N, ldx, ld_orig;
    const float *x, *orig, *w, *scale; /* scale NULL: none */
    const double *d;                   /* what is accumulated onto */
} drift_case;

static bool run_drift(ops *o, const void *args, void *out)
{
    const drift_case *k = args;
    nb_error err = {.message = ""};
    if (!ops_has(o, o->be->op->drift_accumulate != NULL, "drift_accumulate"))
        return false;
    nb_drift_args a = {.x = ops_in(o, k->x, (size_t)(k->M * k->ldx) * sizeof(float)),
                       .x_orig = ops_in(o, k->orig, (size_t)(k->M * k->ld_orig) * sizeof(float)),
                       .M = k->M,
                       .K = k->K,
                       .ldx = k->ldx,
                       .ld_orig = k->ld_orig,
                       .scale = k->scale ? ops_in(o, k->scale, (size_t)k->K * sizeof(float)) : NULL,
                       .w = ops_in(o, k->w, (size_t)(k->N * k->K) * sizeof(float)),
                       .N = k->N,
                       .d = ops_inout(o, k->d, (size_t)(k->N * k->K) * sizeof(double))};
    a.scratch = ops_out(o, o->be->op->drift_scratch(o->be, &a));
    bool good = true;
    if (k->M > BLOCK) { /* in two calls: the tokens of whole blocks, and the rest */
        nb_drift_args first = a;
        first.M = k->M / BLOCK * BLOCK;
        good = ops_ok(o, o->be->op->drift_accumulate(o->be, &first, &err), &err);
        a.x += first.M * a.ldx;
        a.x_orig += first.M * a.ld_orig;
        a.M -= first.M;
    }
    good = good && ops_ok(o, o->be->op->drift_accumulate(o->be, &a, &err), &err);
    if (good)
        ops_get(o, a.d, out);
    return good;
}

/* y of a token and a row of W, and how far it may be off: differences and y rounded to f32, sums of
 * a block of inputs. */
static double y_of(const drift_case *c, int64_t m, int64_t n, double *off)
{
    bound_sum s = {0, 0};
    double y = 0, differences = 0;
    for (int64_t k = 0; k < c->K; k++) {
        const double d = (double)c->orig[m * c->ld_orig + k] /
                             (c->scale ? (double)c->scale[k] : 1) -
                         (double)c->x[m * c->ldx + k],
                     t = (double)c->w[n * c->K + k] * d;
        if (k % BLOCK == 0)
            s.sum = 0;
        bound_add(&s, t);
        y += t;
        differences += t * t;
    }
    *off = BOUND_U * (8 * sqrt(s.drift) + 8 * sqrt(differences) + fabs(y));
    return y;
}

static void compare_drift(ops *o, const void *args, const void *got, const void *want)
{
    const drift_case *c = args;
    const double *d = got, *ref = want;
    double *y = ops_alloc((size_t)c->M, sizeof *y), *off = ops_alloc((size_t)c->M, sizeof *off);
    for (int64_t n = 0; n < c->N; n++) {
        for (int64_t m = 0; m < c->M; m++)
            y[m] = y_of(c, m, n, &off[m]);
        for (int64_t k = 0; k < c->K; k++) {
            bound_sum s = {0, 0};
            double of_y = 0; /* what the y are off adds up at random */
            for (int64_t m = 0; m < c->M; m++) {
                const double x = (double)c->x[m * c->ldx + k];
                if (m % BLOCK == 0)
                    s.sum = 0;
                bound_add(&s, y[m] * x);
                of_y += off[m] * off[m] * x * x;
            }
            CHECK_NEAR(o->c, d[n * c->K + k], ref[n * c->K + k],
                       BOUND_U * 8 * sqrt(s.drift) + sqrt(of_y) + 0x1p-50 * fabs(ref[n * c->K + k]),
                       o->what);
        }
    }
    free(y);
    free(off);
}

static const ops_test drift_test = {run_drift, compare_drift};

/* What a case's numbers are like. */
typedef enum data { PLAIN, SPREAD, SCALED } data;
static const char *const of_kind[] = {"", ", powers of two apart", ", scaled"};

/* Powers of two apart: tokens 2^-8 to 2^8, rows of W 2^-20 to 2^20, inputs 2^-12 to 2^12. The last
 * token has no drift, the last row of W and the last input are zero. */
static void spread(nb_rng *r, const drift_case *k, float *x, float *orig, float *w)
{
    for (int64_t m = 0; m < k->M; m++) {
        const int token = (int)(nb_rng_u64(r) % 17) - 8;
        for (int64_t j = 0; j < k->K; j++) {
            const float by = j == k->K - 1 ? 0.0f : ldexpf(1.0f, token + (int)(j * 7 % 25) - 12);
            x[m * k->ldx + j] *= by;
            orig[m * k->ld_orig + j] *= by;
            if (m == k->M - 1)
                orig[m * k->ld_orig + j] = x[m * k->ldx + j];
        }
    }
    for (int64_t n = 0; n < k->N; n++)
        for (int64_t j = 0; j < k->K; j++)
            w[n * k->K + j] *= n == k->N - 1 ? 0.0f : ldexpf(1.0f, (int)(n * 11 % 41) - 20);
}

/* Scales of 1/8 to 8, and the original's inputs as if x had been divided by them. */
static float *scales(nb_rng *r, const drift_case *k, const float *x, float *orig)
{
    float *s = ops_alloc((size_t)k->K, sizeof *s);
    for (int64_t j = 0; j < k->K; j++)
        s[j] = exp2f((float)(6.0 * nb_rng_double(r) - 3.0));
    for (int64_t m = 0; m < k->M; m++)
        for (int64_t j = 0; j < k->K; j++) {
            const float at = x[m * k->ldx + j], by = orig[m * k->ld_orig + j] - at;
            orig[m * k->ld_orig + j] = s[j] * (at + 0.1f * by);
        }
    return s;
}

/* Inputs as they are behind quantized layers: those of the original near x, and with scales near
 * scale x, the drift a hundredth of x. The caller frees what the case borrows. */
static drift_case make(nb_rng *r, int64_t M, int64_t K, int64_t N, int64_t gap, data kind)
{
    drift_case k = {.M = M, .K = K, .N = N, .ldx = K + gap, .ld_orig = K + gap / 2};
    float *x = ops_rows(r, M, K, k.ldx, 1.0f), *orig = ops_rows(r, M, K, k.ld_orig, 0.1f);
    float *w = ops_normals(r, N * K, 1.0f);
    double *d = ops_alloc((size_t)(N * K), sizeof *d);
    for (int64_t m = 0; m < M; m++)
        for (int64_t j = 0; j < K; j++)
            orig[m * k.ld_orig + j] += x[m * k.ldx + j];
    for (int64_t i = 0; i < N * K; i++)
        d[i] = (double)nb_rng_normal(r);
    if (kind == SPREAD)
        spread(r, &k, x, orig, w);
    if (kind == SCALED)
        k.scale = scales(r, &k, x, orig);
    k.x = x;
    k.orig = orig;
    k.w = w;
    k.d = d;
    return k;
}

static void unmake(const drift_case *k)
{
    free((void *)(uintptr_t)k->x);
    free((void *)(uintptr_t)k->orig);
    free((void *)(uintptr_t)k->w);
    free((void *)(uintptr_t)k->scale);
    free((void *)(uintptr_t)k->d);
}

static const struct {
    int64_t M, K, N;
    data kind;
} shapes[] = {{1, 1, 1, PLAIN},      {1, 32, 15, PLAIN},    {7, 64, 16, PLAIN},
              {15, 257, 3, PLAIN},   {16, 172, 49, PLAIN},  {33, 96, 40, PLAIN},
              {64, 300, 64, PLAIN},  {300, 80, 17, PLAIN},  {513, 48, 5, PLAIN},
              {17, 576, 193, PLAIN}, {70, 130, 67, SPREAD}, {300, 65, 20, SPREAD},
              {1, 1, 1, SCALED},     {19, 97, 33, SCALED},  {270, 40, 9, SCALED}};

static void each_drift(check *c, ops_set *set)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        nb_rng r;
        ops_seed(&r, 360 + i);
        const drift_case k =
            make(&r, shapes[i].M, shapes[i].K, shapes[i].N, (int64_t)(i % 3) * 4, shapes[i].kind);
        const size_t bytes = (size_t)(k.N * k.K) * sizeof(double);
        char what[96];
        snprintf(what, sizeof what, "M %d K %d N %d ldx %d%s", (int)k.M, (int)k.K, (int)k.N,
                 (int)k.ldx, of_kind[shapes[i].kind]);
        if (set)
            /* matrix instructions */
            ops_against_ref(set, &drift_test, &k, bytes, k.M * k.K * k.N / 16, what);
        else
            ops_same_bits(c, &drift_test, &k, bytes, k.M * k.K * k.N / 16, what);
        unmake(&k);
    }
}

/* ---- what it is for ---- */

/* W times C of gram_accumulate on ref, [N,K]; C as scales ask: diag(1 / scale) (C + H) - H. */
static double *product_of(check *c, nb_backend *ref, const drift_case *k)
{
    double *h = ops_alloc((size_t)(k->K * k->K), sizeof *h),
           *cross = ops_alloc((size_t)(k->K * k->K), sizeof *cross),
           *t = ops_alloc((size_t)(k->N * k->K), sizeof *t);
    const nb_gram_args a = {.x = k->x,
                            .x_orig = k->orig,
                            .M = k->M,
                            .K = k->K,
                            .ldx = k->ldx,
                            .ld_orig = k->ld_orig,
                            .h = h,
                            .c = cross};
    CHECK_EQ(c, ref->op->gram_accumulate(ref, &a, NULL), NB_OK);
    for (int64_t i = 0; k->scale && i < k->K; i++)
        for (int64_t j = 0; j < k->K; j++) {
            const double own = h[i * k->K + j];
            cross[i * k->K + j] = (cross[i * k->K + j] + own) / (double)k->scale[i] - own;
        }
    for (int64_t n = 0; n < k->N; n++)
        for (int64_t i = 0; i < k->K; i++)
            for (int64_t j = 0; j < k->K; j++)
                t[n * k->K + j] += (double)k->w[n * k->K + i] * cross[i * k->K + j];
    free(h);
    free(cross);
    return t;
}

/* D beside W C: 1e-6 of a row's length. Then the correction by either. */
static void as_the_product(check *c)
{
    ops_set set;
    ops_set_open(&set, c);
    for (int p = 0; p < 3 && set.n; p++) {
        nb_rng r;
        ops_seed(&r, 380 + (uint64_t)p);
        drift_case k = make(&r, 70, p ? 96 : 129, p ? 40 : 17, 0, p == 2 ? SCALED : PLAIN);
        double *zero = ops_alloc((size_t)(k.N * k.K), sizeof *zero),
               *want = product_of(c, set.o[0].be, &k);
        free((void *)(uintptr_t)k.d);
        k.d = zero;
        for (int i = 0; i < set.n; i++) {
            ops *o = &set.o[i];
            double *got = ops_alloc((size_t)(k.N * k.K), sizeof *got);
            snprintf(o->what, sizeof o->what, "%s, W C of N %d K %d%s", o->row->label, (int)k.N,
                     (int)k.K, k.scale ? ", scaled" : "");
            const bool there = o->be->op->drift_accumulate && run_drift(o, &k, got);
            if (ops_finish(o) && there)
                for (int64_t n = 0; n < k.N; n++) {
                    double off = 0, all = 0;
                    for (int64_t j = n * k.K; j < (n + 1) * k.K; j++) {
                        off += (got[j] - want[j]) * (got[j] - want[j]);
                        all += want[j] * want[j];
                    }
                    CHECK_NEAR(c, sqrt(off / all), 0, 1e-6, o->what);
                }
            free(got);
        }
        free(want);
        unmake(&k);
    }
    ops_set_close(&set);
}

static void a_worked_sum(check *c)
{
    /* X = [[1 2] [3 -1]], X_orig - X = [[1 0] [0 2]], W = [2 -1]: Y = [2 -2], D = 2 [1 2] - 2 [3
     * -1] = [-4 6] = W [[1 2] [6 -2]]. The same where X_orig is undivided, by scales of 1/2 and 2 */
    static const float x[] = {1, 2, 3, -1}, orig[] = {2, 2, 3, 1}, w[] = {2, -1},
                       undivided[] = {1, 4, 1.5, 2}, scale[] = {0.5, 2};
    nb_backend *be = NULL;
    const nb_backend_options opt = {.exact = true};
    CHECK_EQ(c, nb_backend_open("ref", &opt, &be, NULL), NB_OK);
    for (int i = 0; i < 2 && be; i++) {
        double d[] = {0, 10};
        const nb_drift_args a = {.x = x,
                                 .x_orig = i ? undivided : orig,
                                 .scale = i ? scale : NULL,
                                 .M = 2,
                                 .K = 2,
                                 .ldx = 2,
                                 .ld_orig = 2,
                                 .w = w,
                                 .N = 1,
                                 .d = d};
        CHECK_EQ(c, be->op->drift_accumulate(be, &a, NULL), NB_OK);
        CHECK_NEAR(c, d[0], -4, 0, "D");
        CHECK_NEAR(c, d[1], 16, 0, "D");
    }
    nb_backend_close(be);
}

/* ---- cases ---- */

static void agrees(check *c)
{
    ops_set set;
    ops_set_open(&set, c);
    each_drift(c, &set);
    ops_set_close(&set);
}

static void same_bits(check *c)
{
    each_drift(c, NULL);
}

static const check_case cases[] = {
    {"ref gives a worked sum", a_worked_sum},
    {"every backend agrees with ref on what W makes of the drift", agrees},
    {"it is W times gram's own C to 1e-6", as_the_product},
    {"the bits do not depend on the run or the number of threads", same_bits},
};
CHECK_MAIN(cases)
