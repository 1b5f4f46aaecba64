/* moments.c -- what is summed over the calibration tokens for a group: H, and what the drift of its
 * inputs does to its linears.
 *
 * Of the drift the correction needs W C (backend.h). Either C is summed, [K,K], for 2 T K^2 FLOP
 * and 2 N K^2 at the end, or W C itself, [N,K], for 4 T N K. Up to N = K / 2 (down: N = K / 3.5 in
 * Llama) the second is less work and less memory, whatever T is: so it is done there (a device
 * without the op sums C). It needs W while the tokens pass, 4 N K bytes more then: 12 N K with the
 * sums, still less than 8 K^2 up to N = 2 K / 3, and no more than is held when W is rounded.
 *
 * Of scaled inputs (scales.c) the original stream's may come undivided. W C cannot be put right
 * behind the sum, as nb_pipe_scale_drift does with C: the op is given the scales.
 *
 * Where AMX tiles make C (some 190 GFLOP/s, docs/PERFORMANCE.md) D takes vectors (115): 4 N / K /
 * 115 against 2 / 190 + 2 N / T / 115, of T K^2. At N = K / 3.5 that is .0099 against .0105 and
 * more, at K / 2 .0174 against .0105 and more: there it costs up to two thirds more of this sum,
 * and is kept for the memory, so that a plan does not depend on the processor. */
#include "quant/pipe.h"

/* Rows of the linears that share the input, where W C is summed; 0: C is. */
static int64_t narrow_rows(const nb_pipe *p, nb_group_id g)
{
    int64_t K;
    const int64_t N = nb_pipe_group_shape(p, g, &K);
    return p->be->op->drift_accumulate && 2 * N <= K ? N : 0;
}

nb_moments nb_pipe_moments(const nb_pipe *p, nb_group_id g)
{
    nb_moments s = {.h = p->h, .N = narrow_rows(p, g), .damp = p->o->damp};
    (void)nb_pipe_group_shape(p, g, &s.K);
    if (p->two)
        *(s.N ? &s.wc : &s.c) = p->c;
    return s;
}

nb_moments nb_moments_of(const nb_moments *first, int64_t e)
{
    nb_moments s = *first;
    const int64_t square = s.K * s.K, rows = s.N * s.K;
    s.h = s.h ? s.h + e * square : NULL;
    s.c = s.c ? s.c + e * square : NULL;
    s.wc = s.wc ? s.wc + e * rows : NULL;
    s.w = s.w ? s.w + e * rows : NULL;
    s.scale = s.scale ? s.scale + e * s.K : NULL;
    return s;
}

nb_status nb_pipe_open_moments(nb_pipe *p, nb_error *err)
{
    size_t h = 0, c = 0;
    for (int g = 0; g < NB_GROUP_COUNT; g++) {
        int64_t K;
        (void)nb_pipe_group_shape(p, (nb_group_id)g, &K);
        const int64_t N = narrow_rows(p, (nb_group_id)g);
        const size_t n = nb_pipe_is_mixed(p, (nb_group_id)g) ? (size_t)p->batch : 1,
                     square = n * (size_t)(K * K) * sizeof(double),
                     drift = N ? n * (size_t)(N * K) * sizeof(double) : square;
        h = square > h ? square : h;
        c = drift > c ? drift : c;
    }
    nb_status st = p->be->op->alloc(p->be, h, "second moments of the inputs", (void **)&p->h, err);
    if (st == NB_OK && p->o->correction > 0.0)
        st = p->be->op->alloc(p->be, c, "second moments of the drift", (void **)&p->c, err);
    return st;
}

nb_status nb_moments_zero(nb_pipe *p, const nb_moments *s, int64_t n, nb_error *err)
{
    const size_t square = (size_t)(n * s->K * s->K) * sizeof(double);
    nb_status st = p->be->op->zero(p->be, s->h, square, err);
    if (st == NB_OK && s->c)
        st = p->be->op->zero(p->be, s->c, square, err);
    if (st == NB_OK && s->wc)
        st = p->be->op->zero(p->be, s->wc, (size_t)(n * s->N * s->K) * sizeof(double), err);
    return st;
}

nb_status nb_moments_open_weights(nb_pipe *p, nb_group_at at, int n, nb_moments *s, nb_error *err)
{
    const int64_t one = s->N * s->K;
    const bool scaled = nb_pipe_divides_one_stream(p, at.g);
    if (!s->wc)
        return NB_OK;
    nb_status st = p->be->op->alloc(p->be, (size_t)(n * (one + (scaled ? s->K : 0))) * sizeof *s->w,
                                    "weights of a layer", (void **)&s->w, err);
    if (st == NB_OK && scaled)
        s->scale = s->w + n * one;
    for (int e = 0; e < n && st == NB_OK; e++) {
        const nb_group_at expert = {at.g, at.layer, at.expert + e};
        st = nb_pipe_upload(p, expert, s->w + e * one, err);
        if (st == NB_OK && scaled)
            st = p->be->op->upload(p->be, s->scale + e * s->K, nb_pipe_scales_of(p, expert),
                                   (size_t)s->K * sizeof *s->scale, err);
    }
    return st;
}

/* ---- the ops behind a sum ---- */

static nb_gram_args gram_of(const nb_moments *s, const nb_token_rows *t)
{
    return (nb_gram_args){.x = t->x,
                          .x_orig = s->c ? t->x_orig : NULL,
                          .M = t->M,
                          .K = s->K,
                          .ldx = s->K,
                          .ld_orig = s->K,
                          .h = s->h,
                          .c = s->c,
                          .more = t->more,
                          .scratch = t->scratch};
}

static nb_drift_args drift_of(const nb_moments *s, const nb_token_rows *t)
{
    return (nb_drift_args){.x = t->x,
                           .x_orig = t->x_orig,
                           .M = t->M,
                           .K = s->K,
                           .ldx = s->K,
                           .ld_orig = s->K,
                           .scale = s->scale,
                           .w = s->w,
                           .N = s->N,
                           .d = s->wc,
                           .scratch = t->scratch};
}

size_t nb_moments_scratch(const nb_pipe *p, const nb_moments *s, const nb_token_rows *t)
{
    const nb_backend_ops *op = p->be->op;
    const nb_gram_args gram = gram_of(s, t);
    const nb_drift_args drift = drift_of(s, t);
    const size_t a = op->gram_scratch ? op->gram_scratch(p->be, &gram) : 0,
                 b = s->wc && op->drift_scratch ? op->drift_scratch(p->be, &drift) : 0;
    return a > b ? a : b;
}

nb_status nb_moments_add(nb_pipe *p, const nb_moments *s, const nb_token_rows *t, nb_error *err)
{
    const nb_gram_args gram = gram_of(s, t);
    const nb_drift_args drift = drift_of(s, t);
    const nb_status st = p->be->op->gram_accumulate(p->be, &gram, err);
    return st == NB_OK && s->wc ? p->be->op->drift_accumulate(p->be, &drift, err) : st;
}
