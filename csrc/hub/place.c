/* place.c -- folders, links and refs of the cache. Each is written whole under a name of its own
 * and renamed. */
#include "hub/hub_pull.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

nb_status nb_make_folders(const char *path, nb_error *err)
{
    char at[NB_HUB_PATH + 1200];
    struct stat sb;
    if (stat(path, &sb) == 0 && S_ISDIR(sb.st_mode))
        return NB_OK;
    const size_t n = strlen(path);
    if (n >= sizeof at)
        return nb_fail(err, NB_USAGE, "a path of %zu bytes in the cache is too long", n);
    memcpy(at, path, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (at[i] != '/' && at[i])
            continue;
        at[i] = 0;
        if (mkdir(at, 0777) != 0 && errno != EEXIST)
            return nb_fail_errno_at(err, at, "cannot make the folder");
        at[i] = path[i];
    }
    return stat(path, &sb) == 0 && S_ISDIR(sb.st_mode)
               ? NB_OK
               : nb_fail_at(err, NB_IO, path, -1, "exists and is no folder");
}

nb_status nb_free_bytes(const char *path, uint64_t *out, nb_error *err)
{
    struct statvfs fs;
    *out = UINT64_MAX;
    if (statvfs(path, &fs) != 0)
        return nb_fail_errno_at(err, path, "cannot say how much room there is");
    if (fs.f_blocks && !nb_mul_ok(fs.f_bavail, fs.f_frsize ? fs.f_frsize : fs.f_bsize, out))
        *out = UINT64_MAX;
    return NB_OK;
}

/* Does the link or file at path hold this blob already? */
static bool holds(const char *path, const char *target, const char *blob)
{
    char now[1024];
    struct stat a, b;
    const ssize_t n = readlink(path, now, sizeof now - 1);
    if (n > 0) {
        now[n] = 0;
        return strcmp(now, target) == 0;
    }
    return stat(path, &a) == 0 && stat(blob, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

nb_status nb_place(const char *repository, const char *commit, const char *path, const char *name,
                   nb_error *err)
{
    char to[NB_HUB_PATH + 1200], part[NB_HUB_PATH + 1240], blob[NB_HUB_PATH + 80],
        target[4096] = "../../";
    for (const char *s = path; (s = strchr(s, '/')) != NULL && strlen(target) < 3900; s++)
        strcat(target, "../");
    snprintf(target + strlen(target), 128, "blobs/%s", name);
    snprintf(blob, sizeof blob, "%s/blobs/%s", repository, name);
    snprintf(to, sizeof to, "%s/snapshots/%s/%s", repository, commit, path);
    if (holds(to, target, blob))
        return NB_OK;
    char *slash = strrchr(to, '/');
    *slash = 0;
    const nb_status st = nb_make_folders(to, err);
    *slash = '/';
    if (st != NB_OK)
        return st;
    snprintf(part, sizeof part, "%s.nibble.%ld", to, (long)getpid());
    unlink(part);
    /* links, hard ones where the file system has no others, else the file itself: then blobs/ does
     * not keep it */
    if (symlink(target, part) != 0 && link(blob, part) != 0 && rename(blob, part) != 0)
        return nb_fail_errno_at(err, to, "cannot link it to its blob");
    if (rename(part, to) != 0) {
        const nb_status bad = nb_fail_errno_at(err, to, "cannot put it in its place");
        unlink(part);
        return bad;
    }
    return NB_OK;
}

nb_status nb_write_ref(const char *repository, const char *revision, const char *commit,
                       nb_error *err)
{
    char to[NB_HUB_PATH + 300], part[NB_HUB_PATH + 340];
    snprintf(to, sizeof to, "%s/refs/%s", repository, revision);
    char *slash = strrchr(to, '/');
    *slash = 0;
    nb_status st = nb_make_folders(to, err);
    *slash = '/';
    if (st != NB_OK)
        return st;
    snprintf(part, sizeof part, "%s.nibble.%ld", to, (long)getpid());
    const int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0)
        return nb_fail_errno_at(err, part, "cannot create it");
    const ssize_t n = (ssize_t)strlen(commit);
    if (write(fd, commit, (size_t)n) != n || fsync(fd) != 0)
        st = nb_fail_errno_at(err, part, "cannot write");
    close(fd);
    if (st == NB_OK && rename(part, to) != 0)
        st = nb_fail_errno_at(err, to, "cannot put it in its place");
    if (st != NB_OK)
        unlink(part);
    return st;
}
