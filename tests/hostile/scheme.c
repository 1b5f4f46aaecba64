/* scheme.c -- hostile checkpoints whose linears are packed: what a quantization_config may say, and
 * what its tensors must be. Folders are written by nb_quantize, then one word of a config, of the
 * tensors' header, or one number of a tensor is changed. */
#include "check.h"
#include "file/container.h"
#include "hostile/folder.h"
#include "nibble.h"

#include <math.h>

/* gptq, asym (gptq_v2), awq, ct, ctasym: tiny-llama in groups of 32; bnb: nf4 in its groups of 64;
 * plain: as it is */
static folder here;

typedef enum place {
    CONFIG,  /* config.json */
    BESIDE,  /* quantize_config.json */
    HEADER,  /* of the tensors: `put` is as long as `find` */
    ELEMENT, /* find: the tensor; at: which of its elements of `size` bytes becomes `bits` */
} place;

typedef struct edit {
    const char *what, *model;
    place where;
    const char *find, *put;
    nb_status want;
    const char *word; /* of the sentence */
    int64_t at;
    int size;
    uint32_t bits;
} edit;

#define Q "model.layers.0.self_attn.q_proj."
#define GROUPS32 "\"group_size\":32"

static const edit edits[] = {
    /* 104 */
    {"qz-gidx below 0", "gptq", ELEMENT, Q "g_idx", NULL, NB_BAD_INPUT,
     Q "g_idx: input 5 is in group -1, there are 2", 5, 4, 0xffffffffu},
    {"qz-gidx beyond the groups", "gptq", ELEMENT, Q "g_idx", NULL, NB_BAD_INPUT,
     "input 63 is in group 2, there are 2", 63, 4, 2},
    {"qz-gidx far beyond", "gptq", ELEMENT, Q "g_idx", NULL, NB_BAD_INPUT, "in group 2147483647", 0,
     4, 0x7fffffffu},
    {"qz-gidx of another length", "gptq", HEADER,
     "q_proj.g_idx\":{\"dtype\":\"I32\",\"shape\":[64]",
     "q_proj.g_idx\":{\"dtype\":\"I64\",\"shape\":[32]", NB_BAD_INPUT, Q "g_idx: has 1 dimensions",
     0, 0, 0},
    /* 105 */
    {"qz-packed: another shape", "gptq", HEADER,
     "q_proj.qweight\":{\"dtype\":\"I32\",\"shape\":[8,64]",
     "q_proj.qweight\":{\"dtype\":\"I32\",\"shape\":[64,8]", NB_BAD_INPUT,
     Q "qweight: has 2 dimensions, the first of 64", 0, 0, 0},
    {"qz-packed: another type", "gptq", HEADER, "q_proj.qweight\":{\"dtype\":\"I32\"",
     "q_proj.qweight\":{\"dtype\":\"F32\"", NB_BAD_INPUT, "qweight: is of type f32, not i32", 0, 0,
     0},
    {"qz-packed: scales that are no floats", "gptq", HEADER, "q_proj.scales\":{\"dtype\":\"F16\"",
     "q_proj.scales\":{\"dtype\":\"I16\"", NB_BAD_INPUT, "scales: is of type i16, not f16", 0, 0,
     0},
    {"qz-packed: zeros of another shape", "gptq", HEADER,
     "q_proj.qzeros\":{\"dtype\":\"I32\",\"shape\":[2,8]",
     "q_proj.qzeros\":{\"dtype\":\"I32\",\"shape\":[8,2]", NB_BAD_INPUT, "qzeros: has 2", 0, 0, 0},
    {"qz-packed: a tensor is missing", "gptq", HEADER, Q "scales\"", Q "scaler\"", NB_BAD_INPUT,
     Q "scales: is missing", 0, 0, 0},
    {"qz-packed: AWQ's other shape", "awq", HEADER,
     "q_proj.qweight\":{\"dtype\":\"I32\",\"shape\":[64,8]",
     "q_proj.qweight\":{\"dtype\":\"I32\",\"shape\":[8,64]", NB_BAD_INPUT, "qweight: has 2", 0, 0,
     0},
    {"qz-packed: a shape in a tensor that is another", "ct", ELEMENT, Q "weight_shape", NULL,
     NB_BAD_INPUT, "weight_shape: says another shape than the model's numbers", 0, 4, 65},
    {"qz-packed: compressed-tensors without its zeros", "ctasym", HEADER, Q "weight_zero_point\"",
     Q "weight_zero_paint\"", NB_BAD_INPUT, "weight_zero_point: is missing", 0, 0, 0},
    /* 106 */
    {"qz-numbers: bits 0", "gptq", CONFIG, "\"bits\":4", "\"bits\":0", NB_BAD_INPUT,
     "codes of 0 bits", 0, 0, 0},
    {"qz-numbers: bits 33", "gptq", CONFIG, "\"bits\":4", "\"bits\":33", NB_BAD_INPUT,
     "codes of 33 bits", 0, 0, 0},
    {"qz-numbers: bits below 0", "awq", CONFIG, "\"bits\":4", "\"bits\":-4", NB_BAD_INPUT,
     "codes of -4 bits", 0, 0, 0},
    {"qz-numbers: bits 5", "gptq", CONFIG, "\"bits\":4", "\"bits\":5", NB_UNSUPPORTED,
     "codes of 5 bits are not read; 2, 3, 4 and 8 are", 0, 0, 0},
    {"qz-numbers: bits 5 there", "ct", CONFIG, "\"num_bits\":4", "\"num_bits\":5", NB_UNSUPPORTED,
     "codes of 5 bits are not read", 0, 0, 0},
    {"qz-numbers: bits that are others than the tensors'", "gptq", CONFIG, "\"bits\":4",
     "\"bits\":8", NB_BAD_INPUT, "qweight: has 2 dimensions", 0, 0, 0},
    {"qz-numbers: group 0", "gptq", CONFIG, GROUPS32, "\"group_size\":0", NB_BAD_INPUT,
     "groups of -2 inputs", 0, 0, 0},
    {"qz-numbers: group -2", "gptq", CONFIG, GROUPS32, "\"group_size\":-2", NB_BAD_INPUT,
     "groups of -2 inputs", 0, 0, 0},
    {"qz-numbers: group 0 of AWQ", "awq", CONFIG, GROUPS32, "\"group_size\":0", NB_BAD_INPUT,
     "groups of -2 inputs", 0, 0, 0},
    {"qz-numbers: group 2^40", "gptq", CONFIG, GROUPS32, "\"group_size\":1099511627776",
     NB_BAD_INPUT, "groups of 1099511627776 inputs", 0, 0, 0},
    {"qz-numbers: groups that leave a short one, GPTQ", "gptq", CONFIG, GROUPS32,
     "\"group_size\":40", NB_OK, "", 0, 0,
     0}, /* 64 = 40 + 24, 128 = 3 x 40 + 8: as many groups as there are */
    {"qz-numbers: groups that leave a short one, AWQ", "awq", CONFIG, GROUPS32, "\"group_size\":40",
     NB_BAD_INPUT, "no whole groups", 0, 0, 0},
    {"qz-numbers: groups that leave a short one, compressed-tensors", "ct", CONFIG, GROUPS32,
     "\"group_size\":40", NB_BAD_INPUT, "no whole groups", 0, 0, 0},
    /* 107 */
    {"qz-scale zero", "gptq", ELEMENT, Q "scales", NULL, NB_OK, "", 3, 2, 0},
    {"qz-scale NaN", "gptq", ELEMENT, Q "scales", NULL, NB_BAD_INPUT,
     Q "scales: the scale of output 3, group 0 is NaN", 3, 2, 0x7e00},
    {"qz-scale Inf", "awq", ELEMENT, Q "scales", NULL, NB_BAD_INPUT,
     Q "scales: the scale of output 1, group 1 is infinite", 65, 2, 0x7c00},
    {"qz-scale -Inf", "ct", ELEMENT, Q "weight_scale", NULL, NB_BAD_INPUT,
     "weight_scale: the scale of output 2, group 1 is infinite", 5, 2, 0xfc00},
    /* 108: a zero has as many bits as a code, so none lies beyond its range; what the bits cannot
     * say in symmetric weights is refused */
    {"qz-zero: the greatest there is", "asym", ELEMENT, Q "qzeros", NULL, NB_OK, "", -1, 4,
     0xffffffffu},
    {"qz-zero: AWQ's greatest", "awq", ELEMENT, Q "qzeros", NULL, NB_OK, "", -1, 4, 0xffffffffu},
    {"qz-zero: compressed-tensors' greatest", "ctasym", ELEMENT, Q "weight_zero_point", NULL, NB_OK,
     "", -1, 4, 0xffffffffu},
    {"qz-zero: beyond the one that symmetric weights have", "gptq", ELEMENT, Q "qzeros", NULL,
     NB_BAD_INPUT, Q "qzeros: holds several zeros", -1, 4, 0xffffffffu},
    /* 109 */
    {"qz-mixed: zeros that are not symmetric", "gptq", ELEMENT, Q "qzeros", NULL, NB_BAD_INPUT,
     "qzeros: holds several zeros, the config says that the weights are symmetric", 3, 4,
     0x77777770u},
    {"qz-mixed: two configs, other bits", "gptq", BESIDE, "\"bits\":4", "\"bits\":8", NB_BAD_INPUT,
     "config.json says gptq of 4 bits in groups of 32, symmetric, the quantization config beside "
     "it gptq of 8",
     0, 0, 0},
    {"qz-mixed: two configs, other groups", "gptq", BESIDE, GROUPS32, "\"group_size\":64",
     NB_BAD_INPUT, "in groups of 64", 0, 0, 0},
    {"qz-mixed: two configs, another method", "gptq", BESIDE, "\"quant_method\":\"gptq\"",
     "\"quant_method\":\"awq\"", NB_UNSUPPORTED, "AWQ weights of the version \"gptq\"", 0, 0, 0},
    {"qz-mixed: a packed module is left out", "awq", CONFIG, "[\"lm_head\"]",
     "[\"lm_head\",\"q_proj\"]", NB_BAD_INPUT, "is packed, but the config leaves its module out", 0,
     0, 0},
    {"qz-mixed: left out by a pattern", "gptq", CONFIG, "\"pack_dtype\"",
     "\"dynamic\":{\"-:.*k_proj\":{}},\"pack_dtype\"", NB_BAD_INPUT,
     "k_proj.qweight is packed, but the config leaves", 0, 0, 0},
    {"qz-mixed: left out by another pattern", "ct", CONFIG, "[\"lm_head\"]", "[\"re:.*mlp.up.*\"]",
     NB_BAD_INPUT, "up_proj.weight_packed is packed, but the config leaves", 0, 0, 0},
    {"qz-mixed: no target", "ct", CONFIG, "[\"Linear\"]", "[\"Conv2d\"]", NB_BAD_INPUT,
     "is packed, but the config leaves", 0, 0, 0},
    {"qz-mixed: no config at all", "awq", CONFIG, "\"quantization_config\"",
     "\"quantized_otherwise\"", NB_BAD_INPUT, "is packed, but no config says how", 0, 0, 0},
    {"qz-mixed: another scheme's tensors", "ct", CONFIG,
     "\"quant_method\":\"compressed-tensors\",\"format\":\"pack-quantized\"",
     "\"quant_method\":\"awq\",\"format\":\"gemm\"", NB_BAD_INPUT,
     "is not how awq packs its linears", 0, 0, 0},
    {"qz-mixed: plain and packed", "gptq", HEADER, Q "scales\"", Q "weight\"", NB_BAD_INPUT,
     "q_proj.weight", 0, 0, 0},
    {"an override that the tensors do not follow", "gptq", CONFIG, "\"pack_dtype\"",
     "\"dynamic\":{\"+:.*v_proj\":{\"bits\":8}},\"pack_dtype\"", NB_BAD_INPUT,
     "v_proj.qweight: has 2 dimensions", 0, 0, 0},
    {"an override that is impossible", "gptq", CONFIG, "\"pack_dtype\"",
     "\"dynamic\":{\".*v_proj\":{\"bits\":-8}},\"pack_dtype\"", NB_BAD_INPUT, "codes of -8 bits", 0,
     0, 0},
    /* 110: a quant_state that lies: golden/scheme */
    {"qz-nf4: a config of bitsandbytes", "plain", CONFIG, "\"model_type\"",
     "\"quantization_config\":{\"quant_method\":\"bitsandbytes\",\"load_in_4bit\":true,\"bnb_4bit_"
     "quant_type\":\"nf3\"},\"model_type\"",
     NB_UNSUPPORTED, "bitsandbytes with the type nf3 is not read", 0, 0, 0},
    {"qz-nf4: its codes without a config", "plain", HEADER,
     Q "weight\":{\"dtype\":\"BF16\",\"shape\":[64,64]",
     Q "weight\":{\"dtype\":\"U8\",\"shape\":[4096,2] ", NB_BAD_INPUT, Q "weight", 0, 0, 0},
    {"qz-nf4: the config of bitsandbytes over GPTQ's tensors", "gptq", CONFIG,
     "\"quant_method\":\"gptq\"", "\"quant_method\":\"bitsandbytes\"", NB_UNSUPPORTED,
     "bitsandbytes with other widths than load_in_4bit is not read", 0, 0, 0},
    /* words of the config */
    {"a method with an escape", "gptq", CONFIG, "\"quant_method\":\"gptq\"",
     "\"quant_method\":\"\\u001b[2J\"", NB_UNSUPPORTED, "\\x1b[2J", 0, 0, 0},
    {"a format that is not read", "gptq", CONFIG, "\"checkpoint_format\":\"gptq\"",
     "\"checkpoint_format\":\"marlin\"", NB_UNSUPPORTED, "GPTQ weights in the format \"marlin\"", 0,
     0, 0},
    {"AWQ's other form", "awq", CONFIG, "\"version\":\"gemm\"", "\"version\":\"gemv\"",
     NB_UNSUPPORTED, "AWQ weights of the version \"gemv\"", 0, 0, 0},
    {"a format of compressed-tensors that is not read", "ct", CONFIG,
     "\"format\":\"pack-quantized\"}},", "\"format\":\"nvfp4-pack-quantized\"}},", NB_UNSUPPORTED,
     "nvfp4-pack-quantized", 0, 0, 0},
    {"floats under compressed-tensors", "ct", CONFIG, "\"type\":\"int\"", "\"type\":\"float\"",
     NB_UNSUPPORTED, "weights of the type \"float\"", 0, 0, 0},
    {"blocks under compressed-tensors", "ct", CONFIG, "\"strategy\":\"group\"",
     "\"strategy\":\"block\"", NB_UNSUPPORTED, "the strategy \"block\"", 0, 0, 0},
    {"sparse weights", "ct", CONFIG, "\"kv_cache_scheme\":null",
     "\"sparsity_config\":{\"format\":\"sparse-24-bitmask\"}", NB_UNSUPPORTED, "sparse-24-bitmask",
     0, 0, 0},
    {"no groups", "ct", CONFIG, "\"config_groups\"", "\"other_groups\"", NB_BAD_INPUT,
     "config_groups is missing or empty", 0, 0, 0},
    {"bits that are a word", "gptq", CONFIG, "\"bits\":4", "\"bits\":\"4\"", NB_BAD_INPUT,
     "bits is no whole number", 0, 0, 0},
    {"sym that is a number", "gptq", CONFIG, "\"sym\":true", "\"sym\":1", NB_BAD_INPUT,
     "sym is neither true nor false", 0, 0, 0},
    {"a method that is a number", "gptq", CONFIG, "\"quant_method\":\"gptq\"", "\"quant_method\":7",
     NB_BAD_INPUT, "quant_method is no word", 0, 0, 0},
    {"dynamic that is a list", "gptq", CONFIG, "\"pack_dtype\"", "\"dynamic\":[1],\"pack_dtype\"",
     NB_BAD_INPUT, "dynamic is no object", 0, 0, 0},
    {"a list of modules with a number", "awq", CONFIG, "[\"lm_head\"]", "[7]", NB_BAD_INPUT,
     "modules_to_not_convert is a list that holds what is no name", 0, 0, 0},
    {"a list of modules under bitsandbytes' own name", "bnb", CONFIG,
     "\"llm_int8_skip_modules\":[\"lm_head\"]", "\"llm_int8_skip_modules\":\"lm_head\"",
     NB_BAD_INPUT, "llm_int8_skip_modules is no list", 0, 0, 0},
    {"a pattern that does not end", "gptq", CONFIG, "\"pack_dtype\"",
     "\"dynamic\":{\"(\":{}},\"pack_dtype\"", NB_BAD_INPUT, "the pattern \"(\" cannot be used", 0,
     0, 0},
    {"a pattern that never ends", "gptq", CONFIG, "\"pack_dtype\"",
     "\"dynamic\":{\"-:(([a-z_.0-9]+)+)+[!?]$\":{}},\"pack_dtype\"", NB_BAD_INPUT,
     "more than a million steps", 0, 0, 0},
    {"a pattern that runs code", "ct", CONFIG, "[\"lm_head\"]", "[\"re:\\\\C+\"]", NB_BAD_INPUT,
     "cannot be used", 0, 0, 0},
    /* what means the same opens */
    {"null", "gptq", CONFIG, "\"pack_dtype\":\"int32\"",
     "\"pack_dtype\":\"int32\",\"dynamic\":null", NB_OK, "", 0, 0, 0},
    {"the other version's name over symmetric zeros", "gptq", CONFIG,
     "\"checkpoint_format\":\"gptq\"", "\"checkpoint_format\":\"gptq_v2\"", NB_OK, "", 0, 0, 0},
    {"an order of inputs of zeros is none", "asym", ELEMENT, Q "g_idx", NULL, NB_OK, "", -1, 4, 0},
};

static char *text_of(const char *path, size_t *n)
{
    enum { kMost = 1 << 21 };
    char *p = calloc(1, kMost);
    FILE *f = fopen(path, "rb");
    if (!p || !f)
        exit(1);
    *n = fread(p, 1, kMost / 2, f);
    fclose(f);
    return p;
}

static char *find_in(char *p, size_t n, const char *what)
{
    const size_t m = strlen(what);
    for (size_t i = 0; i + m <= n; i++)
        if (memcmp(p + i, what, m) == 0)
            return p + i;
    return NULL;
}

/* Changes the copy of the model in `to`. */
static void apply(check *c, const edit *e, const char *to)
{
    static const char *const names[] = {[CONFIG] = "config.json",
                                        [BESIDE] = "quantize_config.json",
                                        [HEADER] = "model.safetensors",
                                        [ELEMENT] = "model.safetensors"};
    char path[1100];
    size_t n = 0;
    if (e->where == CONFIG) { /* the other one would be a second opinion */
        snprintf(path, sizeof path, "%s/%s", to, names[BESIDE]);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/%s", to, names[e->where]);
    char *p = text_of(path, &n), *at = e->where == ELEMENT ? NULL : find_in(p, n, e->find);
    if (e->where == ELEMENT) {
        nb_container *m = NULL;
        CHECK_EQ(c, nb_container_open(to, &m, NULL), NB_OK);
        const nb_tensor *t = m ? nb_container_find(m, e->find) : NULL;
        at = t ? p + t->offset + (e->at < 0 ? 0 : e->at * e->size) : NULL;
        for (size_t i = 0; at && i < (e->at < 0 ? t->bytes : (size_t)e->size); i += (size_t)e->size)
            memcpy(at + i, &e->bits, (size_t)e->size);
        nb_container_close(m);
    } else if (at && e->where != HEADER) {
        memmove(at + strlen(e->put), at + strlen(e->find),
                n - (size_t)(at - p) - strlen(e->find) + 1);
        memcpy(at, e->put, strlen(e->put));
        n += strlen(e->put) - strlen(e->find);
    } else if (at && strlen(e->put) == strlen(e->find))
        memcpy(at, e->put, strlen(e->put));
    else
        at = NULL;
    if (!at)
        check_report(c, __FILE__, __LINE__, "%s: %s has no %s, or of another length", e->what,
                     e->model, e->find);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(p, 1, n, f) != n || fclose(f) != 0)
        exit(1);
    free(p);
}

static void copy(const char *from, const char *to)
{
    char a[1100], b[1100];
    DIR *dir = opendir(from);
    if (!dir || mkdir(to, 0777) != 0)
        exit(1);
    for (const struct dirent *e; (e = readdir(dir));) {
        if (e->d_name[0] == '.')
            continue;
        size_t n = 0;
        snprintf(a, sizeof a, "%.800s/%.250s", from, e->d_name);
        snprintf(b, sizeof b, "%.800s/%.250s", to, e->d_name);
        char *p = text_of(a, &n);
        FILE *f = fopen(b, "wb");
        if (!f || fwrite(p, 1, n, f) != n || fclose(f) != 0)
            exit(1);
        free(p);
    }
    closedir(dir);
}

/* The model opens and gives numbers, or not. */
static nb_status runs(const char *path, nb_error *err)
{
    const nb_model_options o = {.device = "cpu", .exact = true, .n_thread = 1};
    static const int32_t ids[] = {1, 5, 9};
    nb_model *m = NULL;
    nb_session *s = NULL;
    float logits[272];
    nb_status st = nb_model_open(path, &o, &m, err);
    if (st == NB_OK)
        st = nb_session_open(m, 1, 8, &s, err);
    if (st == NB_OK)
        st = nb_session_step(s, 0, ids, 3, false, logits, err);
    for (int i = 0; i < 272 && st == NB_OK; i++)
        st = isfinite(logits[i]) ? NB_OK : NB_INTERNAL;
    nb_session_close(s);
    nb_model_close(m);
    return st;
}

static void every_edit(check *c)
{
    char from[1024], to[1024];
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        nb_error err = {.message = ""};
        folder_in(&here, edits[i].model, from);
        folder_in(&here, "bad", to);
        copy(from, to);
        apply(c, &edits[i], to);
        const nb_status st = runs(to, &err);
        c->n_check++;
        if (st != edits[i].want || !strstr(err.message, edits[i].word) ||
            (st != NB_OK && !strstr(err.message, "/bad")))
            check_report(c, __FILE__, __LINE__, "%s in %s: status %d, \"%s\"; expected %d, \"%s\"",
                         edits[i].what, edits[i].model, (int)st, err.message, (int)edits[i].want,
                         edits[i].word);
        folder_remove(to);
    }
}

/* Cut off anywhere. */
static void every_prefix(check *c)
{
    char from[1024], to[1024], path[1100];
    size_t n = 0;
    folder_in(&here, "gptq", from);
    folder_in(&here, "bad", to);
    copy(from, to);
    snprintf(path, sizeof path, "%.900s/quantize_config.json", to);
    char *p = text_of(path, &n);
    /* a file that was cut off anywhere is refused, or says the same */
    for (size_t cut = 0; cut < n; cut++) {
        nb_error err = {.message = ""};
        FILE *f = fopen(path, "wb");
        if (!f || fwrite(p, 1, cut, f) != cut || fclose(f) != 0)
            exit(1);
        const nb_status st = runs(to, &err);
        c->n_check++;
        if (cut + 1 < n && (st != NB_BAD_INPUT || !strstr(err.message, "quantize_config.json")))
            check_report(c, __FILE__, __LINE__,
                         "quantize_config.json of %zu bytes: status %d, \"%s\"", cut, (int)st,
                         err.message);
    }
    free(p);
    folder_remove(to);
}

static const check_case cases[] = {
    {"every bad packed checkpoint is refused with its code and a sentence that names the file; "
     "what means the same runs",
     every_edit},
    {"every beginning of quantize_config.json is refused", every_prefix},
};

int main(int argc, char **argv)
{
    static const struct {
        const char *name, *format, *grid;
        int group;
        bool sym;
    } rows[] = {{"gptq", "gptq", NULL, 32, true},
                {"asym", "gptq_v2", NULL, 32, false},
                {"awq", "awq", NULL, 32, false},
                {"ct", "compressed-tensors", NULL, 32, true},
                {"ctasym", "compressed-tensors", NULL, 32, false},
                {"bnb", "bnb", "nf4", 64, true}};
    char path[1024];
    nb_error err = {.message = ""};
    here = folder_new();
    copy(NB_SOURCE_DIR "/tests/data/models/tiny-llama", folder_in(&here, "plain", path));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        nb_quantize_result r;
        const nb_quantize_options o = {.model = NB_SOURCE_DIR "/tests/data/models/tiny-llama",
                                       .out = folder_in(&here, rows[i].name, path),
                                       .method = "rtn",
                                       .format = rows[i].format,
                                       .grid = rows[i].grid,
                                       .group = rows[i].group,
                                       .sym_set = true,
                                       .sym = rows[i].sym,
                                       .device = "cpu",
                                       .n_thread = 1};
        if (nb_quantize(&o, &r, &err) != NB_OK) {
            fprintf(stderr, "%s\n", err.message);
            return 1;
        }
        nb_quantize_result_free(&r);
    }
    const int rc = check_main(cases, sizeof cases / sizeof *cases, argc, argv);
    folder_gone(&here);
    return rc;
}
