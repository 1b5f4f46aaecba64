/* replay.c -- decoding on a device that records its steps (backend.h, replay_begin) and samples by
 * itself: the same bits as without recordings, the same tokens as from logits that were brought to
 * the host; and that recordings were really enqueued. On the emulator, whose capture refuses what
 * CUDA's refuses. */
#include "base/random.h"
#include "check.h"
#include "model/model.h"

enum { kMostVocab = 2048 };

/* A device's ops less what is under test; put in place of a model's own. */
static nb_backend_ops plain_ops;

static nb_model *open_model(check *c, const char *path, const char *device, bool records)
{
    nb_error err = {.offset = -1, .message = ""};
    const nb_model_options o = {.device = device};
    nb_model *m = NULL;
    const nb_status st = nb_model_open(path, &o, &m, &err);
    if (st == NB_DEVICE &&
        (strstr(err.message, "cannot be loaded") || strstr(err.message, "is not there"))) {
        check_skip(c, "%s", err.message);
        return NULL;
    }
    CHECK_STR(c, err.message, "");
    if (m && !records) {
        plain_ops = *m->be->op;
        plain_ops.replay_begin = NULL;
        plain_ops.replay_end = NULL;
        plain_ops.replay_close = NULL;
        m->be->op = &plain_ops;
    }
    CHECK(c, !m || (m->be->op->replay_begin != NULL) == records);
    CHECK(c, !m || m->hp.vocab_size <= kMostVocab);
    return m;
}

/* A prompt, then n tokens one by one: recorded and not, bit by bit. Contexts of up to 64 tokens are
 * one bucket, longer ones the next. a_layer: kernels that a layer of a step may take; the embedding
 * and the output layer are two more. */
static void same_bits_of(check *c, const char *device, const char *path, int32_t n_prompt,
                         int32_t n, int a_layer)
{
    enum { kMostPrompt = 64 };
    int32_t prompt[kMostPrompt];
    static float got[kMostVocab], want[kMostVocab];
    nb_error err = {.offset = -1, .message = ""};
    nb_model *a = open_model(c, path, device, true),
             *b = a ? open_model(c, path, device, false) : NULL;
    nb_session *s = NULL, *t = NULL;
    nb_rng r;
    nb_rng_seed(&r, 11);
    for (int32_t i = 0; i < n_prompt && a; i++)
        prompt[i] = (int32_t)(nb_rng_u64(&r) % (uint64_t)a->hp.vocab_size);
    if (a && b && nb_session_open(a, 1, n_prompt + n, &s, &err) == NB_OK &&
        nb_session_open(b, 1, n_prompt + n, &t, &err) == NB_OK) {
        const size_t bytes = (size_t)a->hp.vocab_size * sizeof(float);
        int64_t launches = 0, steps = 0;
        CHECK_EQ(c, nb_session_step(s, 0, prompt, n_prompt, false, got, &err), NB_OK);
        CHECK_EQ(c, nb_session_step(t, 0, prompt, n_prompt, false, want, &err), NB_OK);
        CHECK_EQ(c, a->be->n_replay, 0);
        for (int32_t i = 0; i < n; i++) {
            const int32_t id = (int32_t)(nb_rng_u64(&r) % (uint64_t)a->hp.vocab_size);
            const int64_t before = a->be->n_launch, there = a->be->n_replay;
            CHECK_EQ(c, nb_session_step(s, 0, &id, 1, false, got, &err), NB_OK);
            CHECK_EQ(c, nb_session_step(t, 0, &id, 1, false, want, &err), NB_OK);
            c->n_check++;
            if (memcmp(got, want, bytes) != 0)
                check_report(c, __FILE__, __LINE__, "%s: other bits at step %d", path, i);
            if (a->be->n_launch == before) { /* from the third step on, and in each bucket again */
                CHECK_EQ(c, a->be->n_replay, there + 1);
                steps++;
            } else {
                launches = a->be->n_launch - before;
                CHECK_EQ(c, launches, a_layer * a->hp.n_layer + 2);
            }
        }
        const int64_t buckets = n_prompt + n > 64 ? 2 : 1;
        CHECK_EQ(c, steps, n - 2 * buckets);
        CHECK_EQ(c, a->be->n_replay, n - buckets);
        CHECK_EQ(c, b->be->n_replay, 0);
        printf("      %d steps: %lld launches each, %lld of the steps one recording each\n", n,
               (long long)launches, (long long)a->be->n_replay);
    }
    CHECK_STR(c, err.message, "");
    nb_session_close(s);
    nb_session_close(t);
    nb_model_close(a);
    nb_model_close(b);
}

static const char *tiny(const char *name)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/tests/data/models/tiny-%s", NB_SOURCE_DIR, name);
    return path;
}

static void families(check *c, const char *device)
{
    static const struct {
        const char *name;
        int a_layer;
    } model[] = {
        {"llama", 6},    /* qkv, rope and cache, attention, o, gate and up, down */
        {"gemma3", 12},  /* a window; norms of q and k, norms of what is added, and adding it */
        {"mixtral", 15}, /* a norm, router, choice, gating, mixing; twice order, x, experts */
    };
    for (size_t i = 0; i < sizeof model / sizeof *model && !c->skipped; i++)
        same_bits_of(c, device, tiny(model[i].name), i ? 12 : 58, i ? 5 : 12, model[i].a_layer);
}

static void stories(check *c, const char *device)
{
    char path[600];
    if (!check_shared("models/stories260K/config.json", path, sizeof path)) {
        check_skip(c, "the stories260K checkpoint is not beside the source tree");
        return;
    }
    *strrchr(path, '/') = 0;
    same_bits_of(c, device, path, 12, 12, 6);
}

/* What the CPU picks from logits that were brought to the host. */
static int32_t picked_on_host(check *c, nb_backend *cpu, const float *logits, int32_t n,
                              const nb_sampling *how, uint64_t draw)
{
    static float scratch[2 * kMostVocab];
    nb_error err = {.message = ""};
    int32_t id = -1;
    const nb_sample_args a = {.x = logits,
                              .M = 1,
                              .N = n,
                              .ldx = n,
                              .temp = how->temp,
                              .top_k = how->top_k,
                              .top_p = how->top_p,
                              .min_p = how->min_p,
                              .draw = &draw,
                              .out = &id,
                              .scratch = scratch};
    CHECK(c, cpu->op->sample_scratch(cpu, &a) <= sizeof scratch);
    CHECK_EQ(c, cpu->op->sample(cpu, &a, &err), NB_OK);
    return id;
}

/* Text by nb_generate, which samples on the device, against logits on the host and the CPU's
 * sampling. */
static void generation(check *c, const char *device)
{
    static const nb_sampling settings[] = {
        {.temp = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f, .seed = 3},
        {.temp = 1.0f, .top_p = 1.0f, .seed = 4},
        {.temp = 2.0f, .top_p = 0.7f, .seed = 5}};
    static const int32_t prompt[] = {1, 17, 90, 33};
    static float logits[kMostVocab];
    enum { kPrompt = 4, kNew = 12 };
    nb_error err = {.offset = -1, .message = ""};
    nb_model *m = open_model(c, tiny("llama"), device, true);
    nb_backend *cpu = NULL;
    nb_session *s = NULL;
    if (!m)
        return;
    CHECK_EQ(c, nb_backend_open("cpu", NULL, &cpu, &err), NB_OK);
    CHECK_EQ(c, nb_session_open(m, 1, kPrompt + kNew, &s, &err), NB_OK);
    for (size_t k = 0; s && k < sizeof settings / sizeof *settings; k++) {
        const nb_generate_options o = {.prompt = prompt,
                                       .n_prompt = kPrompt,
                                       .n_predict = kNew,
                                       .ignore_end = true,
                                       .sampling = settings[k]};
        nb_generate_result r;
        nb_rng rng;
        nb_session_clear(s, 0);
        CHECK_EQ(c, nb_generate(s, &o, &r, &err), NB_OK);
        CHECK_EQ(c, r.n_token, kNew);
        nb_session_clear(s, 0);
        nb_rng_seed(&rng, settings[k].seed);
        CHECK_EQ(c, nb_session_step(s, 0, prompt, kPrompt, false, logits, &err), NB_OK);
        for (size_t i = 0; i < r.n_token; i++) {
            CHECK_EQ(
                c, r.tokens[i],
                picked_on_host(c, cpu, logits, m->hp.vocab_size, &settings[k], nb_rng_u64(&rng)));
            if (i + 1 < r.n_token)
                CHECK_EQ(c, nb_session_step(s, 0, &r.tokens[i], 1, false, logits, &err), NB_OK);
        }
        nb_generate_result_free(&r);
    }
    CHECK(c, m->be->n_replay > 0);
    nb_session_close(s);
    nb_backend_close(cpu);
    nb_model_close(m);
}

/* Three sequences of different lengths at once, drawn and greedy, in a session that records,
 * against one that does not; then fewer of them. */
static void batches(check *c, const char *device)
{
    static const nb_sampling how[] = {{.temp = 1.0f, .top_k = 20, .top_p = 0.9f}, {.temp = 0.0f}};
    enum { kSeq = 3 };
    nb_error err = {.offset = -1, .message = ""};
    nb_model *m[2] = {open_model(c, tiny("llama"), device, true), NULL};
    nb_session *s[2] = {NULL, NULL};
    int32_t next[2][kSeq] = {{5, 6, 7}, {5, 6, 7}};
    nb_rng r;
    nb_rng_seed(&r, 21);
    m[1] = m[0] ? open_model(c, tiny("llama"), device, false) : NULL;
    for (int k = 0; k < 2 && m[k]; k++)
        CHECK_EQ(c, nb_session_open(m[k], kSeq, 64, &s[k], &err), NB_OK);
    for (int k = 0; k < 2 && s[k]; k++)
        for (int32_t q = 0; q < kSeq; q++) {
            static const int32_t ids[] = {1, 17, 90, 33, 8, 120};
            CHECK_EQ(c, nb_session_step(s[k], q, ids, 2 * q + 1, false, NULL, &err), NB_OK);
        }
    for (int i = 0; i < 12 && s[1]; i++) {
        const int32_t n = i < 8 ? kSeq : 2;
        const uint64_t draw[kSeq] = {nb_rng_u64(&r), nb_rng_u64(&r), nb_rng_u64(&r)};
        for (int k = 0; k < 2; k++)
            CHECK_EQ(c,
                     nb_session_decode_pick(s[k], next[k], n, &how[i / 2 % 2], draw, next[k], &err),
                     NB_OK);
        for (int32_t q = 0; q < kSeq; q++)
            CHECK_EQ(c, next[0][q], next[1][q]);
    }
    CHECK_STR(c, err.message, "");
    CHECK(c, !m[0] || m[0]->be->n_replay > 0);
    for (int k = 0; k < 2; k++) {
        nb_session_close(s[k]);
        nb_model_close(m[k]);
    }
}

static int n_argmax, fail_at;
static const nb_backend_ops *sound_ops;
static nb_status argmax_that_fails(nb_backend *be, const nb_argmax_args *a, nb_error *err)
{
    return ++n_argmax == fail_at ? nb_fail(err, NB_UNSUPPORTED, "no argmax this time")
                                 : sound_ops->argmax(be, a, err);
}
static nb_status argmax_that_waits(nb_backend *be, const nb_argmax_args *a, nb_error *err)
{
    const nb_status st = sound_ops->argmax(be, a, err);
    return st == NB_OK ? be->op->sync(be, err) : st;
}

/* An op that fails while it is recorded fails the step, and only that; one that waits is refused in
 * a recording. */
static void failures(check *c, const char *device)
{
    static const nb_sampling greedy = {.temp = 0.0f};
    nb_model *m = open_model(c, tiny("llama"), device, true);
    nb_session *s = NULL;
    nb_error err = {.offset = -1, .message = ""};
    const int32_t id = 5;
    int32_t next = 0;
    if (!m)
        return;
    CHECK_EQ(c, nb_session_open(m, 1, 32, &s, &err), NB_OK);
    sound_ops = m->be->op;
    nb_backend_ops broken = *sound_ops;
    broken.argmax = argmax_that_fails;
    m->be->op = &broken;
    n_argmax = 0;
    fail_at = 2; /* the second step is recorded */
    for (int i = 0; i < 6 && s; i++) {
        err.message[0] = 0;
        CHECK_EQ(c, nb_session_step_pick(s, 0, &id, 1, &greedy, 0, &next, &err),
                 i == 1 ? NB_UNSUPPORTED : NB_OK);
        CHECK_STR(c, err.message, i == 1 ? "no argmax this time" : "");
    }
    CHECK(c, m->be->n_replay > 0);
    nb_session_close(s);
    CHECK_EQ(c, nb_session_open(m, 1, 32, &s, &err), NB_OK);
    broken.argmax = argmax_that_waits;
    for (int i = 0; i < 2 && s; i++)
        CHECK_EQ(c, nb_session_step_pick(s, 0, &id, 1, &greedy, 0, &next, &err),
                 i ? NB_DEVICE : NB_OK);
    CHECK_HAS(c, err.message, "operation not permitted when stream is capturing");
    m->be->op = sound_ops;
    nb_session_close(s);
    nb_model_close(m);
}

#define ON(device, name, f)                                                                        \
    static void f##_##name(check *c)                                                               \
    {                                                                                              \
        f(c, device);                                                                              \
    }
ON("simt", simt, families)
ON("simt", simt, stories)
ON("simt", simt, generation)
ON("simt", simt, batches)
ON("simt", simt, failures)

static void all_cuda(check *c)
{
    families(c, "cuda:0");
    if (!c->skipped) {
        stories(c, "cuda:0");
        generation(c, "cuda:0");
        batches(c, "cuda:0");
    }
}

static const check_case cases[] = {
    {"recorded steps give the bits of steps that are not, in three families, in so many kernels",
     families_simt},
    {"and of stories260K", stories_simt},
    {"text sampled on the device is the text sampled from its logits on the host", generation_simt},
    {"several sequences at once, drawn and greedy, give the same tokens recorded or not",
     batches_simt},
    {"a failure within a recording is that step's failure", failures_simt},
    {"all of them on a GPU", all_cuda},
};
CHECK_MAIN(cases)
