/* cpu.c -- opening the CPU backend: what the machine has, the table of ops, memory. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/limits.h"
#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#endif

/* ---- the machine ---- */

#if NB_CPU_X86

/* AMX by CPUID leaf 7 (EDX bit 24 tiles, 22 bf16, 25 int8); the 8 KiB of tile state must be asked
 * for once a process: arch_prctl(ARCH_REQ_XCOMP_PERM, XTILE_DATA). */
static bool has_amx(void)
{
#if defined(__linux__)
    enum { kRequestPermission = 0x1023, kTileData = 18 };
    const unsigned need = 1u << 24 | 1u << 22 | 1u << 25;
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & need) == need &&
           syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
    return false;
#endif
}

static bool has_bf16(void)
{
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 5);
}

/* __builtin_cpu_supports also asks XGETBV whether the system saves the registers. */
static uint32_t machine(void)
{
    uint32_t isa = 0;
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return 0;
    isa |= NB_ISA_AVX2; /* F16C came with or before AVX2 on every CPU that has it */
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl") ||
        !__builtin_cpu_supports("avx512vnni"))
        return isa;
    isa |= NB_ISA_AVX512;
    isa |= has_bf16() ? NB_ISA_BF16 : 0u;
    return isa | (has_amx() ? NB_ISA_AMX : 0u);
}

#else

static uint32_t machine(void)
{
    return 0;
}

#endif

nb_status nb_cpu_detect(uint32_t *isa, nb_error *err)
{
    static const struct {
        const char *name;
        uint32_t allowed;
    } caps[] = {
        {"scalar", 0}, {"avx2", NB_ISA_AVX2}, {"avx512", NB_ISA_AVX2 | NB_ISA_AVX512}, {"amx", ~0u},
        {NULL, 0},
    };
    *isa = machine();
    const char *word = getenv("NIBBLE_ISA");
    if (!word || !*word)
        return NB_OK;
    for (int i = 0; caps[i].name; i++)
        if (strcmp(word, caps[i].name) == 0) {
            *isa &= caps[i].allowed;
            return NB_OK;
        }
    char shown[160];
    nb_escape(shown, (int64_t)sizeof shown, word, (int64_t)strlen(word));
    return nb_fail(err, NB_USAGE, "NIBBLE_ISA is \"%s\", not scalar, avx2, avx512 or amx", shown);
}

/* ---- memory: the host's heap ---- */

static void cpu_close(nb_backend *be)
{
    nb_pool_close(nb_cpu_of(be)->pool);
    free(be);
}

static nb_status cpu_alloc(nb_backend *be, size_t bytes, const char *what, void **out,
                           nb_error *err)
{
    (void)be;
    *out = nb_alloc_aligned(bytes, 1, what, err);
    return *out ? NB_OK : NB_NO_ROOM;
}

static void cpu_release(nb_backend *be, void *p)
{
    (void)be;
    free(p);
}

/* Both directions: device memory is host memory. */
static nb_status cpu_copy(nb_backend *be, void *dst, const void *src, size_t bytes, nb_error *err)
{
    (void)be, (void)err;
    if (bytes)
        memcpy(dst, src, bytes);
    return NB_OK;
}

static nb_status cpu_zero(nb_backend *be, void *dst, size_t bytes, nb_error *err)
{
    (void)be, (void)err;
    if (bytes)
        memset(dst, 0, bytes);
    return NB_OK;
}

static nb_status cpu_sync(nb_backend *be, nb_error *err)
{
    (void)be, (void)err;
    return NB_OK;
}

/* ---- ops of the level ---- */

nb_status nb_cpu_rms_norm(nb_backend *be, const nb_rms_norm_args *a, nb_error *err)
{
    (void)err;
    nb_cpu_of(be)->run->rms_norm(nb_cpu_of(be), a);
    return NB_OK;
}

nb_status nb_cpu_rope_append_kv(nb_backend *be, const nb_rope_args *a, nb_error *err)
{
    (void)err;
    nb_cpu_of(be)->run->rope_append_kv(nb_cpu_of(be), a);
    return NB_OK;
}

size_t nb_cpu_attention_scratch(nb_backend *be, const nb_attention_args *a)
{
    return nb_cpu_of(be)->run->attention_scratch(nb_cpu_of(be), a);
}

nb_status nb_cpu_attention(nb_backend *be, const nb_attention_args *a, nb_error *err)
{
    (void)err;
    nb_cpu_of(be)->run->attention(nb_cpu_of(be), a);
    return NB_OK;
}

nb_status nb_cpu_gated_activation(nb_backend *be, const nb_gated_args *a, nb_error *err)
{
    (void)err;
    nb_cpu_of(be)->run->gated_activation(nb_cpu_of(be), a);
    return NB_OK;
}

nb_status nb_cpu_logits_soft_cap(nb_backend *be, const nb_soft_cap_args *a, nb_error *err)
{
    (void)err;
    nb_cpu_of(be)->run->logits_soft_cap(nb_cpu_of(be), a);
    return NB_OK;
}

nb_status nb_cpu_argmax(nb_backend *be, const nb_argmax_args *a, nb_error *err)
{
    (void)err;
    nb_cpu_of(be)->run->argmax(nb_cpu_of(be), a);
    return NB_OK;
}

static const nb_backend_ops cpu_ops = {
    .close = cpu_close,
    .alloc = cpu_alloc,
    .release = cpu_release,
    .upload = cpu_copy,
    .download = cpu_copy,
    .zero = cpu_zero,
    .sync = cpu_sync,
    .pack_weight = nb_cpu_pack_weight,
    .release_weight = nb_cpu_release_weight,
    .weight_bytes = nb_cpu_weight_bytes,
    .embed = nb_cpu_embed,
    .rms_norm = nb_cpu_rms_norm,
    .linear_scratch = nb_cpu_linear_scratch,
    .linear = nb_cpu_linear,
    .rope_append_kv = nb_cpu_rope_append_kv,
    .attention_scratch = nb_cpu_attention_scratch,
    .attention = nb_cpu_attention,
    .gated_activation = nb_cpu_gated_activation,
    .logits_soft_cap = nb_cpu_logits_soft_cap,
    .argmax = nb_cpu_argmax,
    .sample_scratch = nb_cpu_sample_scratch,
    .sample = nb_cpu_sample,
    .add_scaled = nb_cpu_add_scaled,
    .route_experts = nb_cpu_route_experts,
    .grouped_linear_scratch = nb_cpu_grouped_linear_scratch,
    .grouped_linear = nb_cpu_grouped_linear,
    .combine_experts = nb_cpu_combine_experts,
    .gather_rows = nb_cpu_gather_rows,
    .take_columns = nb_cpu_take_columns,
    .limit_rows = nb_cpu_limit_rows,
    .gram_scratch = nb_cpu_gram_scratch,
    .gram_accumulate = nb_cpu_gram_accumulate,
    .drift_scratch = nb_cpu_drift_scratch,
    .drift_accumulate = nb_cpu_drift_accumulate,
    .factor = nb_cpu_factor,
    .unfactor = nb_cpu_unfactor,
    .correct_scratch = nb_cpu_correct_scratch,
    .correct = nb_cpu_correct,
    .quantize_rows = nb_cpu_quantize_rows,
    .clip_rows_scratch = nb_cpu_clip_rows_scratch,
    .clip_rows = nb_cpu_clip_rows,
    .scale_error_scratch = nb_cpu_scale_error_scratch,
    .scale_error = nb_cpu_scale_error,
    .gptq_sweep_scratch = nb_cpu_gptq_sweep_scratch,
    .gptq_sweep = nb_cpu_gptq_sweep,
    .dequantize = nb_cpu_dequantize,
    .quant_error_scratch = nb_cpu_quant_error_scratch,
    .quant_error = nb_cpu_quant_error,
    .limits = nb_cpu_limits,
    .linear_row = nb_cpu_limits_row,
    .measure_weight = nb_cpu_measure_weight,
};

static const nb_cpu_kernels *kernels_for(uint32_t isa)
{
#if NB_CPU_X86
    if (isa & NB_ISA_AVX512)
        return &nb_cpu_kernels_avx512;
    if (isa & NB_ISA_AVX2)
        return &nb_cpu_kernels_avx2;
#endif
    (void)isa;
    return &nb_cpu_kernels_scalar;
}

nb_status nb_backend_cpu_open(const nb_backend_options *o, nb_backend **out, nb_error *err)
{
    uint32_t isa = 0;
    *out = NULL;
    const nb_status st = nb_cpu_detect(&isa, err);
    if (st != NB_OK)
        return st;
    nb_cpu *cpu = nb_alloc_zero(1, sizeof *cpu, "the cpu backend", err);
    if (!cpu)
        return NB_NO_ROOM;
    *cpu = (nb_cpu){.base = {.op = &cpu_ops,
                             .name = "cpu",
                             .exact = o && o->exact,
                             .n_thread = nb_pool_threads(o ? o->n_thread : 0)},
                    .isa = isa,
                    .run = kernels_for(isa)};
    const nb_status pool = nb_pool_open(cpu->base.n_thread, &cpu->pool, err);
    if (pool != NB_OK) {
        free(cpu);
        return pool;
    }
    cpu->base.kv_type = cpu->base.exact ? NB_KV_F32 : NB_KV_F16;
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    if (pages > 0 && page > 0)
        cpu->base.memory_bytes = (size_t)pages * (size_t)page;
    *out = &cpu->base;
    return NB_OK;
}
