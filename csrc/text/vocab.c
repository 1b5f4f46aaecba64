/* vocab.c -- the two hashes of a tokenizer: spelling -> id, and (left, right) -> merge.
 *
 * Open addressing over a power of two of at least 2 n slots, linear probing, O(1) on average. The
 * seed is drawn from the system, so that nobody can write a vocabulary whose spellings collide. */
#include "base/scalar.h"
#include "text/vocab.h"

#include <stdlib.h>
#include <string.h>

enum {
    kMaxMerges = 1 << 24
}; /* ranks are compared as floats (bpe.c), which are exact up to here */

__extension__ typedef unsigned __int128 u128;

static inline uint64_t mix(uint64_t a, uint64_t b) /* folded 64 x 64 bit product */
{
    const u128 m = (u128)a * b;
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

/* Eight bytes a step through a keyed multiply, in the manner of wyhash (Wang Yi 2019). */
static uint32_t hash_bytes(uint64_t seed, const char *p, size_t n)
{
    uint64_t h = seed ^ n, last = 0;
    for (; n >= 8; p += 8, n -= 8)
        h = mix(h ^ nb_load_u64(p), seed | 1u) + 0x9e3779b97f4a7c15ull;
    for (size_t i = 0; i < n; i++)
        last = last << 8 | (unsigned char)p[i];
    h = mix(h ^ last, seed ^ 0xbf58476d1ce4e5b9ull);
    return (uint32_t)(h ^ h >> 32);
}

static uint32_t hash_pair(uint64_t seed, int32_t left, int32_t right)
{
    const uint64_t h = mix(((uint64_t)(uint32_t)left << 32 | (uint32_t)right) ^ seed,
                           0x9e3779b97f4a7c15ull ^ seed << 1);
    return (uint32_t)(h ^ h >> 32);
}

static uint32_t slots_for(size_t n) /* n <= 2^24: no wrap */
{
    uint32_t s = 16;
    while (s < 2 * n)
        s *= 2;
    return s;
}

static bool spelled(const nb_tokenizer *t, int32_t id, const char *p, size_t n)
{
    return t->token[id].n == n && memcmp(t->token[id].p, p, n) == 0;
}

int32_t nb_vocab_find(const nb_tokenizer *t, const char *p, size_t n)
{
    for (uint32_t i = hash_bytes(t->seed, p, n);; i++) {
        const int32_t id = t->slot[i & (t->n_slot - 1)];
        if (id < 0 || spelled(t, id, p, n))
            return id;
    }
}

const nb_merge *nb_vocab_merge(const nb_tokenizer *t, int32_t left, int32_t right)
{
    if (!t->n_merge_slot)
        return NULL;
    for (uint32_t i = hash_pair(t->seed, left, right);; i++) {
        const nb_merge *m = &t->merge[i & (t->n_merge_slot - 1)];
        if (m->left < 0)
            return NULL;
        if (m->left == left && m->right == right)
            return m;
    }
}

nb_status nb_vocab_reserve(nb_tokenizer *t, int32_t n, nb_error *err)
{
    const size_t count = (size_t)n;
    nb_hash_key key;
    nb_hash_key_draw(&key);
    t->seed = key.k[0] ^ key.k[1];
    t->n = n;
    t->token = nb_arena_alloc(t->arena, count, sizeof *t->token, err);
    t->piece = nb_arena_alloc(t->arena, count, sizeof *t->piece, err);
    t->type = nb_arena_alloc(t->arena, count, 1, err);
    t->strip = nb_arena_alloc(t->arena, count, 1, err);
    t->is_end = nb_arena_alloc(t->arena, count, sizeof *t->is_end, err);
    if (!t->token || !t->piece || !t->type || !t->strip || !t->is_end)
        return NB_NO_ROOM;
    for (size_t i = 0; i < count; i++)
        t->token[i] = t->piece[i] = (nb_str){"", 0};
    memset(t->type, NB_TOKEN_UNUSED, count);
    memset(t->strip, 0, count);
    memset(t->is_end, 0, count * sizeof *t->is_end);
    return NB_OK;
}

/* Is the token one that text may be joined to? By score only what SentencePiece calls pieces. */
static bool in_text(const nb_tokenizer *t, int32_t id)
{
    const uint8_t type = t->type[id];
    if (t->token[id].n == 0)
        return false;
    return !t->by_score || type == NB_TOKEN_NORMAL || type == NB_TOKEN_USER;
}

nb_status nb_vocab_index(nb_tokenizer *t, nb_error *err)
{
    t->n_slot = slots_for((size_t)t->n);
    t->slot = nb_arena_alloc(t->arena, t->n_slot, sizeof *t->slot, err);
    if (!t->slot)
        return NB_NO_ROOM;
    memset(t->slot, -1, t->n_slot * sizeof *t->slot);
    for (int32_t id = 0; id < t->n; id++) {
        const nb_str s = t->token[id];
        if (!in_text(t, id))
            continue;
        uint32_t i = hash_bytes(t->seed, s.p, s.n);
        int32_t at = -1;
        while ((at = t->slot[i & (t->n_slot - 1)]) >= 0 && !spelled(t, at, s.p, s.n))
            i++;
        if (at < 0) /* the first of two equal spellings is the one that text becomes */
            t->slot[i & (t->n_slot - 1)] = id;
    }
    return NB_OK;
}

nb_status nb_vocab_open_merges(nb_tokenizer *t, size_t n, nb_error *err)
{
    if (n > kMaxMerges)
        return nb_fail(err, NB_BAD_INPUT, "the tokenizer has %zu merges, at most %d are allowed", n,
                       kMaxMerges);
    t->n_merge_slot = slots_for(n);
    t->merge = nb_arena_alloc(t->arena, t->n_merge_slot, sizeof *t->merge, err);
    if (!t->merge)
        return NB_NO_ROOM;
    memset(t->merge, -1, t->n_merge_slot * sizeof *t->merge);
    return NB_OK;
}

/* The token spelled left right, -1 if there is none. */
static int32_t joined(const nb_tokenizer *t, nb_str left, nb_str right, nb_error *err, bool *room)
{
    char near[256], *p = near; /* few tokens are longer */
    const size_t n = left.n + right.n;
    *room = true;
    if (n > sizeof near) {
        p = nb_alloc(n, 1, "a merged token", err);
        if (!p) {
            *room = false;
            return -1;
        }
    }
    memcpy(p, left.p, left.n);
    memcpy(p + left.n, right.p, right.n);
    const int32_t id = nb_vocab_find(t, p, n);
    if (p != near)
        free(p);
    return id;
}

nb_status nb_vocab_add_merge(nb_tokenizer *t, const char *path, int64_t offset, nb_str left,
                             nb_str right, int32_t rank, nb_error *err)
{
    bool room = true;
    const nb_merge m = {nb_vocab_find(t, left.p, left.n), nb_vocab_find(t, right.p, right.n), rank,
                        joined(t, left, right, err, &room)};
    if (!room)
        return NB_NO_ROOM;
    if (m.left < 0 || m.right < 0 || m.id < 0) {
        char shown[160];
        const nb_str s = m.left < 0 ? left : right;
        return nb_fail_at(err, NB_BAD_INPUT, path, offset,
                          m.left < 0 || m.right < 0 ? "merge %d joins \"%s\", which is no token"
                                                    : "merge %d with \"%s\" makes no token",
                          rank, nb_escape(shown, (int64_t)sizeof shown, s.p, (int64_t)s.n));
    }
    uint32_t i = hash_pair(t->seed, m.left, m.right);
    for (; t->merge[i & (t->n_merge_slot - 1)].left >= 0; i++) {
        const nb_merge *o = &t->merge[i & (t->n_merge_slot - 1)];
        if (o->left == m.left && o->right == m.right)
            return NB_OK; /* said twice: the first, lower rank holds */
    }
    t->merge[i & (t->n_merge_slot - 1)] = m;
    return NB_OK;
}

static int by_rank(const void *a, const void *b)
{
    const int32_t x = ((const nb_merge *)a)->rank, y = ((const nb_merge *)b)->rank;
    return (x > y) - (x < y);
}

nb_status nb_vocab_merges(const nb_tokenizer *t, nb_arena *a, nb_merge **out, size_t *n,
                          nb_error *err)
{
    size_t count = 0;
    *n = 0;
    for (uint32_t i = 0; i < t->n_merge_slot; i++)
        count += t->merge[i].left >= 0;
    *out = nb_arena_alloc(a, count, sizeof **out, err);
    if (!*out)
        return NB_NO_ROOM;
    for (uint32_t i = 0; i < t->n_merge_slot; i++)
        if (t->merge[i].left >= 0)
            (*out)[(*n)++] = t->merge[i];
    qsort(*out, count, sizeof **out, by_rank);
    return NB_OK;
}
