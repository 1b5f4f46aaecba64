/* quantize.c -- `nibble quantize`: the file it writes, what it refuses, and that nothing half-made
 * is ever under the final name. */
#include "cli/transcript.h"
#include "dtype/dtype.h"
#include "tiny_gguf.h"

#include <poll.h>
#include <signal.h>
#include <sys/stat.h>

static folder here;

#define TINY "%T/tiny.gguf"
#define OUT " -o %T/out.gguf --method rtn -t 1 "

/* None of them may leave a file behind. */
static const transcript refused[] = {
    {"samples that would all be the same",
     "quantize " TINY " -o %T/out.gguf --calib %T/text.txt -c 64 --samples 100000", 4, NULL,
     "100000 sequences of 64 would be the same one\nhint: --samples ", 0},
    {"a page under the manifest's name",
     "quantize " TINY " -o %T/out.gguf --method rtn --report %T/out.gguf.manifest.json", 2, NULL,
     ": the manifest of -o has that name\nhint: ", 0},
    {"quantize without OUT", "quantize " TINY, 2, NULL, "-o OUT is missing", 0},
    {"quantize without a model", "quantize -o %T/out.gguf", 2, NULL, "MODEL is missing", 0},
    {"quantize a model that is not there", "quantize %T/none.gguf" OUT "--json", 3, NULL,
     "none.gguf: cannot open", 0},
    {"quantize a text", "quantize %T/text.txt" OUT, 4, NULL,
     "text.txt: neither GGUF nor safetensors", 0},
    {"an unknown method", "quantize " TINY " -o %T/out.gguf --method magic", 2, NULL,
     "--method magic is unknown", 0},
    {"a method to come", "quantize " TINY " -o %T/out.gguf --method squeeze --json", 5, NULL,
     "--method squeeze is not there yet", 0},
    {"bits that no grid has", "quantize " TINY OUT "--bits 5", 2, NULL,
     "--bits 5, it must be 2, 3, 4 or 8", 0},
    {"bits that are no number", "quantize " TINY OUT "--bits four", 2, NULL,
     "--bits four: it must be a whole number", 0},
    {"a grid of other bits than asked for", "quantize " TINY OUT "--bits 8 --grid q4_0", 2, NULL,
     "--bits 8 and --grid q4_0, which has 4 bits", 0},
    {"groups that the format does not have", "quantize " TINY OUT "--group 128", 5, NULL,
     "--group 128 in a GGUF file; q4_0 has groups of 32", 0},
    {"nor with a grid named", "quantize " TINY OUT "--group 64 --grid q8_0", 5, NULL,
     "--group 64 in a GGUF file; q8_0 has groups of 32", 0},
    {"a group as long as the row", "quantize " TINY OUT "--group row", 5, NULL,
     "--group row in a GGUF file; q4_0 has groups of 32", 0},
    {"a minimum in a format without one", "quantize " TINY OUT "--asym --bits 8", 5, NULL,
     "--asym in a GGUF file of q8_0, which is symmetric", 0},
    {"a format that has a minimum and may not", "quantize " TINY OUT "--sym --grid q4_1", 2, NULL,
     "--sym in a GGUF file of q4_1", 0},
    {"a format that is only read", "quantize " TINY OUT "--grid q4_k", 5, NULL,
     "--grid q4_k cannot be written yet; those that can are q4_0 ", 0},
    {"three bits into GGUF name the grids and who takes them", "quantize " TINY OUT "--bits 3", 5,
     NULL, "; folders hold 3 bits: --format gptq gptq_v2 compressed-tensors\nhint: -o ", 0},
    {"so do two", "quantize " TINY OUT "--bits 2 --json", 5, NULL,
     "folders hold 2 bits: --format gptq", 0},
    {"a grid of folders", "quantize " TINY OUT "--grid int4", 5, NULL,
     "--grid int4 has no GGUF format; q4_0 ", 0},
    {"a mistyped grid", "quantize " TINY OUT "--grid q4-1", 2, NULL,
     "hint: did you mean --grid q4_1?", 0},
    {"a mistyped method", "quantize " TINY " -o %T/out.gguf --method gtpq", 2, NULL,
     "hint: did you mean --method gptq?", 0},
    {"a mistyped clip", "quantize " TINY OUT "--clip mes", 2, NULL,
     "hint: did you mean --clip mse?", 0},
    {"a mistyped embedding", "quantize " TINY OUT "--embedding kep", 2, NULL,
     "hint: did you mean --embedding keep?", 0},
    {"a mistyped format", "quantize " TINY " -o %T/out --format gtpq", 2, NULL,
     "hint: did you mean --format gptq?", 0},
    {"a mix of formats", "quantize " TINY OUT "--grid q4_k_m", 5, NULL,
     "--grid q4_k_m cannot be written yet", 0},
    {"an embedding that is only read", "quantize " TINY OUT "--embedding q4_k", 5, NULL,
     "--embedding q4_k cannot be written yet", 0},
    {"an embedding to come", "quantize " TINY OUT "--embedding nf4 --json", 5, NULL,
     "--embedding nf4 cannot be written yet", 0},
    {"an embedding that is no format", "quantize " TINY OUT "--embedding q9_9", 2, NULL,
     "--embedding q9_9: keep, or a format", 0},
    {"an unknown grid", "quantize " TINY OUT "--grid q9_9", 2, NULL, "q9_9", 0},
    {"an unknown format", "quantize " TINY OUT "--format tar", 2, NULL, "--format tar is unknown",
     0},
    {"a correction beyond 1", "quantize " TINY OUT "--correction 1.5", 2, NULL,
     "--correction 1.5: it must be a number from 0 to 1", 0},
    {"a calibration text that is not there",
     "quantize " TINY " -o %T/out.gguf -t 1 -q --calib %T/none.txt", 3, NULL,
     "none.txt: cannot open", 0},
    {"a calibration text that is too short",
     "quantize " TINY " -o %T/out.gguf -t 1 -q --calib %T/short.txt", 4, NULL, "short.txt: ", 0},
    {"OUT in a folder that is not there",
     "quantize " TINY " -o %T/no/such/out.gguf --method rtn --json", 3, NULL,
     "cannot create it: No such file or directory", 0},
    {"OUT is the input", "quantize " TINY " -o " TINY " --method rtn", 2, NULL,
     "tiny.gguf: OUT is the input itself", 0},
    {"OUT is the input by another spelling", "quantize " TINY " -o %T/./tiny.gguf --method rtn", 2,
     NULL, "OUT is the input itself", 0},
    {"OUT is the input by a link", "quantize " TINY " -o %T/link.gguf --method rtn", 2, NULL,
     "OUT is the input itself", 0},
    {"OUT is a folder", "quantize " TINY " -o %T/folder.gguf --method rtn --json", 7, NULL,
     "exists and is not a regular file", 0},
    {"OUT is a device", "quantize " TINY " -o /dev/null --format gguf --method rtn", 7, NULL,
     "/dev/null: exists and is not a regular file", 0},
    {"too short a text is not to be followed",
     "quantize %M/tiny-llama -o %T/out.gguf --calib %T/few.txt -c 64 -t 1 -q", 4, NULL,
     "one sequence needs 64\nhint: a longer text, or --calib self", 0},
    {"a number format for the method, as llama.cpp's users say it",
     "quantize " TINY " -o %T/out.gguf --method q4_k_m", 5, NULL,
     "--grid q4_k_m cannot be written yet", 0},
    {"the order of inputs by its other name",
     "quantize " TINY " -o %T/out.gguf --method rtn --desc-act", 5, NULL, "--act-order", 0},
    {"a value that is not finite is named, not quantized", "quantize %T/nan.gguf" OUT "-q", 4, NULL,
     "tensor blk.0.attn_q.weight holds NaN or Inf in row 0", 0},
    {"nor a norm with one", "quantize %T/norm.gguf" OUT "-q", 4, NULL,
     "tensor output_norm.weight holds NaN or Inf in row 0", 0},
    {"nor an embedding with one", "quantize %T/embedding.gguf" OUT "-q", 4, NULL,
     "tensor token_embd.weight holds NaN or Inf in row 3", 0},
    {"nor into a folder", "quantize %T/norm.gguf -o %T/out --format gptq --method rtn -q", 4, NULL,
     "tensor output_norm.weight holds NaN or Inf in row 0", 0},
    {"activations that are not finite name the tensor that they would go into",
     "quantize %T/loud.gguf -o %T/out.gguf --calib %T/text.txt --samples 2 -c 64 -t 1 -q", 4, NULL,
     "tensor blk.0.attn_q.weight: the calibration activations of input 0 are not finite", 0},
    {"a gate without a text to measure", "quantize " TINY OUT "--max-kl 0.1", 2, NULL,
     "--max-kl needs a text to measure it on: --eval FILE", 0},
    {"a gate that is no number", "quantize " TINY OUT "--max-kl much --eval %T/long.txt", 2, NULL,
     "--max-kl much: it must be a number", 0},
    {"a report in a folder that is not there", "quantize " TINY OUT "--report %T/no/r.html --json",
     3, NULL, "r.html: cannot create it", 0},
    {"a report that is OUT", "quantize " TINY OUT "--report %T/out.gguf", 2, NULL,
     "--report and -o name the same file", 0},
    {"a report that is the model", "quantize " TINY OUT "--report %T/link.gguf", 2, NULL,
     "it would replace the model", 0},
    {"a report in place of a text", "quantize " TINY OUT "--report %T/text.txt", 2, NULL,
     "text.txt: exists and was not written by this flag", 0},
    {"OUT in place of the calibration text",
     "quantize " TINY " -o %T/text.txt --format gguf --calib %T/./text.txt", 2, NULL,
     "OUT is the text of --calib", 0},
    {"OUT in place of the text to measure on",
     "quantize " TINY " -o %T/text.txt --format gguf --method rtn --eval %T/text.txt", 2, NULL,
     "OUT is the text of --eval", 0},
    {"a text to measure on that is not there is seen before the work",
     "quantize " TINY OUT "--eval %T/none.txt", 3, NULL, "none.txt: cannot open", 0},
    {"so is one that is too short", "quantize " TINY OUT "--eval %T/short.txt --json", 4, NULL,
     "tokens, one chunk needs 256", 0},
    {"also by a dry run", "quantize " TINY OUT "--eval %T --dry-run", 4, NULL,
     "not a regular file\nhint: ls -ld ", 0},
    {"a report of a run that is not there", "quantize -o %T/out.gguf --resume --report %T/r.html",
     3, NULL, "there is no unfinished run of it to go on with", 0},
    {"a report without OUT", "quantize --resume --report %T/r.html --json", 2, NULL,
     "-o OUT is missing", 0},
    {"--dry-run writes no report", "quantize " TINY OUT "--dry-run -q --report %T/r.html", 0,
     "rtn q4_0: ", NULL, 0},
    {"layers that are no range", "quantize " TINY OUT "--layers 1", 2, NULL,
     ": it must be two numbers, such as 0:2", 0},
    {"layers beyond the model", "quantize " TINY OUT "--layers 1:9", 2, NULL,
     "--layers 1:9, the model has 2 layers", 0},
    {"an empty range of layers", "quantize " TINY OUT "--layers 1:1", 2, NULL,
     "--layers 1:1, the second must be greater", 0},
    {"a size that is none", "quantize " TINY OUT "--memory 5X", 2, NULL,
     "--memory 5X: it must be a size", 0},
    {"nothing to go on with", "quantize -o %T/out.gguf --resume", 3, NULL,
     "there is no unfinished run of it to go on with", 0},
    {"going on and beginning anew", "quantize " TINY OUT "--resume --restart", 2, NULL,
     "--resume and --restart exclude each other", 0},
    {"OUT inside the model's folder",
     "quantize %M/tiny-llama -o %M/tiny-llama/out.gguf --method rtn", 2, NULL,
     "OUT lies inside the input's folder", 0},
    {"memory that does not suffice is seen before the work",
     "quantize " TINY " -o %T/out.gguf --calib %T/text.txt --samples 2 -c 64 -t 1 --memory 100K", 6,
     NULL, "even with the activations on disk, there are 0.1 MiB", 0},
    {"--dry-run says sizes and writes nothing", "quantize " TINY OUT "--dry-run --json -q", 0,
     "\"dry_run\":true", NULL, 0},
    {"and in words what was not done", "quantize " TINY OUT "--dry-run -q", 0,
     " without embedding and head); a dry run, nothing was written\nplanned memory ", NULL, 0},
};

static bool there(const char *name)
{
    char path[1024];
    return access(folder_in(&here, name, path), F_OK) == 0;
}

/* Names in the folder that the test did not put there. */
static int strangers(void)
{
    int n = 0;
    DIR *dir = opendir(here.path);
    for (const struct dirent *e; dir && (e = readdir(dir));)
        if (strstr(e->d_name, "partial") || strcmp(e->d_name, "out.gguf") == 0) {
            fprintf(stderr, "left behind: %s\n", e->d_name);
            n++;
        }
    if (dir)
        closedir(dir);
    return n;
}

/* A result, its manifest, its work folder. */
static void remove_out(const char *name)
{
    char path[1024];
    folder work;
    unlink(folder_in(&here, name, path));
    strcat(path, ".manifest.json");
    unlink(path);
    snprintf(work.path, sizeof work.path, "%.400s/%.90s.nibble", here.path, name);
    if (access(work.path, F_OK) == 0)
        folder_gone(&work);
}

static void refusal_case(check *c)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (refused[i].sentence == c->sentence)
            check_transcript(c, &here, &refused[i]);
    CHECK_EQ(c, strangers(), 0);
    CHECK(c, there("tiny.gguf"));
    CHECK(c, !there("r.html"));
    remove_out("out.gguf");
}

static void same_bytes(check *c, const char *a, const char *b)
{
    enum { kMost = 1 << 22 };
    char path[1024];
    char *p[2] = {malloc(kMost), malloc(kMost)};
    size_t n[2] = {0};
    const char *name[2] = {a, b};
    for (int i = 0; i < 2; i++) {
        FILE *f = fopen(folder_in(&here, name[i], path), "rb");
        CHECK(c, f != NULL);
        n[i] = f && p[i] ? fread(p[i], 1, kMost, f) : 0;
        if (f)
            fclose(f);
    }
    CHECK(c, n[0] > 0);
    CHECK_EQ(c, n[1], n[0]);
    CHECK(c, n[0] == n[1] && memcmp(p[0], p[1], n[0]) == 0);
    free(p[0]);
    free(p[1]);
}

static void round_trip(check *c)
{
    static const transcript steps[] = {
        {"", "quantize " TINY OUT "--json -q", 0,
         "{\"method\":\"rtn\",\"grid\":\"q4_0\",\"format\":\"gguf\"", NULL, 0},
        {"", "inspect %T/out.gguf --tensors", 0,
         "blk.1.ffn_down.weight                        q4_0   [64,128] 4608\n", NULL, 0},
        {"", "inspect %T/out.gguf --verify --json", 0, "\"arch\":\"llama\"", NULL, 0},
        {"", "eval %T/out.gguf -f %T/text.txt -c 64 -t 1 --against " TINY " --json", 0,
         "\"kl_mean\":", NULL, 0},
        {"", "run %T/out.gguf -p the --raw -n 4 -t 1 --json", 0, "\"tokens\":[", NULL, 0},
        {"", "quantize " TINY " -o %T/again.gguf --method rtn -t 2 -q", 0, "rtn q4_0: ", NULL, 0},
        {"",
         "quantize " TINY
         " -o %T/gptq.gguf --calib %T/text.txt --samples 2 -c 64 -t 1 -q --eval %T/long.txt --json",
         0, "\"kl_mean\":", NULL, 0},
        {"", "quantize " TINY " -o %T/self.gguf --samples 2 -c 32 -t 1 -q --json", 0,
         "\"method\":\"gptq\"", NULL, 0},
        {"", "quantize " TINY " -o %T/self2.gguf --samples 2 -c 32 -t 2 -q", 0, "gptq q4_0", NULL,
         0},
    };
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        check_transcript(c, &here, &steps[i]);
    same_bytes(c, "out.gguf", "again.gguf");
    same_bytes(c, "self.gguf", "self2.gguf");
    const char *made[] = {"out.gguf", "again.gguf", "gptq.gguf", "self.gguf", "self2.gguf"};
    for (size_t i = 0; i < sizeof made / sizeof *made; i++)
        remove_out(made[i]);
    CHECK_EQ(c, strangers(), 0);
}

/* The page is there with what was measured; the gate says no with its figure, and both files
 * stay. */
static void report_and_gate(check *c)
{
#define MEASURED                                                                                   \
    "quantize " TINY                                                                               \
    " -o %T/out.gguf --calib %T/text.txt --samples 2 -c 64 -t 1 -q --eval %T/long.txt "
    static const transcript steps[] = {
        {"", MEASURED "--report %T/r.html --max-kl 1000 --json", 0, "\"kl_p99\":", NULL, 0},
        {"", MEASURED "--report %T/r.html --max-kl 0 --json", 1, "\"error\":{\"code\":1,",
         "--max-kl allows 0; the file stays", 0},
        {"", MEASURED "--max-kl 0", 1, "nats a token (median ", "KL divergence 0.", 0},
        {"", "inspect %T/out.gguf --verify", 0, "llama", NULL, 0},
        {"", "quantize %T/out.gguf -o %T/again.gguf --method rtn -t 1 -q --eval %T/long.txt", 0,
         "\n(re-quantized): the input holds q4_0", NULL, 0},
    };
    static char page[1 << 20];
    char path[1024];
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        check_transcript(c, &here, &steps[i]);
    FILE *f = fopen(folder_in(&here, "r.html", path), "rb");
    CHECK(c, f != NULL);
    const size_t n = f ? fread(page, 1, sizeof page - 1, f) : 0;
    if (f)
        fclose(f);
    page[n] = 0;
    static const char *const said[] = {"<title>out.gguf: gptq, q4_0</title>",
                                       "<figcaption>ffn_down</figcaption>",
                                       "KL divergence, 99th percentile",
                                       "<th scope=\"row\">blk.1.attn_output.weight</th>",
                                       "calibration text</span>",
                                       "<dt>method</dt><dd>gptq</dd>"};
    for (size_t i = 0; i < sizeof said / sizeof *said; i++)
        CHECK_HAS(c, page, said[i]);
    CHECK(c, !strstr(page, "(re-quantized)"));
    remove_out("out.gguf");
    remove_out("again.gguf");
    remove_out("r.html");
    CHECK_EQ(c, strangers(), 0);
}

/* Without stderr the file it writes would be number 2, and the progress lines would land in the
 * model. */
static void closed_streams(check *c)
{
    outcome o = program_run(&here, "quantize " TINY OUT, OUT_NO_STDERR);
    CHECK_EQ(c, o.code, NB_OK);
    program_free(&o);
    o = program_run(&here, "quantize " TINY " -o %T/again.gguf --method rtn -t 1", OUT_CLOSED);
    CHECK_EQ(c, o.code, NB_IO); /* the file is whole, the report went nowhere */
    program_free(&o);
    o = program_run(&here, "quantize " TINY " -o %T/third.gguf --method rtn -t 1 -q", OUT_CAPTURED);
    CHECK_EQ(c, o.code, NB_OK);
    program_free(&o);
    same_bytes(c, "out.gguf", "third.gguf");
    same_bytes(c, "again.gguf", "third.gguf");
    remove_out("out.gguf");
    remove_out("again.gguf");
    remove_out("third.gguf");
}

static const tiny_shape deep = {
    .n_layer = 300, .hidden = 32, .ffn = 32, .n_head = 1, .n_kv_head = 1, .ctx = 64};

static void overwrites(check *c)
{
    folder_write(&here, "out.gguf", "old", 3);
    outcome o = program_run(&here, "quantize %T/nan.gguf" OUT "-q", OUT_CAPTURED);
    CHECK_EQ(c, o.code, NB_BAD_INPUT);
    program_free(&o);
    FILE *f = NULL;
    char path[1024], text[8] = "";
    f = fopen(folder_in(&here, "out.gguf", path), "rb");
    CHECK(c, f && fread(text, 1, 7, f) == 3);
    CHECK_STR(c, text, "old");
    if (f)
        fclose(f);
    remove_out("out.gguf");
    CHECK_EQ(c, strangers(), 0);
}

/* The program blocks on its own progress lines (a pipe of one page takes fewer than the model has
 * layers) until it is read, so the signal always finds it at work. */
static void interrupted(check *c, int signal_number)
{
    char line[256], text[65536] = "";
    int err = -1;
    size_t n = 0;
    snprintf(line, sizeof line, "quantize %%T/deep.gguf -o %%T/out.gguf --method rtn -t 1");
    const pid_t pid = program_start(&here, line, &err);
    struct pollfd p = {.fd = err, .events = POLLIN};
    CHECK_EQ(c, poll(&p, 1, 1000 * PROGRAM_GUARD_S), 1); /* its first line: the handlers are set */
    CHECK_EQ(c, kill(pid, signal_number), 0);
    for (ssize_t got = 1; got > 0 && n<sizeof text - 1; n += got> 0 ? (size_t)got : 0)
        got = read(err, text + n, sizeof text - 1 - n);
    text[n] = 0;
    close(err);
    CHECK_EQ(c, program_wait(pid), 128 + signal_number);
    const char *sentence = strstr(text, "nibble: error: ");
    CHECK_HAS(c, sentence, "nothing was written under the final name");
    char again[1400]; /* the command that goes on with it */
    snprintf(again, sizeof again, "\nhint: nibble quantize -o %s/out.gguf --resume\n", here.path);
    CHECK_HAS(c, sentence, again);
    CHECK_EQ(c, strangers(), 0);
    CHECK(c, there("out.gguf.nibble/journal"));
    outcome o = program_run(&here, "quantize -o %T/out.gguf --resume -t 1 -q --json", OUT_CAPTURED);
    CHECK_EQ(c, o.code, 0);
    CHECK_HAS(c, o.out, "\"name\":\"blk.0.attn_q.weight\""); /* of the first run */
    CHECK_HAS(c, o.out, "\"name\":\"blk.299.ffn_down.weight\"");
    CHECK(c, !strstr(o.out, "\"resumed_layers\":0"));
    program_free(&o);
    o = program_run(&here, "quantize %T/deep.gguf -o %T/again.gguf --method rtn -t 1 -q",
                    OUT_CAPTURED);
    CHECK_EQ(c, o.code, 0);
    program_free(&o);
    same_bytes(c, "out.gguf", "again.gguf");
    same_bytes(c, "out.gguf.manifest.json", "again.gguf.manifest.json");
    CHECK(c, !there("out.gguf.nibble"));
    remove_out("out.gguf");
    remove_out("again.gguf");
}

/* The same trick: the model is cut while the program waits in one of its first layers, so a later
 * layer is gone when it is read. */
static void cut_while_read(check *c)
{
#define CUT "cut\xc2\x9b.gguf" /* a control character, which a terminal must not get */
    char path[1024], text[65536] = "";
    int err = -1;
    size_t n = 0;
    nb_error e = {.offset = -1};
    CHECK_EQ(c, tiny_gguf_write(folder_in(&here, CUT, path), &deep, &e), NB_OK);
    const pid_t pid =
        program_start(&here, "quantize %T/" CUT " -o %T/out.gguf --method rtn -t 1", &err);
    struct pollfd p = {.fd = err, .events = POLLIN};
    CHECK_EQ(c, poll(&p, 1, 1000 * PROGRAM_GUARD_S), 1);
    CHECK_EQ(c, truncate(path, 4096), 0);
    for (ssize_t got = 1; got > 0 && n<sizeof text - 1; n += got> 0 ? (size_t)got : 0)
        got = read(err, text + n, sizeof text - 1 - n);
    text[n] = 0;
    close(err);
    CHECK_EQ(c, program_wait(pid), NB_IO);
    CHECK_HAS(c, strstr(text, "nibble: error: "),
              "cut??.gguf: the file became shorter while it was read");
    CHECK_HAS(c, text, "\nhint: ls -l /");
    CHECK(c, !strstr(text, CUT));
    CHECK(c, access(folder_in(&here, "out.gguf", path), F_OK) != 0);
    remove_out(CUT);
    remove_out("out.gguf"); /* a signal leaves the work folder */
}

static void sigint(check *c)
{
    interrupted(c, SIGINT);
}

static void sigterm(check *c)
{
    interrupted(c, SIGTERM);
}

/* Every format that can be written is named, and no other: as the tables have them. */
static void writable_grids(check *c)
{
    static const char *const lines[] = {"quantize " TINY OUT "--grid q4_k",
                                        "quantize " TINY OUT "--bits 3",
                                        "quantize " TINY OUT "--grid int4"};
    for (int i = 0; i < 3; i++) {
        outcome o = program_run(&here, lines[i], OUT_CAPTURED);
        CHECK_EQ(c, o.code, NB_UNSUPPORTED);
        for (const nb_dtype *const *t = nb_dtypes; *t; t++) {
            char name[32];
            snprintf(name, sizeof name, " %s", (*t)->name);
            if ((*t)->rule && (*t)->ggml_id >= 0) /* these are refusals of GGUF files */
                CHECK_HAS(c, o.err, name);
        }
        if (i == 0)
            CHECK_HAS(c, o.err, "\nhint: --grid q4_0\n");
        program_free(&o);
    }
}

/* A million tokens to be written, minutes: the first line of progress is answered with signals:
 * where is it, then end. What SIGUSR1 says is that line once more. */
static void sigint_in_calibration(check *c)
{
    char text[65536] = "";
    int err = -1;
    size_t n = 0;
    const pid_t pid = program_start(
        &here, "quantize %T/tiny.gguf -o %T/out.gguf --samples 16384 --ctx 64 -t 1", &err);
    bool asked = false, sent = false;
    char first[256] = "";
    for (ssize_t got = 1; got > 0 && n<sizeof text - 1; n += got> 0 ? (size_t)got : 0) {
        got = read(err, text + n, sizeof text - 1 - n);
        const char *said = strstr(text, "tokens of calibration text"),
                   *end = said ? strchr(said, '\n') : NULL;
        if (end && !asked) {
            const char *line = said;
            while (line > text && line[-1] != '\n')
                line--;
            snprintf(first, sizeof first, "%.*s", (int)(end - line), line);
            asked = kill(pid, SIGUSR1) == 0;
        } else if (end && !sent && strstr(end, first))
            sent = kill(pid, SIGINT) == 0;
    }
    close(err);
    CHECK(c, asked && sent);
    CHECK_HAS(c, text, "ends behind the linears at work; once more: at once");
    CHECK_EQ(c, program_wait(pid), 128 + SIGINT);
    CHECK_HAS(c, text, "nibble: error: stopped while the model wrote its calibration text");
    /* the hint: nothing is there yet to go on with */
    CHECK_HAS(c, text, "out.gguf --samples 16384 --ctx 64 -t 1\n");
    CHECK(c, !there("out.gguf"));
    remove_out("out.gguf");
}

static void make_folder(void)
{
    static const tiny_shape shape = {
        .n_layer = 2, .hidden = 64, .ffn = 128, .n_head = 4, .n_kv_head = 2, .ctx = 256};
    char path[1024], text[4096] = "";
    nb_error err = {.offset = -1};
    here = folder_new();
    nb_status st = tiny_gguf_write(folder_in(&here, "tiny.gguf", path), &shape, &err);
    if (st == NB_OK)
        st = tiny_gguf_write(folder_in(&here, "deep.gguf", path), &deep, &err);
    if (st != NB_OK) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    while (strlen(text) < 2500)
        strcat(text, "the heath thaws then the other ");
    folder_write(&here, "text.txt", text, 600);
    folder_write(&here, "few.txt", "short text", 10);
    folder_write(&here, "long.txt", text, strlen(text));
    folder_write(&here, "short.txt", text, 5);
    char *p = malloc(1 << 22);
    FILE *f = fopen(folder_in(&here, "tiny.gguf", path), "rb");
    if (!p || !f)
        exit(1);
    const size_t n = fread(p, 1, 1 << 22, f);
    fclose(f);
    /* behind the embedding and a norm begins blk.0.attn_q: all from there but the end is the data,
     * which the file size tells */
    const size_t layer = 2 * 64 * 4 + (64 * 64 * 2 + 2 * 32 * 64 + 3 * 128 * 64) * 2,
                 tail = 64 * 4 + 288 * 64 * 2;
    const size_t attn_q = n - tail - 2 * layer + 64 * 4;
    memset(p + attn_q, 0xff, 2);
    folder_write(&here, "nan.gguf", p, n);
    memset(p + attn_q, 0, 2);
    memset(p + n - tail + 8, 0xff, 4);
    folder_write(&here, "norm.gguf", p, n);
    memset(p + n - tail + 8, 0, 4);
    char *embedding = p + n - tail - 2 * layer - (size_t)(288 - 3) * 64 * 2;
    memset(embedding, 0xff, 2);
    folder_write(&here, "embedding.gguf", p, n);
    memset(embedding, 0, 2);
    for (size_t i = 0; i < 64; i++) /* finite, but not what comes of them */
        memcpy(p + n - tail - 2 * layer + 4 * i, &(float){3e38f}, 4);
    folder_write(&here, "loud.gguf", p, n);
    free(p);
    char target[1024];
    if (symlink(folder_in(&here, "tiny.gguf", target), folder_in(&here, "link.gguf", path)) != 0 ||
        mkdir(folder_in(&here, "folder.gguf", path), 0700) != 0)
        exit(1);
}

int main(int argc, char **argv)
{
    enum { kRows = sizeof refused / sizeof *refused };
    static const check_case more[] = {
        {"a quantized file is read by inspect, eval and run, and the same command gives the same "
         "bytes",
         round_trip},
        {"a report and a gate: the page is whole, the gate is exit 1 and the file stays",
         report_and_gate},
        {"closed standard streams do not become the output file", closed_streams},
        {"a failed run leaves the file that was there", overwrites},
        {"a refusal names every format that can be written", writable_grids},
        {"SIGINT while the model writes its calibration text ends with 130", sigint_in_calibration},
        {"SIGINT while quantizing ends with 130, and the command it prints goes on", sigint},
        {"a model that is cut while it is read is named, nothing has the final name",
         cut_while_read},
        {"SIGTERM while quantizing ends with 143, and the command it prints goes on", sigterm},
    };
    enum { kMore = sizeof more / sizeof *more };
    check_case cases[kRows + kMore];
    for (int i = 0; i < kRows; i++)
        cases[i] = (check_case){refused[i].sentence, refusal_case};
    memcpy(cases + kRows, more, sizeof more);
    make_folder();
    const int rc = check_main(cases, kRows + kMore, argc, argv);
    char path[1024];
    rmdir(folder_in(&here, "folder.gguf", path));
    folder_gone(&here);
    return rc;
}
