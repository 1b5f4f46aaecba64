/* mapfile.c -- mmap of a regular file. */
#include "base/mapfile.h"
#include "base/memory.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

nb_status nb_mapfile_open(const char *path, nb_mapfile **out, nb_error *err)
{
    nb_status st = NB_OK;
    nb_mapfile *m = NULL;
    struct stat sb;
    *out = NULL;
    const int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return nb_fail_errno_at(err, path, "cannot open");
    if (fstat(fd, &sb) != 0) {
        st = nb_fail_errno_at(err, path, "cannot stat");
        goto done;
    }
    if (!S_ISREG(sb.st_mode)) {
        st = nb_fail_at(err, NB_BAD_INPUT, path, -1, "not a regular file");
        goto done;
    }
    m = nb_alloc_zero(1, sizeof *m, "a mapped file", err);
    if (!m) {
        st = NB_NO_ROOM;
        goto done;
    }
    snprintf(m->path, sizeof m->path, "%s", path);
    m->n = (size_t)sb.st_size;
    if (m->n) {
        void *p = mmap(NULL, m->n, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) {
            st = nb_fail_errno_at(err, path, "cannot map %zu bytes", m->n);
            free(m);
            goto done;
        }
        m->p = p;
    }
    *out = m;
done:
    close(fd);
    return st;
}

void nb_mapfile_close(nb_mapfile *m)
{
    if (!m)
        return;
    if (m->p)
        munmap((void *)(uintptr_t)m->p, m->n);
    free(m);
}

void nb_mapfile_ask(const nb_mapfile *m, size_t offset, size_t n)
{
    if (!m->p || offset >= m->n)
        return;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t first = offset / page * page; /* begun pages, too */
    const size_t end = n < m->n - offset ? offset + n : m->n;
    (void)madvise((char *)(uintptr_t)m->p + first, end - first, MADV_WILLNEED);
}

void nb_mapfile_release(const nb_mapfile *m, size_t offset, size_t n)
{
    if (!m->p || offset >= m->n)
        return;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t first = (offset + page - 1) / page * page; /* whole pages inside the range only */
    const size_t end = (n < m->n - offset ? offset + n : m->n) / page * page;
    if (end > first)
        (void)madvise((char *)(uintptr_t)m->p + first, end - first, MADV_DONTNEED);
}
