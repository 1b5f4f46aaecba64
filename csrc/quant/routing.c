/* routing.c -- statistics of a mixture's experts: each sees the tokens that the router sends it,
 * and no others.
 *
 *   H_e = sum over the pairs (token t, choice e) of the quantized stream of x x^T:   gate, up   x =
 *       the normed row of t
 *                                                                                  down       x =
 *                                                                                      act(gate_e)
 *                                                                                      up_e of t
 *
 * Under the drift correction C_e = sum (x_orig - x) x^T compares x with what the original stream
 * has in its place. The quantized stream's routing decides which pairs there are, since only they
 * reach the expert in the model that is written; where the original stream sent the token
 * elsewhere,
 *
 *   gate, up   x_orig is the original's normed row all the same: it does not depend on the choice
 *   down       there is no x_orig, as that expert never ran on that token: x_orig = x, the pair
 *              asks for what the weights did
 *
 * Measured on a mixture of 4 layers and 6 experts trained on text, KL in nats a token at 4, 3 and 2
 * bits in groups of 32 (+- 0.0006, 0.0012, 0.0042; 2, 3 and 7 % of the pairs are apart): as above
 * .0156 .0544 .251; x_orig = x for gate and up as well .0153 .0584 .257; such pairs left out
 * altogether .0156 .0533 .258, of down alone .0151 .0574 .272; the original stream made to follow
 * the quantized one's routing .0155 .0549 .264. It matters at 2 bits only.
 *
 * The rows of an expert are collected, 256 at a time, before they are multiplied: few of a
 * sequence's tokens are one expert's, and a product reads and writes all of H. The blocks depend on
 * the tokens alone, so the bits do not on how many experts one pass measures. Memory: of each
 * expert at work its moments (moments.c) and 256 rows (twice with the correction). Cost of a pass:
 * norm and router over all tokens again. */
#include "quant/pipe.h"

#include <stdlib.h>
#include <string.h>

enum { kRows = 256 }; /* as many as gram sums in f32 at most */

/* Which pairs count. */
/* of which the original stream has a row beside the quantized one's, or not */
typedef enum pairs { ALL, TOGETHER, APART } pairs;

struct nb_routing {
    nb_pipe *p;
    nb_group_id g;
    pairs which;
    int first, n; /* the experts at work */
    int64_t P;    /* pairs of a sequence */
    nb_moments m; /* of the first, the others beside it; the caller's. Without any of the drift
                   * one stream is summed */
    int32_t *choice[2]; /* [P] host: the experts of the quantized and the original stream */
    int32_t *row[2];    /* [P] host: by expert, which row of the quantized stream; of the original
                      * one, or of the quantized one as -1 - row */
    int32_t *count;     /* [n] rows of each */
    int32_t *d_row[2];  /* [P] device */
    float *x[2]; /* [n][kRows][K] device: collected rows, of both streams, or of the one that is
                  * summed */
    int *have;   /* [n] how many */
    int64_t *n_token; /* [n] the caller's */
};

/* Streams that are summed. */
static int streams(const nb_routing *r)
{
    return nb_moments_have_drift(&r->m) ? 2 : 1;
}

/* The rows that expert first + e has. */
static nb_token_rows rows_of(const nb_routing *r, int e)
{
    const int64_t from = (int64_t)e * kRows * r->m.K;
    return (nb_token_rows){.x = r->x[0] + from,
                           .x_orig = streams(r) == 2 ? r->x[1] + from : NULL,
                           .M = r->have[e],
                           .scratch = r->p->scratch};
}

/* r's fields up to m are set. */
static nb_status open_buffers(nb_routing *r, nb_error *err)
{
    nb_backend *be = r->p->be;
    const size_t rows = (size_t)r->n * kRows * (size_t)r->m.K * sizeof(float);
    nb_status st = nb_op_check(be, be->op->gather_rows != NULL, "gather_rows", err);
    for (int s = 0; s < (r->p->two ? 2 : 1) && st == NB_OK; s++) {
        r->choice[s] = nb_alloc((size_t)r->P, sizeof *r->choice[s], "a routing", err);
        r->row[s] = nb_alloc((size_t)r->P, sizeof *r->row[s], "a routing", err);
        st = r->choice[s] && r->row[s] ? be->op->alloc(be, (size_t)r->P * sizeof(int32_t),
                                                       "a routing", (void **)&r->d_row[s], err)
                                       : NB_NO_ROOM;
        if (st == NB_OK && s < streams(r))
            st = be->op->alloc(be, rows, "inputs of experts", (void **)&r->x[s], err);
    }
    if (st != NB_OK)
        return st;
    r->have = nb_alloc_zero((size_t)r->n, sizeof *r->have, "a routing", err);
    r->count = nb_alloc_zero((size_t)r->n, sizeof *r->count, "a routing", err);
    if (!r->have || !r->count)
        return NB_NO_ROOM;
    nb_token_rows t = rows_of(r, 0);
    t.M = kRows;
    return nb_pipe_scratch(r->p, nb_moments_scratch(r->p, &r->m, &t), err);
}

static void close_buffers(nb_routing *r)
{
    nb_backend *be = r->p->be;
    for (int s = 0; s < 2; s++) {
        free(r->choice[s]);
        free(r->row[s]);
        be->op->release(be, r->d_row[s]);
        be->op->release(be, r->x[s]);
    }
    free(r->have);
    free(r->count);
}

/* ---- one sequence ---- */

/* The original stream's row beside pair `pair` of the quantized one. */
static int32_t partner(const nb_routing *r, int32_t pair)
{
    const int32_t used = r->p->m->hp.n_expert_used, token = pair / used;
    if (r->g == NB_GROUP_GATE_UP)
        return token;
    for (int32_t j = token * used; j < (token + 1) * used; j++)
        if (r->choice[1][j] == r->choice[0][pair])
            return j;
    return -1 - pair;
}

/* Pairs of expert `first + e` in the order of the tokens, from place `at` of the lists on; returns
 * how many. */
static int32_t list_pairs(const nb_routing *r, int e, int32_t at)
{
    const int32_t used = r->p->m->hp.n_expert_used;
    int32_t n = 0;
    for (int32_t pair = 0; pair < (int32_t)r->P; pair++) {
        if (r->choice[0][pair] != r->first + e)
            continue;
        const int32_t other = streams(r) == 2 || r->which != ALL ? partner(r, pair) : 0;
        if (r->which == (other < 0 ? TOGETHER : APART))
            continue;
        r->row[0][at + n] = r->g == NB_GROUP_GATE_UP ? pair / used : pair;
        if (streams(r) == 2)
            r->row[1][at + n] = other;
        n++;
    }
    return n;
}

static nb_status flush(nb_routing *r, int e, nb_error *err)
{
    const nb_moments m = nb_moments_of(&r->m, e);
    const nb_token_rows t = rows_of(r, e);
    r->n_token[e] += r->have[e];
    r->have[e] = 0;
    return t.M ? nb_moments_add(r->p, &m, &t, err) : NB_OK;
}

/* Rows [at, at + n) of the lists to what expert first + e has. x: of both streams. */
static nb_status collect(nb_routing *r, int e, int32_t at, int32_t n, const float *const x[2],
                         nb_error *err)
{
    nb_backend *be = r->p->be;
    const int64_t K = r->m.K;
    nb_status st = NB_OK;
    while (n && st == NB_OK) {
        const int32_t some = n < kRows - r->have[e] ? n : kRows - r->have[e];
        for (int s = 0; s < streams(r) && st == NB_OK; s++) {
            const nb_gather_args a = {.x = x[s],
                                      .other = x[0],
                                      .row = r->d_row[s] + at,
                                      .M = some,
                                      .K = K,
                                      .ldx = K,
                                      .ldo = K,
                                      .ldy = K,
                                      .y = r->x[s] + ((int64_t)e * kRows + r->have[e]) * K};
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

/* The rows of a sequence, whose choices are there. */
static nb_status add_rows(nb_routing *r, const float *const x[2], nb_error *err)
{
    nb_backend *be = r->p->be;
    int32_t n = 0;
    nb_status st = NB_OK;
    for (int e = 0; e < r->n; e++)
        n += r->count[e] = list_pairs(r, e, n);
    for (int s = 0; s < streams(r) && st == NB_OK;
         /* the next lists are not written before the choices have come back, behind all that reads
          * these */
         s++)
        st = be->op->upload(be, r->d_row[s], r->row[s], (size_t)n * sizeof(int32_t), err);
    for (int e = 0, at = 0; e < r->n && st == NB_OK; at += r->count[e++])
        st = collect(r, e, at, r->count[e], x, err);
    return st;
}

/* Where the rows of a mixture's activation keep the choice (model.h, nb_acts.act). */
static nb_status read_choice(nb_routing *r, const float *act, int s, nb_error *err)
{
    const float *expert = act + r->P * r->p->m->hp.intermediate_size + r->P;
    return r->p->be->op->download(r->p->be, r->choice[s], expert,
                                  (size_t)r->P * sizeof *r->choice[s], err);
}

static nb_status finish(nb_routing *r, nb_error *err)
{
    nb_status st = NB_OK;
    for (int e = 0; e < r->n && st == NB_OK; e++)
        st = flush(r, e, err);
    return st == NB_OK ? r->p->be->op->sync(r->p->be, err) : st; /* before the lists go */
}

/* ---- both streams as they are kept ---- */

/* What enters the group in t's stream, and the choice of its pairs. gate, up: the router is asked,
 * with the very values and shapes of the stage to come; the original's choice nobody needs. */
static nb_status enter(nb_routing *r, const nb_step *step, int s, int32_t i, const float **x,
                       nb_error *err)
{
    nb_pipe *p = r->p;
    const nb_stream *t = s ? &p->original : &p->quantized;
    /* qkv's buffer is free here and wider than hidden_size */
    nb_status st = nb_pipe_input(p, r->g, t, i, step, s ? p->acts.qkv : p->acts.h, x, err);
    if (st != NB_OK || r->g == NB_GROUP_DOWN)
        return st == NB_OK ? read_choice(r, *x, s, err) : st;
    int32_t *expert = (int32_t *)(p->acts.act + r->P);
    if (s == 0)
        st = nb_ffn_choose(step, *x, p->acts.gu, p->acts.act, expert, err);
    return st == NB_OK && s == 0 ? p->be->op->download(p->be, r->choice[0], expert,
                                                       (size_t)r->P * sizeof *expert, err)
                                 : st;
}

static nb_status sweep(nb_routing *r, nb_error *err)
{
    nb_pipe *p = r->p;
    const int32_t ctx = p->calib->ctx;
    const nb_batch batch = {.n_token = ctx, .seq = p->acts.seq, .pos = p->acts.pos, .max_len = ctx};
    nb_status st = open_buffers(r, err);
    if (st == NB_OK)
        st = nb_pipe_scratch(p, nb_layer_scratch(p->m, &p->quantized.layer, ctx, ctx), err);
    const nb_step step = {.m = p->m,
                          .layer = &p->quantized.layer,
                          .batch = &batch,
                          .scratch = p->scratch,
                          .scratch_bytes = p->scratch_bytes};
    for (int32_t i = 0; i < p->calib->n_seq && st == NB_OK; i++) {
        const float *x[2] = {NULL, NULL};
        for (int s = 0; s < (p->two ? 2 : 1) && st == NB_OK; s++)
            st = enter(r, &step, s, i, &x[s], err);
        if (st == NB_OK)
            st = add_rows(r, x, err);
    }
    if (st == NB_OK)
        st = finish(r, err);
    close_buffers(r);
    return st;
}

/* The original's inputs of down are not divided by the scales that the quantized stream's are: that
 * is made good for pairs that are together, in C by nb_pipe_scale_drift, in W C by the op; the
 * others, where x_orig = x, are added to H behind it. */
nb_status nb_pipe_gather_experts(nb_pipe *p, nb_group_id g, int layer, int first, int n,
                                 const nb_moments *s, int64_t *n_token, nb_error *err)
{
    const bool divided = nb_moments_have_drift(s) && nb_pipe_divides_one_stream(p, g);
    nb_routing r = {.p = p,
                    .g = g,
                    .which = divided ? TOGETHER : ALL,
                    .first = first,
                    .n = n,
                    .P = (int64_t)p->calib->ctx * p->m->hp.n_expert_used,
                    .m = *s,
                    .n_token = n_token};
    nb_routing apart = r;
    memset(n_token, 0, (size_t)n * sizeof *n_token);
    nb_status st = nb_moments_zero(p, s, n, err);
    if (st == NB_OK)
        st = sweep(&r, err);
    for (int e = 0; e < n && st == NB_OK && divided; e++) {
        const nb_moments m = nb_moments_of(s, e);
        st = nb_pipe_scale_drift(p, (nb_group_at){g, layer, first + e}, &m, err);
    }
    apart.which = APART;
    apart.m.c = apart.m.wc = NULL;
    return st == NB_OK && divided ? sweep(&apart, err) : st;
}

/* ---- rows as they come ---- */

nb_status nb_routing_open(nb_pipe *p, int first, int n, int64_t K, double *h, int64_t *n_token,
                          nb_routing **out, nb_error *err)
{
    nb_routing *r = *out = nb_alloc_zero(1, sizeof *r, "a routing", err);
    if (!r)
        return NB_NO_ROOM;
    *r = (nb_routing){.p = p,
                      .g = NB_GROUP_DOWN,
                      .which = ALL,
                      .first = first,
                      .n = n,
                      .P = (int64_t)p->calib->ctx * p->m->hp.n_expert_used,
                      .m = {.K = K, .h = h},
                      .n_token = n_token};
    memset(n_token, 0, (size_t)n * sizeof *n_token);
    return open_buffers(r, err);
}

nb_status nb_routing_add(nb_routing *r, const float *act, nb_error *err)
{
    const float *x[2] = {act, NULL};
    const nb_status st = read_choice(r, act, 0, err);
    return st == NB_OK ? add_rows(r, x, err) : st;
}

nb_status nb_routing_finish(nb_routing *r, nb_error *err)
{
    return finish(r, err);
}

void nb_routing_close(nb_routing *r)
{
    if (!r)
        return;
    close_buffers(r);
    free(r);
}
