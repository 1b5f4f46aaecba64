/* crash.h -- named points at which a test ends the process, as a power cut would:
 * NIBBLE_CRASH_AT=POINT:N raises SIGKILL when POINT is passed for the Nth time. Points stand around
 * every step that a file's safety rests on: before-write after-write, before-sync after-sync,
 * before-rename after-rename, before-append half-append after-append (of the journal),
 * before-remove. */
#ifndef NB_BASE_CRASH_H
#define NB_BASE_CRASH_H

void nb_crash_point(const char *point);

#endif
