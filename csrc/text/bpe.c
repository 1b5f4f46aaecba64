/* bpe.c -- byte-pair encoding of one piece of text (Sennrich et al. 2016): begin with characters
 * (or bytes), join the best adjacent pair until none can be joined. "Best" is the lowest rank in
 * the merge list, or the highest score of the joined token (SentencePiece); the leftmost of equals.
 *
 * Symbols form a linked list; candidate pairs wait in a binary heap, stale ones are dropped when
 * they come up. Pairs of one merge that are found from left to right hang in a chain behind the
 * first, which alone is in the heap: a row of one character has a few chains, so it costs O(n). n
 * symbols: at most n - 1 joins, 3 n pairs, O(n log n) time, about 104 n bytes. */
#include "text/broken.h"
#include "text/vocab.h"

#include <stdlib.h>
#include <string.h>

struct nb_bpe_symbol {
    int32_t prev, next; /* -1 at the ends */
    int32_t id;         /* -1: a character that is no token */
    uint32_t at, n;     /* its bytes; n 0: joined into its left neighbour */
};

struct nb_bpe_pair {
    int32_t left; /* -1: taken */
    int32_t id;   /* the joined token */
    uint32_t n;   /* bytes of both when the pair was seen: either only grows, so differs if stale */
    int32_t next; /* in the chain, further right; -1 at its end */
};

struct nb_bpe_head { /* what waits in the heap */
    float priority;  /* greater first */
    int32_t left;    /* then the leftmost */
    int32_t pair;
};

enum { kTails = 64, kChained = 128 };

struct tail { /* where a chain of this merge ends */
    float priority;
    int32_t pair;
};

struct work {
    const nb_tokenizer *t;
    const char *p;
    struct nb_bpe_symbol *s;
    struct nb_bpe_head *heap;
    struct nb_bpe_pair *pair;
    size_t n_heap, n_pair;
    bool chains;              /* long pieces only: short ones need no table */
    struct tail tail[kTails]; /* by id; another merge takes the place */
};

static bool before(const struct nb_bpe_head *a, const struct nb_bpe_head *b)
{
    return a->priority > b->priority || (!(a->priority < b->priority) && a->left < b->left);
}

static void push(struct work *w, float priority, struct nb_bpe_pair x)
{
    const int32_t at = (int32_t)w->n_pair++;
    struct tail *t = &w->tail[x.id % kTails];
    struct nb_bpe_pair *last = w->chains && t->pair >= 0 ? &w->pair[t->pair] : NULL;
    const bool same =
        last && last->id == x.id && !(t->priority < priority) && !(t->priority > priority);
    const bool chained = same && last->left >= 0 && last->left < x.left;
    w->pair[at] = x;
    if (w->chains)
        *t = (struct tail){priority, at};
    if (chained) {
        last->next = at;
        return;
    }
    const struct nb_bpe_head h = {priority, x.left, at};
    size_t i = w->n_heap++;
    while (i && before(&h, &w->heap[(i - 1) / 2])) {
        w->heap[i] = w->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->heap[i] = h;
}

static struct nb_bpe_pair pop(struct work *w)
{
    struct nb_bpe_pair *first = &w->pair[w->heap[0].pair];
    const struct nb_bpe_pair top = *first;
    struct nb_bpe_head x;
    first->left = -1;
    if (top.next >= 0)
        x = (struct nb_bpe_head){w->heap[0].priority, w->pair[top.next].left, top.next};
    else
        x = w->heap[--w->n_heap];
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

/* Puts the pair of symbol `left` and its right neighbour into the heap if they can be joined. */
static void consider(struct work *w, int32_t left)
{
    const int32_t right = left >= 0 ? w->s[left].next : -1;
    if (right < 0)
        return;
    const struct nb_bpe_symbol *a = &w->s[left], *b = &w->s[right];
    struct nb_bpe_pair x = {.left = left, .n = a->n + b->n, .next = -1};
    float priority = 0;
    if (w->t->by_score) {
        x.id = x.n <= w->t->longest ? nb_vocab_find(w->t, w->p + a->at, x.n) : -1;
        if (x.id < 0)
            return;
        priority = w->t->score[x.id];
    } else {
        const nb_merge *m = a->id >= 0 && b->id >= 0 ? nb_vocab_merge(w->t, a->id, b->id) : NULL;
        if (!m)
            return;
        x.id = m->id;
        priority = -(float)m->rank; /* exact: ranks stay below 2^24 */
    }
    push(w, priority, x);
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

nb_status nb_bpe_fall_back(const nb_tokenizer *t, const char *p, size_t n, bool *row, nb_ids *out,
                           nb_error *err)
{
    nb_status st = NB_OK;
    bool whole = true;
    for (size_t i = 0; i < n; i++)
        whole = whole && t->byte_id[(unsigned char)p[i]] >= 0;
    for (size_t i = 0; whole && i < n && st == NB_OK; i++)
        st = nb_ids_add(out, t->byte_id[(unsigned char)p[i]], err);
    if (!whole && t->unknown < 0)
        return nb_fail(err, NB_BAD_INPUT,
                       "the text has a character (its first byte is 0x%02x) for which the "
                       "vocabulary has neither tokens nor an unknown token",
                       (unsigned)(unsigned char)p[0]);
    if (!whole && !(*row && t->fuse_unknown))
        st = nb_ids_add(out, t->unknown, err);
    *row = !whole;
    return st;
}

static nb_status grow(nb_bpe *w, size_t n, nb_error *err)
{
    if (n <= w->cap)
        return NB_OK;
    const size_t cap = n < 256 ? 256 : n + n / 2, steps = w->steps;
    nb_bpe_close(w);
    w->steps = steps;
    w->symbol = nb_alloc(cap, sizeof *w->symbol, "the symbols of a piece of text", err);
    w->heap = nb_alloc(3 * cap, sizeof *w->heap, "the pairs of a piece of text", err);
    w->pair = nb_alloc(3 * cap, sizeof *w->pair, "the pairs of a piece of text", err);
    w->spelling = nb_alloc(2 * cap, 1, "the spelling of a piece of text", err);
    if (!w->symbol || !w->heap || !w->pair || !w->spelling)
        return NB_NO_ROOM;
    w->cap = cap;
    return NB_OK;
}

void nb_bpe_close(nb_bpe *w)
{
    free(w->symbol);
    free(w->heap);
    free(w->pair);
    free(w->spelling);
    free(w->step);
    *w = (nb_bpe){0};
}

static int32_t find(const nb_tokenizer *t, const char *p, size_t n)
{
    const int32_t id = nb_vocab_find(t, p, n);
    return id >= 0 && t->strip[id] & NB_ADDED_ONLY ? -1 : id;
}

/* The piece as one token: -1 if there is none. */
static int32_t whole_token(const nb_tokenizer *t, const nb_bpe *w, const char *p, size_t n)
{
    if (!t->byte_level)
        return find(t, p, n);
    return find(t, w->spelling, nb_spelling_of_bytes(p, n, w->spelling));
}

/* Splits the piece into characters, or bytes; returns their number. */
static int32_t symbols(const nb_tokenizer *t, const char *p, size_t n, struct nb_bpe_symbol *s)
{
    int32_t count = 0;
    for (size_t i = 0; i < n; count++) {
        const size_t len = t->byte_level ? 1 : nb_utf8_whole(p + i, n - i);
        const size_t bytes = len ? len : 1;
        s[count] = (struct nb_bpe_symbol){.prev = count - 1,
                                          .next = i + bytes < n ? count + 1 : -1,
                                          .at = (uint32_t)i,
                                          .n = (uint32_t)bytes};
        s[count].id = t->byte_level ? t->byte_id[(unsigned char)p[i]] : find(t, p + i, bytes);
        i += bytes;
    }
    return count;
}

nb_status nb_bpe_encode(const nb_tokenizer *t, nb_bpe *scratch, const char *p, size_t n,
                        nb_ids *out, nb_error *err)
{
    if (n == 0)
        return NB_OK;
    nb_status st = grow(scratch, n, err);
    if (st != NB_OK)
        return st;
    if (t->whole_first) {
        const int32_t id = whole_token(t, scratch, p, n);
        if (id >= 0)
            return nb_ids_add(out, id, err);
    }
    struct work w; /* its table is set up where it is used */
    w.t = t;
    w.p = p;
    w.s = scratch->symbol;
    w.heap = scratch->heap;
    w.pair = scratch->pair;
    w.n_heap = w.n_pair = 0;
    const int32_t count = symbols(t, p, n, w.s);
    w.chains = count > kChained;
    for (int i = 0; i < kTails && w.chains; i++)
        w.tail[i].pair = -1;
    for (int32_t i = 0; i < count; i++)
        consider(&w, i);
    while (w.n_heap) {
        const struct nb_bpe_pair x = pop(&w);
        struct nb_bpe_symbol *a = &w.s[x.left];
        if (a->n == 0 || a->next < 0 || a->n + w.s[a->next].n != x.n)
            continue; /* stale */
        struct nb_bpe_symbol *b = &w.s[a->next];
        a->id = x.id;
        a->n = x.n;
        a->next = b->next;
        b->n = 0;
        if (a->next >= 0)
            w.s[a->next].prev = x.left;
        consider(&w, a->prev);
        consider(&w, x.left);
    }
    scratch->steps += w.n_pair;
    bool row = false;
    for (int32_t i = 0; i >= 0 && st == NB_OK; i = w.s[i].next) {
        if (w.s[i].id < 0) {
            st = nb_bpe_fall_back(t, p + w.s[i].at, w.s[i].n, &row, out, err);
            continue;
        }
        st = nb_ids_add(out, w.s[i].id, err);
        row = false;
    }
    return st;
}
