/* nearest.h -- which name was meant: the one of a table that what was typed is nearest to. For
 * commands, flags and the words that flags take. */
#ifndef NB_BASE_NEAREST_H
#define NB_BASE_NEAREST_H

#include "nibble_status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct nb_nearest {
    const char *given; /* what was typed; borrowed */
    const char *name;  /* the nearest one so far, the first of several; NULL: none is near */
    int distance;
} nb_nearest; /* begins as {.given = TEXT} */

/* Letters to put in, leave out, change or swap with their neighbour (optimal string alignment);
 * capitals count as small letters. A name is near when that is at most a third of what was typed
 * (rounded to nearest, 3 at most: one letter of four) and not all of it. */
void nb_nearest_offer(nb_nearest *n, const char *name);

/* "did you mean PREFIXname?" as the hint, where a name is near; else the hint stays what it is. */
void nb_nearest_hint(const nb_nearest *n, const char *prefix, nb_error *err);

/* Both at once, for a list that NULL ends. */
void nb_nearest_of(const char *given, const char *const *names, const char *prefix, nb_error *err);

#ifdef __cplusplus
}
#endif
#endif
