/* scalar.c -- the 16-bit floats of base/scalar.h against a slow definition: a code's value by
 * ldexp, and the nearest code found among neighbours, even on a tie. */
#include "check.h"
#include "base/random.h"
#include "backend/kv.h"

/* A float format of 1 sign, e exponent and f fraction bits in 16. */
typedef struct format {
    int exponent_bits, fraction_bits;
    float (*value)(uint16_t h);
    uint16_t (*code)(float v);
} format;

static const format formats[] = {
    {5, 10, nb_f32_from_f16, nb_f16_from_f32},
    {8, 7, nb_f32_from_bf16, nb_bf16_from_f32},
};

/* The value of a magnitude in double; past the largest finite one it goes on as if the exponent
 * field had no end, which is where rounding to infinity is decided. */
static double slow_value(const format *f, uint32_t mag)
{
    const int bias = (1 << (f->exponent_bits - 1)) - 1;
    const int e = (int)(mag >> f->fraction_bits);
    const double frac = mag & ((1u << f->fraction_bits) - 1);
    const double one = 1u << f->fraction_bits;
    return e ? ldexp(1.0 + frac / one, e - bias) : ldexp(frac / one, 1 - bias);
}

static uint32_t infinity_of(const format *f)
{
    return ((1u << f->exponent_bits) - 1) << f->fraction_bits;
}

static void values(check *c)
{
    for (int k = 0; k < 2; k++)
        for (uint32_t h = 0; h < 65536; h++) {
            const format *f = &formats[k];
            const uint32_t mag = h & 0x7fff, inf = infinity_of(f);
            const float got = f->value((uint16_t)h);
            if (mag > inf)
                CHECK(c, isnan(got));
            else
                CHECK(c, fabs((double)got) == (mag == inf ? (double)INFINITY : slow_value(f, mag)));
            CHECK_EQ(c, signbit(got) != 0, h >> 15);
            if (mag <= inf)
                CHECK_EQ(c, f->code(got), h);
            else
                CHECK(c, isnan(f->value(f->code(got))));
        }
}

/* The nearest code by bisection over slow_value; a tie goes to the even code. */
static uint32_t slow_code(const format *f, float v)
{
    const double a = fabs((double)v);
    uint32_t lo = 0, hi = infinity_of(f);
    if (a >= slow_value(f, hi))
        return hi;
    while (hi - lo > 1) {
        const uint32_t mid = (lo + hi) / 2;
        *(slow_value(f, mid) <= a ? &lo : &hi) = mid;
    }
    const double below = a - slow_value(f, lo), above = slow_value(f, hi) - a;
    return below < above || (below == above && lo % 2 == 0) ? lo : hi;
}

static void check_code(check *c, const format *f, float v)
{
    const uint32_t sign = signbit(v) ? 0x8000u : 0u;
    CHECK_EQ(c, f->code(v), sign | slow_code(f, v));
}

static void roundings(check *c)
{
    for (int k = 0; k < 2; k++) {
        const format *f = &formats[k];
        for (uint32_t h = 0; h < infinity_of(f); h++) { /* each gap: its middle and beside it */
            const float mid = (float)((slow_value(f, h) + slow_value(f, h + 1)) / 2);
            check_code(c, f, mid);
            check_code(c, f, nextafterf(mid, 0.0f));
            check_code(c, f, nextafterf(mid, INFINITY));
            check_code(c, f, -mid);
        }
        nb_rng r;
        nb_rng_seed(&r, 1);
        for (int i = 0; i < 200000; i++) {
            const float v = nb_f32_from_bits((uint32_t)(nb_rng_u64(&r) >> 32));
            if (isnan(v))
                CHECK(c, isnan(f->value(f->code(v))) && f->code(v) >> 15 == (signbit(v) != 0));
            else
                check_code(c, f, v);
        }
        check_code(c, f, 3.4028235e38f);
        CHECK_EQ(c, f->code(INFINITY), infinity_of(f));
        CHECK_EQ(c, f->code(-INFINITY), 0x8000u | infinity_of(f));
    }
}

/* Codes and the points halfway between neighbours, which go to the even code. */
static void eight_bits(check *c)
{
    for (int i = 0; i < 127; i++) {
        const float v = nb_f32_from_e4m3((uint8_t)i), next = nb_f32_from_e4m3((uint8_t)(i + 1)),
                    half = v + (next - v) / 2;
        const double want = i < 8 ? i * 0x1p-9 : (8 + i % 8) * ldexp(1, i / 8 - 10);
        CHECK_NEAR(c, v, want, 0, "value");
        CHECK_EQ(c, nb_e4m3_from_f32(v), i);
        CHECK_EQ(c, nb_e4m3_from_f32(-v), i | 0x80);
        if (i == 126)
            break;
        CHECK_EQ(c, nb_e4m3_from_f32(half), i + i % 2);
        CHECK_EQ(c, nb_e4m3_from_f32(nextafterf(half, 0.0f)), i);
        CHECK_EQ(c, nb_e4m3_from_f32(nextafterf(half, 1e9f)), i + 1);
    }
    CHECK_EQ(c, nb_e4m3_from_f32(449.0f), 0x7e);
    CHECK_EQ(c, nb_e4m3_from_f32(-3e38f), 0xfe);
    CHECK_EQ(c, nb_e4m3_from_f32(INFINITY), 0x7f);
    CHECK_EQ(c, nb_e4m3_from_f32(NAN) & 0x7f, 0x7f);
    CHECK(c, isnan(nb_f32_from_e4m3(0x7f)) && isnan(nb_f32_from_e4m3(0xff)));
}

/* docs/FORMATS.md, "The cache": a head of 34 values, the first group up to 127, the second of
 * two. */
static void cache_of_codes(check *c)
{
    enum { kDim = 34 };
    float x[kDim] = {0};
    uint8_t raw[NB_KV_PAGE * (kDim + 4)] = {0};
    const nb_kv kv = {.type = NB_KV_Q8, .n_page = 1, .n_kv_head = 1, .head_dim = kDim};
    uint8_t *scales = raw + 64 * kDim; /* a multiple of 64; two a head */
    CHECK_EQ(c, nb_kv_bytes(&kv), sizeof raw);
    x[0] = 127.0f;
    x[1] = -1.5f; /* a tie: to the even code */
    x[2] = 2.6f;
    x[32] = 0.5f; /* scale f16(0.5 / 127) = 2064 x 2^-19 */
    x[33] = -0.25f;
    nb_kv_put(&kv, raw, kDim, x);
    const int8_t *code = (const int8_t *)raw + kDim;
    CHECK_EQ(c, nb_load_u16(scales), 0); /* the other position */
    CHECK_EQ(c, nb_load_u16(scales + 4), 0x3c00);
    CHECK_EQ(c, nb_load_u16(scales + 6), 0x1c08);
    CHECK(c, code[0] == 127 && code[1] == -2 && code[2] == 3 && code[3] == 0 && code[32] == 127 &&
                 code[33] == -64);
    CHECK_NEAR(c, nb_kv_get(&kv, raw, kDim + 33), -64 * 2064 * 0x1p-19, 0, "scale code");
    x[5] = NAN; /* its group is lost, the other is not */
    nb_kv_put(&kv, raw, kDim, x);
    CHECK(c, isnan(nb_kv_get(&kv, raw, kDim)) && isnan(nb_kv_get(&kv, raw, kDim + 31)) &&
                 code[32] == 127);
    x[5] = INFINITY;
    nb_kv_put(&kv, raw, kDim, x);
    CHECK(c, !isfinite(nb_kv_get(&kv, raw, kDim + 5)));
}

static void loads(check *c)
{
    static const uint8_t p[9] = {0xff, 1, 2, 3, 4, 5, 6, 7, 0x88};
    CHECK_EQ(c, nb_load_u16(p + 1), 0x0201);
    CHECK_EQ(c, nb_load_u32(p + 1), 0x04030201);
    CHECK(c, nb_load_u64(p + 1) == 0x8807060504030201u);
}

static const check_case cases[] = {
    {"every f16 and bf16 code has its value and comes back", values},
    {"f16 and bf16 round to nearest, ties to even, past the end to infinity", roundings},
    {"every E4M3 code has its value and comes back; ties to even, past the end to 448, infinity to "
     "NaN",
     eight_bits},
    {"a cache of 8-bit codes has the scales and codes that were worked by hand", cache_of_codes},
    {"loads are unaligned and little-endian", loads},
};
CHECK_MAIN(cases)
