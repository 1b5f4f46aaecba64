/* fold.c -- scaling the inputs of a layer's linears changes nothing: every family's small
 * checkpoints, from both containers into both, with the scales that AWQ's search finds, nothing
 * rounded. The folded model's logits are the publisher's (tests/data/models/README.md) within 1e-4
 * of the largest, though its norms, v, up and the rest are other numbers. In folders norms are
 * BF16, so that what the file rounds must be in the scales.
 *
 * And the two streams of the drift correction under scales: where the quantized stream is all but
 * exact, there is no drift. */
#include "base/mapfile.h"
#include "check.h"
#include "convert/folder_sink.h"
#include "convert/gguf_sink.h"
#include "file/json.h"
#include "hostile/folder.h"
#include "nibble.h"
#include "quant/pipeline.h"

enum { kSeq = 2, kCtx = 48, kMostIds = 64 };

static const char *const families[] = {"llama",   "mistral", "qwen2",    "qwen3",
                                       "gemma2",  "gemma3",  "phi3",     "granite",
                                       "smollm3", "mixtral", "qwen3_moe"};
enum { kFamilies = sizeof families / sizeof *families };

static folder here;

/* ---- sinks of floats ---- */

static const nb_dtype *all_f32(void *arg, const nb_tensor *t)
{
    (void)arg, (void)t;
    return nb_dtype_by_name("f32");
}

/* A bias of BF16 would be rounded, which no scale makes good. */
static const nb_dtype *bf16_norms(void *arg, const nb_tensor *t)
{
    (void)arg;
    return nb_dtype_by_name(t->n_dim == 1 && strstr(t->name, "norm") ? "bf16" : "f32");
}

static nb_status open_sink(const nb_model *m, bool gguf, const char *out,
                           const nb_dtype *(*choose)(void *, const nb_tensor *), nb_sink **sink,
                           nb_error *err)
{
    const nb_gguf_sink_spec g = {.model = m, .out = out, .choose = choose, .n_thread = 1};
    const nb_folder_sink_spec f = {
        .model = m, .out = out, .choose = choose, .torch_dtype = "float32", .n_thread = 1};
    return gguf ? nb_gguf_sink_open(&g, sink, err) : nb_folder_sink_open(&f, sink, err);
}

/* ---- runs ---- */

static nb_model *open_model(check *c, const char *path, bool layers)
{
    nb_error err = {.message = ""};
    const nb_model_options o = {.device = "cpu", .exact = true, .n_thread = 1};
    nb_model *m = NULL;
    CHECK_EQ(c, nb_model_load(path, &o, layers, &m, &err), NB_OK);
    CHECK_STR(c, err.message, "");
    return m;
}

static void pipeline(check *c, const nb_model *m, const nb_quantizer *q, const nb_grid *grid,
                     double correction, nb_sink *sink)
{
    int32_t ids[kSeq * kCtx];
    nb_error err = {.message = ""};
    nb_linear_report *report = calloc((size_t)nb_pipeline_most_reports(m), sizeof *report);
    int64_t n_report = 0;
    const nb_calib calib = {.ids = ids, .n_seq = kSeq, .ctx = kCtx};
    const nb_pipeline_options o = {.quantizer = q,
                                   .grid = *grid,
                                   .damp = 0.01,
                                   .correction = correction,
                                   .static_groups = true,
                                   .clip = q->clip,
                                   .layer_to = m->hp.n_layer,
                                   .n_thread = 1};
    for (int i = 0; i < kSeq * kCtx; i++)
        ids[i] = (i * 37 + i / 3) % m->hp.vocab_size;
    nb_model copy = *m;
    CHECK_EQ(c, nb_pipeline_run(&copy, &o, &calib, sink, report, &n_report, &err), NB_OK);
    CHECK_STR(c, err.message, "");
    free(report);
}

/* Every position's logits [n, vocab_size], the caller's. */
static float *logits_of(check *c, const char *path, const int32_t *ids, int32_t n, int64_t *n_out)
{
    nb_error err = {.message = ""};
    nb_session *s = NULL;
    nb_model *m = open_model(c, path, true);
    float *all = NULL;
    *n_out = 0;
    if (m && nb_session_open(m, 1, n, &s, &err) == NB_OK) {
        *n_out = (int64_t)n * m->hp.vocab_size;
        all = calloc((size_t)*n_out, sizeof *all);
        CHECK_EQ(c, nb_session_step(s, 0, ids, n, true, all, &err), NB_OK);
    }
    CHECK_STR(c, err.message, "");
    nb_session_close(s);
    nb_model_close(m);
    return all;
}

static int falling(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/* How far the logits of two models lie apart, but for the n_skip positions that do most; *most: the
 * largest of the first. */
static double furthest(check *c, const char *a, const char *b, const int32_t *ids, int32_t n_id,
                       int32_t n_skip, double *most)
{
    int64_t n = 0, n_got = 0;
    float *want = logits_of(c, a, ids, n_id, &n), *got = logits_of(c, b, ids, n_id, &n_got);
    double off[kMostIds + 1] = {0};
    CHECK_EQ(c, n, n_got);
    for (int64_t i = 0; want && got && i < n && n == n_got; i++) {
        double *at = &off[i / (n / n_id)];
        *most = fmax(*most, fabs((double)want[i]));
        *at = fmax(*at, fabs((double)want[i] - (double)got[i]));
    }
    qsort(off, (size_t)n_id, sizeof *off, falling);
    free(want);
    free(got);
    return off[n_skip];
}

static int32_t read_ids(check *c, const char *folder_path, int32_t *ids)
{
    nb_error err = {.message = ""};
    char path[700];
    nb_mapfile *f = NULL;
    nb_json *doc = NULL;
    int32_t n = 0;
    int64_t id;
    snprintf(path, sizeof path, "%s/golden.json", folder_path);
    nb_status st = nb_mapfile_open(path, &f, &err);
    if (st == NB_OK)
        st = nb_json_parse(path, (const char *)f->p, f->n, &doc, &err);
    CHECK_STR(c, err.message, "");
    for (const nb_json_node *e = st == NB_OK ? nb_json_first(nb_json_get(nb_json_root(doc), "ids"))
                                             : NULL;
         e && n < kMostIds; e = nb_json_next(e))
        if (nb_json_int(e, &id))
            ids[n++] = (int32_t)id;
    nb_json_close(doc);
    nb_mapfile_close(f);
    return n;
}

/* How far the rows of a slot differ between two models: the largest |a - b|. */
static double moved_at(check *c, const nb_model *a, const nb_model *b, nb_slot at)
{
    nb_error err = {.message = ""};
    const nb_model *m[2] = {a, b};
    float *v[2] = {NULL, NULL};
    int64_t N = 0, K = 0, all = 0;
    double most = 0;
    for (int i = 0; i < 2; i++) {
        nb_matrix w;
        void *made = NULL;
        nb_family_shape(&m[i]->hp, at, &N, &K);
        all = (N ? N : 1) * K;
        v[i] = calloc((size_t)all, sizeof(float));
        if (!N)
            CHECK_EQ(c, nb_model_decode_vector(m[i], at, v[i], &err), NB_OK);
        else if (nb_model_matrix(m[i], at, &w, &made, &err) == NB_OK)
            for (int64_t n = 0; n < N; n++)
                nb_dtype_decode_row(w.dtype, w.rows + n * nb_dtype_row_bytes(w.dtype, K),
                                    v[i] + n * K, K);
        free(made);
        CHECK_STR(c, err.message, "");
    }
    for (int64_t i = 0; i < all; i++)
        most = fmax(most, fabs((double)v[0][i] - (double)v[1][i]));
    free(v[0]);
    free(v[1]);
    return most;
}

/* Of all experts' slots of a role: one that too few tokens were sent to keeps its inputs. */
static double moved(check *c, const nb_model *a, const nb_model *b, nb_role role, int layer)
{
    double most = 0;
    for (int e = 0; e < nb_model_n_slot(a, role); e++)
        most = fmax(most, moved_at(c, a, b, (nb_slot){.role = role, .layer = layer, .expert = e}));
    return most;
}

/* Everything that should take up scales did, and what should not did not. */
static void check_moved(check *c, const nb_model *a, const char *out)
{
    static const nb_role scaled[] = {NB_ROLE_ATTN_NORM, NB_ROLE_ATTN_V, NB_ROLE_ATTN_O,
                                     NB_ROLE_FFN_NORM,  NB_ROLE_FFN_UP, NB_ROLE_FFN_DOWN};
    static const nb_role still[] = {NB_ROLE_EMBED, NB_ROLE_OUTPUT_NORM, NB_ROLE_ATTN_POST_NORM,
                                    NB_ROLE_ATTN_Q_NORM, NB_ROLE_ATTN_Q_BIAS};
    int none = 0;
    nb_model *b = open_model(c, out, false);
    for (size_t i = 0; b && i < sizeof scaled / sizeof *scaled; i++) {
        double most = 0;
        for (int l = 0; l < a->hp.n_layer; l++)
            most = fmax(most, moved(c, a, b, scaled[i], l));
        none += !(most > 1e-3);
    }
    CHECK(c, none <= (a->hp.hidden_size > 32 ? 0 : 1)); /* for a group of 32 inputs and no more the
                                                           search may find nothing better than 1 */
    for (size_t i = 0; b && i < sizeof still / sizeof *still; i++)
        if (nb_model_has(a, (nb_slot){.role = still[i]}))
            CHECK(c, moved(c, a, b, still[i], 0) < 0.01);
    if (b && a->hp.n_expert)
        CHECK(c, moved(c, a, b, NB_ROLE_ROUTER, 0) > 1e-4);
    if (b && nb_model_has(a, (nb_slot){.role = NB_ROLE_ATTN_V_BIAS}))
        CHECK(c, moved(c, a, b, NB_ROLE_ATTN_V_BIAS, 0) > 1e-4);
    nb_model_close(b);
}

/* Scales and nothing else. */
static const nb_quantizer fold_only = {
    .name = "fold", .summary = "", .cost = "", .needs = NB_NEEDS_HESSIAN, .input_scales = true};

static void folded(check *c, const char *model, bool gguf, const int32_t *ids, int32_t n_id)
{
    char out[1024];
    nb_error err = {.message = ""};
    nb_grid grid;
    nb_sink *sink = NULL;
    CHECK_EQ(c, nb_grid_find("int3", 32, false, &grid, &err), NB_OK);
    nb_model *m = open_model(c, model, false);
    folder_in(&here, gguf ? "folded.gguf" : "folded", out);
    if (m && open_sink(m, gguf, out, gguf ? all_f32 : bf16_norms, &sink, &err) == NB_OK) {
        pipeline(c, m, &fold_only, &grid, 0.0, sink);
        CHECK_EQ(c, sink->op->commit(sink, NULL, 0, &err), NB_OK);
        sink->op->close(sink);
        check_moved(c, m, out);
    }
    CHECK_STR(c, err.message, "");
    nb_model_close(m);
    double most = 0;
    const double off = furthest(c, model, out, ids, n_id, 0, &most);
    printf("      %s into %s: off by %.2g of %.2g\n", strstr(model, "models/") + 7,
           gguf ? "GGUF" : "a folder", off, most);
    CHECK(c, most > 0.1);
    CHECK_NEAR(c, off, 0.0, 1e-4 * most, model);
    folder_remove(out);
}

static void every_family(check *c, const char *kind, const char *file)
{
    for (int i = 0; i < kFamilies; i++) {
        char path[600], model[700];
        int32_t ids[kMostIds];
        snprintf(path, sizeof path, "%s/tests/data/models/%s-%s", NB_SOURCE_DIR, kind, families[i]);
        if (access(path, F_OK) != 0) /* not every kind is there as GGUF */
            continue;
        const int32_t n = read_ids(c, path, ids);
        snprintf(model, sizeof model, "%s%s", path, file);
        folded(c, model, true, ids, n);
        folded(c, model, false, ids, n);
    }
}

static void from_folders(check *c)
{
    every_family(c, "tiny", "");
}

static void from_gguf(check *c)
{
    every_family(c, "gguf", "/model.gguf");
}

/* ---- the drift ---- */

static double worst_drift;              /* of all groups: max |C_ij| / max H, of W C beside W H */
static int n_group, n_still, n_product; /* n_still: without any; n_product: by W C */

static double *fetch(nb_backend *be, const double *from, int64_t n)
{
    double *to = calloc((size_t)n, sizeof *to);
    if (!to || be->op->download(be, to, from, (size_t)n * sizeof *to, NULL) != NB_OK)
        exit(1);
    return to;
}

/* The largest magnitude in W H, as the weights are on the device. */
static double most_of_product(const nb_quant_job *j, const double *h)
{
    float *w = calloc((size_t)(j->N * j->K), sizeof *w);
    double most = 0;
    if (!w || j->be->op->download(j->be, w, j->w, (size_t)(j->N * j->K) * sizeof *w, NULL) != NB_OK)
        exit(1);
    for (int64_t n = 0; n < j->N; n++)
        for (int64_t k = 0; k < j->K; k++) {
            double v = 0;
            for (int64_t i = 0; i < j->K; i++)
                v += (double)w[n * j->K + i] * h[i * j->K + k];
            most = fmax(most, fabs(v));
        }
    free(w);
    return most;
}

/* Rounds into 8 bits, so that the streams stay together, and looks at the drift. */
static nb_status watch(const nb_quant_job *j, nb_error *err)
{
    if (!j->c && !j->wc)
        return nb_fail(err, NB_INTERNAL, "no drift was measured");
    const int64_t n = j->K * (j->wc ? j->N : j->K);
    double *h = fetch(j->be, j->h, j->K * j->K), *moved = fetch(j->be, j->wc ? j->wc : j->c, n),
           most = 0, drift = 0;
    for (int64_t i = 0; i < j->K * j->K; i++)
        most = fmax(most, fabs(h[i]));
    if (j->wc)
        most = most_of_product(j, h);
    for (int64_t i = 0; i < n; i++)
        drift = fmax(drift, fabs(moved[i]));
    worst_drift = fmax(worst_drift, most > 0.0 ? drift / most : 1.0);
    n_group++;
    n_still += drift == 0.0;
    n_product += j->wc != NULL;
    free(h);
    free(moved);
    const nb_status st = nb_quant_round(j, j->groups, j->codes, err);
    return st == NB_OK ? nb_quant_values(j, err) : st;
}

static const nb_quantizer watched = {.name = "watched",
                                     .summary = "",
                                     .cost = "",
                                     .needs = NB_NEEDS_HESSIAN,
                                     .corrects = true,
                                     .input_scales = true,
                                     .layer = watch};

static const nb_dtype *q8(void *arg, const nb_tensor *t)
{
    (void)arg;
    return nb_dtype_by_name(t->n_dim != 2 ? "f32" : t->shape[1] % 32 ? "f16" : "q8_0");
}

/* Every family through a quantizer into 8 bits. */
static void eight_bits(check *c, const nb_quantizer *q)
{
    nb_error err = {.message = ""};
    nb_grid grid;
    CHECK_EQ(c, nb_grid_find("q8_0", 0, true, &grid, &err), NB_OK);
    for (int i = 0; i < kFamilies; i++) {
        char path[600], out[1024];
        nb_sink *sink = NULL;
        int32_t ids[kMostIds];
        double most = 0;
        snprintf(path, sizeof path, "%s/tests/data/models/tiny-%s", NB_SOURCE_DIR, families[i]);
        const int32_t n = read_ids(c, path, ids);
        nb_model *m = open_model(c, path, false);
        worst_drift = 0;
        n_group = n_still = 0;
        folder_in(&here, "eight.gguf", out);
        if (m && open_sink(m, true, out, q8, &sink, &err) == NB_OK) {
            pipeline(c, m, q, &grid, q->corrects ? 1.0 : 0.0, sink);
            CHECK_EQ(c, sink->op->commit(sink, NULL, 0, &err), NB_OK);
            sink->op->close(sink);
            if (q == &watched) { /* down of qwen3_moe is too narrow for q8_0: kept */
                const int E = m->hp.n_expert ? m->hp.n_expert : 1;
                const int n_down = m->hp.intermediate_size % 32 ? 0 : E;
                CHECK_EQ(c, n_group, (2 + E + n_down) * m->hp.n_layer);
                CHECK(c, worst_drift < 0.04);
                CHECK_EQ(c, n_still,
                         1); /* q,k,v of the first layer; everywhere else 8 bits make some */
            }
        }
        CHECK_STR(c, err.message, "");
        const bool mixture = m && m->hp.n_expert;
        nb_model_close(m);
        const int32_t n_skip = mixture ? n / 4 : 0; /* tokens that go to another expert */
        const double off = furthest(c, path, out, ids, n, n_skip, &most);
        printf("      %s by %s: off by %.3f of %.2g, the largest drift is %.2g of the largest "
               "second moment\n",
               families[i], q->name, off, most, worst_drift);
        CHECK(c, off < 0.15 * most); /* rounding alone: up to 0.1, their attention is peaked */
        folder_remove(out);
    }
}

static void no_drift(check *c)
{
    eight_bits(c, &watched);
    CHECK(c, n_product > 0);
}

static void rounded(check *c)
{
    eight_bits(c, nb_quantizer_find("awq"));
    eight_bits(c, nb_quantizer_find("awq-gptq"));
}

static const check_case cases[] = {
    {"a folder's folded layers compute what the layers did, in every family", from_folders},
    {"so do those of a GGUF file", from_gguf},
    {"the original stream does not drift from a scaled one that is all but exact", no_drift},
    {"behind AWQ's row, and GPTQ's with it, 8 bits lose little", rounded},
};

int main(int argc, char **argv)
{
    here = folder_new();
    const int rc = check_main(cases, sizeof cases / sizeof *cases, argc, argv);
    folder_gone(&here);
    return rc;
}
