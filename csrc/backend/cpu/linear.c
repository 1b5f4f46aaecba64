/* linear.c -- y = x W^T: the table of rows, best first; the first that fits a call runs it.
 *
 * A row fits when the machine (as NIBBLE_ISA caps it) has its instructions, the weight's codes are
 * among those it reads, and it does not round activations under --exact. */
#include "backend/cpu/kernels.h"
#include "backend/cpu/weight.h"

#define BIT(codes) (1u << (codes))
#define BLOCKS (BIT(NB_CODES_U4) | BIT(NB_CODES_U8))
#define TABLE BIT(NB_CODES_T4)
#define EVERY (BLOCKS | TABLE | BIT(NB_CODES_F32) | BIT(NB_CODES_F16) | BIT(NB_CODES_BF16))
#define TILES (NB_ISA_AVX512 | NB_ISA_BF16 | NB_ISA_AMX)

static const nb_cpu_row rows[] = {
#if NB_CPU_X86
    {"bf16_amx", "linear", "u4, u8 in groups of 16 or 32; M from 32; any N", TILES, true, 32,
     BLOCKS, nb_cpu_linear_amx, nb_cpu_linear_amx_scratch},
    {"bf16_amx", "linear", "f16, bf16; M from 8; any N, K", TILES, true, 8,
     BIT(NB_CODES_F16) | BIT(NB_CODES_BF16), nb_cpu_linear_amx, nb_cpu_linear_amx_scratch},
    {"int8_avx512", "linear", "u4, u8 in groups of 16 or 32; any M, N", NB_ISA_AVX512, true, 1,
     BLOCKS, nb_cpu_linear_int8_avx512, nb_cpu_linear_int8_scratch},
    {"int8_avx2", "linear", "u4, u8 in groups of 16 or 32; any M, N", NB_ISA_AVX2, true, 1, BLOCKS,
     nb_cpu_linear_int8_avx2, nb_cpu_linear_int8_scratch},
#endif
    {"int8_scalar", "linear", "u4, u8 in groups of 16 or 32; any M, N", 0, true, 1, BLOCKS,
     nb_cpu_linear_int8_scalar, nb_cpu_linear_int8_scratch},
#if NB_CPU_X86
    {"bf16_avx512", "linear", "bf16; M from 3; any N, K", NB_ISA_AVX512 | NB_ISA_BF16, true, 3,
     BIT(NB_CODES_BF16), nb_cpu_linear_bf16_avx512, nb_cpu_linear_bf16_scratch},
    {"f32_avx512", "linear", "t4; M from 9; any N", NB_ISA_AVX512, false, 9, TABLE,
     nb_cpu_linear_f32_avx512, nb_cpu_linear_f32_scratch},
    {"f32_table_avx512", "linear", "t4; any M, N", NB_ISA_AVX512, false, 1, TABLE,
     nb_cpu_linear_table_avx512, nb_cpu_linear_f32_scratch},
    {"f32_avx512", "linear", "all codes; any M, N, K", NB_ISA_AVX512, false, 1, EVERY,
     nb_cpu_linear_f32_avx512, nb_cpu_linear_f32_scratch},
    {"f32_avx2", "linear", "t4; M from 9; any N", NB_ISA_AVX2, false, 9, TABLE,
     nb_cpu_linear_f32_avx2, nb_cpu_linear_f32_scratch},
    {"f32_table_avx2", "linear", "t4; any M, N", NB_ISA_AVX2, false, 1, TABLE,
     nb_cpu_linear_table_avx2, nb_cpu_linear_f32_scratch},
    {"f32_avx2", "linear", "all codes; any M, N, K", NB_ISA_AVX2, false, 1, EVERY,
     nb_cpu_linear_f32_avx2, nb_cpu_linear_f32_scratch},
#endif
    {"f32_table_scalar", "linear", "t4; any M, N", 0, false, 1, TABLE, nb_cpu_linear_table_scalar,
     nb_cpu_linear_f32_scratch},
    {"f32_scalar", "linear", "all codes; any M, N, K", 0, false, 1, EVERY, nb_cpu_linear_f32_scalar,
     nb_cpu_linear_f32_scratch},
    {0},
};

const nb_cpu_row *nb_cpu_linear_rows(void)
{
    return rows;
}

const nb_cpu_row *nb_cpu_linear_row(const nb_cpu *cpu, const nb_linear_args *a)
{
    const nb_cpu_row *row = rows;
    while ((row->isa & ~cpu->isa) || (row->fast_only && cpu->base.exact) || a->M < row->min_M ||
           !(row->codes & BIT(a->w->codes)))
        row++; /* ends at f32_scalar, which serves all */
    return row;
}

size_t nb_cpu_linear_f32_scratch(const nb_cpu *cpu, const nb_linear_args *a)
{
    return (size_t)cpu->base.n_thread * (size_t)a->M * 2 * NB_TILE * sizeof(float);
}

size_t nb_cpu_linear_bf16_scratch(const nb_cpu *cpu, const nb_linear_args *a)
{
    const size_t pairs = ((size_t)a->w->K + 1) / 2;
    return (size_t)a->M * pairs * sizeof(uint32_t) + nb_cpu_linear_f32_scratch(cpu, a);
}

size_t nb_cpu_linear_int8_scratch(const nb_cpu *cpu, const nb_linear_args *a)
{
    (void)cpu;
    const size_t K = (size_t)a->w->K, G = K / NB_BLOCK, U = K / (size_t)a->w->unit;
    return (size_t)a->M * (K + G * sizeof(float) + U * (sizeof(float) + sizeof(int32_t)));
}

/* Grows with M whichever rows lie between, so that a plan for the largest M serves all below. */
size_t nb_cpu_linear_scratch(nb_backend *be, const nb_linear_args *a)
{
    const nb_cpu *cpu = nb_cpu_of(be);
    size_t most = 0;
    for (const nb_cpu_row *row = rows; row->name; row++) {
        const bool fits = !(row->isa & ~cpu->isa) && !(row->fast_only && be->exact) &&
                          a->M >= row->min_M && (row->codes & BIT(a->w->codes));
        const size_t n = fits ? row->scratch(cpu, a) : 0;
        most = n > most ? n : most;
        if (fits && row->min_M <= 1)
            break;
    }
    return most;
}

nb_status nb_cpu_linear(nb_backend *be, const nb_linear_args *a, nb_error *err)
{
    (void)err;
    const nb_cpu *cpu = nb_cpu_of(be);
    if (a->M > 0 && a->w->N > 0)
        nb_cpu_linear_row(cpu, a)->run(cpu, a);
    return NB_OK;
}
