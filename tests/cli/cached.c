/* cached.c -- MODEL is a name of the hub that is in its cache: every command takes it, also those
 * that write. The cache is as huggingface_hub keeps it. */
#include "cli/transcript.h"
#include "tiny_gguf.h"

static folder here;

#define COMMIT "0123456789abcdef0123456789abcdef01234567"
#define SNAPSHOT "hub/models--org--tiny/snapshots/" COMMIT
#define GGUFS "hub/models--org--file/snapshots/" COMMIT

static const transcript rows[] = {
    {"run", "run org/tiny --ids 1,2 -n 2 -t 1 --json", 0, "\"prompt_tokens\":2", NULL, 0},
    {"inspect", "inspect org/tiny@main --verify", 0, "safetensors", NULL, 0},
    {"plan", "plan org/tiny --json", 0, "\"total_bytes\":", NULL, 0},
    {"quantize into GGUF", "quantize org/tiny -o %T/q.gguf --method rtn -t 1 -q", 0, "q4_0", NULL,
     0},
    {"quantize into a folder", "quantize org/tiny@main -o %T/q --format gptq --method rtn -t 1 -q",
     0, "int4", NULL, 0},
    {"quantize by commit", "quantize org/tiny@" COMMIT " -o %T/c.gguf --method rtn -t 1 -q", 0,
     "q4_0", NULL, 0},
    {"quantize --dry-run", "quantize org/tiny -o %T/d.gguf --method rtn --dry-run --json", 0,
     "\"bytes\":", NULL, 0},
    {"quantize a GGUF file of a repository", "quantize org/file -o %T/f.gguf --method rtn -t 1 -q",
     0, "q4_0", NULL, 0},
    {"convert to GGUF", "convert org/tiny -o %T/p.gguf --grid q8_0 -t 1 -q", 0, "gguf", NULL, 0},
    {"convert to a folder", "convert org/file -o %T/p -t 1 -q", 0, "plain", NULL, 0},
    {"quantize a revision that is not there", "quantize org/tiny@v2 -o %T/v.gguf --method rtn", 3,
     NULL, "hint: nibble pull org/tiny@v2", 0},
    {"convert a name that is not there", "convert org/none -o %T/n.gguf", 3, NULL,
     "hint: nibble pull org/none", 0},
    {"OUT inside the cache's copy", "convert org/tiny -o %T/" SNAPSHOT "/x.gguf", 2, NULL,
     "OUT lies inside the input's folder", 0},
    {"OUT inside it, quantized", "quantize org/tiny -o %T/" SNAPSHOT "/x.gguf --method rtn", 2,
     NULL, "OUT lies inside the input's folder", 0},
};

static void row_case(check *c)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].sentence == c->sentence)
            check_transcript(c, &here, &rows[i]);
}

static char *whole(const char *name, size_t *n)
{
    char path[1024], *p = calloc(1, 1 << 22);
    FILE *f = fopen(folder_in(&here, name, path), "rb");
    *n = f && p ? fread(p, 1, 1 << 22, f) : 0;
    if (f)
        fclose(f);
    return p;
}

static int run(const char *line)
{
    outcome o = program_run(&here, line, OUT_CAPTURED);
    const int code = o.code;
    program_free(&o);
    return code;
}

/* A run that was killed is gone on with by `--resume` alone, from the path that its journal has:
 * the same bytes, its general.name included. */
static void resumed(check *c)
{
    size_t n = 0, m = 0;
    char path[1024];
    CHECK_EQ(c, run("quantize org/tiny -o %T/one.gguf --method rtn -t 1 -q"), 0);
    setenv("NIBBLE_CRASH_AT", "after-append:2", 1);
    CHECK_EQ(c, run("quantize org/tiny -o %T/two.gguf --method rtn -t 1 -q"), 128 + 9);
    unsetenv("NIBBLE_CRASH_AT");
    CHECK_EQ(c, run("quantize -o %T/two.gguf --resume -t 1 -q"), 0);
    char *a = whole("one.gguf", &n), *b = whole("two.gguf", &m);
    CHECK(c, n > 1000 && n == m && memcmp(a, b, n) == 0);
    free(b);
    outcome o = program_run(&here, "inspect %T/one.gguf --json", OUT_CAPTURED);
    CHECK_HAS(c, o.out, "\"general.name\":\"tiny\""); /* not the commit */
    program_free(&o);
    free(a);
    (void)folder_in(&here, "two.gguf.nibble", path);
    CHECK(c, access(path, F_OK) != 0);
}

/* ---- the cache ---- */

static void copy_to(const char *from, const char *blob)
{
    enum { kMost = 1 << 22 };
    char *p = malloc(kMost);
    FILE *f = fopen(from, "rb");
    if (!f || !p)
        exit(1);
    folder_write(&here, blob, p, fread(p, 1, kMost, f));
    fclose(f);
    free(p);
}

static void make(const char *name)
{
    char path[1024];
    if (mkdir(folder_in(&here, name, path), 0700) != 0)
        exit(1);
}

static void link_blob(const char *target, const char *name)
{
    char path[1024];
    if (symlink(target, folder_in(&here, name, path)) != 0)
        exit(1);
}

static void make_cache(void)
{
    static const tiny_shape shape = {
        .n_layer = 2, .hidden = 64, .ffn = 128, .n_head = 4, .n_kv_head = 2, .ctx = 256};
    static const char *const repos[] = {"hub/models--org--tiny", "hub/models--org--file"};
    static const char *const in[] = {"refs", "blobs", "snapshots", ("snapshots/" COMMIT)};
    static const char *const parts[] = {"config.json", "model.safetensors", "tokenizer.json",
                                        "tokenizer_config.json"};
    char path[1024], name[256], target[64];
    nb_error err = {.offset = -1};
    here = folder_new();
    make("hub");
    for (int r = 0; r < 2; r++) {
        make(repos[r]);
        for (int i = 0; i < 4; i++) {
            snprintf(name, sizeof name, "%s/%s", repos[r], in[i]);
            make(name);
        }
        snprintf(name, sizeof name, "%s/refs/main", repos[r]);
        folder_write(&here, name, COMMIT, sizeof COMMIT - 1);
    }
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/tests/data/models/tiny-llama/%s", NB_SOURCE_DIR, parts[i]);
        snprintf(name, sizeof name, "hub/models--org--tiny/blobs/%032d", i);
        copy_to(path, name);
        snprintf(target, sizeof target, "../../blobs/%032d", i);
        snprintf(name, sizeof name, SNAPSHOT "/%s", parts[i]);
        link_blob(target, name);
    }
    if (tiny_gguf_write(folder_in(&here, "hub/models--org--file/blobs/abcd", path), &shape, &err) !=
        NB_OK) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    link_blob("../../blobs/abcd", GGUFS "/tiny.f16.gguf");
    setenv("HF_HUB_CACHE", folder_in(&here, "hub", path), 1);
}

int main(int argc, char **argv)
{
    enum { kRows = sizeof rows / sizeof *rows };
    check_case cases[kRows + 1];
    for (int i = 0; i < kRows; i++)
        cases[i] = (check_case){rows[i].sentence, row_case};
    cases[kRows] =
        (check_case){"an interrupted run of a name is gone on with, to the same bytes", resumed};
    make_cache();
    const int rc = check_main(cases, kRows + 1, argc, argv);
    folder_gone(&here);
    return rc;
}
