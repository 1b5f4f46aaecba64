/* nearest.c -- edit distance over short names: O(given x name), three rows on the stack. */
#include "base/nearest.h"
#include "base/status.h"

#include <stddef.h>
#include <string.h>

enum { kMost = 40 }; /* longer words are nobody's typing mistake */

static char small(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static int least(int a, int b)
{
    return a < b ? a : b;
}

/* Optimal string alignment: d(i,j) over the first i letters of a and j of b; row[i % 3] holds d(i,
 * .). */
static int distance(const char *a, const char *b)
{
    int row[3][kMost + 1];
    const int n = (int)strlen(a), m = (int)strlen(b);
    for (int j = 0; j <= m; j++)
        row[0][j] = j;
    for (int i = 1; i <= n; i++) {
        int *now = row[i % 3], *last = row[(i + 2) % 3], *before = row[(i + 1) % 3];
        now[0] = i;
        for (int j = 1; j <= m; j++) {
            const char x = small(a[i - 1]), y = small(b[j - 1]);
            now[j] = least(last[j - 1] + (x != y), least(last[j], now[j - 1]) + 1);
            if (i > 1 && j > 1 && x == small(b[j - 2]) && small(a[i - 2]) == y)
                now[j] = least(now[j], before[j - 2] + 1);
        }
    }
    return row[n % 3][m];
}

void nb_nearest_offer(nb_nearest *n, const char *name)
{
    const size_t len = strlen(n->given);
    if (len > kMost || strlen(name) > kMost)
        return;
    const int third = (int)(len + 1) / 3, d = distance(n->given, name);
    if (d > least(third, 3) || d >= (int)len || (n->name && d >= n->distance))
        return;
    n->name = name;
    n->distance = d;
}

void nb_nearest_hint(const nb_nearest *n, const char *prefix, nb_error *err)
{
    if (n->name)
        nb_hint(err, "did you mean %s%s?", prefix, n->name);
}

void nb_nearest_of(const char *given, const char *const *names, const char *prefix, nb_error *err)
{
    nb_nearest near = {.given = given};
    for (; *names; names++)
        nb_nearest_offer(&near, *names);
    nb_nearest_hint(&near, prefix, err);
}
