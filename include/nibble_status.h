/* nibble_status.h -- how every function that can fail says so.
 *
 * A function returns nb_status; the codes are the program's exit codes, so nothing has to be
 * translated on the way out. The sentence (what, where, what to do) is written where the fault is
 * seen, into the nb_error the caller passed; err may be NULL, then only the code travels. Text that
 * comes from files is escaped before it is put into a sentence. */
#ifndef NIBBLE_STATUS_H
#define NIBBLE_STATUS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum nb_status {
    NB_OK = 0,
    NB_NEGATIVE = 1,     /* the work was done and the answer is no (gate, verify, doctor) */
    NB_USAGE = 2,        /* the command line is wrong */
    NB_NOT_FOUND = 3,    /* a file or model is not there */
    NB_BAD_INPUT = 4,    /* the input breaks its own format */
    NB_UNSUPPORTED = 5,  /* the input is valid, nibble does not do it */
    NB_NO_ROOM = 6,      /* memory, disk or context does not suffice */
    NB_IO = 7,           /* reading or writing failed */
    NB_DEVICE = 8,       /* the device failed or is not there */
    NB_LOCKED = 9,       /* another process holds it */
    NB_NETWORK = 10,     /* network or authorisation */
    NB_INTERNAL = 70,    /* a fault of ours */
    NB_INTERRUPTED = 130 /* SIGINT; resumable */
} nb_status;

typedef struct nb_error { /* {0} is fine, in C++ too: no enumeration stands first */
    char message[512];    /* one sentence: FILE: WHAT, WHERE */
    char hint[256];       /* a line that can be pasted, or "" */
    char file[256];       /* the file it speaks of, or "" */
    int64_t offset;       /* byte offset in that file, -1 if none */
    nb_status code;
} nb_error;

#if defined(__GNUC__)
#define NB_CHECKED __attribute__((warn_unused_result))
#else
#define NB_CHECKED
#endif

#ifdef __cplusplus
}
#endif
#endif
