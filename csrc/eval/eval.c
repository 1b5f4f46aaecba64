/* eval.c -- perplexity, KL divergence and agreement of a model with a text and with a reference
 * model.
 *
 * Perplexity as llama.cpp's tool defines it: the text is tokenized once, cut into chunks of ctx
 * tokens, each evaluated from an empty cache; where the model adds BOS the chunk's first token is
 * replaced by it; scored are the targets at positions ctx/2 + 1 .. ctx - 1 (all_positions: 1 .. ctx
 * - 1).
 *     ppl = exp(mean nll),  its error ppl * sqrt((mean nll^2 - mean^2) / (count - 1))
 *     KL(ref || model) = sum_i p_i (log p_i - log q_i), in nats, at the same positions; top1: share of equal argmax
 * Cost: the forward passes, plus O(vocab) per position; memory: one chunk's scored logits of the
 * reference. */
#include "base/clock.h"
#include "model/model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* log-softmax of one row in place of logits: log p_i = l_i - lse. */
static double log_sum_exp(const float *l, int64_t n, int32_t *argmax)
{
    int64_t best = 0;
    double sum = 0.0;
    for (int64_t i = 1; i < n; i++)
        if (l[i] > l[best])
            best = i;
    for (int64_t i = 0; i < n; i++)
        sum += (double)expf(l[i] - l[best]);
    *argmax = (int32_t)best;
    /* cppcheck-suppress invalidFunctionArg; n >= 1, so the sum is at least 1 */
    return (double)l[best] + log(sum);
}

static double kl_row(const float *ref, double ref_lse, const float *l, double lse, int64_t n)
{
    double kl = 0.0;
    for (int64_t i = 0; i < n; i++) {
        const double p_log = (double)ref[i] - ref_lse;
        if (p_log > -25.0) /* below 1e-11 a token adds less than 1e-9 nats */
            kl += exp(p_log) * (p_log - ((double)l[i] - lse));
    }
    return kl;
}

/* What one chunk needs while its rows arrive. Row r predicts token r + 1. */
struct score {
    const nb_model *m, *reference; /* reference NULL: none */
    const int32_t *ids;            /* of the chunk */
    int64_t first, ctx, v;
    float *ref;   /* [rows, v] the reference's logits, or NULL */
    bool filling; /* true: store rows into ref; false: score */
    double nll, nll2;
    double *kl; /* appended */
    int64_t n, n_kl, n_same;
};

static nb_status take_rows(void *arg, int64_t row, int64_t n_row, const float *logits,
                           nb_error *err)
{
    struct score *s = arg;
    for (int64_t r = 0; r < n_row && row + r < s->ctx - 1; r++) {
        const float *l = logits + r * s->v;
        float *ref = s->ref ? s->ref + (row + r - s->first) * s->v : NULL;
        if (s->filling) {
            memcpy(ref, l, (size_t)s->v * sizeof *l);
            continue;
        }
        int32_t top = 0, ref_top = 0;
        const double lse = log_sum_exp(l, s->v, &top);
        const double nll = lse - (double)l[s->ids[row + r + 1]];
        if (!isfinite(nll))
            return nb_logits_fault(s->m, row + r + 1, err);
        s->nll += nll;
        s->nll2 += nll * nll;
        s->n++;
        if (ref) {
            const double ref_lse = log_sum_exp(ref, s->v, &ref_top);
            if (!isfinite(ref_lse))
                return nb_logits_fault(s->reference, row + r + 1, err);
            s->kl[s->n_kl++] = kl_row(ref, ref_lse, l, lse, s->v);
            s->n_same += top == ref_top;
        }
    }
    return NB_OK;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void summarize(struct score *s, nb_eval_result *r)
{
    const double n = (double)s->n, mean = s->nll / n, var = s->nll2 / n - mean * mean;
    r->tokens = s->n;
    r->ppl = exp(mean);
    r->ppl_stderr = s->n > 1 ? r->ppl * sqrt((var > 0.0 ? var : 0.0) / (n - 1.0)) : 0.0;
    if (!s->n_kl)
        return;
    double sum = 0.0, sum2 = 0.0;
    for (int64_t i = 0; i < s->n_kl; i++) {
        sum += s->kl[i];
        sum2 += s->kl[i] * s->kl[i];
    }
    const double m = (double)s->n_kl, kl_var = sum2 / m - (sum / m) * (sum / m);
    qsort(s->kl, (size_t)s->n_kl, sizeof *s->kl, ascending);
    r->has_kl = true;
    r->kl_mean = sum / m;
    r->kl_stderr = s->n_kl > 1 ? sqrt((kl_var > 0.0 ? kl_var : 0.0) / (m - 1.0)) : 0.0;
    r->kl_median = s->kl[s->n_kl / 2];
    r->kl_p99 = s->kl[(int64_t)(0.99 * (double)(s->n_kl - 1))];
    r->top1 = (double)s->n_same / m;
}

/* Both models must spell the same text with the same ids. Logits beyond the tokenizer's tokens have
 * names in a GGUF file and none in a folder: only what both name is compared. */
static nb_status check_reference(const nb_model *m, const nb_model *ref, nb_error *err)
{
    if (!ref)
        return NB_OK;
    const int32_t own = nb_tokenizer_vocab_size(m->tokenizer),
                  its = nb_tokenizer_vocab_size(ref->tokenizer), n = own < its ? own : its;
    bool same = ref->hp.vocab_size == m->hp.vocab_size;
    /* a sample: another vocabulary differs everywhere */
    for (int32_t i = 0; same && i < n; i += 97) {
        size_t a = 0, b = 0;
        const char *x = nb_tokenizer_token(m->tokenizer, i, &a),
                   *y = nb_tokenizer_token(ref->tokenizer, i, &b);
        same = x && y && a == b && memcmp(x, y, a) == 0;
    }
    if (same)
        return NB_OK;
    nb_fail_at(err, NB_BAD_INPUT, ref->container->path, -1,
               "another vocabulary than %s; their KL means nothing", m->container->path);
    nb_hint(err, "--against takes the model that this one was made of");
    return NB_BAD_INPUT;
}

static nb_status eval_chunks(nb_model *m, nb_model *ref, const nb_eval_options *o,
                             const nb_ids *ids, int32_t ctx, int32_t n_chunk, nb_session *s,
                             nb_session *rs, struct score *sc, double *seconds, nb_error *err)
{
    nb_status st = NB_OK;
    int32_t *chunk = nb_alloc((size_t)ctx, sizeof *chunk, "a chunk", err);
    if (!chunk)
        return NB_NO_ROOM;
    for (int32_t i = 0; i < n_chunk && st == NB_OK; i++) {
        if (o->stop && *o->stop) {
            st = nb_fail(err, NB_INTERRUPTED, "stopped after %d of %d chunks", i, n_chunk);
            break;
        }
        const int64_t start =
            o->spread ? (n_chunk > 1 ? i * (((int64_t)ids->n - ctx) / (n_chunk - 1)) : 0)
                      : (int64_t)(o->first_chunk + i) * ctx;
        memcpy(chunk, ids->p + start, (size_t)ctx * sizeof *chunk);
        if (nb_tokenizer_adds_bos(m->tokenizer))
            chunk[0] = nb_tokenizer_bos(m->tokenizer);
        sc->ids = chunk;
        if (ref) {
            nb_session_clear(rs, 0);
            sc->filling = true;
            st = nb_session_feed(rs, 0, chunk, ctx, sc->first, take_rows, sc, err);
            sc->filling = false;
        }
        const int64_t t = nb_clock_ns();
        nb_session_clear(s, 0);
        if (st == NB_OK)
            st = nb_session_feed(s, 0, chunk, ctx, sc->first, take_rows, sc, err);
        *seconds += (double)(nb_clock_ns() - t) * 1e-9;
        if (st == NB_OK && o->progress)
            o->progress(o->arg, i + 1, n_chunk, exp(sc->nll / (double)sc->n));
    }
    free(chunk);
    return st;
}

/* The text as ids, the length of a chunk, how many: what can be refused before anything is
 * computed. */
static nb_status choose_chunks(const nb_model *m, const nb_eval_options *o, nb_ids *ids,
                               int32_t *ctx, int32_t *n_chunk, nb_error *err)
{
    const char *path = o->text_path ? o->text_path : "the text";
    if (!m->be || !m->tokenizer)
        return nb_fail(err, NB_USAGE, "evaluation needs a model with weights and a tokenizer");
    *ctx = o->ctx ? o->ctx : m->hp.ctx_len < 512 ? m->hp.ctx_len : 512;
    if (*ctx < 4 || *ctx > m->hp.ctx_len)
        return nb_fail(err, NB_USAGE, "--ctx %d, the model has 4 to %d", *ctx, m->hp.ctx_len);
    nb_status st = nb_tokenizer_encode(m->tokenizer, o->text, o->text_n, NB_TOKENIZE_BOS, ids, err);
    if (st != NB_OK)
        return st;
    const int64_t whole = (int64_t)ids->n / *ctx,
                  asked = o->n_chunk ? o->n_chunk : whole - o->first_chunk;
    if (whole < 1) {
        st = nb_fail_at(err, NB_BAD_INPUT, path, -1,
                        "%zu tokens, one chunk needs %d; give more text or a smaller --ctx", ids->n,
                        *ctx);
        if (ids->n >= 4)
            nb_hint(err, "--ctx %zu", ids->n);
        return st;
    }
    if (o->spread ? asked - 1 > (int64_t)ids->n - *ctx
                  : o->first_chunk < 0 || asked < 1 || o->first_chunk + asked > whole) {
        st =
            nb_fail_at(err, NB_BAD_INPUT, path, -1,
                       "%lld chunks from chunk %d on are asked for, the text has %lld of %d tokens",
                       (long long)(asked < 1 ? 1 : asked), o->spread ? 0 : o->first_chunk,
                       (long long)whole, *ctx);
        nb_hint(err, "--first-chunk 0 --chunks %lld", (long long)whole);
        return st;
    }
    if (o->spread && o->first_chunk)
        return nb_fail(err, NB_USAGE,
                       "--spread goes over the whole text, from no --first-chunk on");
    *n_chunk = (int32_t)asked;
    return NB_OK;
}

nb_status nb_eval_check(const nb_model *m, const nb_eval_options *o, nb_error *err)
{
    nb_ids ids = {0};
    int32_t ctx = 0, n_chunk = 0;
    const nb_status st = choose_chunks(m, o, &ids, &ctx, &n_chunk, err);
    nb_ids_free(&ids);
    return st;
}

nb_status nb_eval(nb_model *m, nb_model *reference, const nb_eval_options *o, nb_eval_result *r,
                  nb_error *err)
{
    nb_ids ids = {0};
    nb_session *s = NULL, *rs = NULL;
    struct score sc = {.m = m, .reference = reference};
    int32_t ctx = 0, n_chunk = 0;
    memset(r, 0, sizeof *r);
    if (reference && (!reference->be || !reference->tokenizer))
        return nb_fail(err, NB_USAGE, "evaluation needs a model with weights and a tokenizer");
    nb_status st = choose_chunks(m, o, &ids, &ctx, &n_chunk, err);
    r->overlap = st == NB_OK && n_chunk > (int64_t)ids.n / ctx;
    if (st == NB_OK)
        st = check_reference(m, reference, err);
    if (st != NB_OK)
        goto done;
    sc.first = o->all_positions ? 0 : ctx / 2;
    sc.ctx = ctx;
    sc.v = m->hp.vocab_size;
    const size_t rows = (size_t)(ctx - 1 - sc.first);
    if (reference) {
        sc.ref = nb_alloc_aligned(rows * (size_t)sc.v, sizeof(float),
                                  "the reference's logits of one chunk", err);
        sc.kl = nb_alloc(rows * (size_t)n_chunk, sizeof(double), "KL per position", err);
        st = sc.ref && sc.kl ? nb_session_open(reference, 1, ctx, &rs, err) : NB_NO_ROOM;
    }
    if (st == NB_OK)
        st = nb_session_open(m, 1, ctx, &s, err);
    if (st == NB_OK)
        st = eval_chunks(m, reference, o, &ids, ctx, n_chunk, s, rs, &sc, &r->seconds, err);
    if (st == NB_OK) {
        summarize(&sc, r);
        r->tok_per_s = r->seconds > 0.0 ? (double)ctx * n_chunk / r->seconds : 0.0;
    }
done:
    nb_session_close(s);
    nb_session_close(rs);
    free(sc.ref);
    free(sc.kl);
    nb_ids_free(&ids);
    return st;
}
