/* rows.h -- the rows of the table in dtype.c, each defined in the file of its family. Private to
 * this folder. */
#ifndef NB_DTYPE_ROWS_H
#define NB_DTYPE_ROWS_H

#include "dtype/dtype.h"

/* float.c */
extern const nb_dtype nb_dtype_f32, nb_dtype_f16, nb_dtype_bf16, nb_dtype_f64;
extern const nb_dtype nb_dtype_f8_e4m3, nb_dtype_f8_e5m2;
/* legacy.c */
extern const nb_dtype nb_dtype_q4_0, nb_dtype_q4_1, nb_dtype_q5_0, nb_dtype_q5_1, nb_dtype_q8_0;
/* kquant.c */
extern const nb_dtype nb_dtype_q2_k, nb_dtype_q3_k, nb_dtype_q4_k, nb_dtype_q5_k, nb_dtype_q6_k;
/* iquant.c */
extern const nb_dtype nb_dtype_iq2_xxs, nb_dtype_iq2_xs, nb_dtype_iq2_s;
extern const nb_dtype nb_dtype_iq3_xxs, nb_dtype_iq3_s, nb_dtype_iq1_s, nb_dtype_iq1_m;
extern const nb_dtype nb_dtype_iq4_nl, nb_dtype_iq4_xs;
/* ternary.c */
extern const nb_dtype nb_dtype_tq1_0, nb_dtype_tq2_0, nb_dtype_q1_0, nb_dtype_q2_0;
/* mx.c */
extern const nb_dtype nb_dtype_mxfp4, nb_dtype_nvfp4;
/* int.c */
extern const nb_dtype nb_dtype_bool, nb_dtype_i8, nb_dtype_u8, nb_dtype_i16, nb_dtype_u16;
extern const nb_dtype nb_dtype_i32, nb_dtype_u32, nb_dtype_i64, nb_dtype_u64;

#endif
