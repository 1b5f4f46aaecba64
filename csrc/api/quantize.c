/* quantize.c -- nb_quantize: choices, plan, work folder, calibration, the pipeline, the file, the
 * report. */
#include "api/manifest.h"
#include "api/quantize.h"
#include "base/clock.h"
#include "base/mapfile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static nb_status open_model(nb_quantize_job *j, nb_error *err)
{
    const nb_model_options mo = {.device = j->o.device, .n_thread = j->o.n_thread, .exact = true};
    nb_status st = nb_model_load(j->o.model, &mo, false, &j->m, err);
    if (st == NB_OK && j->m->be_told[0] && j->o.progress) {
        char line[sizeof j->m->be_told + 16];
        snprintf(line, sizeof line, "warning: %s", j->m->be_told);
        j->o.progress(j->o.arg, line, 0, j->m->hp.n_layer, -1.0);
    }
    if (st == NB_OK)
        st = nb_quantize_resolve(j, err);
    if (st == NB_OK)
        st = nb_quantize_choose_types(j, err);
    if (st == NB_OK) {
        j->report = nb_alloc_zero((size_t)nb_pipeline_most_reports(j->m), sizeof *j->report,
                                  "the report", err);
        st = j->report ? NB_OK : NB_NO_ROOM;
    }
    return st;
}

/* The text that the result will be measured on, before the hours that it takes to get one. */
static nb_status check_eval(const nb_quantize_job *j, nb_error *err)
{
    nb_mapfile *f = NULL;
    if (!j->o.eval_path)
        return NB_OK;
    nb_status st = nb_mapfile_open(j->o.eval_path, &f, err);
    if (st == NB_OK) {
        const nb_eval_options o = {
            .text = (const char *)f->p, .text_n = f->n, .text_path = j->o.eval_path};
        st = nb_eval_check(j->m, &o, err);
    }
    nb_mapfile_close(f);
    return st;
}

/* The sizes of the output, which is not made, or is there already. */
static nb_status measure(nb_quantize_job *j, nb_quantize_result *r, nb_error *err)
{
    const nb_status st = nb_quantize_open_sink(j, false, true, &j->sink, err);
    if (st == NB_OK)
        r->bytes = j->sink->total_bytes;
    return st;
}

/* Everything but the work: the sizes a run would have. */
static nb_status rehearse(nb_quantize_job *j, nb_quantize_result *r, nb_error *err)
{
    nb_status st = measure(j, r, err);
    if (st == NB_OK)
        st = nb_quantize_plan(j, r, err);
    return st == NB_OK ? nb_quantize_fill_result(j, r, err) : st;
}

static nb_status commit(nb_quantize_job *j, nb_error *err)
{
    nb_text settings = {0}, manifest = {0};
    nb_quantize_settings_write(&j->o, false, &settings);
    nb_status st = nb_manifest_write(&settings, &j->input, j->calib_sha[0] ? j->calib_sha : NULL,
                                     j->sink, &manifest, err);
    if (st == NB_OK)
        st = j->sink->op->commit(j->sink, manifest.p, manifest.n, err);
    nb_text_free(&settings);
    nb_text_free(&manifest);
    return st;
}

static nb_status work(nb_quantize_job *j, nb_quantize_result *r, int64_t *since, nb_error *err)
{
    bool done = false;
    nb_status st = nb_quantize_work_begin(j, err);
    if (st == NB_OK)
        st = nb_quantize_work_finish(j, &done, err);
    if (st == NB_OK && done) /* it was killed while it gave the names */
        st = measure(j, r, err);
    if (st != NB_OK || done)
        return st == NB_OK ? nb_quantize_fill_result(j, r, err) : st;
    /* The file is opened, its room on disk checked, the memory planned, before the first minute of
     * work. */
    st = nb_quantize_open_sink(j, j->p.n_done > 0, false, &j->sink, err);
    if (st == NB_OK)
        st = nb_quantize_work_verify(j, err);
    if (st == NB_OK) {
        r->bytes = j->sink->total_bytes;
        st = nb_quantize_plan(j, r, err);
    }
    if (st == NB_OK && j->p.quantizer->needs != NB_NEEDS_NOTHING)
        st = nb_quantize_calibrate(j, err);
    if (j->calibrated)
        nb_quantize_phase_ends(r, "calibration text", since);
    if (st == NB_OK)
        st = nb_pipeline_run(j->m, &j->p, j->calibrated ? &j->calib : NULL, j->sink, j->report,
                             &j->n_report, err);
    if (st == NB_OK)
        st = nb_quantize_fill_result(j, r, err);
    nb_quantize_phase_ends(r, "layers", since);
    if (st == NB_OK)
        st = commit(j, err); /* last: after it nothing fails any more */
    nb_quantize_phase_ends(r, "file", since);
    return st;
}

static void close_job(nb_quantize_job *j, nb_status outcome, nb_error *err)
{
    if (j->sink)
        j->keep = j->keep && !j->sink->broken;
    if (j->sink)
        j->sink->op->close(j->sink);
    nb_quantize_work_close(j, outcome, err);
    nb_calib_free(&j->calib);
    nb_model_close(j->m);
    nb_text_free(&j->input);
    free(j->type);
    free(j->report);
}

nb_status nb_quantize(const nb_quantize_options *o, nb_quantize_result *r, nb_error *err)
{
    const int64_t start = nb_clock_ns();
    int64_t since = start;
    nb_quantize_job *j = nb_alloc_zero(1, sizeof *j, "a quantization", err);
    memset(r, 0, sizeof *r);
    if (!j)
        return NB_NO_ROOM;
    j->o = *o;
    j->log = -1;
    size_t len = o->out ? strlen(o->out) : 0;
    while (len > 1 && o->out[len - 1] == '/') /* a folder is meant as it is named without */
        len--;
    if (len < sizeof j->out_path && o->out) {
        memcpy(j->out_path, o->out, len);
        j->o.out = j->out_path;
    }
    j->p = (nb_pipeline_options){.progress = o->progress,
                                 .arg = o->arg,
                                 .stop = o->stop,
                                 .sealed = nb_quantize_work_sealed,
                                 .sealed_arg = j,
                                 .times = &j->times};
    const bool from_journal = o->resume && !o->model && !o->dry_run;
    nb_status st = NB_OK;
    if (o->resume && o->restart) /* before --restart throws away what --resume asks for */
        st = nb_fail(err, NB_USAGE, "--resume and --restart exclude each other; give one");
    if (st == NB_OK && from_journal)
        st = nb_quantize_work_open(j, err);
    if (st == NB_OK && !j->o.model)
        st = nb_fail(err, NB_USAGE, "a model is missing");
    if (st == NB_OK)
        st = nb_quantize_choose(j, err);
    if (st == NB_OK && !from_journal && !o->dry_run)
        st = nb_quantize_work_open(j, err);
    if (st == NB_OK)
        st = open_model(j, err);
    if (st == NB_OK)
        st = check_eval(j, err);
    nb_quantize_phase_ends(r, "load", &since);
    if (st == NB_OK)
        st = o->dry_run ? rehearse(j, r, err) : work(j, r, &since, err);
    if (nb_quantize_found_no_room(j, st, err) &&
        (j->m || (j->o.model && j->form && open_model(j, NULL) == NB_OK)))
        nb_quantize_say_missing_room(j, err);
    close_job(j, st, err);
    if (st == NB_OK && j->o.eval_path && !o->dry_run) {
        st = nb_quantize_evaluate(&j->o, r, err);
        nb_quantize_phase_ends(r, "evaluation", &since);
    }
    r->seconds = (double)(nb_clock_ns() - start) * 1e-9;
    r->peak_rss_bytes = nb_peak_rss_bytes();
    if (st != NB_OK)
        nb_quantize_result_free(r);
    nb_quantize_work_forget(j);
    free(j);
    return st;
}
