/* hints.h -- the line under an error that can be pasted. Where the fault is seen and a certain flag
 * or file mends it, nb_hint says so there; for all other errors the rows of hints.c know what to
 * look at next. */
#ifndef NB_CLI_HINTS_H
#define NB_CLI_HINTS_H

#include "flags.h"

typedef struct nb_line { /* what was given; borrowed */
    int argc;
    char **argv;
    const nb_command *command; /* NULL: none was found */
    const nb_args *args;       /* as far as they were parsed */
} nb_line;

/* Fills err->hint where it is empty: the first row of the table that fits st, the command and what
 * the sentence speaks of. */
void nb_hint_from_rows(nb_status st, const nb_line *line, nb_error *err);

#endif
