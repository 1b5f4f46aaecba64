/* quantize_figures.c -- what a run says at its end: sizes, errors, perplexity, and what a part of
 * the layers tells of all. */
#include "api/quantize.h"
#include "base/clock.h"
#include "base/mapfile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void nb_quantize_phase_ends(nb_quantize_result *r, const char *name, int64_t *since)
{
    const int64_t now = nb_clock_ns();
    if (r->n_phase < NB_QUANTIZE_PHASES) {
        nb_quantize_phase *p = &r->phase[r->n_phase++];
        snprintf(p->name, sizeof p->name, "%s", name);
        p->seconds = (double)(now - *since) * 1e-9;
    }
    *since = now;
}

/* Both passes as one walk over chunks. */
typedef struct eval_watch {
    const nb_quantize_options *o;
    int64_t start_ns;
    bool second;
} eval_watch;

static void on_chunk(void *arg, int32_t done, int32_t total, double ppl_so_far)
{
    const eval_watch *w = arg;
    const int32_t all = w->second ? total + done : done;
    const double s = (double)(nb_clock_ns() - w->start_ns) * 1e-9;
    (void)ppl_so_far;
    w->o->progress(w->o->arg, "chunks evaluated, before and after", all, 2 * total,
                   s * (2.0 * total - all) / all);
}

nb_status nb_quantize_evaluate(const nb_quantize_options *o, nb_quantize_result *r, nb_error *err)
{
    const nb_model_options mo = {.device = o->device, .n_thread = o->n_thread, .exact = true};
    nb_mapfile *f = NULL;
    nb_model *before = NULL, *after = NULL;
    nb_eval_result a = {0}, b = {0};
    nb_status st = nb_mapfile_open(o->eval_path, &f, err);
    if (st == NB_OK)
        st = nb_model_open(o->model, &mo, &before, err);
    if (st == NB_OK)
        st = nb_model_open(o->out, &mo, &after, err);
    if (st == NB_OK) {
        eval_watch w = {.o = o, .start_ns = nb_clock_ns()};
        const nb_eval_options eo = {.text = (const char *)f->p,
                                    .text_n = f->n,
                                    .text_path = o->eval_path,
                                    .stop = o->stop,
                                    .progress = o->progress ? on_chunk : NULL,
                                    .arg = &w};
        st = nb_eval(before, NULL, &eo, &a, err);
        w.second = true;
        if (st == NB_OK)
            st = nb_eval(after, before, &eo, &b, err);
    }
    if (st == NB_OK) {
        r->has_eval = true;
        r->ppl_before = a.ppl;
        r->ppl_after = b.ppl;
        r->kl_mean = b.kl_mean;
        r->top1 = b.top1;
        r->ppl_before_stderr = a.ppl_stderr;
        r->ppl_after_stderr = b.ppl_stderr;
        r->kl_stderr = b.kl_stderr;
        r->kl_median = b.kl_median;
        r->kl_p99 = b.kl_p99;
    }
    if (st == NB_INTERRUPTED) {
        nb_fail(err, st, "stopped while measuring; what was written is whole");
        nb_hint(err, "nibble eval %s --against %s -f %s", o->out, o->model, o->eval_path);
    }
    nb_model_close(after);
    nb_model_close(before);
    nb_mapfile_close(f);
    return st;
}

/* Layers are alike in size, so the time of those that were quantized is scaled to all; the part
 * that grows with the tokens also to 128 x 2048. */
static void extrapolate(const nb_quantize_job *j, nb_quantize_result *r)
{
    const int32_t n_layer = j->m->hp.n_layer;
    const double tokens = (double)j->o.samples * j->o.ctx;
    if (j->n_timed < 1 || j->o.layer_to - j->o.layer_from == n_layer)
        return;
    r->has_full = true;
    r->full_layers = n_layer;
    r->full_tokens = j->calibrated ? (int64_t)128 * 2048 : 0;
    r->full_seconds = j->layer_s / j->n_timed * n_layer;
    r->full_seconds_at_full_tokens =
        tokens > 0 ? (j->layer_s - j->token_s + j->token_s * (128.0 * 2048.0 / tokens)) /
                         j->n_timed * n_layer
                   : r->full_seconds;
}

/* Where the time of the layers went. */
static void take_times(const nb_times *t, nb_quantize_result *r)
{
    static const char *const names[NB_LAP_COUNT] = {[NB_LAP_READ] = "read",
                                                    [NB_LAP_FORWARD] = "forward",
                                                    [NB_LAP_STATISTICS] = "statistics",
                                                    [NB_LAP_FACTOR] = "factor",
                                                    [NB_LAP_CORRECT] = "correct",
                                                    [NB_LAP_ROUND] = "round",
                                                    [NB_LAP_ERRORS] = "errors",
                                                    [NB_LAP_WRITE] = "write"};
    _Static_assert((int)NB_LAP_COUNT <= (int)NB_QUANTIZE_PARTS, "every lap has a place");
    for (int i = 0; i < NB_LAP_COUNT && t->since; i++)
        r->part[r->n_part++] =
            (nb_quantize_part){names[i], (double)t->ns[i] * 1e-9, (double)t->cpu_ns[i] * 1e-9};
}

/* Of the source's linears the first one's codes. */
static const char *codes_of(const nb_model *m)
{
    char name[NB_TENSOR_NAME];
    nb_role role[3];
    (void)nb_group_roles(NB_GROUP_O, role);
    if (m->scheme.scheme)
        return m->scheme.scheme->name;
    const nb_tensor *t =
        nb_family_tensor(m->family, m->container, (nb_slot){.role = role[0]}, name);
    return t && t->dtype->block > 1 ? t->dtype->name : "";
}

nb_status nb_quantize_fill_result(nb_quantize_job *j, nb_quantize_result *r, nb_error *err)
{
    snprintf(r->method, sizeof r->method, "%s", j->p.quantizer->name);
    snprintf(r->grid, sizeof r->grid, "%s", j->p.grid.name);
    snprintf(r->format, sizeof r->format, "%s", j->form->name);
    snprintf(r->requantized, sizeof r->requantized, "%s", codes_of(j->m));
    nb_quantize_count_bits(j, r);
    r->resumed_layers = j->resumed;
    extrapolate(j, r);
    take_times(&j->times, r);
    r->layers = nb_alloc_zero((size_t)j->n_report, sizeof *r->layers, "the report", err);
    if (!r->layers)
        return NB_NO_ROOM;
    r->n_layer = (size_t)j->n_report;
    r->owner = j->report; /* the names and notes live there */
    for (int64_t i = 0; i < j->n_report; i++) {
        const nb_linear_report *l = &j->report[i];
        const bool counted = l->expert && j->p.quantizer->needs != NB_NEEDS_NOTHING;
        r->layers[i] = (nb_quantize_layer){.name = l->name,
                                           .error = l->error,
                                           .error_rtn = l->error_rtn,
                                           .bits_per_weight = l->bits_per_weight,
                                           .expert = counted,
                                           .n_token = l->n_token,
                                           .rounded = l->rounded,
                                           .note = l->note};
        r->n_expert_linear += counted;
        r->n_expert_unseen += counted && l->rounded && l->n_token == 0;
        r->n_expert_rounded += counted && l->rounded;
    }
    j->report = NULL;
    return NB_OK;
}

void nb_quantize_result_free(nb_quantize_result *r)
{
    free(r->layers);
    free(r->owner);
    memset(r, 0, sizeof *r);
}
