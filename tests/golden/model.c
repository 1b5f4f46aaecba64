/* model.c -- whole models against logits and greedy tokens of transformers in F32
 * (tests/data/models/README.md), on ref and cpu. */
#include "base/mapfile.h"
#include "check.h"
#include "file/json.h"
#include "model/model.h"

static float *last_logits(check *c, nb_model *m, const int32_t *ids, int32_t n, float *all)
{
    nb_error err = {.offset = -1};
    nb_session *s = NULL;
    nb_model_info info;
    nb_model_get_info(m, &info);
    nb_status st = nb_session_open(m, 1, n + 64, &s, &err);
    if (st == NB_OK)
        st = nb_session_step(s, 0, ids, n, true, all, &err);
    CHECK_EQ(c, st, NB_OK);
    nb_session_close(s);
    return all + (int64_t)(n - 1) * info.vocab_size;
}

static int32_t read_list(const nb_json_node *v, int32_t *out, int32_t most)
{
    int32_t n = 0;
    int64_t id = 0;
    for (const nb_json_node *e = nb_json_first(v); e && n < most; e = nb_json_next(e))
        if (nb_json_int(e, &id))
            out[n++] = (int32_t)id;
    return n;
}

/* Every prompt of a golden file: the ids of its text, the top logits within tol, the greedy tokens
 * up to the first step with a margin under 1e-3. */
static void compare(check *c, const char *model, const char *golden, const char *device,
                    bool tokenizes, double tol)
{
    nb_error err = {.offset = -1};
    const nb_model_options o = {.device = device, .exact = true, .n_thread = 2};
    nb_model *m = NULL;
    nb_mapfile *f = NULL;
    nb_json *doc = NULL;
    char path[600];
    nb_model_info info = {0};
    snprintf(path, sizeof path, "%s/tests/data/models/%s.json", NB_SOURCE_DIR, golden);
    CHECK_EQ(c, nb_mapfile_open(path, &f, &err), NB_OK);
    if (f)
        CHECK_EQ(c, nb_json_parse(path, (const char *)f->p, f->n, &doc, &err), NB_OK);
    CHECK_EQ(c, nb_model_open(model, &o, &m, &err), NB_OK);
    if (err.message[0])
        fprintf(stderr, "%s\n", err.message);
    if (m)
        nb_model_get_info(m, &info);
    const nb_json_node *prompts = doc ? nb_json_get(nb_json_root(doc), "prompts") : NULL;
    const nb_json_node *p = prompts ? nb_json_first(prompts) : doc ? nb_json_root(doc) : NULL;
    for (; p && m; p = prompts ? nb_json_next(p) : NULL) {
        int32_t ids[1024], want[64], *got = NULL;
        size_t n_got = 0, text_n = 0;
        const char *text = NULL;
        const int32_t n = read_list(nb_json_get(p, "ids"), ids, 1024),
                      n_want = read_list(nb_json_get(p, "greedy"), want, 64);
        if (tokenizes && nb_json_string(nb_json_get(p, "text"), &text, &text_n)) {
            CHECK_EQ(c,
                     nb_model_tokenize(m, text, text_n, NB_TEXT_BOS | NB_TEXT_SPECIAL, &got, &n_got,
                                       &err),
                     NB_OK);
            CHECK_EQ(c, n_got, n);
            CHECK(c, n_got == (size_t)n && memcmp(got, ids, n_got * sizeof *got) == 0);
            nb_free(got);
        }
        float *all = malloc((size_t)n * (size_t)info.vocab_size * sizeof *all);
        const float *last = last_logits(c, m, ids, n, all);
        for (const nb_json_node *e = nb_json_first(nb_json_get(nb_json_get(p, "last"), "top")); e;
             e = nb_json_next(e)) {
            int64_t id = 0;
            double logit = 0;
            (void)nb_json_int(nb_json_first(e), &id);
            (void)nb_json_real(nb_json_next(nb_json_first(e)), &logit);
            CHECK_NEAR(c, last[id], logit, tol, "logit");
        }
        free(all);
        nb_session *s = NULL;
        nb_generate_result r = {0};
        const nb_generate_options go = {.prompt = ids,
                                        .n_prompt = (size_t)n,
                                        .n_predict = n_want,
                                        .ignore_end = true,
                                        .continues = true};
        CHECK_EQ(c, nb_session_open(m, 1, n + n_want, &s, &err), NB_OK);
        CHECK_EQ(c, nb_generate(s, &go, &r, &err), NB_OK);
        const nb_json_node *margin = nb_json_first(nb_json_get(p, "margin"));
        for (int32_t i = 0; i < n_want && i < (int32_t)r.n_token;
             i++, margin = margin ? nb_json_next(margin) : NULL) {
            double gap = 1;
            (void)nb_json_real(margin, &gap);
            if (gap < 1e-3 && r.tokens[i] != want[i]) {
                fprintf(stderr, "%s: step %d has a margin of %g, another token is no fault\n",
                        golden, i, gap);
                break;
            }
            CHECK_EQ(c, r.tokens[i], want[i]);
        }
        /* a word's space in SentencePiece's spelling is kept in a text that goes on */
        size_t piece_n = 0;
        const char *piece = r.n_token ? nb_model_token(m, r.tokens[0], &piece_n) : NULL;
        if (tokenizes && piece && piece_n > 3 && memcmp(piece, "\xe2\x96\x81", 3) == 0)
            CHECK(c, r.text_n && r.text[0] == ' ');
        nb_generate_result_free(&r);
        nb_session_close(s);
    }
    nb_model_close(m);
    nb_json_close(doc);
    nb_mapfile_close(f);
}

/* ---- the residual stream, layer by layer ---- */

typedef struct stream {
    nb_model *m;
    nb_acts acts;
    nb_kv *kv; /* [n_layer] */
    nb_pages pages;
    float *last; /* [hidden_size] the last position's */
    int32_t n;
} stream;

static nb_status stream_open(stream *s, const int32_t *ids, int32_t n, nb_error *err)
{
    nb_backend *be = s->m->be;
    int32_t place[1024] = {0};
    nb_status st = nb_acts_open(s->m, n, n, &s->acts, err);
    s->n = n;
    s->kv = calloc((size_t)s->m->hp.n_layer, sizeof *s->kv);
    s->last = calloc((size_t)s->m->hp.hidden_size, sizeof *s->last);
    if (st == NB_OK)
        st = nb_pages_open(s->m, 1, n, &s->pages, err);
    for (int l = 0; l < s->m->hp.n_layer && st == NB_OK; l++) {
        st = nb_kv_open(be, &s->m->hp, 1, n, &s->kv[l], err);
        s->kv[l].page = nb_pages_on(&s->pages, be);
    }
    if (st == NB_OK) {
        nb_pages_hold(&s->pages, 0, n);
        st = nb_pages_send(&s->pages, err);
    }
    if (st == NB_OK)
        st = be->op->upload(be, s->acts.ids, ids, (size_t)n * sizeof *ids, err);
    if (st == NB_OK)
        st = be->op->upload(be, s->acts.seq, place, (size_t)n * sizeof *place, err);
    for (int32_t i = 0; i < n; i++)
        place[i] = i;
    return st == NB_OK ? be->op->upload(be, s->acts.pos, place, (size_t)n * sizeof *place, err)
                       : st;
}

static void stream_close(stream *s)
{
    for (int l = 0; s->kv && l < s->m->hp.n_layer; l++)
        nb_kv_close(s->m->be, &s->kv[l]);
    nb_pages_close(&s->pages);
    nb_acts_close(s->m->be, &s->acts);
    free(s->kv);
    free(s->last);
}

/* The last position after the first n_layer layers. */
static nb_status stream_after(stream *s, int n_layer, nb_error *err)
{
    nb_model cut = *s->m;
    cut.hp.n_layer = n_layer;
    const int64_t d = cut.hp.hidden_size;
    const nb_batch batch = {
        .n_token = s->n, .seq = s->acts.seq, .pos = s->acts.pos, .max_len = s->n};
    const nb_status st = nb_decoder(&cut, &s->acts, &batch, s->kv, err);
    return st == NB_OK ? cut.be->op->download(cut.be, s->last, s->acts.x + (s->n - 1) * d,
                                              (size_t)d * sizeof(float), err)
                       : st;
}

/* golden "hidden"[k]: rms and first 8 values after k layers; its last entry is after the final norm
 * and stays out. */
static void compare_hidden(check *c, const char *model, const char *golden, double tol)
{
    nb_error err = {.offset = -1};
    const nb_model_options o = {.device = "cpu", .exact = true, .n_thread = 2};
    nb_mapfile *f = NULL;
    nb_json *doc = NULL;
    stream s = {0};
    char path[600];
    snprintf(path, sizeof path, "%s/tests/data/models/%s.json", NB_SOURCE_DIR, golden);
    CHECK_EQ(c, nb_mapfile_open(path, &f, &err), NB_OK);
    if (f)
        CHECK_EQ(c, nb_json_parse(path, (const char *)f->p, f->n, &doc, &err), NB_OK);
    CHECK_EQ(c, nb_model_load(model, &o, true, &s.m, &err), NB_OK);
    const nb_json_node *p = doc ? nb_json_first(nb_json_get(nb_json_root(doc), "prompts")) : NULL;
    int32_t ids[1024];
    const int32_t n = read_list(nb_json_get(p, "ids"), ids, 1024);
    if (s.m && n > 0 && stream_open(&s, ids, n, &err) == NB_OK) {
        const nb_json_node *h = nb_json_first(nb_json_get(p, "hidden"));
        CHECK(c, h != NULL);
        for (int k = 0; h && k < s.m->hp.n_layer; k++, h = nb_json_next(h)) {
            double rms = 0, want = 0;
            CHECK_EQ(c, stream_after(&s, k, &err), NB_OK);
            for (int i = 0; i < s.m->hp.hidden_size; i++)
                rms += (double)s.last[i] * (double)s.last[i];
            rms = sqrt(rms / s.m->hp.hidden_size);
            (void)nb_json_real(nb_json_get(h, "rms"), &want);
            CHECK_NEAR(c, rms, want, tol * want, "rms of the residual stream");
            const nb_json_node *e = nb_json_first(nb_json_get(h, "first"));
            CHECK(c, e != NULL);
            for (int i = 0; e; i++, e = nb_json_next(e)) {
                double v = 0;
                (void)nb_json_real(e, &v);
                CHECK_NEAR(c, s.last[i], v, tol * want, "residual stream");
            }
        }
    }
    CHECK_STR(c, err.message, "");
    if (s.m)
        stream_close(&s);
    nb_model_close(s.m);
    nb_json_close(doc);
    nb_mapfile_close(f);
}

static void tiny_llama(check *c)
{
    compare(c, NB_SOURCE_DIR "/tests/data/models/tiny-llama", "tiny-llama/golden", "ref", false,
            4e-4);
    compare(c, NB_SOURCE_DIR "/tests/data/models/tiny-llama", "tiny-llama/golden", "cpu", false,
            4e-4);
}

static void stories(check *c)
{
    char path[600];
    if (!check_shared("models/stories260K/config.json", path, sizeof path)) {
        check_skip(c, "the stories260K checkpoint is not beside the source tree");
        return;
    }
    *strrchr(path, '/') = 0;
    compare(c, path, "stories260K", "ref", true, 2e-3);
    compare(c, path, "stories260K", "cpu", true, 2e-3);
}

static void smollm2(check *c)
{
    char path[600];
    if (!check_model("SmolLM2-135M-Instruct.Q4_1.gguf", path, sizeof path)) {
        check_skip(c, "SmolLM2-135M-Instruct.Q4_1.gguf is not in the model cache; ./quickstart.sh "
                      "fetches it");
        return;
    }
    compare(c, path, "smollm2", "cpu", true, 2e-3);
}

static void gemma3(check *c)
{
    char path[600];
    if (!check_model("gemma-3-270m-q4_k_m.gguf", path, sizeof path)) {
        check_skip(c, "gemma-3-270m-q4_k_m.gguf is not in the model cache");
        return;
    }
    compare(c, path, "gemma3", "cpu", true, 2e-3);
    compare_hidden(c, path, "gemma3", 1e-4);
}

static const check_case cases[] = {
    {"tiny llama with llama3 rope scaling gives the publisher's logits", tiny_llama},
    {"stories260K from safetensors gives transformers' ids, logits and text", stories},
    {"SmolLM2 from GGUF gives transformers' ids, logits and text", smollm2},
    {"Gemma 3 from GGUF gives transformers' ids, logits, text and residual stream", gemma3},
};
CHECK_MAIN(cases)
