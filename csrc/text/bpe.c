/* bpe.c -- byte-pair encoding of one piece of text (Sennrich et al. 2016): begin with characters (or bytes), join the best adjacent pair until
 * none can be joined. "Best" is the lowest rank in the merge list, or the highest score of the joined token (SentencePiece).
 *
 * Symbols form a linked list; candidate pairs wait in a heap, stale ones are dropped when they come up: O(n log n). */
#include "text/vocab.h"

#include <stdlib.h>
#include <string.h>

struct symbol {
    int32_t prev, next; /* -1 at the ends */
    int32_t id;         /* -1: a character that is no token */
    uint32_t at, n;     /* its bytes; n 0: joined into its left neighbour */
};

struct pair {
    float priority; /* greater first */
    int32_t left;   /* then the leftmost */
    int32_t id;     /* the joined token */
    uint32_t n;     /* bytes of both when the pair was seen: differs when stale */
};

struct work {
    const nb_tokenizer *t;
    const char *p;
    struct symbol *s;
    struct pair *heap;
    size_t n_heap;
};

static bool before(const struct pair *a, const struct pair *b)
{
    return a->priority != b->priority ? a->priority > b->priority : a->left < b->left;
}

static void push(struct work *w, struct pair x)
{
    size_t i = w->n_heap++;
    while (i && before(&x, &w->heap[(i - 1) / 2])) {
        w->heap[i] = w->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->heap[i] = x;
}

static struct pair pop(struct work *w)
{
    const struct pair top = w->heap[0], x = w->heap[--w->n_heap];
    size_t i = 0;
    for (size_t child = 1; child < w->n_heap; child = 2 * i + 1) {
        if (child + 1 < w->n_heap && before(&w->heap[child + 1], &w->heap[child]))
            child++;
        if (!before(&w->heap[child], &x))
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = x;
    return top;
}

static void consider(struct work *w, int32_t left)
{
    const int32_t right = left >= 0 ? w->s[left].next : -1;
    if (right < 0)
        return;
    const struct symbol *a = &w->s[left], *b = &w->s[right];
    struct pair x = {.left = left, .n = a->n + b->n};
    if (w->t->by_score) {
        x.id = nb_vocab_find(w->t, w->p + a->at, x.n);
        if (x.id < 0)
            return;
        x.priority = w->t->score[x.id];
    } else {
        const nb_merge *m = a->id >= 0 && b->id >= 0 ? nb_vocab_merge(w->t, a->id, b->id) : NULL;
        if (!m)
            return;
        x.id = m->id;
        x.priority = -(float)m->rank; /* exact below 2^24, and no vocabulary has as many merges */
    }
    push(w, x);
}

nb_status nb_ids_add(nb_ids *v, int32_t id, nb_error *err)
{
    if (v->n == v->cap) {
        const size_t cap = v->cap ? v->cap * 2 : 64;
        int32_t *p = realloc(v->p, cap * sizeof *p);
        if (!p)
            return nb_fail(err, NB_NO_ROOM, "out of memory: %zu token ids", cap);
        v->p = p;
        v->cap = cap;
    }
    v->p[v->n++] = id;
    return NB_OK;
}

/* A symbol that never became a token: its bytes as byte tokens, else the unknown token. */
static nb_status fall_back(const struct work *w, const struct symbol *s, nb_ids *out, nb_error *err)
{
    nb_status st = NB_OK;
    bool whole = true;
    for (uint32_t i = 0; i < s->n; i++)
        whole = whole && w->t->byte_id[(unsigned char)w->p[s->at + i]] >= 0;
    if (!whole)
        return w->t->unknown >= 0 ? nb_ids_add(out, w->t->unknown, err) : NB_OK;
    for (uint32_t i = 0; i < s->n && st == NB_OK; i++)
        st = nb_ids_add(out, w->t->byte_id[(unsigned char)w->p[s->at + i]], err);
    return st;
}

nb_status nb_bpe_encode(const nb_tokenizer *t, const char *p, size_t n, nb_ids *out, nb_error *err)
{
    struct work w = {.t = t, .p = p};
    nb_status st = NB_OK;
    int32_t count = 0;
    if (n == 0)
        return NB_OK;
    w.s = nb_alloc(n, sizeof *w.s, "symbols", err);
    w.heap = nb_alloc(3 * n, sizeof *w.heap, "pairs", err); /* n - 1 at first, at most 2 for each of n - 1 joins */
    if (!w.s || !w.heap)
        st = NB_NO_ROOM;
    for (size_t i = 0; i < n && st == NB_OK; count++) {
        const int len = t->byte_level ? 1 : nb_utf8_length(p + i, n - i);
        const uint32_t bytes = len ? (uint32_t)len : 1;
        w.s[count] = (struct symbol){.prev = count - 1, .next = i + bytes < n ? count + 1 : -1, .at = (uint32_t)i, .n = bytes};
        w.s[count].id = t->byte_level ? t->byte_id[(unsigned char)p[i]] : nb_vocab_find(t, p + i, bytes);
        i += bytes;
    }
    for (int32_t i = 0; i < count; i++)
        consider(&w, i);
    while (w.n_heap) {
        const struct pair x = pop(&w);
        struct symbol *a = &w.s[x.left];
        if (a->n == 0 || a->next < 0 || a->n + w.s[a->next].n != x.n)
            continue;
        struct symbol *b = &w.s[a->next];
        a->id = x.id;
        a->n = x.n;
        a->next = b->next;
        b->n = 0;
        if (a->next >= 0)
            w.s[a->next].prev = x.left;
        consider(&w, a->prev);
        consider(&w, x.left);
    }
    for (int32_t i = count ? 0 : -1; i >= 0 && st == NB_OK; i = w.s[i].next)
        st = w.s[i].id >= 0 ? nb_ids_add(out, w.s[i].id, err) : fall_back(&w, &w.s[i], out, err);
    free(w.s);
    free(w.heap);
    return st;
}
