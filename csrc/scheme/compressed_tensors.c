/* compressed_tensors.c -- compressed-tensors checkpoints (llm-compressor, vLLM), whole numbers of
 * 2, 3, 4 and 8 bits. q is signed, -2^(b-1) .. 2^(b-1) - 1:
 *
 *   pack-quantized   NAME.weight_packed      I32 [N, ceil(K b / 32)]   a row is the bit stream
 *                                            (bitstream.h) of q + 2^(b-1) along K
 *                    NAME.weight_scale       F16 [N, G]                (any float is read)
 *                    NAME.weight_shape       I64 [2]                   N, K
 *                    NAME.weight_zero_point  I32 [ceil(N b / 32), G]   a column is the bit stream
 *                        of zero + 2^(b-1) along N; not when symmetric
 *                    NAME.weight_g_idx       I32 [K]                   the group of each input,
 *                                            with actorder "group" only; a -1 anywhere: not used.
 *                                            compressed-tensors 0.20 does not load it any more, so
 *                                            it is only read here
 *   int-quantized    NAME.weight             I8 [N,K]  q   and   NAME.weight_scale [N,1],
 *                                            NAME.weight_zero_point I8 [N,1]: read, not written
 *
 *   value(n,k) = weight_scale[n][g] * (q - zero)
 *
 * Here codes are q + 2^(b-1) and zeros zero + 2^(b-1). Activations that the config wants quantized
 * are left as they are: weights only. */
#include "base/memory.h"
#include "scheme/bitstream.h"
#include "scheme/part.h"

#include <stdlib.h>
#include <string.h>

enum { WEIGHT, SCALE, SHAPE, ZERO, G_IDX, N_PART };
enum { PACKED, BYTES }; /* variants: pack-quantized, int-quantized */

/* ---- config ---- */

static nb_status unsupported(const nb_config *c, const char *what, const char *value)
{
    char shown[160];
    return nb_fail_at(c->err, NB_UNSUPPORTED, c->path, (int64_t)nb_json_offset(c->object),
                      "compressed-tensors with %s \"%s\" is not read", what,
                      nb_escape(shown, (int64_t)sizeof shown, value, (int64_t)strlen(value)));
}

static nb_status read_format(const nb_config *c, const char *format, int *variant)
{
    *variant = strcmp(format, "pack-quantized") == 0 ? PACKED : BYTES;
    if (*variant == PACKED || strcmp(format, "int-quantized") == 0 ||
        strcmp(format, "naive-quantized") == 0)
        return NB_OK;
    return unsupported(c, "the format", format);
}

/* The weights of one of config_groups. */
static nb_status read_weights(const nb_config *c, const char *format, nb_scheme_spec *out)
{
    const nb_config w = {c->path, nb_json_get(c->object, "weights"), c->err};
    const char *own = NULL, *type = NULL, *strategy = NULL, *order = NULL;
    int64_t bits = 0, group = 0;
    int variant = PACKED;
    bool sym = true;
    if (!w.object || nb_json_typeof(w.object) != NB_JSON_OBJECT)
        return nb_fail_at(c->err, NB_BAD_INPUT, c->path, (int64_t)nb_json_offset(c->object),
                          "quantization_config: a group without weights");
    nb_status st = nb_config_word(c, "format", NULL, format, &own);
    if (st == NB_OK)
        st = read_format(c, own, &variant);
    if (st == NB_OK)
        st = nb_config_word(&w, "type", NULL, "int", &type);
    if (st == NB_OK && strcmp(type, "int") != 0)
        st = unsupported(c, "weights of the type", type);
    if (st == NB_OK)
        st = nb_config_int(&w, "num_bits", NULL, 8, &bits);
    if (st == NB_OK)
        st = nb_config_int(&w, "group_size", NULL, -1, &group);
    if (st == NB_OK)
        st = nb_config_bool(&w, "symmetric", true, &sym);
    if (st == NB_OK)
        st = nb_config_word(&w, "strategy", NULL, group > 0 ? "group" : "channel", &strategy);
    const nb_json_node *actorder = nb_config_at(&w, "actorder", NULL);
    bool ordered = false;
    if (st == NB_OK && !(actorder && nb_json_bool(actorder, &ordered)))
        st = nb_config_word(&w, "actorder", NULL, "", &order);
    if (st != NB_OK)
        return st;
    const bool grouped = strcmp(strategy, "group") == 0;
    if (!grouped && strcmp(strategy, "channel") != 0 && strcmp(strategy, "tensor") != 0)
        return unsupported(c, "the strategy", strategy);
    st = nb_spec_check(c->path, (int64_t)nb_json_offset(w.object), "quantization_config", bits,
                       grouped ? (group > 0 ? group : -2) : 0, c->err);
    *out = (nb_scheme_spec){.scheme = nb_scheme_find("compressed-tensors"),
                            .bits = (int)bits,
                            .group = grouped && group > 0 ? (int)group : 0,
                            .sym = sym,
                            .act_order = ordered || (order && strcmp(order, "group") == 0),
                            .variant = variant,
                            .config = out->config};
    if (st == NB_OK && variant == BYTES && bits != 8)
        st = nb_fail_at(c->err, NB_UNSUPPORTED, c->path, (int64_t)nb_json_offset(w.object),
                        "compressed-tensors: a byte for codes of %lld bits is not read",
                        (long long)bits);
    return st;
}

static nb_status read_config(const char *path, const nb_json_node *qc, bool *is,
                             nb_scheme_spec *out, nb_error *err)
{
    const nb_config c = {path, qc, err};
    const char *method = NULL, *format = NULL, *sparse = NULL;
    nb_status st = nb_config_word(&c, "quant_method", "method", "", &method);
    *is = st == NB_OK &&
          (strcmp(method, "compressed-tensors") == 0 || strcmp(method, "compressed_tensors") == 0);
    if (!*is)
        return st;
    const nb_config sparsity = {path, nb_json_get(qc, "sparsity_config"), err};
    if (sparsity.object)
        st = nb_config_word(&sparsity, "format", NULL, "dense", &sparse);
    if (st == NB_OK && sparse && strcmp(sparse, "dense") != 0)
        return unsupported(&c, "the sparse format", sparse);
    if (st == NB_OK)
        st = nb_config_word(&c, "format", NULL, "pack-quantized", &format);
    const nb_json_node *groups = nb_json_get(qc, "config_groups"), *first = nb_json_first(groups);
    if (st == NB_OK && (!first || nb_json_typeof(groups) != NB_JSON_OBJECT))
        return nb_fail_at(err, NB_BAD_INPUT, path, (int64_t)nb_json_offset(qc),
                          "quantization_config: config_groups is missing or empty");
    /* all are judged here, the first one is the base */
    for (const nb_json_node *g = first; g && st == NB_OK; g = nb_json_next(g)) {
        const nb_config one = {path, g, err};
        nb_scheme_spec s = {0};
        st = read_weights(&one, format, &s);
        if (g == first)
            *out = s;
    }
    return st;
}

static nb_status write_config(const nb_scheme_spec *s, const char *const *skip, nb_text *t,
                              nb_error *err)
{
    (void)err;
    nb_text_puts(t, "{\"quant_method\":\"compressed-tensors\",\"format\":\"pack-quantized\","
                    "\"quantization_status\":\"compressed\",\"ignore\":");
    nb_names_put(t, skip);
    nb_text_printf(t,
                   ",\"config_groups\":{\"group_0\":{\"targets\":[\"Linear\"],\"weights\":{\"num_"
                   "bits\":%d,\"type\":\"int\",\"symmetric\":%s,",
                   s->bits, s->sym ? "true" : "false");
    if (s->group)
        nb_text_printf(t, "\"strategy\":\"group\",\"group_size\":%d,", s->group);
    else
        nb_text_puts(t, "\"strategy\":\"channel\",\"group_size\":null,");
    nb_text_printf(
        t,
        "\"actorder\":%s,\"dynamic\":false,\"block_structure\":null,\"observer\":\"minmax\","
        "\"observer_kwargs\":{}},"
        "\"input_activations\":null,\"output_activations\":null,\"format\":\"pack-quantized\"}},"
        "\"kv_cache_scheme\":null,\"global_compression_ratio\":null}",
        s->act_order ? "\"group\"" : "null");
    return NB_OK;
}

/* How closely a list (targets, ignore) means the module: 0 not at all, 1 as a linear, 2 by its name
 * or a pattern. */
static nb_status match(const char *path, const nb_json_node *list, const char *module, int *how,
                       nb_error *err)
{
    *how = 0;
    if (list && nb_json_typeof(list) != NB_JSON_ARRAY)
        return nb_fail_at(err, NB_BAD_INPUT, path, (int64_t)nb_json_offset(list),
                          "quantization_config: targets or ignore is no list");
    for (const nb_json_node *e = nb_json_first(list); e; e = nb_json_next(e)) {
        const char *s = NULL;
        size_t n = 0;
        bool yes = false;
        if (!nb_json_string(e, &s, &n))
            return nb_fail_at(err, NB_BAD_INPUT, path, (int64_t)nb_json_offset(e),
                              "quantization_config: targets or ignore holds what is no name");
        if (n >= 3 && memcmp(s, "re:", 3) == 0) {
            const nb_status st = nb_pattern_matches(path, e, s + 3, n - 3, module, &yes, err);
            if (st != NB_OK)
                return st;
        }
        const int now = yes || strcmp(s, module) == 0 ? 2 : strcmp(s, "Linear") == 0 ? 1 : 0;
        *how = now > *how ? now : *how;
    }
    return NB_OK;
}

static nb_status module_spec(const nb_scheme_spec *base, const char *path, const char *module,
                             bool *quantized, nb_scheme_spec *out, nb_error *err)
{
    const nb_config c = {path, base->config, err};
    const nb_json_node *best = NULL;
    const char *format = NULL;
    int how = 0, most = 0;
    nb_status st = match(path, nb_config_at(&c, "ignore", NULL), module, &how, err);
    *quantized = false;
    if (st != NB_OK || how)
        return st;
    for (const nb_json_node *g = nb_json_first(nb_json_get(base->config, "config_groups"));
         g && st == NB_OK; g = nb_json_next(g)) {
        st = match(path, nb_json_get(g, "targets"), module, &how, err);
        if (how > most) {
            most = how;
            best = g;
        }
    }
    if (st != NB_OK || !best)
        return st;
    const nb_config one = {path, best, err};
    *quantized = true;
    st = nb_config_word(&c, "format", NULL, "pack-quantized", &format);
    return st == NB_OK ? read_weights(&one, format, out) : st;
}

/* ---- shapes ---- */

static nb_status check(const nb_scheme_spec *s, const char *name, int64_t N, int64_t K,
                       nb_error *err)
{
    if (s->bits != 2 && s->bits != 3 && s->bits != 4 && s->bits != 8)
        return nb_fail(err, NB_UNSUPPORTED,
                       "compressed-tensors is written with codes of 2, 3, 4 or 8 bits, not %d",
                       s->bits);
    if (!s->group || K % s->group == 0)
        return NB_OK;
    return nb_fail(err, NB_UNSUPPORTED,
                   "%.128s is [%lld,%lld]: compressed-tensors needs inputs in whole groups of %d",
                   name, (long long)N, (long long)K, s->group);
}

static int tensors(const nb_scheme_spec *s, int64_t N, int64_t K,
                   nb_scheme_tensor out[NB_SCHEME_TENSORS])
{
    const nb_dtype *i32 = nb_dtype_by_name("i32"), *i8 = nb_dtype_by_name("i8");
    const int64_t G = nb_scheme_groups(s, K);
    const bool packed = s->variant == PACKED;
    out[WEIGHT] = packed ? (nb_scheme_tensor){"weight_packed",
                                              i32,
                                              2,
                                              {N, nb_stream_words(K, s->bits)},
                                              true,
                                              true}
                         : (nb_scheme_tensor){"weight", i8, 2, {N, K}, true, true};
    out[SCALE] = (nb_scheme_tensor){"weight_scale", nb_dtype_by_name("f16"), 2, {N, G}, true, true};
    out[SHAPE] =
        (nb_scheme_tensor){"weight_shape", nb_dtype_by_name("i64"), 1, {2, 1}, packed, false};
    out[ZERO] = packed ? (nb_scheme_tensor){"weight_zero_point",
                                            i32,
                                            2,
                                            {nb_stream_words(N, s->bits), G},
                                            !s->sym,
                                            !s->sym}
                       : (nb_scheme_tensor){"weight_zero_point", i8, 2, {N, G}, !s->sym, !s->sym};
    out[G_IDX] = (nb_scheme_tensor){"weight_g_idx",        i32, 1, {K, 1}, packed && s->act_order,
                                    packed && s->act_order};
    return N_PART;
}

/* ---- packing ---- */

static void put_zeros(const nb_scheme_spec *s, const nb_matrix *m, int64_t G, uint8_t *to)
{
    const bool packed = s->variant == PACKED;
    memset(to, 0, packed ? (size_t)(nb_stream_words(m->N, s->bits) * G) * 4 : (size_t)(m->N * G));
    for (int64_t n = 0; n < m->N; n++)
        for (int64_t g = 0; g < G; g++) {
            const unsigned z = (unsigned)m->groups[n * G + g].zero;
            if (packed)
                nb_stream_put(to + 4 * g, G, s->bits, n, z);
            else
                to[n * G + g] = (uint8_t)(z - 128);
        }
}

static nb_status pack(const nb_scheme_spec *s, const char *name, const nb_matrix *m,
                      uint8_t *const bytes[NB_SCHEME_TENSORS], int n_thread, nb_error *err)
{
    const nb_linear l = {
        .name = name, .N = m->N, .K = m->K, .G = nb_scheme_groups(s, m->K), .err = err};
    const int half = 1 << (s->bits - 1);
    nb_status st = check(s, name, m->N, m->K, err);
    if (st == NB_OK && m->g_idx && !s->act_order)
        st = nb_fail(err, NB_INTERNAL, "%.128s: an order of inputs that was not announced", name);
    if (st == NB_OK)
        st = nb_zeros_check(&l, m, s->sym ? half : 0, s->sym ? half : 2 * half - 1);
    if (st == NB_OK)
        st = nb_scales_put(&l, m, l.G, 1, bytes[SCALE]);
    if (st != NB_OK)
        return st;
    if (s->variant == PACKED) {
        const int64_t shape[2] = {m->N, m->K};
        memcpy(bytes[SHAPE], shape, sizeof shape);
    }
    if (!s->sym)
        put_zeros(s, m, l.G, bytes[ZERO]);
    if (s->variant == PACKED && s->act_order)
        nb_g_idx_put(m, bytes[G_IDX]);
    const size_t row =
        s->variant == PACKED ? (size_t)nb_stream_words(m->K, s->bits) * 4 : (size_t)m->K;
#pragma omp parallel for num_threads(n_thread) schedule(static)
    for (int64_t n = 0; n < m->N; n++) {
        uint8_t *to = bytes[WEIGHT] + (size_t)n * row;
        memset(to, 0, row);
        for (int64_t k = 0; k < m->K; k++)
            if (s->variant == PACKED)
                nb_stream_put(to, 1, s->bits, k, m->codes[n * m->K + k]);
            else
                to[k] = (uint8_t)(m->codes[n * m->K + k] - 128);
    }
    return NB_OK;
}

/* ---- unpacking ---- */

/* The shape stands in a tensor as well; the two must agree. */
static nb_status check_shape(const nb_linear *l, const nb_tensor *t)
{
    if (!t || ((int64_t)nb_load_u64(t->data) == l->N && (int64_t)nb_load_u64(t->data + 8) == l->K))
        return NB_OK;
    return nb_part_fault(l, t, "weight_shape", "says another shape than the model's numbers");
}

static bool unused(const nb_tensor *g_idx)
{
    for (int64_t k = 0; g_idx && k < g_idx->shape[0]; k++)
        if (nb_load_u32(g_idx->data + 4 * k) == 0xffffffffu)
            return true;
    return false;
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
    const bool packed = s->variant == PACKED;
    const int bits = s->bits;
    if (s->group && K % s->group)
        return nb_part_fault(&l, part[WEIGHT], packed ? "weight_packed" : "weight",
                             "its inputs are no whole groups, as compressed-tensors needs them");
    if (packed && bits == 3 && part[WEIGHT] && part[WEIGHT]->n_dim == 2 &&
        part[WEIGHT]->shape[1] != nb_stream_words(K, 3) && part[WEIGHT]->shape[1] == (K + 9) / 10)
        return nb_fail_at(err, NB_UNSUPPORTED, path, (int64_t)part[WEIGHT]->offset,
                          "tensor %.128s.weight_packed: ten codes of 3 bits a word, as old writers "
                          "had it, are not read",
                          name);
    nb_status st = nb_parts_check(&l, s, part);
    if (st == NB_OK)
        st = check_shape(&l, part[SHAPE]);
    if (st == NB_OK)
        st = nb_scales_get(&l, part[SCALE], "weight_scale", l.G, 1, groups);
    if (st == NB_OK)
        st = nb_g_idx_get(&l, unused(part[G_IDX]) ? NULL : part[G_IDX], "weight_g_idx", s->group,
                          g_idx, act_order);
    if (st != NB_OK)
        return st;
    /* symmetric: what a zero point is there for is not said */
    const uint8_t *zeros = s->sym ? NULL : part[ZERO]->data, *words = part[WEIGHT]->data;
    for (int64_t n = 0; n < N; n++)
        for (int64_t g = 0; g < l.G; g++)
            groups[n * l.G + g].zero = (float)(!zeros   ? 1u << (bits - 1)
                                               : packed ? nb_stream_get(zeros + 4 * g, l.G, bits, n)
                                                        : (uint8_t)(zeros[n * l.G + g] + 128));
    const size_t row = packed ? (size_t)nb_stream_words(K, bits) * 4 : (size_t)K;
#pragma omp parallel for num_threads(n_thread) schedule(static)
    for (int64_t n = 0; n < N; n++)
        for (int64_t k = 0; k < K; k++)
            codes[n * K + k] = packed ? (uint8_t)nb_stream_get(words + (size_t)n * row, 1, bits, k)
                                      : (uint8_t)(words[(size_t)n * row + (size_t)k] + 128);
    return NB_OK;
}

const nb_scheme nb_scheme_compressed_tensors = {
    .name = "compressed-tensors",
    .summary = "llm-compressor's pack-quantized form, vLLM's own",
    .weight = "weight_packed",
    .read_config = read_config,
    .write_config = write_config,
    .module = module_spec,
    .check = check,
    .tensors = tensors,
    .pack = pack,
    .unpack = unpack};
