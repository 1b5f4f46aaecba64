/* outfile.c -- a file appears complete or not at all, and a full disk says how much is missing. */
#include "file/outfile.h"
#include "check.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char *folder_new(char path[512])
{
    snprintf(path, 512, "%s/outfile-XXXXXX", NB_BINARY_DIR);
    if (!mkdtemp(path))
        exit(1);
    return path;
}

/* Entries of the folder; the last one's name. */
static int entries(const char *folder, char name[256])
{
    int n = 0;
    DIR *d = opendir(folder);
    for (const struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.') {
            snprintf(name, 256, "%s", e->d_name);
            n++;
        }
    if (d)
        closedir(d);
    return n;
}

static void complete(check *c)
{
    char folder[512], path[1024], partial[2048], name[256] = "", text[8] = "";
    struct stat sb = {0};
    nb_outfile *f = NULL;
    nb_error err = {0};
    snprintf(path, sizeof path, "%s/out", folder_new(folder));
    const mode_t old = umask(027);
    CHECK_EQ(c, nb_outfile_open(path, &f, &err), NB_OK);
    umask(old);
    if (!f)
        return;
    CHECK_EQ(c, nb_outfile_reserve(f, 6, &err), NB_OK);
    CHECK_EQ(c, nb_outfile_write_at(f, 3, "def", 3, &err), NB_OK);
    CHECK_EQ(c, nb_outfile_write_at(f, 0, "abc", 3, &err), NB_OK);
    CHECK(c, access(path, F_OK) != 0);
    CHECK_EQ(c, entries(folder, name), 1);
    CHECK_HAS(c, name, "out.partial-");
    snprintf(partial, sizeof partial, "%s/%s", folder, name);
    CHECK(c, stat(partial, &sb) == 0 && (sb.st_mode & 0777) == 0600);
    CHECK_EQ(c, nb_outfile_commit(f, &err), NB_OK);
    CHECK_EQ(c, entries(folder, name), 1);
    CHECK_STR(c, name, "out");
    CHECK(c, stat(path, &sb) == 0 && sb.st_size == 6);
    CHECK_EQ(c, sb.st_mode & 0777, 0640); /* 0666 less the umask */
    FILE *in = fopen(path, "rb");
    CHECK(c, in && fread(text, 1, 7, in) == 6 && memcmp(text, "abcdef", 6) == 0);
    if (in)
        fclose(in);
    CHECK_EQ(c, nb_outfile_commit(f, &err), NB_INTERNAL);
    CHECK_EQ(c, nb_outfile_write_at(f, 0, "x", 1, &err), NB_INTERNAL);
    nb_outfile_close(f);
    CHECK(c, access(path, F_OK) == 0);
    unlink(path);
    rmdir(folder);
}

static void replaced(check *c)
{
    char folder[512], path[1024], name[256] = "";
    struct stat sb = {0};
    nb_outfile *f = NULL;
    nb_error err = {0};
    snprintf(path, sizeof path, "%s/out", folder_new(folder));
    const int fd = open(path, O_WRONLY | O_CREAT, 0600);
    CHECK(c, fd >= 0 && write(fd, "old", 3) == 3 && fchmod(fd, 0604) == 0 && close(fd) == 0);
    CHECK_EQ(c, nb_outfile_open(path, &f, &err), NB_OK);
    if (f) {
        CHECK_EQ(c, nb_outfile_write_at(f, 0, "newer", 5, &err), NB_OK);
        CHECK(c, stat(path, &sb) == 0 && sb.st_size == 3); /* the old one stays till commit */
        CHECK_EQ(c, nb_outfile_commit(f, &err), NB_OK);
        CHECK(c, stat(path, &sb) == 0 && sb.st_size == 5 && (sb.st_mode & 0777) == 0604);
    }
    nb_outfile_close(f);
    CHECK_EQ(c, entries(folder, name), 1);
    unlink(path);
    rmdir(folder);
}

static void abandoned(check *c)
{
    char folder[512], path[1024], name[256] = "";
    nb_outfile *f = NULL;
    snprintf(path, sizeof path, "%s/out", folder_new(folder));
    CHECK_EQ(c, nb_outfile_open(path, &f, NULL), NB_OK);
    if (f)
        CHECK_EQ(c, nb_outfile_write_at(f, 0, "x", 1, NULL), NB_OK);
    nb_outfile_close(f);
    nb_outfile_close(NULL);
    CHECK_EQ(c, entries(folder, name), 0);
    rmdir(folder);
}

static void too_big(check *c)
{
    char folder[512], path[1024], name[256] = "";
    nb_outfile *f = NULL;
    nb_error err = {0};
    snprintf(path, sizeof path, "%s/out", folder_new(folder));
    CHECK_EQ(c, nb_outfile_open(path, &f, &err), NB_OK);
    if (f) {
        CHECK_EQ(c, nb_outfile_reserve(f, (size_t)1 << 60, &err), NB_NO_ROOM);
        CHECK_HAS(c, err.message,
                  "the disk is full: 1152"); /* 2^60 = 1152921504606846976, nearly all missing */
        CHECK_HAS(c, err.message, "bytes are missing");
        CHECK_EQ(c, nb_outfile_reserve(f, SIZE_MAX, &err), NB_NO_ROOM);
        CHECK_EQ(c, nb_outfile_write_at(f, SIZE_MAX, "ab", 2, &err), NB_INTERNAL);
    }
    nb_outfile_close(f);
    CHECK_EQ(c, entries(folder, name), 0);
    rmdir(folder);
}

/* EFBIG by the process's file size limit; the signal is ignored as the command line does. */
static void file_size_limit(check *c)
{
    char folder[512], path[1024];
    static char block[1 << 16];
    struct rlimit old, small;
    nb_outfile *f = NULL;
    nb_error err = {0};
    snprintf(path, sizeof path, "%s/out", folder_new(folder));
    CHECK_EQ(c, nb_outfile_open(path, &f, &err), NB_OK);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    if (f && getrlimit(RLIMIT_FSIZE, &old) == 0) {
        small = old;
        small.rlim_cur = 100000; /* the second block is cut short first, then refused */
        CHECK_EQ(c, setrlimit(RLIMIT_FSIZE, &small), 0);
        const nb_status first = nb_outfile_write_at(f, 0, block, sizeof block, &err);
        const nb_status second = nb_outfile_write_at(f, sizeof block, block, sizeof block, &err);
        nb_error reserve = {0};
        const nb_status third = nb_outfile_reserve(f, 200000, &reserve);
        CHECK_EQ(c, setrlimit(RLIMIT_FSIZE, &old), 0);
        CHECK_EQ(c, first, NB_OK);
        CHECK_EQ(c, second, NB_IO);
        CHECK_HAS(c, err.message,
                  "files may have 100000 bytes here (ulimit -f): 31072 bytes are missing");
        CHECK_EQ(c, third, NB_IO);
        CHECK_HAS(c, reserve.message,
                  "files may have 100000 bytes here (ulimit -f): 100000 bytes are missing");
    }
    signal(SIGXFSZ, handler);
    nb_outfile_close(f);
    rmdir(folder);
}

static void refused_names(check *c)
{
    char folder[512], path[1024];
    nb_outfile *f = NULL;
    nb_error err = {0};
    CHECK_EQ(c, nb_outfile_open(folder_new(folder), &f, &err), NB_IO);
    CHECK_HAS(c, err.message, "not a regular file");
    CHECK_EQ(c, nb_outfile_open("/dev/null", &f, &err), NB_IO);
    CHECK_HAS(c, err.message, "/dev/null: exists and is not a regular file");
    snprintf(path, sizeof path, "%s/no/such/out", folder);
    CHECK_EQ(c, nb_outfile_open(path, &f, &err), NB_NOT_FOUND);
    CHECK_HAS(c, err.message, "cannot create it");
    snprintf(path, sizeof path, "%s/", folder);
    CHECK_EQ(c, nb_outfile_open(path, &f, &err), NB_IO);
    CHECK(c, f == NULL);
    rmdir(folder);
}

static const check_case cases[] = {
    {"a committed file appears whole, with the mode the umask gives", complete},
    {"a file of that name stays until commit, and hands its mode on", replaced},
    {"an abandoned file leaves nothing", abandoned},
    {"more than the disk holds is refused with the missing bytes", too_big},
    {"a write is completed up to the size limit, then fails as I/O", file_size_limit},
    {"folders, devices and missing folders are refused at open", refused_names},
};
CHECK_MAIN(cases)
