/* kernels.c -- the table of one level; compiled once per level. */
#include "backend/cpu/level.h"

const nb_cpu_kernels NB_LEVEL_NAME(nb_cpu_kernels) = {
    .rms_norm = NB_LEVEL_NAME(nb_cpu_rms_norm),
    .rope_append_kv = NB_LEVEL_NAME(nb_cpu_rope_append_kv),
    .attention_scratch = NB_LEVEL_NAME(nb_cpu_attention_scratch),
    .attention = NB_LEVEL_NAME(nb_cpu_attention),
    .gated_activation = NB_LEVEL_NAME(nb_cpu_gated_activation),
    .logits_soft_cap = NB_LEVEL_NAME(nb_cpu_logits_soft_cap),
    .argmax = NB_LEVEL_NAME(nb_cpu_argmax),
    .product_f64 = NB_LEVEL_NAME(nb_cpu_product_f64),
    .product_f32 = NB_LEVEL_NAME(nb_cpu_product_f32),
    .axpy_f64 = NB_LEVEL_NAME(nb_cpu_axpy_f64),
    .solve_back = NB_LEVEL_NAME(nb_cpu_solve_back),
    .solve_on = NB_LEVEL_NAME(nb_cpu_solve_on),
    .round_group = NB_LEVEL_NAME(nb_cpu_round_group),
    .block_error = NB_LEVEL_NAME(nb_cpu_block_error),
};
