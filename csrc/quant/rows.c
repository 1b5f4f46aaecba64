/* rows.c -- memory of the pipeline: host buffers that a plan counts, and the rows of activations,
 * in memory or in a file.
 *
 * A spilled sequence is read before a stage and written behind it, whole rows of one sequence at a
 * time, so the ops see the same values in the same slices as they do in memory. The file has no
 * name from the start: it goes with the process, however that ends. */
#include "backend/count.h"
#include "file/outfile.h"
#include "quant/pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

nb_status nb_pipe_host(nb_pipe *p, size_t n, size_t size, const char *what, void **out,
                       nb_error *err)
{
    return nb_host_alloc(p->be, n, size, what, out, err);
}

void nb_pipe_host_free(nb_pipe *p, void *buffer)
{
    nb_host_free(p->be, buffer);
}

nb_status nb_pipe_scratch(nb_pipe *p, size_t bytes, nb_error *err)
{
    if (bytes <= p->scratch_bytes)
        return NB_OK;
    p->be->op->release(p->be, p->scratch);
    p->scratch = NULL;
    p->scratch_bytes = 0;
    const nb_status st =
        p->be->op->alloc(p->be, bytes, "scratch of the quantizer", &p->scratch, err);
    if (st == NB_OK)
        p->scratch_bytes = bytes;
    return st;
}

/* ---- the file ---- */

static nb_status disk_full(const char *path, uint64_t missing, nb_error *err)
{
    return nb_fail_at(err, NB_NO_ROOM, path, -1,
                      "the disk is full: %llu bytes are missing for the activations",
                      (unsigned long long)missing);
}

nb_status nb_rows_open_file(nb_pipe *p, int64_t n_float, nb_error *err)
{
    char path[4096];
    struct statvfs fs;
    const uint64_t bytes = (uint64_t)p->T * (uint64_t)n_float * sizeof(float);
    if (!p->o->spill || p->dry)
        return NB_OK;
    const int n = snprintf(path, sizeof path, "%s/activations", p->o->spill);
    if (n < 0 || n >= (int)sizeof path)
        return nb_fail_at(err, NB_IO, p->o->spill, -1, "a path of more than 4095 bytes");
    (void)unlink(path);
    p->spill = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (p->spill < 0)
        return nb_fail_errno_at(err, path, "cannot create it");
    (void)unlink(path);
    if (fstatvfs(p->spill, &fs) == 0 && fs.f_blocks && (uint64_t)fs.f_bavail * fs.f_frsize < bytes)
        return disk_full(path, bytes - (uint64_t)fs.f_bavail * fs.f_frsize, err);
    int e;
    do
        e = posix_fallocate(p->spill, 0, (off_t)bytes);
    while (e == EINTR);
    if (e == ENOSPC || e == EDQUOT)
        return disk_full(path, bytes, err);
    if (e && e != EOPNOTSUPP && e != EINVAL) {
        errno = e;
        return nb_fail_errno_at(err, path, "cannot reserve %llu bytes", (unsigned long long)bytes);
    }
    return NB_OK;
}

void nb_rows_close_file(nb_pipe *p)
{
    if (p->spill >= 0)
        close(p->spill);
    p->spill = -1;
}

static nb_status move(int fd, bool write, char *at, size_t n, off_t offset, nb_error *err)
{
    while (n) {
        const ssize_t done = write ? pwrite(fd, at, n, offset) : pread(fd, at, n, offset);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return write
                       ? nb_outfile_write_fault("the file of activations", (uint64_t)offset, n, err)
                       : nb_fail_errno(err, "the file of activations cannot be read");
        if (done == 0)
            return nb_fail(err, NB_IO, "the file of activations ends too early");
        at += done;
        offset += done;
        n -= (size_t)done;
    }
    return NB_OK;
}

/* ---- rows ---- */

nb_status nb_rows_open(nb_pipe *p, nb_rows *r, int64_t width, nb_error *err)
{
    const int64_t n = p->o->spill ? p->calib->ctx : p->T;
    r->width = width;
    return p->be->op->alloc(p->be, (size_t)(n * width) * sizeof(float), "calibration activations",
                            (void **)&r->p, err);
}

void nb_rows_close(nb_pipe *p, nb_rows *r)
{
    p->be->op->release(p->be, r->p);
    *r = (nb_rows){0};
}

nb_status nb_rows_get(nb_pipe *p, const nb_rows *r, int32_t i, int64_t width, bool read,
                      float **out, nb_error *err)
{
    const int64_t ctx = p->calib->ctx;
    *out = p->o->spill ? r->p : r->p + i * ctx * width;
    if (!p->o->spill || !read || p->dry)
        return NB_OK;
    const size_t bytes = (size_t)(ctx * width) * sizeof(float);
    const nb_status st = move(p->spill, false, (char *)p->stage, bytes,
                              (off_t)(r->at + i * ctx * r->width * (int64_t)sizeof(float)), err);
    return st == NB_OK ? p->be->op->upload(p->be, r->p, p->stage, bytes, err) : st;
}

nb_status nb_rows_put(nb_pipe *p, const nb_rows *r, int32_t i, int64_t width, nb_error *err)
{
    const int64_t ctx = p->calib->ctx;
    if (!p->o->spill || p->dry)
        return NB_OK;
    const size_t bytes = (size_t)(ctx * width) * sizeof(float);
    const nb_status st = p->be->op->download(p->be, p->stage, r->p, bytes, err);
    return st == NB_OK ? move(p->spill, true, (char *)p->stage, bytes,
                              (off_t)(r->at + i * ctx * r->width * (int64_t)sizeof(float)), err)
                       : st;
}
