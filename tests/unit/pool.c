/* pool.c -- the pool of threads runs every task once, whatever the sizes, and survives many short
 * jobs. */
#include "base/pool.h"
#include "check.h"

#include <stdatomic.h>

enum { kMost = 5000, kWorkers = 4 };

struct seen {
    _Atomic int count[kMost];
    _Atomic int64_t sum;
    _Atomic int bad_worker;
    int64_t job; /* told to every task: a task of another job would add the wrong number */
};

static void count_task(const void *arg, int64_t i, int worker)
{
    struct seen *s = (struct seen *)(uintptr_t)arg;
    atomic_fetch_add(&s->count[i], 1);
    atomic_fetch_add(&s->sum, s->job + i);
    if (worker < 0 || worker >= kWorkers)
        atomic_store(&s->bad_worker, 1);
}

static void run_once(check *c, nb_pool *p, struct seen *s, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        atomic_store(&s->count[i], 0);
    atomic_store(&s->sum, 0);
    nb_pool_run(p, n, count_task, s);
    int64_t bad = 0;
    for (int64_t i = 0; i < n; i++)
        bad += atomic_load(&s->count[i]) != 1;
    CHECK_EQ(c, bad, 0);
    CHECK_EQ(c, atomic_load(&s->sum), n * s->job + n * (n - 1) / 2);
    s->job++;
}

static void every_task_once(check *c)
{
    static struct seen s;
    static const int64_t sizes[] = {0, 1, 2, 3, 7, 31, 32, 33, 1000, kMost};
    nb_error err = {.message = ""};
    for (int threads = 0; threads <= kWorkers; threads++) {
        nb_pool *p = NULL;
        if (threads > 0)
            CHECK_EQ(c, nb_pool_open(threads, &p, &err), NB_OK);
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            run_once(c, p, &s, sizes[i]);
        nb_pool_close(p);
    }
    CHECK_EQ(c, atomic_load(&s.bad_worker), 0);
}

/* Two job records take turns: jobs of changing size, one upon the other, must not see each
 * other's. */
static void short_jobs(check *c)
{
    static struct seen s[2];
    nb_error err = {.message = ""};
    nb_pool *p = NULL;
    CHECK_EQ(c, nb_pool_open(kWorkers, &p, &err), NB_OK);
    for (int i = 0; i < 20000; i++)
        run_once(c, p, &s[i % 2], 1 + i * 7 % 41);
    nb_pool_close(p);
}

static void opens_and_closes(check *c)
{
    nb_error err = {.message = ""};
    for (int i = 0; i < 200; i++) {
        nb_pool *p = NULL;
        CHECK_EQ(c, nb_pool_open(1 + i % kWorkers, &p, &err), NB_OK);
        if (i % 3 == 0) {
            static struct seen s;
            run_once(c, p, &s, i);
        }
        nb_pool_close(p);
    }
    nb_pool_close(NULL);
}

static const check_case cases[] = {
    {"every task of a job runs once, with any number of threads", every_task_once},
    {"twenty thousand short jobs keep apart", short_jobs},
    {"a pool opens and closes, used or not", opens_and_closes},
};
CHECK_MAIN(cases)
