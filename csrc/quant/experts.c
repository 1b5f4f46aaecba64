/* experts.c -- gate, up and down of a mixture's experts: measured in batches, quantized one by one,
 * then run all together.
 *
 * A batch is as many experts as there is room for their second moments (nb_pipe.batch); each batch
 * passes over the saved activations anew, which costs norm and router again, not the products. An
 * expert is quantized by what it saw:
 *
 *   n tokens, K inputs    n >= K          as a dense linear
 *                         K / 16 <= n     H has not its full rank and follows the few tokens there
 *                                         are: damping x K / n, 1 at most
 *                         n < K / 16      rounded to nearest with the range of least squared error;
 *                                         n = 0: nothing was measured either
 *
 * Measured on the mixture of routing.c (K = 64), mean KL in nats a token (+- 0.0012), attention
 * seeing as little: 16 tokens an expert .0411, without the damping .0445; 43 tokens .0339 and
 * .0325; 5461 tokens .0153. Rounding all .0472, with ranges of least squared error .0410.
 *
 * The stream runs through what the sink holds, as a loader packs it: codes, not floats, since all
 * experts of a group are needed at once. */
#include "quant/pipe.h"

#include <stdio.h>
#include <stdlib.h>

enum { kTooFew = 16 };

bool nb_pipe_saw_little(int64_t n, int64_t K)
{
    return n * kTooFew < K;
}

/* How far n tokens for K inputs are to be trusted. */
static nb_moments judge(nb_moments s, int64_t n)
{
    const int64_t K = s.K;
    s.n_token = n;
    s.too_few = nb_pipe_saw_little(n, K);
    s.h = n ? s.h : NULL;
    if (!n)
        snprintf(s.note, sizeof s.note, "saw no token: rounded to nearest");
    else if (s.too_few)
        snprintf(s.note, sizeof s.note, "saw %lld tokens for %lld inputs: rounded to nearest",
                 (long long)n, (long long)K);
    else if (n < K) {
        const double damp = s.damp * (double)K / (double)n;
        s.damp = damp < 1.0 ? damp : 1.0;
        snprintf(s.note, sizeof s.note, "saw %lld tokens for %lld inputs: damping %.3g",
                 (long long)n, (long long)K, s.damp);
    }
    return s;
}

static nb_status quantize_batch(nb_pipe *p, nb_group_id g, int layer, int first, int n,
                                int64_t *n_token, nb_error *err)
{
    nb_moments all = nb_pipe_moments(p, g);
    nb_status st = nb_moments_open_weights(p, (nb_group_at){g, layer, first}, n, &all, err);
    nb_times_lap(p->o->times, NB_LAP_READ);
    if (st == NB_OK && p->calib)
        st = nb_pipe_gather_experts(p, g, layer, first, n, &all, n_token, err);
    nb_times_lap(p->o->times, NB_LAP_STATISTICS);
    for (int i = 0; i < n && st == NB_OK; i++) {
        /* a plan takes the dearest way */
        const nb_moments s = judge(nb_moments_of(&all, i), p->dry ? all.K : n_token[i]);
        st = nb_pipe_quantize(p, (nb_group_at){g, layer, first + i}, p->calib ? &s : NULL, err);
        if (st == NB_OK && p->o->stop && *p->o->stop)
            st = nb_fail(err, NB_INTERRUPTED,
                         "stopped in layer %d, nothing was written under the final name", layer);
    }
    p->be->op->release(p->be, all.w);
    return st;
}

/* ---- the weights of a stream ---- */

static nb_experts *experts_of(nb_stream *t, nb_group_id g)
{
    return g == NB_GROUP_GATE_UP ? &t->layer.gate_up : &t->layer.down;
}

/* Room for what a matrix in the making would be, to measure it. */
typedef struct likeness {
    nb_group *groups;
    int32_t *g_idx;
} likeness;

/* A matrix like the one that the sink will hold at the slot, without its data: for plans. */
static nb_status measure_slot(const nb_pipe *p, nb_slot at, bool fits, likeness *room,
                              nb_matrix *out, void **made, nb_error *err)
{
    const nb_grid *grid = &p->o->grid;
    int64_t N, K;
    nb_family_shape(&p->m->hp, at, &N, &K);
    if (!fits || at.layer < p->o->layer_from || at.layer >= p->o->layer_to)
        return nb_model_matrix(p->m, at, out, made, err);
    *out =
        (nb_matrix){.N = N, .K = K, .dtype = grid->dtype, .bits = grid->bits, .group = grid->group};
    if (grid->dtype)
        return NB_OK;
    const int64_t group = nb_grid_group(grid, K), G = (K + group - 1) / group;
    room->groups = nb_alloc_zero((size_t)(N * G), sizeof *room->groups, "scales of a plan", err);
    room->g_idx = nb_alloc_zero((size_t)K, sizeof *room->g_idx, "an order of inputs", err);
    for (int64_t i = 0; room->groups && !grid->sym && i < N * G; i++)
        room->groups[i].zero = (float)(i % 2);
    out->groups = room->groups;
    out->g_idx = p->o->act_order ? room->g_idx : NULL;
    return room->groups && room->g_idx ? NB_OK : NB_NO_ROOM;
}

static nb_status read_slot(nb_pipe *p, nb_slot at, nb_matrix *out, nb_error *err)
{
    int64_t N, K;
    nb_family_shape(&p->m->hp, at, &N, &K);
    nb_status st = p->sink->op->read(p->sink, at, out, err);
    if (st == NB_OK && (out->N != N || out->K != K))
        st = nb_fail(err, NB_INTERNAL, "expert %d of layer %d is read back as %lld x %lld",
                     at.expert, at.layer, (long long)out->N, (long long)out->K);
    const int64_t bad = st == NB_OK ? nb_pipe_bad_row(p, out) : -1;
    if (bad >= 0)
        st = nb_fail(err, NB_BAD_INPUT,
                     "expert %d of layer %d is written with NaN or Inf in row %lld", at.expert,
                     at.layer, (long long)bad);
    return st;
}

static nb_status pack_slot(nb_pipe *p, nb_slot at, bool fits, nb_weight **out, nb_error *err)
{
    nb_matrix a;
    void *made = NULL;
    likeness room = {NULL, NULL};
    nb_status st =
        p->dry ? measure_slot(p, at, fits, &room, &a, &made, err) : read_slot(p, at, &a, err);
    if (st == NB_OK)
        st = p->be->op->pack_weight(p->be, &a, 1, out, err);
    free(room.groups);
    free(room.g_idx);
    free(made);
    return st;
}

/* What was written for the experts, a weight a role: the sink lends one matrix at a time. */
static nb_status experts_from_sink(nb_pipe *p, nb_group_id g, int layer, nb_error *err)
{
    nb_role role[3];
    nb_experts *x = experts_of(&p->quantized, g);
    const int n_role = nb_group_roles(g, role), E = p->m->hp.n_expert;
    const bool fits = nb_pipe_rounds(p, g);
    nb_status st = NB_OK;
    *x = (nb_experts){0};
    for (int i = 0; i < n_role && st == NB_OK; i++) {
        int64_t N;
        nb_family_shape(&p->m->hp, (nb_slot){.role = role[i]}, &N, &x->K);
        x->w[i] = nb_alloc_zero((size_t)E, sizeof *x->w[i], "experts", err);
        x->n_weight = i + 1;
        x->at[i] = x->N;
        x->N += N;
        st = x->w[i] ? NB_OK : NB_NO_ROOM;
        for (int e = 0; e < E && st == NB_OK; e++)
            st = pack_slot(p, (nb_slot){.role = role[i], .layer = layer, .expert = e}, fits,
                           &x->w[i][e], err);
    }
    return st;
}

static nb_status original_experts(nb_pipe *p, nb_group_id g, int layer, nb_error *err)
{
    return p->two ? nb_experts_load(p->m, g, layer, experts_of(&p->original, g), err) : NB_OK;
}

nb_status nb_pipe_read_experts(nb_pipe *p, nb_group_id g, int layer, nb_error *err)
{
    const nb_status st = original_experts(p, g, layer, err);
    return st == NB_OK ? experts_from_sink(p, g, layer, err) : st;
}

nb_status nb_pipe_source_experts(nb_pipe *p, nb_group_id g, int layer, nb_error *err)
{
    const nb_status st = original_experts(p, g, layer, err);
    return st == NB_OK ? nb_experts_load(p->m, g, layer, experts_of(&p->quantized, g), err) : st;
}

nb_status nb_pipe_quantize_experts(nb_pipe *p, nb_group_id g, int layer, nb_error *err)
{
    const int E = p->m->hp.n_expert;
    const bool fits = nb_pipe_rounds(p, g);
    int64_t *n_token = nb_alloc_zero((size_t)E, sizeof *n_token, "a routing", err);
    nb_status st = n_token ? NB_OK : NB_NO_ROOM;
    for (int e = 0; e < E && st == NB_OK && !fits; e++)
        st = nb_pipe_keep(p, (nb_group_at){g, layer, e}, err);
    for (int e = 0; e < E && st == NB_OK && fits; e += p->batch)
        st = quantize_batch(p, g, layer, e, E - e < p->batch ? E - e : p->batch, n_token + e, err);
    if (st == NB_OK && p->calib)
        st = nb_pipe_read_experts(p, g, layer, err);
    for (int e = 0; e < E; e++)
        nb_pipe_release_pages(p, (nb_group_at){g, layer, e});
    free(n_token);
    return st;
}
