/* experts.c -- the statistics of a mixture's experts (quant/routing.c, quant/experts.c) against
 * plain arithmetic, on the small mixtures of tests/data/models.
 *
 * With o's weights at zero, which every format holds exactly, the first layer's feed-forward reads
 * the normed embeddings, so which tokens go where and what each expert sees is computed here from
 * the checkpoint alone, in double. */
#include "check.h"
#include "convert/gguf_sink.h"
#include "hostile/folder.h"
#include "quant/pipeline.h"

enum { kSeq = 10, kCtx = 64, kTokens = kSeq * kCtx, kMostCalls = 64, kMostK = 128 };

static folder here;

/* ---- a quantizer that remembers ---- */

typedef struct call {
    int64_t N, K, n_token;
    double damp, *h; /* [K,K], NULL: none was given */
    double *c, *wc;  /* [K,K] or [N,K], likewise */
    float *w, *q;    /* [N,K] before; what the codes mean */
    uint8_t *codes;
} call;

static call calls[kMostCalls];
static int n_call;

static void *fetch(nb_backend *be, const void *from, size_t bytes)
{
    nb_error err = {.message = ""};
    void *p = from ? malloc(bytes) : NULL;
    if (p && be->op->download(be, p, from, bytes, &err) != NB_OK)
        exit(1);
    return p;
}

static nb_status remember(const nb_quant_job *j, nb_error *err)
{
    const size_t n = (size_t)(j->N * j->K);
    call *k = &calls[n_call++];
    *k = (call){.N = j->N,
                .K = j->K,
                .n_token = j->n_token,
                .damp = j->damp,
                .h = fetch(j->be, j->h, (size_t)(j->K * j->K) * 8),
                .c = fetch(j->be, j->c, (size_t)(j->K * j->K) * 8),
                .wc = fetch(j->be, j->wc, 8 * n),
                .w = fetch(j->be, j->w, 4 * n)};
    const nb_status st = nb_quantizer_find("gptq")->layer(j, err);
    k->q = fetch(j->be, j->q, 4 * n);
    k->codes = fetch(j->be, j->codes, n);
    return st;
}

static void forget(void)
{
    for (int i = 0; i < n_call; i++) {
        free(calls[i].h);
        free(calls[i].c);
        free(calls[i].wc);
        free(calls[i].w);
        free(calls[i].q);
        free(calls[i].codes);
    }
    n_call = 0;
}

static const nb_quantizer remembering = {.name = "remembering",
                                         .summary = "",
                                         .cost = "",
                                         .needs = NB_NEEDS_HESSIAN,
                                         .corrects = true,
                                         .layer = remember};
static const nb_quantizer scaling = {.name = "scaling",
                                     .summary = "",
                                     .cost = "",
                                     .needs = NB_NEEDS_HESSIAN,
                                     .corrects = true,
                                     .input_scales = true,
                                     .layer = remember};

/* ---- models ---- */

static nb_model *open_model(check *c, const char *path, const char *device)
{
    nb_error err = {.message = ""};
    const nb_model_options o = {.device = device, .exact = true, .n_thread = 2};
    nb_model *m = NULL;
    CHECK_EQ(c, nb_model_load(path, &o, false, &m, &err), NB_OK);
    CHECK_STR(c, err.message, "");
    return m;
}

static uint8_t *read_file(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    uint8_t *p = calloc(1, 1 << 20);
    *n = f && p ? fread(p, 1, 1 << 20, f) : 0;
    if (f)
        fclose(f);
    return p;
}

/* A copy of the checkpoint whose attention adds nothing. */
static void without_attention(check *c, const char *family, char path[1024])
{
    static const char *const files[] = {"config.json", "model.safetensors"};
    char from[700], name[NB_TENSOR_NAME];
    snprintf(from, sizeof from, "%s/tests/data/models/tiny-%s", NB_SOURCE_DIR, family);
    nb_model *m = open_model(c, from, "ref");
    folder_in(&here, family, path);
    mkdir(path, 0777);
    for (int i = 0; i < 2 && m; i++) {
        size_t n = 0;
        char in[1024], copy[256];
        snprintf(in, sizeof in, "%.700s/%.100s", from, files[i]);
        uint8_t *p = read_file(in, &n);
        for (int l = 0; i == 1 && l < m->hp.n_layer; l++) {
            const nb_tensor *t = nb_family_tensor(
                m->family, m->container, (nb_slot){.role = NB_ROLE_ATTN_O, .layer = l}, name);
            CHECK(c, t->offset + t->bytes <= n);
            memset(p + t->offset, 0, t->bytes);
        }
        snprintf(copy, sizeof copy, "%.100s/%.100s", family, files[i]);
        folder_write(&here, copy, p, n);
        free(p);
    }
    nb_model_close(m);
}

/* A copy of mixtral's checkpoint whose experts are kWider times as wide inside, by repeating their
 * numbers: down is narrow then. */
static void with_wide_experts(check *c, char path[1024])
{
    enum { kWider = 4, kRoom = 1 << 20 };
    char from[700];
    size_t n = 0, offset = 0, n_head = 0;
    snprintf(from, sizeof from, "%s/tests/data/models/tiny-mixtral/config.json", NB_SOURCE_DIR);
    char *config = (char *)read_file(from, &n), *head = calloc(1, kRoom),
         *at = config ? strstr(config, "\"intermediate_size\": 32,") : NULL;
    uint8_t *data = calloc(1, kRoom);
    from[strlen(from) - strlen("/config.json")] = 0;
    nb_model *m = open_model(c, from, "ref");
    CHECK(c, at != NULL);
    if (at && m && head && data) {
        folder_in(&here, "wide", path);
        mkdir(path, 0777);
        memmove(at + 24, at + 23, strlen(at + 23) + 1);
        memcpy(at + 21, "128", 3);
        folder_write(&here, "wide/config.json", config, n + 1);
        for (int64_t i = 0; i < m->container->n_tensor; i++) {
            const nb_tensor *t = &m->container->tensor[i];
            const bool wide = strstr(t->name, ".experts.") != NULL,
                       down = strstr(t->name, ".w2.") != NULL;
            const int times = wide ? kWider : 1;
            CHECK(c, offset + (size_t)times * t->bytes <= kRoom && n_head < kRoom - 300);
            n_head += (size_t)sprintf(head + n_head, "%c\"%s\":{\"dtype\":\"BF16\",\"shape\":[%lld",
                                      i ? ',' : '{', t->name,
                                      (long long)t->shape[0] * (wide && !down ? times : 1));
            if (t->n_dim == 2)
                n_head += (size_t)sprintf(head + n_head, ",%lld",
                                          (long long)t->shape[1] * (down ? times : 1));
            n_head += (size_t)sprintf(head + n_head, "],\"data_offsets\":[%zu,%zu]}", offset,
                                      offset + (size_t)times * t->bytes);
            for (int k = 0; k < times; k++, offset += t->bytes)
                memcpy(data + offset, t->data, t->bytes);
        }
        head[n_head++] = '}';
        uint8_t *file = calloc(1, 8 + n_head + offset);
        for (int i = 0; i < 8; i++)
            file[i] = (uint8_t)(n_head >> 8 * i);
        memcpy(file + 8, head, n_head);
        memcpy(file + 8 + n_head, data, offset);
        folder_write(&here, "wide/model.safetensors", file, 8 + n_head + offset);
        free(file);
    }
    free(config);
    free(head);
    free(data);
    nb_model_close(m);
}

static const nb_dtype *eight_bits(void *arg, const nb_tensor *t)
{
    (void)arg;
    return nb_dtype_by_name(t->n_dim != 2 ? "f32" : t->shape[1] % 32 ? "f16" : "q8_0");
}

static void calibration(const nb_model *m, int32_t *ids, int n)
{
    for (int i = 0; i < n; i++)
        ids[i] = (i * 37 + i / 3) % m->hp.vocab_size;
}

/* Runs the pipeline into 8 bits and leaves its calls, and its records in report. */
static int64_t pipeline_of(check *c, const nb_quantizer *q, nb_model *m, int n_seq, int ctx,
                           int batch, double correction, nb_linear_report *report)
{
    int32_t ids[kTokens];
    char out[1024];
    nb_error err = {.message = ""};
    nb_sink *sink = NULL;
    nb_grid grid;
    int64_t n_report = 0;
    calibration(m, ids, n_seq * ctx);
    const nb_calib calib = {.ids = ids, .n_seq = n_seq, .ctx = ctx};
    const nb_gguf_sink_spec spec = {
        .model = m, .out = folder_in(&here, "out.gguf", out), .choose = eight_bits, .n_thread = 1};
    CHECK_EQ(c, nb_grid_find("q8_0", 0, true, &grid, &err), NB_OK);
    const nb_pipeline_options o = {.quantizer = q,
                                   .grid = grid,
                                   .damp = 0.01,
                                   .correction = correction,
                                   .static_groups = true,
                                   .layer_to = m->hp.n_layer,
                                   .expert_batch = batch,
                                   .n_thread = 1};
    forget();
    CHECK_EQ(c, nb_gguf_sink_open(&spec, &sink, &err), NB_OK);
    if (sink) {
        CHECK_EQ(c, nb_pipeline_run(m, &o, &calib, sink, report, &n_report, &err), NB_OK);
        sink->op->close(sink);
    }
    CHECK_STR(c, err.message, "");
    return n_report;
}

static int64_t pipeline(check *c, nb_model *m, int n_seq, int ctx, int batch, double correction,
                        nb_linear_report *report)
{
    return pipeline_of(c, &remembering, m, n_seq, ctx, batch, correction, report);
}

/* ---- what the experts of the first layer see, by hand ---- */

static float *decoded(const nb_model *m, nb_slot at)
{
    nb_error err = {.message = ""};
    nb_matrix a;
    void *made = NULL;
    int64_t N, K;
    nb_family_shape(&m->hp, at, &N, &K);
    float *w = calloc((size_t)((N ? N : 1) * K), sizeof *w);
    const nb_status st =
        N ? nb_model_matrix(m, at, &a, &made, &err) : nb_model_decode_vector(m, at, w, &err);
    for (int64_t n = 0; n < N && st == NB_OK; n++)
        nb_dtype_decode_row(a.dtype, a.rows + n * nb_dtype_row_bytes(a.dtype, K), w + n * K, K);
    free(made);
    return w;
}

/* h [kTokens, d] the normed rows, to [kTokens][n_expert] whether a token is sent to an expert. */
static void route(const nb_model *m, double *h, bool *to)
{
    const int64_t d = m->hp.hidden_size;
    const int E = m->hp.n_expert;
    int32_t ids[kTokens];
    float *embed = decoded(m, (nb_slot){.role = NB_ROLE_EMBED}),
          *norm = decoded(m, (nb_slot){.role = NB_ROLE_FFN_NORM});
    float *router = decoded(m, (nb_slot){.role = NB_ROLE_ROUTER});
    calibration(m, ids, kTokens);
    for (int t = 0; t < kTokens; t++) {
        const float *x = embed + ids[t] * d;
        double mean = 0, logit[64];
        for (int64_t k = 0; k < d; k++)
            mean += (double)x[k] * (double)x[k] / (double)d;
        for (int64_t k = 0; k < d; k++)
            h[t * d + k] = (double)x[k] / sqrt(mean + (double)m->hp.norm_eps) * (double)norm[k];
        for (int e = 0; e < E; e++) {
            logit[e] = 0;
            for (int64_t k = 0; k < d; k++)
                logit[e] += h[t * d + k] * (double)router[e * d + k];
        }
        for (int e = 0; e < E; e++) {
            int better = 0;
            for (int f = 0; f < E; f++)
                better += logit[f] > logit[e];
            to[t * E + e] = better < m->hp.n_expert_used;
        }
    }
    free(embed);
    free(norm);
    free(router);
}

/* f [I] = silu(q_g x) (q_u x) with the weights that were written. */
static void activate(const call *gate_up, const double *x, double *f)
{
    const int64_t I = gate_up->N / 2, d = gate_up->K;
    for (int64_t i = 0; i < I; i++) {
        double g = 0, u = 0;
        for (int64_t k = 0; k < d; k++) {
            g += (double)gate_up->q[i * d + k] * x[k];
            u += (double)gate_up->q[(I + i) * d + k] * x[k];
        }
        f[i] = g / (1 + exp(-g)) * u;
    }
}

static int64_t moments(const nb_model *m, int e, const double *h, const bool *to,
                       const call *gate_up, double *out)
{
    const int64_t d = m->hp.hidden_size, K = gate_up ? gate_up->N / 2 : d;
    int64_t n = 0;
    memset(out, 0, (size_t)(K * K) * sizeof *out);
    for (int t = 0; t < kTokens; t++) {
        double x[kMostK];
        if (!to[t * m->hp.n_expert + e])
            continue;
        n++;
        if (gate_up)
            activate(gate_up, h + t * d, x);
        else
            memcpy(x, h + t * d, (size_t)d * sizeof *x);
        for (int64_t i = 0; i < K; i++)
            for (int64_t j = 0; j < K; j++)
                out[i * K + j] += x[i] * x[j];
    }
    return n;
}

static void compare(check *c, const call *k, int64_t n, const double *want)
{
    double most = 0, off = 0;
    CHECK_EQ(c, k->n_token, n);
    CHECK(c, k->h != NULL);
    for (int64_t i = 0; k->h && i < k->K * k->K; i++) {
        most = fmax(most, fabs(want[i]));
        off = fmax(off, fabs(want[i] - k->h[i]));
    }
    CHECK(c, n > 0 && most > 0);
    CHECK_NEAR(c, off, 0.0, 2e-6 * most, "second moments");
}

/* GPTQ of the matrix with those moments, as of any linear: its codes are the expert's. */
static void check_dense(check *c, const call *k, const double *h)
{
    nb_error err = {.message = ""};
    nb_backend *be = NULL;
    nb_grid grid;
    const nb_backend_options bo = {.exact = true};
    nb_quant_stats stats = {0};
    const size_t n = (size_t)(k->N * k->K),
                 bytes[] = {4 * n, 4 * n, (size_t)(k->K * k->K) * 8, n, n / 32 * sizeof(nb_group)};
    void *p[5] = {NULL};
    int differ = 0;
    CHECK_EQ(c, nb_backend_open("ref", &bo, &be, &err), NB_OK);
    CHECK_EQ(c, nb_grid_find("q8_0", 0, true, &grid, &err), NB_OK);
    for (int i = 0; i < 5; i++)
        CHECK_EQ(c, be->op->alloc(be, bytes[i], "a test", &p[i], &err), NB_OK);
    CHECK_EQ(c, be->op->upload(be, p[0], k->w, bytes[0], &err), NB_OK);
    CHECK_EQ(c, be->op->upload(be, p[2], h, bytes[2], &err), NB_OK);
    const nb_quant_job j = {.be = be,
                            .grid = &grid,
                            .w = p[0],
                            .N = k->N,
                            .K = k->K,
                            .h = p[2],
                            .n_token = k->n_token,
                            .damp = k->damp,
                            .static_groups = true,
                            .codes = p[3],
                            .groups = p[4],
                            .q = p[1],
                            .stats = &stats};
    CHECK_EQ(c, nb_quantizer_find("gptq")->layer(&j, &err), NB_OK);
    uint8_t *codes = fetch(be, p[3], n);
    for (size_t i = 0; i < n; i++)
        differ += codes[i] != k->codes[i];
    CHECK(c, differ <= (int)n / 1000); /* ties: here the moments are summed in double */
    free(codes);
    for (int i = 0; i < 5; i++)
        be->op->release(be, p[i]);
    nb_backend_close(be);
    CHECK_STR(c, err.message, "");
}

static void own_tokens(check *c, const char *family)
{
    char path[1024];
    without_attention(c, family, path);
    nb_model *m = open_model(c, path, "ref");
    if (!m)
        return;
    const int E = m->hp.n_expert;
    const bool narrow = m->hp.intermediate_size % 32 != 0; /* down is kept */
    nb_linear_report *report = calloc((size_t)nb_pipeline_most_reports(m), sizeof *report);
    double *h = calloc((size_t)(kTokens * m->hp.hidden_size), sizeof *h),
           *want = calloc(kMostK * kMostK, sizeof *want);
    bool *to = calloc((size_t)(kTokens * E), sizeof *to);
    const int64_t n_report = pipeline(c, m, kSeq, kCtx, 0, 0.0, report);
    int64_t pairs = 0;
    CHECK_EQ(c, n_call, m->hp.n_layer * (2 + E + (narrow ? 0 : E)));
    CHECK_EQ(c, n_report, m->hp.n_layer * (4 + 3 * E));
    route(m, h, to);
    for (int e = 0; e < E; e++) {
        const int64_t n = moments(m, e, h, to, NULL, want);
        pairs += n;
        compare(c, &calls[2 + e], n, want);
        check_dense(c, &calls[2 + e], want);
        CHECK_EQ(c, report[4 + 2 * e].n_token, n);
        CHECK(c, report[4 + 2 * e].expert && !report[4 + 2 * e].rounded && !report[3].expert);
        if (narrow)
            continue;
        (void)moments(m, e, h, to, &calls[2 + e], want);
        compare(c, &calls[2 + E + e], n, want);
        check_dense(c, &calls[2 + E + e], want);
    }
    CHECK_EQ(c, pairs, (int64_t)kTokens * m->hp.n_expert_used);
    forget();
    free(report);
    free(h);
    free(want);
    free(to);
    nb_model_close(m);
}

static void mixtral_own_tokens(check *c)
{
    own_tokens(c, "mixtral");
}
static void qwen3_moe_own_tokens(check *c)
{
    own_tokens(c, "qwen3_moe");
}

/* ---- batches ---- */

static uint64_t hash_calls(void)
{
    uint64_t h = 14695981039346656037u; /* FNV-1a */
    for (int i = 0; i < n_call; i++)
        for (int64_t k = 0; k < calls[i].N * calls[i].K; k++)
            h = (h ^ calls[i].codes[k]) * 1099511628211u;
    return h;
}

static void any_batch(check *c)
{
    char path[700];
    snprintf(path, sizeof path, "%s/tests/data/models/tiny-mixtral", NB_SOURCE_DIR);
    nb_model *m = open_model(c, path, "cpu");
    nb_linear_report *report =
        m ? calloc((size_t)nb_pipeline_most_reports(m), sizeof *report) : NULL;
    uint64_t want = 0;
    for (int batch = 0; batch < 4 && report; batch++) {
        pipeline(c, m, kSeq, kCtx, batch, 1.0, report);
        CHECK(c, batch == 0 || hash_calls() == want);
        want = hash_calls();
    }
    forget();
    free(report);
    nb_model_close(m);
}

/* ---- experts that saw little ---- */

/* Two tokens: at most two of 64 inputs' sixteenth. What they saw nothing of has no error, the rest
 * a measured one. */
static void few_tokens(check *c)
{
    char path[700];
    snprintf(path, sizeof path, "%s/tests/data/models/tiny-mixtral", NB_SOURCE_DIR);
    nb_model *m = open_model(c, path, "cpu");
    nb_linear_report *report =
        m ? calloc((size_t)nb_pipeline_most_reports(m), sizeof *report) : NULL;
    const int64_t n = report ? pipeline(c, m, 1, 2, 0, 1.0, report) : 0;
    int unseen = 0, rounded = 0;
    for (int64_t i = 0; i < n; i++) {
        const nb_linear_report *r = &report[i];
        if (!r->expert)
            continue;
        /* of 32 inputs 2 tokens are a sixteenth */
        const bool down = strstr(r->name, ".w2.") != NULL;
        CHECK_EQ(c, r->rounded, down ? r->n_token < 2 : r->n_token < 4);
        CHECK(c, isfinite(r->error) == (r->n_token > 0));
        CHECK(c, strstr(r->note, r->n_token == 0 ? "saw no token: rounded to nearest"
                                 : r->rounded    ? "inputs: rounded to nearest"
                                                 : "inputs: damping") != NULL);
        unseen += r->n_token == 0;
        rounded += r->rounded;
    }
    CHECK(c, rounded > unseen);
    for (int i = 0; i < n_call; i++)
        /* nothing was decided by them */
        CHECK(c, calls[i].K == 32 || i % 10 < 2 || calls[i].h == NULL);
    /* between 4 and 64 of 64: more damping */
    pipeline(c, m, 1, 32, 0, 1.0, report);
    for (int i = 0; i < n_call; i++)
        if (i % 10 >= 2 && calls[i].h && calls[i].n_token < calls[i].K)
            CHECK_NEAR(c, calls[i].damp,
                       fmin(1.0, 0.01 * (double)calls[i].K / (double)calls[i].n_token), 1e-12,
                       "damping");
    forget();
    free(report);
    nb_model_close(m);
}

/* ---- other devices ---- */

static void on_simt(check *c)
{
    nb_error err = {.message = ""};
    nb_backend *be = NULL;
    const nb_backend_options bo = {.exact = true};
    char path[700];
    if (nb_backend_open("simt", &bo, &be, &err) != NB_OK) {
        printf("      %s\n", err.message);
        c->skipped = true;
        return;
    }
    nb_backend_close(be);
    snprintf(path, sizeof path, "%s/tests/data/models/tiny-mixtral", NB_SOURCE_DIR);
    double error[2] = {0, 0};
    for (int i = 0; i < 2; i++) {
        nb_model *m = open_model(c, path, i ? "simt" : "cpu");
        nb_linear_report *report =
            m ? calloc((size_t)nb_pipeline_most_reports(m), sizeof *report) : NULL;
        const int64_t n = report ? pipeline(c, m, 1, 48, 2, 1.0, report) : 0;
        for (int64_t k = 0; k < n; k++)
            error[i] += isfinite(report[k].error) ? report[k].error / (double)n : 0.0;
        free(report);
        nb_model_close(m);
    }
    printf("      mean error %.3g, on the CPU %.3g\n", error[1], error[0]);
    CHECK(c, error[0] > 0);
    /* the device's activations are BF16 */
    CHECK_NEAR(c, error[1], error[0], 0.3 * error[0], "the mean of the errors");
    forget();
}

/* ---- the drift of narrow linears ---- */

/* Of the first layer's groups, which see the same inputs whatever is summed for them: W C as it was
 * summed, against W times the C of a device that cannot sum it, to `most` of a row's length. */
static void summed_product(check *c, const nb_quantizer *q, double most)
{
    for (int f = 0; f < 2; f++) {
        static call with[kMostCalls];
        char path[1024];
        snprintf(path, sizeof path, "%s/tests/data/models/tiny-llama", NB_SOURCE_DIR);
        if (f)
            with_wide_experts(c, path);
        nb_model *m = open_model(c, path, "cpu");
        if (!m)
            return;
        nb_linear_report *report = calloc((size_t)nb_pipeline_most_reports(m), sizeof *report);
        const nb_backend_ops *op = m->be->op;
        nb_backend_ops without = *op;
        int n_product = 0;
        without.drift_accumulate = NULL;
        (void)pipeline_of(c, q, m, kSeq, kCtx, 2, 1.0, report);
        memcpy(with, calls, sizeof calls);
        const int n = n_call;
        n_call = 0;
        m->be->op = &without;
        (void)pipeline_of(c, q, m, kSeq, kCtx, 0, 1.0, report);
        m->be->op = op;
        CHECK_EQ(c, n, n_call);
        for (int i = 0; i < n; i++) {
            const call *a = &with[i], *b = &calls[i];
            CHECK(c, !(a->c && a->wc) && !b->wc && !b->c == !(a->c || a->wc));
            if (!a->wc || i >= n / m->hp.n_layer)
                continue;
            n_product++;
            CHECK(c, 2 * a->N <= a->K &&
                         memcmp(a->w, b->w, (size_t)(a->N * a->K) * sizeof *a->w) == 0);
            for (int64_t r = 0; r < a->N && b->c; r++) {
                double off = 0, all = 0;
                for (int64_t j = 0; j < a->K; j++) {
                    double want = 0;
                    for (int64_t k = 0; k < a->K; k++)
                        want += (double)a->w[r * a->K + k] * b->c[k * a->K + j];
                    off += (a->wc[r * a->K + j] - want) * (a->wc[r * a->K + j] - want);
                    all += want * want;
                }
                CHECK(c, all > 0);
                CHECK_NEAR(c, sqrt(off / all), 0, most, f ? "an expert" : "down");
            }
        }
        CHECK_EQ(c, n_product, m->hp.n_expert ? m->hp.n_expert : 1); /* down */
        forget();
        memcpy(calls, with, sizeof calls);
        n_call = n;
        forget();
        free(report);
        nb_model_close(m);
    }
}

static void product(check *c)
{
    summed_product(c, &remembering, 1e-6);
}

/* C is the small difference of (C + H) / scale and H there, whose products were summed in f32: what
 * rounding leaves of it (1.3e-4 with AVX2) grows by H / C. A scale forgotten would be off by 1. */
static void scaled_product(check *c)
{
    summed_product(c, &scaling, 1e-3);
}

static const check_case cases[] = {
    {"an expert of mixtral has the moments of its own tokens, and a dense linear's codes",
     mixtral_own_tokens},
    {"an expert of qwen3_moe has the moments of its own tokens", qwen3_moe_own_tokens},
    {"the codes do not depend on how many experts are measured at once", any_batch},
    {"an expert that saw little is damped more, or rounded, and says so", few_tokens},
    {"what W makes of the drift is summed with the weights of each linear, in a dense layer and in "
     "a mixture",
     product},
    {"so it is where the inputs are scaled", scaled_product},
    {"the CUDA sources quantize a mixture as the CPU does", on_simt},
};

int main(int argc, char **argv)
{
    here = folder_new();
    const int rc = check_main(cases, sizeof cases / sizeof *cases, argc, argv);
    folder_remove(here.path);
    return rc;
}
