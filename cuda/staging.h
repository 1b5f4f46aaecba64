/* staging.h -- pinned memory of the host in two halves: while one travels to the device the other
 * is filled. What is filled by all of the host's threads (the pool) so reaches the device at the
 * pace of the slowest of disk, packing and PCIe, and nobody waits for a copy to end. */
#ifndef NB_CUDA_STAGING_H
#define NB_CUDA_STAGING_H

#include "device.h"

#include "base/pool.h"

struct nb_staging {
    nb_pool *pool; /* be->n_thread threads; NULL: the caller alone */
    uint8_t *half[2];
    cudaEvent_t sent[2]; /* behind the last copy from that half */
    size_t bytes, used;  /* of a half; of the one that is being filled */
    size_t most;         /* bytes of a half unless a piece is larger: who can cuts pieces to it */
    int at;
};

/* The device's, made when first asked for. */
nb_status nb_staging_of(nb_backend *be, nb_staging **out, nb_error *err) NB_CHECKED;
void nb_staging_close(nb_staging *s); /* NULL is fine */

/* Room for `bytes`, at a multiple of 256, until the next call; what was sent from there before has
 * arrived. To be sent before the next call. */
nb_status nb_staging_room(nb_backend *be, nb_staging *s, size_t bytes, uint8_t **out,
                          nb_error *err) NB_CHECKED;

/* Enqueues the copy of n bytes that lie in such room. */
nb_status nb_staging_send(nb_backend *be, void *dst, const uint8_t *room, size_t n,
                          nb_error *err) NB_CHECKED;

/* Copies from memory of any kind, which is not read any more after the call. */
nb_status nb_staging_copy(nb_backend *be, void *dst, const void *src, size_t n,
                          nb_error *err) NB_CHECKED;

#endif
