/* acts.c -- the buffers of a step: activations and scratch. */
#include "model/model.h"

#include <stdlib.h>
#include <string.h>

/* Scratch is shared by all ops of a step, so the largest of them decides. */
static size_t scratch_need(const nb_model *m, int32_t max_token, int32_t ctx_len)
{
    const nb_linear_args head = {.M = max_token, .w = m->output};
    size_t need = m->output ? m->be->op->linear_scratch(m->be, &head) : 0;
    for (int l = 0; l < (m->layer ? m->hp.n_layer : 1); l++) {
        const size_t n = nb_layer_scratch(m, m->layer ? &m->layer[l] : NULL, max_token, ctx_len);
        need = n > need ? n : need;
    }
    return need;
}

nb_status nb_acts_open(const nb_model *m, int32_t max_token, int32_t ctx_len, nb_acts *a,
                       nb_error *err)
{
    const nb_hparams *hp = &m->hp;
    nb_backend *be = m->be;
    const size_t M = (size_t)max_token, q_width = (size_t)hp->n_head * (size_t)hp->head_dim,
                 kv_width = (size_t)hp->n_kv_head * (size_t)hp->head_dim;
    memset(a, 0, sizeof *a);
    a->max_token = max_token;
    a->be = be;
    a->scratch_bytes = scratch_need(m, max_token, ctx_len);
    const struct {
        void **to;
        size_t bytes;
    } buffer[] = {
        {(void **)&a->x, M * (size_t)hp->hidden_size * sizeof(float)},
        {(void **)&a->h, M * (size_t)hp->hidden_size * sizeof(float)},
        {(void **)&a->qkv, M * (q_width + 2 * kv_width) * sizeof(float)},
        {(void **)&a->att, M * q_width * sizeof(float)},
        {(void **)&a->gu, M * (size_t)nb_gu_width(hp) * sizeof(float)},
        {(void **)&a->act, M * (size_t)nb_act_width(hp) * sizeof(float)},
        {(void **)&a->ids, 3 * M * sizeof(int32_t)},
        {&a->scratch, a->scratch_bytes},
    };
    nb_status st = NB_OK;
    for (size_t i = 0; i < sizeof buffer / sizeof *buffer && st == NB_OK; i++)
        st = be->op->alloc(be, buffer[i].bytes, "activations", buffer[i].to, err);
    if (st == NB_OK)
        nb_acts_place(a, max_token);
    if (st == NB_OK && m->front) {
        a->front = nb_alloc_zero(1, sizeof *a->front, "activations", err);
        st = a->front ? nb_acts_open(m->front, max_token, ctx_len, a->front, err) : NB_NO_ROOM;
    }
    if (st != NB_OK)
        nb_acts_close(be, a);
    return st;
}

void nb_acts_place(nb_acts *a, int32_t n_token)
{
    a->seq = a->ids + n_token;
    a->pos = a->ids + 2 * (int64_t)n_token;
}

void nb_acts_close(nb_backend *be, nb_acts *a)
{
    void *buffer[] = {a->x, a->h, a->qkv, a->att, a->gu, a->act, a->ids, a->scratch};
    for (size_t i = 0; i < sizeof buffer / sizeof *buffer; i++)
        be->op->release(be, buffer[i]);
    if (a->front && a->front->be) /* else its open failed and left nothing */
        nb_acts_close(a->front->be, a->front);
    free(a->front);
    memset(a, 0, sizeof *a);
}
