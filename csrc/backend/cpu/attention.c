/* attention.c -- causal attention over the cache with an online softmax (Milakov and Gimelshein
 * 2018); compiled once per level.
 *
 *   s[t] = scale * q . k[t]      first <= t <= pos,  first = max(0, pos - window + 1), or 0
 *   s[t] = cap tanh(s[t] / cap)  if there is a soft cap
 *   out  = sum_t e^(s[t] - max) v[t] / sum_t e^(s[t] - max)
 *
 * Keys come in blocks of kKeys, a page of the cache each, so that what a (token, head) computes
 * depends on nothing but itself, whoever shares its work:
 *
 *   top' = max(top, max s),  f = e^(top - top'),  p[t] = e^(s[t] - top'),
 *   sum = sum f + sum_t p[t],  acc = acc f + sum_t p[t] v[t]
 *
 * q . k adds by lane (i, i + 16, ...), then by the tree of vec.h; p v adds in the order of t.
 * Every kPiece positions {acc, top, sum} begin anew, and what a piece came to is added to what was
 * before it in the same way. So the pieces of a few tokens are tasks of their own (a model has fewer
 * KV heads than a machine has cores), and the bits are those of one thread.
 * Else a task is one KV head and up to kTokens tokens of a sequence: k and v of a block are made f32
 * once for all its query heads (n_head / n_kv_head of them a token).
 *
 * scratch, width = head_dim rounded up to 16:
 *   per thread    k [kKeys][width] | v [kKeys][width] | q [rows][width] | two states of its rows
 *   behind them   a state of a token's query heads for each token, KV head and piece
 *   a state       acc [rows][width] | top [rows] | sum [rows]
 * Cost: 4 head_dim flop for each query head and visible position. */
#include "backend/cpu/attention_block.h"
#include "backend/cpu/level.h"

enum {
    kPiece = 8 * kKeys, /* 512 x 2 x 128 f16 are 256 KiB, some 10 us of a core; a state is 1 of 500
                         * of that for a query head */
    kSplitTokens = 8,   /* of more tokens there are tasks enough */
    kTokens = 8,
    kManyTokens = 32,      /* from here on tasks hold kTokens; below, one */
    kThreadsFrom = 1 << 15 /* multiplications of q . k for which a second thread pays */
};

static int64_t width_of(const nb_attention_args *a)
{
    return (int64_t)(a->kv->head_dim + NB_LANES - 1) / NB_LANES * NB_LANES;
}

/* Query heads of a KV head. */
static int64_t heads_of(const nb_attention_args *a)
{
    return a->n_head / a->kv->n_kv_head;
}

/* Floats of a state of so many rows. */
static int64_t state_room(const nb_attention_args *a, int64_t rows)
{
    return (rows * (width_of(a) + 2) + NB_LANES - 1) / NB_LANES * NB_LANES;
}

static state state_at(const nb_attention_args *a, int64_t rows, float *at)
{
    float *top = at + rows * width_of(a);
    return (state){at, top, top + rows};
}

/* Floats a thread needs. */
static int64_t room_of(const nb_attention_args *a)
{
    const int64_t rows = kTokens * heads_of(a);
    return (2 * kKeys + rows) * width_of(a) + 2 * state_room(a, rows);
}

static int64_t pieces_of(const nb_attention_args *a)
{
    return ((int64_t)a->batch->max_len + kPiece - 1) / kPiece;
}

/* Grows with the tokens and with max_len, so that room for the most of both serves all. */
size_t NB_LEVEL_NAME(nb_cpu_attention_scratch)(const nb_cpu *cpu, const nb_attention_args *a)
{
    const int64_t n_token = a->batch->n_token < kSplitTokens ? a->batch->n_token : kSplitTokens,
                  n_state = pieces_of(a) > 1 ? n_token * a->kv->n_kv_head * pieces_of(a) : 0;
    return (size_t)(cpu->base.n_thread * room_of(a) + n_state * state_room(a, heads_of(a))) *
           sizeof(float);
}

static work work_of(const nb_attention_args *a, int thread)
{
    const int64_t rows = kTokens * heads_of(a), width = width_of(a);
    work t = {
        .k = (float *)a->scratch + thread * room_of(a), .dim = a->kv->head_dim, .width = width};
    t.v = t.k + kKeys * width;
    t.q = t.v + kKeys * width;
    t.piece = state_at(a, rows, t.q + rows * width);
    t.all = state_at(a, rows, t.q + rows * width + state_room(a, rows));
    return t;
}

/* Asks for the block at t0 of one KV head, as far as `last`: rows lie a row of all heads apart, which
 * no hardware prefetcher follows far. */
static void fetch_block(const nb_kv *kv, int32_t seq, int32_t kv_head, int64_t t0, int64_t last)
{
    const size_t size = nb_kv_value_bytes(kv->type), row = (size_t)kv->head_dim * size;
    const int64_t step = (int64_t)kv->n_kv_head * kv->head_dim,
                  n = last + 1 - t0 < kKeys ? last + 1 - t0 : kKeys;
    if (n <= 0)
        return;
    const int64_t at = nb_kv_place(kv, seq, t0) * step + kv_head * kv->head_dim;
    for (int64_t i = 0; i < n; i++) {
        const size_t first = (size_t)(at + i * step) * size;
        for (size_t b = 0; b < row; b += 64) {
            __builtin_prefetch((const char *)kv->k + first + b, 0, 2);
            __builtin_prefetch((const char *)kv->v + first + b, 0, 2);
        }
    }
}

static void begin_state(const state *s, int64_t width, int rows)
{
    memset(s->acc, 0, (size_t)(rows * width) * sizeof *s->acc);
    for (int r = 0; r < rows; r++) {
        s->top[r] = -HUGE_VALF;
        s->sum[r] = 0.0f;
    }
}

/* What comes behind `all`; rows that saw nothing of it stay as they are. */
static void add_state(const state *all, const state *piece, int64_t width, int rows)
{
    for (int r = 0; r < rows; r++) {
        if (piece->sum[r] <= 0.0f)
            continue;
        const bool first = all->sum[r] <= 0.0f;
        const float top = first || piece->top[r] > all->top[r] ? piece->top[r] : all->top[r];
        float f[NB_LANES], g[NB_LANES];
        nb_v_store(f, nb_v_exp(nb_v_set1(first ? 0.0f : all->top[r] - top)));
        nb_v_store(g, nb_v_exp(nb_v_set1(piece->top[r] - top)));
        float *to = all->acc + r * width;
        const float *from = piece->acc + r * width;
        for (int64_t i = 0; i < width; i += NB_LANES)
            nb_v_store(to + i, nb_v_fma(nb_v_load(f), nb_v_load(to + i),
                                        nb_v_mul(nb_v_load(g), nb_v_load(from + i))));
        all->sum[r] = all->sum[r] * f[0] + piece->sum[r] * g[0];
        all->top[r] = top;
    }
}

/* The first position that a query at p sees. */
static int64_t first_of(const nb_attention_args *a, int64_t p)
{
    return a->window > 0 && p >= a->window ? p - a->window + 1 : 0;
}

/* The queries of tokens m .. end, of one sequence, and of one KV head. */
static void load_queries(const nb_attention_args *a, const work *t, int64_t m, int64_t end,
                         int32_t kv_head)
{
    const int per = (int)heads_of(a), rows = (int)(end - m) * per;
    for (int r = 0; r < rows; r++) {
        const float *q = a->q + (m + r / per) * a->ldq + (kv_head * per + r % per) * t->dim;
        for (int64_t i = 0; i < t->width; i++)
            t->q[r * t->width + i] = i < t->dim ? q[i] : 0.0f;
    }
}

/* Their piece c, whose first block has been asked for; the caller reads no position behind `last`. */
static void attend_piece(const nb_attention_args *a, const work *t, int64_t m, int64_t end,
                         int32_t kv_head, int64_t c, int64_t last)
{
    const nb_kv *kv = a->kv;
    const int per = (int)heads_of(a), rows = (int)(end - m) * per;
    const int64_t step = (int64_t)kv->n_kv_head * t->dim;
    const int32_t seq = a->batch->seq[m];
    const int32_t *pos = a->batch->pos;
    const int64_t first = first_of(a, pos[m]) / kKeys * kKeys,
                  from = first > c * kPiece ? first : c * kPiece,
                  to = last + 1 < (c + 1) * kPiece ? last + 1 : (c + 1) * kPiece;
    const bool direct = rows == per && can_take_direct(kv);
    begin_state(&t->piece, t->width, rows);
    for (int64_t t0 = from; t0 < to; t0 += kKeys) {
        const int n = to - t0 < kKeys ? (int)(to - t0) : kKeys;
        const int n16 = (n + NB_LANES - 1) / NB_LANES * NB_LANES;
        const int64_t at = nb_kv_place(kv, seq, t0) * step + kv_head * t->dim;
        if (direct) {
            const int64_t p = pos[m], seen = first_of(a, p);
            const nb_cache_block b = {
                .kv = kv,
                .at = at,
                .step = step,
                .next = t0 + kKeys > last
                            ? at
                            : nb_kv_place(kv, seq, t0 + kKeys) * step + kv_head * t->dim,
                .lo = seen > t0 ? (int)(seen - t0) : 0,
                .hi = n,
                .k_scale = nb_kv_scales(kv, kv->k, at),
                .v_scale = nb_kv_scales(kv, kv->v, at),
                .scale_step = (int64_t)kv->n_kv_head * nb_kv_groups(kv->head_dim)};
            take_direct(a, t, &b, per);
            continue;
        }
        fetch_block(kv, seq, kv_head, t0 + kKeys, last);
        nb_cache_rows(kv, kv->k, at, step, n, t->k);
        nb_cache_rows(kv, kv->v, at, step, n, t->v);
        memset(t->k + n * t->width, 0, (size_t)((n16 - n) * t->width) * sizeof(float));
        for (int r = 0; r < rows; r += per) {
            const int64_t p = pos[m + r / per], seen = first_of(a, p);
            const int64_t lo = seen > t0 ? seen - t0 : 0, hi = p + 1 - t0 < n ? p + 1 - t0 : n;
            if (lo < hi)
                take_block(a, t, r, per, (int)lo, (int)hi);
        }
    }
}

static void store_out(const nb_attention_args *a, const work *t, int64_t m, int64_t end,
                      int32_t kv_head)
{
    const int per = (int)heads_of(a), rows = (int)(end - m) * per;
    for (int r = 0; r < rows; r++) {
        float *out = a->out + (m + r / per) * a->ldo + (kv_head * per + r % per) * t->dim;
        const float one = 1.0f / t->all.sum[r];
        for (int64_t i = 0; i < t->dim; i++)
            out[i] = t->all.acc[r * t->width + i] * one;
    }
}

/* Tokens m .. end, of one sequence, and the query heads of one KV head. */
static void attend(const nb_attention_args *a, const work *t, int64_t m, int64_t end,
                   int32_t kv_head)
{
    const int rows = (int)((end - m) * heads_of(a));
    const int64_t first = first_of(a, a->batch->pos[m]), last = a->batch->pos[end - 1];
    fetch_block(a->kv, a->batch->seq[m], kv_head, first / kKeys * kKeys, last);
    load_queries(a, t, m, end, kv_head);
    begin_state(&t->all, t->width, rows);
    for (int64_t c = first / kPiece; c <= last / kPiece; c++) {
        attend_piece(a, t, m, end, kv_head, c, last);
        add_state(&t->all, &t->piece, t->width, rows);
    }
    store_out(a, t, m, end, kv_head);
}

/* Tokens first .. end of the batch, cut where the sequence changes. */
static void attend_runs(const nb_attention_args *a, const work *t, int64_t first, int64_t end,
                        int32_t kv_head)
{
    for (int64_t m = first; m < end;) {
        int64_t next = m + 1;
        while (next < end && a->batch->seq[next] == a->batch->seq[m])
            next++;
        attend(a, t, m, next, kv_head);
        m = next;
    }
}

typedef struct attention_job {
    const nb_attention_args *a;
    int64_t size, n_task;
} attention_job;

static void attention_task(const void *arg, int64_t i, int worker)
{
    const attention_job *j = arg;
    const int64_t n_token = j->a->batch->n_token;
    const int32_t n_kv = j->a->kv->n_kv_head;
    const int64_t task = j->n_task - 1 - i; /* late tokens see more keys: they go first */
    const int64_t first = task / n_kv * j->size;
    const int64_t end = first + j->size < n_token ? first + j->size : n_token;
    const work t = work_of(j->a, worker);
    attend_runs(j->a, &t, first, end, (int32_t)(task % n_kv));
}

/* ---- few tokens: pieces are tasks ---- */

typedef struct pieces_job {
    const nb_attention_args *a;
    float *states; /* [n_token][n_kv_head][n_piece] */
    int64_t n_piece;
} pieces_job;

static state state_of(const pieces_job *j, int64_t i)
{
    const int64_t rows = heads_of(j->a);
    return state_at(j->a, rows, j->states + i * state_room(j->a, rows));
}

static void piece_task(const void *arg, int64_t i, int worker)
{
    const pieces_job *j = arg;
    const int64_t c = i % j->n_piece, m = i / j->n_piece / j->a->kv->n_kv_head,
                  pos = j->a->batch->pos[m], first = first_of(j->a, pos) / kKeys * kKeys,
                  from = first > c * kPiece ? first : c * kPiece,
                  last = pos < (c + 1) * kPiece ? pos : (c + 1) * kPiece - 1;
    const int32_t kv_head = (int32_t)(i / j->n_piece % j->a->kv->n_kv_head);
    if (from > last)
        return;
    work t = work_of(j->a, worker);
    t.piece = state_of(j, i);
    fetch_block(j->a->kv, j->a->batch->seq[m], kv_head, from, last);
    load_queries(j->a, &t, m, m + 1, kv_head);
    attend_piece(j->a, &t, m, m + 1, kv_head, c, last);
}

/* The pieces of a token and KV head, one after another. */
static void sum_task(const void *arg, int64_t i, int worker)
{
    const pieces_job *j = arg;
    const int64_t m = i / j->a->kv->n_kv_head, pos = j->a->batch->pos[m];
    const work t = work_of(j->a, worker);
    begin_state(&t.all, t.width, (int)heads_of(j->a));
    for (int64_t c = first_of(j->a, pos) / kPiece; c <= pos / kPiece; c++) {
        const state piece = state_of(j, i * j->n_piece + c);
        add_state(&t.all, &piece, t.width, (int)heads_of(j->a));
    }
    store_out(j->a, &t, m, m + 1, (int32_t)(i % j->a->kv->n_kv_head));
}

void NB_LEVEL_NAME(nb_cpu_attention)(const nb_cpu *cpu, const nb_attention_args *a)
{
    const int64_t n_token = a->batch->n_token, size = n_token >= kManyTokens ? kTokens : 1;
    const int64_t cost = n_token * a->batch->max_len * a->n_head * a->kv->head_dim;
    nb_pool *pool = cost >= kThreadsFrom ? cpu->pool : NULL;
    if (pool && n_token <= kSplitTokens && pieces_of(a) > 1) {
        const pieces_job j = {a, (float *)a->scratch + cpu->base.n_thread * room_of(a),
                              pieces_of(a)};
        nb_pool_run(pool, n_token * a->kv->n_kv_head * j.n_piece, piece_task, &j);
        nb_pool_run(pool, n_token * a->kv->n_kv_head, sum_task, &j);
        return;
    }
    const attention_job j = {a, size, (n_token + size - 1) / size * a->kv->n_kv_head};
    nb_pool_run(pool, j.n_task, attention_task, &j);
}
