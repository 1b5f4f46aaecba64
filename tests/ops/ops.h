/* ops.h -- what the op tests share: the backends under test, guarded device buffers, and two
 * comparisons.
 *
 * An op's test gives a `run` that performs one case on one backend and brings the outputs to the
 * host; the drivers here run it on every backend that is there and on ref, and hand both results to
 * `compare`. A new backend is one row in ops.c, and no test changes. */
#ifndef NB_TESTS_OPS_OPS_H
#define NB_TESTS_OPS_OPS_H

#include "backend/backend.h"
#include "base/random.h"
#include "check.h"

/* What a row may round besides its f32 sums (NUMERICS.md): nothing; activations to int8; both
 * operands to bf16. */
typedef enum ops_arith { OPS_F32, OPS_INT8, OPS_BF16 } ops_arith;

typedef struct ops_row {
    const char *label, *device;
    bool exact; /* --exact */
    ops_arith arith;
    bool always; /* must be there and have every op; the others are left out when the module, the
                    device or the op is missing */
    int64_t max_work; /* inner steps of a case; larger ones are left out (an emulator takes
                         microseconds a step) */
} ops_row;

enum { OPS_MAX_BACKENDS = 8, OPS_MAX_BUFFERS = 32 };

/* One backend within a case: `run` puts data there and takes results back through it. */
typedef struct ops {
    check *c;
    const ops_row *row;
    nb_backend *be;
    char what[192]; /* backend and shape, for the reports */
    bool no_int8;   /* the linear that ran rounds to bf16 where the row might to int8 */
    int n_buffer;
    struct ops_buffer {
        uint8_t *base; /* device: guard, data, guard */
        uint8_t *sent; /* host copy of all of it as uploaded */
        size_t bytes;  /* of the data */
        bool keep;     /* an input: its data must come back as it was */
    } buffer[OPS_MAX_BUFFERS];
} ops;

/* Every backend that is there; [0] is ref. */
typedef struct ops_set {
    int n;
    ops o[OPS_MAX_BACKENDS];
} ops_set;

void ops_set_open(ops_set *set, check *c);
/* On the emulator, what a device asked for (memory, streams, events, handles) must be given back when
 * it is closed. */
void ops_set_close(ops_set *set);

/* A function of the emulator's module, once a backend of it has been opened; NULL: none was. */
void *ops_simt(const char *name);

/* A table of pages [n_seq][seq_pages] for sequences of these lengths: in no order, -1 where a sequence
 * holds none; *n_page: how many the cache has, one of which nobody holds. Free it. */
int32_t *ops_pages(nb_rng *r, const int32_t *len, int32_t n_seq, int32_t seq_pages,
                   int32_t *n_page);

/* Device memory with 64 guard bytes on both sides (behind it none on the emulator, which knows its
 * end). in: read only; inout: starts as src; out and scratch: every byte 0xff, which is a NaN in
 * every float type. NULL (reported) when there is none. */
void *ops_in(ops *o, const void *src, size_t bytes);
void *ops_inout(ops *o, const void *src, size_t bytes);
void *ops_out(ops *o, size_t bytes);
/* The data of a buffer made above, to the host. */
void ops_get(ops *o, const void *device, void *host);
/* Ends a call: waits, looks at guards and inputs, frees the buffers. False when something was wrong
 * (reported). */
bool ops_finish(ops *o);

/* True when the row has the op; a row that must have it and has not is reported. */
bool ops_has(ops *o, bool has, const char *op);
/* True for NB_OK; NB_UNSUPPORTED by a row that need not serve all is passed over in silence, all
 * else is reported. */
bool ops_ok(ops *o, nb_status st, const nb_error *err);

typedef struct ops_test {
    /* One call on o; outputs to `out`, strides and gaps included. False: not served or failed (then
     * already reported). */
    bool (*run)(ops *o, const void *args, void *out);
    /* Reports every element of got that is further from want than NUMERICS.md allows this row. */
    void (*compare)(ops *o, const void *args, const void *got, const void *want);
} ops_test;

/* Runs a case on ref and on the others and compares; `what` describes its shape. */
void ops_against_ref(ops_set *set, const ops_test *t, const void *args, size_t out_bytes,
                     int64_t work, const char *what);
/* The same bits twice in a row, and on the CPU with 1, 2 and 3 threads. */
void ops_same_bits(check *c, const ops_test *t, const void *args, size_t out_bytes, int64_t work,
                   const char *what);

/* A matrix [rows, ld] whose gap columns [cols, ld) must still hold the 0xff they were made with. */
void ops_gaps(ops *o, const void *data, size_t element, int64_t rows, int64_t cols, int64_t ld);

/* Seeds the data of a case: `fixed`, the same in every run, plus NIBBLE_OPS_SEED=N, or =random for
 * an N of this run. N is printed at the start and is part of `what`, so of every report. */
void ops_seed(nb_rng *r, uint64_t fixed);

/* Host arrays that end the test when there is no memory (a test may). */
void *ops_alloc(size_t n, size_t size);
float *ops_normals(nb_rng *r, int64_t n, float scale);
/* Rows of `cols` normals with stride ld, the gaps 0xff. */
float *ops_rows(nb_rng *r, int64_t rows, int64_t cols, int64_t ld, float scale);

#endif
