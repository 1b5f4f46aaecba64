/* experts.c -- `nibble quantize` of mixtures of experts, as a user meets it: every method into
 * every format from both containers, what the file holds, that calibration pays, experts that saw
 * little, parts of the layers, the page. */
#include "cli/transcript.h"
#include "file/container.h"

static folder here;

#define TEXT " --calib %T/calib.txt --samples 16 -c 128 -t 2 -q "

static bool expect(check *c, const char *line, int code, const char *word)
{
    outcome o = program_run(&here, line, OUT_CAPTURED);
    const bool as_wanted = o.code == code && (!word || strstr(code ? o.err : o.out, word));
    c->n_check++;
    if (!as_wanted)
        check_report(c, __FILE__, __LINE__, "%s: exit %d: %.300s%s; expected %d: %s", line, o.code,
                     o.out, o.err, code, word ? word : "");
    program_free(&o);
    return as_wanted;
}

static void gone(const char *name)
{
    char path[1024];
    folder_remove(folder_in(&here, name, path));
    strcat(path, ".manifest.json");
    folder_remove(path);
}

/* ---- what is written ---- */

static const struct {
    const char *family, *gguf[4], *folder[3];
} written[] = {
    {"mixtral",
     {"blk.1.ffn_down_exps.weight                   q4_0   [4,32,32]",
      "blk.0.ffn_gate_exps.weight                   q4_0   [4,32,32]",
      "blk.0.ffn_gate_inp.weight                    f32    [4,32]",
      "blk.0.attn_q.weight                          q4_0   "},
     {"model.layers.1.block_sparse_moe.experts.3.w2.%s",
      "model.layers.0.block_sparse_moe.experts.0.w1.%s",
      "model.layers.0.block_sparse_moe.gate.weight"}},
    {"qwen3_moe", /* experts of 16: no block of 32 */
     {"blk.1.ffn_down_exps.weight                   f16    [8,32,16]",
      "blk.0.ffn_up_exps.weight                     q4_0   [8,16,32]",
      "blk.0.ffn_gate_inp.weight                    f32    [8,32]",
      "blk.0.attn_q.weight                          q4_0   "},
     {"model.layers.1.mlp.experts.7.down_proj.", "model.layers.0.mlp.experts.7.up_proj.%s",
      "model.layers.0.mlp.gate.weight"}},
};

static void quantized(check *c, const char *model, const char *method, const char *format,
                      const char *codes, int family)
{
    char line[512], word[160];
    const bool gguf = strcmp(format, "gguf") == 0;
    const char *out = gguf ? "out.gguf" : "out";
    snprintf(line, sizeof line, "quantize %s -o %%T/%s --format %s --method %s --group %s%s", model,
             out, format, method,
             /* which packs experts of 16 in no other groups */
             family && strcmp(format, "compressed-tensors") == 0 ? "row" : "32", TEXT);
    if (expect(c, line, 0, NULL)) {
        snprintf(line, sizeof line, "inspect %%T/%s --tensors", out);
        for (int i = 0; i < (gguf ? 4 : 3); i++) {
            snprintf(word, sizeof word, "%.150s",
                     gguf ? written[family].gguf[i] : written[family].folder[i]);
            char *at = strstr(word, "%s");
            if (at)
                snprintf(at, sizeof word - (size_t)(at - word), "%s", codes);
            expect(c, line, 0, word);
        }
        snprintf(line, sizeof line, "inspect %%T/%s --verify", out);
        expect(c, line, 0, NULL);
        snprintf(line, sizeof line, "run %%T/%s -p the --raw -n 4 -t 1 --json", out);
        expect(c, line, 0, "\"tokens\":[");
    }
    gone(out);
}

static void every_form(check *c, int family)
{
    static const char *const methods[] = {
        "rtn", "gptq",    "gptq --correction 0", "gptq --no-static-groups", "gptq --act-order",
        "awq", "awq-gptq"};
    static const struct {
        const char *format, *codes;
        bool orders;
    } formats[] = {{"gguf", "", false},
                   {"gptq", "qweight", true},
                   {"gptq_v2", "qweight", true},
                   {"awq", "qweight", false},
                   {"compressed-tensors", "weight_packed", false}};
    char gguf[128], plain[128], line[512];
    snprintf(gguf, sizeof gguf, "%%M/gguf-%s/model.gguf", written[family].family);
    snprintf(plain, sizeof plain, "%%T/plain-%s", written[family].family);
    snprintf(line, sizeof line, "convert %s -o %s --format plain -q", gguf, plain);
    if (!expect(c, line, 0, NULL))
        return;
    for (size_t m = 0; m < sizeof methods / sizeof *methods; m++)
        for (size_t f = 0; f < sizeof formats / sizeof *formats; f++) {
            if (strstr(methods[m], "act-order") && !formats[f].orders)
                continue;
            /* no part of its linears may be left out */
            if (family && strcmp(formats[f].format, "awq") == 0)
                continue;
            quantized(c, f % 2 == m % 2 ? gguf : plain, methods[m], formats[f].format,
                      formats[f].codes, family);
        }
}

static void every_form_mixtral(check *c)
{
    every_form(c, 0);
}
static void every_form_qwen3_moe(check *c)
{
    every_form(c, 1);
}

/* ---- that it pays ---- */

static double kl_of(check *c, const char *family, const char *method)
{
    char line[512];
    snprintf(line, sizeof line, "quantize %%M/gguf-%s/model.gguf -o %%T/out.gguf --method %s%s",
             family, method, TEXT);
    expect(c, line, 0, NULL);
    snprintf(line, sizeof line,
             "eval %%T/out.gguf --against %%M/gguf-%s/model.gguf -f %%T/eval.txt -c 128 --chunks "
             "10 -t 2 --json",
             family);
    const double kl = number_of(c, &here, line, "kl_mean");
    gone("out.gguf");
    return kl;
}

/* Measured .43 and .26 of rounding's with correction; .50 and .40 without. */
static void better_than_rounding(check *c)
{
    static const char *const families[] = {"mixtral", "qwen3_moe"};
    for (int i = 0; i < 2; i++) {
        const double rtn = kl_of(c, families[i], "rtn"),
                     plain = kl_of(c, families[i], "gptq --correction 0"),
                     corrected = kl_of(c, families[i], "gptq");
        printf("      %s: KL %.4f rounded, %.4f by GPTQ, %.4f corrected\n", families[i], rtn, plain,
               corrected);
        CHECK(c, rtn > 0.01);
        CHECK(c, plain < 0.85 * rtn);
        CHECK(c, corrected < 0.7 * rtn);
    }
}

/* ---- experts that saw little; parts ---- */

static void few_tokens(check *c)
{
#define FEW                                                                                        \
    "quantize %M/gguf-qwen3_moe/model.gguf -o %T/out.gguf --calib %T/calib.txt --samples 1 -c 2 "  \
    "-t 1 -q "
    static char page[1 << 20];
    char path[1024];
    outcome o = program_run(&here, FEW "--json", OUT_CAPTURED);
    CHECK_EQ(c, o.code, 0);
    nb_json *doc = o.code == 0 ? one_object(c, o.out) : NULL;
    const nb_json_node *e = doc ? nb_json_get(nb_json_root(doc), "experts") : NULL;
    int64_t linears = 0, unseen = 0, rounded = 0, passes = 0, n_unseen = 0, n_rounded = 0;
    CHECK(c, e && nb_json_int(nb_json_get(e, "linears"), &linears) &&
                 nb_json_int(nb_json_get(e, "unseen"), &unseen) &&
                 nb_json_int(nb_json_get(e, "rounded"), &rounded) &&
                 nb_json_int(nb_json_get(e, "passes"), &passes));
    CHECK_EQ(c, passes, 1);
    for (const nb_json_node *l = doc ? nb_json_first(nb_json_get(nb_json_root(doc), "layers"))
                                     : NULL;
         l; l = nb_json_next(l)) {
        int64_t tokens = -1;
        bool was = false;
        if (!nb_json_int(nb_json_get(l, "tokens"), &tokens) ||
            !nb_json_bool(nb_json_get(l, "rounded"), &was))
            continue;
        n_rounded += was;
        n_unseen += was && tokens == 0;
    }
    CHECK(c, unseen > 0 && rounded >= unseen && linears >= rounded);
    CHECK_EQ(c, n_unseen, unseen);
    CHECK_EQ(c, n_rounded, rounded);
    nb_json_close(doc);
    program_free(&o);
    gone("out.gguf");
    expect(c, FEW "--report %T/r.html", 0,
           "linears saw too few tokens and were rounded to nearest");
    gone("out.gguf");
    expect(c, FEW, 0, "_exps.");
    FILE *f = fopen(folder_in(&here, "r.html", path), "rb");
    const size_t n = f ? fread(page, 1, sizeof page - 1, f) : 0;
    if (f)
        fclose(f);
    page[n] = 0;
    CHECK_HAS(c, page, "linears saw too few tokens and were rounded to nearest");
    CHECK_HAS(c, page, "saw no token: rounded to nearest");
    CHECK_HAS(c, page, "<figcaption>ffn_gate_exps.*</figcaption>");
    gone("r.html");
    gone("out.gguf");
}

static void some_layers(check *c)
{
    expect(c, "quantize %M/gguf-mixtral/model.gguf -o %T/out.gguf --layers 1:2" TEXT, 0, NULL);
    expect(c, "inspect %T/out.gguf --tensors", 0,
           "blk.0.ffn_down_exps.weight                   bf16   [4,32,32]");
    expect(c, "inspect %T/out.gguf --tensors", 0,
           "blk.1.ffn_down_exps.weight                   q4_0   [4,32,32]");
    gone("out.gguf");
    expect(c, "quantize %T/plain-mixtral -o %T/out --layers 0:1 --format gptq --group 32" TEXT, 0,
           NULL);
    expect(c, "inspect %T/out --tensors", 0,
           "model.layers.0.block_sparse_moe.experts.2.w3.qweight");
    expect(c, "inspect %T/out --tensors", 0, "model.layers.1.block_sparse_moe.experts.2.w3.weight");
    expect(c, "run %T/out -p the --raw -n 4 -t 1 --json", 0, "\"tokens\":[");
    gone("out");
    expect(c, "quantize %M/gguf-mixtral/model.gguf -o %T/out.gguf --dry-run --json" TEXT, 0,
           "\"experts\":{\"passes\":1,");
}

static const check_case cases[] = {
    {"mixtral by every method into every format, from both containers", every_form_mixtral},
    {"qwen3_moe, whose experts are narrower than a block", every_form_qwen3_moe},
    {"a calibrated mixture is nearer to the original than a rounded one", better_than_rounding},
    {"experts that saw little are named and counted: summary, JSON, page", few_tokens},
    {"some layers of a mixture, the others as they are; a plan", some_layers},
};

int main(int argc, char **argv)
{
    here = folder_new();
    const int rc =
        write_texts(&here) ? check_main(cases, sizeof cases / sizeof *cases, argc, argv) : 1;
    folder_remove(here.path);
    return rc;
}
