/* nonfinite.c -- NaN and Inf in a checkpoint, whatever holds them (hardening.md 107, 111, 113): the
 * tensor is named where one reads it, a request ends with a sentence and no text, and
 * --allow-nonfinite goes as far as numbers go. */
#include "cli/transcript.h"
#include "file/container.h"
#include "tiny_gguf.h"

static folder here;

#define TINY "%T/tiny.gguf"

static const transcript rows[] = {
    /* 113: the weights are floats, which nobody looks at before they are multiplied */
    {"qz-runtime-nan: greedy", "run %T/query.gguf --raw -p abc -n 8 -t 1", 4, NULL,
     "query.gguf: the logits after 5 tokens are not finite: a weight is NaN or infinite", 0},
    {"qz-runtime-nan: drawn", "run %T/query.gguf --raw -p abc -n 8 -t 1 --temp 1 --json", 4, NULL,
     "the logits after 5 tokens are not finite", 0},
    {"qz-runtime-nan: in f32", "run %T/query.gguf --raw -p abc -n 8 -t 1 --exact", 4, NULL,
     "the logits after 5 tokens are not finite", 0},
    {"qz-runtime-nan: on the device of plain loops",
     "run %T/query.gguf --raw -p abc -n 8 -t 1 --device ref --json", 4, NULL,
     "the logits after 5 tokens are not finite", 0},
    {"qz-runtime-nan: one token's logit alone, greedy", "run %T/output.gguf --ids 5,9 -n 8 -t 1", 4,
     NULL, "the logits after 2 tokens are not finite", 0},
    {"qz-runtime-nan: one token's logit alone, drawn",
     "run %T/output.gguf --ids 5,9 -n 8 -t 1 --temp 0.5", 4, NULL,
     "the logits after 2 tokens are not finite", 0},
    {"qz-runtime-nan: infinite weights", "run %T/infinite.gguf --ids 5,9 -n 8 -t 1", 4, NULL,
     "the logits after 2 tokens are not finite", 0},
    {"qz-runtime-nan: perplexity", "eval %T/query.gguf -f %T/text.txt --ctx 32 --chunks 1 -t 1 -q",
     4, NULL, "the logits after", 0},
    {"qz-runtime-nan: perplexity beside a reference of them",
     "eval %T/tiny.gguf --against %T/query.gguf -f %T/text.txt --ctx 32 --chunks 1 -t 1 -q", 4,
     NULL, "query.gguf: the logits after 17 tokens are not finite: a weight is NaN or infinite", 0},
    {"qz-runtime-nan: what the model writes for its own calibration",
     "quantize %T/output.gguf -o %T/o.gguf --calib self --samples 1 -c 250 -t 1 -q", 4, NULL,
     "output.gguf: the logits after ", 0},
    {"qz-runtime-nan: the numbers themselves can be had",
     "run %T/query.gguf --ids 5,9 --logits %T/a.npy -t 1 -q --json", 0, "\"prompt_tokens\":2", NULL,
     0},
    /* 111: of blocks whose scales are scaled by a half, none is looked at either until its values
       are */
    {"qz-super-scale: such blocks are read", "run %T/blocks.gguf --ids 5,9 -n 1 -t 1 --json", 0,
     "\"tokens\":[", NULL, 0},
    {"qz-super-scale: NaN ends a request", "run %T/super.gguf --ids 5,9 -n 8 -t 1 --json", 4, NULL,
     "the logits after 2 tokens are not finite", 0},
    {"qz-super-scale: inspecting names the tensor", "inspect %T/super.gguf --verify", 1, NULL,
     "tensor blk.0.attn_k.weight holds NaN or Inf", 0},
    {"qz-super-scale: quantizing names the tensor and its row",
     "quantize %T/super.gguf -o %T/o.gguf --method rtn -t 1 -q --json", 4, NULL,
     "tensor blk.0.attn_k.weight holds NaN or Inf in row 5", 0},
    {"qz-super-scale: blocks cannot be made of it",
     "convert %T/super.gguf -o %T/o.gguf --grid q8_0 -t 1 -q", 5, NULL,
     "tensor blk.0.attn_k.weight: not all of its values in q4_k have a place in q8_0", 0},
    /* 107: scales of packed linears are looked at when they are read */
    {"qz-scale: NaN is named", "run %T/packed --ids 5,9 -n 1 -t 1 --json", 4, NULL,
     "tensor model.layers.0.self_attn.k_proj.scales: the scale of output 3, group 0 is NaN", 0},
    {"qz-scale: measuring", "eval %T/packed -f %T/text.txt --ctx 32 --chunks 1 -t 1 -q", 4, NULL,
     "k_proj.scales: the scale of output 3", 0},
    {"qz-scale: converting", "convert %T/packed -o %T/o --format plain -t 1 -q", 4, NULL,
     "k_proj.scales: the scale of output 3", 0},
    {"qz-scale: quantizing anew, whatever is allowed",
     "quantize %T/packed -o %T/o.gguf --method rtn -t 1 -q --allow-nonfinite", 4, NULL,
     "k_proj.scales: the scale of output 3", 0},
    {"qz-scale: allowed, a request still ends with a sentence",
     "run %T/packed --ids 5,9 -n 4 -t 1 --allow-nonfinite", 4, NULL,
     "the logits after 2 tokens are not finite", 0},
    {"qz-scale: allowed, the numbers can be had",
     "run %T/packed --ids 5,9 --logits %T/a.npy -t 1 -q --allow-nonfinite --json", 0,
     "\"prompt_tokens\":2", NULL, 0},
    {"qz-scale: allowed, floats hold it",
     "convert %T/packed -o %T/floats --format plain -t 1 -q --allow-nonfinite", 0, "plain: ", NULL,
     0},
    {"qz-scale: which inspecting then names", "inspect %T/floats --verify", 1, NULL,
     "tensor model.layers.0.self_attn.k_proj.weight holds NaN or Inf", 0},
    {"qz-scale: allowed, another scheme does not hold it",
     "convert %T/packed -o %T/o --format awq -t 1 -q --allow-nonfinite", 5, NULL,
     "a scale that F16 does not have", 0},
};

static void row_case(check *c)
{
    char path[1024];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strcmp(rows[i].sentence, c->sentence) == 0)
            check_transcript(c, &here, &rows[i]);
    CHECK(c, access(folder_in(&here, "o", path), F_OK) != 0 &&
                 access(folder_in(&here, "o.gguf", path), F_OK) != 0);
}

/* ---- the models ---- */

/* Element `at` of `size` bytes of a tensor becomes `bits`. */
static void put(const char *model, const char *file, const char *tensor, int64_t at, size_t size,
                uint32_t bits)
{
    char path[1024];
    nb_container *m = NULL;
    nb_error err = {.message = ""};
    const nb_tensor *t = nb_container_open(folder_in(&here, model, path), &m, &err) == NB_OK
                             ? nb_container_find(m, tensor)
                             : NULL;
    FILE *f = t ? fopen(folder_in(&here, file, path), "r+b") : NULL;
    if (!f || fseek(f, (long)((size_t)t->offset + (size_t)at * size), SEEK_SET) != 0 ||
        fwrite(&bits, size, 1, f) != 1 || fclose(f) != 0) {
        fprintf(stderr, "%s: %s cannot be changed. %s\n", model, tensor, err.message);
        exit(1);
    }
    nb_container_close(m);
}

static void copy(const char *from, const char *to)
{
    size_t n = 0;
    char *p = folder_bytes(&here, from, &n);
    folder_write(&here, to, p, n);
    free(p);
}

static void must(const char *line)
{
    outcome o = program_run(&here, line, OUT_CAPTURED);
    if (o.code != 0) {
        fprintf(stderr, "%s: %s\n", line, o.err);
        exit(1);
    }
    program_free(&o);
}

/* q4_0 rows of 256 are as long as those of q4_k: the same file under another type, all bytes 0x11,
 * whose halves are 6.5e-4. */
static void make_blocks(void)
{
    enum { kQ4_0 = 2, kQ4K = 12 };
    static const char name[] = "blk.0.attn_k.weight";
    size_t n = 0;
    char *p = folder_bytes(&here, "q4_0.gguf", &n), path[1024], *info = NULL;
    nb_container *m = NULL;
    const nb_tensor *t = nb_container_open(folder_in(&here, "q4_0.gguf", path), &m, NULL) == NB_OK
                             ? nb_container_find(m, name)
                             : NULL;
    for (size_t i = 0; i + sizeof name < n && !info; i++)
        info = memcmp(p + i, name, sizeof name - 1) == 0
                   ? p + i + sizeof name - 1
                   : NULL; /* n_dims u32, dims u64 each, type u32 */
    if (!t || !info || info[0] != 2 || info[20] != kQ4_0)
        exit(1);
    info[20] = kQ4K;
    memset(p + t->offset, 0x11, t->bytes);
    folder_write(&here, "blocks.gguf", p, n);
    nb_container_close(m);
    free(p);
}

static void make_models(void)
{
    char path[1024];
    nb_error err = {.message = ""};
    const tiny_shape shape = {
        .n_layer = 1, .hidden = 256, .ffn = 256, .n_head = 4, .n_kv_head = 2, .ctx = 256};
    if (tiny_gguf_write(folder_in(&here, "tiny.gguf", path), &shape, &err) != NB_OK) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    copy("tiny.gguf", "query.gguf");
    put("query.gguf", "query.gguf", "blk.0.attn_v.weight", 700, 2, 0x7e00);
    copy("tiny.gguf", "output.gguf");
    put("output.gguf", "output.gguf", "output.weight", 256 * 77 + 3, 2, 0x7e00);
    copy("tiny.gguf", "infinite.gguf");
    put("infinite.gguf", "infinite.gguf", "output.weight", 256 * 77 + 3, 2, 0x7c00);
    must("quantize " TINY " -o %T/q4_0.gguf --method rtn --grid q4_0 -t 1 -q");
    make_blocks();
    copy("blocks.gguf", "super.gguf");
    put("super.gguf", "super.gguf", "blk.0.attn_k.weight", 5 * 72, 2,
        0x7e00); /* d of row 5: 144 bytes a row */
    must("quantize " TINY " -o %T/packed --method rtn --format gptq --group 32 -t 1 -q");
    put("packed", "packed/model.safetensors", "model.layers.0.self_attn.k_proj.scales", 3, 2,
        0x7e00);
}

int main(int argc, char **argv)
{
    enum { kRows = sizeof rows / sizeof *rows };
    static char text[2000];
    check_case cases[kRows];
    for (int i = 0; i < kRows; i++)
        cases[i] = (check_case){rows[i].sentence, row_case};
    here = folder_new();
    for (size_t i = 0; i + 1 < sizeof text; i++)
        text[i] = (char)('a' + (i * i + i / 7) % 26);
    folder_write(&here, "text.txt", text, sizeof text - 1);
    make_models();
    const int rc = check_main(cases, kRows, argc, argv);
    folder_gone(&here);
    return rc;
}
