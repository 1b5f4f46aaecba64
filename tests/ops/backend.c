/* backend.c -- opening a device by name, device memory, and the sentence of an op that is not
 * there. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/weight.h"
#include "ops/ops.h"

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

/* No kernel runs on AMX tiles: a machine that has them is served by the rows it would have without. */
static void amx_machine(check *c)
{
    static const uint32_t level = NB_ISA_AVX2 | NB_ISA_AVX512 | NB_ISA_BF16;
    static const int64_t tokens[] = {1, 2, 3, 8, 512};
    for (int exact_too = 0; exact_too < 2; exact_too++)
        for (int codes = NB_CODES_F32; codes <= NB_CODES_U8; codes++)
            for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
                const nb_weight w = {.N = 64, .K = 64, .codes = (nb_cpu_codes)codes};
                const nb_linear_args a = {.M = tokens[i], .w = &w};
                const nb_cpu with = {.base.exact = exact_too, .isa = level | NB_ISA_AMX}, without = {.base.exact = exact_too, .isa = level};
                CHECK_STR(c, nb_cpu_linear_row(&with, &a)->name, nb_cpu_linear_row(&without, &a)->name);
#if defined(__x86_64__)
                CHECK_HAS(c, nb_cpu_linear_row(&with, &a)->name, "_avx512");
#endif
            }
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
    {"a machine with AMX runs the AVX-512 rows", amx_machine},
    {"ref refuses parts that do not fit together", bad_parts},
};
CHECK_MAIN(cases)
