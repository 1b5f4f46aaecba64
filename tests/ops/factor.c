/* factor.c -- the reversed Cholesky factor and the least-squares correction, on every backend.
 * NUMERICS.md "factor", "correct".
 *
 * out of factor: failed_minor as a double, then R. In place: R's lower triangle must still be H's
 * (it is then set to 0), what lay above H's diagonal and on it is never read (NaN here), and
 * unfactor gives H back to the bit. */
#include "ops/bounds.h"
#include "ops/hessian.h"
#include "ops/ops.h"

typedef struct factor_case {
    int64_t K;
    const double *h, *add;
    const int32_t *perm;
    bool in_place; /* r is h */
} factor_case;

/* H's strict lower triangle alone. */
static double *lower_of(const double *h, int64_t K)
{
    double *t = ops_alloc((size_t)(K * K), sizeof *t);
    for (int64_t i = 0; i < K * K; i++)
        t[i] = i / K > i % K ? h[i] : (double)NAN;
    return t;
}

static bool run_in_place(ops *o, const factor_case *k, double *to)
{
    nb_error err = {.message = ""};
    const int64_t K = k->K;
    const size_t square = (size_t)(K * K) * sizeof(double);
    if (!o->be->op->unfactor) /* the device has a matrix for R */
        return false;
    double *lower = lower_of(k->h, K), *diag = ops_alloc((size_t)K, sizeof *diag),
           *back = ops_alloc((size_t)(K * K), sizeof *back);
    for (int64_t i = 0; i < K; i++)
        diag[i] = k->h[i * (K + 1)];
    int64_t failed = -1;
    double *h = ops_inout(o, lower, square);
    const nb_factor_args a = {.h = h,
                              .diag = diag,
                              .diag_add = k->add,
                              .perm = k->perm,
                              .K = K,
                              .r = h,
                              .failed_minor = &failed};
    const nb_unfactor_args u = {.h = h, .diag = diag, .K = K};
    bool good = ops_ok(o, o->be->op->factor(o->be, &a, &err), &err);
    to[0] = (double)failed;
    memset(to + 1, 0, square);
    if (good && failed == 0)
        ops_get(o, h, to + 1);
    for (int64_t i = 0; i < K && good && failed == 0; i++)
        for (int64_t j = 0; j < i; j++) {
            CHECK_NEAR(o->c, to[1 + i * K + j], k->h[i * K + j], 0, o->what);
            to[1 + i * K + j] = 0;
        }
    /* also behind a minor that failed */
    good = good && ops_ok(o, o->be->op->unfactor(o->be, &u, &err), &err);
    if (good) {
        ops_get(o, h, back);
        o->c->n_check++;
        if (memcmp(back, k->h, square) != 0)
            check_report(o->c, __FILE__, __LINE__, "%s: H did not come back", o->what);
    }
    free(lower);
    free(diag);
    free(back);
    return good;
}

static bool run_factor(ops *o, const void *args, void *out)
{
    const factor_case *k = args;
    nb_error err = {.message = ""};
    if (!ops_has(o, o->be->op->factor != NULL, "factor"))
        return false;
    if (k->in_place)
        return run_in_place(o, k, out);
    const size_t square = (size_t)(k->K * k->K) * sizeof(double);
    int64_t failed = -1;
    const nb_factor_args a = {.h = ops_in(o, k->h, square),
                              .diag_add = k->add,
                              .perm = k->perm,
                              .K = k->K,
                              .r = ops_out(o, square),
                              .failed_minor = &failed};
    const bool good = ops_ok(o, o->be->op->factor(o->be, &a, &err), &err);
    double *to = out;
    to[0] = (double)failed;
    memset(to + 1, 0, square);
    if (good && failed == 0) /* else r is unspecified */
        ops_get(o, a.r, to + 1);
    return good;
}

/* R is judged by what it is for: R R^T must be A, each element to rounding (the backward error of
 * Cholesky, Higham 2002, theorem 10.3: (K + 1) u sqrt(a_ii a_jj) in f64), the lower triangle 0, the
 * diagonal positive. */
static void compare_factor(ops *o, const void *args, const void *got, const void *want)
{
    const factor_case *c = args;
    const int64_t K = c->K;
    const double *R = (const double *)got + 1;
    CHECK_NEAR(o->c, *(const double *)got, *(const double *)want, 0, o->what);
    if (*(const double *)want != 0)
        return;
    for (int64_t i = 0; i < K; i++)
        for (int64_t j = 0; j < K; j++) {
            const int64_t pi = c->perm ? c->perm[i] : i, pj = c->perm ? c->perm[j] : j;
            const double ii = c->h[pi * K + pi] + c->add[pi], jj = c->h[pj * K + pj] + c->add[pj];
            double a = 0;
            for (int64_t k = i > j ? i : j; k < K; k++)
                a += R[i * K + k] * R[j * K + k];
            CHECK_NEAR(o->c, a, i == j ? ii : c->h[pi * K + pj],
                       0x1p-53 * (double)(K + 1) * 2 * sqrt(ii * jj), o->what);
            if (i > j)
                CHECK_NEAR(o->c, R[i * K + j], 0, 0, o->what);
        }
    for (int64_t i = 0; i < K; i++)
        CHECK(o->c, R[i * K + i] > 0);
}

static const ops_test factor_test = {run_factor, compare_factor};

static void each_factor(check *c, ops_set *set)
{
    static const int64_t all_K[] = {1, 2, 15, 32, 64, 70, 96, 127, 129, 172, 300};
    for (size_t i = 0; i < sizeof all_K / sizeof *all_K; i++)
        for (int way = 0; way < 4; way++) {
            const bool bad = way % 2 != 0, in_place = way > 1;
            nb_rng r;
            ops_seed(&r, 40 + i);
            const int64_t K = all_K[i];
            double *h, *add;
            hessian_make(&r, K, &h, &add);
            for (int64_t a = 0; a < K; a++) /* as where inputs are dead */
                add[a] *= (double)(1 + a % 5);
            int32_t *perm = i % 2 ? hessian_order(h, K) : NULL;
            if (bad) /* one diagonal element far below 0: the minor in which it is reached fails */
                h[K / 3 * (K + 1)] = -1000;
            for (int64_t a = 0; a < K; a++) /* symmetric to the bit, as gram_accumulate leaves it */
                for (int64_t b = 0; b < a; b++)
                    h[b * K + a] = h[a * K + b];
            const factor_case k = {.K = K, .h = h, .add = add, .perm = perm, .in_place = in_place};
            char what[64];
            snprintf(what, sizeof what, "K %d%s%s%s", (int)K, perm ? " permuted" : "",
                     bad ? " not positive" : "", in_place ? " in place" : "");
            const size_t bytes = (size_t)(K * K + 1) * sizeof(double);
            if (set)
                ops_against_ref(set, &factor_test, &k, bytes, K * K * K / 12, what);
            else
                ops_same_bits(c, &factor_test, &k, bytes, K * K * K / 12, what);
            free(h);
            free(add);
            free(perm);
        }
}

/* ---- correct ---- */

typedef struct correct_case {
    int64_t N, K;
    const float *w;
    const double *c, *wc, *r; /* wc: W C, given instead of it; or NULL */
    const int32_t *perm;
    double alpha;
} correct_case;

static bool run_correct(ops *o, const void *args, void *out)
{
    const correct_case *k = args;
    nb_error err = {.message = ""};
    if (!ops_has(o, o->be->op->correct != NULL, "correct"))
        return false;
    const size_t square = (size_t)(k->K * k->K) * sizeof(double);
    nb_correct_args a = {.w = ops_inout(o, k->w, (size_t)(k->N * k->K) * sizeof(float)),
                         .N = k->N,
                         .K = k->K,
                         .c = k->wc ? NULL : ops_in(o, k->c, square),
                         .wc = k->wc ? ops_in(o, k->wc, (size_t)(k->N * k->K) * sizeof(double))
                                     : NULL,
                         .r = ops_in(o, k->r, square),
                         .perm = k->perm,
                         .alpha = k->alpha};
    a.scratch = ops_out(o, o->be->op->correct_scratch(o->be, &a));
    const bool good = ops_ok(o, o->be->op->correct(o->be, &a, &err), &err);
    if (good)
        ops_get(o, a.w, out);
    return good;
}

static void compare_correct(ops *o, const void *args, const void *got, const void *want)
{
    const correct_case *c = args;
    const float *w = got, *ref = want;
    for (int64_t n = 0; n < c->N; n++) {
        double norm = 0; /* of the correction of this row */
        for (int64_t k = 0; k < c->K; k++) {
            const double d = (double)ref[n * c->K + k] - (double)c->w[n * c->K + k];
            norm += d * d;
        }
        norm = sqrt(norm);
        for (int64_t k = 0; k < c->K; k++) {
            const double ARBITRARY_f32_solves =
                0x1p-14 * norm; /* cond(R) sqrt(K) u of two solves in f32, cond about 100 */
            CHECK_NEAR(o->c, w[n * c->K + k], ref[n * c->K + k],
                       2 * BOUND_U * fabs((double)ref[n * c->K + k]) + ARBITRARY_f32_solves,
                       o->what);
        }
    }
}

static const ops_test correct_test = {run_correct, compare_correct};

static void each_correct(check *c, ops_set *set, nb_backend *ref)
{
    static const struct {
        int64_t N, K;
    } all[] = {{1, 1},
               {15, 32},
               {16, 64},
               {17, 96},
               {64, 172},
               {33, 257},
               /* several blocks of columns, several of rows, small enough for the emulator */
               {3, 172},
               {1, 257},
               {70, 40},
               {5, 150}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        nb_rng r;
        ops_seed(&r, 240 + i);
        const int64_t K = all[i].K, N = all[i].N;
        double *h, *add, *R = ops_alloc((size_t)(K * K), sizeof *R),
                         *cc = ops_alloc((size_t)(K * K), sizeof *cc);
        hessian_make(&r, K, &h, &add);
        int32_t *perm = i % 2 ? hessian_order(h, K) : NULL;
        int64_t failed = -1;
        const nb_factor_args f = {
            .h = h, .diag_add = add, .perm = perm, .K = K, .r = R, .failed_minor = &failed};
        CHECK_EQ(c, ref->op->factor(ref, &f, NULL), NB_OK);
        CHECK_EQ(c, failed, 0);
        for (int64_t j = 0; j < K * K; j++) /* may be H's: nobody reads it */
            R[j] = j / K > j % K ? (double)NAN : R[j];
        for (int64_t j = 0; j < K * K; j++)
            cc[j] = 0.1 * h[j] + 0.01 * (double)nb_rng_normal(&r);
        float *w = ops_normals(&r, N * K, 1.0f);
        double *product = ops_alloc((size_t)(N * K), sizeof *product);
        for (int64_t j = 0; j < N * K; j++)
            for (int64_t b = 0; b < K; b++)
                product[j] += (double)w[j / K * K + b] * cc[b * K + j % K];
        for (int given = 0; given < 2; given++) {
            const correct_case k = {.N = N,
                                    .K = K,
                                    .w = w,
                                    .c = cc,
                                    .wc = given ? product : NULL,
                                    .r = R,
                                    .perm = perm,
                                    .alpha = i % 2 ? 1.0 : 0.25};
            char what[64];
            snprintf(what, sizeof what, "N %d K %d alpha %g%s%s", (int)N, (int)K, k.alpha,
                     perm ? " permuted" : "", given ? " W C given" : "");
            if (set)
                ops_against_ref(set, &correct_test, &k, (size_t)(N * K) * sizeof(float),
                                2 * N * K * K, what);
            else
                ops_same_bits(c, &correct_test, &k, (size_t)(N * K) * sizeof(float), 2 * N * K * K,
                              what);
        }
        free(product);
        free(h);
        free(add);
        free(R);
        free(cc);
        free(perm);
        free(w);
    }
}

/* ---- cases ---- */

static nb_backend *open_ref(check *c)
{
    nb_backend *be = NULL;
    const nb_backend_options opt = {.exact = true};
    CHECK_EQ(c, nb_backend_open("ref", &opt, &be, NULL), NB_OK);
    return be;
}

static void a_worked_factor(check *c)
{
    nb_backend *be = open_ref(c);
    if (!be)
        return;
    /* R = [[1 2 3] [0 4 5] [0 0 6]]: R R^T = [[14 23 18] [23 41 30] [18 30 36]]; in the order (2,
     * 0, 1) it is A, so that H[2][2] is A[0][0] */
    static const double A[3][3] = {{14, 23, 18}, {23, 41, 30}, {18, 30, 36}},
                        want[9] = {1, 2, 3, 0, 4, 5, 0, 0, 6}, add[] = {0.5, 0.25, 1};
    static const int32_t perm[] = {2, 0, 1};
    double h[9], r[9];
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            h[perm[i] * 3 + perm[j]] = A[i][j] - (i == j ? add[perm[i]] : 0);
    int64_t failed = -1;
    nb_error err = {.message = ""};
    nb_factor_args f = {
        .h = h, .diag_add = add, .perm = perm, .K = 3, .r = r, .failed_minor = &failed};
    CHECK_EQ(c, be->op->factor(be, &f, &err), NB_OK);
    CHECK_EQ(c, failed, 0);
    for (int i = 0; i < 9; i++)
        CHECK_NEAR(c, r[i], want[i], 0, "R");

    /* correct: C = H' = H + diag(add) and alpha 1 give W + W; alpha -1 gives 0 */
    double prime[9], scratch[6];
    for (int i = 0; i < 9; i++)
        prime[i] = h[i] + (i % 4 == 0 ? add[i / 4] : 0);
    float w[] = {1, -2, 3};
    nb_correct_args cor = {
        .w = w, .N = 1, .K = 3, .c = prime, .r = r, .perm = perm, .alpha = 1, .scratch = scratch};
    CHECK(c, be->op->correct_scratch(be, &cor) <= sizeof scratch);
    CHECK_EQ(c, be->op->correct(be, &cor, &err), NB_OK);
    for (int i = 0; i < 3; i++)
        CHECK_NEAR(c, w[i], 2 * (i == 0 ? 1 : i == 1 ? -2 : 3), 1e-5, "W + W H' H'^-1");
    float twice[] = {1, -2, 3};
    const double given[] = {prime[0] - 2 * prime[3] + 3 * prime[6],
                            prime[1] - 2 * prime[4] + 3 * prime[7],
                            prime[2] - 2 * prime[5] + 3 * prime[8]};
    cor.w = twice;
    cor.c = NULL;
    cor.wc = given;
    CHECK_EQ(c, be->op->correct(be, &cor, &err), NB_OK);
    for (int i = 0; i < 3; i++)
        CHECK_NEAR(c, twice[i], w[i], 1e-6, "the same of W H' given");
    h[perm[1] * 4] = -50; /* read backwards it comes second */
    CHECK_EQ(c, be->op->factor(be, &f, &err), NB_OK);
    CHECK_EQ(c, failed, 2);
    nb_backend_close(be);
}

static void factor_agrees(check *c)
{
    ops_set set;
    ops_set_open(&set, c);
    each_factor(c, &set);
    ops_set_close(&set);
}

static void correct_agrees(check *c)
{
    ops_set set;
    ops_set_open(&set, c);
    if (set.n)
        each_correct(c, &set, set.o[0].be);
    ops_set_close(&set);
}

static void same_bits(check *c)
{
    each_factor(c, NULL);
    nb_backend *ref = open_ref(c);
    if (ref)
        each_correct(c, NULL, ref);
    nb_backend_close(ref);
}

static const check_case cases[] = {
    {"ref factors and corrects a worked matrix in another order", a_worked_factor},
    {"on every backend R R^T is the matrix, and the minor that fails is the same", factor_agrees},
    {"every backend agrees with ref on the correction", correct_agrees},
    {"the bits do not depend on the run or the number of threads", same_bits},
};
CHECK_MAIN(cases)
