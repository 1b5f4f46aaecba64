/* memory.c -- what memory is free: machines and control groups as they look in /proc and /sys, and
 * a plan that goes by it. */
#include "base/free_memory.h"
#include "check.h"
#include "hostile/folder.h"
#include "nibble.h"
#include "tiny_gguf.h"

static folder here;
static int64_t pretended; /* 0: the truth */

int64_t __real_nb_memory_free_bytes(void);
int64_t __wrap_nb_memory_free_bytes(void);
int64_t __wrap_nb_memory_free_bytes(void)
{
    return pretended ? pretended : __real_nb_memory_free_bytes();
}

/* A file of a machine; its folders are made. */
static void put(const char *machine, const char *name, const char *text)
{
    char path[1024], whole[400];
    snprintf(whole, sizeof whole, "%s/%s", machine, name);
    for (char *slash = strchr(whole, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(folder_in(&here, whole, path), 0700);
        *slash = '/';
    }
    folder_write(&here, whole, text, strlen(text));
}

static const struct {
    const char *machine;
    struct {
        const char *name, *text;
    } file[8];
    int64_t bytes, free;
} machines[] = {
    {"no groups",
     {{"proc/meminfo",
       "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    600 kB\n"}},
     1024000,
     614400},
    {"a kernel that says nothing", {{"proc/meminfo", "MemTotal:       1000 kB\n"}}, 1024000, 0},
    {"nothing at all", {{"proc/x", ""}}, 0, 0},
    {"version 2, no limit",
     {{"proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 600 kB\n"},
      {"proc/self/cgroup", "0::/user/a\n"},
      {"sys/fs/cgroup/user/a/memory.max", "max\n"},
      {"sys/fs/cgroup/user/a/memory.current", "500000\n"}},
     1024000,
     614400},
    {"version 2, its own limit less what is held, without inactive cache",
     {{"proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 600 kB\n"},
      {"proc/self/cgroup", "0::/user/a\n"},
      {"sys/fs/cgroup/user/a/memory.max", "400000\n"},
      {"sys/fs/cgroup/user/a/memory.current", "300000\n"},
      {"sys/fs/cgroup/user/a/memory.stat", "anon 1\nfile 120000\ninactive_file 100000\n"}},
     400000,
     200000},
    {"version 2, a limit above it",
     {{"proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 600 kB\n"},
      {"proc/self/cgroup", "0::/user/a\n"},
      {"sys/fs/cgroup/user/memory.max", "500000\n"},
      {"sys/fs/cgroup/user/memory.current", "450000\n"},
      {"sys/fs/cgroup/user/a/memory.max", "400000\n"},
      {"sys/fs/cgroup/user/a/memory.current", "1000\n"}},
     400000,
     50000},
    {"a container, whose path is not there but its root is",
     {{"proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 600 kB\n"},
      {"proc/self/cgroup", "0::/docker/1234\n"},
      {"sys/fs/cgroup/memory.max", "300000\n"},
      {"sys/fs/cgroup/memory.current", "310000\n"}},
     300000,
     0},
    {"version 1 beside other controllers",
     {{"proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 600 kB\n"},
      {"proc/self/cgroup", "9:cpu,cpuacct:/x\n4:hugetlb,memory:/job\n0::/\n"},
      {"sys/fs/cgroup/memory/job/memory.limit_in_bytes", "200000\n"},
      {"sys/fs/cgroup/memory/job/memory.usage_in_bytes", "150000\n"},
      {"sys/fs/cgroup/memory/job/memory.stat", "inactive_file 9\ntotal_inactive_file 20000\n"},
      {"sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"}},
     200000,
     70000},
    {"less is available than the group leaves",
     {{"proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 10 kB\n"},
      {"proc/self/cgroup", "0::/\n"},
      {"sys/fs/cgroup/memory.max", "400000\n"}},
     400000,
     10240},
};

static void look(check *c)
{
    char root[1024], name[32];
    for (size_t i = 0; i < sizeof machines / sizeof *machines; i++) {
        snprintf(name, sizeof name, "machine%zu", i);
        for (int k = 0; k < 8 && machines[i].file[k].name; k++)
            put(name, machines[i].file[k].name, machines[i].file[k].text);
        const nb_host_memory m = nb_host_memory_at(folder_in(&here, name, root));
        if (m.bytes != machines[i].bytes || m.free != machines[i].free)
            check_report(c, __FILE__, __LINE__, "%s: %lld free of %lld, expected %lld of %lld",
                         machines[i].machine, (long long)m.free, (long long)m.bytes,
                         (long long)machines[i].free, (long long)machines[i].bytes);
        CHECK_EQ(c, m.bytes, machines[i].bytes);
    }
    CHECK(c, nb_memory_bytes() > 0 && nb_memory_free_bytes() > 0); /* this one */
    CHECK(c, nb_memory_free_bytes() <= nb_memory_bytes());
}

static void plans(check *c)
{
    static const tiny_shape shape = {
        .n_layer = 1, .hidden = 64, .ffn = 64, .n_head = 2, .n_kv_head = 1, .ctx = 64};
    char model[1024];
    nb_plan p;
    nb_error err = {.offset = -1};
    tiny_gguf_in(&here, "tiny.gguf", &shape);
    const nb_plan_options o = {
        .model = folder_in(&here, "tiny.gguf", model), .device = "cpu", .n_thread = 1};
    CHECK_EQ(c, nb_plan_model(&o, &p, &err), NB_OK);
    CHECK(c, p.fits && p.free_bytes <= p.memory_bytes);
    pretended = p.total_bytes;
    CHECK_EQ(c, nb_plan_model(&o, &p, &err), NB_OK);
    CHECK(c, p.fits);
    CHECK_EQ(c, p.free_bytes, pretended);
    CHECK_EQ(c, p.memory_bytes, nb_memory_bytes()); /* the machine's stays the machine's */
    pretended--;
    CHECK_EQ(c, nb_plan_model(&o, &p, &err), NB_OK);
    CHECK(c, !p.fits);
    pretended = 0;
}

static char said[256];

static void hear(void *arg, const char *line, int32_t layer, int32_t n_layer, double eta)
{
    (void)arg;
    (void)layer;
    (void)n_layer;
    if (eta < 0 && strncmp(line, "warning: ", 9) == 0)
        snprintf(said, sizeof said, "%s", line);
}

/* Quantization is refused by the machine's memory; by what is free now it is warned. */
static void quantizes(check *c)
{
    char model[1024], out[1024];
    nb_error err = {.offset = -1};
    nb_quantize_result r;
    nb_quantize_options o = {.model = folder_in(&here, "tiny.gguf", model),
                             .out = folder_in(&here, "out.gguf", out),
                             .method = "rtn",
                             .device = "cpu",
                             .n_thread = 1,
                             .dry_run = true,
                             .progress = hear};
    CHECK_EQ(c, nb_quantize(&o, &r, &err), NB_OK);
    CHECK_STR(c, said, "");
    nb_quantize_result_free(&r);
    pretended = 4096;
    CHECK_EQ(c, nb_quantize(&o, &r, &err), NB_OK);
    CHECK_HAS(c, said, " MiB more are planned, 0.0 MiB are free now; --memory SIZE");
    nb_quantize_result_free(&r);
    said[0] = 0;
    o.memory = 1 << 30;
    CHECK_EQ(c, nb_quantize(&o, &r, &err), NB_OK);
    CHECK_STR(c, said, "");
    nb_quantize_result_free(&r);
    pretended = 0;
}

/* What a device of its own memory lacks, of what is free there, and what would help. */
static void quantizes_on_a_device(check *c)
{
    char model[1024], out[1024], text[32];
    nb_error err = {.offset = -1};
    nb_quantize_result r;
    nb_quantize_options o = {.model = folder_in(&here, "tiny.gguf", model),
                             .out = folder_in(&here, "out.gguf", out),
                             .method = "gptq",
                             .device = "simt",
                             .n_thread = 1,
                             .samples = 4,
                             .dry_run = true};
    const nb_status there = nb_quantize(&o, &r, &err);
    if (there == NB_DEVICE) {
        check_skip(c, "the simt module is not there");
        return;
    }
    CHECK_EQ(c, there, NB_OK);
    const long long whole = (long long)r.plan_device_bytes;
    CHECK(c, whole > 0);
    nb_quantize_result_free(&r);
    setenv("NIBBLE_SIMT_MEMORY", "65536", 1);
    CHECK_EQ(c, nb_quantize(&o, &r, &err), NB_NO_ROOM);
    CHECK_HAS(c, err.message, " MiB of simt's memory are needed for a layer's weights, ");
    CHECK_HAS(c, err.message, " of 0.1 MiB are free; --device cpu");
    CHECK_STR(c, err.hint, "--device cpu");
    /* what is planned, and the 4 KiB that the open device holds */
    snprintf(text, sizeof text, "%lld", whole + 8192);
    setenv("NIBBLE_SIMT_MEMORY", text, 1);
    CHECK_EQ(c, nb_quantize(&o, &r, &err), NB_OK);
    nb_quantize_result_free(&r);
    unsetenv("NIBBLE_SIMT_MEMORY");
}

static const check_case cases[] = {
    {"free memory is what can be had without swapping, within every limit above the process", look},
    {"a plan fits by what is free now, and says what there is", plans},
    {"a quantization beyond what is free now is warned of", quantizes},
    {"one that a device has no room for is refused with what it lacks and what would fit",
     quantizes_on_a_device},
};

int main(int argc, char **argv)
{
    here = folder_new();
    const int rc = check_main(cases, sizeof cases / sizeof *cases, argc, argv);
    folder_gone(&here);
    return rc;
}
