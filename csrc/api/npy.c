/* npy.c -- float32 matrices as NumPy files (format 1.0: magic, header dictionary padded to 64
 * bytes, rows). */
#include "base/memory.h"
#include "file/outfile.h"
#include "nibble.h"

#include <stdio.h>
#include <string.h>

nb_status nb_write_npy(const char *path, const float *data, int64_t rows, int64_t cols,
                       nb_error *err)
{
    char head[128];
    nb_outfile *f = NULL;
    memset(head, ' ', sizeof head);
    /* header of 0x76 = 118 bytes after these 10: 128 in all */
    memcpy(head, "\x93NUMPY\x01\x00\x76\x00", 10);
    const int n = snprintf(head + 10, sizeof head - 10,
                           "{'descr': '<f4', 'fortran_order': False, 'shape': (%lld, %lld), }",
                           (long long)rows, (long long)cols);
    head[10 + n] = ' ';
    head[sizeof head - 1] = '\n';
    nb_status st = nb_outfile_open(path, &f, err);
    if (st == NB_OK)
        st = nb_outfile_write_at(f, 0, head, sizeof head, err);
    if (st == NB_OK)
        st = nb_outfile_write_at(f, sizeof head, data, (size_t)rows * (size_t)cols * sizeof *data,
                                 err);
    if (st == NB_OK)
        st = nb_outfile_commit(f, err);
    nb_outfile_close(f);
    return st;
}
