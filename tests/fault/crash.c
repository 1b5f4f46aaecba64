/* crash.c -- a quantization is killed at every point its safety rests on (NIBBLE_CRASH_AT, base/crash.h) and at 25 moments drawn by chance, and then
 * gone on with: the same bytes as without, no final name on anything but the whole file, nothing left in the end. */
#include "base/random.h"
#include "check.h"
#include "cli/program.h"
#include "tiny_gguf.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#define SETTINGS " --calib %T/text.txt --samples 2 -c 16 -t 1 -q"

/* What is written: a file with its manifest beside it, or a folder of packed weights with all of its files. */
typedef struct target {
    const char *run, *resume, *verify;
    const char *out, *beside; /* beside: NULL, or the manifest's name */
    const char *journal;
} target;
static const target gguf = {"quantize %T/tiny.gguf -o %T/out.gguf" SETTINGS, "quantize -o %T/out.gguf --resume -t 1 -q",
                            "inspect %T/out.gguf --verify --json", "out.gguf", "out.gguf.manifest.json", "out.gguf.nibble/journal"};
static const target packed = {"quantize %T/tiny.gguf -o %T/out --format gptq" SETTINGS, "quantize -o %T/out --resume -t 1 -q",
                              "inspect %T/out --verify --json", "out", NULL, "out.nibble/journal"};

static folder here;
static const target *to;
static char *sound, *sound_manifest;
static size_t sound_n, sound_manifest_n;

static char *read_all(const char *name, size_t *n)
{
    char path[1024];
    return folder_read(folder_in(&here, name, path), n);
}

static bool there(const char *name)
{
    char path[1024];
    return access(folder_in(&here, name, path), F_OK) == 0;
}

static int run(const char *line, char message[256])
{
    outcome o = program_run(&here, line, OUT_CAPTURED);
    const int code = o.code;
    snprintf(message, 256, "%.255s", o.err);
    program_free(&o);
    return code;
}

static void remove_results(void)
{
    char path[1024];
    folder_remove(folder_in(&here, to->out, path));
    if (to->beside)
        unlink(folder_in(&here, to->beside, path));
}

static void same(check *c, const char *name, const char *want, size_t want_n, const char *when)
{
    size_t n = 0;
    char *p = read_all(name, &n);
    c->n_check++;
    if (n != want_n || memcmp(p, want, n) != 0)
        check_report(c, __FILE__, __LINE__, "%s: %s has %zu bytes or others than the %zu of a run without faults", when, name, n, want_n);
    free(p);
}

static void same_results(check *c, const char *when)
{
    same(c, to->out, sound, sound_n, when);
    if (to->beside)
        same(c, to->beside, sound_manifest, sound_manifest_n, when);
}

/* After a kill: what is under a final name is whole; going on gives what a run without faults gives; nothing else is left. */
static void check_goes_on(check *c, const char *when, int turn)
{
    char message[256] = "";
    outcome o;
    if (there(to->out)) {
        same(c, to->out, sound, sound_n, when);
        o = program_run(&here, to->verify, OUT_CAPTURED);
        CHECK_EQ(c, o.code, 0);
        program_free(&o);
    }
    const bool done = !to->beside && there(to->out) && !there(to->journal); /* killed behind its end: a folder is not written twice */
    int code = there(to->journal) && turn % 2 ? run(to->resume, message) : run(to->run, message);
    if (code == 3 && turn % 2) /* killed before its settings were written: there is nothing to go on with, and it says so */
        code = run(to->run, message);
    c->n_check++;
    if (code != (done ? 7 : 0))
        check_report(c, __FILE__, __LINE__, "%s: going on ends with %d: %s", when, code, message);
    same_results(c, when);
    DIR *dir = opendir(here.path);
    for (const struct dirent *e; dir && (e = readdir(dir));)
        if (e->d_name[0] != '.' && strcmp(e->d_name, "tiny.gguf") != 0 && strcmp(e->d_name, "text.txt") != 0 && strcmp(e->d_name, to->out) != 0 &&
            !(to->beside && strcmp(e->d_name, to->beside) == 0))
            check_report(c, __FILE__, __LINE__, "%s: %s is left", when, e->d_name);
    if (dir)
        closedir(dir);
    remove_results();
}

static int killed_at(check *c, const char *point)
{
    char at[64], message[256];
    for (int n = 1;; n++) {
        snprintf(at, sizeof at, "%s:%d", point, n);
        setenv("NIBBLE_CRASH_AT", at, 1);
        const int code = run(to->run, message);
        unsetenv("NIBBLE_CRASH_AT");
        if (code == 0) { /* the point is passed fewer times */
            same(c, to->out, sound, sound_n, at);
            remove_results();
            return n - 1;
        }
        CHECK_EQ(c, code, 128 + SIGKILL);
        check_goes_on(c, at, n);
        if (c->n_fail > 20 || n > 1000)
            return n;
    }
}

static void writes(check *c)
{
    CHECK(c, killed_at(c, "before-write") > 20);
    CHECK(c, killed_at(c, "after-write") > 20);
}

static void syncs(check *c)
{
    CHECK(c, killed_at(c, "before-sync") >= 5); /* calib, two layers, the ends, the file, the manifest */
    CHECK(c, killed_at(c, "after-sync") >= 5);
}

static void appends(check *c)
{
    CHECK_EQ(c, killed_at(c, "before-append"), 5); /* begin, calib, two layers, the ends */
    CHECK_EQ(c, killed_at(c, "half-append"), 5);
    CHECK_EQ(c, killed_at(c, "after-append"), 5);
}

static void renames(check *c)
{
    const int n = killed_at(c, "before-rename"); /* calib; manifest into the work folder, the file, the manifest; of a folder each of its files, then itself */
    CHECK(c, to->beside ? n == 4 : n >= 7);
    CHECK_EQ(c, killed_at(c, "after-rename"), n);
}

static void removal(check *c)
{
    CHECK_EQ(c, killed_at(c, "before-remove"), 2);
}

static void by_chance(check *c)
{
    nb_rng r;
    nb_rng_seed(&r, (uint64_t)time(NULL)); /* other moments every time; what must hold does not depend on them */
    for (int i = 0; i < 25; i++) {
        char when[64];
        int err = -1;
        const long us = (long)(nb_rng_u64(&r) % 60000);
        const pid_t pid = program_start(&here, to->run, &err);
        const struct timespec nap = {.tv_nsec = us * 1000};
        nanosleep(&nap, NULL);
        kill(pid, SIGKILL);
        close(err);
        (void)program_wait(pid);
        snprintf(when, sizeof when, "killed after %ld us", us);
        check_goes_on(c, when, i);
    }
}

static void replaced(check *c)
{
    char message[256];
    folder_write(&here, "out.gguf", "old", 3);
    folder_write(&here, "out.gguf.manifest.json", "old", 3);
    setenv("NIBBLE_CRASH_AT", "before-rename:3", 1); /* the file's */
    CHECK_EQ(c, run(to->run, message), 128 + SIGKILL);
    unsetenv("NIBBLE_CRASH_AT");
    same(c, "out.gguf", "old", 3, "before the rename");
    CHECK(c, !there("out.gguf.manifest.json")); /* no manifest that speaks of the other file */
    CHECK_EQ(c, run(to->resume, message), 0);
    same(c, "out.gguf", sound, sound_n, "after the rename");
    same(c, "out.gguf.manifest.json", sound_manifest, sound_manifest_n, "after the rename");
    remove_results();
}

/* The run without faults that all others are held to. */
static bool begin(const target *t)
{
    char message[256] = "";
    to = t;
    free(sound);
    free(sound_manifest);
    sound_manifest = NULL;
    if (run(to->run, message) != 0) {
        fprintf(stderr, "%s\n", message);
        return false;
    }
    sound = read_all(to->out, &sound_n);
    if (to->beside)
        sound_manifest = read_all(to->beside, &sound_manifest_n);
    remove_results();
    return true;
}

/* The same for a folder. */
static void into_a_folder(check *c)
{
    CHECK(c, begin(&packed));
    CHECK(c, sound_n > 10000);
    CHECK(c, killed_at(c, "before-write") > 20);
    syncs(c);
    appends(c);
    renames(c);
    removal(c);
    CHECK(c, begin(&gguf));
}

static void into_a_folder_by_chance(check *c)
{
    CHECK(c, begin(&packed));
    by_chance(c);
    CHECK(c, begin(&gguf));
}

static const check_case cases[] = {
    {"a kill at any write is gone on from", writes},
    {"a kill around any sync is gone on from", syncs},
    {"a kill around any record of the journal is gone on from", appends},
    {"a kill around any rename is gone on from", renames},
    {"a kill while the work folder is removed is gone on from", removal},
    {"a kill at any moment is gone on from", by_chance},
    {"a kill at any point while a folder is written is gone on from", into_a_folder},
    {"a kill at any moment while a folder is written is gone on from", into_a_folder_by_chance},
    {"the file that was there stays until the new one takes its name", replaced},
};

int main(int argc, char **argv)
{
    static const tiny_shape shape = {.n_layer = 2, .hidden = 64, .ffn = 64, .n_head = 2, .n_kv_head = 1, .ctx = 64};
    char path[1024], text[1024] = "";
    nb_error err = {.offset = -1};
    here = folder_new();
    while (strlen(text) < 300)
        strcat(text, "the heath thaws then the other ");
    folder_write(&here, "text.txt", text, strlen(text));
    if (tiny_gguf_write(folder_in(&here, "tiny.gguf", path), &shape, &err) != NB_OK || !begin(&gguf)) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    const int rc = check_main(cases, sizeof cases / sizeof *cases, argc, argv);
    free(sound);
    free(sound_manifest);
    folder_gone(&here);
    return rc;
}
