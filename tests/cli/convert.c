/* convert.c -- `nibble convert`: what it writes, what it refuses, and that nothing half-made is
 * ever there. */
#include "cli/transcript.h"
#include "nibble.h"
#include "tiny_gguf.h"

#include <fcntl.h>
#include <sys/file.h>

static folder here;

#define TINY "%T/tiny.gguf"
#define LLAMA "%M/tiny-llama"

static const transcript rows[] = {
    {"convert without OUT", "convert " TINY, 2, NULL, "-o OUT is missing", 0},
    {"convert without a model", "convert -o %T/out.gguf", 2, NULL, "MODEL is missing", 0},
    {"convert a model that is not there", "convert %T/none.gguf -o %T/out.gguf --json", 3, NULL,
     "none.gguf: cannot open", 0},
    {"convert a text", "convert %T/text.txt -o %T/out.gguf", 4, NULL,
     "text.txt: neither GGUF nor safetensors", 0},
    {"an unknown format", "convert " TINY " -o %T/out --format tar", 2, NULL,
     "--format tar is unknown; gguf, plain, gptq", 0},
    {"a format to come", "convert " TINY " -o %T/out --format awq --json", 5, NULL,
     "which are no codes of awq", 0},
    {"an unknown grid", "convert " TINY " -o %T/out.gguf --grid q9_9", 2, NULL,
     "--grid q9_9 is unknown; there are: f32 f16 bf16", 0},
    {"a grid that is only read", "convert " TINY " -o %T/out.gguf --grid q4_k", 5, NULL,
     "--grid q4_k cannot be written", 0},
    {"a grid that the rows do not fit", "convert %T/odd.gguf -o %T/out.gguf --grid q8_0", 5, NULL,
     "tensor blk.0.ffn_down.weight as q8_0: a row is no whole number of blocks of its type", 0},
    {"codes in a folder of floats", "convert " TINY " -o %T/out --grid q8_0", 5, NULL,
     "--grid q8_0 in a folder of plain floats, which are f32, f16 or bf16", 0},
    {"a quantized file in a folder of floats", "convert %T/codes.gguf -o %T/out", 5, NULL,
     "in q4_0 has no place in a folder of plain floats", 0},
    {"codes that would be rounded", "convert %T/codes8.gguf -o %T/out.gguf --grid q4_0 --json", 5,
     NULL, "not all of its values in q8_0 have a place in q4_0; nibble quantize rounds them anew",
     0},
    {"OUT is the input", "convert " TINY " -o %T/./tiny.gguf", 2, NULL, "OUT is the input itself",
     0},
    {"OUT inside the model's folder", "convert " LLAMA " -o " LLAMA "/out.gguf", 2, NULL,
     "OUT lies inside the input's folder", 0},
    {"OUT is a folder that holds something", "convert " TINY " -o %T", 7, NULL,
     "exists; a folder that is written must be new", 0},
    {"OUT is a file where a folder is written", "convert " TINY " -o %T/text.txt --format plain", 7,
     NULL, "text.txt: exists; a folder that is written must be new", 0},
    {"OUT is a folder where a file is written", "convert " TINY " -o %T/folder.gguf --json", 7,
     NULL, "exists and is not a regular file", 0},
    {"OUT in a folder that is not there", "convert " TINY " -o %T/no/out.gguf", 3, NULL,
     "cannot create it", 0},
    {"a folder in a folder that is not there", "convert " TINY " -o %T/no/out", 3, NULL,
     "cannot create it", 0},
    {"a number beyond the range of f16", "convert %T/big.gguf -o %T/out.gguf --grid f16", 5, NULL,
     "holds numbers beyond the range of f16", 0},
    {"NaN has no place in blocks", "convert %T/nan.gguf -o %T/out.gguf --grid q8_0", 4, NULL,
     "holds NaN or Inf, which q8_0 cannot", 0},
};
enum { kRows = sizeof rows / sizeof *rows };

/* Names in the folder that the test did not put there. */
static int strangers(void)
{
    int n = 0;
    DIR *dir = opendir(here.path);
    for (const struct dirent *e; dir && (e = readdir(dir));)
        if (strncmp(e->d_name, "out", 3) == 0 || strstr(e->d_name, "partial")) {
            fprintf(stderr, "left behind: %s\n", e->d_name);
            n++;
        }
    if (dir)
        closedir(dir);
    return n;
}

static void gone(const char *name)
{
    char path[1024];
    folder_remove(folder_in(&here, name, path));
}

static void refusals(check *c)
{
    for (int i = 0; i < kRows; i++) {
        check_transcript(c, &here, &rows[i]);
        if (strangers()) {
            check_report(c, __FILE__, __LINE__, "after: %s", rows[i].sentence);
            gone("out");
            gone("out.gguf");
        }
    }
}

static void one(check *c, const char *line, int code, const char *out, const char *err)
{
    const transcript t = {.sentence = "", .line = line, .code = code, .out = out, .err = err};
    check_transcript(c, &here, &t);
}

/* Turns one bit at `at`, from the end where negative. */
static void flip(check *c, const char *name, long at)
{
    char path[1024];
    FILE *f = fopen(folder_in(&here, name, path), "r+b");
    if (!f)
        exit(1);
    CHECK_EQ(c, fseek(f, at, at < 0 ? SEEK_END : SEEK_SET), 0);
    const int was = getc(f);
    CHECK_EQ(c, fseek(f, -1, SEEK_CUR), 0);
    CHECK(c, was != EOF && putc(was ^ 1, f) != EOF);
    fclose(f);
}

static void there_and_back(check *c)
{
    one(c, "convert " LLAMA " -o %T/out.gguf -t 1", 0, "gguf: ", NULL);
    one(c, "inspect %T/out.gguf --tensors", 0,
        "rope_freqs.weight                            f32    [8]", NULL);
    one(c, "inspect %T/out.gguf --verify", 0, "each with the SHA-256 of its manifest", NULL);
    one(c, "convert %T/out.gguf -o %T/out/ --json", 0,
        "{\"format\":\"plain\",\"grid\":\"keep\",\"bytes\":", NULL);
    one(c, "inspect %T/out --verify", 0, "each with the SHA-256 of its manifest", NULL);
    one(c, "inspect %T/out --tensors", 0,
        "model.layers.1.self_attn.q_proj.weight       bf16   [64,64]", NULL);
    one(c, "inspect %T/out", 0, "rope_scaling", NULL);
    one(c, "convert %T/out -o %T/out", 2, NULL, "OUT is the input itself");
    one(c, "convert %T/out -o %T/out2 --grid f32", 0, "plain: ", NULL);
    one(c, "inspect %T/out2 --tensors", 0,
        "model.layers.1.self_attn.q_proj.weight       f32    [64,64]", NULL);
    one(c, "tokenize %T/out2 -p hello", 0, "104 101 108 108 111", NULL);
    gone("out.gguf");
    gone("out.gguf.manifest.json");
    gone("out");
    gone("out2");
    CHECK_EQ(c, strangers(), 0);
}

/* One bit of each file that was written: `inspect --verify` names what differs. */
static void verified(check *c)
{
    one(c, "convert " LLAMA " -o %T/out -q", 0, "plain: ", NULL);
    one(c, "convert " TINY " -o %T/out.gguf -q", 0, "gguf: ", NULL);
    flip(c, "out/tokenizer_config.json", 5);
    one(c, "inspect %T/out --verify", 1, NULL,
        "tokenizer_config.json: does not have the hash of the manifest");
    flip(c, "out/model.safetensors", -3);
    one(c, "inspect %T/out --verify", 1, NULL, "does not have the hash of the manifest");
    flip(c, "out.gguf", -2);
    one(c, "inspect %T/out.gguf --verify", 1, NULL,
        "tensor output.weight does not have the hash of the manifest");
    gone("out.gguf");
    gone("out.gguf.manifest.json");
    gone("out");
    CHECK_EQ(c, strangers(), 0);
}

/* What stands where a manifest should is named, and so is what it does not list. */
static void bad_manifests(check *c)
{
    static const char *const texts[] = {"{}", "null", "[]", "3", "{\"files\":[]}"};
    one(c, "convert " LLAMA " -o %T/out -q", 0, "plain: ", NULL);
    one(c, "convert " TINY " -o %T/out.gguf -q", 0, "gguf: ", NULL);
    folder_write(&here, "out/added_tokens.json", "{}", 2);
    one(c, "inspect %T/out --verify", 1, NULL, "the file added_tokens.json is not in the manifest");
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        folder_write(&here, "out/manifest.json", texts[i], strlen(texts[i]));
        folder_write(&here, "out.gguf.manifest.json", texts[i], strlen(texts[i]));
        one(c, "inspect %T/out --verify", 4, NULL, "no manifest: it lists no tensors");
        one(c, "inspect %T/out.gguf --verify --json", 4, NULL, "no manifest: it lists no tensors");
    }
    static const char later[] = "{\"manifest\":2,\"tensors\":[],\"head\":{}}",
                      headless[] = "{\"manifest\":1,\"tensors\":[],\"heat\":{}}";
    folder_write(&here, "out.gguf.manifest.json", later, sizeof later - 1);
    one(c, "inspect %T/out.gguf --verify", 5, NULL, "a version other than 1");
    folder_write(&here, "out.gguf.manifest.json", headless, sizeof headless - 1);
    one(c, "inspect %T/out.gguf --verify", 4, NULL, "no manifest: it has no head");
    gone("out.gguf");
    gone("out.gguf.manifest.json");
    gone("out");
    CHECK_EQ(c, strangers(), 0);
}

/* One process at a time makes OUT; what a killed one left goes, what is to be gone on with stays. */
static void one_writer(check *c)
{
    char path[1024];
    if (mkdir(folder_in(&here, "out.gguf.nibble", path), 0700) != 0)
        exit(1);
    folder_write(&here, "out.gguf.nibble/partial.gguf", "half", 4);
    const int lock = open(folder_in(&here, "out.gguf.nibble/lock", path), O_RDWR | O_CREAT, 0600);
    CHECK_EQ(c, flock(lock, LOCK_EX | LOCK_NB), 0);
    one(c, "convert " TINY " -o %T/out.gguf -q", 9, NULL, "is writing it; wait for it or stop it");
    close(lock);
    folder_write(&here, "out.gguf.nibble/journal", "{}", 2);
    one(c, "convert " TINY " -o %T/out.gguf -q", 7, NULL, "of a quantization into OUT");
    unlink(folder_in(&here, "out.gguf.nibble/journal", path));
    one(c, "convert " TINY " -o %T/out.gguf -q", 0, "gguf: ", NULL);
    gone("out.gguf");
    gone("out.gguf.manifest.json");
    CHECK_EQ(c, strangers(), 0);
}

/* Its GGUF has names for logits that the folder's tokenizer has none for: it is the same model. */
static void same_vocabulary(check *c)
{
    enum { kText = 400 };
    char text[kText];
    for (int i = 0; i < kText; i++)
        text[i] = (char)('a' + i * 7 % 26);
    folder_write(&here, "long.txt", text, kText);
    one(c, "convert " LLAMA " -o %T/out.gguf -q", 0, "gguf: ", NULL);
    one(c, "eval %T/out.gguf --against " LLAMA " -f %T/long.txt -c 64 --chunks 2 --exact -q --json",
        0, "\"kl_mean\":0.000000", NULL);
    one(c, "eval " LLAMA " --against %T/out.gguf -f %T/long.txt -c 64 --chunks 2 --exact -q --json",
        0, "\"kl_mean\":0.000000", NULL);
    gone("out.gguf");
    gone("out.gguf.manifest.json");
}

/* A file that is replaced has the manifest of the new one. */
static void replaced(check *c)
{
    char path[1024];
    one(c, "quantize " TINY " -o %T/out.gguf --method rtn -q", 0, "rtn q4_0", NULL);
    CHECK(c, access(folder_in(&here, "out.gguf.manifest.json", path), F_OK) == 0);
    one(c, "convert " TINY " -o %T/out.gguf -q", 0, "gguf: ", NULL);
    one(c, "inspect %T/out.gguf --verify", 0, "each with the SHA-256 of its manifest", NULL);
    gone("out.gguf");
    gone("out.gguf.manifest.json");
    CHECK_EQ(c, strangers(), 0);
}

/* Rounding the BF16 weights of a folder: the whole file is what the encoders write, of which
 * tests/golden/dtype says that they are llama.cpp's. */
static void rounded(check *c)
{
    static const char *const grids[] = {"q4_0", "q5_0"};
    char line[256];
    for (int i = 0; i < 2; i++) {
        snprintf(line, sizeof line,
                 "convert %%M/tiny-llama -o %%T/out.gguf --format gguf --grid %s -t 1 -q",
                 grids[i]);
        one(c, line, 0, "gguf: ", NULL);
        snprintf(line, sizeof line,
                 "quantize %%M/tiny-llama -o %%T/rounded.gguf --method rtn --grid %s --embedding "
                 "%s -t 1 -q",
                 grids[i], grids[i]);
        one(c, line, 0, "rtn ", NULL);
        check_same(c, &here, "out.gguf", "rounded.gguf", true);
        gone("out.gguf");
        gone("out.gguf.manifest.json");
        gone("rounded.gguf");
        gone("rounded.gguf.manifest.json");
    }
}

/* Files that are only carried over would show what lies elsewhere. */
static void links(check *c)
{
    static const char *const parts[] = {"config.json", "model.safetensors", "tokenizer.json",
                                        "tokenizer_config.json"};
    enum { kMost = 1 << 20 };
    char path[1024], *p = malloc(kMost);
    if (!p || mkdir(folder_in(&here, "out.model", path), 0700) != 0)
        exit(1);
    for (int i = 0; i < 4; i++) {
        char name[64];
        snprintf(path, sizeof path, "%s/tests/data/models/tiny-llama/%s", NB_SOURCE_DIR, parts[i]);
        snprintf(name, sizeof name, "out.model/%s", parts[i]);
        FILE *f = fopen(path, "rb");
        if (!f)
            exit(1);
        folder_write(&here, name, p, fread(p, 1, kMost, f));
        fclose(f);
    }
    free(p);
    if (symlink("config.json", folder_in(&here, "out.model/LICENSE", path)) != 0 ||
        symlink("../text.txt", folder_in(&here, "out.model/README.md", path)) != 0)
        exit(1);
    one(c, "convert %T/out.model -o %T/out -q", 4, NULL,
        "out.model/README.md: a link that leads out of its folder\nhint: put the file itself "
        "there");
    CHECK(c, access(folder_in(&here, "out", path), F_OK) != 0);
    unlink(folder_in(&here, "out.model/README.md", path));
    /* a link within is the file itself */
    one(c, "convert %T/out.model -o %T/out -q", 0, "plain: ", NULL);
    gone("out");
    gone("out.model");
    CHECK_EQ(c, strangers(), 0);
}

/* The first tensor's first value becomes another: F16 bits, in the data of token_embd.weight. */
static void spoil(const char *from, const char *to, uint16_t bits)
{
    enum { kMost = 1 << 20 };
    char path[1024];
    char *p = malloc(kMost);
    FILE *f = fopen(folder_in(&here, from, path), "rb");
    const size_t n = f && p ? fread(p, 1, kMost, f) : 0;
    if (!n || n == kMost)
        exit(1);
    fclose(f);
    memcpy(p + n - 2, &bits, sizeof bits); /* the last value of output.weight */
    folder_write(&here, to, p, n);
    free(p);
}

static void begin(void)
{
    static const tiny_shape shape = {
        .n_layer = 2, .hidden = 64, .ffn = 64, .n_head = 2, .n_kv_head = 1, .ctx = 64};
    static const tiny_shape odd = {
        .n_layer = 1, .hidden = 64, .ffn = 80, .n_head = 2, .n_kv_head = 1, .ctx = 64};
    char path[1024], to[1024];
    nb_error err;
    here = folder_new();
    folder_write(&here, "text.txt", "text", 4);
    if (tiny_gguf_write(folder_in(&here, "tiny.gguf", path), &shape, &err) != NB_OK ||
        tiny_gguf_write(folder_in(&here, "odd.gguf", path), &odd, &err) != NB_OK ||
        mkdir(folder_in(&here, "folder.gguf", path), 0777) != 0)
        exit(1);
    spoil("tiny.gguf", "nan.gguf", 0x7e00);
    static const char *const made[][2] = {
        {"codes.gguf", "q4_0"}, {"codes8.gguf", "q8_0"}, {"big.gguf", "bf16"}};
    for (int i = 0; i < 3; i++) {
        nb_convert_result r;
        const nb_convert_options o = {.model = folder_in(&here, "tiny.gguf", path),
                                      .out = folder_in(&here, made[i][0], to),
                                      .grid = made[i][1],
                                      .n_thread = 1};
        if (nb_convert(&o, &r, &err) != NB_OK)
            exit(1);
    }
    spoil("big.gguf", "big.gguf", 0x7f00); /* 2^127, BF16 */
}

static const check_case cases[] = {
    {"what convert refuses it names, and leaves nothing", refusals},
    {"a folder to GGUF and back", there_and_back},
    {"what convert wrote is verified by its manifest", verified},
    {"a manifest that is none is named", bad_manifests},
    {"one process at a time writes OUT", one_writer},
    {"a model and its GGUF form have one vocabulary", same_vocabulary},
    {"a file that is replaced has the manifest of the new one", replaced},
    {"plain rounding of a 16-bit model gives the encoder's bytes where the grid meets its extreme",
     rounded},
    {"a file that is carried over may be no link out of the folder", links},
};

int main(int argc, char **argv)
{
    begin();
    const int rc = check_main(cases, sizeof cases / sizeof *cases, argc, argv);
    folder_gone(&here);
    return rc;
}
