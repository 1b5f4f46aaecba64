/* count.h -- a backend that only counts: the plan of a run is the run itself over this device.
 *
 * It wraps a real one. alloc, pack_weight and the host's buffers (nb_count_host) get addresses that
 * must not be followed and are added up; ops do nothing; the *_scratch functions and measure_weight
 * are the real device's own. download fills the caller's memory with the byte 0x3f: a finite number
 * that is not zero, as f32, f64 or int. Opened by the name "plan:DEVICE" (nb_backend_open). */
#ifndef NB_BACKEND_COUNT_H
#define NB_BACKEND_COUNT_H

#include "backend/backend.h"

typedef struct nb_count {
    size_t device, host;           /* bytes held now */
    size_t device_peak, host_peak; /* most at any time */
    size_t peak; /* most of both together: what a device that computes in the host's memory needs */
} nb_count;

/* owned: the new backend closes inner, at once when it fails. NB_UNSUPPORTED when inner cannot
 * measure weights. */
nb_status nb_backend_count_open(nb_backend *inner, bool owned, nb_backend **out,
                                nb_error *err) NB_CHECKED;
bool nb_backend_counts(const nb_backend *be);
const nb_count *nb_backend_count(const nb_backend *be);
/* Starts the peaks anew from what is held now. */
void nb_backend_count_restart(nb_backend *be);
/* Whether the device computes in the host's memory: cpu, ref, simt (which has a size of its own all
 * the same: free_bytes). */
bool nb_backend_in_host_memory(const nb_backend *be);

/* A buffer of the host: *out must not be followed. */
nb_status nb_count_host(nb_backend *be, size_t bytes, void **out, nb_error *err) NB_CHECKED;
void nb_count_host_free(nb_backend *be, void *p);

/* A buffer of the host that plans must know of, aligned for vector loads: of nb_count_host where
 * the device only counts. NB_NO_ROOM. */
nb_status nb_host_alloc(nb_backend *be, size_t n, size_t size, const char *what, void **out,
                        nb_error *err) NB_CHECKED;
void nb_host_free(nb_backend *be, void *p);

#endif
