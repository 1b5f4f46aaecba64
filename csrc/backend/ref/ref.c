/* ref.c -- the reference backend's head: its memory is the host's heap, its stream is the caller's
 * thread.
 *
 * Nothing is ever in flight, so sync has nothing to wait for and every fault surfaces in the call
 * itself. */
#include "backend/ref/ref.h"
#include "backend/ref/ref_ops.h"
#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void ref_close(nb_backend *be)
{
    free(be);
}

static nb_status ref_alloc(nb_backend *be, size_t bytes, const char *what, void **out,
                           nb_error *err)
{
    (void)be;
    *out = nb_alloc_aligned(bytes, 1, what, err);
    return *out ? NB_OK : NB_NO_ROOM;
}

static void ref_release(nb_backend *be, void *p)
{
    (void)be;
    free(p);
}

/* Both directions: device memory is host memory. */
static nb_status ref_copy(nb_backend *be, void *dst, const void *src, size_t bytes, nb_error *err)
{
    (void)be, (void)err;
    if (bytes)
        memcpy(dst, src, bytes);
    return NB_OK;
}

static nb_status ref_zero(nb_backend *be, void *dst, size_t bytes, nb_error *err)
{
    (void)be, (void)err;
    if (bytes)
        memset(dst, 0, bytes);
    return NB_OK;
}

static nb_status ref_sync(nb_backend *be, nb_error *err)
{
    (void)be, (void)err;
    return NB_OK;
}

static const nb_backend_ops ref_ops = {
    .close = ref_close,
    .alloc = ref_alloc,
    .release = ref_release,
    .upload = ref_copy,
    .download = ref_copy,
    .zero = ref_zero,
    .sync = ref_sync,
    .pack_weight = nb_ref_pack_weight,
    .measure_weight = nb_ref_measure_weight,
    .release_weight = nb_ref_release_weight,
    .weight_bytes = nb_ref_weight_bytes,
    .embed = nb_ref_embed,
    .rms_norm = nb_ref_rms_norm,
    .linear_scratch = nb_ref_linear_scratch,
    .linear = nb_ref_linear,
    .rope_append_kv = nb_ref_rope_append_kv,
    .attention_scratch = nb_ref_attention_scratch,
    .attention = nb_ref_attention,
    .gated_activation = nb_ref_gated_activation,
    .logits_soft_cap = nb_ref_logits_soft_cap,
    .argmax = nb_ref_argmax,
    .sample_scratch = nb_ref_sample_scratch,
    .sample = nb_ref_sample,
    .add_scaled = nb_ref_add_scaled,
    .route_experts = nb_ref_route_experts,
    .grouped_linear = nb_ref_grouped_linear,
    .combine_experts = nb_ref_combine_experts,
    .gather_rows = nb_ref_gather_rows,
    .take_columns = nb_ref_take_columns,
    .limit_rows = nb_ref_limit_rows,
    .gram_scratch = nb_ref_gram_scratch,
    .gram_accumulate = nb_ref_gram_accumulate,
    .drift_scratch = nb_ref_drift_scratch,
    .drift_accumulate = nb_ref_drift_accumulate,
    .factor = nb_ref_factor,
    .unfactor = nb_ref_unfactor,
    .correct_scratch = nb_ref_correct_scratch,
    .correct = nb_ref_correct,
    .quantize_rows = nb_ref_quantize_rows,
    .clip_rows_scratch = nb_ref_clip_rows_scratch,
    .clip_rows = nb_ref_clip_rows,
    .scale_error_scratch = nb_ref_scale_error_scratch,
    .scale_error = nb_ref_scale_error,
    .gptq_sweep_scratch = nb_ref_gptq_sweep_scratch,
    .gptq_sweep = nb_ref_gptq_sweep,
    .dequantize = nb_ref_dequantize,
    .quant_error_scratch = nb_ref_quant_error_scratch,
    .quant_error = nb_ref_quant_error,
};

nb_status nb_backend_ref_open(const nb_backend_options *o, nb_backend **out, nb_error *err)
{
    (void)o;
    *out = NULL;
    nb_backend *be = nb_alloc_zero(1, sizeof *be, "the ref backend", err);
    if (!be)
        return NB_NO_ROOM;
    be->op = &ref_ops;
    snprintf(be->name, sizeof be->name, "ref");
    be->exact = true;
    be->n_thread = 1;
    be->kv_type = NB_KV_F32;
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    if (pages > 0 && page > 0)
        be->memory_bytes = (size_t)pages * (size_t)page;
    *out = be;
    return NB_OK;
}
