/* plan.c -- nb_plan_model: what a model takes to run, from the code that loads and runs it, over a device that only counts. */
#include "backend/count.h"
#include "base/clock.h"
#include "model/model.h"

#include <stdio.h>

/* Keys and values alone, opened as a session opens them. */
static nb_status count_cache(nb_model *m, int32_t n_seq, int32_t ctx, int64_t *bytes, nb_error *err)
{
    const size_t before = nb_backend_count(m->be)->device;
    nb_kv kv;
    const nb_status st = nb_kv_open(m->be, &m->hp, n_seq, ctx, &kv, err);
    if (st != NB_OK)
        return st;
    *bytes = (int64_t)(nb_backend_count(m->be)->device - before) * m->hp.n_layer; /* every layer has the same */
    nb_kv_close(m->be, &kv);
    return NB_OK;
}

nb_status nb_plan_model(const nb_plan_options *o, nb_plan *out, nb_error *err)
{
    char device[64];
    nb_model *m = NULL;
    nb_session *s = NULL;
    *out = (nb_plan){.n_seq = o->n_seq > 0 ? o->n_seq : 1};
    const int n = snprintf(device, sizeof device, "plan:%s", o->device ? o->device : "auto");
    if (n < 0 || (size_t)n >= sizeof device)
        return nb_fail(err, NB_USAGE, "a device's name of %d bytes", n);
    const nb_model_options mo = {.device = device, .n_thread = o->n_thread, .exact = o->exact};
    nb_status st = nb_model_open(o->model, &mo, &m, err);
    if (st == NB_OK) {
        out->ctx = o->ctx > 0 ? o->ctx : m->hp.ctx_len;
        out->weights_bytes = (int64_t)nb_backend_count(m->be)->device; /* packed matrices, norms, frequencies */
        st = count_cache(m, out->n_seq, out->ctx, &out->kv_bytes, err);
    }
    if (st == NB_OK)
        st = nb_session_open(m, out->n_seq, out->ctx, &s, err);
    if (st == NB_OK) {
        const bool in_host = nb_backend_in_host_memory(m->be);
        const int64_t device_bytes = (int64_t)nb_backend_count(m->be)->device;
        out->scratch_bytes = device_bytes - out->weights_bytes - out->kv_bytes + (in_host ? nb_session_host_bytes(s) : 0);
        out->total_bytes = out->weights_bytes + out->kv_bytes + out->scratch_bytes;
        out->memory_bytes = in_host ? nb_memory_bytes() : (int64_t)m->be->memory_bytes;
        out->fits = out->memory_bytes == 0 || out->total_bytes + (in_host ? nb_anon_rss_bytes() : 0) <= out->memory_bytes;
    }
    nb_session_close(s);
    nb_model_close(m);
    return st;
}
