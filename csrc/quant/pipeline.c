/* pipeline.c -- one-pass true-sequential quantization (quantizers.md 2.3): every linear is evaluated once on the calibration tokens, behind
 * predecessors that are already quantized.
 *
 *   for each layer:   attn_norm -> H of q,k,v -> quantize them -> attention with them -> H of o -> quantize o -> residual
 *                     ffn_norm  -> H of gate,up -> quantize -> gated activation -> H of down -> quantize down -> residual
 *
 * With the drift correction a second stream runs beside it through the original weights; the Hessian comes from the quantized stream (X), the cross
 * term C = (X_orig - X)^T X from both. */
#include "quant/pipe.h"
#include "base/clock.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

int64_t nb_pipeline_index(const nb_model *m, nb_role role, int layer)
{
    char name[128];
    const nb_tensor *t = nb_family_tensor(m->family, m->container, (nb_slot){.role = role, .layer = layer}, name);
    return t ? t - m->container->tensor : -1;
}

bool nb_pipeline_fits(const nb_model *m, nb_group_id g, const nb_grid *grid)
{
    nb_role role[3];
    int64_t N, K;
    nb_group_roles(g, role);
    nb_family_shape(&m->hp, (nb_slot){.role = role[0]}, &N, &K);
    return grid->dtype && K % grid->dtype->block == 0;
}

static void close_layer(nb_pipe *p)
{
    nb_frame_close(p->be, &p->quantized.layer.frame);
    for (int g = 0; g < NB_GROUP_COUNT; g++) {
        nb_stack_close(p->be, &p->quantized.layer.stack[g]);
        nb_stack_close(p->be, &p->original.layer.stack[g]);
    }
    memset(&p->quantized.layer, 0, sizeof p->quantized.layer);
    memset(&p->original.layer, 0, sizeof p->original.layer);
}

static nb_status run_layer(nb_pipe *p, int layer, nb_error *err)
{
    nb_status st = nb_frame_open(p->m, layer, &p->quantized.layer.frame, err);
    p->original.layer.frame = p->quantized.layer.frame; /* shared, borrowed */
    for (int g = 0; g < NB_GROUP_COUNT && st == NB_OK; g++) {
        st = nb_pipe_quantize_group(p, (nb_group_id)g, layer, err);
        if (st == NB_OK && p->o->stop && *p->o->stop)
            st = nb_fail(err, NB_INTERRUPTED, "stopped in layer %d, nothing was written under the final name", layer);
        if (st == NB_OK && p->calib)
            st = nb_pipe_advance(p, (nb_group_id)g, err);
    }
    close_layer(p);
    return st;
}

static void say(nb_pipe *p, int layer, int64_t start_ns)
{
    char line[256];
    double worst = 0.0, ratio = 0.0;
    int n = 0;
    for (int64_t i = p->n_report - 7 > 0 ? p->n_report - 7 : 0; i < p->n_report; i++)
        if (isfinite(p->report[i].error)) {
            worst = p->report[i].error > worst ? p->report[i].error : worst;
            ratio += p->report[i].error_rtn > 0.0 ? p->report[i].error / p->report[i].error_rtn : 1.0;
            n++;
        }
    const double spent = (double)(nb_clock_ns() - start_ns) * 1e-9;
    const double eta = spent / (layer + 1) * (p->m->hp.n_layer - layer - 1);
    if (n)
        snprintf(line, sizeof line, "layer %d: worst error %.2e, %.2f of rounding's", layer, worst, ratio / n);
    else
        snprintf(line, sizeof line, "layer %d", layer);
    p->o->progress(p->o->arg, line, layer + 1, p->m->hp.n_layer, eta);
}

nb_status nb_pipeline_run(nb_model *m, const nb_pipeline_options *o, const nb_calib *calib, nb_gguf_writer *w,
                          nb_linear_report *report, int64_t *n_report, nb_error *err)
{
    if (m->hp.n_expert)
        return nb_fail_at(err, NB_UNSUPPORTED, m->container->path, -1,
                          "quantizing a mixture of experts is not there yet; the statistics of each expert's own tokens are missing");
    nb_pipe p = {.m = m, .be = m->be, .o = o, .calib = calib, .w = w, .report = report};
    p.T = calib ? (int64_t)calib->n_seq * calib->ctx : 0;
    p.two = calib && o->correction > 0.0;
    nb_status st = calib ? nb_pipe_open_streams(&p, err) : NB_OK;
    const int64_t start = nb_clock_ns();
    for (int l = 0; l < m->hp.n_layer && st == NB_OK; l++) {
        st = run_layer(&p, l, err);
        if (st == NB_OK && o->progress)
            say(&p, l, start);
    }
    nb_pipe_close_streams(&p);
    *n_report = p.n_report;
    return st;
}

