/* bench_kernels.h -- what the parts of `nibble bench kernels` share: random operands, and the
 * timing of a call. */
#ifndef NB_API_BENCH_KERNELS_H
#define NB_API_BENCH_KERNELS_H

#include "backend/limits.h"
#include "base/status.h"
#include "nibble.h"

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

/* Random bits that cost little, for operands that are only timed: zeros would be multiplied faster.
 * Floats are roughly normal (a few thousand values in random order), bf16 of size 1 to 2, either
 * sign. */
void nb_bench_floats(float *x, int64_t n, uint64_t seed);
void nb_bench_bf16(uint16_t *x, int64_t n, uint64_t seed);

enum { NB_BENCH_SAMPLES = 21, NB_BENCH_FEW = 9 };

/* Enqueues one call on the device, each on the next copy of its weight. */
typedef nb_status nb_bench_call(void *arg, nb_error *err);
typedef struct nb_bench_times {
    double us[NB_BENCH_SAMPLES]; /* [n_sample] of a call, each from a series of n_call */
    int n_sample; /* NB_BENCH_FEW where a series takes long, and by the host's clock */
    int64_t n_call;
    bool recorded; /* the series is a recording, timed by the device's events; else calls one by
                         * one, by the host's clock (bench_time.c) */
    double launched_us; /* of a call enqueued by itself, where the samples are recordings; else 0 */
} nb_bench_times;
nb_status nb_bench_time(nb_backend *be, nb_bench_call *call, void *arg, int64_t n_copy,
                        nb_bench_times *out, nb_error *err) NB_CHECKED;

/* The figures of a row by its bytes and its products, whose peak is given. */
void nb_bench_speed(nb_kernel_row *r, double bytes, double flop, const nb_limits *l, double peak,
                    nb_bench_times *t);

/* `bench kernels --op attention` and `--op prefill`; checked before anything is measured. */
nb_status nb_bench_attention_check(const nb_bench_kernels_options *o, nb_error *err) NB_CHECKED;
nb_status nb_bench_attention(nb_backend *be, const nb_limits *limits,
                             const nb_bench_kernels_options *o, nb_error *err) NB_CHECKED;

/* So many copies of a weight of so many bytes take turns that next to none of it is found in the
 * last cache: four times what it holds, and one more, 256 at most. */
size_t nb_bench_copies(const nb_limits *l, size_t bytes);

/* y = x W^T, all bf16, by the library of the device's vendor, W one shape and x of up to most_m
 * rows. *out is NULL where it is not there. */
typedef struct nb_bench_peer nb_bench_peer;
nb_status nb_bench_peer_open(nb_backend *be, const nb_limits *l, int64_t most_m, int64_t N,
                             int64_t K, nb_bench_peer **out, nb_error *err) NB_CHECKED;
nb_status nb_bench_peer_time(nb_bench_peer *p, int64_t M, nb_bench_times *out,
                             nb_error *err) NB_CHECKED;
void nb_bench_peer_close(nb_bench_peer *p); /* NULL is fine */

#endif
