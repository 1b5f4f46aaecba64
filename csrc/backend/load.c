/* load.c -- from a device's name to an open backend: a table of rows, tried in order.
 *
 *   auto      cuda:0 when the driver's library and a device are there, else cpu
 *   cpu, ref  part of the library
 *   simt      libnibble_simt.so, the CUDA sources on the host
 *   cuda:N    libnibble_cuda.so, device N
 *   plan:X    device X, which is only asked for sizes (count.h)
 *
 * A module is looked for in $NIBBLE_MODULE_DIR, the executable's own folder, ../lib seen from
 * there, and last by its plain name where the dynamic linker looks. The first file that exists
 * decides: if it does not load, its reason is the one worth telling. Modules are never unloaded:
 * code of theirs may still run in threads of the driver, and opening one again costs nothing. */
#include "backend/backend.h"
#include "backend/count.h"
#include "backend/cpu/cpu.h"
#include "backend/open.h"
#include "backend/ref/ref.h"
#include "base/nearest.h"
#include "base/pool.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct device_row {
    const char *name;   /* ends in ':' when a device number follows */
    const char *module; /* file to open, or NULL: `open` is in the library */
    nb_status (*open)(const nb_backend_options *o, nb_backend **out, nb_error *err);
} device_row;

static nb_status open_auto(const nb_backend_options *o, nb_backend **out, nb_error *err);

static const device_row rows[] = {
    {"auto", NULL, open_auto},
    {"cpu", NULL, nb_backend_cpu_open},
    {"ref", NULL, nb_backend_ref_open},
    {"simt", "libnibble_simt.so", NULL},
    {"cuda:", "libnibble_cuda.so", NULL},
    {NULL, NULL, NULL},
};

/* The folder of the running program, without a slash at the end; false when the kernel does not
 * tell. */
static bool own_folder(char *dst, size_t n)
{
    const ssize_t got = readlink("/proc/self/exe", dst, n - 1);
    if (got <= 0 || (size_t)got >= n - 1) /* a full buffer may be a cut path */
        return false;
    dst[got] = 0;
    char *slash = strrchr(dst, '/');
    if (!slash)
        return false;
    *slash = 0;
    return true;
}

/* Opens folder/file if there is such a file. *found says so; the handle is NULL when it did not
 * load. */
static void *open_in(const char *folder, const char *below, const char *file, bool *found)
{
    char path[PATH_MAX];
    const int n = snprintf(path, sizeof path, "%s%s/%s", folder, below, file);
    *found = n > 0 && (size_t)n < sizeof path && access(path, F_OK) == 0;
    return *found ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
}

static void *open_module(const char *file)
{
    char own[PATH_MAX];
    bool found = false;
    void *handle = NULL;
    const char *dir = getenv("NIBBLE_MODULE_DIR");
    if (dir && *dir)
        handle = open_in(dir, "", file, &found);
    if (!found && own_folder(own, sizeof own)) {
        handle = open_in(own, "", file, &found);
        if (!found)
            handle = open_in(own, "/../lib", file, &found);
    }
    return found ? handle : dlopen(file, RTLD_NOW | RTLD_LOCAL);
}

static nb_status module_fault(const char *device, const char *file, const char *what, nb_error *err)
{
    char reason[256];
    const char *text = dlerror();
    if (!text)
        text = "no reason given";
    nb_escape(reason, (int64_t)sizeof reason, text, (int64_t)strlen(text));
    return nb_fail(err, NB_DEVICE, "%s: the module %s %s: %s", device, file, what, reason);
}

static nb_status open_by_module(const device_row *row, const char *device, int index,
                                const nb_backend_options *o, nb_backend **out, nb_error *err)
{
    void *handle = open_module(row->module);
    if (!handle)
        return module_fault(device, row->module, "cannot be loaded", err);
    void *symbol = dlsym(handle, "nb_backend_module_open");
    if (!symbol)
        return module_fault(device, row->module, "is not one of nibble's", err);
    nb_backend_module_open_fn open;
    memcpy(&open, &symbol, sizeof open); /* ISO C has no cast from object to function pointers */
    const nb_status st = open(NB_BACKEND_ABI, index, o, out, err);
    if (st == NB_OK) /* the host's share of the work is there on every device */
        (*out)->n_thread = nb_pool_threads(o ? o->n_thread : 0);
    return st;
}

/* A number of one to three digits and nothing else; -1 otherwise. */
static int device_number(const char *s)
{
    int value = 0, n = 0;
    for (; s[n] >= '0' && s[n] <= '9' && n < 4; n++)
        value = value * 10 + (s[n] - '0');
    return n >= 1 && n <= 3 && !s[n] ? value : -1;
}

nb_status nb_backend_open(const char *device, const nb_backend_options *o, nb_backend **out,
                          nb_error *err)
{
    static const char plan[] = "plan:";
    *out = NULL;
    if (strncmp(device, plan, sizeof plan - 1) == 0 &&
        strncmp(device + sizeof plan - 1, plan, sizeof plan - 1) != 0) {
        nb_backend *inner = NULL;
        const nb_status st = nb_backend_open(device + sizeof plan - 1, o, &inner, err);
        return st == NB_OK ? nb_backend_count_open(inner, true, out, err) : st;
    }
    for (const device_row *row = rows; row->name; row++) {
        const size_t n = strlen(row->name);
        const bool numbered = row->name[n - 1] == ':';
        if (numbered ? strncmp(device, row->name, n) != 0 : strcmp(device, row->name) != 0)
            continue;
        const int index = numbered ? device_number(device + n) : 0;
        if (index < 0)
            break;
        return row->module ? open_by_module(row, device, index, o, out, err)
                           : row->open(o, out, err);
    }
    char shown[160];
    nb_escape(shown, (int64_t)sizeof shown, device, (int64_t)strlen(device));
    static const char *const names[] = {"auto", "cpu", "ref", "simt", "cuda:0", NULL};
    nb_fail(err, NB_USAGE, "device \"%s\" is none of auto, cpu, ref, simt, cuda:0, cuda:1, ...",
            shown);
    nb_nearest_of(device, names, "--device ", err);
    return NB_USAGE;
}

nb_status nb_backend_auto_open(const nb_backend_options *o, nb_backend **out, char *told, size_t n,
                               nb_error *err)
{
    nb_error why = {.message = ""};
    told[0] = 0;
    /* The driver's library is the cheap question: without it loading the module (and the CUDA
     * runtime in it) is wasted time. */
    void *driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
    if (driver) {
        const nb_status st = nb_backend_open("cuda:0", o, out, &why);
        if (st == NB_OK)
            return st;
        dlclose(driver);
        snprintf(told, n, "the CPU is used, %s", why.message);
    }
    return nb_backend_cpu_open(o, out, err);
}

static nb_status open_auto(const nb_backend_options *o, nb_backend **out, nb_error *err)
{
    char told[1]; /* who asks by the name has no place for it */
    return nb_backend_auto_open(o, out, told, sizeof told, err);
}

void nb_backend_close(nb_backend *be)
{
    if (be)
        be->op->close(be);
}

nb_status nb_op_check(const nb_backend *be, bool has, const char *op, nb_error *err)
{
    return has ? NB_OK : nb_fail(err, NB_UNSUPPORTED, "%s: %s is not there yet", be->name, op);
}
