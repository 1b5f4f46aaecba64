/* sigbus.c -- a model is read through a mapping; when another program makes the file shorter
 * meanwhile, the next read of what is gone is a SIGBUS. Its handler names the file, as any other
 * fault does, and ends the program: there is nothing to go back to.
 *
 * Only calls that are safe in a handler: the kernel's own list of mappings tells which file the
 * address belongs to. */
#include "base/text.h"
#include "out.h"

#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

enum { kLine = 4096 + 128 }; /* PATH_MAX and the fields before the path */

static void put(const char *s)
{
    const ssize_t n = write(STDERR_FILENO, s, strlen(s));
    (void)n; /* nowhere to say it */
}

static const char *hex(const char *s, uintptr_t *v)
{
    for (*v = 0;; s++)
        if (*s >= '0' && *s <= '9')
            *v = *v << 4 | (uintptr_t)(*s - '0');
        else if (*s >= 'a' && *s <= 'f')
            *v = *v << 4 | (uintptr_t)(*s - 'a' + 10);
        else
            return s;
}

/* A line of /proc/self/maps, "from-to perms offset device inode   path": the path when addr lies in
 *     it. */
static char *path_at(char *line, uintptr_t addr)
{
    uintptr_t from, to;
    const char *s = hex(line, &from);
    if (*s != '-')
        return NULL;
    (void)hex(s + 1, &to);
    return addr >= from && addr < to ? strchr(line, '/') : NULL;
}

/* Leaves the path in line; NULL when the address is no file's. */
static char *file_of(uintptr_t addr, char *line)
{
    const int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    char buf[1024], *path = NULL;
    ssize_t n, at = 0;
    while (fd >= 0 && !path && (n = read(fd, buf, sizeof buf)) > 0)
        for (ssize_t i = 0; i < n && !path; i++)
            if (buf[i] == '\n' || at == kLine - 1) {
                line[at] = 0;
                path = path_at(line, addr);
                at = 0;
            } else {
                line[at++] = buf[i];
            }
    if (fd >= 0)
        close(fd);
    return path;
}

/* A terminal shows it: what it would act on becomes question marks. */
static void mask(char *path)
{
    const int64_t n = (int64_t)strlen(path);
    for (int64_t i = 0; i < n;) {
        uint32_t c = 0;
        const int len = nb_character(path + i, n - i, &c);
        if (!len || nb_is_control(c))
            memset(path + i, '?', len ? (size_t)len : 1);
        i += len ? len : 1;
    }
}

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
    char line[kLine];
    (void)context;
    char *path = file_of((uintptr_t)info->si_addr, line);
    if (!path) { /* not a mapped file: a fault of ours, with the system's own way to show it */
        signal(sig, SIG_DFL);
        return;
    }
    put("nibble: error: ");
    mask(path);
    put(path);
    put(": the file became shorter while it was read, give it whole and start again\nhint: ls -l ");
    put(path);
    put("\n");
    _exit(NB_IO);
}

void nb_watch_mapped_files(void)
{
    struct sigaction a = {.sa_flags = SA_SIGINFO};
    a.sa_sigaction = on_sigbus;
    sigemptyset(&a.sa_mask);
    sigaction(SIGBUS, &a, NULL);
}
