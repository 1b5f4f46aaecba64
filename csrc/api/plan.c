/* plan.c -- nb_plan_model: what a model takes to run, from the code that loads and runs it, over
 * devices that only count. */
#include "backend/count.h"
#include "base/free_memory.h"
#include "model/model.h"

#include <stdio.h>

static int64_t counted(const nb_model *part)
{
    return (int64_t)nb_backend_count(part->be)->device;
}

/* Keys and values of n layers, opened as a session opens them; every layer has the same. */
static nb_status count_cache(nb_model *part, int32_t n_layer, int32_t n_seq, int32_t ctx,
                             int64_t *bytes, nb_error *err)
{
    const int64_t before = counted(part);
    nb_kv kv;
    const nb_status st = nb_kv_open(part->be, &part->hp, n_seq, ctx, &kv, err);
    if (st != NB_OK)
        return st;
    *bytes = (counted(part) - before) * n_layer;
    nb_kv_close(part->be, &kv);
    return NB_OK;
}

/* Weights and cache, before a session is opened. */
static nb_status begin(nb_model *part, int32_t n_layer, const nb_plan *p, nb_plan_part *out,
                       nb_error *err)
{
    out->weights_bytes = counted(part); /* packed matrices, norms, frequencies */
    return count_cache(part, n_layer, p->n_seq, p->ctx, &out->kv_bytes, err);
}

/* The rest, with the session open; host_bytes: of its buffers on the host, where this part is
 * there. Whether it fits. */
static bool end(const nb_model *part, int64_t host_bytes, nb_plan_part *out)
{
    const bool own = part->be->op->free_bytes != NULL;
    out->scratch_bytes = counted(part) - out->weights_bytes - out->kv_bytes + host_bytes;
    out->total_bytes = out->weights_bytes + out->kv_bytes + out->scratch_bytes;
    out->memory_bytes = own ? (int64_t)part->be->memory_bytes : nb_memory_bytes();
    out->free_bytes = own ? (int64_t)part->be->op->free_bytes(part->be) : nb_memory_free_bytes();
    return out->memory_bytes == 0 ||
           out->total_bytes <= (own || out->free_bytes ? out->free_bytes : out->memory_bytes);
}

nb_status nb_plan_model(const nb_plan_options *o, nb_plan *out, nb_error *err)
{
    char device[64];
    nb_model *m = NULL;
    nb_session *s = NULL;
    nb_plan_part all = {0};
    *out = (nb_plan){.n_seq = o->n_seq > 0 ? o->n_seq : 1};
    const int n = snprintf(device, sizeof device, "plan:%s", o->device ? o->device : "auto");
    if (n < 0 || (size_t)n >= sizeof device)
        return nb_fail(err, NB_USAGE, "a device's name of %d bytes", n);
    const nb_model_options mo = {.device = device,
                                 .n_thread = o->n_thread,
                                 .exact = o->exact,
                                 .kv_type = o->kv_type,
                                 .offload = o->offload,
                                 .ctx = o->ctx,
                                 .n_seq = o->n_seq};
    nb_status st = nb_model_open(o->model, &mo, &m, err);
    if (st == NB_OK) {
        out->ctx =
            o->ctx > 0 && !(o->ctx_at_most && o->ctx > m->hp.ctx_len) ? o->ctx : m->hp.ctx_len;
        out->n_layer = m->hp.n_layer;
        out->offload = m->n_front;
        snprintf(out->device, sizeof out->device, "%s", m->be->name);
        st = begin(m, m->hp.n_layer - m->n_front, out, &all, err);
    }
    if (st == NB_OK && m->front)
        st = begin(m->front, m->n_front, out, &out->cpu, err);
    if (st == NB_OK)
        st = nb_session_open(m, out->n_seq, out->ctx, &s, err);
    if (st == NB_OK) {
        const int64_t host = nb_session_host_bytes(s);
        out->fits = end(m, m->front || m->be->op->free_bytes ? 0 : host, &all);
        if (m->front)
            out->fits = end(m->front, host, &out->cpu) && out->fits;
        out->weights_bytes = all.weights_bytes;
        out->kv_bytes = all.kv_bytes;
        out->scratch_bytes = all.scratch_bytes;
        out->total_bytes = all.total_bytes;
        out->memory_bytes = all.memory_bytes;
        out->free_bytes = all.free_bytes;
    }
    nb_session_close(s);
    nb_model_close(m);
    return st;
}
