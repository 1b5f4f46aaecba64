/* rtn.c -- round to nearest: code = clamp(round(w / scale) + zero), scale and zero from the group's min and max alone
 * (affine scheme, Jacob et al. 2018, eq. 1). No data; the floor others must beat. */
#include "quant/quantizer.h"

static nb_status rtn_layer(const nb_quant_job *j, nb_error *err)
{
    const nb_quantize_rows_args rows = {.w = j->w, .N = j->N, .K = j->K, .grid = j->grid, .groups = j->groups, .codes = j->codes};
    const nb_dequantize_args back = {.codes = j->codes, .groups = j->groups, .N = j->N, .K = j->K, .grid = j->grid, .q = j->q};
    nb_status st = nb_op_check(j->be, j->be->op->quantize_rows && j->be->op->dequantize, "quantize_rows", err);
    if (st == NB_OK)
        st = j->be->op->quantize_rows(j->be, &rows, err);
    return st == NB_OK ? j->be->op->dequantize(j->be, &back, err) : st;
}

const nb_quantizer nb_quantizer_rtn = {.name = "rtn",
                                       .summary = "round to nearest, no calibration",
                                       .cost = "O(N K) time, O(1) memory",
                                       .needs = NB_NEEDS_NOTHING,
                                       .layer = rtn_layer};
