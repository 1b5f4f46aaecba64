/* awq.c -- AWQ (Lin et al. 2023): the layer's inputs are scaled before this is called (scales.h),
 * then ranges are clipped where that helps the output, and values rounded to nearest. */
#include "quant/quantizer.h"

static nb_status awq_layer(const nb_quant_job *j, nb_error *err)
{
    const nb_status st = nb_quant_round(j, j->groups, j->codes, err);
    return st == NB_OK ? nb_quant_values(j, err) : st;
}

const nb_quantizer nb_quantizer_awq = {
    .name = "awq",
    .summary = "inputs scaled by their size, ranges clipped, round to nearest",
    .cost = "41 x 2 min(N, 128) K^2 + 5 N K group FLOP, 32 K^2 bytes",
    .needs = NB_NEEDS_HESSIAN,
    .input_scales = true,
    .clip = NB_CLIP_OUTPUT,
    .layer = awq_layer};
