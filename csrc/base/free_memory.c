/* free_memory.c -- /proc/meminfo, and the control groups around this process (cgroups(7)).
 *
 *     free = min(MemAvailable, limit - (usage - inactive_file)) over the group and all above it
 *
 * MemAvailable is the kernel's own estimate of what can be had without swapping (Linux 3.14,
 * Documentation/filesystems/proc.rst). A group's usage counts its page cache; what is inactive of
 * that is given back when memory is asked for. Version 2 has its files under /sys/fs/cgroup,
 * version 1 under /sys/fs/cgroup/memory. In a container the path that /proc names may not be there;
 * its root is, and is looked at last. */
#include "base/free_memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kPath = 1024 };

/* The number behind a word at the beginning of a line ("" takes the first line); -1: none, or no
 * number ("max"). */
static int64_t number_in(const char *path, const char *word)
{
    char line[512];
    int64_t n = -1;
    const size_t len = strlen(word);
    FILE *f = fopen(path, "r");
    while (f && n < 0 && fgets(line, sizeof line, f)) {
        if (strncmp(line, word, len) != 0)
            continue;
        const char *at = line + len + strspn(line + len, " \t");
        if (*at >= '0' && *at <= '9')
            n = strtoll(at, NULL, 10);
        break;
    }
    if (f)
        fclose(f);
    return n;
}

static int64_t in_group(const char *folder, const char *name, const char *word)
{
    char path[kPath + 64];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return number_in(path, word);
}

/* Lowers *m to what one group leaves. */
static void apply(const char *folder, int version, nb_host_memory *m)
{
    const int64_t limit =
        in_group(folder, version == 2 ? "memory.max" : "memory.limit_in_bytes", "");
    const int64_t usage =
        in_group(folder, version == 2 ? "memory.current" : "memory.usage_in_bytes", "");
    const int64_t cache =
        in_group(folder, "memory.stat", version == 2 ? "inactive_file " : "total_inactive_file ");
    if (limit < 0)
        return;
    if (!m->bytes || limit < m->bytes)
        m->bytes = limit;
    const int64_t held = usage - (cache > 0 && cache < usage ? cache : 0), left = usage < 0 ? limit
                                                                                  : limit > held
                                                                                      ? limit - held
                                                                                      : 0;
    if (!m->free || left < m->free)
        m->free = left;
}

/* The group of this path and all above it. */
static void apply_all(const char *mount, char *path, int version, nb_host_memory *m)
{
    char folder[kPath];
    for (;;) {
        const int n = snprintf(folder, sizeof folder, "%s%s", mount, path);
        if (n > 0 && n < kPath)
            apply(folder, version, m);
        char *slash = strrchr(path, '/');
        if (!slash || !*path)
            return;
        *slash = 0;
    }
}

/* Whether one of the words, commas between them, is `memory`. */
static int has_memory(const char *words, size_t n)
{
    static const char word[] = "memory";
    for (size_t at = 0; at < n;) {
        size_t len = 0;
        while (at + len < n && words[at + len] != ',')
            len++;
        if (len == sizeof word - 1 && memcmp(words + at, word, len) == 0)
            return 1;
        at += len + 1;
    }
    return 0;
}

nb_host_memory nb_host_memory_at(const char *root)
{
    char path[kPath], mount[kPath], line[kPath];
    nb_host_memory m = {0};
    snprintf(path, sizeof path, "%.512s/proc/meminfo", root);
    const int64_t all = number_in(path, "MemTotal:"), free_kib = number_in(path, "MemAvailable:");
    m.bytes = all > 0 ? 1024 * all : 0;
    m.free = free_kib > 0 ? 1024 * free_kib : 0;
    snprintf(path, sizeof path, "%.512s/proc/self/cgroup", root);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) { /* HIERARCHY:CONTROLLERS:PATH; version 2: 0::PATH */
        line[strcspn(line, "\n")] = 0;
        char *words = strchr(line, ':'), *at = words ? strchr(words + 1, ':') : NULL;
        if (!at)
            continue;
        const size_t n = (size_t)(at - words) - 1;
        const int version = n == 0 ? 2 : has_memory(words + 1, n) ? 1 : 0;
        snprintf(mount, sizeof mount, "%.512s/sys/fs/cgroup%s", root,
                 version == 1 ? "/memory" : "");
        if (version)
            apply_all(mount, at + 1, version, &m);
    }
    if (f)
        fclose(f);
    return m;
}

int64_t nb_memory_bytes(void)
{
    return nb_host_memory_at("").bytes;
}

int64_t nb_memory_free_bytes(void)
{
    return nb_host_memory_at("").free;
}
