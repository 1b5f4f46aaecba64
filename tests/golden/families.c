/* families.c -- a small random checkpoint of every model family against the publishers' code
 * (tests/data/models/README.md): logits of every position, greedy tokens, and what leaving a
 * feature out changes, which must be what it changes there. On ref and cpu. */
#include "base/mapfile.h"
#include "check.h"
#include "file/json.h"
#include "nibble.h"

#include <unistd.h>

enum { kMostIds = 64, kMostFeatures = 5 };

/* A feature is left out by this edit of config.json; the change of the logits is in golden.json
 * under its name. */
typedef struct feature {
    const char *name, *find, *put;
} feature;

typedef struct row {
    const char *family;
    feature feature[kMostFeatures];
} row;

static const row rows[] = {
    {"llama", {{"rope_scaling", "\"rope_scaling\"", "\"unused\""}}},
    {"mistral", {{"sliding_window", "\"sliding_window\": 8", "\"sliding_window\": null"}}},
    {"qwen2", {{"rope_theta_10000", "\"rope_theta\": 1000000.0", "\"rope_theta\": 10000.0"}}},
    {"qwen3", {{"rope_theta_10000", "\"rope_theta\": 1000000.0", "\"rope_theta\": 10000.0"}}},
    {"gemma2",
     {{"sliding_window", "\"sliding_window\": 8", "\"sliding_window\": 512"},
      {"attn_softcap", "\"attn_logit_softcapping\": 4.0", "\"attn_logit_softcapping\": null"},
      {"final_softcap", "\"final_logit_softcapping\": 6.0", "\"final_logit_softcapping\": null"},
      {"query_scale_head_dim", "\"query_pre_attn_scalar\": 24", "\"query_pre_attn_scalar\": 32"}}},
    {"gemma3",
     {{"sliding_window", "\"sliding_window\": 8", "\"sliding_window\": 512"},
      {"local_rope", "\"rope_local_base_freq\": 10000.0", "\"rope_local_base_freq\": 1000000.0"},
      {"rope_scaling", "\"rope_scaling\"", "\"unused\""},
      {"query_scale_head_dim", "\"query_pre_attn_scalar\": 24", "\"query_pre_attn_scalar\": 32"},
      {"all_layers_global", "\"sliding_window_pattern\": 2", "\"sliding_window_pattern\": 1"}}},
    {"phi3",
     {{"partial_rotary", "\"partial_rotary_factor\": 0.5", "\"partial_rotary_factor\": 1.0"},
      {"sliding_window", "\"sliding_window\": 8", "\"sliding_window\": null"}}},
    {"granite",
     {{"embedding_multiplier", "\"embedding_multiplier\": 6.0", "\"embedding_multiplier\": 1.0"},
      {"residual_multiplier", "\"residual_multiplier\": 0.4", "\"residual_multiplier\": 1.0"},
      {"attention_multiplier", "\"attention_multiplier\": 0.125", "\"attention_multiplier\": 0.25"},
      {"logits_scaling", "\"logits_scaling\": 4.0", "\"logits_scaling\": 1.0"}}},
    {"smollm3", {{"no_rope_layers", "  0\n ]", "  1\n ]"}}},
    {"mixtral", {{"top1", "\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 1"}}},
    {"qwen3_moe",
     {{"norm_topk", "\"norm_topk_prob\": true", "\"norm_topk_prob\": false"},
      {"top1", "\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 1"}}},
};
enum { kRows = sizeof rows / sizeof *rows };

/* What golden.json says. */
typedef struct golden {
    nb_mapfile *file;
    nb_json *doc;
    const nb_json_node *root;
    int32_t ids[kMostIds], greedy[kMostIds], n_id, n_greedy;
    nb_mapfile *npy;
    const float *logits; /* [n_id, vocab_size] */
} golden;

static int32_t read_list(const nb_json_node *v, int32_t *out)
{
    int32_t n = 0;
    int64_t id = 0;
    for (const nb_json_node *e = nb_json_first(v); e && n < kMostIds; e = nb_json_next(e))
        if (nb_json_int(e, &id))
            out[n++] = (int32_t)id;
    return n;
}

static bool golden_open(check *c, const char *folder, golden *g)
{
    nb_error err = {.message = ""};
    char path[700];
    memset(g, 0, sizeof *g);
    snprintf(path, sizeof path, "%s/golden.json", folder);
    nb_status st = nb_mapfile_open(path, &g->file, &err);
    if (st == NB_OK)
        st = nb_json_parse(path, (const char *)g->file->p, g->file->n, &g->doc, &err);
    snprintf(path, sizeof path, "%s/logits.npy", folder);
    if (st == NB_OK)
        st = nb_mapfile_open(path, &g->npy, &err);
    CHECK_STR(c, err.message, "");
    if (st != NB_OK)
        return false;
    g->root = nb_json_root(g->doc);
    g->n_id = read_list(nb_json_get(g->root, "ids"), g->ids);
    g->n_greedy = read_list(nb_json_get(g->root, "greedy"), g->greedy);
    /* NPY 1.0: the header's length at byte 8 */
    g->logits = (const float *)(const void *)(g->npy->p + 10 + g->npy->p[8] + 256 * g->npy->p[9]);
    return true;
}

static void golden_close(golden *g)
{
    nb_json_close(g->doc);
    nb_mapfile_close(g->file);
    nb_mapfile_close(g->npy);
}

/* All logits of the prompt [n_id, vocab_size], the caller's; and the greedy tokens behind it. NULL
 * (reported) when the model does not open or run. */
static float *run(check *c, const char *folder, const char *device, const golden *g,
                  int32_t *greedy, int32_t *vocab_size)
{
    nb_error err = {.message = ""};
    const nb_model_options o = {.device = device, .exact = true, .n_thread = 2};
    nb_model *m = NULL;
    nb_session *s = NULL;
    nb_model_info info = {0};
    float *all = NULL;
    nb_status st = nb_model_open(folder, &o, &m, &err);
    if (st == NB_OK) {
        nb_model_get_info(m, &info);
        *vocab_size = info.vocab_size;
        all = calloc((size_t)g->n_id * (size_t)info.vocab_size, sizeof *all);
        st = nb_session_open(m, 1, g->n_id + g->n_greedy, &s, &err);
    }
    if (st == NB_OK)
        st = nb_session_step(s, 0, g->ids, g->n_id, true, all, &err);
    float *last = calloc((size_t)info.vocab_size + 1, sizeof *last);
    if (st == NB_OK)
        memcpy(last, all + (int64_t)(g->n_id - 1) * info.vocab_size,
               (size_t)info.vocab_size * sizeof *last);
    for (int32_t i = 0; greedy && i < g->n_greedy && st == NB_OK; i++) {
        greedy[i] = 0;
        for (int32_t v = 1; v < info.vocab_size; v++)
            if (last[v] > last[greedy[i]])
                greedy[i] = v;
        st = nb_session_step(s, 0, &greedy[i], 1, false, last, &err);
    }
    CHECK_STR(c, err.message, "");
    CHECK_EQ(c, st, NB_OK);
    free(last);
    nb_session_close(s);
    nb_model_close(m);
    if (st != NB_OK) {
        free(all);
        return NULL;
    }
    return all;
}

static double furthest(const float *a, const float *b, int64_t n)
{
    double d = 0;
    for (int64_t i = 0; i < n; i++)
        d = fmax(d, fabs((double)a[i] - (b ? (double)b[i] : 0.0)));
    return d;
}

/* model: the folder, or a file in it. */
static void compare(check *c, const char *folder, const char *model, const char *device,
                    const golden *g)
{
    int32_t vocab_size = 0, greedy[kMostIds];
    float *got = run(c, model, device, g, greedy, &vocab_size);
    if (!got)
        return;
    const int64_t n = (int64_t)g->n_id * vocab_size;
    const double most = furthest(g->logits, NULL, n), off = furthest(got, g->logits, n);
    printf("      %s on %s: off by %.2g of %.2g\n", strrchr(folder, '/') + 1, device, off, most);
    CHECK_NEAR(c, off, 0.0, 1e-4 * most, device);
    for (int32_t i = 0; i < g->n_greedy; i++)
        CHECK_EQ(c, greedy[i], g->greedy[i]);
    free(got);
}

/* A copy of the folder whose config.json has f->find replaced; the weights are linked. */
static bool edited(check *c, const char *folder, const feature *f, char to[700])
{
    nb_error err = {.message = ""};
    char path[800], weights[800];
    nb_mapfile *m = NULL;
    snprintf(to, 700, "%s/tests/left-out-XXXXXX", NB_BINARY_DIR);
    CHECK(c, mkdtemp(to) != NULL);
    snprintf(path, sizeof path, "%s/config.json", folder);
    CHECK_EQ(c, nb_mapfile_open(path, &m, &err), NB_OK);
    if (!m)
        return false;
    char *text = calloc(m->n + 1, 1), *at = NULL;
    memcpy(text, m->p, m->n);
    nb_mapfile_close(m);
    at = strstr(text, f->find);
    CHECK(c, at != NULL);
    snprintf(path, sizeof path, "%s/config.json", to);
    FILE *out = at ? fopen(path, "wb") : NULL;
    if (out) {
        fprintf(out, "%.*s%s%s", (int)(at - text), text, f->put, at + strlen(f->find));
        fclose(out);
    }
    free(text);
    snprintf(weights, sizeof weights, "%s/model.safetensors", folder);
    snprintf(path, sizeof path, "%s/model.safetensors", to);
    char *real = realpath(weights, NULL);
    CHECK(c, real && link(real, path) == 0); /* a symbolic link out of the folder is refused */
    free(real);
    return out != NULL;
}

static void remove_copy(const char *folder)
{
    static const char *const names[] = {"config.json", "model.safetensors"};
    char path[800];
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        (void)remove(path);
    }
    (void)rmdir(folder);
}

static void leave_out(check *c, const char *folder, const golden *g, const feature *f)
{
    char to[700];
    int32_t vocab_size = 0;
    double change = 0;
    CHECK(c,
          nb_json_real(nb_json_get(nb_json_get(g->root, "change_if_left_out"), f->name), &change) &&
              change > 0.05);
    float *got = edited(c, folder, f, to) ? run(c, to, "cpu", g, NULL, &vocab_size) : NULL;
    if (got)
        CHECK_NEAR(c, furthest(got, g->logits, (int64_t)g->n_id * vocab_size), change, 1e-3,
                   f->name);
    free(got);
    remove_copy(to);
}

static void family(check *c, const row *r)
{
    char folder[600];
    golden g;
    snprintf(folder, sizeof folder, "%s/tests/data/models/tiny-%s", NB_SOURCE_DIR, r->family);
    if (golden_open(c, folder, &g)) {
        compare(c, folder, folder, "ref", &g);
        compare(c, folder, folder, "cpu", &g);
        for (int i = 0; i < kMostFeatures && r->feature[i].name; i++)
            leave_out(c, folder, &g, &r->feature[i]);
    }
    golden_close(&g);
}

/* The larger checkpoints of the same kinds, where they are beside the source tree. */
static void shared_families(check *c)
{
    char folder[600], name[80];
    golden g;
    for (int i = 0; i < kRows; i++) {
        snprintf(name, sizeof name, "golden/tiny/%s/config.json", rows[i].family);
        if (!check_shared(name, folder, sizeof folder)) {
            check_skip(c, "golden/tiny/%s is not beside the source tree", rows[i].family);
            continue;
        }
        *strrchr(folder, '/') = 0;
        if (golden_open(c, folder, &g)) {
            compare(c, folder, folder, "ref", &g);
            compare(c, folder, folder, "cpu", &g);
        }
        golden_close(&g);
    }
}

/* The same kinds as GGUF files: other names, permuted rows, norms with their 1, experts in three
 * dimensions, what the keys leave unsaid. */
static void gguf_families(check *c)
{
    char folder[600], model[700];
    golden g;
    for (int i = 0; i < kRows; i++) {
        if (strcmp(rows[i].family, "mistral") == 0) /* "llama" in GGUF */
            continue;
        snprintf(folder, sizeof folder, "%s/tests/data/models/gguf-%s", NB_SOURCE_DIR,
                 rows[i].family);
        snprintf(model, sizeof model, "%s/model.gguf", folder);
        if (golden_open(c, folder, &g)) {
            compare(c, folder, model, "ref", &g);
            compare(c, folder, model, "cpu", &g);
        }
        golden_close(&g);
    }
}

/* Quantized through the calibrated walk into 8 bits, a model stays what it is; fused tensors are
 * written slice by slice, experts of a stacked one each by its own tokens; those of qwen3_moe's
 * down are narrower than a block and kept. */
static void quantized(check *c)
{
    char model[700], out[700];
    for (int i = 0; i < kRows; i++) {
        golden g;
        nb_error err = {.message = ""};
        nb_quantize_result r = {0};
        int32_t vocab_size = 0;
        if (strcmp(rows[i].family, "mistral") == 0)
            continue;
        snprintf(model, sizeof model, "%s/tests/data/models/gguf-%s/model.gguf", NB_SOURCE_DIR,
                 rows[i].family);
        snprintf(out, sizeof out, "%s/families-%s.gguf", NB_BINARY_DIR, rows[i].family);
        const nb_quantize_options o = {.model = model,
                                       .out = out,
                                       .method = "gptq",
                                       .grid = "q8_0",
                                       .embedding = "keep",
                                       .device = "cpu",
                                       .n_thread = 2,
                                       .calib = NB_SOURCE_DIR "/tests/data/text/eval-own.txt",
                                       .samples = 4,
                                       .ctx = 48};
        CHECK_EQ(c, nb_quantize(&o, &r, &err), NB_OK);
        CHECK_STR(c, err.message, "");
        for (size_t l = 0; l < r.n_layer; l++)
            CHECK(c, strncmp(r.layers[l].note, "kept f16", 8) == 0 ||
                         (r.layers[l].error <= r.layers[l].error_rtn && r.layers[l].error < 1e-4));
        nb_quantize_result_free(&r);
        char folder[600];
        snprintf(folder, sizeof folder, "%s/tests/data/models/gguf-%s", NB_SOURCE_DIR,
                 rows[i].family);
        if (golden_open(c, folder, &g)) {
            float *got = run(c, out, "cpu", &g, NULL, &vocab_size);
            double d2 = 0, w2 = 0;
            for (int64_t k = 0; got && k < (int64_t)g.n_id * vocab_size; k++) {
                d2 +=
                    ((double)got[k] - (double)g.logits[k]) * ((double)got[k] - (double)g.logits[k]);
                w2 += (double)g.logits[k] * (double)g.logits[k];
            }
            printf("      %s: relative L2 %.2g\n", rows[i].family, sqrt(d2 / w2));
            const bool mixture =
                strcmp(rows[i].family, "mixtral") == 0 || strcmp(rows[i].family, "qwen3_moe") == 0;
            /* 4.3e-2 seen: rounding to 8 bits moves peaked scores; 7.5e-2 where one of the 24
             * tokens goes to another expert (plain rounding: 5.8e-2) */
            CHECK(c, got && sqrt(d2 / w2) < (mixture ? 1e-1 : 6e-2));
            free(got);
            golden_close(&g);
        }
        (void)remove(out);
    }
}

#define FAMILY(i)                                                                                  \
    static void family_##i(check *c)                                                               \
    {                                                                                              \
        family(c, &rows[i]);                                                                       \
    }
FAMILY(0)
FAMILY(1)
FAMILY(2)
FAMILY(3)
FAMILY(4)
FAMILY(5)
FAMILY(6)
FAMILY(7)
FAMILY(8)
FAMILY(9)
FAMILY(10)

static const check_case cases[] = {
    {"llama: llama3 rope scaling", family_0},
    {"mistral: a sliding window, heads of another width than hidden / heads", family_1},
    {"qwen2: biases on q, k and v", family_2},
    {"qwen3: norms over the heads of q and k", family_3},
    {"gemma2: soft caps, a window in every other layer, four norms", family_4},
    {"gemma3: local and global layers with rotary frequencies of their own", family_5},
    {"phi3: fused tensors, rotation of a part of each head", family_6},
    {"granite: multipliers", family_7},
    {"smollm3: a layer without rotation", family_8},
    {"mixtral: two of four experts", family_9},
    {"qwen3_moe: experts and norms over heads", family_10},
    {"every family from GGUF", gguf_families},
    {"every family is quantized layer by layer", quantized},
    {"the larger checkpoints of the same families", shared_families},
};
CHECK_MAIN(cases)
