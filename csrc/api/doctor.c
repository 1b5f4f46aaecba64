/* doctor.c -- what this machine has, what of it nibble uses, and what is missing.
 *
 * GPUs are asked through the driver's own library (libcuda.so.1, opened at run time; CUDA driver
 * API): no toolkit and no module of ours is needed to see them. */
#include "api/doctor.h"
#include "backend/cpu/cpu.h"
#include "backend/limits.h"
#include "model/family.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <utf8proc.h>

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the CPU and memory ---- */

/* The value of a "key : value" line of a small text file of the kernel, trimmed; false if
 * absent. */
static bool line_of(const char *path, const char *key, char *dst, size_t n)
{
    char line[512];
    bool found = false;
    FILE *f = fopen(path, "r");
    while (f && !found && fgets(line, sizeof line, f)) {
        if (strncmp(line, key, strlen(key)) != 0)
            continue;
        const char *v = line + strlen(key);
        v += strspn(v, " \t:");
        snprintf(dst, n, "%.*s", (int)strcspn(v, "\r\n"), v);
        found = true;
    }
    if (f)
        fclose(f);
    return found;
}

static void note(nb_doctor_report *r, const char *text)
{
    if (r->n_note < (int)(sizeof r->note / sizeof *r->note))
        snprintf(r->note[r->n_note++], sizeof r->note[0], "%s", text);
}

void nb_doctor_isa(uint32_t isa, nb_doctor_report *r)
{
    static const struct {
        uint32_t bit;
        const char *name;
    } sets[] = {{NB_ISA_AVX2, "avx2 fma f16c"},
                {NB_ISA_AVX512, "avx512 vnni"},
                {NB_ISA_BF16, "bf16"},
                {NB_ISA_AMX, "amx"}};
    r->isa[0] = 0;
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
        if (isa & sets[i].bit) {
            const size_t at = strlen(r->isa);
            snprintf(r->isa + at, sizeof r->isa - at, "%s%s", at ? " " : "", sets[i].name);
        }
    if (!r->isa[0]) {
        snprintf(r->isa, sizeof r->isa, "scalar");
        note(r, "no AVX2: the scalar rows run, many times slower");
    }
}

static nb_status ask_cpu(nb_doctor_report *r, nb_error *err)
{
    nb_backend *be = NULL;
    nb_limits limits;
    nb_status st = nb_backend_open("cpu", NULL, &be, err);
    if (st != NB_OK)
        return st;
    if (!line_of("/proc/cpuinfo", "model name", r->cpu, sizeof r->cpu))
        snprintf(r->cpu, sizeof r->cpu, "unknown");
    nb_doctor_isa(nb_cpu_of(be)->isa, r);
    r->threads = be->n_thread;
    r->memory_bytes = (int64_t)be->memory_bytes;
    st = nb_backend_limits(be, &limits, err);
    if (st == NB_OK)
        r->bandwidth_gb_per_s = limits.read_bytes_per_s * 1e-9;
    nb_backend_close(be);
    return st;
}

static void add_library(nb_doctor_report *r, const char *name, const char *version)
{
    if (r->n_library == (int)(sizeof r->library / sizeof *r->library))
        return;
    snprintf(r->library[r->n_library].name, sizeof r->library[0].name, "%s", name);
    snprintf(r->library[r->n_library++].version, sizeof r->library[0].version, "%s", version);
}

static void ask_libraries(nb_doctor_report *r)
{
    char text[64] = "";
    if (pcre2_config(PCRE2_CONFIG_VERSION, NULL) <= (int)sizeof text &&
        pcre2_config(PCRE2_CONFIG_VERSION, text) > 0)
        add_library(r, "pcre2", text);
    add_library(r, "utf8proc", utf8proc_version());
#if defined(_OPENMP)
    snprintf(text, sizeof text, "%d", _OPENMP);
    add_library(r, "openmp", text);
#endif
}

/* ---- GPUs ---- */

enum { kCudaSuccess = 0, kComputeMajor = 75, kComputeMinor = 76 };
typedef int cuda_init(unsigned flags);
typedef int cuda_count(int *n);
typedef int cuda_version(int *version);
typedef int cuda_device(int *device, int ordinal);
typedef int cuda_name(char *name, int n, int device);
typedef int cuda_memory(size_t *bytes, int device);
typedef int cuda_attribute(int *value, int attribute, int device);

typedef struct driver {
    void *handle;
    cuda_init *init;
    cuda_count *count;
    cuda_version *version;
    cuda_device *device;
    cuda_name *name;
    cuda_memory *memory;
    cuda_attribute *attribute;
} driver;

static bool symbol(const driver *d, const char *name, void *function, size_t n)
{
    void *p = dlsym(d->handle, name);
    memcpy(function, &p, n); /* ISO C has no cast from object to function pointers */
    return p != NULL;
}

static bool open_driver(driver *d)
{
    d->handle = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
    return d->handle && symbol(d, "cuInit", &d->init, sizeof d->init) &&
           symbol(d, "cuDeviceGetCount", &d->count, sizeof d->count) &&
           symbol(d, "cuDriverGetVersion", &d->version, sizeof d->version) &&
           symbol(d, "cuDeviceGet", &d->device, sizeof d->device) &&
           symbol(d, "cuDeviceGetName", &d->name, sizeof d->name) &&
           symbol(d, "cuDeviceTotalMem_v2", &d->memory, sizeof d->memory) &&
           symbol(d, "cuDeviceGetAttribute", &d->attribute, sizeof d->attribute);
}

/* The kernel module's version, else that of the CUDA interface. */
static void driver_text(const driver *d, char *dst, size_t n)
{
    char line[256];
    int version = 0;
    if (line_of("/proc/driver/nvidia/version", "NVRM version", line, sizeof line))
        for (const char *p = line; (p = strpbrk(p, "0123456789")) != NULL;
             p += strspn(p, "0123456789.")) {
            const size_t length = strspn(p, "0123456789.");
            if (length > 3 && length < n && memchr(p, '.', length)) {
                snprintf(dst, n, "%.*s", (int)length, p);
                return;
            }
        }
    if (d->version(&version) == kCudaSuccess)
        snprintf(dst, n, "CUDA %d.%d", version / 1000, version % 1000 / 10);
}

static void ask_devices(const driver *d, nb_doctor_report *r)
{
    int n = 0;
    if (d->count(&n) != kCudaSuccess)
        n = 0;
    for (int i = 0; i < n && r->n_gpu < (int)(sizeof r->gpu / sizeof *r->gpu); i++) {
        nb_doctor_gpu *g = &r->gpu[r->n_gpu];
        int device = 0, major = 0, minor = 0;
        size_t bytes = 0;
        if (d->device(&device, i) != kCudaSuccess ||
            d->name(g->name, (int)sizeof g->name, device) != kCudaSuccess ||
            d->memory(&bytes, device) != kCudaSuccess ||
            d->attribute(&major, kComputeMajor, device) != kCudaSuccess ||
            d->attribute(&minor, kComputeMinor, device) != kCudaSuccess)
            continue;
        g->sm = 10 * major + minor;
        g->memory_bytes = (int64_t)bytes;
        driver_text(d, g->driver, sizeof g->driver);
        r->n_gpu++;
    }
}

void nb_doctor_product_library(nb_backend *be, nb_doctor_report *r)
{
    if (!be->op->product_library)
        return;
    const char *version = be->op->product_library(be);
    if (version)
        add_library(r, "cublaslt", version);
    else
        note(r, "libcublasLt is not there (it comes with the CUDA toolkit, and with PyTorch): "
                "nibble's own kernels multiply prompts, too");
}

static nb_status ask_gpus(nb_doctor_report *r, nb_error *err)
{
    driver d = {.handle = NULL};
    const bool card = access("/dev/nvidiactl", F_OK) == 0;
    nb_backend *be = NULL;
    nb_error why = {.offset = -1};
    nb_status st = NB_OK;
    if (!open_driver(&d)) {
        if (card)
            st = nb_fail(err, NB_NEGATIVE,
                         "an NVIDIA device is there, its driver's library libcuda.so.1 is not: "
                         "nothing runs on it");
        note(r, card ? "libcuda.so.1 cannot be loaded: install the driver's user-space libraries "
                       "(in a container: run it with "
                       "--gpus all)"
                     : "no NVIDIA driver (libcuda.so.1): the CPU computes");
    } else if (d.init(0) != kCudaSuccess) {
        if (card)
            st = nb_fail(
                err, NB_NEGATIVE,
                "libcuda.so.1 does not start: driver and kernel module may differ in version");
        note(r, card ? "the driver does not start: reboot, or install matching versions of the "
                       "kernel module and the libraries"
                     : "libcuda.so.1 is there, no device is: the CPU computes");
    } else {
        ask_devices(&d, r);
        if (r->n_gpu && nb_backend_open("cuda:0", NULL, &be, &why) != NB_OK) {
            char text[sizeof r->note[0]];
            snprintf(text, sizeof text, "the GPU cannot be used by this build: %.200s",
                     why.message);
            note(r, text);
            st = nb_fail(err, NB_NEGATIVE, "%.400s", why.message);
        }
        if (be)
            nb_doctor_product_library(be, r);
        nb_backend_close(be);
    }
    if (d.handle && !r->n_gpu)
        dlclose(d.handle);
    return st;
}

nb_status nb_doctor(nb_doctor_report *r, nb_error *err)
{
    memset(r, 0, sizeof *r);
    const nb_status st = ask_cpu(r, err);
    if (st != NB_OK)
        return st;
    ask_libraries(r);
    return ask_gpus(r, err);
}

/* ---- formats x families x backends ---- */

/* Packs a small weight, whole panels of every device, and looks what came of it: decoded where it
 * takes a float a weight, and the format is no such float. */
static const char *served(nb_backend *be, const nb_dtype *t)
{
    enum { kRows = 64, kWidth = 1024 };
    const int64_t row_bytes = nb_dtype_row_bytes(t, kWidth);
    nb_weight *w = NULL;
    if (!be || !t->decode || row_bytes < 0 || !be->op->linear || !be->op->pack_weight)
        return "refused";
    uint8_t *rows = calloc(kRows, (size_t)row_bytes);
    const nb_matrix m = {.N = kRows, .K = kWidth, .dtype = t, .rows = rows};
    const char *how = "refused";
    if (rows && be->op->pack_weight(be, &m, 1, &w, NULL) == NB_OK) {
        const double bits = 8.0 * (double)be->op->weight_bytes(w) / (kRows * kWidth),
                     own = 8.0 * (double)row_bytes / kWidth;
        how = bits > 15.5 && (bits > own + 1 || bits < own - 1) ? "generic" : "native";
    }
    be->op->release_weight(be, w);
    free(rows);
    return how;
}

void nb_doctor_features(void (*row)(void *arg, const char *format, const char *family,
                                    const char *backend, const char *how),
                        void *arg)
{
    static const struct {
        const char *name, *device;
    } backends[] = {{"cpu", "cpu"}, {"ref", "ref"}, {"cuda", "cuda:0"}, {"simt", "simt"}};
    for (size_t b = 0; b < sizeof backends / sizeof *backends; b++) {
        nb_backend *be = NULL;
        if (nb_backend_open(backends[b].device, NULL, &be, NULL) != NB_OK)
            be = NULL; /* every format is refused there */
        for (const nb_dtype *const *t = nb_dtypes; *t; t++) {
            const char *how = served(be, *t);
            for (const nb_family *const *f = nb_families; *f; f++)
                row(arg, (*t)->name, (*f)->name, backends[b].name, how);
        }
        nb_backend_close(be);
    }
}
