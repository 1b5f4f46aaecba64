/* offload.c -- a model on two devices: the embedding and the first layers on the CPU, the other
 * layers and the output layer on the device.
 *
 *     ids -> [embedding, layers 0 .. n_front)  --x-->  [layers n_front .. n_layer, norm, output] ->
 *         logits
 *             the CPU                    [M, hidden_size] f32           the device
 *
 * The first layers and not the last ones, as llama.cpp has it: the residual stream crosses over
 * once a step and in one direction; the embedding, of which a step reads a row a token, takes no
 * place on the device; the output layer, the largest matrix of a step of one token, and the choice
 * from its logits stay where they are fast. A tied embedding is packed twice then.
 *
 * Each part is an nb_model of one device, so stages, caches and scratch know of one only;
 * nb_model_at says which part has a layer. The CPU computes its layers as `--device cpu` does, the
 * device its own as it does without offload.
 *
 * How many layers have to stay is found by bisection over plans (count.h): log2(n_layer + 1) of
 * them, each a walk over the tensors' shapes. */
#include "backend/count.h"
#include "model/model.h"

#include <stdlib.h>
#include <string.h>

nb_status nb_front_open(nb_model *m, int32_t n, const nb_model_options *o, nb_error *err)
{
    if (n == 0)
        return NB_OK;
    nb_model *f = nb_alloc_zero(1, sizeof *f, "a model", err);
    if (!f)
        return NB_NO_ROOM;
    f->container = m->container; /* m's, as the tokenizer is */
    f->tokenizer = m->tokenizer;
    f->family = m->family;
    f->hp = m->hp;
    f->scheme = m->scheme;
    m->front = f;
    m->n_front = n;
    const nb_backend_options bo = {.exact = o && o->exact, .n_thread = o ? o->n_thread : 0};
    const nb_status st =
        nb_backend_open(nb_backend_counts(m->be) ? "plan:cpu" : "cpu", &bo, &f->be, err);
    return st == NB_OK && o ? nb_model_set_kv_type(f, o->kv_type, err) : st;
}

void nb_front_close(nb_model *m)
{
    if (m->front)
        nb_backend_close(m->front->be);
    free(m->front);
    m->front = NULL;
    m->n_front = 0;
}

/* Bytes of the device with n layers on the CPU: of the weights, and of all with a session. */
static nb_status measure(const nb_model *m, int32_t n, int32_t n_seq, int32_t ctx_len,
                         size_t *weights, size_t *all, nb_error *err)
{
    const nb_model_options o = {.exact = m->be->exact, .n_thread = 1};
    nb_model probe = *m;
    nb_session *s = NULL;
    probe.front = NULL;
    probe.n_front = 0;
    probe.layer = NULL;
    probe.embed = probe.output = NULL;
    probe.output_norm = probe.inv_freq = probe.inv_freq_local = probe.inv_freq_none = NULL;
    nb_status st = nb_backend_count_open(m->be, false, &probe.be, err);
    if (st != NB_OK)
        return st;
    st = nb_front_open(&probe, n, &o, err);
    if (st == NB_OK)
        st = nb_model_load_weights(&probe, true, err);
    *weights = nb_backend_count(probe.be)->device;
    if (st == NB_OK)
        st = nb_session_open(&probe, n_seq > 0 ? n_seq : 1,
                             ctx_len > 0 && ctx_len < m->hp.ctx_len ? ctx_len : m->hp.ctx_len, &s,
                             err);
    *all = nb_backend_count(probe.be)->device;
    nb_session_close(s);
    nb_model_close_weights(&probe);
    nb_front_close(&probe);
    nb_backend_close(probe.be);
    return st;
}

/* What may be taken of the device's free memory. A 64th stays: a driver gives memory out in pieces
 * of 2 MiB and loads kernels when they are first run. */
static size_t room(const nb_model *m)
{
    const size_t n = m->be->op->free_bytes(m->be);
    return n - n / 64;
}

/* The fewest layers on the CPU with which a session fits into `bytes` of the device; -1: not even
 * all of them. *need: what it takes then. */
static nb_status fewest(const nb_model *m, int32_t n_seq, int32_t ctx_len, size_t bytes, int32_t *n,
                        size_t *need, nb_error *err)
{
    size_t weights = 0;
    int32_t low = 0, high = m->hp.n_layer;
    nb_status st = measure(m, high, n_seq, ctx_len, &weights, need, err);
    *n = -1;
    if (st != NB_OK || *need > bytes)
        return st;
    while (low < high && st == NB_OK) { /* high fits */
        const int32_t middle = low + (high - low) / 2;
        size_t all = 0;
        st = measure(m, middle, n_seq, ctx_len, &weights, &all, err);
        if (all <= bytes) {
            high = middle;
            *need = all;
        } else
            low = middle + 1;
    }
    *n = high;
    return st;
}

nb_status nb_offload_choose(const nb_model *m, const nb_model_options *o, int32_t *n, nb_error *err)
{
    const int32_t asked = o ? o->offload : 0, most = m->hp.n_layer;
    size_t need = 0;
    *n = 0;
    if (asked > most) {
        nb_fail(err, NB_USAGE, "%d layers are to stay on the CPU, the model has %d", asked, most);
        nb_hint(err, "--offload %d", most);
        return NB_USAGE;
    }
    if (strcmp(m->be->name, "cpu") == 0) /* they are there */
        return NB_OK;
    if (asked >= 0 || asked < NB_OFFLOAD_AUTO) {
        const int32_t there = NB_OFFLOAD_ALL_BUT(0) - asked; /* how many are to be on the device */
        *n = asked >= 0 ? asked : there < most ? most - there : 0;
        return NB_OK;
    }
    if (!m->be->op->free_bytes)
        return NB_OK;
    const nb_status st = fewest(m, o->n_seq, o->ctx, room(m), n, &need, err);
    if (st != NB_OK || *n >= 0)
        return st;
    nb_fail(err, NB_NO_ROOM,
            "%s: %.1f MiB are needed with every layer on the CPU, for the output layer and "
            "activations; %.1f MiB are free",
            m->be->name, (double)need / 1048576.0,
            (double)m->be->op->free_bytes(m->be) / 1048576.0);
    nb_hint(err, "--device cpu");
    return NB_NO_ROOM;
}

void nb_offload_hint(const nb_model *m, int32_t n_seq, int32_t ctx_len, bool held, nb_error *err)
{
    size_t weights = 0, all = 0;
    int32_t n = 0;
    if (!err || nb_backend_counts(m->be) || !m->be->op->free_bytes)
        return;
    size_t bytes = room(m);
    if (held && measure(m, m->n_front, n_seq, ctx_len, &weights, &all, NULL) == NB_OK)
        bytes += weights;
    if (fewest(m, n_seq, ctx_len, bytes, &n, &all, NULL) != NB_OK)
        return;
    if (n > m->n_front) /* else it was the host's memory */
        nb_hint(err, "--offload %d", n);
    else if (n < 0)
        nb_hint(err, "--device cpu");
}
