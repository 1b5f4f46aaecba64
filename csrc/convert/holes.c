/* holes.c -- see holes.h. Where a file system has no holes, or does not tell, no tensor is one:
 * that costs room, nothing else. */
#include "convert/holes.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#if !defined SEEK_DATA && defined __linux__
/* lseek(2): the next byte that is in no hole, that is in one; glibc names them for _GNU_SOURCE
 * only */
#define SEEK_DATA 3
#define SEEK_HOLE 4
#endif

enum { kEnds = 1 << 17 }; /* bytes of shared blocks at most, of 64 KiB each */

void nb_holes_open(nb_holes *h, const nb_container *c)
{
    *h = (nb_holes){.c = c, .fd = -1};
}

void nb_holes_close(nb_holes *h)
{
    if (h->fd >= 0)
        close(h->fd);
    h->fd = -1;
    h->path = NULL;
}

#ifdef SEEK_DATA
static bool is_zero(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i])
            return false;
    return true;
}

bool nb_holes_has(nb_holes *h, const nb_tensor *t)
{
    const char *file = nb_container_file(h->c, t);
    const off_t first = (off_t)t->offset, end = first + (off_t)t->bytes;
    off_t filled = 0;
    if (h->path != file) {
        nb_holes_close(h);
        h->fd = open(h->path = file, O_RDONLY | O_CLOEXEC);
    }
    for (off_t at = first; at < end && h->fd >= 0;) {
        const off_t data = lseek(h->fd, at, SEEK_DATA);
        if (data < 0 ? errno == ENXIO : data >= end)
            break;
        off_t hole = data < 0 ? -1 : lseek(h->fd, data, SEEK_HOLE);
        hole = hole > end ? end : hole;
        filled += hole - data;
        if (data < 0 || hole <= data || filled > kEnds ||
            !is_zero(t->data + (data - first), (size_t)(hole - data)))
            return false;
        at = hole;
    }
    return h->fd >= 0 && t->bytes > 0 && filled < end - first;
}
#else
bool nb_holes_has(nb_holes *h, const nb_tensor *t)
{
    (void)h, (void)t;
    return false;
}
#endif
