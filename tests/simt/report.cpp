// report.cpp -- errors: counted, kept by kind, and printed as one sentence with kernel, block,
// thread and the source line of the access, which addr2line finds.
#include "simt_runtime.h"

#include <cstdarg>
#include <link.h>
#include <set>
#include <unistd.h>

namespace simt
{
Config cfg;

static struct {
    int n = 0;
    std::string kinds, first_kind, first_message;
    std::set<std::pair<std::string, void *>> shown;
} seen;

int errors()
{
    return seen.n;
}

const char *first_error()
{
    return seen.first_kind.c_str();
}

const char *first_message()
{
    return seen.first_message.c_str();
}

const char *error_kinds()
{
    return seen.kinds.c_str();
}

void reset_errors()
{
    seen = {};
}

// Keeps the module whose segments hold `seen`, so hold this runtime and the kernels beside it.
static int find_self(dl_phdr_info *info, size_t, void *out)
{
    Module m = {info->dlpi_addr, ~(uptr)0, 0, info->dlpi_name};
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD) {
            const uptr begin = m.base + info->dlpi_phdr[i].p_vaddr;
            const uptr end = begin + info->dlpi_phdr[i].p_memsz;
            m.begin = begin < m.begin ? begin : m.begin;
            m.end = end > m.end ? end : m.end;
        }
    if ((uptr)&seen < m.begin || (uptr)&seen >= m.end)
        return 0;
    if (m.path.empty()) { // the program itself
        char path[4096];
        const ssize_t n = readlink("/proc/self/exe", path, sizeof path);
        m.path.assign(path, n > 0 ? (size_t)n : 0);
    }
    *static_cast<Module *>(out) = m;
    return 1;
}

const Module &self()
{
    static const Module module = [] {
        Module m = {};
        dl_iterate_phdr(find_self, &m);
        return m;
    }();
    return module;
}

// " at w4.cu:31", or "" where nothing is known. The address before pc lies inside the call.
static std::string place(void *pc)
{
    char line[300] = "";
    if (!pc || !in_self((uptr)pc) || self().path.find('\'') != std::string::npos)
        return "";
    snprintf(line, sizeof line, "' 0x%zx", (size_t)((uptr)pc - 1 - self().base));
    const std::string command = "addr2line -s -e '" + self().path + line;
    FILE *f = popen(command.c_str(), "r");
    line[0] = 0;
    if (f && !fgets(line, sizeof line, f))
        line[0] = 0;
    if (f)
        pclose(f);
    line[strcspn(line, "\n")] = 0;
    return line[0] ? std::string(" at ") + line : "";
}

static std::string thread_name()
{
    char text[200];
    const Kernel &k = *now.kernel;
    const uint3 b = cur->block->id;
    snprintf(text, sizeof text, " [kernel %.*s block (%u,%u,%u) thread %u]",
             (int)strcspn(k.name, ","), k.name, b.x, b.y, b.z, cur->tid);
    return text;
}

void report(const char *kind, void *pc, const char *fmt, ...)
{
    constexpr size_t kMaxShown = 12;
    seen.n++;
    if (seen.kinds.find(kind) == std::string::npos)
        seen.kinds += (seen.kinds.empty() ? "" : ",") + std::string(kind);
    const bool first = seen.first_kind.empty();
    const bool show =
        !cfg.quiet && seen.shown.size() < kMaxShown && seen.shown.insert({kind, pc}).second;
    if (first || show) {
        char text[400];
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(text, sizeof text, fmt, ap);
        va_end(ap);
        const std::string message =
            std::string(kind) + ": " + text + (cur ? thread_name() : "") + (show ? place(pc) : "");
        if (first) {
            seen.first_kind = kind;
            seen.first_message = message;
        }
        if (show)
            fprintf(stderr, "simt: %s\n", message.c_str());
    }
    if (seen.n > cfg.max_errors && cur)
        kill_launch();
}
} // namespace simt
