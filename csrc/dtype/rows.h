/* rows.h -- the list of number formats, in the order of the table (dtype.c): each name x is a row
 * nb_dtype_x, defined in the file of its family. The one line a new format needs. Private to this
 * folder. */
#ifndef NB_DTYPE_ROWS_H
#define NB_DTYPE_ROWS_H

#include "dtype/dtype.h"

/* clang-format off */
#define NB_DTYPE_ROWS(ROW) \
    /* float.c */   ROW(f32) ROW(f16) ROW(bf16) ROW(f64) ROW(f8_e4m3) ROW(f8_e5m2) \
    /* legacy.c */  ROW(q4_0) ROW(q4_1) ROW(q5_0) ROW(q5_1) ROW(q8_0) \
    /* kquant.c */  ROW(q2_k) ROW(q3_k) ROW(q4_k) ROW(q5_k) ROW(q6_k) \
    /* iquant.c */  ROW(iq2_xxs) ROW(iq2_xs) ROW(iq2_s) ROW(iq3_xxs) ROW(iq3_s) ROW(iq1_s) ROW(iq1_m) \
    /* iq4.c */     ROW(iq4_nl) ROW(iq4_xs) \
    /* ternary.c */ ROW(tq1_0) ROW(tq2_0) ROW(q1_0) ROW(q2_0) \
    /* mx.c */      ROW(mxfp4) ROW(nvfp4) \
    /* bnb.c */     ROW(nf4) ROW(fp4) \
    /* int.c */     ROW(bool) ROW(i8) ROW(u8) ROW(i16) ROW(u16) ROW(i32) ROW(u32) ROW(i64) ROW(u64)
/* clang-format on */

#define NB_DTYPE_DECLARE(name) extern const nb_dtype nb_dtype_##name;
NB_DTYPE_ROWS(NB_DTYPE_DECLARE)

#endif
