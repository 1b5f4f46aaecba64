/* limits.c -- read bandwidth and multiply-add rates of this machine, with the threads and the level
 * of instructions of the backend at hand.
 *
 * Bandwidth: every thread reads its own part of one buffer of random bytes, several times the last
 * cache. Rates: products of registers. Each is the median of kRepeats. Loops are first lengthened
 * until one thread alone works kLeastNs by its own clock (wall time would count what other
 * processes take: a loop of one step could pass for long enough). About a second in all. */
#include "backend/cpu/limits.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/random.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { kRepeats = 7, kCacheTimes = 4, kPart = 1024, kMib = 1 << 20, kLeastMib = 256 };
static const int64_t kLeastNs = 10000000;

/* What n_thread threads at once do in a second. */
typedef struct race {
    nb_cpu_limit_loop *loop; /* or, when NULL, `read` over the buffer */
    uint64_t (*read)(const uint8_t *p, size_t n);
    const uint8_t *p;
    size_t part; /* bytes of a thread */
    int32_t n_thread;
} race;

static double lap(const race *r, int32_t thread, int64_t steps, float *sink)
{
    double done = 0;
    if (r->loop)
        return r->loop(r->p, steps, sink);
    for (int64_t n = 0; n < steps; n++) {
        *sink += (float)(r->read(r->p + (size_t)thread * r->part, r->part) & 1);
        done += (double)r->part;
    }
    return done;
}

static int64_t thread_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Work per second of wall time; *seen keeps the sums, so that the work has a reader. */
static double once(const race *r, int64_t steps, volatile float *seen)
{
    double done = 0;
    float sink = 0;
    const int64_t start = nb_clock_ns();
#pragma omp parallel for num_threads(r->n_thread) schedule(static) reduction(+ : done, sink)
    for (int32_t i = 0; i < r->n_thread; i++) {
        float own = 0;
        done += lap(r, i, steps, &own);
        sink += own;
    }
    const double ns = (double)(nb_clock_ns() - start);
    *seen = sink;
    return done / (ns > 0 ? ns : 1) * 1e9;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double rate(const race *r)
{
    double per_s[kRepeats];
    volatile float seen = 0;
    int64_t steps = 1;
    for (;; steps *= 2) {
        float sink = 0;
        const int64_t start = thread_ns();
        (void)lap(r, 0, steps, &sink);
        seen = sink;
        if (thread_ns() - start >= kLeastNs || steps > INT64_MAX / 4)
            break;
    }
    for (int i = 0; i < kRepeats; i++)
        per_s[i] = once(r, steps, &seen);
    qsort(per_s, kRepeats, sizeof *per_s, ascending);
    return per_s[kRepeats / 2];
}

static size_t last_cache(void)
{
    long n = -1;
#if defined(_SC_LEVEL3_CACHE_SIZE)
    n = sysconf(_SC_LEVEL3_CACHE_SIZE);
    if (n <= 0)
        n = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
    return n > 0 ? (size_t)n : (size_t)32 * kMib; /* not told: a common size */
}

static void fill(uint8_t *p, size_t part, int32_t n_thread)
{
#pragma omp parallel for num_threads(n_thread) schedule(static)
    for (int32_t i = 0; i < n_thread; i++) { /* by the thread that will read it: its memory node */
        nb_rng g;
        nb_rng_seed(&g, (uint64_t)i + 1);
        for (size_t at = 0; at < part; at += sizeof(uint64_t)) {
            const uint64_t v = nb_rng_u64(&g);
            memcpy(p + (size_t)i * part + at, &v, sizeof v);
        }
    }
}

static const nb_cpu_limit_loops *loops_for(uint32_t isa)
{
#if NB_CPU_X86
    if (isa & NB_ISA_AVX512)
        return &nb_cpu_limit_loops_avx512;
    if (isa & NB_ISA_AVX2)
        return &nb_cpu_limit_loops_avx2;
#endif
    (void)isa;
    return &nb_cpu_limit_loops_scalar;
}

nb_status nb_cpu_limits(nb_backend *be, nb_limits *out, nb_error *err)
{
    const nb_cpu *cpu = nb_cpu_of(be);
    const nb_cpu_limit_loops *loops = loops_for(cpu->isa);
    const size_t threads = (size_t)be->n_thread, eighth = be->memory_bytes / 8;
    *out = (nb_limits){.cache_bytes = last_cache()};
    size_t bytes = kCacheTimes * out->cache_bytes;
    bytes = bytes < (size_t)kLeastMib * kMib ? (size_t)kLeastMib * kMib : bytes;
    bytes =
        eighth && bytes > eighth ? eighth : bytes; /* a small machine measures its cache, partly */
    const size_t part = (bytes / threads / kPart + 1) * kPart;
    uint8_t *p = nb_alloc_aligned(threads, part, "the buffer that measures bandwidth", err);
    if (!p)
        return NB_NO_ROOM;
    fill(p, part, be->n_thread);
    race r = {.read = loops->read, .p = p, .part = part, .n_thread = be->n_thread};
    out->read_bytes_per_s = rate(&r);
    r.loop = loops->f32;
    out->flop_per_s[NB_ARITH_F32] = rate(&r);
    r.loop = loops->int8;
    out->flop_per_s[NB_ARITH_INT8] = rate(&r);
#if NB_CPU_X86
    r.loop = nb_cpu_limit_bf16_avx512;
    if (cpu->isa & NB_ISA_BF16)
        out->flop_per_s[NB_ARITH_BF16] = rate(&r);
    r.loop = nb_cpu_limit_bf16_amx;
    if (cpu->isa & NB_ISA_AMX)
        out->flop_per_s[NB_ARITH_BF16_TILES] = rate(&r);
#endif
    free(p);
    return NB_OK;
}

/* A row's name begins with what it multiplies (linear.c); the first that fits. */
const char *nb_cpu_limits_row(nb_backend *be, const nb_linear_args *a, nb_arith *arith)
{
    static const struct {
        const char *begin;
        nb_arith arith;
    } kinds[] = {{"int8", NB_ARITH_INT8},
                 {"bf16_amx", NB_ARITH_BF16_TILES},
                 {"bf16", NB_ARITH_BF16},
                 {"f32", NB_ARITH_F32}};
    const nb_cpu_row *row = nb_cpu_linear_row(nb_cpu_of(be), a);
    *arith = NB_ARITH_F32;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strncmp(row->name, kinds[i].begin, strlen(kinds[i].begin)) == 0) {
            *arith = kinds[i].arith;
            break;
        }
    return row->name;
}
