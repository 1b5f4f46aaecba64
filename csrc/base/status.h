/* status.h -- writing the sentence of a failure (the types: nibble_status.h). */
#ifndef NB_BASE_STATUS_H
#define NB_BASE_STATUS_H

#include "nibble_status.h"
#include <stdarg.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define NB_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define NB_PRINTF(f, a)
#endif

/* Fills err (if any) with the sentence and returns code. */
nb_status nb_fail(nb_error *err, nb_status code, const char *fmt, ...) NB_PRINTF(3, 4);

/* The same for a fault in a file at a byte offset (-1: none): "PATH: SENTENCE, offset N". Sets
 * err->file and err->offset. */
nb_status nb_fail_at(nb_error *err, nb_status code, const char *path, int64_t offset,
                     const char *fmt, ...) NB_PRINTF(5, 6);

/* The same with ": " and strerror(errno) after the sentence; the code follows errno: ENOENT is
 * NB_NOT_FOUND, ENOSPC and ENOMEM NB_NO_ROOM, else NB_IO. */
nb_status nb_fail_errno(nb_error *err, const char *fmt, ...) NB_PRINTF(2, 3);

/* The same for a file: "PATH: SENTENCE: REASON", the path escaped and kept in err->file. */
nb_status nb_fail_errno_at(nb_error *err, const char *path, const char *fmt, ...) NB_PRINTF(3, 4);

/* Adds the line that can be pasted; keeps the sentence. */
void nb_hint(nb_error *err, const char *fmt, ...) NB_PRINTF(2, 3);

/* Copies at most 128 bytes of text from a file into dst in a form fit for a terminal: control
 * characters, C1, bidi controls and broken UTF-8 as \x1b or \u202e (hardening rule T1). dst holds
 * at least 4 bytes; returns dst. */
char *nb_escape(char *dst, int64_t dst_bytes, const char *text, int64_t n);

#ifdef __cplusplus
}
#endif
#endif
