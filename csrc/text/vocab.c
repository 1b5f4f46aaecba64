/* vocab.c -- the tables of a tokenizer: hashes of tokens and merges, control tokens by first byte, bytes behind spellings. */
#include "text/vocab.h"

#include <stdlib.h>
#include <string.h>

/* FNV-1a over the bytes with a final mix; a hostile vocabulary can only slow its own opening, bounded by its size (probe limit below). */
static uint32_t hash_bytes(const char *p, size_t n)
{
    uint64_t h = 0xcbf29ce484222325ull;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)p[i]) * 0x100000001b3ull;
    h ^= h >> 29;
    return (uint32_t)(h * 0x9e3779b97f4a7c15ull >> 32);
}

static uint32_t hash_pair(int32_t left, int32_t right)
{
    const uint64_t k = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    return (uint32_t)((k ^ k >> 31) * 0x9e3779b97f4a7c15ull >> 32);
}

static uint32_t slots_for(size_t n)
{
    uint32_t s = 16;
    while (s < 2 * n)
        s *= 2;
    return s;
}

int32_t nb_vocab_find(const nb_tokenizer *t, const char *p, size_t n)
{
    for (uint32_t i = hash_bytes(p, n);; i++) {
        const int32_t id = t->slot[i & (t->n_slot - 1)];
        if (id < 0)
            return -1;
        if (t->bytes[id].n == n && memcmp(t->bytes[id].p, p, n) == 0)
            return id;
    }
}

const nb_merge *nb_vocab_merge(const nb_tokenizer *t, int32_t left, int32_t right)
{
    if (!t->n_merge_slot)
        return NULL;
    for (uint32_t i = hash_pair(left, right);; i++) {
        const nb_merge *m = &t->merge[i & (t->n_merge_slot - 1)];
        if (m->left < 0)
            return NULL;
        if (m->left == left && m->right == right)
            return m;
    }
}

/* GPT-2 spells byte b as the character b where that is printable, else as U+0100 + (number of unprintable bytes before b). */
static void byte_spelling(int32_t code_of[256], int16_t byte_of[324])
{
    int next = 256;
    memset(byte_of, -1, 324 * sizeof *byte_of);
    for (int b = 0; b < 256; b++) {
        const bool shown = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        code_of[b] = shown ? b : next++;
        byte_of[code_of[b]] = (int16_t)b;
    }
}

/* The bytes a byte-level spelling stands for, into the arena; a character outside the alphabet keeps the spelling as it is. */
static nb_status unspell(nb_tokenizer *t, nb_str s, const int16_t byte_of[324], nb_str *out, nb_error *err)
{
    char *p = nb_arena_alloc(t->arena, s.n + 1, 1, err);
    size_t n = 0;
    *out = s;
    if (!p)
        return NB_NO_ROOM;
    for (size_t i = 0; i < s.n;) {
        const unsigned char *u = (const unsigned char *)s.p + i;
        const int len = nb_utf8_length(s.p + i, s.n - i);
        const int code = len == 1 ? u[0] : len == 2 ? (u[0] & 31) << 6 | (u[1] & 63) : 999;
        if (code >= 324 || byte_of[code] < 0)
            return NB_OK;
        p[n++] = (char)byte_of[code];
        i += (size_t)len;
    }
    *out = (nb_str){p, n};
    return NB_OK;
}

/* "<0xAB>" to 0xAB, or -1: strict, two hexadecimal digits (a loose parser wrote before an array once: hardening R1). */
static int byte_token(nb_str s)
{
    int v = 0;
    if (s.n != 6 || memcmp(s.p, "<0x", 3) != 0 || s.p[5] != '>')
        return -1;
    for (int i = 3; i < 5; i++) {
        const char c = s.p[i];
        const int d = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (d < 0)
            return -1;
        v = v * 16 + d;
    }
    return v;
}

/* U+2581 to a space. */
static nb_status spaced(nb_tokenizer *t, nb_str s, nb_str *out, nb_error *err)
{
    char *p = nb_arena_alloc(t->arena, s.n + 1, 1, err);
    size_t n = 0;
    if (!p)
        return NB_NO_ROOM;
    for (size_t i = 0; i < s.n;)
        if (s.n - i >= 3 && memcmp(s.p + i, "\xe2\x96\x81", 3) == 0) {
            p[n++] = ' ';
            i += 3;
        } else
            p[n++] = s.p[i++];
    *out = (nb_str){p, n};
    return NB_OK;
}

static bool names_end(nb_str s)
{
    static const char *const names[] = {"<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<end_of_turn>", "</s>",
                                        "<|end_of_text|>"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i]) == s.n && memcmp(names[i], s.p, s.n) == 0)
            return true;
    return false;
}

static int longest_first(const void *a, const void *b)
{
    const nb_str *x = a, *y = b; /* n holds the length, p the id: see index_specials */
    return x->n != y->n ? (x->n < y->n ? 1 : -1) : (x->p > y->p) - (x->p < y->p);
}

static bool is_special(const nb_tokenizer *t, int32_t id)
{
    return (t->type[id] == NB_TOKEN_CONTROL || t->type[id] == NB_TOKEN_USER) && t->token[id].n > 0;
}

static nb_status index_specials(nb_tokenizer *t, nb_error *err)
{
    nb_status st = NB_OK;
    int32_t count[256] = {0};
    for (int32_t id = 0; id < t->n; id++)
        if (is_special(t, id))
            count[(unsigned char)t->token[id].p[0]]++;
    for (int c = 0; c < 256 && st == NB_OK; c++) {
        if (!count[c])
            continue;
        nb_str *sort = nb_alloc((size_t)count[c], sizeof *sort, "control tokens", err);
        t->special[c] = nb_arena_alloc(t->arena, (size_t)count[c], sizeof(int32_t), err);
        if (!sort || !t->special[c])
            st = NB_NO_ROOM;
        for (int32_t id = 0; id < t->n && st == NB_OK; id++)
            if (is_special(t, id) && (unsigned char)t->token[id].p[0] == c)
                sort[t->n_special[c]++] = (nb_str){t->token[id].p, t->token[id].n};
        if (st == NB_OK) {
            qsort(sort, (size_t)count[c], sizeof *sort, longest_first);
            for (int32_t i = 0; i < count[c]; i++)
                t->special[c][i] = nb_vocab_find(t, sort[i].p, sort[i].n);
        }
        free(sort);
    }
    return st;
}

nb_status nb_vocab_index(nb_tokenizer *t, const char *path, nb_error *err)
{
    int32_t code_of[256];
    int16_t byte_of[324];
    nb_status st = NB_OK;
    byte_spelling(code_of, byte_of);
    const size_t n = (size_t)t->n;
    t->n_slot = slots_for(n);
    t->bytes = nb_arena_alloc(t->arena, n, sizeof *t->bytes, err);
    t->piece = nb_arena_alloc(t->arena, n, sizeof *t->piece, err);
    t->is_end = nb_arena_alloc(t->arena, n, sizeof *t->is_end, err);
    t->slot = nb_arena_alloc(t->arena, t->n_slot, sizeof *t->slot, err);
    if (!t->bytes || !t->piece || !t->is_end || !t->slot)
        return NB_NO_ROOM;
    memset(t->slot, -1, t->n_slot * sizeof *t->slot);
    memset(t->byte_id, -1, sizeof t->byte_id);
    for (int32_t id = 0; id < t->n && st == NB_OK; id++) {
        const nb_str s = t->token[id];
        const bool control = t->type[id] == NB_TOKEN_CONTROL, user = t->type[id] == NB_TOKEN_USER;
        const int b = !t->byte_level && t->type[id] == NB_TOKEN_BYTE ? byte_token(s) : -1;
        if (!t->byte_level && t->type[id] == NB_TOKEN_BYTE && b < 0)
            return nb_fail_at(err, NB_BAD_INPUT, path, -1, "token %d is marked as a byte but is not spelled <0xXX>", id);
        t->bytes[id] = s;
        if (t->byte_level && !control && !user)
            st = unspell(t, s, byte_of, &t->bytes[id], err);
        t->piece[id] = t->bytes[id];
        if (control || t->type[id] == NB_TOKEN_UNUSED)
            t->piece[id].n = 0;
        else if (b >= 0) {
            char *one = nb_arena_strdup(t->arena, (const char[]){(char)b}, 1, err);
            t->piece[id] = (nb_str){one, 1};
            t->byte_id[b] = id;
            st = one ? NB_OK : NB_NO_ROOM;
        } else if (!t->byte_level && st == NB_OK)
            st = spaced(t, s, &t->piece[id], err);
        if (t->byte_level && !control && st == NB_OK && t->bytes[id].n == 1)
            t->byte_id[(unsigned char)t->bytes[id].p[0]] = id;
        t->is_end[id] = id == t->eos || (control && names_end(s));
        if (st != NB_OK || nb_vocab_find(t, t->bytes[id].p, t->bytes[id].n) >= 0)
            continue; /* the first of two equal spellings is the one that text becomes */
        uint32_t i = hash_bytes(t->bytes[id].p, t->bytes[id].n);
        while (t->slot[i & (t->n_slot - 1)] >= 0)
            i++;
        t->slot[i & (t->n_slot - 1)] = id;
    }
    for (int b = 0; b < 256 && st == NB_OK && t->byte_level; b++)
        if (t->byte_id[b] < 0 && t->unknown < 0)
            return nb_fail_at(err, NB_BAD_INPUT, path, -1, "the byte-level vocabulary has no token for byte 0x%02x", (unsigned)b);
    return st == NB_OK ? index_specials(t, err) : st;
}

nb_status nb_vocab_open_merges(nb_tokenizer *t, size_t n, nb_error *err)
{
    t->n_merge_slot = slots_for(n);
    t->merge = nb_arena_alloc(t->arena, t->n_merge_slot, sizeof *t->merge, err);
    if (!t->merge)
        return NB_NO_ROOM;
    memset(t->merge, -1, t->n_merge_slot * sizeof *t->merge);
    return NB_OK;
}

nb_status nb_vocab_add_merge(nb_tokenizer *t, const char *path, nb_str left, nb_str right, int32_t rank, nb_error *err)
{
    int32_t code_of[256];
    int16_t byte_of[324];
    nb_str a = left, b = right;
    nb_status st = NB_OK;
    if (t->byte_level) {
        byte_spelling(code_of, byte_of);
        st = unspell(t, left, byte_of, &a, err);
        if (st == NB_OK)
            st = unspell(t, right, byte_of, &b, err);
    }
    char *joined = st == NB_OK ? nb_arena_alloc(t->arena, a.n + b.n + 1, 1, err) : NULL;
    if (!joined)
        return NB_NO_ROOM;
    memcpy(joined, a.p, a.n);
    memcpy(joined + a.n, b.p, b.n);
    const nb_merge m = {nb_vocab_find(t, a.p, a.n), nb_vocab_find(t, b.p, b.n), rank, nb_vocab_find(t, joined, a.n + b.n)};
    if (m.left < 0 || m.right < 0 || m.id < 0)
        return nb_fail_at(err, NB_BAD_INPUT, path, -1, "merge %d joins or makes a token that is not in the vocabulary", rank);
    if (nb_vocab_merge(t, m.left, m.right))
        return NB_OK;
    uint32_t i = hash_pair(m.left, m.right);
    while (t->merge[i & (t->n_merge_slot - 1)].left >= 0)
        i++;
    t->merge[i & (t->n_merge_slot - 1)] = m;
    return NB_OK;
}
