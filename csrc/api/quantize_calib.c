/* quantize_calib.c -- the tokens a model is shown: from an interrupted run's work folder, from a
 * text, or written by the model itself. */
#include "api/quantize.h"
#include "base/mapfile.h"

#include <stdio.h>
#include <string.h>

static nb_status from_text(nb_quantize_job *j, nb_error *err)
{
    nb_mapfile *f = NULL;
    nb_status st = nb_mapfile_open(j->o.calib, &f, err);
    if (st == NB_OK)
        st = nb_calib_text(j->m, j->o.calib, (const char *)f->p, f->n, j->o.samples, j->o.ctx,
                           &j->calib, err);
    nb_mapfile_close(f);
    return st;
}

/* A second, fast copy of the model (int8 activations), closed before the work begins. */
static nb_status from_itself(nb_quantize_job *j, nb_error *err)
{
    const nb_quantize_options *o = &j->o;
    nb_model *writer = NULL;
    const nb_model_options mo = {.device = o->device, .n_thread = o->n_thread};
    if (o->progress)
        o->progress(o->arg, "the model writes its own calibration text", 0, j->m->hp.n_layer, -1.0);
    nb_status st = nb_model_open(o->model, &mo, &writer, err);
    const nb_calib_watch watch = {.progress = o->progress, .arg = o->arg, .stop = o->stop};
    if (st == NB_OK)
        st = nb_calib_self(writer, o->samples, o->ctx, o->seed, &watch, &j->calib, err);
    nb_model_close(writer);
    return st;
}

static void warn_of_few(const nb_quantize_job *j)
{
    const int64_t n = j->calib.n_distinct;
    const bool overlap = n < (int64_t)j->calib.n_seq * j->calib.ctx;
    char line[200];
    if (!j->o.progress || (n >= NB_CALIB_FEW && !overlap))
        return;
    if (n < NB_CALIB_FEW)
        snprintf(line, sizeof line,
                 "warning: %lld tokens of calibration are few, the codes may fit them and nothing "
                 "else; %s, or --method rtn",
                 (long long)n, overlap ? "a longer text" : "more --samples or --ctx");
    else
        snprintf(line, sizeof line,
                 "warning: %d samples of %d tokens overlap in a text of %lld: they say no more "
                 "than %lld would",
                 j->calib.n_seq, j->calib.ctx, (long long)n, (long long)(n / j->calib.ctx));
    j->o.progress(j->o.arg, line, 0, j->m->hp.n_layer, -1.0);
}

nb_status nb_quantize_calibrate(nb_quantize_job *j, nb_error *err)
{
    bool found = false;
    if (!j->m->tokenizer)
        return nb_fail_at(
            err, NB_UNSUPPORTED, j->o.model, -1,
            "no tokenizer, so no calibration text can be read; --method rtn needs none");
    nb_status st = nb_quantize_work_read_calib(j, &found, err);
    j->calibrated = true;
    if (st != NB_OK || found)
        return st;
    st = strcmp(j->o.calib, "self") == 0 ? from_itself(j, err) : from_text(j, err);
    if (st == NB_OK)
        warn_of_few(j);
    return st == NB_OK ? nb_quantize_work_write_calib(j, err) : st;
}
