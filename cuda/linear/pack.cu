/* pack.cu -- from a checkpoint's matrices to the layouts of weight.h, on the host, then one upload. */
#include "linear/weight.h"

#include "base/memory.h"
#include "base/scalar.h"

#include <cstdlib>
#include <climits>
#include <new>

/* Whether a part can lie as U4, and with which offset. */
static bool fits_u4(const nb_matrix *m, bool *offset, int *zero)
{
    const nb_dtype *t = m->dtype;
    if (!t || t->canon != NB_CANON_AFFINE || t->bits != 4 || t->group != kUnit || !t->split || m->K % kUnit)
        return false;
    *offset = t->has_min;
    *zero = t->has_min ? 0 : t->zero;
    return true;
}

/* Rows of a part as U4 at codes, scale, offset. False: a scale or min that is no f16. */
static bool rows_to_u4(const nb_matrix *m, bool offset, uint8_t *codes, uint16_t *scale, uint16_t *off, uint8_t *code, float *pair)
{
    const int64_t units = m->K / kUnit, row = nb_dtype_row_bytes(m->dtype, m->K);
    for (int64_t n = 0; n < m->N; n++) {
        m->dtype->split(m->rows + n * row, m->K / m->dtype->block, code, pair, pair + units);
        for (int64_t u = 0; u < units; u++) {
            for (int j = 0; j < 16; j++)
                codes[(n * units + u) * 16 + j] = (uint8_t)(code[u * kUnit + j] | code[u * kUnit + 16 + j] << 4);
            scale[n * units + u] = nb_f16_from_f32(pair[u]);
            if (nb_f32_from_f16(scale[n * units + u]) != pair[u])
                return false;
            if (offset) {
                off[n * units + u] = nb_f16_from_f32(pair[units + u]);
                if (nb_f32_from_f16(off[n * units + u]) != pair[units + u])
                    return false;
            }
        }
    }
    return true;
}

/* Rows of a part as bf16; row has room for K floats. */
static void rows_to_bf16(const nb_matrix *m, uint16_t *out, float *row)
{
    const int64_t bytes = m->dtype ? nb_dtype_row_bytes(m->dtype, m->K) : 0, group = m->group ? m->group : m->K;
    const int64_t G = nb_ceil_div(m->K, group ? group : 1);
    for (int64_t n = 0; n < m->N; n++) {
        if (m->dtype)
            nb_dtype_decode_row(m->dtype, m->rows + n * bytes, row, m->K);
        else
            for (int64_t k = 0; k < m->K; k++)
                row[k] = nb_grid_value(&m->groups[n * G + (m->g_idx ? m->g_idx[k] : k / group)], m->codes[n * m->K + k]);
        for (int64_t k = 0; k < m->K; k++)
            out[n * m->K + k] = nb_bf16_from_f32(row[k]);
    }
}

/* Bytes of the three arrays of weight.h; of a small matrix more than its bf16 form, for they are padded. */
static size_t u4_bytes(size_t units, bool has_offset)
{
    return nb_align256(units * 16) + nb_align256(units * 2) * (has_offset ? 2 : 1);
}

/* Fills the host image of the stack, u4_bytes long; false when a scale does not fit f16 (the caller then takes bf16). */
static bool image_u4(const nb_matrix *part, int n_part, const nb_weight *w, uint8_t *image, uint8_t *code, float *pair)
{
    const size_t units = (size_t)(w->N * w->K / kUnit);
    uint16_t *scale = (uint16_t *)(void *)(image + nb_align256(units * 16)), *off = scale + nb_align256(units * 2) / 2;
    int64_t unit = 0;
    for (int i = 0; i < n_part; i++) {
        if (!rows_to_u4(&part[i], w->has_offset, image + unit * 16, scale + unit, off + unit, code, pair))
            return false;
        unit += part[i].N * part[i].K / kUnit;
    }
    return true;
}

static nb_status upload(nb_backend *be, nb_weight *w, const void *image, nb_error *err)
{
    nb_status st = be->op->alloc(be, w->bytes, "a weight matrix", &w->p, err);
    if (st == NB_OK)
        st = be->op->upload(be, w->p, image, w->bytes, err);
    return st == NB_OK ? be->op->sync(be, err) : st; /* the image is freed next */
}

/* Shape and layout of the stack; u4: it fits as U4 unless a scale turns out not to be f16. */
static nb_status describe(nb_backend *be, const nb_matrix *part, int n_part, nb_weight **out, bool *u4, nb_error *err)
{
    *out = NULL;
    *u4 = true;
    nb_weight *w = new (std::nothrow) nb_weight();
    if (!w)
        return nb_fail(err, NB_NO_ROOM, "%s: out of memory for a weight", be->name);
    w->K = part[0].K;
    bool offset = false;
    for (int i = 0; i < n_part; i++) {
        bool has = false;
        int zero = 0;
        *u4 = *u4 && fits_u4(&part[i], &has, &zero) && (i == 0 || (has == offset && zero == w->zero));
        offset = has;
        w->zero = zero;
        w->N += part[i].N;
    }
    w->has_offset = *u4 && offset;
    if (w->N > INT_MAX || w->K > INT_MAX) {
        delete w;
        return nb_fail(err, NB_UNSUPPORTED, "%s: a matrix of more than 2^31 rows or columns", be->name);
    }
    *out = w;
    return NB_OK;
}

nb_status nb_cuda_measure_weight(nb_backend *be, const nb_matrix *part, int n_part, nb_weight **out, nb_error *err)
{
    bool u4 = false;
    const nb_status st = describe(be, part, n_part, out, &u4, err);
    if (st == NB_OK) {
        nb_weight *w = *out;
        w->codes = u4 ? NB_CUDA_U4 : NB_CUDA_BF16;
        w->bytes = u4 ? u4_bytes((size_t)(w->N * w->K / kUnit), w->has_offset) : 2 * (size_t)(w->N * w->K);
    }
    return st;
}

nb_status nb_cuda_pack_weight(nb_backend *be, const nb_matrix *part, int n_part, nb_weight **out, nb_error *err)
{
    bool u4 = false;
    nb_weight *w = NULL;
    *out = NULL;
    nb_status st = describe(be, part, n_part, &w, &u4, err);
    if (st != NB_OK)
        return st;
    const size_t n = (size_t)(w->N * w->K), units = n / kUnit;
    const size_t as_u4 = u4 ? u4_bytes(units, w->has_offset) : 0, as_bf16 = 2 * n;
    uint8_t *image = (uint8_t *)nb_alloc_aligned(as_u4 > as_bf16 ? as_u4 : as_bf16, 1, "packing a weight", err);
    float *row = (float *)nb_alloc((size_t)w->K + 1, 2 * sizeof *row, "packing a weight", err);
    uint8_t *code = (uint8_t *)nb_alloc((size_t)w->K + 1, 1, "packing a weight", err);
    st = image && row && code ? NB_OK : NB_NO_ROOM;
    if (st == NB_OK && u4 && image_u4(part, n_part, w, image, code, row)) {
        w->codes = NB_CUDA_U4;
        w->bytes = as_u4;
    } else if (st == NB_OK) {
        int64_t at = 0;
        for (int i = 0; i < n_part; i++) {
            rows_to_bf16(&part[i], (uint16_t *)(void *)image + at, row);
            at += part[i].N * part[i].K;
        }
        w->codes = NB_CUDA_BF16;
        w->bytes = as_bf16;
    }
    if (st == NB_OK)
        st = upload(be, w, image, err);
    free(image);
    free(row);
    free(code);
    if (st != NB_OK) {
        nb_cuda_release_weight(be, w);
        return st;
    }
    if (w->codes == NB_CUDA_U4) {
        w->scale = (const uint16_t *)(const void *)((const uint8_t *)w->p + nb_align256(units * 16));
        w->offset = w->scale + nb_align256(units * 2) / 2;
    }
    *out = w;
    return NB_OK;
}

void nb_cuda_release_weight(nb_backend *be, nb_weight *w)
{
    if (!w)
        return;
    be->op->release(be, w->p);
    delete w;
}

size_t nb_cuda_weight_bytes(const nb_weight *w)
{
    return w->bytes;
}
