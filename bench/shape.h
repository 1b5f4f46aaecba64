/* shape.h -- what the files of bench/shape share. */
#ifndef NB_BENCH_SHAPE_H
#define NB_BENCH_SHAPE_H

#include "base/random.h"
#include "dtype/dtype.h"

typedef struct shape {
    /* filled: layers that hold weights */
    int64_t n_layer, hidden, n_head, n_kv_head, inter, vocab, filled;
    int64_t n_expert, n_used; /* 0: no mixture */
} shape;

/* Rows of normals of deviation 1 / sqrt(K) in a format, or of ones (a norm: K of them): the n-th
 * into out. row [K] is scratch. */
void shape_row(const nb_dtype *t, int64_t K, bool norm, nb_rng *r, float *row, uint8_t *out);

/* The shape as a folder of safetensors (shape_folder.c). */
nb_status shape_folder_write(const char *folder, const char *format, const shape *s,
                             nb_error *err) NB_CHECKED;

#endif
