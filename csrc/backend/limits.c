/* limits.c -- asks the device; one that cannot say is no error. */
#include "backend/limits.h"

nb_status nb_backend_limits(nb_backend *be, nb_limits *out, nb_error *err)
{
    *out = (nb_limits){.cache_bytes = 0};
    return be->op->limits ? be->op->limits(be, out, err) : NB_OK;
}

const char *nb_backend_linear_row(nb_backend *be, const nb_linear_args *a, nb_arith *arith)
{
    *arith = NB_ARITH_F32;
    return be->op->linear_row ? be->op->linear_row(be, a, arith) : NULL;
}

const char *nb_backend_attention_row(nb_backend *be, const nb_attention_args *a, nb_arith *arith)
{
    *arith = NB_ARITH_F32;
    return be->op->attention_row ? be->op->attention_row(be, a, arith) : NULL;
}
