/* pool.h -- threads that share the tasks of one job at a time.
 *
 * A job is n tasks of one function. Whoever is running takes the next task, the caller too, and the
 * job is done when its tasks are: a thread that the system has put aside costs at most the task it
 * holds, and one that holds none is not waited for. (A barrier that every thread must reach, as
 * OpenMP's, costs a time slice a job when another program has the core: decoding has hundreds of
 * jobs a token.) Idle threads spin for a few dozen microseconds, about the time to the next job,
 * then sleep. */
#ifndef NB_BASE_POOL_H
#define NB_BASE_POOL_H

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct nb_pool nb_pool;

/* Task i of 0 .. n - 1; worker, 0 .. n_thread - 1, is the thread that runs it: an index for
 * scratch. Which worker gets which task is chance, so results must not depend on it. */
typedef void (*nb_task)(const void *arg, int64_t i, int worker);

/* The host's threads that work is cut for: as many as asked, 0: all that this process may use. */
int nb_pool_threads(int asked);

/* n_thread counts the caller: n_thread - 1 threads are started. Fewer start when the system gives
 * no more; the pool works with any number. */
nb_status nb_pool_open(int n_thread, nb_pool **out, nb_error *err) NB_CHECKED;
void nb_pool_close(nb_pool *p); /* NULL is fine */

/* Runs all tasks and returns. p NULL: here, in order, as worker 0. One caller at a time, and not
 * from within a task. */
void nb_pool_run(nb_pool *p, int64_t n, nb_task task, const void *arg);

#ifdef __cplusplus
}
#endif

#endif
