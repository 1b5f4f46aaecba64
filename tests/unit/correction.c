/* correction.c -- the ridge of the drift correction, on inputs that are uncorrelated: H = h I and C
 * = d I make
 *
 *     W* = W (1 + alpha d / (h + lambda_c)),   lambda_c = (damp + 3 K / tokens) h
 *
 * so what few tokens say about the drift is believed less. The sweep behind it has its own damping,
 * which moves nothing where H is diagonal. */
#include "check.h"
#include "quant/quantizer.h"

#include <stdlib.h>
#include <string.h>

enum { N = 3, K = 32 };

/* W* / W of a job whose H was summed over n_token tokens. */
static double moved(check *c, int64_t n_token, double damp, double correction)
{
    static double h[K * K], drift[K * K];
    static float w[N * K], q[N * K];
    static uint8_t codes[N * K];
    static nb_group groups[N];
    nb_error err = {.message = ""};
    nb_grid grid;
    nb_backend *be = NULL;
    nb_quant_stats stats = {0};
    for (int k = 0; k < K; k++) {
        h[k * K + k] = 8.0;
        drift[k * K + k] = 2.0;
    }
    for (int i = 0; i < N * K; i++)
        w[i] = (float)(i + 1);
    const nb_backend_options o = {.n_thread = 1};
    CHECK_EQ(c, nb_grid_find("int8", 0, true, &grid, &err), NB_OK);
    CHECK_EQ(c, nb_backend_open("cpu", &o, &be, &err), NB_OK); /* its memory is the host's */
    const nb_quant_job job = {.be = be,
                              .grid = &grid,
                              .w = w,
                              .N = N,
                              .K = K,
                              .h = h,
                              .c = drift,
                              .n_token = n_token,
                              .damp = damp,
                              .correction = correction,
                              .codes = codes,
                              .groups = groups,
                              .q = q,
                              .stats = &stats};
    CHECK_EQ(c, nb_quantizer_find("gptq")->layer(&job, &err), NB_OK);
    CHECK_STR(c, err.message, "");
    CHECK_NEAR(c, stats.damp, damp, 0.0, "the sweep's damping is what was asked for");
    CHECK_STR(c, stats.note, "");
    CHECK_NEAR(c, h[0], 8.0, 0.0, "H comes back");
    for (int i = 1; i < N * K; i++)
        CHECK_NEAR(c, (double)w[i] / (double)(i + 1), (double)w[0], 1e-6,
                   "every weight by the same factor");
    nb_backend_close(be);
    return (double)w[0];
}

static void ridge(check *c)
{
    CHECK_NEAR(c, moved(c, 0, 0.01, 1.0), 1.0 + 0.25 / 1.01, 1e-6, "an exact H");
    CHECK_NEAR(c, moved(c, 960, 0.01, 1.0), 1.0 + 0.25 / 1.11, 1e-6, "3 x 32 / 960 = 0.1");
    CHECK_NEAR(c, moved(c, 960, 0.01, 0.5), 1.0 + 0.125 / 1.11, 1e-6, "half of it");
    CHECK_NEAR(c, moved(c, 8, 0.25, 1.0), 1.0 + 0.25 / 13.25, 1e-6, "fewer tokens than inputs");
}

static const check_case cases[] = {
    {"the drift is regressed with a ridge of K over the tokens", ridge},
};
CHECK_MAIN(cases)
