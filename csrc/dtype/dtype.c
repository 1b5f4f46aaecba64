/* dtype.c -- the table of number formats and its lookups. A lookup walks some forty rows: done once
 * a tensor. */
#include "dtype/rows.h"

#include <string.h>
#include <strings.h>

const nb_dtype *const nb_dtypes[] = {
    &nb_dtype_f32,
    &nb_dtype_f16,
    &nb_dtype_bf16,
    &nb_dtype_f64,
    &nb_dtype_f8_e4m3,
    &nb_dtype_f8_e5m2,
    &nb_dtype_q4_0,
    &nb_dtype_q4_1,
    &nb_dtype_q5_0,
    &nb_dtype_q5_1,
    &nb_dtype_q8_0,
    &nb_dtype_q2_k,
    &nb_dtype_q3_k,
    &nb_dtype_q4_k,
    &nb_dtype_q5_k,
    &nb_dtype_q6_k,
    &nb_dtype_iq2_xxs,
    &nb_dtype_iq2_xs,
    &nb_dtype_iq2_s,
    &nb_dtype_iq3_xxs,
    &nb_dtype_iq3_s,
    &nb_dtype_iq1_s,
    &nb_dtype_iq1_m,
    &nb_dtype_iq4_nl,
    &nb_dtype_iq4_xs,
    &nb_dtype_tq1_0,
    &nb_dtype_tq2_0,
    &nb_dtype_q1_0,
    &nb_dtype_q2_0,
    &nb_dtype_mxfp4,
    &nb_dtype_nvfp4,
    &nb_dtype_bool,
    &nb_dtype_i8,
    &nb_dtype_u8,
    &nb_dtype_i16,
    &nb_dtype_u16,
    &nb_dtype_i32,
    &nb_dtype_u32,
    &nb_dtype_i64,
    &nb_dtype_u64,
    NULL,
};

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
