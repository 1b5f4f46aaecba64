/* backend.c -- opening a device by name, device memory, and the sentence of an op that is not
 * there. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/weight.h"
#include "backend/limits.h"
#include "base/pool.h"
#include "ops/ops.h"

#include <pthread.h>

static const nb_backend_options exact = {.exact = true, .n_thread = 1};

static void names(check *c)
{
    static const char *const bad[] = {
        "",        "CPU",       "gpu",  "cuda",  "cuda:",  "cuda:x", "cuda:1x",
        "cuda:-1", "cuda:1234", "cpu ", "ref:0", "simt:0", "\x1b[2J"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        nb_error err = {.message = ""};
        nb_backend *be = (nb_backend *)&err; /* anything but NULL */
        CHECK_EQ(c, nb_backend_open(bad[i], &exact, &be, &err), NB_USAGE);
        CHECK(c, be == NULL);
        CHECK_HAS(c, err.message, "is none of auto, cpu, ref, simt, cuda:0");
        CHECK(c, !strchr(err.message, '\x1b'));
    }
    nb_backend_close(NULL);
}

static void ref_and_cpu_open(check *c)
{
    static const char *const names_of[] = {"ref", "cpu"};
    for (int i = 0; i < 2; i++) {
        nb_error err = {.message = ""};
        nb_backend *be = NULL;
        CHECK_EQ(c, nb_backend_open(names_of[i], &exact, &be, &err), NB_OK);
        if (!be)
            continue;
        CHECK_STR(c, be->name, names_of[i]);
        CHECK(c, be->exact);
        CHECK_EQ(c, be->kv_type, NB_KV_F32); /* exact */
        CHECK_EQ(c, be->n_thread, 1);
        CHECK(c, be->memory_bytes > 0);
        nb_backend_close(be);
    }
}

static void auto_opens(check *c)
{
    nb_error err = {.message = ""};
    nb_backend *be = NULL;
    CHECK_EQ(c, nb_backend_open("auto", &exact, &be, &err), NB_OK);
    if (be)
        CHECK(c, strcmp(be->name, "cpu") == 0 || strcmp(be->name, "cuda:0") == 0);
    nb_backend_close(be);
}

/* A folder with a file of the module's name that is no module: the linker's reason must reach the
 * sentence. */
static void a_bad_module(check *c)
{
    char folder[] = "/tmp/nibble-ops-XXXXXX", path[64];
    if (!mkdtemp(folder)) {
        check_skip(c, "no folder can be made in /tmp");
        return;
    }
    snprintf(path, sizeof path, "%s/libnibble_cuda.so", folder);
    FILE *f = fopen(path, "w");
    CHECK(c, f != NULL);
    if (f) {
        fputs("not an ELF file", f);
        fclose(f);
    }
    const char *before = getenv("NIBBLE_MODULE_DIR");
    char *keep = before ? strdup(before) : NULL;
    setenv("NIBBLE_MODULE_DIR", folder, 1);
    nb_error err = {.message = ""};
    nb_backend *be = NULL;
    CHECK_EQ(c, nb_backend_open("cuda:0", &exact, &be, &err), NB_DEVICE);
    CHECK(c, be == NULL);
    CHECK_HAS(c, err.message, "cuda:0: the module libnibble_cuda.so cannot be loaded: ");
    CHECK_HAS(c, err.message, folder);
    CHECK_EQ(c, nb_backend_open("cuda:0", &exact, &be, NULL), NB_DEVICE);
    CHECK_EQ(c, nb_backend_open("auto", &exact, &be, &err), NB_OK); /* falls back */
    if (be)
        CHECK_STR(c, be->name, "cpu");
    nb_backend_close(be);
    if (keep)
        setenv("NIBBLE_MODULE_DIR", keep, 1);
    else
        unsetenv("NIBBLE_MODULE_DIR");
    free(keep);
    remove(path);
    remove(folder);
}

static void memory(check *c)
{
    ops_set set;
    ops_set_open(&set, c);
    for (int i = 0; i < set.n; i++) {
        nb_backend *be = set.o[i].be;
        const nb_backend_ops *op = be->op;
        nb_error err = {.message = ""};
        void *p = NULL;
        uint8_t sent[1000], got[1000];
        for (int j = 0; j < 1000; j++)
            sent[j] = (uint8_t)(j * 7);
        CHECK_EQ(c, op->alloc(be, 1000, "a block", &p, &err), NB_OK);
        if (!p)
            continue;
        CHECK_EQ(c, (uintptr_t)p % 64, 0);
        CHECK_EQ(c, op->upload(be, p, sent, 1000, &err), NB_OK);
        CHECK_EQ(c, op->zero(be, (uint8_t *)p + 100, 50, &err), NB_OK);
        CHECK_EQ(c, op->sync(be, &err), NB_OK);
        CHECK_EQ(c, op->download(be, got, p, 1000, &err), NB_OK);
        memset(sent + 100, 0, 50);
        CHECK(c, memcmp(sent, got, 1000) == 0);
        op->release(be, p);
        op->release(be, NULL);
        op->release_weight(be, NULL);
        CHECK_EQ(c, op->alloc(be, SIZE_MAX / 2, "the moon", &p, &err), NB_NO_ROOM);
        CHECK_HAS(c, err.message, "the moon");
        CHECK(c, p == NULL);
        CHECK_EQ(c, op->alloc(be, 0, "nothing", &p, &err), NB_OK);
        op->release(be, p);
    }
    ops_set_close(&set);
}

static void a_missing_op(check *c)
{
    nb_error err = {.message = ""};
    const nb_backend be = {.name = "simt"};
    CHECK_EQ(c, nb_op_check(&be, true, "correct", &err), NB_OK);
    CHECK_EQ(c, nb_op_check(&be, false, "correct", &err), NB_UNSUPPORTED);
    CHECK_STR(c, err.message, "simt: correct is not there yet");
}

/* Parts that do not fit together, and rows that are no whole number of blocks. */
static void bad_parts(check *c)
{
    nb_error err = {.message = ""};
    nb_backend *be = NULL;
    nb_weight *w = NULL;
    CHECK_EQ(c, nb_backend_open("ref", &exact, &be, &err), NB_OK);
    if (!be)
        return;
    static const uint8_t bytes[4096] = {0};
    nb_matrix part[2] = {{.N = 2, .K = 32, .dtype = nb_dtype_by_name("f32"), .rows = bytes},
                         {.N = 2, .K = 64, .dtype = nb_dtype_by_name("f32"), .rows = bytes}};
    CHECK_EQ(c, be->op->pack_weight(be, part, 2, &w, &err), NB_INTERNAL);
    CHECK(c, w == NULL);
    CHECK_EQ(c, be->op->pack_weight(be, part, 0, &w, &err), NB_INTERNAL);
    part[0].dtype = nb_dtype_by_name("q4_0");
    part[0].K = 33;
    CHECK_EQ(c, be->op->pack_weight(be, part, 1, &w, &err), NB_UNSUPPORTED);
    CHECK_HAS(c, err.message, "no whole number of q4_0 blocks");
    part[0].K = 32;
    part[0].dtype = nb_dtype_by_name("i32");
    CHECK_EQ(c, be->op->pack_weight(be, part, 1, &w, &err), NB_UNSUPPORTED);
    part[0].dtype = nb_dtype_by_name("q4_0");
    part[0].N = INT64_MAX / 4;
    CHECK_EQ(c, be->op->pack_weight(be, part, 1, &w, &err), NB_NO_ROOM);
    CHECK(c, w == NULL);
    nb_backend_close(be);
}

/* Which calls a machine with AMX tiles gives to them: prompts, of all but f32, where activations
 * may be rounded. */
static void amx_calls(check *c)
{
    static const uint32_t level = NB_ISA_AVX2 | NB_ISA_AVX512 | NB_ISA_BF16;
    static const int64_t tokens[] = {1, 2, 3, 8, 31, 32, 512};
    for (int exact_too = 0; exact_too < 2; exact_too++)
        for (int codes = NB_CODES_F32; codes <= NB_CODES_U8; codes++)
            for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
                const nb_weight w = {.N = 64, .K = 64, .codes = (nb_cpu_codes)codes};
                const nb_linear_args a = {.M = tokens[i], .w = &w};
                const nb_cpu with = {.base.exact = exact_too, .isa = level | NB_ISA_AMX},
                             without = {.base.exact = exact_too, .isa = level};
                const char *row = nb_cpu_linear_row(&with, &a)->name,
                           *else_row = nb_cpu_linear_row(&without, &a)->name;
                CHECK(c, !strstr(else_row, "amx"));
#if defined(__x86_64__)
                const bool blocks = codes == NB_CODES_U4 || codes == NB_CODES_U8;
                const bool tiles = !exact_too && codes != NB_CODES_F32 && a.M >= (blocks ? 32 : 8);
                CHECK_STR(c, row, tiles ? "bf16_amx" : else_row);
#else
                CHECK_STR(c, row, else_row);
#endif
            }
}

/* y = x W^T of whole numbers, small enough that bf16 holds the operands and f32 every sum: the
 * result is theirs to the bit. */
static void whole_numbers(check *c, nb_backend *be, const char *dtype, int64_t M, int64_t N,
                          int64_t K)
{
    const nb_dtype *t = nb_dtype_by_name(dtype);
    const int64_t row = nb_dtype_row_bytes(t, K);
    float *w = ops_alloc((size_t)(N * K), sizeof *w), *x = ops_alloc((size_t)(M * K), sizeof *x),
          *y = ops_alloc((size_t)(M * N), sizeof *y);
    uint8_t *rows = ops_alloc((size_t)(N * row), 1);
    nb_error err = {.message = ""};
    nb_weight *packed = NULL;
    nb_rng r;
    ops_seed(&r, (uint64_t)(M + N + K));
    for (int64_t i = 0; i < N * K; i++) /* -8 in each block of 32: the scale of q4_0 is 1 */
        w[i] = i % K % 32 == 5 ? -8.0f : (float)(nb_rng_u64(&r) % 16) - 8.0f;
    for (int64_t i = 0; i < M * K; i++)
        x[i] = (float)(nb_rng_u64(&r) % 33) - 16.0f;
    for (int64_t n = 0; n < N; n++)
        t->encode(w + n * K, rows + n * row, K / t->block);
    const nb_matrix m = {.N = N, .K = K, .dtype = t, .rows = rows};
    CHECK_EQ(c, be->op->pack_weight(be, &m, 1, &packed, &err), NB_OK);
    if (packed) {
        nb_linear_args a = {.x = x, .M = M, .ldx = K, .ldy = N, .w = packed, .y = y};
        a.scratch = ops_alloc(be->op->linear_scratch(be, &a), 1);
        nb_arith arith = NB_ARITH_F32;
        CHECK_STR(c, nb_backend_linear_row(be, &a, &arith), "bf16_amx");
        CHECK_EQ(c, arith, NB_ARITH_BF16_TILES);
        CHECK_EQ(c, be->op->linear(be, &a, &err), NB_OK);
        int64_t wrong = 0;
        for (int64_t i = 0; i < M * N; i++) {
            double sum = 0;
            for (int64_t k = 0; k < K; k++)
                sum += (double)x[i / N * K + k] * (double)w[i % N * K + k];
            wrong += (double)y[i] != sum;
        }
        CHECK_EQ(c, wrong, 0);
        free(a.scratch);
    }
    be->op->release_weight(be, packed);
    free(rows);
    free(y);
    free(x);
    free(w);
}

static void amx_tiles(check *c)
{
    const nb_backend_options fast = {.n_thread = 3};
    nb_error err = {.message = ""};
    nb_backend *be = NULL;
    CHECK_EQ(c, nb_backend_open("cpu", &fast, &be, &err), NB_OK);
    if (!be)
        return;
    if (!(nb_cpu_of(be)->isa & NB_ISA_AMX)) {
        c->n_check = 0; /* nothing of it was tested */
        check_skip(c,
                   getenv("NIBBLE_ISA")
                       ? "NIBBLE_ISA may leave AMX out"
                       : "this machine has no AMX with bf16, or its system does not give it out");
    } else {
        whole_numbers(c, be, "q4_0", 33, 40, 544);
        whole_numbers(c, be, "q4_0", 520, 272, 2080); /* rows beyond a slab, panels in groups */
        whole_numbers(c, be, "bf16", 9, 17, 71);
        whole_numbers(c, be, "f16", 50, 16, 257);
    }
    nb_backend_close(be);
}

static void amx_off(check *c)
{
    const char *before = getenv("NIBBLE_ISA");
    char *keep = before ? strdup(before) : NULL;
    nb_error err = {.message = ""};
    nb_backend *be = NULL;
    setenv("NIBBLE_ISA", "avx512", 1);
    CHECK_EQ(c, nb_backend_open("cpu", NULL, &be, &err), NB_OK);
    if (be) {
        const nb_weight w = {.N = 64, .K = 64, .codes = NB_CODES_U4};
        const nb_linear_args a = {.M = 512, .w = &w};
        CHECK_EQ(c, nb_cpu_of(be)->isa & NB_ISA_AMX, 0);
        CHECK(c, !strstr(nb_cpu_linear_row(nb_cpu_of(be), &a)->name, "amx"));
    }
    nb_backend_close(be);
    if (keep)
        setenv("NIBBLE_ISA", keep, 1);
    else
        unsetenv("NIBBLE_ISA");
    free(keep);
}

/* Decoding, encoding and searching go on on the host whatever the device is. */
static void host_threads(check *c)
{
    static const char *const devices[] = {"cpu", "simt", "plan:simt"};
    for (int n = 0; n < 4; n++)
        for (int d = 0; d < 3; d++) {
            const nb_backend_options o = {.n_thread = n};
            nb_backend *be = NULL;
            if (nb_backend_open(devices[d], &o, &be, NULL) != NB_OK)
                continue;
            CHECK_EQ(c, be->n_thread, nb_pool_threads(n));
            CHECK(c, n ? be->n_thread == n : be->n_thread > 0);
            nb_backend_close(be);
        }
}

struct elsewhere {
    nb_backend *be;
    float *x; /* [4] device */
    nb_status status;
    nb_error err;
};

/* A launch and nothing before it. */
static void *another_thread(void *arg)
{
    struct elsewhere *e = arg;
    const nb_add_args a = {
        .x = e->x, .M = 1, .N = 2, .ldx = 2, .ldy = 2, .scale = 2, .y = e->x + 2};
    e->status = e->be->op->add_scaled(e->be, &a, &e->err);
    return NULL;
}

/* The current device is the thread's: one that did not open the backend is on device 0. */
static void from_another_thread(check *c)
{
    static const float x[4] = {1, 2, 3, 4};
    struct elsewhere e = {.err = {.message = ""}};
    float got[4] = {0};
    pthread_t thread;
    setenv("NIBBLE_SIMT_DEVICE", "1", 1);
    const nb_status st = nb_backend_open("simt", NULL, &e.be, &e.err);
    unsetenv("NIBBLE_SIMT_DEVICE");
    if (st != NB_OK) {
        check_skip(c, "the simt module is not there");
        return;
    }
    const nb_backend_ops *op = e.be->op;
    CHECK_EQ(c, op->alloc(e.be, sizeof x, "four numbers", (void **)&e.x, &e.err), NB_OK);
    CHECK_EQ(c, op->upload(e.be, e.x, x, sizeof x, &e.err), NB_OK);
    CHECK_EQ(c, pthread_create(&thread, NULL, another_thread, &e), 0);
    pthread_join(thread, NULL);
    CHECK_EQ(c, e.status, NB_OK);
    CHECK_STR(c, e.err.message, "");
    CHECK_EQ(c, op->download(e.be, got, e.x, sizeof got, &e.err), NB_OK);
    CHECK(c, got[2] == 5 && got[3] == 8);
    op->release(e.be, e.x);
    nb_backend_close(e.be);
}

/* Last of all: the emulator remembers a fault as a device does. */
static void a_fault_has_a_name(check *c)
{
    static const int32_t row[3] = {0, 1 << 30, 1};
    static const float zeros[16] = {0};
    nb_backend *be = NULL;
    nb_error err = {.message = ""};
    float *x = NULL, got[12];
    int32_t *at = NULL;
    if (nb_backend_open("simt", NULL, &be, &err) != NB_OK) {
        check_skip(c, "the simt module is not there");
        return;
    }
    CHECK_EQ(c, be->op->alloc(be, sizeof zeros, "rows", (void **)&x, &err), NB_OK);
    CHECK_EQ(c, be->op->alloc(be, sizeof row, "their numbers", (void **)&at, &err), NB_OK);
    CHECK_EQ(c, be->op->upload(be, x, zeros, sizeof zeros, &err), NB_OK);
    CHECK_EQ(c, be->op->upload(be, at, row, sizeof row, &err), NB_OK);
    const nb_gather_args g = {.x = x, .row = at, .M = 3, .K = 2, .ldx = 2, .ldy = 2, .y = x + 8};
    CHECK_EQ(c, be->op->gather_rows(be, &g, &err), NB_OK); /* nothing has run yet */
    CHECK_EQ(c, be->op->download(be, got, x, sizeof got, &err), NB_DEVICE);
    CHECK_HAS(c, err.message,
              "(the last kernel was gather_rows on 1 x 1 x 1 blocks of 256 threads, "
              "the fault may be that of an earlier one)");
    be->op->release(be, at);
    be->op->release(be, x);
    nb_backend_close(be);
}

static void schedules(check *c)
{
    static const struct {
        const char *text;
        nb_status want;
    } rows[] = {
        {"random:7:50", NB_OK}, {"warp-rev", NB_OK},     {"reverse:0", NB_OK},
        {"sideways", NB_USAGE}, {"", NB_USAGE},          {"rand", NB_USAGE},
        {"random:", NB_USAGE},  {"random:-1", NB_USAGE}, {"random:1:2:3", NB_USAGE},
    };
    const char *before = getenv("NIBBLE_SIMT_SCHED");
    char *keep = before ? strdup(before) : NULL, want[80];
    nb_error err = {.message = ""};
    nb_backend *be = NULL;
    if (nb_backend_open("simt", NULL, &be, &err) == NB_DEVICE) {
        check_skip(c, "no emulator in this build");
        free(keep);
        return;
    }
    nb_backend_close(be);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        setenv("NIBBLE_SIMT_SCHED", rows[i].text, 1);
        CHECK_EQ(c, nb_backend_open("simt", NULL, &be, &err), rows[i].want);
        snprintf(want, sizeof want, "NIBBLE_SIMT_SCHED=%s is no schedule of the emulator: forward",
                 rows[i].text);
        if (rows[i].want != NB_OK)
            CHECK_HAS(c, err.message, want);
        nb_backend_close(be);
    }
    if (keep)
        setenv("NIBBLE_SIMT_SCHED", keep, 1);
    else
        unsetenv("NIBBLE_SIMT_SCHED");
    free(keep);
    if (nb_backend_open("simt", NULL, &be, &err) == NB_OK) /* it counts for the whole module */
        nb_backend_close(be);
}

static const check_case cases[] = {
    {"a name that is no device is refused and shown escaped", names},
    {"ref and cpu open and say what they are", ref_and_cpu_open},
    {"auto opens something", auto_opens},
    {"a module that does not load is a device error with the linker's reason, and auto goes on "
     "without it",
     a_bad_module},
    {"device memory holds what was put there and refuses what does not fit", memory},
    {"an op that is not there is said in one sentence", a_missing_op},
    {"prompts go to AMX tiles where there are some, but not under --exact", amx_calls},
    {"AMX tiles multiply whole numbers exactly", amx_tiles},
    {"NIBBLE_ISA=avx512 leaves AMX out", amx_off},
    {"the emulator's schedule is one of a few, or a sentence says which there are", schedules},
    {"ref refuses parts that do not fit together", bad_parts},
    {"the host has its threads beside every device", host_threads},
    {"ops come from another thread than the one that opened", from_another_thread},
    {"a fault names the kernel that was enqueued last", a_fault_has_a_name},
};
CHECK_MAIN(cases)
