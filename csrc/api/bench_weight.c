/* bench_weight.c -- random weights for `nibble bench kernels`: blocks of a number format whose
 * values are plain numbers, or codes in groups. */
#include "api/bench_kernels.h"
#include "base/memory.h"
#include "base/random.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kPool = 256 };

void nb_bench_weight_free(nb_bench_weight *s)
{
    free(s->rows);
    free(s->codes);
    free(s->groups);
}

/* Blocks of random bytes, drawn until every value is a plain number: not NaN, not huge, not all
 * 0. */
static nb_status draw_pool(const nb_dtype *t, nb_rng *g, uint8_t *pool, nb_error *err)
{
    enum { kMostDraws = 100000, kMostBlock = 1024 };
    float value[kMostBlock];
    int draws = 0;
    if (t->block > kMostBlock)
        return nb_fail(err, NB_UNSUPPORTED, "%s has blocks of %d values, too long for random ones",
                       t->name, t->block);
    for (int i = 0; i < kPool; i++) {
        uint8_t *block = pool + (size_t)i * (size_t)t->bytes;
        for (bool good = false; !good;) {
            if (++draws > kMostDraws)
                return nb_fail(err, NB_UNSUPPORTED, "%s: no plain block among %d random ones",
                               t->name, kMostDraws);
            for (int b = 0; b < t->bytes; b++)
                block[b] = (uint8_t)nb_rng_u64(g);
            t->decode(block, value, 1);
            float most = 0;
            good = true;
            for (int v = 0; v < t->block && good; v++) {
                good = fabsf(value[v]) < 1e3f; /* false for NaN */
                most = fabsf(value[v]) > most ? fabsf(value[v]) : most;
            }
            good = good && most > 1e-3f;
        }
    }
    return NB_OK;
}

static nb_status draw_rows(const nb_dtype *t, int64_t N, int64_t K, nb_bench_weight *s,
                           nb_error *err)
{
    nb_rng g;
    const int64_t row_bytes = nb_dtype_row_bytes(t, K), n_block = N * (K / t->block);
    if (row_bytes < 0)
        return nb_fail(err, NB_USAGE,
                       "rows of %" PRId64 " values are no whole number of %s blocks of %d", K,
                       t->name, t->block);
    uint8_t *pool = nb_alloc(kPool, (size_t)t->bytes, "random blocks", err);
    s->rows = nb_alloc((size_t)N, (size_t)row_bytes, "a random weight", err);
    nb_status st = pool && s->rows ? NB_OK : NB_NO_ROOM;
    nb_rng_seed(&g, 1);
    if (st == NB_OK)
        st = draw_pool(t, &g, pool, err);
    for (int64_t i = 0; i < n_block && st == NB_OK; i++)
        memcpy(s->rows + (size_t)(i * t->bytes),
               pool + (size_t)(nb_rng_u64(&g) % kPool) * (size_t)t->bytes, (size_t)t->bytes);
    free(pool);
    s->m = (nb_matrix){.N = N, .K = K, .dtype = t, .rows = s->rows};
    return st;
}

/* "int4", "int4g128": codes of so many bits in groups of so many inputs (none: the row). */
static bool integer_kind(const char *kind, int *bits, int *group)
{
    int read = 0;
    *group = 0;
    if (sscanf(kind, "int%1d%n", bits, &read) != 1 || read == 0 || *bits < 2)
        return false;
    if (!kind[read])
        return true;
    char *end = NULL;
    const long g = kind[read] == 'g' && kind[read + 1] >= '1' && kind[read + 1] <= '9'
                       ? strtol(kind + read + 1, &end, 10)
                       : 0;
    *group = (int)g;
    return g >= 1 && g <= 65536 && !*end;
}

static nb_status draw_codes(int bits, int group, int64_t N, int64_t K, nb_bench_weight *s,
                            nb_error *err)
{
    nb_rng g;
    const int64_t width = group ? group : K, G = (K + width - 1) / width;
    s->codes = nb_alloc((size_t)N, (size_t)K, "random codes", err);
    s->groups = nb_alloc((size_t)(N * G), sizeof *s->groups, "random groups", err);
    if (!s->codes || !s->groups)
        return NB_NO_ROOM;
    nb_rng_seed(&g, 1);
    for (int64_t i = 0; i < N * K; i++)
        s->codes[i] = (uint8_t)(nb_rng_u64(&g) >> (64 - bits));
    for (int64_t i = 0; i < N * G; i++) /* steps of 2^-14: exact in f16 */
        s->groups[i] = (nb_group){.scale = (float)(1 + nb_rng_u64(&g) % 1000) * 0x1p-14f,
                                  .zero = (float)(nb_rng_u64(&g) >> (64 - bits))};
    s->m = (nb_matrix){
        .N = N, .K = K, .codes = s->codes, .groups = s->groups, .bits = bits, .group = group};
    return NB_OK;
}

/* Kinds that the command line knows and no row of dtype serves yet: 5, not "unknown". */
static bool reserved(const char *kind)
{
    static const char *const names[] = {"nf4", "fp4", "mxfp4", "fp8", "ternary"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], kind) == 0)
            return true;
    return false;
}

nb_status nb_bench_kind_check(const char *kind, nb_error *err)
{
    int bits = 0, group = 0;
    const nb_dtype *t = nb_dtype_by_name(kind);
    if (t ? t->decode != NULL : integer_kind(kind, &bits, &group))
        return NB_OK;
    const nb_status st =
        t ? nb_fail(err, NB_UNSUPPORTED, "--kind %s holds whole numbers, not weights", t->name)
        : reserved(kind) ? nb_fail(err, NB_UNSUPPORTED, "--kind %s is not there yet", kind)
                         : nb_fail(err, NB_USAGE, "--kind %.40s is no number format", kind);
    nb_hint(err, "q4_0, q4_k, bf16, int4g128, ...; nibble doctor --features lists them");
    return st;
}

nb_status nb_bench_weight_draw(const char *kind, int64_t N, int64_t K, nb_bench_weight *s,
                               nb_error *err)
{
    int bits = 0, group = 0;
    const nb_dtype *t = nb_dtype_by_name(kind);
    *s = (nb_bench_weight){.rows = NULL};
    const nb_status st = nb_bench_kind_check(kind, err);
    if (st != NB_OK)
        return st;
    if (t)
        return draw_rows(t, N, K, s, err);
    (void)integer_kind(kind, &bits, &group);
    return draw_codes(bits, group, N, K, s, err);
}
