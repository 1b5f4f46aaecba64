/* bench_kernels.h -- what the parts of `nibble bench kernels` share: random weights, and the timing
 * of a call. */
#ifndef NB_API_BENCH_KERNELS_H
#define NB_API_BENCH_KERNELS_H

#include "backend/limits.h"
#include "base/status.h"

/* A random matrix of one kind. */
typedef struct nb_bench_weight {
    nb_matrix m; /* borrows what follows */
    uint8_t *rows, *codes;
    nb_group *groups;
} nb_bench_weight;

/* NB_USAGE: no such kind; NB_UNSUPPORTED: none that can be multiplied. Asked before anything is
 * measured. */
nb_status nb_bench_kind_check(const char *kind, nb_error *err) NB_CHECKED;
nb_status nb_bench_weight_draw(const char *kind, int64_t N, int64_t K, nb_bench_weight *out,
                               nb_error *err) NB_CHECKED;
void nb_bench_weight_free(nb_bench_weight *w);

enum { NB_BENCH_SAMPLES = 9 };

/* Enqueues one call on the device. */
typedef nb_status nb_bench_call(void *arg, nb_error *err);
/* Microseconds of a call, each sample of so many calls as take 5 ms. */
nb_status nb_bench_time(nb_backend *be, nb_bench_call *call, void *arg, double us[NB_BENCH_SAMPLES],
                        nb_error *err) NB_CHECKED;

/* So many copies of a weight of so many bytes take turns that none is found in the last cache:
 * twice what it holds, and one more, 256 at most. */
size_t nb_bench_copies(const nb_limits *l, size_t bytes);

/* Median microseconds of y = x W^T, all bf16, by the library of the device's vendor; 0 where it is
 * not there. */
nb_status nb_bench_peer(nb_backend *be, const nb_limits *l, int64_t M, int64_t N, int64_t K,
                        double *us, nb_error *err) NB_CHECKED;

#endif
