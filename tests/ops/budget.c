/* budget.c -- what kernels may cost, counted by the emulator: bytes read against those that must be,
 * sectors of memory of which no part is wasted, shared memory without conflicts, tensor-core
 * instructions and barriers. No time is measured; these are what time follows from
 * (docs/PERFORMANCE.md), and what a careless edit spoils without any wrong result. */
#include "backend/kv.h"
#include "backend/limits.h"
#include "ops/linear_case.h"
#include "ops/ops.h"
#include "ops/weights.h"

enum { kSector = 32, kMostBuffers = 12 };

/* Stats of tests/simt/simt.h, of all launches since the last look. */
typedef struct counts {
    uint64_t ld_req, ld_bytes, ld_sec, st_req, st_bytes, st_sec, uniq_ld_sec, uniq_st_sec, atom,
        sld_req, sld_wave, sld_ideal, sst_req, sst_wave, sst_ideal, local, bars, syncwarp, shfl,
        mma, ldm, cp_bytes, tma_bytes, hooks, switches, threads;
} counts;
enum { kCounts = sizeof(counts) / sizeof(uint64_t) };

typedef union counting {
    void *address;
    int (*counts)(uint64_t *out, int most);
} counting;

/* What is allowed: the counts when they were last looked at, rounded up. What is read more often than
 * once other blocks or warps read again, out of L2 or L1. */
typedef struct budget {
    double once, all; /* sectors read, each once and all, in bytes, to the bytes that must be read;
                       * scratch of the op counts as read too */
    double stores; /* sectors written to those that are touched: 1 where none is written in parts */
    double conflicts;  /* wavefronts of shared memory to what they would be without conflicts */
    int64_t mma, bars; /* tensor-core instructions, exactly; barriers of warps, at most */
} budget;

/* One device with its counters, and the memory of one case. */
typedef struct bench {
    check *c;
    nb_backend *be;
    counting at;
    nb_rng rng;
    void *buffer[kMostBuffers];
    int n_buffer;
    nb_error err;
} bench;

static bool bench_open(bench *b, check *c)
{
    const nb_backend_options o = {.n_thread = 1};
    *b = (bench){.c = c};
    nb_rng_seed(&b->rng, 1);
    if (nb_backend_open("simt", &o, &b->be, &b->err) != NB_OK) {
        check_skip(c, "no emulator in this build: %s", b->err.message);
        return false;
    }
    b->at.address = ops_simt("simt_counts");
    CHECK(c, b->at.address != NULL);
    return b->at.address != NULL;
}

/* Device memory of n floats (or as many bytes by four), normals or, where src is given, a copy. */
static void *on_device(bench *b, const void *src, size_t bytes)
{
    void *p = NULL;
    float *made = src ? NULL : ops_normals(&b->rng, (int64_t)(bytes / sizeof(float) + 1), 1);
    CHECK_EQ(b->c, b->be->op->alloc(b->be, bytes ? bytes : 1, "a buffer", &p, &b->err), NB_OK);
    CHECK_EQ(b->c, b->be->op->upload(b->be, p, src ? src : made, bytes, &b->err), NB_OK);
    free(made);
    b->buffer[b->n_buffer++] = p;
    return p;
}

static void begin(bench *b)
{
    uint64_t none[kCounts];
    CHECK_EQ(b->c, b->be->op->sync(b->be, &b->err), NB_OK);
    CHECK_EQ(b->c, b->at.counts(none, kCounts), (int)kCounts);
}

static double share(uint64_t a, uint64_t b)
{
    return b ? (double)a / (double)b : 1.0;
}

/* Ends a case: st is the op's, `must` the bytes that it cannot do without reading. */
static void end(bench *b, const char *what, nb_status st, double must, const budget *may)
{
    union {
        counts c;
        uint64_t u[kCounts];
    } n;
    CHECK_STR(b->c, b->err.message, "");
    CHECK_EQ(b->c, st, NB_OK);
    CHECK_EQ(b->c, b->be->op->sync(b->be, &b->err), NB_OK);
    b->at.counts(n.u, kCounts);
    const budget is = {.once = (double)(n.c.uniq_ld_sec * kSector) / must,
                       .all = (double)(n.c.ld_sec * kSector) / must,
                       .stores = share(n.c.st_sec, n.c.uniq_st_sec),
                       .conflicts =
                           share(n.c.sld_wave + n.c.sst_wave, n.c.sld_ideal + n.c.sst_ideal),
                       .mma = (int64_t)n.c.mma,
                       .bars = (int64_t)n.c.bars};
    b->c->n_check++;
    if (is.once > may->once || is.all > may->all || is.stores > may->stores ||
        is.conflicts > may->conflicts || is.mma != may->mma || is.bars > may->bars)
        check_report(b->c, __FILE__, __LINE__,
                     "%s: {%.3f, %.3f, %.3f, %.3f, %lld, %lld}, allowed {%.2f, %.2f, %.2f, %.2f, "
                     "%lld, %lld}",
                     what, is.once, is.all, is.stores, is.conflicts, (long long)is.mma,
                     (long long)is.bars, may->once, may->all, may->stores, may->conflicts,
                     (long long)may->mma, (long long)may->bars);
    for (int i = 0; i < b->n_buffer; i++)
        b->be->op->release(b->be, b->buffer[i]);
    b->n_buffer = 0;
}

/* ---- linear ---- */

static const struct {
    const char *kind, *row;
    int64_t M, N, K;
    budget may;
} linears[] = {
    {"q4_0", "stream", 1, 256, 1024, {1.02, 1.10, 1, 1, 1280, 40}},
    {"q4_0", "stream", 8, 256, 1024, {1.09, 1.64, 1, 1, 1280, 40}},
    {"q4_0", "stream", 16, 256, 1024, {1.31, 1.77, 1, 1, 2560, 32}},
    {"q4_k", "stream", 1, 256, 1024, {1.02, 1.17, 1, 1, 1280, 40}},
    {"q2_k", "stream", 1, 256, 1024, {1.02, 1.30, 1, 1, 1280, 40}},
    {"q6_k", "stream", 1, 256, 1024, {1.01, 1.10, 1, 1, 1280, 40}},
    {"q8_0", "stream", 1, 256, 1024, {1.01, 1.05, 1, 1, 1280, 40}},
    {"nf4", "stream", 1, 256, 1024, {1.02, 1.10, 1, 1, 1024, 40}},
    {"bf16", "stream", 1, 256, 1024, {1.01, 1.03, 1, 1, 1024, 40}},
    {"q4_0", "tile_256x32", 32, 256, 1024, {1.49, 1.49, 1, 1, 4096, 20}},
    {"q4_0", "tile_256x64", 64, 256, 1024, {1.66, 1.66, 1, 1, 8192, 20}},
    {"q4_0", "wgmma_128x128", 128, 256, 1024, {1.79, 2.96, 1, 1, 1024, 12}},
    {"q4_k", "wgmma_128x128", 128, 256, 1024, {1.80, 3.01, 1, 1, 1024, 12}},
    {"q6_k", "tile_128x128", 128, 256, 1024, {1.76, 2.17, 1, 1.55, 16384, 40}},
};

static void linear(check *c)
{
    bench b;
    if (!bench_open(&b, c))
        return;
    for (size_t i = 0; i < sizeof linears / sizeof *linears; i++) {
        const int64_t M = linears[i].M, N = linears[i].N, K = linears[i].K;
        ops_weight w;
        nb_weight *packed = NULL;
        nb_arith arith;
        char what[100];
        CHECK(c, ops_weight_make(ops_kind_named(linears[i].kind), N, K, &b.rng, &w));
        CHECK_EQ(c, b.be->op->pack_weight(b.be, &w.m, 1, &packed, &b.err), NB_OK);
        nb_linear_args a = {.M = M, .ldx = K, .ldy = N, .w = packed};
        a.x = on_device(&b, NULL, (size_t)(M * K) * sizeof(float));
        a.y = on_device(&b, NULL, (size_t)(M * N) * sizeof(float));
        a.scratch = on_device(&b, NULL, b.be->op->linear_scratch(b.be, &a));
        const char *row = nb_backend_linear_row(b.be, &a, &arith);
        CHECK_STR(c, row, linears[i].row);
        snprintf(what, sizeof what, "%s %s, %d x %d x %d", row, linears[i].kind, (int)M, (int)N,
                 (int)K);
        begin(&b);
        const nb_status st = b.be->op->linear(b.be, &a, &b.err);
        end(&b, what, st, (double)b.be->op->weight_bytes(packed) + (double)(M * K * 4),
            &linears[i].may);
        b.be->op->release_weight(b.be, packed);
        ops_weight_free(&w);
    }
    nb_backend_close(b.be);
}

/* ---- attention ---- */

static const struct {
    nb_kv_type type;
    int tokens, len, n_head, n_kv_head, head_dim;
    budget may;
} attentions[] = {
    {NB_KV_F16, 1, 1024, 8, 2, 64, {1.07, 1.59, 1.21, 1.02, 0, 98}},
    {NB_KV_F16, 1, 1024, 8, 2, 128, {1.07, 1.58, 1.11, 1, 0, 98}},
    {NB_KV_Q8, 1, 1024, 8, 2, 128, {1.12, 2.14, 1.11, 1, 0, 98}},
    {NB_KV_FP8, 1, 1024, 8, 2, 128, {1.13, 2.15, 1.11, 1, 0, 98}},
    {NB_KV_F16, 64, 128, 4, 2, 64, {1.01, 1.65, 2, 1, 2048, 20}},
    {NB_KV_BF16, 64, 128, 4, 2, 128, {1.01, 1.58, 2, 1, 4096, 20}},
    {NB_KV_F16, 128, 256, 4, 2, 128, {1.01, 2.2, 2, 1, 1024, 4}},
};

static void attention(check *c)
{
    bench b;
    if (!bench_open(&b, c))
        return;
    for (size_t i = 0; i < sizeof attentions / sizeof *attentions; i++) {
        const int M = attentions[i].tokens, len = attentions[i].len, D = attentions[i].head_dim,
                  row = attentions[i].n_head * D;
        char what[100];
        int32_t *place = ops_alloc(2 * (size_t)M, sizeof *place);
        const int32_t pages = nb_kv_pages(len);
        nb_kv kv = {.type = attentions[i].type,
                    .n_page = pages,
                    .n_seq = 1,
                    .seq_pages = pages,
                    .n_kv_head = attentions[i].n_kv_head,
                    .head_dim = D};
        const size_t bytes = nb_kv_bytes(&kv);
        uint8_t *zero = ops_alloc(bytes, 1);
        memset(zero, 0, bytes);
        kv.k = on_device(&b, zero, bytes);
        kv.v = on_device(&b, zero, bytes);
        int32_t *table = ops_alloc((size_t)pages, sizeof *table);
        for (int p = 0; p < pages; p++)
            table[p] = pages - 1 - p;
        kv.page = on_device(&b, table, (size_t)pages * sizeof *table);
        free(table);
        for (int m = 0; m < M; m++) {
            place[m] = 0;
            place[M + m] = len - M + m;
        }
        const nb_batch batch = {.n_token = M,
                                .seq = on_device(&b, place, (size_t)M * sizeof *place),
                                .pos = on_device(&b, place + M, (size_t)M * sizeof *place),
                                .max_len = len};
        nb_attention_args a = {.q = on_device(&b, NULL, (size_t)(M * row) * sizeof(float)),
                               .ldq = row,
                               .ldo = row,
                               .batch = &batch,
                               .kv = &kv,
                               .n_head = attentions[i].n_head,
                               .scale = 0.1f,
                               .out = on_device(&b, NULL, (size_t)(M * row) * sizeof(float))};
        a.scratch = on_device(&b, NULL, b.be->op->attention_scratch(b.be, &a));
        snprintf(what, sizeof what, "attention kv %d, %d of %d, %d/%d x %d", (int)kv.type, M, len,
                 a.n_head, kv.n_kv_head, D);
        begin(&b);
        const nb_status st = b.be->op->attention(b.be, &a, &b.err);
        end(&b, what, st, 2 * (double)bytes + 4.0 * M * row, &attentions[i].may);
        free(zero);
        free(place);
    }
    nb_backend_close(b.be);
}

/* ---- the rest of a step ---- */

static void step(check *c)
{
    enum { M = 4, K = 1024, V = 4096 };
    bench b;
    if (!bench_open(&b, c))
        return;
    /* rms_norm reads x for the sum, then for the product; argmax writes an index a block */
    static const budget whole = {1, 1, 1, 1, 0, 0}, norm = {1, 2.4, 1, 1, 0, 4},
                        index = {1, 1, 4, 1, 0, 4};
    const size_t mk = (size_t)M * K * sizeof(float);
    {
        const nb_rms_norm_args a = {.x = on_device(&b, NULL, mk),
                                    .M = M,
                                    .K = K,
                                    .ldx = K,
                                    .ldy = K,
                                    .weight = on_device(&b, NULL, K * sizeof(float)),
                                    .eps = 1e-5f,
                                    .y = on_device(&b, NULL, mk)};
        begin(&b);
        const nb_status st = b.be->op->rms_norm(b.be, &a, &b.err);
        end(&b, "rms_norm", st, (double)mk + K * 4, &norm);
    }
    {
        const nb_gated_args a = {.gate = on_device(&b, NULL, mk),
                                 .up = on_device(&b, NULL, mk),
                                 .M = M,
                                 .N = K,
                                 .ld = K,
                                 .ldo = K,
                                 .out = on_device(&b, NULL, mk)};
        begin(&b);
        const nb_status st = b.be->op->gated_activation(b.be, &a, &b.err);
        end(&b, "gated", st, 2 * (double)mk, &whole);
    }
    {
        const nb_add_args a = {.x = on_device(&b, NULL, mk),
                               .M = M,
                               .N = K,
                               .ldx = K,
                               .ldy = K,
                               .scale = 1,
                               .y = on_device(&b, NULL, mk)};
        begin(&b);
        const nb_status st = b.be->op->add_scaled(b.be, &a, &b.err);
        end(&b, "add", st, 2 * (double)mk, &whole);
    }
    {
        const nb_argmax_args a = {.x = on_device(&b, NULL, (size_t)M * V * sizeof(float)),
                                  .M = M,
                                  .N = V,
                                  .ldx = V,
                                  .out = on_device(&b, NULL, M * sizeof(int32_t))};
        begin(&b);
        const nb_status st = b.be->op->argmax(b.be, &a, &b.err);
        end(&b, "argmax", st, 4.0 * M * V, &index);
    }
    nb_backend_close(b.be);
}

/* ---- quantization ---- */

static void quantization(check *c)
{
    enum { M = 256, K = 256, N = 128 };
    bench b;
    nb_grid grid;
    if (!bench_open(&b, c))
        return;
    /* tiles of 64 x 64 read x K / 64 times; H is written in pairs of f64 and as its mirror. The sweep
     * reads a block's rows of R for every row of W, out of L1; the correction's Z, once from W C, comes back
     * from scratch for every block of 64 columns and each of its two solves */
    static const budget gram[] = {{1.01, 4.5, 1.6, 1, 15360, 88}, {1.51, 6.7, 1.8, 1, 39936, 224}},
                        rows = {1, 2, 1.61, 1, 0, 0}, scaled = {1, 5.87, 4, 1, 0, 0},
                        sweep = {1.86, 114, 6.2, 1, 6144, 16},
                        correct = {3.82, 7.71, 1.26, 1, 18432, 112},
                        error = {1.01, 4.23, 1, 1, 24576, 72};
    const size_t mk = (size_t)M * K * sizeof(float), kk = (size_t)K * K * sizeof(double),
                 nk = (size_t)N * K * sizeof(float);
    for (int both = 0; both < 2; both++) {
        nb_gram_args a = {.x = on_device(&b, NULL, mk),
                          .x_orig = both ? on_device(&b, NULL, mk) : NULL,
                          .M = M,
                          .K = K,
                          .ldx = K,
                          .ld_orig = K,
                          .h = on_device(&b, NULL, kk),
                          .c = both ? on_device(&b, NULL, kk) : NULL};
        a.scratch = on_device(&b, NULL, b.be->op->gram_scratch(b.be, &a));
        begin(&b);
        const nb_status st = b.be->op->gram_accumulate(b.be, &a, &b.err);
        end(&b, both ? "gram and cross" : "gram", st, (1 + both) * (double)(mk + kk), &gram[both]);
    }
    CHECK_EQ(c, nb_grid_find("int4", 128, true, &grid, &b.err), NB_OK);
    {
        const nb_quantize_rows_args a = {.w = on_device(&b, NULL, nk),
                                         .N = N,
                                         .K = K,
                                         .grid = &grid,
                                         .groups = on_device(&b, NULL, N * 2 * sizeof(nb_group)),
                                         .codes = on_device(&b, NULL, (size_t)N * K)};
        begin(&b);
        const nb_status st = b.be->op->quantize_rows(b.be, &a, &b.err);
        end(&b, "quantize_rows", st, (double)nk, &rows);
    }
    {
        const nb_scale_error_args a = {.w = on_device(&b, NULL, nk),
                                       .scale = on_device(&b, NULL, K * sizeof(float)),
                                       .cost = on_device(&b, NULL, K * sizeof(double)),
                                       .M = N,
                                       .K = K,
                                       .grid = &grid,
                                       .error = on_device(&b, NULL, N * sizeof(double))};
        begin(&b);
        const nb_status st = b.be->op->scale_error(b.be, &a, &b.err);
        end(&b, "scale_error", st, (double)nk + K * (sizeof(float) + sizeof(double)), &scaled);
    }
    {
        double *r = ops_alloc((size_t)K * K, sizeof *r), *zero = ops_alloc(K, sizeof *zero);
        memset(r, 0, (size_t)K * K * sizeof *r);
        for (int k = 0; k < K; k++)
            r[k * K + k] = 1 + (zero[k] = 0);
        nb_gptq_sweep_args a = {.w = on_device(&b, NULL, nk),
                                .N = N,
                                .K = K,
                                .r = on_device(&b, r, kk),
                                .grid = &grid,
                                .groups = on_device(&b, NULL, N * 2 * sizeof(nb_group)),
                                .codes = on_device(&b, NULL, (size_t)N * K),
                                .diag_add = zero};
        a.scratch = on_device(&b, NULL, b.be->op->gptq_sweep_scratch(b.be, &a));
        begin(&b);
        const nb_status st = b.be->op->gptq_sweep(b.be, &a, &b.err);
        end(&b, "gptq_sweep", st, (double)nk + (double)kk / 2, &sweep);
        nb_correct_args w = {.w = on_device(&b, NULL, nk),
                             .N = N,
                             .K = K,
                             .wc = on_device(&b, NULL, 2 * nk),
                             .r = on_device(&b, r, kk),
                             .alpha = 1.0};
        w.scratch = on_device(&b, NULL, b.be->op->correct_scratch(b.be, &w));
        begin(&b);
        const nb_status corrected = b.be->op->correct(b.be, &w, &b.err);
        end(&b, "correct", corrected, 3.0 * (double)nk + (double)kk / 2, &correct);
        free(r);
        free(zero);
    }
    {
        double out = 0.0;
        nb_quant_error_args a = {.w = on_device(&b, NULL, nk),
                                 .N = N,
                                 .K = K,
                                 .h = on_device(&b, NULL, kk),
                                 .out = &out};
        a.scratch = on_device(&b, NULL, b.be->op->quant_error_scratch(b.be, &a));
        begin(&b);
        const nb_status st = b.be->op->quant_error(b.be, &a, &b.err);
        end(&b, "quant_error", st, (double)nk + (double)kk, &error);
    }
    nb_backend_close(b.be);
}

static const check_case cases[] = {
    {"linear", linear},
    {"attention", attention},
    {"the rest of a step", step},
    {"quantization", quantization},
};
CHECK_MAIN(cases)
