/* session.c -- sequences in progress: their cache, their lengths, and feeding tokens to them in
 * slices of at most kSlice, or as many as the device wants.
 *
 * A step of no more tokens than there are sequences (decode) is the same ops with the same
 * arguments every time: ids, positions and draws lie in device memory, and the length of the
 * context that grids are cut for is rounded up to a power of two. A device that can record ops
 * (backend.h, replay_begin) does so for these, by everything that may differ: struct step. */
#include "model/model.h"

#include <stdlib.h>
#include <string.h>

enum {
    kSlice = 512, /* tokens a step: the panel of activations (512 x 1536 x 4 = 3 MiB) stays in L2
                   * and L3 */
    kLogitRows = 128, /* rows of the output layer at a time: 128 x 49152 x 4 = 24 MiB */
    kPickRows = 64,   /* rows that share the room of one draw */
    kLeastLen = 64    /* the shortest context that grids are cut for */
};

struct nb_session {
    nb_model *m;
    int32_t n_seq, ctx_len, logit_rows;
    int32_t *length; /* [n_seq] */
    nb_kv *kv;       /* [n_layer] */
    nb_pages pages;
    nb_acts acts;
    float *logits;  /* [logit_rows, vocab_size] device */
    int32_t *next;  /* [n_seq] device: tokens picked */
    uint64_t *draw; /* [n_seq] device */
    void *pick_scratch;
    nb_replay *replay; /* of m->be; NULL where it records nothing */
    float *host;       /* [logit_rows, vocab_size] host */
    int32_t *stage;    /* [3, n] host, of a step's n tokens: ids, sequences, positions */
    int64_t host_bytes;
};

enum pick { PICK_NOTHING, PICK_GREATEST, PICK_DRAWN };

/* What one step does behind its batch; equal ones are equal ops. No gaps: it is compared by its
 * bytes. */
struct step {
    int32_t n, max_len;  /* tokens */
    int32_t from, n_row; /* of them, which get logits */
    int32_t pick;        /* enum pick, from these logits */
    float temp, top_p, min_p;
    int32_t top_k;
};
_Static_assert(sizeof(struct step) == 9 * 4 && sizeof(struct step) <= NB_REPLAY_KEY,
               "a key without gaps");

static nb_sample_args draw_args(const nb_session *s, const struct step *t, int32_t at)
{
    const int32_t left = t->n_row - at, v = s->m->hp.vocab_size;
    return (nb_sample_args){.x = s->logits ? s->logits + (int64_t)at * v : NULL,
                            .M = left < kPickRows ? left : kPickRows,
                            .N = v,
                            .ldx = v,
                            .temp = t->temp,
                            .top_k = t->top_k,
                            .top_p = t->top_p,
                            .min_p = t->min_p,
                            .draw = s->draw ? s->draw + at : NULL,
                            .out = s->next ? s->next + at : NULL,
                            .scratch = s->pick_scratch};
}

/* Room for the tokens picked and the draws behind them. */
static nb_status open_pick(nb_session *s, nb_error *err)
{
    nb_backend *be = s->m->be;
    const struct step all = {.n_row = s->n_seq};
    const nb_sample_args a = draw_args(s, &all, 0);
    nb_status st = be->op->alloc(be, (size_t)s->n_seq * sizeof *s->next, "next tokens",
                                 (void **)&s->next, err);
    if (st == NB_OK)
        st = be->op->alloc(be, (size_t)s->n_seq * sizeof *s->draw, "draws", (void **)&s->draw, err);
    if (st == NB_OK && be->op->sample_scratch)
        st = be->op->alloc(be, be->op->sample_scratch(be, &a), "sampling", &s->pick_scratch, err);
    return st;
}

nb_status nb_session_open(nb_model *m, int32_t n_seq, int32_t ctx_len, nb_session **out,
                          nb_error *err)
{
    *out = NULL;
    if (!m->be || !m->layer)
        return nb_fail(err, NB_USAGE, "the model was opened for text only");
    if (ctx_len == 0)
        ctx_len = m->hp.ctx_len;
    if (n_seq < 1 || ctx_len < 1 || ctx_len > m->hp.ctx_len) {
        nb_fail(err, NB_BAD_INPUT, "a context of %d tokens for %d sequences; the model has 1 to %d",
                ctx_len, n_seq, m->hp.ctx_len);
        nb_hint(err, "--ctx %d", m->hp.ctx_len);
        return NB_BAD_INPUT;
    }
    nb_session *s = nb_alloc_zero(1, sizeof *s, "a session", err);
    if (!s)
        return NB_NO_ROOM;
    const int32_t most = m->be->step_tokens ? m->be->step_tokens : kSlice,
                  slice = ctx_len < most ? ctx_len : most,
                  max_token = slice > n_seq ? slice : n_seq;
    s->m = m;
    s->n_seq = n_seq;
    s->ctx_len = ctx_len;
    s->logit_rows = kLogitRows > n_seq ? kLogitRows : n_seq;
    s->logit_rows = s->logit_rows < max_token ? s->logit_rows : max_token;
    s->length = nb_alloc_zero((size_t)n_seq, sizeof *s->length, "sequences", err);
    s->kv = nb_alloc_zero((size_t)m->hp.n_layer, sizeof *s->kv, "caches", err);
    s->stage = nb_alloc_zero(3 * (size_t)max_token, sizeof *s->stage, "a batch", err);
    const size_t logit_bytes = (size_t)s->logit_rows * (size_t)m->hp.vocab_size * sizeof(float);
    s->host_bytes = (int64_t)logit_bytes;
    s->host = nb_alloc_aligned(logit_bytes, 1, "logits", err);
    nb_status st = s->length && s->kv && s->stage && s->host ? NB_OK : NB_NO_ROOM;
    if (st == NB_OK)
        st = nb_pages_open(m, n_seq, ctx_len, &s->pages, err);
    for (int l = 0; l < m->hp.n_layer && st == NB_OK; l++) {
        nb_backend *be = nb_model_at(m, l)->be;
        st = nb_kv_open(be, &m->hp, n_seq, ctx_len, &s->kv[l], err);
        s->kv[l].page = nb_pages_on(&s->pages, be);
    }
    if (st == NB_OK)
        st = nb_acts_open(m, max_token, ctx_len, &s->acts, err);
    if (st == NB_OK)
        st = m->be->op->alloc(m->be, logit_bytes, "logits", (void **)&s->logits, err);
    if (st == NB_OK)
        st = open_pick(s, err);
    if (st != NB_OK) {
        nb_session_close(s);
        if (st == NB_NO_ROOM)
            nb_offload_hint(m, n_seq, ctx_len, true, err);
        return st;
    }
    *out = s;
    return NB_OK;
}

void nb_session_close(nb_session *s)
{
    if (!s)
        return;
    nb_backend *be = s->m->be;
    if (be->op->replay_close)
        be->op->replay_close(be, s->replay);
    for (int l = 0; s->kv && l < s->m->hp.n_layer; l++)
        nb_kv_close(nb_model_at(s->m, l)->be, &s->kv[l]);
    nb_pages_close(&s->pages);
    nb_acts_close(be, &s->acts);
    be->op->release(be, s->logits);
    be->op->release(be, s->next);
    be->op->release(be, s->draw);
    be->op->release(be, s->pick_scratch);
    free(s->kv);
    free(s->length);
    free(s->stage);
    free(s->host);
    free(s);
}

void nb_session_clear(nb_session *s, int32_t seq)
{
    if (seq < 0 || seq >= s->n_seq)
        return;
    s->length[seq] = 0;
    nb_pages_drop(&s->pages, seq);
}

int32_t nb_session_length(const nb_session *s, int32_t seq)
{
    return seq >= 0 && seq < s->n_seq ? s->length[seq] : 0;
}

const nb_model *nb_session_model(const nb_session *s)
{
    return s->m;
}

int64_t nb_session_host_bytes(const nb_session *s)
{
    return s->host_bytes;
}

int32_t nb_session_ctx_len(const nb_session *s)
{
    return s->ctx_len;
}

void nb_session_hint_room(const nb_session *s, int64_t n, nb_error *err)
{
    if (n <= s->m->hp.ctx_len)
        nb_hint(err, "--ctx %lld", (long long)n);
    else
        nb_hint(err, "the model has a context of %d tokens: a shorter text", s->m->hp.ctx_len);
}

static nb_status check_feed(const nb_session *s, int32_t seq, const int32_t *tokens,
                            int32_t n_token, nb_error *err)
{
    if (seq < 0 || seq >= s->n_seq || n_token < 1)
        return nb_fail(err, NB_BAD_INPUT,
                       "sequence %d with %d tokens; the session has %d sequences", seq, n_token,
                       s->n_seq);
    if (n_token > s->ctx_len - s->length[seq]) {
        nb_fail(err, NB_NO_ROOM,
                "the context is full: %d tokens are held, %d more do not fit into %d",
                s->length[seq], n_token, s->ctx_len);
        nb_session_hint_room(s, (int64_t)s->length[seq] + n_token, err);
        return NB_NO_ROOM;
    }
    for (int32_t i = 0; i < n_token; i++)
        if (tokens[i] < 0 || tokens[i] >= s->m->hp.vocab_size)
            return nb_fail(err, NB_BAD_INPUT, "token %d at place %d, the vocabulary has %d",
                           tokens[i], i, s->m->hp.vocab_size);
    return NB_OK;
}

static nb_status pick(nb_session *s, const struct step *t, nb_error *err)
{
    nb_backend *be = s->m->be;
    const int64_t v = s->m->hp.vocab_size;
    const nb_argmax_args greatest = {
        .x = s->logits, .M = t->n_row, .N = v, .ldx = v, .out = s->next};
    if (t->pick == PICK_GREATEST)
        return be->op->argmax(be, &greatest, err);
    nb_status st = nb_op_check(be, be->op->sample != NULL, "sample", err);
    for (int32_t at = 0; at < t->n_row && st == NB_OK; at += kPickRows) {
        const nb_sample_args a = draw_args(s, t, at);
        st = be->op->sample(be, &a, err);
    }
    return st;
}

/* The ops of a step on the model's own device, and nothing else. */
static nb_status enqueue(nb_session *s, const struct step *t, const nb_batch *batch, nb_error *err)
{
    nb_status st = nb_decoder_rest(s->m, &s->acts, batch, s->kv, err);
    if (st == NB_OK && t->n_row)
        st = nb_output_logits(s->m, s->acts.x + (int64_t)t->from * s->m->hp.hidden_size, t->n_row,
                              s->acts.h, s->logits, s->acts.scratch, err);
    return st == NB_OK && t->pick != PICK_NOTHING ? pick(s, t, err) : st;
}

static bool is_decode(const nb_session *s, int32_t n)
{
    return n <= s->n_seq;
}

static int32_t rounded_len(const nb_session *s, int32_t len)
{
    int32_t most = kLeastLen;
    while (most < len && most <= s->ctx_len / 2)
        most *= 2;
    return most >= len && most < s->ctx_len ? most : s->ctx_len;
}

/* Uploads the staged tokens, and the table of pages if it changed, to the front too, and runs the
 * step; the residual stream is then in acts.x, logits and tokens where they were asked for. */
static nb_status run_staged(nb_session *s, struct step *t, nb_error *err)
{
    const size_t bytes = 3 * (size_t)t->n * sizeof(int32_t);
    nb_backend *be = s->m->be;
    const bool decode = is_decode(s, t->n);
    bool again = false;
    nb_status st = nb_pages_send(&s->pages, err);
    t->max_len = decode ? rounded_len(s, t->max_len) : t->max_len;
    for (nb_acts *a = &s->acts; a && st == NB_OK; a = a->front) {
        nb_acts_place(a, t->n); /* a recording goes by n, too */
        st = a->be->op->upload(a->be, a->ids, s->stage, bytes, err);
    }
    const nb_batch batch = {
        .n_token = t->n, .seq = s->acts.seq, .pos = s->acts.pos, .max_len = t->max_len};
    if (st == NB_OK)
        st = nb_decoder_front(s->m, &s->acts, &batch, s->kv, err);
    if (st != NB_OK || !decode || !be->op->replay_begin)
        return st == NB_OK ? enqueue(s, t, &batch, err) : st;
    st = be->op->replay_begin(be, &s->replay, t, sizeof *t, &again, err);
    if (st != NB_OK || again)
        return st;
    st = enqueue(s, t, &batch, err);
    const nb_status end = be->op->replay_end(be, s->replay, st == NB_OK, st == NB_OK ? err : NULL);
    return st == NB_OK ? end : st;
}

/* How the last n_row rows of a step are picked from. */
static void ask_pick(struct step *t, int32_t n_row, const nb_sampling *how)
{
    t->from = t->n - n_row;
    t->n_row = n_row;
    t->pick = how->temp > 0.0f ? PICK_DRAWN : PICK_GREATEST;
    if (t->pick == PICK_DRAWN) {
        t->temp = how->temp;
        t->top_p = how->top_p;
        t->min_p = how->min_p;
        t->top_k = how->top_k;
    }
}

/* The i-th token of a step of n. */
static void stage_token(nb_session *s, int32_t n, int32_t i, int32_t id, int32_t seq, int32_t pos)
{
    s->stage[i] = id;
    s->stage[(int64_t)n + i] = seq;
    s->stage[2 * (int64_t)n + i] = pos;
}

/* The rows [from, n) of acts.x through the output layer, in slices, to the sink; `row0` is the row
 * number of acts.x[0]. have: s->logits has them all already. */
static nb_status give_logits(nb_session *s, int64_t row0, int32_t from, int32_t n, bool have,
                             nb_logit_sink sink, void *arg, nb_error *err)
{
    nb_backend *be = s->m->be;
    const int64_t d = s->m->hp.hidden_size, v = s->m->hp.vocab_size;
    nb_status st = NB_OK;
    for (int32_t r = from; r < n && st == NB_OK; r += s->logit_rows) {
        const int64_t rows = n - r < s->logit_rows ? n - r : s->logit_rows;
        if (!have)
            st = nb_output_logits(s->m, s->acts.x + r * d, rows, s->acts.h, s->logits,
                                  s->acts.scratch, err);
        if (st == NB_OK)
            st = be->op->download(be, s->host, s->logits, (size_t)(rows * v) * sizeof(float), err);
        if (st == NB_OK)
            st = sink(arg, row0 + r, rows, s->host, err);
    }
    return st;
}

/* how: picks a token behind the last one; NULL: the rows go to the sink. */
static nb_status feed(nb_session *s, int32_t seq, const int32_t *tokens, int32_t n_token,
                      int64_t first_row, nb_logit_sink sink, void *arg, const nb_sampling *how,
                      nb_error *err)
{
    nb_status st = check_feed(s, seq, tokens, n_token, err);
    for (int32_t at = 0; at < n_token && st == NB_OK;) {
        const int32_t n = n_token - at < s->acts.max_token ? n_token - at : s->acts.max_token;
        const int32_t from = first_row > at ? (int32_t)(first_row - at) : 0;
        /* n_seq rows fit at once */
        const bool wanted = sink && from < n, have = wanted && is_decode(s, n);
        struct step t = {.n = n,
                         .max_len = s->length[seq] + n,
                         .from = have ? from : 0,
                         .n_row = have ? n - from : 0};
        for (int32_t i = 0; i < n; i++)
            stage_token(s, n, i, tokens[at + i], seq, s->length[seq] + i);
        if (how && at + n == n_token)
            ask_pick(&t, 1, how);
        nb_pages_hold(&s->pages, seq, t.max_len);
        st = run_staged(s, &t, err);
        if (st == NB_OK && wanted)
            st = give_logits(s, at, from, n, have, sink, arg, err);
        if (st == NB_OK)
            s->length[seq] += n;
        at += n;
    }
    return st;
}

nb_status nb_session_feed(nb_session *s, int32_t seq, const int32_t *tokens, int32_t n_token,
                          int64_t first_row, nb_logit_sink sink, void *arg, nb_error *err)
{
    return feed(s, seq, tokens, n_token, first_row, sink, arg, NULL, err);
}

struct copy {
    float *to;
    int64_t first, width;
};
static nb_status copy_rows(void *arg, int64_t row, int64_t n_row, const float *logits,
                           nb_error *err)
{
    const struct copy *c = arg;
    (void)err;
    memcpy(c->to + (row - c->first) * c->width, logits,
           (size_t)(n_row * c->width) * sizeof *logits);
    return NB_OK;
}

nb_status nb_session_step(nb_session *s, int32_t seq, const int32_t *tokens, int32_t n_token,
                          bool all_logits, float *logits, nb_error *err)
{
    struct copy c = {
        .to = logits, .first = all_logits ? 0 : n_token - 1, .width = s->m->hp.vocab_size};
    return nb_session_feed(s, seq, tokens, n_token, c.first, logits ? copy_rows : NULL, &c, err);
}

nb_status nb_logits_fault(const nb_model *m, int64_t position, nb_error *err)
{
    return nb_fail_at(err, NB_BAD_INPUT, m->container->path, -1,
                      "the logits after %lld tokens are not finite: a weight is NaN or infinite, "
                      "or the numbers grow beyond their type",
                      (long long)position);
}

static nb_status send_draws(nb_session *s, const nb_sampling *how, const uint64_t *draw, int32_t n,
                            nb_error *err)
{
    return how->temp > 0.0f
               ? s->m->be->op->upload(s->m->be, s->draw, draw, (size_t)n * sizeof *draw, err)
               : NB_OK;
}

nb_status nb_session_step_pick(nb_session *s, int32_t seq, const int32_t *tokens, int32_t n_token,
                               const nb_sampling *how, uint64_t draw, int32_t *next, nb_error *err)
{
    nb_backend *be = s->m->be;
    nb_status st = send_draws(s, how, &draw, 1, err);
    if (st == NB_OK)
        st = feed(s, seq, tokens, n_token, 0, NULL, NULL, how, err);
    if (st == NB_OK)
        st = be->op->download(be, next, s->next, sizeof *next, err);
    return st == NB_OK && *next < 0 ? nb_logits_fault(s->m, s->length[seq], err) : st;
}

/* One token for each of the sequences 0 .. n_seq - 1; how NULL: n_row rows of logits. */
static nb_status decode(nb_session *s, const int32_t *tokens, int32_t n_seq, int32_t n_row,
                        const nb_sampling *how, nb_error *err)
{
    struct step t = {.n = n_seq, .n_row = n_row};
    nb_status st =
        n_seq >= 1 && n_seq <= s->n_seq
            ? NB_OK
            : nb_fail(err, NB_BAD_INPUT, "%d sequences, the session has %d", n_seq, s->n_seq);
    for (int32_t i = 0; i < n_seq && st == NB_OK; i++) {
        st = check_feed(s, i, &tokens[i], 1, err);
        if (st == NB_OK) {
            nb_pages_hold(&s->pages, i, s->length[i] + 1);
            stage_token(s, n_seq, i, tokens[i], i, s->length[i]);
            t.max_len = s->length[i] + 1 > t.max_len ? s->length[i] + 1 : t.max_len;
        }
    }
    if (how)
        ask_pick(&t, n_row, how);
    return st == NB_OK ? run_staged(s, &t, err) : st;
}

nb_status nb_session_decode(nb_session *s, const int32_t *tokens, int32_t n_seq, float *logits,
                            nb_error *err)
{
    nb_status st = decode(s, tokens, n_seq, logits ? n_seq : 0, NULL, err);
    struct copy c = {.to = logits, .first = 0, .width = s->m->hp.vocab_size};
    if (st == NB_OK && logits)
        st = give_logits(s, 0, 0, n_seq, true, copy_rows, &c, err);
    for (int32_t i = 0; i < n_seq && st == NB_OK; i++)
        s->length[i]++;
    return st;
}

nb_status nb_session_decode_pick(nb_session *s, const int32_t *tokens, int32_t n_seq,
                                 const nb_sampling *how, const uint64_t *draw, int32_t *next,
                                 nb_error *err)
{
    /* decode refuses other numbers */
    nb_status st = n_seq >= 1 && n_seq <= s->n_seq ? send_draws(s, how, draw, n_seq, err) : NB_OK;
    if (st == NB_OK)
        st = decode(s, tokens, n_seq, n_seq, how, err);
    if (st == NB_OK)
        st = s->m->be->op->download(s->m->be, next, s->next, (size_t)n_seq * sizeof *next, err);
    for (int32_t i = 0; i < n_seq && st == NB_OK; i++) {
        s->length[i]++;
        if (next[i] < 0)
            st = nb_logits_fault(s->m, s->length[i], err);
    }
    return st;
}
