/* bench_weight.c -- random weights for `nibble bench kernels`: blocks of a number format whose
 * values are plain numbers, or codes in groups; and random operands. */
#include "api/bench_kernels.h"
#include "base/memory.h"
#include "base/random.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { kPool = 256 };

void nb_bench_weight_free(nb_bench_weight *s)
{
    free(s->rows);
    free(s->codes);
    free(s->groups);
}

void nb_bench_floats(float *x, int64_t n, uint64_t seed)
{
    enum { kBits = 12, kDrawn = 1 << kBits, kEach = 64 / kBits };
    float drawn[kDrawn];
    nb_rng g;
    nb_rng_seed(&g, seed);
    for (int i = 0; i < kDrawn; i++)
        drawn[i] = nb_rng_normal(&g);
    for (int64_t i = 0; i < n; i += kEach) {
        uint64_t r = nb_rng_u64(&g);
        for (int e = 0; e < kEach && i + e < n; e++, r >>= kBits)
            x[i + e] = drawn[r % kDrawn];
    }
}

void nb_bench_bf16(uint16_t *x, int64_t n, uint64_t seed)
{
    nb_rng g;
    nb_rng_seed(&g, seed);
    for (int64_t i = 0; i < n; i += 4) {
        uint64_t r = nb_rng_u64(&g);
        for (int e = 0; e < 4 && i + e < n; e++, r >>= 16)
            x[i + e] = (uint16_t)((r & 0x807f) | 0x3f80);
    }
}

/* Normals encoded, where the format is written: its scales are then such as models have. */
static nb_status encode_pool(const nb_dtype *t, uint8_t *pool, nb_error *err)
{
    const int64_t n = (int64_t)kPool * t->block;
    float *value = nb_alloc((size_t)n, sizeof *value, "random values", err);
    if (!value)
        return NB_NO_ROOM;
    nb_bench_floats(value, n, 1);
    t->encode(value, pool, kPool);
    free(value);
    return NB_OK;
}

/* Else blocks of random bytes, drawn until every value is a plain number: not NaN, not huge, not
 * all 0. */
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
        st = t->encode ? encode_pool(t, pool, err) : draw_pool(t, &g, pool, err);
    for (int64_t i = 0; i < n_block && st == NB_OK; i++)
        memcpy(s->rows + (size_t)(i * t->bytes),
               pool + (size_t)(nb_rng_u64(&g) % kPool) * (size_t)t->bytes, (size_t)t->bytes);
    free(pool);
    s->m = (nb_matrix){.N = N, .K = K, .dtype = t, .rows = s->rows};
    return st;
}

/* "int4", "int4g128", "int4g128sym": codes of so many bits in groups of so many inputs (none: the
 * row), with a zero for each or, sym, the middle code for all. */
typedef struct integers {
    int bits, group;
    bool sym;
} integers;

static bool integer_kind(const char *kind, integers *out)
{
    enum { kMostGroup = 65536 };
    *out = (integers){.bits = 0};
    if (strncmp(kind, "int", 3) != 0 || kind[3] < '2' || kind[3] > '8')
        return false;
    out->bits = kind[3] - '0';
    kind += 4;
    if (*kind == 'g') {
        char *end = NULL;
        const long g = kind[1] >= '1' && kind[1] <= '9' ? strtol(kind + 1, &end, 10) : 0;
        if (g < 1 || g > kMostGroup)
            return false;
        out->group = (int)g;
        kind = end;
    }
    out->sym = strcmp(kind, "sym") == 0;
    return out->sym || !*kind;
}

static nb_status draw_codes(integers as, int64_t N, int64_t K, nb_bench_weight *s, nb_error *err)
{
    nb_rng g;
    const int64_t width = as.group ? as.group : K, G = (K + width - 1) / width;
    const int drop = 8 - as.bits;
    s->codes = nb_alloc((size_t)N, (size_t)K, "random codes", err);
    s->groups = nb_alloc((size_t)(N * G), sizeof *s->groups, "random groups", err);
    if (!s->codes || !s->groups)
        return NB_NO_ROOM;
    nb_rng_seed(&g, 1);
    for (int64_t i = 0; i < N * K; i += 8) {
        uint64_t r = nb_rng_u64(&g);
        for (int e = 0; e < 8 && i + e < N * K; e++, r >>= 8)
            s->codes[i + e] = (uint8_t)((r & 0xff) >> drop);
    }
    for (int64_t i = 0; i < N * G; i++) { /* steps of 2^-14: exact in f16 */
        const float scale = (float)(1 + nb_rng_u64(&g) % 1000) * 0x1p-14f;
        const uint64_t zero = as.sym ? 1u << (as.bits - 1) : nb_rng_u64(&g) >> (64 - as.bits);
        s->groups[i] = (nb_group){.scale = scale, .zero = (float)zero};
    }
    s->m = (nb_matrix){
        .N = N, .K = K, .codes = s->codes, .groups = s->groups, .bits = as.bits, .group = as.group};
    return NB_OK;
}

/* Kinds that the command line knows and no row of dtype serves yet: 5, not "unknown". */
static bool reserved(const char *kind)
{
    return strcmp(kind, "fp8") == 0 || strcmp(kind, "ternary") == 0;
}

nb_status nb_bench_kind_check(const char *kind, nb_error *err)
{
    integers as;
    const nb_dtype *t = nb_dtype_by_name(kind);
    if (t ? t->decode != NULL : integer_kind(kind, &as))
        return NB_OK;
    const nb_status st =
        t ? nb_fail(err, NB_UNSUPPORTED, "--kind %s holds whole numbers, not weights", t->name)
        : reserved(kind) ? nb_fail(err, NB_UNSUPPORTED, "--kind %s is not there yet", kind)
                         : nb_fail(err, NB_USAGE, "--kind %.40s is no number format", kind);
    nb_hint(err, "q4_0, nf4, mxfp4, bf16, int4g128, int4g128sym, ...; nibble doctor --features "
                 "lists them");
    return st;
}

nb_status nb_bench_weight_draw(const char *kind, int64_t N, int64_t K, nb_bench_weight *s,
                               nb_error *err)
{
    integers as;
    const nb_dtype *t = nb_dtype_by_name(kind);
    *s = (nb_bench_weight){.rows = NULL};
    const nb_status st = nb_bench_kind_check(kind, err);
    if (st != NB_OK)
        return st;
    if (t)
        return draw_rows(t, N, K, s, err);
    (void)integer_kind(kind, &as);
    return draw_codes(as, N, K, s, err);
}
