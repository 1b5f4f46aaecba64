/* bench.c -- the measuring half of nibble.h and its commands: fields, forms, exit codes; no figure
 * is judged by its size. */
#include "check.h"

#include "api/bench_kernels.h"
#include "api/doctor.h"
#include "api/samples.h"
#include "backend/cpu/cpu.h"
#include "backend/limits.h"
#include "file/json.h"
#include "nibble.h"

#include <sys/wait.h>
#include <unistd.h>

#define TINY NB_SOURCE_DIR "/tests/data/models/tiny-llama"

/* Runs the program on what args says (shell words); its stdout, cut at n, and its exit code. */
static int cli(const char *args, char *out, size_t n)
{
    char line[1200];
    snprintf(line, sizeof line, "OMP_NUM_THREADS=1 '%s/nibble' %s 2>'%s/bench-test.err'",
             NB_BINARY_DIR, args, NB_BINARY_DIR);
    FILE *f = popen(line, "r");
    out[0] = 0;
    if (!f)
        return -1;
    const size_t got = fread(out, 1, n - 1, f);
    out[got] = 0;
    while (fgetc(f) != EOF) /* a pipe closed early would be another exit code */
        ;
    const int code = pclose(f);
    return WIFEXITED(code) ? WEXITSTATUS(code) : -1;
}

static void read_err(char *out, size_t n)
{
    FILE *f = fopen(NB_BINARY_DIR "/bench-test.err", "rb");
    const size_t got = f ? fread(out, 1, n - 1, f) : 0;
    out[got] = 0;
    if (f)
        fclose(f);
}

/* Every line is one JSON object that has all the keys; returns how many there were. */
static int json_lines(check *c, char *text, const char *const *keys)
{
    int n = 0;
    for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1, n++) {
        nb_json *doc = NULL;
        nb_error err = {.offset = -1};
        *end = 0;
        CHECK_EQ(c, nb_json_parse("stdout", line, strlen(line), &doc, &err), NB_OK);
        for (const char *const *k = keys; doc && *k; k++)
            if (!nb_json_get(nb_json_root(doc), *k))
                check_report(c, __FILE__, __LINE__, "no \"%s\" in %s", *k, line);
        nb_json_close(doc);
        *end = '\n';
    }
    return n;
}

static void quantiles(check *c)
{
    double s[] = {5, 1, 4, 2, 3}, even[] = {4, 1, 3, 2}, one[] = {7};
    CHECK_NEAR(c, nb_samples_median(s, 5), 3, 0, "median of five");
    CHECK_NEAR(c, nb_samples_quantile(s, 5, 0.25), 2, 0, "quartile of five");
    CHECK_NEAR(c, nb_samples_median(even, 4), 2.5, 0, "median of four");
    CHECK_NEAR(c, nb_samples_median(one, 1), 7, 0, "median of one");
    CHECK_NEAR(c, nb_samples_stddev(s, 5), sqrt(2.5), 1e-15, "deviation of 1 .. 5");
    CHECK_NEAR(c, nb_samples_stddev(one, 1), 0, 0, "deviation of one");
}

static void limits_per_isa(check *c)
{
    static const char *const isa[] = {"scalar", "avx2", "avx512", "amx"};
    for (size_t i = 0; i < sizeof isa / sizeof *isa; i++) {
        const nb_backend_options o = {.n_thread = 1};
        nb_backend *be = NULL;
        nb_limits l = {.cache_bytes = 0};
        setenv("NIBBLE_ISA", isa[i], 1);
        CHECK_EQ(c, nb_backend_open("cpu", &o, &be, NULL), NB_OK);
        unsetenv("NIBBLE_ISA");
        if (!be)
            continue;
        CHECK_EQ(c, nb_backend_limits(be, &l, NULL), NB_OK);
        CHECK(c, isfinite(l.read_bytes_per_s) && l.read_bytes_per_s > 0 && l.cache_bytes > 0);
        CHECK(c, isfinite(l.flop_per_s[NB_ARITH_F32]) && l.flop_per_s[NB_ARITH_F32] > 0);
        CHECK(c, isfinite(l.flop_per_s[NB_ARITH_INT8]) && l.flop_per_s[NB_ARITH_INT8] > 0);
        CHECK_EQ(c, l.flop_per_s[NB_ARITH_BF16] > 0, (nb_cpu_of(be)->isa & NB_ISA_BF16) != 0);
        CHECK_EQ(c, l.flop_per_s[NB_ARITH_BF16_TILES] > 0, (nb_cpu_of(be)->isa & NB_ISA_AMX) != 0);
        nb_backend_close(be);
    }
}

/* The rows of a bench, kept. */
typedef struct kept {
    nb_bench_row row[8];
    int n;
} kept;

static void keep(void *arg, const nb_bench_row *r)
{
    kept *k = arg;
    if (k->n < 8)
        k->row[k->n] = *r;
    k->n++;
}

static void model_rows(check *c)
{
    static const int32_t batch[] = {1, 3, 0};
    const nb_model_options mo = {.device = "cpu", .n_thread = 1, .exact = true};
    nb_error err = {.offset = -1};
    nb_model *m = NULL;
    kept k = {.n = 0};
    CHECK_EQ(c, nb_model_open(TINY, &mo, &m, &err), NB_OK);
    if (!m)
        return;
    nb_bench_options o = {
        .n_prompt = 16, .n_gen = 4, .batch = batch, .n_run = 3, .row = keep, .arg = &k};
    CHECK_EQ(c, nb_bench_model(m, &o, &err), NB_OK);
    CHECK_EQ(c, k.n, 4);
    CHECK_STR(c, k.row[0].test, "load");
    CHECK_STR(c, k.row[1].test, "pp16");
    CHECK_STR(c, k.row[2].test, "tg4");
    CHECK_STR(c, k.row[3].test, "tg4@3");
    for (int i = 1; i < 4 && i < k.n; i++) {
        const nb_bench_row *r = &k.row[i];
        const double tokens = i == 1 ? 16 : i == 2 ? 4 : 12;
        CHECK_NEAR(c, r->tok_per_s * r->seconds / tokens, 1, 1e-9, "tok_per_s x seconds / tokens");
        CHECK_NEAR(c, r->share_of_bandwidth * r->bandwidth_gb_per_s / r->gb_per_s, 1, 1e-9,
                   "share of bandwidth");
        CHECK_NEAR(c, r->share_of_peak * r->peak_flop_per_s / r->flop_per_s, 1, 1e-9,
                   "share of peak");
    }
    /* tiny-llama: 2 layers of 64x64 + 2 x 32x64 + 64x64 + 3 x 128x64, and the output 272x64: as
     * counted by hand; attention 4 x 2 layers x 64 x (1 + 2 + 3 + 4) */
    const double linears = 2.0 * (64 * 64 * 2 + 32 * 64 * 2 + 3 * 128 * 64) + 272.0 * 64;
    CHECK_NEAR(c, k.row[2].flop_per_s * k.row[2].seconds, 4 * 2 * linears + 4 * 2 * 64 * 10, 1,
               "flop of tg4");
    CHECK_NEAR(c, k.row[1].flop_per_s * k.row[1].seconds,
               2 * (16 * (linears - 272.0 * 64) + 272.0 * 64) + 4 * 2 * 64 * 136, 1,
               "flop of pp16: the output layer once");
    o.n_prompt = 100000;
    CHECK_EQ(c, nb_bench_model(m, &o, &err), NB_USAGE);
    CHECK_HAS(c, err.message, "context of 512");
    nb_model_close(m);
}

static void bench_forms(check *c)
{
    static const char *const keys[] = {
        "test",       "tok_per_s",     "stddev", "gb_per_s", "share_of_bandwidth",
        "flop_per_s", "share_of_peak", NULL};
    char out[8192];
    CHECK_EQ(c, cli("bench " TINY " -t 1 -p 16 -n 2 -r 1 -b 1,2 -o json", out, sizeof out), 0);
    CHECK_EQ(c, json_lines(c, out, keys), 4);
    CHECK_HAS(c, out, "{\"test\":\"tg2@2\",\"tok_per_s\":");
    CHECK_EQ(c, cli("bench " TINY " -t 1 -p 0 -n 2 -r 1 -o csv -v", out, sizeof out), 0);
    CHECK_HAS(c, out,
              "test,tok_per_s,stddev,gb_per_s,share_of_bandwidth,flop_per_s,share_of_peak,");
    CHECK_HAS(c, out, "\ntg2,");
    CHECK(c, !strstr(out, "\npp"));
    read_err(out, sizeof out);
    CHECK_HAS(c, out, "device cpu, 1 threads, family llama");
    CHECK_HAS(c, out, "1 token: bf16 by f32_");
    CHECK_EQ(c, cli("bench " TINY " -t 1 -p 16 -n 0 -r 1", out, sizeof out), 0);
    CHECK_HAS(c, out, "| test | tok_per_s |");
    CHECK_HAS(c, out, "| pp16 | ");
}

static void kernel_forms(check *c)
{
    static const char *const keys[] = {"op",
                                       "row",
                                       "kind",
                                       "m",
                                       "n",
                                       "k",
                                       "us",
                                       "us_spread",
                                       "gb_per_s",
                                       "tflop_per_s",
                                       "share_of_limit",
                                       "ratio_to_cublas_bf16",
                                       "timed",
                                       "n_call",
                                       "us_launched",
                                       NULL};
    char out[32768];
    CHECK_EQ(c,
             cli("bench kernels -t 1 --device cpu --shape 48x256 -m 1,3 --kind q4_k -o json", out,
                 sizeof out),
             0);
    CHECK_EQ(c, json_lines(c, out, keys), 2);
    CHECK_HAS(c, out, "\"row\":\"int8_");
    CHECK_HAS(c, out, "\"kind\":\"q4_k\",\"m\":3,\"n\":48,\"k\":256,");
    CHECK_HAS(c, out, "\"ratio_to_cublas_bf16\":null");
    CHECK_HAS(c, out, "\"timed\":\"calls by clock\",\"n_call\":");
    CHECK_EQ(c,
             cli("bench kernels -t 1 --device cpu --exact --shape 32x64 -m 1 --kind int4g32 -o csv",
                 out, sizeof out),
             0);
    CHECK_HAS(c, out, "\nlinear,f32_");
    CHECK_EQ(c, cli("bench kernels --device cpu --rows -m 1 -o json", out, sizeof out), 0);
    CHECK(c, json_lines(c, out, (const char *const[]){"op", "row", "kind", "m", NULL}) > 20);
    CHECK_HAS(c, out, "\"kind\":\"iq2_xxs\"");
}

/* Attention: one row a number of sequences, or of tokens of a prompt; bytes and products by the
 * shape: 2 caches of 3 x 40 x 2 x 64 f16 and 3 queries and results of 256 f32. */
static void kernel_attention(check *c)
{
    static const char *const keys[] = {"op", "row", "kind", "m", "n", "k", "us", "gb_per_s", NULL};
    char out[32768];
    const char *at;
    CHECK_EQ(c,
             cli("bench kernels -t 1 --device cpu --op attention --shape 4x2x64 -c 40 -m 3 -o json",
                 out, sizeof out),
             0);
    CHECK_EQ(c, json_lines(c, out, keys), 1);
    CHECK_HAS(c, out,
              "{\"op\":\"attention\",\"row\":\"cpu\",\"kind\":\"f16\",\"m\":3,\"n\":40,\"k\":256,");
    at = strstr(out, "\"us\":");
    const double us = at ? strtod(at + 5, NULL) : 0;
    at = strstr(out, "\"gb_per_s\":");
    CHECK_NEAR(c, us * (at ? strtod(at + 11, NULL) : 0) * 1e3,
               2.0 * 3 * 40 * 2 * 64 * 2 + 2.0 * 3 * 256 * 4, 200, "bytes");
    CHECK_EQ(c,
             cli("bench kernels -t 1 --device cpu --op prefill --shape 4x2x64 -m 5,9 --kind q8 "
                 "--exact -o json",
                 out, sizeof out),
             0);
    CHECK_EQ(c, json_lines(c, out, keys), 2);
    CHECK_HAS(c, out, "\"kind\":\"q8\",\"m\":9,\"n\":9,\"k\":256,");
}

static void kernel_kinds(check *c)
{
    static const char *const kind[] = {"int4g32sym", "int8sym", "nf4", "fp4", "mxfp4"};
    char args[160], out[8192];
    for (size_t i = 0; i < sizeof kind / sizeof *kind; i++) {
        snprintf(args, sizeof args,
                 "bench kernels --device cpu --exact --rows -m 1 --kind %s -o csv", kind[i]);
        CHECK_EQ(c, cli(args, out, sizeof out), 0);
        CHECK_HAS(c, out, kind[i]);
    }
    for (int sym = 0; sym < 2; sym++) { /* one zero, or as many as there are */
        nb_bench_weight w;
        int middle = 0;
        CHECK_EQ(c, nb_bench_weight_draw(sym ? "int4g32sym" : "int4g32", 64, 96, &w, NULL), NB_OK);
        for (int i = 0; w.groups && i < 64 * 3; i++)
            middle += w.groups[i].zero == 8.0f;
        CHECK(c, sym ? middle == 64 * 3 : middle < 64);
        nb_bench_weight_free(&w);
    }
}

static void random_operands(check *c)
{
    enum { kN = 9999 };
    static float x[kN];
    static uint16_t b[kN];
    double mean = 0, square = 0;
    int zeros = 0;
    nb_bench_floats(x, kN, 1);
    nb_bench_bf16(b, kN, 1);
    for (int i = 0; i < kN; i++) {
        mean += (double)x[i] / (double)kN;
        square += (double)x[i] * (double)x[i] / (double)kN;
        zeros += x[i] == 0.0f || !(b[i] & 0x7fff);
    }
    CHECK_NEAR(c, mean, 0, 0.05, "mean");
    CHECK_NEAR(c, square, 1, 0.05, "variance");
    CHECK_EQ(c, zeros, 0);
}

/* Under the emulated device's own limits. */
static void kernels_of_a_device(check *c)
{
    char out[65536];
    if (access(NB_BINARY_DIR "/libnibble_simt.so", R_OK) != 0) {
        check_skip(c, "no emulator in this build");
        return;
    }
    CHECK_EQ(c,
             cli("bench kernels --device simt --shape 128x128 -m 1,17 --kind q4_0 --json", out,
                 sizeof out),
             0);
    CHECK_HAS(c, out, "\"timed\":\"graph by events\",\"n_call\":");
    CHECK(c, !strstr(out, "\"us_launched\":null") && !strstr(out, "\"us\":null"));
    CHECK_EQ(c,
             json_lines(c, out,
                        (const char *const[]){"row", "us", "share_of_limit", "limit_gb_per_s",
                                              "limit_tflop_per_s", NULL}),
             2);
    CHECK_HAS(c, out, "\"row\":\"stream\"");
    CHECK_HAS(c, out, "\"row\":\"tile_256x32\"");
    CHECK(c, !strstr(out, "\"share_of_limit\":null"));
    CHECK_EQ(c, cli("bench kernels --device simt --kind q4_k --rows -o csv", out, sizeof out), 0);
    CHECK_HAS(c, out, ",cublaslt,"); /* its stand-in */
    CHECK_HAS(c, out, ",stream,");
    CHECK_EQ(c, cli("bench kernels --device simt --op attention --rows -o csv", out, sizeof out),
             0);
    CHECK_HAS(c, out, "\nattention,split,q8,32,4096,4096\n");
    CHECK_EQ(c, cli("bench kernels --device simt --op prefill --rows -o csv", out, sizeof out), 0);
    CHECK_HAS(c, out, "\nprefill,hopper,f16,512,512,4096\n");
    CHECK_HAS(c, out, "\nprefill,tile,f16,16,16,4096\n");
    CHECK_HAS(c, out, "\nprefill,simple,f32,512,512,4096\n");
    CHECK_EQ(c,
             cli("bench kernels --device simt --op prefill --rows -m 512 --kind f16 "
                 "--shape 32x8x80 -o csv",
                 out, sizeof out),
             0);
    CHECK_HAS(c, out, "\nprefill,tile,f16,512,512,2560\n");
}

/* What doctor says of a device whose rows want a library of the vendor's. */
static const char *no_version(nb_backend *be)
{
    (void)be;
    return NULL;
}
static const char *a_version(nb_backend *be)
{
    (void)be;
    return "13.1.0";
}
static void doctor_product_library(check *c)
{
    for (int there = 0; there < 2; there++) {
        nb_doctor_report r = {.n_note = 0};
        const nb_backend_ops op = {.product_library = there ? a_version : no_version};
        nb_backend be = {.op = &op};
        nb_doctor_product_library(&be, &r);
        CHECK_EQ(c, r.n_library, there);
        CHECK_EQ(c, r.n_note, !there);
        CHECK_HAS(c, there ? r.library[0].version : r.note[0],
                  there ? "13.1.0" : "libcublasLt is not there");
    }
}

static void doctor_forms(check *c)
{
    static const char *const keys[] = {
        "cpu", "isa", "threads", "memory_bytes", "bandwidth_gb_per_s", "gpus", "libraries", NULL};
    char out[65536];
    const int code = cli("doctor --json", out, sizeof out);
    CHECK(c, code == 0 || code == 1); /* 1: a GPU is there and cannot be used */
    CHECK(c, strncmp(out, "{\"cpu\":", 7) == 0);
    if (code == 0)
        CHECK_EQ(c, json_lines(c, out, keys), 1);
    CHECK_HAS(c, out, "\"pcre2\":\"");
    CHECK_EQ(c, cli("doctor --features -o csv", out, sizeof out), 0);
    CHECK_HAS(c, out, "format,family,backend,how\n");
    CHECK_HAS(c, out, "\nq4_0,llama,cpu,native\n");
    CHECK_HAS(c, out, "\nf8_e4m3,llama,cpu,generic\n");
    CHECK_HAS(c, out, "\ni32,llama,cpu,refused\n");
    CHECK_HAS(c, out, "\nq4_0,llama,ref,generic\n");
}

static void doctor_sets(check *c)
{
    static const struct {
        uint32_t isa;
        const char *text, *note; /* NULL: no note */
    } rows[] = {
        {0, "scalar", "no AVX2: "},
        {NB_ISA_AVX2, "avx2 fma f16c", NULL},
        {NB_ISA_AVX2 | NB_ISA_AVX512, "avx2 fma f16c avx512 vnni", NULL},
        {NB_ISA_AVX2 | NB_ISA_AVX512 | NB_ISA_BF16, "avx2 fma f16c avx512 vnni bf16", NULL},
        {NB_ISA_AVX2 | NB_ISA_AVX512 | NB_ISA_BF16 | NB_ISA_AMX,
         "avx2 fma f16c avx512 vnni bf16 amx", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        nb_doctor_report r = {.n_note = 0};
        nb_doctor_isa(rows[i].isa, &r);
        CHECK_STR(c, r.isa, rows[i].text);
        CHECK_EQ(c, r.n_note, rows[i].note ? 1 : 0);
        if (rows[i].note)
            CHECK_HAS(c, r.note[0], rows[i].note);
    }
}

static void refusals(check *c)
{
    static const struct {
        const char *args;
        int code;
        const char *sentence;
    } rows[] = {
        {"bench", 2, "MODEL, or the word kernels, is missing"},
        {"bench kernels -o png", 2, "-o png is none of md, csv, json"},
        {"bench kernels --op attentoin", 2, "--op attentoin cannot be measured alone"},
        {"bench kernels --op attention --shape 8x3x64", 2, "8 heads over 3 of the cache"},
        {"bench kernels --op attention --shape 8x3", 2, "--shape 8x3 is no shape like 32x8x128"},
        {"bench kernels --op attention --kind q4_0", 2,
         "\"q4_0\" is none of f32, f16, bf16, q8, fp8"},
        {"bench kernels --kind q9", 2, "--kind q9 is no number format"},
        {"bench kernels --kind int4g", 2, "is no number format"},
        {"bench kernels --kind int4g32symm", 2, "is no number format"},
        {"bench kernels --kind int9", 2, "is no number format"},
        {"bench kernels --kind int4g99999", 2, "is no number format"},
        {"bench kernels --kind i32 --shape 4x4", 5, "holds whole numbers"},
        {"bench kernels --kind q4_0 --shape 4x33", 2,
         "rows of 33 values are no whole number of q4_0 blocks"},
        {"bench kernels --shape 64", 2, "--shape 64 is no shape"},
        {"bench kernels --shape 64x0", 2, "is no shape"},
        {"bench kernels -m 1,,2", 2, "--tokens 1,,2"},
        {"bench " TINY " -b 1,0", 2, "--batch 1,0"},
        {"bench " TINY " -b 1,", 2, "--batch 1,"},
        {"bench " TINY " -r 0", 2, "--repeat 0"},
        {"bench " TINY " -p 513", 2, "513 tokens do not fit into the model's context of 512"},
        {"bench /nowhere.gguf", 3, "/nowhere.gguf"},
        {"help nope", 2, "unknown command nope"},
        {"completions", 2, "is missing"},
        {"completions tcsh", 2, "tcsh is none of bash, zsh, fish"},
    };
    char out[8192], err[2048];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        CHECK_EQ(c, cli(rows[i].args, out, sizeof out), rows[i].code);
        CHECK_STR(c, out, "");
        read_err(err, sizeof err);
        CHECK_HAS(c, err, rows[i].sentence);
    }
}

/* Help, manual page and completions come from one table: what one names, all name. */
static void one_table(check *c)
{
    static const struct {
        /* as it writes the -- before a name and the - inside */
        const char *command, *dashes, *dash;
    } where[] = {{"man", "\\-\\-", "\\-"},
                 {"completions bash", "--", "-"},
                 {"completions zsh", "--", "-"},
                 {"completions fish", "-l ", "-"}};
    static char help[65536], text[1 << 17];
    char names[64][32], out[8192];
    int n = 0;
    CHECK_EQ(c, cli("help", help, sizeof help), 0);
    for (const char *p = help; (p = strstr(p, "\n  nibble ")) != NULL && n < 64; n++) {
        p += strlen("\n  nibble ");
        snprintf(names[n], sizeof names[n], "%.*s", (int)strcspn(p, " "), p);
    }
    CHECK(c, n >= 10);
    for (size_t w = 0; w < sizeof where / sizeof *where; w++) {
        CHECK_EQ(c, cli(where[w].command, text, sizeof text), 0);
        for (int i = 0; i < n; i++) {
            char args[64];
            if (!strstr(text, names[i]))
                check_report(c, __FILE__, __LINE__, "%s does not name %s", where[w].command,
                             names[i]);
            snprintf(args, sizeof args, "help %.31s", names[i]);
            CHECK_EQ(c, cli(args, out, sizeof out), 0);
            for (const char *p = out; (p = strstr(p, "--")) != NULL; p += 2) {
                char flag[40], shown[80];
                snprintf(flag, sizeof flag, "%.*s",
                         (int)strspn(p + 2, "abcdefghijklmnopqrstuvwxyz0123456789-"), p + 2);
                snprintf(shown, sizeof shown, "%s", where[w].dashes);
                for (const char *f = flag; *f && strlen(shown) + 3 < sizeof shown; f++) {
                    const char one[] = {*f, 0};
                    strcat(shown, *f == '-' ? where[w].dash : one);
                }
                c->n_check++;
                if (!strstr(text, shown))
                    check_report(c, __FILE__, __LINE__, "%s does not name --%s of %s",
                                 where[w].command, flag, names[i]);
            }
        }
    }
}

/* Loads the bash script and asks it as the shell would; the empty word ends the line that is
 * completed. */
static void bash_completes(check *c)
{
    static const struct {
        const char *words, *answer;
    } rows[] = {
        {"nibble comp", "completions"},
        {"nibble bench -o ''", "md csv json svg"},
        {"nibble inspect --ver", "--verify --verbose --version"},
        {"nibble run --device ''", "auto cpu ref simt"},
        {"nibble completions z", "zsh"},
        {"nibble bench -r ''", ""},
    };
    if (system("command -v bash >/dev/null") != 0) {
        check_skip(c, "there is no bash here");
        return;
    }
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char line[2400], got[400] = "";
        snprintf(line, sizeof line,
                 "cd /var/empty 2>/dev/null || cd /; bash -c 'eval \"$(\"$0\" completions bash)\"; "
                 "COMP_WORDS=(\"$@\"); "
                 "COMP_CWORD=$(($# - 1)); _nibble; echo \"${COMPREPLY[*]}\"' '%s/nibble' %s",
                 NB_BINARY_DIR, rows[i].words);
        FILE *f = popen(line, "r");
        if (f && fgets(got, sizeof got, f))
            got[strcspn(got, "\n")] = 0;
        CHECK(c, f && pclose(f) == 0);
        CHECK_STR(c, got, rows[i].answer);
    }
}

static const check_case cases[] = {
    {"medians, quartiles and deviations are those of the textbook", quantiles},
    {"every level of instructions has limits above zero", limits_per_isa},
    {"a bench counts the work that the model's shapes say", model_rows},
    {"nibble bench MODEL prints its fields in all three forms", bench_forms},
    {"nibble bench kernels on a device names its rows and limits", kernels_of_a_device},
    {"bench kernels measures attention over a full cache and of a prompt", kernel_attention},
    {"nibble bench kernels draws groups with zeros and without, and bnb's and OCP's 4 bits",
     kernel_kinds},
    {"random operands are normal and never 0", random_operands},
    {"nibble bench kernels prints its fields and names its rows", kernel_forms},
    {"nibble doctor prints its fields, and features from the tables", doctor_forms},
    {"nibble doctor names the sets of instructions", doctor_sets},
    {"nibble doctor says whether the vendor's library for products is there",
     doctor_product_library},
    {"what cannot be measured is refused with one sentence and its code", refusals},
    {"help, manual page and completions name every command and flag", one_table},
    {"the bash script offers commands, flags and the words of their operands", bash_completes},
};
CHECK_MAIN(cases)
