/* text.c -- text that grows. */
#include "base/text.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool make_room(nb_text *t, size_t n)
{
    if (t->failed || n > SIZE_MAX / 4 || t->n > SIZE_MAX / 4)
        return !(t->failed = true);
    const size_t want = t->n + n + 1;
    if (want <= t->room)
        return true;
    const size_t room = want < 256 ? 256 : want + want / 2;
    char *p = realloc(t->p, room);
    if (!p)
        return !(t->failed = true);
    t->p = p;
    t->room = room;
    return true;
}

void nb_text_add(nb_text *t, const char *s, size_t n)
{
    if (!make_room(t, n))
        return;
    memcpy(t->p + t->n, s, n);
    t->n += n;
    t->p[t->n] = 0;
}

void nb_text_puts(nb_text *t, const char *s)
{
    nb_text_add(t, s, strlen(s));
}

void nb_text_printf(nb_text *t, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    const int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0)
        t->failed = true;
    else if (make_room(t, (size_t)n)) {
        vsnprintf(t->p + t->n, (size_t)n + 1, format, again);
        t->n += (size_t)n;
    }
    va_end(again);
}

void nb_text_json(nb_text *t, const char *s, size_t n)
{
    nb_text_puts(t, "\"");
    for (size_t i = 0; i < n;) {
        const unsigned char c = (unsigned char)s[i];
        uint32_t cp = 0;
        const size_t len = (size_t)nb_character(s + i, (int64_t)(n - i), &cp);
        if (c == '"' || c == '\\')
            nb_text_printf(t, "\\%c", c);
        else if (c == '\n')
            nb_text_puts(t, "\\n");
        else if (c == '\t')
            nb_text_puts(t, "\\t");
        else if (c == '\r')
            nb_text_puts(t, "\\r");
        else if (c < 0x20 || c == 0x7F)
            nb_text_printf(t, "\\u%04x", c);
        else if (len)
            nb_text_add(t, s + i, len);
        else
            nb_text_puts(t, "\xEF\xBF\xBD");
        i += len ? len : 1;
    }
    nb_text_puts(t, "\"");
}

void nb_number(char s[NB_NUMBER], double x, bool f32)
{
    if (!isfinite(x)) {
        snprintf(s, NB_NUMBER, "null");
        return;
    }
    for (int digits = f32 ? 6 : 15; digits <= 17; digits++) { /* 9 and 17 always do */
        snprintf(s, NB_NUMBER, "%.*g", digits, x);
        if (f32 ? strtof(s, NULL) == (float)x : strtod(s, NULL) == x)
            return;
    }
}

void nb_text_number(nb_text *t, double x)
{
    char s[NB_NUMBER];
    nb_number(s, x, false);
    nb_text_puts(t, s);
}

nb_status nb_text_check(const nb_text *t, const char *what, nb_error *err)
{
    return t->failed ? nb_fail(err, NB_NO_ROOM, "no memory left for %s of %zu bytes", what, t->n)
                     : NB_OK;
}

void nb_text_free(nb_text *t)
{
    free(t->p);
    *t = (nb_text){0};
}
