/* matrices.c -- the linears of a group as matrices: from the source or the sink to f32, to the
 * stacks that the streams run through, and copied as they are.
 *
 * The quantized stream runs through what the sink holds, read back and decoded: exactly what a
 * loader of the file will see, and the same bits when an interrupted run is replayed. */
#include "base/pool.h"
#include "quant/pipe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- to f32 ---- */

const char *nb_pipe_linear_name(const nb_pipe *p, nb_slot at, char name[NB_TENSOR_NAME])
{
    char tail[NB_TENSOR_NAME];
    (void)nb_family_tensor(p->m->family, p->m->container, at, name);
    char *dot = strrchr(name, '.');
    if (dot && nb_family_slice(p->m->family, &p->m->hp, p->m->container->kind, at).stacked) {
        snprintf(tail, sizeof tail, "%s", dot);
        snprintf(dot, (size_t)(name + NB_TENSOR_NAME - dot), ".%d%.100s", at.expert, tail);
    }
    return name;
}

struct decoding {
    const nb_pipe *p;
    const nb_matrix *a;
    nb_role role;
    bool packed;
    float *to;
    int64_t *bad; /* one of the rows with a value that is not finite */
};

/* Notes row n, the last one whatever the threads, if it holds NaN or Inf. */
static void look(const float *row, int64_t K, int64_t n, int64_t *bad)
{
    uint32_t most = 0; /* of the magnitudes' bits: NaN and Inf are above all numbers */
    for (int64_t k = 0; k < K; k++) {
        uint32_t bits;
        memcpy(&bits, &row[k], sizeof bits);
        most = (bits & 0x7fffffff) > most ? bits & 0x7fffffff : most;
    }
    for (int64_t was = __atomic_load_n(bad, __ATOMIC_RELAXED); most >= 0x7f800000 && n > was;)
        if (__atomic_compare_exchange_n(bad, &was, n, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            break;
}

static void decode_task(const void *arg, int64_t n, int worker)
{
    const struct decoding *d = arg;
    const int64_t K = d->a->K;
    float *row =
        d->to +
        (d->packed ? nb_family_packed_row(d->p->m->family, &d->p->m->hp, d->role, n) : n) * K;
    (void)worker;
    nb_matrix_row(d->a, n, row);
    look(row, K, n, d->bad);
}

/* Decodes a matrix; *bad: a row with a value that is not finite, or -1. packed: its rows in the
 * order in which the role's are packed. */
static void decode_matrix(const nb_pipe *p, const nb_matrix *a, nb_role role, bool packed,
                          float *to, int64_t *bad)
{
    const struct decoding d = {p, a, role, packed, to, bad};
    *bad = -1;
    nb_pool_run(p->pool, a->N, decode_task, &d);
}

nb_status nb_pipe_decode_rows(nb_pipe *p, nb_slot at, const nb_matrix *a, int64_t n0, int64_t n,
                              float *to, nb_error *err)
{
    char name[NB_TENSOR_NAME];
    int64_t bad = -1;
    if (p->dry)
        return NB_OK;
    const nb_matrix part = nb_matrix_rows(a, n0, n);
    decode_matrix(p, &part, at.role, false, to, &bad);
    return bad < 0 ? NB_OK
                   : nb_fail_at(err, NB_BAD_INPUT, p->m->container->path, -1,
                                "tensor %s holds NaN or Inf in row %lld",
                                nb_pipe_linear_name(p, at, name), (long long)(n0 + bad));
}

/* The group's matrices, stacked, from the source. A value that is not finite names its tensor: a
 * checkpoint like that must not be quantized silently. */
nb_status nb_pipe_decode(nb_pipe *p, nb_group_at at, float *to, nb_error *err)
{
    nb_role role[3];
    const int n_role = nb_group_roles(at.g, role);
    nb_status st = NB_OK;
    for (int i = 0; i < n_role && st == NB_OK && !p->dry; i++) {
        nb_matrix a;
        void *made = NULL;
        st = nb_model_matrix(p->m, nb_slot_of(at, role[i]), &a, &made, err);
        if (st == NB_OK)
            st = nb_pipe_decode_rows(p, nb_slot_of(at, role[i]), &a, 0, a.N, to, err);
        free(made);
        if (st != NB_OK)
            break;
        nb_pipe_apply_scales(p, at, role[i], a.N, a.K, to);
        to += a.N * a.K;
    }
    return st;
}

nb_status nb_pipe_upload(nb_pipe *p, nb_group_at at, float *to, nb_error *err)
{
    int64_t K;
    const int64_t N = nb_pipe_group_shape(p, at.g, &K);
    const size_t bytes = (size_t)(N * K) * sizeof(float);
    float *host = NULL;
    nb_status st = nb_pipe_host(p, 1, bytes, "weights of a layer", (void **)&host, err);
    if (st == NB_OK)
        st = nb_pipe_decode(p, at, host, err);
    if (st == NB_OK)
        st = p->be->op->upload(p->be, to, host, bytes, err);
    if (st == NB_OK)
        st = p->be->op->sync(p->be, err); /* before host goes */
    nb_pipe_host_free(p, host);
    return st;
}

int64_t nb_pipe_group_shape(const nb_pipe *p, nb_group_id g, int64_t *K)
{
    nb_role role[3];
    int64_t N = 0;
    for (int i = nb_group_roles(g, role) - 1; i >= 0; i--) {
        int64_t n;
        nb_family_shape(&p->m->hp, (nb_slot){.role = role[i]}, &n, K);
        N += n;
    }
    return N;
}

/* ---- to the stacks that the streams run through ---- */

/* What was written for the group, as one packed weight of the quantized stream. */
static nb_status stack_from_sink(nb_pipe *p, nb_group_id g, int layer, nb_error *err)
{
    nb_role role[3];
    const int n_role = nb_group_roles(g, role);
    int64_t K = 0, n0 = 0;
    const int64_t N = nb_pipe_group_shape(p, g, &K);
    float *host = NULL;
    nb_status st =
        nb_pipe_host(p, (size_t)(N * K), sizeof *host, "weights of a layer", (void **)&host, err);
    for (int i = 0; i < n_role && st == NB_OK && !p->dry; i++) {
        nb_matrix a;
        int64_t bad = -1;
        char name[NB_TENSOR_NAME];
        const nb_slot at = {.role = role[i], .layer = layer};
        st = p->sink->op->read(p->sink, at, &a, err);
        if (st != NB_OK)
            break;
        if (a.K != K || n0 + a.N > N)
            st = nb_fail(err, NB_INTERNAL, "tensor %s is read back as %lld x %lld",
                         nb_pipe_linear_name(p, at, name), (long long)a.N, (long long)a.K);
        else
            decode_matrix(p, &a, role[i], true, host + n0 * K, &bad);
        if (bad >= 0)
            st = nb_fail(err, NB_BAD_INPUT, "tensor %s is written with NaN or Inf in row %lld",
                         nb_pipe_linear_name(p, at, name), (long long)bad);
        n0 += a.N;
    }
    if (st == NB_OK)
        st = nb_stack_from_f32(p->be, host, N, K, &p->quantized.layer.stack[g], err);
    nb_pipe_host_free(p, host);
    return st;
}

static nb_status original_stack(nb_pipe *p, nb_group_id g, int layer, nb_error *err)
{
    return p->two ? nb_stack_load(p->m, g, layer, &p->original.layer.stack[g], err) : NB_OK;
}

nb_status nb_pipe_read_group(nb_pipe *p, nb_group_id g, int layer, nb_error *err)
{
    if (nb_pipe_is_mixed(p, g))
        return nb_pipe_read_experts(p, g, layer, err);
    const nb_status st = original_stack(p, g, layer, err);
    return st == NB_OK ? stack_from_sink(p, g, layer, err) : st;
}

nb_status nb_pipe_source_group(nb_pipe *p, nb_group_id g, int layer, nb_error *err)
{
    if (nb_pipe_is_mixed(p, g))
        return nb_pipe_source_experts(p, g, layer, err);
    const nb_status st = original_stack(p, g, layer, err);
    return st == NB_OK ? nb_stack_load(p->m, g, layer, &p->quantized.layer.stack[g], err) : st;
}

/* ---- to the sink as they are ---- */

struct search {
    const nb_matrix *a;
    int64_t *bad;
};

static void search_task(const void *arg, int64_t n, int worker)
{
    enum { kPiece = 1024 }; /* whole blocks of every format */
    const struct search *s = arg;
    const nb_matrix *a = s->a;
    const uint8_t *row = a->rows + n * nb_dtype_row_bytes(a->dtype, a->K);
    float piece[kPiece];
    (void)worker;
    for (int64_t k = 0; k < a->K; k += kPiece) {
        const int64_t len = a->K - k < kPiece ? a->K - k : kPiece;
        nb_dtype_decode_row(a->dtype, row + nb_dtype_row_bytes(a->dtype, k), piece, len);
        look(piece, len, n, s->bad);
    }
}

int64_t nb_pipe_bad_row(const nb_pipe *p, const nb_matrix *a)
{
    int64_t bad = -1;
    const struct search s = {a, &bad};
    if (!p->dry && a->dtype && a->dtype->decode)
        nb_pool_run(p->pool, a->N, search_task, &s);
    return bad;
}

nb_status nb_pipe_copy(nb_pipe *p, nb_slot at, nb_error *err)
{
    char name[NB_TENSOR_NAME];
    const nb_place place = nb_family_place(p->m->family, &p->m->hp, p->m->container, at, name);
    if (!place.t)
        return NB_OK;
    const int64_t row = place.N ? 0 : place.row * place.t->dtype->bytes;
    nb_matrix m = {.N = 1, .K = place.K, .dtype = place.t->dtype, .rows = place.t->data + row};
    void *made = NULL;
    nb_status st = place.N ? nb_model_matrix(p->m, at, &m, &made, err) : NB_OK;
    const int64_t bad = st == NB_OK ? nb_pipe_bad_row(p, &m) : -1;
    if (bad >= 0)
        st = nb_fail_at(err, NB_BAD_INPUT, p->m->container->path, (int64_t)place.t->offset,
                        "tensor %s holds NaN or Inf in row %lld", place.t->name, (long long)bad);
    if (st == NB_OK)
        st = p->sink->op->dense(p->sink, at, &m, err);
    free(made);
    nb_container_release(p->m->container, place.t);
    return st;
}

void nb_pipe_release_pages(nb_pipe *p, nb_group_at at)
{
    nb_role role[3];
    char name[NB_TENSOR_NAME];
    for (int i = nb_group_roles(at.g, role) - 1; i >= 0; i--)
        nb_container_release(p->m->container, nb_family_tensor(p->m->family, p->m->container,
                                                               nb_slot_of(at, role[i]), name));
}
