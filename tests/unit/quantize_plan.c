/* quantize_plan.c -- the plan of a quantization is what the run takes: the linker puts meters
 * before the pipeline's host buffers and the device's memory, and their peak must be the plan to
 * the byte, for every method and container; and before malloc, which sees everything: what no plan
 * counts must be small. The plan begins from what the process holds (nb_anon_rss_bytes), here 0. */
#include "backend/count.h"
#include "check.h"
#include "hostile/folder.h"
#include "nibble.h"
#include "tiny_gguf.h"

#include <malloc.h>
#include <pthread.h>

static folder here;

/* ---- what the arenas hold ---- */

static struct meter {
    size_t now, peak, before;
    struct {
        const void *p;
        size_t bytes;
    } held[4096];
    int n_held;
    nb_backend_ops real, table;
} meter;

/* As the counter rounds, and nb_alloc_aligned: to lines of the cache, from 4 MiB on to huge pages.
 */
static size_t whole(size_t bytes)
{
    const size_t unit = bytes >= (size_t)4 << 20 ? (size_t)2 << 20 : 64;
    return (bytes + unit - 1) / unit * unit;
}

static void hold(const void *p, size_t bytes)
{
    if (!p || meter.n_held == 4096)
        return;
    meter.held[meter.n_held].p = p;
    meter.held[meter.n_held++].bytes = whole(bytes);
    meter.now += whole(bytes);
    meter.peak = meter.now > meter.peak ? meter.now : meter.peak;
}

static void let_go(const void *p)
{
    for (int i = 0; i < meter.n_held; i++)
        if (meter.held[i].p == p) {
            meter.now -= meter.held[i].bytes;
            meter.held[i] = meter.held[--meter.n_held];
            return;
        }
}

static nb_status metered_alloc(nb_backend *be, size_t bytes, const char *what, void **out,
                               nb_error *err)
{
    const nb_status st = meter.real.alloc(be, bytes, what, out, err);
    if (st == NB_OK)
        hold(*out, bytes);
    return st;
}

static void metered_release(nb_backend *be, void *p)
{
    let_go(p);
    meter.real.release(be, p);
}

static nb_status metered_pack(nb_backend *be, const nb_matrix *part, int n_part, nb_weight **out,
                              nb_error *err)
{
    const nb_status st = meter.real.pack_weight(be, part, n_part, out, err);
    if (st == NB_OK)
        hold(*out, meter.real.weight_bytes(*out));
    return st;
}

static void metered_release_weight(nb_backend *be, nb_weight *w)
{
    let_go(w);
    meter.real.release_weight(be, w);
}

nb_status __real_nb_backend_open(const char *device, const nb_backend_options *o, nb_backend **out,
                                 nb_error *err);
nb_status __wrap_nb_backend_open(const char *device, const nb_backend_options *o, nb_backend **out,
                                 nb_error *err);
nb_status __wrap_nb_backend_open(const char *device, const nb_backend_options *o, nb_backend **out,
                                 nb_error *err)
{
    const nb_status st = __real_nb_backend_open(device, o, out, err);
    if (st != NB_OK)
        return st;
    meter.real = meter.table = *(*out)->op;
    meter.table.alloc = metered_alloc;
    meter.table.release = metered_release;
    meter.table.pack_weight = metered_pack;
    meter.table.release_weight = metered_release_weight;
    (*out)->op = &meter.table;
    return NB_OK;
}

nb_status __real_nb_host_alloc(nb_backend *be, size_t n, size_t size, const char *what, void **out,
                               nb_error *err);
nb_status __wrap_nb_host_alloc(nb_backend *be, size_t n, size_t size, const char *what, void **out,
                               nb_error *err);
nb_status __wrap_nb_host_alloc(nb_backend *be, size_t n, size_t size, const char *what, void **out,
                               nb_error *err)
{
    const nb_status st = __real_nb_host_alloc(be, n, size, what, out, err);
    if (st == NB_OK && !nb_backend_counts(be))
        hold(*out, n * size);
    return st;
}

void __real_nb_host_free(nb_backend *be, void *p);
void __wrap_nb_host_free(nb_backend *be, void *p);
void __wrap_nb_host_free(nb_backend *be, void *p)
{
    if (!nb_backend_counts(be))
        let_go(p);
    __real_nb_host_free(be, p);
}

/* ---- what malloc holds ---- */

static struct heap {
    pthread_mutex_t lock;
    size_t now, peak, before; /* before: when the plan was made */
} heap = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Of huge pages without what lies before the next one, which nobody touches. */
static size_t size_of(void *p)
{
    const size_t n = p ? malloc_usable_size(p) : 0, huge = (size_t)2 << 20;
    return n >= 2 * huge && (uintptr_t)p % huge == 0 ? n / huge * huge : n;
}

static void *took(void *p)
{
    pthread_mutex_lock(&heap.lock);
    heap.now += size_of(p);
    heap.peak = heap.now > heap.peak ? heap.now : heap.peak;
    pthread_mutex_unlock(&heap.lock);
    return p;
}

static void gave(void *p)
{
    pthread_mutex_lock(&heap.lock);
    const size_t n = size_of(p);
    heap.now -= n < heap.now ? n : heap.now;
    pthread_mutex_unlock(&heap.lock);
}

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
void *__wrap_malloc(size_t n)
{
    return took(__real_malloc(n));
}
void *__wrap_calloc(size_t n, size_t size)
{
    return took(__real_calloc(n, size));
}
void *__wrap_aligned_alloc(size_t align, size_t n)
{
    return took(__real_aligned_alloc(align, n));
}
void *__wrap_realloc(void *p, size_t n)
{
    gave(p);
    return took(__real_realloc(p, n));
}
void __wrap_free(void *p)
{
    gave(p);
    __real_free(p);
}

int64_t __wrap_nb_anon_rss_bytes(void);
int64_t __wrap_nb_anon_rss_bytes(void)
{
    if (heap.before == 0) { /* the plan is made, its run begins */
        heap.before = heap.peak = heap.now;
        meter.before = meter.peak = meter.now;
    }
    return 0;
}

/* ---- the runs ---- */

typedef struct run {
    const char *what, *model, *method, *format, *grid;
    int group;
    double correction;
    bool act_order, asym, spill;
    int layer_to; /* 0: all */
    const char *clip;
} run;

#define MIXTURE NB_SOURCE_DIR "/tests/data/models/gguf-mixtral/model.gguf"

static const run runs[] = {
    {.what = "rtn", .method = "rtn"},
    {.what = "rtn in a folder", .method = "rtn", .format = "gptq", .group = 32},
    {.what = "rtn as floats", .method = "rtn", .format = "plain", .group = 32},
    {.what = "gptq", .method = "gptq", .correction = 1.0},
    {.what = "gptq without correction", .method = "gptq"},
    {.what = "gptq in a folder",
     .method = "gptq",
     .format = "gptq",
     .group = 32,
     .correction = 1.0},
    {.what = "gptq in a folder without correction",
     .method = "gptq",
     .format = "compressed-tensors",
     .group = 32},
    {.what = "gptq in the order of inputs",
     .method = "gptq",
     .format = "gptq",
     .group = 32,
     .correction = 0.5,
     .act_order = true},
    {.what = "gptq as floats", .method = "gptq", .format = "plain", .group = 32, .correction = 0.5},
    {.what = "gptq of rows",
     .method = "gptq",
     .format = "gptq_v2",
     .group = -1,
     .asym = true,
     .correction = 1.0},
    {.what = "gptq with clipped ranges", .method = "gptq", .clip = "mse"},
    {.what = "gptq clipped by output",
     .method = "gptq",
     .format = "awq",
     .group = 32,
     .clip = "output"},
    {.what = "awq", .method = "awq"},
    {.what = "awq in a folder", .method = "awq", .format = "awq", .group = 32, .asym = true},
    {.what = "awq before gptq", .method = "awq-gptq", .correction = 1.0},
    {.what = "awq before gptq in a folder",
     .method = "awq-gptq",
     .format = "gptq",
     .group = 32,
     .correction = 1.0},
    {.what = "awq before gptq without correction",
     .method = "awq-gptq",
     .format = "gptq_v2",
     .group = 32,
     .asym = true},
    {.what = "gptq of one layer", .method = "gptq", .correction = 1.0, .layer_to = 1},
    {.what = "gptq, activations in a file", .method = "gptq", .correction = 1.0, .spill = true},
    {.what = "gptq without correction, activations in a file",
     .method = "gptq",
     .format = "gptq",
     .group = 32,
     .spill = true},
    {.what = "awq, activations in a file", .method = "awq", .spill = true},
    {.what = "awq before gptq, activations in a file",
     .method = "awq-gptq",
     .format = "gptq",
     .group = 32,
     .correction = 1.0,
     .spill = true},
    {.what = "gptq of a mixture", .model = MIXTURE, .method = "gptq", .correction = 1.0},
    {.what = "awq before gptq of a mixture in a folder",
     .model = MIXTURE,
     .method = "awq-gptq",
     .format = "gptq",
     .group = 32,
     .correction = 1.0},
    {.what = "awq of a mixture", .model = MIXTURE, .method = "awq"},
    {.what = "rtn of a mixture", .model = MIXTURE, .method = "rtn"},
    {.what = "gptq of rows that no block fits",
     .model = "odd.gguf",
     .method = "gptq",
     .correction = 1.0},
};

static nb_status quantize(const run *r, const char *model, const char *out, int samples, int ctx,
                          int64_t memory, bool dry, nb_quantize_result *result, nb_error *err)
{
    char m[1024], o[1024], text[1024];
    const nb_quantize_options options = {
        .model = *model == '/' ? model : folder_in(&here, model, m),
        .out = folder_in(&here, out, o),
        .method = r->method,
        .format = r->format ? r->format : "gguf",
        .grid = r->grid,
        .group = r->group,
        .correction_set = true,
        .correction = r->correction,
        .act_order = r->act_order,
        .sym_set = r->asym,
        .clip = r->clip,
        .layers_set = r->layer_to > 0,
        .layer_to = r->layer_to,
        .calib = strcmp(r->method, "rtn") == 0 ? NULL : folder_in(&here, "text.txt", text),
        .samples = samples,
        .ctx = ctx,
        .memory = memory,
        .device = "cpu",
        .n_thread = 2,
        .dry_run = dry};
    return nb_quantize(&options, result, err);
}

/* The plan of the run, then the run: what the meters saw. */
static void measured(check *c, const run *r, const char *model, int samples, int ctx, int64_t *plan)
{
    char path[1024];
    nb_quantize_result result;
    nb_error err = {.message = ""};
    const char *out = r->format ? "out" : "out.gguf";
    int64_t memory = 0;
    *plan = 0;
    if (quantize(r, model, out, samples, ctx, 0, true, &result, &err) == NB_OK) {
        *plan = result.plan_bytes;
        nb_quantize_result_free(&result);
    }
    if (r->spill) { /* a byte less than the activations take */
        memory = *plan - 1;
        if (quantize(r, model, out, samples, ctx, memory, true, &result, &err) == NB_OK) {
            CHECK(c, result.spill_bytes > 0 && result.plan_bytes < *plan);
            *plan = result.plan_bytes;
            nb_quantize_result_free(&result);
        }
    }
    meter.now = meter.peak = meter.before = 0;
    meter.n_held = 0;
    heap.before = 0;
    const nb_status st = quantize(r, model, out, samples, ctx, memory, false, &result, &err);
    if (st != NB_OK)
        check_report(c, __FILE__, __LINE__, "%s: %s", r->what, err.message);
    CHECK(c, *plan > 0 && meter.now == 0);
    c->n_check++;
    if (st == NB_OK && (result.plan_bytes != *plan || (size_t)*plan != meter.peak - meter.before))
        check_report(c, __FILE__, __LINE__,
                     "%s: planned %lld bytes, and as the run began %lld; it took %zu", r->what,
                     (long long)*plan, (long long)result.plan_bytes, meter.peak - meter.before);
    if (st == NB_OK)
        nb_quantize_result_free(&result);
    folder_remove(folder_in(&here, out, path));
    strcat(path, ".manifest.json");
    folder_remove(path);
}

static void to_the_byte(check *c)
{
    int64_t plan;
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++)
        measured(c, &runs[i], runs[i].model ? runs[i].model : "tiny.gguf", 5, 48, &plan);
}

/* Of a layer of some size: the buffers that no plan counts are rows of a quantizer and a kernel,
 * pieces of a file on its way, a tensor read back. */
static void all_of_it(check *c)
{
    static const run some[] = {
        {.what = "gptq of a greater model", .method = "gptq", .correction = 1.0},
        {.what = "awq before gptq of a greater model in a folder",
         .method = "awq-gptq",
         .format = "gptq",
         .group = 128,
         .correction = 1.0},
    };
    /* of a tensor on its way to the file (convert/rows_out.c), which may fall together with the
     * peak or not */
    const double piece = 4 << 20;
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        int64_t plan = 0;
        measured(c, &some[i], "greater.gguf", 8, 256, &plan);
        const double more = ((double)heap.peak - (double)heap.before) / (double)plan;
        fprintf(stderr, "%s: planned %.1f MiB, malloc gave %.1f\n", some[i].what,
                (double)plan / 1048576.0, ((double)heap.peak - (double)heap.before) / 1048576.0);
        CHECK(c, heap.before > 0 && more > 0.97);
        c->n_check++;
        if (more > 1.02 + piece / (double)plan)
            check_report(c, __FILE__, __LINE__, "%s: planned %lld bytes, malloc gave %.3f of them",
                         some[i].what, (long long)plan, more);
    }
}

static const check_case cases[] = {
    {"the plan of every method into every kind of file is what its arenas come to, to the byte",
     to_the_byte},
    {"what no plan counts is little", all_of_it},
};

int main(int argc, char **argv)
{
    static char text[20000];
    here = folder_new();
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)('a' + (i * i + i / 7) % 26);
    folder_write(&here, "text.txt", text, sizeof text);
    tiny_gguf_in(
        &here, "tiny.gguf",
        &(tiny_shape){
            .n_layer = 2, .hidden = 64, .ffn = 128, .n_head = 4, .n_kv_head = 2, .ctx = 64});
    tiny_gguf_in(
        &here, "odd.gguf",
        &(tiny_shape){
            .n_layer = 2, .hidden = 64, .ffn = 80, .n_head = 2, .n_kv_head = 1, .ctx = 64});
    tiny_gguf_in(
        &here, "greater.gguf",
        &(tiny_shape){
            .n_layer = 2, .hidden = 512, .ffn = 1536, .n_head = 8, .n_kv_head = 4, .ctx = 256});
    const int rc = check_main(cases, sizeof cases / sizeof *cases, argc, argv);
    folder_gone(&here);
    return rc;
}
