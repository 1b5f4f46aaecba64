/* module.c -- the emulator inside a shared object that a C program opens, as the engine opens
 * libnibble_simt.so: host memory is plain, hooks stay hidden, faults come back as a status. */
#include "check.h"

#include <dlfcn.h>

enum { kN = 50, kNoMemory = 2, kBadLaunch = 9, kCheckFailed = 700 };

static void *module;

/* The address of a function of the module, through a union as ISO C has no cast for it. */
typedef union entry {
    void *address;
    int (*open)(int n);
    int (*upload)(const float *x);
    int (*scale)(float by);
    int (*download)(float *y);
    int (*call)(void);
    int (*fault)(char *message, size_t n);
    int (*allocate)(size_t bytes, size_t room, size_t *free_bytes, int *last_error);
    int (*device)(char *name, size_t n, int *major, int *n_sm, size_t *bytes);
    int (*elapsed)(float *ms);
    int (*refused)(int what, int *call, int *next);
    int (*keeps)(int give_back);
} entry;

static entry find(const char *name)
{
    return (entry){.address = dlsym(module, name)};
}

static void copies_of_plain_memory(check *c)
{
    float x[kN], y[kN];
    for (int i = 0; i < kN; i++)
        x[i] = (float)i;
    CHECK_EQ(c, find("module_upload").upload(x), 0);
    for (int i = 0; i < kN; i++)
        x[i] = -1.0f; /* the copy has been taken at the call */
    CHECK_EQ(c, find("module_scale").scale(2.0f), 0);
    CHECK_EQ(c, find("module_download").download(y), 0);
    for (int i = 0; i < kN; i++) /* and this one is complete at its return */
        CHECK_NEAR(c, y[i], 2.0 * i, 0, "scaled");
    CHECK_EQ(c, find("module_clear").call(), 0);
    CHECK_EQ(c, find("module_download").download(y), 0);
    CHECK_NEAR(c, y[kN - 1], 0, 0, "cleared");
}

static void replayed_graphs(check *c)
{
    float x[kN], y[kN];
    for (int i = 0; i < kN; i++)
        x[i] = (float)i;
    CHECK_EQ(c, find("module_upload").upload(x), 0);
    CHECK_EQ(c, find("module_graph").scale(3.0f), 0);
    CHECK_EQ(c, find("module_download").download(y), 0);
    for (int i = 0; i < kN; i++)
        CHECK_NEAR(c, y[i], 9.0 * i, 0, "scaled twice");
}

static void captures_refuse(check *c)
{
    /* allocate, wait, copy at once, free, wait for the device */
    static const int want[] = {900, 900, 906, 900, 900};
    float y[kN];
    for (int i = 0; i < 5; i++) {
        int call = -1, next = -1;
        CHECK_EQ(c, find("module_refused").refused(i, &call, &next), 901);
        CHECK_EQ(c, call, want[i]);
        CHECK_EQ(c, next, 901);
    }
    CHECK_EQ(c, find("module_graph").scale(1.0f), 0); /* the next capture is whole again */
    CHECK_EQ(c, find("module_download").download(y), 0);
}

static void faults_are_told(check *c)
{
    char message[400];
    float y[kN];
    CHECK_EQ(c, find("module_fault").fault(message, sizeof message), kCheckFailed);
    CHECK_HAS(c, message, "OOB: store of 4 bytes");
    CHECK_HAS(c, message, "kernel store_past block (0,0,0) thread 0");
    CHECK_HAS(c, message, "at module.cu:15");
    CHECK_EQ(c, find("module_bad_launch").call(), kBadLaunch);
    CHECK_EQ(c, find("module_download").download(y), 0);
}

static void memory_has_a_limit(check *c)
{
    static const struct {
        size_t bytes, room;
        int want;
    } rows[] = {
        {1 << 20, 1 << 20, 0},
        {(1 << 20) + 1, 1 << 20, kNoMemory},
        {1 << 20, 1 << 20, 0}, /* what was freed is there again */
        {(size_t)1 << 40, (size_t)1 << 41, kNoMemory},
        {SIZE_MAX - 8, (size_t)1 << 41, kNoMemory},
    };
    const entry e = find("module_allocate");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t free_bytes = 0;
        int last = -1;
        CHECK_EQ(c, e.allocate(rows[i].bytes, rows[i].room, &free_bytes, &last), rows[i].want);
        CHECK_EQ(c, last, rows[i].want);
        CHECK(c, free_bytes == rows[i].room || rows[i].room > 1 << 20);
    }
}

static void device_is_described(check *c)
{
    char name[64];
    int major = 0, n_sm = 0;
    size_t bytes = 0;
    float ms = 1.0f;
    CHECK_EQ(c, find("module_device").device(name, sizeof name, &major, &n_sm, &bytes), 0);
    CHECK_STR(c, name, "simt");
    CHECK_EQ(c, major, 9);
    CHECK_EQ(c, n_sm, 4);
    CHECK(c, bytes > (size_t)1 << 30);
    CHECK_EQ(c, find("module_elapsed").elapsed(&ms), 0);
    CHECK(c, ms >= 0 && ms < 1e5f); /* the host's clock */
}

static void what_is_kept_is_counted(check *c)
{
    const entry kept = find("simt_kept");
    const int before = kept.call();
    CHECK_EQ(c, find("module_keeps").keeps(1), 0);
    CHECK_EQ(c, kept.call(), before);
    CHECK_EQ(c, find("module_keeps").keeps(0), 0);
    CHECK_EQ(c, kept.call(), before + 5); /* memory of two kinds, a stream, an event, a graph */
}

static void nothing_else_is_exported(check *c)
{
    static const char *const hidden[] = {"__tsan_read4", "__tsan_memcpy", "__tsan_init",
                                         "simt_tid",     "simt_swap",     "simt_atomic"};
    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++)
        if (dlsym(module, hidden[i]))
            check_report(c, __FILE__, __LINE__, "%s is exported", hidden[i]);
    CHECK(c, find("module_open").address != NULL);
}

int main(int argc, char **argv)
{
    static const check_case cases[] = {
        {"plain host memory is copied at the call", copies_of_plain_memory},
        {"a captured graph replays", replayed_graphs},
        {"a capture refuses to allocate, to free and to wait", captures_refuse},
        {"a fault comes back as a status and a sentence with its line", faults_are_told},
        {"cudaMalloc fails at the limit", memory_has_a_limit},
        {"the device is described", device_is_described},
        {"what is not given back is counted", what_is_kept_is_counted},
        {"hooks and entry points stay inside the module", nothing_else_is_exported},
    };
    module = dlopen(NB_SIMT_MODULE, RTLD_NOW | RTLD_LOCAL);
    if (!module || find("module_open").open(kN)) {
        fprintf(stderr, "%s\n", module ? "no emulated device" : dlerror());
        return 1;
    }
    return check_main(cases, sizeof cases / sizeof *cases, argc, argv);
}
