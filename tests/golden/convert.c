/* convert.c -- models from one container into the other and back. Logits under `exact` are the same
 * bits wherever the model lies; floats come back as the bytes they were; and what another program
 * wrote (tests/data/models/gguf-*, by the gguf package) comes back tensor by tensor and key by
 * key. */
#include "base/mapfile.h"
#include "check.h"
#include "file/container.h"
#include "hostile/folder.h"
#include "nibble.h"

#include <unistd.h>

enum { kTokens = 24 };

static const char *const families[] = {"llama",   "mistral", "qwen2",    "qwen3",
                                       "gemma2",  "gemma3",  "phi3",     "granite",
                                       "smollm3", "mixtral", "qwen3_moe"};
enum { kFamilies = sizeof families / sizeof *families };

/* ---- doing ---- */

/* With its manifest beside it. */
static void gone(const char *out)
{
    char manifest[800];
    snprintf(manifest, sizeof manifest, "%s.manifest.json", out);
    folder_remove(out);
    folder_remove(manifest);
}

static bool convert(check *c, const char *from, const char *to, const char *grid)
{
    nb_error err = {.message = ""};
    nb_convert_result r;
    const nb_convert_options o = {.model = from, .out = to, .grid = grid, .n_thread = 2};
    gone(to);
    const nb_status st = nb_convert(&o, &r, &err);
    CHECK_STR(c, err.message, "");
    CHECK_EQ(c, st, NB_OK);
    return st == NB_OK;
}

/* All logits of a few tokens, [kTokens, vocab_size], the caller's; NULL (reported) when the model
 * does not open or run. */
static float *logits(check *c, const char *model, int64_t *n)
{
    static const int32_t ids[kTokens] = {1,  5,  9,  20, 33, 40, 77, 60, 61, 62,  63, 64,
                                         65, 66, 67, 68, 69, 70, 3,  2,  8,  100, 99, 45};
    nb_error err = {.message = ""};
    const nb_model_options o = {.device = "cpu", .exact = true, .n_thread = 2};
    nb_model *m = NULL;
    nb_session *s = NULL;
    nb_model_info info = {0};
    float *all = NULL;
    nb_status st = nb_model_open(model, &o, &m, &err);
    if (st == NB_OK) {
        nb_model_get_info(m, &info);
        *n = (int64_t)kTokens * info.vocab_size;
        all = calloc((size_t)*n, sizeof *all);
        st = nb_session_open(m, 1, kTokens, &s, &err);
    }
    if (st == NB_OK)
        st = nb_session_step(s, 0, ids, kTokens, true, all, &err);
    CHECK_STR(c, err.message, "");
    nb_session_close(s);
    nb_model_close(m);
    if (st == NB_OK)
        return all;
    free(all);
    return NULL;
}

/* The same bits. */
static void same_logits(check *c, const char *a, const char *b)
{
    int64_t na = 0, nb = 0;
    float *p = logits(c, a, &na), *q = logits(c, b, &nb);
    double off = 0;
    CHECK(c, p && q && na == nb);
    for (int64_t i = 0; p && q && i < na && na == nb; i++)
        off = fmax(off, fabs((double)p[i] - (double)q[i]));
    if (!(p && q && na == nb && memcmp(p, q, (size_t)na * sizeof *p) == 0))
        check_report(c, __FILE__, __LINE__, "%s and %s: logits differ by up to %g", a, b, off);
    c->n_check++;
    free(p);
    free(q);
}

static const nb_tensor *tensor_of(check *c, const nb_container *in, const char *name)
{
    const nb_tensor *t = nb_container_find(in, name);
    if (!t)
        check_report(c, __FILE__, __LINE__, "%s lacks %s", in->path, name);
    return t;
}

/* Every tensor of a is in b, with its type, shape and bytes. */
static void same_tensors(check *c, const char *a, const char *b)
{
    nb_error err = {.message = ""};
    nb_container *p = NULL, *q = NULL;
    CHECK_EQ(c, nb_container_open(a, &p, &err), NB_OK);
    CHECK_EQ(c, nb_container_open(b, &q, &err), NB_OK);
    CHECK_STR(c, err.message, "");
    if (p && q)
        CHECK_EQ(c, p->n_tensor, q->n_tensor);
    for (int64_t i = 0; p && q && i < p->n_tensor; i++) {
        const nb_tensor *t = &p->tensor[i], *u = tensor_of(c, q, t->name);
        c->n_check++;
        if (u && (t->dtype != u->dtype || t->n_dim != u->n_dim ||
                  memcmp(t->shape, u->shape, sizeof t->shape) != 0 || t->bytes != u->bytes ||
                  memcmp(t->data, u->data, t->bytes) != 0))
            check_report(c, __FILE__, __LINE__, "%s: tensor %s is not that of %s", b, t->name, a);
    }
    nb_container_close(p);
    nb_container_close(q);
}

/* Every key of the architecture and of the tokenizer in a has the same value in b; but for names in
 * `except`. */
static void same_keys(check *c, const char *a, const char *b, const char *const *except)
{
    nb_error err = {.message = ""};
    nb_container *p = NULL, *q = NULL;
    CHECK_EQ(c, nb_container_open(a, &p, &err), NB_OK);
    CHECK_EQ(c, nb_container_open(b, &q, &err), NB_OK);
    for (int64_t i = 0; p && q && i < p->gguf->n_kv; i++) {
        const nb_gguf_kv *kv = &p->gguf->kv[i];
        char key[200];
        bool skip = false;
        snprintf(key, sizeof key, "%.*s", (int)kv->key.n, kv->key.p);
        for (const char *const *e = except; *e; e++)
            skip = skip || strcmp(*e, key) == 0;
        if (skip)
            continue;
        const nb_gguf_kv *other = nb_gguf_find(q->gguf, key);
        c->n_check++;
        if (!other || other->type != kv->type || other->bytes != kv->bytes ||
            memcmp(other->p, kv->p, kv->bytes) != 0)
            check_report(c, __FILE__, __LINE__, "%s: %s is not as in %s", b, key, a);
    }
    nb_container_close(p);
    nb_container_close(q);
}

/* ---- cases ---- */

static void either_way(check *c, const char *source)
{
    char gguf[700], back[700], again[700];
    snprintf(gguf, sizeof gguf, "%s/convert.gguf", NB_BINARY_DIR);
    snprintf(back, sizeof back, "%s/convert-back", NB_BINARY_DIR);
    snprintf(again, sizeof again, "%s/convert-again.gguf", NB_BINARY_DIR);
    if (convert(c, source, gguf, NULL) && convert(c, gguf, back, NULL) &&
        convert(c, back, again, NULL)) {
        same_logits(c, source, gguf);
        same_logits(c, source, back);
        same_tensors(c, gguf, again);
        same_keys(c, gguf, again, (const char *const[]){"general.name", NULL});
    }
    gone(gguf);
    gone(back);
    gone(again);
}

static void folders(check *c)
{
    char source[700];
    for (int i = 0; i < kFamilies; i++) {
        snprintf(source, sizeof source, "%s/tests/data/models/tiny-%s", NB_SOURCE_DIR, families[i]);
        either_way(c, source);
    }
}

static void shared_folders(check *c)
{
    char path[700], name[80];
    for (int i = 0; i < kFamilies; i++) {
        snprintf(name, sizeof name, "golden/tiny/%s/config.json", families[i]);
        if (!check_shared(name, path, sizeof path)) {
            check_skip(c, "golden/tiny/%s is not beside the source tree", families[i]);
            continue;
        }
        *strrchr(path, '/') = 0;
        either_way(c, path);
    }
}

/* Another program's file through a folder: its tensors bit for bit (llama3's divisors too, through
 * the rule that was found behind them), its keys. Tokens without text are named anew. */
static void outside_files(check *c)
{
    static const char *const except[] = {"general.name",
                                         "general.file_type",
                                         "general.quantization_version",
                                         "tokenizer.ggml.pre",
                                         "tokenizer.ggml.tokens",
                                         "tokenizer.ggml.merges",
                                         "tokenizer.ggml.token_type",
                                         "gemma3.attention.key_length",
                                         NULL};
    char source[700], back[700], again[700];
    snprintf(back, sizeof back, "%s/convert-back", NB_BINARY_DIR);
    snprintf(again, sizeof again, "%s/convert-again.gguf", NB_BINARY_DIR);
    for (int i = 0; i < kFamilies; i++) {
        snprintf(source, sizeof source, "%s/tests/data/models/gguf-%s/model.gguf", NB_SOURCE_DIR,
                 families[i]);
        if (strcmp(families[i], "mistral") == 0) /* "llama" in GGUF */
            continue;
        if (convert(c, source, back, NULL) && convert(c, back, again, NULL)) {
            same_logits(c, source, back);
            same_tensors(c, source, again);
            same_keys(c, source, again, except);
        }
        gone(back);
        gone(again);
    }
}

/* Codes in other words: every value stays; where one has no place the tensor is named and nothing
 * is written. */
static void codes(check *c)
{
    static const struct {
        const char *from, *to;
        bool fits;
    } rows[] = {{"q4_0", "q5_0", true}, {"q4_0", "q8_0", true},  {"q5_0", "q8_0", true},
                {"q4_0", "q4_1", true}, {"q4_1", "q5_1", true},  {"q4_0", "f32", true},
                {"q5_1", "f32", true},  {"q8_0", "q4_0", false}, {"q4_1", "q4_0", false},
                {"q5_0", "q4_0", false}};
    char source[700], first[700], second[700];
    snprintf(source, sizeof source, "%s/tests/data/models/tiny-llama", NB_SOURCE_DIR);
    snprintf(first, sizeof first, "%s/convert-first.gguf", NB_BINARY_DIR);
    snprintf(second, sizeof second, "%s/convert-second.gguf", NB_BINARY_DIR);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!convert(c, source, first, rows[i].from))
            continue;
        if (rows[i].fits && convert(c, first, second, rows[i].to))
            same_logits(c, first, second);
        if (!rows[i].fits) {
            nb_error err = {.message = ""};
            nb_convert_result r;
            const nb_convert_options o = {
                .model = first, .out = second, .grid = rows[i].to, .n_thread = 2};
            gone(second);
            CHECK_EQ(c, nb_convert(&o, &r, &err), NB_UNSUPPORTED);
            CHECK_HAS(c, err.message, "not all of its values in ");
            CHECK(c, access(second, F_OK) != 0);
        }
        gone(first);
        gone(second);
    }
}

/* A GGUF file in its own formats is the same file. */
static void same_file(check *c)
{
    char source[700], out[700];
    nb_mapfile *a = NULL, *b = NULL;
    nb_error err = {.message = ""};
    snprintf(source, sizeof source, "%s/convert.gguf", NB_BINARY_DIR);
    snprintf(out, sizeof out, "%s/convert-again.gguf", NB_BINARY_DIR);
    if (convert(c, NB_SOURCE_DIR "/tests/data/models/tiny-gemma3", source, "q8_0") &&
        convert(c, source, out, NULL)) {
        CHECK_EQ(c, nb_mapfile_open(source, &a, &err), NB_OK);
        CHECK_EQ(c, nb_mapfile_open(out, &b, &err), NB_OK);
        CHECK(c, a && b && a->n == b->n && memcmp(a->p, b->p, a->n) == 0);
    }
    nb_mapfile_close(a);
    nb_mapfile_close(b);
    gone(source);
    gone(out);
}

/* A model that lies in a folder is quantized into the file that its GGUF form is quantized into,
 * tensor by tensor. */
static void quantized_folder(check *c)
{
    static const char *const names[] = {"llama", "gemma3", "qwen2"};
    char source[700], gguf[700], one[700], two[700];
    snprintf(gguf, sizeof gguf, "%s/convert.gguf", NB_BINARY_DIR);
    snprintf(one, sizeof one, "%s/convert-one.gguf", NB_BINARY_DIR);
    snprintf(two, sizeof two, "%s/convert-two.gguf", NB_BINARY_DIR);
    for (int i = 0; i < 3; i++) {
        nb_error err = {.message = ""};
        nb_quantize_result r = {0};
        snprintf(source, sizeof source, "%s/tests/data/models/tiny-%s", NB_SOURCE_DIR, names[i]);
        convert(c, source, gguf, NULL);
        for (int from_gguf = 0; from_gguf < 2; from_gguf++) {
            const nb_quantize_options o = {.model = from_gguf ? gguf : source,
                                           .out = from_gguf ? two : one,
                                           .method = "rtn",
                                           .grid = "q4_0",
                                           .device = "cpu",
                                           .n_thread = 2};
            CHECK_EQ(c, nb_quantize(&o, &r, &err), NB_OK);
            CHECK_STR(c, err.message, "");
            nb_quantize_result_free(&r);
        }
        same_tensors(c, two, one);
        gone(gguf);
        gone(one);
        gone(two);
    }
}

static const check_case cases[] = {
    {"every family: folder to GGUF to folder to GGUF, the same logits and bytes", folders},
    {"the larger checkpoints of the same families", shared_folders},
    {"another program's GGUF files come back from a folder bit for bit", outside_files},
    {"codes are rewritten only where every value stays", codes},
    {"a GGUF file in its own formats is the same file", same_file},
    {"a folder is quantized into what its GGUF form is quantized into", quantized_folder},
};
CHECK_MAIN(cases)
