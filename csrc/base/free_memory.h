/* free_memory.h -- what memory there is, and what of it is free now. */
#ifndef NB_BASE_FREE_MEMORY_H
#define NB_BASE_FREE_MEMORY_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct nb_host_memory {
    int64_t bytes; /* what this process may use: the machine's memory, or less where a control
                    * group limits it; 0: the system does not say */
    int64_t free;  /* of it, now: without swapping, page cache given back; 0: the system does not
                   * say */
} nb_host_memory;

/* root: "" for this machine; a test's folder has proc/ and sys/ of another. */
nb_host_memory nb_host_memory_at(const char *root);
int64_t nb_memory_bytes(void);
int64_t nb_memory_free_bytes(void);

#ifdef __cplusplus
}
#endif

#endif
