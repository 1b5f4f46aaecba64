/* resume.c -- an unfinished `nibble quantize`: who may go on with it, with what, and what a budget
 * of memory or a range of layers changes. */
#include "cli/transcript.h"
#include "tiny_gguf.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>

static folder here;

#define SET "quantize %T/tiny.gguf -o %T/out.gguf -t 1 -q --calib %T/text.txt -c 16 "
#define RUN SET "--samples 4 "
#define MANY "quantize %T/tiny.gguf -o %T/out.gguf -t 1 -q --calib %T/text.txt -c 64 --samples 64 "

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
    folder work;
    unlink(folder_in(&here, name, path));
    strcat(path, ".manifest.json");
    unlink(path);
    snprintf(work.path, sizeof work.path, "%.400s/%.90s.nibble", here.path, name);
    if (access(work.path, F_OK) == 0)
        folder_gone(&work);
}

static void expect(check *c, const char *line, int code, const char *word)
{
    outcome o = program_run(&here, line, OUT_CAPTURED);
    CHECK_EQ(c, o.code, code);
    if (word)
        CHECK_HAS(c, code ? o.err : o.out, word);
    program_free(&o);
}

/* Leaves a run that was killed behind its first layer. */
static void leave_unfinished(check *c)
{
    gone("out.gguf");
    setenv("NIBBLE_CRASH_AT", "after-append:3", 1); /* begin, calib, layer 0 */
    expect(c, RUN, 128 + SIGKILL, NULL);
    unsetenv("NIBBLE_CRASH_AT");
    CHECK(c, there("out.gguf.nibble/journal"));
}

static void write_text(const char *name, const char *word)
{
    char text[1024] = "";
    while (strlen(text) < 300)
        strcat(text, word);
    folder_write(&here, name, text, strlen(text));
}

/* Refused with exit 4, and still there to be gone on with. */
static void other_settings(check *c)
{
    static const char *const rows[][2] = {
        {SET "--samples 5", "samples is 5 now, the unfinished run had 4"},
        {RUN "--grid q4_1", "grid is \"q4_1\" now, the unfinished run had \"q4_0\""},
        {RUN "--embedding keep", "embedding is \"keep\" now"},
        {RUN "--correction 0.5", "correction is 0.5 now, the unfinished run had 1"},
        {RUN "--damp 0.02", "damp is 0.02 now"},
        {RUN "--seed 1", "seed is 1 now"},
        {RUN "--no-static-groups", "no-static-groups is true now"},
        {RUN "--layers 0:1", "layer-to is 1 now, the unfinished run had 2"},
        {RUN "--method rtn", "method is \"rtn\" now"},
        {RUN "--device ref", "device is \"ref\" now"},
        {"quantize -o %T/out.gguf --resume --samples 5", "samples is 5 now"},
        {"quantize %T/other.gguf -o %T/out.gguf -t 1 -q --calib %T/text.txt -c 16 --samples 4",
         "the input's other.gguf has another name"},
        {"quantize %T/tiny.gguf -o %T/out.gguf -t 1 -q --calib %T/others.txt -c 16 --samples 4",
         "the calibration text is not the one"},
    };
    leave_unfinished(c);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        expect(c, rows[i][0], NB_BAD_INPUT, rows[i][1]);
        CHECK(c, there("out.gguf.nibble/journal"));
        CHECK(c, !there("out.gguf"));
    }
    /* what the hint says can be done, and the two flags together throw nothing away */
    expect(c, "quantize -o %T/out.gguf --resume --samples 5", NB_BAD_INPUT,
           "begins anew\nhint: give the whole command with --restart in place of --resume\n");
    expect(c, SET "--samples 5", NB_BAD_INPUT, "--samples 5 --restart\n");
    expect(c, "quantize -o %T/out.gguf --resume --restart", NB_USAGE, "exclude each other");
    expect(c, RUN "--json", 0, "\"resumed_layers\":1");
    check_same(c, &here, "out.gguf", "sound.gguf", true);
    leave_unfinished(c);
    expect(c, SET "--samples 5 --restart --json", 0, "\"resumed_layers\":0");
    check_same(c, &here, "out.gguf", "sound.gguf", false);
    gone("out.gguf");
}

static void changed_input(check *c)
{
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1000000000}};
    leave_unfinished(c);
    write_text("text.txt", "another text than this one ");
    expect(c, RUN, NB_BAD_INPUT, "the calibration text is not the one the run began with");
    write_text("text.txt", "the heath thaws then the other ");
    CHECK_EQ(c, utimensat(AT_FDCWD, in("tiny.gguf"), times, 0), 0);
    expect(c, "quantize -o %T/out.gguf --resume", NB_BAD_INPUT,
           "the input's tiny.gguf has another time of change");
    gone("out.gguf");
}

/* Whatever byte of the journal or the partial file is changed: refused, or what was cut off is done
 * again; never a wrong file. */
static void changed_work(check *c)
{
    size_t n = 0;
    leave_unfinished(c);
    char *journal = folder_bytes(&here, "out.gguf.nibble/journal", &n);
    for (size_t at = 3; at < n; at += n / 25) {
        FILE *f = fopen(in("out.gguf.nibble/journal"), "r+b");
        if (!f || fseek(f, (long)at, SEEK_SET) != 0 || fputc(journal[at] ^ 1, f) == EOF ||
            fclose(f) != 0)
            exit(1);
        outcome o = program_run(&here, "quantize -o %T/out.gguf --resume -t 1 -q", OUT_CAPTURED);
        CHECK(c, o.code == NB_BAD_INPUT || o.code == NB_NOT_FOUND || o.code == 0);
        if (o.code)
            CHECK_HAS(c, o.err, "nibble: error: ");
        else {
            check_same(c, &here, "out.gguf", "sound.gguf", true);
            leave_unfinished(c);
        }
        program_free(&o);
        CHECK(c, there("out.gguf.nibble/journal"));
        folder_write(&here, "out.gguf.nibble/journal", journal, n);
    }
    /* an append that was cut off: nothing is lost but that */
    for (size_t cut = 0; cut < n; cut += n / 10) {
        gone("out.gguf");
        leave_unfinished(c);
        CHECK_EQ(c, truncate(in("out.gguf.nibble/journal"), (off_t)cut), 0);
        expect(c, RUN, 0, NULL);
        check_same(c, &here, "out.gguf", "sound.gguf", true);
    }
    free(journal);
    leave_unfinished(c);
    FILE *f = fopen(in("out.gguf.nibble/partial.gguf"), "r+b");
    /* in layer 0 */
    if (!f || fseek(f, 35000, SEEK_SET) != 0 || fputs("others", f) == EOF || fclose(f) != 0)
        exit(1);
    expect(c, "quantize -o %T/out.gguf --resume -t 1", NB_BAD_INPUT,
           "layer 0 in the partial file is not what the run wrote");
    expect(c, RUN "--restart", 0, NULL);
    check_same(c, &here, "out.gguf", "sound.gguf", true);
    gone("out.gguf");
}

/* The lock is held as a running process holds it: by this one. */
static void two_writers(check *c)
{
    char want[128];
    leave_unfinished(c);
    FILE *f = fopen(in("out.gguf.nibble/lock"), "r+");
    CHECK(c, f && flock(fileno(f), LOCK_EX | LOCK_NB) == 0);
    fprintf(f, "%ld\n", (long)getpid());
    fflush(f);
    snprintf(want, sizeof want, "out.gguf.nibble/lock: process %ld is writing it", (long)getpid());
    expect(c, RUN, NB_LOCKED, want);
    expect(c, "quantize -o %T/out.gguf --resume --json", NB_LOCKED, want);
    expect(c, RUN "--restart", NB_LOCKED, want);
    fclose(f);
    expect(c, RUN, 0, NULL);
    check_same(c, &here, "out.gguf", "sound.gguf", true);
    gone("out.gguf");
}

/* Activations in a file give the same bytes. */
static void little_memory(check *c)
{
    int64_t most = 0, least = 0;
    outcome o = program_run(&here, MANY "--json --dry-run", OUT_CAPTURED);
    const char *p = strstr(o.out, "\"plan_bytes\":");
    CHECK(c, p != NULL);
    most = p ? atoll(p + 13) : 0;
    CHECK(c, most > (1 << 21));
    program_free(&o);
    o = program_run(&here, MANY "--memory 100K", OUT_CAPTURED);
    CHECK_EQ(c, o.code, NB_NO_ROOM);
    CHECK_HAS(c, o.err, "hint: ");
    program_free(&o);
    char line[300];
    /* the least budget that is taken */
    for (int64_t kib = 256; kib < most / 1024 && !least; kib += 128) {
        snprintf(line, sizeof line, "%s--dry-run --memory %lldK", MANY, (long long)kib);
        o = program_run(&here, line, OUT_CAPTURED);
        least = o.code == 0 ? kib : 0;
        CHECK(c, o.code == 0 || o.code == NB_NO_ROOM);
        program_free(&o);
    }
    CHECK(c, least > 256 && least * 1024 < most);
    /* what the process itself holds differs from run to run */
    snprintf(line, sizeof line, "%s--json --memory %lldK", MANY,
             (long long)((least + most / 1024) / 2));
    o = program_run(&here, line, OUT_CAPTURED);
    CHECK_EQ(c, o.code, 0);
    CHECK(c, strstr(o.out, "\"spill_bytes\":") && !strstr(o.out, "\"spill_bytes\":0,"));
    program_free(&o);
    expect(c,
           "quantize %T/tiny.gguf -o %T/plain.gguf -t 1 -q --calib %T/text.txt --samples 64 -c 64",
           0, NULL);
    check_same(c, &here, "out.gguf", "plain.gguf", true);
    gone("out.gguf");
    gone("plain.gguf");
}

static void some_layers(check *c)
{
    expect(c, RUN "--layers 1:2 --json", 0, "\"extrapolated\":{\"layers\":2,");
    expect(c, "inspect %T/out.gguf --tensors", 0,
           "blk.0.ffn_down.weight                        f16    [64,64] 8192\n");
    expect(c, "inspect %T/out.gguf --tensors", 0,
           "blk.1.ffn_down.weight                        q4_0   [64,64] 2304\n");
    expect(c, "inspect %T/out.gguf --verify --json", 0, NULL);
    gone("out.gguf");
    /* quantizing layer 0 alone gives its tensors the bytes they have when all are quantized */
    size_t n = 0, m = 0;
    expect(c, RUN "--layers 0:1", 0, NULL);
    char *one = folder_bytes(&here, "out.gguf.manifest.json", &n),
         *all = folder_bytes(&here, "sound.gguf.manifest.json", &m);
    const char *a = strstr(one, "{\"name\":\"blk.0.ffn_down.weight\""),
               *b = strstr(all, "{\"name\":\"blk.0.ffn_down.weight\"");
    CHECK(c, a && b && strncmp(a, b, 120) == 0);
    free(one);
    free(all);
    gone("out.gguf");
}

static void verified(check *c)
{
    size_t n = 0;
    expect(c, "inspect %T/sound.gguf --verify --json", 0, NULL);
    char *p = folder_bytes(&here, "sound.gguf", &n);
    p[n - 200] = (char)(p[n - 200] ^ 4);
    folder_write(&here, "bad.gguf", p, n);
    free(p);
    p = folder_bytes(&here, "sound.gguf.manifest.json", &n);
    folder_write(&here, "bad.gguf.manifest.json", p, n);
    expect(c, "inspect %T/bad.gguf --verify --json", NB_NEGATIVE,
           "does not have the hash of the manifest");
    free(p);
    static const char no_name[] = "{\"manifest\":1,\"tensors\":[{}],\"head\":{}}",
                      none[] = "{\"manifest\":1,\"tensors\":[],\"head\":{}}";
    folder_write(&here, "bad.gguf.manifest.json", no_name, sizeof no_name - 1);
    expect(c, "inspect %T/bad.gguf --verify", NB_BAD_INPUT,
           "an entry without name, type, bytes and sha256");
    folder_write(&here, "bad.gguf.manifest.json", none, sizeof none - 1);
    expect(c, "inspect %T/bad.gguf --verify", NB_NEGATIVE, "the manifest has 0");
    gone("bad.gguf");
}

/* Takes what room a file system still has. */
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

/* The run found no room. Frees what it says is missing, in whole pages. */
static void free_what_it_says(check *c, const char *line, const char *filler, long least)
{
    char *end = NULL;
    struct stat sb;
    outcome o = program_run(&here, line, OUT_CAPTURED);
    CHECK_EQ(c, o.code, NB_NO_ROOM);
    CHECK_HAS(c, o.err, "out.gguf: the disk is full: ");
    const char *at = strstr(o.err, "full: ");
    const long n = at ? strtol(at + 6, &end, 10) : 0;
    CHECK_HAS(c, end ? end : "", " bytes are missing for all of the run");
    if (n < least)
        check_report(c, __FILE__, __LINE__, "only %ld of at least %ld bytes: %s", n, least, o.err);
    CHECK(c, stat(filler, &sb) == 0 && sb.st_size > n &&
                 truncate(filler, (off_t)((sb.st_size - n) / 4096 * 4096)) == 0);
    program_free(&o);
}

/* A file system of 1 MiB: full at the start, then full in the middle. Each time the run goes on
 * when there is room. */
static void full_disk(check *c)
{
    char small[1024], filler[1024], line[1400];
    struct stat sound;
    outcome o;
    folder_in(&here, "small", small);
    if (mkdir(small, 0700) != 0 || mount("tmpfs", small, "tmpfs", 0, "size=1m") != 0) {
        check_skip(
            c,
            "a small tmpfs cannot be mounted here; tests/fault/disk has full disks for everyone");
        rmdir(small);
        return;
    }
    snprintf(filler, sizeof filler, "%.900s/filler", small);
    snprintf(line, sizeof line,
             "quantize %%T/tiny.gguf -o %%T/small/out.gguf -t 1 -q --calib %%T/text.txt -c 16 "
             "--samples 4");
    fill_up(filler);
    CHECK_EQ(c, stat(in("sound.gguf"), &sound), 0);
    free_what_it_says(c, line, filler, sound.st_size);
    /* not one byte was free: nothing stays that --resume could not use */
    CHECK(c, !there("small/out.gguf.nibble"));
    o = program_run(&here, line, OUT_CAPTURED);
    CHECK_EQ(c, o.code, 0);
    program_free(&o);
    gone("small/out.gguf");
    fill_up(filler);
    /* room for the journal, not for the file */
    CHECK_EQ(c, truncate(filler, (1 << 20) - (64 << 10)), 0);
    o = program_run(&here, line, OUT_CAPTURED);
    CHECK_EQ(c, o.code, NB_NO_ROOM);
    CHECK_HAS(c, o.err, "bytes are missing");
    program_free(&o);
    CHECK(c, !there("small/out.gguf.nibble"));
    unlink(filler);
    setenv("NIBBLE_CRASH_AT", "after-append:3", 1);
    o = program_run(&here, line, OUT_CAPTURED);
    CHECK_EQ(c, o.code, 128 + SIGKILL);
    program_free(&o);
    unsetenv("NIBBLE_CRASH_AT");
    fill_up(filler);
    o = program_run(&here, line, OUT_CAPTURED);
    CHECK_EQ(c, o.code, NB_NO_ROOM); /* at the latest where the manifest needs a page */
    CHECK_HAS(c, o.err, "bytes are missing");
    CHECK_HAS(c, o.err, "--resume");
    CHECK(c, there("small/out.gguf.nibble/journal") && !there("small/out.gguf"));
    program_free(&o);
    unlink(filler);
    o = program_run(&here, line, OUT_CAPTURED);
    CHECK_EQ(c, o.code, 0);
    program_free(&o);
    check_same(c, &here, "small/out.gguf", "sound.gguf", true);
    gone("small/out.gguf");
    fill_up(filler); /* now a page for the lock, and then a run that has its file already */
    CHECK_EQ(c, truncate(filler, (1 << 20) - 4096), 0);
    free_what_it_says(c, line, filler, sound.st_size - 4096);
    setenv("NIBBLE_CRASH_AT", "after-append:3", 1);
    o = program_run(&here, line, OUT_CAPTURED);
    CHECK_EQ(c, o.code, 128 + SIGKILL);
    program_free(&o);
    unsetenv("NIBBLE_CRASH_AT");
    fill_up(filler);
    free_what_it_says(c, line, filler, 1);
    o = program_run(&here, line, OUT_CAPTURED);
    CHECK_EQ(c, o.code, 0);
    program_free(&o);
    check_same(c, &here, "small/out.gguf", "sound.gguf", true);
    CHECK_EQ(c, umount(small), 0);
    rmdir(small);
}

static void planned(check *c)
{
    expect(c, "plan %T/tiny.gguf --ctx 32 --batch 2 --json", 0, "{\"weights_bytes\":");
    /* 2 layers x (k, v) x a page of 64 tokens x 1 head x 32 x f32 */
    expect(c, "plan %T/tiny.gguf --ctx 32 --json --exact", 0, "\"kv_bytes\":32768,");
    /* 2 x 2 x (2048 codes and 64 scales of f16) */
    expect(c, "plan %T/tiny.gguf --ctx 32 --json --kv-type q8", 0, "\"kv_bytes\":8704,");
    expect(c, "plan %T/tiny.gguf --ctx 32 --json --exact --device ref --offload 1", 0,
           "\"offload\":1,\"cpu\":{\"weights_bytes\":");
    expect(c, "plan %T/tiny.gguf --ctx 32 --exact --device ref -ngl 1", 0,
           "layers 0:1 of 2 on cpu");
    expect(c, "plan %T/tiny.gguf --ctx 100000", NB_BAD_INPUT, "a context of 100000 tokens");
    expect(c, "plan %T/none.gguf", NB_NOT_FOUND, "none.gguf: cannot open");
    expect(c, "plan", NB_USAGE, "MODEL is missing");
}

static const check_case cases[] = {
    {"other settings than the unfinished run's are refused, each by name", other_settings},
    {"a journal or a partial file that was changed is never taken for true", changed_work},
    {"a second writer is told the first one's number", two_writers},
    {"activations in a file give the same bytes", little_memory},
    {"a range of layers is quantized, the others are copied", some_layers},
    {"a manifest holds every tensor to its hash", verified},
    {"a full disk is exit 6, and the run goes on when there is room", full_disk},
    {"plan says what a model takes", planned},
    {"an input that changed since is refused", changed_input},
};

int main(int argc, char **argv)
{
    static const tiny_shape shape = {
        .n_layer = 2, .hidden = 64, .ffn = 64, .n_head = 2, .n_kv_head = 1, .ctx = 64};
    nb_error err = {.offset = -1};
    here = folder_new();
    write_text("text.txt", "the heath thaws then the other ");
    write_text("others.txt", "another text than that ");
    if (tiny_gguf_write(in("tiny.gguf"), &shape, &err) != NB_OK ||
        tiny_gguf_write(in("other.gguf"), &shape, &err) != NB_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    outcome o = program_run(
        &here,
        "quantize %T/tiny.gguf -o %T/sound.gguf -t 1 -q --calib %T/text.txt -c 16 --samples 4",
        OUT_CAPTURED);
    if (o.code) {
        fprintf(stderr, "%s\n", o.err);
        return 1;
    }
    program_free(&o);
    const int rc = check_main(cases, sizeof cases / sizeof *cases, argc, argv);
    folder_gone(&here);
    return rc;
}
