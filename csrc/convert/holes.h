/* holes.h -- tensors of a sparse file that take no room: copied as they are, they need none in the
 * output either. */
#ifndef NB_CONVERT_HOLES_H
#define NB_CONVERT_HOLES_H

#include "file/container.h"

typedef struct nb_holes {
    const nb_container *c; /* borrowed */
    const char *path;      /* of the file that is open */
    int fd;                /* -1: none */
} nb_holes;

void nb_holes_open(nb_holes *h, const nb_container *c);
void nb_holes_close(nb_holes *h);

/* Whether the tensor reads as zero and lies in holes of its file, but for the ends of blocks that
 * it shares with its neighbours. Nothing else is read. */
bool nb_holes_has(nb_holes *h, const nb_tensor *t);

#endif
