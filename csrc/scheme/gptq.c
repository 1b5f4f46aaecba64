/* gptq.c -- GPTQ checkpoints (AutoGPTQ, GPTQModel), 2, 3, 4 and 8 bits:
 *
 *   NAME.qweight  I32 [K b / 32, N]  column n is the bit stream (bitstream.h) of output n's codes
 *       along K
 *   NAME.qzeros   I32 [G, N b / 32]  row g is the bit stream of group g's zeros along N
 *   NAME.scales   F16 [G, N]         (any float is read)
 *   NAME.g_idx    I32 [K]            the group of each input; k / group when absent, or when it is
 *                                    all zeros
 *
 *   value(n,k) = scales[g_idx[k]][n] * (code - zero)
 *
 * A stored zero is the zero itself in version 2 and zero - 1 in version 1. Writers name the wrong
 * version, so for symmetric weights, whose zero can only be 2^(b-1), the data decide. Without
 * symmetry the word holds, and a zero of 0 has no common form in version 1: by field it wraps to
 * 2^b - 1; GPTQModel subtracts a word of ones, whose borrow runs into the next field. We read both
 * and write neither: version 1 refuses a zero of 0. */
#include "base/memory.h"
#include "scheme/bitstream.h"
#include "scheme/part.h"

#include <stdlib.h>
#include <string.h>

enum { QWEIGHT, QZEROS, SCALES, G_IDX, N_PART };
/* variants: version 1, version 2, version 1 as GPTQModel writes it */
enum { MINUS_ONE = 1, AS_IS = 2, MINUS_ONES = 3 };
/* outputs a task; inputs that fill whole words at every width */
enum { kTile = 64, kStep = 32 };

/* ---- config ---- */

static bool names_gptqmodel(const nb_json_node *qc)
{
    const nb_json_node *v = nb_json_get(nb_json_get(qc, "meta"), "quantizer");
    const char *s = NULL;
    if (v && nb_json_typeof(v) == NB_JSON_ARRAY)
        v = nb_json_first(v);
    return nb_json_string(v, &s, NULL) && strncmp(s, "gptqmodel", 9) == 0;
}

/* bits, group_size and sym of the object, where it has them. */
static nb_status read_numbers(const nb_config *c, nb_scheme_spec *s)
{
    int64_t bits = 0, group = 0;
    nb_status st = nb_config_int(c, "bits", NULL, s->bits, &bits);
    if (st == NB_OK)
        st = nb_config_int(c, "group_size", NULL, s->group ? s->group : -1, &group);
    if (st == NB_OK && group == 0)
        group = -2; /* the row is -1 here */
    if (st == NB_OK)
        st = nb_spec_check(c->path, (int64_t)nb_json_offset(c->object), "quantization_config", bits,
                           group == -1 ? 0 : group, c->err);
    if (st == NB_OK)
        st = nb_config_bool(c, "sym", s->sym, &s->sym);
    if (st == NB_OK)
        st = nb_config_bool(c, "desc_act", s->act_order, &s->act_order);
    s->bits = (int)bits;
    s->group = group > 0 ? (int)group : 0;
    return st;
}

static nb_status read_config(const char *path, const nb_json_node *qc, bool *is,
                             nb_scheme_spec *out, nb_error *err)
{
    const nb_config c = {path, qc, err};
    const char *method = NULL, *format = NULL;
    char shown[160];
    /* quantize_config.json of old checkpoints names no method */
    nb_status st = nb_config_word(&c, "quant_method", "method",
                                  nb_json_get(qc, "desc_act") ? "gptq" : "", &method);
    *is = st == NB_OK && strcmp(method, "gptq") == 0;
    if (!*is)
        return st;
    st = nb_config_word(&c, "checkpoint_format", "format", "gptq", &format);
    *out = (nb_scheme_spec){.scheme = nb_scheme_find("gptq"), .sym = true};
    if (st == NB_OK)
        st = read_numbers(&c, out);
    if (st != NB_OK)
        return st;
    if (strcmp(format, "gptq") == 0)
        out->variant = names_gptqmodel(qc) && out->bits != 3 ? MINUS_ONES : MINUS_ONE;
    else if (strcmp(format, "gptq_v2") == 0)
        out->variant = AS_IS;
    else
        return nb_fail_at(err, NB_UNSUPPORTED, path, (int64_t)nb_json_offset(qc),
                          "GPTQ weights in the format \"%s\" are not read; gptq and gptq_v2 are",
                          nb_escape(shown, (int64_t)sizeof shown, format, (int64_t)strlen(format)));
    return NB_OK;
}

static nb_status write_config(const nb_scheme_spec *s, const char *const *skip, nb_text *t,
                              nb_error *err)
{
    const char *const version = s->variant == AS_IS ? "gptq_v2" : "gptq";
    bool head = true;
    (void)err;
    nb_text_printf(t, "{\"bits\":%d,\"group_size\":%d,\"desc_act\":%s,\"sym\":%s,", s->bits,
                   s->group ? s->group : -1, s->act_order ? "true" : "false",
                   s->sym ? "true" : "false");
    for (int i = 0; skip[i]; i++)
        head = head && strcmp(skip[i], "lm_head") != 0;
    nb_text_printf(t,
                   "\"lm_head\":%s,\"quant_method\":\"gptq\",\"method\":\"gptq\",\"checkpoint_"
                   "format\":\"%s\",\"format\":\"%s\",\"pack_dtype\":\"int32\"",
                   head ? "true" : "false", version, version);
    int n = 0;
    for (int i = 0; skip[i]; i++)
        if (strcmp(skip[i], "lm_head") != 0) {
            nb_text_puts(t, n++ ? "," : ",\"dynamic\":{");
            nb_pattern_of_name(t, "-:", skip[i]);
            nb_text_puts(t, ":{}");
        }
    nb_text_puts(t, n ? "}" : "");
    nb_text_puts(t, ",\"meta\":{\"quantizer\":[\"nibble\"]}}");
    return NB_OK;
}

/* dynamic: patterns in order, the first that matches counts: "-:PATTERN" leaves the module out,
 * "+:PATTERN" or "PATTERN" overrides. */
static nb_status module_spec(const nb_scheme_spec *base, const char *path, const char *module,
                             bool *quantized, nb_scheme_spec *out, nb_error *err)
{
    const nb_config c = {path, base->config, err};
    const nb_json_node *dynamic = nb_config_at(&c, "dynamic", NULL);
    if (dynamic && nb_json_typeof(dynamic) != NB_JSON_OBJECT)
        return nb_fail_at(err, NB_BAD_INPUT, path, (int64_t)nb_json_offset(dynamic),
                          "quantization_config: dynamic is no object");
    for (const nb_json_node *v = nb_json_first(dynamic); v; v = nb_json_next(v)) {
        size_t n = 0;
        bool yes = false;
        const char *pattern = nb_json_key(v, &n);
        const bool minus = n >= 2 && memcmp(pattern, "-:", 2) == 0,
                   plus = n >= 2 && memcmp(pattern, "+:", 2) == 0;
        const size_t skip = minus || plus ? 2 : 0;
        nb_status st = nb_pattern_matches(path, v, pattern + skip, n - skip, module, &yes, err);
        if (st != NB_OK)
            return st;
        if (!yes)
            continue;
        *quantized = !minus;
        if (minus)
            return NB_OK;
        const nb_config o = {path, v, err};
        st = read_numbers(&o, out);
        if (out->bits == 3 && out->variant == MINUS_ONES)
            out->variant = MINUS_ONE;
        return st;
    }
    bool left_out = false;
    const nb_status st = nb_config_has_part(&c, "modules_to_not_convert", module, &left_out);
    *quantized = !left_out;
    return st;
}

/* ---- shapes ---- */

static nb_status check(const nb_scheme_spec *s, const char *name, int64_t N, int64_t K,
                       nb_error *err)
{
    if (s->bits != 2 && s->bits != 3 && s->bits != 4 && s->bits != 8)
        return nb_fail(err, NB_UNSUPPORTED,
                       "GPTQ checkpoints have codes of 2, 3, 4 or 8 bits, not %d", s->bits);
    if (K * s->bits % 32 == 0 && N * s->bits % 32 == 0)
        return NB_OK;
    return nb_fail(err, NB_UNSUPPORTED,
                   "%.128s is [%lld,%lld]: codes of %d bits in GPTQ need whole words of 32 bits "
                   "along both sides",
                   name, (long long)N, (long long)K, s->bits);
}

static int tensors(const nb_scheme_spec *s, int64_t N, int64_t K,
                   nb_scheme_tensor out[NB_SCHEME_TENSORS])
{
    const nb_dtype *i32 = nb_dtype_by_name("i32");
    const int64_t G = nb_scheme_groups(s, K);
    out[QWEIGHT] =
        (nb_scheme_tensor){"qweight", i32, 2, {nb_stream_words(K, s->bits), N}, true, true};
    out[QZEROS] =
        (nb_scheme_tensor){"qzeros", i32, 2, {G, nb_stream_words(N, s->bits)}, true, true};
    out[SCALES] = (nb_scheme_tensor){"scales", nb_dtype_by_name("f16"), 2, {G, N}, true, true};
    out[G_IDX] = (nb_scheme_tensor){"g_idx", i32, 1, {K, 1}, true, false};
    return N_PART;
}

/* ---- packing ---- */

/* The words of inputs [k0, k0 + n) of output `at`: consecutive words lie N apart. */
static void pack_step(const uint8_t *codes, int n, int bits, uint8_t *words, int64_t N)
{
    uint32_t w[8] = {0};
    for (int i = 0; i < n; i++) {
        const int p = i * bits, shift = p % 32;
        w[p / 32] |= (uint32_t)codes[i] << shift;
        if (shift + bits > 32)
            w[p / 32 + 1] |= (uint32_t)codes[i] >> (32 - shift);
    }
    for (int i = 0; i < n * bits / 32; i++)
        memcpy(words + (size_t)i * (size_t)N * 4, &w[i], 4);
}

static nb_status pack(const nb_scheme_spec *s, const char *name, const nb_matrix *m,
                      uint8_t *const bytes[NB_SCHEME_TENSORS], int n_thread, nb_error *err)
{
    const nb_linear l = {
        .name = name, .N = m->N, .K = m->K, .G = nb_scheme_groups(s, m->K), .err = err};
    const int bits = s->bits, stored = s->variant == AS_IS ? 0 : 1;
    nb_status st = check(s, name, m->N, m->K, err);
    if (st == NB_OK)
        st = nb_zeros_check(&l, m, stored, (1 << bits) - 1);
    if (st == NB_OK)
        st = nb_scales_put(&l, m, 1, m->N, bytes[SCALES]);
    if (st != NB_OK)
        return st;
    const size_t row = (size_t)nb_stream_words(m->N, bits) * 4;
    memset(bytes[QZEROS], 0, (size_t)l.G * row);
    for (int64_t g = 0; g < l.G; g++)
        for (int64_t n = 0; n < m->N; n++)
            nb_stream_put(bytes[QZEROS] + (size_t)g * row, 1, bits, n,
                          (unsigned)m->groups[n * l.G + g].zero - (unsigned)stored);
    nb_g_idx_put(m, bytes[G_IDX]);
#pragma omp parallel for num_threads(n_thread) schedule(static)
    for (int64_t n0 = 0; n0 < m->N; n0 += kTile)
        for (int64_t k = 0; k < m->K; k += kStep)
            for (int64_t n = n0; n < n0 + kTile && n < m->N; n++)
                pack_step(m->codes + n * m->K + k, m->K - k < kStep ? (int)(m->K - k) : kStep, bits,
                          bytes[QWEIGHT] + (k * bits / 32 * m->N + n) * 4, m->N);
    return NB_OK;
}

/* ---- unpacking ---- */

/* Which version the zeros of symmetric weights are of; AS_IS or MINUS_ONE, or the tensor is at
 * fault. */
static nb_status version_of(const nb_linear *l, int bits, const nb_tensor *qzeros, int *version)
{
    const unsigned half = 1u << (bits - 1), first = nb_stream_get(qzeros->data, 1, bits, 0);
    *version = first == half ? AS_IS : MINUS_ONE;
    for (int64_t g = 0; g < l->G; g++)
        for (int64_t n = 0; n < l->N; n++) {
            const unsigned z = nb_stream_get(
                qzeros->data + (size_t)g * (size_t)nb_stream_words(l->N, bits) * 4, 1, bits, n);
            if (z != (*version == AS_IS ? half : half - 1))
                return nb_part_fault(
                    l, qzeros, "qzeros",
                    "holds several zeros, the config says that the weights are symmetric");
        }
    return NB_OK;
}

static uint8_t zero_of(const uint8_t *row, int64_t n, int bits, int version)
{
    static const uint32_t ones[9] = {[2] = 0x55555555u, [4] = 0x11111111u, [8] = 0x01010101u};
    const unsigned mask = (1u << bits) - 1;
    if (version == MINUS_ONES) /* no field crosses a word at these widths */
        return (uint8_t)((nb_load_u32(row + n * bits / 32 * 4) + ones[bits]) >> (n * bits % 32) &
                         mask);
    return (uint8_t)((nb_stream_get(row, 1, bits, n) + (version == MINUS_ONE)) & mask);
}

static void unpack_step(const uint8_t *words, int64_t N, int n, int bits, uint8_t *codes)
{
    /* one behind the last, so that a code that ends with its word reads no stranger's */
    uint32_t w[9] = {0};
    for (int i = 0; i < n * bits / 32; i++)
        w[i] = nb_load_u32(words + (size_t)i * (size_t)N * 4);
    for (int i = 0; i < n; i++) {
        const int p = i * bits;
        const uint64_t two = w[p / 32] | (uint64_t)w[p / 32 + 1] << 32;
        codes[i] = (uint8_t)(two >> (p % 32) & ((1u << bits) - 1));
    }
}

static nb_status unpack(const nb_scheme_spec *s, const char *path, const char *name, int64_t N,
                        int64_t K, const nb_tensor *const part[NB_SCHEME_TENSORS], uint8_t *codes,
                        nb_group *groups, int32_t *g_idx, bool *act_order, int n_thread,
                        nb_error *err)
{
    const nb_linear l = {.path = path,
                         .name = name,
                         .N = N,
                         .K = K,
                         .G = nb_scheme_groups(s, K),
                         .allow_nonfinite = s->allow_nonfinite,
                         .err = err};
    const int bits = s->bits;
    int version = s->variant;
    if (K * bits % 32 || N * bits % 32)
        return nb_part_fault(&l, part[QWEIGHT], "qweight", "its matrix does not fill whole words");
    nb_status st = nb_parts_check(&l, s, part);
    if (st == NB_OK && s->sym)
        st = version_of(&l, bits, part[QZEROS], &version);
    if (st == NB_OK)
        st = nb_scales_get(&l, part[SCALES], "scales", 1, N, groups);
    if (st == NB_OK)
        st = nb_g_idx_get(&l, part[G_IDX], "g_idx", s->group, g_idx, act_order);
    if (st != NB_OK)
        return st;
    const uint8_t *zeros = part[QZEROS]->data, *words = part[QWEIGHT]->data;
    for (int64_t g = 0; g < l.G; g++)
        for (int64_t n = 0; n < N; n++)
            groups[n * l.G + g].zero =
                zero_of(zeros + (size_t)g * (size_t)nb_stream_words(N, bits) * 4, n, bits, version);
#pragma omp parallel for num_threads(n_thread) schedule(static)
    for (int64_t n0 = 0; n0 < N; n0 += kTile)
        for (int64_t k = 0; k < K; k += kStep)
            for (int64_t n = n0; n < n0 + kTile && n < N; n++)
                unpack_step(words + (k * bits / 32 * N + n) * 4, N,
                            K - k < kStep ? (int)(K - k) : kStep, bits, codes + n * K + k);
    return NB_OK;
}

const nb_scheme nb_scheme_gptq = {.name = "gptq",
                                  .summary = "GPTQ: every loader's; zeros stored less one",
                                  .weight = "qweight",
                                  .variant = MINUS_ONE,
                                  .orders = true,
                                  .config_beside = true,
                                  .read_config = read_config,
                                  .write_config = write_config,
                                  .module = module_spec,
                                  .check = check,
                                  .tensors = tensors,
                                  .pack = pack,
                                  .unpack = unpack};
const nb_scheme nb_scheme_gptq_v2 = {
    .name = "gptq_v2",
    .summary = "GPTQ with zeros stored as they are: what asymmetric weights need",
    .weight = "qweight",
    .variant = AS_IS,
    .orders = true,
    .config_beside = true,
    .write_config = write_config,
    .module = module_spec,
    .check = check,
    .tensors = tensors,
    .pack = pack,
    .unpack = unpack};
