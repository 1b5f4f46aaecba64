/* offload.c -- models on two devices: the CPU and the CUDA sources on the emulator (a GPU where
 * there is one).
 *
 * The front's residual stream must have the bits that the CPU has behind the same layers. The
 * logits of any split may be 2e-2 of their length (relative L2) off those of another, as a device's
 * may from the CPU's (device.c); both sides run with --exact, so that only the device rounds
 * operands to bf16. */
#include "backend/backend.h"
#include "check.h"
#include "hostile/folder.h"
#include "model/model.h"
#include "tiny_gguf.h"

static const char kTiny[] = NB_SOURCE_DIR "/tests/data/models/tiny-%s";
static const double kLimit = 2e-2;
enum { kPrompt = 9, kSteps = 3, kSeq = 2, kCtx = 24 };
static const int32_t kIds[kSeq][kPrompt] = {{1, 17, 90, 33, 8, 120, 64, 5, 77},
                                            {1, 101, 2, 18, 44, 9, 9, 61, 30}};

static bool is_there(check *c, const char *device)
{
    nb_backend *be = NULL;
    nb_error err = {.offset = -1};
    const bool there = nb_backend_open(device, NULL, &be, &err) == NB_OK;
    nb_backend_close(be);
    if (!there)
        check_skip(c, "%s", err.message);
    return there;
}

/* Logits of two prompts at once position by position, then of both sequences step by step: [kSeq *
 * kPrompt + kSteps * kSeq, vocab_size]. NULL: it failed. */
static float *logits_of(check *c, const char *path, const char *device, int32_t offload,
                        int32_t *vocab, nb_model_info *info)
{
    nb_error err = {.offset = -1};
    const nb_model_options o = {.device = device, .exact = true, .n_thread = 2, .offload = offload};
    nb_model *m = NULL;
    nb_session *s = NULL;
    float *out = NULL;
    nb_status st = nb_model_open(path, &o, &m, &err);
    if (st == NB_OK)
        st = nb_session_open(m, kSeq, kCtx, &s, &err);
    if (st == NB_OK) {
        nb_model_get_info(m, info);
        *vocab = info->vocab_size;
        out = calloc((size_t)(kSeq * (kPrompt + kSteps)) * (size_t)*vocab, sizeof *out);
    }
    float *to = out;
    for (int q = 0; q < kSeq && st == NB_OK; q++, to += (int64_t)kPrompt * *vocab)
        st = nb_session_step(s, q, kIds[q], kPrompt, true, to, &err);
    for (int32_t i = 0; i < kSteps && st == NB_OK; i++, to += (int64_t)kSeq * *vocab) {
        const int32_t next[kSeq] = {40 + i, 80 - i};
        st = nb_session_decode(s, next, kSeq, to, &err);
    }
    CHECK_STR(c, err.message, "");
    CHECK_EQ(c, st, NB_OK);
    nb_session_close(s);
    nb_model_close(m);
    return out;
}

static void compare(check *c, const float *got, const float *want, int32_t vocab, double *worst)
{
    for (int64_t row = 0; row < kSeq * (kPrompt + kSteps); row++) {
        double d2 = 0, w2 = 0;
        for (int64_t i = row * vocab; i < (row + 1) * vocab; i++) {
            d2 += ((double)got[i] - (double)want[i]) * ((double)got[i] - (double)want[i]);
            w2 += (double)want[i] * (double)want[i];
        }
        *worst = fmax(*worst, sqrt(d2 / w2));
        CHECK_NEAR(c, sqrt(d2 / w2), 0.0, kLimit, "relative L2 of a position's logits");
    }
}

static void every_split(check *c, const char *path, const char *device)
{
    nb_model_info info = {.n_layer = 0};
    int32_t vocab = 0;
    double worst = 0;
    float *whole = logits_of(c, path, device, 0, &vocab, &info);
    const int64_t weights = info.weights_bytes;
    CHECK_EQ(c, info.n_offload, 0);
    for (int32_t n = 1, had = 0; whole && n <= info.n_layer; n++) {
        float *split = logits_of(c, path, device, n, &vocab, &info);
        CHECK_EQ(c, info.n_offload, n);
        CHECK(c, info.weights_bytes < weights && info.offload_bytes > had);
        had = (int32_t)info.offload_bytes;
        if (split)
            compare(c, split, whole, vocab, &worst);
        free(split);
    }
    printf("      %s, %d layers: worst relative L2 between splits %.2g\n", strrchr(path, '/') + 1,
           info.n_layer, worst);
    free(whole);
}

/* A Llama of five layers whose embedding is not tied, then every feature that a layer can have. */
static void splits(check *c, const char *device)
{
    static const tiny_shape shape = {
        .n_layer = 5, .hidden = 64, .ffn = 96, .n_head = 4, .n_kv_head = 2, .ctx = 64};
    static const char *const names[] = {"llama", "gemma2", "gemma3", "mixtral", "phi3"};
    char path[1024];
    if (!is_there(c, device))
        return;
    folder d = folder_new();
    tiny_gguf_in(&d, "five.gguf", &shape);
    every_split(c, folder_in(&d, "five.gguf", path), device);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, kTiny, names[i]);
        every_split(c, path, device);
    }
    folder_gone(&d);
}

static void splits_simt(check *c)
{
    splits(c, "simt");
}
static void splits_cuda(check *c)
{
    splits(c, "cuda:0");
}

/* The residual stream after the first n layers of m, of `a` what has them. */
static nb_status run_decoder(const nb_model *m, nb_acts *a, const int32_t *ids, nb_kv *kv,
                             nb_error *err)
{
    int32_t pos[kPrompt], seq[kPrompt] = {0};
    nb_status st = NB_OK;
    for (int32_t i = 0; i < kPrompt; i++)
        pos[i] = i;
    for (nb_acts *p = a; p && st == NB_OK; p = p->front) {
        st = p->be->op->upload(p->be, p->ids, ids, sizeof pos, err);
        if (st == NB_OK)
            st = p->be->op->upload(p->be, p->seq, seq, sizeof seq, err);
        if (st == NB_OK)
            st = p->be->op->upload(p->be, p->pos, pos, sizeof pos, err);
    }
    const nb_batch batch = {.n_token = kPrompt, .seq = a->seq, .pos = a->pos, .max_len = kPrompt};
    return st == NB_OK ? nb_decoder(m, a, &batch, kv, err) : st;
}

static void front_is_the_cpu(check *c, bool exact, int32_t n)
{
    const nb_model_options on_cpu = {.device = "cpu", .exact = exact, .n_thread = 2},
                           on_two = {.device = "ref", .exact = exact, .n_thread = 2, .offload = n};
    nb_error err = {.offset = -1};
    char path[1024];
    nb_model *m[2] = {NULL, NULL};
    nb_acts acts[2] = {{0}, {0}};
    nb_kv kv[2][8] = {{{0}}};
    nb_pages pages[2] = {{0}};
    snprintf(path, sizeof path, kTiny, "gemma2");
    nb_status st = nb_model_open(path, &on_cpu, &m[0], &err);
    if (st == NB_OK)
        st = nb_model_open(path, &on_two, &m[1], &err);
    for (int i = 0; i < 2 && st == NB_OK; i++) {
        st = nb_acts_open(m[i], kPrompt, kPrompt, &acts[i], &err);
        if (st == NB_OK)
            st = nb_pages_open(m[i], 1, kPrompt, &pages[i], &err);
        for (int l = 0; l < m[i]->hp.n_layer && st == NB_OK; l++) {
            nb_backend *be = nb_model_at(m[i], l)->be;
            st = nb_kv_open(be, &m[i]->hp, 1, kPrompt, &kv[i][l], &err);
            kv[i][l].page = nb_pages_on(&pages[i], be);
        }
        if (st == NB_OK) {
            nb_pages_hold(&pages[i], 0, kPrompt);
            st = nb_pages_send(&pages[i], &err);
        }
    }
    if (st == NB_OK) {
        nb_model cut = *m[0];
        cut.hp.n_layer = n;
        st = run_decoder(&cut, &acts[0], kIds[0], kv[0], &err);
    }
    if (st == NB_OK)
        st = run_decoder(m[1], &acts[1], kIds[0], kv[1], &err);
    CHECK_STR(c, err.message, "");
    CHECK_EQ(c, st, NB_OK);
    if (st == NB_OK)
        CHECK(c, memcmp(acts[0].x, acts[1].front->x,
                        (size_t)kPrompt * (size_t)m[0]->hp.hidden_size * sizeof(float)) == 0);
    for (int i = 0; i < 2 && m[i]; i++) {
        for (int l = 0; l < m[i]->hp.n_layer; l++)
            nb_kv_close(nb_model_at(m[i], l)->be, &kv[i][l]);
        nb_pages_close(&pages[i]);
        nb_acts_close(m[i]->be, &acts[i]);
        nb_model_close(m[i]);
    }
}

static void bits_of_the_front(check *c)
{
    for (int exact = 0; exact < 2; exact++)
        for (int32_t n = 1; n <= 2; n++)
            front_is_the_cpu(c, exact != 0, n);
}

/* ---- a device that is too small: the emulator with a limit ---- */

static void set_limit(int64_t bytes)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)bytes);
    setenv("NIBBLE_SIMT_MEMORY", text, 1);
}

/* What a device keeps for itself while it is open (cuda/turn.h), beside every plan. */
static int64_t own_bytes(check *c)
{
    const int64_t limit = 1 << 30;
    nb_error err = {.offset = -1};
    nb_backend *be = NULL;
    set_limit(limit);
    CHECK_EQ(c, nb_backend_open("simt", NULL, &be, &err), NB_OK);
    const int64_t own = be ? limit - (int64_t)be->op->free_bytes(be) : 0;
    CHECK(c, own > 0 && own <= 4096);
    nb_backend_close(be);
    unsetenv("NIBBLE_SIMT_MEMORY");
    return own;
}

static void automatic(check *c)
{
    static const tiny_shape shape = {
        .n_layer = 6, .hidden = 128, .ffn = 512, .n_head = 4, .n_kv_head = 2, .ctx = 128};
    char path[1024], option[32];
    nb_error err = {.offset = -1};
    nb_plan p;
    if (!is_there(c, "simt"))
        return;
    folder d = folder_new();
    tiny_gguf_in(&d, "six.gguf", &shape);
    folder_in(&d, "six.gguf", path);
    nb_plan_options po = {.model = path, .device = "simt", .ctx = 64, .n_thread = 1};
    CHECK_EQ(c, nb_plan_model(&po, &p, &err), NB_OK);
    const int64_t whole = p.total_bytes, own = own_bytes(c);
    CHECK(c, p.fits && p.offload == 0 && p.cpu.total_bytes == 0);
    /* a device just large enough for a plan with n layers on the CPU */
    for (int32_t n = 1; n <= 6; n++) {
        nb_model *m = NULL;
        nb_session *s = NULL;
        float logits[TINY_VOCAB];
        po.offload = n;
        unsetenv("NIBBLE_SIMT_MEMORY");
        CHECK_EQ(c, nb_plan_model(&po, &p, &err), NB_OK);
        CHECK(c, p.offload == n && p.total_bytes < whole &&
                     p.cpu.kv_bytes == n * (p.kv_bytes + p.cpu.kv_bytes) / 6);
        set_limit(own + p.total_bytes + p.total_bytes / 63 + 64);
        po.offload = NB_OFFLOAD_AUTO;
        CHECK_EQ(c, nb_plan_model(&po, &p, &err), NB_OK);
        CHECK(c, p.fits);
        CHECK_EQ(c, p.offload, n);
        nb_model_options mo = {
            .device = "simt", .n_thread = 1, .ctx = 64, .offload = NB_OFFLOAD_AUTO};
        CHECK_EQ(c, nb_model_open(path, &mo, &m, &err), NB_OK);
        CHECK_EQ(c, m ? m->n_front : -1, n);
        CHECK_EQ(c, m ? nb_session_open(m, 1, 64, &s, &err) : NB_OK, NB_OK); /* and it does fit */
        CHECK_EQ(c, s ? nb_session_step(s, 0, kIds[0], kPrompt, false, logits, &err) : NB_OK,
                 NB_OK);
        nb_session_close(s);
        nb_model_close(m);
        m = NULL;
        s = NULL;
        /* one fewer does not: while loading or later, and the hint says what does */
        mo.offload = n - 1;
        nb_status st = nb_model_open(path, &mo, &m, &err);
        if (st == NB_OK)
            st = nb_session_open(m, 1, 64, &s, &err);
        CHECK_EQ(c, st, NB_NO_ROOM);
        CHECK_HAS(c, err.message, "simt: ");
        CHECK_HAS(c, err.message, " MiB are free");
        snprintf(option, sizeof option, "--offload %d", n);
        CHECK_STR(c, err.hint, option);
        nb_session_close(s);
        nb_model_close(m);
        err = (nb_error){.offset = -1};
    }
    set_limit(64 << 10); /* nothing fits */
    nb_model *m = NULL;
    const nb_model_options mo = {
        .device = "simt", .n_thread = 1, .ctx = 64, .offload = NB_OFFLOAD_AUTO};
    CHECK_EQ(c, nb_model_open(path, &mo, &m, &err), NB_NO_ROOM);
    CHECK_HAS(c, err.message, "with every layer on the CPU");
    CHECK_STR(c, err.hint, "--device cpu");
    unsetenv("NIBBLE_SIMT_MEMORY");
    folder_gone(&d);
}

/* What the device gave out is what was planned, but for the counter's rounding of each buffer to 64
 * bytes. */
static void plan_of_both(check *c)
{
    char path[1024];
    nb_error err = {.offset = -1};
    nb_backend *be = NULL;
    if (!is_there(c, "simt"))
        return;
    const int64_t own = own_bytes(c);
    if (nb_backend_open("simt", NULL, &be, &err) != NB_OK)
        return;
    snprintf(path, sizeof path, kTiny, "gemma3");
    set_limit(1 << 30);
    for (int32_t n = 0; n <= 2; n++) {
        const nb_plan_options po = {
            .model = path, .device = "simt", .ctx = 48, .n_seq = 2, .offload = n};
        const nb_model_options mo = {.device = "simt", .offload = n};
        nb_model *m = NULL;
        nb_session *s = NULL;
        nb_plan p;
        CHECK_EQ(c, nb_plan_model(&po, &p, &err), NB_OK);
        const int64_t before = (int64_t)be->op->free_bytes(be);
        CHECK_EQ(c, nb_model_open(path, &mo, &m, &err), NB_OK);
        CHECK_EQ(c, m ? nb_session_open(m, 2, 48, &s, &err) : NB_OK, NB_OK);
        const int64_t taken = before - own - (int64_t)be->op->free_bytes(be);
        CHECK(c, taken <= p.total_bytes && taken + 64 * 200 > p.total_bytes);
        nb_session_close(s);
        nb_model_close(m);
        CHECK_EQ(c, be->op->free_bytes(be), before);
    }
    unsetenv("NIBBLE_SIMT_MEMORY");
    nb_backend_close(be);
}

static const check_case cases[] = {
    {"every split of a model between the CPU and the CUDA sources gives the same logits, prompts, "
     "steps and sequences",
     splits_simt},
    {"every split between the CPU and a GPU does", splits_cuda},
    {"the layers on the CPU have the CPU's bits", bits_of_the_front},
    {"auto keeps as few layers on the CPU as the device's memory allows, and one fewer fails with "
     "the option that fits",
     automatic},
    {"what the device gives out is what was planned", plan_of_both},
};
CHECK_MAIN(cases)
