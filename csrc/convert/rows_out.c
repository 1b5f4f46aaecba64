/* rows_out.c -- converting tensors by slices of rows. Rows are independent: the bytes do not depend
 * on the threads. */
#include "convert/rows_out.h"
#include "base/pool.h"
#include "convert/recode.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { kSliceValues = 1 << 20 }; /* 4 MiB of f32 at a time */

nb_matrix nb_tensor_matrix(const nb_tensor *t)
{
    nb_matrix m = {
        .N = 1, .K = t->n_dim ? t->shape[t->n_dim - 1] : 1, .dtype = t->dtype, .rows = t->data};
    for (int d = 0; d + 1 < t->n_dim; d++)
        m.N *= t->shape[d];
    return m;
}

int64_t nb_row_from(nb_row_order order, int64_t head, int64_t r)
{
    const int64_t j = order == NB_ROWS_SAME ? 0 : r % head, half = head / 2;
    return order == NB_ROWS_TO_PAIRS    ? r - j + (j % 2) * half + j / 2
           : order == NB_ROWS_TO_HALVES ? r - j + 2 * (j % half) + j / half
                                        : r;
}

/* One row of canonical codes as blocks of t; scratch has room for its groups twice. */
static void join_row(const nb_matrix *m, int64_t n, const nb_dtype *t, float *scratch, uint8_t *dst)
{
    const int64_t G = m->K / t->group;
    float *scale = scratch, *min = scratch + G;
    for (int64_t i = 0; i < G; i++) {
        scale[i] = m->groups[n * G + i].scale;
        min[i] = m->groups[n * G + i].min;
    }
    t->join(m->codes + n * m->K, scale, min, m->K / t->block, dst);
}

static nb_status can_convert(const nb_rows_out *to, const nb_matrix *m, nb_error *err)
{
    const nb_dtype *t = to->type;
    if (m->K % t->block)
        return nb_fail_at(err, NB_UNSUPPORTED, to->path, -1,
                          "tensor %s: its rows of %lld are no whole number of blocks of %s (%d)",
                          to->name, (long long)m->K, t->name, t->block);
    if (m->dtype == t || (nb_recodes(to, m) && t->join))
        return NB_OK;
    if (m->dtype && (!m->dtype->decode || !t->encode))
        return nb_fail_at(err, NB_UNSUPPORTED, to->path, -1,
                          "tensor %s: from %s to %s is not there", to->name, m->dtype->name,
                          t->name);
    if (!m->dtype && t->block == 1 && t->encode)
        return NB_OK;
    if (!m->dtype && (!t->join || m->group != t->group || m->g_idx || m->table != t->table))
        return nb_fail_at(err, NB_UNSUPPORTED, to->path, -1,
                          "tensor %s: codes in groups of %d have no place in %s", to->name,
                          m->group, t->name);
    return NB_OK;
}

/* What a row came to; the greatest of all rows is reported. */
typedef enum fault { FINE, CHANGED, OUT_OF_RANGE, NOT_FINITE } fault;

/* Rounding is what the caller asked for, but no block holds NaN and Inf, and no number may become
 * one. */
static fault check_rounded(const float *f, const uint8_t *q, const nb_dtype *t, float *scratch,
                           int64_t K)
{
    uint32_t most = 0; /* the bits of magnitudes are ordered as they are, NaN and Inf above all */
    for (int64_t k = 0; k < K; k++) {
        uint32_t bits;
        memcpy(&bits, &f[k], sizeof bits);
        most = (bits & 0x7fffffff) > most ? bits & 0x7fffffff : most;
    }
    if (most < 0x43800000) /* all below 256, which is in every format's range: the usual row */
        return FINE;
    nb_dtype_decode_row(t, q, scratch, K);
    for (int64_t k = 0; k < K; k++)
        if (!isfinite(f[k]) && t->block > 1)
            return NOT_FINITE;
        else if (isfinite(f[k]) && !isfinite(scratch[k]))
            return OUT_OF_RANGE;
    return FINE;
}

/* Row `from` of m in the format of the output. */
static fault put_row(const nb_rows_out *to, const nb_matrix *m, int64_t from, float *f,
                     float *scratch, uint8_t *dst)
{
    const nb_dtype *t = to->type;
    if (m->dtype == t) {
        const size_t bytes = (size_t)nb_dtype_row_bytes(t, m->K);
        memcpy(dst, m->rows + (size_t)from * bytes, bytes);
        return FINE;
    }
    if (nb_recodes(to, m))
        return nb_recode_row(m, from, t, scratch, dst) ? FINE : CHANGED;
    if (!m->dtype && t->block > 1) {
        join_row(m, from, t, scratch, dst);
        return FINE;
    }
    nb_matrix_row(m, from, f);
    t->encode(f, dst, m->K / t->block);
    return to->exact ? check_rounded(f, dst, t, scratch, m->K) : FINE;
}

static nb_status refuse(const nb_rows_out *to, const nb_matrix *m, fault why, nb_error *err)
{
    if (why == NOT_FINITE)
        return nb_fail_at(err, NB_BAD_INPUT, to->path, -1,
                          "tensor %s holds NaN or Inf, which %s cannot", to->name, to->type->name);
    if (why == OUT_OF_RANGE) {
        nb_fail_at(err, NB_UNSUPPORTED, to->path, -1,
                   "tensor %s holds numbers beyond the range of %s", to->name, to->type->name);
        nb_hint(err, "bf16 and f32 hold them");
        return NB_UNSUPPORTED;
    }
    return nb_fail_at(err, NB_UNSUPPORTED, to->path, -1,
                      "tensor %s: not all of its values in %s have a place in %s; nibble quantize "
                      "rounds them anew",
                      to->name, m->dtype ? m->dtype->name : "codes", to->type->name);
}

enum { kTaskRows = 16 };

/* One slice of rows: from row r of m on, into q. */
struct slice {
    const nb_rows_out *to;
    const nb_matrix *m;
    int64_t r, n;
    size_t scratch_n, out_bytes;
    float *f, *scratch; /* of every worker */
    uint8_t *q;
    int *worst; /* [n_thread] */
};

static void slice_task(const void *arg, int64_t i, int worker)
{
    const struct slice *s = arg;
    const int64_t end = (i + 1) * kTaskRows < s->n ? (i + 1) * kTaskRows : s->n;
    for (int64_t j = i * kTaskRows; j < end; j++) {
        const int64_t from = nb_row_from(s->to->order, s->to->head, s->r + j);
        const int came = (int)put_row(s->to, s->m, from, s->f + worker * s->m->K,
                                      s->scratch + (size_t)worker * s->scratch_n,
                                      s->q + (size_t)j * s->out_bytes);
        s->worst[worker] = came > s->worst[worker] ? came : s->worst[worker];
    }
}

/* The greatest fault of all workers. */
static int convert_slice(nb_pool *pool, const struct slice *s, int n_thread)
{
    int worst = FINE;
    nb_pool_run(pool, (s->n + kTaskRows - 1) / kTaskRows, slice_task, s);
    for (int i = 0; i < n_thread; i++)
        worst = s->worst[i] > worst ? s->worst[i] : worst;
    return worst;
}

nb_status nb_write_rows(const nb_rows_out *to, const nb_matrix *m, nb_error *err)
{
    const nb_dtype *t = to->type;
    const int64_t K = m->K;
    nb_pool *pool = NULL;
    nb_status st = can_convert(to, m, err);
    if (st != NB_OK)
        return st;
    const int64_t out_bytes = nb_dtype_row_bytes(t, K);
    if (m->dtype == t && to->order == NB_ROWS_SAME)
        return to->write(to->file, to->index, (size_t)(to->row * out_bytes), m->rows,
                         (size_t)(m->N * out_bytes), err);
    const int64_t most = K < kSliceValues ? kSliceValues / K : 1, rows = most < m->N ? most : m->N;
    const int n_thread = to->n_thread > 1 && rows > kTaskRows ? to->n_thread : 1;
    struct slice s = {.to = to, .m = m, .out_bytes = (size_t)out_bytes};
    s.scratch_n = nb_recodes(to, m)           ? nb_recode_scratch(K)
                  : m->dtype || t->block == 1 ? (size_t)K
                                              : 2 * (size_t)(K / t->group);
    s.f = nb_alloc((size_t)n_thread * (size_t)K, sizeof *s.f, to->name, err);
    s.q = nb_alloc((size_t)rows, (size_t)out_bytes, to->name, err);
    s.scratch = nb_alloc((size_t)n_thread, s.scratch_n * sizeof *s.scratch, to->name, err);
    s.worst = nb_alloc_zero((size_t)n_thread, sizeof *s.worst, to->name, err);
    st = s.f && s.q && s.scratch && s.worst ? NB_OK : NB_NO_ROOM;
    /* not OpenMP: its threads spin for as long as the caller writes and hashes between two
     * slices */
    if (st == NB_OK && n_thread > 1)
        st = nb_pool_open(n_thread, &pool, err);
    for (s.r = 0; s.r < m->N && st == NB_OK; s.r += rows) {
        s.n = m->N - s.r < rows ? m->N - s.r : rows;
        const int worst = convert_slice(pool, &s, n_thread);
        st = worst ? refuse(to, m, (fault)worst, err)
                   : to->write(to->file, to->index, (size_t)((to->row + s.r) * out_bytes), s.q,
                               (size_t)(s.n * out_bytes), err);
    }
    nb_pool_close(pool);
    free(s.f);
    free(s.q);
    free(s.scratch);
    free(s.worst);
    return st;
}
