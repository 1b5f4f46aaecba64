/* limits.c -- the devices that can say what they can do: a table of rows. */
#include "backend/limits.h"
#include "backend/cpu/limits.h"

#include <string.h>

static const struct {
    const char *device;
    nb_status (*limits)(nb_backend *be, nb_limits *out, nb_error *err);
    const char *(*linear_row)(nb_backend *be, const nb_linear_args *a, nb_arith *arith);
} rows[] = {
    {"cpu", nb_cpu_limits, nb_cpu_limits_row},
    {NULL, NULL, NULL},
};

nb_status nb_backend_limits(nb_backend *be, nb_limits *out, nb_error *err)
{
    *out = (nb_limits){.cache_bytes = 0};
    for (int i = 0; rows[i].device; i++)
        if (strcmp(be->name, rows[i].device) == 0)
            return rows[i].limits(be, out, err);
    return NB_OK;
}

const char *nb_backend_linear_row(nb_backend *be, const nb_linear_args *a, nb_arith *arith)
{
    *arith = NB_ARITH_F32;
    for (int i = 0; rows[i].device; i++)
        if (strcmp(be->name, rows[i].device) == 0)
            return rows[i].linear_row(be, a, arith);
    return NULL;
}
