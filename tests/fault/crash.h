/* crash.h -- a quantization is killed at every point its safety rests on (NIBBLE_CRASH_AT,
 * base/crash.h) and at moments drawn by chance, and then gone on with: the same bytes as without,
 * no final name on anything but the whole output, nothing left in the end. crash.c does so with a
 * GGUF file, crash_folder.c with a folder: they define `job` and include this. */
#ifndef NB_TESTS_FAULT_CRASH_H
#define NB_TESTS_FAULT_CRASH_H

#include "base/random.h"
#include "check.h"
#include "cli/program.h"
#include "tiny_gguf.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

typedef struct crash_job {
    const char *out;    /* begins with "out"; what a run without faults wrote is kept under the same
                      * name with "sound" for "out" */
    const char *beside; /* another file of the output, or NULL */
    const char *run;    /* the command; */
    const char *resume; /* going on with it; */
    const char *inspect; /* and looking at what it wrote */
    int n_by_chance;
} crash_job;

static const crash_job job;
static folder here;

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

/* ---- what was written, beside what should be ---- */

static const char *sound_of(const char *name, char to[256])
{
    snprintf(to, 256, "sound%.240s", name + strlen("out"));
    return to;
}

static void same_file(check *c, const char *name, const char *when)
{
    char sound[256];
    size_t n = 0, want_n = 0;
    char *p = folder_bytes(&here, name, &n),
         *want = folder_bytes(&here, sound_of(name, sound), &want_n);
    c->n_check++;
    if (!want_n || n != want_n || memcmp(p, want, n) != 0)
        check_report(c, __FILE__, __LINE__,
                     "%s: %s has %zu bytes or others than the %zu of a run without faults", when,
                     name, n, want_n);
    free(p);
    free(want);
}

/* How many names the folder has, each of which must be in the other one too when c is given. */
static int same_names(check *c, const char *name, const char *when)
{
    char path[1024], in[256];
    struct stat sb;
    int n = 0;
    DIR *dir = opendir(folder_in(&here, name, path));
    for (const struct dirent *e; dir && (e = readdir(dir));) {
        if (e->d_name[0] == '.')
            continue;
        n++;
        snprintf(in, sizeof in, "%.60s/%.190s", name, e->d_name);
        if (c && (stat(folder_in(&here, in, path), &sb) != 0 || (sb.st_mode & 0777) == 0600))
            check_report(c, __FILE__, __LINE__, "%s: %s is for its owner only", when, in);
        if (c)
            same_file(c, in, when);
    }
    if (dir)
        closedir(dir);
    return n;
}

static void same(check *c, const char *name, const char *when)
{
    char path[1024], sound[256];
    struct stat sb;
    if (stat(folder_in(&here, name, path), &sb) == 0 && S_ISDIR(sb.st_mode))
        CHECK_EQ(c, same_names(c, name, when), same_names(NULL, sound_of(name, sound), when));
    else
        same_file(c, name, when);
}

static void same_results(check *c, const char *when)
{
    same(c, job.out, when);
    if (job.beside)
        same(c, job.beside, when);
}

static void remove_results(void)
{
    char path[1024];
    folder_remove(folder_in(&here, job.out, path));
    if (job.beside)
        folder_remove(folder_in(&here, job.beside, path));
}

/* ---- kills ---- */

/* After a kill: what is under a final name is whole; going on gives what a run without faults
 * gives; nothing else is left. */
static void check_goes_on(check *c, const char *when, int turn)
{
    char message[256] = "", journal[256];
    snprintf(journal, sizeof journal, "%s.nibble/journal", job.out);
    if (there(job.out)) {
        same(c, job.out, when);
        CHECK_EQ(c, run(job.inspect, message), 0);
    }
    int code = there(journal) && turn % 2 ? run(job.resume, message) : run(job.run, message);
    /* killed before its settings were written: there is nothing to go on with, and it says so */
    if (code == 3 && turn % 2)
        code = run(job.run, message);
    /* it was done: a folder is never replaced, and what was left of the work goes */
    if (code == 7 && !job.beside && there(job.out))
        code = 0;
    c->n_check++;
    if (code != 0)
        check_report(c, __FILE__, __LINE__, "%s: going on ends with %d: %s", when, code, message);
    same_results(c, when);
    DIR *dir = opendir(here.path);
    for (const struct dirent *e; dir && (e = readdir(dir));)
        if (e->d_name[0] != '.' && strcmp(e->d_name, "tiny.gguf") != 0 &&
            strcmp(e->d_name, "text.txt") != 0 && strncmp(e->d_name, "sound", 5) != 0 &&
            strcmp(e->d_name, job.out) != 0 && (!job.beside || strcmp(e->d_name, job.beside) != 0))
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
        const int code = run(job.run, message);
        unsetenv("NIBBLE_CRASH_AT");
        if (code == 0) { /* the point is passed fewer times */
            same_results(c, at);
            remove_results();
            return n - 1;
        }
        CHECK_EQ(c, code, 128 + SIGKILL);
        check_goes_on(c, at, n);
        if (c->n_fail > 20 || n > 1000)
            return n;
    }
}

static void by_chance(check *c)
{
    nb_rng r;
    /* other moments every time; what must hold does not depend on them */
    nb_rng_seed(&r, (uint64_t)time(NULL));
    for (int i = 0; i < job.n_by_chance; i++) {
        char when[64];
        int err = -1;
        const long us = (long)(nb_rng_u64(&r) % 60000);
        const pid_t pid = program_start(&here, job.run, &err);
        const struct timespec nap = {.tv_nsec = us * 1000};
        nanosleep(&nap, NULL);
        kill(pid, SIGKILL);
        close(err);
        (void)program_wait(pid);
        snprintf(when, sizeof when, "killed after %ld us", us);
        check_goes_on(c, when, i);
    }
}

/* The input, and the output of a run without faults. */
static bool crash_begin(void)
{
    static const tiny_shape shape = {
        .n_layer = 2, .hidden = 64, .ffn = 64, .n_head = 2, .n_kv_head = 1, .ctx = 64};
    char path[1024], to[1024], sound[256], text[1024] = "", message[256] = "";
    nb_error err = {.offset = -1};
    here = folder_new();
    while (strlen(text) < 300)
        strcat(text, "the heath thaws then the other ");
    folder_write(&here, "text.txt", text, strlen(text));
    bool good = tiny_gguf_write(folder_in(&here, "tiny.gguf", path), &shape, &err) == NB_OK &&
                run(job.run, message) == 0;
    good = good && rename(folder_in(&here, job.out, path),
                          folder_in(&here, sound_of(job.out, sound), to)) == 0;
    good = good && (!job.beside || rename(folder_in(&here, job.beside, path),
                                          folder_in(&here, sound_of(job.beside, sound), to)) == 0);
    if (!good)
        fprintf(stderr, "%s%s\n", err.message, message);
    return good;
}

static int crash_main(const check_case *cases, size_t n, int argc, char **argv)
{
    if (!crash_begin())
        return 1;
    const int rc = check_main(cases, n, argc, argv);
    folder_gone(&here);
    return rc;
}

#endif
