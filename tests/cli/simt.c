/* simt.c -- `nibble run`, `eval` and `quantize` with --device simt, the CUDA sources in the
 * emulator, as a user types them: what they give beside the CPU in f32. tests/golden/device
 * compares logits; here are the commands around them, and whole quantizations.
 *
 * The device rounds operands to bf16, so its activations differ in the third digit and a calibrated
 * quantization sees another H: codes that lie near the middle of two steps may differ. What must
 * hold is that the model lost no more by it; rounding, which sees no activation, gives the same
 * bytes. */
#include "cli/transcript.h"

static folder here;

static const char *const models[] = {"llama", "qwen2",   "qwen3",   "gemma2",  "gemma3",
                                     "phi3",  "granite", "smollm3", "mixtral", "qwen3_moe"};
enum { N_MODEL = sizeof models / sizeof *models };

static bool is_missing(check *c)
{
    outcome o = program_run(&here, "run %M/gguf-llama/model.gguf --device simt -p a --raw -n 1",
                            OUT_CAPTURED);
    const bool missing = o.code == 8 && strstr(o.err, "cannot be loaded");
    CHECK(c, missing || o.code == 0);
    if (missing)
        check_skip(c, "%s", o.err);
    program_free(&o);
    return missing;
}

static bool ran(check *c, const char *line)
{
    outcome o = program_run(&here, line, OUT_CAPTURED);
    c->n_check++;
    if (o.code)
        check_report(c, __FILE__, __LINE__, "%s: exit %d: %.300s", line, o.code, o.err);
    program_free(&o);
    return o.code == 0;
}

/* All of a small file; 0 bytes: it is not there. */
static size_t bytes_of(const char *name, uint8_t *to, size_t most)
{
    char path[1024];
    FILE *f = fopen(folder_in(&here, name, path), "rb");
    const size_t n = f ? fread(to, 1, most, f) : 0;
    if (f)
        fclose(f);
    return n;
}

static void runs(check *c)
{
    if (is_missing(c))
        return;
    for (int i = 0; i < N_MODEL; i++) {
        char line[256];
        snprintf(line, sizeof line,
                 "run %%M/gguf-%s/model.gguf --device simt -p the --raw -n 3 --temp 0 --json",
                 models[i]);
        outcome o = program_run(&here, line, OUT_CAPTURED);
        CHECK_EQ(c, o.code, 0);
        CHECK_HAS(c, o.out, "\"tokens\":[");
        CHECK_STR(c, o.err, "");
        program_free(&o);
    }
}

/* Random models of 2 layers: their perplexity is that of a guess, and moves little. */
static void evaluates(check *c)
{
    if (is_missing(c))
        return;
    for (int i = 0; i < N_MODEL; i++) {
        double ppl[2];
        for (int on = 0; on < 2; on++) {
            char line[256];
            snprintf(line, sizeof line,
                     "eval %%M/gguf-%s/model.gguf %s -f %%T/eval.txt -c 64 --chunks 1 --json",
                     models[i], on ? "--device simt" : "--exact");
            ppl[on] = number_of(c, &here, line, "ppl");
        }
        /* a token that goes to another expert moves a mixture by more than rounding does */
        CHECK_NEAR(c, ppl[1] / ppl[0], 1, 0.02, models[i]);
    }
}

static double kl_of(check *c, const char *model)
{
    char line[256];
    snprintf(line, sizeof line,
             "eval %%T/out.gguf --against %%M/gguf-%s/model.gguf --exact -f %%T/eval.txt -c 128 "
             "--chunks 10 -t 2 --json",
             model);
    return number_of(c, &here, line, "kl_mean");
}

static void quantizes(check *c)
{
    static const struct {
        const char *model, *method;
    } of[] = {{"llama", "gptq"}, {"llama", "awq-gptq"}};
    if (is_missing(c))
        return;
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        double kl[2] = {0, 0};
        for (int on = 0; on < 2; on++) {
            char line[256], path[1024];
            snprintf(line, sizeof line,
                     "quantize %%M/gguf-%s/model.gguf -o %%T/out.gguf --method %s --calib "
                     "%%T/calib.txt --samples 2 -c 64 -q %s",
                     of[i].model, of[i].method, on ? "--device simt" : "--exact");
            if (ran(c, line))
                kl[on] = kl_of(c, of[i].model);
            folder_remove(folder_in(&here, "out.gguf", path));
            folder_remove(folder_in(&here, "out.gguf.manifest.json", path));
        }
        printf("      %s, %s: KL %.5f on the CPU, %.5f on the device\n", of[i].model, of[i].method,
               kl[0], kl[1]);
        CHECK(c, kl[0] > 1e-4);
        CHECK_NEAR(c, kl[1] / kl[0], 1, 0.25, of[i].method);
    }
}

static void rounds_alike(check *c)
{
    static uint8_t file[2][1 << 20];
    size_t n[2] = {0, 0};
    if (is_missing(c))
        return;
    for (int on = 0; on < 2; on++) {
        char path[1024];
        if (ran(c, on ? "quantize %M/gguf-llama/model.gguf -o %T/out.gguf --method rtn "
                        "--grid q4_0 --device simt -q"
                      : "quantize %M/gguf-llama/model.gguf -o %T/out.gguf --method rtn "
                        "--grid q4_0 -q"))
            n[on] = bytes_of("out.gguf", file[on], sizeof file[on]);
        folder_remove(folder_in(&here, "out.gguf", path));
        folder_remove(folder_in(&here, "out.gguf.manifest.json", path));
    }
    CHECK(c, n[0] > 10000 && n[0] < sizeof file[0]);
    CHECK(c, n[0] == n[1] && memcmp(file[0], file[1], n[0]) == 0);
}

static const check_case cases[] = {
    {"run generates on the device, a model of every family", runs},
    {"eval gives the CPU's perplexity", evaluates},
    {"a calibrated quantization loses what the CPU's does", quantizes},
    {"rounding gives the CPU's bytes", rounds_alike},
};

int main(int argc, char **argv)
{
    here = folder_new();
    program_unbounded = true;
    const int rc =
        write_texts(&here) ? check_main(cases, sizeof cases / sizeof *cases, argc, argv) : 1;
    folder_remove(here.path);
    return rc;
}
