/* outfile.c -- partial name, fsync, rename, fsync of the folder (outfile.h). */
#include "file/outfile.h"
#include "base/crash.h"
#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { kSuffix = 6, kTries = 100 };

struct nb_outfile {
    int fd;
    mode_t mode;   /* what the finished file gets: 0666 less the umask, or the mode of the file it
                      replaces */
    char *path;    /* final */
    char *partial; /* NULL when there is none on disk (any more) */
    char *folder;  /* of path; made at open, so that commit needs no memory */
    bool kept;     /* the partial file has a name of the caller's and outlives us */
};

/* Creates the partial file. The system gives it 0666 less the umask; that is noted for commit and
 * taken away meanwhile. */
static nb_status create(nb_outfile *f, nb_error *err)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz234567";
    const size_t n = strlen(f->path) + sizeof ".partial-" + kSuffix;
    struct stat sb;
    char *partial = nb_alloc(n, 1, "a path", err);
    if (!partial)
        return NB_NO_ROOM;
    for (int i = 0; i < kTries && f->fd < 0; i++) {
        unsigned char noise[kSuffix];
        char suffix[kSuffix + 1] = "";
        if (getentropy(noise, sizeof noise) != 0)
            memset(noise, i, sizeof noise); /* O_EXCL keeps it safe, only the names are plain */
        for (int k = 0; k < kSuffix; k++)
            suffix[k] = letters[noise[k] % 32];
        snprintf(partial, n, "%s.partial-%s", f->path, suffix);
        f->fd = open(partial, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (f->fd < 0 && errno != EEXIST && errno != EINTR)
            break;
    }
    if (f->fd < 0) {
        const nb_status st = nb_fail_errno_at(err, f->path, "cannot create it");
        free(partial);
        return st;
    }
    f->partial = partial;
    if (fstat(f->fd, &sb) != 0 || fchmod(f->fd, 0600) != 0)
        return nb_fail_errno_at(err, f->path, "cannot set its mode");
    if (!f->mode)
        f->mode = sb.st_mode & 0777;
    return NB_OK;
}

static nb_status name(nb_outfile *f, const char *path, nb_error *err)
{
    const char *slash = strrchr(path, '/');
    const size_t n = slash ? (size_t)(slash - path) : 0;
    f->path = nb_alloc(strlen(path) + 1, 1, "a path", err);
    f->folder = f->path ? nb_alloc(n + 2, 1, "a path", err) : NULL;
    if (!f->folder)
        return NB_NO_ROOM;
    memcpy(f->path, path, strlen(path) + 1);
    memcpy(f->folder, path, n);
    memcpy(f->folder + n, n ? "" : slash ? "/" : ".", n ? 1 : 2);
    return NB_OK;
}

/* The caller's name for the partial file, in a folder that is ours alone: so the file has its final
 * mode from the start, which a later process finds there. */
static nb_status create_kept(nb_outfile *f, const char *partial, bool resume, nb_error *err)
{
    struct stat sb;
    f->kept = true;
    f->partial = nb_alloc(strlen(partial) + 1, 1, "a path", err);
    if (!f->partial)
        return NB_NO_ROOM;
    memcpy(f->partial, partial, strlen(partial) + 1);
    if (!resume && unlink(partial) != 0 && errno != ENOENT)
        return nb_fail_errno_at(err, partial, "cannot remove what an earlier run left");
    f->fd = open(partial, O_RDWR | O_CLOEXEC | (resume ? 0 : O_CREAT | O_EXCL), 0666);
    if (f->fd < 0 || fstat(f->fd, &sb) != 0)
        return nb_fail_errno_at(err, partial, resume ? "cannot open" : "cannot create it");
    if (!S_ISREG(sb.st_mode))
        return nb_fail_at(err, NB_BAD_INPUT, partial, -1, "not a regular file");
    if (!f->mode)
        f->mode = sb.st_mode & 0777;
    return NB_OK;
}

nb_status nb_outfile_check(const char *path, nb_error *err)
{
    struct stat sb;
    /* renaming over it would replace a folder, a pipe or /dev/null */
    if (stat(path, &sb) == 0 && !S_ISREG(sb.st_mode))
        return nb_fail_at(err, NB_IO, path, -1, "exists and is not a regular file");
    return NB_OK;
}

static nb_status open_file(const char *path, const char *partial, bool resume, nb_outfile **out,
                           nb_error *err)
{
    struct stat sb;
    *out = NULL;
    nb_outfile *f = nb_alloc_zero(1, sizeof *f, "an output file", err);
    if (!f)
        return NB_NO_ROOM;
    f->fd = -1;
    nb_status st = nb_outfile_check(path, err);
    if (stat(path, &sb) == 0)
        f->mode = sb.st_mode & 0777;
    if (st == NB_OK)
        st = name(f, path, err);
    if (st == NB_OK)
        st = partial ? create_kept(f, partial, resume, err) : create(f, err);
    if (st != NB_OK) {
        nb_outfile_close(f);
        return st;
    }
    *out = f;
    return NB_OK;
}

nb_status nb_outfile_open(const char *path, nb_outfile **out, nb_error *err)
{
    return open_file(path, NULL, false, out, err);
}

nb_status nb_outfile_open_at(const char *path, const char *partial, bool resume, nb_outfile **out,
                             nb_error *err)
{
    return open_file(path, partial, resume, out, err);
}

static nb_status no_room(const char *path, uint64_t missing, nb_error *err)
{
    return nb_fail_at(err, NB_NO_ROOM, path, -1, "the disk is full: %llu bytes are missing",
                      (unsigned long long)missing);
}

/* `ulimit -f`: the file may grow to a limit and `end` is beyond it (SIGXFSZ is ignored). */
static nb_status too_large(const char *path, uint64_t end, nb_error *err)
{
    struct rlimit limit;
    /* the file system's own limit */
    if (getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur >= end)
        return nb_fail_at(err, NB_IO, path, -1, "the file system takes no file of %llu bytes",
                          (unsigned long long)end);
    nb_fail_at(err, NB_IO, path, -1,
               "files may have %llu bytes here (ulimit -f): %llu bytes are missing",
               (unsigned long long)limit.rlim_cur, (unsigned long long)(end - limit.rlim_cur));
    nb_hint(err, "ulimit -f unlimited");
    return NB_IO;
}

nb_status nb_outfile_write_fault(const char *path, uint64_t offset, size_t n, nb_error *err)
{
    if (errno == ENOSPC || errno == EDQUOT)
        return no_room(path, n, err);
    if (errno == EFBIG)
        return too_large(path, offset + n, err);
    return nb_fail_errno_at(err, path, "cannot write %zu bytes at offset %llu", n,
                            (unsigned long long)offset);
}

/* Bytes that the file system still has for us; UINT64_MAX when it does not say. */
static uint64_t free_bytes(int fd)
{
    struct statvfs fs;
    uint64_t n = 0;
    if (fstatvfs(fd, &fs) != 0 || fs.f_blocks == 0 ||
        !nb_mul_ok(fs.f_bavail, fs.f_frsize ? fs.f_frsize : fs.f_bsize, &n))
        return UINT64_MAX;
    return n;
}

uint64_t nb_outfile_free_bytes(const char *path)
{
    char folder[4096];
    const char *slash = strrchr(path, '/');
    const int n = snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path) + 1 : 1,
                           slash ? path : ".");
    const int fd =
        n > 0 && (size_t)n < sizeof folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    const uint64_t bytes = fd >= 0 ? free_bytes(fd) : UINT64_MAX;
    if (fd >= 0)
        close(fd);
    return bytes;
}

nb_status nb_outfile_reserve_sparse(nb_outfile *f, size_t bytes, size_t holes, nb_error *err)
{
    struct stat sb;
    if (bytes > INT64_MAX)
        return no_room(f->path, bytes, err);
    if (holes > bytes)
        return nb_fail_at(err, NB_INTERNAL, f->path, -1, "more holes than bytes");
    if (bytes == 0)
        return NB_OK;
    if (fstat(f->fd, &sb) != 0)
        return nb_fail_errno_at(err, f->path, "cannot stat");
    const uint64_t have = (uint64_t)sb.st_blocks * 512, room = free_bytes(f->fd);
    const uint64_t filled = bytes - holes;
    if (filled > have && filled - have > room)
        return no_room(f->path, filled - have - room, err);
    int e = EOPNOTSUPP; /* holes stay holes: the size alone */
    while (!holes && (e = posix_fallocate(f->fd, 0, (off_t)bytes)) == EINTR)
        ;
    if (e == ENOSPC || e == EDQUOT)
        return no_room(f->path, bytes - (bytes > have ? have : 0), err);
    if (e == EOPNOTSUPP || e == EINVAL) /* a file system without reservations: the size alone */
        e = ftruncate(f->fd, (off_t)bytes) == 0 ? 0 : errno;
    if (e == EFBIG)
        return too_large(f->path, bytes, err);
    if (e) {
        errno = e;
        return nb_fail_errno_at(err, f->path, "cannot reserve %zu bytes", bytes);
    }
    return NB_OK;
}

nb_status nb_outfile_reserve(nb_outfile *f, size_t bytes, nb_error *err)
{
    return nb_outfile_reserve_sparse(f, bytes, 0, err);
}

nb_status nb_outfile_write_at(nb_outfile *f, size_t offset, const void *p, size_t n, nb_error *err)
{
    uint64_t end = 0;
    const char *at = p;
    if (f->fd < 0)
        return nb_fail_at(err, NB_INTERNAL, f->path, -1, "written after it was committed");
    if (!nb_add_ok(offset, n, &end) || end > INT64_MAX)
        return nb_fail_at(err, NB_INTERNAL, f->path, -1, "written beyond 2^63 bytes");
    nb_crash_point("before-write");
    while (n) { /* the kernel may take less than it is given */
        const ssize_t done = pwrite(f->fd, at, n, (off_t)offset);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return nb_outfile_write_fault(f->path, offset, n, err);
        if (done == 0)
            return nb_fail_at(err, NB_IO, f->path, (int64_t)offset,
                              "cannot write: nothing is taken");
        at += done;
        offset += (size_t)done;
        n -= (size_t)done;
    }
    nb_crash_point("after-write");
    return NB_OK;
}

nb_status nb_outfile_read_at(const nb_outfile *f, size_t offset, void *p, size_t n, nb_error *err)
{
    char *at = p;
    while (n) {
        const ssize_t done = pread(f->fd, at, n, (off_t)offset);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return nb_fail_errno_at(err, f->partial ? f->partial : f->path,
                                    "cannot read %zu bytes at offset %zu", n, offset);
        if (done == 0)
            return nb_fail_at(err, NB_BAD_INPUT, f->partial ? f->partial : f->path, (int64_t)offset,
                              "ends %zu bytes too early", n);
        at += done;
        offset += (size_t)done;
        n -= (size_t)done;
    }
    return NB_OK;
}

nb_status nb_outfile_sync(nb_outfile *f, nb_error *err)
{
    nb_crash_point("before-sync");
    if (fdatasync(f->fd) != 0)
        return nb_fail_errno_at(err, f->path, "cannot sync it to disk");
    nb_crash_point("after-sync");
    return NB_OK;
}

/* Folders of some file systems cannot be synced (EINVAL): then it is as good as it gets. */
static nb_status sync_folder(const char *folder, const char *path, nb_error *err)
{
    nb_status st = NB_OK;
    const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && fsync(fd) != 0 && errno != EINVAL)
        st = nb_fail_errno_at(err, path, "cannot sync its folder");
    if (fd >= 0)
        close(fd);
    return st;
}

nb_status nb_outfile_rename(const char *from, const char *to, nb_error *err)
{
    char folder[4096];
    const char *slash = strrchr(to, '/');
    const size_t n = slash ? (size_t)(slash - to) : 0;
    if (n >= sizeof folder)
        return nb_fail_at(err, NB_IO, to, -1, "a path of more than 4095 bytes");
    memcpy(folder, to, n);
    memcpy(folder + n, n ? "" : slash ? "/" : ".", n ? 1 : 2);
    nb_crash_point("before-rename");
    if (rename(from, to) != 0)
        return nb_fail_errno_at(err, to, "cannot rename its partial file");
    nb_crash_point("after-rename");
    return sync_folder(folder, to, err); /* the rename is on disk only when the folder is */
}

nb_status nb_outfile_finish(nb_outfile *f, nb_error *err)
{
    nb_status st = NB_OK;
    if (f->fd < 0)
        return nb_fail_at(err, NB_INTERNAL, f->path, -1, "committed twice");
    nb_crash_point("before-sync");
    if (fchmod(f->fd, f->mode) != 0 || fsync(f->fd) != 0)
        st = nb_fail_errno_at(err, f->path, "cannot sync it to disk");
    if (close(f->fd) != 0 && st == NB_OK && errno != EINTR)
        st = nb_fail_errno_at(err, f->path, "cannot close");
    f->fd = -1;
    nb_crash_point("after-sync");
    if (st != NB_OK) { /* a failed sync is final: who knows what is on disk */
        unlink(f->partial);
        free(f->partial);
        f->partial = NULL;
    }
    return st;
}

nb_status nb_outfile_commit(nb_outfile *f, nb_error *err)
{
    nb_status st = nb_outfile_finish(f, err);
    if (st != NB_OK)
        return st;
    nb_crash_point("before-rename");
    if (rename(f->partial, f->path) != 0) {
        st = nb_fail_errno_at(err, f->path, "cannot rename its partial file");
        if (f->kept) /* it is whole and synced: the next run may give it the name */
            return st;
        unlink(f->partial);
    }
    nb_crash_point("after-rename");
    free(f->partial);
    f->partial = NULL;
    return st == NB_OK ? sync_folder(f->folder, f->path, err) : st;
}

void nb_outfile_close(nb_outfile *f)
{
    if (!f)
        return;
    if (f->fd >= 0)
        close(f->fd);
    if (f->partial && !f->kept)
        unlink(f->partial);
    free(f->partial);
    free(f->path);
    free(f->folder);
    free(f);
}
