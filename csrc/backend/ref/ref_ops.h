/* ref_ops.h -- the ops of the reference backend, one file each; only ref.c collects them.
 *
 * All of them: sums and functions in double, in the natural order of the indices, each result
 * rounded once to its stored type. One thread. That is slow and obviously right, which is what the
 * other backends are measured against (tests/ops). */
#ifndef NB_BACKEND_REF_REF_OPS_H
#define NB_BACKEND_REF_REF_OPS_H

#include "backend/backend.h"

struct nb_weight {
    int64_t N, K;
    float *w; /* [N,K] decoded, ours */
};

nb_status nb_ref_pack_weight(nb_backend *be, const nb_matrix *part, int n_part, nb_weight **out,
                             nb_error *err);
nb_status nb_ref_measure_weight(nb_backend *be, const nb_matrix *part, int n_part, nb_weight **out,
                                nb_error *err);
void nb_ref_release_weight(nb_backend *be, nb_weight *w);
size_t nb_ref_weight_bytes(const nb_weight *w);

nb_status nb_ref_embed(nb_backend *be, const nb_embed_args *a, nb_error *err);
nb_status nb_ref_rms_norm(nb_backend *be, const nb_rms_norm_args *a, nb_error *err);
size_t nb_ref_linear_scratch(nb_backend *be, const nb_linear_args *a);
nb_status nb_ref_linear(nb_backend *be, const nb_linear_args *a, nb_error *err);
nb_status nb_ref_rope_append_kv(nb_backend *be, const nb_rope_args *a, nb_error *err);
size_t nb_ref_attention_scratch(nb_backend *be, const nb_attention_args *a);
nb_status nb_ref_attention(nb_backend *be, const nb_attention_args *a, nb_error *err);
nb_status nb_ref_gated_activation(nb_backend *be, const nb_gated_args *a, nb_error *err);
nb_status nb_ref_logits_soft_cap(nb_backend *be, const nb_soft_cap_args *a, nb_error *err);
nb_status nb_ref_argmax(nb_backend *be, const nb_argmax_args *a, nb_error *err);
size_t nb_ref_sample_scratch(nb_backend *be, const nb_sample_args *a);
nb_status nb_ref_sample(nb_backend *be, const nb_sample_args *a, nb_error *err);
nb_status nb_ref_add_scaled(nb_backend *be, const nb_add_args *a, nb_error *err);
nb_status nb_ref_route_experts(nb_backend *be, const nb_route_args *a, nb_error *err);
nb_status nb_ref_grouped_linear(nb_backend *be, const nb_grouped_args *a, nb_error *err);
nb_status nb_ref_combine_experts(nb_backend *be, const nb_combine_args *a, nb_error *err);
nb_status nb_ref_gather_rows(nb_backend *be, const nb_gather_args *a, nb_error *err);

nb_status nb_ref_take_columns(nb_backend *be, const nb_take_args *a, nb_error *err);
nb_status nb_ref_limit_rows(nb_backend *be, const nb_limit_rows_args *a, nb_error *err);
size_t nb_ref_gram_scratch(nb_backend *be, const nb_gram_args *a);
nb_status nb_ref_gram_accumulate(nb_backend *be, const nb_gram_args *a, nb_error *err);
size_t nb_ref_drift_scratch(nb_backend *be, const nb_drift_args *a);
nb_status nb_ref_drift_accumulate(nb_backend *be, const nb_drift_args *a, nb_error *err);
nb_status nb_ref_factor(nb_backend *be, const nb_factor_args *a, nb_error *err);
nb_status nb_ref_unfactor(nb_backend *be, const nb_unfactor_args *a, nb_error *err);
size_t nb_ref_correct_scratch(nb_backend *be, const nb_correct_args *a);
nb_status nb_ref_correct(nb_backend *be, const nb_correct_args *a, nb_error *err);
nb_status nb_ref_quantize_rows(nb_backend *be, const nb_quantize_rows_args *a, nb_error *err);
size_t nb_ref_clip_rows_scratch(nb_backend *be, const nb_clip_rows_args *a);
nb_status nb_ref_clip_rows(nb_backend *be, const nb_clip_rows_args *a, nb_error *err);
size_t nb_ref_scale_error_scratch(nb_backend *be, const nb_scale_error_args *a);
nb_status nb_ref_scale_error(nb_backend *be, const nb_scale_error_args *a, nb_error *err);
size_t nb_ref_gptq_sweep_scratch(nb_backend *be, const nb_gptq_sweep_args *a);
nb_status nb_ref_gptq_sweep(nb_backend *be, const nb_gptq_sweep_args *a, nb_error *err);
nb_status nb_ref_dequantize(nb_backend *be, const nb_dequantize_args *a, nb_error *err);
size_t nb_ref_quant_error_scratch(nb_backend *be, const nb_quant_error_args *a);
nb_status nb_ref_quant_error(nb_backend *be, const nb_quant_error_args *a, nb_error *err);

#endif
