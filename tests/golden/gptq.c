/* gptq.c -- the GPTQ quantizer against float64 runs of an independent program
 * (tests/data/gptq/README.md): same inputs X, same W, on every backend that opens. At most 0.1 % of
 * the codes may differ: a value that lies at a tie in float32. Scales and zeros are those of the
 * program to the bit, except where a group holds nothing but zeros and the scale means nothing. */
#include "base/mapfile.h"
#include "base/scalar.h"
#include "check.h"
#include "file/container.h"
#include "quant/quantizer.h"

enum { N = 64, K = 256, T = 192 };

struct golden {
    nb_mapfile *map;
    nb_safetensors *st;
};

static const uint8_t *tensor(check *c, const struct golden *g, const char *name, size_t bytes)
{
    for (int64_t i = 0; i < g->st->n_tensor; i++)
        if (strcmp(g->st->tensor[i].name, name) == 0) {
            CHECK_EQ(c, g->st->tensor[i].bytes, bytes);
            return g->st->tensor[i].data;
        }
    CHECK_STR(c, name, "a tensor of the golden file");
    return NULL;
}

static float *floats(check *c, const struct golden *g, const char *name, size_t n)
{
    const uint8_t *p = tensor(c, g, name, 2 * n);
    float *out = calloc(n, sizeof *out);
    for (size_t i = 0; p && out && i < n; i++)
        out[i] = nb_f32_from_f16(nb_load_u16(p + 2 * i));
    return out;
}

struct golden_case {
    const char *name, *grid;
    int group;
    bool sym, static_groups, corrected, act_order;
    bool product; /* corrected by W C, summed as such */
};

/* Device buffers of one job. */
struct job {
    float *x, *orig, *w, *q;
    double *h, *c, *wc;
    uint8_t *codes;
    nb_group *groups;
    void *scratch;
};

static bool device(check *c, nb_backend *be, void **out, size_t bytes, const void *from)
{
    nb_error err = {.message = ""};
    nb_status st = be->op->alloc(be, bytes, "a test", out, &err);
    if (st == NB_OK)
        st = from ? be->op->upload(be, *out, from, bytes, &err)
                  : be->op->zero(be, *out, bytes, &err);
    CHECK_STR(c, err.message, "");
    return st == NB_OK;
}

/* The program's Hessian is 2/T X^T X: the scale shows, because dead columns get a diagonal of 1
 * beside it. */
static void scale(check *c, nb_backend *be, double *sum, size_t n)
{
    static double host[K * K];
    nb_error err = {.message = ""};
    CHECK_EQ(c, be->op->download(be, host, sum, n * sizeof *host, &err), NB_OK);
    for (size_t i = 0; i < n; i++)
        host[i] *= 2.0 / T;
    CHECK_EQ(c, be->op->upload(be, sum, host, n * sizeof *host, &err), NB_OK);
}

/* H, and C or W C. */
static void gather(check *c, nb_backend *be, const struct golden_case *k, struct job *j)
{
    const bool square = k->corrected && !k->product;
    nb_error err = {.message = ""};
    nb_gram_args gram = {.x = j->x,
                         .x_orig = square ? j->orig : NULL,
                         .M = T,
                         .K = K,
                         .ldx = K,
                         .ld_orig = K,
                         .h = j->h,
                         .c = square ? j->c : NULL};
    nb_drift_args drift = {.x = j->x,
                           .x_orig = j->orig,
                           .M = T,
                           .K = K,
                           .ldx = K,
                           .ld_orig = K,
                           .w = j->w,
                           .N = N,
                           .d = j->wc};
    const size_t of_gram = be->op->gram_scratch(be, &gram),
                 of_drift = k->product ? be->op->drift_scratch(be, &drift) : 0;
    if (!device(c, be, &j->scratch, (of_gram > of_drift ? of_gram : of_drift) + 64, NULL))
        return;
    gram.scratch = drift.scratch = j->scratch;
    CHECK_EQ(c, be->op->gram_accumulate(be, &gram, &err), NB_OK);
    if (k->product)
        CHECK_EQ(c, be->op->drift_accumulate(be, &drift, &err), NB_OK);
    CHECK_STR(c, err.message, "");
    scale(c, be, j->h, K * K);
    scale(c, be, j->c, K * K);
    scale(c, be, j->wc, N * K);
}

static void run(check *c, nb_backend *be, const struct golden *g, const struct golden_case *k,
                uint8_t *codes, nb_group *groups, float *target, int32_t *g_idx)
{
    nb_error err = {.message = ""};
    nb_grid grid;
    struct job j = {0};
    CHECK_EQ(c, nb_grid_find(k->grid, k->group, k->sym, &grid, &err), NB_OK);
    const size_t n_group = N * (size_t)(K / k->group) * sizeof *groups,
                 square = (size_t)K * K * sizeof(double);
    float *x = floats(c, g, "X", T * K), *orig = floats(c, g, "lsc.X_orig", T * K),
          *w = floats(c, g, "W", N * K);
    if (device(c, be, (void **)&j.x, T * K * 4, x) &&
        device(c, be, (void **)&j.orig, T * K * 4, orig) &&
        device(c, be, (void **)&j.w, N * K * 4, w) &&
        device(c, be, (void **)&j.q, N * K * 4, NULL) &&
        device(c, be, (void **)&j.h, square, NULL) && device(c, be, (void **)&j.c, square, NULL) &&
        device(c, be, (void **)&j.wc, N * K * sizeof(double), NULL) &&
        device(c, be, (void **)&j.codes, N * K, NULL) &&
        device(c, be, (void **)&j.groups, n_group, NULL)) {
        nb_quant_stats stats = {0};
        const nb_quant_job job = {.be = be,
                                  .grid = &grid,
                                  .w = j.w,
                                  .N = N,
                                  .K = K,
                                  .h = j.h,
                                  .c = k->corrected && !k->product ? j.c : NULL,
                                  .wc = k->product ? j.wc : NULL,
                                  .damp = 0.01,
                                  .correction = 1.0,
                                  .static_groups = k->static_groups,
                                  .act_order = k->act_order,
                                  .g_idx = g_idx,
                                  .codes = j.codes,
                                  .groups = j.groups,
                                  .q = j.q,
                                  .stats = &stats};
        gather(c, be, k, &j);
        CHECK_EQ(c, nb_quantizer_find("gptq")->layer(&job, &err), NB_OK);
        CHECK_EQ(c, be->op->download(be, codes, j.codes, N * K, &err), NB_OK);
        CHECK_EQ(c, be->op->download(be, groups, j.groups, n_group, &err), NB_OK);
        CHECK_EQ(c, be->op->download(be, target, j.w, N * K * 4, &err), NB_OK);
        CHECK_STR(c, err.message, "");
        CHECK_EQ(c, stats.n_dead, 3);
    }
    void *all[] = {j.x, j.orig, j.w, j.q, j.h, j.c, j.wc, j.codes, j.groups, j.scratch};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        be->op->release(be, all[i]);
    free(x);
    free(orig);
    free(w);
}

static void compare(check *c, const char *name, const struct golden *g, const struct golden_case *k,
                    const uint8_t *codes, const nb_group *groups, const float *target,
                    const int32_t *g_idx)
{
    char at[64];
    const int G = K / k->group;
    snprintf(at, sizeof at, "%s.codes", k->name);
    const uint8_t *want = tensor(c, g, at, N * K);
    snprintf(at, sizeof at, "%s.scales", k->name);
    const uint8_t *scales = tensor(c, g, at, (size_t)(2 * N * G));
    snprintf(at, sizeof at, "%s.zeros", k->name);
    const uint8_t *zeros = k->corrected ? NULL : tensor(c, g, at, (size_t)(N * G));
    int differ = 0, far = 0;
    for (int i = 0; want && i < N * K; i++) {
        differ += codes[i] != want[i];
        far += abs(codes[i] - want[i]) > 1;
    }
    printf("      %s %s%s: %d of %d codes differ\n", name, k->name,
           k->product ? ", W C summed" : "", differ, N * K);
    CHECK(c, differ <= N * K / 1000);
    CHECK_EQ(c, far, 0);
    for (int i = 0; scales && i < N * G; i++) {
        bool zero = true; /* nothing but the zero code in the group */
        for (int j = 0; j < K; j++)
            zero = zero && (g_idx[j] != i % G || (float)codes[i / G * K + j] == groups[i].zero);
        if (!zero)
            CHECK_NEAR(c, groups[i].scale, nb_f32_from_f16(nb_load_u16(scales + 2 * i)), 0.0,
                       k->name);
        if (!zero && zeros)
            CHECK_EQ(c, groups[i].zero, zeros[i]);
    }
    snprintf(at, sizeof at, "%s.g_idx", k->name);
    const uint8_t *order = k->act_order ? tensor(c, g, at, 4 * K) : NULL;
    for (int j = 0; order && j < K; j++)
        CHECK_EQ(c, g_idx[j], (int32_t)nb_load_u32(order + 4 * j));
    const uint8_t *star = k->corrected ? tensor(c, g, "lsc.W_star", 4 * N * K) : NULL;
    for (int i = 0; star && i < N * K; i++)
        CHECK_NEAR(c, target[i], nb_f32_from_bits(nb_load_u32(star + 4 * i)),
                   2e-5 * (1.0 + fabs((double)target[i])), "corrected target");
}

static void on_device(check *c, const char *name)
{
    static const struct golden_case cases[] = {
        {"w4g128sym", "int4", 128, true, false, false, false, false},
        {"w4g128asym", "int4", 128, false, false, false, false, false},
        {"w3g64asym_static", "int3", 64, false, true, false, false, false},
        {"w2g32asym", "int2", 32, false, false, false, false, false},
        {"w3g64sym_desc", "int3", 64, true, false, false, true, false},
        {"lsc", "int4", 128, true, false, true, false, false},
        {"lsc", "int4", 128, true, false, true, false, true}};
    static uint8_t codes[N * K];
    static nb_group groups[N * K / 32];
    static float target[N * K];
    int32_t g_idx[K];
    nb_error err = {.message = ""};
    nb_backend *be = NULL;
    struct golden g = {0};
    const nb_status st = nb_backend_open(name, NULL, &be, &err);
    if (st == NB_DEVICE) {
        check_skip(c, "%s", err.message);
        return;
    }
    CHECK_STR(c, err.message, "");
    CHECK_EQ(c,
             nb_mapfile_open(NB_SOURCE_DIR "/tests/data/gptq/gptq_ref.safetensors", &g.map, &err),
             NB_OK);
    if (be && g.map && nb_safetensors_parse(g.map->path, g.map->p, g.map->n, &g.st, &err) == NB_OK)
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            if (cases[i].product && !be->op->drift_accumulate)
                continue;
            for (int j = 0; j < K; j++)
                g_idx[j] = j / cases[i].group;
            run(c, be, &g, &cases[i], codes, groups, target, g_idx);
            compare(c, name, &g, &cases[i], codes, groups, target, g_idx);
        }
    CHECK_STR(c, err.message, "");
    nb_safetensors_close(g.st);
    nb_mapfile_close(g.map);
    nb_backend_close(be);
}

static void on_ref(check *c)
{
    on_device(c, "ref");
}
static void on_cpu(check *c)
{
    on_device(c, "cpu");
}
static void on_simt(check *c)
{
    on_device(c, "simt");
}
static void on_cuda(check *c)
{
    on_device(c, "cuda:0");
}

static const check_case cases[] = {
    {"GPTQ on ref gives the program's codes, scales and corrected weights", on_ref},
    {"GPTQ on cpu gives the program's codes, scales and corrected weights", on_cpu},
    {"GPTQ by the CUDA sources on the emulator gives the program's codes, scales and corrected "
     "weights",
     on_simt},
    {"GPTQ on a GPU gives the program's codes, scales and corrected weights", on_cuda},
};
CHECK_MAIN(cases)
