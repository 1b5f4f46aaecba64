/* pages.c -- the cache in pages: who holds which, and that a sequence's logits do not depend on it. */
#include "backend/kv.h"
#include "check.h"
#include "model/model.h"

enum { kVocab = 272, kSeq = 3, kCtx = 200 };

static nb_model *open_model(check *c, const char *device)
{
    char path[600];
    nb_error err = {.offset = -1, .message = ""};
    const nb_model_options o = {.device = device};
    nb_model *m = NULL;
    snprintf(path, sizeof path, "%s/tests/data/models/tiny-llama", NB_SOURCE_DIR);
    if (nb_model_open(path, &o, &m, &err) == NB_DEVICE)
        check_skip(c, "%s", err.message);
    else
        CHECK_STR(c, err.message, "");
    CHECK(c, !m || m->hp.vocab_size == kVocab);
    return m;
}

/* Held pages are in range, nobody holds one twice, and all others wait to be taken. */
static void check_pages(check *c, const nb_pages *p)
{
    const int32_t n = p->n_seq * p->seq_pages;
    int held[64] = {0};
    CHECK(c, n <= 64);
    for (int32_t s = 0; s < p->n_seq; s++)
        for (int32_t i = 0; i < p->held[s]; i++)
            held[p->table[s * p->seq_pages + i]]++;
    for (int32_t i = 0; i < p->n_unused; i++)
        held[p->unused[i]]++;
    for (int32_t i = 0; i < n; i++)
        CHECK_EQ(c, held[i], 1);
}

static void holding(check *c)
{
    nb_error err = {.message = ""};
    nb_pages p;
    nb_model *m = open_model(c, "cpu");
    if (!m)
        return;
    CHECK_EQ(c, nb_pages_open(m, kSeq, kCtx, &p, &err), NB_OK); /* four pages each */
    CHECK_EQ(c, p.seq_pages, 4);
    CHECK(c, p.stale);
    nb_pages_hold(&p, 0, 64);
    nb_pages_hold(&p, 2, 65);
    nb_pages_hold(&p, 0, 129);
    CHECK(c, p.held[0] == 3 && p.held[1] == 0 && p.held[2] == 2 && p.n_unused == 7);
    CHECK(c, p.table[0] == 0 && p.table[8] == 1 && p.table[9] == 2 && p.table[2] == 4);
    check_pages(c, &p);
    CHECK_EQ(c, nb_pages_send(&p, &err), NB_OK);
    CHECK(c, !p.stale);
    CHECK_EQ(c, memcmp(nb_pages_on(&p, m->be), p.table, 12 * sizeof *p.table), 0);
    nb_pages_hold(&p, 2, 128); /* has them */
    CHECK(c, !p.stale);
    nb_pages_drop(&p, 2);
    nb_pages_hold(&p, 1, kCtx);
    CHECK(c, p.stale && p.held[1] == 4 && p.held[2] == 0);
    CHECK_EQ(c, p.table[4], 1); /* given back last */
    check_pages(c, &p);
    for (int32_t s = 0; s < kSeq; s++)
        nb_pages_hold(&p, s, kCtx);
    CHECK_EQ(c, p.n_unused, 0);
    check_pages(c, &p);
    nb_pages_close(&p);
    nb_model_close(m);
}

/* Three sequences that grow in turns, one of them cleared and begun anew, each against a session of
 * its own that was fed the same pieces. */
static void in_turns(check *c, const char *device)
{
    static const struct {
        int seq, n; /* n 0: cleared */
    } turn[] = {{0, 50}, {1, 70}, {2, 5},  {0, 30}, {1, 0}, {2, 90},
                {1, 66}, {0, 60}, {2, 40}, {1, 1},  {0, 1}};
    static float got[kVocab], want[kSeq][kVocab];
    int32_t ids[kCtx];
    nb_error err = {.message = ""};
    nb_model *m = open_model(c, device);
    nb_session *all = NULL, *one[kSeq] = {NULL};
    if (!m)
        return;
    CHECK_EQ(c, nb_session_open(m, kSeq, kCtx, &all, &err), NB_OK);
    for (int s = 0; s < kSeq; s++)
        CHECK_EQ(c, nb_session_open(m, 1, kCtx, &one[s], &err), NB_OK);
    for (size_t t = 0; t < sizeof turn / sizeof *turn; t++) {
        const int s = turn[t].seq;
        if (turn[t].n == 0) {
            nb_session_clear(all, s);
            nb_session_clear(one[s], 0);
            continue;
        }
        for (int i = 0; i < turn[t].n; i++)
            ids[i] = (int32_t)(t * 31 + (size_t)i * 7) % kVocab;
        CHECK_EQ(c, nb_session_step(all, s, ids, turn[t].n, false, got, &err), NB_OK);
        CHECK_EQ(c, nb_session_step(one[s], 0, ids, turn[t].n, false, want[s], &err), NB_OK);
        CHECK(c, isfinite(got[0]) && memcmp(got, want[s], sizeof got) == 0);
    }
    for (int s = 0; s < kSeq; s++)
        nb_session_close(one[s]);
    nb_session_close(all);
    nb_model_close(m);
}

static void cpu_in_turns(check *c)
{
    in_turns(c, "cpu");
}

static void simt_in_turns(check *c)
{
    in_turns(c, "simt");
}

static const check_case cases[] = {
    {"a sequence takes pages as it grows and gives them back; nobody shares one", holding},
    {"on the CPU a sequence's logits do not depend on its pages, bit for bit", cpu_in_turns},
    {"the same on the emulator", simt_in_turns},
};
CHECK_MAIN(cases)
