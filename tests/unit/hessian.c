/* hessian.c -- GPTQ where the inputs' Hessian is not positive definite (hardening.md QZ 112):
 * damped until it is, else the matrix is rounded to nearest, and either is said in the note that
 * goes into the report. */
#include "check.h"
#include "quant/quantizer.h"

#include <math.h>

enum { N = 4, K = 32 };

typedef struct outcome {
    uint8_t codes[N * K];
    int32_t g_idx[K];
    float q[N * K];
    nb_quant_stats stats;
} outcome;

static void *upload(check *c, nb_backend *be, const void *from, size_t bytes)
{
    void *p = NULL;
    nb_error err = {.message = ""};
    CHECK_EQ(c, be->op->alloc(be, bytes, "a test", &p, &err), NB_OK);
    CHECK_EQ(c, from ? be->op->upload(be, p, from, bytes, &err) : be->op->zero(be, p, bytes, &err),
             NB_OK);
    return p;
}

/* Rounds the same matrix with the method; h: 1 on the diagonal, `beside` between inputs 2 k and 2 k
 * + 1: the least eigenvalue is 1 - beside. */
static outcome quantize(check *c, nb_backend *be, const char *method, double beside, bool act_order)
{
    static float w[N * K];
    static double h[K * K];
    outcome o = {.g_idx = {-1}};
    nb_grid grid;
    nb_error err = {.message = ""};
    for (int i = 0; i < N * K; i++)
        w[i] = (float)((i * 37) % 101) / 50.0f - 1.0f;
    for (int i = 0; i < K; i++)
        for (int k = 0; k < K; k++)
            h[i * K + k] = i == k ? 1.0 : i / 2 == k / 2 ? beside : 0.0;
    CHECK_EQ(c, nb_grid_find("int4", 16, true, &grid, &err), NB_OK);
    void *const made[] = {upload(c, be, w, sizeof w), upload(c, be, h, sizeof h),
                          upload(c, be, NULL, N * K),
                          upload(c, be, NULL, N * (K / 16) * sizeof(nb_group)),
                          upload(c, be, NULL, N * K * sizeof(float))};
    const nb_quant_job job = {.be = be,
                              .grid = &grid,
                              .w = made[0],
                              .N = N,
                              .K = K,
                              .h = made[1],
                              .n_token = 10,
                              .damp = 0.01,
                              .static_groups = true,
                              .act_order = act_order,
                              .g_idx = o.g_idx,
                              .codes = made[2],
                              .groups = made[3],
                              .q = made[4],
                              .stats = &o.stats};
    CHECK_EQ(c, nb_quantizer_find(method)->layer(&job, &err), NB_OK);
    CHECK_STR(c, err.message, "");
    CHECK_EQ(c, be->op->download(be, o.codes, made[2], sizeof o.codes, &err), NB_OK);
    CHECK_EQ(c, be->op->download(be, o.q, made[4], sizeof o.q, &err), NB_OK);
    for (size_t i = 0; i < sizeof made / sizeof *made; i++)
        be->op->release(be, made[i]);
    return o;
}

static void fallback(check *c)
{
    static const char *const devices[] = {"ref", "cpu"};
    for (int d = 0; d < 2; d++) {
        nb_backend *be = NULL;
        nb_error err = {.message = ""};
        CHECK_EQ(c, nb_backend_open(devices[d], NULL, &be, &err), NB_OK);
        const outcome rtn = quantize(c, be, "rtn", 0.5, false),
                      sound = quantize(c, be, "gptq", 0.5, false),
                      raised = quantize(c, be, "gptq", 1.05, false),
                      rounded = quantize(c, be, "gptq", 5.0, false),
                      ordered = quantize(c, be, "gptq", 5.0, true);
        CHECK_STR(c, sound.stats.note, "");
        CHECK_NEAR(c, sound.stats.damp, 0.01, 0.0, "no more damping than asked for");
        CHECK_STR(c, raised.stats.note, "damping raised to 0.1");
        CHECK(c, memcmp(sound.codes, rtn.codes, sizeof rtn.codes) != 0); /* the Hessian counts */
        CHECK_HAS(c, rounded.stats.note, "not positive definite at damping 1");
        CHECK_HAS(c, rounded.stats.note, "rounded to nearest");
        CHECK(c, memcmp(rounded.codes, rtn.codes, sizeof rtn.codes) == 0);
        CHECK(c, memcmp(ordered.codes, rtn.codes, sizeof rtn.codes) == 0);
        for (int k = 0; k < K; k++)
            CHECK_EQ(c, ordered.g_idx[k], k / 16); /* and no order is left over */
        for (int i = 0; i < N * K; i++)
            CHECK(c, isfinite(rounded.q[i]));
        nb_backend_close(be);
    }
}

static const check_case cases[] = {
    {"a Hessian that is not positive definite is damped, then the matrix is rounded, and the note "
     "says so",
     fallback},
};
CHECK_MAIN(cases)
