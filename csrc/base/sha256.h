/* sha256.h -- SHA-256 (FIPS 180-4), for the hashes of manifests, journals and downloads.
 *
 * Any number of bytes in any pieces; the value depends on the bytes alone. About 64 rounds of a
 * dozen 32-bit operations per 64 bytes: a few hundred MB/s on one core, with the processor's own
 * SHA instructions (asked for at run time) over a GB/s. */
#ifndef NB_BASE_SHA256_H
#define NB_BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define NB_SHA256_BYTES 32

typedef struct nb_sha256_state {
    uint32_t h[8];
    uint64_t n;        /* bytes so far */
    uint8_t block[64]; /* the first n mod 64 are waiting */
    void (*blocks)(uint32_t h[8], const uint8_t *p, size_t n_block); /* as this processor does it */
} nb_sha256_state;

void nb_sha256_init(nb_sha256_state *s);
/* without the processor's instructions: what tests hold the other to */
void nb_sha256_init_plain(nb_sha256_state *s);
void nb_sha256_add(nb_sha256_state *s, const void *p, size_t n); /* p may be NULL when n is 0 */
/* s needs nb_sha256_init before it is used again */
void nb_sha256_end(nb_sha256_state *s, uint8_t out[NB_SHA256_BYTES]);
void nb_sha256(const void *p, size_t n, uint8_t out[NB_SHA256_BYTES]);

/* 2 n lower-case hex digits and a NUL. */
void nb_hex(const uint8_t *p, size_t n, char *out);

#endif
