/* pipeline.c -- one-pass true-sequential quantization (quantizers.md 2.3): every linear is
 * evaluated once on the calibration tokens, behind predecessors that are already quantized.
 *
 *   for each layer:   attn_norm -> H of q,k,v -> quantize them -> attention with them -> H of o ->
 *                     quantize o -> residual ffn_norm  -> H of gate,up -> quantize -> gated
 *                     activation -> H of down -> quantize down -> residual seal: on disk, then
 *                     `sealed`
 *
 * With the drift correction a second stream runs beside it through the original weights; the
 * Hessian comes from the quantized stream (X), the cross term C = (X_orig - X)^T X from both.
 *
 * Layers that an earlier run sealed are read back and only run forward; layers out of the range are
 * copied and run forward as they are while a later layer still wants activations. */
#include "backend/count.h"
#include "base/clock.h"
#include "convert/folder_plan.h"
#include "quant/pipe.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

bool nb_pipeline_fits(const nb_model *m, nb_group_id g, const nb_pipeline_options *o)
{
    nb_role role[3];
    int64_t N, K;
    const nb_grid *grid = &o->grid;
    if (o->scheme)
        return nb_folder_packs(m, o->scheme, g, NULL) == NB_OK;
    nb_group_roles(g, role);
    nb_family_shape(&m->hp, (nb_slot){.role = role[0]}, &N, &K);
    /* the last group of a row may be short */
    return grid->dtype ? K % grid->dtype->block == 0 : o->values != NULL;
}

int64_t nb_pipeline_most_reports(const nb_model *m)
{
    return (int64_t)m->hp.n_layer * (NB_ROLE_COUNT + 3 * (int64_t)m->hp.n_expert);
}

/* ---- one layer ---- */

static void close_layer(nb_pipe *p)
{
    if (p->o->quantizer->input_scales)
        nb_frame_close(p->be, &p->original.layer.frame);
    nb_frame_close(p->be, &p->quantized.layer.frame);
    nb_pipe_drop_scales(p);
    for (int g = 0; g < NB_GROUP_COUNT; g++) {
        nb_pipe_drop_weights(p, &p->quantized, (nb_group_id)g);
        nb_pipe_drop_weights(p, &p->original, (nb_group_id)g);
    }
    memset(&p->quantized.layer, 0, sizeof p->quantized.layer);
    memset(&p->original.layer, 0, sizeof p->original.layer);
}

static nb_status open_frame(nb_pipe *p, int layer, nb_error *err)
{
    const nb_status st = nb_frame_open(p->m, layer, &p->quantized.layer.frame, err);
    if (p->o->quantizer->input_scales) /* the quantized stream's norms will differ */
        return st == NB_OK ? nb_frame_open(p->m, layer, &p->original.layer.frame, err) : st;
    p->original.layer.frame = p->quantized.layer.frame; /* shared, borrowed */
    return st;
}

static bool is_linear(nb_role role)
{
    nb_role of[3];
    for (int g = 0; g < NB_GROUP_COUNT; g++)
        for (int i = nb_group_roles((nb_group_id)g, of) - 1; i >= 0; i--)
            if (of[i] == role)
                return true;
    return false;
}

/* Everything of the layer that is no linear, and the linears too when they are not to be
 * quantized. */
static nb_status copy_roles(nb_pipe *p, int layer, bool linears, nb_error *err)
{
    nb_status st = NB_OK;
    for (int r = NB_ROLE_ATTN_NORM; r < NB_ROLE_COUNT && st == NB_OK; r++)
        for (int e = 0; e < nb_model_n_slot(p->m, (nb_role)r) && st == NB_OK; e++)
            if (linears || (!is_linear((nb_role)r) && !nb_pipe_is_folded(p, (nb_role)r)))
                st = nb_pipe_copy(p, (nb_slot){.role = (nb_role)r, .layer = layer, .expert = e},
                                  err);
    return st;
}

/* Seconds that the layers left will take, by those that are done; INFINITY, not known: none is, or
 * the others are only copied. */
static double eta_of(const nb_pipe *p, int n_layer_done)
{
    const nb_pipeline_options *o = p->o;
    const int first = o->n_done > o->layer_from ? o->n_done : o->layer_from;
    if (n_layer_done == p->m->hp.n_layer)
        return 0.0;
    if (n_layer_done <= first || n_layer_done >= o->layer_to)
        return (double)INFINITY;
    return (double)(nb_clock_ns() - p->start_ns) * 1e-9 / (n_layer_done - first) *
           (o->layer_to - n_layer_done);
}

/* Within a layer: it takes minutes where hidden_size is thousands. */
static void say_group(const nb_pipe *p, int layer, int n_group_done)
{
    char line[64];
    if (!p->o->progress)
        return;
    snprintf(line, sizeof line, "in layer %d: %d of %d groups of linears", layer, n_group_done,
             NB_GROUP_COUNT);
    p->o->progress(p->o->arg, line, layer, p->m->hp.n_layer, eta_of(p, layer));
}

typedef nb_status (*group_fn)(nb_pipe *p, nb_group_id g, int layer, nb_error *err);

/* Walks the groups of a layer: `group` leaves the stacks, then the streams run through them. */
static nb_status walk_layer(nb_pipe *p, int layer, group_fn group, bool forward, nb_error *err)
{
    nb_status st = open_frame(p, layer, err);
    nb_times_lap(p->o->times, NB_LAP_READ);
    if (st == NB_OK && p->o->quantizer->input_scales && group == nb_pipe_quantize_group)
        st = nb_pipe_find_scales(p, layer, err);
    if (st == NB_OK && p->o->quantizer->input_scales && group == nb_pipe_read_group)
        st = nb_pipe_read_folded(p, layer, err);
    nb_times_lap(p->o->times, NB_LAP_STATISTICS);
    for (int g = 0; g < NB_GROUP_COUNT && st == NB_OK; g++) {
        st = group(p, (nb_group_id)g, layer, err);
        nb_times_lap(p->o->times, NB_LAP_READ);
        if (st == NB_OK && group == nb_pipe_quantize_group && g + 1 < NB_GROUP_COUNT)
            say_group(p, layer, g + 1);
        if (st == NB_OK && p->o->stop && *p->o->stop)
            st = nb_fail(err, NB_INTERRUPTED,
                         "stopped in layer %d, nothing was written under the final name", layer);
        /* nothing reads what the last group would give */
        if (st == NB_OK && p->calib && (forward || g + 1 < NB_GROUP_COUNT))
            st = nb_pipe_advance(p, (nb_group_id)g, err);
        nb_times_lap(p->o->times, NB_LAP_FORWARD);
    }
    close_layer(p);
    return st;
}

static nb_status seal(nb_pipe *p, int layer, int64_t first_report, int64_t start_ns, nb_error *err)
{
    uint8_t digest[NB_SHA256_BYTES];
    if (p->dry)
        return NB_OK;
    const nb_status st = p->sink->op->seal(p->sink, layer, digest, err);
    if (st != NB_OK || !p->o->sealed)
        return st;
    return p->o->sealed(p->o->sealed_arg, layer, digest, p->report + first_report,
                        (int)(p->n_report - first_report),
                        (double)(nb_clock_ns() - start_ns) * 1e-9, (double)p->token_ns * 1e-9, err);
}

static nb_status run_layer(nb_pipe *p, int layer, nb_error *err)
{
    const nb_pipeline_options *o = p->o;
    const int64_t first = p->n_report, start = nb_clock_ns();
    const bool ours = layer >= o->layer_from && layer < o->layer_to, done = layer < o->n_done,
               forward = layer + 1 < o->layer_to;
    nb_status st = NB_OK;
    p->token_ns = 0;
    nb_times_start(o->times);
    if (p->calib && layer == o->layer_from && o->correction > 0.0)
        st = nb_pipe_fork(p, err);
    if (st == NB_OK && ours && !done)
        st = walk_layer(p, layer, nb_pipe_quantize_group, forward, err);
    else if (st == NB_OK && p->calib && forward)
        st = walk_layer(p, layer, ours ? nb_pipe_read_group : nb_pipe_source_group, true, err);
    if (st == NB_OK && !done)
        st = copy_roles(p, layer, !ours, err);
    if (st == NB_OK && !done)
        st = seal(p, layer, first, start, err);
    nb_times_lap(o->times, NB_LAP_WRITE);
    return st;
}

static nb_status run_ends(nb_pipe *p, nb_error *err)
{
    const int64_t start = nb_clock_ns();
    nb_status st = NB_OK;
    for (int r = 0; r < NB_ROLE_ATTN_NORM && st == NB_OK; r++)
        st = nb_pipe_copy(p, (nb_slot){.role = (nb_role)r}, err);
    return st == NB_OK ? seal(p, -1, p->n_report, start, err) : st;
}

/* ---- all of them ---- */

static void say_layer(const nb_pipe *p, int layer, int64_t first_report)
{
    char line[256];
    double worst = 0.0, ratio = 0.0;
    int n = 0;
    for (int64_t i = first_report; i < p->n_report; i++)
        if (isfinite(p->report[i].error)) {
            worst = p->report[i].error > worst ? p->report[i].error : worst;
            ratio +=
                p->report[i].error_rtn > 0.0 ? p->report[i].error / p->report[i].error_rtn : 1.0;
            n++;
        }
    if (n)
        snprintf(line, sizeof line, "layer %d: worst error %.2e, %.2f of rounding's", layer, worst,
                 ratio / n);
    else
        snprintf(line, sizeof line, "layer %d", layer);
    p->o->progress(p->o->arg, line, layer + 1, p->m->hp.n_layer, eta_of(p, layer + 1));
}

nb_status nb_pipeline_run(nb_model *m, const nb_pipeline_options *o, const nb_calib *calib,
                          nb_sink *sink, nb_linear_report *report, int64_t *n_report, nb_error *err)
{
    nb_pipe p = {.m = m,
                 .be = m->be,
                 .o = o,
                 .calib = calib,
                 .sink = sink,
                 .report = report,
                 .n_report = *n_report,
                 .spill = -1,
                 .dry = nb_backend_counts(m->be)};
    const int E = m->hp.n_expert ? m->hp.n_expert : 1;
    p.batch = o->expert_batch && o->expert_batch < E ? o->expert_batch : E;
    if (o->n_done >= o->layer_to) /* nothing is left to measure: no activations */
        p.calib = NULL;
    p.T = p.calib ? (int64_t)calib->n_seq * calib->ctx : 0;
    /* not OpenMP: its threads spin for as long as the caller writes and hashes */
    nb_status st = o->n_thread > 1 && !p.dry ? nb_pool_open(o->n_thread, &p.pool, err) : NB_OK;
    if (st == NB_OK && p.calib)
        st = nb_pipe_open_streams(&p, err);
    for (int l = 0; l < m->hp.n_layer && st == NB_OK; l++) {
        const int64_t first = p.n_report;
        if (l == o->n_done || l == o->layer_from || l == 0)
            p.start_ns = nb_clock_ns();
        if (!p.dry) /* the disk reads the next layer while this one computes */
            nb_layer_pages(m, l + 1, nb_container_ask);
        st = run_layer(&p, l, err);
        if (st == NB_OK && o->progress && l >= o->n_done)
            say_layer(&p, l, first);
    }
    nb_pipe_close_streams(&p);
    if (st == NB_OK && !o->ends_done)
        st = run_ends(&p, err);
    nb_pool_close(p.pool);
    *n_report = p.n_report;
    return st;
}
