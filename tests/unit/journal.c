/* journal.c -- the journal's bytes against SHA-256 worked out elsewhere; what a cut, a flip, a swap
 * of records does; two processes and a work folder. */
#include "file/journal.h"
#include "check.h"
#include "file/workdir.h"
#include "hostile/folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* Python's hashlib: sha256("abc"), then sha256(that in hex + "xy"). */
static const char golden[] =
    "nibble-journal 1\n"
    "3 ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad abc\n"
    "2 0f1af6bf171fe44400dca669ada7bf1a0c4c00372ae377989d4c989aa6951217 xy\n";

static size_t file_bytes(const char *path, char *p, size_t most)
{
    FILE *f = fopen(path, "rb");
    const size_t n = f ? fread(p, 1, most, f) : 0;
    if (f)
        fclose(f);
    return n;
}

static void bytes(check *c)
{
    char path[1024], text[1024] = "";
    nb_journal *j = NULL;
    nb_error err = {.offset = -1};
    folder d = folder_new();
    folder_in(&d, "journal", path);
    CHECK_EQ(c, nb_journal_open(path, &j, &err), NB_OK);
    CHECK_EQ(c, nb_journal_count(j), 0);
    CHECK_EQ(c, nb_journal_append(j, "abc", 3, &err), NB_OK);
    nb_journal_close(j);
    CHECK_EQ(c, nb_journal_open(path, &j, &err), NB_OK); /* the chain goes on over processes */
    CHECK_EQ(c, nb_journal_count(j), 1);
    CHECK_EQ(c, nb_journal_append(j, "xy", 2, &err), NB_OK);
    nb_journal_close(j);
    text[file_bytes(path, text, sizeof text - 1)] = 0;
    CHECK_STR(c, text, golden);
    folder_gone(&d);
}

static nb_status parse(const char *p, size_t n, size_t *n_record, size_t *good)
{
    nb_journal_record *r = NULL;
    nb_error err = {.offset = -1};
    const nb_status st = nb_journal_parse("j", p, n, &r, n_record, good, &err);
    free(r);
    return st;
}

static void cuts(check *c)
{
    const size_t n = sizeof golden - 1, first = 17, second = 17 + 2 + 64 + 1 + 3 + 1;
    size_t n_record = 0, good = 0;
    /* every prefix is a journal: of the records that are whole */
    for (size_t cut = 0; cut <= n; cut++) {
        CHECK_EQ(c, parse(golden, cut, &n_record, &good), NB_OK);
        CHECK_EQ(c, n_record, cut == n ? 2 : cut >= second ? 1 : 0);
        CHECK_EQ(c, good, cut == n ? n : cut >= second ? second : cut >= first ? first : 0);
    }
}

static void flips(check *c)
{
    char text[sizeof golden];
    size_t n_record = 0, good = 0;
    const size_t n = sizeof golden - 1, second = 17 + 2 + 64 + 1 + 3 + 1;
    for (size_t at = 0; at < n; at++)
        for (int bit = 0; bit < 8; bit++) {
            memcpy(text, golden, sizeof text);
            text[at] = (char)(text[at] ^ 1 << bit);
            const nb_status st = parse(text, n, &n_record, &good);
            /* in the last record it looks like an append that was cut off; anywhere else it is
             * seen */
            if (at < second)
                CHECK(c, st == NB_BAD_INPUT);
            else
                CHECK(c, st == NB_BAD_INPUT || (st == NB_OK && n_record == 1 && good == second));
        }
    memcpy(text, golden, 17);
    memcpy(text + 17, golden + second, n - second); /* the first record is left out */
    memcpy(text + 17 + n - second, golden + 17, second - 17);
    CHECK_EQ(c, parse(text, n, &n_record, &good), NB_BAD_INPUT);
}

static void cut_off_is_removed(check *c)
{
    char path[1024], text[1024] = "";
    nb_journal *j = NULL;
    nb_error err = {.offset = -1};
    folder d = folder_new();
    folder_in(&d, "journal", path);
    folder_write(&d, "journal", golden, sizeof golden - 1 - 4);
    CHECK_EQ(c, nb_journal_open(path, &j, &err), NB_OK);
    CHECK_EQ(c, nb_journal_count(j), 1);
    CHECK_EQ(c, nb_journal_append(j, "xy", 2, &err), NB_OK);
    nb_journal_close(j);
    text[file_bytes(path, text, sizeof text - 1)] = 0;
    CHECK_STR(c, text, golden);
    folder_gone(&d);
}

static void locks(check *c)
{
    char out[1024], path[1024], want[64];
    struct stat sb;
    nb_workdir *a = NULL, *b = NULL;
    nb_error err = {.offset = -1};
    folder d = folder_new();
    folder_in(&d, "out", out);
    CHECK_EQ(c, nb_workdir_open(out, &a, &err), NB_OK);
    CHECK(c, !nb_workdir_was_there(a));
    CHECK_EQ(c, stat(nb_workdir_path(a), &sb), 0);
    CHECK_EQ(c, sb.st_mode & 0777, 0700);
    CHECK_EQ(c, nb_workdir_open(out, &b, &err), NB_LOCKED);
    snprintf(want, sizeof want, "process %ld is writing it", (long)getpid());
    CHECK_HAS(c, err.message, want);
    CHECK(c, b == NULL);
    nb_workdir_close(a);
    CHECK_EQ(c, nb_workdir_open(out, &a, &err), NB_OK); /* the folder stays, the lock goes */
    CHECK(c, nb_workdir_was_there(a));
    CHECK_EQ(c, nb_workdir_file(a, "stranger", path, sizeof path, &err), NB_OK);
    FILE *f = fopen(path, "w");
    if (f)
        fclose(f);
    nb_workdir_discard(a); /* others' files are left */
    CHECK_EQ(c, access(path, F_OK), 0);
    unlink(path);
    CHECK_EQ(c, nb_workdir_open(out, &a, &err), NB_OK);
    nb_workdir_discard(a);
    CHECK(c, access(folder_in(&d, "out.nibble", path), F_OK) != 0);
    CHECK_EQ(c, nb_workdir_open("/no/such/folder/out", &a, &err), NB_NOT_FOUND);
    CHECK(c, a == NULL);
    folder_gone(&d);
}

static const check_case cases[] = {
    {"a journal has the bytes its format says", bytes},
    {"every prefix of a journal is a journal", cuts},
    {"no changed bit and no missing record goes unseen", flips},
    {"a record that was cut off makes room for the next", cut_off_is_removed},
    {"a work folder has one holder, and goes with its files alone", locks},
};
CHECK_MAIN(cases)
