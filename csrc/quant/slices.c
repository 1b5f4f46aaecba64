/* slices.c -- quantizers that need no statistics: a few rows of a linear at a time, which stay in
 * the caches from decoding to codes. Whole groups, as group.c does it, would go through memory four
 * times, and every page of that be cleared by the kernel first: half of rounding's time. */
#include "quant/pipe.h"

#include <stdio.h>
#include <stdlib.h>

enum { kSliceValues = 1 << 18 }; /* as f32 on the host and on the device, and codes: 2.3 MiB */

/* Buffers of a slice, and of the matrix that it is of. */
struct slices {
    float *host;      /* [n,K] */
    nb_quant_job job; /* w, codes, groups: device, of a slice */
    int64_t most, G;  /* rows of a slice, groups of a row */
    uint8_t *codes;   /* [N,K] host */
    nb_group *groups; /* [N,G] host */
};

static void slices_close(nb_pipe *p, struct slices *s)
{
    void *device[] = {s->job.w, s->job.codes, s->job.groups};
    void *host[] = {s->host, s->codes, s->groups};
    for (size_t i = 0; i < 3; i++) {
        p->be->op->release(p->be, device[i]);
        nb_pipe_host_free(p, host[i]);
    }
}

/* For matrices of N rows at most. */
static nb_status slices_open(nb_pipe *p, struct slices *s, int64_t N, int64_t K, nb_error *err)
{
    const int64_t group = nb_grid_group(&p->o->grid, K);
    const int64_t rows = K < kSliceValues ? kSliceValues / K : 1;
    s->G = (K + group - 1) / group;
    s->most = rows < N ? rows : N;
    const size_t n = (size_t)(s->most * K), n_group = (size_t)(s->most * s->G);
    const struct {
        void **to;
        size_t bytes;
        bool host;
        const char *what;
    } rows_of[] = {
        {(void **)&s->host, n * sizeof *s->host, true, "weights of a slice"},
        {(void **)&s->codes, (size_t)(N * K), true, "codes of a linear"},
        {(void **)&s->groups, (size_t)(N * s->G) * sizeof *s->groups, true, "scales of a linear"},
        {(void **)&s->job.w, n * sizeof *s->job.w, false, "weights of a slice"},
        {(void **)&s->job.codes, n, false, "codes of a slice"},
        {(void **)&s->job.groups, n_group * sizeof *s->job.groups, false, "scales of a slice"}};
    nb_status st = NB_OK;
    for (size_t i = 0; i < sizeof rows_of / sizeof *rows_of && st == NB_OK; i++)
        st = rows_of[i].host
                 ? nb_pipe_host(p, 1, rows_of[i].bytes, rows_of[i].what, rows_of[i].to, err)
                 : p->be->op->alloc(p->be, rows_of[i].bytes, rows_of[i].what, rows_of[i].to, err);
    return st;
}

/* Rows [n0, n0 + job.N) of a. */
static nb_status round_slice(nb_pipe *p, struct slices *s, nb_slot at, const nb_matrix *a,
                             int64_t n0, nb_error *err)
{
    const nb_backend_ops *op = p->be->op;
    const nb_quant_job *j = &s->job;
    const size_t n = (size_t)(j->N * j->K), n_group = (size_t)(j->N * s->G);
    nb_status st = nb_pipe_decode_rows(p, at, a, n0, j->N, s->host, err);
    if (st == NB_OK)
        st = op->upload(p->be, j->w, s->host, n * sizeof *j->w, err);
    nb_times_lap(p->o->times, NB_LAP_READ);
    if (st == NB_OK)
        st = nb_pipe_name_fault(p, p->o->quantizer->layer(j, err), at, err);
    if (st == NB_OK)
        st = op->download(p->be, s->codes + n0 * j->K, j->codes, n, err);
    if (st == NB_OK)
        st =
            op->download(p->be, s->groups + n0 * s->G, j->groups, n_group * sizeof *j->groups, err);
    nb_times_lap(p->o->times, NB_LAP_ROUND);
    return st;
}

static nb_status round_linear(nb_pipe *p, struct slices *s, nb_slot at, nb_error *err)
{
    nb_matrix a = {.N = 0};
    void *made = NULL;
    nb_family_shape(&p->m->hp, at, &a.N, &a.K);
    nb_status st = p->dry ? NB_OK : nb_model_matrix(p->m, at, &a, &made, err);
    for (int64_t n0 = 0; st == NB_OK && n0 < a.N; n0 += s->job.N) {
        s->job.N = s->most < a.N - n0 ? s->most : a.N - n0;
        st = round_slice(p, s, at, &a, n0, err);
    }
    if (st == NB_OK) {
        const nb_matrix m = {.N = a.N,
                             .K = a.K,
                             .codes = s->codes,
                             .groups = s->groups,
                             .table = p->o->grid.table,
                             .bits = p->o->grid.bits,
                             .group = p->o->grid.group};
        st = p->sink->op->linear(p->sink, at, &m, err);
    }
    free(made);
    nb_times_lap(p->o->times, NB_LAP_WRITE);
    return st;
}

nb_status nb_pipe_round(nb_pipe *p, nb_group_at at, nb_error *err)
{
    nb_role role[3];
    const int n_role = nb_group_roles(at.g, role);
    nb_quant_stats stats = {0};
    struct slices s = {
        .job = {.be = p->be, .grid = &p->o->grid, .clip = p->o->clip, .stats = &stats}};
    int64_t most = 0, sum = 0, N, K = 0;
    for (int i = 0; i < n_role; i++) {
        nb_family_shape(&p->m->hp, (nb_slot){.role = role[i]}, &N, &K);
        most = N > most ? N : most;
        sum += N;
    }
    s.job.K = K;
    nb_status st = slices_open(p, &s, most, K, err);
    for (int i = 0; i < n_role && st == NB_OK; i++)
        st = round_linear(p, &s, nb_slot_of(at, role[i]), err);
    slices_close(p, &s);
    if (st == NB_OK) {
        nb_linear_report *r = nb_pipe_begin_report(p, at, nb_pipe_stored_bits(p, sum, K));
        for (int i = 0; i < n_role; i++)
            snprintf(r[i].note, sizeof r[i].note, "%s", stats.note);
    }
    return st;
}
