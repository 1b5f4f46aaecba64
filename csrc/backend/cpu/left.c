/* left.c -- the operand as f32 rows, and which of the two it is. */
#include "backend/cpu/left.h"

#include <string.h>

static bool in_tiles(const nb_cpu *cpu)
{
#if NB_CPU_X86
    return nb_cpu_splits(cpu);
#else
    (void)cpu;
    return false;
#endif
}

int64_t nb_left_rows(const nb_backend *be, int64_t N)
{
    enum { kStep = 96, kMost = 384 }; /* pairs of panels; B is made into tiles once a call */
    const int64_t want = (N / (4 * be->n_thread) + kStep) / kStep * kStep;
    return !in_tiles(nb_cpu_of(be)) ? nb_cpu_chunk_rows(be, N) : want < kMost ? want : kMost;
}

size_t nb_left_bytes(const nb_cpu *cpu, int64_t rows, int64_t K)
{
#if NB_CPU_X86
    if (in_tiles(cpu))
        return nb_cpu_tiles_bytes(rows, K);
#endif
    (void)cpu;
    return ((size_t)(rows * nb_cpu_apart(K)) * sizeof(float) + 63) / 64 * 64;
}

nb_left nb_left_at(const nb_cpu *cpu, int64_t rows, int64_t K, void *memory)
{
    nb_left a = {.cpu = cpu, .rows = rows, .K = K};
    if (in_tiles(cpu))
        a.tiles = memory;
    else
        a.f32 = memory;
    return a;
}

void nb_left_put(const nb_left *a, int64_t k, int64_t n, int64_t M, const float *x, int64_t ldx)
{
#if NB_CPU_X86
    if (a->tiles) {
        nb_cpu_tiles_put(a, k, n, M, x, ldx);
        return;
    }
#endif
    const int64_t ld = nb_cpu_apart(a->K);
    for (int64_t m = 0; m < M; m++)
        memcpy(a->f32 + m * ld + k, x + m * ldx, (size_t)n * sizeof *x);
}

void nb_left_take(const nb_left *a, const nb_left_product *p)
{
#if NB_CPU_X86
    if (a->tiles) {
        nb_cpu_tiles_take(a, p);
        return;
    }
#endif
    a->cpu->run->product_f32(&(nb_product_f32){.c = p->c,
                                               .a = a->f32 + p->from,
                                               .b = p->b,
                                               .ldc = p->ldc,
                                               .lda = nb_cpu_apart(a->K),
                                               .ldb = p->ldb,
                                               .M = p->M,
                                               .N = p->N,
                                               .K = p->K,
                                               .b_by_rows = p->b_by_rows});
}
