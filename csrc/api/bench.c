/* bench.c -- nb_bench_model: prefill and decode speed as llama-bench counts them, beside the machine's own limits measured in the same run. */
#include "api/limits.h"
#include "base/clock.h"
#include "base/random.h"
#include "model/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct bench {
    nb_model *m;
    const nb_bench_options *o;
    double gb_per_s, flop_per_s; /* limits */
    int32_t *tokens;             /* random ids: speed does not depend on sense, but on not being zero */
};

static double step_bytes(const nb_model *m)
{
    return (double)m->weights_bytes; /* every weight is read once a step; a tied embedding is the output layer */
}

static void emit(const struct bench *b, const char *test, const double *tok_per_s, int n, double bytes_per_token, double flop_per_token)
{
    nb_bench_row r = {0};
    double sum = 0, sum2 = 0;
    snprintf(r.test, sizeof r.test, "%s", test);
    for (int i = 0; i < n; i++)
        sum += tok_per_s[i];
    r.tok_per_s = sum / n;
    for (int i = 0; i < n; i++)
        sum2 += (tok_per_s[i] - r.tok_per_s) * (tok_per_s[i] - r.tok_per_s);
    r.stddev = n > 1 ? sqrt(sum2 / (n - 1)) : 0.0;
    r.gb_per_s = r.tok_per_s * bytes_per_token * 1e-9;
    r.flop_per_s = r.tok_per_s * flop_per_token;
    r.share_of_bandwidth = b->gb_per_s > 0 ? r.gb_per_s / b->gb_per_s : 0.0;
    r.share_of_peak = b->flop_per_s > 0 ? r.flop_per_s / b->flop_per_s : 0.0;
    b->o->row(b->o->arg, &r);
}

static nb_status prompt(const struct bench *b, nb_session *s, int32_t n, double *seconds, nb_error *err)
{
    int32_t next = 0;
    nb_session_clear(s, 0);
    const int64_t t = nb_clock_ns();
    const nb_status st = nb_session_step_greedy(s, 0, b->tokens, n, &next, err);
    *seconds = (double)(nb_clock_ns() - t) * 1e-9;
    return st;
}

static nb_status decode(const struct bench *b, nb_session *s, int32_t batch, int32_t n, float *logits, double *seconds, nb_error *err)
{
    nb_status st = NB_OK;
    int32_t next = 0;
    for (int32_t i = 0; i < batch; i++)
        nb_session_clear(s, i);
    const int64_t t = nb_clock_ns();
    for (int32_t i = 0; i < n && st == NB_OK; i++)
        st = batch == 1 ? nb_session_step_greedy(s, 0, &b->tokens[i], 1, &next, err)
                        : nb_session_decode(s, b->tokens + i, batch, logits, err);
    *seconds = (double)(nb_clock_ns() - t) * 1e-9;
    return st;
}

nb_status nb_bench_model(nb_model *m, const nb_bench_options *o, nb_error *err)
{
    static const int32_t one[] = {1, 0};
    const int32_t *batch = o->batch ? o->batch : one;
    const int32_t n_run = o->n_run > 0 ? o->n_run : 5, n_gen = o->n_gen, n_prompt = o->n_prompt;
    struct bench b = {.m = m, .o = o};
    nb_rng rng;
    nb_session *s = NULL;
    char name[32];
    int32_t most = 1;
    for (const int32_t *p = batch; *p; p++)
        most = *p > most ? *p : most;
    if (n_prompt < 0 || n_gen < 0 || n_prompt > m->hp.ctx_len || n_gen > m->hp.ctx_len || most > 256 || n_run > 1000)
        return nb_fail(err, NB_USAGE, "-p %d -n %d -b %d -r %d: at most the context (%d), 256 sequences, 1000 runs", n_prompt, n_gen, most,
                       n_run, m->hp.ctx_len);
    const int32_t ctx = n_prompt > n_gen ? n_prompt : n_gen;
    double *speed = nb_alloc((size_t)n_run, sizeof *speed, "runs", err);
    b.tokens = nb_alloc((size_t)(ctx + most), sizeof *b.tokens, "tokens", err);
    float *logits = nb_alloc((size_t)most * (size_t)m->hp.vocab_size, sizeof *logits, "logits", err);
    nb_status st = speed && b.tokens && logits ? nb_session_open(m, most, ctx > 0 ? ctx : 1, &s, err) : NB_NO_ROOM;
    if (st != NB_OK)
        goto done;
    nb_rng_seed(&rng, 1);
    for (int32_t i = 0; i < ctx + most; i++)
        b.tokens[i] = (int32_t)(nb_rng_u64(&rng) % (uint64_t)m->hp.vocab_size);
    b.gb_per_s = nb_limit_read_gb_per_s(m->be->n_thread);
    b.flop_per_s = nb_limit_fma_flop_per_s(m->be->n_thread);
    const double flop = 2.0 * (double)m->n_param;
    double seconds = 0;
    if (n_prompt > 0) {
        st = prompt(&b, s, n_prompt, &seconds, err); /* warm-up */
        for (int32_t i = 0; i < n_run && st == NB_OK; i++) {
            st = prompt(&b, s, n_prompt, &seconds, err);
            speed[i] = n_prompt / seconds;
        }
        snprintf(name, sizeof name, "pp%d", n_prompt);
        if (st == NB_OK)
            emit(&b, name, speed, n_run, step_bytes(m) / n_prompt, flop);
    }
    for (const int32_t *p = batch; *p && n_gen > 0 && st == NB_OK; p++) {
        st = decode(&b, s, *p, n_gen < 8 ? n_gen : 8, logits, &seconds, err);
        for (int32_t i = 0; i < n_run && st == NB_OK; i++) {
            st = decode(&b, s, *p, n_gen, logits, &seconds, err);
            speed[i] = (double)n_gen * *p / seconds;
        }
        snprintf(name, sizeof name, *p == 1 ? "tg%d" : "tg%d@%d", n_gen, *p);
        if (st == NB_OK)
            emit(&b, name, speed, n_run, step_bytes(m) / *p, flop);
    }
    if (st == NB_OK) {
        nb_bench_row r = {.test = "load", .gb_per_s = (double)m->container->file_bytes * 1e-9 / m->load_s};
        o->row(o->arg, &r);
    }
done:
    nb_session_close(s);
    free(speed);
    free(b.tokens);
    free(logits);
    return st;
}
