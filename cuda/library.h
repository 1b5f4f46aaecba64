/* library.h -- the vendor's libraries, which are no part of the driver: opened at run time, here
 * and nowhere else. What wants one does without it where it is not there. */
#ifndef NB_CUDA_LIBRARY_H
#define NB_CUDA_LIBRARY_H

struct nb_cuda_symbol {
    const char *name;
    void *to; /* the pointer to that function */
};

/* Opens the first of the files (ended by NULL) that is there and finds all n symbols in it; false
 * when one is missing. It stays open. */
bool nb_cuda_library(const char *const *file, const nb_cuda_symbol *want, int n);

#endif
