/* alloc.c -- the nth allocation of nibble fails, for every n (a sample of them where there are
 * many): a status and a sentence, never a crash, nothing kept. Once that one call fails and once it
 * and all after it. The linker wraps the allocator (CMakeLists.txt), so what libc, PCRE2 and OpenMP
 * allocate for themselves is not counted. */
#include "base/mapfile.h"
#include "convert/tokenizer_out.h"
#include "fault/jobs.h"
#include "hostile/bytes.h"
#include "text/tokenizer.h"

#include <malloc.h>
#include <pthread.h>

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t align, size_t n);
void __real_free(void *p);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_aligned_alloc(size_t align, size_t n);
void __wrap_free(void *p);

/* ---- the allocator ---- */

enum { kSlots = 1 << 16, kSample = 250 };
static struct {
    pthread_mutex_t lock;
    bool counting;      /* a job runs */
    long n, at;         /* calls so far; the one that fails, 0: none */
    bool ever_after;    /* and all that follow it */
    long n_live;        /* blocks of the job not yet freed */
    void *live[kSlots]; /* open addressing by address; a freed slot keeps &gone */
} heap = {.lock = PTHREAD_MUTEX_INITIALIZER};
static char gone;

static bool fails(void)
{
    pthread_mutex_lock(&heap.lock);
    const bool no =
        heap.counting && ++heap.n >= heap.at && heap.at && (heap.ever_after || heap.n == heap.at);
    pthread_mutex_unlock(&heap.lock);
    return no;
}

static void *note(void *p)
{
    pthread_mutex_lock(&heap.lock);
    for (size_t i = (uintptr_t)p / 16 % kSlots; p && heap.counting; i = (i + 1) % kSlots)
        if (!heap.live[i] || heap.live[i] == &gone) {
            heap.live[i] = p;
            heap.n_live++;
            break;
        }
    pthread_mutex_unlock(&heap.lock);
    return p;
}

static void forget(void *p)
{
    pthread_mutex_lock(&heap.lock);
    for (size_t i = (uintptr_t)p / 16 % kSlots; p && heap.live[i]; i = (i + 1) % kSlots)
        if (heap.live[i] == p) {
            heap.live[i] = &gone;
            heap.n_live--;
            break;
        }
    pthread_mutex_unlock(&heap.lock);
}

void *__wrap_malloc(size_t n)
{
    return fails() ? NULL : note(__real_malloc(n));
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : note(__real_calloc(n, size));
}

void *__wrap_aligned_alloc(size_t align, size_t n)
{
    return fails() ? NULL : note(__real_aligned_alloc(align, n));
}

void *__wrap_realloc(void *p, size_t n)
{
    if (!(p && n <= malloc_usable_size(p)) && fails()) /* a block that shrinks need not */
        return NULL;
    forget(p);
    return note(__real_realloc(p, n));
}

void __wrap_free(void *p)
{
    forget(p);
    __real_free(p);
}

/* ---- the jobs ---- */

static nb_status open_text(nb_error *err)
{
    nb_model *m = NULL;
    int32_t *ids = NULL;
    size_t n = 0;
    nb_status st = nb_model_open_text(NB_SOURCE_DIR "/tests/data/models/tiny-llama", &m, err);
    if (st == NB_OK)
        st = nb_model_tokenize(m, "the heath", 9, NB_TEXT_BOS, &ids, &n, err);
    nb_free(ids);
    nb_model_close(m);
    return st;
}

/* A SentencePiece model with a table of replacements. */
static nb_status open_pieces(nb_error *err)
{
    nb_mapfile *f = NULL;
    nb_tokenizer *t = NULL;
    nb_ids ids = {0};
    nb_status st = nb_mapfile_open(NB_SOURCE_DIR "/tests/data/text/spm/unigram.model", &f, err);
    const nb_container made = {.kind = NB_CONTAINER_HF,
                               .path = "test",
                               .tokenizer_model = f ? f->p : NULL,
                               .tokenizer_model_bytes = f ? f->n : 0};
    if (st == NB_OK)
        st = nb_tokenizer_open(&made, &t, err);
    if (st == NB_OK)
        st = nb_tokenizer_encode(t, "  the heath \xef\xac\x81x", 16, 0, &ids, err);
    nb_ids_free(&ids);
    nb_tokenizer_close(t);
    nb_mapfile_close(f);
    return st;
}

/* tiny.gguf's tokenizer to the hub's files, and into a GGUF file again. */
static nb_status carry(nb_error *err)
{
    char path[1024];
    nb_container *c = NULL;
    nb_gguf_writer *w = NULL;
    nb_json *json = NULL;
    nb_text text = {0}, config = {0};
    nb_status st = nb_container_open(folder_in(&here, "tiny.gguf", path), &c, err);
    if (st == NB_OK)
        st = nb_tokenizer_to_json(c, &text, &config, err);
    if (st == NB_OK)
        st = nb_json_parse("test", text.p, text.n, &json, err);
    const nb_container made = {.kind = NB_CONTAINER_HF, .path = "test", .tokenizer = json};
    if (st == NB_OK)
        st = nb_gguf_writer_open(folder_in(&here, "out.gguf", path), &w, err);
    if (st == NB_OK)
        st = nb_tokenizer_to_gguf(&made, w, err);
    if (st == NB_OK)
        st = nb_gguf_writer_begin(w, err);
    if (st == NB_OK)
        st = nb_gguf_writer_commit(w, err);
    nb_gguf_writer_close(w);
    nb_json_close(json);
    nb_text_free(&text);
    nb_text_free(&config);
    nb_container_close(c);
    return st;
}

static nb_status generate(nb_error *err)
{
    static const int32_t prompt[] = {1, 70, 80};
    const nb_model_options mo = {.device = "cpu", .n_thread = 1};
    const nb_generate_options go = {
        .prompt = prompt, .n_prompt = 3, .n_predict = 2, .ignore_end = true};
    char path[1024];
    nb_model *m = NULL;
    nb_session *s = NULL;
    nb_generate_result r = {0};
    nb_status st = nb_model_open(folder_in(&here, "tiny.gguf", path), &mo, &m, err);
    if (st == NB_OK)
        st = nb_session_open(m, 1, 16, &s, err);
    if (st == NB_OK)
        st = nb_generate(s, &go, &r, err);
    nb_generate_result_free(&r);
    nb_session_close(s);
    nb_model_close(m);
    return st;
}

static nb_status step_of(const char *path, nb_error *err)
{
    static const int32_t prompt[] = {256, 70, 80};
    static float logits[272];
    const nb_model_options mo = {.device = "ref", .exact = true, .n_thread = 1};
    nb_model *m = NULL;
    nb_session *s = NULL;
    nb_status st = nb_model_open(path, &mo, &m, err);
    if (st == NB_OK)
        st = nb_session_open(m, 1, 16, &s, err);
    if (st == NB_OK)
        st = nb_session_step(s, 0, prompt, 3, false, logits, err);
    nb_session_close(s);
    nb_model_close(m);
    return st;
}

/* A plan of a model with a layer on the CPU, and a step of it. */
static nb_status step_on_two(nb_error *err)
{
    static const int32_t prompt[] = {256, 70, 80};
    static float logits[272];
    const nb_model_options mo = {.device = "ref", .exact = true, .n_thread = 1, .offload = 1};
    const nb_plan_options po = {.model = NB_SOURCE_DIR "/tests/data/models/tiny-gemma2",
                                .device = "ref",
                                .n_thread = 1,
                                .ctx = 16,
                                .offload = 1};
    nb_plan plan;
    nb_model *m = NULL;
    nb_session *s = NULL;
    nb_status st = nb_plan_model(&po, &plan, err);
    if (st == NB_OK)
        st = nb_model_open(po.model, &mo, &m, err);
    if (st == NB_OK)
        st = nb_session_open(m, 1, 16, &s, err);
    if (st == NB_OK)
        st = nb_session_step(s, 0, prompt, 3, false, logits, err);
    nb_session_close(s);
    nb_model_close(m);
    return st;
}

static nb_status step_of_folder(nb_error *err)
{
    return step_of(NB_SOURCE_DIR "/tests/data/models/tiny-llama", err);
}

static nb_status step_of_biases(nb_error *err)
{
    return step_of(NB_SOURCE_DIR "/tests/data/models/tiny-qwen2", err);
}

static nb_status step_of_mixture(nb_error *err)
{
    return step_of(NB_SOURCE_DIR "/tests/data/models/tiny-qwen3_moe", err);
}

static nb_status look(nb_error *err)
{
    char path[1024];
    const char *key = NULL, *value = NULL;
    nb_checkpoint *k = NULL;
    bool manifest = false;
    nb_status st = nb_checkpoint_open(folder_in(&here, "tiny.gguf", path), &k, err);
    for (int64_t i = 0; k && i < 64 && nb_checkpoint_get_metadata(k, i, &key, &value); i++)
        ; /* a value that finds no room is shown as null */
    if (st == NB_OK)
        st = nb_checkpoint_verify(k, &manifest, err);
    nb_checkpoint_close(k);
    return st;
}

/* Two shards with their index, and a GGUF model in two files. */
static void make_parts(void)
{
    static const char index[] = "{\"metadata\":{\"total_size\":9},\"weight_map\":{\"a\":\"s-1."
                                "safetensors\",\"b\":\"s-2.safetensors\"}}";
    static const char *const header[] = {
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
        "{\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}"};
    static const char *const shard[] = {"s-1.safetensors", "s-2.safetensors"},
                             *const part[] = {"g-00001-of-00002.gguf", "g-00002-of-00002.gguf"};
    folder_write(&here, "m.safetensors.index.json", index, sizeof index - 1);
    for (uint32_t i = 0; i < 2; i++) {
        bytes b = {0}, g = {0};
        put_safetensors(&b, header[i], strlen(header[i]), 4);
        folder_write(&here, shard[i], b.p, b.n);
        put_head(&g, 3, 1, 2);
        put_key_u32(&g, "split.no", i);
        put_key_u32(&g, "split.count", 2);
        put_info(&g, i ? "b" : "a", 1, (const uint64_t[]){1}, 0, 0);
        put_pad(&g, 32);
        put_zeros(&g, 32);
        folder_write(&here, part[i], g.p, g.n);
        free(b.p);
        free(g.p);
    }
}

static nb_status look_at_parts(nb_error *err)
{
    static const char *const names[] = {"m.safetensors.index.json", "g-00002-of-00002.gguf"};
    nb_status st = NB_OK;
    for (int i = 0; i < 2 && st == NB_OK; i++) {
        char path[1024];
        nb_checkpoint *k = NULL;
        st = nb_checkpoint_open(folder_in(&here, names[i], path), &k, err);
        nb_checkpoint_close(k);
    }
    return st;
}

static nb_status evaluate(nb_error *err)
{
    const nb_model_options mo = {.device = "cpu", .n_thread = 1};
    char path[1024];
    nb_model *m = NULL;
    nb_eval_result r;
    static const char text[] = "the heath thaws then the other heath thaws";
    const nb_eval_options o = {
        .text = text, .text_n = sizeof text - 1, .text_path = "text", .ctx = 16, .n_chunk = 1};
    nb_status st = nb_model_open(folder_in(&here, "tiny.gguf", path), &mo, &m, err);
    if (st == NB_OK)
        st = nb_eval(m, m, &o, &r, err);
    nb_model_close(m);
    return st;
}

static nb_status rtn(nb_error *err)
{
    return job_quantize("rtn", err);
}

static nb_status gptq(nb_error *err)
{
    return job_quantize("gptq", err);
}

/* ---- every n ---- */

static nb_status attempt(nb_status (*job)(nb_error *err), long at, bool ever_after, nb_error *err)
{
    *err = (nb_error){.offset = -1};
    memset(heap.live, 0, sizeof heap.live);
    heap.n = heap.n_live = 0;
    heap.at = at;
    heap.ever_after = ever_after;
    heap.counting = true;
    const nb_status st = job(err);
    heap.counting = false;
    return st;
}

/* What a job finds before it begins, every time. */
static const char *unfinished_format;
static void nothing(void)
{
}
static void unfinished(void)
{
    jobs_leave_unfinished(unfinished_format);
}

static void every_after(check *c, void (*prepare)(void), nb_status (*job)(nb_error *err),
                        bool may_do_without)
{
    nb_error err;
    prepare();
    CHECK_EQ(c, attempt(job, 0, false, &err), NB_OK);
    CHECK_STR(c, err.message, "");
    CHECK_EQ(c, heap.n_live, 0);
    const long total = heap.n, n = total < kSample ? total : kSample;
    jobs_remove();
    CHECK(c, total > 5); /* the linker did wrap */
    for (int after = 0; after < 2; after++)
        for (long i = 0; i < n; i++) {
            const long at = n < 2 ? 1 : 1 + i * (total - 1) / (n - 1);
            prepare();
            const nb_status st = attempt(job, at, after, &err);
            c->n_check++;
            const bool refused = st == NB_NO_ROOM && err.message[0] && jobs_left() == 0;
            if (!refused && !(st == NB_OK && may_do_without && !jobs_unfinished()))
                check_report(c, __FILE__, __LINE__,
                             "allocation %ld of %ld fails%s: status %d, \"%s\", %d files left", at,
                             total, after ? " and all after it" : "", (int)st, err.message,
                             jobs_left());
            if (heap.n_live)
                check_report(c, __FILE__, __LINE__,
                             "allocation %ld of %ld fails%s: %ld blocks are kept", at, total,
                             after ? " and all after it" : "", heap.n_live);
            if (prepare == unfinished && st != NB_OK && !jobs_unfinished())
                check_report(
                    c, __FILE__, __LINE__,
                    "allocation %ld of %ld fails%s and what was there to go on with is gone", at,
                    total, after ? " and all after it" : "");
            if (jobs_unfinished()) { /* what was sealed before is gone on with */
                c->n_check++;
                if (attempt(job, 0, false, &err) != NB_OK || jobs_unfinished())
                    check_report(c, __FILE__, __LINE__,
                                 "after allocation %ld the run does not go on: \"%s\"", at,
                                 err.message);
            }
            jobs_remove();
        }
    printf("%ld allocations, %ld of them failed\n", total, n);
}

static void every(check *c, nb_status (*job)(nb_error *err), bool may_do_without)
{
    every_after(c, nothing, job, may_do_without);
}

static void text_case(check *c)
{
    every(c, open_text, false);
}
static void pieces_case(check *c)
{
    every(c, open_pieces, false);
}
static void carry_case(check *c)
{
    every(c, carry, false);
}
static void generate_case(check *c)
{
    every(c, generate, false);
}
static void step_case(check *c)
{
    every(c, step_of_folder, false);
    every(c, step_of_biases, false);
    every(c, step_of_mixture, false);
    every(c, step_on_two, false);
}
static void look_case(check *c)
{
    every(c, look, true);
}
static void parts_case(check *c)
{
    make_parts();
    every(c, look_at_parts, false);
}
static void eval_case(check *c)
{
    every(c, evaluate, false);
}
static void rtn_case(check *c)
{
    every(c, rtn, true); /* a line of the log is done without */
}
static void gptq_case(check *c)
{
    every(c, gptq, true);
}

static nb_status rtn_folder(nb_error *err)
{
    return job_quantize_folder("rtn", err);
}

static nb_status awq_gptq(nb_error *err)
{
    return job_quantize("awq-gptq", err);
}

static void awq_case(check *c)
{
    every(c, awq_gptq, true);
}

static nb_status gptq_folder(nb_error *err)
{
    return job_quantize_folder("gptq", err);
}

static void rtn_folder_case(check *c)
{
    every(c, rtn_folder, true);
}

static void gptq_folder_case(check *c)
{
    every(c, gptq_folder, true);
}

static void resume_case(check *c)
{
    unfinished_format = NULL;
    every_after(c, unfinished, job_resume, true);
    unfinished_format = "gptq";
    every_after(c, unfinished, job_resume, true);
}

static void packed_case(check *c)
{
    jobs_make_packed();
    every(c, job_convert_packed, false);
}

static void convert_case(check *c)
{
    every(c, job_convert_to_gguf, false);
    every(c, job_convert_to_folder, false);
}

static const check_case cases[] = {
    {"a tokenizer that runs out of memory says so and keeps nothing", text_case},
    {"a SentencePiece model that runs out of memory says so and keeps nothing", pieces_case},
    {"a tokenizer that is carried over without memory says so, keeps nothing and leaves no file",
     carry_case},
    {"a GGUF model that runs out of memory while it opens or generates says so and keeps nothing",
     generate_case},
    {"a safetensors folder that runs out of memory while it opens or steps says so and keeps "
     "nothing",
     step_case},
    {"inspecting without memory says so and keeps nothing", look_case},
    {"models in several files that run out of memory while they open say so and keep nothing",
     parts_case},
    {"evaluating without memory says so and keeps nothing", eval_case},
    {"rounding without memory says so, keeps nothing and leaves no file", rtn_case},
    {"converting without memory says so, keeps nothing and leaves nothing behind", convert_case},
    {"GPTQ without memory says so, keeps nothing and leaves no file", gptq_case},
    {"AWQ before GPTQ without memory says so, keeps nothing and leaves no file", awq_case},
    {"rounding into a folder without memory says so, keeps nothing and leaves no folder",
     rtn_folder_case},
    {"GPTQ into a folder without memory says so, keeps nothing and leaves no folder",
     gptq_folder_case},
    {"going on with a run without memory says so and keeps what there is to go on with",
     resume_case},
    {"repacking a folder without memory says so, keeps nothing and leaves nothing behind",
     packed_case},
};

int main(int argc, char **argv)
{
    jobs_begin();
    const int rc = check_main(cases, sizeof cases / sizeof *cases, argc, argv);
    jobs_end();
    return rc;
}
