/* float.c -- one value a block: f32 f16 bf16 f64 and the two 8-bit floats.
 *
 *   f16      s eeeee ffffffffff   bias 15
 *   bf16     s eeeeeeee fffffff   bias 127: the upper half of an f32
 *   f8_e4m3  s eeee fff           bias 7, no infinity, s1111111 is NaN
 *   f8_e5m2  s eeeee ff           bias 15: the upper byte of an f16
 *
 * All decode exactly (f64: rounded once). f16 and bf16 encode to nearest even. Cost: one pass,
 * memory bound. */
#include "dtype/rows.h"
#include "base/scalar.h"

static void f32_decode(const uint8_t *src, float *dst, int64_t n)
{
    if (n > 0)
        memcpy(dst, src, (size_t)n * sizeof *dst);
}

static void f32_encode(const float *src, uint8_t *dst, int64_t n)
{
    if (n > 0)
        memcpy(dst, src, (size_t)n * sizeof *src);
}

/* nb_f32_from_f16 without branches, so that the loop vectorises: exponent and fraction moved to
 * their places in an f32 read as the value times 2^-112, subnormals included (as subnormals of
 * f32); infinity and NaN need the rest of their exponent set. */
static inline float half_value(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16, mag = (uint32_t)(h & 0x7fffu) << 13;
    const uint32_t bits = nb_f32_bits(nb_f32_from_bits(mag) * 0x1p112f);
    const uint32_t beyond = mag >= 0x0f800000u ? 0x7f800000u : 0u;
    return nb_f32_from_bits(sign | bits | beyond);
}

static void f16_decode(const uint8_t *src, float *dst, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        dst[i] = half_value(nb_load_u16(src + 2 * i));
}

static void f16_encode(const float *src, uint8_t *dst, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const uint16_t h = nb_f16_from_f32(src[i]);
        memcpy(dst + 2 * i, &h, sizeof h);
    }
}

static void bf16_decode(const uint8_t *src, float *dst, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        dst[i] = nb_f32_from_bf16(nb_load_u16(src + 2 * i));
}

static void bf16_encode(const float *src, uint8_t *dst, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const uint16_t h = nb_bf16_from_f32(src[i]);
        memcpy(dst + 2 * i, &h, sizeof h);
    }
}

static void f64_decode(const uint8_t *src, float *dst, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        double v;
        memcpy(&v, src + 8 * i, sizeof v);
        dst[i] = (float)v;
    }
}

static void f8_e4m3_decode(const uint8_t *src, float *dst, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        dst[i] = nb_f32_from_e4m3(src[i]);
}

static void f8_e5m2_decode(const uint8_t *src, float *dst, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        dst[i] = half_value((uint16_t)(src[i] << 8));
}

const nb_dtype nb_dtype_f32 = {.name = "f32",
                               .ggml_id = 0,
                               .st_name = "F32",
                               .block = 1,
                               .bytes = 4,
                               .decode = f32_decode,
                               .encode = f32_encode};
const nb_dtype nb_dtype_f16 = {.name = "f16",
                               .ggml_id = 1,
                               .file_type = 1,
                               .st_name = "F16",
                               .block = 1,
                               .bytes = 2,
                               .decode = f16_decode,
                               .encode = f16_encode};
const nb_dtype nb_dtype_bf16 = {.name = "bf16",
                                .ggml_id = 30,
                                .file_type = 32,
                                .st_name = "BF16",
                                .block = 1,
                                .bytes = 2,
                                .decode = bf16_decode,
                                .encode = bf16_encode};
const nb_dtype nb_dtype_f64 = {
    .name = "f64", .ggml_id = 28, .st_name = "F64", .block = 1, .bytes = 8, .decode = f64_decode};
const nb_dtype nb_dtype_f8_e4m3 = {.name = "f8_e4m3",
                                   .ggml_id = -1,
                                   .st_name = "F8_E4M3",
                                   .block = 1,
                                   .bytes = 1,
                                   .decode = f8_e4m3_decode};
const nb_dtype nb_dtype_f8_e5m2 = {.name = "f8_e5m2",
                                   .ggml_id = -1,
                                   .st_name = "F8_E5M2",
                                   .block = 1,
                                   .bytes = 1,
                                   .decode = f8_e5m2_decode};
