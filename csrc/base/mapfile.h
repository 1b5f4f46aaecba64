/* mapfile.h -- a regular file mapped read-only. */
#ifndef NB_BASE_MAPFILE_H
#define NB_BASE_MAPFILE_H

#include "base/status.h"
#include <stddef.h>

typedef struct nb_mapfile {
    const uint8_t *p; /* NULL when the file is empty */
    size_t n;
    char path[1024];
} nb_mapfile;

/* Opens with O_NONBLOCK and refuses what is not a regular file (a FIFO or /dev/zero named like a
 * model). A file that shrinks
 * while it is mapped ends the process with one sentence naming it (the command line's SIGBUS
 * handler; another program that uses the library gets the signal). */
nb_status nb_mapfile_open(const char *path, nb_mapfile **out, nb_error *err) NB_CHECKED;
void nb_mapfile_close(nb_mapfile *m); /* NULL is fine */
/* Tells the kernel that [offset, offset + n) will be needed soon: it begins to read what is not in
 * memory yet, and the caller goes on. */
void nb_mapfile_ask(const nb_mapfile *m, size_t offset, size_t n);
/* Tells the kernel that [offset, offset + n) will not be needed soon: its pages leave our resident
 * set. */
void nb_mapfile_release(const nb_mapfile *m, size_t offset, size_t n);

#endif
