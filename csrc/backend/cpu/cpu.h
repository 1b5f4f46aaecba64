/* cpu.h -- the CPU backend: its state, the levels of instruction sets, and its ops.
 *
 * Three levels, each a superset of the one before; the sources of an op are compiled once per level
 * (vec.h) and the best level the machine has is picked once, at open:
 *
 *   scalar   what every x86-64 (or any other machine) has
 *   avx2     AVX2, FMA, F16C
 *   avx512   AVX-512 F, BW, DQ, VL and VNNI (Ice Lake, Zen 4 and later)
 *
 * and beside them single bits: BF16 (vdpbf16ps), AMX (tiles of bf16). The environment variable
 * NIBBLE_ISA=scalar | avx2 | avx512 caps the level, so that tests can reach every row on one
 * machine; `avx512` leaves BF16 and AMX out, `amx` (or nothing) caps nothing.
 *
 * Memory is the host's heap and ops run in the caller: nothing is ever in flight. Threads are the
 * backend's own pool; an op is one or two jobs of it. Work is cut by output tiles only, so bits do
 * not depend on the number of threads. */
#ifndef NB_BACKEND_CPU_CPU_H
#define NB_BACKEND_CPU_CPU_H

#include "backend/backend.h"
#include "base/pool.h"

enum { /* bits of nb_cpu.isa */
       NB_ISA_AVX2 = 1,
       NB_ISA_AVX512 = 2,
       NB_ISA_BF16 = 4,
       NB_ISA_AMX = 8 /* the tiles are there and the kernel let us use them */
};

struct nb_cpu_kernels;

typedef struct nb_cpu {
    nb_backend base;
    uint32_t isa;                     /* NB_ISA_* this backend may use */
    const struct nb_cpu_kernels *run; /* the ops of the level, kernels.h */
    nb_pool *pool;                    /* n_thread threads */
} nb_cpu;

static inline const nb_cpu *nb_cpu_of(const nb_backend *be)
{
    return (const nb_cpu *)be; /* base is its first member */
}

/* Opens it; o may be NULL. NB_NO_ROOM when there is no memory, NB_USAGE when NIBBLE_ISA holds
 * another word. */
nb_status nb_backend_cpu_open(const nb_backend_options *o, nb_backend **out,
                              nb_error *err) NB_CHECKED;

/* What this machine has, capped by NIBBLE_ISA; the same on every call. */
nb_status nb_cpu_detect(uint32_t *isa, nb_error *err) NB_CHECKED;

/* ---- weights and inference ---- */
nb_status nb_cpu_pack_weight(nb_backend *be, const nb_matrix *part, int n_part, nb_weight **out,
                             nb_error *err);
nb_status nb_cpu_measure_weight(nb_backend *be, const nb_matrix *part, int n_part, nb_weight **out,
                                nb_error *err);
void nb_cpu_release_weight(nb_backend *be, nb_weight *w);
size_t nb_cpu_weight_bytes(const nb_weight *w);

nb_status nb_cpu_embed(nb_backend *be, const nb_embed_args *a, nb_error *err);
nb_status nb_cpu_rms_norm(nb_backend *be, const nb_rms_norm_args *a, nb_error *err);
size_t nb_cpu_linear_scratch(nb_backend *be, const nb_linear_args *a);
nb_status nb_cpu_linear(nb_backend *be, const nb_linear_args *a, nb_error *err);
nb_status nb_cpu_rope_append_kv(nb_backend *be, const nb_rope_args *a, nb_error *err);
size_t nb_cpu_attention_scratch(nb_backend *be, const nb_attention_args *a);
nb_status nb_cpu_attention(nb_backend *be, const nb_attention_args *a, nb_error *err);
nb_status nb_cpu_gated_activation(nb_backend *be, const nb_gated_args *a, nb_error *err);
nb_status nb_cpu_logits_soft_cap(nb_backend *be, const nb_soft_cap_args *a, nb_error *err);
nb_status nb_cpu_argmax(nb_backend *be, const nb_argmax_args *a, nb_error *err);
size_t nb_cpu_sample_scratch(nb_backend *be, const nb_sample_args *a);
nb_status nb_cpu_sample(nb_backend *be, const nb_sample_args *a, nb_error *err);
nb_status nb_cpu_add_scaled(nb_backend *be, const nb_add_args *a, nb_error *err);
nb_status nb_cpu_route_experts(nb_backend *be, const nb_route_args *a, nb_error *err);
size_t nb_cpu_grouped_linear_scratch(nb_backend *be, const nb_grouped_args *a);
nb_status nb_cpu_grouped_linear(nb_backend *be, const nb_grouped_args *a, nb_error *err);
nb_status nb_cpu_combine_experts(nb_backend *be, const nb_combine_args *a, nb_error *err);
nb_status nb_cpu_gather_rows(nb_backend *be, const nb_gather_args *a, nb_error *err);

/* ---- quantization ---- */
nb_status nb_cpu_take_columns(nb_backend *be, const nb_take_args *a, nb_error *err);
nb_status nb_cpu_limit_rows(nb_backend *be, const nb_limit_rows_args *a, nb_error *err);
size_t nb_cpu_gram_scratch(nb_backend *be, const nb_gram_args *a);
nb_status nb_cpu_gram_accumulate(nb_backend *be, const nb_gram_args *a, nb_error *err);
size_t nb_cpu_drift_scratch(nb_backend *be, const nb_drift_args *a);
nb_status nb_cpu_drift_accumulate(nb_backend *be, const nb_drift_args *a, nb_error *err);
nb_status nb_cpu_factor(nb_backend *be, const nb_factor_args *a, nb_error *err);
nb_status nb_cpu_unfactor(nb_backend *be, const nb_unfactor_args *a, nb_error *err);
size_t nb_cpu_correct_scratch(nb_backend *be, const nb_correct_args *a);
nb_status nb_cpu_correct(nb_backend *be, const nb_correct_args *a, nb_error *err);
nb_status nb_cpu_quantize_rows(nb_backend *be, const nb_quantize_rows_args *a, nb_error *err);
size_t nb_cpu_clip_rows_scratch(nb_backend *be, const nb_clip_rows_args *a);
nb_status nb_cpu_clip_rows(nb_backend *be, const nb_clip_rows_args *a, nb_error *err);
size_t nb_cpu_scale_error_scratch(nb_backend *be, const nb_scale_error_args *a);
nb_status nb_cpu_scale_error(nb_backend *be, const nb_scale_error_args *a, nb_error *err);
size_t nb_cpu_gptq_sweep_scratch(nb_backend *be, const nb_gptq_sweep_args *a);
nb_status nb_cpu_gptq_sweep(nb_backend *be, const nb_gptq_sweep_args *a, nb_error *err);
nb_status nb_cpu_dequantize(nb_backend *be, const nb_dequantize_args *a, nb_error *err);
size_t nb_cpu_quant_error_scratch(nb_backend *be, const nb_quant_error_args *a);
nb_status nb_cpu_quant_error(nb_backend *be, const nb_quant_error_args *a, nb_error *err);

/* ---- rows of linear, for `bench kernels` ---- */
typedef struct nb_cpu_row {
    const char *name;   /* "u4_avx512" */
    const char *op;     /* "linear" */
    const char *serves; /* for a reader: codes, M, K, N */
    uint32_t isa;       /* bits it needs */
    bool fast_only;     /* rounds the activations: not under --exact */
    int64_t min_M;      /* it pays from here on */
    uint32_t codes;     /* bit set of 1 << enum nb_cpu_codes (weight.h) */
    /* y[0..M) of the tiles of a->w; scratch as nb_cpu_linear_scratch says. */
    void (*run)(const nb_cpu *cpu, const nb_linear_args *a);
    size_t (*scratch)(const nb_cpu *cpu, const nb_linear_args *a);
} nb_cpu_row;

const nb_cpu_row *nb_cpu_linear_rows(void); /* best first, ends with name NULL */
/* The row that runs for these arguments; never NULL: the scalar rows serve all. */
const nb_cpu_row *nb_cpu_linear_row(const nb_cpu *cpu, const nb_linear_args *a);

#endif
