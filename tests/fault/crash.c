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

#define RUN "quantize %T/tiny.gguf -o %T/out.gguf --calib %T/text.txt --samples 2 -c 16 -t 1 -q"
#define RESUME "quantize -o %T/out.gguf --resume -t 1 -q"

static folder here;
static char *sound, *sound_manifest;
static size_t sound_n, sound_manifest_n;

static char *read_all(const char *name, size_t *n)
{
    enum { kMost = 1 << 21 };
    char path[1024], *p = calloc(1, kMost);
    FILE *f = fopen(folder_in(&here, name, path), "rb");
    if (!p)
        exit(1);
    *n = f ? fread(p, 1, kMost, f) : 0;
    if (f)
        fclose(f);
    return p;
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
    unlink(folder_in(&here, "out.gguf", path));
    unlink(folder_in(&here, "out.gguf.manifest.json", path));
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

/* After a kill: what is under a final name is whole; going on gives what a run without faults gives; nothing else is left. */
static void check_goes_on(check *c, const char *when, int turn)
{
    char message[256] = "", line[256];
    outcome o;
    if (there("out.gguf")) {
        same(c, "out.gguf", sound, sound_n, when);
        o = program_run(&here, "inspect %T/out.gguf --verify --json", OUT_CAPTURED);
        CHECK_EQ(c, o.code, 0);
        program_free(&o);
    }
    const bool journal = there("out.gguf.nibble/journal");
    int code = journal && turn % 2 ? run(RESUME, message) : run(RUN, message);
    if (code == 3 && turn % 2) /* killed before its settings were written: there is nothing to go on with, and it says so */
        code = run(RUN, message);
    c->n_check++;
    if (code != 0)
        check_report(c, __FILE__, __LINE__, "%s: going on ends with %d: %s", when, code, message);
    same(c, "out.gguf", sound, sound_n, when);
    same(c, "out.gguf.manifest.json", sound_manifest, sound_manifest_n, when);
    snprintf(line, sizeof line, "%s", when);
    DIR *dir = opendir(here.path);
    for (const struct dirent *e; dir && (e = readdir(dir));)
        if (e->d_name[0] != '.' && strcmp(e->d_name, "tiny.gguf") != 0 && strcmp(e->d_name, "text.txt") != 0 && strcmp(e->d_name, "out.gguf") != 0 &&
            strcmp(e->d_name, "out.gguf.manifest.json") != 0)
            check_report(c, __FILE__, __LINE__, "%s: %s is left", line, e->d_name);
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
        const int code = run(RUN, message);
        unsetenv("NIBBLE_CRASH_AT");
        if (code == 0) { /* the point is passed fewer times */
            same(c, "out.gguf", sound, sound_n, at);
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
    CHECK_EQ(c, killed_at(c, "before-rename"), 4); /* calib; manifest into the work folder, the file, the manifest */
    CHECK_EQ(c, killed_at(c, "after-rename"), 4);
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
        const pid_t pid = program_start(&here, RUN, &err);
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
    CHECK_EQ(c, run(RUN, message), 128 + SIGKILL);
    unsetenv("NIBBLE_CRASH_AT");
    same(c, "out.gguf", "old", 3, "before the rename");
    CHECK(c, !there("out.gguf.manifest.json")); /* no manifest that speaks of the other file */
    CHECK_EQ(c, run(RESUME, message), 0);
    same(c, "out.gguf", sound, sound_n, "after the rename");
    same(c, "out.gguf.manifest.json", sound_manifest, sound_manifest_n, "after the rename");
    remove_results();
}

static const check_case cases[] = {
    {"a kill at any write is gone on from", writes},
    {"a kill around any sync is gone on from", syncs},
    {"a kill around any record of the journal is gone on from", appends},
    {"a kill around any rename is gone on from", renames},
    {"a kill while the work folder is removed is gone on from", removal},
    {"a kill at any moment is gone on from", by_chance},
    {"the file that was there stays until the new one takes its name", replaced},
};

int main(int argc, char **argv)
{
    static const tiny_shape shape = {.n_layer = 2, .hidden = 64, .ffn = 64, .n_head = 2, .n_kv_head = 1, .ctx = 64};
    char path[1024], text[1024] = "", message[256] = "";
    nb_error err = {.offset = -1};
    here = folder_new();
    while (strlen(text) < 300)
        strcat(text, "the heath thaws then the other ");
    folder_write(&here, "text.txt", text, strlen(text));
    if (tiny_gguf_write(folder_in(&here, "tiny.gguf", path), &shape, &err) != NB_OK || run(RUN, message) != 0) {
        fprintf(stderr, "%s%s\n", err.message, message);
        return 1;
    }
    sound = read_all("out.gguf", &sound_n);
    sound_manifest = read_all("out.gguf.manifest.json", &sound_manifest_n);
    remove_results();
    const int rc = check_main(cases, sizeof cases / sizeof *cases, argc, argv);
    free(sound);
    free(sound_manifest);
    folder_gone(&here);
    return rc;
}
