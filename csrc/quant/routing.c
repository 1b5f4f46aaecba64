/* routing.c -- statistics of a mixture's experts: each sees the tokens that the router sends it, and no others.
 *
 *   H_e = sum over the pairs (token t, choice e) of the quantized stream of x x^T:   gate, up   x = the normed row of t
 *                                                                                  down       x = act(gate_e) up_e of t
 *
 * Under the drift correction C_e = sum (x_orig - x) x^T compares x with what the original stream has in its place. The quantized stream's routing decides
 * which pairs there are, since only they reach the expert in the model that is written; where the original stream sent the token elsewhere,
 *
 *   gate, up   x_orig is the original's normed row all the same: it does not depend on the choice
 *   down       there is no x_orig, as that expert never ran on that token: x_orig = x, the pair asks for what the weights did
 *
 * The rows of an expert are collected, 256 at a time, before they are multiplied: few of a sequence's tokens are one expert's, and a product reads and writes
 * all of H. The blocks depend on the tokens alone, so the bits do not on how many experts one pass measures.
 * Memory: of each expert at work H, C [K,K] f64 and 256 rows (twice with the correction). Cost of a pass: norm and router over all tokens again. */
#include "quant/pipe.h"

#include <stdlib.h>
#include <string.h>

enum { kRows = 256 }; /* as many as gram sums in f32 at most */

typedef struct routing {
    nb_pipe *p;
    nb_group_id g;
    int first, n; /* the experts at work */
    int64_t K, P; /* P: pairs of a sequence */
    nb_step step;
    int32_t *choice[2]; /* [P] host: the experts of the quantized and the original stream */
    int32_t *row[2];    /* [P] host: by expert, which row of the quantized stream; of the original one, or of the quantized one as -1 - row */
    int32_t *d_row[2];  /* [P] device */
    float *x[2];        /* [n][kRows][K] device: collected rows, of both streams */
    int *have;          /* [n] how many */
    int64_t *n_token;   /* [n] the caller's */
} routing;

static void routing_close(routing *r)
{
    nb_backend *be = r->p->be;
    for (int s = 0; s < 2; s++) {
        free(r->choice[s]);
        free(r->row[s]);
        be->op->release(be, r->d_row[s]);
        be->op->release(be, r->x[s]);
    }
    free(r->have);
}

static nb_gram_args gram_of(const routing *r, int e)
{
    const nb_pipe *p = r->p;
    const int64_t at = (int64_t)e * r->K * r->K, from = (int64_t)e * kRows * r->K;
    return (nb_gram_args){.x = r->x[0] + from, .x_orig = p->two ? r->x[1] + from : NULL, .M = r->have[e], .K = r->K, .ldx = r->K, .ld_orig = r->K,
                          .h = p->h + at, .c = p->two ? p->c + at : NULL, .scratch = p->scratch};
}

static nb_status routing_open(routing *r, nb_error *err)
{
    nb_pipe *p = r->p;
    nb_backend *be = p->be;
    const size_t square = (size_t)r->n * (size_t)(r->K * r->K) * sizeof(double), rows = (size_t)r->n * kRows * (size_t)r->K * sizeof(float);
    nb_status st = nb_op_check(be, be->op->gather_rows != NULL, "gather_rows", err);
    for (int s = 0; s < (p->two ? 2 : 1) && st == NB_OK; s++) {
        r->choice[s] = nb_alloc((size_t)r->P, sizeof *r->choice[s], "a routing", err);
        r->row[s] = nb_alloc((size_t)r->P, sizeof *r->row[s], "a routing", err);
        st = r->choice[s] && r->row[s] ? be->op->alloc(be, (size_t)r->P * sizeof(int32_t), "a routing", (void **)&r->d_row[s], err) : NB_NO_ROOM;
        if (st == NB_OK)
            st = be->op->alloc(be, rows, "inputs of experts", (void **)&r->x[s], err);
        if (st == NB_OK)
            st = be->op->zero(be, s ? p->c : p->h, square, err);
    }
    r->have = st == NB_OK ? nb_alloc_zero((size_t)r->n, sizeof *r->have, "a routing", err) : NULL;
    if (st != NB_OK || !r->have)
        return st == NB_OK ? NB_NO_ROOM : st;
    nb_gram_args a = gram_of(r, 0);
    a.M = kRows;
    const size_t gram = be->op->gram_scratch ? be->op->gram_scratch(be, &a) : 0, layer = nb_layer_scratch(p->m, r->step.layer, p->calib->ctx, p->calib->ctx);
    st = nb_pipe_scratch(p, gram > layer ? gram : layer, err);
    r->step.scratch = p->scratch;
    r->step.scratch_bytes = p->scratch_bytes;
    return st;
}

/* ---- one sequence ---- */

/* What enters the group in t's stream, and the choice of its pairs. gate, up: the router is asked, with the very values and shapes of the stage to come. */
static nb_status enter(routing *r, const nb_stream *t, int32_t i, float *room, const float **x, int32_t *choice, nb_error *err)
{
    nb_pipe *p = r->p;
    nb_backend *be = p->be;
    const nb_hparams *hp = &p->m->hp;
    nb_status st = nb_pipe_input(p, r->g, t, i, &r->step, room, x, err);
    if (st != NB_OK || (r->g == NB_GROUP_GATE_UP && t == &p->original)) /* whose choice nobody asks for */
        return st;
    const float *weight = r->g == NB_GROUP_DOWN ? *x + r->P * hp->intermediate_size : p->acts.act;
    if (r->g == NB_GROUP_GATE_UP)
        st = nb_ffn_choose(&r->step, *x, p->acts.gu, p->acts.act, (int32_t *)(p->acts.act + r->P), err);
    return st == NB_OK ? be->op->download(be, choice, weight + r->P, (size_t)r->P * sizeof *choice, err) : st;
}

/* The original stream's row beside pair `pair` of the quantized one. */
static int32_t partner(const routing *r, int32_t pair)
{
    const int32_t used = r->p->m->hp.n_expert_used, token = pair / used;
    if (r->g == NB_GROUP_GATE_UP)
        return token;
    for (int32_t j = token * used; j < (token + 1) * used; j++)
        if (r->choice[1][j] == r->choice[0][pair])
            return j;
    return -1 - pair;
}

/* Pairs of expert `first + e` in the order of the tokens, from place `at` of the lists on; returns how many. */
static int32_t list_pairs(const routing *r, int e, int32_t at)
{
    const int32_t used = r->p->m->hp.n_expert_used;
    int32_t n = 0;
    for (int32_t pair = 0; pair < (int32_t)r->P; pair++)
        if (r->choice[0][pair] == r->first + e) {
            r->row[0][at + n] = r->g == NB_GROUP_GATE_UP ? pair / used : pair;
            if (r->p->two)
                r->row[1][at + n] = partner(r, pair);
            n++;
        }
    return n;
}

static nb_status flush(routing *r, int e, nb_error *err)
{
    const nb_gram_args a = gram_of(r, e);
    r->n_token[e] += r->have[e];
    r->have[e] = 0;
    return a.M ? r->p->be->op->gram_accumulate(r->p->be, &a, err) : NB_OK;
}

/* Rows [at, at + n) of the lists to what expert first + e has. x: of both streams. */
static nb_status collect(routing *r, int e, int32_t at, int32_t n, const float *const x[2], nb_error *err)
{
    nb_backend *be = r->p->be;
    nb_status st = NB_OK;
    while (n && st == NB_OK) {
        const int32_t some = n < kRows - r->have[e] ? n : kRows - r->have[e];
        for (int s = 0; s < (r->p->two ? 2 : 1) && st == NB_OK; s++) {
            const nb_gather_args a = {.x = x[s], .other = x[0], .row = r->d_row[s] + at, .M = some, .K = r->K, .ldx = r->K, .ldo = r->K, .ldy = r->K,
                                      .y = r->x[s] + ((int64_t)e * kRows + r->have[e]) * r->K};
            st = be->op->gather_rows(be, &a, err);
        }
        r->have[e] += some;
        at += some;
        n -= some;
        if (st == NB_OK && r->have[e] == kRows)
            st = flush(r, e, err);
    }
    return st;
}

static nb_status add_sequence(routing *r, int32_t i, nb_error *err)
{
    nb_pipe *p = r->p;
    const int n_stream = p->two ? 2 : 1;
    const float *x[2] = {NULL, NULL};
    int32_t n = 0, *count = nb_alloc((size_t)r->n, sizeof *count, "a routing", err);
    nb_status st = count ? enter(r, &p->quantized, i, p->acts.h, &x[0], r->choice[0], err) : NB_NO_ROOM;
    if (st == NB_OK && p->two) /* qkv's buffer is free here and wider than hidden_size */
        st = enter(r, &p->original, i, p->acts.qkv, &x[1], r->choice[1], err);
    for (int e = 0; e < r->n && st == NB_OK; e++)
        n += count[e] = list_pairs(r, e, n);
    for (int s = 0; s < n_stream && st == NB_OK; s++) /* the next one is not written before the choices have come back, behind all that reads this one */
        st = p->be->op->upload(p->be, r->d_row[s], r->row[s], (size_t)n * sizeof(int32_t), err);
    for (int e = 0, at = 0; e < r->n && st == NB_OK; at += count[e++])
        st = collect(r, e, at, count[e], x, err);
    free(count);
    return st;
}

nb_status nb_pipe_gather_experts(nb_pipe *p, nb_group_id g, int first, int n, int64_t K, int64_t *n_token, nb_error *err)
{
    const int32_t ctx = p->calib->ctx;
    const nb_batch batch = {.n_token = ctx, .seq = p->acts.seq, .pos = p->acts.pos, .max_len = ctx};
    routing r = {.p = p, .g = g, .first = first, .n = n, .K = K, .P = (int64_t)ctx * p->m->hp.n_expert_used, .n_token = n_token,
                 .step = {.m = p->m, .layer = &p->quantized.layer, .batch = &batch}};
    memset(n_token, 0, (size_t)n * sizeof *n_token);
    nb_status st = routing_open(&r, err);
    for (int32_t i = 0; i < p->calib->n_seq && st == NB_OK; i++)
        st = add_sequence(&r, i, err);
    for (int e = 0; e < n && st == NB_OK; e++)
        st = flush(&r, e, err);
    if (st == NB_OK)
        st = p->be->op->sync(p->be, err); /* before the lists go */
    routing_close(&r);
    return st;
}
