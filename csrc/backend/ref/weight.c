/* weight.c -- packed weights of the reference: the parts decoded to f32, stacked along N: w[N,K], 4
 * N K bytes.
 *
 * Rows of a format decode as the format defines; the canonical form is value = scale * (code -
 * zero) + min, which for scales of 16-bit types and integer zeros is exact up to the last addition.
 * Cost: O(N K) once. */
#include "backend/ref/ref_ops.h"
#include "base/memory.h"

#include <inttypes.h>
#include <stdlib.h>

/* The checked size of the stack. */
static nb_status measure(const nb_matrix *part, int n_part, uint64_t *n_row, uint64_t *n_value,
                         nb_error *err)
{
    if (n_part < 1)
        return nb_fail(err, NB_INTERNAL, "ref: pack_weight was given no matrix");
    const int64_t K = part[0].K;
    uint64_t N = 0, count = 0;
    for (int i = 0; i < n_part; i++) {
        const nb_matrix *m = &part[i];
        if (m->N < 0 || K < 1 || m->K != K || m->group < 0)
            return nb_fail(err, NB_INTERNAL,
                           "ref: part %d to pack is [%" PRId64 ", %" PRId64
                           "], part 0 has K %" PRId64,
                           i, m->N, m->K, K);
        if (m->dtype && !m->dtype->decode)
            return nb_fail(err, NB_UNSUPPORTED, "ref: %s holds whole numbers, not weights",
                           m->dtype->name);
        if (m->dtype && nb_dtype_row_bytes(m->dtype, K) < 0)
            return nb_fail(err, NB_UNSUPPORTED,
                           "ref: rows of %" PRId64 " values are no whole number of %s blocks", K,
                           m->dtype->name);
        if (!nb_add_ok(N, (uint64_t)m->N, &N))
            return nb_fail(err, NB_NO_ROOM,
                           "ref: the parts to pack have more rows than can be counted");
    }
    if (!nb_mul_ok(N, (uint64_t)K, &count) || count > SIZE_MAX / sizeof(float))
        return nb_fail(err, NB_NO_ROOM,
                       "ref: a weight of [%" PRIu64 ", %" PRId64 "] exceeds the address space", N,
                       K);

    *n_row = N;
    *n_value = count;
    return NB_OK;
}

nb_status nb_ref_measure_weight(nb_backend *be, const nb_matrix *part, int n_part, nb_weight **out,
                                nb_error *err)
{
    uint64_t N = 0, count = 0;
    (void)be;
    *out = NULL;
    const nb_status st = measure(part, n_part, &N, &count, err);
    if (st == NB_OK && (*out = nb_alloc_zero(1, sizeof **out, "a weight", err)) != NULL)
        **out = (nb_weight){.N = (int64_t)N, .K = part[0].K};
    return st != NB_OK || *out ? st : NB_NO_ROOM;
}

nb_status nb_ref_pack_weight(nb_backend *be, const nb_matrix *part, int n_part, nb_weight **out,
                             nb_error *err)
{
    uint64_t N = 0, count = 0;
    (void)be;
    *out = NULL;
    const nb_status st = measure(part, n_part, &N, &count, err);
    if (st != NB_OK)
        return st;
    const int64_t K = part[0].K;
    nb_weight *w = nb_alloc(1, sizeof *w, "a weight", err);
    if (!w)
        return NB_NO_ROOM;
    *w = (nb_weight){.N = (int64_t)N,
                     .K = K,
                     .w = nb_alloc_aligned(count, sizeof(float), "a decoded weight", err)};
    if (!w->w) {
        free(w);
        return NB_NO_ROOM;
    }
    float *dst = w->w;
    for (int i = 0; i < n_part; i++) {
        for (int64_t n = 0; n < part[i].N; n++, dst += K)
            nb_matrix_row(&part[i], n, dst);
    }
    *out = w;
    return NB_OK;
}

void nb_ref_release_weight(nb_backend *be, nb_weight *w)
{
    (void)be;
    if (!w)
        return;
    free(w->w);
    free(w);
}

size_t nb_ref_weight_bytes(const nb_weight *w)
{
    return (size_t)w->N * (size_t)w->K * sizeof(float);
}
