/* times.h -- where the time of the layers goes, phase by phase: a lap ends one. On a device that
 * works behind the host's back a phase is charged for the waiting that falls into it. */
#ifndef NB_QUANT_TIMES_H
#define NB_QUANT_TIMES_H

#include "base/clock.h"

typedef enum nb_lap {
    NB_LAP_READ,       /* weights, decoded and packed */
    NB_LAP_FORWARD,    /* the calibration tokens through the layer, every stream */
    NB_LAP_STATISTICS, /* H, C */
    NB_LAP_FACTOR,
    NB_LAP_CORRECT,
    NB_LAP_ROUND,  /* parameters, sweep, values */
    NB_LAP_ERRORS, /* figures of the report */
    NB_LAP_WRITE,  /* into the sink, sealing */
    NB_LAP_COUNT
} nb_lap;

typedef struct nb_times {
    int64_t ns[NB_LAP_COUNT], cpu_ns[NB_LAP_COUNT]; /* wall, and of all threads */
    int64_t since, cpu_since;
} nb_times;

static inline void nb_times_start(nb_times *t)
{
    if (!t)
        return;
    t->since = nb_clock_ns();
    t->cpu_since = nb_cpu_ns();
}

/* What ran since the last lap was this. t NULL: nobody asks. */
static inline void nb_times_lap(nb_times *t, nb_lap lap)
{
    if (!t)
        return;
    const int64_t now = nb_clock_ns(), cpu = nb_cpu_ns();
    t->ns[lap] += now - t->since;
    t->cpu_ns[lap] += cpu - t->cpu_since;
    t->since = now;
    t->cpu_since = cpu;
}

#endif
