/* folders.c -- `nibble quantize` and `nibble convert` into folders whose linears a scheme packs:
 * what is refused before work begins, what is written runs as what it decodes to, which conversions
 * keep every bit, and who may go on with an unfinished one. */
#include "cli/transcript.h"
#include "file/container.h"
#include "tiny_gguf.h"

#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>

static folder here;

#define TINY "%T/tiny.gguf"
#define RTN "quantize " TINY " -o %T/out -t 1 -q --method rtn "
#define GPTQ "quantize " TINY " -o %T/out -t 1 -q --calib %T/text.txt --samples 2 -c 16 "

static const char *in(const char *name)
{
    static char path[1024];
    return folder_in(&here, name, path);
}

static bool there(const char *name)
{
    return access(in(name), F_OK) == 0;
}

static void gone(const char *name)
{
    char path[1024];
    folder_remove(folder_in(&here, name, path));
    strcat(path, ".nibble");
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

/* The same weights, and the same words about their quantization in the config. */
static void same_folder(check *c, const char *a, const char *b)
{
    char name[2][256];
    const char *const folders[] = {a, b};
    char *p[2];
    size_t n = 0;
    for (int i = 0; i < 2; i++) {
        snprintf(name[i], sizeof name[i], "%.100s/config.json", folders[i]);
        p[i] = folder_bytes(&here, name[i], &n);
        snprintf(name[i], sizeof name[i], "%.100s/model.safetensors", folders[i]);
    }
    const char *x = strstr(p[0], "\"quantization_config\""),
               *y = strstr(p[1], "\"quantization_config\"");
    CHECK(c, x && y);
    if (x && y)
        CHECK_STR(c, x, y);
    free(p[0]);
    free(p[1]);
    check_same(c, &here, name[0], name[1], true);
}

/* Sets every byte of a tensor of the model in the folder to v. */
static void spoil(check *c, const char *model, const char *tensor, int v)
{
    char path[1024];
    nb_container *m = NULL;
    nb_error err = {.message = ""};
    CHECK_EQ(c, nb_container_open(folder_in(&here, model, path), &m, &err), NB_OK);
    const nb_tensor *t = m ? nb_container_find(m, tensor) : NULL;
    CHECK(c, t != NULL);
    strcat(path, "/model.safetensors");
    FILE *f = t ? fopen(path, "r+b") : NULL;
    if (f && fseek(f, (long)t->offset, SEEK_SET) == 0)
        for (size_t i = 0; i < t->bytes; i++)
            fputc(v, f);
    CHECK(c, f && fclose(f) == 0);
    nb_container_close(m);
}

/* ---- refusals ---- */

static const transcript refused[] = {
    {"--format awq with 8 bits", RTN "--format awq --bits 8", 5, NULL,
     "AWQ checkpoints have codes of 4 bits, not 8", 0},
    {"--act-order where no loader knows it", GPTQ "--format compressed-tensors --act-order", 5,
     NULL, "--act-order in --format compressed-tensors", 0},
    {"--act-order without a look at the inputs", RTN "--format gptq --act-order", 5, NULL,
     "--act-order with --method rtn, which rounds inputs in no order", 0},
    {"--act-order where nothing is rounded in an order",
     "quantize " TINY " -o %T/out -t 1 -q --method awq --format gptq --act-order", 5, NULL,
     "--act-order with --method awq, which rounds inputs in no order", 0},
    {"--asym in version 1", RTN "--format gptq --asym --json", 5, NULL,
     "--asym in --format gptq, where loaders read a zero of 0 in three ways", 0},
    {"--range of another word", RTN "--format gptq --range most", 2, NULL, "most", 0},
    {"a block format in a folder", RTN "--format gptq --grid q4_0", 5, NULL,
     "--grid q4_0 in --format gptq, which holds int2, int3, int4 and int8", 0},
    {"an embedding of blocks in a folder", RTN "--format gptq --embedding q8_0", 5, NULL,
     "--embedding q8_0 in a folder", 0},
    {"groups that AWQ's loaders do not have",
     "quantize %T/odd.gguf -o %T/out -q --method rtn --format awq --group 32 --json", 5, NULL,
     "model.layers.0.mlp.down_proj.weight is [64,80]: AWQ needs outputs in eights and inputs in "
     "whole groups of 32; --group row packs every linear",
     0},
    {"groups that compressed-tensors does not have",
     "quantize %T/wide.gguf -o %T/out -q --method rtn --format compressed-tensors --group 64", 5,
     NULL,
     "is [64,96]: compressed-tensors needs inputs in whole groups of 64; --group 32 or row packs "
     "every linear",
     0},
    {"a size of files that is none", RTN "--format gptq --max-shard-size 5X", 2, NULL,
     "--max-shard-size 5X: it must be a size", 0},
    {"several GGUF files", "quantize " TINY " -o %T/out.gguf --max-shard-size 1M", 5, NULL,
     "--max-shard-size with a GGUF file, which is written in one piece", 0},
    {"a folder that holds something", "quantize " TINY " -o %T/full -q --method rtn --format gptq",
     7, NULL, "full: exists; a folder that is written must be new", 0},
    {"a folder where a file is", "quantize " TINY " -o %T/text.txt -q --method rtn --format gptq",
     7, NULL, "text.txt: exists; a folder that is written must be new", 0},
    {"floats into codes", "convert " TINY " -o %T/out --format gptq", 5, NULL,
     "its linears are floats, which are no codes of gptq; nibble quantize rounds them", 0},
    {"a grid beside codes", "convert " TINY " -o %T/out --format gptq --grid f16", 2, NULL,
     "--grid f16 with --format gptq, which takes codes as they are", 0},
    {"blocks with a minimum into codes", "convert %T/q4_1.gguf -o %T/out --format gptq_v2", 5, NULL,
     "attn_q.weight is in q4_1, which are no codes of such a folder", 0},
    {"codes of 8 bits into AWQ", "convert %T/q8_0.gguf -o %T/out --format awq", 5, NULL,
     "AWQ checkpoints have codes of 4 bits, not 8", 0},
    {"codes of 5 bits", "convert %T/q5_0.gguf -o %T/out --format gptq", 5, NULL,
     "GPTQ checkpoints have codes of 2, 3, 4 or 8 bits, not 5", 0},
    {"codes of 5 bits there", "convert %T/q5_0.gguf -o %T/out --format compressed-tensors", 5, NULL,
     "codes of 2, 3, 4 or 8 bits, not 5", 0},
};

static void refusals(check *c)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        outcome o = program_run(&here, refused[i].line, OUT_CAPTURED);
        c->n_check++;
        if (o.code != refused[i].code || !strstr(o.err, refused[i].err))
            check_report(c, __FILE__, __LINE__, "%s: exit %d: %s", refused[i].sentence, o.code,
                         o.err);
        check_failure(c, refused[i].line, &o);
        program_free(&o);
        if (there("out") || there("out.nibble"))
            check_report(c, __FILE__, __LINE__, "%s: something was left", refused[i].sentence);
        gone("out");
    }
}

/* ---- what is written ---- */

/* Every scheme and width: whole, holds what its manifest says, and its logits are those of the
 * floats it decodes to. */
static void written(check *c)
{
    static const char *const rows[] = {
        RTN "--format gptq --group 32",
        RTN "--format gptq --bits 2 --group 32 --range absmax",
        RTN "--format gptq_v2 --bits 3 --group 128 --asym", /* 64 inputs: one short group */
        RTN "--format gptq_v2 --bits 8 --group row --asym",
        RTN "--format awq --group -1 --asym",
        RTN "--format awq --group 64 --sym",
        RTN "--format compressed-tensors --group 32",
        RTN "--format compressed-tensors --bits 2 --group 64 --asym",
        RTN "--format compressed-tensors --bits 3 --group 32",
        RTN "--format compressed-tensors --bits 8 --group row",
        RTN "--layers 1:2 --format compressed-tensors --group 32",
        RTN "--layers 0:1 --format gptq --group 32 --embedding f16",
        GPTQ "--format gptq --group 16 --act-order",
        GPTQ "--format gptq_v2 --bits 2 --group 32 --asym --act-order --max-shard-size 20K",
        /* 80 = 2.5 x 32 */
        "quantize %T/odd.gguf -o %T/out -t 1 -q --method rtn --format gptq_v2 --bits 4 --group 32",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!expect(c, rows[i], 0, NULL))
            continue;
        expect(c, "inspect %T/out --verify --json", 0, "\"scheme\":\"");
        expect(c, "convert %T/out -o %T/plain --format plain -t 1 -q", 0, "plain: ");
        expect(c, "run %T/out --ids 5,9,30,2,8,100 --logits %T/a.npy --exact -t 1 -q -n 1 --json",
               0, NULL);
        expect(c, "run %T/plain --ids 5,9,30,2,8,100 --logits %T/b.npy --exact -t 1 -q -n 1 --json",
               0, NULL);
        check_same(c, &here, "a.npy", "b.npy", true);
        gone("out");
        gone("plain");
    }
}

static void sharded(check *c)
{
    static const char *const beside[] = {"config.json", "generation_config.json",
                                         "quantize_config.json", "manifest.json",
                                         "model.safetensors.index.json"};
    size_t n = 0, m = 0;
    expect(c, RTN "--format gptq --group 32", 0, NULL);
    char *one = folder_bytes(&here, "out/manifest.json", &n);
    gone("out");
    expect(c, RTN "--format gptq --group 32 --max-shard-size 10KB", 0, NULL);
    char *many = folder_bytes(&here, "out/manifest.json", &m);
    for (size_t i = 0; i < sizeof beside / sizeof *beside; i++) {
        char name[80];
        snprintf(name, sizeof name, "out/%s", beside[i]);
        CHECK(c, there(name));
    }
    CHECK(c, !there("out/model.safetensors") && strstr(many, "\"file\":\"model-00002-of-000"));
    const char *find = "{\"name\":\"model.layers.1.mlp.down_proj.qweight\"", *a = strstr(one, find),
               *b = strstr(many, find);
    CHECK(c, a && b && strncmp(a, b, strlen(find) + 100) == 0); /* type, size, hash */
    CHECK(c, strstr(many, "{\"file\":\"model.safetensors.index.json\"") != NULL);
    expect(c, "inspect %T/out --verify", 0, "scheme           gptq");
    expect(c, "convert %T/out -o %T/plain --max-shard-size 30KB -q", 0, "plain: ");
    CHECK(c, there("plain/model.safetensors.index.json"));
    expect(c, "convert %T/plain -o %T/again.gguf --max-shard-size 30KB -q", 5,
           "--max-shard-size with a GGUF file");
    gone("plain");
    gone("out");
    free(one);
    free(many);
}

/* A byte anywhere in the folder is missed. */
static void verified(check *c)
{
    static const char *const files[] = {"out/config.json", "out/tokenizer_config.json",
                                        "out/quantize_config.json", "out/model.safetensors"};
    expect(c, RTN "--format gptq --group 32", 0, NULL);
    for (int i = 0; i < 4; i++) {
        size_t n = 0;
        char *p = folder_bytes(&here, files[i], &n);
        p[n - 5] ^= 0x20;
        folder_write(&here, files[i], p, n);
        outcome o = program_run(&here, "inspect %T/out --verify", OUT_CAPTURED);
        CHECK(c, o.code == NB_NEGATIVE || o.code == NB_BAD_INPUT);
        CHECK_HAS(c, o.err, "nibble: error: ");
        program_free(&o);
        p[n - 5] ^= 0x20;
        folder_write(&here, files[i], p, n);
        free(p);
    }
    expect(c, "inspect %T/out --verify", 0, "gptq");
    unlink(in("out/generation_config.json"));
    expect(c, "inspect %T/out --verify", NB_NEGATIVE,
           "the file generation_config.json of the manifest is missing");
    gone("out");
}

/* ---- conversions ---- */

static void conversions(check *c)
{
    /* the source's flags, then where it goes and comes back from */
    static const struct {
        const char *make, *from, *to;
        const char *word; /* NULL: every bit comes back; else the refusal */
    } rows[] = {
        {"--format gptq --group 32", "gptq", "gptq_v2", NULL},
        {"--format gptq --group 32", "gptq", "compressed-tensors", NULL},
        {"--format gptq --group 32", "gptq", "awq", NULL},
        {"--format gptq --group 32 --bits 2", "gptq", "compressed-tensors", NULL},
        {"--format gptq --group 32 --bits 3", "gptq", "gptq_v2", NULL},
        {"--format gptq --group 32 --bits 8", "gptq", "gptq_v2", NULL},
        {"--format gptq_v2 --group 32 --bits 8 --asym", "gptq_v2", "compressed-tensors", NULL},
        {"--format gptq_v2 --group 64 --asym", "gptq_v2", "awq", NULL},
        {"--format awq --group 32 --asym", "awq", "gptq_v2", NULL},
        {"--format awq --group row --asym", "awq", "compressed-tensors", NULL},
        {"--format compressed-tensors --group 32", "compressed-tensors", "gptq", NULL},
        {"--format compressed-tensors --group row --bits 3", "compressed-tensors", "gptq_v2", NULL},
        {"--format compressed-tensors --group 32 --layers 1:2", "compressed-tensors", "gptq", NULL},
        /* below */
        {"--format gptq_v2 --group 32 --bits 2 --asym", "gptq_v2", "gptq",
         "it has zeros of 0, which loaders of gptq read in three ways"},
        {"--format gptq --group 32 --bits 8", "gptq", "awq",
         "out: AWQ checkpoints have codes of 4 bits, not 8; quantize the model that it came "
         "from\nhint: nibble quantize ORIGINAL -o OUT --format awq"},
        {"--format gptq --group 128", "gptq", "compressed-tensors",
         "compressed-tensors needs inputs in whole groups of 128"},
    };
    char line[300];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(line, sizeof line, "%s%s", RTN, rows[i].make);
        if (!expect(c, line, 0, NULL))
            continue;
        if (rows[i].word && strstr(rows[i].word, "zeros of 0"))
            spoil(c, "out", "model.layers.1.mlp.up_proj.qzeros", 0);
        snprintf(line, sizeof line, "convert %%T/out -o %%T/there --format %s -t 1 -q", rows[i].to);
        if (expect(c, line, rows[i].word ? 5 : 0, rows[i].word) && !rows[i].word) {
            snprintf(line, sizeof line, "convert %%T/there -o %%T/back --format %s -t 1 -q",
                     rows[i].from);
            if (expect(c, line, 0, NULL))
                same_folder(c, "back", "out");
            expect(c, "inspect %T/there --verify", 0, NULL);
        }
        CHECK(c, !rows[i].word || !there("there"));
        gone("out");
        gone("there");
        gone("back");
    }
}

/* An order of inputs goes where there is a place for it and nowhere else. */
static void ordered(check *c)
{
    expect(c, GPTQ "--format gptq --group 32 --act-order", 0, NULL);
    expect(c, "convert %T/out -o %T/there --format gptq_v2 -q", 0, NULL);
    expect(c, "convert %T/there -o %T/back --format gptq -q", 0, NULL);
    same_folder(c, "back", "out");
    expect(c, "convert %T/out -o %T/x --format awq -q", 5,
           "its inputs have an order (desc_act), which awq has no place for");
    expect(c, "convert %T/out -o %T/x --format compressed-tensors -q", 5,
           "its inputs have an order (desc_act)");
    expect(c, "convert %T/out -o %T/x.gguf --grid q4_0 -q", 5,
           "not all of its values in codes have a place in q4_0");
    outcome o = program_run(&here, "convert %T/out -o %T/x.gguf -q", OUT_CAPTURED); /* F32 */
    CHECK_EQ(c, o.code, 0);
    CHECK_STR(c, o.err, ""); /* scales and zeros are in the values, nothing stays behind */
    program_free(&o);
    expect(c, "run %T/out --ids 5,9,30 --logits %T/a.npy --exact -t 1 -q -n 1 --json", 0, NULL);
    expect(c, "run %T/x.gguf --ids 5,9,30 --logits %T/b.npy --exact -t 1 -q -n 1 --json", 0, NULL);
    check_same(c, &here, "a.npy", "b.npy", true);
    CHECK(c, !there("x"));
    gone("out");
    gone("there");
    gone("back");
    gone("x.gguf");
}

/* GGUF blocks to codes and back, and codes to the blocks that have a place for them. */
static void blocks(check *c)
{
    static const char *const rows[][2] = {{"q4_0", "gptq"},
                                          {"q4_0", "awq"},
                                          {"q4_0", "compressed-tensors"},
                                          {"q8_0", "gptq"},
                                          {"q8_0", "compressed-tensors"}};
    static const char *const codes[][2] = {
        {"--format gptq --group 64", "q4_0"},
        {"--format gptq --group 32 --bits 3", "q4_0"},
        {"--format gptq_v2 --group 32 --bits 3 --asym", "q4_0"},
        {"--format awq --group row --asym", "q5_0"},
        {"--format compressed-tensors --group 32 --bits 8", "q8_0"},
        {"--format gptq_v2 --group 32 --bits 8 --asym", "f32"}};
    char line[300], word[120];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(line, sizeof line, "convert %%T/%s.gguf -o %%T/out --format %s -q", rows[i][0],
                 rows[i][1]);
        expect(c, line, 0, NULL);
        expect(c, "convert %T/out -o %T/back.gguf -q", 0, NULL);
        snprintf(word, sizeof word, "blk.0.attn_q.weight                          %s", rows[i][0]);
        expect(c, "inspect %T/back.gguf --tensors", 0, word);
        snprintf(line, sizeof line,
                 "run %%T/%s.gguf --ids 5,9,30 --logits %%T/a.npy --exact -t 1 -q -n 1 --json",
                 rows[i][0]);
        expect(c, line, 0, NULL);
        expect(c, "run %T/out --ids 5,9,30 --logits %T/b.npy --exact -t 1 -q -n 1 --json", 0, NULL);
        check_same(c, &here, "a.npy", "b.npy", true);
        expect(c, "run %T/back.gguf --ids 5,9,30 --logits %T/b.npy --exact -t 1 -q -n 1 --json", 0,
               NULL);
        check_same(c, &here, "a.npy", "b.npy", true);
        gone("out");
        gone("back.gguf");
    }
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        snprintf(line, sizeof line, "%s%s", RTN, codes[i][0]);
        expect(c, line, 0, NULL);
        expect(c, "convert %T/out -o %T/back.gguf -q", 0, NULL);
        snprintf(word, sizeof word, "blk.0.attn_q.weight                          %s", codes[i][1]);
        expect(c, "inspect %T/back.gguf --tensors", 0, word);
        expect(c, "run %T/out --ids 5,9,30 --logits %T/a.npy --exact -t 1 -q -n 1 --json", 0, NULL);
        expect(c, "run %T/back.gguf --ids 5,9,30 --logits %T/b.npy --exact -t 1 -q -n 1 --json", 0,
               NULL);
        check_same(c, &here, "a.npy", "b.npy", true);
        gone("out");
        gone("back.gguf");
    }
}

/* ---- unfinished ones ---- */

#define RUN GPTQ "--format gptq --group 32 --act-order "

static void leave_unfinished(check *c)
{
    gone("out");
    setenv("NIBBLE_CRASH_AT", "after-append:3", 1); /* begin, calib, layer 0 */
    expect(c, RUN, 128 + SIGKILL, NULL);
    unsetenv("NIBBLE_CRASH_AT");
    CHECK(c, there("out.nibble/journal") && !there("out"));
}

static void sound(check *c)
{
    expect(c, RUN, 0, NULL);
    gone("sound");
    CHECK_EQ(c, rename(in("out"), folder_in(&here, "sound", (char[1024]){0})), 0);
}

static void other_settings(check *c)
{
    static const char *const rows[][2] = {
        {GPTQ "--format gptq_v2 --group 32 --act-order",
         "format is \"gptq_v2\" now, the unfinished run had \"gptq\""},
        {GPTQ "--format gptq --group 64 --act-order", "group is 64 now, the unfinished run had 32"},
        {GPTQ "--format gptq --group 32", "act-order is false now"},
        {RUN "--bits 3", "is \"int3\" now"},
        {RUN "--range absmax", "range is \"absmax\" now"},
        {RUN "--embedding f16", "embedding is \"f16\" now"},
        {RUN "--max-shard-size 1M", "max-shard-size is 1048576 now, the unfinished run had 0"},
    };
    sound(c);
    leave_unfinished(c);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        expect(c, rows[i][0], NB_BAD_INPUT, rows[i][1]);
        CHECK(c, there("out.nibble/journal") && !there("out"));
    }
    expect(c, "quantize -o %T/out --resume --json", 0, "\"resumed_layers\":1");
    same_folder(c, "out", "sound");
    check_same(c, &here, "out/manifest.json", "sound/manifest.json", true);
    leave_unfinished(c);
    expect(c, RUN "--restart --json", 0, "\"resumed_layers\":0");
    same_folder(c, "out", "sound");
    /* OUT is there: no journal is begun, which could never be gone on with */
    setenv("NIBBLE_CRASH_AT", "after-append:1", 1);
    expect(c, RUN, NB_IO, "must be new\nhint: another -o OUT, or move it away\n");
    unsetenv("NIBBLE_CRASH_AT");
    CHECK(c, !there("out.nibble"));
    gone("out");
    /* killed while it cleans up: the same command finds it done */
    setenv("NIBBLE_CRASH_AT", "before-remove:2", 1);
    expect(c, RUN, 128 + SIGKILL, NULL);
    unsetenv("NIBBLE_CRASH_AT");
    CHECK(c, there("out.nibble/journal") && !there("out.nibble/calib"));
    expect(c, RUN, 0, NULL);
    CHECK(c, !there("out.nibble"));
    same_folder(c, "out", "sound");
    gone("out");
    /* what is in the work folder is not believed */
    leave_unfinished(c);
    size_t n = 0;
    char *p = folder_bytes(&here, "out.nibble/folder/model.safetensors.partial", &n);
    CHECK(c, n > 50000);
    p[n - 3000] ^= 1; /* in the last layer: not written yet */
    folder_write(&here, "out.nibble/folder/model.safetensors.partial", p, n);
    expect(c, RUN, 0, NULL);
    same_folder(c, "out", "sound");
    leave_unfinished(c);
    free(p);
    p = folder_bytes(&here, "out.nibble/folder/model.safetensors.partial", &n);
    for (size_t at = n * 7 / 10; at < n * 8 / 10; at++) /* layer 0 is in there */
        p[at] ^= 1;
    folder_write(&here, "out.nibble/folder/model.safetensors.partial", p, n);
    free(p);
    expect(c, RUN, NB_BAD_INPUT,
           "layer 0 in the partial file is not what the run wrote; --restart begins anew");
    unlink(in("out.nibble/folder/model.safetensors.partial"));
    expect(c, RUN, NB_NOT_FOUND, "model.safetensors.partial");
    expect(c, RUN "--restart", 0, NULL);
    same_folder(c, "out", "sound");
    gone("out");
    gone("sound");
}

static void two_writers(check *c)
{
    char want[128];
    leave_unfinished(c);
    FILE *f = fopen(in("out.nibble/lock"), "r+");
    CHECK(c, f && flock(fileno(f), LOCK_EX | LOCK_NB) == 0);
    fprintf(f, "%ld\n", (long)getpid());
    fflush(f);
    snprintf(want, sizeof want, "out.nibble/lock: process %ld is writing it", (long)getpid());
    expect(c, RUN, NB_LOCKED, want);
    expect(c, "quantize -o %T/out --resume --json", NB_LOCKED, want);
    expect(c, RUN "--restart", NB_LOCKED, want);
    fclose(f);
    expect(c, RUN, 0, NULL);
    gone("out");
}

static void fill_up(const char *path)
{
    static char block[4096];
    FILE *f = fopen(path, "wb");
    if (!f)
        exit(1);
    setbuf(f, NULL);
    while (fwrite(block, 1, sizeof block, f) == sizeof block)
        ;
    fclose(f);
}

/* A file system of 1 MiB: full at the start, then full in the middle. Each time the run goes on
 * when there is room. */
static void full_disk(check *c)
{
    char small[1024], filler[1100];
    static const char line[] =
        "quantize " TINY " -o %T/small/out -t 1 -q --calib %T/text.txt --samples 2 -c 16 --format "
        "gptq --group 32 --act-order ";
    folder_in(&here, "small", small);
    if (mkdir(small, 0700) != 0 || mount("tmpfs", small, "tmpfs", 0, "size=1m") != 0) {
        check_skip(
            c,
            "a small tmpfs cannot be mounted here; tests/fault/disk has full disks for everyone");
        rmdir(small);
        return;
    }
    sound(c);
    snprintf(filler, sizeof filler, "%.900s/filler", small);
    fill_up(filler);
    /* room for the journal, not for the file */
    CHECK_EQ(c, truncate(filler, (1 << 20) - (64 << 10)), 0);
    expect(c, line, NB_NO_ROOM, "bytes are missing");
    CHECK(c, !there("small/out.nibble") && !there("small/out"));
    unlink(filler);
    setenv("NIBBLE_CRASH_AT", "after-append:3", 1);
    expect(c, line, 128 + SIGKILL, NULL);
    unsetenv("NIBBLE_CRASH_AT");
    fill_up(filler);
    expect(c, line, NB_NO_ROOM, "bytes are missing");
    CHECK(c, there("small/out.nibble/journal") && !there("small/out"));
    unlink(filler);
    expect(c, line, 0, NULL);
    same_folder(c, "small/out", "sound");
    CHECK_EQ(c, umount(small), 0);
    rmdir(small);
    gone("sound");
}

/* Scales of inputs go into every container; what is there runs as it should. */
static void scaled(check *c)
{
    static const char *const as[] = {"out.gguf --grid q4_0",
                                     "out.gguf --grid q4_1",
                                     "out --format awq --group 32",
                                     "out --format gptq --group 32",
                                     "out --format gptq --group 32 --act-order",
                                     "out --format gptq_v2 --asym --bits 3 --group 32",
                                     "out --format compressed-tensors --group 32"};
    static const char *const methods[] = {"rtn", "awq", "awq-gptq"};
    char line[400];
    /* its vocabulary is the files' of its kind */
    expect(c, "convert %M/tiny-llama -o %T/whole.gguf --grid f32 -q", 0, NULL);
    for (size_t i = 0; i < sizeof as / sizeof *as; i++) {
        const bool gguf = strncmp(as[i], "out.gguf", 8) == 0;
        double kl[3] = {0};
        for (int m = 0; m < 3; m++) {
            if (m < 2 && strstr(as[i], "--act-order"))
                continue;
            snprintf(line, sizeof line, "quantize %%M/tiny-llama -o %%T/%s --method %s -t 1 -q %s",
                     as[i], methods[m], m ? "--calib %T/text.txt --samples 4 -c 32" : "");
            expect(c, line, 0, NULL);
            snprintf(line, sizeof line,
                     "eval %%T/%.*s -f %%T/text.txt --against %s --ctx 32 --all-positions --exact "
                     "--json -q -t 1",
                     gguf ? 8 : 3, as[i], gguf ? "%T/whole.gguf" : "%M/tiny-llama");
            outcome o = program_run(&here, line, OUT_CAPTURED);
            const char *at = strstr(o.out, "\"kl_mean\":");
            kl[m] = at ? strtod(at + 10, NULL) : 1e9;
            program_free(&o);
            gone("out");
            gone("out.gguf");
        }
        printf("      %s: KL by rtn %.4f, awq %.4f, awq-gptq %.4f\n", as[i], kl[0], kl[1], kl[2]);
        CHECK(c, kl[2] > 0);
        /* 128 tokens of one sentence do not make random weights better by scales alone */
        CHECK(c, kl[1] <= 1.5 * kl[0]);
        CHECK(c, kl[2] < (kl[0] > 0 ? 0.5 * kl[0] : 0.1));
    }
    gone("whole.gguf");
}

static const check_case cases[] = {
    {"what has no place in a folder is refused before work begins, and leaves nothing", refusals},
    {"every scheme and width is whole and computes what it decodes to", written},
    {"several files hold the tensors of one", sharded},
    {"a manifest holds every file to its hash", verified},
    {"from scheme to scheme and back every bit returns, or the reason is said", conversions},
    {"an order of inputs goes where there is a place for it", ordered},
    {"blocks of GGUF become codes and codes blocks, every value kept", blocks},
    {"an unfinished folder is gone on with by its own settings only, and its bytes are checked",
     other_settings},
    {"a second writer is told the first one's number", two_writers},
    {"a full disk is exit 6, and the run goes on when there is room", full_disk},
    {"AWQ, with GPTQ and without, goes into every container", scaled},
};

int main(int argc, char **argv)
{
    static const tiny_shape shape = {
        .n_layer = 2, .hidden = 64, .ffn = 64, .n_head = 2, .n_kv_head = 1, .ctx = 64};
    static const tiny_shape odd = {
        .n_layer = 1, .hidden = 64, .ffn = 80, .n_head = 2, .n_kv_head = 1, .ctx = 64};
    static const tiny_shape wide = {
        .n_layer = 1, .hidden = 64, .ffn = 96, .n_head = 2, .n_kv_head = 1, .ctx = 64};
    static const char *const grids[] = {"q4_0", "q4_1", "q5_0", "q8_0"};
    char text[1024] = "", line[200];
    here = folder_new();
    while (strlen(text) < 300)
        strcat(text, "the heath thaws then the other ");
    folder_write(&here, "text.txt", text, strlen(text));
    tiny_gguf_in(&here, "tiny.gguf", &shape);
    tiny_gguf_in(&here, "odd.gguf", &odd);
    tiny_gguf_in(&here, "wide.gguf", &wide);
    if (mkdir(in("full"), 0777) != 0)
        return 1;
    folder_write(&here, "full/a", "a", 1);
    for (int i = 0; i < 4; i++) {
        snprintf(
            line, sizeof line,
            "quantize %%T/tiny.gguf -o %%T/%s.gguf --method rtn --grid %s --embedding f16 -t 1 -q",
            grids[i], grids[i]);
        outcome o = program_run(&here, line, OUT_CAPTURED);
        if (o.code)
            fprintf(stderr, "%s\n", o.err);
        program_free(&o);
    }
    const int rc = check_main(cases, sizeof cases / sizeof *cases, argc, argv);
    folder_gone(&here);
    return rc;
}
