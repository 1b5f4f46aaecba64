/* plain.c -- `nibble quantize --format plain`: a folder of floats that are what the codes mean.
 * Held to the other way to the same floats: the same quantization into codes, converted. Then what
 * stands beside the weights, what is refused, and an unfinished run. */
#include "cli/transcript.h"
#include "tiny_gguf.h"

#include <signal.h>

static folder here;

#define TINY "%T/tiny.gguf"
#define TEXT " --calib %T/text.txt --samples 2 -c 16 -t 1 -q "

static void gone(const char *name)
{
    char path[1024];
    folder_remove(folder_in(&here, name, path));
    strcat(path, ".nibble");
    folder_remove(path);
    folder_in(&here, name, path);
    strcat(path, ".manifest.json");
    folder_remove(path);
}

static bool expect(check *c, const char *line, int code, const char *word)
{
    outcome o = program_run(&here, line, OUT_CAPTURED);
    const bool as_wanted = o.code == code && (!word || strstr(code ? o.err : o.out, word));
    c->n_check++;
    if (!as_wanted)
        check_report(c, __FILE__, __LINE__, "%s: exit %d: %s%s; expected %d: %s", line, o.code,
                     o.out, o.err, code, word ? word : "");
    if (code && code < 128)
        check_failure(c, line, &o);
    program_free(&o);
    return as_wanted;
}

static void has(check *c, const char *file, const char *word)
{
    size_t n = 0;
    char *p = folder_bytes(&here, file, &n);
    c->n_check++;
    if (!strstr(p, word))
        check_report(c, __FILE__, __LINE__, "%s does not hold %s: %.600s", file, word, p);
    free(p);
}

/* ---- the values ---- */

/* What both ways are told alike, then what makes codes of it: the pipeline itself is the same, the
 * quantized stream runs through the same numbers. */
static const struct {
    const char *model, *alike, *as_codes;
} ways[] = {
    {TINY, "--method rtn --group 32", "--format gptq"},
    {TINY, "--method rtn --group 32 --bits 2 --range absmax", "--format gptq"},
    {TINY, "--method rtn --group 128 --bits 3 --asym",
     "--format gptq_v2"}, /* 64 inputs: one short group */
    {TINY, "--method rtn --group row --bits 8 --asym", "--format gptq_v2"},
    {"%T/odd.gguf", "--method rtn --group 32", "--format gptq"}, /* 80 = 2.5 x 32 */
    {TINY, "--group 32", "--format gptq"},
    {TINY, "--group 16 --act-order --correction 0.5", "--format gptq"},
    {TINY, "--layers 1:2 --group 32 --asym", "--format gptq_v2"},
    {TINY, "--method awq --group 32 --asym", "--format awq"},
    {TINY, "--method awq-gptq --group 64", "--format gptq"},
    {TINY, "--grid q4_0", NULL}, /* blocks of GGUF */
    {TINY, "--method rtn --grid q5_1", NULL},
    {"%T/odd.gguf", "--method rtn --grid q8_0", NULL}, /* its down stays as it is */
    {"%M/tiny-qwen2", "--method rtn --group 32", "--format gptq"},
    {"%M/tiny-mixtral", "--method rtn --group 32", "--format gptq"},
    {"%M/tiny-gemma2", "--grid q4_0 --method rtn", NULL},
};

static void values(check *c)
{
    char line[512];
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        const char *codes = ways[i].as_codes ? "codes" : "codes.gguf",
                   *format = ways[i].as_codes ? ways[i].as_codes : "";
        snprintf(line, sizeof line, "quantize %s -o %%T/%s --embedding f32 %s %s%s", ways[i].model,
                 codes, ways[i].alike, format, TEXT);
        bool made = expect(c, line, 0, NULL);
        snprintf(line, sizeof line, "convert %%T/%s -o %%T/want --format plain --grid f32 -t 1 -q",
                 codes);
        made = made && expect(c, line, 0, NULL);
        snprintf(line, sizeof line, "quantize %s -o %%T/out --embedding f32 %s --format plain%s",
                 ways[i].model, ways[i].alike, TEXT);
        if (made && expect(c, line, 0, NULL)) {
            expect(c,
                   "run %T/out --ids 5,9,30,2,8,100 --logits %T/a.npy --exact -t 1 -q -n 1 --json",
                   0, NULL);
            expect(c,
                   "run %T/want --ids 5,9,30,2,8,100 --logits %T/b.npy --exact -t 1 -q -n 1 --json",
                   0, NULL);
            check_same(c, &here, "a.npy", "b.npy", true);
            expect(c, "inspect %T/out --verify --json", 0, "\"scheme\":\"plain\"");
        }
        gone(codes);
        gone("want");
        gone("out");
    }
}

/* In half words the values are rounded once more: as converting them does it. */
static void narrow(check *c)
{
    static const char *const types[][2] = {
        {"f16", "float16"}, {"bf16", "bfloat16"}, {"f32", "float32"}};
    char line[300], word[80];
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        expect(c,
               "quantize " TINY
               " -o %T/codes --method rtn --group 32 --format gptq --embedding f32 -t 1 -q",
               0, NULL);
        snprintf(line, sizeof line,
                 "convert %%T/codes -o %%T/want --format plain --grid %s -t 1 -q", types[i][0]);
        expect(c, line, 0, NULL);
        snprintf(line, sizeof line,
                 "quantize %%T/tiny.gguf -o %%T/out --method rtn --group 32 --format plain "
                 "--embedding %s -t 1 -q",
                 types[i][0]);
        expect(c, line, 0, NULL);
        expect(c, "run %T/out --ids 5,9,30,2,8,100 --logits %T/a.npy --exact -t 1 -q -n 1 --json",
               0, NULL);
        expect(c, "run %T/want --ids 5,9,30,2,8,100 --logits %T/b.npy --exact -t 1 -q -n 1 --json",
               0, NULL);
        check_same(c, &here, "a.npy", "b.npy", true);
        snprintf(word, sizeof word, "\"torch_dtype\": \"%s\"", types[i][1]);
        has(c, "out/config.json", word);
        gone("codes");
        gone("want");
        gone("out");
    }
}

/* ---- what stands beside them ---- */

static void beside(check *c)
{
    size_t n = 0;
    outcome o =
        program_run(&here, "quantize " TINY " -o %T/out --format plain --json" TEXT, OUT_CAPTURED);
    CHECK_EQ(c, o.code, 0);
    CHECK_HAS(
        c, o.out,
        "\"method\":\"gptq\",\"grid\":\"int4\",\"format\":\"plain\",\"bits_per_weight\":16.0");
    CHECK_HAS(c, o.out, "{\"name\":\"blk.0.attn_q.weight\",\"error\":");
    program_free(&o);
    char *config = folder_bytes(&here, "out/config.json", &n);
    CHECK(c, n && !strstr(config, "quantization_config"));
    free(config);
    has(c, "out/manifest.json", "\"format\":\"plain\"");
    has(c, "out/manifest.json",
        "\"name\":\"model.layers.1.mlp.down_proj.weight\",\"type\":\"f16\"");
    expect(c,
           "quantize %T/out -o %T/again --method rtn --format plain --layers 0:1 --max-shard-size "
           "30KB -t 1 -q",
           0, NULL); /* codes of codes */
    expect(c, "inspect %T/again --verify", 0, "scheme           plain");
    has(c, "again/model.safetensors.index.json", "model-00002-of-");
    gone("again");
    gone("out");
    expect(c, "quantize " TINY " -o %T/out --method rtn --format plain --dry-run --json -q", 0,
           "\"bits_per_weight\":16.0");
    CHECK(c, access(folder_in(&here, "out", (char[1024]){0}), F_OK) != 0);
}

/* What a linear that is kept takes is what the folder keeps it in, and one sentence speaks for all
 * of them. */
static void kept(check *c)
{
    outcome o = program_run(
        &here,
        "quantize %T/odd.gguf -o %T/out --method rtn --grid q8_0 --format plain --embedding f32 "
        "--report %T/r.html -t 1 -q --json",
        OUT_CAPTURED);
    CHECK_EQ(c, o.code, 0);
    CHECK_HAS(c, o.out,
              "{\"name\":\"blk.1.ffn_down.weight\",\"error\":null,\"error_rtn\":null,\"bits_per_"
              "weight\":32");
    program_free(&o);
    has(c, "r.html",
        "2 linears, the first blk.0.ffn_down.weight: kept f32: its width is no multiple of 32");
    gone("out");
    expect(c,
           "quantize %T/odd.gguf -o %T/out --method rtn --grid q8_0 --format plain -t 1 -q --json",
           0,
           "{\"name\":\"blk.1.ffn_down.weight\",\"error\":null,\"error_rtn\":null,\"bits_per_"
           "weight\":16");
    gone("out");
}

static void unfinished(check *c)
{
    static const char run[] = "quantize " TINY " -o %T/out --format plain --group 32" TEXT;
    expect(c, run, 0, NULL);
    gone("sound");
    CHECK_EQ(c,
             rename(folder_in(&here, "out", (char[1024]){0}),
                    folder_in(&here, "sound", (char[1024]){0})),
             0);
    setenv("NIBBLE_CRASH_AT", "after-append:3", 1); /* begin, calib, layer 0 */
    expect(c, run, 128 + SIGKILL, NULL);
    unsetenv("NIBBLE_CRASH_AT");
    expect(c, "quantize -o %T/out --resume --json", 0, "\"resumed_layers\":1");
    check_same(c, &here, "out", "sound", true);
    gone("out");
    gone("sound");
}

static const transcript refused[] = {
    {"an order of blocks", "quantize " TINY " -o %T/out --format plain --grid q4_0 --act-order", 5,
     NULL, "--act-order in blocks", 0},
    {"an order of inputs that are rounded in none",
     "quantize " TINY " -o %T/out --format plain --method rtn --act-order", 5, NULL,
     "--act-order with --method rtn, which rounds inputs in no order", 0},
    {"a range of blocks", "quantize " TINY " -o %T/out --format plain --grid q4_0 --range full", 5,
     NULL, "--range in blocks", 0},
    {"groups that blocks do not have",
     "quantize " TINY " -o %T/out --format plain --grid q4_0 --group 64", 5, NULL,
     "--group 64 in blocks; q4_0 has groups of 32", 0},
    {"a mix of llama.cpp's", "quantize " TINY " -o %T/out --format plain --grid q4_k_m", 5, NULL,
     "--grid q4_k_m cannot be written yet", 0},
    {"a grid that is none", "quantize " TINY " -o %T/out --format plain --grid f16", 2, NULL,
     "grid \"f16\" is unknown", 0},
    {"bits that are none", "quantize " TINY " -o %T/out --format plain --bits 5", 2, NULL,
     "--bits 5, it must be 2, 3, 4 or 8", 0},
    {"a folder called like a file", "quantize " TINY " -o %T/out.gguf --format plain", 2, NULL,
     "--format plain is a folder", 0},
    {"an embedding of blocks", "quantize " TINY " -o %T/out --format plain --embedding q8_0", 5,
     NULL, "--embedding q8_0 in a folder", 0},
    {"blocks of GGUF in a folder of bitsandbytes",
     "quantize " TINY " -o %T/out --format bnb --grid q4_0", 5, NULL,
     "bitsandbytes checkpoints of 4 bits hold nf4 and fp4", 0},
};

static void refusals(check *c)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        check_transcript(c, &here, &refused[i]);
        CHECK(c, access(folder_in(&here, "out", (char[1024]){0}), F_OK) != 0 &&
                     access(folder_in(&here, "out.nibble", (char[1024]){0}), F_OK) != 0);
    }
}

static const check_case cases[] = {
    {"the floats of a plain folder are what the codes of the same quantization mean", values},
    {"in half words they are rounded as converting does it, and config.json names the type",
     narrow},
    {"the folder is whole, says nothing of quantization, and can be quantized again", beside},
    {"what is kept is reported as it is kept", kept},
    {"a plain folder that was killed is gone on with to the same bytes", unfinished},
    {"what a plain folder cannot hold is refused before work begins", refusals},
};

int main(int argc, char **argv)
{
    static char text[4000];
    here = folder_new();
    tiny_gguf_in(
        &here, "tiny.gguf",
        &(tiny_shape){
            .n_layer = 2, .hidden = 64, .ffn = 128, .n_head = 4, .n_kv_head = 2, .ctx = 128});
    tiny_gguf_in(
        &here, "odd.gguf",
        &(tiny_shape){
            .n_layer = 2, .hidden = 64, .ffn = 80, .n_head = 4, .n_kv_head = 2, .ctx = 128});
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)('a' + (i * i + i / 7) % 26);
    folder_write(&here, "text.txt", text, sizeof text);
    const int code = check_main(cases, sizeof cases / sizeof *cases, argc, argv);
    folder_gone(&here);
    return code;
}
