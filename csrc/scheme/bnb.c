/* bnb.c -- bitsandbytes' checkpoints of 4 bits (nf4, fp4), blocks of 64:
 *
 *   NAME.weight               U8 [N K / 2, 1]   codes in the order of the matrix, the first of two
 *                                               in the high nibble
 *   NAME.weight.absmax        F32 [N K / 64], or with two levels of scales ("double quant") U8,
 *                             codes of nested_quant_map
 *   NAME.weight.quant_map     F32 [16]          the level of each code; as it stands, not as it
 *                                               should be
 *   NAME.weight.quant_state.bitsandbytes__nf4   U8: JSON {"quant_type", "blocksize", "dtype",
 *                                               "shape": [N, K]} and with two levels
 *                                               "nested_blocksize", "nested_dtype", "nested_offset"
 *   NAME.weight.nested_absmax F32 [ceil(N K / 64 / 256)]   NAME.weight.nested_quant_map F32 [256]
 *
 *   value(i) = quant_map[code(i)] * absmax(i / 64),   absmax(j) = nested_quant_map[absmax[j]] *
 *                                                     nested_absmax[j / 256] + nested_offset
 *
 * Blocks run over the matrix without regard to rows; where K is no multiple of 64 one would span
 * two, which bitsandbytes' own CPU decoder (0.50.2) gets wrong: refused. Written with one level of
 * scales, as they are, in F32. */
#include "base/scalar.h"
#include "scheme/part.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { WEIGHT, ABSMAX, MAP, STATE, NESTED_ABSMAX, NESTED_MAP, N_PART };
enum { PLAIN, NESTED }; /* variants: levels of scales */
enum { kBlock = 64, kNestedBlock = 256, kLevels = 16 };

/* ---- config ---- */

static nb_status unsupported(const nb_config *c, const char *what, const char *value)
{
    char shown[160];
    return nb_fail_at(c->err, NB_UNSUPPORTED, c->path, (int64_t)nb_json_offset(c->object),
                      "bitsandbytes with %s%s is not read; 4 bits, nf4 and fp4, are", what,
                      nb_escape(shown, (int64_t)sizeof shown, value, (int64_t)strlen(value)));
}

static const nb_dtype *grid_named(const char *name)
{
    return strcmp(name, "nf4") == 0 || strcmp(name, "fp4") == 0 ? nb_dtype_by_name(name) : NULL;
}

static nb_status read_config(const char *path, const nb_json_node *qc, bool *is,
                             nb_scheme_spec *out, nb_error *err)
{
    const nb_config c = {path, qc, err};
    const char *method = NULL, *type = NULL, *storage = NULL;
    bool four = false, nested = false;
    nb_status st = nb_config_word(&c, "quant_method", "method", "", &method);
    *is = st == NB_OK && strcmp(method, "bitsandbytes") == 0;
    if (!*is)
        return st;
    st = nb_config_bool(&c, "load_in_4bit", false, &four);
    if (st == NB_OK && !four)
        return unsupported(&c, "other widths than load_in_4bit", "");
    if (st == NB_OK)
        st = nb_config_word(&c, "bnb_4bit_quant_type", NULL, "fp4", &type);
    if (st == NB_OK)
        st = nb_config_bool(&c, "bnb_4bit_use_double_quant", false, &nested);
    if (st == NB_OK)
        st = nb_config_word(&c, "bnb_4bit_quant_storage", NULL, "uint8", &storage);
    if (st != NB_OK)
        return st;
    if (!grid_named(type))
        return unsupported(&c, "the type ", type);
    if (strcmp(storage, "uint8") != 0)
        return unsupported(&c, "codes stored as ", storage);
    *out = (nb_scheme_spec){.scheme = nb_scheme_find("bnb"),
                            .bits = 4,
                            .group = kBlock,
                            .sym = true,
                            .variant = nested ? NESTED : PLAIN,
                            .grid = grid_named(type)};
    return NB_OK;
}

static nb_status write_config(const nb_scheme_spec *s, const char *const *skip, nb_text *t,
                              nb_error *err)
{
    (void)err;
    nb_text_printf(t,
                   "{\"quant_method\":\"bitsandbytes\",\"load_in_4bit\":true,\"load_in_8bit\":"
                   "false,\"bnb_4bit_quant_type\":\"%s\","
                   "\"bnb_4bit_use_double_quant\":false,\"bnb_4bit_compute_dtype\":\"bfloat16\","
                   "\"bnb_4bit_quant_storage\":\"uint8\","
                   "\"llm_int8_threshold\":6.0,\"llm_int8_has_fp16_weight\":false,\"llm_int8_"
                   "enable_fp32_cpu_offload\":false,"
                   "\"llm_int8_skip_modules\":",
                   s->grid->name);
    nb_names_put(t, skip);
    nb_text_puts(t, "}");
    return NB_OK;
}

static nb_status module_spec(const nb_scheme_spec *base, const char *path, const char *module,
                             bool *quantized, nb_scheme_spec *out, nb_error *err)
{
    const nb_config c = {path, base->config, err};
    bool left_out = false;
    const nb_status st = nb_config_has_part(&c, "llm_int8_skip_modules", module, &left_out);
    (void)out;
    *quantized = !left_out;
    return st;
}

/* ---- shapes ---- */

static nb_status check(const nb_scheme_spec *s, const char *name, int64_t N, int64_t K,
                       nb_error *err)
{
    if (!s->grid || !grid_named(s->grid->name))
        return nb_fail(err, NB_UNSUPPORTED, "bitsandbytes checkpoints of 4 bits hold nf4 and fp4");
    if (s->group != kBlock || s->act_order)
        return nb_fail(err, NB_UNSUPPORTED,
                       "bitsandbytes checkpoints have blocks of %d in the order of the matrix",
                       kBlock);
    if (K % kBlock == 0)
        return NB_OK;
    return nb_fail(err, NB_UNSUPPORTED,
                   "%.128s is [%lld,%lld]: a block of %d would span two rows, which bitsandbytes "
                   "itself decodes in two ways",
                   name, (long long)N, (long long)K, kBlock);
}

static void state_of(const nb_scheme_spec *s, int64_t N, int64_t K, char text[160])
{
    snprintf(text, 160,
             "{\"quant_type\": \"%s\", \"blocksize\": %d, \"dtype\": \"float16\", \"shape\": "
             "[%lld, %lld]}",
             s->grid ? s->grid->name : "", kBlock, (long long)N, (long long)K);
}

static int tensors(const nb_scheme_spec *s, int64_t N, int64_t K,
                   nb_scheme_tensor out[NB_SCHEME_TENSORS])
{
    const nb_dtype *u8 = nb_dtype_by_name("u8"), *f32 = nb_dtype_by_name("f32");
    const int64_t n_block = (N * K + kBlock - 1) / kBlock;
    const bool nested = s->variant == NESTED, fp4 = s->grid && strcmp(s->grid->name, "fp4") == 0;
    char state[160];
    state_of(s, N, K, state);
    out[WEIGHT] = (nb_scheme_tensor){"weight", u8, 2, {(N * K + 1) / 2, 1}, true, true};
    out[ABSMAX] =
        (nb_scheme_tensor){"weight.absmax", nested ? u8 : f32, 1, {n_block, 1}, true, true};
    out[MAP] = (nb_scheme_tensor){"weight.quant_map", f32, 1, {kLevels, 1}, true, true};
    out[STATE] = (nb_scheme_tensor){fp4 ? "weight.quant_state.bitsandbytes__fp4"
                                        : "weight.quant_state.bitsandbytes__nf4",
                                    u8,
                                    1,
                                    {s->config || nested ? -1 : (int64_t)strlen(state), 1},
                                    true,
                                    true};
    out[NESTED_ABSMAX] = (nb_scheme_tensor){"weight.nested_absmax",
                                            f32,
                                            1,
                                            {(n_block + kNestedBlock - 1) / kNestedBlock, 1},
                                            false,
                                            nested};
    out[NESTED_MAP] =
        (nb_scheme_tensor){"weight.nested_quant_map", f32, 1, {256, 1}, false, nested};
    return N_PART;
}

/* ---- packing ---- */

static nb_status pack(const nb_scheme_spec *s, const char *name, const nb_matrix *m,
                      uint8_t *const bytes[NB_SCHEME_TENSORS], int n_thread, nb_error *err)
{
    char state[160];
    const nb_status st = check(s, name, m->N, m->K, err);
    if (st != NB_OK)
        return st;
    const nb_matrix levels = {.bits = 4, .table = s->grid->table};
    if (m->g_idx || m->bits != 4 || !m->table || !nb_matrix_same_table(m, &levels))
        return nb_fail(err, NB_UNSUPPORTED, "%.128s: its codes are none of %s", name,
                       s->grid->name);
    for (int64_t i = 0; i < m->N * m->K / kBlock; i++) {
        if (!isfinite(m->groups[i].scale))
            return nb_fail(err, NB_UNSUPPORTED, "%.128s: the scale of block %lld is not finite",
                           name, (long long)i);
        memcpy(bytes[ABSMAX] + 4 * i, &m->groups[i].scale, 4);
    }
    for (int i = 0; i < kLevels; i++) {
        const float v = m->table[i] + 0.0f; /* bitsandbytes writes its -0 as 0 */
        memcpy(bytes[MAP] + 4 * i, &v, 4);
    }
    state_of(s, m->N, m->K, state);
    memcpy(bytes[STATE], state, strlen(state));
#pragma omp parallel for num_threads(n_thread) schedule(static)
    for (int64_t i = 0; i < m->N * m->K / 2; i++)
        bytes[WEIGHT][i] = (uint8_t)(m->codes[2 * i] << 4 | (m->codes[2 * i + 1] & 15));
    return NB_OK;
}

/* ---- unpacking ---- */

static float f32_at(const nb_tensor *t, int64_t i)
{
    float v;
    nb_dtype_decode_row(t->dtype, t->data + i * t->dtype->bytes, &v, 1);
    return v;
}

static bool says(const nb_json_node *o, const char *key, int64_t want)
{
    int64_t v = 0;
    const nb_json_node *n = nb_json_get(o, key);
    return n && nb_json_int(n, &v) && v == want;
}

/* The words of quant_state must be those of the config and the shapes; *offset: nested_offset. */
static nb_status read_state(const nb_scheme_spec *s, const nb_linear *l, const nb_tensor *t,
                            const char *suffix, float *offset)
{
    nb_json *doc = NULL;
    nb_status st =
        nb_json_parse_at(l->path, (size_t)t->offset, (const char *)t->data, t->bytes, &doc, l->err);
    if (st != NB_OK)
        return st;
    const nb_json_node *o = nb_json_root(doc), *shape = nb_json_get(o, "shape"),
                       *n = nb_json_first(shape), *k = n ? nb_json_next(n) : NULL;
    const char *type = NULL;
    size_t len = 0;
    int64_t N = 0, K = 0;
    double from = 0.0;
    const nb_json_node *name = nb_json_get(o, "quant_type");
    if (!name || !nb_json_string(name, &type, &len) || strcmp(type, s->grid->name) != 0)
        st = nb_part_fault(l, t, suffix, "says another type than the config");
    else if (!says(o, "blocksize", kBlock) ||
             (s->variant == NESTED && !says(o, "nested_blocksize", kNestedBlock)))
        st = nb_part_fault(l, t, suffix, "says other blocks than 64, and 256 of their scales");
    else if (!n || !k || nb_json_next(k) || !nb_json_int(n, &N) || !nb_json_int(k, &K) ||
             N != l->N || K != l->K)
        st = nb_part_fault(l, t, suffix, "says another shape than the model's numbers");
    const nb_json_node *node = nb_json_get(o, "nested_offset");
    if (st == NB_OK && s->variant == NESTED &&
        (!node || !nb_json_real(node, &from) || !isfinite((float)from)))
        st = nb_part_fault(l, t, suffix, "has no nested_offset that is a number");
    *offset = (float)from;
    nb_json_close(doc);
    return st;
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
    nb_scheme_tensor want[NB_SCHEME_TENSORS];
    float offset = 0.0f;
    nb_status st = check(s, name, N, K, err);
    if (st == NB_OK)
        st = nb_parts_check(&l, s, part);
    (void)tensors(s, N, K, want);
    if (st == NB_OK)
        st = read_state(s, &l, part[STATE], want[STATE].suffix, &offset);
    if (st == NB_OK)
        st = nb_g_idx_get(&l, NULL, "g_idx", s->group, g_idx, act_order);
    for (int64_t i = 0; i < N * l.G && st == NB_OK; i++) {
        float v = 0.0f;
        /* the product is rounded before the offset is added, as bitsandbytes does it */
        if (s->variant == NESTED) {
            v = f32_at(part[NESTED_MAP], part[ABSMAX]->data[i]) *
                f32_at(part[NESTED_ABSMAX], i / kNestedBlock);
            v += offset;
        } else {
            v = f32_at(part[ABSMAX], i);
        }
        if (!isfinite(v) && !s->allow_nonfinite) {
            char what[96];
            snprintf(what, sizeof what, "the scale of block %lld is %s", (long long)i,
                     isnan(v) ? "NaN" : "infinite");
            st = nb_part_fault(&l, part[ABSMAX], want[ABSMAX].suffix, what);
        }
        groups[i] = (nb_group){.scale = v};
    }
    if (st != NB_OK)
        return st;
#pragma omp parallel for num_threads(n_thread) schedule(static)
    for (int64_t i = 0; i < N * K / 2; i++) {
        codes[2 * i] = part[WEIGHT]->data[i] >> 4;
        codes[2 * i + 1] = part[WEIGHT]->data[i] & 15;
    }
    return NB_OK;
}

static nb_status levels(const nb_scheme_spec *s, const char *path, const char *name,
                        const nb_tensor *const part[NB_SCHEME_TENSORS], float level[NB_TABLE_MOST],
                        nb_error *err)
{
    const nb_linear l = {.path = path, .name = name, .err = err};
    for (int i = 0; i < kLevels; i++) {
        level[i] = f32_at(part[MAP], i);
        if (!isfinite(level[i]))
            return nb_part_fault(&l, part[MAP], "weight.quant_map", "a level that is not finite");
    }
    for (int i = 0; i < kLevels; i++) /* as its kernels have it: they know fp4's -0 */
        level[i] = level[i] == s->grid->table[i] ? s->grid->table[i] : level[i];
    return NB_OK;
}

const nb_scheme nb_scheme_bnb = {.name = "bnb",
                                 .summary = "bitsandbytes' form of 4 bits, nf4 and fp4",
                                 .weight = "weight",
                                 .tables = true,
                                 .read_config = read_config,
                                 .write_config = write_config,
                                 .module = module_spec,
                                 .check = check,
                                 .tensors = tensors,
                                 .pack = pack,
                                 .unpack = unpack,
                                 .levels = levels};
