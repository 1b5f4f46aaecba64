/* blob.c -- one file of a repository into blobs/NAME.
 *
 *   blobs/NAME.nibble.incomplete   what has come so far; its hash is taken again when a later call
 *                                  goes on with it
 *   Range: bytes=N-                206 with that start goes on, 200 starts over, anything else is
 *                                  refused
 *   at the end                     length, hash, fsync, rename to blobs/NAME, fsync of the folder
 *
 * .locks/.../NAME.lock is held meanwhile, as huggingface_hub holds it (flock). */
#include "hub/hub_pull.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct transfer {
    const nb_blob *b;
    int fd;
    int64_t n; /* bytes that the file holds and the hash has seen */
    nb_blob_hash hash;
    int64_t asked; /* Range: where this try begins */
    nb_error *err;
    nb_status st; /* of the disk, or of a reply that cannot be taken */
    bool drop;    /* what came is worthless */
} transfer;

static nb_status full(const transfer *t, nb_error *err, const char *path)
{
    if (errno == ENOSPC || errno == EDQUOT)
        return nb_fail(err, NB_NO_ROOM, "%s: the disk is full: %lld bytes are missing", t->b->what,
                       (long long)(t->b->size - t->n));
    return nb_fail_errno_at(err, path, "cannot write");
}

static void start_over(transfer *t)
{
    if (ftruncate(t->fd, 0) != 0 || lseek(t->fd, 0, SEEK_SET) != 0)
        t->st = nb_fail_errno(t->err, "%s: cannot start over", t->b->what);
    t->b->progress(t->b->arg, -t->n);
    t->n = 0;
    nb_blob_hash_init(&t->hash, t->b->name, t->b->size);
}

static bool on_begin(void *arg, const nb_http_reply *r)
{
    transfer *t = arg;
    const nb_blob *b = t->b;
    if (r->status != 200 && r->status != 206)
        return true;
    if (r->encoded)
        t->st = nb_fail(t->err, NB_NETWORK, "%s: it comes compressed, which was not asked for",
                        b->what);
    else if (r->status == 206 &&
             (r->range_from != t->asked || (r->range_total >= 0 && r->range_total != b->size)))
        t->st = nb_fail(t->err, NB_NETWORK, "%s: the server sends another part than was asked for",
                        b->what);
    else if (r->status == 200 && t->n)
        start_over(t);
    const int64_t left = b->size - t->n;
    if (t->st == NB_OK &&
        (r->length > left || (r->status == 200 && r->length >= 0 && r->length != left))) {
        t->st = nb_fail(t->err, NB_NETWORK, "%s: the server sends %lld bytes, %lld are expected",
                        b->what, (long long)r->length, (long long)left);
        t->drop = true;
    }
    return t->st == NB_OK;
}

static bool on_body(void *arg, const void *p, size_t n)
{
    transfer *t = arg;
    const char *at = p;
    if ((int64_t)n > t->b->size - t->n) {
        t->st = nb_fail(t->err, NB_NETWORK,
                        "%s: the server sends more than the %lld bytes it announced", t->b->what,
                        (long long)t->b->size);
        t->drop = true;
        return false;
    }
    for (size_t left = n; left;) {
        const ssize_t done = write(t->fd, at, left);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0) {
            t->st = full(t, t->err, t->b->repository);
            return false;
        }
        at += done;
        left -= (size_t)done;
    }
    nb_blob_hash_add(&t->hash, p, n);
    t->n += (int64_t)n;
    t->b->progress(t->b->arg, (int64_t)n);
    return true;
}

/* Takes the hash of what an earlier call left. */
static nb_status resume(transfer *t, const char *path, nb_error *err)
{
    enum { kPiece = 1 << 20 };
    struct stat sb;
    nb_blob_hash_init(&t->hash, t->b->name, t->b->size);
    if (fstat(t->fd, &sb) != 0)
        return nb_fail_errno_at(err, path, "cannot stat");
    if (sb.st_size > t->b->size) {
        start_over(t);
        return t->st;
    }
    char *piece = nb_alloc(kPiece, 1, "a piece of a download", err);
    nb_status st = piece ? NB_OK : NB_NO_ROOM;
    while (st == NB_OK) {
        const ssize_t n = read(t->fd, piece, kPiece);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            st = nb_fail_errno_at(err, path, "cannot read");
        if (n <= 0)
            break;
        nb_blob_hash_add(&t->hash, piece, (size_t)n);
        t->n += n;
    }
    free(piece);
    t->b->progress(t->b->arg, t->n);
    return st;
}

/* Requests until all is there, or it is given up. Bytes that arrived count as progress: tries begin
 * anew. */
static nb_status transfer_all(nb_http *h, transfer *t, nb_error *err)
{
    nb_http_reply r;
    for (int attempt = 1; t->n < t->b->size; attempt++) {
        int tries = 1;
        const int64_t before = t->asked = t->n;
        const nb_http_request q = {.what = t->b->what,
                                   .url = t->b->url,
                                   .from = t->n,
                                   .begin = on_begin,
                                   .body = on_body,
                                   .arg = t};
        nb_status st = nb_http_once(h, &q, &r, &tries, err);
        if (t->st != NB_OK)
            return t->st;
        if (st == NB_OK && r.status == 416 && t->n) { /* it does not want to go on from there */
            start_over(t);
            st = nb_fail(err, NB_NETWORK, "%s: the server does not go on with it", t->b->what);
            tries = NB_TRIES;
        } else if (st == NB_OK && r.status != 200 && r.status != 206) {
            st = nb_http_refused(nb_http_net(h), &q, &r, err);
            tries = nb_http_tries(r.status);
        } else if (st == NB_OK && t->n < t->b->size) { /* it ended early, and said nothing */
            st = nb_fail(err, NB_NETWORK, "%s: the connection ended at byte %lld of %lld",
                         t->b->what, (long long)t->n, (long long)t->b->size);
            tries = NB_TRIES;
        }
        if (t->st != NB_OK || st == NB_OK)
            return t->st;
        attempt = t->n > before ? 1 : attempt;
        if (attempt >= tries || !nb_http_wait(nb_http_net(h), attempt, &r))
            return atomic_load(&nb_http_net(h)->stop)
                       ? nb_fail(err, NB_INTERRUPTED, "%s: interrupted", t->b->what)
                       : st;
    }
    return NB_OK;
}

static nb_status sync_folder(const char *path, nb_error *err)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    nb_status st = NB_OK;
    if (fd >= 0 && fsync(fd) != 0 && errno != EINVAL) /* some file systems cannot */
        st = nb_fail_errno_at(err, path, "cannot sync the folder");
    if (fd >= 0)
        close(fd);
    return st;
}

static nb_status finish(transfer *t, const char *from, const char *folder, nb_error *err)
{
    char name[NB_BLOB_NAME], to[NB_HUB_PATH + 80];
    nb_blob_hash_end(&t->hash, name);
    if (strcmp(name, t->b->name) != 0) {
        t->drop = true;
        return nb_fail(err, NB_NETWORK, "%s: what came has the hash %s, %s is expected", t->b->what,
                       name, t->b->name);
    }
    snprintf(to, sizeof to, "%s/%s", folder, t->b->name);
    if (fsync(t->fd) != 0) {
        t->drop = true; /* a failed fsync is final */
        return nb_fail_errno_at(err, from, "cannot sync it to disk");
    }
    if (rename(from, to) != 0)
        return nb_fail_errno_at(err, from, "cannot rename it");
    return sync_folder(folder, err);
}

static nb_status lock(const nb_blob *b, int *fd, nb_error *err)
{
    char path[NB_HUB_PATH + 80];
    nb_status st = nb_make_folders(b->locks, err);
    if (st != NB_OK)
        return st;
    snprintf(path, sizeof path, "%s/%s.lock", b->locks, b->name);
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (*fd < 0)
        return nb_fail_errno_at(err, path, "cannot open");
    if (flock(*fd, LOCK_EX | LOCK_NB) != 0)
        return errno == EWOULDBLOCK
                   ? nb_fail(err, NB_LOCKED, "%s: another process fetches it", b->what)
                   : nb_fail_errno_at(err, path, "cannot lock");
    return NB_OK;
}

static nb_status fetch(nb_http *h, const nb_blob *b, nb_error *err)
{
    char folder[NB_HUB_PATH + 8], path[NB_HUB_PATH + 120];
    transfer t = {.b = b, .fd = -1, .err = err};
    snprintf(folder, sizeof folder, "%s/blobs", b->repository);
    snprintf(path, sizeof path, "%s/%s.nibble.incomplete", folder, b->name);
    nb_status st = nb_make_folders(folder, err);
    if (st != NB_OK)
        return st;
    t.fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (t.fd < 0)
        return nb_fail_errno_at(err, path, "cannot create it");
    st = resume(&t, path, err);
    if (st == NB_OK)
        st = transfer_all(h, &t, err);
    if (st == NB_OK)
        st = finish(&t, path, folder, err);
    if (st != NB_OK && t.drop)
        unlink(path);
    close(t.fd);
    return st;
}

nb_status nb_blob_fetch(nb_http *h, const nb_blob *b, nb_error *err)
{
    int held = -1;
    nb_status st = lock(b, &held, err);
    /* it came while we looked elsewhere */
    if (st == NB_OK && nb_blob_there(b->repository, b->name, b->size) < 0)
        b->progress(b->arg, b->size);
    else if (st == NB_OK)
        st = fetch(h, b, err);
    if (held >= 0)
        close(held);
    return st;
}

int64_t nb_blob_there(const char *repository, const char *name, int64_t size)
{
    char path[NB_HUB_PATH + 120];
    struct stat sb;
    snprintf(path, sizeof path, "%s/blobs/%s", repository, name);
    if (stat(path, &sb) == 0 && S_ISREG(sb.st_mode) && sb.st_size == size)
        return -1;
    snprintf(path, sizeof path, "%s/blobs/%s.nibble.incomplete", repository, name);
    return stat(path, &sb) == 0 && S_ISREG(sb.st_mode) ? sb.st_size : 0;
}
