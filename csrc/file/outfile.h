/* outfile.h -- a file that appears under its final name only when it is complete and synced.
 *
 * Written as PATH.partial-XXXXXX (O_EXCL, 0600 until commit, same folder), then fsync, rename,
 * fsync of the folder. A failed fsync is final: the partial file goes. A folder or device that has
 * the final name is refused at open, never replaced. */
#ifndef NB_FILE_OUTFILE_H
#define NB_FILE_OUTFILE_H

#include "base/status.h"
#include <stddef.h>

typedef struct nb_outfile nb_outfile;
/* NB_NOT_FOUND when the folder is not there, NB_IO when it cannot be written to. */
nb_status nb_outfile_open(const char *path, nb_outfile **out, nb_error *err) NB_CHECKED;
/* Makes sure the file system has room for `bytes` in all: NB_NO_ROOM says how many are missing, so
 * does NB_IO where a limit on files (ulimit -f) is in the way. The file has that size then. */
nb_status nb_outfile_reserve(nb_outfile *f, size_t bytes, nb_error *err) NB_CHECKED;
/* Bytes never written below the end are zero. NB_NO_ROOM: the disk is full; NB_IO otherwise. */
nb_status nb_outfile_write_at(nb_outfile *f, size_t offset, const void *p, size_t n,
                              nb_error *err) NB_CHECKED;
nb_status nb_outfile_commit(nb_outfile *f, nb_error *err) NB_CHECKED;
void nb_outfile_close(nb_outfile *f); /* removes the partial file unless committed; NULL is fine */

#endif
