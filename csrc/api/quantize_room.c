/* quantize_room.c -- a disk that fills up, said once for the whole run: a write of the work folder
 * knows its own bytes only, and whoever frees these meets the next one.
 *
 *     missing = output less its holes + what lies beside it - blocks that the work folder has
 *         already - blocks that are free */
#include "api/quantize.h"
#include "file/outfile.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum {
    kPath = 4096,
    kLine = 512, /* of a linear in the journal or the log, of a tensor in the manifest: a name of
                  * at most 128 bytes, a hash of 64 or a note of 128, numbers */
    kRest = 8 * 4096 /* settings and input in the journal and again in the manifest, 2 KB each;
                      * the last page of each of the files */
};

/* Blocks of the files in a folder; 0 where it is not there. */
static int64_t blocks_in(const char *folder)
{
    char path[kPath];
    struct stat sb;
    int64_t n = 0;
    DIR *dir = opendir(folder);
    for (const struct dirent *e; dir && (e = readdir(dir));) {
        const int len = snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (len > 0 && len < kPath && lstat(path, &sb) == 0 && S_ISREG(sb.st_mode))
            n += (int64_t)sb.st_blocks * 512;
    }
    if (dir)
        closedir(dir);
    return n;
}

/* What a run writes beside the output, no less: tokens, journal, log, manifest. */
static int64_t beside(const nb_quantize_job *j)
{
    const int64_t ids = j->p.quantizer->needs != NB_NEEDS_NOTHING
                            ? (int64_t)j->o.samples * j->o.ctx * (int64_t)sizeof *j->calib.ids
                            : 0;
    return ids + kLine * (2 * nb_pipeline_most_reports(j->m) + j->m->container->n_tensor) + kRest;
}

bool nb_quantize_found_no_room(const nb_quantize_job *j, nb_status st, const nb_error *err)
{
    const size_t n = j->o.out ? strlen(j->o.out) : 0;
    if (st != NB_NO_ROOM || !err || !n || strncmp(err->file, j->o.out, n) != 0)
        return false;
    if (!err->file[n]) /* the output itself: when it is opened, all of it is asked for at once */
        return j->sink != NULL;
    return err->file[n] == '/' || strncmp(err->file + n, ".nibble/", strlen(".nibble/")) == 0;
}

void nb_quantize_say_missing_room(nb_quantize_job *j, nb_error *err)
{
    char work[kPath], folder[kPath];
    nb_sink *sink = NULL;
    const int n = snprintf(work, sizeof work, "%s.nibble", j->o.out),
              m = snprintf(folder, sizeof folder, "%s.nibble/folder", j->o.out);
    const uint64_t room = nb_outfile_free_bytes(j->o.out);
    if (n < 0 || n >= kPath || m < 0 || m >= kPath || room > INT64_MAX ||
        nb_quantize_open_sink(j, false, true, &sink, NULL) != NB_OK)
        return; /* the sentence stays as it is */
    const int64_t need = sink->total_bytes - sink->hole_bytes + beside(j),
                  have = blocks_in(work) + blocks_in(folder) + (int64_t)room;
    sink->op->close(sink);
    if (need > have)
        (void)nb_fail_at(err, NB_NO_ROOM, j->o.out, -1,
                         "the disk is full: %lld bytes are missing for all of the run",
                         (long long)(need - have));
}
