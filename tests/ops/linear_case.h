/* linear_case.h -- one case of linear, made and run, for linear.c and linear_rows.c. */
#ifndef NB_TESTS_OPS_LINEAR_CASE_H
#define NB_TESTS_OPS_LINEAR_CASE_H

#include "ops/ops.h"
#include "ops/weights.h"

/* What x goes through first (nb_through). */
enum { AS_IT_LIES, NORMED, SILU, GELU };

/* Of the cases that are made from now on; all 0: as a device thinks best. */
typedef struct linear_wants {
    const char *row; /* that linears must have */
    int through;     /* what x goes through */
    int launches;    /* how many kernels a device that launches may take for both; 0: any number */
    bool apart;      /* every other run has the op before the linear although that would take it */
} linear_wants;
extern linear_wants linear_wanted;

/* Makes the case `seed` of one shape and runs it against ref, or twice where set is NULL. It counts
 * as no more than most_work steps: a case that an emulator must not leave out says 1. */
void linear_case_of(check *c, ops_set *set, int kind, int64_t M, int64_t N, int64_t K,
                    uint64_t seed, int64_t most_work);

/* The kind of that name (ops_kind_name), or -1. */
int ops_kind_named(const char *want);

#endif
