/* library.cu -- a shared object by its names, functions by theirs. */
#include "library.h"

#include "gpu.h"

#include <cstring>

bool nb_cuda_library(const char *const *file, const nb_cuda_symbol *want, int n)
{
    void *so = NULL;
    for (; *file && !so; file++)
        so = gpu_library(*file);
    for (int i = 0; so && i < n; i++) {
        void *p = gpu_symbol(so, want[i].name);
        if (!p)
            return false;
        memcpy(want[i].to, &p, sizeof p); /* no cast from object to function pointers */
    }
    return so != NULL;
}
