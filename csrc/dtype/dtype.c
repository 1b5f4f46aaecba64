/* dtype.c -- the table of number formats and its lookups. A lookup walks some forty rows: done once
 * a tensor. */
#include "dtype/rows.h"

#include <string.h>
#include <strings.h>

#define ADDRESS(name) &nb_dtype_##name,
const nb_dtype *const nb_dtypes[] = {NB_DTYPE_ROWS(ADDRESS) NULL};
#undef ADDRESS

const nb_dtype *nb_dtype_by_name(const char *name)
{
    for (const nb_dtype *const *t = nb_dtypes; *t; t++)
        if (strcasecmp((*t)->name, name) == 0)
            return *t;
    return NULL;
}

const nb_dtype *nb_dtype_by_ggml_id(int id)
{
    if (id < 0) /* -1 marks rows that GGUF does not have */
        return NULL;
    for (const nb_dtype *const *t = nb_dtypes; *t; t++)
        if ((*t)->ggml_id == id)
            return *t;
    return NULL;
}

const nb_dtype *nb_dtype_by_st_name(const char *st)
{
    for (const nb_dtype *const *t = nb_dtypes; *t; t++)
        if ((*t)->st_name && strcmp((*t)->st_name, st) == 0)
            return *t;
    return NULL;
}

int64_t nb_dtype_row_bytes(const nb_dtype *t, int64_t k)
{
    int64_t bytes;
    if (k < 0 || k % t->block != 0 || __builtin_mul_overflow(k / t->block, t->bytes, &bytes))
        return -1;
    return bytes;
}

void nb_dtype_decode_row(const nb_dtype *t, const uint8_t *src, float *dst, int64_t k)
{
    t->decode(src, dst, k / t->block);
}
