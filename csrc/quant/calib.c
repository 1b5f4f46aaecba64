/* calib.c -- calibration sequences from a text, or from the model itself. */
#include "quant/calib.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void nb_calib_free(nb_calib *c)
{
    free(c->ids);
    memset(c, 0, sizeof *c);
}

static nb_status reserve(nb_calib *c, int32_t n_seq, int32_t ctx, nb_error *err)
{
    *c = (nb_calib){.n_seq = n_seq, .ctx = ctx, .n_distinct = (int64_t)n_seq * ctx};
    c->ids = nb_alloc_zero((size_t)n_seq * (size_t)ctx, sizeof *c->ids, "calibration tokens", err);
    return c->ids ? NB_OK : NB_NO_ROOM;
}

nb_status nb_calib_text(const nb_model *m, const char *path, const char *text, size_t n,
                        int32_t n_seq, int32_t ctx, nb_calib *out, nb_error *err)
{
    nb_ids ids = {0};
    memset(out, 0, sizeof *out);
    nb_status st = nb_tokenizer_encode(m->tokenizer, text, n, NB_TOKENIZE_BOS, &ids, err);
    if (st == NB_OK && ids.n < (size_t)ctx) {
        st = nb_fail_at(err, NB_BAD_INPUT, path, -1,
                        "%zu tokens of calibration text, one sequence needs %d", ids.n, ctx);
        if (ids.n >= NB_CALIB_FEW)
            nb_hint(err, "--ctx %zu", ids.n);
        else
            nb_hint(err, "a longer text, or --calib self: the model writes its own");
    }
    const int64_t step = n_seq > 1 ? ((int64_t)ids.n - ctx) / (n_seq - 1) : 0;
    if (st == NB_OK && n_seq > 1 && step < 1) {
        st = nb_fail_at(err, NB_BAD_INPUT, path, -1,
                        "%zu tokens of calibration text: %d sequences of %d would be the same one",
                        ids.n, n_seq, ctx);
        nb_hint(err, "--samples %lld", (long long)(ids.n / (size_t)ctx));
    }
    if (st == NB_OK)
        st = reserve(out, n_seq, ctx, err);
    if (st == NB_OK && step < ctx)
        out->n_distinct = step * (n_seq - 1) + ctx;
    for (int32_t i = 0; i < n_seq && st == NB_OK; i++)
        memcpy(out->ids + (size_t)i * (size_t)ctx, ids.p + i * step, (size_t)ctx * sizeof *ids.p);
    nb_ids_free(&ids);
    return st;
}

/* The ids a sequence begins with: BOS as the model asks, then the seed; a '?' seed as a user's turn
 * where there is a template. */
static nb_status seed_ids(const nb_model *m, const char *seed, int32_t **ids, size_t *n,
                          nb_error *err)
{
    size_t src_n = 0;
    if (seed[0] != '?')
        return nb_model_tokenize(m, seed, strlen(seed), NB_TEXT_BOS, ids, n, err);
    if (!nb_tokenizer_chat_template(m->tokenizer, &src_n))
        return nb_model_tokenize(m, seed + 1, strlen(seed + 1), NB_TEXT_BOS, ids, n, err);
    char json[512]; /* seeds hold no characters that JSON escapes */
    snprintf(
        json, sizeof json,
        "{\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}],\"add_generation_prompt\":true}",
        seed + 1);
    const nb_status st =
        nb_model_template_ids(m, "calibration seed", json, strlen(json), ids, n, err);
    /* by the template: the seed alone then */
    const bool refused = st == NB_UNSUPPORTED || st == NB_BAD_INPUT;
    return refused ? nb_model_tokenize(m, seed + 1, strlen(seed + 1), NB_TEXT_BOS, ids, n, err)
                   : st;
}

/* kWave sequences at once: a weight is read once for all of them. */
enum { kWave = 16 };

/* How far the text is; NB_INTERRUPTED when nobody wants it any more. */
typedef struct teller {
    const nb_calib_watch *watch;
    int64_t start_ns, done, total, told; /* tokens */
} teller;

static nb_status tell(teller *t, int32_t n, nb_error *err)
{
    const nb_calib_watch *w = t->watch;
    t->done += n;
    if (w->stop && *w->stop)
        return nb_fail(err, NB_INTERRUPTED,
                       "stopped while the model wrote its calibration text, nothing was written "
                       "under the final name");
    if (w->progress && (t->done - t->told >= t->total / 32 || t->done == t->total)) {
        const double s = (double)(nb_clock_ns() - t->start_ns) * 1e-9;
        w->progress(w->arg, "tokens of calibration text", (int32_t)t->done, (int32_t)t->total,
                    s * (double)(t->total - t->done) / (double)t->done);
        t->told = t->done;
    }
    return NB_OK;
}

static nb_status sample_wave(nb_model *m, nb_session *s, int32_t first, int32_t n, uint64_t seed,
                             nb_calib *c, teller *told, nb_error *err)
{
    static const nb_sampling plain = {.temp = 1.0f, .top_p = 1.0f};
    nb_rng rng[kWave];
    uint64_t draw[kWave] = {0};
    int32_t next[kWave], *ids = NULL;
    size_t n_seed = 0, len[kWave] = {0}, shortest = (size_t)c->ctx;
    nb_status st = NB_OK;
    int32_t n_seeds = 0;
    while (nb_calib_seeds[n_seeds])
        n_seeds++;
    for (int32_t i = 0; i < n && st == NB_OK; i++) {
        nb_rng_seed(&rng[i], seed + (uint64_t)(first + i));
        nb_session_clear(s, i);
        st = seed_ids(m, nb_calib_seeds[(first + i) % n_seeds], &ids, &n_seed, err);
        len[i] = n_seed < (size_t)c->ctx ? n_seed : (size_t)c->ctx;
        shortest = len[i] < shortest ? len[i] : shortest;
        if (st == NB_OK)
            memcpy(c->ids + (size_t)(first + i) * (size_t)c->ctx, ids, len[i] * sizeof *ids);
        free(ids);
        ids = NULL;
    }
    /* All sequences advance together, one token a step: while a sequence still has seed tokens they
     * are fed, later its own samples are. */
    for (int32_t t = 0; t < c->ctx - 1 && st == NB_OK; t++) {
        const size_t at = (size_t)t + 1;
        for (int32_t i = 0; i < n; i++) {
            next[i] = c->ids[(size_t)(first + i) * (size_t)c->ctx + (size_t)t];
            draw[i] = at < len[i] ? 0 : nb_rng_u64(&rng[i]);
        }
        st = at < shortest ? nb_session_decode(s, next, n, NULL, err)
                           : nb_session_decode_pick(s, next, n, &plain, draw, next, err);
        for (int32_t i = 0; i < n && st == NB_OK; i++)
            if (at >= len[i])
                c->ids[(size_t)(first + i) * (size_t)c->ctx + at] = next[i];
        if (st == NB_OK)
            st = tell(told, n, err);
    }
    return st;
}

nb_status nb_calib_self(nb_model *m, int32_t n_seq, int32_t ctx, uint64_t seed,
                        const nb_calib_watch *watch, nb_calib *out, nb_error *err)
{
    teller told = {.watch = watch, .start_ns = nb_clock_ns(), .total = (int64_t)n_seq * (ctx - 1)};
    nb_session *s = NULL;
    const int32_t wave = n_seq < kWave ? n_seq : kWave;
    memset(out, 0, sizeof *out);
    nb_status st = reserve(out, n_seq, ctx, err);
    if (st == NB_OK)
        st = nb_session_open(m, wave, ctx, &s, err);
    for (int32_t i = 0; i < n_seq && st == NB_OK; i += wave)
        st = sample_wave(m, s, i, n_seq - i < wave ? n_seq - i : wave, seed * 1000003u, out, &told,
                         err);
    nb_session_close(s);
    if (st != NB_OK)
        nb_calib_free(out);
    return st;
}
