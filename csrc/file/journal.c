/* journal.c -- records with their length and hash, chained (journal.h). */
#include "file/journal.h"
#include "base/crash.h"
#include "base/memory.h"
#include "base/sha256.h"
#include "file/outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char head[] = "nibble-journal 1\n";
enum { kHead = sizeof head - 1, kHash = 2 * NB_SHA256_BYTES, kMost = 1 << 28 };

/* The hash text of a record. last: of the one before, or NULL. */
static void chain(const char *last, const char *p, size_t n, char out[kHash + 1])
{
    uint8_t sum[NB_SHA256_BYTES];
    nb_sha256_state s;
    nb_sha256_init(&s);
    if (last)
        nb_sha256_add(&s, last, kHash);
    nb_sha256_add(&s, p, n);
    nb_sha256_end(&s, sum);
    nb_hex(sum, sizeof sum, out);
}

/* One record at p. Returns its whole length, 0 when it is none. */
static size_t read_record(const char *last, const char *p, size_t n, nb_journal_record *out)
{
    size_t at = 0, len = 0;
    char want[kHash + 1];
    for (; at < n && at < 9 && p[at] >= '0' && p[at] <= '9'; at++)
        len = 10 * len + (size_t)(p[at] - '0');
    if (at == 0 || (p[0] == '0' && at > 1) || len > NB_JOURNAL_PAYLOAD_MAX ||
        n - at < 1 + kHash + 1 || p[at] != ' ')
        return 0;
    const char *hash = p + at + 1, *payload = hash + kHash + 1;
    const size_t whole = at + 1 + kHash + 1 + len + 1;
    if (hash[kHash] != ' ' || whole > n || payload[len] != '\n')
        return 0;
    chain(last, payload, len, want);
    if (memcmp(want, hash, kHash) != 0)
        return 0;
    *out = (nb_journal_record){payload, len};
    return whole;
}

/* Whether what begins at p, which is no record, can be the end of an append that a crash cut off:
 * it ends where the record would or before, or the disk never got its bytes. */
static bool cut_off(const char *p, size_t n)
{
    size_t at = 0, len = 0, zero = 0;
    for (; at < n && at < 9 && p[at] >= '0' && p[at] <= '9'; at++)
        len = 10 * len + (size_t)(p[at] - '0');
    while (zero < n && p[zero] == 0)
        zero++;
    return zero == n || (at == n) ||
           (at > 0 && at < 9 && p[at] == ' ' && n <= at + 1 + kHash + 1 + len + 1);
}

nb_status nb_journal_parse(const char *path, const char *p, size_t n, nb_journal_record **record,
                           size_t *n_record, size_t *good, nb_error *err)
{
    size_t at = n < kHead ? 0 : kHead, room = 0;
    const char *last = NULL;
    *record = NULL;
    *n_record = *good = 0;
    if (memcmp(p ? p : "", head, n < kHead ? n : kHead) != 0)
        return nb_fail_at(err, NB_BAD_INPUT, path, 0, "not a journal of this version of nibble");
    *good = at;
    while (at && at < n) {
        nb_journal_record r;
        const size_t whole = read_record(last, p + at, n - at, &r);
        if (!whole && cut_off(p + at, n - at))
            break;
        nb_status st = whole
                           ? NB_OK
                           : nb_fail_at(err, NB_BAD_INPUT, path, (int64_t)at,
                                        "its record %zu does not have the hash it says", *n_record);
        if (st == NB_OK && *n_record == room) {
            room = room ? 2 * room : 64;
            nb_journal_record *more = realloc(*record, room * sizeof *more);
            st = more ? NB_OK
                      : nb_fail(err, NB_NO_ROOM, "out of memory: %zu records of a journal", room);
            *record = more ? more : *record;
        }
        if (st != NB_OK) {
            free(*record);
            *record = NULL;
            *n_record = *good = 0;
            return st;
        }
        (*record)[(*n_record)++] = r;
        last = r.p - kHash - 1;
        at += whole;
        *good = at;
    }
    return NB_OK;
}

struct nb_journal {
    int fd;
    char *path, *bytes; /* bytes: the file as it was when opened */
    nb_journal_record *record;
    size_t n_record, end;
    bool any;
    char last[kHash + 1];
};

static nb_status load(nb_journal *j, nb_error *err)
{
    struct stat sb;
    if (fstat(j->fd, &sb) != 0)
        return nb_fail_errno_at(err, j->path, "cannot stat");
    if (!S_ISREG(sb.st_mode) || sb.st_size > kMost)
        return nb_fail_at(err, NB_BAD_INPUT, j->path, -1,
                          "not a journal: no regular file of at most %d bytes", (int)kMost);
    const size_t n = (size_t)sb.st_size;
    j->bytes = nb_alloc(n, 1, "a journal", err);
    if (!j->bytes)
        return NB_NO_ROOM;
    size_t at = 0;
    while (at < n) {
        const ssize_t got = pread(j->fd, j->bytes + at, n - at, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return nb_fail_errno_at(err, j->path, "cannot read");
        at += (size_t)got;
    }
    nb_status st = nb_journal_parse(j->path, j->bytes, n, &j->record, &j->n_record, &j->end, err);
    if (st == NB_OK && j->end < n && ftruncate(j->fd, (off_t)j->end) != 0)
        st = nb_fail_errno_at(err, j->path, "cannot remove a record that was cut off");
    if (st == NB_OK && j->n_record) {
        j->any = true;
        memcpy(j->last, j->record[j->n_record - 1].p - kHash - 1, kHash);
    }
    return st;
}

static nb_status put(nb_journal *j, const char *p, size_t n, nb_error *err)
{
    while (n) {
        const ssize_t done = pwrite(j->fd, p, n, (off_t)j->end);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return nb_outfile_write_fault(j->path, j->end, n, err);
        if (done == 0)
            return nb_fail_at(err, NB_IO, j->path, (int64_t)j->end,
                              "cannot write: nothing is taken");
        p += done;
        j->end += (size_t)done;
        n -= (size_t)done;
    }
    return NB_OK;
}

nb_status nb_journal_open(const char *path, nb_journal **out, nb_error *err)
{
    *out = NULL;
    nb_journal *j = nb_alloc_zero(1, sizeof *j, "a journal", err);
    if (!j)
        return NB_NO_ROOM;
    nb_status st = NB_OK;
    j->path = nb_alloc(strlen(path) + 1, 1, "a path", err);
    if (!j->path)
        st = NB_NO_ROOM;
    else
        memcpy(j->path, path, strlen(path) + 1);
    j->fd = st == NB_OK ? open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;
    if (st == NB_OK && j->fd < 0)
        st = nb_fail_errno_at(err, path, "cannot open");
    if (st == NB_OK)
        st = load(j, err);
    if (st == NB_OK && j->end == 0)
        st = put(j, head, kHead, err);
    if (st != NB_OK) {
        nb_journal_close(j);
        return st;
    }
    *out = j;
    return NB_OK;
}

nb_status nb_journal_append(nb_journal *j, const char *payload, size_t n, nb_error *err)
{
    if (n > NB_JOURNAL_PAYLOAD_MAX)
        return nb_fail_at(err, NB_INTERNAL, j->path, -1, "a record of %zu bytes", n);
    const size_t room = 32 + kHash + n;
    const size_t begin = j->end;
    char hash[kHash + 1], *line = nb_alloc(room, 1, "a record of the journal", err);
    if (!line)
        return NB_NO_ROOM;
    chain(j->any ? j->last : NULL, payload, n, hash);
    const size_t prefix = (size_t)snprintf(line, room, "%zu %s ", n, hash);
    memcpy(line + prefix, payload, n);
    line[prefix + n] = '\n';
    const size_t whole = prefix + n + 1;
    nb_crash_point("before-append");
    nb_status st = put(j, line, whole / 2, err);
    nb_crash_point("half-append");
    if (st == NB_OK)
        st = put(j, line + whole / 2, whole - whole / 2, err);
    free(line);
    /* what did get there would be taken for a record cut off, unless another followed it */
    if (st != NB_OK) {
        j->end = begin;
        if (ftruncate(j->fd, (off_t)begin) != 0)
            return nb_fail_errno_at(err, j->path, "cannot remove half a record");
        return st;
    }
    if (fsync(j->fd) != 0)
        return nb_fail_errno_at(err, j->path, "cannot sync it to disk");
    nb_crash_point("after-append");
    memcpy(j->last, hash, kHash);
    j->any = true;
    return NB_OK;
}

size_t nb_journal_count(const nb_journal *j)
{
    return j->n_record;
}

nb_journal_record nb_journal_at(const nb_journal *j, size_t i)
{
    return j->record[i];
}

void nb_journal_close(nb_journal *j)
{
    if (!j)
        return;
    if (j->fd >= 0)
        close(j->fd);
    free(j->path);
    free(j->bytes);
    free(j->record);
    free(j);
}
