/* limits.h -- the CPU's side of backend/limits.h, and the loops it times, one set per level. */
#ifndef NB_BACKEND_CPU_LIMITS_H
#define NB_BACKEND_CPU_LIMITS_H

#include "backend/cpu/cpu.h"
#include "backend/limits.h"

nb_status nb_cpu_limits(nb_backend *be, nb_limits *out, nb_error *err) NB_CHECKED;
const char *nb_cpu_limits_row(nb_backend *be, const nb_linear_args *a, nb_arith *arith);

enum { NB_LIMIT_OPERANDS = 256 }; /* bytes a loop of products reads, once, 64-byte aligned */

/* Products of registers alone: `steps` rounds over operands of random bytes; returns the
 * operations done (a multiply-add is 2). *sink takes a sum, so that the work cannot be dropped. */
typedef double nb_cpu_limit_loop(const void *operands, int64_t steps, float *sink);

typedef struct nb_cpu_limit_loops {
    /* Reads n bytes (a multiple of 1024, 64-byte aligned) once, in order. */
    uint64_t (*read)(const uint8_t *p, size_t n);
    nb_cpu_limit_loop *f32, *int8;
} nb_cpu_limit_loops;

extern const nb_cpu_limit_loops nb_cpu_limit_loops_scalar;
#if NB_CPU_X86
extern const nb_cpu_limit_loops nb_cpu_limit_loops_avx2, nb_cpu_limit_loops_avx512;
nb_cpu_limit_loop nb_cpu_limit_bf16_avx512, nb_cpu_limit_bf16_amx;
#endif

#endif
