/* jobs.h -- what the fault tests do while something fails: the whole way from a file to a result,
 * through nibble.h. */
#ifndef NB_TESTS_FAULT_JOBS_H
#define NB_TESTS_FAULT_JOBS_H

#include "check.h"
#include "hostile/folder.h"
#include "nibble.h"
#include "tiny_gguf.h"

/* tiny.gguf (one layer), two.gguf, text.txt; the output is the file out.gguf or the folder out */
static folder here;

static inline void jobs_begin(void)
{
    static const tiny_shape
        one = {.n_layer = 1, .hidden = 64, .ffn = 64, .n_head = 2, .n_kv_head = 1, .ctx = 64},
        two = {.n_layer = 2, .hidden = 64, .ffn = 64, .n_head = 2, .n_kv_head = 1, .ctx = 64};
    char path[1024], text[1024] = "";
    nb_error err = {.offset = -1};
    here = folder_new();
    if (tiny_gguf_write(folder_in(&here, "tiny.gguf", path), &one, &err) != NB_OK ||
        tiny_gguf_write(folder_in(&here, "two.gguf", path), &two, &err) != NB_OK) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    while (strlen(text) < 300)
        strcat(text, "the heath thaws then the other ");
    folder_write(&here, "text.txt", text, strlen(text));
}

/* Whether a run left its work folder, to be gone on with. */
static inline bool jobs_unfinished(void)
{
    char path[1024];
    return access(folder_in(&here, "out.gguf.nibble", path), F_OK) == 0 ||
           access(folder_in(&here, "out.nibble", path), F_OK) == 0;
}

/* Whether what it left can be gone on with: a journal with more than its first line. */
static inline bool jobs_resumable(void)
{
    char path[1024];
    struct stat sb;
    return (stat(folder_in(&here, "out.gguf.nibble/journal", path), &sb) == 0 ||
            stat(folder_in(&here, "out.nibble/journal", path), &sb) == 0) &&
           sb.st_size > 32;
}

/* Files that a failed run must not leave: the final names, partial ones beside them. */
static inline int jobs_left(void)
{
    int n = 0;
    DIR *dir = opendir(here.path);
    for (const struct dirent *e; dir && (e = readdir(dir));)
        n += strncmp(e->d_name, "out", 3) == 0 && strcmp(e->d_name, "out.gguf.nibble") != 0 &&
             strcmp(e->d_name, "out.nibble") != 0;
    if (dir)
        closedir(dir);
    return n;
}

static inline void jobs_remove(void)
{
    static const char *const names[] = {"out.gguf", "out.gguf.manifest.json", "out",
                                        "out.gguf.nibble", "out.nibble"};
    char path[1024];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        folder_remove(folder_in(&here, names[i], path));
}

/* The output, whichever it is. */
static inline char *jobs_output(size_t *n)
{
    char path[1024];
    const bool file = access(folder_in(&here, "out.gguf", path), F_OK) == 0;
    return folder_read(folder_in(&here, file ? "out.gguf" : "out", path), n);
}

static inline void jobs_end(void)
{
    jobs_remove();
    folder_gone(&here);
}

/* A folder into GGUF, or tiny.gguf into a folder (of that name too). */
static inline nb_status job_convert(bool to_folder, nb_error *err)
{
    char model[1024], out[1024];
    nb_convert_result r;
    const nb_convert_options o = {.model = to_folder ? folder_in(&here, "tiny.gguf", model)
                                                     : NB_SOURCE_DIR
                                               "/tests/data/models/tiny-llama",
                                  .out = folder_in(&here, "out.gguf", out),
                                  .format = to_folder ? "plain" : "gguf",
                                  .grid = to_folder ? NULL : "q8_0",
                                  .n_thread = 1};
    return nb_convert(&o, &r, err);
}

static inline nb_status job_convert_to_gguf(nb_error *err)
{
    return job_convert(false, err);
}

static inline nb_status job_convert_to_folder(nb_error *err)
{
    return job_convert(true, err);
}

static inline nb_status job_quantize_as(const char *method, const char *model_name,
                                        const char *out_name, const char *format,
                                        void (*progress)(void *, const char *, int32_t, int32_t,
                                                         double),
                                        void *arg, const volatile int *stop, nb_error *err)
{
    char model[1024], out[1024], text[1024];
    nb_quantize_result r;
    const nb_quantize_options o = {.model = folder_in(&here, model_name, model),
                                   .out = folder_in(&here, out_name, out),
                                   .method = method,
                                   .format = format,
                                   .calib = folder_in(&here, "text.txt", text),
                                   .samples = 2,
                                   .ctx = 16,
                                   .n_thread = 1,
                                   .device = "cpu",
                                   .progress = progress,
                                   .arg = arg,
                                   .stop = stop};
    const nb_status st = nb_quantize(&o, &r, err);
    if (st == NB_OK)
        nb_quantize_result_free(&r);
    return st;
}

static inline nb_status job_quantize(const char *method, nb_error *err)
{
    return job_quantize_as(method, "tiny.gguf", "out.gguf", NULL, NULL, NULL, NULL, err);
}

static inline nb_status job_quantize_folder(const char *method, nb_error *err)
{
    return job_quantize_as(method, "tiny.gguf", "out", "gptq", NULL, NULL, NULL, err);
}

static inline void jobs_stop(void *stop, const char *line, int32_t layer, int32_t n_layer,
                             double eta)
{
    (void)line;
    (void)n_layer;
    (void)eta;
    *(volatile int *)stop = layer == 1;
}

/* A run of two.gguf that is stopped behind its first layer; what going on with it does. */
static inline void jobs_leave_unfinished(const char *format)
{
    nb_error err = {.offset = -1};
    volatile int stop = 0;
    if (job_quantize_as("rtn", "two.gguf", format ? "out" : "out.gguf", format, jobs_stop,
                        (void *)(uintptr_t)&stop, &stop, &err) != NB_INTERRUPTED ||
        !jobs_unfinished()) {
        fprintf(stderr, "no unfinished run: %s\n", err.message);
        exit(1);
    }
}

static inline nb_status job_resume(nb_error *err)
{
    char out[1024];
    const bool file = access(folder_in(&here, "out.gguf.nibble", out), F_OK) == 0;
    nb_quantize_result r;
    const nb_quantize_options o = {
        .out = folder_in(&here, file ? "out.gguf" : "out", out), .resume = true, .n_thread = 1};
    const nb_status st = nb_quantize(&o, &r, err);
    if (st == NB_OK)
        nb_quantize_result_free(&r);
    return st;
}

/* A folder of packed linears, packed otherwise. */
static inline void jobs_make_packed(void)
{
    char path[1024];
    nb_error err = {.offset = -1};
    if (access(folder_in(&here, "packed", path), F_OK) != 0 &&
        job_quantize_as("rtn", "tiny.gguf", "packed", "gptq", NULL, NULL, NULL, &err) != NB_OK) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
}

static inline nb_status job_convert_packed(nb_error *err)
{
    char model[1024], out[1024];
    nb_convert_result r;
    const nb_convert_options o = {.model = folder_in(&here, "packed", model),
                                  .out = folder_in(&here, "out", out),
                                  .format = "gptq_v2",
                                  .n_thread = 1};
    return nb_convert(&o, &r, err);
}

#endif
