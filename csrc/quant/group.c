/* group.c -- one group of linears that share an input (q,k,v; o; gate,up; down; of one expert the
 * last two): decoded, quantized, written, reported.
 *
 * Buffers live as short as they can: the peak is the sweep's (H, C or W C, and W twice; R lies in H
 * where the device can). */
#include "quant/pipe.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Device buffers of a group's job. */
struct work {
    nb_group_at at;
    const double *h; /* of the statistics, NULL: none */
    int64_t N, K, G;
    float *w, *q; /* [N,K] device */
    float *own;   /* w, where it did not come with the statistics */
    uint8_t *d_codes;
    nb_group *d_groups;
    int32_t *g_idx;    /* [K] host, under act_order */
    double *row_error; /* [N] host, with statistics: D H D^T of every row, NaN where the
                        * quantizer did not say */
};

static void work_close(nb_pipe *p, struct work *k)
{
    void *device[] = {k->own, k->q, k->d_codes, k->d_groups};
    free(k->g_idx);
    free(k->row_error);
    for (size_t i = 0; i < sizeof device / sizeof *device; i++)
        p->be->op->release(p->be, device[i]);
}

static nb_status work_open(nb_pipe *p, struct work *k, nb_error *err)
{
    const size_t n = (size_t)(k->N * k->K), n_group = (size_t)(k->N * k->G);
    const struct {
        void **to;
        size_t bytes;
    } device[] = {{(void **)&k->d_codes, n},
                  {(void **)&k->d_groups, n_group * sizeof(nb_group)},
                  {(void **)&k->q, n * 4}};
    nb_status st = NB_OK;
    /* written under a plan as well */
    if (p->o->act_order &&
        !(k->g_idx = nb_alloc_zero((size_t)k->K, sizeof *k->g_idx, "an order of inputs", err)))
        return NB_NO_ROOM;
    if (k->h &&
        !(k->row_error = nb_alloc((size_t)k->N, sizeof *k->row_error, "errors of rows", err)))
        return NB_NO_ROOM;
    for (int64_t r = 0; r < k->N && k->h; r++)
        k->row_error[r] = (double)NAN;
    for (size_t i = 0; i < sizeof device / sizeof *device && st == NB_OK; i++)
        st = p->be->op->alloc(p->be, device[i].bytes, "weights of a layer", device[i].to, err);
    return st;
}

/* The weights of the group, and whose they are. */
static nb_status open_weights(nb_pipe *p, const nb_moments *s, struct work *k, nb_error *err)
{
    k->w = s ? s->w : NULL;
    if (k->w)
        return NB_OK;
    const nb_status st = p->be->op->alloc(p->be, (size_t)(k->N * k->K) * sizeof(float),
                                          "weights of a layer", (void **)&k->own, err);
    k->w = k->own;
    return st == NB_OK ? nb_pipe_upload(p, k->at, k->w, err) : st;
}

static int64_t value_rows(const nb_pipe *p)
{
    return (int64_t)p->m->hp.n_kv_head * p->m->hp.head_dim;
}

/* ---- the report ---- */

/* tr(D H D^T) of rows [n0, n0 + N), D = w - q (q NULL: D = w). */
static nb_status measure(nb_pipe *p, const struct work *k, const float *q, int64_t n0, int64_t N,
                         double *out, nb_error *err)
{
    nb_quant_error_args a = {.w = k->w + n0 * k->K,
                             .q = q ? q + n0 * k->K : NULL,
                             .N = N,
                             .K = k->K,
                             .h = k->h,
                             .out = out};
    nb_status st = nb_op_check(p->be, p->be->op->quant_error != NULL, "quant_error", err);
    if (st == NB_OK)
        st = nb_pipe_scratch(
            p, p->be->op->quant_error_scratch ? p->be->op->quant_error_scratch(p->be, &a) : 0, err);
    a.scratch = p->scratch;
    return st == NB_OK ? p->be->op->quant_error(p->be, &a, err) : st;
}

/* tr(D H D^T) of what the quantizer chose: its own figure where it has one. */
static nb_status measure_chosen(nb_pipe *p, const struct work *k, int64_t n0, int64_t N,
                                double *out, nb_error *err)
{
    double sum = 0.0;
    for (int64_t n = n0; n < n0 + N; n++)
        sum += k->row_error[n];
    *out = sum > 0.0 ? sum : 0.0; /* the difference of two sums may be below by a rounding */
    return isfinite(sum) ? NB_OK : measure(p, k, k->q, n0, N, out, err);
}

/* The errors of the group's linears against the weights the sweep was given: what it chose, then
 * (in the same memory) plain rounding. */
static nb_status report_errors(nb_pipe *p, const struct work *k, const nb_role *role, int n_role,
                               nb_linear_report *r, nb_error *err)
{
    const nb_quantize_rows_args rtn = {.w = k->w,
                                       .N = k->N,
                                       .K = k->K,
                                       .grid = &p->o->grid,
                                       .groups = k->d_groups,
                                       .codes = k->d_codes};
    const nb_dequantize_args deq = {.codes = k->d_codes,
                                    .groups = k->d_groups,
                                    .N = k->N,
                                    .K = k->K,
                                    .grid = &p->o->grid,
                                    .q = k->q};
    double base[3] = {0}, got[3] = {0}, rounded[3] = {0};
    nb_status st = NB_OK;
    for (int pass = 0; pass < 2 && st == NB_OK; pass++) {
        int64_t n0 = 0;
        for (int i = 0; i < n_role && st == NB_OK; i++) {
            int64_t N, K;
            nb_family_shape(&p->m->hp, (nb_slot){.role = role[i]}, &N, &K);
            if (pass == 0)
                st = measure(p, k, NULL, n0, N, &base[i], err);
            if (st == NB_OK)
                st = pass ? measure(p, k, k->q, n0, N, &rounded[i], err)
                          : measure_chosen(p, k, n0, N, &got[i], err);
            n0 += N;
        }
        if (st == NB_OK && pass == 0)
            st = p->be->op->quantize_rows(p->be, &rtn, err);
        if (st == NB_OK && pass == 0)
            st = p->be->op->dequantize(p->be, &deq, err);
    }
    for (int i = 0; i < n_role; i++) {
        r[i].error = base[i] > 0.0 ? got[i] / base[i] : 0.0;
        r[i].error_rtn = base[i] > 0.0 ? rounded[i] / base[i] : 0.0;
    }
    return st;
}

nb_linear_report *nb_pipe_begin_report(nb_pipe *p, nb_group_at at, double bits)
{
    nb_role role[3];
    const int n_role = nb_group_roles(at.g, role);
    nb_linear_report *r = p->report + p->n_report;
    for (int i = 0; i < n_role; i++) {
        r[i] = (nb_linear_report){.bits_per_weight = bits,
                                  .error = (double)NAN,
                                  .error_rtn = (double)NAN,
                                  .expert = nb_pipe_is_mixed(p, at.g)};
        snprintf(r[i].name, sizeof r[i].name, "%s",
                 nb_pipe_linear_name(p, nb_slot_of(at, role[i]), (char[NB_TENSOR_NAME]){0}));
    }
    p->n_report += n_role;
    return r;
}

double nb_pipe_stored_bits(const nb_pipe *p, int64_t N, int64_t K)
{
    const nb_dtype *t = p->o->values ? p->o->values : p->o->grid.dtype;
    return p->o->scheme
               ? 8.0 * (double)nb_scheme_bytes(p->o->scheme, N, K) / ((double)N * (double)K)
               : 8.0 * (double)t->bytes / (double)t->block;
}

/* ---- quantizing ---- */

/* Codes and groups, from the device into the sink. */
static nb_status write_group(nb_pipe *p, const struct work *k, const nb_role *role, int n_role,
                             nb_error *err)
{
    const size_t n = (size_t)(k->N * k->K), n_group = (size_t)(k->N * k->G);
    uint8_t *codes = NULL;
    nb_group *groups = NULL;
    int64_t n0 = 0;
    nb_status st = nb_pipe_host(p, n, 1, "codes of a layer", (void **)&codes, err);
    if (st == NB_OK)
        st = nb_pipe_host(p, n_group, sizeof *groups, "scales of a layer", (void **)&groups, err);
    if (st == NB_OK)
        st = p->be->op->download(p->be, codes, k->d_codes, n, err);
    if (st == NB_OK)
        st = p->be->op->download(p->be, groups, k->d_groups, n_group * sizeof *groups, err);
    for (int i = 0; i < n_role && st == NB_OK; i++) {
        int64_t N, K;
        nb_family_shape(&p->m->hp, (nb_slot){.role = role[i]}, &N, &K);
        const nb_matrix m = {.N = N,
                             .K = K,
                             .codes = codes + n0 * K,
                             .groups = groups + n0 * k->G,
                             .table = p->o->grid.table,
                             .bits = p->o->grid.bits,
                             .group = p->o->grid.group,
                             .g_idx = p->o->act_order ? k->g_idx : NULL};
        st = p->sink->op->linear(p->sink, nb_slot_of(k->at, role[i]), &m, err);
        n0 += N;
    }
    nb_pipe_host_free(p, codes);
    nb_pipe_host_free(p, groups);
    return st;
}

nb_status nb_pipe_name_fault(const nb_pipe *p, nb_status st, nb_slot at, nb_error *err)
{
    char name[NB_TENSOR_NAME], what[300];
    if (st != NB_BAD_INPUT || !err)
        return st;
    snprintf(what, sizeof what, "%.299s", err->message);
    return nb_fail_at(err, st, p->m->container->path, -1, "tensor %s: %s",
                      nb_pipe_linear_name(p, at, name), what);
}

/* The group's matrices as they are, or with the layer's scales where it has some. */
static nb_status copy_group(nb_pipe *p, nb_group_at at, nb_error *err)
{
    nb_role role[3];
    const int n_role = nb_group_roles(at.g, role);
    nb_status st = NB_OK;
    float *host = NULL, *w;
    int64_t K = 0;
    for (int i = 0; i < n_role && st == NB_OK && !nb_pipe_is_scaled(p, at.g); i++)
        st = nb_pipe_copy(p, nb_slot_of(at, role[i]), err);
    if (!nb_pipe_is_scaled(p, at.g))
        return st;
    const int64_t N = nb_pipe_group_shape(p, at.g, &K);
    st = nb_pipe_host(p, (size_t)(N * K), sizeof *host, "weights of a layer", (void **)&host, err);
    if (st == NB_OK)
        st = nb_pipe_decode(p, at, host, err);
    w = host;
    for (int i = 0; i < n_role && st == NB_OK; i++) {
        nb_matrix m = {.dtype = nb_dtype_by_name("f32"), .rows = (const uint8_t *)w};
        nb_family_shape(&p->m->hp, (nb_slot){.role = role[i]}, &m.N, &m.K);
        st = p->sink->op->dense(p->sink, nb_slot_of(at, role[i]), &m, err);
        w += m.N * m.K;
    }
    nb_pipe_host_free(p, host);
    return st;
}

/* Of a weight that is kept. */
static double kept_bits(const nb_pipe *p, nb_slot at)
{
    char name[NB_TENSOR_NAME];
    const nb_tensor *t = nb_family_tensor(p->m->family, p->m->container, at, name);
    const nb_dtype *type = t && p->o->kept ? p->o->kept(p->o->kept_arg, t) : NULL;
    return type ? 8.0 * (double)type->bytes / (double)type->block : 16.0;
}

/* In a format that the sink chose (F16 in GGUF: llama.cpp's fallback). */
nb_status nb_pipe_keep(nb_pipe *p, nb_group_at at, nb_error *err)
{
    nb_role role[3];
    nb_linear_report *r = nb_pipe_begin_report(p, at, 16.0);
    for (int i = nb_group_roles(at.g, role) - 1; i >= 0; i--) {
        r[i].bits_per_weight = kept_bits(p, nb_slot_of(at, role[i]));
        if (!p->o->quantizer->layer)
            snprintf(r[i].note, sizeof r[i].note, "kept: nothing is rounded");
        else if (p->o->scheme)
            snprintf(r[i].note, sizeof r[i].note, "kept: its shape has no place in %s",
                     p->o->scheme->scheme->name);
        else
            snprintf(r[i].note, sizeof r[i].note, "kept %s: its width is no multiple of %d",
                     p->o->values ? p->o->values->name : "f16", p->o->grid.dtype->block);
    }
    return copy_group(p, at, err);
}

/* What was unusual, of the statistics and of the work. */
static void write_note(nb_linear_report *r, const nb_moments *s, const nb_quant_stats *stats)
{
    const char *of_input = s ? s->note : "";
    snprintf(r->note, sizeof r->note, "%.90s%s%.34s", of_input,
             of_input[0] && stats->note[0] ? "; " : "", stats->note);
    r->n_token = s ? s->n_token : 0;
    r->rounded = s && s->too_few;
}

nb_status nb_pipe_quantize(nb_pipe *p, nb_group_at at, const nb_moments *s, nb_error *err)
{
    if (p->o->quantizer->needs == NB_NEEDS_NOTHING)
        return nb_pipe_round(p, at, err);
    nb_role role[3];
    const int n_role = nb_group_roles(at.g, role);
    const bool decides = s && !s->too_few;
    struct work k = {.at = at, .h = s ? s->h : NULL};
    k.N = nb_pipe_group_shape(p, at.g, &k.K);
    const int64_t group = nb_grid_group(&p->o->grid, k.K);
    k.G = (k.K + group - 1) / group;
    nb_quant_stats stats = {0};
    nb_quant_job job = {.be = p->be,
                        .grid = &p->o->grid,
                        .N = k.N,
                        .K = k.K,
                        .n_token = s ? s->n_token : 0,
                        .damp = s ? s->damp : p->o->damp,
                        .correction = p->o->correction,
                        .static_groups = p->o->static_groups,
                        .act_order = p->o->act_order,
                        .clip = p->o->clip,
                        .times = p->o->times,
                        .clip_from = p->o->quantizer->input_scales && at.g == NB_GROUP_QKV
                                         ? k.N - value_rows(p)
                                         : 0,
                        .stats = &stats};
    nb_status st = open_weights(p, s, &k, err);
    nb_times_lap(p->o->times, NB_LAP_READ);
    if (st == NB_OK)
        st = work_open(p, &k, err);
    if (st == NB_OK) {
        job.w = k.w;
        job.q = k.q;
        job.codes = k.d_codes;
        job.groups = k.d_groups;
        job.g_idx = k.g_idx;
        job.row_error = k.row_error;
        job.scale = nb_pipe_scales_of(p, at);
        job.h = decides ? s->h : NULL;
        job.c = decides ? s->c : NULL;
        job.wc = decides ? s->wc : NULL;
        st = nb_pipe_name_fault(p, p->o->quantizer->layer(&job, err), nb_slot_of(at, role[0]), err);
    }
    nb_times_lap(p->o->times, NB_LAP_ROUND);
    if (st == NB_OK)
        st = write_group(p, &k, role, n_role, err);
    nb_times_lap(p->o->times, NB_LAP_WRITE);
    if (st == NB_OK) {
        nb_linear_report *r = nb_pipe_begin_report(p, at, nb_pipe_stored_bits(p, k.N, k.K));
        for (int i = 0; i < n_role; i++)
            write_note(&r[i], s, &stats);
        if (k.h)
            st = report_errors(p, &k, role, n_role, r, err);
    }
    work_close(p, &k);
    nb_times_lap(p->o->times, NB_LAP_ERRORS);
    return st;
}

nb_status nb_pipe_quantize_group(nb_pipe *p, nb_group_id g, int layer, nb_error *err)
{
    const nb_group_at at = {g, layer, 0};
    nb_moments s = {.h = NULL};
    nb_status st = NB_OK;
    if (nb_pipe_is_mixed(p, g))
        return nb_pipe_quantize_experts(p, g, layer, err);
    if (!nb_pipe_rounds(p, g))
        st = nb_pipe_keep(p, at, err);
    else {
        s = nb_pipe_moments(p, g);
        st = nb_moments_open_weights(p, at, 1, &s, err);
        nb_times_lap(p->o->times, NB_LAP_READ);
        if (st == NB_OK && p->calib)
            st = nb_pipe_gather(p, g, &s, err);
        if (st == NB_OK && p->calib)
            st = nb_pipe_scale_drift(p, at, &s, err);
        nb_times_lap(p->o->times, NB_LAP_STATISTICS);
        if (st == NB_OK)
            st = nb_pipe_quantize(p, at, p->calib ? &s : NULL, err);
        p->be->op->release(p->be, s.w);
    }
    if (st == NB_OK && p->calib)
        st = nb_pipe_read_group(p, g, layer, err);
    nb_pipe_release_pages(p, at);
    return st;
}
