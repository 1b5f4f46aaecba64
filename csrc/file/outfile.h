/* outfile.h -- a file that appears under its final name only when it is complete and synced.
 *
 * Written as PATH.partial-XXXXXX (O_EXCL, 0600 until commit, same folder), then fsync, rename,
 * fsync of the folder. A failed fsync is final: the partial file goes. A folder or device that has
 * the final name is refused at open, never replaced. */
#ifndef NB_FILE_OUTFILE_H
#define NB_FILE_OUTFILE_H

#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>

typedef struct nb_outfile nb_outfile;
/* NB_IO: something lies at path that no file may replace. Before the work begins; opening asks
 * again. */
nb_status nb_outfile_check(const char *path, nb_error *err) NB_CHECKED;
/* NB_NOT_FOUND when the folder is not there, NB_IO when it cannot be written to. */
nb_status nb_outfile_open(const char *path, nb_outfile **out, nb_error *err) NB_CHECKED;
/* The same with a partial file of that name, in a folder of the caller's own on the same file
 * system, which outlives the process: nb_outfile_close leaves it. resume: it is there from an
 * earlier run and goes on (NB_NOT_FOUND); else it begins anew. */
nb_status nb_outfile_open_at(const char *path, const char *partial, bool resume, nb_outfile **out,
                             nb_error *err) NB_CHECKED;
/* Makes sure the file system has room for `bytes` in all: NB_NO_ROOM says how many are missing, so
 * does NB_IO where a limit on files (ulimit -f) is in the way. The file has that size then. */
nb_status nb_outfile_reserve(nb_outfile *f, size_t bytes, nb_error *err) NB_CHECKED;
/* The same for a file of which `holes` bytes will never be written: only the rest takes room. */
nb_status nb_outfile_reserve_sparse(nb_outfile *f, size_t bytes, size_t holes,
                                    nb_error *err) NB_CHECKED;
/* Bytes never written below the end are zero. NB_NO_ROOM: the disk is full; NB_IO otherwise. */
nb_status nb_outfile_write_at(nb_outfile *f, size_t offset, const void *p, size_t n,
                              nb_error *err) NB_CHECKED;
/* NB_BAD_INPUT when the file ends before. */
nb_status nb_outfile_read_at(const nb_outfile *f, size_t offset, void *p, size_t n,
                             nb_error *err) NB_CHECKED;
/* What was written is on disk afterwards. A failure is final: nothing in the file can be
 * trusted. */
nb_status nb_outfile_sync(nb_outfile *f, nb_error *err) NB_CHECKED;
/* The first half of commit: synced and closed, under its partial name still. For files of
 * nb_outfile_open_at; nb_outfile_rename is the other half. */
nb_status nb_outfile_finish(nb_outfile *f, nb_error *err) NB_CHECKED;
/* rename, then fsync of the folder. */
nb_status nb_outfile_rename(const char *from, const char *to, nb_error *err) NB_CHECKED;
/* Bytes that the file system of the folder in which path lies still has for us; UINT64_MAX when it
 * does not say. */
uint64_t nb_outfile_free_bytes(const char *path);
/* What errno says of a write of n bytes that failed: NB_NO_ROOM with the missing bytes, or
 * NB_IO. */
nb_status nb_outfile_write_fault(const char *path, uint64_t offset, size_t n, nb_error *err);
nb_status nb_outfile_commit(nb_outfile *f, nb_error *err) NB_CHECKED;
void nb_outfile_close(nb_outfile *f); /* removes the partial file unless committed; NULL is fine */

#endif
