/* clock.h -- monotonic time and memory use, for progress and reports only: no result depends on them. */
#ifndef NB_BASE_CLOCK_H
#define NB_BASE_CLOCK_H

#include <stdint.h>

int64_t nb_clock_ns(void);
int64_t nb_peak_rss_bytes(void);

#endif
