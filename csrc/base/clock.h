/* clock.h -- monotonic time and memory use, for progress and reports only: no result depends on
 * them. */
#ifndef NB_BASE_CLOCK_H
#define NB_BASE_CLOCK_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

int64_t nb_clock_ns(void);
int64_t nb_cpu_ns(void); /* processor time of all threads of the process */
int64_t nb_peak_rss_bytes(void);
int64_t nb_anon_rss_bytes(void); /* now, without mapped files; 0 when the system does not say */

#ifdef __cplusplus
}
#endif

#endif
