/* rtn.c -- round to nearest: code = clamp(round(w / scale) + zero), scale and zero from the group's
 * own values (affine scheme, Jacob et al. 2018, eq. 1), their range clipped when asked for. No
 * data; the floor others must beat. */
#include "quant/quantizer.h"

static nb_status rtn_layer(const nb_quant_job *j, nb_error *err)
{
    const nb_status st = nb_quant_round(j, j->groups, j->codes, err);
    return st == NB_OK ? nb_quant_values(j, err) : st;
}

const nb_quantizer nb_quantizer_rtn = {.name = "rtn",
                                       .summary = "round to nearest, no calibration",
                                       .cost = "O(N K) time, O(1) memory",
                                       .needs = NB_NEEDS_NOTHING,
                                       .layer = rtn_layer};
