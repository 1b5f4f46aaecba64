/* gram.c -- gram_accumulate and quant_error on every backend. NUMERICS.md "gram_accumulate",
 * "quant_error".
 *
 * out of gram: H, then C. */
#include "ops/bounds.h"
#include "ops/ops.h"

enum { BLOCK = 256 }; /* tokens that may be summed in f32 */

typedef struct gram_case {
    int64_t M, K, ldx, ld_orig;
    const float *x, *orig; /* orig NULL: no C */
    const double *h, *c;   /* what is accumulated onto */
} gram_case;

static bool run_gram(ops *o, const void *args, void *out)
{
    const gram_case *k = args;
    nb_error err = {.message = ""};
    if (!ops_has(o, o->be->op->gram_accumulate != NULL, "gram_accumulate"))
        return false;
    const size_t square = (size_t)(k->K * k->K) * sizeof(double);
    nb_gram_args a = {
        .x = ops_in(o, k->x, (size_t)(k->M * k->ldx) * sizeof(float)),
        .x_orig = k->orig ? ops_in(o, k->orig, (size_t)(k->M * k->ld_orig) * sizeof(float)) : NULL,
        .M = k->M,
        .K = k->K,
        .ldx = k->ldx,
        .ld_orig = k->ld_orig,
        .h = ops_inout(o, k->h, square),
        .c = k->orig ? ops_inout(o, k->c, square) : NULL};
    a.scratch = ops_out(o, o->be->op->gram_scratch(o->be, &a));
    bool good = true;
    if (k->M > BLOCK) { /* in two calls: the tokens of whole blocks, and the rest */
        nb_gram_args first = a;
        first.M = k->M / BLOCK * BLOCK;
        first.more = true;
        good = ops_ok(o, o->be->op->gram_accumulate(o->be, &first, &err), &err);
        a.x += first.M * a.ldx;
        a.x_orig = a.x_orig ? a.x_orig + first.M * a.ld_orig : NULL;
        a.M -= first.M;
    }
    good = good && ops_ok(o, o->be->op->gram_accumulate(o->be, &a, &err), &err);
    if (good) {
        ops_get(o, a.h, out);
        if (k->orig)
            ops_get(o, a.c, (double *)out + k->K * k->K);
    }
    return good;
}

static void compare_gram(ops *o, const void *args, const void *got, const void *want)
{
    const gram_case *c = args;
    const int64_t K = c->K;
    const double *h = got, *ref = want;
    for (int64_t i = 0; i < K; i++)
        for (int64_t j = 0; j < K; j++) {
            bound_sum s = {0, 0}, d = {0, 0};
            for (int64_t m = 0; m < c->M; m++) {
                const double xi = (double)c->x[m * c->ldx + i], xj = (double)c->x[m * c->ldx + j];
                if (m % BLOCK == 0)
                    s.sum = d.sum = 0;
                bound_add(&s, xi * xj);
                if (c->orig)
                    bound_add(&d, ((double)c->orig[m * c->ld_orig + i] - xi) * xj);
            }
            /* the f64 additions are exact beside this */
            const int64_t at = i * K + j;
            CHECK_NEAR(o->c, h[at], ref[at], BOUND_U * 8 * sqrt(s.drift) + 0x1p-50 * fabs(ref[at]),
                       o->what);
            if (c->orig)
                CHECK_NEAR(o->c, h[K * K + at], ref[K * K + at],
                           BOUND_U * 8 * sqrt(d.drift) + 0x1p-50 * fabs(ref[K * K + at]), o->what);
            o->c->n_check++;
            if (h[at] != h[j * K + i])
                check_report(o->c, __FILE__, __LINE__, "%s: H is not symmetric at %d, %d", o->what,
                             (int)i, (int)j);
        }
}

static const ops_test gram_test = {run_gram, compare_gram};

static const struct gram_shape {
    int64_t M, K;
    bool orig;
} shapes[] = {{1, 32, false}, {7, 64, true},    {8, 96, false},  {9, 172, true},
              {17, 15, true}, {64, 272, false}, {300, 96, true}, {513, 64, false},
              {64, 1, true},  {17, 576, false}};

static void each_gram(check *c, ops_set *set)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        nb_rng r;
        ops_seed(&r, 60 + i);
        gram_case k = {.M = shapes[i].M,
                       .K = shapes[i].K,
                       .ldx = shapes[i].K + (int64_t)(i % 3) * 3,
                       .ld_orig = shapes[i].K + (int64_t)(i % 2) * 4};
        float *x = ops_rows(&r, k.M, k.K, k.ldx, 1.0f),
              *orig = ops_rows(&r, k.M, k.K, k.ld_orig, i % 2 ? 0.1f : 1e-4f);
        double *h = ops_alloc((size_t)(k.K * k.K), sizeof *h),
               *cc = ops_alloc((size_t)(k.K * k.K), sizeof *cc);
        for (int64_t m = 0; m < k.M;
             m++) /* the original inputs: near x, as they are after quantized layers */
            for (int64_t j = 0; j < k.K; j++)
                orig[m * k.ld_orig + j] += x[m * k.ldx + j];
        for (int64_t a = 0; a < k.K; a++)
            for (int64_t b = 0; b <= a; b++) {
                h[a * k.K + b] = h[b * k.K + a] = (double)nb_rng_normal(&r);
                cc[a * k.K + b] = (double)nb_rng_normal(&r);
            }
        k.x = x;
        k.orig = shapes[i].orig ? orig : NULL;
        k.h = h;
        k.c = cc;
        char what[96];
        snprintf(what, sizeof what, "M %d K %d ldx %d%s", (int)k.M, (int)k.K, (int)k.ldx,
                 k.orig ? " with C" : "");
        const size_t bytes = (size_t)(k.K * k.K) * sizeof(double) * (k.orig ? 2 : 1);
        if (set)
            /* matrix instructions */
            ops_against_ref(set, &gram_test, &k, bytes, k.M * k.K * k.K / 16, what);
        else
            ops_same_bits(c, &gram_test, &k, bytes, k.M * k.K * k.K / 16, what);
        free(x);
        free(orig);
        free(h);
        free(cc);
    }
}

/* ---- quant_error ---- */

typedef struct error_case {
    int64_t N, K;
    const float *w, *q; /* q NULL: tr(W H W^T) */
    const double *h;
} error_case;

static bool run_error(ops *o, const void *args, void *out)
{
    const error_case *k = args;
    nb_error err = {.message = ""};
    if (!ops_has(o, o->be->op->quant_error != NULL, "quant_error"))
        return false;
    const size_t bytes = (size_t)(k->N * k->K) * sizeof(float);
    double value = -1;
    nb_quant_error_args a = {.w = ops_in(o, k->w, bytes),
                             .q = k->q ? ops_in(o, k->q, bytes) : NULL,
                             .N = k->N,
                             .K = k->K,
                             .h = ops_in(o, k->h, (size_t)(k->K * k->K) * sizeof(double)),
                             .out = &value};
    a.scratch = ops_out(o, o->be->op->quant_error_scratch(o->be, &a));
    const bool good = ops_ok(o, o->be->op->quant_error(o->be, &a, &err), &err);
    memcpy(out, &value, sizeof value);
    return good;
}

static void compare_error(ops *o, const void *args, const void *got, const void *want)
{
    const error_case *c = args;
    double scale =
        0; /* sum |d_i H_ij d_j|: D = w - q may be rounded to f32, and the sums of a block of it */
    for (int64_t n = 0; n < c->N; n++)
        for (int64_t i = 0; i < c->K; i++)
            for (int64_t j = 0; j < c->K; j++) {
                const int64_t a = n * c->K + i, b = n * c->K + j;
                const double di = (double)c->w[a] - (c->q ? (double)c->q[a] : 0),
                             dj = (double)c->w[b] - (c->q ? (double)c->q[b] : 0);
                scale += fabs(di * c->h[i * c->K + j] * dj);
            }
    CHECK_NEAR(o->c, *(const double *)got, *(const double *)want, 4 * BOUND_U * scale, o->what);
}

static const ops_test error_test = {run_error, compare_error};

static void each_error(check *c, ops_set *set)
{
    static const struct {
        int64_t N, K;
        bool q;
    } all[] = {{1, 32, true},
               {15, 64, true},
               {16, 96, false},
               {17, 172, true},
               {64, 64, true},
               {272, 96, false},
               {17, 576, true},
               /* several tiles, small enough for the emulator */
               {2, 300, true},
               {70, 40, true},
               {1, 500, false}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        nb_rng r;
        ops_seed(&r, 90 + i);
        const int64_t K = all[i].K, N = all[i].N;
        float *w = ops_normals(&r, N * K, 1.0f), *q = ops_normals(&r, N * K, 0.05f),
              *x = ops_normals(&r, K * 8, 1.0f);
        double *h = ops_alloc((size_t)(K * K), sizeof *h);
        for (int64_t j = 0; j < N * K; j++)
            q[j] += w[j];
        for (int64_t a = 0; a < K; a++) /* X^T X of 8 tokens, plus the identity */
            for (int64_t b = 0; b < K; b++) {
                h[a * K + b] = a == b;
                for (int64_t t = 0; t < 8; t++)
                    h[a * K + b] += (double)x[t * K + a] * (double)x[t * K + b];
            }
        const error_case k = {.N = N, .K = K, .w = w, .q = all[i].q ? q : NULL, .h = h};
        char what[64];
        snprintf(what, sizeof what, "N %d K %d%s", (int)N, (int)K, k.q ? "" : " of W alone");
        if (set)
            ops_against_ref(set, &error_test, &k, sizeof(double), N * K * K, what);
        else
            ops_same_bits(c, &error_test, &k, sizeof(double), N * K * K, what);
        free(w);
        free(q);
        free(x);
        free(h);
    }
}

/* ---- cases ---- */

static void worked_values(check *c)
{
    /* X = [[1 2] [3 -1]]: X^T X = [[10 -1] [-1 5]]; X_orig - X = [[1 0] [0 2]]: C = [[1 2] [6 -2]]
     */
    static const float x[] = {1, 2, 3, -1}, orig[] = {2, 2, 3, 1};
    double h[] = {100, 0, 0, 100}, cc[] = {0, 0, 0, 50};
    nb_error err = {.message = ""};
    nb_backend *be = NULL;
    const nb_backend_options opt = {.exact = true};
    CHECK_EQ(c, nb_backend_open("ref", &opt, &be, &err), NB_OK);
    if (!be)
        return;
    const nb_gram_args a = {
        .x = x, .x_orig = orig, .M = 2, .K = 2, .ldx = 2, .ld_orig = 2, .h = h, .c = cc};
    CHECK_EQ(c, be->op->gram_accumulate(be, &a, &err), NB_OK);
    static const double want_h[] = {110, -1, -1, 105}, want_c[] = {1, 2, 6, 48};
    for (int i = 0; i < 4; i++) {
        CHECK_NEAR(c, h[i], want_h[i], 0, "H");
        CHECK_NEAR(c, cc[i], want_c[i], 0, "C");
    }
    /* D = [1 -2]: D H D^T = 110 + 4 + 420 = 534 */
    static const float w[] = {4, 1}, q[] = {3, 3};
    double out = 0;
    nb_quant_error_args e = {.w = w, .q = q, .N = 1, .K = 2, .h = h, .out = &out};
    CHECK_EQ(c, be->op->quant_error(be, &e, &err), NB_OK);
    CHECK_NEAR(c, out, 534, 0, "tr(D H D^T)");
    e.q = NULL; /* 16 110 - 8 + 105 = 1857 */
    CHECK_EQ(c, be->op->quant_error(be, &e, &err), NB_OK);
    CHECK_NEAR(c, out, 1857, 0, "tr(W H W^T)");
    nb_backend_close(be);
}

static void gram_agrees(check *c)
{
    ops_set set;
    ops_set_open(&set, c);
    each_gram(c, &set);
    ops_set_close(&set);
}

static void error_agrees(check *c)
{
    ops_set set;
    ops_set_open(&set, c);
    each_error(c, &set);
    ops_set_close(&set);
}

static void same_bits(check *c)
{
    each_gram(c, NULL);
    each_error(c, NULL);
}

static const check_case cases[] = {
    {"ref gives worked values of H, C and the error", worked_values},
    {"every backend agrees with ref on H and C", gram_agrees},
    {"every backend agrees with ref on the quantization error", error_agrees},
    {"the bits do not depend on the run or the number of threads", same_bits},
};
CHECK_MAIN(cases)
