/* awq.c -- AutoAWQ's "GEMM" checkpoints, 4 bits:
 *
 *   NAME.qweight  I32 [K, N/8]   word c of row k holds the codes of outputs 8 c + {0 2 4 6 1 3 5
 *                                7}, nibble by nibble from the low end
 *   NAME.qzeros   I32 [G, N/8]   the zeros of a group in the same order, stored as they are
 *   NAME.scales   F16 [G, N]     (any float is read)
 *
 *   value(n,k) = scales[k / group][n] * (code - zero)
 *
 * The factors that AWQ multiplies a layer's inputs by are folded into its neighbours and have no
 * tensors of their own. */
#include "base/memory.h"
#include "base/scalar.h"
#include "scheme/part.h"

#include <stdlib.h>
#include <string.h>

enum { QWEIGHT, QZEROS, SCALES, N_PART };
enum {
    kBits = 4,
    kPer = 8,
    kTile = 8 /* words a task */,
    kStep = 64 /* inputs at a time, so that rows of codes stay cached */
};

static const int output_of[kPer] = {0, 2, 4, 6, 1, 3, 5, 7};

/* ---- config ---- */

static nb_status read_config(const char *path, const nb_json_node *qc, bool *is,
                             nb_scheme_spec *out, nb_error *err)
{
    const nb_config c = {path, qc, err};
    const int64_t at = (int64_t)nb_json_offset(qc);
    const char *method = NULL, *version = NULL;
    char shown[160];
    int64_t bits = 0, group = 0;
    bool zero_point = true;
    /* quant_config.json of old checkpoints names no method */
    nb_status st = nb_config_word(&c, "quant_method", "method",
                                  nb_json_get(qc, "w_bit") ? "awq" : "", &method);
    *is = st == NB_OK && strcmp(method, "awq") == 0;
    if (!*is)
        return st;
    st = nb_config_int(&c, "bits", "w_bit", 4, &bits);
    if (st == NB_OK)
        st = nb_config_int(&c, "group_size", "q_group_size", 128, &group);
    if (st == NB_OK && group == 0)
        group = -2; /* the row is -1 here */
    if (st == NB_OK)
        st = nb_spec_check(path, at, "quantization_config", bits, group == -1 ? 0 : group, err);
    if (st == NB_OK)
        st = nb_config_bool(&c, "zero_point", true, &zero_point);
    if (st == NB_OK)
        st = nb_config_word(&c, "version", "format", "gemm", &version);
    if (st != NB_OK)
        return st;
    if (bits != kBits)
        return nb_fail_at(err, NB_UNSUPPORTED, path, at,
                          "AWQ weights of %lld bits are not read; 4 are", (long long)bits);
    if (strcmp(version, "gemm") != 0 && strcmp(version, "GEMM") != 0)
        return nb_fail_at(
            err, NB_UNSUPPORTED, path, at,
            "AWQ weights of the version \"%s\" are not read; gemm is",
            nb_escape(shown, (int64_t)sizeof shown, version, (int64_t)strlen(version)));
    *out = (nb_scheme_spec){.scheme = nb_scheme_find("awq"),
                            .bits = kBits,
                            .group = group > 0 ? (int)group : 0,
                            .sym = !zero_point};
    return NB_OK;
}

static nb_status write_config(const nb_scheme_spec *s, const char *const *skip, nb_text *t,
                              nb_error *err)
{
    (void)err;
    /* zero_point even when every zero is 8: that is how readers come to look at qzeros */
    nb_text_printf(t,
                   "{\"quant_method\":\"awq\",\"bits\":4,\"group_size\":%d,\"zero_point\":true,"
                   "\"version\":\"gemm\",\"format\":\"gemm\","
                   "\"modules_to_not_convert\":",
                   s->group ? s->group : -1);
    nb_names_put(t, skip);
    nb_text_puts(t, "}");
    return NB_OK;
}

static nb_status module_spec(const nb_scheme_spec *base, const char *path, const char *module,
                             bool *quantized, nb_scheme_spec *out, nb_error *err)
{
    const nb_config c = {path, base->config, err};
    bool left_out = false;
    const nb_status st = nb_config_has_part(&c, "modules_to_not_convert", module, &left_out);
    (void)out;
    *quantized = !left_out;
    return st;
}

/* ---- shapes ---- */

static bool fits(const nb_scheme_spec *s, int64_t N, int64_t K)
{
    return N % kPer == 0 && (!s->group || K % s->group == 0);
}

static nb_status check(const nb_scheme_spec *s, const char *name, int64_t N, int64_t K,
                       nb_error *err)
{
    if (s->bits != kBits)
        return nb_fail(err, NB_UNSUPPORTED, "AWQ checkpoints have codes of 4 bits, not %d",
                       s->bits);
    if (s->act_order)
        return nb_fail(err, NB_UNSUPPORTED,
                       "AWQ checkpoints have no place for the order of inputs (--act-order)");
    if (fits(s, N, K))
        return NB_OK;
    return nb_fail(
        err, NB_UNSUPPORTED,
        "%.128s is [%lld,%lld]: AWQ needs outputs in eights and inputs in whole groups of %d", name,
        (long long)N, (long long)K, s->group);
}

static int tensors(const nb_scheme_spec *s, int64_t N, int64_t K,
                   nb_scheme_tensor out[NB_SCHEME_TENSORS])
{
    const nb_dtype *i32 = nb_dtype_by_name("i32");
    const int64_t G = nb_scheme_groups(s, K);
    out[QWEIGHT] = (nb_scheme_tensor){"qweight", i32, 2, {K, N / kPer}, true, true};
    out[QZEROS] = (nb_scheme_tensor){"qzeros", i32, 2, {G, N / kPer}, true, !s->sym};
    out[SCALES] = (nb_scheme_tensor){"scales", nb_dtype_by_name("f16"), 2, {G, N}, true, true};
    return N_PART;
}

/* ---- words ---- */

static nb_status pack(const nb_scheme_spec *s, const char *name, const nb_matrix *m,
                      uint8_t *const bytes[NB_SCHEME_TENSORS], int n_thread, nb_error *err)
{
    const nb_linear l = {
        .name = name, .N = m->N, .K = m->K, .G = nb_scheme_groups(s, m->K), .err = err};
    const int64_t words = m->N / kPer;
    nb_status st = check(s, name, m->N, m->K, err);
    if (st == NB_OK && m->g_idx)
        st = nb_fail(err, NB_UNSUPPORTED, "%.128s: AWQ has no place for an order of inputs", name);
    if (st == NB_OK)
        st = nb_zeros_check(&l, m, 0, 15);
    if (st == NB_OK)
        st = nb_scales_put(&l, m, 1, m->N, bytes[SCALES]);
    if (st != NB_OK)
        return st;
    for (int64_t g = 0; g < l.G; g++)
        for (int64_t c = 0; c < words; c++) {
            uint32_t w = 0;
            for (int i = 0; i < kPer; i++)
                w |= (uint32_t)m->groups[(kPer * c + output_of[i]) * l.G + g].zero << (kBits * i);
            memcpy(bytes[QZEROS] + (g * words + c) * 4, &w, 4);
        }
#pragma omp parallel for num_threads(n_thread) schedule(static)
    for (int64_t c0 = 0; c0 < words; c0 += kTile)
        for (int64_t k0 = 0; k0 < m->K; k0 += kStep)
            for (int64_t k = k0; k < k0 + kStep && k < m->K; k++)
                for (int64_t c = c0; c < c0 + kTile && c < words; c++) {
                    uint32_t w = 0;
                    for (int i = 0; i < kPer; i++)
                        w |= (uint32_t)m->codes[(kPer * c + output_of[i]) * m->K + k]
                             << (kBits * i);
                    memcpy(bytes[QWEIGHT] + (k * words + c) * 4, &w, 4);
                }
    return NB_OK;
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
    const int64_t words = N / kPer;
    if (!fits(s, N, K))
        return nb_part_fault(
            &l, part[QWEIGHT], "qweight",
            "its matrix has no whole groups, or no outputs in eights, as AWQ needs them");
    nb_status st = nb_parts_check(&l, s, part);
    if (st == NB_OK)
        st = nb_scales_get(&l, part[SCALES], "scales", 1, N, groups);
    if (st == NB_OK)
        st = nb_g_idx_get(&l, NULL, "g_idx", s->group, g_idx, act_order);
    if (st != NB_OK)
        return st;
    const uint8_t *zeros = part[QZEROS] ? part[QZEROS]->data : NULL, *weights = part[QWEIGHT]->data;
    for (int64_t g = 0; g < l.G; g++)
        for (int64_t c = 0; c < words; c++) {
            const uint32_t w = zeros ? nb_load_u32(zeros + (g * words + c) * 4) : 0x88888888u;
            for (int i = 0; i < kPer; i++)
                groups[(kPer * c + output_of[i]) * l.G + g].zero = (float)(w >> (kBits * i) & 15u);
        }
#pragma omp parallel for num_threads(n_thread) schedule(static)
    for (int64_t c0 = 0; c0 < words; c0 += kTile)
        for (int64_t k0 = 0; k0 < K; k0 += kStep)
            for (int64_t k = k0; k < k0 + kStep && k < K; k++)
                for (int64_t c = c0; c < c0 + kTile && c < words; c++) {
                    const uint32_t w = nb_load_u32(weights + (k * words + c) * 4);
                    for (int i = 0; i < kPer; i++)
                        codes[(kPer * c + output_of[i]) * K + k] =
                            (uint8_t)(w >> (kBits * i) & 15u);
                }
    return NB_OK;
}

const nb_scheme nb_scheme_awq = {.name = "awq",
                                 .summary = "AutoAWQ's GEMM form, 4 bits",
                                 .weight = "qweight",
                                 .read_config = read_config,
                                 .write_config = write_config,
                                 .module = module_spec,
                                 .check = check,
                                 .tensors = tensors,
                                 .pack = pack,
                                 .unpack = unpack};
