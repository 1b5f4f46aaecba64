/* through.c -- an op that linears may take in on their way (backend.h, nb_through): whether they do,
 * and the op itself where they do not. */
#include "backend/backend.h"

nb_status nb_linear_ready(nb_backend *be, nb_linear_args *a, int n, int64_t K, float *room,
                          nb_error *err)
{
    const nb_through t = a->through;
    const nb_rms_norm_args norm = {.x = a->x,
                                   .M = a->M,
                                   .K = K,
                                   .ldx = a->ldx,
                                   .ldy = K,
                                   .weight = t.norm,
                                   .eps = t.eps,
                                   .y = room};
    const nb_gated_args gated = {.gate = a->x,
                                 .up = t.up,
                                 .M = a->M,
                                 .N = K,
                                 .ld = a->ldx,
                                 .ldo = K,
                                 .act = t.act,
                                 .out = room};
    bool taken = be->op->linear_takes != NULL;
    for (int i = 0; i < n && taken; i++)
        taken = be->op->linear_takes(be, &a[i]);
    if (taken || !(t.norm || t.up))
        return NB_OK;
    for (int i = 0; i < n; i++) {
        a[i].x = room;
        a[i].ldx = K;
        a[i].through = (nb_through){.norm = NULL};
    }
    return t.norm ? be->op->rms_norm(be, &norm, err) : be->op->gated_activation(be, &gated, err);
}
