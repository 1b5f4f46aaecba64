/* pull.c -- `nibble pull ORG/REPO[@REVISION]`: fetches a model of the hub into the cache; its
 * folder goes to stdout. */
#include "base/clock.h"
#include "base/status.h"
#include "out.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static const nb_flag flags[] = {
    {"include", 0, "PATTERN",
     "only files that match, such as '*Q4_K_M*'; may be given several times"},
    {"dry-run", 0, NULL, "say what would be fetched, write nothing"},
    {NULL, 0, NULL, NULL},
};

/* The one thing of the program that is not on a stack: a signal handler gets no argument. */
static volatile sig_atomic_t interrupted;

static void on_signal(int s)
{
    interrupted = s;
}

typedef struct shown {
    bool quiet, terminal;
    int64_t last_ns;
    const char *name; /* the repository's */
} shown;

static void progress(void *arg, const char *file, int64_t done, int64_t bytes, int64_t all_done,
                     int64_t all_bytes)
{
    shown *s = arg;
    const int64_t now = nb_clock_ns();
    if (s->quiet || interrupted)
        return;
    if (s->terminal && now - s->last_ns > 100000000) { /* ten times a second */
        fprintf(stderr, "\r\x1b[K%.1f of %.1f MB  %.60s", (double)all_done * 1e-6,
                (double)all_bytes * 1e-6, file);
        s->last_ns = now;
    }
    if (done == bytes && !s->terminal)
        fprintf(stderr, "%s  %.1f MB  (%.1f of %.1f MB)\n", file, (double)bytes * 1e-6,
                (double)all_done * 1e-6, (double)all_bytes * 1e-6);
}

static bool stopped(void *arg)
{
    (void)arg;
    return interrupted != 0;
}

static void print_json(const nb_pull_options *o, const nb_pull_result *r)
{
    printf("{\"name\":");
    nb_put_json(stdout, o->name, strlen(o->name));
    printf(",\"commit\":\"%s\",\"path\":", r->commit);
    nb_put_json(stdout, r->path, strlen(r->path));
    printf(",\"bytes\":%lld,\"fetched_bytes\":%lld,\"dry_run\":%s,\"files\":[", (long long)r->bytes,
           (long long)r->fetched_bytes, o->dry_run ? "true" : "false");
    for (size_t i = 0; i < r->n_file; i++) {
        printf("%s{\"name\":", i ? "," : "");
        nb_put_json(stdout, r->files[i].name, strlen(r->files[i].name));
        printf(",\"bytes\":%lld,\"cached\":%s}", (long long)r->files[i].bytes,
               r->files[i].cached ? "true" : "false");
    }
    printf("]}\n");
}

static void print_text(const nb_pull_options *o, const nb_pull_result *r)
{
    for (size_t i = 0; o->dry_run && i < r->n_file; i++)
        printf("%-60s %12lld%s\n", r->files[i].name, (long long)r->files[i].bytes,
               r->files[i].cached ? "  there" : "");
    if (o->dry_run)
        printf("%zu files, %.1f MB, of which %.1f MB would be fetched into\n", r->n_file,
               (double)r->bytes * 1e-6, (double)r->fetched_bytes * 1e-6);
    printf("%s\n", r->path);
}

/* Signals end the transfers, which are gone on with by the same command. */
static void watch_signals(void)
{
    struct sigaction a = {.sa_handler = on_signal};
    sigemptyset(&a.sa_mask);
    a.sa_flags = (int)SA_RESETHAND; /* the second one ends the program at once */
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
}

static nb_status run(const nb_args *a, nb_error *err)
{
    const char *pattern[NB_MAX_FLAGS];
    const struct rlimit none = {0};
    nb_pull_result r = {.n_file = 0};
    shown s = {.quiet = nb_flag_on(a, "quiet"), .terminal = isatty(STDERR_FILENO) == 1};
    nb_pull_options o = {.include = pattern,
                         .dry_run = nb_flag_on(a, "dry-run"),
                         .progress = progress,
                         .stopped = stopped,
                         .arg = &s};
    nb_status st = nb_need_operand(a, "ORG/REPO", err);
    if (st != NB_OK)
        return st;
    o.name = s.name = a->operand[0];
    for (int i = 0; i < a->n; i++)
        if (strcmp(a->flag[i]->name, "include") == 0)
            pattern[o.n_include++] = a->value[i];
    (void)setrlimit(RLIMIT_CORE, &none); /* the token must not land in a core file */
    watch_signals();
    st = nb_pull(&o, &r, err);
    if (s.last_ns)
        fprintf(stderr, "\r\x1b[K");
    if (st == NB_INTERRUPTED)
        nb_hint(err, "the same command goes on with it: nibble pull %.200s", o.name);
    if (st == NB_OK && nb_flag_on(a, "json"))
        print_json(&o, &r);
    else if (st == NB_OK)
        print_text(&o, &r);
    nb_pull_result_free(&r);
    return st;
}

const nb_command nb_command_pull = {.name = "pull",
                                    .operands = "ORG/REPO[@REVISION]",
                                    .summary = "Fetches a model of the hub into its cache.",
                                    .flags = flags,
                                    .run = run,
                                    .n_operand = 1};
