/* unigram.c -- the most probable way to spell a piece of text with the tokens of a unigram model
 * (Kudo 2018, section 3.2): scores are log probabilities, best[i] = max over tokens that end at i
 * of best[i - length] + score (Viterbi). A character without a token of its own may also be
 * unknown, at 10 below the worst score (SentencePiece). The first of equals stays.
 *
 * Tokens that begin at a place are found in a sorted list: every byte narrows the range of those
 * that go on so. n bytes, tokens of at most l bytes: O(n l log N) time, 16 n bytes. */
#include "text/broken.h"
#include "text/vocab.h"

#include <stdlib.h>
#include <string.h>

enum { kLongest = 256 }; /* bytes of a token: bounds the walk from every place */

static const float kUnknownPenalty = 10.0f;

struct nb_unigram {
    int32_t *sorted; /* ids in order of their spelling */
    int32_t n;
    int32_t first[257]; /* where those that begin with a byte begin */
    float unknown;
};

struct spelled { /* what the sort sees */
    nb_str s;
    int32_t id;
};

static int by_spelling(const void *pa, const void *pb)
{
    const struct spelled *a = pa, *b = pb;
    const size_t n = a->s.n < b->s.n ? a->s.n : b->s.n;
    const int c = memcmp(a->s.p, b->s.p, n);
    return c ? c : (a->s.n > b->s.n) - (a->s.n < b->s.n);
}

nb_status nb_unigram_open(nb_tokenizer *t, nb_error *err)
{
    nb_unigram *u = t->unigram_list = nb_arena_alloc(t->arena, 1, sizeof *u, err);
    struct spelled *all = nb_alloc((size_t)t->n, sizeof *all, "tokens", err);
    nb_status st = u && all ? NB_OK : NB_NO_ROOM;
    float worst = 0;
    int32_t n = 0;
    for (int32_t id = 0; id < t->n && st == NB_OK; id++) {
        const nb_str s = t->token[id];
        if (t->type[id] != NB_TOKEN_NORMAL || nb_vocab_find(t, s.p, s.n) != id)
            continue;
        if (s.n > kLongest)
            st = nb_fail(err, NB_UNSUPPORTED,
                         "token %d of a unigram model has %zu bytes, at most %d are supported", id,
                         s.n, kLongest);
        worst = t->score[id] < worst ? t->score[id] : worst;
        all[n++] = (struct spelled){s, id};
    }
    if (st == NB_OK && !(u->sorted = nb_arena_alloc(t->arena, (size_t)n, sizeof *u->sorted, err)))
        st = NB_NO_ROOM;
    if (st == NB_OK) {
        qsort(all, (size_t)n, sizeof *all, by_spelling);
        u->n = n;
        u->unknown = worst - kUnknownPenalty;
        for (int32_t i = 0, b = 0; b <= 256; b++) {
            while (i < n && (unsigned char)all[i].s.p[0] < b)
                i++;
            u->first[b] = i;
        }
        for (int32_t i = 0; i < n; i++)
            u->sorted[i] = all[i].id;
    }
    free(all);
    return st;
}

/* The first in [lo, hi) whose byte at `at` is not below (above: is above) b; a token that ends
 * before comes first. */
static int32_t bound(const nb_tokenizer *t, int32_t lo, int32_t hi, size_t at, unsigned char b,
                     bool above)
{
    while (lo < hi) {
        const int32_t mid = lo + (hi - lo) / 2;
        const nb_str s = t->token[t->unigram_list->sorted[mid]];
        const int c = at < s.n ? (unsigned char)s.p[at] : -1;
        if (above ? c <= b : c < b)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct nb_unigram_step { /* the best way to byte i */
    float score;
    int32_t id;    /* of its last token; -1: an unknown character; -2: not reached */
    uint32_t n;    /* bytes of that */
    uint32_t next; /* on the best way to the end: where the token behind i ends */
};

static void reach(struct nb_unigram_step *to, float score, int32_t id, size_t n)
{
    if (to->id == -2 || score > to->score)
        *to = (struct nb_unigram_step){score, id, (uint32_t)n, 0};
}

/* All tokens that begin at p. */
static void extend(const nb_tokenizer *t, struct nb_unigram_step *at, const char *p, size_t n,
                   size_t whole)
{
    const nb_unigram *u = t->unigram_list;
    int32_t lo = u->first[(unsigned char)p[0]], hi = u->first[(unsigned char)p[0] + 1];
    bool single = false;
    for (size_t k = 1; lo < hi && k <= n; k++) {
        const int32_t id = u->sorted[lo];
        if (t->token[id].n == k) { /* the shortest of the range comes first */
            reach(&at[k], at->score + t->score[id], id, k);
            single = single || k == whole;
            lo++;
        }
        if (k == n)
            break;
        lo = bound(t, lo, hi, k, (unsigned char)p[k], false);
        hi = bound(t, lo, hi, k, (unsigned char)p[k], true);
    }
    if (!single)
        reach(&at[whole], at->score + u->unknown, -1, whole);
}

nb_status nb_unigram_encode(const nb_tokenizer *t, nb_bpe *w, const char *p, size_t n, nb_ids *out,
                            nb_error *err)
{
    if (w->n_step < n + 1) {
        free(w->step);
        w->n_step = 0;
        w->step =
            nb_alloc(n + n / 2 + 1, sizeof *w->step, "the ways to spell a piece of text", err);
        if (!w->step)
            return NB_NO_ROOM;
        w->n_step = n + n / 2 + 1;
    }
    struct nb_unigram_step *s = w->step;
    for (size_t i = 0; i <= n; i++)
        s[i].id = -2;
    s[0] = (struct nb_unigram_step){.id = -1};
    for (size_t i = 0; i < n;) { /* characters begin where steps are reached */
        const size_t len = nb_utf8_whole(p + i, n - i), whole = len ? len : 1;
        extend(t, &s[i], p + i, n - i, whole);
        i += whole;
    }
    for (size_t i = n; i > 0; i -= s[i].n)
        s[i - s[i].n].next = (uint32_t)i;
    nb_status st = NB_OK;
    bool row = false;
    for (size_t i = 0; i < n && st == NB_OK; i = s[i].next) {
        const struct nb_unigram_step *x = &s[s[i].next];
        st = x->id >= 0 ? nb_ids_add(out, x->id, err)
                        : nb_bpe_fall_back(t, p + i, x->n, &row, out, err);
        row = row && x->id < 0;
    }
    return st;
}
