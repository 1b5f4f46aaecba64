/* limits.c -- a read loop and a multiply-add loop. */
#include "api/limits.h"
#include "base/clock.h"
#include "base/memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#define WIDE __attribute__((target_clones("avx512f", "avx2,fma", "default")))
#else
#define WIDE
#endif

/* Four independent sums, so that the adds do not wait for each other. */
WIDE static uint64_t sum_words(const uint64_t *p, size_t n)
{
    uint64_t s[32] = {0}, all = 0;
    for (size_t i = 0; i + 32 <= n; i += 32)
        for (int j = 0; j < 32; j++)
            s[j] += p[i + (size_t)j];
    for (int j = 0; j < 32; j++)
        all += s[j];
    return all;
}

double nb_limit_read_gb_per_s(int n_thread)
{
    const size_t n = (size_t)256 << 20;
    uint64_t *p = nb_alloc_aligned(n, 1, "the bandwidth probe", NULL), sink = 0;
    if (!p)
        return 0.0;
    memset(p, 1, n);
    double best = 0.0;
    const size_t words = n / sizeof *p, part = words / (size_t)n_thread / 32 * 32;
    for (int pass = 0; pass < 5; pass++) {
        const int64_t t = nb_clock_ns();
#pragma omp parallel for num_threads(n_thread) schedule(static) reduction(+ : sink)
        for (int i = 0; i < n_thread; i++)
            sink += sum_words(p + (size_t)i * part, part);
        const double gb = (double)(part * (size_t)n_thread * sizeof *p) / (double)(nb_clock_ns() - t);
        best = gb > best ? gb : best;
    }
    best = sink == 1 ? 0.0 : best; /* keeps the sums alive */
    free(p);
    return best;
}

WIDE static float fma_loop(int64_t n, float a)
{
    float s[192]; /* 12 vectors of 16: two FMA units of latency 4 need 8 chains */
    float all = 0.0f;
    for (int j = 0; j < 192; j++)
        s[j] = (float)j;
    for (int64_t i = 0; i < n; i++)
        for (int j = 0; j < 192; j++)
            s[j] = __builtin_fmaf(s[j], a, 1e-9f);
    for (int j = 0; j < 192; j++)
        all += s[j];
    return all;
}

double nb_limit_fma_flop_per_s(int n_thread)
{
    enum { kSteps = 1 << 20 };
    double best = 0.0;
    float sink = 0.0f;
    for (int pass = 0; pass < 3; pass++) {
        const int64_t t = nb_clock_ns();
#pragma omp parallel for num_threads(n_thread) schedule(static) reduction(+ : sink)
        for (int i = 0; i < n_thread; i++)
            sink += fma_loop(kSteps, 0.999f + 1e-6f * (float)i);
        const double f = 2.0 * 192.0 * kSteps * n_thread / ((double)(nb_clock_ns() - t) * 1e-9);
        best = f > best ? f : best;
    }
    return sink == 12345.0f ? 0.0 : best;
}
