/* crash.c */
#include "base/crash.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

void nb_crash_point(const char *point)
{
    /* of the one point that is named: the process dies of it, so nothing else depends on it */
    static atomic_long passed;
    const char *at = getenv("NIBBLE_CRASH_AT"), *colon = at ? strrchr(at, ':') : NULL;
    if (!colon || strlen(point) != (size_t)(colon - at) ||
        strncmp(point, at, (size_t)(colon - at)) != 0)
        return;
    char *end = NULL;
    const unsigned long n = strtoul(colon + 1, &end, 10);
    if (end != colon + 1 && *end == 0 && (unsigned long)atomic_fetch_add(&passed, 1) + 1 == n)
        (void)raise(SIGKILL);
}
