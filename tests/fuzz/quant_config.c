/* quant_config.c -- fuzz target: a quantization_config. What is accepted has a width and groups
 * that the rest can rely on, for every module; what a writer says of it is read back as the
 * same. */
#include "fuzz/fuzz.h"
#include "scheme/scheme.h"

#include <string.h>

static void promise_spec(const nb_scheme_spec *s)
{
    nb_scheme_tensor t[NB_SCHEME_TENSORS];
    FUZZ_PROMISE(s->bits == 2 || s->bits == 3 || s->bits == 4 || s->bits == 8, "a width");
    FUZZ_PROMISE(s->group >= 0, "groups");
    const int n = s->scheme->tensors(s, 64, 4096, t);
    FUZZ_PROMISE(n >= 1 && n <= NB_SCHEME_TENSORS, "tensors");
    for (int i = 0; i < n; i++)
        FUZZ_PROMISE(t[i].suffix && t[i].dtype && t[i].n_dim >= 1 && t[i].n_dim <= 2 &&
                         (t[i].shape[0] >= 1 || (t[i].shape[0] == -1 && s->config)) &&
                         (t[i].n_dim < 2 || t[i].shape[1] >= 1),
                     "a tensor");
    FUZZ_PROMISE(nb_scheme_bytes(s, 64, 4096) > 0, "bytes");
}

/* What would be written of the spec says the same. */
static void promise_written(const nb_scheme_spec *s)
{
    static const char *const skip[] = {"lm_head", "model.layers.0.mlp.down_proj", NULL};
    nb_text t = {0};
    nb_json *doc = NULL;
    nb_scheme_spec again;
    nb_error err = {.offset = -1};
    bool quantized = true;
    FUZZ_PROMISE(s->scheme->write_config(s, skip, &t, &err) == NB_OK && !t.failed, "it is written");
    FUZZ_PROMISE(nb_json_parse("again", t.p, t.n, &doc, &err) == NB_OK, "as JSON");
    FUZZ_PROMISE(nb_scheme_detect("again", nb_json_root(doc), &again, &err) == NB_OK, "and read");
    FUZZ_PROMISE(again.scheme == s->scheme && again.bits == s->bits && again.group == s->group,
                 "as it was");
    FUZZ_PROMISE(nb_scheme_module(&again, "again", skip[1], &quantized, &again, &err) == NB_OK &&
                     !quantized,
                 "without what it leaves out");
    nb_json_close(doc);
    nb_text_free(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const modules[] = {"model.layers.0.self_attn.q_proj",
                                          "model.layers.11.mlp.experts.3.w1", "lm_head", ""};
    nb_json *doc = NULL;
    nb_error err = {.offset = -1};
    nb_scheme_spec s, own;
    if (nb_json_parse("config.json", (const char *)data, size, &doc, &err) != NB_OK)
        return 0;
    nb_status st = nb_scheme_detect("config.json", nb_json_root(doc), &s, &err);
    FUZZ_PROMISE(st == NB_OK || st == NB_BAD_INPUT || st == NB_UNSUPPORTED,
                 "a config is read, wrong or unsupported");
    FUZZ_PROMISE(st == NB_OK || err.message[0], "a refusal has its sentence");
    if (st == NB_OK && s.scheme) {
        promise_spec(&s);
        if (s.bits == 4 || strcmp(s.scheme->name, "awq") != 0)
            promise_written(&s);
    }
    for (size_t i = 0; i < sizeof modules / sizeof *modules && st == NB_OK && s.scheme; i++) {
        bool quantized = false;
        const nb_status m = nb_scheme_module(&s, "config.json", modules[i], &quantized, &own, &err);
        FUZZ_PROMISE(m == NB_OK || m == NB_BAD_INPUT || m == NB_UNSUPPORTED,
                     "a module is quantized, left out, or the config is wrong");
        if (m == NB_OK && quantized)
            promise_spec(&own);
    }
    nb_json_close(doc);
    return 0;
}
