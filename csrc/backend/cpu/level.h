/* level.h -- what a source compiled once per level includes: the vectors, and its own level's names
 * of the ops in kernels.h. */
#ifndef NB_BACKEND_CPU_LEVEL_H
#define NB_BACKEND_CPU_LEVEL_H

#include "backend/cpu/kernels.h"
#include "backend/cpu/vec.h"

void NB_LEVEL_NAME(nb_cpu_rms_norm)(const nb_cpu *cpu, const nb_rms_norm_args *a);
void NB_LEVEL_NAME(nb_cpu_rope_append_kv)(const nb_cpu *cpu, const nb_rope_args *a);
size_t NB_LEVEL_NAME(nb_cpu_attention_scratch)(const nb_cpu *cpu, const nb_attention_args *a);
void NB_LEVEL_NAME(nb_cpu_attention)(const nb_cpu *cpu, const nb_attention_args *a);
void NB_LEVEL_NAME(nb_cpu_gated_activation)(const nb_cpu *cpu, const nb_gated_args *a);
void NB_LEVEL_NAME(nb_cpu_logits_soft_cap)(const nb_cpu *cpu, const nb_soft_cap_args *a);
void NB_LEVEL_NAME(nb_cpu_argmax)(const nb_cpu *cpu, const nb_argmax_args *a);
void NB_LEVEL_NAME(nb_cpu_product_f64)(const nb_product_f64 *p);
void NB_LEVEL_NAME(nb_cpu_product_f32)(const nb_product_f32 *p);
void NB_LEVEL_NAME(nb_cpu_axpy_f64)(double *y, const double *x, double s, int64_t n);
void NB_LEVEL_NAME(nb_cpu_round_group)(const nb_grid *g, const nb_group *p, const float *w,
                                       int64_t n, uint8_t *code);
void NB_LEVEL_NAME(nb_cpu_solve_back)(double *x, int64_t ldx, int64_t M, const double *r,
                                      int64_t ldr, int64_t n);
void NB_LEVEL_NAME(nb_cpu_solve_on)(double *x, int64_t ldx, int64_t M, const double *r, int64_t ldr,
                                    int64_t n);
void NB_LEVEL_NAME(nb_cpu_block_error)(const double *d, const double *h, int64_t ldh, int64_t n,
                                       double *e);

#endif
