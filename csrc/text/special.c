/* special.c -- control and user-defined tokens in a text: the longest one at every place.
 *
 * An Aho-Corasick automaton (Aho and Corasick 1975) over the reversed spellings reads the text from
 * its end: the longest reversed spelling that ends at a place is the longest token that begins
 * there. Time is linear in the text whatever the tokens are, and linear in the sum of their lengths
 * when the automaton is built. Edges lie in one hash of (node, byte); the root has a table. */
#include "text/vocab.h"

#include <stdlib.h>
#include <string.h>

struct node {
    int32_t fail;      /* the longest proper suffix of this node's string that is a node */
    int32_t any, user; /* the longest token that is a suffix: of any kind, user-defined only; -1 */
    int32_t parent;
    uint32_t depth;
    unsigned char byte; /* on the edge from the parent */
};

struct edge {
    int32_t from; /* -1: empty */
    int32_t to;
    unsigned char byte;
};

struct nb_special {
    struct node *node;
    int32_t n_node;
    struct edge *edge;
    uint32_t n_slot;
    int32_t root[256]; /* 0 where there is no edge */
};

static uint32_t place(const nb_special *s, int32_t from, unsigned char byte)
{
    const uint64_t h = ((uint64_t)(uint32_t)from << 8 | byte) * 0x9e3779b97f4a7c15ull;
    return (uint32_t)(h >> 32) & (s->n_slot - 1);
}

/* The child of a node, 0 if there is none (the root is nobody's child). */
static int32_t child(const nb_special *s, int32_t from, unsigned char byte)
{
    if (from == 0)
        return s->root[byte];
    for (uint32_t i = place(s, from, byte);; i = (i + 1) & (s->n_slot - 1)) {
        const struct edge *e = &s->edge[i];
        if (e->from < 0)
            return 0;
        if (e->from == from && e->byte == byte)
            return e->to;
    }
}

static int32_t grow(nb_special *s, int32_t from, unsigned char byte)
{
    const int32_t to = s->n_node++;
    s->node[to] = (struct node){
        .any = -1, .user = -1, .parent = from, .depth = s->node[from].depth + 1, .byte = byte};
    if (from == 0) {
        s->root[byte] = to;
        return to;
    }
    uint32_t i = place(s, from, byte);
    while (s->edge[i].from >= 0)
        i = (i + 1) & (s->n_slot - 1);
    s->edge[i] = (struct edge){from, to, byte};
    return to;
}

static bool is_special(const nb_tokenizer *t, int32_t id)
{
    const uint8_t type = t->type[id];
    const nb_str s = t->token[id];
    const bool kind = type == NB_TOKEN_CONTROL || type == NB_TOKEN_USER || type == NB_TOKEN_UNKNOWN;
    return kind && s.n > 0 && !memchr(s.p, (unsigned char)NB_TOKENIZE_GUARD, s.n);
}

static void add(nb_special *s, const nb_tokenizer *t, int32_t id)
{
    int32_t at = 0;
    const nb_str text = t->token[id];
    for (size_t i = text.n; i-- > 0;) {
        const unsigned char byte = (unsigned char)text.p[i];
        const int32_t next = child(s, at, byte);
        at = next ? next : grow(s, at, byte);
    }
    if (s->node[at].any < 0)
        s->node[at].any = id;
    if (s->node[at].user < 0 && t->type[id] == NB_TOKEN_USER)
        s->node[at].user = id;
}

/* Follows the byte from a node, over its suffixes. */
static inline int32_t follow(const nb_special *s, int32_t at, unsigned char byte)
{
    for (;;) {
        const int32_t to = child(s, at, byte);
        if (to || at == 0)
            return to;
        at = s->node[at].fail;
    }
}

/* Failure links in order of depth, which a counting sort gives. */
static nb_status link_all(nb_special *s, nb_error *err)
{
    const size_t n = (size_t)s->n_node;
    uint32_t deepest = 0;
    for (size_t i = 0; i < n; i++)
        deepest = s->node[i].depth > deepest ? s->node[i].depth : deepest;
    int32_t *order = nb_alloc(n, sizeof *order, "control tokens", err);
    size_t *start = nb_alloc_zero((size_t)deepest + 2, sizeof *start, "control tokens", err);
    const nb_status st = order && start ? NB_OK : NB_NO_ROOM;
    for (size_t i = 0; i < n && st == NB_OK; i++)
        start[s->node[i].depth + 1]++;
    for (size_t d = 0; d <= deepest && st == NB_OK; d++)
        start[d + 1] += start[d];
    for (size_t i = 0; i < n && st == NB_OK; i++)
        order[start[s->node[i].depth]++] = (int32_t)i;
    for (size_t i = 1; i < n && st == NB_OK; i++) { /* order[0] is the root */
        struct node *v = &s->node[order[i]];
        v->fail = v->parent ? follow(s, s->node[v->parent].fail, v->byte) : 0;
        v->any = v->any >= 0 ? v->any : s->node[v->fail].any;
        v->user = v->user >= 0 ? v->user : s->node[v->fail].user;
    }
    free(order);
    free(start);
    return st;
}

nb_status nb_special_open(nb_tokenizer *t, nb_error *err)
{
    size_t bytes = 0;
    for (int32_t id = 0; id < t->n; id++)
        bytes += is_special(t, id) ? t->token[id].n : 0;
    if (bytes == 0)
        return NB_OK;
    if (bytes > (size_t)1 << 28)
        return nb_fail(err, NB_BAD_INPUT,
                       "the control tokens have %zu bytes together, at most 2^28 are allowed",
                       bytes);
    nb_special *s = t->special = nb_alloc_zero(1, sizeof *s, "control tokens", err);
    if (!s)
        return NB_NO_ROOM;
    for (s->n_slot = 16; s->n_slot < bytes + bytes / 2;)
        s->n_slot *= 2;
    s->node = nb_alloc(bytes + 1, sizeof *s->node, "control tokens", err);
    s->edge = nb_alloc(s->n_slot, sizeof *s->edge, "control tokens", err);
    if (!s->node || !s->edge)
        return NB_NO_ROOM;
    memset(s->edge, -1, s->n_slot * sizeof *s->edge);
    s->node[0] = (struct node){.any = -1, .user = -1};
    s->n_node = 1;
    for (int32_t id = 0; id < t->n; id++)
        if (is_special(t, id))
            add(s, t, id);
    return link_all(s, err);
}

void nb_special_close(nb_special *s)
{
    if (!s)
        return;
    free(s->node);
    free(s->edge);
    free(s);
}

static nb_status add_hit(nb_hits *v, size_t at, int32_t id, nb_error *err)
{
    if (v->n == v->cap) {
        const size_t cap = v->cap ? 2 * v->cap : 64;
        nb_hit *p = realloc(v->p, cap * sizeof *p);
        if (!p)
            return nb_fail(err, NB_NO_ROOM, "out of memory: %zu control tokens in a text", cap);
        v->p = p;
        v->cap = cap;
    }
    v->p[v->n++] = (nb_hit){at, id};
    return NB_OK;
}

nb_status nb_special_find(const nb_tokenizer *t, const char *p, size_t n, bool control,
                          nb_hits *out, nb_error *err)
{
    const nb_special *s = t->special;
    nb_status st = NB_OK;
    int32_t at = 0;
    if (!s)
        return NB_OK;
    for (size_t i = n; i-- > 0 && st == NB_OK;) {
        at = follow(s, at, (unsigned char)p[i]);
        const int32_t id = control ? s->node[at].any : s->node[at].user;
        if (id >= 0)
            st = add_hit(out, i, id, err);
    }
    return st;
}
