/* kv.c -- the names of the cache's types. */
#include "backend/kv.h"
#include "base/nearest.h"

#include <string.h>

static const char *const names[] = {[NB_KV_F32] = "f32", [NB_KV_F16] = "f16", [NB_KV_BF16] = "bf16",
                                    [NB_KV_Q8] = "q8",   [NB_KV_FP8] = "fp8", [NB_KV_TYPES] = NULL};

const char *nb_kv_type_name(nb_kv_type type)
{
    return names[type];
}

nb_status nb_kv_type_named(const char *name, nb_kv_type *out, nb_error *err)
{
    for (int i = 0; names[i]; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (nb_kv_type)i;
            return NB_OK;
        }
    nb_fail(err, NB_USAGE, "KV cache type \"%.40s\" is none of f32, f16, bf16, q8, fp8", name);
    nb_nearest_of(name, names, "--kv-type ", err);
    return NB_USAGE;
}
