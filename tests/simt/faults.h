// faults.h -- what the files of the detectors' cases share: a case, and the memory that is there for
// all of them.
#ifndef NB_SIMT_FAULTS_H
#define NB_SIMT_FAULTS_H

#include "gpu.h"

#include <stdio.h>
#include <string.h>

struct Case {
    const char *what, *want; // the kind reported first, "": clean
    void (*run)();
};
// Each ends with a row of nulls.
extern const Case memory_cases[], copy_cases[], block_cases[];

extern float *g;    // [1024], zeros
extern unsigned *u; // [64], zeros at the start of each case
extern float *h;    // [2048] on the host's heap
extern cudaStream_t s, t;

inline __global__ void store_at(float *o, int n)
{
    o[n] = 1.f;
}
inline __global__ void copy_each(float *o, const float *i)
{
    o[threadIdx.x] = i[threadIdx.x];
}

#endif
