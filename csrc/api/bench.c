/* bench.c -- the speed of a model: reading a prompt (pp), generating (tg), loading; beside each
 * what this machine could do at most.
 *
 *   bytes  packed weights once a slice or step, and the cache that attention reads
 *   flop   2 N K a token and linear; 4 n_head head_dim a token and position it attends to, a layer
 *
 * The least time of a test by its products is the sum over its linears of flop / peak of the row
 * that serves it (attention: f32); share_of_peak is that time over the measured one, and
 * peak_flop_per_s the rate it stands for. A share above 1 would be a fault of the measurement:
 * caches that hold the model raise gb_per_s above the bandwidth of memory, honestly. */
#include "api/rows.h"
#include "api/samples.h"
#include "backend/kv.h"
#include "base/clock.h"
#include "base/random.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    kSlice = 512 /* tokens a pass over the weights takes at most: session.c */,
    kMostRuns = 1000
};

/* What one run must move and compute, at least. */
typedef struct cost {
    const nb_model *m;
    const nb_limits *limits;
    int64_t M;      /* tokens a pass */
    int64_t M_last; /* of them, how many the output layer sees */
    double bytes, flop, least_s;
    bool known; /* every row's peak is known */
} cost;

static void spend(cost *c, nb_arith arith, double flop, bool has_row)
{
    const double peak = has_row ? c->limits->flop_per_s[arith] : 0.0;
    c->flop += flop;
    if (peak > 0)
        c->least_s += flop / peak;
    else
        c->known = false;
}

static void add_linear(void *arg, const nb_packed *p)
{
    cost *c = arg;
    nb_arith arith;
    const nb_linear_args a = {.M = p->output ? c->M_last : c->M, .w = p->w};
    if (a.M == 0)
        return;
    const char *row = nb_backend_linear_row(p->be, &a, &arith);
    /* an expert that no token chose is not read */
    const double asked = (double)a.M * p->used, least = asked < 1.0 ? asked : 1.0;
    c->bytes += least * (double)p->be->op->weight_bytes(p->w);
    spend(c, arith, 2.0 * (double)p->N * (double)p->K * asked, row != NULL);
}

/* n tokens of one sequence that holds `held`: each sees itself and all before it; the cache is read
 * once a pass. */
static void add_attention(cost *c, int64_t n, int64_t held)
{
    const nb_hparams *hp = &c->m->hp;
    const nb_kv one = {.type = c->m->be->kv_type,
                       .n_page = 1,
                       .n_kv_head = hp->n_kv_head,
                       .head_dim = hp->head_dim};
    /* keys of a position, in a layer */
    const double kv_bytes = (double)nb_kv_bytes(&one) / NB_KV_PAGE;
    const double seen = (double)n * (double)held + (double)n * (double)(n + 1) / 2;
    c->bytes += 2.0 * hp->n_layer * kv_bytes * (double)(held + n);
    spend(c, NB_ARITH_F32, 4.0 * hp->n_layer * hp->n_head * hp->head_dim * seen,
          c->limits->read_bytes_per_s > 0);
}

static void prompt_cost(cost *c, int32_t n_prompt)
{
    for (int64_t at = 0; at < n_prompt; at += kSlice) {
        c->M = n_prompt - at < kSlice ? n_prompt - at : kSlice;
        c->M_last = at + c->M == n_prompt ? 1 : 0;
        nb_model_walk_weights(c->m, add_linear, c);
        add_attention(c, c->M, at);
    }
}

static void decode_cost(cost *c, int32_t n_gen, int32_t n_seq)
{
    c->M = c->M_last = n_seq;
    nb_model_walk_weights(c->m, add_linear, c);
    c->bytes *= n_gen; /* the same weights every step */
    c->flop *= n_gen;
    c->least_s *= n_gen;
    for (int32_t i = 0; i < n_gen; i++)
        for (int32_t s = 0; s < n_seq; s++)
            add_attention(c, 1, i);
}

static nb_status one_prompt(nb_session *s, const int32_t *ids, int32_t n, int32_t n_seq,
                            float *logits, int32_t *next, nb_error *err)
{
    (void)n_seq, (void)next;
    nb_session_clear(s, 0);
    return nb_session_step(s, 0, ids, n, false, logits, err);
}

static nb_status one_decode(nb_session *s, const int32_t *ids, int32_t n, int32_t n_seq,
                            float *logits, int32_t *next, nb_error *err)
{
    static const nb_sampling greedy = {.temp = 0.0f};
    nb_status st = NB_OK;
    (void)logits;
    for (int32_t i = 0; i < n_seq; i++)
        nb_session_clear(s, i);
    /* the likeliest token is picked where the logits are; fed are the random ones */
    for (int32_t i = 0; i < n && st == NB_OK; i++)
        st = nb_session_decode_pick(s, ids + (int64_t)i * n_seq, n_seq, &greedy, NULL, next, err);
    return st;
}

/* One test: n tokens (a sequence) in each run. */
typedef struct test {
    char name[32];
    int32_t n, n_seq;
    nb_status (*run)(nb_session *s, const int32_t *ids, int32_t n, int32_t n_seq, float *logits,
                     int32_t *next, nb_error *err);
    cost cost;
} test;

static void report(const test *t, const nb_limits *limits, double *tok_per_s, int n_run,
                   const nb_bench_options *o)
{
    nb_bench_row r = {.stddev = nb_samples_stddev(tok_per_s, n_run),
                      .tok_per_s = nb_samples_median(tok_per_s, n_run)};
    snprintf(r.test, sizeof r.test, "%s", t->name);
    r.seconds = (double)t->n * t->n_seq / r.tok_per_s;
    r.gb_per_s = t->cost.bytes / r.seconds * 1e-9;
    r.flop_per_s = t->cost.flop / r.seconds;
    r.bandwidth_gb_per_s = limits->read_bytes_per_s * 1e-9;
    if (r.bandwidth_gb_per_s > 0)
        r.share_of_bandwidth = r.gb_per_s / r.bandwidth_gb_per_s;
    if (t->cost.known && t->cost.least_s > 0) {
        r.peak_flop_per_s = t->cost.flop / t->cost.least_s;
        r.share_of_peak = t->cost.least_s / r.seconds;
    }
    o->row(o->arg, &r);
}

static nb_status measure(nb_model *m, const test *t, const nb_limits *limits,
                         const nb_bench_options *o, nb_error *err)
{
    nb_session *s = NULL;
    nb_rng g;
    const size_t n_id = (size_t)t->n * (size_t)t->n_seq;
    int32_t *ids = nb_alloc(n_id, sizeof *ids, "tokens to measure with", err);
    float *logits = nb_alloc((size_t)m->hp.vocab_size, sizeof *logits, "logits", err);
    int32_t *next = nb_alloc((size_t)t->n_seq, sizeof *next, "tokens", err);
    double *tok_per_s = nb_alloc((size_t)o->n_run, sizeof *tok_per_s, "samples", err);
    nb_status st = ids && logits && next && tok_per_s ? NB_OK : NB_NO_ROOM;
    nb_rng_seed(&g, 0);
    for (size_t i = 0; i < n_id && st == NB_OK; i++)
        ids[i] = (int32_t)(nb_rng_u64(&g) % (uint64_t)m->hp.vocab_size);
    if (st == NB_OK)
        st = nb_session_open(m, t->n_seq, t->n, &s, err);
    for (int32_t i = -1; i < o->n_run && st == NB_OK; i++) { /* the one at -1 warms up */
        const int64_t start = nb_clock_ns();
        st = t->run(s, ids, t->n, t->n_seq, logits, next, err);
        const double ns = (double)(nb_clock_ns() - start);
        if (i >= 0)
            tok_per_s[i] = (double)n_id / (ns > 0 ? ns : 1) * 1e9;
    }
    if (st == NB_OK)
        report(t, limits, tok_per_s, o->n_run, o);
    nb_session_close(s);
    free(tok_per_s);
    free(next);
    free(logits);
    free(ids);
    return st;
}

static nb_status check(const nb_model *m, const nb_bench_options *o, const int32_t *batch,
                       nb_error *err)
{
    if (!m->be || !m->layer)
        return nb_fail(err, NB_USAGE, "the model was opened for text only");
    if (o->n_run < 1 || o->n_run > kMostRuns || o->n_prompt < 0 || o->n_gen < 0)
        return nb_fail(err, NB_USAGE,
                       "%d runs of %d and %d tokens; runs are 1 to %d, tokens not negative",
                       o->n_run, o->n_prompt, o->n_gen, kMostRuns);
    const int32_t longest = o->n_prompt > o->n_gen ? o->n_prompt : o->n_gen;
    if (longest > m->hp.ctx_len) {
        const nb_status st =
            nb_fail(err, NB_USAGE, "%d tokens do not fit into the model's context of %d", longest,
                    m->hp.ctx_len);
        nb_hint(err, "-p and -n of at most %d", m->hp.ctx_len);
        return st;
    }
    for (; *batch; batch++)
        if (*batch < 0 || *batch > 4096)
            return nb_fail(err, NB_USAGE, "%d sequences at once; 1 to 4096 can be measured",
                           *batch);
    return NB_OK;
}

nb_status nb_bench_model(nb_model *m, const nb_bench_options *o, nb_error *err)
{
    static const int32_t one[] = {1, 0};
    const int32_t *batch = o->batch ? o->batch : one;
    nb_limits limits;
    nb_status st = check(m, o, batch, err);
    if (st == NB_OK)
        st = nb_backend_limits(m->be, &limits, err);
    if (st != NB_OK)
        return st;
    nb_bench_row load = {
        .test = "load",
        .seconds = m->load_s,
        .gb_per_s = m->load_s > 0 ? (double)m->container->file_bytes / m->load_s * 1e-9 : 0.0,
        .bandwidth_gb_per_s = limits.read_bytes_per_s * 1e-9};
    if (load.bandwidth_gb_per_s > 0)
        load.share_of_bandwidth = load.gb_per_s / load.bandwidth_gb_per_s;
    o->row(o->arg, &load);
    if (o->n_prompt) {
        test t = {.n = o->n_prompt,
                  .n_seq = 1,
                  .run = one_prompt,
                  .cost = {.m = m, .limits = &limits, .known = true}};
        snprintf(t.name, sizeof t.name, "pp%d", o->n_prompt);
        prompt_cost(&t.cost, t.n);
        st = measure(m, &t, &limits, o, err);
    }
    for (; o->n_gen && *batch && st == NB_OK; batch++) {
        test t = {.n = o->n_gen,
                  .n_seq = *batch,
                  .run = one_decode,
                  .cost = {.m = m, .limits = &limits, .known = true}};
        if (*batch > 1)
            snprintf(t.name, sizeof t.name, "tg%d@%d", o->n_gen, *batch);
        else
            snprintf(t.name, sizeof t.name, "tg%d", o->n_gen);
        decode_cost(&t.cost, t.n, t.n_seq);
        st = measure(m, &t, &limits, o, err);
    }
    return st;
}
