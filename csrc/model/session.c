/* session.c -- sequences in progress: their cache, their lengths, and feeding tokens to them in slices of at most kSlice. */
#include "base/clock.h"
#include "base/random.h"
#include "model/model.h"

#include <stdlib.h>
#include <string.h>

enum {
    kSlice = 512,    /* tokens a step: the panel of activations (512 x 1536 x 4 = 3 MiB) stays in L2 and L3 */
    kLogitRows = 128 /* rows of the output layer at a time: 128 x 49152 x 4 = 24 MiB */
};

struct nb_session {
    nb_model *m;
    int32_t n_seq, ctx_len, logit_rows;
    int32_t *length; /* [n_seq] */
    nb_kv *kv;       /* [n_layer] */
    nb_acts acts;
    float *logits;   /* [logit_rows, vocab_size] device */
    int32_t *next;   /* [n_seq] device: argmax */
    float *host;     /* [logit_rows, vocab_size] host */
    int32_t *stage;  /* [3, max_token] host: ids, sequences, positions */
    int64_t host_bytes;
};

nb_status nb_session_open(nb_model *m, int32_t n_seq, int32_t ctx_len, nb_session **out, nb_error *err)
{
    *out = NULL;
    if (!m->be || !m->layer)
        return nb_fail(err, NB_USAGE, "the model was opened for text only");
    if (ctx_len == 0)
        ctx_len = m->hp.ctx_len;
    if (n_seq < 1 || ctx_len < 1 || ctx_len > m->hp.ctx_len) {
        nb_fail(err, NB_BAD_INPUT, "a context of %d tokens for %d sequences; the model has 1 to %d", ctx_len, n_seq, m->hp.ctx_len);
        nb_hint(err, "--ctx %d", m->hp.ctx_len);
        return NB_BAD_INPUT;
    }
    nb_session *s = nb_alloc_zero(1, sizeof *s, "a session", err);
    if (!s)
        return NB_NO_ROOM;
    const int32_t slice = ctx_len < kSlice ? ctx_len : kSlice, max_token = slice > n_seq ? slice : n_seq;
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
    for (int l = 0; l < m->hp.n_layer && st == NB_OK; l++)
        st = nb_kv_open(nb_model_at(m, l)->be, &m->hp, n_seq, ctx_len, &s->kv[l], err);
    if (st == NB_OK)
        st = nb_acts_open(m, max_token, ctx_len, &s->acts, err);
    if (st == NB_OK)
        st = m->be->op->alloc(m->be, logit_bytes, "logits", (void **)&s->logits, err);
    if (st == NB_OK)
        st = m->be->op->alloc(m->be, (size_t)n_seq * sizeof *s->next, "next tokens", (void **)&s->next, err);
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
    for (int l = 0; s->kv && l < s->m->hp.n_layer; l++)
        nb_kv_close(nb_model_at(s->m, l)->be, &s->kv[l]);
    nb_acts_close(be, &s->acts);
    be->op->release(be, s->logits);
    be->op->release(be, s->next);
    free(s->kv);
    free(s->length);
    free(s->stage);
    free(s->host);
    free(s);
}

void nb_session_clear(nb_session *s, int32_t seq)
{
    if (seq >= 0 && seq < s->n_seq)
        s->length[seq] = 0;
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

static nb_status check_feed(const nb_session *s, int32_t seq, const int32_t *tokens, int32_t n_token, nb_error *err)
{
    if (seq < 0 || seq >= s->n_seq || n_token < 1)
        return nb_fail(err, NB_BAD_INPUT, "sequence %d with %d tokens; the session has %d sequences", seq, n_token, s->n_seq);
    if (n_token > s->ctx_len - s->length[seq]) {
        nb_fail(err, NB_NO_ROOM, "the context is full: %d tokens are held, %d more do not fit into %d", s->length[seq], n_token, s->ctx_len);
        nb_session_hint_room(s, (int64_t)s->length[seq] + n_token, err);
        return NB_NO_ROOM;
    }
    for (int32_t i = 0; i < n_token; i++)
        if (tokens[i] < 0 || tokens[i] >= s->m->hp.vocab_size)
            return nb_fail(err, NB_BAD_INPUT, "token %d at place %d, the vocabulary has %d", tokens[i], i,
                           s->m->hp.vocab_size);
    return NB_OK;
}

/* Uploads n staged tokens, to the front too, and runs the decoder over them; the residual stream is then in acts.x. */
static nb_status run_staged(nb_session *s, int32_t n, int32_t max_len, nb_error *err)
{
    const size_t bytes = (size_t)n * sizeof(int32_t);
    nb_status st = NB_OK;
    for (const nb_acts *a = &s->acts; a && st == NB_OK; a = a->front) {
        st = a->be->op->upload(a->be, a->ids, s->stage, bytes, err);
        if (st == NB_OK)
            st = a->be->op->upload(a->be, a->seq, s->stage + a->max_token, bytes, err);
        if (st == NB_OK)
            st = a->be->op->upload(a->be, a->pos, s->stage + 2 * a->max_token, bytes, err);
    }
    const nb_batch batch = {.n_token = n, .seq = s->acts.seq, .pos = s->acts.pos, .max_len = max_len};
    return st == NB_OK ? nb_decoder(s->m, &s->acts, &batch, s->kv, err) : st;
}

static void stage_token(nb_session *s, int32_t i, int32_t id, int32_t seq, int32_t pos)
{
    s->stage[i] = id;
    s->stage[s->acts.max_token + i] = seq;
    s->stage[2 * s->acts.max_token + i] = pos;
}

/* The rows [from, n) of acts.x through the output layer, in slices, to the sink; `row0` is the row number of acts.x[0]. */
static nb_status give_logits(nb_session *s, int64_t row0, int32_t from, int32_t n, nb_logit_sink sink, void *arg, nb_error *err)
{
    nb_backend *be = s->m->be;
    const int64_t d = s->m->hp.hidden_size, v = s->m->hp.vocab_size;
    nb_status st = NB_OK;
    for (int32_t r = from; r < n && st == NB_OK; r += s->logit_rows) {
        const int64_t rows = n - r < s->logit_rows ? n - r : s->logit_rows;
        st = nb_output_logits(s->m, s->acts.x + r * d, rows, s->acts.h, s->logits, s->acts.scratch, err);
        if (st == NB_OK)
            st = be->op->download(be, s->host, s->logits, (size_t)(rows * v) * sizeof(float), err);
        if (st == NB_OK)
            st = sink(arg, row0 + r, rows, s->host, err);
    }
    return st;
}

nb_status nb_session_feed(nb_session *s, int32_t seq, const int32_t *tokens, int32_t n_token, int64_t first_row,
                          nb_logit_sink sink, void *arg, nb_error *err)
{
    nb_status st = check_feed(s, seq, tokens, n_token, err);
    for (int32_t at = 0; at < n_token && st == NB_OK;) {
        const int32_t n = n_token - at < s->acts.max_token ? n_token - at : s->acts.max_token;
        for (int32_t i = 0; i < n; i++)
            stage_token(s, i, tokens[at + i], seq, s->length[seq] + i);
        st = run_staged(s, n, s->length[seq] + n, err);
        if (st == NB_OK && sink && first_row < at + n)
            st = give_logits(s, at, first_row > at ? (int32_t)(first_row - at) : 0, n, sink, arg, err);
        if (st == NB_OK)
            s->length[seq] += n;
        at += n;
    }
    return st;
}

struct copy {
    float *to;
    int64_t first, width;
};
static nb_status copy_rows(void *arg, int64_t row, int64_t n_row, const float *logits, nb_error *err)
{
    const struct copy *c = arg;
    (void)err;
    memcpy(c->to + (row - c->first) * c->width, logits, (size_t)(n_row * c->width) * sizeof *logits);
    return NB_OK;
}

nb_status nb_session_step(nb_session *s, int32_t seq, const int32_t *tokens, int32_t n_token, bool all_logits, float *logits,
                          nb_error *err)
{
    struct copy c = {.to = logits, .first = all_logits ? 0 : n_token - 1, .width = s->m->hp.vocab_size};
    return nb_session_feed(s, seq, tokens, n_token, c.first, logits ? copy_rows : NULL, &c, err);
}

nb_status nb_session_step_greedy(nb_session *s, int32_t seq, const int32_t *tokens, int32_t n_token, int32_t *next, nb_error *err)
{
    nb_backend *be = s->m->be;
    const int32_t last = (n_token - 1) % s->acts.max_token; /* its row in the last slice */
    nb_status st = nb_session_feed(s, seq, tokens, n_token, 0, NULL, NULL, err);
    if (st == NB_OK)
        st = nb_output_logits(s->m, s->acts.x + (int64_t)last * s->m->hp.hidden_size, 1, s->acts.h, s->logits,
                              s->acts.scratch, err);
    const nb_argmax_args a = {.x = s->logits, .M = 1, .N = s->m->hp.vocab_size, .ldx = s->m->hp.vocab_size, .out = s->next};
    if (st == NB_OK)
        st = be->op->argmax(be, &a, err);
    if (st == NB_OK)
        st = be->op->download(be, next, s->next, sizeof *next, err);
    return st == NB_OK && *next < 0 ? nb_logits_fault(s->m, s->length[seq], err) : st;
}

nb_status nb_session_decode(nb_session *s, const int32_t *tokens, int32_t n_seq, float *logits, nb_error *err)
{
    nb_status st = n_seq >= 1 && n_seq <= s->n_seq
                       ? NB_OK
                       : nb_fail(err, NB_BAD_INPUT, "%d sequences, the session has %d", n_seq, s->n_seq);
    int32_t max_len = 0;
    for (int32_t i = 0; i < n_seq && st == NB_OK; i++) {
        st = check_feed(s, i, &tokens[i], 1, err);
        if (st == NB_OK) {
            stage_token(s, i, tokens[i], i, s->length[i]);
            max_len = s->length[i] + 1 > max_len ? s->length[i] + 1 : max_len;
        }
    }
    if (st == NB_OK)
        st = run_staged(s, n_seq, max_len, err);
    struct copy c = {.to = logits, .first = 0, .width = s->m->hp.vocab_size};
    if (st == NB_OK && logits)
        st = give_logits(s, 0, 0, n_seq, copy_rows, &c, err);
    for (int32_t i = 0; i < n_seq && st == NB_OK; i++)
        s->length[i]++;
    return st;
}
