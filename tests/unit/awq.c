/* awq.c -- the search for input scales: its error is the slow form's, large inputs get large scales
 * and rounding loses by them what the method promises, tied inputs share, inputs that never come
 * keep 1. */
#include "quant/awq.h"
#include "base/random.h"
#include "check.h"
#include "quant/quantizer.h"

static nb_backend *open_cpu(check *c)
{
    nb_error err = {.message = ""};
    nb_backend *be = NULL;
    const nb_backend_options o = {.n_thread = 2};
    CHECK_EQ(c, nb_backend_open("cpu", &o, &be, &err), NB_OK); /* its memory is the host's */
    return be;
}

static float *normals(int64_t n, uint64_t seed)
{
    float *w = malloc((size_t)n * sizeof *w);
    nb_rng r;
    nb_rng_seed(&r, seed);
    for (int64_t i = 0; w && i < n; i++)
        w[i] = nb_rng_normal(&r);
    return w;
}

/* Sum of x x^T over T tokens of N(0,1), input k times size[k]. */
static double *hessian(const double *size, int64_t T, int64_t K, uint64_t seed)
{
    double *h = calloc((size_t)(K * K), sizeof *h);
    float *x = normals(T * K, seed);
    for (int64_t t = 0; h && x && t < T; t++)
        for (int64_t i = 0; i < K; i++) {
            const double xi = (double)x[t * K + i] * size[i];
            for (int64_t j = 0; j <= i; j++)
                h[i * K + j] += xi * (double)x[t * K + j] * size[j];
        }
    for (int64_t i = 0; h && i < K; i++)
        for (int64_t j = 0; j < i; j++)
            h[j * K + i] = h[i * K + j];
    free(x);
    return h;
}

/* D = round(W s) / s - W. */
static void error_matrix(const nb_grid *g, const float *w, const float *s, int64_t N, int64_t K,
                         double *d)
{
    const int64_t group = g->group ? g->group : K;
    float held[1024];
    for (int64_t n = 0; n < N; n++)
        for (int64_t k0 = 0; k0 < K; k0 += group) {
            const int m = (int)(k0 + group < K ? group : K - k0);
            nb_group p;
            for (int i = 0; i < m; i++)
                held[i] = w[n * K + k0 + i] * s[k0 + i];
            g->params(g, held, m, &p);
            for (int i = 0; i < m; i++)
                d[n * K + k0 + i] = (double)nb_grid_value(g, &p, nb_grid_round(g, &p, held[i])) /
                                        (double)s[k0 + i] -
                                    (double)w[n * K + k0 + i];
        }
}

/* tr(A H A^T). */
static double trace(const double *a, const double *h, int64_t N, int64_t K)
{
    double sum = 0;
    for (int64_t n = 0; n < N; n++)
        for (int64_t i = 0; i < K; i++) {
            double t = 0;
            for (int64_t j = 0; j < K; j++)
                t += h[i * K + j] * a[n * K + j];
            sum += t * a[n * K + i];
        }
    return sum;
}

/* Five of 512 inputs are 20 times as large; of what rounding loses at most 0.45 remains. */
static void large_inputs(check *c)
{
    enum { N = 256, K = 512, T = 1024 };
    static const int bits[] = {3, 4};
    double size[K];
    float s[K], one[K];
    nb_error err = {.message = ""};
    nb_backend *be = open_cpu(c);
    for (int k = 0; k < K; k++) {
        size[k] = k % 101 == 7 && k < 505 ? 20.0 : 1.0;
        one[k] = 1.0f;
    }
    double *h = hessian(size, T, K, 1), *fresh = hessian(size, T, K, 2),
           *d = malloc(sizeof *d * N * K);
    float *w = normals((int64_t)N * K, 3);
    for (int i = 0; be && h && fresh && d && w && i < 2; i++) {
        char name[8];
        nb_grid grid;
        nb_awq_choice choice;
        snprintf(name, sizeof name, "int%d", bits[i]);
        CHECK_EQ(c, nb_grid_find(name, 128, false, &grid, &err), NB_OK);
        const nb_awq_job j = {
            .be = be, .grid = &grid, .w = w, .N = N, .K = K, .part = {N}, .h = h, .n_thread = 2};
        CHECK_EQ(c, nb_awq_search(&j, s, &choice, &err), NB_OK);
        error_matrix(&grid, w, one, N, K, d);
        const double plain = trace(d, fresh, N, K);
        error_matrix(&grid, w, s, N, K, d);
        const double scaled = trace(d, fresh, N, K);
        printf("      %s: r %.2f, %.3f of rounding's error, %.3f expected\n", name, choice.ratio,
               scaled / plain, choice.error / choice.error_plain);
        CHECK(c, scaled < 0.45 * plain);
        CHECK_NEAR(c, scaled / plain, choice.error / choice.error_plain, 0.1, "what was expected");
        CHECK(c, s[7] > 2.0f * s[8]);
    }
    CHECK_STR(c, err.message, "");
    nb_backend_close(be);
    free(h);
    free(fresh);
    free(d);
    free(w);
}

/* R_kk^2 with  H + lambda I = R R^T  in the order `perm`: the diagonal that the upper Cholesky
 * factor leaves, taken from the end. */
static void feedback_costs(const double *h, const int *perm, int K, double lambda, double *a)
{
    enum { kMost = 64 };
    double m[kMost][kMost];
    for (int i = 0; i < K; i++)
        for (int j = 0; j < K; j++)
            m[i][j] = h[perm[i] * K + perm[j]] + (i == j ? lambda : 0.0);
    for (int k = K - 1; k >= 0; k--) { /* inputs behind k are gone: Schur complements */
        a[perm[k]] = m[k][k];
        for (int i = 0; i < k; i++)
            for (int j = 0; j < k; j++)
                m[i][j] -= m[i][k] * m[k][j] / m[k][k];
    }
}

static void slow_form(check *c)
{
    enum { K = 48, N1 = 20, N2 = 9, N = N1 + N2 };
    double size[K], a[2][K], d[N * K], e;
    int perm[K];
    float s[K], one[K];
    nb_error err = {.message = ""};
    nb_grid grid;
    nb_backend *be = open_cpu(c);
    for (int k = 0; k < K; k++) {
        size[k] = 1.0 + (k * 7 % 11);
        one[k] = 1.0f;
        perm[k] = k;
    }
    double *h = hessian(size, 60, K, 5), mean = 0;
    float *w = normals(N * K, 6);
    for (int i = 0; i < K; i++) { /* by falling H_kk */
        mean += h[i * K + i] / K;
        for (int j = i; j > 0 && h[perm[j] * K + perm[j]] > h[perm[j - 1] * K + perm[j - 1]]; j--) {
            const int t = perm[j];
            perm[j] = perm[j - 1];
            perm[j - 1] = t;
        }
    }
    for (int k = 0; k < K; k++)
        a[0][k] = h[k * K + k];
    feedback_costs(h, perm, K, 0.01 * mean, a[1]);
    CHECK_EQ(c, nb_grid_find("int4", 16, true, &grid, &err), NB_OK);
    for (int feedback = 0; be && feedback < 2; feedback++) {
        nb_awq_choice choice;
        const nb_awq_job j = {.be = be,
                              .grid = &grid,
                              .w = w,
                              .N = N,
                              .K = K,
                              .part = {N1, N2},
                              .h = h,
                              .feedback = feedback,
                              .damp = 0.01,
                              .n_thread = 1};
        CHECK_EQ(c, nb_awq_search(&j, s, &choice, &err), NB_OK);
        for (int plain = 0; plain < 2; plain++) {
            double all[2] = {0};
            error_matrix(&grid, w, plain ? one : s, N, K, d);
            for (int n = 0; n < N; n++)
                for (int k = 0; k < K; k++)
                    all[n >= N1] += a[feedback][k] * d[n * K + k] * d[n * K + k];
            double v[N * K];
            for (int i = 0; i < N * K; i++)
                v[i] = (double)w[i];
            e = all[0] / trace(v, h, N1, K) + all[1] / trace(v + N1 * K, h, N2, K);
            CHECK_NEAR(c, plain ? choice.error_plain : choice.error, e, 1e-5 * e, "the slow form");
        }
        CHECK(c, choice.error < choice.error_plain);
        float least = INFINITY, most = 0;
        for (int k = 0; k < K; k++) {
            least = fminf(least, s[k]);
            most = fmaxf(most, s[k]);
        }
        CHECK_NEAR(c, least * most, 1.0, 1e-5, "the extremes lie about 1");
    }
    CHECK_STR(c, err.message, "");
    nb_backend_close(be);
    free(h);
    free(w);
}

static void ties_and_dead(check *c)
{
    enum { K = 32, N = 16 };
    double size[K];
    int32_t tie[K];
    float s[K];
    nb_error err = {.message = ""};
    nb_grid grid;
    nb_awq_choice choice;
    nb_backend *be = open_cpu(c);
    for (int k = 0; k < K; k++) {
        size[k] = k == 5 || k == 21 ? 0.0 : 1.0 + k % 5; /* 5 is dead with its partner */
        tie[k] = k % 16;
    }
    double *h = hessian(size, 64, K, 8);
    float *w = normals(N * K, 9);
    CHECK_EQ(c, nb_grid_find("int3", 16, false, &grid, &err), NB_OK);
    const nb_awq_job j = {.be = be,
                          .grid = &grid,
                          .w = w,
                          .N = N,
                          .K = K,
                          .part = {N},
                          .h = h,
                          .tie = tie,
                          .n_thread = 1};
    CHECK_EQ(c, nb_awq_search(&j, s, &choice, &err), NB_OK);
    CHECK(c, choice.ratio >= 0.0);
    for (int k = 0; k < 16; k++)
        CHECK_NEAR(c, s[k], s[k + 16], 0.0, "a tied pair");
    CHECK_NEAR(c, s[5], 1.0, 0.0, "an input that never comes");
    h[3 * K + 3] = (double)NAN;
    CHECK_EQ(c, nb_awq_search(&j, s, &choice, &err), NB_BAD_INPUT);
    CHECK_HAS(c, err.message, "input 3 are not finite");
    nb_backend_close(be);
    free(h);
    free(w);
}

/* Powers of two that a whole group shares change no grid, so GPTQ must choose the same codes: error
 * feedback and damping are those of the unscaled inputs. */
static void gptq_behind_scales(check *c)
{
    enum { K = 64, N = 24, kGroup = 16 };
    static const float by[K / kGroup] = {1.0f, 0.25f, 4.0f, 0.5f};
    double size[K], *h[2];
    float s[K], *w[2], q[N * K];
    uint8_t codes[2][N * K];
    nb_group groups[N * K / kGroup];
    int differ = 0, rounded = 0;
    nb_error err = {.message = ""};
    nb_grid grid;
    nb_backend *be = open_cpu(c);
    CHECK_EQ(c, nb_grid_find("int3", kGroup, false, &grid, &err), NB_OK);
    for (int k = 0; k < K; k++) {
        size[k] = 1.0 + (k * 5 % 13);
        s[k] = by[k / kGroup];
    }
    for (int i = 0; be && i < 2; i++) {
        nb_quant_stats stats = {0};
        h[i] = hessian(size, 40, K,
                       21); /* fewer tokens than inputs: only the damping makes it definite */
        w[i] = normals(N * K, 22);
        for (int n = 0; i && n < N * K; n++)
            w[i][n] *= s[n % K];
        for (int n = 0; i && n < K * K; n++)
            h[i][n] /= (double)s[n / K] * (double)s[n % K];
        const nb_quant_job j = {.be = be,
                                .grid = &grid,
                                .w = w[i],
                                .N = N,
                                .K = K,
                                .h = h[i],
                                .scale = i ? s : NULL,
                                .n_token = 40,
                                .damp = 0.01,
                                .codes = codes[i],
                                .groups = groups,
                                .q = q,
                                .stats = &stats};
        if (i == 0)
            CHECK_EQ(c, nb_quantizer_find("rtn")->layer(&j, &err), NB_OK);
        for (int n = 0; i == 0 && n < N * K; n++)
            codes[1][n] = codes[0][n];
        CHECK_EQ(c, nb_quantizer_find("gptq")->layer(&j, &err), NB_OK);
        CHECK_STR(c, stats.note, "");
        for (int n = 0; i == 0 && n < N * K; n++)
            rounded += codes[0][n] != codes[1][n];
        free(h[i]);
        free(w[i]);
    }
    for (int n = 0; n < N * K; n++)
        differ += codes[0][n] != codes[1][n];
    printf("      %d of %d codes differ; from rounding's %d\n", differ, N * K, rounded);
    CHECK(c, rounded > N * K / 10);
    CHECK(c, differ <= 2); /* ties: the factor is another in its last bits */
    CHECK_STR(c, err.message, "");
    nb_backend_close(be);
}

static const check_case cases[] = {
    {"large inputs get large scales, and rounding loses less than half of what it did",
     large_inputs},
    {"the error is that of the slow form, with feedback and without", slow_form},
    {"tied inputs share a scale, dead ones keep 1, what is not finite is named", ties_and_dead},
    {"GPTQ behind scales that change no grid chooses the codes it would without",
     gptq_behind_scales},
};
CHECK_MAIN(cases)
