/* linear_rows.c -- rows of linear that a device chooses by shape, setting or what comes before: over
 * the vendor's library, by wgmma, with a norm or an activation on the way; each against ref.
 * NUMERICS.md "linear". */
#include "backend/limits.h"
#include "ops/linear_case.h"

/* The row that gives bf16 to the vendor's library serves all kinds and any number of tokens, if
 * only it is asked to. On simt the library has a stand-in, 256 KiB of unpacked weights are a chunk,
 * and chunks have 256 rows: shapes of one, of several, and with a last one of few rows. */
static const struct {
    int64_t M, N, K;
} by_library_shape[] = {{1, 16, 256},   {7, 64, 576},   {17, 272, 256}, {5, 576, 1536},
                        {130, 64, 256}, {2, 1092, 512}, {33, 60, 64},   {9, 64, 576}};
enum { N_BY_LIBRARY = sizeof by_library_shape / sizeof *by_library_shape };

static int64_t fitting(int kind, int64_t K)
{
    while (!ops_kind_fits(kind, K))
        K += 64;
    return K;
}

/* That row takes x as it lies: what comes before it is told to come by itself, and refused. */
static void library_takes_x(check *c)
{
    enum { N = 16, K = 64 };
    nb_error err = {.message = ""};
    nb_backend *be = NULL;
    nb_weight *w = NULL;
    nb_rng r;
    ops_weight m;
    setenv("NIBBLE_CUBLASLT_FROM", "1", 1);
    nb_rng_seed(&r, 1);
    CHECK(c, ops_weight_make(ops_kind_named("q4_0"), N, K, &r, &m));
    if (nb_backend_open("simt", &(nb_backend_options){0}, &be, &err) != NB_OK) {
        check_skip(c, "no emulator in this build");
    } else {
        CHECK_EQ(c, be->op->pack_weight(be, &m.m, 1, &w, &err), NB_OK);
        for (int norm = 0; norm < 2; norm++) { /* nothing is read */
            nb_linear_args a = {.M = 1, .ldx = K, .ldy = N, .w = w};
            *(norm ? &a.through.norm : &a.through.up) = (const float *)w;
            CHECK(c, !be->op->linear_takes(be, &a));
            CHECK_EQ(c, be->op->linear(be, &a, &err), NB_UNSUPPORTED);
            CHECK_HAS(c, err.message, "takes x as it lies");
        }
        be->op->release_weight(be, w);
        nb_backend_close(be);
    }
    ops_weight_free(&m);
    unsetenv("NIBBLE_CUBLASLT_FROM");
}

static void by_library(check *c)
{
    setenv("NIBBLE_CUBLASLT_FROM", "1", 1);
    linear_wanted.row = "cublaslt";
    ops_set set;
    ops_set_open(&set, c);
    for (int kind = 0; kind < ops_kind_count(); kind++)
        for (int i = 0; i < 4; i++) {
            /* bias, add and strides as the seed says: every combination comes */
            const int s = (kind + i * 2) % N_BY_LIBRARY;
            linear_case_of(c, &set, kind, by_library_shape[s].M, by_library_shape[s].N,
                           fitting(kind, by_library_shape[s].K), (uint64_t)(kind + i * 5), 1);
        }
    for (int i = 0; i < N_BY_LIBRARY; i++)
        for (int j = 0; j < 2; j++)
            linear_case_of(c, &set, ops_kind_named(j ? "bf16" : "q4_0"), by_library_shape[i].M,
                           by_library_shape[i].N, by_library_shape[i].K, (uint64_t)(i * 4 + j), 1);
    ops_set_close(&set);
    for (int i = 0; i < N_BY_LIBRARY; i++)
        linear_case_of(c, NULL, ops_kind_named("q4_k"), by_library_shape[i].M,
                       by_library_shape[i].N,
                       fitting(ops_kind_named("q4_k"), by_library_shape[i].K), (uint64_t)i, 1);
    linear_wanted.row = NULL;
    unsetenv("NIBBLE_CUBLASLT_FROM");
}

/* The rows of wgmma, by every number of lines a unit and every kind of line: one panel of the last
 * tile, outputs and tokens missing in it, K that ends within a unit, tiles that blocks share and
 * tiles that they do not, fewer units than stages. */
static const struct {
    const char *kind;
    int64_t M, N, K;
    const char *row; /* by the arithmetic in wgmma.cu, with the emulator's four multiprocessors */
} by_wgmma_shape[] = {
    {"q4_0", 65, 320, 576, "wgmma_128x128"},
    {"q4_0", 192, 500, 1664, "wgmma_256x128"},
    {"q4_1", 200, 576, 704, "wgmma_128x128"},
    {"q4_k", 129, 700, 1280, "wgmma_256x128"},
    {"int4 group 128", 150, 1000, 1100, "wgmma_256x128"},
    {"int4 group 128 sym", 130, 192, 640, "wgmma_128x128"},
    {"int4 group 128 sym", 150, 1024, 128, "wgmma_128x128"},
    {"int4 group 32 sym", 1100, 64, 64, "wgmma_128x128"},
    {"int4 group 0", 129, 300, 172, "wgmma_128x128"},
    {"int4 group 64", 65, 300, 1000, "wgmma_128x128"},
    {"int4 group 64 act-order", 70, 960, 1700, "wgmma_256x128"},
    {"int4 group 32 sym act-order", 66, 130, 600, "wgmma_128x128"},
    {"int4 group 32 min", 140, 320, 416, "wgmma_128x128"},
    {"int4 group 96 min", 66, 192, 600, "wgmma_128x128"},
    {"int4 group 16", 129, 500, 400, "wgmma_128x128"},
    {"iq4_nl", 129, 500, 1824, "wgmma_256x128"},
    {"nf4", 129, 500, 1856, "wgmma_256x128"},
    {"fp4", 66, 300, 576, "wgmma_128x128"},
    {"iq4_xs", 65, 192, 512, "wgmma_128x128"},
    {"mxfp4", 66, 130, 96, "wgmma_128x128"},
    {"nvfp4", 130, 200, 512, "wgmma_128x128"},
    {"q8_0", 150, 1000, 1024, "wgmma_256x128"},
    {"int8 group 64", 65, 960, 1700, "wgmma_256x128"},
    {"int8 group 128 act-order", 70, 192, 640, "wgmma_128x128"},
    {"int8 group 16 min", 65, 200, 320, "wgmma_128x128"},
    {"bf16", 130, 320, 576, "wgmma_128x128"},
    {"bf16", 129, 500, 1700, "wgmma_256x128"},
};
enum { N_BY_WGMMA = sizeof by_wgmma_shape / sizeof *by_wgmma_shape };

static void by_wgmma(check *c)
{
    setenv("NIBBLE_CUBLASLT_FROM", "0", 1);
    ops_set set;
    ops_set_open(&set, c);
    for (int i = 0; i < N_BY_WGMMA; i++) {
        const int kind = ops_kind_named(by_wgmma_shape[i].kind);
        CHECK(c, kind >= 0);
        linear_wanted.row = by_wgmma_shape[i].row;
        if (kind >= 0)
            linear_case_of(c, &set, kind, by_wgmma_shape[i].M, by_wgmma_shape[i].N,
                           by_wgmma_shape[i].K, (uint64_t)i, 1);
    }
    ops_set_close(&set);
    for (int i = 0; i < 4; i++) {
        linear_wanted.row = by_wgmma_shape[i].row;
        linear_case_of(c, NULL, ops_kind_named(by_wgmma_shape[i].kind), by_wgmma_shape[i].M,
                       by_wgmma_shape[i].N, by_wgmma_shape[i].K, (uint64_t)i, 1);
    }
    linear_wanted.row = NULL;
    unsetenv("NIBBLE_CUBLASLT_FROM");
}

/* x through a norm or an activation. A GPU's row for few tokens brings it by itself, one kernel for
 * all, while a block has little of it to read; with more tokens and longer rows, and for tiles, a
 * kernel before does. Blocks begin in the middle of a tile and end in the next; inputs are in another
 * order; rows are no whole number of 16 bytes. */
static const struct {
    const char *kind;
    int64_t M, N, K;
    int most; /* kernels */
} through_shape[] = {
    {"int4 group 128 sym", 1, 640, 2112, 1},
    {"q4_0", 3, 192, 1600, 1},
    {"q4_1", 8, 128, 576, 1},
    {"int4 group 64 act-order", 2, 192, 1024, 1},
    {"q4_k", 5, 320, 768, 1},
    {"bf16", 1, 192, 1216, 1},
    {"f32", 7, 80, 172, 1},
    {"nf4", 2, 192, 1024, 1},
    {"q4_0", 8, 128, 5120, 2},
    {"int4 group 128", 12, 128, 1088, 2},
    {"int4 group 64 act-order", 33, 80, 640, 2},
    {"q4_0", 70, 64, 576, 2},
    {"q6_k", 130, 64, 512, 2},
};
enum { N_THROUGH = sizeof through_shape / sizeof *through_shape };

static void each_through(check *c, ops_set *set)
{
    for (int i = 0; i < N_THROUGH; i++) {
        const int kind = ops_kind_named(through_shape[i].kind);
        CHECK(c, kind >= 0);
        linear_wanted.launches = through_shape[i].most;
        for (int j = 0; j < 2 && kind >= 0; j++) { /* each with a norm, and an activation in turn */
            linear_wanted.through = j ? SILU + i % 2 : NORMED;
            linear_case_of(c, set, kind, through_shape[i].M, through_shape[i].N, through_shape[i].K,
                           (uint64_t)(i + j),
                           1); /* i, so that norms too have rows of every stride */
        }
    }
    linear_wanted.through = AS_IT_LIES;
    linear_wanted.launches = 0;
}

static void through_ops(check *c)
{
    ops_set set;
    ops_set_open(&set, c);
    each_through(c, &set);
    ops_set_close(&set);
}

static void through_same_bits(check *c)
{
    linear_wanted.apart = true;
    each_through(c, NULL);
    linear_wanted.apart = false;
}

static void without_library(check *c)
{
    setenv("NIBBLE_CUBLASLT_FROM", "1", 1);
    setenv("NIBBLE_SIMT_LIBRARIES", "none", 1);
    nb_error err = {.message = ""};
    nb_backend *be = NULL;
    const nb_backend_options opt = {.exact = false};
    if (nb_backend_open("simt", &opt, &be, &err) == NB_OK) {
        const nb_matrix m = {.N = 64, .K = 256, .dtype = nb_dtype_by_name("q4_0")};
        nb_weight *w = NULL;
        nb_arith arith;
        CHECK(c, !be->op->product_library(be));
        CHECK_EQ(c, be->op->measure_weight(be, &m, 1, &w, &err), NB_OK);
        const nb_linear_args a = {.M = 4096, .ldy = 64, .w = w};
        CHECK_STR(c, nb_backend_linear_row(be, &a, &arith), "wgmma_128x128");
        be->op->release_weight(be, w);
    }
    nb_backend_close(be);
    ops_set set;
    ops_set_open(&set, c);
    linear_case_of(c, &set, ops_kind_named("q4_0"), 17, 64, 256, 0, 1);
    ops_set_close(&set);
    unsetenv("NIBBLE_SIMT_LIBRARIES");
    setenv("NIBBLE_CUBLASLT_FROM", "all", 1);
    if (nb_backend_open("simt", &opt, &be, &err) == NB_USAGE)
        CHECK_STR(c, err.message,
                  "NIBBLE_CUBLASLT_FROM=all is no number of tokens; 0 is none, 1 all");
    else
        CHECK_HAS(c, err.message, "libnibble_simt.so"); /* not built */
    CHECK(c, !be);
    unsetenv("NIBBLE_CUBLASLT_FROM");
}

/* What the library has no algorithm for, which it says in its proposal, the tiles do. */
static void no_algorithm(check *c)
{
    setenv("NIBBLE_CUBLASLT_FROM", "1", 1);
    nb_error err = {.message = ""};
    nb_backend *be = NULL;
    const nb_backend_options opt = {.exact = false};
    const nb_matrix m = {.N = 64, .K = 256, .dtype = nb_dtype_by_name("q4_0")};
    if (nb_backend_open("simt", &opt, &be, &err) == NB_OK) {
        nb_weight *w = NULL;
        nb_arith arith;
        CHECK_EQ(c, be->op->measure_weight(be, &m, 1, &w, &err), NB_OK);
        nb_linear_args a = {.M = 17, .ldy = 64, .w = w};
        CHECK_STR(c, nb_backend_linear_row(be, &a, &arith), "cublaslt");
        a.M = 1 << 21; /* more than the emulator's stand-in has */
        CHECK_STR(c, nb_backend_linear_row(be, &a, &arith), "wgmma_128x128");
        be->op->release_weight(be, w);
    } else {
        check_skip(c, "%s", err.message); /* ops/backend says whether it must be there */
    }
    nb_backend_close(be);
    unsetenv("NIBBLE_CUBLASLT_FROM");
}

/* Left alone, the library gets large matrices and many tokens: never fewer than a few hundred, and
 * from some number on all. Its scratch does not grow with the outputs, and what is asked for many
 * tokens is enough for fewer. */
static void left_alone(check *c)
{
    static const struct {
        const char *format;
        int64_t N, K;
    } weight[] = {{"q4_0", 8192, 8192},
                  {"q4_k", 57344, 8192},
                  {"nvfp4", 4096, 14336},
                  {"bf16", 28672, 4096},
                  {"q8_0", 1024, 1024}};
    nb_error err = {.message = ""};
    nb_backend *be = NULL;
    const nb_backend_options opt = {.exact = false};
    if (nb_backend_open("simt", &opt, &be, &err) != NB_OK) {
        check_skip(c, "%s", err.message); /* ops/backend says whether it must be there */
        return;
    }
    CHECK(c, be->op->product_library(be) != NULL);
    for (size_t i = 0; i < sizeof weight / sizeof *weight; i++) {
        const nb_matrix m = {
            .N = weight[i].N, .K = weight[i].K, .dtype = nb_dtype_by_name(weight[i].format)};
        nb_weight *w = NULL;
        size_t before = 0;
        bool there = false;
        CHECK_EQ(c, be->op->measure_weight(be, &m, 1, &w, &err), NB_OK);
        for (int64_t M = 1; M <= 65536; M *= 2) {
            nb_arith arith;
            const nb_linear_args a = {.M = M, .ldy = m.N, .w = w};
            const bool library = strcmp(nb_backend_linear_row(be, &a, &arith), "cublaslt") == 0;
            const size_t bytes = be->op->linear_scratch(be, &a);
            CHECK(c, library || !there);
            CHECK(c, !library || M >= 128);
            CHECK(c, M < 65536 || library);
            CHECK(c, bytes >= before);
            CHECK(c, !library || bytes >= (size_t)(2 * M * m.K));
            there = library;
            before = bytes;
        }
        be->op->release_weight(be, w);
    }
    nb_backend_close(be);
}

static const check_case cases[] = {
    {"a device with wgmma agrees with ref in its rows", by_wgmma},
    {"a norm or an activation on the way into a linear agrees with ref, in few kernels",
     through_ops},
    {"and gives the bits of the op and the linear behind it", through_same_bits},
    {"every backend with a row over the vendor's library agrees with ref there", by_library},
    {"the vendor's library takes x as it lies", library_takes_x},
    {"without the library, or with a setting that is no number, the tiles serve or a sentence says "
     "so",
     without_library},
    {"what the library has no algorithm for is left to the tiles", no_algorithm},
    {"the library is given large products, and its scratch is planned", left_alone},
};
CHECK_MAIN(cases)
