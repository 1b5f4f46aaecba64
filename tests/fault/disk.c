/* disk.c -- the nth call to the file system fails while a model is quantized: a full disk is 6 with
 * the bytes that are missing, anything
 * else is 7; nothing has the final name; and the same call, once the fault is gone, gives the bytes
 * of a run without faults. The linker wraps the calls (CMakeLists.txt); no root is needed. */
#include "fault/jobs.h"

#include <errno.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>

int __real_open(const char *path, int flags, ...);
ssize_t __real_pread(int fd, void *p, size_t n, off_t at);
int __real_fdatasync(int fd);
int __real_flock(int fd, int how);
int __real_mkdir(const char *path, mode_t mode);
int __wrap_open(const char *path, int flags, ...);
ssize_t __wrap_pread(int fd, void *p, size_t n, off_t at);
int __wrap_fdatasync(int fd);
int __wrap_flock(int fd, int how);
int __wrap_mkdir(const char *path, mode_t mode);
ssize_t __real_pwrite(int fd, const void *p, size_t n, off_t at);
int __real_posix_fallocate(int fd, off_t at, off_t n);
int __real_ftruncate(int fd, off_t n);
int __real_fsync(int fd);
int __real_rename(const char *from, const char *to);
int __real_fstatvfs(int fd, struct statvfs *out);
ssize_t __wrap_pwrite(int fd, const void *p, size_t n, off_t at);
int __wrap_posix_fallocate(int fd, off_t at, off_t n);
int __wrap_ftruncate(int fd, off_t n);
int __wrap_fsync(int fd);
int __wrap_rename(const char *from, const char *to);
int __wrap_fstatvfs(int fd, struct statvfs *out);

typedef enum call {
    C_NONE,
    C_PWRITE,
    C_FALLOCATE,
    C_FTRUNCATE,
    C_FSYNC,
    C_RENAME,
    C_OPEN,
    C_PREAD,
    C_FDATASYNC,
    C_FLOCK,
    C_MKDIR,
    C_COUNT
} call;

/* What goes wrong in a run, and what was seen of it. */
static struct disk {
    call which;
    long at; /* its nth call fails, 0: none */
    int error;
    size_t short_write; /* a write takes at most so much, 0: all */
    bool interrupted;   /* every second write is */
    uint64_t room;      /* bytes that fstatvfs reports, 0: the truth */
    bool no_reserve;    /* a file system without reservations */
    long n[C_COUNT];
} disk;

static bool fails(call which)
{
    if (++disk.n[which] == disk.at && disk.which == which) {
        errno = disk.error;
        return true;
    }
    return false;
}

ssize_t __wrap_pwrite(int fd, const void *p, size_t n, off_t at)
{
    if (fails(C_PWRITE))
        return -1;
    if (disk.interrupted && disk.n[C_PWRITE] % 2) {
        errno = EINTR;
        return -1;
    }
    return __real_pwrite(fd, p, disk.short_write && n > disk.short_write ? disk.short_write : n,
                         at);
}

int __wrap_posix_fallocate(int fd, off_t at, off_t n)
{
    if (fails(C_FALLOCATE))
        return disk.error;
    return disk.no_reserve ? EOPNOTSUPP : __real_posix_fallocate(fd, at, n);
}

int __wrap_ftruncate(int fd, off_t n)
{
    return fails(C_FTRUNCATE) ? -1 : __real_ftruncate(fd, n);
}

int __wrap_fsync(int fd)
{
    return fails(C_FSYNC) ? -1 : __real_fsync(fd);
}

int __wrap_rename(const char *from, const char *to)
{
    return fails(C_RENAME) ? -1 : __real_rename(from, to);
}

int __wrap_open(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    const int mode = va_arg(ap, int); /* whatever is there when the file is not created */
    va_end(ap);
    return fails(C_OPEN) ? -1 : __real_open(path, flags, mode);
}

ssize_t __wrap_pread(int fd, void *p, size_t n, off_t at)
{
    if (fails(C_PREAD))
        return -1;
    if (disk.interrupted && disk.n[C_PREAD] % 2) {
        errno = EINTR;
        return -1;
    }
    return __real_pread(fd, p, disk.short_write && n > disk.short_write ? disk.short_write : n, at);
}

int __wrap_fdatasync(int fd)
{
    return fails(C_FDATASYNC) ? -1 : __real_fdatasync(fd);
}

int __wrap_flock(int fd, int how)
{
    return fails(C_FLOCK) ? -1 : __real_flock(fd, how);
}

int __wrap_mkdir(const char *path, mode_t mode)
{
    return fails(C_MKDIR) ? -1 : __real_mkdir(path, mode);
}

int __wrap_fstatvfs(int fd, struct statvfs *out)
{
    const int rc = __real_fstatvfs(fd, out);
    if (rc == 0 && disk.room) {
        out->f_bsize = out->f_frsize = 1;
        out->f_blocks = out->f_bfree = out->f_bavail = disk.room;
    }
    return rc;
}

/* ---- runs ---- */

static char *sound; /* the file of a run without faults, or the files of its folder */
static size_t sound_n;
static nb_status (*quantizes)(const char *method, nb_error *err) = job_quantize;

static nb_status run(struct disk d, nb_error *err)
{
    *err = (nb_error){.offset = -1};
    disk = d;
    const nb_status st = quantizes("rtn", err);
    disk.which = C_NONE;
    return st;
}

static void begin(nb_status (*job)(const char *method, nb_error *err))
{
    nb_error err;
    quantizes = job;
    free(sound);
    if (run((struct disk){0}, &err) != NB_OK)
        exit(1);
    sound = jobs_output(&sound_n);
    jobs_remove();
}

/* The file is there, whole and right; it goes. */
static void check_whole(check *c)
{
    size_t n = 0;
    char *p = jobs_output(&n);
    CHECK_EQ(c, n, sound_n);
    CHECK(c, n == sound_n && memcmp(p, sound, sound_n) == 0);
    CHECK(c, !jobs_unfinished());
    free(p);
    jobs_remove();
    CHECK_EQ(c, jobs_left(), 0);
}

/* What a fault may leave: nothing, or a work folder that can be gone on with; a final name only on
 * a whole file. Then the same again, without faults. */
static void check_resumes(check *c)
{
    nb_error err;
    size_t n = 0;
    char *p = jobs_output(&n);
    CHECK(c, n == 0 || (n == sound_n && memcmp(p, sound, sound_n) == 0));
    free(p);
    CHECK(c, !jobs_unfinished() || jobs_resumable());
    CHECK_EQ(c, run((struct disk){0}, &err), NB_OK);
    CHECK_STR(c, err.message, "");
    check_whole(c);
}

/* Call 1, 2, 3 ... fails with the error, until no call is left to fail. least: so many there must
 * be. lenient: some are done without. */
static void every(check *c, call which, int error, nb_status want, const char *word, long least,
                  bool lenient)
{
    nb_error err;
    for (long at = 1;; at++) {
        const nb_status st = run((struct disk){.which = which, .at = at, .error = error}, &err);
        if (disk.n[which] < at) {
            CHECK(c, at > least);
            CHECK_EQ(c, st, NB_OK);
            check_whole(c);
            return;
        }
        if (!(lenient && st == NB_OK)) {
            CHECK_EQ(c, st, want);
            CHECK_HAS(c, err.message, word);
            CHECK_HAS(c, err.file, here.path);
        }
        if (st == NB_OK)
            check_whole(c);
        else
            check_resumes(c);
    }
}

static void full_while_writing(check *c)
{
    every(c, C_PWRITE, ENOSPC, NB_NO_ROOM, "bytes are missing", 15, false);
    every(c, C_PWRITE, EDQUOT, NB_NO_ROOM, "the disk is full: ", 15, false);
}

static void full_at_the_start(check *c)
{
    nb_error err;
    char want[128];
    every(c, C_FALLOCATE, ENOSPC, NB_NO_ROOM, "bytes are missing", 1, false);
    CHECK_EQ(c, run((struct disk){.room = 1000}, &err), NB_NO_ROOM);
    snprintf(want, sizeof want, "out.gguf: the disk is full: %zu bytes are missing",
             sound_n - 1000);
    CHECK_HAS(c, err.message, want);
    CHECK(c, disk.n[C_PWRITE] < 5); /* before any work: lock and journal */
    CHECK(c, !jobs_unfinished());
    CHECK_EQ(c, jobs_left(), 0);
}

static void broken_disk(check *c)
{
    every(c, C_PWRITE, EIO, NB_IO, "cannot write", 15, false);
    every(c, C_PREAD, EIO, NB_IO, "cannot read", 10, false);
    every(c, C_RENAME, EIO, NB_IO, "cannot rename its partial file", 3, false);
    every(c, C_FALLOCATE, EIO, NB_IO, "cannot reserve", 1, false);
    every(c, C_FTRUNCATE, EIO, NB_IO, "cannot write", 1, false);
    every(c, C_FLOCK, EIO, NB_IO, "cannot lock", 1, false);
    every(c, C_MKDIR, EIO, NB_IO, "cannot create it", 1, false);
    every(c, C_OPEN, EIO, NB_IO, "cannot ", 5, true);
    every(c, C_OPEN, EACCES, NB_IO, "cannot ", 5, true);
}

/* A failed sync is final: what was written before it may or may not be on disk, so nothing of it is
 * gone on with. */
static void sync_fails(check *c)
{
    nb_error err;
    for (int which = 0; which < 2; which++) {
        const call sync = which ? C_FSYNC : C_FDATASYNC;
        for (long at = 1;; at++) {
            const nb_status st = run((struct disk){.which = sync, .at = at, .error = EIO}, &err);
            if (disk.n[sync] < at) {
                CHECK(c, at > 2);
                CHECK_EQ(c, st, NB_OK);
                check_whole(c);
                break;
            }
            CHECK_EQ(c, st, NB_IO);
            CHECK_HAS(c, err.message, "cannot sync ");
            CHECK_EQ(c, disk.n[sync], at); /* not tried again */
            /* those hold no work */
            if (!strstr(err.message, "its folder") && !strstr(err.message, ".json"))
                CHECK(c, !jobs_unfinished());
            check_resumes(c);
        }
    }
}

static void small_bites(check *c)
{
    nb_error err;
    CHECK_EQ(c, run((struct disk){.short_write = 1000, .interrupted = true}, &err), NB_OK);
    CHECK(c, disk.n[C_PWRITE] > (long)(sound_n / 1000));
    check_whole(c);
}

static void no_reservations(check *c)
{
    nb_error err;
    CHECK_EQ(c, run((struct disk){.no_reserve = true}, &err), NB_OK);
    CHECK_EQ(c, disk.n[C_FTRUNCATE], 2); /* the lock's, the file's */
    check_whole(c);
    CHECK_EQ(
        c,
        run((struct disk){.no_reserve = true, .which = C_FTRUNCATE, .at = 2, .error = EFBIG}, &err),
        NB_IO);
    CHECK_HAS(c, err.message, "the file system takes no file of ");
    CHECK_EQ(c, jobs_left(), 0);
    every(c, C_PWRITE, EFBIG, NB_IO, "the file system takes no file of ", 15, false);
}

/* Call 1, 2, 3 ... fails while a model is converted: nothing is left, or (the last sync of all)
 * everything. */
static void convert_fails(check *c, nb_status (*job)(nb_error *err), call which, int error,
                          nb_status want, long least, bool lenient)
{
    const int whole = job == job_convert_to_gguf ? 2 : 1; /* names: a file and its manifest */
    for (long at = 1;; at++) {
        nb_error err = {.offset = -1};
        disk = (struct disk){.which = which, .at = at, .error = error};
        const nb_status st = job(&err);
        disk.which = C_NONE;
        if (disk.n[which] < at) {
            CHECK(c, at > least);
            CHECK_EQ(c, st, NB_OK);
            CHECK_EQ(c, jobs_left(), whole);
            jobs_remove();
            return;
        }
        if (!(lenient && st == NB_OK)) {
            CHECK_EQ(c, st, want);
            CHECK(c, err.message[0] != 0);
            if (jobs_left() && !strstr(err.message, "its folder"))
                check_report(c, __FILE__, __LINE__,
                             "call %ld of kind %d fails and %d names are left: %s", at, (int)which,
                             jobs_left(), err.message);
        }
        jobs_remove();
    }
}

static void converting(check *c)
{
    nb_status (*const jobs[])(nb_error * err) = {job_convert_to_gguf, job_convert_to_folder,
                                                 job_convert_packed};
    jobs_make_packed();
    for (int i = 0; i < 3; i++) {
        convert_fails(c, jobs[i], C_PWRITE, ENOSPC, NB_NO_ROOM, 10, false);
        convert_fails(c, jobs[i], C_PWRITE, EIO, NB_IO, 10, false);
        convert_fails(c, jobs[i], C_PREAD, EIO, NB_IO, 1, false);
        convert_fails(c, jobs[i], C_FALLOCATE, ENOSPC, NB_NO_ROOM, 1, false);
        convert_fails(c, jobs[i], C_FSYNC, EIO, NB_IO, 2, false);
        convert_fails(c, jobs[i], C_RENAME, EIO, NB_IO, 1, false);
        convert_fails(c, jobs[i], C_OPEN, EACCES, NB_IO, 3, true);
    }
    convert_fails(c, job_convert_to_gguf, C_FDATASYNC, EIO, NB_IO, 1, false); /* the manifest's */
    convert_fails(c, job_convert_to_folder, C_MKDIR, EIO, NB_IO, 1, false);
}

/* The same with a folder of packed weights as output. */
static void writing_a_folder(check *c)
{
    begin(job_quantize_folder);
    every(c, C_PWRITE, ENOSPC, NB_NO_ROOM, "bytes are missing", 15, false);
    every(c, C_PWRITE, EIO, NB_IO, "cannot write", 15, false);
    every(c, C_FALLOCATE, ENOSPC, NB_NO_ROOM, "bytes are missing", 1, false);
    every(c, C_PREAD, EIO, NB_IO, "cannot read", 10, false);
    every(c, C_RENAME, EIO, NB_IO, "cannot rename its partial file", 3, false);
    every(c, C_FTRUNCATE, EIO, NB_IO, "cannot write", 1, false);
    every(c, C_MKDIR, EIO, NB_IO, "cannot create it", 2, false);
    every(c, C_OPEN, EACCES, NB_IO, "cannot ", 5, true);
    sync_fails(c);
    small_bites(c);
    begin(job_quantize);
}

/* Call 1, 2, 3 ... fails while a stopped run is gone on with: it can still be gone on with, to the
 * same bytes. */
static void resume_fails(check *c, const char *format, call which, int error, nb_status want,
                         long least, bool lenient)
{
    nb_error err = {.offset = -1};
    size_t n = 0, m = 0;
    jobs_leave_unfinished(format);
    CHECK_EQ(c, job_resume(&err), NB_OK);
    char *right = jobs_output(&n);
    jobs_remove();
    for (long at = 1;; at++) {
        jobs_leave_unfinished(format);
        err = (nb_error){.offset = -1};
        disk = (struct disk){.which = which, .at = at, .error = error};
        const nb_status st = job_resume(&err);
        disk.which = C_NONE;
        const bool done = disk.n[which] < at;
        if (!done && !(lenient && st == NB_OK)) {
            CHECK_EQ(c, st, want);
            CHECK(c, err.message[0] != 0);
        }
        if (jobs_unfinished()) {
            CHECK(c, !done);
            CHECK_EQ(c, job_resume(&err), NB_OK);
        }
        char *p = jobs_output(&m);
        /* a failed sync is final */
        if (!(m == n && memcmp(p, right, n) == 0) && !(which == C_FSYNC || which == C_FDATASYNC))
            check_report(c, __FILE__, __LINE__,
                         "call %ld of kind %d fails in a resumed run: %zu bytes instead of %zu: %s",
                         at, (int)which, m, n, err.message);
        free(p);
        jobs_remove();
        if (done) {
            CHECK(c, at > least);
            CHECK_EQ(c, st, NB_OK);
            break;
        }
    }
    free(right);
}

static void resuming(check *c)
{
    static const char *const formats[] = {NULL, "gptq"};
    for (int i = 0; i < 2; i++) {
        resume_fails(c, formats[i], C_PWRITE, ENOSPC, NB_NO_ROOM, 5, false);
        resume_fails(c, formats[i], C_PREAD, EIO, NB_IO, 5, false);
        resume_fails(c, formats[i], C_RENAME, EIO, NB_IO, 1, false);
        resume_fails(c, formats[i], C_OPEN, EACCES, NB_IO, 3, true);
        resume_fails(c, formats[i], C_FDATASYNC, EIO, NB_IO, 1, false);
    }
}

static const check_case cases[] = {
    {"a disk that fills up at any write is exit 6 with the missing bytes, and the run goes on when "
     "there is room",
     full_while_writing},
    {"a disk too small is seen before any work, to the byte", full_at_the_start},
    {"any other failure of the disk is exit 7, and the run can be gone on with", broken_disk},
    {"a failed sync is final", sync_fails},
    {"a disk that fails while a model is converted: nothing half-made is left", converting},
    {"a disk that fails while a folder of packed weights is written: the same promises",
     writing_a_folder},
    {"a disk that fails while a run is gone on with leaves it to be gone on with", resuming},
    {"short and interrupted writes are completed", small_bites},
    {"a file system without reservations is written to as well", no_reservations},
};

int main(int argc, char **argv)
{
    jobs_begin();
    begin(job_quantize);
    const int rc = check_main(cases, sizeof cases / sizeof *cases, argc, argv);
    free(sound);
    jobs_end();
    return rc;
}
