/* generate.c -- a prompt in, tokens and text out, one at a time. */
#include "base/clock.h"
#include "base/random.h"
#include "model/model.h"

#include <stdlib.h>
#include <string.h>

void nb_generate_result_free(nb_generate_result *r)
{
    free(r->tokens);
    free(r->text);
    memset(r, 0, sizeof *r);
}

/* Everything one run of nb_generate holds. */
struct run {
    nb_session *s;
    const nb_model *m;
    const nb_generate_options *o;
    nb_rng rng;
    nb_detok detok;
    nb_buf text;
};

static nb_status next_token(struct run *g, const int32_t *tokens, int32_t n, int32_t *next,
                            nb_error *err)
{
    return nb_session_step_pick(g->s, 0, tokens, n, &g->o->sampling, nb_rng_u64(&g->rng), next,
                                err);
}

/* Appends the token's characters and shows them; false when the caller wants no more. */
static nb_status show(struct run *g, int32_t token, bool *go_on, nb_error *err)
{
    const size_t had = g->text.n;
    nb_status st = NB_OK;
    if (g->m->tokenizer)
        st = nb_detok_push(&g->detok, token, &g->text, err);
    if (st == NB_OK && g->o->on_text)
        *go_on = g->o->on_text(g->o->arg, token, g->text.p ? g->text.p + had : "", g->text.n - had);
    return st;
}

nb_status nb_generate(nb_session *s, const nb_generate_options *o, nb_generate_result *r,
                      nb_error *err)
{
    enum { kTextMax = 64 << 20 };
    struct run g = {.s = s, .m = nb_session_model(s), .o = o};
    memset(r, 0, sizeof *r);
    const int32_t room = nb_session_ctx_len(s) - nb_session_length(s, 0);
    if (!o->n_prompt)
        return nb_fail(err, NB_BAD_INPUT, "the prompt is empty, there is nothing to go on from");
    if (o->n_prompt > (size_t)room) {
        const nb_status st =
            nb_fail(err, NB_NO_ROOM, "a prompt of %zu tokens; the context has room for %d",
                    o->n_prompt, room);
        nb_session_hint_room(s, nb_session_length(s, 0) + (int64_t)o->n_prompt, err);
        return st;
    }
    const int32_t most = o->n_predict < 0 || o->n_predict > room - (int32_t)o->n_prompt + 1
                             ? room - (int32_t)o->n_prompt + 1
                             : o->n_predict;
    nb_buf_init(&g.text, kTextMax);
    nb_rng_seed(&g.rng, o->sampling.seed);
    if (g.m->tokenizer)
        nb_detok_init(&g.detok, g.m->tokenizer);
    g.detok.started = o->continues;
    r->tokens = nb_alloc((size_t)most + 1, sizeof *r->tokens, "generated tokens", err);
    nb_status st = r->tokens ? NB_OK : NB_NO_ROOM;
    const int64_t start = nb_clock_ns();
    int64_t first = start;
    int32_t token = 0;
    bool go_on = true;
    if (st == NB_OK)
        st = most > 0 ? next_token(&g, o->prompt, (int32_t)o->n_prompt, &token, err)
                      : nb_session_feed(s, 0, o->prompt, (int32_t)o->n_prompt, 0, NULL, NULL, err);
    first = nb_clock_ns();
    r->stop = "length";
    while (st == NB_OK && (int32_t)r->n_token < most) {
        if (!o->ignore_end && g.m->tokenizer && nb_tokenizer_is_end(g.m->tokenizer, token)) {
            r->stop = "end";
            break;
        }
        r->tokens[r->n_token++] = token;
        st = show(&g, token, &go_on, err);
        if (st != NB_OK || (int32_t)r->n_token >= most)
            break;
        if (!go_on) {
            r->stop = "caller";
            break;
        }
        st = next_token(&g, &token, 1, &token, err);
    }
    if (st == NB_OK && o->n_predict != (int32_t)r->n_token && (int32_t)r->n_token == most)
        r->stop = "context";
    const size_t had = g.text.n;
    if (st == NB_OK && g.m->tokenizer) {
        st = nb_detok_flush(&g.detok, &g.text, err);
        if (st == NB_OK && o->on_text && g.text.n > had)
            (void)o->on_text(o->arg, -1, g.text.p + had, g.text.n - had);
    }
    r->prompt_s = (double)(first - start) * 1e-9;
    r->first_token_s = r->prompt_s;
    r->gen_s = (double)(nb_clock_ns() - first) * 1e-9;
    if (st != NB_OK) {
        nb_buf_free(&g.text);
        nb_generate_result_free(r);
        return st;
    }
    if (!g.text.p)
        st = nb_buf_add(&g.text, "", 0, err);
    r->text = g.text.p;
    r->text_n = g.text.n;
    return st;
}
