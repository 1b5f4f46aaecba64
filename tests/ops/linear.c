/* linear.c -- y = x W^T (+ bias) (+ y) on every backend, over every kind of weight, against ref.
 * NUMERICS.md "linear". */
#include "ops/linear_case.h"

static const int64_t all_M[] = {1, 7, 8, 9, 17, 33, 64},
                     all_K[] = {32, 64, 96, 172, 256, 576, 1536};
static const int64_t all_N[] = {1, 15, 16, 17, 64, 272, 576};
enum { N_M = 7, N_K = 7, N_N = 7 };
static const int64_t max_steps =
    12000000; /* M N K of a case: ref takes about a nanosecond a step */

static void with_case(check *c, ops_set *set, int kind, int64_t M, int64_t N, int64_t K,
                      uint64_t seed)
{
    linear_case_of(c, set, kind, M, N, K, seed, INT64_MAX);
}

static void a_worked_product(check *c)
{
    /* W = [[1 2] [3 -4] [0.5 0]], x = [10 1]: x W^T = [12 26 5]; bias [1 1 1], y before [0 -27
     * 0.25] */
    static const float w[] = {1, 2, 3, -4, 0.5f, 0}, x[] = {10, 1}, bias[] = {1, 1, 1},
                       y0[] = {0, -27, 0.25f};
    static const double want[] = {13, 0, 6.25};
    nb_error err = {.message = ""};
    nb_backend *be = NULL;
    nb_weight *p = NULL;
    const nb_backend_options opt = {.exact = true};
    const nb_matrix m = {
        .N = 3, .K = 2, .dtype = nb_dtype_by_name("f32"), .rows = (const uint8_t *)w};
    CHECK_EQ(c, nb_backend_open("ref", &opt, &be, &err), NB_OK);
    if (!be)
        return;
    CHECK_EQ(c, be->op->pack_weight(be, &m, 1, &p, &err), NB_OK);
    if (p) {
        float y[3];
        memcpy(y, y0, sizeof y);
        const nb_linear_args a = {
            .x = x, .M = 1, .ldx = 2, .ldy = 3, .w = p, .bias = bias, .add = true, .y = y};
        CHECK_EQ(c, be->op->linear(be, &a, &err), NB_OK);
        for (int i = 0; i < 3; i++)
            CHECK_NEAR(c, y[i], want[i], 0, "a worked product");
        CHECK_EQ(c, be->op->weight_bytes(p), 6 * sizeof(float));
    }
    be->op->release_weight(be, p);
    be->op->release_weight(be, NULL);
    nb_backend_close(be);
}

static void every_kind(check *c)
{
    ops_set set;
    ops_set_open(&set, c);
    for (int kind = 0; kind < ops_kind_count(); kind++)
        for (int s = 0; s < 8; s++) {
            int64_t M = all_M[(s + kind) % N_M], N = all_N[(s * 3 + kind) % N_N];
            int i = (s * 5 + kind) % N_K;
            while (!ops_kind_fits(kind, all_K[i]))
                i = (i + 1) % N_K;
            if (M * N * all_K[i] > max_steps)
                M = 9;
            with_case(c, &set, kind, M, N, all_K[i], (uint64_t)(s * 7 + kind));
        }
    ops_set_close(&set);
}

static void every_shape(check *c)
{
    ops_set set;
    ops_set_open(&set, c);
    static const char *const names[] = {"q4_0", "int4 group 128", "int3 group 64"};
    for (int kind = 0; kind < ops_kind_count(); kind++) {
        char name[64];
        ops_kind_name(kind, name, sizeof name);
        for (int j = 0; j < 3; j++)
            for (int i = 0; strcmp(name, names[j]) == 0 && i < N_M * N_N * N_K; i++) {
                const int64_t M = all_M[i % N_M], N = all_N[i / N_M % N_N],
                              K = all_K[i / N_M / N_N];
                if (ops_kind_fits(kind, K) && M * N * K <= max_steps / 4)
                    with_case(c, &set, kind, M, N, K, (uint64_t)i);
            }
    }
    ops_set_close(&set);
}

/* Deep pipelines, sums cut over blocks, tiles with a part missing, and each tile of tokens: what
 * small shapes do not reach on a GPU. */
static const struct {
    const char *kind;
    int64_t M, N, K;
} deep[] = {
    {"int4 group 128 sym", 1, 640, 5120},
    {"int2 group 16 min", 17, 150, 576}, /* a tile of whose four panels three are there */
    {"q4_0", 7, 192, 5120},
    {"int4 group 128", 9, 576, 2112},
    {"q4_k", 17, 960, 1024},
    {"int4 group 64", 33, 576, 1600},
    {"q4_1", 65, 320, 576},
    {"iq4_nl", 5, 128, 4096},
    {"mxfp4", 130, 192, 576},
    {"q8_0", 16, 128, 3072},
    {"int8 group 128 act-order", 70, 192, 640},
    {"bf16", 3, 192, 4096},
    {"bf16", 130, 320, 576},
    {"int4 group 64 act-order", 12, 192, 3008},
    {"int4 group 48", 2, 64, 1536},
    {"int4 group 0", 30, 320, 1984},
    {"int4 group 128 sym", 150, 1024, 128},
    {"q2_k", 1, 192, 4096},
    {"q2_k", 140, 320, 512},
    {"q3_k", 11, 128, 2048},
    {"q3_k", 33, 576, 256},
    {"q4_k", 3, 128, 4096},
    {"q5_k", 2, 192, 2048},
    {"q5_k", 35, 320, 512},
    {"q6_k", 1, 192, 4096},
    {"q6_k", 16, 128, 1536},
    {"q6_k", 140, 320, 512},
    {"q5_0", 4, 128, 2048},
    {"q5_1", 40, 320, 576},
    {"iq4_xs", 8, 64, 2048},
    {"iq2_xxs", 1, 128, 2048},
    {"iq2_s", 10, 128, 2048},
    {"iq1_m", 34, 320, 512},
    {"iq3_s", 70, 320, 512},
    {"nvfp4", 6, 128, 2048},
    {"nvfp4", 65, 320, 512},
    {"nf4", 1, 192, 4096},
    {"fp4", 11, 320, 1600},
    {"nf4", 40, 320, 576},
    {"nf4", 140, 320, 576},
    {"int2 group 128", 1, 128, 4096},
    {"int3 group 128", 12, 128, 2048},
    {"int4 group 16", 9, 128, 1600},
    {"int8 group 16 min", 20, 320, 320},
    {"int2 group 64 sym act-order", 20, 320, 640},
};

static void deep_shapes(check *c)
{
    ops_set set;
    ops_set_open(&set, c);
    for (size_t i = 0; i < sizeof deep / sizeof *deep; i++) {
        const int kind = ops_kind_named(deep[i].kind);
        CHECK(c, kind >= 0);
        if (kind >= 0)
            linear_case_of(c, &set, kind, deep[i].M, deep[i].N, deep[i].K, i, 1);
    }
    ops_set_close(&set);
}

static void same_bits(check *c)
{
    for (size_t i = 0; i < 4; i++)
        linear_case_of(c, NULL, ops_kind_named(deep[i].kind), deep[i].M, deep[i].N, deep[i].K, i,
                       1);
    for (int kind = 0; kind < ops_kind_count(); kind++) {
        with_case(c, NULL, kind, 1, 272, 1536, 2);
        with_case(c, NULL, kind, 17, 64, 256, 1);
        with_case(c, NULL, kind, 40, 80, 512, 3);
    }
    /* more of x than a cache holds: outputs go in groups */
    linear_case_of(c, NULL, ops_kind_named("q4_0"), 130, 576, 4096, 1, INT64_MAX);
}

/* Devices without wgmma, or told to do without, have the tiles of mma.sync for many tokens. */
static void on_sm_80(check *c)
{
    setenv("NIBBLE_SIMT_SM", "80", 1);
    setenv("NIBBLE_CUBLASLT_FROM", "0", 1);
    linear_wanted.row = "tile_128x128";
    ops_set set;
    ops_set_open(&set, c);
    for (size_t i = 0; i < sizeof deep / sizeof *deep; i++)
        if (deep[i].M > 64)
            linear_case_of(c, &set, ops_kind_named(deep[i].kind), deep[i].M, deep[i].N, deep[i].K,
                           i, 1);
    ops_set_close(&set);
    unsetenv("NIBBLE_SIMT_SM");
    setenv("NIBBLE_WGMMA", "0", 1);
    linear_case_of(c, NULL, ops_kind_named("q4_0"), 70, 320, 576, 1, 1);
    linear_wanted.row = NULL;
    unsetenv("NIBBLE_CUBLASLT_FROM");
    unsetenv("NIBBLE_WGMMA");
}

/* Devices with 99 KiB of shared memory a block; x of eight tokens does not fit beside what the row for
 * few tokens keeps of the weights there. */
static void on_sm_86(check *c)
{
    setenv("NIBBLE_SIMT_SM", "86", 1);
    ops_set set;
    ops_set_open(&set, c);
    for (int kind = 0; kind < ops_kind_count(); kind++)
        with_case(c, &set, kind, kind % 2 ? 8 : 16, 80, 256, 1);
    linear_case_of(c, &set, ops_kind_named("q8_0"), 8, 256, 2048, 0, 1);
    ops_set_close(&set);
    unsetenv("NIBBLE_SIMT_SM");
}

/* There and back, what the device's own copy of a call's memory is. */
static void sent_and_back(check *c)
{
    enum { N = 300007 };
    nb_error err = {.message = ""};
    nb_backend *be = NULL;
    void *there = NULL;
    uint8_t *from = malloc(N), *back = malloc(N);
    if (from && back && nb_backend_open("simt", &(nb_backend_options){0}, &be, &err) == NB_OK) {
        for (int i = 0; i < N; i++)
            from[i] = (uint8_t)(i * 31 + i / 8192);
        CHECK_EQ(c, be->op->alloc(be, N, "a test", &there, &err), NB_OK);
        CHECK_EQ(c, be->op->upload(be, there, from, N, &err), NB_OK);
        CHECK_EQ(c, be->op->download(be, back, there, N, &err), NB_OK);
        CHECK(c, memcmp(from, back, N) == 0);
        be->op->release(be, there);
        nb_backend_close(be);
    }
    free(from);
    free(back);
}

/* Weights that are packed and sent in more pieces than there is room for at once. */
static void in_pieces(check *c)
{
    static const char *const kinds[] = {"q4_0", "q4_k", "int3 group 128", "bf16",
                                        "int2 group 64 sym act-order"};
    setenv("NIBBLE_STAGE_BYTES", "8192", 1);
    ops_set set;
    ops_set_open(&set, c);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const int kind = ops_kind_named(kinds[i]);
        CHECK(c, kind >= 0);
        if (kind >= 0)
            linear_case_of(c, &set, kind, 3, 320, 512, i, 1);
    }
    ops_set_close(&set);
    sent_and_back(c);
    unsetenv("NIBBLE_STAGE_BYTES");
}

/* MXFP4 whose scales lie 2^126 apart, which no f16 holds, a token that picks one input: its
 * weights. */
static void far_scales(check *c)
{
    enum { N = 64, K = 64, BLOCK = 32 };
    ops_set set;
    ops_set_open(&set, c);
    const nb_dtype *t = nb_dtype_by_name("mxfp4");
    nb_rng r;
    nb_rng_seed(&r, 1);
    float w[N * K], x[K] = {0}, y[N];
    uint8_t rows[N * K / BLOCK][17];
    for (int b = 0; b < N * K / BLOCK; b++)
        for (int i = 0; i < 17; i++) /* the scale's exponent, the codes */
            rows[b][i] = i ? (uint8_t)(nb_rng_u64(&r) >> 56) : (uint8_t)(64 + b);
    CHECK_EQ(c, t->bytes, 17);
    t->decode(rows[0], w, N * K / BLOCK);
    x[33] = 1.0f;
    for (int i = 0; i < set.n; i++) {
        nb_backend *be = set.o[i].be;
        const nb_matrix m = {.N = N, .K = K, .dtype = t, .rows = rows[0]};
        nb_error err = {.message = ""};
        nb_weight *p = NULL;
        ops *o = &set.o[i];
        snprintf(o->what, sizeof o->what, "%s, far scales", o->row->label);
        CHECK_EQ(c, be->op->pack_weight(be, &m, 1, &p, &err), NB_OK);
        nb_linear_args a = {.x = ops_in(o, x, sizeof x),
                            .M = 1,
                            .ldx = K,
                            .ldy = N,
                            .w = p,
                            .y = ops_out(o, sizeof y)};
        a.scratch = ops_out(o, be->op->linear_scratch(be, &a));
        CHECK_EQ(c, be->op->linear(be, &a, &err), NB_OK);
        ops_get(o, a.y, y);
        for (int n = 0; n < N; n++)
            CHECK_NEAR(c, y[n], w[n * K + 33], 1e-5 * fabs((double)w[n * K + 33]), o->what);
        ops_finish(o);
        be->op->release_weight(be, p);
    }
    ops_set_close(&set);
}

/* At one token the bytes of the weights decide. A format with codes keeps their bits and no more
 * than one for scales, or what its file has. */
static void packed_bits(check *c)
{
    enum { N = 128, K = 4096 };
    nb_error err = {.message = ""};
    nb_backend *be = NULL;
    const nb_backend_options opt = {.exact = false};
    if (nb_backend_open("simt", &opt, &be, &err) != NB_OK) {
        check_skip(c, "no emulator in this build");
        return;
    }
    for (const nb_dtype *const *p = nb_dtypes; *p; p++) {
        const nb_dtype *t = *p;
        nb_weight *w = NULL;
        if (!t->split)
            continue;
        /* the last: what does not grow with the matrix */
        const double file = 8.0 * t->bytes / t->block,
                     most = fmax(t->bits + 1.0, file + 0.25) + 0.01;
        const nb_matrix m = {.N = N, .K = K, .dtype = t};
        CHECK_EQ(c, be->op->measure_weight(be, &m, 1, &w, &err), NB_OK);
        const double bits = w ? 8.0 * (double)be->op->weight_bytes(w) / (N * K) : 0;
        c->n_check++;
        if (!(bits >= t->bits && bits <= most))
            check_report(c, __FILE__, __LINE__,
                         "%s: %.3f bits a weight on the device, %.3f in the file, at most %.3f",
                         t->name, bits, file, most);
        be->op->release_weight(be, w);
    }
    const nb_matrix m = {.N = N, .K = K, .bits = 4, .group = 128};
    nb_weight *w = NULL; /* a scale and a zero a group, each in two bytes at most */
    CHECK_EQ(c, be->op->measure_weight(be, &m, 1, &w, &err), NB_OK);
    CHECK(c, w && 8.0 * (double)be->op->weight_bytes(w) / (N * K) <= 4 + 32.0 / 128 + 0.01);
    be->op->release_weight(be, w);
    nb_backend_close(be);
}

static const check_case cases[] = {
    {"ref multiplies a worked example", a_worked_product},
    {"every backend agrees with ref on every kind of weight", every_kind},
    {"every backend agrees with ref on every shape of three kinds", every_shape},
    {"every backend agrees with ref where work is cut over a whole device", deep_shapes},
    {"a device without wgmma agrees with ref for many tokens", on_sm_80},
    {"a device with little shared memory agrees with ref for few tokens", on_sm_86},
    {"weights that travel in pieces are whole", in_pieces},
    {"scales that are far apart are exact", far_scales},
    {"the bits do not depend on the run or the number of threads", same_bits},
    {"a packed weight has the bits of its format on a GPU", packed_bits},
};
CHECK_MAIN(cases)
