/* workdir.c -- a folder, a lock in it (workdir.h). */
#include "file/workdir.h"
#include "base/crash.h"
#include "base/memory.h"
#include "file/outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { kPath = 4096, kTries = 50 };

struct nb_workdir {
    char path[kPath];
    int lock;
    bool was_there;
};

nb_status nb_workdir_file(const nb_workdir *d, const char *name, char *path, size_t n,
                          nb_error *err)
{
    const int len = snprintf(path, n, "%s/%s", d->path, name);
    return len > 0 && (size_t)len < n
               ? NB_OK
               : nb_fail_at(err, NB_IO, d->path, -1, "a path of more than %zu bytes", n - 1);
}

static nb_status locked_by(const char *path, int fd, nb_error *err)
{
    char text[32] = "";
    const ssize_t n = pread(fd, text, sizeof text - 1, 0);
    long pid = 0;
    for (ssize_t i = 0; i < n && i < 9 && text[i] >= '0' && text[i] <= '9'; i++)
        pid = 10 * pid + (text[i] - '0');
    if (pid)
        return nb_fail_at(err, NB_LOCKED, path, -1,
                          "process %ld is writing it; wait for it or stop it", pid);
    return nb_fail_at(err, NB_LOCKED, path, -1,
                      "another process is writing it; wait for it or stop it");
}

/* The lock file that has the name now, locked: whoever finished meanwhile has removed the one we
 * opened. *again: it was so. */
static nb_status take_lock(nb_workdir *d, const char *path, bool *again, nb_error *err)
{
    struct stat ours, there;
    *again = false;
    d->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (d->lock < 0) {
        *again = errno == ENOENT; /* the folder went */
        return nb_fail_errno_at(err, path, "cannot create it");
    }
    while (flock(d->lock, LOCK_EX | LOCK_NB) != 0)
        if (errno != EINTR)
            return errno == EWOULDBLOCK ? locked_by(path, d->lock, err)
                                        : nb_fail_errno_at(err, path, "cannot lock");
    *again = fstat(d->lock, &ours) != 0 || stat(path, &there) != 0 || ours.st_ino != there.st_ino ||
             ours.st_dev != there.st_dev;
    return *again ? nb_fail_at(err, NB_LOCKED, path, -1,
                               "other processes take and give it up without end")
                  : NB_OK;
}

static nb_status sign(const nb_workdir *d, const char *path, nb_error *err)
{
    char text[32];
    const int n = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    ssize_t done;
    if (ftruncate(d->lock, 0) != 0)
        return nb_fail_errno_at(err, path, "cannot write");
    while ((done = pwrite(d->lock, text, (size_t)n, 0)) < 0 && errno == EINTR)
        ;
    /* half a number is only half a sentence */
    return done < 0 ? nb_outfile_write_fault(path, 0, (size_t)n, err) : NB_OK;
}

nb_status nb_workdir_open(const char *out, nb_workdir **dir, nb_error *err)
{
    char path[kPath];
    *dir = NULL;
    nb_workdir *d = nb_alloc_zero(1, sizeof *d, "a work folder", err);
    if (!d)
        return NB_NO_ROOM;
    d->lock = -1;
    size_t n = strlen(out);
    while (n > 1 && out[n - 1] == '/') /* OUT may be a folder */
        n--;
    const int len =
        snprintf(d->path, sizeof d->path, "%.*s.nibble", (int)(n < kPath ? n : kPath), out);
    nb_status st =
        len > 0 && len < kPath - 32
            ? nb_workdir_file(d, "lock", path, sizeof path, err)
            : nb_fail_at(err, NB_IO, out, -1, "a path of more than %d bytes", kPath - 33);
    bool again = st == NB_OK, made = false;
    for (int i = 0; i < kTries && again; i++) {
        made = mkdir(d->path, 0700) == 0;
        d->was_there = !made;
        if (d->was_there && errno != EEXIST) {
            st = nb_fail_errno_at(err, d->path, "cannot create it");
            break;
        }
        if (d->lock >= 0)
            close(d->lock);
        st = take_lock(d, path, &again, err);
    }
    if (st == NB_OK)
        st = sign(d, path, err);
    if (st != NB_OK) {
        if (made && st != NB_LOCKED) /* nothing is in it that a run could go on with */
            nb_workdir_discard(d);
        else
            nb_workdir_close(d);
        return st;
    }
    if (err) /* what a lost race left */
        *err = (nb_error){.offset = -1};
    *dir = d;
    return NB_OK;
}

const char *nb_workdir_path(const nb_workdir *d)
{
    return d->path;
}

bool nb_workdir_was_there(const nb_workdir *d)
{
    return d->was_there;
}

void nb_workdir_remove(const nb_workdir *d, const char *const *names)
{
    char path[kPath];
    nb_crash_point("before-remove");
    for (; *names; names++)
        if (nb_workdir_file(d, *names, path, sizeof path, NULL) == NB_OK)
            unlink(path);
}

void nb_workdir_discard(nb_workdir *d)
{
    static const char *const lock[] = {"lock", NULL};
    if (!d)
        return;
    nb_workdir_remove(d, lock);
    (void)rmdir(d->path); /* fails when others have put files there */
    nb_workdir_close(d);
}

void nb_workdir_close(nb_workdir *d)
{
    if (!d)
        return;
    if (d->lock >= 0)
        close(d->lock);
    free(d);
}
