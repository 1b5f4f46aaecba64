/* names.c -- the index of names.h. */
#include "file/names.h"
#include "base/memory.h"
#include "base/scalar.h"
#include "file/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct slot {
    uint32_t hash, item; /* item + 1; 0: free */
};
struct nb_names {
    nb_hash_key key;
    nb_name_at at;
    size_t count, mask;
    struct slot slot[];
};

void nb_hash_key_draw(nb_hash_key *key)
{
    if (getentropy(key->k, sizeof key->k) == 0)
        return;
    struct timespec t; /* a kernel without getrandom: still different from run to run */
    clock_gettime(CLOCK_REALTIME, &t);
    key->k[0] = (uint64_t)t.tv_nsec * 0x9e3779b97f4a7c15u + (uint64_t)t.tv_sec;
    key->k[1] = (uint64_t)(uintptr_t)key ^ ((uint64_t)getpid() << 32);
}

static inline uint64_t rotl(uint64_t x, int b)
{
    return (x << b) | (x >> (64 - b));
}

static inline void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotl(v[1], 13) ^ v[0];
    v[3] = rotl(v[3], 16) ^ v[2];
    v[0] = rotl(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotl(v[1], 17) ^ v[2];
    v[3] = rotl(v[3], 21) ^ v[0];
    v[2] = rotl(v[2], 32);
}

static uint64_t sip13(const nb_hash_key *key, const char *p, size_t n)
{
    uint64_t v[4] = {key->k[0] ^ 0x736f6d6570736575u, key->k[1] ^ 0x646f72616e646f6du,
                     key->k[0] ^ 0x6c7967656e657261u, key->k[1] ^ 0x7465646279746573u};
    uint64_t last = (uint64_t)n << 56;
    for (; n >= 8; p += 8, n -= 8) {
        const uint64_t w = nb_load_u64(p);
        v[3] ^= w;
        sip_round(v);
        v[0] ^= w;
    }
    for (size_t i = 0; i < n; i++)
        last |= (uint64_t)(unsigned char)p[i] << (8 * i);
    v[3] ^= last;
    sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

nb_names *nb_names_open(size_t n, const nb_hash_key *key, nb_name_at at, nb_error *err)
{
    size_t n_slot = 16;
    while (n_slot < 2 * n)
        n_slot *= 2;
    nb_names *s = nb_alloc_zero(1, sizeof *s + n_slot * sizeof *s->slot, "an index of names", err);
    if (!s)
        return NULL;
    s->key = *key;
    s->at = at;
    s->mask = n_slot - 1;
    return s;
}

void nb_names_close(nb_names *s)
{
    free(s);
}

size_t nb_names_count(const nb_names *s)
{
    return s->count;
}

/* The slot that holds the name, or the free one where it would go. */
static size_t slot_of(const nb_names *s, const void *items, const char *name, size_t n,
                      uint32_t hash)
{
    for (size_t i = hash & s->mask;; i = (i + 1) & s->mask) {
        const struct slot *slot = &s->slot[i];
        if (!slot->item)
            return i;
        size_t m = 0;
        if (slot->hash != hash)
            continue;
        const char *there = s->at(items, slot->item - 1, &m);
        if (m == n && memcmp(there, name, n) == 0)
            return i;
    }
}

bool nb_names_add(nb_names *s, const void *items, size_t i)
{
    size_t n = 0;
    const char *name = s->at(items, i, &n);
    const uint32_t hash = (uint32_t)sip13(&s->key, name, n);
    struct slot *slot = &s->slot[slot_of(s, items, name, n, hash)];
    if (slot->item)
        return false;
    *slot = (struct slot){hash, (uint32_t)i + 1};
    s->count++;
    return true;
}

bool nb_names_find(const nb_names *s, const void *items, const char *name, size_t n, size_t *i)
{
    const uint32_t hash = (uint32_t)sip13(&s->key, name, n);
    const struct slot *slot = &s->slot[slot_of(s, items, name, n, hash)];
    if (!slot->item)
        return false;
    *i = slot->item - 1;
    return true;
}

bool nb_name_ok(const char *name, size_t n)
{
    const unsigned char *s = (const unsigned char *)name;
    for (size_t i = 0; i < n;) {
        uint32_t c = 0;
        const size_t len = nb_utf8_at(s + i, n - i, &c);
        if (len == 0 || c < 0x20 || (c >= 0x7f && c < 0xa0)) /* broken, C0, DEL, C1 */
            return false;
        if (c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) ||
            (c >= 0x2066 && c <= 0x2069)) /* line separators and bidi controls */
            return false;
        i += len;
    }
    return n > 0;
}
