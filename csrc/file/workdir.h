/* workdir.h -- OUT.nibble/, the folder of a run that is not finished: only one process at a time
 * has it.
 *
 *   lock      held with flock(2) while the process lives; its text is the process's number
 *   others    the files of whoever opened it; removed by name at the end */
#ifndef NB_FILE_WORKDIR_H
#define NB_FILE_WORKDIR_H

#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>

typedef struct nb_workdir nb_workdir;

/* Makes OUT.nibble/ (0700) or takes the one that is there. NB_LOCKED at once when another process
 * has it: the sentence has its number. NB_IO, NB_NOT_FOUND: the folder of OUT cannot be written
 * to. */
nb_status nb_workdir_open(const char *out, nb_workdir **dir, nb_error *err) NB_CHECKED;
const char *nb_workdir_path(const nb_workdir *d);
bool nb_workdir_was_there(const nb_workdir *d);
/* FOLDER/name into path [n]. */
nb_status nb_workdir_file(const nb_workdir *d, const char *name, char *path, size_t n,
                          nb_error *err) NB_CHECKED;
/* Removes files by name; those that are not there are no error. */
void nb_workdir_remove(const nb_workdir *d, const char *const *names);
/* Removes the folder itself, unless it holds files of others. Gives up the lock. */
void nb_workdir_discard(nb_workdir *d);
/* Gives up the lock, the folder stays. NULL is fine. */
void nb_workdir_close(nb_workdir *d);

#endif
