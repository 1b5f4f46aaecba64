/* hash.c -- the hashes by which the hub names blobs: SHA-256 of files in large-file storage, git's
 * object name of the others: SHA-1 (FIPS 180-4 section 6.1) of "blob SIZE", a NUL and the bytes.
 * SHA-1 is here to hold what git promises, nothing else uses it. */
#include "hub/hub_pull.h"

#include <stdio.h>
#include <string.h>

bool nb_blob_name_ok(const char *name)
{
    const size_t n = strlen(name);
    return (n == 40 || n == 64) && strspn(name, "0123456789abcdef") == n;
}

static inline uint32_t rotl(uint32_t x, int n)
{
    return (x << n) | (x >> (32 - n));
}

static void sha1_block(uint32_t h[5], const uint8_t *p)
{
    uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (int t = 0; t < 16; t++)
        w[t] = (uint32_t)p[4 * t] << 24 | (uint32_t)p[4 * t + 1] << 16 |
               (uint32_t)p[4 * t + 2] << 8 | p[4 * t + 3];
    for (int t = 16; t < 80; t++)
        w[t] = rotl(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
    for (int t = 0; t < 80; t++) {
        const uint32_t f = t < 20   ? ((b & c) | (~b & d)) + 0x5a827999
                           : t < 40 ? (b ^ c ^ d) + 0x6ed9eba1
                           : t < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc
                                    : (b ^ c ^ d) + 0xca62c1d6;
        const uint32_t x = rotl(a, 5) + f + e + w[t];
        e = d, d = c, c = rotl(b, 30), b = a, a = x;
    }
    h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
}

void nb_blob_hash_init(nb_blob_hash *s, const char *name, int64_t size)
{
    static const uint32_t first[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    char head[40];
    s->git = strlen(name) == 40;
    nb_sha256_init(&s->sha256);
    memcpy(s->sha1.h, first, sizeof first);
    s->sha1.n = 0;
    if (s->git)
        nb_blob_hash_add(s, head,
                         (size_t)snprintf(head, sizeof head, "blob %lld", (long long)size) + 1);
}

void nb_blob_hash_add(nb_blob_hash *s, const void *data, size_t n)
{
    const uint8_t *p = data;
    if (!s->git) {
        nb_sha256_add(&s->sha256, p, n);
        return;
    }
    for (size_t held = s->sha1.n % 64; n; held = 0) {
        const size_t take = n < 64 - held ? n : 64 - held;
        memcpy(s->sha1.block + held, p, take);
        s->sha1.n += take;
        p += take;
        n -= take;
        if (held + take == 64)
            sha1_block(s->sha1.h, s->sha1.block);
    }
}

void nb_blob_hash_end(nb_blob_hash *s, char name[NB_BLOB_NAME])
{
    uint8_t out[NB_SHA256_BYTES];
    if (!s->git) {
        nb_sha256_end(&s->sha256, out);
        nb_hex(out, NB_SHA256_BYTES, name);
        return;
    }
    const uint64_t bits = s->sha1.n * 8;
    uint8_t length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)(bits >> (56 - 8 * i));
    nb_blob_hash_add(s, "\x80", 1);
    while (s->sha1.n % 64 != 56)
        nb_blob_hash_add(s, "", 1);
    nb_blob_hash_add(s, length, 8);
    for (int i = 0; i < 20; i++)
        out[i] = (uint8_t)(s->sha1.h[i / 4] >> (24 - 8 * (i % 4)));
    nb_hex(out, 20, name);
}
