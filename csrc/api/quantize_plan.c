/* quantize_plan.c -- the memory of a run, known before it begins: the pipeline itself over a device
 * and a sink that only count (backend/count.h).
 *
 * What the process holds already (the directory of the checkpoint, the tokenizer) is what it is;
 * the plan adds the pipeline's peak to it. Where that is more than the budget fewer experts of a
 * mixture are measured at once, down to one; then the activations go into a file (with as many
 * experts as fit again); where that does not suffice the run is refused, with the numbers and what
 * would fit. */
#include "api/quantize.h"
#include "backend/count.h"
#include "base/clock.h"
#include "base/free_memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct need {
    int64_t host, device; /* device: of one with memory of its own */
} need;

static need needs(const nb_backend *be, const nb_count *n, int64_t base)
{
    if (nb_backend_in_host_memory(be)) /* an emulated device may be given a size all the same */
        return (need){base + (int64_t)n->peak, be->op->free_bytes ? (int64_t)n->device_peak : 0};
    return (need){base + (int64_t)n->host_peak, (int64_t)n->device_peak};
}

/* The pipeline with these options, counted. */
static nb_status count_run(nb_quantize_job *j, int64_t base, int32_t samples, int32_t ctx,
                           double correction, bool spill, int experts, need *out, nb_error *err)
{
    nb_backend *be = NULL;
    nb_sink *sink = NULL;
    int64_t n_report = 0;
    const nb_calib calib = {.n_seq = samples, .ctx = ctx};
    nb_pipeline_options p = j->p;
    p.correction = correction;
    p.spill = spill ? "" : NULL;
    p.expert_batch = experts;
    p.progress = NULL;
    p.stop = NULL;
    p.times = NULL;
    p.sealed = NULL;
    /* as if all were to be done: the plan is the same however often it was interrupted */
    p.n_done = 0;
    p.ends_done = false;
    nb_linear_report *report = nb_alloc((size_t)nb_pipeline_most_reports(j->m), sizeof *report,
                                        "the report of a plan", err);
    nb_status st = report ? nb_backend_count_open(j->m->be, false, &be, err) : NB_NO_ROOM;
    if (st == NB_OK)
        st = nb_quantize_open_sink(j, false, true, &sink, err);
    if (st == NB_OK) {
        nb_model m = *j->m; /* its tensors, another device */
        m.be = be;
        st = nb_pipeline_run(&m, &p, j->p.quantizer->needs != NB_NEEDS_NOTHING ? &calib : NULL,
                             sink, report, &n_report, err);
        *out = needs(be, nb_backend_count(be), base);
    }
    if (sink)
        sink->op->close(sink);
    nb_backend_close(be);
    free(report);
    return st;
}

/* The model that writes its own calibration text is held whole. */
static nb_status count_writer(nb_quantize_job *j, int64_t base, need *out, nb_error *err)
{
    char device[48];
    nb_model *m = NULL;
    nb_session *s = NULL;
    enum { kWave = 16 }; /* sequences at once (calib.c) */
    *out = (need){0};
    if (strcmp(j->o.calib, "self") != 0)
        return NB_OK;
    snprintf(device, sizeof device, "plan:%.40s", j->o.device);
    const nb_model_options mo = {.device = device, .n_thread = j->o.n_thread};
    nb_status st = nb_model_open(j->o.model, &mo, &m, err);
    if (st == NB_OK)
        st = nb_session_open(m, j->o.samples < kWave ? j->o.samples : kWave, j->o.ctx, &s, err);
    if (st == NB_OK) {
        *out = needs(m->be, nb_backend_count(m->be), base);
        out->host += 2 * nb_session_host_bytes(s); /* the session's logits, and the sampler's */
    }
    nb_session_close(s);
    nb_model_close(m);
    return st;
}

/* What a device with memory of its own has free now; 0: it has none, or does not say. Not its
 * memory: what others hold of it they hold for hours, and an allocation that fails then ends the
 * run. */
static int64_t device_room(const nb_quantize_job *j)
{
    nb_backend *be = j->m->be;
    return be->op->free_bytes ? (int64_t)be->op->free_bytes(be) : 0;
}

/* As few passes as fit: *spill, *experts and what they need; when nothing fits, the least there is.
 * limit 0: everything fits. */
static nb_status fit(nb_quantize_job *j, int64_t base, int64_t limit, bool calibrated, bool *spill,
                     int *experts, need *out, nb_error *err)
{
    const int all = j->m->hp.n_expert ? j->m->hp.n_expert : 1;
    const int64_t device = device_room(j);
    for (int s = 0; s <= (calibrated ? 1 : 0); s++)
        for (int n = all; n; n /= 2) {
            const nb_status st =
                count_run(j, base, j->o.samples, j->o.ctx, j->o.correction, s, n, out, err);
            *spill = s;
            *experts = n;
            if (st != NB_OK ||
                ((!limit || out->host <= limit) && (!device || out->device <= device)))
                return st;
            if (!calibrated)
                break;
        }
    return NB_OK;
}

static double mib(int64_t bytes)
{
    return (double)bytes / 1048576.0;
}

static nb_status refuse(nb_quantize_job *j, int64_t base, int64_t limit, need least,
                        bool calibrated, nb_error *err)
{
    need plain = {0};
    char with[160] = "";
    if (calibrated && j->o.correction > 0.0 &&
        count_run(j, base, j->o.samples, j->o.ctx, 0.0, true, 1, &plain, err) == NB_OK &&
        plain.host <= limit)
        snprintf(with, sizeof with, "; with --correction 0 it needs %.1f MiB", mib(plain.host));
    const nb_status st = nb_fail_at(
        err, NB_NO_ROOM, j->o.model, -1, "%.1f MiB of memory are needed%s, there are %.1f MiB%s",
        mib(least.host), calibrated ? " even with the activations on disk" : "", mib(limit), with);
    if (with[0])
        nb_hint(err, "--correction 0");
    else if (j->o.memory)
        nb_hint(err, "--memory %lldM", (long long)(least.host >> 20) + 1);
    return st;
}

/* Of the device's memory: what would be less of it, the first that fits, else another device. */
static nb_status refuse_device(nb_quantize_job *j, int64_t base, int64_t room, need least,
                               bool calibrated, nb_error *err)
{
    const char *name = j->m->be->name;
    char with[96] = "--device cpu";
    need n = least;
    if (calibrated && j->o.correction > 0.0 &&
        count_run(j, base, j->o.samples, j->o.ctx, 0.0, true, 1, &n, NULL) == NB_OK &&
        n.device <= room)
        snprintf(with, sizeof with, "--correction 0");
    for (int32_t ctx = j->o.ctx / 2; calibrated && n.device > room && ctx >= 64; ctx /= 2)
        if (count_run(j, base, j->o.samples, ctx, j->o.correction, true, 1, &n, NULL) == NB_OK &&
            n.device <= room)
            snprintf(with, sizeof with, "--ctx %d", ctx);
    const nb_status st = nb_fail_at(
        err, NB_NO_ROOM, j->o.model, -1,
        "%.1f MiB of %s's memory are needed for a layer's weights, statistics and activations%s, "
        "%.1f of %.1f MiB are free; %s",
        mib(least.device), name, calibrated ? ", those of one sequence, the others on disk" : "",
        mib(room), mib((int64_t)j->m->be->memory_bytes), with);
    nb_hint(err, "%s", with);
    return st;
}

static nb_status refuse_writer(nb_quantize_job *j, const char *where, int64_t needed, int64_t there,
                               nb_error *err)
{
    const nb_status st = nb_fail_at(err, NB_NO_ROOM, j->o.model, -1,
                                    "self-calibration holds the whole model, %.1f MiB%s; there are "
                                    "%.1f MiB: give a text with --calib FILE",
                                    mib(needed), where, mib(there));
    nb_hint(err, "--calib FILE");
    return st;
}

/* Whether it fits is asked of the machine (hours from now others may have gone); what is free now
 * is a warning. */
static void warn_of_others(nb_quantize_job *j, int64_t more)
{
    char line[200];
    const int64_t free = nb_memory_free_bytes();
    if (!free || more <= free || !j->o.progress)
        return;
    snprintf(line, sizeof line,
             "warning: %.1f MiB more are planned, %.1f MiB are free now; --memory SIZE takes less, "
             "or refuses",
             mib(more), mib(free));
    j->o.progress(j->o.arg, line, 0, j->m->hp.n_layer, -1.0);
}

nb_status nb_quantize_plan(nb_quantize_job *j, nb_quantize_result *r, nb_error *err)
{
    const bool calibrated = j->p.quantizer->needs != NB_NEEDS_NOTHING;
    const int64_t base = nb_anon_rss_bytes(), limit = j->o.memory ? j->o.memory : nb_memory_bytes();
    const int64_t room = device_room(j);
    char where[64];
    need memory = {0}, writer = {0}, full = {0};
    if (!j->m->be->op->measure_weight) /* this device cannot plan */
        return j->o.memory ? nb_op_check(j->m->be, false, "planning (--memory)", err) : NB_OK;
    bool spill = false;
    int experts = 0;
    nb_status st = fit(j, base, limit, calibrated, &spill, &experts, &memory, err);
    if (st == NB_OK && limit && memory.host > limit)
        st = refuse(j, base, limit, memory, calibrated, err);
    if (st == NB_OK && room && memory.device > room)
        st = refuse_device(j, base, room, memory, calibrated, err);
    if (st == NB_OK && calibrated)
        st = count_writer(j, base, &writer, err);
    if (st == NB_OK && limit && writer.host > limit)
        st = refuse_writer(j, "", writer.host, limit, err);
    if (st == NB_OK && room && writer.device > room) {
        snprintf(where, sizeof where, " of %s's memory", j->m->be->name);
        st = refuse_writer(j, where, writer.device, room, err);
    }
    if (st == NB_OK && calibrated && j->o.layer_to - j->o.layer_from < j->m->hp.n_layer) {
        const int32_t ctx = j->m->hp.ctx_len < 2048 ? j->m->hp.ctx_len : 2048;
        st = count_run(j, base, 128, ctx, j->o.correction, spill, experts, &full, err);
        r->full_plan_bytes = full.host;
    }
    if (st != NB_OK)
        return st;
    r->plan_bytes = memory.host > writer.host ? memory.host : writer.host;
    if (!j->o.memory)
        warn_of_others(j, r->plan_bytes - base);
    r->plan_device_bytes = memory.device > writer.device ? memory.device : writer.device;
    r->spill_bytes = spill ? (int64_t)j->o.samples * j->o.ctx * nb_pipeline_row_width(j->m) * 4 *
                                 (j->o.correction > 0.0 ? 2 : 1)
                           : 0;
    r->expert_passes =
        calibrated && j->m->hp.n_expert ? (j->m->hp.n_expert + experts - 1) / experts : 0;
    j->p.expert_batch = experts;
    j->p.spill = spill && j->work ? nb_workdir_path(j->work) : NULL;
    return NB_OK;
}
