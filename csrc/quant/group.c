/* group.c -- one group of linears that share an input (q,k,v; o; gate,up; down): decoded, quantized, written, reported. */
#include "quant/pipe.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Host and device buffers of a group's job. */
struct work {
    int64_t N, K, G;
    float *host;        /* [N,K] the original weights, then the dequantized ones */
    uint8_t *codes;     /* [N,K] host */
    nb_group *groups;   /* [N,G] host */
    float *w, *q, *rtn; /* [N,K] device */
    uint8_t *d_codes;
    nb_group *d_groups;
};

static void work_close(nb_pipe *p, struct work *k)
{
    free(k->host);
    free(k->codes);
    free(k->groups);
    void *device[] = {k->w, k->q, k->rtn, k->d_codes, k->d_groups};
    for (size_t i = 0; i < sizeof device / sizeof *device; i++)
        p->be->op->release(p->be, device[i]);
}

static nb_status work_open(nb_pipe *p, struct work *k, nb_error *err)
{
    const size_t n = (size_t)(k->N * k->K), n_group = (size_t)(k->N * k->G);
    k->host = nb_alloc_aligned(n, sizeof(float), "weights of a layer", err);
    k->codes = nb_alloc(n, 1, "codes of a layer", err);
    k->groups = nb_alloc(n_group, sizeof(nb_group), "scales of a layer", err);
    if (!k->host || !k->codes || !k->groups)
        return NB_NO_ROOM;
    const struct {
        void **to;
        size_t bytes;
    } device[] = {{(void **)&k->w, n * 4},
                  {(void **)&k->q, n * 4},
                  {(void **)&k->rtn, n * 4},
                  {(void **)&k->d_codes, n},
                  {(void **)&k->d_groups, n_group * sizeof(nb_group)}};
    nb_status st = NB_OK;
    for (size_t i = 0; i < sizeof device / sizeof *device && st == NB_OK; i++)
        st = p->be->op->alloc(p->be, device[i].bytes, "weights of a layer", device[i].to, err);
    return st;
}

/* Decodes the group's matrices, stacked. A value that is not finite names its tensor: a checkpoint like that must not be quantized silently. */
static nb_status decode_group(nb_pipe *p, const nb_role *role, int n_role, int layer, float *to, nb_error *err)
{
    nb_status st = NB_OK;
    int64_t bad = -1;
    for (int i = 0; i < n_role && st == NB_OK; i++) {
        nb_matrix a;
        st = nb_model_matrix(p->m, (nb_slot){.role = role[i], .layer = layer}, &a, err);
        if (st != NB_OK)
            break;
        const int64_t row_bytes = nb_dtype_row_bytes(a.dtype, a.K);
#pragma omp parallel for num_threads(p->o->n_thread) schedule(static) reduction(max : bad)
        for (int64_t n = 0; n < a.N; n++) {
            nb_dtype_decode_row(a.dtype, a.rows + n * row_bytes, to + n * a.K, a.K);
            for (int64_t k = 0; k < a.K; k++)
                if (!isfinite(to[n * a.K + k]))
                    bad = n;
        }
        if (bad >= 0) {
            char name[128];
            (void)nb_family_tensor(p->m->family, p->m->container, (nb_slot){.role = role[i], .layer = layer}, name);
            st = nb_fail_at(err, NB_BAD_INPUT, p->m->container->path, -1, "tensor %s holds NaN or Inf in row %lld", name, (long long)bad);
        }
        to += a.N * a.K;
    }
    return st;
}

/* The error of rows [n0, n0 + N) of the job, for the report: both measured against the weights the sweep was given. */
static nb_status linear_error(nb_pipe *p, const struct work *k, int64_t n0, int64_t N, nb_linear_report *r, nb_error *err)
{
    double base = 0, rtn = 0, got = 0;
    nb_quant_error_args a = {.w = k->w + n0 * k->K, .N = N, .K = k->K, .h = p->h, .out = &base};
    nb_status st = nb_op_check(p->be, p->be->op->quant_error != NULL, "quant_error", err);
    if (st == NB_OK)
        st = nb_pipe_scratch(p, p->be->op->quant_error_scratch ? p->be->op->quant_error_scratch(p->be, &a) : 0, err);
    a.scratch = p->scratch;
    if (st == NB_OK)
        st = p->be->op->quant_error(p->be, &a, err);
    a.q = k->q + n0 * k->K;
    a.out = &got;
    if (st == NB_OK)
        st = p->be->op->quant_error(p->be, &a, err);
    a.q = k->rtn + n0 * k->K;
    a.out = &rtn;
    if (st == NB_OK)
        st = p->be->op->quant_error(p->be, &a, err);
    r->error = base > 0.0 ? got / base : 0.0;
    r->error_rtn = base > 0.0 ? rtn / base : 0.0;
    return st;
}

/* Codes and groups of rows [n0, n0 + N) as blocks of the grid's format, into the rows of the file's tensor that hold the slot. */
static nb_status write_linear(nb_pipe *p, const struct work *k, int64_t n0, int64_t N, nb_slot at, nb_error *err)
{
    const nb_dtype *t = p->o->grid.dtype;
    const int64_t row_bytes = nb_dtype_row_bytes(t, k->K);
    char name[NB_TENSOR_NAME];
    const nb_place place = nb_family_place(p->m->family, &p->m->hp, p->m->container, at, name);
    uint8_t *out = nb_alloc((size_t)N, (size_t)row_bytes, "a packed tensor", err);
    float *scale = nb_alloc((size_t)(2 * k->G), sizeof *scale, "scales of a row", err), *min = scale ? scale + k->G : NULL;
    nb_status st = out && scale ? NB_OK : NB_NO_ROOM;
    for (int64_t n = 0; n < N && st == NB_OK; n++) {
        const nb_group *g = k->groups + (n0 + n) * k->G;
        for (int64_t i = 0; i < k->G; i++) {
            scale[i] = g[i].scale;
            min[i] = g[i].min;
        }
        t->join(k->codes + (n0 + n) * k->K, scale, min, k->K / t->block, out + n * row_bytes);
    }
    if (st == NB_OK)
        st = nb_gguf_writer_data(p->w, (int)(place.t - p->m->container->tensor), (size_t)(place.row * row_bytes), out, (size_t)(N * row_bytes), err);
    free(out);
    free(scale);
    return st;
}

static nb_status report_group(nb_pipe *p, const struct work *k, const nb_role *role, int n_role, int layer, bool calibrated,
                              const char *note, nb_error *err)
{
    const nb_quantize_rows_args rtn = {.w = k->w, .N = k->N, .K = k->K, .grid = &p->o->grid, .groups = k->d_groups, .codes = k->d_codes};
    const nb_dequantize_args deq = {.codes = k->d_codes, .groups = k->d_groups, .N = k->N, .K = k->K, .grid = &p->o->grid, .q = k->rtn};
    nb_status st = NB_OK;
    if (calibrated) { /* the job's own codes are on the host by now */
        st = p->be->op->quantize_rows(p->be, &rtn, err);
        if (st == NB_OK)
            st = p->be->op->dequantize(p->be, &deq, err);
    }
    int64_t n0 = 0;
    for (int i = 0; i < n_role && st == NB_OK; i++) {
        int64_t N, K;
        nb_linear_report *r = &p->report[p->n_report++];
        nb_family_shape(&p->m->hp, (nb_slot){.role = role[i]}, &N, &K);
        (void)nb_family_tensor(p->m->family, p->m->container, (nb_slot){.role = role[i], .layer = layer}, r->name);
        r->bits_per_weight = 8.0 * (double)p->o->grid.dtype->bytes / (double)p->o->grid.dtype->block;
        r->error = r->error_rtn = (double)NAN;
        snprintf(r->note, sizeof r->note, "%s", note);
        if (calibrated)
            st = linear_error(p, k, n0, N, r, err);
        if (st == NB_OK)
            st = write_linear(p, k, n0, N, (nb_slot){.role = role[i], .layer = layer}, err);
        n0 += N;
    }
    return st;
}

/* A group whose K is no multiple of the block stays F16, by name: llama.cpp's fallback. */
static nb_status keep_group(nb_pipe *p, const nb_role *role, int n_role, int layer, nb_group_id g, nb_error *err)
{
    const nb_dtype *f16 = nb_dtype_by_name("f16");
    nb_status st = NB_OK;
    for (int i = 0; i < n_role && st == NB_OK; i++) {
        nb_linear_report *r = &p->report[p->n_report++];
        (void)nb_family_tensor(p->m->family, p->m->container, (nb_slot){.role = role[i], .layer = layer}, r->name);
        r->bits_per_weight = 16.0;
        r->error = r->error_rtn = (double)NAN;
        snprintf(r->note, sizeof r->note, "kept f16: its width is no multiple of %d", p->o->grid.dtype->block);
        st = nb_gguf_out_convert(p->m->container, nb_pipeline_index(p->m, role[i], layer), f16, p->w, p->o->n_thread, err);
    }
    if (st == NB_OK && p->calib)
        st = nb_stack_load(p->m, g, layer, &p->quantized.layer.stack[g], err);
    return st;
}

nb_status nb_pipe_quantize_group(nb_pipe *p, nb_group_id g, int layer, nb_error *err)
{
    nb_role role[3];
    const int n_role = nb_group_roles(g, role);
    struct work k = {0};
    for (int i = 0; i < n_role; i++) {
        int64_t N;
        nb_family_shape(&p->m->hp, (nb_slot){.role = role[i]}, &N, &k.K);
        k.N += N;
    }
    nb_status st = p->two ? nb_stack_load(p->m, g, layer, &p->original.layer.stack[g], err) : NB_OK;
    if (st != NB_OK)
        return st;
    if (!nb_pipeline_fits(p->m, g, &p->o->grid))
        return keep_group(p, role, n_role, layer, g, err);
    const int64_t group = p->o->grid.group ? p->o->grid.group : k.K;
    k.G = (k.K + group - 1) / group;
    nb_quant_stats stats = {0};
    nb_quant_job job = {.be = p->be, .grid = &p->o->grid, .N = k.N, .K = k.K, .n_token = p->T, .damp = p->o->damp,
                        .correction = p->o->correction, .static_groups = p->o->static_groups, .stats = &stats};
    st = work_open(p, &k, err);
    if (st == NB_OK)
        st = decode_group(p, role, n_role, layer, k.host, err);
    if (st == NB_OK)
        st = p->be->op->upload(p->be, k.w, k.host, (size_t)(k.N * k.K) * sizeof(float), err);
    if (st == NB_OK && p->calib)
        st = nb_pipe_gather(p, g, k.K, err);
    if (st == NB_OK) {
        job.w = k.w;
        job.q = k.q;
        job.codes = k.d_codes;
        job.groups = k.d_groups;
        job.h = p->calib ? p->h : NULL;
        job.c = p->two ? p->c : NULL;
        st = p->o->quantizer->layer(&job, err);
    }
    if (st == NB_OK)
        st = p->be->op->download(p->be, k.codes, k.d_codes, (size_t)(k.N * k.K), err);
    if (st == NB_OK)
        st = p->be->op->download(p->be, k.groups, k.d_groups, (size_t)(k.N * k.G) * sizeof(nb_group), err);
    if (st == NB_OK && p->calib) {
        st = p->be->op->download(p->be, k.host, k.q, (size_t)(k.N * k.K) * sizeof(float), err);
        if (st == NB_OK)
            st = nb_stack_from_f32(p->be, k.host, k.N, k.K, &p->quantized.layer.stack[g], err);
    }
    if (st == NB_OK)
        st = report_group(p, &k, role, n_role, layer, p->calib != NULL, stats.note, err);
    work_close(p, &k);
    return st;
}
