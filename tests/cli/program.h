/* program.h -- runs the program as a user does: a command line, its exit code, what it printed on
 * either stream. */
#ifndef NB_TESTS_CLI_PROGRAM_H
#define NB_TESTS_CLI_PROGRAM_H

#include "hostile/folder.h"

#include <stdbool.h>
#include <sys/types.h>

typedef enum program_stdout {
    OUT_CAPTURED,
    OUT_FULL,      /* /dev/full: every write fails with ENOSPC */
    OUT_BROKEN,    /* a pipe whose reader is gone */
    OUT_CLOSED,    /* stdin, stdout and stderr are not open at all */
    OUT_NO_STDERR, /* captured; stderr alone is not open */
    OUT_TTY        /* a terminal, which stderr is too: all of it is in `out` */
} program_stdout;

typedef struct outcome {
    int code; /* exit code; 128 + n: signal n ended it; -1: it ran longer than the guard and was
               * killed */
    char *out, *err; /* NUL-terminated; program_free */
} outcome;

enum { PROGRAM_GUARD_S = 60, PROGRAM_MOST_ARGS = 48 };

/* Runs `nibble LINE` in the folder; LINE is split at spaces ('' is an empty argument). %T in it is
 * the folder, %M tests/data/models; the word %A is 100000 times the letter A.
 * Memory is bounded (RLIMIT_AS), except under the address sanitizer, which maps terabytes, and
 * where a test says so: the emulator takes a device's address space. */
extern bool program_unbounded;
outcome program_run(const folder *d, const char *line, program_stdout out);
bool program_has_terminals(void); /* a chroot may have none: then OUT_TTY cannot be had */
void program_free(outcome *o);

/* Runs it at a terminal, all three streams: each of `lines` (NULL ends them) is typed when the
 * prompt "> " is there. All that the terminal shows is in `out`. The program must end by itself
 * behind the last line. The line TALK_INTERRUPT is not typed: it is a SIGINT, sent when something
 * of the answer to the line before has come. */
#define TALK_INTERRUPT "\x03"
outcome program_talk(const folder *d, const char *line, const char *const *lines);

/* The parts of it, for tests that talk to a running program: *err is the reading end of a pipe of
 * one page. */
pid_t program_start(const folder *d, const char *line, int *err);
int program_wait(pid_t pid); /* the code as above */

#endif
