/* kv.c -- the names of the cache's types; a table of pages in order. */
#include "backend/kv.h"
#include "base/nearest.h"

#include "base/memory.h"

#include <stdlib.h>
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

nb_status nb_kv_in_order(nb_backend *be, nb_kv *kv, int32_t **table, nb_error *err)
{
    const size_t n = (size_t)kv->n_seq * (size_t)kv->seq_pages;
    int32_t *host = nb_alloc(n, sizeof *host, "a table of pages", err);
    *table = NULL;
    if (!host)
        return NB_NO_ROOM;
    for (size_t i = 0; i < n; i++)
        host[i] = (int32_t)i;
    nb_status st =
        be->op->alloc(be, n * sizeof *host, "the cache's table of pages", (void **)table, err);
    if (st == NB_OK)
        st = be->op->upload(be, *table, host, n * sizeof *host, err);
    if (st == NB_OK)
        st = be->op->sync(be, err);
    kv->page = *table;
    free(host);
    return st;
}
