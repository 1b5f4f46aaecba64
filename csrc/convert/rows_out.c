/* rows_out.c -- converting tensors by slices of rows. Rows are independent: the bytes do not depend on the threads. */
#include "convert/rows_out.h"
#include "convert/recode.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { kSliceValues = 1 << 20 }; /* 4 MiB of f32 at a time */

nb_matrix nb_tensor_matrix(const nb_tensor *t)
{
    nb_matrix m = {.N = 1, .K = t->n_dim ? t->shape[t->n_dim - 1] : 1, .dtype = t->dtype, .rows = t->data};
    for (int d = 0; d + 1 < t->n_dim; d++)
        m.N *= t->shape[d];
    return m;
}

int64_t nb_row_from(nb_row_order order, int64_t head, int64_t r)
{
    const int64_t j = order == NB_ROWS_SAME ? 0 : r % head, half = head / 2;
    return order == NB_ROWS_TO_PAIRS ? r - j + (j % 2) * half + j / 2 : order == NB_ROWS_TO_HALVES ? r - j + 2 * (j % half) + j / half : r;
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
        return nb_fail_at(err, NB_UNSUPPORTED, to->path, -1, "tensor %s: its rows of %lld are no whole number of blocks of %s (%d)", to->name,
                          (long long)m->K, t->name, t->block);
    if (m->dtype == t || (nb_recodes(to, m) && t->join))
        return NB_OK;
    if (m->dtype && (!m->dtype->decode || !t->encode))
        return nb_fail_at(err, NB_UNSUPPORTED, to->path, -1, "tensor %s: from %s to %s is not there", to->name, m->dtype->name, t->name);
    if (!m->dtype && t->block == 1 && t->encode)
        return NB_OK;
    if (!m->dtype && (!t->join || m->group != t->group || m->g_idx))
        return nb_fail_at(err, NB_UNSUPPORTED, to->path, -1, "tensor %s: codes in groups of %d have no place in %s", to->name, m->group, t->name);
    return NB_OK;
}

/* What a row came to; the greatest of all rows is reported. */
typedef enum fault { FINE, CHANGED, OUT_OF_RANGE, NOT_FINITE } fault;

/* Rounding is what the caller asked for, but no block holds NaN and Inf, and no number may become one. */
static fault check_rounded(const float *f, const uint8_t *q, const nb_dtype *t, float *scratch, int64_t K)
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

static void decode_row(const nb_matrix *m, int64_t n, float *to)
{
    if (m->dtype) {
        nb_dtype_decode_row(m->dtype, m->rows + n * nb_dtype_row_bytes(m->dtype, m->K), to, m->K);
        return;
    }
    const int64_t group = m->group ? m->group : m->K, G = (m->K + group - 1) / group;
    for (int64_t k = 0; k < m->K; k++)
        to[k] = nb_grid_value(&m->groups[n * G + (m->g_idx ? m->g_idx[k] : k / group)], m->codes[n * m->K + k]);
}

/* Row `from` of m in the format of the output. */
static fault put_row(const nb_rows_out *to, const nb_matrix *m, int64_t from, float *f, float *scratch, uint8_t *dst)
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
    decode_row(m, from, f);
    t->encode(f, dst, m->K / t->block);
    return to->exact ? check_rounded(f, dst, t, scratch, m->K) : FINE;
}

static nb_status refuse(const nb_rows_out *to, const nb_matrix *m, fault why, nb_error *err)
{
    if (why == NOT_FINITE)
        return nb_fail_at(err, NB_BAD_INPUT, to->path, -1, "tensor %s holds NaN or Inf, which %s cannot", to->name, to->type->name);
    if (why == OUT_OF_RANGE)
        return nb_fail_at(err, NB_UNSUPPORTED, to->path, -1, "tensor %s holds numbers beyond the range of %s", to->name, to->type->name);
    return nb_fail_at(err, NB_UNSUPPORTED, to->path, -1,
                      "tensor %s: not all of its values in %s have a place in %s; nibble quantize rounds them anew", to->name,
                      m->dtype ? m->dtype->name : "codes", to->type->name);
}

nb_status nb_write_rows(const nb_rows_out *to, const nb_matrix *m, nb_error *err)
{
    const nb_dtype *t = to->type;
    const int64_t K = m->K;
    const int n_thread = to->n_thread;
    nb_status st = can_convert(to, m, err);
    if (st != NB_OK)
        return st;
    const int64_t out_bytes = nb_dtype_row_bytes(t, K);
    if (m->dtype == t && to->order == NB_ROWS_SAME)
        return to->write(to->file, to->index, (size_t)(to->row * out_bytes), m->rows, (size_t)(m->N * out_bytes), err);
    const int64_t most = K < kSliceValues ? kSliceValues / K : 1, rows = most < m->N ? most : m->N;
    const size_t scratch_n = nb_recodes(to, m) ? nb_recode_scratch(K) : m->dtype || t->block == 1 ? (size_t)K : 2 * (size_t)(K / t->group);
    float *f = nb_alloc((size_t)n_thread * (size_t)K, sizeof *f, to->name, err);
    uint8_t *q = nb_alloc((size_t)rows, (size_t)out_bytes, to->name, err);
    float *scratch = nb_alloc((size_t)n_thread, scratch_n * sizeof *scratch, to->name, err);
    st = f && q && scratch ? NB_OK : NB_NO_ROOM;
    for (int64_t r = 0; r < m->N && st == NB_OK; r += rows) {
        const int64_t n = m->N - r < rows ? m->N - r : rows, share = (n + n_thread - 1) / n_thread;
        int worst = FINE;
#pragma omp parallel for num_threads(n_thread) schedule(static) reduction(max : worst)
        for (int thread = 0; thread < n_thread; thread++)
            for (int64_t j = thread * share; j < n && j < (thread + 1) * share; j++) {
                const int64_t from = nb_row_from(to->order, to->head, r + j);
                const int came = (int)put_row(to, m, from, f + thread * K, scratch + (size_t)thread * scratch_n, q + j * out_bytes);
                worst = came > worst ? came : worst;
            }
        st = worst ? refuse(to, m, (fault)worst, err)
                   : to->write(to->file, to->index, (size_t)((to->row + r) * out_bytes), q, (size_t)(n * out_bytes), err);
    }
    free(f);
    free(q);
    free(scratch);
    return st;
}
