/* pool.c -- the shared tasks of pool.h.
 *
 * One 64-bit ticket holds the job's number (high half) and the next task (low half). To take a task
 * a thread reads the ticket, then the job's record, and moves the ticket on by compare-and-swap: it
 * succeeds only when no other job was announced in between, so the record read belongs to the task.
 * Records alternate between two places: the one of job j is rewritten for job j + 2, when the
 * ticket has long left j. */
#include "base/pool.h"
#include "base/memory.h"

#include <omp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
    kSpin = 4000, /* pauses of 10 to 40 ns: 40 to 160 us, the gap between two jobs of decoding is
                   * 2 to 20 */
    kShares = 8,  /* times that a thread takes tasks: a take costs some 100 ns, a row of
                  * activations is as short */
    kMostThreads = 1024,
    kPatience = 400 /* of them before a waiting caller offers its core to the thread it waits for */
};

struct record {
    _Atomic(nb_task) task;
    _Atomic(const void *) arg;
    _Atomic int64_t n, step; /* tasks; how many are taken at once */
};

struct worker {
    nb_pool *pool;
    pthread_t thread;
    int index;
};

struct nb_pool { /* what is written together lies in a cache line of its own */
    _Alignas(64) _Atomic uint64_t ticket;
    _Alignas(64) struct record record[2];
    _Alignas(64) _Atomic int64_t done; /* tasks of the job that are finished */
    _Alignas(64) _Atomic int sleeping;
    _Atomic int stop;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    int n_worker;
    struct worker worker[];
};

static inline void pause_a_little(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

/* Takes and runs tasks until the ticket's job has none left. What was run is counted once, at the
 * end: until then the job cannot end, nor the next one begin. */
static void work(nb_pool *p, int index)
{
    uint64_t t = atomic_load_explicit(&p->ticket, memory_order_acquire);
    int64_t ran = 0;
    for (;;) {
        struct record *r = &p->record[t >> 32 & 1];
        const int64_t i = (int64_t)(t & 0xffffffffu),
                      n = atomic_load_explicit(&r->n, memory_order_relaxed);
        const nb_task task = atomic_load_explicit(&r->task, memory_order_relaxed);
        const void *arg = atomic_load_explicit(&r->arg, memory_order_relaxed);
        const int64_t step = atomic_load_explicit(&r->step, memory_order_relaxed),
                      end = i + step < n ? i + step : n;
        if (i >= n)
            break;
        if (!atomic_compare_exchange_weak_explicit(&p->ticket, &t, t + (uint64_t)(end - i),
                                                   memory_order_acq_rel, memory_order_acquire))
            continue;
        for (int64_t k = i; k < end; k++)
            task(arg, k, index);
        ran += end - i;
        t = atomic_load_explicit(&p->ticket, memory_order_acquire);
    }
    if (ran)
        atomic_fetch_add_explicit(&p->done, ran, memory_order_release);
}

/* Until a job other than `seen` is announced; false: the pool closes. */
static bool next_job(nb_pool *p, uint32_t seen)
{
    for (int i = 0; i < kSpin; i++) {
        if (atomic_load_explicit(&p->ticket, memory_order_acquire) >> 32 != seen ||
            atomic_load_explicit(&p->stop, memory_order_relaxed))
            return !atomic_load(&p->stop);
        pause_a_little();
    }
    pthread_mutex_lock(&p->lock);
    /* before the ticket is looked at again: announce() writes the ticket, then looks here */
    atomic_fetch_add(&p->sleeping, 1);
    while (atomic_load(&p->ticket) >> 32 == seen && !atomic_load(&p->stop))
        pthread_cond_wait(&p->wake, &p->lock);
    atomic_fetch_sub(&p->sleeping, 1);
    pthread_mutex_unlock(&p->lock);
    return !atomic_load(&p->stop);
}

static void *run_worker(void *arg)
{
    struct worker *w = arg;
    uint32_t seen = 0;
    while (next_job(w->pool, seen)) {
        seen = (uint32_t)(atomic_load_explicit(&w->pool->ticket, memory_order_acquire) >> 32);
        work(w->pool, w->index);
    }
    return NULL;
}

static void wake_all(nb_pool *p)
{
    pthread_mutex_lock(&p->lock);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

int nb_pool_threads(int asked)
{
    const int n =
        asked > 0 ? asked : omp_get_num_procs(); /* heeds the affinity it was started with */
    return n < 1 ? 1 : n > kMostThreads ? kMostThreads : n;
}

nb_status nb_pool_open(int n_thread, nb_pool **out, nb_error *err)
{
    *out = NULL;
    const int n = n_thread > 1 ? n_thread - 1 : 0;
    const size_t bytes = sizeof(nb_pool) + (size_t)n * sizeof(struct worker);
    nb_pool *p = nb_alloc_aligned(1, bytes, "a pool of threads", err);
    if (!p)
        return NB_NO_ROOM;
    memset(p, 0, bytes);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    for (int i = 0; i < n; i++) {
        struct worker *w = &p->worker[p->n_worker];
        *w = (struct worker){.pool = p, .index = p->n_worker + 1};
        if (pthread_create(&w->thread, NULL, run_worker, w) != 0)
            break;
        p->n_worker++;
    }
    *out = p;
    return NB_OK;
}

void nb_pool_close(nb_pool *p)
{
    if (!p)
        return;
    atomic_store(&p->stop, 1);
    wake_all(p);
    for (int i = 0; i < p->n_worker; i++)
        pthread_join(p->worker[i].thread, NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

void nb_pool_run(nb_pool *p, int64_t n, nb_task task, const void *arg)
{
    if (!p || !p->n_worker || n < 2) {
        for (int64_t i = 0; i < n; i++)
            task(arg, i, 0);
        return;
    }
    const uint32_t job =
        (uint32_t)(atomic_load_explicit(&p->ticket, memory_order_relaxed) >> 32) + 1;
    struct record *r = &p->record[job & 1];
    /* all tasks of the last job are counted: nobody adds any more */
    atomic_store_explicit(&p->done, 0, memory_order_relaxed);
    atomic_store_explicit(&r->task, task, memory_order_relaxed);
    atomic_store_explicit(&r->arg, arg, memory_order_relaxed);
    atomic_store_explicit(&r->n, n, memory_order_relaxed);
    atomic_store_explicit(&r->step, n / (kShares * (p->n_worker + 1)) + 1, memory_order_relaxed);
    atomic_store(&p->ticket, (uint64_t)job << 32);
    if (atomic_load(&p->sleeping))
        wake_all(p);
    work(p, 0);
    for (int spin = 0; atomic_load_explicit(&p->done, memory_order_acquire) < n; spin++)
        if (spin < kPatience)
            pause_a_little();
        else
            sched_yield();
}
