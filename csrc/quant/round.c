/* round.c -- rounding to nearest with the ranges a job asks for: what every quantizer begins or
 * ends with. */
#include "quant/quantizer.h"

#include <math.h>

nb_status nb_quant_diagonal(nb_backend *be, const double *square, int64_t K, double *to,
                            nb_error *err)
{
    const size_t bytes = (size_t)K * sizeof *to;
    double *line = NULL; /* on the device: one copy, not K of eight bytes */
    nb_status st = nb_op_check(be, be->op->take_columns != NULL, "take_columns", err);
    if (st == NB_OK)
        st = be->op->alloc(be, bytes, "a diagonal", (void **)&line, err);
    const nb_take_args a = {.x = square,
                            .M = K,
                            .K = 1,
                            .ldx = K + 1,
                            .ldy = 1,
                            .size = (int32_t)sizeof *to,
                            .y = line};
    if (st == NB_OK)
        st = be->op->take_columns(be, &a, err);
    if (st == NB_OK)
        st = be->op->download(be, to, line, bytes, err);
    be->op->release(be, line);
    for (int64_t k = 0; k < K && st == NB_OK; k++)
        if (!isfinite(to[k]))
            st = nb_fail(err, NB_BAD_INPUT,
                         "the calibration activations of input %lld are not finite", (long long)k);
    return st;
}

nb_status nb_quant_values(const nb_quant_job *j, nb_error *err)
{
    if (!j->q)
        return NB_OK;
    const nb_dequantize_args back = {
        .codes = j->codes, .groups = j->groups, .N = j->N, .K = j->K, .grid = j->grid, .q = j->q};
    const nb_status st = nb_op_check(j->be, j->be->op->dequantize != NULL, "dequantize", err);
    return st == NB_OK ? j->be->op->dequantize(j->be, &back, err) : st;
}

static nb_status clipped(const nb_quant_job *j, nb_group *groups, uint8_t *codes, nb_error *err)
{
    nb_backend *be = j->be;
    const int64_t group = nb_grid_group(j->grid, j->K), G = (j->K + group - 1) / group,
                  n0 = j->clip_from;
    nb_clip_rows_args a = {.w = j->w + n0 * j->K,
                           .N = j->N - n0,
                           .K = j->K,
                           .grid = j->grid,
                           .n_step = 80,
                           .step = 0.01f,
                           .groups = groups + n0 * G,
                           .codes = codes ? codes + n0 * j->K : NULL};
    if (j->clip == NB_CLIP_QUANTILE)
        a.quantile = 0.999f;
    if (j->clip == NB_CLIP_OUTPUT) {
        a.h = j->h;
        a.n_step = 10;
        a.step = 0.05f;
    }
    nb_status st = nb_op_check(be, be->op->clip_rows != NULL, "clip_rows", err);
    if (st == NB_OK)
        st = be->op->alloc(be, be->op->clip_rows_scratch(be, &a) + 64, "scratch of clipping",
                           &a.scratch, err);
    if (st == NB_OK)
        st = be->op->clip_rows(be, &a, err);
    if (a.scratch && st == NB_OK) /* the op may still be under way */
        st = be->op->sync(be, err);
    be->op->release(be, a.scratch);
    return st;
}

nb_status nb_quant_round(const nb_quant_job *job, nb_group *groups, uint8_t *codes, nb_error *err)
{
    nb_quant_job copy = *job;
    const nb_quant_job *j = &copy;
    if (copy.clip == NB_CLIP_OUTPUT && !copy.h) /* nothing was seen to measure the output on */
        copy.clip = NB_CLIP_MSE;
    const int64_t plain = j->clip == NB_CLIP_NONE ? j->N : j->clip_from;
    const nb_quantize_rows_args rows = {
        .w = j->w, .N = plain, .K = j->K, .grid = j->grid, .groups = groups, .codes = codes};
    nb_status st = nb_op_check(j->be, j->be->op->quantize_rows != NULL, "quantize_rows", err);
    if (st == NB_OK && plain)
        st = j->be->op->quantize_rows(j->be, &rows, err);
    return st == NB_OK && plain < j->N ? clipped(j, groups, codes, err) : st;
}
